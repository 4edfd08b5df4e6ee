"""A private server for one run: nothing is persisted, and it ends with the run. And what it says of its own time."""

import contextlib
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ("Node", "ServerTime", "running", "running_cluster")

_PATIENCE = 10.0
#: The slots of a cluster.
SLOTS = 16384


@contextlib.contextmanager
def running(name: str, *, unix: bool = False, core: int | None = None) -> Iterator[str]:
    """Starts a server and gives its url.

    :param name: the import name of a package that brings a server's binary, a path, or a program on PATH.
    :param unix: listen on a unix socket instead of TCP loopback.
    :param core: the processor core to run on.
    """
    program = _program(name)
    with tempfile.TemporaryDirectory(prefix="redset-bench-") as folder:
        path, port = Path(folder, "server.sock"), _free_port()
        listening = ["--port", "0", "--unixsocket", str(path)] if unix else ["--port", str(port)]
        process = subprocess.Popen(
            [program, *listening, *_settings(folder)],
            stdout=subprocess.DEVNULL,
        )
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            _wait_until_it_listens(process, path if unix else port)
            yield f"unix://{path}" if unix else f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Node:
    """A node of a cluster."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running_cluster(name: str, nodes: int = 3) -> Iterator[list[Node]]:
    """Starts the masters of a cluster, which have the slots in equal parts, on TCP loopback.

    :param name: as for :func:`running`.
    """
    program = _program(name)
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(nodes):
            folder, port = (
                stack.enter_context(tempfile.TemporaryDirectory(prefix="redset-bench-")),
                _free_port(bus=True),
            )
            own = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
            process = subprocess.Popen(
                [program, *own, "--port", str(port), *_settings(folder)], stdout=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            made.append(Node(port, process))
        for number, node in enumerate(made):
            _wait_until_it_listens(node.process, node.port)
            first, last = SLOTS * number // nodes, SLOTS * (number + 1) // nodes - 1
            _say(node, f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
            _say(node, f"CLUSTER ADDSLOTSRANGE {first} {last}")
            _say(node, f"CLUSTER MEET 127.0.0.1 {made[0].port}")
        deadline = time.monotonic() + _PATIENCE
        while not all(_knows_all(node, nodes) for node in made):
            if time.monotonic() > deadline:
                raise SystemExit("the nodes did not become a cluster")
            time.sleep(0.05)
        yield made


def _say(node: Node, command: str) -> bytes:
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096)


def _knows_all(node: Node, nodes: int) -> bool:
    said = _say(node, "CLUSTER INFO")
    return b"cluster_slots_ok:16384" in said and f"cluster_size:{nodes}".encode() in said


class ServerTime:
    """The server's own time for each command, from its INFO commandstats."""

    def __init__(self, control: Any) -> None:
        self._control = control
        self._calls: dict[str, int] = defaultdict(int)
        self._spent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def begin(self) -> None:
        self._control.config_resetstat()

    def end(self, key: str, calls: int) -> None:
        self._calls[key] += calls
        for name, known in self._control.info("commandstats").items():
            if "config" not in name and "info" not in name:
                self._spent[key][name.removeprefix("cmdstat_")] += known["usec"]

    def __str__(self) -> str:
        """A line for each side; the time of a script includes that of the commands it calls, which follow it."""
        return "\n".join(f"    {key:<8} server us: {self._commands(key)}" for key in self._spent)

    def _commands(self, key: str) -> str:
        spent = sorted(self._spent[key].items(), key=lambda pair: -pair[1])
        return ", ".join(f"{name} {usec / self._calls[key]:.1f}" for name, usec in spent)


def _program(name: str) -> str:
    package = None if "/" in name or "." in name else importlib.util.find_spec(name.replace("-", "_"))
    for folder in (package and package.submodule_search_locations) or ():
        for binary in sorted(Path(folder).rglob("*-server")):
            return str(binary)
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"no server: {name!r} is neither an installed package with a server in it nor a program")
    return found


def _settings(folder: str) -> list[str]:
    return ["--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]


def _free_port(*, bus: bool = False) -> int:
    """
    :param bus: the port 10,000 above must be free too.
    """
    while bus:
        port = random.randrange(12_000, 22_700)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", where: Path | int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET) as probe:
            if probe.connect_ex(str(where) if isinstance(where, Path) else ("127.0.0.1", where)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit(f"the server did not start: {process.args!r}")
