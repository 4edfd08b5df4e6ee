"""The set of a crawl, as one spider process uses it: what is to be sent is kept until the server has it.

Additions and the ends of leases are collected and sent together. All additions go before all ends, so that a page is
acked only after its links are stored. Acks travel with the next claim. When the server cannot be reached, everything
is kept and sent again: additions are deduplicated, and an end that is repeated has the effect of one.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice, takewhile
from typing import Any, NamedTuple, TypeVar

from scrapy.statscollectors import StatsCollector

from redset.connect import connect
from redset.core.claiming import Claimed, lost_in
from redset.core.interruptions import is_interruption
from redset.core.items import Key
from redset.core.operations import CHUNK, Plan
from redset.core.retries import tries_once
from redset.core.shown import described
from redset.reservations import Reservation
from redset.scrapy.options import Options
from redset.scrapy.requests import Entry, Values, key_of
from redset.sets import SortedSet

__all__ = ("End", "Frontier")

R = TypeVar("R")
D = TypeVar("D")

log = logging.getLogger("redset.scrapy")

#: Seconds between two attempts to reach a server that is away.
PAUSE = 0.25
#: Seconds for the answer of a server, which blocks the spider meanwhile.
TIMEOUT = 10


class End(NamedTuple):
    """How leases end; those that end in the same way are sent together."""

    #: ``ack``, ``nack``, ``bury``, ``return`` (as if never claimed), or ``rest`` (the same, and the group rests).
    verb: str
    reason: str = ""
    delay: float = 0.0


ACK = End("ack")


class Frontier:
    """The set of a crawl."""

    def __init__(self, options: Options, stats: StatsCollector) -> None:
        self._options = options
        self._stats = stats
        self.client = connect(options.url, socket_timeout=TIMEOUT)
        self.values = Values(options.serializer)
        #: The slots of entries on their way: the set is told them by key.
        self._slots: dict[str, str] = {}
        self.set: SortedSet[Any] = SortedSet(
            self.client,
            options.name,
            serializer=self.values,
            key=key_of,
            max_attempts=options.max_attempts,
            **options.backoffs(),
            remember=options.remember,
            group=self._slot_of_key,
            per_group=options.per_slot,
            duplicates="keep",
            while_leased="drop",
        )
        self._entries: deque[Entry] = deque()
        self._ends: dict[End, list[Reservation[Any]]] = {}
        self._acks: list[Reservation[Any]] = []
        #: Whether it is unknown if acks have arrived, since the claim with which they travelled was not answered.
        self._acks_are_open = False
        #: Ends that are sent: the same ones again, if the server does not answer.
        self._outbox: deque[tuple[End, list[Reservation[Any]]]] = deque()
        self._rests: dict[str, float] = {}
        self._away_until = 0.0
        self._is_away = False
        #: The server's clock, less this machine's.
        self._ahead = 0.0

    def begin(self) -> bool:
        """Contact the server, and return whether it has a crawl under way. Errors pass through."""
        for slot, limit in self._options.slots.items():
            self.set.group(slot).limit(limit.leases, limit.pause)
        return self.set.stats().unfinished > 0

    def _slot_of_key(self, key: str) -> str:
        return self._slots.get(key) or key.partition(" ")[0]

    # Additions, ends and rests to be sent.

    @property
    def is_clean(self) -> bool:
        """Whether the server has everything."""
        return not (self._entries or self._acks or self._ends or self._outbox or self._rests)

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def end(self, reservation: Reservation[Any], end: End) -> None:
        (self._acks if end == ACK else self._ends.setdefault(end, [])).append(reservation)

    def rest(self, slot: str, seconds: float) -> None:
        """Let a slot rest, in all processes."""
        self._rests[slot] = max(self._rests.get(slot, 0.0), time.time() + self._ahead + seconds)

    def flush(self) -> bool:
        """Send what is to be sent, and return whether the server has everything."""
        return self.is_clean or self.reach(self._flush, default=False)

    def _flush(self) -> bool:
        while self._entries:
            self._send_entries()
        self._learn_of_acks()
        if self._acks:
            self._outbox.append((ACK, self._acks))
            self._acks = []
        self._flush_ends()
        return True

    def _flush_ends(self) -> None:
        """Send all ends but the acks that may travel with a claim, and the rests."""
        self._outbox.extend(self._ends.items())
        self._ends = {}
        while self._outbox:
            self._count_lost(self._send_ends(*self._outbox[0]))
            self._outbox.popleft()
        while self._rests:
            slot, until = next(iter(self._rests.items()))
            self.set.group(slot).pause(until)
            del self._rests[slot]

    def _send_entries(self) -> None:
        first = self._entries[0]
        chunk = list(takewhile(lambda entry: not entry.is_change, islice(self._entries, CHUNK))) or [first]
        self._slots = {entry.key: entry.slot for entry in chunk}
        if first.is_change:
            new = self.set.update(chunk, score=first.score)
        else:
            new = self.set._driver.perform(  # noqa: SLF001 - update() replaces the values of items that wait
                self.set._adding.add_absent(self.set._adding.rows(chunk, _score_of))  # noqa: SLF001
            )
        for _ in chunk:
            self._entries.popleft()
        if not first.is_change:
            self._count("enqueued", new)
            if new < len(chunk):
                self._stats.inc_value("dupefilter/filtered", len(chunk) - new)

    def _send_ends(self, end: End, reservations: list[Reservation[Any]]) -> list[Reservation[Any]]:
        if end == ACK:
            return self.set.ack(reservations)
        if end.verb == "nack":
            return self.set.nack(reservations, None, end.reason)
        if end.verb == "bury":
            # A reservation has the method of its own; this one is for many, and returns those that were lost.
            return self.set._driver.follow(self.set._endings.bury(reservations, end.reason))  # noqa: SLF001
        return self.set.again(reservations, end.delay, group=end.verb == "rest")

    # Claims and leases.

    def claim(self, number: int) -> tuple[list[Reservation[Any]], bool]:
        """Send everything, and claim up to so many requests; return also whether there may be more.

        While the server is away: none, and that there are no more.
        """
        nothing: list[Reservation[Any]] = []
        claimed, has_more = self.reach(lambda: self._claim(number), default=(nothing, False))
        if claimed:
            self._ahead = claimed[0].deadline - self._options.lease - time.time()
            self._count("dequeued", len(claimed))
        return claimed, has_more

    def _claim(self, number: int) -> tuple[list[Reservation[Any]], bool]:
        while self._entries:
            self._send_entries()
        self._learn_of_acks()
        self._flush_ends()
        acks, claims = self._acks[:CHUNK], self.set._claims  # noqa: SLF001 - consume() claims as this does

        def plan() -> Plan[tuple[list[Reservation[Any]], bool]]:
            on_roll_back = partial(self._note_roll_back, acks) if acks else None
            got: Claimed = yield claims.claim(min(number, CHUNK), self._options.lease, acks, on_roll_back)
            self._acked(acks, got.lost)
            return (yield from claims.received(got)), not got.was_all

        self._acks_are_open = bool(acks)
        return self.set._driver.follow(plan())  # noqa: SLF001

    def _learn_of_acks(self) -> None:
        """Roll back a claim whose outcome is unknown, and so learn whether the acks that it carried have arrived."""
        if self._acks_are_open:
            claims, driver = self.set._claims, self.set._driver  # noqa: SLF001

            def plan() -> Plan[None]:
                yield claims.roll_back_unknown()

            driver.follow(plan())
            self._acks_are_open = False

    def _note_roll_back(self, acks: list[Reservation[Any]], head: bytes) -> None:
        if head:
            self._acked(acks, lost_in(head))

    def _acked(self, acks: list[Reservation[Any]], late: list[int]) -> None:
        self._acks_are_open = False
        self._acks = self._acks[len(acks) :]
        self._count_lost([acks[position] for position in late])

    def extend(self, reservations: Iterable[Reservation[Any]]) -> list[Reservation[Any]]:
        """Extend leases, and return those that were lost."""
        nothing: list[Reservation[Any]] = []
        lost = self.reach(lambda: self.set.extend(reservations, self._options.lease), default=nothing)
        self._count_lost(lost)
        return lost

    def is_over(self) -> bool:
        """Return whether no process has anything to do."""
        return self.is_clean and self.reach(lambda: not self.set.stats().unfinished, default=False)

    def forget_done(self, keys: Iterable[str]) -> None:
        """Let done requests be added again."""
        self.reach(lambda: [self.set.forget(key) for key in map(Key, keys) if self.set.is_done(key)], default=None)

    def retry_dead(self, keys: Iterable[str]) -> None:
        """Requeue dead requests."""
        self.reach(lambda: self.set.dead_letters.retry_many(map(Key, keys)), default=0)

    def _count(self, what: str, number: int) -> None:
        if number:
            self._stats.inc_value(f"scheduler/{what}", number)
            self._stats.inc_value(f"scheduler/{what}/redset", number)

    def _count_lost(self, lost: list[Reservation[Any]]) -> None:
        for reservation in lost:
            log.warning("The lease of %s was lost: another process has it now, or had", key_of(reservation.item))
            self._stats.inc_value("scheduler/lost/redset")

    # The server.

    @property
    def is_away(self) -> bool:
        """Whether the last call has not reached the server."""
        return self._is_away

    def reach(self, call: Callable[[], R], default: D) -> R | D:
        """Return the result of a call; ``default`` while the server is away."""
        if time.monotonic() < self._away_until:
            return default
        # The client would block the spider for seconds, trying again.
        once = tries_once.set(True)
        try:
            result = call()
        except Exception as error:
            if is_interruption(error):
                raise
            self._note_away(error)
            return default
        finally:
            tries_once.reset(once)
        if self._is_away:
            self._is_away = False
            log.info("The server of the crawl answers again")
        return result

    def _note_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + PAUSE
        if not self._is_away:
            self._is_away = True
            self._stats.inc_value("scheduler/outages/redset")
            log.error("The server of the crawl does not answer, the crawl goes on when it does: %s", described(error))

    def close(self, patience: float = 5.0) -> bool:
        """Send everything, for so many seconds, and return whether the server has it."""
        deadline = time.monotonic() + patience
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(PAUSE)
        done = self.is_clean
        if not done:
            log.error(
                "The server of the crawl could not be reached: %d leases will expire, and others get their requests",
                len(self._acks) + sum(len(ended) for _, ended in (*self._ends.items(), *self._outbox)),
            )
        self.client.close()
        return done


def _score_of(entry: Entry) -> float:
    return entry.score
