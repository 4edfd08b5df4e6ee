"""A web page on all sets of a server: an ASGI application to serve, or to mount in another one.

It needs the extra ``redset[web]``, which is imported when :func:`app` is called.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from redset.web.rules import ACTIONS, THIS_MACHINE, Access

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ("ACTIONS", "Access", "app")


def app(
    client: Any,
    *,
    access: Callable[[Any], Access | Awaitable[Access]] | None = None,
    password: str | None = None,
    allowed_hosts: Collection[str] = THIS_MACHINE,
    read_only: bool = False,
    metrics: Any = None,
) -> "ASGIApp":
    """Return an ASGI application that shows all sets of a server, and changes them on request.

    Without ``access`` and ``password``, it answers requests from this machine only.

    Every page is complete without JavaScript. An open page is refreshed every two seconds while it is visible. Any
    number of open pages cost the server of the sets one reading of all figures a second.

    :param client: a client of redis-py or valkey-py: an asyncio one, or a synchronous one, whose calls then run in
        threads. Give it a ``socket_timeout``.
    :param access: called with the ``starlette.requests.Request`` of each request; may be a coroutine function.
        Returns ``"all"``, ``"look"`` (no actions), the names of the allowed actions, or None: the request is refused.
        It may raise ``starlette.exceptions.HTTPException``, for example to redirect to a login. The actions are
        ``clear``, ``discard``, ``forget``, ``limit``, ``pause``, ``requeue``, ``resume`` and ``retry``.
    :param password: ask for this password, by HTTP Basic authentication with any user name. Use TLS beyond this
        machine.
    :param allowed_hosts: the host names of this application, without a port, as a browser sends them. ``"*"``: any.
    :param read_only: allow no action, whatever ``access`` returns.
    :param metrics: a registry of prometheus-client, served at ``/metrics``.
    :raises ImportError: starlette or jinja2 is not installed; the message says how to install it.
    :raises TypeError: the client is none, or an argument has a wrong type.
    :raises ValueError: a host beyond this machine is allowed without ``access`` and ``password``, or the password is
        empty.

    >>> page = app(client, read_only=True)
    """
    try:
        import jinja2
        import starlette
    except ImportError as error:
        raise ImportError(f'redset.web needs the package {error.name}: pip install "redset[web]"') from None
    del jinja2, starlette
    from redset.web.guard import Guard
    from redset.web.site import site

    if isinstance(allowed_hosts, str):
        raise TypeError(f"allowed_hosts must be a collection of names, not the name {allowed_hosts!r}")
    if password is not None and not isinstance(password, str):
        raise TypeError("password must be a str")
    if password == "":
        raise ValueError("the password is empty")
    if access is not None and not callable(access):
        raise TypeError(f"access must be a function that takes a request, not {access!r}")
    is_open = access is None and password is None
    if is_open and not set(allowed_hosts) <= set(THIS_MACHINE):
        raise ValueError("allowed_hosts beyond this machine need access= or password=")
    return Guard(site(client, metrics), access, password, frozenset(allowed_hosts), read_only=read_only)
