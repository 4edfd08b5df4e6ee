"""Items and scores: how they are written for the server, and read back."""

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from numbers import Real
from typing import Any, Generic, TypeVar

from redset.core.interruptions import is_interruption
from redset.core.shown import described, shown
from redset.core.times import Moment, timestamp
from redset.exceptions import DeserializationError

__all__ = (
    "PLAIN",
    "Items",
    "Key",
    "called",
    "called_each",
    "called_plainly",
    "checked_serializer",
    "read_score",
    "written_bounds",
    "written_reason",
    "written_score",
    "written_scores",
)

T = TypeVar("T")
R = TypeVar("R")

#: The address in memory, as in the default repr of an object, a function or a generator.
ADDRESS = re.compile(" at 0x[0-9a-fA-F]+>")


class _PlainSerializer:
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


#: The serializer of a set that was given none.
PLAIN = _PlainSerializer()


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


def _stored_identity(identity: Any) -> bytes:
    stored = PLAIN.dumps(identity)
    return stored.encode() if isinstance(stored, str) else stored


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


def called(call: Callable[[T], R], item: T, what: str) -> R:
    """Return the result of a user's callable.

    :raises RuntimeError: it raised StopIteration, which would silently end a generator or an iteration.
    """
    try:
        return call(item)
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration for {shown(item)}") from error


def called_plainly(call: Callable[[], R], what: str) -> R:
    """Like :func:`called`, without an argument."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration") from error


def called_each(call: Callable[[T], R], items: Iterable[T], what: str) -> list[R]:
    """Like :func:`called`, for many items. ``list(map(call, items))`` would end at a StopIteration."""
    try:
        return [call(item) for item in items]
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration") from error


class Items(Generic[T]):
    """Turns the items of one set into stored bytes, and back.

    A method that a serializer lacks, ``dumps`` or ``loads``, is that of :data:`PLAIN`. ``loads`` gets what ``dumps``
    returns: str or bytes. Until a result of ``dumps`` was seen, as in a process that only claims, or if it returns
    both, ``loads`` gets a str if possible, as in redset 0.5, and the bytes if it raises for the str. An item that it
    refuses in both forms cannot be loaded.

    By default an item's identity is its serialized bytes. With a ``key`` it is the result of that, and the bytes are
    its value. An identity without a value, added by another program, is loaded as the identity itself.
    """

    __slots__ = (
        "_dumps",
        "_dumps_plainly",
        "_key",
        "_loads",
        "_loads_plainly",
        "_made_bytes",
        "_made_text",
        "_name",
        "keyed",
    )

    def __init__(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> None:
        self._name = name
        dumps, loads = getattr(serializer, "dumps", None), getattr(serializer, "loads", None)
        #: Whether a str is stored as it is; whether stored text is loaded as it is.
        self._dumps_plainly = dumps is None or serializer is PLAIN
        self._loads_plainly = loads is None or serializer is PLAIN
        self._dumps: Callable[[T], str | bytes] = PLAIN.dumps if dumps is None else dumps
        self._loads: Callable[[str | bytes], T] = PLAIN.loads if loads is None else loads
        #: The types that ``dumps`` has returned.
        self._made_text = False
        self._made_bytes = False
        self._key = key
        self.keyed = key is not None

    def identity(self, item: T | Key) -> bytes:
        """Return the identity of ``item``. Errors of the serializer or the key pass through."""
        if isinstance(item, Key):
            return item.stored()
        if self._key is None:
            return self.dump(item)
        _refuse_what_is_no_item(item)
        return _stored_identity(called(self._key, item, "the key"))

    def are_like(self, others: "Items[Any]") -> bool:
        """Return whether ``others`` stores items in the same way, so that they can be compared and loaded here."""
        ours, theirs = ((type(items), items._dumps, items._loads, items._key) for items in (self, others))
        try:
            return bool(ours == theirs)
        except Exception as error:
            if is_interruption(error):
                raise
            return False

    def identity_if_any(self, item: T | Key) -> bytes | None:
        """Return the identity, or None if the serializer or the key refuses the item: then it cannot be in the set."""
        try:
            return self.identity(item)
        except Exception as error:
            if is_interruption(error):
                raise
            return None

    def identities_if_any(self, items: Sequence[T | Key]) -> Sequence[bytes | None]:
        try:
            return self.identities(items)
        except Exception as error:
            if is_interruption(error):
                raise
            return [self.identity_if_any(item) for item in items]

    def identities(self, items: Sequence[T | Key]) -> list[bytes]:
        """Return the identity of each item."""
        types = set(map(type, items))
        if Key in types:
            return [self.identity(item) for item in items]
        if self._key is None:
            return self._dump_all(items, types)  # type: ignore[arg-type] # there is no Key among them
        _refuse_kinds_that_are_no_items(types, items)
        made = called_each(self._key, items, "the key")  # type: ignore[arg-type] # nor here
        if set(map(type, made)) == {str}:
            return list(map(str.encode, made))
        return [_stored_identity(identity) for identity in made]

    def dump_all(self, items: Sequence[T]) -> list[bytes]:
        """Return the serialized bytes of each item, several times as fast as :meth:`dump`."""
        return self._dump_all(items, set(map(type, items)))

    def _dump_all(self, items: Sequence[T], types: set[type]) -> list[bytes]:
        if types == {str} and self._dumps_plainly:
            return list(map(str.encode, items))  # type: ignore[arg-type] # each of them is a str
        _refuse_kinds_that_are_no_items(types, items)
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
        _refuse_what_is_no_item(item)
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
        try:
            return self._load_valued(stored, value) if self.keyed else self._load(stored)
        except Exception as error:
            if is_interruption(error):
                raise
            raise DeserializationError(self._name, self.raw(stored, value), described(error)) from error

    def own_values(self, values: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """Like :meth:`own_value`, for many."""
        return values

    def raw(self, stored: bytes, value: bytes | None) -> bytes:
        """Return the bytes that are loaded: those of the item, or on a keyed set those of its value."""
        own_value = self.own_value(value)
        return stored if own_value is None else own_value

    def load_all(
        self, stored: Sequence[bytes], values: Sequence[bytes | None] | None
    ) -> tuple[list[T], dict[int, DeserializationError]]:
        """Return the items that can be loaded, in order, and for each other position its error.

        :param values: on a keyed set the result of :meth:`values_behind`.
        """
        try:
            if values is None:
                return self._load_each(stored), {}
            own_values = self.own_values(values)
            if None in own_values:
                return [self._load_valued(*row) for row in zip(stored, values, strict=True)], {}
            return self._load_each(own_values), {}  # type: ignore[arg-type] # each of them is bytes
        except Exception as error:
            if is_interruption(error):
                raise
            return self._load_one_by_one(stored, values or [None] * len(stored))

    def _load_each(self, stored: Sequence[bytes]) -> list[T]:
        """Like :meth:`_load` for many, several times as fast."""
        if self._loads_plainly:
            try:
                return list(map(bytes.decode, stored))  # type: ignore[arg-type] # a str is what comes back
            except UnicodeDecodeError:
                return list(map(self._loads, stored))
        load = self._loads if self._makes_only_bytes else self._load
        # Not `map`, which a StopIteration raised by `loads` would end.
        return [load(one) for one in stored]

    def load_looked_at(self, rows: list[Any], width: int) -> list[T]:
        """Return the items of rows that were read without a claim, so that one that cannot be loaded is an error.

        :param width: the number of columns of a row, whose first is the item. Values are removed from the end.
        """
        values = self.values_behind(rows)
        items, broken = self.load_all(rows[::width], values)
        for error in broken.values():
            raise error
        return items

    def load_page(self, rows: list[Any] | bytes) -> list[T]:
        """Like :meth:`load_looked_at` for rows of an item alone, which may be lines of one string."""
        if not isinstance(rows, bytes):
            return self.load_looked_at(rows, 1)
        if self._loads_plainly:
            with suppress(UnicodeDecodeError):
                return rows.decode().split("\n")  # type: ignore[return-value] # what PLAIN makes of text
        return self.load_looked_at(rows.split(b"\n"), 1)

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

    def _load_valued(self, stored: bytes, value: bytes | None) -> T:
        value = self.own_value(value)
        identity: Any = _text_if_it_is(stored) if value is None else None
        return identity if value is None else self._load(value)

    @property
    def _makes_only_bytes(self) -> bool:
        return self._made_bytes and not self._made_text

    def _load(self, stored: bytes) -> T:
        if self._makes_only_bytes:
            return self._loads(stored)
        text = _text_if_it_is(stored)
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


def _refuse_what_is_no_item(item: Any) -> None:
    """Raise for an object of redset that is no item.

    :raises TypeError: it is one, such as a reservation.
    """
    reason = getattr(type(item), "_not_an_item", None)
    if isinstance(reason, str):
        raise TypeError(f"{shown(item)} is no item: {reason}")


def _refuse_kinds_that_are_no_items(types: set[type], items: Sequence[Any]) -> None:
    """Like :func:`_refuse_what_is_no_item`, for many items and their types."""
    if any(hasattr(kind, "_not_an_item") for kind in types):
        for item in items:
            _refuse_what_is_no_item(item)


def _text_if_it_is(stored: bytes) -> Any:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def written_score(score: Any, item: Any) -> str:
    """Return ``score`` as the server reads it, exact to the last bit.

    :raises TypeError: it is no int, float or datetime.
    :raises ValueError: it is NaN, an int beyond the largest float, or a naive datetime.
    """
    if type(score) is float and not math.isnan(score):
        return repr(score)
    if isinstance(score, datetime):
        return repr(timestamp(score, f"the score of {shown(item)}"))
    if not isinstance(score, (float, int, Real)):
        raise TypeError(f"the score of {shown(item)} must be an int, a float or an aware datetime, not {shown(score)}")
    try:
        number = called(float, score, "the score")
    except OverflowError:
        raise ValueError(f"the score of {shown(item)} is too large for a float: {shown(score)}") from None
    if math.isnan(number):
        raise ValueError(f"the score of {shown(item)} is not a number: {shown(score)}")
    return repr(number)


def written_scores(scores: Sequence[Any], items: Sequence[Any]) -> list[str]:
    """Like :func:`written_score` for many, several times as fast if the scores are plain numbers."""
    types = set(map(type, scores))
    if scores and types <= {int, float}:
        if scores[0] == scores[-1] and len(set(scores)) == 1:
            return [written_score(scores[0], items[0])] * len(scores)
        with suppress(OverflowError):
            written = list(map(repr, map(float, scores) if int in types else scores))
            if "nan" not in written:
                return written
    return [written_score(score, item) for score, item in zip(scores, items, strict=True)]


def written_bounds(
    lowest: Moment | None, highest: Moment | None, inclusive: tuple[bool, bool] = (True, True)
) -> tuple[str, str]:
    """Return bounds of scores as the server reads them.

    :raises TypeError: one is no number, or ``inclusive`` no pair.
    :raises ValueError: one is NaN.
    """
    includes_lowest, includes_highest = inclusive
    low = "-inf" if lowest is None else ("" if includes_lowest else "(") + written_score(lowest, "min")
    high = "inf" if highest is None else ("" if includes_highest else "(") + written_score(highest, "max")
    return low, high


def written_reason(reason: str) -> bytes:
    """Return ``reason`` as it is stored, whatever it contains: an item may be refused because it is no valid text."""
    return reason.encode(errors="backslashreplace")


def read_score(score: Any) -> float | None:
    """Return the score in a reply: bytes or str (RESP2), a float (RESP3), or None if there is no such item."""
    return None if score is None else float(score)
