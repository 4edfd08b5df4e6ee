"""Serving the page by uvicorn, for the command line."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from redset.exceptions import RedsetError
from redset.web import app
from redset.web.guard import is_loopback
from redset.web.rules import THIS_MACHINE

__all__ = ("check_address", "serve")


class UnsafeAddress(RedsetError):
    """Raised when the page would be open to others without a password."""


def check_address(host: str, password: str | None) -> None:
    """Raise an error for an address that others can reach, unless there is a password.

    :raises UnsafeAddress: there is none.
    """
    if password is None and not is_loopback(host):
        raise UnsafeAddress(
            f"others can reach {host}: give a password by --password or $REDSET_WEB_PASSWORD, or serve "
            "redset.web.app(client, access=...) yourself"
        )


async def serve(
    client: Any,
    host: str,
    port: int,
    password: str | None,
    hosts: tuple[str, ...],
    metrics: Any,
    *,
    read_only: bool,
    ready: Callable[[str], None] | Callable[[str], Awaitable[None]] = print,
) -> None:
    """Serve the page until a signal ends it, and close the client.

    :param client: an asyncio client of the server of the sets.
    :param hosts: names under which the page is reached, in addition to its address.
    :param ready: called with the address of the page.
    """
    import uvicorn

    check_address(host, password)
    is_everywhere = host in ("0.0.0.0", "::")  # noqa: S104 # an address to compare with
    # With a password, and no names given, the page is reached under any name of this machine.
    allowed = ("*",) if is_everywhere and not hosts else (*THIS_MACHINE, f"[{host}]" if ":" in host else host, *hosts)
    page = app(client, password=password, allowed_hosts=allowed, read_only=read_only, metrics=metrics)
    config = uvicorn.Config(page, host=host, port=port, log_level="warning", access_log=False, server_header=False)
    server = uvicorn.Server(config)
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
    try:
        # Uvicorn exits when it cannot listen.
        with suppress(SystemExit):
            await server.serve()
    finally:
        await client.aclose()
    if not server.started:
        raise RedsetError(f"the address {host}:{port} cannot be used: another program may listen there")
