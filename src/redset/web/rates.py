"""What happened in each minute of the last hour. No I/O."""

from collections.abc import Sequence
from itertools import pairwise

from redset.core.inspecting import Sample, Totals

__all__ = ("CLAIMS", "FAILURES", "MINUTES", "SAMPLES_FRESH", "rates")

#: The number of minutes that a chart shows.
MINUTES = 60

#: Seconds for which the samples of a set are kept: a new one comes each minute.
SAMPLES_FRESH = 20.0

#: The totals whose sum is the number of claims, and of failures.
CLAIMS = ("taken", "leased")
FAILURES = ("nacked", "expired", "died")


def rates(samples: Sequence[Sample], totals: Totals, names: Sequence[str], now: float) -> list[float]:
    """Return the increase of some totals in each of the last 60 minutes, per minute.

    The samples are those of minutes with a claim. The increase between two of them is spread over the time between.

    :param totals: those of now.
    """
    per_minute = [0.0] * MINUTES
    points = [(sample.at, sum(getattr(sample.totals, name) for name in names)) for sample in samples]
    if points and points[-1][0] < now:
        points.append((now, sum(getattr(totals, name) for name in names)))
    for (begin, before), (end, after) in pairwise(points):
        grown, span = max(0, after - before), max(end - begin, 1e-9)
        first, last = (int(MINUTES - (now - at) / 60) for at in (begin, end))
        for minute in range(max(0, first), min(last, MINUTES - 1) + 1):
            opens = now - 60 * (MINUTES - minute)
            share = (min(end, opens + 60) - max(begin, opens)) / span
            per_minute[minute] += grown * max(0.0, share)
    if points:
        # Nothing is known of the time before the first sample: its minute is taken to be like the rest of it.
        first = int(MINUTES - (now - points[0][0]) / 60)
        known = 1 - (points[0][0] - (now - 60 * (MINUTES - first))) / 60
        if 0 <= first < MINUTES - 1 and known > 0:
            per_minute[first] /= known
    return per_minute
