"""What a history says of the items in it: which were lost, finished more than once, worked on by two at once."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

__all__ = ("Verdict", "judge")

FOREVER = float("inf")


@dataclass(frozen=True)
class Verdict:
    """How many items there are of each kind."""

    #: Those whose producer was told that they are added; and those that it tried to add, and was not told.
    acknowledged: int
    unsure: int
    #: Acknowledged and never finished, and the server has nothing of them any more.
    lost_never_begun: int
    lost_begun: int
    #: Acknowledged and never finished, but still somewhere on the server: waiting, given up, or forgotten.
    left: int
    #: Finished more than once.
    twice: int
    #: Worked on by two at once, both of them alive.
    at_once: int
    #: How often an item was begun, by all workers together.
    executions: int


@dataclass
class _Item:
    tried: bool = False
    acknowledged: bool = False
    #: From when to when, for each time that it was begun.
    executions: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    ends: int = 0


def judge(history: str, left: str) -> Verdict:
    """
    :param history: the lines that the adapters wrote, and ``killed`` for each process that ended.
    :param left: all that is still on the server.
    """
    items: dict[str, _Item] = defaultdict(_Item)
    deaths: dict[str, list[float]] = defaultdict(list)
    for line in history.splitlines():
        event, name, number, process, moment = line.split()
        item, execution, when = items[name], (process, number), float(moment)
        if event == "adding":
            item.tried = True
        elif event == "added":
            item.acknowledged = True
        elif event == "begin":
            item.executions[execution] = [when, FOREVER]
        elif event in {"end", "broke"}:
            item.executions[execution][1] = when
            item.ends += event == "end"
        elif event == "killed":
            deaths[process].append(when)
    acknowledged = [(name, item) for name, item in items.items() if item.acknowledged]
    unfinished = [(name, item) for name, item in acknowledged if not item.ends]
    lost = [item for name, item in unfinished if name not in left]
    return Verdict(
        acknowledged=len(acknowledged),
        unsure=sum(item.tried and not item.acknowledged for item in items.values()),
        lost_never_begun=sum(not item.executions for item in lost),
        lost_begun=sum(bool(item.executions) for item in lost),
        left=len(unfinished) - len(lost),
        twice=sum(item.ends > 1 for item in items.values()),
        at_once=sum(_overlap(_intervals(item, deaths)) for item in items.values()),
        executions=sum(len(item.executions) for item in items.values()),
    )


def _intervals(item: _Item, deaths: dict[str, list[float]]) -> Iterable[tuple[float, float]]:
    """A process number may be given anew, so what counts is the first death after the begin."""
    for (process, _), (begun, ended) in item.executions.items():
        died = min((death for death in deaths[process] if death >= begun), default=FOREVER)
        yield begun, min(ended, died)


def _overlap(intervals: Iterable[tuple[float, float]]) -> bool:
    return any(max(one[0], other[0]) < min(one[1], other[1]) for one, other in combinations(intervals, 2))
