"""Where a run happens: servers that are started for it, how workers reach them, and what can go wrong there."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from chaos import faults
from chaos.doors import Address, ClusterNode, ClusterNodes, Door, Sentinels
from chaos.faults import Hazard
from chaos.workloads import ALL_PROMISES, PROMISES
from proxy import Proxy
from redset.core.shards import layout as layouts
from servers import Cluster, FakeClock, ReplicatedCluster, Sentinel, Server

__all__ = ("PLACES", "Clustered", "Place", "Sharded", "Single", "Watched")


class Place(Protocol):
    """Servers of one's own, with clients beyond something that disturbs them."""

    #: As it is chosen by ``--place``.
    name: str
    door: Door
    #: What is done there, by its name in :data:`chaos.workloads.ALL_WORKLOADS`.
    workloads: str

    @property
    def hazards(self) -> Mapping[str, Hazard]:
        """What can go wrong here beside workers, by the name of the fault."""

    def raw(self) -> Any:
        """A client that nothing disturbs: synchronous, in bytes."""

    def now(self) -> float:
        """The servers' time, in seconds since the epoch."""

    def heal(self) -> None:
        """Puts all right again, once nothing goes wrong any more."""

    def stop(self) -> None: ...


class Single:
    """One server that stores all it is told before it answers, on a clock of its own, behind a proxy."""

    name = "single"
    workloads = "plain"

    def __init__(self) -> None:
        self._clock = FakeClock()
        self._server = Server("valkey-9.1", clock=self._clock, appendonly="yes", appendfsync="always")
        self._proxy = Proxy(self._server, repeats=0)
        self.door: Door = Address(self._proxy.url)

    @property
    def hazards(self) -> Mapping[str, Hazard]:
        server, proxy = self._server, self._proxy
        return {
            "cut": Hazard(3, lambda chance: faults.cut(proxy)),
            "lose": Hazard(4, lambda chance: faults.lose(proxy, chance)),
            "delay": Hazard(2, lambda chance: faults.delay(proxy, chance)),
            "flush": Hazard(2, lambda chance: faults.flush_scripts(server)),
            "restart": Hazard(3, lambda chance: faults.restart(server, chance)),
            "full": Hazard(2, lambda chance: faults.fill(server, chance)),
            "clock": Hazard(2, lambda chance: faults.set_forward(self._clock, chance)),
        }

    def raw(self) -> Any:
        return self._server.client()

    def now(self) -> float:
        return self._clock.now()

    def heal(self) -> None:
        self._proxy.deliver()

    def stop(self) -> None:
        self._proxy.stop()
        self._server.stop()


class Watched:
    """A server with a replica, and a sentinel that makes the one the master when the other fails."""

    name = "sentinel"
    workloads = "plain"

    def __init__(self) -> None:
        self._servers = Sentinel(down_after=0.5)
        self.door: Door = Sentinels(tuple(self._servers.addresses), Sentinel.NAME)

    @property
    def hazards(self) -> Mapping[str, Hazard]:
        servers = self._servers
        return {
            "failover": Hazard(5, lambda chance: faults.fail_over(servers, chance)),
            "flush": Hazard(1, lambda chance: faults.flush_scripts(servers.master)),
        }

    def raw(self) -> Any:
        return self._servers.client()

    def now(self) -> float:
        return time.time()

    def heal(self) -> None:
        self._servers.settle()

    def stop(self) -> None:
        self._servers.stop()


class Clustered:
    """Three nodes that share the sets among them, and hand them to each other."""

    name = "cluster"
    workloads = "plain"

    def __init__(self) -> None:
        self._cluster = Cluster()
        self.door: Door = ClusterNode(self._cluster.nodes[0].port)

    @property
    def hazards(self) -> Mapping[str, Hazard]:
        cluster, sets = self._cluster, sorted(PROMISES)
        return {
            "slot": Hazard(5, lambda chance: faults.move_slot(cluster, sets, chance)),
            "flush": Hazard(1, lambda chance: faults.flush_scripts(chance.choice(cluster.nodes))),
        }

    def raw(self) -> Any:
        return self._cluster.client()

    def now(self) -> float:
        return time.time()

    def heal(self) -> None:
        pass

    def stop(self) -> None:
        self._cluster.stop()


class Sharded:
    """Three masters with a replica each, which share the shards of all sets and hand them to each other."""

    name = "shards"
    workloads = "sharded"

    def __init__(self) -> None:
        self._cluster = ReplicatedCluster(node_timeout=1.5)
        self.door: Door = ClusterNodes(self._cluster.ports)
        #: The names of the shards of each set that keeps them. The checkers divide the items by their own rule.
        self.shards = {
            set: layouts.first(set, promises.shards or 1, "", digest=False).names
            for set, promises in ALL_PROMISES[self.workloads].items()
            if not promises.is_resharded
        }

    @property
    def hazards(self) -> Mapping[str, Hazard]:
        cluster, names = self._cluster, [name for names in self.shards.values() for name in names]
        return {
            "failover": Hazard(3, lambda chance: faults.change_roles(cluster, self.shards, chance)),
            "handover": Hazard(2, lambda chance: faults.hand_over(cluster, chance)),
            "freeze": Hazard(3, lambda chance: faults.freeze(cluster, chance)),
            "slot": Hazard(4, lambda chance: faults.move_slot(cluster, names, chance)),
            "cut": Hazard(2, lambda chance: faults.hang_up(cluster, chance)),
            "flush": Hazard(1, lambda chance: faults.flush_scripts(chance.choice(cluster.nodes))),
        }

    def raw(self) -> Any:
        return self._cluster.client()

    def now(self) -> float:
        return time.time()

    def heal(self) -> None:
        for pair in range(3):
            self._cluster.settle(pair)

    def stop(self) -> None:
        self._cluster.stop()


#: By name, in the order in which a run goes through them.
PLACES: dict[str, Callable[[], Place]] = {
    "single": Single,
    "sentinel": Watched,
    "cluster": Clustered,
    "shards": Sharded,
}
