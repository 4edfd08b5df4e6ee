"""Different calls that wait under one name: each gets what it waits for, and none keeps it from another."""

import threading
import time
from typing import Any

import pytest

from faces import Face


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
    "pop": lambda jobs: jobs.pop(wait=8),
    "take": lambda jobs: jobs.take(2, wait=8),
    "reserve": lambda jobs: jobs.reserve(lease=60, wait=8),
    "consume": lambda jobs: next(iter(jobs.consume(wait=8))),
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
        second = Waiting(lambda: anything.pop(wait=8))
        due_only.add("tomorrow", score=time.time() + 86_400)

        assert second.get() == "tomorrow"
        due_only.update(["now", "then"], score=time.time() - 1)
        assert waiting.get()


@pytest.mark.parametrize("leases", [(60, 61), (None, 60), (60, None)])
def test_different_calls_that_wait_are_each_served(face: Face, leases: tuple[Any, Any]) -> None:
    jobs = face.SortedSet("jobs")

    def call(lease: float | None) -> Any:
        return (lambda: jobs.pop(wait=8)) if lease is None else (lambda: jobs.reserve(lease=lease, wait=8).item)

    waiting = [Waiting(call(lease)) for lease in leases]
    jobs.update("ab")

    assert sorted(one.get() for one in waiting) == ["a", "b"]
