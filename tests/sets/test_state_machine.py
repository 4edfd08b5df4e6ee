"""Every kind of set on each face against a model of it in memory, with a look at the raw keys after each step."""

import json
import time
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from faces import Face
from machines import Machine, RealTime, run_machine, thoroughly
from redset.exceptions import DeserializationError

pytestmark = pytest.mark.no_cover

#: Few enough that the same item comes again, and false ones among them.
items: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2, "", "a", "é", [], {}, None, False, [1, "b"]])
#: What no JSON serializer can load.
broken = st.sampled_from([b"{", b"\xff\xfe", b"", b"nul"])
#: Long past or far in the future, so that no item falls due while the machine runs.
PAST = [float("-inf"), -1.5, -0.0, 0, 5e-324, 1, 2, 2.0000000000000004, 1732423423.123457]
FUTURE = [2.0**40, 2.0**40 + 1, 1e300, float("inf")]
scores = st.sampled_from(PAST + FUTURE)
positions = st.integers(-6, 6)
bounds = st.none() | scores


class SetMachine(Machine):
    """``waiting`` and ``dead`` are the model: stored bytes to score, and the stored bytes that were put aside."""

    kind: str
    time = RealTime()

    def __init__(self) -> None:
        super().__init__()
        self.jobs = getattr(self.face, self.kind)("jobs", serializer=json)
        self.as_stored = getattr(self.face, self.kind)("jobs")
        self.waiting: dict[bytes, float] = {}
        self.dead: set[bytes] = set()

    # The model

    def ordered(self) -> list[bytes]:
        return sorted(self.waiting, key=lambda item: (self.waiting[item], item))

    def available(self) -> list[bytes]:
        """What can be taken, in order."""
        if self.kind != "ScheduledSet":
            return self.ordered()
        return [item for item in self.ordered() if self.waiting[item] < FUTURE[0]]

    def handed_out(self, num: int) -> list[Any]:
        """The next items that can be loaded, ``num`` at most; the others that are met go to the dead letters."""
        taken: list[Any] = []
        for item in self.available():
            if len(taken) == num:
                break
            del self.waiting[item]
            if can_be_loaded(item):
                taken.append(json.loads(item))
            else:
                self.dead.add(item)
        return taken

    # Adding

    @rule(item=items, score=scores)
    def add(self, item: Any, score: float) -> None:
        assert self.jobs.add(item, score=score) == score
        self.waiting[stored(item)] = score

    @rule(item=items)
    def add_without_a_score(self, item: Any) -> None:
        before = time.time()
        score = self.jobs.add(item)
        assert score == 0 if self.kind == "SortedSet" else before <= score <= time.time()
        self.waiting[stored(item)] = score

    @rule(item=items.map(json.dumps).map(str.encode) | broken, score=scores)
    def another_program_adds(self, item: bytes, score: float) -> None:
        self.add_without_redset(item, score)
        self.waiting[item] = score

    # Taking

    @rule()
    def pop(self) -> None:
        expected = self.handed_out(1)
        if expected:
            assert exactly(self.jobs.pop(), expected[0])
        else:
            with pytest.raises(KeyError):
                self.jobs.pop()

    @rule(num=st.integers(-1, 4) | st.just(5000))
    def take(self, num: int) -> None:
        # A hand-out that meets what cannot be loaded may return less, so only what it can tell is asked for.
        if any(not can_be_loaded(item) for item in self.available()):
            num = 5000 if num > 0 else num
        assert exactly(self.jobs.take(num), self.handed_out(max(num, 0)))

    @rule()
    def another_program_pops(self) -> None:
        """One that takes every item as it is stored, so that none is broken for it."""
        available = self.available()
        if available:
            assert as_bytes(self.as_stored.pop()) == available[0]
            del self.waiting[available[0]]
            self.dead.discard(available[0])

    # Looking

    @rule(position=positions)
    def peek(self, position: int) -> None:
        self.look(lambda: self.jobs.peek(position), self.available(), position, KeyError)

    @rule(position=positions)
    def at(self, position: int) -> None:
        self.look(lambda: self.jobs[position], self.ordered(), position, IndexError)

    def look(self, look: Any, expected: list[bytes], position: int, missing: type[Exception]) -> None:
        try:
            item = expected[position]
        except IndexError:
            with pytest.raises(missing):
                look()
            return
        if can_be_loaded(item):
            assert exactly(look(), json.loads(item))
        else:
            with pytest.raises(DeserializationError) as raised:
                look()
            assert raised.value.raw == item

    @rule()
    def peek_score(self) -> None:
        expected = self.available()
        assert self.jobs.peek_score() == (self.waiting[expected[0]] if expected else None)

    @rule(item=items)
    def score(self, item: Any) -> None:
        assert self.jobs.score(item) == self.waiting.get(stored(item))
        assert (item in self.jobs) == (stored(item) in self.waiting)

    @rule(low=bounds, high=bounds)
    def count(self, low: float | None, high: float | None) -> None:
        expected = [
            score
            for score in self.waiting.values()
            if (low is None or score >= low) and (high is None or score <= high)
        ]
        assert self.jobs.count(min=low, max=high) == len(expected)

    @precondition(lambda self: all(map(can_be_loaded, self.waiting)))
    @rule(start=st.none() | positions, stop=st.none() | positions)
    def slice(self, start: int | None, stop: int | None) -> None:
        expected = [json.loads(item) for item in self.ordered()]
        assert exactly(self.jobs[start:stop], expected[start:stop])
        assert exactly(list(self.jobs), expected)

    @precondition(lambda self: self.kind == "ScheduledSet")
    @rule()
    def count_what_is_available(self) -> None:
        assert self.jobs.available() == len(self.available())

    # Removing

    @rule(item=items)
    def discard(self, item: Any) -> None:
        assert self.jobs.discard(item) is (self.waiting.pop(stored(item), None) is not None)

    @rule()
    def clear(self) -> None:
        assert bool(self.jobs.clear()) == bool(self.waiting or self.dead)
        self.waiting, self.dead = {}, set()

    @rule()
    def clear_dead_letters(self) -> None:
        assert bool(self.jobs.dead_letters.clear()) == bool(self.dead)
        self.dead = set()

    # After each step

    def check_keys(self) -> None:
        super().check_keys()
        assert self.stored.scores("waiting") == self.waiting
        assert self.stored.scores("dead").keys() == self.dead

    @invariant()
    def the_set_has_what_the_model_has(self) -> None:
        assert len(self.jobs) == len(self.waiting)
        assert len(self.jobs.dead_letters) == len(self.dead)
        assert {letter.raw for letter in self.jobs.dead_letters} == self.dead

    def counted(self) -> Any:
        return self.jobs.stats()

    def expected_counts(self) -> dict[str, int]:
        return {"waiting": len(self.waiting), "due": len(self.available()), "leased": 0, "dead": len(self.dead)}


def stored(item: Any) -> bytes:
    return json.dumps(item).encode()


def as_bytes(item: str | bytes) -> bytes:
    return item.encode() if isinstance(item, str) else item


def can_be_loaded(item: bytes) -> bool:
    try:
        json.loads(item)
    except ValueError:
        return False
    return True


def exactly(one: Any, other: Any) -> bool:
    """Equal, and of the same types: False is not 0."""
    return json.dumps(one) == json.dumps(other)


def test_every_set_behaves_like_the_model_of_it(face: Face, kind: str, raw: Any) -> None:
    run_machine(SetMachine, thoroughly(examples=10), face=face, raw=raw, kind=kind)
