"""Periodic sets when something goes wrong: each tick is taken by exactly one, and no item loses its rhythm."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

import redset
import redset.aio
from faces import Face
from invariants import TYPES, PeriodicRawSet
from proxy import Fault, Proxy, fails
from redset.core.keys import Keys
from redset.exceptions import ServerFullError, WrongTypeError
from servers import PATIENCE, Server, wait_until

pytestmark = pytest.mark.no_cover

EVERY = 100.0
POLLERS = 8

lost = pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])


@pytest.fixture
def other(raw: Any) -> Any:
    """The same set as another process sees it."""
    return redset.PeriodicSet(raw, "feeds", EVERY)


@pytest.fixture
def started(raw: Any) -> float:
    """A whole second 2.5 intervals ago, so that the third tick from then is the next to come."""
    return float(raw.time()[0]) - 2.5 * EVERY


@pytest.fixture
def state(raw: Any) -> PeriodicRawSet:
    return PeriodicRawSet(raw, "feeds")


# Replies that are lost


@lost
def test_add_says_true_though_its_first_reply_was_lost(
    stubborn: Face, stubborn_proxy: Proxy, state: PeriodicRawSet, raw: Any, fault: Fault
) -> None:
    feeds, scores = stubborn.PeriodicSet("feeds", EVERY, jitter=50), []
    stubborn_proxy.plan(fault, meanwhile=lambda: scores.append(raw.zscore("feeds", "a")))

    assert feeds.add("a", interval=7) is True
    assert feeds.next_due("a") == scores[0], "its jitter was drawn once"
    assert stubborn_proxy.faults == 1
    stubborn_proxy.plan(fault)
    assert feeds.add("a") is False


@lost
def test_add_with_a_first_tick_is_new_though_its_first_reply_was_lost(
    stubborn: Face, stubborn_proxy: Proxy, fault: Fault
) -> None:
    feeds = stubborn.PeriodicSet("feeds", EVERY)
    stubborn_proxy.plan(fault)

    assert feeds.add("a", first=1000) is True
    assert feeds.next_due("a") == 1000
    assert stubborn_proxy.faults == 1


@lost
@pytest.mark.parametrize("move", [lambda feeds: feeds.reschedule("a", 5), lambda feeds: feeds.trigger("a")])
def test_an_item_is_moved_once_though_the_first_reply_was_lost(
    stubborn: Face, stubborn_proxy: Proxy, other: Any, move: Callable[[Any], Any], fault: Fault
) -> None:
    feeds = stubborn.PeriodicSet("feeds", EVERY)
    other.add("a", first=2**40)
    move(stubborn.PeriodicSet("feeds", EVERY, connections="client"))  # from now on the server knows the script
    other.reschedule("a", 2**40)
    stubborn_proxy.plan(fault, meanwhile=lambda: other.take(1))

    move(feeds)
    assert other.take(1) == [], "what others did meanwhile stands"
    assert stubborn_proxy.faults == 1


@lost
def test_update_counts_what_was_new_though_its_first_reply_was_lost(
    stubborn: Face, stubborn_proxy: Proxy, fault: Fault
) -> None:
    feeds = stubborn.PeriodicSet("feeds", EVERY)
    feeds.add("7")
    stubborn_proxy.plan(fault)

    assert feeds.update(map(str, range(10))) == 9


@lost
def test_what_was_added_and_discarded_meanwhile_is_not_added_again(
    stubborn: Face, stubborn_proxy: Proxy, other: Any, state: PeriodicRawSet, fault: Fault
) -> None:
    stubborn_proxy.plan(fault, meanwhile=lambda: other.discard("a"))

    assert stubborn.PeriodicSet("feeds", EVERY).add("a", interval=7) is True
    assert state.is_empty()


@lost
@pytest.mark.parametrize("keyed", [False, True])
def test_take_returns_what_was_taken_though_its_first_reply_was_lost(
    stubborn: Face, stubborn_proxy: Proxy, raw: Any, started: float, fault: Fault, keyed: bool
) -> None:
    feeds = stubborn.PeriodicSet("feeds", EVERY, key=(lambda item: item[:1]) if keyed else None)
    feeds.update(["a1", "b1"], interval=500, first=started)
    stubborn_proxy.plan(fault)

    assert feeds.take(5) == ["a1", "b1"]
    assert feeds.take(5) == []
    assert feeds.next_due("a1") == started + 500
    assert stubborn_proxy.faults == 1


@lost
def test_a_tick_that_nobody_saw_is_handed_out_again_once(
    frank: Face, frank_proxy: Proxy, other: Any, state: PeriodicRawSet, started: float, fault: Fault
) -> None:
    feeds = frank.PeriodicSet("feeds", EVERY)
    other.add("a", first=started), other.add("b", first=started + 1, interval=7777)
    frank_proxy.plan(fault)
    fails(feeds.take, 2)
    assert state.scores("waiting") == {b"a": started + 3 * EVERY, b"b": started + 7778}
    assert other.take(5) == []

    assert feeds.take(1) == ["a"]
    assert state.scores("waiting") == {b"a": started + 3 * EVERY, b"b": started + 1}
    assert other.take(5) == ["b"]
    assert feeds.take(5) == other.take(5) == []
    state.check()


@pytest.mark.parametrize("meanwhile", ["taken again", "discarded", "cleared", "planned anew", "reserved", "buried"])
def test_what_became_of_an_item_since_a_tick_that_nobody_saw_stands(
    frank: Face, frank_proxy: Proxy, other: Any, raw: Any, state: PeriodicRawSet, started: float, meanwhile: str
) -> None:
    feeds = frank.PeriodicSet("feeds", EVERY)
    other.add("a", first=started, interval=500)
    frank_proxy.plan(Fault.LOST_REPLY)
    fails(feeds.pop)
    if meanwhile in {"taken again", "reserved", "buried"}:
        # The next tick has come.
        raw.zadd("feeds", {"a": started + 7})
    {
        "taken again": other.pop,
        "discarded": lambda: other.discard("a"),
        "cleared": other.clear,
        "planned anew": lambda: raw.zadd("feeds", {"a": 2**40}),
        "reserved": other.reserve,
        "buried": lambda: other.reserve().bury(),
    }[meanwhile]()
    keys = "waiting", "leased", "dead"
    before = [state.scores(key) for key in keys], state.fields("values")

    assert feeds.take(5) == []
    assert ([state.scores(key) for key in keys], state.fields("values")) == before
    state.check()


def test_a_new_interval_meanwhile_does_not_lose_the_tick_that_nobody_saw(
    frank: Face, frank_proxy: Proxy, other: Any, started: float
) -> None:
    feeds = frank.PeriodicSet("feeds", EVERY)
    other.add("a", first=started)
    frank_proxy.plan(Fault.LOST_REPLY)
    fails(feeds.pop)
    other.add("a", interval=7777)

    assert feeds.pop() == "a"
    assert feeds.next_due("a") == started + 7777


@lost
def test_a_lease_that_nobody_saw_is_no_attempt_and_keeps_the_rhythm(
    frank: Face, frank_proxy: Proxy, other: Any, started: float, fault: Fault
) -> None:
    feeds = frank.PeriodicSet("feeds", EVERY)
    other.add("a", first=started)
    frank_proxy.plan(fault)
    fails(feeds.reserve)

    reservation = feeds.reserve()
    assert (reservation.attempt, reservation.score) == (1, started)
    frank_proxy.plan(fault)
    fails(reservation.ack)
    due = other.next_due("a")
    reservation.ack()
    assert other.next_due("a") == due == started + 3 * EVERY


@lost
def test_an_ack_whose_reply_was_lost_is_one(
    stubborn: Face, stubborn_proxy: Proxy, other: Any, started: float, fault: Fault
) -> None:
    feeds = stubborn.PeriodicSet("feeds", EVERY)
    other.add("a", first=started)
    reservation = feeds.reserve()
    stubborn_proxy.plan(fault, meanwhile=lambda: other.discard("a"))
    reservation.ack()

    assert len(other) == 0


def test_an_old_addition_that_arrives_late_does_nothing(
    frank: Face, frank_proxy: Proxy, other: Any, state: PeriodicRawSet
) -> None:
    feeds = frank.PeriodicSet("feeds", EVERY)
    frank_proxy.plan(Fault.LATE)
    fails(feeds.add, "a")
    assert feeds.add("b") is True

    assert frank_proxy.deliver() == 1
    assert state.scores("waiting").keys() == {b"b"}


# Cancellation


def test_of_tasks_that_are_cancelled_each_tick_is_taken_once(server_itself: Server, raw: Any, started: float) -> None:
    items = [f"feed {number}" for number in range(600)]
    redset.PeriodicSet(raw, "feeds", EVERY).update(items, first=started)

    taken = asyncio.run(take_and_be_cancelled(server_itself.url, random.Random(7)))

    assert Counter(taken) == Counter(items)
    assert all(score == started + 3 * EVERY for _, score in raw.zrange("feeds", 0, -1, withscores=True))


async def take_and_be_cancelled(url: str, chance: random.Random) -> list[str]:
    taken: list[str] = []
    cancelled = 0
    async with redis.asyncio.Redis.from_url(url) as client:
        feeds = redset.aio.PeriodicSet[str](client, "feeds", EVERY)

        async def poll() -> None:
            while got := await feeds.take(2):
                taken.extend(got)

        for _ in range(60):
            tasks = [asyncio.create_task(poll()) for _ in range(4)]
            await asyncio.sleep(chance.random() * 0.003)
            for task in tasks:
                cancelled += task.cancel()
            await asyncio.wait(tasks)
            if not await feeds.available():
                break
        await poll()
    assert cancelled > 10
    return taken


# A full server


def test_on_a_full_server_work_goes_on(face: Any, state: PeriodicRawSet, started: float, filling: Any) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, serializer=json, backoff=lambda attempt: 30)
    feeds.update([[number] for number in range(6)], first=lambda item: started + item[0])
    feeds.update([[0], [2], [4]], interval=500)
    filling()

    assert feeds.pop() == [0]
    assert feeds.take(2) == [[1], [2]]
    held = feeds.reserve_many(3)
    assert feeds.ack(held[:2]) == []
    held[2].nack()
    due = [started + 500, started + 301, started + 502, started + 303, started + 504]
    assert [feeds.next_due([number]) for number in range(5)] == due
    assert feeds.discard([5]) is True
    state.check()


def test_a_full_server_keeps_what_cannot_be_loaded(face: Any, raw: Any, started: float, filling: Any) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, serializer=json)
    raw.zadd("feeds", {"{": started, "2": started})
    filling()

    assert feeds.take(2) == [2]
    assert [letter.raw for letter in feeds.dead_letters] == [b"{"]
    assert feeds.next_due(2) == started + 3 * EVERY


@pytest.mark.parametrize("keyed", [False, True])
def test_a_full_server_refuses_what_is_added_whole(face: Any, raw: Any, filling: Any, keyed: bool) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, key=str if keyed else None)
    feeds.add("a", interval=500), feeds.add("b")
    before = raw.dump("feeds"), raw.dump("{feeds}:values")
    filling()

    calls: list[Callable[[], Any]] = [
        lambda: feeds.add("c"),
        lambda: feeds.add("c", interval=7),
        lambda: feeds.add("b", interval=7),
        lambda: feeds.update(["a", "b", "c"], interval=7),
    ]
    for call in calls:
        with pytest.raises(ServerFullError, match="feeds"):
            call()
    if not keyed:
        assert feeds.add("b") is False, "this takes no memory"

    assert (raw.dump("feeds"), raw.dump("{feeds}:values")) == before
    raw.config_set("maxmemory", "0")
    assert feeds.add("c") is True


# Keys of the wrong type


@pytest.mark.parametrize("companion", [*TYPES, "values"])
@pytest.mark.parametrize("state_of_work", ["idle", "busy"])
def test_a_key_that_holds_something_else_is_named_and_nothing_has_changed(
    face: Any, raw: Any, started: float, companion: str, state_of_work: str
) -> None:
    key = getattr(Keys("feeds"), companion)
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "add": lambda feeds, held: feeds.add("new", interval=7),
        "add again": lambda feeds, held: feeds.add("a", interval=7),
        "take": lambda feeds, held: feeds.take(2),
        "take and wait": lambda feeds, held: feeds.take(2, wait=0.01),
        "reserve": lambda feeds, held: feeds.reserve(),
        "ack": lambda feeds, held: held.ack(),
        "nack": lambda feeds, held: held.nack(),
        "bury": lambda feeds, held: held.bury(),
        "interval": lambda feeds, held: feeds.interval("a"),
        "next_due": lambda feeds, held: feeds.next_due("a"),
        "discard": lambda feeds, held: feeds.discard("a"),
        "retry": lambda feeds, held: feeds.dead_letters.retry("dead"),
    }
    wrong = {"set": lambda: raw.sadd(key, "x"), "string": lambda: raw.set(key, "x")}
    for name, operate in operations.items():
        raw.flushall()
        feeds = face.PeriodicSet("feeds", EVERY, retry_safe=False)
        feeds.add("dead", first=started, interval=500)
        feeds.reserve().bury()
        if state_of_work == "idle":
            feeds.dead_letters.clear()
        feeds.add("held", first=started, interval=500)
        held = feeds.reserve()
        feeds.add("a", first=started, interval=500)
        if state_of_work == "busy":
            raw.zadd("feeds", {"held": started + 1})
            raw.zadd("{feeds}:looks", {"another": started + 60})
        raw.delete(key)
        wrong["string"]()
        before = dumped(raw)
        if error := error_of(operate, feeds, held):
            assert f"'{key.decode()}'" in str(error), name
            assert dumped(raw) == before, name
        assert raw.type(key) == b"string", name


def dumped(raw: Any) -> dict[bytes, bytes]:
    """What is in the keys: two dumps of one may differ."""
    reads: dict[bytes, Callable[[bytes], Any]] = {
        b"zset": lambda key: raw.zrange(key, 0, -1, withscores=True),
        b"hash": lambda key: raw.hgetall(key),
        b"string": raw.get,
        b"set": raw.smembers,
        b"list": lambda key: raw.lrange(key, 0, -1),
    }
    return {key: reads[raw.type(key)](key) for key in raw.keys("*")}


def error_of(call: Callable[..., Any], *args: Any) -> WrongTypeError | None:
    try:
        call(*args)
    except WrongTypeError as error:
        return error
    return None


# Many processes


def test_each_tick_is_taken_by_exactly_one_of_many_processes(process: Any, raw: Any) -> None:
    """Half of them take, and half reserve and ack."""
    feeds = redset.PeriodicSet(raw, "feeds", 0.05, jitter=0.05)
    items = [f"feed {number}" for number in range(40)]
    pollers = [process(poll, number) for number in range(POLLERS)]
    wait_until(lambda: raw.scard("ready") == POLLERS)
    feeds.update(items, interval=lambda item: 0.05 + len(item) / 1000)
    wait_until(lambda: raw.llen("ticks") > 3000)
    raw.set("the end", "1")
    for poller in pollers:
        poller.join()

    ticks = Counter(raw.lrange("ticks", 0, -1))
    assert max(ticks.values()) == 1, [tick for tick in ticks if ticks[tick] > 1]
    assert {tick.rpartition(b"@")[0].decode() for tick in ticks} == set(items)
    assert feeds.stats().leased == 0
    assert len(feeds) == len(items)


class Listening:
    """A client that sees which ticks are handed out: the rows of each reply, item and score."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.ticks: list[bytes] = []

    def execute_command(self, *words: Any, **options: Any) -> Any:
        reply = self.client.execute_command(*words, **options)
        if isinstance(reply, list):
            self.ticks += [item + b"@" + score for item, score in zip(reply[:-1:2], reply[1:-1:2], strict=True)]
        return reply


def poll(url: str, number: int) -> None:
    with redis.Redis.from_url(url) as client:
        listening = Listening(client)
        taking, reserving = (redset.PeriodicSet[str](one, "feeds", 0.05) for one in (listening, client))
        client.sadd("ready", number)
        while not client.exists("the end"):
            if number % 2:
                taking.take(3, wait=0.05)
            else:
                reserved = reserving.reserve_many(3, wait=0.05)
                listening.ticks += [f"{one.item}@{one.score:.17g}".encode() for one in reserved]
                assert reserving.ack(reserved) == []
            if listening.ticks:
                client.rpush("ticks", *listening.ticks)
                listening.ticks.clear()


def test_the_item_of_a_poller_that_was_killed_comes_back_on_its_rhythm(process: Any, raw: Any) -> None:
    feeds = redset.PeriodicSet(raw, "feeds", EVERY)
    started = raw.time()[0] - 10
    feeds.add("a", first=started)
    poller = process(reserve_and_never_return)
    wait_until(lambda: raw.exists("reserved") > 0)
    poller.kill()
    poller.join()
    assert feeds.take(1) == []

    reservation = feeds.reserve(wait=PATIENCE)
    assert (reservation.attempt, reservation.score) == (2, started)
    reservation.ack()
    assert feeds.next_due("a") == started + EVERY


def reserve_and_never_return(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        redset.PeriodicSet(client, "feeds", EVERY).reserve(lease=1)
        client.set("reserved", "1")
        time.sleep(PATIENCE)
