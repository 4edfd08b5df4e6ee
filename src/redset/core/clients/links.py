"""Links: connections to the server that redset keeps for itself, outside of the client's pool.

``execute_command`` of redis-py takes a connection from the pool, checks it and returns it for each command: 20 of the
68 µs that a ``ZADD`` costs the client. A link keeps its connection and uses the connection's public methods. It tries
once. If that fails, the client retries by its own policy; see :meth:`Owner.tries_again`.
"""

import asyncio
import contextlib
import math
import os
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from inspect import isawaitable
from typing import Any

from redset.core.retries import tries_once

__all__ = ("AsyncLink", "Link", "Owner", "disconnect_later")

Words = tuple[bytes | str, ...]

#: Seconds without use after which a link checks that the server has not closed its connection. The client's pool checks
#: each time, which takes 4 µs.
CHECK_AFTER = 0.01
#: Seconds between two questions whether a blocking command shall go on.
ASK_AFTER = 0.2

#: Connections of a parent process. The child must not close them: that would end the TLS session of the parent, or
#: remove the socket from the event loop's selector, which both processes share.
_INHERITED: list[Any] = []

#: All owners of links, for a forked child to find the links.
_OWNERS: "weakref.WeakSet[Owner]" = weakref.WeakSet()


#: The bytes before a word, by its length.
_LENGTHS = [b"\r\n$%d\r\n" % length for length in range(256)]


def packed(words: Words) -> bytes:
    """Return the command in wire format, in less than half the time of the libraries' packers."""
    message = [b"*%d" % len(words)]
    for word in words:
        encoded = word if type(word) is bytes else word.encode()  # type: ignore[union-attr] # it is a str
        length = len(encoded)
        message += (_LENGTHS[length] if length < 256 else b"\r\n$%d\r\n" % length, encoded)  # noqa: PLR2004
    message.append(b"\r\n")
    return b"".join(message)


def _packer() -> Callable[[Words], bytes]:
    """Return the fastest packer: that of hiredis, if the client library has imported it. No word is a number."""
    packer: Callable[[Words], bytes] = getattr(sys.modules.get("hiredis"), "pack_command", packed)
    return packer


def taken_from(slot: list[Any]) -> list[Any]:
    """Take the connection out of a slot: a call in another thread takes it before, or not at all."""
    try:
        return [slot.pop()]
    except IndexError:
        return []


def reference_to(connection: Any) -> Callable[[], Any]:
    """Return a weak reference, which lets the connection of an interrupted call close itself."""
    try:
        return weakref.ref(connection)
    except TypeError:
        # The asyncio connections of redis-py 4 allow no weak references. They do not close themselves either.
        return lambda: connection


class NoRetries:
    """A client's retry policy with retries switched off, for a link that connects."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        def failed(error: Exception, *count: int) -> Any:
            outcome = fail(error, *count)
            if isawaitable(outcome):
                return _then_raise(outcome, error)
            raise error

        return self._policy.call_with_retry(do, failed, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


async def _then_raise(outcome: Awaitable[Any], error: Exception) -> None:
    await outcome
    raise error


class Owner:
    """Makes the connections of some links, with the present settings of the client's pool."""

    def __init__(self, pool: Any, errors: Any, *, retries_listed_only: bool) -> None:
        self.pool = pool
        self.ConnectionError: type[Exception] = errors.ConnectionError
        self.TimeoutError: type[Exception] = errors.TimeoutError
        self.ResponseError: type[Exception] = errors.ResponseError
        #: Errors of a check after which a connection is unusable.
        self.unusable = (errors.ConnectionError, errors.TimeoutError, OSError)
        #: redis-py before version 6 and valkey-py retry only those errors that ``retry_on_error`` lists.
        self._retries_listed_only = retries_listed_only
        #: Weak references to all links. ``set.copy`` and ``set.discard`` are atomic.
        self._links: set[weakref.ref[Any]] = set()
        _OWNERS.add(self)

    def register(self, link: Any) -> None:
        self._links.add(weakref.ref(link, self._links.discard))

    def links(self) -> Iterator[Any]:
        for reference in self._links.copy():
            link = reference()
            if link is not None:
                yield link

    def make_connection(self) -> Any:
        return self.pool.connection_class(**self.pool.connection_kwargs)

    def packs_alike(self) -> bool:
        """Return whether :func:`packed` encodes commands as the client does."""
        settings = self.pool.connection_kwargs
        encoding = settings.get("encoding") or "utf-8"
        return settings.get("command_packer") is None and encoding.lower().replace("-", "") == "utf8"

    def keeps_unread(self) -> bool:
        """Return whether unread data on an idle connection is push messages, which the next call reads."""
        enabled = getattr(self.pool, "maint_notifications_enabled", None)
        return enabled is not None and bool(enabled())

    def tries_again(self, error: Exception) -> bool:
        """Return whether the client would retry a command after this error, and may do so now."""
        if tries_once.get():
            return False
        # A new connection has the present settings, as this version of the library reads them.
        connection = self.make_connection()
        policy, listed = connection.retry, getattr(connection, "retry_on_error", None) or ()
        return (
            getattr(policy, "_retries", 1) != 0
            and isinstance(error, getattr(policy, "_supported_errors", Exception))
            and (not self._retries_listed_only or isinstance(error, tuple(listed)))
        )

    def forget_all(self) -> None:
        """In a forked child: leave the connections to the parent process."""
        for link in self.links():
            link.forget()


class _Link:
    """The base of the links of both faces. Its slot holds the connection between calls.

    A call takes the connection out, and returns it when it has read the reply. So after an interrupted call the slot is
    empty: the connection, on which a reply may still arrive, loses its last reference and closes itself.
    """

    __slots__ = (
        "__weakref__",
        "_checks_health",
        "_connection",
        "_owner",
        "_pack",
        "_packs_alike",
        "_slot",
        "_used_at",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._slot: list[Any] = []
        self._used_at = 0.0
        self._packs_alike = False
        self._pack = _packer()
        self._checks_health = False
        self._connection: Callable[[], Any] | None = None
        owner.register(self)

    def _made(self) -> Any:
        owner = self._owner
        connection = owner.make_connection()
        self._packs_alike = owner.packs_alike()
        self._checks_health = bool(connection.health_check_interval)
        connection.retry = NoRetries(connection.retry)
        self._connection = reference_to(connection)
        return connection

    def _packed_all(self, connection: Any, commands: Sequence[Words]) -> bytes:
        if self._packs_alike:
            return b"".join(map(self._pack, commands))
        return b"".join(chunk for words in commands for chunk in connection.pack_command(*words))

    def forget(self) -> None:
        """In a forked child: leave the connection to the parent process."""
        _INHERITED.extend(self._slot)
        if self._connection is not None:
            _INHERITED.append(self._connection())
        # The slot itself is replaced, so that a connection of the parent does not return to it.
        self._slot = []
        self._connection = None


class Link(_Link):
    """One connection for one call at a time."""

    __slots__ = ()

    def exchange(self, words: Words) -> Any:
        """Send a command and return the reply as raw bytes."""
        slot, connection = self._slot, self._taken()
        try:
            connection.send_packed_command(
                [self._pack(words)] if self._packs_alike else connection.pack_command(*words), self._checks_health
            )
            reply = connection.read_response(disable_decoding=True)
        except self._owner.ResponseError:
            # The server refused the command, but the connection is usable.
            slot.append(connection)
            raise
        except Exception:
            connection.disconnect()
            raise
        self._used_at = time.monotonic()
        slot.append(connection)
        return reply

    def exchange_all(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands in one message, and return the reply to each, or its error.

        If the connection is lost, all commands without a reply have the error of the connection.
        """
        slot, connection, replies = self._slot, self._taken(), list[Any]()
        try:
            connection.send_packed_command([self._packed_all(connection, commands)], self._checks_health)
            while len(replies) < len(commands):
                try:
                    reply = connection.read_response(disable_decoding=True)
                except self._owner.ResponseError as error:
                    reply = error
                replies.append(reply)
        except Exception as error:
            connection.disconnect()
            return replies + [error] * (len(commands) - len(replies))
        self._used_at = time.monotonic()
        slot.append(connection)
        return replies

    def _taken(self) -> Any:
        """Take the connection out of the slot, or make one, and check it if it was not used just now."""
        try:
            connection = self._slot.pop()
        except IndexError:
            connection = None
        if connection is None:
            connection = self._ready(self._made())
        elif time.monotonic() - self._used_at > CHECK_AFTER:
            connection = self._ready(connection)
        return connection

    def listen(self, words: Words, seconds: float, should_stop: Callable[[], bool] | None) -> bool:
        """Send a blocking command, and return whether its reply is other than nil.

        Close the connection if there is no reply in time.

        :param should_stop: asked five times a second whether to return at once.
        """
        ends_at, pause = time.monotonic() + seconds, math.inf if should_stop is None else ASK_AFTER
        slot = self._slot
        connection = slot.pop() if slot else None
        connection = self._ready(connection or self._made())
        connection.send_packed_command(connection.pack_command(*words))
        while not connection.can_read(timeout=max(0.0, min(pause, ends_at - time.monotonic()))):
            if time.monotonic() >= ends_at or (should_stop is not None and should_stop()):
                connection.disconnect()
                return False
        try:
            reply = connection.read_response(disable_decoding=True)
        except self._owner.ResponseError:
            slot.append(connection)
            raise
        self._used_at = time.monotonic()
        slot.append(connection)
        return reply is not None

    def __del__(self) -> None:
        # Connections of redis-py 8 are in a reference cycle, so they stay open until it is collected. At the end of a
        # program the names of this module are gone, and perhaps those of the library.
        slot = getattr(self, "_slot", None)
        while slot:
            try:
                slot.pop().disconnect()
            except Exception:
                return

    def close(self, *, in_use: bool) -> None:
        """Close the connection in the slot; with ``in_use`` also one that a call has taken."""
        connections = taken_from(self._slot)
        if in_use and self._connection is not None:
            connections.append(self._connection())
        for connection in connections:
            if connection is not None:
                connection.disconnect()

    def _ready(self, connection: Any) -> Any:
        """Return a connection that was checked as the pool checks it: this one, or else a new one."""
        owner = self._owner
        connection.connect()
        try:
            is_clean = not connection.can_read() or owner.keeps_unread()
        except owner.unusable:
            is_clean = False
        if not is_clean:
            connection.disconnect()
            connection = self._made()
            connection.connect()
            if connection.can_read() and not owner.keeps_unread():
                connection.disconnect()
                raise owner.ConnectionError("Connection not ready")
        return connection


class AsyncLink(_Link):
    """:class:`Link` for asyncio. Belongs to one event loop.

    redis-py limits the time of a call by a task and a timeout context for each, which takes a quarter of its time. A
    link has one timer per time limit instead, which checks whether the present call began too long ago.
    """

    __slots__ = ("_cancelled_before", "_end", "_limit", "_since", "_task", "_timed_out", "_timer", "loop")

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self.loop: Any = None
        #: Closes the connection in the slot when the link is collected. Not by ``__del__``: in a cycle with an error of
        #: the library, the garbage collector would find the connection too, still open.
        self._end: Any = None
        #: Seconds that a call may take, if this link itself enforces the limit.
        self._limit: float | None = None
        self._timer: Any = None
        self._task: Any = None
        self._since = 0.0
        self._cancelled_before = 0
        self._timed_out = False

    async def exchange(self, words: Words) -> Any:
        """Send a command and return the reply as raw bytes."""
        slot, connection = self._slot, await self._taken()
        try:
            await connection.send_packed_command(
                self._pack(words) if self._packs_alike else connection.pack_command(*words), self._checks_health
            )
            reply = await connection.read_response(disable_decoding=True)
        except self._owner.ResponseError:
            # The server refused the command, but the connection is usable.
            self._task = None
            slot.append(connection)
            raise
        except BaseException as error:
            meaning = self._library_error(connection, error)
            await _drop(connection)
            if meaning is error:
                raise
            raise meaning from None
        self._task = None
        self._used_at = time.monotonic()
        slot.append(connection)
        return reply

    async def exchange_all(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands in one message, and return the reply to each, or its error; see :meth:`Link.exchange_all`."""
        slot, connection, replies = self._slot, await self._taken(), list[Any]()
        try:
            await connection.send_packed_command(self._packed_all(connection, commands), self._checks_health)
            while len(replies) < len(commands):
                try:
                    reply = await connection.read_response(disable_decoding=True)
                except self._owner.ResponseError as error:
                    reply = error
                replies.append(reply)
                self._since = time.monotonic()
        except BaseException as error:
            meaning = self._library_error(connection, error)
            await _drop(connection)
            if not isinstance(meaning, Exception):
                raise
            return replies + [meaning] * (len(commands) - len(replies))
        self._task = None
        self._used_at = time.monotonic()
        slot.append(connection)
        return replies

    async def _taken(self) -> Any:
        """Take the connection out of the slot, or make one, and begin to limit the time of the call."""
        try:
            connection = self._slot.pop()
        except IndexError:
            connection = None
        if connection is None:
            connection = await self._ready(self._made())
        elif time.monotonic() - self._used_at > CHECK_AFTER:
            connection = await self._ready(connection)
        limit = self._limit
        if limit is not None:
            self._task = task = asyncio.current_task()
            self._cancelled_before = task.cancelling()  # type: ignore[union-attr]
            self._since = time.monotonic()
            if self._timer is None:
                self._timer = self.loop.call_later(limit, _end_late_call, weakref.ref(self))
        return connection

    def take(self, *, in_use: bool) -> list[Any]:
        """Take the connection out of its slot to close it; with ``in_use`` also return one that a call has taken."""
        connections = taken_from(self._slot)
        if in_use and not connections and self._connection is not None:
            connections = [self._connection()]
        return [connection for connection in connections if connection is not None]

    def forget(self) -> None:
        super().forget()
        self._timer = self._task = None
        if self._end is not None:
            self._end.detach()
            self._end = None

    def end_late_call(self) -> None:
        """Cancel the call if it takes too long; else set the timer for when it would."""
        self._timer = None
        if self._task is None or self._limit is None:
            return
        connection = self._connection() if self._connection is not None else None
        # During maintenance of the server, redis-py relaxes the limit of connections that were notified.
        relaxed = getattr(connection, "socket_timeout", None)
        left = self._since + (relaxed or self._limit) - time.monotonic()
        if left > 0:
            self._timer = self.loop.call_later(left, _end_late_call, weakref.ref(self))
        else:
            self._timed_out = True
            self._task.cancel()

    def _made(self) -> Any:
        connection = super()._made()
        self.loop = asyncio.get_running_loop()
        if self._end is None:
            self._end = weakref.finalize(self, _disconnect_all_later, self.loop, self._slot)
            self._end.atexit = False
        # The library enforces the limit while it connects, and always if it checks the connection's health.
        self._limit = None if self._checks_health else connection.socket_timeout or None
        return connection

    async def _ready(self, connection: Any) -> Any:
        """Return a connection that was checked as the pool checks it: this one, or else a new one."""
        owner, task = self._owner, asyncio.current_task()
        cancelled_before = task.cancelling()  # type: ignore[union-attr]
        try:
            self._restore_limit(connection)
            await connection.connect()
            try:
                # asyncio does not show whether this is a push message or the end of the connection.
                is_clean = not await _can_read(connection)
            except owner.unusable:
                is_clean = False
            if not is_clean:
                await connection.disconnect()
                connection = self._made()
                await connection.connect()
                if await _can_read(connection) and not owner.keeps_unread():
                    raise owner.ConnectionError("Connection not ready")  # noqa: TRY301 # dropped as after any error
            if task.cancelling() > cancelled_before:  # type: ignore[union-attr]
                # Python before 3.12 can swallow a cancellation while the library connects. anyio cancels a task in each
                # turn of the event loop, with a message that it looks for.
                await asyncio.sleep(0)
                raise asyncio.CancelledError  # noqa: TRY301 # dropped as after any error
        except BaseException:
            await _drop(connection)
            raise
        self._take_over_limit(connection)
        return connection

    def _library_error(self, connection: Any, error: BaseException) -> BaseException:
        """Return the error as the library would raise it: a timeout, for a call that took too long."""
        task, self._task = self._task, None
        timed_out, self._timed_out = self._timed_out, False
        if timed_out and isinstance(error, asyncio.CancelledError) and task.uncancel() <= self._cancelled_before:
            place = getattr(connection, "path", None) or f"{connection.host}:{connection.port}"
            return self._owner.TimeoutError(f"Timeout reading from {place}")
        return error

    def _restore_limit(self, connection: Any) -> None:
        if self._limit is not None and connection.socket_timeout is None:
            connection.socket_timeout = self._limit

    def _take_over_limit(self, connection: Any) -> None:
        if self._limit is not None:
            connection.socket_timeout = None


async def _can_read(connection: Any) -> bool:
    # redis-py has this method under its present name since version 8.
    can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
    # Old parsers return what they read, which is nothing if the server has closed the connection.
    return (await can_read()) is not False


async def _drop(connection: Any) -> None:
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)


def disconnect_later(loop: Any, connection: Any) -> None:
    """Close the connection on its own event loop, from any thread. On a closed loop, do nothing."""

    def start() -> None:
        task = loop.create_task(_drop(connection))
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)

    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(start)


def _disconnect_all_later(loop: Any, connections: list[Any]) -> None:
    for connection in connections:
        disconnect_later(loop, connection)


#: Event loops have only weak references to their tasks.
_CLOSING: set[Any] = set()


def _end_late_call(reference: "weakref.ref[AsyncLink]") -> None:
    link = reference()
    if link is not None:
        link.end_late_call()


def _forget_in_child() -> None:
    for owner in list(_OWNERS):
        owner.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
