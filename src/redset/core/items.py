"""How an item and its score are written for the server, and read back."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any, Generic, TypeVar

from redset.exceptions import DeserializationError

__all__ = ("PLAIN", "Items", "Key", "read_score", "written_bounds", "written_reason", "written_score", "written_scores")

T = TypeVar("T")


class _PlainSerializer:
    """Bytes are stored as they are and anything else as its str; a str comes back, or bytes where it is not UTF-8."""

    def dumps(self, item: Any) -> str | bytes:
        return bytes(item) if isinstance(item, bytes | bytearray | memoryview) else str(item)

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

    def stored(self) -> bytes:
        """The identity as it is stored: bytes as they are, anything else as its str."""
        stored = PLAIN.dumps(self.identity)
        return stored.encode() if isinstance(stored, str) else stored


class Items(Generic[T]):
    """Turns the items of one set into stored bytes, and back.

    What a serializer lacks, ``dumps`` or ``loads``, is taken from :data:`PLAIN`. Its ``loads`` is given what its
    ``dumps`` makes: str or bytes. As long as that was not seen, which is so where items are only taken, it is given a
    str where that is possible, as redset 0.5 did, and bytes when it refuses the str by a TypeError, as pickle does.

    By default an item's identity is the bytes it serializes to. With a ``key`` it is what that says, and the bytes are
    its value; an identity without a value, added by somebody who gave none, is loaded as the identity itself.
    """

    __slots__ = (
        "_dumps",
        "_dumps_plainly",
        "_key",
        "_loads",
        "_loads_plainly",
        "_makes_text",
        "_name",
        "keyed",
    )

    def __init__(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> None:
        self._name = name
        self._dumps: Callable[[T], str | bytes] = getattr(serializer, "dumps", PLAIN.dumps)
        self._loads: Callable[[str | bytes], T] = getattr(serializer, "loads", PLAIN.loads)
        self._makes_text: bool | None = None
        self._key = key
        self.keyed = key is not None
        #: Whether a str is stored as it is; whether a str, if any, is loaded as it is.
        self._dumps_plainly = self._dumps == PLAIN.dumps
        self._loads_plainly = self._loads == PLAIN.loads

    def identity(self, item: T | Key) -> bytes:
        """The bytes by which ``item`` is told from others; what the serializer or the key raises passes through."""
        if isinstance(item, Key):
            return item.stored()
        return self.dump(item) if self._key is None else Key(self._key(item)).stored()

    def are_like(self, others: "Items[Any]") -> bool:
        """Whether others are stored in the same way, so that what is stored there can be compared and loaded here."""
        ours, theirs = ((type(items), items._dumps, items._loads, items._key) for items in (self, others))
        return ours == theirs

    def identity_if_any(self, item: T | Key) -> bytes | None:
        """None for what the serializer or the key refuses: it cannot be in the set."""
        try:
            return self.identity(item)
        except Exception:
            return None

    def identities_if_any(self, items: Sequence[T | Key]) -> Sequence[bytes | None]:
        try:
            return self.identities(items)
        except Exception:
            return list(map(self.identity_if_any, items))

    def identities(self, items: Sequence[T | Key]) -> list[bytes]:
        """The identity of each of many items."""
        types = set(map(type, items))
        if Key in types:
            return [self.identity(item) for item in items]
        if self._key is None:
            return self._dump_all(items, types)  # type: ignore[arg-type] # there is no Key among them
        made = list(map(self._key, items))  # type: ignore[arg-type] # nor here
        if set(map(type, made)) == {str}:
            return list(map(str.encode, made))
        return [Key(identity).stored() for identity in made]

    def dump_all(self, items: Sequence[T]) -> list[bytes]:
        """The bytes that each of many items serializes to; as :meth:`dump`, and several times as fast."""
        types = set(map(type, items))
        return [self.dump(item) for item in items] if Key in types else self._dump_all(items, types)

    def _dump_all(self, items: Sequence[T], types: set[type]) -> list[bytes]:
        if types == {str} and self._dumps_plainly:
            self._makes_text = True
            return list(map(str.encode, items))  # type: ignore[arg-type] # each of them is a str
        stored = list(map(self._dumps, items))
        types = set(map(type, stored))
        if types == {bytes}:
            self._makes_text = False
            return stored  # type: ignore[return-value] # each of them is bytes
        if types == {str}:
            self._makes_text = True
            return list(map(str.encode, stored))  # type: ignore[arg-type] # each of them is a str
        return [self._as_bytes(one, item) for one, item in zip(stored, items, strict=True)]

    def dump(self, item: T) -> bytes:
        """The bytes that ``item`` serializes to; what the serializer raises passes through."""
        if type(item) is str and self._dumps_plainly:
            self._makes_text = True
            return str.encode(item)  # type: ignore[arg-type] # it is a str
        if isinstance(item, Key):
            raise TypeError(f"{item!r} can be looked up but not added: it has no value")
        return self._as_bytes(self._dumps(item), item)

    def _as_bytes(self, stored: str | bytes, item: T) -> bytes:
        if isinstance(stored, str):
            self._makes_text = True
            return stored.encode()
        if isinstance(stored, bytes):
            self._makes_text = False
            return stored
        raise TypeError(f"the serializer made {stored!r} of the item {item!r}; its dumps must return str or bytes")

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
            raise DeserializationError(
                self._name, self.raw(stored, value), f"{type(error).__name__}: {error}"
            ) from error

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
                return list(map(self._load_valued, stored, values)), {}
            return self._load_each(own_values), {}  # type: ignore[arg-type] # each of them is bytes
        except Exception:
            return self._load_one_by_one(stored, values or [None] * len(stored))

    def _load_each(self, stored: Sequence[bytes]) -> list[T]:
        """As :meth:`_load`, and several times as fast."""
        if self._loads_plainly:
            try:
                return list(map(bytes.decode, stored))  # type: ignore[arg-type] # a str is what comes back
            except UnicodeDecodeError:
                return list(map(self._loads, stored))
        return list(map(self._loads if self._makes_text is False else self._load, stored))

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

    def _load(self, stored: bytes) -> T:
        if self._makes_text is False:
            return self._loads(stored)
        text = _text_if_it_is(stored)
        try:
            return self._loads(text)
        except TypeError:
            if self._makes_text or text is stored:
                raise
            return self._loads(stored)


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
        raise TypeError(f"the score of {item!r} must be an int or a float, not {score!r}")
    try:
        number = float(score)
    except OverflowError:
        raise ValueError(f"the score of {item!r} is too large for a float: {score!r}") from None
    if math.isnan(number):
        raise ValueError(f"the score of {item!r} is not a number: {score!r}")
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
    return list(map(written_score, scores, items))


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
