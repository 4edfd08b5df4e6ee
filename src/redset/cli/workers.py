"""The worker of ``redset work``: a consume loop for each command that may run at a time."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import redset.aio
from redset.cli.commands import CANNOT_RUN, NOT_FOUND, Command, Outcome, Runner, Unsuitable
from redset.cli.escapes import escaped
from redset.cli.exits import BROKEN_PIPE, DATA, TRY_LATER, Failure
from redset.cli.options import Options
from redset.cli.printing import JobLog, Printer, ReaderGone
from redset.cli.progress import Bar, progress_bar
from redset.cli.writing import say
from redset.core import registry
from redset.core.clients import is_failure, is_outage
from redset.core.items import Key
from redset.core.parameters import exponential_backoff
from redset.core.registry import SetInfo
from redset.exceptions import LeaseLost

__all__ = ("Worker", "work_off")

#: The exit codes of xargs: an item has failed; a command exited with 255; a command was killed by a signal.
FAILED = 123
STOPPED = 124
KILLED = 125
#: With this exit code a command has xargs stop.
STOP = 255
#: The stronger of two exit codes comes later.
_STRENGTH = (0, FAILED, KILLED, STOPPED, CANNOT_RUN, NOT_FOUND)

#: Files that are open in any case, and those of each command: temporary ones, a pidfd, and while it starts a pipe.
_FILES = 64
_FILES_OF_A_COMMAND = 6

#: Seconds between two looks whether the set is done, at first and at most; and between two updates of the bar.
_FIRST_LOOK = 0.05
_LAST_LOOK = 0.5
_TICK = 0.25


async def work_off(options: Options) -> int:
    """Run the command for each item of the set, and return the exit code."""
    _make_room_for_files(options.jobs)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_children_without_threads())
        joblog = None if options.joblog is None else stack.enter_context(contextlib.closing(JobLog(options.joblog)))
        bar = stack.enter_context(progress_bar("Working", by_itself=False))
        client = await redset.aio.connect(options.url)
        try:
            return await Worker(client, options, joblog, bar).run()
        finally:
            await client.aclose()


def _make_room_for_files(jobs: int) -> None:
    """Raise the limit of open files to what so many commands need.

    :raises Failure: the user may not have so many.
    """
    import resource  # not on Windows, where this module can be imported all the same

    needed = _FILES + _FILES_OF_A_COMMAND * jobs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise Failure(f"-j {jobs} needs {needed:,} open files, and the limit is {hard:,} (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextlib.contextmanager
def _children_without_threads() -> Iterator[None]:
    """Have asyncio use pidfds where it can, as it does by itself from Python 3.12 on: a thread for each costs more."""
    if sys.version_info >= (3, 12) or not hasattr(os, "pidfd_open"):
        yield
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    # Old kernels, and some sandboxes, do not have them.
    with contextlib.suppress(OSError):
        os.close(os.pidfd_open(os.getpid()))
        asyncio.set_child_watcher(watcher)
    try:
        yield
    finally:
        asyncio.set_child_watcher(None)  # type: ignore[arg-type] # the default again


class Worker:
    """The state of one ``redset work``."""

    def __init__(self, client: Any, options: Options, joblog: JobLog | None, bar: Bar) -> None:
        self._options = options
        self._set = _opened(client, options)
        self._joblog = joblog
        self._bar = bar
        self._printer = Printer(bar)
        #: Claim nothing more; kill the running commands.
        self._stop = asyncio.Event()
        self._abort = asyncio.Event()
        self._command = Command(options.words, options.shell, options.stdin)
        self._runner = Runner(self._command, options.timeout, options.grace, self._abort)
        self._running = 0
        self._number = 0
        self._done = 0
        self._failed = 0
        #: The exit codes of items that have failed and were not done since.
        self._failing: dict[bytes, int] = {}
        #: An exit code that no later success takes back.
        self._code = 0
        self._signal = 0

    async def run(self) -> int:
        """Work until there is nothing left, or until told to stop. Return the exit code."""
        with self._signals():
            slots = [asyncio.create_task(self._work()) for _ in range(self._options.jobs)]
            others = [asyncio.create_task(self._draw())]
            if not self._options.forever:
                others.append(asyncio.create_task(self._look_for_the_end()))
            try:
                await self._all_of(slots, others)
            except ReaderGone:
                return BROKEN_PIPE
            finally:
                for task in others:
                    task.cancel()
                await asyncio.wait(others)
                self._printer.close()
            return await self._exit_code()

    async def _all_of(self, slots: "list[asyncio.Task[None]]", others: "list[asyncio.Task[None]]") -> None:
        """Wait for the slots. After an error, kill the running commands, requeue their items, and raise the error."""
        pending = {*slots, *others}
        while pending & set(slots):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            errors = [task.exception() for task in done]
            if any(error is not None for error in errors):
                self._stop.set()
                self._abort.set()
        for task in slots:
            task.result()
        for task in others:
            if task.done():
                task.result()

    async def _work(self) -> None:
        """Run the command for one item after the other."""
        async with self._set.consume(lease=self._options.lease, stop=self._stop) as loop:
            async for reservation in loop:
                self._running += 1
                try:
                    await self._handle(reservation)
                finally:
                    self._running -= 1

    async def _handle(self, reservation: Any) -> None:
        """Run the command for an item and end its lease. One that is not ended here is acked by the loop."""
        item: bytes = reservation.item
        try:
            async with reservation.keep_alive():
                outcome = await self._run(item, reservation)
        except LeaseLost:
            say(f"the lease of {escaped(item)} was lost, and its command was killed")
            return
        except Unsuitable as error:
            reason = str(error)
            say(f"{escaped(item[:80])}: {reason}")
            self._note_failure(item, FAILED)
            await self._end(item, lambda: reservation.bury(reason))
            self._halt_if_due()
            return
        except BaseException:
            # Its output or its row in the job log is lost, so the item is not done.
            await self._end(item, reservation.again)
            raise
        await self._conclude(item, reservation, outcome)

    async def _run(self, item: bytes, reservation: Any) -> Outcome:
        """Run the command, print its output and log it."""
        self._number += 1
        number = self._number
        own = {
            b"REDSET_ATTEMPT": b"%d" % reservation.attempt,
            b"REDSET_TOKEN": b"%d" % reservation.token,
        }
        if self._options.url is not None:
            own[b"REDSET_URL"] = os.fsencode(self._options.url)
        tag = escaped(item).encode() + b"\t" if self._options.tag else b""

        async def print_lines(stream: int, lines: bytes) -> None:
            await self._printer.print_lines(stream, lines, tag)

        outcome = await self._runner.run(item, own, print_lines if self._options.line_buffer else None)
        try:
            # The output of a command that will run again would come twice.
            if not outcome.aborted:
                outcome.aborted = not await self._is_printed(outcome, tag)
            if not outcome.aborted and self._joblog is not None:
                self._joblog.note(number, outcome, self._command, self._command.arguments(item))
        finally:
            outcome.close()
        return outcome

    async def _is_printed(self, outcome: Outcome, tag: bytes) -> bool:
        """Print the output of a command. Return False if told to end meanwhile: the reader may never read on."""
        printed = asyncio.ensure_future(self._printer.print_files(outcome, tag))
        aborted = asyncio.ensure_future(self._abort.wait())
        try:
            await asyncio.wait({printed, aborted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            aborted.cancel()
            is_printed = printed.done()
            printed.cancel()
        if is_printed:
            printed.result()
        return is_printed

    async def _conclude(self, item: bytes, reservation: Any, outcome: Outcome) -> None:
        """End the lease as the outcome of the command says, and stop if it says that too."""
        # A command that was killed by the timeout has failed, whatever it exits with.
        code = outcome.code if outcome.timed_out is None else 1
        if outcome.aborted:
            await self._end(item, reservation.again)
        elif code == 0:
            self._done += 1
            self._failing.pop(item, None)
        elif code in (CANNOT_RUN, NOT_FOUND):
            if not self._stop.is_set():
                say(f"cannot run {escaped(self._options.words[0])}: {outcome.trouble or outcome.reason}")
            self._strengthen(code)
            self._stop.set()
            await self._end(item, reservation.again)
        elif code == TRY_LATER:
            delay = exponential_backoff(reservation.attempt)
            await self._end(item, lambda: reservation.again(delay))
        else:
            self._note_failure(item, KILLED if code < 0 else FAILED)
            if code == STOP:
                say(f"the command exited with 255 for {escaped(item)}: no more items are claimed")
                self._strengthen(STOPPED)
                self._stop.set()
            if code == DATA:
                await self._end(item, lambda: reservation.bury(outcome.reason))
            else:
                await self._end(item, lambda: reservation.nack(reason=outcome.reason))
        self._halt_if_due()

    async def _end(self, item: bytes, end: Callable[[], Awaitable[None]]) -> None:
        """End a lease, during an outage until the lease has expired."""
        deadline = time.monotonic() + self._options.lease
        while True:
            try:
                await end()
            except LeaseLost:
                say(f"the lease of {escaped(item)} was lost")
            except Exception as error:
                if not (is_failure(error) and is_outage(error)):
                    raise
                if time.monotonic() < deadline and not self._abort.is_set():
                    await asyncio.sleep(1)
                    continue
                say(f"the server does not answer: {escaped(item)} is requeued when its lease expires")
            return

    def _note_failure(self, item: bytes, code: int) -> None:
        self._failed += 1
        # With --forever the notes would grow without end.
        if not self._options.forever:
            self._failing[item] = code

    def _strengthen(self, code: int) -> None:
        self._code = max(self._code, code, key=_STRENGTH.index)

    def _halt_if_due(self) -> None:
        halt = self._options.halt
        if halt is None or self._stop.is_set() or not halt.is_reached(self._failed, self._done):
            return
        say(f"halted after {self._done:,} done and {self._failed:,} failed")
        self._strengthen(FAILED if halt.what == "fail" else 0)
        self._stop.set()
        if halt.when == "now":
            self._abort.set()

    async def _look_for_the_end(self) -> None:
        """Stop when nothing waits, is delayed or is leased, here or elsewhere."""
        # The shards of a set are not read at one moment: an item may be added to one that was read, by the command of
        # an item of one that was not.
        needed = 2 if "shards" in self._options.about.options else 1
        empty, rest = 0, _FIRST_LOOK
        while empty < needed:
            if self._running < self._options.jobs:
                empty = empty + 1 if await self._is_done() else 0
                rest = min(2 * rest, _LAST_LOOK)
            else:
                empty, rest = 0, _FIRST_LOOK
            if empty < needed:
                await asyncio.sleep(rest)
        self._stop.set()

    async def _is_done(self) -> bool:
        left = await self._left()
        return left == 0

    async def _left(self) -> int | None:
        """Return how many items there are to be done, by all workers; None during an outage."""
        try:
            stats = await self._set.stats()
        except Exception as error:
            if not (is_failure(error) and is_outage(error)):
                raise
            return None
        return int(stats.unfinished)

    async def _draw(self) -> None:
        """Show how far the work is, on a terminal."""
        if self._bar.is_hidden:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(_TICK)
            left = await self._left()
            # A terminal that is stopped must not stop the worker.
            if left is not None and self._printer.busy.acquire(blocking=False):
                try:
                    text = f"{self._done:,} done, {self._failed:,} failed, {left:,} left"
                    self._bar.update(self._done, self._done + left, text)
                finally:
                    self._printer.busy.release()

    async def _exit_code(self) -> int:
        if self._signal and not self._code:
            # With --forever a signal is the usual end. Without it, the signal may have left items undone.
            return 0 if self._options.forever else 128 + self._signal
        for code in (FAILED, KILLED):
            items = [item for item, failed in self._failing.items() if failed == code]
            if await self._any_is_left(items):
                self._strengthen(code)
        return self._code

    async def _any_is_left(self, items: list[bytes]) -> bool:
        """Return whether one of the items was not done by another process meanwhile."""
        if self._options.about.options.get("keyed"):
            return bool(items)
        for item in items:
            if await self._set.state(Key(item)) not in (None, "done"):
                return True
        return False

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals stop the worker, unless they are ignored, as in the background of a script or after nohup."""
        loop = asyncio.get_running_loop()
        numbers = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        for number in numbers:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _signalled(self, number: int) -> None:
        if self._signal:
            say("killing the running commands and requeuing their items")
            self._abort.set()
        elif self._running:
            say(f"finishing {self._running:,} running commands; a second signal kills them and requeues their items")
        self._signal = number
        self._stop.set()


def _opened(client: Any, options: Options) -> Any:
    about = options.about
    added = {} if options.retries is None else {"max_attempts": options.retries}
    return registry.opened(
        client, about.name, SetInfo(about.name, about.kind, {**about.options, **added}), redset.aio.KINDS
    )
