"""The base of reservations: a claimed item with its lease."""

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, NamedTuple, NoReturn, SupportsIndex, TypeVar

from redset.core import calls
from redset.core.shown import shown

__all__ = ("BaseReservation", "Later", "Lost")

T = TypeVar("T")


class Lost(threading.Event):
    """An event that is set when a lease is known to be lost; its truth value says whether it is set."""

    def __bool__(self) -> bool:
        return self.is_set()


class Later(NamedTuple):
    """In place of an item: loads it when it is first read."""

    load: Callable[[], Any]


class BaseReservation(Generic[T]):
    """The attributes of a reservation, for both faces."""

    # Whether an end was requested, and whether its outcome is known.
    _end_sent = False
    _end_known = False
    _batch: Any = None
    _lost: Lost | None = None
    # The body of a loop or `with` that an observer has been told of; see redset.core.observing.
    _body: Any = None
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
        self._expires_at = ends_at
        self._pid = calls.PID
        vars(self)  # CPython 3.11 has crashed where threads asked first for this dict while others set attributes.

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
    def set_name(self) -> str:
        """The name of the set."""
        name: str = self._endings.set_name
        return name

    @property
    def lost(self) -> Lost:
        """An event that is set, and true, once the lease is known to be lost."""
        if self._lost is None:
            self._lost = Lost()
        return self._lost

    def _note_end_sent(self, batch: Any) -> None:
        """Note the calls of an end that was requested, so that they can be sent again until they are answered."""
        self._batch = batch
        self._end_sent = True

    def _drop_batch(self, batch: Any) -> None:
        """Drop the calls of an end that was answered."""
        if self._batch is batch:
            vars(self).pop("_batch", None)

    def _note_end_known(self) -> None:
        """Note that an end has arrived, or has come too late."""
        self._end_known = True

    def _note_body(self, body: Any) -> None:
        self._body = body

    def _note_extended(self, lease: float, deadline: float, ends_at: float) -> None:
        """Note the new end of the lease, by the server's clock and by this process's monotonic clock."""
        self._lease, self.deadline, self._expires_at = lease, deadline, ends_at
