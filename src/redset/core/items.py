"""How an item and its score are written for the server, and read back."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any, Generic, TypeVar

from redset.exceptions import DeserializationError

__all__ = ("PLAIN", "Items", "Key", "read_score", "written_reason", "written_score", "written_scores")

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

    __slots__ = ("_dumps", "_key", "_loads", "_makes_text", "_name", "keyed")

    def __init__(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> None:
        self._name = name
        self._dumps: Callable[[T], str | bytes] = getattr(serializer, "dumps", PLAIN.dumps)
        self._loads: Callable[[str | bytes], T] = getattr(serializer, "loads", PLAIN.loads)
        self._makes_text: bool | None = None
        self._key = key
        self.keyed = key is not None

    def identity(self, item: T | Key) -> bytes:
        """The bytes by which ``item`` is told from others; what the serializer or the key raises passes through."""
        if isinstance(item, Key):
            return item.stored()
        return self.dump(item) if self._key is None else Key(self._key(item)).stored()

    def identities(self, items: Sequence[T | Key]) -> list[bytes]:
        """The identity of each of many items."""
        if self._key is not None or Key in set(map(type, items)):
            return [self.identity(item) for item in items]
        return self.dump_all(items)  # type: ignore[arg-type] # there is no Key among them

    def dump_all(self, items: Sequence[T]) -> list[bytes]:
        """The bytes that each of many items serializes to; as :meth:`dump`, and several times as fast."""
        types = set(map(type, items))
        if types == {str} and self._dumps == PLAIN.dumps:
            self._makes_text = True
            return list(map(str.encode, items))  # type: ignore[arg-type] # each of them is a str
        if Key in types:
            return [self.dump(item) for item in items]
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

    def raw(self, stored: bytes, value: bytes | None) -> bytes:
        """What is loaded, or cannot be: the item as stored, or on a keyed set its value."""
        return stored if value is None else value

    def load_all(
        self, stored: Sequence[bytes], values: Sequence[bytes | None] | None
    ) -> tuple[list[T], dict[int, DeserializationError]]:
        """The items that can be loaded, in order; of each of the others the position and what is wrong.

        :param values: on a keyed set what :meth:`values_behind` gave.
        """
        try:
            if values is not None:
                return list(map(self._load_valued, stored, values)), {}
            load = self._loads if self._makes_text is False or self._loads == PLAIN.loads else self._load
            return [load(one) for one in stored], {}
        except Exception:
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

    def _load_valued(self, stored: bytes, value: bytes | None) -> T:
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
    if set(map(type, scores)) <= {int, float}:
        with suppress(OverflowError):
            written = list(map(repr, map(float, scores)))
            if "nan" not in written:
                return written
    return list(map(written_score, scores, items))


def written_reason(reason: str) -> bytes:
    """``reason`` as it is stored, whatever it holds: what is wrong with an item may be that it is no text."""
    return reason.encode(errors="backslashreplace")


def read_score(score: Any) -> float | None:
    """A score out of any reply: bytes or str (RESP2), a float (RESP3), or None where there is no such item."""
    return None if score is None else float(score)
