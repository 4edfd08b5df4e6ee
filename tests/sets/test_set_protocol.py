"""A synchronous set is a MutableSet, and honest about what it is not: hashable, picklable, in memory."""

import copy
import json
import pickle
from collections.abc import Collection, MutableSet
from collections.abc import Set as AbstractSet
from typing import Any

import pytest
import redis.asyncio

import redset.aio
from redset import SortedSet

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(raw: Any, kind: str) -> Any:
    made = getattr(redset, kind)(raw, "jobs")
    made.update("abc", score=1)
    return made


def test_it_is_a_mutable_set(jobs: Any) -> None:
    for abstract in MutableSet, AbstractSet, Collection:
        assert isinstance(jobs, abstract)


def test_an_asyncio_set_is_none() -> None:
    """Nothing that a set must have can be awaited."""
    assert not isinstance(redset.aio.SortedSet(redis.asyncio.Redis(), "jobs"), Collection)


def test_all_that_a_mutable_set_must_have_is_there(jobs: Any) -> None:
    own = {name for abstract in (AbstractSet, MutableSet) for name in vars(abstract) if callable(vars(abstract)[name])}
    for name in own - {"_hash"}:
        assert getattr(type(jobs), name) is not getattr(MutableSet, name), (
            f"{name} takes a round trip for each item there"
        )


def test_it_cannot_be_hashed(jobs: Any) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(jobs)


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda send: send.__name__)
def test_it_can_be_neither_pickled_nor_copied(raw: Any, send: Any) -> None:
    for jobs in SortedSet(raw, "jobs"), redset.aio.SortedSet(redis.asyncio.Redis(), "jobs"):
        with pytest.raises(TypeError, match=r"'jobs' cannot be pickled or copied.*name"):
            send(jobs)


def test_code_for_mutable_sets_works(jobs: Any) -> None:
    """The mixin methods of MutableSet, called on it as if it had none of its own."""
    MutableSet.__ior__(jobs, {"d"})
    MutableSet.__isub__(jobs, {"a"})
    assert AbstractSet.__and__(jobs, {"b", "x"}) == {"b"}
    assert type(AbstractSet.__or__(jobs, {"x"})) is set
    MutableSet.remove(jobs, "b")

    assert set(jobs) == {"c", "d"}


def test_what_the_serializer_refuses_is_not_in_it(face: Any) -> None:
    numbers = face.SortedSet("numbers", serializer=json)
    numbers.add(1)

    assert {1} not in numbers
    assert numbers.contains_many([{1}, 1]) == [False, True]


def test_sets_and_dicts_take_it_as_they_take_any_iterable(jobs: Any) -> None:
    assert set(jobs) == set("abc")
    assert {"a", "x"}.union(jobs) == set("abcx")
    assert {"a", "x"}.isdisjoint(jobs) is False
    assert sorted(jobs) == list("abc")
    assert dict.fromkeys(jobs, 0) == {"a": 0, "b": 0, "c": 0}
