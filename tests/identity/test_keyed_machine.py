"""Keyed sets, sets that remember, and sets that do both, at random: the machine of lease_machine.py for them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

import redset
from faces import Face
from invariants import KeyedRawSet
from lease_machine import AGE, MAX_ATTEMPTS, LeaseMachine, Model, items, numbers, places, spans
from machines import Ageing, MovedClock, run_machine, seconds_for, thoroughly
from proxy import Proxy
from redset.core.keys import Keys
from redset.exceptions import Full
from servers import FakeClock

HOW = thoroughly(examples=4)

pytestmark = [pytest.mark.no_cover, pytest.mark.timeout(seconds_for(HOW))]

#: Seconds that finished items are remembered: it is over half way between two moments of the machine.
REMEMBER = AGE * 5 / 2


class Valued(str):
    """An item that is told from others by its text alone, and has a value beside: which version of it this is."""

    __slots__ = ("version",)
    version: int


class Versions:
    """A serializer that makes a new version of each item it stores, unless it is that of a receipt."""

    def __init__(self) -> None:
        self.newest = 0
        #: Whatever was loaded, whoever asked for it, since it was looked at last.
        self.loaded: list[tuple[str, int]] = []

    def dumps(self, item: str) -> str:
        if isinstance(item, Valued):
            return f"{item} {item.version}"
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
    drops: bool = False
    model: KeyedModel
    stored: KeyedRawSet
    raw_set = KeyedRawSet

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions()
        made_by = getattr(self.face, self.kind)
        self.consumers = [made_by("jobs", **self.options()) for _ in range(3)]
        self.forgetful = getattr(redset, self.kind)(self.interrupted, "jobs", **self.options())
        self.model = KeyedModel(remembers=self.remembers, drops=self.drops)
        #: The last value that was given for each item.
        self.newest: dict[str, int] = {}

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"max_attempts": MAX_ATTEMPTS, "backoff": lambda attempt: AGE / 2}
        if self.drops:
            options["while_leased"] = "drop"
        if self.keyed:
            options |= {"key": str, "serializer": self.versions}
        if self.remembers:
            options |= {"remember": REMEMBER, "digest": self.digest}
        return options

    # Adding

    def is_full_for(self, item: str) -> bool:
        return super().is_full_for(item) and not self.model.leaves_out(item)

    @rule(item=items, place=places, who=numbers)
    def add(self, item: str, place: float, who: int) -> None:
        score = self.moment(place)
        if self.is_full_for(item):
            with pytest.raises(Full):
                self.one_of(self.consumers, who).add(item, score=score)
            return
        left_out = self.model.leaves_out(item)
        assert self.one_of(self.consumers, who).add(item, score=score) == (None if left_out else score)
        if not left_out:
            self.model.waiting[item] = score
            self.note_value(item, self.versions.newest)

    @precondition(lambda self: self.has_pipelines)
    @rule(item=items, place=places, who=numbers)
    def add_to(self, item: str, place: float, who: int) -> None:
        score = self.moment(place)
        self.add_in_a_pipeline(self.one_of(self.consumers, who), item, score=score)
        if not (self.is_full_for(item) or self.model.leaves_out(item)):
            self.model.waiting[item] = score
            self.note_value(item, self.versions.newest)

    @rule(item=items, place=places, who=numbers)
    def add_by_force(self, item: str, place: float, who: int) -> None:
        score = self.moment(place)
        if super().is_full_for(item):
            with pytest.raises(Full):
                self.one_of(self.consumers, who).add(item, score=score, force=True)
            return
        assert self.one_of(self.consumers, who).add(item, score=score, force=True) == score
        if self.remembers:
            self.model.forget(item)
        self.model.waiting[item] = score
        self.note_value(item, self.versions.newest)

    @rule(item=items, place=places, flag=st.sampled_from(["nx", "xx", "gt", "lt"]), who=numbers)
    def add_by_flag(self, item: str, place: float, flag: str, who: int) -> None:
        score, old = self.moment(place), self.model.waiting.get(item)
        if flag != "xx" and self.is_full_for(item):
            with pytest.raises(Full):
                self.one_of(self.consumers, who).add(item, score=score, **{flag: True})
            return
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
        before, new, full_at = self.versions.newest, 0, None
        scores = [self.moment(place) for _, place in additions]
        following = iter(scores)
        try:
            added = self.one_of(self.consumers, who).update(
                [item for item, _ in additions], score=lambda item: next(following)
            )
        except Full as full:
            full_at = full.added
        for position, ((item, _), score) in enumerate(zip(additions, scores, strict=True)):
            if self.is_full_for(item):
                assert full_at == position
                return
            if not self.model.leaves_out(item):
                new += item not in self.model.waiting
                self.model.waiting[item] = score
                self.note_value(item, before + 1 + position)
        assert full_at is None
        assert added == new

    @rule(item=items, by=st.sampled_from([-1.5, 2.0]), who=numbers)
    def increment(self, item: str, by: float, who: int) -> None:
        if self.is_full_for(item):
            with pytest.raises(Full):
                self.one_of(self.consumers, who).increment(item, by)
            return
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
        self.add_without_redset(item, self.moment(place))
        self.model.waiting[item] = self.moment(place)
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
        for item, score, _ in self.claimed(num):
            self.model.waiting[item] = score
        self.interrupted.plan = ["after"]
        with suppress(KeyboardInterrupt):
            self.forgetful.take(num)

    @rule(num=st.integers(1, 6))
    def reserve_is_broken_off(self, num: int) -> None:
        for item, score, attempt in self.claimed(num, lease=True):
            self.model.waiting[item] = score
            if attempt > 1:
                self.model.failed[item] = (attempt - 1, score)
        self.interrupted.plan = ["after"]
        with suppress(KeyboardInterrupt):
            self.forgetful.reserve_many(num)

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, who=numbers)
    def open_a_receipt(self, which: int, who: int) -> None:
        super().open_a_receipt(which, who)
        # The value is that of the claim, which need not be the newest by now.
        self.versions.loaded.clear()

    # Forgetting

    @rule(item=items)
    def forget_what_is_done_or_dead(self, item: str) -> None:
        assert self.consumers[0].forget(redset.Key(item)) is self.model.forget(item)

    @rule()
    def clear(self) -> None:
        was_something = bool(self.consumers[0].clear())
        # A memory that is over may be there, or not.
        assert was_something is not self.model.is_empty() or self.model.done
        self.model = KeyedModel(now=self.model.now, remembers=self.remembers, drops=self.drops)

    # After each step

    def check_keys(self) -> None:
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

    def expected_counts(self) -> dict[str, Any]:
        return super().expected_counts() | {"done": sum(map(self.model.is_done, self.model.done))}


WHICH: dict[str, dict[str, bool]] = {
    "keyed": {"keyed": True, "remembers": False},
    "keyed and dropping": {"keyed": True, "remembers": False, "drops": True},
    "remembering": {"keyed": False, "remembers": True},
    "keyed and remembering": {"keyed": True, "remembers": True},
    "keyed, remembering and dropping": {"keyed": True, "remembers": True, "drops": True},
    "keyed and remembering digests": {"keyed": True, "remembers": True, "digest": True},
}

which = pytest.mark.parametrize("which", WHICH.values(), ids=WHICH.keys())


@pytest.mark.conformance
@which
def test_items_as_in_the_model_as_they_grow_older(face: Face, kind: str, raw: Any, which: dict[str, bool]) -> None:
    keys = Keys("jobs")
    run_machine(KeyedMachine, HOW, face=face, raw=raw, kind=kind, time=Ageing(raw, keys.leased, keys.done), **which)


@which
def test_items_as_in_the_model_as_the_clock_of_the_server_moves_and_calls_are_lost(
    stubborn: Face, stubborn_proxy: Proxy, kind: str, raw: Any, clock: FakeClock, which: dict[str, bool]
) -> None:
    members = {"face": stubborn, "proxy": stubborn_proxy, "raw": raw, "time": MovedClock(clock)}
    run_machine(KeyedMachine, HOW, kind=kind, **members, **which)
