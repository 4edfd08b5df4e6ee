"""An operator can ask for the state of each item and for all leases, and changes nothing by it."""

from typing import Any

import pytest

from faces import Face
from redset import Key
from redset.core.keys import Keys

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Face) -> Any:
    """A set with an item in each state: its name says which."""
    jobs = face.SortedSet("jobs", remember=600, max_attempts=5)
    states = ["done", "dead", "delayed", "parked", "leased", "waiting"]
    jobs.update(states, score=states.index)
    done, dead, delayed, _, _ = jobs.reserve_many(5, lease=1000)
    done.ack()
    dead.bury("it is no good")
    delayed.nack(delay=1000)
    jobs.add("parked", score=-7)
    assert jobs.pop() == "waiting"
    jobs.forget("waiting")
    jobs.add("waiting", score=5)
    return jobs


@pytest.mark.parametrize("state", ["waiting", "leased", "parked", "delayed", "done", "dead"])
def test_each_state_is_named(jobs: Any, state: str) -> None:
    assert jobs.state(state) == state
    assert jobs.inspect(state).state == state


def test_all_but_the_done_and_the_dead_are_unfinished(jobs: Any) -> None:
    stats = jobs.stats()
    # The parked one counts as the leased item that it is, too.
    assert stats.unfinished == stats.waiting + stats.leased + stats.delayed + stats.parked == 1 + 2 + 1 + 1


def test_an_item_is_unfinished_while_nobody_has_claimed_it_since_its_lease_expired(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    jobs.reserve()
    raw.zadd(Keys("jobs").leased, {"a": 1.0}, xx=True)
    stats = jobs.stats()
    assert (stats.waiting, stats.leased, stats.expired) == (0, 0, 1)
    assert stats.unfinished == 1
    jobs.reserve().ack()
    assert jobs.stats().unfinished == 0


def test_an_unknown_item_has_no_state(jobs: Any) -> None:
    assert jobs.state("nobody") is None
    assert jobs.inspect("nobody") is None


def test_of_several_states_the_first_in_order_is_named(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    jobs.reserve()
    jobs.add("a")
    assert jobs.state("a") == "leased"
    with pytest.raises(KeyError):
        jobs.pop()
    assert jobs.state("a") == "parked"


def test_a_leased_item_has_its_deadline_its_token_and_the_time_of_its_claim(face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a", score=4)
    held = jobs.reserve(lease=100)
    found = jobs.inspect("a")
    assert (found.score, found.attempts, found.token, found.deadline) == (4.0, 1, held.token, held.deadline)
    assert found.since == pytest.approx(found.deadline - 100, abs=1)
    assert (found.reason, found.value) == (None, None)


def test_a_dead_item_has_its_reason_and_the_time_of_its_death(jobs: Any) -> None:
    found, (letter,) = jobs.inspect("dead"), list(jobs.dead_letters)
    assert (found.reason, found.since, found.attempts, found.score) == ("it is no good", letter.died_at, 1, 1.0)
    assert found.deadline is None


def test_a_delayed_item_has_the_end_of_its_backoff(jobs: Any, raw: Any) -> None:
    found = jobs.inspect("delayed")
    assert found.deadline == pytest.approx(raw.time()[0] + 1000, abs=60)
    assert (found.attempts, found.token) == (1, None)


def test_a_done_item_has_the_end_of_its_retention(jobs: Any, raw: Any) -> None:
    found = jobs.inspect("done")
    assert found.deadline == pytest.approx(raw.time()[0] + 600, abs=60)
    assert found.since == pytest.approx(found.deadline - 600)


def test_a_parked_item_has_the_score_that_it_was_added_with(jobs: Any) -> None:
    assert jobs.inspect("parked").score == -7.0


def test_a_keyed_item_has_its_value(face: Face) -> None:
    jobs = face.SortedSet("jobs", key=lambda item: item[:1])
    jobs.add("apple", score=1)
    assert jobs.inspect("a").value == "apple"
    assert jobs.inspect(Key("a")).value == "apple"


def test_what_a_set_remembers_as_digests_is_done(face: Face) -> None:
    pages = face.SortedSet("pages", remember=60, digest=True)
    pages.add("a")
    pages.pop()
    assert pages.state("a") == "done"


def test_a_periodic_item_waits_for_its_next_tick(face: Face) -> None:
    feeds = face.PeriodicSet("feeds", 100)
    feeds.add("a")
    held = feeds.reserve()
    assert feeds.state("a") == "leased"
    held.ack()
    assert feeds.state("a") == "waiting"


def test_leases_are_listed_oldest_first_whatever_their_deadlines(face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update("abc", score=ord)
    held = [jobs.reserve(lease=lease) for lease in (300, 100, 200)]
    found = jobs.leases()
    assert [(one.item, one.attempt, one.token, one.deadline) for one in found] == [
        (one.item, one.attempt, one.token, one.deadline) for one in held
    ]
    assert [one.item for one in jobs.leases(limit=2)] == ["a", "b"]
    assert jobs.leases(limit=0) == []


def test_delayed_items_are_no_leases(face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update("ab", score=ord)
    jobs.reserve().nack(delay=1000)
    jobs.reserve()
    assert [one.item for one in jobs.leases()] == ["b"]


def test_more_leases_than_one_reply_carries(face: Face) -> None:
    jobs = face.SortedSet("jobs", key=lambda item: item)
    jobs.update(map(str, range(2500)))
    tokens = [one.token for one in jobs.reserve_many(2500, lease=1000)]
    assert [one.token for one in jobs.leases()] == tokens
    assert [one.token for one in jobs.leases(limit=3)] == tokens[:3]


@pytest.mark.parametrize("limit", [-1, -(10**30)])
def test_a_negative_limit_is_refused(face: Face, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        face.SortedSet("jobs").leases(limit=limit)


@pytest.mark.parametrize("limit", ["3", 2.5, [1]])
def test_a_limit_that_is_no_int_is_refused(face: Face, limit: Any) -> None:
    with pytest.raises(TypeError, match="limit"):
        face.SortedSet("jobs").leases(limit=limit)
