"""Sets in programs of other frameworks: greenlets that are timed out, web applications, and servers that fork."""

import contextlib
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet
from redset.testing import temporary_directory
from servers import PATIENCE, Server, wait_until

pytestmark = pytest.mark.no_cover

ITEMS = [f"{number:05}" for number in range(200 * int(os.environ.get("REDSET_TEST_MORE", "1")))]
HERE = Path(__file__).parents[1]
THREADS = 6
#: The frameworks use deprecated functions themselves.
PYTHON = [sys.executable, "-W", "ignore"]


@pytest.fixture
def url(here: Any) -> str:
    if not isinstance(here, Server):
        pytest.skip("other processes connect to a single server")
    return here.url


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_that_are_timed_out_lose_nothing(url: str, raw: Any, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")

    program = [*PYTHON, str(HERE / "app_greenlets.py"), library, url, str(len(ITEMS))]
    child = subprocess.run(program, capture_output=True, text=True, check=False, timeout=PATIENCE)

    assert (child.returncode, child.stderr) == (0, "")
    result = json.loads(child.stdout)
    assert sorted(result["done"]) == ITEMS
    assert result["cancelled"] > 0
    assert RawSet(raw, "jobs").is_empty()


class WebServer:
    """A process that serves an application on a socket, which listens before the process starts."""

    def __init__(self, url: str, *command: str) -> None:
        import httpx

        path = str(temporary_directory() / "http")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(100)
        handle = self._socket.fileno()
        self.process = subprocess.Popen(
            [*PYTHON, "-m", *(word.format(handle) for word in command)],
            cwd=HERE,
            env=os.environ | {"REDSET_URL": url},
            pass_fds=[handle],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.client = httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://test", timeout=PATIENCE)

    def stop(self) -> str:
        """Stop it by a signal, and return its output."""
        self.client.close()
        self._socket.close()
        self.process.terminate()
        try:
            return self.process.communicate(timeout=PATIENCE)[0]
        finally:
            self.process.kill()


@contextlib.contextmanager
def serving(url: str, *command: str) -> Iterator[WebServer]:
    """A web server, which must have nothing to complain of."""
    server = WebServer(url, *command)
    try:
        yield server
    finally:
        print(output := server.stop())
    assert output == ""


class Visitors:
    """Threads that make requests, of which about every second one is cancelled, on any machine."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.seconds = 0.01
        self.cancelled = 0
        self.confirmed: set[str] = set()

    def post(self, path: str) -> bool:
        """Make a request that the application times out, or that is broken off. Return whether it was served."""
        import httpx

        seconds = random.random() * self.seconds
        query, timeout = random.choice([("", max(seconds, 0.001)), (f"?{seconds:.5f}", PATIENCE)])
        try:
            response = self.client.post(path + query, timeout=timeout)
            assert response.status_code in {200, 504}, response.text
            served = bool(response.status_code == 200)
        except (httpx.TimeoutException, httpx.RemoteProtocolError):
            # A response that is cancelled after it began ends early.
            served = False
        self.cancelled += not served
        self.seconds = max(self.seconds * (0.9 if served else 1.1), 0.001)
        return served

    def add(self, item: str) -> None:
        if self.post(f"/add/{item}"):
            self.confirmed.add(item)

    def claim_all(self, jobs: "SortedSet[str]") -> None:
        while jobs:
            self.post(random.choice(["/pop", "/take", "/reserve", "/consume"]))

    def wait_until_idle(self) -> None:
        """Return when the handlers of cancelled requests have ended too."""
        wait_until(lambda: self.client.get("/active").json() == 1)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_web_application_whose_handlers_are_cancelled_loses_nothing(url: str, raw: Any, loop: str) -> None:
    for module in ("fastapi", "httpx", "uvicorn", loop):
        pytest.importorskip(module)
    jobs = SortedSet[str](raw, "jobs")
    command = ("uvicorn", "app_fastapi:app", "--fd", "{}", "--loop", loop, "--log-level", "warning")

    with serving(url, *command) as server, ThreadPoolExecutor(THREADS) as threads:
        visitors = Visitors(server.client)
        list(threads.map(visitors.add, ITEMS))
        visitors.wait_until_idle()
        added = set(jobs)
        while jobs:
            list(threads.map(visitors.claim_all, [jobs] * THREADS))
            visitors.wait_until_idle()
        done = server.client.get("/done").json()

    assert visitors.confirmed <= added
    assert sorted(done) == sorted(added)
    assert visitors.cancelled > 0
    assert RawSet(raw, "jobs").is_empty()


def test_a_server_that_forks_hands_out_each_item_once_and_loses_none_when_reloaded(url: str, raw: Any) -> None:
    for module in ("gunicorn", "httpx"):
        pytest.importorskip(module)
    jobs = SortedSet[str](raw, "jobs")
    jobs.add("the one that the application sees before it forks")
    added, done = list(jobs), list[str]()
    workers: set[int] = set()

    def request(_: object) -> None:
        response = server.client.get("/")
        assert response.status_code == 200
        worker, item = response.text.split(maxsplit=1)
        done.append(item)
        workers.add(int(worker))

    def request_until_all_work(before: set[int]) -> None:
        while len(workers - before) < 3:
            items = [f"{len(added) + number}" for number in range(5 * THREADS)]
            jobs.update(items)
            added.extend(items)
            list(threads.map(request, items))

    command = ("gunicorn", "app_wsgi", "--preload", "--workers=3", "--bind", "fd://{}", "--log-level", "warning")
    with serving(url, *command) as server, ThreadPoolExecutor(THREADS) as threads:
        request_until_all_work(before=set())
        server.process.send_signal(signal.SIGHUP)
        request_until_all_work(before=set(workers))

    assert sorted(done + jobs.take(2)) == sorted(added)
    assert RawSet(raw, "jobs").is_empty()
