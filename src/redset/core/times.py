"""Durations and moments as users write them: the one place where they become seconds."""

import math
from datetime import datetime, timedelta
from numbers import Real
from typing import Any, TypeAlias

__all__ = ("Duration", "Moment", "difference", "is_number", "moment", "seconds", "timestamp")

#: A number of seconds, or a timedelta.
Duration: TypeAlias = float | timedelta
#: Seconds since the epoch, or an aware datetime.
Moment: TypeAlias = float | datetime


def seconds(value: Any, what: str, *, positive: bool = False, most: float = math.inf) -> float:
    """Return a duration as a float of seconds.

    :param value: an int or float of seconds, or a timedelta.
    :param what: the name of the parameter, for errors.
    :param most: the longest duration in seconds that is allowed.
    :raises TypeError: it is none of these.
    :raises ValueError: it is negative, NaN, infinite or too long, or 0 where it must be positive.
    """
    number = _as_float(difference(value, what))
    if not math.isfinite(number) or number < 0 or (positive and number == 0) or number > most:
        least = "more than" if positive else "at least"
        span = "0 seconds and finite" if most == math.inf else f"0 and at most {most:g} seconds"
        raise ValueError(f"{what} must be {least} {span}, not {value!r}")
    return number


def difference(value: Any, what: str) -> Any:
    """Return a difference of two moments, of either sign: a timedelta as a float of seconds, a number as it is.

    :raises TypeError: it is neither.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not is_number(value):
        raise TypeError(f"{what} must be a number of seconds or a timedelta, not {value!r}")
    return value


def moment(value: Any, what: str) -> float:
    """Return a moment as a float of seconds since the epoch; ``inf`` is never.

    :param value: an int or float of seconds since the epoch, or an aware datetime.
    :param what: the name of the parameter, for errors.
    :raises TypeError: it is none of these.
    :raises ValueError: it is NaN or an int beyond the largest float, or the datetime is naive.
    """
    if isinstance(value, datetime):
        return timestamp(value, what)
    if not is_number(value):
        raise TypeError(f"{what} must be a number of seconds since the epoch or an aware datetime, not {value!r}")
    number = _as_float(value)
    if math.isnan(number):
        raise ValueError(f"{what} must be a number of seconds since the epoch, not {value!r}")
    return number


def timestamp(value: datetime, what: str) -> float:
    """Return the seconds from the epoch to an aware datetime.

    :raises ValueError: it is naive: it does not say which moment it is.
    """
    if value.utcoffset() is None:
        raise ValueError(
            f"{what} must be an aware datetime, such as datetime.now(timezone.utc), not the naive {value!r}"
        )
    return value.timestamp()


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a real number. A bool is an int to Python, but none that anybody means."""
    if isinstance(value, (float, int)):
        return not isinstance(value, bool)
    # numpy registers its durations as integers, whatever their unit is.
    return isinstance(value, Real) and getattr(getattr(value, "dtype", None), "kind", "") != "m"


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.nan
