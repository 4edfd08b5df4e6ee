"""What is always true of the raw keys of a set with groups, and of each shard of one."""

import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from invariants import KeyedRawSet
from redset.core.shards import layout as layouts

__all__ = ("SHARDS", "Entry", "GroupedRawSet", "GroupedShards", "score_of")

#: The number of shards: of four groups, two are in one shard, and the others have one each.
SHARDS = 3

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

    #: Returns the group of an item. :meth:`expect` sets it, and what follows.
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

    def expect(
        self, group_of: Callable[[bytes], bytes], *, most: int = 0, fair: bool = False, scheduled: bool = False
    ) -> None:
        """Set what the keys depend on."""
        self.group_of, self.most, self.fair, self.scheduled = group_of, most, fair, scheduled

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


class _Shard(GroupedRawSet):
    """The keys of one shard."""

    def _all_keys(self) -> list[bytes]:
        return [key for key in super()._all_keys() if key == self._keys.waiting or key.startswith(self._prefix)]

    @property
    def _prefix(self) -> bytes:
        return self._keys.prefix.encode()


class GroupedShards(GroupedRawSet):
    """The keys of one set with groups over shards: it has the members and fields of all shards."""

    def __init__(self, raw: Any, name: str) -> None:
        super().__init__(raw, name)
        self.shards = [_Shard(raw, shard) for shard in layouts.first(name, SHARDS, "", digest=False).names]

    def expect(self, group_of: Callable[[bytes], bytes], **what: Any) -> None:
        super().expect(group_of, **what)
        for shard in self.shards:
            shard.expect(group_of, **what)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        with ExitStack() as all_of_them:
            for shard in self.shards:
                all_of_them.enter_context(shard.at_once())
            yield

    def check(self, without_value: frozenset[bytes] | None = None) -> None:
        known = {key for shard in self.shards for key in shard._all_keys()}
        assert known >= {*self._all_keys()} - {self._keys.waiting}, "each key is of a shard, or is the layout record"
        for number, shard in enumerate(self.shards):
            # What has no value is in this shard or in another one.
            shard.check(None if without_value is None else without_value & shard.identities())
            for item in shard.identities():
                assert zlib.crc32(self.group_of(item)) % SHARDS == number, f"{item!r} is in the shard {number}"

    def check_totals(self, foreign: int = 0) -> None:
        assert not foreign, "other programs cannot add to shards"
        for shard in self.shards:
            shard.check_totals()

    def _read(self, key: str) -> Any:
        rows: dict[bytes, Any] = {}
        for shard in self.shards:
            found = dict(shard._read(key))
            assert key == "meta" or not rows.keys() & found.keys(), f"{key} is in two shards"
            rows |= found
        return rows
