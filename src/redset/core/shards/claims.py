"""Claims from a set over shards: which shard to claim from, the exact order of claims of several items, and waiting.

One item: of two random shards the one whose next item has the lower score, as far as this process knows ("the power of
two choices": Michael Mitzenmacher, 2001; for queues by priority Alistarh, Kopinsky, Li, Nadiradze, 2017). One claim in
16 goes to a random shard, so that a stale score heals, and expired leases are requeued everywhere.

Several items: the first scores of all shards say how many items each shard has among the lowest.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from redset.core.claiming import Claimed, Claims, head_with
from redset.core.definition import Definition
from redset.core.leases import BaseReservation
from redset.core.operations import CHUNK, ListenToAny, Operation, Plan
from redset.core.shards.endings import ShardsEndings
from redset.core.shards.place import Shard, Shards, as_operation, is_other_trouble
from redset.core.times import Duration
from redset.core.waiting import claim_within

__all__ = ("ShardsClaims",)

T = TypeVar("T")
Res = TypeVar("Res")

#: Acks, and a function that takes the head of the reply to a claim that they would have travelled with.
SentAcks: TypeAlias = tuple[Sequence[BaseReservation[Any]], Callable[[bytes], None] | None]

#: One claim in so many goes to a random shard.
STRAY = 16
#: The number of shards that may fail in one call. In an outage each takes as long as the client tries.
FAILURES = 3


class ShardsClaimed(Claimed):
    """The replies to the claims of one call: of empty shards, and at last of one that had items."""

    __slots__ = ("_late", "at", "replies", "was_cut")

    def __init__(
        self, replies: list[tuple[Shard, Claimed]], late: list[int], limit: int, lease: float, *, was_cut: bool
    ) -> None:
        self.replies = replies
        self._late = late
        #: Whether a shard could not be asked.
        self.was_cut = was_cut
        self.limit = limit
        self.lease = lease
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
        client: Hashable,
    ) -> None:
        super().__init__(definition, new_reservation, claim_within, bury=_bury_nothing, client=client)
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
                if shard.rests_until <= now and state.owes_claims(shard.driver.caller.prefix):
                    return shard
        one = self._drawn(shards)
        if self._random.randrange(STRAY) and self._comes_later(one, other := self._drawn(shards), last=last):
            one = other
        return one

    def _drawn(self, shards: list[Shard]) -> Shard:
        """Return a random one of the shards that have not failed just now; of all if there is none."""
        draw = self._random.randrange
        one, now = shards[draw(len(shards))], time.monotonic()
        if one.rests_until > now:
            working = [shard for shard in shards if shard.rests_until <= now] or shards
            one = working[draw(len(working))]
        return one

    def _comes_later(self, one: Shard, other: Shard, *, last: bool) -> bool:
        return other.heads[last] > one.heads[last] if last else other.heads[last] < one.heads[last]

    def _in_order(self, *, last: bool) -> Iterator[Shard]:
        """Yield the shards to ask: the chosen one, then those of the others that work, by their next scores."""
        chosen = self._chosen(last=last)
        yield chosen
        now = time.monotonic()
        others = [shard for shard in self._shards.all if shard is not chosen]
        self._random.shuffle(others)
        others.sort(key=lambda shard: -shard.heads[last] if last else shard.heads[last])
        yield from (shard for shard in others if shard.rests_until <= now)

    # One item, or a batch of one shard.

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
        return as_operation(self._claim_after(acks, on_roll_back, limit, lease, waiter, last=last, follows=follows))

    def _claim_after(
        self,
        acks: Sequence[BaseReservation[T]],
        note: Callable[[bytes], None] | None,
        limit: int,
        lease: float,
        waiter: str,
        *,
        last: bool,
        follows: bool,
    ) -> Plan[Claimed]:
        late: list[int] = []
        if acks:
            # With the next claim from its shard, an ack could come after the end of its lease.
            sent = acks, note
            self._sent_acks.append(sent)
            late = yield from self._ack(sent)

        def perform() -> Plan[Claimed]:
            return self._claim_from_any(late, limit, lease, waiter, last=last, follows=follows)

        return (yield from self._shards.settled(perform))

    def _ack(self, sent: SentAcks) -> Plan[list[int]]:
        """Send acks, or send them again. Return the positions of those that came too late."""
        acks, note = sent
        lost = set(map(id, (yield from self._endings.ack(acks))))
        late = [position for position, one in enumerate(acks) if id(one) in lost]
        if note is not None:
            # The claim may fail, and its loop must know then that they have arrived.
            note(head_with(late))
        if sent in self._sent_acks:
            self._sent_acks.remove(sent)
        return late

    def _claim_from_any(
        self, late: list[int], limit: int, lease: float, waiter: str, *, last: bool, follows: bool
    ) -> Plan[ShardsClaimed]:
        """Claim from the first shard that has something."""
        replies: list[tuple[Shard, Claimed]] = []
        trouble: Exception | None = None
        failures = 0
        for shard in self._in_order(last=last):
            claim = shard.parts.claims.claim(limit, lease, waiter=waiter, last=last, follows=follows)
            try:
                reply: Claimed = yield from shard.carefully(claim)
            except Exception as error:
                if not is_other_trouble(error):
                    raise
                shard.rest()
                trouble, failures = error, failures + 1
                if failures == FAILURES:
                    break
                continue
            replies.append((shard, reply))
            self._note_head(shard, reply, last=last)
            if reply.rows or reply.alone:
                break
        if trouble is not None and not any(reply.rows or reply.more for _, reply in replies):
            raise trouble
        return ShardsClaimed(replies, late, limit, lease, was_cut=trouble is not None)

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
        listens = [(shard.driver, shard.parts.claims.listen(reply, left, should_stop)) for shard, reply in got.replies]
        return ListenToAny(tuple(listens))

    def roll_back_unknown(self) -> Any:
        def perform() -> Plan[None]:
            for shard in self._shards.all:
                yield from shard.at(_one_step(shard.parts.claims.roll_back_unknown()))
            for sent in self._sent_acks[:]:
                yield from self._ack(sent)

        return self._shards.settled(perform)

    # Several items, in order.

    def _gather(self, num: int, lease: float, wait: Duration | None, *, last: bool = False) -> Plan[list[Any]]:
        """Claim the ``num`` lowest items of all shards, as of one look at each."""
        if num <= 1:
            return (yield from super()._gather(num, lease, wait, last=last))
        rows: list[tuple[float, bytes, Any]] = []
        yield from self._shards.settled(lambda: self._claim_lowest(rows, num, lease, last=last))
        if not rows and wait != 0:
            got: Any = yield from claim_within(self, min(num, CHUNK), lease, wait, last=last)
            if got.at is not None:
                rows += yield from self._rows(*got.at)
                if not got.alone:
                    yield from self._shards.settled(lambda: self._claim_lowest(rows, num, lease, last=last))
        rows.sort(key=lambda row: row[:2], reverse=last)
        return [row[2] for row in rows]

    def _claim_lowest(self, rows: list[tuple[float, bytes, Any]], num: int, lease: float, *, last: bool) -> Plan[None]:
        """Claim until there are ``num`` rows, or no shard has one."""
        goes_on = True
        while goes_on and len(rows) < num:
            before = len(rows)
            goes_on = yield from self._claim_counted(rows, num - before, lease, last=last)
            if goes_on and len(rows) == before:
                # Others were faster, or the lowest items cannot be claimed: take what any shard has.
                left = min(num - before, CHUNK)
                got = yield from self._claim_from_any([], left, lease, "", last=last, follows=bool(rows))
                if got.at is not None:
                    rows += yield from self._rows(*got.at)
                goes_on = got.at is not None and not got.alone

    def _claim_counted(self, rows: list[tuple[float, bytes, Any]], num: int, lease: float, *, last: bool) -> Plan[bool]:
        """Claim from each shard as many as it has of the lowest items. Return whether more may be claimed."""
        trouble: Exception | None = None
        for shard, count in (yield from self._counts(num, last=last)).items():
            try:
                if (yield from self._claim_some(rows, shard, count, lease, last=last)):
                    return False
            except Exception as error:
                if not is_other_trouble(error):
                    raise
                shard.rest()
                trouble = error
        if trouble is not None and not rows:
            raise trouble
        # After a failure, what was claimed is returned.
        return trouble is None

    def _claim_some(
        self, rows: list[tuple[float, bytes, Any]], shard: Shard, count: int, lease: float, *, last: bool
    ) -> Plan[bool]:
        """Claim rows from a shard. Return whether nothing may be claimed beside them."""
        while count > 0:
            claim = shard.parts.claims.claim(min(count, CHUNK), lease, last=last, follows=bool(rows))
            reply: Claimed = yield from shard.carefully(claim)
            self._note_head(shard, reply, last=last)
            rows += yield from self._rows(shard, reply)
            count -= len(reply.stored)
            if reply.alone:
                return True
            if not reply.rows or reply.was_all:
                break
        return False

    def _counts(self, num: int, *, last: bool) -> Plan[Counter[Shard]]:
        """Return how many of the ``num`` lowest items each shard has. Asks again where an answer ends too early."""
        now, failures = time.monotonic(), 0
        shards, scores = [one for one in self._shards.all if one.rests_until <= now], dict[Shard, list[float]]()
        shards = shards or self._shards.all
        share = num / len(shards)
        sizes = dict.fromkeys(shards, min(num, math.ceil(share + 3 * math.sqrt(share) + 1)))
        asked = list(shards)
        while True:
            for shard in asked:
                try:
                    scores[shard] = yield from shard.carefully(_first_scores(shard, sizes[shard], last=last))
                except Exception as error:
                    if not is_other_trouble(error):
                        raise
                    shard.rest()
                    scores[shard], failures = [], failures + 1
                    if failures == FAILURES or failures == len(shards):
                        raise
            lowest = sorted(
                ((score, shard.number, shard) for shard, own in scores.items() for score in own), reverse=last
            )[:num]
            counts = Counter(shard for _, _, shard in lowest)
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


def _first_scores(shard: Shard, count: int, *, last: bool) -> Operation[list[float]]:
    """Read the lowest scores of a shard, or the highest."""

    def read(reply: list[Any]) -> list[float]:
        if reply and isinstance(reply[0], list):
            # The reply of ZRANGE in RESP3.
            return [float(score) for _, score in reply]
        return list(map(float, reply[1::2]))

    keys = (shard.parts.keys.waiting,)
    return Operation("ZRANGE", keys, ("0", str(count - 1), *(["REV"] if last else []), "WITHSCORES"), read)


def _one_step(step: Any) -> Plan[Any]:
    return (yield step)


def _bury_nothing(*_: Any) -> Plan[None]:
    """Shards bury by themselves."""
    yield from ()
