"""Running operations on a client: blocking and awaited. The only module of the core that talks to a server.

What is said in which order, what an error means and what becomes of a call that is broken off stands once: in
generators that yield requests and are sent replies. Each driver only carries these back and forth.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from redset.core.callers import Caller, Callers, Turns
from redset.core.clients import (
    AS_STORED,
    drop_idle_connections,
    executor,
    explained,
    script_is_unknown,
    slot_is_moving,
    timed_out,
)
from redset.core.operations import Elsewhere, Listen, Operation, Page, Plan, Sleep
from redset.core.scripts import Script
from redset.core.sharing import Call, Gathering, Joint, Line

__all__ = ("AsyncDriver", "Driver")

log = logging.getLogger("redset")

T = TypeVar("T")
R = TypeVar("R")

#: The words of one command, a rest, or what somebody else does.
Request: TypeAlias = tuple[bytes | str, ...] | Sleep | Listen | Elsewhere
#: Yields requests, is sent the replies or thrown the errors, and returns the result.
Talk: TypeAlias = Generator[Request, Any, R]

#: Makes the operation that puts back what nobody saw; see `Operation.settle`.
Settle: TypeAlias = Callable[..., Operation[Any]]

#: How long, in seconds, a task that was cancelled stays to put back what its call was handed.
SETTLING = 1.0
#: How long, in seconds, a call waits for the keys of a set that move from one node of a cluster to another.
MOVING = 10.0
#: How often, in seconds, it looks whether they are there.
MOVING_CHECK = 0.05
#: How often, in seconds, whoever stands in line looks whether it should stop.
STOP_CHECK = 0.2


class Driver:
    """Runs the operations of one set on a blocking client."""

    awaits = False

    __slots__ = ("_callers", "_client", "_execute", "_name")

    def __init__(self, client: Any, name: str, callers: Callers) -> None:
        self._client = client
        self._execute = executor(client)
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

    __slots__ = ("_callers", "_execute", "_gathering", "_name")

    def __init__(self, client: Any, name: str, callers: Callers) -> None:
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name
        self._callers = callers
        self._gathering: Gathering | None = None

    async def perform(self, operation: Operation[R]) -> R:
        call = self._enter(operation)
        if not isinstance(call, Call):
            return await self._hold(_talk_about(operation, self._name, self._callers, []), line=call)
        await call.answer
        return operation.read(call.reply())

    async def follow(self, plan: Plan[R]) -> R:
        """Compare :func:`_talk_through`; what came as a part of joint calls is received, or put back, by parts."""
        handed: list[Caller] = []
        shares: list[Call] = []
        settle: Settle | None = None
        turn: _Turn | None = None
        try:
            step = next(plan)
            while True:
                try:
                    if isinstance(step, Operation):
                        settle = step.settle or settle
                        read = await self._ask(step, handed, shares)
                    else:
                        turn = turn or _Turn(self._callers.turns)
                        read = await self._hold(_step_aside(step), turn=turn)
                except BaseException as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(read)
        except StopIteration as end:
            result: R = end.value
        except BaseException as error:
            await self._break_off(error, handed, shares, settle)
            raise
        finally:
            if turn:
                turn.end()
        self._callers.accept(handed)
        for share in shares:
            share.receive()
        return result

    async def _break_off(
        self, error: BaseException, handed: list[Caller], shares: list[Call], settle: Settle | None
    ) -> None:
        for share in shares:
            if isinstance(error, Exception):
                share.receive()
            else:
                share.leave()
        await self._hold(_break_off(error, handed, settle, self._name, self._callers), patience=SETTLING)
        if not isinstance(error, Exception | GeneratorExit):
            await _put_back_by_others(shares)

    async def _ask(self, operation: Operation[R], handed: list[Caller], shares: list[Call]) -> R:
        """One operation. If it was handed something, or may have been, that is added to ``handed`` or ``shares``."""
        call = self._enter(operation)
        if not isinstance(call, Call):
            return await self._hold(_talk_about(operation, self._name, self._callers, handed), line=call)
        try:
            await call.answer
        except BaseException:
            if operation.settle:
                shares.append(call)
            raise
        result = operation.read(call.reply())
        if call.rows:
            shares.append(call)
        return result

    def _enter(self, operation: Operation[Any]) -> Call | Line | None:
        """The part of an operation in a joint call; or it goes out alone, and others gather behind it in the line."""
        shared, unanswered = operation.shared, operation.unanswered
        if shared is None:
            return None
        if unanswered:
            if unanswered.caller:
                return None
            if call := unanswered.call:
                call.repeat()
                return call
        loop = asyncio.get_running_loop()
        gathering = self._gathering
        if gathering is None or gathering.loop() is not loop:
            gathering = self._gathering = self._callers.gatherings.setdefault(loop, Gathering(loop))
        return gathering.enter(operation, shared, self, loop)

    async def carry(self, joint: Joint) -> None:
        handed: list[Caller] = []
        try:
            replies = await self._hold(_talk_for_many(joint.operation, self._name, self._callers, handed), joint=joint)
        except BaseException as error:
            joint.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            joint.deal(replies, handed[0] if handed else None)

    def put_back(
        self, operation: Operation[Any], caller: Caller, positions: Sequence[int]
    ) -> Coroutine[Any, Any, None]:
        assert operation.settle is not None
        caller.number += 1
        caller.owes = operation.settle(positions)
        self._callers.leave_unsettled([caller])
        return self._put_back_what_is_owed(operation.settle)

    async def _put_back_what_is_owed(self, settle: Settle) -> None:
        while caller := self._callers.to_settle():
            try:
                await self._hold(_settle_before(caller, settle, self._name, self._callers), patience=SETTLING)
            except Exception as trouble:
                # The next hand-out does it first, and says what is wrong if that goes on.
                log.info("%s: what a cancelled call was handed is put back later: %s", self._name, trouble)
                return

    def accept(self, caller: Caller) -> None:
        self._callers.accept([caller])

    async def iterate(self, page: Operation[Page[T]]) -> AsyncIterator[T]:
        behind: Operation[Page[T]] | None = page
        while behind:
            read: Page[T] = await self.perform(behind)
            for item in read.items:
                yield item
            behind = read.behind

    async def _hold(
        self,
        talk: Talk[R],
        line: Line | None = None,
        joint: Joint | None = None,
        turn: "_Turn | None" = None,
        patience: float | None = None,
    ) -> R:
        """Carries out what ``talk`` requests.

        :param line: where others gather behind this, if they do.
        :param joint: whose call it is, if it is one.
        :param turn: the place in line of who listens, if it does.
        :param patience: how many seconds a request may take; once this is broken off only so many.
        """
        task = asyncio.current_task()
        # Outside of any task nobody can ask for its end.
        cancelling = task.cancelling if task else int
        cancellations = cancelling()
        try:
            request = next(talk)
            while True:
                error: BaseException | None = None
                try:
                    if patience is None:
                        reply = await self._carry_out(request, turn)
                    else:
                        async with asyncio.timeout(patience):
                            reply = await self._carry_out(request, turn)
                except BaseException as raised:
                    error = raised
                if cancelling() > cancellations:
                    # Python before 3.12 can swallow a cancellation that comes while a reply does.
                    cancellations = cancelling()
                    error = error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError()
                if joint and isinstance(error, asyncio.CancelledError) and joint.is_awaited and self._callers.recording:
                    # Somebody cancels all tasks there are; those who are spared get what they wait for.
                    cancellations = task.uncancel() if task else 0
                    continue
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
            if line:
                line.leave()

    async def _carry_out(self, request: Request, turn: "_Turn | None") -> Any:
        if isinstance(request, tuple):
            return await self._execute(*request, **AS_STORED)
        if isinstance(request, Elsewhere):
            return await request.do()
        if isinstance(request, Sleep):
            return await asyncio.sleep(request.seconds)
        assert turn is not None
        if await turn.is_ours(request.patience, request.should_stop):
            return await self._execute(*request.command())
        return None


async def _put_back_by_others(shares: list[Call]) -> None:
    """Waits a while until what was handed out jointly, and not received, has been put back."""
    under_way = {share.joint.concluded for share in shares if share.joint and not share.joint.concluded.done()}
    if under_way:
        await asyncio.wait(under_way, timeout=SETTLING)


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
    while operation.settle and (unsettled := callers.to_settle()):
        yield from _settle_before(unsettled, operation.settle, name, callers)
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


def _talk_for_many(operation: Operation[R], name: str, callers: Callers, handed: list[Caller]) -> Talk[R]:
    """A joint operation; when it is broken off, all that it took is put back."""
    try:
        return (yield from _talk_about(operation, name, callers, handed))
    except BaseException as error:
        yield from _break_off(error, handed, operation.settle, name, callers)
        raise


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
    return str(caller.number).zfill(16), str(caller.seen).zfill(16)


def _request(operation: Operation[Any], key: Sequence[bytes] = (), numbers: Sequence[str] = ()) -> Request:
    """What to send: of a script its digest, and with the key of a record and the numbers of a call in front."""
    verb, keys, args = operation.verb, operation.keys, operation.args
    if isinstance(verb, Script):
        return ("EVALSHA", verb.sha, str(len(key) + len(keys)), *key, *keys, *numbers, *args)
    return (verb, *keys, *args)


def _exchange(operation: Operation[Any], request: Request, name: str) -> Talk[Any]:
    """Sends a request, and again where that helps; returns the reply."""
    try:
        try:
            return (yield request)
        except Exception as error:
            return (yield from _send_again(operation, request, error))
    except Exception as error:
        meaning = explained(error, name, operation.keys)
        if meaning is None:
            raise
        raise meaning from error


def _send_again(operation: Operation[Any], request: Request, error: Exception) -> Talk[Any]:
    """Sends the whole script where the server does not know it; and waits until the slot that it is for has moved.

    Not SCRIPT LOAD and the digest again: the server can lose the script in between.
    """
    ends_at = time.monotonic() + MOVING
    while True:
        if slot_is_moving(error) and time.monotonic() < ends_at:
            yield Sleep(MOVING_CHECK)
        elif isinstance(operation.verb, Script) and isinstance(request, tuple) and script_is_unknown(error):
            request = ("EVAL", operation.verb.body, *request[2:])
        else:
            raise error
        try:
            return (yield request)
        except Exception as raised:
            error = raised


def _talk_through(plan: Plan[R], name: str, callers: Callers) -> Talk[R]:
    """The steps that a plan yields; what goes wrong with one is thrown into the plan.

    What the plan was handed counts as received when it is through, and is put back when it is broken off.
    """
    handed: list[Caller] = []
    settle: Settle | None = None
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
        yield from _break_off(error, handed, settle, name, callers)
        raise


def _break_off(
    error: BaseException, handed: list[Caller], settle: Settle | None, name: str, callers: Callers
) -> Talk[None]:
    """What becomes of what was handed out when ``error`` is the end: an interruption puts it back."""
    if isinstance(error, Exception):
        callers.accept(handed)
    elif isinstance(error, GeneratorExit):
        callers.leave_unsettled(handed)
    elif settle:
        yield from _settle(handed, settle, name, callers)


def _settle_before(caller: Caller, settle: Settle, name: str, callers: Callers) -> Talk[None]:
    """Puts back what nobody saw before more is handed out."""
    try:
        yield from _put_back(caller, settle, name)
    except BaseException:
        callers.leave_unsettled([caller])
        raise
    callers.accept([caller])


def _settle(handed: list[Caller], settle: Settle, name: str, callers: Callers) -> Talk[None]:
    """Puts back what was handed to somebody who was interrupted. What cannot be now is left to the next hand-out."""
    while handed:
        try:
            yield from _put_back(handed[-1], settle, name)
        except BaseException:
            # Whatever this was, the interruption that is under way says more.
            callers.leave_unsettled(handed)
            return
        callers.accept([handed.pop()])


def _put_back(caller: Caller, settle: Settle, name: str) -> Talk[None]:
    """Puts back what this caller was handed, or the part of it that it owes."""
    operation = caller.owes
    if operation is None:
        caller.number += 1
        operation = settle()
    yield from _exchange(operation, _request(operation, (caller.key,), _numbers(caller)), name)
    caller.owes = None


def _step_aside(step: Sleep | Listen | Elsewhere) -> Talk[Any]:
    """Waits, or has somebody else do something. A socket that times out while it listens heard nothing, no error; nor
    did one that cannot listen as the list moves to another node.
    """
    if isinstance(step, Elsewhere):
        return (yield step)
    try:
        yield step
    except Exception as error:
        if not (timed_out(error) or slot_is_moving(error)):
            raise
    return None
