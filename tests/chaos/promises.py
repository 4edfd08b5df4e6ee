"""What is promised of one set of a run: workloads are made so, and checkers hold them to it."""

import zlib
from dataclasses import dataclass

__all__ = ("NUMBERS", "Promises")

#: The numbers of shards that sets are moved to, if they are; None: to none.
NUMBERS = (None, 3, 6, 9)


@dataclass(frozen=True)
class Promises:
    """Of one set, by how it was made and how it is used."""

    #: Scores are times before which nothing is handed out, by the server's clock.
    scheduled: bool = False
    #: Finished work is left out for good: its memory outlasts the run.
    remembers: bool = False
    #: A claim that meets the addition of a leased item drops it.
    drops: bool = False
    #: Items carry values, which one producer for each identity counts up.
    keyed: bool = False
    #: Items come back: each tick, this many seconds apart, is handed out once. Never finished.
    interval: float | None = None
    #: A set of what was seen: each item is new to one of those who add it, once in so many seconds.
    ttl: float | None = None
    #: After so many attempts an item is dead.
    max_attempts: int | None = None
    #: Whether anybody takes for good (pop, take); where nobody does, nothing may be lost to a crash either.
    taken_for_good: bool = False
    #: The number of shards, among which items are divided by the CRC-32 of their identity, or that of their group;
    #: None: it has none.
    shards: int | None = None
    #: Whether it is moved to other numbers of shards, of which ``shards`` is the highest.
    is_resharded: bool = False

    #: The number of groups, by the last digit of an item; of each group at most so many leases, and at least so many
    #: seconds between two claims, unless it is given limits of its own.
    groups: int | None = None
    leases_of_group: int = 0
    pause_of_group: float = 0.0
    #: Groups take turns, whatever the scores of their items.
    takes_turns: bool = False

    def group_of(self, item: str) -> str:
        return str(int(item[-1]) % (self.groups or 1))

    def shard_of(self, item: str) -> int | None:
        """The number of the shard of an item. The name of a group is in the shard of its items."""
        if self.shards is None:
            return None
        return zlib.crc32((item if self.groups is None else self.group_of(item)).encode()) % self.shards

    def rivals_of(self, item: str) -> int:
        """The number of other groups in the shard of an item, with which its group takes turns."""
        shard = self.shard_of(item)
        return sum(self.shard_of(str(group)) == shard for group in range(self.groups or 1)) - 1

    @property
    def ends(self) -> bool:
        """Whether nothing is there any more, but what is dead, once all is done."""
        return self.interval is None and self.ttl is None
