"""docket (on the package registry: pydocket). Fast: no record kept of what is done."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import handling
from docket import Docket, Worker


async def handle(item: str) -> None:
    await handling.handle_awaited(item)


def docket_at(url: str) -> Docket:
    return Docket(name=handling.QUEUE, url=url, execution_ttl=timedelta(0))


@contextlib.asynccontextmanager
async def producing(url: str) -> AsyncIterator[Any]:
    async with docket_at(url) as docket:
        docket.register(handle)

        async def add(item: str) -> None:
            # https://docket.lol/: a key that is known is not added again.
            await docket.add(handle, **({"key": item} if handling.is_reliable() else {}))(item)

        async def add_many(items: Sequence[str]) -> None:
            await docket.add_many([docket.call(handle)(item) for item in items])

        yield add, add_many


def work(url: str) -> None:
    logging.disable(logging.WARNING)
    # https://docket.lol/en/latest/production/: what a worker has not renewed for so long, another takes over.
    reliable = {"redelivery_timeout": timedelta(seconds=3), "concurrency": 10}
    fast = {"concurrency": 10, "minimum_check_interval": timedelta(milliseconds=1)}

    async def run() -> None:
        async with docket_at(url) as docket:
            docket.register(handle)
            async with Worker(docket, **(reliable if handling.is_reliable() else fast)) as worker:
                await worker.run_forever()

    asyncio.run(run())


if __name__ == "__main__":
    handling.main(producing, work)
