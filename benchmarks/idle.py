"""The cost of waiting consumers for the server, and the time until one of many has an item.

Usage: python benchmarks/idle.py [options]

Consumers are threads in four processes, a producer is this one, the server is on TCP loopback. First nothing happens,
and the server's CPU time is read; then items come one by one, or a pause ends. Prints figures and judges none.

``cpu`` is in percent of a core, ``scripts`` and ``commands`` (with those in scripts: EXISTS) are for each second in
which nothing happens, and ``scripts_per_item`` are those of the producer and of all consumers together.
"""

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset

COLUMNS = {"consumers": ">9", "cpu": ">9", "scripts": ">9", "commands": ">9", "event": ">24", "p50_ms": ">8"}

PROCESSES = 4


def main() -> None:
    parser = arguments(__doc__, rounds=1, cores="any")
    parser.add_argument("--consumers", default="1,50,200,1000", help="how many, with commas (%(default)s)")
    parser.add_argument("--shards", type=int, help="of the set (none)")
    parser.add_argument("--seconds", type=float, default=5, help="for which nothing happens (%(default)s)")
    parser.add_argument("--samples", type=int, default=50, help="items of each kind (%(default)s)")
    options = parser.parse_args()
    with place(options) as url:
        told = conditions(options, url)
        table = Table(told, **COLUMNS, max_ms=">8", scripts_per_item=">9")
        lines = []
        for consumers in map(int, options.consumers.split(",")):
            for line in _measure(url, consumers, options.shards, options.seconds, options.samples):
                lines.append(line)
                table.line(*(f"{cell:.2f}" if isinstance(cell, float) else cell for cell in line.values()))
    report(options, told, lines)


def _measure(url: str, consumers: int, shards: int | None, seconds: float, samples: int) -> list[dict[str, Any]]:
    ends = [multiprocessing.Pipe() for _ in range(min(PROCESSES, consumers))]
    processes = [
        multiprocessing.Process(target=_consume, args=(url, len(range(number, consumers, PROCESSES)), shards, there))
        for number, (_, there) in enumerate(ends)
    ]
    heard: dict[str, float] = {}
    with redis.Redis.from_url(url) as client:
        client.flushall()
        for process in processes:
            process.start()
        for here, _ in ends:
            threading.Thread(target=_hear, args=(here, heard), daemon=True).start()
        _until(lambda: client.info("clients")["blocked_clients"] >= consumers)
        # The first looks come all at once. At the shards they were planned while few were waiting, and come again soon.
        time.sleep(2 if shards is None else 12)
        before, began = _spent(client), time.monotonic()
        time.sleep(seconds)
        after, passed = _spent(client), time.monotonic() - began
        cpu, scripts, commands = ((new - old) / passed for old, new in zip(before, after, strict=True))
        jobs = redset.ScheduledSet(client, "jobs", shards=shards)
        lines = []
        for event, add in EVENTS.items():
            before, late = _spent(client), []
            for number in range(samples):
                item = f"{event} {number}"
                due_at = add(jobs, client, item)
                _until(lambda: item in heard)  # noqa: B023 # it is asked before the next item comes
                late.append(1000 * (heard[item] - due_at))
                time.sleep(0.02)
            share = (_spent(client)[1] - before[1]) / samples
            p50 = statistics.median(late)
            idle = {"consumers": consumers, "cpu": 100 * cpu, "scripts": scripts, "commands": commands}
            lines.append(idle | {"event": event, "p50_ms": p50, "max_ms": max(late), "scripts_per_item": share})
        for process in processes:
            process.kill()
            process.join()
    return lines


def _spent(client: redis.Redis) -> tuple[float, float, float]:
    """Seconds of CPU time, scripts, and commands, so far."""
    cpu, commands = client.info("cpu"), client.info("commandstats")
    # The commands of scripts are counted as well.
    sent = {name: commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "blpop", "exists")}
    seconds = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
    return seconds, sent["evalsha"], sum(sent.values())


def _until(condition: Callable[[], Any]) -> None:
    while not condition():
        time.sleep(0.002)


# The producer: each adds an item and returns when it is to be there.


def _add(jobs: Any, _client: Any, item: str) -> float:
    now = time.time()
    jobs.add(item, score=1)
    return now


def _add_what_falls_due(jobs: Any, _client: Any, item: str) -> float:
    due_at = time.time() + 0.3
    jobs.add(item, score=due_at)
    return due_at


def _add_by_another_program(jobs: Any, client: Any, item: str) -> float:
    now = time.time()
    shards = jobs._shards
    client.zadd("jobs" if shards is None else shards.of(item.encode()).name, {item: 1})
    return now


def _add_during_a_pause(jobs: Any, _client: Any, item: str) -> float:
    ends_at = time.time() + 0.3
    jobs.pause(until=ends_at)
    jobs.add(item, score=1)
    return ends_at


def _add_before_a_resume(jobs: Any, _client: Any, item: str) -> float:
    jobs.pause()
    jobs.add(item, score=1)
    time.sleep(0.05)
    now = time.time()
    jobs.resume()
    return now


EVENTS: dict[str, Callable[[Any, Any, str], float]] = {
    "redset's add": _add,
    "an item that falls due": _add_what_falls_due,
    "another program's ZADD": _add_by_another_program,
    "a pause that ends": _add_during_a_pause,
    "a resume": _add_before_a_resume,
}


# The consumers


def _hear(results: Connection, heard: dict[str, float]) -> None:
    while True:
        try:
            item, at = results.recv()
        except EOFError:
            return
        heard[item] = at


def _consume(url: str, threads: int, shards: int | None, results: Connection) -> None:
    client = redis.Redis.from_url(url, max_connections=2 * threads + 10)
    jobs: redset.ScheduledSet[str] = redset.ScheduledSet(client, "jobs", shards=shards)
    lock = threading.Lock()

    def work() -> None:
        while True:
            got = jobs.pop(wait=None), time.time()
            with lock:
                results.send(got)

    for _ in range(threads):
        threading.Thread(target=work).start()


if __name__ == "__main__":
    main()
