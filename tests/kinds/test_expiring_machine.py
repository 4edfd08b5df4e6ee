"""An expiring set on each face against a model of it in memory, with a look at the raw key after each step."""

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from faces import Face
from machines import Ageing, Machine, MovedClock, run_machine, seconds_for, thoroughly
from proxy import Proxy
from redset.core.keys import REGISTRY, Keys
from servers import FakeClock

HOW = thoroughly(examples=8)

pytestmark = [pytest.mark.no_cover, pytest.mark.timeout(seconds_for(HOW))]

#: Few enough that the same item comes again, and false ones among them.
items: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2, "", "a", "é", [], {}, None, False, [1, "b"]])
#: Seconds. Fewer than 500 moves never end where a time to live does: so the seconds of the test itself change nothing.
ttls = st.sampled_from([1000, 2000, 3000, 500_000])
moves = st.sampled_from([501, 1501, 2501, 100_501, -499, -1499])


def stored(item: Any) -> str:
    return json.dumps(item)


class ExpiringMachine(Machine):
    has_totals = False

    """``living`` is the model: the stored text of each item, and how many seconds it had at ``now`` nil."""

    name = "seen"
    digest: bool

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.face.ExpiringSet("seen", 1000, json, digest=self.digest)
        #: How far time was moved, and until when items live, counted like that.
        self.now = 0.0
        self.until: dict[str, float] = {}
        #: Whether the key is known to end with its last item.
        self.ends = True

    def lives(self, item: Any) -> bool:
        return self.until.get(stored(item), -1e9) > self.now

    def living(self) -> set[str]:
        return {item for item, until in self.until.items() if until > self.now}

    @rule(item=items, ttl=st.none() | ttls)
    def add(self, item: Any, ttl: float | None) -> None:
        assert self.seen.add(item, ttl=ttl) is not self.lives(item)
        if not self.lives(item):
            self.until[stored(item)] = self.now + (ttl or 1000)
        self.ends = True

    @precondition(lambda self: self.has_pipelines)
    @rule(item=items, ttl=st.none() | ttls)
    def add_to(self, item: Any, ttl: float | None) -> None:
        self.add_in_a_pipeline(self.seen, item, ttl=ttl)
        if not self.lives(item):
            self.until[stored(item)] = self.now + (ttl or 1000)
        self.ends = True

    @rule(many=st.lists(items, max_size=6), ttl=st.none() | ttls)
    def add_new(self, many: list[Any], ttl: float | None) -> None:
        expected = []
        for item in many:
            if not self.lives(item):
                self.until[stored(item)] = self.now + (ttl or 1000)
                expected.append(item)
        assert list(map(stored, self.seen.add_new(many, ttl=ttl))) == list(map(stored, expected))
        if many:
            self.ends = True

    @rule(item=items, ttl=st.none() | ttls)
    def touch(self, item: Any, ttl: float | None) -> None:
        assert self.seen.touch(item, ttl=ttl) is self.lives(item)
        if self.lives(item):
            self.until[stored(item)] = self.now + (ttl or 1000)
        self.ends = True

    @rule(item=items, ttl=ttls)
    def another_program_adds(self, item: Any, ttl: float) -> None:
        if not self.digest:
            self.raw.zadd("seen", {stored(item): self.server_time() + ttl})
            self.raw.persist("seen")
            self.until[stored(item)] = self.now + ttl
            self.ends = False

    @rule(item=items)
    def discard(self, item: Any) -> None:
        assert self.seen.discard(item) is self.lives(item)
        self.until.pop(stored(item), None)
        self.ends = True

    @rule()
    def clear(self) -> None:
        assert self.seen.clear() is bool(self.living())
        self.until.clear()
        self.ends = True

    @rule(others=st.lists(items, max_size=5), form=st.sampled_from(["union_update", "difference_update"]))
    def change_in_place(self, others: list[Any], form: str) -> None:
        getattr(self.seen, form)(others)
        for other in others:
            if form == "difference_update":
                self.until.pop(stored(other), None)
            elif not self.lives(other):
                self.until[stored(other)] = self.now + 1000
        if others:
            self.ends = True

    @rule(seconds=moves)
    def time_passes(self, seconds: float) -> None:
        if seconds < 0:
            # What is over may have left already, or live again.
            self.raw.zremrangebyscore("seen", "-inf", self.server_time())
            self.until = {item: until for item, until in self.until.items() if until > self.now}
        self.time.pass_by(seconds)
        self.now += seconds
        self.ends = self.ends and self.time.moves_the_server

    @rule(item=items)
    def look_at_one(self, item: Any) -> None:
        left = self.seen.ttl(item)
        assert (left is not None) is (item in self.seen) is self.lives(item)
        if left is not None:
            assert abs(self.until[stored(item)] - self.now - left) < 100

    @invariant()
    def it_is_as_the_model(self) -> None:
        every = [0, 1, 2, "", "a", "é", [], {}, None, False, [1, "b"]]
        assert self.seen.contains_many(every) == list(map(self.lives, every))
        assert len(self.seen) == len(self.living())
        if not self.digest:
            found = list(map(stored, self.seen))
            assert sorted(found) == sorted(self.living())
            ends = [round((self.until[item] - self.now) / 500) for item in found]
            assert ends == sorted(ends), "what ends first comes first"

    def check_keys(self) -> None:
        """Its keys end with its last item."""
        keys = Keys("seen")
        for key in self.raw.keys():  # noqa: SIM118 # a client is no dict
            assert key in (keys.living, keys.meta, *REGISTRY) or key.startswith(keys.call_prefix)
        # The server deletes what has expired when it is read, so both are, before the clock may be set back.
        has_items, has_meta = self.raw.exists(keys.living), self.raw.exists(keys.meta)
        if self.ends:
            assert has_meta <= has_items, "nothing outlives the items"
        if self.ends and self.raw.exists("seen"):
            last = max(score for _, score in self.raw.zrange("seen", 0, -1, withscores=True))
            assert -60 < self.raw.ttl("seen") - max(0, last - self.server_time()) < 60


@pytest.mark.conformance
@pytest.mark.parametrize("digest", [False, True], ids=["items", "digests"])
def test_as_the_model_as_items_grow_older(face: Face, raw: Any, digest: bool) -> None:
    run_machine(ExpiringMachine, HOW, face=face, raw=raw, time=Ageing(raw, "seen"), digest=digest)


@pytest.mark.parametrize("digest", [False, True], ids=["items", "digests"])
def test_as_the_model_as_the_clock_of_the_server_moves_and_calls_are_lost(
    stubborn: Face, stubborn_proxy: Proxy, raw: Any, clock: FakeClock, digest: bool
) -> None:
    members = {"face": stubborn, "proxy": stubborn_proxy, "raw": raw, "time": MovedClock(clock)}
    run_machine(ExpiringMachine, HOW, digest=digest, **members)
