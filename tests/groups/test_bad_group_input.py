"""Bad input about groups: an error that names the parameter, the value and what is allowed, before anything is sent."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from redset import Limit

NAIVE = datetime(2100, 1, 1)  # noqa: DTZ001 # that it is naive is the point

#: What is wrong: the call, the error, and what the message says.
Case = tuple[Callable[[Any, Any], Any], Any, Any, list[str]]


def made(face: Any, **options: Any) -> Any:
    return face.SortedSet("jobs", **options)


def grouped(face: Any) -> Any:
    return made(face, group=lambda item: item[0])


def parameter(name: str) -> Callable[[Any, Any], Any]:
    return lambda face, value: made(face, **{"group": str, name: value})


def each(call: Callable[[Any, Any], Any], error: Any, words: list[str], *values: Any) -> list[Case]:
    return [(call, value, error, words) for value in values]


CASES: list[Case] = [
    *each(parameter("group"), TypeError, ["group", "callable"], "a", b"a", 1, [], 0.5),
    *each(parameter("per_group"), TypeError, ["per_group", "redset.Limit"], 1, "1", (1, 2), {"leases": 1}, 0.5),
    *each(
        parameter("turns"),
        ValueError,
        ["turns", "'score'", "'fair'"],
        "",
        "Fair",
        "random",
        None,
        1,
        b"fair",
        ["fair"],
        math.nan,
    ),
    *each(
        lambda face, value: Limit(leases=value),
        TypeError,
        ["leases", "int"],
        "1",
        0.5,
        b"1",
        [],
        math.nan,
        math.inf,
        timedelta(1),
    ),
    *each(lambda face, value: Limit(leases=value), ValueError, ["leases"], 0, -1, -(10**400)),
    *each(
        lambda face, value: Limit(pause=value),
        TypeError,
        ["pause", "timedelta"],
        "1",
        b"1",
        [],
        1j,
        NAIVE,
    ),
    *each(
        lambda face, value: Limit(pause=value),
        ValueError,
        ["pause", "more than 0"],
        0,
        0.0,
        -1,
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        timedelta(0),
        timedelta(-1),
    ),
    *each(
        lambda face, value: grouped(face).group("a").limit(leases=value),
        TypeError,
        ["leases", "int"],
        "1",
        0.5,
        b"1",
        [],
        math.nan,
    ),
    *each(lambda face, value: grouped(face).group("a").limit(leases=value), ValueError, ["leases"], 0, -1),
    *each(
        lambda face, value: grouped(face).group("a").limit(pause=value),
        ValueError,
        ["pause", "more than 0"],
        0,
        -1,
        math.nan,
        math.inf,
        timedelta(0),
    ),
    *each(lambda face, value: grouped(face).group("a").pause(value), TypeError, ["until"], "1", b"1", [], timedelta(1)),
    *each(
        lambda face, value: grouped(face).group("a").pause(value),
        ValueError,
        ["until"],
        math.nan,
        math.inf,
        NAIVE,
    ),
    *each(lambda face, value: grouped(face).group(value), TypeError, ["name of a group"], None),
    *each(
        lambda face, value: grouped(face).group(value),
        ValueError,
        ["name of a group", "1 to 65,535 bytes"],
        "",
        b"",
        "a" * 65_536,
    ),
    *each(
        lambda face, value: grouped(face).groups(limit=value), (TypeError, ValueError), ["limit"], 0, -1, "1", None, 0.5
    ),
    (lambda face, value: made(face, per_group=value), Limit(leases=1), ValueError, ["per_group", "group", "leases=1"]),
    (lambda face, value: Limit(), None, ValueError, ["leases or a pause"]),
    (lambda face, value: made(face, turns=value), "fair", ValueError, ["turns", "group", "'fair'"]),
    (lambda face, value: face.ExpiringSet("x", 60, group=value), str, TypeError, ["group"]),
    (lambda face, value: face.PeriodicSet("x", 60, per_group=value), Limit(leases=1), TypeError, ["per_group"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[3][0]} {case[1]!r:.20}")
def test_it_is_refused(face: Any, raw: Any, case: Case) -> None:
    call, value, error, words = case
    with pytest.raises(error) as caught:
        call(face, value)
    said = str(caught.value)
    for word in words:
        assert word in said
    if (
        value not in (None, "", b"")
        and "unexpected keyword" not in said
        and len(repr(value)) < 30
        and not callable(value)
    ):
        assert repr(value) in said or str(value) in said, said
    assert raw.keys() == []


def test_the_largest_and_the_smallest(face: Any) -> None:
    for limit in (Limit(leases=10**9), Limit(pause=1e-6), Limit(pause=timedelta(days=10_000))):
        jobs = made(face, group=lambda item: item[0], per_group=limit)
        jobs.update(["a1", "b1"])
        assert sorted(jobs.take(5)) == ["a1", "b1"]
        jobs.group("a").limit()
        jobs.group("b").resume()
