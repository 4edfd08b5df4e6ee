"""What a history says of each item of a set: what may have become of it, at the earliest and at the latest.

A call takes effect between its invocation and its completion; one whose outcome is unknown at any time after its
invocation, or never. All that checkers need to know of that is decided here, once.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from chaos.history import CUT, Call, Fault, History, Left, Row
from chaos.promises import Promises
from chaos.repeats import TIMES

__all__ = (
    "ADDITIONS",
    "FOR_GOOD",
    "HAND_OUTS",
    "Addition",
    "Clock",
    "Delivery",
    "End",
    "Period",
    "Return",
    "Story",
    "stories",
)

ADDITIONS = ("add", "update", "zadd", "add_to", "add_new", "retry")
#: Additions that their client may send again and that count again then.
UNRECORDED = ("zadd", "add_to")
FOR_GOOD = ("pop", "take", "pop_max", "take_max")
HAND_OUTS = (*FOR_GOOD, "reserve", "reserve_many")
ENDS = ("ack", "nack", "again", "bury", "extend")
REMOVALS = ("discard", "clear", "forget")
#: Set the next tick of a periodic item.
REPLANS = ("reschedule", "trigger")

#: How long after its process is gone, in seconds, a command may still reach the server.
LATE = 10.0
#: How far apart, in seconds, the clocks of the server and of the history may run during one lease.
DRIFT = 0.05


#: From how many shards a call may have claimed whose reply was lost there: redset gives up after as many failures.
SHARDS_OF_A_CALL = 3


def over_by(call: Call) -> float:
    """The latest moment at which it may take effect."""
    return call.completed if call.completed is not None and call.outcome == "ok" else math.inf


class Addition(NamedTuple):
    """An item that was given to a call which was not refused."""

    call: Call
    score: float | None
    version: int | None

    @property
    def forced(self) -> bool:
        """Whether it brings back an item that is done or dead, on a set that remembers."""
        return bool(self.call.given.get("force"))


class Delivery(NamedTuple):
    """An item that somebody was handed. Its call was completed, or nobody would know."""

    call: Call
    row: Row

    @property
    def since(self) -> float:
        return self.call.invoked

    @property
    def until(self) -> float:
        assert self.call.completed is not None
        return self.call.completed

    @property
    def lease(self) -> float:
        """In seconds; 0 when it was taken for good."""
        return 0.0 if self.call.name in FOR_GOOD else float(self.call.given["lease"])


class End(NamedTuple):
    """A lease that somebody asked to end, or to extend."""

    call: Call
    #: Whether the server said that the lease was over already.
    lost: bool

    @property
    def possible(self) -> bool:
        """Whether it may have taken effect."""
        return not self.lost and self.call.outcome != "refused"

    @property
    def certain(self) -> bool:
        return not self.lost and self.call.outcome == "ok"


class Return(NamedTuple):
    """An end of a lease after which its item may be handed out again, from a moment on."""

    since: float
    why: str


class Period(NamedTuple):
    """A time in which what a call has set certainly holds: the pause, or the limits."""

    call: Call
    since: float
    until: float

    def has(self, call: Call) -> bool:
        """Whether a call certainly took effect in it."""
        return call.outcome == "ok" and self.since <= call.invoked and over_by(call) <= self.until


class Clock:
    """The server's clock, as seen from the history's. It is moved at known moments and runs alike in between."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        moves = [fault for fault in faults if fault.name == "clock"]
        self._moves = [(move.began, move.ended, float(move.details["seconds"])) for move in moves]
        self._epoch = next((move.details["epoch"] for move in moves if "epoch" in move.details), None)

    def at(self, moment: float) -> float | None:
        """The latest that it can have shown then; None when nobody recorded what it showed at first."""
        if self._epoch is None:
            return None
        moved = sum(seconds for began, _, seconds in self._moves if began <= moment)
        return moment + float(self._epoch) + moved

    def earliest(self, start: float, seconds: float) -> float:
        """The earliest moment at which ``seconds`` by the server's clock have passed since ``start``."""
        end = start + seconds - DRIFT
        for began, ended, forward in self._moves:
            if ended >= start and began < end:
                end = max(end - forward, min(began, end))
        return end

    def latest(self, start: float, seconds: float) -> float:
        """The latest such moment."""
        end = start + seconds + DRIFT + sum(max(0.0, -forward) for _, _, forward in self._moves)
        for began, ended, forward in self._moves:
            if forward > 0 and began >= start and ended < end:
                end = max(end - forward, ended)
        return end

    def moves_begun(self, moment: float) -> int:
        return sum(began <= moment for began, _, _ in self._moves)

    def moves_over(self, moment: float) -> int:
        return sum(ended < moment for _, ended, _ in self._moves)


@dataclass
class Story:
    """One set of a history."""

    set: str
    promises: Promises
    calls: list[Call]
    faults: list[Fault]
    left: Left | None

    def __post_init__(self) -> None:
        self.clock = Clock(self.faults)
        self.additions: dict[str, list[Addition]] = defaultdict(list)
        self.deliveries: dict[str, list[Delivery]] = defaultdict(list)
        self.ends: dict[tuple[str, int], list[End]] = defaultdict(list)
        self.calls = list(map(self._with_doubts, self.calls))
        self.hand_outs: list[Call] = []
        self._removals: dict[str | None, list[Call]] = defaultdict(list)
        for call in self.calls:
            self._take_in(call)
        for item, deliveries in self.deliveries.items():
            self.deliveries[item] = _in_order(deliveries)

    def _with_doubts(self, call: Call) -> Call:
        """Of a call that was refused after a reshard it is unknown whether the old shards had done it."""
        is_doubtful = call.outcome == "refused" and self._is_twice(call)
        return replace(call, outcome="unknown", error="") if is_doubtful else call

    def _is_twice(self, call: Call) -> bool:
        """Whether a call may have been done twice: the second time in shards that do not know of the first."""
        until = self._killed.get(call.process, math.inf) if call.completed is None else call.completed
        return (call.repeated or call.completed is None) and self._was_resharded(call.invoked, until)

    def _was_resharded(self, since: float, until: float) -> bool:
        return any(fault.name == "reshard" and fault.began <= until and fault.ended >= since for fault in self.faults)

    def _take_in(self, call: Call) -> None:
        if call.name in HAND_OUTS:
            self.hand_outs.append(call)
            for row in call.rows:
                self.deliveries[row.item].append(Delivery(call, row))
        elif call.name in ENDS:
            lost = {row.item for row in call.rows}
            for item, token in zip(call.items, call.tokens, strict=True):
                self.ends[item, token].append(End(call, item in lost or call.error.startswith("LeaseLost")))
        elif call.outcome == "refused":
            return
        elif call.name in ADDITIONS:
            for addition in _additions(call, is_twice=self._is_twice(call)):
                self.additions[addition[0]].append(addition[1])
        elif call.name in REMOVALS:
            for removed in call.items or (None,):
                self._removals[removed].append(call)

    @cached_property
    def remaining(self) -> frozenset[str]:
        """What was left, in whatever state."""
        left = self.left or Left(self.set)
        return frozenset((*left.waiting, *left.leased, *left.parked, *left.dead))

    @cached_property
    def replans(self) -> dict[str, list[Call]]:
        """By item, the calls that may have set its next tick."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.name in REPLANS and call.outcome != "refused":
                for item in call.items:
                    found[item].append(call)
        return found

    @property
    def alive(self) -> frozenset[str]:
        """The items that were left, except dead ones."""
        return self.remaining.difference(self.left.dead if self.left else ())

    def removed(self, item: str, since: float) -> float:
        """The earliest moment from ``since`` on at which somebody may have removed it; inf when nobody did."""
        calls = (*self._removals.get(item, ()), *self._removals.get(None, ()))
        return min((max(since, call.invoked) for call in calls if over_by(call) >= since), default=math.inf)

    def ends_of(self, delivery: Delivery, *names: str) -> Iterator[End]:
        """How it was, or may have been, ended or extended."""
        ends = self.ends.get((delivery.row.item, delivery.row.token or 0), ())
        return (end for end in ends if end.possible and (not names or end.call.name in names))

    def was_ended(self, delivery: Delivery, *names: str) -> bool:
        """Whether it was certainly ended in one of these ways."""
        return any(end.certain for end in self.ends_of(delivery, *names))

    def runs_out(self, delivery: Delivery) -> float:
        """The earliest moment at which its lease can have run out, if it was not ended."""
        earliest = self.clock.earliest(delivery.since, delivery.lease)
        for extension in self.ends_of(delivery, "extend"):
            extended = self.clock.earliest(extension.call.invoked, extension.call.given["lease"])
            earliest = extended if extension.certain else min(earliest, extended)
        return earliest

    def has_run_out(self, delivery: Delivery) -> float:
        """The latest moment at which its lease runs out."""
        latest = self.clock.latest(delivery.until, delivery.lease)
        for extension in self.ends_of(delivery, "extend"):
            latest = max(latest, self.clock.latest(over_by(extension.call), extension.call.given["lease"]))
        return latest

    def holds_until(self, delivery: Delivery) -> float:
        """Until when its lease is certainly live."""
        ends = (end.call.invoked for end in self.ends_of(delivery) if end.call.name != "extend")
        removed = self.removed(delivery.row.item, delivery.since)
        return min(self.runs_out(delivery), removed, *ends)

    def periods(self, *names: str, group: str | None = None) -> Iterator[Period]:
        """When each call of these methods certainly is the last that took effect.

        :param group: the group whose limits or pause they set; None: those of the set.
        """
        calls = [
            call
            for call in self.calls
            if call.name in names and call.outcome != "refused" and (group is None or group in call.items)
        ]
        for call in calls:
            if call.outcome != "ok":
                continue
            since, until = over_by(call), math.inf
            for other in calls:
                if other is call:
                    continue
                if other.invoked >= over_by(call):
                    until = min(until, other.invoked)
                elif other.outcome != "ok":
                    since = max(since, (other.completed or other.invoked) + LATE)
                elif over_by(other) > call.invoked:
                    # Nobody knows which of the two was the last.
                    since = math.inf
            if since < until:
                yield Period(call, since, until)

    def returns(self, delivery: Delivery) -> Return | None:
        """How its item may come back from it; None when it cannot."""
        if not delivery.lease or self.was_ended(delivery, "ack", "bury"):
            return None
        given_back = list(self.ends_of(delivery, "nack", "again"))
        found = [Return(self._delayed(end.call), end.call.name) for end in given_back]
        if not any(end.certain for end in given_back):
            found.append(Return(self.runs_out(delivery), "its lease ran out"))
        return min(found)

    def rests(self, delivery: Delivery) -> Iterator[Period]:
        """When its group certainly rests, since its holder asked for that."""
        asked = [end for end in self.ends_of(delivery, "again") if end.call.given.get("group")]
        # One that was never answered may have begun the rest, and what came after it got the same answer.
        began = min((end.call.invoked for end in asked), default=math.inf)
        for end in asked:
            if end.certain:
                yield Period(end.call, over_by(end.call), self.clock.earliest(began, end.call.given["delay"]))

    def _delayed(self, call: Call) -> float:
        delay = float(call.given.get("delay") or 0)
        return self.clock.earliest(call.invoked, delay) if delay else call.invoked

    @cached_property
    def unseen(self) -> list[Call]:
        """The hand-outs of which nobody knows what they took, or not all of it."""
        return [
            call
            for call in self.hand_outs
            if (call.outcome == "unknown" and not call.rows) or call.error == CUT or self._is_twice(call)
        ]

    @cached_property
    def _killed(self) -> dict[str, float]:
        return {fault.on: fault.ended for fault in self.faults if fault.name == "kill"}

    @cached_property
    def _hand_outs_by_process(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.hand_outs:
            found[call.process].append(call)
        return found

    def settled_by(self, call: Call) -> float:
        """When what an unseen hand-out took was certainly put back, by the next of its process; inf for never."""
        if call.completed is None:
            return math.inf
        given_up, settling = call.completed, 0
        others = self._hand_outs_by_process[call.process]
        for other in others[bisect_right(others, given_up, key=lambda other: other.invoked) :]:
            if other.outcome == "unknown" or other.error == CUT:
                # It may have carried what was to be put back, and then only what follows it does.
                given_up = max(given_up, over_by(other) if other.completed is None else other.completed)
                settling = 0
            elif other.outcome == "ok" and other.invoked >= given_up and self._settles(other):
                settling += 1
                if settling >= self._to_settle:
                    return over_by(other)
        return math.inf

    @property
    def _to_settle(self) -> int:
        """How many claims put back whatever their process has left: over shards, one claims from one that has some,
        and as many as there are threads or tasks may choose the same one.
        """
        return 1 if self.promises.shards is None else 2 * self.promises.shards

    def _settles(self, call: Call) -> bool:
        """Whether a claim puts something back, if its process has left something."""
        return self.promises.shards is None or "number" not in call.given

    def had_by(self, call: Call) -> float:
        """When an unseen hand-out that nothing was put back of had what it took, and its lease was over."""
        given_up = call.invoked if call.completed is None else call.completed
        return given_up + LATE + float(call.given.get("lease", 0))

    def gone_by(self, call: Call) -> float:
        """When a call that may change something has certainly done so, or never will."""
        if call.outcome == "ok":
            return over_by(call)
        return (self._killed.get(call.process, math.inf) if call.completed is None else call.completed) + LATE

    @cached_property
    def empty(self) -> list[Call]:
        """The hand-outs that met all that waited, and found nothing to hand out."""
        return [call for call in self.hand_outs if call.outcome == "ok" and not call.rows and call.error != CUT]

    def swallowed(self) -> Iterator[tuple[float, int, str]]:
        """What unseen hand-outs may have taken for good: until when, how many, and why it did not come back."""
        for call in self.unseen:
            if call.name not in FOR_GOOD:
                continue
            number = int(call.given.get("number", 1)) * (1 if self.promises.shards is None else SHARDS_OF_A_CALL)
            killed = self._killed.get(call.process)
            settled = self.settled_by(call)
            if settled == math.inf:
                if killed is not None:
                    yield killed + LATE, number, "its taker was killed"
                elif call.completed is not None:
                    yield math.inf, number, "its taker never took again"
            elif self.forgotten([call]):
                yield math.inf, number, "what puts it back was forgotten by a failover"
            elif self._was_resharded(call.invoked, settled):
                yield settled, number, "it was not put back after a reshard"

    def forgotten(self, calls: Iterable[Call], by: float = math.inf) -> bool:
        """Whether a failover may have undone one of these by then."""
        undoable = [call for call in calls if call.replicated is not True]
        return any(
            fault.began <= by and fault.ended >= call.invoked and self._may_forget(fault, call)
            for call in undoable
            for fault in self._failovers
        )

    def _may_forget(self, fault: Fault, call: Call) -> bool:
        """Whether a call may be one that the new master does not know, as far as its shards and replicas tell."""
        if over_by(call) <= fault.details.get("kept until", -math.inf):
            return False
        shards = fault.details.get("shards", {}).get(self.set)
        items = {*call.items, *(row.item for row in call.rows)}
        return shards is None or not items or any(self.promises.shard_of(item) in shards for item in items)

    @cached_property
    def failovers(self) -> list[tuple[float, float]]:
        return [(fault.began, fault.ended) for fault in self._failovers]

    @cached_property
    def _failovers(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.name == "failover"]


def stories(history: History, promises: dict[str, Promises]) -> Iterator[Story]:
    """What happened to each set of which something is promised."""
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in history.calls:
        calls[call.set].append(call)
    left = {left.set: left for left in history.left}
    for name, promised in promises.items():
        faults = [fault for fault in history.faults if name in fault.details.get("sets", (name,))]
        yield Story(name, promised, calls[name], faults, left.get(name))


def _additions(call: Call, *, is_twice: bool) -> Iterator[tuple[str, Addition]]:
    count = len(call.items)
    scores = call.given.get("scores") or [call.given.get("score")] * count
    versions = call.given.get("versions") or [call.given.get("version")] * count
    for item, score, version in zip(call.items, scores, versions, strict=True):
        yield item, Addition(call, score, version)
        if is_twice:
            yield item, Addition(call, score, version)
        if call.name in UNRECORDED and (call.repeated or call.completed is None):
            # Each time that its client sends it, early or late, it adds the item, which may be done by then.
            again = Addition(replace(call, outcome="unknown"), score, version)
            yield from [(item, again)] * max(TIMES.values())


def _in_order(deliveries: list[Delivery]) -> list[Delivery]:
    """As they were made, as far as tokens tell; the others by when they were complete at the latest."""
    leased = sorted((one for one in deliveries if one.row.token is not None), key=lambda one: one.row.token or 0)
    latest = [(one.until, one) for one in deliveries if one.row.token is None]
    until = math.inf
    # What a later token was made after was made before that was complete.
    for one in reversed(leased):
        until = min(until, one.until)
        latest.append((until, one))
    return [one for _, one in sorted(latest, key=lambda row: (row[0], row[1].row.token or 0))]
