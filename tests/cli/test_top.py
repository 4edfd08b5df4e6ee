"""The live table shows the sets with the greatest lag first, changes nothing, and leaves the terminal clean."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

import redset as library
from console import Console, own_console  # noqa: F401 # own_console is the fixture called redset
from servers import wait_until


@pytest.fixture
def sets(raw: Any) -> None:
    """Some with a lag, one that fails, one without times, one over shards."""
    library.ScheduledSet(raw, "late").add("a", score=time.time() - 600)
    library.TimeSortedSet(raw, "later").update("abc", score=time.time() - 3600)
    failing = library.SortedSet(raw, "failing")
    failing.add("a")
    failing.reserve().bury("broken")
    failing.limit(rate=10, leases=5)
    library.SortedSet(raw, "wide", shards=4).update("abcdefgh")
    library.ExpiringSet(raw, "seen", ttl=60).add("a")


@pytest.mark.usefixtures("sets")
def test_it_is_printed_once_where_there_is_no_terminal(redset: Console) -> None:
    shown = redset.run("top", env=os.environ | {"COLUMNS": "130"}).lines
    assert shown[0].strip() == "5 sets"
    assert [line.split()[0] for line in shown[2:]] == ["later", "late", "failing", "seen", "wide"]
    assert "starving" in shown[2]
    assert "10 in 1 s" in shown[4]
    assert shown[6].split()[1:3] == ["starving", "8"]


@pytest.mark.usefixtures("sets")
@pytest.mark.parametrize("columns", [20, 80, 200])
def test_a_line_is_never_wider_than_the_screen(redset: Console, columns: int) -> None:
    shown = redset.run("top", "--once", env=os.environ | {"COLUMNS": str(columns)}).lines
    assert len(shown) == 7
    assert all(len(line) <= columns for line in shown)
    assert [line.split()[0] for line in shown[2:]] == ["later", "late", "failing", "seen", "wide"]


@pytest.mark.usefixtures("sets")
def test_a_dumb_terminal_gets_it_once(redset: Console) -> None:
    ours, theirs = pty.openpty()
    with redset.start("top", stdout=theirs, env=os.environ | {"TERM": "dumb"}) as process:
        assert process.wait(60) == 0
    assert b"later" in os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)


@pytest.mark.usefixtures("sets")
def test_on_a_terminal_it_is_refreshed_until_it_is_interrupted(redset: Console, raw: Any) -> None:
    before = {key: raw.type(key) for key in raw.keys("*")}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 80, 0, 0))
    settings = termios.tcgetattr(theirs)
    text = b""

    def read(word: bytes) -> bool:
        nonlocal text
        if select.select([ours], [], [], 0.05)[0]:
            text += os.read(ours, 65536)
        return word in text

    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with redset.start(
        "top", "--interval", "0.1", stdout=theirs, stdin=theirs, env=environment | {"TERM": "xterm"}
    ) as process:
        wait_until(lambda: read(b"later"))
        # Two rows have room.
        wait_until(lambda: read(b"3 more"))
        raw.delete("later", "{later}:meta")
        library.TimeSortedSet(raw, "newest").add("a", score=1e9)
        wait_until(lambda: read(b"newest"))
        process.send_signal(signal.SIGINT)
        wait_until(lambda: read(b"\x1b[?1049l") and process.poll() is not None)
    assert process.returncode == 0
    # It has left the other screen and shows the cursor again.
    assert text.rstrip().endswith((b"\x1b[?1049l\x1b[?25h", b"\x1b[?25h\x1b[?1049l", b"\x1b[?25h"))
    assert b"\x1b[?1049l" in text
    assert termios.tcgetattr(theirs) == settings
    assert before.keys() - raw.keys("*") <= {b"later", b"{later}:meta"}
    os.close(ours)
    os.close(theirs)


class Window:
    """A window of tmux in which a shell runs."""

    def __init__(self, socket: Path, columns: int, lines: int, **environment: str) -> None:
        self._tmux = ("tmux", "-f", "/dev/null", "-S", str(socket))
        size = ("-x", str(columns), "-y", str(lines))
        given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TMUX")}
        self._run("new-session", "-d", *size, "env PS1='ready> ' sh", env=given | {"TERM": "xterm"} | environment)
        self._run("set-option", "-g", "window-size", "manual")

    def _run(self, *words: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True, env=env).stdout

    def type(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        self._run("resize-window", "-x", str(columns), "-y", str(lines))

    def shown(self, *, escapes: bool = False) -> list[str]:
        return self._run("capture-pane", "-p", *(["-e"] if escapes else [])).rstrip("\n").splitlines()

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
@pytest.mark.usefixtures("sets")
@pytest.mark.parametrize("colour", [True, False])
def test_in_a_terminal_that_is_resized(redset: Console, tmp_path: Path, colour: bool) -> None:
    window = Window(tmp_path / "tmux", 80, 24, **({} if colour else {"NO_COLOR": "1"}))

    def says(*words: str) -> bool:
        return all(any(word in line for line in window.shown()) for word in words)

    try:
        wait_until(lambda: says("ready>"))
        window.type(f"{sys.executable} -m redset top --interval 0.2 --url {redset.url}", "Enter")
        wait_until(lambda: says("5 sets", "claims/min", "starving"))
        assert not says("limits")
        assert any("\x1b[31m" in line or "\x1b[1m\x1b[31m" in line for line in window.shown(escapes=True)) == colour
        window.resize(130, 24)
        wait_until(lambda: says("limits", "10 in 1 s", "last hour"))
        window.resize(40, 8)
        wait_until(lambda: says("3 more"))
        assert all(len(line) <= 40 for line in window.shown())
        window.resize(80, 24)
        wait_until(lambda: says("wide") and not says("more"))
        window.type("C-c")
        # The shell is as it was, and takes commands.
        wait_until(lambda: says("ready>") and not says("5 sets"))
        window.type("echo it is $((6 * 7))", "Enter")
        wait_until(lambda: says("it is 42"))
    finally:
        window.close()


def test_without_a_server(redset: Console) -> None:
    done = redset.run("top", "--url", "redis://127.0.0.1:1")
    assert done.code == 69
    assert "does not answer" in done.err
