"""``redset web``."""

import asyncio
from typing import Annotated, Any

import typer

from redset.cli.exits import Failure
from redset.exceptions import RedsetError

__all__ = ("add_web",)


def add_web(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(web)


def web(
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
    url: Annotated[
        str | None, typer.Option(help="The server of the sets. Default: $REDSET_URL, else the embedded one.")
    ] = None,
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
    registry = _registry(url) if metrics else None
    asyncio.run(
        serve(
            url,
            host,
            port,
            password,
            tuple(allow_host or ()),
            registry,
            read_only=read_only,
            ready=lambda address: print(f"The page is at {address}", flush=True),
        )
    )


def _registry(url: str | None) -> Any:
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise Failure('--metrics needs prometheus-client: pip install "redset[prometheus]"') from None

    from redset.connect import connect
    from redset.metrics import Collector

    registry = CollectorRegistry()
    registry.register(Collector(connect(url, socket_timeout=5)))
    return registry
