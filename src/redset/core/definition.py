"""The definition of a set, as its operations need it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from redset.core.forms import layout_of
from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.scripts import Script, options_of, prepared
from redset.core.times import Duration, Moment

__all__ = (
    "LONGEST_POLL",
    "PLAIN",
    "POLL",
    "SCHEDULED",
    "TIMED",
    "Definition",
    "Duplicates",
    "Kind",
    "Turns",
    "WhileLeased",
)

T = TypeVar("T")

#: Seconds between two looks of a waiting consumer by default, and at most.
POLL = 0.2
LONGEST_POLL = 3600.0

#: The score that stands when a waiting item is added again: the newest, the first, the lowest or the highest.
Duplicates: TypeAlias = Literal["update", "keep", "earliest", "latest"]
#: The order in which groups are claimed from: by the score of their first items, or in turn.
Turns: TypeAlias = Literal["score", "fair"]
#: The effect of an addition of a leased item: the claim that meets it parks it until the lease ends, or drops it.
WhileLeased: TypeAlias = Literal["park", "drop"]


class Groupings(Protocol):
    """Tells the groups of items; see :mod:`redset.core.grouping`."""

    def of(self, item: Any, identity: Any) -> bytes: ...

    def of_each(self, items: Sequence[Any], identities: Sequence[bytes]) -> list[bytes]: ...

    def of_stored(self, identity: bytes) -> bytes: ...


@dataclass(frozen=True)
class Kind:
    """The difference between one kind of set and another."""

    #: The score of an item added without one to a set without a scorer.
    scorer: Callable[[Any], Moment]
    #: The items that can be claimed: ``"any"``, or only ``"due"`` ones.
    which: str
    #: Whether its own scorer returns times, in seconds since the epoch.
    timed: bool


PLAIN = Kind(scorer=lambda item: 0, which="any", timed=False)
TIMED = Kind(scorer=lambda item: time.time(), which="any", timed=True)
SCHEDULED = Kind(scorer=lambda item: time.time(), which="due", timed=True)


@dataclass(frozen=True)
class Definition(Generic[T]):
    """One set: its name, its keys, its items, and its options."""

    name: str
    keys: Keys
    items: Items[T]
    scorer: Callable[[T], Moment]
    kind: Kind
    #: Whether scores are known to be times: a scorer of the user's may return anything.
    timed: bool
    #: The number of attempts after which a failing item is dead; 0: never.
    max_attempts: int
    #: The number of dead letters to keep; 0: all.
    max_dead: int
    #: Seconds that done items are remembered, 0: not at all; and whether by a hash.
    remember: float
    digest: bool
    duplicates: Duplicates
    while_leased: WhileLeased
    #: Seconds between two ticks of an item without an interval of its own; 0: the set is not periodic.
    interval: float
    #: Seconds until the next attempt, by the number of the one that failed.
    backoff: Callable[[int], Duration]
    #: The longest time in seconds for which the client lets a command block.
    longest_block: float
    #: Seconds between two looks of a waiting consumer.
    poll: float = POLL
    #: Whether it is a shard of a set.
    sharded: bool = False
    #: Tells the groups of items, None without groups; and how their turns are: by ``"score"`` or ``"fair"``.
    grouping: Groupings | None = None
    turns: Turns = "score"
    #: The number of leases that each group may have, and the seconds between two claims of it; 0: no limit.
    group_leases: int = 0
    group_pause: float = 0.0
    #: Whether this process can tell the group of an item that another program has added.
    sorts: int = 1

    @cached_property
    def features(self) -> frozenset[str]:
        """The features of the set; see :data:`redset.core.scripts.FEATURES`."""
        has = {
            "values": self.items.keyed or self.interval > 0,
            "keyed": self.items.keyed,
            "periodic": self.interval > 0,
            "done": self.remember > 0,
            "digest": self.digest,
            "drops": self.while_leased == "drop",
            "shards": self.sharded,
            "grouped": self.grouping is not None,
            "fair": self.grouping is not None and self.turns == "fair",
            "scheduled": self.grouping is not None and self.kind.which == "due",
        }
        return frozenset(feature for feature, there in has.items() if there)

    @cached_property
    def layout(self) -> str:
        """The form in which the set stores its items."""
        return layout_of(self.features)

    def script(self, name: str, *features: str) -> tuple[Script, tuple[bytes, ...]]:
        """Return the script of that name for this set, and its keys.

        :param features: those of the call, in addition to those of the set.
        """
        return prepared(name, self.keys, self.features.union(features) if features else self.features)

    @cached_property
    def options(self) -> str:
        """The options of the set as scripts take them."""
        return options_of(self)
