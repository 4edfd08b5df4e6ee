"""What the state machines have in common: a set on a face and a server, faults on the way, time, and the invariants.

A machine adds its rules and its model. After each step the base looks at the raw keys, and compares what the set counts
with what the model counts.
"""

import math
import os
import signal
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from faces import Batch
from invariants import RawSet
from proxy import Fault, Interrupted, Proxy
from redset import Limits
from servers import FakeClock, server_time

__all__ = ("Ageing", "Gate", "LimitedMachine", "Machine", "MovedClock", "RealTime", "Time", "run_machine", "thoroughly")

#: Seconds for each step of each example, on the busiest machine, and for the longest one.
PATIENCE = 2
LONGEST_STEP = 300


class Time(Protocol):
    """How time passes for a set."""

    #: Whether the server's clock moves: scheduled items fall due, and keys expire.
    moves_the_server: bool

    def begin(self) -> None: ...

    def pass_by(self, seconds: float) -> None: ...


class RealTime:
    """Time passes by itself, and too little of it to matter."""

    moves_the_server = False

    def begin(self) -> None: ...

    def pass_by(self, seconds: float) -> None:
        raise NotImplementedError


class MovedClock(RealTime):
    """The server's clock is moved."""

    moves_the_server = True

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def begin(self) -> None:
        self._clock.reset()

    def pass_by(self, seconds: float) -> None:
        self._clock.advance(seconds)


class Ageing(RealTime):
    """All moments in some sorted sets are made older instead, which can be done on any server.

    A backoff is stored as a negative moment.
    """

    def __init__(self, raw: Any, *keys: str | bytes) -> None:
        self._raw = raw
        self._keys = keys

    def pass_by(self, seconds: float) -> None:
        for key in self._keys:
            moments = self._raw.zrange(key, 0, -1, withscores=True)
            if moments:
                self._raw.zadd(key, {item: at - seconds if at > 0 else at + seconds for item, at in moments})


class Machine(RuleBasedStateMachine):
    """The base of a machine. :func:`run_machine` sets its members."""

    face: Any
    raw: Any
    time: Time
    #: The proxy between the face and the server, where there is one.
    proxy: Proxy | None = None

    #: The name of the set, and what looks at its keys.
    name = "jobs"
    raw_set: type[RawSet] = RawSet
    #: Whether it counts what happens.
    has_totals = True

    def __init__(self) -> None:
        super().__init__()
        self.raw.flushall()
        self.time.begin()
        self.stored = self.raw_set(self.raw, self.name)
        #: How many entries were added without redset.
        self.foreign = 0
        #: A client on which Ctrl-C comes when the server has executed a call and nobody has read the reply.
        self.interrupted = Interrupted(self.raw)

    @precondition(lambda self: self.proxy and not self.proxy.is_planned)
    @rule(fault=st.sampled_from([Fault.LOST_COMMAND, Fault.LOST_REPLY, Fault.CUT_REPLY]))
    def the_next_call_is_disturbed(self, fault: Fault) -> None:
        """The client repeats it, and the model learns nothing of that."""
        assert self.proxy
        self.proxy.plan(fault)

    # What a machine says of its model

    def check_keys(self) -> None:
        """Raises an AssertionError unless the raw keys are as they should be."""
        self.stored.check()

    def counted(self) -> Any:
        """The ``stats()`` of the set, or None when it has none."""

    def expected_counts(self) -> dict[str, Any]:
        """Fields of the ``stats()`` as the model has them."""
        return {}

    # After each step

    @invariant()
    def no_call_goes_on_for_ever(self) -> None:
        """The alarm of pytest-timeout, which is set for the whole test, comes when one step takes too long."""
        if callable(signal.getsignal(signal.SIGALRM)):
            signal.setitimer(signal.ITIMER_REAL, LONGEST_STEP)

    @invariant()
    def the_raw_keys_are_as_they_should_be(self) -> None:
        with self.stored.at_once():
            self.check_keys()

    @invariant()
    def the_counts_are_right(self) -> None:
        if expected := self.expected_counts():
            stats = self.counted()
            assert {name: getattr(stats, name) for name in expected} == expected

    @invariant()
    def the_totals_add_up(self) -> None:
        if self.has_totals:
            self.stored.check_totals(self.foreign)

    def add_without_redset(self, item: str | bytes, score: float) -> None:
        self.foreign += self.raw.zadd(self.name, {item: score})

    @property
    def has_pipelines(self) -> bool:
        return hasattr(self.face.client, "pipeline")

    def add_in_a_pipeline(self, to: Any, item: Any, **options: Any) -> None:
        """Add an item by ``add_to``: whether it was left out is not said. A pipeline that is lost is sent again."""
        # In a transaction, the proxy would see MULTI, which is no call.
        batch = Batch(self.face, transaction=False)
        to.add_to(batch.pipeline, item, **options)
        batch.execute()

    def from_receipt(self, of: Any, reservation: Any) -> Any:
        """Another reservation for the same lease: that of the receipt of the first."""
        opened = of.reservation(reservation.receipt)
        for name in "item", "attempt", "token", "score", "deadline", "receipt":
            assert getattr(opened, name) == getattr(reservation, name), name
        return opened

    def server_time(self) -> float:
        return server_time(self.raw)


@dataclass
class Gate:
    """The model of a pause and of limits: what they allow. Moments and spans are in the units of a machine."""

    paused_until: float = -math.inf
    #: Items in one unit of time.
    rate: int | None = None
    burst: int = 0
    leases: int | None = None
    maxsize: int | None = None
    #: The claims in the bucket, at that moment.
    level: float = 0.0
    at: float = 0.0

    def leak(self, now: float) -> None:
        self.level = max(0.0, self.level - max(0.0, now - self.at) * self.rate) if self.rate else 0.0
        self.at = now

    def limit(self, now: float, rate: int | None, burst: int, leases: int | None, maxsize: int | None) -> None:
        self.leak(now)
        self.rate, self.burst, self.leases, self.maxsize = rate, burst, leases, maxsize
        self.leak(now)

    def allowed(self, now: float, wanted: int, leases: int | None = None) -> int:
        """How many of the wanted items a claim can have.

        :param leases: how many there are, if the claim is for leases.
        """
        if self.paused_until > now:
            return 0
        leaked = max(0.0, now - self.at) * (self.rate or 0)
        permits = wanted if self.rate is None else math.floor(self.burst - max(0.0, self.level - leaked))
        free = wanted if self.leases is None or leases is None else self.leases - leases
        return max(0, min(wanted, permits, free))

    def note(self, now: float, claims: int) -> None:
        if claims:
            self.leak(now)
            self.level += claims if self.rate else 0


#: Rate, burst, leases, maxsize; None for what is not limited.
limits = st.tuples(
    st.none() | st.integers(1, 2),
    st.integers(1, 3),
    st.none() | st.integers(1, 2),
    st.none() | st.integers(1, 4),
)


class LimitedMachine(Machine):
    """The base of a machine whose set is paused and limited. Half a unit of time is longer than an example takes."""

    #: Seconds.
    unit: float

    def __init__(self) -> None:
        super().__init__()
        #: When it began, in seconds since the epoch.
        self.began = math.floor(self.server_time())
        self.gate = Gate()

    # What a machine says of its model

    def server_now(self) -> float:
        """By the server's clock, in units of time from the beginning."""
        raise NotImplementedError

    def limited(self) -> Any:
        """The set."""
        raise NotImplementedError

    def size(self) -> int:
        """How many items take room."""
        raise NotImplementedError

    # What it is told

    def moment(self, place: float) -> float:
        """A place in time, in seconds since the epoch."""
        return self.began + place * self.unit

    def has_room(self) -> bool:
        return self.gate.maxsize is None or self.size() < self.gate.maxsize

    @rule(units=st.sampled_from([-0.5, 0.5, 1.5, math.inf]))
    def pause(self, units: float) -> None:
        self.gate.leak(self.server_now())
        self.gate.paused_until = self.server_now() + units
        self.limited().pause(None if units == math.inf else self.moment(self.gate.paused_until))

    @rule()
    def resume(self) -> None:
        self.gate.leak(self.server_now())
        self.gate.paused_until = -math.inf
        self.limited().resume()

    @initialize(limits=limits)
    def begin_limited(self, limits: tuple[Any, ...]) -> None:
        self.limit(limits)

    @rule(limits=limits)
    def limit(self, limits: tuple[Any, ...]) -> None:
        rate, burst, leases, maxsize = limits
        self.gate.limit(self.server_now(), rate, burst, leases, maxsize)
        per, most = (self.unit, burst) if rate else (1.0, None)
        self.limited().limit(rate, per, most, leases, maxsize)

    def expected_counts(self) -> dict[str, Any]:
        gate = self.gate
        per, burst = (self.unit, gate.burst) if gate.rate else (1.0, None)
        limits = Limits(gate.rate, per, burst, gate.leases, gate.maxsize)
        return {
            "paused_until": self.moment(gate.paused_until) if gate.paused_until > self.server_now() else None,
            "limits": limits if gate.rate or gate.leases or gate.maxsize else None,
        }


def thoroughly(examples: int, steps: int = 30) -> settings:
    """So many examples of so many steps, or as ``REDSET_TEST_EXAMPLES`` and ``REDSET_TEST_STEPS`` say."""
    return settings(
        max_examples=int(os.environ.get("REDSET_TEST_EXAMPLES", examples)),
        stateful_step_count=int(os.environ.get("REDSET_TEST_STEPS", steps)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def seconds_for(how: settings) -> int:
    """The time limit of a test that runs a machine."""
    return 60 + PATIENCE * how.max_examples * how.stateful_step_count


def run_machine(machine: type[Machine], how: settings, **members: Any) -> None:
    """Runs a machine with these members: its face, its raw client, its time and whatever else it needs."""
    run_state_machine_as_test(type(machine.__name__, (machine,), members), settings=how)
