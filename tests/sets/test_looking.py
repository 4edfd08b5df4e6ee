"""Looking: everything that tells about a set and changes nothing."""

import itertools
import json
from typing import Any

import pytest

from redset import Key, SortedSet
from redset.exceptions import DeserializationError, RedsetError

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    """A set with a, b and c, scored 1, 2 and 3."""
    jobs = getattr(face, kind)("jobs")
    for item, score in ("c", 3), ("a", 1), ("b", 2):
        jobs.add(item, score=score)
    return jobs


@pytest.fixture
def empty(face: Any, kind: str) -> Any:
    return getattr(face, kind)("empty")


# One by one


def test_peek_shows_the_next_item_and_leaves_it(jobs: SortedSet[str]) -> None:
    assert jobs.peek() == "a"
    assert jobs.pop() == "a"


def test_peek_shows_the_item_at_a_position(jobs: SortedSet[str]) -> None:
    assert [jobs.peek(0), jobs.peek(1), jobs.peek(position=2)] == ["a", "b", "c"]


def test_peek_counts_negative_positions_from_the_end(jobs: SortedSet[str]) -> None:
    assert [jobs.peek(-1), jobs.peek(-3)] == ["c", "a"]


@pytest.mark.parametrize("position", [3, -4, 10**6])
def test_peek_where_there_is_nothing_raises_key_error(jobs: SortedSet[str], position: int) -> None:
    with pytest.raises(KeyError, match="jobs"):
        jobs.peek(position)


def test_peek_at_an_empty_set_raises_key_error(empty: SortedSet[str]) -> None:
    with pytest.raises(KeyError, match="empty"):
        empty.peek()


def test_peek_score_is_the_score_of_the_next_item(jobs: SortedSet[str]) -> None:
    assert jobs.peek_score() == 1.0


def test_peek_score_of_an_empty_set_is_none(empty: SortedSet[str]) -> None:
    assert empty.peek_score() is None


def test_score_is_a_float_or_none(jobs: SortedSet[str]) -> None:
    assert jobs.score("b") == 2.0
    assert isinstance(jobs.score("b"), float)
    assert jobs.score("d") is None


def test_a_score_of_0_is_told_from_none(jobs: SortedSet[str]) -> None:
    jobs.add("z", score=0)

    assert jobs.score("z") == jobs.peek_score() == 0.0
    assert "z" in jobs


def test_in_tells_whether_an_item_waits(jobs: SortedSet[str]) -> None:
    assert "b" in jobs
    assert "d" not in jobs
    assert jobs.contains("b") is True
    assert jobs.contains("d") is False


def test_in_compares_serialized_items(face: Any, kind: str) -> None:
    pairs = getattr(face, kind)("pairs", serializer=json)
    pairs.add([1, 2])

    assert [1, 2] in pairs
    assert (1, 2) in pairs
    assert [2, 1] not in pairs


def test_what_a_serializer_refuses_is_not_in_the_set_and_has_no_score(face: Any, kind: str) -> None:
    pairs = getattr(face, kind)("pairs", serializer=json)

    assert {1, 2} not in pairs
    assert pairs.contains({1, 2}) is False
    with pytest.raises(TypeError):
        pairs.score({1, 2})


def test_what_the_key_refuses_is_not_in_the_set(face: Any) -> None:
    pages = face.SortedSet("pages", serializer=json, key=lambda page: page["url"])
    pages.add({"url": "/a"})

    assert "/a" not in pages
    assert pages.contains_many([{"url": "/a"}, {}, 7, Key("/a")]) == [True, False, False, True]


def test_many_can_be_asked_for_at_once(jobs: Any) -> None:
    asked = ["a", "x", "c", "a"]

    assert jobs.scores(asked) == [1.0, None, 3.0, 1.0]
    assert jobs.contains_many(iter(asked)) == [True, False, True, True]
    assert jobs.scores([]) == jobs.contains_many([]) == []


def test_more_can_be_asked_for_than_one_call_takes(face: Any) -> None:
    numbers = face.SortedSet("numbers", serializer=json)
    numbers.update(([number] for number in range(0, 2500, 2)), score=lambda item: item[0])

    assert numbers.scores([number] for number in range(2500)) == [None if n % 2 else float(n) for n in range(2500)]
    asked = [{1} if number % 7 == 0 else [number] for number in range(2500)]
    assert numbers.contains_many(asked) == [n % 7 != 0 and n % 2 == 0 for n in range(2500)]
    assert numbers.contains_many([{1}] * 3) == [False] * 3
    with pytest.raises(TypeError):
        numbers.scores([[1], {1}])


# Counting


def test_len_counts_all_that_waits(jobs: SortedSet[str], empty: SortedSet[str]) -> None:
    assert (len(jobs), len(empty)) == (3, 0)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, 3),
        ({"min": 2}, 2),
        ({"max": 2}, 2),
        ({"min": 2, "max": 2}, 1),
        ({"min": 1.5, "max": 2.5}, 1),
        ({"min": 3, "max": 1}, 0),
        ({"min": float("-inf"), "max": float("inf")}, 3),
        ({"min": 0}, 3),
        ({"max": 0}, 0),
    ],
    ids=repr,
)
def test_count_counts_the_scores_within_its_bounds(jobs: SortedSet[str], bounds: dict[str, Any], expected: int) -> None:
    assert jobs.count(**bounds) == expected


def test_the_bounds_of_count_have_names(jobs: Any) -> None:
    with pytest.raises(TypeError):
        jobs.count(1, 2)


@pytest.mark.parametrize("bounds", [{"min": "1"}, {"max": "(2"}, {"min": float("nan")}], ids=repr)
def test_count_refuses_bounds_that_are_no_scores(jobs: Any, bounds: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        jobs.count(**bounds)


def test_an_empty_set_is_false_as_a_builtin_one_is(jobs: SortedSet[str], empty: SortedSet[str]) -> None:
    assert bool(jobs)
    assert not bool(empty)


# Positions and slices


def test_items_can_be_read_by_position(jobs: SortedSet[str]) -> None:
    assert [jobs[0], jobs[2], jobs[-1], jobs[-3]] == ["a", "c", "c", "a"]
    assert jobs.at(1) == "b"


@pytest.mark.parametrize("position", [3, -4])
def test_a_position_where_there_is_nothing_raises_index_error(jobs: SortedSet[str], position: int) -> None:
    with pytest.raises(IndexError, match="jobs"):
        jobs[position]
    with pytest.raises(IndexError, match="jobs"):
        jobs.at(position)


def test_slices_are_those_of_a_list(jobs: SortedSet[str]) -> None:
    bounds = [None, 0, 1, 2, 3, 7, -1, -2, -3, -7, 2**70, -(2**70)]
    for start, stop in itertools.product(bounds, bounds):
        expected = ["a", "b", "c"][start:stop]

        assert jobs[start:stop] == expected
        assert jobs.slice(start, stop) == expected


def test_a_slice_of_an_empty_set_is_empty(empty: SortedSet[str]) -> None:
    assert empty[:] == empty[2:5] == empty.slice() == []


def test_reading_by_position_sees_what_is_not_due(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("later", score=2**40)

    assert jobs[0] == jobs[-1] == "later"
    assert jobs[:] == ["later"]


# Saying what it is


def test_name_is_the_name(jobs: SortedSet[str]) -> None:
    assert jobs.name == "jobs"


def test_repr_says_the_class_and_the_name(jobs: SortedSet[str], kind: str) -> None:
    assert repr(jobs).startswith(f"<{kind} name='jobs'")


def test_the_attributes_are_what_the_set_was_made_with(face: Any, kind: str) -> None:
    def scorer(job: Any) -> float:
        return 1

    jobs = getattr(face, kind)("jobs", scorer, json)

    assert (jobs.scorer, jobs.serializer) == (scorer, json)
    assert jobs.redis is face.client


# What cannot be loaded


def test_looking_at_what_cannot_be_loaded_raises_an_error_that_carries_the_bytes(
    face: Any, kind: str, raw: Any
) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {b"{\xff": 1})

    for look in jobs.peek, lambda: jobs[0], lambda: jobs[:], lambda: list(jobs):
        with pytest.raises(DeserializationError) as raised:
            look()
        assert raised.value.raw == b"{\xff"
        assert "jobs" in str(raised.value)
        assert isinstance(raised.value, RedsetError)
        assert raised.value.__cause__ is not None

    assert len(jobs) == 1, "looking removes nothing"


def test_scores_and_counts_do_not_load_anything(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {b"{": 1})

    assert jobs.peek_score() == 1
    assert len(jobs) == jobs.count(min=1) == 1


def test_nothing_that_looks_writes(jobs: Any, kind: str, raw: Any) -> None:
    before, keys = raw.dump("jobs"), raw.keys()
    jobs.peek(), jobs.peek_score(), jobs.score("a"), "a" in jobs, len(jobs), jobs.count(min=1)
    jobs[0], jobs[:], list(jobs), repr(jobs), jobs.name, len(jobs.dead_letters), list(jobs.dead_letters)
    if kind == "ScheduledSet":
        jobs.available()

    assert raw.dump("jobs") == before
    assert raw.keys() == keys
