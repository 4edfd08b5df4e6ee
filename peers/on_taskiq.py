"""taskiq on taskiq-redis, in two ways: ``list``, its list queue, and ``stream``, its stream broker."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import handling
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisStreamBroker


def tasks(url: str) -> tuple[Any, Any]:
    # https://github.com/taskiq-python/taskiq-redis#brokers
    if handling.way() == "list":
        broker: Any = ListQueueBroker(url, queue_name=handling.QUEUE)
    elif handling.is_reliable():
        broker = RedisStreamBroker(url, queue_name=handling.QUEUE, idle_timeout=3000, unacknowledged_lock_timeout=5)
    else:
        broker = RedisStreamBroker(url, queue_name=handling.QUEUE)
    return broker, broker.register_task(handling.handle_awaited, task_name="handle")


@contextlib.asynccontextmanager
async def producing(url: str) -> AsyncIterator[Any]:
    broker, task = tasks(url)
    await broker.startup()

    async def add(item: str) -> None:
        await task.kiq(item)

    async def add_many(items: Sequence[str]) -> None:
        await handling.together(add, items)

    yield add, add_many
    await broker.shutdown()


def work(url: str) -> None:
    logging.disable(logging.WARNING)
    broker, _ = tasks(url)
    # https://taskiq-python.github.io/guide/cli.html#acknowledgements
    when = AcknowledgeType.WHEN_EXECUTED if handling.is_reliable() else AcknowledgeType.WHEN_RECEIVED
    asyncio.run(run_receiver_task(broker, run_startup=True, max_async_tasks=100, validate_params=False, ack_time=when))


if __name__ == "__main__":
    handling.main(producing, work)
