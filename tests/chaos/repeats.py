"""How often the clients of this process have sent a command again, which is all they tell of it."""

import asyncio
import sys
from collections import Counter
from importlib import import_module
from typing import Any

__all__ = ("TIMES", "cut", "cuts", "repeating", "seen")

#: How often what failed is sent again: as often as redis-py does by default, and once, so that some of it is given up
#: which the server has done.
TIMES = {"redis": 10, "valkey": 1}

_seen: Counter[str] = Counter()


def seen() -> int:
    """How many failures there were, each of which a client may have repeated its command after."""
    return _seen["failures"]


def cut(set: str) -> None:
    """Note that a call on a set over shards went on without a shard that failed."""
    _seen[f"cuts of {set}"] += 1


def cuts(set: str) -> int:
    """How often that was."""
    return _seen[f"cuts of {set}"]


def repeating(library: str, *, awaited: bool) -> dict[str, Any]:
    """Options of a client that repeats what failed as often as redis-py does by default, but after shorter pauses."""
    retry = import_module(f"{library}.asyncio.retry" if awaited else f"{library}.retry")
    pause = import_module(f"{library}.backoff").FullJitterBackoff(cap=0.3, base=0.01)
    exceptions = import_module(f"{library}.exceptions")
    _count_failures(import_module(f"{library}.asyncio.connection" if awaited else f"{library}.connection"))
    errors = [exceptions.ConnectionError, exceptions.TimeoutError]
    return {"retry": retry.Retry(pause, TIMES[library]), "retry_on_error": errors, "socket_timeout": 5}


def _count_failures(module: Any) -> None:
    """Count the connections that are closed because of an error: some cluster clients repeat without their `retry`."""
    disconnect = module.AbstractConnection.disconnect

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(sys.exc_info()[1], (asyncio.CancelledError, type(None))):
            _seen["failures"] += 1
        return disconnect(self, *args, **options)

    module.AbstractConnection.disconnect = counting
