"""Different calls that wait under one name: each gets what it waits for, and none keeps it from another."""

import threading
import time
from typing import Any

import pytest

from conftest import CLIENT
from faces import Awaited, Face
from servers import Place, wait_until

#: Seconds that a call waits: longer than a test waits for it, since its last claim finds also what nobody woke it for.
LONG = 60
#: Seconds between two looks, so that nothing is found by them.
SELDOM = 30


class Waiting:
    def __init__(self, call: Any) -> None:
        self.result: Any = None
        self.thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self.thread.start()
        time.sleep(0.15)

    def _run(self, call: Any) -> None:
        try:
            self.result = call()
        except Exception as error:
            self.result = error

    def get(self) -> Any:
        self.thread.join(10)
        assert not self.thread.is_alive(), "it still waits"
        return self.result


FIRST: dict[str, Any] = {
    "pop": lambda jobs: jobs.pop(wait=LONG),
    "take": lambda jobs: jobs.take(2, wait=LONG),
    "reserve": lambda jobs: jobs.reserve(lease=60, wait=LONG),
    "consume": lambda jobs: next(iter(jobs.consume(wait=LONG))),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("another_client", [False, True])
def test_who_waits_for_what_is_due_holds_up_nobody_who_takes_anything(
    face: Face, first: str, another_client: bool
) -> None:
    due_only = face.ScheduledSet("mails")
    with face.another() as other:
        anything = (other if another_client else face).SortedSet("mails")
        waiting = Waiting(lambda: FIRST[first](due_only))
        second = Waiting(lambda: anything.pop(wait=LONG))
        due_only.add("tomorrow", score=time.time() + 86_400)

        assert second.get() == "tomorrow"
        due_only.update(["now", "then"], score=time.time() - 1)
        assert waiting.get()


@pytest.mark.parametrize("leases", [(60, 61), (None, 60), (60, None)])
def test_different_calls_that_wait_are_each_served(face: Face, leases: tuple[Any, Any]) -> None:
    jobs = face.SortedSet("jobs")

    def call(lease: float | None) -> Any:
        return (lambda: jobs.pop(wait=LONG)) if lease is None else (lambda: jobs.reserve(lease=lease, wait=LONG).item)

    waiting = [Waiting(call(lease)) for lease in leases]
    jobs.update("ab")

    assert sorted(one.get() for one in waiting) == ["a", "b"]


@pytest.mark.parametrize("kinds", [("ScheduledSet", "SortedSet"), ("SortedSet", "ScheduledSet")])
def test_each_kind_on_one_client_looks_for_what_comes_without_a_wake_up(
    face: Face, raw: Any, kinds: tuple[str, str]
) -> None:
    waiting = {kind: Waiting(lambda kind=kind: getattr(face, kind)("mails").pop(wait=LONG)) for kind in kinds}
    looks = "{mails}:looks"
    wait_until(lambda: raw.zcount(looks, "-inf", 0) == raw.zcount(looks, 0, "+inf") == 1)
    raw.zadd("mails", {"tomorrow": time.time() + 86_400})
    assert waiting["SortedSet"].get() == "tomorrow"
    raw.zadd("mails", {"now": time.time() - 1})
    assert waiting["ScheduledSet"].get() == "now"


@pytest.mark.parametrize("kinds", [("ScheduledSet", "SortedSet"), ("SortedSet", "ScheduledSet")])
def test_a_wake_up_reaches_each_kind_in_an_event_loop(here: Place, kinds: tuple[str, str]) -> None:
    face = Awaited(here, CLIENT)
    try:
        waiting = {
            kind: Waiting(lambda kind=kind: getattr(face, kind)("mails", poll=SELDOM).pop(wait=LONG)) for kind in kinds
        }
        face.ScheduledSet("mails").add("tomorrow", score=time.time() + 86_400)
        assert waiting["SortedSet"].get() == "tomorrow"
        face.SortedSet("mails").add("now", score=time.time() - 1)
        assert waiting["ScheduledSet"].get() == "now"
    finally:
        face.close()
