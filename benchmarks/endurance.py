"""Sets of all kinds at half load for a long time: whether memory, descriptors and delays stay as they are.

Usage: python benchmarks/endurance.py [--minutes 60] [options]

Each kind of set has a thread of its own in a blocking process, and a task in an asyncio process. Each adds and claims
as fast as it can for some seconds, and from then on half as often. Each line of the table is one minute: the memory of
the server and of both clients, open descriptors, and how long a cycle of additions, claims and ends took. At the end
the equations of the totals must hold. Prints figures and judges none but those.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from conditions import Table, arguments, conditions, place, report

import redset
import redset.aio

COLUMNS = {
    "minute": ">7",
    "per_second": ">11",
    "p50_ms": ">8",
    "p99_ms": ">8",
    "server_mb": ">10",
    "clients_mb": ">11",
    "files": ">6",
}
#: Seconds for which all go as fast as they can.
CALIBRATION = 5.0
SLICE = 60.0
MB = 1024 * 1024

Cycle = Callable[[Any, int], Any]


def of_group(item: str) -> str:
    return item.partition(" ")[0]


#: The sets, by the names of their classes in both faces, and with their options.
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("SortedSet", {}),
    "keyed": ("TimeSortedSet", {"serializer": json, "key": lambda item: item["id"], "remember": 20}),
    "dying": ("SortedSet", {"max_attempts": 1, "max_dead": 100}),
    "scheduled": ("ScheduledSet", {}),
    "periodic": ("PeriodicSet", {"interval": 0.5}),
    "grouped": ("SortedSet", {"group": of_group, "per_group": redset.Limit(leases=2), "turns": "fair"}),
    "sharded": ("SortedSet", {"shards": 4}),
    "expiring": ("ExpiringSet", {"ttl": 20}),
}


async def _cycle(jobs: Any, number: int) -> None:
    """Add something, claim something, end it. The blocking process runs the same through :class:`Now`."""
    kind = jobs.name.partition(" ")[2]
    if kind == "expiring":
        await jobs.add(f"seen {number}")
        await jobs.contains(f"seen {number - 10}")
    elif kind == "periodic":
        await jobs.add(f"feed {number % 500}")
        await jobs.take(10)
    elif kind == "scheduled":
        await jobs.add(f"mail {number}", delay=0.1)
        await jobs.take(10)
    else:
        item: Any = {"id": number, "text": "x" * 100} if kind == "keyed" else f"{number % 40} {number}"
        await jobs.add(item)
        held = await jobs.reserve(lease=30)
        if held is not None:
            await (held.nack(reason="OSError: made up") if kind == "dying" else held.ack())


class Now:
    """A set or a reservation of the blocking face, whose methods can be awaited: they have ended by then."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        return self._awaitable(found) if callable(found) else found

    @staticmethod
    def _awaitable(method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            return Now(result) if isinstance(result, redset.Reservation) else result

        return call


class Pace:
    """As fast as it goes at first, and then half as often. Collects how long each cycle took."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self._began = self._next = time.monotonic()
        self._interval = 0.0
        self._count = 0

    def note(self, began: float) -> float:
        """Note a cycle, and return for how many seconds to sleep."""
        now = time.monotonic()
        self.took.append(now - began)
        self._count += 1
        if not self._interval:
            if now - self._began >= CALIBRATION:
                self._interval, self._next = 2 * (now - self._began) / self._count, now
            return 0.0
        self._next = max(self._next + self._interval, now - 1)
        return max(0.0, self._next - now)


def main() -> None:
    parser = arguments(__doc__, rounds=1, cores="any")
    parser.add_argument("--minutes", type=int, default=60, help="for which it runs (%(default)s)")
    options = parser.parse_args()
    with place(options) as url, redis.Redis.from_url(url) as client:
        told = conditions(options, url)
        table = Table(told, **COLUMNS)
        ends, processes = [], []
        for run in (_blocking, _awaited):
            here, there = multiprocessing.Pipe()
            ends.append(here)
            processes.append(multiprocessing.Process(target=run, args=(url, there), daemon=True))
            processes[-1].start()
        lines = []
        for minute in range(options.minutes + 1):
            time.sleep(SLICE)
            line = {"minute": minute, **_slice(client, ends)}
            # The first has the calibration.
            if minute:
                lines.append(line)
                table.line(*(f"{cell:.2f}" if isinstance(cell, float) else cell for cell in line.values()))
        for end in ends:
            end.send("stop")
        for process in processes:
            process.join()
        _check(client)
    report(options, told, lines)


def _slice(client: Any, ends: list[Connection]) -> dict[str, Any]:
    for end in ends:
        end.send("tell")
    told = [end.recv() for end in ends]
    took = sorted(one for each in told for one in each["took"])
    info = client.info()
    return {
        "per_second": len(took) / SLICE,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[len(took) * 99 // 100],
        "server_mb": info["used_memory"] / MB,
        "clients_mb": sum(each["memory"] for each in told) / MB,
        "files": sum(each["files"] for each in told) + _files(info["process_id"]),
    }


def _files(process: int) -> int:
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


def _tell(there: Connection, paces: list[Pace]) -> bool:
    """Answer what the parent asks; return False at the end."""
    if there.recv() == "stop":
        return False
    took = []
    for pace in paces:
        took += pace.took
        del pace.took[: len(pace.took)]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    there.send({"took": took, "memory": pages * os.sysconf("SC_PAGE_SIZE"), "files": _files(os.getpid())})
    return True


def _blocking(url: str, there: Connection) -> None:
    logging.getLogger("redset").setLevel(logging.ERROR)
    client, stop = redis.Redis.from_url(url), threading.Event()
    paces = [Pace() for _ in SETS]

    def run(kind: str, pace: Pace) -> None:
        made_by, options = SETS[kind]
        jobs = Now(getattr(redset, made_by)(client, f"blocking {kind}", **options))
        number = 0
        while not stop.is_set():
            number += 1
            began = time.monotonic()
            _run_now(_cycle(jobs, number))
            time.sleep(pace.note(began))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(SETS, paces, strict=True)]
    for thread in threads:
        thread.start()
    while _tell(there, paces):
        pass
    stop.set()
    for thread in threads:
        thread.join()


def _run_now(coroutine: Any) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def _awaited(url: str, there: Connection) -> None:
    logging.getLogger("redset").setLevel(logging.ERROR)
    paces = [Pace() for _ in SETS]

    async def run(client: Any, kind: str, pace: Pace, stop: asyncio.Event) -> None:
        made_by, options = SETS[kind]
        jobs = getattr(redset.aio, made_by)(client, f"awaited {kind}", **options)
        number = 0
        while not stop.is_set():
            number += 1
            began = time.monotonic()
            await _cycle(jobs, number)
            await asyncio.sleep(pace.note(began))

    async def work() -> None:
        client, stop = redis.asyncio.Redis.from_url(url), asyncio.Event()
        tasks = [asyncio.create_task(run(client, kind, pace, stop)) for kind, pace in zip(SETS, paces, strict=True)]
        while await asyncio.to_thread(there.poll, None) and _tell(there, paces):
            pass
        stop.set()
        await asyncio.gather(*tasks)
        await client.aclose()

    asyncio.run(work())


def _check(client: Any) -> None:
    for face in "blocking", "awaited":
        for kind in SETS.keys() - {"expiring"}:
            jobs = redset.open_set(client, f"{face} {kind}")
            stats = jobs.stats()
            totals = jobs.totals()
            ended = totals.acked + totals.nacked + totals.given_back + totals.buried + totals.expired
            undone = totals.leases_rolled_back + totals.leases_removed
            assert totals.leased == ended + undone + stats.leased + stats.expired, (jobs.name, totals, stats)
            died = totals.retried + totals.dead_removed + totals.revived + stats.dead
            assert totals.died == died, (jobs.name, totals, stats)


if __name__ == "__main__":
    main()
