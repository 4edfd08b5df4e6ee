"""``async for`` loops over a ``consume`` that are left early: a task closes them, and the program's end waits for it.

An async generator does not suffice: asyncio closes a dropped one in a task that begins a turn later, and
``asyncio.run`` may have collected the unfinished tasks by then.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

__all__ = ("Close", "Leaving", "Unstoppable")

#: Seconds for which the end of a program waits.
LONGEST = 2.0

#: Closes a loop: returns the task that does it, or None if nothing is left to do.
Close: TypeAlias = Callable[[], "asyncio.Task[Any] | None"]


class Guard:
    """Makes the end of one event loop wait until all loops that were left are closed."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        #: The loops that have not ended and were not left.
        self.open: WeakSet[Leaving] = WeakSet()
        #: asyncio closes the async generators that have begun after all tasks.
        self._generator = self._wait()
        with contextlib.suppress(StopIteration):
            self._generator.__anext__().send(None)

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            for one in list(self.open):
                one.leave()
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=LONGEST)


_guards: "WeakKeyDictionary[asyncio.AbstractEventLoop, Guard]" = WeakKeyDictionary()


class Leaving:
    """Belongs to one iterator, and closes its loop when both are dropped."""

    def __init__(self, close: Close) -> None:
        self._close: Close | None = close
        self._loop = asyncio.get_running_loop()
        self._guard = _guards.get(self._loop) or _guards.setdefault(self._loop, Guard())
        self._guard.open.add(self)

    def leave(self) -> None:
        """Close the loop in a task."""
        close, self._close = self._close, None
        if close is None:
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            _start(close, self._guard)
        else:
            # The garbage collector may run in any thread. On a closed loop, do nothing.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_start, close, self._guard)

    def __del__(self) -> None:
        self.leave()


def _start(close: Close, guard: Guard) -> None:
    task = close()
    if task is not None and not task.done():
        guard.tasks.add(task)
        task.add_done_callback(guard.tasks.discard)


class Unstoppable(Coroutine[Any, Any, Any]):
    """A coroutine that begins even if its task is cancelled before."""

    __slots__ = ("_begun", "_work")

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._begun = False

    def send(self, value: Any) -> Any:
        self._begun = True
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        if not self._begun:
            return self.send(None)
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()
