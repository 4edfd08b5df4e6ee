"""Telling interruptions from errors: Ctrl-C, a cancellation, a job's time limit."""

import signal
import sys
from functools import partial
from types import CodeType, FrameType
from typing import Any

__all__ = ("is_interruption",)

#: The function below the one that looks up an enumeration, which takes nine tenths of the time.
_getsignal = getattr(sys.modules.get("_signal"), "getsignal", signal.getsignal)

_NUMBERS = tuple(map(int, signal.valid_signals()))


def is_interruption(error: BaseException) -> bool:
    """Return whether ``error`` came from outside the code that it interrupted.

    Takes microseconds, so it is for error paths only. An interruption is any BaseException that is no Exception, and
    any exception that a signal handler raised: so the time limits of Celery and RQ reach a job. An error raised while
    such an exception was handled counts too, if that happened below the caller of this function.
    """
    if not isinstance(error, Exception):
        return True
    handlers = _code_of_handlers()
    seen: set[FrameType] = set()
    met: set[int] = set()
    found: BaseException | None = error
    # The frame that caught an exception is the first in its traceback. An exception that was caught further up, by a
    # caller's `except`, has nothing to do with this error.
    while handlers and found is not None and id(found) not in met and (frames := _frames(found)):
        if met and frames[0] not in seen:
            return False
        if any(frame.f_code in handlers for frame in frames):
            return True
        met.add(id(found))
        seen.update(frames)
        found = found.__cause__ or found.__context__
    return False


def _frames(error: BaseException) -> list[FrameType]:
    frames, traceback = [], error.__traceback__
    while traceback:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _code_of_handlers() -> set[CodeType]:
    """Return the code of each signal handler that is written in Python."""
    found: set[CodeType] = set()
    errors: list[Exception] = []
    for number in _NUMBERS:
        # A handler may be any object, with attributes that raise. But the error may also be an interruption of this
        # function, which is then called again.
        for _ in range(2):
            try:
                found.update(_code_of_handler(number))
                break
            except Exception as raised:
                errors.append(raised)
    for error in errors:
        if any(frame.f_code in found for frame in _frames(error)):
            raise error
    return found


def _code_of_handler(number: int) -> set[CodeType]:
    handler = _getsignal(number)
    # Skip SIG_DFL, SIG_IGN, and None for one that Python has not installed. That of Ctrl-C raises no Exception.
    return _code(handler) if callable(handler) and not isinstance(handler, signal.Handlers) else set()


def _code(handler: Any) -> set[CodeType]:
    while isinstance(handler, partial):
        handler = handler.func
    handler = getattr(handler, "__func__", handler)
    code = getattr(handler, "__code__", None)
    if code is None:
        # A callable object: the code of its class.
        call = type(handler).__call__
        code = getattr(getattr(call, "__func__", call), "__code__", None)
    return {code} if isinstance(code, CodeType) else set()
