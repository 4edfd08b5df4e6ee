"""What each operation of a set sends, and how its reply is read. No I/O here, and no difference between the faces.

An :class:`Operation` is one round trip. What takes several is a :data:`Plan`: a generator that yields operations,
is sent what was read from each reply, and returns the result. :mod:`redset.core.drivers` runs both.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.items import Items, read_score, written_score
from redset.core.keys import Keys
from redset.core.scripts import Script
from redset.reservations import DeadLetter

__all__ = ("CHUNK", "Operation", "Plan", "SetOperations")

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

log = logging.getLogger("redset")

#: How many items one call to the server moves at most: it holds the server for about a millisecond.
CHUNK = 1000

ADD = Script("add")
BURY = Script("bury")
CLEAR = Script("clear")
DISCARD = Script("discard")
HAND_OUT = Script("handout")
LETTERS = Script("letters")
NEXT = Script("next")
PAGE = Script("page")


class Operation(NamedTuple, Generic[R]):
    """One round trip: what to send, and how to read what comes back."""

    #: A script, or the name of a command.
    verb: Script | str
    keys: tuple[bytes, ...]
    args: Sequence[bytes | str]
    read: Callable[[Any], R]


Plan: TypeAlias = Generator[Operation[Any], Any, R]

#: What was handed out: item, score, item, score, ...
Rows: TypeAlias = list[bytes]

#: A score and an item: a place in the order of a set.
Place: TypeAlias = tuple[bytes, bytes]


class SetOperations(Generic[T]):
    """The operations of one set.

    :param which: what can be taken: ``"any"`` item, or only what is ``"due"``, its score being a time.
    """

    __slots__ = ("items", "keys", "name", "scorer", "which")

    def __init__(self, name: str, scorer: Callable[[T], float], serializer: Any, which: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a set must be a str, not {name!r}")
        self.name = name
        self.keys = Keys(name)
        self.items: Items[T] = Items(name, serializer)
        self.scorer = scorer
        self.which = which

    def add(self, item: T, score: float | None) -> Operation[float]:
        written = written_score(self.scorer(item) if score is None else score, item)
        return Operation(ADD, (self.keys.waiting,), (written, self.items.dump(item)), lambda _: float(written))

    def pop(self) -> Plan[T]:
        while rows := (yield self._hand_out(1)):
            if items := (yield from self._loaded(rows)):
                return items[0]
        raise KeyError(f"pop from an empty set: {self.name!r}")

    def take(self, num: int) -> Plan[list[T]]:
        taken: list[T] = []
        wanted = int(num)
        while wanted > 0:
            asked = min(wanted, CHUNK)
            rows = yield self._hand_out(asked)
            taken += yield from self._loaded(rows)
            if len(rows) < 2 * asked:
                break
            wanted -= asked
        return taken

    def peek(self, position: int) -> Operation[T]:
        def read(reply: list[Any]) -> T:
            if len(reply) == 1:
                raise KeyError(f"nothing at position {position} of the set {self.name!r}, which has {reply[0]} to take")
            return self.items.load(reply[1])

        return Operation(NEXT, (self.keys.waiting,), (str(int(position)), self.which), read)

    def peek_score(self) -> Operation[float | None]:
        return Operation(
            NEXT, (self.keys.waiting,), ("0", self.which), lambda reply: read_score(reply[2] if len(reply) > 1 else None)
        )

    def available(self) -> Operation[int]:
        return Operation(NEXT, (self.keys.waiting,), ("0", self.which), lambda reply: int(reply[0]))

    def count(self, lowest: float | None = None, highest: float | None = None) -> Operation[int]:
        if lowest is None and highest is None:
            return Operation("ZCARD", (self.keys.waiting,), (), int)
        low = "-inf" if lowest is None else written_score(lowest, "min")
        high = "inf" if highest is None else written_score(highest, "max")
        return Operation("ZCOUNT", (self.keys.waiting,), (low, high), int)

    def scores(self, items: Iterable[T]) -> Operation[list[float | None]]:
        stored = [self.items.dump(item) for item in items]
        return Operation("ZMSCORE", (self.keys.waiting,), stored, lambda reply: [read_score(score) for score in reply])

    def score(self, item: T) -> Operation[float | None]:
        return _only(self.scores([item]))

    def contains(self, item: T) -> Operation[bool]:
        return _then(self.score(item), lambda score: score is not None)

    def at(self, position: int) -> Operation[T]:
        def read(reply: list[bytes]) -> T:
            if not reply:
                raise IndexError(f"the set {self.name!r} has nothing at position {position}")
            return self.items.load(reply[0])

        return Operation("ZRANGE", (self.keys.waiting,), (str(position), str(position)), read)

    def slice(self, start: int | None, stop: int | None) -> Operation[list[T]]:
        first, last = _ranks(start, stop)
        return Operation(
            "ZRANGE", (self.keys.waiting,), (first, last), lambda reply: [self.items.load(stored) for stored in reply]
        )

    def discard_all(self, items: Iterable[T]) -> Operation[list[bool]]:
        stored = [self.items.dump(item) for item in items]
        return Operation(DISCARD, (self.keys.waiting,), stored, lambda reply: [bool(removed) for removed in reply])

    def discard(self, item: T) -> Operation[bool]:
        return _only(self.discard_all([item]))

    def clear(self) -> Operation[bool]:
        return Operation(CLEAR, (self.keys.waiting, self.keys.dead, self.keys.letters), ("zset", "zset", "hash"), bool)

    def first_page(self) -> "Operation[Page[T]]":
        def read(reply: list[bytes]) -> Page[T]:
            return self._page(reply[2:], end=(reply[0], reply[1])) if reply else Page([], None)

        return Operation(PAGE, (self.keys.waiting,), (str(CHUNK),), read)

    def _page(self, rows: list[bytes], end: Place) -> "Page[T]":
        """The items of a page, and the operation that reads the page behind it: up to ``end``, where we stop."""
        items = [self.items.load(stored) for stored in rows[::2]]
        if len(rows) < 2 * CHUNK:
            return Page(items, None)
        seen: Place = (rows[-1], rows[-2])
        behind = Operation(
            PAGE, (self.keys.waiting,), (str(CHUNK), *seen, *end), lambda reply: self._page(reply, end)
        )
        return Page(items, behind)

    def count_letters(self) -> Operation[int]:
        return Operation("ZCARD", (self.keys.dead,), (), int)

    def letters(self, start: int | None, stop: int | None) -> Operation[list[DeadLetter[T]]]:
        first, last = _ranks(start, stop)
        return Operation(LETTERS, (self.keys.dead, self.keys.letters), (first, last), self._letters)

    def first_letters(self, start: int = 0) -> "Operation[Page[DeadLetter[T]]]":
        def read(reply: list[bytes]) -> Page[DeadLetter[T]]:
            letters = self._letters(reply)
            return Page(letters, self.first_letters(start + CHUNK) if len(letters) == CHUNK else None)

        return Operation(
            LETTERS, (self.keys.dead, self.keys.letters), (str(start), str(start + CHUNK - 1)), read
        )

    def clear_letters(self) -> Operation[bool]:
        return Operation(CLEAR, (self.keys.dead, self.keys.letters), ("zset", "hash"), bool)

    def _hand_out(self, limit: int) -> Operation[Rows]:
        return Operation(HAND_OUT, (self.keys.waiting,), (str(limit), self.which), list)

    def _loaded(self, rows: Rows) -> Plan[list[T]]:
        """The items of what was handed out; those that cannot be loaded go to the dead letters instead."""
        items, broken = self.items.load_all(rows[::2])
        if broken:
            letters = [(rows[2 * i], rows[2 * i + 1], error.reason) for i, error in broken.items()]
            try:
                yield self._bury(letters)
            except Exception:
                # The items that did load are in our hands alone: they must reach the caller whatever happens here.
                log.exception("%s: could not be moved to the dead letters, here they are: %r", self.name, letters)
            else:
                log.error("%s: cannot be loaded, moved to the dead letters: %r", self.name, letters)
        return items

    def _bury(self, letters: Iterable[tuple[bytes, bytes, str]]) -> Operation[int]:
        return Operation(BURY, (self.keys.dead, self.keys.letters), [part for letter in letters for part in letter], int)

    def _letters(self, reply: list[bytes]) -> list[DeadLetter[T]]:
        return [self._letter(*row) for row in zip(*[iter(reply)] * 3, strict=True)]

    def _letter(self, stored: bytes, died_at: bytes, known: bytes) -> DeadLetter[T]:
        attempts, score, reason = known.split(b" ", 2)
        items, _ = self.items.load_all([stored])
        return DeadLetter(
            item=items[0] if items else None,
            raw=stored,
            reason=reason.decode(errors="replace"),
            died_at=float(died_at),
            attempts=int(attempts),
            score=float(score),
        )


class Page(NamedTuple, Generic[T]):
    """A stretch of an iteration, and the operation that reads the next one, if there is more."""

    items: list[T]
    behind: "Operation[Page[T]] | None"


def _only(operation: Operation[list[R]]) -> Operation[R]:
    """The same for a list of one, read as that one."""
    return _then(operation, lambda results: results[0])


def _then(operation: Operation[R], convert: "Callable[[R], S]") -> "Operation[S]":
    read = operation.read
    return Operation(operation.verb, operation.keys, operation.args, lambda reply: convert(read(reply)))


def _ranks(start: int | None, stop: int | None) -> tuple[str, str]:
    """The first and the last rank of ``[start:stop]``, as ZRANGE counts them: the last one is included."""
    if stop == 0:
        return "1", "0"
    return str(start or 0), str(-1 if stop is None else stop - 1)
