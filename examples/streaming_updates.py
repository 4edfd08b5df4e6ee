"""A queue of streaming updates: a symbol whose price changes ten times while it waits is processed once.

    python examples/streaming_updates.py [--producers 3] [--consumers 2] [--updates 2000]

Shows: several processes stream price updates, far more than the consumers could process one by one. The queue has one
entry for each symbol (`key=`), which carries its newest price. A symbol that is updated while it is leased is
processed once more afterwards, never at the same time.

Expect: a table of the busiest symbols with the number of updates that arrived and that were processed, which is far
smaller, and a check that the last update of every symbol was processed, and none after a newer one.

Why `duplicates="keep"`: a symbol keeps the place in the queue of its first unprocessed update, so the one that has
been stale for longest comes next. By default it would move to the back with every update, and the busiest symbols would
starve: that is a debounce. Use `"earliest"` if updates carry times of their own and arrive out of order. The
price that arrives last is the newest, so the updates of a symbol should come from one producer, as here.
"""

import argparse
import json
import multiprocessing
import random
import time
from collections import Counter
from multiprocessing import Process
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import TypedDict

import redset
from common import cleared, run, running

SYMBOLS = 20  # of each producer
WORK = 0.005  # seconds of work per update
SHOWN = 8


class Update(TypedDict):
    symbol: str
    version: int
    price: float


def queue_of_updates() -> redset.TimeSortedSet[Update]:
    return redset.TimeSortedSet(
        redset.connect(),
        "example-updates",
        serializer=json,
        key=lambda update: update["symbol"],
        duplicates="keep",
    )


def produce(producer: int, updates: int, arrived: SimpleQueue[Counter[str]]) -> None:
    """Stream updates, most of them of few symbols, and report the number for each."""
    queue, versions = queue_of_updates(), Counter[str]()
    for _ in range(updates):
        symbol = f"P{producer}-{min(int(random.paretovariate(0.6)), SYMBOLS):02}"
        versions[symbol] += 1
        queue.add({"symbol": symbol, "version": versions[symbol], "price": round(random.uniform(1, 100), 2)})
    arrived.put(versions)


def consume(done: Event, processed: SimpleQueue[list[tuple[int, str, int]]]) -> None:
    """Process updates until there will be no more, and report the token, symbol and version of each."""
    report = []
    for reservation in queue_of_updates().consume(lease=10, batch=5, stop=done):
        update = reservation.item
        time.sleep(WORK)
        report.append((reservation.token, update["symbol"], update["version"]))
    processed.put(report)


def main() -> bool:
    options = arguments()
    queue = queue_of_updates()
    done = multiprocessing.Event()
    arrived: SimpleQueue[Counter[str]] = multiprocessing.SimpleQueue()
    processed: SimpleQueue[list[tuple[int, str, int]]] = multiprocessing.SimpleQueue()
    producers = [Process(target=produce, args=(n, options.updates, arrived)) for n in range(options.producers)]
    consumers = [Process(target=consume, args=(done, processed)) for _ in range(options.consumers)]

    with cleared(queue), running(*producers, *consumers):
        last = sum((arrived.get() for _ in producers), Counter[str]())
        print(f"{last.total():,} updates of {len(last)} symbols have arrived; {len(queue)} symbols wait ...")
        while queue.stats().unfinished:
            time.sleep(0.05)
        done.set()
        reports = [row for _ in consumers for row in processed.get()]

    # Fencing tokens only grow: their order is the order of the claims.
    versions: dict[str, list[int]] = {symbol: [] for symbol in last}
    for _token, symbol, version in sorted(reports):
        versions[symbol].append(version)
    print(f"{'symbol':10}{'arrived':>10}{'processed':>12}")
    for symbol, count in last.most_common(SHOWN):
        print(f"{symbol:10}{count:10,}{len(versions[symbol]):12,}")
    print(f"{'all':10}{last.total():10,}{len(reports):12,}")
    return is_right(last, versions)


def is_right(last: Counter[str], versions: dict[str, list[int]]) -> bool:
    outdated = [symbol for symbol, count in last.items() if versions[symbol][-1:] != [count]]
    disordered = [symbol for symbol, seen in versions.items() if seen != sorted(set(seen))]
    print(f"symbols whose last update was not processed (must be none): {', '.join(outdated) or 'none'}")
    print(f"symbols of which an older update came after a newer (must be none): {', '.join(disordered) or 'none'}")
    return not (outdated or disordered)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--updates", type=int, default=2000, help="how many each producer streams")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
