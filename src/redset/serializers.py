"""The serializers that come with redset. Each stores equal items as equal bytes, so that a set sees one item."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from redset.interfaces import Serializer

__all__ = ("JSONSerializer", "NamedtupleSerializer", "TypedSerializer")

T = TypeVar("T")
NT = TypeVar("NT", bound=NamedTuple)


class NamedtupleSerializer(Serializer[NT]):
    """Stores the instances of one named tuple class as JSON objects.

    The stored format is that of redset 0.5: the fields in the order in which the class defines them.
    """

    def __init__(self, NTClass: type[NT]) -> None:  # noqa: N803 - the name is part of the interface of redset 0.5
        """:param NTClass: the named tuple class of the items."""
        self.NTClass = NTClass

    def loads(self, stored: bytes | str, /) -> NT:
        """The named tuple that was stored.

        :raises ValueError: when ``stored`` is no JSON.
        :raises TypeError: when it does not have just the fields of the class.
        """
        make: Callable[..., NT] = self.NTClass
        return make(**json.loads(stored))

    def dumps(self, item: NT, /) -> str:
        """The JSON text of ``item``; :mod:`json` raises TypeError when a field holds what JSON has not."""
        return json.dumps(item._asdict())


class JSONSerializer(Serializer[Any]):
    """Stores anything that JSON can say, in one canonical form: sorted keys, no blanks, UTF-8.

    Two dicts with the same contents are one item, whatever their order. A tuple is stored as a list and comes
    back as one. Numbers count as they are written: ``1``, ``1.0`` and ``True`` are three items.
    """

    def __init__(self) -> None:
        self._encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def loads(self, stored: bytes | str, /) -> Any:
        """The value that was stored.

        :raises ValueError: when ``stored`` is no JSON, or no UTF-8. NaN and Infinity are no JSON.
        """
        return self._decoder.decode(stored if isinstance(stored, str) else stored.decode())

    def dumps(self, item: Any, /) -> bytes:
        """The canonical JSON of ``item``.

        :raises TypeError: when it holds what JSON has not, or a dict whose keys are not all str.
        :raises ValueError: when it holds NaN, an infinity, itself, or a str that is no Unicode text.
        """
        text = self._encoder.encode(item)
        _refuse_keys_but_str(item)
        return text.encode()


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _refuse_keys_but_str(item: Any) -> None:
    """Refuse the other keys that json takes: they come back as str, and {9: …, 10: …} would sort otherwise then."""
    unseen = [item]
    while unseen:
        value = unseen.pop()
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(f"keys must be str, not {type(key).__name__}: {key!r} in {item!r}")
            unseen.extend(value.values())
        elif isinstance(value, list | tuple):
            unseen.extend(value)


class TypedSerializer(Serializer[T]):
    """Stores the values of one type as canonical JSON and gives back validated values of it.

    The type may be a dataclass, a TypedDict, a named tuple, an attrs class, a ``msgspec.Struct``, or whatever else
    msgspec can check: ``list[int]``, ``Move | Resize``, ``dict[str, datetime]`` …

    What ``dumps`` accepts comes back equal, and equal items have equal bytes: object keys are sorted, so neither the
    order of a dict nor that of the fields in the class definition matters, sets are sorted, and the int ``1`` in a
    float field is stored as ``1.0``. Three things to know:

    - Values that are equal but written differently stay two items: the ``Decimal`` 1.0 and 1.00, one moment in two
      time zones, 0.0 and -0.0.
    - The members of a set must be comparable by ``<``: numbers, strings, dates and tuples of these are, members of a
      plain ``Enum`` are not and are refused. A set of sets has no such order and no canonical form.
    - A class that compares by identity (``eq=False``) is refused: none of its values comes back equal.

    Needs msgspec: ``pip install "redset[fast]"``.
    """

    @overload
    def __init__(self, item_type: type[T]) -> None: ...

    @overload
    def __init__(self: "TypedSerializer[Any]", item_type: Any) -> None: ...

    def __init__(self, item_type: Any) -> None:
        """For a type that is no class, such as a union, a type checker has to be told what the items are.

        ``moves: TypedSerializer[Move | Resize] = TypedSerializer(Move | Resize)``

        :param item_type: the type of the items.
        :raises ImportError: when msgspec is not installed.
        :raises TypeError: when msgspec cannot check values of this type.
        """
        try:
            import msgspec
        except ImportError as error:
            raise ImportError('TypedSerializer needs msgspec: pip install "redset[fast]"') from error
        self._type = item_type
        self._decode = msgspec.json.Decoder(item_type).decode
        self._encode_sorted = msgspec.json.Encoder(order="sorted").encode
        self._to_builtins = msgspec.to_builtins
        self._invalid = msgspec.ValidationError

    def loads(self, stored: bytes | str, /) -> T:
        """The value that was stored.

        :raises msgspec.DecodeError: when ``stored`` is no JSON; its subclass ``ValidationError``, which says where and
            why, when it is no value of the type.
        """
        value: T = self._decode(stored)
        return value

    def dumps(self, item: T, /) -> bytes:
        """The canonical JSON of ``item``.

        :raises TypeError: when it is no value of the type, or would not come back equal.
        """
        # msgspec does not check what it encodes. Decoding it here keeps an item that no consumer could load from ever
        # being sent; encoding the decoded value again makes equal values equal bytes. Together about a microsecond.
        try:
            returned = self._decode(self._encode(item))
        except self._invalid as error:
            raise TypeError(f"{item!r} is no {self._type!r}: {error}") from error
        if returned != item:
            raise TypeError(f"{item!r} is no {self._type!r}: it would come back as {returned!r}")
        return self._encode(returned)

    def _encode(self, item: Any) -> bytes:
        try:
            return self._encode_sorted(item)
        except TypeError:
            # The sorting encoder takes no dict with keys such as int or UUID until they are made str.
            return self._encode_sorted(self._to_builtins(item, order="sorted", str_keys=True))
