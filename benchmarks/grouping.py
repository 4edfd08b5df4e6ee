"""Compares the server's time for a set with groups with that for a set without, and for more and more groups.

Usage: python benchmarks/grouping.py [--items N] [--large N] [options]

Times are those of scripts by the server's own clock, in microseconds for an item: the best of the rounds, which are
interleaved. The last lines claim from sets with more and more groups, and behind a block: items of a group that has all
its leases, in front of all others. ``ratio`` is that to the first line of its kind.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset

#: How many calls make one sample, and how many of those that move many items.
CALLS, FEW_CALLS = 100, 4
COLUMNS = {"": "<44", "us_per_item": ">12", "ratio": ">7"}
KINDS: dict[str, dict[str, Any]] = {
    "without groups": {},
    "leases=1000": {"group": lambda item: item[-2:], "per_group": redset.Limit(leases=1000)},
    "leases=1000, pause": {"group": lambda item: item[-2:], "per_group": redset.Limit(leases=1000, pause=1e-6)},
    "fair turns": {"group": lambda item: item[-2:], "turns": "fair"},
}


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--items", type=int, default=50_000, help="of the sets that are compared (%(default)s)")
    parser.add_argument("--large", type=int, default=1_000_000, help="items of the blocked group (%(default)s)")
    parser.add_argument("--groups", default="100,1000,10000,100000", help="how many, with commas (%(default)s)")
    options = parser.parse_args()
    with place(options) as url:
        client = redis.Redis.from_url(url)
        told = conditions(options, url)
        table = Table(told, **COLUMNS)
        lines = [*_compare(client, options, table), *_grow(client, options, table)]
    report(options, told, lines)


def _compare(client: Any, options: Any, table: Table) -> list[dict[str, Any]]:
    numbers = count(10**6)
    sets = {kind: redset.SortedSet[str](client, kind, **of_kind) for kind, of_kind in KINDS.items()}
    held: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for ss in sets.values():
        ss.update((f"{number:07}" for number in range(options.items)), score=int)
    calls: dict[str, tuple[Callable[[str], Any], int, int]] = {
        "add": (lambda kind: sets[kind].add(f"{next(numbers)}", score=9e6), CALLS, 1),
        "pop": (lambda kind: sets[kind].pop(), CALLS, 1),
        "reserve": (lambda kind: held[kind].append(sets[kind].reserve()), CALLS, 1),
        "ack": (lambda kind: held[kind].pop().ack(), CALLS, 1),
        "take(100)": (lambda kind: sets[kind].take(100), FEW_CALLS, 100),
        "update of 1000": (
            lambda kind: sets[kind].update([f"{next(numbers)}" for _ in range(1000)], score=9e6),
            FEW_CALLS,
            1000,
        ),
    }
    best: dict[tuple[str, str], float] = {}
    for _ in range(options.rounds):
        for name, (call, times, items) in calls.items():
            for kind in KINDS:
                spent = _spent(client, lambda call=call, kind=kind: call(kind), times) / items  # type: ignore[misc]
                best[name, kind] = min(spent, best.get((name, kind), spent))
    return [
        _line(table, f"{name}, {kind}", best[name, kind], best[name, "without groups"])
        for name in calls
        for kind in KINDS
    ]


def _grow(client: Any, options: Any, table: Table) -> list[dict[str, Any]]:
    """Claims where there are more and more groups, and behind a block."""
    lines: list[dict[str, Any]] = []
    first = None
    for groups in map(int, options.groups.split(",")):
        client.flushall()
        ss = _grouped(client)
        ss.update((f"{number % groups:06} {number}" for number in range(max(groups, 10_000))), score=1)
        spent = _claims(client, ss, options.rounds)
        first = first or spent
        lines.append(_line(table, f"reserve and ack, {groups:,} groups", spent, first))
    client.flushall()
    ss = _grouped(client)
    ss.update((f"blocked {number}" for number in range(options.large)), score=0)
    ss.update((f"{number % 100:06} {number}" for number in range(10_000)), score=1)
    ss.reserve(lease=3600)
    assert first is not None
    spent = _claims(client, ss, options.rounds)
    return [*lines, _line(table, f"reserve and ack, behind {options.large:,} blocked items", spent, first)]


def _grouped(client: Any) -> redset.SortedSet[str]:
    return redset.SortedSet(client, "jobs", group=lambda item: item.partition(" ")[0], per_group=redset.Limit(leases=1))


def _claims(client: Any, ss: Any, rounds: int) -> float:
    return min(_spent(client, lambda: ss.reserve().ack(), CALLS) for _ in range(rounds))


def _spent(client: Any, call: Callable[[], Any], times: int) -> float:
    """Microseconds of the server's scripts for each call."""
    client.config_resetstat()
    for _ in range(times):
        call()
    stats = client.info("commandstats")
    return float(sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)) / times


def _line(table: Table, name: str, spent: float, first: float) -> dict[str, Any]:
    table.line(name, f"{spent:.2f}", f"{spent / first:.2f}")
    return {"name": name, "us_per_item": spent, "ratio": spent / first}


if __name__ == "__main__":
    main()
