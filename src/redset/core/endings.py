"""Ends and extensions of leases: what ack, nack, again, extend and bury send, and how their replies are read."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from redset.core.callables import called
from redset.core.definition import Definition
from redset.core.leases import BaseReservation
from redset.core.operations import CHUNK, Operation, Plan, Shape, Unfinished
from redset.core.scores import written_score
from redset.core.shown import checked_flag, shown
from redset.core.times import Duration, Moment, seconds
from redset.exceptions import LeaseLost

__all__ = ("Batch", "End", "Endings", "ack_of", "log_deaths", "written_reason")

T = TypeVar("T")
R = TypeVar("R")
Res = TypeVar("Res", bound=BaseReservation[Any])

log = logging.getLogger("redset")

#: Ends of which the server does 1,000 in a few commands. Each other end takes several, so a call has fewer of them.
CHEAP = ("ack", "extend")
AT_A_TIME = 400

#: Options and `each`, then rows of item, delivery, "verb seconds text".
ANY_ENDS = Shape("ends", 2, 3)
#: Options and `ack`, then rows of item, delivery.
ACKS = Shape("acks", 2, 2)


class End(NamedTuple):
    """How to end or extend one lease."""

    verb: str
    stored: bytes
    delivery: bytes
    #: nack, again: the delay; extend: the new lease.
    seconds: float = 0.0
    #: nack, bury: the reason; again: the new score, if any.
    text: str = ""
    #: Whether the delay is random, so that another request for the same end has another one.
    random: bool = False

    def request(self) -> tuple[str, bytes, float | None, str]:
        """Return the part that is equal when the user requests the same again."""
        return self.verb, self.delivery, None if self.random else self.seconds, self.text


class Batch:
    """Ends that were requested together. Each of their calls keeps its number until its reply is known.

    So the user may repeat the request after an error, and several threads or tasks may make it at once.
    """

    __slots__ = ("calls", "ends", "extends")

    def __init__(self, ends: list[End]) -> None:
        self.ends = ends
        self.extends = bool(ends) and ends[0].verb == "extend"
        size = CHUNK if all(end.verb in CHEAP for end in ends) else AT_A_TIME
        #: For each call, its first end and the one after its last.
        self.calls = [(start, start + size, Unfinished()) for start in range(0, len(ends), size)]

    def is_the_same(self, ends: list[End]) -> bool:
        """Return whether the user requests the same again."""
        return [end.request() for end in ends] == [end.request() for end in self.ends]


class Answer(NamedTuple):
    """The reply to some ends: the server's time, and the positions of the leases that were lost before."""

    now: float
    lost: list[int]


class Endings(Generic[T]):
    """The ends of leases of one set."""

    __slots__ = ("_end_script", "definition")

    def __init__(self, definition: Definition[T]) -> None:
        self.definition = definition
        self._end_script = definition.script("end")

    @property
    def set_name(self) -> str:
        return self.definition.name

    def ack(self, reservations: Iterable[Res]) -> Plan[list[Res]]:
        return self._end(reservations, ack_of)

    def ack_one(self, one: Res) -> Operation[Sequence[Res]]:
        """Ack one reservation, in one operation. Returns it if its lease was lost."""
        batch = self._begin([one], ack_of)

        def read(reply: bytes) -> Sequence[Res]:
            lost = self._answer(reply).lost
            one._note_end_known()
            one._drop_batch(batch)
            if not lost:
                return []
            one.lost.set()
            return [one]

        return self._operation(batch.ends, read, batch.calls[0][2])

    def nack(self, reservations: Iterable[Res], delay: Duration | None, reason: str) -> Plan[list[Res]]:
        fixed = None if delay is None else seconds(delay, "a delay")
        _check_reason(reason)

        def nack(one: Res) -> End:
            after = fixed
            if after is None:
                after = seconds(called(self.definition.backoff, one.attempt, "backoff"), "the result of backoff")
            return End("nack", one._stored, one._delivery, after, reason, random=fixed is None)

        return self._end(reservations, nack)

    def again(
        self, reservations: Iterable[Res], delay: Duration, score: Moment | None, *, group: bool = False
    ) -> Plan[list[Res]]:
        after = seconds(delay, "a delay")
        if checked_flag(group, "group") and self.definition.grouping is None:
            raise TypeError(f"group=True needs a set with groups, and {self.set_name!r} was made without group=")
        verb = "rest" if group else "again"

        def again(one: Res) -> End:
            new_score = "" if score is None else written_score(score, one)
            return End(verb, one._stored, one._delivery, after, new_score)

        return self._end(reservations, again)

    def extend(self, reservations: Iterable[Res], lease: Duration) -> Plan[list[Res]]:
        new_lease = seconds(lease, "a lease", positive=True)
        return self._end(reservations, lambda one: End("extend", one._stored, one._delivery, new_lease))

    def bury(self, reservations: Iterable[Res], reason: str) -> Plan[list[Res]]:
        _check_reason(reason)
        return self._end(reservations, lambda one: End("bury", one._stored, one._delivery, 0.0, reason))

    def one(self, ending: Plan[list[Res]]) -> Plan[None]:
        """Follow the plan for one reservation.

        :raises LeaseLost: its lease was lost; nothing was changed.
        """
        self.check((yield from ending))

    def check(self, lost: Sequence[Res]) -> None:
        """Raise an error if a lease was lost.

        :raises LeaseLost: one was.
        """
        for one in lost:
            raise LeaseLost(
                f"the lease of {one._shown_item} in the set {self.set_name!r} has ended: it expired, its item was "
                "discarded, or the reservation was ended before"
            )

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
                    one._note_end_known()
        for one in mine:
            one._drop_batch(batch)
        for one in lost:
            # An end by this process may overtake an extension, which then finds no lease. Nothing was lost.
            if not (batch.extends and one._end_sent):
                one.lost.set()
        return lost

    def _begin(self, mine: Sequence[Res], how: Callable[[Res], End]) -> Batch:
        """Return the batch to send, which the reservations keep until it is answered.

        If the user repeats a request that was not answered, it is the same batch.
        """
        for one in mine:
            if not isinstance(one, BaseReservation):
                raise TypeError(f"{shown(one)} is not a reservation")
            if one._endings is not self and one.set_name != self.definition.name:
                raise ValueError(f"{one!r} is of the set {one.set_name!r}, not of {self.definition.name!r}")
        ends = [how(one) for one in mine]
        batch = Batch(ends)
        if not mine or batch.extends:
            return batch  # An extension is idempotent: it is requested anew.
        # `dict.setdefault` is atomic, so threads that request the same at once send the same.
        before: Batch = vars(mine[0]).setdefault("_batch", batch)
        if before is not batch and before.is_the_same(ends):
            batch = before
        for one in mine:
            one._note_end_sent(batch)
        return batch

    def ends(self, ends: Sequence[End], unfinished: Unfinished | None = None) -> Operation[Answer]:
        """Return the operation that ends or extends some leases, each in its own way."""
        buried = bool(ends) and ends[0].verb == "bury"
        return self._operation(ends, lambda reply: self._answer(reply, buried=buried), unfinished)

    def _operation(
        self, ends: Sequence[End], read: Callable[[bytes], R], unfinished: Unfinished | None
    ) -> Operation[R]:
        only_acks = all(end.verb == "ack" for end in ends)
        args: list[bytes | str] = [self.definition.options, "ack" if only_acks else "each"]
        for end in ends:
            args += (end.stored, end.delivery)
            if not only_acks:
                args.append(f"{end.verb} {end.seconds!r} ".encode() + written_reason(end.text))
        return Operation(
            *self._end_script, args, read, recorded=True, unfinished=unfinished, shape=ACKS if only_acks else ANY_ENDS
        )

    def _answer(self, reply: bytes, *, buried: bool = False) -> Answer:
        died, forgotten, now, *lost = reply.split()
        if died != b"0" or forgotten != b"0":
            log_deaths(self.definition.name, int(died), int(forgotten), buried=buried)
        return Answer(float(now), list(map(int, lost)))


def ack_of(one: BaseReservation[Any]) -> End:
    """Return the ack of a reservation."""
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
    """Log new dead letters, and old ones that were dropped to make room."""
    if died:
        why = "buried" if buried else "after their last attempt"
        log.warning("%s: moved to the dead letters, %s: %d", name, why, died)
    if forgotten:
        log.warning("%s: too many dead letters, the oldest were dropped: %d", name, forgotten)


def written_reason(reason: str) -> bytes:
    """Return ``reason`` as it is stored, even if it is no valid text, as the reason for refusing an item may be."""
    return reason.encode(errors="backslashreplace")
