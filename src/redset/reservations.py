"""What redset hands back besides items: reservations, dead letters and counts."""

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
    """Whether a lease is known to be lost: an event that is also true or false."""

    def __bool__(self) -> bool:
        return self.is_set()


class BaseReservation(Generic[T]):
    """What a reservation knows; both faces end it in their own way."""

    # Whether an end was asked for, and whether it is known to have arrived (or to have come too late).
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
        #: When the lease ends, in seconds since the epoch by the server's clock.
        self.deadline = deadline
        self._stored = stored
        #: "token attempt score", by which the server knows that a lease is still this one.
        self._delivery = delivery
        self._lease = lease
        #: When the lease ends at the earliest, by this process's monotonic clock.
        self._ends_at = ends_at
        self._pid = calls.PID

    @property
    def _is_ours(self) -> bool:
        """Whether this process claimed it. A forked child ends it only when it is told to."""
        return self._pid == calls.PID

    @property
    def token(self) -> int:
        """The fencing token: greater than that of any reservation of this set made before."""
        return int(self._delivery.split()[0])

    @property
    def attempt(self) -> int:
        """How often it was delivered, this time included."""
        return int(self._delivery.split()[1])

    @property
    def score(self) -> float:
        """Its score, with which it comes back if it does."""
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
        """How a block that ended in this way ends its reservation."""
        if error is None:
            return self._endings.ack([self])
        return self._endings.nack([self], None, described(error))

    def _is_still_ours(self, error: Exception) -> bool:
        """What an error while keeping it alive means. Until the lease can have run out, it is worth trying again."""
        if isinstance(error, LeaseLost):
            return False
        log.warning("%s: the lease of %s could not be extended: %s", self._set_name, shown(self.item), error)
        if time.monotonic() < self._ends_at:
            return True
        self.lost.set()
        return False

    def _until_extended(self) -> float:
        """Seconds until the first extension: a third of the lease, less what is over of it already."""
        return max(0.0, min(self._lease / 3, self._ends_at - time.monotonic() - self._lease * 2 / 3))

    def _lost_meanwhile(self) -> bool:
        """Whether the lease was lost, by somebody else than by ending it ourselves."""
        return bool(self.lost) and not self._ending and self._is_ours


class Reservation(BaseReservation[T]):
    """An item that nobody else can get until it is given up, or until the lease ends.

    Ending it: :meth:`ack` (done), :meth:`nack` (failed, try again later), :meth:`again` (given back, no attempt
    counted), :meth:`bury` (never again). Keeping it: :meth:`extend`, :meth:`keep_alive`. As a context manager it gives
    the item, acks when the block is left normally and nacks when it raises, unless the block ended it itself.

    Each is one atomic round trip, and safe to repeat when a call raised because the server could not be reached.
    Once the lease is over each raises :exc:`~redset.exceptions.LeaseLost` and changes nothing, whether or not somebody
    else has the item by then.
    """

    _driver: "Driver"

    def ack(self) -> None:
        """The item is done. If it was added again meanwhile, it waits again, as if new."""
        self._endings.check(self._driver.perform(self._endings.ack_one(self)))

    def nack(self, delay: float | None = None, reason: str = "") -> None:
        """The attempt failed. The item waits again after a delay, or is a dead letter after ``max_attempts``.

        :param delay: seconds. Default: what the set's ``backoff`` says for this attempt.
        :param reason: kept with the dead letter, if it becomes one.
        """
        self._driver.follow(self._endings.one(self._endings.nack([self], delay, reason)))

    def again(self, delay: float = 0, score: float | None = None) -> None:
        """Gives the item back without counting this as an attempt.

        :param delay: seconds until it can be taken again. Adding the item ends that, before this call too; to keep it
            from others whatever is added, :meth:`extend` the lease.
        :param score: a new score; the default is the one it has.
        """
        self._driver.follow(self._endings.one(self._endings.again([self], delay, score)))

    def extend(self, lease: float) -> None:
        """Has the lease end ``lease`` seconds from now, earlier or later than it did."""
        self._driver.follow(self._endings.one(self._endings.extend([self], lease)))

    def bury(self, reason: str = "") -> None:
        """Moves the item to the dead letters; if it was added again meanwhile, it waits again, as if new."""
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
                # Nobody else would end the lease.
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
        """Extends the lease again and again, by as much as it was made for, while the block runs.

        A thread does it, every third of the lease. When the lease is lost all the same, because the item was discarded
        or the server was out of reach for too long, :attr:`lost` is set, for the block to look at.

        :raises LeaseLost: on leaving the block, when the lease was lost meanwhile.
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
            # An interruption can come at any step, and the thread would keep the lease for ever.
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
    """An item that will not be handed out any more, and why."""

    #: The item, or None where the serializer cannot load it.
    item: T | None
    #: The item as stored; on a keyed set its value.
    raw: bytes
    #: Why it died.
    reason: str
    #: When, in seconds since the epoch, by the server's clock.
    died_at: float
    #: How often it had been handed out.
    attempts: int
    #: Its score when it was handed out last.
    score: float
    #: The bytes by which it is told from others: the same as ``raw``, but on a keyed set.
    identity: bytes

    _not_an_item = "dead_letters.retry(letter) has it wait again; its item, if any, is its .item"

    def __repr__(self) -> str:
        item = shown(self.item)
        return (
            f"DeadLetter(item={item}, raw={self.raw!r}, reason={self.reason!r}, died_at={self.died_at!r}, "
            f"attempts={self.attempts!r}, score={self.score!r}, identity={self.identity!r})"
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """How many items of a set are in each state, at one moment."""

    #: Items that wait, and those of them that can be taken now.
    waiting: int
    due: int
    #: Items under a lease, those whose lease ran out and that were not brought back yet, and those backing off.
    leased: int
    expired: int
    delayed: int
    #: Items that were added again while they were leased.
    parked: int
    #: Finished items that are remembered.
    done: int
    #: Dead letters.
    dead: int
    #: The lowest score that waits, or None.
    oldest_score: float | None
    #: How many seconds the oldest due item has been due; None where scores are no times, and for one of minus infinity.
    lag: float | None
