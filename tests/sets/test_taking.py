"""Taking: pop and take hand items out lowest score first, and remove them."""

import json
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def add_all(jobs: Any, **scores: float) -> None:
    for item, score in scores.items():
        jobs.add(item, score=score)


# pop


def test_pop_takes_the_lowest_score_first(jobs: SortedSet[str]) -> None:
    add_all(jobs, b=2, c=3, a=1)

    assert [jobs.pop(), jobs.pop(), jobs.pop()] == ["a", "b", "c"]


def test_pop_removes_what_it_returns(jobs: SortedSet[str], raw: Any) -> None:
    add_all(jobs, a=1)
    jobs.pop()

    assert RawSet(raw, "jobs").is_empty()


def test_pop_from_an_empty_set_raises_key_error_with_its_name(jobs: SortedSet[str]) -> None:
    with pytest.raises(KeyError, match="jobs"):
        jobs.pop()


def test_equal_scores_come_in_the_order_of_their_bytes(jobs: SortedSet[Any]) -> None:
    for item in ("b", "a", "ä", "B", "", b"\xff", b"a\x00"):
        jobs.add(item, score=1)

    assert jobs.take(9) == ["", "B", "a", "a\x00", "b", "ä", b"\xff"]


@pytest.mark.parametrize("item", [0, "", [], {}, None, False, 0.0], ids=repr)
def test_items_that_are_false_are_items_like_any_other(face: Any, kind: str, item: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    jobs.add(item, score=1)
    assert jobs.pop() == item

    jobs.add(item, score=1)
    assert jobs.take(1) == [item]


def test_an_item_from_another_program_is_handed_out(jobs: SortedSet[str], raw: Any) -> None:
    raw.zadd("jobs", {"from-php": 1.5})

    assert jobs.peek_score() == 1.5
    assert jobs.pop() == "from-php"


def test_sets_of_different_names_share_nothing(face: Any, kind: str) -> None:
    one, other = getattr(face, kind)("jobs"), getattr(face, kind)("jobs2")
    one.add("write", score=1)

    assert other.take(1) == []
    assert one.pop() == "write"


def test_two_objects_of_one_name_are_the_same_set(face: Any, kind: str) -> None:
    one, other = getattr(face, kind)("jobs"), getattr(face, kind)("jobs")
    one.add("write", score=1)

    assert other.pop() == "write"
    assert len(one) == 0


# take


def test_take_returns_the_first_items_in_order_and_leaves_the_rest(jobs: SortedSet[str]) -> None:
    add_all(jobs, c=3, a=1, b=2)

    assert jobs.take(2) == ["a", "b"]
    assert list(jobs) == ["c"]


def test_take_returns_what_there_is(jobs: SortedSet[str]) -> None:
    add_all(jobs, a=1, b=2)

    assert jobs.take(10) == ["a", "b"]
    assert jobs.take(10) == []


@pytest.mark.parametrize("num", [0, -1, 0.9])
def test_take_of_less_than_one_takes_nothing(jobs: SortedSet[str], num: Any) -> None:
    add_all(jobs, a=1)

    assert jobs.take(num) == []
    assert len(jobs) == 1


@pytest.mark.parametrize("num", ["2", 2.7])
def test_take_takes_what_int_makes_of_its_argument(jobs: SortedSet[str], num: Any) -> None:
    add_all(jobs, a=1, b=2, c=3)

    assert jobs.take(num) == ["a", "b"]


@pytest.mark.parametrize("there", [999, 1000, 1001, 2000, 2345])
def test_take_takes_any_number(jobs: SortedSet[str], raw: Any, there: int) -> None:
    raw.zadd("jobs", {f"{i:04}": i for i in range(there)})

    assert jobs.take(2000) == [f"{i:04}" for i in range(min(there, 2000))]
    assert jobs.take(2000) == [f"{i:04}" for i in range(2000, there)]


def test_infinite_scores_are_at_the_ends(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("last", score=float("inf"))
    jobs.add("middle", score=0)
    jobs.add("first", score=float("-inf"))

    assert jobs.take(3) == ["first", "middle", "last"]
