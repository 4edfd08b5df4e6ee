"""JSON for what ``meta``, ``cb_kwargs`` and the other parts of a request may have in them.

JSON has neither bytes nor tuples, and turns the keys of dicts into strings. Such a value is written as an object with
the key ``!``, so that it is loaded with its type. Loading imports nothing and calls no class but those of items, which
the spider's own modules have defined.
"""

import dataclasses
import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import scrapy

__all__ = ("dumps", "loads")

#: Marks an object that stands for a value of another type.
MARK = "!"
PLAIN = (str, int, float, bool, type(None))


def dumps(value: Any) -> bytes:
    """Return a value as JSON.

    :raises TypeError: it has a value in it that JSON cannot carry; the message says where.
    """
    return ENCODER.encode(_encoded(value, "")).encode(errors="surrogatepass")


def loads(data: bytes) -> Any:
    """Return the value."""
    text = data.decode(errors="surrogatepass")
    # Most requests have no marked value, and a hook is called for each object.
    return (MARKED if f'"{MARK}"' in text else PLAIN_DECODER).decode(text)


def _encoded(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list:
        return [_encoded(one, f"{where}[{number}]") for number, one in enumerate(value)]
    if kind is dict:
        return _encoded_dict(value, where)
    writer = WRITERS.get(kind)
    if writer is not None:
        return writer(value, where)
    if isinstance(value, scrapy.Item):
        return _item(kind, dict(value), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return _item(kind, fields, where)
    raise TypeError(f"{where or 'the value'} is of the type {kind.__module__}.{kind.__qualname__}")


def _encoded_dict(value: dict[Any, Any], where: str) -> Any:
    if MARK not in value and all(type(key) is str for key in value):
        return {key: _encoded(one, f"{where}[{key!r}]") for key, one in value.items()}
    pairs = [[_encoded(key, where), _encoded(one, f"{where}[{key!r}]")] for key, one in value.items()]
    return _marked("dict", pairs)


def _encoded_many(value: Any, where: str) -> Any:
    return _marked(type(value).__name__, [_encoded(one, where) for one in value])


def _marked(kind: str, value: Any) -> dict[str, Any]:
    return {MARK: kind, "v": value}


def _item(kind: type, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    if _found(kind.__module__, kind.__qualname__) is not kind:
        raise TypeError(f"{where or 'the value'} is of a class that is not at the top of its module: {kind!r}")
    return _marked("item", [kind.__module__, kind.__qualname__, _encoded(dict(fields), where)])


def _found(module: str, name: str) -> Any:
    """Return the class of an item, if its module is loaded; nothing is imported for a value of the server."""
    return getattr(sys.modules.get(module), name, None)


def _load_item(value: Any) -> Any:
    module, name, fields = value
    kind = _found(module, name)
    is_item = isinstance(kind, type) and (issubclass(kind, scrapy.Item) or dataclasses.is_dataclass(kind))
    if not is_item:
        raise ValueError(f"{module}.{name} is no class of items that this process knows")
    return kind(**fields)


#: How values of these types are written.
WRITERS: dict[type, Callable[[Any, str], Any]] = {
    tuple: _encoded_many,
    set: _encoded_many,
    frozenset: _encoded_many,
    bytes: lambda value, where: _marked("bytes", b64encode(value).decode()),
    date: lambda value, where: _marked("date", value.isoformat()),
    datetime: lambda value, where: _marked("datetime", value.isoformat()),
}
#: How they are read.
LOADERS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": b64decode,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "item": _load_item,
}


def _decoded(value: dict[str, Any]) -> Any:
    kind = value.get(MARK)
    return value if kind is None else LOADERS[kind](value["v"])


# json.dumps and json.loads would make new ones for each call.
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
PLAIN_DECODER = json.JSONDecoder()
MARKED = json.JSONDecoder(object_hook=_decoded)
