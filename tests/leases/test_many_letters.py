"""Retrying and discarding many dead letters at once, on both faces."""

from typing import Any

import pytest

from faces import Face
from redset import Key


@pytest.fixture(params=[None, 4])
def jobs(face: Face, request: pytest.FixtureRequest) -> Any:
    jobs = face.SortedSet("jobs", shards=request.param)
    jobs.update([f"{n}" for n in range(1500)])
    for start in range(3):
        for reservation in jobs.reserve_many(10):
            reservation.bury(f"{start}")
    return jobs


@pytest.mark.parametrize("verb", ["retry_many", "discard_many"])
def test_they_are_released_and_counted(jobs: Any, verb: str) -> None:
    dead = [letter.item for letter in jobs.dead_letters]
    waiting = len(jobs)
    # One twice, and one that is not dead.
    some = [*dead[:12], dead[0], Key(dead[20].encode()), "waiting"]
    assert getattr(jobs.dead_letters, verb)(some) == 13
    assert {letter.item for letter in jobs.dead_letters} == set(dead) - {*dead[:12], dead[20]}
    assert len(jobs) == waiting + (13 if verb == "retry_many" else 0)


def test_more_than_fit_into_one_call(jobs: Any) -> None:
    jobs.dead_letters.retry_all()
    assert jobs.dead_letters.discard_many(f"{n}" for n in range(1500)) == 0
    for reservation in jobs.reserve_many(1500):
        if int(reservation.item) % 2:
            reservation.bury("no")
    assert jobs.dead_letters.retry_many(f"{n}" for n in range(1500)) == 750
    assert jobs.stats().dead == 0


def test_letters_themselves_and_none(jobs: Any) -> None:
    assert jobs.dead_letters.retry_many([]) == 0
    assert jobs.dead_letters.retry_many(list(jobs.dead_letters)[:5]) == 5
    assert jobs.totals().retried == 5
