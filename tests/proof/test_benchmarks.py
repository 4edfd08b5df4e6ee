"""The benchmarks run, and the distance that they put in between is one."""

import importlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import redset
from servers import Server, free_port, wait_until

FOLDER = Path(__file__).parents[2] / "benchmarks"
#: All but the other libraries, which would have to be installed.
SECTIONS = (
    "ratios",
    "tasks",
    "latency",
    "idle",
    "costs",
    "totals",
    "memory",
    "consumers",
    "growth",
    "grouping",
    "fairness",
    "sharding",
    "overhead",
    "order",
    "fleet",
    "crawling",
)


@pytest.fixture
def distance(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("distance")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(port=free_port())
    yield server
    server.stop()


@pytest.fixture
def near(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}"


def test_a_distance_takes_at_least_its_time(distance: Any, near: str) -> None:
    with distance.distant(near, 0.02) as url:
        assert distance.round_trips(url, 5)[0] >= 0.02


def test_no_distance_is_the_server_itself(distance: Any, near: str) -> None:
    with distance.distant(near, 0) as url:
        assert url == near


def test_what_goes_a_distance_is_not_changed(distance: Any, near: str) -> None:
    """Also when it is more than sockets take at once, and when both sides have much to say."""
    values = [os.urandom(3_000_000) for _ in range(4)]
    with distance.distant(near, 0.001) as url, redis.Redis.from_url(url) as client:
        pipeline = client.pipeline(transaction=False)
        for value in values:
            pipeline.echo(value)
        assert pipeline.execute() == values


def test_connections_do_not_wait_for_each_other(distance: Any, near: str) -> None:
    with distance.distant(near, 0.2) as url:
        # Five, if each had to wait for the one before.
        assert distance.carried(url, connections=20, rounds=1) > 10


def test_a_connection_that_ends_here_ends_there(distance: Any, near: str) -> None:
    with distance.distant(near, 0.001) as url, redis.Redis.from_url(near) as watch:

        def is_there() -> bool:
            return any(client["name"] == "traveller" for client in watch.client_list())

        with redis.Redis.from_url(url, client_name="traveller") as client:
            client.ping()
            assert is_there()
        wait_until(lambda: not is_there())


# A dozen processes, one after the other.
@pytest.mark.soak
@pytest.mark.timeout(300)
def test_every_section_has_a_figure_in_each_line(tmp_path: Path) -> None:
    sections = ",".join(SECTIONS)
    command = [sys.executable, str(FOLDER / "whole.py"), "--size", "tiny", "--sections", sections]
    done = subprocess.run([*command, "--docs", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {*SECTIONS, "ratios-far"}
    for run, measured in results.items():
        assert measured["lines"], run
        assert all(_has_a_figure(line) for line in measured["lines"]), run
    assert re.search(r"0\.5 ms asked for; \d", results["ratios-far"]["conditions"]["distance"])

    for section in SECTIONS:
        page = (tmp_path / f"{section}.md").read_text()
        assert results[section]["conditions"]["command"] in page
        assert all((tmp_path / plot).exists() for plot in re.findall(r"!\[.+\]\((.+)\)", page))
    assert "Not measured" in (tmp_path / "peers.md").read_text()


@pytest.mark.parametrize(
    ("rounds", "between"),
    [([7.0], (7, 7)), ([9.0, 1.0], (1, 9)), ([2.0, 9.0, 1.0], (1, 9)), ([1.0, 2.0, 3.0, 4.0, 5.0], (1.5, 4.5))],
)
def test_a_spread_never_goes_beyond_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, rounds: list[float], between: tuple[float, float]
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    assert importlib.import_module("measure").spread(rounds) == between


def test_each_run_says_which_redset_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER.parent / "peers")
    version = importlib.import_module("sources").version_of_redset()
    assert version.split()[0] == redset.__version__


def test_the_lines_that_count_totals_are_found_in_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    totals = importlib.import_module("totals")
    with totals.without_totals():
        redset.SortedSet(redis.Redis(), "jobs")

    monkeypatch.setitem(totals.CUTS, "end", [("no such line", "")])
    with pytest.raises(ValueError, match=r"end.lua has nothing like 'no such line' any more"), totals.without_totals():
        redset.SortedSet(redis.Redis(), "jobs")


def _has_a_figure(line: dict[str, Any]) -> bool:
    figures = [value for value in line.values() if isinstance(value, float)]
    return bool(figures) and all(math.isfinite(figure) for figure in figures)
