"""SAQ. Fast: nothing kept of a job that is done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import handling
from saq import Job, Queue, Worker


def job(item: str) -> Job:
    # https://saq-py.readthedocs.io/en/latest/reference/job.html: the sweep retries what has run for too long, while
    # it has retries; a key that is known is not enqueued again.
    reliable = {"key": item, "timeout": 3, "retries": 100, "ttl": -1}
    return Job("handle", {"item": item}, **(reliable if handling.is_reliable() else {"ttl": -1}))


@contextlib.asynccontextmanager
async def producing(url: str) -> AsyncIterator[Any]:
    queue = Queue.from_url(url, name=handling.QUEUE)

    async def add(item: str) -> None:
        await queue.enqueue(job(item))

    async def add_many(items: Sequence[str]) -> None:
        await handling.together(add, items)

    yield add, add_many
    await queue.disconnect()


async def handle(_: dict[str, Any], *, item: str) -> None:
    await handling.handle_awaited(item)


def work(url: str) -> None:
    async def start() -> None:
        # https://saq-py.readthedocs.io/en/latest/reference/worker.html
        options = {"concurrency": 10, "timers": {"sweep": 5}} if handling.is_reliable() else {"concurrency": 50}
        await Worker(Queue.from_url(url, name=handling.QUEUE), [handle], **options).start()

    asyncio.run(start())


if __name__ == "__main__":
    handling.main(producing, work)
