"""The pause and the limits of a set: how they are set, and how they are read."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Generic, TypeVar

from redset.core.definition import Definition
from redset.core.operations import Operation
from redset.core.times import Duration, Moment, is_number, moment, seconds

__all__ = ("NO_END", "Gates", "Limits", "checked_count", "end_of_pause", "read_gates")

T = TypeVar("T")

#: A pause without an end, as the scripts have it.
NO_END = "-1"
#: Whole numbers up to here are exact in a script.
LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a set, as ``limit`` has set them; None where there is none."""

    #: The number of items that all claims together can have in ``per`` seconds, on average.
    rate: float | None
    per: float
    #: The number of items that they can have at once, after a rest.
    burst: int | None
    #: The number of leases at a time.
    leases: int | None
    #: The number of items that wait, are leased or delayed.
    maxsize: int | None


class Gates(Generic[T]):
    """The operations of one set that hold up its claims and bound its size."""

    __slots__ = ("_limit",)

    def __init__(self, definition: Definition[T]) -> None:
        self._limit = definition.script("limit")

    def pause(self, until: Moment | None) -> Operation[None]:
        # A pause that ended in 1969 is as good as one that ended in 1970, and -1 stands for no end.
        ends_at = NO_END if until is None else repr(max(0.0, end_of_pause(until)))
        return self._operation("pause", ends_at)

    def resume(self) -> Operation[None]:
        return self._operation("resume")

    def limit(
        self, rate: float | None, per: Duration, burst: int | None, leases: int | None, maxsize: int | None
    ) -> Operation[None]:
        """Replace all limits."""
        number = None if rate is None else _rate(rate)
        span = seconds(per, "per", positive=True)
        if number is None and burst is not None:
            raise ValueError(f"burst must come with a rate, and burst={burst!r} was given without one")
        if number is None and span != 1.0:
            raise ValueError(f"per must come with a rate, and per={per!r} was given without one")
        if number is not None and not 0 < number / span < math.inf:
            raise ValueError(f"rate / per must be a finite number above 0, not {rate!r} / {per!r}")
        most = 0 if number is None else 1 if burst is None else checked_count(burst, "burst")
        return self._operation(
            "limit",
            "0" if number is None else repr(number),
            "1" if number is None else repr(span),
            str(most),
            str(checked_count(leases, "leases")),
            str(checked_count(maxsize, "maxsize")),
        )

    def _operation(self, *args: str) -> Operation[None]:
        return Operation(*self._limit, args, lambda reply: None, recorded=True)


def end_of_pause(until: Moment) -> float:
    """Return the end of a pause as a float of seconds since the epoch.

    :raises TypeError: ``until`` is no int, float or datetime.
    :raises ValueError: it is NaN or infinite, or a naive datetime.
    """
    number = moment(until, "until")
    if not math.isfinite(number):
        raise ValueError(f"until must be a finite number of seconds since the epoch, not {until!r}")
    return number


def read_gates(gate: bytes, maxsize: bytes, now: float) -> tuple[float | None, Limits | None]:
    """Return the end of the pause, and the limits, from the fields of these names; empty if there is none."""
    try:
        _, _, paused_until, rate, per, burst, leases = map(float, gate.split())
    except ValueError:
        # Without a gate; or another program has written something else there, which holds up no claim.
        paused_until, rate, per, burst, leases = (0.0, 0.0, 1.0, 0.0, 0.0)
    size = int(maxsize) if maxsize.isdigit() else None
    end = math.inf if paused_until < 0 else paused_until if paused_until > now else None
    if not (rate or leases or size):
        return end, None
    return end, Limits(
        rate=rate or None,
        per=per if rate else 1.0,
        burst=int(burst) if rate else None,
        leases=int(leases) or None,
        maxsize=size,
    )


def _rate(value: Any) -> float:
    if not is_number(value):
        raise TypeError(f"rate must be a number of items, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 < number < math.inf:
        raise ValueError(f"rate must be a finite number above 0, not {value!r}")
    return number


def checked_count(value: Any, what: str, *, none: str = "None for no limit") -> int:
    """Return a limit as the scripts take it: 0 for None.

    :param none: what None means, for errors; empty: None is not allowed.
    """
    if value is None and none:
        return 0
    is_whole = isinstance(value, Integral) and is_number(value)
    if not is_whole:
        raise TypeError(f"{what} must be {'an int or None' if none else 'an int'}, not {value!r}")
    if not 1 <= value <= LARGEST:
        choice = f", or {none}," if none else ","
        raise ValueError(f"{what} must be at least 1 and at most 2**53{choice} not {value!r}")
    return int(value)
