"""A set with groups, step by step: each claim is judged by the raw keys and by when its groups were claimed from.

There is no model of which item is next. A claim that gets fewer items than it wanted must leave none that it could have
had. From time to time all limits are lifted, and all items must come. Time passes in whole ages; leases, delays, pauses
and scores end half way between: it never matters how long a step took.
"""

import math
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

import redset
from group_keys import SHARDS, GroupedRawSet, GroupedShards
from machines import Machine
from redset.exceptions import Full, LeaseLost

__all__ = ("AGE", "GroupMachine", "ShardedGroupMachine", "group_of")

#: Seconds; far longer than an example takes.
AGE = 1000.0
MAX_ATTEMPTS = 2
REMEMBER = AGE * 3 / 2

#: The first letter is the group. One has the length of another one's name, and one has bytes that sort last.
items = st.sampled_from(["a1", "a2", "a3", "b1", "b2", "c1", "c2", "ÿ1"])
names = st.sampled_from(["a", "b", "c", "ÿ"])
spans = st.sampled_from([AGE / 2, AGE * 3 / 2])
delays = st.just(0.0) | spans
#: A place in time, or an order, as good as any: in ages from the beginning.
places = st.sampled_from([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5])
numbers = st.integers(0, 10**6)
counts = st.integers(1, 5)


def group_of(item: Any) -> str:
    """The group of an item."""
    return str(item)[0]


class GroupMachine(Machine):
    kind: str
    turns: str
    #: Leases and pause of each group; of the pause in ages.
    limit: tuple[int | None, float | None]
    options: dict[str, Any]
    #: Whether pauses may end by themselves: not where time is what moments are made older by.
    has_ends: bool = True

    #: The number of shards; None: it has none.
    shards: int | None = None

    stored: GroupedRawSet
    raw_set: type[GroupedRawSet] = GroupedRawSet

    def __init__(self) -> None:
        super().__init__()
        leases, pause = self.limit
        per_group = redset.Limit(leases, pause and pause * AGE) if leases or pause else None
        self.most = leases or 0
        made_with: dict[str, Any] = {
            "group": group_of,
            "per_group": per_group,
            "turns": self.turns,
            "max_attempts": MAX_ATTEMPTS,
        }
        made_with |= {"backoff": lambda attempt: AGE / 2, "max_dead": 2, "shards": self.shards, **self.options}
        self.consumers = [getattr(self.face, self.kind)("jobs", **made_with) for _ in range(2)]
        self.forgetful = getattr(redset, self.kind)(self.interrupted, "jobs", **made_with)
        self.stored.expect(
            lambda item: group_of(item.decode()).encode(),
            most=self.most,
            fair=self.turns == "fair",
            scheduled=self.kind == "ScheduledSet",
        )
        self.began = math.floor(self.server_time())
        #: Seconds since the beginning, and until when each group rests at least.
        self.now = 0.0
        self.rests: dict[str, float] = {}
        #: The pause of each group that has one of its own, in ages; and who is paused.
        self.own: dict[str, tuple[int | None, float | None]] = {}
        self.is_gated = False
        self.reservations: list[Any] = []
        #: For each group that is ready, the groups that were claimed from since it is.
        self.passed: dict[str, set[str]] = {}
        #: The leases of each group after the step before.
        self.had: Counter[str] = Counter()

    def jobs(self, who: int) -> Any:
        return self.consumers[who % len(self.consumers)]

    # Adding

    @initialize(additions=st.lists(st.tuples(items, places), max_size=8))
    def begin(self, additions: list[tuple[str, float]]) -> None:
        for item, place in additions:
            self.consumers[0].add(item, score=self.moment(place))

    @rule(item=items, place=places, flag=st.sampled_from(["", "", "nx", "xx", "gt", "lt"]), who=numbers)
    def add(self, item: str, place: float, flag: str, who: int) -> None:
        with suppress(Full):
            self.jobs(who).add(item, score=self.moment(place), **({flag: True} if flag else {}))

    @rule(item=items, place=places, who=numbers)
    def add_by_force(self, item: str, place: float, who: int) -> None:
        with suppress(Full):
            self.jobs(who).add(item, score=self.moment(place), force=True)

    @precondition(lambda self: self.has_pipelines)
    @rule(item=items, place=places, who=numbers)
    def add_to(self, item: str, place: float, who: int) -> None:
        self.add_in_a_pipeline(self.jobs(who), item, score=self.moment(place))

    @rule(additions=st.lists(st.tuples(items, places), max_size=5), who=numbers)
    def update(self, additions: list[tuple[str, float]], who: int) -> None:
        following = iter([self.moment(place) for _, place in additions])
        with suppress(Full):
            self.jobs(who).update([item for item, _ in additions], score=lambda item: next(following))

    @rule(item=items, by=st.sampled_from([-1.5, 2.0]), who=numbers)
    def increment(self, item: str, by: float, who: int) -> None:
        with suppress(Full):
            self.jobs(who).increment(item, by)

    @precondition(lambda self: self.kind == "ScheduledSet")
    @rule(item=items, delay=delays, who=numbers)
    def add_with_a_delay(self, item: str, delay: float, who: int) -> None:
        with suppress(Full):
            self.jobs(who).add(item, delay=delay)

    # Other programs, which cannot add to a set over shards

    @precondition(lambda self: self.shards is None)
    @rule(item=items, place=places)
    def another_program_adds(self, item: str, place: float) -> None:
        self.add_without_redset(item, self.moment(place))
        self.stored.foreign.add(item.encode())

    # The value of what another program removes would stay.
    @precondition(lambda self: self.shards is None and "key" not in self.options)
    @rule(item=items)
    def another_program_removes(self, item: str) -> None:
        # An attempt that it had would stay.
        if item.encode() not in self.stored.fields("deliveries"):
            self.foreign -= self.raw.zrem("jobs", item)
            self.stored.foreign.add(item.encode())

    # Claims

    @rule(who=numbers)
    def pop(self, who: int) -> None:
        self.judge(1, lambda: self.jobs(who).take(1), lease=False)

    @rule(num=counts, who=numbers)
    def take(self, num: int, who: int) -> None:
        self.judge(num, lambda: self.jobs(who).take(num), lease=False)

    @rule(num=counts, lease=spans, who=numbers)
    def reserve(self, num: int, lease: float, who: int) -> None:
        def reserve() -> list[str]:
            made = self.jobs(who).reserve_many(num, lease=lease)
            self.reservations += made
            return [one.item for one in made]

        self.judge(num, reserve, lease=True)

    @rule(batch=counts, lease=spans, who=numbers, rounds=counts)
    def consume(self, batch: int, lease: float, who: int, rounds: int) -> None:
        """Each claim of the loop acks the items of the one before; a loop that is left early requeues the rest."""
        for reservation in self.jobs(who).consume(lease=lease, batch=batch, wait=0):
            self.note_claims([reservation.item])
            self.passed = {}
            rounds -= 1
            if not rounds:
                break
        self.passed = {}

    @rule(num=counts, lease=spans, is_for_good=st.booleans(), calls=st.integers(0, 2 * SHARDS))
    def a_claim_is_broken_off(self, num: int, lease: float, is_for_good: bool, calls: int) -> None:
        """Over shards, after so many calls; one of a set is a call."""
        before = self.stored.scores("waiting")
        self.interrupted.plan = ["after"] if self.shards is None else [*[None] * calls, "after"]
        with suppress(KeyboardInterrupt):
            if is_for_good:
                self.forgetful.take(num)
            else:
                self.forgetful.reserve_many(num, lease=lease)
        self.interrupted.plan = []
        # The pause of what was claimed goes on; it is not known which items these were, and others may have come back.
        self.passed = {}
        if len(before) == 0:
            return
        for name in {group_of(item.decode()) for item in before}:
            self.rests.pop(name, None)

    def judge(self, num: int, claim: Callable[[], list[str]], *, lease: bool) -> None:
        before, uncertain, unclaimed = self.ready(), self.uncertain(), self.unclaimed()
        is_suspect = lease and self.has_suspects()
        scores = self.scores()
        made = claim()
        self.note_claims(made)
        after, scores_after = self.ready(), self.scores()
        if self.turns == "fair":
            self.judge_turns(made, (before & after) - uncertain - unclaimed)
        left = {
            item: score
            for item, score in scores_after.items()
            if self.may_be_claimed(item, score) and group_of(item) not in uncertain
        }
        if len(made) < num and not self.is_gated and not is_suspect:
            assert not left, f"{made} of {num} were claimed, and {left} are left"
        if self.turns == "score" and self.shards is None and len(made) == num == 1 and made[0] in scores:
            for item, score in left.items():
                assert score >= scores[made[0]], f"{made[0]!r} came before {item!r}"

    def judge_turns(self, made: list[str], ready: set[str]) -> None:
        counts = Counter(map(group_of, made))
        # Over shards the items of one claim come in the order of their scores, not in that of the turns.
        in_order = self.shards is None or len(made) == 1
        for item in made:
            name = group_of(item)
            for other in ready & self.rivals_of(item):
                passed = self.passed.setdefault(other, set())
                comes_twice = name in passed if in_order else counts[name] > counts[other] + 1
                assert not comes_twice, f"{name!r} comes twice while {other!r} is ready"
                passed.add(name)
            self.passed[name] = set()
        if not in_order:
            self.passed = {}

    def note_claims(self, made: list[str]) -> None:
        for item in made:
            name = group_of(item)
            assert self.rests.get(name, -math.inf) < self.now, f"{item!r} comes too early"
            if pause := self.pause_of(name):
                self.rests[name] = self.now + pause * AGE

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, who=numbers)
    def open_a_receipt(self, which: int, who: int) -> None:
        self.reservations.append(self.from_receipt(self.jobs(who), self.one_of(which)))

    # Ending a lease, also one that has ended

    @precondition(lambda self: self.reservations)
    @rule(which=numbers)
    def ack(self, which: int) -> None:
        self.end(which, lambda one: one.ack())

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, delay=delays | st.none())
    def nack(self, which: int, delay: float | None) -> None:
        self.end(which, lambda one: one.nack(delay, "why"))

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, delay=delays, place=places | st.none())
    def again(self, which: int, delay: float, place: float | None) -> None:
        self.end(which, lambda one: one.again(delay, None if place is None else self.moment(place)))

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, delay=spans)
    def the_whole_group_rests(self, which: int, delay: float) -> None:
        if self.end(which, lambda one: one.again(delay, group=True)):
            name = group_of(self.one_of(which).item)
            self.rests[name] = max(self.rests.get(name, 0.0), self.now + delay)

    @precondition(lambda self: self.reservations)
    @rule(which=numbers)
    def bury(self, which: int) -> None:
        self.end(which, lambda one: one.bury("why"))

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, lease=spans)
    def extend(self, which: int, lease: float) -> None:
        self.end(which, lambda one: one.extend(lease))

    @precondition(lambda self: self.reservations)
    @rule(which=st.lists(numbers, min_size=1, max_size=4), who=numbers)
    def ack_together(self, which: list[int], who: int) -> None:
        self.jobs(who).ack([self.one_of(number) for number in which])

    def end(self, which: int, end: Callable[[Any], None]) -> bool:
        with suppress(LeaseLost):
            end(self.one_of(which))
            return True
        return False

    def one_of(self, which: int) -> Any:
        return self.reservations[which % len(self.reservations)]

    # Removing

    @rule(item=items, who=numbers)
    def discard(self, item: str, who: int) -> None:
        self.jobs(who).discard(item)

    @precondition(lambda self: self.shards is None)
    @rule(start=st.integers(-4, 4), stop=st.none() | st.integers(-4, 4), who=numbers)
    def remove_slice(self, start: int, stop: int | None, who: int) -> None:
        self.jobs(who).remove_slice(start, stop)

    @rule(one=places, other=places, who=numbers)
    def remove_between(self, one: float, other: float, who: int) -> None:
        self.jobs(who).remove_between(self.moment(one), self.moment(other))

    @rule()
    def clear(self) -> None:
        self.consumers[0].clear()
        self.stored.foreign.clear()

    # Dead letters

    @rule(item=items, who=numbers)
    def retry(self, item: str, who: int) -> None:
        self.jobs(who).dead_letters.retry(item)

    @rule()
    def retry_all(self) -> None:
        self.consumers[0].dead_letters.retry_all()

    @rule(item=items)
    def forget(self, item: str) -> None:
        self.consumers[0].dead_letters.discard(item)

    # Limits

    @rule(name=names, leases=st.none() | st.integers(1, 2), pause=st.sampled_from([None, 0.5, 1.5]))
    def limit_group(self, name: str, leases: int | None, pause: float | None) -> None:
        self.consumers[0].group(name).limit(leases, pause and pause * AGE)
        self.own[name] = (leases, pause)

    @rule(name=names, ages=st.sampled_from([-0.5, 0.5, math.inf]))
    def pause_group(self, name: str, ages: float) -> None:
        if ages == math.inf or not self.has_ends:
            self.consumers[0].group(name).pause()
        else:
            self.consumers[0].group(name).pause(self.server_time() + ages * AGE)

    @rule(name=names)
    def resume_group(self, name: str) -> None:
        self.consumers[0].group(name).resume()

    @rule(leases=st.none() | st.integers(1, 2), maxsize=st.none() | st.integers(3, 6), is_paused=st.booleans())
    def limit_set(self, leases: int | None, maxsize: int | None, is_paused: bool) -> None:
        # Each shard has an equal part.
        self.consumers[0].limit(leases=leases and leases * (self.shards or 1), maxsize=maxsize)
        self.consumers[0].pause() if is_paused else self.consumers[0].resume()
        self.is_gated = is_paused or leases is not None

    @rule()
    def let_go(self) -> None:
        self.consumers[0].limit()
        self.consumers[0].resume()
        self.is_gated = False

    @rule(ages=st.integers(1, 2))
    def time_passes(self, ages: int) -> None:
        self.time.pass_by(ages * AGE)
        self.now += ages * AGE
        # By then, what is due may have other turns.
        self.passed = {}

    # Whatever happened, all items come at last

    @rule()
    def all_come(self) -> None:
        self.let_go()
        for name in "abcÿ":
            self.resume_group(name)
        for _ in range(60):
            if not (self.stored.scores("waiting") or self.stored.scores("leased")):
                break
            self.take(3, 0)
            self.time_passes(2)
            if not self.time.moves_the_server and self.kind == "ScheduledSet":
                self.consumers[0].remove_between(self.server_time(), math.inf)
        else:
            raise AssertionError(f"{self.stored.scores('waiting')} are never claimed")
        assert not self.stored.names() - {name.encode() for name in self.uncertain()}
        assert not self.stored.fields("busy")
        assert not self.ready() - self.uncertain()

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.all_come()
            self.check_keys()
            self.the_totals_add_up()

    # After each step

    def check_keys(self) -> None:
        keyed = self.options.get("key") is not None
        # Values of what other programs have added nobody gave.
        self.stored.check(frozenset(self.stored.identities()) if keyed else None)

    @invariant()
    def no_group_has_more_leases_than_it_had_room_for(self) -> None:
        live = Counter(group_of(item.decode()) for item, until in self.stored.scores("leased").items() if until > 0)
        limits = {name: self.own.get(name, (None, None))[0] or self.most for name in live}
        for name, count in live.items():
            if limits[name] and count > limits[name]:
                assert count <= self.had.get(name, 0), f"{name!r} has {count} leases"
        self.had = live

    @invariant()
    def a_turn_is_that_of_a_ready_group(self) -> None:
        self.passed = {name: passed for name, passed in self.passed.items() if name in self.ready()}

    # What the steps need

    def moment(self, place: float) -> float:
        """A place in time, in seconds since the epoch."""
        return self.began + place * AGE

    def has_suspects(self) -> bool:
        """Whether there is an item whose lease expired: under a lease, it is claimed alone."""
        now = self.server_time()
        return any(words.startswith(b"expired") for words in self.stored.fields("deliveries").values()) or any(
            0 < until <= now for until in self.stored.scores("leased").values()
        )

    def ready(self) -> set[str]:
        return {name.decode() for name in self.stored.scores("ready")}

    def uncertain(self) -> set[str]:
        """The groups of which another program has added or removed something."""
        return {group_of(item.decode()) for item in self.stored.foreign}

    def unclaimed(self) -> set[str]:
        """The groups with a waiting item that a claim may park or leave out, which may have been the group's turn."""
        now, leased = self.server_time(), self.stored.scores("leased")
        known = {item for item, until in leased.items() if not 0 < until <= now}
        known.update(self.stored.scores("dead"), self.stored.scores("done"))
        return {group_of(item.decode()) for item in known.intersection(self.stored.scores("waiting"))}

    def rivals_of(self, item: str) -> set[str]:
        """The other groups with which that of an item takes turns: of its shard."""

        def shard_of(name: str) -> int:
            return zlib.crc32(name.encode()) % (self.shards or 1)

        own = group_of(item)
        return {name for name in "abcÿ" if name != own and shard_of(name) == shard_of(own)}

    def scores(self) -> dict[str, float]:
        return {item.decode(): score for item, score in self.stored.scores("waiting").items()}

    def pause_of(self, name: str) -> float:
        return self.own.get(name, (None, None))[1] or self.limit[1] or 0.0

    def may_be_claimed(self, item: str, score: float) -> bool:
        name = group_of(item).encode()
        is_due = self.kind != "ScheduledSet" or score <= self.server_time()
        return is_due and not self.stored.is_blocked(name) and not self.stored.is_resting(name)


class ShardedGroupMachine(GroupMachine):
    """The same over shards: a group is in one shard, and what holds for a set with groups holds in each shard."""

    shards = SHARDS
    raw_set = GroupedShards
