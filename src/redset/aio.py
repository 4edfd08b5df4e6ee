"""The asyncio face: the sets of :mod:`redset.sets`, with every call awaited.

Methods replace the syntax that has no await: ``await ss.count()`` for ``len(ss)``, ``await ss.contains(x)`` for ``x in
ss``, ``await ss.at(i)`` for ``ss[i]``, ``await ss.slice(a, b)`` for ``ss[a:b]``, ``remove_at`` and ``remove_slice`` for
``del``. Iteration is ``async for``, and ``ss.reversed()`` replaces ``reversed(ss)``.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Self

from redset import registry as blocking_registry
from redset import sets as blocking
from redset import several as blocking_several
from redset.connect import connect_async as connect
from redset.core import registry, several
from redset.core.adding import flagged
from redset.core.algebra import Algebra
from redset.core.base import BaseDeadLetters, BaseExpiring, BasePeriodic, BaseSet, T
from redset.core.clients import check_client, is_failure
from redset.core.consuming import NOT_ENDED, BaseConsumption, BaseLoop, Stop
from redset.core.definition import PLAIN, SCHEDULED, TIMED
from redset.core.drivers import AsyncDriver
from redset.core.expiring import Newcomers
from redset.core.groups import GroupStats, all_groups
from redset.core.inspecting import Inspection, Lease, Sample, State, Totals
from redset.core.items import Key
from redset.core.leaving import Close, Leaving
from redset.core.operations import CHUNK
from redset.core.paging import Span
from redset.core.periodic import ScheduleMany
from redset.core.registry import SetInfo
from redset.core.several import BaseSeveral, BaseSeveralConsumption
from redset.core.shards import resharding
from redset.core.shards.resharding import Progress
from redset.core.times import Duration, Moment
from redset.core.twins import described_by, told_by
from redset.core.updating import Update
from redset.groups import AsyncGroup as Group
from redset.locks import AsyncLock as Lock
from redset.reservations import AsyncReservation as Reservation
from redset.reservations import DeadLetter, Stats

__all__ = (
    "Consumption",
    "DeadLetters",
    "ExpiringSet",
    "Group",
    "Lock",
    "PeriodicSet",
    "Reservation",
    "ScheduledSet",
    "Several",
    "SeveralConsumption",
    "SortedSet",
    "TimeSortedSet",
    "connect",
    "first_of",
    "forget_set",
    "list_sets",
    "open_set",
    "reshard",
    "shared",
)

log = logging.getLogger("redset")


async def _in_chunks(iterable: AsyncIterable[T], update: Update[T] | Newcomers[T]) -> AsyncIterator[list[T]]:
    """Yield the items of ``iterable`` in chunks, and note its errors as those of any other iterable."""
    chunk: list[T] = []
    with update.noting_errors():
        async for item in iterable:
            chunk.append(item)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


@told_by(blocking.SetOperators)
class SetOperators(Generic[T]):
    _driver: AsyncDriver
    _algebra: Algebra[T]

    async def copy(self) -> set[T]:
        return await self._driver.follow(self._algebra.union())

    async def union(self, *others: Iterable[Any] | AsyncIterable[Any]) -> set[T]:
        return await self._driver.follow(self._algebra.union(others))

    async def intersection(self, *others: Iterable[Any] | AsyncIterable[Any]) -> set[T]:
        return await self._driver.follow(self._algebra.intersection(others))

    async def difference(self, *others: Iterable[Any] | AsyncIterable[Any]) -> set[T]:
        return await self._driver.follow(self._algebra.difference(others))

    async def symmetric_difference(self, other: Iterable[Any] | AsyncIterable[Any]) -> set[T]:
        return await self._driver.follow(self._algebra.symmetric_difference(other))

    async def equals(self, other: Iterable[Any] | AsyncIterable[Any]) -> bool:
        return await self._driver.follow(self._algebra.equals(other))

    async def issubset(self, other: Iterable[Any] | AsyncIterable[Any]) -> bool:
        return await self._driver.follow(self._algebra.issubset(other))

    async def issuperset(self, other: Iterable[Any] | AsyncIterable[Any]) -> bool:
        return await self._driver.follow(self._algebra.issuperset(other))

    async def isdisjoint(self, other: Iterable[Any] | AsyncIterable[Any]) -> bool:
        return await self._driver.follow(self._algebra.isdisjoint(other))

    async def union_update(self, *others: Iterable[Any] | AsyncIterable[Any]) -> None:
        await self._driver.follow(self._algebra.union_update(others))

    async def intersection_update(self, *others: Iterable[Any] | AsyncIterable[Any]) -> None:
        await self._driver.follow(self._algebra.intersection_update(others))

    async def difference_update(self, *others: Iterable[Any] | AsyncIterable[Any]) -> None:
        await self._driver.follow(self._algebra.difference_update(others))

    async def symmetric_difference_update(self, other: Iterable[Any] | AsyncIterable[Any]) -> None:
        await self._driver.follow(self._algebra.symmetric_difference_update(other))


@told_by(blocking.SortedSet)
class SortedSet(BaseSet[AsyncDriver, Lock, Reservation[T], T], SetOperators[T]):
    _kind = PLAIN
    _driver_type = AsyncDriver
    _lock_type = Lock
    _reservation_type = Reservation

    async def add(
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
        rule = flagged(nx=nx, xx=xx, gt=gt, lt=lt, force=force) if nx or xx or gt or lt else None
        return await self._driver.perform(self._adding.add(item, score, rule, force=force))

    async def add_to(
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
        await self._driver.enqueue(
            pipeline, self._adding.addition(item, score, nx=nx, xx=xx, gt=gt, lt=lt, force=force)
        )

    async def update(
        self, *iterables: Iterable[T] | AsyncIterable[T], score: Moment | Callable[[T], Moment] | None = None
    ) -> int:
        return await self._follow_update(Update(self._adding, score), iterables)

    async def _follow_update(self, update: Update[T], iterables: Iterable[Iterable[T] | AsyncIterable[T]]) -> int:
        # Raise for an object that is not iterable before anything is added.
        sources = [source if isinstance(source, AsyncIterable) else iter(source) for source in iterables]
        for source in sources:
            if isinstance(source, AsyncIterable):
                async for items in _in_chunks(source, update):
                    await self._driver.follow(update.add(items))
            else:
                await self._driver.follow(update.add(source))
        return update.new

    async def increment(self, item: T, by: Duration) -> float | None:
        return await self._driver.perform(self._adding.increment(item, by))

    async def pop(self, wait: Duration | None = 0) -> T:
        return await self._driver.follow(self._claims.pop(wait))

    async def take(self, num: int, wait: Duration | None = 0) -> list[T]:
        return await self._driver.follow(self._claims.take(num, wait))

    async def pop_max(self, wait: Duration | None = 0) -> T:
        return await self._driver.follow(self._claims.pop(wait, last=True))

    async def take_max(self, num: int, wait: Duration | None = 0) -> list[T]:
        return await self._driver.follow(self._claims.take(num, wait, last=True))

    async def reserve(self, lease: Duration = 60.0, wait: Duration | None = 0) -> Reservation[T]:
        return await self._driver.follow(self._claims.reserve(lease, wait))

    async def reserve_many(self, num: int, lease: Duration = 60.0, wait: Duration | None = 0) -> list[Reservation[T]]:
        return await self._driver.follow(self._claims.reserve_many(num, lease, wait))

    def consume(
        self,
        lease: Duration = 60.0,
        batch: int = 1,
        wait: Duration | None = None,
        stop: Stop = None,
        max_outage: Duration | None = None,
    ) -> "Consumption[T]":
        return Consumption(self._driver, self._claims, self._endings, lease, batch, wait, stop, max_outage)

    async def reservation(self, receipt: str) -> Reservation[T]:
        return self._receipts.reservation(receipt)

    async def ack(self, reservations: Iterable[Reservation[T]]) -> list[Reservation[T]]:
        return await self._driver.follow(self._endings.ack(reservations))

    async def nack(
        self, reservations: Iterable[Reservation[T]], delay: Duration | None = None, reason: str = ""
    ) -> list[Reservation[T]]:
        return await self._driver.follow(self._endings.nack(reservations, delay, reason))

    async def again(
        self,
        reservations: Iterable[Reservation[T]],
        delay: Duration = 0,
        score: Moment | None = None,
        *,
        group: bool = False,
    ) -> list[Reservation[T]]:
        return await self._driver.follow(self._endings.again(reservations, delay, score, group=group))

    async def extend(self, reservations: Iterable[Reservation[T]], lease: Duration) -> list[Reservation[T]]:
        return await self._driver.follow(self._endings.extend(reservations, lease))

    async def peek(self, position: int = 0) -> T:
        return await self._driver.perform(self._looking.peek(position))

    async def peek_score(self) -> float | None:
        return await self._driver.perform(self._looking.peek_score())

    async def score(self, item: T | Key) -> float | None:
        return await self._driver.perform(self._looking.score(item))

    async def scores(self, items: Iterable[T | Key]) -> list[float | None]:
        return await self._driver.follow(self._looking.scores_of_all(items))

    async def contains(self, item: T | Key) -> bool:
        return await self._driver.perform(self._looking.contains(item))

    async def contains_many(self, items: Iterable[T | Key]) -> list[bool]:
        return await self._driver.follow(self._looking.contains_many(items))

    async def get(self, item: T | Key) -> T | None:
        return await self._driver.perform(self._looking.get(item))

    async def is_done(self, item: T | Key) -> bool:
        return await self._driver.perform(self._looking.is_done(item))

    async def forget(self, item: T | Key) -> bool:
        return await self._driver.perform(self._removing.forget(item))

    async def count(
        self, *, min: Moment | None = None, max: Moment | None = None, inclusive: tuple[bool, bool] = (True, True)
    ) -> int:
        return await self._driver.perform(self._looking.count(min, max, inclusive))

    async def index(self, item: T | Key) -> int:
        return await self._driver.perform(self._looking.index(item))

    async def at(self, index: int) -> T:
        return await self._driver.perform(self._looking.at(index))

    async def slice(self, start: int | None = None, stop: int | None = None) -> list[T]:
        return await self._driver.perform(self._looking.slice(start, stop))

    def __aiter__(self) -> AsyncIterator[T]:
        return self._driver.iterate(self._paging.items())

    def reversed(self) -> AsyncIterator[T]:
        return self._driver.iterate(self._paging.items(Span(reverse=True)))

    def with_scores(self) -> AsyncIterator[tuple[T, float]]:
        return self._driver.iterate(self._paging.with_scores())

    def between(
        self,
        min: Moment | None = None,
        max: Moment | None = None,
        *,
        inclusive: tuple[bool, bool] = (True, True),
        limit: int | None = None,
        reverse: bool = False,
    ) -> AsyncIterator[T]:
        return self._driver.iterate(self._paging.items(Span(min, max, inclusive, limit, reverse)))

    async def stats(self) -> Stats:
        return await self._driver.perform(self._looking.stats())

    async def totals(self) -> Totals:
        return await self._driver.perform(self._inspecting.totals())

    async def history(self) -> list[Sample]:
        return await self._driver.perform(self._inspecting.history())

    async def state(self, item: T | Key) -> State | None:
        return await self._driver.perform(self._inspecting.state(item))

    async def inspect(self, item: T | Key) -> Inspection[T] | None:
        return await self._driver.perform(self._inspecting.inspect(item))

    async def leases(self, limit: int | None = None) -> list[Lease[T]]:
        return await self._driver.follow(self._inspecting.leases(limit))

    async def discard(self, item: T | Key) -> bool:
        return await self._driver.perform(self._removing.discard(item))

    async def remove(self, item: T | Key) -> None:
        await self._driver.perform(self._removing.remove(item))

    async def remove_at(self, index: int) -> None:
        await self._driver.perform(self._removing.remove_at(index))

    async def remove_slice(self, start: int | None = None, stop: int | None = None) -> int:
        return await self._driver.follow(self._removing.remove_slice(start, stop))

    async def remove_between(
        self,
        min: Moment | None = None,
        max: Moment | None = None,
        *,
        inclusive: tuple[bool, bool] = (True, True),
    ) -> int:
        return await self._driver.follow(self._removing.remove_between(min, max, inclusive))

    async def clear(self) -> bool:
        return await self._driver.perform(self._removing.clear())

    def group(self, name: Any) -> Group:
        return Group(self._driver, self._groups, self._name, name)

    async def groups(self, limit: int = 100) -> list[GroupStats]:
        return await self._driver.perform(all_groups(self._groups, self._name, limit))

    async def pause(self, until: Moment | None = None) -> None:
        await self._driver.perform(self._gates.pause(until))

    async def resume(self) -> None:
        await self._driver.perform(self._gates.resume())

    async def limit(
        self,
        rate: float | None = None,
        per: Duration = 1.0,
        burst: int | None = None,
        leases: int | None = None,
        maxsize: int | None = None,
    ) -> None:
        await self._driver.perform(self._gates.limit(rate, per, burst, leases, maxsize))

    @property
    def dead_letters(self) -> "DeadLetters[T]":
        return DeadLetters(self._driver, self._letters)


@told_by(blocking.TimeSortedSet)
class TimeSortedSet(SortedSet[T]):
    _kind = TIMED


@told_by(blocking.ScheduledSet)
class ScheduledSet(TimeSortedSet[T]):
    _kind = SCHEDULED

    async def add(
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
        addition = self._adding.addition(item, score, delay, nx=nx, xx=xx, gt=gt, lt=lt, force=force)
        return await self._driver.perform(addition)

    async def add_to(
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
        addition = self._adding.addition(item, score, delay, nx=nx, xx=xx, gt=gt, lt=lt, force=force)
        await self._driver.enqueue(pipeline, addition)

    async def available(self) -> int:
        return await self._driver.perform(self._looking.available())


@told_by(blocking.PeriodicSet)
class PeriodicSet(BasePeriodic[AsyncDriver, Lock, Reservation[T], T], ScheduledSet[T]):
    _kind = SCHEDULED

    async def add(  # type: ignore[override] # a periodic item has an interval, and no score of its own
        self, item: T, interval: Duration | None = None, first: Moment | None = None
    ) -> bool:
        return await self._driver.perform(self._scheduling.schedule(item, interval, first))

    async def add_to(  # type: ignore[override] # likewise
        self, pipeline: Any, item: T, interval: Duration | None = None, first: Moment | None = None
    ) -> None:
        await self._driver.enqueue(pipeline, self._scheduling.schedule(item, interval, first))

    async def update(  # type: ignore[override]
        self,
        *iterables: Iterable[T] | AsyncIterable[T],
        interval: Duration | Callable[[T], Duration] | None = None,
        first: Moment | Callable[[T], Moment] | None = None,
    ) -> int:
        return await self._follow_update(ScheduleMany(self._scheduling, interval, first), iterables)

    async def interval(self, item: T | Key) -> float | None:
        return (await self._driver.perform(self._scheduling.planned(item))).interval

    async def reschedule(self, item: T | Key, when: Moment) -> None:
        await self._driver.perform(self._scheduling.reschedule(item, when))

    async def trigger(self, item: T | Key) -> None:
        await self._driver.perform(self._scheduling.trigger(item))

    async def next_due(self, item: T | Key) -> float | None:
        return (await self._driver.perform(self._scheduling.planned(item))).next_due


@told_by(blocking.ExpiringSet)
class ExpiringSet(BaseExpiring[AsyncDriver, T], SetOperators[T]):
    _driver_type = AsyncDriver

    async def add(self, item: T, ttl: Duration | None = None) -> bool:
        return await self._driver.perform(self._expiring.add(item, ttl))

    async def add_to(self, pipeline: Any, item: T, ttl: Duration | None = None) -> None:
        await self._driver.enqueue(pipeline, self._expiring.add(item, ttl))

    async def add_new(self, items: Iterable[T] | AsyncIterable[T], ttl: Duration | None = None) -> list[T]:
        newcomers = Newcomers(self.name, self._expiring, ttl)
        if isinstance(items, AsyncIterable):
            async for chunk in _in_chunks(items, newcomers):
                await self._driver.follow(newcomers.add(chunk))
        else:
            await self._driver.follow(newcomers.add(items))
        return newcomers.new

    async def touch(self, item: T | Key, ttl: Duration | None = None) -> bool:
        return await self._driver.perform(self._expiring.touch(item, ttl))

    async def contains(self, item: T | Key) -> bool:
        return await self._driver.perform(self._expiring.contains(item))

    async def contains_many(self, items: Iterable[T | Key]) -> list[bool]:
        return await self._driver.follow(self._expiring.contains_many(items))

    async def ttl(self, item: T | Key) -> float | None:
        return await self._driver.perform(self._expiring.ttl(item))

    async def count(self) -> int:
        return await self._driver.perform(self._expiring.count())

    def __aiter__(self) -> AsyncIterator[T]:
        return self._driver.iterate(self._expiring.first_page())

    async def discard(self, item: T | Key) -> bool:
        return await self._driver.perform(self._expiring.discard(item))

    async def remove(self, item: T | Key) -> None:
        await self._driver.perform(self._expiring.remove(item))

    async def pop(self) -> T:
        return await self._driver.follow(self._expiring.pop())

    async def clear(self) -> bool:
        return await self._driver.perform(self._expiring.clear())


@told_by(blocking.Loop)
class Loop(BaseLoop[AsyncDriver, Reservation[T]]):
    _closing: "asyncio.Task[None] | None"

    def __aiter__(self) -> AsyncIterator[Reservation[T]]:
        self._begin()
        return _Iterator(self, self._close_later)

    async def __anext__(self) -> Reservation[T]:
        reservation = await self._next_one()
        if reservation is None:
            raise StopAsyncIteration
        return reservation

    async def _next_one(self) -> Reservation[T] | None:
        if not self._is_ours:
            return None
        self._check_asker()
        reservation = self._at_hand()
        if reservation is not None:
            return reservation
        self._asking = True
        try:
            reservation = await self._driver.follow(self._next())
        except BaseException:
            try:
                await self.close()
            except (Exception, asyncio.CancelledError) as trouble:
                if not self._is_done:
                    log.warning(NOT_ENDED, trouble)
            raise
        finally:
            self._asking = False
        if reservation is None:
            await self.close()
        return reservation

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except Exception as trouble:
            if error is None or not is_failure(trouble):
                raise
            log.warning(NOT_ENDED, trouble)

    async def close(self) -> None:
        if (task := self._begin_to_close()) is not None:
            await self._driver.wait_for(task)

    def _begin_to_close(self) -> "asyncio.Task[None] | None":
        """Return the task that closes the loop, or None if nothing is left to do."""
        self._leave_body()
        task = getattr(self, "_closing", None)
        if task is None or task.done():
            task = self._driver.begin_to_follow(self._close()) if self._is_ours and not self._is_done else None
            self._closing = task
        return task

    def _close_later(self) -> "asyncio.Task[None] | None":
        task = self._begin_to_close()
        if task is not None:
            task.add_done_callback(_log_trouble)
        return task


@told_by(blocking.Consumption)
class Consumption(Loop[T], BaseConsumption[T, AsyncDriver, Reservation[T]]):
    pass


@told_by(blocking_several.SeveralConsumption)
class SeveralConsumption(Loop[Any], BaseSeveralConsumption[AsyncDriver]):
    pass


class _Iterator(AsyncIterator[Reservation[T]]):
    """The iterator of one ``async for``, which closes the loop when it is dropped."""

    __slots__ = ("_close", "_consumption", "_leaving")

    def __init__(self, consumption: Loop[T], close: Close) -> None:
        self._consumption = consumption
        self._close = close
        self._leaving: Leaving | None = None

    async def __anext__(self) -> Reservation[T]:
        # This coroutine refers to the iterator, which would else be dropped during ``await anext(aiter(loop))``.
        if self._leaving is None:
            self._leaving = Leaving(self._close)
        return await self._consumption.__anext__()

    async def aclose(self) -> None:
        await self._consumption.close()


def _log_trouble(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (trouble := task.exception()) is not None:
        log.warning(NOT_ENDED, trouble)


@told_by(blocking.DeadLetters)
class DeadLetters(BaseDeadLetters[AsyncDriver, T]):
    async def count(self) -> int:
        return await self._driver.perform(self._letters.count())

    async def slice(self, start: int | None = None, stop: int | None = None) -> list[DeadLetter[T]]:
        return await self._driver.perform(self._letters.slice(start, stop))

    def __aiter__(self) -> AsyncIterator[DeadLetter[T]]:
        return self._driver.iterate(self._letters.first_page())

    async def retry(self, item: T | Key | DeadLetter[T]) -> bool:
        return await self._driver.perform(self._letters.retry(item))

    async def retry_many(self, items: Iterable[T | Key | DeadLetter[T]]) -> int:
        return await self._driver.follow(self._letters.retry_many(items))

    async def retry_all(self) -> int:
        return await self._driver.follow(self._letters.retry_all())

    async def discard(self, item: T | Key | DeadLetter[T]) -> bool:
        return await self._driver.perform(self._letters.discard(item))

    async def discard_many(self, items: Iterable[T | Key | DeadLetter[T]]) -> int:
        return await self._driver.follow(self._letters.discard_many(items))

    async def clear(self) -> int:
        return await self._driver.follow(self._letters.clear())


KINDS = {kind.__name__: kind for kind in (SortedSet, TimeSortedSet, ScheduledSet, PeriodicSet, ExpiringSet)}


@told_by(blocking_several.Several)
class Several(BaseSeveral[AsyncDriver]):
    async def pop(self, wait: Duration | None = 0) -> Any:
        return await self._driver.follow(self._pop(wait))

    async def take(self, num: int, wait: Duration | None = 0) -> list[Any]:
        return await self._driver.follow(self._take(num, wait))

    async def reserve(self, lease: Duration = 60.0, wait: Duration | None = 0) -> Reservation[Any]:
        reservation: Reservation[Any] = await self._driver.follow(self._reserve(lease, wait))
        return reservation

    async def reserve_many(self, num: int, lease: Duration = 60.0, wait: Duration | None = 0) -> list[Reservation[Any]]:
        return await self._driver.follow(self._reserve_many(num, lease, wait))

    def consume(
        self,
        lease: Duration = 60.0,
        batch: int = 1,
        wait: Duration | None = None,
        stop: Stop = None,
        max_outage: Duration | None = None,
    ) -> SeveralConsumption:
        return SeveralConsumption(self, lease, batch, wait, stop, max_outage)


@described_by(blocking_several.first_of)
def first_of(*sets: SortedSet[Any]) -> Several:
    return Several(several.checked([(one, 1) for one in sets], SortedSet), several.in_order)


@described_by(blocking_several.shared)
def shared(sets: Iterable[tuple[SortedSet[Any], int]]) -> Several:
    return Several(several.checked(several.paired(sets, (SortedSet, ExpiringSet)), SortedSet), several.in_turns)


@described_by(blocking_registry.list_sets)
async def list_sets(client: Any) -> list[SetInfo]:
    return await _driver(client).follow(registry.infos())


@described_by(blocking_registry.open_set)
async def open_set(client: Any, name: str) -> Any:
    return registry.opened(client, name, await _driver(client).perform(registry.info(name)), KINDS)


@described_by(blocking_registry.forget_set)
async def forget_set(client: Any, name: str) -> bool:
    return await _driver(client).follow(registry.forget(name))


@described_by(blocking_registry.reshard)
async def reshard(client: Any, name: str, shards: int | None, progress: Progress | None = None) -> bool:
    one: SortedSet[Any] = SortedSet(client, name, shards="stored")
    return await _driver(client).follow(resharding.reshard(one, shards, progress))


def _driver(client: Any) -> AsyncDriver:
    check_client(client, awaits=True)
    return AsyncDriver(client, *registry.PLACE, recording=False, connections="own")
