"""What happened in a run: every call with its invocation and its completion, and every fault, on one clock.

Each process writes a file of its own, a line for each event, which is with the system before the call goes out. So the
history of a process that is killed ends with an invocation without a completion, as in Jepsen. Moments are seconds of
``time.monotonic()``, which is the same for all processes of a machine and is never set.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ("CUT", "Call", "Fault", "History", "Left", "Outcome", "Recorder", "Row")

#: ``ok``: it happened, and said so. ``refused``: it certainly did not happen. ``unknown``: an error that leaves open
#: whether it did, or the process died before it heard.
Outcome: TypeAlias = Literal["ok", "refused", "unknown"]

#: The error of a call that succeeded, while a shard failed from which it may have claimed something.
CUT = "Cut"


class Row(NamedTuple):
    """An item that was handed out. What a call does not tell is None: of a pop, all but the item."""

    item: str
    score: float | None = None
    token: int | None = None
    attempt: int | None = None
    #: Which of its values it carried, on a keyed set: producers count them up, one producer for each identity.
    version: int | None = None


@dataclass
class Call:
    """One call of one worker."""

    #: The worker and its incarnation: ``consumer-3/2``. Who was killed comes back as the next incarnation.
    process: str
    #: Who made it within the process, when several tasks or threads do. Calls of one actor never overlap.
    actor: str
    #: The set's name; :mod:`chaos.workloads` says what is done with it.
    set: str
    #: The method: ``add``, ``pop``, ``take``, ``reserve``, ``ack``, ``nack``, ``again``, ``extend``, ``bury`` ...;
    #: ``zadd`` for a foreign producer's. A consume loop is written down as the ``reserve`` and ``ack`` that it makes.
    name: str
    invoked: float
    #: Items that were given: identities, in the order of the call. For ends of leases, with their tokens in ``tokens``.
    items: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    #: What else was given: ``score`` (or ``scores``, aligned), ``lease``, ``number``, ``delay``, ``version`` ...
    given: dict[str, Any] = field(default_factory=dict)
    #: None: the process died, or the run ended, before it returned.
    completed: float | None = None
    outcome: Outcome = "unknown"
    #: What was handed out; for ``add_new`` and an ``add`` that says so, what was new.
    rows: list[Row] = field(default_factory=list)
    #: The error, when there was one.
    error: str = ""
    #: Whether replicas have it (WAIT); None where nobody asked.
    replicated: bool | None = None
    #: Whether the client may have sent it more than once.
    repeated: bool = False


@dataclass
class Fault:
    """Something that went wrong on purpose."""

    #: ``kill``, ``stop``, ``restart``, ``failover`` ...: a name of :mod:`chaos.faults`, or of :mod:`chaos.crew`.
    name: str
    began: float
    ended: float
    #: On whom: a process, the server, the proxy.
    on: str = ""
    #: What is to be known of it: ``seconds`` that a clock was moved by, a signal's number ...
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Left:
    """What was still in a set when everything was over."""

    set: str
    waiting: list[str] = field(default_factory=list)
    leased: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    #: Whether consumers had all the time they needed to take what was there, so that nothing should be but the dead.
    drained: bool = False
    #: The totals of the set, and how many of the leased items were not delayed.
    totals: dict[str, int] = field(default_factory=dict)
    held: int = 0
    #: The same of each shard, where the set has some.
    shards: list["Left"] = field(default_factory=list)


class Recorder:
    """Writes the events of one process, or of one run. Threads and tasks may share it."""

    def __init__(self, directory: Path, process: str) -> None:
        self._process = process
        self._file = os.open(directory / f"{process.replace('/', '.')}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._calls = itertools.count(1)

    def invoke(
        self,
        actor: str,
        set: str,
        name: str,
        *,
        items: list[str] | None = None,
        tokens: list[int] | None = None,
        **given: Any,
    ) -> int:
        """Call it before the call goes out; returns what to complete it by."""
        call = next(self._calls)
        moment = time.monotonic()
        self._write(
            {"event": "invoke", "call": call, "at": moment, "actor": actor, "set": set, "name": name}
            | ({"items": items} if items else {})
            | ({"tokens": tokens} if tokens else {})
            | ({"given": given} if given else {})
        )
        return call

    def complete(
        self,
        call: int,
        outcome: Outcome = "ok",
        *,
        rows: list[Row] | None = None,
        error: str = "",
        replicated: bool | None = None,
        repeated: bool = False,
    ) -> None:
        """Call it as soon as the call has returned."""
        moment = time.monotonic()
        self._write(
            {"event": "complete", "call": call, "at": moment, "outcome": outcome}
            | ({"rows": rows} if rows else {})
            | ({"error": error} if error else {})
            | ({} if replicated is None else {"replicated": replicated})
            | ({"repeated": True} if repeated else {})
        )

    def fault(self, fault: Fault) -> None:
        self._write({"event": "fault", **vars(fault)})

    def left(self, left: Left) -> None:
        self._write({"event": "left", **asdict(left)})

    def close(self) -> None:
        os.close(self._file)

    def _write(self, event: dict[str, Any]) -> None:
        # In one piece, so that no other thread can come in between.
        os.write(self._file, json.dumps({"process": self._process, **event}, separators=(",", ":")).encode() + b"\n")


@dataclass
class History:
    """All that was recorded, calls in the order of their invocations."""

    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @classmethod
    def read(cls, directory: Path) -> "History":
        """What the recorders of a run have written there."""
        history = cls()
        for path in sorted(directory.glob("*.jsonl")):
            calls: dict[int, Call] = {}
            for event in _events(path):
                history._take_in(event, calls)
            history.calls += calls.values()
        history.calls.sort(key=lambda call: call.invoked)
        history.faults.sort(key=lambda fault: fault.began)
        return history

    def of(self, set: str, *names: str) -> Iterator[Call]:
        """The calls on one set, of these methods."""
        return (call for call in self.calls if call.set == set and (not names or call.name in names))

    def of_names(self, *names: str) -> Iterator[Call]:
        """The calls of these methods, on any set."""
        return (call for call in self.calls if call.name in names)

    def _take_in(self, event: dict[str, Any], calls: dict[int, Call]) -> None:
        process, kind = event.pop("process"), event.pop("event")
        if kind == "fault":
            self.faults.append(Fault(**event))
        elif kind == "left":
            shards = [Left(**shard) for shard in event.pop("shards")]
            self.left.append(Left(**event, shards=shards))
        elif kind == "invoke":
            number = event.pop("call")
            calls[number] = Call(process=process, invoked=event.pop("at"), **event)
        else:
            call = calls[event["call"]]
            call.completed, call.outcome = event["at"], event["outcome"]
            call.rows = [Row(*row) for row in event.get("rows", ())]
            call.error, call.replicated = event.get("error", ""), event.get("replicated")
            call.repeated = event.get("repeated", False)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    # What a kill cut short is the last, and ends without a line's end: it was neither sent nor answered.
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)
