"""A server fails, and its replica goes on as the master: what the replica had is there, handed out once, and acked."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from clients import AsyncWitness, Witness
from faces import Awaited, Face
from redset.core.scripts import Script
from servers import PATIENCE, Sentinel, wait_until

pytestmark = pytest.mark.no_cover

#: What becomes of the master, by what a test says; while the block runs there is a new one.
Failover = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def servers() -> Iterator[Sentinel]:
    made = Sentinel()
    yield made
    made.stop()


@pytest.fixture
def face(servers: Sentinel, face_type: Any) -> Iterator[Face]:
    servers.empty()
    made: Face = face_type(servers, "redis")
    yield made
    for sentinel in made.client.connection_pool.sentinel_manager.sentinels:
        # The client does not close those that it asks for the master.
        made.run(sentinel.aclose()) if isinstance(made, Awaited) else sentinel.close()
    made.close()


@pytest.fixture(params=["killed", "stopped", "told to"])
def failover(request: pytest.FixtureRequest, servers: Sentinel) -> Failover:
    @contextmanager
    def told_to() -> Iterator[None]:
        servers.command_failover()
        yield

    ways: dict[str, Failover] = {
        "killed": servers.failover,
        "stopped": lambda: servers.failover(signal.SIGSTOP),
        "told to": told_to,
    }
    return ways[request.param]


@pytest.fixture
def in_background() -> Iterator[Callable[..., "Future[Any]"]]:
    with ThreadPoolExecutor(5) as pool:
        yield pool.submit


class Witnessed:
    """Of a face: whether a replica has all that was written since this was made."""

    def __init__(self, face: Any) -> None:
        self._face = face
        self._witness = (AsyncWitness if isinstance(face, Awaited) else Witness)(face.client)
        self._is_held("")
        self._history = self._witness.history

    def __bool__(self) -> bool:
        return self._is_held(self._history)

    def _is_held(self, history: str) -> bool:
        held: Any = self._witness.holds(history)
        return bool(self._face.run(held) if isinstance(self._face, Awaited) else held)


def test_what_a_replica_has_is_handed_out_once_by_the_next_master(face: Face, failover: Failover) -> None:
    jobs = face.SortedSet("jobs")
    replicated = Witnessed(face)
    jobs.update(["taken", "leased", "waiting"], score=1)
    taken, lease = jobs.pop(), jobs.reserve(lease=60)
    assert replicated
    with failover():
        jobs.add("after", score=2)

        assert (taken, lease.item, *jobs.take(9)) == ("leased", "taken", "waiting", "after")
        lease.ack()

    assert jobs.stats().leased == 0
    assert jobs.take(9) == []


def test_attempts_and_memories_outlive_the_master(face: Face, servers: Sentinel) -> None:
    jobs = face.SortedSet("jobs", remember=60)
    replicated = Witnessed(face)
    jobs.update(["done", "failed"], score=1)
    jobs.reserve().ack()
    jobs.reserve().nack(delay=0)
    assert replicated
    with servers.failover():
        jobs.update(["done", "failed"], score=1)

        assert jobs.reserve().attempt == 2
        assert jobs.take(9) == []


WAYS: dict[str, Callable[[Any], Any]] = {
    "pop": lambda jobs: jobs.pop(wait=PATIENCE),
    "consume": lambda jobs: next(jobs.consume(wait=PATIENCE)).item,
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_has_what_is_added_to_the_next_master(
    face: Face, servers: Sentinel, way: str, in_background: Any
) -> None:
    jobs = face.SortedSet("jobs")
    waiting = in_background(WAYS[way], jobs)
    wait_until(lambda: servers.master.asked("EXISTS {jobs}:looks") == ":1")
    with servers.failover():
        jobs.add("item", score=1)

        assert waiting.result(PATIENCE) == "item"


def test_a_call_that_is_repeated_to_the_next_master_gets_its_reply_again(face: Face, servers: Sentinel) -> None:
    """Its record is replicated together with what it did."""
    client, last = face.client, list[Any]()
    execute = client.execute_command

    def execute_and_note(*command: Any, **options: Any) -> Any:
        last[:] = command
        return execute(*command, **options)

    client.execute_command = execute_and_note
    jobs = face.SortedSet("jobs")
    replicated = Witnessed(face)
    jobs.update(["first", "second"], score=1)
    jobs.pop()
    _, _, *arguments = last
    client.execute_command = execute
    assert replicated
    with servers.failover():
        repeated = execute("EVAL", Script("claim").body, *arguments)
        reply = face.run(repeated) if isinstance(face, Awaited) else repeated

        assert reply[0] == b"first"
        assert list(jobs) == ["second"]


# What WAIT says


def test_nothing_is_said_to_be_on_a_replica_that_does_not_answer(face: Face, servers: Sentinel) -> None:
    replicated = Witnessed(face)
    servers.replica.pause()
    try:
        face.SortedSet("jobs").add("item", score=1)

        assert not replicated
    finally:
        servers.replica.resume()
    wait_until(lambda: bool(replicated))
    servers.settle()


def test_nothing_is_said_of_what_another_master_was_told(face: Face, servers: Sentinel) -> None:
    """WAIT alone would say that a replica has all: all that its own connection wrote, and that is nothing."""
    replicated = Witnessed(face)
    face.SortedSet("jobs").add("item", score=1)
    servers.command_failover()

    assert not replicated
    assert Witnessed(face)
