"""What goes wrong in a run, at random from a seed. Each function here lasts as long as the fault does."""

import contextlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from chaos.history import Fault, Recorder
from proxy import Chance, Proxy
from servers import Cluster, FakeClock, ReplicatedCluster, Sentinel, Server, has_everything, wait_until

__all__ = (
    "Done",
    "Hazard",
    "Nemesis",
    "change_roles",
    "cut",
    "delay",
    "fail_over",
    "fill",
    "flush_scripts",
    "freeze",
    "hand_over",
    "hang_up",
    "lose",
    "move_slot",
    "restart",
    "set_forward",
)


class Done(NamedTuple):
    """What went wrong."""

    on: str
    details: dict[str, Any]


class Hazard(NamedTuple):
    """What may go wrong, and how often in proportion to others."""

    weight: int
    happen: Callable[[random.Random], Done]


def cut(proxy: Proxy) -> Done:
    return Done("proxy", {"connections": proxy.cut()})


def lose(proxy: Proxy, chance: random.Random) -> Done:
    """Calls and replies are lost, cut, and arrive late."""
    before, faults = proxy.met.copy(), proxy.faults
    proxy.leave_to(Chance(chance.randrange(1 << 32), one_in=chance.choice((5, 10, 20))))
    time.sleep(chance.uniform(1, 2))
    # On a machine that is slow there may not have been many calls.
    wait_until(lambda: proxy.faults > faults)
    proxy.leave_to(None)
    met = proxy.met - before
    return Done("proxy", {fault.name.lower(): number for fault, number in met.items()})


def delay(proxy: Proxy, chance: random.Random) -> Done:
    proxy.delay = chance.uniform(0.1, 0.6)
    time.sleep(chance.uniform(0.5, 1.5))
    seconds, proxy.delay = proxy.delay, 0.0
    return Done("proxy", {"up to": seconds})


def flush_scripts(server: Server) -> Done:
    return Done("server", {"said": server.asked("SCRIPT FLUSH")})


def restart(server: Server, chance: random.Random) -> Done:
    """The server is killed, and is back after a while with what it has stored."""
    server.kill()
    time.sleep(chance.choice((0.0, chance.uniform(0.1, 0.5), chance.uniform(1, 2))))
    server.start()
    return Done("server", {"signal": 9})


def fill(server: Server, chance: random.Random) -> Done:
    """The server has no memory to give, and has told somebody so."""
    with contextlib.closing(server.client()) as client:

        def refused() -> int:
            return int(client.info("errorstats").get("errorstat_OOM", {}).get("count", 0))

        before = refused()
        client.config_set("maxmemory", "1")
        time.sleep(chance.uniform(0.5, 1.5))
        wait_until(lambda: refused() > before)
        client.config_set("maxmemory", "0")
        return Done("server", {"refused": refused() - before})


def fail_over(servers: Sentinel, chance: random.Random) -> Done:
    """The replica becomes the master, as the other is killed, or stopped for longer than that takes, or told to."""
    way = chance.choice(("killed", "stopped", "told to"))
    old = servers.master.port
    if way == "told to":
        servers.command_failover()
    else:
        with servers.failover(signal.SIGKILL if way == "killed" else signal.SIGSTOP):
            time.sleep(chance.uniform(0, 1))
    return Done(f"server {old}", {"way": way})


def move_slot(cluster: Cluster, sets: Sequence[str], chance: random.Random) -> Done:
    """A set moves to another node: all at once, or key by key, and then with rests in which no node has all keys."""
    name = chance.choice(sets)
    slot = cluster.slot_of(name)
    source = cluster.owner(slot)
    target = chance.choice([node for node in range(len(cluster.nodes)) if node != source])
    way = chance.choice(("at once", "key by key"))
    if way == "at once":
        cluster.move_slot(slot, target, at_once=True)
    else:
        with cluster.moving(slot, target):
            for _ in range(2):
                time.sleep(chance.choice((0.0, chance.uniform(0, 0.2), chance.uniform(0, 1))))
                cluster.move_keys(slot, source, target, at_most=3)
    return Done(f"node {source + 1}", {"set": name, "to": target + 1, "way": way})


def change_roles(cluster: ReplicatedCluster, shards: Mapping[str, Sequence[str]], chance: random.Random) -> Done:
    """The replica of a master takes over, as that is killed, or stopped for longer than that takes.

    All that the master had written when this began is on the replica before anything goes wrong. So a failover forgets
    what was written since then at most.

    :param shards: the names of the shards of each set.
    """
    pair, way = chance.randrange(3), chance.choice(("killed", "stopped"))
    owned = shards_of(cluster, shards, pair)
    old, began = cluster.nodes[pair], time.monotonic()
    wait_until(lambda: has_everything(cluster.replicas[pair], cluster.nodes[pair]))
    with cluster.failover(pair, signal.SIGKILL if way == "killed" else signal.SIGSTOP):
        time.sleep(chance.uniform(0, 1))
    return Done(f"server {old.port}", {"way": way, "kept until": began, "shards": owned})


def hand_over(cluster: ReplicatedCluster, chance: random.Random) -> Done:
    """A master and its replica exchange their roles, and lose nothing by that."""
    pair = chance.randrange(3)
    old = cluster.nodes[pair]
    cluster.hand_over(pair)
    return Done(f"server {old.port}", {"to": cluster.nodes[pair].port})


def freeze(cluster: ReplicatedCluster, chance: random.Random) -> Done:
    """A master does not answer for longer than its clients wait, and not as long as would make it fail. It then
    executes what they sent, and they have hung up.
    """
    node = chance.choice(cluster.nodes)
    seconds = chance.uniform(0.5, 1.2)
    node.pause()
    time.sleep(seconds)
    node.resume()
    return Done(f"server {node.port}", {"seconds": seconds})


def hang_up(cluster: ReplicatedCluster, chance: random.Random) -> Done:
    """A master closes the connections of all clients."""
    node = chance.choice(cluster.nodes)
    return Done(f"server {node.port}", {"said": node.asked("CLIENT KILL TYPE normal SKIPME yes")})


def shards_of(cluster: ReplicatedCluster, shards: Mapping[str, Sequence[str]], pair: int) -> dict[str, list[int]]:
    """The numbers of the shards of each set that a pair has."""
    owners = {name: cluster.owner(cluster.slot_of(name)) for names in shards.values() for name in names}
    return {set: [at for at, name in enumerate(names) if owners[name] == pair] for set, names in shards.items()}


def set_forward(clock: FakeClock, chance: random.Random) -> Done:
    seconds = chance.uniform(0.5, 4)
    clock.advance(seconds)
    return Done("server", {"seconds": seconds})


class Nemesis:
    """Lets one thing after the other go wrong, until it is told to end: each once at first, then at random.

    What it chooses, and how, depends on its seed alone. What must not happen at the same time is one nemesis' business.
    """

    def __init__(
        self,
        seed: str,
        hazards: Mapping[str, Hazard],
        recorder: Recorder,
        pause: float,
        broken_off: threading.Event,
    ) -> None:
        """
        :param pause: how many seconds lie between two faults, on average.
        :param broken_off: whether the run is, which all that are at work in it share.
        """
        self._random = random.Random(seed)
        self._hazards = hazards
        self._recorder = recorder
        self._pause = pause
        self._over = threading.Event()
        self._broken_off = broken_off
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"nemesis {seed}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Returns when the last fault is over, and each has happened.

        While an error is on its way, as it breaks the run off, it returns when what goes wrong now is over.

        :raises Exception: what went wrong on the nemesis' own side.
        """
        if sys.exception() is not None:
            self._broken_off.set()
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._error is not None and not self._broken_off.is_set():
            raise self._error

    def _run(self) -> None:
        try:
            first = self._random.sample(sorted(self._hazards), len(self._hazards))
            while not self._over.wait(self._random.uniform(0.5, 1.5) * self._pause) or first:
                if self._broken_off.is_set():
                    break
                self._let_go_wrong(first.pop() if first else self._choose())
        except BaseException as error:
            self._error = error

    def _choose(self) -> str:
        names = sorted(self._hazards)
        return self._random.choices(names, [self._hazards[name].weight for name in names])[0]

    def _let_go_wrong(self, name: str) -> None:
        # Drawn here and not in the hazard, so that what comes next does not depend on how much chance that took.
        chance = random.Random(self._random.random())
        began = time.monotonic()
        done = self._hazards[name].happen(chance)
        self._recorder.fault(Fault(name, began, time.monotonic(), done.on, done.details))
