"""BullMQ's Python port. Fast: nothing kept of a job that is done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import handling
from bullmq import Queue, Worker


def job_options(item: str) -> dict[str, Any]:
    # https://docs.bullmq.io/guide/jobs/job-ids: an id that is known is not added again, while the job is there.
    return {"removeOnComplete": True} | ({"jobId": item, "attempts": 100} if handling.is_reliable() else {})


@contextlib.asynccontextmanager
async def producing(url: str) -> AsyncIterator[Any]:
    queue = Queue(handling.QUEUE, {"connection": url})

    async def add(item: str) -> None:
        await queue.add("handle", {"item": item}, job_options(item))

    async def add_many(items: Sequence[str]) -> None:
        # https://docs.bullmq.io/guide/queues/adding-bulks
        await queue.addBulk([{"name": "handle", "data": {"item": item}, "opts": job_options(item)} for item in items])

    yield add, add_many
    await queue.close()


async def handle(job: Any, _: str) -> None:
    await handling.handle_awaited(job.data["item"])


def work(url: str) -> None:
    # https://docs.bullmq.io/guide/workers/stalled-jobs
    reliable = {"lockDuration": 3000, "stalledInterval": 1000, "maxStalledCount": 100, "concurrency": 10}
    # https://docs.bullmq.io/guide/workers/concurrency
    fast = {"concurrency": 20}

    async def run() -> None:
        Worker(handling.QUEUE, handle, {"connection": url, **(reliable if handling.is_reliable() else fast)})
        await asyncio.Event().wait()

    asyncio.run(run())


if __name__ == "__main__":
    handling.main(producing, work)
