"""A pause and limits of claims hold for all processes, and lose nothing: what each does, one story at a time."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import redset
import redset.aio
from faces import Awaited
from invariants import RawSet
from proxy import Fault
from redset.exceptions import AccessDeniedError, LeaseLost
from servers import FakeClock, Place, Server

pytestmark = pytest.mark.conformance

#: Every way to claim; each returns a list of what it claimed.
WAYS: dict[str, Callable[[Any], list[Any]]] = {
    "pop": lambda jobs: pop(jobs.pop),
    "pop_max": lambda jobs: pop(jobs.pop_max),
    "take": lambda jobs: jobs.take(5),
    "take_max": lambda jobs: jobs.take_max(5),
    "reserve": lambda jobs: pop(jobs.reserve),
    "reserve_many": lambda jobs: jobs.reserve_many(5),
    "consume": lambda jobs: list(jobs.consume(wait=0)),
}
UNDER_A_LEASE = ("reserve", "reserve_many", "consume")


def pop(claim: Callable[[], Any]) -> list[Any]:
    try:
        return [claim()]
    except KeyError:
        return []


class TestPause:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_paused_set_is_as_an_empty_one_until_it_is_resumed(self, face: Any, kind: str, way: str) -> None:
        jobs = getattr(face, kind)("jobs")
        jobs.update(["a", "b"], score=1)
        jobs.pause()
        assert WAYS[way](jobs) == []
        assert jobs.stats().paused_until == math.inf
        assert list(jobs) == ["a", "b"]
        jobs.resume()
        assert WAYS[way](jobs)
        assert jobs.stats().paused_until is None

    def test_it_ends_by_itself(self, face: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        until = clock.now() + 60
        jobs.pause(until)
        assert jobs.stats().paused_until == until
        clock.advance(59)
        assert jobs.take(1) == []
        clock.advance(1.1)
        assert jobs.stats().paused_until is None
        assert jobs.take(1) == ["a"]

    @pytest.mark.parametrize("until", [0, -5, 1_000_000_000.5])
    def test_one_that_ended_in_the_past_is_none(self, face: Any, until: float) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        jobs.pause()
        jobs.pause(until)
        assert jobs.stats().paused_until is None
        assert jobs.take(1) == ["a"]

    def test_it_holds_for_every_process_and_survives_clear(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        jobs.pause()
        jobs.clear()
        jobs.add("b")
        with face.another() as other:
            assert other.SortedSet("jobs").take(1) == []
            other.SortedSet("jobs").resume()
        assert jobs.take(1) == ["b"]
        RawSet(raw, "jobs").check()

    def test_a_set_that_was_never_used_can_be_paused(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.clear()
        jobs.pause()
        assert raw.ttl("{jobs}:meta") == -1
        jobs.add("a")
        assert jobs.take(1) == []
        face.SortedSet("other").resume()
        assert not raw.exists("{other}:meta")

    def test_leases_go_on_and_end(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs", max_attempts=1)
        jobs.update("abcd")
        one, two, three, four = jobs.reserve_many(4)
        jobs.pause()
        one.extend(100)
        one.ack()
        two.again()
        three.nack()
        four.bury("why")
        assert list(jobs) == ["b"]
        assert jobs.dead_letters.count() == 2
        assert jobs.dead_letters.retry_all() == 2
        RawSet(raw, "jobs").check()

    def test_a_claim_while_paused_requeues_what_has_expired(self, face: Any, raw: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        held = jobs.reserve(lease=10)
        jobs.pause()
        clock.advance(11)
        assert jobs.take(1) == []
        assert list(jobs) == ["a"]
        with pytest.raises(LeaseLost):
            held.ack()
        RawSet(raw, "jobs").check()

    def test_an_ack_travels_with_a_claim_that_gets_nothing(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("ab")
        for _ in jobs.consume(wait=0):
            jobs.pause()
        assert jobs.totals().acked == 1
        assert list(jobs) == ["b"]
        RawSet(raw, "jobs").check()

    def test_forgetting_the_set_ends_it(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.pause()
        if isinstance(face, Awaited):
            face.run(redset.aio.forget_set(face.client, "jobs"))
        else:
            redset.forget_set(face.client, "jobs")
        assert jobs.stats().paused_until is None

    def test_a_paused_periodic_set_keeps_its_ticks(self, face: Any) -> None:
        feeds = face.PeriodicSet("feeds", interval=3600)
        feeds.add("a", first=1)
        feeds.pause()
        assert feeds.take(5) == []
        feeds.resume()
        assert feeds.take(5) == ["a"]


class TestRate:
    @pytest.mark.parametrize("way", WAYS)
    def test_every_claim_counts(self, face: Any, clock: FakeClock, raw: Any, way: str) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update(map(str, range(20)))
        jobs.limit(rate=1, per=100, burst=2)
        assert sum(len(WAYS[way](jobs)) for _ in range(3)) == 2
        clock.advance(95)
        assert WAYS[way](jobs) == []
        clock.advance(6)
        assert len(WAYS[way](jobs)) == 1
        assert WAYS[way](jobs) == []
        clock.advance(1000)
        assert sum(len(WAYS[way](jobs)) for _ in range(3)) == 2
        RawSet(raw, "jobs").check()

    def test_without_a_burst_claims_are_spaced_evenly(self, face: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        jobs.limit(rate=2, per=40)
        assert jobs.take(3) == ["a"]
        clock.advance(18)
        assert jobs.take(3) == []
        clock.advance(3)
        assert jobs.take(3) == ["b"]

    def test_a_batch_is_as_large_as_the_rate_allows(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update(map(str, range(2000)), score=1)
        jobs.limit(rate=1, per=1000, burst=1500)
        assert len(jobs.take(2000)) == 1500
        assert len(jobs) == 500

    def test_nothing_returns_a_permit(self, face: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abcd")
        jobs.limit(rate=1, per=60, burst=4)
        jobs.reserve().again()
        jobs.reserve().nack(0)
        jobs.reserve().bury()
        jobs.reserve().ack()
        assert jobs.take(4) == []
        clock.advance(60.1)
        assert len(jobs.take(4)) == 1

    def test_claims_that_find_nothing_are_free(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(rate=1, per=1000, burst=2)
        assert [jobs.take(2) for _ in range(5)] == [[]] * 5
        jobs.update("ab")
        assert jobs.take(2) == ["a", "b"]

    def test_another_rate_keeps_what_was_claimed(self, face: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abcdefgh")
        jobs.limit(rate=1, per=60, burst=3)
        assert len(jobs.take(9)) == 3
        jobs.limit(rate=1, per=10, burst=3)
        assert jobs.take(9) == []
        clock.advance(10.1)
        assert len(jobs.take(9)) == 1
        jobs.limit(rate=1, per=10, burst=5)
        assert len(jobs.take(9)) == 2

    def test_it_is_not_forgotten_by_clear_or_pause(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        jobs.limit(rate=1, per=1000)
        assert jobs.take(9) == ["a"]
        jobs.clear()
        jobs.pause()
        jobs.resume()
        jobs.add("b")
        assert jobs.take(9) == []
        jobs.limit()
        assert jobs.take(9) == ["b"]

    def test_a_clock_that_is_set_back_lets_nothing_more_through(self, face: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        jobs.limit(rate=1, per=10)
        assert jobs.take(9) == ["a"]
        clock.advance(-100)
        assert jobs.take(9) == []
        clock.advance(111)
        assert jobs.take(9) == ["b"]

    def test_dropped_items_cost_nothing(self, face: Any, raw: Any) -> None:
        jobs = face.SortedSet("jobs", remember=60)
        jobs.add("a")
        jobs.pop()
        jobs.limit(rate=1, per=1000, burst=1)
        raw.zadd("jobs", {"a": 1, "b": 2})
        assert jobs.take(9) == ["b"]


class TestLeases:
    @pytest.mark.parametrize("way", UNDER_A_LEASE)
    def test_there_are_never_more(self, face: Any, raw: Any, way: str) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update(map(str, range(9)))
        jobs.limit(leases=2)
        held = jobs.reserve_many(5)
        assert len(held) == 2
        assert WAYS[way](jobs) == []
        held[0].ack()
        assert WAYS[way](jobs)
        RawSet(raw, "jobs").check()

    @pytest.mark.parametrize("way", [way for way in WAYS if way not in UNDER_A_LEASE])
    def test_what_is_claimed_for_good_has_no_lease(self, face: Any, way: str) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update(map(str, range(9)))
        jobs.limit(leases=1)
        jobs.reserve()
        assert WAYS[way](jobs)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_the_ack_of_a_consume_loop_makes_room_for_its_claim(self, face: Any, raw: Any, batch: int) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update(map(str, range(9)))
        jobs.limit(leases=batch)
        assert len(list(jobs.consume(wait=0, batch=batch))) == 9
        assert jobs.totals().acked == 9
        RawSet(raw, "jobs").check()

    @pytest.mark.parametrize("end", ["ack", "nack", "again", "bury"])
    def test_each_end_makes_room(self, face: Any, end: str) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("ab")
        jobs.limit(leases=1)
        held = jobs.reserve()
        getattr(held, end)()
        assert jobs.reserve().item in {"a", "b"}

    def test_one_that_expires_makes_room(self, face: Any, raw: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("ab")
        jobs.limit(leases=1)
        jobs.reserve(lease=10)
        clock.advance(11)
        assert jobs.reserve_many(5)[0].item == "a"
        assert jobs.reserve_many(5) == []
        RawSet(raw, "jobs").check()

    def test_delayed_items_do_not_count(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("ab")
        jobs.limit(leases=1)
        jobs.reserve().nack(1000)
        assert jobs.reserve().item == "b"

    def test_a_lower_limit_ends_none(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abcde")
        held = jobs.reserve_many(3)
        jobs.limit(leases=1)
        held[0].ack()
        held[1].ack()
        assert jobs.reserve_many(1) == []
        held[2].ack()
        assert len(jobs.reserve_many(5)) == 1

    def test_together_the_narrowest_limit_counts(self, face: Any, clock: FakeClock) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update(map(str, range(9)))
        jobs.limit(rate=1, per=10, burst=3, leases=2)
        assert len(jobs.reserve_many(9)) == 2
        assert len(jobs.take(9)) == 1
        clock.advance(100)
        assert jobs.reserve_many(9) != []


class TestRetries:
    """A call that is sent twice takes one permit, and says the same; one that is rolled back gives none back."""

    @pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.LOST_COMMAND])
    def test_a_repeated_claim_takes_one_permit(
        self, stubborn: Any, stubborn_proxy: Any, fault: Fault, raw: Any
    ) -> None:
        face, proxy = stubborn, stubborn_proxy
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        jobs.limit(rate=1, per=1000, burst=2, leases=2)
        proxy.plan(fault)
        assert jobs.reserve().item == "a"
        assert jobs.reserve().item == "b"
        assert jobs.reserve_many(1) == []
        RawSet(raw, "jobs").check()

    def test_a_claim_that_is_rolled_back_returns_none(self, frank: Any, frank_proxy: Any, raw: Any) -> None:
        face, proxy = frank, frank_proxy
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        jobs.limit(rate=1, per=1000, burst=2)
        proxy.plan(Fault.LOST_REPLY)
        with pytest.raises(Exception, match=r"[Cc]onnection"):
            jobs.pop()
        assert jobs.pop() == "a"
        assert jobs.take(3) == []
        assert list(jobs) == ["b", "c"]
        RawSet(raw, "jobs").check()

    def test_a_closed_gate_still_rolls_back(self, frank: Any, frank_proxy: Any, raw: Any) -> None:
        face, proxy = frank, frank_proxy
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        proxy.plan(Fault.LOST_REPLY)
        with pytest.raises(Exception, match=r"[Cc]onnection"):
            jobs.reserve()
        jobs.pause()
        assert jobs.take(1) == []
        assert jobs.stats().leased == 0
        assert list(jobs) == ["a", "b", "c"]
        RawSet(raw, "jobs").check()

    @pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.LOST_COMMAND])
    def test_a_repeated_pause_is_one(self, stubborn: Any, stubborn_proxy: Any, fault: Fault) -> None:
        face, proxy = stubborn, stubborn_proxy
        jobs = face.SortedSet("jobs")
        proxy.plan(fault)
        jobs.pause()
        assert jobs.stats().paused_until == math.inf

    def test_a_late_copy_of_a_pause_pauses_nothing(self, stubborn: Any, stubborn_proxy: Any) -> None:
        face, proxy = stubborn, stubborn_proxy
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        proxy.plan(Fault.LATE)
        jobs.pause()
        jobs.resume()
        assert proxy.deliver() == 1
        assert jobs.stats().paused_until is None


class TestServer:
    def test_a_full_server_can_be_paused_and_drained(self, face: Any, filling: Callable[[], None]) -> None:
        jobs = face.SortedSet("jobs")
        jobs.update("abc")
        filling()
        jobs.pause()
        assert jobs.take(1) == []
        jobs.limit(rate=1, per=1000, burst=2)
        jobs.resume()
        assert jobs.take(9) == ["a", "b"]
        assert jobs.take(9) == []

    def test_limits_outlive_the_server(self, here: Place, face: Any, raw: Any) -> None:
        if not isinstance(here, Server):
            pytest.skip("one server is restarted")
        jobs = face.SortedSet("jobs")
        jobs.limit(rate=5, leases=3, maxsize=7)
        jobs.pause()
        before = raw.hgetall("{jobs}:meta")
        assert before[b"maxsize"] == b"7"
        assert jobs.stats().limits == redset.Limits(5.0, 1.0, 1, 3, 7)

    @pytest.mark.parametrize("denied", ["hset", "hdel"])
    def test_without_the_rights_nothing_changes(self, here: Place, face_type: Any, raw: Any, denied: str) -> None:
        if not isinstance(here, Server):
            pytest.skip("a single server has users")
        raw.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{denied}"])
        try:
            with redset_of(here, "limited") as client:
                jobs = redset.SortedSet(client, "jobs")
                for change in (jobs.pause, jobs.resume, lambda: jobs.limit(rate=1, maxsize=3)):
                    with pytest.raises(AccessDeniedError):
                        change()
                assert not raw.exists("{jobs}:meta")
        finally:
            raw.acl_deluser("limited")


def redset_of(here: Server, user: str) -> Any:
    return here.client(username=user, password="any")


#: What no number may be.
NUMBERS: tuple[tuple[Any, Any], ...] = (
    (True, TypeError),
    ("5", TypeError),
    (b"5", TypeError),
    ([], TypeError),
    (1j, TypeError),
    (0, ValueError),
    (-1, ValueError),
    (math.nan, (ValueError, TypeError)),
    (math.inf, (ValueError, TypeError)),
    (-math.inf, (ValueError, TypeError)),
)
#: What no limit of a number of items may be.
COUNTS = (*NUMBERS, (2.0, TypeError), (10**400, ValueError), (2**53 + 1, ValueError))


class TestArguments:
    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            *(("rate", *bad) for bad in (*NUMBERS, (10**400, ValueError))),
            *(("per", *bad) for bad in (*NUMBERS, (None, TypeError))),
            *((name, *bad) for name in ("burst", "leases", "maxsize") for bad in COUNTS),
        ],
    )
    def test_a_bad_limit_is_named_before_anything_is_sent(
        self, face: Any, raw: Any, name: str, value: Any, error: Any
    ) -> None:
        jobs = face.SortedSet("jobs")
        good = {"rate": 5, "leases": 4}
        with pytest.raises(error) as raised:
            jobs.limit(**{**good, name: value})
        said = str(raised.value)
        assert said.startswith(f"{name} must be ")
        assert said.endswith(f"not {value!r}")
        assert not raw.exists("{jobs}:meta")

    @pytest.mark.parametrize("value", [True, "5", "2026-11-29", [], 1j, math.nan, math.inf, -math.inf, 10**400])
    def test_a_bad_moment_is_named_before_anything_is_sent(self, face: Any, raw: Any, value: Any) -> None:
        with pytest.raises((TypeError, ValueError)) as raised:
            face.SortedSet("jobs").pause(value)
        said = str(raised.value)
        assert said.startswith("until must be a ")
        assert "seconds since the epoch" in said
        assert said.endswith(f"not {value!r}")
        assert not raw.exists("{jobs}:meta")

    def test_moments_and_durations_may_be_those_of_datetime(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        end = datetime.now(UTC) + timedelta(hours=1)
        jobs.pause(end), jobs.limit(rate=5, per=timedelta(minutes=2))

        stats = jobs.stats()
        assert (stats.paused_until, stats.limits.per) == (pytest.approx(end.timestamp()), 120.0)
        with pytest.raises(ValueError, match="until must be an aware datetime"):
            jobs.pause(end.replace(tzinfo=None))
        jobs.pause(datetime(1900, 1, 1, tzinfo=UTC))
        assert jobs.stats().paused_until is None

    @pytest.mark.parametrize(
        "wrong", [{"burst": 5}, {"per": 5}, {"burst": 5, "leases": 3}, {"rate": 1e300, "per": 1e-300}]
    )
    def test_what_makes_no_sense_together_is_refused(self, face: Any, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="rate"):
            face.SortedSet("jobs").limit(**wrong)

    @pytest.mark.parametrize(
        ("given", "limits"),
        [
            ({"rate": 10}, (10.0, 1.0, 1, None, None)),
            ({"rate": 0.1, "per": 2.5, "burst": 7}, (0.1, 2.5, 7, None, None)),
            ({"leases": 50}, (None, 1.0, None, 50, None)),
            ({"maxsize": 2**53}, (None, 1.0, None, None, 2**53)),
            ({"rate": 1e-9, "per": 86400, "burst": 2**53, "leases": 1, "maxsize": 1}, (1e-9, 86400.0, 2**53, 1, 1)),
        ],
    )
    def test_limits_are_shown_as_they_were_set(self, face: Any, given: dict[str, Any], limits: tuple[Any, ...]) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(**given)
        assert jobs.stats().limits == redset.Limits(*limits)
        jobs.limit()
        assert jobs.stats().limits is None

    def test_each_call_replaces_all_limits(self, face: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.limit(rate=5, maxsize=3)
        jobs.limit(leases=2)
        assert jobs.stats().limits == redset.Limits(None, 1.0, None, 2, None)

    def test_an_expiring_set_has_none(self, face: Any) -> None:
        seen = face.ExpiringSet("seen", ttl=60)
        for name in ("pause", "resume", "limit"):
            assert not hasattr(seen, name)
