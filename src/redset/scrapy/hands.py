"""A request that this process has in hand, and how it ends."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from inspect import isawaitable
from typing import Any
from weakref import WeakKeyDictionary

from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.spidermiddlewares.httperror import HttpError
from scrapy.utils.response import response_status_message
from twisted.python.failure import Failure

from redset.core.shown import described
from redset.reservations import Reservation
from redset.scrapy.frontier import End

__all__ = ("Errback", "Families", "Hand", "reason_of")


class Hand:
    """A request in hand: from its claim until its callback has ended and the server was told."""

    __slots__ = (
        *("attempts", "children", "failure", "ignored", "is_final", "key", "lost", "own", "parent"),
        *("reason", "request", "reservation", "rest", "slot"),
    )

    def __init__(
        self, request: Request, key: str, slot: str, reservation: Reservation[Any] | None, parent: "Hand | None"
    ) -> None:
        self.request = request
        self.key = key
        self.slot = slot
        #: None for a request that could not be stored, which this process alone has.
        self.reservation = reservation
        self.parent = parent
        #: The number of requests that it has yielded, that could not be stored and that have not ended.
        self.children = 0
        #: How often it has yielded each request that is not to be filtered.
        self.own: Counter[str] = Counter()
        self.failure: str | None = None
        #: Whether another attempt would fail in the same way.
        self.is_final = False
        self.ignored = False
        self.lost = False
        #: Why a retry may be asked for: the status of the response, or the error of the download.
        self.reason = ""
        #: Seconds that the host wants to be left alone.
        self.rest: float | None = None
        #: The number of attempts after which a failure is final.
        self.attempts = 0

    def fail(self, reason: str, *, final: bool = False) -> None:
        """Note a failure; the first one is the reason that is stored."""
        if self.failure is None:
            self.failure = reason
            self.is_final = final

    def succeed(self) -> None:
        """Note that a failure was handled."""
        self.failure, self.is_final = None, False

    def end(self) -> End:
        """Return how the lease is to end."""
        if self.failure is None:
            return End("ack")
        if self.rest is not None:
            return End("rest", delay=self.rest)
        assert self.reservation is not None
        if self.is_final or self.reservation.attempt >= self.attempts:
            return End("bury", self.failure)
        return End("nack", self.failure)


class Families:
    """Knows which request in hand has yielded a request.

    Has the methods of a spider middleware.
    """

    def __init__(self, hand_of: Callable[[Any], Hand | None]) -> None:
        self._hand_of = hand_of
        self._parents: WeakKeyDictionary[Request, Hand] = WeakKeyDictionary()

    def take_parent(self, request: Request) -> Hand | None:
        """Return the parent of a request, and forget it."""
        return self._parents.pop(request, None)

    def _note(self, thing: Any, parent: Hand | None) -> None:
        if parent is not None and isinstance(thing, Request):
            self._parents[thing] = parent

    def traced(self, output: Any, parent: Hand | None) -> Any:
        """Return the output of a callback, and note its requests when they are taken from it."""
        self._note(output, parent)
        if isinstance(output, AsyncIterator):
            return self._each_async(output, parent)
        if isinstance(output, Iterator | list | tuple):
            return self._each(output, parent)
        return output

    def _each(self, output: Iterable[Any], parent: Hand | None) -> Iterator[Any]:
        for thing in output:
            self._note(thing, parent)
            yield thing

    async def _each_async(self, output: AsyncIterator[Any], parent: Hand | None) -> AsyncIterator[Any]:
        async for thing in output:
            self._note(thing, parent)
            yield thing

    def process_spider_output(self, response: Any, result: Iterable[Any], spider: Any = None) -> Iterator[Any]:
        del spider
        return self._each(result, self._hand_of(response))

    async def process_spider_output_async(
        self, response: Any, result: AsyncIterator[Any], spider: Any = None
    ) -> AsyncIterator[Any]:
        del spider
        # Once more what _each_async does: a generator in a generator is slow.
        parent = self._hand_of(response)
        async for thing in result:
            self._note(thing, parent)
            yield thing


class Errback:
    """The errback of a request in hand: notes the failure, and calls the spider's errback, if any."""

    def __init__(
        self, hand: Hand, theirs: Callable[..., Any] | None, retried: frozenset[int], families: Families
    ) -> None:
        self.theirs = theirs
        self._hand = hand
        self._retried = retried
        self._families = families

    def __call__(self, failure: Failure) -> Any:
        hand, error = self._hand, failure.value
        if isinstance(error, HttpError):
            hand.fail(reason_of(failure), final=error.response.status not in self._retried)
        elif isinstance(error, IgnoreRequest):
            hand.ignored = True
        else:
            hand.fail(reason_of(failure))
        if self.theirs is None:
            return failure
        # If it raises an error, the failure stays noted.
        result = self.theirs(failure)
        if isawaitable(result):
            return self._awaited(result)
        return self._handled(result)

    async def _awaited(self, result: Awaitable[Any]) -> Any:
        return self._handled(await result)

    def _handled(self, result: Any) -> Any:
        if not isinstance(result, Failure):
            self._hand.succeed()
            return self._families.traced(result, self._hand)
        return result


def reason_of(failure: Failure) -> str:
    """Return the reason of a failure, as it is stored with a dead letter."""
    error = failure.value
    if isinstance(error, HttpError):
        return response_status_message(error.response.status)
    return described(error) if error is not None else str(failure)
