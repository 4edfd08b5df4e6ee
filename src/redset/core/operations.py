"""What each operation sends, and how its reply is read. No I/O in the core, and no difference between the faces.

An :class:`Operation` is one round trip. What takes several, or waits, is a :data:`Plan`: a generator that yields
operations and rests, is sent what was read from each reply, and returns the result. :mod:`redset.core.drivers` runs
both. Each of the modules beside this one has those of one purpose: adding, looking, removing, handing out, ending.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import index
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.callers import Caller
from redset.core.scripts import Script

__all__ = (
    "CHUNK",
    "Elsewhere",
    "Listen",
    "Operation",
    "Page",
    "Plan",
    "Sleep",
    "Unanswered",
    "in_chunks",
    "only",
    "ranks",
    "then",
)

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

#: How many items one call to the server moves at most: it holds the server for about a millisecond.
CHUNK = 1000


class Unanswered:
    """What the user may repeat because its outcome was never learned: it then goes out as the same call."""

    __slots__ = ("caller",)

    def __init__(self) -> None:
        self.caller: Caller | None = None


class Operation(NamedTuple, Generic[R]):
    """One round trip: what to send, and how to read what comes back."""

    #: A script, or the name of a command.
    verb: Script | str
    keys: tuple[bytes, ...]
    args: Sequence[bytes | str]
    read: Callable[[Any], R]
    #: Whether it changes something, so that the server keeps its reply in case it is sent twice. It is then given,
    #: before its own keys and arguments, the key of its record and the numbers of the call.
    recorded: bool = False
    #: For a hand-out: makes the operation that puts back what it took and nobody saw.
    settle: "Callable[[], Operation[Any]] | None" = None
    unanswered: Unanswered | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """A step of a plan: let so many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Listen:
    """A step of a plan: wait for a wake-up for so many seconds at most."""

    key: bytes
    seconds: float
    #: How many seconds there are in all, to stand in line for those who listen for many; None for any number.
    patience: float | None
    #: Whether to give up meanwhile; asked every now and then.
    should_stop: Callable[[], bool]

    def command(self) -> tuple[bytes | str, ...]:
        """The command that listens: it removes nothing but the wake-up."""
        return ("BLPOP", self.key, f"{self.seconds:.3f}")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A step of a plan: what somebody else does, such as the driver of another set; awaited on the asyncio face."""

    do: Callable[[], Any]


Plan: TypeAlias = Generator[Operation[Any] | Sleep | Listen | Elsewhere, Any, R]


class Page(NamedTuple, Generic[T]):
    """A stretch of an iteration, and the operation that reads the next one, if there is more."""

    items: list[T]
    behind: "Operation[Page[T]] | None"


def in_chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """``items`` in lists of 1,000, of which one is held at a time."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def ranks(start: int | None, stop: int | None) -> tuple[str, str]:
    """The first and the last rank of ``[start:stop]``, as ZRANGE counts them: the last one is included."""
    if stop == 0:
        return "1", "0"
    return str(0 if start is None else index(start)), str(-1 if stop is None else index(stop) - 1)


def only(operation: Operation[list[R]]) -> Operation[R]:
    """The same for a list of one, read as that one."""
    return then(operation, lambda results: results[0])


def then(operation: Operation[R], convert: Callable[[R], S]) -> Operation[S]:
    read = operation.read
    return Operation(
        operation.verb, operation.keys, operation.args, lambda reply: convert(read(reply)), operation.recorded
    )
