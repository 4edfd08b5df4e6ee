"""Removing from a set, and from its memory: what is sent, and what the replies mean."""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from redset.core.definition import Definition
from redset.core.items import Key, written_bounds
from redset.core.operations import CHUNK, Operation, Plan, Rows, only, positions, rank, ranks, then
from redset.core.times import Moment

__all__ = ("Removing",)

T = TypeVar("T")

#: How these are done together.
DISCARDS = Rows(1, 1, positions)
FORGETS = Rows(2, 1, positions)


class Cut(NamedTuple):
    """How many items were removed, of how many that there were to remove, and the position of the first."""

    removed: int
    found: int
    first: int


class Removing(Generic[T]):
    """Removing from one set."""

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

        return Operation(*self._remove, ("items", *stored), read, recorded=True, shared=DISCARDS)

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
                raise IndexError(f"the set {self._set.name!r} has nothing at position {position}")

        where = rank(position)
        return then(self._cut(1, "ranks", where, where), read)

    def remove_slice(self, start: int | None, stop: int | None) -> Plan[int]:
        return self._remove_slice(*ranks(start, stop))

    def _remove_slice(self, first_rank: str, last_rank: str) -> Plan[int]:
        cut: Cut = yield self._cut(CHUNK, "ranks", first_rank, last_rank)
        removed, found, first = cut
        while cut.removed and removed < found:
            cut = yield self._cut(CHUNK, "ranks", str(first), str(first + found - removed - 1))
            removed += cut.removed
        return removed

    def remove_between(
        self, lowest: Moment | None, highest: Moment | None, inclusive: tuple[bool, bool] = (True, True)
    ) -> Plan[int]:
        return self._remove_between(written_bounds(lowest, highest, inclusive))

    def _remove_between(self, bounds: tuple[str, str]) -> Plan[int]:
        cut: Cut = yield self._cut(CHUNK, "scores", *bounds)
        removed, found, _ = cut
        while cut.removed and removed < found:
            cut = yield self._cut(min(CHUNK, found - removed), "scores", *bounds)
            removed += cut.removed
        return removed

    def _cut(self, limit: int, by: str, first: str, last: str) -> "Operation[Cut]":
        return Operation(*self._remove, (str(limit), by, first, last), _read_cut, recorded=True)

    def clear(self) -> Operation[bool]:
        return Operation(*self._set.script("clear"), (), lambda reply: reply != b"0", recorded=True)

    def forget(self, item: T | Key) -> Operation[bool]:
        args = ("forget", "0", self._items.identity(item))
        return Operation(*self._set.script("release"), args, lambda reply: reply != b"", recorded=True, shared=FORGETS)


def _read_cut(reply: bytes) -> Cut:
    return Cut(*map(int, reply.split()))
