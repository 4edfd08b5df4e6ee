"""Bad input: an error that names the parameter, the value and what is allowed, before anything is sent."""

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import pytest

from faces import Face
from redset import Limit, priority_then_time
from redset.locks import AsyncLock, Lock

NAIVE = datetime(2100, 1, 1)  # noqa: DTZ001 # that it is naive is the point
BEFORE = timedelta(seconds=-1)
HUGE = 10**400

#: A value, the error, and a part of what the message says is allowed.
Wrong: TypeAlias = tuple[Any, type[Exception], str]


def each(error: type[Exception], allowed: str, *values: Any) -> list[Wrong]:
    return [(value, error, allowed) for value in values]


NO_DURATIONS = [
    *each(TypeError, "a number of seconds or a timedelta", "1", b"1", [], 1j, NAIVE, True, False),  # noqa: FBT003 # a bool is the point
    *each(ValueError, "at least 0", -1, -math.inf, math.inf, math.nan, HUGE, BEFORE),
]
NO_CALLABLES = each(TypeError, "a callable that takes", 5, "str", [len], math.nan, HUGE)
NO_COUNTS = [
    *each(TypeError, "an int or None", "1", 1.5, [], math.nan, True, False),  # noqa: FBT003 # a bool is the point
    *each(ValueError, "at least 1", 0, -1, -HUGE),
]
NO_LENGTHS = [
    *((value, error, allowed.replace("at least", "more than")) for value, error, allowed in NO_DURATIONS),
    *each(ValueError, "more than 0", 0, 0.0, timedelta(0), Fraction(0)),
]
NO_SCORES = [
    *each(TypeError, "aware datetime", "1", b"1", [], 1j, BEFORE, True, False),  # noqa: FBT003 # a bool is the point
    *each(ValueError, "number|too large", math.nan, HUGE),
    *each(ValueError, "aware datetime", NAIVE),
]


class Parameter(NamedTuple):
    """A parameter, a call that is given it, and what it may not be."""

    name: str
    call: Callable[[Face, Any], Any]
    wrong: list[Wrong]


def sets(face: Face) -> tuple[Any, Any, Any, Any]:
    """A set of each kind, whose calls would be noticed."""
    quiet = {"connections": "client"}
    return (
        face.SortedSet("jobs", **quiet),
        face.ScheduledSet("mails", **quiet),
        face.PeriodicSet("feeds", 60, **quiet),
        face.ExpiringSet("seen", 60, **quiet),
    )


PARAMETERS = [
    # Those of constructors
    Parameter("poll", lambda face, value: face.SortedSet("x", poll=value), NO_LENGTHS),
    Parameter(
        "poll", lambda face, value: face.PeriodicSet("x", 60, poll=value), each(ValueError, "at most 3600", 3601)
    ),
    Parameter("poll", lambda face, value: face.SortedSet("x", poll=value), each(TypeError, "timedelta", None)),
    Parameter("remember", lambda face, value: face.SortedSet("x", remember=value), NO_LENGTHS),
    Parameter("interval", lambda face, value: face.PeriodicSet("x", value), NO_LENGTHS),
    Parameter("scorer", lambda face, value: face.SortedSet("x", value), NO_CALLABLES),
    Parameter("key", lambda face, value: face.SortedSet("x", key=value), NO_CALLABLES),
    Parameter("backoff", lambda face, value: face.SortedSet("x", backoff=value), NO_CALLABLES),
    Parameter("max_attempts", lambda face, value: face.SortedSet("x", max_attempts=value), NO_COUNTS),
    Parameter("max_dead", lambda face, value: face.PeriodicSet("x", 60, max_dead=value), NO_COUNTS),
    Parameter("jitter", lambda face, value: face.PeriodicSet("x", 60, jitter=value), NO_DURATIONS),
    Parameter("ttl", lambda face, value: face.ExpiringSet("x", value), NO_LENGTHS),
    Parameter(
        "while_leased",
        lambda face, value: face.SortedSet("x", while_leased=value),
        each(ValueError, "'park' or 'drop'", "keep", "", None, 0, math.nan, HUGE, ["park"]),
    ),
    # Durations
    Parameter("delay", lambda face, value: sets(face)[1].add("a", delay=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].pop(wait=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].take(1, wait=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].take(2, wait=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].take_max(2, wait=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].reserve(wait=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].reserve_many(2, wait=value), NO_DURATIONS),
    Parameter("wait", lambda face, value: sets(face)[0].consume(wait=value), NO_DURATIONS),
    Parameter("max_outage", lambda face, value: sets(face)[0].consume(max_outage=value), NO_DURATIONS),
    Parameter("lease", lambda face, value: sets(face)[0].reserve(lease=value), NO_LENGTHS),
    Parameter("lease", lambda face, value: sets(face)[0].reserve_many(1, value), NO_LENGTHS),
    Parameter("lease", lambda face, value: sets(face)[0].consume(value), NO_LENGTHS),
    Parameter("lease", lambda face, value: sets(face)[0].extend([], value), NO_LENGTHS),
    Parameter("delay", lambda face, value: sets(face)[0].nack([], delay=value), NO_DURATIONS),
    Parameter("delay", lambda face, value: sets(face)[0].again([], delay=value), NO_DURATIONS),
    Parameter("interval", lambda face, value: sets(face)[2].add("a", value), NO_LENGTHS),
    Parameter("interval", lambda face, value: sets(face)[2].update("a", interval=value), NO_LENGTHS),
    Parameter("ttl", lambda face, value: sets(face)[3].add("a", value), NO_LENGTHS),
    Parameter("ttl", lambda face, value: sets(face)[3].add_new("a", value), NO_LENGTHS),
    Parameter("ttl", lambda face, value: sets(face)[3].touch("a", value), NO_LENGTHS),
    # Moments
    Parameter("when", lambda face, value: sets(face)[2].reschedule("a", value), NO_SCORES),
    Parameter("when", lambda face, value: sets(face)[2].reschedule("a", value), each(TypeError, "datetime", None)),
    Parameter("score", lambda face, value: sets(face)[0].add("a", value), NO_SCORES),
    Parameter("score", lambda face, value: sets(face)[0].update("a", score=value), NO_SCORES),
    Parameter("until", lambda face, value: sets(face)[0].pause(value), NO_SCORES),
    Parameter("by", lambda face, value: sets(face)[0].increment("a", value), NO_DURATIONS[:7]),
    Parameter("first", lambda face, value: sets(face)[2].add("a", first=value), NO_SCORES),
    Parameter("first", lambda face, value: sets(face)[2].update("a", first=value), NO_SCORES),
    Parameter("min", lambda face, value: sets(face)[0].count(min=value), NO_SCORES),
    Parameter("max", lambda face, value: sets(face)[0].remove_between(max=value), NO_SCORES),
    # Others
    Parameter(
        "force",
        lambda face, value: sets(face)[0].add("a", force=value),
        each(TypeError, "True or False", "yes", "", None, 0, 1, math.nan, HUGE, []),
    ),
    Parameter(
        "group",
        lambda face, value: face.SortedSet("jobs", group=str).again([], group=value),
        each(TypeError, "True or False", "yes", "", None, 0, 1, math.nan, HUGE, []),
    ),
    Parameter(
        "limit",
        lambda face, value: sets(face)[0].leases(limit=value),
        each(TypeError, "an int, or None for all leases", True, False, "1", 1.5),  # noqa: FBT003 # a bool is the point
    ),
    Parameter(
        "limit",
        lambda face, value: face.SortedSet("jobs", group=str).groups(limit=value),
        each(TypeError, "limit must be an int, not", None, True, "1", 1.5)  # noqa: FBT003 # a bool is the point
        + each(ValueError, r"at most 2\*\*53, not", 0, -1, HUGE),
    ),
    Parameter(
        "leases",
        lambda face, value: face.SortedSet("jobs", group=str).group("a").limit(leases=value),
        each(ValueError, "None for the number that all groups have", 0, -1, HUGE),
    ),
    Parameter("pause", lambda face, value: Limit(pause=value), NO_LENGTHS),
    Parameter(
        "receipt",
        lambda face, value: sets(face)[0].reservation(value),
        each(TypeError, "a str", None, b"x", 5, math.nan, HUGE, [])
        + each(ValueError, "of a reservation", "", "x", "é"),
    ),
    Parameter(
        "pipeline",
        lambda face, value: sets(face)[0].add_to(value, "a"),
        each(TypeError, r"pipeline\(\) of", None, "x", 5, math.nan, [], BEFORE),
    ),
    Parameter(
        "priority",
        lambda face, value: face.SortedSet("jobs", priority_then_time(lambda job: value)).add("a"),
        each(ValueError, "from 0 to 499", -1, 500, 1.5, math.nan, math.inf, HUGE)
        + each(TypeError, "from 0 to 499", None, "1", NAIVE, BEFORE, True, False),  # noqa: FBT003 # a bool is the point
    ),
]
CASES = [
    pytest.param(one, *wrong, id=f"{one.name}-{number}-{position}")
    for number, one in enumerate(PARAMETERS)
    for position, wrong in enumerate(one.wrong)
]


@pytest.mark.parametrize(("parameter", "value", "error", "allowed"), CASES)
def test_bad_input_is_refused_before_anything_is_sent(
    face: Face,
    monkeypatch: pytest.MonkeyPatch,
    parameter: Parameter,
    value: Any,
    error: type[Exception],
    allowed: str,
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(face.client, "execute_command", lambda *words, **options: sent.append(words))

    with pytest.raises(error) as caught:
        parameter.call(face, value)

    message = str(caught.value)
    assert parameter.name in message
    assert re.search(allowed, message), message
    assert repr(value) in message
    assert sent == []


class OverShards:
    """A face that makes sets over shards."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self._face, name), shards=4)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda one: one.name)
def test_bad_input_changes_nothing_over_shards(face: Face, raw: Any, parameter: Parameter) -> None:
    over_shards: Any = OverShards(face)
    for one in sets(over_shards):
        for item in "abcdefgh":
            one.add(item)
    before = {key: raw.dump(key) for key in raw.scan_iter()}
    for value, error, _ in parameter.wrong:
        with pytest.raises(error, match=parameter.name):
            parameter.call(over_shards, value)
    assert {key: raw.dump(key) for key in raw.scan_iter()} == before


@pytest.mark.parametrize(
    ("call", "keyword"),
    [
        (lambda face: sets(face)[0].add("a", delay=5), "delay"),
        (lambda face: sets(face)[2].add("a", delay=5), "delay"),
        (lambda face: sets(face)[2].add("a", force=True), "force"),
        (lambda face: sets(face)[3].add("a", force=True), "force"),
        (lambda face: sets(face)[1].add_to(face.client.pipeline(), "a", first=5), "first"),
        (lambda face: sets(face)[2].add_to(face.client.pipeline(), "a", score=5), "score"),
        (lambda face: face.PeriodicSet("x", 60, while_leased="drop"), "while_leased"),
        (lambda face: face.ExpiringSet("x", 60, poll=5), "poll"),
        (lambda face: face.ExpiringSet("x", 60, while_leased="drop"), "while_leased"),
    ],
)
def test_a_keyword_of_another_kind_of_set_is_refused(
    face: Face, raw: Any, call: Callable[[Face], Any], keyword: str
) -> None:
    with pytest.raises(TypeError, match=f"'{keyword}'"):
        call(face)
    assert raw.dbsize() == 0


@pytest.mark.parametrize("name", ["expires", "timeout", "poll_interval"])
@pytest.mark.parametrize("kind", [Lock, AsyncLock])
@pytest.mark.parametrize(("value", "error", "allowed"), NO_DURATIONS)
def test_a_lock_refuses_what_is_no_duration(
    here: Any, name: str, kind: type, value: Any, error: type[Exception], allowed: str
) -> None:
    if not value and name != "timeout":
        pytest.skip("0 and nothing are the default")
    with pytest.raises(error, match=f"{name} must be {allowed}"):
        kind(here.client(awaited=kind is AsyncLock), "lock", **{name: value})


@pytest.mark.parametrize("huge", [1e300, 10**300, timedelta.max])
def test_what_is_huge_and_finite_is_as_far_away_as_it_says(face: Face, huge: Any) -> None:
    mails, feeds = sets(face)[1:3]
    feeds.add("a")
    assert mails.add("a", delay=huge) > 10**10
    if not isinstance(huge, timedelta):
        feeds.reschedule("a", huge)
        assert feeds.next_due("a") == float(huge)
    assert mails.take(10) == []
