"""Consuming: reservations one after the other, for as long as wanted, each acked by going on to the next."""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from redset.core.definition import seconds
from redset.core.endings import End, Endings
from redset.core.handouts import HandOuts, Patience
from redset.core.operations import CHUNK, Plan
from redset.reservations import BaseReservation

__all__ = ("BaseConsumption", "Stop")

T = TypeVar("T")
DriverT = TypeVar("DriverT")
Res = TypeVar("Res", bound=BaseReservation[Any])

log = logging.getLogger("redset")

#: How long, in seconds, an ack may wait for a hand-out to travel with.
OLDEST_ACK = 1.0


class Event(Protocol):
    """``threading.Event``, ``asyncio.Event``, or what is like them."""

    def is_set(self) -> bool: ...


Stop = Event | Callable[[], bool] | None


class BaseConsumption(Generic[T, DriverT, Res]):
    """The state of one ``consume`` loop, and what it does next; both faces iterate over it in their own way."""

    def __init__(
        self,
        driver: DriverT,
        hand_outs: HandOuts[T, Res],
        endings: Endings[T],
        lease: float,
        batch: int,
        wait: float | None,
        stop: Stop,
    ) -> None:
        #: How many leases were lost before their item could be acked.
        self.lost = 0
        self._driver = driver
        self._hand_outs = hand_outs
        self._endings = endings
        self._lease = seconds(lease, "a lease", positive=True)
        self._batch = int(batch)
        if not 1 <= self._batch <= CHUNK:
            raise ValueError(f"a batch has 1 to {CHUNK} items, not {batch!r}")
        if wait is not None:
            seconds(wait, "wait")
        self._wait = wait
        self._should_stop: Callable[[], bool] = _as_callable(stop)
        self._current: Res | None = None
        self._ready: deque[Res] = deque()
        self._to_ack: list[Res] = []
        self._oldest_ack = 0.0
        self._closed = False

    def _at_hand(self) -> Res | None:
        """The next reservation where that takes no call. Asking for it acks the one before."""
        self._finish_current()
        if self._ready and not (self._closed or self._ack_is_late() or self._should_stop()):
            self._current = self._next_ready()
        return self._current

    def _next(self) -> Plan[Res | None]:
        """The next reservation where none is at hand, or None when the loop is to end."""
        patience = Patience(self._wait)
        try:
            while not self._closed and not self._should_stop():
                if self._ready and self._ack_is_late():
                    yield from self._ack_alone()
                if (reservation := self._next_ready()) is not None:
                    self._current = reservation
                    return reservation
                if not (yield from self._hand_out(patience)) and patience.left() <= 0:
                    break
        except GeneratorExit:
            raise
        except BaseException:
            try:
                yield from self._close()
            except Exception as trouble:
                # What is wrong already says more; the leases run out by themselves.
                log.warning("what a consumer had could not be given back: %s", trouble)
            raise
        yield from self._close()
        return None

    def _ack_is_late(self) -> bool:
        return bool(self._to_ack) and time.monotonic() - self._oldest_ack > OLDEST_ACK

    def _finish_current(self) -> None:
        """Whoever asks for the next one is done with this one, unless it was ended in another way."""
        current, self._current = self._current, None
        if current is None or current._ended:
            return
        if not self._to_ack:
            self._oldest_ack = time.monotonic()
        self._to_ack.append(current)

    def _next_ready(self) -> Res | None:
        while self._ready:
            reservation = self._ready.popleft()
            if time.monotonic() < reservation._ends_at:
                return reservation
            self._note_lost([reservation])
        return None

    def _hand_out(self, patience: Patience) -> Plan[bool]:
        """Asks for the next batch; the acks travel with it."""
        acks = self._to_ack
        # They are kept until this is answered: where it never is, leaving the loop tries again.
        got = yield from self._hand_outs.wait_for(self._batch, self._lease, patience, acks, self._should_stop)
        self._to_ack = []
        for ack in acks:
            ack._ended = True
        self._note_lost([acks[position] for position in got.lost])
        self._ready += yield from self._hand_outs.received(got)
        return bool(got.rows) or got.more

    def _ack_alone(self) -> Plan[None]:
        # Where that fails it is not known whether they were acked: leaving the loop will try again.
        lost = yield from self._endings.ack(self._to_ack)
        self._to_ack = []
        self._note_lost(lost)

    def _note_lost(self, reservations: list[Res]) -> None:
        for reservation in reservations:
            reservation.lost.set()
            self.lost += 1
            log.warning("%s: the lease of %r was lost", reservation._set_name, reservation.item)

    def _close(self) -> Plan[None]:
        """Gives back what is unhandled: what was not begun as if undelivered, the one in hand as a failed attempt."""
        self._closed = True
        current, self._current = self._current, None
        acked = self._to_ack
        ends = [End("ack", one._stored, one._delivery) for one in acked]
        ends += [End("again", one._stored, one._delivery) for one in self._ready]
        if current is not None and not current._ended:
            # A `break` and an exception look alike here, and an item that breaks its consumers must not loop for ever.
            ends.append(End("nack", current._stored, current._delivery, 0.0, "its consumer left the loop"))
            current._ended = True
        self._to_ack, self._ready = [], deque()
        for start in range(0, len(ends), CHUNK):
            answer = yield self._endings.ends(ends[start : start + CHUNK])
            late = [start + position for position in answer.lost]
            self._note_lost([acked[position] for position in late if position < len(acked)])


def _as_callable(stop: Stop) -> Callable[[], bool]:
    if stop is None:
        return lambda: False
    is_set = getattr(stop, "is_set", None)
    if is_set is not None:
        checked: Callable[[], bool] = is_set
        return checked
    if callable(stop):
        return stop
    raise TypeError(f"stop must be an event or a callable, not {stop!r}")
