"""What is always true of the raw keys of a set with groups."""

import struct
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from invariants import KeyedRawSet

__all__ = ("Entry", "GroupedRawSet", "score_of")

#: The keys of groups, and their types.
TYPES = {
    "group": b"hash",
    "groups": b"zset",
    "ready": b"zset",
    "resting": b"zset",
    "upcoming": b"zset",
    "busy": b"hash",
    "limits": b"hash",
}

#: Group, score and item.
Entry = tuple[bytes, float, bytes]


def score_of(packed: bytes) -> float:
    """Return the score whose order-preserving form these eight bytes are."""
    plain = bytes([packed[0] - 128]) + packed[1:] if packed[0] >= 128 else bytes(255 - byte for byte in packed)
    (score,) = struct.unpack(">d", plain)
    return float(score)


class GroupedRawSet(KeyedRawSet):
    """The keys of one set with groups as they are on the server."""

    TYPES = KeyedRawSet.TYPES | TYPES

    #: Returns the group of an item. A test sets it, and what follows.
    group_of: Callable[[bytes], bytes]
    #: The leases that each group may have; 0 for no limit.
    most: int = 0
    fair = False
    scheduled = False
    #: Items that another program has added, changed or removed, and that no claim has sorted yet.
    foreign: set[bytes]

    def __init__(self, raw: Any, name: str) -> None:
        super().__init__(raw, name)
        self.foreign = set()

    def index(self) -> set[Entry]:
        """Return the entries of ``groups``."""
        found = set()
        for entry, score in self.scores("groups").items():
            assert score == 0, "the entries are sorted by their bytes alone"
            start = 4 + int(entry[:4], 16)
            found.add((entry[4:start], score_of(entry[start : start + 8]), entry[start + 8 :]))
        return found

    def names(self) -> set[bytes]:
        """Return the groups that items wait in, as far as the index says."""
        return {name for name, _, _ in self.index()}

    def limit_of(self, name: bytes) -> int:
        """Return the number of leases that a group may have; 0 for no limit."""
        own = self.fields("limits").get(name, b"- - 0 0").split()[0]
        return self.most if own == b"-" else int(own)

    def is_blocked(self, name: bytes) -> bool:
        return 0 < self.limit_of(name) <= int(self.fields("busy").get(name, 0))

    def is_resting(self, name: bytes) -> bool:
        return self.scores("resting").get(name, 0.0) > self._now()

    def check(self, without_value: frozenset[bytes] | None = None) -> None:
        with self.at_once():
            super().check(without_value)
            self._check_index()
            self._check_group_of_each_item()
            self._check_busy()
            self._check_places()

    def _check_index(self) -> None:
        index, waiting = self.index(), self.scores("waiting")
        right = {(self.group_of(item), score, item) for item, score in waiting.items()}
        wrong = {item for _, _, item in index ^ right}
        # The index may have an old entry where another program adds the item.
        self.foreign &= wrong | (self.identities() - self.fields("group").keys())
        assert wrong <= self.foreign, f"the index has {index - right} for {right - index}"

    def _check_group_of_each_item(self) -> None:
        group, there = self.fields("group"), self.identities()
        without = self.foreign | self.scores("dead").keys()
        assert group.keys() - self.foreign <= there, "no group outlives its item"
        assert there - without <= group.keys(), "each item has a group"
        for item, name in group.items():
            assert name == self.group_of(item)

    def _check_busy(self) -> None:
        held = Counter(self.group_of(item) for item, until in self.scores("leased").items() if until > 0)
        assert {name: int(count) for name, count in self.fields("busy").items()} == dict(held)

    def _check_places(self) -> None:
        """Check that each group with items is ready, upcoming, at rest or blocked, and in one place alone."""
        ready, upcoming, resting = self.scores("ready"), self.scores("upcoming"), self.scores("resting")
        heads: defaultdict[bytes, float] = defaultdict(lambda: float("inf"))
        uncertain = {self.group_of(item) for item in self.foreign}
        for name, score, _ in self.index():
            heads[name] = min(heads[name], score)
        assert not ready.keys() & upcoming.keys()
        assert not resting.keys() & (ready.keys() | upcoming.keys()), "what rests is not ready"
        assert not upcoming or (self.fair and self.scheduled)
        for name in ready.keys() | upcoming.keys() | heads.keys():
            place = {"ready": name in ready, "upcoming": name in upcoming, "resting": name in resting}
            if name in uncertain:
                continue
            assert name not in ready.keys() | upcoming.keys() or name in heads, f"{name!r} has nothing"
            if self.is_blocked(name):
                assert name not in ready.keys() | upcoming.keys(), f"{name!r} is blocked, and in {place}"
            else:
                assert sum(place.values()) == 1, f"{name!r} is in {place}"
            if name in ready and not self.fair:
                assert ready[name] == heads[name], f"the first item of {name!r}"
            if name in upcoming:
                assert upcoming[name] == heads[name], f"the first item of {name!r}"
        if self.fair:
            assert len(set(ready.values())) == len(ready), "each turn is one group's"
