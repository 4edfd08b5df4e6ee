"""Trouble loses no item and strands no group: full servers, keys of a wrong type, lost replies, killed consumers."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis

import redset
import redset.aio
from clients import close_awaited
from faces import Awaited, Face
from group_keys import GroupedRawSet
from proxy import Fault, Proxy
from redset import Limit
from redset.core.groups import Sorting
from redset.core.keys import Keys
from redset.exceptions import LeaseLost, RedsetError, ServerFullError, WrongTypeError
from servers import Cluster, FakeClock, Place, wait_until

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

LIMIT = Limit(leases=2)
turns = pytest.mark.parametrize("turns", ["score", "fair"])


def first_letter(item: Any) -> str:
    return str(item)[0]


def made(
    face: Any, turns: str = "score", per_group: Limit | None = LIMIT, kind: str = "SortedSet", **options: Any
) -> Any:
    return getattr(face, kind)("jobs", group=first_letter, per_group=per_group, turns=turns, **options)


def stored_in(raw: Any, *, fair: bool = False, most: int = 2) -> GroupedRawSet:
    stored = GroupedRawSet(raw, "jobs")
    stored.expect(lambda item: item[:1], fair=fair, most=most)
    return stored


def contents(raw: Any) -> dict[bytes, Any]:
    """All keys but the records of calls."""
    keys = [key for key in raw.scan_iter() if not key.startswith(Keys("jobs").call_prefix)]
    return {key: raw.dump(key) for key in keys}


#: Calls on a set with items in each state, and leases of the first items of two groups.
CALLS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "add": lambda jobs, held: jobs.add("c9"),
    "update": lambda jobs, held: jobs.update(["c9", "a1", "d1"]),
    "increment": lambda jobs, held: jobs.increment("b3", 1),
    "take": lambda jobs, held: jobs.take(3),
    "reserve_many": lambda jobs, held: jobs.reserve_many(3),
    "ack": lambda jobs, held: held[0].ack(),
    "ack together": lambda jobs, held: jobs.ack(held),
    "nack": lambda jobs, held: held[0].nack(0),
    "nack, delayed": lambda jobs, held: held[0].nack(10),
    "again": lambda jobs, held: held[0].again(5),
    "again, the group": lambda jobs, held: held[0].again(5, group=True),
    "bury": lambda jobs, held: held[0].bury("why"),
    "discard": lambda jobs, held: jobs.discard("a1"),
    "remove_slice": lambda jobs, held: jobs.remove_slice(0, 2),
    "remove_between": lambda jobs, held: jobs.remove_between(0, 2),
    "clear": lambda jobs, held: jobs.clear(),
    "retry": lambda jobs, held: jobs.dead_letters.retry("d1"),
    "forget": lambda jobs, held: jobs.dead_letters.discard("d1"),
    "limit": lambda jobs, held: jobs.group("a").limit(leases=1),
    "pause": lambda jobs, held: jobs.group("a").pause(),
    "resume": lambda jobs, held: jobs.group("a").resume(),
}
calls = pytest.mark.parametrize("call", CALLS)


def prepared(face: Any, turns: str) -> tuple[Any, list[Any]]:
    jobs = made(face, turns, max_attempts=3)
    jobs.add("d1", score=-5)
    jobs.reserve().bury("dead")
    jobs.update([f"{name}{number}" for name in "ab" for number in range(1, 5)], score=lambda item: int(item[1]))
    held = jobs.reserve_many(3, lease=1000)
    held.pop().nack(delay=500)
    jobs.add("a1", score=7)
    return jobs, held


class TestAFullServer:
    @calls
    @turns
    def test_a_call_changes_all_or_nothing(self, face: Any, raw: Any, filling: Any, call: str, turns: str) -> None:
        jobs, held = prepared(face, turns)
        before = contents(raw)
        filling()
        try:
            CALLS[call](jobs, held)
        except ServerFullError:
            assert contents(raw) == before
            assert call in {"add", "update", "increment"}
        raw.config_set("maxmemory", "0")
        stored_in(raw, fair=turns == "fair").check()

    @turns
    def test_groups_that_rested_are_claimed_from(self, face: Any, raw: Any, filling: Any, turns: str) -> None:
        jobs = made(face, turns, Limit(pause=0.05))
        jobs.update(["a1", "a2", "b1"])
        assert jobs.take(5) == ["a1", "b1"]
        time.sleep(0.06)
        filling()
        assert jobs.take(5) == ["a2"]


class TestKeysOfAWrongType:
    @calls
    @pytest.mark.parametrize("key", ["group", "groups", "ready", "resting", "busy", "limits", "upcoming"])
    def test_a_call_is_refused_and_loses_nothing(self, face: Any, raw: Any, call: str, key: str) -> None:
        jobs, held = prepared(face, "score")
        name = getattr(Keys("jobs"), key)
        kept = raw.dump(name)
        raw.set(name, "text")
        before = contents(raw)
        refusal = None
        try:
            CALLS[call](jobs, held)
        except WrongTypeError as error:
            refusal = error
        if refusal:
            assert name.decode() in str(refusal)
            # An addition does not ask for the types of all keys, which would take as long as the rest of it.
            assert call in {"add", "update", "increment"} or contents(raw) == before
        raw.delete(name)
        if kept:
            raw.restore(name, 0, kept)
        # What an addition has not told the index is found.
        jobs.group("a").limit()
        jobs.group("a").resume()
        for one in held:
            with suppress(LeaseLost):
                one.ack()
        for _ in range(10):
            jobs.take(10)
        if key not in {"busy", "resting", "ready", "groups", "group"} or call in {"add", "update", "increment"}:
            assert len(jobs) == 0

    @pytest.mark.parametrize("key", ["resting", "ready", "upcoming", "limits"])
    def test_a_group_that_has_rested_is_not_lost(self, face: Any, raw: Any, key: str) -> None:
        jobs = made(face, "fair", Limit(pause=0.02), "ScheduledSet")
        jobs.update(["a1", "a2"], score=1)
        jobs.take(1)
        time.sleep(0.03)
        name = getattr(Keys("jobs"), key)
        kept = raw.dump(name)
        raw.set(name, "text")
        try:
            got = jobs.take(1)
        except RedsetError:
            got = []
        raw.delete(name)
        if kept and key != "upcoming":
            raw.restore(name, 0, kept)
        assert got + jobs.take(1) == ["a2"]

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
    def test_a_count_of_leases_that_is_none_loses_no_item(self, face: Any, raw: Any, count: int) -> None:
        jobs = made(face)
        items = [f"{name}{number}" for name in "ab" for number in range(4)]
        jobs.update(items, score=lambda item: (item[0] == "b") * 100 + int(item[1]))
        raw.set(Keys("jobs").busy, "no hash")
        taken = jobs.take(count)
        assert len(taken) == count
        assert sorted([*taken, *(item.decode() for item in raw.zrange("jobs", 0, -1))]) == items


class TestLostReplies:
    @pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.LOST_COMMAND])
    @pytest.mark.parametrize("options", [{}, {"key": str}, {"remember": 60}], ids=str)
    @turns
    def test_repeated_calls_change_things_once(
        self, stubborn: Face, stubborn_proxy: Proxy, raw: Any, fault: Fault, options: Any, turns: str
    ) -> None:
        jobs = made(stubborn, turns, **options)
        jobs.add("z0")
        jobs.discard("z0")
        got: list[str] = []

        def disturbed(call: Callable[[], Any]) -> Any:
            stubborn_proxy.plan(fault)
            return call()

        disturbed(lambda: jobs.update(["a1", "a2", "a3", "b1", "b2", "b3"], score=lambda item: int(item[1])))
        held = disturbed(lambda: jobs.reserve_many(3))
        assert len(held) == 3
        got += disturbed(lambda: jobs.take(1))
        disturbed(lambda: held[0].ack())
        disturbed(lambda: held[1].again(0, group=False))
        disturbed(lambda: jobs.group("a").pause())
        disturbed(lambda: jobs.group("a").resume())
        disturbed(lambda: jobs.group("b").limit(leases=1))
        stored_in(raw, fair=turns == "fair").check(frozenset() if "key" in options else None)
        jobs.group("b").limit()
        got += [held[0].item]
        held[2].again()
        while more := disturbed(lambda: jobs.take(2)):
            got += more
        assert sorted(got) == ["a1", "a2", "a3", "b1", "b2", "b3"]
        stored_in(raw, fair=turns == "fair").check(frozenset() if "key" in options else None)

    @turns
    def test_a_claim_that_nobody_reads_comes_back(self, frank: Face, frank_proxy: Proxy, raw: Any, turns: str) -> None:
        jobs = made(frank, turns)
        jobs.update(["a1", "a2", "a3", "b1"], score=lambda item: int(item[1]))
        claims: list[Callable[[], Any]] = [lambda: jobs.reserve_many(3), lambda: jobs.take(3)]
        for claim in claims:
            frank_proxy.plan(Fault.LOST_REPLY)
            with pytest.raises(Exception):  # noqa: B017 - whatever the client raises
                claim()
        assert sorted(one.item for one in jobs.reserve_many(5)) == ["a1", "a2", "b1"]
        stored_in(raw, fair=turns == "fair").check()


class TestFullServer:
    @pytest.fixture
    def fill(self, clock: FakeClock, raw: Any) -> Iterator[Callable[[], None]]:
        policy = raw.config_get("maxmemory-policy")["maxmemory-policy"]

        def full() -> None:
            raw.config_set("maxmemory-policy", "noeviction")
            raw.config_set("maxmemory", "1")

        yield full
        raw.config_set("maxmemory", "0")
        raw.config_set("maxmemory-policy", policy)

    @turns
    def test_a_claim_that_gets_nothing_ends(
        self, face: Any, raw: Any, clock: FakeClock, fill: Callable[[], None], turns: str
    ) -> None:
        jobs = made(face, turns)
        jobs.add("a1")
        jobs.take(1)
        fill()
        # The first claim of a minute notes the totals, which a full server refuses.
        clock.advance(61)
        raw.config_resetstat()
        assert jobs.take(1) == []
        assert jobs.reserve_many(1) == []
        assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] < 10

    @turns
    def test_items_of_other_programs_do_not_keep_others_from_being_claimed(
        self, face: Any, raw: Any, fill: Callable[[], None], turns: str
    ) -> None:
        jobs = made(face, turns)
        jobs.update(["a1", "b1", "c1"], score=1)
        raw.zadd("jobs", {"x1": 5})
        fill()
        assert jobs.take(2) == ["a1", "b1"]
        assert jobs.reserve().item == "c1"
        raw.config_set("maxmemory", "0")
        assert jobs.take(1) == ["x1"]


class TestKilledConsumers:
    def test_others_handle_what_they_had_and_no_limit_is_exceeded(self, process: Any, raw: Any) -> None:
        jobs = made(partial_face(raw))
        jobs.update([f"{name}{number}" for name in "abc" for number in range(20)])
        consumers = [process(consume) for _ in range(3)]
        deadline = time.time() + 40
        for _ in range(4):
            victim = consumers.pop(0)
            wait_until(partial(has_begun, raw, victim.pid))
            victim.kill()
            victim.join()
            consumers.append(process(consume))
        while raw.scard("handled") < 60 and time.time() < deadline:
            live = Counter(
                item[:1] for item, until in raw.zrange(Keys("jobs").leased, 0, -1, withscores=True) if until > 0
            )
            assert max(live.values(), default=0) <= 2, live
            time.sleep(0.02)
        assert raw.scard("handled") == 60
        wait_until(lambda: jobs.stats().leased + jobs.stats().expired == 0)
        raw.delete("handled", "in hand")
        stored_in(raw).check()


def has_begun(raw: Any, pid: int) -> bool:
    """Whether a consumer has had an item, or has come too late for one."""
    return bool(raw.hexists("in hand", pid) or raw.scard("handled") == 60)


def partial_face(client: Any) -> Any:
    class OnClient:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            return partial(getattr(redset, name), client)

    return OnClient()


def consume(url: str) -> None:
    import os

    with redis.Redis.from_url(url) as client:
        jobs = made(partial_face(client))
        for one in jobs.consume(lease=0.5, wait=5):
            client.hset("in hand", str(os.getpid()), one.item)
            time.sleep(0.02)
            client.sadd("handled", one.item)


class TestManyTasks:
    """Calls of many tasks are one call of the server, and each has its own outcome."""

    @pytest.fixture
    def run(self, here: Place) -> Callable[[Callable[[Any], Any]], Any]:
        def run(main: Callable[[Any], Any]) -> Any:
            async def called() -> Any:
                client = here.client(awaited=True)
                try:
                    return await main(client)
                finally:
                    await close_awaited(client)

            return asyncio.run(called())

        return run

    @pytest.mark.parametrize("options", [{}, {"key": str}], ids=str)
    @turns
    def test_of_additions_and_claims(self, run: Any, raw: Any, options: Any, turns: str) -> None:
        async def main(client: Any) -> None:
            kind: Any = redset.aio.SortedSet
            jobs = kind(client, "jobs", group=first_letter, per_group=LIMIT, turns=turns, **options)
            names = [f"{name}{number}" for name in "abc" for number in range(5)]
            assert await asyncio.gather(*(jobs.add(name, score=1) for name in names)) == [1.0] * 15
            bad = await asyncio.gather(jobs.add("", score=1), jobs.add("d1", score=1), return_exceptions=True)
            assert isinstance(bad[0], Exception)
            held = await asyncio.gather(*(jobs.reserve() for _ in range(20)), return_exceptions=True)
            claimed: list[Any] = [one for one in held if not isinstance(one, KeyError)]
            assert Counter(one.item[0] for one in claimed) == {"a": 2, "b": 2, "c": 2, "d": 1}
            await asyncio.gather(*(one.ack() for one in claimed))
            taken = await asyncio.gather(*(jobs.take(2) for _ in range(10)))
            assert sum(map(len, taken)) == 9

        run(main)
        stored_in(raw, fair=turns == "fair").check()


class TestPipelines:
    def test_additions(self, face: Any, raw: Any, here: Any) -> None:
        if not hasattr(face.client, "pipeline"):
            pytest.skip("it has no pipelines")
        jobs = made(face)
        jobs.add("a0")

        def pipeline() -> Any:
            return face.client.pipeline() if isinstance(here, Cluster) else face.client.pipeline(transaction=True)

        batch = face.call(pipeline) if isinstance(face, Awaited) else pipeline()
        jobs.add_to(batch, "a1", score=1)
        jobs.add_to(batch, "b1", score=2)
        face.call(batch.execute) if isinstance(face, Awaited) else batch.execute()
        stored_in(raw).check()
        assert jobs.take(3) == ["a0", "a1", "b1"]


class TestSeveralSets:
    @pytest.mark.parametrize("how", ["first_of", "shared"])
    @turns
    def test_limits_hold_in_each(self, face: Any, how: str, turns: str) -> None:
        high = face.SortedSet("high", group=first_letter, per_group=Limit(leases=1), turns=turns)
        low = face.SortedSet("low", group=first_letter, per_group=Limit(leases=1), turns=turns)
        high.update(["a1", "a2", "b1"])
        low.update(["a1", "a3", "c1"])
        several = face.several(how, high, low) if how == "first_of" else face.several(how, [(high, 2), (low, 1)])
        held = several.reserve_many(10)
        assert sorted((one.set_name, one.item) for one in held) == [
            ("high", "a1"),
            ("high", "b1"),
            ("low", "a1"),
            ("low", "c1"),
        ]
        assert several.reserve_many(10) == []
        next(one for one in held if (one.set_name, one.item) == ("low", "a1")).ack()
        assert [one.item for one in several.reserve_many(10)] == ["a3"]

    def test_a_waiter_wakes_when_a_group_of_one_may_be_claimed_from(self, face: Any) -> None:
        high = face.SortedSet("high", group=first_letter, per_group=Limit(pause=0.5))
        low = face.SortedSet("low", group=first_letter, per_group=Limit(pause=60))
        high.update(["a1", "a2"])
        low.update(["a1", "a2"])
        several = face.several("first_of", high, low)
        began = time.time()
        assert several.take(2) == ["a1", "a1"]
        assert several.pop(wait=20) == "a2"
        assert 0.4 < time.time() - began < 10


class Interrupted(Exception):
    """Raised by nothing that belongs to the server or to its client."""


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), Interrupted()], ids=repr)
def test_acks_have_arrived_although_others_items_could_not_get_their_groups(
    face: Any, raw: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The claim that acks has been executed by then, and its loop learns that."""
    jobs = face.SortedSet("jobs", group=lambda item: item[0], per_group=Limit(leases=1))
    jobs.add("a1")
    loop = jobs.consume(wait=0)
    held = next(loop)
    raw.zadd("jobs", {"b1": 1})

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Sorting, "_operation", fail)
        with pytest.raises(type(error)):
            next(loop)
    loop.close()
    assert (held.item, loop.lost, bool(held.lost)) == ("a1", 0, False)
    assert jobs.totals().acked == 1
    assert jobs.pop() == "b1"


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_outlives_faults_also_between_a_claim_and_the_groups_of_others_items(
    frank: Face, frank_proxy: Proxy, raw: Any, seed: int
) -> None:
    """What was claimed is neither lost nor received twice, and each ack arrives once."""
    chance = random.Random(seed)
    jobs = frank.SortedSet("jobs", group=lambda item: item[-1])
    jobs.update([f"{number:03}" for number in range(30)])
    items: list[str] = []
    loop = jobs.consume(wait=5, batch=chance.choice([1, 5]), stop=lambda: len(set(items)) == 60)
    for number, held in enumerate(loop):
        items.append(held.item)
        if number < 30:
            raw.zadd("jobs", {f"other {number:02}": 0})
        if number >= 50:
            # The end of a loop, with its last acks, is tried once.
            frank_proxy.forget()
        elif not frank_proxy.is_planned:
            frank_proxy.plan(
                *chance.randrange(4) * [Fault.NONE],
                chance.choice([Fault.LOST_COMMAND, Fault.LOST_REPLY, Fault.CUT_REPLY]),
            )
    assert loop.lost == 0
    assert len(items) == len(set(items)) == 60
    assert jobs.stats().leased == 0
