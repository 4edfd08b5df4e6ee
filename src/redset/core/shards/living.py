"""The operations of an expiring set over shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeVar

from redset.core.expiring import Expiring
from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.operands import Side
from redset.core.operations import Operation, Plan
from redset.core.paging import Page, Span
from redset.core.shards.merging import Source, merged
from redset.core.shards.parts import by_item, from_each
from redset.core.shards.place import Shard, Shards, as_operation, picked
from redset.core.times import Duration

__all__ = ("LivingParts", "ShardsExpiring")

T = TypeVar("T")


@dataclass(frozen=True)
class LivingParts:
    """The operations of a shard of an expiring set."""

    keys: Keys
    expiring: Expiring[Any]
    side: Side


class ShardsExpiring(Expiring[T]):
    """The operations of an expiring set over shards."""

    __slots__ = ("_shards",)

    def __init__(self, name: str, items: Items[T], ttl: Duration, shards: Shards, *, digest: bool) -> None:
        super().__init__(name, Keys(name), items, ttl, digest=digest)
        self._shards = shards

    add = by_item("expiring", "add")
    touch = by_item("expiring", "touch")
    contains = by_item("expiring", "contains")
    ttl = by_item("expiring", "ttl")
    discard = by_item("expiring", "discard")
    remove = by_item("expiring", "remove")
    count = from_each("expiring", "count", sum)
    clear = from_each("expiring", "clear", any)

    def _live(self, verb: str, identities: Sequence[bytes], ttl: Duration | None) -> Operation[list[bool]]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.expiring._live(verb, picked(identities, positions), ttl)

        return as_operation(self._shards.aligned(identities, at_shard))

    def add_all(self, items: Sequence[T], ttl: Duration | None = None) -> Operation[list[T]]:
        identities = self._items.dump_all(items)

        def add() -> Plan[list[T]]:
            new: list[bool] = yield self._live("add", identities, ttl)
            return list(compress(items, new))

        return as_operation(add())

    def _are_living(self, identities: Sequence[bytes]) -> Operation[list[bool]]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.expiring._are_living(picked(identities, positions))

        return as_operation(self._shards.aligned(identities, at_shard))

    def which(self, identities: Sequence[bytes]) -> Operation[list[bytes]]:
        def which() -> Plan[list[bytes]]:
            living: list[bool] = yield self._are_living(identities)
            return list(compress(identities, living))

        return as_operation(which())

    def discard_all(self, identities: Sequence[bytes]) -> Operation[list[bool]]:
        def at_shard(shard: Shard, positions: list[int]) -> Any:
            return shard.parts.expiring.discard_all(picked(identities, positions))

        return as_operation(self._shards.aligned(identities, at_shard))

    def first_page(self) -> Operation[Page[T]]:
        self._refuse_if_hashes()
        return self._read(Span(living=True), lambda row: row.item)

    def _read(self, span: Span, show: Any) -> Operation[Page[Any]]:
        def first() -> Plan[Page[Any]]:
            shards = self._shards.all
            sources = [Source(shard.at(shard.parts.expiring._paging.placed(span)), shard) for shard in shards]
            return (yield from merged(sources, show, span.limit, reverse=False))

        return as_operation(self._shards.settled(first))

    def pop(self) -> Plan[T]:
        """Remove and return the item that expires first, as of one look at each shard."""
        self._refuse_if_hashes()
        while True:
            firsts: list[tuple[float, int, Shard]] = []
            for shard in (yield from self._shards.ready()):
                page = yield shard.at(shard.parts.expiring._paging.placed(Span(living=True, limit=1)))
                firsts += [(row.score, shard.number, shard) for row in page.items]
            if not firsts:
                raise KeyError(f"pop from an empty set: {self._name!r}")
            shard = min(firsts)[2]
            try:
                item: T = yield shard.at(shard.parts.expiring.pop())
            except KeyError:
                # Another client was faster, or it has expired.
                continue
            return item
