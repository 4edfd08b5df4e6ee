"""Emptying the large records of received claims, a second later, if no other call has done so.

Otherwise a process that drained a full server and then idles would keep it full for as long as a record lives.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from redset.core.calls import Call, ClientState

__all__ = ("IDLE", "begin_thread", "seconds_left")

#: Seconds after a large claim.
IDLE = 1.0


def seconds_left(state: ClientState) -> float:
    """Return the seconds until records are to be emptied."""
    return state.large_at + IDLE - time.monotonic()


def begin_thread(state: ClientState, empty: Callable[[Call], Any]) -> None:
    """Start a thread that empties the records, unless there is one. It ends when it has found none for a second."""
    if state.emptier is None or not state.emptier.is_alive():
        state.emptier = threading.Thread(target=_empty_all, args=(state, empty), name="redset records", daemon=True)
        state.emptier.start()


def _empty_all(state: ClientState, empty: Callable[[Call], Any]) -> None:
    while (left := seconds_left(state)) > 0:
        time.sleep(left)
        if seconds_left(state) > 0:
            continue
        try:
            while (large := state.take_large()) is not None:
                empty(large)
        except Exception:
            # During an outage: the next call on the set empties the record, or it expires.
            return
