"""Run the examples by the command that they name, with little input. Each example checks its own result."""

import ast
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import redset
from own_home import lasting_keys, own_home, python, until  # noqa: F401 - own_home is the fixture called home

ROOT = Path(__file__).parents[2]
NO_CLIENTS = not any(map(shutil.which, ("node", "redis-cli", "valkey-cli")))


def example(name: str, little: str, long: str, *marks: pytest.MarkDecorator) -> Any:
    """Return an example, its arguments for little work, and those for so much that it can be interrupted."""
    return pytest.param(name, little.split(), long.split(), marks=marks, id=name)


EXAMPLES = [
    example("streaming_updates", "--updates 300", "--updates 1000000"),
    example("scraper", "--hosts 2 --pages 5 --workers 3", "--pages 1000"),
    example(
        "seen",
        # Shorter than what it mutes: it compares times more closely than a busy machine keeps them.
        "--events 300 --seconds 0.4",
        "--seconds 1000",
    ),
    example("tenants", "--flood 300", "--flood 1000000"),
    example("polling", "--seconds 5", "--seconds 1000"),
    example("operating", "--items 30", "--items 100000"),
    example(
        "foreign_producer",
        "--latest 10",  # which is for a busy machine
        "",
        pytest.mark.skipif(NO_CLIENTS, reason="needs node, redis-cli or valkey-cli"),
    ),
]


@pytest.fixture
def client(home: Path) -> Any:
    """A client of the embedded server that the example will use."""
    return redset.connect()


@contextmanager
def running(name: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the example in a process group of its own, and kill the group at the end of the block if it still runs."""
    process = python(str(ROOT / "examples" / f"{name}.py"), *arguments)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("name", "little", "long"), EXAMPLES)
def test_it_does_what_it_says_and_leaves_nothing(client: Any, name: str, little: list[str], long: list[str]) -> None:
    with running(name, *little) as process:
        shown, errors = process.communicate(timeout=120)
        assert process.returncode == 0, shown + errors
        assert "Traceback" not in errors
        assert "must be" in shown
        assert_nothing_is_left(client, process)


@pytest.mark.parametrize(("name", "little", "long"), EXAMPLES)
def test_a_ctrl_c_ends_it_at_once_and_leaves_nothing(
    client: Any, name: str, little: list[str], long: list[str]
) -> None:
    with running(name, *long) as process:
        until(lambda: any(b":call:" in key for key in client.keys("{example-*")))
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert_nothing_is_left(client, process)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_each_is_listed_with_its_command(path: Path) -> None:
    source = path.read_text()
    if "__main__" in source:
        command = f"python examples/{path.name}"
        assert command in (ast.get_docstring(ast.parse(source)) or "")
        assert command in (ROOT / "README.md").read_text()
        assert path.stem in {param.id for param in EXAMPLES}, "it must be run here"


def assert_nothing_is_left(client: Any, process: "subprocess.Popen[str]") -> None:
    until(lambda: not has_processes(process.pid))
    assert lasting_keys(client) == []


def has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
