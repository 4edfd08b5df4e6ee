"""Items whose lease expired, since they may have killed their process: they are claimed alone."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import redset
from invariants import RawSet
from redset.core.keys import Keys

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs", max_attempts=2)


@pytest.fixture
def state(raw: Any) -> Iterator[RawSet]:
    found = RawSet(raw, "jobs")
    yield found
    found.check()


def let_leases_expire(raw: Any, *items: str) -> None:
    leased = Keys("jobs").leased
    raw.zadd(leased, dict.fromkeys(items or raw.zrange(leased, 0, -1), 1.0), xx=True)


def claimed(reservations: list[Any]) -> list[str]:
    return [one.item for one in reservations]


def work_until_killed(url: str, poison: str) -> None:
    """Processes all items, but is killed by ``poison``."""
    with redset.connect(url) as client:
        for job in redset.SortedSet(client, "jobs", max_attempts=2).consume(batch=10, wait=0):
            if job.item == poison:
                os._exit(139)


def test_only_the_item_that_kills_its_process_dies(
    process: Callable[..., Any], jobs: Any, raw: Any, state: RawSet
) -> None:
    jobs.update([str(number) for number in range(10)], score=float)
    for _ in range(2):
        worker = process(work_until_killed, "5")
        worker.join()
        assert worker.exitcode == 139
        let_leases_expire(raw)
    worker = process(work_until_killed, "5")
    worker.join()

    assert worker.exitcode == 0
    assert [(letter.item, letter.attempts) for letter in jobs.dead_letters] == [("5", 2)]
    assert state.present() & {"waiting", "leased"} == set()


def test_a_claim_returns_the_items_before_it_and_then_it_alone(jobs: Any, raw: Any, state: RawSet) -> None:
    jobs.update("abcde", score=ord)
    jobs.reserve_many(5)
    let_leases_expire(raw, "c")
    jobs.update("ABxy", score=ord)

    assert claimed(jobs.reserve_many(9)) == ["A", "B"]
    assert claimed(jobs.reserve_many(9)) == ["c"]
    assert claimed(jobs.reserve_many(9)) == ["x", "y"]


def test_each_of_several_is_claimed_alone(jobs: Any, raw: Any) -> None:
    jobs.update("bd", score=ord)
    jobs.reserve_many(2)
    let_leases_expire(raw)
    jobs.update("ace", score=ord)

    claims = [jobs.reserve_many(9) for _ in range(6)]

    assert [claimed(claim) for claim in claims] == [["a"], ["b"], ["c"], ["d"], ["e"], []]
    assert [one.attempt for claim in claims for one in claim] == [1, 2, 1, 2, 1]


def test_consume_gets_it_as_a_batch_of_its_own(jobs: Any, raw: Any, state: RawSet) -> None:
    jobs.update("b", score=ord)
    jobs.reserve()
    let_leases_expire(raw)
    jobs.update("ac", score=ord)
    held = {}

    for job in jobs.consume(batch=10, wait=0):
        held[job.item] = state.scores("leased").keys()

    assert held == {"a": {b"a"}, "b": {b"b"}, "c": {b"c"}}


def test_one_that_was_not_requeued_yet_is_claimed_alone(jobs: Any, raw: Any) -> None:
    """A claim requeues 250 items at most, and may meet one that was added again since its lease expired."""
    raw.zadd("jobs", {f"{number:03}": number for number in range(300)})
    jobs.reserve_many(300)
    let_leases_expire(raw)
    raw.zadd(Keys("jobs").leased, {"299": 2.0})
    jobs.add("299", score=-5), jobs.add("new", score=-4)

    assert claimed(jobs.reserve_many(5)) == ["299"]
    assert claimed(jobs.reserve_many(5)) == ["new"]


def test_a_list_of_thousands_stops_before_it(jobs: Any, raw: Any) -> None:
    items = {f"{number:04}": number for number in range(1500)}
    raw.zadd("jobs", {"1000": 1000})
    jobs.reserve()
    let_leases_expire(raw)
    raw.zadd("jobs", items)

    assert claimed(jobs.reserve_many(1500)) == list(items)[:1000]
    assert claimed(jobs.reserve_many(1500)) == ["1000"]
    assert claimed(jobs.reserve_many(1500)) == list(items)[1001:]


@pytest.mark.parametrize("end", ["nack", "again"])
def test_an_item_that_was_given_back_is_claimed_with_others_again(face: Any, raw: Any, state: RawSet, end: str) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update("ab", score=ord)
    jobs.reserve_many(1)
    let_leases_expire(raw)
    (alone,) = jobs.reserve_many(9)
    getattr(alone, end)(0)

    assert claimed(jobs.reserve_many(9)) == ["a", "b"]


def test_items_are_taken_for_good_together(jobs: Any, raw: Any) -> None:
    jobs.update("abc", score=ord)
    jobs.reserve_many(3)
    let_leases_expire(raw)

    assert jobs.take(9) == ["a", "b", "c"]


def test_an_item_that_was_acked_and_added_again_is_like_any_other(jobs: Any, raw: Any) -> None:
    jobs.update("ab", score=ord)
    jobs.reserve()
    let_leases_expire(raw)
    jobs.reserve().ack()
    jobs.add("a", score=1)

    assert claimed(jobs.reserve_many(9)) == ["a", "b"]


def test_an_addition_does_not_make_it_harmless(jobs: Any, raw: Any, state: RawSet) -> None:
    jobs.update("ab", score=ord)
    jobs.reserve()
    jobs.add("a", score=1)
    with pytest.raises(KeyError):
        jobs.reserve() and jobs.reserve()
    let_leases_expire(raw, "a")

    assert claimed(jobs.reserve_many(9)) == ["a"]
