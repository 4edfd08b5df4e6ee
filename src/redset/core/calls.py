"""The state of a call that changes something: its states, its number, its call record, and its debt.

A client library sends a command again if the reply was lost. So each such call carries the id of a session and a
number, and the server records the last number and reply of each session. docs/protocol.md describes and proves the
protocol. This module has all of its state in Python, and does no I/O.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from threading import Thread
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary, ref

__all__ = ("LARGE", "PID", "Call", "ClientState", "Payer", "Session", "State", "removed", "state_of", "takes_much")

#: This process. Sessions, debts and leases belong to the process that made them.
PID = os.getpid()

#: Seconds for which the server keeps a record, and for which a debt can be paid.
RECORD_LIFE = 600.0
#: Bytes above which a received reply is removed from its record, so that draining a server frees its memory.
LARGE = 16_384


class State(Enum):
    """The states of a call. :data:`NEXT` is the table of transitions; docs/protocol.md explains it."""

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
    # Not sent yet: a call that is interrupted here is dropped.
    State.NUMBERED: (State.SENT,),
    State.SENT: (State.ANSWERED, State.UNKNOWN),
    # A claim is received when its whole plan returns, any other call at once.
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
    def on_roll_back(self) -> Callable[[bytes], None] | None: ...


class Session:
    """A random id and a counter of calls. It makes one call at a time, for all sets of its client.

    The numbers in one record may have gaps. They only grow, and each is sent after the call before was received or
    given up.
    """

    __slots__ = ("id", "number")

    def __init__(self) -> None:
        self.id = os.urandom(8).hex().encode()
        self.number = 0


class Payer:
    """Marks a debt as being paid while the call that pays it is under way.

    Debts refer to it weakly, so that an interruption before ``has_gone`` is set blocks a debt only while a traceback
    lives.
    """

    __slots__ = ("__weakref__", "has_gone")

    def __init__(self) -> None:
        self.has_gone = False


@dataclass(slots=True, eq=False)
class Call:
    """One call, under the next number of a session."""

    session: Session
    #: The key prefix of its set's records.
    name: bytes
    #: The number of the last call of this record whose outcome is known.
    seen: int
    #: For a claim, returns the operation that rolls it back; None for other calls.
    roll_back: Callable[..., Any] | None
    #: Called with the head of the reply when the claim is rolled back; the head is empty if it was never executed.
    on_roll_back: Callable[[bytes], None] | None
    #: The process that made it. A forked child has no part in it.
    pid: int
    number: int = field(init=False)
    state: State = State.NUMBERED
    #: The positions of the rows to roll back if some rows were received; None: all rows.
    positions: Sequence[int] | None = None
    #: Whether several callers send it, at once or one after a failure. Its state is then that of any of them, and its
    #: session makes no further call.
    shared: bool = False
    #: Whether its record is emptied once it is received.
    is_large: bool = False
    #: The debt that it pays when it is sent, and the payer until then.
    pays: "Call | None" = None
    payer: Payer | None = None
    #: For a debt, the time at which its outcome became unknown, by the monotonic clock.
    lost_at: float = 0.0
    #: For a debt, its payers. The first that lives and has not gone pays it.
    payers: "list[ref[Payer]]" = field(init=False)

    def __post_init__(self) -> None:
        self.session.number = self.number = self.session.number + 1

    @property
    def key(self) -> bytes:
        """The key of its call record."""
        return self.name + self.session.id

    @property
    def is_plain(self) -> bool:
        """Whether another claim can pay its debt: it is rolled back as a whole, and its reply is not needed."""
        return self.positions is None and self.on_roll_back is None

    def become(self, state: State) -> None:
        """Change the state, as :data:`NEXT` allows."""
        before = self.state
        if state in before.next:
            self.state = state
        elif not self.shared:
            # Another caller may have come to share it meanwhile, so this is asked last.
            raise AssertionError(f"a call that is {before.value} cannot become {state.value}")
        elif before is not State.RECEIVED:
            # Each of its callers changes the state; once one has received the reply, the call is received.
            self.state = state

    def lose(self) -> bool:
        """Make its outcome unknown. Return False if it was never sent."""
        if self.state is State.NUMBERED:
            return False
        if self.state is not State.UNKNOWN:
            self.become(State.UNKNOWN)
        self.pays = None
        return True

    def numbers(self) -> tuple[str, str]:
        """Return its number and ``seen`` as the scripts take them."""
        return f"{self.number:016d}", f"{self.seen:016d}"


class ClientState:
    """The state of one client: idle sessions and debts. It has no state per set.

    Each change is a single step in C, so threads need no lock and an interruption comes before or after it.
    """

    def __init__(self) -> None:
        #: Idle sessions, as a stack.
        self.idle: list[Session] = []
        #: Calls with an unknown outcome, of all sets. The next calls on a set pay its debts.
        self.debts: list[Call] = []
        #: Received claims with large records, by the key of the record; and the time of the last reply.
        self.large: dict[bytes, Call] = {}
        self.large_at = 0.0
        #: Whether the server has answered this client before.
        self.contacted = False
        #: The time before which no set is registered, after a failure.
        self.registers_after = 0.0
        #: The thread that empties them; see :mod:`redset.core.emptying`.
        self.emptier: Thread | None = None
        #: Per event loop and set name, while such a set exists: the coalesced calls and the listener of its tasks.
        self.in_loops: WeakValueDictionary[Any, Any] = WeakValueDictionary()
        #: redset's own connections, per event loop on the asyncio face; see :mod:`redset.core.pools`.
        self.links: Any = None
        _states.add(self)

    def call(self, name: bytes, operation: Recorded) -> Call:
        """Return the next call of an idle session."""
        try:
            session = self.idle.pop()
        except IndexError:
            session = Session()
        return Call(session, name, session.number, operation.roll_back, operation.on_roll_back, PID)

    def paying_call(self, name: bytes, operation: Recorded, payer: Payer) -> Call:
        """Return the next call on the set, which pays a debt of the set if it can.

        Only a claim pays the debt of a claim, since only a claim rolls back. Any call makes late copies of other calls
        void. A claim that carries acks pays none: its roll-back must return the head of its own reply, not of the
        debt's.
        """
        debt = None
        if operation.roll_back and operation.on_roll_back is None:
            debt = self._take_debt(name, payer, claim=True)
        if debt is not None:
            seen = debt.seen
        elif (debt := self._take_debt(name, payer, claim=False)) is not None:
            seen = debt.number
        else:
            return self.call(name, operation)
        call = Call(debt.session, name, seen, operation.roll_back, operation.on_roll_back, PID)
        call.pays, call.payer = debt, payer
        return call

    def owe(self, call: Call) -> None:
        """Keep a call with an unknown outcome as a debt of its set, for as long as its record lives."""
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
        """Remove a call from the debts."""
        removed(self.debts, debt)

    def leave(self, debt: Call, payer: Payer) -> None:
        """Let other callers pay a debt that could not be paid."""
        removed(debt.payers, ref(payer))

    def received(self, call: Call) -> None:
        """Return the session of a received call to the idle ones."""
        self.idle.extend(self.sessions_of([call]))

    def sessions_of(self, received: list[Any]) -> list[Session]:
        """Return the sessions of received calls that can make further calls."""
        sessions = []
        for call in received:
            # A shared call may be sent again by another caller, so its session makes no further call.
            if isinstance(call, Call) and not call.shared and call.pid == PID:
                if call.is_large:
                    self.large[call.key] = call
                sessions.append(call.session)
        return sessions

    def take_claim_to_pay(self, name: bytes, payer: Payer) -> Call | None:
        """Return the debt of a claim of the set, or None."""
        return self._first_to_pay(self.owed(name, claims=True), payer)

    def take_debt_to_roll_back(self, name: bytes, payer: Payer, *, plain: bool = False) -> Call | None:
        """Return a claim's debt that must be rolled back before the next claim is sent, or None.

        The next claim pays one debt by itself, as a whole, and learns nothing of its reply.

        :param plain: whether the next claim pays no debt at all.
        """
        debts = self.owed(name, claims=True)
        if not plain and len(debts) == 1:
            debts = [debt for debt in debts if not debt.is_plain]
        return self._first_to_pay(debts, payer)

    def _take_debt(self, name: bytes, payer: Payer, *, claim: bool) -> Call | None:
        """Return a debt of the set that the next call pays by itself, or None."""
        return self._first_to_pay([debt for debt in self.owed(name, claims=claim) if debt.is_plain], payer)

    def owed(self, name: bytes, *, claims: bool) -> list[Call]:
        """Return the debts of a set, also those that others are paying: of claims, or of other calls."""
        return [debt for debt in self.debts[:] if debt.name == name and (debt.roll_back is not None) == claims]

    def _first_to_pay(self, debts: list[Call], payer: Payer) -> Call | None:
        """Return the first of some debts that no other call is paying. It remains a debt until it is paid."""
        for debt in debts:
            debt.payers.append(ref(payer))
            there = (found for each in debt.payers if (found := each()) is not None and not found.has_gone)
            if next(there, None) is payer and debt in self.debts:
                return debt
            self.leave(debt, payer)
        return None

    def forget(self) -> None:
        """Drop all sessions and debts: after a fork they are the parent's."""
        self.idle.clear()
        self.debts.clear()
        self.large.clear()
        self.emptier = None


def takes_much(rows: Sequence[Any], values: Sequence[Any]) -> bool:
    """Return whether the record of such a reply takes more than 16 KB, estimated from a sample of rows."""
    step = len(rows) // 32 | 1
    return step * (sum(map(len, rows[::step])) + sum(map(len, filter(None, values[::step])))) > LARGE


def removed(calls: list[Any], one: Any) -> bool:
    """Remove ``one`` from a list. Return False if another thread has done so."""
    try:
        calls.remove(one)
    except ValueError:
        return False
    return True


_states: "WeakSet[ClientState]" = WeakSet()
_by_client: "WeakKeyDictionary[Any, ClientState]" = WeakKeyDictionary()


def state_of(client: Any) -> ClientState:
    """Return the state of this client; a new one each time for a client that cannot be a key of a dict."""
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
