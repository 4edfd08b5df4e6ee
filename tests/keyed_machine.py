"""Keyed sets, sets that remember, and both at once: their raw keys, and the machine of lease_machine.py for them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

import redset
from invariants import BOOKKEEPING, TYPES, RawSet
from lease_machine import AGE, MAX_ATTEMPTS, Ageing, LeaseMachine, Model, items, numbers, places, spans
from redset.core.keys import Keys

__all__ = ("AgeingMemory", "BrokenOff", "KeyedMachine", "KeyedRawSet")

#: Seconds that finished items are remembered: it is over half way between two moments of the machine.
REMEMBER = AGE * 5 / 2


class KeyedRawSet(RawSet):
    """The keys of a set that is keyed, or remembers, or both, as they are on the server."""

    TYPES = TYPES | {"values": b"hash", "done": b"zset"}
    #: Seconds that the record of a call lives.
    RECORD_LIFE = 600

    def __init__(self, raw: Any, name: str) -> None:
        super().__init__(raw, name)
        self._named = {getattr(self._keys, key): key for key in self.TYPES}

    def check(self, without_value: frozenset[bytes] | None = None) -> None:
        """:param without_value: the identities whose value nobody ever gave; None when the set is not keyed."""
        super().check()
        self._check_values(without_value)
        self._check_memory()

    def identities(self) -> set[bytes]:
        """Whatever is in any state but done."""
        return {item for key in ("waiting", "leased", "parked", "dead") for item in self.scores(key)}

    def memory(self) -> int:
        """The bytes of all keys, the records of calls too."""
        return sum(self._raw.memory_usage(key, samples=0) for key in self._all_keys())

    def _check_keys(self) -> None:
        for key in self._all_keys():
            name = self._named.get(key)
            if name is None:
                assert key.startswith(self._keys.call_prefix), f"nobody knows the key {key!r}"
                assert 0 < self._raw.ttl(key) <= self.RECORD_LIFE, f"the record {key!r} does not end by itself"
            else:
                assert self._raw.type(key) == self.TYPES[name], f"{name} is a {self._raw.type(key)!r}"
                if name == "done":
                    assert self._raw.pttl(key) > 0, "what is remembered does not end by itself"
                elif name not in BOOKKEEPING:
                    assert self._raw.ttl(key) == -1, f"{name} would expire"

    def _check_values(self, without_value: frozenset[bytes] | None) -> None:
        valued = self.fields("values").keys()
        if without_value is None:
            assert not valued, "only keyed sets have values"
            return
        assert not valued - self.identities(), "no value outlives its identity"
        assert not self.identities() - valued - without_value, "no value is missing"

    def _check_memory(self) -> None:
        now = self._now()
        remembered = {item for item, until in self.scores("done").items() if until > now}
        for state in "leased", "parked", "dead":
            assert not remembered & self.scores(state).keys(), f"what is done is not {state}"


class BrokenOff:
    """A synchronous client on which Ctrl-C comes when the server has executed a call and nobody has read the reply."""

    def __init__(self, client: Any) -> None:
        self.client = client
        #: After how many more calls.
        self.after: int | None = None

    def execute_command(self, *words: Any, **options: Any) -> Any:
        reply = self.client.execute_command(*words, **options)
        if self.after is not None:
            self.after -= 1
            if self.after == 0:
                self.after = None
                raise KeyboardInterrupt
        return reply


class AgeingMemory(Ageing):
    """What is remembered grows older too."""

    def __init__(self, raw: Any, name: str) -> None:
        super().__init__(raw, name)
        self._done = Keys(name).done

    def pass_by(self, seconds: float) -> None:
        super().pass_by(seconds)
        for item in self._raw.zrange(self._done, 0, -1):
            self._raw.zincrby(self._done, -seconds, item)


class Valued(str):
    """An item that is told from others by its text alone, and has a value beside: which version of it this is."""

    __slots__ = ("version",)
    version: int


class Versions:
    """A serializer that makes a new version of each item it stores."""

    def __init__(self) -> None:
        self.newest = 0
        #: Whatever was loaded, whoever asked for it, since it was looked at last.
        self.loaded: list[tuple[str, int]] = []

    def dumps(self, item: str) -> str:
        self.newest += 1
        return f"{item} {self.newest}"

    def loads(self, stored: str) -> Valued:
        text, version = stored.split()
        self.loaded.append((text, int(version)))
        made = Valued(text)
        made.version = int(version)
        return made


@dataclass
class KeyedModel(Model):
    """What the set should hold; the values of what is not there any more are dropped after each step."""

    remembers: bool = False
    #: Until when each finished item is remembered, or was.
    done: dict[str, float] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    #: Whether what is handed out is done with.
    for_good: bool = False

    def is_empty(self) -> bool:
        return super().is_empty() and not any(map(self.is_done, self.done))

    def is_done(self, item: str) -> bool:
        return self.done.get(item, self.now) > self.now

    def leaves_out(self, item: str) -> bool:
        return self.is_done(item) or (self.remembers and item in self.dead)

    @contextmanager
    def taking_for_good(self) -> Iterator[None]:
        self.for_good = True
        yield
        self.for_good = False

    def hand_out(self, available: list[str], num: int, *, lease: bool = False) -> Iterator[tuple[str, float, int]]:
        wanted: list[tuple[str, float, int]] = []
        for item in available:
            if len(wanted) == num:
                break
            if self.leaves_out(item):
                del self.waiting[item]
                continue
            suspect = lease and self.is_suspect(item)
            if not (suspect and wanted):
                wanted += super().hand_out([item], 1)
            if suspect and wanted:
                break
        if self.for_good:
            self.remember(*(item for item, _, _ in wanted))
        yield from wanted

    def remember(self, *finished: str) -> None:
        if self.remembers:
            self.done |= dict.fromkeys(finished, self.now + REMEMBER)

    def ack(self, item: str) -> None:
        super().ack(item)
        self.remember(item)

    def bury(self, item: str, reason: str) -> None:
        if self.remembers:
            self.waiting.pop(item, None)
        super().bury(item, reason)

    def start_afresh(self, item: str) -> bool:
        if self.remembers:
            self.parked.pop(item, None)
            return False
        return super().start_afresh(item)

    def forget(self, item: str) -> bool:
        was_done, was_dead = self.is_done(item), item in self.dead
        self.done.pop(item, None)
        self.dead.pop(item, None)
        return was_done or was_dead

    def drop_values(self) -> None:
        there = [*self.waiting, *self.leased, *self.parked, *self.dead]
        self.values = {item: value for item, value in self.values.items() if item in there}


class KeyedMachine(LeaseMachine):
    """Items are their own keys, so that all the rules about leases hold as they are; their values are versions."""

    keyed: bool
    remembers: bool
    digest: bool = False
    model: KeyedModel

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions()
        made_by = getattr(self.face, self.kind)
        self.consumers = [made_by("jobs", **self.options()) for _ in range(3)]
        self.broken_off = BrokenOff(self.raw)
        self.forgetful = getattr(redset, self.kind)(self.broken_off, "jobs", **self.options())
        self.stored: KeyedRawSet = KeyedRawSet(self.raw, "jobs")
        self.model = KeyedModel(remembers=self.remembers)
        #: The last value that was given for each item.
        self.newest: dict[str, int] = {}

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"max_attempts": MAX_ATTEMPTS, "backoff": lambda attempt: AGE / 2}
        if self.keyed:
            options |= {"key": str, "serializer": self.versions}
        if self.remembers:
            options |= {"remember": REMEMBER, "digest": self.digest}
        return options

    # Adding

    @rule(item=items, place=places, who=numbers)
    def add(self, item: str, place: float, who: int) -> None:
        score = self.score(place)
        left_out = self.model.leaves_out(item)
        assert self.one_of(self.consumers, who).add(item, score=score) == (None if left_out else score)
        if not left_out:
            self.model.waiting[item] = score
            self.note_value(item, self.versions.newest)

    @rule(item=items, place=places, flag=st.sampled_from(["nx", "xx", "gt", "lt"]), who=numbers)
    def add_by_flag(self, item: str, place: float, flag: str, who: int) -> None:
        score, old = self.score(place), self.model.waiting.get(item)
        added = self.one_of(self.consumers, who).add(item, score=score, **{flag: True})
        if self.model.leaves_out(item):
            assert added is None
            return
        if old is None:
            expected = None if flag == "xx" else score
        else:
            expected = {"nx": old, "xx": score, "gt": max(old, score), "lt": min(old, score)}[flag]
        assert added == expected
        if expected is not None and not (flag == "nx" and old is not None):
            self.model.waiting[item] = expected
            self.note_value(item, self.versions.newest)

    @rule(additions=st.lists(st.tuples(items, places), max_size=5), who=numbers)
    def update(self, additions: list[tuple[str, float]], who: int) -> None:
        before, new = self.versions.newest, 0
        scores = [self.score(place) for _, place in additions]
        following = iter(scores)
        added = self.one_of(self.consumers, who).update(
            [item for item, _ in additions], score=lambda item: next(following)
        )
        for version, ((item, _), score) in enumerate(zip(additions, scores, strict=True), start=before + 1):
            if not self.model.leaves_out(item):
                new += item not in self.model.waiting
                self.model.waiting[item] = score
                self.note_value(item, version)
        assert added == new

    @rule(item=items, by=st.sampled_from([-1.5, 2.0]), who=numbers)
    def increment(self, item: str, by: float, who: int) -> None:
        added = self.one_of(self.consumers, who).increment(item, by)
        if self.model.leaves_out(item):
            assert added is None
            return
        self.model.waiting[item] = self.model.waiting.get(item, 0.0) + by
        assert added == self.model.waiting[item]
        self.note_value(item, self.versions.newest)

    @precondition(lambda self: self.keyed)
    @rule(item=items, place=places)
    def another_program_adds_a_value(self, item: str, place: float) -> None:
        self.raw.hset(Keys("jobs").values, item, self.versions.dumps(item))
        self.raw.zadd("jobs", {item: self.score(place)})
        self.model.waiting[item] = self.score(place)
        self.note_value(item, self.versions.newest)

    def note_value(self, item: str, version: int) -> None:
        if self.keyed:
            self.model.values[item] = self.newest[item] = version

    # Taking for good, and doing

    @rule(who=numbers)
    def pop(self, who: int) -> None:
        with self.model.taking_for_good():
            super().pop(who)

    @rule(num=st.integers(0, 6), who=numbers)
    def take(self, num: int, who: int) -> None:
        with self.model.taking_for_good():
            super().take(num, who)

    @rule(batch=st.integers(1, 3), lease=spans, who=numbers)
    def consume_all(self, batch: int, lease: float, who: int) -> None:
        with self.model.taking_for_good():
            super().consume_all(batch, lease, who)

    # Taking, and never seeing what

    @rule(num=st.integers(1, 6))
    def take_is_broken_off(self, num: int) -> None:
        self.model.bring_back()
        for item, score, _ in list(self.model.hand_out(self.available(), num)):
            self.model.waiting[item] = score
        self.broken_off.after = 1
        with suppress(KeyboardInterrupt):
            self.forgetful.take(num)

    @rule(num=st.integers(1, 6))
    def reserve_is_broken_off(self, num: int) -> None:
        self.model.bring_back()
        for item, score, attempt in list(self.model.hand_out(self.available(), num, lease=True)):
            self.model.waiting[item] = score
            if attempt > 1:
                self.model.failed[item] = (attempt - 1, score)
        self.broken_off.after = 1
        with suppress(KeyboardInterrupt):
            self.forgetful.reserve_many(num)

    # Forgetting

    @rule(item=items)
    def forget_what_is_done_or_dead(self, item: str) -> None:
        assert self.consumers[0].forget(redset.Key(item)) is self.model.forget(item)

    @rule()
    def clear(self) -> None:
        was_something = bool(self.consumers[0].clear())
        # A memory that is over may be there, or not.
        assert was_something is not self.model.is_empty() or self.model.done
        self.model = KeyedModel(now=self.model.now, remembers=self.remembers)

    # After each step

    @invariant()
    def the_raw_keys_are_as_they_should_be(self) -> None:
        self.model.drop_values()
        there = self.stored.identities()
        nobody_gave = frozenset(there - {item.encode() for item in self.model.values})
        self.stored.check(nobody_gave if self.keyed else None)

    @invariant()
    def each_item_has_its_newest_value(self) -> None:
        self.model.drop_values()
        stored = {item.decode(): int(value.split()[1]) for item, value in self.stored.fields("values").items()}
        assert stored == self.model.values
        for item in ["a", "é"] if self.keyed else []:
            found = self.consumers[0].get(item)
            assert (found and found.version) == self.model.values.get(item)

    @invariant()
    def whatever_was_handed_out_had_its_newest_value(self) -> None:
        for item, version in self.versions.loaded:
            assert version == self.newest[item]
        self.versions.loaded.clear()

    @invariant()
    def what_is_done_is_remembered(self) -> None:
        for item in "a", "b", "é":
            assert self.consumers[0].is_done(item) is self.model.is_done(item)

    @invariant()
    def the_counts_are_right(self) -> None:
        stats = self.consumers[0].stats()
        held = [one.until > self.model.now for one in self.model.leased.values() if one.token]
        assert (stats.waiting, stats.due) == (len(self.model.waiting), len(self.available()))
        assert (stats.leased, stats.expired) == (held.count(True), held.count(False))
        assert stats.delayed == len(self.model.leased) - len(held)
        assert (stats.parked, stats.dead) == (len(self.model.parked), len(self.model.dead))
        assert stats.done == sum(map(self.model.is_done, self.model.done))
