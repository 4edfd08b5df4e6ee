"""Runs the conformance part of the suite on every server and with every kind of client; and tests with old packages.

A program, no test: ``make matrix``. Says what it had to leave out and why, and ends with the sum of all runs.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from servers import PROGRAMS, Unavailable

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "build" / "matrix"
PYTEST = [sys.executable, "-m", "pytest", "-m", "conformance and not soak", "--numprocesses=4", "--dist=worksteal"]
NOX = [sys.executable, "-m", "nox", "--session"]
#: Every server and every kind of client, in as few pairs as that takes.
PAIRS = (
    ("valkey-9.1", "redis-resp3"),
    ("valkey-9.1", "valkey-decode"),
    ("valkey-8.1", "valkey"),
    ("redis-6.2", "redis-decode"),
    ("redis-7.0", "redis-resp2"),
    ("redis-8.2", "redis-decode-resp3"),
    ("redis-8.2", "valkey-resp3"),
    ("cluster", "redis"),
    ("fakeredis", "redis"),
    # A client of one's own; see docs/howto/client-libraries.md.
    ("valkey-9.1", "thirty-lines"),
)


@dataclass(frozen=True)
class Run:
    """One run of pytest."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return REPORTS / f"{self.name.replace(' ', '-')}.xml"


def main() -> int:
    started = time.monotonic()
    shutil.rmtree(REPORTS, ignore_errors=True)
    total: Counter[str] = Counter()
    for run in runs():
        total += result_of(run)
    print_closing(total, time.monotonic() - started)
    return 1 if total["failed"] or total["error"] else 0


def runs() -> Iterator[Run]:
    """What is tested beside what ``make test`` does: that server and that client."""
    for server, client in PAIRS:
        if is_to_be_had(server):
            yield Run(f"{server} {client}", PYTEST, {"REDSET_TEST_SERVER": server, "REDSET_TEST_CLIENT": client})
    # tests/over_shards.py lists the differences.
    yield Run("4 shards", PYTEST, {"REDSET_TEST_SHARDS": "4"})
    # As Dragonfly, which has Lua 5.4.
    yield Run("fakeredis lua-5.4", PYTEST, {"REDSET_TEST_SERVER": "fakeredis", "FAKEREDIS_LUA_VERSION": "5.4"})
    yield Run("oldest redis-py", [*NOX, "oldest", "--"])
    yield Run("oldest redis-py decode", [*NOX, "oldest", "--"], {"REDSET_TEST_CLIENT": "redis-decode"})
    yield Run("oldest Scrapy", [*NOX, "oldest_scrapy", "--"])


def is_to_be_had(server: str) -> bool:
    try:
        if server in PROGRAMS:
            PROGRAMS[server].find()
    except Unavailable as reason:
        print(f"{server}: left out: {reason}", flush=True)
        return False
    return True


def result_of(run: Run) -> Counter[str]:
    """Runs it; prints its closing line, or all that it said when it did not end well."""
    done = subprocess.run(
        [*run.command, "--quiet", "--tb=short", f"--junitxml={run.report}"],
        cwd=ROOT,
        env=os.environ | run.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
    if not run.report.exists():
        return without_report(run, done.returncode, done.stdout)
    result = counted(run.report)
    # Broken off, or nothing to run.
    if done.returncode and not result["failed"]:
        result["error"] += 1
    print(f"{run.name}: {in_words(result)}", flush=True)
    return result


def without_report(run: Run, code: int, said: str) -> Counter[str]:
    if code == 0:
        print(f"{run.name}: left out: {said.strip().splitlines()[-1]}", flush=True)
        return Counter()
    print(f"{run.name}: did not get as far as its tests", flush=True)
    return Counter(error=1)


def counted(report: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):
        number = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        found["failed"] += number["failures"]
        found["error"] += number["errors"]
        found["skipped"] += number["skipped"]
        found["passed"] += number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    return found


def print_closing(total: Counter[str], seconds: float) -> None:
    """As pytest does it."""
    print(f" {in_words(total)} in {seconds:.2f}s ".center(80, "="), flush=True)


def in_words(result: Counter[str]) -> str:
    return ", ".join(f"{result[name]} {name}" for name in ("failed", "passed", "skipped", "error") if result[name])


if __name__ == "__main__":
    sys.exit(main())
