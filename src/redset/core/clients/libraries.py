"""The client libraries that redset knows by name, in one table. None of them is imported before a client is made."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from redset.exceptions import NoServerError

__all__ = ("LIBRARIES", "Library", "client_library", "is_of_a_library", "part_of")


@dataclass(frozen=True)
class Library:
    """The names in a client library by which redset recognises it."""

    #: The package; its modules begin with this name.
    name: str
    #: The class of a client of one server, in its modules ``client`` and ``asyncio.client``; empty if these are other
    #: ones, or derived from those of another library.
    client: str = ""
    #: The base classes of its errors.
    errors: tuple[str, ...] = ()


#: In the order in which :func:`redset.connect` looks for them.
LIBRARIES = (
    Library("redis", "Redis", ("RedisError", "RedisClusterException")),
    Library("valkey", "Valkey", ("ValkeyError", "ValkeyClusterException")),
    Library("fakeredis"),
)
_NAMES = {library.name for library in LIBRARIES}


def client_library(*, asynchronous: bool = False) -> Any:
    """Return the module of the installed client library, redis-py or else valkey-py, or its asyncio module.

    :raises NoServerError: neither is installed.
    """
    for library in LIBRARIES:
        if library.client:
            try:
                return import_module(f"{library.name}.asyncio" if asynchronous else library.name)
            except ImportError:
                continue
    raise NoServerError('no client library is installed: pip install "redset[redis]"')


def part_of(library: Any, name: str) -> Any:
    """Return a module that both faces of a library share.

    :param library: the module of either face.
    """
    return import_module(f"{library.__name__.partition('.')[0]}.{name}")


def is_of_a_library(kind: type) -> bool:
    """Return whether a class is defined in one of the client libraries."""
    return kind.__module__.partition(".")[0] in _NAMES
