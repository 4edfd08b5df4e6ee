"""Clients from a URL, or of the embedded server, made by the client library that is installed."""

import asyncio
import os
import re
from collections.abc import Awaitable
from importlib import import_module
from inspect import isawaitable
from typing import Any, NoReturn, Self

from redset import embedded
from redset.core.retries import tries_once
from redset.exceptions import NoServerError

__all__ = ("client_library", "connect", "connect_async", "repeating")

_SCHEMES = ("redis://", "rediss://", "unix://")
#: Seconds for a TLS connection and its handshake, which a server without TLS never answers.
_TLS_TIMEOUT = 2


def connect(url: str | None = None, **client_options: Any) -> Any:
    """Return a client of redis-py, or of valkey-py if only that is installed.

    Its server is the one at ``url``, else at ``$REDSET_URL``, else the embedded server: a process of this user, started
    by the first program that needs it, shared by all, and not stopped when they end. See :mod:`redset.embedded`.

    The client contacts a given server at its first command, not here. The first contact is tried once, and so is a
    connection with a wrong password, so a wrong address is an error at once. After that, a call whose connection is
    lost or times out is sent again, up to ten times within some seconds. redis-py's ``Redis(...)`` does that by
    default, its ``from_url`` does not. Repeated calls harm no set, and consumers survive a restart of the server.

    :param url: ``redis://host:port/db``, ``rediss://…`` (TLS) or ``unix:///path/of/the.sock``.
    :param client_options: further arguments of the client's ``from_url``: ``decode_responses=True``,
        ``socket_timeout=5``; ``retry=…`` or ``retry_on_error=…`` instead of the ten times. With TLS,
        ``socket_connect_timeout`` defaults to 2 seconds and limits the handshake too.
    :raises ValueError: the url has another form.
    :raises NoServerError: no client library is installed, or no url was given and no server could be found or started;
        the message says what to do.
    """
    library = client_library()
    found = _given_url(url) or embedded.start()
    return _from_url(library, found, client_options)


async def connect_async(url: str | None = None, **client_options: Any) -> Any:
    """Return a client whose calls are awaited; else like :func:`connect`."""
    library = client_library(asynchronous=True)
    found = _given_url(url)
    if found is None:
        found = await asyncio.to_thread(embedded.start)
    return _from_url(library, found, client_options)


def client_library(*, asynchronous: bool = False) -> Any:
    """Return the module of the installed client library, redis-py or else valkey-py, or its asyncio module.

    :raises NoServerError: neither is installed.
    """
    for name in ("redis", "valkey"):
        try:
            return import_module(f"{name}.asyncio" if asynchronous else name)
        except ImportError:
            continue
    raise NoServerError('no client library is installed: pip install "redset[redis]"')


def _given_url(url: str | None) -> str | None:
    """Return the caller's url, else that of the environment: an empty variable is none, an empty url is an error."""
    if url == "":
        _refuse(url, "it is empty")
    return url or os.environ.get("REDSET_URL") or None


def _from_url(library: Any, url: str, client_options: dict[str, Any]) -> Any:
    if not url.startswith(_SCHEMES):
        _refuse(url, f"it must begin with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}")
    if url.partition("?")[0] == "unix://":
        _refuse(url, "it names no socket")
    if client_options.keys().isdisjoint(("retry", "retry_on_error", "retry_on_timeout")):
        client_options |= repeating(library)
    if url.startswith("rediss://"):
        client_options = _handshake_options(library) | client_options
    try:
        return library.from_url(url, **client_options)
    except ValueError as error:
        # The library's reason quotes the part that is wrong, which may be the password.
        _refuse(url, "its port or an option is wrong" if "@" in url else str(error))


def repeating(library: Any, times: int = 10, longest_pause: float = 1) -> dict[str, Any]:
    """Return client options that repeat lost calls, for any version of either library."""
    package = library.__name__.partition(".")[0]
    backoff = import_module(f"{package}.backoff").FullJitterBackoff(cap=longest_pause, base=0.01)
    errors = import_module(f"{package}.exceptions")

    class Retry(import_module(f"{library.__name__}.retry").Retry):  # type: ignore[misc]
        """Retries only once the server was reached, and never after a wrong password.

        Does not retry inside another call that is retried: ten times ten reconnections would take too long.
        """

        reached = False
        times = 0

        @property
        def _retries(self) -> int:
            return self.times if self.reached else 0

        @_retries.setter
        def _retries(self, times: int) -> None:
            self.times = times

        def __deepcopy__(self, _memo: object) -> Self:
            # Each connection copies the retry object. All share one here, and so know that the server was reached.
            return self

        def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
            once = tries_once.get()

            def failed(error: Exception, *count: int) -> Any:
                # The asyncio clients wrap an AuthenticationError in a ConnectionError.
                if once or isinstance(error.__cause__ or error, errors.AuthenticationError):
                    raise error from error.__cause__
                return fail(error, *count)

            tries_once.set(True)
            try:
                outcome = super().call_with_retry(do, failed, *arguments, **options)
            finally:
                tries_once.set(once)
            if isawaitable(outcome):
                return self._awaited(outcome, once=once)
            self.reached = True
            return outcome

        async def _awaited(self, outcome: Awaitable[Any], *, once: bool) -> Any:
            tries_once.set(True)
            try:
                result = await outcome
            finally:
                tries_once.set(once)
            self.reached = True
            return result

    # Older clients raise a plain OSError for a refused connection, as during a restart of the server.
    return {"retry": Retry(backoff, times), "retry_on_error": [library.ConnectionError, library.TimeoutError, OSError]}


def _handshake_options(library: Any) -> dict[str, Any]:
    """Return client options that limit connecting and the TLS handshake.

    The asyncio clients count both as one anyway.
    """
    options: dict[str, Any] = {"socket_connect_timeout": _TLS_TIMEOUT}
    if not library.__name__.endswith("asyncio"):

        class Connection(library.SSLConnection):  # type: ignore[misc]
            socket_timeout: Any

            def _connect(self) -> Any:
                timeout, self.socket_timeout = self.socket_timeout, self.socket_connect_timeout
                try:
                    connected = super()._connect()
                finally:
                    self.socket_timeout = timeout
                connected.settimeout(timeout)
                return connected

        options["connection_class"] = Connection
    return options


def _refuse(url: str, reason: str) -> NoReturn:
    without_password = re.sub("//.*@", "//***@", url)
    raise ValueError(f"{without_password!r} is no url of a server: {reason}") from None
