"""Emptying the records of large claims that were received, a second later, where no other call did so.

Without this a process that claimed much and idles then would keep the server full for as long as a record lives.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from redset.core.calls import Call, ClientState

__all__ = ("IDLE", "begin_thread", "seconds_left")

#: How long, in seconds, after a large claim.
IDLE = 1.0


def seconds_left(state: ClientState) -> float:
    """Seconds until records are to be emptied."""
    return state.large_at + IDLE - time.monotonic()


def begin_thread(state: ClientState, empty: Callable[[Call], Any]) -> None:
    """Have a thread empty the records, unless there is one. It ends when it has found nothing for a while."""
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
            # The server is away. The next call of the set empties it, or its end of life does.
            return
