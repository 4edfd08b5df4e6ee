"""Reads for operators: the totals of a set and their history, the state of one item, and the leases."""

import re
from dataclasses import dataclass, fields
from heapq import nsmallest
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from redset.core.definition import Definition
from redset.core.items import Key
from redset.core.keys import Keys
from redset.core.letters import NO_LETTER
from redset.core.operations import CHUNK, Operation, Plan
from redset.core.shown import shown_fields

__all__ = ("Inspecting", "Inspection", "Lease", "Sample", "State", "Totals")

T = TypeVar("T")

#: The states of an item.
State: TypeAlias = Literal["waiting", "leased", "parked", "delayed", "done", "dead"]


@dataclass(frozen=True, slots=True)
class Totals:
    """The number of times that each thing has happened since the set was first used. No total decreases.

    Three equations hold for a set to which only redset adds. *held* are the leases that no call has ended yet, expired
    ones that no claim has met included::

        leased = acked + nacked + given_back + buried + expired + leases_rolled_back + leases_removed + held
        added + takes_rolled_back + unloadable + rescheduled
               = taken + acked + removed + merged + dropped + dead_removed + waiting + held + delayed + parked + dead
        died   = retried + dead_removed + revived + dead
    """

    #: Additions of items that did not wait, and of items that did.
    added: int
    duplicates: int
    #: Additions refused because the item is remembered, or dead on a set that remembers.
    left_out: int
    #: Claims that met an item under a lease and parked it.
    parked: int
    #: Items claimed for good, and under a lease.
    taken: int
    leased: int
    #: Leases that ended by an ack, a nack, `again`, `bury`, and by their deadline.
    acked: int
    nacked: int
    given_back: int
    buried: int
    expired: int
    #: Leases ended by `discard` or `clear`.
    leases_removed: int
    #: Claims undone because nobody read the reply: under a lease, and for good.
    leases_rolled_back: int
    takes_rolled_back: int
    #: Items removed: by `discard` one for each item, by `clear`, score or position one for each entry.
    removed: int
    #: Entries that met another of their item: it was added while it was leased, and then both came to wait.
    merged: int
    #: Entries left out at a claim, an ack or a death because the set remembers.
    dropped: int
    #: Dead letters: made, requeued, removed (by hand or by ``max_dead``), and replaced by an addition.
    died: int
    retried: int
    dead_removed: int
    revived: int
    #: Items claimed for good that became dead letters because the serializer could not load them.
    unloadable: int
    #: Next ticks planned; periodic sets only.
    rescheduled: int


NAMES = tuple(field.name for field in fields(Totals))


@dataclass(frozen=True, slots=True)
class Sample:
    """The totals at one moment."""

    #: Seconds since the epoch, by the server's clock.
    at: float
    totals: Totals


@dataclass(frozen=True, slots=True, repr=False)
class Inspection(Generic[T]):
    """All that is known of one item. A field that does not apply to its state is None."""

    __repr__ = shown_fields

    #: Of several states the first of: parked, leased, waiting, delayed, dead, done.
    state: State
    #: The score with which it waits, is parked, was claimed or died.
    score: float | None
    #: The number of its attempts.
    attempts: int
    #: Seconds since the epoch: the deadline of its lease, the end of its backoff, or of its retention.
    deadline: float | None
    #: The fencing token of its lease.
    token: int | None
    #: Seconds since the epoch at which it was leased, or died, or was done; None for other states.
    since: float | None
    #: The reason of its death.
    reason: str | None
    #: On a keyed set its value; else None.
    value: T | None


@dataclass(frozen=True, slots=True, repr=False)
class Lease(Generic[T]):
    """A leased item."""

    __repr__ = shown_fields

    item: T
    #: Seconds since the epoch, by the server's clock.
    deadline: float
    #: The number of this attempt, from 1.
    attempt: int
    #: The fencing token.
    token: int
    #: The stored bytes of the item; on a keyed set its identity.
    identity: bytes


class Inspecting(Generic[T]):
    """The operations of one set by which operators look at it."""

    __slots__ = ("_inspect", "_items", "_keys", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items
        self._inspect = definition.script("inspect")

    def totals(self) -> Operation[Totals]:
        return Operation("HMGET", (self._keys.meta,), NAMES, lambda found: Totals(*map(_total, found)))

    def history(self) -> Operation[list[Sample]]:
        return self.samples(self._keys)

    @staticmethod
    def samples(keys: Keys) -> Operation[list[Sample]]:
        return Operation("LRANGE", (keys.history,), ("0", "-1"), _read_samples)

    def state(self, item: T | Key) -> Operation[State | None]:
        return self._of(item, _state)

    def inspect(self, item: T | Key) -> Operation[Inspection[T] | None]:
        identity = self._items.identity(item)
        return self._of(item, lambda reply: self._inspection(identity, reply))

    def _of(self, item: T | Key, read: Any) -> Operation[Any]:
        return Operation(*self._inspect, ("item", self._items.identity(item)), read)

    def _inspection(self, identity: bytes, reply: list[Any]) -> Inspection[T] | None:
        waiting, leased, parked, died_at, delivery, letter, value, remembered, _ = reply
        state = _state(reply)
        if state is None:
            return None
        word, attempts, score = (delivery or b"0 0 0").split()
        reason = None
        if state == "dead":
            attempts, score, reason = (letter or NO_LETTER).split(b" ", 2)
        deadline, since, token = None, None, None
        if state in ("leased", "parked"):
            # Another program may have taken the lease away from what is parked.
            deadline, token = None if leased is None else float(leased), int(word) if word.isdigit() else 0
            since = token / 1e6
        elif state == "delayed":
            deadline = -float(leased)
        elif state == "dead":
            since = float(died_at)
        elif state == "done":
            deadline = float(remembered)
            since = deadline - self._set.remember
        score = {"waiting": waiting, "parked": parked, "done": None}.get(state, score)
        own = self._items.own_value(value) if self._items.keyed else None
        return Inspection(
            state,
            None if score is None else float(score),
            int(attempts),
            deadline,
            token,
            since,
            None if reason is None else reason.decode(errors="replace"),
            None if own is None else self._items.load(identity, value),
        )

    def leases(self, limit: int | None) -> Plan[list[Lease[T]]]:
        if limit is not None and (isinstance(limit, bool) or not hasattr(limit, "__index__")):
            raise TypeError(f"limit must be an int, or None for all leases, not {limit!r}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be at least 0, or None for all leases, not {limit!r}")
        return self._leases(limit)

    def _leases(self, limit: int | None) -> Plan[list[Lease[T]]]:
        found: list[tuple[int, bytes, bytes | None, bytes, bytes]] = []
        first = 0
        while True:
            rows: list[tuple[int, bytes, bytes | None, bytes, bytes]]
            rows, count = yield Operation(*self._inspect, ("leases", str(first), str(CHUNK)), self._read_leases)
            found += rows
            if limit is not None:
                found = nsmallest(limit, found)
            if count < CHUNK:
                break
            first += CHUNK
        return [
            Lease(self._items.load(stored, value), float(deadline), int(delivery.split()[1]), token, stored)
            for token, stored, value, deadline, delivery in sorted(found, key=lambda row: row[0])
        ]

    def _read_leases(self, reply: list[Any]) -> tuple[list[Any], int]:
        values = self._items.values_behind(reply) or [None] * (len(reply) // 3)
        rows = zip(reply[::3], reply[1::3], reply[2::3], values, strict=True)
        # Without its delivery, an item has lost its attempts and its token.
        found = [
            (int(delivery.split()[0]), stored, value, deadline, delivery)
            for stored, deadline, delivery, value in rows
            if delivery is not None
        ]
        return found, len(reply) // 3


def _state(reply: list[Any]) -> State | None:
    waiting, leased, parked, died_at, _, _, _, remembered, now = reply
    held = leased is not None and float(leased) > 0
    states: dict[State, bool] = {
        "parked": parked is not None,
        "leased": held,
        "waiting": waiting is not None,
        "delayed": leased is not None and not held,
        "dead": died_at is not None,
        "done": remembered is not None and float(remembered) > float(now),
    }
    return next((state for state, holds in states.items() if holds), None)


def _read_samples(reply: list[bytes]) -> list[Sample]:
    samples = []
    for text in reversed(reply):
        # Any program may write there.
        words = text.split() if re.match(rb"\d+\.\d+( |$)", text) else []
        known = dict(zip(words[1::2], words[2::2], strict=False))
        if words:
            samples.append(Sample(float(words[0]), Totals(*(_total(known.get(name.encode())) for name in NAMES))))
    return samples


def _total(field: bytes | None) -> int:
    """Return a total. If another program has written something else there, it counts as none."""
    return int(field) if field is not None and field.isdigit() else 0
