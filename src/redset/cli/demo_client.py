"""The demo's client of the server: the usual one, only less patient with a server that is gone."""

from typing import Any

from redset.connect import client_library, connect
from redset.core.clients.options import repeating
from redset.exceptions import NoServerError, RedsetError

__all__ = ("demo_client", "failures", "reachable_client")


def demo_client() -> Any:
    """A client that tries again for a second and then raises; by default some libraries try for minutes."""
    return connect(**repeating(client_library(), times=5, longest_pause=0.5))


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
        raise RedsetError(f"$REDSET_URL: {error}") from None
    except failures() as error:
        raise NoServerError(f"the server does not answer: {error}") from None
    return client
