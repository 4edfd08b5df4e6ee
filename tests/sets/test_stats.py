"""Counting what is in each state, at one moment."""

import time
from typing import Any

import pytest

from redset import SortedSet, Stats
from servers import FakeClock, server_time, wait_until

LATER = 2**40


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


@pytest.mark.conformance
def test_there_is_nothing_at_first(jobs: SortedSet[str]) -> None:
    stats = jobs.stats()

    assert isinstance(stats, Stats)
    assert (stats.waiting, stats.due, stats.leased, stats.expired, stats.delayed) == (0, 0, 0, 0, 0)
    assert (stats.parked, stats.done, stats.dead, stats.oldest_score) == (0, 0, 0, None)


@pytest.mark.conformance
def test_each_state_is_counted(jobs: SortedSet[str]) -> None:
    for number in range(15):
        jobs.add(f"{number:02}", score=number)
    held = jobs.reserve_many(4)
    expiring = jobs.reserve_many(3)
    jobs.nack(jobs.reserve_many(2), delay=1000)
    jobs.reserve().bury()
    jobs.add(held[0].item, score=-1)
    assert jobs.take(1) == ["10"]
    assert jobs.extend(expiring, 0.01) == []
    wait_until(lambda: jobs.stats().expired == 3)

    stats = jobs.stats()

    assert (stats.waiting, stats.due) == (4, 4)
    assert (stats.leased, stats.expired, stats.delayed) == (4, 3, 2)
    assert (stats.parked, stats.dead, stats.done) == (1, 1, 0)
    assert stats.oldest_score == 11.0


@pytest.mark.conformance
def test_due_is_what_can_be_taken_of_what_waits(face: Any, raw: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("now", score=1)
    jobs.add("later", score=LATER)

    assert (jobs.stats().waiting, jobs.stats().due) == (2, 1)


def test_a_backoff_is_no_lease(face: Any, kind: str, clock: FakeClock) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("held", score=1)
    jobs.add("nacked", score=2)
    _, nacked = jobs.reserve_many(2, lease=100)
    nacked.nack(delay=200)

    assert (jobs.stats().leased, jobs.stats().expired, jobs.stats().delayed) == (1, 0, 1)
    clock.advance(150)
    assert (jobs.stats().leased, jobs.stats().expired, jobs.stats().delayed) == (0, 1, 1)


@pytest.mark.conformance
@pytest.mark.parametrize("timed", ["TimeSortedSet", "ScheduledSet"])
def test_the_lag_is_how_long_the_oldest_has_been_due(face: Any, raw: Any, timed: str) -> None:
    jobs = getattr(face, timed)("jobs")
    now = server_time(raw)
    jobs.add("older", score=now - 1000)
    jobs.add("newer", score=now - 500)

    stats = jobs.stats()

    assert stats.oldest_score == now - 1000
    assert 1000 <= stats.lag < 1060


def test_the_lag_grows_with_the_time_of_the_server(face: Any, clock: FakeClock) -> None:
    jobs = face.TimeSortedSet("jobs")
    jobs.add("read", score=clock.now())

    clock.advance(1000)

    assert 1000 <= jobs.stats().lag < 1060


@pytest.mark.conformance
@pytest.mark.parametrize("timed", ["TimeSortedSet", "ScheduledSet"])
def test_there_is_no_lag_where_nothing_is_due(face: Any, timed: str) -> None:
    jobs = getattr(face, timed)("jobs")
    assert jobs.stats().lag == 0

    jobs.add("later", score=time.time() + 1000)

    assert jobs.stats().lag == 0


def test_scores_that_are_no_times_have_no_lag(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("read", score=1)

    assert jobs.stats().lag is None


@pytest.mark.parametrize("timed", ["TimeSortedSet", "ScheduledSet"])
def test_an_item_that_was_always_due_has_no_lag_that_could_be_told(face: Any, timed: str) -> None:
    """Never a wrong number: it has not been waiting since the beginning of time."""
    jobs = getattr(face, timed)("jobs")
    jobs.add("always", score=float("-inf"))

    assert jobs.stats().lag is None


@pytest.mark.conformance
def test_counting_writes_nothing_and_brings_nothing_back(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    jobs.reserve(lease=0.01)
    wait_until(lambda: jobs.stats().expired == 1)
    before = {key: raw.dump(key) for key in raw.keys("*")}

    jobs.stats()

    assert {key: raw.dump(key) for key in raw.keys("*")} == before


def test_counting_is_one_round_trip(face: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    getattr(face, kind)("jobs").stats()
    sent = []
    send = face.client.execute_command

    def note_and_send(*words: Any, **options: Any) -> Any:
        sent.append(words[0])
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", note_and_send)
    getattr(face, kind)("jobs").stats()

    assert sent == ["EVALSHA"]
