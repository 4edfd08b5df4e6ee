"""Removing from a set, and from its memory: what is sent, and what the replies mean."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from redset.core.definition import Definition
from redset.core.items import Key
from redset.core.operations import Operation, only
from redset.core.scripts import Script

__all__ = ("Removing",)

T = TypeVar("T")

CLEAR = Script("clear")
DISCARD = Script("discard")
FORGET = Script("forget")


class Removing(Generic[T]):
    """Removing from one set."""

    __slots__ = ("_items", "_keys", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items

    def discard_all(self, items: Iterable[T | Key]) -> Operation[list[bool]]:
        stored = [self._items.identity(item) for item in items]

        def read(reply: bytes) -> list[bool]:
            removed = set(map(int, reply.split()))
            return [position in removed for position in range(len(stored))]

        keys: tuple[bytes, ...] = (self._keys.waiting, self._keys.leased, self._keys.deliveries, self._keys.parked)
        if self._set.valued:
            keys += (self._keys.dead, self._keys.values)
        return Operation(DISCARD, keys, stored, read, recorded=True)

    def discard(self, item: T | Key) -> Operation[bool]:
        return only(self.discard_all([item]))

    def clear(self) -> Operation[bool]:
        keys = (self._keys.token, *self._keys.states, self._keys.values, self._keys.done)
        return Operation(CLEAR, keys, (), lambda reply: reply != b"0", recorded=True)

    def forget(self, item: T | Key) -> Operation[bool]:
        keys = (self._keys.waiting, self._keys.done, self._keys.dead, self._keys.letters, self._keys.values)
        args = (str(int(self._set.digest)), self._items.identity(item))
        return Operation(FORGET, keys, args, lambda reply: reply != b"", recorded=True)
