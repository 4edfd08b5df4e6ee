"""What a call costs on a large set, where the same on a small one costs 1.

Usage: python benchmarks/growth.py [--large N] [--small N] [options]

Ten million items take about 1.5 GB of the server's memory. Both sets are on one server, and each round times both.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset

#: How many calls make one sample.
CALLS = 300
COLUMNS = {"": "<8", "small_us": ">12", "large_us": ">12", "ratio": ">7", "half_lie_between": ">18"}


def main() -> None:
    parser = arguments(__doc__, rounds=25)
    parser.add_argument("--small", type=int, default=10_000, help="items of the small set (%(default)s)")
    parser.add_argument("--large", type=int, default=10_000_000, help="items of the large set (%(default)s)")
    options = parser.parse_args()
    with place(options) as url:
        client = redis.Redis.from_url(url)
        small, large = redset.TimeSortedSet(client, "small"), redset.TimeSortedSet(client, "large")
        told = conditions(options, url)
        for ss, size in (small, options.small), (large, options.large):
            ss.update(_items(size), score=_position)
        told["sizes"] = f"{options.small:,} and {options.large:,} items"
        told["memory"] = f"{client.info('memory')['used_memory'] / 2**20:,.0f} MB"
        table = Table(told, **COLUMNS)
        sides = (small, options.small), (large, options.large)
        lines = [_measure(name, call, *sides, options.rounds, table) for name, call in CASES.items()]
    report(options, told, lines)


def _items(size: int) -> Iterator[str]:
    return (f"https://example.org/products/{number:08}" for number in range(size))


def _position(item: str) -> float:
    """Spread over the set, so that neighbours in order were not added one after the other."""
    return int(item[-8:]) * 7919 % 1_000_003 + 0.123457


#: What is done with a set of so many items, by a number that is another one each time.
CASES: dict[str, Callable[[Any, int, int], Any]] = {
    "add": lambda ss, size, number: ss.add(f"https://example.org/news/{number:08}", score=number % 1_000_003),
    "pop": lambda ss, size, number: ss.pop(),
    "in": lambda ss, size, number: f"https://example.org/products/{number % size:08}" in ss,
    "ss[i]": lambda ss, size, number: ss[number % size // 2],
}


def _measure(
    name: str,
    call: Callable[[Any, int, int], Any],
    small: tuple[Any, int],
    large: tuple[Any, int],
    rounds: int,
    table: Table,
) -> dict[str, Any]:
    numbers = iter(lambda: random.randrange(10**8), None)
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(rounds + 1):
        for side, (ss, size) in enumerate((small, large)):
            chosen = list(islice(numbers, CALLS))
            started = time.perf_counter()
            for number in chosen:
                call(ss, size, number)
            times[side].append((time.perf_counter() - started) / CALLS * 1e6)
            if name == "pop":
                ss.update((f"https://example.org/again/{number:08}" for number in chosen), score=-1)
    ratios = [large_time / small_time for small_time, large_time in zip(times[0], times[1], strict=True)][1:]
    low, _, high = statistics.quantiles(ratios, n=4)
    ratio = statistics.median(ratios)
    times_us = [statistics.median(times[side][1:]) for side in (0, 1)]
    table.line(name, *(f"{us:.1f}" for us in times_us), f"{ratio:.2f}", f"{low:.2f} .. {high:.2f}")
    line = {"name": name, "ratio": ratio, "low": low, "high": high}
    return line | {"small_us": times[0][1:], "large_us": times[1][1:], "small": small[1], "large": large[1]}


if __name__ == "__main__":
    main()
