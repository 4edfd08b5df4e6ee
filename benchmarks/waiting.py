"""How long it takes from an `add` until a consumer that waits has the item.

Usage: python benchmarks/waiting.py [NAME ...] [options]

A producer and a consumer, each a process with a client of its own, and a server on TCP loopback. An item is the time of
its adding; the consumer compares that with the time it is there. Some items are added by a plain ZADD, as another
program would, and some fall due by themselves. Prints figures and judges none.
"""

import asyncio
import multiprocessing
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from multiprocessing.connection import Connection
from typing import Any

import redis
import redis.asyncio
from conditions import Table, arguments, conditions, place, report

import redset
import redset.aio

COLUMNS = {"face": "<10", "call": "<10", "what_comes": "<32", "samples": ">8"}

#: What the consumer does again and again, on either face.
WAYS: dict[str, Callable[[Any], Any]] = {
    "pop": lambda jobs: jobs.pop(wait=None),
    "reserve": lambda jobs: jobs.reserve(wait=None),
}


def main() -> None:
    parser = arguments(__doc__, rounds=1, cores="any")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as blocking/pop; all by default")
    parser.add_argument("--samples", type=float, default=1, help="times as many samples in each round (%(default)s)")
    options = parser.parse_args()
    with place(options) as url:
        told = conditions(options, url)
        table = Table(told, **COLUMNS, p50_ms=">9", p99_ms=">9", max_ms=">9")
        late: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for _ in range(options.rounds):
            for face, way, what in product(FACES, WAYS, EVENTS):
                if not options.names or f"{face}/{way}" in options.names:
                    add, samples = EVENTS[what]
                    number = max(1, int(samples * options.samples))
                    late[face, way, what] += _measure(url, FACES[face], way, add, number)
        lines = [_line(*which, table, sorted(times)) for which, times in late.items()]
    report(options, told, lines)


def _line(face: str, way: str, what: str, table: Table, late: list[float]) -> dict[str, Any]:
    """In milliseconds."""
    p50, p99, most = (1000 * seconds for seconds in (statistics.median(late), late[int(0.99 * len(late))], late[-1]))
    table.line(face, way, what, len(late), *(f"{value:.2f}" for value in (p50, p99, most)))
    return {"face": face, "call": way, "event": what, "samples": len(late), "p50": p50, "p99": p99, "max": most}


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
    samples += 1
    here, there = multiprocessing.Pipe()
    consumer = multiprocessing.Process(target=consume, args=(url, way, samples, there))
    late: list[float] = []
    with redis.Redis.from_url(url) as client:
        client.flushall()  # Before anybody waits there.
        consumer.start()
        there.close()  # So one that dies is noticed.
        jobs = redset.ScheduledSet(client, "jobs")
        here.recv()
        for _ in range(samples):
            # It is to wait again by then, and not always for the same time.
            time.sleep(random.uniform(0.005, 0.03))
            add(jobs, client)
            late.append(here.recv())
    consumer.join()
    return late[1:]  # The first one found neither a connection nor a script.


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


FACES: dict[str, Callable[..., None]] = {"blocking": _consume, "asyncio": _consume_awaited}


def _lateness(got: Any) -> float:
    return time.time() - float(getattr(got, "item", got))


if __name__ == "__main__":
    main()
