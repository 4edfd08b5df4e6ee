"""The demo: many processes add the same things, many share the work, and a plain loop checks the result."""

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
from redset.core.keys import Keys
from redset.exceptions import NoServerError
from redset.sets import SortedSet

__all__ = ("Outcome", "Verdict", "run", "verdict")

_REFRESH = 0.05
_PLAIN_REFRESH = 1.0


@dataclass(frozen=True)
class Outcome:
    """What the producers and the consumers did, and how many seconds they took for it."""

    offered: int
    distinct: int
    #: What each consumer reported.
    results: list[list[Result]]
    #: Whether the first consumer was killed, and how many leases it had in its hands.
    killed: bool
    held: int
    adding_took: float
    taking_took: float

    def by_item(self) -> dict[bytes, list[Result]]:
        """The results of each item, from the oldest lease to the newest, which is the one that counts."""
        found: dict[bytes, list[Result]] = defaultdict(list)
        for result in sorted((one for results in self.results for one in results), key=lambda one: one.token):
            found[result.item].append(result)
        return found


@dataclass(frozen=True)
class Verdict:
    """How the outcome differs from what a plain loop finds."""

    #: Items that were handed out again in spite of a live lease, or after their ack.
    twice: int
    #: Items that nobody handled.
    missing: int
    #: Items that were handled and do not exist, or that the set had and nobody handled.
    unknown: int
    #: Items for which a wrong digest was reported.
    wrong: int

    @property
    def correct(self) -> bool:
        return not any(astuple(self))


def run(source: Input, producers: int, consumers: int, console: Console) -> bool:
    """Shows the demo on ``console``.

    :returns: whether everything was handled once, and rightly.
    :raises RedsetError: there is no server, or no more, or one of the processes has failed.
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
    _say(console, f"\nThe demo, checked against one plain loop over {source}:")
    console.print(_result_table(source, outcome, plain, plain_took, found))
    if plain.most_copied:
        _say(console, f"\n{source.copied}:")
        console.print(_copies_table(plain))
    _conclude(outcome, found, console)
    return found.correct


def verdict(outcome: Outcome, plain: PlainResult) -> Verdict:
    """Compares what was reported with what a plain loop finds; what changed meanwhile may be either way."""
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
    """A set of which nothing is left afterwards.

    :raises NoServerError: the server has gone away meanwhile.
    """
    jobs: SortedSet[str | bytes] = SortedSet(client, name)
    try:
        try:
            yield jobs
        finally:
            # When this is answered, the server has done the last that a killed process had sent, which could add again.
            client.ping()
            jobs.clear()
            # Clearing keeps the memory of tokens for later users of the name; of this one there are none.
            client.delete(Keys(name).token)
    except failures() as error:
        raise NoServerError(f"the demo has lost the server: {error}") from error


def _explain(source: Input, producers: int, consumers: int, name: str, console: Console) -> None:
    server = "the server at $REDSET_URL" if os.environ.get("REDSET_URL") else "the embedded server"
    _say(console, f"{producers} producers each add {source}, in an order of their own, to the set {name} on {server}.")
    _say(console, f"When they are done, {consumers} consumers hash what they are handed, under leases of {LEASE:g} s.")
    _say(console, "(Then and not before: adding what waits changes nothing, but adding what is done adds it again.)")
    if consumers > 1:
        _say(console, "One of them is killed on the way; when its leases have run out, the others take them over.")
    else:
        _say(console, "None is killed on the way, as one of several would be: there is nobody to take over.")


def _let_work(source: Input, producers: int, consumers: int, jobs: SortedSet[str | bytes], console: Console) -> Outcome:
    """Starts all processes, then lets the producers work, then the consumers."""
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
    """Returns how many items they offered."""

    def offered() -> int:
        return sum(int(report) for worker in producers for report in worker.reports)

    _start(producers)
    _watch(producers, f"Adding {source.noun}", offered, None, console)
    return offered()


def _let_take(
    consumers: list[Worker], distinct: int, source: Input, jobs: SortedSet[str | bytes], console: Console
) -> int:
    """Kills the first one on the way, unless it is the only one; returns how many leases it had in its hands then."""
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
            _say(console, f"Consumer 1 was killed (SIGKILL) with {held:,} leases in its hands.")
    else:
        _start([first])
    _watch(consumers, f"Handling {source.noun}", acked, distinct, console)
    return held


def _let_falter(worker: Worker, jobs: SortedSet[str | bytes]) -> int:
    """Lets the one that is to be killed work until it stands still; returns how many leases it holds then.

    The others begin later: beside them it might get nothing where there is little to do.
    """
    _start([worker])
    while worker.is_busy() and not worker.reports:
        time.sleep(_REFRESH / 10)
    return jobs.stats().leased


def _start(workers: list[Worker]) -> None:
    for worker in workers:
        worker.go()


def _watch(workers: list[Worker], title: str, count: Callable[[], int], total: int | None, console: Console) -> None:
    """Shows how the workers get on, until they are done.

    :raises RedsetError: one has failed.
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
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    by_item = outcome.by_item()
    reported = [result for results in outcome.results for result in results]
    rows: list[tuple[str, str]] = [
        (f"{source.noun} offered", f"{outcome.offered:,}"),
        ("distinct", f"{outcome.distinct:,}"),
        *_consumer_rows(outcome),
        ("leases taken over", f"{sum(result.attempt > 1 for result in reported):,}"),
        ("results replaced by the taker-over's", f"{len(reported) - len(by_item) - found.twice:,}"),
        ("handled in all", f"{len(by_item):,}"),
        ("handled twice (must be 0)", f"{found.twice:,}"),
        ("missing (must be 0)", f"{found.missing:,}"),
        ("unknown to the plain loop (must be 0)", f"{found.unknown:,}"),
        ("hashed wrongly (must be 0)", f"{found.wrong:,}"),
        ("unreadable", f"{sum(results[-1].digest is None for results in by_item.values()):,}"),
        ("came, went or changed meanwhile, so not checked", f"{len(plain.changed):,}"),
        ("offered per second", f"{outcome.offered / outcome.adding_took:,.0f}"),
        ("taken and hashed per second", f"{len(by_item) / outcome.taking_took:,.0f}"),
        ("seconds to add, to take and hash, and in the plain loop", _seconds(outcome, plain_took)),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _consumer_rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    for number, results in enumerate(outcome.results, 1):
        fate = f", killed with {outcome.held} leases" if outcome.killed and number == 1 else ""
        yield f"handled by consumer {number}{fate}", f"{len(results):,}"


def _seconds(outcome: Outcome, plain_took: float) -> str:
    return " + ".join(f"{took:.1f}" for took in (outcome.adding_took, outcome.taking_took, plain_took))


def _copies_table(plain: PlainResult) -> Table:
    table = Table(show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for copies, example in plain.most_copied:
        table.add_row(f"{copies:,}", Text(example))
    return table


def _conclude(outcome: Outcome, found: Verdict, console: Console) -> None:
    if outcome.killed:
        _say(
            console,
            "Handled twice would be what is handed out despite a live lease or an ack. What the killed one had "
            "reported but not acked is handled again by who takes it over, and the result with the newer token counts.",
        )
    _say(console, "Correct: each was handled, and none twice." if found.correct else "FAILED: see what should be 0.")


def _say(console: Console, text: str) -> None:
    """Prints the text as it is: a path in it is no markup, and a line that is read by a program is not broken."""
    console.print(Text(text), soft_wrap=True)
