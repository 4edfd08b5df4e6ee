"""``while_leased``: the addition of a leased item is parked, or dropped by the claim that meets it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from invariants import KeyedRawSet, RawSet

pytestmark = pytest.mark.conformance

ADDERS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda jobs, raw: jobs.add("read", 5),
    "update": lambda jobs, raw: jobs.update(["read"]),
    "plain ZADD": lambda jobs, raw: raw.zadd("jobs", {"read": 5}),
}
CLAIMS: dict[str, Callable[[Any], Any]] = {
    "take": lambda jobs: jobs.take(10),
    "reserve_many": lambda jobs: jobs.reserve_many(10),
    "consume": lambda jobs: list(jobs.consume(wait=0)),
}
each_claim = pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs", while_leased="drop")


@pytest.mark.parametrize("add", ADDERS.values(), ids=ADDERS)
@each_claim
def test_the_claim_that_meets_an_addition_of_a_leased_item_drops_it(
    jobs: Any, raw: Any, add: Callable[[Any, Any], Any], claim: Callable[[Any], Any]
) -> None:
    jobs.add("read")
    reservation = jobs.reserve()
    add(jobs, raw)

    assert claim(jobs) == []
    assert (len(jobs), jobs.stats().parked, jobs.stats().leased) == (0, 0, 1)
    reservation.ack()
    assert RawSet(raw, "jobs").is_empty()


def test_the_items_behind_a_dropped_addition_are_claimed(jobs: Any) -> None:
    jobs.add("read")
    reservation = jobs.reserve()
    jobs.add("read", 1), jobs.add("write", 2)

    assert jobs.take(1) == ["write"]
    reservation.ack()
    assert len(jobs) == 0


def test_an_addition_that_no_claim_has_met_waits_after_the_ack(jobs: Any) -> None:
    jobs.add("read")
    reservation = jobs.reserve()
    jobs.add("read", 5), reservation.ack()

    assert list(jobs.with_scores()) == [("read", 5.0)]


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (lambda reservation: reservation.nack(delay=0), ["read"]),
        (lambda reservation: reservation.again(), ["read"]),
        (lambda reservation: reservation.bury(), []),
    ],
    ids=["nack", "again", "bury"],
)
def test_the_end_of_the_lease_brings_nothing_back_but_its_own_item(
    jobs: Any, raw: Any, end: Callable[[Any], None], left: list[str]
) -> None:
    jobs.add("read", 1)
    reservation = jobs.reserve()
    jobs.add("read", 5), jobs.take(10)
    end(reservation)

    assert list(jobs.with_scores()) == [(item, 1.0) for item in left]
    RawSet(raw, "jobs").check()


def test_an_item_whose_lease_expired_is_not_leased(jobs: Any, raw: Any) -> None:
    jobs.add("read")
    jobs.reserve()
    raw.zadd("{jobs}:leased", {"read": 1.0}, xx=True)
    jobs.add("read")

    assert jobs.take(10) == ["read"]


@pytest.mark.parametrize("options", [{}, {"remember": 60}, {"remember": 60, "digest": True}], ids=str)
def test_the_value_of_a_dropped_addition_stays_as_long_as_the_lease(
    face: Any, raw: Any, options: dict[str, Any]
) -> None:
    jobs = face.SortedSet("jobs", serializer=json, key=lambda job: job["id"], while_leased="drop", **options)
    jobs.add({"id": 1, "n": 1})
    reservation = jobs.reserve()
    jobs.add({"id": 1, "n": 2})
    assert jobs.take(10) == []
    KeyedRawSet(raw, "jobs").check(without_value=frozenset())

    reservation.nack(delay=0)
    (reservation,) = jobs.reserve_many(10)
    assert reservation.item == {"id": 1, "n": 2}
    reservation.ack()
    assert raw.hgetall("{jobs}:values") == {}


def test_by_default_it_is_parked(face: Any) -> None:
    for options in {}, {"while_leased": "park"}:
        jobs = face.SortedSet("jobs", **options)
        jobs.add("read")
        reservation = jobs.reserve()
        jobs.add("read")
        assert jobs.take(10) == []
        assert jobs.stats().parked == 1
        reservation.ack()
        assert jobs.take(10) == ["read"]


@pytest.mark.parametrize("wrong", ["keep", "", None, True, 5])
def test_another_word_is_refused(face: Any, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"while_leased must be 'park' or 'drop', not {wrong!r}"):
        face.SortedSet("jobs", while_leased=wrong)
