"""Plain clients: those for which redset makes connections of its own, with the settings of the client's pool.

Client libraries are recognised by the names of their modules; none is imported here.
"""

import asyncio
import functools
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

from redset.core.clients.commands import has_one_connection
from redset.core.clients.libraries import LIBRARIES
from redset.core.clients.links import AsyncLink, Link, Owner, disconnect_later

__all__ = ("AsyncConnections", "AsyncLink", "Connections", "Link", "connections_of")

#: The modules of the plain clients: the library, the name of the client's class, and whether it is for asyncio.
_CLIENTS = {
    f"{library.name}.{module}": (library.name, library.client, awaits)
    for library in LIBRARIES
    for module, awaits in (("client", False), ("asyncio.client", True))
    if library.client
}
_POOLS = ("BlockingConnectionPool", "ConnectionPool")
_CONNECTIONS = ("Connection", "SSLConnection", "UnixDomainSocketConnection")

#: The methods that each command passes through. A program replaces one to see or to change each command.
_OF_CLIENTS = ("execute_command", "_execute_command", "_send_command_parse_response", "parse_response")
_OF_POOLS = ("get_connection", "make_connection", "release")
_OF_CONNECTIONS = ("send_command", "send_packed_command", "read_response", "pack_command")

#: Settings of pools that change commands or replies.
_SPECIAL = ("cache", "cache_config", "cache_enabled", "client_cache", "oss_cluster_maint_notifications_handler")

#: Seconds for which a call waits for a free link if the client's pool would raise an error at once.
_PATIENCE = 20.0

_lock = threading.RLock()


def _renew_lock() -> None:
    # At the fork, another thread of the parent process may have held it.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _Plain(Owner):
    """The base for both faces: the limits of the client's pool, and whether the client is still plain."""

    def __init__(self, client: Any) -> None:
        pool = client.connection_pool
        library, _, awaits = _CLIENTS[type(client).__module__]
        super().__init__(
            pool,
            sys.modules[f"{library}.exceptions"],
            retries_listed_only=hasattr(type(client), "_disconnect_raise"),
        )
        #: Returns whether the client is still plain. Fast enough to run before each call.
        self.usable: Callable[[], bool] = _usable(client, library)
        #: The maximum number of the pool's connections, and of links.
        self.limit: int = pool.max_connections
        #: Seconds for which a call may wait for a free link; None: no limit.
        self.timeout: float | None = pool.timeout if type(pool).__name__ == "BlockingConnectionPool" else _PATIENCE
        _follow(pool, self, awaits=awaits)


def _usable(client: Any, library: str) -> Callable[[], bool]:
    """Return a function that returns whether a plain client is still plain.

    Sentry, OpenTelemetry and others replace ``execute_command`` of the class, tests that of one client. The function
    takes 0.12 µs, since all that it needs is in local variables.
    """
    reference, kind, pool = weakref.ref(client), type(client), client.connection_pool
    execute_command, parse_response, connection_class = kind.execute_command, kind.parse_response, pool.connection_class
    observability = sys.modules.get(f"{library}.observability.providers")

    def usable() -> bool:
        client = reference()
        try:
            return (
                client is not None
                and kind.execute_command is execute_command
                and kind.parse_response is parse_response
                and "execute_command" not in client.__dict__
                and client.connection_pool is pool
                and pool.connection_class is connection_class
                and (
                    observability is None
                    or (instance := observability._observability_instance) is None
                    or instance._provider_manager is None
                )
            )
        except AttributeError:
            # In other versions of the library the state is elsewhere.
            return False

    return usable


class Connections(_Plain):
    """The links of one synchronous client, in addition to the connections of its pool."""

    def link(self) -> Link:
        """Return a new link, which connects when it is used."""
        return Link(self)

    def close(self, *, in_use: bool = True) -> None:
        """Close the connections of all links; with ``in_use`` also those that wait for a reply in another thread.

        A link connects again at its next use.
        """
        for link in self.links():
            link.close(in_use=in_use)


class AsyncConnections(_Plain):
    """The links of one asyncio client, in addition to the connections of its pool."""

    def link(self) -> AsyncLink:
        """Return a new link for one event loop, which connects when it is used."""
        return AsyncLink(self)

    async def close(self, *, in_use: bool = True) -> None:
        """Close the connections of all links; with ``in_use`` also those that wait for a reply in another task.

        A link connects again at its next use.
        """
        loop = asyncio.get_running_loop()
        closing = []
        for link in self.links():
            for connection in link.take(in_use=in_use):
                if link.loop is loop:
                    closing.append(connection.disconnect())
                else:
                    disconnect_later(link.loop, connection)
        await asyncio.gather(*closing, return_exceptions=True)


#: The connections of each client. The values refer to their clients weakly.
_KNOWN: "weakref.WeakKeyDictionary[Any, Connections | AsyncConnections]" = weakref.WeakKeyDictionary()


def connections_of(client: Any, *, awaits: bool) -> "Connections | AsyncConnections | None":
    """Return the connections that redset may use in addition to the client's pool; None if the client is not plain.

    A client is plain if its class, its pool and its connections are those of redis-py or valkey-py, not derived ones,
    and if nothing has to see each command: no instrumentation, client-side caching or renewed credentials.
    """
    with _lock:
        if not is_plain(client, awaits=awaits):
            return None
        known = _KNOWN.get(client)
        if known is None or not known.usable():
            known = _KNOWN[client] = AsyncConnections(client) if awaits else Connections(client)
        return known


def is_plain(client: Any, *, awaits: bool) -> bool:
    """Return whether commands may bypass ``execute_command`` of this client."""
    kind = type(client)
    library, name, for_asyncio = _CLIENTS.get(kind.__module__, ("", "", None))
    if for_asyncio is not awaits:
        return False
    clients = sys.modules.get(kind.__module__)
    connections = sys.modules.get(f"{library}.asyncio.connection" if awaits else f"{library}.connection")
    if getattr(clients, name, None) is not kind or connections is None:
        return False
    pool: Any = getattr(client, "connection_pool", None)
    return (
        any(type(pool) is getattr(connections, each) for each in _POOLS)
        and any(pool.connection_class is getattr(connections, each) for each in _CONNECTIONS)
        and _are_original(client, kind, _OF_CLIENTS)
        and _are_original(pool, type(pool), _OF_POOLS)
        and _are_original(None, pool.connection_class, _OF_CONNECTIONS)
        and not has_one_connection(client)
        and not _is_observed(library)
        and not _is_special(pool)
    )


def _are_original(instance: Any, kind: type, names: tuple[str, ...]) -> bool:
    """Return whether these methods are those of the library, and not replaced for this instance either.

    A method that was replaced has the globals of another module.
    """
    own = getattr(instance, "__dict__", {})
    return not any(name in own or not _is_original(kind, name) for name in names)


def _is_original(kind: type, name: str) -> bool:
    method = getattr(kind, name, None)
    if method is None:
        return True
    while isinstance(method, types.FunctionType) and _is_of_library(method, kind):
        if not hasattr(method, "__wrapped__"):
            return True
        method = method.__wrapped__
    return False


def _is_of_library(method: types.FunctionType, kind: type) -> bool:
    """Return whether the function is defined in the library of the class, which also decorates methods itself."""
    library = kind.__module__.partition(".")[0]
    module = method.__globals__.get("__name__", "")
    return module.partition(".")[0] == library and method.__globals__ is vars(sys.modules.get(module, types))


def _is_observed(library: str) -> bool:
    """Return whether redis-py itself measures each command."""
    providers = sys.modules.get(f"{library}.observability.providers")
    return providers is not None and providers.get_observability_instance().get_provider_manager() is not None


def _is_special(pool: Any) -> bool:
    settings = pool.connection_kwargs
    credentials = type(settings.get("credential_provider")).__mro__
    maintenance = settings.get("maint_notifications_config")
    return (
        getattr(pool, "cache", None) is not None
        or any(settings.get(name) for name in _SPECIAL)
        # Its tokens are renewed on the connections of the pool only.
        or any(kind.__name__ == "StreamingCredentialProvider" for kind in credentials)
        # By default ("auto"), a connection asks for notifications and works without them: only Redis Enterprise sends
        # any. A connection outside of the pool follows those about itself, but is not moved ahead of time.
        or getattr(maintenance, "enabled", None) is True
    )


#: For each pool the owners of links, which are closed when the connections of the pool are.
_FOLLOWERS: "weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]]" = weakref.WeakKeyDictionary()


def _follow(pool: Any, connections: Any, *, awaits: bool) -> None:
    """Close the links whenever the pool's connections are closed, by the client or by the user."""
    with _lock:
        followers = _FOLLOWERS.get(pool)
        if followers is None:
            followers = _FOLLOWERS[pool] = weakref.WeakSet()
            pool.disconnect = (_following_awaited if awaits else _following)(pool, followers)
        followers.add(connections)


def _following(pool: Any, followers: "weakref.WeakSet[Any]") -> Any:
    original = _original(pool)

    @functools.wraps(type(pool).disconnect)
    def disconnect(*args: Any, **options: Any) -> Any:
        try:
            disconnect_pool = original()
            return None if disconnect_pool is None else disconnect_pool(*args, **options)
        finally:
            for connections in list(followers):
                connections.close(in_use=_in_use(args, options))

    return disconnect


def _following_awaited(pool: Any, followers: "weakref.WeakSet[Any]") -> Any:
    original = _original(pool)

    @functools.wraps(type(pool).disconnect)
    async def disconnect(*args: Any, **options: Any) -> Any:
        try:
            disconnect_pool = original()
            return None if disconnect_pool is None else await disconnect_pool(*args, **options)
        finally:
            for connections in list(followers):
                await connections.close(in_use=_in_use(args, options))

    return disconnect


def _original(pool: Any) -> Any:
    """Return a function that returns the pool's present ``disconnect``, without keeping the pool alive.

    The pool refers to its replacement, so a strong reference would leave the pool to the garbage collector.
    """
    if "disconnect" in vars(pool):
        replaced = pool.disconnect
        return lambda: replaced
    return weakref.WeakMethod(pool.disconnect)


def _in_use(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return bool(options.get("inuse_connections", args[0] if args else True))
