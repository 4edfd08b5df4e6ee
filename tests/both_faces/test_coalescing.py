"""Coalesced calls of many tasks: each task has its own result or error, and one that is cancelled affects no other."""

import asyncio
import contextlib
import gc
import itertools
import random
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

import redset
import redset.aio
from clients import close_awaited
from conftest import CLIENT
from faces import CLIENTS
from invariants import RawSet
from proxy import Chance, Fault, Proxy
from redset.core import coalescing
from redset.core.calls import state_of
from redset.core.keys import Keys
from redset.core.retries import tries_once
from redset.exceptions import LeaseLost, RedsetError
from servers import Server, eventually, load_scripts

pytestmark = pytest.mark.usefixtures("without_registry")

PREFIX = Keys("jobs").call_prefix

SCRIPTS = ("add", "claim", "end", "living", "release", "remove", "rollback")


Start: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]


class Gate:
    """Stands between a set and its client: counts the calls, and holds, loses or disturbs them as a test says."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.calls: list[tuple[Any, ...]] = []
        #: For the next calls, what happens to them.
        self.plan: list[Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]] = []

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        self.calls.append(words)
        if self.plan:
            return await self.plan.pop(0)(lambda: self.client.execute_command(*words, **options))
        return await self.client.execute_command(*words, **options)


class Hold:
    """Holds the reply of one call back, or the call itself, until it is released."""

    def __init__(self, *, reply: bool = True) -> None:
        self._holds_reply = reply
        self.is_held = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, call: Callable[[], Awaitable[Any]]) -> Any:
        reply = await call() if self._holds_reply else None
        self.is_held.set()
        await self.release.wait()
        return reply if self._holds_reply else await call()


async def lose_reply(call: Callable[[], Awaitable[Any]]) -> Any:
    await call()
    raise ConnectionError("the reply was lost")


async def lose_call(call: Callable[[], Awaitable[Any]]) -> Any:
    raise ConnectionError("the server is out of reach")


async def pass_on(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


@asynccontextmanager
async def gate_to(here: Any) -> Any:
    library, options = CLIENTS[CLIENT]
    client = here.client(library, awaited=True, **options)
    try:
        yield Gate(client)
    finally:
        await close_awaited(client)


@pytest.fixture
def run(here: Any, raw: Any) -> Callable[[Callable[[Gate], Awaitable[Any]]], Any]:
    """Runs a test's coroutine function, which is given a gate to the server."""
    load_scripts(raw, *SCRIPTS)

    async def with_gate(test: Callable[[Gate], Awaitable[Any]]) -> Any:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(30), gate_to(here) as gate:
            # What the tasks share lives as long as a set of that name in this loop.
            keeper = redset.aio.SortedSet[str](gate, "jobs")
            await keeper.contains("x")
            gate.calls.clear()
            result = await test(gate)
            await settled(gathering_of(gate))
        gc.collect()
        assert complaints == []
        return result

    return lambda test: asyncio.run(with_gate(test))


def gathering_of(gate: Gate) -> coalescing.Gathering:
    """What the tasks of the running loop share of the set."""
    (gathering,) = (each for key, each in state_of(gate).in_loops.items() if key[1] == PREFIX)
    assert isinstance(gathering, coalescing.Gathering)
    return gathering


async def settled(gathering: coalescing.Gathering) -> None:
    """Returns when nothing is under way, and makes sure that nothing is kept of it."""
    while gathering._tasks:
        await asyncio.wait(gathering._tasks)
    await asyncio.sleep(0)
    assert all(line.is_idle() for line in gathering.lines.values())


@pytest.fixture
def state(raw: Any) -> Any:
    state = RawSet(raw, "jobs")
    yield state
    state.check()


async def start_behind(
    gate: Gate, jobs: Any, first: Start, *others: Start
) -> tuple["asyncio.Task[Any]", list["asyncio.Task[Any]"], Hold]:
    """Starts calls while the first one is held, so that they gather; lets the first one go and holds theirs."""
    alone, together = Hold(), Hold()
    gate.plan += [alone, together]
    leader = asyncio.create_task(first())
    await alone.is_held.wait()
    tasks = [asyncio.create_task(other()) for other in others]
    await asyncio.sleep(0)
    alone.release.set()
    await together.is_held.wait()
    return leader, tasks, together


def cancel_when_woken(monkeypatch: pytest.MonkeyPatch, tasks: list["asyncio.Task[Any]"], who: set[int]) -> None:
    """Cancels some of the tasks that take part in the next group, when it is answered and before they go on."""
    wake = coalescing.Part.wake
    woken = itertools.count()

    def wake_and_cancel(part: coalescing.Part, *error: Any) -> None:
        wake(part, *error)
        if (position := next(woken)) in who:
            tasks[position].cancel()

    monkeypatch.setattr(coalescing.Part, "wake", wake_and_cancel)


def cancel_every_second_task(monkeypatch: pytest.MonkeyPatch) -> list["asyncio.Task[None]"]:
    """Cancels each second task of redset's own, from the first on, before it begins. Returns a list of all of them."""
    started: list[asyncio.Task[None]] = []
    start = coalescing.Gathering.run

    def run_but_cancel(gathering: coalescing.Gathering, *work: Any) -> "asyncio.Task[None]":
        task = start(gathering, *work)
        if len(started) % 2 == 0:
            task.cancel()
        started.append(task)
        return task

    monkeypatch.setattr(coalescing.Gathering, "run", run_but_cancel)
    return started


OPERATIONS: dict[str, tuple[dict[str, Any], Callable[[Any, int], Awaitable[Any]], Callable[[int], Any]]] = {
    "add": ({}, lambda jobs, i: jobs.add(f"new {i}", i), lambda i: float(i)),
    "add nx": ({}, lambda jobs, i: jobs.add(str(i), 0, nx=True), lambda i: float(i)),
    "add to a remembering set": (
        {"remember": 60},
        lambda jobs, i: jobs.add(f"done {i}" if i % 3 == 0 else f"new {i}", i),
        lambda i: None if i % 3 == 0 else float(i),
    ),
    "discard": ({}, lambda jobs, i: jobs.discard(str(2 * i)), lambda i: i < 50),
    "contains": ({}, lambda jobs, i: jobs.contains(str(2 * i)), lambda i: i < 50),
    "score": ({}, lambda jobs, i: jobs.score(str(2 * i)), lambda i: float(2 * i) if i < 50 else None),
    "is_done": ({"remember": 60}, lambda jobs, i: jobs.is_done(f"done {2 * i}"), lambda i: i < 50),
    "forget": ({"remember": 60}, lambda jobs, i: jobs.forget(f"done {2 * i}"), lambda i: i < 50),
    "get": ({"key": str}, lambda jobs, i: jobs.get(redset.Key(2 * i)), lambda i: None),
}


@pytest.mark.conformance
@pytest.mark.parametrize("name", OPERATIONS)
def test_calls_of_a_hundred_tasks_take_a_few_round_trips_and_each_has_its_own_result(
    run: Any, raw: Any, state: RawSet, name: str
) -> None:
    options, call, expected = OPERATIONS[name]

    async def test(gate: Gate) -> None:
        raw.zadd("jobs", {str(i): i for i in range(100)})
        jobs = redset.aio.SortedSet[str](gate, "jobs", **options)
        if "remember" in options:
            raw.zadd(Keys("jobs").done, {f"done {i}": 2**40 for i in range(100)})
        results = await asyncio.gather(*(call(jobs, i) for i in range(100)))

        assert results == [expected(i) for i in range(100)]
        assert len(gate.calls) <= 3
        raw.delete(Keys("jobs").done)

    run(test)


@pytest.mark.conformance
@pytest.mark.parametrize("options", [{}, {"key": str}, {"remember": 60}], ids=["plain", "keyed", "remembering"])
def test_claims_are_coalesced_and_each_task_gets_its_own_items(run: Any, raw: Any, options: dict[str, Any]) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs", **options)
        await jobs.update([f"{i:03}" for i in range(100)])
        gate.calls.clear()
        async with asyncio.TaskGroup() as tasks:
            pops = [tasks.create_task(jobs.pop()) for _ in range(20)]
            takes = [tasks.create_task(jobs.take(2)) for _ in range(10)]
            reserves = [tasks.create_task(jobs.reserve()) for _ in range(20)]
            many = [tasks.create_task(jobs.reserve_many(4)) for _ in range(10)]
        assert len(gate.calls) <= 4

        reservations = [task.result() for task in reserves] + [each for task in many for each in task.result()]
        assert len({reservation.token for reservation in reservations}) == 60
        handed = [task.result() for task in pops] + [item for task in takes for item in task.result()]
        handed += [reservation.item for reservation in reservations]
        assert sorted(handed) == [f"{i:03}" for i in range(100)]

        gate.calls.clear()
        await asyncio.gather(*(reservation.ack() for reservation in reservations))
        assert len(gate.calls) <= 2
        assert raw.zcard(Keys("jobs").leased) == 0
        raw.delete(Keys("jobs").done)

    run(test)


@pytest.mark.conformance
def test_who_comes_too_late_finds_it_empty(run: Any, raw: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        raw.zadd("jobs", {"a": 1, "b": 2, "c": 3})
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        results = await asyncio.gather(*(jobs.pop() for _ in range(10)), return_exceptions=True)

        assert results[:3] == ["a", "b", "c"]
        assert [type(result) for result in results[3:]] == [KeyError] * 7

    run(test)


@pytest.mark.usefixtures("registered")
def test_one_call_moves_a_thousand_items_at_most_and_a_full_one_does_not_wait(run: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        hold = Hold()
        gate.plan = [hold]
        tasks = [asyncio.create_task(jobs.add(str(i), i)) for i in range(2501)]
        await asyncio.wait(tasks[1:2001])
        assert not tasks[0].done()
        hold.release.set()
        assert await asyncio.gather(*tasks) == [float(i) for i in range(2501)]

        rows = sorted((len(call) - 12) // 2 for call in gate.calls)
        assert rows == [1, 500, 1000, 1000]

    run(test)


def test_calls_of_sets_of_one_name_are_coalesced_and_others_are_not(run: Any, raw: Any) -> None:
    async def test(gate: Gate) -> None:
        await asyncio.gather(*(redset.aio.SortedSet[str](gate, "jobs").add(str(i)) for i in range(50)))
        assert len(gate.calls) == 2
        await asyncio.gather(*(redset.aio.SortedSet[str](gate, f"jobs {i % 2}").add(str(i)) for i in range(50)))
        assert len(gate.calls) == 6

    run(test)


def test_a_task_that_calls_alone_needs_no_other_task(run: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        before = asyncio.all_tasks()

        async def only_these(call: Callable[[], Awaitable[Any]]) -> Any:
            assert asyncio.all_tasks() == before
            return await call()

        gate.plan = [only_these] * 6
        for item in "ab":
            await jobs.add(item)
        assert await jobs.pop() == "a"
        await (await jobs.reserve()).ack()
        assert await jobs.contains("a") is False
        assert gate.plan == []

    run(test)


def test_each_tasks_own_calls_stay_in_order(run: Any, raw: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs")

        async def work(name: str) -> None:
            for number in range(20):
                assert await jobs.add(name, number) == number
                assert await jobs.score(name) == number
                assert await jobs.discard(name) is True
                assert await jobs.contains(name) is False

        await asyncio.gather(*(work(f"task {number}") for number in range(20)))

    run(test)


@pytest.mark.conformance
@pytest.mark.parametrize("verb", ["ack", "nack", "again", "bury"])
def test_a_lease_that_is_extended_and_ended_at_once_is_ended(run: Any, raw: Any, state: RawSet, verb: str) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        for verbs in [("extend", verb), (verb, "extend")]:
            raw.zadd("jobs", {"a": 1, "b": 2})
            mine, other = await jobs.reserve_many(2, 60)
            calls = {"extend": lambda mine=mine: mine.extend(90), verb: getattr(mine, verb)}
            _, tasks, together = await start_behind(gate, jobs, other.ack, *(calls[each] for each in verbs))
            together.release.set()
            results = dict(zip(verbs, await asyncio.gather(*tasks, return_exceptions=True), strict=True))
            assert results[verb] is None
            assert not mine.lost.is_set()
            state.check()
            assert all(until < 0 for until in state.scores("leased").values()), "nobody has it any more"
            assert await jobs.clear() is (verb != "ack")

    run(test)


@pytest.mark.conformance
def test_an_item_forgotten_by_two_tasks_at_once_was_remembered_for_one(run: Any, raw: Any) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs", remember=60)
        await jobs.update(["a", "b"])
        await jobs.take(2)
        forget = lambda: jobs.forget("b")
        _, tasks, together = await start_behind(gate, jobs, lambda: jobs.forget("a"), forget, forget)
        together.release.set()
        assert await asyncio.gather(*tasks) == [True, False]

    run(test)


class TestAcks:
    """The claims of consume loops carry acks, and are coalesced like others."""

    @pytest.mark.conformance
    def test_loops_side_by_side_need_few_calls_and_each_acks_its_own(self, run: Any, raw: Any, state: RawSet) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {f"{i:03}": i for i in range(400)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            handled = list[str]()

            async def consume() -> int:
                async with jobs.consume(wait=0) as loop:
                    async for reservation in loop:
                        assert raw.zscore(Keys("jobs").leased, reservation.item) is not None
                        handled.append(reservation.item)
                    return loop.lost

            lost = await asyncio.gather(*(consume() for _ in range(20)))
            assert sorted(handled) == [f"{i:03}" for i in range(400)]
            assert lost == [0] * 20
            assert state.is_empty()
            assert len(gate.calls) < 400 / 4

        run(test)

    @pytest.mark.parametrize("wait", [0, 20])
    def test_loops_of_different_batches_share_one_call(self, run: Any, raw: Any, state: RawSet, wait: float) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {f"{i:02}": i for i in range(20)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            loops = [jobs.consume(batch=batch, wait=wait) for batch in (1, 2, 3)]
            for batch, loop in enumerate(loops, 1):
                for _ in range(batch):
                    await anext(loop)
            gate.calls.clear()
            next_of_each = [loop.__anext__ for loop in loops]
            _, tasks, hold = await start_behind(gate, jobs, lambda: jobs.reserve(wait=wait), *next_of_each)
            hold.release.set()
            following = await asyncio.gather(*tasks)

            assert len(gate.calls) == 2, "the first call, and one for all loops"
            assert [one.item for one in following] == ["07", "08", "10"]
            assert raw.zcard(Keys("jobs").leased) == 1 + 1 + 2 + 3
            await asyncio.gather(*(loop.close() for loop in loops))
            assert [loop.lost for loop in loops] == [0, 0, 0]

        run(test)

    @pytest.mark.conformance
    def test_an_ack_that_is_too_late_is_lost_for_its_own_loop_only(self, run: Any, raw: Any, state: RawSet) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(7)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            loops = [jobs.consume(wait=0) for _ in range(3)]
            had = [await anext(loop) for loop in loops]
            await jobs.discard("1")
            _, tasks, hold = await start_behind(gate, jobs, jobs.reserve, *(loop.__anext__ for loop in loops))
            hold.release.set()
            following = await asyncio.gather(*tasks)

            assert [one.item for one in had] == ["0", "1", "2"]
            assert [loop.lost for loop in loops] == [0, 1, 0]
            assert [one.lost.is_set() for one in had] == [False, True, False]
            assert [one.item for one in following] == ["4", "5", "6"]
            await asyncio.gather(*(loop.close() for loop in loops))

        run(test)

    @pytest.mark.conformance
    def test_loops_over_shards_that_are_closed_at_once_requeue_their_items(self, run: Any) -> None:
        async def test(gate: Gate) -> None:
            jobs = redset.aio.SortedSet[str](gate, "shards", shards=1)
            await jobs.update("abcdefgh")
            loops = [jobs.consume(batch=2, wait=0) for _ in range(4)]
            for loop in loops:
                await anext(loop)
            await asyncio.gather(*(loop.close() for loop in loops))
            assert sorted(await jobs.take(9)) == [*"abcdefgh"]

        run(test)

    @pytest.mark.parametrize("fault", [lose_reply, lose_call])
    def test_acks_whose_reply_was_lost_are_neither_lost_nor_sent_twice(
        self, run: Any, raw: Any, state: RawSet, fault: Any
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(8)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            loops = [jobs.consume(wait=20) for _ in range(3)]
            had = [await anext(loop) for loop in loops]
            gate.plan = [pass_on, fault]
            following = await asyncio.gather(*map(anext, loops))

            assert [one.item for one in had] == ["0", "1", "2"]
            assert sorted(one.item for one in following) == ["3", "4", "5"]
            assert [one.attempt for one in following] == [1, 1, 1]
            assert [loop.lost for loop in loops] == [0, 0, 0]
            assert not any(one.lost.is_set() for one in had)
            await asyncio.gather(*(loop.close() for loop in loops))
            assert sorted(await jobs.take(9)) == ["3", "4", "5", "6", "7"]

        run(test)

    def test_a_loop_that_is_cancelled_loses_no_ack_and_gives_back_its_item(
        self, run: Any, raw: Any, state: RawSet
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(8)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            loops = [jobs.consume(wait=0) for _ in range(3)]
            for loop in loops:
                await anext(loop)
            _, tasks, hold = await start_behind(gate, jobs, jobs.reserve, *(loop.__anext__ for loop in loops))
            tasks[1].cancel()
            hold.release.set()
            await asyncio.wait(tasks)
            assert [task.cancelled() for task in tasks] == [False, True, False]
            await asyncio.gather(*(loop.close() for loop in loops))

            assert [loop.lost for loop in loops] == [0, 0, 0]
            assert {one.decode() for one in state.scores("waiting")} >= {"5", "7"}
            assert not {"0", "1", "2"} & {one.decode() for one in raw.zrange(Keys("jobs").leased, 0, -1)}

        run(test)


class TestErrors:
    def test_a_bad_item_fails_its_caller_only(self, run: Any, state: RawSet) -> None:
        class Picky:
            def dumps(self, item: str) -> str:
                if item == "bad":
                    raise ValueError("bad")
                return item

            def loads(self, stored: Any) -> Any:
                if stored == "broken":
                    raise ValueError("broken")
                return stored

        async def test(gate: Gate) -> None:
            jobs = redset.aio.SortedSet[str](gate, "jobs", serializer=Picky())
            items = ["a", "b", "bad", "c", "broken"]
            results = await asyncio.gather(*map(jobs.add, items), return_exceptions=True)
            assert [type(result) for result in results] == [float, float, ValueError, float, float]

            popped = await asyncio.gather(*(jobs.pop() for _ in range(4)), return_exceptions=True)
            assert popped[0] == "a"
            assert Counter(map(type, popped)) == {str: 3, KeyError: 1}
            assert state.scores("dead").keys() == {b"broken"}

        run(test)

    def test_the_servers_error_reaches_each_as_its_own(self, run: Any, raw: Any) -> None:
        async def test(gate: Gate) -> None:
            raw.set("jobs", "no sorted set")
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            for calls in ([jobs.add(str(i)) for i in range(9)], [jobs.pop() for _ in range(9)]):
                errors = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(error, RedsetError) and "'jobs'" in str(error) for error in errors)
                assert len(set(map(id, errors))) == 9
            raw.delete("jobs")
            assert await jobs.add("x", 1) == 1

        run(test)

    def test_items_whose_reply_was_lost_come_back_for_the_next(self, run: Any, raw: Any, state: RawSet) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(6)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            gate.plan = [pass_on, lose_reply]
            results = await asyncio.gather(*(jobs.pop() for _ in range(5)), return_exceptions=True)
            assert [type(result) for result in results] == [str] + [ConnectionError] * 4
            assert await jobs.take(9) == ["1", "2", "3", "4", "5"]

        run(test)

    @pytest.mark.parametrize("fault", [lose_reply, lose_call])
    @pytest.mark.parametrize("verb", ["ack", "nack", "again", "bury"])
    def test_ends_whose_reply_was_lost_succeed_when_they_are_asked_for_again(
        self, run: Any, raw: Any, state: RawSet, verb: str, fault: Any
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(6)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            reservations = await jobs.reserve_many(6)
            gate.plan = [pass_on, fault]
            ends = await asyncio.gather(*(getattr(each, verb)() for each in reservations), return_exceptions=True)
            assert [type(end) for end in ends] == [type(None)] + [ConnectionError] * 5
            gate.calls.clear()

            # Others work on what came back meanwhile, and must not be disturbed.
            again = await jobs.reserve_many(6) if verb == "again" and fault is lose_reply else []
            await getattr(reservations[1], verb)()
            await asyncio.gather(*(getattr(each, verb)() for each in reservations[2:]))

            assert len(gate.calls) == 1 + bool(again)
            assert not any(each.lost for each in reservations)
            for each in reservations:
                with pytest.raises(LeaseLost):
                    await each.ack()
            await jobs.ack(again)

        run(test)

    def test_ends_that_fail_together_may_each_be_asked_for_again_at_once(
        self, run: Any, raw: Any, state: RawSet
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(6)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            gate.plan = [pass_on, pass_on, lose_reply, lose_call, lose_reply]

            async def insist(reservation: Any) -> int:
                for failures in itertools.count():
                    with contextlib.suppress(ConnectionError):
                        await reservation.ack()
                        return failures
                raise AssertionError

            failures = await asyncio.gather(*map(insist, await jobs.reserve_many(6)))
            assert failures == [0] + [3] * 5
            assert len(gate.calls) == 6
            assert state.is_empty()

        run(test)

    def test_an_end_that_is_asked_for_again_while_it_is_under_way_is_one(
        self, run: Any, raw: Any, state: RawSet
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(3)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            first, second, third = await jobs.reserve_many(3)
            _, (cancelled, other), hold = await start_behind(gate, jobs, first.ack, second.ack, third.ack)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            again = asyncio.create_task(second.ack())
            await asyncio.sleep(0)
            hold.release.set()
            await asyncio.gather(again, other)
            assert cancelled.cancelled()
            assert state.is_empty()
            assert len(gate.calls) == 3

        run(test)

    @pytest.mark.parametrize("verb", ["ack", "nack", "again", "bury"])
    @pytest.mark.parametrize("who", [{0}, {0, 1, 2}], ids=["one", "all"])
    def test_an_end_that_is_cancelled_when_it_was_answered_succeeds_when_it_is_asked_for_again(
        self, run: Any, raw: Any, state: RawSet, monkeypatch: pytest.MonkeyPatch, verb: str, who: set[int]
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(5)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            first, last, *others = await jobs.reserve_many(5)
            ends = [getattr(each, verb) for each in others]
            _, tasks, hold = await start_behind(gate, jobs, getattr(first, verb), *ends)
            cancel_when_woken(monkeypatch, tasks, who)
            hold.release.set()
            await asyncio.wait(tasks)
            monkeypatch.undo()
            assert {i for i, task in enumerate(tasks) if task.cancelled()} == who

            # Also where other calls of that kind are under way.
            gate.calls.clear()
            gate.plan = [hold := Hold()]
            behind = [asyncio.create_task(end()) for end in (getattr(last, verb), *(ends[i] for i in who))]
            await hold.is_held.wait()
            hold.release.set()
            await asyncio.gather(*behind)
            assert not any(each.lost.is_set() for each in others)
            assert len(gate.calls) == 1

        run(test)

    def test_an_end_that_is_asked_for_again_is_sent_although_the_task_of_its_group_is_cancelled(
        self, run: Any, raw: Any, state: RawSet
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(3)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            reservations = await jobs.reserve_many(3)
            hold = Hold()
            gate.plan = [pass_on, lose_reply, hold]
            await asyncio.gather(*(each.ack() for each in reservations), return_exceptions=True)
            again = [asyncio.create_task(each.ack()) for each in reservations[1:]]
            await hold.is_held.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task(), *again}:
                task.cancel()
            hold.release.set()
            await asyncio.gather(*again)
            assert not any(each.lost.is_set() for each in reservations)

        run(test)

    def test_an_end_is_sent_again_although_the_task_that_should_do_so_is_cancelled_before_it_begins(
        self, run: Any, raw: Any, state: RawSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(3)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            reservations = await jobs.reserve_many(3)
            gate.plan = [pass_on, lose_reply]
            await asyncio.gather(*(each.ack() for each in reservations), return_exceptions=True)
            cancel_every_second_task(monkeypatch)
            await asyncio.gather(*(each.ack() for each in reservations[1:]))
            assert state.is_empty()

        run(test)


class TestCancellation:
    @pytest.mark.parametrize("verb", ["add", "pop", "reserve"])
    def test_who_leaves_the_line_is_not_asked_for(self, run: Any, raw: Any, state: RawSet, verb: str) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(4)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            calls = [(lambda i=i: jobs.add(f"new {i}")) if verb == "add" else getattr(jobs, verb) for i in range(4)]
            hold = Hold()
            gate.plan = [hold]
            tasks = [asyncio.create_task(call()) for call in calls]
            await hold.is_held.wait()
            tasks[2].cancel()
            await asyncio.wait([tasks[2]])
            hold.release.set()
            await asyncio.wait(tasks)
            assert [task.cancelled() for task in tasks] == [False, False, True, False]
            if verb == "add":
                assert not await jobs.contains("new 2")
            else:
                assert state.scores("waiting") == {b"3": 3.0}
                assert len(gate.calls) == 2

        run(test)

    @pytest.mark.parametrize("verb", ["add", "contains", "ack", "pop", "reserve"])
    def test_a_time_limit_is_kept_within_a_second_or_so(self, run: Any, raw: Any, state: RawSet, verb: str) -> None:
        """A group whose reply does not come holds nobody for longer who has gone away, and the error stays his own."""

        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(4)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            first, second = await jobs.reserve_many(2)
            calls: dict[str, list[Start]] = {
                "add": [lambda: jobs.add("2"), lambda: jobs.add("3")],
                "contains": [lambda: jobs.contains("2"), lambda: jobs.contains("3")],
                "ack": [first.ack, second.ack],
                "pop": [jobs.pop, jobs.pop],
                "reserve": [jobs.reserve, jobs.reserve],
            }
            leads, limits = calls[verb]

            async def limited() -> None:
                async with asyncio.timeout(0.05):
                    await limits()

            leader, (task,), hold = await start_behind(gate, jobs, leads, limited)
            with pytest.raises(TimeoutError) as raised:
                await asyncio.wait_for(asyncio.shield(task), 10)
            assert task.done()
            assert isinstance(raised.value.__cause__ or raised.value.__context__, asyncio.CancelledError)
            hold.release.set()
            await leader

        run(test)

    @pytest.mark.parametrize("cancellations", [1, 2])
    @pytest.mark.parametrize("verb", ["take", "reserve_many"])
    def test_all_chunks_are_rolled_back_although_the_reply_to_the_last_one_does_not_come(
        self, run: Any, raw: Any, state: RawSet, verb: str, cancellations: int
    ) -> None:
        """The first chunk leaves by itself, since it is a whole call; the second one in a group."""

        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {f"{i:04}": i for i in range(3000)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            alone, together = Hold(), Hold()
            gate.plan = [pass_on, pass_on, alone, together]
            tasks = [asyncio.create_task(getattr(jobs, verb)(1500)) for _ in range(2)]
            await alone.is_held.wait()
            # The other one queues behind it.
            (line,) = (line for line in gathering_of(gate).lines.values() if not line.is_idle())
            await eventually(lambda: line._queue)
            alone.release.set()
            await together.is_held.wait()
            (kept,) = (task.result() for task in tasks if task.done())
            (going,) = (task for task in tasks if not task.done())
            for _ in range(cancellations):
                going.cancel()
                await asyncio.wait([going], timeout=0.1)
            await asyncio.wait([going], timeout=10)
            assert going.cancelled()
            together.release.set()
            await settled(gathering_of(gate))
            back = await jobs.take(3000)
            had = [one if isinstance(one, str) else one.item for one in kept]
            assert sorted(back + had) == [f"{i:04}" for i in range(3000)]

        run(test)

    @pytest.mark.parametrize("verb", ["add", "contains", "pop", "reserve"])
    def test_a_cancellation_stays_one_while_the_reply_does_not_come(
        self, run: Any, raw: Any, state: RawSet, verb: str
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(4)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            call = (lambda: getattr(jobs, verb)("x")) if verb in {"add", "contains"} else getattr(jobs, verb)
            leader, (task,), hold = await start_behind(gate, jobs, call, call)
            task.cancel()
            await asyncio.wait([task], timeout=10)
            assert task.cancelled()
            hold.release.set()
            await leader

        run(test)

    @pytest.mark.parametrize("options", [{}, {"key": str}, {"remember": 60}], ids=["plain", "keyed", "remembering"])
    @pytest.mark.parametrize("verb", ["pop", "take", "reserve", "reserve_many"])
    @pytest.mark.parametrize("moment", ["under way", "answered"])
    @pytest.mark.parametrize("who", [{1}, {0, 2, 3}, {0, 1, 2, 3}], ids=["one", "three", "all"])
    def test_what_was_handed_out_for_it_is_back_and_others_keep_theirs(
        self,
        run: Any,
        raw: Any,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
        verb: str,
        moment: str,
        who: set[int],
    ) -> None:
        each = 2 if verb in {"take", "reserve_many"} else 1

        async def test(gate: Gate) -> None:
            jobs = redset.aio.SortedSet[str](gate, "jobs", scorer=float, **options)
            await jobs.update(map(str, range(10)))
            call = (lambda: getattr(jobs, verb)(2)) if each == 2 else getattr(jobs, verb)
            leader, tasks, hold = await start_behind(gate, jobs, call, *[call] * 4)
            leaving = [tasks[i] for i in who]
            if moment == "under way":
                for task in leaving:
                    task.cancel()
            else:
                cancel_when_woken(monkeypatch, tasks, who)
            hold.release.set()
            await asyncio.wait([leader, *tasks])
            assert {i for i, task in enumerate(tasks) if task.cancelled()} == who

            gone = {f"{position}".encode() for i in who for position in range(each * (i + 1), each * (i + 2))}
            stays = {f"{position}".encode() for position in range(each * 5, 10)}
            state = RawSet(raw, "jobs")
            assert state.scores("waiting") == {item: float(item) for item in gone | stays}
            kept = [task.result() for i, task in enumerate(tasks) if i not in who]
            if verb == "reserve":
                await asyncio.gather(*(reservation.ack() for reservation in kept))
                await leader.result().ack()
            elif verb == "reserve_many":
                assert await jobs.ack([one for many in [*kept, leader.result()] for one in many]) == []
            # Neither an attempt nor a memory is left of it.
            back = await jobs.reserve_many(10)
            assert {one.item.encode() for one in back} == gone | stays
            assert {one.attempt for one in back} == {1}
            await jobs.ack(back)
            assert raw.zcard("jobs") == 0
            raw.delete(Keys("jobs").done)

        run(test)

    @pytest.mark.parametrize("fault", [lose_reply, lose_call])
    def test_what_could_not_be_put_back_in_part_is_put_back_first_by_the_next_and_nothing_else(
        self, run: Any, raw: Any, state: RawSet, fault: Any
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(6)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            leader, tasks, hold = await start_behind(gate, jobs, jobs.pop, *[jobs.pop] * 4)
            gate.plan = [fault, lose_call, fault]
            tasks[1].cancel()
            hold.release.set()
            await asyncio.wait([leader, *tasks])
            assert tasks[3].result() == "4"
            # Another caller works on, also by calls that hand nothing out.
            raw.zrem("jobs", "2")
            raw.zadd("jobs", {"1": 10})
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    await jobs.take(9)
            assert await jobs.add("x", 9) == 9

            expected = ["5", "x", "1"] if fault is lose_reply else ["2", "5", "x", "1"]
            assert await jobs.take(9) == expected
            assert await jobs.take(9) == []

        run(test)

    def test_what_was_cleared_meanwhile_stays_away(self, run: Any, raw: Any, state: RawSet) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(6)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            _, tasks, hold = await start_behind(gate, jobs, jobs.pop, *[jobs.pop] * 3)
            await jobs.clear()
            tasks[0].cancel()
            hold.release.set()
            await asyncio.wait(tasks)
            assert state.scores("waiting") == {}

        run(test)

    def test_who_waits_for_an_item_gets_one_that_comes_back(self, run: Any, raw: Any, state: RawSet) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(3)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            _, tasks, hold = await start_behind(gate, jobs, jobs.pop, jobs.pop, jobs.pop)
            waiting = asyncio.create_task(jobs.pop(wait=20))
            tasks[0].cancel()
            hold.release.set()
            assert await waiting == "1"

        run(test)

    def test_where_all_tasks_are_cancelled_one_that_is_spared_gets_its_result(
        self, run: Any, raw: Any, state: RawSet
    ) -> None:
        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(5)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            _, tasks, hold = await start_behind(gate, jobs, jobs.pop, *[jobs.pop] * 3)
            spared = tasks[1]
            for task in asyncio.all_tasks() - {asyncio.current_task(), spared}:
                task.cancel()
            hold.release.set()
            assert await spared == "2"
            await asyncio.wait(tasks)
            # The leader has its item.
            assert sorted(await jobs.take(9)) == ["1", "3", "4"]

        run(test)

    def test_tasks_that_are_cancelled_before_they_begin_leave_nobody_waiting(
        self, run: Any, raw: Any, state: RawSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of redset's own: to send a group, to send it again, and to roll back a part of it."""

        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(6)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            cancel_every_second_task(monkeypatch)
            _, tasks, hold = await start_behind(gate, jobs, jobs.pop, *[jobs.pop] * 3)
            tasks[0].cancel()
            hold.release.set()
            await asyncio.wait(tasks)
            assert [task.cancelled() for task in tasks] == [True, False, False]
            assert await jobs.take(9) == ["1", "4", "5"]

        run(test)

    def test_a_loop_that_ends_meanwhile_loses_nothing(self, run: Any, raw: Any, state: RawSet) -> None:
        """It cancels all tasks, also those that carry groups, as `asyncio.run` does."""

        async def test(gate: Gate) -> None:
            raw.zadd("jobs", {str(i): i for i in range(20)})
            jobs = redset.aio.SortedSet[str](gate, "jobs")
            await start_behind(gate, jobs, jobs.pop, *[jobs.pop] * 3, *[jobs.reserve] * 3)
            everybody = asyncio.all_tasks() - {asyncio.current_task()}
            for task in everybody:
                task.cancel()
            await asyncio.gather(*everybody, return_exceptions=True)
            assert len(state.scores("waiting")) == 19

        run(test)

    def test_a_cancelled_pop_adds_its_item_again_beside_an_addition_that_is_under_way(self, run: Any) -> None:
        async def test(gate: Gate) -> None:
            seen = redset.aio.ExpiringSet[str](gate, "seen", ttl=60)
            await seen.add("before")
            await seen.pop()
            await seen.add("first")
            discarded, added = Hold(), Hold()
            gate.plan += [pass_on, discarded, added]
            popping = asyncio.create_task(seen.pop())
            await discarded.is_held.wait()
            adding = asyncio.create_task(seen.add("other"))
            await added.is_held.wait()

            popping.cancel()
            await asyncio.wait([popping])
            assert popping.cancelled()
            assert await seen.contains("first")
            added.release.set()
            await adding

        run(test)


def test_waiting_callers_are_each_served_as_items_come(run: Any, raw: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        waiting = [asyncio.create_task(jobs.pop(wait=20)) for _ in range(10)]
        for number in range(10):
            await jobs.add(str(number), number)
        assert sorted(await asyncio.gather(*waiting)) == [str(number) for number in range(10)]

    run(test)


def test_who_waits_and_gets_none_of_what_others_got_is_told_of_the_next(run: Any, raw: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        raw.zadd("jobs", {"a": 1, "b": 2})
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        leader, tasks, hold = await start_behind(
            gate, jobs, lambda: jobs.pop(wait=20), *[lambda: jobs.pop(wait=20)] * 2
        )
        hold.release.set()
        assert (await leader, await tasks[0]) == ("a", "b")
        await eventually(lambda: raw.exists(Keys("jobs").looks))
        assert not tasks[1].done()
        await jobs.add("c")
        assert await tasks[1] == "c"

    run(test)


def test_without_records_calls_are_coalesced_as_well(run: Any, raw: Any, state: RawSet) -> None:
    async def test(gate: Gate) -> None:
        jobs = redset.aio.SortedSet[str](gate, "jobs", retry_safe=False)
        await asyncio.gather(*(jobs.add(f"{i:02}") for i in range(50)))
        popped = await asyncio.gather(*(jobs.pop() for _ in range(50)))
        assert sorted(popped) == [f"{i:02}" for i in range(50)]
        assert len(gate.calls) <= 4
        assert state.is_empty()

    run(test)


def test_nothing_is_kept_of_a_loop_that_is_closed(here: Any) -> None:
    library, options = CLIENTS[CLIENT]
    loops = []

    async def call(client: Any) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(jobs.add(str(i)) for i in range(9)))
        await client.connection_pool.disconnect()

    client = Gate(None)
    jobs = redset.aio.SortedSet[str](client, "jobs")

    async def with_client() -> None:
        client.client = here.client(library, awaited=True, **options)
        try:
            await call(client.client)
        finally:
            await close_awaited(client.client)

    for _ in range(3):
        asyncio.run(with_client())
    client.client = None
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None, None]


class Crowd:
    """Tasks that consume one by one, each of which is cancelled now and then, until they have had so many items."""

    def __init__(self, jobs: Any, verb: str, wanted: int) -> None:
        self._jobs = jobs
        self._verb = verb
        self._wanted = wanted
        self._random = random.Random(11)
        self.delivered = Counter[str]()
        self.cancelled = 0

    async def consume(self) -> None:
        while self.delivered.total() < self._wanted:
            task = asyncio.create_task(getattr(self._jobs, self._verb)())
            if self._random.random() < 0.3:
                await asyncio.wait([task], timeout=self._random.random() * 0.004)
                await end(task)
            await asyncio.wait([task])
            if task.cancelled():
                self.cancelled += 1
            elif task.exception() is None:
                await self.have(task.result())

    async def have(self, handed: Any) -> None:
        if self._verb == "pop":
            self.delivered[handed] += 1
            return
        self.delivered[handed.item] += 1
        while True:
            try:
                await handed.ack()
            except LeaseLost:
                raise
            except Exception:
                continue
            return


async def end(task: "asyncio.Task[Any]") -> None:
    """Again and again: in Python 3.11 a client that sends with `wait_for` can miss it."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)


@pytest.mark.parametrize("verb", ["pop", "reserve"])
def test_cancellations_and_lost_replies_together_lose_nothing(
    server_itself: Server, raw: Any, state: RawSet, verb: str
) -> None:
    items = [f"item {number}" for number in range(1500)]
    raw.zadd("jobs", dict.fromkeys(items, 1))
    kinds = (Fault.LOST_COMMAND, Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.LATE)

    async def test(proxy: Proxy) -> Crowd:
        async with asyncio.timeout(50), gate_to(proxy) as gate:
            crowd = Crowd(redset.aio.SortedSet[str](gate, "jobs"), verb, len(items))
            await asyncio.gather(*(crowd.consume() for _ in range(24)))
            return crowd

    with Proxy(server_itself, repeats=1, chance=Chance(seed=12, one_in=12, kinds=kinds)) as proxy:
        crowd = asyncio.run(test(proxy))
        proxy.deliver()

    assert crowd.delivered == Counter(items)
    assert state.is_empty()
    assert crowd.cancelled > 20
    assert proxy.faults > 20


def test_a_task_whose_calls_are_tried_once_takes_no_retries_from_others(run: Any) -> None:
    """As a consumer does, so that its waiting ends in time; a plain call has all retries of the client."""

    async def test(gate: Gate) -> list[bool]:
        jobs = redset.aio.SortedSet[str](gate, "jobs")
        seen: list[bool] = []

        async def note(call: Callable[[], Awaitable[Any]]) -> Any:
            seen.append(tries_once.get())
            await asyncio.sleep(0)
            return await call()

        async def add(item: str, *, once: bool) -> None:
            tries_once.set(once)
            await jobs.add(item)

        gate.plan += [note] * 4
        await asyncio.gather(*(add(f"{number}", once=number < 2) for number in range(4)))
        return seen

    assert sorted(run(test)) == [False, False, True, True]
