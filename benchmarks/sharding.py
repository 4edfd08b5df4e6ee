"""One set over the nodes of a cluster: what an item costs the busiest node, and what a stopped node costs the others.

Usage: python benchmarks/sharding.py [options]

The cluster has three masters on TCP loopback. First the same calls are made on one set and on a set over shards, in
turns, by one client. Processor time is that of each whole node (INFO cpu), less what it uses in the same time when
nobody calls it; that of the busiest node counts. With one set that is the node that has it. A node that is not busy
sleeps between two requests, which costs more than many a script; so the time that scripts run (INFO commandstats) is
said too. That of reads without a script, which `take` needs over shards, is not in it.

Then processes pop from a set over shards, and a node is killed, or stopped (SIGSTOP). Counted are the items of the
shards of the other nodes, in the seconds before and after. Their rate may grow, since claims that would have gone to
the third node go to them.
"""

import multiprocessing
import signal
import statistics
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import redis
from conditions import Table, arguments, conditions, report
from measure import spread
from redis.backoff import NoBackoff
from redis.retry import Retry
from server import Node, running_cluster

import redset

COLUMNS = {"": "<24", "one_set": ">10", "shards": ">10", "ratio": ">8", "half_lie_between": ">18", "requests": ">13"}
COLUMNS |= {"scripts_us": ">12", "scripts_ratio": ">14"}
STOPPED = {"": "<40", "before": ">10", "after": ">10", "ratio": ">8", "errors": ">8"}
#: The goal for the ratio: a third, and 15 % more.
GOAL = 1.15 / 3

#: Seconds for which nobody calls.
IDLE = 1.0
#: Of the clients that pop while a node stops: they send a command once more.
RETRIES = 1
#: How a node goes away, and after how many seconds a client gives it up.
OUTAGES = (("killed", 0.5), ("stopped", 0.1), ("stopped", 0.5))


@dataclass(frozen=True)
class Way:
    work: Callable[[Any, list[str]], Any]
    #: Whether the items are there before.
    takes: bool = True
    #: How many times as many items as the others.
    times: int = 1


def main() -> None:
    parser = arguments(__doc__, rounds=5, cores="any")
    parser.add_argument("--items", type=int, default=6000, help="of each round (%(default)s)")
    parser.add_argument("--shards", type=int, default=12, help="how many (%(default)s)")
    parser.add_argument("--consumers", type=int, default=2, help="processes that pop while a node stops (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="before a node stops, and after (%(default)s)")
    options = parser.parse_args()
    lines = []
    with running_cluster(options.server) as nodes:
        told = conditions(options, nodes[0].url)
        told |= {"items": f"{options.items:,}", "shards": str(options.shards), "nodes": str(len(nodes))}
        table = Table(told, **COLUMNS)
        lines += _costs(nodes, options, table)
    print()
    table = Table({}, **STOPPED)
    for how, timeout in OUTAGES:
        with running_cluster(options.server) as nodes:
            lines.append(_without_a_node(nodes, how, timeout, options, table))
    report(options, told, lines)


# The costs


def _costs(nodes: list[Node], options: Any, table: Table) -> Iterator[dict[str, Any]]:
    watches = [redis.Redis.from_url(node.url) for node in nodes]
    client = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port)
    idle = _idle(watches)
    for name, way in WAYS.items():
        items = [f"https://example.org/products/{number * 7919 % 1_000_003:07}" for number in range(options.items)]
        items = [f"{item}/{time}" for item in items for time in range(way.times)]
        found: dict[int | None, list[float]] = {None: [], options.shards: []}
        requests: dict[int | None, list[float]] = {None: [], options.shards: []}
        scripts: dict[int | None, list[float]] = {None: [], options.shards: []}
        for shards in found:
            _measure(client, watches, way, items[:200], shards, idle)
        for _ in range(options.rounds):
            for shards, costs in found.items():
                each, running, asked = _measure(client, watches, way, items, shards, idle)
                costs.append(max(each))
                requests[shards].append(asked)
                scripts[shards].append(max(running))
        one, over = found.values()
        ratios = [mine / ones for ones, mine in zip(one, over, strict=True)]
        low, high = spread(ratios)
        ratio = statistics.median(ratios)
        figures = {"one_us": statistics.median(one), "shards_us": statistics.median(over)}
        one_asked, shards_asked = map(statistics.median, requests.values())
        one_runs, shards_run = map(statistics.median, scripts.values())
        table.line(
            name,
            *(f"{us:.2f}" for us in figures.values()),
            f"{ratio:.3f}",
            f"{low:.3f} .. {high:.3f}",
            f"{one_asked:.3f} {shards_asked:.3f}",
            f"{one_runs:.2f} {shards_run:.2f}",
            f"{shards_run / one_runs:.3f}",
        )
        line = {"name": name, "what": "cost", "ratio": ratio, "low": low, "high": high, "goal": GOAL, **figures}
        yield (
            line
            | {"one_requests": one_asked, "shards_requests": shards_asked, "shards": options.shards}
            | {
                "one_scripts_us": one_runs,
                "shards_scripts_us": shards_run,
                "scripts_ratio": shards_run / one_runs,
            }
        )
    for each in (client, *watches):
        each.close()


def _measure(
    client: Any, watches: list[Any], way: Way, items: list[str], shards: int | None, idle: list[float]
) -> tuple[list[float], list[float], float]:
    """The microseconds of each node for each item, those in which scripts ran there, and the requests to all nodes."""
    for watch in watches:
        watch.flushall()
    jobs: Any = redset.SortedSet(client, "jobs", shards=shards)
    if way.takes:
        jobs.update(items, score=_score)
    else:
        len(jobs)  # It knows its layout.
    for watch in watches:
        watch.config_resetstat()
    requests = sum(map(_requests, watches))
    before, began = [_cpu(watch) for watch in watches], time.perf_counter()
    way.work(jobs, items)
    after, seconds = [_cpu(watch) for watch in watches], time.perf_counter() - began
    spent = [late - early - rate * seconds for early, late, rate in zip(before, after, idle, strict=True)]
    # Each node was asked for its processor time twice, and is asked for this.
    requests = sum(map(_requests, watches)) - requests - 3 * len(watches)
    running = [_in_scripts(watch) / len(items) for watch in watches]
    return [1e6 * each / len(items) for each in spent], running, requests / len(items)


def _score(item: str) -> float:
    return zlib.crc32(item.encode()[::-1])


def _in_scripts(watch: Any) -> float:
    """The microseconds in which scripts ran, with the commands that they call."""
    stats = watch.info("commandstats")
    return float(sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats))


def _requests(watch: Any) -> int:
    """How often the node has read from a connection: once for each request of a client that waits for its reply."""
    return int(watch.info("stats")["total_reads_processed"])


def _idle(watches: list[Any]) -> list[float]:
    """The seconds of each node's processor time in a second in which nobody calls."""
    before, began = [_cpu(watch) for watch in watches], time.perf_counter()
    time.sleep(IDLE)
    after, seconds = [_cpu(watch) for watch in watches], time.perf_counter() - began
    return [(late - early) / seconds for early, late in zip(before, after, strict=True)]


def _cpu(watch: Any) -> float:
    used = watch.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _for_each(call: Callable[[Any, str], Any]) -> Callable[[Any, list[str]], Any]:
    def work(jobs: Any, items: list[str]) -> None:
        for item in items:
            call(jobs, item)

    return work


def _in_bulk(number: int, call: Callable[[Any], Any]) -> Callable[[Any, list[str]], Any]:
    def work(jobs: Any, items: list[str]) -> None:
        for _ in range(0, len(items), number):
            call(jobs)

    return work


def _consume(jobs: Any, _: list[str]) -> None:
    for _reservation in jobs.consume(batch=100, wait=0):
        pass


WAYS = {
    "add": Way(_for_each(lambda jobs, item: jobs.add(item, score=_score(item))), takes=False),
    "pop": Way(_for_each(lambda jobs, _: jobs.pop())),
    "reserve, ack": Way(_for_each(lambda jobs, _: jobs.reserve().ack())),
    "consume(batch=100)": Way(_consume, times=5),
    "take(100)": Way(_in_bulk(100, lambda jobs: jobs.take(100)), times=5),
    "take(1000)": Way(_in_bulk(1000, lambda jobs: jobs.take(1000)), times=5),
}


# Without a node


def _without_a_node(nodes: list[Node], how: str, timeout: float, options: Any, table: Table) -> dict[str, Any]:
    """The items of the other nodes' shards in a second, before a node is away and after."""
    client = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port)
    jobs: Any = redset.SortedSet(client, "jobs", shards=options.shards)
    # More than can be popped.
    for start in range(0, int(50_000 * options.seconds), 10_000):
        jobs.update([f"{number:06}" for number in range(start, start + 10_000)], score=_score)
    client.close()
    # Shards are in equal ranges of the slots, and so are the nodes: the last third is that of the last node.
    first_away = options.shards * (len(nodes) - 1) // len(nodes)
    ends = [multiprocessing.Pipe() for _ in range(options.consumers)]
    processes = [
        multiprocessing.Process(
            target=_pop, args=(nodes[0].port, options.shards, first_away, timeout, there), daemon=True
        )
        for _, there in ends
    ]
    for process in processes:
        process.start()
    for here, _ in ends:
        here.recv()
    time.sleep(1)
    began = time.monotonic()
    time.sleep(options.seconds)
    moment = time.monotonic()
    nodes[-1].process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    time.sleep(options.seconds)
    ended = time.monotonic()
    counts, errors = Counter[int](), 0
    for here, _ in ends:
        here.send("end")
        popped, failed = here.recv()
        counts.update(popped)
        errors += failed
    for process in processes:
        process.join()
    before = _rate(counts, began, moment)
    after = _rate(counts, moment, ended)
    seconds = {str(second): _rate(counts, moment + second, moment + second + 1) for second in range(-5, 15)}
    name = f"one of three {how}, timeout {timeout:g} s"
    table.line(name, f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.2f}", errors)
    line = {"name": name, "what": "outage", "before": before, "after": after, "ratio": after / before}
    return line | {"errors": errors, "seconds": seconds, "consumers": options.consumers}


def _rate(counts: Counter[int], start: float, end: float) -> float:
    """In a second, of counts by tenths of a second."""
    return sum(number for tenth, number in counts.items() if start <= tenth / 10 < end) / (end - start)


def _pop(port: int, shards: int, first_away: int, timeout: float, orders: Connection) -> None:
    """Count the items of the shards that stay, by tenths of a second."""
    once_more = Retry(NoBackoff(), RETRIES)
    client = redis.RedisCluster(host="127.0.0.1", port=port, socket_timeout=timeout, retry=once_more)
    jobs: Any = redset.SortedSet(client, "jobs", shards=shards)
    counts, errors = Counter[int](), 0
    orders.send("ready")
    while not orders.poll():
        try:
            item = jobs.pop()
        except redis.RedisError:
            errors += 1
            continue
        if zlib.crc32(item.encode()) % shards < first_away:
            counts[int(10 * time.monotonic())] += 1
    orders.recv()
    orders.send((counts, errors))


if __name__ == "__main__":
    main()
