"""``redset web``."""

import asyncio
from typing import Annotated, Any

import typer

from redset.cli.connecting import Url, url_of, url_refused
from redset.cli.exits import Failure
from redset.cli.writing import put_lines
from redset.connect import connect, connect_async
from redset.exceptions import RedsetError

__all__ = ("add_web",)


def add_web(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(web)


def web(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Beyond this machine, it needs a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    password: Annotated[
        str | None,
        typer.Option(envvar="REDSET_WEB_PASSWORD", help="Ask for this password; better given in the environment."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything and change nothing.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name under which browsers reach the page. May be repeated.")
    ] = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="Serve the metrics for Prometheus at /metrics.")] = False,
    url: Url = None,
) -> None:
    """Serve a web page on all sets, with their dead letters, leases and limits.

    \b
    Example:
        redset web --port 8000
    """
    try:
        from redset.web.server import check_address, serve
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "jinja2", "uvicorn"}:
            raise
        raise Failure('the web page is an extra: pip install "redset[web]"') from None
    if password == "":
        raise Failure("the password is empty")
    try:
        check_address(host, password)
    except RedsetError as error:
        raise Failure(str(error)) from None
    given = url_of(context, url)
    registry = _registry(given) if metrics else None

    async def run() -> None:
        with url_refused(given):
            client = await connect_async(given, socket_timeout=5)
        await serve(
            client,
            host,
            port,
            password,
            tuple(allow_host or ()),
            registry,
            read_only=read_only,
            ready=lambda address: put_lines(f"The page is at {address}"),
        )

    asyncio.run(run())


def _registry(url: str | None) -> Any:
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise Failure('--metrics needs prometheus-client: pip install "redset[prometheus]"') from None

    from redset.metrics import Collector

    registry = CollectorRegistry()
    with url_refused(url):
        client = connect(url, socket_timeout=5)
    registry.register(Collector(client))
    return registry
