"""``make chaos``: runs everywhere, or somewhere, and says what was done, what went wrong, and what does not hold."""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.bugs import known
from chaos.checkers import RULES, Verdict, check
from chaos.ending import ending, make_writable, seconds
from chaos.history import History
from chaos.places import PLACES
from chaos.report import Run, write
from chaos.runs import run
from chaos.telling import told
from chaos.workloads import ALL_PROMISES

#: How many seconds things go wrong at each place, unless it is said.
SECONDS = {"single": 150.0, "sentinel": 40.0, "cluster": 40.0, "shards": 80.0}

#: How many violations are shown with all that led to them.
SHOWN = 5

PROGRAM = "python -m chaos"

console = Console(highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = asked_for(arguments)
    return ending(PROGRAM, lambda: everywhere(options))


def everywhere(options: argparse.Namespace) -> int:
    """Runs at each place that was asked for; returns whether something does not hold."""
    # Who is interrupted twice does not wait for those that write there.
    with tempfile.TemporaryDirectory(prefix="redset-chaos-", ignore_cleanup_errors=True) as temporary:
        directory = options.keep or Path(temporary)
        runs = {name: at(name, options, directory / name) for name in places_of(options)}
    if options.report:
        write(options.report, runs)
    return 0 if all(run.verdict.ok for run in runs.values()) else 1


def places_of(options: argparse.Namespace) -> list[str]:
    return list(PLACES) if options.place == "all" else [options.place]


def asked_for(arguments: Sequence[str] | None) -> argparse.Namespace:
    bug = os.environ.get("REDSET_CHAOS_BUG") or None
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A run in which everything goes wrong.")
    parser.add_argument("--place", choices=[*PLACES, "all"], default="all")
    parser.add_argument("--seconds", type=seconds, help="how long things go wrong at each place")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the faults; default: any")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where what was recorded is kept")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where figures and a timeline are written")
    parser.add_argument("--bug", type=known, default=bug, help="a seeded bug, which must be found")
    options = parser.parse_args(arguments)
    try:
        prepare(options)
    except (OSError, ImportError) as reason:
        parser.error(str(reason))
    return options


def prepare(options: argparse.Namespace) -> None:
    """Looks now for what would be missed only when a run is over.

    :raises OSError: nothing can be written where it is to be, or something is there that would be written over.
    :raises ImportError: what draws is not installed.
    """
    if options.keep:
        for name in places_of(options):
            if (options.keep / name).exists():
                raise FileExistsError(f"--keep: {options.keep / name} is there already")
        make_writable(options.keep)
    if options.report:
        import_module("matplotlib.figure")
        make_writable(options.report)


def at(name: str, options: argparse.Namespace, directory: Path) -> Run:
    """Runs at one place, and says whether all holds."""
    lasting = options.seconds or SECONDS[name]
    console.print(f"[bold]{name}[/], seed {options.seed}: things go wrong for {lasting:g} s")
    began = time.monotonic()
    place = PLACES[name]()
    try:
        # Not before there is a place, or it would be in the way of the next try.
        directory.mkdir(parents=True)
        history = run(place, lasting, options.seed, directory, bug=options.bug)
    finally:
        place.stop()
    console.print(f"{len(history.calls)} calls in {time.monotonic() - began:.0f} s")
    console.print(calls_of(history), faults_of(history))
    verdict = check(history, ALL_PROMISES[place.workloads])
    console.print(rules_of(verdict))
    for violation in verdict.violations[:SHOWN]:
        console.print("", *map(escape, told(violation, history)), sep="\n")
    if len(verdict.violations) > SHOWN:
        console.print(f"... and {len(verdict.violations) - SHOWN} more violations")
    console.print("[bold red]something does not hold[/]" if verdict.violations else "all holds")
    return Run(history, verdict, options.seed, lasting)


def calls_of(history: History) -> Table:
    table = Table("calls", "ok", "refused", "unknown", box=box.SIMPLE_HEAD)
    counts = Counter((call.name, call.outcome) for call in history.calls)
    for name in sorted({call.name for call in history.calls}):
        table.add_row(name, *(str(counts[name, outcome]) for outcome in ("ok", "refused", "unknown")))
    return table


def faults_of(history: History) -> Table:
    table = Table("faults", "times", "seconds", box=box.SIMPLE_HEAD)
    # But not that a clock is as it is at the beginning.
    happened = [fault for fault in history.faults if fault.details.get("seconds") != 0]
    for name in sorted({fault.name for fault in happened}):
        faults = [fault for fault in happened if fault.name == name]
        table.add_row(name, str(len(faults)), f"{sum(fault.ended - fault.began for fault in faults):.1f}")
    return table


def rules_of(verdict: Verdict) -> Table:
    table = Table("rules", "looked at", "excused", "violations", box=box.SIMPLE_HEAD)
    broken = Counter(violation.checker for violation in verdict.violations)
    for rule in RULES:
        reasons = [f"{number} {why}" for (name, why), number in sorted(verdict.excused.items()) if name == rule]
        table.add_row(rule, str(verdict.looked_at[rule]), ", ".join(reasons), str(broken[rule]))
    return table


if __name__ == "__main__":
    sys.exit(main())
