"""Calls that the client library must not retry by itself.

A call that waits retries by itself, until its time has passed or it has to stop. A retry policy of the client inside it
would delay it by many seconds.
"""

from contextvars import ContextVar

__all__ = ("tries_once",)

#: Whether each command of this context is tried once.
tries_once: ContextVar[bool] = ContextVar("redset_tries_once", default=False)
