"""redis-message-queue 1.0.0. Fast: without deduplication and a visibility timeout, both of which are optional."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import handling
from redis import Redis
from redis_message_queue import RedisMessageQueue


def queue_at(url: str) -> RedisMessageQueue:
    client = Redis.from_url(url, decode_responses=True)
    if handling.is_reliable():
        # https://github.com/Elijas/redis-message-queue#crash-recovery-with-visibility-timeout
        return RedisMessageQueue(
            handling.QUEUE,
            client=client,
            deduplication=True,
            visibility_timeout_seconds=3,
            heartbeat_interval_seconds=1,
        )
    return RedisMessageQueue(handling.QUEUE, client=client, deduplication=False)


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    queue = queue_at(url)

    def add_many(items: Sequence[str]) -> None:
        for item in items:
            queue.publish(item)

    yield queue.publish, add_many


def work(url: str) -> None:
    queue = queue_at(url)
    while True:
        with queue.process_message() as message:
            if message is not None:
                handling.handle(message)


if __name__ == "__main__":
    handling.main(producing, work)
