"""Emptying the large records of received claims, so that draining a full server frees its memory.

The next call on the set does it, or a second later a thread or a task, since an idle process would otherwise keep the
server full for as long as a record lives.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redset.core import calls
from redset.core.calls import Call, ClientState, removed
from redset.core.sending import words_of
from redset.core.talking import Caller, Talk, exchange

__all__ = ("IDLE", "begin_thread", "empty", "empty_records", "seconds_left", "take_large")

#: Seconds after a large claim.
IDLE = 1.0


def empty_records(caller: Caller) -> Talk[None]:
    """Before a call: empty the large records of received claims of the set."""
    while (large := take_large(caller.state, caller.prefix)) is not None:
        yield from empty(large, caller)


def take_large(state: ClientState, name: bytes | None = None) -> Call | None:
    """Remove and return a received claim with a large record, or None. Only the caller then has its session.

    :param name: only a claim of this set whose record the next call would not replace.
    """
    for key, call in list(state.large.items()):
        session = call.session
        if name is not None and (call.name != name or (state.idle and state.idle[-1] is session)):
            continue
        if removed(state.idle, session):
            if state.large.pop(key, None) is call:
                return call
            state.idle.append(session)
    return None


def empty(large: Call, caller: Caller) -> Talk[None]:
    """Empty the record of a received claim, by a call under the next number that claims nothing."""
    session = large.session
    assert large.roll_back is not None
    operation = large.roll_back(None)
    session.number += 1
    numbers = f"{session.number:016d}", f"{large.number:016d}"
    try:
        yield from exchange(operation, words_of(operation, (large.key,), numbers), caller)
    except BaseException:
        caller.state.large[large.key] = large
        raise
    finally:
        if large.pid == calls.PID:
            caller.state.idle.append(session)


def seconds_left(state: ClientState) -> float:
    """Return the seconds until records are to be emptied."""
    return state.large_at + IDLE - time.monotonic()


def begin_thread(state: ClientState, empty: Callable[[Call], Any]) -> None:
    """Start a thread that empties the records, unless there is one. It ends when it has found none for a second."""
    if state.emptier is None or not state.emptier.is_alive():
        state.emptier = threading.Thread(target=_empty_all, args=(state, empty), name="redset records", daemon=True)
        # At the end of a program, or at the limit of the system, no thread can be started.
        with suppress(RuntimeError):
            state.emptier.start()


def _empty_all(state: ClientState, empty: Callable[[Call], Any]) -> None:
    while (left := seconds_left(state)) > 0:
        time.sleep(left)
        if seconds_left(state) > 0:
            continue
        try:
            while (large := take_large(state)) is not None:
                empty(large)
        except Exception:
            # During an outage: the next call on the set empties the record, or it expires.
            return
