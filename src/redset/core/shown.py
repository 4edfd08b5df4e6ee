"""How items and errors are shown: texts that never raise, even if a ``repr`` or ``str`` does, and short tracebacks."""

from dataclasses import fields
from typing import Any

from redset.core.interruptions import is_interruption

__all__ = ("checked_flag", "described", "shorten", "shown", "shown_fields")


def shown(thing: Any) -> str:
    """Return the ``repr`` of ``thing``; if that raises, its class and that of the error."""
    try:
        return repr(thing)
    except Exception as error:
        if is_interruption(error):
            raise
        return f"<{type(thing).__name__} whose repr raises {type(error).__name__}>"


def shown_fields(thing: Any) -> str:
    """Return what the ``repr`` of a dataclass is, by :func:`shown` of each field."""
    texts = (f"{each.name}={shown(getattr(thing, each.name))}" for each in fields(thing))
    return f"{type(thing).__name__}({', '.join(texts)})"


def described(error: BaseException) -> str:
    """Return ``error`` like the last line of a traceback: its class, and its message if that does not raise."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as trouble:
        if is_interruption(trouble):
            raise
        return type(error).__name__


def checked_flag(value: Any, what: str) -> bool:
    """Return ``value``.

    :param what: the name of the parameter, for errors.
    :raises TypeError: it is no bool.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {shown(value)}")
    return value


def shorten(error: BaseException, module: str) -> None:
    """Remove the first frames of a traceback, up to the last one of a module: the way through a plan.

    Keeps all frames from the first one of another package on: a callable of the user's may itself call redset.
    """
    package = module.partition(".")[0]
    found = error.__traceback__
    while found is not None and found.tb_next is not None:
        name = str(found.tb_frame.f_globals.get("__name__"))
        if name.partition(".")[0] != package:
            return
        if name == module:
            error.__traceback__ = found.tb_next
        found = found.tb_next
