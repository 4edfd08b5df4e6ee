"""Reads of a set: what they send, and how their replies are read. Nothing here changes the set."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Generic, TypeVar

from redset.core.definition import Definition
from redset.core.gates import Limits, read_gates
from redset.core.interruptions import is_interruption
from redset.core.items import Items, Key
from redset.core.operations import Operation, Plan, Shape, in_chunks, only, then
from redset.core.scores import rank, ranks, read_score, written_bounds
from redset.core.scripts import script
from redset.core.shown import shown
from redset.core.times import Moment

__all__ = ("Looking", "Stats", "identity_if_any", "loaded", "which_of")

T = TypeVar("T")
R = TypeVar("R")

#: Operations with one answer per item.
EACH = Shape("each", 0, 1)
DONE_EACH = Shape("each", 1, 1)


@dataclass(frozen=True, slots=True)
class Stats:
    """The number of items in each state, at one moment."""

    #: Waiting items, and those of them that can be claimed now.
    waiting: int
    due: int
    #: Leased items; those whose lease expired and that no claim has requeued yet; those backing off.
    leased: int
    expired: int
    delayed: int
    #: Items that were added while they were leased.
    parked: int
    #: Remembered items.
    done: int
    #: Dead letters.
    dead: int
    #: The lowest score of a waiting item, or None.
    oldest_score: float | None
    #: Seconds that the oldest due item has been due; None if scores are no times, or the lowest is minus infinity.
    lag: float | None
    #: Seconds since the epoch at which the pause ends, infinity without an end; None if the set is not paused.
    paused_until: float | None = None
    #: The limits, or None.
    limits: Limits | None = None

    @property
    def unfinished(self) -> int:
        """The number of entries that are waiting, leased, expired, delayed or parked.

        At 0 no lease is held and nothing is left to be claimed. An item that was added again while it was leased or
        delayed counts twice. Items claimed for good do not count.
        """
        return self.waiting + self.leased + self.expired + self.delayed + self.parked


class Looking(Generic[T]):
    """The reads of one set."""

    __slots__ = ("_items", "_keys", "_look", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items
        self._look = definition.script("look")

    def peek(self, position: int) -> Operation[T]:
        def read(reply: list[Any]) -> T:
            available, row, *values = reply
            if not row:
                raise KeyError(
                    f"no item at position {position} of the set {self._set.name!r}, of which {available} can be claimed"
                )
            return self._items.load(row[0], *(values[0] if values else ()))

        return self._next(position, read)

    def peek_score(self) -> Operation[float | None]:
        return self._next(0, lambda reply: read_score(reply[1][1] if reply[1] else None))

    def available(self) -> Operation[int]:
        return self._next(0, lambda reply: int(reply[0]))

    def _next(self, position: int, read: Callable[[list[Any]], R]) -> Operation[R]:
        return Operation(*self._look, ("next", str(int(position)), self._set.kind.which), read)

    def soon(self) -> Operation[float | None]:
        """Return the seconds until an item can be claimed or something falls due, 0 for now; None if nothing does."""
        return Operation(*self._look, ("soon", self._set.kind.which), lambda reply: float(reply) if reply else None)

    def count(
        self,
        lowest: Moment | None = None,
        highest: Moment | None = None,
        inclusive: tuple[bool, bool] = (True, True),
    ) -> Operation[int]:
        if lowest is None and highest is None:
            return Operation("ZCARD", (self._keys.waiting,), (), int)
        return Operation("ZCOUNT", (self._keys.waiting,), written_bounds(lowest, highest, inclusive), int)

    def scores(self, items: Sequence[T | Key]) -> Operation[list[float | None]]:
        """Return the scores of at most 1,000 items; None for each that is not waiting."""
        return self._scores(self._items.identities(items))

    def scores_of_all(self, items: Iterable[T | Key]) -> Plan[list[float | None]]:
        return self._scores_of_all(in_chunks(iter(items)))

    def _scores_of_all(self, chunks: Iterable[list[T | Key]]) -> Plan[list[float | None]]:
        scores: list[float | None] = []
        for chunk in chunks:
            scores += yield self.scores(chunk)
        return scores

    def score(self, item: T | Key) -> Operation[float | None]:
        return only(self.scores((item,)))

    def contains(self, item: T | Key) -> Operation[bool]:
        stored = identity_if_any(self._items, item)
        if stored is None:
            # One round trip, like any other call, so that callers need no second case.
            return Operation("EXISTS", (self._keys.waiting,), (), lambda reply: False)
        return Operation("ZMSCORE", (self._keys.waiting,), (stored,), lambda reply: reply[0] is not None, shape=EACH)

    def contains_many(self, items: Iterable[T | Key]) -> Plan[list[bool]]:
        return which_of(items, self._items, self._are_there)

    def which(self, stored: Sequence[bytes]) -> Operation[list[bytes]]:
        """Return which of at most 1,000 identities are waiting."""
        return then(self._are_there(stored), lambda there: list(compress(stored, there)))

    def _are_there(self, stored: Sequence[bytes]) -> Operation[list[bool]]:
        return then(self._scores(stored), lambda scores: [score is not None for score in scores])

    def _scores(self, stored: Sequence[bytes]) -> Operation[list[float | None]]:
        return Operation(
            "ZMSCORE", (self._keys.waiting,), stored, lambda reply: [read_score(score) for score in reply], shape=EACH
        )

    def get(self, item: T | Key) -> Operation[T | None]:
        if not self._items.keyed:
            raise TypeError(f"the set {self._set.name!r} was made without a key, so its items have no values")
        stored = self._items.identity(item)
        return Operation(
            "HMGET",
            (self._keys.values,),
            (stored,),
            lambda values: None if values[0] is None else self._items.load(stored, values[0]),
            shape=EACH,
        )

    def is_done(self, item: T | Key) -> Operation[bool]:
        return Operation(
            script("living", self._set.features),
            (self._keys.done,),
            ("which", self._items.identity(item)),
            lambda reply: reply == b"1",
            shape=DONE_EACH,
        )

    def index(self, item: T | Key) -> Operation[int]:
        def read(rank: int | None) -> int:
            if rank is None:
                raise ValueError(f"{shown(item)} is not waiting in the set {self._set.name!r}")
            return int(rank)

        return Operation("ZRANK", (self._keys.waiting,), (self._items.identity(item),), read)

    def at(self, position: int) -> Operation[T]:
        def read(items: list[T]) -> T:
            if not items:
                raise IndexError(f"the set {self._set.name!r} has no item at position {position}")
            return items[0]

        where = rank(position)
        return then(self._range(where, where), read)

    def slice(self, start: int | None, stop: int | None) -> Operation[list[T]]:
        return self._range(*ranks(start, stop))

    def _range(self, first: str, last: str) -> Operation[list[T]]:
        def read(reply: list[Any]) -> list[T]:
            return loaded(self._items, reply, 1)

        if self._items.keyed:
            return Operation(*self._look, ("range", first, last), read)
        return Operation("ZRANGE", (self._keys.waiting,), (first, last), read)

    def stats(self) -> Operation[Stats]:
        kind = self._set.kind

        def read(reply: list[Any]) -> Stats:
            waiting, due, leased, expired, delayed, parked, done, dead = map(int, reply[:8])
            now, oldest = float(reply[8]), read_score(*reply[11:] or [None])
            since = now if oldest is None else oldest
            lag = max(0.0, now - since) if self._set.timed and since > -math.inf else None
            gates = read_gates(reply[9], reply[10], now)
            return Stats(waiting, due, leased, expired, delayed, parked, done, dead, oldest, lag, *gates)

        return Operation(*self._look, ("stats", kind.which), read)


def which_of(
    items: Iterable[T | Key], of: Items[T], ask: Callable[[Sequence[bytes]], Operation[list[bool]]]
) -> Plan[list[bool]]:
    """Return the answer for each item, asked for chunk by chunk; False for an item that the set cannot store."""
    return _which_of(in_chunks(iter(items)), of, ask)


def _which_of(
    chunks: Iterable[list[T | Key]], of: Items[T], ask: Callable[[Sequence[bytes]], Operation[list[bool]]]
) -> Plan[list[bool]]:
    found: list[bool] = []
    for chunk in chunks:
        identities = _identities_if_any(of, chunk)
        asked = [stored for stored in identities if stored is not None]
        answers = iter((yield ask(asked)) if asked else ())
        found += [stored is not None and next(answers) for stored in identities]
    return found


def identity_if_any(of: Items[T], item: T | Key) -> bytes | None:
    """Return the identity of an item, or None if the serializer or the key refuses it: the set cannot have it then."""
    try:
        return of.identity(item)
    except Exception as error:
        if is_interruption(error):
            raise
        return None


def _identities_if_any(of: Items[T], items: Sequence[T | Key]) -> Sequence[bytes | None]:
    try:
        return of.identities(items)
    except Exception as error:
        if is_interruption(error):
            raise
        return [identity_if_any(of, item) for item in items]


def loaded(of: Items[T], rows: list[Any], width: int) -> list[T]:
    """Return the items of rows that were read without a claim. Raises the error of the first that cannot be loaded.

    :param width: the number of columns of a row, whose first is the item. Values are removed from the end.
    """
    values = of.values_behind(rows)
    items, broken = of.load_all(rows[::width], values)
    for error in broken.values():
        raise error
    return items
