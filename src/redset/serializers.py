"""The serializers of redset. Each stores equal items as equal bytes, so that a set sees one item."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar, get_type_hints, overload

from redset.core.shown import shown
from redset.interfaces import Serializer

__all__ = ("JSONSerializer", "NamedtupleSerializer", "TypedSerializer")

T = TypeVar("T")
NT = TypeVar("NT", bound=NamedTuple)


class NamedtupleSerializer(Serializer[NT]):
    """Stores the instances of one named tuple class as JSON objects.

    The format is that of redset 0.5: the fields in the order in which the class defines them.

    >>> from typing import NamedTuple
    >>> class Task(NamedTuple):
    ...     name: str
    ...     size: int
    >>> serializer = NamedtupleSerializer(Task)
    >>> serializer.dumps(Task("read", 3)), serializer.loads('{"name": "read", "size": 3}')
    ('{"name": "read", "size": 3}', Task(name='read', size=3))
    """

    def __init__(self, NTClass: type[NT]) -> None:  # noqa: N803 - the name is part of the interface of redset 0.5
        """:param NTClass: the named tuple class of the items."""
        self.NTClass = NTClass

    def loads(self, stored: bytes | str, /) -> NT:
        """Return the named tuple that was stored.

        :raises ValueError: ``stored`` is no JSON.
        :raises TypeError: it does not have exactly the fields of the class.
        """
        make: Callable[..., NT] = self.NTClass
        return make(**json.loads(stored))

    def dumps(self, item: NT, /) -> str:
        """Return the JSON text of ``item``.

        :raises TypeError: a field has a value that JSON cannot represent.
        """
        return json.dumps(item._asdict())


class JSONSerializer(Serializer[Any]):
    """Stores any JSON value in one canonical form: sorted keys, no blanks, UTF-8.

    Two dicts with the same contents are one item, whatever their order. A tuple is stored and returned as a list.
    Numbers count as they are written: ``1``, ``1.0`` and ``True`` are three items.

    >>> JSONSerializer().dumps({"url": "/a", "depth": (1, 2)}), JSONSerializer().loads(b"[1,2]")
    (b'{"depth":[1,2],"url":"/a"}', [1, 2])
    """

    def __init__(self) -> None:
        self._encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def loads(self, stored: bytes | str, /) -> Any:
        """Return the value that was stored.

        :raises ValueError: ``stored`` is no JSON, or no UTF-8. NaN and Infinity are no JSON.
        """
        return self._decoder.decode(stored if isinstance(stored, str) else stored.decode())

    def dumps(self, item: Any, /) -> bytes:
        """Return the canonical JSON of ``item``.

        :raises TypeError: it contains a value that JSON cannot represent, or a dict with a key that is no str.
        :raises ValueError: it contains NaN, an infinity, itself, or a str that is no valid Unicode.
        """
        text = self._encoder.encode(item)
        _refuse_keys_but_str(item)
        return text.encode()


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _refuse_keys_but_str(item: Any) -> None:
    """Refuse the other keys that json accepts: they are loaded as str, and {9: …, 10: …} sorts differently then."""
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


class _Field(NamedTuple):
    """A field of a class: its name, its name in the stored form, and its default in that form, if it has one."""

    name: str
    key: str
    default: bytes | None

    def is_default(self, written: bytes) -> bool:
        return written == self.default


_Fields: TypeAlias = list[_Field]

#: Factories that make the same default each time.
PURE = (list, dict, set, frozenset, tuple, str, bytes, int, float, bool)


def _has_defaults(described: Any) -> bool:
    """Return whether a type, as msgspec describes it, or a type in it has a field with a default."""
    unseen, met = [described], set[int]()
    while unseen:
        found = unseen.pop()
        if isinstance(found, tuple):
            unseen.extend(found)
        elif hasattr(found, "__struct_fields__") and id(found) not in met:
            met.add(id(found))
            if not getattr(found, "required", True):
                return True
            unseen.extend(getattr(found, name) for name in found.__struct_fields__ if name != "default")
    return False


class TypedSerializer(Serializer[T]):
    """Stores the values of one type as canonical JSON, and returns validated values of it.

    The type may be a dataclass, a TypedDict, a named tuple, an attrs class, a ``msgspec.Struct``, or any other type
    that msgspec can check: ``list[int]``, ``Move | Resize``, ``dict[str, datetime]`` …

    A value that ``dumps`` accepts is equal after loading, and equal items have equal bytes. Object keys are sorted, so
    neither the order of a dict nor that of the fields in the class matters. Sets are sorted. The int ``1`` in a float
    field is stored as ``1.0``.

    A field that has its default is left out. So a new field with a default changes neither the stored form of an item
    nor its equality, and items stored with the default load as well. Changing a default changes the items that are
    stored without it. A default made by a function is always stored.

    Three limits:

    - Values that are equal but written differently are two items: the ``Decimal`` 1.0 and 1.00, one moment in two time
      zones, 0.0 and -0.0.
    - The members of a set must be comparable by ``<``: numbers, strings, dates and tuples of these are, members of a
      plain ``Enum`` are not and are refused. A set of sets has no such order and no canonical form.
    - A class that compares by identity (``eq=False``) is refused: none of its values is equal after loading.

    Needs msgspec: ``pip install "redset[fast]"``.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Page:
    ...     url: str
    ...     depth: int = 0
    >>> serializer = TypedSerializer(Page)
    >>> serializer.dumps(Page("/a", 1)), serializer.loads(b'{"url":"/a"}')
    (b'{"depth":1,"url":"/a"}', Page(url='/a', depth=0))
    """

    @overload
    def __init__(self, item_type: type[T]) -> None: ...

    @overload
    def __init__(self: "TypedSerializer[Any]", item_type: Any) -> None: ...

    def __init__(self, item_type: Any) -> None:
        """Create a serializer for values of ``item_type``.

        If the type is no class, such as a union, annotate the variable for type checkers: ``moves: TypedSerializer[Move
        | Resize] = TypedSerializer(Move | Resize)``

        :param item_type: the type of the items.
        :raises ImportError: msgspec is not installed.
        :raises TypeError: msgspec cannot check values of this type.
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
        self._msgspec = msgspec
        self._fields: dict[type, _Fields] = {}
        self._has_defaults = _has_defaults(msgspec.inspect.type_info(item_type))

    def loads(self, stored: bytes | str, /) -> T:
        """Return the value that was stored.

        :raises msgspec.DecodeError: ``stored`` is no JSON. The subclass ``ValidationError``, which says where and why,
            if it is no value of the type.
        """
        value: T = self._decode(stored)
        return value

    def dumps(self, item: T, /) -> bytes:
        """Return the canonical JSON of ``item``.

        :raises TypeError: it is no value of the type, or would not be equal after loading.
        """
        # msgspec does not check values that it encodes. Decoding here raises for an item that no consumer could load;
        # encoding the decoded value again makes equal values equal bytes. Together about a microsecond.
        try:
            returned = self._decode(self._encode(item))
        except self._invalid as error:
            raise TypeError(f"{shown(item)} is no {self._type!r}: {error}") from None
        if returned != item:
            raise TypeError(f"{shown(item)} is no {self._type!r}: it would come back as {shown(returned)}")
        if not self._has_defaults:
            return self._encode(returned)
        return self._encode_sorted(self._without_defaults(returned, self._to_builtins(returned, str_keys=True)))

    def _encode(self, item: Any) -> bytes:
        try:
            return self._encode_sorted(item)
        except TypeError:
            # The sorting encoder refuses dicts with keys such as int or UUID until they are str.
            return self._encode_sorted(self._to_builtins(item, order="sorted", str_keys=True))

    def _without_defaults(self, value: Any, written: Any) -> Any:
        """Return ``written``, which msgspec made of ``value``, without the fields that have their defaults."""
        if isinstance(value, set | frozenset):
            return [self._without_defaults(each, self._to_builtins(each, str_keys=True)) for each in sorted(value)]
        if isinstance(written, dict):
            return self._object_without_defaults(value, written)
        if not isinstance(written, list | tuple):
            return written
        fields = self._fields_of(type(value))
        if not fields:
            return [self._without_defaults(*pair) for pair in zip(value, written, strict=True)]
        # By position, so that only the last ones can be left out. A tag may come first.
        values = [getattr(value, field.name) for field in fields]
        tag = list(written[: len(written) - len(fields)])
        row = [self._without_defaults(*pair) for pair in zip(values, written[len(tag) :], strict=True)]
        while row and fields[len(row) - 1].is_default(self._encode(values[len(row) - 1])):
            row.pop()
        return tag + row

    def _object_without_defaults(self, value: Any, written: dict[str, Any]) -> dict[str, Any]:
        if isinstance(value, dict):
            pairs = zip(value.values(), written.items(), strict=True)
            return {key: self._without_defaults(each, told) for each, (key, told) in pairs}
        for field in self._fields_of(type(value)):
            if field.key in written:
                own = getattr(value, field.name)
                if field.is_default(self._encode(own)):
                    del written[field.key]
                else:
                    written[field.key] = self._without_defaults(own, written[field.key])
        return written

    def _fields_of(self, kind: type) -> "_Fields":
        """Return the fields of a class; none for a type such as a list."""
        if kind not in self._fields:
            described = getattr(self._msgspec.inspect.type_info(kind), "fields", ())
            types: dict[str, Any] = {}
            with suppress(NameError):
                types = get_type_hints(kind, include_extras=True) if described else {}
            self._fields[kind] = [self._field(field, types.get(field.name, Any)) for field in described]
        return self._fields[kind]

    def _field(self, field: Any, field_type: Any) -> "_Field":
        nothing = self._msgspec.NODEFAULT
        if field.default is not nothing:
            default = field.default
        elif field.default_factory in PURE:
            default = field.default_factory()
        else:
            return _Field(field.name, field.encode_name, None)
        written = self._encode(default)
        with suppress(self._invalid, TypeError):
            # As it is after loading: the default of a float may be an int.
            written = self._encode(self._msgspec.json.decode(written, type=field_type))
        return _Field(field.name, field.encode_name, written)
