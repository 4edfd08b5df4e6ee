"""Reservations: an item is claimed under a lease, and no other consumer can claim it until the lease ends."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet
from redset.core.keys import Keys
from redset.exceptions import LeaseLost
from servers import FakeClock, asks_to, server_time, wait_until

pytestmark = pytest.mark.conformance

#: Each way of ending a lease, or of changing its end.
ENDS: dict[str, Callable[[Any], None]] = {
    "ack": lambda reservation: reservation.ack(),
    "nack": lambda reservation: reservation.nack(),
    "again": lambda reservation: reservation.again(delay=1, score=2),
    "extend": lambda reservation: reservation.extend(60),
    "bury": lambda reservation: reservation.bury("no good"),
}
#: Each way of doing that to many at once.
BULK_ENDS: dict[str, Callable[[Any, list[Any]], list[Any]]] = {
    "ack": lambda jobs, reservations: jobs.ack(reservations),
    "nack": lambda jobs, reservations: jobs.nack(reservations, delay=0, reason="no good"),
    "again": lambda jobs, reservations: jobs.again(reservations, score=7),
    "extend": lambda jobs, reservations: jobs.extend(reservations, 1000),
}

each_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
each_bulk_end = pytest.mark.parametrize("end", BULK_ENDS.values(), ids=BULK_ENDS.keys())


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def let_leases_expire(jobs: SortedSet[Any]) -> None:
    """Wait until all leases have expired. The next claim requeues the items."""
    wait_until(lambda: jobs.stats().leased == 0)


# Taking under a lease


def test_a_reservation_has_item_token_attempt_and_score(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    before = server_time(raw)

    reservation = jobs.reserve(lease=30)

    assert (reservation.item, reservation.score, reservation.attempt) == ("read", 1.0, 1)
    assert isinstance(reservation.token, int)
    assert before + 29 < reservation.deadline < server_time(raw) + 31
    assert not reservation.lost
    assert "read" in repr(reservation)


def test_a_lease_is_a_minute_by_default(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)

    assert 50 < jobs.reserve().deadline - server_time(raw) <= 60


def test_reserving_from_an_empty_set_raises_key_error(jobs: SortedSet[str]) -> None:
    with pytest.raises(KeyError, match="jobs"):
        jobs.reserve()

    assert jobs.reserve_many(10) == []


def test_the_lowest_score_is_reserved_first(jobs: SortedSet[str]) -> None:
    for item, score in ("c", 3), ("a", 1), ("b", 2):
        jobs.add(item, score=score)

    assert jobs.reserve().item == "a"
    assert [one.item for one in jobs.reserve_many(10)] == ["b", "c"]


@pytest.mark.parametrize("num", [0, -1])
def test_no_items_are_reserved_when_none_are_asked_for(jobs: SortedSet[str], num: int) -> None:
    jobs.add("read", score=1)

    assert jobs.reserve_many(num) == []
    assert len(jobs) == 1


@pytest.mark.parametrize("there", [1000, 1001, 2345])
def test_any_number_can_be_reserved_at_once(jobs: SortedSet[str], raw: Any, there: int) -> None:
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(there)})

    reservations = jobs.reserve_many(10**6)

    assert [one.item for one in reservations] == [f"{i:04}" for i in range(there)]
    assert [one.token for one in reservations] == sorted({one.token for one in reservations})
    assert jobs.ack(reservations) == []
    assert RawSet(raw, "jobs").is_empty()


def test_a_leased_item_cannot_be_claimed(jobs: SortedSet[str], face: Any, kind: str) -> None:
    jobs.add("read", score=1)
    jobs.reserve()

    for consumer in jobs, getattr(face, kind)("jobs"):
        assert consumer.take(10) == []
        assert consumer.reserve_many(10) == []


def test_a_leased_item_is_not_waiting(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.reserve()

    assert len(jobs) == 0
    assert "read" not in jobs
    assert jobs.score("read") is None
    assert jobs.peek_score() is None
    assert list(jobs) == jobs[:] == []


def test_only_due_items_are_reserved_from_a_scheduled_set(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("later", score=2**40)
    jobs.add("now", score=1)

    assert [one.item for one in jobs.reserve_many(10)] == ["now"]


@pytest.mark.parametrize("item", [0, "", [], {}, None, False])
def test_a_false_item_is_an_item(face: Any, kind: str, item: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    jobs.add(item, score=1)

    assert jobs.reserve().item == item


# How a lease ends


def test_an_acked_item_is_removed(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)

    jobs.reserve().ack()

    assert RawSet(raw, "jobs").is_empty()


def test_a_nacked_item_is_requeued_with_its_score(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1732423423.123457)

    jobs.reserve().nack(delay=0)

    assert jobs.score("read") == 1732423423.123457
    assert jobs.reserve().attempt == 2


def test_again_requeues_the_item_and_counts_no_attempt(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1732423423.123457)

    jobs.reserve().again()

    assert jobs.score("read") == 1732423423.123457
    assert jobs.reserve().attempt == 1


def test_again_can_set_another_score(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    jobs.add("write", score=2)

    jobs.reserve().again(score=3)

    assert jobs.score("read") == 3.0
    assert jobs.take(10) == ["write", "read"]


def test_again_can_set_another_due_time_in_a_scheduled_set(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("read", score=1)

    jobs.reserve().again(score=2**40)

    assert jobs.score("read") == 2**40
    assert jobs.reserve_many(1) == []


def test_a_buried_item_is_a_dead_letter(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)

    jobs.reserve().bury("no good")

    assert jobs.reserve_many(1) == []
    (letter,) = jobs.dead_letters
    assert (letter.item, letter.reason, letter.attempts, letter.score) == ("read", "no good", 1, 1.0)


def test_an_item_is_requeued_when_its_lease_expires(jobs: SortedSet[str]) -> None:
    jobs.add("write", score=2)
    jobs.add("read", score=1)
    jobs.reserve(lease=0.01)
    let_leases_expire(jobs)

    again = jobs.reserve()

    assert (again.item, again.score, again.attempt) == ("read", 1.0, 2), "its score is the lowest, as before"


@pytest.mark.parametrize("taken", ["pop", "take", "reserve", "reserve_many", "consume"])
def test_every_kind_of_claim_requeues_expired_leases(jobs: SortedSet[str], taken: str) -> None:
    jobs.add("read", score=1)
    jobs.reserve(lease=0.01)
    let_leases_expire(jobs)

    takers: dict[str, Callable[[], Any]] = {
        "pop": jobs.pop,
        "take": lambda: jobs.take(1)[0],
        "reserve": lambda: jobs.reserve().item,
        "reserve_many": lambda: jobs.reserve_many(1)[0].item,
        "consume": lambda: next(jobs.consume(wait=0)).item,
    }
    assert takers[taken]() == "read"


def test_thousands_of_expired_leases_are_all_requeued(jobs: SortedSet[str], raw: Any) -> None:
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(1500)})
    assert jobs.extend(jobs.reserve_many(1500), 0.01) == []
    let_leases_expire(jobs)

    first = jobs.reserve()

    assert first.attempt == 2
    assert sorted([first.item, *jobs.take(1500)]) == [f"{i:04}" for i in range(1500)]


@pytest.mark.parametrize("score", [0.0, float("-inf"), float("inf"), -1.5, 5e-324, 2.0000000000000004])
def test_a_requeued_score_is_exact_to_the_last_bit(face: Any, score: float) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("read", score=score)

    for end in "nack", "again", "bury":
        reservation = jobs.reserve()
        assert reservation.score == score
        if end == "nack":
            reservation.nack(delay=0)
        else:
            getattr(reservation, end)()

    assert [letter.score for letter in jobs.dead_letters] == [score]
    assert jobs.dead_letters.retry_all() == 1
    assert jobs.score("read") == score


def test_a_reason_is_kept_as_it_is(jobs: SortedSet[str]) -> None:
    reason = " naïve ☃\nin two lines,\0 with  blanks "
    jobs.add("read", score=1)

    jobs.reserve().bury(reason)

    assert [letter.reason for letter in jobs.dead_letters] == [reason]


@pytest.mark.parametrize("end", ["nack", "bury"])
def test_a_reason_that_is_no_unicode_text_is_kept_as_far_as_possible(face: Any, end: str) -> None:
    """Such as the message of an error about a file whose name is not UTF-8."""
    jobs = face.SortedSet("jobs", max_attempts=1)
    jobs.add("read", score=1)

    getattr(jobs.reserve(), end)(reason="no such file: bad\udcff.txt")

    (letter,) = jobs.dead_letters
    assert letter.reason.startswith("no such file: bad")


def test_a_delay_is_kept_though_the_clock_moves(face: Any, kind: str, clock: FakeClock) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("nacked", score=1)
    jobs.add("given back", score=2)
    nacked, given_back = jobs.reserve_many(2)
    nacked.nack(delay=100)
    given_back.again(delay=200)

    assert jobs.take(10) == []
    clock.advance(90)
    assert jobs.take(10) == []
    clock.advance(20)
    assert jobs.take(10) == ["nacked"]
    clock.advance(100)
    assert jobs.take(10) == ["given back"]


def test_a_lease_holds_until_it_runs_out(face: Any, kind: str, clock: FakeClock) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("read", score=1)
    reservation = jobs.reserve(lease=100)

    clock.advance(90)
    assert jobs.take(1) == []
    clock.advance(20)
    assert jobs.reserve().attempt == 2
    with pytest.raises(LeaseLost):
        reservation.ack()


# Extending


def test_a_lease_can_be_made_longer(face: Any, kind: str, clock: FakeClock) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("read", score=1)
    reservation = jobs.reserve(lease=100)
    clock.advance(90)

    reservation.extend(100)

    assert abs(reservation.deadline - (clock.now() + 100)) < 10
    clock.advance(90)
    assert jobs.take(1) == []
    reservation.ack()


def test_a_lease_can_be_made_shorter(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve(lease=1000)
    before = reservation.deadline

    reservation.extend(0.01)
    let_leases_expire(jobs)

    assert reservation.deadline < before
    assert jobs.pop() == "read"


def test_an_extension_that_comes_too_late_moves_no_deadline(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    before = reservation.deadline
    jobs.discard("read")

    with pytest.raises(LeaseLost):
        reservation.extend(1000)

    assert reservation.deadline == before


# Outdated reservations


def run_out(jobs: Any, reservation: Any) -> None:
    reservation.extend(0.01)
    let_leases_expire(jobs)


def taken_over(jobs: Any, reservation: Any) -> None:
    run_out(jobs, reservation)
    jobs.reserve()


def added_again_and_leased(jobs: Any, reservation: Any) -> None:
    jobs.discard("read")
    jobs.add("read", score=5)
    jobs.reserve()


def backing_off(jobs: Any, reservation: Any) -> None:
    reservation.nack(delay=1000)


OVER: dict[str, Callable[[Any, Any], Any]] = {
    "it ran out": run_out,
    "somebody else has it": taken_over,
    "it was acked": lambda jobs, reservation: reservation.ack(),
    "it was buried": lambda jobs, reservation: reservation.bury(),
    "it is backing off": backing_off,
    "the item was discarded": lambda jobs, reservation: jobs.discard("read"),
    "the item is another one by now": added_again_and_leased,
    "the set was cleared": lambda jobs, reservation: jobs.clear(),
}
each_way_to_be_over = pytest.mark.parametrize("over", OVER.values(), ids=OVER.keys())


@each_end
@each_way_to_be_over
def test_an_ended_reservation_changes_nothing_and_raises_lease_lost(
    face: Any, raw: Any, end: Callable[[Any], None], over: Callable[[Any, Any], Any]
) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    over(jobs, reservation)
    before = everything(raw)

    with pytest.raises(LeaseLost, match="'read' in the set 'jobs'"):
        end(reservation)

    assert everything(raw) == before


@each_bulk_end
@each_way_to_be_over
def test_many_that_are_over_change_nothing_and_are_returned(
    face: Any,
    raw: Any,
    end: Callable[[Any, list[Any]], list[Any]],
    over: Callable[[Any, Any], Any],
) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    over(jobs, reservation)
    before = everything(raw)

    assert end(jobs, [reservation]) == [reservation]

    assert everything(raw) == before


@each_end
def test_a_lost_lease_is_marked_as_such(jobs: SortedSet[str], end: Callable[[Any], None]) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    assert not reservation.lost.is_set()
    jobs.discard("read")

    with pytest.raises(LeaseLost):
        end(reservation)

    assert reservation.lost
    assert reservation.lost.is_set()
    assert reservation.lost.wait(0)


def everything(raw: Any) -> dict[bytes, Any]:
    """Return all keys but the call records."""
    return {key: raw.dump(key) for key in raw.keys("*") if b":call:" not in key}


# As a context manager


def test_leaving_the_block_acks(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)

    with jobs.reserve() as item:
        assert item == "read"
        assert jobs.stats().leased == 1

    assert RawSet(raw, "jobs").is_empty()


def test_an_exception_nacks_and_passes_through(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", backoff=lambda attempt: 0)
    jobs.add("read", score=1)

    with pytest.raises(ZeroDivisionError), jobs.reserve():
        raise ZeroDivisionError

    assert jobs.reserve().attempt == 2


def test_the_exception_is_the_reason(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", max_attempts=1)
    jobs.add("read", score=1)

    with pytest.raises(LookupError), jobs.reserve():
        raise LookupError("no such page")

    assert [letter.reason for letter in jobs.dead_letters] == ["LookupError: no such page"]


@pytest.mark.parametrize("end", [name for name in ENDS if name != "extend"])
def test_a_lease_that_the_block_ended_is_not_ended_again(jobs: SortedSet[str], raw: Any, end: str) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()

    with reservation:
        ENDS[end](reservation)
        before = everything(raw)

    assert everything(raw) == before


def test_a_lease_that_was_ended_before_an_exception_is_not_ended_again(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()

    with pytest.raises(ZeroDivisionError), reservation:
        reservation.ack()
        raise ZeroDivisionError

    assert RawSet(raw, "jobs").is_empty()


def test_an_extended_lease_is_still_acked(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()

    with reservation:
        reservation.extend(1000)

    assert RawSet(raw, "jobs").is_empty()


def test_a_lease_that_was_lost_meanwhile_is_an_error(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)

    with pytest.raises(LeaseLost), jobs.reserve():
        jobs.discard("read")


def test_an_exception_matters_more_than_a_lost_lease(jobs: SortedSet[str], caplog: pytest.LogCaptureFixture) -> None:
    jobs.add("read", score=1)

    with pytest.raises(ZeroDivisionError), jobs.reserve():
        jobs.discard("read")
        raise ZeroDivisionError

    assert "could not be nacked" in caplog.text


# Many at once


@each_bulk_end
def test_those_that_were_lost_are_returned_and_the_others_ended(
    jobs: SortedSet[str], raw: Any, end: Callable[[Any, list[Any]], list[Any]]
) -> None:
    for item in "abc":
        jobs.add(item, score=1)
    a, b, c = jobs.reserve_many(3, lease=60)
    jobs.discard("b")

    assert end(jobs, [a, b, c]) == [b]

    assert b.lost
    assert not a.lost
    assert not c.lost
    RawSet(raw, "jobs").check()


def test_many_can_be_acked(jobs: SortedSet[str], raw: Any) -> None:
    for item in "abc":
        jobs.add(item, score=1)

    assert jobs.ack(jobs.reserve_many(3)) == []
    assert RawSet(raw, "jobs").is_empty()


def test_many_can_be_nacked(jobs: SortedSet[str]) -> None:
    for item in "abc":
        jobs.add(item, score=1)

    assert jobs.nack(jobs.reserve_many(3), delay=0) == []
    assert [(one.item, one.attempt) for one in jobs.reserve_many(3)] == [("a", 2), ("b", 2), ("c", 2)]


def test_again_takes_many_reservations(jobs: SortedSet[str]) -> None:
    for item in "abc":
        jobs.add(item, score=1)

    assert jobs.again(jobs.reserve_many(3), score=7) == []
    assert [(one.item, one.score, one.attempt) for one in jobs.reserve_many(2)] == [("a", 7, 1), ("b", 7, 1)]


def test_many_can_be_extended(jobs: SortedSet[str]) -> None:
    for item in "abc":
        jobs.add(item, score=1)
    reservations = jobs.reserve_many(3, lease=10)
    before = reservations[0].deadline

    assert jobs.extend(reservations, 1000) == []
    assert all(one.deadline > before + 900 for one in reservations)


@each_bulk_end
def test_to_end_none_does_nothing(jobs: SortedSet[str], end: Callable[[Any, list[Any]], list[Any]]) -> None:
    assert end(jobs, []) == []


@each_bulk_end
def test_thousands_can_be_ended(jobs: SortedSet[str], raw: Any, end: Callable[[Any, list[Any]], list[Any]]) -> None:
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(2100)})
    reservations = jobs.reserve_many(2100)
    for gone in "0000", "0999", "1000", "2099":
        jobs.discard(gone)

    assert [one.item for one in end(jobs, reservations)] == ["0000", "0999", "1000", "2099"]
    RawSet(raw, "jobs").check()


def test_a_reservation_that_is_passed_twice_is_lost_the_second_time(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()

    assert jobs.ack([reservation, reservation]) == [reservation]
    assert RawSet(raw, "jobs").is_empty()


def test_a_reservation_can_be_ended_by_any_set_of_its_name(jobs: SortedSet[str], face: Any, raw: Any) -> None:
    jobs.add("read", score=1)

    assert face.SortedSet("jobs").ack([jobs.reserve()]) == []
    assert RawSet(raw, "jobs").is_empty()


@pytest.mark.parametrize(
    "call",
    [
        lambda jobs, reservations: jobs.reserve_many(50),
        lambda jobs, reservations: jobs.reserve(),
        lambda jobs, reservations: reservations[0].ack(),
        *(lambda jobs, reservations, end=end: end(jobs, reservations) for end in BULK_ENDS.values()),
    ],
    ids=["reserve_many", "reserve", "ack one", *BULK_ENDS],
)
def test_a_call_is_one_round_trip(
    face: Any, kind: str, raw: Any, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any, list[Any]], Any]
) -> None:
    sent = []
    send = face.client.execute_command

    def note_and_send(*words: Any, **options: Any) -> Any:
        sent.append(words[0])
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", note_and_send)
    jobs = getattr(face, kind)("jobs")
    raw.zadd("jobs", {str(i): 1 for i in range(200)})
    jobs.ack(jobs.reserve_many(1))
    reservations = jobs.reserve_many(50)
    sent.clear()

    call(jobs, reservations)

    assert sent == ["EVALSHA"]


# Calls that failed


@pytest.fixture
def unreachable(face: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the next call fail before it is sent."""
    failures: list[Exception] = []
    send = face.client.execute_command

    def fail_or_send(*words: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", fail_or_send)
    return lambda: failures.append(ConnectionError("the server is gone"))


@pytest.mark.parametrize("end", [name for name in ENDS if name != "extend"])
def test_an_end_that_failed_can_be_repeated(unreachable: Any, jobs: SortedSet[str], raw: Any, end: str) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    unreachable()
    with pytest.raises(ConnectionError):
        ENDS[end](reservation)
    assert not reservation.lost

    ENDS[end](reservation)

    assert jobs.stats().leased == 0


def test_a_failed_extension_can_be_followed_by_a_longer_one(unreachable: Any, jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve(lease=60)
    before = reservation.deadline
    unreachable()
    with pytest.raises(ConnectionError):
        reservation.extend(100)

    reservation.extend(10_000)

    assert reservation.deadline > before + 9000


def test_again_can_be_repeated_with_another_score_after_an_error(unreachable: Any, jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    unreachable()
    with pytest.raises(ConnectionError):
        reservation.again(score=5)

    reservation.again(score=7)

    assert jobs.score("read") == 7.0


def test_nack_can_be_repeated_with_another_delay_after_an_error(unreachable: Any, jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    unreachable()
    with pytest.raises(ConnectionError):
        reservation.nack(delay=1000)

    reservation.nack(delay=0)

    assert jobs.take(1) == ["read"]


# Tokens


def test_tokens_only_ever_grow(jobs: SortedSet[str], raw: Any) -> None:
    tokens: list[int] = []

    def reserve() -> Any:
        for item in "abc":
            jobs.add(item, score=1)
        reservations = jobs.reserve_many(3)
        tokens.extend(one.token for one in reservations)
        return reservations

    jobs.ack(reserve())
    jobs.nack(reserve(), delay=0)
    jobs.again(reserve())
    reserve()
    jobs.clear()
    reserve()
    raw.delete(Keys("jobs").meta)
    jobs.clear()
    reserve()

    assert tokens == sorted(set(tokens))
    assert len(tokens) == 18


def test_tokens_grow_though_the_clock_is_set_back(face: Any, kind: str, clock: FakeClock) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("a", score=1)
    jobs.add("b", score=1)
    first = jobs.reserve()

    clock.advance(-3600)

    assert jobs.reserve().token > first.token


def test_tokens_of_sets_of_another_name_have_nothing_to_do_with_them(face: Any, raw: Any) -> None:
    jobs, others = face.SortedSet("jobs"), face.SortedSet("others")
    jobs.add("read", score=1)
    others.add("read", score=1)
    jobs.reserve()

    assert others.reserve().attempt == 1
    assert raw.hget(Keys("jobs").meta, "last") is not None


# Discarding and clearing


def test_discarding_a_leased_item_ends_its_lease(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    reservation = jobs.reserve()

    assert jobs.discard("read") is True

    with pytest.raises(LeaseLost):
        reservation.nack()
    assert RawSet(raw, "jobs").is_empty(), "it does not come back"
    assert jobs.discard("read") is False


def test_a_delayed_item_can_be_discarded(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    jobs.reserve().nack(delay=1000)

    assert jobs.discard("read") is True
    assert RawSet(raw, "jobs").is_empty()


def test_an_item_with_an_expired_lease_can_be_discarded(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1)
    jobs.reserve(lease=0.01)
    let_leases_expire(jobs)

    assert jobs.discard("read") is True
    assert jobs.take(1) == []


def test_clear_ends_all_leases(jobs: SortedSet[str], raw: Any) -> None:
    for item in "abc":
        jobs.add(item, score=1)
    held, nacked, _ = jobs.reserve_many(3)
    nacked.nack(delay=1000)

    assert jobs.clear()

    assert RawSet(raw, "jobs").is_empty()
    with pytest.raises(LeaseLost):
        held.ack()
    assert not jobs.clear()


# What cannot be loaded


def test_reserve_many_buries_items_that_cannot_be_loaded_and_returns_the_rest(
    face: Any, kind: str, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {"1": 1, "{broken": 2, "3": 3})

    reservations = jobs.reserve_many(3)

    assert [(one.item, one.score) for one in reservations] == [(1, 1.0), (3, 3.0)]
    assert jobs.ack(reservations) == []
    (letter,) = jobs.dead_letters
    assert (letter.item, letter.raw, letter.attempts, letter.score) == (None, b"{broken", 1, 2.0)
    assert "JSONDecodeError" in letter.reason
    assert [record.levelno for record in caplog.records if "{broken" in record.getMessage()] == [logging.ERROR]


def test_reserve_buries_items_that_cannot_be_loaded_and_returns_the_next(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {"{broken": 1, "{too": 2, "3": 3})

    assert jobs.reserve().item == 3
    assert len(jobs.dead_letters) == 2


def test_the_rest_is_returned_when_the_broken_item_cannot_be_buried(
    face: Any, kind: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays leased until the lease expires. Only this caller has the other items."""
    send = face.client.execute_command
    failing = False

    def send_or_fail(*words: Any, **options: Any) -> Any:
        if failing and asks_to("bury", words):
            raise ConnectionError("the server is gone")
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", send_or_fail)
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {"1": 1, "{broken": 2})
    failing = True

    assert [one.item for one in jobs.reserve_many(2)] == [1]
    assert jobs.stats().leased == 2
