"""A set over shards: the items are divided among them, and all else is as in a set of one slot."""

import binascii
import json
import math
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redset
from conftest import CLIENT
from redset.core.forms import layout_of
from redset.core.keys import Keys
from redset.core.operations import Operation
from redset.core.shards.layout import Layout
from redset.exceptions import ClusterNameError, Full, LayoutError, LeaseLost, WrongTypeError
from servers import PATIENCE, wait_until

pytestmark = pytest.mark.conformance

S = 5


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs", shards=S)


def numbers(count: int) -> list[str]:
    return [f"{number:04}" for number in range(count)]


def filled(jobs: Any, count: int) -> list[str]:
    items = numbers(count)
    random.Random(1).shuffle(items)
    assert jobs.update(items, score=int) == count
    return sorted(items)


def slot_of(name: str) -> int:
    tag = name[name.index("{") + 1 : name.index("}")]
    return binascii.crc_hqx(tag.encode(), 0) % 16384


def layout(count: int, *, name: str = "jobs", generation: int = 0, digest: bool = False) -> Layout:
    return Layout(name, generation, count, layout_of(frozenset()), digest)


class TestNames:
    @given(
        count=st.integers(1, 80), generation=st.integers(0, 3), name=st.sampled_from(["jobs", "a:b", "{shop}orders"])
    )
    def test_each_shard_is_in_its_part_of_the_slots(self, count: int, generation: int, name: str) -> None:
        names = layout(count, name=name, generation=generation).names
        assert [slot_of(one) * count // 16384 for one in names] == list(range(count))

    def test_names_that_other_programs_know(self) -> None:
        assert layout(3).names == ("{jobs#0.0.1}", "{jobs#0.1.0}", "{jobs#0.2.0}")

    def test_a_tag_of_the_user_is_extended(self) -> None:
        (name,) = layout(1, name="{shop}orders").names
        assert name == "{shop#0.0.0}orders"

    def test_items_are_routed_by_their_crc(self) -> None:
        assert layout(7).shard_of(b"read") == zlib.crc32(b"read") % 7

    def test_the_busiest_shard_has_little_more_than_its_share(self) -> None:
        sixteen = layout(16)
        loads = Counter(sixteen.shard_of(b"https://example.org/%d" % number) for number in range(100_000))
        assert max(loads.values()) < 1.03 * 100_000 / 16

    @pytest.mark.parametrize("name", ["{}jobs", "jobs}", "{jobs", "a}b{c}"])
    def test_braces_that_are_no_tag(self, face: Any, name: str) -> None:
        with pytest.raises(ClusterNameError, match="hash tag"):
            face.SortedSet(name, shards=2).add("a")

    def test_a_name_that_is_nothing_but_a_tag(self, face: Any) -> None:
        """Its shards would have the names of those of another set."""
        with pytest.raises(ClusterNameError, match="'jobs'"):
            face.SortedSet("{jobs}", shards=2).add("a")


class TestTheLayout:
    def test_it_is_recorded_under_the_name_of_the_set(self, jobs: Any, raw: Any) -> None:
        jobs.add("a")
        record = json.loads(raw.hget("jobs", "layout"))
        assert (record["generation"], record["shards"], record["form"], record["digest"]) == (
            0,
            S,
            layout_of(frozenset()),
            False,
        )
        assert [raw.exists(name) for name in record["names"]].count(1) == 1

    def test_another_number_of_shards(self, face: Any, jobs: Any) -> None:
        jobs.add("a")
        with pytest.raises(LayoutError, match=f"has {S} shards, and this object was made with shards=3"):
            face.SortedSet("jobs", shards=3).add("b")
        assert list(jobs) == ["a"]

    def test_the_stored_number(self, face: Any, jobs: Any) -> None:
        filled(jobs, 20)
        stored = face.SortedSet("jobs", shards="stored")
        assert list(stored) == numbers(20)
        assert stored.pop() in numbers(20)

    def test_stored_without_shards_is_a_plain_set(self, face: Any) -> None:
        face.SortedSet("jobs", shards="stored").add("a")
        assert list(face.SortedSet("jobs")) == ["a"]

    def test_an_object_without_shards_adds_nothing_beside(self, face: Any, jobs: Any) -> None:
        jobs.add("a")
        with pytest.raises(TypeError, match="'jobs' has shards"):
            face.SortedSet("jobs").add("b")
        assert list(jobs) == ["a"]

    @pytest.mark.parametrize("emptied", [False, True])
    def test_a_set_without_shards(self, face: Any, emptied: bool) -> None:
        plain = face.SortedSet("jobs")
        plain.add("a")
        if emptied:
            plain.pop()
        with pytest.raises(LayoutError, match="has no shards"):
            face.SortedSet("jobs", shards=S).add("b")

    def test_another_kind(self, face: Any, jobs: Any) -> None:
        jobs.add("a")
        with pytest.raises(LayoutError, match=r"is a SortedSet.*, and this object a PeriodicSet"):
            face.PeriodicSet("jobs", 10, shards=S).add("b")
        with pytest.raises(LayoutError, match="with a key"):
            face.SortedSet("jobs", shards=S, key=str).add("b")
        with pytest.raises(LayoutError, match="digest=False, by which"):
            face.SortedSet("jobs", shards=S, digest=True, remember=60).add("b")

    def test_kinds_that_store_alike(self, face: Any, jobs: Any) -> None:
        jobs.add("a", 1)
        assert face.ScheduledSet("jobs", shards=S).pop() == "a"

    @pytest.mark.parametrize("count", [0, -1, 1025])
    def test_a_number_that_cannot_be(self, face: Any, count: int) -> None:
        with pytest.raises(ValueError, match="at least 1 and at most 1024"):
            face.SortedSet("jobs", shards=count)

    @pytest.mark.parametrize("count", ["16", 1.0, True])
    def test_what_is_no_number(self, face: Any, count: Any) -> None:
        with pytest.raises(TypeError, match="shards must be an int"):
            face.SortedSet("jobs", shards=count)

    def test_it_is_a_set_of_its_class(self, jobs: Any) -> None:
        assert "SortedSet name='jobs'" in repr(jobs)


class TestAdding:
    def test_an_item_is_one_item(self, jobs: Any) -> None:
        assert (jobs.add("a", 1), jobs.add("a", 2), len(jobs), jobs.score("a")) == (1.0, 2.0, 1, 2.0)

    def test_update_counts_new_items(self, jobs: Any) -> None:
        assert jobs.update(numbers(2500), score=int) == 2500
        assert jobs.update(numbers(2600), score=int) == 100
        assert len(jobs) == 2600

    def test_flags_and_increments(self, jobs: Any) -> None:
        assert jobs.add("a", 1, xx=True) is None
        jobs.add("a", 1)
        assert (jobs.add("a", 2, nx=True), jobs.increment("a", 5)) == (1.0, 6.0)

    def test_a_key(self, face: Any) -> None:
        pages = face.SortedSet("jobs", shards=S, key=lambda page: page["url"], serializer=json)
        made = [{"url": f"{number:04}", "version": 1} for number in range(30)]
        pages.update(made, score=lambda page: int(page["url"]))
        pages.add({"url": "0003", "version": 2}, score=3)
        assert pages.get(redset.Key("0003")) == {"url": "0003", "version": 2}
        assert [page["version"] for page in pages] == [1, 1, 1, 2, *[1] * 26]
        assert [page["url"] for page in pages.take(4)] == ["0000", "0001", "0002", "0003"]

    @pytest.mark.skipif(CLIENT == "thirty-lines", reason="it has no pipelines")
    def test_in_a_pipeline(self, face: Any, jobs: Any, here: Any) -> None:
        pipeline = face.client.pipeline(transaction=False) if not hasattr(face.client, "get_nodes") else None
        if pipeline is None:
            pytest.skip("a pipeline of a single server")
        jobs.add_to(pipeline, "a", 1)
        done = pipeline.execute()
        if hasattr(done, "__await__"):
            face.run(done)
        assert list(jobs) == ["a"]


class TestReading:
    def test_in_order(self, jobs: Any) -> None:
        items = filled(jobs, 3000)
        assert list(jobs) == items
        assert list(jobs.reversed()) == items[::-1]
        assert list(jobs.between(100, 2100)) == items[100:2101]
        assert list(jobs.between(100, limit=50, reverse=True)) == items[:-51:-1]
        assert list(jobs.with_scores())[-1] == ("2999", 2999.0)

    def test_ties_are_in_the_order_of_their_bytes(self, jobs: Any) -> None:
        jobs.update(numbers(2500))
        assert list(jobs) == numbers(2500)
        assert jobs.index("1234") == 1234

    def test_positions(self, jobs: Any) -> None:
        items = filled(jobs, 2500)
        assert (jobs[0], jobs[999], jobs[-1], jobs[-1000]) == (items[0], items[999], items[-1], items[-1000])
        assert jobs[10:20] == items[10:20]
        assert jobs[-20:-10] == items[-20:-10]
        assert jobs.peek(3) == items[3]
        assert jobs.index("0042") == 42
        with pytest.raises(ValueError, match="1000"):
            jobs[1200]
        with pytest.raises(IndexError):
            jobs[2500]
        with pytest.raises(ValueError, match="not waiting"):
            jobs.index("other")

    def test_looks(self, jobs: Any) -> None:
        filled(jobs, 100)
        assert "0042" in jobs
        assert "other" not in jobs
        assert jobs.contains_many(["0001", "other", "0003"]) == [True, False, True]
        assert jobs.scores(["0001", "other", "0003"]) == [1.0, None, 3.0]
        assert (jobs.count(), jobs.count(min=10, max=19), jobs.peek(), jobs.peek_score()) == (100, 10, "0000", 0.0)

    def test_stats_and_totals(self, jobs: Any) -> None:
        filled(jobs, 100)
        jobs.take(10)
        jobs.reserve_many(5)
        stats, totals = jobs.stats(), jobs.totals()
        assert (stats.waiting, stats.due, stats.leased, stats.oldest_score) == (85, 85, 5, 15.0)
        assert (totals.added, totals.taken, totals.leased) == (100, 10, 5)
        assert jobs.history()[-1].totals.added > 0

    def test_states(self, jobs: Any) -> None:
        jobs.update(["a", "b"], score=1)
        held = jobs.reserve()
        assert jobs.state(held.item) == "leased"
        assert jobs.inspect(held.item).token == held.token
        assert [lease.item for lease in jobs.leases()] == [held.item]

    def test_operators(self, face: Any, jobs: Any) -> None:
        jobs.update("abcd")
        other = face.SortedSet("other")
        other.update("cdef")
        assert jobs.union(other) == set("abcdef")
        assert jobs.intersection(other) == other.intersection(jobs) == set("cd")
        assert jobs.difference("ab") == set("cd")
        assert other.difference(jobs) == set("ef")
        assert jobs.symmetric_difference(other) == set("abef")
        assert jobs.equals("abcd")
        assert jobs.issubset("abcde")
        jobs.union_update(other)
        jobs.difference_update("ab")
        assert set(jobs) == set("cdef")

    def test_operators_of_two_sets_over_shards(self, face: Any, jobs: Any) -> None:
        jobs.update("abcd")
        other = face.SortedSet("other", shards=3)
        other.update("cdef")
        assert jobs.intersection(other) == set("cd")
        assert jobs.union(other) == set("abcdef")


class TestClaiming:
    def test_all_items_come_once(self, jobs: Any) -> None:
        items = filled(jobs, 200)
        popped = [jobs.pop() for _ in range(200)]
        assert sorted(popped) == items
        with pytest.raises(KeyError, match="'jobs'"):
            jobs.pop()

    @pytest.mark.parametrize("num", [2, 7, 150, 2500])
    def test_several_are_the_lowest_in_order(self, jobs: Any, num: int) -> None:
        items = filled(jobs, 2600)
        assert jobs.take(num) == items[:num]
        assert [one.item for one in jobs.reserve_many(50)] == items[num : num + 50]

    def test_the_highest(self, jobs: Any) -> None:
        items = filled(jobs, 100)
        assert jobs.take_max(10) == items[:-11:-1]
        assert jobs.pop_max() in items

    def test_where_one_shard_has_all(self, jobs: Any) -> None:
        items = [item for item in numbers(2000) if zlib.crc32(item.encode()) % S == 2]
        jobs.update(items, score=int)
        assert jobs.take(300) == items[:300]
        assert jobs.pop() == items[300]

    @pytest.mark.parametrize("num", [1, 2])
    def test_many_that_are_leased_hide_no_other(self, jobs: Any, num: int) -> None:
        """A claim parks some of them, and the caller goes on."""
        items = numbers(2000)
        jobs.update(items, score=1)
        held = jobs.reserve_many(2000)
        assert len(held) == 2000
        jobs.update([*items, "free", "another"], score=lambda item: 1 if item.isdigit() else 2)
        assert len(jobs.take(num) if num > 1 else [jobs.pop()]) == num

    def test_items_that_are_not_due(self, face: Any) -> None:
        later = face.ScheduledSet("jobs", shards=S)
        later.update([f"later {number}" for number in range(20)], score=time.time() + 60)
        later.add("now", 1)
        assert later.available() == 1
        assert later.take(5) == ["now"]
        with pytest.raises(KeyError):
            later.peek(1)

    def test_the_order_of_single_claims_is_near_that_of_the_scores(self, jobs: Any) -> None:
        filled(jobs, 1000)
        popped = [int(jobs.pop()) for _ in range(500)]
        gone: set[int] = set()
        passed = []
        for number in popped:
            passed.append(number - sum(1 for one in gone if one < number))
            gone.add(number)
        # 5S/6 - 1 = 3.2 for two choices, and a little more for random ones.
        assert sum(passed[50:]) / 450 < 5 * S / 6 - 1 + 2.5

    def test_what_cannot_be_loaded_is_dead(self, face: Any) -> None:
        face.SortedSet("jobs", shards=S).update(["1", "no json", "3"], score=1)
        assert sorted(face.SortedSet("jobs", shards=S, serializer=json).take(10)) == [1, 3]
        assert [letter.raw for letter in face.SortedSet("jobs", shards=S).dead_letters] == [b"no json"]


class TestLeases:
    def test_each_way_to_end_one(self, face: Any) -> None:
        jobs = face.SortedSet("jobs", shards=S, max_attempts=1, remember=60)
        jobs.update("abcdefgh")
        held = {one.item: one for one in jobs.reserve_many(8)}
        held["a"].ack()
        held["b"].nack(reason="no")
        held["c"].again()
        held["d"].bury("why")
        held["e"].extend(100)
        assert jobs.ack([held["e"], held["f"]]) == []
        assert jobs.again([held["g"], held["h"]]) == []
        with pytest.raises(LeaseLost):
            held["a"].ack()
        assert [one.item for one in jobs.ack([held["h"], held["g"]])] == ["h", "g"]
        stats = jobs.stats()
        assert (stats.waiting, stats.leased, stats.done, stats.dead) == (3, 0, 3, 2)
        assert jobs.is_done("a")
        assert jobs.add("a") is None
        assert jobs.forget("a")
        assert jobs.add("a") == 0.0

    def test_tokens_grow(self, jobs: Any) -> None:
        jobs.add("a")
        tokens = []
        for _ in range(5):
            held = jobs.reserve()
            tokens.append(held.token)
            held.again()
        assert all(one < other for one, other in pairwise(tokens))

    def test_a_receipt(self, face: Any, jobs: Any) -> None:
        jobs.add("a")
        text = jobs.reserve().receipt
        face.SortedSet("jobs", shards=S).reservation(text).ack()
        assert jobs.stats().leased == 0

    def test_an_expired_lease_comes_back(self, jobs: Any) -> None:
        jobs.add("a")
        jobs.reserve(lease=0.01)
        wait_until(lambda: jobs.stats().expired)
        assert jobs.reserve().attempt == 2

    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_loop_acks_all(self, jobs: Any, batch: int) -> None:
        items = filled(jobs, 50)
        assert sorted(one.item for one in jobs.consume(wait=0, batch=batch)) == items
        assert (jobs.totals().acked, jobs.stats().leased) == (50, 0)

    def test_leaving_a_loop_gives_back(self, jobs: Any) -> None:
        filled(jobs, 50)
        loop = jobs.consume(batch=3)
        for _ in range(4):
            next(loop)
        loop.close()
        totals = jobs.totals()
        assert totals.acked + totals.nacked + totals.given_back == totals.leased
        assert (totals.nacked, jobs.stats().leased) == (1, 0)

    def test_an_ack_is_not_held_back(self, jobs: Any) -> None:
        filled(jobs, 20)
        loop = jobs.consume()
        next(loop)
        for done in range(1, 10):
            next(loop)
            assert jobs.totals().acked == done
        loop.close()

    def test_dead_letters(self, jobs: Any) -> None:
        filled(jobs, 20)
        for held in jobs.reserve_many(20):
            held.bury("no")
        letters = jobs.dead_letters
        assert len(letters) == 20
        assert sorted(letter.item for letter in letters) == numbers(20)
        died = [letter.died_at for letter in letters]
        assert died == sorted(died, reverse=True)
        assert [letter.item for letter in letters[:3]] == [letter.item for letter in letters][:3]
        assert letters.retry("0003")
        assert letters.discard(letters[0:1][0])
        assert letters.retry_all() == 18
        assert (jobs.stats().waiting, letters.clear()) == (19, 0)


WAYS: dict[str, Callable[[Any], str]] = {
    "pop": lambda jobs: str(jobs.pop(wait=PATIENCE)),
    "take": lambda jobs: str(jobs.take(2, wait=PATIENCE)[0]),
    "reserve": lambda jobs: str(jobs.reserve(wait=PATIENCE).item),
    "reserve_many": lambda jobs: str(jobs.reserve_many(2, wait=PATIENCE)[0].item),
    "consume": lambda jobs: str(next(jobs.consume(wait=PATIENCE)).item),
}


class TestWaiting:
    @pytest.mark.parametrize("way", WAYS)
    def test_an_item_in_any_shard_wakes(self, jobs: Any, raw: Any, way: str) -> None:
        with ThreadPoolExecutor() as threads:
            future = threads.submit(WAYS[way], jobs)
            wait_until(lambda: all(raw.exists(Keys(name).looks) for name in layout(S).names))
            jobs.add("item")
            assert future.result(PATIENCE) == "item"

    @pytest.mark.parametrize("kind", ["paused", "scheduled"])
    def test_items_in_several_shards_that_fall_due_together_are_claimed_at_once(
        self, face: Any, raw: Any, kind: str
    ) -> None:
        jobs = getattr(face, "SortedSet" if kind == "paused" else "ScheduledSet")("jobs", shards=S, poll=30)
        by_shard = {layout(S).shard_of(item.encode()): item for item in numbers(100)}
        assert len(by_shard) == S
        due = time.time() + 1
        jobs.update(by_shard.values(), score=0 if kind == "paused" else due)
        if kind == "paused":
            jobs.pause(due)

        def claim() -> tuple[str, float]:
            return jobs.pop(wait=6), time.time()

        with ThreadPoolExecutor(S) as threads:
            futures = [threads.submit(claim) for _ in range(S)]
            wait_until(lambda: all(raw.exists(Keys(name).looks) for name in layout(S).names))
            claimed = [future.result(PATIENCE) for future in futures]
        assert sorted(item for item, _ in claimed) == sorted(by_shard.values())
        assert max(at for _, at in claimed) < due + 2.5

    def test_it_ends_on_time(self, jobs: Any) -> None:
        began = time.monotonic()
        with pytest.raises(KeyError):
            jobs.pop(wait=0.3)
        assert jobs.take(3, wait=0.3) == []
        assert 0.6 <= time.monotonic() - began < PATIENCE / 4


def test_a_hash_of_another_program_is_not_taken_for_shards(face: Any, raw: Any) -> None:
    raw.hset("jobs", "layout", "of another program")
    with pytest.raises(WrongTypeError, match="'jobs' holds"):
        face.SortedSet("jobs").add("a")


class TestRemoving:
    def test_by_item(self, jobs: Any) -> None:
        filled(jobs, 10)
        assert jobs.discard("0003")
        assert not jobs.discard("0003")
        jobs.remove("0004")
        with pytest.raises(KeyError):
            jobs.remove("0004")

    def test_by_score(self, jobs: Any) -> None:
        filled(jobs, 100)
        assert jobs.remove_between(10, 19) == 10
        assert len(jobs) == 90

    def test_by_position_raises(self, jobs: Any) -> None:
        filled(jobs, 3)
        with pytest.raises(TypeError, match="over shards"):
            jobs.remove_at(0)
        with pytest.raises(TypeError, match="over shards"):
            jobs.remove_slice(0, 2)

    def test_clear(self, jobs: Any) -> None:
        assert not jobs.clear()
        filled(jobs, 100)
        assert jobs.clear()
        assert (len(jobs), jobs.pop(wait=0) if len(jobs) else None) == (0, None)


class TestGates:
    def test_a_pause_holds_in_every_shard(self, jobs: Any) -> None:
        filled(jobs, 20)
        jobs.pause()
        assert jobs.take(20) == []
        assert jobs.stats().paused_until == float("inf")
        jobs.resume()
        assert len(jobs.take(20)) == 20

    def test_limits_are_divided(self, jobs: Any) -> None:
        jobs.limit(leases=7, maxsize=12, rate=10, burst=10)
        limits = jobs.stats().limits
        assert (limits.leases, limits.maxsize, limits.rate, limits.burst) == (7, 12, 10.0, 10)
        jobs.limit(leases=7)
        filled(jobs, 200)
        assert len(jobs.reserve_many(200)) == 7

    def test_a_full_set(self, jobs: Any) -> None:
        jobs.limit(maxsize=10)
        with pytest.raises(Full):
            jobs.update(numbers(100))
        assert len(jobs) <= 10

    @pytest.mark.parametrize("limit", ["rate", "leases", "maxsize"])
    def test_less_than_one_for_each_shard(self, jobs: Any, limit: str) -> None:
        with pytest.raises(ValueError, match=f"{limit} must be at least {S}"):
            jobs.limit(**{limit: S - 1})


class TestPeriodic:
    def test_ticks(self, face: Any) -> None:
        ticks = face.PeriodicSet("jobs", 3600, shards=S)
        assert ticks.update(numbers(20)) == 20
        assert ticks.update(numbers(25)[20:], interval=60) == 5
        assert sorted(one.item for one in ticks.consume(wait=0)) == numbers(25)
        assert ticks.interval("0001") == 3600
        assert ticks.interval("0024") == 60
        assert not ticks.add("0001")
        ticks.trigger("0001")
        assert ticks.pop() == "0001"
        ticks.reschedule("0002", 1)
        assert ticks.next_due("0002") == 1


class TestExpiring:
    @pytest.mark.parametrize("digest", [False, True])
    def test_items_live_for_their_time(self, face: Any, digest: bool) -> None:
        seen = face.ExpiringSet("jobs", 600, shards=S, digest=digest)
        assert (seen.add("a"), seen.add("a"), "a" in seen, "b" in seen) == (True, False, True, False)
        assert seen.add_new([*numbers(1500), "a", "0000"]) == numbers(1500)
        assert len(seen) == 1501
        assert seen.contains_many(["a", "b"]) == [True, False]
        assert 500 < seen.ttl("a") <= 600
        assert seen.touch("a", 0.01)
        wait_until(lambda: "a" not in seen)
        assert seen.discard("0001")
        with pytest.raises(KeyError):
            seen.remove("0001")
        assert seen.issuperset(["0002", "0003"])
        assert seen.clear()
        assert len(seen) == 0

    def test_the_first_that_expires(self, face: Any) -> None:
        seen = face.ExpiringSet("jobs", 600, shards=S)
        for number, item in enumerate(numbers(20)):
            seen.add(item, 100 + number)
        assert list(seen) == numbers(20)
        assert seen.pop() == "0000"
        assert seen.union(["b"]) == {"b", *numbers(20)[1:]}
        seen.difference_update(numbers(19))
        assert (seen.pop(), seen.copy()) == ("0019", set())
        with pytest.raises(KeyError, match="'jobs'"):
            seen.pop()

    def test_another_layout(self, face: Any) -> None:
        face.ExpiringSet("jobs", 600, shards=S).add("a")
        with pytest.raises(LayoutError, match="is an ExpiringSet"):
            face.SortedSet("jobs", shards=S).add("a")
        with pytest.raises(LayoutError, match="digests"):
            face.ExpiringSet("jobs", 600, shards=S, digest=True).add("a")
        with pytest.raises(TypeError):
            face.ExpiringSet("jobs", 600).add("a")
        assert face.ExpiringSet("jobs", 600, shards="stored").copy() == {"a"}


class TestTheRegistry:
    def test_shards_are_not_listed(self, face: Any, jobs: Any, here: Any) -> None:
        filled(jobs, 20)
        if face.__class__.__name__ == "Blocking":
            (info,) = redset.list_sets(face.client)
            assert (info.name, info.kind, info.options["shards"]) == ("jobs", "SortedSet", S)
            assert sorted(redset.open_set(face.client, "jobs")) == [item.encode() for item in numbers(20)]
            assert redset.forget_set(face.client, "jobs")
            assert redset.list_sets(face.client) == []
            assert list(redset.SortedSet(face.client, "jobs", shards=3)) == []


class TestTrouble:
    def test_a_shard_that_fails_is_left_alone(self, jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        items = filled(jobs, 100)
        shards = getattr(jobs, "_original", jobs)._shards
        broken = shards.all[2]
        lost = [item for item in items if shards.of(item.encode()) is broken]
        wrong = Operation("NOSUCHCOMMAND", (broken.name.encode(),), (), list)
        monkeypatch.setattr(broken.parts.claims, "claim", lambda *_, **__: wrong)

        popped = []
        for _ in range(100 - len(lost)):
            broken.rest.until = 0.0
            popped.append(jobs.pop())
        assert sorted([*popped, *lost]) == items
        broken.rest.until = 0.0
        with pytest.raises(Exception, match=r"(?i)nosuchcommand"):
            jobs.pop()

    def test_an_interrupted_call_claims_nothing(self, face: Any) -> None:
        class Interrupted:
            loads_left = 15

            def dumps(self, item: str) -> str:
                return item

            def loads(self, stored: str) -> str:
                self.loads_left -= 1
                if self.loads_left == 0:
                    raise Interruption
                return stored

        class Interruption(BaseException):
            pass

        jobs = face.SortedSet("jobs", shards=S, serializer=Interrupted())
        filled(jobs, 40)
        with pytest.raises(Interruption):
            jobs.take(20)
        assert (len(jobs), jobs.totals().takes_rolled_back) == (40, jobs.totals().taken)
        assert len(jobs.take(50)) == 40

    def test_many_threads_claim_each_item_once(self, face: Any, jobs: Any) -> None:
        items = filled(jobs, 400)
        with ThreadPoolExecutor(8) as threads:
            taken = list(threads.map(lambda _: [jobs.pop(), *jobs.take(3), jobs.reserve().item], range(80)))
        assert sorted(item for some in taken for item in some) == items


def test_a_wait_for_what_is_never_due_ends(face: Any) -> None:
    jobs = face.ScheduledSet("jobs", shards=2)
    jobs.add("a", score=math.inf)
    with pytest.raises(KeyError):
        jobs.reserve(wait=0.3)
    assert jobs.score("a") == math.inf
