"""The record of a large claim that was received is emptied, also when its process makes no further call."""

import threading
import time
from typing import Any

import pytest

from faces import Face
from redset import SortedSet
from redset.core.emptying import IDLE
from servers import wait_until

SMALL = 1000


def largest_record(raw: Any) -> int:
    return max((raw.strlen(key) for key in raw.keys("*:call:*")), default=0)


@pytest.mark.parametrize("connections", ["own", "client"])
@pytest.mark.parametrize("lease", [None, 60])
def test_a_process_that_claimed_much_and_idles_leaves_no_large_records(
    face: Face, raw: Any, connections: str, lease: float | None
) -> None:
    for name in "jobs", "others":
        began = time.monotonic()
        jobs = face.SortedSet(name, connections=connections)
        jobs.update(f"{number:04}" + "x" * 100 for number in range(3000))
        assert len(jobs.reserve_many(3000, lease) if lease else jobs.take(3000)) == 3000
    # A busy machine may look when it has been emptied already.
    assert largest_record(raw) > 16_384 or time.monotonic() - began > IDLE

    wait_until(lambda: largest_record(raw) <= SMALL)
    assert len(raw.keys("*:call:*")) > 0


def test_claims_one_after_the_other_are_forgotten(raw: Any) -> None:
    jobs = SortedSet[str](raw, "jobs")
    for _ in range(5):
        jobs.update(f"{number:04}" + "x" * 100 for number in range(1000))
        jobs.take(1000)

    assert len(jobs._driver.caller.state.large) == 1


def test_a_process_that_cannot_start_a_thread_claims_all_the_same(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    jobs = SortedSet[str](raw, "jobs")
    jobs.update(f"{number:04}" + "x" * 100 for number in range(1000))
    monkeypatch.setattr(threading.Thread, "start", start)

    assert len(jobs.take(1000)) == 1000
    jobs.add("next")
    assert largest_record(raw) <= SMALL


def test_a_server_that_was_full_has_room_once_it_is_drained(face: Face, raw: Any, filling: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(f"{number:05}" + "x" * 1000 for number in range(5000))
    raw.config_set("maxmemory-policy", "noeviction")
    raw.config_set("maxmemory", str(raw.info("memory")["used_memory"] - 100_000))

    assert len(jobs.take(5000)) == 5000
    assert jobs.update(f"{number:05}" + "x" * 1000 for number in range(4000)) == 4000
