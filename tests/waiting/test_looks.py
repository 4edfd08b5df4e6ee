"""However many consumers wait, the server looks for them as seldom as for one, and none of them is late for that."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

import pytest
import redis

import redset
import redset.aio
from clients import close_awaited
from servers import PATIENCE, Place, Server, eventually, wait_until

T = TypeVar("T")

#: As many as make it clear that each look is one waiter's, and not each waiter's.
WAITERS = 40

LOOKS = "{jobs}:looks"


@pytest.fixture
def client(here: Place) -> Iterator[redis.Redis]:
    if not isinstance(here, Server):
        pytest.skip("its statistics are looked at")
    with here.client(max_connections=1000) as client:
        yield client


def test_looks_of_a_single_waiter_break_off_no_connection(face: Any, client: redis.Redis) -> None:
    """Neither the command that it waits with: a new connection costs more than a look."""
    jobs = face.SortedSet("jobs")

    def connected() -> int:
        return int(client.info("stats")["total_connections_received"])

    with pytest.raises(KeyError):
        jobs.pop(wait=0.5)
    before = connected()
    with pytest.raises(KeyError):
        jobs.pop(wait=4)
    # The end of the wait does.
    assert connected() - before < 6


@pytest.fixture
def start(client: redis.Redis) -> Iterator[Callable[..., "Future[str]"]]:
    """Has a waiter of its own thread claim an item."""
    with ThreadPoolExecutor(3 * WAITERS) as threads:

        def claimed(kind: Any, wait: float) -> str:
            try:
                return str(kind(client, "jobs").pop(wait=wait))
            except KeyError:
                return ""

        yield lambda kind, wait=PATIENCE: threads.submit(claimed, kind, wait)


def scripts(client: redis.Redis) -> int:
    stats: Any = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def wait_for(client: redis.Redis, waiters: int) -> None:
    wait_until(lambda: client.zcard(LOOKS) == waiters)


def end(client: redis.Redis, futures: list["Future[str]"]) -> None:
    """Give each waiter an item."""
    redset.SortedSet(client, "jobs").update([f"last {number}" for number in range(len(futures))], score=1)
    for future in futures:
        future.result(PATIENCE)


def test_many_look_as_seldom_as_one(client: redis.Redis, start: Any) -> None:
    futures = [start(redset.SortedSet) for _ in range(WAITERS)]
    wait_for(client, WAITERS)
    time.sleep(0.5)
    began, before = time.monotonic(), scripts(client)
    time.sleep(2)
    looks = scripts(client) - before

    # One each 0.2 s; by themselves they would be 400.
    assert looks <= 3 * (time.monotonic() - began) / 0.2
    end(client, futures)


def test_an_item_that_falls_due_is_looked_for_by_two(client: redis.Redis, start: Any) -> None:
    futures = [start(redset.ScheduledSet) for _ in range(WAITERS)]
    wait_for(client, WAITERS)
    time.sleep(0.5)
    jobs, began, before = redset.ScheduledSet(client, "jobs"), time.monotonic(), scripts(client)
    jobs.add("a", delay=1)
    wait_until(lambda: any(future.done() for future in futures))
    time.sleep(0.2)
    looks = scripts(client) - before

    # The addition, one that plans, one that gets the item, one that would if that had died; and the regular ones.
    assert looks <= 10 + 3 * (time.monotonic() - began) / 0.2
    assert [future.result() for future in futures if future.done()] == ["a"]
    end(client, futures)


def test_each_moment_has_a_waiter_of_its_own(client: redis.Redis, start: Any) -> None:
    """Who looks a little later is no substitute: a rate may permit a claim each few milliseconds."""
    futures = [start(partial(redset.SortedSet, poll=PATIENCE)) for _ in range(5)]
    wait_for(client, 5)
    jobs, until = redset.SortedSet(client, "jobs", poll=PATIENCE), time.time() + PATIENCE / 2

    def is_looked_for(moment: float) -> bool:
        return client.zcount(LOOKS, -moment - 0.002, -moment + 0.002) >= 1

    for earlier in range(3):
        moment = until - earlier * 0.02
        jobs.pause(moment)
        jobs.add("wakes one")
        wait_until(partial(is_looked_for, moment))
    jobs.resume()
    end(client, futures)


@pytest.mark.parametrize("seconds", [0.15, 0.25, 0.35])
def test_who_looks_just_before_such_a_moment_is_punctual(client: redis.Redis, seconds: float) -> None:
    """Else it may miss the moment: a server may end a blocking command a tenth of a second late."""
    jobs = redset.SortedSet(client, "jobs")
    until = 0.0
    # On a busy machine the moment may be over by then.
    while time.time() > until:
        until = time.time() + seconds
        jobs.pause(until)
        claimed = jobs._driver.perform(jobs._claims.claim(1, 0.0, waiter="waits one 0.2"))

    assert claimed.next_look <= min(seconds, 0.2)
    assert claimed.is_precise


@pytest.mark.parametrize(("word", "stays"), [("comes", False), ("waits", True), ("leaves", False)])
def test_who_gets_something_is_known_as_long_as_others_wait_under_its_name(
    client: redis.Redis, word: str, *, stays: bool
) -> None:
    """The last of those that were known may have left while others were on their way."""
    jobs = redset.SortedSet(client, "jobs")
    for known in ({}, {"one": -time.time() - 1}):
        client.delete(LOOKS)
        jobs.update(["a", "b"])
        if known:
            client.zadd(LOOKS, known)
        claimed = jobs._driver.perform(jobs._claims.claim(1, 0.0, waiter=f"{word} one 0.2"))
        assert claimed.rows
        assert (client.zscore(LOOKS, "one") is not None) == (stays or (word == "comes" and bool(known)))


def test_the_looks_of_those_who_leave_are_closed_up(client: redis.Redis, start: Any) -> None:
    """The last of many was to look seconds later."""
    for _ in range(2 * WAITERS):
        start(redset.SortedSet, 6)
    wait_for(client, 2 * WAITERS)
    future = start(redset.SortedSet)
    wait_for(client, 2 * WAITERS + 1)
    ((_, planned),) = cast("Any", client.zrange(LOOKS, 0, 0, withscores=True))
    assert -planned - time.time() > WAITERS * 0.2
    wait_for(client, 1)
    added_at = time.monotonic()
    client.zadd("jobs", {"item": 1})

    assert future.result(PATIENCE) == "item"
    assert time.monotonic() - added_at < WAITERS * 0.2 / 2


def test_a_planned_look_is_not_lost_with_one_who_got_an_item(client: redis.Redis, start: Any) -> None:
    """Additions wake those who would look next, one after another, which leaves a gap in the row of looks."""
    futures = [start(redset.SortedSet) for _ in range(2 * WAITERS)]
    wait_for(client, 2 * WAITERS)
    jobs = redset.SortedSet(client, "jobs")
    for number in range(WAITERS):
        jobs.add(str(number))
    wait_until(lambda: sum(future.done() for future in futures) == WAITERS)
    added_at = time.monotonic()
    client.zadd("jobs", {"item": 1})
    wait_until(lambda: sum(future.done() for future in futures) == WAITERS + 1)

    assert time.monotonic() - added_at < WAITERS * 0.2 / 2
    end(client, [future for future in futures if not future.done()])


@pytest.mark.conformance
def test_waiters_of_two_kinds_do_not_look_for_each_other(face: Any, raw: Any) -> None:
    """One that can claim only what is due looks in vain for what is not, so another one looks as well."""
    with ThreadPoolExecutor() as threads, face.another() as other:
        due = [threads.submit(other.ScheduledSet("jobs").pop, wait=PATIENCE) for _ in range(5)]
        future = threads.submit(face.SortedSet("jobs").pop, wait=PATIENCE)
        wait_until(lambda: raw.zcount(LOOKS, "-inf", 0) == 1 <= raw.zcount(LOOKS, 0, "+inf"))
        raw.zadd("jobs", {"item": time.time() + 60})
        assert future.result(PATIENCE) == "item"
        assert not any(one.done() for one in due)
        raw.zadd("jobs", dict.fromkeys("abcde", 1))
        assert sorted(one.result(PATIENCE) for one in due) == list("abcde")


@pytest.mark.conformance
def test_nothing_is_left_of_waiters_who_left(face: Any, raw: Any) -> None:
    assert face.SortedSet("jobs").take(1, wait=0.3) == []
    assert not raw.exists(LOOKS)


def test_those_who_died_are_forgotten_when_they_are_late(face: Any, raw: Any) -> None:
    now = time.time()
    raw.zadd(LOOKS, {"dead": -(now - 60), "late": -now, "dead, of another kind": now - 60})
    assert face.SortedSet("jobs").take(1, wait=0.01) == []
    assert raw.zrange(LOOKS, 0, -1) == [b"late"]
    assert 0 < raw.ttl(LOOKS) < 10


def test_consumers_that_are_stopped_leave_no_gap(client: redis.Redis, raw: Any) -> None:
    """The last of many was to look seconds later."""
    stops = [threading.Event() for _ in range(WAITERS)]

    def consume(stop: threading.Event) -> str:
        return "".join(one.item for one in redset.SortedSet[str](client, "jobs").consume(stop=stop, wait=PATIENCE))

    with ThreadPoolExecutor(WAITERS + 1) as threads:
        futures = [threads.submit(consume, stop) for stop in stops]
        wait_for(client, WAITERS)
        future = threads.submit(redset.SortedSet[str](client, "jobs").pop, wait=PATIENCE)
        wait_for(client, WAITERS + 1)
        for stop in stops:
            stop.set()
        assert [one.result(PATIENCE) for one in futures] == [""] * WAITERS
        added_at = time.monotonic()
        raw.zadd("jobs", {"item": 1})
        assert future.result(PATIENCE) == "item"

    assert time.monotonic() - added_at < WAITERS * 0.2 / 2


class TestTasksOfOneEventLoop:
    """All that wait for a set are one waiter: when one of them leaves, it must not take their next look with it."""

    COUNT = 4

    def test_who_looks_and_gets_an_item_leaves_others_that_look(self, here: Place, raw: Any) -> None:
        async def main(client: Any) -> list[float]:
            jobs, late = redset.aio.SortedSet[str](client, "jobs"), []
            waiting = {asyncio.create_task(jobs.pop(wait=PATIENCE)) for _ in range(self.COUNT)}
            await asyncio.sleep(0.3)
            for number in range(self.COUNT):
                began = time.monotonic()
                await asyncio.to_thread(raw.zadd, "jobs", {str(number): 1})
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                late.append(time.monotonic() - began)
            return late

        assert max(in_event_loop(here, main)) < PATIENCE / 20

    def test_each_item_that_falls_due_is_claimed_on_time(self, here: Place) -> None:
        async def main(client: Any) -> list[float]:
            jobs, now, late = redset.aio.ScheduledSet[str](client, "jobs", poll=PATIENCE), time.time(), []
            for number in range(self.COUNT):
                await jobs.add(str(number), now + 0.3 * (number + 1))
            waiting = {asyncio.create_task(jobs.pop(wait=PATIENCE)) for _ in range(self.COUNT)}
            for number in range(self.COUNT):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                late.append(time.time() - now - 0.3 * (number + 1))
            return late

        assert max(in_event_loop(here, main)) < PATIENCE / 20

    def test_who_is_stopped_leaves_others_that_look(self, here: Place, raw: Any) -> None:
        async def main(client: Any) -> float:
            jobs, stops = redset.aio.SortedSet[str](client, "jobs"), [asyncio.Event() for _ in range(self.COUNT)]

            async def consume(stop: asyncio.Event) -> str:
                return "".join([one.item async for one in jobs.consume(stop=stop)])

            consumers = [asyncio.create_task(consume(stop)) for stop in stops]
            last = asyncio.create_task(jobs.pop(wait=PATIENCE))
            for stop in stops:
                await asyncio.sleep(0.3)
                stop.set()
            await asyncio.gather(*consumers)
            began = time.monotonic()
            await asyncio.to_thread(raw.zadd, "jobs", {"item": 1})
            assert await last == "item"
            return time.monotonic() - began

        assert in_event_loop(here, main) < PATIENCE / 20

    def test_those_of_two_clients_are_two_waiters(self, here: Place, raw: Any) -> None:
        """The clients may be on two servers, each of which plans the looks of its own waiters."""

        async def main(client: Any) -> None:
            async def other_looks(other: Any) -> None:
                sets = [redset.aio.SortedSet[str](one, "jobs") for one in (client, other)]
                waiting = [asyncio.create_task(one.pop(wait=PATIENCE)) for one in sets]
                await eventually(lambda: raw.zcard(LOOKS) == 2)
                await sets[0].update(["a", "b"], score=1)
                await asyncio.gather(*waiting)

            other = here.client(awaited=True)
            try:
                await other_looks(other)
            finally:
                await close_awaited(other)

        in_event_loop(here, main)


def in_event_loop(here: Place, main: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        client = here.client(awaited=True)
        try:
            return await main(client)
        finally:
            await close_awaited(client)

    return asyncio.run(run())
