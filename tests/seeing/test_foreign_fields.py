"""Another program may write into the keys of a set and of the registry. It fails no call, and loses no item."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from faces import Face
from redset import LayoutError
from redset.core.keys import REGISTRY, Keys

pytestmark = pytest.mark.conformance

META, HISTORY = Keys("jobs").meta, Keys("jobs").history
#: What is no total, no token and no limit.
JUNK = ["words", "", "1e400", "nan", "99999999999999999999", "-5", "1.5", "2000000000000000.5", "two words"]
#: Fields of a set's own hash that scripts calculate with.
FIELDS = ["taken", "leased", "last", "cleared", "minute", "gate", "registered", "added", "acked", "a field"]


def taken(jobs: Any) -> list[str]:
    return [jobs.pop()]


def leased(jobs: Any) -> list[str]:
    reservation = jobs.reserve()
    reservation.ack()
    return [reservation.item]


@pytest.mark.parametrize(("field", "junk"), [*product(FIELDS, JUNK)])
def test_what_another_program_wrote_into_the_hash_of_a_set_fails_no_call(
    face: Face, raw: Any, field: str, junk: str
) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(["a", "b", "c"], score=1)
    raw.hset(META, field, junk)
    assert taken(jobs) + leased(jobs) == ["a", "b"]
    assert jobs.add("d", score=2) == 2
    jobs.stats()
    assert all(value >= 0 for value in vars_of(jobs.totals()))
    assert len(jobs.history()) >= 1
    jobs.pause()
    jobs.limit(leases=1)
    jobs.resume()
    assert jobs.reserve().item == "c"
    assert jobs.clear()


def vars_of(totals: Any) -> list[int]:
    return [getattr(totals, name) for name in totals.__slots__]


@pytest.mark.parametrize("junk", JUNK)
def test_what_another_program_wrote_as_the_leases_of_a_group_fails_no_call(face: Face, raw: Any, junk: str) -> None:
    jobs = face.SortedSet("jobs", group=lambda item: item[:1])
    jobs.update(["a1", "a2", "a3"], score=1)
    raw.hset(Keys("jobs").busy, "a", junk)
    assert taken(jobs) + leased(jobs) + leased(jobs) == ["a1", "a2", "a3"]
    assert jobs.stats().unfinished == 0


@pytest.mark.parametrize("junk", ["words", "", "two words"])
def test_a_maxsize_that_is_no_number_is_none(face: Face, raw: Any, junk: str) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    raw.hset(META, "maxsize", junk)
    jobs.add("b")
    assert jobs.stats().limits is None


@pytest.mark.parametrize(
    "layout", ["sharded", "", "1", "1 sorted strangely", "a, b; c", "1 sorted keyed digests more", "9" * 5000]
)
def test_a_layout_that_this_version_does_not_know_is_named(face: Face, raw: Any, layout: str) -> None:
    raw.hset(META, "layout", layout)
    with pytest.raises(LayoutError, match="of a kind that this version does not know"):
        face.SortedSet("jobs").add("a")


def test_a_sample_that_another_program_wrote_is_left_out(face: Face, raw: Any) -> None:
    raw.rpush(HISTORY, "1.5 added 3 leased", "x y z", "", "1.5 added x", b"\xff", "1.5 added 2 acked 1")
    samples = face.SortedSet("jobs").history()
    assert [(sample.at, sample.totals.added, sample.totals.acked) for sample in samples] == [
        (1.5, 2, 1),
        (1.5, 0, 0),
        (1.5, 3, 0),
    ]


RECORDS = {
    b"\xff\xfe": b'{"kind": "SortedSet"}',
    b"list": b'["SortedSet"]',
    b"null": b"null",
    b"number": b"3",
    b"deep": b"[" * 100_000,
    b"bytes": b"\xff",
    b"no kind": b"{}",
}


def test_what_another_program_wrote_into_the_registry_hides_no_set(face: Face, raw: Any) -> None:
    raw.hset(REGISTRY[0], mapping=RECORDS)
    for name in RECORDS:
        raw.zadd(name, {"a": 1})
    face.SortedSet("jobs").add("a")
    assert [info.name for info in face.list_sets()] == ["jobs"]


@pytest.mark.parametrize(
    "record",
    [
        *RECORDS.values(),
        b'{"kind": [1]}',
        b'{"kind": "Nothing"}',
        b'{"kind": "SortedSet", "bogus": 1}',
        b'{"kind": "SortedSet", "max_attempts": "x"}',
        b'{"kind": "SortedSet", "redis_client": 1}',
        b'{"kind": "PeriodicSet"}',
        b'{"kind": "ExpiringSet", "ttl": -1}',
    ],
    ids=lambda record: record.decode(errors="replace")[:40],
)
def test_a_set_that_the_registry_describes_wrongly_is_not_known(face: Face, raw: Any, record: bytes) -> None:
    if record == RECORDS[b"\xff\xfe"]:
        return
    raw.hset(REGISTRY[0], "jobs", record)
    with pytest.raises(KeyError, match="registry"):
        face.open_set("jobs")


@pytest.mark.parametrize("name", [b"jobs", 5, None])
@pytest.mark.parametrize("call", ["open_set", "forget_set"])
def test_a_name_that_is_no_text_is_refused(face: Face, call: str, name: Any) -> None:
    with pytest.raises(TypeError, match="the name of a set must be a str"):
        getattr(face, call)(name)


@pytest.mark.parametrize(
    "call",
    [
        lambda jobs: jobs.clear(),
        lambda jobs: jobs.forget("a"),
        lambda jobs: jobs.dead_letters.retry("a"),
    ],
    ids=["clear", "forget", "retry"],
)
def test_a_set_of_another_form_is_neither_cleared_nor_forgotten(face: Face, call: Callable[[Any], Any]) -> None:
    face.ExpiringSet("jobs", 100).add("a")
    with pytest.raises(LayoutError):
        call(face.SortedSet("jobs", remember=60))
    assert face.ExpiringSet("jobs", 100).contains("a")


def test_a_dead_item_without_its_letter_can_still_be_seen_and_retried(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    jobs.reserve().bury("why")
    raw.delete(Keys("jobs").letters)
    assert jobs.inspect("a").state == "dead"
    assert [letter.item for letter in jobs.dead_letters] == ["a"]
    assert jobs.dead_letters.retry("a")
    assert jobs.pop() == "a"


def test_what_is_parked_without_its_lease_can_be_inspected(face: Face, raw: Any) -> None:
    raw.zadd(Keys("jobs").parked, {"a": 1})
    found = face.SortedSet("jobs").inspect("a")
    assert (found.state, found.score, found.deadline) == ("parked", 1, None)


def test_a_registry_of_another_type_costs_no_round_trips_for_ever(face: Face, raw: Any) -> None:
    raw.set(REGISTRY[0], "of somebody else")
    jobs = face.SortedSet("jobs")
    jobs.update("abcdef")
    assert raw.hexists(META, "registered")
    assert jobs.pop()
