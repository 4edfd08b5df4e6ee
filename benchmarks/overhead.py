"""Compares the calls of a set over shards with those of a plain set, on a single server.

Usage: python benchmarks/overhead.py [options]

Each round times both sets one right after the other, taking turns in going first. Said is the median of the ratios of
the rounds, and between which values half lie.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report
from measure import spread

import redset

COLUMNS = {"": "<18", "plain_us": ">10", "shards_us": ">10", "ratio": ">8", "half_lie_between": ">18", "goal": ">6"}


@dataclass(frozen=True)
class Way:
    goal: float
    #: Makes the calls of a sample.
    work: Callable[[Any, list[str]], Any]
    #: Whether the items are there before, and how many times as many as ``--items``.
    takes: bool = True
    times: int = 1


def _pop(jobs: Any, items: list[str]) -> None:
    for _ in items:
        jobs.pop()


def _add(jobs: Any, items: list[str]) -> None:
    for number, item in enumerate(items):
        jobs.add(item, score=number)


def _reserve(jobs: Any, items: list[str]) -> None:
    for _ in items:
        jobs.reserve().ack()


def _take(jobs: Any, items: list[str]) -> None:
    for _ in range(0, len(items), 1000):
        jobs.take(1000)


WAYS = {
    "add": Way(1.03, _add, takes=False),
    "pop": Way(1.10, _pop),
    "reserve, ack": Way(1.10, _reserve),
    "take(1000)": Way(2.0, _take, times=10),
}


def main() -> None:
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--items", type=int, default=2000, help="of each sample (%(default)s)")
    parser.add_argument("--shards", type=int, default=16, help="how many (%(default)s)")
    parser.add_argument("--only", action="append", choices=WAYS, help="measure this line only")
    options = parser.parse_args()
    with place(options) as url:
        told = conditions(options, url) | {"items": f"{options.items:,}", "shards": str(options.shards)}
        client = redis.Redis.from_url(url)
        table, lines = Table(told, **COLUMNS), []
        for name, way in WAYS.items():
            if options.only and name not in options.only:
                continue
            sets: dict[str, Any] = {
                "plain": redset.SortedSet(client, "plain"),
                "shards": redset.SortedSet(client, "over-shards", shards=options.shards),
            }
            spent: dict[str, list[float]] = {"plain": [], "shards": []}
            for number in range(options.rounds + 1):
                for which in sorted(sets, reverse=number % 2 == 1):
                    took = _sample(sets[which], way, options.items)
                    if number:
                        spent[which].append(took)
            ratios = [over / plain for plain, over in zip(spent["plain"], spent["shards"], strict=True)]
            ratio, (low, high) = statistics.median(ratios), spread(ratios)
            plain_us, shards_us = (statistics.median(each) for each in spent.values())
            between = f"{low:.2f} .. {high:.2f}"
            table.line(name, f"{plain_us:.2f}", f"{shards_us:.2f}", f"{ratio:.2f}", between, f"{way.goal:.2f}")
            line = {
                "name": name,
                "plain_us": plain_us,
                "shards_us": shards_us,
                "ratio": ratio,
                "low": low,
                "high": high,
            }
            lines.append(line | {"goal": way.goal})
        client.close()
    report(options, told, lines)


def _sample(jobs: Any, way: Way, count: int) -> float:
    """Return the microseconds of each item."""
    items = [f"https://example.org/products/{number * 7919 % 1_000_003:07}" for number in range(count * way.times)]
    jobs.clear()
    if way.takes:
        jobs.update(items, score=lambda item: int(item[-7:]))
    began = time.perf_counter()
    way.work(jobs, items)
    return 1e6 * (time.perf_counter() - began) / len(items)


if __name__ == "__main__":
    main()
