"""Reservations, dead letters and statistics: what the methods of a set return in addition to items."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from redset.core import calls
from redset.core.interruptions import is_interruption
from redset.core.shown import described, shown
from redset.exceptions import LeaseLost

if TYPE_CHECKING:
    from redset.core.drivers import Driver
    from redset.core.endings import Batch, Endings
    from redset.core.operations import Plan

__all__ = ("BaseReservation", "DeadLetter", "Lost", "Reservation", "Stats")

log = logging.getLogger("redset")

T = TypeVar("T")


class Lost(threading.Event):
    """An event that is set when a lease is known to be lost; its truth value says whether it is set."""

    def __bool__(self) -> bool:
        return self.is_set()


class BaseReservation(Generic[T]):
    """The attributes of a reservation, for both faces."""

    # Whether an end was requested, and whether its outcome is known.
    _ending = False
    _ended = False
    _batch: "Batch | None" = None
    _lost: Lost | None = None
    _not_an_item = "add the item of the reservation, its .item"

    def __init__(
        self,
        driver: Any,
        endings: "Endings[T]",
        item: T,
        stored: bytes,
        delivery: bytes,
        deadline: float,
        lease: float,
        ends_at: float,
    ) -> None:
        self._driver = driver
        self._endings = endings
        #: The item.
        self.item = item
        #: The time at which the lease expires, in seconds since the epoch by the server's clock.
        self.deadline = deadline
        self._stored = stored
        #: "token attempt score": the server compares it, so that only the current lease can be ended.
        self._delivery = delivery
        self._lease = lease
        #: The earliest time at which the lease can expire, by this process's monotonic clock.
        self._ends_at = ends_at
        self._pid = calls.PID

    @property
    def _is_ours(self) -> bool:
        """Whether this process made the claim. A forked child leaves the lease to its parent."""
        return self._pid == calls.PID

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every earlier reservation of this set."""
        return int(self._delivery.split()[0])

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return int(self._delivery.split()[1])

    @property
    def score(self) -> float:
        """The score of the item, which a requeue keeps."""
        return float(self._delivery.split()[2])

    def __repr__(self) -> str:
        if "_delivery" not in vars(self):
            return f"<{type(self).__name__}>"
        return f"<{type(self).__name__} item={shown(self.item)} attempt={self.attempt} token={self.token}>"

    @property
    def _set_name(self) -> str:
        return self._endings.set_name

    @property
    def lost(self) -> Lost:
        """An event that is set, and true, once the lease is known to be lost."""
        if self._lost is None:
            self._lost = Lost()
        return self._lost

    def _ending_of(self, error: BaseException | None) -> "Plan[list[Any]]":
        """Return the plan that ends the lease when its block is left: an ack, or a nack after ``error``."""
        if error is None:
            return self._endings.ack([self])
        return self._endings.nack([self], None, described(error))

    def _is_still_ours(self, error: Exception) -> bool:
        """Return whether to go on extending after ``error``: until the lease may have expired, unless it is lost."""
        if isinstance(error, LeaseLost):
            return False
        log.warning("%s: the lease of %s could not be extended: %s", self._set_name, shown(self.item), error)
        if time.monotonic() < self._ends_at:
            return True
        self.lost.set()
        return False

    def _until_extended(self) -> float:
        """Return the seconds until the first extension: a third of the lease, less the part that has passed."""
        return max(0.0, min(self._lease / 3, self._ends_at - time.monotonic() - self._lease * 2 / 3))

    def _lost_meanwhile(self) -> bool:
        """Return whether the lease was lost without having been ended here."""
        return bool(self.lost) and not self._ending and self._is_ours


class Reservation(BaseReservation[T]):
    """A claimed item with its lease: until the lease ends, no other consumer can claim the item.

    - Ending the lease: :meth:`ack` (done), :meth:`nack` (failed: retry later), :meth:`again` (requeue, no attempt
      counted), :meth:`bury` (dead).
    - Keeping it: :meth:`extend`, :meth:`keep_alive`.
    - As a context manager it returns the item. Leaving the block acks the item, or nacks it after an exception, unless
      the block ended the lease itself.

    Each method is one round trip, atomic, and O(log n). After a connection error, call the method again: the two calls
    have the effect of one.

    A lease is lost when its deadline has passed or its item was discarded, even if no other consumer has claimed the
    item. Each method then raises :exc:`~redset.exceptions.LeaseLost` and changes nothing.
    """

    _driver: "Driver"

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

    def nack(self, delay: float | None = None, reason: str = "") -> None:
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

    def again(self, delay: float = 0, score: float | None = None) -> None:
        """Requeue the item without counting the attempt.

        :param delay: seconds until the item can be claimed. An addition of the item, before or after this call, ends
            the delay; to keep the item from others regardless, :meth:`extend` the lease.
        :param score: the new score. Default: the score it has.

        >>> from redset import SortedSet
        >>> jobs = SortedSet(client, "jobs")
        >>> jobs.add("read")
        0.0
        >>> jobs.reserve().again(score=5)
        >>> jobs.reserve().attempt, jobs.stats().leased
        (1, 1)
        """
        self._driver.follow(self._endings.one(self._endings.again([self], delay, score)))

    def extend(self, lease: float) -> None:
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
        """Make the item a dead letter, whatever its number of attempts.

        An item that was added again under the lease is waiting afterwards, as if new; a set that remembers drops that
        addition.

        :param reason: stored with the dead letter.
        """
        self._driver.follow(self._endings.one(self._endings.bury([self], reason)))

    def __enter__(self) -> T:
        return self.item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not self._ended and self._is_ours:
                self._leave(error)
        except BaseException as trouble:
            if is_interruption(trouble) and not self._ended and self._is_ours:
                # Else the lease ends only when it expires.
                with suppress(Exception):
                    self._driver.follow(self._endings.one(self._ending_of(error)))
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
            log.warning("%s: %s could not be nacked: %s", self._set_name, shown(self.item), trouble)

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
            raise LeaseLost(f"the lease of {shown(self.item)} in the set {self._set_name!r} was lost meanwhile")

    def _keep_until(self, left: threading.Event) -> None:
        rest = self._until_extended()
        while not left.wait(rest) and not self._ended:
            rest = self._lease / 3
            try:
                self.extend(self._lease)
            except Exception as error:
                if not self._is_still_ours(error):
                    return


@dataclass(frozen=True, slots=True)
class DeadLetter(Generic[T]):
    """An item that is not claimed any more, and the reason."""

    #: The item, or None where the serializer cannot load it.
    item: T | None
    #: The stored bytes of the item; on a keyed set those of its value.
    raw: bytes
    #: The reason of its death.
    reason: str
    #: The time of its death, in seconds since the epoch, by the server's clock.
    died_at: float
    #: The number of its attempts.
    attempts: int
    #: Its score at the last claim.
    score: float
    #: Its identity: the same as ``raw`` unless the set is keyed.
    identity: bytes

    _not_an_item = "requeue it by dead_letters.retry(letter); its item, if any, is its .item"

    def __repr__(self) -> str:
        item = shown(self.item)
        return (
            f"DeadLetter(item={item}, raw={self.raw!r}, reason={self.reason!r}, died_at={self.died_at!r}, "
            f"attempts={self.attempts!r}, score={self.score!r}, identity={self.identity!r})"
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """The number of items in each state, at one moment."""

    #: Waiting items, and those of them that can be claimed now.
    waiting: int
    due: int
    #: Leased items; those whose lease expired and that no claim has requeued yet; those backing off.
    leased: int
    expired: int
    delayed: int
    #: Items that were added while they were leased.
    parked: int
    #: Remembered items.
    done: int
    #: Dead letters.
    dead: int
    #: The lowest score of a waiting item, or None.
    oldest_score: float | None
    #: Seconds that the oldest due item has been due; None if scores are no times, or the lowest is minus infinity.
    lag: float | None
