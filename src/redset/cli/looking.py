"""The commands that look at sets: ``ls``, ``stats``, ``find`` and ``metrics``."""

from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

from redset.cli.connecting import Name, Url, connected, known_set, make_set
from redset.cli.escapes import unescaped
from redset.cli.exits import NO, USAGE, Failure
from redset.cli.writing import Json, cell, flush, put, put_json, put_rows, say
from redset.core.items import Key
from redset.core.registry import SetInfo
from redset.exceptions import LayoutError, WrongTypeError
from redset.registry import list_sets

__all__ = ("register",)

_COLUMNS = ("name", "kind", "waiting", "leased", "delayed", "dead", "living", "lag", "paused_until")
_GROUPS = ("group", "waiting", "leases", "rests_until")


def register(app: typer.Typer) -> None:
    app.command()(ls)
    app.command(short_help="Show figures, limits and options.")(stats)
    app.command(short_help="Show the state of items.")(find)
    app.command(short_help="Print all figures for Prometheus.")(metrics)


def ls(
    context: typer.Context,
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[PATTERN]", help="Only sets with such names; * stands for anything.", show_default=False
        ),
    ] = "*",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """List the sets that have items, and how many.

    Columns: name, kind, items waiting, leased, delayed and dead, items living in an ExpiringSet, the lag in seconds,
    and until when the set is paused.

    \b
    Examples:
        redset ls
        redset ls 'crawl*'
        redset ls --json | jq 'select(.dead > 0) | .name'
    """
    client = connected(context, url)
    rows = (_figures(client, about) for about in list_sets(client) if fnmatchcase(about.name, pattern))
    put_rows((row for row in rows if row is not None), _COLUMNS, as_json=as_json)


def _figures(client: Any, about: SetInfo) -> dict[str, Any] | None:
    """Return the figures of a set; None for one that cannot be read, which must not hide the others."""
    try:
        return _stats_of(make_set(client, about), about)
    except (Failure, LayoutError, WrongTypeError) as error:
        say(f"{about.name!r} cannot be read: {error}")
        return None


def _stats_of(one: Any, about: SetInfo) -> dict[str, Any]:
    head = {"name": about.name, "kind": about.kind}
    if about.kind == "ExpiringSet":
        return {**head, "living": len(one)}
    found = one.stats()
    return {**head, **asdict(found), "unfinished": found.unfinished}


def stats(
    context: typer.Context,
    name: Name,
    totals: Annotated[
        bool, typer.Option("--totals", help="Also what has happened since the set was first used.")
    ] = False,
    groups: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Show the N groups with the most leases instead.", show_default=False),
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show the number of items in each state, the limits, and the options of a set.

    \b
    Examples:
        redset stats jobs
        redset stats jobs --totals
        redset stats crawl --groups 20
        redset stats jobs --json | jq .waiting
    """
    client = connected(context, url)
    about = known_set(client, name)
    one = make_set(client, about)
    if groups is not None:
        if not about.options.get("grouped"):
            raise Failure(f"the set {name!r} has no groups")
        found = [asdict(group) for group in one.groups(groups)]
        put_rows(({"name": name, "group": group.pop("name"), **group} for group in found), _GROUPS, as_json=as_json)
        return
    row = _stats_of(one, about)
    if totals:
        if about.kind == "ExpiringSet":
            raise Failure(f"the set {name!r} is an ExpiringSet, which has no totals")
        row["totals"] = asdict(one.totals())
    row["options"] = {option: value for option, value in about.options.items() if value not in (None, False)}
    if as_json:
        put_json(row)
    else:
        put_rows(({"field": field, "value": value} for field, value in _flat(row)), ("field", "value"), as_json=False)
    flush()


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a row, those inside of others by ``limits.rate``."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, cell(value, name)


def find(
    context: typer.Context,
    name: Name,
    items: Annotated[
        list[str], typer.Argument(metavar="ITEM...", help="Items; on a set with keys, the keys.", show_default=False)
    ],
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show the state of items: waiting, leased, parked, delayed, done or dead.

    Exit code 1 says that the set does not have one of them.

    \b
    Examples:
        redset find jobs read
        redset find prices 42 --json | jq .value
    """
    wanted = list(map(unescaped, items))
    client = connected(context, url)
    about = known_set(client, name)
    one = make_set(client, about)
    rows = [_found(one, about, item) for item in wanted]
    columns = ("item", "state", *(_EXPIRING if about.kind == "ExpiringSet" else _STATE))
    put_rows(
        ({"name": name, "item": item, **row} for item, row in zip(wanted, rows, strict=True)), columns, as_json=as_json
    )
    if any(row["state"] is None for row in rows):
        raise typer.Exit(NO)


_STATE = ("score", "attempts", "deadline", "reason", "value")
_EXPIRING = ("ttl",)


def _found(one: Any, about: SetInfo, item: bytes) -> dict[str, Any]:
    if about.kind == "ExpiringSet":
        ttl = one.ttl(Key(item))
        return {"state": None if ttl is None else "living", "ttl": ttl}
    found = one.inspect(Key(item))
    if found is None:
        return {"state": None}
    row = asdict(found)
    if about.kind == "PeriodicSet":
        row |= {"interval": one.interval(Key(item)), "next_due": one.next_due(Key(item))}
    return row


def metrics(context: typer.Context, url: Url = None) -> None:
    """Print the figures of all sets in the text format of Prometheus.

    It needs the extra prometheus: pip install "redset[prometheus]".

    \b
    Example:
        redset metrics > /var/lib/node_exporter/redset.prom
    """
    from redset.metrics import Collector

    try:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(Collector(connected(context, url)))
    except ImportError as error:
        raise Failure('redset metrics is an extra: pip install "redset[prometheus]"', USAGE) from error
    put(generate_latest(registry))
    flush()
