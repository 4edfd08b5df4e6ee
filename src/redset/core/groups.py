"""The operations on groups: what they send, and how replies are read. And the groups of items that others added."""

import logging
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redset.core.definition import Definition
from redset.core.gates import NO_END, checked_count, end_of_pause
from redset.core.grouping import Limit, group_name, written_limit
from redset.core.interruptions import is_interruption
from redset.core.operations import Operation
from redset.core.sending import NO_CALL
from redset.core.serializing import text_if_it_is
from redset.core.shown import described
from redset.core.talking import Caller, Register, ask
from redset.core.times import Duration, Moment
from redset.exceptions import ServerFullError

__all__ = ("GROUPS", "GroupStats", "Groups", "Sorting", "all_groups", "groups_of")

T = TypeVar("T")

log = logging.getLogger("redset")

#: Requests that items which other programs have added get their groups. If the claim has other items, a full server may
#: refuse that.
GROUPS, IF_POSSIBLE = b"groups", b"groups, if possible"
#: The number of columns of a group in the reply of ``survey.lua``.
COLUMNS = 6


@dataclass(frozen=True, slots=True)
class GroupStats:
    """One group, at one moment."""

    #: Its name: a str, or bytes if it is no UTF-8.
    name: Any
    #: The number of items that wait, and of leases.
    waiting: int
    leases: int
    #: The limit that holds for the group: its own, or that of the set; None if there is none.
    limit: Limit | None
    #: The time until which nothing is claimed from it, None if it does not rest; and the part of that which is due to
    #: ``pause``. Infinity: without an end.
    rests_until: float | None
    paused_until: float | None
    #: The score of the next item, or None.
    next_score: float | None


class Groups(Generic[T]):
    """The operations on the groups of one set."""

    __slots__ = ("_change", "_survey")

    def __init__(self, definition: Definition[T]) -> None:
        self._change = definition.script("group")
        self._survey = definition.script("survey")

    def limit(self, name: Any, leases: int | None, pause: Duration | None) -> Operation[None]:
        number, span = written_limit(leases, pause, none="None for the number that all groups have")
        return self._operation(name, "limit", str(number) if number else "-", repr(span) if span else "-")

    def pause(self, name: Any, until: Moment | None) -> Operation[None]:
        return self._operation(name, "pause", NO_END if until is None else repr(max(0.0, end_of_pause(until))))

    def resume(self, name: Any) -> Operation[None]:
        return self._operation(name, "resume")

    def _operation(self, name: Any, *args: str) -> Operation[None]:
        return Operation(*self._change, (group_name(name), *args), lambda reply: None, recorded=True)

    def stats(self, name: Any) -> Operation[GroupStats]:
        return Operation(*self._survey, ("one", group_name(name)), lambda reply: _read(reply)[0])

    def all(self, limit: int) -> Operation[list[GroupStats]]:
        return Operation(*self._survey, ("all", str(limit)), _read)


def all_groups(groups: Groups[Any] | None, set_name: str, limit: int) -> Operation[list[GroupStats]]:
    """Return the groups with the most leases.

    :raises TypeError: the set has no groups, or ``limit`` is no int.
    :raises ValueError: ``limit`` is less than 1.
    """
    operations = groups_of(groups, set_name)
    most = checked_count(limit, "limit", none="")
    return operations.all(most)


def groups_of(groups: Groups[Any] | None, set_name: str) -> Groups[Any]:
    """Return the operations on the groups of a set.

    :raises TypeError: it has no groups.
    """
    if groups is None:
        raise TypeError(
            f"the set {set_name!r} has no groups: a SortedSet, TimeSortedSet or ScheduledSet created with group= has"
        )
    return groups


def _read(reply: list[bytes]) -> list[GroupStats]:
    now, defaults, found = float(reply[0]), reply[1].split(), []
    for start in range(2, len(reply), COLUMNS):
        name, waiting, leases, own, rests_until, score = reply[start : start + COLUMNS]
        words = own.split() or [b"-", b"-", b"0", b"0"]
        most, pause = (float(default if word == b"-" else word) for word, default in zip(words, defaults, strict=False))
        end, paused_until = float(rests_until or 0), math.inf if words[2] == b"-1" else float(words[2])
        found.append(
            GroupStats(
                name=text_if_it_is(name),
                waiting=int(waiting),
                leases=int(leases),
                limit=Limit(int(most) or None, pause or None) if most or pause else None,
                rests_until=end if end > now else None,
                paused_until=paused_until if paused_until > now else None,
                next_score=float(score) if score else None,
            )
        )
    return found


class Sorting:
    """Gives items that other programs have added their groups, when the reply to a claim requests that.

    An item for which the callable fails becomes a dead letter: it could not be claimed. A process without the callable
    leaves such items to the others. Reading them mends the index for items that have a group already.
    """

    __slots__ = ("_can_tell", "_grouping", "_options", "_register", "_sort")

    def __init__(self, definition: Definition[Any], register: Register) -> None:
        assert definition.grouping is not None
        self._grouping = definition.grouping
        self._can_tell = bool(definition.sorts)
        self._options = definition.options
        self._sort = definition.script("sort")
        self._register = register

    def __call__(self, caller: Caller, request: bytes) -> Generator[Any, Any, None]:
        if request not in (GROUPS, IF_POSSIBLE):
            yield from self._register(caller, request)
            return
        try:
            yield from self._sort_some(caller)
        except ServerFullError as error:
            if request == GROUPS:
                raise
            log.debug("%s: items of other programs have no groups yet: %s", caller.name, error)

    def _sort_some(self, caller: Caller) -> Generator[Any, Any, None]:
        _, *found = yield from ask(self._operation("read", read=list), caller, [])
        if not self._can_tell:
            return
        sorted_ones: list[bytes] = []
        buried: list[bytes] = []
        for identity in found:
            try:
                sorted_ones += (identity, self._grouping.of_stored(identity))
            except Exception as error:
                if is_interruption(error):
                    raise
                buried += (identity, f"its group cannot be told: {described(error)}".encode())
        if buried:
            log.error("%s: their groups cannot be told, moved to the dead letters: %r", caller.name, buried[::2])
        for verb, args in (("sort", sorted_ones), ("bury", buried)):
            if args:
                yield from ask(self._operation(verb, *args, read=bytes), caller, [])

    def _operation(self, *args: Any, read: Any) -> Operation[Any]:
        # Without a record, which the claim before it still needs. Executed twice, it has the effect of once.
        script, keys = self._sort
        return Operation(script, (keys[0], *keys), (*NO_CALL, self._options, *args), read)
