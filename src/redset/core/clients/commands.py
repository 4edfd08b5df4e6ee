"""The methods and attributes of a client that redset uses besides ``execute_command``, if the client has them."""

import functools
from collections.abc import Callable
from typing import Any

from redset.core.clients.clusters import cluster_executor, has_nodes
from redset.core.clients.libraries import is_of_a_library
from redset.core.clients.settings import settings_of

__all__ = (
    "are_beside",
    "drop_idle_connections",
    "enqueue",
    "executor",
    "has_one_connection",
    "longest_block",
    "pipelines_of",
)


def executor(client: Any) -> Callable[..., Any]:
    """Return the ``execute_command`` of ``client``, by which every command is sent.

    A client with a cache of its own (``cache_config``) would answer some commands from memory, and refuse those whose
    keys it does not know. It knows commands by their names in capitals.
    """

    def execute(*words: Any, **options: Any) -> Any:
        # Looked up for each command, since instrumentation may replace it at any time.
        return client.execute_command(*words, **options)

    def execute_uncached(verb: bytes | str, *words: Any, **options: Any) -> Any:
        return client.execute_command(verb.lower(), *words, **options)

    if _caches(client):
        return execute_uncached
    if has_nodes(client):
        return cluster_executor(client)
    return execute


def pipelines_of(client: Any) -> Callable[[], Any] | None:
    """Return what makes a pipeline without a transaction, or None if the client has none that may be used.

    That of a cluster client sends to each node the commands for its slots. A client with a cache of its own would
    answer from memory, and a client with a single connection lends it to nobody.
    """
    ours = any(is_of_a_library(kind) and "pipeline" in vars(kind) for kind in type(client).__mro__)
    if not ours or _caches(client) or has_one_connection(client):
        return None
    return functools.partial(client.pipeline, transaction=False)


def enqueue(pipeline: Any, words: tuple[bytes | str, ...], **options: Any) -> None:
    """Put a command into a pipeline."""
    pipeline.execute_command(*words, **options)


def _caches(client: Any) -> bool:
    """Return whether it is a client of redis-py with client-side caching, on a single server or a cluster."""
    if not any(is_of_a_library(kind) for kind in type(client).__mro__):
        return False
    holders = (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None))
    return any(getattr(holder, name, None) is not None for holder in holders for name in ("cache", "_cache"))


#: Seconds for which a command blocks a connection that others need.
SHARED_BLOCK = 0.2


def has_one_connection(client: Any) -> bool:
    """Return whether the client has a single connection, which threads must not share."""
    return bool(
        getattr(client, "connection", None) is not None
        or getattr(client, "single_connection_client", False)
        or getattr(client, "_single_connection_client", False)
    )


def drop_idle_connections(client: Any) -> None:
    """Close the idle connections: a reply that was never read may be on one of them."""
    nodes = client.get_nodes() if hasattr(client, "get_nodes") else [client]
    for node in nodes:
        of_node = getattr(node, "redis_connection", None) or getattr(node, "valkey_connection", None) or node
        pool: Any = getattr(of_node, "connection_pool", None)
        if pool is not None:
            try:
                pool.disconnect(inuse_connections=False)
            except TypeError:
                # Old blocking pools can only disconnect all connections.
                pool.disconnect()


def are_beside(client: Any, one: bytes, other: bytes) -> bool:
    """Return whether one script can see both keys: always, except on a cluster if they are in two slots."""
    keyslot = getattr(client, "keyslot", None)
    return keyslot is None or keyslot(one) == keyslot(other)


def longest_block(client: Any) -> float:
    """Return the seconds for which a command may block; ``inf`` without a limit.

    Half of the time limit of the client's socket, since an idle server ends a blocking command up to a tenth of a
    second late. On a client with a single connection, other calls wait behind it.
    """
    if has_one_connection(client):
        return SHARED_BLOCK
    limit = (settings_of(client) or {}).get("socket_timeout")
    return float("inf") if limit is None else limit / 2
