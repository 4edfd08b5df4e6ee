"""Coalesced calls: on asyncio, operations of one kind that begin while one is under way are sent together.

The first operation of a kind is sent at once, by itself. Those that begin meanwhile queue in its :class:`Line` and are
sent as one :class:`Group` when its reply has arrived, or when they fill a whole call. A task of its own carries a
group, so each task that has a part in it may be cancelled. docs/protocol.md says what happens to the rows claimed for
that part.
"""

import asyncio
import copy
import weakref
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, Protocol, TypeVar

from redset.core.calls import Call, State, takes_much
from redset.core.leaving import Unstoppable
from redset.core.operations import CHUNK, Operation, Shape, Unfinished
from redset.core.parts import Way, way_of
from redset.core.retries import tries_once

T = TypeVar("T")

#: The number of lines above which idle ones are dropped: each length of a lease is a kind of its own.
MOST_LINES = 32

__all__ = ("Gathering", "Group", "Line", "Part")


class Carrier(Protocol):
    """Sends groups; see :class:`redset.core.drivers.AsyncDriver`."""

    async def carry(self, group: "Group") -> None:
        """Send a group, and deal out its reply or its error."""

    def roll_back(self, call: Call) -> Coroutine[Any, Any, None]:
        """Roll back the rows of a claim that were not received; if that fails, the call becomes a debt."""

    def received(self, call: Call) -> None:
        """Note that all rows of a claim were received."""


class Part:
    """The operation of one task, as a part of a group."""

    __slots__ = ("answer", "error", "group", "head", "operation", "reply", "rows", "size")

    def __init__(self, operation: Operation[Any], size: int, answer: "asyncio.Future[None]") -> None:
        self.operation = operation
        #: The number of items that it moves.
        self.size = size
        #: Done when the group is answered; cancelled when the task is.
        self.answer = answer
        self.group: Group | None = None
        #: Its part of the reply, and the positions of the rows that were claimed for it.
        self.reply: Any = None
        self.rows: Sequence[int] = ()
        #: The head of a claim's reply, which reading the reply removes.
        self.head: Any = None
        self.error: BaseException | None = None

    def read(self) -> Any:
        """Return what its operation reads from its part of the reply, or raise a copy of the group's error."""
        error = self.error
        if error is not None:
            self.error = None
            raise _copy_of(error)
        return self.operation.read(self.reply)

    @property
    def is_awaited(self) -> bool:
        return not self.answer.done()

    def wake(self, error: BaseException | None = None) -> None:
        if not self.answer.done():
            self.error = error
            self.answer.set_result(None)

    def leave(self) -> None:
        """Note that its task was cancelled: rows claimed for it, before or later, are not received."""
        if not self.answer.done():
            self.answer.cancel()
        if self.reply is None:
            return
        if self.operation.on_roll_back is not None:
            self.operation.on_roll_back(b" ".join(self.head) if isinstance(self.head, list) else self.head)
        if self.rows:
            assert self.group is not None
            rows, self.rows = self.rows, ()
            self.group.decide(rows)

    async def concluded(self) -> None:
        """Wait for the outcome of its group, and for the roll-back of its rows."""
        if self.group is not None and (concluded := self.group.wait()) is not None:
            await asyncio.wait({concluded})

    def receive(self) -> None:
        """Note that the task received the rows claimed for it."""
        if self.group is not None and self.rows:
            self.rows = ()
            self.group.decide()


class ClaimOfParts:
    """The reply to a claim of several parts; false if it has no rows."""

    __slots__ = ("reply", "rows")

    def __init__(self, reply: Any, rows: int) -> None:
        self.reply = reply
        self.rows = rows

    def __bool__(self) -> bool:
        return self.rows > 0

    @property
    def is_large(self) -> bool:
        """Whether its record is emptied once it is received."""
        rows = self.reply[:-1]
        values = rows.pop() if isinstance(rows[-1], list) else ()
        return takes_much(rows, values)


def _as_it_is(reply: Any) -> Any:
    return reply


class Group:
    """Operations that are sent as one call."""

    __slots__ = (
        "_answered",
        "_carrier",
        "_gathering",
        "_is_claim",
        "_open_parts",
        "_to_roll_back",
        "_waiters",
        "_way",
        "call",
        "concluded",
        "error",
        "is_dealt",
        "operation",
        "parts",
    )

    def __init__(self, parts: list[Part], gathering: "Gathering", carrier: Carrier) -> None:
        self.parts = parts
        self._gathering = gathering
        self._carrier = carrier
        self.is_dealt = False
        self.error: BaseException | None = None
        #: Its call, if it claimed rows.
        self.call: Call | None = None
        #: The number of parts that have not decided, and the rows of those that were not received.
        self._open_parts = 0
        self._to_roll_back: list[int] = []
        #: Done when all rows are received or rolled back; created by the first task that waits for it.
        self.concluded: asyncio.Future[None] | None = None

        first = parts[0].operation
        assert first.shape is not None
        self._way: Way = way_of(first.shape)
        self._is_claim = first.roll_back is not None
        #: Done when the group is answered, with its error if it failed; created when a part is sent again.
        self._answered: asyncio.Future[BaseException | None] | None = None
        #: The number of tasks that wait for it.
        self._waiters = 0
        unfinished: Unfinished | None = None
        for part in parts:
            part.group = self
            if part.operation.unfinished is not None and unfinished is None:
                unfinished = Unfinished()
        self.operation: Operation[Any] = Operation(
            first.verb,
            first.keys,
            self._way.join([part.operation.args for part in parts]) if len(parts) > 1 else first.args,
            self._read if self._is_claim else _as_it_is,
            first.recorded,
            first.roll_back,
            unfinished,
            None,
            self._note_roll_back if self._is_claim else None,
        )

    def _read(self, reply: Any) -> "ClaimOfParts":
        return ClaimOfParts(reply, self._way.rows(reply))

    @property
    def is_awaited(self) -> bool:
        return self._waiters > 0 or any(part.is_awaited for part in self.parts)

    def deal(self, reply: Any, call: Call | None) -> None:
        """Deal out the reply to the parts. ``call`` is the claim to receive or roll back, if there is one."""
        self.is_dealt = True
        if isinstance(reply, ClaimOfParts):
            reply = reply.reply
        parts = self.parts
        replies = self._way.deal(reply, parts) if len(parts) > 1 else [reply]
        for part, own in zip(parts, replies, strict=True):
            part.reply = own
            if part.operation.unfinished is not None:
                part.operation.unfinished.reply = own
                part.operation.unfinished.part = None
        self.call = call
        if self._is_claim:
            self._deal_rows()
        self._wake()
        # Else parts and group keep each other alive until the garbage collector runs.
        self.parts = []
        if not self._open_parts:
            self._conclude()

    def _deal_rows(self) -> None:
        start, count_rows = 0, self._way.rows
        for part in self.parts:
            part.head = part.reply[-1]
            if count := count_rows(part.reply):
                part.rows = range(start, start + count)
                start += count
                self._open_parts += 1
        for part in self.parts:
            if not part.is_awaited:
                part.leave()

    def _note_roll_back(self, head: bytes) -> None:
        """Report to each part, after the claim was rolled back as a whole, the outcome of the acks it carried."""
        for part, words in zip(self.parts, self._way.deal_head(head, self.parts), strict=True):
            if part.operation.on_roll_back is not None:
                part.operation.on_roll_back(b" ".join(words))

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._wake()
        self._end()

    async def answer_again(self) -> None:
        """Wait for the reply; send the group again, as the same call, if its outcome is unknown."""
        if self.error is not None:
            self.error = None
            self._gathering.start(self._carrier.carry(self))
        if self._answered is None or self._answered.done():
            self._answered = asyncio.get_running_loop().create_future()
        answered = self._answered
        self._waiters += 1
        try:
            await asyncio.wait({answered})
        finally:
            self._waiters -= 1
        # Another task may have sent it again by now.
        if (error := answered.result()) is not None:
            raise _copy_of(error)

    def _wake(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self.error)
        for part in self.parts:
            part.wake(self.error)
        if len(self.parts) > 1:
            self._gathering.expect_burst()

    def decide(self, to_roll_back: Sequence[int] = ()) -> None:
        """Note whether one part was received. When all have decided, roll back all rows that were not."""
        self._to_roll_back += to_roll_back
        self._open_parts -= 1
        if not self._open_parts and not self.parts:
            self._conclude()

    def _conclude(self) -> None:
        call = self.call
        if call is None or call.state is not State.ANSWERED:
            self._end()
        elif self._to_roll_back:
            call.positions = self._to_roll_back
            self._gathering.run(self._carrier.roll_back(call), self._end)
        else:
            self._carrier.received(call)
            self._end()

    def _end(self) -> None:
        self.call = None
        if self.concluded is not None and not self.concluded.done():
            self.concluded.set_result(None)

    def wait(self) -> "asyncio.Future[None] | None":
        """Return a future that is done when all rows are received or rolled back; None if they are."""
        if (self.is_dealt or self.error is not None) and self.call is None:
            return None
        if self.concluded is None:
            self.concluded = asyncio.get_running_loop().create_future()
        return self.concluded


class Line:
    """The operations of one kind on one set in one event loop: those under way, and the queue behind them."""

    __slots__ = ("_carrier", "_gathering", "_queue", "_size", "_starts", "_tries_once", "_under_way")

    def __init__(self, gathering: "Gathering", carrier: Carrier, *, once: bool) -> None:
        self._gathering = gathering
        self._carrier = carrier
        self._queue: list[Part] = []
        #: The number of items that the queue moves.
        self._size = 0
        self._under_way = 0
        self._starts = False
        #: Whether the client must not retry by itself.
        self._tries_once = once

    def is_idle(self) -> bool:
        return not (self._under_way or self._starts or self._queue)

    def goes_alone(self) -> bool:
        """Return whether a new operation is sent at once by itself, and count it as under way if so."""
        if not self.is_idle():
            return False
        self._under_way = 1
        return True

    def join(self, part: Part) -> None:
        self._queue.append(part)
        self._size += part.size
        if self._size >= CHUNK:
            self._start()
        elif not (self._under_way or self._starts):
            self._start_soon()

    def leave(self) -> None:
        """Note that a call was answered."""
        self._under_way -= 1
        if not self._under_way:
            self._start_soon()

    def _start_soon(self) -> None:
        """Send the queue after this turn of the event loop: tasks that were just answered may join it."""
        if self._queue and not self._starts:
            self._starts = True
            self._gathering.soon(self._start)

    def _start(self) -> None:
        self._starts = False
        while self._size >= CHUNK or (self._queue and not self._under_way):
            if parts := self._next():
                self._under_way += 1
                self._carry(parts)
        if not self._under_way:
            self._start_soon()

    def _carry(self, parts: list[Part]) -> None:
        self._gathering.run(self._carry_on(parts), self.leave)

    async def _carry_on(self, parts: list[Part]) -> None:
        """Send parts as one call, and then those that queued meanwhile, while there are any."""
        # A new task inherits the context of the task that started it, which may be of another line.
        tries_once.set(self._tries_once)
        while parts:
            await self._carrier.carry(Group(parts, self._gathering, self._carrier))
            # Tasks that were just answered may join in this turn of the event loop.
            await asyncio.sleep(0)
            parts = self._next() if self._under_way == 1 else []

    def _next(self) -> list[Part]:
        """Remove from the queue, and return, as many parts as one call can take, without those of cancelled tasks."""
        queue = self._queue
        if self._size <= CHUNK:
            self._queue, self._size = [], 0
            return [part for part in queue if not part.answer.done()]
        parts: list[Part] = []
        room, taken = CHUNK, 0
        for part in queue:
            if parts and part.size > room:
                break
            taken += 1
            if not part.answer.done():
                parts.append(part)
                room -= part.size
        del queue[:taken]
        self._size = sum(part.size for part in queue)
        return parts


class Gathering:
    """The objects that the tasks of one event loop share for one set: the lines and the listener."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self.lines: dict[Hashable, Line] = {}
        #: Whether several tasks were answered in this turn: they may all make their next calls at once.
        self.in_burst = False
        #: The listener for wake-ups of the set; see :mod:`redset.core.waiting`.
        self.listener: Any = None
        #: The timer that begins to empty large records; see :mod:`redset.core.emptying`.
        self.emptying: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def enter(
        self, operation: Operation[Any], shape: Shape, carrier: Carrier, loop: asyncio.AbstractEventLoop
    ) -> Part | Line | None:
        """Return the part of an operation in a group; if it is sent alone, the line that it leaves then, or None."""
        way = way_of(shape)
        size = way.size(operation.args)
        if size >= CHUNK:
            return None
        kind = way.kind(operation), (once := tries_once.get())
        line = self.lines.get(kind)
        if line is None:
            if len(self.lines) >= MOST_LINES:
                self.lines = {kind: line for kind, line in self.lines.items() if not line.is_idle()}
            line = self.lines[kind] = Line(self, carrier, once=once)
        if not self.in_burst and line.goes_alone():
            return line
        part = Part(operation, size, asyncio.Future(loop=loop))
        line.join(part)
        return part

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task for ``work`` and keep a reference to it: event loops have only weak ones.

        When all tasks are cancelled, at the end of a program, one that has not begun still begins.
        """
        task: asyncio.Task[T] = asyncio.get_running_loop().create_task(Unstoppable(work), name="redset")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Else asyncio logs the error of a task whose caller stopped waiting.
            task.exception()

    def run(self, work: Coroutine[Any, Any, None], then: Callable[[], None]) -> "asyncio.Task[None]":
        """Start a task that no other task waits for, and call ``then`` at its end."""
        task = self.start(work)
        task.add_done_callback(lambda _: then())
        return task

    def soon(self, do: Callable[[], None]) -> None:
        """Call ``do`` when all tasks that are due to wake in this turn have run."""
        loop = self.loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon(do)

    def expect_burst(self) -> None:
        self.in_burst = True
        self.soon(self._end_burst)

    def _end_burst(self) -> None:
        self.in_burst = False


def _copy_of(error: BaseException) -> BaseException:
    """Return a copy of the error for another task, since raising an error changes it."""
    try:
        another = copy.copy(error)
    except Exception:
        return error
    return another.with_traceback(error.__traceback__) if type(another) is type(error) else error
