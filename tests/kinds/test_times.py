"""Moments may be aware datetimes, and durations timedeltas, wherever a number of seconds may stand."""

import math
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from numbers import Integral
from types import SimpleNamespace
from typing import Any

import pytest

from redset.core.times import moment, seconds
from redset.locks import AsyncLock, Lock

conformance = pytest.mark.conformance

EAST = timezone(timedelta(hours=5, minutes=30))
NEW_YEAR = datetime(2100, 1, 1, 0, 0, 0, 123456, tzinfo=EAST)
AT = NEW_YEAR.timestamp()
HOUR = timedelta(hours=1)


@conformance
def test_a_score_may_be_an_aware_datetime(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs")

    assert jobs.add("a", NEW_YEAR) == AT
    assert jobs.update(["b"], score=NEW_YEAR + HOUR) == 1
    assert jobs.update(["c", "d"], score=lambda item: NEW_YEAR - HOUR if item == "c" else AT) == 2
    assert jobs.scores("abcd") == [AT, AT + 3600, AT - 3600, AT]


@conformance
def test_a_scorer_may_return_a_datetime(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", lambda item: NEW_YEAR)
    jobs.add("a"), jobs.update("bc")

    assert jobs.scores("abc") == [AT, AT, AT]


@conformance
def test_ranges_of_scores_may_be_of_datetimes(face: Any) -> None:
    jobs = face.TimeSortedSet("jobs")
    jobs.update("abc", score=lambda item: AT + 3600 * "abc".index(item))

    assert jobs.count(min=NEW_YEAR + HOUR) == 2
    assert list(jobs.between(NEW_YEAR, NEW_YEAR + HOUR, inclusive=(False, True))) == ["b"]
    assert jobs.remove_between(max=NEW_YEAR) == 1


@conformance
def test_a_score_is_moved_by_a_timedelta(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a", NEW_YEAR)

    assert jobs.increment("a", HOUR) == AT + 3600
    assert jobs.increment("a", -HOUR) == AT
    with pytest.raises(TypeError, match="by must be a number of seconds or a timedelta, not"):
        jobs.increment("a", NEW_YEAR)


@conformance
def test_waits_and_leases_may_be_timedeltas(face: Any) -> None:
    jobs = face.SortedSet("jobs", remember=HOUR, backoff=lambda attempt: HOUR, lock_expires=HOUR, lock_timeout=HOUR)
    jobs.update("abc")

    assert jobs.pop(wait=timedelta(seconds=1)) == "a"
    assert jobs.is_done("a")
    reservation = jobs.reserve(lease=HOUR, wait=timedelta(0))
    assert 3590 < reservation.deadline - time.time() < 3610
    reservation.extend(2 * HOUR)
    assert 7190 < reservation.deadline - time.time() < 7210
    reservation.nack()
    (other,) = jobs.reserve_many(5, HOUR, HOUR)
    assert jobs.again([other], HOUR, NEW_YEAR) == []
    assert jobs.stats().delayed == 2
    assert list(jobs.consume(HOUR, 1, timedelta(0), None, HOUR)) == []


@conformance
def test_a_periodic_set_takes_both(face: Any) -> None:
    feeds = face.PeriodicSet("feeds", HOUR, jitter=timedelta(0))
    feeds.add("a", first=NEW_YEAR), feeds.add("b", interval=2 * HOUR, first=AT)
    feeds.update(["c"], interval=lambda item: 3 * HOUR, first=lambda item: NEW_YEAR)

    assert [feeds.next_due(item) for item in "abc"] == [AT, AT, AT]
    assert [feeds.interval(item) for item in "abc"] == [3600, 7200, 10800]


@conformance
def test_first_ticks_by_a_scorer_are_spread_when_they_are_datetimes(face: Any) -> None:
    feeds = face.PeriodicSet("feeds", HOUR, lambda feed: NEW_YEAR, jitter=HOUR)
    feeds.add("a")

    assert AT <= feeds.next_due("a") <= AT + 3600


@conformance
def test_a_time_to_live_may_be_a_timedelta(face: Any) -> None:
    seen = face.ExpiringSet("seen", HOUR)
    seen.add("a"), seen.add("b", ttl=2 * HOUR), seen.add_new(["c"], 3 * HOUR)

    assert [round(seen.ttl(item) / 3600) for item in "abc"] == [1, 2, 3]
    assert seen.touch("a", 4 * HOUR)
    assert round(seen.ttl("a") / 3600) == 4


@pytest.mark.parametrize("kind_of_lock", [Lock, AsyncLock])
def test_a_lock_takes_timedeltas(face: Any, here: Any, kind_of_lock: type) -> None:
    lock = kind_of_lock(here.client(awaited=kind_of_lock is AsyncLock), "lock", HOUR, timedelta(0), HOUR)

    assert (lock.expires, lock.timeout, lock.poll_interval) == (3600, 0, 3600)
    for name in "expires", "timeout", "poll_interval":
        for value, error in [("soon", TypeError), (-1, ValueError), (math.nan, ValueError), (-HOUR, ValueError)]:
            with pytest.raises(error, match=name):
                kind_of_lock(lock.redis, "lock", **{name: value})


NAIVE = datetime(2100, 1, 1)  # noqa: DTZ001 # that it is naive is the point

OF_MOMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda jobs, when: jobs.add("x", when),
    "update": lambda jobs, when: jobs.update("x", score=when),
    "update by a callable": lambda jobs, when: jobs.update("x", score=lambda item: when),
    "count": lambda jobs, when: jobs.count(min=when),
    "between": lambda jobs, when: jobs.between(max=when),
    "remove_between": lambda jobs, when: jobs.remove_between(min=when),
}


@pytest.mark.parametrize("call", OF_MOMENTS.values(), ids=OF_MOMENTS)
def test_a_naive_datetime_is_refused(face: Any, raw: Any, call: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(ValueError, match="must be an aware datetime"):
        call(face.SortedSet("jobs"), NAIVE)
    with pytest.raises(TypeError, match="an aware datetime, not"):
        call(face.SortedSet("jobs"), HOUR)
    with pytest.raises(TypeError, match="an aware datetime, not"):
        call(face.SortedSet("jobs"), date(2100, 1, 1))
    assert raw.dbsize() == 0


def test_durations_and_moments_are_read_in_one_place() -> None:
    assert [seconds(value, "x") for value in (1, 1.5, timedelta(milliseconds=1500))] == [1.0, 1.5, 1.5]
    assert [moment(value, "x") for value in (1, 1.5, NEW_YEAR, math.inf)] == [1.0, 1.5, AT, math.inf]
    all_refuse(
        seconds, ["1", None, NEW_YEAR, NAIVE, 1j, True], TypeError, "x must be a number of seconds or a timedelta, not"
    )
    all_refuse(
        seconds, [-1, math.nan, math.inf, 10**400, -HOUR], ValueError, "x must be at least 0 seconds and finite, not"
    )
    all_refuse(moment, ["1", None, HOUR, 1j], TypeError, "x must be a number of seconds since the epoch or an aware")
    all_refuse(moment, [math.nan, 10**400], ValueError, "x must be a number of seconds since the epoch, not")


class DurationOfNumpy:
    """Like ``numpy.timedelta64``, which is registered as an integer, and as a float is a number of any unit."""

    dtype = SimpleNamespace(kind="m")

    def __float__(self) -> float:
        return 5.0


Integral.register(DurationOfNumpy)


def test_a_duration_of_numpy_is_no_number_of_seconds(face: Any, raw: Any) -> None:
    wrong: Any = DurationOfNumpy()
    all_refuse(seconds, [wrong], TypeError, "x must be a number of seconds or a timedelta, not <")
    all_refuse(moment, [wrong], TypeError, "x must be a number of seconds since the epoch or an aware datetime, not <")
    calls: tuple[Callable[[Any], Any], ...] = (
        lambda jobs: jobs.add("x", wrong),
        lambda jobs: jobs.add("x", delay=wrong),
        lambda jobs: jobs.increment("x", wrong),
        lambda jobs: jobs.pause(wrong),
        lambda jobs: jobs.limit(maxsize=wrong),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r" must be .*, not <"):
            call(face.ScheduledSet("jobs"))
    assert raw.dbsize() == 0


def test_a_bound_that_is_no_score_is_named(face: Any) -> None:
    for name in "min", "max":
        with pytest.raises(ValueError, match=f"^{name} must be an aware datetime"):
            face.SortedSet("jobs").count(**{name: NAIVE})
        with pytest.raises(ValueError, match=f"^{name} is not a number: nan"):
            face.SortedSet("jobs").count(**{name: math.nan})
    with pytest.raises(TypeError, match=r"^the score of all items must be"):
        face.SortedSet("jobs").update("x", score="1")


def all_refuse(read: Callable[..., float], values: list[Any], error: type[Exception], message: str) -> None:
    for value in values:
        with pytest.raises(error, match=message):
            read(value, "x")
