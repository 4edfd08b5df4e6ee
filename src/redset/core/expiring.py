"""Expiring sets, whose items expire one by one: what their calls send, and how the replies are read."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import compress
from typing import Any, Generic, TypeVar

from redset.core.algebra import Algebra
from redset.core.clients import is_failure
from redset.core.items import Items, Key, hash_of
from redset.core.keys import Keys
from redset.core.looking import identity_if_any, which_of
from redset.core.operands import Held, Row, Side, only_hashes, paged
from redset.core.operations import Operation, Plan, Shape, Unfinished, in_chunks, only, then
from redset.core.paging import Page, Paging, Span
from redset.core.parameters import T
from redset.core.scores import read_score
from redset.core.scripts import prepared
from redset.core.times import Duration, seconds

__all__ = ("Expiring", "LivingAlgebra", "Newcomers")

R = TypeVar("R")

#: Operations with one answer per item. A verb precedes the items, and for additions a lifetime too.
EACH = Shape("each", 1, 1)
LIVE_EACH = Shape("each", 2, 1)

#: Turns the digits of a reply into bytes that are false or true.
TRUTHS = bytes.maketrans(b"01", b"\0\1")


class Expiring(Generic[T]):
    """The operations of one expiring set. Those of several items take 1,000 at most."""

    __slots__ = ("_change", "_items", "_look", "_name", "_paging", "_ttl", "hashes", "held")

    def __init__(self, name: str, keys: Keys, items: Items[T], ttl: Duration, *, digest: bool) -> None:
        self._name = name
        self._items = items
        features = frozenset({"expiring", "digest"} if digest else {"expiring"})
        self._change = prepared("expire", keys, features)
        self._look = prepared("living", keys)
        self._paging: Paging[T] = Paging(keys, items)
        self._ttl = _written_ttl(ttl)
        self.held = Held(keys.living, expires=True)
        #: Whether only a hash is kept of each item.
        self.hashes = digest

    # Adding

    def add(self, item: T, ttl: Duration | None = None) -> Operation[bool]:
        return only(self._live("add", [self._items.dump(item)], ttl))

    def add_all(self, items: Sequence[T], ttl: Duration | None = None) -> Operation[list[T]]:
        """Add items, and return those that were new; of equal items the first."""
        return then(self._live("add", self._items.dump_all(items), ttl), lambda marks: list(compress(items, marks)))

    def add_identities(self, identities: Sequence[bytes]) -> Operation[Any]:
        return self._live("add", identities, None)

    def touch(self, item: T | Key, ttl: Duration | None = None) -> Operation[bool]:
        return only(self._live("touch", [self._items.identity(item)], ttl))

    def _live(self, verb: str, identities: Sequence[bytes], ttl: Duration | None) -> Operation[list[bool]]:
        """Set the lifetime of absent items (``add``) or present ones (``touch``), and return which these are."""
        lifetime = self._ttl if ttl is None else _written_ttl(ttl)
        args: list[bytes | str] = [verb, lifetime, *self._kept(identities)]
        return Operation(*self._change, args, _read_marks, recorded=True, shape=LIVE_EACH)

    def _kept(self, identities: Sequence[bytes]) -> Sequence[bytes]:
        """Return the members that stand for identities on the server."""
        return list(map(hash_of, identities)) if self.hashes else identities

    # Looking

    def contains(self, item: T | Key) -> Operation[bool]:
        stored = identity_if_any(self._items, item)
        if stored is None:
            # One round trip, like any other call, so that callers need no second case.
            return Operation("EXISTS", (self.held.key,), (), lambda reply: False)
        return only(self._are_living([stored]))

    def contains_many(self, items: Iterable[T | Key]) -> Plan[list[bool]]:
        return which_of(items, self._items, self._are_living)

    def which(self, identities: Sequence[bytes]) -> Operation[list[bytes]]:
        return then(self._are_living(identities), lambda marks: list(compress(identities, marks)))

    def _are_living(self, identities: Sequence[bytes]) -> Operation[list[bool]]:
        return Operation(*self._look, ("which", *self._kept(identities)), _read_marks, shape=EACH)

    def count(self) -> Operation[int]:
        return Operation(*self._look, ("count",), int)

    def ttl(self, item: T | Key) -> Operation[float | None]:
        kept = self._kept([self._items.identity(item)])
        return Operation(*self._look, ("ttl", *kept), lambda reply: read_score(reply[0]), shape=EACH)

    def first_page(self) -> Operation[Page[T]]:
        self._refuse_if_hashes()
        return self._paging.items(Span(living=True))

    def _refuse_if_hashes(self) -> None:
        if self.hashes:
            raise TypeError(only_hashes(self._name))

    # Removing

    def discard_all(self, identities: Sequence[bytes]) -> Operation[list[bool]]:
        return Operation(*self._change, ("discard", *self._kept(identities)), _read_marks, recorded=True, shape=EACH)

    def discard(self, item: T | Key) -> Operation[bool]:
        return only(self.discard_all([self._items.identity(item)]))

    def remove(self, item: T | Key) -> Operation[None]:
        def read(lived: list[bool]) -> None:
            if not lived[0]:
                raise KeyError(item)

        return then(self.discard_all([self._items.identity(item)]), read)

    def pop(self) -> Plan[T]:
        """Remove and return the item that expires first. Tries again if another client removed it."""
        self._refuse_if_hashes()
        first: Page[Row]
        while (first := (yield paged(self.held, limit=1))).items:
            stored = first.items[0][0]
            item = self._items.load(stored)
            discard = replace(self.discard_all([stored]), unfinished=Unfinished())
            try:
                if all((yield discard)):
                    return item
            except BaseException as error:
                if not isinstance(error, GeneratorExit) and not is_failure(error):
                    # The caller does not receive the item, so add it again, with a full lifetime.
                    with suppress(Exception):
                        if all((yield discard)):
                            yield self._live("add", [stored], None)
                raise
        raise KeyError(f"pop from an empty set: {self._name!r}")

    def clear(self) -> Operation[bool]:
        return Operation(*self._change, ("clear",), lambda reply: reply != b"0", recorded=True)


class Newcomers(Generic[T]):
    """An addition of many items to an expiring set, and its progress."""

    __slots__ = ("_expiring", "_name", "_ttl", "new", "sent")

    def __init__(self, name: str, expiring: Expiring[T], ttl: Duration | None) -> None:
        if ttl is not None:
            _written_ttl(ttl)
        self._name = name
        self._expiring = expiring
        self._ttl = ttl
        #: The number of added items, and those of them that were new.
        self.sent = 0
        self.new: list[T] = []

    def add(self, items: Iterable[T]) -> Plan[None]:
        """Add items, of which only one chunk and the new ones are in memory."""
        with self.noting_errors():
            for chunk in in_chunks(items):
                self.new += yield self._expiring.add_all(chunk, self._ttl)
                self.sent += len(chunk)

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Attach the new items to an error that passes through: no other caller will find them new."""
        try:
            yield
        except BaseException as error:
            # The class of the error may refuse new attributes.
            BaseException.__setattr__(error, "new_items", self.new)
            error.add_note(
                f"{self.sent} items had been added to the set {self._name!r} before; the {len(self.new)} new ones are "
                "the new_items of this error"
            )
            raise


class LivingAlgebra(Algebra[T]):
    """The operators of an expiring set."""

    def __init__(self, side: Side, expiring: Expiring[T]) -> None:
        super().__init__(side, (side.held,))
        self._expiring = expiring

    def _add(self, rows: list[Row]) -> Operation[Any]:
        return self._expiring.add_identities([row[0] for row in rows])

    def _discard(self, identities: list[bytes]) -> Operation[Any]:
        return self._expiring.discard_all(identities)


def _written_ttl(ttl: Duration) -> str:
    return repr(seconds(ttl, "ttl", positive=True))


def _read_marks(reply: bytes) -> list[bool]:
    return list(map(bool, reply.translate(TRUTHS)))
