"""Serialization: the default serializer, and the use of a set's own."""

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Generic, TypeVar

from redset.core.callables import called, called_each
from redset.core.interruptions import is_interruption
from redset.core.shown import shown

__all__ = ("PLAIN", "Serialization", "checked_serializer", "refuse_non_item", "refuse_non_items", "text_if_it_is")

T = TypeVar("T")

#: The address in memory, as in the default repr of an object, a function or a generator.
ADDRESS = re.compile(" at 0x[0-9a-fA-F]+>")


class PlainSerializer:
    """Stores bytes as they are and any other object as its str; loads a str, or bytes if they are not UTF-8.

    A member of an Enum that is a str or a number is stored as that str or number, which it is equal to.
    """

    def dumps(self, item: Any) -> str | bytes:
        """Return the bytes or str to store.

        :raises TypeError: the str of ``item`` does not identify it: it is None, or its str has its address.
        """
        if type(item) in (str, int, float):
            return str(item)
        if isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        if isinstance(item, Enum):
            if isinstance(item, str):
                return str.__str__(item)
            if isinstance(item, int | float):
                return (int if isinstance(item, int) else float).__repr__(item)
        if item is None:
            raise TypeError("None is no identity: neither an item nor the result of a key may be None")
        text = str(item)
        if not isinstance(item, str) and ADDRESS.search(text):
            raise TypeError(
                f"{text} has no identity: its str is its address in memory. "
                "Give its class a __str__, or the set a serializer or a key that returns a str"
            )
        return text

    def loads(self, stored: str | bytes) -> Any:
        try:
            return stored.decode()  # type: ignore[union-attr]
        except (UnicodeDecodeError, AttributeError):
            return stored


#: The default serializer of a set.
PLAIN = PlainSerializer()


def text_if_it_is(stored: bytes) -> Any:
    """Return the str of UTF-8 bytes, and other bytes as they are."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def checked_serializer(serializer: Any) -> Any:
    """Return ``serializer``. Warns if it has neither method: as in redset 0.5, it is then ignored."""
    if getattr(serializer, "dumps", None) is None and getattr(serializer, "loads", None) is None:
        warnings.warn(
            f"the serializer {shown(serializer)} has neither dumps nor loads, so items are stored as their str",
            stacklevel=_outside(),
        )
    return serializer


def _outside() -> int:
    """Return the number of calls up to the first one from outside redset."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "redset":
        level, frame = level + 1, frame.f_back
    return level


class Serialization(Generic[T]):
    """Serializes the items of one set, and loads them.

    A method that a serializer lacks, ``dumps`` or ``loads``, is that of :data:`PLAIN`. ``loads`` gets what ``dumps``
    returns: str or bytes. Until a result of ``dumps`` was seen, as in a process that only claims, or if it returns
    both, ``loads`` gets a str if possible, as in redset 0.5, and the bytes if it raises for the str. An item that it
    refuses in both forms cannot be loaded.
    """

    __slots__ = ("_dumps", "_dumps_plainly", "_loads", "_loads_plainly", "_made_bytes", "_made_text")

    def __init__(self, serializer: Any) -> None:
        dumps, loads = getattr(serializer, "dumps", None), getattr(serializer, "loads", None)
        #: Whether a str is stored as it is; whether stored text is loaded as it is.
        self._dumps_plainly = dumps is None or serializer is PLAIN
        self._loads_plainly = loads is None or serializer is PLAIN
        self._dumps: Callable[[T], str | bytes] = PLAIN.dumps if dumps is None else dumps
        self._loads: Callable[[str | bytes], T] = PLAIN.loads if loads is None else loads
        #: The types that ``dumps`` has returned.
        self._made_text = False
        self._made_bytes = False

    @property
    def functions(self) -> tuple[Any, Any]:
        """The functions that serialize and load: equal ones store items in the same way."""
        return self._dumps, self._loads

    def dump_all(self, items: Sequence[T]) -> list[bytes]:
        """Return the serialized bytes of each item, several times as fast as :meth:`dump`."""
        if self._dumps_plainly and set(map(type, items)) == {str}:
            return list(map(str.encode, items))  # type: ignore[arg-type] # each of them is a str
        refuse_non_items(items)
        stored = called_each(self._dumps, items, "the dumps of the serializer")
        types = set(map(type, stored))
        if types == {bytes}:
            self._made_bytes = True
            return stored  # type: ignore[return-value] # each of them is bytes
        if types == {str}:
            self._made_text = True
            return list(map(str.encode, stored))  # type: ignore[arg-type] # each of them is a str
        return [self._as_bytes(one, item) for one, item in zip(stored, items, strict=True)]

    def dump(self, item: T) -> bytes:
        """Return the serialized bytes of ``item``. Errors of the serializer pass through."""
        if type(item) is str and self._dumps_plainly:
            return str.encode(item)  # type: ignore[arg-type] # it is a str
        refuse_non_item(item)
        return self._as_bytes(called(self._dumps, item, "the dumps of the serializer"), item)

    def _as_bytes(self, stored: str | bytes, item: T) -> bytes:
        if isinstance(stored, str):
            self._made_text = True
            return stored.encode()
        if isinstance(stored, bytes):
            self._made_bytes = True
            return stored
        raise TypeError(
            f"the serializer made {shown(stored)} of the item {shown(item)}; its dumps must return str or bytes"
        )

    def load_each(self, stored: Sequence[bytes]) -> list[T]:
        """Like :meth:`load` for many, several times as fast."""
        if self._loads_plainly:
            try:
                return list(map(bytes.decode, stored))  # type: ignore[arg-type] # a str is what comes back
            except UnicodeDecodeError:
                return list(map(self._loads, stored))
        load = self._loads if self._makes_only_bytes else self.load
        # Not `map`, which a StopIteration raised by `loads` would end.
        return [load(one) for one in stored]

    def load_lines(self, lines: bytes) -> list[T] | None:
        """Return the items that are the lines of a text; None if they are not loaded as plain text."""
        if self._loads_plainly:
            with suppress(UnicodeDecodeError):
                return lines.decode().split("\n")  # type: ignore[return-value] # the result of PLAIN for text
        return None

    @property
    def _makes_only_bytes(self) -> bool:
        return self._made_bytes and not self._made_text

    def load(self, stored: bytes) -> T:
        """Return the item with these bytes. Errors of the serializer pass through."""
        if self._makes_only_bytes:
            return self._loads(stored)
        text = text_if_it_is(stored)
        try:
            return self._loads(text)
        except Exception as error:
            only_text = self._made_text and not self._made_bytes
            if text is stored or only_text or is_interruption(error):
                raise
            refusal = error
        try:
            item = self._loads(stored)
        except Exception as error:
            # A TypeError means only that ``loads`` takes no str.
            if isinstance(refusal, TypeError) or is_interruption(error):
                raise
        else:
            # The same object was not loaded: `loads` raises for some str and returns other objects as they are.
            if item is not stored or isinstance(refusal, TypeError):
                return item
        raise refusal


def refuse_non_item(item: Any) -> None:
    """Raise for an object of redset that is no item, such as a reservation.

    :raises TypeError: it is one.
    """
    reason = getattr(type(item), "_not_an_item", None)
    if isinstance(reason, str):
        raise TypeError(f"{shown(item)} is no item: {reason}")


def refuse_non_items(items: Sequence[Any]) -> None:
    if any(hasattr(kind, "_not_an_item") for kind in set(map(type, items))):
        for item in items:
            refuse_non_item(item)
