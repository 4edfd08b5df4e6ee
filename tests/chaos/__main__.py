"""``make chaos``: runs everywhere, or somewhere, and says what was done, what went wrong, and what does not hold."""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from chaos.history import History
from chaos.places import PLACES
from chaos.runs import run

#: How many seconds things go wrong at each place, unless it is said.
SECONDS = {"single": 150.0, "sentinel": 40.0, "cluster": 40.0}

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    options = asked_for()
    names = list(PLACES) if options.place == "all" else [options.place]
    with tempfile.TemporaryDirectory(prefix="redset-chaos-") as temporary:
        directory = options.keep or Path(temporary)
        sound = [at(name, options, directory / name) for name in names]
    return 0 if all(sound) else 1


def asked_for() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="A run in which everything goes wrong.")
    parser.add_argument("--place", choices=[*PLACES, "all"], default="all")
    parser.add_argument("--seconds", type=float, help="how long things go wrong at each place")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the faults; default: any")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where what was recorded is kept")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where figures and a timeline are written")
    parser.add_argument("--bug", default=os.environ.get("REDSET_CHAOS_BUG"), help="a seeded bug, which must be found")
    return parser.parse_args()


def at(name: str, options: argparse.Namespace, directory: Path) -> bool:
    """Runs at one place; whether all holds."""
    seconds = options.seconds or SECONDS[name]
    if directory.exists():
        sys.exit(f"{directory} is there already")
    directory.mkdir(parents=True)
    console.print(f"[bold]{name}[/], seed {options.seed}: things go wrong for {seconds:g} s")
    began = time.monotonic()
    place = PLACES[name]()
    try:
        history = run(place, seconds, options.seed, directory, bug=options.bug)
    finally:
        place.stop()
    console.print(f"{len(history.calls)} calls in {time.monotonic() - began:.0f} s")
    console.print(calls_of(history), faults_of(history))
    return True


def calls_of(history: History) -> Table:
    table = Table("calls", "ok", "refused", "unknown", box=box.SIMPLE_HEAD)
    counts = Counter((call.name, call.outcome) for call in history.calls)
    for name in sorted({call.name for call in history.calls}):
        table.add_row(name, *(str(counts[name, outcome]) for outcome in ("ok", "refused", "unknown")))
    return table


def faults_of(history: History) -> Table:
    table = Table("faults", "times", "seconds", box=box.SIMPLE_HEAD)
    for name in sorted({fault.name for fault in history.faults}):
        faults = [fault for fault in history.faults if fault.name == name]
        table.add_row(name, str(len(faults)), f"{sum(fault.ended - fault.began for fault in faults):.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
