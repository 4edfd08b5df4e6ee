"""What the methods of a set return in addition to items: the base of reservations, dead letters and statistics."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, NoReturn, SupportsIndex, TypeVar

from redset.core import calls
from redset.core.shown import shown
from redset.exceptions import LeaseLost

__all__ = ("BaseReservation", "DeadLetter", "Later", "Lost", "Stats")

log = logging.getLogger("redset")

T = TypeVar("T")


class Lost(threading.Event):
    """An event that is set when a lease is known to be lost; its truth value says whether it is set."""

    def __bool__(self) -> bool:
        return self.is_set()


class Later(NamedTuple):
    """In place of an item: loads it when it is asked for."""

    load: Callable[[], Any]


class BaseReservation(Generic[T]):
    """The attributes of a reservation, for both faces."""

    # Whether an end was requested, and whether its outcome is known.
    _ending = False
    _ended = False
    _batch: Any = None
    _lost: Lost | None = None
    _not_an_item = "add the item of the reservation, its .item"

    def __init__(
        self,
        driver: Any,
        endings: Any,
        item: T | Later,
        stored: bytes,
        delivery: bytes,
        deadline: float,
        lease: float,
        ends_at: float,
    ) -> None:
        self._driver = driver
        self._endings = endings
        if isinstance(item, Later):
            self._later = item
        else:
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

    @cached_property
    def item(self) -> T:
        """The item."""
        loaded: T = self._later.load()
        return loaded

    @property
    def receipt(self) -> str:
        """The reservation as a text of letters, digits, ``-`` and ``_``, which ``ss.reservation()`` of another process
        opens.

        It has the serialized item in it, so it is as long as that and a half. It stays valid when the lease is
        extended. Errors of the serializer pass through on a set with a ``key``. No round trip.
        """
        text: str = self._endings.receipt(self)
        return text

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
        return f"<{type(self).__name__} item={self._shown_item} attempt={self.attempt} token={self.token}>"

    @property
    def _shown_item(self) -> str:
        """The ``repr`` of the item, or of its stored bytes if it was not loaded."""
        return shown(vars(self).get("item", self._stored))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied: it belongs to a client. Send its receipt, and open that with the "
            "reservation() of the set there"
        )

    @property
    def _set_name(self) -> str:
        name: str = self._endings.set_name
        return name

    @property
    def lost(self) -> Lost:
        """An event that is set, and true, once the lease is known to be lost."""
        if self._lost is None:
            self._lost = Lost()
        return self._lost

    def _begin_end(self, batch: Any) -> None:
        """Note the calls of an end that was requested, so that they can be sent again until they are answered."""
        self._batch = batch
        self._ending = True

    def _forget(self, batch: Any) -> None:
        """Drop the calls of an end that was answered."""
        if self._batch is batch:
            vars(self).pop("_batch", None)

    def _note_ended(self) -> None:
        """Note that an end has arrived, or has come too late."""
        self._ended = True

    def _note_extended(self, lease: float, deadline: float, ends_at: float) -> None:
        """Note the new end of the lease, by the server's clock and by this process's monotonic clock."""
        self._lease, self.deadline, self._ends_at = lease, deadline, ends_at

    def _is_still_ours(self, error: Exception) -> bool:
        """Return whether to go on extending after ``error``: until the lease may have expired, unless it is lost."""
        if isinstance(error, LeaseLost):
            return False
        log.warning("%s: the lease of %s could not be extended: %s", self._set_name, self._shown_item, error)
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
