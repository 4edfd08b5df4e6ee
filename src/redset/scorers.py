"""Scorers for common orders."""

import time
from collections.abc import Callable
from numbers import Integral
from typing import Any

from redset.core.callables import called, checked_callable
from redset.core.shown import shown
from redset.core.times import is_number

__all__ = ("priority_then_time",)

#: Priorities are 0 to one less than this.
PRIORITIES = 500
#: Milliseconds between two priorities: until the year 2527 there are fewer since the epoch. A float is exact up to
#: 2^53, and 500 times 2^44 is less.
SPAN = 2**44


def priority_then_time(priority: Callable[[Any], int]) -> Callable[[object], float]:
    """Return a scorer for items that are claimed by priority, and first in, first out within a priority.

    The lowest number comes first. The score is ``priority * 2**44`` plus the milliseconds since the epoch at the time
    of the addition, by the client's clock, which a float holds exactly. Items of one priority that are added within
    one millisecond are claimed in the order of their bytes; those of producers whose clocks differ are out of order by
    that difference.

    An item that is added again while it waits moves to the back of its priority. With ``duplicates="keep"`` it keeps
    its place, and with ``duplicates="earliest"`` a more urgent addition moves it forward.

    Scores are no times, so this is for a :class:`~redset.SortedSet`: in a ``ScheduledSet`` no item would ever be due.

    :param priority: a callable that takes an item and returns its priority, an int from 0 to 499.
    :returns: a callable for the parameter ``scorer``. It raises TypeError for a priority that is no number, and
        ValueError for any other priority; both name it.
    :raises TypeError: ``priority`` is no callable.

    >>> from redset import SortedSet, priority_then_time
    >>> jobs = SortedSet(client, "jobs", scorer=priority_then_time(lambda job: 0 if job.startswith("urgent") else 9))
    >>> jobs.update(["wash"])
    1
    >>> jobs.update(["urgent call"])
    1
    >>> jobs.take(2)
    ['urgent call', 'wash']
    """
    checked_callable(priority, "priority", "takes an item")

    def score(item: object) -> float:
        return float(_checked(called(priority, item, "priority"), item) * SPAN + time.time_ns() // 1_000_000)

    return score


def _checked(number: Any, item: Any) -> int:
    if not is_number(number):
        raise TypeError(f"the priority of {shown(item)} must be an int from 0 to {PRIORITIES - 1}, not {shown(number)}")
    if not isinstance(number, Integral) or not 0 <= int(number) < PRIORITIES:
        raise ValueError(
            f"the priority of {shown(item)} must be an int from 0 to {PRIORITIES - 1}, not {shown(number)}"
        )
    # An int of numpy may be too narrow for a score.
    return int(number)
