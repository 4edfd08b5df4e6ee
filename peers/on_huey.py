"""huey. Fast: no results, one worker thread, nothing scheduled."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import handling
from huey import RedisHuey


def tasks(url: str) -> tuple[Any, Any]:
    huey = RedisHuey(handling.QUEUE, results=False, **handling.place(url))
    return huey, huey.task(name="handle")(handling.handle)


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    _, handle = tasks(url)

    def add_many(items: Sequence[str]) -> None:
        # https://huey.readthedocs.io/en/latest/guide.html#task-mapping: one by one, it is a loop.
        for item in items:
            handle(item)

    yield handle, add_many


def work(url: str) -> None:
    logging.getLogger("huey").setLevel(logging.ERROR)
    huey, _ = tasks(url)
    # https://huey.readthedocs.io/en/latest/consumer.html
    huey.create_consumer(workers=1, periodic=False, check_worker_health=handling.is_reliable()).run()


if __name__ == "__main__":
    handling.main(producing, work)
