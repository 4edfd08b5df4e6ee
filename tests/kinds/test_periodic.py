"""Periodic sets: each item is due once per interval, on a rhythm that nothing but a new plan changes."""

import json
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from invariants import PeriodicRawSet
from redset import Key
from redset.exceptions import LeaseLost, RedsetError
from servers import PATIENCE, Fake, FakeClock, Place, server_time

EVERY = 100.0
"""The interval of the sets here: no test takes so long."""
HOUR = 3600.0


@pytest.fixture
def feeds(face: Any) -> Any:
    return face.PeriodicSet("feeds", EVERY)


@pytest.fixture
def started(raw: Any) -> float:
    """A whole second a good way back: 2.5 intervals ago, so that the third tick from then is the next to come."""
    return math.floor(server_time(raw)) - 2.5 * EVERY


@pytest.fixture
def state(raw: Any) -> PeriodicRawSet:
    return PeriodicRawSet(raw, "feeds")


def intervals(raw: Any) -> dict[bytes, bytes]:
    return dict(raw.hgetall("{feeds}:values"))


conformance = pytest.mark.conformance


# Adding


@conformance
def test_add_says_whether_the_item_is_new(feeds: Any) -> None:
    assert feeds.add("a") is True
    assert feeds.add("a") is False
    assert feeds.add("b") is True
    assert (len(feeds), sorted(feeds), "a" in feeds, "c" in feeds) == (2, ["a", "b"], True, False)


@conformance
def test_what_is_added_again_keeps_its_place(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)
    feeds.add("a")

    assert feeds.next_due("a") == started


@conformance
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("leased", [False, True])
def test_a_first_tick_of_an_item_that_is_not_new_is_an_error_and_changes_nothing(
    face: Any, raw: Any, started: float, keyed: bool, leased: bool
) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, serializer=json, key=(lambda feed: feed[0]) if keyed else None)
    feeds.add(["a", 1], interval=7, first=started)
    if leased:
        feeds.reserve()
    before = intervals(raw), feeds.next_due(["a", 1])

    with pytest.raises(ValueError, match=r"first=0, but \['a', 1\] is in the set 'feeds' already: use reschedule"):
        feeds.add(["a", 1], interval=500, first=0)
    assert (intervals(raw), feeds.next_due(["a", 1])) == before


@conformance
@pytest.mark.parametrize("leased", [False, True])
def test_a_first_tick_of_many_is_that_of_the_new_ones_and_the_others_keep_theirs(
    face: Any, started: float, leased: bool
) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, serializer=json, key=lambda feed: feed[0])
    feeds.add(["a", 1], interval=7, first=started)
    due = None if leased and feeds.reserve() else started

    assert feeds.update([["a", 2], ["b", 1]], interval=500, first=0) == 1
    assert [feeds.next_due(Key(item)) for item in "ab"] == [due, 0]
    assert [feeds.interval(Key(item)) for item in "ab"] == [500, 500]
    assert feeds.get(Key("a")) == ["a", 2]


@conformance
def test_reschedule_sets_the_next_tick_and_the_rhythm(feeds: Any, started: float) -> None:
    feeds.update("abc", first=started)

    feeds.reschedule("a", started + 1000), feeds.reschedule(Key("b"), started + 7), feeds.reschedule("c", math.inf)
    assert [feeds.next_due(item) for item in "abc"] == [started + 1000, started + 7, math.inf]
    assert feeds.take(5) == ["b"]
    assert feeds.next_due("b") == started + 307


@conformance
def test_trigger_lets_an_item_fall_due_now(feeds: Any, raw: Any, started: float) -> None:
    feeds.add("late", first=2**40), feeds.add("due", first=started)
    before = server_time(raw)
    feeds.trigger("late"), feeds.trigger(Key("due"))

    assert before - 0.001 <= feeds.next_due("late") <= server_time(raw) + 0.001
    assert feeds.next_due("due") == started, "it is due already"
    assert feeds.take(5) == ["due", "late"]
    assert feeds.next_due("late") >= before + EVERY - 0.001, "the rhythm begins anew"


@conformance
@pytest.mark.parametrize("move", ["reschedule", "trigger"])
def test_an_item_that_is_not_there_cannot_be_moved(feeds: Any, raw: Any, move: str) -> None:
    feeds.add("dead"), feeds.reserve().bury()
    for item in "x", "dead", Key("x"):
        with pytest.raises(KeyError):
            feeds.reschedule(item, 0) if move == "reschedule" else feeds.trigger(item)
    assert len(feeds) == 0


@conformance
def test_a_lease_goes_on_when_its_item_is_moved(feeds: Any, started: float) -> None:
    feeds.update("ab", first=started)
    one, other = feeds.reserve_many(2)
    feeds.reschedule("a", started + 1000), feeds.trigger("b")

    assert feeds.take(5) == [], "they are leased"
    one.ack(), other.ack()
    assert feeds.next_due("a") == started + 1000
    assert feeds.take(5) == ["b"], "due again at once"


@conformance
def test_a_retry_of_an_item_that_was_moved_waits_for_the_new_tick(feeds: Any) -> None:
    feeds.add("a"), feeds.reserve().nack(delay=0.001)
    feeds.reschedule("a", 2**40)

    assert feeds.next_due("a") == 2**40
    time.sleep(0.01)
    assert feeds.take(5) == []
    assert feeds.next_due("a") == 2**40


@conformance
def test_trigger_wakes_who_waits(face: Any, feeds: Any) -> None:
    feeds.add("a", first=2**40)
    with ThreadPoolExecutor() as threads, face.another() as other:
        waiting = threads.submit(feeds.pop, wait=PATIENCE)
        time.sleep(0.1)
        other.PeriodicSet("feeds", EVERY).trigger("a")
        assert waiting.result() == "a"


@conformance
def test_an_item_has_the_interval_of_the_set_or_its_own(feeds: Any, raw: Any) -> None:
    feeds.add("a"), feeds.add("b", interval=7)

    assert (feeds.interval("a"), feeds.interval("b")) == (EVERY, 7.0)
    assert (feeds.interval("c"), feeds.next_due("c")) == (None, None)
    assert intervals(raw) == {b"b": b"7.0\n"}, "what has no interval of its own costs no memory"


@conformance
def test_a_new_interval_applies_from_the_next_tick(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)

    assert feeds.add("a", interval=500) is False
    assert (feeds.interval("a"), feeds.next_due("a")) == (500.0, started)
    assert feeds.take(1) == ["a"]
    assert feeds.next_due("a") == started + 500


@conformance
def test_adding_without_an_interval_leaves_the_one_there_is(feeds: Any, started: float) -> None:
    feeds.add("a", interval=500, first=started)
    feeds.add("a")

    assert feeds.interval("a") == 500.0


@conformance
@pytest.mark.parametrize("now", [0.0, 2.0**40])
def test_an_item_falls_due_at_once_by_the_clock_of_the_server(
    feeds: Any, raw: Any, here: Place, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    if isinstance(here, Fake):
        pytest.skip("its clock is that of the client")
    before = server_time(raw)
    with monkeypatch.context() as wrong_clock:
        wrong_clock.setattr(time, "time", lambda: now)
        feeds.add("a")
    after = server_time(raw)

    assert before <= feeds.next_due("a") <= after
    assert feeds.pop() == "a"


@conformance
def test_the_scorer_says_when_an_item_falls_due_first(face: Any, started: float) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, lambda feed: started + len(feed["url"]), json)
    feeds.add({"url": "abc"}), feeds.add({"url": "de"}, first=started)

    assert feeds.next_due({"url": "abc"}) == started + 3
    assert feeds.next_due({"url": "de"}) == started


@conformance
def test_jitter_spreads_first_ticks_evenly_over_so_many_seconds(face: Any, raw: Any) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, jitter=50)
    before = server_time(raw)
    feeds.update(map(str, range(1000)))
    after = server_time(raw)
    firsts = sorted(score for _, score in raw.zrange("feeds", 0, -1, withscores=True))

    assert len(set(firsts)) > 990
    assert before <= firsts[0] < before + 5
    assert after + 45 < firsts[-1] <= after + 50
    assert before + 15 < firsts[500] < after + 35


@conformance
def test_jitter_is_added_to_what_the_scorer_says_and_not_to_what_is_named(face: Any) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, lambda feed: 1000, jitter=50)
    feeds.add("a"), feeds.add("b", first=1000)

    assert 1000 < feeds.next_due("a") <= 1050
    assert feeds.next_due("b") == 1000


@conformance
def test_what_is_there_draws_no_new_jitter(face: Any) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, jitter=50)
    feeds.add("a")
    due = feeds.next_due("a")
    for _ in range(5):
        feeds.add("a")

    assert feeds.next_due("a") == due


@conformance
def test_many_are_added_at_once_each_with_its_own_interval_and_beginning(feeds: Any, raw: Any) -> None:
    feeds.add("7")
    numbers = [str(number) for number in range(2500)]

    assert feeds.update(numbers[:10], numbers, interval=lambda item: int(item) + 1, first=int) == 2499
    assert len(feeds) == 2500
    assert [feeds.interval(item) for item in ("0", "7", "2499")] == [1.0, 8.0, 2500.0]
    assert [feeds.next_due(item) for item in ("0", "2499")] == [0.0, 2499.0]
    assert intervals(raw) == {item.encode(): b"%d.0\n" % (int(item) + 1) for item in numbers}
    assert feeds.update() == feeds.update([]) == 0


@conformance
def test_what_stands_twice_in_one_call_is_new_once_and_has_the_newest_interval(feeds: Any) -> None:
    class Interval:
        given = 0

        def __call__(self, item: str) -> float:
            self.given += 1
            return self.given

    assert feeds.update(["a", "b", "a"], interval=Interval()) == 2
    assert (feeds.interval("a"), feeds.interval("b")) == (3.0, 2.0)


@conformance
def test_an_update_that_fails_says_how_far_it_came(feeds: Any) -> None:
    with pytest.raises(ValueError, match="2000") as raised:
        feeds.update(range(2500), interval=lambda item: -1 if item == 2000 else 5)

    assert raised.value.__notes__ == ["2000 items had been added to the set 'feeds' before, 2000 of them new"]
    assert len(feeds) == 2000


@conformance
def test_the_asyncio_face_adds_from_an_asynchronous_iterable(face: Any, raw: Any) -> None:
    if not hasattr(face, "loop"):
        pytest.skip("the synchronous face cannot")

    async def found() -> AsyncIterator[str]:
        for number in range(1500):
            yield str(number)

    assert face.PeriodicSet("feeds", EVERY).update(found(), ["more"], interval=7) == 1501
    assert raw.hlen("{feeds}:values") == 1501


@conformance
@pytest.mark.parametrize(
    ("wrong", "error"), [(0, ValueError), (-1, ValueError), (math.nan, ValueError), (math.inf, ValueError)]
)
def test_an_interval_is_positive_and_finite(face: Any, feeds: Any, raw: Any, wrong: float, error: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: feeds.add("a", interval=wrong),
        lambda: feeds.update(["a"], interval=wrong),
        lambda: feeds.update([], interval=wrong),
        lambda: feeds.update(["a"], interval=lambda item: wrong),
        lambda: face.PeriodicSet("feeds", wrong),
    ]
    for call in calls:
        with pytest.raises(error, match="interval"):
            call()

    assert raw.keys() == []


@conformance
def test_what_is_no_number_is_refused_before_anything_is_sent(face: Any, feeds: Any, raw: Any) -> None:
    no_numbers: list[Callable[[], Any]] = [
        lambda: feeds.add("a", interval="60"),
        lambda: feeds.add("a", first="now"),
        lambda: feeds.update([], first="now"),
        lambda: face.PeriodicSet("feeds", "60"),
        lambda: face.PeriodicSet("feeds", EVERY, jitter="1"),
    ]
    for call in no_numbers:
        with pytest.raises(TypeError):
            call()
    no_times: list[Callable[[], Any]] = [
        lambda: feeds.add("a", first=math.nan),
        lambda: face.PeriodicSet("feeds", EVERY, jitter=-1),
        lambda: face.PeriodicSet("feeds", EVERY, jitter=math.inf),
    ]
    for call in no_times:
        with pytest.raises(ValueError):
            call()

    assert raw.keys() == []


@conformance
def test_a_tick_cannot_be_put_off(feeds: Any) -> None:
    feeds.add("a")

    with pytest.raises(TypeError, match="feeds"):
        feeds.increment("a", 5)


@conformance
def test_what_is_due_never_is_not_taken_and_what_is_due_always_begins_now(feeds: Any, raw: Any) -> None:
    feeds.add("never", first=math.inf), feeds.add("always", first=-math.inf)
    before = server_time(raw)

    assert feeds.take(5) == ["always"]
    assert before + EVERY <= feeds.next_due("always") <= server_time(raw) + EVERY
    assert feeds.next_due("never") == math.inf


# Taking


@conformance
def test_what_is_taken_waits_for_its_next_tick(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)

    assert feeds.pop() == "a"
    assert feeds.take(5) == []
    with pytest.raises(KeyError):
        feeds.pop()
    assert feeds.next_due("a") == started + 3 * EVERY, "ticks that were missed are not made up for"
    assert (len(feeds), list(feeds), "a" in feeds, feeds.add("a")) == (1, ["a"], True, False)


@conformance
@pytest.mark.parametrize("late", [0.0, 0.25, 99.0, 100.0, 12_345.678])
def test_the_next_tick_is_a_whole_number_of_intervals_after_the_planned_one(feeds: Any, raw: Any, late: float) -> None:
    first = math.floor(server_time(raw)) - late
    feeds.add("a", first=first)
    before = server_time(raw)
    feeds.pop()
    after = server_time(raw)

    ticks = (feeds.next_due("a") - first) / EVERY
    assert ticks == pytest.approx(round(ticks), abs=1e-6)
    assert round(ticks) >= 1
    assert before < feeds.next_due("a") <= after + EVERY


@conformance
@pytest.mark.parametrize("every", [0.001, 0.1, 1 / 3, 7, 86_400 * 365.25])
def test_intervals_may_be_short_long_and_fractions(face: Any, raw: Any, every: float) -> None:
    feeds = face.PeriodicSet("feeds", every)
    first = server_time(raw) - 3.14159
    feeds.add("a", first=first)
    before = server_time(raw)
    feeds.pop()
    due, after = feeds.next_due("a"), server_time(raw)

    assert before < due <= after + every + 1e-6
    assert (due - first) / every == pytest.approx(round((due - first) / every), abs=1e-3)


@conformance
@pytest.mark.parametrize("place", ["-inf", "-1e300", "-1e18", "-1e15"])
def test_the_rhythm_of_a_time_that_is_too_far_away_begins_now(feeds: Any, raw: Any, place: str) -> None:
    raw.execute_command("ZADD", "feeds", place, "a")
    before = server_time(raw)

    assert feeds.take(5) == ["a"]
    assert before < feeds.next_due("a") <= server_time(raw) + 2 * EVERY


@conformance
def test_items_are_taken_in_order_and_as_many_as_are_wanted(feeds: Any, started: float) -> None:
    for number in range(5):
        feeds.add(str(number), first=started + number)

    assert feeds.take(2) == ["0", "1"]
    assert feeds.take_max(2) == ["4", "3"]
    assert feeds.pop_max() == "2"
    assert feeds.take(5) == []
    assert list(feeds) == ["0", "1", "2", "3", "4"]


@conformance
def test_more_can_be_taken_than_one_call_takes(feeds: Any, raw: Any, started: float) -> None:
    feeds.update(map(str, range(2345)), first=lambda item: started + int(item) / 1000, interval=lambda item: 200)

    assert feeds.take(10_000) == [str(number) for number in range(2345)]
    assert feeds.take(10) == []
    assert len(feeds) == 2345
    assert feeds.next_due("2000") == started + 2 + 400


@conformance
def test_what_is_due_can_be_looked_at(feeds: Any, started: float) -> None:
    feeds.add("a", first=started), feeds.add("later", first=started + HOUR)

    assert (feeds.available(), feeds.peek(), feeds.peek_score()) == (1, "a", started)
    stats = feeds.stats()
    assert (stats.waiting, stats.due, stats.oldest_score) == (2, 1, started)
    assert stats.lag == pytest.approx(2.5 * EVERY, abs=30)
    feeds.pop()
    assert feeds.available() == 0
    assert feeds[:] == ["a", "later"]
    assert (feeds.score("a"), feeds.count(max=started)) == (started + 3 * EVERY, 0)
    with pytest.raises(KeyError):
        feeds.peek()


def test_nothing_drifts_over_many_ticks(feeds: Any, clock: FakeClock) -> None:
    first = math.floor(clock.now()) - 1.0
    feeds.add("a", first=first), feeds.add("often", first=first, interval=0.7)
    for tick in range(1, 61):
        assert feeds.next_due("a") == first + (tick - 1) * EVERY
        assert sorted(feeds.take(5)) == ["a", "often"]
        clock.set(first + tick * EVERY + tick % 7)

    ticks = (feeds.next_due("often") - first) / 0.7
    assert ticks == pytest.approx(round(ticks), abs=1e-4)


def test_ticks_that_were_missed_are_not_made_up_for(feeds: Any, clock: FakeClock) -> None:
    first = math.floor(clock.now())
    feeds.add("a", first=first)
    feeds.pop()
    clock.set(first + 10.5 * EVERY)

    assert feeds.take(5) == ["a"]
    assert feeds.take(5) == []
    assert feeds.next_due("a") == first + 11 * EVERY


def test_an_item_stays_planned_for_when_it_was_when_the_clock_is_set_back(feeds: Any, clock: FakeClock) -> None:
    first = math.floor(clock.now())
    feeds.add("a", first=first)
    feeds.pop()
    clock.advance(-HOUR)

    assert feeds.take(5) == []
    assert feeds.next_due("a") == first + EVERY
    clock.set(first + EVERY + 1)
    assert feeds.take(5) == ["a"]
    assert feeds.next_due("a") == first + 2 * EVERY


def test_the_next_tick_is_behind_the_planned_one_when_the_clock_is_set_back_under_a_lease(
    feeds: Any, clock: FakeClock
) -> None:
    first = math.floor(clock.now())
    feeds.add("a", first=first)
    reservation = feeds.reserve()
    clock.advance(-HOUR)
    reservation.ack()

    assert feeds.next_due("a") == first + EVERY
    assert feeds.take(5) == []


# What other programs do


@conformance
def test_another_program_may_add(feeds: Any, raw: Any, started: float) -> None:
    raw.zadd("feeds", {"a": started})
    raw.hset("{feeds}:values", "b", "500")
    raw.hset("{feeds}:values", "c", "500\n")
    raw.zadd("feeds", {"b": started, "c": started})

    assert [feeds.interval(item) for item in "abc"] == [EVERY, 500.0, 500.0]
    assert feeds.take(5) == ["a", "b", "c"]
    assert [feeds.next_due(item) for item in "abc"] == [started + 3 * EVERY, started + 500, started + 500]


@conformance
@pytest.mark.parametrize("garbage", ["", "\n", "often", "0", "-5", "nan", "inf", "1e999", '{"a": 1}', "\nfoo\n7"])
def test_what_is_no_interval_is_none(feeds: Any, raw: Any, started: float, garbage: str) -> None:
    raw.hset("{feeds}:values", "a", garbage)
    raw.zadd("feeds", {"a": started})

    assert feeds.interval("a") == EVERY
    assert feeds.take(5) == ["a"]
    assert feeds.next_due("a") == started + 3 * EVERY
    assert feeds.add("a", interval=7) is False
    assert feeds.interval("a") == 7.0


@conformance
def test_another_program_may_plan_anew(feeds: Any, raw: Any, started: float) -> None:
    feeds.add("a", first=started)
    feeds.pop()
    raw.zadd("feeds", {"a": started + 1})

    assert feeds.take(5) == ["a"]
    assert feeds.next_due("a") == started + 1 + 3 * EVERY


# Under a lease


@conformance
def test_what_is_reserved_is_held_out_of_the_schedule_until_it_is_acked(
    feeds: Any, state: PeriodicRawSet, started: float
) -> None:
    feeds.add("a", first=started, interval=500)
    reservation = feeds.reserve()

    assert (reservation.item, reservation.score, reservation.attempt) == ("a", started, 1)
    assert (len(feeds), "a" in feeds, feeds.take(5)) == (0, False, [])
    assert (feeds.next_due("a"), feeds.interval("a")) == (None, 500.0), "somebody has it, and it is known still"
    reservation.ack()
    assert (len(feeds), feeds.next_due("a"), feeds.take(5)) == (1, started + 500, [])
    assert (state.fields("deliveries"), state.scores("leased")) == ({}, {})


@conformance
def test_what_is_in_work_is_not_new(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)
    reservation = feeds.reserve()

    assert feeds.add("a", interval=500) is False
    assert len(feeds) == 0
    reservation.ack()
    assert feeds.next_due("a") == started + 500, "a new interval applies from the next tick"


@conformance
def test_what_was_nacked_is_tried_again_without_disturbing_the_rhythm(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)
    feeds.reserve().nack(delay=0)
    assert feeds.next_due("a") == started
    reservation = feeds.reserve()
    assert (reservation.attempt, reservation.score) == (2, started)
    reservation.ack()

    assert feeds.next_due("a") == started + 3 * EVERY


@conformance
def test_what_was_nacked_is_due_again_when_its_backoff_is_over(face: Any, raw: Any, started: float) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, backoff=lambda attempt: 30.0)
    feeds.add("a", first=started)
    before = server_time(raw)
    feeds.reserve().nack()

    assert before + 30 <= feeds.next_due("a") <= server_time(raw) + 30
    assert (feeds.add("a"), feeds.take(5), feeds.interval("a")) == (False, [], EVERY)


def test_a_backoff_beyond_the_next_tick_holds_the_item_back_and_keeps_the_rhythm(face: Any, clock: FakeClock) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, backoff=lambda attempt: 2.2 * EVERY)
    first = math.floor(clock.now())
    feeds.add("a", first=first)
    feeds.reserve().nack()
    clock.set(first + 1.5 * EVERY)
    assert feeds.take(5) == []

    clock.set(first + 2.5 * EVERY)
    with feeds.reserve() as item:
        assert item == "a"

    assert feeds.next_due("a") == first + 3 * EVERY


def test_a_lease_that_runs_out_is_another_attempt_on_the_same_rhythm(feeds: Any, clock: FakeClock) -> None:
    first = math.floor(clock.now())
    feeds.add("a", first=first)
    late = feeds.reserve(lease=10)
    clock.set(first + 50)
    reservation = feeds.reserve()
    assert (reservation.attempt, reservation.score) == (2, first)

    with pytest.raises(LeaseLost):
        late.ack()
    assert feeds.next_due("a") is None
    reservation.ack()
    assert feeds.next_due("a") == first + EVERY


def test_a_lease_that_is_kept_beyond_the_next_tick_skips_it(feeds: Any, clock: FakeClock) -> None:
    first = math.floor(clock.now())
    feeds.add("a", first=first)
    reservation = feeds.reserve(lease=HOUR)
    clock.set(first + 3.5 * EVERY)
    assert feeds.take(5) == []
    reservation.extend(HOUR)
    reservation.ack()

    assert feeds.take(5) == []
    assert feeds.next_due("a") == first + 4 * EVERY


@conformance
def test_what_is_given_back_is_due_at_once_and_keeps_its_rhythm(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)
    feeds.reserve().again()
    reservation = feeds.reserve()
    assert (reservation.attempt, reservation.score) == (1, started)
    reservation.ack()

    assert feeds.next_due("a") == started + 3 * EVERY


@conformance
def test_what_is_given_back_with_a_score_has_a_new_rhythm(feeds: Any, started: float) -> None:
    feeds.add("a", first=started)
    feeds.reserve().again(score=started + 30)

    assert feeds.take(5) == ["a"]
    assert feeds.next_due("a") == started + 30 + 3 * EVERY


@conformance
def test_many_are_acked_at_once_each_for_its_own_next_tick(feeds: Any, started: float) -> None:
    feeds.update(map(str, range(1200)), first=lambda item: started + int(item) / 100)
    feeds.add("7", interval=500)
    reservations = feeds.reserve_many(2000)
    assert len(reservations) == 1200
    discarded = reservations[3]
    feeds.discard(discarded.item)

    assert feeds.ack(reservations) == [discarded]
    assert len(feeds) == 1199
    assert feeds.next_due("5") == started + 0.05 + 3 * EVERY
    assert feeds.next_due("7") == started + 0.07 + 500
    assert feeds.next_due(discarded.item) is None


@conformance
def test_a_consume_loop_acks_each_for_its_next_tick(feeds: Any, started: float) -> None:
    for number in range(5):
        feeds.add(str(number), first=started + number)

    assert [one.item for one in feeds.consume(batch=2, wait=0)] == ["0", "1", "2", "3", "4"]
    assert [feeds.next_due(str(number)) for number in range(5)] == [started + number + 3 * EVERY for number in range(5)]
    assert feeds.stats().leased == 0


@conformance
def test_what_another_program_adds_while_it_is_in_work_is_its_next_tick(
    feeds: Any, raw: Any, state: PeriodicRawSet, started: float
) -> None:
    for parked in (False, True):
        raw.zadd("feeds", {"a": started})
        reservation = feeds.reserve()
        raw.zadd("feeds", {"a": started + 7})
        if parked:
            assert feeds.take(5) == []
            assert state.scores("parked") == {b"a": started + 7}
        reservation.ack()

        assert feeds.next_due("a") == started + 7
        state.check()
        feeds.clear()


# Death


@conformance
def test_what_is_buried_has_no_ticks_until_it_is_retried(feeds: Any, state: PeriodicRawSet, started: float) -> None:
    feeds.add("a", first=started, interval=500)
    feeds.reserve().bury("gone")

    (letter,) = feeds.dead_letters
    assert (letter.item, letter.raw, letter.identity, letter.reason) == ("a", b"a", b"a", "gone")
    assert (len(feeds), feeds.interval("a"), feeds.next_due("a")) == (0, None, None)
    assert feeds.dead_letters.retry("a") is True
    assert (feeds.next_due("a"), feeds.interval("a")) == (started, 500.0)
    assert feeds.take(5) == ["a"]
    assert feeds.next_due("a") == started + 500
    state.check()


@conformance
def test_what_fails_too_often_dies(face: Any, started: float) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, max_attempts=2)
    feeds.add("a", first=started)
    feeds.reserve().nack(delay=0)
    feeds.reserve().nack(delay=0, reason="404")

    assert [(letter.item, letter.attempts, letter.reason) for letter in feeds.dead_letters] == [("a", 2, "404")]
    assert feeds.take(5) == []


@conformance
def test_an_ack_lets_attempts_begin_anew(face: Any, raw: Any, started: float) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, max_attempts=2)
    feeds.add("a", first=started)
    for _ in range(3):
        feeds.reserve().nack(delay=0)
        with feeds.reserve() as item:
            assert item == "a"
        raw.zadd("feeds", {"a": started})

    assert feeds.reserve().attempt == 1
    assert len(feeds.dead_letters) == 0


@conformance
def test_what_is_dead_and_added_again_starts_afresh(feeds: Any, state: PeriodicRawSet, started: float) -> None:
    feeds.add("a", first=started, interval=500)
    feeds.reserve().bury()

    assert feeds.add("a", first=started + 1) is True
    assert (feeds.take(5), feeds.next_due("a")) == (["a"], started + 501), "its interval is known still"
    assert len(feeds.dead_letters) == 0
    state.check()


@conformance
@pytest.mark.parametrize("forget", ["discard", "clear", "forget"])
def test_a_forgotten_dead_letter_leaves_no_interval_behind(feeds: Any, raw: Any, started: float, forget: str) -> None:
    feeds.add("a", first=started, interval=500), feeds.add("b", first=started, interval=500)
    for reservation in feeds.reserve_many(2):
        reservation.bury()
    feeds.add("b")

    if forget == "clear":
        feeds.dead_letters.clear()
    else:
        one_by_one = feeds.forget if forget == "forget" else feeds.dead_letters.discard
        assert one_by_one("a") is one_by_one("b") is True

    assert intervals(raw).keys() == {b"b"}, "it waits again"


@conformance
def test_dead_letters_that_are_too_many_take_their_intervals_along(face: Any, raw: Any, started: float) -> None:
    feeds = face.PeriodicSet("feeds", EVERY, max_dead=1)
    for item in "abc":
        feeds.add(item, first=started, interval=500)
        feeds.reserve().bury()

    assert intervals(raw).keys() == {b"c"}


# Removing


@conformance
def test_what_is_discarded_is_gone_with_its_interval(feeds: Any, raw: Any, started: float) -> None:
    feeds.add("waiting", interval=500, first=started + HOUR), feeds.add("held", interval=500, first=started)
    reservation = feeds.reserve()

    assert feeds.discard("waiting") is feeds.discard("held") is True
    assert feeds.discard("waiting") is False
    with pytest.raises(LeaseLost):
        reservation.ack()
    assert (len(feeds), intervals(raw)) == (0, {})
    assert feeds.add("waiting") is True
    assert feeds.interval("waiting") == EVERY


@conformance
def test_clear_leaves_nothing_behind(feeds: Any, state: PeriodicRawSet, raw: Any, started: float) -> None:
    feeds.add("waiting", interval=500), feeds.add("held", interval=500, first=started)
    feeds.reserve()

    assert feeds.clear()
    assert (len(feeds), intervals(raw), state.is_empty()) == (0, {}, True)
    assert not feeds.clear()


# Keyed


@pytest.fixture
def pages(face: Any) -> Any:
    return face.PeriodicSet("feeds", EVERY, serializer=json, key=lambda page: page["url"])


@conformance
def test_a_keyed_item_is_handed_out_with_its_newest_value_again_and_again(pages: Any, raw: Any, started: float) -> None:
    pages.add({"url": "/a", "n": 1}, interval=500, first=started)
    assert pages.add({"url": "/a", "n": 2}) is False
    assert pages.interval(Key("/a")) == 500.0, "a new value leaves the interval"

    for number in (2, 2, 3):
        if number == 3:
            pages.add({"url": "/a", "n": 3}, interval=600)
        assert pages.peek() == pages.get(Key("/a")) == {"url": "/a", "n": number}
        assert list(pages) == pages[:] == pages.take(5) == [{"url": "/a", "n": number}]
        assert pages.next_due(Key("/a")) == started + (600 if number == 3 else 500)
        raw.zadd("feeds", {"/a": started})
    assert raw.hgetall("{feeds}:values") == {b"/a": b'600.0\n{"url": "/a", "n": 3}'}


@conformance
def test_a_holder_keeps_its_value_and_what_comes_meanwhile_is_for_the_next_tick(
    pages: Any, raw: Any, started: float
) -> None:
    pages.add({"url": "/a", "n": 1}, first=started)
    reservation = pages.reserve()
    pages.add({"url": "/a", "n": 2})
    assert reservation.item == {"url": "/a", "n": 1}
    reservation.ack()

    assert pages.next_due(Key("/a")) == started + 3 * EVERY
    assert list(pages) == [{"url": "/a", "n": 2}]


@conformance
def test_a_keyed_item_lives_and_dies_with_its_value(
    pages: Any, raw: Any, state: PeriodicRawSet, started: float
) -> None:
    pages.add({"url": "/a", "n": 1}, interval=500, first=started)
    pages.reserve().bury()
    (letter,) = pages.dead_letters
    assert (letter.item, letter.raw) == ({"url": "/a", "n": 1}, b'{"url": "/a", "n": 1}')
    pages.dead_letters.retry(letter)
    assert pages.take(5) == [{"url": "/a", "n": 1}]
    assert pages.discard(Key("/a"))
    assert (pages.get(Key("/a")), intervals(raw)) == (None, {})


@conformance
def test_an_identity_without_a_value_is_handed_out_as_itself(pages: Any, raw: Any, started: float) -> None:
    raw.zadd("feeds", {"/a": started, "/b": started, "/c": started, "/d": started})
    raw.hset("{feeds}:values", mapping={"/b": "500", "/c": '\n{"url": "/c"}', "/d": '500\n{"url": "/d"}'})

    assert pages.take(5) == ["/a", "/b", {"url": "/c"}, {"url": "/d"}]
    assert [pages.next_due(Key(url)) for url in ("/a", "/b", "/c", "/d")] == [
        started + 3 * EVERY,
        started + 500,
        started + 3 * EVERY,
        started + 500,
    ]


# What cannot be loaded


@conformance
@pytest.mark.parametrize("own", [None, 500], ids=["the interval of the set", "its own"])
@pytest.mark.parametrize("lease", [0.0, 60.0], ids=["take", "reserve"])
def test_what_cannot_be_loaded_dies_and_has_no_next_tick(
    face: Any, raw: Any, state: PeriodicRawSet, started: float, own: float | None, lease: float
) -> None:
    broken, feeds = face.PeriodicSet("feeds", EVERY), face.PeriodicSet("feeds", EVERY, serializer=json)
    feeds.add([1], first=started), broken.add("{", first=started, interval=own), feeds.add([2], first=started)

    if lease:
        assert [one.item for one in feeds.reserve_many(5)] == [[1], [2]]
    else:
        assert feeds.take(5) == [[1], [2]]

    (letter,) = feeds.dead_letters
    assert (letter.item, letter.raw, letter.identity) == (None, b"{", b"{")
    assert b"{" not in state.scores("waiting").keys() | state.scores("leased").keys()
    state.check()
    with pytest.raises(RedsetError) as raised:
        broken.dead_letters.retry("{")
        feeds.peek()
    assert raised.value.raw == b"{"  # type: ignore[attr-defined]
    assert broken.take(5) == ["{"]
    assert broken.interval("{") == own or EVERY


@conformance
def test_a_keyed_value_that_cannot_be_loaded_is_kept_as_it_is(pages: Any, raw: Any, started: float) -> None:
    raw.hset("{feeds}:values", "/a", "500\n{")
    raw.zadd("feeds", {"/a": started})
    with pytest.raises(RedsetError) as raised:
        pages.peek()
    assert raised.value.raw == b"{"  # type: ignore[attr-defined]

    assert pages.take(5) == []
    (letter,) = pages.dead_letters
    assert (letter.item, letter.raw, letter.identity) == (None, b"{", b"/a")
    assert intervals(raw) == {b"/a": b"500\n{"}


@conformance
@pytest.mark.parametrize("meanwhile", ["mended", "discarded", "taken again"])
def test_what_became_of_an_item_since_it_was_taken_stands(face: Any, raw: Any, started: float, meanwhile: str) -> None:
    class Breaks:
        """Cannot load anything, and something happens while it tries."""

        dumps = staticmethod(json.dumps)

        def loads(self, stored: str) -> Any:
            if meanwhile == "mended":
                raw.hset("{feeds}:values", "/a", '500\n"mended"')
            elif meanwhile == "discarded":
                raw.hdel("{feeds}:values", "/a")
                raw.zrem("feeds", "/a")
            else:
                raw.zrem("feeds", "/a")
                raw.zadd("{feeds}:leased", {"/a": 2**40})
            raise ValueError(stored)

    pages = face.PeriodicSet("feeds", EVERY, serializer=Breaks(), key=lambda page: "/a")
    raw.hset("{feeds}:values", "/a", "500\n{")
    raw.zadd("feeds", {"/a": started})

    assert pages.take(1) == []
    assert len(pages.dead_letters) == 0
    assert raw.zscore("feeds", "/a") == (started + 500 if meanwhile == "mended" else None)


# Waiting


@conformance
def test_who_waits_is_given_an_item_at_its_tick(face: Any, raw: Any) -> None:
    every = 2
    feeds = face.PeriodicSet("feeds", every)
    feeds.add("a")
    assert feeds.pop() == "a"
    for _ in range(2):
        tick = feeds.next_due("a")
        assert feeds.pop(wait=PATIENCE) == "a"
        assert tick <= server_time(raw) < tick + every


@conformance
def test_who_waits_is_woken_by_what_is_added(face: Any, raw: Any) -> None:
    feeds = face.PeriodicSet("feeds", EVERY)
    raw.zadd("{feeds}:looks", {"another": time.time() + 60})
    feeds.add("a")

    assert raw.llen("{feeds}:wake") == 1
    feeds.add("a")
    feeds.add("b", first=2**40)
    assert raw.llen("{feeds}:wake") == 1


@conformance
def test_repr_and_attributes_are_those_of_a_set(feeds: Any, face: Any) -> None:
    assert repr(feeds).startswith("<PeriodicSet name='feeds'")
    assert feeds.name == "feeds"
    assert feeds.redis is face.client
