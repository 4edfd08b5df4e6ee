"""What each operation sends, and how its reply is read. No I/O in the core, and no difference between the faces.

An :class:`Operation` is one round trip. What takes several, or waits, is a :data:`Plan`: a generator that yields
operations and rests, is sent what was read from each reply, and returns the result. :mod:`redset.core.drivers` runs
both. Here are the operations that add, look and remove; those that hand out are in :mod:`redset.core.handouts`, those
that end a lease in :mod:`redset.core.endings`.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.callers import Caller
from redset.core.definition import Definition
from redset.core.items import read_score, written_score
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
NEXT = Script("next")
PAGE = Script("page")
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
    #: Whether it changes something, so that the server keeps its reply in case it is sent twice. It is then given the
    #: key of its record and the numbers of the call.
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

    __slots__ = ("_items", "_keys", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items

    def add(self, item: T, score: float | None) -> Operation[float]:
        written = written_score(self._set.scorer(item) if score is None else score, item)
        return self._add("any", [written, self._items.dump(item)], lambda _: float(written))

    def put_back(self, rows: Sequence[bytes]) -> Operation[None]:
        """Adds items that were taken for good, given as item, score, item, score, ..., unless they wait again."""
        pairs = [part for item, score in zip(rows[::2], rows[1::2], strict=True) for part in (score, item)]
        return self._add("new", pairs, lambda _: None)

    def _add(self, which: str, pairs: Sequence[bytes | str], read: Callable[[Any], R]) -> Operation[R]:
        keys = (self._keys.waiting, self._keys.wake, self._keys.waiters)
        return Operation(ADD, keys, (which, *pairs), read, recorded=True)

    def peek(self, position: int) -> Operation[T]:
        def read(reply: list[Any]) -> T:
            if len(reply) == 1:
                raise KeyError(
                    f"nothing at position {position} of the set {self._set.name!r}, which has {reply[0]} to take"
                )
            return self._items.load(reply[1])

        return self._next(position, read)

    def peek_score(self) -> Operation[float | None]:
        return self._next(0, lambda reply: read_score(reply[2] if len(reply) > 1 else None))

    def available(self) -> Operation[int]:
        return self._next(0, lambda reply: int(reply[0]))

    def _next(self, position: int, read: Callable[[list[Any]], R]) -> Operation[R]:
        return Operation(NEXT, (self._keys.waiting,), (str(int(position)), self._set.kind.which), read)

    def count(self, lowest: float | None = None, highest: float | None = None) -> Operation[int]:
        if lowest is None and highest is None:
            return Operation("ZCARD", (self._keys.waiting,), (), int)
        low = "-inf" if lowest is None else written_score(lowest, "min")
        high = "inf" if highest is None else written_score(highest, "max")
        return Operation("ZCOUNT", (self._keys.waiting,), (low, high), int)

    def scores(self, items: Iterable[T]) -> Operation[list[float | None]]:
        stored = [self._items.dump(item) for item in items]
        return Operation("ZMSCORE", (self._keys.waiting,), stored, lambda reply: [read_score(score) for score in reply])

    def score(self, item: T) -> Operation[float | None]:
        return _only(self.scores([item]))

    def contains(self, item: T) -> Operation[bool]:
        return _then(self.score(item), lambda score: score is not None)

    def at(self, position: int) -> Operation[T]:
        def read(reply: list[bytes]) -> T:
            if not reply:
                raise IndexError(f"the set {self._set.name!r} has nothing at position {position}")
            return self._items.load(reply[0])

        return Operation("ZRANGE", (self._keys.waiting,), (str(position), str(position)), read)

    def slice(self, start: int | None, stop: int | None) -> Operation[list[T]]:
        return Operation(
            "ZRANGE",
            (self._keys.waiting,),
            ranks(start, stop),
            lambda reply: [self._items.load(stored) for stored in reply],
        )

    def first_page(self) -> Operation[Page[T]]:
        def read(reply: list[bytes]) -> Page[T]:
            return self._page(reply[2:], end=(reply[0], reply[1])) if reply else Page([], None)

        return Operation(PAGE, (self._keys.waiting,), (str(CHUNK),), read)

    def _page(self, rows: list[bytes], end: Place) -> Page[T]:
        """The items of a page, and the operation that reads the page behind it: up to ``end``, where we stop."""
        items = [self._items.load(stored) for stored in rows[::2]]
        if len(rows) < 2 * CHUNK:
            return Page(items, None)
        seen: Place = (rows[-1], rows[-2])
        behind = Operation(PAGE, (self._keys.waiting,), (str(CHUNK), *seen, *end), lambda reply: self._page(reply, end))
        return Page(items, behind)

    def discard_all(self, items: Iterable[T]) -> Operation[list[bool]]:
        stored = [self._items.dump(item) for item in items]

        def read(reply: bytes) -> list[bool]:
            removed = set(map(int, reply.split()))
            return [position in removed for position in range(len(stored))]

        keys = (self._keys.waiting, self._keys.leased, self._keys.deliveries, self._keys.parked)
        return Operation(DISCARD, keys, stored, read, recorded=True)

    def discard(self, item: T) -> Operation[bool]:
        return _only(self.discard_all([item]))

    def clear(self) -> Operation[bool]:
        names = ("waiting", "leased", "deliveries", "parked", "dead", "letters", "token")
        keys = tuple(getattr(self._keys, name) for name in names)
        return Operation(CLEAR, keys, (), lambda reply: reply != b"0", recorded=True)

    def stats(self) -> Operation[Stats]:
        kind = self._set.kind

        def read(reply: list[Any]) -> Stats:
            waiting, due, leased, expired, delayed, parked, dead = map(int, reply[:7])
            now, oldest = float(reply[7]), read_score(*reply[8:] or [None])
            lag = max(0.0, now - (now if oldest is None else oldest)) if kind.timed else None
            return Stats(waiting, due, leased, expired, delayed, parked, 0, dead, oldest, lag)

        keys = (self._keys.waiting, self._keys.leased, self._keys.parked, self._keys.dead)
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
