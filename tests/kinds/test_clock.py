"""Clocks: leases, backoffs and schedules go by the server's, wherever it is moved; and what must only grow, grows."""

import time
from typing import Any

import pytest

from faces import Awaited
from invariants import RawSet
from redset import SortedSet
from redset.exceptions import LeaseLost
from servers import PATIENCE, FakeClock

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def jobs(face: Any, clock: FakeClock) -> Any:
    return face.SortedSet("jobs")


# Forward


def test_a_lease_ends_by_the_servers_clock(jobs: SortedSet[str], clock: FakeClock) -> None:
    jobs.add("item")
    reservation = jobs.reserve(lease=HOUR)
    assert abs(reservation.deadline - clock.now() - HOUR) < 5

    clock.advance(HOUR - 60)
    reservation.extend(HOUR)
    clock.advance(HOUR + 1)

    with pytest.raises(LeaseLost):
        reservation.ack()
    assert jobs.reserve().attempt == 2


@pytest.mark.parametrize("seconds", [1.0, 600.0, HOUR])
def test_a_backoff_ends_by_the_servers_clock(face: Any, clock: FakeClock, seconds: float) -> None:
    jobs = face.SortedSet("jobs", backoff=lambda attempt: seconds)
    jobs.add("item")
    jobs.reserve().nack()
    assert jobs.take(1) == []

    clock.advance(seconds + 1)

    assert jobs.reserve().attempt == 2


def test_a_delay_ends_by_the_servers_clock(jobs: SortedSet[str], clock: FakeClock) -> None:
    jobs.add("item")
    jobs.reserve().again(delay=DAY)
    assert jobs.take(1) == []

    clock.advance(DAY + 1)

    assert jobs.reserve().attempt == 1


def test_what_is_scheduled_falls_due_by_the_servers_clock(face: Any, clock: FakeClock) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("in an hour", score=clock.now() + HOUR)
    jobs.add("in a day", score=clock.now() + DAY)
    assert jobs.available() == 0

    clock.advance(HOUR + 1)
    assert (jobs.available(), jobs.take(2)) == (1, ["in an hour"])

    clock.advance(DAY)
    assert jobs.take(2) == ["in a day"]


def test_what_is_added_now_is_due_when_the_servers_clock_agrees(face: Any, clock: FakeClock) -> None:
    clock.advance(-HOUR)
    jobs = face.ScheduledSet("jobs")
    jobs.add("item")
    assert jobs.take(1) == []

    clock.advance(HOUR + 1)

    assert jobs.take(1) == ["item"]


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_time_sorted_set_goes_by_the_clients_clock(face: Any, clock: FakeClock, seconds: float) -> None:
    clock.advance(seconds)

    score = face.TimeSortedSet("jobs").add("item")

    assert abs(score - time.time()) < 60


def test_who_waits_notices_that_the_clock_was_put_forward(face: Any, clock: FakeClock) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("item", score=clock.now() + 2 * HOUR)
    with pytest.raises(KeyError):
        jobs.pop(wait=0.3)

    clock.advance(2 * HOUR + 1)

    assert jobs.pop(wait=PATIENCE) == "item"


def test_dead_letters_and_statistics_tell_the_servers_time(face: Any, clock: FakeClock) -> None:
    clock.advance(DAY)
    jobs = face.ScheduledSet("jobs")
    jobs.add("dead", score=1)
    jobs.reserve().bury("no use")
    jobs.add("late", score=clock.now() - 100)

    (letter,) = jobs.dead_letters

    assert abs(letter.died_at - clock.now()) < 60
    assert 100 <= jobs.stats().lag < 160


def test_what_is_remembered_is_forgotten_by_the_servers_clock(face: Any, clock: FakeClock) -> None:
    pages = face.SortedSet("pages", remember=HOUR)
    pages.add("page")
    assert pages.take(1) == ["page"]

    clock.advance(HOUR - 60)
    pages.add("page")
    assert pages.take(1) == []

    clock.advance(120)
    pages.add("page")
    assert pages.take(1) == ["page"]


# Back


def test_a_token_is_greater_than_all_before_when_the_clock_was_put_back(jobs: SortedSet[str], clock: FakeClock) -> None:
    tokens = []
    for seconds in (0, -HOUR, -DAY, 2 * DAY, -10 * DAY):
        clock.advance(seconds)
        for item in ("a", "b", "c"):
            jobs.add(item)
        tokens += [reservation.token for reservation in jobs.reserve_many(3)]
        jobs.clear()

    assert tokens == sorted(set(tokens))


def test_a_token_is_greater_than_all_before_when_its_key_was_lost(
    jobs: SortedSet[str], clock: FakeClock, raw: Any
) -> None:
    jobs.add("item")
    before = jobs.reserve().token

    clock.advance(1)
    raw.flushall()
    jobs.add("item")

    assert jobs.reserve().token > before


def test_a_token_is_the_servers_time_in_microseconds(jobs: SortedSet[str], clock: FakeClock) -> None:
    clock.advance(DAY)
    jobs.add("item")

    assert abs(jobs.reserve().token / 1e6 - clock.now()) < 60


def test_a_lease_lasts_longer_when_the_clock_is_put_back(jobs: SortedSet[str], clock: FakeClock) -> None:
    """Nobody else gets the item meanwhile, so nothing is done side by side."""
    jobs.add("item")
    reservation = jobs.reserve(lease=60)

    clock.advance(-HOUR)
    assert jobs.take(1) == []
    reservation.ack()

    assert jobs.stats().leased == 0


def test_a_lease_that_ran_out_can_be_ended_when_the_clock_is_put_back_before_anybody_saw_it(
    jobs: SortedSet[str], clock: FakeClock
) -> None:
    jobs.add("item")
    reservation = jobs.reserve(lease=60)
    clock.advance(61)
    with pytest.raises(LeaseLost):
        reservation.extend(60)

    clock.advance(-HOUR)

    reservation.ack()
    assert jobs.stats().leased == jobs.stats().waiting == 0


# What is kept of calls


def test_the_record_of_a_call_is_kept_for_ten_minutes(jobs: SortedSet[str], clock: FakeClock, raw: Any) -> None:
    jobs.add("item")
    (record,) = raw.keys("{jobs}:call:*")

    clock.advance(590)
    assert raw.exists(record)

    clock.advance(20)
    assert not raw.exists(record)


def test_a_set_is_used_on_when_the_records_of_its_calls_are_gone(
    jobs: SortedSet[str], clock: FakeClock, raw: Any
) -> None:
    for item in ("a", "b", "c"):
        jobs.add(item)
        clock.advance(700)
    assert jobs.reserve(lease=HOUR).attempt == 1
    clock.advance(700)

    assert jobs.take(3) == ["b", "c"]
    RawSet(raw, "jobs").check()


class LosesReplies:
    """Makes a client lose the reply to every call for as long as it is told to."""

    def __init__(self, face: Any) -> None:
        self.now = False
        execute = face.client.execute_command

        def losing(*command: Any, **options: Any) -> Any:
            if not self.now:
                return execute(*command, **options)
            if isinstance(face, Awaited):
                return self._lose_later(execute(*command, **options))
            execute(*command, **options)
            raise ConnectionError("the reply is lost")

        face.client.execute_command = losing

    async def _lose_later(self, reply: Any) -> None:
        await reply
        raise ConnectionError("the reply is lost")


@pytest.mark.parametrize("seconds", [0.0, HOUR, -HOUR])
@pytest.mark.parametrize("lease", [0.0, DAY], ids=["pop", "reserve"])
def test_what_was_handed_out_and_never_seen_is_put_back_whatever_the_clock_does(
    face: Any, clock: FakeClock, lease: float, seconds: float
) -> None:
    loses_replies = LosesReplies(face)
    jobs = face.SortedSet("jobs")
    jobs.add("cleared")
    jobs.clear()
    clock.advance(seconds)
    jobs.add("item")

    loses_replies.now = True
    with pytest.raises(ConnectionError):
        jobs.reserve(lease=lease) if lease else jobs.pop()
    loses_replies.now = False

    assert jobs.reserve().attempt == 1


@pytest.mark.parametrize("seconds", [0.0, HOUR, -HOUR])
def test_what_was_cleared_is_not_put_back_whatever_the_clock_does(face: Any, clock: FakeClock, seconds: float) -> None:
    loses_replies = LosesReplies(face)
    jobs = face.SortedSet("jobs")
    jobs.add("item")

    loses_replies.now = True
    with pytest.raises(ConnectionError):
        jobs.pop()
    loses_replies.now = False
    clock.advance(seconds)
    jobs.clear()

    with pytest.raises(KeyError):
        jobs.pop()
