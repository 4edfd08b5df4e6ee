"""Calls that the client library must not retry by itself.

A call that waits retries by itself, until its time has passed or it has to stop. A retry policy of the client inside it
would delay it by many seconds.
"""

from collections.abc import Generator
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ("all_tried_once", "tried_once", "tries_once")

R = TypeVar("R")

#: Whether each command of this context is tried once.
tries_once: ContextVar[bool] = ContextVar("redset_tries_once", default=False)


def tried_once(step: Any) -> Generator[Any, Any, Any]:
    """Perform a step of a plan so that each of its commands is tried once, as in a step that this one is a part of."""
    return all_tried_once(_only(step))


def all_tried_once(steps: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
    """Perform several steps as :func:`tried_once` does one.

    Where several callers take turns, the first that ends sets the client's retries free. If each restored the value
    that it had found, the retries would stay suspended.
    """
    if tries_once.get():
        return (yield from steps)
    tries_once.set(True)
    try:
        return (yield from steps)
    finally:
        tries_once.set(False)


def _only(step: Any) -> Generator[Any, Any, Any]:
    # operations.once is the same, and cannot be imported here: its module needs the clients, and they need this one.
    return (yield step)
