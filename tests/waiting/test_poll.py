"""``poll``: how often a waiting consumer looks, and that additions wake it whatever that is."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servers import PATIENCE, wait_until

conformance = pytest.mark.conformance

#: Seconds, and more than any wake-up takes.
SELDOM = 30

WAKES: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda jobs, reservation: jobs.add("b"),
    "update": lambda jobs, reservation: jobs.update(["b"]),
    "nack": lambda jobs, reservation: reservation.nack(delay=0),
    "again": lambda jobs, reservation: reservation.again(),
}


def waits(raw: Any) -> Any:
    return wait_until(lambda: raw.exists("{jobs}:looks"))


@conformance
@pytest.mark.parametrize("wake", WAKES.values(), ids=WAKES)
def test_who_looks_seldom_is_woken_at_once(face: Any, raw: Any, wake: Callable[[Any, Any], Any]) -> None:
    jobs = face.SortedSet("jobs", poll=SELDOM)
    jobs.add("a")
    reservation = jobs.reserve()
    with ThreadPoolExecutor() as threads, face.another() as other:
        waiting = threads.submit(other.SortedSet("jobs", poll=SELDOM).pop, wait=PATIENCE)
        waits(raw)
        time.sleep(1.2)  # longer than the mark of other waiters lives
        began = time.monotonic()
        wake(jobs, reservation)
        assert waiting.result() in ("a", "b")
        assert time.monotonic() - began < SELDOM / 3


@conformance
def test_a_second_waiter_is_woken_long_after_the_first(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", poll=SELDOM)
    with ThreadPoolExecutor() as threads, face.another() as other:
        there = other.SortedSet("jobs", poll=SELDOM)
        waiting = [threads.submit(there.pop, wait=PATIENCE) for _ in range(2)]
        waits(raw)
        time.sleep(0.3)
        began = time.monotonic()
        jobs.add("a")
        time.sleep(1.5)
        jobs.add("b")
        assert sorted(future.result() for future in waiting) == ["a", "b"]
        assert time.monotonic() - began < SELDOM / 3


@conformance
def test_an_item_that_falls_due_is_claimed_on_time(face: Any) -> None:
    jobs = face.ScheduledSet("jobs", poll=SELDOM)
    jobs.add("a", delay=0.5)
    began = time.monotonic()

    assert jobs.pop(wait=PATIENCE) == "a"
    assert time.monotonic() - began < SELDOM / 3


@conformance
def test_the_wait_ends_on_time(face: Any) -> None:
    jobs = face.SortedSet("jobs", poll=SELDOM)
    began = time.monotonic()

    assert jobs.take(1, wait=0.5) == []
    assert time.monotonic() - began < SELDOM / 3


@pytest.mark.parametrize(("poll", "least", "most"), [(0.05, 8, 40), (0.5, 1, 4)])
def test_a_waiter_looks_so_often(face: Any, raw: Any, poll: float, least: int, most: int) -> None:
    jobs = face.SortedSet("jobs", poll=poll)
    jobs.take(1, wait=0.001)
    raw.config_set("hz", 500)

    def looks() -> int:
        raw.config_resetstat()
        jobs.take(1, wait=1)
        # The first and the last claim are no looks.
        return int(raw.info("commandstats")["cmdstat_evalsha"]["calls"]) - 2

    # On a busy machine there are fewer in some seconds; by default there are five.
    wait_until(lambda: least <= looks() <= most)


def test_an_item_of_another_program_is_found_at_the_next_look(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", poll=1)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(jobs.pop, wait=PATIENCE)
        waits(raw)
        raw.zadd("jobs", {"a": 1})
        assert waiting.result() == "a"


def test_a_loop_is_stopped_at_its_next_look(face: Any, raw: Any) -> None:
    jobs, stop = face.SortedSet("jobs", poll=0.5), threading.Event()
    with ThreadPoolExecutor() as threads:
        loop = threads.submit(lambda: list(jobs.consume(stop=stop)))
        waits(raw)
        stop.set()
        assert loop.result(PATIENCE) == []
