"""The methods and attributes of a client that redset uses besides ``execute_command``, if the client has them."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any

from redset.core.clients.libraries import is_of_a_library
from redset.core.retries import tries_once

__all__ = (
    "AS_STORED",
    "are_beside",
    "drop_idle_connections",
    "enqueue",
    "executor",
    "has_nodes",
    "has_one_connection",
    "key_of",
    "longest_block",
    "node_name",
    "pipelines_of",
    "replies_once",
    "replies_once_awaited",
    "user_of",
)

#: Makes a client with ``decode_responses=True`` return bytes.
AS_STORED: dict[str, Any] = {"NEVER_DECODE": True}


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

    def execute_at_node(*words: Any, **options: Any) -> Any:
        if tries_once.get() and (node := _node_of(client, key_of(words))) is not None:
            options["target_nodes"] = node
        return client.execute_command(*words, **options)

    async def execute_at_node_awaited(*words: Any, **options: Any) -> Any:
        if tries_once.get():
            # After a failure the client reads the nodes and slots again. Before that, the node may be the old one.
            await client.initialize()
            if (node := _node_of(client, key_of(words))) is not None:
                options["target_nodes"] = node
        return await client.execute_command(*words, **options)

    if _caches(client):
        return execute_uncached
    if has_nodes(client):
        return execute_at_node_awaited if is_awaited_cluster(client) else execute_at_node
    return execute


# Clients of a cluster.


def has_nodes(client: Any) -> bool:
    """Return whether it is the cluster client of a library, which sends each command to the node of its key."""
    return hasattr(client, "nodes_manager") and any(
        is_of_a_library(kind) and "get_node_from_key" in vars(kind) for kind in type(client).__mro__
    )


def is_awaited_cluster(client: Any) -> bool:
    """Return whether a cluster client is for asyncio."""
    return iscoroutinefunction(type(client).initialize) if hasattr(type(client), "initialize") else False


def key_of(words: Sequence[Any]) -> Any:
    """Return the first key of a command, or None."""
    if words[0] in ("EVALSHA", "EVAL"):
        return words[3] if words[2] != "0" else None
    return words[1] if len(words) > 1 else None


def _node_of(client: Any, key: Any) -> Any:
    """Return the node that has a key, as far as a cluster client knows; None if it does not know.

    A cluster client that is given the node of a command tries once. It follows MOVED and ASK nevertheless.
    """
    if key is None:
        return None
    try:
        return client.get_node_from_key(key)
    except Exception:
        # The client has not read the slots yet, or nobody has this one.
        return None


def node_name(client: Any, key: bytes) -> str | None:
    """Return the name of the node that has a key; None if the client has no nodes, or does not know."""
    if not has_nodes(client):
        return None
    name = getattr(_node_of(client, key), "name", None)
    return None if name is None else str(name)


class _NoRetries:
    """In the place of the retry policy of a pipeline."""

    def get_retries(self) -> int:
        return 0


class _Queued:
    """A command for the pipeline of a node of an asyncio cluster."""

    __slots__ = ("args", "kwargs", "position", "result")

    def __init__(self, position: int, words: tuple[bytes | str, ...]) -> None:
        self.position = position
        self.args = words
        self.kwargs = dict(AS_STORED)
        self.result: Any = None


def replies_once(pipeline: Any) -> list[Any]:
    """Execute the pipeline of a cluster client without its retries and redirections. Return replies and errors.

    ``execute`` would send the commands that failed again, one by one, each as often as the client tries.
    """
    pipeline.cluster_error_retry_attempts = 0
    if hasattr(pipeline, "retry"):
        pipeline.retry = _NoRetries()
    strategy = getattr(pipeline, "_execution_strategy", None)
    queue = pipeline.command_stack if strategy is None else strategy._command_queue
    replies: list[Any] = pipeline.send_cluster_commands(queue, raise_on_error=False, allow_redirections=False)
    return replies


async def replies_once_awaited(client: Any, commands: Sequence[tuple[bytes | str, ...]]) -> list[Any]:
    """Send commands to the nodes of an asyncio cluster, each once and all at once. Return replies and errors."""
    await client.initialize()
    queued = [_Queued(position, words) for position, words in enumerate(commands)]
    groups: dict[str, tuple[Any, list[_Queued]]] = {}
    for one in queued:
        node = client.get_node_from_key(key_of(one.args))
        groups.setdefault(node.name, (node, []))[1].append(one)

    async def send(node: Any, group: list[_Queued]) -> None:
        try:
            await node.execute_pipeline(group)
        except Exception as error:
            for one in group:
                one.result = error if one.result is None else one.result

    await asyncio.gather(*(send(*group) for group in groups.values()))
    return [one.result for one in queued]


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
        pool: Any = getattr(getattr(node, "redis_connection", node), "connection_pool", None)
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
    limit = (_settings(client) or {}).get("socket_timeout")
    return float("inf") if limit is None else limit / 2


def user_of(client: Any) -> str | None:
    """Return the name of the user that the client logs in as, or None if it is not known."""
    settings = _settings(client)
    return None if settings is None else settings.get("username") or "default"


def _settings(client: Any) -> dict[str, Any] | None:
    """Return the arguments of the client's connections: those of a pool, of a cluster, or of an asyncio cluster."""
    for holder in (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None), client):
        settings: dict[str, Any] | None = getattr(holder, "connection_kwargs", None)
        if settings is not None:
            return settings
    return None
