"""Scheduled sets: only what is due by the server's clock can be taken."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest

from redset import ScheduledSet
from servers import Fake, Place, server_time

pytestmark = pytest.mark.conformance

LATER = 2**40
"""A time that no test lives to see."""


@pytest.fixture
def jobs(face: Any) -> Any:
    """A scheduled set with two items that are due and one that is not."""
    jobs = face.ScheduledSet("jobs")
    jobs.add("later", score=LATER)
    jobs.add("second", score=2)
    jobs.add("first", score=1)
    return jobs


def test_only_what_is_due_is_taken(jobs: ScheduledSet[str]) -> None:
    assert jobs.take(10) == ["first", "second"]
    assert jobs.take(10) == []
    assert list(jobs) == ["later"]


def test_pop_raises_key_error_when_nothing_is_due(jobs: ScheduledSet[str]) -> None:
    assert [jobs.pop(), jobs.pop()] == ["first", "second"]
    with pytest.raises(KeyError, match="jobs"):
        jobs.pop()


def test_available_counts_what_is_due_and_len_all(jobs: ScheduledSet[str]) -> None:
    assert (jobs.available(), len(jobs)) == (2, 3)


def test_available_is_0_when_there_is_nothing(face: Any) -> None:
    assert face.ScheduledSet("empty").available() == 0


def test_peek_sees_only_what_is_due(jobs: ScheduledSet[str]) -> None:
    assert [jobs.peek(), jobs.peek(1), jobs.peek(-1)] == ["first", "second", "second"]
    with pytest.raises(KeyError):
        jobs.peek(2)
    with pytest.raises(KeyError):
        jobs.peek(-3)


def test_peek_score_sees_only_what_is_due(jobs: ScheduledSet[str]) -> None:
    assert jobs.peek_score() == 1
    jobs.take(2)
    assert jobs.peek_score() is None


def test_score_and_in_see_all_that_waits(jobs: ScheduledSet[str]) -> None:
    assert jobs.score("later") == LATER
    assert "later" in jobs
    assert jobs.count(min=3) == 1


def test_an_item_without_a_score_is_due_at_once(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("now")

    assert jobs.pop() == "now"


def test_an_item_becomes_due_when_its_time_comes(face: Any, raw: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    due = jobs.add("soon", score=server_time(raw) + 0.3)

    asked_at = server_time(raw)
    while not (taken := jobs.take(1)):
        in_vain_at, asked_at = asked_at, server_time(raw)

    assert taken == ["soon"]
    assert in_vain_at < due <= server_time(raw)


def test_what_is_due_exactly_now_is_due(face: Any, raw: Any) -> None:
    """The score is a time the server has told, so by the next command it is reached or passed."""
    jobs = face.ScheduledSet("jobs")
    jobs.add("now", score=server_time(raw))

    assert jobs.pop() == "now"


@pytest.mark.parametrize("now", [0.0, float(LATER + 1)], ids=["slow", "fast"])
def test_due_is_decided_by_the_clock_of_the_server(
    jobs: ScheduledSet[str], here: Place, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    if isinstance(here, Fake):
        pytest.skip("its clock is that of the client")

    with monkeypatch.context() as wrong_clock:
        wrong_clock.setattr(time, "time", lambda: now)
        available, taken = jobs.available(), jobs.take(10)

    assert (available, taken) == (2, ["first", "second"])


def test_an_item_can_be_moved_to_another_time(jobs: ScheduledSet[str]) -> None:
    jobs.add("later", score=0)
    jobs.add("first", score=LATER)

    assert jobs.take(10) == ["later", "second"]


def test_infinite_scores_are_always_and_never(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("always", score=float("-inf"))
    jobs.add("never", score=float("inf"))

    assert jobs.available() == 1
    assert jobs.take(10) == ["always"]


@pytest.mark.parametrize("there", [1000, 1001, 2345])
def test_any_number_can_be_taken_and_what_is_not_due_stays(face: Any, raw: Any, there: int) -> None:
    jobs = face.ScheduledSet("jobs")
    raw.zadd("jobs", {f"{i:04}": i for i in range(there)} | {"later": LATER})

    assert jobs.take(10**6) == [f"{i:04}" for i in range(there)]
    assert list(jobs) == ["later"]


def test_the_microsecond_decides(face: Any, raw: Any) -> None:
    """Times of today need all their digits: one that is cut off would make both items due, or neither."""
    jobs = face.ScheduledSet("jobs")
    before = server_time(raw)
    jobs.add("past", score=before - 0.000_001)
    jobs.add("future", score=before + 1000.000_001)

    assert jobs.take(10) == ["past"]
    assert jobs.score("future") == before + 1000.000_001


# A delay


def test_a_delay_is_counted_by_the_clock_of_the_server(
    face: Any, raw: Any, here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = face.ScheduledSet("jobs")
    before = server_time(raw)
    with monkeypatch.context() as wrong_clock:
        if not isinstance(here, Fake):
            wrong_clock.setattr(time, "time", lambda: 0.0)
        score = jobs.add("a", delay=30)
        other = jobs.add("b", delay=timedelta(minutes=1))
    after = server_time(raw)

    assert before + 29.999 <= score <= after + 30.001
    assert before + 59.999 <= other <= after + 60.001
    assert jobs.scores("ab") == [score, other]
    assert jobs.take(2) == []
    jobs.add("a", delay=0)
    assert jobs.take(2) == ["a"]


@pytest.mark.parametrize("options", [{}, {"remember": 60}, {"key": len}, {"key": len, "remember": 60, "digest": True}])
def test_a_delay_obeys_flags_and_duplicates(face: Any, options: dict[str, Any]) -> None:
    jobs = face.ScheduledSet("jobs", duplicates="keep", **options)
    first = jobs.add("a", delay=30)

    assert jobs.add("a", delay=60) == first
    assert jobs.add("a", delay=60, lt=True) == first
    assert jobs.add("a", delay=60, gt=True) > first
    assert jobs.add("aa", delay=60, xx=True) is None
    assert jobs.add("a", delay=60, nx=True) > first
    assert len(jobs) == 1


def test_a_delayed_addition_of_a_remembered_item_is_left_out(face: Any) -> None:
    jobs = face.ScheduledSet("jobs", remember=60)
    jobs.add("a"), jobs.pop()

    assert jobs.add("a", delay=0) is None
    assert jobs.take(1) == []


def test_a_delayed_addition_brings_its_value(face: Any) -> None:
    jobs = face.ScheduledSet("jobs", serializer=json, key=lambda job: job["id"])
    jobs.add({"id": 1, "n": 1}), jobs.add({"id": 1, "n": 2}, delay=0)

    assert jobs.take(2) == [{"id": 1, "n": 2}]


def test_a_delay_and_a_score_contradict_each_other(face: Any, raw: Any) -> None:
    with pytest.raises(ValueError, match="delay=5 and score=7 contradict each other"):
        face.ScheduledSet("jobs").add("a", score=7, delay=5)
    assert raw.dbsize() == 0
