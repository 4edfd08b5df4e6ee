"""The options with which :func:`redset.connect` creates a client, for any version of either library."""

from collections.abc import Awaitable
from importlib import import_module
from inspect import isawaitable
from typing import Any, Self

from redset.core.clients.libraries import part_of
from redset.core.retries import tries_once

__all__ = ("CLUSTER", "client_from_url", "repeating")

#: The end of the scheme of a cluster: ``redis+cluster://``.
CLUSTER = "+cluster://"

#: Seconds for a TLS connection and its handshake, which a server without TLS never answers.
_TLS_TIMEOUT = 2


def client_from_url(library: Any, url: str, options: dict[str, Any]) -> Any:
    """Return a client of one server, or of the cluster that a node belongs to.

    :raises ValueError: the url is wrong.
    """
    if CLUSTER not in url:
        return library.from_url(url, **_completed(options, library, url))
    if url.startswith("rediss"):
        options = {"socket_connect_timeout": _TLS_TIMEOUT} | options
    kind = getattr(library, "ValkeyCluster", None) or library.RedisCluster
    if library.__name__.endswith("asyncio"):
        # Else every fifth redirection closes all connections.
        options = {"reinitialize_steps": 0} | options
    return kind.from_url(url.replace(CLUSTER, "://", 1), **options)


def _completed(options: dict[str, Any], library: Any, url: str) -> dict[str, Any]:
    """Return the options for a client of this url: those of the caller, then the defaults of redset.

    :param library: the module of one face of a client library.
    """
    if options.keys().isdisjoint(("retry", "retry_on_error", "retry_on_timeout")):
        options = repeating(library) | options
    if url.startswith("rediss://"):
        options = _handshake_options(library) | options
    return options


def repeating(library: Any, times: int = 10, longest_pause: float = 1) -> dict[str, Any]:
    """Return client options that repeat lost calls."""
    backoff = part_of(library, "backoff").FullJitterBackoff(cap=longest_pause, base=0.01)
    errors = part_of(library, "exceptions")

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
