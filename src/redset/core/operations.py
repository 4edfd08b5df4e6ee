"""What each operation sends, and how its reply is read. No I/O in the core, and no difference between the faces.

An :class:`Operation` is one round trip. What takes several, or waits, is a :data:`Plan`: a generator that yields
operations and rests, is sent what was read from each reply, and returns the result. :mod:`redset.core.drivers` runs
both. Here are the operations that add, look and remove; those that hand out are in :mod:`redset.core.handouts`, those
that end a lease in :mod:`redset.core.endings`.
"""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.callers import Caller
from redset.core.definition import Definition
from redset.core.items import Key, read_score, written_score
from redset.core.scripts import Script
from redset.reservations import Stats

__all__ = ("CHUNK", "Listen", "Operation", "Operations", "Page", "Plan", "Sleep", "Unanswered", "ranks")

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

#: How many items one call to the server moves at most: it holds the server for about a millisecond.
CHUNK = 1000

ADD = Script("add")
CLEAR = Script("clear")
DISCARD = Script("discard")
DONE = Script("done")
FORGET = Script("forget")
NEXT = Script("next")
PAGE = Script("page")
RANGE = Script("range")
STATS = Script("stats")


class Unanswered:
    """What the user may repeat because its outcome was never learned: it then goes out as the same call."""

    __slots__ = ("caller",)

    def __init__(self) -> None:
        self.caller: Caller | None = None


class Operation(NamedTuple, Generic[R]):
    """One round trip: what to send, and how to read what comes back."""

    #: A script, or the name of a command.
    verb: Script | str
    keys: tuple[bytes, ...]
    args: Sequence[bytes | str]
    read: Callable[[Any], R]
    #: Whether it changes something, so that the server keeps its reply in case it is sent twice. It is then given,
    #: before its own keys and arguments, the key of its record and the numbers of the call.
    recorded: bool = False
    #: For a hand-out: makes the operation that puts back what it took and nobody saw.
    settle: "Callable[[], Operation[Any]] | None" = None
    unanswered: Unanswered | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """A step of a plan: let so many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Listen:
    """A step of a plan: wait for a wake-up for so many seconds at most."""

    key: bytes
    seconds: float
    #: How many seconds there are in all, to stand in line for those who listen for many; None for any number.
    patience: float | None
    #: Whether to give up meanwhile; asked every now and then.
    should_stop: Callable[[], bool]

    def command(self) -> tuple[bytes | str, ...]:
        """The command that listens: it removes nothing but the wake-up."""
        return ("BLPOP", self.key, f"{self.seconds:.3f}")


Plan: TypeAlias = Generator[Operation[Any] | Sleep | Listen, Any, R]

#: A score and an item: a place in the order of a set.
Place: TypeAlias = tuple[bytes, bytes]


class Page(NamedTuple, Generic[T]):
    """A stretch of an iteration, and the operation that reads the next one, if there is more."""

    items: list[T]
    behind: "Operation[Page[T]] | None"


class Operations(Generic[T]):
    """Adding to a set, looking at what waits in it, and removing from it."""

    __slots__ = ("_items", "_keys", "_set", "_waiting")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items
        # What looks at waiting items needs the values of a keyed set too.
        self._waiting = (self._keys.waiting, self._keys.values) if self._items.keyed else (self._keys.waiting,)

    def add(self, item: T, score: float | None) -> Operation[float | None]:
        written = written_score(self._set.scorer(item) if score is None else score, item)
        row: list[bytes | str] = [written, self._items.identity(item)]
        if self._items.keyed:
            row.append(self._items.dump(item))

        def read(reply: bytes) -> float | None:
            return None if b" " in reply else float(written)

        keys: tuple[bytes, ...] = (self._keys.waiting, self._keys.wake, self._keys.waiters)
        if not self._set.extended:
            return Operation(ADD, keys, row, read, recorded=True)
        keys += (self._keys.values, self._keys.done, self._keys.dead)
        return Operation(ADD, keys, (self._set.memory, *row), read, recorded=True)

    def peek(self, position: int) -> Operation[T]:
        def read(reply: list[Any]) -> T:
            available, row = reply
            if not row:
                raise KeyError(
                    f"nothing at position {position} of the set {self._set.name!r}, which has {available} to take"
                )
            return self._items.load(row[0], *row[2:])

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

    def scores(self, items: Iterable[T | Key]) -> Operation[list[float | None]]:
        stored = [self._items.identity(item) for item in items]
        return Operation("ZMSCORE", (self._keys.waiting,), stored, lambda reply: [read_score(score) for score in reply])

    def score(self, item: T | Key) -> Operation[float | None]:
        return _only(self.scores([item]))

    def contains(self, item: T | Key) -> Operation[bool]:
        return _then(self.score(item), lambda score: score is not None)

    def get(self, item: T | Key) -> Operation[T | None]:
        if not self._items.keyed:
            raise TypeError(f"the set {self._set.name!r} was made without a key, so an item has no value beside itself")
        stored = self._items.identity(item)
        return Operation(
            "HGET",
            (self._keys.values,),
            (stored,),
            lambda value: None if value is None else self._items.load(stored, b"1", value),
        )

    def is_done(self, item: T | Key) -> Operation[bool]:
        digest = str(int(self._set.digest))
        return Operation(DONE, (self._keys.done,), (digest, self._items.identity(item)), lambda reply: reply[0] == 1)

    def forget(self, item: T | Key) -> Operation[bool]:
        keys = (self._keys.waiting, self._keys.done, self._keys.dead, self._keys.letters, self._keys.values)
        args = (str(int(self._set.digest)), self._items.identity(item))
        return Operation(FORGET, keys, args, lambda reply: reply != b"", recorded=True)

    def at(self, position: int) -> Operation[T]:
        def read(items: list[T]) -> T:
            if not items:
                raise IndexError(f"the set {self._set.name!r} has nothing at position {position}")
            return items[0]

        return _then(self._range(str(position), str(position)), read)

    def slice(self, start: int | None, stop: int | None) -> Operation[list[T]]:
        return self._range(*ranks(start, stop))

    def _range(self, first: str, last: str) -> Operation[list[T]]:
        verb = RANGE if self._items.keyed else "ZRANGE"
        return Operation(verb, self._waiting, (first, last), lambda reply: self._loaded(reply, 1))

    def _loaded(self, rows: Sequence[bytes], width: int) -> list[T]:
        """The items of rows that are only looked at, so what cannot be loaded is an error."""
        items, broken = self._items.load_all(rows, width)
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
        items = self._loaded(rows, 1)
        if len(items) < CHUNK:
            return Page(items, None)

        def read(reply: list[Any]) -> Page[T]:
            rows, *places = reply
            return self._page(rows, places[0], end) if rows else Page([], None)

        args = (str(CHUNK), last_score, rows[-self._items.columns(1)], *end)
        return Page(items, Operation(PAGE, self._waiting, args, read))

    def discard_all(self, items: Iterable[T | Key]) -> Operation[list[bool]]:
        stored = [self._items.identity(item) for item in items]

        def read(reply: bytes) -> list[bool]:
            removed = set(map(int, reply.split()))
            return [position in removed for position in range(len(stored))]

        keys: tuple[bytes, ...] = (self._keys.waiting, self._keys.leased, self._keys.deliveries, self._keys.parked)
        if self._items.keyed:
            keys += (self._keys.dead, self._keys.values)
        return Operation(DISCARD, keys, stored, read, recorded=True)

    def discard(self, item: T | Key) -> Operation[bool]:
        return _only(self.discard_all([item]))

    def clear(self) -> Operation[bool]:
        keys = (self._keys.token, *self._keys.states, self._keys.values, self._keys.done)
        return Operation(CLEAR, keys, (), lambda reply: reply != b"0", recorded=True)

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


def ranks(start: int | None, stop: int | None) -> tuple[str, str]:
    """The first and the last rank of ``[start:stop]``, as ZRANGE counts them: the last one is included."""
    if stop == 0:
        return "1", "0"
    return str(start or 0), str(-1 if stop is None else stop - 1)


def _only(operation: Operation[list[R]]) -> Operation[R]:
    """The same for a list of one, read as that one."""
    return _then(operation, lambda results: results[0])


def _then(operation: Operation[R], convert: Callable[[R], S]) -> Operation[S]:
    read = operation.read
    return Operation(
        operation.verb, operation.keys, operation.args, lambda reply: convert(read(reply)), operation.recorded
    )
