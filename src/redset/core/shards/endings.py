"""The ends of leases in a set over shards: each goes to the shard of its item, also after a reshard."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redset.core.definition import Definition
from redset.core.endings import Answer, End, Endings
from redset.core.operations import Operation, Plan, Unfinished
from redset.core.shards.place import Shard, Shards, as_operation, picked

__all__ = ("ShardsEndings",)

T = TypeVar("T")
R = TypeVar("R")


class ShardsEndings(Endings[T]):
    """The ends of leases of a set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    def ends(self, ends: Sequence[End], unfinished: Unfinished | None = None) -> Operation[Answer]:
        return super().ends(ends, unfinished) if len(ends) == 1 else as_operation(self._ends_of(ends, unfinished))

    def _operation(
        self, ends: Sequence[End], read: Callable[[bytes], R], unfinished: Unfinished | None
    ) -> Operation[R]:
        """Return the step that ends or extends one lease at its shard."""
        calls = _Calls.of(unfinished)

        def at_shard(shard: Shard) -> Operation[R]:
            found: Operation[R] = shard.parts.endings._operation(ends, read, calls.at(shard, [0]))
            return found

        return as_operation(self._shards.at(ends[0].stored, at_shard))

    def _ends_of(self, ends: Sequence[End], unfinished: Unfinished | None) -> Plan[Answer]:
        """End some leases. A repeated request sends the same calls: one for each shard."""
        calls = _Calls.of(unfinished)
        lost: list[int] = []
        now = 0.0

        def at_shard(shard: Shard, positions: list[int]) -> Operation[Answer]:
            found: Operation[Answer] = shard.parts.endings.ends(picked(ends, positions), calls.at(shard, positions))
            return found

        for positions, answer in (yield from self._shards.divided([end.stored for end in ends], at_shard)):
            now = max(now, answer.now)
            lost += picked(positions, answer.lost)
        return Answer(now, sorted(lost))


class _Calls:
    """The calls of one request for ends: one for each shard, kept with the request until all are answered."""

    def __init__(self) -> None:
        self._calls: dict[Any, Unfinished] = {}

    @classmethod
    def of(cls, unfinished: Unfinished | None) -> "_Calls":
        if unfinished is None:
            return cls()
        if not isinstance(unfinished.part, cls):
            unfinished.part = cls()
        found: _Calls = unfinished.part
        return found

    def at(self, shard: Shard, positions: list[int]) -> Unfinished:
        return self._calls.setdefault((shard.name, tuple(positions)), Unfinished())
