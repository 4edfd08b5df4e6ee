"""Claims obey the limits of groups, and nothing else does: what each promise means, one story at a time."""

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

import redset
import redset.aio
from faces import Awaited
from group_keys import GroupedRawSet
from redset import Limit
from redset.core.keys import Keys
from redset.exceptions import LayoutError, LeaseLost
from servers import FakeClock

pytestmark = pytest.mark.conformance

#: Every way to claim some items; each returns a list of what it claimed.
WAYS: dict[str, Callable[[Any], list[Any]]] = {
    "take": lambda jobs: jobs.take(5),
    "reserve_many": lambda jobs: [one.item for one in jobs.reserve_many(5, lease=1000)],
    "consume": lambda jobs: [one.item for one in jobs.consume(wait=0, batch=5)],
}
turns = pytest.mark.parametrize("turns", ["score", "fair"])
kinds = pytest.mark.parametrize("kind", ["SortedSet", "ScheduledSet"])


def first_letter(item: Any) -> str:
    return str(item)[0]


@pytest.fixture
def grouped(face: Any) -> Callable[..., Any]:
    """Makes a set whose items belong to the groups of their first letters."""

    def made(kind: str = "SortedSet", per_group: Any = None, name: str = "jobs", **options: Any) -> Any:
        return getattr(face, kind)(name, group=first_letter, per_group=per_group, **options)

    return made


@pytest.fixture
def checked(raw: Any) -> Callable[..., None]:
    """Checks the raw keys."""

    def check(without_value: frozenset[bytes] | None = None, **members: Any) -> None:
        stored = GroupedRawSet(raw, "jobs")
        stored.expect(lambda item: item[:1], **members)
        stored.check(without_value)
        stored.check_totals()

    return check


def items_of(reservations: list[Any]) -> list[Any]:
    return [one.item for one in reservations]


class TestLeases:
    @kinds
    @turns
    def test_a_claim_gets_what_each_group_may_have(self, grouped: Any, checked: Any, kind: str, turns: str) -> None:
        jobs = grouped(kind, Limit(leases=1), turns=turns)
        jobs.update(["a1", "a2", "b1", "b2", "c1"], score=1)
        held = jobs.reserve_many(10)
        assert items_of(held) == ["a1", "b1", "c1"]
        assert jobs.reserve_many(10) == []
        held[1].ack()
        assert items_of(jobs.reserve_many(10)) == ["b2"]
        checked(most=1, fair=turns == "fair", scheduled=kind == "ScheduledSet")

    @pytest.mark.parametrize("end", ["ack", "nack", "again", "bury", "discard", "clear", "expires"])
    def test_each_end_of_a_lease_makes_room(self, grouped: Any, checked: Any, raw: Any, end: str) -> None:
        jobs = grouped(per_group=Limit(leases=1), max_attempts=1)
        jobs.update(["a1", "a2"])
        held = jobs.reserve(lease=1000)
        assert jobs.reserve_many(5) == []
        if end == "discard":
            jobs.discard("a1")
        elif end == "clear":
            jobs.clear()
            jobs.add("a2")
        elif end == "expires":
            raw.zadd(Keys("jobs").leased, {"a1": 1}, xx=True)
        else:
            getattr(held, end)()
        assert items_of(jobs.reserve_many(5)) == ["a1" if end == "again" else "a2"]
        checked(most=1)

    def test_an_ack_makes_room_for_the_claim_that_it_travels_with(self, grouped: Any, checked: Any) -> None:
        jobs = grouped(per_group=Limit(leases=1))
        jobs.update(["a1", "a2", "a3"])
        assert [one.item for one in jobs.consume(wait=0)] == ["a1", "a2", "a3"]
        checked(most=1)

    def test_an_extended_lease_goes_on_being_counted(self, grouped: Any, clock: FakeClock) -> None:
        jobs = grouped(per_group=Limit(leases=1))
        jobs.update(["a1", "a2"])
        held = jobs.reserve(lease=10)
        held.extend(100)
        clock.advance(50)
        assert jobs.reserve_many(5) == []
        clock.advance(51)
        assert items_of(jobs.reserve_many(5)) == ["a1"]
        with pytest.raises(LeaseLost):
            held.ack()

    def test_acks_of_dead_items_come_too_late_and_leave_these_their_groups(
        self, grouped: Any, clock: FakeClock, raw: Any, checked: Any
    ) -> None:
        jobs = grouped(max_attempts=1, per_group=Limit(leases=2))
        jobs.update(["a1", "a2", "b1"])
        late = jobs.reserve(lease=10)
        in_time = jobs.reserve(lease=1000)
        clock.advance(11)
        assert jobs.pop() == "b1"
        assert [letter.item for letter in jobs.dead_letters] == ["a1"]
        assert jobs.ack([late, in_time]) == [late]
        assert raw.hgetall(Keys("jobs").group) == {b"a1": b"a"}
        checked()

    def test_a_lowered_limit_leaves_leases_alone(self, grouped: Any, checked: Any) -> None:
        jobs = grouped(per_group=Limit(leases=3))
        jobs.update(["a1", "a2", "a3", "a4"])
        held = jobs.reserve_many(3)
        jobs.group("a").limit(leases=1)
        held[0].ack()
        held[1].ack()
        assert jobs.reserve_many(3) == []
        held[2].ack()
        assert items_of(jobs.reserve_many(3)) == ["a4"]
        checked(most=3)

    def test_a_raised_limit_of_all_groups_holds_for_those_that_are_full(self, grouped: Any, checked: Any) -> None:
        """As when a new version of a program is started beside the old one."""
        old = grouped(per_group=Limit(leases=1))
        old.update(["a1", "a2", "a3", "a4"])
        (held,) = old.reserve_many(5)
        new = grouped(per_group=Limit(leases=3))
        new.add("b1")
        held_too = new.reserve_many(5)
        held.ack()
        assert len(new.reserve_many(5)) + len(held_too) == 4
        checked(most=3)

    def test_limits_of_all_groups_that_are_no_more(self, grouped: Any, checked: Any) -> None:
        grouped(per_group=Limit(leases=1)).update(["a1", "a2"])
        (held,) = grouped(per_group=Limit(leases=1)).reserve_many(5)
        jobs = grouped()
        jobs.add("b1")
        assert items_of(jobs.reserve_many(1)) == ["b1"]
        held.ack()
        assert items_of(jobs.reserve_many(5)) == ["a2"]
        checked()

    def test_claims_for_good_are_not_counted(self, grouped: Any) -> None:
        jobs = grouped(per_group=Limit(leases=1))
        jobs.update(["a1", "a2", "a3", "a4"])
        assert jobs.take(2) == ["a1", "a2"]
        held = jobs.reserve()
        assert jobs.take(1) == []
        held.ack()
        assert jobs.take(1) == ["a4"]

    def test_the_smallest_limit_and_the_largest_names(self, grouped: Any, face: Any) -> None:
        jobs = face.SortedSet("jobs", group=lambda item: item[0] * 65_535, per_group=Limit(leases=1))
        jobs.update(["a1", "a2", "b1"])
        assert items_of(jobs.reserve_many(5)) == ["a1", "b1"]
        assert {len(group.name) for group in jobs.groups()} == {65_535}

    def test_names_are_bytes_of_any_kind(self, face: Any) -> None:
        """One is the beginning of another, and some have bytes that stand for something elsewhere."""
        names = [b"a", b"aa", b"\0", b"\xff", b"\xff\xff", b" ", b"[", b"(", b"+", b"-", b"a\n", "é".encode()]
        jobs = face.SortedSet("jobs", group=lambda item: names[int(item) % len(names)], per_group=Limit(leases=1))
        jobs.update([str(number) for number in range(3 * len(names))], score=float)
        first = jobs.reserve_many(100)
        assert sorted(items_of(first), key=int) == [str(number) for number in range(len(names))]
        found = [one.name for one in jobs.groups()]
        assert {name.encode() if isinstance(name, str) else name for name in found} == set(names)
        assert jobs.ack(first) == []
        assert len(jobs.reserve_many(100)) == len(names)

    @pytest.mark.parametrize("score", [math.inf, -math.inf, 0.0, -0.0, 1e300, -1e-300, 5e-324, 0.1, -1.0])
    def test_scores_of_any_kind(self, grouped: Any, checked: Any, score: float) -> None:
        jobs = grouped(per_group=Limit(leases=1))
        jobs.update(["b1", "b2"], score=score)
        jobs.add("a1", score=score)
        jobs.add("a1", score=score)
        assert sorted(items_of(jobs.reserve_many(5))) == ["a1", "b1"]
        checked(most=1)

    def test_items_of_a_group_come_in_the_order_of_their_scores(self, grouped: Any) -> None:
        scores = [-math.inf, -1e300, -2.5, -1.0, -5e-324, 0.0, 5e-324, 0.1, 1.0, 2.5, 1e300, math.inf]
        jobs = grouped()
        for number, score in reversed(list(enumerate(scores))):
            jobs.add(f"a{number:02}", score=score)
        assert jobs.take(20) == [f"a{number:02}" for number in range(len(scores))]


class TestPause:
    @pytest.mark.parametrize("way", WAYS)
    def test_one_item_of_a_group_at_a_time(self, grouped: Any, clock: FakeClock, checked: Any, way: str) -> None:
        jobs = grouped(per_group=Limit(pause=timedelta(seconds=60)))
        jobs.update(["a1", "a2", "b1", "b2"])
        assert WAYS[way](jobs) == ["a1", "b1"]
        clock.advance(59)
        assert WAYS[way](jobs) == []
        clock.advance(1.1)
        assert WAYS[way](jobs) == ["a2", "b2"]
        checked()

    def test_neither_the_end_of_a_lease_nor_a_roll_back_ends_it(self, grouped: Any) -> None:
        jobs = grouped(per_group=Limit(pause=60))
        jobs.update(["a1", "a2", "a3"])
        jobs.reserve().again()
        assert jobs.reserve_many(5) == []
        assert len(jobs) == 3

    def test_items_that_are_added_meanwhile_wait(self, grouped: Any, clock: FakeClock) -> None:
        jobs = grouped(per_group=Limit(pause=60))
        jobs.add("a1")
        assert jobs.pop() == "a1"
        jobs.add("a2")
        assert jobs.take(1) == []
        clock.advance(61)
        assert jobs.take(1) == ["a2"]

    def test_resuming_a_group_does_not_shorten_it(self, grouped: Any, clock: FakeClock) -> None:
        jobs = grouped(per_group=Limit(pause=60))
        jobs.update(["a1", "a2", "a3"])
        jobs.group("a").pause(clock.now() + 10)
        clock.advance(11)
        assert jobs.take(3) == ["a1"]
        jobs.group("a").resume()
        assert jobs.take(3) == []
        jobs.group("a").pause()
        clock.advance(30)
        jobs.group("a").resume()
        assert jobs.take(3) == []
        clock.advance(31)
        assert jobs.take(3) == ["a2"]

    def test_clearing_the_set_does_not_shorten_it(self, grouped: Any) -> None:
        jobs = grouped(per_group=Limit(pause=60))
        jobs.add("a1")
        jobs.pop()
        jobs.clear()
        jobs.add("a2")
        assert jobs.take(1) == []

    def test_a_group_with_limits_of_its_own(self, grouped: Any, clock: FakeClock) -> None:
        jobs = grouped(per_group=Limit(leases=5, pause=60))
        jobs.update(["a1", "a2", "b1", "b2"])
        jobs.group("a").limit(pause=5)
        jobs.group("b").limit(leases=1)
        assert jobs.group("a").stats().limit == Limit(5, 5.0)
        assert jobs.group("b").stats().limit == Limit(1, 60.0)
        assert items_of(jobs.reserve_many(5, lease=1000)) == ["a1", "b1"]
        clock.advance(6)
        assert items_of(jobs.reserve_many(5, lease=1000)) == ["a2"]
        clock.advance(60)
        assert jobs.reserve_many(5) == []
        jobs.group("b").limit()
        assert items_of(jobs.reserve_many(5)) == ["b2"]


class TestPausedGroups:
    @turns
    def test_nothing_of_it_is_claimed_until_it_is_resumed(self, grouped: Any, checked: Any, turns: str) -> None:
        jobs = grouped(turns=turns)
        jobs.update(["a1", "b1"])
        jobs.group("a").pause()
        jobs.add("a0")
        assert jobs.take(5) == ["b1"]
        assert jobs.group("a").stats().paused_until == math.inf
        jobs.group("a").resume()
        assert jobs.take(5) == ["a0", "a1"]
        assert jobs.group("a").stats().paused_until is None
        checked(fair=turns == "fair")

    def test_it_outlives_clear_and_holds_in_every_process(self, grouped: Any, face: Any) -> None:
        jobs = grouped()
        jobs.group("a").pause()
        jobs.clear()
        with face.another() as other:
            theirs = other.SortedSet("jobs", group=first_letter)
            theirs.add("a1")
            assert theirs.take(1) == []
            theirs.group("a").resume()
        assert jobs.take(1) == ["a1"]

    def test_a_pause_that_has_ended_is_none(self, grouped: Any) -> None:
        jobs = grouped()
        jobs.add("a1")
        jobs.group("a").pause(until=1)
        assert jobs.group("a").stats().paused_until is None
        assert jobs.take(1) == ["a1"]


class TestAgain:
    def test_the_whole_group_rests(self, grouped: Any, clock: FakeClock, checked: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2", "b1"])
        jobs.reserve().again(delay=60, group=True)
        assert jobs.take(5) == ["b1"]
        assert 59 < jobs.group("a").stats().rests_until - clock.now() < 61
        clock.advance(61)
        held = jobs.reserve_many(5)
        assert items_of(held) == ["a1", "a2"]
        assert held[0].attempt == 1
        checked()

    def test_also_when_the_item_was_added_again(self, grouped: Any, checked: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2"])
        held = jobs.reserve()
        jobs.add("a1")
        held.again(delay=60, group=True)
        assert jobs.take(5) == []
        checked()

    def test_a_longer_rest_stays(self, grouped: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2"])
        one, two = jobs.reserve_many(2)
        one.again(delay=600, group=True)
        two.again(delay=60, group=True)
        assert jobs.group("a").stats().rests_until > time.time() + 500

    def test_many_at_once(self, grouped: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "b1", "c1"])
        assert jobs.again(jobs.reserve_many(2), delay=60, group=True) == []
        assert jobs.take(5) == ["c1"]

    def test_a_set_without_groups_refuses_it(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a1")
        held = jobs.reserve()
        with pytest.raises(TypeError, match="group"):
            held.again(group=True)
        held.ack()


class TestTurns:
    def test_by_score_the_first_item_of_all_groups_is_next(self, grouped: Any) -> None:
        jobs = grouped()
        jobs.update([f"{name}{number}" for name in "ab" for number in range(4)], score=lambda item: int(item[1]))
        assert jobs.take(5) == ["a0", "b0", "a1", "b1", "a2"]
        assert [jobs.pop() for _ in range(3)] == ["b2", "a3", "b3"]

    @pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 7, 100])
    def test_fair_ones_go_round(self, grouped: Any, num: int) -> None:
        jobs = grouped(turns="fair")
        jobs.update([f"a{number:03}" for number in range(100)])
        jobs.update([f"{name}{number}" for name in "bc" for number in range(5)])
        order: list[str] = []
        while got := jobs.take(num):
            order += got
        assert [item[0] for item in order[:15]] == list("abc" * 5)
        assert len(order) == 110

    def test_fair_ones_take_each_group_in_its_own_order(self, grouped: Any) -> None:
        jobs = grouped(turns="fair")
        jobs.update(["a3", "a1", "b2", "b1"], score=lambda item: int(item[1]))
        assert jobs.take(4) == ["a1", "b1", "a3", "b2"]

    def test_one_that_was_away_comes_after_those_that_wait(self, grouped: Any) -> None:
        jobs = grouped(turns="fair")
        jobs.update(["a1", "a2", "b1", "b2"])
        assert jobs.take(1) == ["a1"]
        jobs.add("c1")
        assert jobs.take(4) == ["b1", "a2", "c1", "b2"]


class TestOtherPrograms:
    def test_their_items_obey_the_limits(self, grouped: Any, raw: Any, checked: Any) -> None:
        jobs = grouped(per_group=Limit(leases=1))
        raw.zadd("jobs", {"a1": 1, "a2": 2, "b1": 3})
        assert items_of(jobs.reserve_many(5)) == ["a1", "b1"]
        assert jobs.group("a").stats().leases == 1

    def test_many_of_them(self, grouped: Any, raw: Any) -> None:
        jobs = grouped(per_group=Limit(pause=0.000001))
        raw.zadd("jobs", {f"{name}{number}": number for name in "abcde" for number in range(200)})
        assert len(set(drained(jobs, 1000))) == 1000

    def test_a_few_among_many(self, grouped: Any, raw: Any) -> None:
        jobs = grouped()
        jobs.update([f"a{number}" for number in range(1000)], score=1)
        raw.zadd("jobs", {"b1": 0})
        found = [jobs.pop() for _ in range(100)]
        assert "b1" in found

    @pytest.mark.parametrize("state", ["leased", "delayed", "dead", "parked", "waiting"])
    def test_one_that_is_in_another_state_already(self, grouped: Any, raw: Any, state: str) -> None:
        jobs = grouped(max_attempts=2)
        jobs.update(["a1", "a2"])
        held = jobs.reserve(lease=1000)
        if state == "delayed":
            held.nack(delay=1000)
        elif state == "dead":
            held.bury()
        elif state == "parked":
            jobs.add("a1")
            assert jobs.take(1) == ["a2"] or jobs.take(1) == ["a2"]
        elif state == "waiting":
            held.again()
        raw.zadd("jobs", {"a1": -5})
        got = drained(jobs, 1)
        if state in ("leased", "parked"):
            held.ack()
        got += drained(jobs, 1)
        assert sorted(got) == ["a1"] if state == "parked" else ["a1", "a2"]
        assert len(jobs) == 0

    def test_an_item_that_they_add_while_it_is_leased_comes_after_that(self, grouped: Any, raw: Any) -> None:
        jobs = grouped(per_group=Limit(leases=1))
        jobs.add("a1")
        held = jobs.reserve()
        raw.zadd("jobs", {"a1": 7})
        assert jobs.reserve_many(1) == []
        held.ack()
        assert items_of(jobs.reserve_many(1)) == ["a1"]

    def test_they_remove_items(self, grouped: Any, raw: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2", "b1"])
        raw.zrem("jobs", "a1", "b1")
        assert jobs.take(5) == ["a2"]
        jobs.add("b1")
        assert jobs.take(5) == ["b1"]

    def test_they_replace_one_item_by_another(self, grouped: Any, raw: Any, clock: FakeClock) -> None:
        """The number of items is as before, and the group of the one that is gone is at rest: found within a minute."""
        jobs = grouped()
        jobs.update(["a1", "a2"])
        jobs.group("a").pause()
        raw.zrem("jobs", "a2")
        raw.zadd("jobs", {"b1": 1})
        jobs.take(1)
        clock.advance(61)
        assert drained(jobs, 1) == ["b1"]

    def test_they_change_scores(self, grouped: Any, raw: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2", "b1"], score=5)
        raw.zadd("jobs", {"a1": 9, "b1": 1})
        assert sorted(drained(jobs, 3)) == ["a1", "a2", "b1"]

    def test_they_change_a_score_that_is_changed_back(self, grouped: Any, raw: Any, checked: Any) -> None:
        """The index has an old entry of the item that is claimed, behind the one by which it is."""
        jobs = grouped(per_group=Limit(leases=1))
        jobs.update(["a1", "a2"], score=lambda item: int(item[1]) * 10)
        raw.zadd("jobs", {"a1": 30})
        jobs.add("a1", score=5)
        held = jobs.reserve()
        assert held.item == "a1"
        held.ack()
        assert items_of(jobs.reserve_many(5)) == ["a2"]
        checked(most=1)

    def test_they_delete_the_set(self, grouped: Any, raw: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2", "b1"], score=5)
        raw.delete("jobs")
        assert jobs.take(5) == []
        jobs.update(["a1", "b2"])
        assert jobs.take(5) == ["a1", "b2"]

    def test_an_item_whose_group_cannot_be_told_dies_with_the_reason(self, face: Any, raw: Any) -> None:
        def group(item: str) -> str:
            if item == "bad":
                raise RuntimeError("no host in it")
            return item[0]

        jobs = face.SortedSet("jobs", group=group)
        jobs.add("a1", score=2)
        raw.zadd("jobs", {"bad": 1})
        assert drained(jobs, 1) == ["a1"]
        assert jobs.take(5) == []
        (letter,) = jobs.dead_letters
        assert letter.item == "bad"
        assert "RuntimeError" in letter.reason
        assert "no host in it" in letter.reason
        assert len(jobs) == 0

    def test_one_that_was_dead_is_sorted_when_the_callable_is_mended(self, face: Any, raw: Any) -> None:
        raw.zadd("jobs", {"a1": 1})
        broken = face.SortedSet("jobs", group=lambda item: None)
        assert broken.take(1) == []
        jobs = face.SortedSet("jobs", group=first_letter)
        assert jobs.dead_letters.retry_all() == 1
        assert drained(jobs, 1) == ["a1"]

    @pytest.mark.parametrize("shards", [None, 2])
    def test_a_tool_that_cannot_tell_their_groups_leaves_them_alone(
        self, grouped: Any, face: Any, raw: Any, shards: Any
    ) -> None:
        jobs = grouped(per_group=Limit(leases=1), shards=shards)
        jobs.update(["a1", "a2", "a3"])
        jobs.take(2)
        waiting = next(key for key in raw.scan_iter("*jobs*", _type="zset") if raw.zscore(key, "a3") is not None)
        raw.zadd(waiting, {"c1": 0, "c2": 0})
        tool = opened(face)
        assert [as_text(item) for item in tool.take(10)] == ["a3"]
        assert tool.take(10) == []
        assert tool.reserve_many(10) == []
        began = time.monotonic()
        assert tool.take(1, wait=0.3) == []
        assert time.monotonic() - began >= 0.3
        assert list(tool.consume(wait=0)) == []
        assert (jobs.stats().dead, jobs.stats().waiting) == (0, 2)
        assert sorted(drained(jobs, 2)) == ["c1", "c2"]

    def test_tools_do_not_keep_programs_from_telling_their_groups(self, grouped: Any, face: Any, raw: Any) -> None:
        """Each process registers the set again only once."""
        jobs = grouped()
        jobs.add("a1")
        for number in range(3):
            jobs.take(1)
            raw.zadd("jobs", {f"c{number}": 0})
            assert opened(face).take(1) == []
            assert drained(jobs, 1) == [f"c{number}"]

    def test_a_tool_claims_those_that_have_a_group_already(self, grouped: Any, face: Any, raw: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2"])
        jobs.reserve_many(2, lease=1000)[0].nack(delay=1000)
        raw.zadd("jobs", {"a1": 1})
        tool = opened(face)
        assert [as_text(item) for _ in range(3) for item in tool.take(1)] == ["a1"]


def opened(face: Any) -> Any:
    """The set as a tool opens it that knows its name only."""
    if isinstance(face, Awaited):
        return face.adapt(face.run(redset.aio.open_set(face.client, "jobs")))
    return redset.open_set(face.client, "jobs")


def as_text(item: Any) -> Any:
    return item.decode() if isinstance(item, bytes) else item


def drained(jobs: Any, most: int) -> list[Any]:
    """What a few claims get; what other programs have added may come with the second."""
    got: list[Any] = []
    for _ in range(20 + most):
        got += jobs.take(most)
        if len(got) >= most:
            break
    return got


class TestAdding:
    @pytest.mark.parametrize(("name", "error"), [(None, TypeError), ("", ValueError), ("a" * 65_536, ValueError)])
    def test_a_name_that_is_none(self, face: Any, raw: Any, name: Any, error: type[Exception]) -> None:
        jobs = face.SortedSet("jobs", group=lambda item: name if item == "bad" else "a")
        adds: list[Callable[[], Any]] = [
            lambda: jobs.add("bad"),
            lambda: jobs.update(["good", "bad"]),
            lambda: jobs.increment("bad", 1),
        ]
        for add in adds:
            with pytest.raises(error, match="group") as caught:
                add()
            assert "bad" in "".join(caught.value.__notes__)
        assert not raw.exists("jobs")

    def test_errors_of_the_callable_reach_the_caller(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs", group=lambda item: {}[item])
        with pytest.raises(KeyError):
            jobs.add("a")
        assert not raw.exists("jobs")

    def test_an_item_keeps_its_group_while_the_set_has_it(self, face: Any) -> None:
        name = ["a"]
        jobs = face.SortedSet("jobs", group=lambda item: name[0])
        jobs.add("one")
        name[0] = "b"
        jobs.add("one", score=5)
        assert jobs.group("a").stats().waiting == 1
        jobs.pop()
        jobs.add("one")
        assert jobs.group("b").stats().waiting == 1

    def test_on_keyed_sets_the_callable_is_given_the_key(self, face: Any) -> None:
        given = []

        def group(key: str) -> str:
            given.append(key)
            return key[0]

        jobs = face.SortedSet(
            "jobs", key=lambda item: item["id"], group=group, serializer=json, per_group=Limit(leases=1)
        )
        jobs.update([{"id": "a1", "n": 1}, {"id": "a2"}, {"id": "b1"}])
        assert given == ["a1", "a2", "b1"]
        assert [one.item["id"] for one in jobs.reserve_many(5)] == ["a1", "b1"]

    @pytest.mark.parametrize("options", [{}, {"key": str}], ids=["plain", "keyed"])
    def test_operators_in_place(self, grouped: Any, face: Any, raw: Any, checked: Any, options: Any) -> None:
        jobs, others = grouped(**options), face.SortedSet("others")
        jobs.update(["a1", "b1"], score=1)
        others.update(["a2", "b2", "c2", "b1"], score=1)
        jobs.union_update(["a3", "c3", "a1"], others)
        jobs.difference_update(["a1"])
        jobs.symmetric_difference_update(["d1", "b1"])
        jobs.intersection_update([*"abc", "a2", "a3", "b2", "c2", "c3", "d1"])
        raw.delete("others", *raw.keys("{others}:*"))
        checked(frozenset() if options else None)
        assert {one.name: one.waiting for one in jobs.groups()} == {"a": 2, "b": 1, "c": 2, "d": 1}
        assert len(jobs.take(10)) == 6

    def test_an_addition_of_what_is_known_moves_it(self, grouped: Any, checked: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2", "b1"], score=5)
        jobs.add("a2", score=1)
        jobs.increment("b1", -3)
        jobs.add("a1", score=9, lt=True)
        jobs.add("a1", score=7, gt=True)
        jobs.add("zz", score=1, xx=True)
        assert jobs.take(5) == ["a2", "b1", "a1"]
        checked()


class TestRefusals:
    @pytest.mark.parametrize("how", ["pop_max", "take_max"])
    def test_nothing_is_claimed_from_the_end(self, grouped: Any, how: str) -> None:
        jobs = grouped()
        jobs.add("a1")
        with pytest.raises(TypeError, match="group"):
            getattr(jobs, how)(*([3] if how == "take_max" else []))
        assert len(jobs) == 1

    def test_a_set_with_groups_is_not_opened_without(self, grouped: Any, face: Any) -> None:
        grouped().add("a1")
        plain = face.SortedSet("jobs")
        calls: list[Callable[[], Any]] = [
            lambda: plain.add("a2"),
            lambda: plain.pop(),
            lambda: plain.discard("a1"),
            lambda: plain.clear(),
        ]
        for call in calls:
            with pytest.raises(LayoutError, match="group="):
                call()
        assert grouped().take(5) == ["a1"]

    def test_a_set_without_groups_is_not_opened_with(self, grouped: Any, face: Any) -> None:
        face.SortedSet("jobs").add("a1")
        jobs = grouped()
        calls: list[Callable[[], Any]] = [lambda: jobs.add("a2"), lambda: jobs.pop(), lambda: jobs.group("a").pause()]
        for call in calls:
            with pytest.raises(LayoutError, match="group"):
                call()
        assert face.SortedSet("jobs").take(5) == ["a1"]

    def test_nor_with_other_turns(self, grouped: Any) -> None:
        grouped().add("a1")
        with pytest.raises(LayoutError, match="turns"):
            grouped(turns="fair").add("b1")
        assert grouped().take(5) == ["a1"]

    def test_under_fair_turns_a_scheduled_set_is_no_other(self, grouped: Any) -> None:
        grouped("ScheduledSet", turns="fair").add("a1", score=1)
        with pytest.raises(LayoutError, match=r"ScheduledSet with groups in fair turns, and .* a SortedSet"):
            grouped(turns="fair").take(1)

    def test_a_periodic_set_takes_no_group(self, face: Any) -> None:
        with pytest.raises(TypeError, match="group"):
            face.PeriodicSet("ticks", interval=5, group=first_letter)

    def test_a_set_that_has_no_groups_has_no_group(self, face: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: face.SortedSet("jobs").group("a"),
            lambda: face.SortedSet("jobs").groups(),
            lambda: face.PeriodicSet("ticks", 60).group("a"),
            lambda: face.PeriodicSet("ticks", 60).groups(),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=r"a SortedSet, TimeSortedSet or ScheduledSet created with group="):
                call()


class TestLooking:
    def test_the_groups_with_the_most_leases_come_first(self, grouped: Any) -> None:
        jobs = grouped()
        jobs.update(["a1", "a2", "b1", "b2", "b3", "c1"], score=1)
        jobs.ack([one for one in jobs.reserve_many(6) if one.item == "c1"])
        jobs.update(["a9", "d1"])
        assert [(one.name, one.leases, one.waiting) for one in jobs.groups()] == [("b", 3, 0), ("a", 2, 1), ("d", 0, 1)]
        assert [one.name for one in jobs.groups(limit=1)] == ["b"]

    def test_a_group_that_nobody_knows(self, grouped: Any) -> None:
        stats = grouped(per_group=Limit(leases=2)).group("nobody").stats()
        assert (stats.waiting, stats.leases, stats.rests_until, stats.next_score) == (0, 0, None, None)

    def test_open_set_and_list_sets(self, grouped: Any, face: Any) -> None:
        grouped(per_group=Limit(leases=1)).update(["a1", "a2"])
        if isinstance(face, Awaited):
            (info,) = face.run(redset.aio.list_sets(face.client))
            opened = face.adapt(face.run(redset.aio.open_set(face.client, "jobs")))
        else:
            (info,) = redset.list_sets(face.client)
            opened = redset.open_set(face.client, "jobs")
        assert info.name == "jobs"
        held = opened.reserve_many(5)
        assert [bytes(one.item) if isinstance(one.item, bytes) else one.item for one in held] in ([b"a1"], ["a1"])
        held[0].ack()
        assert opened.group("a").stats().waiting == 1
        with pytest.raises(TypeError, match="group"):
            opened.add(b"a3")


class TestManyThreads:
    def test_never_more_leases_nor_two_claims_closer_than_the_pause(self, grouped: Any, face: Any, raw: Any) -> None:
        jobs = grouped(per_group=Limit(leases=2, pause=0.05))
        jobs.update([f"{name}{number}" for name in "abc" for number in range(8)])
        claims: list[tuple[str, float, float]] = []

        def work(_: int) -> None:
            with face.another() as other:
                mine = other.SortedSet("jobs", group=first_letter, per_group=Limit(leases=2, pause=0.05))
                for one in mine.consume(lease=60, wait=0.6):
                    # Its deadline tells when the server leased it.
                    began = one.deadline - 60
                    time.sleep(0.02)
                    claims.append((one.item, began, time.time()))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        assert sorted(item for item, _, _ in claims) == sorted(
            f"{name}{number}" for name in "abc" for number in range(8)
        )
        for name in "abc":
            began = sorted(began for item, began, _ in claims if item[0] == name)
            assert all(later - earlier >= 0.05 - 1e-5 for earlier, later in pairwise(began))


def test_a_group_that_is_not_ready_any_more_takes_nobodys_turn(face: Any, raw: Any) -> None:
    """Another program has moved its only item, and so the fourth of the groups is the third to be claimed from."""
    jobs = face.ScheduledSet("jobs", group=lambda item: item[0], turns="fair")
    for item in ("b1", "a1", "a2", "c1", "d1"):
        jobs.add(item, score=1)
    raw.zadd("jobs", {"b1": time.time() + 1000})
    assert jobs.take(3) == ["a1", "c1", "d1"]
    assert jobs.take(3) == ["a2"]


def test_an_addition_to_a_group_that_has_rested_comes_first_if_its_score_is_the_lowest(
    face: Any, clock: FakeClock
) -> None:
    """Of many groups whose rest is over, one claim puts back a few."""
    jobs = face.SortedSet("jobs", group=lambda item: item[:2], per_group=Limit(pause=1))
    names = [f"{number:02}" for number in range(30)]
    jobs.update([f"{name}{item}" for name in names for item in "ab"], score=lambda item: 5 if item[2] == "a" else 6)
    assert len(jobs.take(30)) == 30
    clock.advance(2)
    jobs.add("29c", score=-1)
    assert jobs.take(1) == ["29c"]


@pytest.mark.parametrize("verb", ["discard", "retry"])
def test_a_lease_of_an_item_that_another_program_took_away_and_brought_back_ends(
    face: Any, raw: Any, verb: str
) -> None:
    """The set has forgotten its group meanwhile, but not its place in it."""
    jobs = face.SortedSet("jobs", group=lambda item: item[0], per_group=Limit(leases=1))
    jobs.add("a1", score=1)
    raw.zrem("jobs", "a1")
    jobs.discard("a1") if verb == "discard" else jobs.dead_letters.retry("a1")
    raw.zadd("jobs", {"a1": 1})
    jobs.reserve().ack()
    jobs.add("a2", score=1)
    assert jobs.reserve().item == "a2"


def test_the_order_holds_where_another_program_has_removed_the_first_item_of_a_group(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", group=lambda item: item[0], per_group=Limit(leases=5))
    for item, score in (("a1", 3), ("a2", 1), ("b1", 2)):
        jobs.add(item, score=score)
    raw.zrem("jobs", "a2")
    assert [jobs.pop(), jobs.pop()] == ["b1", "a1"]


def test_many_groups_whose_items_are_gone_hide_no_other(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", group=str)
    jobs.update([f"{number:03}" for number in range(100)])
    raw.zrem("jobs", *(f"{number:03}" for number in range(99)))
    assert jobs.pop() == "099"


def test_the_order_holds_where_another_program_has_removed_a_later_item_of_a_group(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", group=lambda item: item[0])
    for item, score in (("a1", 1), ("a2", 2), ("a3", 3), ("b1", 5)):
        jobs.add(item, score=score)
    raw.zrem("jobs", "a2")
    assert jobs.take(3) == ["a1", "a3", "b1"]


def test_a_call_sends_few_scripts_where_another_program_has_removed_one_of_many_items(
    grouped: Any, raw: Any, clock: FakeClock
) -> None:
    jobs = grouped(per_group=Limit(leases=1))
    jobs.update([f"a{number:04}" for number in range(3000)], score=1)
    held = jobs.reserve()
    raw.zrem("jobs", "a0001")
    raw.config_resetstat()
    assert jobs.reserve_many(1) == []
    assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] < 10
    held.ack()
    assert len(jobs.take(3000)) == 2998


@turns
def test_a_call_ends_where_the_set_may_have_no_more_leases_and_another_program_has_removed_an_item(
    grouped: Any, raw: Any, turns: str
) -> None:
    jobs = grouped(turns=turns)
    for item, score in (("b1", 1), ("c1", 2), ("c2", 3)):
        jobs.add(item, score=score)
    raw.zrem("jobs", "c2")
    jobs.limit(leases=1)
    assert items_of(jobs.reserve_many(2)) == ["b1"]
    assert jobs.reserve_many(2) == []
