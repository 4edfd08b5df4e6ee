"""Calls that are cancelled, on each event loop and in each way: no item is lost, and none is claimed twice."""

import asyncio
import contextlib
import gc
import os
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest
import redis.asyncio

import redset.aio
from clients import close_awaited
from invariants import RawSet
from redset.core.drivers import AsyncDriver
from servers import PATIENCE, Server, wait_until

anyio = pytest.importorskip("anyio")

pytestmark = pytest.mark.no_cover

ITEMS = 200 * int(os.environ.get("REDSET_TEST_MORE", "1"))
TASKS = 8

Work = Callable[[], Coroutine[Any, Any, Any]]


def standard() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager since Python 3.12")


@pytest.fixture(params=[standard, pytest.param(eager, marks=since_3_12), uvloop])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """Runs a coroutine on each kind of event loop. The loop must have nothing to complain of."""
    complaints: list[Any] = []
    loop = request.param()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        yield runner.run
        gc.collect()
    assert complaints == []


class Watched(Coroutine[Any, Any, Any]):
    """A coroutine that keeps the errors which its task throws into it."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.thrown: list[BaseException] = []
        self._work = work

    def send(self, value: Any) -> Any:
        return self._work.send(value)

    def throw(self, error: Any, *_: Any) -> Any:
        self.thrown.append(error)
        return self._work.throw(error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()


# Each way to cancel lets the work take so many seconds at most.


async def cancel(work: Work, seconds: float) -> None:
    watched = Watched(work())
    task = asyncio.ensure_future(watched)
    await asyncio.wait({task}, timeout=seconds)
    task.cancel("enough")
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
        return
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    # Before Python 3.12, asyncio.wait_for may swallow the cancellation. redset then raises another one.
    assert raised.value is watched.thrown[0] or sys.version_info < (3, 12)


async def cancel_twice(work: Work, seconds: float) -> None:
    task = asyncio.ensure_future(work())
    for _ in range(2):
        await asyncio.wait({task}, timeout=seconds)
        task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def wait_for(work: Work, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work(), seconds)


async def timeout(work: Work, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work()


async def failing_task_group(work: Work, seconds: float) -> None:
    async def fail() -> None:
        await asyncio.sleep(seconds)
        raise ArithmeticError

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(work())
            await work()


async def shield(work: Work, seconds: float) -> None:
    task = asyncio.ensure_future(work())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), seconds)
    await task


async def move_on_after(work: Work, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await work()


async def nested_scopes(work: Work, seconds: float) -> None:
    with anyio.move_on_after(seconds), anyio.CancelScope(), anyio.move_on_after(seconds * 1.5):
        await work()


async def cancelled_anyio_group(work: Work, seconds: float) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await asyncio.sleep(seconds)
        group.cancel_scope.cancel()


WAYS = [
    *(cancel, cancel_twice, wait_for, timeout, failing_task_group, shield),
    *(move_on_after, nested_scopes, cancelled_anyio_group),
]


class Crowd:
    """Tasks that add, claim and ack items and whose calls are cancelled at random moments."""

    def __init__(self, jobs: Any, way: Callable[[Work, float], Awaitable[None]]) -> None:
        self.jobs = jobs
        self.way = way
        self.random = random.Random(1)
        self.seconds = 0.002
        self.cancelled = 0
        self.added: set[str] = set()
        self.done: list[str] = []
        self.unacked: list[Any] = []

    async def run(self, items: list[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(self.add_all(items[number::TASKS]))
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(self.claim_until(len(items)))
        # Sent again it is the same ack, whether the cancelled one arrived or not.
        for reservation in self.unacked:
            await reservation.ack()

    async def add_all(self, items: list[str]) -> None:
        for item in items:
            while item not in self.added:
                await self.limited(partial(self.add, item))

    async def claim_until(self, count: int) -> None:
        while len(self.done) < count:
            await self.limited(self.random.choice([self.pop, self.take, self.reserve, self.consume]))

    async def limited(self, work: Work) -> None:
        """Do work for a random time. About every second call is cancelled, on any machine."""
        finished = False

        async def watched() -> None:
            nonlocal finished
            await work()
            finished = True

        await self.way(watched, self.random.random() * self.seconds)
        self.cancelled += not finished
        self.seconds = max(self.seconds * (0.9 if finished else 1.1), 0.0002)

    async def add(self, item: str) -> None:
        await self.jobs.add(item, 1)
        self.added.add(item)

    async def pop(self) -> None:
        with contextlib.suppress(KeyError):
            self.done.append(await self.jobs.pop(wait=0.01))

    async def take(self) -> None:
        self.done += await self.jobs.take(3)

    async def reserve(self) -> None:
        with contextlib.suppress(KeyError):
            reservation = await self.jobs.reserve(lease=600)
            self.done.append(reservation.item)
            self.unacked.append(reservation)
            await reservation.ack()
            self.unacked.remove(reservation)

    async def consume(self) -> None:
        async with self.jobs.consume(lease=600, batch=2, wait=0, stop=lambda: self.random.random() < 0.3) as loop:
            async for reservation in loop:
                self.done.append(reservation.item)


@pytest.mark.parametrize("way", WAYS)
def test_no_item_is_lost_or_claimed_twice(
    here: Any, raw: Any, run: Any, way: Any, caplog: pytest.LogCaptureFixture
) -> None:
    if not isinstance(here, Server):
        pytest.skip("the connections of a single server are counted")
    items = [f"{number:05}" for number in range(ITEMS)]
    connections = len(raw.client_list())

    async def main() -> None:
        async with contextlib.aclosing(await redset.aio.connect(here.url)) as client:
            crowd = Crowd(redset.aio.SortedSet[str](client, "jobs"), way)
            # It would not end without an item that was lost.
            async with asyncio.timeout(PATIENCE):
                await crowd.run(items)
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
        assert sorted(crowd.done) == items
        assert crowd.cancelled or way is shield

    run(main())

    assert RawSet(raw, "jobs").is_empty()
    assert caplog.messages == []
    wait_until(lambda: len(raw.client_list()) <= connections)


def test_a_set_is_used_by_event_loops_in_two_threads(here: Any, raw: Any) -> None:
    """Whenever one has found what its tasks share, the other makes a call."""
    if not isinstance(here, Server):
        pytest.skip("the connections of a client of a single server belong to event loops")
    connections = len(raw.client_list())
    client = redis.asyncio.Redis(unix_socket_path=here.socket_path)
    jobs = redset.aio.SortedSet[str](client, "jobs")
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    def call_in_the_other_loop(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is AsyncDriver._here.__code__ and event == "return":
            asyncio.run_coroutine_threadsafe(jobs.count(), other).result(20)
        return call_in_the_other_loop

    async def main() -> None:
        sys.settrace(call_in_the_other_loop)
        try:
            async with asyncio.timeout(20):
                await asyncio.gather(*(jobs.add(item, score=1) for item in "abc"))
        finally:
            sys.settrace(None)
            await close_awaited(client)

    try:
        asyncio.run(main())
        assert raw.zcard("jobs") == 3
    finally:
        wait_until(lambda: len(raw.client_list()) <= connections)
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()
