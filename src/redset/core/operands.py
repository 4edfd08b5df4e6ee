"""The operands of set operators: the other side, as identities of our set.

- :class:`Beside`: a redset set that stores items like ours, in the reach of one script. The server compares the two.
- :class:`Alike`: a redset set that stores items like ours, elsewhere. It is asked about identities.
- :class:`Foreign`: any other iterable. Our serializer returns the identities of its items.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

from redset.core.clients import are_beside
from redset.core.interruptions import is_interruption
from redset.core.items import Items
from redset.core.looking import identity_if_any
from redset.core.operations import CHUNK, Elsewhere, Operation, Plan, in_chunks
from redset.core.paging import Page
from redset.core.scripts import script

__all__ = ("Beside", "Foreign", "Held", "Operand", "Row", "Side", "Stream", "kept", "operand", "paged", "streamed")

R = TypeVar("R")

BESIDE = script("beside")

#: Returns the next elements at each call, at most 1,000; none at the end.
Stream: TypeAlias = Callable[[], Plan[list[R]]]

#: An item as stored: its identity, and its value, or None if that is missing or not needed. The third element, if there
#: is one, is the item itself, for the scorer.
Row: TypeAlias = tuple[Any, ...]


class Held(NamedTuple):
    """A sorted set of items on a server."""

    key: bytes
    #: Whether its scores are times at which items expire, so that expired ones are left out.
    expires: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """A redset set as an operand: its items, its operations, and its client."""

    name: str
    items: Items[Any]
    held: Held
    #: Returns which of at most 1,000 identities it has.
    which: Callable[[Sequence[bytes]], Operation[list[bytes]]]
    #: Returns its number of items.
    count: Callable[[], Operation[int]]
    #: Reads the first page of its items.
    first_page: Callable[[], Operation[Page[Any]]]
    client: Any
    driver: Any
    #: The key of the values, on a keyed set.
    values: bytes | None = None
    #: Whether it stores hashes, so that it can check an item but not return its items.
    hashes: bool = False
    #: Whether one key has all of its items.
    whole: bool = True

    def paged(
        self, others: Sequence[Held] = (), *, inside: bool = False, values: bool = False, limit: int | None = None
    ) -> Operation[Page[Row]]:
        """Return the operation that reads the first page of its items: of those in any of ``others``, or in none.

        :param inside: whether to read the items in any of the others.
        :param values: whether to read their values too, if they have any.
        :param limit: the largest number of items that one page examines.
        :raises TypeError: it stores only hashes.
        """
        if self.hashes:
            raise TypeError(only_hashes(self.name))
        return paged(self.held, others, inside=inside, values=self.values if values else None, limit=limit)

    def elsewhere(self, operation: Operation[Any]) -> Elsewhere:
        """Return the step of another set's plan that performs an operation of this set."""
        return Elsewhere(lambda: self.driver.perform(operation))


def only_hashes(name: str) -> str:
    """Return the message for reading the items of a set that stores hashes."""
    return (
        f"the set {name!r} keeps only a hash of each item (digest=True): it can check whether it has an item, but "
        "cannot return its items"
    )


def paged(
    held: Held,
    others: Sequence[Held] = (),
    *,
    inside: bool = False,
    values: bytes | None = None,
    limit: int | None = None,
) -> Operation[Page[Row]]:
    """Return the operation that reads the first page of a sorted set; see :meth:`Side.paged`.

    :param values: the key of its values, to read them too.
    """
    keys = (held.key, *(other.key for other in others), *([values] if values else []))
    letters = "".join("l" if one.expires else "s" for one in (held, *others)) + ("v" if values else "")
    # A look-up in each of the others takes as long as reading the page.
    most = limit or max(CHUNK // 10, CHUNK // max(1, len(others)))
    args = (str(most), "inside" if inside else "outside", letters)

    def read(reply: list[Any]) -> Page[Row]:
        found, *places = reply
        values_found = found.pop() if values else [None] * len(found)
        rows: list[Row] = list(zip(found, values_found, strict=True))
        return Page(rows, Operation(BESIDE, keys, (*args, *places), read) if places else None)

    return Operation(BESIDE, keys, args, read)


def streamed(first: Operation[Page[R]], of: Side | None = None) -> Stream[R]:
    """Return the stream of a page and the following ones, of our set or of ``of``."""
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
    """Return the stream of the elements that ``keep`` returns."""

    def more() -> Plan[list[R]]:
        while found := (yield from stream()):
            if left := (yield from keep(found)):
                return left
        return []

    return more


class Operand(ABC):
    """The other side of an operator. Its streams can be read once."""

    #: Whether it has items that our set cannot store.
    has_refused = False

    @abstractmethod
    def identities(self) -> Plan[list[bytes]]:
        """Return the next identities, without items that our set cannot store."""

    @abstractmethod
    def rows(self) -> Plan[list[Row]]:
        """Return the next items as our set would store them. Errors of our serializer pass through."""

    @abstractmethod
    def which(self, identities: list[bytes]) -> Plan[Collection[bytes]]:
        """Return which of at most 1,000 identities are in it."""

    @abstractmethod
    def size(self) -> Plan[int]:
        """Return its number of items."""

    def keep(self) -> Plan[None]:
        """Keep the rows in memory, so that :meth:`rows` can be read after :meth:`which`."""
        yield from ()


class Alike(Operand):
    """A redset set that stores items like ours."""

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
    """One in the reach of our scripts."""


class Foreign(Operand):
    """Any other iterable of items."""

    def __init__(self, items: Items[Any], source: Stream[Any]) -> None:
        self._items = items
        self._source = source
        #: All of its identities, once they were needed; with rows after :meth:`keep`.
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
            found = [identity_if_any(self._items, item) for item in items]
        self.has_refused = self.has_refused or None in found
        return [identity for identity in found if identity is not None]


def operand(ours: Side, other: Any, theirs: Side | None) -> Operand:
    """Return the operand for ``other``; ``theirs`` is its side if it is a redset set.

    :raises TypeError: it is not iterable, or only on the other face.
    """
    items = ours.items
    if theirs is None:
        awaited = ours.driver.awaits and isinstance(other, AsyncIterable)
        return Foreign(items, _awaited(other) if awaited else _iterated(iter(other)))
    if theirs.driver.awaits is not ours.driver.awaits:
        what = "of redset.aio, so it must be awaited" if theirs.driver.awaits else "synchronous, so it would block"
        raise TypeError(
            f"the set {theirs.name!r} is {what}; the set {ours.name!r} is not: make both with the same face"
        )
    if not items.are_like(theirs.items):
        return Foreign(items, streamed(theirs.first_page(), theirs))
    seen = theirs.client is ours.client and are_beside(ours.client, ours.held.key, theirs.held.key)
    seen = seen and ours.whole and theirs.whole and not (ours.hashes or theirs.hashes)
    return Beside(theirs) if seen else Alike(theirs)


def _iterated(iterator: Iterator[Any]) -> Stream[Any]:
    """Return the stream of an iterable. Adds a note with the progress to its errors."""
    chunks, handled = in_chunks(iterator), 0

    def more() -> Plan[list[Any]]:
        nonlocal handled
        yield from ()
        try:
            chunk = next(chunks, [])
        except Exception as error:
            error.add_note(_progress(handled))
            raise
        handled += len(chunk)
        return chunk

    return more


def _awaited(iterable: AsyncIterable[Any]) -> Stream[Any]:
    """Like :func:`_iterated` for an asynchronous iterable."""
    iterator, handled = aiter(iterable), 0

    async def read() -> list[Any]:
        nonlocal handled
        try:
            chunk = await _next_chunk(iterator)
        except Exception as error:
            error.add_note(_progress(handled))
            raise
        handled += len(chunk)
        return chunk

    def more() -> Plan[list[Any]]:
        chunk: list[Any] = yield Elsewhere(read)
        return chunk

    return more


async def _next_chunk(iterator: AsyncIterator[Any]) -> list[Any]:
    chunk: list[Any] = []
    async for item in iterator:
        chunk.append(item)
        if len(chunk) == CHUNK:
            break
    return chunk


def _progress(handled: int) -> str:
    return f"{handled} items had been processed before"
