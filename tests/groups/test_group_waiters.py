"""A consumer that waits claims at the moment at which a group may be claimed from again, and is idle until then.

As in steering/test_gate_waiters.py, there is room for busy machines.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from redset import Limit
from redset.core.definition import Definition
from servers import Place, Server, assert_soon, wait_until

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

#: Seconds that a test waits for what must come.
PATIENCE = 20.0
#: How often, in seconds, a waiter looks by itself here: less than the second for which the server remembers it.
SELDOM = 0.7
#: Seconds after which a consumer has its item at the latest.
PROMPT = 0.25
#: Nothing is claimed early, but for what clocks differ.
assert_prompt = partial(assert_soon, PROMPT, at_least=-0.005)

WAYS: dict[str, Callable[[Any], Any]] = {
    "take": lambda jobs: jobs.take(1, wait=PATIENCE)[0],
    "reserve": lambda jobs: jobs.reserve(wait=PATIENCE).item,
    "consume": lambda jobs: next(jobs.consume(wait=PATIENCE)).item,
}
turns = pytest.mark.parametrize("turns", ["score", "fair"])
ways = pytest.mark.parametrize("way", WAYS)
kinds = pytest.mark.parametrize("kind", ["SortedSet", "ScheduledSet"])


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that nobody wakes, and that does not know the moment, is late by more than a busy machine is."""
    monkeypatch.setattr(Definition, "poll", property(lambda definition: SELDOM, lambda definition, value: None))


@pytest.fixture
def waiting(raw: Any) -> Iterator[Callable[..., "Future[float]"]]:
    """Makes a call in the background, and returns when it waits; the result is the time at which it returned."""
    with ThreadPoolExecutor(50) as pool:

        def called(call: Callable[[], Any]) -> float:
            call()
            return time.time()

        def start(call: Callable[[], Any]) -> "Future[float]":
            raw.delete("{jobs}:looks")
            future = pool.submit(called, call)
            wait_until(lambda: raw.exists("{jobs}:looks") or future.done())
            time.sleep(0.01)
            return future

        yield start


@pytest.fixture
def jobs(face: Any, kind: str, turns: str) -> Callable[..., Any]:
    return lambda **limit: getattr(face, kind)(
        "jobs", group=lambda item: item[0], per_group=Limit(**limit) if limit else None, turns=turns
    )


def lateness(opened_at: float, future: "Future[float]") -> float:
    return future.result(PATIENCE) - opened_at


@kinds
@turns
@ways
@pytest.mark.usefixtures("seldom")
class TestMoments:
    def test_the_end_of_the_pause_between_two_claims_is_known(self, jobs: Any, way: str, waiting: Any) -> None:
        made = jobs(pause=0.4)

        def measure() -> float:
            time.sleep(0.4)
            made.update(["a1", "a2"], score=1)
            # The server's moment is a little later than this one.
            opens_at = time.time() + 0.4
            made.reserve().ack()
            late = lateness(opens_at, waiting(lambda: WAYS[way](made)))
            made.clear()
            return late

        assert_prompt(measure)

    def test_the_end_of_a_groups_pause_is_known(self, jobs: Any, way: str, waiting: Any) -> None:
        made = jobs()

        def measure() -> float:
            made.add("a1", score=1)
            until = time.time() + 0.4
            made.group("a").pause(until)
            late = lateness(until, waiting(lambda: WAYS[way](made)))
            made.clear()
            return late

        assert_prompt(measure)

    @pytest.mark.parametrize("end", ["ack", "nack", "again", "bury", "discard", "expires"])
    def test_the_end_of_a_lease(self, jobs: Any, way: str, end: str, waiting: Any) -> None:
        made = jobs(leases=1)

        def measure() -> float:
            made.update(["a1", "a2"], score=1)
            lease = 0.4 if end == "expires" else 60
            opens_at = time.time() + lease
            held = made.reserve(lease=lease)
            future = waiting(lambda: WAYS[way](made))
            if end != "expires":
                opens_at = time.time()
                made.discard(held.item) if end == "discard" else getattr(held, end)()
            late = lateness(opens_at, future)
            made.clear()
            return late

        assert_prompt(measure)

    @pytest.mark.parametrize("change", ["resume", "shorten", "raise", "lift", "rest"])
    def test_a_change(self, jobs: Any, way: str, change: str, waiting: Any) -> None:
        made = jobs(leases=1)

        def measure() -> float:
            made.update(["a1", "a2"], score=1)
            if change in {"resume", "shorten"}:
                made.group("a").pause()
            else:
                held = made.reserve()
            future = waiting(lambda: WAYS[way](made))
            assert not future.done()
            opens_at = time.time()
            if change == "resume":
                made.group("a").resume()
            elif change == "shorten":
                opens_at += 0.3
                made.group("a").pause(opens_at)
            elif change == "rest":
                opens_at += 0.3
                held.again(delay=0.3, group=True)
            else:
                made.group("a").limit(leases=2 if change == "raise" else 100)
            late = lateness(opens_at, future)
            made.clear()
            made.group("a").limit()
            return late

        assert_prompt(measure)

    def test_an_addition_to_another_group(self, jobs: Any, way: str, waiting: Any) -> None:
        made = jobs(pause=60)
        made.update(["a1", "a2"], score=1)
        made.take(1)
        others = itertools.count(1)

        def measure() -> float:
            future = waiting(lambda: WAYS[way](made))
            opens_at = time.time()
            made.add(f"{chr(ord('a') + next(others))}1", score=1)
            return lateness(opens_at, future)

        assert_soon(PROMPT, measure)


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("kind", ["ScheduledSet"])
@turns
def test_an_item_that_falls_due_while_other_groups_rest(jobs: Any, turns: str, waiting: Any) -> None:
    made = jobs(pause=60)
    made.update(["a1", "a2"], score=1)
    made.take(1)
    others = itertools.count(1)

    def measure() -> float:
        until, name = time.time() + 0.4, chr(ord("a") + next(others))
        made.add(f"{name}1", score=until)
        made.add(f"{name}2", score=until + 100)
        return lateness(until, waiting(lambda: made.pop(wait=PATIENCE)))

    assert_prompt(measure)


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("kind", ["SortedSet"])
@turns
def test_many_waiters_share_many_groups(jobs: Any, waiting: Any, turns: str) -> None:
    """Each pause that ends lets one of them go on."""
    made = jobs(pause=0.3)
    names = "abcdefgh"
    made.update([f"{name}1" for name in names], score=1)
    assert len(made.take(100)) == len(names)
    opens_at = time.time() + 0.3
    made.update([f"{name}2" for name in names], score=1)
    futures = [waiting(lambda: made.pop(wait=PATIENCE)) for _ in names]
    late = sorted(lateness(opens_at, future) for future in futures)
    # By looks alone the last one would be as many times as late as there are waiters.
    assert late[-1] < len(names) * SELDOM / 2, late


class TestIdle:
    """While no group may be claimed from, a waiter costs the server as much as with an empty set."""

    @pytest.fixture
    def scripts(self, here: Place, raw: Any) -> Callable[[], int]:
        if not isinstance(here, Server):
            pytest.skip("its statistics are looked at")

        def count() -> int:
            stats = raw.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))

        return count

    @pytest.fixture
    def idles(self, scripts: Any) -> Callable[[Any], None]:
        def check(jobs: Any) -> None:
            with ThreadPoolExecutor(5) as threads:
                futures = [threads.submit(jobs.take, 1, wait=2.0) for _ in range(5)]
                time.sleep(0.5)
                began, before = time.monotonic(), scripts()
                time.sleep(1)
                # One look each 0.2 s.
                assert scripts() - before <= 2 * (time.monotonic() - began) / 0.2 + 2
                assert [future.result(PATIENCE) for future in futures] == [[]] * 5

        return check

    @kinds
    @turns
    @pytest.mark.parametrize("why", ["blocked", "at rest", "paused", "old entries", "of nobody", "from elsewhere"])
    def test_all_groups_are(self, jobs: Any, face: Any, raw: Any, idles: Any, why: str) -> None:
        made = jobs(leases=1, pause=0.001) if why == "blocked" else jobs(pause=60)
        names = [f"{chr(97 + number % 26)}{number}" for number in range(260)]
        made.update(names, score=1)
        if why == "paused":
            for letter in sorted({name[0] for name in names}):
                made.group(letter).pause()
        elif why == "blocked":
            assert len(made.reserve_many(300, lease=60)) == 26
        else:
            assert len(made.take(300)) == 26
        if why == "old entries":
            raw.zrem("jobs", *names[-50:])
        elif why == "of nobody":
            raw.delete("{jobs}:resting", "{jobs}:groups", "{jobs}:group", "{jobs}:ready", "jobs")
        elif why == "from elsewhere":
            raw.zadd("jobs", {f"a{number}": 1 for number in range(1000, 1500)})
            # A few claims sort these.
            for _ in range(20):
                assert made.take(5) == []
        idles(made)

    @turns
    @pytest.mark.parametrize("kind", ["ScheduledSet"])
    def test_nothing_is_due(self, jobs: Any, idles: Any, turns: str) -> None:
        made = jobs(pause=60)
        made.update([f"{chr(97 + number % 26)}{number}" for number in range(260)], score=time.time() + 3600)
        idles(made)
