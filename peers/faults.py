"""The same faults for redset and for other libraries, each in the setting it documents for when nothing may be lost.

Usage: python peers/faults.py [options] [NAME ...] [kill] [cut] [restart]

Producers enqueue items one by one while workers, each a process, work on them, and for some seconds

- kill: workers are killed (SIGKILL), with all that they started, and others started in their place;
- cut: connections of producers and workers are cut after the server did what it was told, before the reply arrives;
- restart: the server is killed (SIGKILL) and started again. It stores every command before it replies
  (``appendonly yes``, ``appendfsync always``).

Then nothing is disturbed any more until nothing has happened for longer than the library takes to bring back what was
in the hands of a worker that is gone. A worker that ends by itself is started again, as by a supervisor. All is judged
by a history that the handlers write: an item was acknowledged to its producer, begun, finished.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catalogue import PEERS, Peer, named
from cutting import Cutting
from environments import Unavailable, command
from histories import Verdict, judge

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import redis

from servers import PROGRAMS, Server, free_port

ROOT = Path(__file__).resolve().parent.parent

COLUMNS = "{:<24} {:<8} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>8} {:>7}"
#: One of its own: several runs side by side, each from the same seed, are not to look for the same ports.
CHANCE = random.Random()
HEADS = ("", "fault", "faults", "added", "unsure", "lost", "left", "twice", "at once", "ended")


@dataclass(frozen=True)
class Run:
    """One library under one kind of fault."""

    peer: Peer
    way: str
    fault: str
    options: argparse.Namespace

    @property
    def name(self) -> str:
        return f"{self.peer.name}:{self.way}" if self.way else self.peer.name


class Workers:
    """Processes of a library's workers, which are kept at their number."""

    def __init__(self, run: Run, url: str, file: Path) -> None:
        self._run = run
        self._url = url
        self._file = file
        self._processes = [self._started() for _ in range(run.options.workers)]
        #: How many ended by themselves.
        self.ended = 0

    def kill_one(self) -> None:
        number = CHANCE.randrange(len(self._processes))
        _kill(self._processes[number], self._file)
        self._processes[number] = self._started()

    def replace_what_ended(self) -> None:
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                self.ended += 1
                _kill(process, self._file)
                self._processes[number] = self._started()

    def stop(self) -> None:
        for process in self._processes:
            _kill(process, self._file)

    def _started(self) -> "subprocess.Popen[bytes]":
        return _start(self._run, "work", self._url, self._file, "--seconds", str(self._run.options.work))


class Producer:
    """A process that enqueues one item after the other. When it ends before the last, another goes on from there."""

    def __init__(self, run: Run, url: str, file: Path) -> None:
        self._run = run
        self._url = url
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None
        #: How often it ended by itself before it was done.
        self.ended = -1

    def is_at_work(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def go_on(self) -> None:
        if self.is_at_work():
            return
        options = self._run.options
        # The first was there before.
        begun = self._file.read_text().count("adding ") - 1
        if begun < options.items:
            self.ended += 1
            paced = ("--first", str(begun), "--count", str(options.items - begun))
            pause = ("--pause", str(options.seconds / options.items))
            self._process = _start(self._run, "produce-one", self._url, self._file, *paced, *pause)

    def stop(self) -> None:
        if self._process:
            _kill(self._process, self._file)


def main() -> None:
    options = _options()
    CHANCE.seed(options.seed)
    found = _found_before(options.json)
    print(COLUMNS.format(*HEADS), flush=True)
    for run in _runs(options):
        try:
            verdict, counted = _carry_out(run)
            line = _described(run) | counted | asdict(verdict)
        except Unavailable as unavailable:
            line = _described(run) | {"missing": str(unavailable)}
        found[line["name"], line["fault"]] = line
        print(_printed(line), flush=True)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            told = {"options": _told(options), "machine": _machine(), "lines": list(found.values())}
            options.json.write_text(json.dumps(told, indent=1))


def _found_before(path: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    """What stands in the file already: what is run anew takes its place, and the rest stays."""
    lines = json.loads(path.read_text())["lines"] if path and path.exists() else []
    return {(line["name"], line["fault"]): line for line in lines}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="NAME or fault", help="libraries and faults (all)")
    parser.add_argument("--items", type=int, default=400, help="enqueued while it goes wrong (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="processes (%(default)s)")
    parser.add_argument("--work", type=float, default=0.05, help="seconds of work on each item (%(default)s)")
    parser.add_argument("--seconds", type=float, default=16, help="of faults (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of chance (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put what is found there, and leave the rest")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the histories there")
    return parser.parse_args()


def _runs(options: argparse.Namespace) -> Iterator[Run]:
    faults = [word for word in options.which if word in FAULTS] or list(FAULTS)
    names = [word for word in options.which if word not in FAULTS] or [*PEERS, "redset:reserve", "redset:aio-consume"]
    for name in names:
        for fault in faults:
            yield Run(*named(name), fault, options)


def _machine() -> str:
    server = PROGRAMS["valkey-9.1"].version
    return f"valkey {server}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"


def _told(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in {"json", "keep", "which"}}


# A run


def _carry_out(run: Run) -> tuple[Verdict, dict[str, int]]:
    with tempfile.TemporaryDirectory(prefix="redset-faults-") as folder:
        file = (run.options.keep or Path(folder)) / f"{run.name}-{run.fault}".replace(":", "-")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        server = Server(port=free_port(), appendonly="yes", appendfsync="always")
        try:
            with Cutting(server.port, often=5, seed=run.options.seed) as proxy:
                counted = _work_amid_faults(run, server, proxy, file)
            left = _what_is_left(server)
            file.with_suffix(".left").write_text(left)
            return judge(file.read_text(), left), counted
        finally:
            server.kill()


def _work_amid_faults(run: Run, server: Server, proxy: Cutting, file: Path) -> dict[str, int]:
    url = f"redis://127.0.0.1:{proxy.port if run.fault == 'cut' else server.port}"
    _begin_with_one(run, url, file)
    workers, producer = Workers(run, url, file), Producer(run, url, file)
    try:
        _wait_until(lambda: "\nbegin " in file.read_text(), 60)
        producer.go_on()

        def supervise() -> None:
            workers.replace_what_ended()
            producer.go_on()

        faults = FAULTS[run.fault](server, proxy, workers, supervise, run.options.seconds)
        _wait_until_quiet(run, producer, supervise, file)
        return {"faults": faults, "ended": workers.ended, "producers_ended": producer.ended}
    finally:
        producer.stop()
        workers.stop()


def _begin_with_one(run: Run, url: str, file: Path) -> None:
    """It creates what a worker may need to find, and shows when the first worker is there."""
    _start(run, "produce-one", url, file, "--count", "1", "--first", "99999999").wait(60)


def _wait_until_quiet(run: Run, producer: Producer, supervise: Callable[[], None], file: Path) -> None:
    """Until nothing has happened for as long as the library may take to bring something back, and not for ever."""
    deadline = time.monotonic() + 4 * run.peer.patience + 60
    size, since = 0, time.monotonic()
    while time.monotonic() - since < run.peer.patience and time.monotonic() < deadline:
        time.sleep(0.2)
        supervise()
        if (now := file.stat().st_size) != size or producer.is_at_work():
            size, since = now, time.monotonic()


# What goes wrong; each returns how often it did.

Supervise = Callable[[], None]


def _kill_workers(_server: Server, _proxy: Cutting, workers: Workers, supervise: Supervise, seconds: float) -> int:
    def kill_one() -> None:
        workers.kill_one()
        supervise()

    return _again_and_again(kill_one, seconds, every=1.5)


def _cut_replies(_server: Server, proxy: Cutting, _workers: Workers, supervise: Supervise, seconds: float) -> int:
    proxy.begin()
    _again_and_again(supervise, seconds, every=0.2)
    proxy.end()
    return proxy.cuts


def _restart_server(server: Server, _proxy: Cutting, _workers: Workers, supervise: Supervise, seconds: float) -> int:
    def restart() -> None:
        server.kill()
        time.sleep(CHANCE.uniform(0.1, 0.5))
        server.start()
        supervise()

    return _again_and_again(restart, seconds, every=3)


def _again_and_again(fault: Callable[[], None], seconds: float, every: float) -> int:
    number, over = 0, time.monotonic() + seconds
    while time.monotonic() + every < over:
        time.sleep(CHANCE.uniform(0.5, 1.5) * every)
        fault()
        number += 1
    return number


FAULTS = {"kill": _kill_workers, "cut": _cut_replies, "restart": _restart_server}


# Processes


def _start(run: Run, role: str, url: str, file: Path, *options: str) -> "subprocess.Popen[bytes]":
    words = command(run.peer, role, url, "--reliable", "--way", run.way, "--history", str(file), *options)
    with file.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            start_new_session=True,
        )


def _kill(process: "subprocess.Popen[bytes]", file: Path) -> None:
    """Ends it and all that it started, and puts down that they ended now."""
    pids = list(_with_descendants(process.pid))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    with file.open("a") as history:
        history.writelines(f"killed - 0 {pid} {time.monotonic():.6f}\n" for pid in pids)


def _with_descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may have any character in it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        yield each
        found += children.get(each, [])


def _wait_until(is_so: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            raise Unavailable(f"no worker has begun anything after {patience:.0f} s")
        time.sleep(0.05)


# What the server still has


def _what_is_left(server: Server) -> str:
    """All that is on it, whatever the library calls it."""
    with redis.Redis.from_url(server.url) as client:
        return "\n".join(f"{key!r} {_value(client, key)!r}" for key in client.scan_iter(count=1000))


def _value(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    if kind == b"stream":
        return _undone(client, key)
    read = {b"string": "GET", b"list": "LRANGE", b"hash": "HGETALL", b"set": "SMEMBERS", b"zset": "ZRANGE"}[kind]
    return client.execute_command(read, key, *((0, -1) if kind in {b"list", b"zset"} else ()))


def _undone(client: Any, key: bytes) -> list[Any]:
    """Of a stream what no group is done with: what is acknowledged may stay in it."""
    entries = dict(client.xrange(key))
    left = []
    for group in client.xinfo_groups(key):
        pending = {each["message_id"] for each in client.xpending_range(key, group["name"], "-", "+", 100_000)}
        new = {identity for identity, _ in client.xrange(key, min=b"(" + group["last-delivered-id"])}
        left += [entries[identity] for identity in pending | new if identity in entries]
    return left or ([] if client.xinfo_groups(key) else list(entries.values()))


# What is told


def _described(run: Run) -> dict[str, Any]:
    peer = run.peer
    return {
        "name": run.name,
        "fault": run.fault,
        "version": peer.version,
        "setting": peer.setting(run.way),
        "delivery": peer.delivery,
        "duplicates": peer.duplicates,
        "documentation": peer.documentation,
        "command": f"python peers/faults.py {run.name} {run.fault}",
    }


def _printed(line: dict[str, Any]) -> str:
    if "missing" in line:
        return f"{line['name']:<24} {line['fault']:<8} {line['missing']}"
    lost = line["lost_never_begun"] + line["lost_begun"]
    numbers = (line["faults"], line["acknowledged"], line["unsure"], lost, line["left"], line["twice"])
    return COLUMNS.format(line["name"], line["fault"], *numbers, line["at_once"], line["ended"])


if __name__ == "__main__":
    main()
