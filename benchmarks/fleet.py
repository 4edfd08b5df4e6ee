"""A simulation of one set over the shards of a large cluster: 64 nodes and 10,000 consumers.

Usage: python benchmarks/fleet.py [--nodes N] [--consumers N] [--busy PART]

No server runs. Each node is a queue that handles one request at a time; each consumer claims with the rule of redset
(the lower of two random shards, as far as it knows, and one claim in 16 from a random one), works for a random time,
and acks with a request to the shard. A producer adds an item for each that is claimed, with a score higher than all
before, to a random shard, so the same number always waits. Consumers work for as long as makes the nodes ``--busy`` on
average. A request, which is a claim or an ack, takes half of what `reserve, ack` costs a server for which requests come
one at a time (docs/benchmarks, "Server cost per item"). A busy server takes less.

Said are the busiest node and the mean, how long a claim takes, and how many lower items it passes over: with the two
choices, and for comparison with one random shard for each claim, and with a home shard for each consumer.
"""

import argparse
import heapq
import random
import statistics
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from conditions import Table, arguments, report

COLUMNS = {"": "<22", "claims/s": ">10", "busiest": ">8", "mean": ">6", "p50_ms": ">7", "p99_ms": ">7", "max_ms": ">7"}
#: One claim in so many goes to a random shard.
STRAY = 16
#: Seconds of a round trip in the network.
ROUND_TRIP = 500e-6


@dataclass
class Fleet:
    """The nodes, their shards and what waits there: items by number, the lowest first."""

    nodes: int
    shards: int
    waiting: list[deque[int]] = field(default_factory=list)
    free_at: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    added: int = 0

    def __post_init__(self) -> None:
        self.waiting = [deque() for _ in range(self.shards)]
        self.free_at, self.busy = [0.0] * self.nodes, [0.0] * self.nodes

    def add(self) -> None:
        self.waiting[random.randrange(self.shards)].append(self.added)
        self.added += 1

    def serve(self, shard: int, at: float, seconds: float) -> float:
        """When a request that arrives then is done."""
        node = shard * self.nodes // self.shards
        begin = max(at, self.free_at[node])
        self.free_at[node] = begin + seconds
        self.busy[node] += seconds
        return self.free_at[node]

    def add_load(self, shard: int, seconds: float) -> None:
        """Keep a node busy for so long, at some time or other."""
        node = shard * self.nodes // self.shards
        self.busy[node] += seconds
        self.free_at[node] += seconds


class Passed:
    """Counts the items before one that are still there, in a Fenwick tree of those that are gone."""

    def __init__(self, size: int) -> None:
        self._gone = array("l", bytes(array("l").itemsize * (size + 1)))

    def by(self, item: int) -> int:
        """The number of lower items that wait; the item is gone from then on."""
        gone, lower, at = self._gone, item, item
        while at > 0:
            lower -= gone[at]
            at -= at & -at
        at = item + 1
        while at < len(gone):
            gone[at] += 1
            at += at & -at
        return lower


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--nodes", type=int, default=64, help="masters (%(default)s)")
    parser.add_argument("--shards", type=int, default=256, help="of the set (%(default)s)")
    parser.add_argument("--consumers", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--waiting", type=int, default=200_000, help="items that wait at all times (%(default)s)")
    parser.add_argument("--claims", type=int, default=600_000, help="in all (%(default)s)")
    parser.add_argument("--busy", type=float, default=0.7, help="part of the time of a node (%(default)s)")
    parser.add_argument("--request", type=float, default=53, metavar="US", help="microseconds (%(default)s)")
    options = parser.parse_args()
    told = {
        "command": f"python benchmarks/fleet.py --nodes {options.nodes} --shards {options.shards} --consumers "
        f"{options.consumers} --waiting {options.waiting} --claims {options.claims} --busy {options.busy:g} "
        f"--request {options.request:g}",
        "simulated": f"a round trip takes {1e3 * ROUND_TRIP:g} ms",
    }
    table = Table(told, **COLUMNS, passed_mean=">12", passed_p50=">11", passed_p99=">11")
    lines = []
    for rule in "two choices", "one random shard", "a home shard":
        lines.append(_simulate(rule, options))
        cells = list(lines[-1].values())[1:]
        shown = (
            f"{cell:,.0f}" if cell >= 1000 or at in {0, 6, 7, 8} else f"{cell:.2f}" for at, cell in enumerate(cells)
        )
        table.line(rule, *shown)
    report(options, told, lines)


def _simulate(rule: str, options: argparse.Namespace) -> dict[str, Any]:
    random.seed(1)
    request = options.request / 1e6
    fleet, passed = Fleet(options.nodes, options.shards), Passed(options.waiting + options.claims + options.consumers)
    for _ in range(options.waiting):
        fleet.add()
    # By consumer and shard: the number of the shard's first item, as the consumer knows it.
    heads = [array("l", bytes(array("l").itemsize * options.shards)) for _ in range(options.consumers)]
    cycle = options.consumers * 2 * request / (options.nodes * options.busy)
    work = max(0.0, cycle - 2 * ROUND_TRIP)
    events = [(random.uniform(0, cycle), consumer) for consumer in range(options.consumers)]
    heapq.heapify(events)
    times, over, began, now = list[float](), list[int](), 0.0, 0.0
    warm = options.claims // 3
    for number in range(options.claims):
        if number == warm:
            fleet.busy, began = [0.0] * fleet.nodes, now
        now, consumer = heapq.heappop(events)
        known = heads[consumer]
        shard = _chosen(rule, consumer, known, options.shards)
        done = fleet.serve(shard, now + ROUND_TRIP / 2, request) + ROUND_TRIP / 2
        queue = fleet.waiting[shard]
        if queue:
            lower = passed.by(queue.popleft())
            fleet.add()
            if number >= warm:
                over.append(lower)
        known[shard] = queue[0] if queue else fleet.added
        if number >= warm:
            times.append(1e3 * (done - now))
        # The ack is a request of its own, and the consumer goes on when it is answered.
        ends = done + random.expovariate(1 / work) if work else done
        acked = ends + ROUND_TRIP + request
        fleet.add_load(shard, request)
        heapq.heappush(events, (acked, consumer))
    seconds = now - began
    shares = [busy / seconds for busy in fleet.busy]
    times_at, over_at = statistics.quantiles(times, n=100), statistics.quantiles(over, n=100)
    return {
        "name": rule,
        "claims_per_second": len(times) / seconds,
        "busiest": max(shares),
        "mean": statistics.fmean(shares),
        "p50_ms": times_at[49],
        "p99_ms": times_at[98],
        "max_ms": max(times),
        "passed_mean": statistics.fmean(over),
        "passed_p50": over_at[49],
        "passed_p99": over_at[98],
    }


def _chosen(rule: str, consumer: int, known: Any, shards: int) -> int:
    if rule == "a home shard":
        return consumer % shards
    shard, other = random.randrange(shards), random.randrange(shards)
    if rule == "two choices" and random.randrange(STRAY) and known[other] < known[shard]:
        return other
    return shard


if __name__ == "__main__":
    main()
