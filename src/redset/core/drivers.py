"""Running operations on a client: blocking and awaited. The only module of the core that talks to a server.

What is said in which order, what an error means and what becomes of a call that is broken off stands once: in
generators that yield requests and are sent replies. Each driver only carries these back and forth.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from redset.core.callers import Caller, Callers, Turns
from redset.core.clients import AS_STORED, drop_idle_connections, explained, script_is_unknown, timed_out
from redset.core.operations import Elsewhere, Listen, Operation, Page, Plan, Sleep
from redset.core.scripts import Script

__all__ = ("AsyncDriver", "Driver")

T = TypeVar("T")
R = TypeVar("R")

#: The words of one command, a rest, or what somebody else does.
Request: TypeAlias = tuple[bytes | str, ...] | Sleep | Listen | Elsewhere
#: Yields requests, is sent the replies or thrown the errors, and returns the result.
Talk: TypeAlias = Generator[Request, Any, R]

#: How long, in seconds, a task that was cancelled stays to put back what its call was handed.
SETTLING = 1.0
#: How often, in seconds, whoever stands in line looks whether it should stop.
STOP_CHECK = 0.2


class Driver:
    """Runs the operations of one set on a blocking client."""

    awaits = False

    __slots__ = ("_callers", "_client", "_execute", "_name")

    def __init__(self, client: Any, name: str, callers: Callers) -> None:
        self._client = client
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name
        self._callers = callers

    def perform(self, operation: Operation[R]) -> R:
        """Performs one operation and returns what was read from its reply."""
        return self._hold(_talk_about(operation, self._name, self._callers, []))

    def follow(self, plan: Plan[R]) -> R:
        """Performs what ``plan`` yields, one after the other, and returns what it returns."""
        return self._hold(_talk_through(plan, self._name, self._callers))

    def iterate(self, page: Operation[Page[T]]) -> Iterator[T]:
        """Yields the items of ``page`` and of those behind it; reads a page when the one before it is used up."""
        behind: Operation[Page[T]] | None = page
        while behind:
            read: Page[T] = self.perform(behind)
            yield from read.items
            behind = read.behind

    def _hold(self, talk: Talk[R]) -> R:
        try:
            request = next(talk)
            while True:
                try:
                    reply = self._carry_out(request)
                except Exception as error:
                    request = talk.throw(error)
                except BaseException as error:
                    # An interrupt between sending and reading leaves a reply behind that would be taken for the next.
                    drop_idle_connections(self._client)
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result

    def _carry_out(self, request: Request) -> Any:
        if isinstance(request, tuple):
            return self._execute(*request, **AS_STORED)
        if isinstance(request, Listen):
            return self._execute(*request.command())
        if isinstance(request, Elsewhere):
            return request.do()
        time.sleep(request.seconds)
        return None


class AsyncDriver:
    """Runs the operations of one set on an asyncio client; see :class:`Driver`."""

    awaits = True

    __slots__ = ("_callers", "_execute", "_name")

    def __init__(self, client: Any, name: str, callers: Callers) -> None:
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name
        self._callers = callers

    async def perform(self, operation: Operation[R]) -> R:
        return await self._hold(_talk_about(operation, self._name, self._callers, []))

    async def follow(self, plan: Plan[R]) -> R:
        return await self._hold(_talk_through(plan, self._name, self._callers))

    async def iterate(self, page: Operation[Page[T]]) -> AsyncIterator[T]:
        behind: Operation[Page[T]] | None = page
        while behind:
            read: Page[T] = await self.perform(behind)
            for item in read.items:
                yield item
            behind = read.behind

    async def _hold(self, talk: Talk[R]) -> R:
        turn = _Turn(self._callers.turns)
        cancellations = _cancellations()
        patience: float | None = None
        try:
            request = next(talk)
            while True:
                error: BaseException | None = None
                try:
                    reply = await self._carry_out_within(patience, request, turn)
                except BaseException as raised:
                    error = raised
                if _cancellations() > cancellations:
                    # Python before 3.12 can swallow a cancellation that comes while a reply does.
                    cancellations = _cancellations()
                    error = error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError()
                if error is None:
                    request = talk.send(reply)
                    continue
                if not isinstance(error, Exception):
                    patience = SETTLING
                request = talk.throw(error)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            turn.end()

    async def _carry_out_within(self, patience: float | None, request: Request, turn: "_Turn") -> Any:
        if patience is None:
            return await self._carry_out(request, turn)
        async with asyncio.timeout(patience):
            return await self._carry_out(request, turn)

    async def _carry_out(self, request: Request, turn: "_Turn") -> Any:
        if isinstance(request, tuple):
            return await self._execute(*request, **AS_STORED)
        if isinstance(request, Listen) and await turn.is_ours(request.patience, request.should_stop):
            return await self._execute(*request.command())
        if isinstance(request, Elsewhere):
            return await request.do()
        if isinstance(request, Sleep):
            await asyncio.sleep(request.seconds)
        return None


def _cancellations() -> int:
    """How often somebody has asked for the end of this task."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


class _Turn:
    """The right to listen for all who wait for the same set in this event loop, so that one connection is enough.

    Whoever has it keeps it until its own wait is over; the next in line then looks at once, and listens on.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._lock: asyncio.Lock | None = None

    async def is_ours(self, patience: float | None, should_stop: Callable[[], bool]) -> bool:
        """Whether to listen now. Stands in line for it, unless it is ours, for ``patience`` seconds at most."""
        if self._lock:
            return True
        lock = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        nobody_listens = not lock.locked()
        ends_at = math.inf if patience is None else time.monotonic() + patience
        while self._lock is None:
            try:
                async with asyncio.timeout(min(STOP_CHECK, ends_at - time.monotonic())):
                    await lock.acquire()
                    self._lock = lock
            except TimeoutError:
                if should_stop() or time.monotonic() >= ends_at:
                    return False
        return nobody_listens

    def end(self) -> None:
        if self._lock:
            self._lock.release()


def _talk_about(operation: Operation[R], name: str, callers: Callers, handed: list[Caller]) -> Talk[R]:
    """One operation. One that changes something is numbered, so that it may arrive twice, or is 0.

    A caller that was handed something, or may have been, is added to ``handed``, for whoever asked to say whether that
    was received.
    """
    if not operation.recorded:
        return operation.read((yield from _exchange(operation, _request(operation), name)))
    if not callers.recording:
        request = _request(operation, operation.keys[:1], NO_NUMBERS)
        return operation.read((yield from _exchange(operation, request, name)))
    hands_out, unanswered = operation.settle is not None, operation.unanswered
    if operation.settle and callers.owe_several:
        yield from _settle_all_but_one(operation.settle, name, callers)
    asked_before = unanswered.caller if unanswered else None
    # What was asked before and never answered is asked again, not a new question.
    caller = asked_before or callers.lend(hands_out=hands_out)
    try:
        caller.number += not asked_before
        request = _request(operation, (caller.key,), _numbers(caller))
        result = operation.read((yield from _exchange(operation, request, name)))
        if hands_out and result:
            handed.append(caller)
            return result
    except BaseException as error:
        _leave_unseen(operation, caller, callers, handed, error)
        raise
    if unanswered:
        unanswered.caller = None
    # After a fork another process may ask the same again: a caller that was asked twice makes no further call.
    if not asked_before:
        callers.accept([caller])
    return result


def _leave_unseen(
    operation: Operation[Any], caller: Caller, callers: Callers, handed: list[Caller], error: BaseException
) -> None:
    """Who has to do with a call that ended in an error, so that nobody knows what it did."""
    if operation.unanswered:
        operation.unanswered.caller = caller
    elif operation.settle is None:
        callers.leave_unseen(caller)
    elif isinstance(error, Exception):
        callers.leave_unsettled([caller])
    elif caller not in handed:
        handed.append(caller)


#: The numbers of a call of nobody.
NO_NUMBERS = ("0", "0")


def _numbers(caller: Caller) -> tuple[str, str]:
    return f"{caller.number:016}", f"{caller.seen:016}"


def _request(operation: Operation[Any], key: Sequence[bytes] = (), numbers: Sequence[str] = ()) -> Request:
    """What to send: of a script its digest, and with the key of a record and the numbers of a call in front."""
    verb, keys, args = operation.verb, operation.keys, operation.args
    if isinstance(verb, Script):
        return ("EVALSHA", verb.sha, str(len(key) + len(keys)), *key, *keys, *numbers, *args)
    return (verb, *keys, *args)


def _exchange(operation: Operation[Any], request: Request, name: str) -> Talk[Any]:
    """Sends a request, and once more with the whole script where the server does not know it; returns the reply.

    Not SCRIPT LOAD and the digest again: the server can lose the script in between.
    """
    try:
        try:
            return (yield request)
        except Exception as error:
            if not isinstance(operation.verb, Script) or not isinstance(request, tuple) or not script_is_unknown(error):
                raise
            return (yield ("EVAL", operation.verb.body, *request[2:]))
    except Exception as error:
        meaning = explained(error, name, operation.keys)
        if meaning is None:
            raise
        raise meaning from error


def _talk_through(plan: Plan[R], name: str, callers: Callers) -> Talk[R]:
    """The steps that a plan yields; what goes wrong with one is thrown into the plan.

    What the plan was handed counts as received when it is through, and is put back when it is broken off.
    """
    handed: list[Caller] = []
    settle: Callable[[], Operation[Any]] | None = None
    accept = callers.accept
    try:
        try:
            step = next(plan)
            while True:
                try:
                    read: Any = None
                    if isinstance(step, Operation):
                        settle = step.settle or settle
                        read = yield from _talk_about(step, name, callers, handed)
                    else:
                        read = yield from _step_aside(step)
                except BaseException as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(read)
        except StopIteration as end:
            result: R = end.value
            # An interrupt from here on until the taker has the result cannot be told from one after that.
            received, handed = handed, []
            accept(received)
            return result
    except BaseException as error:
        if isinstance(error, Exception):
            accept(handed)
        elif isinstance(error, GeneratorExit):
            callers.leave_unsettled(handed)
        elif settle:
            yield from _settle(handed, settle, name, callers)
        raise


def _settle_all_but_one(settle: Callable[[], Operation[Any]], name: str, callers: Callers) -> Talk[None]:
    """Puts back all that nobody saw before more is handed out; the hand-out itself does it for the last of them."""
    while callers.owe_several and (caller := callers.unsettled()):
        yield from _settle([caller], settle, name, callers)


def _settle(handed: list[Caller], settle: Callable[[], Operation[Any]], name: str, callers: Callers) -> Talk[None]:
    """Puts back what was handed to somebody who was interrupted. What cannot be now is left to the next hand-out."""
    while handed:
        caller = handed.pop()
        caller.number += 1
        operation = settle()
        try:
            yield from _exchange(operation, _request(operation, (caller.key,), _numbers(caller)), name)
        except BaseException:
            # Whatever this was, the interruption that is under way says more.
            callers.leave_unsettled([caller, *handed])
            return
        callers.accept([caller])


def _step_aside(step: Sleep | Listen | Elsewhere) -> Talk[Any]:
    """Waits, or has somebody else do something. A socket that times out while it listens heard nothing, no error."""
    if isinstance(step, Elsewhere):
        return (yield step)
    try:
        yield step
    except Exception as error:
        if not timed_out(error):
            raise
    return None
