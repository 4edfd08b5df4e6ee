"""The demo's processes as the demo sees them."""

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
    """A process that does one job of :mod:`redset.cli.demo_worker`; it is killed when the context is left."""

    def __init__(self, job: str, name: str, source: Input) -> None:
        self._job = job
        self._ready = Event()
        self._failure = ""
        #: Its reports so far, a line each.
        self.reports: list[str] = []
        #: Whether :meth:`kill` has ended it.
        self.killed = False
        # -P, or a module in the current directory that is called like one of ours would be run instead.
        command = [sys.executable, "-P", "-m", "redset.cli.demo_worker", job, name, *source.arguments()]
        # No byte code is written, because the tree that the demo hashes may be the one these modules are in.
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
        """Returns when it waits for :meth:`go`.

        :raises RedsetError: it has failed instead.
        """
        self._ready.wait()
        self.check()

    def go(self) -> None:
        """Lets it begin."""
        with suppress(BrokenPipeError):
            print("go", file=self._process.stdin, flush=True)

    def kill(self) -> None:
        """Ends it as the system does when memory runs out: it has no time for anything. That is no failure."""
        self.killed = True
        self._process.kill()
        self._reader.join()

    def is_busy(self) -> bool:
        """Whether more reports may come."""
        return self._reader.is_alive()

    def check(self) -> None:
        """:raises RedsetError: it has failed; what it has not reported, it has told on standard error."""
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
            elif line.endswith("\n"):  # One that is killed may leave a piece of a line.
                self.reports.append(line.rstrip("\n"))
        self._process.wait()
        self._ready.set()


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here never see a Ctrl-C, which reaches this one when the context is left.

    They would each print a traceback, and the one who has started them ends them anyway.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
