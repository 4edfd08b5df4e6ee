"""The scheduler: hands requests to the engine, and ends their leases when the engine is done with them."""

import logging
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha1
from typing import Any
from uuid import uuid4

from scrapy import Request, Spider, signals
from scrapy.core.scheduler import BaseScheduler
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider
from scrapy.http import Response
from scrapy.utils.response import response_status_message
from twisted.python.failure import Failure

from redset.core.interruptions import is_interruption
from redset.core.shown import described
from redset.reservations import Reservation
from redset.scrapy.feed import Feed
from redset.scrapy.frontier import End, Frontier
from redset.scrapy.hands import Errback, Families, Hand, reason_of
from redset.scrapy.options import Options
from redset.scrapy.requests import ID, TOKEN, Entry, fingerprint_of, host_of, slot_of, stored_slot, to_dict, to_request
from redset.scrapy.seen import Seen
from redset.scrapy.timers import call_later, looping_call

__all__ = ("Scheduler",)

log = logging.getLogger("redset.scrapy")

#: Seconds between two looks of a process that waits for requests.
TICK = 0.05
#: Seconds that a claim waits for more requests to end.
BATCHING = 0.02
#: Seconds between two looks of a process that has waited for a second.
SLOW_TICK = 0.2
#: The milliseconds since the epoch are fewer, so that the priority decides before the time of the addition.
SPAN = 2.0**44
#: Seconds of the longest rest that a host gets.
LONGEST_REST = 3600.0
#: The statuses with which a host asks for a rest, by a Retry-After.
RESTING = (429, 503)


class Scheduler(BaseScheduler):
    """A scheduler that keeps the requests of a crawl in a set in Redis or Valkey, for any number of processes.

    Each request is leased until its callback has ended and its items have passed the pipelines. It is then done and
    remembered; after a failure it is tried again, and at last becomes a dead letter. The requests of a process that
    dies are claimed by others when their leases expire.

    Set it by ``SCHEDULER = "redset.scrapy.Scheduler"``.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "Scheduler":
        return cls(crawler)

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._hands: dict[Request, Hand] = {}
        self._tokens: dict[int, Hand] = {}
        self._last_token = 0
        #: Requests that have ended, but for those that they have yielded and that could not be stored.
        self._parents: set[Hand] = set()
        self._families = Families(self._hand_of)
        #: Claimed, and not yet handed to the engine.
        self._ready: deque[Reservation[Any]] = deque()
        #: Could not be stored, so this process alone has them.
        self._memory: deque[tuple[Request, str, Hand | None]] = deque()
        #: Whether the last claim got less than it asked for, and nothing has changed since.
        self._is_dry = False
        #: Whether the last claim got all that it asked for. Else the limit of a host may hold, and requests that are
        #: claimed ahead would keep other processes from its leases.
        self._goes_on = False
        #: The keys of the start requests; how often each was added; those that are to be retried if they are dead.
        self._start_keys: dict[str, None] = {}
        self._starts: dict[str, int] = {}
        self._revived: list[str] = []
        self._has_warned = False
        #: How many requests have ended since the last claim, and when that was.
        self._freed = 0
        self._last_refill = 0.0
        self._is_waking = False
        self._next_look = 0.0
        self._last_work = time.monotonic()
        #: None until the server was reached.
        self._timer: Any = None

    # The interface of Scrapy.

    def open(self, spider: Spider) -> None:
        """Contact the server. Errors pass through, so that a spider with a wrong URL does not start."""
        crawler = self._crawler
        assert crawler.stats is not None
        assert crawler.engine is not None
        self._spider, self._stats, self._engine = spider, crawler.stats, crawler.engine
        self._options = options = Options.of(crawler.settings, spider.name)
        self._seen = Seen(options)
        self._frontier = Frontier(options, self._stats)
        self._is_new = not self._frontier.begin()
        self._feed = Feed(options.start_set, options, self._frontier, spider) if options.start_set else None
        self._next_extension = time.monotonic() + options.lease / 3
        #: How many requests are claimed beyond those that the engine has room for. Those of a slot with a delay would
        #: be sent later than claimed, and so at other intervals.
        limits = [options.per_slot, *options.slots.values()]
        self._ahead = 0 if any(limit and limit.pause for limit in limits) else options.concurrency
        self._watch()
        self._timer = looping_call(self._tick)
        self._timer.start(TICK, now=False)

    def enqueue_request(self, request: Request) -> bool:
        """Take a request; return False for a duplicate that this process knows."""
        token = request.meta.pop(TOKEN, None)
        parent = self._families.take_parent(request) or self._tokens.get(token)
        if isinstance(request.errback, Errback):
            request.errback = request.errback.theirs
        return self._take(request, parent)

    def next_request(self) -> Request | None:
        """Return a request to be downloaded, or None."""
        self._settle()
        if self._memory:
            return self._hand_out(*self._memory.popleft())
        if not self._ready:
            self._refill()
        while self._ready:
            request = self._load(self._ready.popleft())
            if request is not None:
                return request
        if self._memory:
            return self._hand_out(*self._memory.popleft())
        return None

    def has_pending_requests(self) -> bool:
        """Return whether this process has something to do; what others have is told by the signal spider_idle."""
        return not self._is_idle()

    def close(self, reason: str) -> None:
        """Tell the server everything, and give back what was claimed and not begun."""
        if self._timer is None:
            return
        self._timer.stop()
        self._settle()
        unfinished = [*self._hands.values(), *self._parents]
        for reservation in [*self._ready, *(hand.reservation for hand in unfinished if not hand.lost)]:
            if reservation is not None:
                self._frontier.end(reservation, End("return"))
                self._stats.inc_value("scheduler/returned/redset")
        if self._memory:
            log.warning("%d requests that could not be stored were not sent", len(self._memory))
        self._flush()
        if self._start_keys and self._frontier.is_over():
            # The next run begins with them again, as one with a JOBDIR does.
            self._frontier.forget_done(self._start_keys)
        self._frontier.close()
        log.debug("Closed: %s", reason)

    # Requests that come.

    def _take(self, request: Request, parent: Hand | None, *, fed: int = 0) -> bool:
        assert self._crawler.request_fingerprinter is not None
        fingerprint = self._crawler.request_fingerprinter.fingerprint(request).hex()
        if parent is not None and self._is_retry(request, fingerprint, parent):
            self._retry(request, parent)
            return True
        # Most links are known, so this is asked before anything else is made of them.
        if not (fed or request.dont_filter) and self._seen.add(fingerprint):
            self._note_duplicate(request)
            return False
        key = f"{host_of(request)} {fingerprint}"
        if fed:
            # Whoever feeds a URL again wants it again, even while the first request is under way.
            key += f" fed {fed}"
        elif request.dont_filter:
            key = self._own_key(request, key, parent)
        data = self._data(key, request)
        if data is None:
            if parent is not None:
                parent.children += 1
            self._memory.append((request, key, parent))
            self._count("enqueued", "memory")
            return True
        score = -request.priority * SPAN + time.time_ns() / 1_000_000
        self._frontier.add(Entry(key, data, score, slot_of(request)))
        self._is_dry = False
        return True

    def _own_key(self, request: Request, key: str, parent: Hand | None) -> str:
        """Return the key of a request that is not to be filtered.

        It is the same when a request is processed again, after a crash or a failure, and yields the same ones.
        """
        if parent is not None:
            parent.own[key] += 1
            return f"{key} {sha1(parent.key.encode(), usedforsecurity=False).hexdigest()[:16]}.{parent.own[key]}"
        if not request.meta.get("is_start_request"):
            # From an extension, or the shell: nobody can know whether it was sent before.
            return f"{key} {uuid4().hex}"
        number = self._starts[key] = self._starts.get(key, 0) + 1
        key += " start" if number == 1 else f" start {number}"
        self._start_keys[key] = None
        if self._is_new:
            self._revived.append(key)
        return key

    def _data(self, key: str, request: Request) -> bytes | None:
        """Return a request as it is stored, or None if that is impossible."""
        try:
            return self._frontier.values.data_of(key, to_dict(request, self._spider))
        except Exception as error:
            if is_interruption(error):
                raise
            self._stats.inc_value("scheduler/unserializable")
            if not self._has_warned:
                self._has_warned = True
                log.warning(
                    "%s cannot be stored, so no other process can have it: %s. No more such requests will be logged",
                    *(request, described(error)),
                )
            return None

    def _note_duplicate(self, request: Request) -> None:
        self._stats.inc_value("dupefilter/filtered")
        if self._options.debug:
            log.debug("Filtered duplicate request: %s", request)

    def _is_retry(self, request: Request, fingerprint: str, hand: Hand) -> bool:
        """Return whether a request is one in hand that is to be tried again, as RetryMiddleware copies it."""
        return (
            request.meta.get("retry_times", 0) > hand.request.meta.get("retry_times", 0)
            and hand.reservation is not None
            and hand.key.startswith(f"{host_of(request)} {fingerprint}")
        )

    def _retry(self, request: Request, hand: Hand) -> None:
        """Let the request in hand fail instead of adding its copy, which would have attempts of its own."""
        hand.fail(hand.reason or "a retry was asked for")
        old = hand.request
        before = {name: value for name, value in old.meta.items() if name not in (TOKEN, "retry_times")}
        after = {name: value for name, value in request.meta.items() if name != "retry_times"}
        names = ("url", "method", "body", "headers", "cookies", "cb_kwargs", "callback")
        if before == after and all(getattr(old, name) == getattr(request, name) for name in names):
            return
        # A middleware has changed it, for instance its proxy.
        changed = request.replace(meta=after, priority=old.priority, dont_filter=old.dont_filter)
        data = self._data(hand.key, changed)
        if data is not None and hand.reservation is not None:
            self._frontier.add(Entry(hand.key, data, hand.reservation.score, hand.slot, is_change=True))

    # Requests that go.

    def _refill(self) -> None:
        """Send what is to be sent, and claim what the engine has room for."""
        if self._is_early():
            return
        self._freed = 0
        self._last_refill = time.monotonic()
        room = 0 if self._is_dry else self._room()
        if room <= 0:
            self._flush()
            return
        if self._goes_on:
            room += self._ahead
        claimed, has_more = self._frontier.claim(room)
        self._is_dry, self._goes_on = not has_more, has_more
        self._note_flush()
        self._ready.extend(claimed)
        if self._is_dry and self._feed is not None:
            for request, token in self._feed.claim(room - len(claimed)):
                self._take(request, None, fed=token)
        if claimed:
            self._note_work()

    def _is_early(self) -> bool:
        """Return whether to wait some milliseconds for more requests to end, so that one claim replaces all of them."""
        if not self._hands or self._freed * 2 >= len(self._hands):
            return False
        wait = self._last_refill + BATCHING - time.monotonic()
        if wait > 0 and not self._is_waking:
            self._is_waking = True
            call_later(wait, self._wake)
        return wait > 0

    def _wake(self) -> None:
        self._is_waking = False
        self._wake_engine()

    def _room(self) -> int:
        return (self._options.concurrency or 1000) - len(self._engine.downloader.active)

    def _load(self, reservation: Reservation[Any]) -> Request | None:
        """Return the request of a reservation, which is then in hand."""
        fields = reservation.item
        try:
            request = to_request(fields, self._spider)
        except Exception as error:
            if is_interruption(error):
                raise
            log.exception("The request %s cannot be loaded", fields.get("url"))
            self._frontier.end(reservation, End("bury", described(error)))
            self._stats.inc_value("scheduler/dead/redset")
            return None
        if not request.dont_filter:
            self._seen.add(fingerprint_of(fields[ID]))
        return self._hand_out(request, fields[ID], None, reservation)

    def _hand_out(
        self, request: Request, key: str, parent: Hand | None, reservation: Reservation[Any] | None = None
    ) -> Request:
        hand = Hand(request, key, slot_of(request), reservation, parent)
        if reservation is None:
            self._count("dequeued", "memory")
        else:
            self._count_attempt(hand, reservation.attempt)
        self._last_token += 1
        request.meta[TOKEN] = self._last_token
        request.errback = Errback(hand, request.errback, self._options.retry_statuses, self._families)
        self._hands[request] = self._tokens[self._last_token] = hand
        return request

    def _count_attempt(self, hand: Hand, attempt: int) -> None:
        """Set how many attempts a request has, and let RetryMiddleware give up at the last one, and only then."""
        meta = hand.request.meta
        own = meta.get("max_retry_times")
        hand.attempts = self._options.max_attempts if own is None else min(self._options.max_attempts, own + 1)
        if meta.get("dont_retry"):
            hand.attempts = 1
        times = self._options.retry_times if own is None else own
        if attempt >= hand.attempts:
            meta["retry_times"] = times
        elif attempt > 1:
            meta["retry_times"] = max(0, min(attempt, times) - 1)

    # Requests that have ended.

    def _settle(self) -> None:
        """End the leases of the requests that the engine is done with, on whatever way they have left it."""
        active, scraping = self._engine.downloader.active, self._engine.scraper.slot
        scraped = scraping.active if scraping is not None else ()
        ended = [request for request in self._hands if request not in active and request not in scraped]
        for request in ended:
            hand = self._hands.pop(request)
            self._tokens.pop(request.meta.get(TOKEN, 0), None)
            if hand.children:
                self._parents.add(hand)
            else:
                self._end(hand)

    def _end(self, hand: Hand) -> None:
        self._is_dry = False
        self._freed += 1
        if hand.reservation is None:
            self._end_in_memory(hand)
        elif not hand.lost:
            end = hand.end()
            self._frontier.end(hand.reservation, end)
            if end.verb == "rest":
                self._give_back(hand.slot)
            elif hand.rest is not None:
                self._frontier.rest(hand.slot, hand.rest)
            self._count_end(hand, end)

    def _count_end(self, hand: Hand, end: End) -> None:
        names = {"ack": "acked", "nack": "failed", "bury": "dead", "rest": "rested"}
        self._stats.inc_value(f"scheduler/{names[end.verb]}/redset")
        if hand.ignored:
            self._stats.inc_value("scheduler/ignored/redset")

    def _end_in_memory(self, hand: Hand) -> None:
        """End a request that could not be stored: its parent is done only now, and fails with it."""
        parent = hand.parent
        if hand.failure is not None:
            log.error("%s has failed, which could not be stored: %s", hand.request, hand.failure)
            # Its parent will yield it again.
            self._seen.discard(fingerprint_of(hand.key))
        if parent is None:
            return
        if hand.failure is not None:
            parent.fail(f"{hand.request}: {hand.failure}")
        parent.children -= 1
        if not parent.children and parent in self._parents:
            self._parents.discard(parent)
            self._end(parent)

    def _give_back(self, slot: str) -> None:
        """Give back the claimed requests of a slot that rests."""
        for reservation in [one for one in self._ready if stored_slot(one.item) == slot]:
            self._ready.remove(reservation)
            self._frontier.end(reservation, End("return"))

    # What goes on meanwhile.

    def _tick(self) -> None:
        try:
            self._look()
        except Exception as error:
            # It would end the timer, and with that the crawl.
            if is_interruption(error):
                raise
            log.exception("The scheduler has failed, and goes on")

    def _look(self) -> None:
        now = time.monotonic()
        self._settle()
        if now >= self._next_extension:
            self._extend()
        if now - self._last_refill >= TICK:
            self._flush()
        engine = self._engine
        if self._ready or self._memory:
            self._wake_engine()
        elif now >= self._next_look and not engine.paused and not engine.needs_backout():
            self._is_dry = False
            self._refill()
            if self._ready or self._memory or self._is_over():
                self._wake_engine()
            is_slow = now - self._last_work > 1
            self._next_look = now + (SLOW_TICK if is_slow else 0)

    def _extend(self) -> None:
        """Extend the leases that this process has."""
        self._next_extension = time.monotonic() + (1 if self._frontier.is_away else self._options.lease / 3)
        mine = {hand.reservation: hand for hand in [*self._hands.values(), *self._parents] if hand.reservation}
        lost = set(self._frontier.extend([*mine, *self._ready]))
        for reservation in lost & mine.keys():
            mine[reservation].lost = True
        self._ready = deque(one for one in self._ready if one not in lost)

    def _flush(self) -> None:
        self._frontier.flush()
        self._note_flush()

    def _note_flush(self) -> None:
        """Do what may be done once the server has everything."""
        if not self._frontier.is_clean:
            return
        if self._feed is not None:
            self._feed.ack()
        if self._revived:
            # No crawl was under way when the spider was opened, so this is the next run.
            self._frontier.retry_dead(self._revived)
            self._revived, self._is_dry = [], False

    def _wake_engine(self) -> None:
        """Let the engine ask for requests. Without this, it does so every five seconds."""
        slot = getattr(self._engine, "_slot", None)
        if slot is not None:
            slot.nextcall.schedule()

    # The end of a crawl.

    @property
    def _is_clean(self) -> bool:
        return self._frontier.is_clean and (self._feed is None or self._feed.is_clean)

    def _is_idle(self) -> bool:
        return not (self._hands or self._parents or self._ready or self._memory) and self._is_clean

    def _is_over(self) -> bool:
        """Return whether no process has anything to do."""
        if not self._is_idle() or not self._frontier.is_over():
            return False
        return self._feed is None or self._feed.is_over()

    def _spider_idle(self) -> None:
        if not self._is_over():
            raise DontCloseSpider

    def _note_work(self) -> None:
        self._last_work = time.monotonic()
        if self._feed is not None:
            self._feed.note_work()

    # Signals.

    def _watch(self) -> None:
        for handler, signal in (
            (self._spider_idle, signals.spider_idle),
            (self._spider_error, signals.spider_error),
            (self._item_error, signals.item_error),
            (self._response_downloaded, signals.response_downloaded),
            (self._reached_downloader, signals.request_reached_downloader),
        ):
            self._crawler.signals.connect(handler, signal=signal)
        middlewares = self._engine.scraper.spidermw
        middlewares._add_middleware(self._families)  # noqa: SLF001 - SPIDER_MIDDLEWARES are settled by now
        for name in ("process_spider_output", "process_spider_exception"):
            # Behind all others: what it yields is what the engine enqueues.
            middlewares.methods[name].rotate(-1)

    def _hand_of(self, response: Any) -> Hand | None:
        """Return the request in hand that a response, or a failure, belongs to."""
        request = getattr(response, "request", None)
        if not isinstance(request, Request):
            return None
        return self._hands.get(request) or self._tokens.get(request.meta.get(TOKEN, 0))

    def _spider_error(self, failure: Failure, response: Any) -> None:
        hand = self._hand_of(response)
        if hand is not None:
            hand.fail(reason_of(failure))

    def _item_error(self, response: Any, failure: Failure) -> None:
        hand = self._hand_of(response)
        if hand is not None:
            hand.fail(f"in an item pipeline: {reason_of(failure)}")

    def _response_downloaded(self, response: Response, request: Request) -> None:
        hand = self._hands.get(request)
        if hand is None:
            return
        hand.reason = response_status_message(response.status)
        if response.status in RESTING:
            hand.rest = _retry_after(response)

    def _reached_downloader(self, request: Request) -> None:
        """Let the downloader add no random delay of its own to that between claims, which holds for all processes."""
        slot = self._engine.downloader.slots.get(request.meta.get("download_slot", ""))
        if slot is not None and slot.delay and request in self._hands:
            if hasattr(slot, "jitter"):
                slot.jitter = 0.0
            else:
                slot.randomize_delay = False

    def _count(self, what: str, where: str) -> None:
        self._stats.inc_value(f"scheduler/{what}")
        self._stats.inc_value(f"scheduler/{what}/{where}")


def _retry_after(response: Response) -> float | None:
    """Return the seconds for which a host asks to be left alone."""
    text = (response.headers.get("Retry-After") or b"").decode("latin-1").strip()
    if text.isdigit():
        return min(float(text), LONGEST_REST)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    rest = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, min(rest, LONGEST_REST))
