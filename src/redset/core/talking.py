"""The order of the requests of a call, and the handling of failures and interruptions: for both faces, without I/O.

A :data:`Talk` is a generator: it yields requests, is sent replies or thrown errors, and returns the result. The drivers
only carry these back and forth. :mod:`redset.core.calls` has the states of a call.

A claim is received when the plan that made it returns. If the plan does not return, none of its claims was received,
and all are rolled back: at once after an interruption, and as debts of the set after a failure of server or client.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from redset.core import calls
from redset.core.calls import Call, ClientState, Payer, State
from redset.core.clients import is_failure
from redset.core.operations import (
    At,
    Elsewhere,
    Listen,
    ListenToAny,
    Operation,
    Plan,
    Received,
    RollBackUnknown,
    Together,
    Unfinished,
)
from redset.core.sending import NO_CALL, Batch, Sleep, Words, sent_again, words_of
from redset.core.shown import shorten

__all__ = ("EMPTY_SOON", "Caller", "Register", "Request", "Talk", "ask", "exchange", "follow", "roll_back")

R = TypeVar("R")

log = logging.getLogger("redset")


class Joined(Protocol):
    """A part of a coalesced call, which :mod:`redset.core.coalescing` makes and sends."""

    answer: Any


#: One command or several, a pause, work of another task, or a part of a coalesced call.
Request: TypeAlias = Words | Batch | Sleep | Listen | ListenToAny | Elsewhere | Joined
#: Makes the driver empty the large records of received claims a second later.
EMPTY_SOON = Sleep(0)
Talk: TypeAlias = Generator[Request, Any, R]
#: Returns the talk of an operation that joins a coalesced call, or None if it is sent by itself.
Coalesce: TypeAlias = Callable[[Operation[Any], list[Any]], Talk[Any] | None]

#: The ends of replies that request that the set be registered, or that items get their groups; see :class:`Caller`.
REQUESTS = (b"register", b"differs", b"groups", b"groups, if possible")
#: Seconds between two checks whether the claims that others are rolling back are rolled back.
PAYING_CHECK = 0.01
#: Registers the set of a caller, as one of :data:`REQUESTS` asks.
Register: TypeAlias = "Callable[[Caller, bytes], Talk[None]]"


@dataclass(slots=True, eq=False)
class Caller:
    """The caller of operations: a set object, with its name and the state of its client."""

    client: Any
    state: ClientState
    name: str
    #: The key prefix of the set's call records.
    prefix: bytes
    #: Whether calls are numbered and recorded.
    recording: bool
    #: Empties the large records of received claims of the set before a call; see :mod:`redset.core.emptying`.
    empty_records: "Callable[[Caller], Talk[None]]"
    #: Registers the set, when a reply requests that.
    register: "Register | None" = None


def ask(operation: Operation[R], caller: Caller, claims: list[Any]) -> Talk[R]:
    """Perform one operation. Number it if it changes something, so that it may be sent twice.

    Adds a claim to ``claims`` before sending it.
    """
    if not (operation.recorded and caller.recording):
        return (yield from _ask_unrecorded(operation, caller))

    state, call = caller.state, None
    if operation.unfinished is None and not (state.debts or state.large):
        call = state.call(caller.prefix, operation)
        if operation.roll_back is not None:
            claims.append(call)
    else:
        call = yield from _begin(operation, caller, claims)
    if call is None:
        assert operation.unfinished is not None
        return operation.read(operation.unfinished.reply)
    try:
        if call.pays is not None:
            state.paid(call.pays)
        call.become(State.SENT)
        words = words_of(operation, (call.key,), call.numbers())
        try:
            reply = yield words
        except Exception as error:
            reply = yield from sent_again(operation, words, error, caller.client, caller.name)
        state.contacted = True
        call.become(State.ANSWERED)
    except BaseException as error:
        _lose(call, operation, state, claims, error)
        raise
    request = reply[-1] if type(reply) is list else None
    if request in REQUESTS:
        reply = _without_request(reply, operation)
    result = _answered(call, operation, state, reply)
    if request in REQUESTS or call.is_large:
        # Before a claim is received: after that, no step may be interrupted.
        yield from _afterwards(call, operation, caller, claims, request)
    _receive_empty(call, state, claims, result)
    return result


def _afterwards(call: Call, operation: Operation[Any], caller: Caller, claims: list[Any], request: Any) -> Talk[None]:
    """Do what a reply requests. A claim for which that fails was not received, as if its reply had been lost."""
    try:
        if request in REQUESTS:
            yield from _register(caller, request)
        if call.is_large:
            caller.state.large_at = time.monotonic()
            yield EMPTY_SOON
    except BaseException as error:
        if operation.roll_back is not None:
            _lose(call, operation, caller.state, claims, error)
        raise


def _ask_unrecorded(operation: Operation[R], caller: Caller) -> Talk[R]:
    words = words_of(operation, operation.keys[:1], NO_CALL) if operation.recorded else words_of(operation)
    reply = yield from exchange(operation, words, caller)
    request = reply[-1] if operation.recorded and type(reply) is list else None
    if request not in REQUESTS:
        return operation.read(reply)
    result = operation.read(_without_request(reply, operation))
    yield from _register(caller, request)
    return result


def _register(caller: Caller, request: Any) -> Talk[None]:
    if caller.register is not None:
        yield from caller.register(caller, request)


def _without_request(reply: list[Any], operation: Operation[Any]) -> Any:
    """Return a reply without the request behind it to register the set."""
    reply.pop()
    return reply if operation.roll_back is not None else reply[0]


def _sent_before(unfinished: Unfinished) -> Call | None:
    """Return the call that was sent before and whose reply is not known, or None if no call may be sent again."""
    call = unfinished.call
    if call is None:
        return None
    if call.pid != calls.PID and call.state is not State.UNKNOWN:
        # The call was under way at the fork: its session belongs to the parent.
        unfinished.leave()
        return None
    call.shared = True
    return call


def _begin(operation: Operation[Any], caller: Caller, claims: list[Any]) -> Talk[Call | None]:
    """Return the call to send, once its debts are paid; None if its reply is known by now."""
    if operation.unfinished is not None:
        return (yield from _begin_end(operation, operation.unfinished, caller))
    state, payer = caller.state, Payer()
    try:
        yield from _roll_back_debts(operation, caller, payer)
        yield from caller.empty_records(caller)
        call = state.paying_call(caller.prefix, operation, payer)
        # The record is replaced by that of this call.
        state.large.pop(call.key, None)
        if operation.roll_back is not None:
            claims.append(call)
    except BaseException:
        payer.has_gone = True
        raise
    return call


def _begin_end(operation: Operation[Any], unfinished: Unfinished, caller: Caller) -> Talk[Call | None]:
    """Return the call of an end: the one begun before, here or by another thread, or a new one.

    It pays no debt, since it may be sent again at any time.
    """
    state = caller.state
    # In this order: the caller that reads the reply keeps the session of a shared call.
    call = _sent_before(unfinished)
    if call is None and unfinished.reply is None:
        new = state.call(caller.prefix, operation)
        state.large.pop(new.key, None)
        call = unfinished.begin(new)
        if call is not new:
            call.shared = True
            state.idle.append(new.session)
    if state.large and unfinished.reply is None:
        yield from caller.empty_records(caller)
    return call if unfinished.reply is None else None


def _lose(call: Call, operation: Operation[Any], state: ClientState, claims: list[Any], error: BaseException) -> None:
    """Keep a call whose outcome is unknown: as a debt, or with its reservation so that it can be sent again."""
    if operation.roll_back is None:
        if not call.lose() and call.pays is not None:
            state.owe(call.pays)
        elif call.state is State.UNKNOWN and operation.unfinished is None:
            state.owe(call)
    elif is_failure(error) and call.lose():
        # After an interruption it stays in ``claims``, which are rolled back at once.
        claims.remove(call)
        state.owe(call)


def _answered(call: Call, operation: Operation[R], state: ClientState, reply: Any) -> R:
    """Read a reply, and receive the call unless it is a claim."""
    if operation.roll_back is not None:
        result: Any = operation.read(reply)
        call.is_large = bool(result) and result.is_large
        return result  # type: ignore[no-any-return] # what the operation reads
    if operation.unfinished is not None:
        operation.unfinished.reply = reply
    _receive(call, state)
    return operation.read(reply)


def follow(plan: Plan[R], caller: Caller, coalesce: Coalesce | None = None) -> Talk[R]:
    """Perform the steps that a plan yields, and throw errors into it. Its claims are received when it returns."""
    claims: list[Any] = []
    try:
        try:
            step = next(plan)
            while True:
                try:
                    where, joins = caller, coalesce
                    if isinstance(step, At):
                        where, joins, step = step.driver.caller, step.driver.joins, step.step
                    if isinstance(step, Operation):
                        read: Any = yield from _talk_of(step, where, joins, claims)
                    else:
                        read = yield from _perform(step, where, claims)
                except BaseException as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(read)
        except StopIteration as end:
            result: R = end.value
        receive(claims, caller.state)
        return result  # noqa: TRY300 # in an else block, an interruption would not be caught
    except BaseException as error:
        yield from break_off(error, claims, caller)
        shorten(error, __name__)
        raise


def _talk_of(operation: Any, caller: Caller, joins: Coalesce | None, claims: list[Any]) -> Talk[Any]:
    talk = joins(operation, claims) if joins is not None and operation.shape is not None else None
    return talk or ask(operation, caller, claims)


def _perform(step: Any, where: Caller, claims: list[Any]) -> Talk[Any]:
    """Perform a step that is no operation."""
    if isinstance(step, Together):
        return (yield from _ask_together(step.steps, claims))
    if isinstance(step, RollBackUnknown):
        return (yield from pay_claims(where, step.roll_back))
    if isinstance(step, Received):
        return receive(claims, where.state)
    return (yield step)


def _ask_together(steps: Sequence[At], claims: list[Any]) -> Talk[list[Any]]:
    """Perform operations side by side: their talks take turns, and what they send in one turn goes in one batch.

    Each call is numbered, sent again, lost and owed by itself, as if it were the only one.
    """
    talks = [_talk_of(step.step, step.driver.caller, step.driver.joins, claims) for step in steps]
    outcomes: list[Any] = [None] * len(talks)
    replies: dict[int, Any] = dict.fromkeys(range(len(talks)))
    try:
        while replies:
            requests: dict[int, Request] = {}
            for at, reply in replies.items():
                talk = talks[at]
                try:
                    requests[at] = talk.throw(reply) if isinstance(reply, Exception) else talk.send(reply)
                except StopIteration as end:
                    outcomes[at] = end.value
                except Exception as error:
                    if not is_failure(error):
                        raise
                    outcomes[at] = error
            replies = yield from _replies_to(requests)
    except BaseException as error:
        yield from _interrupt(talks, error)
        raise
    return outcomes


def _replies_to(requests: dict[int, Request]) -> Talk[dict[int, Any]]:
    """Carry out the requests of some talks. Return the reply to each, or its error."""
    replies: dict[int, Any] = {}
    commands = {at: request for at, request in requests.items() if type(request) is tuple}
    if len(commands) > 1:
        answers = yield Batch(tuple(commands.values()))
        replies = dict(zip(commands, answers, strict=True))
    for at, request in requests.items():
        if at not in replies:
            try:
                replies[at] = yield request
            except Exception as error:
                replies[at] = error
    return replies


def _interrupt(talks: list[Talk[Any]], error: BaseException) -> Talk[None]:
    """Raise an error in all talks that have not ended, so that each keeps its call as one with an unknown outcome."""
    for talk in talks:
        try:
            request = talk.throw(error)
            while not isinstance(error, GeneratorExit):
                request = talk.send((yield request))
        except BaseException as raised:
            if raised is not error:
                log.debug("an interrupted call raised another error: %r", raised)


def receive(claims: list[Any], state: ClientState) -> None:
    """Receive claims: from ``claims.clear()`` on, the commit point, they count as received.

    As few instructions as possible follow it. A received call is forgotten, and its session continues.
    """
    parts = [claim for claim in claims if not isinstance(claim, Call)]
    sessions = state.sessions_of(claims) if len(parts) < len(claims) else []
    claims.clear()
    state.idle.extend(sessions)
    if parts:
        for part in parts:
            part.receive()


def _receive(call: Call, state: ClientState) -> None:
    """Note that the reply of a call was received, so that its session can make the next one."""
    state.received(call)
    call.become(State.RECEIVED)


def _receive_empty(call: Call, state: ClientState, claims: list[Any], result: Any) -> None:
    """Receive a claim without rows, which nothing can break off any more.

    If something did before, the claim is rolled back, and so its caller learns which of its acks have arrived.
    """
    if call.roll_back is not None and not result:
        claims.remove(call)
        _receive(call, state)


def break_off(error: BaseException, claims: list[Any], caller: Caller) -> Talk[None]:
    """Roll back the claims that were not received: after an interruption at once, else as debts of the set."""
    state = caller.state
    later = isinstance(error, GeneratorExit) or is_failure(error)
    while claims:
        claim = claims[-1]
        if not isinstance(claim, Call):
            claim.leave()
            if not later:
                try:
                    yield Elsewhere(claim.concluded)
                except BaseException:
                    # The error being raised is more informative. The group rolls back its rows without this task.
                    later = True
        elif claim.pid == calls.PID:
            if not claim.lose():
                if claim.pays is not None:
                    state.owe(claim.pays)
            elif later:
                state.owe(claim)
            else:
                try:
                    yield from roll_back(claim, caller)
                except BaseException:
                    # The error being raised is more informative. The next claim from the set pays this debt.
                    later = True
                    state.owe(claim)
        claims.remove(claim)


def roll_back(call: Call, caller: Caller) -> Talk[None]:
    """Roll back a claim under the next number of its session: all of it, or the rows that were not received."""
    session = call.session
    assert call.roll_back is not None
    operation = call.roll_back(call.positions)
    session.number = call.number = call.number + 1
    words = words_of(operation, (call.key,), call.numbers())
    head = yield from exchange(operation, words, caller)
    # First: afterwards the session may make other calls.
    caller.state.paid(call)
    call.become(State.ROLLED_BACK)
    if call.on_roll_back is not None:
        call.on_roll_back(head)
    if call.pid == calls.PID:
        caller.state.idle.append(session)


def pay_claims(caller: Caller, roll_back_of: Callable[..., Operation[bytes]]) -> Talk[None]:
    """Roll back all claims of this set whose outcome is unknown, and wait for those that others are rolling back."""
    state, payer = caller.state, Payer()
    try:
        while state.owed(caller.prefix, claims=True):
            if (debt := state.take_claim_to_pay(caller.prefix, payer)) is not None:
                yield from _pay(debt, payer, caller, roll_back_of)
            else:
                yield Sleep(PAYING_CHECK)
    finally:
        payer.has_gone = True


def _roll_back_debts(operation: Operation[Any], caller: Caller, payer: Payer) -> Talk[None]:
    """Before a claim: roll back the debts of claims that it cannot pay by itself."""
    state = caller.state
    if operation.roll_back is not None:
        plain = operation.on_roll_back is not None
        while (debt := state.take_debt_to_roll_back(caller.prefix, payer, plain=plain)) is not None:
            yield from _pay(debt, payer, caller, operation.roll_back)


def _pay(
    debt: Call, payer: Payer, caller: Caller, roll_back_of: "Callable[..., Operation[bytes]] | None"
) -> Talk[None]:
    """Roll back a debt."""
    try:
        # The claim may have been made by a set object with other options: these are newer.
        debt.roll_back = roll_back_of
        yield from roll_back(debt, caller)
    finally:
        caller.state.leave(debt, payer)


def exchange(operation: Operation[Any], words: Words, caller: Caller) -> Talk[Any]:
    """Send a request, again if that can help, and return the reply."""
    try:
        reply = yield words
    except Exception as error:
        reply = yield from sent_again(operation, words, error, caller.client, caller.name)
    caller.state.contacted = True
    return reply
