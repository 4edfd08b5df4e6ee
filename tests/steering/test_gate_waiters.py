"""A consumer that waits claims when the gate opens: at its moment, or woken by the call that opens it.

Promised are 5 ms; what is asserted leaves room for busy machines.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from redset.core.definition import Definition
from servers import assert_soon, wait_until

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

#: Seconds that a test waits for what must come.
PATIENCE = 20.0
#: How often, in seconds, a waiter looks by itself here: less than the second for which the server remembers it.
SELDOM = 0.7
#: Seconds after which a consumer has its item at the latest.
PROMPT = 0.25
#: Nothing is claimed early, but for what clocks differ.
assert_prompt = partial(assert_soon, PROMPT, at_least=-0.002)

WAYS: dict[str, Callable[[Any], Any]] = {
    "pop": lambda jobs: jobs.pop(wait=PATIENCE),
    "take": lambda jobs: jobs.take(1, wait=PATIENCE)[0],
    "reserve": lambda jobs: jobs.reserve(wait=PATIENCE).item,
    "reserve_many": lambda jobs: jobs.reserve_many(1, wait=PATIENCE)[0].item,
    "consume": lambda jobs: next(jobs.consume(wait=PATIENCE)).item,
}


@pytest.fixture(autouse=True)
def _looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that nobody wakes, and that does not know the moment, is late by more than a busy machine is."""
    monkeypatch.setattr(Definition, "poll", property(lambda definition: SELDOM, lambda definition, value: None))


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], Any]], "Future[float]"]]:
    """Makes a call in a thread of its own; the result is the time at which it returned."""
    with ThreadPoolExecutor(50) as pool:

        def called(call: Callable[[], Any]) -> float:
            call()
            return time.time()

        yield lambda call: pool.submit(called, call)


@pytest.fixture
def waiting(in_background: Any, raw: Any) -> Callable[..., "Future[float]"]:
    """Makes a call in the background, and returns when it waits."""

    def start(call: Callable[[], Any]) -> "Future[float]":
        raw.delete("{jobs}:looks")
        future: Future[float] = in_background(call)
        wait_until(lambda: raw.exists("{jobs}:looks") or future.done())
        time.sleep(0.01)
        return future

    return start


def lateness(opened_at: float, *futures: "Future[float]") -> float:
    return max(future.result(PATIENCE) for future in futures) - opened_at


@pytest.mark.parametrize("way", WAYS)
def test_resume_wakes_a_consumer(face: Any, way: str, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")

    def measure() -> float:
        jobs.pause()
        jobs.add("a")
        future = waiting(lambda: WAYS[way](jobs))
        assert not future.done()
        opened_at = time.time()
        jobs.resume()
        late = lateness(opened_at, future)
        jobs.clear()
        return late

    assert_prompt(measure)


@pytest.mark.parametrize("way", WAYS)
def test_a_pause_may_be_shortened(face: Any, way: str, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")

    def measure() -> float:
        jobs.add("a")
        jobs.pause()
        future = waiting(lambda: WAYS[way](jobs))
        until = time.time() + 0.3
        jobs.pause(until)
        late = lateness(until, future)
        jobs.clear()
        return late

    assert_prompt(measure)


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_a_pause_is_known(face: Any, way: str, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")

    def measure() -> float:
        jobs.add("a")
        until = time.time() + 0.3
        jobs.pause(until)
        late = lateness(until, waiting(lambda: WAYS[way](jobs)))
        jobs.clear()
        return late

    assert_prompt(measure)


@pytest.mark.parametrize("way", WAYS)
def test_the_moment_of_the_next_permit_is_known(face: Any, way: str, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.limit(rate=1, per=0.3)

    def measure() -> float:
        time.sleep(0.3)
        jobs.update("ab", score=1)
        # The server's moment is a little later than this one.
        opened_at = time.time() + 0.3
        jobs.pop()
        late = lateness(opened_at, waiting(lambda: WAYS[way](jobs)))
        jobs.clear()
        return late

    assert_prompt(measure)


@pytest.mark.parametrize("way", ["reserve", "reserve_many", "consume"])
@pytest.mark.parametrize("end", ["ack", "nack", "again", "bury", "discard"])
def test_the_end_of_a_lease_wakes_a_consumer(face: Any, way: str, end: str, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.limit(leases=1)

    def measure() -> float:
        jobs.update("ab", score=1)
        held = jobs.reserve()
        future = waiting(lambda: WAYS[way](jobs))
        assert not future.done()
        opened_at = time.time()
        if end == "discard":
            jobs.discard(held.item)
        else:
            getattr(held, end)()
        late = lateness(opened_at, future)
        jobs.clear()
        return late

    assert_prompt(measure)


def test_the_acks_of_many_wake_as_many(face: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.limit(leases=4)

    def measure() -> float:
        jobs.update(map(str, range(8)), score=1)
        held = jobs.reserve_many(4)
        futures = [waiting(lambda: jobs.reserve(wait=PATIENCE)) for _ in range(4)]
        opened_at = time.time()
        assert jobs.ack(held) == []
        late = lateness(opened_at, *futures)
        jobs.clear()
        return late

    assert_prompt(measure)


def test_an_ack_that_travels_with_a_claim_wakes_another_consumer(face: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.limit(leases=2)

    def measure() -> float:
        jobs.update("abcdef", score=1)
        loop = jobs.consume(batch=2, wait=PATIENCE)
        next(loop)
        next(loop)
        future = waiting(lambda: jobs.reserve(wait=PATIENCE))
        opened_at = time.time()
        jobs.limit(leases=3)
        late = lateness(opened_at, future)
        loop.close()
        jobs.clear()
        jobs.limit(leases=2)
        return late

    assert_prompt(measure)


@pytest.mark.parametrize("raised", [{}, {"rate": 1000, "burst": 5}, {"leases": 5}])
def test_a_limit_that_is_raised_wakes_a_consumer(face: Any, raised: dict[str, Any], waiting: Any) -> None:
    jobs = face.SortedSet("jobs")

    def measure() -> float:
        jobs.limit(rate=1, per=1000, leases=1)
        jobs.update("ab", score=1)
        jobs.reserve()
        future = waiting(lambda: jobs.reserve(wait=PATIENCE))
        assert not future.done()
        opened_at = time.time()
        jobs.limit(**raised)
        late = lateness(opened_at, future)
        jobs.limit()
        jobs.clear()
        return late

    assert_prompt(measure)


def test_the_deadline_of_a_lease_is_known(face: Any, waiting: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.limit(leases=1)

    def measure() -> float:
        jobs.update("ab", score=1)
        deadline = jobs.reserve(lease=0.3).deadline
        late = lateness(deadline, waiting(lambda: jobs.reserve(wait=PATIENCE)))
        jobs.clear()
        return late

    assert_prompt(measure)


def test_a_scheduled_item_that_is_due_behind_a_gate_is_not_polled(face: Any, raw: Any, waiting: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("a", 1)
    jobs.pause(time.time() + 1)
    future = waiting(lambda: jobs.pop(wait=PATIENCE))
    before = calls(raw)
    future.result(PATIENCE)
    assert calls(raw) - before < 20


def calls(raw: Any) -> int:
    """How many scripts were called, or 0 where nobody counts."""
    try:
        stats = raw.info("commandstats")
    except Exception:
        return 0
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def test_many_consumers_share_a_rate(face: Any, in_background: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.limit(rate=50, burst=1)
    jobs.update(map(str, range(20)), score=1)
    began = time.time()
    futures = [in_background(lambda: jobs.pop(wait=PATIENCE)) for _ in range(20)]
    took = lateness(began, *futures)
    assert 19 / 50 <= took < 19 / 50 + PATIENCE / 4
