"""Tenants: one floods a queue that all share, and the others notice little of it.

    python examples/tenants.py [--flood 400] [--workers 2]

Shows the jobs of several tenants in one set, first without groups and then with fair turns: each tenant is a group, and
the groups are claimed from in turn. A limit of leases for each tenant would bound how many workers one can occupy.

Expect: without groups, the jobs of small tenants wait until the flood has passed. With fair turns they wait for a few
jobs of others.

Guarantee: with `turns="fair"`, while a tenant has jobs, each other tenant gets at most one claim before its next one.
"""

import argparse
import statistics
import time
from threading import Thread
from typing import Any

import redset
from common import cleared, run

WORK = 0.002  # seconds for a job
SMALL = ("blue", "green", "red")


def jobs(client: Any, *, fair: bool) -> redset.TimeSortedSet:
    if not fair:
        return redset.TimeSortedSet(client, "example-tenants:in-order")
    return redset.TimeSortedSet(client, "example-tenants:fair", group=lambda job: job.partition("/")[0], turns="fair")


def work(queue: redset.TimeSortedSet, waits: dict[str, list[float]]) -> None:
    for job in queue.consume(wait=1):
        tenant, _, added_at = job.item.split("/")
        waits["large" if tenant == "large" else "small"].append(time.time() - float(added_at))
        time.sleep(WORK)
        job.ack()


def measured(client: Any, options: argparse.Namespace, *, fair: bool) -> dict[str, list[float]]:
    """Return the seconds that the jobs of the large tenant and of the small ones waited."""
    waits: dict[str, list[float]] = {"large": [], "small": []}
    queue = jobs(client, fair=fair)
    with cleared(queue):
        queue.update(f"large/{number}/{time.time()}" for number in range(options.flood))
        workers = [Thread(target=work, args=(queue, waits), daemon=True) for _ in range(options.workers)]
        for worker in workers:
            worker.start()
        for number in range(10):
            queue.update(f"{tenant}/{number}/{time.time()}" for tenant in SMALL)
            time.sleep(0.01)
        for worker in workers:
            worker.join()
    return waits


def main() -> bool:
    options = arguments()
    client = redset.connect()
    medians, counts = {}, []
    for fair in (False, True):
        waits = measured(client, options, fair=fair)
        for tenant, each in waits.items():
            medians[fair, tenant] = statistics.median(each)
            counts.append((tenant, len(each)))
            print(
                f"{'fair turns' if fair else 'no groups':<10}  {tenant}: {len(each)} jobs waited "
                f"{1000 * medians[fair, tenant]:.0f} ms (median), {1000 * max(each):.0f} ms (longest)"
            )
    is_right = counts == [("large", options.flood), ("small", 10 * len(SMALL))] * 2
    is_fair = medians[True, "small"] < medians[False, "small"] / 2
    print(f"each job was claimed once (must be True): {is_right}")
    print(f"with fair turns, small tenants waited less than half as long (must be True): {is_fair}")
    return is_right and is_fair


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flood", type=int, default=400, help="jobs of the large tenant")
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
