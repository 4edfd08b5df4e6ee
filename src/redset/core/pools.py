"""Pools of links: idle ones on a stack, and new ones up to the limit of the client's pool."""

import asyncio
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Any, Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary, WeakSet

from redset.core import calls
from redset.core.calls import ClientState
from redset.core.clients.connections import AsyncConnections, Connections, connections_of
from redset.core.clients.links import AsyncLink, Link

__all__ = ("AsyncLinks", "Choice", "Links", "LoopLinks", "let_go")

#: The connections that a set uses: redset's own if the client is plain, or always those of the client.
Choice: TypeAlias = Literal["own", "client"]

#: Seconds after which a call that waits for a link checks whether an interruption dropped one.
LOOK = 0.05


def _own(choice: Any) -> bool:
    if choice not in get_args(Choice):
        raise ValueError(f"connections must be 'own' or 'client', not {choice!r}")
    return bool(choice == "own")


class Links:
    """The links of a blocking client, which threads share."""

    def __init__(self, connections: Connections) -> None:
        self.usable = connections.usable
        self.tries_again = connections.tries_again
        self.connections = connections
        self._idle: list[Link] = []
        #: References to all links. One that an interrupted call dropped leaves by itself.
        self._all: set[weakref.ref[Link]] = set()
        #: The threads that wait for a link, in the order in which they are served.
        self._queue: deque[threading.Event] = deque()
        self._pid = calls.PID

    @classmethod
    def of(cls, client: Any, state: ClientState, choice: Any) -> "Links | None":
        """Return the links of this client, or None if the client's own connections are to be used."""
        connections = connections_of(client, awaits=False) if _own(choice) else None
        if not isinstance(connections, Connections):
            return None
        if state.links is None or state.links.connections is not connections:
            state.links = cls(connections)
        links: Links = state.links
        return links

    def take(self) -> Link:
        """Return an idle link or a new one. Block while the limit is reached.

        :raises ConnectionError: the client's own, if no link was free for as long as its pool would wait.
        """
        if self._pid != calls.PID:
            # The links in use and the waiting threads are those of the parent process.
            self._forget()
        if not self._queue:
            try:
                return self._idle.pop()
            except IndexError:
                link = self._new()
            if link is not None:
                return link
        return self._wait()

    def free(self) -> int:
        """Return how many links a call that is in no hurry may have: none while others wait for one."""
        return 0 if self._queue else self.connections.limit - len(self._all) + len(self._idle)

    def put(self, link: Link) -> None:
        self._idle.append(link)
        if self._queue:
            self._call_next()

    def _forget(self) -> None:
        self._idle, self._all, self._queue, self._pid = [], set(), deque(), calls.PID

    def _new(self) -> Link | None:
        """Return a new link, or None if the limit is reached."""
        if len(self._all) >= self.connections.limit:
            return None
        link = self.connections.link()
        # One step in C: an interruption leaves no frame that refers to a link that counts; see :func:`let_go`.
        self._all.add(weakref.ref(link, self._all.discard))
        # If two threads get here at once, both wait, and the first in the queue makes the link.
        return link if len(self._all) <= self.connections.limit else None

    def _wait(self) -> Link:
        turn = threading.Event()
        try:
            return self._wait_for(turn)
        except BaseException:
            # An interruption can also come while the queue is left below.
            self._leave(turn)
            raise

    def _wait_for(self, turn: threading.Event) -> Link:
        timeout = self.connections.timeout
        ends_at = None if timeout is None else time.monotonic() + timeout
        try:
            self._queue.append(turn)
            while True:
                if self._queue[0] is turn:
                    with suppress(IndexError):
                        return self._idle.pop()
                    if (link := self._new()) is not None:
                        return link
                if ends_at is not None and time.monotonic() >= ends_at:
                    raise self.connections.ConnectionError(_none_free(self.connections))
                turn.wait(LOOK)
                turn.clear()
        finally:
            self._leave(turn)

    def _leave(self, turn: threading.Event) -> None:
        with suppress(ValueError):
            self._queue.remove(turn)
        self._call_next()

    def _call_next(self) -> None:
        with suppress(IndexError):
            self._queue[0].set()


def let_go(interruption: BaseException) -> None:
    """Release the link of an interrupted call, which frames in the tracebacks refer to.

    A new link can then take its place. An interruption can come at any bytecode, even while a link is returned.
    """
    error: BaseException | None = interruption
    met: set[int] = set()
    while error is not None and id(error) not in met:
        met.add(id(error))
        traceback, error = error.__traceback__, error.__context__
        while traceback is not None:
            frame, traceback = traceback.tb_frame, traceback.tb_next
            if frame.f_globals.get("__name__") in _HOLDERS:
                # Frames that run, and generators that can still go on, raise this error.
                with suppress(RuntimeError):
                    frame.clear()


#: The modules whose functions hold a link while they use it.
_HOLDERS = ("redset.core.drivers", Link.__module__, __name__)


class AsyncLinks:
    """The links of an asyncio client, separate for each event loop."""

    def __init__(self, connections: AsyncConnections) -> None:
        self.usable = connections.usable
        self.tries_again = connections.tries_again
        self.connections = connections
        self._in_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLinks] = WeakKeyDictionary()

    @classmethod
    def of(cls, client: Any, state: ClientState, choice: Any) -> "AsyncLinks | None":
        """Return the links of this client, or None if the client's own connections are to be used."""
        connections = connections_of(client, awaits=True) if _own(choice) else None
        if not isinstance(connections, AsyncConnections):
            return None
        if state.links is None or state.links.connections is not connections:
            state.links = cls(connections)
        links: AsyncLinks = state.links
        return links

    def of_loop(self, loop: asyncio.AbstractEventLoop) -> "LoopLinks":
        """Return the links of one event loop."""
        return self._in_loops.get(loop) or self._in_loops.setdefault(loop, LoopLinks(self.connections))


class LoopLinks:
    """The links of one event loop, which its tasks share."""

    def __init__(self, connections: AsyncConnections) -> None:
        self._connections = connections
        self._idle: list[AsyncLink] = []
        self._all: WeakSet[AsyncLink] = WeakSet()
        self._queue: deque[asyncio.Future[AsyncLink]] = deque()
        #: Those that come after all others.
        self._patient: list[asyncio.Future[None]] = []

    def take(self) -> AsyncLink | None:
        """Return an idle link or a new one, or None if the limit is reached."""
        if self._queue:
            return None
        if self._idle:
            return self._idle.pop()
        if len(self._all) >= self._connections.limit:
            return None
        link = self._connections.link()
        self._all.add(link)
        return link

    def free(self) -> int:
        """Return how many links a call that is in no hurry may have: none while others wait for one."""
        return 0 if self._queue else self._connections.limit - len(self._all) + len(self._idle)

    async def some_free(self) -> int:
        """Return the same, once it is not 0."""
        while (free := self.free()) < 1:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._patient.append(turn)
            try:
                await asyncio.wait({turn}, timeout=LOOK)
            finally:
                if turn in self._patient:
                    self._patient.remove(turn)
        return free

    async def wait(self) -> AsyncLink:
        """Return the next link that is free, in the order of requests.

        :raises ConnectionError: the client's own, if no link was free for as long as its pool would wait.
        """
        turn: asyncio.Future[AsyncLink] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._connections.timeout):
                return await turn
        except BaseException as error:
            if turn in self._queue:
                self._queue.remove(turn)
            elif turn.done() and not turn.cancelled():
                self.put(turn.result())
            if isinstance(error, TimeoutError):
                raise self._connections.ConnectionError(_none_free(self._connections)) from None
            raise

    def put(self, link: AsyncLink) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(link)
                return
        self._idle.append(link)
        while self._patient:
            self._patient.pop().set_result(None)


def _none_free(connections: Connections | AsyncConnections) -> str:
    return (
        f"no connection was free for {connections.timeout} s; the client's pool has at most {connections.limit} "
        "connections: raise max_connections"
    )
