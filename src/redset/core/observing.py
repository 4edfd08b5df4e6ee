"""The hooks by which :mod:`redset.metrics` observes calls and the bodies of loops. No I/O.

Without an observer, a call costs one look-up of ``hooks.observer``. An observer that fails changes nothing: its errors
are logged once and not raised.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from redset.core.interruptions import is_interruption
from redset.core.leases import BaseReservation
from redset.core.operations import Args, At, Operation, Plan, Together
from redset.core.scripts import Script

__all__ = ("Call", "Observer", "enter_body", "hooks", "is_observed", "leave_body", "observed")

R = TypeVar("R")

log = logging.getLogger("redset")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that added or claimed items, or ended leases: one round trip of one set object."""

    set_name: str
    #: "add", "take" or "reserve"; how leases ended, "ack", "nack", "again" or "bury"; "extend"; "end" for several ways.
    name: str
    kind: Literal["send", "receive", "settle"] | None
    #: The number of items sent, claimed or settled. Acks that travel with a claim are not counted.
    items: int
    #: Its duration in seconds: retries of the client included, the wait for an item not.
    seconds: float
    error: BaseException | None


class Observer(Protocol):
    """Is told of calls and of the bodies that process an item."""

    def called(self, call: Call) -> None: ...

    def entered(self, set_name: str, attempt: int) -> Any:
        """Note that a body begins. Return what :meth:`left` is to be passed."""

    def left(self, entry: Any, error: BaseException | None) -> None:
        """Note the end of a body, with the error that it raised, if that is known."""


class Hooks:
    """The observer of this process; None: nothing is observed."""

    __slots__ = ("has_failed", "observer")

    def __init__(self) -> None:
        self.observer: Observer | None = None
        #: Whether an error of the observer was logged.
        self.has_failed = False

    def begin(self, observer: Observer) -> None:
        """Observe from now on.

        :raises RuntimeError: there is an observer.
        """
        if self.observer is not None:
            raise RuntimeError("redset is instrumented already: uninstrument() it first")
        self.has_failed = False
        self.observer = observer

    def end(self, observer: Observer) -> None:
        """Stop observing, if it is this observer."""
        if self.observer is observer:
            self.observer = None


#: The only ones.
hooks = Hooks()


def _quietly(function: Callable[..., Any], *args: Any) -> Any:
    """Call an observer. Its errors stay here; an interruption passes through."""
    try:
        return function(*args)
    except Exception as error:
        if is_interruption(error):
            raise
        if not hooks.has_failed:
            hooks.has_failed = True
            log.warning("an observer of redset failed; its further errors are not logged", exc_info=True)
        return None


# Calls.


class _About(NamedTuple):
    name: str
    kind: Literal["send", "receive", "settle"] | None
    #: None if the result has it.
    items: int | None


#: Which argument of a claim is the lease.
LEASE = 3


def _about(operation: Operation[Any]) -> _About | None:
    """Return what an operation does; None if it neither adds, claims nor ends."""
    verb, args = operation.verb, operation.args
    if not isinstance(verb, Script):
        return None
    width = 2 + ("keyed" in verb.features) + ("grouped" in verb.features)
    if verb.name == "claim":
        return _About("take" if args[LEASE] == "0" else "reserve", "receive", None)
    if verb.name == "add":
        flags = int(str(args[0]).rpartition(" ")[2])
        return _About("add", "send", (len(args) - 1 - flags) // width)
    if verb.name == "schedule":
        return _About("add", "send", (len(args) - 1) // width)
    return _about_ends(args) if verb.name == "end" else None


def _about_ends(args: Args) -> _About | None:
    if args[1] == "ack":
        return _About("ack", "settle", (len(args) - 2) // 2)
    if args[1] == "each":
        names = {bytes(how).partition(b" ")[0].decode() for how in args[4::3]}  # type: ignore[arg-type] # bytes
        name = names.pop() if len(names) == 1 else "end"
        return _About(name, None if name == "extend" else "settle", (len(args) - 2) // 3)
    # Items that cannot be loaded, which a claim makes dead letters.
    return None


def is_observed(operation: Operation[Any]) -> bool:
    return _quietly(_about, operation) is not None


def observed(plan: Plan[R], set_name: str) -> Plan[R]:
    """Return a plan with the same steps, results and errors that tells the observer of its calls.

    The claims of a plan are received when it returns, so an interruption of the observer rolls them back.
    """
    try:
        step = next(plan)
        while True:
            calls = list(_calls_in(step, set_name))
            began = time.perf_counter()
            try:
                result = yield step
                results = result if isinstance(step, Together) else [result]
                for (name, about), one in zip(calls, results, strict=isinstance(step, Together)):
                    _tell(name, about, began, one, one if isinstance(one, Exception) else None)
            except BaseException as error:
                for name, about in calls:
                    _tell(name, about, began, None, error)
                step = plan.throw(error)
            else:
                step = plan.send(result)
    except StopIteration as end:
        returned: R = end.value
        return returned


def _calls_in(step: Any, set_name: str) -> Iterator[tuple[str, _About | None]]:
    """Yield the set of each operation of a step, and what it does."""
    for one in step.steps if isinstance(step, Together) else (step,):
        operation = one.step if isinstance(one, At) else one
        about = _quietly(_about, operation) if isinstance(operation, Operation) else None
        yield (one.driver.caller.name if isinstance(one, At) else set_name), about


def _tell(set_name: str, about: _About | None, began: float, result: Any, error: BaseException | None) -> None:
    seconds, observer = time.perf_counter() - began, hooks.observer
    if observer is not None and about is not None:
        _quietly(_tell_observer, observer, set_name, about, seconds, result, error)


def _tell_observer(
    observer: Observer, set_name: str, about: _About, seconds: float, result: Any, error: BaseException | None
) -> None:
    items = about.items
    if items is None:
        items = 0 if error is not None else len(result.stored)
    observer.called(Call(set_name, about.name, about.kind, items, seconds, error))


# Bodies.


class Body(NamedTuple):
    """The running body of a reservation: of a consume loop, or of ``with reservation``."""

    observer: Observer
    entry: Any
    in_loop: bool


def enter_body(reservation: BaseReservation[Any], *, in_loop: bool) -> None:
    """Tell the observer that a body begins. ``with reservation`` in a consume loop has the body of the loop."""
    observer = hooks.observer
    if observer is not None and reservation._body is None:
        entry = _quietly(observer.entered, reservation.set_name, reservation.attempt)
        reservation._note_body(Body(observer, entry, in_loop))


def leave_body(reservation: BaseReservation[Any], error: BaseException | None = None, *, in_loop: bool) -> None:
    """Tell the observer that a body has ended. In a loop, the end of ``with reservation`` is one only if it raised."""
    body: Body | None = reservation._body
    if body is None or (body.in_loop and not in_loop and error is None):
        return
    reservation._note_body(None)
    if reservation._is_ours and body.entry is not None:
        _quietly(body.observer.left, body.entry, error)
