"""How fast redset is beside the bare client doing the least for the same result.

Usage: python benchmarks/run.py [NAME ...] [options]

Prints figures and judges none. README.md says how to read them.
"""

import argparse
import asyncio
import cProfile
import pstats
import sys
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from conditions import Table, arguments, conditions, place, report
from server import ServerTime

if TYPE_CHECKING:
    from cases import Benchmark
    from measure import Side
    from stage import Stage

COLUMNS = {"": "<42", "against": "<16", "bare_us": ">10", "redset_us": ">10", "adds_us": ">9", "ratio": ">7"}


def main() -> None:
    options = _options()
    if options.no_hiredis:
        sys.modules["hiredis"] = None  # type: ignore[assignment] # So its import fails, and redis-py does without.
    with place(options) as url, asyncio.Runner() as loop:
        if options.list:
            print(*(name for name, _, _ in _chosen(options, url, loop)), sep="\n")
        elif options.profile:
            _profile(options, url, loop)
        else:
            told = conditions(options, url)
            table = Table(told, **COLUMNS, half_lie_between=">16")
            report(options, told, [_measure(*chosen, options, table) for chosen in _chosen(options, url, loop)])


def _options() -> argparse.Namespace:
    parser = arguments(__doc__, rounds=25)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="what to run: parts of a benchmark's name in any order, such as take-1000 or pop/scheduled/asyncio",
    )
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--protocol", type=int, choices=(2, 3), help="of RESP; else the client's default")
    parser.add_argument("--no-hiredis", action="store_true", help="the client's own parser of replies")
    parser.add_argument("--server-time", action="store_true", help="also the server's own time for each command")
    parser.add_argument("--profile", action="store_true", help="where redset's Python time goes; no comparison")
    return parser.parse_args()


def _measure(
    name: str, benchmark: "Benchmark", stage: "Stage", options: argparse.Namespace, table: Table
) -> dict[str, Any]:
    from measure import compare

    server_time = ServerTime(stage.control) if options.server_time else None
    arguments = _prepare(stage, benchmark)

    def sample(side: "Side") -> float:
        stage.fill(side)
        if server_time:
            server_time.begin()
        seconds = stage.time(side, arguments)
        if server_time:
            server_time.end(side.key, benchmark.calls)
        return seconds / benchmark.calls

    comparison = benchmark.define(stage)
    result = compare(comparison, sample, min(options.rounds, benchmark.rounds or options.rounds))
    table.line(name, comparison.against, *result.as_cells())
    if server_time:
        print(server_time)
    return result.as_line(name, comparison.against)


def _profile(options: argparse.Namespace, url: str, loop: asyncio.Runner) -> None:
    """Runs the redset side alone under cProfile; the times are inflated, what matters is how they compare."""
    for name, benchmark, stage in _chosen(options, url, loop):
        arguments = _prepare(stage, benchmark)
        side = benchmark.define(stage).redset
        profile = cProfile.Profile()
        for _ in range(options.rounds):
            stage.fill(side)
            profile.runcall(stage.time, side, arguments)
        print(f"\n{name}: {options.rounds * benchmark.calls} calls")
        pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(25)


def _prepare(stage: "Stage", benchmark: "Benchmark") -> list[Any]:
    """Says what waits before each sample, and returns the items that the calls of a sample are given."""
    items = stage.items(max(benchmark.waiting, benchmark.calls))
    stage.prepare(items[: benchmark.waiting])
    return items[: benchmark.calls]


def _chosen(options: argparse.Namespace, url: str, loop: asyncio.Runner) -> Iterator[tuple[str, "Benchmark", "Stage"]]:
    """The benchmarks that were asked for, by name, each with its stage."""
    # Only now: these import redis, which must see whether there is a hiredis.
    from cases import BENCHMARKS
    from stage import FACES, WIRES, Stage

    for face, benchmark, wire in product(FACES, BENCHMARKS, WIRES):
        for kind in benchmark.kinds:
            parts = (benchmark.name, kind, wire, face)
            if not options.names or any(set(name.split("/")) <= set(parts) for name in options.names):
                stage = Stage(url, loop, kind, face, wire, protocol=options.protocol)
                yield "/".join(parts), benchmark, stage
                stage.close()


if __name__ == "__main__":
    main()
