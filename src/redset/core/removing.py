"""Removals: what discard, remove, clear and forget send, and how their replies are read."""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from redset.core.definition import Definition
from redset.core.items import Key
from redset.core.operations import CHUNK, Operation, Plan, Shape, only, then
from redset.core.scores import rank, ranks, written_bounds
from redset.core.times import Moment

__all__ = ("Removing",)

T = TypeVar("T")

#: Operations that return positions of items.
DISCARDS = Shape("positions", 1, 1)
FORGETS = Shape("positions", 2, 1)


class Cut(NamedTuple):
    """The reply to a removal: the number of removed items, of items to remove, and the rank of the first."""

    removed: int
    found: int
    first: int


class Removing(Generic[T]):
    """The removals from one set."""

    __slots__ = ("_items", "_remove", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._items = definition.items
        self._remove = definition.script("remove")

    def discard_all(self, items: Iterable[T | Key]) -> Operation[list[bool]]:
        stored = [self._items.identity(item) for item in items]

        def read(reply: bytes) -> list[bool]:
            removed = set(map(int, reply.split()))
            return [position in removed for position in range(len(stored))]

        return Operation(*self._remove, ("items", *stored), read, recorded=True, shape=DISCARDS)

    def discard(self, item: T | Key) -> Operation[bool]:
        return only(self.discard_all([item]))

    def remove(self, item: T | Key) -> Operation[None]:
        def read(removed: list[bool]) -> None:
            if not removed[0]:
                raise KeyError(item)

        return then(self.discard_all([item]), read)

    def remove_at(self, position: int) -> Operation[None]:
        def read(cut: Cut) -> None:
            if not cut.removed:
                raise IndexError(f"the set {self._set.name!r} has no item at position {position}")

        where = rank(position)
        return then(self._cut(1, "ranks", where, where), read)

    def remove_slice(self, start: int | None, stop: int | None) -> Plan[int]:
        return self._remove_range("ranks", *ranks(start, stop))

    def remove_between(
        self, lowest: Moment | None, highest: Moment | None, inclusive: tuple[bool, bool] = (True, True)
    ) -> Plan[int]:
        return self._remove_range("scores", *written_bounds(lowest, highest, inclusive))

    def _remove_range(self, by: str, first: str, last: str) -> Plan[int]:
        """Remove, in chunks, as many items as the range has at the first call."""
        cut: Cut = yield self._cut(CHUNK, by, first, last)
        removed, found, start = cut
        while cut.removed and removed < found:
            if by == "ranks":
                # Removing items has moved the others down.
                first, last = str(start), str(start + found - removed - 1)
            cut = yield self._cut(min(CHUNK, found - removed), by, first, last)
            removed += cut.removed
        return removed

    def _cut(self, limit: int, by: str, first: str, last: str) -> "Operation[Cut]":
        return Operation(
            *self._remove, (str(limit), by, first, last), lambda reply: Cut(*map(int, reply.split())), recorded=True
        )

    def clear(self) -> Operation[bool]:
        return Operation(*self._set.script("clear"), (), lambda reply: reply != b"0", recorded=True)

    def forget(self, item: T | Key) -> Operation[bool]:
        args = ("forget", "0", self._items.identity(item))
        return Operation(*self._set.script("release"), args, lambda reply: reply != b"", recorded=True, shape=FORGETS)
