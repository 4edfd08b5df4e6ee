"""The helpers of the other tests: servers start, stop and follow fake clocks, and both faces are used alike."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redset import testing
from redset.exceptions import NoServerError
from servers import PATIENCE, Cluster, FakeClock, Server, Unavailable, free_port, is_alive, wait_until

THESE_TESTS = Path(__file__).parents[1]


@contextlib.contextmanager
def running(program: str = "valkey-9.1", **options: Any) -> Iterator[Server]:
    server = Server(program, **options)
    try:
        yield server
    finally:
        server.stop()


class TestServer:
    def test_it_listens_on_a_socket_and_on_a_configured_port(self) -> None:
        import redis

        with running(port=free_port()) as server, server.client() as client:
            client.set("key", "value")

            assert redis.Redis(port=server.port).get("key") == b"value"

    def test_it_is_configured(self) -> None:
        with running(maxmemory="10mb", maxmemory_policy="noeviction") as server, server.client() as client:
            assert client.config_get("maxmemory")["maxmemory"] == "10485760"

    @pytest.mark.parametrize("end", ["stop", "kill"])
    def test_it_restarts_with_the_data_it_stored(self, end: str) -> None:
        with running(appendonly="yes", appendfsync="always") as server:
            with server.client() as client:
                client.set("key", "value")
            getattr(server, end)()
            assert server.asked("PING") == ""

            server.start()

            with server.client() as client:
                assert client.get("key") == b"value"

    def test_it_can_be_paused(self) -> None:
        with running() as server:
            server.pause()
            assert server.asked("PING") == ""

            server.resume()

            assert server.asked("PING") == "+PONG"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_it_ends_with_the_process_that_started_it(self, number: signal.Signals) -> None:
        program = "import time; from servers import Server; print(Server().pid, flush=True); time.sleep(60)"
        with subprocess.Popen(
            [sys.executable, "-c", program], cwd=THESE_TESTS, stdout=subprocess.PIPE, text=True
        ) as starter:
            assert starter.stdout is not None
            pid = int(starter.stdout.readline())
            assert is_alive(pid)

            starter.send_signal(number)

        wait_until(lambda: not is_alive(pid))

    def test_a_server_that_does_not_start_raises_its_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(testing, "TIMEOUT", 0.5)
        with pytest.raises(NoServerError, match="no-such-setting"):
            Server(no_such_setting="1")


class TestCluster:
    def test_every_node_has_some_keys(self) -> None:
        cluster = Cluster()
        try:
            with contextlib.closing(cluster.client()) as client:
                for number in range(100):
                    client.set(f"key {number}", number)
                assert len(client.keys()) == 100
            shares = [int(node.asked("DBSIZE")[1:]) for node in cluster.nodes]
        finally:
            cluster.stop()

        assert sum(shares) == 100
        assert all(shares)


class TestFakeClock:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        try:
            clock = FakeClock()
        except Unavailable as reason:
            pytest.skip(str(reason))
        with running(clock=clock) as server:
            yield server

    def test_it_moves_while_the_server_runs(self, server: Server) -> None:
        clock = server.clock
        assert clock is not None
        with server.client() as client:
            client.set("key", "value", ex=1000)

            for _ in range(20):
                clock.advance(100)
                assert_same_time(client, clock.now)

            assert clock.now() > time.time() + 1999
            assert client.get("key") is None

    def test_it_goes_on_from_where_it_was_set(self, server: Server) -> None:
        clock = server.clock
        assert clock is not None
        with server.client() as client:
            clock.set(2_000_000_000.5)
            before = time_of(client)
            assert 2_000_000_000.5 <= before < 2_000_000_000.5 + PATIENCE
            assert_same_time(client, clock.now)

            time.sleep(0.05)

            assert time_of(client) >= before + 0.05 - GRAIN
            clock.reset()
            assert_same_time(client, time.time)

    def test_waiting_is_measured_and_does_not_jump(self, server: Server) -> None:
        clock = server.clock
        assert clock is not None
        with server.client() as client:
            before = time.monotonic()
            assert client.blpop("nothing", timeout=0.2) is None
            assert 0.15 < time.monotonic() - before < PATIENCE / 2


def time_of(client: Any) -> float:
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)


#: Seconds. A server keeps the time that it has read for about a millisecond.
GRAIN = 0.02


def assert_same_time(client: Any, now: Callable[[], float]) -> None:
    """Assert that the server's time is between the times before and after the call, however long it took."""
    before = now()
    told = time_of(client)
    assert before - GRAIN <= told <= now() + GRAIN


def test_a_test_with_a_clock_has_its_sets_on_the_server_of_that_clock(face: Any, clock: FakeClock, raw: Any) -> None:
    polls = face.ScheduledSet("polls")
    polls.add("x", time.time() + 1000)
    assert polls.available() == 0
    assert raw.zcard("polls") == 1

    clock.advance(1001)

    assert polls.pop() == "x"


@pytest.mark.soak
@pytest.mark.no_cover
def test_the_users_environment_changes_nothing(tmp_path: Path) -> None:
    """Run the tests of the command line under environment variables that change its output."""
    terminal = {"TERM": "dumb", "COLUMNS": "20", "LINES": "5", "NO_COLOR": "1", "FORCE_COLOR": "1"}
    others = {"CI": "1", "GITHUB_ACTIONS": "1", "LANG": "C", "LC_ALL": "C", "PYTHONWARNINGS": "always"}
    places = {"HOME": str(tmp_path / "none"), "XDG_DATA_HOME": str(tmp_path / "data"), "REDSET_URL": "redis://nobody"}
    tests = ["docs/test_demo.py::TestTheWholeDemo::test_a_tree[True]"]
    tests += [f"docs/test_cli.py::test_{name}" for name in ("a_typo", "it_is_a_module_too", "server_status_and_stop")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    run = subprocess.run(
        command,
        cwd=THESE_TESTS,
        env=os.environ | terminal | others | places,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert not (tmp_path / "data").exists()


class TestFaces:
    """Both faces pass the same assertions as a synchronous set."""

    @pytest.fixture
    def jobs(self, face: Any, kind: str) -> Any:
        return getattr(face, kind)("jobs", scorer=len)

    def test_a_set_is_used_as_a_synchronous_one(self, jobs: Any) -> None:
        assert not jobs
        for item in ("ccc", "a", "bb"):
            jobs.add(item)

        assert len(jobs) == 3
        assert jobs
        assert "bb" in jobs
        assert "x" not in jobs
        assert jobs[0] == "a"
        assert jobs[1:] == ["bb", "ccc"]
        assert list(jobs) == ["a", "bb", "ccc"]
        assert jobs.name == "jobs"
        assert "jobs" in repr(jobs)
        assert jobs == jobs  # noqa: PLR0124 - that it is equal to itself is what is asked
        assert jobs != "jobs"

    def test_errors_pass_through(self, jobs: Any) -> None:
        with pytest.raises(KeyError):
            jobs.pop()
        with pytest.raises(IndexError):
            jobs[0]

    def test_the_objects_of_a_set_are_adapted_too(self, jobs: Any) -> None:
        assert len(jobs.dead_letters) == 0
        assert list(jobs.dead_letters) == []

    def test_an_unknown_name_raises_attribute_error(self, face: Any) -> None:
        with pytest.raises(AttributeError, match="NoSuchSet"):
            face.NoSuchSet("jobs")
