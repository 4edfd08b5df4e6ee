"""Parking: an item that is added while it is leased is requeued once, when the lease ends."""

from collections.abc import Callable
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet
from redset.exceptions import LeaseLost
from servers import run_out

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]


def popped(jobs: Any) -> list[str]:
    items = []
    try:
        while True:
            items.append(jobs.pop())
    except KeyError:
        return items


TAKERS: dict[str, Callable[[Any], list[str]]] = {
    "pop": popped,
    "take": lambda jobs: list(jobs.take(10)),
    "reserve_many": lambda jobs: [one.item for one in jobs.reserve_many(10)],
    "consume": lambda jobs: [one.item for one in jobs.consume(wait=0)],
}
ENDS: dict[str, Callable[[Any, Any], Any]] = {
    "ack": lambda jobs, reservation: reservation.ack(),
    "nack": lambda jobs, reservation: reservation.nack(delay=1000),
    "again": lambda jobs, reservation: reservation.again(delay=1000, score=9),
    "bury": lambda jobs, reservation: reservation.bury(),
    "running out": run_out,
}
ADDERS: dict[str, Callable[[Any, Any, str, float], Any]] = {
    "add": lambda jobs, raw, item, score: jobs.add(item, score=score),
    "plain ZADD": lambda jobs, raw, item, score: raw.zadd("jobs", {item: score}),
}

each_taker = pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS.keys())
each_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
each_adder = pytest.mark.parametrize("add", ADDERS.values(), ids=ADDERS.keys())


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


@pytest.fixture
def held(jobs: SortedSet[str]) -> Any:
    """A reservation of "read", which was added with a score of 1."""
    jobs.add("read", score=1)
    return jobs.reserve()


def park(jobs: SortedSet[str], score: float) -> None:
    """Add the item again, and let a claim meet it."""
    jobs.add("read", score=score)
    assert jobs.take(10) == []
    assert jobs.stats().parked == 1


@each_adder
@each_taker
def test_an_item_that_is_added_while_leased_cannot_be_claimed(
    jobs: SortedSet[str], raw: Any, held: Any, add: Callable[..., Any], take: Callable[[Any], list[str]]
) -> None:
    add(jobs, raw, "read", 5)

    assert take(jobs) == []
    assert take(jobs) == []
    held.ack()


@each_end
@each_taker
@pytest.mark.parametrize("met", [True, False], ids=["met by a hand-out before", "not met before"])
def test_it_is_requeued_once_when_the_lease_ends(
    jobs: SortedSet[str],
    raw: Any,
    held: Any,
    end: Callable[[Any, Any], Any],
    take: Callable[[Any], list[str]],
    *,
    met: bool,
) -> None:
    jobs.add("read", score=5)
    if met:
        assert take(jobs) == []

    end(jobs, held)

    assert take(jobs) == ["read"]
    assert take(jobs) == []
    assert jobs.stats().parked == 0
    RawSet(raw, "jobs").check()


@each_end
def test_it_is_requeued_with_the_newest_score(jobs: SortedSet[str], held: Any, end: Callable[[Any, Any], Any]) -> None:
    park(jobs, score=7)
    park(jobs, score=5)
    park(jobs, score=6)

    end(jobs, held)

    assert jobs.reserve().score == 6.0


def test_an_addition_after_parking_has_the_newest_score(jobs: SortedSet[str], held: Any) -> None:
    park(jobs, score=5)
    jobs.add("read", score=7)

    held.ack()

    assert jobs.score("read") == 7.0
    assert jobs.take(10) == ["read"]


def test_it_stays_parked_when_the_lease_is_extended(jobs: SortedSet[str], held: Any) -> None:
    park(jobs, score=5)

    held.extend(1000)

    assert jobs.take(10) == []
    held.ack()
    assert jobs.take(10) == ["read"]


@pytest.mark.parametrize(
    ("end", "attempt"),
    [("ack", 1), ("bury", 1), ("again", 1), ("nack", 2), ("running out", 2)],
)
def test_after_an_ack_it_is_new_and_after_a_nack_it_keeps_its_attempts(
    jobs: SortedSet[str], held: Any, end: str, attempt: int
) -> None:
    park(jobs, score=5)

    ENDS[end](jobs, held)

    assert jobs.reserve().attempt == attempt
    assert len(jobs.dead_letters) == 0


def test_a_new_holder_can_have_it_parked_again(jobs: SortedSet[str], raw: Any, held: Any) -> None:
    park(jobs, score=5)
    run_out(jobs, held)
    newer = jobs.reserve()
    park(jobs, score=6)

    with pytest.raises(LeaseLost):
        held.ack()

    assert jobs.take(10) == []
    newer.ack()
    assert jobs.take(10) == ["read"]
    assert RawSet(raw, "jobs").is_empty()


def test_a_parked_item_is_not_waiting(jobs: SortedSet[str], held: Any) -> None:
    park(jobs, score=5)

    assert "read" not in jobs
    assert len(jobs) == 0
    held.ack()
    assert "read" in jobs


def test_discard_removes_it_too(jobs: SortedSet[str], raw: Any, held: Any) -> None:
    park(jobs, score=5)

    assert jobs.discard("read") is True

    with pytest.raises(LeaseLost):
        held.ack()
    assert RawSet(raw, "jobs").is_empty()


def test_clear_removes_it_too(jobs: SortedSet[str], raw: Any, held: Any) -> None:
    park(jobs, score=5)

    assert jobs.clear()

    with pytest.raises(LeaseLost):
        held.ack()
    assert RawSet(raw, "jobs").is_empty()


def test_a_scheduled_item_is_parked_when_it_is_due(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("read", score=1)
    held = jobs.reserve()
    jobs.add("read", score=2**40)
    assert jobs.take(10) == []

    held.ack()

    assert jobs.score("read") == 2**40
    assert jobs.take(10) == []


@each_taker
def test_many_leased_items_do_not_hide_the_items_after_them(
    jobs: SortedSet[str], raw: Any, take: Callable[[Any], list[str]]
) -> None:
    busy = {f"{i:04}": 1.0 for i in range(1200)}
    raw.zadd("jobs", busy)
    reservations = jobs.reserve_many(1200)
    raw.zadd("jobs", busy | {"free": 2})

    assert take(jobs) == ["free"]

    assert jobs.stats().parked == 1200
    assert jobs.ack(reservations) == []
    assert len(jobs) == 1200
