"""Calls that are broken off, by Ctrl-C or by cancellation, at any moment: nothing is lost, and nothing comes twice.

test_interrupts.py interrupts calls at each single bytecode.
"""

import asyncio
import contextlib
import functools
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

import redset
import redset.aio
from clients import close_awaited
from conftest import CLIENT
from faces import CLIENTS
from invariants import RawSet, assert_each_once
from proxy import Fault, Interrupted, Proxy
from redset import SortedSet
from servers import Server, load_scripts

pytestmark = pytest.mark.no_cover

T = TypeVar("T")

#: Thousands of cancellations in all; REDSET_TEST_MORE=10 makes it ten times as many.
ITEMS = 1_000 * int(os.environ.get("REDSET_TEST_MORE", "1"))
TASKS = 16
#: Seconds.
PATIENCE = 160.0


@pytest.fixture
def state(raw: Any) -> RawSet:
    return RawSet(raw, "jobs")


@pytest.fixture
def other(raw: Any) -> "SortedSet[Any]":
    """The same set as another process sees it."""
    load_scripts(raw, "add", "end", "claim")
    return SortedSet(raw, "jobs")


@pytest.fixture
def client(raw: Any, other: Any) -> Interrupted:
    return Interrupted(raw)


def assert_nothing_is_leased(state: RawSet) -> None:
    assert state.scores("leased") == {}
    assert state.fields("deliveries") == {}


moments = pytest.mark.parametrize("moment", ["before", "after"])


class TestCtrlC:
    @moments
    @pytest.mark.parametrize("verb", ["pop", "take", "reserve", "reserve_many"])
    def test_what_was_handed_out_is_back_at_once(
        self, client: Interrupted, other: Any, state: RawSet, verb: str, moment: str
    ) -> None:
        other.add("x", 1), other.add("y", 2)
        client.plan = [moment]

        with pytest.raises(KeyboardInterrupt):
            getattr(SortedSet[str](client, "jobs"), verb)(*([2] if verb in {"take", "reserve_many"} else []))

        assert state.scores("waiting") == {b"x": 1.0, b"y": 2.0}
        assert_nothing_is_leased(state)

    @pytest.mark.parametrize("verb", ["pop", "reserve"])
    @pytest.mark.parametrize("second", ["before", "after", "down"])
    def test_pressed_twice_it_is_back_with_the_next_call(
        self, client: Interrupted, other: Any, verb: str, second: str
    ) -> None:
        other.add("x", 1)
        client.plan = ["after", second]
        with pytest.raises(KeyboardInterrupt):
            getattr(SortedSet[str](client, "jobs"), verb)()

        assert SortedSet[str](client, "jobs").pop() == "x"

    @moments
    @pytest.mark.parametrize("verb", ["take", "reserve_many"])
    def test_many_are_back_whatever_chunk_it_hits(
        self, client: Interrupted, other: Any, raw: Any, state: RawSet, verb: str, moment: str
    ) -> None:
        before = {f"{number:04}".encode(): float(number) for number in range(2500)}
        raw.zadd("jobs", before)
        client.plan = [None, None, moment]

        with pytest.raises(KeyboardInterrupt):
            getattr(SortedSet[str](client, "jobs"), verb)(2500)

        assert state.scores("waiting") == before
        assert_nothing_is_leased(state)

    @pytest.mark.parametrize("verb", ["take", "reserve_many"])
    def test_it_stays_ctrl_c_when_the_server_is_out_of_reach_and_nothing_is_lost(
        self, client: Interrupted, other: Any, raw: Any, verb: str
    ) -> None:
        raw.zadd("jobs", {f"{number:04}": number for number in range(2500)})
        client.plan = [None, None, "before", "down", "down", "down"]
        jobs = SortedSet[str](client, "jobs")

        with pytest.raises(KeyboardInterrupt):
            getattr(jobs, verb)(2500)
        client.plan = []

        assert len(jobs.take(2500)) == 2500

    @pytest.mark.parametrize("verb", ["pop", "reserve"])
    def test_what_is_being_loaded_comes_back(self, client: Interrupted, other: Any, state: RawSet, verb: str) -> None:
        class Slow:
            dumps = str

            def loads(self, stored: Any) -> Any:
                raise KeyboardInterrupt

        other.add("x", 1)

        with pytest.raises(KeyboardInterrupt):
            getattr(SortedSet(client, "jobs", serializer=Slow()), verb)()

        assert state.scores("waiting") == {b"x": 1.0}
        assert state.fields("deliveries") == {}

    def test_what_cannot_be_loaded_is_not_lost_either(
        self, client: Interrupted, other: Any, raw: Any, state: RawSet
    ) -> None:
        raw.zadd("jobs", {b"{broken": 1, b'"fine"': 2})
        jobs = SortedSet[Any](client, "jobs", serializer=json)
        client.plan = [None, "after"]

        with pytest.raises(KeyboardInterrupt):
            jobs.take(2)

        assert jobs.take(2) == ["fine"]
        assert state.scores("dead").keys() == {b"{broken"}
        assert state.scores("waiting") == {}

    @moments
    def test_an_addition_that_is_made_again_is_one(
        self, client: Interrupted, other: Any, state: RawSet, moment: str
    ) -> None:
        jobs = SortedSet[str](client, "jobs")
        client.plan = [moment]
        with pytest.raises(KeyboardInterrupt):
            jobs.add("x", 1)
        jobs.add("x", 1)

        assert state.scores("waiting") == {b"x": 1.0}

    @moments
    @pytest.mark.parametrize("verb", ["ack", "nack", "again", "bury"])
    def test_an_end_that_is_asked_for_again_succeeds(
        self, client: Interrupted, other: Any, state: RawSet, verb: str, moment: str
    ) -> None:
        other.add("x", 1)
        reservation = SortedSet[str](client, "jobs").reserve()
        client.plan = [moment]
        with pytest.raises(KeyboardInterrupt):
            getattr(reservation, verb)()

        getattr(reservation, verb)()

        assert not reservation.lost
        state.check()

    @moments
    def test_waiting_loses_nothing(self, client: Interrupted, other: Any, state: RawSet, moment: str) -> None:
        client.plan = [None, moment]

        with pytest.raises(KeyboardInterrupt):
            SortedSet[str](client, "jobs").pop(wait=10)

        other.add("x", 1)
        assert SortedSet[str](client, "jobs").pop(wait=10) == "x"

    @moments
    def test_a_consumer_gives_back_what_it_has(
        self, client: Interrupted, other: Any, state: RawSet, moment: str
    ) -> None:
        for number in range(6):
            other.add(f"{number}", number)
        loop = SortedSet[str](client, "jobs").consume(batch=2, wait=0)
        assert [next(loop).item, next(loop).item] == ["0", "1"]
        client.plan = [moment]

        with pytest.raises(KeyboardInterrupt):
            next(loop)

        assert state.scores("waiting") == {f"{number}".encode(): float(number) for number in range(2, 6)}
        assert_nothing_is_leased(state)

    def test_a_consumer_that_cannot_give_anything_back_is_interrupted_all_the_same(
        self, client: Interrupted, other: Any
    ) -> None:
        other.add("x", 1)
        loop = SortedSet[str](client, "jobs").consume(wait=0)
        next(loop)
        client.plan = ["before", "down", "down"]

        with pytest.raises(KeyboardInterrupt):
            next(loop)


def test_ctrl_c_between_sending_and_reading_leaves_no_connection_with_a_reply_that_is_not_its_own(
    frank_proxy: Proxy, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the client library itself forgets that it still has a reply to read; a slow network makes it likely."""
    for number in range(5):
        other.add(f"{number}", number)
    client = frank_proxy.client(*CLIENTS[CLIENT][:1], **CLIENTS[CLIENT][1])
    jobs = SortedSet[str](client, "jobs")
    client.ping()
    connection_type = type(client.connection_pool.get_connection())
    read = connection_type.read_response
    presses = iter([True])

    def interrupted(self: Any, *args: Any, **options: Any) -> Any:
        if next(presses, False):
            raise KeyboardInterrupt
        return read(self, *args, **options)

    monkeypatch.setattr(connection_type, "read_response", interrupted)
    # The reply comes when the connection was used again, if it is.
    frank_proxy.plan(Fault.NONE, meanwhile=lambda: wait_for_another_call(frank_proxy))
    try:
        with pytest.raises(KeyboardInterrupt):
            jobs.pop()
        assert jobs.take(5) == [f"{number}" for number in range(5)]
        assert client.echo("mine") in {b"mine", "mine"}
    finally:
        client.close()


def wait_for_another_call(proxy: Proxy) -> None:
    """Returns when another call has come on another connection; on this one none can, so not for long."""
    before, until = proxy.met.total(), time.monotonic() + 0.3
    while proxy.met.total() == before and time.monotonic() < until:
        time.sleep(0.001)


# asyncio: cancellation at random moments.


class Cancelled:
    """What comes of a call that was cancelled."""


CANCELLED = Cancelled()


class Chaos:
    """Cancels calls at random moments of their lives: after so many turns of the event loop, or so much time.

    How long calls live it learns from them, so that it cancels about every second one, on any machine.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._turns = 10.0
        self._seconds = 0.001
        self.cancelled = 0

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T | Cancelled:
        task = asyncio.create_task(coroutine)
        by_turns = self._random.random() < 0.5
        if by_turns:
            for _ in range(int(self._random.random() * self._turns)):
                await asyncio.sleep(0)
        else:
            await asyncio.wait([task], timeout=self._random.random() * self._seconds)
        self._learn(1 / 1.1 if task.done() else 1.1, by_turns=by_turns)
        # Again and again: in Python 3.11 a client that sends with `wait_for` can miss it.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)
        if task.cancelled():
            self.cancelled += 1
            return CANCELLED
        return task.result()

    def _learn(self, factor: float, *, by_turns: bool) -> None:
        if by_turns:
            self._turns = min(max(self._turns * factor, 1.0), 100.0)
        else:
            self._seconds = min(max(self._seconds * factor, 0.0001), 0.02)

    async def insist(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Until it is not cancelled; at last it is left alone."""
        for _ in range(3):
            result = await self.call(call())
            if not isinstance(result, Cancelled):
                return result
        return await call()


@asynccontextmanager
async def connected(here: Any) -> Any:
    library, options = CLIENTS[CLIENT]
    client = here.client(library, awaited=True, **options)
    try:
        yield client
        await assert_no_reply_is_left(client)
    finally:
        await close_awaited(client)


async def assert_no_reply_is_left(client: Any) -> None:
    """More calls at once than there are connections: each of these gives the reply to what it is asked."""

    async def echo(word: str) -> None:
        assert await client.echo(word) in {word, word.encode()}

    for _ in range(2):
        await asyncio.gather(*(echo(f"word {number}") for number in range(4 * TASKS)))


async def at_once(*work: Awaitable[Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*work)


@pytest.fixture
def items() -> list[str]:
    return [f"item {number}" for number in range(ITEMS)]


@pytest.fixture(autouse=True)
def _no_debris(raw: Any) -> Iterator[None]:
    yield
    RawSet(raw, "jobs").check()


@pytest.mark.parametrize("kind", ["SortedSet", "ScheduledSet"])
def test_cancelled_pops_lose_nothing(here: Any, raw: Any, state: RawSet, items: list[str], kind: str) -> None:
    raw.zadd("jobs", dict.fromkeys(items, 1))
    chaos, delivered = Chaos(1), list[str]()

    async def consume(jobs: Any) -> None:
        while len(delivered) < len(items):
            try:
                item = await chaos.call(jobs.pop())
            except KeyError:
                continue
            if not isinstance(item, Cancelled):
                delivered.append(item)

    async def run() -> None:
        async with connected(here) as client:
            jobs = getattr(redset.aio, kind)(client, "jobs")
            await at_once(*(consume(jobs) for _ in range(TASKS)))
            delivered.extend(await jobs.take(10))

    asyncio.run(run())

    assert_each_once(delivered, items)
    assert state.is_empty()
    assert chaos.cancelled > ITEMS / 20


def test_cancelled_takes_lose_nothing(here: Any, raw: Any, state: RawSet, items: list[str]) -> None:
    raw.zadd("jobs", dict.fromkeys(items, 1))
    chaos, delivered = Chaos(2), list[str]()

    async def consume(jobs: Any, number: int) -> None:
        while len(delivered) < len(items):
            taken = await chaos.call(jobs.take(number + 1))
            if not isinstance(taken, Cancelled):
                delivered.extend(taken)

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            await at_once(*(consume(jobs, number) for number in range(TASKS)))
            delivered.extend(await jobs.take(10))

    asyncio.run(run())

    assert_each_once(delivered, items)
    assert state.is_empty()


def test_a_cancelled_take_of_thousands_loses_nothing(here: Any, raw: Any, state: RawSet) -> None:
    """Between its chunks, and within them."""
    items = [f"{number:05}" for number in range(5000)]
    raw.zadd("jobs", {item: number for number, item in enumerate(items)})
    chaos = Chaos(3)

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            for _ in range(60):
                taken = await chaos.call(jobs.take(5000))
                if not isinstance(taken, Cancelled):
                    assert taken == items
                    raw.zadd("jobs", {item: number for number, item in enumerate(items)})
            assert await jobs.take(6000) == items

    asyncio.run(run())

    assert state.is_empty()
    assert chaos.cancelled > 5


def test_cancelled_reservations_and_acks_lose_nothing(here: Any, raw: Any, state: RawSet, items: list[str]) -> None:
    """A reservation that nobody got is no attempt, and an ack that is made again is no lost lease."""
    raw.zadd("jobs", dict.fromkeys(items, 1))
    chaos, delivered = Chaos(4), list[str]()

    async def consume(jobs: Any) -> None:
        while len(delivered) < len(items):
            try:
                reservation = await chaos.call(jobs.reserve(lease=600))
            except KeyError:
                continue
            if not isinstance(reservation, Cancelled):
                assert reservation.attempt == 1
                delivered.append(reservation.item)
                await chaos.insist(reservation.ack)

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            await at_once(*(consume(jobs) for _ in range(TASKS)))
            assert await jobs.take(10) == []

    asyncio.run(run())

    assert_each_once(delivered, items)
    assert state.is_empty()
    assert chaos.cancelled > ITEMS / 20


def test_cancelled_additions_that_are_made_again_add_once(here: Any, raw: Any, state: RawSet, items: list[str]) -> None:
    chaos = Chaos(5)

    async def produce(jobs: Any, share: list[str]) -> None:
        for item in share:
            await chaos.insist(functools.partial(jobs.add, item, 1))

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            await at_once(*(produce(jobs, items[first::TASKS]) for first in range(TASKS)))

    asyncio.run(run())

    assert state.scores("waiting") == {item.encode(): 1.0 for item in items}
    assert chaos.cancelled > ITEMS / 20


def test_cancelled_waiting_loses_nothing(here: Any, raw: Any, state: RawSet, items: list[str]) -> None:
    """Consumers wait for ever, and are cancelled when they do, or while they are being handed something."""
    chaos, delivered = Chaos(6), list[str]()

    async def produce(jobs: Any) -> None:
        for number, item in enumerate(items):
            await jobs.add(item, 1)
            if number % 10 == 0:
                await asyncio.sleep(0.002)

    async def consume(jobs: Any) -> None:
        while len(delivered) < len(items):
            item = await chaos.call(jobs.pop(wait=None))
            if not isinstance(item, Cancelled):
                delivered.append(item)

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            await at_once(produce(jobs), *(consume(jobs) for _ in range(TASKS)))
            delivered.extend(await jobs.take(10))

    asyncio.run(run())

    assert_each_once(delivered, items)
    assert state.is_empty()
    assert chaos.cancelled > ITEMS / 20


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_cancellation_stays_cancellation_when_the_server_does_not_answer(
    here: Any, raw: Any, state: RawSet, chunk: int
) -> None:
    """What cannot be put back within a second is put back by the next call."""
    if not isinstance(here, Server):
        pytest.skip("it cannot be paused")
    items = [f"{number:04}" for number in range(2500)]
    raw.zadd("jobs", {item: number for number, item in enumerate(items)})

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            execute = client.execute_command
            asked = 0

            async def pausing(*words: Any, **options: Any) -> Any:
                nonlocal asked
                asked += words[0] == "EVALSHA"
                if asked == chunk + 1:
                    here.pause()
                    # When it waits for the reply.
                    asyncio.get_running_loop().call_later(0.05, task.cancel)
                return await execute(*words, **options)

            # Known to the server by now.
            await jobs.take(0)
            load_scripts(raw, "add", "end", "claim")
            client.execute_command = pausing
            task = asyncio.create_task(redset.aio.SortedSet[str](client, "jobs").take(2500))
            await asyncio.wait([task])
            here.resume()
            client.execute_command = execute
            assert task.cancelled()
            assert await jobs.take(2500) == items

    try:
        asyncio.run(run())
    finally:
        here.resume()


@pytest.mark.parametrize("verb", ["pop", "reserve"])
def test_a_cancellation_that_the_client_swallows_is_not_lost(
    here: Any, raw: Any, other: Any, state: RawSet, verb: str
) -> None:
    """As `asyncio.wait_for` does in Python 3.11, with which redis-py sends, when it comes at the wrong moment."""
    raw.zadd("jobs", {"x": 1})

    async def run() -> None:
        async with connected(here) as client:
            execute = client.execute_command
            tasks: list[asyncio.Task[Any]] = []

            async def swallowing(*words: Any, **options: Any) -> Any:
                if not tasks[0].cancelling():
                    tasks[0].cancel()
                call = asyncio.ensure_future(execute(*words, **options))
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([call])
                return await call

            client.execute_command = swallowing
            jobs = redset.aio.SortedSet[str](client, "jobs")
            tasks.append(asyncio.create_task(getattr(jobs, verb)()))
            await asyncio.wait(tasks)
            client.execute_command = execute
            assert tasks[0].cancelled()

    asyncio.run(run())

    assert state.scores("waiting") == {b"x": 1.0}


@pytest.mark.parametrize("verb", ["pop", "reserve"])
def test_a_cancellation_of_nobody_is_a_lost_connection(
    here: Any, raw: Any, other: Any, state: RawSet, verb: str
) -> None:
    """Tasks may wait for one future, which is cancelled with any of them: in Python 3.11 until a stream is closed."""
    raw.zadd("jobs", {"x": 1})

    async def run() -> None:
        async with connected(here) as client:
            execute = client.execute_command
            shared = asyncio.get_running_loop().create_future()

            async def sharing(*words: Any, **options: Any) -> Any:
                await execute(*words, **options)
                await shared

            client.execute_command = sharing
            jobs = redset.aio.SortedSet[str](client, "jobs")
            task = asyncio.create_task(getattr(jobs, verb)())
            await asyncio.sleep(0.05)
            shared.cancel()
            with pytest.raises(ConnectionError, match="while it was in use"):
                await task
            client.execute_command = execute
            # Nobody has seen the reply, so the next claim gets it.
            assert await jobs.take(2) == ["x"]

    asyncio.run(run())


def test_a_time_limit_of_the_users_is_kept_within_a_second(here: Any, raw: Any) -> None:
    if not isinstance(here, Server):
        pytest.skip("it cannot be paused")
    raw.zadd("jobs", {"x": 1})

    async def run() -> None:
        async with connected(here) as client:
            jobs = redset.aio.SortedSet[str](client, "jobs")
            await jobs.take(0)
            here.pause()
            start = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await jobs.pop()
            assert asyncio.get_running_loop().time() - start < 20
            here.resume()
            assert await jobs.pop() == "x"

    try:
        asyncio.run(run())
    finally:
        here.resume()
