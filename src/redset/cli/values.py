"""The values of options: durations, moments, scores and paths into JSON. No I/O."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redset.cli.exits import Failure

__all__ = ("JsonPath", "duration", "moment", "number", "score_or_path")

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = r"(\d+(?:\.\d+)?)(ms|[smhdw])"
_PATH = re.compile(r"\.[A-Za-z_]\w*(\.\w+)*", re.ASCII)


def duration(written: str, option: str) -> float:
    """Return the seconds of ``90``, ``1.5``, ``30s``, ``1h30m``, ``7d``.

    :raises Failure: it is none of these.

    >>> duration("1h30m", "--ttl")
    5400.0
    """
    if re.fullmatch(f"({_PART})+", written):
        return float(sum(float(count) * _UNITS[unit] for count, unit in re.findall(_PART, written)))
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", written):
        return float(written)
    raise Failure(f"{option} takes seconds, or a duration like 30s, 1h30m or 7d, not {written!r}")


def moment(written: str, option: str) -> float:
    """Return a moment in seconds since the epoch: given as such, or in ISO 8601, in local time without a zone.

    :raises Failure: it is none of these.
    """
    try:
        return float(written)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(written).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise Failure(
            f"{option} takes seconds since the epoch, or a time like 2030-01-31T12:00, not {written!r}"
        ) from None


def number(written: str | bytes) -> float | None:
    """Return a score, or None if it is no number."""
    try:
        score = float(written)
    except ValueError:
        return None
    return None if math.isnan(score) else score


@dataclass(frozen=True)
class JsonPath:
    """A path to a field of a JSON object: ``.id``, ``.page.url``."""

    names: tuple[str, ...]

    @classmethod
    def read(cls, written: str, option: str) -> "JsonPath":
        """
        :raises Failure: it is no path.
        """
        if not _PATH.fullmatch(written):
            raise Failure(f"{option} takes the path of a field, like .id or .page.url, not {written!r}")
        return cls(tuple(written[1:].split(".")))

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)

    def of(self, document: Any) -> Any:
        """Return the field, or None if it is not there."""
        for name in self.names:
            document = document.get(name) if isinstance(document, dict) else None
        return document


def score_or_path(written: str) -> float | JsonPath:
    """Return the number of ``--score 5`` or ``--score .5``, or the path of ``--score .priority``."""
    score = number(written)
    if score is not None:
        return score
    if not written.startswith("."):
        raise Failure(f"--score takes a number, or the path of a field, like .priority, not {written!r}")
    return JsonPath.read(written, "--score")
