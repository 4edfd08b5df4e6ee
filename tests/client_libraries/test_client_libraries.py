"""Client libraries: a client of thirty lines is enough, and what redset knows of libraries by name is so."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import thirty_lines
import thirty_lines.asyncio
from redset import SortedSet
from redset.core.clients import is_failure, is_outage
from redset.core.clients.libraries import LIBRARIES, is_of_a_library
from redset.exceptions import WrongTypeError
from servers import Server, client_module

TESTS = Path(__file__).parents[1]
#: Of each promise one file; ``make matrix`` runs them all.
MAIN_PART = (
    "sets/test_adding",
    "sets/test_taking",
    "leases/test_consume",
    "leases/test_dead_letters",
    "identity/test_keyed_remember",
)
CONFORMANCE = ("-m", "conformance and not no_cover", "-k", "not TimeSortedSet")


def lines_of(kind: type) -> int:
    """How many lines of code a class has."""
    return len([line for line in inspect.getsource(kind).splitlines() if line.strip() and '"""' not in line])


@pytest.fixture
def server(server: Any) -> Server:
    if not isinstance(server, Server):
        pytest.skip("the client is one of a single server")
    server.empty()
    return server


@pytest.mark.parametrize("module", [thirty_lines, thirty_lines.asyncio], ids=lambda module: module.__name__)
def test_the_client_has_thirty_lines(module: Any) -> None:
    assert lines_of(module.Client) <= 30


@pytest.mark.soak
@pytest.mark.no_cover
def test_it_passes_the_main_part_of_the_conformance_tests(server: Server) -> None:
    files = [str(TESTS / f"{name}.py") for name in MAIN_PART]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--quiet",
            "-p",
            "no:cacheprovider",
            "-m",
            "conformance and not no_cover",
            *files,
        ],
        cwd=TESTS.parent,
        env=os.environ | {"REDSET_TEST_CLIENT": "thirty-lines"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def test_a_refusal_of_the_server_is_explained(server: Server) -> None:
    client = client_module("thirty_lines", awaited=False).from_url(server.url)
    client.execute_command("SET", "jobs", "something else")
    with pytest.raises(WrongTypeError, match="'jobs'"):
        SortedSet(client, "jobs").add("read")
    client.close()


def test_making_a_lock_without_lock_support_raises_type_error(server: Server) -> None:
    client = client_module("thirty_lines", awaited=False).from_url(server.url)
    with pytest.raises(TypeError, match=r"Client has no lock\(\)"), SortedSet(client, "jobs").lock:
        pass
    client.close()


def test_its_errors_are_recognised() -> None:
    refusal = thirty_lines.ResponseError("ERR unknown command")
    assert is_failure(refusal)
    assert not is_outage(refusal)
    assert is_outage(thirty_lines.ResponseError("LOADING server is loading the dataset in memory"))
    assert is_outage(ConnectionError("lost"))
    assert is_outage(TimeoutError())
    assert not is_failure(ValueError("of a caller"))


@pytest.mark.parametrize(
    ("library", "error"), [("redis", "RedisClusterException"), ("valkey", "ValkeyClusterException")]
)
def test_a_cluster_without_a_node_is_away_and_one_that_refuses_is_not(library: str, error: str) -> None:
    errors = importlib.import_module(f"{library}.exceptions")
    raised = getattr(errors, error)

    assert is_outage(raised("All slots are not covered after query all startup_nodes. 5461 of 16384 covered..."))
    assert is_outage(raised("startup_nodes could not agree on a valid slots cache: ..."))
    assert not is_outage(raised("No way to dispatch this command"))
    for cause, away in [(errors.ConnectionError("lost"), True), (errors.AuthenticationError("no"), False)]:
        error_of_all = raised("Cluster cannot be connected")
        error_of_all.__cause__ = cause
        assert is_outage(error_of_all) is away


@pytest.mark.parametrize("library", [one for one in LIBRARIES if one.client], ids=lambda library: library.name)
@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "aio"])
def test_the_table_names_what_a_library_has(library: Any, *, awaited: bool) -> None:
    module = client_module(library.name, awaited=awaited)
    made_by = getattr(module, library.client)
    assert made_by.__module__ == f"{library.name}.{'asyncio.' if awaited else ''}client"
    assert is_of_a_library(made_by)
    names = {kind.__name__ for kind in module.ResponseError.__mro__}
    assert names & set(library.errors)
