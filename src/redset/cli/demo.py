"""The demo: many processes add the same things, many share the work, and a plain loop checks the result."""

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from redset.cli.demo_processes import Worker, deaf_to_interrupts
from redset.cli.demo_worker import Taken, read_taken
from redset.cli.inputs import Input, PlainResult
from redset.connect import client_library, connect
from redset.core.keys import Keys
from redset.exceptions import NoServerError, RedsetError
from redset.sets import SortedSet

__all__ = ("Outcome", "Verdict", "run", "verdict")

_REFRESH = 0.05
_PLAIN_REFRESH = 1.0


@dataclass(frozen=True)
class Outcome:
    """What the producers and the consumers did, and how many seconds they took for it."""

    offered: int
    distinct: int
    taken: list[list[Taken]]
    adding_took: float
    taking_took: float


@dataclass(frozen=True)
class Verdict:
    """How the outcome differs from what a plain loop finds."""

    #: Items that were handled again.
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

    :returns: whether everything was handled exactly once, and rightly.
    :raises RedsetError: there is no server, or one of the processes has failed.
    """
    client = _reachable_client()
    jobs: SortedSet[str | bytes] = SortedSet(client, f"redset-demo:{uuid.uuid4().hex[:12]}")
    _explain(source, producers, consumers, jobs.name, console)
    source.observe()
    try:
        outcome = _let_work(source, producers, consumers, jobs, console)
    finally:
        # When this is answered, the server has done the last that a killed process had sent, which could add again.
        client.ping()
        jobs.clear()
        # Clearing keeps the memory of tokens for later users of the name; of this one there are none.
        client.delete(Keys(jobs.name).token)
    began = time.monotonic()
    plain = source.plain_result()
    plain_took = time.monotonic() - began
    found = verdict(outcome, plain)
    _say(console, f"\nThe demo, checked against one plain loop over {source}:")
    console.print(_result_table(source, outcome, plain, plain_took, found))
    if plain.most_copied:
        _say(console, f"\n{source.copied}:")
        console.print(_copies_table(plain))
    _say(console, "Correct: each was handled exactly once." if found.correct else "FAILED: see what should be 0.")
    return found.correct


def verdict(outcome: Outcome, plain: PlainResult) -> Verdict:
    """Compares what was reported with what a plain loop finds; what changed meanwhile may be either way."""
    times = Counter(item for taken in outcome.taken for item, _ in taken)
    digests = dict(report for taken in outcome.taken for report in taken)
    return Verdict(
        twice=sum(times.values()) - len(times),
        missing=len(plain.digests.keys() - times.keys()),
        unknown=len(times.keys() - plain.digests.keys() - plain.changed) + abs(outcome.distinct - len(times)),
        wrong=sum(digests.get(item, digest) != digest for item, digest in plain.digests.items()),
    )


def _reachable_client() -> Any:
    library = client_library()
    try:
        client = connect()
        client.ping()
    except ValueError as error:
        raise RedsetError(f"$REDSET_URL: {error}") from error
    except (library.ConnectionError, library.TimeoutError, library.ResponseError) as error:
        raise NoServerError(f"the server does not answer: {error}") from error
    return client


def _explain(source: Input, producers: int, consumers: int, name: str, console: Console) -> None:
    server = "the server at $REDSET_URL" if os.environ.get("REDSET_URL") else "the embedded server"
    _say(console, f"{producers} producers each add {source}, in an order of their own, to the set {name} on {server}.")
    _say(console, f"When they are done, {consumers} consumers take one at a time and hash it.")
    _say(console, "(Then and not before: adding what waits changes nothing, but adding what was taken adds it again.)")


def _let_work(source: Input, producers: int, consumers: int, jobs: SortedSet[str | bytes], console: Console) -> Outcome:
    """Starts all processes, then lets the producers work, then the consumers."""
    with ExitStack() as stack:
        with deaf_to_interrupts():
            adding = [stack.enter_context(Worker("produce", jobs.name, source)) for _ in range(producers)]
            taking = [stack.enter_context(Worker("consume", jobs.name, source)) for _ in range(consumers)]
        for worker in adding + taking:
            worker.wait_until_ready()

        def offered() -> int:
            return sum(int(report) for worker in adding for report in worker.reports)

        def handled() -> int:
            return sum(len(worker.reports) for worker in taking)

        adding_took = _watch(adding, f"Adding {source.noun}", offered, None, console)
        distinct = len(jobs)
        taking_took = _watch(taking, f"Handling {source.noun}", handled, distinct, console)
        taken = [[read_taken(report) for report in worker.reports] for worker in taking]
        return Outcome(offered(), distinct, taken, adding_took, taking_took)


def _watch(workers: list[Worker], title: str, count: Callable[[], int], total: int | None, console: Console) -> float:
    """Lets the workers work and shows how they get on; returns how many seconds they took.

    :raises RedsetError: one has failed.
    """
    show = _show_bar if console.is_terminal else _show_lines
    began = time.monotonic()
    for worker in workers:
        worker.go()
    show(lambda: any(worker.is_busy() for worker in workers), title, count, total, console)
    took = time.monotonic() - began
    for worker in workers:
        worker.check()
    return took


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
    handled = sum(map(len, outcome.taken))
    rows: list[tuple[str, str]] = [
        (f"{source.noun} offered", f"{outcome.offered:,}"),
        ("distinct", f"{outcome.distinct:,}"),
        *((f"handled by consumer {n}", f"{len(taken):,}") for n, taken in enumerate(outcome.taken, 1)),
        ("handled in all", f"{handled:,}"),
        ("handled twice (must be 0)", f"{found.twice:,}"),
        ("missing (must be 0)", f"{found.missing:,}"),
        ("unknown to the plain loop (must be 0)", f"{found.unknown:,}"),
        ("hashed wrongly (must be 0)", f"{found.wrong:,}"),
        ("unreadable", f"{sum(digest is None for taken in outcome.taken for _, digest in taken):,}"),
        ("came, went or changed meanwhile, so not checked", f"{len(plain.changed):,}"),
        ("offered per second", f"{outcome.offered / outcome.adding_took:,.0f}"),
        ("taken and hashed per second", f"{handled / outcome.taking_took:,.0f}"),
        ("seconds to add, to take and hash, and in the plain loop", _seconds(outcome, plain_took)),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _seconds(outcome: Outcome, plain_took: float) -> str:
    return " + ".join(f"{took:.1f}" for took in (outcome.adding_took, outcome.taking_took, plain_took))


def _copies_table(plain: PlainResult) -> Table:
    table = Table(show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for copies, example in plain.most_copied:
        table.add_row(f"{copies:,}", Text(example))
    return table


def _say(console: Console, text: str) -> None:
    """Prints the text as it is: a path in it is no markup, and a line that is read by a program is not broken."""
    console.print(Text(text), soft_wrap=True)
