"""Operations and plans: what to send and how to read the reply, without I/O and the same for both faces.

An :class:`Operation` is one round trip. A :data:`Plan` takes several, or waits: it is a generator that yields
operations and pauses, is sent the result of each, and returns its own. :mod:`redset.core.drivers` runs both. The
modules next to this one have the operations of one purpose each: adding, reading, removing, claiming, ending.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.calls import Call
from redset.core.scripts import Script
from redset.core.sending import Sleep

__all__ = (
    "CHUNK",
    "RECEIVED",
    "Args",
    "At",
    "Elsewhere",
    "Listen",
    "ListenToAny",
    "Operation",
    "Plan",
    "Received",
    "RollBackUnknown",
    "Shape",
    "Sleep",
    "Together",
    "Unfinished",
    "flattened",
    "in_chunks",
    "once",
    "only",
    "then",
)

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

#: The number of items that one call moves at most: it blocks the server for about a millisecond.
CHUNK = 1000

#: The arguments behind the keys.
Args: TypeAlias = Sequence[bytes | str]


class Unfinished:
    """A call that may be sent again, under the same number, until its reply is known.

    Several threads or tasks may send it at once: they send the same call, and all get its one reply.
    """

    __slots__ = ("_calls", "part", "reply")

    def __init__(self) -> None:
        self._calls: list[Call] = []
        #: The part of a coalesced call, if it was sent as one; see :mod:`redset.core.coalescing`.
        self.part: Any = None
        #: The reply, once it is known.
        self.reply: Any = None

    @property
    def call(self) -> Call | None:
        """The call that was sent, or None."""
        return self._calls[0] if self._calls else None

    def leave(self) -> None:
        """Drop a call that belongs to the parent of this process."""
        self._calls = []

    def begin(self, call: Call) -> Call:
        """Return the call to send: this one, or that of another thread which was first. ``list.append`` is atomic."""
        self._calls.append(call)
        return self._calls[0]


class Shape(NamedTuple):
    """The arguments and the reply of operations that can be coalesced; see :mod:`redset.core.parts`."""

    #: The way in which the arguments are joined and the reply is dealt out.
    way: str
    #: The number of arguments before the rows, and of each row.
    head: int
    width: int


@dataclass(slots=True)
class Operation(Generic[R]):
    """One round trip: what to send, and how to read the reply. Not changed after it was created."""

    #: A script, or the name of a command.
    verb: Script | str
    keys: tuple[bytes, ...]
    args: Args
    read: Callable[[Any], R]
    #: Whether it changes something, so that the server records its reply in case it is sent twice. The record's key and
    #: the call's numbers are then put before its own keys and arguments.
    recorded: bool = False
    #: For a claim: returns the operation that rolls it back, or some of its rows, by their positions from 0.
    roll_back: "Callable[..., Operation[bytes]] | None" = None
    unfinished: Unfinished | None = None
    #: How asyncio tasks coalesce it with others; None: not at all.
    shape: Shape | None = None
    #: For a claim: called with the head of its reply when it is rolled back; empty if it was never executed.
    on_roll_back: Callable[[bytes], None] | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """A step of a plan: wait for a wake-up of the set, or until it is time to look, or to end."""

    #: The wake-up list of the set. Those of several sets if one command can block on all.
    keys: tuple[bytes, ...]
    #: The items that the waiter can claim: waiters of different kinds do not replace each other.
    kind: Hashable
    #: Seconds until one of the waiters of this kind in this thread or event loop looks, and whether it has to look at
    #: just that moment.
    look: float
    precise: bool
    #: Seconds until this one ends.
    left: float
    #: Seconds for which one command may block.
    longest: float
    #: Whether this one ends before.
    should_stop: Callable[[], bool] | None


@dataclass(frozen=True, slots=True)
class ListenToAny:
    """A step of a plan: wait for the first of several sets, each with the driver of its own."""

    listens: "tuple[tuple[Any, Listen], ...]"


@dataclass(frozen=True, slots=True)
class At:
    """A step of a plan that is performed for another set on the same client."""

    #: The driver of that set.
    driver: Any
    step: "Operation[Any] | RollBackUnknown"


@dataclass(frozen=True, slots=True)
class Together:
    """A step of a plan: perform operations in one round trip, or in one for each node.

    Its result is a list: the result of each operation, or the error of a client or a server.
    """

    steps: tuple[At, ...]


@dataclass(frozen=True, slots=True)
class RollBackUnknown:
    """A step of a plan: roll back the claims of this set whose outcome is unknown."""

    roll_back: "Callable[..., Operation[bytes]]"


class Received:
    """A step of a plan: receive its claims so far, although the plan may still raise an error."""


#: The only one.
RECEIVED = Received()


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A step of a plan: work of another driver or task; awaited on the asyncio face."""

    do: Callable[[], Any]


Plan: TypeAlias = Generator[
    Operation[Any] | Sleep | Listen | ListenToAny | At | Together | RollBackUnknown | Received | Elsewhere, Any, R
]


def in_chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield ``items`` in lists of 1,000, of which one is kept in memory at a time."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def only(operation: Operation[list[R]]) -> Operation[R]:
    """Return the operation for a list of one, read as its element."""
    return then(operation, lambda results: results[0])


def then(operation: Operation[R], convert: Callable[[R], S]) -> Operation[S]:
    read = operation.read
    return Operation(
        operation.verb,
        operation.keys,
        operation.args,
        lambda reply: convert(read(reply)),
        operation.recorded,
        operation.roll_back,
        operation.unfinished,
        operation.shape,
        operation.on_roll_back,
    )


def once(step: Any) -> Plan[Any]:
    """Return the plan of one step."""
    return (yield step)


def flattened(plan: Any) -> Plan[Any]:
    """Return a plan whose steps are no plans: those of ``plan``, and in the place of a plan the steps of that."""
    try:
        step = next(plan)
        while True:
            try:
                sent = (yield from flattened(step)) if hasattr(step, "send") else (yield step)
            except BaseException as error:
                step = plan.throw(error)
            else:
                step = plan.send(sent)
    except StopIteration as end:
        return end.value
