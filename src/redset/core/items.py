"""How an item and its score are written for the server, and read back."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Generic, TypeVar

from redset.exceptions import DeserializationError

__all__ = ("PLAIN", "Items", "read_score", "written_reason", "written_score")

T = TypeVar("T")


class _PlainSerializer:
    """Bytes are stored as they are and anything else as its str; a str comes back, or bytes where it is not UTF-8."""

    def dumps(self, item: Any) -> str | bytes:
        return bytes(item) if isinstance(item, bytes | bytearray | memoryview) else str(item)

    def loads(self, stored: str | bytes) -> Any:
        return _text_if_it_is(stored) if isinstance(stored, bytes) else stored


#: The serializer of a set that was given none.
PLAIN = _PlainSerializer()


class Items(Generic[T]):
    """Turns the items of one set into stored bytes, and back.

    What a serializer lacks, ``dumps`` or ``loads``, is taken from :data:`PLAIN`. Its ``loads`` is given what its
    ``dumps`` makes: str or bytes. As long as that was not seen, which is so where items are only taken, it is given a
    str where that is possible, as redset 0.5 did, and bytes when it refuses the str by a TypeError, as pickle does.
    """

    __slots__ = ("_dumps", "_loads", "_makes_text", "_name")

    def __init__(self, name: str, serializer: Any) -> None:
        self._name = name
        self._dumps: Callable[[T], str | bytes] = getattr(serializer, "dumps", PLAIN.dumps)
        self._loads: Callable[[str | bytes], T] = getattr(serializer, "loads", PLAIN.loads)
        self._makes_text: bool | None = None

    def dump(self, item: T) -> bytes:
        """The bytes that stand for ``item``; what the serializer raises passes through."""
        stored = self._dumps(item)
        if isinstance(stored, str):
            self._makes_text = True
            return stored.encode()
        if isinstance(stored, bytes):
            self._makes_text = False
            return stored
        raise TypeError(f"the serializer made {stored!r} of the item {item!r}; its dumps must return str or bytes")

    def load(self, stored: bytes) -> T:
        """The item that ``stored`` stands for.

        :raises DeserializationError: when the serializer cannot load it; carries the bytes.
        """
        try:
            return self._load(stored)
        except Exception as error:
            raise DeserializationError(self._name, stored, f"{type(error).__name__}: {error}") from error

    def load_all(self, stored: Sequence[bytes]) -> tuple[list[T], dict[int, DeserializationError]]:
        """The items that can be loaded, in order, and for each of the others its position and what is wrong."""
        try:
            return [self._load(one) for one in stored], {}
        except Exception:
            return self._load_one_by_one(stored)

    def _load_one_by_one(self, stored: Sequence[bytes]) -> tuple[list[T], dict[int, DeserializationError]]:
        items, broken = [], {}
        for position, one in enumerate(stored):
            try:
                items.append(self.load(one))
            except DeserializationError as error:
                broken[position] = error
        return items, broken

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


def written_reason(reason: str) -> bytes:
    """``reason`` as it is stored, whatever it holds: what is wrong with an item may be that it is no text."""
    return reason.encode(errors="backslashreplace")


def read_score(score: Any) -> float | None:
    """A score out of any reply: bytes or str (RESP2), a float (RESP3), or None where there is no such item."""
    return None if score is None else float(score)
