"""streaq. Fast: no results, and many tasks at a time."""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import handling
from streaq import Worker


def tasks(url: str) -> tuple[Any, Any]:
    # https://streaq.readthedocs.io/en/latest/worker.html
    reliable = {"idle_timeout": 3, "concurrency": 16}
    fast = {"concurrency": 200, "prefetch": 256}
    worker: Any = Worker(url, queue_name=handling.QUEUE, **(reliable if handling.is_reliable() else fast))
    task = worker.task(name="handle", ttl=0, silent=True, max_tries=100)(handling.handle_awaited)
    return worker, task


@contextlib.asynccontextmanager
async def producing(url: str) -> AsyncIterator[Any]:
    worker, task = tasks(url)

    async def add(item: str) -> None:
        await task.enqueue(item)

    async def add_many(items: Sequence[str]) -> None:
        # https://streaq.readthedocs.io/en/latest/task.html: enqueue_many sends one pipeline.
        await worker.enqueue_many([task.enqueue(item) for item in items])

    async with worker:
        yield add, add_many


def work(url: str) -> None:
    logging.disable(logging.WARNING)
    worker, _ = tasks(url)
    worker.run_sync()


if __name__ == "__main__":
    handling.main(producing, work)
