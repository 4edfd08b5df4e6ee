"""How an item and its score are written for the server, and read back."""

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Any, Generic, TypeVar

from redset.core.interruptions import is_interruption
from redset.core.shown import described, shown
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

#: What the default repr of an object has, and that of a function or a generator: where it is in memory.
ADDRESS = re.compile(" at 0x[0-9a-fA-F]+>")


class _PlainSerializer:
    """Bytes are stored as they are and anything else as its str; a str comes back, or bytes where it is not UTF-8.

    A member of an Enum that is a str or a number is stored as that str or number, which it is equal to.
    """

    def dumps(self, item: Any) -> str | bytes:
        """:raises TypeError: the str of ``item`` says nothing about it: it is None, or has its address."""
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
            raise TypeError("None identifies no item; neither an item nor what a key returns may be None")
        text = str(item)
        if not isinstance(item, str) and ADDRESS.search(text):
            raise TypeError(
                f"{text} cannot be told from others: its str is its address in memory. "
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
    """Stands in for an item where one is looked up: ``Key("x") in ss``, ``ss.discard(Key("x"))``, ``ss.get(Key("x"))``.

    :param identity: what the set's ``key`` makes of the item. On a set without a ``key``, the item as stored.
    """

    identity: Any

    _not_an_item = "it can be looked up but not added, since it has no value"

    def __repr__(self) -> str:
        return f"Key(identity={shown(self.identity)})"

    def stored(self) -> bytes:
        """The identity as it is stored: bytes as they are, anything else as its str."""
        return _stored_identity(self.identity)


def _stored_identity(identity: Any) -> bytes:
    stored = PLAIN.dumps(identity)
    return stored.encode() if isinstance(stored, str) else stored


def checked_serializer(serializer: Any) -> Any:
    """``serializer`` as it is. Warns where it has none of its methods: as in redset 0.5, it is like none then."""
    if getattr(serializer, "dumps", None) is None and getattr(serializer, "loads", None) is None:
        warnings.warn(
            f"the serializer {shown(serializer)} has neither dumps nor loads, so items are stored as their str",
            stacklevel=_outside(),
        )
    return serializer


def _outside() -> int:
    """How many calls up, from whoever asks, the first one is that was not made by redset."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "redset":
        level, frame = level + 1, frame.f_back
    return level


def called(call: Callable[[T], R], item: T, what: str) -> R:
    """What a callable of the user returns.

    :raises RuntimeError: it raised StopIteration, which would end a generator or an iteration without a word.
    """
    try:
        return call(item)
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration for {shown(item)}") from error


def called_plainly(call: Callable[[], R], what: str) -> R:
    """The same of a callable that is given nothing."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration") from error


def called_each(call: Callable[[T], R], items: Iterable[T], what: str) -> list[R]:
    """The same of many. ``list(map(call, items))`` would end at a StopIteration as if there were no more items."""
    try:
        return [call(item) for item in items]
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration") from error


class Items(Generic[T]):
    """Turns the items of one set into stored bytes, and back.

    What a serializer lacks, ``dumps`` or ``loads``, is taken from :data:`PLAIN`. Its ``loads`` is given what its
    ``dumps`` makes: str or bytes. As long as that was not seen, which is so where items are only taken, or where it
    makes both, it is given a str where that is possible, as redset 0.5 did, and the bytes when it raises for the str:
    an item that it refuses in both forms is broken.

    By default an item's identity is the bytes it serializes to. With a ``key`` it is what that says, and the bytes are
    its value; an identity without a value, added by somebody who gave none, is loaded as the identity itself.
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
        #: Whether a str is stored as it is; whether a str, if any, is loaded as it is.
        self._dumps_plainly = dumps is None or serializer is PLAIN
        self._loads_plainly = loads is None or serializer is PLAIN
        self._dumps: Callable[[T], str | bytes] = PLAIN.dumps if dumps is None else dumps
        self._loads: Callable[[str | bytes], T] = PLAIN.loads if loads is None else loads
        #: What ``dumps`` was seen to make.
        self._made_text = False
        self._made_bytes = False
        self._key = key
        self.keyed = key is not None

    def identity(self, item: T | Key) -> bytes:
        """The bytes by which ``item`` is told from others; what the serializer or the key raises passes through."""
        if isinstance(item, Key):
            return item.stored()
        if self._key is None:
            return self.dump(item)
        _refuse_what_is_no_item(item)
        return _stored_identity(called(self._key, item, "the key"))

    def are_like(self, others: "Items[Any]") -> bool:
        """Whether others are stored in the same way, so that what is stored there can be compared and loaded here."""
        ours, theirs = ((type(items), items._dumps, items._loads, items._key) for items in (self, others))
        try:
            return bool(ours == theirs)
        except Exception as error:
            if is_interruption(error):
                raise
            return False

    def identity_if_any(self, item: T | Key) -> bytes | None:
        """None for what the serializer or the key refuses: it cannot be in the set."""
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
        """The identity of each of many items."""
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
        """The bytes that each of many items serializes to; as :meth:`dump`, and several times as fast."""
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
        """The bytes that ``item`` serializes to; what the serializer raises passes through."""
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
        """Takes the list of values off the end of ``rows``, where the server puts it on keyed sets; None on others."""
        return rows.pop() if self.keyed else None

    def own_value(self, value: bytes | None) -> bytes | None:
        """What the serializer made of the item, out of what stands in the values."""
        return value

    def load(self, stored: bytes, value: bytes | None = None) -> T:
        """The item that is stored so; on a keyed set under this value, or None where there is none.

        :raises DeserializationError: when the serializer cannot load it; carries the bytes.
        """
        try:
            return self._load_valued(stored, value) if self.keyed else self._load(stored)
        except Exception as error:
            if is_interruption(error):
                raise
            raise DeserializationError(self._name, self.raw(stored, value), described(error)) from error

    def own_values(self, values: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """The same of many."""
        return values

    def raw(self, stored: bytes, value: bytes | None) -> bytes:
        """What is loaded, or cannot be: the item as stored, or on a keyed set its value."""
        own_value = self.own_value(value)
        return stored if own_value is None else own_value

    def load_all(
        self, stored: Sequence[bytes], values: Sequence[bytes | None] | None
    ) -> tuple[list[T], dict[int, DeserializationError]]:
        """The items that can be loaded, in order; of each of the others the position and what is wrong.

        :param values: on a keyed set what :meth:`values_behind` gave.
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
        """As :meth:`_load`, and several times as fast."""
        if self._loads_plainly:
            try:
                return list(map(bytes.decode, stored))  # type: ignore[arg-type] # a str is what comes back
            except UnicodeDecodeError:
                return list(map(self._loads, stored))
        load = self._loads if self._makes_only_bytes else self._load
        # Not `map`, which a StopIteration that is raised by `loads` would end.
        return [load(one) for one in stored]

    def load_looked_at(self, rows: list[Any], width: int) -> list[T]:
        """The items of rows that are only looked at, so that what cannot be loaded is an error.

        :param width: how many columns a row has, of which the first is the item. Values are taken off their end.
        """
        values = self.values_behind(rows)
        items, broken = self.load_all(rows[::width], values)
        for error in broken.values():
            raise error
        return items

    def load_page(self, rows: list[Any] | bytes) -> list[T]:
        """The same of rows of an item alone, which may come as lines of one string."""
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
            # A TypeError says no more than that a str will not do.
            if isinstance(refusal, TypeError) or is_interruption(error):
                raise
        else:
            # What comes back as it went in was not loaded: `loads` looks for a str that it refuses, and found none.
            if item is not stored or isinstance(refusal, TypeError):
                return item
        raise refusal


def _refuse_what_is_no_item(item: Any) -> None:
    """:raises TypeError: it is a thing of redset's own that was taken for an item, such as a reservation."""
    reason = getattr(type(item), "_not_an_item", None)
    if isinstance(reason, str):
        raise TypeError(f"{shown(item)} is no item: {reason}")


def _refuse_kinds_that_are_no_items(types: set[type], items: Sequence[Any]) -> None:
    """The same of many, of which these are the types."""
    if any(hasattr(kind, "_not_an_item") for kind in types):
        for item in items:
            _refuse_what_is_no_item(item)


def _text_if_it_is(stored: bytes) -> Any:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def written_score(score: Any, item: Any) -> str:
    """``score`` as the server reads it, exact to the last bit.

    :raises TypeError: when it is no int or float.
    :raises ValueError: when it is NaN, or an int beyond the largest float.
    """
    if type(score) is float and not math.isnan(score):
        return repr(score)
    if not isinstance(score, (float, int, Real)):
        raise TypeError(f"the score of {shown(item)} must be an int or a float, not {shown(score)}")
    try:
        number = called(float, score, "the score")
    except OverflowError:
        raise ValueError(f"the score of {shown(item)} is too large for a float: {shown(score)}") from None
    if math.isnan(number):
        raise ValueError(f"the score of {shown(item)} is not a number: {shown(score)}")
    return repr(number)


def written_scores(scores: Sequence[Any], items: Sequence[Any]) -> list[str]:
    """The same for many items, several times as fast where their scores are plain numbers."""
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
    lowest: float | None, highest: float | None, inclusive: tuple[bool, bool] = (True, True)
) -> tuple[str, str]:
    """Bounds of scores as the server reads them.

    :raises TypeError: one is no number, or ``inclusive`` no pair.
    :raises ValueError: one is NaN.
    """
    includes_lowest, includes_highest = inclusive
    low = "-inf" if lowest is None else ("" if includes_lowest else "(") + written_score(lowest, "min")
    high = "inf" if highest is None else ("" if includes_highest else "(") + written_score(highest, "max")
    return low, high


def written_reason(reason: str) -> bytes:
    """``reason`` as it is stored, whatever it holds: what is wrong with an item may be that it is no text."""
    return reason.encode(errors="backslashreplace")


def read_score(score: Any) -> float | None:
    """A score out of any reply: bytes or str (RESP2), a float (RESP3), or None where there is no such item."""
    return None if score is None else float(score)
