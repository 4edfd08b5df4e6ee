"""The synchronous face: sets whose methods block until the server has answered.

Each method is a signature, a docstring and one operation. :mod:`redset.aio` has the same methods, awaited.
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
from redset.core.clients import is_failure
from redset.core.consuming import NOT_ENDED, BaseConsumption, BaseLoop, Stop
from redset.core.definition import PLAIN, SCHEDULED, TIMED
from redset.core.drivers import Driver
from redset.core.expiring import Newcomers
from redset.core.groups import GroupStats, all_groups
from redset.core.inspecting import Inspection, Lease, Sample, State, Totals
from redset.core.interruptions import is_interruption
from redset.core.items import Key
from redset.core.paging import Span
from redset.core.times import Duration, Moment
from redset.core.updating import Update
from redset.groups import Group
from redset.locks import Lock
from redset.reservations import DeadLetter, Reservation, Stats

__all__ = (
    "Consumption",
    "DeadLetters",
    "ExpiringSet",
    "PeriodicSet",
    "ScheduledSet",
    "SortedSet",
    "TimeSortedSet",
)

log = logging.getLogger("redset")

S = TypeVar("S")
Operator = TypeVar("Operator", bound=Callable[[Any, Any], Any])


def _with(kind: type) -> Callable[[Operator], Operator]:
    """Let an operator return NotImplemented for operands that are not of ``kind``."""

    def restrict(operate: Operator) -> Operator:
        @wraps(operate)
        def restricted(self: Any, other: Any) -> Any:
            return operate(self, other) if isinstance(other, kind) else NotImplemented

        return cast("Operator", restricted)

    return restrict


class SetOperators(MutableSet[T]):
    """The operators and comparisons of ``set``, and their named methods, for every kind of set.

    :meth:`union` states the rules that hold for all of them.
    """

    _driver: Driver
    _algebra: Algebra[T]

    # The core decides by the kind of the operand. Here it must only be iterable, or a set.

    def copy(self) -> set[T]:
        """Return the items as a plain set.

        Here and in all methods that return a set, items come in stored form: as the serializer loads them.

        :raises TypeError: an item cannot be hashed.

        One round trip for each 1,000 items; O(n).
        """
        return self._driver.follow(self._algebra.union())

    def union(self, *others: Iterable[Any]) -> set[T]:
        """Return a plain set of the items in this set or in any of ``others``: ``ss | other``.

        The rules of all operators, comparisons and their named methods:

        - Two items are the same if this set gives them the same identity: their serialized bytes, or the result of its
          ``key``.
        - A redset set on the same client, with the same serializer and key, is compared on the server, and only the
          items that differ are read. On a cluster this needs both sets in one slot.
        - The items of any other operand are sent to the server, or the items of this set are read: one round trip for
          each 1,000 items, O(n + m) with m items in the other operand.
        - The result is no snapshot: it may or may not include changes that others make meanwhile.

        :raises TypeError: an item of an iterable cannot be serialized, or an item of the result cannot be hashed.
            Errors of the serializer pass through.

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
        """Return a plain set of the items in this set and in all of ``others``: ``ss & other``. See :meth:`union`."""
        return self._driver.follow(self._algebra.intersection(others))

    def difference(self, *others: Iterable[Any]) -> set[T]:
        """Return a plain set of the items in this set and in none of ``others``: ``ss - other``. See :meth:`union`.

        Keeps the identities of an iterable, or of a set with another serializer, in memory.
        """
        return self._driver.follow(self._algebra.difference(others))

    def symmetric_difference(self, other: Iterable[Any]) -> set[T]:
        """Return a plain set of the items in either this set or ``other``: ``ss ^ other``. See :meth:`union`."""
        return self._driver.follow(self._algebra.symmetric_difference(other))

    def equals(self, other: Iterable[Any]) -> bool:
        """Return whether ``other`` has the same items, whatever their scores: ``ss == other``. See :meth:`union`.

        An item that the serializer refuses is not in this set. Keeps the identities of an iterable in memory.
        """
        return self._driver.follow(self._algebra.equals(other))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Return whether all items of this set are in ``other``: ``ss <= other``. See :meth:`equals`."""
        return self._driver.follow(self._algebra.issubset(other))

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Return whether all items of ``other`` are in this set: ``ss >= other``. See :meth:`equals`."""
        return self._driver.follow(self._algebra.issuperset(other))

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Return whether no item of ``other`` is in this set. See :meth:`equals`."""
        return self._driver.follow(self._algebra.isdisjoint(other))

    def union_update(self, *others: Iterable[Any]) -> None:
        """Add the items of ``others`` that are not in this set: ``ss |= other``. See :meth:`union`.

        New items get the score that ``add`` gives by default; items that are in the set keep theirs. This and the other
        in-place methods change 1,000 items per round trip, each time atomically. An error of an iterable passes
        through, with a note that says how many items were processed.
        """
        self._driver.follow(self._algebra.union_update(others))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Discard the items that are not in all of ``others``: ``ss &= other``. See :meth:`union_update`.

        Reads an iterable to its end, keeping its identities in memory, before it discards the first item.
        """
        self._driver.follow(self._algebra.intersection_update(others))

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Discard the items of ``others``, whether waiting or leased: ``ss -= other``. See :meth:`union_update`."""
        self._driver.follow(self._algebra.difference_update(others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """Discard the items of ``other`` that are in this set and add the rest: ``ss ^= other``. See
        :meth:`union_update`.

        Keeps the identities of ``other`` in memory, so that a repeated item counts once.
        """
        self._driver.follow(self._algebra.symmetric_difference_update(other))

    # AbstractSet declares a set where any iterable will do, here as in its own methods. Items of its results may have
    # the operand's type; here they have the serializer's.

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
    """A distributed sorted set in Redis or Valkey from which each item is claimed by one consumer at a time.

    Items are claimed lowest score first, ties in the order of their serialized bytes. Two items are the same item if
    they have the same identity: their serialized bytes, or the result of ``key``.

    - Adding: :meth:`add`, :meth:`update`, :meth:`increment`; in a pipeline of the caller's: :meth:`add_to`.
    - Claiming for good, at most once: :meth:`pop`, :meth:`take`, :meth:`pop_max`, :meth:`take_max`.
    - Claiming under a lease, at least once: :meth:`reserve`, :meth:`reserve_many`, :meth:`consume`. Ending leases in
      bulk: :meth:`ack`, :meth:`nack`, :meth:`again`, :meth:`extend`. In another process: :meth:`reservation`.
    - Reading the waiting items: ``len()``, ``in``, ``[i]``, ``[a:b]``, or :meth:`count`, :meth:`contains`, :meth:`at`,
      :meth:`slice`; :meth:`contains_many`, :meth:`score`, :meth:`scores`, :meth:`index`. Those that can be claimed now:
      :meth:`peek`, :meth:`peek_score`. All states: :meth:`stats`.
    - Iterating: ``for item in ss``, :meth:`reversed`, :meth:`with_scores`, :meth:`between`.
    - Removing: :meth:`discard`, :meth:`remove`, :meth:`clear`; ``del ss[i]``, ``del ss[a:b]``, or :meth:`remove_at`,
      :meth:`remove_slice`; :meth:`remove_between`.
    - Combining with other sets: the operators and comparisons of ``set``, see :meth:`union`.
    - Values, remembered items, dead letters: :meth:`get`, :meth:`is_done`, :meth:`forget`, :attr:`dead_letters`.
    - Holding up claims and bounding the set, for all processes: :meth:`pause`, :meth:`resume`, :meth:`limit`.

    A duration is a number of seconds or a ``timedelta``. A moment is a number of seconds since the epoch or an aware
    ``datetime``, and so is a score; a naive ``datetime`` raises ValueError. Moments are returned as numbers.

    Unless its description says otherwise, each method is one round trip and atomic. Costs are given for n waiting items
    and k items of the call. In addition to the errors listed with it, each method raises the client's own connection
    errors, and :exc:`~redset.exceptions.WrongTypeError`, with nothing changed, if a key of the set has another type.

    :param redis_client: a client with the interface of ``redis.Redis``: redis-py, valkey-py, a cluster client … A
        client of the other face, a pipeline, a URL or None raises TypeError.
    :param name: the key of the waiting items. The other keys of the set are derived from it.
    :param scorer: a callable that takes the item, before serialization, and returns its score, such as
        :func:`~redset.priority_then_time` makes. Default: 0.
    :param serializer: an object with ``dumps`` and ``loads``, see :class:`~redset.interfaces.Serializer`; the module
        :mod:`json` is one. Default: items are stored as ``str(item)`` and returned as str; bytes are stored as they
        are, and returned as bytes if they are not UTF-8.
    :param lock_timeout: seconds that :attr:`lock` waits. Default: 10.
    :param lock_expires: seconds after which :attr:`lock` expires. Default: 20.
    :param max_attempts: the number of attempts after which a nack or an expired lease makes the item a dead letter.
        Default: never.
    :param backoff: a callable that takes the number of the failed attempt, from 1, and returns the seconds until the
        next one. Default: a random time of up to 1 s, 2 s, 4 s … an hour.
    :param max_dead: the number of dead letters to keep. The oldest beyond it are dropped, with a warning in the log.
        Default: all.
    :param retry_safe: whether the server keeps the reply of each call for ten minutes, so that a client may repeat a
        call whose reply was lost, as redis-py does, without losing or duplicating an item.
    :param key: a callable that takes an item and returns its identity: a str, bytes, or an object with a ``str`` of its
        own, but not None. A claim returns the newest value that was added under the identity. Default: the identity is
        the serialized item.
    :param poll: seconds, at most an hour, between two looks of waiting consumers if nothing wakes them: however many
        wait, one of them looks. Additions by redset wake one at once, whatever this is; an item that another program
        adds by ZADD is found this late. Each look is two commands, 36,000 an hour with the default of 0.2. All
        consumers of a set should have the same.
    :param shards: the number of shards that the set is divided among, each in a slot of its own on a cluster. All
        processes give the same number, or ``"stored"`` for the one that the set has. Claims of one item are then in
        order only approximately, and calls on all shards take a round trip for each. Default: no shards.
        :func:`~redset.reshard` changes the number.
    :param group: a callable that returns the name of an item's group: a str, bytes, or an object with a ``str`` of its
        own, but not None or empty. On a keyed set it is given the key. An item keeps its group while the set has it.
        Together with ``shards``, a group is in one shard. Default: no groups.
    :param per_group: a :class:`redset.Limit`: how many leases each group may have at once, and how long it rests after
        a claim. Claims pass over groups that may not be claimed from, at no cost. A group may have limits of its own,
        see :meth:`group`. Default: no limits.
    :param turns: which of the groups that may be claimed from is next: the one whose first item has the lowest score
        (``"score"``, the default), or each in turn (``"fair"``).
    :param remember: seconds for which a done item is remembered. An addition of a remembered item is left out, and so
        is that of a dead one until it is retried or forgotten. Default: done items are not remembered.
    :param digest: whether to remember a 16-byte hash of each item instead of the item.
    :param duplicates: the score that stands when a waiting item is added again: the newest (``"update"``, the default),
        the first (``"keep"``), the lowest (``"earliest"``) or the highest (``"latest"``).
    :param while_leased: what becomes of the addition of a leased item when a claim meets it: it is parked until the
        lease ends (``"park"``, the default), or dropped (``"drop"``).
    :param connections: ``"own"``: calls use connections of redset's own if the client is a plain one of redis-py or
        valkey-py, made with the arguments of its pool and at most as many. ``"client"``: every command passes through
        the client's ``execute_command``.
    """

    _kind = PLAIN
    _driver_type = Driver
    _lock_type = Lock
    _reservation_type = Reservation

    def add(  # type: ignore[override] # the add of MutableSet has no score
        self,
        item: T,
        score: Moment | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        force: bool = False,
    ) -> float | None:
        """Add ``item``, or change its score if it is waiting.

        The flags decide what happens to an item that is waiting; without one, the set's ``duplicates`` does. The
        addition of a leased item is parked until its lease ends, or dropped, as the set's ``while_leased`` says.

        :param score: any int or float except NaN, or an aware ``datetime``. Default: the result of the scorer.
        :param nx: only add: leave a waiting item unchanged.
        :param xx: only change: do not add the item if it is not waiting.
        :param gt: only raise the score of a waiting item.
        :param lt: only lower the score of a waiting item.
        :param force: add the item even if it is remembered, or dead on a set that remembers: forget that, and delete
            the dead letter. The addition of a leased item is parked as without it, and an ack, which remembers the
            item anew, drops it. No difference on a set that does not remember.
        :returns: the score of the item now; None if it is not waiting, because it was left out (remembered, or dead on
            a set that remembers) or because of ``xx``.
        :raises TypeError: the score is no number and no ``datetime``, or ``force`` no bool. All errors in an item or a
            score are raised before anything is sent.
        :raises ValueError: the score is NaN or a naive ``datetime``, or the flags contradict each other.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was added.

        Cost: O(log n).

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
        rule = flagged(nx=nx, xx=xx, gt=gt, lt=lt, force=force) if nx or xx or gt or lt else None
        return self._driver.perform(self._adding.add(item, score, rule, force=force))

    def add_to(
        self,
        pipeline: Any,
        item: T,
        score: Moment | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        force: bool = False,
    ) -> None:
        """Add ``item`` by a pipeline of the caller's, with the parameters of :meth:`add`.

        The addition is sent and takes effect when the pipeline is executed: in a ``transaction``, at once with the
        other commands. It wakes a waiting consumer, and needs no script that the server knows.

        No reply of it is kept, so a pipeline that is sent again after a lost reply adds the item again, even if it was
        claimed meanwhile. The result in the list of ``execute()`` is the reply of a script, and not part of the
        interface. An item that the set has no room for, by its ``maxsize``, is left out, and nothing is raised.
        A new set is not registered by it, so :func:`~redset.list_sets` does not know it before its first claim or other
        addition.

        :param pipeline: the ``pipeline()`` of a client of the set's server: of redis-py or valkey-py, of a cluster or
            not. After ``watch()``, call its ``multi()`` first.
        :raises TypeError: ``pipeline`` is none, or is one of the other face.
        :raises ValueError: ``pipeline`` watches keys and would execute the addition at once.

        No round trip of its own; O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> with client.pipeline(transaction=True) as pipeline:
        ...     _ = pipeline.set("order:1", "paid")
        ...     jobs.add_to(pipeline, "ship order 1")
        ...     _ = pipeline.execute()
        >>> jobs.pop()
        'ship order 1'
        """
        self._driver.enqueue(pipeline, self._adding.addition(item, score, nx=nx, xx=xx, gt=gt, lt=lt, force=force))

    def update(self, *iterables: Iterable[T], score: Moment | Callable[[T], Moment] | None = None) -> int:
        """Add all items of ``iterables``, and return how many were new.

        An item is new if it was not waiting, so a leased or delayed one counts. An item that is left out does not, see
        :meth:`add`.

        Sends 1,000 items per round trip, each time atomically, and keeps no more of them in memory. An error of an
        iterable, the scorer or the serializer passes through, with a note that says how many items were added before
        it.

        :param score: a number for all items, or a callable that takes an item and is used instead of the scorer.

        Cost: O(k log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], (f"step {number}" for number in range(3)), score=len)
        5
        >>> list(jobs)
        ['read', 'write', 'step 0', 'step 1', 'step 2']
        """
        return self._driver.follow(Update(self._adding, score).add_all(iterables))

    def increment(self, item: T, by: Duration) -> float | None:
        """Add ``by`` to the score of ``item``, or add the item with that score if it is not waiting.

        :returns: the score of the item now; None if it was left out, see :meth:`add`.
        :raises TypeError: ``by`` is no number and no ``timedelta``.
        :raises ValueError: the sum of two opposite infinities is no number.

        Cost: O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.increment("read", 2), jobs.increment("read", -0.5)
        (2.0, 1.5)
        """
        return self._driver.perform(self._adding.increment(item, by))

    def pop(self, wait: Duration | None = 0) -> T:
        """Remove and return the item with the lowest score.

        At most once: the item is lost if the process dies before it has handled the item. :meth:`reserve` does not lose
        it.

        An item that cannot be loaded becomes a dead letter, and the next one is returned instead; each takes two more
        round trips.

        :param wait: seconds to wait for an item if there is none; None: for ever. All who wait take two round trips
            every ``poll`` seconds, 0.2 by default.
        :raises KeyError: no item can be claimed.

        Cost: O(log n). Every claim also requeues up to 250 expired leases and ended backoffs.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("write", score=2), jobs.add("read", score=1)
        (2.0, 1.0)
        >>> jobs.pop()
        'read'
        """
        return self._driver.follow(self._claims.pop(wait))

    def take(self, num: int, wait: Duration | None = 0) -> list[T]:
        """Remove and return up to ``num`` items in order, lowest score first; at most once, see :meth:`pop`.

        Claims 1,000 items per round trip, each time atomically. If the server fails later, it returns the items it has.

        :param wait: seconds to wait for the first item if there is none; None: for ever.

        Cost: O(k log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> jobs.take(2), jobs.take(2), jobs.take(2)
        (['read', 'write'], ['rewrite'], [])
        """
        return self._driver.follow(self._claims.take(num, wait))

    def pop_max(self, wait: Duration | None = 0) -> T:
        """Remove and return the item with the highest score; else like :meth:`pop`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("write", score=2), jobs.add("read", score=1)
        (2.0, 1.0)
        >>> jobs.pop_max()
        'write'
        """
        return self._driver.follow(self._claims.pop(wait, last=True))

    def take_max(self, num: int, wait: Duration | None = 0) -> list[T]:
        """Remove and return up to ``num`` items, highest score first; else like :meth:`take`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> jobs.take_max(2)
        ['rewrite', 'write']
        """
        return self._driver.follow(self._claims.take(num, wait, last=True))

    def reserve(self, lease: Duration = 60.0, wait: Duration | None = 0) -> Reservation[T]:
        """Claim the item with the lowest score under a lease.

        At least once: a lease that ends without an ack requeues the item. Until then no other consumer can claim the
        item, and an addition of it is parked.

        :param lease: seconds until the lease expires, by the server's clock.
        :param wait: seconds to wait for an item if there is none; None: for ever. See :meth:`pop`.
        :raises KeyError: no item can be claimed.

        Cost: O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> with jobs.reserve() as job:
        ...     job
        'read'
        """
        return self._driver.follow(self._claims.reserve(lease, wait))

    def reserve_many(self, num: int, lease: Duration = 60.0, wait: Duration | None = 0) -> list[Reservation[T]]:
        """Claim up to ``num`` items, each under a lease of its own; see :meth:`reserve`.

        Claims 1,000 items per round trip, like :meth:`take`. An item whose last lease expired may have killed its
        process, so the result ends before it, or has only that item.

        Cost: O(k log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> reservations = jobs.reserve_many(10, lease=30)
        >>> [reservation.item for reservation in reservations]
        ['read', 'write']
        """
        return self._driver.follow(self._claims.reserve_many(num, lease, wait))

    def consume(
        self,
        lease: Duration = 60.0,
        batch: int = 1,
        wait: Duration | None = None,
        stop: Stop = None,
        max_outage: Duration | None = None,
    ) -> "Consumption[T]":
        """Return an iterator over reservations that acks each item when the next one is asked for.

        At least once, like :meth:`reserve`. Acks travel with the next claim, in one round trip. The iterator leaves a
        reservation alone that the loop body ended itself.

        Leaving the loop requeues the items that were not begun, without counting an attempt. The current item is nacked
        without delay: a ``break`` cannot be told from an exception, so ack the item first if it is done.

        :param lease: seconds, for each item of a batch, from the claim on. Items not begun are requeued if less than
            half of the lease is left when the loop asks for more. An item whose lease expired before its turn or its
            ack is counted in :attr:`Consumption.lost`.
        :param batch: the number of items per claim, 1 to 1,000.
        :param wait: seconds without an item after which the loop ends; None: never.
        :param stop: an event, or a callable: the loop ends when it is set, or returns true. While no item comes, it is
            asked every 0.2 seconds.
        :param max_outage: seconds of an outage after which the client's error is raised. Default: never. The first
            contact is not repeated.
        :raises RuntimeError: a second iterator is made of one loop.
        :raises ValueError: ``batch`` is greater than 1 with ``max_attempts=1``.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read", score=1), jobs.add("write", score=2)
        (1.0, 2.0)
        >>> for reservation in jobs.consume(wait=0):
        ...     print(reservation.item)
        read
        write
        """
        return Consumption(self._driver, self._claims, self._endings, lease, batch, wait, stop, max_outage)

    def reservation(self, receipt: str) -> Reservation[T]:
        """Return the reservation that a receipt stands for, to end or extend its lease in this process.

        Sends nothing. The item is loaded from the receipt when :attr:`Reservation.item
        <redset.reservations.Reservation.item>` is read; on a set with a ``key`` that is the value at the time of the
        receipt. A receipt is not signed: open those of programs that may end leases, and load items, as this one may.

        :param receipt: the :attr:`Reservation.receipt <redset.reservations.Reservation.receipt>` of a reservation.
        :raises TypeError: it is no str.
        :raises LayoutError: it is of a set of another class, or only one of the two has a ``key``.
        :raises ValueError: it is no receipt, or that of another set. After :meth:`clear` it still is a receipt, but the
            lease is lost.

        No round trip; O(1).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> receipt = jobs.reserve().receipt
        >>> reservation = jobs.reservation(receipt)  # in any process
        >>> reservation.item
        'read'
        >>> reservation.ack()
        """
        return self._receipts.reservation(receipt)

    def ack(self, reservations: Iterable[Reservation[T]]) -> list[Reservation[T]]:
        """Ack many reservations, and return those whose lease was lost.

        One round trip for each 1,000, each time atomically. See :meth:`Reservation.ack
        <redset.reservations.Reservation.ack>`.

        Cost: O(k log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.ack(jobs.reserve_many(10))
        []
        """
        return self._driver.follow(self._endings.ack(reservations))

    def nack(
        self, reservations: Iterable[Reservation[T]], delay: Duration | None = None, reason: str = ""
    ) -> list[Reservation[T]]:
        """Nack many reservations, and return those whose lease was lost.

        :param delay: seconds, for all. Default: the set's ``backoff`` for each.
        :param reason: stored with the dead letters, see :meth:`Reservation.nack
            <redset.reservations.Reservation.nack>`.

        One round trip for each 400, each time atomically; O(k log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.nack(jobs.reserve_many(10), delay=0, reason="no network")
        []
        >>> jobs.take(10)
        ['read', 'write']
        """
        return self._driver.follow(self._endings.nack(reservations, delay, reason))

    def again(
        self,
        reservations: Iterable[Reservation[T]],
        delay: Duration = 0,
        score: Moment | None = None,
        *,
        group: bool = False,
    ) -> list[Reservation[T]]:
        """Requeue many reserved items without counting the attempt, and return the reservations whose lease was lost.

        See :meth:`Reservation.again <redset.reservations.Reservation.again>`; round trips like :meth:`nack`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.again(jobs.reserve_many(10))
        []
        >>> jobs.reserve().attempt
        1
        """
        return self._driver.follow(self._endings.again(reservations, delay, score, group=group))

    def extend(self, reservations: Iterable[Reservation[T]], lease: Duration) -> list[Reservation[T]]:
        """Set the deadlines of many leases to ``lease`` seconds from now, and return those that were lost.

        See :meth:`Reservation.extend <redset.reservations.Reservation.extend>`; round trips like :meth:`ack`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.extend(jobs.reserve_many(10), lease=300)
        []
        """
        return self._driver.follow(self._endings.extend(reservations, lease))

    def peek(self, position: int = 0) -> T:
        """Return the item at ``position`` among those that can be claimed now, without removing it.

        :param position: 0 for the next one; negative positions count from the end.
        :raises KeyError: there is no item at that position.
        :raises DeserializationError: the item cannot be loaded; the error carries the stored bytes.

        Cost: O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.peek(), jobs.peek(-1), jobs.peek_score()
        ('read', 'write', 4.0)
        """
        return self._driver.perform(self._looking.peek(position))

    def peek_score(self) -> float | None:
        """Return the lowest score among the items that can be claimed now, or None if there are none. O(log n)."""
        return self._driver.perform(self._looking.peek_score())

    def score(self, item: T | Key) -> float | None:
        """Return the score of ``item``, or None if it is not waiting. O(1)."""
        return self._driver.perform(self._looking.score(item))

    def scores(self, items: Iterable[T | Key]) -> list[float | None]:
        """Return the score of each of ``items``, None for each that is not waiting.

        One round trip for each 1,000 items; O(k).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.scores(["write", "sing"]), jobs.score("read")
        ([5.0, None], 4.0)
        """
        return self._driver.follow(self._looking.scores_of_all(items))

    def contains(self, item: T | Key) -> bool:
        """Return whether ``item`` is waiting: ``item in ss``. An item that the serializer refuses is not. O(1)."""
        return self._driver.perform(self._looking.contains(item))

    def contains_many(self, items: Iterable[T | Key]) -> list[bool]:
        """Return for each of ``items`` whether it is waiting.

        One round trip for each 1,000 items; O(k).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"])
        2
        >>> jobs.contains_many(["write", "sing"]), "read" in jobs
        ([True, False], True)
        """
        return self._driver.follow(self._looking.contains_many(items))

    def __contains__(self, item: object) -> bool:
        return self.contains(item)  # type: ignore[arg-type] # an object that the serializer refuses is not in it

    def get(self, item: T | Key) -> T | None:
        """Return the newest value of ``item``, in whatever state it is, or None if it is in none.

        :raises TypeError: the set has no ``key``.

        Cost: O(1).

        >>> import json
        >>> pages = SortedSet(client, "pages", serializer=json, key=lambda page: page["url"])
        >>> pages.add({"url": "/a", "depth": 1}), pages.add({"url": "/a", "depth": 2})
        (0.0, 0.0)
        >>> from redset import Key
        >>> pages.get(Key("/a"))
        {'url': '/a', 'depth': 2}
        """
        return self._driver.perform(self._looking.get(item))

    def is_done(self, item: T | Key) -> bool:
        """Return whether ``item`` is done and remembered. O(1)."""
        return self._driver.perform(self._looking.is_done(item))

    def forget(self, item: T | Key) -> bool:
        """Let a remembered or dead ``item`` be added again, and return whether it was one.

        Deletes the record of it: the remembered item or the dead letter.

        Cost: O(log n).

        >>> jobs = SortedSet(client, "jobs", remember=3600)
        >>> jobs.add("read"), jobs.pop(), jobs.is_done("read"), jobs.add("read")
        (0.0, 'read', True, None)
        >>> jobs.forget("read"), jobs.add("read")
        (True, 0.0)
        """
        return self._driver.perform(self._removing.forget(item))

    def count(
        self, *, min: Moment | None = None, max: Moment | None = None, inclusive: tuple[bool, bool] = (True, True)
    ) -> int:
        """Return the number of waiting items, ``len(ss)``, or of those whose score is between ``min`` and ``max``.

        :param inclusive: whether ``min`` itself is within the bounds, and whether ``max`` is.

        Cost: O(1) without bounds, O(log n) with them.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> jobs.count(), jobs.count(min=5), jobs.count(min=5, inclusive=(False, True))
        (3, 2, 1)
        """
        return self._driver.perform(self._looking.count(min, max, inclusive))

    def __len__(self) -> int:
        return self.count()

    def index(self, item: T | Key) -> int:
        """Return the position of ``item`` in order: ``ss[ss.index(item)] == item``.

        :raises ValueError: the item is not waiting.

        Cost: O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> jobs.index("write"), jobs[1], jobs[-1]
        (1, 'write', 'write')
        """
        return self._driver.perform(self._looking.index(item))

    def at(self, index: int) -> T:
        """Return the waiting item at position ``index`` in order: ``ss[index]``.

        :raises IndexError: there is no item at that position.
        :raises DeserializationError: the item cannot be loaded; the error carries the stored bytes.

        Cost: O(log n).
        """
        return self._driver.perform(self._looking.at(index))

    def slice(self, start: int | None = None, stop: int | None = None) -> list[T]:
        """Return a list of the waiting items from position ``start`` up to before ``stop``: ``ss[start:stop]``.

        One round trip, however long the list; for very many items use iteration or :meth:`between`. O(log n + k).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> jobs[:2], jobs.slice(-2)
        (['read', 'write'], ['write', 'rewrite'])
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
        """Iterate over the waiting items in order.

        Yields an item that keeps its score exactly once, whatever others add, claim or move meanwhile. Ends at the item
        that was last when the iteration began. Writes nothing, so it works on a replica.

        One round trip for each 1,000 to 2,000 items, of which no more are kept in memory; O(n).
        """
        return self._driver.iterate(self._paging.items())

    def reversed(self) -> Iterator[T]:
        """Iterate over the waiting items in reverse order, ``reversed(ss)``, to the one that was first; see
        :meth:`__iter__`.
        """
        return self._driver.iterate(self._paging.items(Span(reverse=True)))

    def __reversed__(self) -> Iterator[T]:
        return self.reversed()

    def with_scores(self) -> Iterator[tuple[T, float]]:
        """Iterate over pairs of a waiting item and its score, in order; see :meth:`__iter__`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> list(jobs.with_scores())
        [('read', 4.0), ('write', 5.0)]
        """
        return self._driver.iterate(self._paging.with_scores())

    def between(
        self,
        min: Moment | None = None,
        max: Moment | None = None,
        *,
        inclusive: tuple[bool, bool] = (True, True),
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[T]:
        """Iterate over the waiting items whose score is between ``min`` and ``max``, in order; see :meth:`__iter__`.

        :param inclusive: whether ``min`` itself is within the bounds, and whether ``max`` is.
        :param limit: the number of items to yield at most; None: all.
        :param reverse: whether to begin at ``max``. ``min`` stays the lower bound.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> list(jobs.between(4, 7, inclusive=(False, True), reverse=True))
        ['rewrite', 'write']
        """
        return self._driver.iterate(self._paging.items(Span(min, max, inclusive, limit, reverse)))

    def stats(self) -> Stats:
        """Return the number of items in each state, and how long the oldest has been due. O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> reservation, stats = jobs.reserve(), jobs.stats()
        >>> stats.waiting, stats.leased, stats.dead, stats.oldest_score
        (1, 1, 0, 5.0)
        """
        return self._driver.perform(self._looking.stats())

    def totals(self) -> Totals:
        """Return how often each thing has happened since the set was first used: additions, claims, acks, deaths ...

        The scripts count, in the same step as the change. So a call that is sent twice counts once, and the totals
        include the calls of killed processes. ``clear()`` keeps them.

        Round trips: one. Cost: O(1).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len), jobs.pop()
        (2, 'read')
        >>> totals = jobs.totals()
        >>> totals.added, totals.taken, totals.acked
        (2, 1, 0)
        """
        return self._driver.perform(self._inspecting.totals())

    def history(self) -> list[Sample]:
        """Return the totals as they were at the first claim in each minute, the oldest first; 60 samples at most.

        Round trips: one. Cost: O(1).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read"), jobs.pop()
        (0.0, 'read')
        >>> [sample.totals.taken for sample in jobs.history()]
        [1]
        """
        return self._driver.perform(self._inspecting.history())

    def state(self, item: T | Key) -> State | None:
        """Return the state of ``item``, or None if the set does not have it.

        Of several states the first of: ``"parked"``, ``"leased"``, ``"waiting"``, ``"delayed"``, ``"dead"``,
        ``"done"``. An item whose lease expired is leased until a claim requeues it.

        Round trips: one. Cost: O(1).

        :raises TypeError: the serializer or the ``key`` refuses ``item``; so may others that they raise.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len), jobs.reserve().item
        (2, 'read')
        >>> jobs.state("read"), jobs.state("write"), jobs.state("sleep")
        ('leased', 'waiting', None)
        """
        return self._driver.perform(self._inspecting.state(item))

    def inspect(self, item: T | Key) -> Inspection[T] | None:
        """Return all that is known of ``item``, or None if the set does not have it.

        Round trips: one. Cost: O(1).

        :raises TypeError: as for :meth:`state`.
        :raises DeserializationError: the serializer cannot load the value of a keyed item.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read", score=4), jobs.reserve().attempt
        (4.0, 1)
        >>> found = jobs.inspect("read")
        >>> found.state, found.score, found.attempts
        ('leased', 4.0, 1)
        """
        return self._driver.perform(self._inspecting.inspect(item))

    def leases(self, limit: int | None = None) -> list[Lease[T]]:
        """Return the leased items, the oldest lease first.

        Round trips: one for 1,000 leases. Cost: O(n) for n leases, whatever the ``limit``.

        :param limit: the number of leases to return at most; None for all.
        :raises DeserializationError: the serializer cannot load one of the items.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len), jobs.reserve().item
        (2, 'read')
        >>> [(lease.item, lease.attempt) for lease in jobs.leases()]
        [('read', 1)]
        """
        return self._driver.follow(self._inspecting.leases(limit))

    def discard(self, item: T | Key) -> bool:  # type: ignore[override] # that of MutableSet returns None
        """Remove ``item``, whether waiting or leased, and return whether it was there.

        The lease is lost, which is how to cancel work. A dead letter stays.

        Cost: O(log n).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write"], score=len)
        2
        >>> reservation = jobs.reserve()
        >>> jobs.discard("read"), jobs.discard("write"), jobs.discard("write")
        (True, True, False)
        """
        return self._driver.perform(self._removing.discard(item))

    def remove(self, item: T | Key) -> None:
        """Remove ``item`` like :meth:`discard`.

        :raises KeyError: the item was not there.
        """
        self._driver.perform(self._removing.remove(item))

    def remove_at(self, index: int) -> None:
        """Remove the waiting item at position ``index`` in order: ``del ss[index]``.

        :raises IndexError: there is no item at that position.

        Cost: O(log n).
        """
        self._driver.perform(self._removing.remove_at(index))

    def remove_slice(self, start: int | None = None, stop: int | None = None) -> int:
        """Remove the waiting items from position ``start`` up to before ``stop``: ``del ss[start:stop]``.

        :returns: how many were removed.

        Leases of the same items stay. Removes 1,000 items per round trip, each time atomically; additions and removals
        by others between round trips shift the positions.

        Cost: O(log n + k).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> jobs.remove_slice(1), list(jobs)
        (2, ['read'])
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
        min: Moment | None = None,
        max: Moment | None = None,
        *,
        inclusive: tuple[bool, bool] = (True, True),
    ) -> int:
        """Remove the waiting items whose score is between ``min`` and ``max``, and return how many.

        Leases of the same items stay. Removes 1,000 items per round trip, each time atomically, and no more in all than
        there were at the first.

        :param inclusive: whether ``min`` itself is within the bounds, and whether ``max`` is.

        Cost: O(log n + k).

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.update(["read", "write", "rewrite"], score=len)
        3
        >>> jobs.remove_between(max=5), list(jobs)
        (2, ['rewrite'])
        """
        return self._driver.follow(self._removing.remove_between(min, max, inclusive))

    def clear(self) -> bool:  # type: ignore[override] # likewise
        """Remove all items in every state, and return whether there was one.

        All leases are lost. Fencing tokens keep growing. The server frees the memory in the background: O(1) for the
        caller.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read"), jobs.clear(), jobs.clear()
        (0.0, True, False)
        """
        return self._driver.perform(self._removing.clear())

    def pause(self, until: Moment | None = None) -> None:
        """Let no process claim items from this set, until a moment or until :meth:`resume`.

        A claim then finds nothing, as in an empty set, and one that waits goes on waiting. Everything else works:
        additions, acks and all other ends of leases. The server keeps the pause, and ``clear()`` does not end it.

        :param until: a moment, by the server's clock; a moment in the past ends the pause. Default:
            no end.
        :raises TypeError: ``until`` is no moment.
        :raises ValueError: ``until`` is NaN, infinite or a naive ``datetime``.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> jobs.pause()
        >>> jobs.take(1), jobs.stats().paused_until
        ([], inf)
        >>> jobs.resume()
        >>> jobs.take(1), jobs.stats().paused_until
        (['read'], None)
        """
        self._driver.perform(self._gates.pause(until))

    def resume(self) -> None:
        """End a pause, and wake a consumer that waits; see :meth:`pause`."""
        self._driver.perform(self._gates.resume())

    def group(self, name: Any) -> Group:
        """Return the group of this name, to limit, pause or look at it. No round trip.

        :raises TypeError: the set was made without ``group``.
        """
        return Group(self._driver, self._groups, self._name, name)

    def groups(self, limit: int = 100) -> list[GroupStats]:
        """Return the groups, those with the most leases first, then those that are ready, then those that rest.

        Round trips: one. Cost: O(g) for g groups with leases, and O(log n) for each that is returned.

        :param limit: the number of groups at most.
        :raises TypeError: the set was made without ``group``.

        >>> jobs = SortedSet(client, "jobs", group=lambda job: job[0])
        >>> jobs.update(["a1", "a2", "b1"], score=lambda job: int(job[1]))
        3
        >>> [(group.name, group.waiting) for group in jobs.groups()]
        [('a', 2), ('b', 1)]
        """
        return self._driver.perform(all_groups(self._groups, self._name, limit))

    def limit(
        self,
        rate: float | None = None,
        per: Duration = 1.0,
        burst: int | None = None,
        leases: int | None = None,
        maxsize: int | None = None,
    ) -> None:
        """Replace the limits of this set, which hold for all processes; without arguments, lift them.

        The server keeps them, and ``clear()`` does so too. A claim gets as many items as the limits allow. If that is
        none, it behaves as in an empty set: one that waits claims at the moment at which the limits allow it.

        :param rate: the number of items that can be claimed in ``per`` seconds: in any t seconds at most burst + t *
            rate / per. A claim counts even if it is rolled back.
        :param per: seconds.
        :param burst: the number of items that can be claimed at once after a rest. Default: 1, which spaces claims
            evenly.
        :param leases: the number of live leases at a time. It does not limit :meth:`pop` and :meth:`take`.
        :param maxsize: the number of items that wait, are leased or delayed. An addition of another one raises
            :exc:`~redset.exceptions.Full`. Roll-backs, retries of dead letters, and additions by other programs may
            exceed it.
        :raises TypeError: an argument is no number, or ``burst``, ``leases`` or ``maxsize`` is no int.
        :raises ValueError: an argument is 0, negative, infinite or NaN, or there is a ``burst`` or a ``per`` without a
            ``rate``.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.limit(rate=10, burst=2, leases=50, maxsize=3)
        >>> jobs.add("read"), jobs.add("write"), jobs.add("sing")
        (0.0, 0.0, 0.0)
        >>> jobs.add("dance")
        Traceback (most recent call last):
            ...
        redset.exceptions.Full: the set 'jobs' has no room for another item: its maxsize is reached; 0 were added
        >>> jobs.take(3)
        ['read', 'sing']
        >>> jobs.stats().limits
        Limits(rate=10.0, per=1.0, burst=2, leases=50, maxsize=3)
        >>> jobs.limit()
        """
        self._driver.perform(self._gates.limit(rate, per, burst, leases, maxsize))

    @property
    def dead_letters(self) -> "DeadLetters[T]":
        """The dead letters of this set, see :class:`DeadLetters`.

        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> jobs.reserve().bury("no such page")
        >>> [(letter.item, letter.reason, letter.attempts) for letter in jobs.dead_letters]
        [('read', 'no such page', 1)]
        >>> jobs.dead_letters.retry("read"), jobs.pop()
        (True, 'read')
        """
        return DeadLetters(self._driver, self._letters)


def _check_step(index: builtins.slice) -> None:
    if index.step not in (None, 1):
        raise ValueError(f"a set is sliced in steps of 1, not {index.step!r}")


class TimeSortedSet(SortedSet[T]):
    """A :class:`SortedSet` scored by the time of addition, oldest first.

    Adding a waiting item again moves it to the back, unless ``duplicates`` says otherwise.

    The time is that of the client (``time.time()``), in seconds since the epoch, since a scorer is a Python callable.
    Items of producers whose clocks differ are out of order by that difference.
    """

    _kind = TIMED


class ScheduledSet(TimeSortedSet[T]):
    """A :class:`TimeSortedSet` whose items can be claimed when they are due: when their score is not in the future.

    The server's clock decides, once for all consumers. An item added without a score is due at once, if the client's
    clock is not ahead of the server's.

    ``len()``, ``in``, positions, slices and iteration see all waiting items. Claims, :meth:`peek`, :meth:`peek_score`
    and :meth:`available` see only due ones.
    """

    _kind = SCHEDULED

    def add(  # type: ignore[override] # likewise
        self,
        item: T,
        score: Moment | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        force: bool = False,
        delay: Duration | None = None,
    ) -> float | None:
        """Add ``item``, or change when it falls due if it is waiting; see :meth:`SortedSet.add`.

        :param delay: a duration from now until the item falls due, by the server's clock, instead of a score. The other
            parameters are those of :meth:`SortedSet.add`.
        :raises TypeError: ``delay`` is no duration.
        :raises ValueError: ``delay`` is negative or not finite, or there is a ``score`` too.

        Cost: O(log n).

        >>> import time
        >>> from redset import ScheduledSet
        >>> jobs = ScheduledSet(client, "jobs")
        >>> 29 < jobs.add("read", delay=30) - time.time() < 31
        True
        """
        addition = self._adding.addition(item, score, delay, nx=nx, xx=xx, gt=gt, lt=lt, force=force)
        return self._driver.perform(addition)

    def add_to(
        self,
        pipeline: Any,
        item: T,
        score: Moment | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        force: bool = False,
        delay: Duration | None = None,
    ) -> None:
        """Add ``item`` by a pipeline of the caller's, like :meth:`add`; see :meth:`SortedSet.add_to`."""
        addition = self._adding.addition(item, score, delay, nx=nx, xx=xx, gt=gt, lt=lt, force=force)
        self._driver.enqueue(pipeline, addition)

    def available(self) -> int:
        """Return the number of due items. O(log n).

        >>> import time
        >>> from redset import ScheduledSet
        >>> jobs = ScheduledSet(client, "jobs")
        >>> jobs.update(["now", "later"], score={"now": 0, "later": time.time() + 3600}.get)
        2
        >>> jobs.available(), len(jobs), jobs.take(10)
        (1, 2, ['now'])
        """
        return self._driver.perform(self._looking.available())


class PeriodicSet(BasePeriodic[Driver, Lock, Reservation[T], T], ScheduledSet[T]):
    """A :class:`ScheduledSet` whose items come due again and again, once per interval however many consumers there are.

    Finishing an item plans its next tick in the same step on the server: at the claim by ``pop`` and ``take``, at the
    ack under a lease. The next tick is a whole number of intervals after the last planned one, so ticks do not drift,
    and missed ticks are skipped. A nack retries the item after the backoff and leaves its ticks as they are. The
    server's clock decides; if it is set back, items stay planned for the times they had.

    Scores are the next ticks, in seconds since the epoch. A ZADD by another program sets the next tick of an item.

    :param interval: seconds between two ticks of an item that has no interval of its own.
    :param scorer: a callable that takes the item and returns its first tick, in seconds since the epoch. Default: now,
        by the server's clock.
    :param jitter: seconds over which first ticks are spread evenly at random, so that many items added at once do not
        fall due at once. Not applied to ``first``.

    >>> from redset import PeriodicSet
    >>> feeds = PeriodicSet(client, "feeds", interval=3600)
    >>> feeds.add("https://example.org/feed"), feeds.add("https://example.org/feed")
    (True, False)
    >>> feeds.take(10), feeds.take(10)
    (['https://example.org/feed'], [])
    """

    _kind = SCHEDULED

    def add(  # type: ignore[override] # a periodic item has an interval, and no score of its own
        self, item: T, interval: Duration | None = None, first: Moment | None = None
    ) -> bool:
        """Add ``item`` and return whether it is new: neither waiting nor leased.

        An item that is not new keeps its next tick, which :meth:`reschedule` changes. A dead item is new.

        :param interval: seconds between its ticks, from its next tick on. Default: the interval it has, or else that of
            the set.
        :param first: its first tick, in seconds since the epoch, if the item must be new. Default: the result of the
            scorer.
        :raises TypeError: ``interval`` is no duration or ``first`` no moment. All errors in an item are raised before
            anything is sent.
        :raises ValueError: the interval is not positive and finite, or ``first`` is NaN or a naive ``datetime``; or
            ``first`` is given and the item is not new, and nothing was changed.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was added.

        Cost: O(log n).
        """
        return self._driver.perform(self._scheduling.schedule(item, interval, first))

    def add_to(  # type: ignore[override] # likewise
        self, pipeline: Any, item: T, interval: Duration | None = None, first: Moment | None = None
    ) -> None:
        """Add ``item`` by a pipeline of the caller's; see :meth:`SortedSet.add_to`.

        :param interval: as for :meth:`add`.
        :param first: as for :meth:`add`, but nothing is raised if the item is not new: it is left alone, with its next
            tick, its interval and its value.
        """
        self._driver.enqueue(pipeline, self._scheduling.schedule(item, interval, first))

    def update(  # type: ignore[override]
        self,
        *iterables: Iterable[T],
        interval: Duration | Callable[[T], Duration] | None = None,
        first: Moment | Callable[[T], Moment] | None = None,
    ) -> int:
        """Add all items and return how many were new; see :meth:`add`.

        One round trip for each 1,000 items, each time atomically; O(k log n).

        :param interval: seconds for all items, or a callable that takes an item.
        :param first: the first tick of the items that are new, or a callable that takes an item. An item that is not
            new keeps its next tick, and its interval and value are replaced as without ``first``. Nothing is raised for
            it, unlike in :meth:`add`: so a program can add all of its items at each start.

        >>> feeds = PeriodicSet(client, "feeds", interval=3600)
        >>> feeds.update(["a", "b"], interval={"a": 60, "b": 120}.get, first=0), feeds.update(["b", "c"], first=7)
        (2, 1)
        >>> [feeds.next_due(item) for item in ("a", "b", "c")]
        [0.0, 0.0, 7.0]
        """
        return self._driver.follow(self._scheduling.schedule_many(iterables, interval, first))

    def interval(self, item: T | Key) -> float | None:
        """Return the seconds between two ticks of ``item``, or None if it is neither waiting nor leased. O(1)."""
        return self._driver.perform(self._scheduling.planned(item)).interval

    def reschedule(self, item: T | Key, when: Moment) -> None:
        """Set the next tick of ``item`` to ``when``. The ticks after it follow at its interval.

        A lease of the item goes on; when it ends, by an ack or otherwise, the item waits for ``when``.

        :param when: a moment, perhaps in the past; ``math.inf``: never.
        :raises KeyError: the item is neither waiting nor leased.
        :raises TypeError: ``when`` is no moment.
        :raises ValueError: ``when`` is NaN or a naive ``datetime``.

        Cost: O(log n).

        >>> feeds = PeriodicSet(client, "feeds", interval=3600)
        >>> feeds.add("a")
        True
        >>> feeds.reschedule("a", 2_000_000_000)
        >>> feeds.next_due("a")
        2000000000.0
        """
        self._driver.perform(self._scheduling.reschedule(item, when))

    def trigger(self, item: T | Key) -> None:
        """Let ``item`` fall due now, by the server's clock. The ticks after it follow at its interval.

        A lease of the item goes on; when it ends, the item is due again. An item that is due keeps its place.

        :raises KeyError: the item is neither waiting nor leased.

        Cost: O(log n).

        >>> feeds = PeriodicSet(client, "feeds", interval=3600)
        >>> feeds.add("a"), feeds.take(10), feeds.take(10)
        (True, ['a'], [])
        >>> feeds.trigger("a")
        >>> feeds.take(10)
        ['a']
        """
        self._driver.perform(self._scheduling.trigger(item))

    def next_due(self, item: T | Key) -> float | None:
        """Return when ``item`` falls due, in seconds since the epoch, or None if it is leased or not there. O(1).

        >>> feeds = PeriodicSet(client, "feeds", interval=3600)
        >>> feeds.add("a", interval=60, first=2_000_000_000)
        True
        >>> feeds.interval("a"), feeds.next_due("a"), feeds.next_due("b")
        (60.0, 2000000000.0, None)
        """
        return self._driver.perform(self._scheduling.planned(item)).next_due


class ExpiringSet(BaseExpiring[Driver, T], SetOperators[T]):
    """A set in Redis or Valkey that any number of processes share and whose items each have their own time to live.

    It answers whether an item was seen: of all calls that add an item, exactly one returns that it is new, until the
    item expires by the server's clock. Two items are the same item if they serialize to the same bytes.

    - Adding: :meth:`add`, :meth:`add_new`, :meth:`add_to`. Changing the time to live: :meth:`touch`.
    - Reading: ``len()``, ``in``, iteration; or :meth:`count`, :meth:`contains`, :meth:`contains_many`; :meth:`ttl`.
    - Removing: :meth:`discard`, :meth:`remove`, :meth:`pop`, :meth:`clear`.
    - Combining with other sets: the operators and comparisons of ``set``, see :meth:`union`.

    Round trips, costs, durations and errors are given as in :class:`SortedSet`.

    It has neither a pause nor limits: nothing is claimed from it, and its items leave by themselves.

    An expired item is not in the set, even while it still takes memory. Each write frees more expired items than it
    adds, and the key itself expires with its last item.

    Programs in other languages see a sorted set whose scores are the expiry times, in seconds since the epoch. After a
    ZADD of an item that outlives all others, send PERSIST, or the key expires too early; the next write by redset sets
    its expiry again.

    :param redis_client: a client with the interface of ``redis.Redis``: redis-py, valkey-py, a cluster client …
    :param name: the key of the items. The keys of call records are derived from it.
    :param ttl: seconds that an item lives if it is added without a time of its own; more than 0.
    :param serializer: an object with ``dumps`` and ``loads``, see :class:`~redset.interfaces.Serializer`. Default:
        items are stored as ``str(item)`` and returned as str; bytes are stored as they are.
    :param digest: whether to store only a hash of each item, the first 16 bytes of the SHA-1 of its serialized form,
        which saves memory with long items. Iteration, and the operators whose result may have items that only this set
        has, then raise TypeError. Two items with the same hash would be one item; expect that among about 10^19.
    :param retry_safe: whether the server keeps the reply of each call for ten minutes, so that an ``add`` that a client
        repeats because its reply was lost returns what it returned before.
    :param shards: see :class:`SortedSet`. The key of the layout does not expire.

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

    def add(self, item: T, ttl: Duration | None = None) -> bool:  # type: ignore[override] # that of MutableSet returns None
        """Add ``item`` and return whether it is new; an item that is there keeps its time to live.

        :param ttl: seconds that it lives. Default: the ``ttl`` of the set.
        :returns: True if the item was never added, was removed, or has expired.
        :raises TypeError: ``ttl`` is no number and no ``timedelta``. All errors in an item are raised before anything
            is sent.
        :raises ValueError: ``ttl`` is not more than 0, or not finite.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was added.

        Cost: O(log n).
        """
        return self._driver.perform(self._expiring.add(item, ttl))

    def add_to(self, pipeline: Any, item: T, ttl: Duration | None = None) -> None:
        """Add ``item`` by a pipeline of the caller's, like :meth:`add`; see :meth:`SortedSet.add_to`."""
        self._driver.enqueue(pipeline, self._expiring.add(item, ttl))

    def add_new(self, items: Iterable[T], ttl: Duration | None = None) -> list[T]:
        """Add ``items`` and return a list of those that are new: the caller's own objects, in order, each item once.

        Sends 1,000 items per round trip, each time atomically, and keeps no more of them in memory, in addition to the
        new ones.

        An error of the iterable, the serializer or the server passes through, with a note that says how many items were
        added. The items that were new by then are not new to any other caller, so the error carries them, a list, in
        its attribute ``new_items``. A call whose reply never arrived may or may not have added its items.

        :param ttl: seconds that each item lives. Default: the ``ttl`` of the set.
        :raises ServerFullError: the server is at its ``maxmemory``; of the last 1,000 items none was added.

        Cost: O(k log n).

        >>> seen = ExpiringSet(client, "seen", ttl=3600)
        >>> seen.add_new(["/a", "/b", "/a"]), seen.add_new(f"/{letter}" for letter in "abc")
        (['/a', '/b'], ['/c'])
        """
        newcomers = Newcomers(self.name, self._expiring, ttl)
        self._driver.follow(newcomers.add(items))
        return newcomers.new

    def touch(self, item: T | Key, ttl: Duration | None = None) -> bool:
        """Let ``item`` expire ``ttl`` seconds from now, earlier or later than before; return whether it is there.

        :param ttl: Default: the ``ttl`` of the set.
        :raises ServerFullError: the server is at its ``maxmemory``; nothing was changed.

        Cost: O(log n).
        """
        return self._driver.perform(self._expiring.touch(item, ttl))

    def contains(self, item: T | Key) -> bool:
        """Return whether ``item`` is there: ``item in seen``. An item that the serializer refuses is not. O(1)."""
        return self._driver.perform(self._expiring.contains(item))

    def contains_many(self, items: Iterable[T | Key]) -> list[bool]:
        """Return for each of ``items`` whether it is there.

        One round trip for each 1,000 items; O(k).
        """
        return self._driver.follow(self._expiring.contains_many(items))

    def __contains__(self, item: object) -> bool:
        return self.contains(item)  # type: ignore[arg-type] # an object that the serializer refuses is not in it

    def ttl(self, item: T | Key) -> float | None:
        """Return the seconds until ``item`` expires, or None if it is not there. O(1)."""
        return self._driver.perform(self._expiring.ttl(item))

    def count(self) -> int:
        """Return the number of items: ``len(seen)``. O(log n)."""
        return self._driver.perform(self._expiring.count())

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items, soonest expiry first.

        Yields an item that keeps its time to live exactly once, whatever others do meanwhile, unless it expires first.
        Ends at the item that was last when the iteration began.

        :raises TypeError: the set stores only hashes.
        :raises DeserializationError: an item cannot be loaded; the error carries the stored bytes.

        One round trip for each 1,000 items; O(n).
        """
        return self._driver.iterate(self._expiring.first_page())

    def discard(self, item: T | Key) -> bool:  # type: ignore[override] # likewise
        """Remove ``item`` and return whether it was there. O(log n)."""
        return self._driver.perform(self._expiring.discard(item))

    def remove(self, item: T | Key) -> None:
        """Remove ``item``.

        :raises KeyError: the item was not there.
        """
        self._driver.perform(self._expiring.remove(item))

    def pop(self) -> T:
        """Remove and return the item that expires first; one caller receives each item.

        :raises KeyError: the set is empty.
        :raises TypeError: the set stores only hashes.
        :raises DeserializationError: the item cannot be loaded, and stays; the error carries the stored bytes.

        Two round trips, and two more each time that another caller was faster; O(log n).

        >>> seen = ExpiringSet(client, "seen", ttl=3600)
        >>> seen.add("/a"), seen.add("/b", ttl=60), seen.pop()
        (True, True, '/b')
        """
        return self._driver.follow(self._expiring.pop())

    def clear(self) -> bool:  # type: ignore[override] # likewise
        """Remove all items, and return whether there was one.

        The server frees the memory in the background: O(1) for the caller.
        """
        return self._driver.perform(self._expiring.clear())


class Loop(BaseLoop[Driver, Reservation[T]]):
    """The iterator that ``consume`` returns: over reservations, and a context manager that closes it.

    ``for`` and ``with`` close it. A caller that uses ``next()`` calls :meth:`close`.
    """

    def __iter__(self) -> Iterator[Reservation[T]]:
        self._begin()
        return self._iterate()

    def _iterate(self) -> Iterator[Reservation[T]]:
        is_closed = False
        try:
            try:
                yield from iter(self._next_one, None)
            except BaseException as error:
                self._close_after(error)
                is_closed = True
                raise
        except BaseException as error:
            # An interruption can come before the call above begins.
            if not is_closed:
                self._close_after(error)
            raise

    def _close_after(self, error: BaseException) -> None:
        """Close the loop, unless the error is a failure: after that, the loop was closed as far as possible."""
        if not is_failure(error):
            self._try_to_close()

    def _try_to_close(self) -> None:
        """Close the loop after an error, which a failure of that must not replace."""
        try:
            self.close()
        except Exception as trouble:
            if is_interruption(trouble):
                raise
            log.warning(NOT_ENDED, trouble)

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
            self._try_to_close()
            raise
        finally:
            self._asking = False
        self.close()
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.close()
            else:
                self._try_to_close()
        except BaseException as trouble:
            # An interruption can come before the call above begins.
            self._close_after(trouble)
            raise

    def close(self) -> None:
        """Requeue the items that were not begun and nack the current one; see :meth:`SortedSet.consume`."""
        try:
            self._leave_body()
            self._driver.follow(self._close())
        except BaseException as error:
            if is_interruption(error):
                # Else the leases end only when they expire.
                with suppress(Exception):
                    self._driver.follow(self._close())
            raise


class Consumption(Loop[T], BaseConsumption[T, Driver, Reservation[T]]):
    __doc__ = Loop.__doc__


class DeadLetters(BaseDeadLetters[Driver, T]):
    """The dead letters of a set, newest first.

    Iteration yields each letter once, whatever is retried, forgotten or dies meanwhile, and no newer ones.

    - Reading: ``len()`` or :meth:`count`, iteration, ``[a:b]`` or :meth:`slice`.
    - Requeueing: :meth:`retry`, :meth:`retry_many`, :meth:`retry_all`. Deleting: :meth:`discard`, :meth:`discard_many`,
      :meth:`clear`.

    The methods of one letter take an item or a :class:`~redset.reservations.DeadLetter`, which is the way to name a
    letter whose item cannot be loaded.

    Each method is one round trip and atomic. Iteration, and the methods for many or all, take one round trip for
    each 1,000 letters. Costs are given for d dead letters.
    """

    def count(self) -> int:
        """Return the number of dead letters: ``len(letters)``. O(1)."""
        return self._driver.perform(self._letters.count())

    def __len__(self) -> int:
        return self.count()

    def slice(self, start: int | None = None, stop: int | None = None) -> list[DeadLetter[T]]:
        """Return the letters from position ``start`` up to before ``stop``: ``letters[start:stop]``. O(log d + k)."""
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
        """Requeue one item, with its score and as if never claimed; return whether it was a dead letter. O(log d)."""
        return self._driver.perform(self._letters.retry(item))

    def retry_many(self, items: Iterable[T | Key | DeadLetter[T]]) -> int:
        """Requeue many items, and return how many were dead letters. One round trip for each 1,000; O(k log d)."""
        return self._driver.follow(self._letters.retry_many(items))

    def retry_all(self) -> int:
        """Requeue all items, oldest first, and return how many. O(k log d)."""
        return self._driver.follow(self._letters.retry_all())

    def discard(self, item: T | Key | DeadLetter[T]) -> bool:
        """Delete one dead letter, and return whether there was one. O(log d)."""
        return self._driver.perform(self._letters.discard(item))

    def discard_many(self, items: Iterable[T | Key | DeadLetter[T]]) -> int:
        """Delete many dead letters, and return how many there were. One round trip for each 1,000; O(k log d)."""
        return self._driver.follow(self._letters.discard_many(items))

    def clear(self) -> int:
        """Delete all dead letters, and return how many there were. O(k log d)."""
        return self._driver.follow(self._letters.clear())
