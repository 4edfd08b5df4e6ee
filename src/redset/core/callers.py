"""Calls that may be sent twice: who makes them, and under which number. The protocol is told in docs/protocol.md.

A client library repeats a command whose reply was lost. So every call that changes something says which caller makes it
and that caller's number for it, and the server keeps each caller's last reply. A caller makes one call at a time; a
process has as many of them, for each client and set name, as it ever made calls at once.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from redset.core.operations import Operation
    from redset.core.sharing import Gathering

__all__ = ("Caller", "Callers", "Gatherings", "Turns", "callers_of")


Turns: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]"
Gatherings: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, Gathering]"


class Caller:
    """One sequence of calls."""

    __slots__ = ("key", "number", "owes", "seen")

    def __init__(self, prefix: bytes) -> None:
        #: The key of its record.
        self.key = prefix + os.urandom(8).hex().encode()
        #: The number of its last call.
        self.number = 0
        #: The number of the last call whose reply it has seen, or whose outcome changes nothing for it.
        self.seen = 0
        #: What puts back a part of its last hand-out, under its number. Until that is answered it makes no other call:
        #: the rest was received.
        self.owes: Operation[Any] | None = None


class Callers:
    """The callers of one set's name on one client, shared by all sets of that name in this process."""

    def __init__(self, prefix: bytes, *, recording: bool) -> None:
        #: Whether calls are numbered and recorded at all.
        self.recording = recording
        self._prefix = prefix
        self._idle: deque[Caller] = deque()
        #: Takes back callers whose last reply was seen: what it handed out has reached its taker. One step, in C, so
        #: that an interrupt falls before it or after it.
        self.accept: Callable[[list[Caller]], None] = self._idle.extend
        self._unseen: deque[Caller] = deque()
        self._unsettled: deque[Caller] = deque()
        #: Who may listen for all that wait in an event loop.
        self.turns: Turns = WeakKeyDictionary()
        #: What gathers in an event loop to go out together.
        self.gatherings: Gatherings = WeakKeyDictionary()
        _pools.add(self)

    def lend(self, *, hands_out: bool) -> Caller:
        """A caller for one call.

        First one whose last call nobody saw the end of, so that this one outdates it, should it be under way still. One
        whose last hand-out was not seen is for a hand-out, which puts that back.
        """
        if hands_out and (caller := _pop(self._unsettled)):
            return caller
        caller = _pop(self._unseen) or _pop(self._idle) or Caller(self._prefix)
        caller.seen = caller.number
        return caller

    def to_settle(self) -> Caller | None:
        """A caller whose last hand-out must be put back before there is another, which does that itself for one."""
        if self._unsettled and (len(self._unsettled) > 1 or any(caller.owes for caller in tuple(self._unsettled))):
            return _pop(self._unsettled)
        return None

    def leave_unseen(self, caller: Caller) -> None:
        """Takes back a caller that does not know whether its last call, no hand-out, was executed."""
        self._unseen.append(caller)

    def leave_unsettled(self, callers: list[Caller]) -> None:
        """Takes back callers that do not know what their last hand-out took."""
        self._unsettled.extend(callers)

    def forget(self) -> None:
        """Drops all callers: after a fork they are the parent's."""
        for callers in (self._idle, self._unseen, self._unsettled):
            callers.clear()


def _pop(callers: deque[Caller]) -> Caller | None:
    """The last one, if any; another thread may take it first."""
    try:
        return callers.pop() if callers else None
    except IndexError:
        return None


_pools: "WeakSet[Callers]" = WeakSet()
_by_client: "WeakKeyDictionary[Any, dict[tuple[bytes, bool], Callers]]" = WeakKeyDictionary()


def callers_of(client: Any, prefix: bytes, *, recording: bool = True) -> Callers:
    """The callers of the set with this key prefix on this client; its own for a client that cannot be told apart."""
    try:
        pools = _by_client.setdefault(client, {})
    except TypeError:
        pools = {}
    return pools.setdefault((prefix, recording), Callers(prefix, recording=recording))


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
