"""Comparing: contents and never scores, with sets by operators and with any iterable by name."""

import itertools
import json
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_set_operators import OTHERS, JSONTuples, delete, filled, words

from redset import Key, SortedSet, TimeSortedSet

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

NAMED: dict[str, Callable[[set[str], set[str]], bool]] = {
    "equals": operator.eq,
    "issubset": operator.le,
    "issuperset": operator.ge,
    "isdisjoint": set.isdisjoint,
}
OPERATORS = (operator.eq, operator.ne, operator.le, operator.lt, operator.ge, operator.gt)


@pytest.fixture
def make_other(request: Any, face: Any) -> Iterator[Callable[[Any], Any]]:
    with face.another() as elsewhere:
        yield lambda items: request.param(face, elsewhere, items)


@pytest.mark.parametrize("make_other", OTHERS.values(), ids=OTHERS.keys(), indirect=True)
def test_named_comparisons_are_those_of_a_set(face: Any, make_other: Callable[[Any], Any], raw: Any) -> None:
    sides = [
        words(),
        words(0),
        words(1),
        words(0, 1),
        words(*range(1200)),
        words(*range(1100)),
        words(*range(100, 1200)),
    ]
    for ours, theirs in itertools.product(sides, sides):
        delete(raw, "jobs", "other")
        jobs = filled(face.SortedSet("jobs"), ours)
        for form, expected in NAMED.items():
            raw.delete("other")
            assert getattr(jobs, form)(make_other(theirs)) is expected(ours, theirs), (form, len(ours), len(theirs))


@settings(max_examples=15)
@given(ours=st.sets(st.integers(0, 5)), theirs=st.sets(st.integers(0, 5)))
def test_operators_compare_as_those_of_a_set(raw: Any, ours: set[int], theirs: set[int]) -> None:
    delete(raw, "jobs", "beside", "json")
    jobs = filled(SortedSet(raw, "jobs"), ours)
    others = [theirs, frozenset(theirs), dict.fromkeys(theirs).keys()]
    others.append(filled(TimeSortedSet(raw, "beside"), theirs))
    others.append(filled(SortedSet(raw, "json", serializer=json), theirs))
    for compare in OPERATORS:
        for other in others:
            assert compare(jobs, other) is compare(ours, theirs)
        assert compare(theirs, filled(SortedSet(raw, "json", serializer=json), [])) is compare(theirs, theirs)


def test_scores_do_not_count(raw: Any) -> None:
    one, other = SortedSet(raw, "one"), SortedSet(raw, "other")
    one.add("a", score=1), other.add("a", score=2)

    assert one == other
    assert not one != other  # noqa: SIM202 - this is another operator


def test_the_stored_form_counts(raw: Any) -> None:
    numbers = filled(SortedSet(raw, "numbers"), [1, 2])

    assert numbers == {1, 2} == numbers
    assert numbers == {"1", "2"} == numbers
    assert numbers == {1, "1", 2}, "these are two items here"
    assert numbers < {1, 2, 3}
    assert numbers <= {1, "1", 2}
    assert not numbers < {1, "1", 2}
    assert numbers > {1, "1"}
    assert {1} < numbers


def test_an_item_that_is_refused_makes_the_other_side_larger(face: Any) -> None:
    class Frozen(frozenset[int]):
        """What JSON cannot say, and a set can hold."""

    numbers = filled(face.SortedSet("numbers", serializer=json), [1, 2])
    refused = Frozen([1])

    for other in {1, 2, refused}, [refused, 2, 1]:
        assert not numbers.equals(other)
        assert not numbers.issuperset(other)
        assert numbers.issubset(other)
    assert not numbers.issuperset([refused])
    assert not numbers.issubset({refused})
    assert numbers.isdisjoint([refused])
    assert refused not in numbers


def test_an_item_that_is_refused_makes_the_other_side_larger_for_operators(raw: Any) -> None:
    numbers: Any = filled(SortedSet(raw, "numbers", serializer=json), [1, 2])
    refused = frozenset([1])

    assert numbers != {1, 2, refused}
    assert numbers < {1, 2, refused}
    assert not numbers > {1, refused}
    assert not numbers >= {1, refused}
    assert not numbers < {1, refused}


def test_items_that_cannot_be_hashed_can_be_compared(face: Any) -> None:
    lists = filled(face.SortedSet("lists", serializer=json), [[1], [2]])
    others = filled(face.SortedSet("others", serializer=json), [[1], [2], [3]])

    assert lists.equals([[1], [2], [1]])
    assert lists.issuperset([[1]])
    assert lists.issubset(others)
    assert not lists.isdisjoint([[2]])
    assert not lists.equals(others)


def test_keyed_sets_compare_identities(face: Any) -> None:
    rows = filled(face.SortedSet("rows", serializer=JSONTuples(), key=lambda row: row[0]), [("a", 1), ("b", 1)])

    assert rows.equals([("a", 2), ("b", 2), ("b", 3)])
    assert rows.issuperset([("a", 2), Key("b")])
    assert rows.issubset([("a", 2), ("b", 2), ("c", 2)])
    assert rows.isdisjoint([("c", 1)])
    assert not rows.equals([("a", 2), ()]), "of this the key makes nothing"


def test_what_cannot_be_loaded_is_compared_all_the_same(face: Any, raw: Any) -> None:
    raw.zadd("one", {"{": 1}), raw.zadd("other", {"{": 1})
    one, other = face.SortedSet("one", serializer=json), face.SortedSet("other", serializer=json)

    assert one.equals(other)
    assert not one.equals([1])


@pytest.mark.parametrize("other", [["a"], "a", {"a": 1}, ("a",), None, 1], ids=repr)
def test_operators_compare_with_sets_only(raw: Any, other: Any) -> None:
    jobs: Any = filled(SortedSet(raw, "jobs"), "a")

    assert (jobs == other) is (other == jobs) is False
    assert (jobs != other) is (other != jobs) is True
    for compare in OPERATORS[2:]:
        for left, right in (jobs, other), (other, jobs):
            with pytest.raises(TypeError, match="not supported between"):
                compare(left, right)


def test_a_comparison_is_left_to_the_other_side_where_it_is_no_set(raw: Any) -> None:
    class Other:
        def __gt__(self, left: Any) -> str:
            return "its own"

        def __eq__(self, left: object) -> Any:
            return "its own too"

        __hash__ = None  # type: ignore[assignment]

    jobs: Any = SortedSet(raw, "jobs")
    assert (jobs < Other()) == "its own"
    assert (jobs == Other()) == "its own too"


def test_a_set_equals_itself(face: Any) -> None:
    jobs = filled(face.SortedSet("jobs"), words(*range(1500)))

    assert jobs.equals(jobs)
    assert jobs.issubset(jobs)
    assert jobs.issuperset(jobs)
    assert not jobs.isdisjoint(jobs)


def test_asyncio_sets_are_compared_by_name_alone(raw: Any) -> None:
    """What would have to be awaited cannot be an operator, so these are as any two objects."""
    import redis.asyncio

    import redset.aio

    one: Any = redset.aio.SortedSet(redis.asyncio.Redis(), "jobs")
    other: Any = redset.aio.SortedSet(redis.asyncio.Redis(), "jobs")

    assert one == one  # noqa: PLR0124 - it is what is tested
    assert one != other
    assert SortedSet(raw, "jobs") != one
    assert len({one, other}) == 2
    with pytest.raises(TypeError):
        one < other  # noqa: B015 - it raises


def test_issuperset_stops_at_the_first_item_that_is_missing(face: Any) -> None:
    jobs = filled(face.SortedSet("jobs"), "abc")

    assert not jobs.issuperset(itertools.count())
    assert not jobs.isdisjoint(itertools.chain("a", itertools.count()))


def test_what_leaves_and_comes_meanwhile_does_not_disturb_what_stays(face: Any, raw: Any) -> None:
    """While the pages are read, items at other places come and go."""
    raw.zadd("jobs", dict.fromkeys(words(*range(0, 5000, 2)), 1))
    jobs = face.SortedSet("jobs")

    def shaken() -> Iterator[str]:
        for number, word in enumerate(sorted(words(*range(0, 5000, 2)))):
            if number % 100 == 0:
                raw.zadd("jobs", {f"{number:04}+": 1})
                raw.zrem("jobs", f"{number - 100:04}+")
            yield word

    assert jobs.issuperset(shaken())
    assert jobs.intersection(shaken()) == words(*range(0, 5000, 2))
