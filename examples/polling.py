"""Polling: many feeds, each polled once per interval of its own, by any number of pollers.

    python examples/polling.py [--seconds 6] [--pollers 3]

Shows: three processes consume one PeriodicSet. An ack plans the next tick in the same step, so no tick is polled twice,
no leader or cron job is needed, and a slow poll shifts no later tick. First ticks are spread (`jitter=`), so that feeds
that were added at once do not fall due at once.

Expect: a live table of the feeds: the time of the last poll, its delay after the tick, the number of polls, and the
poller. At the end, a check that no tick was polled twice, and that the ticks of a feed are whole numbers of intervals
apart. On a busy machine, a tick may be missed: it is counted, and not repeated.

The table needs rich: pip install "redset[cli]".
"""

import argparse
import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import Process
from multiprocessing.queues import SimpleQueue
from typing import NamedTuple

from rich.live import Live
from rich.table import Table

import redset
from common import cleared, run, running

INTERVALS = {"news": 0.3, "weather": 0.5, "prices": 0.2, "scores": 1.0, "traffic": 0.7}  # seconds


class Poll(NamedTuple):
    feed: str
    poller: str
    tick: float  # the planned time
    at: float  # the time of the poll


@dataclass
class Polls:
    """The polls of one feed."""

    ticks: list[float] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    last: Poll | None = None

    def add(self, poll: Poll) -> None:
        self.ticks.append(poll.tick)
        self.by[poll.poller] += 1
        self.last = poll


def feeds_to_poll() -> redset.PeriodicSet:
    return redset.PeriodicSet(redset.connect(), "example-feeds", interval=1, jitter=0.5)


def poll(poller: str, reports: "SimpleQueue[Poll]") -> None:
    """Poll due feeds for ever. The loop acks a feed when it asks for the next one, which plans the next tick."""
    for reservation in feeds_to_poll().consume(lease=10):
        time.sleep(random.uniform(0, 0.05))  # the work
        reports.put(Poll(reservation.item, poller, reservation.score, time.time()))


def main() -> bool:
    options = arguments()
    feeds = feeds_to_poll()
    polls = {feed: Polls() for feed in INTERVALS}
    reports: SimpleQueue[Poll] = multiprocessing.SimpleQueue()
    pollers = [Process(target=poll, args=(f"poller {n}", reports)) for n in range(options.pollers)]
    with cleared(feeds), running(*pollers), Live(table(polls), auto_refresh=False) as live:
        feeds.update(INTERVALS, interval=INTERVALS.__getitem__)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            while not reports.empty():
                report = reports.get()
                polls[report.feed].add(report)
            live.update(table(polls), refresh=True)
            time.sleep(0.05)
    return is_right(polls)


def table(polls: dict[str, Polls]) -> Table:
    shown = Table("feed", "every", "polled last", "late", "polls", "by whom")
    for feed, of_feed in polls.items():
        last = of_feed.last
        shown.add_row(
            feed,
            f"{INTERVALS[feed]:g} s",
            time.strftime("%H:%M:%S", time.localtime(last.at)) if last else "",
            f"{1000 * (last.at - last.tick):.0f} ms" if last else "",
            str(len(of_feed.ticks)),
            ", ".join(f"{poller}: {count}" for poller, count in sorted(of_feed.by.items())),
        )
    return shown


def is_right(polls: dict[str, Polls]) -> bool:
    twice, missed, astray = 0, 0, 0
    for feed, of_feed in polls.items():
        for earlier, later in pairwise(sorted(of_feed.ticks)):
            intervals = (later - earlier) / INTERVALS[feed]
            twice += intervals < 0.5
            astray += abs(intervals - round(intervals)) > 0.01
            missed += max(0, round(intervals) - 1)
    print(f"\npolls: {sum(len(of_feed.ticks) for of_feed in polls.values())}; ticks missed: {missed}")
    print(f"ticks that were polled twice (must be 0): {twice}")
    print(f"ticks off the rhythm (must be 0): {astray}")
    print(f"feeds that were never polled (must be 0): {sum(not of_feed.ticks for of_feed in polls.values())}")
    return not twice and not astray and all(of_feed.ticks for of_feed in polls.values())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--pollers", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
