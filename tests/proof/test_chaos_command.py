"""How ``make chaos`` and ``make chaos-bugs`` end where they cannot go on, and what they refuse before they begin."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from chaos import __main__ as chaos
from chaos import bugs
from chaos.crew import Crashed
from chaos.faults import Done, Hazard, Nemesis
from chaos.history import Recorder
from chaos.places import PLACES
from servers import Program, Unavailable, is_alive, wait_until

pytestmark = pytest.mark.no_cover

HERE = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _never_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before anything is started."""
    monkeypatch.setattr(chaos, "at", never)
    monkeypatch.setattr(bugs, "find", never)
    monkeypatch.delenv("REDSET_CHAOS_BUG", raising=False)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it has begun")


def refused(main: Callable[[list[str]], int], *arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_how_long_is_a_number_above_nothing(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(chaos.main, f"--seconds={seconds}")
    assert f"argument --seconds: {seconds} is no number" in last_line(capsys)


@pytest.mark.parametrize(("main", "arguments"), [(chaos.main, ["--bug", "typo"]), (bugs.main, ["no-backoff", "typo"])])
def test_a_bug_that_is_none_is_named_with_those_there_are(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(main, *arguments)
    said = last_line(capsys)
    assert "'typo'" in said
    assert all(bug in said for bug in bugs.BUGS)


def test_a_bug_of_the_environment_is_looked_up_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDSET_CHAOS_BUG", "typo")
    refused(chaos.main)
    assert "'typo'" in last_line(capsys)


@pytest.mark.parametrize("place", [*PLACES])
def test_what_is_kept_is_not_written_over(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / place).mkdir()
    refused(chaos.main, "--keep", tmp_path)
    assert f"{tmp_path / place} is there already" in last_line(capsys)


@pytest.mark.parametrize(
    ("main", "option"), [(chaos.main, "--keep"), (chaos.main, "--report"), (bugs.main, "--report")]
)
def test_where_nothing_can_be_written_is_seen_at_once(
    main: Callable[[list[str]], int], option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    refused(main, option, file / "below")
    assert str(file / "below") in last_line(capsys)


def test_a_report_needs_what_draws_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused(chaos.main, "--report", tmp_path)
    assert "matplotlib" in last_line(capsys)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Unavailable("there is no libfaketime"), 2, "there is no libfaketime"),
        (Crashed("aio-1/2 ended with 70"), 1, "aio-1/2 ended with 70"),
        (
            Crashed("aio-1.2: Traceback (most recent call last):\n  ...\nOSError: gone\n"),
            1,
            "aio-1.2 met OSError: gone",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_it_is_told_in_a_line(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(chaos, "at", end)
    assert chaos.main(["--place", "single"]) == code
    assert capsys.readouterr().err == f"python -m chaos: {line}\n"

    monkeypatch.setattr(bugs, "find", end)
    assert bugs.main(["no-backoff"]) == code
    assert capsys.readouterr().err == f"python -m chaos.bugs: {line}\n"


def test_what_is_not_there_keeps_no_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()

    def place() -> None:
        raise Unavailable("there is none")

    monkeypatch.setitem(PLACES, "single", place)
    for _ in range(2):
        assert chaos.main(["--place", "single", "--keep", str(tmp_path)]) == 2
    assert [*tmp_path.iterdir()] == []


def test_a_wheel_without_the_program_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "CACHE", tmp_path)
    monkeypatch.setattr(servers, "fetch", lambda wheel: None)
    with pytest.raises(Unavailable, match="some-wheel has no nowhere/bin/server"):
        Program("1.0", "some-wheel", "nowhere/bin/server").find()


def test_a_program_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(Unavailable, match=re.escape(f"{program} does not run")):
        Program("1.0", None, "server").find()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, "run")
    yield recorder
    recorder.close()


def test_each_fault_happens_unless_the_run_is_broken_off(recorder: Recorder) -> None:
    happened = list[str]()

    def hazard(name: str) -> Hazard:
        def happen(_: object) -> Done:
            happened.append(name)
            return Done("server", {})

        return Hazard(1, happen)

    def nemeses() -> list[Nemesis]:
        broken_off = threading.Event()
        return [Nemesis(f"{one}", {one: hazard(one), "x": hazard("x")}, recorder, 60.0, broken_off) for one in "ab"]

    def disturb() -> None:
        both = nemeses()
        for nemesis in both:
            nemesis.start()
        try:
            interrupt()
        finally:
            for nemesis in both:
                nemesis.end()

    interrupt: Callable[[], None] = lambda: None
    disturb()
    assert sorted(happened) == ["a", "b", "x", "x"]

    happened.clear()
    interrupt = never
    with pytest.raises(AssertionError, match="it has begun"):
        disturb()
    assert happened == []


# Until its workers are at work, and until what goes wrong just then is over, takes some seconds.
def test_a_ctrl_c_leaves_nothing_behind() -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "chaos", "--place", "single", "--seconds", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE)])},
    )
    wait_until(lambda: is_at_work(run.pid) or run.poll() is not None)
    if run.poll() == 2:
        pytest.skip(run.communicate()[1])
    started = descendants(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    told, said = run.communicate(timeout=120)
    assert told.startswith("single, seed ")
    assert (run.returncode, said) == (130, "python -m chaos: interrupted\n")
    wait_until(lambda: not [name for pid, name in started.items() if is_alive(pid)])


def is_at_work(pid: int) -> bool:
    """Whether it has a server and four workers, beside what starts and ends these."""
    names = [*descendants(pid).values()]
    return any("valkey" in name for name in names) and sum("python" in name for name in names) >= 6


def descendants(pid: int) -> dict[int, str]:
    """The names of all processes below one, by their ids."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    found = {pid: ""}
    for _ in range(4):
        found |= {int(child): name for child, parent, name in rows if int(parent) in found}
    del found[pid]
    return found
