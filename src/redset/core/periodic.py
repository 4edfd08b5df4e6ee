"""Periodic sets: their stored values, and what schedule and planned send."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from redset.core.adding import Adding, Rule, Score
from redset.core.callables import called
from redset.core.definition import Definition
from redset.core.items import Items, Key
from redset.core.operations import Operation, Plan, Shape, only, then
from redset.core.scores import read_score, written_score
from redset.core.shown import shown
from redset.core.times import Duration, Moment, moment, seconds
from redset.core.updating import Update

__all__ = ("PeriodicItems", "Planned", "ScheduleMany", "Scheduling")

T = TypeVar("T")
R = TypeVar("R")

#: One duration for all items, or a callable that takes an item. For moments: `Score`.
Durations = Duration | Callable[[T], Duration] | None

#: Rows of a moment and an item.
REPLANS = Shape("positions", 0, 2)


class PeriodicItems(Items[T]):
    """Items whose entry in the values has their own interval in front: ``b"interval\\nvalue"``."""

    __slots__ = ()

    def own_value(self, value: bytes | None) -> bytes | None:
        _, newline, own_value = (value or b"").partition(b"\n")
        return own_value if newline else None

    def own_values(self, values: Sequence[bytes | None]) -> Sequence[bytes | None]:
        return [self.own_value(value) for value in values]


class Planned(NamedTuple):
    """The plan for one item."""

    #: Seconds between its ticks; None if it is neither waiting nor leased.
    interval: float | None
    #: The time at which it falls due, in seconds since the epoch; None if it is not waiting.
    next_due: float | None


class Scheduling(Adding[T]):
    """The additions to one periodic set. An item that is there already keeps its plan."""

    __slots__ = ("_jitter", "_look", "_schedule", "_shape")

    def __init__(self, definition: Definition[T], jitter: float) -> None:
        super().__init__(definition)
        self._jitter = jitter
        self._schedule = definition.script("schedule")
        self._shape = Shape("new", 1, self.width)
        self._look = definition.script("look")

    def schedule(self, item: T, interval: Duration | None, first: Moment | None) -> Operation[bool]:
        """Add an item, and return whether it is new. With a first tick it must be.

        :raises ValueError: it has a first tick and is not new; nothing was changed.
        """
        if first is None:
            return only(self.schedule_all([item], interval, None))

        def read(were_new: list[bool]) -> bool:
            if not were_new[0]:
                raise ValueError(
                    f"first={first!r}, but {shown(item)} is in the set {self._set.name!r} already: use reschedule()"
                )
            return True

        return then(self.schedule_all([item], interval, first, only_new=True), read)

    def schedule_all(
        self, items: Sequence[T], interval: Durations[T], first: Score[T], *, bulk: bool = False, only_new: bool = False
    ) -> Operation[list[bool]]:
        """Add at most 1,000 items, and return which of them were new.

        :param bulk: whether to stop at the first item that the set has no room for.
        :param only_new: whether an item that is not new is left alone, with its interval and its value.
        """
        mark = "!" if only_new else ""
        rows: list[bytes | str] = ["bulk" if bulk else "each"]
        for item in items:
            stored = self._items.dump(item)
            identity = self._items.identity(item) if self._items.keyed else stored
            rows += (f"{mark}{self._first(item, first)} {_own_interval(item, interval)}", identity)
            if self._items.keyed:
                rows.append(stored)

        def read(reply: bytes) -> list[bool]:
            new = set(map(int, self._with_room(reply).split()))
            return [position in new for position in range(len(items))]

        return Operation(*self._schedule, rows, read, recorded=True, shape=None if bulk else self._shape)

    def schedule_many(self, iterables: Iterable[Iterable[T]], interval: Durations[T], first: Score[T]) -> Plan[int]:
        """Add all items, 1,000 per call, and return how many were new."""
        return ScheduleMany(self, interval, first).add_all(iterables)

    def add_absent(self, rows: Sequence[bytes | str]) -> Operation[Any]:
        args: list[bytes | str] = ["bulk"]
        for start in range(0, len(rows), self.width):
            score, item, *value = rows[start : start + self.width]
            args += (f"{score if isinstance(score, str) else score.decode()} ", item, *value)
        return Operation(*self._schedule, args, self._with_room, recorded=True)

    def count_new(
        self,
        items: Sequence[T],
        score: Score[T] = None,
        rule: Rule | None = None,  # noqa: ARG002 # an item that is there keeps its plan under any rule
    ) -> Operation[int]:
        """Schedule items with ``score`` as the time of their first tick."""
        return self.count_scheduled(items, None, score)

    def count_scheduled(self, items: Sequence[T], interval: Durations[T], first: Score[T]) -> Operation[int]:
        """Schedule at most 1,000 items, and return how many were new."""
        return then(self.schedule_all(items, interval, first, bulk=True), sum)

    def increment(self, item: T, by: Duration) -> Operation[float | None]:
        raise TypeError(
            f"the score of {shown(item)} cannot be incremented by {by!r}: the set {self._set.name!r} plans its ticks "
            "itself"
        )

    def reschedule(self, item: T | Key, when: Moment) -> Operation[None]:
        return self._replan(item, repr(moment(when, "when")))

    def trigger(self, item: T | Key) -> Operation[None]:
        return self._replan(item, "now")

    def _replan(self, item: T | Key, when: str) -> Operation[None]:
        """Sets the next tick of an item.

        :raises KeyError: it is neither waiting nor leased.
        """

        def read(found: bytes) -> None:
            if not found:
                raise KeyError(item)

        return Operation(
            *self._set.script("reschedule"),
            (when, self._items.identity(item)),
            read,
            recorded=True,
            shape=REPLANS,
        )

    def planned(self, item: T | Key) -> Operation[Planned]:
        def read(reply: list[Any]) -> Planned:
            score, deadline = read_score(reply[0]), read_score(reply[1])
            if score is None and deadline is None:
                return Planned(None, None)
            # A negative deadline: the item is delayed until then, and not leased.
            if score is None and deadline is not None and deadline < 0:
                score = -deadline
            return Planned(float(reply[2]), score)

        return Operation(*self._look, ("planned", self._items.identity(item), repr(self._set.interval)), read)

    def _first(self, item: T, first: Score[T]) -> str:
        """Return the time of an item's first tick, in seconds since the epoch; after a plus, from the server's now."""
        if first is not None:
            own = called(first, item, "first") if callable(first) else first
            return written_score(own, item, "first" if own is first else f"the result of first for {shown(item)}")
        spread = random.uniform(0, self._jitter)
        if self._set.scorer is self._set.kind.scorer:
            return f"+{spread!r}"
        own = moment(called(self._set.scorer, item, "the scorer"), f"the first tick of {shown(item)}")
        return written_score(own + spread, item)


class ScheduleMany(Update[T]):
    """An addition of many items to a periodic set."""

    __slots__ = ("_interval", "_scheduling")

    def __init__(self, scheduling: Scheduling[T], interval: Durations[T], first: Score[T]) -> None:
        if first is not None and not callable(first):
            written_score(first, None, "first")
        super().__init__(scheduling, first)
        if interval is not None and not callable(interval):
            seconds(interval, "the interval of all items", positive=True)
        self._scheduling = scheduling
        self._interval = interval

    def _count_new(self, items: Sequence[T]) -> Operation[int]:
        return self._scheduling.count_scheduled(items, self._interval, self._score)


def _own_interval(item: T, interval: Durations[T]) -> str:
    if interval is None:
        return ""
    own = called(interval, item, "interval") if callable(interval) else interval
    return repr(seconds(own, f"the interval of {shown(item)}", positive=True))
