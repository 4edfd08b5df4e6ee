"""The default serializer, and the check of a user's."""

import re
import sys
import warnings
from enum import Enum
from typing import Any

from redset.core.shown import shown

__all__ = ("PLAIN", "checked_serializer", "text_if_it_is")

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
