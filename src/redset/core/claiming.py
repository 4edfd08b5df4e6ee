"""Claiming: what pop, take, reserve and consume send, and how the reply is read. One script does them all."""

import logging
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from redset.core.calls import ClientState, takes_much
from redset.core.clients import is_failure
from redset.core.definition import Definition
from redset.core.endings import log_deaths
from redset.core.items import Items
from redset.core.leases import BaseReservation
from redset.core.operations import CHUNK, RECEIVED, Listen, Operation, Plan, RollBackUnknown, Shape
from redset.core.times import Duration, seconds
from redset.exceptions import DeserializationError

__all__ = ("Claimed", "Claims")

T = TypeVar("T")
Res = TypeVar("Res")

log = logging.getLogger("redset")

#: The number of columns of a row: item and score, or under a lease item and delivery.
COLUMNS = 2
#: The position of the limit among the arguments.
LIMIT = 1
#: Before the acks: options, limit, which, lease, caller. Of each ack: item, delivery.
CLAIMS = Shape("claims", 5, 2)
KEYED_CLAIMS = Shape("keyed claims", 5, 2)
NO_DEATHS = [b"0", b"0"]


class Claimed:
    """The reply to one claim; true if items were claimed."""

    __slots__ = ("_words", "asked_at", "ended", "lease", "limit", "rows", "values")

    def __init__(self, reply: list[Any], items: Items[Any], limit: int, lease: float, asked_at: float) -> None:
        # more, next, died, forgotten, deadline, lost ...; see the head of the script.
        words = reply.pop()
        self._words: list[bytes] = words if isinstance(words, list) else words.split()
        #: On a keyed set the value of each row's item, or None where there is none.
        self.values = items.values_behind(reply)
        #: Whether the call was repeated and some of its leases have ended since: their rows are left out.
        self.ended = lease > 0 and b"" in reply[1::COLUMNS]
        if self.ended:
            live = [position for position, delivery in enumerate(reply[1::COLUMNS]) if delivery]
            reply = [cell for position in live for cell in reply[COLUMNS * position : COLUMNS * (position + 1)]]
            self.values = self.values and [self.values[position] for position in live]
        #: item, score; under a lease item, delivery.
        self.rows: list[bytes] = reply
        self.limit = limit
        #: The lease in seconds, 0 for none, and the time of the request by this process's monotonic clock.
        self.lease = lease
        self.asked_at = asked_at

    @property
    def stored(self) -> list[bytes]:
        """The items of the rows, as stored."""
        return self.rows[::COLUMNS]

    @property
    def deliveries(self) -> list[bytes]:
        """Under a lease: the deliveries of the rows."""
        return self.rows[1::COLUMNS]

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def is_large(self) -> bool:
        """Whether its record is emptied once it is received."""
        return takes_much(self.rows, self.values or ())

    @property
    def more(self) -> bool:
        """Whether the claim stopped early, so that the next one may claim more at once."""
        return self._words[0] != b"0" or (self.ended and not self.rows)

    @property
    def alone(self) -> bool:
        """Whether it stopped before an item that must be claimed alone, or is such an item."""
        return self._words[0] == b"2"

    @property
    def was_all(self) -> bool:
        """Whether no item is left that can be claimed now."""
        return not self.more and len(self.rows) < self.limit * COLUMNS

    @property
    def next_look(self) -> float:
        """Seconds until a caller that waits looks again, unless it is woken."""
        return float(self._words[1].removeprefix(b"="))

    @property
    def is_precise(self) -> bool:
        """Whether it looks at just that moment: something falls due then."""
        return self._words[1].startswith(b"=")

    @property
    def deaths(self) -> list[bytes]:
        """The number of new dead letters, and of old ones that were dropped."""
        return self._words[2:4]

    @property
    def deadline(self) -> float:
        """The deadline of the leases, by the server's clock."""
        return float(self._words[4].partition(b"/")[0])

    @property
    def head(self) -> float:
        """For a shard: the score of the next item that can be claimed; infinity if there is none, or it is unknown."""
        return float(self._words[4].partition(b"/")[2] or "inf")

    @property
    def lost(self) -> list[int]:
        """The positions of the acks that came too late."""
        return [int(position) for position in self._words[5:]]


class ClaimWithin(Protocol):
    """Claims until there are items or some seconds have passed; see :mod:`redset.core.waiting`."""

    def __call__(
        self, claims: "Claims[Any, Any]", limit: int, lease: float, wait: Duration | None, *, last: bool
    ) -> Plan[Claimed]: ...


#: Moves claimed items that cannot be loaded to the dead letters; see :mod:`redset.core.burying`.
Bury: TypeAlias = Callable[[Claimed, dict[int, DeserializationError]], Plan[None]]


class Claims(Generic[T, Res]):
    """The claims of one set, for good or under a lease."""

    def __init__(
        self,
        definition: Definition[T],
        new_reservation: Callable[..., Res],
        claim_within: ClaimWithin,
        bury: Bury,
        state: ClientState,
    ) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items
        self._new_reservation = new_reservation
        self._claim_within = claim_within
        self._bury = bury
        self.state = state
        self._claim = definition.script("claim")
        self._roll_back = definition.script("rollback")
        self._shape = KEYED_CLAIMS if definition.items.keyed else CLAIMS

    @property
    def set_name(self) -> str:
        return self._set.name

    @property
    def max_attempts(self) -> int:
        return self._set.max_attempts

    def pop(self, wait: Duration | None, *, last: bool = False) -> Plan[T]:
        self._check_last(last=last)
        if items := (yield from self._gather(1, 0.0, wait, last=last)):
            item: T = items[0]
            return item
        # An item that could not be loaded is a dead letter by now.
        yield RECEIVED
        raise KeyError(f"pop from an empty set: {self._set.name!r}")

    def take(self, num: int, wait: Duration | None, *, last: bool = False) -> Plan[list[T]]:
        self._check_last(last=last)
        return self._gather(int(num), 0.0, wait, last=last)

    def _check_last(self, *, last: bool) -> None:
        """Raise a TypeError if the last items are claimed of a set with groups."""
        if last and self._set.grouping is not None:
            raise TypeError(
                f"the set {self._set.name!r} has groups: only the items with the lowest scores can be claimed"
            )

    def reserve(self, lease: Duration, wait: Duration | None) -> Plan[Res]:
        if reservations := (yield from self.reserve_many(1, lease, wait)):
            return reservations[0]
        yield RECEIVED
        raise KeyError(f"nothing to reserve in the set {self._set.name!r}")

    def reserve_many(self, num: int, lease: Duration, wait: Duration | None) -> Plan[list[Res]]:
        return self._gather(int(num), seconds(lease, "a lease", positive=True), wait)

    def _gather(self, num: int, lease: float, wait: Duration | None, *, last: bool = False) -> Plan[list[Any]]:
        """Claim chunk by chunk, until there are ``num`` items or no more. Only the first claim waits."""
        if num <= 0:
            return []
        if wait == 0 and wait is not False:  # which is no duration
            got: Claimed = yield self.claim(min(num, CHUNK), lease, last=last)
        else:
            got = yield from self._claim_within(self, min(num, CHUNK), lease, wait, last=last)
        gathered = yield from self.received(got)
        try:
            while len(gathered) < num and not (got.alone or got.was_all):
                got = yield self.claim(min(num - len(gathered), CHUNK), lease, last=last, follows=bool(gathered))
                gathered += yield from self.received(got)
        except Exception as error:
            if not (gathered and is_failure(error)):
                raise
            log.warning("%s: claimed only %d items before an error: %s", self._set.name, len(gathered), error)
        return gathered

    def claim(
        self,
        limit: int,
        lease: float,
        acks: Sequence[BaseReservation[T]] = (),
        on_roll_back: Callable[[bytes], None] | None = None,
        *,
        waiter: str = "",
        last: bool = False,
        follows: bool = False,
    ) -> Operation[Claimed]:
        """Claim at most ``limit`` items, under a lease unless that is 0, after ``acks`` were acked.

        :param on_roll_back: called with the head of the reply when the claim is rolled back.
        :param waiter: a caller that waits, as its :class:`redset.core.waiting.Waiter` says.
        :param follows: whether the caller has claimed other items for the same list.
        """
        which = self._set.kind.which
        args: list[bytes | str] = [
            self._set.options,
            str(limit),
            f"{which} last" if last else which,
            repr(lease) if lease else "0",
            waiter or ("follows" if follows else "-"),
        ]
        for ack in acks:
            args += (ack._stored, ack._delivery)
        return Operation(
            *self._claim,
            args,
            partial(self._read, limit, lease, time.monotonic()),
            recorded=True,
            roll_back=self.roll_back,
            shape=self._shape,
            on_roll_back=on_roll_back,
        )

    def _read(self, limit: int, lease: float, asked_at: float, reply: list[Any]) -> Claimed:
        got = Claimed(reply, self._items, limit, lease, asked_at)
        if got.deaths != NO_DEATHS:
            log_deaths(self._set.name, *map(int, got.deaths))
        return got

    def received(self, got: Claimed) -> Plan[list[Any]]:
        """Return the claimed items, or under a lease their reservations. Bury those that cannot be loaded."""
        items, broken = self._items.load_all(got.stored, got.values)
        if broken:
            yield from self._bury(got, broken)
        return self._reservations(got, items, broken) if got.lease else items

    def _reservations(self, got: Claimed, items: list[T], broken: Collection[int]) -> list[Res]:
        stored, deliveries = got.stored, got.deliveries
        if broken:
            stored, deliveries = _without(stored, broken), _without(deliveries, broken)
        new, deadline, lease, ends_at = self._new_reservation, got.deadline, got.lease, got.asked_at + got.lease
        return [new(*row, deadline, lease, ends_at) for row in zip(items, stored, deliveries, strict=True)]

    def listen(self, got: Claimed, left: float, should_stop: Callable[[], bool] | None = None) -> Listen:
        """Return the step that waits after an empty claim; see :class:`~redset.core.operations.Listen`."""
        longest = self._set.longest_block
        return Listen(
            (self._keys.wake,), self._set.kind.which, got.next_look, got.is_precise, left, longest, should_stop
        )

    @property
    def poll(self) -> float:
        return self._set.poll

    @property
    def place(self) -> tuple[Hashable, bytes, str]:
        """The client, the set and the kind of items for which waiters wait. Other clients may have other servers."""
        return id(self.state), self._keys.wake, self._set.kind.which

    def roll_back(self, positions: Sequence[int] | None = None) -> Operation[bytes]:
        """Roll back a session's last claim unless it was received: all rows, or those at some positions.

        Returns the head of that claim's reply, empty if it was never executed.
        """
        args = (self._set.options, *(str(position + 1) for position in positions or ()))
        return Operation(*self._roll_back, args, bytes, recorded=True)

    def roll_back_unknown(self) -> RollBackUnknown:
        """Return the step that rolls back the claims of this set whose outcome is unknown."""
        return RollBackUnknown(self.roll_back)


def lost_in(head: bytes) -> list[int]:
    """Return the positions of the acks that came too late, from the head of a claim's reply."""
    return [int(position) for position in head.split()[5:]]


def head_with(lost: Sequence[int]) -> bytes:
    """Return the head of a claim's reply with the positions of the acks that came too late, and else nothing."""
    return b"0 0 0 0 0" + b"".join(b" %d" % position for position in lost)


def _without(column: list[bytes], positions: Collection[int]) -> list[bytes]:
    return [cell for position, cell in enumerate(column) if position not in positions]
