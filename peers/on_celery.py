"""Celery on its Redis broker. Fast: no results, no events, no chatter between workers, and many tasks prefetched."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import celery
import handling


def application(url: str) -> tuple[Any, Any]:
    app = celery.Celery(handling.QUEUE, broker=url)
    app.conf.task_ignore_result = True
    if handling.is_reliable():
        # https://docs.celeryq.dev/en/stable/faq.html#should-i-use-retry-or-acks-late and
        # https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html#visibility-timeout and
        # https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.redis.html
        app.conf.update(
            task_acks_late=True,
            task_reject_on_worker_lost=True,
            worker_prefetch_multiplier=1,
            broker_transport_options={
                "visibility_timeout": 5,
                "unacked_restore_interval": 1,
                "unacked_restore_throttle": 1,
            },
        )
    else:
        # https://docs.celeryq.dev/en/stable/userguide/optimizing.html#prefetch-limits
        app.conf.update(worker_prefetch_multiplier=128)
    return app, app.task(handling.handle, name="handle")


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    app, task = application(url)
    # https://docs.celeryq.dev/en/stable/userguide/calling.html#connections
    with app.producer_pool.acquire(block=True) as producer:

        def add(item: str) -> None:
            task.apply_async((item,), producer=producer)

        def add_many(items: Sequence[str]) -> None:
            for item in items:
                add(item)

        yield add, add_many


def work(url: str) -> None:
    app, _ = application(url)
    # https://docs.celeryq.dev/en/stable/userguide/workers.html
    quiet = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    options = ["--pool=prefork", "--concurrency=1"] if handling.is_reliable() else quiet
    app.worker_main(["worker", "--loglevel=ERROR", *options])


if __name__ == "__main__":
    handling.main(producing, work)
