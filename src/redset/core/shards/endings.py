"""The ends of leases in a set over shards: each goes to the shard of its item, also after a reshard."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from redset.core.definition import Definition
from redset.core.endings import Answer, End, Endings
from redset.core.leases import BaseReservation
from redset.core.operations import Operation, Plan, Unfinished
from redset.core.shards.place import Shard, Shards, as_operation, picked
from redset.core.shown import shown
from redset.exceptions import WrongTypeError

__all__ = ("ShardsEndings",)

T = TypeVar("T")
Res = TypeVar("Res", bound=BaseReservation[Any])


class ShardsEndings(Endings[T]):
    """The ends of leases of a set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, definition: Definition[T], shards: Shards) -> None:
        super().__init__(definition)
        self._shards = shards

    def ack_one(self, one: Res) -> Operation[Sequence[Res]]:
        return as_operation(self.ack([one]))

    def _end(self, reservations: Iterable[Res], how: Callable[[Res], End]) -> Plan[list[Res]]:
        mine = list(reservations)
        for one in mine:
            if not isinstance(one, BaseReservation):
                raise TypeError(f"{shown(one)} is not a reservation")
            if one.set_name != self.definition.name:
                raise ValueError(f"{one!r} is of the set {one.set_name!r}, not of {self.definition.name!r}")

        def at_shard(shard: Shard, positions: list[int]) -> Plan[list[Res]]:
            some = picked(mine, positions)
            try:
                ended: list[Res] = yield from shard.parts.endings._end(some, how)
            except WrongTypeError:
                # The call of an end is sent again under its number. In another shard it is a new one.
                for one in some:
                    one._drop_batch(one._batch)
                raise
            return ended

        lost: set[int] = set()
        for _, found in (yield from self._shards.divided([one._stored for one in mine], at_shard)):
            lost.update(map(id, found))
        return [one for one in mine if id(one) in lost]

    def ends(self, ends: Sequence[End], unfinished: Unfinished | None = None) -> Operation[Answer]:
        return as_operation(self._ends_of(ends, unfinished))

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
