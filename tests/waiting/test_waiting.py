"""Waiting: whoever waits for an item has it as soon as there is one, and asks the server for little meanwhile.

Times are measured on machines that do other things too. So three of several rounds are enough, and what is asserted
leaves room for many times what is promised. Where that would be longer than until a waiter looks by itself, a test has
it look less often than it does (`looks_seldom`).
"""

import asyncio
import contextlib
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import pytest
import redis
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

import redset
import redset.aio
from clients import close_awaited
from faces import CLIENTS, Awaited, Blocking
from redset.core import drivers
from redset.core import waiting as core_waiting
from redset.core.definition import Definition
from redset.core.keys import Keys
from redset.core.operations import Listen, Plan
from redset.core.waiting import blocking
from redset.exceptions import WrongTypeError
from servers import Place, Server, assert_soon, blocked_clients, wait_until

pytestmark = pytest.mark.no_cover

#: Seconds that a test waits for what must come.
PATIENCE = 20.0
#: How often, in seconds, a waiter looks by itself in the tests that ask for it: less than the second for which the
#: server remembers that somebody waits.
SELDOM = 0.7
#: Promised are a few milliseconds from an `add` to whoever waits.
PROMPT = 0.3
#: Promised are 20 ms from the moment something falls due.
PUNCTUAL = 0.25
#: Promised are 0.3 s until somebody who waits sees what another program added.
NOTICED = 5.0

WAKE, LOOKS = "{jobs}:wake", "{jobs}:looks"

#: Every way to wait for one item, for so many seconds; each returns the item, or raises a KeyError or a StopIteration.
WAYS: dict[str, Callable[[Any, float | None], Any]] = {
    "pop": lambda jobs, wait: jobs.pop(wait=wait),
    "take": lambda jobs, wait: only(jobs.take(1, wait=wait)),
    "reserve": lambda jobs, wait: jobs.reserve(wait=wait).item,
    "reserve_many": lambda jobs, wait: only(jobs.reserve_many(1, wait=wait)).item,
    "consume": lambda jobs, wait: next(jobs.consume(wait=wait)).item,
    "consume until stopped": lambda jobs, wait: next(jobs.consume(wait=wait, stop=lambda: False)).item,
}


def only(things: list[Any]) -> Any:
    if not things:
        raise KeyError
    (thing,) = things
    return thing


for name, retry in (("Blocking", Retry), ("Awaited", redis.asyncio.retry.Retry)):
    # On a busy machine any reply can take that long, so it tries again, which does not help who waits for too long.
    CLIENTS[f"impatient-{name}"] = ("redis", {"socket_timeout": 1.0, "retry": retry(NoBackoff(), 3)})
CLIENTS["crowd"] = ("redis", {"max_connections": 1000})


@dataclass
class Awake:
    """What a call that waited came to, and when."""

    result: Any
    at: float


@pytest.fixture
def looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not woken, or does not know when something falls due, is late by more than a busy machine is."""
    monkeypatch.setattr(Definition, "poll", property(lambda definition: SELDOM, lambda definition, value: None))


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[[Any, float | None], Any]:
    return WAYS[request.param]


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


@pytest.fixture
def in_background() -> Iterator[Callable[..., "Future[Awake]"]]:
    """Makes a call in a thread of its own; on the asyncio face all these are tasks of one event loop."""
    with ThreadPoolExecutor(200) as pool:

        def make(call: Callable[[], Any]) -> "Future[Awake]":
            return pool.submit(lambda: Awake(call(), time.time()))

        yield make


@pytest.fixture
def waiting(in_background: Any, raw: Any) -> Callable[..., "Future[Awake]"]:
    """Makes a call in the background, and returns when it waits."""

    def start(call: Callable[[], Any]) -> "Future[Awake]":
        raw.delete(LOOKS)
        future: Future[Awake] = in_background(call)
        wait_until(lambda: raw.exists(LOOKS) or future.done())
        time.sleep(0.01)
        return future

    return start


def awake(future: "Future[Awake]") -> Awake:
    return future.result(PATIENCE)


# How long


@pytest.mark.conformance
def test_who_does_not_wait_is_told_at_once_that_there_is_nothing(face: Any, way: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    started = time.monotonic()
    for _ in range(10):
        with pytest.raises((KeyError, StopIteration)):
            way(jobs, 0)

    assert time.monotonic() - started < PATIENCE / 4
    assert not raw.exists(LOOKS)


@pytest.mark.conformance
@pytest.mark.parametrize("wait", [0.0005, 0.001, 0.0015, 0.01, 0.11, 0.45])
def test_waiting_ends_when_the_time_is_over(face: Any, way: Any, wait: float) -> None:
    """Also a very short one, which Redis 6.2 would take for one without an end."""
    jobs = face.SortedSet("jobs")
    started = time.monotonic()
    with pytest.raises((KeyError, StopIteration)):
        way(jobs, wait)

    assert wait <= time.monotonic() - started < wait + PATIENCE / 4


@pytest.mark.parametrize("connections", ["own", "client"])
@pytest.mark.parametrize("beyond", [0.0001, 0.0004, 0.0006])
def test_waiting_ends_when_the_server_blocks_for_less_than_a_millisecond(
    here: Place, in_background: Any, raw: Any, beyond: float, connections: Any
) -> None:
    """A time that is rounded to 0 would block for ever."""
    jobs = redset.SortedSet(here.client(socket_timeout=None), "jobs", connections=connections)

    def listen() -> Plan[None]:
        yield Listen(
            (WAKE.encode(),),
            "any",
            core_waiting.LATENESS + beyond,
            precise=True,
            left=math.inf,
            longest=math.inf,
            should_stop=None,
        )

    future = in_background(lambda: jobs._driver.follow(listen()))
    try:
        awake(future)
    finally:
        raw.rpush(WAKE, "1")
        raw.delete(WAKE)
        jobs.redis.close()


@pytest.mark.conformance
def test_none_is_for_ever(face: Any, way: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    future = waiting(lambda: way(jobs, None))
    time.sleep(1.2)
    assert not future.done()

    jobs.add("item")

    assert awake(future).result == "item"


@pytest.mark.parametrize("wait", [-1, -0.001, math.nan, math.inf])
def test_what_is_no_length_of_time_is_refused(face: Any, way: Any, wait: float) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("item")

    with pytest.raises(ValueError, match="wait"):
        way(jobs, wait)

    assert "item" in jobs


def test_what_is_no_number_of_seconds_is_refused(face: Any, way: Any) -> None:
    with pytest.raises(TypeError, match="wait"):
        way(face.SortedSet("jobs"), "1")


@pytest.mark.conformance
def test_only_the_first_item_is_waited_for(face: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    for take in (jobs.take, jobs.reserve_many):
        future = waiting(partial(take, 5, wait=PATIENCE))
        added_at = time.time()
        jobs.add("item")

        assert len(awake(future).result) == 1
        assert awake(future).at - added_at < PATIENCE / 4
        jobs.clear()


# What wakes


@pytest.mark.conformance
@pytest.mark.usefixtures("looks_seldom")
def test_an_add_wakes_whoever_waits(jobs: Any, way: Any, waiting: Any) -> None:
    def latency() -> float:
        jobs.clear()
        future = waiting(lambda: way(jobs, PATIENCE))
        added_at = time.time()
        jobs.add("item", score=1)
        assert awake(future).result == "item"
        return awake(future).at - added_at

    assert_soon(PROMPT, latency)


def by_nack(jobs: Any, reservation: Any) -> Callable[[], Any]:
    return lambda: reservation.nack(delay=0)


def by_nack_in_a_batch(jobs: Any, reservation: Any) -> Callable[[], Any]:
    return lambda: jobs.nack([reservation], delay=0)


def by_again(jobs: Any, reservation: Any) -> Callable[[], Any]:
    return lambda: reservation.again()


def by_extend_to_an_earlier_end(jobs: Any, reservation: Any) -> Callable[[], Any]:
    return lambda: reservation.extend(0.001)


def by_ack_of_what_was_added_meanwhile(jobs: Any, reservation: Any) -> Callable[[], Any]:
    jobs.add("item", score=1)
    return lambda: reservation.ack()


def by_bury_of_what_was_added_meanwhile(jobs: Any, reservation: Any) -> Callable[[], Any]:
    jobs.add("item", score=1)
    return lambda: reservation.bury("no use")


def by_add_during_its_backoff(jobs: Any, reservation: Any) -> Callable[[], Any]:
    reservation.nack(delay=60)
    return lambda: jobs.add("item", score=1)


def by_retry(jobs: Any, reservation: Any) -> Callable[[], Any]:
    reservation.bury("no use")
    return lambda: jobs.dead_letters.retry("item")


def by_retry_all(jobs: Any, reservation: Any) -> Callable[[], Any]:
    reservation.bury("no use")
    return lambda: jobs.dead_letters.retry_all()


def by_leaving_a_loop(jobs: Any, reservation: Any) -> Callable[[], Any]:
    reservation.again()
    loop = jobs.consume()
    next(loop)
    return lambda: loop.close()


WAKE_UPS = [
    by_nack,
    by_nack_in_a_batch,
    by_again,
    by_extend_to_an_earlier_end,
    by_ack_of_what_was_added_meanwhile,
    by_bury_of_what_was_added_meanwhile,
    by_add_during_its_backoff,
    by_retry,
    by_retry_all,
    by_leaving_a_loop,
]


@pytest.mark.conformance
@pytest.mark.usefixtures("looks_seldom")
@pytest.mark.parametrize("wake_up", WAKE_UPS)
def test_whatever_brings_an_item_back_wakes_whoever_waits(face: Any, waiting: Any, wake_up: Any) -> None:
    jobs = face.SortedSet("jobs")

    def latency() -> float:
        jobs.clear()
        jobs.add("item", score=1)
        bring_back = wake_up(jobs, jobs.reserve())
        future = waiting(lambda: jobs.pop(wait=PATIENCE))
        brought_back_at = time.time()
        bring_back()
        assert awake(future).result == "item"
        return awake(future).at - brought_back_at

    assert_soon(PROMPT, latency)


def due_at_its_score(jobs: Any, seconds: float) -> float:
    return float(jobs.add("item", score=time.time() + seconds))


def due_at_the_end_of_its_lease(jobs: Any, seconds: float) -> float:
    jobs.add("item", score=1)
    return float(jobs.reserve(lease=seconds).deadline)


def due_after_an_extension(jobs: Any, seconds: float) -> float:
    jobs.add("item", score=1)
    reservation = jobs.reserve(lease=60)
    reservation.extend(seconds)
    return float(reservation.deadline)


def due_after_a_backoff(jobs: Any, seconds: float) -> float:
    jobs.add("item", score=1)
    reservation = jobs.reserve()
    nacked_at = time.time()
    reservation.nack(delay=seconds)
    return nacked_at + seconds


def due_after_a_delay(jobs: Any, seconds: float) -> float:
    jobs.add("item", score=1)
    reservation = jobs.reserve()
    given_back_at = time.time()
    reservation.again(delay=seconds)
    return given_back_at + seconds


MOMENTS = [
    due_at_its_score,
    due_at_the_end_of_its_lease,
    due_after_an_extension,
    due_after_a_backoff,
    due_after_a_delay,
]


@pytest.mark.conformance
@pytest.mark.usefixtures("looks_seldom")
@pytest.mark.parametrize("seconds", [0.03, 0.12, 0.25])
@pytest.mark.parametrize("prepare", MOMENTS)
def test_what_falls_due_is_there_at_that_moment(face: Any, prepare: Any, seconds: float) -> None:
    jobs = face.ScheduledSet("jobs")

    def lateness() -> float:
        jobs.clear()
        due_at: float = prepare(jobs, seconds)
        assert jobs.pop(wait=PATIENCE) == "item"
        return time.time() - due_at

    assert_soon(PUNCTUAL, lateness, at_least=0)


SOONER: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda jobs, reservation: jobs.add("item", score=time.time() + 0.25),
    "extend": lambda jobs, reservation: reservation.extend(0.25),
    "nack": lambda jobs, reservation: reservation.nack(delay=0.25),
    "again": lambda jobs, reservation: reservation.again(delay=0.25),
}


@pytest.mark.conformance
@pytest.mark.usefixtures("looks_seldom")
@pytest.mark.parametrize("bring_forward", SOONER)
def test_what_is_to_fall_due_sooner_than_was_known_is_there_at_that_moment(
    face: Any, waiting: Any, bring_forward: str
) -> None:
    jobs = face.ScheduledSet("jobs")

    def lateness() -> float:
        jobs.clear()
        jobs.add("held", score=1)
        reservation = jobs.reserve(lease=60)
        future = waiting(lambda: jobs.pop(wait=PATIENCE))
        before = time.time()
        SOONER[bring_forward](jobs, reservation)
        return awake(future).at - before - 0.25

    assert_soon(PUNCTUAL, lateness, at_least=0)


@pytest.mark.conformance
@pytest.mark.usefixtures("looks_seldom")
def test_consuming_goes_on_at_the_moment_something_falls_due(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    moments = [time.time() + seconds for seconds in (0.2, 0.35, 0.5, 0.75, 1.0, 1.3, 1.6)]
    for number, moment in enumerate(moments):
        jobs.add(str(number), score=moment)

    lateness = [time.time() - moments[int(reservation.item)] for reservation in jobs.consume(wait=3)]

    assert len(lateness) == len(moments)
    assert min(lateness) >= 0
    assert sorted(lateness)[2] < PUNCTUAL


@pytest.mark.conformance
def test_a_lease_that_is_shorter_than_a_poll_begins_when_the_item_is_there(face: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    future = waiting(lambda: jobs.reserve(lease=0.15, wait=PATIENCE))
    time.sleep(0.5)
    added_at = time.time()
    jobs.add("item")
    reservation = awake(future).result

    assert reservation.deadline >= added_at + 0.15
    assert jobs.pop(wait=PATIENCE) == "item"
    assert 0 <= time.time() - reservation.deadline < NOTICED


@pytest.mark.conformance
def test_what_another_program_adds_is_noticed_soon(jobs: Any, waiting: Any, raw: Any) -> None:
    moments_of_a_poll = iter([0.0, 0.05, 0.1, 0.15, 0.2] * 10)

    def latency() -> float:
        jobs.clear()
        future = waiting(lambda: jobs.pop(wait=PATIENCE))
        time.sleep(next(moments_of_a_poll))
        added_at = time.time()
        raw.zadd("jobs", {"item": 1})
        assert awake(future).result == "item"
        return awake(future).at - added_at

    assert_soon(NOTICED, latency)


# With a client that has no patience


@pytest.fixture(params=[Blocking, Awaited])
def impatient(request: pytest.FixtureRequest, here: Place) -> Iterator[Any]:
    """Each face on a client whose socket gives up after a second."""
    face = request.param(here, f"impatient-{request.param.__name__}")
    yield face
    face.close()


def test_a_time_limit_of_the_socket_never_surfaces(impatient: Any, way: Any) -> None:
    jobs = impatient.SortedSet("jobs")
    started = time.monotonic()
    with pytest.raises((KeyError, StopIteration)):
        way(jobs, 1.5)

    assert time.monotonic() - started >= 1.5


@pytest.mark.usefixtures("looks_seldom")
def test_a_time_limit_of_the_socket_is_no_reason_to_be_late(impatient: Any, waiting: Any) -> None:
    jobs = impatient.ScheduledSet("jobs")

    def latency() -> float:
        future = waiting(lambda: jobs.pop(wait=PATIENCE))
        # It listens for half of the time limit, and then again.
        time.sleep(0.55)
        added_at = time.time()
        jobs.add("item", score=1)
        return awake(future).at - added_at

    def lateness() -> float:
        due_at = due_at_its_score(jobs, 0.15)
        jobs.pop(wait=PATIENCE)
        return time.time() - due_at

    assert_soon(PROMPT, latency)
    assert_soon(PUNCTUAL, lateness, at_least=0)


# What it costs


def commands_sent(raw: Any) -> int:
    """How many commands of those that somebody who waits could send have arrived: not what scripts do inside."""
    known = raw.info("commandstats")
    return sum(known.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha", "blpop"))


def commands_beyond(raw: Any, seconds: float) -> float:
    """How many more than 10 commands a second arrive in that time."""
    started, before = time.monotonic(), commands_sent(raw)
    time.sleep(seconds)
    sent, elapsed = commands_sent(raw) - before, time.monotonic() - started
    return sent - 10 * elapsed


def assert_quiet(raw: Any) -> None:
    """10 commands a second at most, and one that falls on either border."""
    assert commands_beyond(raw, 1) <= 2


def most_blocked_clients(raw: Any) -> int:
    """The most there are at any moment of half a second."""
    most = 0
    for _ in range(25):
        most = max(most, blocked_clients(raw))
        time.sleep(0.02)
    return most


@pytest.fixture
def one_server(here: Place) -> Server:
    if not isinstance(here, Server):
        pytest.skip("its statistics are looked at")
    return here


def test_one_who_waits_sends_few_commands(face: Any, way: Any, waiting: Any, raw: Any, one_server: Server) -> None:
    jobs = face.SortedSet("jobs")
    future = waiting(lambda: way(jobs, PATIENCE))

    assert_quiet(raw)

    jobs.add("item")
    awake(future)


def test_one_who_waits_for_what_is_due_much_later_sends_few_commands(
    face: Any, waiting: Any, raw: Any, one_server: Server
) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("leased", score=1)
    jobs.reserve(lease=60)
    jobs.add("later", score=time.time() + 60)
    future = waiting(lambda: jobs.pop(wait=PATIENCE))

    assert_quiet(raw)

    jobs.add("item", score=1)
    awake(future)


def test_one_who_waits_can_be_told_to_stop_and_sends_few_commands(
    face: Any, in_background: Any, raw: Any, one_server: Server
) -> None:
    stop = threading.Event()
    future = in_background(lambda: list(face.SortedSet("jobs").consume(stop=stop)))
    wait_until(lambda: bool(raw.exists(LOOKS)))

    assert_quiet(raw)

    stop.set()
    stopped_at = time.time()
    assert awake(future).result == []
    assert awake(future).at - stopped_at < 2 * NOTICED


@pytest.fixture
def one_event_loop(here: Place) -> Iterator[Awaited]:
    face = Awaited(here, "crowd")
    yield face
    face.close()


@pytest.mark.parametrize("own_set", [True, False], ids=["a set for each", "one set for all"])
def test_all_who_wait_in_one_event_loop_share_one_connection(
    way: Any, one_event_loop: Any, one_server: Server, raw: Any, in_background: Any, own_set: bool
) -> None:
    """And send no more than one alone; whether each made a set for itself or not."""
    face = one_event_loop
    one = face.SortedSet("jobs")
    assert one.take(1) == []
    before = commands_sent(raw)
    futures = [in_background(partial(way, face.SortedSet("jobs") if own_set else one, PATIENCE)) for _ in range(30)]
    # Each looks once for itself before it stands in line.
    wait_until(lambda: commands_sent(raw) >= before + 30 and commands_beyond(raw, 0.5) <= 2)

    assert_quiet(raw)
    assert most_blocked_clients(raw) == 1

    for number in range(30):
        one.add(str(number))
    assert sorted(awake(future).result for future in futures) == sorted(map(str, range(30)))


# Many who wait


@pytest.fixture(params=[Blocking, Awaited])
def crowd(request: pytest.FixtureRequest, here: Place) -> Iterator[Any]:
    """Each face on a client that has a connection for everybody."""
    face = request.param(here, "crowd")
    yield face
    face.close()


@pytest.mark.conformance
def test_one_item_goes_to_one_of_a_hundred(crowd: Any, kind: str, in_background: Any) -> None:
    jobs = getattr(crowd, kind)("jobs")
    futures = [in_background(lambda: jobs.pop(wait=2 * PATIENCE)) for _ in range(100)]
    time.sleep(1)
    jobs.add("item", score=1)
    wait_until(lambda: any(future.done() for future in futures))
    time.sleep(0.5)

    assert [awake(future).result for future in futures if future.done()] == ["item"]
    others = [f"{number}" for number in range(99)]
    jobs.update(others, score=1)
    assert Counter(awake(future).result for future in futures) == Counter(["item", *others])


@pytest.mark.conformance
def test_a_hundred_items_wake_a_hundred(crowd: Any, way: Any, in_background: Any) -> None:
    jobs = crowd.SortedSet("jobs")
    futures = [in_background(lambda: way(jobs, PATIENCE)) for _ in range(100)]
    time.sleep(1)
    added_at = time.time()
    for number in range(100):
        jobs.add(str(number))
    woken = [awake(future) for future in futures]

    assert sorted(one.result for one in woken) == sorted(map(str, range(100)))
    assert max(one.at for one in woken) - added_at < PATIENCE / 2


@pytest.mark.conformance
def test_wake_ups_are_passed_on_for_as_long_as_somebody_follows_them(face: Any, raw: Any) -> None:
    """Each claim finds something, so that none notes anew that somebody waits."""
    keys = Keys("jobs")
    jobs = face.SortedSet("jobs")
    raw.zadd(keys.looks, {"another": -time.time() - 60})
    jobs.update([f"{number}" for number in range(10)])
    for number in range(6):
        assert raw.lpop(keys.wake), f"after {number} claims"
        time.sleep(0.3)
        assert jobs.pop() == f"{number}"


@pytest.mark.conformance
def test_a_wake_up_that_nobody_follows_is_the_last_one(face: Any, raw: Any) -> None:
    keys = Keys("jobs")
    jobs = face.SortedSet("jobs")
    raw.zadd(keys.looks, {"another": -time.time() - 60})
    jobs.update([f"{number}" for number in range(10)])
    jobs.add("x", score=1)
    assert raw.llen(keys.wake) == 1


@pytest.mark.conformance
def test_one_who_leaves_something_behind_wakes_the_next(face: Any, in_background: Any, raw: Any) -> None:
    """Several items that come in one call, or fall due together, make one wake-up: it is passed on."""
    jobs = face.ScheduledSet("jobs")

    def latency() -> float:
        futures = [in_background(lambda: jobs.pop(wait=PATIENCE)) for _ in range(5)]
        time.sleep(0.4)
        due_at = time.time() + 0.3
        raw.zadd("jobs", dict.fromkeys("abcd", due_at))
        jobs.add("e", score=due_at)
        woken = [awake(future) for future in futures]
        assert sorted(one.result for one in woken) == ["a", "b", "c", "d", "e"]
        return max(one.at for one in woken) - due_at

    assert_soon(NOTICED, latency)


def test_one_who_is_woken_and_dies_holds_nobody_up(face: Any, in_background: Any, waiting: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    thief = in_background(lambda: raw.blpop(WAKE, timeout=PATIENCE))
    wait_until(lambda: blocked_clients(raw) == 1)
    future = waiting(lambda: jobs.pop(wait=PATIENCE))
    added_at = time.time()
    jobs.add("item")

    assert awake(thief).result is not None, "the wake-up went to the one who asked first"
    assert awake(future).result == "item"
    assert awake(future).at - added_at < 2 * NOTICED


@pytest.mark.conformance
def test_nobody_is_woken_when_nobody_waits(jobs: Any, raw: Any) -> None:
    jobs.add("item", score=1)
    jobs.reserve().nack(delay=0)

    assert not raw.exists(WAKE)


@pytest.mark.conformance
def test_wake_ups_do_not_pile_up(face: Any, waiting: Any, raw: Any) -> None:
    """What is left when nobody waits any more is one at most, and it does not stay."""
    jobs = face.SortedSet("jobs")
    future = waiting(lambda: jobs.pop(wait=PATIENCE))
    for number in range(100):
        jobs.add(str(number))
    awake(future)

    assert raw.llen(WAKE) <= 1
    assert raw.ttl(WAKE) <= 60
    assert raw.ttl(LOOKS) <= 3
    assert -1 not in (raw.ttl(WAKE), raw.ttl(LOOKS))


# Breaking off


@pytest.mark.conformance
@pytest.mark.parametrize("reserves", [False, True], ids=["pop", "reserve"])
def test_a_cancelled_task_loses_nothing(here: Place, reserves: bool) -> None:
    """At any moment: while it waits, while the hand-out is under way, when its reply is there."""
    rounds = 400

    async def run() -> tuple[list[str], list[str]]:
        client = here.client(awaited=True)
        jobs = redset.aio.SortedSet(client, "jobs")
        taken, cancelled = [], 0
        for number in range(rounds):
            tasks = [asyncio.create_task(wait(jobs)) for _ in range(3)]
            await asyncio.sleep(random.uniform(0, 0.002))
            adding = asyncio.create_task(jobs.add(str(number), score=number))
            await asyncio.sleep(random.uniform(0, 0.003))
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            taken += [one for one in ended if isinstance(one, str)]
            cancelled += sum(isinstance(one, asyncio.CancelledError) for one in ended)
            await adding
        assert len(taken) + cancelled == 3 * rounds, "nothing else happened"
        left = await everything(jobs)
        await close_awaited(client)
        return taken, left

    async def wait(jobs: Any) -> str:
        if not reserves:
            return str(await jobs.pop(wait=PATIENCE))
        reservation = await jobs.reserve(wait=PATIENCE)
        assert reservation.attempt == 1, "what is put back was never delivered"
        return str(reservation.item)

    async def everything(jobs: Any) -> list[str]:
        left = await jobs.reserve_many(rounds)
        assert all(reservation.attempt == 1 for reservation in left)
        return [reservation.item for reservation in left]

    taken, left = asyncio.run(run())

    assert sorted(taken + left, key=int) == [str(number) for number in range(rounds)]


@pytest.mark.usefixtures("looks_seldom")
def test_when_the_one_who_listens_is_cancelled_another_one_listens(here: Place) -> None:
    async def latency(jobs: Any) -> float:
        tasks = [asyncio.create_task(jobs.pop(wait=PATIENCE)) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in tasks[:4]:
            task.cancel()
            await asyncio.sleep(0.02)
        added_at = time.time()
        await jobs.add("item")
        assert await tasks[4] == "item"
        return time.time() - added_at

    async def run() -> list[float]:
        async with contextlib.AsyncExitStack() as stack:
            client = here.client(awaited=True)
            stack.push_async_callback(close_awaited, client)
            jobs = redset.aio.SortedSet(client, "jobs")
            return [await latency(jobs) for _ in range(7)]

    assert sorted(asyncio.run(run()))[2] < PROMPT


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_waiting_at_once_and_loses_nothing(face: Any, way: str, process: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    child = process(wait_until_interrupted, way)
    wait_until(lambda: bool(raw.exists(LOOKS)))
    time.sleep(0.05)

    os.kill(child.pid, signal.SIGINT)
    child.join(PATIENCE)
    jobs.add("item")

    assert raw.get("interrupted") == b"1"
    assert jobs.reserve().attempt == 1


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_at_any_moment_loses_nothing(face: Any, way: str, process: Any, raw: Any) -> None:
    rounds = 200
    jobs = face.SortedSet("jobs")
    child = process(take_among_interruptions, way)
    wait_until(lambda: bool(raw.exists(LOOKS)))
    for number in range(rounds):
        jobs.add(str(number))
        time.sleep(random.uniform(0, 0.002))
        os.kill(child.pid, signal.SIGINT)
        time.sleep(random.uniform(0, 0.002))
    wait_until(lambda: raw.llen("taken") >= rounds)

    assert Counter(raw.lrange("taken", 0, -1)) == Counter(b"%d" % number for number in range(rounds))
    # On a busy machine all of them may have come at other moments.
    while not raw.get("interrupted"):
        os.kill(child.pid, signal.SIGINT)
        time.sleep(0.01)


def wait_until_interrupted(url: str, way: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    client = redis.Redis.from_url(url)
    try:
        WAYS[way](redset.SortedSet(client, "jobs"), None)
    except KeyboardInterrupt:
        client.set("interrupted", "1")


def take_among_interruptions(url: str, way: str) -> None:
    """Interrupted wherever it waits for a reply: elsewhere the client itself can be left in pieces."""
    client, record = redis.Redis.from_url(url), redis.Redis.from_url(url)
    jobs = redset.SortedSet(client, "jobs")
    recording = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame and not recording:
            if frame.f_code.co_name.endswith(("read_from_socket", "can_read")):
                raise KeyboardInterrupt
            frame = frame.f_back

    signal.signal(signal.SIGINT, interrupt)
    while True:
        taken = []
        with contextlib.suppress(KeyboardInterrupt):
            taken.append(WAYS[way](jobs, None))
        recording = True
        for item in taken:
            record.rpush("taken", item)
        if not taken:
            record.incr("interrupted")
        recording = False


# Keys that hold something else


@pytest.mark.conformance
@pytest.mark.parametrize("key", [WAKE, LOOKS])
def test_a_key_for_waiting_that_holds_something_else_is_named(face: Any, raw: Any, way: Any, key: str) -> None:
    raw.hset(key, "what", "1")
    jobs = face.SortedSet("jobs")

    with pytest.raises(WrongTypeError, match=key):
        way(jobs, 1)

    assert raw.type(key) == b"hash"


@pytest.mark.conformance
def test_a_wake_up_key_that_comes_to_hold_something_else_is_named(face: Any, raw: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")

    def wait() -> str:
        with pytest.raises(WrongTypeError) as error:
            jobs.pop(wait=PATIENCE)
        return str(error.value)

    future = waiting(wait)
    raw.zadd(WAKE, {"what": 1})

    assert WAKE in awake(future).result


@pytest.mark.conformance
@pytest.mark.parametrize("sets", ["one", "several", "several, each heard by a thread", "shards"])
def test_a_wake_up_key_that_holds_something_else_since_the_claim_is_named(
    face: Any, raw: Any, monkeypatch: pytest.MonkeyPatch, sets: str
) -> None:
    jobs = face.SortedSet("jobs", shards=2 if sets == "shards" else None)
    if sets.startswith("several"):
        jobs = face.several("first_of", jobs, face.SortedSet("others"))
    if sets.endswith("thread"):
        monkeypatch.setattr(drivers, "are_beside", lambda *_: False)

    def just_before(keys: tuple[bytes, ...], longest: float) -> Any:
        for key in keys:
            raw.zadd(key, {"what": 1})
        return blocking(keys, longest)

    for module in drivers, core_waiting:
        monkeypatch.setattr(module, "blocking", just_before)
    with pytest.raises(WrongTypeError, match=r"jobs.*wake|others.*wake"):
        jobs.pop(wait=PATIENCE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sets", ["one", "shards", "several", "several over shards"])
def test_the_time_may_pass_at_any_step(face: Any, monkeypatch: pytest.MonkeyPatch, way: str, sets: str) -> None:
    """A claim that found the time over tells nobody that it waits, whatever was found just before or is found after."""
    shards = 2 if sets.endswith("shards") else None
    jobs = face.SortedSet("jobs", shards=shards)
    if sets.startswith("several"):
        jobs = face.several("first_of", jobs, face.SortedSet("others", shards=shards))
    for steps in range(9):
        left = iter(steps * [0.002])
        monkeypatch.setattr(core_waiting.Wait, "left", lambda _, left=left: next(left, 0.0))
        with pytest.raises((KeyError, StopIteration)):
            WAYS[way](jobs, 1.0)
