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
    caller: Caller | None = None
    try:
        if not operation.recorded:
            request = _request(operation)
        elif callers is None:
            request = _request(operation, operation.keys[:1], NO_NUMBERS)
        else:
            caller = _caller_for(operation, callers)
            request = _request(operation, (caller.key,), _numbers(caller))
        try:
            reply = yield request
        except Exception as error:
            reply = yield from _send_in_full(operation, request, name, error)
        result = operation.read(reply)
    except BaseException as error:
        if caller is not None and callers is not None:
            if isinstance(error, Exception | GeneratorExit):
                _leave_unseen(operation, caller, callers)
            else:
                yield from _break_off(operation, caller, callers)
        raise
    if caller is not None and callers is not None:
        caller.seen = caller.number
        if operation.unanswered is not None:
            operation.unanswered.caller = None
        callers.take_back(caller)
    return result


def _caller_for(operation: Operation[Any], callers: Callers) -> Caller:
    """Who makes this call. What was asked before and never answered is asked again, not a new question."""
    if operation.unanswered is not None and operation.unanswered.caller is not None:
        return operation.unanswered.caller
    caller = callers.lend(hands_out=operation.settle is not None)
    caller.number += 1
    return caller


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


def _send_in_full(operation: Operation[Any], request: Request, name: str, error: Exception) -> Talk[Any]:
    """The same request with the whole script, when the error is that the server does not know it.

    Not SCRIPT LOAD and the digest again: the server can lose the script in between.
    """
    if isinstance(operation.verb, Script) and isinstance(request, tuple) and script_is_unknown(error):
        try:
            return (yield ("EVAL", operation.verb.body, *request[2:]))
        except Exception as second:
            error = second
    meaning = explained(error, name, operation.keys)
    if meaning is None:
        raise error
    raise meaning from error


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
        # Were the script unknown, nothing was handed out either.
        settle = operation.settle()
        yield _request(settle, (caller.key,), _numbers(caller))
    except BaseException:
        callers.take_back_unsettled(caller)
        # Whatever this was, the interruption that is under way says more.
        return
    caller.seen = caller.number
    callers.take_back(caller)


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
