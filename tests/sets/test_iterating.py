"""Iterating: in order, page by page, and unshaken by what others do meanwhile."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redset import SortedSet

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

#: More than two pages of an iteration.
MANY = 2345


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def names(*numbers: int) -> list[str]:
    return [f"{number:05}" for number in numbers]


def fill(raw: Any, numbers: range, score: float | None = None) -> None:
    raw.zadd("jobs", {f"{number:05}": number if score is None else score for number in numbers})


def test_an_empty_set_yields_nothing(jobs: SortedSet[str]) -> None:
    assert list(jobs) == []


def test_items_are_yielded_in_order_and_stay(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(3))

    assert list(jobs) == list(jobs) == names(0, 1, 2)


def test_what_is_not_due_is_yielded_too(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("now", score=1)
    jobs.add("later", score=2**40)

    assert list(jobs) == ["now", "later"]


@pytest.mark.parametrize("there", [999, 1000, 1001, 2000, MANY])
def test_sets_of_any_size_are_yielded_whole(jobs: SortedSet[str], raw: Any, there: int) -> None:
    fill(raw, range(there))

    assert list(jobs) == names(*range(there))


def test_many_items_of_one_score_are_yielded_whole(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY), score=0.1 + 0.2)

    assert list(jobs) == names(*range(MANY))


def test_items_taken_before_and_behind_the_iteration_do_not_disturb_it(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY))
    items = iter(jobs)
    seen = [next(items)]

    assert jobs.take(1500) == names(*range(1500))
    seen += items

    assert seen == names(*range(1000), *range(1500, MANY)), "the page that was read, and what stayed"


def test_the_item_seen_last_may_go(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY), score=7)
    items = iter(jobs)
    seen = [next(items)]
    raw.zrem("jobs", "00999")
    seen += items

    assert seen == names(*range(MANY))


def test_the_item_seen_last_may_move(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY))
    items = iter(jobs)
    seen = [next(items)]
    raw.zadd("jobs", {"00999": -1})
    seen += items

    assert seen == names(*range(MANY))


def test_an_iteration_ends_however_fast_others_add(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY))
    seen = []
    for number, item in enumerate(itertools.islice(jobs, 2 * MANY), start=MANY):
        seen.append(item)
        raw.zadd("jobs", {f"{number:05}": number})

    assert seen == names(*range(MANY))


def test_an_iteration_ends_when_the_set_is_cleared(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY))
    items = iter(jobs)
    next(items)
    jobs.clear()

    assert list(items) == names(*range(1, 1000)), "the rest of the page that was read"


def test_an_iteration_can_be_left(jobs: SortedSet[str], raw: Any) -> None:
    fill(raw, range(MANY))
    for item in jobs:
        assert item == "00000"
        break

    assert len(jobs) == MANY


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), scores=st.sampled_from([[1.0], [1.0, 2.0, 1e300], [0.1, 0.3, 1732423423.123457]]))
def test_what_stays_is_yielded_exactly_once_whatever_others_do(
    jobs: SortedSet[str], raw: Any, seed: int, scores: list[float]
) -> None:
    chance = random.Random(seed)
    raw.delete("jobs")
    raw.zadd("jobs", {f"{number:05}": chance.choice(scores) for number in range(0, 2 * MANY, 2)})
    busy = {f"{number:05}" for number in range(0, 2 * MANY, 2) if chance.random() < 0.3}

    seen = []
    for number, item in enumerate(jobs):
        seen.append(item)
        if number % 250 == 0:
            raw.zrem("jobs", *chance.sample(sorted(busy), 50))
            raw.zadd("jobs", {chance.choice(sorted(busy)): chance.choice(scores) for _ in range(20)})
            raw.zadd("jobs", {f"{2 * chance.randrange(MANY) + 1:05}": chance.choice(scores) for _ in range(20)})

    quiet = [item for item in seen if item not in busy and int(item) % 2 == 0]
    staying = [f"{number:05}" for number in range(0, 2 * MANY, 2) if f"{number:05}" not in busy]
    assert sorted(quiet) == staying
