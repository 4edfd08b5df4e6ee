"""Handing out: what pop, take, reserve and consume send, and how they wait. One script does them all."""

import logging
import math
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from redset.core.calls import takes_much
from redset.core.clients import is_failure
from redset.core.definition import Definition
from redset.core.endings import End, Endings, log_deaths
from redset.core.items import Items, written_reason
from redset.core.operations import CHUNK, RECEIVED, Args, Listen, Operation, Plan, Settle, Sized
from redset.core.results import BaseReservation
from redset.core.times import Duration, seconds
from redset.core.waiting import NONE, Outage, Wait
from redset.exceptions import DeserializationError

__all__ = ("HandOut", "HandOuts")

T = TypeVar("T")
Res = TypeVar("Res")

log = logging.getLogger("redset")

NO_DEATHS = [b"0", b"0"]

#: How many columns a row has: item and score, under a lease item and delivery.
COLUMNS = 2
#: How many arguments a claim has before its acks: options, limit, which, lease, waits.
HEAD = 5
#: Which of them is the limit.
LIMIT = 1

#: Whether the caller waits, as the script is told it: this says that it has claimed others for the same list.
FOR_THE_SAME_LIST = 2


class HandOut:
    """What one hand-out gave."""

    __slots__ = ("_words", "asked_at", "ended", "lease", "limit", "rows", "values")

    def __init__(self, reply: list[Any], items: Items[Any], limit: int, lease: float, asked_at: float) -> None:
        # more, next, died, forgotten, deadline, lost ...; see the head of the script.
        words = reply.pop()
        self._words: list[bytes] = words if isinstance(words, list) else words.split()
        #: On a keyed set the value of each row's item, or None where there is none.
        self.values = items.values_behind(reply)
        #: Whether the reply is a repeated one, and some of its leases have ended since: their rows are left out here.
        self.ended = lease > 0 and b"" in reply[1::COLUMNS]
        if self.ended:
            live = [position for position, delivery in enumerate(reply[1::COLUMNS]) if delivery]
            reply = [cell for position in live for cell in reply[COLUMNS * position : COLUMNS * (position + 1)]]
            self.values = self.values and [self.values[position] for position in live]
        #: item, score; under a lease item, delivery.
        self.rows: list[bytes] = reply
        self.limit = limit
        #: The lease in seconds, 0 for none, and when it was asked for, by this process's monotonic clock.
        self.lease = lease
        self.asked_at = asked_at

    @property
    def stored(self) -> list[bytes]:
        """The items of the rows, as stored."""
        return self.rows[::COLUMNS]

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def is_large(self) -> bool:
        """Whether its record is worth emptying."""
        return takes_much(self.rows, self.values or ())

    @property
    def more(self) -> bool:
        """Whether it stopped early, and the next one may find more at once."""
        return self._words[0] != b"0" or (self.ended and not self.rows)

    @property
    def alone(self) -> bool:
        """Whether it stopped before an item that must be claimed alone, or is such an item."""
        return self._words[0] == b"2"

    @property
    def was_all(self) -> bool:
        """Whether that was all there is."""
        return not self.more and len(self.rows) < self.limit * COLUMNS

    @property
    def next_due(self) -> float:
        """Seconds until something falls due by itself; inf when nothing is known to."""
        return math.inf if self._words[1] == b"-1" else float(self._words[1])

    @property
    def deaths(self) -> list[bytes]:
        """How many dead letters were made, and dropped, on the way."""
        return self._words[2:4]

    @property
    def deadline(self) -> float:
        """Until when they are leased, by the server's clock."""
        return float(self._words[4])

    @property
    def lost(self) -> list[int]:
        """Which of the acks that came with it were too late, by their position."""
        return [int(position) for position in self._words[5:]]


class Portions(NamedTuple):
    """Claims that go out as one, of all the items that they want together. What comes is dealt out in their order."""

    #: Whether a list of the rows' values stands behind them.
    valued: bool

    def kind(self, operation: Operation[Any]) -> Hashable:
        head = operation.args[:HEAD]
        return operation.verb, head[0], *head[LIMIT + 1 :]

    def size(self, args: Args) -> int:
        limit, acks = int(args[LIMIT]), len(args) - HEAD
        return max(limit, acks // 2) if acks else limit

    def join(self, many: Sequence[Args]) -> Args:
        joined = list(many[0][:HEAD])
        joined[LIMIT] = str(sum(int(args[LIMIT]) for args in many))
        for args in many:
            joined += args[HEAD:]
        return joined

    def deal(self, reply: list[Any], parts: Sequence[Sized]) -> list[list[Any]]:
        heads = self.deal_head(reply.pop(), parts)
        values = reply.pop() if self.valued else []
        start, dealt = 0, []
        for part, words in zip(parts, heads, strict=True):
            end = start + int(part.operation.args[LIMIT]) * COLUMNS
            rows = reply[start:end]
            if not rows and reply:
                # Whoever waits for more must look himself: only then is he waited for, and told when to look again.
                words[0] = b"1"
            if self.valued:
                rows.append(values[start // COLUMNS : end // COLUMNS])
            rows.append(words)
            dealt.append(rows)
            start = end
        return dealt

    def deal_head(self, head: bytes, parts: Sequence[Sized]) -> list[list[bytes]]:
        """The words of the head for each: only the first is told of deaths, and each of its own late acks."""
        if not head:
            # The claim was never executed.
            return [[] for _ in parts]
        words = head.split()
        common, late = words[:5], list(map(int, words[5:]))
        heads, first = [], 0
        for part in parts:
            acks = (len(part.operation.args) - HEAD) // 2
            own = [b"%d" % (position - first) for position in late if first <= position < first + acks] if late else []
            heads.append(common + own)
            if common[2:4] != NO_DEATHS:
                common = [*common[:2], *NO_DEATHS, *common[4:]]
            first += acks
        return heads

    def rows(self, reply: list[Any]) -> int:
        return (len(reply) - 1 - self.valued) // COLUMNS


class HandOuts(Generic[T, Res]):
    """Taking items out of a set, for good or under a lease."""

    __slots__ = (
        "_claim",
        "_endings",
        "_items",
        "_keys",
        "_new_reservation",
        "_portions",
        "_roll_back",
        "_set",
    )

    def __init__(
        self,
        definition: Definition[T],
        endings: Endings[T],
        new_reservation: Callable[..., Res],
    ) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items
        self._endings = endings
        self._new_reservation = new_reservation
        self._claim = definition.script("claim")
        self._roll_back = definition.script("rollback")
        self._portions = Portions(definition.items.keyed)

    @property
    def set_name(self) -> str:
        return self._set.name

    @property
    def max_attempts(self) -> int:
        return self._set.max_attempts

    def pop(self, wait: Duration | None, *, last: bool = False) -> Plan[T]:
        if items := (yield from self._gather(1, 0.0, wait, last=last)):
            item: T = items[0]
            return item
        # Items that could not be loaded are dead letters by now.
        yield RECEIVED
        raise KeyError(f"pop from an empty set: {self._set.name!r}")

    def take(self, num: int, wait: Duration | None, *, last: bool = False) -> Plan[list[T]]:
        return self._gather(int(num), 0.0, wait, last=last)

    def reserve(self, lease: Duration, wait: Duration | None) -> Plan[Res]:
        if reservations := (yield from self.reserve_many(1, lease, wait)):
            return reservations[0]
        yield RECEIVED
        raise KeyError(f"nothing to reserve in the set {self._set.name!r}")

    def reserve_many(self, num: int, lease: Duration, wait: Duration | None) -> Plan[list[Res]]:
        return self._gather(int(num), seconds(lease, "a lease", positive=True), wait)

    def _gather(self, num: int, lease: float, wait: Duration | None, *, last: bool = False) -> Plan[list[Any]]:
        """Claim chunk by chunk, until there are ``num`` or no more. Wait for the first only."""
        if num <= 0:
            return []
        patience = NONE if wait == 0 else Wait(wait)
        got: HandOut = yield self.claim(min(num, CHUNK), lease, patience, last=last)
        if not (got.rows or got.alone):
            got = yield from self._wait_for(got, min(num, CHUNK), lease, patience, last=last)
        gathered = yield from self.received(got)
        try:
            while len(gathered) < num and not (got.alone or got.was_all):
                got = yield self.claim(min(num - len(gathered), CHUNK), lease, NONE, last=last, some=bool(gathered))
                gathered += yield from self.received(got)
        except Exception as error:
            if not (gathered and is_failure(error)):
                raise
            log.warning("%s: no more than these %d can be claimed for now: %s", self._set.name, len(gathered), error)
        return gathered

    def received(self, got: HandOut) -> Plan[list[Any]]:
        """What was handed out: items, or under a lease reservations; what cannot be loaded dies instead."""
        items, broken = self._items.load_all(got.stored, got.values)
        if broken:
            yield from (self._bury_reserved if got.lease else self._bury_taken)(got, broken)
        return self._reservations(got, items, broken) if got.lease else items

    def _reservations(self, got: HandOut, items: list[T], broken: Collection[int]) -> list[Res]:
        stored, deliveries = got.stored, got.rows[1::COLUMNS]
        if broken:
            stored, deliveries = _without(stored, broken), _without(deliveries, broken)
        new, deadline, lease, ends_at = self._new_reservation, got.deadline, got.lease, got.asked_at + got.lease
        return [new(*row, deadline, lease, ends_at) for row in zip(items, stored, deliveries, strict=True)]

    def _bury_taken(self, got: HandOut, broken: dict[int, DeserializationError]) -> Plan[None]:
        letters = [self._letter(got, i, error) for i, error in broken.items()]
        try:
            dropped: int = yield self._endings.bury_taken(letters)
        except Exception as trouble:
            if not is_failure(trouble):
                raise
            # The items that did load are in our hands alone: they must reach the caller whatever happens here.
            log.exception("%s: could not be moved to the dead letters, here they are: %r", self._set.name, letters)
        else:
            log.error("%s: cannot be loaded, moved to the dead letters: %r", self._set.name, letters)
            log_deaths(self._set.name, 0, dropped)

    def _bury_reserved(self, got: HandOut, broken: dict[int, DeserializationError]) -> Plan[None]:
        stored, deliveries = got.stored, got.rows[1::COLUMNS]
        ends = [End("bury", stored[i], deliveries[i], 0.0, error.reason) for i, error in broken.items()]
        letters = [(end.stored, end.text) for end in ends]
        try:
            yield self._endings.ends(ends)
        except Exception as trouble:
            if not is_failure(trouble):
                raise
            # They come back when their leases end; the others are needed now.
            log.exception("%s: could not be moved to the dead letters: %r", self._set.name, letters)
        else:
            log.error("%s: cannot be loaded, moved to the dead letters: %r", self._set.name, letters)

    def _wait_for(self, got: HandOut, limit: int, lease: float, wait: Wait, *, last: bool) -> Plan[HandOut]:
        """Claim again, after a claim that got nothing, until there is something or the wait is over."""
        outage = Outage(self._set.name, wait)
        while not (got.rows or got.alone):
            outage.end()
            if not got.more:
                if wait.left() <= 0:
                    break
                yield from outage.once(self.rest(got, wait))
            while True:
                try:
                    got = yield from outage.once(self.claim(limit, lease, wait, last=last))
                except Exception as error:
                    yield from outage.pause(error)
                else:
                    break
        return got

    def rest(self, got: HandOut, wait: Wait) -> Listen:
        """How to wait after a claim that found nothing."""
        until = max(0.001, min(wait.left(), got.next_due))
        return Listen(self._keys.wake, until, self._set.kind.which, self._set.longest_listen)

    def _letter(self, got: HandOut, position: int, error: DeserializationError) -> tuple[bytes, bytes, bytes, bytes]:
        """item, score, reason and value of what was taken and cannot be loaded."""
        stored, score = got.rows[COLUMNS * position : COLUMNS * (position + 1)]
        value = got.values[position] if got.values else None
        return stored, score, written_reason(error.reason), value or b""

    def claim(
        self,
        limit: int,
        lease: float,
        wait: Wait,
        acks: Sequence[BaseReservation[T]] = (),
        settled: Callable[[bytes], None] | None = None,
        *,
        last: bool = False,
        some: bool = False,
    ) -> Operation[HandOut]:
        """Claim ``limit`` items at most, under a lease unless that is 0, after ``acks`` were acked.

        :param settled: is told what became of the acks when the claim is rolled back.
        """
        which = self._set.kind.which
        waits = FOR_THE_SAME_LIST if some else wait is not NONE and wait.left() > 0
        args: list[bytes | str] = [
            self._set.options,
            str(limit),
            f"{which} last" if last else which,
            repr(lease) if lease else "0",
            str(int(waits)),
        ]
        for ack in acks:
            args += (ack._stored, ack._delivery)
        read = partial(self._read, limit, lease, time.monotonic())
        return Operation(
            *self._claim,
            args,
            read,
            recorded=True,
            roll_back=self.roll_back,
            shared=self._portions,
            settled=settled,
        )

    def _read(self, limit: int, lease: float, asked_at: float, reply: list[Any]) -> HandOut:
        got = HandOut(reply, self._items, limit, lease, asked_at)
        if got.deaths != NO_DEATHS:
            log_deaths(self._set.name, *map(int, got.deaths))
        return got

    def roll_back(self, positions: Sequence[int] | None = None) -> Operation[bytes]:
        """Roll back the last claim of a session if nobody received it: all rows, or those at some positions.

        Returns the head of that claim's reply, empty if it was never executed.
        """
        args = (self._set.options, *(str(position + 1) for position in positions or ()))
        return Operation(*self._roll_back, args, bytes, recorded=True)

    def settle(self) -> Settle:
        return Settle(self.roll_back)

    def late(self, head: bytes) -> list[int]:
        """The acks that were too late, by their positions, out of the head of a claim's reply."""
        return [int(position) for position in head.split()[5:]]


def _without(column: list[bytes], positions: Collection[int]) -> list[bytes]:
    return [cell for position, cell in enumerate(column) if position not in positions]
