"""Clients from a URL, or of the embedded server, made by the client library that is installed."""

import asyncio
import os
import re
from typing import Any, NoReturn
from urllib.parse import urlsplit

from redset import embedded
from redset.core.clients.libraries import client_library
from redset.core.clients.options import CLUSTER, client_from_url

__all__ = ("client_library", "connect", "connect_async")

_SCHEMES = ("redis://", "rediss://", "redis+cluster://", "rediss+cluster://", "unix://")


def connect(url: str | None = None, **client_options: Any) -> Any:
    """Return a client of redis-py, or of valkey-py if only that is installed.

    Its server is the one at ``url``, else at ``$REDSET_URL``, else the embedded server: a process of this user, started
    by the first program that needs it, shared by all, and not stopped when they end. See :mod:`redset.embedded`.

    The client contacts a given server at its first command, not here. The first contact is tried once, and so is a
    connection with a wrong password, so a wrong address is an error at once. After that, a call whose connection is
    lost or times out is sent again, up to ten times within some seconds. redis-py's ``Redis(...)`` does that by
    default, its ``from_url`` does not. Repeated calls harm no set, and consumers survive a restart of the server.

    With ``redis+cluster://host:port`` it is a client of the cluster that the node belongs to. A synchronous one asks
    the node for the others here, and repeats lost calls as its library does.

    :param url: ``redis://host:port/db``, ``rediss://…`` (TLS), ``unix:///path/of/the.sock``, ``redis+cluster://…`` or
        ``rediss+cluster://…``.
    :param client_options: further arguments of the client's ``from_url``: ``decode_responses=True``,
        ``socket_timeout=5``; ``retry=…`` or ``retry_on_error=…`` instead of the ten times. With TLS,
        ``socket_connect_timeout`` defaults to 2 seconds and limits the handshake too.
    :raises ValueError: the url has another form.
    :raises NoServerError: no client library is installed, or no url was given and no server could be found or started;
        the message says what to do.
    """
    library = client_library()
    found = _given_url(url) or embedded.start()
    return _from_url(library, found, client_options)


async def connect_async(url: str | None = None, **client_options: Any) -> Any:
    """Return a client whose calls are awaited; else like :func:`connect`."""
    library = client_library(asynchronous=True)
    found = _given_url(url)
    if found is None:
        found = await asyncio.to_thread(embedded.start)
    return _from_url(library, found, client_options)


def _given_url(url: str | None) -> str | None:
    """Return the caller's url, else that of the environment: an empty variable is none, an empty url is an error."""
    if url == "":
        _refuse(url, "it is empty")
    return url or os.environ.get("REDSET_URL") or None


def _from_url(library: Any, url: str, client_options: dict[str, Any]) -> Any:
    if not url.startswith(_SCHEMES):
        _refuse(url, f"it must begin with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}")
    if url.partition("?")[0] == "unix://":
        _refuse(url, "it names no socket")
    if CLUSTER in url and urlsplit(url).path.strip("/") not in ("", "0"):
        _refuse(url, "a cluster has only the database 0")
    try:
        return client_from_url(library, url, client_options)
    except (TypeError, ValueError) as error:
        # The library's reason quotes the part that is wrong, which may be the password.
        is_secret = "@" in url or "password" in url.lower()
        _refuse(url, "its port or an option is wrong" if is_secret else str(error))


def _refuse(url: str, reason: str) -> NoReturn:
    scheme = url[: url.index("//") + 2] if "//" in url else ""
    without_password = scheme + "***@" + url.rpartition("@")[2] if "@" in url else url
    without_password = re.sub("((?:password|username)=)[^&]*", r"\1***", without_password, flags=re.IGNORECASE)
    raise ValueError(f"{without_password!r} is no url of a server: {reason}") from None
