"""What a set is, as far as its operations need to know."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.scripts import Script, options_of, prepared

__all__ = (
    "PLAIN",
    "SCHEDULED",
    "TIMED",
    "Definition",
    "Duplicates",
    "Kind",
    "exponential_backoff",
    "one_of_duplicates",
    "seconds",
)

T = TypeVar("T")

#: Which score stands when an item that waits is added again: the newest, the first, the lowest or the highest.
Duplicates: TypeAlias = Literal["update", "keep", "earliest", "latest"]


@dataclass(frozen=True)
class Kind:
    """What makes one kind of set differ from another."""

    #: Scores an item that is added without a score to a set without a scorer.
    scorer: Callable[[Any], float]
    #: What can be taken: ``"any"`` item, or only what is ``"due"``.
    which: str
    #: Whether its own scorer gives moments, in seconds since the epoch.
    timed: bool


PLAIN = Kind(scorer=lambda item: 0, which="any", timed=False)
TIMED = Kind(scorer=lambda item: time.time(), which="any", timed=True)
SCHEDULED = Kind(scorer=lambda item: time.time(), which="due", timed=True)


@dataclass(frozen=True)
class Definition(Generic[T]):
    """One set: its name and keys, its items, and the rules it was made with."""

    name: str
    keys: Keys
    items: Items[T]
    scorer: Callable[[T], float]
    kind: Kind
    #: Whether scores are known to be moments: a scorer of the user's may say anything.
    timed: bool
    #: After how many deliveries an item that fails dies; 0 for never.
    max_attempts: int
    #: How many dead letters are kept; 0 for all.
    max_dead: int
    #: How many seconds finished items are remembered; 0 for not at all. And whether only a hash of them is kept.
    remember: float
    digest: bool
    duplicates: Duplicates
    #: Seconds between two ticks of an item that has no interval of its own; 0 for a set that is not periodic.
    interval: float
    #: Seconds until an item may be tried again after its n-th delivery failed.
    backoff: Callable[[int], float]
    #: How many seconds a command may block at most, for the client's sake.
    longest_block: float

    @cached_property
    def features(self) -> frozenset[str]:
        """What it has beyond a plain set; see :data:`redset.core.scripts.FEATURES`."""
        has = {
            "values": self.items.keyed or self.interval > 0,
            "keyed": self.items.keyed,
            "periodic": self.interval > 0,
            "done": self.remember > 0,
            "digest": self.digest,
        }
        return frozenset(feature for feature, there in has.items() if there)

    def script(self, name: str) -> tuple[Script, tuple[bytes, ...]]:
        """The script of that name for this set, and its keys."""
        return prepared(name, self.keys, self.features)

    @cached_property
    def options(self) -> str:
        """The numbers that it was made with, as the scripts take them."""
        return options_of(self)


def exponential_backoff(attempt: int) -> float:
    """The default: up to 1 s after the first failure, 2 s after the second, 4 s ..., at most an hour; full jitter.

    Any moment up to the limit is as likely as any other, so that what failed together is not tried together again
    (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    return random.uniform(0, min(3600.0, 2.0 ** min(attempt - 1, 12)))


def one_of_duplicates(value: Any) -> Duplicates:
    """``value`` as it is.

    :raises ValueError: it is none of them.
    """
    if value not in get_args(Duplicates):
        raise ValueError(f"duplicates must be 'update', 'keep', 'earliest' or 'latest', not {value!r}")
    found: Duplicates = value
    return found


def seconds(value: Any, what: str, *, positive: bool = False) -> float:
    """``value`` as a number of seconds.

    :raises TypeError: it is no int or float.
    :raises ValueError: it is negative, NaN or infinite, or 0 where it must be positive.
    """
    if not isinstance(value, (float, int, Real)):
        raise TypeError(f"{what} must be a number of seconds, not {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise ValueError(f"{what} must be {'more than' if positive else 'at least'} 0 seconds, not {value!r}")
    return number
