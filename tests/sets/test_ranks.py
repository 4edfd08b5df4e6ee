"""Positions: looking one up, and removing by them, against a list."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariants import KeyedRawSet
from redset import Key, SortedSet

pytestmark = pytest.mark.conformance

MANY = 2345
BOUNDS = [None, 0, 1, 2, 3, 7, -1, -2, -3, -7, 100, -100, 2**70, -(2**70)]


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    """A set with a, b and c, scored 1, 2 and 3."""
    jobs = getattr(face, kind)("jobs")
    for item, score in ("c", 3), ("a", 1), ("b", 2):
        jobs.add(item, score=score)
    return jobs


def test_index_is_the_position(jobs: Any) -> None:
    assert [jobs.index(item) for item in ("a", "b", "c", Key("b"))] == [0, 1, 2, 1]
    assert jobs[jobs.index("b")] == "b"


def test_the_index_of_what_is_not_there_is_a_value_error_that_names_it(jobs: Any) -> None:
    jobs.discard("b")

    with pytest.raises(ValueError, match=r"'b'.*'jobs'"):
        jobs.index("b")


@pytest.mark.parametrize("position", [3, -4, 2**70, -(2**70)])
def test_where_there_is_nothing_to_look_at_is_an_index_error(jobs: Any, position: int) -> None:
    with pytest.raises(IndexError, match=f"'jobs'.*{position}"):
        jobs[position]


@pytest.mark.parametrize("wrong", ["1", 1.5, b"1"], ids=repr)
def test_what_is_no_position_is_a_type_error(jobs: Any, wrong: Any) -> None:
    for ask in jobs.at, jobs.remove_at, jobs.slice, jobs.remove_slice:
        with pytest.raises(TypeError):
            ask(wrong)
    assert len(jobs) == 3


def test_an_item_is_removed_or_else_a_key_error_has_it(jobs: Any) -> None:
    assert jobs.remove("b") is None
    assert list(jobs) == ["a", "c"]

    with pytest.raises(KeyError) as raised:
        jobs.remove("b")
    assert raised.value.args == ("b",)


def test_remove_ends_a_lease_as_discard_does(jobs: Any) -> None:
    jobs.reserve(lease=60)
    jobs.remove("a")

    assert jobs.stats().leased == 0


def test_an_item_is_removed_by_its_position(jobs: Any) -> None:
    assert jobs.remove_at(-1) is None
    assert jobs.remove_at(0) is None
    assert list(jobs) == ["b"]


@pytest.mark.parametrize("position", [3, -4, 10**6, -(10**6), 2**70, -(2**70)])
def test_where_there_is_nothing_to_remove_is_an_index_error(jobs: Any, position: int) -> None:
    with pytest.raises(IndexError, match=f"'jobs'.*{position}"):
        jobs.remove_at(position)
    assert len(jobs) == 3


def test_a_slice_is_removed_as_from_a_list(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    for start, stop in itertools.product(BOUNDS, BOUNDS):
        jobs.update("abcde", score=ord)
        expected = list("abcde")
        del expected[start:stop]

        assert jobs.remove_slice(start, stop) == 5 - len(expected)
        assert list(jobs) == expected


def test_del_removes(raw: Any) -> None:
    jobs = SortedSet(raw, "jobs")
    jobs.update("abcdef", score=ord)

    del jobs[0], jobs[-1], jobs[1:3]
    assert list(jobs) == ["b", "e"]
    with pytest.raises(IndexError):
        del jobs[2]
    with pytest.raises(ValueError, match="steps of 1"):
        del jobs[::2]
    del jobs[:]
    assert len(jobs) == 0


@pytest.mark.parametrize(("start", "stop"), [(None, None), (10, 2010), (-1500, -200), (5, -5), (0, 1000), (0, 1001)])
def test_more_is_removed_than_one_call_takes(face: Any, raw: Any, start: int | None, stop: int | None) -> None:
    expected = [f"{number:05}" for number in range(MANY)]
    raw.zadd("jobs", dict.fromkeys(expected, 7))
    del expected[start:stop]

    jobs = face.SortedSet("jobs")
    assert jobs.remove_slice(start, stop) == MANY - len(expected)
    assert list(jobs) == expected


@given(
    names=st.sets(st.integers(0, 99), max_size=12),
    cuts=st.lists(st.tuples(st.integers(-13, 13) | st.none(), st.integers(-13, 13) | st.none()), max_size=4),
)
def test_removing_from_a_keyed_set_leaves_no_value_behind(
    raw: Any, names: set[int], cuts: list[tuple[Any, Any]]
) -> None:
    raw.flushall()
    jobs: SortedSet[str] = SortedSet(raw, "jobs", key=lambda item: item[:2])
    model = sorted(f"{number:02} text" for number in names)
    jobs.update(model)
    for start, stop in cuts:
        del model[start:stop]
        del jobs[start:stop]
    assert list(jobs) == model
    KeyedRawSet(raw, "jobs").check(frozenset())
