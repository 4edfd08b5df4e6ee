"""Seen items: a set that all processes share, in which each item expires after a time of its own.

    python examples/seen.py [--processes 3] [--events 2000] [--seconds 3]

Shows two uses of an ExpiringSet:

- events that are delivered several times, to any of several processes. `add_new` adds a batch and returns the new
  events in one round trip: each event is new to exactly one process;
- alerts that repeat, which should be shown only now and then: `add` returns True if an alert is new or has expired. A
  repetition does not change its expiry, so the alert is shown again after that. (`touch` would extend it: the alert
  would be shown again only after a quiet time.)

Expect: the number of events that each process handled, alerts with their times, and a check of both.

Guarantee: at most once. An event is lost if its process dies between adding it to the set and processing it. For work
that must not be lost use a set that remembers, `SortedSet(…, remember=…)`: see scraper.py.
"""

import argparse
import multiprocessing
import random
import time
from collections import Counter
from itertools import pairwise
from multiprocessing import Process
from multiprocessing.queues import SimpleQueue

import redset
from common import cleared, run, running

BATCH = 100
DELIVERIES = 3  # of each event
MUTED = {"disk full": 0.5, "backup late": 1.0}  # seconds


def seen_events() -> redset.ExpiringSet[str]:
    return redset.ExpiringSet(redset.connect(), "example-events", ttl=3600)


def handle(deliveries: list[str], handled: "SimpleQueue[list[str]]") -> None:
    """Process the new events, and report them."""
    seen, new = seen_events(), []
    for start in range(0, len(deliveries), BATCH):
        new += seen.add_new(deliveries[start : start + BATCH])
    handled.put(new)


def main() -> bool:
    options = arguments()
    events_right = handle_events(options.processes, options.events)
    return raise_alerts(options.seconds) and events_right


def handle_events(processes: int, events: int) -> bool:
    deliveries = DELIVERIES * [f"event {number}" for number in range(events)]
    random.shuffle(deliveries)
    handled: SimpleQueue[list[str]] = multiprocessing.SimpleQueue()
    workers = [Process(target=handle, args=(deliveries[n::processes], handled)) for n in range(processes)]
    seen = seen_events()
    with cleared(seen), running(*workers):
        reports = [handled.get() for _ in workers]
        marked = len(seen)
    times = Counter(event for report in reports for event in report)
    print(f"{len(deliveries):,} deliveries; handled by each process: {', '.join(f'{len(one):,}' for one in reports)}")
    print(f"handled in all, and marked as seen (must be {events:,}): {times.total():,}, {marked:,}")
    print(f"handled twice (must be 0): {sum(count > 1 for count in times.values())}")
    return times.total() == len(times) == marked == events


def raise_alerts(seconds: float) -> bool:
    muted: redset.ExpiringSet[str] = redset.ExpiringSet(redset.connect(), "example-alerts", ttl=60)
    heard: dict[str, list[tuple[float, float]]] = {alert: [] for alert in MUTED}
    raised, began = 0, time.monotonic()
    with cleared(muted):
        while (now := time.monotonic() - began) < seconds:
            for alert, ttl in MUTED.items():
                raised += 1
                if muted.add(alert, ttl=ttl):
                    # The server's time lies between these two, so a comparison must allow for both.
                    heard[alert].append((now, time.monotonic() - began))
                    print(f"{now:.1f} s: {alert}, and not again for {muted.ttl(alert) or 0:.1f} s")
            time.sleep(0.05)
    print(f"{raised} alerts were raised, {sum(map(len, heard.values()))} heard")
    early = [
        alert
        for alert, times in heard.items()
        for (before, _), (_, after) in pairwise(times)
        if after - before < MUTED[alert]
    ]
    missing = [alert for alert, times in heard.items() if len(times) < seconds // MUTED[alert] / 2]
    print(f"heard too early, or not heard again (must be none): {', '.join(early + missing) or 'none'}")
    return not (early or missing)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=3, help="for how long alerts are raised")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
