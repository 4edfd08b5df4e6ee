"""The demo's client of the server: the usual one, only less patient with a server that is gone."""

from importlib import import_module
from typing import Any

from redset.connect import client_library, connect
from redset.exceptions import NoServerError, RedsetError

__all__ = ("demo_client", "failures", "reachable_client")


def demo_client() -> Any:
    """A client that tries again for a second and then raises; by default some libraries try for minutes."""
    library = client_library().__name__
    backoff = import_module(f"{library}.backoff").ExponentialBackoff(cap=0.5, base=0.05)
    return connect(retry=import_module(f"{library}.retry").Retry(backoff, 5))


def failures() -> tuple[type[Exception], ...]:
    """What the client raises when the server is gone, or does not do what it should."""
    library = client_library()
    return library.ConnectionError, library.TimeoutError, library.ResponseError


def reachable_client() -> Any:
    """The same, of a server that has answered.

    :raises RedsetError: the server has not, or its url is wrong.
    """
    try:
        client = demo_client()
        client.ping()
    except ValueError as error:
        raise RedsetError(f"$REDSET_URL: {error}") from error
    except failures() as error:
        raise NoServerError(f"the server does not answer: {error}") from error
    return client
