"""What is said of an item or of an error, whatever its ``repr`` or ``str`` does."""

from typing import Any

from redset.core.interruptions import is_interruption

__all__ = ("described", "shown")


def shown(thing: Any) -> str:
    """The ``repr`` of ``thing``; where that raises, what kind of thing it is and what was raised."""
    try:
        return repr(thing)
    except Exception as error:
        if is_interruption(error):
            raise
        return f"<{type(thing).__name__} whose repr raises {type(error).__name__}>"


def described(error: BaseException) -> str:
    """``error`` as the last line of a traceback has it: its class, and what it says if it can say that."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as trouble:
        if is_interruption(trouble):
            raise
        return type(error).__name__
