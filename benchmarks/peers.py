"""redset beside the libraries that a user would pick instead: jobs that take no time, enqueued and worked off.

Usage: python benchmarks/peers.py [options] [NAME ...]      names as in peers/catalogue.py: rq, taskiq:stream

Each library is used in its fastest documented way, or with ``--reliable`` in the way it calls for when nothing may be
lost, by one producer and one worker, each sample in a process of its own with the library's own Python; what takes
part is installed when it is needed. Rounds are interleaved. A worker's time goes from the begin of the first job to the
end of the last; its start is left out. Lines of the JSON::

    {"name": "rq", "way": "", "version": "3.0.0", "used_as": "SimpleWorker …", "bulk": "enqueue_many of 1000",
     "produce": 9571.2, "produce_low": …, "produce_high": …,       jobs/s, many at a time: median, and spread
     "produce_one": …, "work": …,                                  one by one; by one worker; with the same two
     "rounds": {"produce": [9571.2, …], …},                        what these are of
     "enqueued": {"sent": 4, "run": 4, "bytes_in": …, "bytes_out": …, "cpu_us": …},      per job, one by one
     "worked": {the same},       commands that clients send, and all that ran, those of scripts included
     "memory": …,                bytes per waiting job
     "latency_samples": …, "latency_p50_ms": …, "latency_p99_ms": …,    from before it is enqueued to its begin
     "does": …, "delivery_as_timed": …, "delivery": …,             what it does and promises for its time: in the
     "duplicates": …, "documentation": …}                          setting that is timed, and in the reliable one

or ``{"name": …, "way": …, "version": …, "missing": why}``. What the ways of one library have in common stands with the
first of them.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import redis
from conditions import ROOT, Table, arguments, conditions, place, report
from costs import Costs
from measure import spread

# isort: split
# Only now: conditions.py has made their folder known.
from catalogue import PEERS, Peer, named
from environments import Unavailable, command

COLUMNS = {
    "": "<24",
    "bulk/s": ">9",
    "one/s": ">8",
    "work/s": ">9",
    "low..high": ">18",
    "p50_ms": ">8",
    "p99_ms": ">8",
    "sent": ">6",
    "run": ">6",
    "cpu_us": ">7",
    "memory": ">7",
}
#: How many jobs of each are enqueued and worked off at first, to see how many make a sample.
FEW = 200
MOST = 200_000
#: Seconds that a process may take, beside those for which it is planned.
PATIENCE = 90.0
#: Of a connection, and no matter of jobs.
CONNECTING = {"AUTH", "CLIENT", "COMMAND", "CONFIG", "FUNCTION", "HELLO", "INFO", "MONITOR", "PING", "SCRIPT", "SELECT"}


class Failed(Exception):
    """A peer that did not do what it was asked for; the message says what it said."""


@dataclass
class Line:
    """What is measured of one library in one way."""

    peer: Peer
    way: str
    #: Whether it enqueues as another line does that is measured already.
    works_only: bool
    missing: str = ""
    #: How many jobs make a sample of each role.
    counts: dict[str, int] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    costs: dict[str, list[Costs]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, float] = field(default_factory=dict)
    memory: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.peer.name} {self.way}".strip()

    @property
    def roles(self) -> tuple[str, ...]:
        return ("produce", "work") if self.works_only else ("produce-one", "produce", "work")


@dataclass
class Bench:
    """Where the samples are taken."""

    #: The server's url for what is measured, which may lead through a proxy, and a client of the server itself.
    url: str
    control: Any
    #: How many seconds a sample is to take.
    seconds: float
    reliable: bool

    def sample(self, line: Line, role: str, count: int) -> float:
        """Jobs in a second. Whoever produces begins with an empty server."""
        if role != "work":
            self.empty()
        before, memory = self.counted(), self.used_memory()
        seconds = self.seconds_of(line, role, count)
        line.costs[role].append((self.counted() - before).each(count))
        if role == "produce":
            line.memory.append((self.used_memory() - memory) / count)
        return count / seconds

    def seconds_of(self, line: Line, role: str, count: int) -> float:
        if role == "work" and self.reliable:
            return self.seconds_until_done(line, count)
        with self.process(line, role, "--count", str(count)) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                raise Failed(f"{role} of {count} jobs was not done after {PATIENCE:.0f} s") from None
        with contextlib.suppress(ValueError, LookupError):
            return float(json.loads(out.strip().splitlines()[-1])["seconds"])
        raise Failed(f"{role}: {_last_line(err)}")

    def seconds_until_done(self, line: Line, count: int) -> float:
        """By the history: in a setting with processes of its own for the jobs, none of them knows how many are done."""
        with history() as file, self.process(line, "work", "--history", str(file)):
            times = _wait_for(file, "end", count)
            return max(times) - min(_times(file, "begin").values())

    @contextlib.contextmanager
    def process(self, line: Line, role: str, *options: str) -> Iterator["subprocess.Popen[str]"]:
        """An adapter at work, with whatever it starts; it ends with the block at the latest."""
        words = command(line.peer, role, self.url, "--way", line.way, *options)
        process = subprocess.Popen(
            [*words, "--reliable"] if self.reliable else words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def empty(self) -> None:
        self.control.execute_command("FLUSHALL", "SYNC")

    def counted(self) -> Costs:
        # What is sent, only a monitor can tell: it is asked once, since it slows the server down.
        return Costs.now(SimpleNamespace(sent=0), self.control)  # type: ignore[arg-type]

    def used_memory(self) -> int:
        return int(self.control.info("memory")["used_memory"])


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (all, in all their ways)")
    parser.add_argument("--quick", action="store_true", help="one round of short samples")
    parser.add_argument("--reliable", action="store_true", help="the reliable settings instead of the fastest")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    with place(options) as url, redis.Redis.from_url(options.loopback) as control:
        bench = Bench(url, control, 0.3 if options.quick else 1.0, options.reliable)
        told = conditions(options, url)
        lines = _lines(options)
        _measure(bench, lines, options)
        table = Table(told, **COLUMNS)
        for line in lines:
            table.line(*_cells(line))
        report(options, told, [_as_json(line, options) for line in lines])


def _lines(options: argparse.Namespace) -> list[Line]:
    chosen = [named(name) if ":" in name else (PEERS[name], "") for name in options.names or PEERS]
    lines = []
    for peer, wanted in chosen:
        ways = (wanted,) if wanted else peer.ways[:1] if options.reliable else peer.ways
        # A stream and a list are filled differently; redset's ways, and those of the bare client, alike.
        lines += [Line(peer, way, works_only=peer.name in {"bare", "redset"} and way != ways[0]) for way in ways]
    return lines


def _measure(bench: Bench, lines: list[Line], options: argparse.Namespace) -> None:
    def each(measure: Any, order: int = 1) -> None:
        for line in lines[::order]:
            if line.missing:
                continue
            try:
                measure(bench, line)
            except (Unavailable, Failed) as failed:
                line.missing = str(failed)
                print(f"{line.name}: {failed}", file=sys.stderr, flush=True)

    each(_find_counts)
    for number in range(options.rounds):
        each(_measure_once, -1 if number % 2 else 1)
    each(_watch_commands)
    each(_measure_latency_quickly if options.quick else _measure_latency)


def _find_counts(bench: Bench, line: Line) -> None:
    for role in line.roles:
        rate = bench.sample(line, role, FEW)
        line.counts[role] = int(min(MOST, max(FEW, rate * bench.seconds)))
    # What is not there cannot be worked off.
    line.counts["produce"] = max(line.counts["produce"], line.counts["work"])
    line.costs.clear()
    line.memory.clear()


def _measure_once(bench: Bench, line: Line) -> None:
    for role in line.roles:
        line.rates[role].append(bench.sample(line, role, line.counts[role]))


def _watch_commands(bench: Bench, line: Line) -> None:
    """How many commands are sent, beside those that scripts run: only a monitor tells them apart."""
    for role in line.roles[-2:] if line.works_only else ("produce-one", "work"):
        if role != "work":
            bench.empty()
        with bench.control.monitor() as monitor:
            seen = Counter[bool]()
            watcher = threading.Thread(target=_watch, args=(monitor, seen))
            watcher.start()
            bench.seconds_of(line, role, FEW)
            bench.control.echo("over")
            watcher.join()
        line.sent[role] = seen[False] / FEW


def _watch(monitor: Any, seen: "Counter[bool]") -> None:
    for event in monitor.listen():
        name = event["command"].partition(" ")[0].upper()
        if name == "ECHO":
            return
        if name not in CONNECTING:
            seen[event["client_type"] == "lua"] += 1


def _measure_latency(bench: Bench, line: Line, jobs: int = 200) -> None:
    """From before a job is enqueued until a worker that was waiting begins it."""
    bench.empty()
    with history() as file:
        histories = ("--history", str(file))
        # It creates what a worker may need to find, and shows when the worker is there.
        with bench.process(line, "produce-one", "--count", "5", "--first", str(MOST), *histories) as first:
            first.wait(PATIENCE)
        with bench.process(line, "work", *histories):
            _wait_for(file, "begin", 5)
            paced = ("--count", str(jobs), "--pause", "0.02", *histories)
            with bench.process(line, "produce-one", *paced) as producer:
                producer.wait(PATIENCE)
            _wait_for(file, "begin", 5 + jobs)
        adding, begun = _times(file, "adding"), _times(file, "begin")
    timed = [item for item in adding if int(item.rpartition("-")[2]) < MOST]
    line.late += sorted(1000 * (begun[item] - adding[item]) for item in timed)


def _measure_latency_quickly(bench: Bench, line: Line) -> None:
    _measure_latency(bench, line, jobs=40)


# Histories, which the adapters write


@contextlib.contextmanager
def history() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="redset-bench-") as folder:
        yield Path(folder, "history")


def _times(file: Path, event: str) -> dict[str, float]:
    """When it first happened to each item."""
    times: dict[str, float] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        what, item, _, _, moment = line.split()
        if what == event:
            times.setdefault(item, float(moment))
    return times


def _wait_for(file: Path, event: str, number: int) -> list[float]:
    deadline = time.monotonic() + PATIENCE
    while len(times := _times(file, event)) < number:
        if time.monotonic() > deadline:
            raise Failed(f"only {len(times)} of {number} jobs came to their {event} in {PATIENCE:.0f} s")
        time.sleep(0.1)
    return list(times.values())


def _last_line(said: str) -> str:
    return (said.strip() or "nothing was said").splitlines()[-1]


# What is told


def _p99(late: list[float]) -> float:
    return late[min(len(late) - 1, int(0.99 * len(late)))]


def _costs(line: Line, role: str) -> dict[str, float]:
    rounds = line.costs[role]
    costs = {what: statistics.median(getattr(each, what) for each in rounds) for what in vars(rounds[0])}
    return costs | {"sent": line.sent[role]}


def _cells(line: Line) -> tuple[str, ...]:
    if line.missing:
        return line.name, line.missing
    rates = {role: f"{statistics.median(rates):,.0f}" for role, rates in line.rates.items()}
    low, high = spread(line.rates["work"])
    worked = _costs(line, "work")
    return (
        line.name,
        *("" if line.works_only else rates[role] for role in ("produce", "produce-one")),
        rates["work"],
        f"{low:,.0f}..{high:,.0f}",
        f"{statistics.median(line.late):.2f}",
        f"{_p99(line.late):.2f}",
        f"{worked['sent']:.2f}",
        f"{worked['run']:.2f}",
        f"{worked['cpu_us']:.1f}",
        f"{statistics.median(line.memory):.0f}",
    )


def _as_json(line: Line, options: argparse.Namespace) -> dict[str, Any]:
    peer = line.peer
    if line.missing:
        return {"name": peer.name, "way": line.way, "version": peer.version, "missing": line.missing}
    roles = ("work",) if line.works_only else line.roles
    rounds = {role.replace("-", "_"): line.rates[role] for role in roles}
    rates: dict[str, float] = {}
    for job, found in rounds.items():
        low, high = spread(found)
        rates |= {job: statistics.median(found), f"{job}_low": low, f"{job}_high": high}
    return {
        "name": peer.name,
        "way": line.way,
        "version": peer.version,
        "used_as": peer.setting(line.way) if options.reliable else peer.fast,
        "bulk": peer.bulk,
        **rates,
        "rounds": rounds,
        "enqueued": None if line.works_only else _costs(line, "produce-one"),
        "worked": _costs(line, "work"),
        "memory": statistics.median(line.memory),
        "latency_samples": len(line.late),
        "latency_p50_ms": statistics.median(line.late),
        "latency_p99_ms": _p99(line.late),
        "does": peer.also,
        "delivery_as_timed": peer.delivery if options.reliable else peer.fast_delivery,
        "delivery": peer.delivery,
        "duplicates": peer.duplicates,
        "documentation": peer.documentation,
    }


if __name__ == "__main__":
    main()
