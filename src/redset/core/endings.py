"""Ending reservations: what ack, nack, again, extend and bury send, and what their replies mean."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from redset.core.definition import Definition
from redset.core.items import called, written_reason, written_score
from redset.core.operations import CHUNK, Operation, Plan, Rows, Unfinished, positions
from redset.core.receipts import Receipt
from redset.core.results import BaseReservation
from redset.core.shown import shown
from redset.core.times import Duration, Moment, seconds
from redset.exceptions import LeaseLost

__all__ = ("Batch", "End", "Endings")

T = TypeVar("T")
R = TypeVar("R")
Res = TypeVar("Res", bound=BaseReservation[Any])

log = logging.getLogger("redset")

#: What the server does with many leases in a few commands; and how many it is asked to end in other ways at a time, as
#: each of these takes several.
AT_ONCE = ("ack", "extend")
AT_A_TIME = 400


def _share_answer(reply: bytes, sizes: list[int]) -> list[bytes]:
    """Deals out what is said of ends."""
    died, forgotten, now, *lost = reply.split()
    if not lost and died == forgotten == b"0":
        return [reply] * len(sizes)
    dealt = [b"0 0 %b %b" % (now, own) for own in positions(b" ".join(lost), sizes)]
    # Of deaths nobody is told twice.
    dealt[0] = dealt[0].replace(b"0 0", died + b" " + forgotten, 1)
    return dealt


class Ends(Rows):
    """How ends are made together. Extensions go apart: within one call a lease is either extended or ended, once. So do
    burials, so that it is known why items died.
    """

    __slots__ = ()

    def kind(self, operation: Operation[Any]) -> Hashable:
        verb, _, _ = bytes(operation.args[4]).partition(b" ")  # type: ignore[arg-type] # bytes
        return super().kind(operation), verb if verb in (b"extend", b"bury") else None


#: Options and `each`, then rows of item, delivery, "verb seconds text".
ENDS = Ends(2, 3, _share_answer)
#: Options and `ack`, then rows of item, delivery.
ACKS = Rows(2, 2, _share_answer)


class End(NamedTuple):
    """How one lease is to end."""

    verb: str
    stored: bytes
    delivery: bytes
    #: nack, again: until it may be tried again; extend: the new lease.
    seconds: float = 0.0
    #: nack, bury: why; again: the new score, if any.
    text: str = ""
    #: Whether the delay was drawn: it is another one the next time the same is asked for.
    drawn: bool = False

    def asked_for(self) -> tuple[str, bytes, float | None, str]:
        """What the user asked for, as far as it is the same when it is asked for again."""
        return self.verb, self.delivery, None if self.drawn else self.seconds, self.text


class Batch:
    """Some ends that were asked for together. Each of their calls keeps its number until its reply is known.

    So the user may ask for the same again after an error, and several threads or tasks may ask for it at once.
    """

    __slots__ = ("calls", "ends", "extends")

    def __init__(self, ends: list[End]) -> None:
        self.ends = ends
        self.extends = bool(ends) and ends[0].verb == "extend"
        size = CHUNK if all(end.verb in AT_ONCE for end in ends) else AT_A_TIME
        #: The calls: where each begins, and behind which end it stops.
        self.calls = [(start, start + size, Unfinished()) for start in range(0, len(ends), size)]

    def is_the_same(self, ends: list[End]) -> bool:
        """Whether the user asks for the same again."""
        return [end.asked_for() for end in ends] == [end.asked_for() for end in self.ends]


class Answer(NamedTuple):
    """What the server says of some ends: its time, and the positions of those that were lost already."""

    now: float
    lost: list[int]


class Endings(Generic[T]):
    """Ending the leases of one set."""

    __slots__ = ("_end_script", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._end_script = definition.script("end")

    @property
    def set_name(self) -> str:
        return self._set.name

    def ack(self, reservations: Iterable[Res]) -> Plan[list[Res]]:
        return self._end(reservations, _ack)

    def ack_one(self, one: Res) -> Operation[Sequence[Res]]:
        """The same for a single reservation, in a single operation."""
        batch = self._begin([one], _ack)

        def read(reply: bytes) -> Sequence[Res]:
            lost = self._answer(reply).lost
            one._note_ended()
            one._forget(batch)
            if not lost:
                return []
            one.lost.set()
            return [one]

        return self._operation(batch.ends, read, batch.calls[0][2])

    def nack(self, reservations: Iterable[Res], delay: Duration | None, reason: str) -> Plan[list[Res]]:
        fixed = None if delay is None else seconds(delay, "a delay")
        _check_reason(reason)

        def nack(one: Res) -> End:
            after = (
                seconds(called(self._set.backoff, one.attempt, "backoff"), "what backoff returns")
                if fixed is None
                else fixed
            )
            return End("nack", one._stored, one._delivery, after, reason, drawn=fixed is None)

        return self._end(reservations, nack)

    def again(self, reservations: Iterable[Res], delay: Duration, score: Moment | None) -> Plan[list[Res]]:
        after = seconds(delay, "a delay")

        def again(one: Res) -> End:
            new_score = "" if score is None else written_score(score, one)
            return End("again", one._stored, one._delivery, after, new_score)

        return self._end(reservations, again)

    def extend(self, reservations: Iterable[Res], lease: Duration) -> Plan[list[Res]]:
        new_lease = seconds(lease, "a lease", positive=True)
        return self._end(reservations, lambda one: End("extend", one._stored, one._delivery, new_lease))

    def bury(self, reservations: Iterable[Res], reason: str) -> Plan[list[Res]]:
        _check_reason(reason)
        return self._end(reservations, lambda one: End("bury", one._stored, one._delivery, 0.0, reason))

    def one(self, ending: Plan[list[Res]]) -> Plan[None]:
        """The same for a single reservation: a lease that is lost is an error.

        :raises LeaseLost: and nothing was changed.
        """
        self.check((yield from ending))

    def check(self, lost: Sequence[Res]) -> None:
        """:raises LeaseLost: there is one among these that are lost."""
        for one in lost:
            raise LeaseLost(
                f"the lease of {one._shown_item} in the set {self._set.name!r} is over: it ran out, or the item was "
                "discarded, or the reservation was ended before"
            )

    def receipt(self, one: BaseReservation[T]) -> str:
        """Return the receipt of a reservation of this set."""
        value = self._set.items.dump(one.item) if self._set.items.keyed else None
        return Receipt(self._set.name, one._stored, one._delivery, one.deadline, one._lease, value).written()

    def _end(self, reservations: Iterable[Res], how: Callable[[Res], End]) -> Plan[list[Res]]:
        mine = list(reservations)
        batch = self._begin(mine, how)
        lost: list[Res] = []
        for start, stop, unfinished in batch.calls:
            chunk, asked_at = mine[start:stop], time.monotonic()
            answer: Answer = yield self.ends(batch.ends[start:stop], unfinished)
            lost += [chunk[position] for position in answer.lost]
            if batch.extends:
                _note_extended(chunk, batch.ends[start:stop], answer, asked_at)
            else:
                for one in chunk:
                    one._note_ended()
        for one in mine:
            one._forget(batch)
        for one in lost:
            # An extension that crossed an end of our own found no lease, but nothing was lost.
            if not (batch.extends and one._ending):
                one.lost.set()
        return lost

    def _begin(self, mine: Sequence[Res], how: Callable[[Res], End]) -> Batch:
        """The batch to send, which the reservations keep until it is answered."""
        batch = self._batch_of(mine, how)
        # An extension that was never answered is asked for anew: repeating it harms nothing.
        for one in () if batch.extends else mine:
            one._begin_end(batch)
        return batch

    def _batch_of(self, reservations: Sequence[Res], how: Callable[[Res], End]) -> Batch:
        """The batch to send: the one that was never answered, when the same is asked for again."""
        for one in reservations:
            if not isinstance(one, BaseReservation):
                raise TypeError(f"{shown(one)} is not a reservation")
            if one._endings is not self and one._set_name != self._set.name:
                raise ValueError(f"{one!r} is of the set {one._set_name!r}, not of {self._set.name!r}")
        ends = [how(one) for one in reservations]
        batch = Batch(ends)
        if not reservations or batch.extends:
            return batch
        # `dict.setdefault` is atomic, so threads that ask for the same at once send the same.
        before: Batch = vars(reservations[0]).setdefault("_batch", batch)
        return before if before is batch or before.is_the_same(ends) else batch

    def ends(self, ends: Sequence[End], unfinished: Unfinished | None = None) -> Operation[Answer]:
        """One round trip that ends or extends some leases, each in its own way."""
        buried = bool(ends) and ends[0].verb == "bury"
        return self._operation(ends, lambda reply: self._answer(reply, buried=buried), unfinished)

    def bury_taken(self, letters: Sequence[tuple[bytes, bytes, bytes, bytes]]) -> Operation[int]:
        """Makes dead letters of items that were claimed for good: rows of item, score, reason and value.

        The result is how many old dead letters were dropped to make room.
        """
        args: list[bytes | str] = [self._set.options, "taken"]
        for stored, score, reason, value in letters:
            args += (stored, score + b" " + reason, value)
        return Operation(*self._end_script, args, lambda reply: int(reply.split()[1]), recorded=True)

    def _operation(
        self, ends: Sequence[End], read: Callable[[bytes], R], unfinished: Unfinished | None
    ) -> Operation[R]:
        only_acks = all(end.verb == "ack" for end in ends)
        args: list[bytes | str] = [self._set.options, "ack" if only_acks else "each"]
        for end in ends:
            args += (end.stored, end.delivery)
            if not only_acks:
                args.append(f"{end.verb} {end.seconds!r} ".encode() + written_reason(end.text))
        shared = ACKS if only_acks else ENDS
        return Operation(*self._end_script, args, read, recorded=True, unfinished=unfinished, shared=shared)

    def _answer(self, reply: bytes, *, buried: bool = False) -> Answer:
        died, forgotten, now, *lost = reply.split()
        if died != b"0" or forgotten != b"0":
            log_deaths(self._set.name, int(died), int(forgotten), buried=buried)
        return Answer(float(now), list(map(int, lost)))


def _ack(one: BaseReservation[Any]) -> End:
    return End("ack", one._stored, one._delivery)


def _note_extended(mine: Sequence[Res], ends: Sequence[End], answer: Answer, asked_at: float) -> None:
    too_late = set(answer.lost)
    for position, (one, end) in enumerate(zip(mine, ends, strict=True)):
        if position not in too_late:
            one._note_extended(end.seconds, answer.now + end.seconds, asked_at + end.seconds)


def _check_reason(reason: Any) -> None:
    if not isinstance(reason, str):
        raise TypeError(f"a reason must be a str, not {shown(reason)}")


def log_deaths(name: str, died: int, forgotten: int, *, buried: bool = False) -> None:
    """Tells of dead letters, which nobody may be looking at."""
    if died:
        why = "buried" if buried else "after their last attempt"
        log.warning("%s: moved to the dead letters, %s: %d", name, why, died)
    if forgotten:
        log.warning("%s: too many dead letters, the oldest were dropped: %d", name, forgotten)
