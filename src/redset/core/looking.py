"""Looking at what is in a set: what is sent, and what the replies mean. Nothing here changes anything."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from redset.core.definition import Definition
from redset.core.items import Key, read_score, written_score
from redset.core.operations import CHUNK, Operation, Page, Plan, in_chunks, only, ranks, then
from redset.core.scripts import Script
from redset.reservations import Stats

__all__ = ("Looking",)

T = TypeVar("T")
R = TypeVar("R")

#: A score and an item: a place in the order of a set.
Place: TypeAlias = tuple[bytes, bytes]

DONE = Script("done")
NEXT = Script("next")
PAGE = Script("page")
RANGE = Script("range")
STATS = Script("stats")


class Looking(Generic[T]):
    """Looking at one set."""

    __slots__ = ("_items", "_keys", "_set", "_waiting")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items
        # What looks at waiting items needs the values of a keyed set too.
        self._waiting = (self._keys.waiting, self._keys.values) if self._items.keyed else (self._keys.waiting,)

    def peek(self, position: int) -> Operation[T]:
        def read(reply: list[Any]) -> T:
            available, row, *values = reply
            if not row:
                raise KeyError(
                    f"nothing at position {position} of the set {self._set.name!r}, which has {available} to take"
                )
            return self._items.load(row[0], *(values[0] if values else ()))

        return self._next(position, read)

    def peek_score(self) -> Operation[float | None]:
        return self._next(0, lambda reply: read_score(reply[1][1] if reply[1] else None))

    def available(self) -> Operation[int]:
        return self._next(0, lambda reply: int(reply[0]))

    def _next(self, position: int, read: Callable[[list[Any]], R]) -> Operation[R]:
        return Operation(NEXT, self._waiting, (str(int(position)), self._set.kind.which), read)

    def count(self, lowest: float | None = None, highest: float | None = None) -> Operation[int]:
        if lowest is None and highest is None:
            return Operation("ZCARD", (self._keys.waiting,), (), int)
        low = "-inf" if lowest is None else written_score(lowest, "min")
        high = "inf" if highest is None else written_score(highest, "max")
        return Operation("ZCOUNT", (self._keys.waiting,), (low, high), int)

    def scores(self, items: Sequence[T | Key]) -> Operation[list[float | None]]:
        """Of 1,000 items at most; None for each that does not wait."""
        return self._scores(self._items.identities(items))

    def scores_of_all(self, items: Iterable[T | Key]) -> Plan[list[float | None]]:
        scores: list[float | None] = []
        for chunk in in_chunks(items):
            scores += yield self.scores(chunk)
        return scores

    def score(self, item: T | Key) -> Operation[float | None]:
        return only(self.scores((item,)))

    def contains(self, item: T | Key) -> Operation[bool]:
        stored = self._identity_if_any(item)
        if stored is None:
            # Still one round trip like any other, so that whoever asks need not know.
            return Operation("EXISTS", (self._keys.waiting,), (), lambda reply: False)
        return then(only(self._scores((stored,))), lambda score: score is not None)

    def contains_many(self, items: Iterable[T | Key]) -> Plan[list[bool]]:
        contained: list[bool] = []
        for chunk in in_chunks(items):
            identities = list(map(self._identity_if_any, chunk))
            asked = [stored for stored in identities if stored is not None]
            scores = iter((yield self._scores(asked)) if asked else ())
            contained += [stored is not None and next(scores) is not None for stored in identities]
        return contained

    def _scores(self, stored: Sequence[bytes]) -> Operation[list[float | None]]:
        return Operation("ZMSCORE", (self._keys.waiting,), stored, lambda reply: [read_score(score) for score in reply])

    def _identity_if_any(self, item: T | Key) -> bytes | None:
        """None for what the serializer or the key refuses: it cannot be in the set."""
        try:
            return self._items.identity(item)
        except Exception:
            return None

    def get(self, item: T | Key) -> Operation[T | None]:
        if not self._items.keyed:
            raise TypeError(f"the set {self._set.name!r} was made without a key, so an item has no value beside itself")
        stored = self._items.identity(item)
        return Operation(
            "HGET",
            (self._keys.values,),
            (stored,),
            lambda value: None if value is None else self._items.load(stored, value),
        )

    def is_done(self, item: T | Key) -> Operation[bool]:
        digest = str(int(self._set.digest))
        return Operation(DONE, (self._keys.done,), (digest, self._items.identity(item)), lambda reply: reply[0] == 1)

    def at(self, position: int) -> Operation[T]:
        def read(items: list[T]) -> T:
            if not items:
                raise IndexError(f"the set {self._set.name!r} has nothing at position {position}")
            return items[0]

        return then(self._range(str(position), str(position)), read)

    def slice(self, start: int | None, stop: int | None) -> Operation[list[T]]:
        return self._range(*ranks(start, stop))

    def _range(self, first: str, last: str) -> Operation[list[T]]:
        verb = RANGE if self._items.keyed else "ZRANGE"
        return Operation(verb, self._waiting, (first, last), self._loaded)

    def _loaded(self, stored: list[Any]) -> list[T]:
        """The items of a list that are only looked at, so what cannot be loaded is an error."""
        values = self._items.values_behind(stored)
        items, broken = self._items.load_all(stored, values)
        for error in broken.values():
            raise error
        return items

    def first_page(self) -> Operation[Page[T]]:
        def read(reply: list[Any]) -> Page[T]:
            rows, *places = reply
            return self._page(rows, places[0], (places[1], places[2])) if rows else Page([], None)

        return Operation(PAGE, self._waiting, (str(CHUNK),), read)

    def _page(self, rows: list[bytes], last_score: bytes, end: Place) -> Page[T]:
        """The items of a page, and the operation that reads the page behind it: up to ``end``, where we stop."""
        items = self._loaded(rows)
        if len(items) < CHUNK:
            return Page(items, None)

        def read(reply: list[Any]) -> Page[T]:
            rows, *places = reply
            return self._page(rows, places[0], end) if rows else Page([], None)

        args = (str(CHUNK), last_score, rows[-1], *end)
        return Page(items, Operation(PAGE, self._waiting, args, read))

    def stats(self) -> Operation[Stats]:
        kind = self._set.kind

        def read(reply: list[Any]) -> Stats:
            waiting, due, leased, expired, delayed, parked, done, dead = map(int, reply[:8])
            now, oldest = float(reply[8]), read_score(*reply[9:] or [None])
            since = now if oldest is None else oldest
            lag = max(0.0, now - since) if self._set.timed and since > -math.inf else None
            return Stats(waiting, due, leased, expired, delayed, parked, done, dead, oldest, lag)

        keys = (self._keys.waiting, self._keys.leased, self._keys.parked, self._keys.dead, self._keys.done)
        return Operation(STATS, keys, (kind.which,), read)
