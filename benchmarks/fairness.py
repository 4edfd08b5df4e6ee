"""How long the jobs of small tenants wait while a large one floods the set: in order, and with fair turns.

Usage: python benchmarks/fairness.py [--flood N] [--workers N] [options]

Some workers take jobs of a few milliseconds. The large tenant adds all its jobs at once, the small ones one each now
and then. Waiting times are in milliseconds. Prints figures and judges none.
"""

import time
from statistics import median
from threading import Thread
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset

SMALL = ("blue", "green", "red", "white")
WAYS: dict[str, dict[str, Any]] = {
    "in order": {},
    "fair turns": {"group": lambda job: job.partition("/")[0], "turns": "fair"},
}
COLUMNS = {"": "<12", "tenant": "<8", "jobs": ">6", "p50_ms": ">9", "p99_ms": ">9"}


def main() -> None:
    parser = arguments(__doc__, rounds=1, cores="any")
    parser.add_argument("--flood", type=int, default=1000, help="jobs of the large tenant (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="threads that take jobs (%(default)s)")
    parser.add_argument("--work", type=float, default=5, help="milliseconds of a job (%(default)s)")
    options = parser.parse_args()
    with place(options) as url:
        told = conditions(options, url)
        table, lines = Table(told, **COLUMNS), []
        for way, kind in WAYS.items():
            for tenant, waits in _measure(url, kind, options).items():
                waits.sort()
                p50, p99 = median(waits), waits[int(0.99 * len(waits))]
                table.line(way, tenant, len(waits), f"{p50:.1f}", f"{p99:.1f}")
                lines.append({"way": way, "tenant": tenant, "p50": p50, "p99": p99, "waits": waits})
    report(options, told, lines)


def _measure(url: str, kind: dict[str, Any], options: Any) -> dict[str, list[float]]:
    """The waiting times of the jobs, in milliseconds."""
    client = redis.Redis.from_url(url)
    client.flushall()
    jobs: redset.TimeSortedSet[str] = redset.TimeSortedSet(client, "jobs", **kind)
    waits: dict[str, list[float]] = {"large": [], "small": []}

    def work() -> None:
        for job in jobs.consume(wait=1):
            tenant, _, added_at = job.item.split("/")
            waits["large" if tenant == "large" else "small"].append(1000 * (time.time() - float(added_at)))
            time.sleep(options.work / 1000)
            job.ack()

    jobs.update(f"large/{number}/{time.time()}" for number in range(options.flood))
    workers = [Thread(target=work) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    every = options.flood * options.work / 1000 / options.workers / 40
    for number in range(30):
        jobs.update(f"{tenant}/{number}/{time.time()}" for tenant in SMALL)
        time.sleep(every)
    for worker in workers:
        worker.join()
    return waits


if __name__ == "__main__":
    main()
