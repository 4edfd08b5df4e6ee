"""A home directory of a test's own, and so an embedded server of its own, which ends with the test."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from redset import embedded

__all__ = ("lasting_keys", "own_home", "python", "until")


@pytest.fixture(name="home")
def own_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the embedded server keeps its data; not under tmp_path, whose length would not leave room for a socket."""
    root = Path(tempfile.mkdtemp(prefix="redset-"))
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("XDG_DATA_HOME", str(root / "data"))
    monkeypatch.delenv("REDSET_URL", raising=False)
    yield root / "data" / "redset"
    monkeypatch.undo()
    for lock in root.rglob("server.lock"):
        if lock.is_file() and embedded._runs(lock.parent):
            os.kill(int((lock.parent / "server.pid").read_text()), signal.SIGKILL)
    shutil.rmtree(root)


def python(*arguments: str, stdin: int | IO[str] = subprocess.PIPE, **environment: str) -> "subprocess.Popen[str]":
    """A Python in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | environment,
        start_new_session=True,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def lasting_keys(client: Any) -> list[Any]:
    """The keys that do not go away by themselves, as the records of finished calls do."""
    return [key for key in client.keys("*") if client.ttl(key) == -1]


def until(true: Callable[[], bool], timeout: float = 60.0) -> None:
    """Returns when it is true."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
