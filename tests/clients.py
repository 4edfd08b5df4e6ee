"""Clients where sets go from one server to another, as docs/howto/cluster-and-sentinel.md makes them.

Loads nothing of redset: a chaos run plants bugs before that is loaded.
"""

import functools
from collections.abc import Sequence
from importlib import import_module
from typing import Any

__all__ = ("AsyncWitness", "Witness", "client_of_cluster", "client_of_master", "client_of_nodes", "close_awaited")


def client_of_cluster(port: int, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
    """A client of the cluster that the node on this port belongs to."""
    return _cluster_type(library, awaited=awaited)(host="127.0.0.1", port=port, **options)


def client_of_nodes(ports: Sequence[int], library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
    """A client of the cluster that the nodes on these ports belong to, of which some may be away."""
    node = import_module(f"{library}.asyncio.cluster" if awaited else f"{library}.cluster").ClusterNode
    nodes = [node("127.0.0.1", port) for port in ports]
    return _cluster_type(library, awaited=awaited)(startup_nodes=nodes, **options)


def _cluster_type(library: str, *, awaited: bool) -> Any:
    module = import_module(f"{library}.asyncio" if awaited else library)
    return getattr(module, "ValkeyCluster", None) or module.RedisCluster


def client_of_master(
    sentinels: list[tuple[str, int]], name: str, library: str = "redis", *, awaited: bool = False, **options: Any
) -> Any:
    """A client of whoever is the master, that repeats what fails for as long as a failover takes."""
    inside = ".asyncio" if awaited else ""
    parts = (f"{inside}.retry", ".backoff", ".exceptions")
    retry, backoff, exceptions = (import_module(f"{library}{part}") for part in parts)
    options = {
        "retry": retry.Retry(backoff.ExponentialBackoff(cap=0.5, base=0.05), 20),
        # Without it valkey-py repeats nothing, whatever it is given.
        "retry_on_error": [exceptions.ConnectionError, exceptions.TimeoutError],
        "socket_timeout": 1,
        "connection_class": _following(library, awaited=awaited),
        **options,
    }
    found = import_module(f"{library}{inside}.sentinel").Sentinel(sentinels, socket_timeout=1)
    return found.master_for(name, **options)


@functools.cache
def _following(library: str, *, awaited: bool) -> Any:
    """The library's connection to a master, which asks the sentinels also when it connects once more."""
    base: Any = import_module(f"{library}{'.asyncio' if awaited else ''}.sentinel").SentinelManagedConnection

    class Following(base):  # type: ignore[misc] # of either library
        def connect_check_health(self, **options: Any) -> None:
            self.host, self.port = self.connection_pool.get_master_address()
            super().connect_check_health(**options)

        def send_packed_command(self, *args: Any, **options: Any) -> None:
            # One that was in use while others heard of a new master.
            if (self.host, self.port) != self.connection_pool.master_address:
                self.disconnect()
            super().send_packed_command(*args, **options)

    class AsyncFollowing(base):  # type: ignore[misc]
        async def connect_check_health(self, **options: Any) -> None:
            self.host, self.port = await self.connection_pool.get_master_address()
            await super().connect_check_health(**options)

        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            if (self.host, self.port) != self.connection_pool.master_address:
                await self.disconnect()
            await super().send_packed_command(*args, **options)

    return AsyncFollowing if awaited else Following


async def close_awaited(client: Any) -> None:
    """End an asyncio client: old ones have no ``aclose``, new ones warn about ``close``."""
    await (getattr(client, "aclose", None) or client.close)()


class Witness:
    """Says whether a replica has what was written.

    A master writes a history, and one that takes over writes another. So what was written to the history that was the
    last when a call began is on a replica, if that has all and the history is still the same when the call is over.

    :param patience: how many milliseconds it waits for the replica.
    """

    def __init__(self, client: Any, patience: int = 200) -> None:
        self._client = client
        self._patience = patience
        #: The last one that was seen; unknown at first.
        self.history = ""

    def holds(self, history: str) -> bool:
        """Whether a replica has all that was written to this history so far."""
        with self._client.pipeline(transaction=False) as pipeline:
            return self._is_held(self._asked(pipeline).execute(), history)

    def _asked(self, pipeline: Any) -> Any:
        # WAIT is about what its own connection wrote, so that has to write.
        return pipeline.set("witness", 1).wait(1, self._patience).info("replication")

    def _is_held(self, replies: Any, history: str) -> bool:
        _, replicas, now = replies
        self.history = str(now["master_replid"])
        return bool(replicas > 0 and self.history == history)


class AsyncWitness(Witness):
    """The same, awaited."""

    async def holds(self, history: str) -> bool:  # type: ignore[override]
        async with self._client.pipeline(transaction=False) as pipeline:
            return self._is_held(await self._asked(pipeline).execute(), history)
