"""pop_max and take_max: like pop and take, from the other end of what can be had."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariants import RawSet
from redset import SortedSet

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def test_pop_max_takes_the_highest_score_first(jobs: SortedSet[str], raw: Any) -> None:
    for item, score in {"b": 2, "c": 3, "a": 1}.items():
        jobs.add(item, score=score)

    assert [jobs.pop_max(), jobs.pop_max(), jobs.pop_max()] == ["c", "b", "a"]
    assert RawSet(raw, "jobs").is_empty()


def test_equal_scores_come_in_the_reverse_order_of_their_bytes(jobs: SortedSet[str]) -> None:
    for item in ("b", "a", "ä", "B"):
        jobs.add(item, score=1)

    assert jobs.take_max(3) == ["ä", "b", "a"]


def test_pop_max_from_an_empty_set_raises_key_error_with_its_name(jobs: SortedSet[str]) -> None:
    with pytest.raises(KeyError, match="jobs"):
        jobs.pop_max()
    assert jobs.take_max(3) == []


def test_what_is_not_due_stays_where_it_is(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    for item, score in {"a": 1, "b": 2, "c": 3, "much later": 1e11}.items():
        jobs.add(item, score=score)

    assert jobs.pop_max() == "c"
    assert jobs.take_max(5) == ["b", "a"]
    assert list(jobs) == ["much later"]


def test_what_is_leased_is_parked_and_not_taken(jobs: SortedSet[str]) -> None:
    jobs.add("held", score=1)
    held = jobs.reserve()
    jobs.add("held", score=5)
    jobs.add("free", score=3)

    assert jobs.take_max(5) == ["free"]

    held.ack()
    assert jobs.take_max(5) == ["held"]


def test_more_than_one_call_can_take_is_taken_in_order(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    raw.zadd("jobs", {f"{score:04}": score for score in range(2500)})

    assert jobs.take_max(2100) == [f"{score:04}" for score in reversed(range(400, 2500))]
    assert len(jobs) == 400


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3))), st.integers(0, 9))
def test_it_takes_what_sorting_would_put_last(face: Any, scored: list[tuple[str, int]], number: int) -> None:
    jobs = face.SortedSet("jobs", key=lambda item: item)
    jobs.clear()
    for item, score in scored:
        jobs.add(item, score=score)
    in_order = [item for item, _ in sorted(dict(scored).items(), key=lambda pair: (pair[1], pair[0]))]

    assert jobs.take_max(number) == in_order[::-1][:number]
    assert list(jobs) == in_order[: max(0, len(in_order) - number)]
