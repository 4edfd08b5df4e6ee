"""What redset asks of the objects it is given."""

from abc import abstractmethod
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ("Serializer",)

T = TypeVar("T")


@runtime_checkable
class Serializer(Protocol[T]):
    """Turns items into what is stored, and back; ``T`` is the type of the items.

    Any object with these two methods will do, the modules :mod:`json` and :mod:`pickle` included. A class may
    also subclass this one, ``class TaskSerializer(Serializer[Task])``, and then has to define both methods.
    ``dumps`` must be deterministic, since two items are the same item when their serialized bytes are the same.
    """

    @abstractmethod
    def loads(self, stored: Any, /) -> T:
        """The item that ``stored`` stands for; raise anything when it stands for none.

        It is what ``dumps`` made: a str or bytes. A set that has only taken items so far cannot know which: it gives a
        str, and bytes where the stored item is not UTF-8 or the str raises anything.
        """

    @abstractmethod
    def dumps(self, item: T, /) -> str | bytes:
        """What to store for ``item``: bytes, or a str that is stored as UTF-8; raise anything to refuse it."""
