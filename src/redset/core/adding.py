"""Adding to a set: what is sent, and what the replies mean."""

from typing import Generic, TypeVar

from redset.core.definition import Definition
from redset.core.items import written_score
from redset.core.operations import Operation
from redset.core.scripts import Script

__all__ = ("Adding",)

T = TypeVar("T")

ADD = Script("add")


class Adding(Generic[T]):
    """Adding to one set."""

    __slots__ = ("_items", "_keys", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items

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
