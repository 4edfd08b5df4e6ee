"""Receipts: a lease is ended by another process than the one that claimed the item."""

import base64
import copy
import json
import math
import pickle
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from faces import original_of
from redset import SortedSet
from redset.core.forms import layout_of
from redset.exceptions import DeserializationError, LayoutError, LeaseLost
from redset.serializers import TypedSerializer
from servers import wait_until

conformance = pytest.mark.conformance


@dataclass
class Job:
    id: str


ENDS: dict[str, Callable[[Any], Any]] = {
    "ack": lambda reservation: reservation.ack(),
    "nack": lambda reservation: reservation.nack(delay=100),
    "again": lambda reservation: reservation.again(score=7),
    "bury": lambda reservation: reservation.bury("no such page"),
}
STATES = {"ack": (0, 0, 0), "nack": (0, 1, 0), "again": (1, 0, 0), "bury": (0, 0, 1)}


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs")


@conformance
@pytest.mark.parametrize("end", ENDS)
def test_a_lease_is_ended_from_its_receipt(jobs: Any, face: Any, end: str) -> None:
    jobs.add("read")
    receipt = jobs.reserve().receipt
    with face.another() as other:
        there = other.SortedSet("jobs").reservation(receipt)
        ENDS[end](there)
        with pytest.raises(LeaseLost, match="b'read'"):
            ENDS["ack"](other.SortedSet("jobs").reservation(receipt))

    stats = jobs.stats()
    assert (stats.waiting, stats.delayed, stats.dead) == STATES[end]
    assert stats.leased == 0


@conformance
def test_a_receipt_has_all_of_its_reservation(jobs: Any) -> None:
    jobs.add("réad", 1.5)
    reservation = jobs.reserve(lease=30)
    there = jobs.reservation(reservation.receipt)

    assert re.fullmatch(r"[\w-]+", reservation.receipt, re.ASCII)
    for name in "item", "attempt", "token", "score", "deadline", "receipt":
        assert getattr(there, name) == getattr(reservation, name), name
    assert not there.lost


@conformance
def test_a_lease_is_extended_from_its_receipt(jobs: Any) -> None:
    jobs.add("read")
    reservation = jobs.reserve(lease=60)
    there = jobs.reservation(reservation.receipt)
    there.extend(600)

    assert there.deadline > reservation.deadline + 500
    reservation.ack()
    assert len(jobs) == jobs.stats().leased == 0


@conformance
def test_opening_a_receipt_and_reading_its_item_sends_nothing(
    jobs: Any, face: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add("read")
    receipt, quiet = jobs.reserve().receipt, face.SortedSet("jobs", connections="client")
    sent: list[Any] = []
    monkeypatch.setattr(face.client, "execute_command", lambda *words, **options: sent.append(words))

    assert quiet.reservation(receipt).item == "read"
    assert sent == []


@conformance
def test_a_receipt_of_a_keyed_set_has_the_value(face: Any) -> None:
    jobs = face.SortedSet("jobs", serializer=json, key=lambda job: job["id"])
    jobs.add({"id": 1, "n": 1})
    reservation = jobs.reserve()
    jobs.add({"id": 1, "n": 2})
    there = jobs.reservation(reservation.receipt)

    assert there.item == {"id": 1, "n": 1}
    there.ack()
    assert jobs.pop() == {"id": 1, "n": 2}


@conformance
def test_a_receipt_of_a_keyed_periodic_set_has_the_value(face: Any) -> None:
    pages = face.PeriodicSet("pages", 60, serializer=pickle, key=lambda page: page["url"])
    pages.add({"url": "/a", "text": "one line\nand another"}, first=0)
    reservation = pages.reserve()
    there = pages.reservation(reservation.receipt)

    assert (there.item, there.receipt) == (reservation.item, reservation.receipt)


@conformance
def test_an_identity_without_a_value_needs_no_serializer(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", serializer=TypedSerializer(Job), key=lambda job: job.id)
    raw.zadd("jobs", {"7": 1})
    reservation = jobs.reserve()
    there = jobs.reservation(reservation.receipt)

    assert (there.item, there.receipt) == ("7", reservation.receipt)
    there.ack()
    assert jobs.stats().leased == 0


@conformance
def test_an_item_that_cannot_be_loaded_there_can_be_ended_and_has_a_receipt(face: Any, jobs: Any) -> None:
    jobs.add("no json")
    receipt = jobs.reserve().receipt
    there = face.SortedSet("jobs", serializer=json).reservation(receipt)

    assert "b'no json'" in repr(there)
    assert there.receipt == receipt
    with pytest.raises(DeserializationError):
        _ = there.item
    there.ack()
    assert jobs.stats().leased == 0


@conformance
def test_any_bytes_pass_through_a_receipt(face: Any) -> None:
    jobs = face.SortedSet('jobs "ü"')
    stored = bytes(range(256))
    jobs.add(stored)

    assert jobs.reservation(jobs.reserve().receipt).item == stored


@conformance
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("byte", [b"\0", b"\n", b"a", b"\xff"])
def test_a_receipt_is_a_third_longer_than_its_item(face: Any, byte: bytes, keyed: bool) -> None:
    jobs = face.SortedSet("jobs", **({"key": lambda item: "\n"} if keyed else {}))
    jobs.add(byte * 3000)
    reservation = jobs.reserve()

    assert jobs.reservation(reservation.receipt).item == reservation.item
    assert 4000 < len(reservation.receipt) < 4200


@conformance
def test_after_a_clear_the_lease_is_lost(jobs: Any) -> None:
    jobs.add("read")
    receipt = jobs.reserve().receipt
    jobs.clear(), jobs.add("read"), jobs.reserve()

    with pytest.raises(LeaseLost):
        jobs.reservation(receipt).ack()
    assert jobs.stats().leased == 1


@conformance
def test_a_receipt_of_another_set_is_refused(face: Any, jobs: Any) -> None:
    jobs.add("read")
    receipt = jobs.reserve().receipt

    with pytest.raises(ValueError, match="the receipt is of the set 'jobs', not of 'other'"):
        face.SortedSet("other").reservation(receipt)


@conformance
def test_a_receipt_of_another_kind_of_set_is_refused(face: Any) -> None:
    feeds = face.PeriodicSet("feeds", 3600)
    feeds.add("/news")
    receipt = feeds.reserve().receipt
    with pytest.raises(
        LayoutError, match="'feeds' that is a PeriodicSet, and this object is a SortedSet, TimeSortedSet"
    ):
        face.SortedSet("feeds").reservation(receipt)
    feeds.reservation(receipt).ack()
    assert feeds.next_due("/news") is not None

    keyed, plain = face.SortedSet("keyed", key=str), face.SortedSet("plain")
    keyed.add("read"), plain.add("read")
    with pytest.raises(LayoutError, match=r"'keyed' that is a .*ScheduledSet with a key, and this object"):
        face.SortedSet("keyed").reservation(keyed.reserve().receipt)
    with pytest.raises(LayoutError, match=r"and this object is a .*ScheduledSet with a key: use the same"):
        face.SortedSet("plain", key=str).reservation(plain.reserve().receipt)


@conformance
def test_space_around_a_receipt_is_ignored(jobs: Any) -> None:
    jobs.add("read")
    jobs.reservation(f" {jobs.reserve().receipt}\r\n").ack()
    assert jobs.stats().leased == 0


def signed(content: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.crc32(content).to_bytes(4, "big") + content).decode().rstrip("=")


def forged(body: bytes = b"x", **changed: Any) -> str:
    """A receipt with some of its columns changed."""
    columns = {
        "name": "jobs",
        "layout": layout_of(frozenset()),
        "delivery": "1 1 0",
        "deadline": 1,
        "lease": 1,
        "length": 1,
    }
    head = json.dumps(list({**columns, "has_value": False, **changed}.values())).encode()
    return signed(b"\1" + head + b"\n" + body)


DELIVERIES = ("y", 5, "\u0661 1 0", "9" * 5000 + " 1 0", "1 1 abc", "1 1 nan", "1 1 0 0", None)
GARBAGE = [
    *("", "x", "====", "réad", "read write", "A" * 200, signed(b""), signed(b"\2[]"), signed(b"\1[]"), signed(b"\1{}")),
    *(signed(b"\1" + json.dumps(content).encode()) for content in (["jobs", "x"], 5, None)),
    signed(b"\1" + b"[" * 100_000),
    *(forged(delivery=delivery) for delivery in DELIVERIES),
    *(forged(deadline=deadline) for deadline in ("soon", None, math.nan, 10**400)),
    *(forged(length=length) for length in (-1, 0, 2, "1", None, 0.5, 1.0)),
    forged(b"xyz"),
    forged(b""),
]


@pytest.mark.parametrize("text", GARBAGE)
def test_a_text_that_is_no_receipt_is_refused(jobs: Any, raw: Any, text: str) -> None:
    with pytest.raises(ValueError, match="is not the receipt of a reservation"):
        jobs.reservation(text)
    assert raw.dbsize() == 0


def test_a_receipt_that_is_made_like_one_is_none_by_its_columns_only(jobs: Any) -> None:
    assert jobs.reservation(forged()).item == "x"


def test_a_receipt_that_was_cut_or_changed_is_refused(jobs: Any) -> None:
    jobs.add("read")
    receipt = jobs.reserve().receipt
    for changed in [
        receipt[:-1],
        receipt[1:],
        receipt[:20] + "A" + receipt[21:] if receipt[20] != "A" else "",
        receipt + "AAAA",
    ]:
        with pytest.raises(ValueError, match="is not the receipt of a reservation"):
            jobs.reservation(changed)


@pytest.mark.parametrize("wrong", [None, 5, b"receipt", ["receipt"], object()])
def test_what_is_no_text_is_refused(jobs: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="a receipt must be a str"):
        jobs.reservation(wrong)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_reservation_cannot_be_pickled_or_copied(jobs: Any, copied: Callable[[Any], Any]) -> None:
    jobs.add("read")
    with pytest.raises(TypeError, match=r"cannot be pickled or copied.* Send its receipt"):
        copied(original_of(jobs.reserve()))


def finish(url: str, receipt: str) -> None:
    import redset

    redset.SortedSet(redset.connect(url), "jobs").reservation(receipt).ack()


def test_another_process_ends_the_lease(raw: Any, process: Callable[..., Any]) -> None:
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    process(finish, jobs.reserve().receipt).join()

    assert jobs.stats().leased == 0


def test_a_lease_is_kept_alive_from_its_receipt(raw: Any) -> None:
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    receipt = jobs.reserve(lease=3).receipt
    there = jobs.reservation(receipt)
    with there.keep_alive():
        wait_until(lambda: there.deadline > jobs.reservation(receipt).deadline)
    there.ack()
