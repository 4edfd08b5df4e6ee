"""Calls that wait while the server is away: how long they go on, and that no retry of the client makes them late."""

import asyncio
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff

import redset
import redset.aio
from faces import Awaited, Blocking, Face
from redset.core.keys import Keys
from redset.core.retries import tries_once
from servers import Cluster, Server, blocked_clients, client_module, wait_until

#: Seconds within which a call must have ended that should have ended at once. The client's retries take longer.
SOON = 3.0


@pytest.fixture
def mortal() -> Iterator[Server]:
    """A server that a test may kill."""
    server = Server(appendonly="yes", appendfsync="always")
    yield server
    server.stop()


@pytest.fixture(params=["plain client", "redset.connect"])
def away(request: pytest.FixtureRequest, mortal: Server, face_type: Any) -> Iterator[Face]:
    """A face on the server, by a client that tries again what failed."""
    face = face_type(mortal, "redis")
    if request.param == "redset.connect":
        face.close_client() if face_type is Awaited else face.client.close()
        face.client = face.run(redset.aio.connect(mortal.url)) if face_type is Awaited else redset.connect(mortal.url)
    yield face
    face.close()


class Running:
    """A call in a thread: what came of it, and when it ended."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self.ended_at = 0.0
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:
            self.result = error
        self.ended_at = time.monotonic()

    def ends(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def wait_for_a_listener(server: Server) -> None:
    """Return when a call has met the server, and listens for wake-ups."""
    with server.client() as client:
        wait_until(lambda: blocked_clients(client))


def consumed(jobs: Any, **options: Any) -> list[str]:
    return [job.item for job in jobs.consume(**options)]


WAITING: dict[str, Callable[[Any], Any]] = {
    "pop": lambda jobs: jobs.pop(wait=1.5),
    "take": lambda jobs: jobs.take(3, wait=1.5),
    "reserve": lambda jobs: jobs.reserve(wait=1.5),
    "consume": lambda jobs: consumed(jobs, wait=1.5),
}


@pytest.mark.parametrize("way", WAITING)
def test_a_wait_ends_in_time_though_the_server_is_away(away: Face, mortal: Server, way: str) -> None:
    jobs = away.SortedSet("jobs")
    call = Running(lambda: WAITING[way](jobs))
    wait_for_a_listener(mortal)
    mortal.kill()

    assert call.ends(1.5 + SOON)
    assert "Connection" in type(call.result).__name__


@pytest.mark.parametrize("way", WAITING)
def test_a_wait_ends_after_one_time_out_though_the_server_hangs(away: Face, mortal: Server, way: str) -> None:
    """The client's own retries would take as many time-outs, of five seconds each."""
    jobs = away.SortedSet("jobs")
    call = Running(lambda: WAITING[way](jobs))
    wait_for_a_listener(mortal)
    mortal.pause()
    try:
        assert call.ends(1.5 + 5 + SOON)
    finally:
        mortal.resume()
    assert isinstance(call.result, (TimeoutError, ConnectionError, redis.TimeoutError, redis.ConnectionError))


def test_a_consumer_that_is_told_to_stop_while_the_server_is_away_ends_at_once(away: Face, mortal: Server) -> None:
    stop = threading.Event()
    jobs = away.SortedSet("jobs")
    call = Running(lambda: consumed(jobs, stop=stop))
    wait_for_a_listener(mortal)
    mortal.kill()
    time.sleep(1)
    assert not call.ends(0)
    stop.set()

    assert call.ends(SOON)
    assert call.result == []


def test_a_consumer_ends_with_the_error_after_the_longest_outage_allowed(away: Face, mortal: Server) -> None:
    jobs = away.SortedSet("jobs")
    call = Running(lambda: consumed(jobs, max_outage=2))
    wait_for_a_listener(mortal)
    mortal.kill()

    assert not call.ends(0.8)
    assert call.ends(2 + SOON)
    assert "Connection" in type(call.result).__name__


@pytest.mark.parametrize("way", ["pop", "consume"])
def test_whoever_waits_gets_what_is_added_after_the_outage(away: Face, mortal: Server, way: str) -> None:
    jobs: Any = away.SortedSet("jobs")
    ways = {"pop": lambda: [jobs.pop(wait=None)], "consume": lambda: [next(iter(jobs.consume())).item]}
    call = Running(ways[way])
    wait_for_a_listener(mortal)
    mortal.kill()
    time.sleep(1.5)
    mortal.start()
    redset.SortedSet(mortal.client(), "jobs").add("late")

    assert call.ends(20)
    assert call.result == ["late"]


def test_a_wait_goes_on_when_the_server_is_demoted_for_a_moment(face_type: Any, mortal: Server) -> None:
    face = face_type(mortal, "redis")
    raw, jobs = mortal.client(), face.SortedSet("jobs")
    call = Running(lambda: jobs.pop(wait=30))
    wait_for_a_listener(mortal)
    raw.execute_command("REPLICAOF", "127.0.0.1", "1")
    raw.execute_command("REPLICAOF", "NO", "ONE")
    redset.SortedSet(raw, "jobs").add("after")

    assert call.ends(29)
    assert call.result == "after"
    face.close()


@pytest.mark.parametrize("face_type", [Blocking, Awaited])
def test_the_first_contact_fails_at_once(face_type: Any, mortal: Server) -> None:
    face = face_type(mortal, "redis")
    client = face.run(redset.aio.connect(mortal.url)) if face_type is Awaited else redset.connect(mortal.url)
    mortal.kill()
    face.client, before = client, face.client
    call = Running(lambda: consumed(face.SortedSet("jobs")))

    assert call.ends(SOON)
    assert isinstance(call.result, Exception)
    face.client = before
    face.close()


class Useless:
    """A place without a server: its port refuses connections, closes them at once, or never answers.

    Its clients retry for six seconds.
    """

    def __init__(self, how: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        if how == "refuses":
            self._listening.close()
        if how == "closes":
            threading.Thread(target=self._close_all, daemon=True).start()

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        module: Any = client_module(library, awaited=awaited)
        retry = module.retry.Retry(ConstantBackoff(2), 3)
        return module.Redis(port=self.port, retry=retry, socket_timeout=0.5, **options)

    def _close_all(self) -> None:
        with suppress(OSError):
            while True:
                self._listening.accept()[0].close()

    def empty(self) -> None: ...

    def stop(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.mark.parametrize("shards", [None, 4])
@pytest.mark.parametrize("how", ["refuses", "closes", "never answers"])
def test_a_wait_tries_the_first_contact_once(face_type: Any, how: str, shards: int | None) -> None:
    place = Useless(how)
    try:
        with closing(face_type(place, "redis")) as face:
            for way in WAITING.values():
                call = Running(partial(way, face.SortedSet("jobs", shards=shards)))
                assert call.ends(SOON)
                assert isinstance(call.result, (redis.ConnectionError, redis.TimeoutError))
    finally:
        place.stop()


@pytest.mark.parametrize("shards", [None, 4])
@pytest.mark.parametrize("way", WAITING)
def test_a_wait_that_begins_during_an_outage_survives_it(
    away: Face, mortal: Server, way: str, shards: int | None
) -> None:
    """The client has had an answer before, by another call."""
    jobs: Any = away.SortedSet("jobs", shards=shards)
    jobs.add("early")
    assert len(jobs) == 1
    mortal.kill()
    again = threading.Timer(1, mortal.start)
    again.start()
    ways = {
        "pop": lambda: [jobs.pop(wait=None)],
        "take": lambda: jobs.take(3, wait=None),
        "reserve": lambda: [jobs.reserve(wait=None).item],
        "consume": lambda: [next(iter(jobs.consume())).item],
    }
    call = Running(ways[way])

    assert call.ends(15)
    assert call.result == ["early"]
    again.join()


FAILING: dict[str, Callable[[Any], Any]] = {
    "add": lambda jobs: jobs.add("late"),
    "pop": lambda jobs: jobs.pop(),
    "pop that waits": lambda jobs: jobs.pop(wait=0.5),
    "take": lambda jobs: jobs.take(2),
    "count": len,
}


@pytest.mark.parametrize("shards", [None, 4])
@pytest.mark.parametrize("way", FAILING)
def test_the_traceback_of_a_failure_is_short(face_type: Any, mortal: Server, way: str, shards: int | None) -> None:
    with closing(face_type(mortal, "redis")) as face:
        jobs = face.SortedSet("jobs", shards=shards)
        jobs.add("early")
        mortal.kill()
        with pytest.raises(redis.ConnectionError) as caught:
            FAILING[way](jobs)

    ours = str(Path(redset.__file__).parent)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert len([frame for frame in frames if frame.filename.startswith(ours)]) <= 14
    assert is_the_only_failure(caught.value)


def test_the_traceback_of_a_failure_has_the_callable_that_made_the_call(server: Server, mortal: Server) -> None:
    with server.client() as client, mortal.client() as other_client:
        other: redset.SortedSet[str] = redset.SortedSet(other_client, "other")

        def backoff(attempt: int) -> float:
            return float(len(other))

        jobs: redset.SortedSet[str] = redset.SortedSet(client, "jobs", backoff=backoff)
        jobs.add("early")
        mortal.kill()
        with pytest.raises(redis.ConnectionError) as caught:
            jobs.reserve().nack()

    assert backoff.__name__ in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_a_consumer_that_cannot_end_its_leases_raises_one_failure(mortal: Server) -> None:
    """It tries to end them, and does not raise what comes of that."""
    with mortal.client() as client:
        jobs: redset.SortedSet[str] = redset.SortedSet(client, "jobs")
        jobs.add("early")
        with pytest.raises(redis.ConnectionError) as caught:
            for _ in jobs.consume(wait=0.5):
                mortal.kill()

    assert is_the_only_failure(caught.value)


def test_a_consumer_that_cannot_end_its_leases_raises_the_error_of_its_body(mortal: Server) -> None:
    failed = ValueError("in the body")
    with mortal.client() as client:
        jobs: redset.SortedSet[str] = redset.SortedSet(client, "jobs")
        jobs.add("early")
        with pytest.raises(ValueError, match="in the body") as caught, jobs.consume() as loop:
            for _ in loop:
                mortal.kill()
                raise failed

    assert caught.value is failed


def test_a_loop_that_is_left_in_an_outage_tries_once_to_end_its_leases(
    mortal: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with mortal.client() as client:
        jobs: redset.SortedSet[str] = redset.SortedSet(client, "jobs")
        jobs.add("early")
        loop: Any = iter(jobs.consume())
        assert next(loop).item == "early"
        mortal.kill()
        loop.close()

    assert caplog.text.count("could not be ended") == 1


def test_an_awaited_consumer_that_cannot_end_its_leases_is_cancelled(mortal: Server) -> None:
    async def consume() -> None:
        async with mortal.client(awaited=True) as client:
            jobs: redset.aio.SortedSet[str] = redset.aio.SortedSet(client, "jobs")
            await jobs.add("early")
            async with asyncio.timeout(0.5), jobs.consume() as loop:
                async for _ in loop:
                    mortal.kill()
                    await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(consume())


def is_the_only_failure(error: BaseException) -> bool:
    """Whether an error of the client library has no other one among its causes."""
    while (cause := error.__cause__ or error.__context__) is not None:
        if isinstance(cause, redis.RedisError):
            return False
        error = cause
    return True


def test_the_client_retries_again_after_calls_at_several_shards_that_were_tried_once(mortal: Server) -> None:
    with mortal.client() as client:
        jobs: redset.SortedSet[str] = redset.SortedSet(client, "jobs", shards=4)
        jobs.add("early")
        mortal.kill()
        with pytest.raises(redis.ConnectionError):
            jobs.take(3, wait=0.3)
        assert not tries_once.get()
        mortal.start()
        jobs.update("abc")
        jobs.take(3)
        assert not tries_once.get()


@pytest.fixture(scope="module")
def mortal_cluster() -> Iterator[Cluster]:
    """A cluster whose nodes a test may kill, if it starts them again."""
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_a_consumer_survives_the_loss_of_all_nodes_of_a_cluster(
    face_type: Any, mortal_cluster: Cluster, library: str
) -> None:
    """The client then looks for the nodes, and raises an error of its own if it finds none."""
    face = face_type(mortal_cluster, library)
    mortal_cluster.empty()  # The item of an earlier test may have come back.
    client = mortal_cluster.client()
    call = Running(lambda: [next(iter(face.SortedSet("jobs").consume())).item])
    wait_until(lambda: client.exists(Keys("jobs").looks) or call.ends(0))
    assert not call.ends(0), call.result
    for node in mortal_cluster.nodes:
        node.kill()
    time.sleep(1.5)
    for node in mortal_cluster.nodes:
        node.start()
    mortal_cluster.become_whole()
    redset.SortedSet(client, "jobs").add("late")

    assert call.ends(30)
    assert call.result == ["late"]
    face.close()
