"""arq. Fast: no results kept, many jobs at a time, and a short pause between two polls."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import handling
from arq import Worker, create_pool, func
from arq.connections import RedisSettings

#: At 0.5 s, the default, a worker takes no more than queue_read_limit jobs in half a second.
POLL = 0.01


@contextlib.asynccontextmanager
async def producing(url: str) -> AsyncIterator[Any]:
    pool = await create_pool(RedisSettings.from_dsn(url), default_queue_name=handling.QUEUE)

    async def add(item: str) -> None:
        # https://arq-docs.helpmanual.io/#job-uniqueness: an id that is known is not enqueued again.
        await pool.enqueue_job("handle", item, **({"_job_id": item} if handling.is_reliable() else {}))

    async def add_many(items: Sequence[str]) -> None:
        await handling.together(add, items)

    yield add, add_many
    await pool.aclose()


async def handle(_: dict[Any, Any], item: str) -> None:
    await handling.handle_awaited(item)


def work(url: str) -> None:
    # https://arq-docs.helpmanual.io/: pessimistic execution. A job stays queued until it is done, under a mark that
    # lasts ten seconds longer than its timeout.
    reliable = {"job_timeout": 2, "max_tries": 100, "max_jobs": 10}
    # https://arq-docs.helpmanual.io/#arq.worker.Worker
    fast = {"max_jobs": 100, "queue_read_limit": 1000}
    Worker(
        [func(handle, name="handle")],
        queue_name=handling.QUEUE,
        redis_settings=RedisSettings.from_dsn(url),
        keep_result=0,
        poll_delay=POLL,
        **(reliable if handling.is_reliable() else fast),
    ).run()


if __name__ == "__main__":
    handling.main(producing, work)
