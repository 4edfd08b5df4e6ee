"""The command ``top``. What draws its table is imported when it is needed, so that the other commands start sooner."""

from typing import Annotated

import typer

from redset.cli.connecting import Url, connected

__all__ = ("register",)


def register(app: typer.Typer) -> None:
    app.command(short_help="Watch all sets in a live table.")(top)


def top(
    context: typer.Context,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Between two refreshes.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the table once, as without a terminal.")] = False,
    url: Url = None,
) -> None:
    """Show all sets in a live table, those with the greatest lag first. It changes nothing; Ctrl-C ends it.

    \b
    Examples:
        redset top
        redset top --once
    """
    from redset.cli.top import watch

    watch(connected(context, url), interval, once=once)
