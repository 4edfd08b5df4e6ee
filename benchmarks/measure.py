"""Measuring two ways to the same result in interleaved rounds.

Speeds on a shared machine drift by more than what is to be seen here. So no speed is compared with one of another
run, or of another minute: each round times the bare client and redset one right after the other, taking turns in
going first, and gives one ratio. What is reported is the median of these ratios, and between which values half lie.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ("Comparison", "Result", "Side", "compare", "spread", "time_asyncio", "time_blocking")

#: As many rounds have quartiles; between fewer they would have to be guessed, and beyond two even outside of them.
ENOUGH = 4


@dataclass(frozen=True)
class Side:
    """One way to the result: what to call for each operation, and what is left to do with the reply."""

    #: The key whose items are consumed or looked at, which is filled anew before each sample.
    key: str
    #: Is given one item; on asyncio it returns what is to be awaited.
    call: Callable[[Any], Any]
    #: Turns the reply into what the other side returns, where the call alone does not.
    read: Callable[[Any], Any] | None = None
    #: Makes ready what the calls of a sample need beside that key, untimed; on asyncio a coroutine function.
    before: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Comparison:
    """What one benchmark compares; both sides must give the same result."""

    #: What the bare client does, for the table.
    against: str
    bare: Side
    redset: Side


@dataclass
class Result:
    """The seconds per operation of each round."""

    bare: list[float] = field(default_factory=list)
    redset: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """For each round, the speed of redset where that of the bare client is 1."""
        return [bare / redset for bare, redset in zip(self.bare, self.redset, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def half_between(self) -> tuple[float, float]:
        return spread(self.ratios)

    @property
    def adds(self) -> float:
        """By how much longer redset takes, in the median round."""
        return statistics.median(ours - theirs for theirs, ours in zip(self.bare, self.redset, strict=True))

    def as_line(self, name: str, against: str) -> dict[str, Any]:
        """What is reported of it."""
        low, high = self.half_between
        measured = {"bare": self.bare, "redset": self.redset}
        return {"name": name, "against": against, "ratio": self.ratio, "low": low, "high": high, **measured}

    def as_cells(self) -> tuple[str, ...]:
        """The same for a table, in microseconds: of either side, and what redset adds; the ratio, and its spread."""
        low, high = self.half_between
        bare, redset = statistics.median(self.bare), statistics.median(self.redset)
        times = (f"{bare * 1e6:.1f}", f"{redset * 1e6:.1f}", f"{self.adds * 1e6:+.1f}")
        return (*times, f"{self.ratio:.2f}", f"{low:.2f} .. {high:.2f}")


def spread(rounds: list[float]) -> tuple[float, float]:
    """Between which values half of the rounds lie; all of them, where they are fewer than four."""
    if len(rounds) < ENOUGH:
        return min(rounds), max(rounds)
    low, _, high = statistics.quantiles(rounds, n=4)
    return low, high


def compare(comparison: Comparison, sample: Callable[[Side], float], rounds: int) -> Result:
    """Times both sides in turn, ``rounds`` times.

    :param sample: prepares and times a side, and returns the seconds for one operation.
    """
    result = Result()
    turns = [(comparison.bare, result.bare), (comparison.redset, result.redset)]
    for side, _ in turns:
        sample(side)  # Connects, and makes the server learn the script.
    for _ in range(rounds):
        for side, times in turns:
            times.append(sample(side))
        turns.reverse()
    return result


def time_blocking(side: Side, arguments: Iterable[Any]) -> float:
    """The seconds that the calls take."""
    call, read = side.call, side.read
    with _NoCollection():
        started = time.perf_counter()
        for argument in arguments:
            reply = call(argument)
            if read is not None:
                read(reply)
        return time.perf_counter() - started


async def time_asyncio(side: Side, arguments: Iterable[Any]) -> float:
    """The same in one task, each call awaited before the next."""
    call, read = side.call, side.read
    with _NoCollection():
        started = time.perf_counter()
        for argument in arguments:
            reply = await call(argument)
            if read is not None:
                read(reply)
        return time.perf_counter() - started


class _NoCollection:
    """Keeps the garbage collector from running in the middle of one side's sample, at the cost of that side."""

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()
