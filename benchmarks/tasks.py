"""How fast many asyncio tasks are that share round trips, beside as many that call the bare client.

Usage: python benchmarks/tasks.py [NAME ...] [--tasks 1,10,100] [options]

Each task makes its calls one after the other. Both sides have a client with a connection pool, as it is by default. The
lines `... unshared` compare redset with itself, with every call going out alone. README.md says how to read the rest.
"""

import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from conditions import Table, arguments, conditions, place, report
from measure import Comparison, Side, compare

import redset.aio
from redset.core.drivers import AsyncDriver
from redset.core.operations import Operation

BARE, REDSET = "bare", "redset"
COLUMNS = {"": "<28", "against": "<18", "theirs_us": ">10", "redset_us": ">10", "adds_us": ">9", "ratio": ">7"}

Call = Callable[[Any], Awaitable[Any]]


class Unshared(AsyncDriver):
    """Has every call go out alone."""

    __slots__ = ()

    def _place(self, _: Operation[Any]) -> None:
        return None


class UnsharedSet(redset.aio.SortedSet[str]):
    _driver_type = Unshared


@dataclass(frozen=True)
class Benchmark:
    #: The bare client's call for one item, and redset's: given a client, and what redset's set is.
    against: str
    bare: Callable[[Any], Call]
    ours: Callable[[Any], Call]
    #: Whether items wait before.
    takes: bool


def reserving_and_acking(ss: Any) -> Call:
    async def reserve_and_ack(_: Any) -> None:
        await (await ss.reserve()).ack()

    return reserve_and_ack


def popping_and_noting(client: Any) -> Call:
    """The least that says both that an item was begun and that it is done; a crash in between loses it."""

    async def pop_and_note(_: Any) -> None:
        ((item, score),) = await client.zpopmin(BARE)
        await client.zadd("begun", {item: score})
        await client.zrem("begun", item)

    return pop_and_note


def zadd(client: Any) -> Call:
    return lambda item: client.zadd(BARE, {item: 1})


def zpopmin(client: Any) -> Call:
    return lambda _: client.zpopmin(BARE)


BENCHMARKS = {
    "add": Benchmark("ZADD", zadd, lambda ss: lambda item: ss.add(item, 1), takes=False),
    "pop": Benchmark("ZPOPMIN", zpopmin, lambda ss: lambda _: ss.pop(), takes=True),
    "reserve-ack": Benchmark("ZPOPMIN", zpopmin, reserving_and_acking, takes=True),
    "reserve-ack-noted": Benchmark("ZPOPMIN ZADD ZREM", popping_and_noting, reserving_and_acking, takes=True),
    "contains": Benchmark(
        "ZSCORE", lambda client: lambda item: client.zscore(BARE, item), lambda ss: ss.contains, takes=False
    ),
}


def main() -> None:
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--tasks", default="1,100", help="how many tasks (%(default)s)")
    parser.add_argument(
        "--calls",
        type=int,
        default=600,
        help="of one task in a sample, and a sixth of that for each of many (%(default)s)",
    )
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with place(options) as url, asyncio.Runner() as loop:
        told = conditions(options, url)
        table = Table(told, **COLUMNS, half_lie_between=">16")
        for tasks in map(int, options.tasks.split(",")):
            for name in options.names or BENCHMARKS:
                lines += measure(name, tasks, options, url, loop, table)
    report(options, told, lines)


def measure(
    name: str, tasks: int, options: argparse.Namespace, url: str, loop: asyncio.Runner, table: Table
) -> Iterator[dict[str, Any]]:
    benchmark = BENCHMARKS[name]
    control, client = redis.Redis.from_url(url), redis.asyncio.Redis.from_url(url)
    items = [f"https://example.org/products/{i:07}" for i in range(max(1, tasks // 6) * options.calls)]
    ours = Side(REDSET, benchmark.ours(redset.aio.SortedSet[str](client, REDSET)))
    unshared = Side(REDSET, benchmark.ours(UnsharedSet(client, REDSET)))
    comparisons = {
        f"{name}/{tasks}": Comparison(benchmark.against, Side(BARE, benchmark.bare(client)), ours),
        f"{name}/{tasks} unshared": Comparison("redset", unshared, ours),
    }

    def sample(side: Side) -> float:
        control.flushdb()
        if benchmark.takes:
            control.zadd(side.key, dict.fromkeys(items, 1))
        return loop.run(time_tasks(side, items, tasks)) / len(items)

    for line, comparison in comparisons.items():
        result = compare(comparison, sample, options.rounds)
        table.line(line, comparison.against, *result.as_cells())
        yield result.as_line(line, comparison.against) | {"tasks": tasks}
    loop.run(client.aclose())
    control.close()


async def time_tasks(side: Side, items: list[str], tasks: int) -> float:
    """The seconds that so many tasks take for all items."""

    async def work(share: list[str]) -> None:
        for item in share:
            await side.call(item)

    gc.collect()
    gc.disable()
    started = time.perf_counter()
    await asyncio.gather(*(work(items[first::tasks]) for first in range(tasks)))
    seconds = time.perf_counter() - started
    gc.enable()
    return seconds


if __name__ == "__main__":
    main()
