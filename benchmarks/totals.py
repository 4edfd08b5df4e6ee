"""Compares the calls of a set with those by scripts that count no totals, which this makes of the scripts of redset.

Usage: python benchmarks/totals.py [options]

It removes from the text of the scripts the lines that count, the requests for the rights that these need, and the
fields that they read. The run fails if one of them is missing, or if something is still counted. Each round times both
sets one right after the other, and they take turns in going first. Each line has the median of the ratios of the
rounds, and the two values between which half of them lie.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report
from overhead import WAYS as ONE_BY_ONE
from overhead import Way, compare_sets

import redset
from redset.core import scripts

__all__ = ("CUTS", "without_totals")

COLUMNS = {"": "<26", "without_us": ">12", "with_us": ">10", "ratio": ">8", "half_lie_between": ">18", "goal": ">6"}

#: Of each file, what is taken out, as regular expressions, and what comes in its place.
CUTS: dict[str, list[tuple[str, str]]] = {
    "add": [
        (r"if added > 0 then redis.pcall\('HINCRBY'.*\n", ""),
        (r"if there > added then redis.pcall\('HINCRBY'.*\n", ""),
        (r"if left_count > 0 then redis.pcall\('HINCRBY'.*\n", ""),
        (r"(denied\(call and 'SET'), 'HINCRBY'", r"\1"),
    ],
    "claim": [
        (r" *redis.call\('HSET', meta, 'taken'.*\n", ""),
        (r"if next\(counts\) then moves\(\).write_totals\(\) end\n", ""),
        (r"if is_known and .*write_sample\(minute\).*\n", ""),
        (r"local minute, is_known = [^,]*, ", "local is_known = "),
        (r"(lease > 0 and 'ZADD'), 'HSET'", r"\1, lease > 0 and 'HSET'"),
        (r"facts\[8\]", "facts[5]"),
        (r"facts\[9\]", "facts[6]"),
    ],
    "shared/claims": [(r"'minute', 'taken', 'leased', ('remembers', 'gate', )'acked', ", r"\1")],
    "end": [(r"\nmoves\(\).write_totals\(\)", "")],
    "shared/leases": [(r"('HDEL'), 'HINCRBY'(\) or done)", r"\1\2")],
    "shared/states": [
        (r" *local acked = .*\n *counts.acked = nil\n", ""),
        (r", 'leased', \(tonumber.*, 'acked', acked\)", ")"),
        (r" *count\('acked', #items\)\n", ""),
    ],
    "shared/totals": [
        (r"local counts = {}\n", ""),
        (r"(?s)local function count\(.*?(?=-- WHEN NEEDED)", ""),
    ],
}


def _update(jobs: Any, items: list[str], number: int) -> None:
    for start in range(0, len(items), number):
        jobs.update(items[start : start + number])


def _take(jobs: Any, items: list[str], number: int) -> None:
    for _ in range(0, len(items), number):
        jobs.take(number)


def _reserve_many(jobs: Any, items: list[str], number: int) -> None:
    for _ in range(0, len(items), number):
        jobs.ack(jobs.reserve_many(number))


def _in_bulk(work: Any, number: int, *, takes: bool = True) -> Way:
    return Way(1.01, lambda jobs, items: work(jobs, items, number), takes, times=10)


WAYS: dict[str, Way] = {
    **{name: Way(1.03, ONE_BY_ONE[name].work, ONE_BY_ONE[name].takes) for name in ("add", "pop", "reserve, ack")},
    "update of 100": _in_bulk(_update, 100, takes=False),
    "update of 1000": _in_bulk(_update, 1000, takes=False),
    "take(100)": _in_bulk(_take, 100),
    "take(1000)": _in_bulk(_take, 1000),
    "reserve_many(100), ack": _in_bulk(_reserve_many, 100),
    "reserve_many(1000), ack": _in_bulk(_reserve_many, 1000),
}


def main() -> None:
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--items", type=int, default=2000, help="of each sample, and in bulk ten times as many")
    parser.add_argument("--only", action="append", choices=WAYS, help="measure this line only")
    options = parser.parse_args()
    with place(options) as url, redis.Redis.from_url(url) as client:
        told = conditions(options, url) | {"items": f"{options.items:,}"}
        with without_totals():
            sets: dict[str, Any] = {"without": redset.SortedSet(client, "without")}
        sets["with"] = redset.SortedSet(client, "with")
        lines = compare_sets(options, WAYS, sets, Table(told, **COLUMNS))
        _check_totals(**sets)
    report(options, told, lines)


@contextmanager
def without_totals() -> Iterator[None]:
    """Have the sets that are made meanwhile use scripts that count nothing."""
    read, seen = scripts._text, set()

    def text(name: str) -> str:
        found = read(name)
        for pattern, instead in CUTS.get(name, ()):
            found, times = re.subn(pattern, instead, found)
            if not times:
                raise ValueError(f"{name}.lua has nothing like {pattern!r} any more: CUTS must follow the scripts")
            seen.add(name)
        return found

    scripts._text = text
    scripts.script.cache_clear()
    try:
        yield
    finally:
        scripts._text = read
        scripts.script.cache_clear()
    if seen != set(CUTS):
        raise ValueError(f"no script has {sorted(set(CUTS) - seen)} any more: CUTS must follow the scripts")


def _check_totals(**sets: Any) -> None:
    """Raise a ValueError unless one set has counted nothing, but for what ``clear`` removes between the samples."""
    for which, jobs in sets.items():
        counted = {name for name, number in asdict(jobs.totals()).items() if number} - {"removed"}
        if bool(counted) is (which == "without"):
            raise ValueError(f"the scripts {which} totals have counted {sorted(counted)}")


if __name__ == "__main__":
    main()
