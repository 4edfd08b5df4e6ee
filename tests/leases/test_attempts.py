"""Attempts: an item that fails is retried after a delay, and is a dead letter after ``max_attempts``."""

from collections.abc import Callable
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet
from redset.core.parameters import exponential_backoff
from servers import FakeClock, run_out, wait_until

pytestmark = pytest.mark.no_cover


#: The two ways to fail.
FAILURES: dict[str, Callable[[Any, Any], Any]] = {
    "nack": lambda jobs, reservation: reservation.nack(delay=0),
    "running out": run_out,
}

each_failure = pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    """A set with two attempts."""
    return getattr(face, kind)("jobs", max_attempts=2)


# Counting


@pytest.mark.conformance
@each_failure
def test_each_delivery_that_fails_counts(face: Any, kind: str, fail: Callable[[Any, Any], Any]) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("read", score=1)

    for attempt in range(1, 6):
        reservation = jobs.reserve()
        assert reservation.attempt == attempt
        fail(jobs, reservation)


@pytest.mark.conformance
def test_again_counts_no_attempt(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=0)

    for _ in range(5):
        reservation = jobs.reserve()
        assert reservation.attempt == 2
        reservation.again()


@pytest.mark.parametrize("finish", ["ack", "pop", "discard", "clear"])
def test_attempts_are_forgotten_with_the_item(jobs: SortedSet[str], raw: Any, finish: str) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=0)
    finishes: dict[str, Callable[[], Any]] = {
        "ack": lambda: jobs.reserve().ack(),
        "pop": jobs.pop,
        "discard": lambda: jobs.discard("read"),
        "clear": jobs.clear,
    }

    finishes[finish]()

    assert RawSet(raw, "jobs").is_empty()
    jobs.add("read", score=1)
    assert jobs.reserve().attempt == 1


def test_attempts_count_on_when_it_is_added_again(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=0)

    jobs.add("read", score=5)

    reservation = jobs.reserve()
    assert (reservation.attempt, reservation.score) == (2, 5.0)


@pytest.mark.conformance
@each_failure
def test_without_a_limit_nothing_dies(face: Any, kind: str, fail: Callable[[Any, Any], Any]) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("read", score=1)

    for _ in range(10):
        fail(jobs, jobs.reserve())

    assert jobs.reserve().attempt == 11
    assert len(jobs.dead_letters) == 0


# Backing off


def test_by_default_the_limit_doubles_up_to_an_hour_and_any_moment_is_as_likely() -> None:
    for attempt, limit in (1, 1), (2, 2), (3, 4), (10, 512), (13, 3600), (100, 3600), (10**6, 3600):
        delays = [exponential_backoff(attempt) for _ in range(200)]
        assert 0 <= min(delays) < limit / 4
        assert limit * 3 / 4 < max(delays) <= limit


def test_backoff_gets_the_number_of_the_failed_attempt(face: Any, kind: str) -> None:
    asked = []

    def backoff(attempt: int) -> float:
        asked.append(attempt)
        return 0

    jobs = getattr(face, kind)("jobs", backoff=backoff)
    jobs.add("read", score=1)
    for _ in range(3):
        jobs.reserve().nack()
    assert jobs.nack(jobs.reserve_many(1)) == []

    assert asked == [1, 2, 3, 4]


@pytest.mark.conformance
def test_a_delayed_item_cannot_be_claimed(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=1000)

    assert jobs.take(10) == []
    assert jobs.reserve_many(10) == []
    assert "read" not in jobs
    assert len(jobs) == 0


def test_a_backoff_ends_by_itself(face: Any, kind: str, clock: FakeClock) -> None:
    jobs = getattr(face, kind)("jobs", backoff=lambda attempt: 100 * attempt)
    jobs.add("read", score=5)
    jobs.add("write", score=6)

    jobs.reserve().nack()
    clock.advance(90)
    assert jobs.reserve_many(1)[0].item == "write"
    clock.advance(20)
    reservation = jobs.reserve()
    assert (reservation.item, reservation.score, reservation.attempt) == ("read", 5.0, 2)

    reservation.nack()
    clock.advance(190)
    assert [one.item for one in jobs.reserve_many(1)] == ["write"], "whose lease has run out"
    clock.advance(20)
    assert jobs.reserve().attempt == 3


def test_each_of_many_items_has_its_own_backoff(face: Any, kind: str, clock: FakeClock) -> None:
    delays = iter([100, 300, 200])
    jobs = getattr(face, kind)("jobs", backoff=lambda attempt: next(delays))
    for item in "abc":
        jobs.add(item, score=1)
    assert jobs.nack(jobs.reserve_many(3)) == []

    for item in "acb":
        clock.advance(60)
        assert jobs.take(3) == []
        clock.advance(45)
        assert jobs.take(3) == [item]


def test_a_given_delay_replaces_the_backoff(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", backoff=lambda attempt: 1000)
    jobs.add("read", score=1)

    jobs.reserve().nack(delay=0)

    assert jobs.pop() == "read"


@pytest.mark.conformance
@pytest.mark.parametrize("foreign", [False, True], ids=["add", "plain ZADD"])
def test_adding_an_item_ends_its_backoff_and_the_attempts_count_on(
    jobs: SortedSet[str], raw: Any, *, foreign: bool
) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=1000)

    if foreign:
        raw.zadd("jobs", {"read": 5})
    else:
        jobs.add("read", score=5)

    reservation = jobs.reserve()
    assert (reservation.score, reservation.attempt) == (5.0, 2)
    assert jobs.stats().delayed == 0
    RawSet(raw, "jobs").check()


def test_adding_an_item_ends_the_delay_of_again_too(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve().again(delay=1000)

    jobs.add("read", score=5)

    assert jobs.reserve().attempt == 1


# The last attempt


@pytest.mark.conformance
@each_failure
def test_an_item_that_fails_its_last_attempt_is_a_dead_letter(
    jobs: SortedSet[str], raw: Any, fail: Callable[[Any, Any], Any]
) -> None:
    jobs.add("read", score=1732423423.123457)
    for _ in range(2):
        fail(jobs, jobs.reserve())

    assert jobs.reserve_many(1) == []
    (letter,) = jobs.dead_letters
    assert (letter.item, letter.raw, letter.attempts, letter.score) == ("read", b"read", 2, 1732423423.123457)
    assert RawSet(raw, "jobs").present() & {"leased", "deliveries", "waiting"} == set()


def test_the_reason_is_that_of_the_last_nack(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=0, reason="at first")
    jobs.reserve().nack(reason="at last")

    assert [letter.reason for letter in jobs.dead_letters] == ["at last"]


def test_an_item_that_kills_its_consumers_dies_with_a_reason_of_its_own(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    for _ in range(2):
        run_out(jobs, jobs.reserve())
    assert jobs.take(1) == []

    assert [letter.reason for letter in jobs.dead_letters] == ["its lease expired"]


@each_failure
def test_a_death_is_logged(
    jobs: SortedSet[str], fail: Callable[[Any, Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    jobs.add("read", score=1)
    for _ in range(2):
        fail(jobs, jobs.reserve())
    assert jobs.reserve_many(1) == []

    assert [record.levelname for record in caplog.records if "dead letters" in record.getMessage()] == ["WARNING"]
    assert "jobs" in caplog.text


def test_one_attempt_may_be_all(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", max_attempts=1)
    jobs.add("read", score=1)

    jobs.reserve().nack()

    assert len(jobs.dead_letters) == 1


def test_an_item_that_is_requeued_by_again_at_its_last_attempt_does_not_die(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=0)

    jobs.reserve().again()

    assert jobs.reserve().attempt == 2


def test_some_of_many_may_die(jobs: SortedSet[str]) -> None:
    for item in "abc":
        jobs.add(item, score=1)
    a, b, c = jobs.reserve_many(3)
    b.nack(delay=0)

    assert jobs.nack([a, jobs.reserve(), c], delay=0, reason="no good") == []

    assert [letter.item for letter in jobs.dead_letters] == ["b"]
    assert jobs.take(10) == ["a", "c"]


@pytest.mark.conformance
@each_failure
@pytest.mark.parametrize("met", [True, False], ids=["met by a hand-out before", "not met before"])
def test_an_item_that_was_added_during_its_last_attempt_starts_afresh(
    jobs: SortedSet[str], raw: Any, fail: Callable[[Any, Any], Any], *, met: bool
) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=0)
    last = jobs.reserve()
    jobs.add("read", score=5)
    if met:
        assert jobs.take(10) == []

    fail(jobs, last)

    reservation = jobs.reserve()
    assert (reservation.attempt, reservation.score) == (1, 5.0)
    assert len(jobs.dead_letters) == 0
    RawSet(raw, "jobs").check()


@each_failure
@pytest.mark.parametrize("score", [5, 2**40], ids=["due", "not due"])
def test_an_item_that_was_added_during_its_last_attempt_is_never_dead(
    face: Any, kind: str, fail: Callable[[Any, Any], Any], score: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not drop another dead letter either."""
    jobs = getattr(face, kind)("jobs", max_attempts=1, max_dead=1)
    die(jobs, "another")
    jobs.add("read", score=1)
    last = jobs.reserve()
    jobs.add("read", score=score)

    fail(jobs, last)
    if jobs.stats().expired:
        jobs.take(1)

    assert [letter.item for letter in jobs.dead_letters] == ["another"]
    assert "dropped" not in caplog.text


@pytest.mark.conformance
@pytest.mark.parametrize("foreign", [False, True], ids=["add", "plain ZADD"])
def test_a_dead_item_that_is_added_starts_afresh(jobs: SortedSet[str], raw: Any, *, foreign: bool) -> None:
    jobs.add("read", score=1)
    for _ in range(2):
        jobs.reserve().nack(delay=0)

    if foreign:
        raw.zadd("jobs", {"read": 5})
    else:
        jobs.add("read", score=5)

    reservation = jobs.reserve()
    assert (reservation.attempt, reservation.score) == (1, 5.0)
    assert len(jobs.dead_letters) == 0
    RawSet(raw, "jobs").check()


def test_the_limit_is_that_of_the_set_that_ends_it(jobs: SortedSet[str], face: Any, kind: str) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()

    assert getattr(face, kind)("jobs", max_attempts=1).nack([reservation]) == []

    assert len(jobs.dead_letters) == 1


def test_thousands_that_run_out_for_the_last_time_all_die(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", max_attempts=1)
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(1500)})
    assert jobs.extend(jobs.reserve_many(1500), 0.01) == []
    wait_until(lambda: jobs.stats().leased == 0)
    jobs.add("alive", score=2)

    assert jobs.take(1) == ["alive"]
    while jobs.stats().expired:
        assert jobs.take(1) == []

    assert len(jobs.dead_letters) == 1500


# How many dead letters are kept


def die(jobs: SortedSet[Any], *items: str) -> None:
    for item in items:
        jobs.add(item, score=1)
        jobs.reserve().bury()


@pytest.mark.conformance
def test_the_oldest_dead_letters_go_first(face: Any, kind: str, raw: Any, caplog: pytest.LogCaptureFixture) -> None:
    jobs = getattr(face, kind)("jobs", max_dead=3)

    die(jobs, "a", "b", "c")
    assert "dropped" not in caplog.text
    die(jobs, "d", "e")

    assert [letter.item for letter in jobs.dead_letters] == ["e", "d", "c"]
    assert caplog.text.count("dropped") == 2
    RawSet(raw, "jobs").check()


def test_those_that_run_out_are_bounded_too(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", max_dead=3, max_attempts=1)
    for item in "abcdefgh":
        jobs.add(item, score=1)
    jobs.reserve_many(10, lease=0.01)
    wait_until(lambda: jobs.stats().leased == 0)

    assert jobs.take(1) == []

    assert len(jobs.dead_letters) == 3
    RawSet(raw, "jobs").check()


def test_a_lower_limit_is_reached_little_by_little(face: Any, kind: str) -> None:
    die(getattr(face, kind)("jobs"), "a", "b", "c", "d", "e", "f")
    jobs = getattr(face, kind)("jobs", max_dead=2)

    die(jobs, "g", "h", "i", "j")

    assert [letter.item for letter in jobs.dead_letters] == ["j", "i"]


def test_without_a_limit_all_are_kept(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", max_dead=None, max_attempts=1)
    raw.zadd("jobs", {f"{i:05}": 1 for i in range(10_500)})

    assert jobs.nack(jobs.reserve_many(10_500)) == []

    assert len(jobs.dead_letters) == 10_500


def test_by_default_all_are_kept(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", max_attempts=1)
    raw.zadd("jobs", {f"{i:05}": 1 for i in range(10_500)})

    assert jobs.nack(jobs.reserve_many(10_500)) == []

    assert len(jobs.dead_letters) == 10_500
