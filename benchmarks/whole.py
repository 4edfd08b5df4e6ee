"""All benchmarks, one after the other, and what comes of them: one JSON, and tables and plots for the documentation.

Usage: python benchmarks/whole.py [--quick] [--sections ratios,tasks] [--docs FOLDER]

Each section is a script that can be run by itself; its command stands below its table. Those in which round trips
matter run twice: on loopback, and half a millisecond away. The whole takes less than half an hour on two cores with
nothing else to do, ``--quick`` a few minutes, with wide spreads.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from conditions import ROOT

__all__ = ("DISTANCE", "SECTIONS")

Size = Literal["full", "quick", "tiny"]

#: Milliseconds there and back: between two machines of one data centre.
DISTANCE = "0.5"

ONE_BY_ONE = ("add", "pop", "reserve-ack", "consume", "in")
IN_BULK = ("update-1000", "take-100", "take-1000", "reserve-ack-100", "consume-100")
LOOKING = ("index", "at", "len", "iterate-5000")
EXPIRING = ("seen-add", "add-new-1000", "add-known-1000", "seen-contains-1000")
BESIDE_ITSELF = (
    *("retry-add", "retry-pop", "retry-take-1000"),
    *("keyed-add", "keyed-pop", "keyed-take-1000"),
    *("remember-take-1", "remember-take-1000"),
    *("periodic-add", "periodic-pop", "periodic-take-1000"),
)


@dataclass(frozen=True)
class Section:
    script: str
    #: What the script is told, for each size of a run: on loopback, and at a distance where that is of interest.
    near: dict[Size, str]
    far: dict[Size, str]
    #: Whether it belongs to a run of all sections.
    by_default: bool = True


def _plain(*names: str) -> str:
    return " ".join(f"{name}/plain" for name in names)


RATIOS = _plain(*ONE_BY_ONE, *IN_BULK, "pop-due", "pop-due-script", *LOOKING, *EXPIRING, *BESIDE_ITSELF)
FAR_RATIOS = _plain(*(f"{name}/time" for name in (*ONE_BY_ONE, *IN_BULK)))

SECTIONS = {
    "ratios": Section(
        "run.py",
        near={
            "full": f"{RATIOS} --rounds 9",
            "quick": f"{FAR_RATIOS} --rounds 3",
            "tiny": "take-100/time/plain --rounds 1",
        },
        far={
            "full": f"{FAR_RATIOS} --rounds 5",
            "quick": f"{FAR_RATIOS} --rounds 2",
            "tiny": "take-100/time/plain --rounds 1",
        },
    ),
    "tasks": Section(
        "tasks.py",
        near={"full": "--rounds 5", "quick": "--rounds 3 --calls 120", "tiny": "pop --tasks 2 --calls 20 --rounds 1"},
        far={"full": "--rounds 3", "quick": "--rounds 2 --calls 60"},
    ),
    "latency": Section(
        "waiting.py",
        near={
            "full": "--samples 0.1 --rounds 3",
            "quick": "--samples 0.04",
            "tiny": "blocking/pop --samples 0.001",
        },
        far={"full": "--samples 0.1 --rounds 3", "quick": "--samples 0.04"},
    ),
    "idle": Section(
        "idle.py",
        near={
            "full": "--consumers 1,50,1000 --samples 20",
            "quick": "--consumers 1,200 --seconds 2 --samples 10",
            "tiny": "--consumers 1,5 --seconds 0.5 --samples 1",
        },
        far={},
    ),
    "costs": Section(
        "costs.py",
        near={"full": "--rounds 3", "quick": "--rounds 1 --items 1000", "tiny": "--rounds 1 --items 20"},
        far={},
    ),
    "totals": Section(
        "totals.py",
        near={
            "full": "--rounds 15",
            "quick": "--rounds 3 --items 500",
            "tiny": "--rounds 1 --items 20",
        },
        far={},
    ),
    "memory": Section("memory.py", near={"full": "", "quick": "--items 20000", "tiny": "--items 500"}, far={}),
    "consumers": Section(
        "consumers.py",
        near={
            "full": "--rounds 3",
            "quick": "--rounds 1 --items 2000 --bulk-items 20000",
            "tiny": "--rounds 1 --items 1000 --bulk-items 10000 --processes 1,2",
        },
        far={"full": "--rounds 3", "quick": "--rounds 1 --items 2000 --bulk-items 20000"},
    ),
    "growth": Section(
        "growth.py",
        near={
            "full": "--rounds 9",
            "quick": "--large 300000 --rounds 5",
            "tiny": "--small 100 --large 1000 --rounds 2",
        },
        far={},
    ),
    "grouping": Section(
        "grouping.py",
        near={
            "full": "--rounds 9",
            "quick": "--rounds 3 --large 100000 --groups 100,10000",
            "tiny": "--rounds 1 --items 2000 --large 2000 --groups 10,100",
        },
        far={},
    ),
    "fairness": Section(
        "fairness.py",
        near={"full": "", "quick": "--flood 400", "tiny": "--flood 40"},
        far={},
    ),
    "sharding": Section(
        "sharding.py",
        near={
            "full": "--rounds 5 --items 4000",
            "quick": "--rounds 2 --items 2000 --seconds 4",
            "tiny": "--rounds 1 --items 300 --seconds 1 --consumers 1",
        },
        far={},
    ),
    "overhead": Section(
        "overhead.py",
        near={
            "full": "--rounds 15",
            "quick": "--rounds 3",
            "tiny": "--rounds 1 --items 20",
        },
        far={},
    ),
    "order": Section(
        "order.py",
        near={
            "full": "--rounds 3",
            "quick": "--rounds 1 --items 10000 --simulated 50000",
            "tiny": "--rounds 1 --items 1000 --simulated 2000 --shards 16",
        },
        far={},
    ),
    "fleet": Section(
        "fleet.py",
        near={
            "full": "",
            "quick": "--claims 200000",
            "tiny": "--nodes 4 --shards 8 --consumers 50 --waiting 1000 --claims 3000",
        },
        far={},
    ),
    "crawling": Section(
        "crawling.py",
        near={
            "full": "--rounds 5",
            "quick": "--rounds 1 --pages 500",
            "tiny": "--rounds 1 --pages 20 --hosts 2",
        },
        far={},
    ),
    "endurance": Section(
        "endurance.py",
        near={"full": "--minutes 60", "quick": "--minutes 10", "tiny": "--minutes 1"},
        far={},
        by_default=False,  # it takes an hour
    ),
    "peers": Section(
        "peers.py",
        near={"full": "--rounds 2", "quick": "--quick"},
        far={"full": "--quick", "quick": "--quick"},
    ),
}


def main() -> None:
    options = _options()
    started = time.perf_counter()
    path = options.docs / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if options.sections and path.exists() else {}
    failed = []
    for name, command in _commands(options):
        measured = _run(name, command)
        if measured is None:
            failed.append(name)
        else:
            results[name] = measured
            path.write_text(json.dumps(results))
    print(f"\n{path}, after {time.perf_counter() - started:.0f} s", flush=True)
    # In a process of its own, as all that measures: what it needs is no business of theirs.
    subprocess.run([sys.executable, ROOT / "benchmarks" / "report.py", path], check=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "quick", "tiny"), default="full", help="how much (%(default)s)")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="the same as --size quick")
    parser.add_argument("--sections", help=f"of {','.join(SECTIONS)}; by default all but endurance")
    parser.add_argument(
        "--docs",
        type=Path,
        default=ROOT / "docs" / "benchmarks",
        metavar="FOLDER",
        help="where results.json, tables and plots go (docs/benchmarks)",
    )
    return parser.parse_args()


def _commands(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """The runs that make up the whole, each by its name."""
    default = ",".join(name for name, section in SECTIONS.items() if section.by_default)
    for name in (options.sections or default).split(","):
        section = SECTIONS[name]
        for run, arguments, distance in (
            (name, section.near, []),
            (f"{name}-far", section.far, ["--distance", DISTANCE]),
        ):
            if options.size in arguments:
                yield run, [f"benchmarks/{section.script}", *arguments[options.size].split(), *distance]


def _run(name: str, command: list[str]) -> dict[str, Any] | None:
    """What the script has measured; None when it failed."""
    print(f"\n# {name}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "measured.json")
        done = subprocess.run([sys.executable, *command, "--json", written], cwd=ROOT, check=False)
        measured: dict[str, Any] | None = json.loads(written.read_text()) if not done.returncode else None
        return measured


if __name__ == "__main__":
    main()
