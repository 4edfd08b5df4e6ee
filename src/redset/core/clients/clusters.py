"""Clients of a cluster: which node has a key, and commands that are tried once, at one node or at several."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any

from redset.core.clients.errors import is_failure, is_outage, is_redirection
from redset.core.clients.libraries import is_of_a_library
from redset.core.clients.settings import AS_STORED
from redset.core.retries import tries_once

__all__ = ("cluster_executor", "has_nodes", "key_of", "node_name", "replies_once", "replies_once_awaited")


def has_nodes(client: Any) -> bool:
    """Return whether it is the cluster client of a library, which sends each command to the node of its key."""
    return hasattr(client, "nodes_manager") and any(
        is_of_a_library(kind) and "get_node_from_key" in vars(kind) for kind in type(client).__mro__
    )


def cluster_executor(client: Any) -> Callable[..., Any]:
    """Return the ``execute_command`` of a cluster client, which tries once if :data:`tries_once` says so."""

    def execute(*words: Any, **options: Any) -> Any:
        if tries_once.get() and (node := _node_of(client, key_of(words))) is not None:
            options["target_nodes"] = node
        return client.execute_command(*words, **options)

    async def execute_awaited(*words: Any, **options: Any) -> Any:
        node = _node_of(client, key_of(words)) if tries_once.get() else None
        if node is None:
            return await client.execute_command(*words, **options)
        # Not by the client: after a failure its next command, for whichever node, first reads the slots and the list of
        # commands. Before redis-py 8 it asks the first node for that list, and fails as long as that is away.
        try:
            return await node.execute_command(*words, **options)
        except Exception as error:
            if is_redirection(error):
                return await client.execute_command(*words, **options, target_nodes=node)
            if is_outage(error):
                # A replica may have taken over.
                with suppress(Exception):
                    await client.nodes_manager.initialize()
            raise

    is_awaited = iscoroutinefunction(getattr(type(client), "initialize", None))
    return execute_awaited if is_awaited else execute


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
    except Exception as error:
        if not is_failure(error):
            raise
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


def replies_once(client: Any, pipeline: Any, commands: Sequence[tuple[bytes | str, ...]]) -> list[Any]:
    """Send commands to the nodes of a cluster by a pipeline, each once. Return replies, errors and redirections.

    ``execute`` would send the commands that failed again, one by one, each as often as the client tries. Without
    ``target_nodes`` redis-py asks its default node for the keys of some commands.
    """
    for words in commands:
        node = _node_of(client, key_of(words))
        pipeline.execute_command(*words, **AS_STORED, **({} if node is None else {"target_nodes": node}))
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
