"""Calls that are sent twice, too late, or never: the outcome is that of one call. See docs/protocol.md."""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from conftest import CLIENT, SERVER
from faces import Blocking, Face
from invariants import RawSet, assert_each_once
from proxy import Chance, Fault, Proxy, fails, is_of_the_network, proxied
from redset import SortedSet
from redset.core import consuming
from redset.core.keys import Keys
from redset.exceptions import LeaseLost
from servers import Server

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("without_registry")]

#: The reply does not arrive, or half of it.
lost = pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])


@pytest.fixture
def jobs(stubborn: Face) -> Any:
    return stubborn.SortedSet("jobs")


@pytest.fixture
def frank_jobs(frank: Face) -> Any:
    """A set whose errors reach the caller."""
    return frank.SortedSet("jobs")


@pytest.fixture
def other(raw: Any) -> "SortedSet[Any]":
    """The same set as another process sees it."""
    return SortedSet(raw, "jobs")


@pytest.fixture
def state(raw: Any) -> RawSet:
    return RawSet(raw, "jobs")


def expire(raw: Any, *items: bytes) -> None:
    """Makes leases run out."""
    raw.zadd(Keys("jobs").leased, dict.fromkeys(items, 1.0), xx=True)


class TestACallWhoseReplyIsLost:
    """The client sends it again: the server gives the reply it gave before."""

    @lost
    def test_an_item_that_was_handed_out_meanwhile_is_not_added_again(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, fault: Fault
    ) -> None:
        stubborn_proxy.plan(fault, meanwhile=other.pop)

        assert jobs.add("read", 5) == 5.0
        assert state.scores("waiting") == {}
        assert stubborn_proxy.faults == 1

    @pytest.mark.parametrize("flags", [{"nx": True}, {"gt": True}], ids=str)
    def test_nor_when_it_was_added_by_flags(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, flags: dict[str, bool]
    ) -> None:
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=other.pop)

        assert jobs.add("read", 5, **flags) == 5.0
        assert state.scores("waiting") == {}

    @lost
    def test_a_delay_is_counted_once(
        self, stubborn: Face, stubborn_proxy: Proxy, other: Any, state: RawSet, fault: Fault
    ) -> None:
        jobs = stubborn.ScheduledSet("jobs")
        jobs.add("x", delay=0), other.clear()  # from now on the server knows the script
        stubborn_proxy.plan(fault, meanwhile=lambda: other.add("read", 5))

        assert abs(jobs.add("read", delay=60) - time.time() - 60) < 10
        assert state.scores("waiting") == {b"read": 5.0}, "what was added meanwhile stands"
        assert stubborn_proxy.faults == 1

    def test_update_says_how_many_were_new_and_adds_nothing_again(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        stubborn_proxy.plan(Fault.NONE, Fault.LOST_REPLY, Fault.CUT_REPLY, meanwhile=lambda: other.take(5000))

        assert jobs.update(map(str, range(2500)), score=1) == 2500
        assert len(state.scores("waiting")) == 500
        assert stubborn_proxy.faults == 2

    @lost
    def test_increment_adds_once(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, fault: Fault
    ) -> None:
        other.add("x", 1)
        stubborn_proxy.plan(fault, fault)

        assert jobs.increment("x", 2) == 3.0
        assert jobs.increment("x", 2) == 5.0
        assert stubborn_proxy.faults == 2

    @pytest.mark.parametrize(
        ("remove", "says"),
        [
            (lambda jobs: jobs.remove("a"), None),
            (lambda jobs: jobs.remove_at(0), None),
            (lambda jobs: jobs.remove_slice(0, 1), 1),
            (lambda jobs: jobs.remove_between(0, 1), 1),
        ],
        ids=["remove", "remove_at", "remove_slice", "remove_between"],
    )
    def test_an_item_is_removed_once(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, remove: Any, says: object
    ) -> None:
        other.add("a", 1), other.add("b", 2)
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.add("a", 0))

        assert remove(jobs) == says
        assert state.scores("waiting") == {b"a": 0.0, b"b": 2.0}

    @lost
    def test_pop_returns_the_item_that_was_removed(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, fault: Fault
    ) -> None:
        other.add("first", 1), other.add("second", 2)
        stubborn_proxy.plan(fault)

        assert jobs.pop() == "first"
        assert state.scores("waiting") == {b"second": 2.0}
        assert stubborn_proxy.faults == 1

    @lost
    def test_take_returns_the_items_that_were_removed(
        self, jobs: Any, stubborn_proxy: Proxy, raw: Any, state: RawSet, fault: Fault
    ) -> None:
        raw.zadd("jobs", {f"{number:04}": number for number in range(1500)})
        stubborn_proxy.plan(fault, fault)

        assert jobs.take(1400) == [f"{number:04}" for number in range(1400)]
        assert len(state.scores("waiting")) == 100
        assert stubborn_proxy.faults == 2

    @lost
    def test_reserve_returns_the_lease_that_was_given(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, fault: Fault
    ) -> None:
        other.add("first", 1), other.add("second", 2)
        stubborn_proxy.plan(fault)

        reservation = jobs.reserve()

        assert (reservation.item, reservation.attempt, reservation.score) == ("first", 1, 1.0)
        assert state.scores("waiting") == {b"second": 2.0}
        assert state.fields("deliveries") == {b"first": b"%d 1 1" % reservation.token}
        assert state.scores("leased") == {b"first": pytest.approx(reservation.deadline, abs=0.001)}
        reservation.ack()

    @pytest.mark.parametrize(
        "options", [{}, {"serializer": json, "key": lambda row: row["id"]}], ids=["plain", "keyed"]
    )
    def test_reserve_returns_no_lease_that_is_over_by_then(
        self, stubborn: Face, stubborn_proxy: Proxy, raw: Any, options: dict[str, Any]
    ) -> None:
        """On a keyed set somebody else may be done with the item, and its value is gone."""
        jobs, other = stubborn.SortedSet("jobs", **options), SortedSet(raw, "jobs", **options)
        first, second = [{"id": "first"}, {"id": "second"}] if options else ["first", "second"]
        other.add(first, 1), other.add(second, 2)

        def be_done_with_it() -> None:
            expire(raw, b"first")
            time.sleep(0.1)
            assert other.pop() == first

        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=be_done_with_it)

        assert jobs.reserve(lease=0.05).item == second

    @pytest.mark.parametrize(
        "options", [{}, {"serializer": json, "key": lambda row: row["id"]}], ids=["plain", "keyed"]
    )
    def test_reserve_returns_the_leases_that_are_live_by_then(
        self, stubborn: Face, stubborn_proxy: Proxy, raw: Any, state: RawSet, options: dict[str, Any]
    ) -> None:
        """On a keyed set the value of an item that was removed is gone."""
        jobs, other = stubborn.SortedSet("jobs", **options), SortedSet(raw, "jobs", **options)
        first, second = [{"id": "first"}, {"id": "second"}] if options else ["first", "second"]
        other.add(first, 1), other.add(second, 2)
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.discard(first))

        (reservation,) = jobs.reserve_many(5)

        assert (reservation.item, reservation.attempt) == (second, 1)
        reservation.ack()
        assert state.is_empty()

    def test_a_lease_that_is_over_by_then_is_no_attempt(
        self, jobs: Any, stubborn_proxy: Proxy, raw: Any, other: Any, state: RawSet
    ) -> None:
        other.add("item", 1)
        stubborn_proxy.plan(Fault.LOST_REPLY, Fault.LOST_REPLY, meanwhile=lambda: time.sleep(0.1))

        reservation = jobs.reserve(lease=0.05)

        assert (reservation.item, reservation.attempt) == ("item", 1)
        assert state.fields("deliveries") == {b"item": b"%d 1 1" % reservation.token}

    def test_a_reply_may_be_lost_again_and_again(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("first", 1), other.add("second", 2)
        stubborn_proxy.plan(Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.LOST_REPLY)

        assert jobs.pop() == "first"
        assert state.scores("waiting") == {b"second": 2.0}

    def test_items_of_any_bytes_come_back_as_they_were(self, jobs: Any, stubborn_proxy: Proxy, raw: Any) -> None:
        items = [b"", b"\0", b"\xff\n0 1\r\n", bytes(range(256)), "é".encode()]
        raw.zadd("jobs", dict.fromkeys(items, 0.1))
        stubborn_proxy.plan(Fault.LOST_REPLY)

        assert sorted(item if isinstance(item, bytes) else item.encode() for item in jobs.take(9)) == sorted(items)

    def test_an_empty_reply_is_given_again_though_there_is_something_by_now(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.add("late", 1))

        with pytest.raises(KeyError):
            jobs.pop()
        assert state.scores("waiting") == {b"late": 1.0}

    def test_discard_says_that_it_was_there(self, jobs: Any, stubborn_proxy: Proxy, other: Any) -> None:
        other.add("x")
        stubborn_proxy.plan(Fault.LOST_REPLY)

        assert jobs.discard("x") is True
        assert jobs.discard("x") is False

    def test_discard_does_not_remove_what_was_added_since(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 1)
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.add("x", 2))

        assert jobs.discard("x") is True
        assert state.scores("waiting") == {b"x": 2.0}

    def test_clear_says_that_there_was_something_and_spares_what_came_since(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x")
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.add("new", 3))

        assert jobs.clear()
        assert state.scores("waiting") == {b"new": 3.0}

    @pytest.mark.parametrize(
        ("verb", "says"),
        [("retry", True), ("discard", True), ("retry_all", 1), ("clear", 1)],
        ids=str,
    )
    def test_a_dead_letter_is_ended_once(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, verb: str, says: object
    ) -> None:
        other.add("x", 1)
        other.reserve().bury("no good")
        # Handed out, or added and handed out, before the call is repeated.
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.take(1))
        one = ["x"] if verb in {"retry", "discard"} else []

        assert getattr(jobs.dead_letters, verb)(*one) == says
        assert state.is_empty()

    @pytest.mark.parametrize("verb", ["ack", "nack", "again", "extend", "bury"])
    def test_an_end_is_no_lost_lease(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet, verb: str
    ) -> None:
        other.add("x", 1)
        reservation = jobs.reserve()
        stubborn_proxy.plan(Fault.LOST_REPLY)

        end(reservation, verb)

        assert_ended(state, verb)
        assert not reservation.lost

    def test_what_cannot_be_loaded_is_buried_once(
        self, stubborn: Face, stubborn_proxy: Proxy, raw: Any, state: RawSet
    ) -> None:
        raw.zadd("jobs", {b"{broken": 1, b'"fine"': 2})
        jobs = stubborn.SortedSet("jobs", serializer=json)
        stubborn_proxy.plan(Fault.NONE, Fault.LOST_REPLY, meanwhile=lambda: jobs_cleared(raw))

        assert jobs.take(2) == ["fine"]
        assert state.scores("dead") == {}

    def test_the_scripts_may_be_gone_by_then(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, raw: Any, state: RawSet
    ) -> None:
        other.add("first", 1), other.add("second", 2)
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=raw.script_flush)

        assert jobs.pop() == "first"
        assert state.scores("waiting") == {b"second": 2.0}

    def test_sets_of_which_many_calls_are_made_keep_one_record_for_ten_minutes(self, jobs: Any, raw: Any) -> None:
        for number in range(5):
            jobs.add(str(number))
            jobs.pop()

        (record,) = raw.keys(Keys("jobs").call_prefix + b"*")
        assert 590 < raw.ttl(record) <= 600


def jobs_cleared(raw: Any) -> None:
    raw.delete(Keys("jobs").dead, Keys("jobs").letters)


def end(reservation: Any, verb: str) -> None:
    arguments: dict[str, list[Any]] = {"extend": [500], "nack": [0, "why"], "bury": ["why"]}
    getattr(reservation, verb)(*arguments.get(verb, []))


def assert_ended(state: RawSet, verb: str) -> None:
    """That the reservation of "x", score 1, came to this end, once."""
    state.check()
    waiting = {"nack": {b"x": 1.0}, "again": {b"x": 1.0}}.get(verb, {})
    assert state.scores("waiting") == waiting
    assert state.scores("leased").keys() == ({b"x"} if verb == "extend" else set())
    assert state.scores("dead").keys() == ({b"x"} if verb == "bury" else set())
    attempts = {item: known.split()[1] for item, known in state.fields("deliveries").items()}
    assert attempts == ({b"x": b"1"} if verb in {"extend", "nack"} else {})


class TestACallThatArrivesLate:
    """The server has served a newer call of the same caller, or the same one: it does nothing."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda jobs: jobs.add("new", 1),
            lambda jobs: jobs.pop(),
            lambda jobs: jobs.take(2),
            lambda jobs: jobs.reserve().ack(),
            lambda jobs: jobs.discard("c"),
            lambda jobs: jobs.update(["new", "c"], score=9),
            lambda jobs: jobs.increment("c", 5),
            lambda jobs: jobs.remove_at(2),
            lambda jobs: jobs.remove_between(2, 3),
            lambda jobs: jobs.clear(),
            lambda jobs: jobs.dead_letters.retry("dead"),
        ],
        ids=[
            "add",
            "pop",
            "take",
            "reserve",
            "discard",
            "update",
            "increment",
            "remove_at",
            "remove_between",
            "clear",
            "retry",
        ],
    )
    @pytest.mark.parametrize("went_on", [False, True], ids=["right after", "after a newer call"])
    def test_it_does_nothing(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, raw: Any, state: RawSet, call: Any, went_on: object
    ) -> None:
        raw.zadd("jobs", dict(zip("abcdefgh", range(8), strict=True)))
        bury(other, "dead")
        stubborn_proxy.plan(Fault.LATE)
        call(jobs)
        other.add("c", 3)
        raw.zrem("jobs", "new")
        if went_on:
            jobs.add("c", 4)
        before = everything(state)

        assert stubborn_proxy.deliver() == 1
        assert everything(state) == before
        assert sorted(jobs.take(9)) == sorted(item.decode() for item in before["waiting"])

    def test_who_reserved_several_keeps_the_others_when_one_was_ended_meanwhile(
        self, jobs: Any, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        """The old command finds that one of them is gone by now."""
        other.add("a"), other.add("b")
        stubborn_proxy.plan(Fault.LATE)
        _, second = jobs.reserve_many(2)
        other.discard("a")

        assert stubborn_proxy.deliver() == 1

        assert other.take(2) == []
        second.ack()
        assert state.is_empty()

    def test_an_old_addition_does_nothing_once_the_caller_was_told_that_it_failed_and_tried_again(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        frank_proxy.plan(Fault.LATE)
        fails(frank_jobs.add, "x")
        frank_jobs.add("x")
        assert other.pop() == "x"

        frank_proxy.deliver()

        assert state.scores("waiting") == {}

    def test_nor_when_another_call_was_under_way(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        """The caller that failed must not be passed over for one that has come back since."""
        under_way, failed = threading.Event(), threading.Event()

        def wait_for_failure() -> None:
            under_way.set()
            assert failed.wait(10)

        frank_proxy.plan(Fault.NONE, meanwhile=wait_for_failure)
        with ThreadPoolExecutor(1) as thread:
            neighbour = thread.submit(frank_jobs.discard, "nothing")
            assert under_way.wait(10)
            frank_proxy.plan(Fault.LATE)
            fails(frank_jobs.add, "x")
            failed.set()
            neighbour.result()
        frank_jobs.add("x")
        assert other.pop() == "x"

        frank_proxy.deliver()

        assert state.scores("waiting") == {}


def bury(other: Any, item: str) -> None:
    other.add(item, -1)
    other.reserve().bury()


def everything(state: RawSet) -> dict[str, Any]:
    scores = {key: state.scores(key) for key in ("waiting", "leased", "parked", "dead")}
    return scores | {key: state.fields(key) for key in ("deliveries", "letters")}


class TestAnItemThatNobodySaw:
    """The caller was told that the call failed: its next hand-out first puts back what the server had handed out."""

    @lost
    def test_it_comes_back_with_its_score(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet, fault: Fault
    ) -> None:
        other.add("x", 2), other.add("y", 3)
        frank_proxy.plan(fault)

        fails(frank_jobs.pop)

        assert state.scores("waiting") == {b"y": 3.0}
        assert frank_jobs.peek() == "y", "looking puts nothing back"
        assert frank_jobs.take(0) == []
        assert frank_jobs.take(5) == ["x", "y"]

    def test_it_comes_back_in_its_place(self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet) -> None:
        other.add("x", 2), other.add("y", 3)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.pop)
        other.add("w", 1)

        assert frank_jobs.pop() == "w"
        assert state.scores("waiting") == {b"x": 2.0, b"y": 3.0}

    def test_nothing_comes_back_of_a_call_that_never_arrived(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 2), other.add("y", 3)
        frank_proxy.plan(Fault.LOST_COMMAND)

        fails(frank_jobs.pop)

        assert (frank_jobs.pop(), frank_jobs.pop()) == ("x", "y")
        assert state.is_empty()

    def test_the_newest_score_stands_when_it_was_added_again(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.pop)
        other.add("x", 7), other.add("first", 1)

        assert frank_jobs.pop() == "first"
        assert state.scores("waiting") == {b"x": 7.0}

    def test_it_stays_away_when_the_set_was_cleared(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.pop)
        other.clear()

        with pytest.raises(KeyError):
            frank_jobs.pop()
        assert state.is_empty()

    def test_what_was_taken_after_the_set_was_cleared_comes_back(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any
    ) -> None:
        other.clear()
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.pop)

        assert frank_jobs.pop() == "x"

    def test_failing_again_puts_back_each_time(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        raw_items = [f"{number}" for number in range(5)]
        for number, item in enumerate(raw_items):
            other.add(item, number)
        frank_proxy.plan(*5 * (Fault.LOST_REPLY,))
        for count in 1, 3, 2, 5, 1:
            fails(frank_jobs.take, count)

        assert frank_jobs.take(9) == raw_items
        assert state.is_empty()

    def test_other_calls_do_not_take_its_place(self, frank_jobs: Any, frank_proxy: Proxy, other: Any) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.pop)
        frank_jobs.add("y", 3)
        frank_jobs.discard("z")

        assert frank_jobs.take(2) == ["x", "y"]

    def test_a_set_object_made_later_puts_it_back(self, frank: Face, frank_proxy: Proxy, other: Any) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank.SortedSet("jobs").pop)

        assert frank.SortedSet("jobs").pop() == "x"

    def test_a_lease_that_nobody_saw_is_no_attempt(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.reserve)
        assert state.scores("leased").keys() == {b"x"}

        reservation = frank_jobs.reserve()

        assert (reservation.item, reservation.score, reservation.attempt) == ("x", 2.0, 1)
        reservation.ack()
        assert state.is_empty()

    def test_a_lease_that_somebody_else_has_by_now_is_left_alone(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, raw: Any, state: RawSet
    ) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.reserve)
        expire(raw, b"x")
        theirs = other.reserve()

        with pytest.raises(KeyError):
            frank_jobs.reserve()

        theirs.ack()
        assert state.is_empty()

    def test_what_was_added_during_a_lease_that_nobody_saw_comes_back_with_its_newer_score(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any
    ) -> None:
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.reserve)
        other.add("x", 9)
        with pytest.raises(KeyError):
            other.pop()

        reservation = frank_jobs.reserve()

        assert (reservation.score, reservation.attempt) == (9.0, 1)

    def test_a_lease_that_nobody_saw_is_no_attempt_though_it_ran_out(
        self, frank_jobs: Any, frank: Face, frank_proxy: Proxy, other: Any, raw: Any
    ) -> None:
        frank_jobs = frank.SortedSet("jobs", max_attempts=1)
        other.add("x", 2)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_jobs.reserve)
        expire(raw, b"x")

        assert frank_jobs.reserve().attempt == 1

    def test_take_returns_what_it_has_when_a_later_call_fails(
        self, frank_jobs: Any, frank_proxy: Proxy, raw: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        items = [f"{number:04}" for number in range(2500)]
        raw.zadd("jobs", {item: number for number, item in enumerate(items)})
        frank_proxy.plan(Fault.NONE, Fault.NONE, Fault.LOST_REPLY)

        with caplog.at_level(logging.CRITICAL, "redset"):
            assert frank_jobs.take(2500) == items[:2000]
        assert frank_jobs.take(2500) == items[2000:]

    def test_what_cannot_be_loaded_and_not_be_buried_holds_nothing_up(
        self, frank: Face, frank_proxy: Proxy, raw: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        raw.zadd("jobs", {b"{broken": 1, b'"fine"': 2})
        frank_proxy.plan(Fault.NONE, Fault.LOST_COMMAND)

        assert frank.SortedSet("jobs", serializer=json).take(2) == ["fine"]
        assert "{broken" in caplog.text


class TestAnEndThatTheUserRepeats:
    """Its outcome was never learned: it goes out as the same call again."""

    @pytest.mark.parametrize("verb", ["ack", "nack", "again", "extend", "bury"])
    @pytest.mark.parametrize("fault", [Fault.LOST_COMMAND, Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.LATE])
    def test_it_succeeds(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet, verb: str, fault: Fault
    ) -> None:
        other.add("x", 1)
        reservation = frank_jobs.reserve()
        frank_proxy.plan(fault)
        fails(end, reservation, verb)

        end(reservation, verb)

        frank_proxy.deliver()
        assert_ended(state, verb)
        assert not reservation.lost

    @pytest.mark.parametrize("verb", ["ack", "nack", "again", "bury"])
    def test_a_third_time_the_lease_is_over(self, frank_jobs: Any, frank_proxy: Proxy, other: Any, verb: str) -> None:
        other.add("x", 1)
        reservation = frank_jobs.reserve()
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(end, reservation, verb)
        end(reservation, verb)

        with pytest.raises(LeaseLost):
            end(reservation, verb)

    def test_an_extension_counts_from_when_it_is_repeated(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, raw: Any, state: RawSet
    ) -> None:
        """Somebody who extends every now and then repeats it much later, and needs the time from then on."""
        other.add("x", 1)
        reservation = frank_jobs.reserve(lease=100)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(reservation.extend, 100)
        raw.zadd(Keys("jobs").leased, {"x": float(raw.time()[0] + 10)}, xx=True)

        reservation.extend(100)

        assert state.scores("leased")[b"x"] > raw.time()[0] + 90

    def test_another_length_is_another_extension(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, raw: Any, state: RawSet
    ) -> None:
        other.add("x", 1)
        reservation = frank_jobs.reserve(lease=100)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(reservation.extend, 100)

        reservation.extend(1000)

        assert state.scores("leased")[b"x"] > raw.time()[0] + 900

    def test_another_end_is_another_call(self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet) -> None:
        other.add("x", 1)
        reservation = frank_jobs.reserve()
        frank_proxy.plan(Fault.LOST_COMMAND)
        fails(reservation.ack)

        reservation.nack(0)

        assert_ended(state, "nack")

    def test_an_end_that_goes_another_way_is_not_undone(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 1)
        reservation = frank_jobs.reserve()
        frank_proxy.plan(Fault.LATE)
        fails(reservation.ack)
        reservation.nack(0)

        frank_proxy.deliver()

        assert_ended(state, "nack")

    def test_a_batch_goes_on_where_it_stopped(
        self, frank_jobs: Any, frank_proxy: Proxy, raw: Any, state: RawSet
    ) -> None:
        raw.zadd("jobs", {f"{number:04}": number for number in range(2500)})
        reservations = frank_jobs.reserve_many(2500)
        over = [reservations[number] for number in (5, 1500, 2400)]
        frank_jobs.discard(over[0].item), frank_jobs.discard(over[1].item), frank_jobs.discard(over[2].item)
        frank_proxy.plan(Fault.NONE, Fault.LOST_REPLY)
        fails(frank_jobs.ack, reservations)
        assert len(state.scores("leased")) == 499

        frank_proxy.plan(Fault.NONE, Fault.LOST_COMMAND)
        fails(frank_jobs.ack, reservations)

        assert frank_jobs.ack(reservations) == over
        assert state.is_empty()
        assert [reservation for reservation in reservations if reservation.lost] == over

    def test_a_lease_is_left_as_a_context_though_the_first_ack_failed(
        self, frank_jobs: Any, frank_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("x", 1)
        with frank_jobs.reserve() as item:
            assert item == "x"
            frank_proxy.plan(Fault.NONE)

        assert state.is_empty()

    @pytest.mark.parametrize(
        ("batch", "fault"),
        [(1, Fault.LOST_COMMAND), (2, Fault.LOST_COMMAND), (2, Fault.LOST_REPLY)],
        ids=["with a hand-out", "alone", "alone, but the reply"],
    )
    def test_leaving_a_loop_repeats_an_ack_that_failed(
        self,
        frank_jobs: Any,
        frank_proxy: Proxy,
        raw: Any,
        state: RawSet,
        monkeypatch: pytest.MonkeyPatch,
        batch: int,
        fault: Fault,
    ) -> None:
        monkeypatch.setattr(consuming, "OLDEST_ACK", 0.0)
        raw.zadd("jobs", {"done": 1, "next": 2})
        loop = frank_jobs.consume(batch=batch, wait=0)
        assert next(loop).item == "done"
        frank_proxy.plan(fault)

        fails(next, loop)

        assert state.scores("waiting") == {b"next": 2.0}
        assert state.scores("leased") == {}


class TestWithoutRetrySafety:
    def test_no_record_is_kept(self, stubborn: Face, raw: Any) -> None:
        jobs = stubborn.SortedSet("jobs", retry_safe=False)
        for item in "abc":
            jobs.add(item)
        jobs.pop()
        jobs.reserve().ack()
        jobs.discard("c")

        assert raw.keys(b"*call*") == []

    def test_a_repeated_pop_loses_an_item(
        self, stubborn: Face, stubborn_proxy: Proxy, other: Any, state: RawSet
    ) -> None:
        other.add("first", 1), other.add("second", 2)
        stubborn_proxy.plan(Fault.LOST_REPLY)

        assert stubborn.SortedSet("jobs", retry_safe=False).pop() == "second"
        assert state.is_empty()


@pytest.mark.parametrize("end_of_server", ["stop", "kill"])
def test_a_call_that_is_repeated_after_the_server_was_started_again_gets_its_reply(
    face_type: Any, end_of_server: str
) -> None:
    """The record is as durable as the items are."""
    if SERVER in {"cluster", "fakeredis"}:
        pytest.skip("it is not started again")
    durable = Server(SERVER, appendonly="yes", appendfsync="always")
    with durable as server, proxied(server, face_type, CLIENT, repeats=3) as (face, proxy):
        jobs = face.SortedSet("jobs")
        jobs.add("first", 1), jobs.add("second", 2), jobs.add("third", 3)

        def start_again() -> None:
            getattr(server, end_of_server)()
            server.start()

        for verb, item in ("pop", "first"), ("reserve", "second"):
            proxy.plan(Fault.LOST_REPLY, meanwhile=start_again)
            got = getattr(jobs, verb)()
            assert getattr(got, "item", got) == item
        proxy.plan(Fault.LOST_REPLY, meanwhile=start_again)
        got.ack()
        assert [jobs.pop()] == ["third"]
        with server.client() as raw:
            assert RawSet(raw, "jobs").is_empty()


# Thousands of items, hundreds of faults.

#: REDSET_TEST_MORE=10 makes it ten times as many.
ITEMS = 20_000 * int(os.environ.get("REDSET_TEST_MORE", "1"))
PRODUCERS, CONSUMERS = 4, 4
#: Seconds.
PATIENCE = 300.0


class Traffic:
    """Producers and consumers of one set, through a proxy that disturbs them. A call that fails is made again."""

    def __init__(self, jobs: Any, items: list[str], seed: int) -> None:
        self.jobs = jobs
        self.items = items
        self.errors = 0
        self.delivered: list[str] = []
        self._random = random.Random(seed)
        self._give_up_at = time.monotonic() + PATIENCE

    def add(self, share: int) -> None:
        for item in self.items[share::PRODUCERS]:
            self._insist(self.jobs.add, item, self._random.random())

    def take_all(self, how: Callable[[], list[str]]) -> None:
        while len(self.delivered) < len(self.items) and time.monotonic() < self._give_up_at:
            items = how()
            self.delivered += items
            if not items:
                # Whoever asks all the time leaves the producers little to run on.
                time.sleep(0.005)

    def take(self) -> list[str]:
        """Now one, now some."""
        if self._random.random() < 0.5:
            try:
                return [self._insist(self.jobs.pop)]
            except KeyError:
                return []
        return list(self._insist(self.jobs.take, self._random.randrange(1, 40)))

    def reserve_and_ack(self) -> list[str]:
        reservations = self._insist(self.jobs.reserve_many, self._random.randrange(1, 40), lease=600)
        assert all(reservation.attempt == 1 for reservation in reservations)
        if self._random.random() < 0.5:
            assert self._insist(self.jobs.ack, reservations) == []
        else:
            for reservation in reservations:
                self._insist(reservation.ack)
        return [reservation.item for reservation in reservations]

    def _insist(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        while True:
            try:
                return call(*args, **options)
            except KeyError:
                raise
            except Exception as error:
                if not is_of_the_network(error):
                    raise
                self.errors += 1


@pytest.mark.soak
@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.parametrize("how", ["take", "reserve_and_ack"])
@pytest.mark.parametrize(
    "times", [10, 1, 0], ids=["repeated by the client", "some errors reach us", "all errors reach us"]
)
def test_among_hundreds_of_faults_every_item_is_delivered_once(
    server_itself: Server, face_type: Any, raw: Any, how: str, times: int
) -> None:
    """Where errors reach the caller, all is added before it is taken: an addition that is made again is a new one."""
    # The client's only repetition comes after redset's own attempt: three in a row must fail.
    chance = Chance(seed=times, one_in=7 if times == 1 else 25)
    # Leases, calls from the threads to an event loop and back, and errors that are met by hand take longer.
    number_of_items = ITEMS if (face_type, times, how) == (Blocking, 10, "take") else ITEMS // 4
    items = [f"item {number}" for number in range(number_of_items)]
    with proxied(server_itself, face_type, CLIENT, times, chance) as (face, proxy):
        traffic = Traffic(face.SortedSet("jobs"), items, seed=times)
        with ThreadPoolExecutor(PRODUCERS + CONSUMERS) as threads:
            producing = [threads.submit(traffic.add, share) for share in range(PRODUCERS)]
            if times < 10:
                wait(producing)
            consuming = [threads.submit(traffic.take_all, getattr(traffic, how)) for _ in range(CONSUMERS)]
            for each in producing + consuming:
                each.result()
        chance.kinds = (Fault.NONE,)
        traffic.delivered += getattr(traffic, how)()
        proxy.deliver()
        assert_each_once(traffic.delivered, items)
        state = RawSet(raw, "jobs")
        state.check()
        assert state.is_empty()
        assert proxy.faults > number_of_items / 50
        assert bool(traffic.errors) == (times < 10)
