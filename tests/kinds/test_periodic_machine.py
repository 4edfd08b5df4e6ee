"""A periodic set, step by step against a model of it in memory, with a look at the raw keys after each step.

Time passes in whole beats, and everything that falls due does so in the middle of one: it never matters how long a step
took.
"""

import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

import redset
from faces import Face
from invariants import PeriodicRawSet
from machines import LimitedMachine, MovedClock, run_machine, seconds_for, thoroughly
from proxy import Proxy
from redset.exceptions import Full, LeaseLost
from servers import FakeClock

HOW = thoroughly(examples=6)

pytestmark = [pytest.mark.no_cover, pytest.mark.timeout(seconds_for(HOW))]

#: Seconds; far longer than an example takes.
BEAT = 1000.0
#: Beats between two ticks of an item that has no interval of its own.
EVERY = 3
MAX_ATTEMPTS = 3
#: Beats: what is triggered or added for now falls due so long before the model's moment, and a little after the last.
JUST_BEFORE = 0.001
A_LITTLE = 1e-6

names = st.sampled_from(["a", "b", "é"])
#: Places in time, in beats from the beginning: with all else in whole beats, nothing falls due when time passes to one.
places = st.sampled_from([-5.5, -2.5, -0.5, 0.5, 2.5])
own_intervals = st.none() | st.sampled_from([1, 2, 5])
spans = st.sampled_from([0.5, 1.5, 4.5])
numbers = st.integers(0, 10**6)


class Valued(str):
    """An item of a keyed set: which version of it this is stands behind its name."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.partition(" ")[0]


@dataclass
class Held:
    """What was handed out and not ended: held under a token, or backing off under none."""

    token: int
    until: float
    attempts: int
    score: float


@dataclass
class Model:
    """What the set should hold; moments and intervals in beats."""

    now: float = 0.0
    waiting: dict[str, float] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    parked: dict[str, float] = field(default_factory=dict)
    #: Attempts of what waits again after it failed.
    attempts: dict[str, int] = field(default_factory=dict)
    #: The items whose last lease expired; only those in ``attempts`` count.
    expired: set[str] = field(default_factory=set)
    #: Attempts and score.
    dead: dict[str, tuple[int, float]] = field(default_factory=dict)
    intervals: dict[str, float] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def is_there(self, name: str) -> bool:
        return name in self.waiting or name in self.held

    def due(self) -> list[str]:
        waiting = sorted((score, name.encode()) for name, score in self.waiting.items() if score <= self.now)
        return [name.decode() for _, name in waiting]

    def bring_back(self) -> None:
        """What every hand-out does first: leases that ran out and backoffs that are over."""
        for name, held in sorted(self.held.items(), key=lambda entry: abs(entry[1].until)):
            if held.until <= self.now:
                self.fail(name, given_up=held.token > 0 and held.attempts >= MAX_ATTEMPTS)
                if held.token:
                    self.expired.add(name)

    def hand_out(self, num: int, *, lease: bool = False, last: bool = False) -> list[tuple[str, float, int]]:
        """What goes out: name, score and number of the attempt. Under a lease a suspect item goes out alone."""
        going: list[tuple[str, float, int]] = []
        for name in reversed(self.due()) if last else self.due():
            if len(going) == num:
                break
            if lease and name in self.attempts and name in self.expired:
                if going:
                    break
                num = 1
            score = self.waiting.pop(name)
            held = self.held.get(name)
            if held and held.token:
                self.parked[name] = score
                continue
            if held:
                self.attempts[name] = self.held.pop(name).attempts
                self.expired.discard(name)
            self.dead.pop(name, None)
            going.append((name, score, self.attempts.pop(name, 0) + 1))
        return going

    def finish(self, name: str, score: float) -> None:
        """It waits for its next tick, unless something else was planned."""
        every = self.intervals.get(name, EVERY)
        tick = score + every * max(1, math.floor((self.now - score) / every) + 1)
        self.waiting.setdefault(name, self.parked.pop(name, tick))

    def fail(self, name: str, delay: float = 0, *, given_up: bool = False) -> None:
        held = self.held.pop(name)
        self.expired.discard(name)
        newer = self.waiting.get(name, self.parked.pop(name, None))
        if given_up:
            if newer is None:
                self.dead[name] = (held.attempts, held.score)
            else:
                self.waiting[name] = newer
        elif newer is not None or delay <= 0:
            self.waiting[name] = held.score if newer is None else newer
            if held.attempts:
                self.attempts[name] = held.attempts
        else:
            self.held[name] = Held(0, self.now + delay, held.attempts, held.score)

    def forget(self, name: str) -> bool:
        """Whether it was there."""
        was_there = self.is_there(name)
        for states in (self.waiting, self.held, self.parked, self.attempts):
            states.pop(name, None)
        return was_there

    def drop_what_is_nowhere(self) -> None:
        there = {*self.waiting, *self.held, *self.parked, *self.dead}
        self.intervals = {name: every for name, every in self.intervals.items() if name in there}
        self.versions = {name: version for name, version in self.versions.items() if name in there}


class PeriodicMachine(LimitedMachine):
    name = "feeds"
    unit = BEAT
    raw_set = PeriodicRawSet
    keyed: bool

    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = {"max_attempts": MAX_ATTEMPTS}
        if self.keyed:
            options["key"] = lambda item: item.partition(" ")[0]
        self.pollers = [self.face.PeriodicSet("feeds", EVERY * BEAT, **options) for _ in range(2)]
        self.forgetful = redset.PeriodicSet(self.interrupted, "feeds", EVERY * BEAT, **options)
        self.model = Model()
        self.version = 0
        self.reservations: list[Any] = []
        self.scored = 0

    def server_now(self) -> float:
        return self.model.now

    def limited(self) -> Any:
        return self.pollers[0]

    def size(self) -> int:
        return len(self.model.waiting) + len(self.model.held)

    def live_leases(self) -> int:
        return sum(held.token > 0 and held.until > self.model.now for held in self.model.held.values())

    def claimed(self, num: int, *, lease: bool = False, last: bool = False) -> list[tuple[str, float, int]]:
        """What a claim of so many gets: name, score and number of the attempt."""
        allowed = self.gate.allowed(self.model.now, num, self.live_leases() if lease else None)
        self.model.bring_back()
        going = self.model.hand_out(allowed, lease=lease, last=last)
        self.gate.note(self.model.now, len(going))
        return going

    def poller(self, who: int) -> Any:
        return self.pollers[who % len(self.pollers)]

    def made(self, name: str) -> str:
        """A new version of an item, where it has a value."""
        self.version += 1
        return f"{name} {self.version}" if self.keyed else name

    def seen(self, name: str) -> str:
        """The item as it is handed out now."""
        return f"{name} {self.model.versions[name]}" if name in self.model.versions else name

    # Adding

    @rule(name=names, place=places, own=own_intervals, who=numbers)
    def add(self, name: str, place: float, own: float | None, who: int) -> None:
        first = self.model.now + place
        is_new = not self.model.is_there(name)
        every = None if own is None else own * BEAT
        item, poller = self.made(name), self.poller(who)
        if is_new and not self.has_room():
            with pytest.raises(Full):
                poller.add(item, every, self.moment(first))
            return
        if is_new:
            assert poller.add(item, every, self.moment(first)) is True
            self.model.waiting[name] = first
        else:
            with pytest.raises(ValueError, match="already"):
                poller.add(f"{name} refused" if self.keyed else name, 12345, self.moment(first))
            assert poller.add(item, every) is False
        self.note(name, own)

    @rule(added=st.lists(names, max_size=4), own=own_intervals, who=numbers)
    def update(self, added: list[str], own: float | None, who: int) -> None:
        first = self.model.now - 0.5
        before, new, full_at = self.version, 0, None
        items = [self.made(name) for name in added]
        every = None if own is None else own * BEAT
        try:
            found = self.poller(who).update(items, interval=every, first=self.moment(first))
        except Full as full:
            full_at = full.added
        for position, name in enumerate(added):
            self.version = before + 1 + position
            if not self.model.is_there(name):
                if not self.has_room():
                    assert full_at == position
                    return
                self.model.waiting[name] = first
                new += 1
            self.note(name, own)
        assert full_at is None
        assert found == new

    @rule(name=names, place=st.none() | places, own=own_intervals, who=numbers)
    def add_to(self, name: str, place: float | None, own: float | None, who: int) -> None:
        """With a first tick, an item that is there is left alone."""
        now = self.model.now
        first = None if place is None else self.moment(now + place)
        every = None if own is None else own * BEAT
        self.add_in_a_pipeline(self.poller(who), self.made(name), interval=every, first=first)
        is_new = not self.model.is_there(name)
        if is_new and not self.has_room():
            return
        if is_new:
            self.model.waiting[name] = self.just_now() if place is None else now + place
        if is_new or place is None:
            self.note(name, own)

    def just_now(self) -> float:
        """The score that the server's clock gives now: before what is planned for now, and after those that it gave."""
        self.scored += 1
        return self.model.now - JUST_BEFORE + self.scored * A_LITTLE

    def note(self, name: str, own: float | None) -> None:
        if own is not None:
            self.model.intervals[name] = own
        if self.keyed:
            self.model.versions[name] = self.version

    @rule(name=names, place=places)
    def another_program_plans(self, name: str, place: float) -> None:
        score = self.model.now + place
        self.add_without_redset(name, self.moment(score))
        self.model.waiting[name] = score

    # Planning

    @rule(name=names, place=places, who=numbers)
    def reschedule(self, name: str, place: float, who: int) -> None:
        when = self.model.now + place
        if not self.model.is_there(name):
            with pytest.raises(KeyError):
                self.poller(who).reschedule(redset.Key(name), self.moment(when))
            return
        self.poller(who).reschedule(redset.Key(name), self.moment(when))
        self.model.waiting[name] = when

    @rule(name=names, who=numbers)
    def trigger(self, name: str, who: int) -> None:
        if not self.model.is_there(name):
            with pytest.raises(KeyError):
                self.poller(who).trigger(redset.Key(name))
            return
        self.poller(who).trigger(redset.Key(name))
        now = self.just_now()
        self.model.waiting[name] = min(now, self.model.waiting.get(name, now))

    # Taking

    @rule(num=st.integers(1, 4), who=numbers, last=st.booleans())
    def take(self, num: int, who: int, last: bool) -> None:
        going = self.claimed(num, last=last)
        taken = (self.poller(who).take_max if last else self.poller(who).take)(num)
        assert taken == [self.seen(name) for name, _, _ in going]
        for name, score, _ in going:
            self.model.finish(name, score)

    def put_back(self, rows: list[tuple[str, float, int]]) -> None:
        for name, score, attempt in rows:
            self.model.waiting[name] = score
            if attempt > 1:
                self.model.attempts[name] = attempt - 1

    @rule(num=st.integers(1, 4))
    def take_is_broken_off(self, num: int) -> None:
        """Nobody saw what was taken: it is due as it was, though its attempts are forgotten."""
        for name, score, _ in self.claimed(num):
            self.model.waiting[name] = score
        self.interrupted.plan = ["after"]
        with suppress(KeyboardInterrupt):
            self.forgetful.take(num)

    @rule(num=st.integers(1, 4))
    def reserve_is_broken_off(self, num: int) -> None:
        self.put_back(self.claimed(num, lease=True))
        self.interrupted.plan = ["after"]
        with suppress(KeyboardInterrupt):
            self.forgetful.reserve_many(num)

    @rule(num=st.integers(1, 4), lease=spans, who=numbers)
    def reserve(self, num: int, lease: float, who: int) -> None:
        going = self.claimed(num, lease=True)
        reservations = self.poller(who).reserve_many(num, lease * BEAT)
        assert [(one.item, one.score, one.attempt) for one in reservations] == [
            (self.seen(name), self.about(score), attempt) for name, score, attempt in going
        ]
        for (name, score, attempt), one in zip(going, reservations, strict=True):
            self.model.held[name] = Held(one.token, self.model.now + lease, attempt, score)
        self.reservations += reservations

    @rule(who=numbers)
    def consume_all(self, who: int) -> None:
        for reservation in self.poller(who).consume(wait=0, lease=BEAT):
            (row,) = self.claimed(1, lease=True)
            assert (reservation.item, reservation.attempt) == (self.seen(row[0]), row[2])
            self.model.finish(*row[:2])
        assert self.claimed(1, lease=True) == []

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, who=numbers)
    def open_a_receipt(self, which: int, who: int) -> None:
        reservation = self.reservations[which % len(self.reservations)]
        self.reservations.append(self.from_receipt(self.poller(who), reservation))

    # Ending leases

    @rule(which=numbers, how=st.sampled_from(["ack", "nack", "again", "bury", "extend"]), delay=st.just(0.0) | spans)
    def end(self, which: int, how: str, delay: float) -> None:
        if not self.reservations:
            return
        reservation = self.reservations[which % len(self.reservations)]
        name = Valued(reservation.item).name
        held = self.model.held.get(name)
        ends: dict[str, Any] = {
            "ack": reservation.ack,
            "nack": lambda: reservation.nack(delay * BEAT),
            "again": lambda: reservation.again(delay * BEAT),
            "bury": reservation.bury,
            "extend": lambda: reservation.extend((delay or 0.5) * BEAT),
        }
        if how != "extend":
            self.reservations.remove(reservation)
        if held is None or held.token != reservation.token or held.until <= self.model.now:
            with pytest.raises(LeaseLost):
                ends[how]()
            return
        ends[how]()
        if how == "extend":
            held.until = self.model.now + (delay or 0.5)
        elif how == "ack":
            del self.model.held[name]
            self.model.finish(name, held.score)
        else:
            held.attempts -= how == "again"
            given_up = how == "bury" or (how == "nack" and held.attempts >= MAX_ATTEMPTS)
            self.model.fail(name, delay, given_up=given_up)

    # Removing and bringing back

    @rule(name=names, who=numbers)
    def discard(self, name: str, who: int) -> None:
        assert self.poller(who).discard(redset.Key(name)) is self.model.forget(name)

    @rule(name=names)
    def retry(self, name: str) -> None:
        dead = self.model.dead.pop(name, None)
        assert self.pollers[0].dead_letters.retry(redset.Key(name)) is (dead is not None)
        if dead:
            self.model.waiting.setdefault(name, dead[1])

    @rule(name=names)
    def forget_a_dead_letter(self, name: str) -> None:
        was_dead = self.model.dead.pop(name, None) is not None
        assert self.pollers[0].dead_letters.discard(redset.Key(name)) is was_dead

    @rule(happens=st.integers(0, 9))
    def clear(self, happens: int) -> None:
        if happens == 0:
            self.pollers[0].clear()
            self.model = Model(now=self.model.now)

    # Time

    @rule(beats=st.integers(1, 8))
    def time_passes(self, beats: int) -> None:
        self.pass_by(beats)

    @rule(beats=st.integers(1, 4))
    def the_clock_is_set_back(self, beats: int) -> None:
        self.pass_by(-beats)

    def pass_by(self, beats: int) -> None:
        self.time.pass_by(beats * BEAT)
        self.model.now += beats

    # After each step

    @invariant()
    def everything_waits_for_when_it_should(self) -> None:
        stored = {item.decode(): score for item, score in self.stored.scores("waiting").items()}
        assert stored == {name: self.about(score) for name, score in self.model.waiting.items()}

    @invariant()
    def intervals_and_values_live_as_long_as_their_items(self) -> None:
        self.model.drop_what_is_nowhere()
        expected = {}
        for name in self.model.intervals.keys() | self.model.versions.keys():
            every = self.model.intervals.get(name)
            interval = "" if every is None else repr(every * BEAT)
            expected[name] = f"{interval}\n{self.seen(name) if self.keyed else ''}"
        assert {item.decode(): value.decode() for item, value in self.stored.fields("values").items()} == expected

    @invariant()
    def each_item_says_its_plan(self) -> None:
        for name in "a", "é":
            held = self.model.held.get(name)
            backing_off = held.until if held and not held.token else None
            due = self.model.waiting.get(name, backing_off)
            every = self.model.intervals.get(name, EVERY) * BEAT if self.model.is_there(name) else None
            assert self.pollers[0].interval(redset.Key(name)) == every
            found = self.pollers[0].next_due(redset.Key(name))
            assert found == (None if due is None else self.about(due))

    def about(self, place: float) -> Any:
        return pytest.approx(self.moment(place), rel=0, abs=BEAT / 10)

    def counted(self) -> Any:
        return self.pollers[0].stats()

    def expected_counts(self) -> dict[str, Any]:
        held = [one.until > self.model.now for one in self.model.held.values() if one.token]
        return super().expected_counts() | {
            "waiting": len(self.model.waiting),
            "due": len(self.model.due()),
            "leased": held.count(True),
            "expired": held.count(False),
            "parked": len(self.model.parked),
            "dead": len(self.model.dead),
        }


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_ticks_as_in_the_model_as_the_clock_of_the_server_moves_and_calls_are_lost(
    stubborn: Face, stubborn_proxy: Proxy, raw: Any, clock: FakeClock, keyed: bool
) -> None:
    members = {"face": stubborn, "proxy": stubborn_proxy, "raw": raw, "time": MovedClock(clock)}
    run_machine(PeriodicMachine, HOW, keyed=keyed, **members)
