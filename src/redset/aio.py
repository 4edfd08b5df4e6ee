"""The asyncio face: the same sets as in :mod:`redset.sets`, with every call awaited.

Where Python's syntax has no await, there is a method: ``await ss.count()`` for ``len(ss)``, ``await ss.contains(x)`` for
``x in ss``, ``await ss.at(i)`` for ``ss[i]``, ``await ss.slice(a, b)`` for ``ss[a:b]``. Iteration is ``async for``.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import redset.sets as blocking
from redset.connect import connect_async as connect
from redset.core.base import PLAIN, SCHEDULED, TIMED, BaseDeadLetters, BaseSet
from redset.core.drivers import AsyncDriver
from redset.locks import AsyncLock as Lock
from redset.reservations import DeadLetter

__all__ = ("DeadLetters", "Lock", "ScheduledSet", "SortedSet", "TimeSortedSet", "connect")

T = TypeVar("T")
Face = TypeVar("Face", bound=type)


def _told_by(original: type) -> Callable[[Face], Face]:
    """Gives a class and its methods the docstrings of their synchronous twins: they say the same, awaited."""

    def tell(twin: Face) -> Face:
        twin.__doc__ = f"The asyncio face of :class:`redset.sets.{original.__name__}`: the same, awaited.\n\n{original.__doc__}"
        for name, member in vars(twin).items():
            if not getattr(member, "__doc__", None):
                member.__doc__ = getattr(getattr(original, name, None), "__doc__", None)
        return twin

    return tell


@_told_by(blocking.SortedSet)
class SortedSet(BaseSet[T, AsyncDriver, Lock]):
    _kind = PLAIN
    _driver_type = AsyncDriver
    _lock_type = Lock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r}>"

    async def add(self, item: T, score: float | None = None) -> float:
        return await self._driver.perform(self._operations.add(item, score))

    async def pop(self) -> T:
        return await self._driver.follow(self._operations.pop())

    async def take(self, num: int) -> list[T]:
        return await self._driver.follow(self._operations.take(num))

    async def peek(self, position: int = 0) -> T:
        return await self._driver.perform(self._operations.peek(position))

    async def peek_score(self) -> float | None:
        return await self._driver.perform(self._operations.peek_score())

    async def score(self, item: T) -> float | None:
        return await self._driver.perform(self._operations.score(item))

    async def contains(self, item: T) -> bool:
        return await self._driver.perform(self._operations.contains(item))

    async def count(self, *, min: float | None = None, max: float | None = None) -> int:
        return await self._driver.perform(self._operations.count(min, max))

    async def at(self, index: int) -> T:
        return await self._driver.perform(self._operations.at(index))

    async def slice(self, start: int | None = None, stop: int | None = None) -> list[T]:
        return await self._driver.perform(self._operations.slice(start, stop))

    def __aiter__(self) -> AsyncIterator[T]:
        return self._driver.iterate(self._operations.first_page())

    async def discard(self, item: T) -> bool:
        return await self._driver.perform(self._operations.discard(item))

    async def clear(self) -> bool:
        return await self._driver.perform(self._operations.clear())

    @property
    def dead_letters(self) -> "DeadLetters[T]":
        return DeadLetters(self._driver, self._operations)


@_told_by(blocking.TimeSortedSet)
class TimeSortedSet(SortedSet[T]):
    _kind = TIMED


@_told_by(blocking.ScheduledSet)
class ScheduledSet(TimeSortedSet[T]):
    _kind = SCHEDULED

    async def available(self) -> int:
        return await self._driver.perform(self._operations.available())


@_told_by(blocking.DeadLetters)
class DeadLetters(BaseDeadLetters[T, AsyncDriver]):
    async def count(self) -> int:
        return await self._driver.perform(self._operations.count_letters())

    async def slice(self, start: int | None = None, stop: int | None = None) -> list[DeadLetter[T]]:
        return await self._driver.perform(self._operations.letters(start, stop))

    def __aiter__(self) -> AsyncIterator[DeadLetter[T]]:
        return self._driver.iterate(self._operations.first_letters())

    async def clear(self) -> bool:
        return await self._driver.perform(self._operations.clear_letters())
