"""Faults to plant in the core. The simulator must find each of them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from redset.core import drivers, emptying, talking
from redset.core.calls import Call, ClientState, Payer, State
from redset.core.clients import is_failure
from redset.core.coalescing import Gathering, Group
from redset.core.consuming import BaseConsumption
from redset.core.endings import Batch, Endings
from redset.core.operations import Unfinished
from redset.core.sending import words_of
from simulator.server_model import ModelServer

Plant = Callable[[], AbstractContextManager[Any]]


def goes_on_under_the_same_id() -> Any:
    """A call with an unknown outcome is no debt: its session makes the next call."""

    def owe(state: ClientState, call: Call) -> None:
        state.idle.append(call.session)

    return patch.object(ClientState, "owe", owe)


def deletes_the_record() -> Any:
    """The large record of a received claim is deleted, so that a late copy of it executes."""

    def empty(large: Call, caller: Any) -> Any:
        yield ("DEL", large.key)
        caller.state.idle.append(large.session)

    return patch.object(emptying, "empty", empty)


def keeps_what_an_exception_interrupted() -> Any:
    """A claim that an Exception interrupted counts as received."""
    break_off = talking.break_off

    def accepts(error: BaseException, claims: list[Any], caller: Any) -> Any:
        if isinstance(error, Exception) and not is_failure(error):
            claims.clear()
        yield from break_off(error, claims, caller)

    return patch.object(talking, "break_off", accepts)


def forgets_the_acks_of_an_interrupted_claim() -> Any:
    """A consumer does not learn which acks arrived with a claim that was rolled back."""
    return patch.object(BaseConsumption, "_note_roll_back", lambda *_: None)


def begins_each_end_anew() -> Any:
    """Two threads that ack the same reservation make two calls."""

    def begin(_: Any, mine: Any, how: Any) -> Batch:
        batch = Batch([how(one) for one in mine])
        for one in () if batch.extends else mine:
            one._note_end_sent(batch)
        return batch

    return patch.object(Endings, "_begin", begin)


def goes_on_with_the_session_of_a_shared_call() -> Any:
    """The session of a call that two threads sent makes the next call while a copy is under way."""
    return patch.object(Call, "shared", property(lambda _: False, lambda *_: None))


def hides_the_reply_of_a_shared_call() -> Any:
    """The second of two threads that ack the same reservation sends a call of its own when the first was answered."""
    return patch.object(Unfinished, "reply", property(lambda _: None, lambda *_: None))


@contextmanager
def forgets_the_number_of_a_roll_back() -> Iterator[None]:
    """The session of a roll-back makes its next call under the same number."""

    def roll_back(call: Call, caller: Any) -> Any:
        assert call.roll_back is not None
        operation = call.roll_back(call.positions)
        call.number += 1
        head = yield from talking.exchange(operation, words_of(operation, (call.key,), call.numbers()), caller)
        call.become(State.ROLLED_BACK)
        if call.on_roll_back is not None:
            call.on_roll_back(head)
        caller.state.idle.append(call.session)

    with patch.object(talking, "roll_back", roll_back):
        yield


def lends_the_session_of_a_debt() -> Any:
    """The session of a debt makes other calls as well, so that a payment is answered as late."""
    owe = ClientState.owe

    def lends(state: ClientState, call: Call) -> None:
        owe(state, call)
        state.idle.append(call.session)

    return patch.object(ClientState, "owe", lends)


def keeps_debts_in_a_child() -> Any:
    """A forked child goes on with its parent's sessions and debts."""
    return patch.object(ClientState, "forget", lambda _: None)


def shares_the_unanswered_end_of_its_parent() -> Any:
    """A forked child sends the call again that is under way in its parent."""

    def sent_before(unfinished: Unfinished) -> Call | None:
        if unfinished.call is not None:
            unfinished.call.shared = True
        return unfinished.call

    return patch.object(talking, "_sent_before", sent_before)


def goes_on_while_another_pays() -> Any:
    """A consumer acks again while another thread is finding out whether its acks arrived."""

    def pay_claims(caller: Any, roll_back_of: Any) -> Any:
        state, payer = caller.state, Payer()
        while (debt := state.take_claim_to_pay(caller.prefix, payer)) is not None:
            yield from talking._pay(debt, payer, caller, roll_back_of)

    return patch.object(talking, "pay_claims", pay_claims)


def takes_acks_for_lost() -> Any:
    """A consumer that could not find out whether its acks arrived takes them for lost when they are late."""
    try_to_roll_back = BaseConsumption._try_to_roll_back

    def settles(loop: Any) -> Any:
        yield from try_to_roll_back(loop)
        return True

    return patch.object(BaseConsumption, "_try_to_roll_back", settles)


def receives_each_claim_at_once() -> Any:
    """A claim counts as received when it is answered, though its plan may not return."""

    def receives(call: Call, state: ClientState, claims: list[Any], _: Any) -> None:
        if call in claims:
            claims.remove(call)
            talking._receive(call, state)

    return patch.object(talking, "_receive_empty", receives)


def outdates_a_claim_as_if_it_was_seen() -> Any:
    """A claim pays the debt of another as if that had been received."""
    paying_call = ClientState.paying_call

    def paying(state: ClientState, name: bytes, operation: Any, payer: Payer) -> Call:
        call = paying_call(state, name, operation, payer)
        call.seen = call.number - 1
        return call

    return patch.object(ClientState, "paying_call", paying)


def pays_claims_by_any_call() -> Any:
    """Any call pays the debt of a claim, though only a claim or a roll-back rolls back."""
    take_debt = ClientState._take_debt

    def takes(state: ClientState, name: bytes, payer: Payer, *, claim: bool) -> Call | None:
        return take_debt(state, name, payer, claim=claim) or take_debt(state, name, payer, claim=not claim)

    return patch.object(ClientState, "_take_debt", takes)


def pays_one_debt_of_many() -> Any:
    """A claim pays one debt, and forgets the others."""
    owe = ClientState.owe

    def owes(state: ClientState, call: Call) -> None:
        state.debts.clear()
        owe(state, call)

    return patch.object(ClientState, "owe", owes)


def pays_a_part_by_a_claim() -> Any:
    """A claim pays a debt of some rows, and so rolls back all, or one whose acks nobody learns of then."""
    return patch.object(Call, "is_plain", property(lambda _: True))


def rolls_back_all_rows() -> Any:
    """All rows of a coalesced claim are rolled back, though some were received."""
    return patch.object(Call, "positions", property(lambda _: None, lambda *_: None))


def never_sends_a_group_again() -> Any:
    """Who asks again for an end that failed in a group waits for ever."""

    async def answer_again(group: Group) -> None:
        await asyncio.get_running_loop().create_future()

    return patch.object(Group, "answer_again", answer_again)


def sends_an_end_alone() -> Any:
    """Who asks again for an end that failed in a group makes a call of its own."""

    async def answered_again(part: Any) -> None:
        part.operation.unfinished.part = None

    return patch.object(drivers, "_answered_again", answered_again)


def begins_no_cancelled_task() -> Any:
    """A task of redset's own that is cancelled before it begins does nothing: rows are lost."""

    def start(gathering: Gathering, work: Any) -> Any:
        task = asyncio.get_running_loop().create_task(work, name="redset")
        gathering._tasks.add(task)
        task.add_done_callback(gathering._done)
        return task

    return patch.object(Gathering, "start", start)


def acks_anew_when_it_closes() -> Any:
    """A consumer that is closed twice acks the same items by two calls."""
    return patch.object(BaseConsumption, "_pending", property(lambda _: None, lambda *_: None), create=True)


def keeps_rows_of_those_who_left() -> Any:
    """The rows of a task that was cancelled count as received."""
    decide = Group.decide
    return patch.object(Group, "decide", lambda group, rows=(): decide(group))


# On the server.


def executes_late_copies() -> Any:
    """The server executes a copy that arrives after a later call of its session."""
    execute = ModelServer.execute

    def executes(server: ModelServer, request: Any) -> Any:
        key = request[3] if len(request) > 3 else b""
        record = server.records.get(key)
        if record is not None and record.number > int(request[3 + int(request[2])]):
            del server.records[key]
            try:
                return execute(server, request)
            finally:
                server.records[key] = record
        return execute(server, request)

    return patch.object(ModelServer, "execute", executes)


def executes_repeated_calls() -> Any:
    """The server executes a repeated call once more."""
    return patch.object(ModelServer, "_record", lambda *_, **__: None)


def puts_nothing_back() -> Any:
    """The server does not roll back the claim that nobody received."""
    return patch.object(ModelServer, "_roll_back_unseen", lambda *_: None)


#: Each fault, and the scenarios of threads that find it.
IN_THREADS: dict[Plant, tuple[str, ...]] = {
    goes_on_under_the_same_id: ("pop",),
    deletes_the_record: ("two large pops",),
    keeps_what_an_exception_interrupted: ("reserve",),
    forgets_the_acks_of_an_interrupted_claim: ("consume", "consume through failures"),
    begins_each_end_anew: ("the same ack",),
    goes_on_with_the_session_of_a_shared_call: ("the same ack, and more",),
    hides_the_reply_of_a_shared_call: ("ack many", "the same ack"),
    forgets_the_number_of_a_roll_back: ("pop",),
    lends_the_session_of_a_debt: ("a pop and an add",),
    keeps_debts_in_a_child: ("fork with debts",),
    shares_the_unanswered_end_of_its_parent: ("fork while a lease ends",),
    goes_on_while_another_pays: ("two consumers in an outage",),
    takes_acks_for_lost: ("consume, twice",),
    receives_each_claim_at_once: ("take",),
    outdates_a_claim_as_if_it_was_seen: ("pop",),
    pays_claims_by_any_call: ("a pop and an add",),
    pays_one_debt_of_many: ("two debts",),
    pays_a_part_by_a_claim: ("a consumer in an outage and a pop",),
    acks_anew_when_it_closes: ("consume and leave with acks",),
    executes_late_copies: ("add",),
    executes_repeated_calls: ("pop",),
    puts_nothing_back: ("pop",),
}

#: Each fault that tasks find, and the scenarios that find it.
IN_TASKS: dict[Plant, tuple[str, ...]] = {
    rolls_back_all_rows: ("pops",),
    pays_a_part_by_a_claim: ("a part and a debt",),
    never_sends_a_group_again: ("acks that fail",),
    sends_an_end_alone: ("acks that fail",),
    begins_no_cancelled_task: ("pops of two",),
    keeps_rows_of_those_who_left: ("pops",),
}
