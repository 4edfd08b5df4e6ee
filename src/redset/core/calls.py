"""The life of a call that changes something: its states, its number, its record, and its debt.

A client library sends a command again when the reply was lost. So each such call carries the id of a session and a
number, and the server records the last number and reply of each session. docs/protocol.md describes the protocol and
proves it. This module holds all state that it needs in Python, and does no I/O.
"""

import os
import time
from collections.abc import Callable, Sequence
from enum import Enum
from threading import Thread
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary, ref

__all__ = ("LARGE", "NO_CALL", "PID", "Call", "ClientState", "Payer", "Session", "State", "state_of", "takes_much")

#: This process. Sessions, debts and leases belong to the process that made them.
PID = os.getpid()

#: How long, in seconds, the server keeps a record: as long as a debt can be paid.
RECORD_LIFE = 600.0
#: A received reply of more bytes than this is removed from its record, so that a drained server has room again.
LARGE = 16_384
#: The number and `seen` of a call that is not recorded.
NO_CALL = ("0", "0")


class State(Enum):
    """Where a call is in its life. :data:`NEXT` is the table of transitions; docs/protocol.md explains it."""

    NUMBERED = "numbered"
    SENT = "sent"
    ANSWERED = "answered"
    RECEIVED = "received"
    UNKNOWN = "unknown"
    ROLLED_BACK = "rolled back"

    #: The states that may follow this one.
    next: "tuple[State, ...]"


#: The table of transitions of a call.
NEXT: dict[State, tuple[State, ...]] = {
    # Nothing was sent yet: a call that is interrupted here may be dropped.
    State.NUMBERED: (State.SENT,),
    State.SENT: (State.ANSWERED, State.UNKNOWN),
    # A claim counts as received when the caller's whole plan returns, any other call at once.
    State.ANSWERED: (State.RECEIVED, State.UNKNOWN),
    State.RECEIVED: (),
    State.UNKNOWN: (State.ROLLED_BACK,),
    State.ROLLED_BACK: (),
}
for _state, _following in NEXT.items():
    _state.next = _following


class Recorded(Protocol):
    """An operation, as far as its call has to know it; see :class:`redset.core.operations.Operation`."""

    @property
    def roll_back(self) -> Callable[..., Any] | None: ...

    @property
    def settled(self) -> Callable[[bytes], None] | None: ...


class Session:
    """A random id and a counter of calls. It makes one call at a time, for all sets of its client.

    Numbers of one record may have gaps. They only grow, and each is sent after the one before was received or given up.
    """

    __slots__ = ("id", "number")

    def __init__(self) -> None:
        self.id = os.urandom(8).hex().encode()
        self.number = 0


class Payer:
    """Marks a debt as being paid, for as long as the call that pays it goes on.

    Debts refer to it weakly: an interruption before ``has_gone`` is set blocks a debt only while a traceback lives.
    """

    __slots__ = ("__weakref__", "has_gone")

    def __init__(self) -> None:
        self.has_gone = False


class Call:
    """One call under the number of a session."""

    __slots__ = (
        "is_large",
        "lost_at",
        "name",
        "number",
        "payer",
        "payers",
        "pays",
        "pid",
        "positions",
        "roll_back",
        "seen",
        "session",
        "settled",
        "shared",
        "state",
    )

    def __init__(
        self,
        session: Session,
        name: bytes,
        seen: int,
        roll_back: Callable[..., Any] | None,
        settled: Callable[[bytes], None] | None,
        pid: int,
    ) -> None:
        session.number = number = session.number + 1
        self.session: Session = session
        #: The prefix of the keys of its set's records.
        self.name: bytes = name
        self.number = number
        #: The number of the last call of this record whose outcome is known.
        self.seen = seen
        self.state = State.NUMBERED
        #: Makes the operation that rolls it back, for a claim; None for a call that claims nothing.
        self.roll_back = roll_back
        #: The rows to roll back, where some of the claim was received; None for all.
        self.positions: Sequence[int] | None = None
        #: Is given the head of the reply when the claim is rolled back, empty where it was never executed.
        self.settled = settled
        #: Whether it is sent more than once, by a caller who asks for it again or by several at once. Its state is then
        #: that of any of them, and its session makes no further call.
        self.shared = False
        #: Whether its record is worth removing once it is received.
        self.is_large = False
        #: When its outcome became unknown, by the monotonic clock.
        self.lost_at = 0.0
        #: The process that made it: to a forked child it is nothing.
        self.pid = pid
        #: The debt that it pays when it is sent, and who pays it until then.
        self.pays: Call | None = None
        self.payer: Payer | None = None
        #: The payers of this call while it is a debt. The first one that lives and has not gone pays it.
        self.payers: list[ref[Payer]]

    @property
    def key(self) -> bytes:
        """The key of its record."""
        return self.name + self.session.id

    @property
    def is_plain(self) -> bool:
        """Whether a claim pays its debt as well as a roll-back: as a whole, and without a look at the reply."""
        return self.positions is None and self.settled is None

    def become(self, state: State) -> None:
        """Change the state, as :data:`NEXT` allows it."""
        if self.shared:
            # Each of its callers goes through the states; once one of them has received the reply, it is received.
            if self.state is not State.RECEIVED:
                self.state = state
            return
        if state not in self.state.next:
            raise AssertionError(f"a call that is {self.state.value} cannot become {state.value}")
        self.state = state

    def lose(self) -> bool:
        """Note that its outcome will not be known, or that its reply is dropped. False if it was never sent."""
        if self.state is State.NUMBERED:
            return False
        if self.state is not State.UNKNOWN:
            self.become(State.UNKNOWN)
        self.pays = None
        return True

    def numbers(self) -> tuple[str, str]:
        return f"{self.number:016d}", f"{self.seen:016d}"


class ClientState:
    """What redset keeps for one client: idle sessions and debts. Nothing of it is kept for each set.

    All changes are single steps in C, so that threads need no lock and an interrupt falls before or after them.
    """

    def __init__(self) -> None:
        #: Idle sessions, as a stack.
        self.idle: list[Session] = []
        #: Calls with an unknown outcome, of all sets. The next calls of each set pay its debts.
        self.debts: list[Call] = []
        #: Received claims whose records are large, by the keys of these, and when the last one was answered.
        self.large: dict[bytes, Call] = {}
        self.large_at = 0.0
        #: Empties them; see :mod:`redset.core.emptying`.
        self.emptier: Thread | None = None
        #: Per event loop and set name, while a set of that name exists: what its tasks share.
        self.in_loops: WeakValueDictionary[Any, Any] = WeakValueDictionary()
        #: The connections of its own, per event loop on the asyncio face; see :mod:`redset.core.pools`.
        self.links: Any = None
        _states.add(self)

    def call(self, name: bytes, operation: Recorded) -> Call:
        """The next call of an idle session."""
        try:
            session = self.idle.pop()
        except IndexError:
            session = Session()
        return Call(session, name, session.number, operation.roll_back, operation.settled, PID)

    def paying_call(self, name: bytes, operation: Recorded, payer: Payer) -> Call:
        """The next call on the set, which pays a debt of it if there is one that it can pay.

        Only a claim can pay the debt of a claim, since only a claim rolls back. Any call outdates other calls. A claim
        that carries acks pays none: its roll-back must return the head of its own reply, never that of the debt's.
        """
        debt = None
        if operation.roll_back and operation.settled is None:
            debt = self._take_debt(name, payer, claim=True)
        if debt is not None:
            seen = debt.seen
        elif (debt := self._take_debt(name, payer, claim=False)) is not None:
            seen = debt.number
        else:
            return self.call(name, operation)
        call = Call(debt.session, name, seen, operation.roll_back, operation.settled, PID)
        call.pays, call.payer = debt, payer
        return call

    def owe(self, call: Call) -> None:
        """Keep a call with an unknown outcome as a debt of its set, for as long as its record."""
        if call.pid != PID:
            return
        now = time.monotonic()
        call.lost_at = now
        for debt in [debt for debt in self.debts if now - debt.lost_at > RECORD_LIFE]:
            self.paid(debt)
        call.payers = []
        if call not in self.debts:
            self.debts.append(call)

    def paid(self, debt: Call) -> None:
        """Note that a call is no debt, or no more."""
        _removed(self.debts, debt)

    def leave(self, debt: Call, payer: Payer) -> None:
        """Let others pay a debt that could not be paid."""
        _removed(debt.payers, ref(payer))

    def received(self, call: Call) -> None:
        """Take back the session of a call whose reply was received."""
        self.idle.extend(self.sessions_of([call]))

    def sessions_of(self, received: list[Any]) -> list[Session]:
        """The sessions that can make further calls once the replies to these were received."""
        sessions = []
        for call in received:
            # Another process may send a call again that was sent more than once: its session makes no further call.
            if isinstance(call, Call) and not call.shared and call.pid == PID:
                if call.is_large:
                    self.large[call.key] = call
                sessions.append(call.session)
        return sessions

    def _takes(self, payer: Payer, debt: Call) -> bool:
        """Whether nobody else pays a debt. It stays one until it is paid."""
        debt.payers.append(ref(payer))
        there = (found for each in debt.payers if (found := each()) is not None and not found.has_gone)
        if next(there, None) is payer and debt in self.debts:
            return True
        self.leave(debt, payer)
        return False

    def _take_debt(self, name: bytes, payer: Payer, *, claim: bool) -> Call | None:
        """A debt of the set that the next call pays by itself, or None."""
        for debt in self.debts[:]:
            mine = debt.name == name and (debt.roll_back is not None) == claim and debt.is_plain
            if mine and self._takes(payer, debt):
                return debt
        return None

    def take_debt_to_roll_back(self, name: bytes, payer: Payer, *, plain: bool = False) -> Call | None:
        """The debt of a claim that the next claim cannot pay by itself, or None.

        It rolls back one claim, as a whole, and reports nothing of its reply.

        :param plain: whether it pays none at all.
        """
        debts = [debt for debt in self.debts if debt.name == name and debt.roll_back is not None]
        for debt in debts:
            if (plain or len(debts) > 1 or not debt.is_plain) and self._takes(payer, debt):
                return debt
        return None

    def take_claim_to_pay(self, name: bytes, payer: Payer) -> Call | None:
        """The debt of a claim of the set, or None."""
        for debt in self.debts[:]:
            if debt.name == name and debt.roll_back is not None and self._takes(payer, debt):
                return debt
        return None

    def owes_claims(self, name: bytes) -> bool:
        """Whether there are debts of claims of the set, those included that others are paying."""
        return any(debt.name == name and debt.roll_back is not None for debt in self.debts)

    def take_large(self, name: bytes | None = None) -> Call | None:
        """Remove and return a large received claim, or None. Its session is then nobody else's.

        :param name: only one of this set, and whose record the next call would not replace.
        """
        for key, call in list(self.large.items()):
            session = call.session
            if name is not None and (call.name != name or (self.idle and self.idle[-1] is session)):
                continue
            if _removed(self.idle, session):
                if self.large.pop(key, None) is call:
                    return call
                self.idle.append(session)
        return None

    def forget(self) -> None:
        """Drop all sessions and debts: after a fork they are the parent's."""
        self.idle.clear()
        self.debts.clear()
        self.large.clear()
        self.emptier = None


def takes_much(rows: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether the record of such a reply takes more than 16 KB, by a sample of what it holds."""
    step = len(rows) // 32 | 1
    return step * (sum(map(len, rows[::step])) + sum(map(len, filter(None, values[::step])))) > LARGE


def _removed(calls: list[Any], one: Any) -> bool:
    """Remove one from a list. False if another thread did."""
    try:
        calls.remove(one)
    except ValueError:
        return False
    return True


_states: "WeakSet[ClientState]" = WeakSet()
_by_client: "WeakKeyDictionary[Any, ClientState]" = WeakKeyDictionary()


def state_of(client: Any) -> ClientState:
    """What is kept for this client; a new one each time for a client that cannot be told apart from others."""
    try:
        return _by_client.get(client) or _by_client.setdefault(client, ClientState())
    except TypeError:
        return ClientState()


def _forget_all() -> None:
    global PID  # noqa: PLW0603 # there is one process
    PID = os.getpid()
    for state in list(_states):
        state.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
