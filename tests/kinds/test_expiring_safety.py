"""Expiring sets when something goes wrong: each item is new to exactly one, and nothing is half done."""

import asyncio
import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio

import redset
import redset.aio
from conftest import CLIENT
from faces import Face
from proxy import Chance, Fault, Proxy, fails, proxied
from redset.core.keys import Keys
from redset.exceptions import ServerFullError, WrongTypeError
from servers import Server

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("without_registry")]

TTL = 1000.0
PROCESSES = 8

lost = pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])


@pytest.fixture
def other(raw: Any) -> Any:
    """The same set as another process sees it."""
    return redset.ExpiringSet(raw, "seen", TTL)


class TestACallWhoseReplyIsLost:
    """The client sends it again: the server gives the reply it gave before."""

    @lost
    @pytest.mark.parametrize("digest", [False, True], ids=["items", "digests"])
    def test_add_says_true(self, stubborn: Face, stubborn_proxy: Proxy, raw: Any, fault: Fault, digest: bool) -> None:
        seen = stubborn.ExpiringSet("seen", TTL, digest=digest)
        stubborn_proxy.plan(fault)

        assert seen.add("a") is True
        assert seen.add("a") is False
        assert (stubborn_proxy.faults, raw.zcard("seen")) == (1, 1)

    @lost
    def test_add_new_names_what_was_new(self, stubborn: Face, stubborn_proxy: Proxy, other: Any, fault: Fault) -> None:
        other.add_new(["00003", "01003"])
        stubborn_proxy.plan(fault, Fault.NONE, fault)

        new = stubborn.ExpiringSet("seen", TTL).add_new(f"{number:05}" for number in range(2500))

        assert new == [f"{number:05}" for number in range(2500) if number not in (3, 1003)]
        assert stubborn_proxy.faults == 2

    def test_an_item_that_was_discarded_meanwhile_is_not_added_again(
        self, stubborn: Face, stubborn_proxy: Proxy, other: Any, raw: Any
    ) -> None:
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.discard("a"))

        assert stubborn.ExpiringSet("seen", TTL).add("a") is True
        assert raw.exists("seen") == 0

    @pytest.mark.parametrize(
        ("call", "says", "meanwhile"),
        [
            (lambda seen: seen.discard("a"), True, lambda other: other.add("a")),
            (lambda seen: seen.remove("a"), None, lambda other: other.add("a")),
            (lambda seen: seen.clear(), True, lambda other: other.add("a")),
            (lambda seen: seen.touch("a", ttl=5), True, lambda other: other.touch("a")),
        ],
        ids=["discard", "remove", "clear", "touch"],
    )
    def test_it_is_done_once_and_says_what_it_did(
        self, stubborn: Face, stubborn_proxy: Proxy, other: Any, call: Any, says: Any, meanwhile: Any
    ) -> None:
        other.add("a")
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: meanwhile(other))

        assert call(stubborn.ExpiringSet("seen", TTL)) is says
        assert "a" in other
        assert other.ttl("a") > 100

    def test_an_addition_that_comes_late_adds_nothing(
        self, frank: Face, frank_proxy: Proxy, other: Any, raw: Any
    ) -> None:
        seen = frank.ExpiringSet("seen", TTL)
        frank_proxy.plan(Fault.LATE)

        fails(seen.add, "a")
        assert seen.add("b") is True
        assert frank_proxy.deliver() == 1
        assert list(other) == ["b"]


def test_what_was_new_before_a_connection_is_lost_is_in_the_error(frank: Face, frank_proxy: Proxy, raw: Any) -> None:
    frank_proxy.plan(Fault.NONE, Fault.LOST_COMMAND)

    error: Any = fails(frank.ExpiringSet("seen", TTL).add_new, [f"{number:05}" for number in range(2500)])

    assert error.new_items == [f"{number:05}" for number in range(1000)]
    assert error.__notes__[0].startswith("1000 items had been added to the set 'seen' before")
    assert raw.zcard("seen") == 1000


def test_each_item_is_new_once_however_bad_the_network(server_itself: Server, face_type: Any, other: Any) -> None:
    chance = Chance(seed=1, one_in=8, kinds=(Fault.LOST_COMMAND, Fault.LOST_REPLY, Fault.CUT_REPLY))
    items = [f"item {number}" for number in range(400)]
    found: list[str] = []
    with proxied(server_itself, face_type, CLIENT, 20, chance) as (face, proxy):
        seen = face.ExpiringSet("seen", TTL)
        for start in range(0, 400, 40):
            found += [item for item in items[start : start + 20] if seen.add(item)]
            found += seen.add_new(items[: start + 40])
        assert proxy.faults > 10

    assert sorted(found) == sorted(items)
    assert len(other) == 400


# Races


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that connect for themselves: half of them on each face."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        yield pool


@pytest.mark.parametrize("digest", [False, True], ids=["items", "digests"])
def test_each_item_is_new_to_exactly_one(
    server_itself: Server, raw: Any, processes: ProcessPoolExecutor, digest: bool
) -> None:
    items = [f"page {number}" for number in range(2000)]
    # Some are there, but over.
    raw.zadd("seen", dict.fromkeys(items[::3], time.time() - 5))

    adding = [processes.submit(add_all, server_itself.url, items, number, digest) for number in range(PROCESSES)]
    new = Counter(item for added in adding for item in added.result())

    assert {item: times for item, times in new.items() if times > 1} == {}
    assert new.keys() == set(items)


def test_each_item_is_popped_by_exactly_one(server_itself: Server, raw: Any, processes: ProcessPoolExecutor) -> None:
    items = [f"page {number}" for number in range(400)]
    redset.ExpiringSet(raw, "seen", TTL).add_new(items)

    popping = [processes.submit(pop_all, server_itself.url) for _ in range(PROCESSES)]

    assert Counter(item for popped in popping for item in popped.result()) == Counter(items)


def add_all(url: str, items: list[str], number: int, digest: bool) -> list[str]:
    """What is new to this process, of items in an order of its own, one by one and several at a time."""
    items = random.Random(number).sample(items, len(items))
    if number % 2:
        return asyncio.run(add_all_awaited(url, items, digest))
    with redis.Redis.from_url(url) as client:
        seen = redset.ExpiringSet(client, "seen", TTL, digest=digest)
        return [item for item in items[:500] if seen.add(item)] + seen.add_new(items)


async def add_all_awaited(url: str, items: list[str], digest: bool) -> list[str]:
    async with redis.asyncio.Redis.from_url(url) as client:
        seen = redset.aio.ExpiringSet(client, "seen", TTL, digest=digest)
        new = [item for item in items[:500] if await seen.add(item)]
        return new + await seen.add_new(items)


def pop_all(url: str) -> list[str]:
    popped: list[str] = []
    with redis.Redis.from_url(url) as client:
        seen = redset.ExpiringSet(client, "seen", TTL)
        while True:
            try:
                popped.append(seen.pop())
            except KeyError:
                return popped


def test_tasks_that_add_the_same_items_share_round_trips_and_each_is_new_to_one(server_itself: Server) -> None:
    async def add_by_many() -> tuple[list[bool], list[bool], list[float | None], list[bool], int]:
        async with redis.asyncio.Redis.from_url(server_itself.url) as client:
            seen = redset.aio.ExpiringSet(client, "seen", TTL)
            await client.config_resetstat()
            new = await asyncio.gather(*(seen.add(str(number % 50)) for number in range(400)))
            there = await asyncio.gather(*(seen.contains(str(number)) for number in range(100)))
            left = await asyncio.gather(*(seen.ttl(str(number)) for number in range(100)))
            gone = await asyncio.gather(*(seen.discard(str(number % 10)) for number in range(20)))
            return new, there, left, gone, (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]

    new, there, left, gone, calls = asyncio.run(add_by_many())

    assert new == [True] * 50 + [False] * 350
    assert there == [number < 50 for number in range(100)]
    assert [one is not None for one in left] == there
    assert gone == [True] * 10 + [False] * 10
    assert calls < 12


# What a server refuses


def test_a_full_server_refuses_what_is_added_whole(face: Any, raw: Any, filling: Callable[[], None]) -> None:
    seen = face.ExpiringSet("seen", TTL)
    seen.add("a")
    before = raw.zrange("seen", 0, -1, withscores=True)
    filling()

    refusals: list[Callable[[], Any]] = [
        lambda: seen.add("b"),
        lambda: seen.add_new("abc"),
        lambda: seen.touch("a", ttl=5),
        lambda: seen.union_update("bc"),
    ]
    for refused in refusals:
        with pytest.raises(ServerFullError, match="'seen'"):
            refused()
    assert raw.zrange("seen", 0, -1, withscores=True) == before


def test_what_a_full_server_refuses_of_many_leaves_what_was_new_before(
    face: Any, raw: Any, filling: Callable[[], None]
) -> None:
    seen = face.ExpiringSet("seen", TTL)

    def given() -> Iterator[int]:
        yield from range(1000)
        filling()
        yield from range(1000, 1500)

    with pytest.raises(ServerFullError) as raised:
        seen.add_new(given())
    error: Any = raised.value
    assert error.new_items == list(range(1000))


def test_a_full_server_still_answers_and_frees_what_is_over(face: Any, raw: Any, filling: Callable[[], None]) -> None:
    seen = face.ExpiringSet("seen", TTL)
    seen.add_new("abc")
    raw.zadd("seen", {f"over {number}": number for number in range(300)})
    filling()

    assert seen.add("a") is False
    assert seen.add_new("ab") == []
    assert (seen.touch("x"), "a" in seen, len(seen), sorted(seen)) == (False, True, 3, ["a", "b", "c"])
    assert raw.zcard("seen") == 3
    assert (seen.discard("a"), seen.discard("a"), seen.pop(), seen.clear()) == (True, False, "b", True)


def test_what_is_refused_makes_room_all_the_same(face: Any, raw: Any, filling: Callable[[], None]) -> None:
    seen = face.ExpiringSet("seen", TTL)
    raw.zadd("seen", {f"over {number}": number for number in range(150)})
    filling()
    for _ in range(2):
        with pytest.raises(ServerFullError):
            seen.add("a")

    assert raw.exists("seen") == 0


EVERY_OPERATION: dict[str, Callable[[Any], Any]] = {
    "add": lambda seen: seen.add(1),
    "add_new": lambda seen: seen.add_new([1]),
    "touch": lambda seen: seen.touch(1),
    "in": lambda seen: 1 in seen,
    "contains_many": lambda seen: seen.contains_many([1]),
    "count": lambda seen: seen.count(),
    "ttl": lambda seen: seen.ttl(1),
    "iterate": lambda seen: list(iter(seen)),
    "discard": lambda seen: seen.discard(1),
    "remove": lambda seen: seen.remove(1),
    "pop": lambda seen: seen.pop(),
    "clear": lambda seen: seen.clear(),
    "union": lambda seen: seen.union([1]),
    "difference_update": lambda seen: seen.difference_update([1]),
}


@pytest.mark.conformance
@pytest.mark.parametrize("operate", EVERY_OPERATION.values(), ids=EVERY_OPERATION.keys())
def test_a_key_that_holds_something_else_is_named_and_left_alone(face: Any, raw: Any, operate: Any) -> None:
    raw.set("seen", "a string of somebody else")

    with pytest.raises(WrongTypeError, match="'seen'"):
        operate(face.ExpiringSet("seen", TTL, json))
    assert raw.get("seen") == b"a string of somebody else"


def test_nothing_is_recorded_where_calls_need_not_be_safe_to_repeat(face: Any, raw: Any) -> None:
    seen = face.ExpiringSet("seen", TTL, retry_safe=False)

    assert [seen.add("a"), seen.add("a"), seen.discard("a"), seen.add_new("bb")] == [True, False, True, ["b"]]
    assert sorted(raw.keys()) == [b"seen", b"{seen}:meta"]


def test_the_records_of_calls_end_by_themselves(face: Any, raw: Any) -> None:
    seen = face.ExpiringSet("seen", TTL)
    seen.add("a")
    (record,) = (key for key in raw.keys() if key not in (b"seen", b"{seen}:meta"))  # noqa: SIM118 # a client is no dict

    assert record.startswith(Keys("seen").call_prefix)
    assert 0 < raw.ttl(record) <= 600
