"""Scores and ranks: checked, written for the server, and read back."""

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from operator import index
from typing import Any

from redset.core.callables import called
from redset.core.shown import shown
from redset.core.times import Moment, is_number, timestamp

__all__ = ("rank", "ranks", "read_score", "written_bounds", "written_score", "written_scores")

#: More than the items of any sorted set, and few enough digits for a script.
BEYOND = 2**40


def written_score(score: Any, item: Any, what: str = "") -> str:
    """Return ``score`` as the server reads it, exact to the last bit.

    :param what: what it is, for errors. Default: the score of the item.
    :raises TypeError: it is no int, float or datetime.
    :raises ValueError: it is NaN, an int beyond the largest float, or a naive datetime.
    """
    if type(score) is float and not math.isnan(score):
        return repr(score)
    if isinstance(score, datetime):
        return repr(timestamp(score, what or f"the score of {shown(item)}"))
    if not is_number(score):
        what = what or f"the score of {shown(item)}"
        raise TypeError(f"{what} must be an int, a float or an aware datetime, not {shown(score)}")
    try:
        number = called(float, score, "the score")
    except OverflowError:
        what = what or f"the score of {shown(item)}"
        raise ValueError(f"{what} is too large for a float: {shown(score)}") from None
    if math.isnan(number):
        what = what or f"the score of {shown(item)}"
        raise ValueError(f"{what} is not a number: {shown(score)}")
    return repr(number)


def written_scores(scores: Sequence[Any], items: Sequence[Any]) -> list[str]:
    """Like :func:`written_score` for many, several times as fast if the scores are plain numbers."""
    types = set(map(type, scores))
    if scores and types <= {int, float}:
        if scores[0] == scores[-1] and len(set(scores)) == 1:
            return [written_score(scores[0], items[0])] * len(scores)
        with suppress(OverflowError):
            written = list(map(repr, map(float, scores) if int in types else scores))
            if "nan" not in written:
                return written
    return [written_score(score, item) for score, item in zip(scores, items, strict=True)]


def written_bounds(
    lowest: Moment | None, highest: Moment | None, inclusive: tuple[bool, bool] = (True, True)
) -> tuple[str, str]:
    """Return bounds of scores as the server reads them.

    :raises TypeError: one is no number, or ``inclusive`` no pair.
    :raises ValueError: one is NaN.
    """
    includes_lowest, includes_highest = inclusive
    low = "-inf" if lowest is None else ("" if includes_lowest else "(") + written_score(lowest, None, "min")
    high = "inf" if highest is None else ("" if includes_highest else "(") + written_score(highest, None, "max")
    return low, high


def read_score(score: Any) -> float | None:
    """Return the score in a reply: bytes or str (RESP2), a float (RESP3), or None if there is no such item."""
    return None if score is None else float(score)


def ranks(start: int | None, stop: int | None) -> tuple[str, str]:
    """Return the first and the last rank of ``[start:stop]`` as ZRANGE counts them: the last one is included."""
    if stop == 0:
        return "1", "0"
    return rank(0 if start is None else start), rank(-1 if stop is None else index(stop) - 1)


def rank(position: int) -> str:
    """Return a position as the server takes it, limited to a number that is beyond every sorted set."""
    return str(max(-BEYOND, min(index(position), BEYOND)))
