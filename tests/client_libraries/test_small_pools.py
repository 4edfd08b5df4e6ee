"""Pools with as many connections as consumers that wait, or fewer: everybody has a turn."""

import asyncio
import threading
import time
from typing import Any

import pytest
import redis
import redis.asyncio

import redset.aio
from clients import close_awaited
from redset import SortedSet
from servers import Server


@pytest.fixture
def path(here: Any) -> str:
    if not isinstance(here, Server):
        pytest.skip("the pool is that of a single server")
    return str(here.socket_path)


def pool_of(module: Any, blocking: bool, size: int, path: str) -> Any:
    kind = module.BlockingConnectionPool if blocking else module.ConnectionPool
    options = {"timeout": 5} if blocking else {}
    connection = module.connection.UnixDomainSocketConnection
    return kind(connection_class=connection, path=path, max_connections=size, **options)


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking pool", "plain pool"])
@pytest.mark.parametrize(("size", "consumers"), [(1, 1), (2, 2), (2, 4)])
@pytest.mark.usefixtures("raw")
def test_threads_that_add_have_their_turn_while_others_wait(
    path: str, blocking: bool, size: int, consumers: int
) -> None:
    client = redis.Redis(connection_pool=pool_of(redis, blocking, size, path))
    jobs, stop = SortedSet[str](client, "jobs"), threading.Event()
    got: list[str] = []
    threads = [
        threading.Thread(target=lambda: got.extend(job.item for job in jobs.consume(stop=stop)))
        for _ in range(consumers)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    for number in range(10):
        jobs.add(str(number))
    until = time.monotonic() + 20
    while len(got) < 10 and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    client.connection_pool.disconnect()

    assert sorted(got) == [str(number) for number in range(10)]


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking pool", "plain pool"])
@pytest.mark.usefixtures("raw")
def test_other_calls_have_the_last_connection_before_a_thread_ends_to_wait(path: str, blocking: bool) -> None:
    client = redis.Redis(connection_pool=pool_of(redis, blocking, 1, path))
    jobs, other = SortedSet[str](client, "jobs", poll=5), SortedSet[str](client, "other")
    threads = [threading.Thread(target=jobs.pop, kwargs={"wait": 60}) for _ in range(30)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for _ in range(5):
        other.add("item")
    lasted = time.monotonic() - began
    jobs.update(map(str, range(30)))
    for thread in threads:
        thread.join()
    # Each looks some seconds after the one before, and would block until then.
    assert lasted < 10
    client.close()
    client.connection_pool.disconnect()


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking pool", "plain pool"])
@pytest.mark.usefixtures("raw")
def test_other_calls_have_the_last_connection_before_a_task_ends_to_wait(path: str, blocking: bool) -> None:
    async def main() -> float:
        client = redis.asyncio.Redis(connection_pool=pool_of(redis.asyncio, blocking, 1, path))
        jobs = redset.aio.SortedSet[str](client, "jobs")
        others = [redset.aio.SortedSet[str](client, f"other {number}") for number in range(30)]
        waiting = [asyncio.create_task(other.pop(wait=60)) for other in others]
        began = time.monotonic()
        for other in others:
            await jobs.add("item")
            await other.add("the end")
        lasted = time.monotonic() - began
        await asyncio.gather(*waiting)
        await close_awaited(client)
        await client.connection_pool.disconnect()
        return lasted

    # A command blocks for some seconds.
    assert asyncio.run(main()) < 20


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking pool", "plain pool"])
@pytest.mark.parametrize(("size", "way"), [(1, "consume"), (2, "consume"), (1, "pop"), (2, "reserve")])
@pytest.mark.usefixtures("raw")
def test_hundreds_of_tasks_need_few_connections(path: str, blocking: bool, size: int, way: str) -> None:
    tasks = 300

    async def main() -> list[str]:
        client = redis.asyncio.Redis(connection_pool=pool_of(redis.asyncio, blocking, size, path))
        jobs, got, stop = redset.aio.SortedSet[str](client, "jobs"), list[str](), asyncio.Event()

        async def work() -> None:
            if way == "consume":
                async for job in jobs.consume(wait=20, stop=stop):
                    got.append(job.item)
                    if len(got) == tasks:
                        stop.set()
            elif way == "pop":
                got.append(await jobs.pop(wait=20))
            else:
                one = await jobs.reserve(wait=20)
                async with one.keep_alive():
                    await one.ack()
                got.append(one.item)

        working = [asyncio.create_task(work()) for _ in range(tasks)]
        await asyncio.sleep(0.1)
        await jobs.update(str(number) for number in range(tasks))
        async with asyncio.timeout(30):
            await asyncio.gather(*working)
        assert (await jobs.stats()).leased == 0
        await close_awaited(client)
        # The pool is not the client's own.
        await client.connection_pool.disconnect()
        return got

    assert sorted(asyncio.run(main())) == sorted(map(str, range(tasks)))
