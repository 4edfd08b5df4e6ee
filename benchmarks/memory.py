"""The server's memory for each item that waits, is leased, is remembered or lives in an expiring set.

Usage: python benchmarks/memory.py [options]

Of each the bytes that the item has itself, those that MEMORY USAGE says of all the keys there are, and by how much the
server grew: that has the records of calls and the buffers of connections in it. A round fills an empty server. The last
line is a group of items: the difference between a set with a group for each item and one with a hundred groups.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset
from redset.serializers import JSONSerializer

Item = dict[str, Any]

COLUMNS = {"": "<38", "its_own": ">10", "keys": ">10", "growth": ">10"}
HOUR = 3600
#: A call for more would keep the records of all its steps until it has returned.
BATCH = 100
DUMPS = JSONSerializer().dumps


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--items", type=int, default=100_000, help="of each kind (%(default)s)")
    options = parser.parse_args()
    with place(options) as url, redis.Redis.from_url(url) as client:
        told = conditions(options, url)
        items = [_item(number) for number in range(options.items)]
        table = Table(told | {"items": f"{options.items:,}"}, **COLUMNS)
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(options.rounds):
            for name, (fill, _) in STATES.items():
                found[name].append(_measure(client, fill, items))
        lines = [_line(name, items, found[name], table) for name in STATES]
        lines.append(_line_of_group(lines, items, table))
    report(options, told, lines)


def _item(number: int) -> Item:
    """Of an everyday size, and told by its url where a set has a key."""
    return {"url": _url(number), "depth": 3, "tags": ["new", "shop"]}


def _url(number: int) -> str:
    return f"https://example.org/products/{number * 7919 % 1_000_003:07}"


def _score(item: Item) -> float:
    return 1.7e9 + int(item["url"][-7:]) / 1e3


def _identity(item: Item) -> str:
    identity: str = item["url"]
    return identity


def _measure(client: Any, fill: Callable[[Any, list[Item]], Any], items: list[Item]) -> tuple[float, float]:
    """The bytes per item of all keys, and of the server's growth."""
    # On a server that knows the scripts, and has no data. At once: what is freed later would be taken off the growth.
    client.execute_command("FLUSHDB", "SYNC")
    fill(client, items[:10])
    client.execute_command("FLUSHDB", "SYNC")
    before = client.info("memory")["used_memory"]
    fill(client, items)
    growth = client.info("memory")["used_memory"] - before
    keys = sum(client.memory_usage(key, samples=0) for key in client.keys("*"))
    return keys / len(items), growth / len(items)


def _line(name: str, items: list[Item], found: list[tuple[float, float]], table: Table) -> dict[str, Any]:
    own = statistics.mean(map(STATES[name][1], items))
    keys, growth = map(statistics.median, zip(*found, strict=True))
    return _told(table, name, own=own, keys=keys, growth=growth)


def _line_of_group(lines: list[dict[str, Any]], items: list[Item], table: Table) -> dict[str, Any]:
    few, many = (next(line for line in lines if line["name"] == name) for name in (IN_GROUPS, OWN_GROUPS))
    more = len(items) - len(set(map(_last_digits, items)))
    figures = {which: (many[which] - few[which]) * len(items) / more for which in ("own", "keys", "growth")}
    return _told(table, "a group", **figures)


def _told(table: Table, name: str, **figures: float) -> dict[str, Any]:
    table.line(name, *(f"{value:.1f}" for value in figures.values()))
    return {"name": name, **figures}


# How many bytes an item has itself.


def _whole(item: Item) -> int:
    return len(DUMPS(item))


def _named(item: Item) -> int:
    """The item and its url: what tells it in a sorted set beside its value, or the name of its own group."""
    return _whole(item) + len(_identity(item))


def _digest(_: Item) -> int:
    return 16


def _last_digits(item: Item) -> str:
    """One of a hundred groups."""
    return _identity(item)[-2:]


# What is to be measured: how it comes about, on an empty server.


def _bare(client: Any, items: list[Item]) -> None:
    client.zadd("jobs", {DUMPS(item): _score(item) for item in items})


def _set(client: Any, **options: Any) -> redset.SortedSet[Item]:
    return redset.SortedSet(client, "jobs", _score, JSONSerializer(), **options)


def _waiting(client: Any, items: list[Item], **options: Any) -> redset.SortedSet[Item]:
    jobs = _set(client, **options)
    jobs.update(items)
    return jobs


def _leased(client: Any, items: list[Item], **options: Any) -> None:
    jobs = _waiting(client, items, **options)
    while jobs.reserve_many(BATCH, lease=HOUR):
        pass


def _finished(client: Any, items: list[Item], *, digest: bool) -> None:
    jobs = _waiting(client, items, remember=HOUR, digest=digest, key=_identity)
    while jobs.take(BATCH):
        pass


def _periodic(client: Any, items: list[Item]) -> None:
    redset.PeriodicSet(client, "jobs", HOUR, serializer=JSONSerializer(), key=_identity).update(items)


def _seen(client: Any, items: list[Item], *, digest: bool) -> None:
    redset.ExpiringSet(client, "jobs", HOUR, JSONSerializer(), digest=digest).add_new(items)


IN_GROUPS, OWN_GROUPS = "waiting, in 100 groups", "waiting, each in a group of its own"
STATES: dict[str, tuple[Callable[[Any, list[Item]], Any], Callable[[Item], int]]] = {
    "a bare ZSET": (_bare, _whole),
    "waiting": (_waiting, _whole),
    "leased": (_leased, _whole),
    IN_GROUPS: (partial(_waiting, group=_last_digits), _whole),
    OWN_GROUPS: (partial(_waiting, group=_identity), _named),
    "leased, in 100 groups": (partial(_leased, group=_last_digits), _whole),
    "keyed, waiting": (partial(_waiting, key=_identity), _named),
    "keyed, leased": (partial(_leased, key=_identity), _named),
    "periodic": (_periodic, _named),
    "remembered": (partial(_finished, digest=False), lambda item: len(_identity(item))),
    "remembered as a digest": (partial(_finished, digest=True), _digest),
    "in an expiring set": (partial(_seen, digest=False), _whole),
    "in an expiring set, as a digest": (partial(_seen, digest=True), _digest),
}


if __name__ == "__main__":
    main()
