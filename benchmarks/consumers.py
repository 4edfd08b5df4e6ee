"""How many items a second 1 to 16 consumer processes take in all, beside what the server itself can do.

Usage: python benchmarks/consumers.py [options]

The processes share one set until it is empty. Beside that stand the cores that the server and the consumers were busy
on: where the server has nearly one, it is the limit, and where both together have all there are, the machine is. The
last lines are of redis-benchmark or valkey-benchmark, where one is on PATH: a client in C that takes single items and
reads none, with 16 connections, and in the second line 16 commands on each at once.
"""

import csv
import multiprocessing
import os
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from conditions import Table, arguments, conditions, place, report
from measure import spread

import redset

COLUMNS = {"": "<42", "processes": ">9", "items/s": ">10", "half_lie_between": ">20"}
FILLED, JOBS = "filled", "jobs"


@dataclass(frozen=True)
class Sample:
    items_per_second: float
    #: How many cores were busy with the server, and with all consumers.
    server: float
    consumers: float


@dataclass(frozen=True)
class Measurement:
    name: str
    processes: int
    #: How many are there before.
    items: int
    take_them_all: Callable[[], Sample]


def main() -> None:
    parser = arguments(__doc__, rounds=5, cores="any")
    parser.add_argument("--processes", default="1,2,4,8,16", help="how many (%(default)s)")
    parser.add_argument("--items", type=int, default=20_000, help="taken one by one in each round (%(default)s)")
    parser.add_argument("--bulk-items", type=int, default=200_000, help="taken in bulk (%(default)s)")
    options = parser.parse_args()
    numbers = [int(number) for number in options.processes.split(",")]
    with (
        place(options) as url,
        _consumers(url, max(numbers)) as consumers,
        redis.Redis.from_url(options.loopback) as client,
    ):
        told = conditions(options, url)
        table = Table(told, **COLUMNS, server_cores=">13", consumers_cores=">16")
        measurements = list(_measurements(url, client, consumers, numbers, options))
        found: dict[Measurement, list[Sample]] = defaultdict(list)
        for _ in range(options.rounds):
            for measurement in measurements:
                _fill(client, measurement.items)
                found[measurement].append(measurement.take_them_all())
        lines = [_line(measurement, samples, table) for measurement, samples in found.items()]
    report(options, told, lines)


def _measurements(
    url: str, client: Any, consumers: list[Connection], numbers: list[int], options: Any
) -> Iterator[Measurement]:
    """What one round consists of."""
    for way, (_, in_bulk) in WAYS.items():
        for number in numbers:
            items = options.bulk_items if in_bulk else options.items
            yield Measurement(way, number, items, partial(_consume, client, consumers[:number], way))
    program = next(filter(None, map(shutil.which, ("valkey-benchmark", "redis-benchmark"))), None)
    if program is None:
        print("a client in C is left out: there is no valkey-benchmark or redis-benchmark on PATH")
        return
    for pipeline, said, items in (1, "one", options.items), (16, "16", options.bulk_items):
        take_them_all = partial(_take_in_c, client, program, url, pipeline, items)
        yield Measurement(f"{Path(program).name}, ZPOPMIN, {said} under way", 16, items, take_them_all)


def _fill(client: Any, items: int) -> None:
    if client.zcard(FILLED) != items:
        client.delete(FILLED)
        for start in range(0, items, 10_000):
            batch = range(start, min(start + 10_000, items))
            client.zadd(FILLED, {f"https://example.org/products/{number:07}": number for number in batch})
    client.delete(*client.keys(f"*{JOBS}*"), JOBS)
    client.copy(FILLED, JOBS)


def _server_time(client: Any) -> float:
    used = client.info("cpu")
    seconds: float = used["used_cpu_user"] + used["used_cpu_sys"]
    return seconds


def _consume(client: Any, consumers: list[Connection], way: str) -> Sample:
    for consumer in consumers:
        consumer.send(way)
    for consumer in consumers:
        consumer.recv()  # It is ready.
    before = _server_time(client)
    for consumer in consumers:
        consumer.send("go")
    items, starts, ends, busy = zip(*(consumer.recv() for consumer in consumers), strict=True)
    seconds = max(ends) - min(starts)
    return Sample(sum(items) / seconds, (_server_time(client) - before) / seconds, sum(busy) / seconds)


def _take_in_c(client: Any, program: str, url: str, pipeline: int, items: int) -> Sample:
    address = urlsplit(url)
    where = ["-s", address.path] if address.scheme == "unix" else ["-h", address.hostname, "-p", str(address.port)]
    command = [program, *where, "-c", "16", "-P", str(pipeline), "-n", str(items), "--csv", "ZPOPMIN", JOBS]
    before, busy_before = _server_time(client), os.times().children_user + os.times().children_system
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(next(csv.DictReader(said.splitlines()))["rps"])
    busy = os.times().children_user + os.times().children_system - busy_before
    return Sample(rate, (_server_time(client) - before) * rate / items, busy * rate / items)


def _line(measurement: Measurement, samples: list[Sample], table: Table) -> dict[str, Any]:
    name, processes = measurement.name, measurement.processes
    rates = [sample.items_per_second for sample in samples]
    low, high = spread(rates)
    rate = statistics.median(rates)
    server = statistics.median(sample.server for sample in samples)
    consumers = statistics.median(sample.consumers for sample in samples)
    table.line(name, processes, f"{rate:,.0f}", f"{low:,.0f} .. {high:,.0f}", f"{server:.2f}", f"{consumers:.2f}")
    line = {"name": name, "processes": processes, "items_per_second": rate, "low": low, "high": high}
    return line | {"server_cores": server, "consumers_cores": consumers, "rounds": rates}


# The consumers: processes that wait for what to do, and begin together.


@contextmanager
def _consumers(url: str, number: int) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        connections = []
        for _ in range(number):
            here, there = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_serve, args=(url, there))
            process.start()
            there.close()  # So one that dies is noticed.
            stack.callback(process.join)
            stack.callback(process.terminate)
            connections.append(here)
        yield connections


def _serve(url: str, orders: Connection) -> None:
    with redis.Redis.from_url(url) as client:
        while True:
            consume, _ = WAYS[orders.recv()]
            client.ping()
            orders.send("ready")
            orders.recv()
            started, busy = time.perf_counter(), time.process_time()
            items = consume(client)
            orders.send((items, started, time.perf_counter(), time.process_time() - busy))


def _bare(client: Any) -> int:
    items = 0
    while client.zpopmin(JOBS):
        items += 1
    return items


def _pop(client: Any) -> int:
    jobs, items = redset.SortedSet[str](client, JOBS), 0
    with suppress(KeyError):
        while True:
            jobs.pop()
            items += 1
    return items


def _take(client: Any) -> int:
    jobs, items = redset.SortedSet[str](client, JOBS), 0
    while taken := jobs.take(100):
        items += len(taken)
    return items


def _consume_until_empty(client: Any, batch: int) -> int:
    return sum(1 for _ in redset.SortedSet[str](client, JOBS).consume(batch=batch, wait=0))


#: What a consumer does until nothing is left, and whether that is in bulk.
WAYS: dict[str, tuple[Callable[[Any], int], bool]] = {
    "ZPOPMIN": (_bare, False),
    "pop": (_pop, False),
    "consume": (lambda client: _consume_until_empty(client, 1), False),
    "take(100)": (_take, True),
    "consume(batch=100)": (lambda client: _consume_until_empty(client, 100), True),
}


if __name__ == "__main__":
    main()
