"""The consume loop: an iterator over reservations that acks each item when the next one is asked for."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from redset.core import calls
from redset.core.callables import called_plainly
from redset.core.claiming import Claimed, Claims, lost_in
from redset.core.clients import is_failure
from redset.core.endings import Answer, Batch, End, Endings, ack_of
from redset.core.leases import BaseReservation
from redset.core.observing import enter_body, hooks, leave_body
from redset.core.operations import CHUNK, Plan, Unfinished
from redset.core.shown import shown
from redset.core.times import Duration, seconds
from redset.core.waiting import NONE, Outage, Wait, Waiter, listen, stop_waiting

__all__ = ("NOT_ENDED", "BaseConsumption", "BaseLoop", "Stop")

T = TypeVar("T")
DriverT = TypeVar("DriverT")
Res = TypeVar("Res", bound=BaseReservation[Any])

log = logging.getLogger("redset")

#: Logged when a loop cannot be closed after an error, which is more informative: the leases expire by themselves.
NOT_ENDED = "the leases of a consume loop could not be ended: %s"

#: Seconds for which an ack may wait for a claim to travel with.
OLDEST_ACK = 1.0


class Event(Protocol):
    """``threading.Event``, ``asyncio.Event``, or an object like them."""

    def is_set(self) -> bool: ...


Stop = Event | Callable[[], bool] | None


class BaseLoop(Generic[DriverT, Res]):
    """A ``consume`` loop over one set or several, as both faces iterate over it."""

    def __init__(self, driver: DriverT, stop: Stop) -> None:
        self._driver = driver
        self._should_stop: Callable[[], bool] = _as_callable(stop)
        #: Asked while the loop waits; None without ``stop=``, so that nothing has to be asked.
        self._stop = None if stop is None else self._should_stop
        self._closed = False
        self._iterated = False
        #: Whether a call for the next item is under way.
        self._asking = False
        self._pid = calls.PID

    def _begin(self) -> None:
        """Note that there is an iterator.

        :raises RuntimeError: there was one before.
        """
        if self._iterated:
            raise RuntimeError("a consume loop belongs to one iterator: call consume() again for another one")
        self._iterated = True

    @property
    def _is_ours(self) -> bool:
        """Whether this process began the loop. A forked child leaves the leases to its parent."""
        return self._pid == calls.PID

    @property
    def _goes_on(self) -> bool:
        # A serializer may fork: the child leaves the claim to its parent.
        return self._is_ours and not (self._closed or self._should_stop())

    def _check_asker(self) -> None:
        if self._asking:
            raise RuntimeError(
                "a consume loop belongs to one iterator: another thread or task is asking for its next item"
            )

    def _at_hand(self) -> Res | None:
        """Return the next reservation of the batch, or None if a call is needed. Marks the current one to be acked."""
        raise NotImplementedError

    def _next(self) -> Plan[Res | None]:
        """Return the next reservation if none is at hand, or None at the end of the loop."""
        raise NotImplementedError

    def _close(self) -> Plan[None]:
        """Requeue the items not begun, without counting an attempt, and nack the current one."""
        raise NotImplementedError

    def _leave_body(self) -> None:
        """Note that the loop was left. It cannot be told whether its body raised an error."""
        raise NotImplementedError

    @property
    def _is_done(self) -> bool:
        """Whether the loop is closed and has ended all leases."""
        raise NotImplementedError


class BaseConsumption(BaseLoop[DriverT, Res], Generic[T, DriverT, Res]):
    """The state of one ``consume`` loop over one set, and the plans of its steps."""

    _waiter_type = Waiter

    def __init__(
        self,
        driver: DriverT,
        claims: Claims[T, Res],
        endings: Endings[T],
        lease: Duration,
        batch: int,
        wait: Duration | None,
        stop: Stop,
        max_outage: Duration | None,
    ) -> None:
        #: The number of leases that were lost before their item was acked.
        self.lost = 0
        super().__init__(driver, stop)
        self._claims = claims
        self._endings = endings
        self._lease = seconds(lease, "a lease", positive=True)
        self._batch = int(batch)
        if not 1 <= self._batch <= CHUNK:
            raise ValueError(f"a batch has 1 to {CHUNK} items, not {batch!r}")
        if self._batch > 1 and claims.max_attempts == 1:
            raise ValueError(
                f"batch={batch!r} with max_attempts=1: if a process died, the items of its batch that it had not begun "
                "would be dead letters; use batch=1 or more attempts"
            )
        if wait is not None:
            seconds(wait, "wait")
        self._wait = wait
        self._waiter = self._waiter_type(claims)
        longest = None if max_outage is None else seconds(max_outage, "max_outage")
        self._outage = Outage(claims.set_name, claims.state, NONE, longest, self._should_stop)
        self._current: Res | None = None
        self._ready: deque[Res] = deque()
        #: Ends that were sent and not answered.
        self._pending: PendingEnds[Res] | None = None
        self._to_ack: list[Res] = []
        self._oldest_ack = 0.0

    def _at_hand(self) -> Res | None:
        self._finish_current()
        if self._ready and not (self._closed or self._is_late() or self._should_stop()):
            return self._next_ready()
        return None

    def _next(self) -> Plan[Res | None]:
        wait = Wait(self._wait)
        self._outage.wait = wait
        try:
            while self._goes_on:
                is_last = wait.left() <= 0
                got = yield from self._try_next(wait)
                if not isinstance(got, Claimed):
                    return got
                if not (got.rows or got.more or self._should_stop()):
                    if is_last:
                        return None
                    self._waiter.enter()
                    yield from listen(self._claims, got, wait, self._outage, self._stop)
            if self._is_ours:
                yield from stop_waiting(self._claims, self._waiter, self._outage)
        finally:
            self._waiter.leave()
        return None

    def _try_next(self, wait: Wait) -> Plan[Res | Claimed | None]:
        """Return the next reservation, or else claim: return the reply, or None if told to stop during an outage."""
        if self._ready and self._is_late():
            yield from self._send_late()
        if (reservation := self._next_ready()) is not None:
            return reservation
        return (yield from self._claim(wait))

    def _is_late(self) -> bool:
        """Return whether the acks are too old, or half of the lease of the items not begun has passed."""
        now = time.monotonic()
        if self._to_ack and now - self._oldest_ack > OLDEST_ACK:
            return True
        return bool(self._ready) and self._ready[0]._expires_at - now < self._lease / 2

    def _finish_current(self) -> None:
        """Mark the current reservation to be acked, unless the loop body ended it."""
        current = self._current
        # An interruption can come at any step, so a reservation is in its next place before it leaves this one.
        if current is not None and not (current._end_known or (self._to_ack and self._to_ack[-1] is current)):
            if not self._to_ack:
                self._oldest_ack = time.monotonic()
            self._to_ack.append(current)
        self._current = None
        if current is not None and current._body is not None:
            leave_body(current, in_loop=True)

    def _next_ready(self) -> Res | None:
        """Return the next reservation of the batch, which becomes the current one."""
        while self._ready:
            reservation = self._ready[0]
            if time.monotonic() < reservation._expires_at:
                self._current = reservation
                self._ready.popleft()
                if hooks.observer is not None:
                    enter_body(reservation, in_loop=True)
                return reservation
            self._ready.popleft()
            self._note_lost([reservation])
        return None

    def _claim(self, wait: Wait) -> Plan[Claimed | None]:
        """Claim the next batch, or return None if told to stop during an outage.

        The acks travel with the claim; after a failure they stay until their outcome is known.
        """
        while True:
            acks = self._to_ack[:]
            on_roll_back = partial(self._note_roll_back, acks) if acks else None
            try:
                claim = self._claims.claim(self._batch, self._lease, acks, on_roll_back, waiter=self._waiter.word(wait))
                got: Claimed = yield from self._outage.once(claim)
            except Exception as error:
                if not (yield from self._outage.pause(error)):
                    return None
            else:
                self._outage.end()
                self._acked(acks, got.lost)
                self._ready += yield from self._claims.received(got)
                return got
            # Without acks whose outcome is unknown, the next claims pay these debts. A shard that has one may be away.
            if self._to_ack and not (yield from self._roll_back_unknown()):
                return None

    def _roll_back_unknown(self) -> Plan[bool]:
        """Roll back claims with an unknown outcome, and so learn which acks arrived. Return False if told to stop."""
        while True:
            try:
                yield from self._outage.once(self._claims.roll_back_unknown())
            except Exception as error:
                if not (yield from self._outage.pause(error)):
                    return False
            else:
                return True

    def _note_roll_back(self, acks: list[Res], head: bytes) -> None:
        """Note that a claim was rolled back: if it was executed, so were the acks that it carried."""
        if head:
            self._acked(acks, lost_in(head))

    def _acked(self, acks: list[Res], late: list[int]) -> None:
        """Note the outcome of acks, unless it was known. Those at the positions ``late`` came too late."""
        known, open_acks = set(map(id, acks)), set(map(id, self._to_ack))
        self._to_ack = [one for one in self._to_ack if id(one) not in known]
        for one in acks:
            one._note_end_known()
        self._note_lost([acks[position] for position in late if id(acks[position]) in open_acks])

    def _send_late(self) -> Plan[None]:
        """Send the acks by themselves, and requeue the items not begun if less than half of their lease is left."""
        acks = self._to_ack[:]
        if self._ready and self._ready[0]._expires_at - time.monotonic() < self._lease / 2:
            requeued = list(self._ready)
        else:
            requeued = []
        self._pending = ends = PendingEnds(acks, requeued)
        yield from self._send_ends(ends)
        if requeued and self._pending is not ends:
            self._ready.clear()

    def _send_ends(self, ends: "PendingEnds[Res]", *, acks_known: bool = True) -> Plan[None]:
        """Send ends; after a failure the same calls again, here or when the loop is closed.

        :param acks_known: whether it is known which acks arrived before, with a claim.
        """
        acks = ends.acks
        requeued = dict(enumerate(ends.requeued, len(acks)))
        for start, stop, unfinished in ends.batch.calls:
            answer = yield from self._send_end(ends, start, stop, unfinished)
            if answer is None:
                # Closing the loop, which is next, sends the rest.
                return
            late = [start + position for position in answer.lost]
            late_acks = [position - start for position in late if position < len(acks)]
            if late_acks and not acks_known and not (acks_known := (yield from self._try_to_roll_back())):
                # They may have arrived with a claim whose outcome is unknown.
                late_acks = []
            self._acked(acks[start:stop], late_acks)
            if not self._closed:
                # When closing, an interruption may have rolled back the claim of the items not begun.
                self._note_lost([requeued[at] for at in late if at in requeued])
        self._pending = None

    def _send_end(self, ends: "PendingEnds[Res]", start: int, stop: int, unfinished: Unfinished) -> Plan[Answer | None]:
        """Send one call. Return None if told to stop during an outage."""
        while True:
            try:
                end = self._endings.ends(ends.batch.ends[start:stop], unfinished)
                answer: Answer = yield from self._outage.once(end, closing=self._closed)
            except Exception as error:
                if self._closed:
                    raise
                if not (yield from self._outage.pause(error)):
                    return None
            else:
                return answer

    def _note_lost(self, reservations: list[Res]) -> None:
        for reservation in reservations:
            reservation.lost.set()
            self.lost += 1
            log.warning("%s: the lease of %s was lost", reservation.set_name, shown(reservation.item))

    @property
    def _is_done(self) -> bool:
        return self._closed and not (self._to_ack or self._ready or self._current or self._pending)

    def _leave_body(self) -> None:
        if self._current is not None and self._current._body is not None:
            leave_body(self._current, in_loop=True)

    def _close(self) -> Plan[None]:
        if not self._is_ours:
            return
        self._closed = True
        # Whether it is known which acks arrived. If not, they are sent again below, or that fails as well.
        acks_known = not self._to_ack or (yield from self._try_to_roll_back())
        if self._pending is not None:
            yield from self._send_ends(self._pending, acks_known=acks_known)
        # Forget nothing before it is answered: after an interruption the loop can be closed again.
        current, more = self._current, [_again(one) for one in self._ready]
        if current is None or current._end_known or any(current is one for one in (*self._to_ack, *self._ready)):
            current = None
        else:
            # A break cannot be told from an exception, and an item that breaks its consumers must not loop for ever.
            more.append(End("nack", current._stored, current._delivery, 0.0, "its consumer left the loop"))
        self._pending = ends = PendingEnds(self._to_ack[:], [], more)
        yield from self._send_ends(ends, acks_known=acks_known)
        if current is not None:
            current._note_end_known()
        self._ready, self._current = deque(), None

    def _try_to_roll_back(self) -> Plan[bool]:
        """Learn which acks arrived with claims whose outcome is unknown. Return False if that fails."""
        try:
            yield from self._outage.once(self._claims.roll_back_unknown(), closing=True)
        except Exception as error:
            if not is_failure(error):
                raise
            return False
        return True


class PendingEnds(Generic[Res]):
    """Ends that the loop sends: acks first. Their calls keep their numbers until they are answered."""

    __slots__ = ("acks", "batch", "requeued")

    def __init__(self, acks: list[Res], requeued: list[Res], more: Sequence[End] = ()) -> None:
        self.acks = acks
        #: Requeued reservations whose loss is counted, like that of the acks.
        self.requeued = requeued
        self.batch = Batch([*map(ack_of, acks), *map(_again, requeued), *more])


def _again(one: BaseReservation[Any]) -> End:
    return End("again", one._stored, one._delivery)


def _as_callable(stop: Stop) -> Callable[[], bool]:
    if stop is None:
        return lambda: False
    is_set = getattr(stop, "is_set", None)
    if is_set is not None:
        checked: Callable[[], bool] = is_set
        return checked
    if callable(stop):
        return lambda: called_plainly(stop, "stop")
    raise TypeError(f"stop must be an event or a callable, not {stop!r}")
