"""The command line, called as a user calls it: in this process, or as a process of its own."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redset.cli import main
from servers import Place, Server

__all__ = ("Console", "Done", "children_of", "own_console")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON objects that it has printed."""
        return [json.loads(line) for line in self.lines]


class Console:
    """Calls ``redset`` for one server.

    :param url: of the server; None for the one of the environment.
    """

    def __init__(self, url: str | None, patch: pytest.MonkeyPatch, capture: Any) -> None:
        self.url = url
        self._patch = patch
        self._capture = capture
        # What is started often should be compiled once.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        if url is not None:
            patch.setenv("REDSET_URL", url)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run a command in this process: it starts at once, and is measured."""
        self._capture.readouterr()
        self._patch.setattr(sys, "argv", ["redset", *arguments])
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capture.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else int(code is not None), out, err.decode())

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process, in a session of its own unless ``options`` of Popen say otherwise."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-m", "redset", *arguments], start_new_session=True, **{**pipes, **options}
        )

    def run(self, *arguments: str, stdin: bytes | None = None, **options: Any) -> Done:
        """Run a process to its end."""
        feed = {} if stdin is None else {"stdin": subprocess.PIPE}
        with self.start(*arguments, **feed, **options) as process:
            out, err = process.communicate(stdin, timeout=60)
        return Done(process.returncode, out or b"", (err or b"").decode())


@pytest.fixture(name="redset")
def own_console(here: Place, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Console:
    """The command line, on the server of the test: ``redset("add", "jobs", "read")``."""
    if not isinstance(here, Server):
        pytest.skip("the command line connects to a single server")
    return Console(here.url, monkeypatch, capfdbinary)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, more = [], [pid]
    while more:
        more = [child for child, parent in parents.items() if parent in more]
        found += more
    return [child for child in found if child != os.getpid()]
