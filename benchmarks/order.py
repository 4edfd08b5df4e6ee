"""How far out of order a set over shards is: how many lower items each pop passes over.

Usage: python benchmarks/order.py [options]

Identities are random, and so are scores; each consumer is a set object of its own, which remembers the next scores of
the shards by itself, and all take turns at random. Beside each measured mean stand that of a simulation of the rule
(the lower of two random shards, as far as the consumer knows, and one claim in 16 from a random one), and where there
is a formula for two choices alone with one consumer, 5S/6 - 1, and what the simulation says of that.
"""

import argparse
import math
import random
import statistics
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import redis
from conditions import Table, arguments, conditions, place, report

import redset

COLUMNS = {"": "<28", "measured": ">9", "simulated": ">10", "quotient": ">9", "p50": ">6", "p99": ">6"}
#: One claim in so many goes to a random shard.
STRAY = 16
#: The part of the items that is popped before it counts, and until it ends.
WARM, END = 0.2, 0.7


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--items", type=int, default=30_000, help="of each round (%(default)s)")
    parser.add_argument("--shards", default="16,64", help="how many (%(default)s)")
    parser.add_argument("--consumers", default="1,64", help="how many (%(default)s)")
    parser.add_argument("--simulated", type=int, default=200_000, help="items of a simulation (%(default)s)")
    options = parser.parse_args()
    with place(options) as url, redis.Redis.from_url(url) as client:
        told = conditions(options, url) | {"items": f"{options.items:,}", "simulated": f"{options.simulated:,} items"}
        table = Table(told, **COLUMNS, two_choices_alone=">18")
        lines = list(_lines(client, options, table))
    report(options, told, lines)


def _lines(client: Any, options: argparse.Namespace, table: Table) -> Iterator[dict[str, Any]]:
    for shards in map(int, options.shards.split(",")):
        for consumers in map(int, options.consumers.split(",")):
            passed = [
                each for _ in range(options.rounds) for each in _measured(client, shards, consumers, options.items)
            ]
            simulated = _simulated(shards, consumers, options.simulated, STRAY)
            alone = statistics.fmean(_simulated(shards, consumers, options.simulated, None))
            theory = 5 * shards / 6 - 1 if consumers == 1 else None
            mean, beside = statistics.fmean(passed), statistics.fmean(simulated)
            name = f"S={shards}, {consumers} consumer{'s' * (consumers > 1)}"
            p50, p99 = (statistics.quantiles(passed, n=100)[at] for at in (49, 98))
            told = f"{alone:.1f}" if theory is None else f"{alone:.1f} of {theory:.1f}"
            table.line(name, f"{mean:.1f}", f"{beside:.1f}", f"{mean / beside:.2f}", f"{p50:.0f}", f"{p99:.0f}", told)
            yield {
                "name": name,
                "shards": shards,
                "consumers": consumers,
                "mean": mean,
                "simulated": beside,
                "alone": alone,
                "theory": theory,
                "p50": p50,
                "p99": p99,
                "histogram": _histogram(passed),
                "simulated_histogram": _histogram(simulated),
            }


def _measured(client: Any, shards: int, consumers: int, items: int) -> list[int]:
    """How many lower items each pop has passed over."""
    redset.forget_set(client, "jobs")
    scores = {uuid.uuid4().hex: float(at) for at in range(items)}
    names = list(scores)
    random.shuffle(names)
    sets: list[Any] = [redset.SortedSet(client, "jobs", shards=shards) for _ in range(consumers)]
    for start in range(0, items, 1000):
        sets[0].update(names[start : start + 1000], score=scores.__getitem__)
    return _passed_over(items, lambda: int(scores[random.choice(sets).pop()]))


def _simulated(shards: int, consumers: int, items: int, stray: int | None) -> list[int]:
    """The same of the rule alone."""
    queues: list[list[int]] = [[] for _ in range(shards)]
    for score in range(items - 1, -1, -1):
        random.choice(queues).append(score)
    heads = [[-math.inf] * shards for _ in range(consumers)]

    def pop() -> int:
        known = random.choice(heads)
        shard, other = random.randrange(shards), random.randrange(shards)
        if (stray is None or random.randrange(stray)) and known[other] < known[shard]:
            shard = other
        queue = queues[shard]
        score = queue.pop()
        known[shard] = queue[-1] if queue else math.inf
        return score

    return _passed_over(items, pop)


def _passed_over(items: int, pop: Callable[[], int]) -> list[int]:
    """For each pop between the warm-up and the end, the number of items with lower scores that still wait."""
    # A Fenwick tree of what was popped.
    popped, passed = [0] * (items + 1), []
    for number in range(int(items * END)):
        score = pop()
        lower, at = score, score
        while at > 0:
            lower -= popped[at]
            at -= at & -at
        if number >= items * WARM:
            passed.append(lower)
        at = score + 1
        while at <= items:
            popped[at] += 1
            at += at & -at
    return passed


def _histogram(passed: list[int]) -> dict[str, float]:
    """The part of pops that passed over so many: in steps of a fifth of an octave, by where they begin."""
    steps = Counter(0 if each == 0 else 1 + int(5 * math.log2(each)) for each in passed)
    return {
        f"{0.0 if step == 0 else 2 ** ((step - 1) / 5):.4g}": count / len(passed)
        for step, count in sorted(steps.items())
    }


if __name__ == "__main__":
    main()
