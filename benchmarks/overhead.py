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

__all__ = ("WAYS", "Way", "compare_sets")

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
    with place(options) as url, redis.Redis.from_url(url) as client:
        told = conditions(options, url) | {"items": f"{options.items:,}", "shards": str(options.shards)}
        sets: dict[str, Any] = {
            "plain": redset.SortedSet(client, "plain"),
            "shards": redset.SortedSet(client, "over-shards", shards=options.shards),
        }
        lines = compare_sets(options, WAYS, sets, Table(told, **COLUMNS))
    report(options, told, lines)


def compare_sets(options: Any, ways: dict[str, Way], sets: dict[str, Any], table: Table) -> list[dict[str, Any]]:
    """Time the calls of two sets. Each ratio is that of the second to the first."""
    return [_compare(options, name, ways[name], sets, table) for name in options.only or ways]


def _compare(options: Any, name: str, way: Way, sets: dict[str, Any], table: Table) -> dict[str, Any]:
    spent: dict[str, list[float]] = {which: [] for which in sets}
    for number in range(options.rounds + 1):
        for which in sorted(sets, reverse=number % 2 == 1):
            took = _sample(sets[which], way, options.items)
            if number:
                spent[which].append(took)
    ratios = [after / before for before, after in zip(*spent.values(), strict=True)]
    ratio, (low, high) = statistics.median(ratios), spread(ratios)
    times = {f"{which}_us": statistics.median(each) for which, each in spent.items()}
    figures = [f"{each:.2f}" for each in times.values()]
    table.line(name, *figures, f"{ratio:.3f}", f"{low:.3f} .. {high:.3f}", f"{way.goal:.2f}")
    return {"name": name, **times, "ratio": ratio, "low": low, "high": high, "goal": way.goal}


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
