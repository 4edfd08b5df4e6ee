"""``priority_then_time``: by priority, and first in, first out within one."""

import json
import math
import time
from fractions import Fraction
from functools import partial
from numbers import Integral
from typing import Any

import pytest

from redset import priority_then_time
from redset.scorers import PRIORITIES, SPAN

conformance = pytest.mark.conformance

#: Milliseconds since the epoch in the years 2020, 2100 and 2500.
MOMENTS = (1_577_836_800_000, 4_102_444_800_000, 16_725_225_600_000)


@pytest.fixture
def clock_of_client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the client's clock, in milliseconds since the epoch."""
    return lambda now: monkeypatch.setattr(time, "time_ns", lambda: now * 1_000_000 + 999_999)


def first_of(number: int, _: str) -> int:
    return number


@conformance
def test_items_are_claimed_by_priority_and_then_in_the_order_of_their_addition(face: Any, clock_of_client: Any) -> None:
    jobs = face.SortedSet("jobs", scorer=priority_then_time(lambda job: job[0]), serializer=json)
    added = [(1, "z"), (0, "z"), (499, "a"), (1, "a"), (0, "a"), (499, "b"), (1, "m")]
    for number, job in enumerate(added):
        clock_of_client(MOMENTS[0] + number)
        jobs.add(job)

    assert jobs.take(10) == [[0, "z"], [0, "a"], [1, "z"], [1, "a"], [1, "m"], [499, "a"], [499, "b"]]


@conformance
@pytest.mark.parametrize("now", MOMENTS)
@pytest.mark.parametrize("priority", [0, 1, 250, 498, 499])
def test_a_millisecond_makes_a_difference_at_any_priority(
    face: Any, clock_of_client: Any, priority: int, now: int
) -> None:
    jobs = face.SortedSet("jobs", scorer=priority_then_time(lambda job: priority))
    for job, moment in ("c", now - 1), ("b", now), ("a", now + 1):
        clock_of_client(moment)
        jobs.add(job)

    assert jobs.scores("cba") == [priority * SPAN + moment for moment in (now - 1, now, now + 1)]
    assert jobs.take(3) == ["c", "b", "a"]


def test_every_priority_is_exact_until_the_year_2500(clock_of_client: Any) -> None:
    for now in MOMENTS:
        clock_of_client(now)
        for priority in range(PRIORITIES):
            assert int(priority_then_time(partial(first_of, priority))("x")) == priority * SPAN + now
    assert max(MOMENTS) < SPAN
    assert PRIORITIES * SPAN <= 2**53


@pytest.mark.parametrize("wrong", [-1, 500, 1.0, 1.5, math.nan, math.inf, 10**30, Fraction(1, 2)])
def test_another_priority_is_refused_by_name(face: Any, raw: Any, wrong: Any) -> None:
    jobs = face.SortedSet("jobs", scorer=priority_then_time(lambda job: wrong))
    for add in (jobs.add, lambda job: jobs.update([job])):
        with pytest.raises(ValueError) as caught:
            add("read")
        assert str(caught.value) == f"the priority of 'read' must be an int from 0 to 499, not {wrong!r}"
    assert raw.dbsize() == 0


class Narrow:
    """An int of another library, such as numpy's, that wraps around."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number

    def __mul__(self, other: int) -> "Narrow":
        return Narrow(self.number * other % 256)


Integral.register(Narrow)


def test_the_ints_of_other_libraries_are_priorities(clock_of_client: Any) -> None:
    clock_of_client(MOMENTS[0])
    assert priority_then_time(lambda job: Narrow(7))("x") == 7 * SPAN + MOMENTS[0]  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("wrong", [None, "1", b"1", [1], 1j])
def test_a_priority_that_is_no_number_is_refused_by_name(face: Any, raw: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="the priority of 'read' must be an int from 0 to 499, not"):
        face.SortedSet("jobs", scorer=priority_then_time(lambda job: wrong)).add("read")
    with pytest.raises(TypeError, match="priority must be a callable that takes an item, not"):
        priority_then_time(wrong)
    assert raw.dbsize() == 0


@conformance
def test_an_item_added_again_moves_as_duplicates_say(face: Any, clock_of_client: Any) -> None:
    priorities = {"a": 5, "b": 5}
    for duplicates, order in ("update", ["b", "a"]), ("keep", ["a", "b"]), ("earliest", ["a", "b"]):
        jobs = face.SortedSet(duplicates, scorer=priority_then_time(priorities.__getitem__), duplicates=duplicates)
        for number, job in enumerate("aba"):
            clock_of_client(MOMENTS[0] + number)
            jobs.add(job)
        assert jobs.take(2) == order, duplicates
