"""The other side of an operator, seen from our set: what it holds, told by what our set makes of items.

It is one of three. :class:`Beside`: a redset set that stores items as ours does, where one script can see both, so that
the server compares them. :class:`Alike`: one that stores them as ours does, but somewhere else; it is asked.
:class:`Foreign`: whatever else gives items; what our serializer makes of them says which are the same.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

from redset.core.clients import are_beside
from redset.core.interruptions import is_interruption
from redset.core.items import Items
from redset.core.operations import CHUNK, Elsewhere, Operation, Page, Plan, in_chunks
from redset.core.scripts import script

__all__ = ("Beside", "Foreign", "Held", "Operand", "Row", "Side", "Stream", "kept", "operand", "paged", "streamed")

R = TypeVar("R")

BESIDE = script("beside")

#: Gives a few more at each call, a thousand at most, and none when there are no more.
Stream: TypeAlias = Callable[[], Plan[list[R]]]

#: An item as it is stored: its identity, and its value, or None where it has none or that is not wanted. Behind these
#: the item as it was given, where it was, since a scorer sees it like that.
Row: TypeAlias = tuple[Any, ...]


class Held(NamedTuple):
    """A sorted set of items on a server."""

    key: bytes
    #: Whether its scores say until when each item lives, so that those that live no more do not count.
    expires: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """A redset set beside others: what it has, how it is asked, and who performs its operations where."""

    name: str
    items: Items[Any]
    held: Held
    #: Which of some identities, a thousand at most, it has.
    which: Callable[[Sequence[bytes]], Operation[list[bytes]]]
    #: How many items it has.
    count: Callable[[], Operation[int]]
    #: The first page of its items.
    first_page: Callable[[], Operation[Page[Any]]]
    client: Any
    driver: Any
    #: The key of the values, where an item has one beside its identity.
    values: bytes | None = None
    #: Whether it has hashes of items, so that it can be asked for an item but cannot tell which ones it has.
    hashes: bool = False

    def paged(
        self, others: Sequence[Held] = (), *, inside: bool = False, values: bool = False, limit: int | None = None
    ) -> Operation[Page[Row]]:
        """The first page of its items: of those that are in any of the others, or of those that are in none.

        :param values: whether their values are to be read as well, if they have any.
        :param limit: how many of them a page is made of at most.
        :raises TypeError: it has only hashes of them.
        """
        if self.hashes:
            raise TypeError(cannot_tell_items(self.name))
        return paged(self.held, others, inside=inside, values=self.values if values else None, limit=limit)

    def elsewhere(self, operation: Operation[Any]) -> Elsewhere:
        """The step of a plan of another set that performs an operation of this one."""
        return Elsewhere(lambda: self.driver.perform(operation))


def cannot_tell_items(name: str) -> str:
    """What is wrong with asking a set of hashes which items it has."""
    return (
        f"the set {name!r} keeps only a hash of each item (digest=True), so it can say whether it has an item, but not "
        "which ones it has"
    )


def paged(
    held: Held,
    others: Sequence[Held] = (),
    *,
    inside: bool = False,
    values: bytes | None = None,
    limit: int | None = None,
) -> Operation[Page[Row]]:
    """The first page of a sorted set; see :meth:`Side.paged`.

    :param values: the key of the values of its items, to be read as well.
    """
    keys = (held.key, *(other.key for other in others), *([values] if values else []))
    letters = "".join("l" if one.expires else "s" for one in (held, *others)) + ("v" if values else "")
    # What each of the others is asked takes as long as reading the page does.
    most = limit or max(CHUNK // 10, CHUNK // max(1, len(others)))
    args = (str(most), "inside" if inside else "outside", letters)

    def read(reply: list[Any]) -> Page[Row]:
        found, *places = reply
        values_found = found.pop() if values else [None] * len(found)
        rows: list[Row] = list(zip(found, values_found, strict=True))
        return Page(rows, Operation(BESIDE, keys, (*args, *places), read) if places else None)

    return Operation(BESIDE, keys, args, read)


def streamed(first: Operation[Page[R]], of: Side | None = None) -> Stream[R]:
    """What is on a page and on those behind it, of our set or of another one."""
    behind: Operation[Page[R]] | None = first

    def more() -> Plan[list[R]]:
        nonlocal behind
        while behind:
            page: Page[R] = yield of.elsewhere(behind) if of else behind
            behind = page.behind
            if page.items:
                return page.items
        return []

    return more


def kept(stream: Stream[R], keep: Callable[[list[R]], Plan[list[R]]]) -> Stream[R]:
    """What ``keep`` leaves of a stream."""

    def more() -> Plan[list[R]]:
        while found := (yield from stream()):
            if left := (yield from keep(found)):
                return left
        return []

    return more


class Operand(ABC):
    """What is on the other side. Its streams can be read once."""

    #: Whether it gave items that our set could not hold.
    has_refused = False

    @abstractmethod
    def identities(self) -> Plan[list[bytes]]:
        """A stream of its items by their identities, without those that our set could not hold."""

    @abstractmethod
    def rows(self) -> Plan[list[Row]]:
        """A stream of its items as our set would store them; raises what our serializer raises."""

    @abstractmethod
    def which(self, identities: list[bytes]) -> Plan[Collection[bytes]]:
        """Which of these, a thousand at most, are in it."""

    @abstractmethod
    def size(self) -> Plan[int]:
        """How many items are in it."""

    def keep(self) -> Plan[None]:
        """Has :meth:`rows` go on to work after :meth:`which`."""
        yield from ()


class Alike(Operand):
    """A redset set that stores items as ours does."""

    def __init__(self, side: Side) -> None:
        self.side = side

    @cached_property
    def _rows(self) -> Stream[Row]:
        return streamed(self.side.paged(values=True), self.side)

    @cached_property
    def _bare(self) -> Stream[Row]:
        return streamed(self.side.paged(), self.side)

    def identities(self) -> Plan[list[bytes]]:
        return [row[0] for row in (yield from self._bare())]

    def rows(self) -> Plan[list[Row]]:
        return self._rows()

    def which(self, identities: list[bytes]) -> Plan[Collection[bytes]]:
        return set((yield self.side.elsewhere(self.side.which(identities))))

    def size(self) -> Plan[int]:
        found: int = yield self.side.elsewhere(self.side.count())
        return found


class Beside(Alike):
    """One that our scripts can see."""


class Foreign(Operand):
    """Whatever gives items."""

    def __init__(self, items: Items[Any], source: Stream[Any]) -> None:
        self._items = items
        self._source = source
        #: All that it gave, once that was needed; with rows where they were to be kept.
        self._all: dict[bytes, Row | None] | None = None
        self._again: Iterator[list[Any]] = iter(())

    def identities(self) -> Plan[list[bytes]]:
        if self._all is not None:
            return next(self._again, [])
        while items := (yield from self._source()):
            if found := self._identified(items):
                return found
        return []

    def rows(self) -> Plan[list[Row]]:
        if self._all is not None:
            return next(self._again, [])
        items = yield from self._source()
        stored = self._items.dump_all(items)
        if not self._items.keyed:
            return list(zip(stored, [None] * len(items), items, strict=True))
        return list(zip(self._items.identities(items), stored, items, strict=True))

    def which(self, identities: list[bytes]) -> Plan[Collection[bytes]]:
        return (yield from self._everything()).keys() & identities

    def size(self) -> Plan[int]:
        return len((yield from self._everything())) + self.has_refused

    def keep(self) -> Plan[None]:
        met: dict[bytes, Row | None] = {}
        while rows := (yield from self.rows()):
            for row in rows:
                met.setdefault(row[0], row)
        self._all, self._again = met, in_chunks(met.values())

    def _everything(self) -> Plan[dict[bytes, Row | None]]:
        if self._all is None:
            met: dict[bytes, Row | None] = {}
            while identities := (yield from self.identities()):
                met.update(dict.fromkeys(identities))
            self._all, self._again = met, in_chunks(met)
        return self._all

    def _identified(self, items: list[Any]) -> list[bytes]:
        try:
            return self._items.identities(items)
        except Exception as error:
            if is_interruption(error):
                raise
            found = [self._items.identity_if_any(item) for item in items]
        self.has_refused = self.has_refused or None in found
        return [identity for identity in found if identity is not None]


def operand(ours: Side, other: Any, theirs: Side | None) -> Operand:
    """The other side; ``theirs`` when it is a redset set.

    :raises TypeError: when it gives no items, or gives them to the other face only.
    """
    items = ours.items
    if theirs is None:
        awaited = ours.driver.awaits and isinstance(other, AsyncIterable)
        return Foreign(items, _given_one_by_one(other) if awaited else _given(iter(other)))
    if theirs.driver.awaits is not ours.driver.awaits:
        what = "of redset.aio, so it must be awaited" if theirs.driver.awaits else "synchronous, so it would block"
        raise TypeError(
            f"the set {theirs.name!r} is {what}; the set {ours.name!r} is not: make both with the same face"
        )
    if not items.are_like(theirs.items):
        return Foreign(items, streamed(theirs.first_page(), theirs))
    seen = theirs.client is ours.client and are_beside(ours.client, ours.held.key, theirs.held.key)
    seen = seen and not (ours.hashes or theirs.hashes)
    return Beside(theirs) if seen else Alike(theirs)


def _given(iterator: Iterator[Any]) -> Stream[Any]:
    """The items of an iterable, as a stream. To what it raises, a note is added that says how far it came."""
    parts, handled = in_chunks(iterator), 0

    def more() -> Plan[list[Any]]:
        nonlocal handled
        yield from ()
        try:
            part = next(parts, [])
        except Exception as error:
            error.add_note(_how_far(handled))
            raise
        handled += len(part)
        return part

    return more


def _given_one_by_one(iterable: AsyncIterable[Any]) -> Stream[Any]:
    """The same of an iterable that is awaited."""
    iterator, handled = aiter(iterable), 0

    async def read() -> list[Any]:
        nonlocal handled
        try:
            part = await _next_chunk(iterator)
        except Exception as error:
            error.add_note(_how_far(handled))
            raise
        handled += len(part)
        return part

    def more() -> Plan[list[Any]]:
        part: list[Any] = yield Elsewhere(read)
        return part

    return more


async def _next_chunk(iterator: AsyncIterator[Any]) -> list[Any]:
    part: list[Any] = []
    async for item in iterator:
        part.append(item)
        if len(part) == CHUNK:
            break
    return part


def _how_far(handled: int) -> str:
    return f"{handled} items of it had been handled before"
