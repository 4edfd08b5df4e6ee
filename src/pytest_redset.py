"""The pytest plugin of redset: fixtures for tests of code that uses it; see redset.testing.

A module of its own, outside the package, since pytest imports it in every run of every project, before coverage is
measured: it must cost nothing, and import nothing of redset, until a test asks for one of its fixtures.
"""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def _redset_server() -> Iterator[Any]:
    """The server of this session, which under xdist is that of this worker."""
    from redset.exceptions import NoServerError
    from redset.testing import Server

    try:
        server = Server()
    except NoServerError as error:
        pytest.fail(f'the fixtures of redset need a server: pip install "redset[testing]" ({error})', pytrace=False)
    with server:
        yield server


@pytest.fixture
def redset_url(_redset_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of a server with nothing on it, for this test; redset.connect() without a url connects to it too."""
    _redset_server.empty()
    monkeypatch.setenv("REDSET_URL", _redset_server.url)
    return str(_redset_server.url)


@pytest.fixture
def redset_client(redset_url: str) -> Iterator[Any]:
    """A client of a server with nothing on it: of redis-py, or of valkey-py where that is what is installed."""
    _check_client_library()
    from redset import connect

    with connect(redset_url) as client:
        yield client


@pytest.fixture
def redset_async_client(redset_url: str) -> Iterator[Any]:
    """The same as ``redset_client``, for asyncio: in whichever event loop the test runs, and in several in turn."""
    _check_client_library()
    from redset.testing import async_client

    with async_client(redset_url) as client:
        yield client


def _check_client_library() -> None:
    from redset.connect import client_library
    from redset.exceptions import NoServerError

    try:
        client_library()
    except NoServerError as error:
        pytest.fail(f'the fixtures of redset need a client: pip install "redset[testing]" ({error})', pytrace=False)
