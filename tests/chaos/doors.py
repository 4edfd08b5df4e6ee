"""How workers reach the servers. Doors are handed to other processes, and load nothing of redset."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from chaos import repeats
from clients import AsyncWitness, Witness, client_of_cluster, client_of_master, client_of_nodes

__all__ = ("Address", "ClusterNode", "ClusterNodes", "Door", "Sentinels")


class Door(Protocol):
    """How a worker reaches a place."""

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        """A new client of redis-py or valkey-py."""

    def witness(self, client: Any, *, awaited: bool) -> Witness | None:
        """Who knows what a replica has, where there is one."""


@dataclass(frozen=True)
class Address:
    """The door to what is reached by a url."""

    url: str

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        module = import_module(f"{library}.asyncio" if awaited else library)
        return module.from_url(self.url, **options)

    def witness(self, client: Any, *, awaited: bool) -> None:
        return None


@dataclass(frozen=True)
class Sentinels:
    """The door to whoever is the master."""

    addresses: tuple[tuple[str, int], ...]
    name: str

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        return client_of_master([*self.addresses], self.name, library, awaited=awaited, **options)

    def witness(self, client: Any, *, awaited: bool) -> Witness:
        return (AsyncWitness if awaited else Witness)(client)


@dataclass(frozen=True)
class ClusterNode:
    """The door to a cluster, which one of its nodes tells of."""

    port: int

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        # In asyncio it closes all its connections with every fifth MOVED, those that other tasks use as well.
        steps = {"reinitialize_steps": 0} if awaited else {}
        return client_of_cluster(self.port, library, awaited=awaited, **steps, **options)

    def witness(self, client: Any, *, awaited: bool) -> None:
        return None


@dataclass(frozen=True)
class ClusterNodes:
    """The door to a cluster of which any node may be away."""

    ports: tuple[int, ...]

    def client(self, library: str, *, awaited: bool, **options: Any) -> Any:
        own: dict[str, Any] = {"reinitialize_steps": 0} if awaited else {}
        # Less than a node is stopped for at times: what it was asked is then given up, and executed.
        own["socket_timeout"] = 0.2
        if library == "valkey":
            # How often a cluster client repeats a command is no matter of its ``retry`` there.
            own["cluster_error_retry_attempts"] = repeats.TIMES[library]
        return client_of_nodes(self.ports, library, awaited=awaited, **options | own)

    def witness(self, client: Any, *, awaited: bool) -> None:
        return None
