"""dramatiq on its Redis broker."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import handling


def actor(url: str) -> tuple[Any, Any]:
    if not handling.is_reliable():
        # https://dramatiq.io/advanced.html: read on import; by default twice the threads, and a wait whenever they are
        # taken.
        os.environ["dramatiq_queue_prefetch"] = "1000"  # noqa: SIM112 # its own name
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.middleware import Retries

    if handling.is_reliable():
        # https://dramatiq.io/reference.html#dramatiq.brokers.redis.RedisBroker: whoever misses the heartbeat is dead,
        # and what it had is enqueued again by the maintenance, which a chance in a million of the commands triggers.
        broker = RedisBroker(**handling.place(url), heartbeat_timeout=15_000, maintenance_chance=100_000)
    else:
        # https://dramatiq.io/guide.html: what is not needed can be left out.
        broker = RedisBroker(**handling.place(url), middleware=[Retries()])
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(handling.handle, actor_name="handle", queue_name=handling.QUEUE, broker=broker)


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    broker, handle = actor(url)

    def add_many(items: Sequence[str]) -> None:
        import dramatiq

        # https://dramatiq.io/cookbook.html#composition: a group sends one by one as well.
        dramatiq.group([handle.message(item) for item in items]).run()

    yield handle.send, add_many
    broker.close()


def work(url: str) -> None:
    logging.disable(logging.WARNING)
    broker, _ = actor(url)
    from dramatiq import Worker

    Worker(broker, worker_threads=8 if handling.is_reliable() else 1).start()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    handling.main(producing, work)
