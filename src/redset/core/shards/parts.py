"""The operations of a set over shards, except claims and ends: each is performed at one shard, or at all and merged.

These classes stand in the place of those of an ordinary set. Where those return an operation, these return a plan.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, TypeVar

from redset.core.adding import Adding, Rule, Score
from redset.core.algebra import SortedAlgebra
from redset.core.definition import Definition
from redset.core.gates import Gates, Limits
from redset.core.grouping import group_name
from redset.core.groups import Groups, GroupStats
from redset.core.inspecting import Inspecting, Lease, Sample, Totals
from redset.core.items import Key
from redset.core.letters import DeadLetter, Letters
from redset.core.looking import Looking, Stats
from redset.core.operands import Held, Row, Side
from redset.core.operations import Operation, Plan
from redset.core.paging import ALL, Page, Paging, Span
from redset.core.periodic import Scheduling
from redset.core.removing import Removing
from redset.core.scores import rank, ranks
from redset.core.shards.merging import Source, merged
from redset.core.shards.place import Shard, Shards, as_operation, at_once, picked
from redset.core.shown import shown
from redset.core.times import Duration, Moment
from redset.exceptions import Full

__all__ = (
    "ShardsAdding",
    "ShardsAlgebra",
    "ShardsGates",
    "ShardsInspecting",
    "ShardsLetters",
    "ShardsLooking",
    "ShardsPaging",
    "ShardsRemoving",
    "ShardsScheduling",
    "ShardsSide",
    "by_item",
    "from_each",
    "share_of",
    "sum_of_histories",
    "sum_of_limits",
    "sum_of_stats",
    "sum_of_totals",
)

T = TypeVar("T")

#: The number of positions, from either end, that can be read.
POSITIONS = 1000


def by_item(part: str, name: str) -> Any:
    """Return a method that performs the method of this name at the shard of its first argument."""

    def method(self: Any, item: Any, *args: Any, **options: Any) -> Any:
        def ask(shard: Shard) -> Any:
            return getattr(getattr(shard.parts, part), name)(item, *args, **options)

        return self._shards.at_item(item.identity if isinstance(item, DeadLetter) else item, ask)

    method.__name__ = name
    return method


def from_each(part: str, name: str, join: Callable[[list[Any]], Any]) -> Any:
    """Return a method that performs the method of this name at each shard, and joins the results."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        def perform() -> Plan[Any]:
            ask = lambda shard: getattr(getattr(shard.parts, part), name)(*args, **options)  # noqa: E731
            return join((yield from self._shards.at_each(ask)))

        return perform()

    method.__name__ = name
    return method


def _nothing(_: list[Any]) -> None:
    return None


def _lowest(scores: Iterable[float | None]) -> float | None:
    return min((score for score in scores if score is not None), default=None)


def sum_of_stats(all_of_them: list[Stats]) -> Stats:
    counted = ("waiting", "due", "leased", "expired", "delayed", "parked", "done", "dead")
    sums = {name: sum(getattr(stats, name) for stats in all_of_them) for name in counted}
    ends = [stats.paused_until for stats in all_of_them]
    lags = [stats.lag for stats in all_of_them if stats.lag is not None]
    return Stats(
        **sums,
        oldest_score=_lowest(stats.oldest_score for stats in all_of_them),
        lag=max(lags, default=None) if lags else None,
        paused_until=None if None in ends else min(end for end in ends if end is not None),
        limits=sum_of_limits([stats.limits for stats in all_of_them]),
    )


def sum_of_limits(limits: list[Limits | None]) -> Limits | None:
    """Return the limits of the whole set, of which each shard has a part."""
    parts = [one for one in limits if one is not None]
    if len(parts) < len(limits):
        return None

    def added(name: str) -> Any:
        values = [getattr(one, name) for one in parts]
        return None if None in values else sum(values)

    rate = added("rate")
    # Equal parts of a rate add up to the whole but for the last digits.
    whole = None if rate is None else float(f"{rate:.12g}")
    return Limits(rate=whole, per=parts[0].per, burst=added("burst"), leases=added("leases"), maxsize=added("maxsize"))


def share_of(limits: Limits, number: int, count: int) -> tuple[Any, ...]:
    """Return the part of one shard of these limits, as the parameters of ``limit``."""
    rate = None if limits.rate is None else limits.rate / count
    whole = (limits.burst, limits.leases, limits.maxsize)
    return rate, limits.per, *(None if one is None else (one + count - 1 - number) // count for one in whole)


def sum_of_totals(all_of_them: list[Totals]) -> Totals:
    return Totals(**{one.name: sum(getattr(totals, one.name) for totals in all_of_them) for one in fields(Totals)})


def sum_of_histories(histories: list[list[Sample]]) -> list[Sample]:
    """Return a sample for each minute that a shard has one of, with the totals of all shards as of then."""
    times: dict[int, float] = {}
    for sample in (sample for history in histories for sample in history):
        minute = int(sample.at // 60)
        times[minute] = max(times.get(minute, 0.0), sample.at)
    nothing = Totals(*[0] * len(fields(Totals)))
    return [
        Sample(at, sum_of_totals([_as_of(history, at, nothing) for history in histories]))
        for _, at in sorted(times.items())[-60:]
    ]


def _as_of(history: list[Sample], at: float, nothing: Totals) -> Totals:
    return next((sample.totals for sample in reversed(history) if sample.at <= at), nothing)


# Adding.


class ShardsAdding(Adding[T]):
    """The additions to a set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    add = by_item("adding", "add")
    addition = by_item("adding", "addition")
    increment = by_item("adding", "increment")

    def count_new(self, items: Sequence[T], score: Score[T] = None, rule: Rule | None = None) -> Operation[int]:
        rows = self.rows(items, score)
        return as_operation(self._add_rows(rows, lambda shard, some: shard.parts.adding.count_new_rows(some, rule)))

    def add_absent(self, rows: Sequence[bytes | str]) -> Operation[Any]:
        return as_operation(self._add_rows(rows, lambda shard, some: shard.parts.adding.add_absent(some)))

    def _add_rows(self, rows: Sequence[Any], ask: Callable[[Shard, list[Any]], Any]) -> Plan[int]:
        return _add_rows(self._shards, self.width, rows, ask)


def _add_rows(shards: Shards, width: int, rows: Sequence[Any], ask: Callable[[Shard, list[Any]], Any]) -> Plan[int]:
    """Add rows, each at its shard, and return the number of new items."""

    def at_shard(shard: Shard, positions: list[int]) -> Any:
        return ask(shard, [cell for at in positions for cell in rows[width * at : width * (at + 1)]])

    return (yield from _add_all(shards, rows[1::width], at_shard))


def _add_all(shards: Shards, identities: Sequence[bytes], ask: Callable[[Shard, list[int]], Any]) -> Plan[int]:
    """Perform an addition at each shard that some identities belong to, and return the number of new items.

    :param ask: takes the shard and the positions of its identities.
    :raises Full: a shard had no room for some. The others have added theirs.
    """
    results = yield from shards.divided(identities, lambda shard, positions: _room_or(ask(shard, positions)))
    if any(isinstance(found, _NoRoom) for _, found in results):
        raise Full(
            shards.name,
            sum(found.added if isinstance(found, _NoRoom) else len(positions) for positions, found in results),
        )
    return sum(found for _, found in results if isinstance(found, int))


@dataclass(frozen=True, slots=True)
class _NoRoom:
    """The result of an addition that ran out of room, and the number of items that are in. It is no error: these end
    the call at the first shard that has one.
    """

    added: int


def _room_or(operation: Any) -> Any:
    """Return an addition whose result says so if there is no room, so that the items of all shards are counted."""
    read = operation.read

    def read_it(reply: Any) -> Any:
        try:
            return read(reply)
        except Full as full:
            return _NoRoom(full.added)

    return replace(operation, read=read_it)


class ShardsScheduling(Scheduling[T]):
    """The additions to a periodic set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], jitter: float, shards: Shards) -> None:
        super().__init__(definition, jitter)
        self._shards = shards

    add = by_item("adding", "add")
    addition = by_item("adding", "addition")
    schedule = by_item("adding", "schedule")
    reschedule = by_item("adding", "reschedule")
    trigger = by_item("adding", "trigger")
    planned = by_item("adding", "planned")

    def schedule_all(
        self, items: Sequence[T], interval: Any, first: Score[T], *, bulk: bool = False, only_new: bool = False
    ) -> Operation[list[bool]]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            some = picked(items, positions)
            return shard.parts.adding.schedule_all(some, interval, first, bulk=bulk, only_new=only_new)

        return as_operation(self._shards.aligned(self._items.identities(items), at_shard))

    def count_scheduled(self, items: Sequence[T], interval: Any, first: Score[T]) -> Operation[int]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.adding.count_scheduled(picked(items, positions), interval, first)

        return as_operation(_add_all(self._shards, self._items.identities(items), at_shard))

    def add_absent(self, rows: Sequence[bytes | str]) -> Operation[Any]:
        add = lambda shard, some: shard.parts.adding.add_absent(some)  # noqa: E731
        return as_operation(_add_rows(self._shards, self.width, rows, add))


# Looking.


class ShardsPaging(Paging[T]):
    """The iterations over a set over shards: a merge of the pages of all shards, in order."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition.keys, definition.items)
        self._shards = shards

    def items(self, span: Span = ALL) -> Operation[Page[T]]:
        return self._read(span, lambda row: row.item)

    def with_scores(self) -> Operation[Page[tuple[T, float]]]:
        return self._read(ALL, lambda row: (row.item, row.score))

    def placed(self, span: Span) -> Operation[Page[Any]]:
        """Read items with their places."""
        return self._read(span, lambda row: row)

    def _read(self, span: Span, show: Callable[[Any], Any]) -> Operation[Page[Any]]:
        # Raises for a limit or a bound that cannot be.
        self._first_page(span, "scores", list)

        def first() -> Plan[Page[Any]]:
            yield from self._shards.ready()
            sources = [Source(shard.at(shard.parts.paging.placed(span)), shard) for shard in self._shards.all]
            return (yield from merged(sources, show, span.limit, reverse=span.reverse))

        return as_operation(self._shards.settled(first))


class ShardsLooking(Looking[T]):
    """The reads of a set over shards."""

    __slots__ = ("_paging", "_shards")

    def __init__(self, definition: Definition[T], shards: Shards, paging: ShardsPaging[T]) -> None:
        super().__init__(definition)
        self._shards = shards
        self._paging = paging

    score = by_item("looking", "score")
    contains = by_item("looking", "contains")
    get = by_item("looking", "get")
    is_done = by_item("looking", "is_done")
    count = from_each("looking", "count", sum)
    available = from_each("looking", "available", sum)
    peek_score = from_each("looking", "peek_score", _lowest)

    def _scores(self, stored: Sequence[bytes]) -> Operation[list[float | None]]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.looking._scores(picked(stored, positions))

        return as_operation(self._shards.aligned(stored, at_shard))

    def _are_there(self, stored: Sequence[bytes]) -> Operation[list[bool]]:
        def there() -> Plan[list[bool]]:
            scores: list[float | None] = yield self._scores(stored)
            return [score is not None for score in scores]

        return as_operation(there())

    def which(self, stored: Sequence[bytes]) -> Operation[list[bytes]]:
        def which() -> Plan[list[bytes]]:
            there: list[bool] = yield self._are_there(stored)
            return [one for one, is_there in zip(stored, there, strict=True) if is_there]

        return as_operation(which())

    # Positions.

    def _first(self, count: int, *, reverse: bool = False) -> Plan[list[Any]]:
        """Return the first items with their places, or the last of them, last first."""
        rows: list[Any] = []
        behind: Any = self._paging.placed(Span(limit=count, reverse=reverse))
        while behind and len(rows) < count:
            page = yield behind
            rows += page.items
            behind = page.behind
        return rows

    def _range_of(self, start: int, stop: int, total: int) -> Plan[list[Any]]:
        """Return the items at some positions, with their places."""
        if start >= stop:
            return []
        if stop <= POSITIONS:
            return (yield from self._first(stop))[start:stop]
        if start >= total - POSITIONS:
            found = (yield from self._first(total - start, reverse=True))[::-1]
            return found[: stop - start]
        raise ValueError(
            f"the set {self._set.name!r} is over shards: of its positions only the first and the last "
            f"{POSITIONS} can be read, not {start} to {stop - 1} of {total}; iterate instead"
        )

    def peek(self, position: int) -> Operation[T]:
        def peek() -> Plan[T]:
            available: int = yield self.available()
            at = position + available if position < 0 else position
            rows = (yield from self._range_of(at, at + 1, available)) if 0 <= at < available else []
            if not rows:
                raise KeyError(
                    f"no item at position {position} of the set {self._set.name!r}, of which {available} can be claimed"
                )
            item: T = rows[0].item
            return item

        return as_operation(peek())

    def at(self, position: int) -> Operation[T]:
        def at() -> Plan[T]:
            total: int = yield self.count()
            where = position + total if position < 0 else position
            rows = (yield from self._range_of(where, where + 1, total)) if 0 <= where < total else []
            if not rows:
                raise IndexError(f"the set {self._set.name!r} has no item at position {position}")
            item: T = rows[0].item
            return item

        rank(position)
        return as_operation(at())

    def slice(self, start: int | None, stop: int | None) -> Operation[list[T]]:
        def read() -> Plan[list[T]]:
            total: int = yield self.count()
            first, last, _ = slice(start, stop).indices(total)
            return [row.item for row in (yield from self._range_of(first, last, total))]

        ranks(start, stop)
        return as_operation(read())

    def index(self, item: T | Key) -> Operation[int]:
        identity = self._items.identity(item)

        def index() -> Plan[int]:
            own = self._shards.of(identity)
            score: float | None = yield own.at(own.parts.looking.score(Key(identity)))
            if score is None:
                raise ValueError(f"{shown(item)} is not waiting in the set {self._set.name!r}")
            ranks: list[int] = yield from at_once([_rank_in(shard, score, identity) for shard in self._shards.all])
            return sum(ranks)

        return as_operation(self._shards.settled(index))

    def stats(self) -> Operation[Stats]:
        def stats() -> Plan[Stats]:
            return sum_of_stats((yield from self._shards.at_each(lambda shard: shard.parts.looking.stats())))

        return as_operation(stats())


def _rank_in(shard: Shard, score: float, identity: bytes) -> Plan[int]:
    """Return how many items of a shard come before a place: by a search among those of the same score."""
    count = shard.parts.looking.count
    low: int
    high: int
    low, high = yield from at_once([shard.at(count(None, score, (True, up_to))) for up_to in (False, True)])
    while low < high:
        middle = (low + high) // 2
        keys = (shard.parts.keys.waiting,)
        found: list[bytes] = yield shard.at(Operation("ZRANGE", keys, (str(middle), str(middle)), list))
        if found and found[0] < identity:
            low = middle + 1
        else:
            high = middle
    return low


# Removing.


class ShardsRemoving(Removing[T]):
    """The removals from a set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    discard = by_item("removing", "discard")
    remove = by_item("removing", "remove")
    forget = by_item("removing", "forget")
    clear = from_each("removing", "clear", any)
    remove_between = from_each("removing", "remove_between", sum)

    def discard_all(self, items: Iterable[T | Key]) -> Operation[list[bool]]:
        stored = [self._items.identity(item) for item in items]

        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.removing.discard_all([Key(stored[at]) for at in positions])

        return as_operation(self._shards.aligned(stored, at_shard))

    def remove_at(self, position: int) -> Operation[None]:
        raise self._no_positions(f"the item at position {position}")

    def remove_slice(self, start: int | None, stop: int | None) -> Plan[int]:
        raise self._no_positions(f"the items from position {start} to {stop}")

    def _no_positions(self, what: str) -> TypeError:
        return TypeError(
            f"{what} cannot be removed in one step from the set {self._set.name!r}, which is over shards: read "
            "the items, and discard them"
        )


# Steering and seeing.


class ShardsGates(Gates[T]):
    """The pause and the limits of a set over shards. Each shard has an equal part of a limit."""

    __slots__ = ("_set_name", "_shards")

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._set_name = definition.name
        self._shards = shards

    _pause = from_each("gates", "pause", _nothing)
    resume = from_each("gates", "resume", _nothing)

    def pause(self, until: Moment | None) -> Operation[None]:
        # Raises for a moment that cannot be.
        super().pause(until)
        return as_operation(self._pause(until))

    def limit(
        self, rate: float | None, per: Duration, burst: int | None, leases: int | None, maxsize: int | None
    ) -> Operation[None]:
        # Raises for a limit that cannot be.
        super().limit(rate, per, burst, leases, maxsize)

        def limit() -> Plan[None]:
            count = len((yield from self._shards.ready()))
            for name, value in (("rate", rate), ("burst", burst), ("leases", leases), ("maxsize", maxsize)):
                if value is not None and value < count:
                    raise ValueError(
                        f"{name} must be at least {count} on the set {self._set_name!r}, one for each shard, not "
                        f"{value!r}"
                    )
            whole = Limits(rate, per, burst, leases, maxsize)  # type: ignore[arg-type] # a timedelta is as good
            yield from self._shards.at_each(
                lambda shard: shard.parts.gates.limit(*share_of(whole, shard.number, count))
            )

        return as_operation(limit())


class ShardsGroups(Groups[T]):
    """The operations on the groups of a set over shards. A group is in one shard, so its limits are exact."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    def limit(self, name: Any, leases: int | None, pause: Duration | None) -> Operation[None]:
        # Raises for a limit that cannot be.
        super().limit(name, leases, pause)
        return self._at(name, lambda groups: groups.limit(name, leases, pause))

    def pause(self, name: Any, until: Moment | None) -> Operation[None]:
        super().pause(name, until)
        return self._at(name, lambda groups: groups.pause(name, until))

    def resume(self, name: Any) -> Operation[None]:
        return self._at(name, lambda groups: groups.resume(name))

    def stats(self, name: Any) -> Operation[GroupStats]:
        return self._at(name, lambda groups: groups.stats(name))

    def _at(self, name: Any, ask: Callable[[Groups[T]], Any]) -> Operation[Any]:
        found: Operation[Any] = self._shards.at_group(group_name(name), lambda shard: ask(shard.parts.groups))
        return found

    def all(self, limit: int) -> Operation[list[GroupStats]]:
        def busiest() -> Plan[list[GroupStats]]:
            rows = yield from self._shards.at_each(lambda shard: shard.parts.groups.all(limit))
            return sorted(chain.from_iterable(rows), key=lambda group: -group.leases)[:limit]

        return as_operation(busiest())


class ShardsInspecting(Inspecting[T]):
    """The reads for operators of a set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    state = by_item("inspecting", "state")
    inspect = by_item("inspecting", "inspect")
    totals = from_each("inspecting", "totals", sum_of_totals)
    history = from_each("inspecting", "history", sum_of_histories)

    def _leases(self, limit: int | None) -> Plan[list[Lease[T]]]:
        found = yield from self._shards.at_each(lambda shard: shard.parts.inspecting._leases(limit))
        return sorted((lease for own in found for lease in own), key=lambda lease: lease.token)[:limit]


class ShardsLetters(Letters[T]):
    """The dead letters of a set over shards."""

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    retry = by_item("letters", "retry")
    discard = by_item("letters", "discard")
    count = from_each("letters", "count", sum)

    def end_each(self, verb: str, stored: Sequence[bytes]) -> Operation[list[bool]]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.letters.end_each(verb, picked(stored, positions))

        return as_operation(self._shards.aligned(stored, at_shard))

    retry_all = from_each("letters", "retry_all", sum)
    clear = from_each("letters", "clear", sum)

    def first_page(self) -> Operation[Page[DeadLetter[T]]]:
        def first() -> Plan[Page[Any]]:
            sources = [Source(shard.at(shard.parts.letters.first_page()), shard) for shard in self._shards.all]
            return (yield from merged(sources, lambda letter: letter, None, reverse=True, place=_died))

        return as_operation(self._shards.settled(first))

    def slice(self, start: int | None, stop: int | None) -> Operation[list[DeadLetter[T]]]:
        def read() -> Plan[list[DeadLetter[T]]]:
            total: int = yield self.count()
            first, last, _ = slice(start, stop).indices(total)
            letters: list[DeadLetter[T]] = []
            behind: Any = self.first_page()
            while behind and len(letters) < last:
                page = yield behind
                letters += page.items
                behind = page.behind
            return letters[first:last]

        return as_operation(read())


def _died(letter: DeadLetter[Any]) -> tuple[float, bytes]:
    return letter.died_at, letter.identity


# Operators.


@dataclass(frozen=True, slots=True)
class ShardsSide(Side):
    """A set over shards as an operand."""

    shards: Any = None

    def paged(
        self, others: Sequence[Held] = (), *, inside: bool = False, values: bool = False, limit: int | None = None
    ) -> Operation[Page[Row]]:
        def page(left: list[Shard], behind: Any) -> Plan[Page[Row]]:
            found: Page[Row] = yield behind
            shard = left[0]
            if found.behind:
                return Page(found.items, as_operation(page(left, shard.at(found.behind))))
            return Page(found.items, as_operation(begin(left[1:])) if left[1:] else None)

        def begin(left: list[Shard]) -> Plan[Page[Row]]:
            side = left[0].parts.side
            return (yield from page(left, left[0].at(side.paged(others, inside=inside, values=values, limit=limit))))

        def first() -> Plan[Page[Row]]:
            return (yield from begin(self.shards.all))

        return as_operation(self.shards.settled(first))


class ShardsAlgebra(SortedAlgebra[T]):
    """The operators of a set over shards."""

    def _rows(self, identities: list[bytes], values: bytes | None) -> Plan[list[Row]]:
        there: list[bytes] = yield self._side.which(identities)
        if not values or not there:
            return [(identity, None) for identity in there]

        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return Operation("HMGET", (shard.parts.keys.values,), picked(there, positions), list)

        shards = self._side.shards  # type: ignore[attr-defined] # it is the side of a set over shards
        found = yield from shards.aligned(there, at_shard)
        return list(zip(there, found, strict=True))
