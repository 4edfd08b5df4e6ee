"""How workers reach the servers. Doors are handed to other processes, and load nothing of redset."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

__all__ = ("Address", "Door")


class Door(Protocol):
    """How a worker reaches a place.."""

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        """A new client of redis-py or valkey-py."""


@dataclass(frozen=True)
class Address:
    """The door to what is reached by a url."""

    url: str

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        module = import_module(f"{library}.asyncio" if awaited else library)
        return module.from_url(self.url, **options)
