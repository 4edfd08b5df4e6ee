"""The client library's retries within the calls of redset: how they are kept from adding up.

A call that waits tries again by itself, until its time is over or it is told to stop. A retry policy of the client at
work within it, or within another one, would make it late by many seconds: 10 times 10 retries where a call reconnects.
"""

import copy
from collections.abc import Awaitable
from contextvars import ContextVar
from functools import cache
from inspect import isawaitable
from typing import Any

__all__ = ("bounded", "bounding", "tries_once")

#: Whether each call is tried once only, at the moment.
tries_once: ContextVar[bool] = ContextVar("redset_tries_once", default=False)


def bounded(retry: Any) -> Any:
    """The same policy, but for calls that are tried once, and within another one."""
    kind = type(retry)
    if retry is None or getattr(kind, "is_bounded", False):
        return retry
    copied = copy.copy(retry)
    copied.__class__ = bounding(kind)  # type: ignore[arg-type] # classes are hashable
    return copied


@cache
def bounding(base: type[Any]) -> type[Any]:
    """A class of retry policies that are bounded."""

    class Bounded(base):  # type: ignore[misc]
        # As the base is laid out, so that a copy of its instance can become one of this class.
        __slots__ = ()
        is_bounded = True

        def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
            if tries_once.get():

                def failed(error: Exception, *count: int) -> Any:
                    outcome = fail(error, *count)
                    if isawaitable(outcome):
                        return _then_raise(outcome, error)
                    raise error

                return super().call_with_retry(do, failed, *arguments, **options)
            tries_once.set(True)
            try:
                outcome = super().call_with_retry(do, fail, *arguments, **options)
            finally:
                tries_once.set(False)
            return _within(outcome) if isawaitable(outcome) else outcome

    Bounded.__name__ = Bounded.__qualname__ = base.__name__
    return Bounded


async def _then_raise(outcome: Awaitable[Any], error: Exception) -> None:
    await outcome
    raise error


async def _within(outcome: Awaitable[Any]) -> Any:
    tries_once.set(True)
    try:
        return await outcome
    finally:
        tries_once.set(False)
