"""Reservations, on both faces; and what else the methods of a set return in addition to items."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from redset.core.drivers import AsyncDriver, Driver
from redset.core.endings import Endings
from redset.core.gates import Limits
from redset.core.interruptions import is_interruption
from redset.core.leases import BaseReservation, Lost
from redset.core.letters import DeadLetter
from redset.core.looking import Stats
from redset.core.observing import enter_body, hooks, leave_body
from redset.core.operations import Plan
from redset.core.receipts import WithReceipt
from redset.core.shown import described
from redset.core.times import Duration, Moment
from redset.core.twins import told_by
from redset.exceptions import LeaseLost

__all__ = ("AsyncReservation", "BaseReservation", "DeadLetter", "Limits", "Lost", "Reservation", "Stats")

log = logging.getLogger("redset")

T = TypeVar("T")
DriverT = TypeVar("DriverT")


class _Reservation(WithReceipt[T], Generic[T, DriverT]):
    _driver: DriverT
    _endings: Endings[T]

    def _end_after(self, error: BaseException | None) -> Plan[list[Any]]:
        """Return the plan that ends the lease when its block is left: an ack, or a nack after ``error``."""
        if error is None:
            return self._endings.ack([self])
        return self._endings.nack([self], None, described(error))

    def _is_still_ours(self, error: Exception) -> bool:
        """Return whether to go on extending after ``error``: until the lease may have expired, unless it is lost."""
        if isinstance(error, LeaseLost):
            return False
        log.warning("%s: the lease of %s could not be extended: %s", self.set_name, self._shown_item, error)
        if time.monotonic() < self._expires_at:
            return True
        self.lost.set()
        return False

    def _until_extended(self) -> float:
        """Return the seconds until the first extension: a third of the lease, less the part that has passed."""
        return max(0.0, min(self._lease / 3, self._expires_at - time.monotonic() - self._lease * 2 / 3))

    def _lost_meanwhile(self) -> bool:
        """Return whether the lease was lost without having been ended here."""
        return bool(self.lost) and not self._end_sent and self._is_ours


class Reservation(_Reservation[T, Driver]):
    """A claimed item with its lease: until the lease ends, no other consumer can claim the item.

    - Ending the lease: :meth:`ack` (done), :meth:`nack` (failed: retry later), :meth:`again` (requeue, no attempt
      counted), :meth:`bury` (dead).
    - Keeping it: :meth:`extend`, :meth:`keep_alive`.
    - Handing it to another process: :attr:`receipt`. It cannot be pickled.
    - As a context manager it returns the item. Leaving the block acks the item, or nacks it after an exception, unless
      the block ended the lease itself.

    A duration is a number of seconds or a ``timedelta``; a score may be an aware ``datetime``.

    Each method is one round trip, atomic, and O(log n). After a connection error, call the method again: the two calls
    have the effect of one.

    A lease is lost when its deadline has passed or its item was discarded, even if no other consumer has claimed the
    item. Each method then raises :exc:`~redset.exceptions.LeaseLost` and changes nothing.
    """

    def ack(self) -> None:
        """Finish the item.

        An item that was added again under the lease is waiting afterwards, as if new; a set that remembers drops that
        addition.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> reservation = jobs.reserve()
        >>> reservation.item, reservation.attempt
        ('read', 1)
        >>> reservation.ack()
        """
        self._endings.check(self._driver.perform(self._endings.ack_one(self)))

    def nack(self, delay: Duration | None = None, reason: str = "") -> None:
        """Report the attempt as failed: requeue the item after a delay.

        After ``max_attempts`` the item becomes a dead letter instead. An item that was added again under the lease is
        not delayed.

        :param delay: seconds. Default: the result of the set's ``backoff`` for this attempt.
        :param reason: stored with the dead letter, if the item becomes one.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs", max_attempts=2)
        >>> jobs.add("read")
        0.0
        >>> jobs.reserve().nack(delay=0)
        >>> jobs.reserve().nack(reason="no network")
        >>> [letter.reason for letter in jobs.dead_letters]
        ['no network']
        """
        self._driver.follow(self._endings.one(self._endings.nack([self], delay, reason)))

    def again(self, delay: Duration = 0, score: Moment | None = None, *, group: bool = False) -> None:
        """Requeue the item without counting the attempt.

        :param delay: seconds until the item can be claimed. An addition of the item, before or after this call, ends
            the delay; to keep the item from others regardless, :meth:`extend` the lease.
        :param score: the new score. Default: the score it has.
        :param group: whether the whole group of the item rests for ``delay`` seconds, as after a ``Retry-After`` of its
            host, instead of the item alone. The item waits meanwhile.
        :raises TypeError: ``group`` is true, and the set has no groups.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> jobs.reserve().again(score=5)
        >>> jobs.reserve().attempt, jobs.stats().leased
        (1, 1)
        """
        self._driver.follow(self._endings.one(self._endings.again([self], delay, score, group=group)))

    def extend(self, lease: Duration) -> None:
        """Set the deadline to ``lease`` seconds from now, earlier or later than before.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> reservation = jobs.reserve(lease=10)
        >>> deadline = reservation.deadline
        >>> reservation.extend(300)
        >>> round(reservation.deadline - deadline)
        290
        """
        self._driver.follow(self._endings.one(self._endings.extend([self], lease)))

    def bury(self, reason: str = "") -> None:
        """Make the item a dead letter, even if it has attempts left.

        An item that was added again under the lease is waiting afterwards, as if new; a set that remembers drops that
        addition.

        :param reason: stored with the dead letter.
        """
        self._driver.follow(self._endings.one(self._endings.bury([self], reason)))

    def __enter__(self) -> T:
        # That of a receipt is loaded here. If that raises, the block is not entered, and no body begins.
        item = self.item
        if hooks.observer is not None:
            enter_body(self, in_loop=False)
        return item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._body is not None:
                leave_body(self, error, in_loop=False)
            if not self._end_known and self._is_ours:
                self._leave(error)
        except BaseException as trouble:
            if is_interruption(trouble) and not self._end_known and self._is_ours:
                # Else the lease ends only when it expires.
                with suppress(Exception):
                    self._driver.follow(self._endings.one(self._end_after(error)))
            raise

    def _leave(self, error: BaseException | None) -> None:
        if error is None:
            self.ack()
            return
        try:
            self.nack(reason=described(error))
        except Exception as trouble:
            if is_interruption(trouble):
                raise
            log.warning("%s: %s could not be nacked: %s", self.set_name, self._shown_item, trouble)

    @contextmanager
    def keep_alive(self) -> Iterator[None]:
        """Extend the lease repeatedly while the block runs.

        A thread extends it by its full length, every third of that. The thread stops and sets :attr:`lost`, which the
        block can check, if the item is discarded or the server cannot be reached until the deadline.

        :raises LeaseLost: on leaving the block, if the lease was lost.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> reservation = jobs.reserve(lease=10)
        >>> with reservation as job, reservation.keep_alive():
        ...     job.upper()
        'READ'
        """
        left = threading.Event()
        keeper = threading.Thread(target=self._keep_until, args=(left,), name="redset keep_alive", daemon=True)
        try:
            try:
                keeper.start()
                yield
            finally:
                left.set()
                if keeper.ident is not None:
                    keeper.join()
        finally:
            # After an interruption, at whatever step, the thread would keep the lease for ever.
            left.set()
        if self._lost_meanwhile():
            raise LeaseLost(f"the lease of {self._shown_item} in the set {self.set_name!r} was lost meanwhile")

    def _keep_until(self, left: threading.Event) -> None:
        rest = self._until_extended()
        while not left.wait(rest) and not self._end_known:
            rest = self._lease / 3
            try:
                self.extend(self._lease)
            except Exception as error:
                if not self._is_still_ours(error):
                    return


@told_by(Reservation)
class AsyncReservation(_Reservation[T, AsyncDriver]):
    __module__ = "redset.aio"

    async def ack(self) -> None:
        self._endings.check(await self._driver.perform(self._endings.ack_one(self)))

    async def nack(self, delay: Duration | None = None, reason: str = "") -> None:
        await self._driver.follow(self._endings.one(self._endings.nack([self], delay, reason)))

    async def again(self, delay: Duration = 0, score: Moment | None = None, *, group: bool = False) -> None:
        await self._driver.follow(self._endings.one(self._endings.again([self], delay, score, group=group)))

    async def extend(self, lease: Duration) -> None:
        await self._driver.follow(self._endings.one(self._endings.extend([self], lease)))

    async def bury(self, reason: str = "") -> None:
        await self._driver.follow(self._endings.one(self._endings.bury([self], reason)))

    async def __aenter__(self) -> T:
        item = self.item
        if hooks.observer is not None:
            enter_body(self, in_loop=False)
        return item

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._body is not None:
                leave_body(self, error, in_loop=False)
            if not self._end_known and self._is_ours:
                await self._leave(error)
        except BaseException as trouble:
            if is_interruption(trouble) and not self._end_known and self._is_ours:
                with suppress(Exception, asyncio.CancelledError):
                    ending = self._driver.begin_to_follow(self._endings.one(self._end_after(error)))
                    await self._driver.wait_for(ending)
            raise

    async def _leave(self, error: BaseException | None) -> None:
        if error is None:
            await self.ack()
            return
        try:
            await self.nack(reason=described(error))
        except Exception as trouble:
            if is_interruption(trouble):
                raise
            log.warning("%s: %s could not be nacked: %s", self.set_name, self._shown_item, trouble)

    @asynccontextmanager
    async def keep_alive(self) -> AsyncIterator[None]:
        """Extend the lease repeatedly while the block runs.

        A task extends it by its full length, every third of that. If the item is discarded, or the server cannot be
        reached until the deadline, the block is cancelled.

        :raises LeaseLost: instead of that cancellation, and on leaving the block, if the lease was lost.
        """
        block = asyncio.current_task()
        assert block is not None
        cancellations = block.cancelling()
        keeper = asyncio.create_task(self._keep_for(block), name="redset keep_alive")
        try:
            yield
        except asyncio.CancelledError:
            if not self._lost_meanwhile() or block.uncancel() > cancellations:
                raise
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
        if self._lost_meanwhile():
            raise LeaseLost(f"the lease of {self._shown_item} in the set {self.set_name!r} was lost meanwhile")

    async def _keep_for(self, block: "asyncio.Task[object]") -> None:
        rest = self._until_extended()
        while not self._end_known:
            await asyncio.sleep(rest)
            rest = self._lease / 3
            try:
                await self.extend(self._lease)
            except Exception as error:
                if not self._is_still_ours(error):
                    break
        if self._lost_meanwhile():
            block.cancel()
