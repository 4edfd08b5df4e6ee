"""The command of ``redset work``: its words for an item, and the process that runs them."""

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from redset.cli.escapes import escaped
from redset.cli.exits import IO as IO_CODE
from redset.cli.exits import Failure

__all__ = ("CANNOT_RUN", "NOT_FOUND", "Command", "Outcome", "Runner", "Unsuitable")

#: The exit codes of shells for a command that cannot be run, and for one that is not there.
CANNOT_RUN = 126
NOT_FOUND = 127
#: Of REDSET_ITEM when the item is fed to stdin: Linux takes no string of more than 128 KiB.
_LONGEST_VARIABLE = 100_000
_LONGEST_REASON = 500
#: An item shorter than this is not the reason why an argument list is too long.
_SHORT = 4096
#: Seconds for which the output is read on after the command has ended, and a process in its background has not.
_LAST_OUTPUT = 0.5


class Unsuitable(Exception):
    """The item cannot be given to the command in this way, whoever tries."""


@dataclass(frozen=True)
class Command:
    """The words of a command, in which ``{}`` stands for the item."""

    words: tuple[bytes, ...]
    shell: bool = False
    #: Whether the item is fed to the standard input, and is in no argument.
    stdin: bool = False

    def arguments(self, item: bytes) -> list[bytes]:
        """Return the arguments for an item.

        :raises Unsuitable: the item has a NUL, which no argument can have.
        """
        if not self.stdin and b"\0" in item:
            raise Unsuitable("the item has a NUL byte, which no argument can have: use --stdin")
        words = self.words
        if not self.stdin:
            written = os.fsencode(shlex.quote(os.fsdecode(item))) if self.shell else item
            if any(b"{}" in word for word in words):
                words = tuple(word.replace(b"{}", written) for word in words)
            else:
                words = (*words, written)
        return [b"/bin/sh", b"-c", b" ".join(words)] if self.shell else list(words)

    def shown(self, arguments: Sequence[bytes]) -> str:
        """Return the arguments as one line for the shell."""
        if self.shell:
            return escaped(arguments[-1])
        return " ".join(shlex.quote(escaped(word)) for word in arguments)

    def environment(self, item: bytes, own: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the environment of the command, with REDSET_ITEM if it can be there."""
        environment = {**os.environb, **own}
        if b"\0" not in item and not (self.stdin and len(item) > _LONGEST_VARIABLE):
            environment[b"REDSET_ITEM"] = item
        else:
            environment.pop(b"REDSET_ITEM", None)
        return environment


@dataclass
class Outcome:
    """The end of a command."""

    #: Its exit code, or minus the number of the signal that killed it.
    code: int
    #: The last line of its stderr.
    last_line: str = ""
    #: The seconds after which it was killed, if it took longer.
    timed_out: float | None = None
    #: Whether it was killed because ``work`` ends.
    aborted: bool = False
    #: Why it could not be run.
    trouble: str = ""
    began: float = field(default_factory=time.time)
    took: float = 0.0
    #: The number of bytes of the item that were fed to it, and of its stdout.
    sent: int = 0
    received: int = 0
    #: The output of the command by the number of the stream, 1 or 2, unless it was printed as it came.
    files: dict[int, IO[bytes]] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The reason of the failure, for the dead letter."""
        if self.timed_out is not None:
            return f"timed out after {self.timed_out:g} s"
        if self.last_line:
            return self.last_line
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-self.code).name}"
            return f"killed by signal {-self.code}"
        return f"exit code {self.code}"

    def hand_over(self) -> dict[int, IO[bytes]]:
        """Return the files that are not empty. Whoever asked closes them."""
        full = {number: file for number, file in self.files.items() if file.seek(0, os.SEEK_END)}
        self.files = {number: file for number, file in self.files.items() if number not in full}
        return full

    def close(self) -> None:
        for file in self.files.values():
            file.close()


#: Prints a piece of the output of a command as it comes: the number of the stream, 1 or 2, and whole lines.
Print = Callable[[int, bytes], Awaitable[None]]


@dataclass
class Pipe:
    """A pipe to read from. asyncio's own would hold up the end of a process until all its children have ended."""

    reader: asyncio.StreamReader
    #: The end that the command writes to, until it has been closed here.
    end: int

    @classmethod
    async def open(cls, stack: contextlib.ExitStack) -> "Pipe":
        read, write = os.pipe()
        reader = asyncio.StreamReader()
        pipe = cls(reader, write)
        stack.callback(pipe.close_end)
        file = stack.enter_context(os.fdopen(read, "rb", 0))
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        stack.callback(transport.close)
        return pipe

    def close_end(self) -> None:
        if self.end >= 0:
            os.close(self.end)
            self.end = -1


@dataclass(frozen=True)
class Runner:
    """Runs commands, each in a session of its own."""

    command: Command
    #: Seconds until a command is killed, None: never; and those between SIGTERM and SIGKILL.
    timeout: float | None
    grace: float
    #: When it is set, the commands are killed.
    abort: asyncio.Event

    async def run(self, item: bytes, own: Mapping[bytes, bytes], printing: Print | None) -> Outcome:
        """Run the command for an item to its end. A cancellation kills it.

        :param own: variables of the environment.
        :param printing: prints the output as it comes. Default: the outcome has it.
        :raises Unsuitable: the item cannot be an argument.
        """
        outcome = Outcome(0, sent=len(item) if self.command.stdin else 0)
        try:
            with contextlib.ExitStack() as stack:
                await self._run(item, own, printing, outcome, stack)
        except BaseException:
            outcome.close()
            raise
        return outcome

    async def _run(
        self,
        item: bytes,
        own: Mapping[bytes, bytes],
        printing: Print | None,
        outcome: Outcome,
        stack: contextlib.ExitStack,
    ) -> None:
        arguments = self.command.arguments(item)
        feed: Any = subprocess.DEVNULL
        pipes: list[Pipe] = []
        try:
            if self.command.stdin:
                feed = stack.enter_context(_unnamed_file())
                feed.write(item)
                feed.seek(0)
            if printing is None:
                outcome.files = {1: _unnamed_file(), 2: _unnamed_file()}
            else:
                pipes = [await Pipe.open(stack), await Pipe.open(stack)]
        except OSError as error:
            raise Failure(f"cannot make a temporary file: {error.strerror}", IO_CODE) from None
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=feed,
                stdout=outcome.files[1] if outcome.files else pipes[0].end,
                stderr=outcome.files[2] if outcome.files else pipes[1].end,
                env=self.command.environment(item, own),
                start_new_session=True,
            )
        except OSError as error:
            _note_trouble(outcome, item, error)
            return
        for pipe in pipes:
            pipe.close_end()
        pumps = [
            asyncio.ensure_future(_pump(number, pipe.reader, outcome, printing))
            for number, pipe in enumerate(pipes, 1)
            if printing is not None
        ]
        await self._attend(process, outcome, pumps)

    async def _attend(self, process: Any, outcome: Outcome, pumps: "list[asyncio.Task[None]]") -> None:
        """Wait for the end of a process, and kill it if it has to end earlier."""
        began = time.monotonic()
        ended = asyncio.ensure_future(process.wait())
        aborted = asyncio.ensure_future(self.abort.wait())
        try:
            # A pump ends early only with an error, after which there is nobody to read the output.
            waited = {ended, aborted, *pumps}
            deadline = None if self.timeout is None else began + self.timeout
            while not (ended.done() or aborted.done() or any(pump.done() and pump.exception() for pump in pumps)):
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                done, waited = await asyncio.wait(waited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    outcome.timed_out = self.timeout
                    break
            if not ended.done():
                outcome.aborted = outcome.timed_out is None
                await self._kill(process.pid, ended)
        except BaseException:
            await self._kill(process.pid, ended)
            raise
        finally:
            aborted.cancel()
            outcome.took = time.monotonic() - began
            if pumps:
                await _let_end(pumps)
        outcome.code = ended.result()
        for pump in pumps:
            if not pump.cancelled() and (error := pump.exception()) is not None:
                raise error
        if outcome.files:
            outcome.received = os.fstat(outcome.files[1].fileno()).st_size
            outcome.last_line = _last_line_of(outcome.files[2])

    async def _kill(self, group: int, ended: "asyncio.Future[int]") -> None:
        """End a session: by SIGTERM, and what is left of it after the grace period by SIGKILL."""
        _signal(group, signal.SIGTERM)
        _signal(group, signal.SIGCONT)
        await asyncio.wait({ended}, timeout=self.grace)
        _signal(group, signal.SIGKILL)
        await asyncio.wait({ended})


def _unnamed_file() -> IO[bytes]:
    """Return a file that has no name, and is gone when it is closed."""
    return tempfile.TemporaryFile()  # the outcome closes it


def _note_trouble(outcome: Outcome, item: bytes, error: OSError) -> None:
    """Note why a command could not be run.

    :raises Unsuitable: it is the item.
    """
    if error.errno == errno.E2BIG and len(item) > _SHORT:
        raise Unsuitable(f"the item of {len(item):,} bytes is too long for an argument: use --stdin") from None
    outcome.code = NOT_FOUND if error.errno == errno.ENOENT else CANNOT_RUN
    outcome.trouble = error.strerror or str(error)


async def _let_end(pumps: "Sequence[asyncio.Future[None]]") -> None:
    _, late = await asyncio.wait(pumps, timeout=_LAST_OUTPUT)
    for pump in late:
        pump.cancel()
    if late:
        await asyncio.wait(late)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


async def _pump(number: int, stream: asyncio.StreamReader, outcome: Outcome, printing: Print) -> None:
    """Print whole lines as they come, and the rest at the end."""
    rest = b""
    while data := await stream.read(1 << 16):
        if number == 1:
            outcome.received += len(data)
        lines, end, rest = (rest + data).rpartition(b"\n")
        if end:
            if number == 2:  # noqa: PLR2004 # stderr
                outcome.last_line = _last_line(lines) or outcome.last_line
            await printing(number, lines + end)
    if rest:
        if number == 2:  # noqa: PLR2004 # stderr
            outcome.last_line = _last_line(rest) or outcome.last_line
        await printing(number, rest + b"\n")


def _last_line_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4 * _LONGEST_REASON))
    return _last_line(file.read())


def _last_line(text: bytes) -> str:
    lines = text.strip().rsplit(b"\n", 1)
    return escaped(lines[-1].strip())[:_LONGEST_REASON]
