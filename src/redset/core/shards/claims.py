"""Claims from a set over shards: which shard to claim from, the exact order of claims of several items, and waiting.

One item: of two random shards the one whose next item has the lower score, as far as this process knows ("the power of
two choices": Michael Mitzenmacher, 2001; for queues by priority Alistarh, Kopinsky, Li, Nadiradze, 2017). One claim in
16 goes to a random shard, so that a stale score heals, and expired leases are requeued everywhere.

Several items: the first scores of all shards say how many items each shard has among the lowest.
"""

import logging
import math
import random
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter, neg
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from redset.core.calls import ClientState
from redset.core.claiming import Claimed, Claims, head_with
from redset.core.definition import Definition
from redset.core.leases import BaseReservation
from redset.core.operations import CHUNK, At, Listen, ListenToAny, Operation, Plan, Sleep, flattened, once
from redset.core.shards.endings import ShardsEndings
from redset.core.shards.place import FORGET, Flat, Shard, Shards, as_operation, is_other_trouble, outcomes_of
from redset.core.times import Duration
from redset.core.waiting import NOT_YET, SOON, SPARE, Outage, Wait, claim_within
from redset.exceptions import WrongTypeError

__all__ = ("ShardsClaims",)

T = TypeVar("T")
Res = TypeVar("Res")

log = logging.getLogger("redset")

#: Acks, and a function that takes the head of the reply to a claim that they would have travelled with.
SentAcks: TypeAlias = tuple[Sequence[BaseReservation[Any]], Callable[[bytes], None] | None]

#: One claim in so many goes to a random shard.
STRAY = 16
#: The number of shards that may fail in one call. In an outage each takes as long as the client tries.
FAILURES = 3
#: Seconds before a planned look at which it counts as due.
EARLY = 0.002


@dataclass(frozen=True, slots=True)
class _Word:
    """What a claim tells the server about a caller that waits; see :class:`redset.core.waiting.Waiter`."""

    how: str
    name: str
    poll: float

    @classmethod
    def of(cls, text: str) -> "_Word | None":
        if text in ("", NOT_YET):
            return None
        how, name, poll = text.split(" ")
        return cls(how, name, float(poll))

    def is_announced(self, shard: Shard) -> bool:
        """Return whether the shard knows that the caller waits."""
        look = shard.looks.get(self.name)
        return look is not None and look.at > time.monotonic() - FORGET

    def text(self, factor: int) -> str:
        return f"{self.how} {self.name} {self.poll * factor!r}"


class _Wanted(NamedTuple):
    """What a claim asks for."""

    limit: int
    lease: float
    word: _Word | None
    last: bool
    follows: bool
    #: Whether the caller takes the set for empty if nothing is found.
    decides: bool = True


class _Asking:
    """The claims of one call from one shard after another, until one has something.

    The looks of waiters: those at the first shard, "home", are planned as those of a set without shards, ``poll``
    seconds apart however many wait, and at each of them the waiter looks at all shards, in one round trip. At the
    others the waiters are announced, so that additions wake them, with looks that are further apart by the number of
    shards. So the server has about twice as much to do for them as on a set without shards.
    """

    def __init__(self, claims: "ShardsClaims[Any, Any]", shards: list[Shard], wanted: _Wanted) -> None:
        self._claims = claims
        self.shards = shards
        self._wanted = wanted
        self.replies: list[tuple[Shard, Claimed]] = []
        #: The shards that answered, and the errors of those that failed.
        self._answered: set[Shard] = set()
        self._failed: dict[Shard, Exception] = {}
        #: Seconds until something falls due, of the shards that have something.
        self._soon: dict[Shard, float] = {}
        self.ends = False

    @property
    def has_rows(self) -> bool:
        return bool(self.replies and self.replies[-1][1].rows)

    @property
    def home(self) -> Shard:
        """The shard by which the looks at all shards are planned."""
        return working(self.shards)[0]

    def begin(self, chosen: Shard | None) -> Plan[None]:
        """Claim from the chosen shard and the best of the others, without announcing the caller."""
        for shard in self._best(chosen):
            yield from self._try(shard, None)
            if self.ends:
                return

    def pay(self) -> Plan[None]:
        """Claim from the shards where this client has lost a claim, which may have taken an item."""
        state, word = self._claims.state, self._wanted.word
        assert word is not None
        for shard in working(self.shards) if state.debts else ():
            if not self.ends and state.owed(shard.driver.caller.prefix, claims=True):
                yield from self._try(shard, word if word.is_announced(shard) else None)

    def _best(self, chosen: Shard | None) -> Iterator[Shard]:
        """Yield the chosen shard, and then of the others the best that is not known to be empty."""
        if chosen is not None:
            yield chosen
        last = self._wanted.last
        empty = -math.inf if last else math.inf
        others = [
            shard
            for shard in working(self.shards)
            if shard is not chosen
            and shard not in self._answered
            and shard not in self._failed
            and shard.heads[last] != empty
        ]
        self._claims._random.shuffle(others)
        if others:
            yield (max if last else min)(others, key=lambda shard: shard.heads[last])

    def _try(self, shard: Shard, word: _Word | None) -> Plan[None]:
        limit, lease, _, last, follows, _ = self._wanted
        text = "" if word is None else word.text(1 if shard is self.home else len(self.shards))
        claim = shard.parts.claims.claim(limit, lease, waiter=text, last=last, follows=follows)
        asked_at = time.monotonic()
        try:
            reply: Claimed = yield from shard.carefully(claim)
        except Exception as error:
            self._fail(shard, error, asked_at)
            return
        self._note(shard, reply)
        if word is None:
            return
        if word.how == "left" or (reply.rows and word.how == "leaves"):
            shard.looks.pop(word.name, None)
        elif not reply.rows:
            shard.note_look(word.name, asked_at + reply.next_look, is_precise=reply.is_precise)

    def _note(self, shard: Shard, reply: Claimed) -> None:
        """Note the reply of a shard."""
        self._answered.add(shard)
        self.replies.append((shard, reply))
        self._claims._note_head(shard, reply, last=self._wanted.last)
        self.ends = bool(reply.rows or reply.alone)

    def _fail(self, shard: Shard, error: Exception, asked_at: float) -> None:
        """Note the failure of a shard. Raise the error if it is not one that leaves the others to be asked."""
        if not is_other_trouble(error):
            raise error
        self._claims._shards.failed(shard, error, asked_at)
        self._failed[shard] = error
        # The shards of a node fail together.
        self.ends = self.ends or len({failed.rest for failed in self._failed}) >= FAILURES

    def look(self) -> Plan[None]:
        """Look at all shards that were not found empty, and claim from those that have something."""
        shards = [shard for shard in working(self.shards) if shard not in self._answered and shard not in self._failed]
        self._soon = yield from self._soon_at(shards)
        word = self._wanted.word
        for shard, left in self._soon.items():
            if left <= 0 and not self.ends:
                yield from self._try(shard, word if word is not None and word.is_announced(shard) else None)

    def _soon_at(self, shards: list[Shard]) -> Plan[dict[Shard, float]]:
        """Return the seconds until something can be claimed, of those shards that have something.

        First a plain command to each shard, which is all as long as the set is empty; then a script to the others.
        """
        exist = [
            shard.asked(Operation("EXISTS", (shard.parts.keys.waiting, shard.parts.keys.leased), (), int))
            for shard in shards
        ]
        found = yield from self._outcomes(shards, exist)
        there = [shard for shard in shards if found.get(shard)]
        soon = yield from self._outcomes(there, [shard.asked(shard.parts.looking.soon()) for shard in there])
        return {shard: seconds for shard, seconds in soon.items() if seconds is not None}

    def _outcomes(self, shards: list[Shard], steps: list[Any]) -> Plan[dict[Shard, Any]]:
        """Perform a step at each shard, and return the results of those that have not failed."""
        asked_at = time.monotonic()
        outcomes = dict(zip(shards, (yield from outcomes_of(steps)), strict=True))
        for shard, outcome in outcomes.items():
            if isinstance(outcome, Exception):
                self._fail(shard, outcome, asked_at)
                self._answered.discard(shard)
            else:
                self._answered.add(shard)
        return {shard: outcome for shard, outcome in outcomes.items() if not isinstance(outcome, Exception)}

    def ask_the_rest(self) -> Plan[None]:
        """Claim from the shards that failed, or that rest after a failure: the set is empty only if they are.

        A shard that failed just now for the first time is asked as often as the client tries.

        :raises Exception: the error of a shard that fails again.
        """
        limit, lease, _, last, *_ = self._wanted
        for shard in self.shards:
            if self.ends:
                return
            if shard in self._answered:
                continue
            claim = shard.parts.claims.claim(limit, lease, last=last)
            asked_at, is_first = time.monotonic(), shard in self._failed and shard.failures == 1
            try:
                reply: Claimed = yield from once(shard.at(claim)) if is_first else shard.carefully(claim)
            except Exception as error:
                self._fail(shard, error, asked_at)
                raise
            self._failed.pop(shard, None)
            if is_first:
                shard.rest.end()
            self._note(shard, reply)

    def announce(self) -> Plan[None]:
        """Claim from each shard that does not know that the caller waits, or where it planned to look by now."""
        word, asked = self._wanted.word, {shard for shard, reply in self.replies}
        assert word is not None
        for shard in working(self.shards):
            look = shard.looks.get(word.name)
            now = time.monotonic()
            due = self._soon.get(shard, math.inf)
            # What falls due before the next look but one at all shards needs one at just that moment.
            is_missed = due < 2 * word.poll and look is not None and look.at > now + due + SPARE + EARLY
            if not self.ends and (look is None or look.at <= now + EARLY or (is_missed and shard not in asked)):
                yield from self._try(shard, word)

    def pass_on(self) -> Plan[None]:
        """Leave, with an item, the first shard and those that have another item, now or before the next looks.

        Where the caller has planned to look at that moment, another waiter is woken, to claim the item or to look then.
        Else one waiter would have planned the looks of all shards, and claim from one of them only.
        """
        word = self._wanted.word
        assert word is not None
        soon = [shard for shard, seconds in self._soon.items() if seconds < 2 * word.poll]
        yield from self.leave(list(dict.fromkeys([self.home, *soon])))

    def leave(self, shards: list[Shard]) -> Plan[None]:
        """Tell some shards that the caller waits no longer. Whether that succeeds does not matter."""
        word = self._wanted.word
        assert word is not None
        home, left = self.home, _Word("left", word.name, word.poll)
        told = [shard for shard in shards if shard.looks.pop(word.name, None) is not None]
        steps = []
        for shard in told:
            text = left.text(1 if shard is home else len(self.shards))
            steps.append(shard.asked(shard.parts.claims.claim(0, 0.0, waiter=text)))
        for shard, outcome in zip(told, (yield from outcomes_of(steps)), strict=True):
            if isinstance(outcome, Exception):
                log.debug("%s: the server was not told that a call stopped waiting: %s", shard.name, outcome)

    def check(self) -> None:
        """Raise the error of a shard if no other one had something."""
        if self._failed and not any(reply.rows or reply.more for _, reply in self.replies):
            raise next(iter(self._failed.values()))


class ShardsClaimed(Claimed):
    """The replies to the claims of one call: of empty shards, and at last of one that had items."""

    __slots__ = ("_late", "at", "replies", "shards", "word")

    def __init__(
        self, replies: list[tuple[Shard, Claimed]], late: list[int], wanted: _Wanted, shards: list[Shard]
    ) -> None:
        self.replies = replies
        #: The shards at the time of the claim.
        self.shards = shards
        self._late = late
        self.limit, self.lease, self.word = wanted.limit, wanted.lease, wanted.word
        with_rows = [(shard, reply) for shard, reply in replies if reply.rows]
        #: The shard with the rows, and its reply.
        self.at = with_rows[0] if with_rows else None
        self.rows = self.at[1].rows if self.at else []

    @property
    def more(self) -> bool:
        return any(reply.more for _, reply in self.replies)

    @property
    def alone(self) -> bool:
        return any(reply.alone for _, reply in self.replies)

    @property
    def was_all(self) -> bool:
        return not (self.rows or self.more)

    @property
    def lost(self) -> list[int]:
        return self._late


class ShardsClaims(Claims[T, Res]):
    """The claims of a set over shards. A claim is a plan here, which the driver of the set performs as an operation."""

    def __init__(
        self,
        definition: Definition[T],
        shards: Shards,
        endings: ShardsEndings[T],
        new_reservation: Callable[..., Res],
        state: ClientState,
    ) -> None:
        super().__init__(definition, new_reservation, claim_within, bury=_bury_nothing, state=state)
        self._shards = shards
        self._endings = endings
        self._random = random.Random()
        #: Acks that were sent and not answered, each with a function that notes the outcome.
        self._sent_acks: list[SentAcks] = []

    # The choice of a shard.

    def _chosen(self, *, last: bool) -> Shard:
        """Return the shard to claim one item from."""
        shards = self._shards.all
        if len(shards) == 1:
            return shards[0]
        state = shards[0].driver.caller.state
        if state.debts:
            now = time.monotonic()
            for shard in shards:
                # A shard that failed has a debt, and would fail again each time.
                if shard.rests_until <= now and state.owed(shard.driver.caller.prefix, claims=True):
                    return shard
        one = self._drawn(shards)
        if STRAY * self._random.random() >= 1 and self._comes_later(one, other := self._drawn(shards), last=last):
            one = other
        return one

    def _drawn(self, shards: list[Shard]) -> Shard:
        """Return a random one of the shards that have not failed just now; of all if there is none."""
        # A fourth of the time of randrange.
        draw = self._random.random
        one, now = shards[int(len(shards) * draw())], time.monotonic()
        if one.rests_until > now:
            working = [shard for shard in shards if shard.rests_until <= now] or shards
            one = working[int(len(working) * draw())]
        return one

    def _comes_later(self, one: Shard, other: Shard, *, last: bool) -> bool:
        return other.heads[last] > one.heads[last] if last else other.heads[last] < one.heads[last]

    # One item.

    def pop(self, wait: Duration | None, *, last: bool = False) -> Plan[T]:
        plan = super().pop(wait, last=last)
        return cast("Plan[T]", Flat(plan)) if wait == 0 else plan

    def reserve(self, lease: Duration, wait: Duration | None) -> Plan[Res]:
        plan = super().reserve(lease, wait)
        return cast("Plan[Res]", Flat(plan)) if wait == 0 else plan

    def _one(self, lease: float, *, last: bool) -> Plan[list[Any]]:
        """Claim one item without waiting. The steps are no plans: this path takes little more than a plain set."""
        first: Shard | None = None
        reply: Claimed | None = None
        failure: Exception | None = None
        asked_at = 0.0
        if self._shards.is_known():
            first = self._chosen(last=last)
            claim = first.parts.claims.claim(1, lease, last=last)
            asked_at = time.monotonic()
            try:
                reply = (yield from first.carefully(claim)) if first.is_careful else (yield At(first.driver, claim))
            except WrongTypeError:
                # After a reshard. It is asked again below.
                first = None
            except Exception as error:
                failure = error
            if first is not None and reply is not None and reply.rows:
                self._note_head(first, reply, last=last)
                return (yield from self._loaded(first, reply))
        wanted = _Wanted(1, lease, None, last, follows=False)

        def others() -> Plan[ShardsClaimed]:
            asking = _Asking(self, self._shards.all, wanted)
            if first is None or first not in asking.shards:
                return (yield from self._claim_from_any(self._chosen(last=last), [], wanted, asking))
            if failure is not None:
                asking._fail(first, failure, asked_at)
            elif reply is not None:
                asking._note(first, reply)
            return (yield from self._claim_from_any(None, [], wanted, asking))

        got = yield from flattened(self._shards.settled(others))
        if got.at is not None:
            return (yield from self._loaded(*got.at))
        return (yield from flattened(super()._gather(1, lease, 0, last=last))) if got.more and not got.alone else []

    def _loaded(self, shard: Shard, reply: Claimed) -> Plan[list[Any]]:
        """Return the item or the reservation of a reply's row, unless it cannot be loaded."""
        claims = shard.parts.claims
        items, broken = self._items.load_all(reply.stored, reply.values)
        if broken:
            yield from flattened(once(shard.at(claims._bury(reply, broken))))
        found: list[Any] = claims._reservations(reply, items, broken) if reply.lease else items
        return found

    # A batch of one shard.

    def claim(
        self,
        limit: int,
        lease: float,
        acks: Sequence[BaseReservation[T]] = (),
        on_roll_back: Callable[[bytes], None] | None = None,
        *,
        waiter: str = "",
        last: bool = False,
        follows: bool = False,
    ) -> Operation[Claimed]:
        word = _Word.of(waiter)
        decides = waiter == "" if word is None else word.how == "left"
        wanted = _Wanted(limit, lease, word, last=last, follows=follows, decides=decides)
        return as_operation(self._shards.settled(lambda: self._claim_after(acks, on_roll_back, wanted)))

    def _claim_after(
        self, acks: Sequence[BaseReservation[T]], on_roll_back: Callable[[bytes], None] | None, wanted: "_Wanted"
    ) -> Plan[Claimed]:
        """Ack, and claim from the first shard that has something.

        The acks travel with the claim if all are of the shard that it goes to. Else they are sent before, in one round
        trip: with a later claim from their shard, they could come after the end of their leases.
        """
        chosen = self._chosen(last=wanted.last)
        if not acks:
            return (yield from self._claim_from_any(chosen, [], wanted))
        # An ack that was sent by itself is sent again as the same call.
        if not any(one._end_sent for one in acks) and all(self._shards.of(one._stored) is chosen for one in acks):
            claim = chosen.parts.claims.claim(wanted.limit, wanted.lease, acks, on_roll_back, last=wanted.last)
            reply: Claimed = yield from chosen.carefully(claim)
            self._note_head(chosen, reply, last=wanted.last)
            if reply.rows or reply.alone:
                return ShardsClaimed([(chosen, reply)], reply.lost, wanted, self._shards.all)
            if on_roll_back is not None:
                # The claims from the others may fail, and its loop must know then that the acks have arrived.
                on_roll_back(head_with(reply.lost))
            return (yield from self._claim_from_any(None, reply.lost, wanted))
        sent = acks, on_roll_back
        if sent not in self._sent_acks:
            self._sent_acks.append(sent)
        late = yield from self._ack(sent)
        return (yield from self._claim_from_any(chosen, late, wanted))

    def _ack(self, sent: SentAcks) -> Plan[list[int]]:
        """Send acks, or send them again. Return the positions of those that came too late."""
        acks, note = sent
        # After a failure, some may be known to have arrived.
        yield from self._endings.ack([one for one in acks if not one._end_known])
        late = [position for position, one in enumerate(acks) if one.lost.is_set()]
        if note is not None:
            # The claim may fail, and its loop must know then that they have arrived.
            note(head_with(late))
        if sent in self._sent_acks:
            self._sent_acks.remove(sent)
        return late

    def _claim_from_any(
        self, chosen: Shard | None, late: list[int], wanted: "_Wanted", asking: _Asking | None = None
    ) -> Plan["ShardsClaimed"]:
        """Claim from the first shard that has something.

        First from the chosen one, and from the one that is said to have the best next item. If both are empty, look at
        all in one round trip. If that shows nothing either, a caller that waits is announced at each.

        :param asking: the shards that were asked before.
        """
        word = wanted.word
        if asking is None:
            asking = _Asking(self, self._shards.all, wanted)
        has_ended = asking.ends
        if wanted.limit > 0 and not has_ended:
            if word is None or not word.is_announced(asking.home):
                yield from asking.begin(chosen)
            else:
                yield from asking.pay()
            if not asking.ends:
                yield from asking.look()
            if wanted.decides and not (asking.ends or wanted.follows):
                yield from asking.ask_the_rest()
        if word is not None and word.how == "left":
            yield from asking.leave(asking.shards)
        elif word is not None and not asking.ends:
            yield from asking.announce()
        elif word is not None and word.how == "leaves" and asking.has_rows:
            yield from asking.pass_on()
        asking.check()
        return ShardsClaimed(asking.replies, late, wanted, asking.shards)

    def _note_head(self, shard: Shard, reply: Claimed, *, last: bool) -> None:
        head = reply.head
        shard.heads[last] = -head if last and head == math.inf else head

    def received(self, got: Claimed) -> Plan[list[Any]]:
        if not isinstance(got, ShardsClaimed) or got.at is None:
            return []
        shard, reply = got.at
        rows: list[Any] = yield shard.at(shard.parts.claims.received(reply))
        return rows

    def listen(self, got: Claimed, left: float, should_stop: Callable[[], bool] | None = None) -> Any:
        assert isinstance(got, ShardsClaimed)
        word, now = got.word, time.monotonic()
        assert word is not None
        listens = []
        # Nothing is claimed from a shard that rests: its planned look may be past. Its rest ends with a look.
        rests_end = min((shard.rests_until for shard in got.shards if shard.rests_until > now), default=math.inf)
        for shard in working(got.shards):
            if (look := shard.looks.get(word.name)) is not None:
                claims = shard.parts.claims
                listen = Listen(
                    (shard.parts.keys.wake,),
                    claims.place[2],
                    min(look.at, rests_end) - now,
                    look.is_precise,
                    left,
                    self._set.longest_block,
                    should_stop,
                )
                listens.append((shard.driver, listen))
        return ListenToAny(tuple(listens)) if listens else Sleep(SOON)

    def roll_back_unknown(self) -> Any:
        def perform() -> Plan[None]:
            for shard in self._shards.all:
                yield from shard.at(once(shard.parts.claims.roll_back_unknown()))
            for sent in self._sent_acks[:]:
                yield from self._ack(sent)

        return self._shards.settled(perform)

    # Several items, in order.

    def _gather(self, num: int, lease: float, wait: Duration | None, *, last: bool = False) -> Plan[list[Any]]:
        """Claim the ``num`` lowest items of all shards, as of one look at each."""
        if num == 1 and wait == 0 and wait is not False:
            return (yield from self._one(lease, last=last))
        if num <= 1:
            return (yield from super()._gather(num, lease, wait, last=last))
        rows: list[tuple[float, bytes, Any]] = []
        whole = Wait(wait)
        outage = Outage(self.set_name, self.state, whole)
        while True:
            lowest = self._shards.settled(lambda: self._claim_lowest(rows, num, lease, last=last))
            try:
                yield from outage.once(as_operation(lowest))
            except Exception as error:
                yield from outage.pause(error)
            else:
                break
        outage.end()
        if not (rows or whole.is_none):
            got: Any = yield from claim_within(self, min(num, CHUNK), lease, whole, last=last)
            if got.at is not None:
                rows += yield from self._rows(*got.at)
                if not got.alone:
                    yield from self._shards.settled(lambda: self._claim_lowest(rows, num, lease, last=last))
        rows.sort(key=itemgetter(0, 1), reverse=last)
        return [row[2] for row in rows]

    def _claim_lowest(self, rows: list[tuple[float, bytes, Any]], num: int, lease: float, *, last: bool) -> Plan[None]:
        """Claim until there are ``num`` rows, or no shard has one."""
        goes_on = True
        while goes_on and len(rows) < num:
            before = len(rows)
            goes_on = yield from self._claim_counted(rows, num - before, lease, last=last)
            if goes_on and len(rows) == before:
                # Others were faster, or the lowest items cannot be claimed: take what any shard has.
                wanted = _Wanted(min(num - before, CHUNK), lease, None, last, follows=bool(rows))
                got = yield from self._claim_from_any(self._chosen(last=last), [], wanted)
                if got.at is not None:
                    rows += yield from self._rows(*got.at)
                goes_on = (got.at is not None or got.more) and not got.alone

    def _claim_counted(self, rows: list[tuple[float, bytes, Any]], num: int, lease: float, *, last: bool) -> Plan[bool]:
        """Claim from each shard as many as it has of the lowest items. Return whether more may be claimed.

        All are asked at once, and under a lease as callers that follow: a suspect item must be claimed alone. A shard
        that held one back is asked first by the next call, and by itself.
        """
        counts = yield from self._counts(num, last=last)
        for shard in [shard for shard in counts if shard.has_suspect and lease > 0 and not rows]:
            shard.has_suspect = False
            if (yield from self._claim_some(rows, shard, counts.pop(shard), lease, last=last, follows=bool(rows))):
                return False
        asked_at = time.monotonic()
        plans = [self._claim_some(rows, shard, counts[shard], lease, last=last, follows=True) for shard in counts]
        goes_on, trouble = True, None
        for shard, outcome in zip(counts, (yield from outcomes_of(plans)), strict=True):
            if not isinstance(outcome, Exception):
                goes_on = goes_on and not outcome
            elif is_other_trouble(outcome):
                self._shards.failed(shard, outcome, asked_at)
                trouble = outcome
            else:
                raise outcome
        if trouble is not None and not rows:
            raise trouble
        # After a failure, what was claimed is returned.
        return trouble is None and (goes_on or not rows)

    def _claim_some(
        self, rows: list[tuple[float, bytes, Any]], shard: Shard, count: int, lease: float, *, last: bool, follows: bool
    ) -> Plan[bool]:
        """Claim rows from a shard. Return whether nothing may be claimed beside them."""
        while count > 0:
            claim = shard.parts.claims.claim(min(count, CHUNK), lease, last=last, follows=follows)
            reply: Claimed = yield from shard.carefully(claim)
            self._note_head(shard, reply, last=last)
            rows += yield from self._rows(shard, reply)
            count -= len(reply.stored)
            if reply.alone:
                shard.has_suspect = not reply.rows
                return True
            if reply.was_all:
                break
            follows = True
        return False

    def _counts(self, num: int, *, last: bool) -> Plan[Counter[Shard]]:
        """Return how many of the ``num`` lowest items each shard has. Asks again where an answer ends too early."""
        shards, scores, failed = working(self._shards.all), dict[Shard, list[float]](), set[Shard]()
        share = num / len(shards)
        sizes = dict.fromkeys(shards, min(num, math.ceil(share + 3 * math.sqrt(share) + 1)))
        asked = list(shards)
        while True:
            asked_at = time.monotonic()
            steps = [shard.asked(_first_scores(shard, sizes[shard], last=last)) for shard in asked]
            for shard, found in zip(asked, (yield from outcomes_of(steps)), strict=True):
                if not isinstance(found, Exception):
                    scores[shard] = found
                    continue
                if not is_other_trouble(found):
                    raise found
                self._shards.failed(shard, found, asked_at)
                failed.add(shard)
                scores[shard] = []
                if len(failed) == len(shards) or len({each.rest for each in failed}) >= FAILURES:
                    raise found
            counts = _counted(scores, num, last=last)
            asked = [shard for shard in shards if sizes[shard] < num and counts[shard] == sizes[shard]]
            if not asked:
                return counts
            sizes |= {shard: min(num, 2 * sizes[shard]) for shard in asked}

    def _rows(self, shard: Shard, reply: Claimed) -> Plan[list[tuple[float, bytes, Any]]]:
        """Return the score, the stored bytes, and the item or reservation of each row that can be loaded."""
        claims = shard.parts.claims
        items, broken = self._items.load_all(reply.stored, reply.values)
        if broken:
            yield shard.at(claims._bury(reply, broken))
        scores = [float(cell.split()[-1]) for cell in reply.rows[1::2]]
        stored = [row for at, row in enumerate(zip(scores, reply.stored, strict=True)) if at not in broken]
        results = claims._reservations(reply, items, broken) if reply.lease else items
        return [(*row, result) for row, result in zip(stored, results, strict=True)]


def working(shards: list[Shard]) -> list[Shard]:
    """Return the shards that have not failed just now; all if there is none."""
    now = time.monotonic()
    return [shard for shard in shards if shard.rests_until <= now] or shards


def _counted(scores: dict[Shard, list[float]], num: int, *, last: bool) -> Counter[Shard]:
    """Return how many of the ``num`` lowest scores, or highest, are of each shard."""
    in_order = sorted(chain.from_iterable(scores.values()), reverse=last)
    if len(in_order) <= num:
        return Counter({shard: len(own) for shard, own in scores.items() if own})
    # The scores of each shard are in order. Those before the bound are counted, and of equal ones as many as are left.
    bound, counts, ends = in_order[num - 1], Counter[Shard](), dict[Shard, int]()
    for shard, own in scores.items():
        if last:
            first = bisect_left(own, -bound, key=neg)
            end = bisect_right(own, -bound, key=neg)
        else:
            first, end = bisect_left(own, bound), bisect_right(own, bound)
        if first:
            counts[shard] = first
        if end > first:
            ends[shard] = end - first
    left = num - counts.total()
    for shard, equal in ends.items():
        if left > 0:
            counts[shard] += min(equal, left)
            left -= equal
    return counts


def _first_scores(shard: Shard, count: int, *, last: bool) -> Operation[list[float]]:
    """Read the lowest scores of a shard, or the highest."""

    def read(reply: list[Any]) -> list[float]:
        if reply and isinstance(reply[0], list):
            # The reply of ZRANGE in RESP3.
            return [float(score) for _, score in reply]
        return list(map(float, reply[1::2]))

    keys = (shard.parts.keys.waiting,)
    return Operation("ZRANGE", keys, ("0", str(count - 1), *(["REV"] if last else []), "WITHSCORES"), read)


def _bury_nothing(*_: Any) -> Plan[None]:
    """Shards bury by themselves."""
    yield from ()
