"""Concurrency, with real processes: every distinct item is handed out exactly once."""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio

import redset
import redset.aio

pytestmark = pytest.mark.no_cover

PRODUCERS = CONSUMERS = 8
#: Seconds after which a consumer that still waits for the end is taken for one that would wait for ever.
PATIENCE = 60

END = "jobs:all-added"


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """A process for each producer and consumer, which connect for themselves: half of them on each face."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(PRODUCERS + CONSUMERS, mp_context=context) as pool:
        yield pool


def test_what_many_add_is_handed_out_once(server: Any, raw: Any, kind: str, processes: ProcessPoolExecutor) -> None:
    """Every producer adds every item, so that each is added eight times before the first is taken."""
    items = [f"page {number}" for number in range(300)]
    for added in [processes.submit(add, server.url, kind, items, number) for number in range(PRODUCERS)]:
        added.result()
    raw.set(END, "1")
    taking = [processes.submit(take_until_end, server.url, kind, number) for number in range(CONSUMERS)]

    assert_each_once(taking, items)


def test_what_is_added_while_others_take_is_handed_out_once(
    server: Any, raw: Any, kind: str, processes: ProcessPoolExecutor
) -> None:
    """Every producer adds items of its own, while the consumers take: nothing is lost between."""
    shares = [[f"page {producer}-{number}" for number in range(100)] for producer in range(PRODUCERS)]
    taking = [processes.submit(take_until_end, server.url, kind, number) for number in range(CONSUMERS)]
    adding = [processes.submit(add, server.url, kind, share, number) for number, share in enumerate(shares)]
    for added in adding:
        added.result()
    raw.set(END, "1")

    assert_each_once(taking, [item for share in shares for item in share])


def assert_each_once(taking: "list[Future[list[str]]]", items: list[str]) -> None:
    handed_out = Counter(item for taken in taking for item in taken.result())

    assert {item: times for item, times in handed_out.items() if times > 1} == {}
    assert handed_out.keys() == set(items)


# In the processes. Each takes items both one by one and several at a time.


def add(url: str, kind: str, items: list[str], number: int) -> None:
    if number % 2:
        asyncio.run(add_awaited(url, kind, items))
        return
    with redis.Redis.from_url(url) as client:
        jobs = getattr(redset, kind)(client, "jobs")
        for item in items[number:] + items[:number]:
            jobs.add(item)


async def add_awaited(url: str, kind: str, items: list[str]) -> None:
    async with redis.asyncio.Redis.from_url(url) as client:
        jobs = getattr(redset.aio, kind)(client, "jobs")
        for item in reversed(items):
            await jobs.add(item)


def take_until_end(url: str, kind: str, number: int) -> list[str]:
    """Takes until all is added and the set is found empty after that."""
    if number % 2:
        return asyncio.run(take_until_end_awaited(url, kind))
    taken: list[str] = []
    give_up_at = time.monotonic() + PATIENCE
    with redis.Redis.from_url(url) as client:
        jobs = getattr(redset, kind)(client, "jobs")
        while time.monotonic() < give_up_at:
            all_added = client.exists(END)
            try:
                taken.append(jobs.pop())
            except KeyError:
                if all_added:
                    return taken
            taken += jobs.take(7)
    raise AssertionError("nobody said that all was added")


async def take_until_end_awaited(url: str, kind: str) -> list[str]:
    taken: list[str] = []
    give_up_at = time.monotonic() + PATIENCE
    async with redis.asyncio.Redis.from_url(url) as client:
        jobs = getattr(redset.aio, kind)(client, "jobs")
        while time.monotonic() < give_up_at:
            all_added = await client.exists(END)
            try:
                taken.append(await jobs.pop())
            except KeyError:
                if all_added:
                    return taken
            taken += await jobs.take(7)
    raise AssertionError("nobody said that all was added")
