"""What the commands of ``redset work`` print: in one thread, so that a reader that waits holds up nothing else."""

import asyncio
import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from redset.cli.commands import Command, Outcome
from redset.cli.exits import IO as IO_CODE
from redset.cli.exits import Failure
from redset.cli.progress import Bar

__all__ = ("JobLog", "Printer", "ReaderGone")

_CHUNK = 1 << 20
#: Seconds for which the end of the thread is awaited.
_PATIENCE = 0.5


class ReaderGone(Exception):
    """The reader of stdout has gone, as ``head`` does."""


class Printer:
    """Prints the output of one command at a time.

    The thread is a daemon and uses no buffer of Python's, so that the process can end while a reader does not read.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._loop = asyncio.get_running_loop()
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        #: Is held while something is printed.
        self.busy = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="redset work output", daemon=True)
        self._thread.start()

    async def print_files(self, outcome: Outcome, tag: bytes) -> None:
        """Print the whole output of a command, and close the files of it.

        :param tag: stands in front of each line.
        :raises ReaderGone: nobody reads.
        :raises Failure: it cannot be written.
        """
        files = outcome.hand_over()
        if files:
            await self._perform(lambda: _write_files(files, tag), *files.values())

    async def print_lines(self, number: int, lines: bytes, tag: bytes) -> None:
        """Print whole lines of a command; raises as :meth:`print_files` does."""
        await self._perform(lambda: _write_all(number, _tagged(lines, tag) if tag else lines))

    async def _perform(self, write: Callable[[], None], *files: IO[bytes]) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._writes.put(_Write(write, done, files))
        await done

    def close(self) -> None:
        """End the thread, unless it still prints: the reader may never read on."""
        self._writes.put(None)
        self._thread.join(_PATIENCE)

    def _write(self) -> None:
        while (job := self._writes.get()) is not None:
            error: Exception | None = None
            with self.busy, contextlib.ExitStack() as files:
                for file in job.files:
                    files.enter_context(file)
                try:
                    # If nobody waits any more, the command will run again and print its output then.
                    if not job.done.cancelled():
                        self._bar.erase()
                        job.write()
                except OSError as trouble:
                    if trouble.errno == errno.EPIPE:
                        error = ReaderGone()
                    else:
                        error = Failure(f"cannot write the output: {trouble.strerror}", IO_CODE)
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, job.done, error)


@dataclass(frozen=True)
class _Write:
    write: Callable[[], None]
    done: "asyncio.Future[None]"
    #: The thread closes them, since it may still read them when nobody waits any more.
    files: tuple[IO[bytes], ...]


def _settle(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _write_files(files: Mapping[int, IO[bytes]], tag: bytes) -> None:
    for number, file in files.items():
        file.seek(0)
        for chunk in _lines_of(file, tag) if tag else iter(partial(file.read, _CHUNK), b""):
            _write_all(number, chunk)


def _lines_of(file: IO[bytes], tag: bytes) -> Iterator[bytes]:
    while lines := file.readlines(_CHUNK):
        yield b"".join(tag + line for line in lines)


def _tagged(lines: bytes, tag: bytes) -> bytes:
    return b"".join(tag + line for line in lines.splitlines(keepends=True))


def _write_all(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]


class JobLog:
    """The log of ``--joblog``, with the columns of GNU parallel."""

    HEAD = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

    def __init__(self, path: Path) -> None:
        """
        :raises Failure: it cannot be written.
        """
        self._path = path
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise self._failure(error) from None
        self._write(self.HEAD)

    def note(self, number: int, outcome: Outcome, command: Command, arguments: list[bytes]) -> None:
        """Write a row.

        :raises Failure: it cannot be written.
        """
        code, killed_by = (outcome.code, 0) if outcome.code >= 0 else (0, -outcome.code)
        row = (
            *(number, ":", f"{outcome.began:.3f}", f"{outcome.took:.3f}", outcome.sent, outcome.received),
            *(-1 if outcome.timed_out is not None else code, killed_by, command.shown(arguments)),
        )
        self._write("\t".join(map(str, row)) + "\n")

    def close(self) -> None:
        self._file.close()

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            # What is still in the buffer would fail again when the file is closed.
            with contextlib.suppress(OSError):
                self._file.close()
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> Failure:
        return Failure(f"cannot write the job log {self._path}: {error.strerror}", IO_CODE)
