"""Several sets as one: whose turn it is, and one call that claims from all and waits for all.

All are claimed from by plans of one call, so its claims are received together when it returns.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redset.core.claiming import Claimed, Claims
from redset.core.clients import is_failure
from redset.core.consuming import BaseConsumption, BaseLoop, Stop
from redset.core.endings import Endings
from redset.core.operations import CHUNK, RECEIVED, At, ListenToAny, Operation, Plan, RollBackUnknown, Sleep, flattened
from redset.core.times import Duration, seconds
from redset.core.waiting import NOT_YET, Outage, Wait, Waiter, stop_waiting

__all__ = ("BaseSeveral", "BaseSeveralConsumption", "Member", "checked", "in_order", "in_turns", "located", "paired")

R = TypeVar("R")
DriverT = TypeVar("DriverT")

log = logging.getLogger("redset")


@dataclass(eq=False)
class Member:
    """One of the sets: what a claim of its items needs, and its weight."""

    name: str
    driver: Any
    claims: Claims[Any, Any]
    endings: Endings[Any]
    weight: int
    #: By how many turns it is behind its share, times the sum of all weights.
    credit: int = 0

    def perform(self, plan: Plan[R]) -> Plan[R]:
        """Perform the steps of a plan of this set within a plan of all."""
        return located(self.driver, flattened(plan))

    def at(self, step: Any) -> Any:
        """Return the step, or the plan, that performs a step of this set; that of a set over shards is a plan."""
        return At(self.driver, step) if isinstance(step, Operation) else self.perform(step)


def located(driver: Any, plan: Plan[R]) -> Plan[R]:
    """Perform the steps of a plan of one set, which has this driver, within a plan of another."""
    try:
        step = next(plan)
        while True:
            try:
                sent = yield At(driver, step) if isinstance(step, Operation | RollBackUnknown) else step
            except BaseException as error:
                step = plan.throw(error)
            else:
                step = plan.send(sent)
    except StopIteration as end:
        result: R = end.value
        return result


def _listen_to_all(steps: Iterable[tuple[Member, Any]]) -> ListenToAny | Sleep:
    """Return the step that waits for the first of several sets. A set over shards has one for each shard."""
    listens: list[tuple[Any, Any]] = []
    for member, step in steps:
        if isinstance(step, Sleep):
            # No shard of this set knows yet that the call waits.
            return step
        listens += step.listens if isinstance(step, ListenToAny) else [(member.driver, step)]
    return ListenToAny(tuple(listens))


class _Waiter(Waiter):
    """A call as a waiter of one of several sets: only once it has found all of them empty.

    Before, it may get an item of another set and not wait, and the other waiters of this one must not count on it.
    """

    __slots__ = ()

    def word(self, wait: Wait) -> str:
        if self.waits:
            return super().word(wait)
        return NOT_YET if wait.left() > 0 else ""


def _enter_all(waiters: Iterable[Waiter]) -> bool:
    """Note that a call waits. Return whether it did so before, for all sets."""
    did = True
    for waiter in waiters:
        did = did and waiter.waits
        waiter.enter()
    return did


#: Returns whose turn it is for each of so many items, of these members.
Turns = Callable[[list[Member], int], list[Member]]


def in_order(members: list[Member], count: int) -> list[Member]:
    """Give all turns to the first member."""
    return members[:1] * count


def in_turns(members: list[Member], count: int) -> list[Member]:
    """Give each member as many turns as its share of the weights, evenly spread.

    Smooth weighted round robin, as in nginx (commit 52327e0627f4, 2012): each turn adds its weight to every member's
    credit, and goes to the one that has the most, which pays the sum.
    """
    credits, turns = {member: member.credit for member in members}, []
    total = sum(member.weight for member in members)
    for _ in range(count):
        for member in members:
            credits[member] += member.weight
        chosen = max(members, key=credits.__getitem__)
        credits[chosen] -= total
        turns.append(chosen)
    return turns


def _note_turns(members: list[Member], chosen: Member, count: int) -> None:
    """Note that one of these members had so many turns. One that has nothing takes no part, and saves up nothing."""
    for member in members:
        member.credit += count * member.weight
    chosen.credit -= count * sum(member.weight for member in members)


def paired(pairs: Any, kinds: tuple[type[Any], ...]) -> list[tuple[Any, int]]:
    """Return pairs of a set and its weight. Does not iterate over a set of one of these kinds, which asks the server.

    :raises TypeError: they are no pairs.
    """
    wanted = "shared() takes pairs of a set and its weight, such as [(a, 8), (b, 1)]"
    if isinstance(pairs, kinds) or not isinstance(pairs, Iterable):
        raise TypeError(f"{wanted}, not {pairs!r}")
    found = list(pairs)
    for pair in found:
        # A set is no sequence, and so is not unpacked either.
        match pair:
            case (_, _):
                pass
            case _:
                raise TypeError(f"{wanted}; one of those given is {pair!r}")
    return [(one, weight) for one, weight in found]


def checked(sets: Iterable[tuple[Any, int]], kind: type[Any]) -> list[tuple[Any, int]]:
    """Return sets and their weights, checked.

    :raises TypeError: one is no set of items that are claimed, or a weight is no int.
    :raises ValueError: there is none, one stands twice, they are on different clients, or a weight is not positive.
    """
    found = list(sets)
    if not found:
        raise ValueError("name at least one set")
    names: set[str] = set()
    for one, weight in found:
        is_of_kind: bool = isinstance(one, kind)
        if not is_of_kind:
            raise TypeError(
                f"only a SortedSet, TimeSortedSet, ScheduledSet or PeriodicSet can be one of several, not {one!r}"
            )
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise TypeError(f"the weight of {one!r} must be an int, not {weight!r}")
        if weight < 1:
            raise ValueError(f"the weight of {one!r} must be at least 1, not {weight!r}")
        if one.name in names:
            raise ValueError(f"the set {one.name!r} is named twice")
        names.add(one.name)
        if one.redis is not found[0][0].redis:
            raise ValueError(f"{one!r} is on another client than {found[0][0]!r}: make all with one client")
    return found


class BaseSeveral(Generic[DriverT]):
    """Several sets of one client, for both faces."""

    def __init__(self, sets: Sequence[tuple[Any, int]], turns: Turns) -> None:
        self._members = [Member(one.name, one._driver, one._claims, one._endings, weight) for one, weight in sets]
        self._turns = turns
        # The driver of a set over shards performs plans in the place of operations, and else is like the others.
        drivers = [one._driver for one, _ in sets if one._shards is not None] or [self._members[0].driver]
        self._driver: DriverT = drivers[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._names}>"

    @property
    def _names(self) -> str:
        return ", ".join(repr(member.name) for member in self._members)

    def _pop(self, wait: Duration | None) -> Plan[Any]:
        if items := (yield from self._gather(1, 0.0, wait)):
            return items[0]
        yield RECEIVED
        raise KeyError(f"pop from empty sets: {self._names}")

    def _take(self, num: int, wait: Duration | None) -> Plan[list[Any]]:
        return self._gather(int(num), 0.0, wait)

    def _reserve(self, lease: Duration, wait: Duration | None) -> Plan[Any]:
        if reservations := (yield from self._reserve_many(1, lease, wait)):
            return reservations[0]
        yield RECEIVED
        raise KeyError(f"nothing to reserve in the sets {self._names}")

    def _reserve_many(self, num: int, lease: Duration, wait: Duration | None) -> Plan[list[Any]]:
        return self._gather(int(num), seconds(lease, "a lease", positive=True), wait)

    def _gather(self, num: int, lease: float, waits: Duration | None) -> Plan[list[Any]]:
        wait = Wait(waits)
        call = _Gathering(self, num, lease, wait)
        try:
            while num > 0:
                is_last = wait.left() <= 0
                yield from call.claim_from_all()
                if call.gathered or (is_last and not call.must_go_on):
                    break
                if not call.must_go_on:
                    yield from call.listen()
            yield from call.stop_waiting()
        finally:
            call.leave()
        return call.in_turn()


class _Gathering:
    """One call that gathers items from several sets."""

    def __init__(self, several: BaseSeveral[Any], num: int, lease: float, wait: Wait) -> None:
        self._members, self._turns_of = several._members, several._turns
        self._num, self._lease, self._wait = num, lease, wait
        self._outage = Outage(several._names, self._members[0].claims.state, wait)
        self._waiters = [_Waiter(member.claims) for member in self._members]
        self._rows: dict[Member, deque[Any]] = {member: deque() for member in self._members}
        self._turns: list[Member] = []
        #: The last reply of each set.
        self._replies: dict[Member, Claimed] = {}
        self.gathered = 0
        #: Whether a claim stopped early, so that the next one may find something at once.
        self.must_go_on = False

    def claim_from_all(self) -> Plan[None]:
        """Claim until there are enough items or no set has one. Fill up with the others what one has not got."""
        left, self._replies, self.must_go_on = list(self._members), {}, False
        while left and self.gathered < self._num:
            turns = self._turns_of(left, self._num - self.gathered)
            counts, goes_on = Counter(turns), True
            for member, wanted in counts.items():
                counts[member] = 0
                if goes_on:
                    got, reply = yield from self._claim(member, wanted)
                    self._rows[member] += got
                    self.gathered += len(got)
                    counts[member] = len(got)
                    _note_turns(left, member, len(got))
                    if len(got) < wanted:
                        left.remove(member)
                    # Nothing may be claimed beside a suspect item, or after a failure. In a strict order nothing may be
                    # claimed after a suspect item that the next call will claim.
                    goes_on = reply is not None and not (reply.alone and (got or self._turns_of is in_order))
            for member in turns:
                if counts[member]:
                    counts[member] -= 1
                    self._turns.append(member)
            if not goes_on:
                return

    def _claim(self, member: Member, wanted: int) -> Plan[tuple[list[Any], Claimed | None]]:
        """Claim from one set. The reply is None after a failure that the call survives."""
        got: list[Any] = []
        waiter = self._waiters[self._members.index(member)]
        while True:
            has_some = bool(self.gathered or got)
            word = "" if has_some else waiter.word(self._wait)
            limit = min(wanted - len(got), CHUNK)
            claim = member.claims.claim(limit, self._lease, waiter=word, follows=has_some)
            try:
                reply: Claimed = yield from self._outage.once(member.at(claim))
            except Exception as error:
                if not is_failure(error):
                    raise
                if has_some:
                    log.warning(
                        "%s: claimed only %d items before an error: %s", member.name, self.gathered + len(got), error
                    )
                else:
                    yield from self._outage.pause(error)
                    self.must_go_on = True
                return got, None
            self._outage.end()
            if word and (reply.rows or word.startswith("left")):
                waiter.leave()
            got += yield from member.perform(member.claims.received(reply))
            self._replies[member] = reply
            self.must_go_on = self.must_go_on or reply.more
            # Rows that could not be loaded are dead letters by now, so they are no reason to stop.
            stops = reply.alone and (got or not reply.rows)
            if len(got) >= wanted or stops or reply.was_all:
                return got, reply

    def listen(self) -> Plan[None]:
        """Wait for the first of the sets. Return at once if the claims did not yet tell the server that it waits."""
        if _enter_all(self._waiters) and (left := self._wait.left()) > 0:
            listens = [(member, member.claims.listen(reply, left)) for member, reply in self._replies.items()]
            yield from self._outage.once(_listen_to_all(listens))

    def stop_waiting(self) -> Plan[None]:
        for member, waiter in zip(self._members, self._waiters, strict=True):
            if not (yield from member.perform(stop_waiting(member.claims, waiter, self._outage))):
                return

    def leave(self) -> None:
        for waiter in self._waiters:
            waiter.leave()

    def in_turn(self) -> list[Any]:
        return [self._rows[member].popleft() for member in self._turns]


class _Loop(BaseConsumption[Any, Any, Any]):
    """The loop over one of several sets."""

    _waiter_type = _Waiter


class BaseSeveralConsumption(BaseLoop[DriverT, Any]):
    """The state of one ``consume`` loop over several sets: a loop over each, of which the turns choose one."""

    def __init__(
        self,
        several: BaseSeveral[DriverT],
        lease: Duration,
        batch: int,
        wait: Duration | None,
        stop: Stop,
        max_outage: Duration | None,
    ) -> None:
        super().__init__(several._driver, stop)
        self._members, self._turns_of = several._members, several._turns
        self._wait = wait
        self._loops = [
            _Loop(one.driver, one.claims, one.endings, lease, batch, wait, stop, max_outage) for one in self._members
        ]
        #: The loop whose batch is being worked off.
        self._current = self._loops[0]

    @property
    def lost(self) -> int:
        """The number of leases that were lost before their item was acked."""
        return sum(loop.lost for loop in self._loops)

    def _at_hand(self) -> Any:
        return self._current._at_hand()

    def _next(self) -> Plan[Any]:
        wait = Wait(self._wait)
        reservation = None
        try:
            while self._goes_on:
                is_last = wait.left() <= 0
                replies: list[tuple[Member, Claimed]] = []
                reservation = yield from self._try_all(wait, replies)
                if reservation is not None or len(replies) < len(self._members):
                    break
                if is_last:
                    break
                if _enter_all(loop._waiter for loop in self._loops):
                    yield from self._listen(replies, wait)
            if self._is_ours:
                yield from self._stop_waiting()
        finally:
            for loop in self._loops:
                loop._waiter.leave()
        return reservation

    def _try_all(self, wait: Wait, replies: list[tuple[Member, Claimed]]) -> Plan[Any]:
        """Return the next reservation, or None if there is none, or if told to stop.

        A set is left only when it has nothing to claim, so a claim that stopped early is followed by another one.
        """
        for member, loop in zip(self._members, self._loops, strict=True):
            loop._outage.wait = wait
            if loop._ready and loop._is_late():
                yield from member.perform(loop._send_late())
        left = list(self._members)
        while left and self._goes_on:
            (member,) = self._turns_of(left, 1)
            loop = self._loops[self._members.index(member)]
            if loop._ready:
                yield from self._send_acks_of_others(loop)
                # While its items are begun, nobody listens.
                yield from self._stop_waiting()
            is_over = wait.left() <= 0
            got = yield from member.perform(loop._try_next(wait))
            if got is None:
                return None
            if not isinstance(got, Claimed):
                self._current = loop
                _note_turns(left, member, 1)
                return got
            if got.rows or is_over:
                # The claim said that it does not wait any longer.
                loop._waiter.leave()
            if not (got.rows or got.more):
                replies.append((member, got))
                left.remove(member)
        return None

    def _send_acks_of_others(self, current: BaseConsumption[Any, Any, Any]) -> Plan[None]:
        """Send the acks of all sets but one, since it may take long until the next claim from these."""
        for member, loop in zip(self._members, self._loops, strict=True):
            if loop is not current and loop._to_ack:
                yield from member.perform(loop._send_late())

    def _stop_waiting(self) -> Plan[None]:
        for member, loop in zip(self._members, self._loops, strict=True):
            if not (yield from member.perform(stop_waiting(loop._claims, loop._waiter, loop._outage))):
                return

    def _listen(self, replies: list[tuple[Member, Claimed]], wait: Wait) -> Plan[None]:
        if (left := wait.left()) <= 0:
            return
        listens = [(member, member.claims.listen(reply, left, self._stop)) for member, reply in replies]
        yield from self._current._outage.once(_listen_to_all(listens))

    def _close(self) -> Plan[None]:
        self._closed, trouble = True, None
        for member, loop in zip(self._members, self._loops, strict=True):
            try:
                yield from member.perform(loop._close())
            except Exception as error:
                if not is_failure(error):
                    raise
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def _leave_body(self) -> None:
        self._current._leave_body()

    @property
    def _is_done(self) -> bool:
        return self._closed and all(loop._is_done for loop in self._loops)
