"""What redset asks of the objects it is given."""

from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ("Serializer",)

T = TypeVar("T")


@runtime_checkable
class Serializer(Protocol[T]):
    """Turns items into what is stored, and back.

    Any object with these two methods will do, a module such as :mod:`json` included; it need not subclass this.
    ``dumps`` must be deterministic, since two items are the same item when their serialized bytes are the same.
    """

    def loads(self, stored: Any, /) -> T:
        """The item that was stored as ``stored`` (always ``bytes``)."""

    def dumps(self, item: Any, /) -> "str | bytes":
        """What to store for ``item``: bytes, or a str that is stored as UTF-8."""
