"""The bare client: ZADD, and ZPOPMIN in a loop. What is handed out is forgotten, so a crash loses it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import handling
import redis


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    client = redis.Redis(**handling.place(url))

    def add_many(items: Sequence[str]) -> None:
        client.zadd(handling.QUEUE, dict.fromkeys(items, 1))

    yield lambda item: client.zadd(handling.QUEUE, {item: 1}), add_many


def work(url: str) -> None:
    client = redis.Redis(**handling.place(url))
    number = int(handling.way() or 1)
    while True:
        if number == 1:
            _, item, _ = client.bzpopmin(handling.QUEUE)
            handling.handle(item.decode())
        else:
            for item, _ in client.zpopmin(handling.QUEUE, number):
                handling.handle(item.decode())


if __name__ == "__main__":
    handling.main(producing, work)
