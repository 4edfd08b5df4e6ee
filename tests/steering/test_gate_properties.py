"""What limits promise holds at every moment: among many processes that are killed, and whose replies are lost.

The server is watched from outside: a script of the test's own reads its time, the totals and the states in one step.
The totals count every claim that was executed, also one of which nobody read the reply.
"""

import contextlib
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import pytest
import redis

import redset
from invariants import RawSet
from proxy import Chance, Fault, Proxy, options_to_repeat
from redset.exceptions import Full, LeaseLost
from servers import Server

pytestmark = pytest.mark.no_cover

RATE, BURST, LEASES, MAXSIZE = 200.0, 7, 5, 40

LOOK = """
local moment = redis.call('TIME')
local now = moment[1] .. '.' .. string.sub('00000' .. moment[2], -6)
local claimed = 0
for _, total in ipairs(redis.call('HMGET', KEYS[1], 'taken', 'leased')) do claimed = claimed + tonumber(total or 0) end
local size, met = 0, {}
for _, key in ipairs(ARGV[1] == 'size' and {KEYS[2], KEYS[3]} or {}) do
    for _, item in ipairs(redis.call('ZRANGE', key, 0, -1)) do
        if not met[item] then size, met[item] = size + 1, true end
    end
end
return {now, claimed, redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf'), size}
"""


class Look(NamedTuple):
    """The set at one moment, by the server's clock."""

    at: float
    claimed: int
    leases: int
    #: How many different items wait, are leased or delayed; 0 if that was not asked for.
    size: int


def look(raw: Any, *, with_size: bool = False) -> Look:
    at, *counts = raw.eval(LOOK, 3, "{jobs}:meta", "jobs", "{jobs}:leased", "size" if with_size else "")
    return Look(float(at), *counts)


class Watcher:
    """Looks at the set again and again, in a thread of its own."""

    def __init__(self, client: Any, *, with_size: bool) -> None:
        self._client = client
        self._with_size = with_size
        self.looks: list[Look] = []
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stops.set()
        self._thread.join()
        self._client.close()

    def _watch(self) -> None:
        while not self._stops.is_set():
            self.looks.append(look(self._client, with_size=self._with_size))
            time.sleep(0.0005)


def assert_no_window_has_more(looks: list[Look], rate: float, burst: int) -> None:
    """In no window of t seconds were there more claims than burst + rate * t."""
    lowest = math.inf
    for one in looks:
        # That of all windows which end here and hold most beyond the rate begins where this was lowest.
        lowest = min(lowest, one.claimed - rate * one.at)
        excess = one.claimed - rate * one.at - lowest
        assert excess <= burst + 0.01, (one, excess)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 6))])
def test_a_random_walk_exceeds_no_limit(frank: Any, frank_proxy: Any, raw: Any, seed: int) -> None:
    """After each call the limits hold, and the totals add up."""
    face, proxy = frank, frank_proxy
    choose = random.Random(seed)
    jobs = face.SortedSet("jobs", max_attempts=choose.choice([None, 3]))
    jobs.limit(rate=RATE, burst=BURST, leases=LEASES, maxsize=MAXSIZE)
    held: list[Any] = []
    looks = [look(raw)]
    for _ in range(150):
        if choose.random() < 0.15:
            proxy.plan(choose.choice([Fault.LOST_REPLY, Fault.LOST_COMMAND, Fault.CUT_REPLY]))
        with contextlib.suppress(KeyError, LeaseLost, Full, OSError, redis.RedisError):
            step(jobs, held, choose)
        looks.append(look(raw))
        assert looks[-1].leases <= LEASES
        RawSet(raw, "jobs").check()
    assert_no_window_has_more(looks, RATE, BURST)
    assert looks[-1].claimed > 10


def step(jobs: Any, held: list[Any], choose: random.Random) -> None:
    items = [f"item {choose.randrange(80)}" for _ in range(choose.randrange(1, 9))]
    steps: dict[str, Callable[[], Any]] = {
        "add": lambda: jobs.add(items[0], choose.random()),
        "update": lambda: jobs.update(items),
        "pop": jobs.pop,
        "take": lambda: jobs.take(3),
        "reserve": lambda: held.append(jobs.reserve(lease=choose.choice([0.01, 5.0]))),
        "reserve_many": lambda: held.extend(jobs.reserve_many(4, lease=choose.choice([0.01, 5.0]))),
        "discard": lambda: jobs.discard(items[0]),
        "pause": lambda: (jobs.pause(), jobs.resume()),
        "rest": lambda: time.sleep(0.01),
    }
    if held:
        one = held.pop(choose.randrange(len(held)))
        steps |= {"ack": one.ack, "nack": lambda: one.nack(0.01), "again": one.again, "bury": one.bury}
    steps[choose.choice(list(steps))]()


@pytest.fixture
def crew(process: Any, server_itself: Server, raw: Any) -> Iterator["Crew"]:
    proxy = Proxy(server_itself, repeats=0, chance=Chance(seed=1, one_in=40))
    crew = Crew(process, proxy, raw, server_itself)
    yield crew
    proxy.stop()


class Crew:
    """Processes that use the set through a proxy that loses calls and replies, and of which one is killed at times."""

    def __init__(self, process: Any, proxy: Proxy, raw: Any, server: Server) -> None:
        self._process = process
        self._proxy = proxy
        self._raw = raw
        self._server = server
        self.killed = 0

    def work(self, seconds: float, *jobs: Callable[..., None], with_size: bool = False) -> list[Look]:
        """Has each of ``jobs`` done by a process, for so many seconds. One is killed each second."""
        workers = [(job, self._process(job, self._proxy.url, seed)) for seed, job in enumerate(jobs)]
        choose = random.Random(7)
        with Watcher(self._server.client(), with_size=with_size) as watcher:
            while not self._raw.exists("begun"):
                time.sleep(0.01)
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                time.sleep(1)
                job, victim = workers.pop(0)
                victim.kill()
                victim.join()
                self.killed += 1
                workers.append((job, self._process(job, self._proxy.url, choose.randrange(1000))))
            self._raw.set("stop", "1")
            for _, worker in workers:
                worker.join(20)
        self._proxy.leave_to(None)
        self._proxy.deliver()
        return watcher.looks


def consume(_: str, url: str, seed: int) -> None:
    choose = random.Random(seed * 1000 + os.getpid())
    for jobs in until_stopped(url):
        held: list[Any] = []
        way = choose.randrange(5)
        if way == 0:
            jobs.pop(wait=0.05)
        elif way == 1:
            jobs.take(3, wait=0.05)
        elif way == 2:
            held = [jobs.reserve(lease=0.05, wait=0.05)]
        elif way == 3:
            held = jobs.reserve_many(4, lease=0.3, wait=0.05)
        else:
            for reservation in jobs.consume(lease=0.3, batch=choose.choice([1, 3]), wait=0.05):
                if choose.random() < 0.2:
                    reservation.nack(0.01)
                if choose.random() < 0.1:
                    break
        time.sleep(choose.choice([0, 0, 0.01, 0.06]))
        for one in held:
            choose.choice([one.ack, one.again, lambda one=one: one.nack(0.0), lambda one=one: one.extend(0.2)])()


def produce(_: str, url: str, seed: int) -> None:
    choose = random.Random(seed * 1000 + os.getpid())
    for jobs in until_stopped(url):
        items = [f"item {choose.randrange(200)}" for _ in range(choose.randrange(1, 30))]
        way = choose.randrange(4)
        if way == 0:
            jobs.add(items[0])
        elif way == 1:
            jobs.update(items)
        elif way == 2:
            jobs.increment(items[0], 1)
        else:
            jobs.union_update(items)


def until_stopped(url: str) -> Iterator[Any]:
    """The set, again and again; what is raised meanwhile ends nothing."""
    with redis.Redis.from_url(url, **options_to_repeat(2, "redis", awaited=False)) as client:
        jobs = Forgiving(redset.SortedSet(client, "jobs"))
        client.set("begun", "1")
        while True:
            with contextlib.suppress(OSError, redis.RedisError):
                if client.exists("stop"):
                    return
            yield jobs


class Forgiving:
    """A set whose calls may fail: then they return nothing."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._jobs, name)
        if name == "consume":
            return lambda **options: forgiving(method(**options))

        def call(*args: Any, **options: Any) -> Any:
            try:
                found = method(*args, **options)
            except (KeyError, Full, OSError, redis.RedisError):
                return Nothing() if name == "reserve" else []
            if name == "reserve":
                return ForgivingReservation(found)
            return [ForgivingReservation(one) for one in found] if name == "reserve_many" else found

        return call


class Nothing:
    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


class ForgivingReservation:
    def __init__(self, reservation: Any) -> None:
        self._reservation = reservation

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> None:
            with contextlib.suppress(LeaseLost, OSError, redis.RedisError):
                getattr(self._reservation, name)(*args)

        return call


def forgiving(loop: Any) -> Iterator[Any]:
    with contextlib.suppress(OSError, redis.RedisError, LeaseLost):
        for one in loop:
            yield ForgivingReservation(one)


LONG = pytest.mark.parametrize(
    ("seconds", "processes"),
    [
        pytest.param(4, 3, id="short"),
        pytest.param(25, 8, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(120)]),
    ],
)


@LONG
def test_consumers_exceed_neither_the_rate_nor_the_leases(crew: Crew, raw: Any, seconds: float, processes: int) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    jobs.limit(rate=RATE, burst=BURST, leases=LEASES)
    jobs.update(map(str, range(10_000)), score=1)
    looks = crew.work(seconds, *[consume] * processes)
    assert max(one.leases for one in looks) <= LEASES
    assert_no_window_has_more(looks, RATE, BURST)
    assert looks[-1].claimed > 5 * seconds
    assert crew.killed >= seconds / 3
    RawSet(raw, "jobs").check_totals()


@LONG
def test_producers_never_take_a_set_beyond_its_maxsize(crew: Crew, raw: Any, seconds: float, processes: int) -> None:
    """Nothing is claimed here: what a roll-back requeues may exceed it."""
    jobs = redset.SortedSet(raw, "jobs")
    jobs.limit(maxsize=MAXSIZE)
    jobs.update(map(str, range(20)))
    jobs.reserve_many(5, lease=1000)
    with making_room(jobs):
        looks = crew.work(seconds, *[produce] * processes, with_size=True)
    assert max(one.size for one in looks) == MAXSIZE
    assert crew.killed >= seconds / 3
    RawSet(raw, "jobs").check_totals()


@contextlib.contextmanager
def making_room(jobs: Any) -> Iterator[None]:
    """Makes room again and again, by removing some of what waits."""
    stops = threading.Event()

    def make_room() -> None:
        while not stops.wait(0.02):
            jobs.remove_slice(0, 10)

    thread = threading.Thread(target=make_room)
    thread.start()
    try:
        yield
    finally:
        stops.set()
        thread.join()


def test_a_pause_outlives_the_process_that_made_it(process: Any, raw: Any, face: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update("abc")
    child = process(pause_and_wait)
    while jobs.stats().paused_until is None:
        time.sleep(0.01)
    child.kill()
    child.join()
    assert jobs.take(5) == []
    jobs.resume()
    assert jobs.take(5) == ["a", "b", "c"]


def pause_and_wait(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        redset.SortedSet(client, "jobs").pause()
        time.sleep(60)
