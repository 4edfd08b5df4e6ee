"""The commands that steer sets: ``discard``, ``pause``, ``resume``, ``limit``, ``clear`` and ``reshard``."""

import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from redset.cli.connecting import Name, Url, connected, known_set, make_set, open_known, refuse_kinds
from redset.cli.escapes import unescaped
from redset.cli.exits import NO, Failure
from redset.cli.progress import progress_bar
from redset.cli.values import duration, moment
from redset.cli.writing import Json, cell, flush, is_terminal, put, put_json, put_rows, say
from redset.core.items import Key
from redset.exceptions import LayoutError
from redset.registry import reshard as move

__all__ = ("Yes", "confirm", "register")

R = TypeVar("R")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_GATES = "which has neither a pause nor limits"


def register(app: typer.Typer) -> None:
    app.command(short_help="Remove items, waiting or leased.")(discard)
    app.command(short_help="Let nobody claim items for a while.")(pause)
    app.command()(resume)
    app.command(short_help="Show or replace the limits.")(limit)
    app.command(short_help="Remove all items in every state.")(clear)
    app.command(short_help="Change the number of shards.")(reshard)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal.

    :raises Failure: there is no terminal to ask on.
    :raises typer.Exit: the answer is no.
    """
    if yes:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise Failure("this cannot be undone: give --yes, since there is no terminal to ask on")
    if not typer.confirm(question, err=True):
        raise typer.Exit(NO)


def discard(
    context: typer.Context,
    name: Name,
    items: Annotated[
        list[str], typer.Argument(metavar="ITEM...", help="Items; on a set with keys, the keys.", show_default=False)
    ],
    url: Url = None,
) -> None:
    """Remove items, whether waiting or leased, and print how many were there.

    The worker of a leased item loses its lease. A dead letter stays. Exit code 1 says that one of the items was not
    there.

    \b
    Example:
        redset discard jobs read write
    """
    keys = [Key(unescaped(item)) for item in items]
    one = open_known(connected(context, url), name)
    removed = sum(bool(one.discard(key)) for key in keys)
    put(f"{removed}\n".encode())
    flush()
    if removed < len(keys):
        raise typer.Exit(NO)


def pause(
    context: typer.Context,
    name: Name,
    during: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End the pause after 10m, 1h.", show_default=False)
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="End the pause at 2030-01-31T12:00, or so many seconds since the epoch.",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Let nobody claim items, until a time or until 'redset resume'. Work that is under way goes on.

    \b
    Examples:
        redset pause jobs
        redset pause jobs --for 10m
    """
    if during is not None and until is not None:
        raise Failure("give one of --for and --until")
    span = None if during is None else duration(during, "--for")
    end = None if until is None else moment(until, "--until")
    client = connected(context, url)
    one = _with_gates(client, name)
    if span is not None:
        seconds, microseconds = client.time()
        end = seconds + microseconds / 1e6 + span
    _checked(lambda: one.pause(end))
    if end is None or math.isinf(end):
        say(f"{name} is paused; 'redset resume {name}' ends it")
    else:
        say(f"{name} is paused until {cell(end, 'paused_until')}")


def resume(context: typer.Context, name: Name, url: Url = None) -> None:
    """End a pause.

    \b
    Example:
        redset resume jobs
    """
    _with_gates(connected(context, url), name).resume()


def limit(
    context: typer.Context,
    name: Name,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="So many claims in the time of --per.", show_default=False)
    ] = None,
    per: Annotated[str | None, typer.Option(metavar="DURATION", help="Default: 1s.", show_default=False)] = None,
    burst: Annotated[
        int | None,
        typer.Option(metavar="N", help="So many claims at once after a rest. Default: 1.", show_default=False),
    ] = None,
    leases: Annotated[
        int | None, typer.Option(metavar="N", help="So many leases at a time.", show_default=False)
    ] = None,
    maxsize: Annotated[
        int | None, typer.Option(metavar="N", help="So many items in the set.", show_default=False)
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Lift all limits.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Replace all limits of a set, which hold for all processes; without options, show them.

    \b
    Examples:
        redset limit crawl --rate 10 --burst 20 --leases 50
        redset limit crawl
        redset limit crawl --none
    """
    given: dict[str, Any] = {"rate": rate, "burst": burst, "leases": leases, "maxsize": maxsize}
    if per is not None:
        given["per"] = duration(per, "--per")
    given = {name: value for name, value in given.items() if value is not None}
    if none and given:
        raise Failure("give limits or --none, and not both")
    one = _with_gates(connected(context, url), name)
    if none or given:
        _checked(lambda: one.limit(**given))
        return
    found = one.stats().limits
    limits = {} if found is None else {field: value for field, value in asdict(found).items() if value is not None}
    if as_json:
        put_json({"name": name, **limits})
        flush()
    elif limits:
        put_rows(
            ({"limit": field, "value": value} for field, value in limits.items()), ("limit", "value"), as_json=False
        )
    else:
        say(f"{name} has no limits")


def _with_gates(client: Any, name: str) -> Any:
    about = known_set(client, name)
    refuse_kinds(about, "ExpiringSet", _GATES)
    return make_set(client, about)


def _checked(call: Callable[[], R]) -> R:
    """Return the result of a call. What it says of a wrong value is a message for the user."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        raise Failure(str(error)) from None


def clear(context: typer.Context, name: Name, yes: Yes = False, url: Url = None) -> None:
    """Remove all items in every state, dead letters included. All leases are lost.

    It asks first on a terminal, and needs --yes elsewhere. Totals, limits and a pause stay.

    \b
    Example:
        redset clear jobs --yes
    """
    one = open_known(connected(context, url), name)
    confirm(f"Remove all items of {name}?", yes=yes)
    one.clear()


def reshard(
    context: typer.Context,
    name: Name,
    shards: Annotated[
        str, typer.Argument(metavar="SHARDS", help="The new number of shards, or 'none'.", show_default=False)
    ],
    url: Url = None,
) -> None:
    """Move a set to another number of shards. Calls of other programs wait meanwhile.

    If it is interrupted, call it again with the same number: it goes on. Run it once at a time.

    \b
    Examples:
        redset reshard jobs 16
        redset reshard jobs none
    """
    if shards != "none" and not shards.isdecimal():
        raise Failure(f"SHARDS is a number, or 'none', not {shards!r}")
    client = connected(context, url)
    known_set(client, name)
    with progress_bar(f"Resharding {name}") as bar:
        try:
            moved = _checked(
                lambda: move(
                    client,
                    name,
                    None if shards == "none" else int(shards),
                    lambda done, total: bar.update(done, total, f"{done:,} of {total:,} entries"),
                )
            )
        except LayoutError as error:
            raise Failure(str(error)) from None
    if not moved:
        say(f"{name} had that number of shards already")
