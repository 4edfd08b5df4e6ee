"""Observing changes nothing: no error of an observer is raised, and no item is lost by it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from faces import Blocking, original_of
from invariants import RawSet
from redset import LeaseLost
from redset.core import calls, consuming, drivers, observing
from redset.core.observing import Call, hooks
from servers import Server

TESTS = Path(__file__).parents[1]


class Notes:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.bodies: list[Any] = []

    def called(self, call: Call) -> None:
        self.calls.append(call)

    def entered(self, set_name: str, attempt: int) -> Any:
        self.bodies.append((set_name, attempt))
        return set_name

    def left(self, entry: Any, error: BaseException | None) -> None:
        self.bodies.append(error)


class Broken(Notes):
    """An observer that fails in one way whatever it is told."""

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__()
        self.where, self.error = where, error

    def called(self, call: Call) -> None:
        self.fail("called")

    def entered(self, set_name: str, attempt: int) -> Any:
        self.fail("entered")
        return set_name

    def left(self, entry: Any, error: BaseException | None) -> None:
        self.fail("left")

    def fail(self, here: str) -> None:
        if here == self.where:
            raise self.error


@contextmanager
def observing_by(observer: Notes) -> Iterator[None]:
    hooks.begin(observer)
    try:
        yield
    finally:
        hooks.end(observer)


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs")


@pytest.mark.parametrize("where", ["called", "entered", "left"])
@pytest.mark.parametrize("error", [ValueError("broken"), StopIteration(), KeyError("broken"), LookupError()])
def test_errors_of_an_observer_are_logged_once_and_reach_nobody(
    jobs: Any, raw: Any, caplog: Any, where: str, error: Exception
) -> None:
    with observing_by(Broken(where, error)):
        assert jobs.update("abcdef", score=ord) == 6
        assert jobs.pop() == "a"
        with jobs.reserve() as item:
            assert item == "b"
        assert [one.item for one in jobs.consume(batch=2, wait=0)] == ["c", "d", "e", "f"]

    assert RawSet(raw, "jobs").is_empty()
    assert jobs.totals().acked == 5
    (record,) = caplog.records
    assert record.exc_info[1] is error


@pytest.mark.conformance
def test_calls_have_the_same_results_and_errors(jobs: Any, raw: Any) -> None:
    with observing_by(notes := Notes()):
        assert jobs.add("a", score=1) == 1.0
        assert jobs.increment("a", 2) == 3.0
        with pytest.raises(KeyError):
            jobs.remove("b")
        reservation = jobs.reserve()
        jobs.discard("a")
        with pytest.raises(LeaseLost):
            reservation.ack()
        with pytest.raises(KeyError):
            jobs.pop()
        with pytest.raises(TypeError):
            jobs.add(None)

    assert [call.name for call in notes.calls] == ["add", "add", "reserve", "ack", "take"]
    assert [call.error for call in notes.calls] == [None] * 5, "a lost lease is an answer, and no failed call"


def test_a_step_that_fails_is_thrown_into_the_plan() -> None:
    """As the driver does it with a plan that is not observed."""
    seen: list[Any] = []

    def plan() -> Any:
        try:
            yield "step"
        except ValueError as error:
            seen.append(error)
        return (yield "other")

    watched: Any = observing.observed(plan(), "jobs")
    assert next(watched) == "step"
    assert watched.throw(error := ValueError()) == "other"
    with pytest.raises(StopIteration) as end:
        watched.send("result")
    assert (end.value.value, seen) == ("result", [error])


def test_a_time_limit_that_is_raised_in_an_observer_passes_through_and_loses_nothing(face: Any, raw: Any) -> None:
    if not isinstance(face, Blocking):
        pytest.skip("signals reach the main thread, the event loop of the test is in another")

    class TimeLimit(Exception):
        """As Celery and RQ raise one in a signal handler."""

    class Slow(Notes):
        def called(self, call: Call) -> None:
            if call.kind == "receive":
                signal.raise_signal(signal.SIGUSR1)

    def handler(*_: Any) -> None:
        raise TimeLimit

    jobs = face.SortedSet("jobs")
    jobs.update("ab", score=ord)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with observing_by(Slow()):
            for claim in (jobs.pop, jobs.reserve, lambda: jobs.take(9), lambda: next(jobs.consume(wait=0))):
                with pytest.raises(TimeLimit):
                    claim()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert list(jobs) == ["a", "b"]
    assert jobs.stats().leased == 0


def test_without_an_observer_nothing_of_this_is_called(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*args: Any, **options: Any) -> None:
        raise AssertionError

    for module, name in (
        *((drivers, name) for name in ("observed", "is_observed", "once")),
        *((consuming, name) for name in ("enter_body", "leave_body")),
    ):
        monkeypatch.setattr(module, name, called)

    jobs.update("abc", score=ord)
    with jobs.reserve():
        pass
    assert [one.item for one in jobs.consume(wait=0)] == ["b", "c"]


def test_a_forked_child_leaves_the_body_to_its_parent(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.add("a")
    reservation = jobs.reserve()
    with observing_by(notes := Notes()), reservation, monkeypatch.context() as child:
        child.setattr(calls, "PID", -1)
        observing.leave_body(original_of(reservation), in_loop=False)

    assert notes.bodies == [("jobs", 1)]


@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.parametrize(("groups", "every"), [(["claims"], 7), (["loops"], 7), (["ends"], 11)])
def test_an_interruption_while_observed_leaves_all_in_order(here: Any, groups: list[str], every: int) -> None:
    """Of blocks nothing is expected: a block that is not entered yet cannot end its lease, observed or not."""
    if not isinstance(here, Server):
        pytest.skip("no url of a single server")
    program = (
        "import test_interrupts, test_observing\n"
        "test_observing.hooks.begin(test_observing.Notes())\n"
        f"test_interrupts.interrupt({here.url!r}, {groups!r}, 'own', {every})\n"
        "print(test_interrupts.json.dumps(test_interrupts.LOSSES))"
    )
    paths = [str(TESTS / "retry_protocol"), str(TESTS / "seeing"), str(TESTS), *filter(None, sys.path)]

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (interrupted, lost), losses = map(json.loads, done.stdout.splitlines())
    assert interrupted > 100
    for function, times in lost.items():
        assert times <= losses.get(function, 0), lost
