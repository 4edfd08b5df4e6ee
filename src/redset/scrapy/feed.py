"""Start requests from a set that others feed: by ``redset add``, by ZADD, or by a program."""

import logging
import time
from typing import Any

from scrapy import Request, Spider

from redset.core.interruptions import is_interruption
from redset.core.shown import described
from redset.reservations import Reservation
from redset.scrapy.frontier import Frontier
from redset.scrapy.options import Options
from redset.sets import SortedSet

__all__ = ("Feed",)

log = logging.getLogger("redset.scrapy")

#: Seconds between two looks at an empty set.
PAUSE = 0.2


class Feed:
    """The set that start requests are made from. Its items are acked when their requests are stored."""

    def __init__(self, name: str, options: Options, frontier: Frontier, spider: Spider) -> None:
        self._lease = options.lease
        self._idle = options.start_set_idle
        self._frontier = frontier
        self._make = getattr(spider, "make_request_from_data", self._request)
        self.set: SortedSet[Any] = SortedSet(
            frontier.client, name, max_attempts=options.max_attempts, **options.backoffs()
        )
        self._stored: list[Reservation[Any]] = []
        self._failed: list[tuple[Reservation[Any], str]] = []
        self._last_work = time.monotonic()
        self._next_look = 0.0

    @staticmethod
    def _request(url: str) -> Request:
        return Request(url, dont_filter=True)

    def claim(self, number: int) -> list[tuple[Request, int]]:
        """Claim items, and return the requests that are made of them, each with the token of its item's lease."""
        requests: list[tuple[Request, int]] = []
        if time.monotonic() < self._next_look:
            return requests
        for reservation in self._frontier.reach(lambda: self.set.reserve_many(number, self._lease), default=()):
            try:
                made = self._make(reservation.item)
                mine = [made] if isinstance(made, Request) else list(made or ())
            except Exception as error:
                if is_interruption(error):
                    raise
                log.exception("No request could be made of %r", reservation.item)
                self._failed.append((reservation, described(error)))
            else:
                requests += [(request, reservation.token) for request in mine]
                self._stored.append(reservation)
        if not requests:
            # A crawl that is limited by its hosts asks after each page.
            self._next_look = time.monotonic() + PAUSE
        return requests

    def ack(self) -> None:
        """Ack the items whose requests the server has."""
        self._frontier.reach(self._end, default=None)

    def _end(self) -> None:
        while self._failed:
            reservation, reason = self._failed[-1]
            self.set.nack([reservation], reason=reason)
            self._failed.pop()
        if self._stored:
            self.set.ack(self._stored)
            self._stored = []

    @property
    def is_clean(self) -> bool:
        return not (self._stored or self._failed)

    def note_work(self) -> None:
        """Note that the crawl has something to do."""
        self._last_work = time.monotonic()

    def is_over(self) -> bool:
        """Return whether there was nothing to do for longer than the spider is to stay idle."""
        return 0 < self._idle < time.monotonic() - self._last_work
