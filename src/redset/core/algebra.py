"""Set operators, as plans over a few questions.

The questions are asked for one page or chunk at a time: which of our items are not theirs, which of theirs are not
ours, which are both. :mod:`redset.core.operands` decides who answers. Nothing here is a snapshot: others may change
both sides meanwhile.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

from redset.core.adding import Adding
from redset.core.items import Key
from redset.core.operands import Beside, Foreign, Held, Operand, Row, Side, Stream, kept, operand, paged, streamed
from redset.core.operations import Operation, Plan
from redset.core.removing import Removing
from redset.exceptions import Full

__all__ = ("Algebra", "SortedAlgebra")

T = TypeVar("T")


class Algebra(ABC, Generic[T]):
    """The operators of one set, with iterables and redset sets of the same face as operands."""

    def __init__(self, side: Side, discardable: Sequence[Held]) -> None:
        self._side = side
        self._items = side.items
        #: The keys from which :meth:`_discard` removes.
        self._discardable = discardable

    @abstractmethod
    def _add(self, rows: list[Row]) -> Operation[Any]:
        """Add the items that are not in the set; leave the others unchanged."""

    @abstractmethod
    def _discard(self, identities: list[bytes]) -> Operation[Any]: ...

    def _operand(self, other: Any) -> Operand:
        theirs = getattr(other, "_algebra", None)
        return operand(self._side, other, theirs._side if isinstance(theirs, Algebra) else None)

    def _operands(self, others: Iterable[Any]) -> list[Operand]:
        return [self._operand(other) for other in others]

    # New sets

    def union(self, others: Iterable[Any] = ()) -> Plan[set[T]]:
        operands = self._operands(others)
        return self._collected(self._ours(values=True), *[self._news(theirs) for theirs in operands])

    def intersection(self, others: Iterable[Any]) -> Plan[set[T]]:
        # Operands that the server compares come first: fewer items are left for the others.
        return self._intersection(sorted(self._operands(others), key=lambda theirs: not isinstance(theirs, Beside)))

    def _intersection(self, operands: list[Operand]) -> Plan[set[T]]:
        stream = (yield from self._shared(operands.pop(0), values=True)) if operands else self._ours(values=True)
        for theirs in operands:
            stream = kept(stream, _within(theirs, inside=True))
        return (yield from self._collected(stream))

    def difference(self, others: Iterable[Any]) -> Plan[set[T]]:
        return self._collected(self._ours(self._operands(others), values=True))

    def difference_from(self, other: Any) -> Plan[set[T]]:
        """Return the items of the other side that are not ours."""
        return self._collected(self._theirs(self._operand(other)))

    def symmetric_difference(self, other: Any) -> Plan[set[T]]:
        theirs = self._operand(other)
        return self._symmetric_difference(theirs, self._ours([theirs], values=True))

    def _symmetric_difference(self, theirs: Operand, only_ours: Stream[Row]) -> Plan[set[T]]:
        yield from theirs.keep()
        return (yield from self._collected(only_ours, self._theirs(theirs)))

    def _collected(self, *streams: Stream[Row]) -> Plan[set[T]]:
        """Return the items of the streams in stored form, each identity once."""
        result, met = set[T](), set[bytes]()
        for stream in streams:
            while rows := (yield from stream()):
                result.update(self._loaded(_new(rows, met)))
        return result

    def _loaded(self, rows: list[Row]) -> list[T]:
        values = [row[1] for row in rows] if self._items.keyed else None
        items, broken = self._items.load_all([row[0] for row in rows], values)
        for error in broken.values():
            raise error
        return items

    # Comparisons

    def equals(self, other: Any) -> Plan[bool]:
        return self._is_within(self._operand(other), operator.eq)

    def issubset(self, other: Any) -> Plan[bool]:
        return self._is_within(self._operand(other), operator.le)

    def is_proper_subset(self, other: Any) -> Plan[bool]:
        return self._is_within(self._operand(other), operator.lt)

    def _is_within(self, theirs: Operand, sizes: Callable[[int, int], bool]) -> Plan[bool]:
        """Return whether all our items are theirs, and ``sizes`` holds for our number of items and theirs."""
        missing = self._ours([theirs])
        if not sizes((yield self._side.count()), (yield from theirs.size())):
            return False
        return not (yield from missing())

    def issuperset(self, other: Any) -> Plan[bool]:
        return self._holds(self._operand(other))

    def is_proper_superset(self, other: Any) -> Plan[bool]:
        return self._is_proper_superset(self._operand(other))

    def _is_proper_superset(self, theirs: Operand) -> Plan[bool]:
        if (yield self._side.count()) <= (yield from theirs.size()):
            return False
        return (yield from self._holds(theirs))

    def _holds(self, theirs: Operand) -> Plan[bool]:
        if isinstance(theirs, Beside):
            return not (yield from streamed(theirs.side.paged([self._side.held]))())
        while identities := (yield from theirs.identities()):
            if theirs.has_refused or (yield from self._which(identities)) != set(identities):
                return False
        return not theirs.has_refused

    def isdisjoint(self, other: Any) -> Plan[bool]:
        return self._isdisjoint(self._operand(other))

    def _isdisjoint(self, theirs: Operand) -> Plan[bool]:
        shared = yield from self._shared(theirs)
        return not (yield from shared())

    # In place

    def union_update(self, others: Iterable[Any]) -> Plan[None]:
        """Add the items that are not waiting; waiting ones keep their scores."""
        return self._union_update(self._operands(others))

    def _union_update(self, operands: list[Operand]) -> Plan[None]:
        added = 0
        for theirs in operands:
            stream = self._news(theirs)
            while rows := (yield from stream()):
                added = yield from self._add_behind(rows, added)

    def _add_behind(self, rows: list[Row], added: int) -> Plan[int]:
        """Add rows, after ``added`` others of the same call; return the number of all."""
        try:
            yield self._add(rows)
        except Full as full:
            raise Full(full.name, added + full.added) from None
        return added + len(rows)

    def intersection_update(self, others: Iterable[Any]) -> Plan[None]:
        return self._intersection_update(self._operands(others))

    def _intersection_update(self, operands: list[Operand]) -> Plan[None]:
        for theirs in operands:
            stream = self._ours([theirs])
            while rows := (yield from stream()):
                yield self._discard([row[0] for row in rows])

    def difference_update(self, others: Iterable[Any]) -> Plan[None]:
        return self._difference_update(self._operands(others))

    def _difference_update(self, operands: list[Operand]) -> Plan[None]:
        for theirs in operands:
            identities = self._there_to_discard(theirs) if isinstance(theirs, Beside) else theirs.identities
            while found := (yield from identities()):
                yield self._discard(found)

    def symmetric_difference_update(self, other: Any) -> Plan[None]:
        """Discard those of their items that are waiting, and add the rest, each once."""
        return self._symmetric_difference_update(self._operand(other))

    def _symmetric_difference_update(self, theirs: Operand) -> Plan[None]:
        met, added = set[bytes](), 0
        while rows := (yield from theirs.rows()):
            new = {row[0]: row for row in _new(rows, met)}
            there = yield from self._which(list(new))
            if there:
                yield self._discard([identity for identity in new if identity in there])
            if absent := [row for identity, row in new.items() if identity not in there]:
                added = yield from self._add_behind(absent, added)

    def _there_to_discard(self, theirs: Beside) -> Stream[bytes]:
        """Return their items that can be discarded here."""
        stream = streamed(theirs.side.paged(self._discardable, inside=True))

        def more() -> Plan[list[bytes]]:
            return [row[0] for row in (yield from stream())]

        return more

    # The questions

    def _ours(self, operands: Iterable[Operand] = (), *, values: bool = False) -> Stream[Row]:
        """Return our waiting items that are in none of the operands."""
        operands = list(operands)
        beside = [theirs.side.held for theirs in operands if isinstance(theirs, Beside)]
        stream = streamed(self._side.paged(beside, values=values))
        for theirs in operands:
            if not isinstance(theirs, Beside):
                stream = kept(stream, _within(theirs, inside=False))
        return stream

    def _news(self, theirs: Operand) -> Stream[Row]:
        """Return all of their items, without those waiting here if the server can tell at once."""
        if not isinstance(theirs, Beside):
            return theirs.rows
        return streamed(theirs.side.paged([self._side.held], values=True))

    def _theirs(self, theirs: Operand) -> Stream[Row]:
        """Return their items that are not waiting here."""

        def absent(rows: list[Row]) -> Plan[list[Row]]:
            there = yield from self._which([row[0] for row in rows])
            return [row for row in rows if row[0] not in there]

        return self._news(theirs) if isinstance(theirs, Beside) else kept(theirs.rows, absent)

    def _shared(self, theirs: Operand, *, values: bool = False) -> Plan[Stream[Row]]:
        """Return our waiting items that are theirs."""
        of_keyed = self._side.values if values else None
        if isinstance(theirs, Beside):
            pair = [self._side.held, theirs.side.held]
            if (yield self._side.count()) > (yield from theirs.size()):
                pair.reverse()
            return streamed(paged(pair[0], pair[1:], inside=True, values=of_keyed))
        if not (isinstance(theirs, Foreign) or self._side.hashes):
            return kept(streamed(self._side.paged(values=values)), _within(theirs, inside=True))

        def more() -> Plan[list[Row]]:
            while identities := (yield from theirs.identities()):
                if rows := (yield from self._rows(identities, of_keyed)):
                    return rows
            return []

        return more

    def _rows(self, identities: list[bytes], values: bytes | None) -> Plan[list[Row]]:
        """Return those of ``identities`` that are waiting, with their values if the values' key is given."""
        there: list[bytes] = yield self._side.which(identities)
        if not values or not there:
            return [(identity, None) for identity in there]
        found: list[bytes | None] = yield Operation("HMGET", (values,), there, list)
        return list(zip(there, found, strict=True))

    def _which(self, identities: list[bytes]) -> Plan[set[bytes]]:
        """Return those of ``identities`` that are waiting."""
        return set((yield self._side.which(identities))) if identities else set()


class SortedAlgebra(Algebra[T]):
    """The operators of a set whose items have scores and may be leased."""

    def __init__(self, side: Side, leased: bytes, adding: Adding[T], removing: Removing[T]) -> None:
        super().__init__(side, (side.held, Held(leased)))
        self._adding = adding
        self._removing = removing

    def _add(self, rows: list[Row]) -> Operation[Any]:
        items, identities = self._to_score(rows), [row[0] for row in rows]
        columns: list[Iterable[bytes | str]] = [self._adding.written_scores(items), identities]
        if self._items.keyed:
            columns.append([self._value_to_store(row) for row in rows])
        if groups := self._adding.groups(items, identities):
            columns.append(groups)
        return self._adding.add_absent(list(chain.from_iterable(zip(*columns, strict=True))))

    def _to_score(self, rows: list[Row]) -> list[T]:
        """Return the items as they were given, or else in stored form."""
        return [row[2] for row in rows] if rows[0][2:] else self._loaded(rows)

    def _value_to_store(self, row: Row) -> bytes:
        """Return the value of a row; an identity without one stands for itself."""
        value = self._items.own_value(row[1])
        return self._items.dump(self._items.load(*row[:2])) if value is None else value

    def _discard(self, identities: list[bytes]) -> Operation[Any]:
        return self._removing.discard_all(map(Key, identities))


def _new(rows: list[Row], met: set[bytes]) -> list[Row]:
    """Return the rows whose identity is not in ``met``, the first of each identity, and add them to ``met``."""
    new = {row[0]: row for row in reversed(rows)}
    for identity in new.keys() & met:
        del new[identity]
    met.update(new)
    return list(new.values())[::-1]


def _within(theirs: Operand, *, inside: bool) -> Callable[[list[Row]], Plan[list[Row]]]:
    """Return a filter that keeps the rows that are theirs, or those that are not."""

    def keep(rows: list[Row]) -> Plan[list[Row]]:
        found = yield from theirs.which([row[0] for row in rows])
        return [row for row in rows if (row[0] in found) is inside]

    return keep
