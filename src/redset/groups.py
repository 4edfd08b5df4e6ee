"""The groups of a set's items, on both faces: their limits, their pauses, and what there is to know of them."""

from typing import Any, Generic, TypeVar

from redset.core.drivers import AsyncDriver, Driver
from redset.core.grouping import Limit, group_name
from redset.core.groups import Groups, GroupStats, groups_of
from redset.core.shown import shown
from redset.core.times import Duration, Moment
from redset.core.twins import told_by

__all__ = ("AsyncGroup", "Group", "GroupStats", "Limit")

DriverT = TypeVar("DriverT")


class _Group(Generic[DriverT]):
    __slots__ = ("_driver", "_groups", "_names")

    def __init__(self, driver: DriverT, groups: Groups[Any] | None, set_name: str, name: Any) -> None:
        self._groups = groups_of(groups, set_name)
        group_name(name)
        self._driver = driver
        self._names = set_name, name

    @property
    def set_name(self) -> str:
        """The name of the set."""
        return self._names[0]

    @property
    def name(self) -> Any:
        """The name of the group."""
        return self._names[1]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self.name)} of the set {self.set_name!r}>"


class Group(_Group[Driver]):
    """One group of a set's items, by ``ss.group(name)``; its limits are on the server, for all processes.

    Each method is one round trip and O(log n).
    """

    __slots__ = ()

    def limit(self, leases: int | None = None, pause: Duration | None = None) -> None:
        """Give this group limits of its own, in the place of the set's ``per_group``; without arguments, those again.

        They hold until they are replaced, also after ``clear()``. A lower limit leaves the leases that there are alone.

        :param leases: the number of live leases; a group that has only a ``pause`` has the set's number.
        :param pause: seconds between two claims; a group that has only ``leases`` has the set's pause.
        :raises TypeError: an argument is no number.
        :raises ValueError: an argument is not greater than 0.

        >>> from redset import Limit, SortedSet
        >>> jobs = SortedSet(client, "jobs", group=lambda job: job[0], per_group=Limit(leases=1))
        >>> jobs.group("a").limit(leases=2)
        >>> jobs.update(["a1", "a2", "a3", "b1", "b2"])
        5
        >>> [reservation.item for reservation in jobs.reserve_many(5)]
        ['a1', 'a2', 'b1']
        """
        self._driver.perform(self._groups.limit(self.name, leases, pause))

    def pause(self, until: Moment | None = None) -> None:
        """Let no process claim items of this group, until a moment or until :meth:`resume`. Leases go on.

        :param until: a moment, by the server's clock. Default: no end.
        :raises TypeError: ``until`` is no moment.
        :raises ValueError: ``until`` is NaN, infinite or a naive ``datetime``.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs", group=lambda job: job[0])
        >>> jobs.update(["a1", "b1"])
        2
        >>> jobs.group("a").pause()
        >>> jobs.take(2)
        ['b1']
        """
        self._driver.perform(self._groups.pause(self.name, until))

    def resume(self) -> None:
        """End a pause by :meth:`pause`, and wake a consumer that waits. The pause between two claims goes on."""
        self._driver.perform(self._groups.resume(self.name))

    def stats(self) -> GroupStats:
        """Return how many items of the group wait and are leased, its limit, and until when it rests.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs", group=lambda job: job[0])
        >>> jobs.add("a1", score=3)
        3.0
        >>> stats = jobs.group("a").stats()
        >>> stats.waiting, stats.leases, stats.limit, stats.next_score
        (1, 0, None, 3.0)
        """
        return self._driver.perform(self._groups.stats(self.name))


@told_by(Group)
class AsyncGroup(_Group[AsyncDriver]):
    """One group of a set's items; the methods of :class:`redset.groups.Group`, awaited."""

    __slots__ = ()

    async def limit(self, leases: int | None = None, pause: Duration | None = None) -> None:
        await self._driver.perform(self._groups.limit(self.name, leases, pause))

    async def pause(self, until: Moment | None = None) -> None:
        await self._driver.perform(self._groups.pause(self.name, until))

    async def resume(self) -> None:
        await self._driver.perform(self._groups.resume(self.name))

    async def stats(self) -> GroupStats:
        return await self._driver.perform(self._groups.stats(self.name))
