"""Where the shards of a set are: their layout, read once, and the steps that are performed at one shard or at all."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from redset.core.clients import has_nodes, is_failure, is_outage, node_name
from redset.core.definition import Groupings
from redset.core.forms import refusal
from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.looking import identity_if_any
from redset.core.operations import At, Operation, Plan, Sleep, Together, flattened, once
from redset.core.retries import tried_once
from redset.core.several import located
from redset.core.shards import layout as layouts
from redset.core.shards.layout import Layout, ShardCount
from redset.exceptions import LayoutError, WrongTypeError

__all__ = (
    "FORGET",
    "RESHARDING_CHECK",
    "Flat",
    "Shard",
    "Shards",
    "as_operation",
    "at_once",
    "flat_of",
    "found_at_once",
    "is_other_trouble",
    "outcomes_of",
    "picked",
    "read_layouts",
)

R = TypeVar("R")

#: Seconds between two reads of the layout record while a reshard is under way, and for which a call waits for its end.
RESHARDING_CHECK = 0.05
LONGEST_RESHARDING = 600.0
#: Seconds for which nothing is claimed from a node that failed: the first time, and at most. Each failure doubles them.
REST = 1.0
LONGEST_REST = 8.0
#: A node that takes long to fail rests for so many times as long, up to some seconds: so the other nodes lose at most
#: a twentieth of their claims.
REST_PER_SECOND = 20.0
LONGEST_REST_OF_SLOW = 60.0
#: Seconds after which a look that did not take place is forgotten.
FORGET = 1.0


class Look(NamedTuple):
    """A planned look of a waiter at one shard, by the monotonic clock, and whether something falls due then."""

    at: float
    is_precise: bool


@dataclass(eq=False)
class Rest:
    """The rest of the shards of a node that failed. Before a failure each shard has its own."""

    #: The number of failures in a row, the time of the last one, and the seconds that it took.
    failures: int = 0
    began_at: float = 0.0
    took: float = 0.0
    #: The time until which nothing is claimed.
    until: float = 0.0

    def begin(self, asked_at: float, *, of_a_node: bool) -> None:
        """Note the failure of a step that began at this time. Several steps that fail side by side are one failure."""
        if asked_at < self.began_at:
            return
        rest, self.began_at = min(LONGEST_REST, REST * 2.0 ** min(self.failures, 16)), time.monotonic()
        self.took = self.began_at - asked_at
        if of_a_node:
            rest = max(rest, min(LONGEST_REST_OF_SLOW, REST_PER_SECOND * self.took))
        self.failures += 1
        self.until = self.began_at + rest

    def try_again(self) -> None:
        """Note that one caller tries whether the node is back; others do not try meanwhile."""
        self.until = max(self.until, time.monotonic() + self.took)

    def end(self) -> None:
        self.failures, self.until = 0, 0.0


@dataclass(eq=False)
class Shard:
    """One shard: an ordinary set, with the operations of one."""

    number: int
    name: str
    driver: Any
    #: Its operations, by the names of the attributes of a set: ``adding``, ``claims`` …
    parts: Any
    #: The lowest and the highest score that its next claim can get, as its last replies said.
    heads: dict[bool, float] = field(default_factory=lambda: {False: float("-inf"), True: float("inf")})
    #: Its rest after a failure, which it shares with the other shards of its node.
    rest: Rest = field(default_factory=Rest)
    #: Whether its last claim held back an item whose last lease expired.
    has_suspect: bool = False
    #: The next look of each waiter of this process, as the server has planned it.
    looks: dict[str, Look] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._has_nodes = has_nodes(self.driver.caller.client)

    def note_look(self, waiter: str, at: float, *, is_precise: bool) -> None:
        """Note when a waiter looks here. Looks that are long past are forgotten: their threads have ended."""
        now = time.monotonic()
        for name in [name for name, look in self.looks.copy().items() if look.at < now - FORGET]:
            self.looks.pop(name, None)
        self.looks[waiter] = Look(at, is_precise)

    def at(self, step: Any) -> Any:
        """Return the step, or the plan, that performs a step or a plan of this shard."""
        return At(self.driver, step) if isinstance(step, Operation) else located(self.driver, step)

    @property
    def failures(self) -> int:
        """The number of failures in a row."""
        return self.rest.failures

    @property
    def rests_until(self) -> float:
        """The time until which nothing is claimed from it."""
        return self.rest.until

    @property
    def node(self) -> str | None:
        """The name of its node; None if the client has no nodes."""
        return node_name(self.driver.caller.client, self.parts.keys.waiting)

    def carefully(self, step: Any) -> Plan[Any]:
        """Perform a step of this shard without the client's own retries, if it failed before or is in a cluster.

        In a cluster the other nodes go on meanwhile, so that one that does not answer must not be waited for.
        """
        rest = self.rest
        if not self.is_careful:
            return (yield self.at(step))
        if rest.failures:
            rest.try_again()
        result = yield from tried_once(self.at(step))
        if rest.failures:
            rest.end()
        return result

    def asked(self, operation: Operation[Any]) -> Any:
        """Return the step, or the plan, that performs an operation carefully."""
        return self.carefully(operation) if self.is_careful else At(self.driver, operation)

    @property
    def is_careful(self) -> bool:
        """Whether the steps of claims are tried once."""
        return self.rest.failures > 0 or self._has_nodes


class Flat(Generic[R]):
    """A plan whose steps are no plans, so that a driver need not flatten it."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan[R]) -> None:
        self.plan = plan

    def __iter__(self) -> Plan[R]:
        return self.plan

    def __next__(self) -> Any:
        return next(self.plan)

    def send(self, value: Any) -> Any:
        return self.plan.send(value)

    def throw(self, error: BaseException) -> Any:
        return self.plan.throw(error)

    def close(self) -> None:
        self.plan.close()


def flat_of(plan: Any) -> Plan[Any]:
    """Return the plan itself if it is a flat one, else one that is."""
    return plan.plan if type(plan) is Flat else flattened(plan)


def as_operation(plan: Plan[R]) -> Operation[R]:
    """Return a plan in the place of an operation: the driver of a set over shards performs both."""
    return cast("Operation[R]", plan)


def read_layouts(name: str) -> Operation[list[bytes | None]]:
    """Read the layout record and the layout that a reshard is making, if any."""
    return Operation("HMGET", (Keys(name).waiting,), (layouts.FIELD, layouts.NEXT), list)


@dataclass(frozen=True)
class Now:
    """A layout and its shards."""

    layout: Layout
    shards: list[Shard]


class Shards:
    """The shards of one set, for one set object.

    :param form: the form in which its items are stored.
    :param digest: whether items are routed by digests, since the set keeps only these of some or all.
    :param count: the number of shards that the caller wants.
    :param make: returns the shard of a layout with a number.
    :param grouping: tells the groups of items, by which these are routed then, so that a group is in one shard.
    """

    def __init__(
        self,
        name: str,
        items: Items[Any],
        form: str,
        count: ShardCount,
        make: Callable[[Layout, int], Shard],
        *,
        digest: bool,
        grouping: Groupings | None = None,
    ) -> None:
        self.name = name
        self._grouping = grouping
        self._items = items
        self._form = form
        self._digest = digest
        self._wanted = count
        self.make = make
        #: The layout as of the last look, with its shards; None before the first call. Threads replace it as a whole.
        self._now: Now | None = None
        if isinstance(count, int):
            # An error in the name is raised by the constructor.
            self._first(count)

    def _first(self, count: int) -> Layout:
        return layouts.first(self.name, count, self._form, digest=self._digest)

    @property
    def now(self) -> Now:
        """The layout and its shards, once they are known."""
        assert self._now is not None
        return self._now

    @property
    def all(self) -> list[Shard]:
        """The shards, once they are known."""
        return self.now.shards

    # The layout.

    def ready(self) -> Plan[list[Shard]]:
        """Return all shards, after reading or writing the layout record at the first call.

        :raises LayoutError: the set has another layout.
        """
        if self._now is None:
            found = yield from self._stored()
            if found is None:
                found = yield from self._new()
            self._check(found)
            # Another thread may have been faster. Its shards know their heads.
            if self._now is None:
                self._become(found)
        return self.all

    def _stored(self) -> Plan[Layout | None]:
        """Return the layout of the record; None if there is none. Wait for the end of a reshard."""
        give_up_at = time.monotonic() + LONGEST_RESHARDING
        while True:
            try:
                stored, coming = yield read_layouts(self.name)
            except WrongTypeError:
                return self._plain()
            if coming is None:
                return layouts.read_record(self.name, stored)
            if time.monotonic() > give_up_at:
                raise LayoutError(
                    f"a reshard of the set {self.name!r} has not ended: call redset.reshard() again, with the same "
                    "number of shards"
                )
            yield Sleep(RESHARDING_CHECK)

    def _plain(self) -> Layout:
        return layouts.plain(self.name, self._form, digest=self._digest)

    def _new(self) -> Plan[Layout]:
        """Return the layout of a set that has no record, after writing one if a number of shards is wanted."""
        if not isinstance(self._wanted, int):
            return self._plain()
        keys = Keys(self.name)
        if (yield Operation("EXISTS", (keys.meta,), (), bool)):
            # Its leases, dead letters and remembered items would be left behind.
            return self._plain()
        new = self._first(self._wanted)
        try:
            written = yield layouts.create(new)
        except WrongTypeError:
            return self._plain()
        return new if written else ((yield from self._stored()) or new)

    def _check(self, found: Layout) -> None:
        """Raise a LayoutError if a layout is not the one that is wanted."""
        wanted = self._wanted
        if isinstance(wanted, int) and found.count != wanted:
            has = "no shards" if found.count is None else f"{found.count} shards"
            raise LayoutError(
                f"the set {self.name!r} has {has}, and this object was made with shards={wanted}: make it with "
                f'shards="stored", or call redset.reshard(client, {self.name!r}, {wanted})'
            )
        self._check_form(found)

    def _check_form(self, found: Layout) -> None:
        if found.count is not None and found.form != self._form:
            raise LayoutError(refusal(self.name, found.form, self._form))
        if found.count is not None and found.digest != self._digest:
            raise LayoutError(
                f"the set {self.name!r} remembers with digest={found.digest}, by which its items are divided among its "
                f"shards, and this object with digest={self._digest}"
            )

    def _become(self, found: Layout) -> None:
        self._now = Now(found, [self.make(found, at) for at in range(len(found.names))])

    def moved(self, before: Layout) -> Plan[bool]:
        """Return whether the set has another layout than ``before``, which is then used.

        Called after a key had another type than expected: a reshard leaves that behind in the old shards.
        """
        if self.now.layout is not before:
            return True
        found = (yield from self._stored()) or self._plain()
        if (found.generation, found.count) == (before.generation, before.count):
            return False
        self._check_form(found)
        self._become(found)
        return True

    # Failures.

    def failed(self, shard: Shard, error: Exception, asked_at: float) -> None:
        """Note the failure of a step at a shard that began at this time.

        If its node does not answer, all shards of the node rest.
        """
        node = shard.node if is_outage(error) else None
        rest = shard.rest
        if node is not None:
            # Slots may have moved since the last failure.
            rest = next((other.rest for other in self.all if other.failures and other.node == node), rest)
            for other in self.all:
                if other.node == node:
                    other.rest = rest
                elif other.rest is rest:
                    other.rest = Rest()
        rest.begin(asked_at, of_a_node=node is not None)

    # Steps.

    def settled(self, perform: Callable[[], Plan[R]]) -> Plan[R]:
        """Perform a plan, and again if the set has moved to other shards meanwhile."""
        while True:
            yield from self.ready()
            before = self.now.layout
            try:
                return (yield from perform())
            except WrongTypeError:
                if not (yield from self.moved(before)):
                    raise

    def of(self, identity: bytes | None) -> Shard:
        """Return the shard of an identity, once the layout is known. An item without one can be in none."""
        return self.now.shards[0 if identity is None else self._number_of(identity)]

    def _number_of(self, identity: bytes) -> int:
        """Return the number of the shard of an identity."""
        routed = identity if self._grouping is None else self._grouping.of_stored(identity)
        return self.now.layout.shard_of(routed)

    def at_group(self, name: bytes, ask: Callable[[Shard], Any]) -> Any:
        """Perform a step at the shard of a group."""

        def perform() -> Plan[Any]:
            shard = self.all[self.now.layout.shard_of(name)]
            return (yield shard.at(ask(shard)))

        return as_operation(self.settled(perform))

    def at(self, identity: bytes | None, ask: Callable[[Shard], Any]) -> Any:
        """Perform a step at the shard of an identity."""
        return AtItem(self, identity, ask)

    def is_known(self) -> bool:
        """Return whether the layout was read."""
        return self._now is not None

    def plan_at(self, identity: bytes | None, ask: Callable[[Shard], Any]) -> Plan[Any]:

        def perform() -> Plan[Any]:
            shard = self.of(identity)
            return (yield shard.at(ask(shard)))

        return self.settled(perform)

    def at_item(self, item: Any, ask: Callable[[Shard], Any]) -> Any:
        """Perform a step at the shard of an item."""
        return self.at(identity_if_any(self._items, item), ask)

    def at_each(self, ask: Callable[[Shard], Any]) -> Plan[list[Any]]:
        """Perform a step at each shard, and return the results in the order of the shards."""

        def perform() -> Plan[list[Any]]:
            return (yield from at_once([shard.at(ask(shard)) for shard in self.all]))

        return self.settled(perform)

    def divided(self, identities: Sequence[bytes], ask: Callable[[Shard, list[int]], Any]) -> Plan[list[Any]]:
        """Perform a step at each shard that some identities belong to, and return pairs of positions and result.

        :param ask: takes the shard and the positions of its identities.
        """
        left, results = list(range(len(identities))), []

        def perform() -> Plan[list[Any]]:
            nonlocal left
            now, groups = self.now, dict[int, list[int]]()
            for position in left:
                groups.setdefault(self._number_of(identities[position]), []).append(position)
            steps = [now.shards[number].at(ask(now.shards[number], positions)) for number, positions in groups.items()]
            trouble: Exception | None = None
            for positions, found in zip(groups.values(), (yield from outcomes_of(steps)), strict=True):
                if isinstance(found, Exception):
                    trouble = trouble or found
                else:
                    results.append((positions, found))
                    # These identities are not asked for again in another layout.
                    left = sorted(set(left).difference(positions))
            if trouble is not None:
                raise trouble
            return results

        return self.settled(perform)

    def aligned(self, identities: Sequence[bytes], ask: Callable[[Shard, list[int]], Any]) -> Plan[list[Any]]:
        """Like :meth:`divided` for steps that return one result for each identity: return these in order."""
        results: list[Any] = [None] * len(identities)
        for positions, found in (yield from self.divided(identities, ask)):
            for position, one in zip(positions, found, strict=True):
                results[position] = one
        return results


class AtItem:
    """The plan of a step at the shard of an item. A driver may perform the step by itself, without the plan."""

    __slots__ = ("_ask", "_identity", "_plan", "_shards")

    def __init__(self, shards: Shards, identity: bytes | None, ask: Callable[[Shard], Any]) -> None:
        self._shards = shards
        self._identity = identity
        self._ask = ask
        self._plan: Any = None

    def found(self) -> tuple[Any, Operation[Any]] | None:
        """Return the driver of the shard and the operation, or None if it takes more than that."""
        if not self._shards.is_known():
            return None
        shard = self._shards.of(self._identity)
        step = self._ask(shard)
        return (shard.driver, step) if isinstance(step, Operation) else None

    def _begun(self) -> Any:
        if self._plan is None:
            self._plan = self._shards.plan_at(self._identity, self._ask)
        return self._plan

    def __iter__(self) -> Any:
        return self._begun()

    def __next__(self) -> Any:
        return next(self._begun())

    def send(self, value: Any) -> Any:
        return self._begun().send(value)

    def throw(self, error: BaseException) -> Any:
        return self._begun().throw(error)

    def close(self) -> None:
        self._begun().close()


def found_at_once(operation: Any) -> tuple[Any, Operation[Any]] | None:
    """Return the driver and the operation of a step at the shard of an item; None for anything else."""
    return operation.found() if isinstance(operation, AtItem) else None


def outcomes_of(steps: Sequence[Any]) -> Plan[list[Any]]:
    """Perform steps or plans side by side, and return the result of each, or its error.

    The operations that come at the same time are sent in one round trip.
    """
    if not steps:
        return []
    if all(isinstance(step, At) for step in steps):
        found: list[Any] = yield Together(tuple(steps))
        return found
    plans = [step if hasattr(step, "send") else once(step) for step in steps]
    outcomes: list[Any] = [None] * len(plans)
    results: dict[int, Any] = dict.fromkeys(range(len(plans)))
    try:
        while results:
            asked: dict[int, Any] = {}
            for at, result in results.items():
                try:
                    asked[at] = plans[at].throw(result) if isinstance(result, Exception) else plans[at].send(result)
                except StopIteration as end:
                    outcomes[at] = end.value
                except Exception as error:
                    if not is_failure(error):
                        raise
                    outcomes[at] = error
            results = yield from _results_of(asked)
    finally:
        for plan in plans:
            plan.close()
    return outcomes


def _results_of(asked: dict[int, Any]) -> Plan[dict[int, Any]]:
    """Perform the next steps of some plans. Return the result of each, or its error."""
    groups = {at: step.steps for at, step in asked.items() if isinstance(step, Together)}
    groups |= {at: (step,) for at, step in asked.items() if isinstance(step, At) and isinstance(step.step, Operation)}
    results: dict[int, Any] = {}
    if groups:
        found = iter((yield Together(tuple(step for group in groups.values() for step in group))))
        for at, group in groups.items():
            own = [next(found) for _ in group]
            results[at] = own if isinstance(asked[at], Together) else own[0]
    for at, step in asked.items():
        if at not in results:
            try:
                results[at] = yield step
            except Exception as error:
                if not is_failure(error):
                    raise
                results[at] = error
    return results


def at_once(steps: Sequence[Any]) -> Plan[list[Any]]:
    """Like :func:`outcomes_of`, but raise the first error."""
    outcomes = yield from outcomes_of(steps)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def picked(items: Sequence[Any], positions: Iterable[int]) -> list[Any]:
    """Return the items at some positions."""
    return [items[position] for position in positions]


def is_other_trouble(error: Exception) -> bool:
    """Return whether an error of one shard leaves the others to be asked."""
    return is_failure(error) and not isinstance(error, WrongTypeError)
