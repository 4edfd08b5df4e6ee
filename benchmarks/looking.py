"""The cost of the live table and of the web page for the server.

Usage: python benchmarks/looking.py [options]

Fills sets in all states and one large one, then refreshes each view several times. ``server_ms`` is the server's CPU
time for one refresh, ``whole_ms`` the median until the view is there, rendered, with client and server together.
``commands`` are those that the server executed, and ``share`` is the part of a core of the server that one open view
costs, refreshed every two seconds. Prints figures and judges none.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report
from httpx import ASGITransport, AsyncClient

import redset
import redset.web
from redset.cli.top import Screen

COLUMNS = {"view": ">24", "sets": ">6", "server_ms": ">10", "whole_ms": ">9", "commands": ">9", "share": ">8"}
#: Seconds between two refreshes of a view.
REFRESH = 2.0
#: Seconds between two of the measured ones: pages share what was read within a second.
PAUSE = 1.1
#: Of an update.
MANY = 100_000


def main() -> None:
    parser = arguments(__doc__, rounds=20)
    parser.add_argument("--sets", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--items", type=int, default=1_000_000, help="in the largest of them (%(default)s)")
    options = parser.parse_args()
    logging.getLogger("redset").setLevel(logging.ERROR)  # The dead letters are made up.
    with place(options) as url, redis.Redis.from_url(url) as client:
        told = conditions(options, url)
        _fill(client, options.sets, options.items)
        table = Table(told, **COLUMNS)
        lines = []
        for view, refresh in _views(url).items():
            line = {"view": view, "sets": options.sets, **_measured(client, refresh, options.rounds)}
            lines.append(line)
            table.line(*(f"{cell:.2f}" if isinstance(cell, float) else cell for cell in line.values()))
    report(options, told, lines)


def _fill(client: Any, sets: int, items: int) -> None:
    for number in range(sets - 1):
        jobs = redset.TimeSortedSet(client, f"jobs-{number:03}", max_attempts=3)
        jobs.update([f"item {at}" for at in range(100)])
        jobs.nack(jobs.reserve_many(5), delay=1000)
        for held in jobs.reserve_many(5):
            held.bury("TimeoutError: it took too long")
        jobs.reserve_many(5, lease=1000)
    large = redset.SortedSet(client, "large")
    for start in range(0, items, MANY):
        large.update([f"item {at}" for at in range(start, min(start + MANY, items))], score=start)
    large.reserve_many(100, lease=10_000)


def _views(url: str) -> dict[str, Callable[[], Any]]:
    screen = Screen(redis.Redis.from_url(url))
    pages = redset.web.app(redis.Redis.from_url(url))
    runner = asyncio.Runner()
    browser = AsyncClient(transport=ASGITransport(pages), base_url="http://127.0.0.1")

    def page(path: str) -> Callable[[], Any]:
        return lambda: runner.run(browser.get(path)).raise_for_status()

    return {
        "redset top": lambda: screen.table(40, 120),
        "page: the large set": page("/sets/large/"),
        "page: its leases": page("/sets/large/?show=leased"),
        "page: all sets": page("/"),
    }


def _measured(client: Any, refresh: Callable[[], Any], rounds: int) -> dict[str, Any]:
    refresh()  # Connections are made, scripts are loaded.
    before, times = _spent(client), []
    for _ in range(rounds):
        time.sleep(PAUSE)
        began = time.perf_counter()
        refresh()
        times.append(time.perf_counter() - began)
    cpu, commands = ((new - old) / rounds for old, new in zip(before, _spent(client), strict=True))
    return {
        "server_ms": 1000 * cpu,
        "whole_ms": 1000 * statistics.median(times),
        "commands": commands,
        "share": f"{100 * cpu / REFRESH:.2f} %",
    }


def _spent(client: Any) -> tuple[float, int]:
    """Seconds of CPU time, and commands, so far."""
    cpu, stats = client.info("cpu"), client.info("stats")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], stats["total_commands_processed"]


if __name__ == "__main__":
    main()
