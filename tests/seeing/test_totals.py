"""The totals of a set count each thing once, whoever did it and however often it was sent."""

from collections.abc import Callable
from typing import Any

import pytest

import redset
from faces import Face
from invariants import RawSet
from proxy import Fault
from redset import RedsetError
from servers import wait_until

pytestmark = pytest.mark.conformance


def counted(jobs: Any) -> dict[str, int]:
    """The totals that are not 0."""
    totals = jobs.totals()
    return {name: getattr(totals, name) for name in type(totals).__slots__ if getattr(totals, name)}


@pytest.fixture
def jobs(face: Face) -> Any:
    return face.SortedSet("jobs", backoff=lambda attempt: 0.0)


def test_a_set_that_was_never_used_has_counted_nothing(jobs: Any) -> None:
    assert counted(jobs) == {}


def test_additions_of_new_items_and_of_duplicates(jobs: Any) -> None:
    jobs.add("a")
    jobs.add("a", score=2)
    jobs.update(["a", "b", "c", "c"])
    assert counted(jobs) == {"added": 3, "duplicates": 3}


def test_flags_that_add_nothing_count_nothing_new(jobs: Any) -> None:
    jobs.add("a", score=1)
    jobs.add("b", score=1, xx=True)
    jobs.add("a", score=0, gt=True)
    jobs.add("a", score=5, nx=True)
    jobs.increment("a", 2)
    jobs.increment("c", 2)
    assert counted(jobs) == {"added": 2, "duplicates": 3}


def test_claims_for_good_and_under_a_lease(jobs: Any) -> None:
    jobs.update("abcde")
    jobs.pop()
    jobs.take(2)
    jobs.reserve()
    assert counted(jobs) == {"added": 5, "taken": 3, "leased": 1}


@pytest.mark.parametrize(
    ("end", "total"),
    [("ack", "acked"), ("nack", "nacked"), ("again", "given_back"), ("bury", "buried")],
)
def test_each_way_of_ending_a_lease_has_its_total(jobs: Any, end: str, total: str) -> None:
    jobs.add("a")
    getattr(jobs.reserve(), end)()
    died = {"died": 1} if end == "bury" else {}
    assert counted(jobs) == {"added": 1, "leased": 1, total: 1} | died


def test_a_consume_loop_counts_its_acks(jobs: Any) -> None:
    jobs.update("abc")
    for _ in jobs.consume(wait=0):
        pass
    assert counted(jobs) == {"added": 3, "leased": 3, "acked": 3}


def test_a_lease_that_no_claim_has_met_yet_has_not_expired(jobs: Any, raw: Any) -> None:
    jobs.add("a")
    jobs.reserve(lease=0.01)
    wait_until(lambda: jobs.stats().expired == 1)
    assert "expired" not in counted(jobs)
    jobs.reserve(lease=100)
    assert counted(jobs) == {"added": 1, "leased": 2, "expired": 1}
    RawSet(raw, "jobs").check_totals()


def test_an_addition_during_a_lease_is_parked_and_then_merged_or_requeued(jobs: Any, raw: Any) -> None:
    jobs.add("a")
    held = jobs.reserve()
    jobs.add("a")
    with pytest.raises(KeyError):
        jobs.pop()
    held.nack(delay=0)
    assert counted(jobs) == {"added": 2, "leased": 1, "parked": 1, "nacked": 1, "merged": 1}
    RawSet(raw, "jobs").check_totals()


def test_removals_count_by_item_by_entry_and_with_their_leases(jobs: Any, raw: Any) -> None:
    jobs.update("abcdef")
    jobs.reserve()
    jobs.add("a")
    jobs.discard("a")
    jobs.discard("nobody")
    jobs.remove_at(0)
    assert counted(jobs) == {"added": 7, "leased": 1, "removed": 2, "merged": 1, "leases_removed": 1}
    jobs.reserve()
    jobs.clear()
    assert counted(jobs) == {"added": 7, "leased": 2, "removed": 6, "merged": 1, "leases_removed": 2}
    RawSet(raw, "jobs").check_totals()


def test_dead_letters_are_retried_removed_and_revived(jobs: Any, raw: Any) -> None:
    jobs.update("abc")
    for held in jobs.reserve_many(3):
        held.bury("no good")
    jobs.dead_letters.retry("a")
    jobs.dead_letters.discard("b")
    jobs.add("c")
    jobs.take(2)
    found = counted(jobs)
    assert {name: found[name] for name in ("died", "retried", "dead_removed", "revived")} == {
        "died": 3,
        "retried": 1,
        "dead_removed": 1,
        "revived": 1,
    }
    RawSet(raw, "jobs").check_totals()


def test_letters_beyond_the_limit_count_as_removed(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs", max_dead=1)
    jobs.update("ab")
    for held in jobs.reserve_many(2):
        held.bury()
    assert counted(jobs)["dead_removed"] == 1
    RawSet(raw, "jobs").check_totals()


def test_what_a_set_remembers_is_left_out_or_dropped(face: Face, raw: Any) -> None:
    pages = face.SortedSet("pages", remember=100)
    pages.update("ab")
    pages.pop()
    assert pages.add("a") is None
    raw.zadd("pages", {"a": -1})
    pages.pop()
    assert counted(pages) == {"added": 2, "taken": 2, "left_out": 1, "dropped": 1}


def test_a_periodic_set_counts_the_ticks_that_it_plans(face: Face, raw: Any) -> None:
    feeds = face.PeriodicSet("feeds", 100)
    feeds.add("a")
    feeds.add("a")
    feeds.pop()
    assert counted(feeds) == {"added": 1, "duplicates": 1, "taken": 1, "rescheduled": 1}
    RawSet(raw, "feeds").check_totals()


def test_an_item_that_cannot_be_loaded_was_taken_and_died(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs", serializer=Refusing())
    jobs.update(["good", "bad"])
    assert jobs.take(5) == ["good"]
    assert counted(jobs) == {"added": 2, "taken": 2, "unloadable": 1, "died": 1}
    RawSet(raw, "jobs").check_totals()


class Refusing:
    def dumps(self, item: str) -> str:
        return item

    def loads(self, stored: str | bytes) -> str:
        if stored in ("bad", b"bad"):
            raise ValueError("it is bad")
        return str(stored)


def test_clear_keeps_the_totals_for_ever(jobs: Any, raw: Any) -> None:
    jobs.add("a")
    jobs.clear()
    assert raw.ttl("{jobs}:meta") == -1
    assert counted(jobs) == {"added": 1, "removed": 1}


def test_clear_of_a_set_that_was_never_used_leaves_nothing_for_ever(jobs: Any, raw: Any) -> None:
    assert jobs.clear() is False
    assert not raw.exists("{jobs}:meta")


#: What each call counts that is sent once, and what it needs before.
CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "add": (lambda jobs: jobs.add("new"), "added"),
    "update": (lambda jobs: jobs.update(["new", "newer"]), "added"),
    "pop": (lambda jobs: jobs.pop(), "taken"),
    "reserve": (lambda jobs: jobs.reserve(), "leased"),
    "ack": (lambda jobs: jobs.held.ack(), "acked"),
    "nack": (lambda jobs: jobs.held.nack(), "nacked"),
    "bury": (lambda jobs: jobs.held.bury(), "died"),
    "discard": (lambda jobs: jobs.discard("b"), "removed"),
    "clear": (lambda jobs: jobs.clear(), "removed"),
    "retry": (lambda jobs: jobs.dead_letters.retry("dead"), "retried"),
}


class Filled:
    """A set with something in each state, and a reservation."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        jobs.add("dead", score=-2)
        jobs.reserve().bury()
        jobs.add("held", score=-1)
        self.held = jobs.reserve()
        jobs.update("abc")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_was_sent_twice_counts_once(
    stubborn: Any, stubborn_proxy: Any, raw: Any, call: str, fault: Fault
) -> None:
    face, proxy = stubborn, stubborn_proxy
    act, total = CALLS[call]
    once = Filled(face.SortedSet("once"))
    before = getattr(once.totals(), total)
    act(once)
    expected = getattr(once.totals(), total) - before
    jobs = Filled(face.SortedSet("jobs"))
    before = getattr(jobs.totals(), total)
    proxy.plan(fault)
    act(jobs)
    assert proxy.faults == 1
    assert getattr(jobs.totals(), total) - before == expected > 0
    RawSet(raw, "jobs").check_totals()


def test_a_claim_that_nobody_received_is_rolled_back_in_the_totals_too(raw: Any, here: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    jobs.update("ab")
    for claim in (jobs.pop, jobs.reserve):
        with pytest.raises(Interrupted):
            interrupted_after(jobs, claim)
    assert counted(jobs) == {"added": 2, "taken": 1, "leased": 1, "takes_rolled_back": 1, "leases_rolled_back": 1}
    RawSet(raw, "jobs").check_totals()


class Interrupted(Exception):
    """Raised where the item of a claim is loaded."""


def interrupted_after(jobs: Any, claim: Callable[[], Any]) -> None:
    raised = []

    def load(*args: Any) -> Any:
        raised.append(1)
        raise Interrupted

    items = type(jobs._adding._items)
    before = items.load_all
    items.load_all = load
    try:
        claim()
    finally:
        items.load_all = before


# History


def test_the_first_claim_in_a_minute_stores_a_sample(clock: Any, face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(map(str, range(10)))
    assert jobs.history() == []
    began = clock.now()
    jobs.pop()
    jobs.pop()
    assert [sample.totals.taken for sample in jobs.history()] == [1]
    assert abs(jobs.history()[0].at - began) < 60
    clock.advance(60)
    jobs.pop()
    assert [sample.totals.taken for sample in jobs.history()] == [1, 3]


def test_an_hour_of_samples_is_kept_also_by_clear(clock: Any, face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(map(str, range(100)))
    for _ in range(62):
        jobs.pop()
        clock.advance(60)
    jobs.clear()
    assert [sample.totals.taken for sample in jobs.history()] == list(range(3, 63))


def test_an_empty_claim_stores_a_sample_too_so_that_a_rate_falls_to_nothing(clock: Any, face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    jobs.pop()
    clock.advance(60)
    with pytest.raises(KeyError):
        jobs.pop()
    assert [sample.totals.taken for sample in jobs.history()] == [1, 1]


def test_a_full_server_still_counts_what_is_claimed(jobs: Any, filling: Callable[[], None], raw: Any) -> None:
    jobs.update("abc")
    filling()
    jobs.pop()
    jobs.reserve().ack()
    with pytest.raises(RedsetError):
        jobs.add("d")
    assert counted(jobs) == {"added": 3, "taken": 1, "leased": 1, "acked": 1}
    RawSet(raw, "jobs").check_totals()
