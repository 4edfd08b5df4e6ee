"""Running operations on a client: blocking and awaited. The only module of the core that talks to a server.

What is said in which order, what an error means and what becomes of a call that is broken off stands once: in
generators that yield requests and are sent replies. Each driver only carries these back and forth.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from redset.core.callers import Caller, Callers, Turns
from redset.core.clients import AS_STORED, explained, script_is_unknown, timed_out
from redset.core.operations import Listen, Operation, Page, Plan, Sleep
from redset.core.scripts import Script

__all__ = ("AsyncDriver", "Driver")

T = TypeVar("T")
R = TypeVar("R")

#: The words of one command, or a rest.
Request: TypeAlias = tuple[bytes | str, ...] | Sleep | Listen
#: Yields requests, is sent the replies or thrown the errors, and returns the result.
Talk: TypeAlias = Generator[Request, Any, R]

#: How long, in seconds, a task that was cancelled stays to put back what its call was handed.
SETTLING = 1.0


class Driver:
    """Runs the operations of one set on a blocking client."""

    __slots__ = ("_callers", "_execute", "_name")

    def __init__(self, client: Any, name: str, callers: Callers, *, retry_safe: bool) -> None:
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name
        self._callers = callers if retry_safe else None

    def perform(self, operation: Operation[R]) -> R:
        """Performs one operation and returns what was read from its reply."""
        return self._hold(_talk_about(operation, self._name, self._callers))

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
                except BaseException as error:
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
        time.sleep(request.seconds)
        return None


class AsyncDriver:
    """Runs the operations of one set on an asyncio client; see :class:`Driver`."""

    __slots__ = ("_callers", "_execute", "_name", "_turns")

    def __init__(self, client: Any, name: str, callers: Callers, *, retry_safe: bool) -> None:
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name
        self._callers = callers if retry_safe else None
        self._turns = callers.turns

    async def perform(self, operation: Operation[R]) -> R:
        return await self._hold(_talk_about(operation, self._name, self._callers))

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
        turn = _Turn(self._turns)
        patience: float | None = None
        try:
            request = next(talk)
            while True:
                try:
                    if patience is None:
                        reply = await self._carry_out(request, turn)
                    else:
                        async with asyncio.timeout(patience):
                            reply = await self._carry_out(request, turn)
                except BaseException as error:
                    if not isinstance(error, Exception):
                        patience = SETTLING
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            turn.end()

    async def _carry_out(self, request: Request, turn: "_Turn") -> Any:
        if isinstance(request, tuple):
            return await self._execute(*request, **AS_STORED)
        if isinstance(request, Listen) and await turn.is_ours(request.patience):
            return await self._execute(*request.command())
        if isinstance(request, Sleep):
            await asyncio.sleep(request.seconds)
        return None


class _Turn:
    """The right to listen for all who wait for the same set in this event loop, so that one connection is enough.

    Whoever has it keeps it until its own wait is over; the next in line then looks at once, and listens on.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._lock: asyncio.Lock | None = None

    async def is_ours(self, patience: float | None) -> bool:
        """Whether it was ours already. If not, stands in line for it until ``patience`` seconds have passed."""
        if self._lock:
            return True
        lock = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        nobody_listens = not lock.locked()
        try:
            async with asyncio.timeout(patience):
                await lock.acquire()
        except TimeoutError:
            return False
        self._lock = lock
        return nobody_listens

    def end(self) -> None:
        if self._lock:
            self._lock.release()


def _talk_about(operation: Operation[R], name: str, callers: Callers | None) -> Talk[R]:
    """One operation. One that changes something is numbered, so that it may arrive twice; without callers it is 0."""
    try:
        if not operation.recorded:
            return operation.read((yield from _send(operation, operation.keys, operation.args)))
        if callers is None:
            return operation.read((yield from _send(operation, operation.keys, ("0", "0", *operation.args))))
        return (yield from _talk_numbered(operation, callers))
    except Exception as error:
        meaning = explained(error, name, operation.keys)
        if meaning is None:
            raise
        raise meaning from error


def _talk_numbered(operation: Operation[R], callers: Callers) -> Talk[R]:
    unanswered = operation.unanswered
    if unanswered is not None and unanswered.caller is not None:
        # What was asked before and never answered is asked again, not a new question.
        caller = unanswered.caller
    else:
        caller = callers.lend(hands_out=operation.settle is not None)
        caller.number += 1
    try:
        reply = yield from _send(operation, *_numbered(operation, caller))
        result = operation.read(reply)
    except GeneratorExit:
        _leave_unseen(operation, caller, callers)
        raise
    except Exception:
        _leave_unseen(operation, caller, callers)
        raise
    except BaseException:
        yield from _break_off(operation, caller, callers)
        raise
    caller.seen = caller.number
    if unanswered is not None:
        unanswered.caller = None
    callers.take_back(caller)
    return result


def _numbered(operation: Operation[Any], caller: Caller) -> tuple[Sequence[bytes], Sequence[bytes | str]]:
    """The keys and the arguments of an operation as the next call of ``caller``."""
    numbers = (f"{caller.number:016}", f"{caller.seen:016}")
    return (*operation.keys, caller.key), (*numbers, *operation.args)


def _leave_unseen(operation: Operation[Any], caller: Caller, callers: Callers) -> None:
    """Leaves a call whose reply nobody read to the next one: of the user's, for an end, or else of this caller's."""
    if operation.unanswered is not None:
        operation.unanswered.caller = caller
    elif operation.settle is not None:
        callers.take_back_unsettled(caller)
    else:
        callers.take_back(caller)


def _break_off(operation: Operation[Any], caller: Caller, callers: Callers) -> Talk[None]:
    """Puts back at once what a hand-out may have been given that was interrupted or cancelled."""
    if operation.settle is None:
        _leave_unseen(operation, caller, callers)
        return
    caller.number += 1
    try:
        settle = operation.settle()
        yield from _send(settle, *_numbered(settle, caller))
    except BaseException:
        callers.take_back_unsettled(caller)
        # Whatever this was, the interruption that is under way says more.
        return
    caller.seen = caller.number
    callers.take_back(caller)


def _send(operation: Operation[Any], keys: Sequence[bytes], args: Sequence[bytes | str]) -> Talk[Any]:
    """The request of an operation, and once more with the whole script where the server does not know it yet."""
    verb = operation.verb
    if not isinstance(verb, Script):
        return (yield (verb, *keys, *args))
    try:
        return (yield ("EVALSHA", verb.sha, str(len(keys)), *keys, *args))
    except Exception as error:
        if not script_is_unknown(error):
            raise
    # Not SCRIPT LOAD and the digest again: the server can lose the script in between.
    return (yield ("EVAL", verb.body, str(len(keys)), *keys, *args))


def _talk_through(plan: Plan[R], name: str, callers: Callers | None) -> Talk[R]:
    """The steps that a plan yields; what goes wrong with one is thrown into the plan."""
    try:
        step = next(plan)
        while True:
            try:
                read: Any = None
                if isinstance(step, Operation):
                    read = yield from _talk_about(step, name, callers)
                else:
                    yield from _rest(step)
            except BaseException as error:
                step = plan.throw(error)
            else:
                step = plan.send(read)
    except StopIteration as end:
        result: R = end.value
        return result


def _rest(rest: Sleep | Listen) -> Talk[None]:
    """Waits. A socket that times out while it listens heard nothing, which is no error."""
    try:
        yield rest
    except Exception as error:
        if not timed_out(error):
            raise
