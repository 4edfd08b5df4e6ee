"""The pytest plugin of redset: fixtures for the tests of an application; see redset.testing.

The module is outside of the package, since pytest imports it in every run of every project, before coverage is
measured. It imports nothing of redset until a test uses one of its fixtures.
"""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def _redset_server() -> Iterator[Any]:
    """The server of this session; under xdist, of this worker."""
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
    """The url of an empty server for this test, to which redset.connect() without a url connects too."""
    _redset_server.empty()
    monkeypatch.setenv("REDSET_URL", _redset_server.url)
    return str(_redset_server.url)


@pytest.fixture
def redset_client(redset_url: str) -> Iterator[Any]:
    """A client of redis-py, or of valkey-py if only that is installed, on an empty server."""
    _check_client_library()
    from redset import connect

    with connect(redset_url) as client:
        yield client


@pytest.fixture
def redset_async_client(redset_url: str) -> Iterator[Any]:
    """The asyncio twin of ``redset_client``, for the event loop of the test, or several in turn."""
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
