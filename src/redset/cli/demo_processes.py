"""The worker processes of the demo: starting them, reading their reports, killing them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

from redset.cli.demo_worker import FAILED
from redset.cli.inputs import Input
from redset.exceptions import RedsetError

__all__ = ("Worker", "deaf_to_interrupts")


class Worker:
    """A process that runs one job of :mod:`redset.cli.demo_worker`. Leaving the context kills it."""

    def __init__(self, job: str, name: str, source: Input) -> None:
        self._job = job
        self._ready = Event()
        self._failure = ""
        #: Its reports so far, one per line.
        self.reports: list[str] = []
        #: Whether :meth:`kill` has ended it.
        self.killed = False
        # -P: a module of the same name in the current directory must not be imported instead of ours.
        command = [sys.executable, "-P", "-m", "redset.cli.demo_worker", job, name, *source.arguments()]
        # No byte code is written: the demo may hash the directory of these modules.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii"
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._reader.join()
        with suppress(BrokenPipeError):
            self._process.communicate()

    def wait_until_ready(self) -> None:
        """Block until the process waits for :meth:`go`.

        :raises RedsetError: the process has failed.
        """
        self._ready.wait()
        self.check()

    def go(self) -> None:
        """Let the process begin its job."""
        with suppress(BrokenPipeError):
            print("go", file=self._process.stdin, flush=True)

    def kill(self) -> None:
        """Kill the process with SIGKILL, as the system does when memory runs out. This does not count as a failure."""
        self.killed = True
        self._process.kill()
        self._reader.join()

    def is_busy(self) -> bool:
        """Return whether more reports may come."""
        return self._reader.is_alive()

    def check(self) -> None:
        """Raise RedsetError if the process has failed. Errors that it did not report are on standard error."""
        code = self._process.poll()
        if self.killed or not code:
            return
        self._reader.join()
        reason = self._failure or f"exit code {code}"
        raise RedsetError(f"a process of the demo ({self._job}) has failed: {reason}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(FAILED):
                self._failure = line.removeprefix(FAILED).rstrip("\n")
            elif not self._ready.is_set():
                self._ready.set()
            elif line.endswith("\n"):  # A killed process may leave a part of a line.
                self.reports.append(line.rstrip("\n"))
        self._process.wait()
        self._ready.set()


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C; this process receives it when the context is left.

    Each of them would print a traceback, and this process kills them anyway.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
