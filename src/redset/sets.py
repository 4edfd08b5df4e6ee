"""The synchronous face: sets whose calls block until the server has answered.

Each method is a signature, a docstring and the operation that does it; :mod:`redset.aio` has the same, awaited.
"""

import builtins
import logging
from collections.abc import Callable, Iterable, Iterator, MutableSet
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from redset.core.adding import flagged
from redset.core.algebra import Algebra
from redset.core.base import BaseDeadLetters, BaseExpiring, BasePeriodic, BaseSet, T
from redset.core.consuming import BaseConsumption, Stop
from redset.core.definition import PLAIN, SCHEDULED, TIMED
from redset.core.drivers import Driver
from redset.core.expiring import Newcomers
from redset.core.interruptions import is_interruption
from redset.core.items import Key
from redset.core.paging import Stretch
from redset.locks import Lock
from redset.reservations import DeadLetter, Reservation, Stats

__all__ = ("Consumption", "DeadLetters", "ExpiringSet", "PeriodicSet", "ScheduledSet", "SortedSet", "TimeSortedSet")

log = logging.getLogger("redset")

S = TypeVar("S")
Operator = TypeVar("Operator", bound=Callable[[Any, Any], Any])


def _with(kind: type) -> Callable[[Operator], Operator]:
    """Has an operator leave whatever is not of this kind to the other side."""

    def restrict(operate: Operator) -> Operator:
        @wraps(operate)
        def restricted(self: Any, other: Any) -> Any:
            return operate(self, other) if isinstance(other, kind) else NotImplemented

        return cast("Operator", restricted)

    return restrict


class SetOperators(MutableSet[T]):
    """The operators and comparisons of ``set``, and their named forms: what every set can do beside others."""

    _driver: Driver
    _algebra: Algebra[T]

    # What the right side is decides in the core; here it only must be iterable, or a set.

    def copy(self) -> set[T]:
        """The items as a plain set; one round trip for each 1,000.

        Here and in every form that makes a new set, items come in stored form: as they come back from the set. Those
        that cannot be hashed raise TypeError.
        """
        return self._driver.follow(self._algebra.union())

    def union(self, *others: Iterable[Any]) -> set[T]:
        """What is in this set or in one of ``others``, as a plain set: ``ss | other``.

        Two items are the same when this set serializes them to the same bytes, or when its ``key`` gives them one
        identity. It takes a round trip for each 1,000 items that are read of a set on a server, or asked for on behalf
        of an iterable, so it is no snapshot: what others change meanwhile may be seen or not. A redset set on the same
        client and with the same serializer (and key) is compared on the server, so that only what makes a difference
        is read; on a cluster only when both are in one slot. All this holds for every operator, comparison and named
        form.

        :raises TypeError: an item of an iterable cannot be serialized, or one of the result cannot be hashed. What the
            serializer raises passes through.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"])
        2
        >>> sorted(jobs | {"write", "sing"}), jobs & {"write", "sing"}, jobs - {"write", "sing"}
        (['read', 'sing', 'write'], {'write'}, {'read'})
        >>> jobs == {"read", "write"}, jobs <= {"read"}
        (True, False)
        """
        return self._driver.follow(self._algebra.union(others))

    def intersection(self, *others: Iterable[Any]) -> set[T]:
        """What is in this set and in all of ``others``, as a plain set: ``ss & other``; see :meth:`union`."""
        return self._driver.follow(self._algebra.intersection(others))

    def difference(self, *others: Iterable[Any]) -> set[T]:
        """What is in this set and in none of ``others``, as a plain set: ``ss - other``; see :meth:`union`.

        The identities of an iterable, and of a set with another serializer, are held in memory.
        """
        return self._driver.follow(self._algebra.difference(others))

    def symmetric_difference(self, other: Iterable[Any]) -> set[T]:
        """What is in this set or in ``other``, but not both, as a plain set: ``ss ^ other``; see :meth:`union`."""
        return self._driver.follow(self._algebra.symmetric_difference(other))

    def equals(self, other: Iterable[Any]) -> bool:
        """Whether the same items are here and in ``other``, whatever their scores: ``ss == other``.

        What the serializer refuses is not in this set. The identities of an iterable are held in memory.
        """
        return self._driver.follow(self._algebra.equals(other))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Whether all that is in this set is in ``other``: ``ss <= other``; see :meth:`equals`."""
        return self._driver.follow(self._algebra.issubset(other))

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Whether all of ``other`` is in this set: ``ss >= other``; what the serializer refuses is not."""
        return self._driver.follow(self._algebra.issuperset(other))

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Whether nothing of ``other`` is in this set."""
        return self._driver.follow(self._algebra.isdisjoint(other))

    def union_update(self, *others: Iterable[Any]) -> None:
        """Adds what is not here yet, as ``add`` does by default; what is here stays as it is: ``ss |= other``.

        This and the other forms that work in place change 1,000 items at a time, each time atomically. What an
        iterable raises passes through with a note that says how far it came.
        """
        self._driver.follow(self._algebra.union_update(others))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Discards what is here and not in all of ``others``: ``ss &= other``; see :meth:`union_update`.

        The identities of an iterable are held in memory, and nothing is discarded until it came to its end.
        """
        self._driver.follow(self._algebra.intersection_update(others))

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Discards the items of ``others``, leased or not: ``ss -= other``; see :meth:`union_update`."""
        self._driver.follow(self._algebra.difference_update(others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """Discards the items of ``other`` that are here, and adds the rest: ``ss ^= other``; see :meth:`union_update`.

        The identities of ``other`` are held in memory, since each counts once.
        """
        self._driver.follow(self._algebra.symmetric_difference_update(other))

    # AbstractSet asks for a set where any iterable will do, here as in its own methods; and the items of its results
    # may be of the other side's type, while here they have been through the serializer.

    @_with(Iterable)
    def __or__(self, other: Iterable[Any]) -> set[T]:
        return self.union(other)

    @_with(Iterable)
    def __and__(self, other: Iterable[Any]) -> set[T]:
        return self.intersection(other)

    @_with(Iterable)
    def __sub__(self, other: Iterable[Any]) -> set[T]:
        return self.difference(other)

    @_with(Iterable)
    def __xor__(self, other: Iterable[Any]) -> set[T]:
        return self.symmetric_difference(other)

    @_with(Iterable)
    def __rsub__(self, other: Iterable[Any]) -> set[T]:
        return self._driver.follow(self._algebra.difference_from(other))

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

    @_with(Iterable)
    def __ior__(self, other: Iterable[Any]) -> Self:
        self.union_update(other)
        return self

    @_with(Iterable)
    def __iand__(self, other: Iterable[Any]) -> Self:
        self.intersection_update(other)
        return self

    @_with(Iterable)
    def __isub__(self, other: Iterable[Any]) -> Self:
        self.difference_update(other)
        return self

    @_with(Iterable)
    def __ixor__(self, other: Iterable[Any]) -> Self:
        self.symmetric_difference_update(other)
        return self

    def __eq__(self, other: object) -> bool:
        return self.equals(other) if isinstance(other, AbstractSet) else NotImplemented

    @_with(AbstractSet)
    def __le__(self, other: AbstractSet[Any]) -> bool:
        return self.issubset(other)

    @_with(AbstractSet)
    def __ge__(self, other: AbstractSet[Any]) -> bool:
        return self.issuperset(other)

    @_with(AbstractSet)
    def __lt__(self, other: AbstractSet[Any]) -> bool:
        return self._driver.follow(self._algebra.is_proper_subset(other))

    @_with(AbstractSet)
    def __gt__(self, other: AbstractSet[Any]) -> bool:
        return self._driver.follow(self._algebra.is_proper_superset(other))

    __hash__ = None  # type: ignore[assignment] # as in set, which typeshed declares in the same way

    @classmethod
    def _from_iterable(cls, it: Iterable[S]) -> set[S]:
        return set(it)


class SortedSet(BaseSet[Driver, Lock, Reservation[T], T], SetOperators[T]):
    """A sorted set in Redis or Valkey that any number of processes share and that hands each item out once.

    Items are handed out lowest score first, ties in the order of their serialized bytes. Two items are the same item
    when they serialize to the same bytes.

    - Adding: :meth:`add`, :meth:`update`, :meth:`increment`.
    - Taking for good, at most once: :meth:`pop`, :meth:`take`, :meth:`pop_max`, :meth:`take_max`. Under a lease, at
      least once: :meth:`reserve`, :meth:`reserve_many`, :meth:`consume`; ending leases in bulk: :meth:`ack`,
      :meth:`nack`, :meth:`again`, :meth:`extend`.
    - Looking at what could be taken now: :meth:`peek`, :meth:`peek_score`. At all that waits: ``len()``, ``in``,
      ``[i]``, ``[a:b]``, or :meth:`count`, :meth:`contains`, :meth:`at`, :meth:`slice`; :meth:`contains_many`,
      :meth:`score`, :meth:`scores`, :meth:`index`. At the whole: :meth:`stats`.
    - Iterating: ``for item in ss``, :meth:`reversed`, :meth:`with_scores`, :meth:`between`.
    - Removing: :meth:`discard`, :meth:`remove`, :meth:`clear`; ``del ss[i]``, ``del ss[a:b]``, or :meth:`remove_at`,
      :meth:`remove_slice`; :meth:`remove_between`.
    - Beside other sets: the operators and comparisons of ``set``, and their named forms, see :meth:`union`.
    - Values and memory: :meth:`get`, :meth:`is_done`, :meth:`forget`. What died: :attr:`dead_letters`.

    Every method is one atomic round trip to the server unless it says otherwise. Beside the errors it names, each
    raises what the client raises when the server cannot be reached, and :exc:`~redset.exceptions.WrongTypeError`,
    with nothing changed, when one of the set's keys holds something else.

    :param redis_client: a client with the interface of ``redis.Redis``: redis-py, valkey-py, a cluster client … One of
        the other face, a pipeline, a URL or None raises TypeError.
    :param name: the key under which the items wait; its companions are named after it.
    :param scorer: a callable that is given the item, before serialization, and returns its score. Default: 0.
    :param serializer: an object with ``dumps`` and ``loads``, see :class:`~redset.interfaces.Serializer`; the module
        :mod:`json` is one. Default: items are stored as ``str(item)`` and come back as str; bytes are stored as
        they are, and come back as bytes where they are not UTF-8.
    :param lock_timeout: seconds that :attr:`lock` waits. Default: 10.
    :param lock_expires: seconds after which :attr:`lock` counts as abandoned. Default: 20.
    :param max_attempts: after how many deliveries an item that was nacked, or whose lease ran out, becomes a dead
        letter. Default: never.
    :param backoff: a callable that is given the number of the attempt that failed, 1 at first, and returns for how many
        seconds the item is held back. Default: up to 1 s, 2 s, 4 s … an hour, any moment as likely as any other.
    :param max_dead: how many dead letters are kept. Of more, the oldest are dropped, with a warning in the log.
        Default: all are kept.
    :param key: a callable that is given an item and returns its identity: a str, bytes, or what has a ``str`` of its
        own, but not None. Items
        with one identity are one item, and what is handed out is the newest that was added. Default: an item is its
        serialized bytes.
    :param remember: for how many seconds finished items are remembered: those that were acked, or taken for good. A
        remembered item is left out when it is added, and so is a dead one, until :meth:`forget` or a retry. Default:
        not at all.
    :param digest: whether a hash of 16 bytes is kept of each remembered item instead of the item.
    :param duplicates: which score stands when an item that waits is added again: the newest (``"update"``, the
        default), the first (``"keep"``), the lowest (``"earliest"``) or the highest (``"latest"``).
    :param retry_safe: whether the server keeps the reply of each call for ten minutes, so that a client that repeats a
        call whose reply was lost, as redis-py does, loses nothing and gets nothing twice.
    :param connections: ``"own"``: calls use connections of redset's own where the client is a plain one of redis-py or
        valkey-py, made with the arguments of its pool and at most as many. ``"client"``: each command passes through
        the client's ``execute_command``.
    """

    _kind = PLAIN
    _driver_type = Driver
    _lock_type = Lock
    _reservation_type = Reservation

    def add(  # type: ignore[override] # the add of MutableSet has no score to take or to return
        self,
        item: T,
        score: float | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> float | None:
        """Adds ``item``. What becomes of one that waits already is said by the flags, or else by ``duplicates``.

        :param score: any int or float but NaN. Default: what the scorer says.
        :param nx: only adds it if it does not wait yet.
        :param xx: only changes the score if it waits.
        :param gt: only raises the score of an item that waits. With ``xx`` it is not added if it does not.
        :param lt: only lowers it, likewise.
        :returns: the score the item has now; None when it does not wait now: it was left out, being done and
            remembered, or dead on a set that remembers, or it did not wait and ``xx`` was given.
        :raises TypeError: the score is no number. Like all that is wrong with an item or a score, this is noticed
            before anything is sent.
        :raises ValueError: the score is NaN, or the flags contradict each other.
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
        rule = flagged(nx=nx, xx=xx, gt=gt, lt=lt) if nx or xx or gt or lt else None
        return self._driver.perform(self._adding.add(item, score, rule))

    def update(self, *iterables: Iterable[T], score: float | Callable[[T], float] | None = None) -> int:
        """Adds all items of ``iterables`` and returns how many were new.

        One round trip, and atomic, for each 1,000 items, of which no more are held at a time. What an iterable, the
        scorer or the serializer raises passes through with a note that says how many items were added before.

        :param score: a number for all, or a callable that is given an item and stands in for the scorer.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], (f"step {number}" for number in range(3)), score=len)
        5
        >>> list(jobs)
        ['read', 'write', 'step 0', 'step 1', 'step 2']
        """
        return self._driver.follow(self._adding.update(iterables, score))

    def increment(self, item: T, by: float) -> float | None:
        """Adds ``by`` to the score of ``item``, or adds it with that score if it does not wait.

        :returns: the score the item has now; None when it was left out, as by :meth:`add`.
        :raises TypeError: ``by`` is no number.
        :raises ValueError: the sum is no number: that of two opposite infinities.
        """
        return self._driver.perform(self._adding.increment(item, by))

    def pop(self, wait: float | None = 0) -> T:
        """Removes the next item and returns it. At most once: it is lost when the process dies before it is handled.

        An item that cannot be loaded goes to the dead letters and the next one is returned instead (two round trips
        more for each).

        :param wait: for how many seconds to wait for an item when there is none; None for ever. Waiting takes some five
            round trips a second.
        :raises KeyError: there is nothing to take.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("write", score=2), jobs.add("read", score=1)
        (2.0, 1.0)
        >>> jobs.pop()
        'read'
        """
        return self._driver.follow(self._hand_outs.pop(wait))

    def take(self, num: int, wait: float | None = 0) -> list[T]:
        """Removes the next ``num`` items, or as many as there are, and returns them in order; at most once.

        Items that cannot be loaded go to the dead letters. One round trip, and atomic, for each 1,000 items.

        :param wait: for how many seconds to wait for the first item when there is none; None for ever.
        """
        return self._driver.follow(self._hand_outs.take(num, wait))

    def pop_max(self, wait: float | None = 0) -> T:
        """Removes the last item of those that could be taken now, the one of the highest score; else like :meth:`pop`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("write", score=2), jobs.add("read", score=1)
        (2.0, 1.0)
        >>> jobs.pop_max()
        'write'
        """
        return self._driver.follow(self._hand_outs.pop(wait, last=True))

    def take_max(self, num: int, wait: float | None = 0) -> list[T]:
        """Removes the last ``num`` items, or as many as there are, the last one first; like :meth:`take`."""
        return self._driver.follow(self._hand_outs.take(num, wait, last=True))

    def reserve(self, lease: float = 60.0, wait: float | None = 0) -> Reservation[T]:
        """Takes the next item under a lease. At least once: it comes back when it is not acked before the lease ends.

        Nobody else gets the item meanwhile; if it is added again, that waits until the lease has ended.

        :param lease: seconds.
        :param wait: for how many seconds to wait for an item when there is none; None for ever.
        :raises KeyError: there is nothing to take.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> with jobs.reserve() as job:
        ...     job
        'read'
        """
        return self._driver.follow(self._hand_outs.reserve(lease, wait))

    def reserve_many(self, num: int, lease: float = 60.0, wait: float | None = 0) -> list[Reservation[T]]:
        """Takes the next ``num`` items, or as many as there are, each under a lease of its own; see :meth:`reserve`.

        One round trip, and atomic, for each 1,000 items.
        """
        return self._driver.follow(self._hand_outs.reserve_many(num, lease, wait))

    def consume(
        self,
        lease: float = 60.0,
        batch: int = 1,
        wait: float | None = None,
        stop: Stop = None,
        max_outage: float | None = None,
    ) -> "Consumption[T]":
        """Iterates over reservations for as long as wanted: going on to the next one acks the one before.

        The acks travel with the next hand-out, in one round trip. A reservation that the body ended itself is left
        alone. On leaving the loop, what was not begun is given back as if it had never been delivered, and the one in
        hand as a failed attempt without delay, since a ``break`` and an exception look alike here: who is done with it
        acks it before leaving.

        :param lease: seconds, for each item of a batch from when it is claimed. The ack of an item leaves when the loop
            asks for more. With less than half of the lease left by then, items that were not begun are given back. An
            item whose lease expired before its turn or its ack is counted in :attr:`Consumption.lost`.
        :param batch: how many items to take at once.
        :param wait: after how many seconds without an item the loop ends; None for never.
        :param stop: an event, or a callable: the loop ends when it is set, or returns true.
        :param max_outage: for how many seconds the server may be away before the client's error is raised. Default:
            for ever. The first contact fails at once.
        :raises RuntimeError: from a second iterator over one loop.
        :raises ValueError: a batch of several items with ``max_attempts=1``.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read", score=1), jobs.add("write", score=2)
        (1.0, 2.0)
        >>> for reservation in jobs.consume(wait=0):
        ...     print(reservation.item)
        read
        write
        """
        return Consumption(self._driver, self._hand_outs, self._endings, lease, batch, wait, stop, max_outage)

    def ack(self, reservations: Iterable[Reservation[T]]) -> list[Reservation[T]]:
        """Acks many reservations in one round trip for each 1,000; returns those whose lease was lost already."""
        return self._driver.follow(self._endings.ack(reservations))

    def nack(
        self, reservations: Iterable[Reservation[T]], delay: float | None = None, reason: str = ""
    ) -> list[Reservation[T]]:
        """Nacks many reservations, each after its own backoff, or all after ``delay`` seconds.

        Like :meth:`ack`, but one round trip for each 400.
        """
        return self._driver.follow(self._endings.nack(reservations, delay, reason))

    def again(
        self, reservations: Iterable[Reservation[T]], delay: float = 0, score: float | None = None
    ) -> list[Reservation[T]]:
        """Gives many reservations back without counting an attempt, like :meth:`nack`."""
        return self._driver.follow(self._endings.again(reservations, delay, score))

    def extend(self, reservations: Iterable[Reservation[T]], lease: float) -> list[Reservation[T]]:
        """Has many leases end ``lease`` seconds from now, like :meth:`ack`."""
        return self._driver.follow(self._endings.extend(reservations, lease))

    def peek(self, position: int = 0) -> T:
        """The item at ``position`` among those that could be taken now, without removing it.

        :param position: 0 is the next one; negative positions count from the end.
        :raises KeyError: there is nothing at that position.
        :raises DeserializationError: it cannot be loaded; carries the stored bytes.
        """
        return self._driver.perform(self._looking.peek(position))

    def peek_score(self) -> float | None:
        """The score of the next item that could be taken now, or None when there is none."""
        return self._driver.perform(self._looking.peek_score())

    def score(self, item: T | Key) -> float | None:
        """The score of ``item``, or None when it does not wait."""
        return self._driver.perform(self._looking.score(item))

    def scores(self, items: Iterable[T | Key]) -> list[float | None]:
        """The score of each of ``items``, None for those that do not wait; one round trip for each 1,000."""
        return self._driver.follow(self._looking.scores_of_all(items))

    def contains(self, item: T | Key) -> bool:
        """Whether ``item`` waits: ``item in ss``. What the serializer refuses does not."""
        return self._driver.perform(self._looking.contains(item))

    def contains_many(self, items: Iterable[T | Key]) -> list[bool]:
        """Whether each of ``items`` waits; one round trip for each 1,000."""
        return self._driver.follow(self._looking.contains_many(items))

    def __contains__(self, item: object) -> bool:
        return self.contains(item)  # type: ignore[arg-type] # what the set cannot hold is not in it

    def get(self, item: T | Key) -> T | None:
        """The newest value of ``item`` on a set with a ``key``, whatever state it is in, or None when it is in none.

        :raises TypeError: the set has no ``key``.
        """
        return self._driver.perform(self._looking.get(item))

    def is_done(self, item: T | Key) -> bool:
        """Whether ``item`` is remembered as done, on a set that remembers."""
        return self._driver.perform(self._looking.is_done(item))

    def forget(self, item: T | Key) -> bool:
        """Forgets that ``item`` was done, or that it died, so that it can be added again; True when it was either."""
        return self._driver.perform(self._removing.forget(item))

    def count(
        self, *, min: float | None = None, max: float | None = None, inclusive: tuple[bool, bool] = (True, True)
    ) -> int:
        """How many items wait whose score is at least ``min`` and at most ``max``; without bounds, ``len(ss)``.

        :param inclusive: whether ``min`` itself is within the bounds, and whether ``max`` is.
        """
        return self._driver.perform(self._looking.count(min, max, inclusive))

    def __len__(self) -> int:
        return self.count()

    def index(self, item: T | Key) -> int:
        """The position of ``item`` in order: ``ss[ss.index(item)] == item``.

        :raises ValueError: it does not wait.
        """
        return self._driver.perform(self._looking.index(item))

    def at(self, index: int) -> T:
        """The waiting item at a position in order: ``ss[index]``.

        :raises IndexError: there is nothing at that position.
        :raises DeserializationError: it cannot be loaded; carries the stored bytes.
        """
        return self._driver.perform(self._looking.at(index))

    def slice(self, start: int | None = None, stop: int | None = None) -> list[T]:
        """The waiting items from one position up to before another, as in a list: ``ss[start:stop]``.

        One call, however many items that are; iteration and :meth:`between` are for those that are very many.
        """
        return self._driver.perform(self._looking.slice(start, stop))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: builtins.slice) -> list[T]: ...
    def __getitem__(self, index: int | builtins.slice) -> T | list[T]:
        if not isinstance(index, builtins.slice):
            return self.at(index)
        _check_step(index)
        return self.slice(index.start, index.stop)

    def __iter__(self) -> Iterator[T]:
        """Yields the waiting items in order, a thousand or two a round trip, of which no more are held at a time.

        An item that stays with its score is yielded exactly once whatever others add, take or move meanwhile, and the
        iteration ends at the item that was last when it began. Nothing is written, so that it works on a replica.
        """
        return self._driver.iterate(self._paging.items())

    def reversed(self) -> Iterator[T]:
        """Yields the waiting items in reverse order, ``reversed(ss)``; as in iteration, to the one that was first."""
        return self._driver.iterate(self._paging.items(Stretch(reverse=True)))

    def __reversed__(self) -> Iterator[T]:
        return self.reversed()

    def with_scores(self) -> Iterator[tuple[T, float]]:
        """Yields each waiting item and its score, in order; as in iteration.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> list(jobs.with_scores())
        [('read', 4.0), ('write', 5.0)]
        """
        return self._driver.iterate(self._paging.with_scores())

    def between(
        self,
        min: float | None = None,
        max: float | None = None,
        *,
        inclusive: tuple[bool, bool] = (True, True),
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[T]:
        """Yields the waiting items whose score is at least ``min`` and at most ``max``, in order; as in iteration.

        :param inclusive: whether ``min`` itself is within the bounds, and whether ``max`` is.
        :param limit: how many to yield at most; None for all.
        :param reverse: whether to begin at ``max``. The bounds keep their order.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> list(jobs.between(4, 7, inclusive=(False, True), reverse=True))
        ['rewrite', 'write']
        """
        return self._driver.iterate(self._paging.items(Stretch(min, max, inclusive, limit, reverse)))

    def stats(self) -> Stats:
        """How many items are in each state, and how old the oldest is."""
        return self._driver.perform(self._looking.stats())

    def discard(self, item: T | Key) -> bool:  # type: ignore[override] # that of MutableSet tells nothing
        """Removes ``item`` whether it waits or is leased; True when it was there.

        Who holds it finds the lease lost: this is how work is cancelled. A dead letter stays one.
        """
        return self._driver.perform(self._removing.discard(item))

    def remove(self, item: T | Key) -> None:
        """Removes ``item`` like :meth:`discard`.

        :raises KeyError: it was not there.
        """
        self._driver.perform(self._removing.remove(item))

    def remove_at(self, index: int) -> None:
        """Removes the waiting item at a position in order: ``del ss[index]``.

        :raises IndexError: there is nothing at that position.
        """
        self._driver.perform(self._removing.remove_at(index))

    def remove_slice(self, start: int | None = None, stop: int | None = None) -> int:
        """Removes the waiting items from one position up to before another, ``del ss[start:stop]``; returns how many.

        This is about what waits: who holds one of them under a lease goes on. One round trip, and atomic, for each
        1,000 items; of more, what others add or remove meanwhile shifts the positions.
        """
        return self._driver.follow(self._removing.remove_slice(start, stop))

    def __delitem__(self, index: int | builtins.slice) -> None:
        if not isinstance(index, builtins.slice):
            self.remove_at(index)
        else:
            _check_step(index)
            self.remove_slice(index.start, index.stop)

    def remove_between(
        self,
        min: float | None = None,
        max: float | None = None,
        *,
        inclusive: tuple[bool, bool] = (True, True),
    ) -> int:
        """Removes the waiting items whose score is at least ``min`` and at most ``max``; returns how many.

        This is about what waits: who holds one of them under a lease goes on. One round trip, and atomic, for each
        1,000 items; no more are removed than there were at the first of these.

        :param inclusive: whether ``min`` itself is within the bounds, and whether ``max`` is.
        """
        return self._driver.follow(self._removing.remove_between(min, max, inclusive))

    def clear(self) -> bool:  # type: ignore[override] # likewise
        """Removes everything, dead letters too, and ends all leases; True when there was something."""
        return self._driver.perform(self._removing.clear())

    @property
    def dead_letters(self) -> "DeadLetters[T]":
        """What will not be handed out any more."""
        return DeadLetters(self._driver, self._letters)


def _check_step(index: builtins.slice) -> None:
    if index.step not in (None, 1):
        raise ValueError(f"a set is sliced in steps of 1, not {index.step!r}")


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
        return self._driver.perform(self._looking.available())


class PeriodicSet(BasePeriodic[Driver, Lock, Reservation[T], T], ScheduledSet[T]):
    """Things to be done again and again, each exactly once per interval however many pollers there are.

    An item is due at its ticks. Taking one that is due plans its next tick in the same step on the server: a whole
    number of intervals after the last planned one, so nothing drifts, and ticks that were missed are not made up for.
    An item that is taken under a lease is held out of the schedule until it is acked, and waits for its next tick then;
    a nack has it tried again after the backoff without disturbing the rhythm. All by the server's clock: when that is
    set back, an item stays planned for when it was.

    Otherwise it is a :class:`ScheduledSet`; scores are the next ticks, in seconds since the epoch. Another program that
    adds to it with ZADD plans the next tick of an item, whether it is there or not.

    :param interval: seconds between two ticks of an item that has no interval of its own.
    :param scorer: a callable that is given the item and returns its first tick, in seconds since the epoch. Default:
        now, by the server's clock.
    :param jitter: over how many seconds first ticks are spread, evenly and at random, so that a million items that are
        added at once do not fall due at once; not those that are named by ``first``.

    >>> from redset import PeriodicSet
    >>> feeds = PeriodicSet(client, "feeds", interval=3600)
    >>> feeds.add("https://example.org/feed"), feeds.add("https://example.org/feed")
    (True, False)
    >>> feeds.take(10), feeds.take(10)
    (['https://example.org/feed'], [])
    """

    _kind = SCHEDULED

    def add(  # type: ignore[override] # what is periodic has an interval, and no score of its own
        self, item: T, interval: float | None = None, first: float | None = None
    ) -> bool:
        """Adds ``item``; True when it was not there, neither waiting nor in work. What is there keeps its place.

        One that is dead is new.

        :param interval: seconds between its ticks; a new one applies from its next tick on. Default: what it has
            already, or else that of the set.
        :param first: when it falls due first, in seconds since the epoch. Default: what the scorer says.
        :raises TypeError: a number is none. Like all that is wrong with an item, noticed before anything is sent.
        :raises ValueError: the interval is not positive and finite, or ``first`` is NaN.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was added.
        """
        return self._driver.perform(self._scheduling.schedule(item, interval, first))

    def update(  # type: ignore[override]
        self,
        *iterables: Iterable[T],
        interval: float | Callable[[T], float] | None = None,
        first: float | Callable[[T], float] | None = None,
    ) -> int:
        """Adds all items and returns how many were new; one round trip, and atomic, for each 1,000. See :meth:`add`.

        :param interval: seconds for all, or a callable that is given each item.
        :param first: the same.
        """
        return self._driver.follow(self._scheduling.schedule_many(iterables, interval, first))

    def interval(self, item: T | Key) -> float | None:
        """How many seconds lie between the ticks of ``item``; None when it is not there."""
        return self._driver.perform(self._scheduling.planned(item)).interval

    def next_due(self, item: T | Key) -> float | None:
        """When ``item`` falls due, in seconds since the epoch; None when it is not there or somebody has it."""
        return self._driver.perform(self._scheduling.planned(item)).next_due


class ExpiringSet(BaseExpiring[Driver, T], SetOperators[T]):
    """A set in Redis or Valkey that any number of processes share and whose items each live for their own time.

    It says once and for all whether something was seen: of however many processes that add an item exactly one is told
    that it is new, until its time is over by the server's clock. Two items are the same item when they serialize to
    the same bytes.

    - Adding: :meth:`add`, :meth:`add_new`. Living longer, or shorter: :meth:`touch`.
    - Looking: ``len()``, ``in``, iteration; or :meth:`count`, :meth:`contains`, :meth:`contains_many`; :meth:`ttl`.
    - Removing: :meth:`discard`, :meth:`remove`, :meth:`pop`, :meth:`clear`.
    - Beside other sets: the operators and comparisons of ``set``, and their named forms, see :meth:`union`.

    Every method is one atomic round trip to the server unless it says otherwise. Beside the errors it names, each
    raises what the client raises when the server cannot be reached, and :exc:`~redset.exceptions.WrongTypeError`,
    with nothing changed, when one of the set's keys holds something else.

    An item whose time is over is not in the set any more, whether or not it still takes memory: every call that writes
    frees that of some of them, more than it adds, and the key expires with its last item when nobody comes any more.

    Programs in other languages see a sorted set: item, until when it lives in seconds since the epoch. Whoever adds to
    it by ZADD what lives longer than all that was there sends PERSIST behind that, or the key expires before; the next
    write from here has it expire with its last item again.

    :param redis_client: a client with the interface of ``redis.Redis``: redis-py, valkey-py, a cluster client …
    :param name: the key under which the items are; the records of calls are named after it.
    :param ttl: for how many seconds an item lives that is added without a time of its own; more than 0.
    :param serializer: an object with ``dumps`` and ``loads``, see :class:`~redset.interfaces.Serializer`. Default:
        items are stored as ``str(item)`` and come back as str; bytes are stored as they are.
    :param digest: whether only a hash is kept of each item, the first 16 bytes of the SHA-1 of what it serializes to,
        which saves the memory of long items. Such a set can be asked for items and added to, but what needs its items
        raises TypeError: iteration, and of the operators those whose outcome can have what only this set has. Two items
        whose hashes agree would be taken for one, which is to be expected among some 10^19.
    :param retry_safe: whether the server keeps the reply of each call for ten minutes, so that an ``add`` which a
        client repeats because its reply was lost, as redis-py does, says what it said before.

    >>> from redset import ExpiringSet
    >>> seen = ExpiringSet(client, "seen", ttl=24 * 3600)
    >>> seen.add("/a"), seen.add("/a"), "/a" in seen
    (True, False, True)
    >>> seen.add_new(["/a", "/b", "/c", "/b"])
    ['/b', '/c']
    >>> seen.touch("/b", ttl=60), round(seen.ttl("/b")), seen.ttl("/d")
    (True, 60, None)
    >>> list(seen)
    ['/b', '/a', '/c']
    >>> {"/c", "/d"} - seen
    {'/d'}
    """

    _driver_type = Driver

    def add(self, item: T, ttl: float | None = None) -> bool:  # type: ignore[override] # that of MutableSet tells nothing
        """Adds ``item``; one that is there keeps its time.

        :param ttl: for how many seconds it lives. Default: that of the set.
        :returns: True when it was not there: never added, removed, or its time was over.
        :raises TypeError: ``ttl`` is no number. Like all that is wrong with an item, noticed before anything is sent.
        :raises ValueError: ``ttl`` is not more than 0, or not finite.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was added.
        """
        return self._driver.perform(self._expiring.add(item, ttl))

    def add_new(self, items: Iterable[T], ttl: float | None = None) -> list[T]:
        """Adds those of ``items`` that are not there, and returns these: your own objects, in order, each item once.

        One round trip, and atomic, for each 1,000 items; of an iterator no more are held at a time, beside those that
        were new. What it raises passes through, as does what the serializer or the server raises, with a note that says
        how far this came. What was new until then is new to nobody else any more, so the error has it: a list, in its
        attribute ``new_items``. Of a call whose reply never came nobody knows whether it added its items.

        :param ttl: for how many seconds each of them lives. Default: that of the set.
        :raises ServerFullError: the server is at its ``maxmemory``; of the last 1,000 items nothing was added.

        >>> seen = ExpiringSet(client, "seen", ttl=3600)
        >>> seen.add_new(["/a", "/b", "/a"]), seen.add_new(f"/{letter}" for letter in "abc")
        (['/a', '/b'], ['/c'])
        """
        newcomers = Newcomers(self.name, self._expiring, ttl)
        self._driver.follow(newcomers.add(items))
        return newcomers.new

    def touch(self, item: T | Key, ttl: float | None = None) -> bool:
        """Has ``item`` live for ``ttl`` seconds from now, be that longer than it would or shorter.

        :param ttl: Default: that of the set.
        :returns: False when it is not there; it is not added then.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was changed.
        """
        return self._driver.perform(self._expiring.touch(item, ttl))

    def contains(self, item: T | Key) -> bool:
        """Whether ``item`` is there: ``item in seen``. What the serializer refuses is not."""
        return self._driver.perform(self._expiring.contains(item))

    def contains_many(self, items: Iterable[T | Key]) -> list[bool]:
        """Whether each of ``items`` is there; one round trip for each 1,000."""
        return self._driver.follow(self._expiring.contains_many(items))

    def __contains__(self, item: object) -> bool:
        return self.contains(item)  # type: ignore[arg-type] # what the set cannot hold is not in it

    def ttl(self, item: T | Key) -> float | None:
        """For how many seconds ``item`` still lives; None when it is not there."""
        return self._driver.perform(self._expiring.ttl(item))

    def count(self) -> int:
        """How many items there are: ``len(seen)``."""
        return self._driver.perform(self._expiring.count())

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[T]:
        """Yields the items, what ends first first, 1,000 a round trip.

        An item that keeps its time is yielded exactly once whatever others do, unless that is over before its turn; and
        the iteration ends at the item that was last when it began.

        :raises TypeError: only hashes are kept.
        :raises DeserializationError: an item cannot be loaded; carries the stored bytes.
        """
        return self._driver.iterate(self._expiring.first_page())

    def discard(self, item: T | Key) -> bool:  # type: ignore[override] # likewise
        """Removes ``item``; True when it was there."""
        return self._driver.perform(self._expiring.discard(item))

    def remove(self, item: T | Key) -> None:
        """Removes ``item``.

        :raises KeyError: it was not there.
        """
        self._driver.perform(self._expiring.remove(item))

    def pop(self) -> T:
        """Removes the item that ends first and returns it; each goes to one caller only. Two round trips.

        :raises KeyError: there is none.
        :raises TypeError: only hashes are kept.
        :raises DeserializationError: it cannot be loaded, and stays; carries the stored bytes.
        """
        return self._driver.follow(self._expiring.pop())

    def clear(self) -> bool:  # type: ignore[override] # likewise
        """Removes everything; True when there was something."""
        return self._driver.perform(self._expiring.clear())


class Consumption(BaseConsumption[T, Driver, Reservation[T]]):
    """A ``consume`` loop: an iterator over reservations, and a context manager that closes it.

    ``for`` and ``with`` close it; whoever calls ``next()`` closes it with :meth:`close`.
    """

    def __iter__(self) -> Iterator[Reservation[T]]:
        self._begin()
        return self._iterate()

    def _iterate(self) -> Iterator[Reservation[T]]:
        try:
            try:
                yield from iter(self._next_one, None)
            finally:
                self.close()
        except BaseException:
            # An interruption can come before the call above begins.
            self.close()
            raise

    def __next__(self) -> Reservation[T]:
        reservation = self._next_one()
        if reservation is None:
            raise StopIteration
        return reservation

    def _next_one(self) -> Reservation[T] | None:
        if not self._is_ours:
            return None
        self._check_asker()
        try:
            reservation = self._at_hand()
            if reservation is not None:
                return reservation
            self._asking = True
            reservation = self._driver.follow(self._next())
            if reservation is not None:
                return reservation
        except BaseException:
            self._asking = False
            try:
                self.close()
            except Exception as trouble:
                if is_interruption(trouble):
                    raise
                # The error that is under way says more; the leases expire by themselves.
                log.warning("what a consumer had could not be given back: %s", trouble)
            raise
        finally:
            self._asking = False
        self.close()
        return None

    def __enter__(self) -> "Consumption[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BaseException:
            # An interruption can come before the call above begins.
            self.close()
            raise

    def close(self) -> None:
        """Gives back what is unhandled; see :meth:`SortedSet.consume`."""
        try:
            self._driver.follow(self._close())
        except BaseException as error:
            if is_interruption(error):
                # Nobody else would give it back before the leases end.
                with suppress(Exception):
                    self._driver.follow(self._close())
            raise


class DeadLetters(BaseDeadLetters[Driver, T]):
    """The items of a set that will not be handed out any more, newest first.

    Iteration yields each letter once, whatever is retried, forgotten or dies meanwhile. New ones are not met.

    Looking: ``len()`` or :meth:`count`, iteration, ``[a:b]`` or :meth:`slice`. Bringing back: :meth:`retry`,
    :meth:`retry_all`. Forgetting: :meth:`discard`, :meth:`clear`. Where an item is expected, a
    :class:`~redset.reservations.DeadLetter` will do too, which is how one without a loadable item is named.

    One atomic round trip each, and one for each 1,000 letters where all are meant.
    """

    def count(self) -> int:
        """How many there are: ``len(letters)``."""
        return self._driver.perform(self._letters.count())

    def __len__(self) -> int:
        return self.count()

    def slice(self, start: int | None = None, stop: int | None = None) -> list[DeadLetter[T]]:
        """Those from one position up to before another, newest first: ``letters[start:stop]``."""
        return self._driver.perform(self._letters.slice(start, stop))

    def __getitem__(self, index: builtins.slice) -> list[DeadLetter[T]]:
        if not isinstance(index, builtins.slice):
            raise TypeError(f"dead letters are sliced, like letters[:10], not indexed by {index!r}")
        if index.step not in (None, 1):
            raise ValueError(f"dead letters are sliced in steps of 1, not {index.step!r}")
        return self.slice(index.start, index.stop)

    def __iter__(self) -> Iterator[DeadLetter[T]]:
        return self._driver.iterate(self._letters.first_page())

    def retry(self, item: T | Key | DeadLetter[T]) -> bool:
        """Lets one wait again, with its score and as if never delivered; True when it was a dead letter."""
        return self._driver.perform(self._letters.retry(item))

    def retry_all(self) -> int:
        """Lets all wait again, oldest first; returns how many."""
        return self._driver.follow(self._letters.retry_all())

    def discard(self, item: T | Key | DeadLetter[T]) -> bool:
        """Forgets one; True when it was a dead letter."""
        return self._driver.perform(self._letters.discard(item))

    def clear(self) -> int:
        """Forgets them all; returns how many there were."""
        return self._driver.follow(self._letters.clear())
