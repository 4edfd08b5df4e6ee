"""A set with a `maxsize` takes in no item more: whoever adds, in whatever way, in however many calls at once."""

import asyncio
import queue
from collections.abc import Callable
from typing import Any

import pytest

from faces import Awaited, original_of
from invariants import RawSet
from proxy import Fault
from redset.exceptions import Full, RedsetError

pytestmark = pytest.mark.conformance

#: Every way to add one item to a set of any kind but periodic.
WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda jobs, item: jobs.add(item, 1),
    "add nx": lambda jobs, item: jobs.add(item, 1, nx=True),
    "add gt": lambda jobs, item: jobs.add(item, 1, gt=True),
    "add lt": lambda jobs, item: jobs.add(item, 1, lt=True),
    "update": lambda jobs, item: jobs.update([item]),
    "increment": lambda jobs, item: jobs.increment(item, 1),
    "union": lambda jobs, item: jobs.union_update([item]),
    "symmetric difference": lambda jobs, item: jobs.symmetric_difference_update([item]),
}
#: Ways to add many items.
WAYS_OF_MANY: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda jobs, items: jobs.update(items),
    "union_update": lambda jobs, items: jobs.union_update(items),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "keyed": {"key": str},
    "remembering": {"remember": 60},
    "keyed and remembering": {"key": str, "remember": 60, "digest": True},
    "earliest": {"duplicates": "earliest"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", OPTIONS)
def test_no_addition_exceeds_it(face: Any, raw: Any, options: str, way: str) -> None:
    jobs = face.SortedSet("jobs", **OPTIONS[options])
    jobs.limit(maxsize=3)
    for item in "abc":
        WAYS[way](jobs, item)
    with pytest.raises(Full) as raised:
        WAYS[way](jobs, "d")
    assert raised.value.added == 0
    assert raised.value.name == "jobs"
    assert isinstance(raised.value, RedsetError)
    assert isinstance(raised.value, queue.Full)
    assert sorted(jobs) == ["a", "b", "c"]
    jobs.pop()
    WAYS[way](jobs, "d")
    assert len(jobs) == 3
    assert jobs.totals().left_out == 0
    RawSet(raw, "jobs").check_totals()
    if "keyed" in options:
        assert raw.hlen("{jobs}:values") == 3


class TestRoom:
    def test_waiting_leased_and_delayed_items_take_room(self, face: Any, clock: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs", max_attempts=9)
        jobs.limit(maxsize=3)
        jobs.update("abc", score=1)
        held = jobs.reserve_many(2)
        with pytest.raises(Full):
            jobs.add("d")
        held[0].nack(60)
        with pytest.raises(Full):
            jobs.add("d")
        held[1].ack()
        assert jobs.add("d") == 0
        clock.advance(61)
        assert sorted(jobs.take(9)) == ["a", "c", "d"]
        RawSet(raw, "jobs").check()

    def test_dead_letters_take_none(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=1)
        jobs.add("a")
        jobs.reserve().bury()
        assert jobs.add("b") == 0
        with pytest.raises(Full):
            jobs.add("a")
        assert jobs.dead_letters.retry("a")
        assert len(jobs) == 2
        RawSet(raw, "jobs").check()

    @pytest.mark.parametrize("way", [way for way in WAYS if way != "symmetric difference"])
    def test_a_known_item_always_passes(self, face: Any, raw: Any, way: str) -> None:
        jobs = face.SortedSet("jobs", max_attempts=9)
        jobs.update("abc", score=1)
        held = jobs.reserve_many(2)
        held[1].nack(1000)
        jobs.limit(maxsize=1)
        for item in "abc":
            WAYS[way](jobs, item)
        with pytest.raises(Full):
            WAYS[way](jobs, "d")
        RawSet(raw, "jobs").check()

    def test_a_parked_item_passes(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=1)
        jobs.add("a")
        held = jobs.reserve()
        jobs.add("a")
        assert jobs.take(1) == []
        assert jobs.add("a") == 0
        held.ack()
        assert jobs.take(5) == ["a"]
        RawSet(raw, "jobs").check()

    def test_what_is_left_out_passes(self, face: Any) -> None:
        jobs = face.SortedSet("jobs", remember=60)
        jobs.update("ab")
        jobs.pop()
        jobs.reserve().bury()
        jobs.limit(maxsize=1)
        jobs.add("c")
        assert jobs.add("a") is None
        assert jobs.add("b") is None
        assert jobs.update("abc") == 0
        assert jobs.totals().left_out == 4

    def test_xx_adds_nothing_and_needs_no_room(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=1)
        jobs.add("a")
        assert jobs.add("b", 1, xx=True) is None
        assert jobs.add("a", 5, xx=True, gt=True) == 5

    def test_a_maxsize_below_the_length_keeps_what_is_there(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        jobs.limit(maxsize=1)
        assert len(jobs) == 3
        with pytest.raises(Full):
            jobs.add("d")
        assert len(jobs.take(3)) == 3
        assert jobs.add("d") == 0
        jobs.limit()
        assert jobs.update("efg") == 3

    def test_roll_backs_and_foreign_additions_may_exceed_it(self, frank: Any, frank_proxy: Any, raw: Any) -> None:
        face, proxy = frank, frank_proxy
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=1)
        jobs.add("a")
        proxy.plan(Fault.LOST_REPLY)
        with pytest.raises(Exception, match=r"[Cc]onnection"):
            jobs.pop()
        jobs.add("b")
        assert jobs.take(0) == []
        assert jobs.pop() == "a"
        assert len(jobs) == 1
        raw.zadd("jobs", {"c": 1, "d": 1})
        assert len(jobs) == 3


class TestBulk:
    def test_items_are_added_in_order_until_it_is_full(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=3)
        jobs.add("c", 5)
        with pytest.raises(Full, match="3 were added") as raised:
            jobs.update(["a", "c", "b", "d", "c"], score=1)
        assert raised.value.added == 3
        assert list(jobs.with_scores()) == [("a", 1), ("b", 1), ("c", 1)]
        RawSet(raw, "jobs").check()

    def test_a_leased_item_that_is_added_again_takes_room(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        jobs.reserve()
        jobs.limit(maxsize=2)
        with pytest.raises(Full) as raised:
            jobs.update(["a", "b"], score=1)
        assert raised.value.added == 1
        assert list(jobs) == ["a"]
        RawSet(raw, "jobs").check()

    def test_how_many_is_where_to_go_on(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=4)
        items, rounds = ["a", "b", "a", "c", "d", "e", "a", "f"], 0
        while items:
            try:
                jobs.update(items, score=1)
                items = []
            except Full as full:
                items = items[full.added :]
                rounds += 1
                assert jobs.take(2)
        assert rounds == 2
        assert jobs.totals().added == 7
        RawSet(raw, "jobs").check()

    @pytest.mark.parametrize("maxsize", [999, 1000, 1001, 1999, 2000, 2345])
    def test_across_chunks(self, face: Any, maxsize: int) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=maxsize)
        with pytest.raises(Full) as raised:
            jobs.update(map(str, range(2500)), score=1)
        assert raised.value.added == len(jobs) == maxsize
        assert not hasattr(raised.value, "__notes__")

    @pytest.mark.parametrize("options", OPTIONS)
    def test_operators_too(self, face: Any, options: str) -> None:
        jobs = face.SortedSet("jobs", **OPTIONS[options])
        jobs.limit(maxsize=1200)
        jobs.add("1")
        with pytest.raises(Full) as raised:
            jobs.union_update(map(str, range(1500)))
        assert len(jobs) == 1200
        assert raised.value.added == 1200
        other = face.SortedSet("{jobs}other", **OPTIONS[options])
        other.update(map(str, range(5000, 5005)))
        with pytest.raises(Full):
            jobs.union_update(original_of(other))
        assert len(jobs) == 1200


class TestOverShards:
    @pytest.mark.parametrize("way", WAYS_OF_MANY)
    @pytest.mark.parametrize("kind", ["SortedSet", "ScheduledSet", "PeriodicSet"])
    def test_the_number_counts_the_items_of_all_shards(self, face: Any, kind: str, way: str) -> None:
        options = {"interval": 60} if kind == "PeriodicSet" else {}
        jobs = getattr(face, kind)("jobs", shards=4, **options)
        jobs.limit(maxsize=8)
        items = [f"item {number}" for number in range(20)]
        with pytest.raises(Full, match="8 were added") as raised:
            WAYS_OF_MANY[way](jobs, items)
        assert raised.value.added == len(jobs) == 8
        assert raised.value.name == "jobs"

    def test_items_that_were_there_count_too(self, face: Any) -> None:
        jobs = face.SortedSet("jobs", shards=4)
        items = [f"item {number}" for number in range(20)]
        jobs.update(items[:10])
        jobs.limit(maxsize=12)
        with pytest.raises(Full) as raised:
            jobs.update(items)
        assert 10 <= raised.value.added <= len(jobs) <= 12

    def test_the_number_of_a_later_chunk_counts_the_earlier_ones(self, face: Any) -> None:
        jobs = face.SortedSet("jobs", shards=4)
        jobs.limit(maxsize=1200)
        with pytest.raises(Full) as raised:
            jobs.update(map(str, range(2500)), score=1)
        assert raised.value.added == len(jobs)
        assert 1000 < len(jobs) <= 1200

    @pytest.mark.parametrize("shards", [None, 4])
    def test_one_at_a_time_all_are_added_once_there_is_room(self, face: Any, shards: int | None) -> None:
        jobs = face.SortedSet("jobs", **({"shards": shards} if shards else {}))
        jobs.limit(maxsize=8)
        items, claimed = [f"item {number}" for number in range(40)], []
        for item in items:
            while True:
                try:
                    jobs.add(item)
                    break
                except Full:
                    claimed.append(jobs.pop())
        assert sorted([*claimed, *jobs.take(40)]) == sorted(items)


class TestPeriodic:
    @pytest.mark.parametrize("options", [{}, {"key": str}])
    def test_no_addition_exceeds_it(self, face: Any, raw: Any, options: dict[str, Any]) -> None:
        feeds = face.PeriodicSet("feeds", interval=3600, **options)
        feeds.limit(maxsize=2)
        assert feeds.add("a", interval=60)
        assert feeds.add("b")
        assert not feeds.add("a", interval=30)
        assert feeds.interval("a") == 30
        with pytest.raises(Full):
            feeds.add("c", interval=5)
        with pytest.raises(Full) as raised:
            feeds.update("abcab", interval=7)
        assert raised.value.added == 2
        assert feeds.interval("c") is None
        assert feeds.interval("a") == feeds.interval("b") == 7
        assert not raw.hexists("{feeds}:values", "c")
        held = feeds.reserve()
        with pytest.raises(Full):
            feeds.union_update("cd")
        held.ack()
        with pytest.raises(Full):
            feeds.add("c")
        assert feeds.totals().added == 2
        RawSet(raw, "feeds").check_totals()

    def test_across_chunks(self, face: Any) -> None:
        feeds = face.PeriodicSet("feeds", interval=3600)
        feeds.limit(maxsize=1500)
        with pytest.raises(Full) as raised:
            feeds.update(map(str, range(2500)))
        assert raised.value.added == len(feeds) == 1500


class TestRetries:
    @pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])
    @pytest.mark.parametrize("way", WAYS)
    def test_a_repeated_call_has_the_same_answer(
        self, stubborn: Any, stubborn_proxy: Any, raw: Any, way: str, fault: Fault
    ) -> None:
        face, proxy = stubborn, stubborn_proxy
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=1)
        WAYS[way](jobs, "a")
        # Before it is sent again, there is room.
        proxy.plan(
            *([Fault.NONE] if way == "symmetric difference" else []), fault, meanwhile=lambda: raw.zrem("jobs", "a")
        )
        with pytest.raises(Full):
            WAYS[way](jobs, "b")
        assert list(jobs) == []

    def test_the_number_of_a_bulk_is_that_of_the_first_copy(self, stubborn: Any, stubborn_proxy: Any) -> None:
        face, proxy = stubborn, stubborn_proxy
        jobs = face.SortedSet("jobs")
        jobs.limit(maxsize=2)
        proxy.plan(Fault.LOST_REPLY)
        with pytest.raises(Full) as raised:
            jobs.update("abc")
        assert raised.value.added == 2


class TestTasks:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_each_has_its_own_outcome(self, here: Any, raw: Any, options: str) -> None:
        face = Awaited(here, "redis")
        try:
            jobs = face.SortedSet("jobs", **OPTIONS[options])
            jobs.limit(maxsize=20)
            jobs.update(["known 1", "known 2"], score=1)

            async def add(item: str) -> Any:
                return await jobs._original.add(item, 2)

            async def all_at_once() -> list[Any]:
                items = [*map(str, range(30)), "known 1", "known 2"]
                return await asyncio.gather(*map(add, items), return_exceptions=True)

            outcomes = face.run(all_at_once())
            added = [outcome for outcome in outcomes[:30] if not isinstance(outcome, Exception)]
            assert len(added) == 18
            assert all(isinstance(outcome, Full) for outcome in outcomes[:30] if outcome not in added)
            assert not any(isinstance(outcome, Exception) for outcome in outcomes[30:])
            there = set(jobs)
            assert len(there) == 20
            for number, outcome in enumerate(outcomes[:30]):
                assert (str(number) in there) is not isinstance(outcome, Full)
            RawSet(raw, "jobs").check_totals()
        finally:
            face.close()

    def test_a_forced_addition_without_room_leaves_its_item_dead_or_remembered(self, here: Any, raw: Any) -> None:
        face = Awaited(here, "redis")
        try:
            jobs = face.SortedSet("jobs", remember=60)
            jobs.update(["dead", "done"])
            jobs.reserve().bury()
            jobs.pop()
            jobs.limit(maxsize=2)

            async def all_at_once() -> list[Any]:
                items = ["alone", "first of its call", "dead", "done"]
                additions = [jobs._original.add(item, 2, force=True) for item in items]
                return await asyncio.gather(*additions, return_exceptions=True)

            outcomes = face.run(all_at_once())
            assert outcomes[:2] == [2, 2]
            assert all(isinstance(outcome, Full) for outcome in outcomes[2:])
            assert (jobs.state("dead"), jobs.state("done")) == ("dead", "done")
            assert jobs.totals().revived == 0
            RawSet(raw, "jobs").check_totals()
        finally:
            face.close()

    def test_periodic_ones_too(self, here: Any) -> None:
        face = Awaited(here, "redis")
        try:
            feeds = face.PeriodicSet("feeds", interval=60)
            feeds.limit(maxsize=5)

            async def all_at_once() -> list[Any]:
                adds = (feeds._original.add(str(number)) for number in range(9))
                return await asyncio.gather(*adds, return_exceptions=True)

            outcomes = face.run(all_at_once())
            assert sum(outcome is True for outcome in outcomes) == 5
            assert sum(isinstance(outcome, Full) for outcome in outcomes) == 4
            assert len(feeds) == 5
        finally:
            face.close()
