"""What a client is asked besides ``execute_command``, which is all that it must have."""

from collections.abc import Callable
from typing import Any

from redset.core.clients.libraries import is_of_a_library

__all__ = (
    "AS_STORED",
    "are_beside",
    "drop_idle_connections",
    "executor",
    "has_one_connection",
    "longest_block",
    "user_of",
)

#: Has a reply left as bytes by a client that was made with ``decode_responses=True``.
AS_STORED: dict[str, Any] = {"NEVER_DECODE": True}


def executor(client: Any) -> Callable[..., Any]:
    """The ``execute_command`` of ``client``, by which every command goes to the server.

    A client with a cache of its own (``cache_config``) would answer some from memory, and refuses those whose keys it
    was not told. It knows them by their names in capitals.
    """

    def execute(*words: Any, **options: Any) -> Any:
        # Looked up for each command, since instrumentation may replace it at any time.
        return client.execute_command(*words, **options)

    def execute_uncached(verb: bytes | str, *words: Any, **options: Any) -> Any:
        return client.execute_command(verb.lower(), *words, **options)

    return execute_uncached if _caches(client) else execute


def _caches(client: Any) -> bool:
    """Whether it is one of redis-py with client-side caching, on a single server or a cluster."""
    if not any(is_of_a_library(kind) for kind in type(client).__mro__):
        return False
    holders = (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None))
    return any(getattr(holder, name, None) is not None for holder in holders for name in ("cache", "_cache"))


def has_one_connection(client: Any) -> bool:
    """Whether the client has but one connection, whose state others may depend on, and which threads must not share."""
    return bool(
        getattr(client, "connection", None) is not None
        or getattr(client, "single_connection_client", False)
        or getattr(client, "_single_connection_client", False)
    )


def drop_idle_connections(client: Any) -> None:
    """Closes the connections that nobody uses: one of them may hold a reply that was never read."""
    nodes = client.get_nodes() if hasattr(client, "get_nodes") else [client]
    for node in nodes:
        pool: Any = getattr(getattr(node, "redis_connection", node), "connection_pool", None)
        if pool is not None:
            try:
                pool.disconnect(inuse_connections=False)
            except TypeError:
                # Old pools of the blocking kind only know all or nothing.
                pool.disconnect()


def are_beside(client: Any, one: bytes, other: bytes) -> bool:
    """Whether one script can see both keys: always, but on a cluster only where they are in one slot."""
    keyslot = getattr(client, "keyslot", None)
    return keyslot is None or keyslot(one) == keyslot(other)


def longest_block(client: Any) -> float:
    """How many seconds a command may block on this client before its socket gives up; ``inf`` without a limit.

    Half of the socket's time limit, since an idle server ends a blocking command up to a tenth of a second late.
    """
    limit = (_settings(client) or {}).get("socket_timeout")
    return float("inf") if limit is None else limit / 2


def user_of(client: Any) -> str | None:
    """The name of the user that the client logs in as; None where it does not say."""
    settings = _settings(client)
    return None if settings is None else settings.get("username") or "default"


def _settings(client: Any) -> dict[str, Any] | None:
    """What the client makes its connections with: that of a pool, of a cluster, or of an asyncio cluster."""
    for holder in (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None), client):
        settings: dict[str, Any] | None = getattr(holder, "connection_kwargs", None)
        if settings is not None:
            return settings
    return None
