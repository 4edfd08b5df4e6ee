"""What judges other libraries under faults judges rightly, and its proxy disturbs what it is said to."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from servers import Server, free_port, wait_until

FOLDER = Path(__file__).parents[2] / "peers"

#: Three items that were added, worked on and finished, by one process after the other.
ALL_IS_WELL = """
adding a 0 7 1.0
added a 0 7 1.1
begin a 0 8 1.2
end a 0 8 1.3
adding b 1 7 1.4
added b 1 7 1.5
begin b 0 9 1.6
end b 0 9 1.7
"""


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def judge() -> Any:
    def judge(further: str, left: str = "") -> dict[str, int]:
        """What is found beside what is there when all is well."""
        judge = importlib.import_module("histories").judge
        usual = vars(judge(ALL_IS_WELL.strip(), ""))
        found = vars(judge(f"{ALL_IS_WELL}{further}".strip(), left))
        return {name: value - usual[name] for name, value in found.items() if value != usual[name]}

    return judge


ADDED = "adding c 2 7 2.0\nadded c 2 7 2.1\n"


def test_nothing_is_found_where_all_is_well(judge: Any) -> None:
    assert judge("") == {}


def test_an_item_that_nobody_has_is_lost(judge: Any) -> None:
    assert judge(ADDED) == {"acknowledged": 1, "lost_never_begun": 1}


def test_an_item_that_was_in_hand_at_a_crash_is_lost_when_it_does_not_come_back(judge: Any) -> None:
    history = f"{ADDED}begin c 1 8 2.2\nkilled - 0 8 2.3"
    assert judge(history) == {"acknowledged": 1, "lost_begun": 1, "executions": 1}


def test_an_item_that_the_server_still_has_is_left_and_not_lost(judge: Any) -> None:
    assert judge(ADDED, left="b'jobs' [b'c']") == {"acknowledged": 1, "left": 1}


def test_an_item_that_came_back_after_a_crash_is_none_that_two_had(judge: Any) -> None:
    history = f"{ADDED}begin c 1 8 2.2\nkilled - 0 8 2.3\nbegin c 1 9 2.4\nend c 1 9 2.5"
    assert judge(history) == {"acknowledged": 1, "executions": 2}


def test_an_item_that_is_begun_while_another_has_it_is_at_once(judge: Any) -> None:
    history = f"{ADDED}begin c 1 8 2.2\nbegin c 1 9 2.3\nend c 1 9 2.4\nkilled - 0 8 2.5"
    assert judge(history) == {"acknowledged": 1, "at_once": 1, "executions": 2}


def test_an_item_that_two_finished_one_after_the_other_is_twice(judge: Any) -> None:
    history = f"{ADDED}begin c 1 8 2.2\nend c 1 8 2.3\nbegin c 1 9 2.4\nend c 1 9 2.5"
    assert judge(history) == {"acknowledged": 1, "twice": 1, "executions": 2}


def test_an_execution_that_broke_off_is_over(judge: Any) -> None:
    history = f"{ADDED}begin c 1 8 2.2\nbroke c 1 8 2.3\nbegin c 2 8 2.4\nend c 2 8 2.5"
    assert judge(history) == {"acknowledged": 1, "executions": 2}


def test_an_item_whose_producer_learned_nothing_is_not_missed(judge: Any) -> None:
    assert judge("adding c 2 7 2.0\nfailed c 2 7 2.1") == {"unsure": 1}


def test_a_process_number_that_is_given_anew_is_another_process(judge: Any) -> None:
    """The second 8 was killed as well, and not when the first one was."""
    history = f"killed - 0 8 1.9\n{ADDED}begin c 0 8 2.2\nbegin c 1 9 2.3\nend c 1 9 2.4\nkilled - 0 8 2.5"
    assert judge(history)["at_once"] == 1


def test_a_row_says_how_its_own_way_was_used() -> None:
    redset = importlib.import_module("catalogue").PEERS["redset"]
    assert [redset.setting(way).partition("(")[0] for way in ("consume", "reserve")] == ["consume", "reserve"]


def test_each_version_is_told() -> None:
    peers = importlib.import_module("catalogue").PEERS
    assert all(any(character.isdigit() for character in peer.version) for peer in peers.values())
    assert peers["taskiq"].version == "0.13.0 with taskiq-redis 1.2.4"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(port=free_port())
    yield server
    server.stop()


def test_what_is_cut_was_done_by_the_server(server: Server) -> None:
    cutting = importlib.import_module("cutting").Cutting
    with (
        cutting(server.port, often=1e9, seed=1) as proxy,
        redis.Redis.from_url(f"redis://127.0.0.1:{proxy.port}") as far,
    ):
        far.ping()  # So it is connected.
        proxy.begin()
        with pytest.raises(redis.ConnectionError):
            far.incr("number")
        proxy.end()
        with server.client() as near:
            wait_until(lambda: near.get("number") == b"1")
        assert proxy.cuts == 1
        assert far.get("number") == b"1"


# The Python of a peer


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns the Python that makes the environment of a peer that needs a later one than there is."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))

    def found() -> str:
        environments = importlib.import_module("environments")
        peer = replace(importlib.import_module("catalogue").PEERS["rq"], python="3.99")
        try:
            return str(Path(environments._interpreter(peer)).relative_to(tmp_path))
        except environments.Unavailable as unavailable:
            return str(unavailable)

    return found


def made(path: Path, code: int = 0) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)


def test_a_peer_that_runs_on_our_python_has_it() -> None:
    peers = importlib.import_module("catalogue").PEERS
    assert importlib.import_module("environments")._interpreter(peers["rq"]) == sys.executable


def test_a_peer_that_needs_a_later_python_has_the_one_on_path(found: Any, tmp_path: Path) -> None:
    made(tmp_path / "bin" / "python3.99")
    made(tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python")
    assert found() == "bin/python3.99"


def test_it_has_the_newest_of_pyenv_where_the_shim_on_path_names_none(found: Any, tmp_path: Path) -> None:
    made(tmp_path / "bin" / "python3.99", code=127)
    for version in ("3.9.9", "3.99.2", "3.99.10", "3.99-dev"):
        made(tmp_path / "pyenv" / "versions" / version / "bin" / "python")
    assert found() == "pyenv/versions/3.99.10/bin/python"


def test_a_peer_without_its_python_is_left_out_and_says_why(found: Any) -> None:
    assert found().startswith("rq needs Python 3.99: there is no python3.99 on PATH or in pyenv")
