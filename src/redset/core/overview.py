"""Reads for pages and screens: the figures of many sets in one round trip, and rows in which everything is cut.

A set over shards is read shard by shard, by the names in its layout record. Each shard is an ordinary set.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from redset.core.forms import check_layout
from redset.core.gates import read_gates
from redset.core.inspecting import Inspecting, Sample, Totals
from redset.core.keys import Keys
from redset.core.looking import Stats
from redset.core.operations import At, Operation, Plan, Together
from redset.core.receipts import Receipt
from redset.core.registry import SetInfo
from redset.core.scores import read_score
from redset.core.scripts import script
from redset.core.shards.layout import FIELD, Layout, read_record
from redset.core.shards.parts import sum_of_histories, sum_of_stats, sum_of_totals
from redset.exceptions import LayoutError

__all__ = (
    "Overview",
    "Row",
    "Rows",
    "delivery_of",
    "find_rows",
    "histories",
    "layouts",
    "overviews",
    "read_reasons",
    "read_rows",
    "receipt_of",
    "shard_infos",
)

#: The rows that can be shown, by the state of their items; `oldest` are dead ones in the reverse order.
Rows: TypeAlias = Literal["waiting", "living", "leased", "delayed", "parked", "dead", "oldest"]

#: Seconds for which a death is recent.
RECENT = 900
#: The lowest score that is taken for a time on a set whose scorer is not known: in 2001.
FIRST_TIME = 1e9
#: The number of rows around a position that are searched for an item.
SEARCHED = 1000
#: The position behind which the rows of a set over shards are not read: each shard would read as many.
DEEPEST_OVER_SHARDS = 1000
#: The number of columns in a reply of `show.lua`.
COLUMNS = 7
#: The number of commands in one message: a reply is at most some megabytes.
TOGETHER = 1000


@dataclass(frozen=True, slots=True)
class Overview:
    """What an overview shows of one set."""

    info: SetInfo
    #: The number of living items of an expiring set; None for others, which have the other figures.
    living: int | None
    stats: Stats | None
    totals: Totals | None
    #: The number of dead letters that were made in the last 15 minutes.
    recent_deaths: int
    #: The newest minute with a claim; None if there was none.
    last_claim: float | None
    #: The server's time.
    now: float
    #: The number of shards; None without.
    shards: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """One item, cut."""

    #: The beginning of the stored bytes; on a keyed set of the identity.
    item: bytes
    length: int
    #: The digest of the item if it is longer than its beginning; else empty.
    digest: str
    #: Its score in the state: a deadline, the end of a backoff, a time of death, or the score with which it waits.
    score: float
    #: "token attempts score", or of a dead letter "attempts score reason", cut; empty if there is none.
    words: bytes
    #: The beginning and the length of its value, on a keyed or periodic set.
    value: bytes
    value_length: int

    @property
    def place(self) -> tuple[float, bytes]:
        return self.score, self.item


class Performer:
    """The driver that performs the steps, and what is read of many sets at once."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def together(self, operations: Sequence[Operation[Any]]) -> Plan[list[Any]]:
        """Perform operations in one round trip for each 1,000. Return the result of each, or its error."""
        results: list[Any] = []
        for start in range(0, len(operations), TOGETHER):
            some = operations[start : start + TOGETHER]
            results += yield Together(tuple(At(self._driver, operation) for operation in some))
        return results


def layouts(driver: Any, infos: Iterable[SetInfo]) -> Plan[dict[str, Layout]]:
    """Return the layouts of those sets that are over shards and can be read, by name."""
    found = yield from _records(driver, infos)
    return {name: layout for name, layout in found.items() if isinstance(layout, Layout)}


def _records(driver: Any, infos: Iterable[SetInfo]) -> Plan[dict[str, Layout | LayoutError]]:
    """Return the layouts of those sets that are over shards, or why one cannot be read, by name."""
    names = [info.name for info in infos if "shards" in info.options]
    asked = [Operation("HGET", (Keys(name).waiting,), (FIELD,), lambda reply: reply) for name in names]
    records = yield from Performer(driver).together(asked)
    found: dict[str, Layout | LayoutError] = {}
    for name, record in zip(names, records, strict=True):
        try:
            layout = None if isinstance(record, Exception) else read_record(name, record)
        except LayoutError as error:
            found[name] = error
        else:
            if layout is not None:
                found[name] = layout
    return found


def overviews(driver: Any, infos: Sequence[SetInfo]) -> Plan[list[Overview | Exception]]:
    """Return the figures of each set, or the error of one that cannot be read. One round trip for each 1,000 sets."""
    records = yield from _records(driver, infos)
    over_shards = {name: layout for name, layout in records.items() if isinstance(layout, Layout)}
    asked: list[Operation[Any]] = []
    counts: list[int] = []
    for info in infos:
        names = over_shards[info.name].names if info.name in over_shards else (info.name,)
        counts.append(len(names))
        asked += [_overview(name, info.kind) for name in names]
    parts = iter((yield from Performer(driver).together(asked)))
    found: list[Overview | Exception] = []
    for info, count in zip(infos, counts, strict=True):
        own = [next(parts) for _ in range(count)]
        errors = [part for part in (records.get(info.name), *own) if isinstance(part, Exception)]
        shards = len(own) if info.name in over_shards else None
        found.append(errors[0] if errors else _merged(info, own, shards))
    return found


def _overview(name: str, kind: str) -> Operation[Any]:
    which = {"ExpiringSet": "living", "ScheduledSet": "due", "PeriodicSet": "due"}.get(kind, "any")
    return Operation(*_script("overview", name), (which, str(RECENT)), lambda reply: _read(kind, reply))


def _script(name: str, set_name: str) -> tuple[Any, tuple[bytes, ...]]:
    found, keys = script(name), Keys(set_name)
    return found, tuple(getattr(keys, key) for key in found.keys)


def _read(kind: str, reply: list[Any]) -> tuple[Any, ...]:
    if kind == "ExpiringSet":
        return int(reply[0]), float(reply[1])
    waiting, due, leased, expired, delayed, parked, done, dead = map(int, reply[:8])
    now, oldest = float(reply[8]), read_score(reply[9] or None)
    meta = _pairs(reply[12])
    gates = read_gates(meta.get(b"gate", b""), meta.get(b"maxsize", b""), now)
    stats = Stats(
        waiting, due, leased, expired, delayed, parked, done, dead, oldest, _lag(kind, oldest, now, waiting), *gates
    )
    totals = Totals(*(_number(meta.get(name)) for name in _NAMES))
    return stats, totals, int(reply[10]), float(reply[11]) if _is_number(reply[11]) else None, now


_NAMES = tuple(field.name.encode() for field in fields(Totals))


def _pairs(reply: Any) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=False))


def _number(field: bytes | None) -> int:
    return int(field) if field is not None and field.isdigit() else 0


def _is_number(text: bytes) -> bool:
    return text.replace(b".", b"", 1).isdigit()


def _lag(kind: str, oldest: float | None, now: float, waiting: int) -> float | None:
    if kind == "SortedSet":
        return None
    if oldest is None:
        return None if waiting else 0.0
    # The programs of a TimeSortedSet may have a scorer that returns no times, which the registry does not tell.
    if oldest == -float("inf") or (kind == "TimeSortedSet" and oldest < FIRST_TIME):
        return None
    return max(0.0, now - oldest)


def _merged(info: SetInfo, parts: list[Any], shards: int | None) -> Overview:
    if info.kind == "ExpiringSet":
        counts, times = zip(*parts, strict=True)
        return Overview(info, sum(counts), None, None, 0, None, max(times), shards)
    stats, totals, deaths, claims, times = zip(*parts, strict=True)
    return Overview(
        info,
        None,
        stats[0] if shards is None else sum_of_stats(list(stats)),
        totals[0] if shards is None else sum_of_totals(list(totals)),
        sum(deaths),
        max((claim for claim in claims if claim is not None), default=None),
        max(times),
        shards,
    )


def histories(driver: Any, some: Sequence[Overview]) -> Plan[list[list[Sample]]]:
    """Return the samples of each of some sets; none of a set that cannot be read. One round trip."""
    over_shards = yield from layouts(driver, [one.info for one in some])
    asked: list[Operation[list[Sample]]] = []
    counts: list[int] = []
    for one in some:
        name = one.info.name
        names = over_shards[name].names if name in over_shards else (name,)
        counts.append(len(names))
        asked += [Inspecting.samples(Keys(each)) for each in names]
    found = iter((yield from Performer(driver).together(asked)))
    samples: list[list[Sample]] = []
    for count in counts:
        own: list[Any] = [next(found) for _ in range(count)]
        own = [[] if isinstance(part, Exception) else part for part in own]
        samples.append(own[0] if count == 1 else sum_of_histories(own))
    return samples


# Rows.


def read_rows(driver: Any, info: SetInfo, rows: Rows, first: int, count: int, limit: int) -> Plan[list[Row]]:
    """Return some rows of a set, in which items are cut after ``limit`` bytes."""

    def show(name: str, start: int, number: int) -> Operation[list[Row]]:
        return Operation(*_script("show", name), (rows, str(start), str(number), str(limit), "rows"), _read_rows)

    names = yield from _names(driver, info)
    if len(names) == 1:
        found: list[Row] = yield show(names[0], first, count)
        return found
    if first >= DEEPEST_OVER_SHARDS:
        return []
    parts = yield from _all(driver, [show(name, 0, first + count) for name in names])
    merged = sorted(
        (row for part in parts for row in part), key=lambda row: row.place, reverse=rows in ("dead", "delayed")
    )
    return merged[first : first + count]


def find_rows(driver: Any, info: SetInfo, rows: Rows, near: int, digest: str, limit: int) -> Plan[list[Any]]:
    """Return the whole items with a digest among 1,000 rows around a position, each with its delivery or letter."""
    names = yield from _names(driver, info)
    first = str(max(0, near - SEARCHED // 2) if len(names) == 1 else max(0, near // len(names) - SEARCHED // 2))
    args = (rows, first, str(SEARCHED), str(limit), "find", digest)
    asked: list[Operation[Any]] = [
        Operation(*_script("show", name), args, lambda reply: list(zip(reply[::2], reply[1::2], strict=True)))
        for name in names
    ]
    return [pair for part in (yield from _all(driver, asked)) for pair in part]


def read_reasons(driver: Any, info: SetInfo, newest: int, limit: int) -> Plan[list[bytes]]:
    """Return the beginnings of the newest dead letters: attempts, score, reason."""
    names = yield from _names(driver, info)
    args = ("dead", "0", str(-(-newest // len(names))), str(limit), "reasons")
    asked: list[Operation[Any]] = [Operation(*_script("show", name), args, list) for name in names]
    return [letter for part in (yield from _all(driver, asked)) for letter in part]


def delivery_of(driver: Any, info: SetInfo, identity: bytes, one: Any) -> Plan[bytes | None]:
    """Return "token attempts score" of an item as the server keeps it, None if it has none.

    :raises LayoutError: the set has another layout. The end of a lease would not find out.
    """
    names, layout = (yield from _names(driver, info)), one._endings.definition.layout
    asked: list[Operation[Any]] = [
        Operation("HGET", (Keys(name).meta,), ("layout",), lambda reply: reply) for name in names
    ]
    for stored in (yield from _all(driver, asked)):
        check_layout(info.name, stored, layout)
    asked = [Operation("HGET", (Keys(name).deliveries,), (identity,), lambda reply: reply) for name in names]
    return next((found for found in (yield from _all(driver, asked)) if found is not None), None)


def shard_infos(driver: Any, info: SetInfo) -> Plan[list[SetInfo]]:
    """Return the shards of a set as sets of their own; the set itself if it has none."""
    names = yield from _names(driver, info)
    return [info] if len(names) == 1 else [SetInfo(name, info.kind) for name in names]


def _names(driver: Any, info: SetInfo) -> Plan[Sequence[str]]:
    layout = (yield from layouts(driver, [info])).get(info.name)
    return (info.name,) if layout is None else layout.names


def _all(driver: Any, operations: Sequence[Operation[Any]]) -> Plan[list[Any]]:
    """Perform operations together, and raise the first error."""
    results = yield from Performer(driver).together(operations)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def _read_rows(reply: list[Any]) -> list[Row]:
    rows = []
    for start in range(0, len(reply), COLUMNS):
        item, length, digest, score, words, value, value_length = reply[start : start + COLUMNS]
        rows.append(
            Row(item, int(length), digest.decode(), float(score), bytes(words), bytes(value), int(value_length))
        )
    return rows


def receipt_of(one: Any, stored: bytes, delivery: bytes, deadline: float) -> str:
    """Return the receipt of a lease, by which ``reservation()`` of its set ends it."""
    definition = one._endings.definition
    value = b"" if definition.items.keyed else None
    return Receipt(definition.name, definition.layout, stored, delivery, deadline, 1.0, value).written()
