"""The synchronous face: sets whose calls block until the server has answered.

Each method is a signature, a docstring and the operation that does it; :mod:`redset.aio` has the same, awaited.
"""

import builtins
from collections.abc import Iterator
from typing import TypeVar, overload

from redset.core.base import PLAIN, SCHEDULED, TIMED, BaseDeadLetters, BaseSet
from redset.core.drivers import Driver
from redset.locks import Lock
from redset.reservations import DeadLetter

__all__ = ("DeadLetters", "ScheduledSet", "SortedSet", "TimeSortedSet")

T = TypeVar("T")


class SortedSet(BaseSet[T, Driver, Lock]):
    """A sorted set in Redis or Valkey that any number of processes share and that hands each item out once.

    Items are handed out lowest score first, ties in the order of their serialized bytes. Two items are the same item
    when they serialize to the same bytes.

    Adding: :meth:`add`. Taking: :meth:`pop`, :meth:`take`. Looking: :meth:`peek`, :meth:`peek_score`, :meth:`score`,
    ``in`` or :meth:`contains`, ``len()`` or :meth:`count`, ``[i]`` or :meth:`at`, ``[a:b]`` or :meth:`slice`,
    iteration. Removing: :meth:`discard`, :meth:`clear`. What could not be loaded: :attr:`dead_letters`.

    Every method is one atomic round trip to the server unless it says otherwise. Beside the errors it names, each
    raises what the client raises when the server cannot be reached, and :exc:`~redset.exceptions.WrongTypeError`,
    with nothing changed, when one of the set's keys holds something else.

    :param redis_client: a client with the interface of ``redis.Redis``: redis-py, valkey-py, a cluster client …
    :param name: the key under which the items wait; its companions are named after it.
    :param scorer: a callable that is given the item, before serialization, and returns its score. Default: 0.
    :param serializer: an object with ``dumps`` and ``loads``, see :class:`~redset.interfaces.Serializer`; the module
        :mod:`json` is one. Default: items are stored as ``str(item)`` and come back as str; bytes are stored as
        they are, and come back as bytes where they are not UTF-8.
    :param lock_timeout: seconds that :attr:`lock` waits. Default: 10.
    :param lock_expires: seconds after which :attr:`lock` counts as abandoned. Default: 20.
    """

    _kind = PLAIN
    _driver_type = Driver
    _lock_type = Lock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r}, length={len(self)}>"

    def add(self, item: T, score: float | None = None) -> float:
        """Adds ``item``; one that waits already gets the new score.

        :param score: any int or float but NaN. Default: what the scorer says.
        :returns: the score the item has now.
        :raises TypeError: the score is no number. Like all that is wrong with an item or a score, this is noticed
            before anything is sent.
        :raises ValueError: the score is NaN.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was added.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("write", score=2)
        2.0
        >>> jobs.add("read", score=1)
        1.0
        >>> jobs.add("read", score=1)
        1.0
        >>> len(jobs)
        2
        """
        return self._driver.perform(self._operations.add(item, score))

    def pop(self) -> T:
        """Removes the next item and returns it. At most once: it is lost when the process dies before it is handled.

        An item that cannot be loaded goes to the dead letters and the next one is returned instead (a round trip more
        for each).

        :raises KeyError: there is nothing to take.
        """
        return self._driver.follow(self._operations.pop())

    def take(self, num: int) -> list[T]:
        """Removes the next ``num`` items, or as many as there are, and returns them in order; at most once.

        Items that cannot be loaded go to the dead letters and are left out of the result. One round trip, and atomic,
        for each 1,000 items.
        """
        return self._driver.follow(self._operations.take(num))

    def peek(self, position: int = 0) -> T:
        """The item at ``position`` among those that could be taken now, without removing it.

        :param position: 0 is the next one; negative positions count from the end.
        :raises KeyError: there is nothing at that position.
        :raises DeserializationError: it cannot be loaded; carries the stored bytes.
        """
        return self._driver.perform(self._operations.peek(position))

    def peek_score(self) -> float | None:
        """The score of the next item that could be taken now, or None when there is none."""
        return self._driver.perform(self._operations.peek_score())

    def score(self, item: T) -> float | None:
        """The score of ``item``, or None when it does not wait."""
        return self._driver.perform(self._operations.score(item))

    def contains(self, item: T) -> bool:
        """Whether ``item`` waits: ``item in ss``."""
        return self._driver.perform(self._operations.contains(item))

    def __contains__(self, item: T) -> bool:
        return self.contains(item)

    def count(self, *, min: float | None = None, max: float | None = None) -> int:
        """How many items wait whose score is at least ``min`` and at most ``max``; without bounds, ``len(ss)``."""
        return self._driver.perform(self._operations.count(min, max))

    def __len__(self) -> int:
        return self.count()

    def at(self, index: int) -> T:
        """The waiting item at a position in order: ``ss[index]``.

        :raises IndexError: there is nothing at that position.
        :raises DeserializationError: it cannot be loaded; carries the stored bytes.
        """
        return self._driver.perform(self._operations.at(index))

    def slice(self, start: int | None = None, stop: int | None = None) -> list[T]:
        """The waiting items from one position up to before another: ``ss[start:stop]``."""
        return self._driver.perform(self._operations.slice(start, stop))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: builtins.slice) -> list[T]: ...
    def __getitem__(self, index: int | builtins.slice) -> T | list[T]:
        if not isinstance(index, builtins.slice):
            return self.at(index)
        if index.step not in (None, 1):
            raise ValueError(f"a set is sliced in steps of 1, not {index.step!r}")
        return self.slice(index.start, index.stop)

    def __iter__(self) -> Iterator[T]:
        """Yields the waiting items in order, 1,000 a round trip.

        An item that stays with its score is yielded exactly once whatever others add or take meanwhile, and the
        iteration ends at the item that was last when it began.
        """
        return self._driver.iterate(self._operations.first_page())

    def discard(self, item: T) -> bool:
        """Removes ``item``; True when it was waiting."""
        return self._driver.perform(self._operations.discard(item))

    def clear(self) -> bool:
        """Removes everything, dead letters too; True when there was something."""
        return self._driver.perform(self._operations.clear())

    @property
    def dead_letters(self) -> "DeadLetters[T]":
        """What will not be handed out any more: ``len()``, iteration (newest first), slices and ``clear()``."""
        return DeadLetters(self._driver, self._operations)


class TimeSortedSet(SortedSet[T]):
    """A :class:`SortedSet` scored by the time of adding, oldest first: a queue in which a busy item moves to the back.

    The time is the client's (``time.time()``), in seconds since the epoch, since a scorer is a Python callable:
    producers whose clocks differ interleave by as much.
    """

    _kind = TIMED


class ScheduledSet(TimeSortedSet[T]):
    """A :class:`TimeSortedSet` that hands out only what is due: items whose score is not in the future.

    Due is decided by the server's clock, once for all consumers. An item without a score is due at once, as far as
    the clock of the client that added it agrees. ``len()``, ``in``, positions, slices and iteration see all that waits;
    :meth:`pop`, :meth:`take`, :meth:`peek`, :meth:`peek_score` and :meth:`available` only what is due.
    """

    _kind = SCHEDULED

    def available(self) -> int:
        """How many items are due."""
        return self._driver.perform(self._operations.available())


class DeadLetters(BaseDeadLetters[T, Driver]):
    """The items of a set that will not be handed out any more, newest first.

    ``len()`` or :meth:`count`, iteration, ``[a:b]`` or :meth:`slice`, :meth:`clear`. One round trip each; iteration takes
    one for each 1,000.
    """

    def count(self) -> int:
        """How many there are: ``len(letters)``."""
        return self._driver.perform(self._operations.count_letters())

    def __len__(self) -> int:
        return self.count()

    def slice(self, start: int | None = None, stop: int | None = None) -> list[DeadLetter[T]]:
        """Those from one position up to before another, newest first: ``letters[start:stop]``."""
        return self._driver.perform(self._operations.letters(start, stop))

    def __getitem__(self, index: builtins.slice) -> list[DeadLetter[T]]:
        if index.step not in (None, 1):
            raise ValueError(f"dead letters are sliced in steps of 1, not {index.step!r}")
        return self.slice(index.start, index.stop)

    def __iter__(self) -> Iterator[DeadLetter[T]]:
        return self._driver.iterate(self._operations.first_letters())

    def clear(self) -> bool:
        """Forgets them all; True when there were any."""
        return self._driver.perform(self._operations.clear_letters())
