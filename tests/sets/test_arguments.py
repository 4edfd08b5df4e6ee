"""A wrong argument is refused by the method that is given it, before anything is asked of the driver or the server."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redset
import redset.aio
from faces import Face

WRONG: dict[str, Callable[[Any], Any]] = {
    "between": lambda jobs: jobs.between(min="low"),
    "between, limit": lambda jobs: jobs.between(limit=-1),
    "count": lambda jobs: jobs.count(max="high"),
    "remove_between": lambda jobs: jobs.remove_between(min="low"),
    "remove_slice": lambda jobs: jobs.remove_slice("a"),
    "remove_at": lambda jobs: jobs.remove_at("a"),
    "slice": lambda jobs: jobs.slice(0, "a"),
    "at": lambda jobs: jobs.at(1.5),
    "scores": lambda jobs: jobs.scores(5),
    "contains_many": lambda jobs: jobs.contains_many(5),
    "update": lambda jobs: jobs.update("ab", 5),
    "update, score": lambda jobs: jobs.update("ab", score="high"),
    "union": lambda jobs: jobs.union("ab", 5),
    "intersection": lambda jobs: jobs.intersection(5),
    "difference": lambda jobs: jobs.difference(5),
    "symmetric_difference": lambda jobs: jobs.symmetric_difference(5),
    "isdisjoint": lambda jobs: jobs.isdisjoint(5),
    "issubset": lambda jobs: jobs.issubset(5),
    "issuperset": lambda jobs: jobs.issuperset(5),
    "union_update": lambda jobs: jobs.union_update("ab", 5),
    "intersection_update": lambda jobs: jobs.intersection_update(5),
    "difference_update": lambda jobs: jobs.difference_update(5),
    "symmetric_difference_update": lambda jobs: jobs.symmetric_difference_update(5),
    "dead letters": lambda jobs: jobs.dead_letters.slice("a"),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_refused_at_once(face: Face, call: Callable[[Any], Any], raw: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call(face.SortedSet("jobs"))

    assert "drivers.py" not in {Path(str(entry.path)).name for entry in caught.traceback}
    assert raw.dbsize() == 0


#: Each kind of set, and what its constructor needs besides a client and a name.
KINDS = {"SortedSet": (), "TimeSortedSet": (), "ScheduledSet": (), "PeriodicSet": (60,), "ExpiringSet": (60,)}


@pytest.mark.parametrize("name", KINDS)
def test_a_parameter_that_the_constructor_does_not_have_is_named(face: Face, name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) .*'max_attempt'"):
        getattr(face, name)("jobs", *KINDS[name], max_attempt=3)
    with pytest.raises(TypeError, match="'name'"):
        getattr(face, name)()


def test_a_parameter_of_another_kind_of_set_is_refused(face: Face) -> None:
    with pytest.raises(TypeError, match=r"PeriodicSet\(\) .*'remember'"):
        face.PeriodicSet("jobs", 60, remember=5)
    with pytest.raises(TypeError, match=r"ExpiringSet\(\) .*'max_attempts'"):
        face.ExpiringSet("jobs", 60, max_attempts=5)


@pytest.mark.parametrize("module", [redset, redset.aio])
@pytest.mark.parametrize("name", KINDS)
def test_a_signature_has_each_parameter_with_its_default(module: Any, name: str) -> None:
    parameters = inspect.signature(getattr(module, name)).parameters.values()
    assert {one.kind for one in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    keywords = {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords["retry_safe"] is True
    assert keywords["connections"] == "own"
    assert inspect.Parameter.empty not in keywords.values()
