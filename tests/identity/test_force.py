"""``add(item, force=True)`` on a set that remembers: past the memory, and past a dead letter."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import redset
import redset.aio
from clients import close_awaited
from invariants import KeyedRawSet
from proxy import Fault
from redset import SortedSet
from servers import Server

conformance = pytest.mark.conformance

each_memory = pytest.mark.parametrize("options", [{}, {"digest": True}], ids=["items", "digests"])

KEEPS: dict[str, Callable[[Any], Any]] = {
    "done": lambda pages: pages.reserve().ack(),
    "taken": lambda pages: pages.pop(),
    "dead": lambda pages: pages.reserve().bury("no such page"),
}
each_end = pytest.mark.parametrize("end", KEEPS.values(), ids=KEEPS)


@conformance
@each_memory
@each_end
def test_an_item_that_is_left_out_is_added_by_force(face: Any, options: dict[str, Any], end: Any) -> None:
    pages = face.SortedSet("pages", remember=1000, **options)
    pages.update("ab"), end(pages)
    assert pages.add("a") is None

    assert pages.add("a", 7, force=True) == 7.0
    assert (pages.is_done("a"), len(pages.dead_letters)) == (False, 0)
    assert pages.take(10) == ["b", "a"]
    assert pages.add("a") is None, "it is remembered anew"


@conformance
@each_end
def test_a_forced_addition_brings_its_value(face: Any, raw: Any, end: Any) -> None:
    pages = face.SortedSet("pages", serializer=json, key=lambda page: page["url"], remember=1000)
    pages.add({"url": "/a", "n": 1}), end(pages)

    pages.add({"url": "/a", "n": 2}, force=True)
    KeyedRawSet(raw, "pages").check(without_value=frozenset())
    reservation = pages.reserve()
    assert (reservation.item, reservation.attempt) == ({"url": "/a", "n": 2}, 1)


@conformance
def test_a_forced_addition_of_a_leased_item_is_parked(face: Any) -> None:
    pages = face.SortedSet("pages", remember=1000)
    pages.add("a")
    reservation = pages.reserve()
    assert pages.add("a", force=True) == 0.0

    assert pages.take(10) == []
    assert pages.stats().parked == 1
    reservation.ack()
    assert (len(pages), pages.is_done("a")) == (0, True)


@conformance
def test_a_waiting_item_that_is_remembered_is_claimed_after_a_forced_addition(face: Any, raw: Any) -> None:
    pages = face.SortedSet("pages", remember=1000)
    pages.add("a"), pages.pop()
    raw.zadd("pages", {"a": 3})
    assert pages.add("a", 5, nx=True, force=True) == 3.0

    assert pages.take(10) == ["a"]


@conformance
def test_force_makes_no_difference_on_a_set_that_does_not_remember(face: Any) -> None:
    pages = face.SortedSet("pages")
    pages.add("dead"), pages.reserve().bury()

    assert pages.add("dead", force=True) == 0.0
    assert pages.add("a", 3, force=True) == 3.0
    assert pages.take(10) == ["dead", "a"]
    assert len(pages.dead_letters) == 0


@conformance
def test_a_delayed_addition_may_be_forced(face: Any) -> None:
    pages = face.ScheduledSet("pages", remember=1000)
    pages.add("a"), pages.pop()

    assert pages.add("a", delay=1000, force=True) > 1000
    assert (len(pages), pages.available(), pages.is_done("a")) == (1, 0, False)


@pytest.mark.parametrize("end", KEEPS.values(), ids=KEEPS)
def test_items_without_room_stay_remembered_or_dead(here: Any, raw: Any, end: Any) -> None:
    pages = SortedSet(raw, "pages", remember=1000)
    for item in "abcd":
        pages.add(item), end(pages)
    before = [pages.state(item) for item in "abcd"]
    pages.limit(maxsize=2)

    async def add_all() -> list[Any]:
        client = here.client("redis", awaited=True)
        mine = redset.aio.SortedSet(client, "pages", remember=1000)
        # The second one and those behind it are one call.
        added = await asyncio.gather(*(mine.add(item, force=True) for item in "abcd"), return_exceptions=True)
        await close_awaited(client)
        return added

    assert [isinstance(result, redset.Full) for result in asyncio.run(add_all())] == [False, False, True, True]
    assert [pages.state(item) for item in "abcd"] == ["waiting", "waiting", *before[2:]]
    assert pages.totals().revived == before[:2].count("dead")


def test_force_and_xx_contradict_each_other(face: Any, raw: Any) -> None:
    with pytest.raises(ValueError, match="force and xx contradict each other"):
        face.SortedSet("pages", remember=1000).add("a", xx=True, force=True)
    assert raw.dbsize() == 0


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])
def test_an_item_is_added_by_force_once_though_the_first_reply_was_lost(
    stubborn: Any, stubborn_proxy: Any, raw: Any, fault: Fault
) -> None:
    face, proxy = stubborn, stubborn_proxy
    pages, other = face.SortedSet("pages", remember=1000), SortedSet(raw, "pages", remember=1000)
    other.add("a", force=True), other.pop()  # from now on the server knows the script
    proxy.plan(fault, meanwhile=other.pop)

    assert pages.add("a", force=True) == 0.0
    assert (len(other), other.is_done("a")) == (0, True), "it was taken meanwhile, and is remembered"
    assert proxy.faults == 1


def test_a_full_server_forgets_nothing(face: Any, here: Any, raw: Any, filling: Callable[[], None]) -> None:
    assert isinstance(here, Server)
    pages = face.SortedSet("pages", remember=1000)
    pages.update("ab"), pages.pop(), pages.reserve().bury()
    filling()
    for item in "ab":
        with pytest.raises(Exception, match="maxmemory"):
            pages.add(item, force=True)

    assert (pages.is_done("a"), len(pages.dead_letters)) == (True, 1)
