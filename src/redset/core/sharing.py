"""Calls of many tasks in one round trip: in asyncio, what begins while its like is under way gathers behind it.

The first call of a kind goes out at once, by itself. Those that come meanwhile stand in its :class:`Line`, and go out
together as one :class:`Joint` when it is back, or as soon as they fill a whole call. A task of its own carries a joint
call, so whoever takes part may go away. docs/protocol.md tells what becomes then of what was handed out for it.
"""

import asyncio
import copy
import weakref
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, Protocol

from redset.core.callers import Caller
from redset.core.operations import CHUNK, Operation, Shared, Unanswered

__all__ = ("Call", "Gathering", "Joint", "Line")


class Carrier(Protocol):
    """Who does for a joint call what needs a server; see :class:`redset.core.drivers.AsyncDriver`."""

    async def carry(self, joint: "Joint") -> None:
        """Sends it, and has it deal out what comes of it."""

    def put_back(
        self, operation: Operation[Any], caller: Caller, positions: Sequence[int]
    ) -> Coroutine[Any, Any, None]:
        """Has ``caller`` owe that these rows of its hand-out are put back, and returns what does it."""

    def accept(self, caller: Caller) -> None:
        """All that this caller was handed was received."""


class Call:
    """One task's operation, which goes out as a part of a joint one."""

    __slots__ = ("answer", "dealt", "error", "joint", "operation", "rows", "size")

    def __init__(self, operation: Operation[Any], size: int, answer: "asyncio.Future[None]") -> None:
        self.operation = operation
        #: How many items it moves.
        self.size = size
        #: Done when the joint call is, cancelled when nobody waits for it.
        self.answer = answer
        #: What it goes out with, when it does.
        self.joint: Joint | None = None
        #: Its part of the reply, and the rows that were handed out for it.
        self.dealt: Any = None
        self.rows: Sequence[int] = ()
        #: What went wrong, for as long as it has not been raised: by then the joint call may be under way again.
        self.error: BaseException | None = None

    def reply(self) -> Any:
        """Its part of the reply; when the joint call failed, an error of its own is raised."""
        error = self.error
        if error is not None:
            self.error = None
            raise _one_more(error) from error.__cause__
        if self.operation.unanswered:
            self.operation.unanswered.call = None
        return self.dealt

    def repeat(self) -> None:
        """Has the joint call go out again, as a whole, unless it is under way or its outcome is known."""
        assert self.joint is not None
        self.answer = asyncio.get_running_loop().create_future()
        if self.joint.is_dealt:
            self.wake()
        else:
            self.joint.repeat()

    @property
    def is_awaited(self) -> bool:
        return not self.answer.done()

    def wake(self, error: BaseException | None = None) -> None:
        if not self.answer.done():
            self.error = error
            self.answer.set_result(None)

    def leave(self) -> None:
        """Nobody waits for it any more: what was handed out for it, or will be, was not received."""
        if not self.answer.done():
            self.answer.cancel()
        elif self.joint is not None and self.rows and not self.answer.cancelled():
            self.joint.decide(self.rows)

    def receive(self) -> None:
        """What was handed out for it has reached its taker."""
        if self.joint is not None and self.rows:
            self.joint.decide()


class Joint:
    """Calls that go out as one."""

    __slots__ = (
        "_caller",
        "_calls",
        "_carrier",
        "_gathering",
        "_shared",
        "_tries",
        "_undecided",
        "_unreceived",
        "concluded",
        "error",
        "is_dealt",
        "operation",
    )

    def __init__(self, calls: list[Call], gathering: "Gathering", carrier: Carrier) -> None:
        self._calls = calls
        self._gathering = gathering
        self._carrier = carrier
        self.is_dealt = False
        self.error: BaseException | None = None
        self._tries = 1
        #: Who was handed something, if there was something.
        self._caller: Caller | None = None
        #: How many parts of it may still be received or not; the rows of those that were not.
        self._undecided = 0
        self._unreceived: list[int] = []
        #: Done when all that was handed out has been received or put back.
        self.concluded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        first = calls[0].operation
        shared, sizes = first.shared, [call.size for call in calls]
        assert shared is not None
        self._shared = shared
        unanswered: Unanswered | None = None
        for call in calls:
            call.joint = self
            if call.operation.unanswered:
                call.operation.unanswered.call = call
                unanswered = unanswered or Unanswered()
        self.operation: Operation[Sequence[Any]] = Operation(
            first.verb,
            first.keys,
            shared.join([call.operation.args for call in calls]),
            lambda reply: shared.deal(reply, sizes),
            first.recorded,
            first.settle,
            unanswered,
        )

    @property
    def is_awaited(self) -> bool:
        return any(call.is_awaited for call in self._calls)

    def repeat(self) -> None:
        if self.error is not None or self.concluded.get_loop() is not asyncio.get_running_loop():
            self.error = None
            self._tries = this = self._tries + 1
            self._gathering.run(self._carrier.carry(self), lambda: self._end_unknown(this))

    def deal(self, replies: Sequence[Any], caller: Caller | None) -> None:
        """Deals out the replies; ``caller`` is who was handed something."""
        self.is_dealt = True
        for call, reply in zip(self._calls, replies, strict=True):
            call.dealt = reply
        if caller is not None:
            self._caller = caller
            self._deal_rows()
        self._wake()
        # Calls and joint call would keep each other alive until the garbage collector comes.
        self._calls = []
        if not self._undecided:
            self._conclude()

    def _deal_rows(self) -> None:
        start, count_rows = 0, self._shared.rows
        for call in self._calls:
            if count := count_rows(call.dealt):
                call.rows = range(start, start + count)
                start += count
                if call.answer.done():
                    self._unreceived += call.rows
                else:
                    self._undecided += 1

    def _end_unknown(self, tries: int) -> None:
        """Fails when a try has ended without a reply or an error: its task was cancelled before it began."""
        if tries == self._tries and self.error is None and not self.is_dealt:
            self.fail(asyncio.CancelledError())

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._wake()
        self._end()

    def _wake(self) -> None:
        for call in self._calls:
            call.wake(self.error)
        if len(self._calls) > 1:
            self._gathering.expect_a_crowd()

    def decide(self, unreceived: Sequence[int] = ()) -> None:
        """Notes what became of one part; what was not received goes back when this is known of all, by one call."""
        self._unreceived += unreceived
        self._undecided -= 1
        if not self._undecided:
            self._conclude()

    def _conclude(self) -> None:
        if self._unreceived:
            assert self._caller is not None
            self._gathering.run(self._carrier.put_back(self.operation, self._caller, self._unreceived), self._end)
            return
        if self._caller is not None:
            self._carrier.accept(self._caller)
        self._end()

    def _end(self) -> None:
        if not self.concluded.done():
            self.concluded.set_result(None)


class Line:
    """The calls of one kind on one set in one event loop: how many are under way, and those that gather behind them."""

    __slots__ = ("_carrier", "_gathered", "_gathering", "_kind", "_size", "_starts", "_under_way")

    def __init__(self, kind: Hashable, gathering: "Gathering", carrier: Carrier) -> None:
        self._kind = kind
        self._gathering = gathering
        self._carrier = carrier
        self._gathered: list[Call] = []
        #: How many items all those move.
        self._size = 0
        self._under_way = 0
        self._starts = False

    def go_alone(self) -> None:
        self._under_way = 1

    def gather(self, call: Call) -> None:
        self._gathered.append(call)
        self._size += call.size
        if self._size >= CHUNK:
            self._start()
        elif not (self._under_way or self._starts):
            self._start_soon()

    def leave(self) -> None:
        """A call is back."""
        self._under_way -= 1
        if not self._under_way:
            self._start_soon()

    def _start_soon(self) -> None:
        """Not at once: those who have just been answered may ask the next thing in this turn of the event loop."""
        if not self._gathered:
            self._gathering.lines.pop(self._kind, None)
        elif not self._starts:
            self._starts = True
            self._gathering.soon(self._start)

    def _start(self) -> None:
        self._starts = False
        while self._size >= CHUNK or (self._gathered and not self._under_way):
            if calls := self._next():
                self._under_way += 1
                self._carry(calls)
        if not self._under_way:
            self._start_soon()

    def _carry(self, calls: list[Call]) -> None:
        self._gathering.run(self._carry_on(calls), lambda: self._leave_but(calls))

    async def _carry_on(self, calls: list[Call]) -> None:
        """Has calls made as one, and then those that have gathered by then, as long as there are any."""
        while calls:
            await self._carrier.carry(Joint(calls, self._gathering, self._carrier))
            # Those who have just been answered may ask the next thing in this turn of the event loop.
            await asyncio.sleep(0)
            calls = self._next() if self._under_way == 1 else []

    def _leave_but(self, calls: list[Call]) -> None:
        if left := [call for call in calls if call.joint is None and call.is_awaited]:
            self._carry(left)
        else:
            self.leave()

    def _next(self) -> list[Call]:
        """The first of those that have gathered and are waited for: as many as one call can take."""
        calls: list[Call] = []
        room, taken = CHUNK, 0
        for call in self._gathered:
            if calls and call.size > room:
                break
            taken += 1
            if not call.answer.done():
                calls.append(call)
                room -= call.size
        del self._gathered[:taken]
        self._size = sum(call.size for call in self._gathered)
        return calls


class Gathering:
    """The lines of one set in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self.lines: dict[Hashable, Line] = {}
        #: Whether several tasks have just been answered: what the first of them asks next, the others may ask as well.
        self.crowded = False
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(
        self, operation: Operation[Any], shared: Shared, carrier: Carrier, loop: asyncio.AbstractEventLoop
    ) -> Call | Line | None:
        """The place of an operation among others; else it goes out alone, and then leaves the line, if it gets one."""
        size = shared.size(operation.args)
        if size >= CHUNK:
            return None
        kind = shared.kind(operation)
        line = self.lines.get(kind)
        if line is None:
            line = self.lines[kind] = Line(kind, self, carrier)
            if not self.crowded:
                line.go_alone()
                return line
        call = Call(operation, size, loop.create_future())
        line.gather(call)
        return call

    def run(self, work: Coroutine[Any, Any, None], then: Callable[[], None]) -> None:
        """Has a task do what nobody in particular waits for. One that is cancelled at once has not even begun."""
        task = asyncio.get_running_loop().create_task(work, name="redset")
        self._tasks.add(task)

        def done(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            then()

        task.add_done_callback(done)

    def soon(self, do: Callable[[], None]) -> None:
        """When all who are to be woken now have gone on."""
        loop = self.loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon(do)

    def expect_a_crowd(self) -> None:
        self.crowded = True
        self.soon(self._calm_down)

    def _calm_down(self) -> None:
        self.crowded = False


def _one_more(error: BaseException) -> BaseException:
    """The same error for one more task, since raising one changes it."""
    try:
        another = copy.copy(error)
    except Exception:
        return error
    return another.with_traceback(error.__traceback__) if type(another) is type(error) else error
