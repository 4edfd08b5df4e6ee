"""The items of a set: their identities, and how they are serialized and loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Generic, TypeVar

from redset.core.callables import called, called_each
from redset.core.interruptions import is_interruption
from redset.core.serializing import PLAIN, Serialization, refuse_non_item, refuse_non_items, text_if_it_is
from redset.core.shown import described, shown
from redset.exceptions import DeserializationError

__all__ = ("Items", "Key", "hash_of")

T = TypeVar("T")


@dataclass(frozen=True)
class Key:
    """Stands for an item in look-ups: ``Key("x") in ss``, ``ss.discard(Key("x"))``, ``ss.get(Key("x"))``.

    :param identity: the result of the set's ``key`` for the item. On a set without a ``key``, the item as stored.
    """

    identity: Any

    _not_an_item = "it can be looked up but not added, since it has no value"

    def __repr__(self) -> str:
        return f"Key(identity={shown(self.identity)})"

    def stored(self) -> bytes:
        """Return the identity as stored: bytes as they are, any other object as its str."""
        return _stored_identity(self.identity)


def hash_of(identity: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-1 of an identity, which scripts can compute too."""
    return sha1(identity, usedforsecurity=False).digest()[:16]


def _stored_identity(identity: Any) -> bytes:
    stored = PLAIN.dumps(identity)
    return stored.encode() if isinstance(stored, str) else stored


class Items(Generic[T]):
    """Turns the items of one set into stored bytes, and back.

    By default an item's identity is its serialized bytes. With a ``key`` it is the result of that, and the bytes are
    its value. An identity without a value, added by another program, is loaded as the identity itself.
    """

    __slots__ = ("_key", "_name", "_serialization", "dump", "dump_all", "keyed", "load_lines")

    def __init__(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> None:
        self._name = name
        self._serialization = serialization = Serialization[T](serializer)
        #: Return the serialized bytes of an item, or of each of many.
        self.dump = serialization.dump
        self.dump_all = serialization.dump_all
        #: Return the items that are the lines of a text; None if they are not loaded as plain text.
        self.load_lines = serialization.load_lines
        self._key = key
        self.keyed = key is not None

    def identity(self, item: T | Key) -> bytes:
        """Return the identity of ``item``. Errors of the serializer or the key pass through."""
        if isinstance(item, Key):
            return item.stored()
        if self._key is None:
            return self.dump(item)
        refuse_non_item(item)
        return _stored_identity(called(self._key, item, "the key"))

    def are_like(self, others: "Items[Any]") -> bool:
        """Return whether ``others`` stores items in the same way, so that they can be compared and loaded here."""
        ours, theirs = ((type(items), items._serialization.functions, items._key) for items in (self, others))
        try:
            return bool(ours == theirs)
        except Exception as error:
            if is_interruption(error):
                raise
            return False

    def identities(self, items: Sequence[T | Key]) -> list[bytes]:
        """Return the identity of each item."""
        if Key in set(map(type, items)):
            return [self.identity(item) for item in items]
        if self._key is None:
            return self.dump_all(items)  # type: ignore[arg-type] # there is no Key among them
        refuse_non_items(items)
        made = called_each(self._key, items, "the key")  # type: ignore[arg-type] # nor here
        if set(map(type, made)) == {str}:
            return list(map(str.encode, made))
        return [_stored_identity(identity) for identity in made]

    def values_behind(self, rows: list[Any]) -> list[bytes | None] | None:
        """Remove and return the list of values at the end of ``rows``; None on sets that are not keyed."""
        return rows.pop() if self.keyed else None

    def own_value(self, value: bytes | None) -> bytes | None:
        """Return the serialized item in an entry of the values."""
        return value

    def load(self, stored: bytes, value: bytes | None = None) -> T:
        """Return the item with these stored bytes; on a keyed set the one with this value, else the identity.

        :raises DeserializationError: the serializer cannot load it; the error carries the bytes.
        """
        return self.load_own(stored, self.own_value(value))

    def load_own(self, stored: bytes, own_value: bytes | None) -> T:
        """Like :meth:`load`, from the result of :meth:`own_value`."""
        try:
            return self._load_valued(stored, own_value) if self.keyed else self._serialization.load(stored)
        except Exception as error:
            if is_interruption(error):
                raise
            raw = stored if own_value is None else own_value
            raise DeserializationError(self._name, raw, described(error)) from error

    def own_values(self, values: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """Like :meth:`own_value`, for many."""
        return values

    def load_all(
        self, stored: Sequence[bytes], values: Sequence[bytes | None] | None
    ) -> tuple[list[T], dict[int, DeserializationError]]:
        """Return the items that can be loaded, in order, and for each other position its error.

        :param values: on a keyed set the result of :meth:`values_behind`.
        """
        try:
            if values is None:
                return self._serialization.load_each(stored), {}
            own_values = self.own_values(values)
            if None in own_values:
                return [self._load_valued(*row) for row in zip(stored, own_values, strict=True)], {}
            return self._serialization.load_each(own_values), {}  # type: ignore[arg-type] # each of them is bytes
        except Exception as error:
            if is_interruption(error):
                raise
            return self._load_one_by_one(stored, values or [None] * len(stored))

    def _load_one_by_one(
        self, stored: Sequence[bytes], values: Sequence[bytes | None]
    ) -> tuple[list[T], dict[int, DeserializationError]]:
        items, broken = [], {}
        for position, (one, value) in enumerate(zip(stored, values, strict=True)):
            try:
                items.append(self.load(one, value))
            except DeserializationError as error:
                broken[position] = error
        return items, broken

    def _load_valued(self, stored: bytes, own_value: bytes | None) -> T:
        if own_value is not None:
            return self._serialization.load(own_value)
        identity: T = text_if_it_is(stored)
        return identity
