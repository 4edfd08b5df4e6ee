"""What is wrong with a set, and how urgent that is. No I/O."""

from dataclasses import dataclass

from redset.core.overview import Overview
from redset.web.texts import duration, number

__all__ = ("Trouble", "order", "troubles")

#: Seconds without a claim after which due items starve.
STARVING = 120
#: Seconds of lag that are a trouble.
LAGGING = 60


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong with a set."""

    #: Its word: ``starving``, ``failing``, ``expired``, ``lagging``, ``paused``, ``dead``.
    word: str
    #: A sentence for people.
    text: str
    #: 0 is the most urgent.
    rank: int
    #: How bad it is, among those of its rank.
    weight: float


def troubles(one: Overview) -> list[Trouble]:
    """Return what is wrong with a set, the most urgent first."""
    stats = one.stats
    if stats is None:
        return []
    found: list[Trouble] = []
    lag = stats.lag or 0.0
    if stats.paused_until is not None:
        left = duration(stats.paused_until - one.now)
        until = "until it is resumed" if left == "for ever" else f"for {left}"
        waits = f", {number(stats.waiting)} waiting" if stats.waiting else ""
        found.append(Trouble("paused", f"paused {until}{waits}", 4 if stats.waiting else 6, stats.waiting))
    elif stats.due and not stats.leased:
        idle = None if one.last_claim is None else one.now - one.last_claim
        if idle is None and (stats.lag is None or lag > STARVING):
            found.append(Trouble("starving", f"{number(stats.due)} due, no claim yet", 0, max(lag, 1)))
        elif idle is not None and idle > STARVING:
            found.append(Trouble("starving", f"{number(stats.due)} due, no claim for {duration(idle)}", 0, idle))
    if one.recent_deaths:
        found.append(Trouble("failing", f"{number(one.recent_deaths)} died in 15 min", 1, one.recent_deaths))
    if stats.expired:
        found.append(Trouble("expired", f"{number(stats.expired)} expired leases", 2, stats.expired))
    if lag > LAGGING and stats.paused_until is None:
        found.append(Trouble("lagging", f"{duration(lag)} behind", 3, lag))
    if stats.dead and not one.recent_deaths:
        found.append(Trouble("dead", f"{number(stats.dead)} dead letters", 5, stats.dead))
    return sorted(found, key=lambda trouble: (trouble.rank, -trouble.weight))


def order(one: Overview) -> tuple[int, float, str]:
    """Return the key by which sets are sorted: the most urgent first, then by name."""
    worst = next(iter(troubles(one)), None)
    return (9, 0.0, one.info.name) if worst is None else (worst.rank, -worst.weight, one.info.name)
