"""A set with leases, step by step against a model of it in memory, with a look at the raw keys after each step.

Time passes in whole ages; leases, delays and scores end half way between: it never matters how long a step took.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from machines import LimitedMachine
from redset.core.keys import Keys
from redset.exceptions import Full, LeaseLost

__all__ = ("AGE", "MAX_ATTEMPTS", "LeaseMachine", "Model")

#: Seconds; far longer than an example takes.
AGE = 1000.0
MAX_ATTEMPTS = 3

#: Few, so that the same ones meet again in other states.
items = st.sampled_from(["a", "b", "c", "d", "é"])
spans = st.sampled_from([AGE / 2, AGE * 3 / 2, AGE * 5 / 2])
delays = st.just(0.0) | spans
#: A place in time, or an order, as good as any: in ages from the beginning.
places = st.sampled_from([-2.5, -1.5, -0.5, 0.5, 1.5, 3.5])
numbers = st.integers(0, 10**6)
reasons = st.sampled_from(["", "boom", "two words", "é\nand more"])


@dataclass
class Delivered:
    """What was handed out and not ended: held under a token, or backing off under none."""

    token: int
    until: float
    attempts: int
    score: float


@dataclass
class Model:
    """What the set should hold; ``now`` is in seconds from the beginning."""

    now: float = 0.0
    #: Whether a claim drops the addition of a leased item, instead of parking it.
    drops: bool = False
    waiting: dict[str, float] = field(default_factory=dict)
    leased: dict[str, Delivered] = field(default_factory=dict)
    #: Attempts and score of what waits again after it failed.
    failed: dict[str, tuple[int, float]] = field(default_factory=dict)
    #: The items whose last lease expired; only those in ``failed`` count.
    expired: set[str] = field(default_factory=set)
    parked: dict[str, float] = field(default_factory=dict)
    #: Attempts, score and reason.
    dead: dict[str, tuple[int, float, str]] = field(default_factory=dict)

    def is_empty(self) -> bool:
        return not (self.waiting or self.leased or self.dead)

    def is_held(self, item: str) -> bool:
        return item in self.leased and self.leased[item].token > 0 and self.leased[item].until > self.now

    def is_suspect(self, item: str) -> bool:
        return item in self.failed and item in self.expired

    def hand_out(self, available: list[str], num: int, *, lease: bool = False) -> Iterator[tuple[str, float, int]]:
        """What of ``available`` goes out: item, score and number of the attempt.

        :param lease: a suspect item goes out alone.
        """
        given = 0
        for item in available:
            if given == num:
                return
            if lease and self.is_suspect(item):
                if given:
                    return
                num = 1
            score = self.waiting.pop(item)
            if self.is_held(item):
                if not self.drops:
                    self.parked[item] = score
                continue
            if item in self.leased:
                self.failed[item] = (self.leased.pop(item).attempts, score)
                self.expired.discard(item)
            self.dead.pop(item, None)
            attempts, _ = self.failed.pop(item, (0, score))
            given += 1
            yield item, score, attempts + 1

    def bring_back(self) -> None:
        for item, delivered in list(self.leased.items()):
            if delivered.until <= self.now and delivered.token:
                self.fail(item, 0, "its lease expired", expired=True)
            elif delivered.until <= self.now:
                self.try_again(item, delivered.attempts, delivered.score, 0)

    def ack(self, item: str) -> None:
        self.leased.pop(item)
        self.start_afresh(item)

    def fail(self, item: str, delay: float, reason: str, *, expired: bool = False) -> None:
        delivered = self.leased[item]
        if delivered.attempts < MAX_ATTEMPTS:
            self.try_again(item, delivered.attempts, delivered.score, delay, expired=expired)
        else:
            self.bury(item, reason)

    def bury(self, item: str, reason: str) -> None:
        delivered = self.leased.pop(item)
        if not self.start_afresh(item):
            self.dead[item] = (delivered.attempts, delivered.score, reason)

    def start_afresh(self, item: str) -> bool:
        """Whether it was added meanwhile, and so is not done or dead but new."""
        if item in self.parked:
            self.waiting.setdefault(item, self.parked.pop(item))
        return item in self.waiting

    def try_again(self, item: str, attempts: int, score: float, delay: float, *, expired: bool = False) -> None:
        self.leased.pop(item)
        (self.expired.add if expired else self.expired.discard)(item)
        if delay and item not in self.parked and item not in self.waiting:
            self.leased[item] = Delivered(0, self.now + delay, attempts, score)
            return
        if attempts:
            self.failed[item] = (attempts, score)
        self.waiting.setdefault(item, self.parked.pop(item, score))

    def retry(self, item: str) -> None:
        _, score, _ = self.dead.pop(item)
        self.waiting.setdefault(item, score)

    def discard(self, item: str) -> bool:
        self.failed.pop(item, None)
        self.parked.pop(item, None)
        waited, was_leased = self.waiting.pop(item, None), self.leased.pop(item, None)
        return waited is not None or was_leased is not None

    def in_order(self) -> list[str]:
        return sorted(self.waiting, key=lambda item: (self.waiting[item], item.encode()))

    def cut(self, items: list[str]) -> None:
        """What waits goes, and what is leased stays."""
        for item in items:
            del self.waiting[item]
            if item not in self.leased:
                self.failed.pop(item, None)


class LeaseMachine(LimitedMachine):
    kind: str
    unit = AGE

    def __init__(self) -> None:
        super().__init__()
        made_by = getattr(self.face, self.kind)
        self.consumers = [made_by("jobs", max_attempts=MAX_ATTEMPTS, backoff=lambda attempt: AGE / 2) for _ in range(3)]
        self.model = Model()
        #: Of all reservations that were made, those that are over too.
        self.reservations: list[Any] = []
        self.last_token = 0

    # Adding

    @initialize(additions=st.lists(st.tuples(items, places), max_size=5))
    def begin(self, additions: list[tuple[str, float]]) -> None:
        for item, place in additions:
            self.add(item, place, 0)

    @rule(item=items, place=places, who=numbers)
    def add(self, item: str, place: float, who: int) -> None:
        score = self.moment(place)
        if self.is_full_for(item):
            with pytest.raises(Full):
                self.one_of(self.consumers, who).add(item, score=score)
            return
        assert self.one_of(self.consumers, who).add(item, score=score) == score
        self.model.waiting[item] = score

    @precondition(lambda self: self.has_pipelines)
    @rule(item=items, place=places, who=numbers)
    def add_to(self, item: str, place: float, who: int) -> None:
        score = self.moment(place)
        self.add_in_a_pipeline(self.one_of(self.consumers, who), item, score=score)
        if not self.is_full_for(item):
            self.model.waiting[item] = score

    @rule(item=items, place=places)
    def another_program_adds(self, item: str, place: float) -> None:
        self.add_without_redset(item, self.moment(place))
        self.model.waiting[item] = self.moment(place)

    # Removing what waits

    @rule(start=st.integers(-4, 4), stop=st.none() | st.integers(-4, 4), who=numbers)
    def remove_slice(self, start: int, stop: int | None, who: int) -> None:
        gone = self.model.in_order()[start:stop]
        assert self.one_of(self.consumers, who).remove_slice(start, stop) == len(gone)
        self.model.cut(gone)

    @rule(one=places, other=places, who=numbers)
    def remove_between(self, one: float, other: float, who: int) -> None:
        low, high = self.moment(one), self.moment(other)
        gone = [item for item in self.model.in_order() if low <= self.model.waiting[item] < high]
        assert self.one_of(self.consumers, who).remove_between(low, high, inclusive=(True, False)) == len(gone)
        self.model.cut(gone)

    # Taking for good

    @rule(who=numbers)
    def pop(self, who: int) -> None:
        expected = [item for item, _, _ in self.claimed(1)]
        if expected:
            assert [self.one_of(self.consumers, who).pop()] == expected
        else:
            with pytest.raises(KeyError):
                self.one_of(self.consumers, who).pop()

    @rule(num=st.integers(0, 6), who=numbers)
    def take(self, num: int, who: int) -> None:
        expected = [item for item, _, _ in self.claimed(num)] if num else []
        assert self.one_of(self.consumers, who).take(num) == expected

    # Taking under a lease

    @rule(lease=spans, who=numbers)
    def reserve(self, lease: float, who: int) -> None:
        try:
            made = [self.one_of(self.consumers, who).reserve(lease=lease)]
        except KeyError:
            made = []
        self.note_reservations(made, 1, lease)

    @rule(num=st.integers(1, 6), lease=spans, who=numbers)
    def reserve_many(self, num: int, lease: float, who: int) -> None:
        self.note_reservations(self.one_of(self.consumers, who).reserve_many(num, lease=lease), num, lease)

    def note_reservations(self, made: list[Any], num: int, lease: float) -> None:
        expected = self.claimed(num, lease=True)
        assert [(one.item, one.score, one.attempt) for one in made] == expected
        for one in made:
            assert one.token > self.last_token, "tokens grow"
            self.last_token = one.token
            assert not self.model.is_held(one.item), "nobody else has it"
            self.model.leased[one.item] = Delivered(one.token, self.model.now + lease, one.attempt, one.score)
            assert self.is_about(one.deadline, self.model.now + lease)
        self.reservations += made

    @rule(batch=st.integers(1, 3), lease=spans, who=numbers)
    def consume_all(self, batch: int, lease: float, who: int) -> None:
        # Each claim of the loop acks what the one before got. So one free lease is enough.
        most = len(self.model.waiting) + len(self.model.leased)
        allowed = most if self.gate.allowed(self.server_now(), 1, self.live_leases()) else 0
        expected = [(item, attempt) for item, _, attempt in self.claimed(allowed)]
        made = []
        for reservation in self.one_of(self.consumers, who).consume(lease=lease, batch=batch, wait=0):
            assert self.is_on_the_server(reservation)
            made.append(reservation)
        assert [(one.item, one.attempt) for one in made] == expected
        self.reservations += made
        self.last_token = max([self.last_token, *(one.token for one in made)])

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, who=numbers)
    def open_a_receipt(self, which: int, who: int) -> None:
        """From here on, either of two reservations ends or extends the lease, and both may be named in one call."""
        reservation = self.one_of(self.reservations, which)
        self.reservations.append(self.from_receipt(self.one_of(self.consumers, who), reservation))

    # Ending a lease, also one that is over

    @precondition(lambda self: self.reservations)
    @rule(which=numbers)
    def ack(self, which: int) -> None:
        self.end(which, lambda one: one.ack(), self.model.ack)

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, delay=delays | st.none(), reason=reasons)
    def nack(self, which: int, delay: float | None, reason: str) -> None:
        after = AGE / 2 if delay is None else delay
        self.end(which, lambda one: one.nack(delay, reason), lambda item: self.model.fail(item, after, reason))

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, delay=delays, place=places | st.none())
    def again(self, which: int, delay: float, place: float | None) -> None:
        score = None if place is None else self.moment(place)

        def give_back(item: str) -> None:
            delivered = self.model.leased[item]
            self.model.try_again(item, delivered.attempts - 1, delivered.score if score is None else score, delay)

        self.end(which, lambda one: one.again(delay, score), give_back)

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, reason=reasons)
    def bury(self, which: int, reason: str) -> None:
        self.end(which, lambda one: one.bury(reason), lambda item: self.model.bury(item, reason))

    @precondition(lambda self: self.reservations)
    @rule(which=numbers, lease=spans)
    def extend(self, which: int, lease: float) -> None:
        def extend(item: str) -> None:
            self.model.leased[item].until = self.model.now + lease

        self.end(which, lambda one: one.extend(lease), extend)
        one = self.one_of(self.reservations, which)
        if self.is_live(one):
            assert self.is_about(one.deadline, self.model.now + lease)

    def end(self, which: int, end: Callable[[Any], None], expect: Callable[[str], None]) -> None:
        reservation = self.one_of(self.reservations, which)
        if self.is_live(reservation):
            end(reservation)
            expect(reservation.item)
            return
        with pytest.raises(LeaseLost):
            end(reservation)

    @precondition(lambda self: self.reservations)
    @rule(which=st.lists(numbers, min_size=1, max_size=5, unique=True), who=numbers)
    def ack_together(self, which: list[int], who: int) -> None:
        chosen = list(
            {number % len(self.reservations): self.one_of(self.reservations, number) for number in which}.values()
        )
        lost = []
        found = self.one_of(self.consumers, who).ack(chosen)
        for one in chosen:
            if self.is_live(one):
                self.model.ack(one.item)
            else:
                lost.append(one)
        assert found == lost

    @rule(ages=st.integers(1, 3))
    def time_passes(self, ages: int) -> None:
        self.time.pass_by(ages * AGE)
        self.model.now += ages * AGE

    # Removing

    @rule(item=items)
    def discard(self, item: str) -> None:
        assert self.consumers[0].discard(item) is self.model.discard(item)

    @rule()
    def clear(self) -> None:
        assert bool(self.consumers[0].clear()) is not self.model.is_empty()
        self.model = Model(now=self.model.now)

    @precondition(lambda self: self.last_token)
    @rule()
    def the_memory_of_tokens_is_lost(self) -> None:
        self.raw.hdel(Keys("jobs").meta, "last")

    # Dead letters

    @rule(item=items)
    def retry(self, item: str) -> None:
        was_dead = item in self.model.dead
        assert self.consumers[0].dead_letters.retry(item) is was_dead
        if was_dead:
            self.model.retry(item)

    @rule()
    def retry_all(self) -> None:
        assert self.consumers[0].dead_letters.retry_all() == len(self.model.dead)
        for item in list(self.model.dead):
            self.model.retry(item)

    @rule(item=items)
    def forget(self, item: str) -> None:
        was_dead = self.model.dead.pop(item, None) is not None
        assert self.consumers[0].dead_letters.discard(item) is was_dead

    # After each step

    @invariant()
    def every_item_is_where_the_model_has_it(self) -> None:
        assert decoded(self.stored.scores("waiting")) == self.model.waiting
        assert decoded(self.stored.scores("parked")) == self.model.parked
        leased = decoded(self.stored.scores("leased"))
        assert leased.keys() == self.model.leased.keys()
        for item, delivered in self.model.leased.items():
            assert (leased[item] > 0) == (delivered.token > 0)
            assert self.is_about(abs(leased[item]), delivered.until)

    @invariant()
    def every_delivery_is_known(self) -> None:
        known = {item: words.split() for item, words in decoded(self.stored.fields("deliveries")).items()}
        expected = {
            item: ("expired" if self.model.is_suspect(item) else "0", attempts, score)
            for item, (attempts, score) in self.model.failed.items()
        }
        expected |= {item: (str(one.token), one.attempts, one.score) for item, one in self.model.leased.items()}
        assert {item: (word.decode(), int(a), float(s)) for item, (word, a, s) in known.items()} == expected

    @invariant()
    def the_dead_letters_are_those_of_the_model(self) -> None:
        found = {one.item: (one.attempts, one.score, one.reason) for one in self.consumers[0].dead_letters}
        assert found == self.model.dead

    @invariant()
    def no_item_has_two_live_leases(self) -> None:
        live = {(one.item, one.token) for one in self.reservations if self.is_live(one)}
        assert len(live) == len({item for item, _ in live})

    def counted(self) -> Any:
        return self.consumers[0].stats()

    def expected_counts(self) -> dict[str, Any]:
        held = [one.until > self.model.now for one in self.model.leased.values() if one.token]
        return super().expected_counts() | {
            "waiting": len(self.model.waiting),
            "due": len(self.available()),
            "leased": held.count(True),
            "expired": held.count(False),
            "delayed": len(self.model.leased) - len(held),
            "parked": len(self.model.parked),
            "dead": len(self.model.dead),
            "done": 0,
        }

    # What the steps need

    def server_now(self) -> float:
        return self.model.now / AGE if self.time.moves_the_server else 0.0

    def limited(self) -> Any:
        return self.consumers[0]

    def size(self) -> int:
        return len(self.model.waiting) + len(self.model.leased)

    def is_full_for(self, item: str) -> bool:
        return not (item in self.model.waiting or item in self.model.leased or self.has_room())

    def live_leases(self) -> int:
        return sum(map(self.model.is_held, self.model.leased))

    def claimed(self, num: int, *, lease: bool = False) -> list[tuple[str, float, int]]:
        """What a claim of so many gets: item, score and number of the attempt."""
        now = self.server_now()
        allowed = self.gate.allowed(now, num, self.live_leases() if lease else None)
        self.model.bring_back()
        rows = list(self.model.hand_out(self.available(), allowed, lease=lease))
        self.gate.note(now, len(rows))
        return rows

    def available(self) -> list[str]:
        """What can be taken of what waits, in order."""
        now = self.moment(self.server_now())
        return [
            item for item in self.model.in_order() if self.kind != "ScheduledSet" or self.model.waiting[item] <= now
        ]

    def is_live(self, reservation: Any) -> bool:
        item = reservation.item
        return self.model.is_held(item) and self.model.leased[item].token == reservation.token

    def is_on_the_server(self, reservation: Any) -> bool:
        return self.stored.fields("deliveries")[reservation.item.encode()].startswith(b"%d " % reservation.token)

    def is_about(self, moment: float, expected: float) -> bool:
        """Whether ``moment`` on the server is ``expected`` seconds from the beginning, to less than half an age."""
        passed = 0 if self.time.moves_the_server else self.model.now
        return abs(moment + passed - self.began - expected) < AGE / 2

    @staticmethod
    def one_of(things: list[Any], number: int) -> Any:
        return things[number % len(things)]


def decoded(stored: dict[bytes, Any]) -> dict[str, Any]:
    return {item.decode(): value for item, value in stored.items()}
