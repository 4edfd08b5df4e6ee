"""A client, from a URL or of the embedded server, made by whichever client library is installed."""

import asyncio
import os
import re
from typing import Any, NoReturn

from redset import embedded
from redset.core.clients.libraries import client_library
from redset.core.clients.options import completed

__all__ = ("client_library", "connect", "connect_async")

_SCHEMES = ("redis://", "rediss://", "unix://")


def connect(url: str | None = None, **client_options: Any) -> Any:
    """A client of redis-py, or of valkey-py where that is what is installed.

    It is one of the server at ``url``, else at ``$REDSET_URL``, else of the embedded server: a process of this user's
    own, started by whoever comes first, shared by all, and still there when they have gone. See :mod:`redset.embedded`.

    A given server is not contacted before the client's first command, as the client library's ``from_url`` does it.
    A call whose connection is lost or times out is sent again, up to ten times within some seconds, as redis-py's own
    ``Redis(...)`` does and its ``from_url`` does not: no set is harmed by that, and a consumer outlives a restart of
    the server. The first contact is tried once, and so is a connection with a wrong password: a wrong address, or TLS
    with a server that has none, is an error at once.

    :param url: ``redis://host:port/db``, ``rediss://…`` (TLS) or ``unix:///path/of/the.sock``.
    :param client_options: what else the client's ``from_url`` takes: ``decode_responses=True``, ``socket_timeout=5``;
        ``retry=…`` or ``retry_on_error=…`` instead of the ten times. Default ``socket_connect_timeout`` with TLS, for
        the handshake as well: 2 seconds.
    :raises ValueError: the url is not one of these.
    :raises NoServerError: there is no client library, or no url was given and no server could be found or started;
        the message says what to do.
    """
    library = client_library()
    found = _given_url(url) or embedded.start()
    return _from_url(library, found, client_options)


async def connect_async(url: str | None = None, **client_options: Any) -> Any:
    """The same as :func:`connect`, and a client whose calls are awaited."""
    library = client_library(asynchronous=True)
    found = _given_url(url)
    if found is None:
        found = await asyncio.to_thread(embedded.start)
    return _from_url(library, found, client_options)


def _given_url(url: str | None) -> str | None:
    """The url that the caller or else the environment gives; an empty variable gives none, an empty url is wrong."""
    if url == "":
        _refuse(url, "it is empty")
    return url or os.environ.get("REDSET_URL") or None


def _from_url(library: Any, url: str, client_options: dict[str, Any]) -> Any:
    if not url.startswith(_SCHEMES):
        _refuse(url, f"it must begin with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}")
    if url.partition("?")[0] == "unix://":
        _refuse(url, "it names no socket")
    try:
        return library.from_url(url, **completed(client_options, library, url))
    except ValueError as error:
        # The library's reason quotes what it stumbled on, and that may be the password.
        _refuse(url, "its port or an option is wrong" if "@" in url else str(error))


def _refuse(url: str, reason: str) -> NoReturn:
    without_password = re.sub("//.*@", "//***@", url)
    raise ValueError(f"{without_password!r} is no url of a server: {reason}") from None
