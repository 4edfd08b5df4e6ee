"""redis-message-queue 11. Fast: without deduplication and a visibility timeout, both of which are optional."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import handling
from redis import Redis
from redis_message_queue import RedisMessageQueue


def queue_at(url: str) -> RedisMessageQueue:
    client = Redis.from_url(url, decode_responses=True)
    if handling.is_reliable():
        # https://github.com/Elijas/redis-message-queue/blob/main/docs/configuration.md#crash-recovery-with-visibility-timeout
        return RedisMessageQueue(
            handling.QUEUE,
            client=client,
            get_deduplication_key=str,
            visibility_timeout_seconds=3,
            heartbeat_interval_seconds=1,
            max_delivery_count=100,
        )
    # Both: the number of deliveries is limited by default, which needs the timeout.
    return RedisMessageQueue(handling.QUEUE, client=client, visibility_timeout_seconds=None, max_delivery_count=None)


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
