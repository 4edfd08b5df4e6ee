"""Calls that may be sent twice: who makes them, and under which number. The protocol is told in docs/protocol.md.

A client library repeats a command whose reply was lost. So every call that changes something says which caller makes it
and that caller's number for it, and the server keeps each caller's last reply. A caller makes one call at a time; a
process has as many of them, for each client and set name, as it ever made calls at once.
"""

import asyncio
import os
from collections import deque
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

__all__ = ("Caller", "Callers", "Turns", "callers_of")


Turns: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]"


class Caller:
    """One sequence of calls."""

    __slots__ = ("key", "number", "seen")

    def __init__(self, prefix: bytes) -> None:
        #: The key of its record.
        self.key = prefix + os.urandom(8).hex().encode()
        #: The number of its last call.
        self.number = 0
        #: The number of the last call whose reply it has seen.
        self.seen = 0


class Callers:
    """The callers of one set's name on one client, shared by all sets of that name in this process."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._idle: deque[Caller] = deque()
        self._unsettled: deque[Caller] = deque()
        #: Who may listen for all that wait in an event loop.
        self.turns: Turns = WeakKeyDictionary()
        _pools.add(self)

    def lend(self, *, hands_out: bool) -> Caller:
        """A caller for one call. For a hand-out, first one whose last hand-out was not seen: this call puts it back."""
        try:
            return self._unsettled.pop() if hands_out and self._unsettled else self._idle.pop()
        except IndexError:
            # Another thread may have been faster.
            return Caller(self._prefix)

    def take_back(self, caller: Caller) -> None:
        """Returns a caller whose last reply was seen, or whose repetition would change nothing."""
        self._idle.append(caller)

    def take_back_unsettled(self, caller: Caller) -> None:
        """Returns a caller that does not know what its last hand-out took."""
        self._unsettled.append(caller)

    def forget(self) -> None:
        """Drops all callers: after a fork they are the parent's."""
        self._idle = deque()
        self._unsettled = deque()


_pools: "WeakSet[Callers]" = WeakSet()
_by_client: "WeakKeyDictionary[Any, dict[bytes, Callers]]" = WeakKeyDictionary()


def callers_of(client: Any, prefix: bytes) -> Callers:
    """The callers of the set with this key prefix on this client; its own for a client that cannot be told apart."""
    try:
        return _by_client.setdefault(client, {}).setdefault(prefix, Callers(prefix))
    except TypeError:
        return Callers(prefix)


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
