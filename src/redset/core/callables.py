"""Calls of a user's functions.

A StopIteration that one raises would silently end a generator or an iteration, so it becomes a RuntimeError.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from redset.core.shown import shown

__all__ = ("called", "called_each", "called_plainly", "checked_callable")

T = TypeVar("T")
R = TypeVar("R")


def checked_callable(call: Any, what: str, does: str) -> Any:
    """Return ``call``.

    :param what: the name of the parameter, for errors.
    :param does: what it takes and returns, for errors.
    :raises TypeError: it is not callable.
    """
    if not callable(call):
        raise TypeError(f"{what} must be a callable that {does}, not {shown(call)}")
    return call


def called(call: Callable[[T], R], item: T, what: str) -> R:
    """Return the result for one item."""
    try:
        return call(item)
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration for {shown(item)}") from error


def called_plainly(call: Callable[[], R], what: str) -> R:
    """Return the result of a function without parameters."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration") from error


def called_each(call: Callable[[T], R], items: Iterable[T], what: str) -> list[R]:
    """Return the result for each item. ``list(map(call, items))`` would end at a StopIteration."""
    try:
        return [call(item) for item in items]
    except StopIteration as error:
        raise RuntimeError(f"{what} raised StopIteration") from error
