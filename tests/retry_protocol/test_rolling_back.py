"""Roll-backs and repeated claims, by the scripts themselves: what they reply, and what the keys hold then."""

from collections.abc import Sequence
from typing import Any

import pytest

from invariants import RawSet
from redset.core.keys import Keys
from redset.core.scripts import Script, prepared

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("registered")]

KEYS = Keys("jobs")
CALL = KEYS.call_prefix + b"session"
ALL_KEYS = (CALL, *prepared("claim", KEYS)[1])
#: No limit of attempts or of dead letters.
OPTIONS = "0 0"


@pytest.fixture
def state(raw: Any) -> RawSet:
    return RawSet(raw, "jobs")


def call(raw: Any, script: str, keys: Sequence[bytes], number: int, seen: int, *args: Any) -> Any:
    return raw.eval(Script(script).body, len(keys), *keys, f"{number:016}", f"{seen:016}", *args)


def claim(raw: Any, number: int, seen: int, limit: int, lease: float = 0, *acks: bytes) -> list[bytes]:
    rows: list[bytes] = call(raw, "claim", ALL_KEYS, number, seen, OPTIONS, limit, "any", lease, "-", *acks)
    return rows


def roll_back(raw: Any, number: int, seen: int, *positions: int) -> bytes:
    head: bytes = call(raw, "rollback", ALL_KEYS, number, seen, OPTIONS, *positions)
    return head


def add(raw: Any, number: int, seen: int, score: float, item: str) -> None:
    call(raw, "add", (CALL, *prepared("add", KEYS)[1]), number, seen, "added all 0", score, item)


def expire(raw: Any, *items: bytes) -> None:
    raw.zadd(KEYS.leased, dict.fromkeys(items, 1.0), xx=True)


def fill(raw: Any, count: int) -> dict[bytes, float]:
    items = {b"%04d" % number: float(number) for number in range(count)}
    raw.zadd("jobs", items)
    return items


leases = pytest.mark.parametrize("lease", [0, 60], ids=["for good", "leased"])


@leases
def test_it_rolls_back_all_rows(raw: Any, state: RawSet, lease: float) -> None:
    items = fill(raw, 3)
    *_, head = claim(raw, 1, 0, 3, lease)

    assert roll_back(raw, 2, 0) == head
    assert state.scores("waiting") == items
    assert not state.present() & {"leased", "deliveries"}


@leases
def test_it_rolls_back_some_rows(raw: Any, state: RawSet, lease: float) -> None:
    fill(raw, 4)
    claim(raw, 1, 0, 4, lease)

    roll_back(raw, 2, 0, 2, 4)

    assert state.scores("waiting") == {b"0001": 1.0, b"0003": 3.0}
    assert state.scores("leased").keys() == ({b"0000", b"0002"} if lease else set())


@leases
def test_it_may_be_sent_again(raw: Any, state: RawSet, lease: float) -> None:
    fill(raw, 2)
    claim(raw, 1, 0, 2, lease)
    head = roll_back(raw, 2, 0)
    raw.zrem("jobs", "0000")

    assert roll_back(raw, 2, 0) == head
    assert state.scores("waiting") == {b"0001": 1.0}


def test_a_claim_that_arrives_after_its_roll_back_claims_nothing(raw: Any, state: RawSet) -> None:
    items = fill(raw, 2)

    assert roll_back(raw, 2, 0) == b""
    with pytest.raises(Exception, match="STALE"):
        claim(raw, 1, 0, 2)
    assert state.scores("waiting") == items


def test_a_roll_back_that_arrives_too_late_does_nothing(raw: Any, state: RawSet) -> None:
    fill(raw, 2)
    claim(raw, 3, 0, 2)

    with pytest.raises(Exception, match="STALE"):
        roll_back(raw, 2, 0)
    assert state.scores("waiting") == {}


def test_a_claim_that_was_received_stays_and_its_record_is_emptied(raw: Any, state: RawSet) -> None:
    fill(raw, 1000)
    claim(raw, 7, 6, 1000)
    before = raw.strlen(CALL)

    assert roll_back(raw, 8, 7) == b""
    assert before > 5000
    assert raw.strlen(CALL) < 50
    assert state.scores("waiting") == {}


def test_it_returns_which_acks_were_too_late(raw: Any) -> None:
    fill(raw, 2)
    rows = claim(raw, 1, 0, 2, 60)
    held = rows[:4]
    expire(raw, b"0000")
    claim(raw, 2, 1, 1, 60, *held)

    assert roll_back(raw, 3, 1).split()[5:] == [b"0"]


def test_an_addition_is_not_undone(raw: Any, state: RawSet) -> None:
    add(raw, 1, 0, 5, "x")

    assert roll_back(raw, 2, 0) == b"1"
    assert state.scores("waiting") == {b"x": 5.0}
    with pytest.raises(Exception, match="STALE"):
        add(raw, 1, 0, 6, "x")


@pytest.mark.parametrize("seen", [0, 1], ids=["nobody read it", "it was received"])
@leases
def test_it_works_on_a_full_server(raw: Any, state: RawSet, filling: Any, seen: int, lease: float) -> None:
    items = fill(raw, 1000)
    claim(raw, 1, 0, 1000, lease)
    filling()

    roll_back(raw, 2, seen)

    assert raw.strlen(CALL) < 100
    assert state.scores("waiting") == ({} if seen else items)


def test_a_suspect_item_is_suspect_again_when_its_claim_is_rolled_back(raw: Any, state: RawSet) -> None:
    fill(raw, 2)
    claim(raw, 1, 0, 1, 60)
    expire(raw, b"0000")
    assert claim(raw, 2, 1, 5, 60)[::2][:-1] == [b"0000"]

    roll_back(raw, 3, 1)

    assert state.fields("deliveries") == {b"0000": b"expired 1 0"}


def test_a_repeated_claim_returns_the_rows_whose_leases_are_live(raw: Any, state: RawSet) -> None:
    """All rows keep their positions, since a part of a coalesced claim is rolled back by position."""
    items = fill(raw, 1000)
    before = claim(raw, 1, 0, 1000, 60)
    leased = state.scores("leased")
    expire(raw, b"0500")

    again = claim(raw, 1, 0, 1000, 60)

    assert again.pop() == before.pop()
    assert again[1001] == b""
    assert again[:1001] + again[1002:] == before[:1001] + before[1002:]
    assert state.scores("waiting") == {b"0500": items[b"0500"]}
    assert state.scores("leased") == {item: until for item, until in leased.items() if item != b"0500"}
    assert b"0500" not in state.fields("deliveries")
    assert claim(raw, 1, 0, 1000, 60)[:-1] == again


def test_after_a_late_copy_positions_are_those_of_the_reply_that_was_read(raw: Any, state: RawSet) -> None:
    fill(raw, 5)
    claim(raw, 1, 0, 5, 60)
    expire(raw, b"0001")
    claim(raw, 1, 0, 5, 60)

    roll_back(raw, 2, 0, 2, 4)

    assert state.scores("waiting") == {b"0001": 1.0, b"0003": 3.0}
    assert state.scores("leased").keys() == {b"0000", b"0002", b"0004"}


def test_a_repeated_claim_of_which_all_leases_have_ended_says_so(raw: Any, state: RawSet) -> None:
    fill(raw, 2)
    claim(raw, 1, 0, 2, 60)
    expire(raw, b"0000", b"0001")

    (head,) = claim(raw, 1, 0, 2, 60)

    assert head.split()[0] == b"1"
    assert state.scores("waiting").keys() == {b"0000", b"0001"}


def test_a_waiter_is_woken_when_a_claim_stops_before_a_suspect_item(raw: Any, state: RawSet) -> None:
    fill(raw, 3)
    claim(raw, 1, 0, 3, 60)
    expire(raw, b"0001")
    claim(raw, 2, 1, 0, 60)
    raw.zadd("jobs", {"first": -1})
    raw.zadd(KEYS.looks, {"another": -1e10})

    first, _, head = claim(raw, 3, 2, 10, 60)

    assert (first, head.split()[0]) == (b"first", b"2")
    assert raw.llen(KEYS.wake) == 1


def test_a_record_ends_ten_minutes_after_a_roll_back(raw: Any) -> None:
    roll_back(raw, 2, 0)
    assert 590 < raw.ttl(CALL) <= 600


@leases
def test_a_repeated_claim_is_answered_whatever_other_keys_hold(raw: Any, lease: float) -> None:
    fill(raw, 2)
    reply = claim(raw, 1, 0, 2, lease)
    raw.set(KEYS.wake, "of somebody else")

    assert claim(raw, 1, 0, 2, lease) == reply


def test_a_lease_whose_delivery_was_deleted_is_one_until_it_expires(raw: Any, state: RawSet) -> None:
    fill(raw, 1)
    claim(raw, 1, 0, 1, 60)
    raw.delete(KEYS.deliveries)
    fill(raw, 1)

    assert len(claim(raw, 2, 1, 1)) == 1
    assert state.scores("parked") == {b"0000": 0.0}
