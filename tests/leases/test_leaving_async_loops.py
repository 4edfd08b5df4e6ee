"""``async for`` over a ``consume``, left in any way, also at the end of a program: nothing stays leased."""

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio

import redset.aio
from redset import SortedSet
from servers import Server

#: The client is used until the event loop is closed, so nobody can close it. The garbage collector complains.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def distant(server: Any, delay: float) -> Any:
    """A client of a server that is so many seconds away."""

    class Distant(redis.asyncio.Redis):
        async def execute_command(self, *words: Any, **options: Any) -> Any:
            await asyncio.sleep(delay / 2)
            reply = await super().execute_command(*words, **options)  # type: ignore[no-untyped-call] # old ones have no types
            await asyncio.sleep(delay / 2)
            return reply

    return (Distant if delay else redis.asyncio.Redis)(unix_socket_path=server.socket_path)


async def consume(jobs: Any, begun: asyncio.Event) -> None:
    async for _ in jobs.consume(lease=3600, batch=5):
        begun.set()
        await asyncio.Event().wait()


async def consume_and_return(jobs: Any, begun: asyncio.Event) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await consume(jobs, begun)


async def break_off(jobs: Any, begun: asyncio.Event) -> None:
    async for _ in jobs.consume(lease=3600, batch=5):
        begun.set()
        break


async def cancel_once(consumer: "asyncio.Task[None]") -> None:
    consumer.cancel()
    await asyncio.wait([consumer])


async def cancel_twice(consumer: "asyncio.Task[None]") -> None:
    consumer.cancel()
    await asyncio.sleep(0.001)
    consumer.cancel()
    await asyncio.wait([consumer])


async def leave_it_running(consumer: "asyncio.Task[None]") -> None:
    pass


async def fail_beside_it(consumer: "asyncio.Task[None]") -> None:
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.wait_for(consumer, 60))
            await asyncio.sleep(0)
            raise ValueError


@pytest.mark.parametrize("delay", [0, 0.03])
@pytest.mark.parametrize("body", [consume, consume_and_return, break_off])
@pytest.mark.parametrize("end", [cancel_once, cancel_twice, leave_it_running, fail_beside_it])
def test_nothing_stays_leased_when_the_program_ends(
    here: Any,
    raw: Any,
    delay: float,
    body: Callable[[Any, asyncio.Event], Awaitable[None]],
    end: Callable[[Any], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not isinstance(here, Server):
        pytest.skip("a client that is made by hand connects to a single server")

    async def main() -> None:
        jobs = redset.aio.SortedSet[str](distant(here, delay), "jobs")
        await jobs.update("abcdefgh")
        begun = asyncio.Event()
        consumer = asyncio.ensure_future(body(jobs, begun))
        await begun.wait()
        await end(consumer)

    asyncio.run(main())
    gc.collect()
    jobs = SortedSet[str](raw, "jobs")
    assert jobs.stats().leased == 0
    assert sum(one.attempt for one in jobs.reserve_many(8)) == 8 + 1, "only the one in hand was an attempt"
    assert not [record for record in caplog.records if record.name == "asyncio"]
