"""The demo: many processes add the same items, many share the work, and a plain loop checks the result.

Its output fits a terminal of 80 columns and 24 lines.
"""

import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from redset.cli.demo_client import failures, reachable_client
from redset.cli.demo_processes import Worker, deaf_to_interrupts
from redset.cli.demo_worker import LEASE, Result
from redset.cli.inputs import Input, PlainResult
from redset.exceptions import NoServerError
from redset.registry import forget_set
from redset.sets import SortedSet

__all__ = ("Outcome", "Verdict", "run", "verdict")

_REFRESH = 0.05
_PLAIN_REFRESH = 1.0
#: A line of 80 columns has no room for more consumers, or for a longer example.
_SHOWN_CONSUMERS = 6
_LONGEST_EXAMPLE = 44


@dataclass(frozen=True)
class Outcome:
    """The work of the producers and the consumers, and the seconds that it took."""

    offered: int
    distinct: int
    #: The reports of each consumer.
    results: list[list[Result]]
    #: Whether the first consumer was killed, and how many leases it held.
    killed: bool
    held: int
    adding_took: float
    taking_took: float

    def by_item(self) -> dict[bytes, list[Result]]:
        """The results of each item, from the oldest lease to the newest. The newest one counts."""
        found: dict[bytes, list[Result]] = defaultdict(list)
        for result in sorted((one for results in self.results for one in results), key=lambda one: one.token):
            found[result.item].append(result)
        return found


@dataclass(frozen=True)
class Verdict:
    """The differences between the outcome and the result of a plain loop."""

    #: Items that were claimed again under a live lease, or after their ack.
    twice: int
    #: Items that no consumer hashed.
    missing: int
    #: Items that were hashed but do not exist, or that were in the set and were not hashed.
    unknown: int
    #: Items with a wrong digest.
    wrong: int

    @property
    def correct(self) -> bool:
        return not any(astuple(self))


def run(source: Input, producers: int, consumers: int, console: Console) -> bool:
    """Run the demo and print it on ``console``.

    The consumers begin when the producers are done: adding an item that waits changes nothing, but adding one that is
    done adds it again.

    :returns: whether every item was hashed once, and correctly.
    :raises RedsetError: there is no server, the connection to it was lost, or one of the processes has failed.
    """
    client = reachable_client()
    name = f"redset-demo:{uuid.uuid4().hex[:12]}"
    _explain(source, producers, consumers, name, console)
    source.observe()
    with _own_set(client, name) as jobs:
        outcome = _let_work(source, producers, consumers, jobs, console)
    began = time.monotonic()
    plain = source.plain_result()
    plain_took = time.monotonic() - began
    found = verdict(outcome, plain)
    _say(console, "\nThe result, checked against one plain loop over the same input:")
    console.print(_result_table(source, outcome, plain, plain_took, found))
    _say(console, "\nCorrect: each was hashed, and none twice." if found.correct else "\nFAILED: see what must be 0.")
    return found.correct


def verdict(outcome: Outcome, plain: PlainResult) -> Verdict:
    """Compare the reports with the result of a plain loop. Items that changed meanwhile are left out."""
    by_item = outcome.by_item()
    digests = {item: results[-1].digest for item, results in by_item.items()}
    deliveries = [pair for results in by_item.values() for pair in pairwise(results)]
    return Verdict(
        twice=sum(not later.takes_over(earlier) for earlier, later in deliveries),
        missing=len(plain.digests.keys() - digests.keys()),
        unknown=len(digests.keys() - plain.digests.keys() - plain.changed) + abs(outcome.distinct - len(digests)),
        wrong=sum(digests.get(item, digest) != digest for item, digest in plain.digests.items()),
    )


@contextmanager
def _own_set(client: Any, name: str) -> Iterator[SortedSet[str | bytes]]:
    """Yield a set, and remove all of its keys afterwards.

    :raises NoServerError: the connection to the server was lost.
    """
    jobs: SortedSet[str | bytes] = SortedSet(client, name)
    try:
        try:
            yield jobs
        finally:
            # After this reply, the last command of a killed process was executed. It cannot add items any more.
            client.ping()
            forget_set(client, name)
    except failures() as error:
        raise NoServerError(f"the demo has lost the server: {error}") from error


def _explain(source: Input, producers: int, consumers: int, name: str, console: Console) -> None:
    server = "the server at $REDSET_URL" if os.environ.get("REDSET_URL") else "the embedded server"
    _say(console, f"Input: {source}")
    _say(console, f"Set:   {name} on {server}")
    _say(console, f"Producers: {producers}. Each adds all of the input, in an order of its own.")
    _say(console, f"Consumers: {consumers}. Then they hash the items, under leases of {LEASE:g} s.")
    if consumers > 1:
        _say(console, "One of them is killed. Its leases expire, and the others claim its items.\n")
    else:
        _say(console, "None is killed: no other consumer could claim its items.\n")


def _let_work(source: Input, producers: int, consumers: int, jobs: SortedSet[str | bytes], console: Console) -> Outcome:
    """Start all processes, then let the producers work, then the consumers."""
    tasks = ["consume"] if consumers == 1 else ["falter", *["consume"] * (consumers - 1)]
    with ExitStack() as stack:
        with deaf_to_interrupts():
            adding = [stack.enter_context(Worker("produce", jobs.name, source)) for _ in range(producers)]
            taking = [stack.enter_context(Worker(task, jobs.name, source)) for task in tasks]
        for worker in adding + taking:
            worker.wait_until_ready()
        began = time.monotonic()
        offered = _let_add(adding, source, console)
        added = time.monotonic()
        distinct = len(jobs)
        held = _let_take(taking, distinct, source, jobs, console)
        took = time.monotonic() - added
        results = [[Result.read(report) for report in worker.reports] for worker in taking]
        return Outcome(offered, distinct, results, taking[0].killed, held, added - began, took)


def _let_add(producers: list[Worker], source: Input, console: Console) -> int:
    """Let the producers add. Return how many items they offered."""

    def offered() -> int:
        return sum(int(report) for worker in producers for report in worker.reports)

    _start(producers)
    _watch(producers, f"Adding {source.noun}", offered, None, console)
    return offered()


def _let_take(
    consumers: list[Worker], distinct: int, source: Input, jobs: SortedSet[str | bytes], console: Console
) -> int:
    """Let the consumers hash, and kill the first unless it is the only one. Return how many leases it held."""
    first, *others = consumers

    def acked() -> int:
        stats = jobs.stats()
        return distinct - stats.waiting - stats.leased - stats.expired

    held = 0
    if others:
        held = _let_falter(first, jobs)
        _start(others)
        if first.reports:
            first.kill()
            _say(console, f"Consumer 1 was killed (SIGKILL) while it held {held:,} leases.")
    else:
        _start([first])
    _watch(consumers, f"Hashing {source.noun}", acked, distinct, console)
    return held


def _let_falter(worker: Worker, jobs: SortedSet[str | bytes]) -> int:
    """Let the consumer that will be killed work until it stops by itself. Return how many leases it holds.

    The others start later: in competition with them it might get no item of a small input.
    """
    _start([worker])
    while worker.is_busy() and not worker.reports:
        time.sleep(_REFRESH / 10)
    return jobs.stats().leased


def _start(workers: list[Worker]) -> None:
    for worker in workers:
        worker.go()


def _watch(workers: list[Worker], title: str, count: Callable[[], int], total: int | None, console: Console) -> None:
    """Show the progress of the workers until they are done.

    :raises RedsetError: a worker has failed.
    """

    def busy() -> bool:
        for worker in workers:
            worker.check()
        return any(worker.is_busy() for worker in workers)

    show = _show_bar if console.is_terminal else _show_lines
    show(busy, title, count, total, console)
    for worker in workers:
        worker.check()


def _show_bar(
    busy: Callable[[], bool], title: str, count: Callable[[], int], total: int | None, console: Console
) -> None:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        while busy():
            time.sleep(_REFRESH)
            progress.update(task, completed=count())
        progress.update(task, completed=count(), total=count())


def _show_lines(
    busy: Callable[[], bool], title: str, count: Callable[[], int], total: int | None, console: Console
) -> None:
    of_total = "" if total is None else f" of {total:,}"
    next_line = time.monotonic() + _PLAIN_REFRESH
    while busy():
        time.sleep(_REFRESH)
        if time.monotonic() >= next_line:
            _say(console, f"{title}: {count():,}{of_total} ...")
            next_line += _PLAIN_REFRESH
    _say(console, f"{title}: {count():,}{of_total}, done")


def _result_table(source: Input, outcome: Outcome, plain: PlainResult, plain_took: float, found: Verdict) -> Table:
    by_item = outcome.by_item()
    reported = [result for results in outcome.results for result in results]
    taken_over = sum(result.attempt > 1 for result in reported)
    replaced = len(reported) - len(by_item) - found.twice
    unreadable = sum(results[-1].digest is None for results in by_item.values())
    rows = [
        ("added", f"{outcome.offered:,} {source.noun}, {outcome.distinct:,} of them distinct"),
        *_consumer_rows(outcome),
        ("claimed again", f"{taken_over:,} after the kill; {replaced:,} of them hashed already, not acked"),
        ("must be 0", f"{found.twice} twice, {found.missing} missing, {found.unknown} unknown, {found.wrong} wrong"),
        ("not checked", f"{unreadable:,} unreadable, {len(plain.changed):,} changed meanwhile"),
        (
            "per second",
            f"{outcome.offered / outcome.adding_took:,.0f} added, {len(by_item) / outcome.taking_took:,.0f} hashed",
        ),
        (
            "seconds",
            f"{outcome.adding_took:.1f} adding, {outcome.taking_took:.1f} hashing, {plain_took:.1f} in the plain loop",
        ),
        *((source.copied, f"{copies:,} x {_shortened(example)}") for copies, example in plain.most_copied[:1]),
    ]
    table = Table.grid(padding=(0, 2))
    for title, told in rows:
        table.add_row(title, Text(told))
    return table


def _consumer_rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """The consumer that was killed, then all others together."""
    hashed = [len(results) for results in outcome.results]
    if outcome.killed:
        yield "hashed by consumer 1", f"{hashed.pop(0):,}, then killed with {outcome.held:,} leases"
    who = "the others" if outcome.killed else "all" if len(hashed) > 1 else "consumer 1"
    figures = hashed if len(hashed) <= _SHOWN_CONSUMERS else [sum(hashed)]
    yield f"hashed by {who}", " + ".join(f"{figure:,}" for figure in figures)


def _shortened(text: str) -> str:
    """The beginning and the end of a text that is too long for its column."""
    if len(text) <= _LONGEST_EXAMPLE:
        return text
    half = (_LONGEST_EXAMPLE - 1) // 2
    return f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _say(console: Console, text: str) -> None:
    """Print the text without markup: a path may look like markup. Wrap lines at words, and only on a terminal."""
    console.print(Text(text), soft_wrap=not console.is_terminal)
