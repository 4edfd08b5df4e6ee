"""The protocol of the objects that users pass to a set."""

from abc import abstractmethod
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ("Serializer",)

T = TypeVar("T")


@runtime_checkable
class Serializer(Protocol[T]):
    """An object that turns items of type ``T`` into stored bytes, and back.

    Any object with these two methods is one, including the modules :mod:`json` and :mod:`pickle`. A class may also
    subclass this one, ``class TaskSerializer(Serializer[Task])``, and define both methods.

    ``dumps`` must be deterministic: two items are the same item if their serialized bytes are the same.
    """

    @abstractmethod
    def loads(self, stored: Any, /) -> T:
        """Return the item that ``stored`` represents; raise any exception if there is none.

        :param stored: the result of ``dumps``, str or bytes. A set object that has not called ``dumps`` yet passes a
            str, and bytes if they are not UTF-8 or the str raises.
        """

    @abstractmethod
    def dumps(self, item: T, /) -> str | bytes:
        """Return the bytes to store for ``item``, or a str to store as UTF-8; raise to refuse the item."""
