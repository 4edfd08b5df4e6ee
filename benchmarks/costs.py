"""What each item costs the server, as the server counts: commands, bytes, processor time.

Usage: python benchmarks/costs.py [options]

Commands are those that the client sends, and all that ran: a script counts as one of the first and, with what it calls,
as several of the second (INFO commandstats). Bytes are those that came in and went out (INFO stats), processor time is
that of the whole server (INFO cpu).
"""

import operator
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset

COLUMNS = {"": "<34", "sent": ">8", "run": ">8", "bytes_in": ">10", "bytes_out": ">10", "cpu_us": ">8"}
NAME = "jobs"
HOUR = 3600


class Client(redis.Redis):
    """Counts what it sends."""

    sent = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.sent += 1
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Costs:
    """What things have cost so far, or each item."""

    sent: float
    run: float
    bytes_in: float
    bytes_out: float
    cpu_us: float

    @classmethod
    def now(cls, client: Client, watch: Any) -> "Costs":
        """What the server counts, which ``watch`` asks it for."""
        stats, cpu = watch.info("stats"), watch.info("cpu")
        return cls(
            sent=client.sent,
            run=sum(command["calls"] for command in watch.info("commandstats").values()),
            bytes_in=stats["total_net_input_bytes"],
            bytes_out=stats["total_net_output_bytes"],
            cpu_us=1e6 * (cpu["used_cpu_user"] + cpu["used_cpu_sys"]),
        )

    def each(self, number: int) -> "Costs":
        return Costs(*(value / number for value in vars(self).values()))

    def __sub__(self, other: "Costs") -> "Costs":
        return Costs(*map(operator.sub, vars(self).values(), vars(other).values()))


@dataclass(frozen=True)
class Way:
    #: What is worked with, given a client.
    made: Callable[[Any], Any]
    #: What is done with it, given the items.
    work: Callable[[Any, list[str]], Any]
    #: Puts the items there before, where they are to be taken.
    fill: Callable[[Any, list[str]], Any] | None = None


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--items", type=int, default=10_000, help="of each round (%(default)s)")
    options = parser.parse_args()
    with place(options) as url, Client.from_url(url) as client, redis.Redis.from_url(url) as watch:
        told = conditions(options, url)
        items = [f"https://example.org/products/{number * 7919 % 1_000_003:07}" for number in range(options.items)]
        table = Table(told | {"items": f"{options.items:,}"}, **COLUMNS)
        found: dict[str, list[Costs]] = defaultdict(list)
        for way in WAYS.values():
            _measure(way, client, watch, items[:10])  # The server learns the scripts.
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                found[name].append(_measure(way, client, watch, items))
        lines = [_line(name, rounds, table) for name, rounds in found.items()]
    report(options, told, lines)


def _measure(way: Way, client: Client, watch: Any, items: list[str]) -> Costs:
    client.flushdb()
    worked_with = way.made(client)
    if way.fill:
        way.fill(worked_with, items)
    earlier, before = Costs.now(client, watch), Costs.now(client, watch)
    way.work(worked_with, items)
    # Asking costs something too: as much as between the first two times.
    return (Costs.now(client, watch) - before - (before - earlier)).each(len(items))


def _line(name: str, rounds: list[Costs], table: Table) -> dict[str, Any]:
    costs = {what: statistics.median(getattr(each, what) for each in rounds) for what in vars(rounds[0])}
    table.line(name, *(f"{value:.3f}" if what in {"sent", "run"} else f"{value:.1f}" for what, value in costs.items()))
    return {"name": name, **costs}


# The ways


def _adding(client: Any, items: Iterable[str]) -> None:
    client.zadd(NAME, dict.fromkeys(items, 1))


def _popping_and_noting(client: Any, items: list[str]) -> None:
    """The least that says both that an item was begun and that it is done; a crash in between loses it."""
    for _ in items:
        ((item, score),) = client.zpopmin(NAME)
        client.zadd("begun", {item: score})
        client.zrem("begun", item)


def _for_each(call: Callable[[Any, str], Any]) -> Callable[[Any, list[str]], Any]:
    def work(worked_with: Any, items: list[str]) -> None:
        for item in items:
            call(worked_with, item)

    return work


def _for_each_batch(number: int, call: Callable[[Any, list[str]], Any]) -> Callable[[Any, list[str]], Any]:
    def work(worked_with: Any, items: list[str]) -> None:
        for start in range(0, len(items), number):
            call(worked_with, items[start : start + number])

    return work


def _consuming(ss: Any, _: list[str], batch: int) -> None:
    for _reservation in ss.consume(batch=batch, wait=0):
        pass


def _number(item: str) -> str:
    return item.rpartition("/")[2]


def _bare(work: Callable[[Any, list[str]], Any], *, takes: bool) -> Way:
    return Way(lambda client: client, work, _adding if takes else None)


def _ours(work: Callable[[Any, list[str]], Any], *, takes: bool, kind: Any = redset.SortedSet, **options: Any) -> Way:
    return Way(lambda client: kind(client, NAME, **options), work, kind.update if takes else None)


_add = _for_each(lambda ss, item: ss.add(item))
_pop = _for_each(lambda ss, _: ss.pop())
_reserve_and_ack = _for_each(lambda ss, _: ss.reserve().ack())
_seen = partial(_ours, kind=redset.ExpiringSet, ttl=HOUR, takes=False)

WAYS: dict[str, Way] = {
    "ZADD": _bare(_for_each(lambda client, item: _adding(client, [item])), takes=False),
    "add": _ours(_add, takes=False),
    "ZADD of 1000": _bare(_for_each_batch(1000, _adding), takes=False),
    "update(1000)": _ours(_for_each_batch(1000, lambda ss, batch: ss.update(batch)), takes=False),
    "ZPOPMIN": _bare(_for_each(lambda client, _: client.zpopmin(NAME)), takes=True),
    "pop": _ours(_pop, takes=True),
    "pop, scheduled": _ours(_pop, takes=True, kind=redset.ScheduledSet),
    "ZPOPMIN 1000": _bare(_for_each_batch(1000, lambda client, _: client.zpopmin(NAME, 1000)), takes=True),
    "take(1000)": _ours(_for_each_batch(1000, lambda ss, _: ss.take(1000)), takes=True),
    "ZPOPMIN ZADD ZREM": _bare(_popping_and_noting, takes=True),
    "reserve, ack": _ours(_reserve_and_ack, takes=True),
    "consume": _ours(partial(_consuming, batch=1), takes=True),
    "reserve_many(100), ack": _ours(_for_each_batch(100, lambda ss, _: ss.ack(ss.reserve_many(100))), takes=True),
    "consume(batch=100)": _ours(partial(_consuming, batch=100), takes=True),
    "add, keyed": _ours(_add, takes=False, key=_number),
    "pop, keyed": _ours(_pop, takes=True, key=_number),
    "reserve, ack, keyed": _ours(_reserve_and_ack, takes=True, key=_number),
    "add, remembering": _ours(_add, takes=False, remember=HOUR),
    "pop, remembering": _ours(_pop, takes=True, remember=HOUR),
    "reserve, ack, remembering": _ours(_reserve_and_ack, takes=True, remember=HOUR),
    "add, periodic": _ours(_add, takes=False, kind=redset.PeriodicSet, interval=HOUR),
    "pop, periodic": _ours(_pop, takes=True, kind=redset.PeriodicSet, interval=HOUR),
    "add, expiring": _seen(_add),
    "add_new(1000), expiring": _seen(_for_each_batch(1000, lambda seen, batch: seen.add_new(batch))),
}


if __name__ == "__main__":
    main()
