"""Calls that the client library is not to try again by itself.

A call that waits tries again by itself, until its time is over or it is told to stop. A retry policy of the client at
work within it would make it late by many seconds.
"""

from contextvars import ContextVar

__all__ = ("tries_once",)

#: Whether each command is tried once only, at the moment.
tries_once: ContextVar[bool] = ContextVar("redset_tries_once", default=False)
