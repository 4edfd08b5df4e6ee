"""What the tests stand on: a server of their own, and the two faces of redset on a client of it.

``REDSET_TEST_SERVER`` and ``REDSET_TEST_CLIENT`` choose another server and another kind of client; see matrix.py.
"""

import gc
import importlib.metadata
import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from faces import SHARDS, Awaited, Blocking, Face
from over_shards import leave_out_differences
from proxy import Proxy
from redset import embedded
from redset.core import calls
from redset.core.forms import layout_of
from redset.core.keys import Keys
from redset.core.registry import Registration
from servers import FakeClock, Place, Server, Unavailable, load_scripts, place

#: Its fixtures are for the tests of the web page.
pytest_plugins = ("visitors",)

SERVER = os.environ.get("REDSET_TEST_SERVER", "valkey-9.1")
CLIENT = os.environ.get("REDSET_TEST_CLIENT", "redis")

# An example takes as long as the server does, which says nothing about the code; and a face serves many examples.
settings.register_profile(
    "redset",
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("redset")

# redis-py reads its version from a file for each of the thousands of connections that the tests make.
importlib.metadata.version = cache(importlib.metadata.version)

# A shell has what it starts in the background ignore interrupts, and nohup hang-ups; so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


#: Environment variables that change how programs print, or which server redset uses. With those of the locale unset,
#: Python uses UTF-8.
CHANGES_OUTPUT = (
    *("CI", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS"),
    *("TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "TYPER_USE_RICH"),
    *("LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME"),
    *("PYTHONIOENCODING", "PYTHONUTF8", "PYTHONWARNINGS"),
    "REDSET_URL",
)
#: The terminal that programs believe to be in; 80 columns are also what they assume without one.
TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """A second after a large claim its record is emptied, which the next test would find on its server."""
    yield
    for state in list(calls._states):
        state.large.clear()


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests, and all programs that they start, the same environment on every machine.

    It also keeps them off the user's server and the user's embedded server. ``HOME`` stays where it is a directory,
    since pip has its settings there.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in CHANGES_OUTPUT:
            environment.delenv(name, raising=False)
        for name, value in TERMINAL.items():
            environment.setenv(name, value)
        environment.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        if not os.path.isdir(os.environ.get("HOME", "")):  # noqa: PTH112 - a Path of nothing is the working directory
            environment.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield
        embedded.stop()


@pytest.fixture(autouse=True)
def _unmeasured_children(request: pytest.FixtureRequest) -> Iterator[None]:
    """The processes that a test with the marker ``no_cover`` starts are not measured either."""
    with pytest.MonkeyPatch.context() as environment:
        if request.node.get_closest_marker("no_cover"):
            environment.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Place]:
    """The server of this worker: see servers.py for what can be done with it."""
    try:
        found = place(SERVER)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield found
    found.stop()


@pytest.fixture(scope="session")
def server_with_clock() -> Iterator[Server]:
    if SERVER in ("cluster", "fakeredis"):
        pytest.skip(f"the clock of {SERVER} cannot be moved")
    try:
        found = Server(SERVER, clock=FakeClock())
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield found
    found.stop()


@pytest.fixture
def clock(server_with_clock: Server) -> FakeClock:
    """The clock of the server. A test that asks for it has all its sets on a server of which it can be moved."""
    clock = server_with_clock.clock
    assert clock is not None
    clock.reset()
    return clock


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Place:
    """The server of this test, with nothing on it."""
    found: Place = request.getfixturevalue("server_with_clock" if "clock" in request.fixturenames else "server")
    found.empty()
    return found


@pytest.fixture
def raw(here: Place) -> Iterator[Any]:
    """A client that shows keys as they are: synchronous, in bytes."""
    client = here.client()
    yield client
    client.close()


@pytest.fixture
def registered(raw: Any) -> None:
    """Has the set "jobs" be registered, as after its first call, so that its next call is one command."""
    raw.hset(Keys("jobs").meta, mapping={"layout": layout_of(frozenset()), "registered": "0 0"})


@pytest.fixture
def without_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no call register its set, so that each is as many commands as later ones."""

    def register(*_: Any) -> Iterator[None]:
        yield from ()

    monkeypatch.setattr(Registration, "__call__", register)


@pytest.fixture(params=["sync", "aio"])
def face(request: pytest.FixtureRequest, here: Place) -> Iterator[Face]:
    """Each face of redset in turn, used alike: ``face.SortedSet("name")``; see faces.py."""
    made = (Blocking if request.param == "sync" else Awaited)(here, CLIENT)
    yield made
    made.close()


@pytest.fixture(params=["SortedSet", "TimeSortedSet", "ScheduledSet"])
def kind(request: pytest.FixtureRequest) -> str:
    """The name of each class of sets in turn: ``getattr(face, kind)("name")``."""
    return str(request.param)


@pytest.fixture
def filling(here: Place, raw: Any) -> Iterator[Callable[[], None]]:
    """Makes the server full, until the end of the test."""
    if not isinstance(here, Server):
        pytest.skip("a single server is made full")

    def fill() -> None:
        raw.config_set("maxmemory-policy", "noeviction")
        raw.config_set("maxmemory", "1")

    before = {name: raw.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy")}
    yield fill
    for name, value in before.items():
        raw.config_set(name, value)


@pytest.fixture
def process(request: pytest.FixtureRequest, here: Place) -> Iterator[Callable[..., Any]]:
    """Starts a function of the test's module in a process, which is given the server's url and connects for itself."""
    if not isinstance(here, Server):
        pytest.skip("other processes connect to a single server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([request.module.__name__])
    started = []

    def start(function: Callable[..., None], *args: Any) -> Any:
        child = context.Process(target=function, args=(here.url, *args))
        child.start()
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.join()


#: The scripts of calls that change something, and one that is called together with them.
RECORDED = (
    "add",
    "claim",
    "clear",
    "end",
    "expire",
    "limit",
    "living",
    "release",
    "remove",
    "reschedule",
    "rollback",
    "schedule",
)


@pytest.fixture
def server_itself(here: Place, raw: Any) -> Server:
    """The server, which has the scripts, so that each operation is one call; for proxies and other processes."""
    if not isinstance(here, Server):
        pytest.skip("a proxy and other processes connect to a single server")
    load_scripts(raw, *RECORDED)
    return here


@pytest.fixture(params=["sync", "aio"])
def face_type(request: pytest.FixtureRequest) -> Any:
    """The class of each face in turn, for a test that makes its own."""
    return Blocking if request.param == "sync" else Awaited


def proxy_to(server: Server, repeats: int) -> Iterator[Proxy]:
    if CLIENT == "thirty-lines":
        pytest.skip("this client has no retries to be set")
    with Proxy(server, repeats) as proxy:
        yield proxy


@pytest.fixture
def stubborn_proxy(server_itself: Server) -> Iterator[Proxy]:
    """The proxy between the server and ``stubborn``."""
    yield from proxy_to(server_itself, repeats=3)


@pytest.fixture
def stubborn(stubborn_proxy: Proxy, face_type: Any) -> Iterator[Face]:
    """A face whose client repeats what failed, by itself."""
    with closing(face_type(stubborn_proxy, CLIENT)) as face:
        yield face


@pytest.fixture
def frank_proxy(server_itself: Server) -> Iterator[Proxy]:
    """The proxy between the server and ``frank``."""
    yield from proxy_to(server_itself, repeats=0)


@pytest.fixture
def frank(frank_proxy: Proxy, face_type: Any) -> Iterator[Face]:
    """A face whose client lets every error reach the caller."""
    with closing(face_type(frank_proxy, CLIENT)) as face:
        yield face


def pytest_collection() -> None:
    """Collect the tests without garbage collection, and exempt them from it: with them, each takes half a second."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


#: What is about scores, in which a TimeSortedSet differs from a SortedSet.
ABOUT_SCORES = ("adding", "compatibility", "duplicates", "faces", "flags", "stats", "update", "lease_machine")
#: Files whose tests wait more than they work.
WAITING_MOST = (
    *("waiting", "documentation", "failover", "lost_replies", "nodes", "outages", "crashes", "connections"),
    *("group_waiters", "keep_alive", "examples", "slot_moves"),
)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Spares us the sets that differ from others only by their scorer, of which a server sees nothing.

    Leaves to `make soak` what a sample of the cases of a test leaves out.
    """
    here = ABOUT_SCORES if (SERVER, CLIENT) == ("valkey-9.1", "redis") else ()
    spared = [item for item in items if "TimeSortedSet" in item.name and feature(item) not in here]
    config.hook.pytest_deselected(items=spared)
    chosen = set(items) - set(spared)
    items[:] = [item for item in items if item in chosen]
    for item in beyond_the_sample(items):
        item.add_marker(pytest.mark.soak)
    if SHARDS:
        leave_out_differences(items)
    yield
    items[:] = with_something_to_wait_beside(items)


def with_something_to_wait_beside(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the tests in the order in which they are shared out: each process begins with some that wait."""
    waiting = [item for item in items if feature(item) in WAITING_MOST]
    working = [item for item in items if feature(item) not in WAITING_MOST]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for process in range(processes):
        for tests in (waiting, working):
            yield from tests[process * len(tests) // processes : (process + 1) * len(tests) // processes]


def beyond_the_sample(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the cases of tests without which each value of each parameter is tried as well.

    The parameters of one ``parametrize`` are one: each row of a table is tried.
    """
    tried: set[tuple[object, ...]] = set()
    where = f"{SERVER} {CLIENT} {importlib.metadata.version('redis')} {os.environ.get('FAKEREDIS_LUA_VERSION')}"
    for item in sorted(items, key=lambda item: zlib.crc32(f"{where} {item.nodeid}".encode())):
        if not (isinstance(item, pytest.Function) and hasattr(item, "callspec")) or is_left_out(item):
            continue
        rows = {name: id(mark) for mark in item.iter_markers("parametrize") for name in names_in(mark)}
        values: dict[int | str, tuple[object, ...]] = {}
        for name, value in item.callspec.params.items():
            values.setdefault(rows.get(name, name), (item.nodeid.partition("[")[0],))
            values[rows.get(name, name)] += (name, id(value))
        if set(values.values()) <= tried:
            yield item
        tried.update(values.values())


def names_in(mark: pytest.Mark) -> Sequence[str]:
    """The names of the parameters of a ``parametrize``."""
    names = mark.args[0]
    return names.replace(",", " ").split() if isinstance(names, str) else names


def is_left_out(item: pytest.Item) -> bool:
    """Whether it is no case of ``make test``, or is skipped there."""
    return item.get_closest_marker("soak") is not None or any(mark.args[0] for mark in item.iter_markers("skipif"))


def feature(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_")
