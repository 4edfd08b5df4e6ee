"""Timers of Scrapy's event loop, whichever that is."""

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.task import LoopingCall

__all__ = ("call_later", "looping_call")


def looping_call(call: Callable[[], None]) -> Any:
    """Return a call that is repeated, once it is started."""
    try:
        from scrapy.utils.asyncio import create_looping_call
    except ImportError:
        # Scrapy 2.13 always has a reactor of Twisted.
        return LoopingCall(call)
    return create_looping_call(call)


def call_later(seconds: float, call: Callable[[], None]) -> None:
    """Call once, later."""
    try:
        from scrapy.utils.asyncio import call_later as later
    except ImportError:
        from twisted.internet import reactor

        cast("Any", reactor).callLater(seconds, call)
    else:
        later(seconds, call)
