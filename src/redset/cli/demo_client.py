"""The demo's client: the usual one, with fewer retries."""

from typing import Any

from redset.cli.exits import Failure
from redset.connect import client_library, connect
from redset.core.clients.options import repeating
from redset.exceptions import NoServerError

__all__ = ("demo_client", "failures", "reachable_client")


def demo_client() -> Any:
    """Return a client that retries for a second; by default some libraries retry for minutes."""
    return connect(**repeating(client_library(), times=5, longest_pause=0.5))


def failures() -> tuple[type[Exception], ...]:
    """Return the errors that the client raises when the server does not answer or refuses a command."""
    library = client_library()
    return library.ConnectionError, library.TimeoutError, library.ResponseError


def reachable_client() -> Any:
    """Return a client whose server has answered.

    :raises NoServerError: the server does not answer.
    :raises Failure: its URL is wrong.
    """
    try:
        client = demo_client()
        client.ping()
    except ValueError as error:
        raise Failure(f"$REDSET_URL: {error}") from None
    except failures() as error:
        raise NoServerError(f"the server does not answer: {error}") from None
    return client
