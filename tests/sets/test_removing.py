"""Removing: discard takes one item out, clear all of them."""

import json
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def test_discard_removes_an_item_and_says_that_it_was_there(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("write", score=1)

    assert jobs.discard("write") is True
    assert RawSet(raw, "jobs").is_empty()


def test_discard_of_what_does_not_wait_says_so(jobs: SortedSet[str]) -> None:
    jobs.add("write", score=1)

    assert jobs.discard("read") is False
    assert list(jobs) == ["write"]


def test_an_item_can_be_discarded_once(jobs: SortedSet[str]) -> None:
    jobs.add("write", score=1)

    assert [jobs.discard("write"), jobs.discard("write")] == [True, False]


def test_discard_removes_what_is_not_due_too(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("later", score=2**40)

    assert jobs.discard("later") is True


def test_discard_compares_serialized_items(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    jobs.add({"page": 1}, score=1)

    assert jobs.discard({"page": 2}) is False
    assert jobs.discard({"page": 1}) is True


def test_discard_of_what_the_serializer_refuses_raises_its_error(face: Any, kind: str) -> None:
    with pytest.raises(TypeError):
        getattr(face, kind)("jobs", serializer=json).discard({1, 2})


def test_clear_removes_everything_and_says_that_there_was_something(jobs: SortedSet[str], raw: Any) -> None:
    for item in "abc":
        jobs.add(item)

    assert jobs.clear()
    assert RawSet(raw, "jobs").is_empty()


def test_clear_of_an_empty_set_is_false(jobs: SortedSet[str]) -> None:
    assert not jobs.clear()


def test_clear_removes_the_dead_letters_too(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {b"{": 1})
    jobs.take(1)
    assert len(jobs.dead_letters) == 1

    assert jobs.clear(), "there was something, if only dead letters"
    assert len(jobs.dead_letters) == 0
    assert RawSet(raw, "jobs").is_empty()


def test_clear_leaves_other_sets_alone(face: Any, kind: str) -> None:
    jobs, others = getattr(face, kind)("jobs"), getattr(face, kind)("{jobs}")
    others.add("write", score=1)
    jobs.clear()

    assert len(others) == 1


def test_a_cleared_set_can_be_used_on(jobs: SortedSet[str]) -> None:
    jobs.add("write", score=1)
    jobs.clear()
    jobs.add("read", score=1)

    assert jobs.take(9) == ["read"]
