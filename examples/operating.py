"""Operating a set: a bound on its size, a rate of claims, a pause, and totals and metrics of all that happens.

    python examples/operating.py [--items 60] [--rate 40] [--workers 3]

A producer adds jobs to a set that holds a few only, and waits where the set is full. Workers claim them, all together
no faster than the rate. An operator pauses the set, and resumes it. None of that is in the workers' code: the limits
are on the server, and could be set by another program at any time.

Expect: what the operator sees, the totals, the metrics as Prometheus would read them, and a check of the limits. The
metrics need prometheus-client (`pip install redset[prometheus]`); without it they are left out.

Guarantee: of each job exactly one lease is acked. At most `burst + rate * seconds` jobs are claimed in any time, and
the set never has more than `maxsize` jobs.
"""

import argparse
import multiprocessing
import time
from multiprocessing import Process
from multiprocessing.queues import SimpleQueue

import redset
import redset.metrics
from common import cleared, run, running

MAXSIZE = 10
PAUSE = 0.5  # seconds


def jobs_set() -> redset.SortedSet[str]:
    return redset.SortedSet(redset.connect(), "example-operated-jobs")


def produce(items: int) -> None:
    """Add all jobs, and wait while the set is full."""
    jobs = jobs_set()
    for number in range(items):
        while True:
            try:
                jobs.add(f"job {number}", score=number)
                break
            except redset.Full:
                time.sleep(0.01)


def work(claimed: "SimpleQueue[float]") -> None:
    """Claim jobs until none came for a while, and report when each was claimed."""
    for reservation in jobs_set().consume(lease=60, wait=PAUSE + 2):
        claimed.put(reservation.token / 1e6)  # a fencing token begins with the server's time


def acked_by_metrics(jobs: redset.SortedSet[str]) -> float | None:
    """Return what a scrape shows of the acks; None without prometheus-client."""
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        return None
    metrics = CollectorRegistry()
    metrics.register(redset.metrics.Collector(jobs.redis, [jobs.name]))
    return metrics.get_sample_value("redset_items_acked_total", {"set": jobs.name})


def main() -> bool:
    options = arguments()
    jobs = jobs_set()
    claimed: SimpleQueue[float] = multiprocessing.SimpleQueue()
    workers = [Process(target=work, args=(claimed,)) for _ in range(options.workers)]
    with cleared(jobs):
        jobs.limit(rate=options.rate, burst=1, maxsize=MAXSIZE)
        print(f"limits: {jobs.stats().limits}")
        with running(Process(target=produce, args=(options.items,)), *workers):
            times = [claimed.get() for _ in range(options.items // 2)]
            jobs.pause()
            before = jobs.totals().leased
            time.sleep(PAUSE)
            during = jobs.totals().leased - before
            largest = jobs.stats().waiting + jobs.stats().leased
            jobs.resume()
            times += [claimed.get() for _ in range(options.items - len(times))]
            while jobs.totals().acked < options.items:
                time.sleep(0.01)
        totals = jobs.totals()
        acked = acked_by_metrics(jobs)
    times.sort()
    took = times[-1] - times[0]
    allowed = 1 + options.rate * took
    print(f"claimed while paused (must be 0): {during}")
    print(f"waiting and leased while paused (must be {MAXSIZE} at most): {largest}")
    print(f"claimed in {took:.1f} s (must be {allowed:.0f} at most): {len(times)}")
    print(f"added, leased, acked (must be {options.items}): {totals.added}, {totals.leased}, {totals.acked}")
    if acked is None:
        print("metrics: left out, prometheus-client is not installed")
    else:
        print(f"acked, by the metrics (must be {options.items}): {acked:.0f}")
    right = acked in (None, options.items) and totals.added == totals.leased == totals.acked == options.items
    return right and during == 0 and largest <= MAXSIZE and len(times) <= allowed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=60, help="jobs in all")
    parser.add_argument("--rate", type=float, default=40, help="jobs per second")
    parser.add_argument("--workers", type=int, default=3, help="processes that work")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
