"""Telling an interruption from an error: Ctrl-C, a cancellation, the time limit of a job."""

import signal
import sys
from functools import partial
from types import CodeType, FrameType
from typing import Any

__all__ = ("is_interruption",)

#: Without the look-up of an enumeration, which takes nine tenths of the time.
_getsignal = getattr(sys.modules.get("_signal"), "getsignal", signal.getsignal)

_NUMBERS = tuple(map(int, signal.valid_signals()))


def is_interruption(error: BaseException) -> bool:
    """Whether ``error`` came from outside the code that it interrupted. Costs microseconds; for error paths only.

    An interruption is any BaseException that is no Exception, and whatever a signal handler raised: so Celery's and
    RQ's time limits reach a job. An error that was raised while such an exception was handled counts too, where that
    happened below the caller of this function.
    """
    if not isinstance(error, Exception):
        return True
    handlers = _code_of_handlers()
    seen: set[FrameType] = set()
    met: set[int] = set()
    found: BaseException | None = error
    # The frame that caught an exception comes first in its traceback. One that was caught further up, by a caller's
    # `except`, says nothing about this error.
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
    """The code of each signal handler that is written in Python."""
    found: set[CodeType] = set()
    errors: list[Exception] = []
    for number in _NUMBERS:
        # A handler may be any object, with attributes that raise errors. But the error may also be an interruption of
        # this function, which is then called again.
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
    # SIG_DFL, SIG_IGN, or None for one that Python has not installed. That of Ctrl-C raises no Exception.
    return _code(handler) if callable(handler) and not isinstance(handler, signal.Handlers) else set()


def _code(handler: Any) -> set[CodeType]:
    while isinstance(handler, partial):
        handler = handler.func
    handler = getattr(handler, "__func__", handler)
    code = getattr(handler, "__code__", None)
    if code is None:
        # An object that is called: what its class does then.
        call = type(handler).__call__
        code = getattr(getattr(call, "__func__", call), "__code__", None)
    return {code} if isinstance(code, CodeType) else set()
