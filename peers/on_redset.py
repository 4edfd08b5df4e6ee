"""redset, in the ways a user has, each on both faces: ``pop``, ``take``, ``reserve``, ``consume``, ``consume-100``,
``aio-pop`` and so on. ``reserve`` acks in a call of its own; ``consume`` acks with the next hand-out.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import handling
import redis
import redis.asyncio

import redset
import redset.aio

BATCH = 100
#: Seconds after which the items of a worker that died are handed out again.
LEASE = 3


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    with redis.Redis(**handling.place(url)) as client:
        jobs = redset.TimeSortedSet(client, handling.QUEUE)
        yield jobs.add, jobs.update


def work(url: str) -> None:
    place = handling.place(url)
    if way := AWAITED.get(handling.way()):
        asyncio.run(way(redset.aio.TimeSortedSet(redis.asyncio.Redis(**place), handling.QUEUE)))
    else:
        BLOCKING[handling.way()](redset.TimeSortedSet(redis.Redis(**place), handling.QUEUE))


def pop(jobs: Any) -> None:
    while True:
        handling.handle(jobs.pop(wait=None))


def take(jobs: Any) -> None:
    while True:
        for item in jobs.take(BATCH, wait=None):
            handling.handle(item)


def reserve(jobs: Any) -> None:
    while True:
        with jobs.reserve(lease=LEASE, wait=None) as item:
            handling.handle(item)


def consume(jobs: Any) -> None:
    for reservation in jobs.consume(lease=LEASE):
        handling.handle(reservation.item)


def consume_100(jobs: Any) -> None:
    for reservation in jobs.consume(lease=LEASE, batch=BATCH):
        handling.handle(reservation.item)


async def pop_awaited(jobs: Any) -> None:
    while True:
        await handling.handle_awaited(await jobs.pop(wait=None))


async def take_awaited(jobs: Any) -> None:
    while True:
        for item in await jobs.take(BATCH, wait=None):
            await handling.handle_awaited(item)


async def reserve_awaited(jobs: Any) -> None:
    while True:
        async with await jobs.reserve(lease=LEASE, wait=None) as item:
            await handling.handle_awaited(item)


async def consume_awaited(jobs: Any) -> None:
    async for reservation in jobs.consume(lease=LEASE):
        await handling.handle_awaited(reservation.item)


async def consume_100_awaited(jobs: Any) -> None:
    async for reservation in jobs.consume(lease=LEASE, batch=BATCH):
        await handling.handle_awaited(reservation.item)


BLOCKING = {"pop": pop, "take": take, "reserve": reserve, "consume": consume, "consume-100": consume_100}
AWAITED = {
    "aio-pop": pop_awaited,
    "aio-take": take_awaited,
    "aio-reserve": reserve_awaited,
    "aio-consume": consume_awaited,
    "aio-consume-100": consume_100_awaited,
}

if __name__ == "__main__":
    handling.main(producing, work)
