"""The commands at the head of a set: ``pop`` and ``peek``."""

from itertools import islice
from sys import maxsize
from typing import Annotated, Any

import typer

from redset.cli.connecting import Name, Url, connected, known_set, make_set, recorded, refuse_kinds
from redset.cli.exits import NO, Failure
from redset.cli.values import duration
from redset.cli.writing import Json, cell, flush, put, put_items, put_rows
from redset.core.items import Key
from redset.core.registry import SetInfo

__all__ = ("register",)

#: Items that are claimed and printed at once.
_CHUNK = 1000


def register(app: typer.Typer) -> None:
    app.command(short_help="Remove and print the next items.")(pop)
    app.command(short_help="Show the next items.")(peek)


def pop(
    context: typer.Context,
    name: Name,
    count: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Remove up to so many items.")] = 1,
    wait: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Wait for the first item: 30s, 5m, forever.", show_default=False),
    ] = None,
    as_json: Json = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="Print the bytes of each item, and a NUL.")] = False,
    url: Url = None,
) -> None:
    """Remove the items with the lowest scores, and print them.

    Exit code 1 says that the set is empty, and nothing else. An item is lost if the command that reads it fails:
    'redset work' does not lose it.

    \b
    Examples:
        while item=$(redset pop jobs); do echo "$item"; done
        redset pop jobs -n 100 --wait 1m
        redset pop photos -n 1000 --null | redset add archive --null
    """
    if as_json and null:
        raise Failure("give one of --json and --null")
    patience = None if wait == "forever" else duration(wait or "0", "--wait")
    client = connected(context, url)
    # A consumer that waits may be there before its producers.
    about = known_set(client, name) if wait is None else recorded(client, name) or SetInfo(name, "SortedSet")
    refuse_kinds(about, "ExpiringSet", "whose items leave by themselves")
    jobs = make_set(client, about)
    left = count
    while left:
        items = jobs.take(min(left, _CHUNK), patience if left == count else 0)
        if not items:
            break
        if as_json:
            put_rows(({"name": name, "item": item} for item in items), (), as_json=True)
        else:
            put_items(items, null=null)
        left -= len(items)
    if left == count:
        raise typer.Exit(NO)


def peek(
    context: typer.Context,
    name: Name,
    count: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Show up to so many items.")] = 10,
    scores: Annotated[bool, typer.Option("--scores", help="Print the score and a tab in front of each item.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show the waiting items with the lowest scores, and leave them where they are.

    On a set with keys, the key and a tab precede each value. Of an ExpiringSet it shows the items that expire first.
    Exit code 1 says that there are none.

    \b
    Examples:
        redset peek jobs
        redset peek jobs -n 1 --scores
        redset peek prices --json | jq .item
    """
    client = connected(context, url)
    rows = list(islice(_rows(client, known_set(client, name)), min(count, maxsize)))
    if not rows:
        raise typer.Exit(NO)
    if as_json:
        put_rows(rows, (), as_json=True)
        return
    for row in rows:
        cells = [row["score"]] if scores else []
        cells += [row["key"]] if row.get("key") is not None else []
        put(("\t".join(map(cell, [*cells, row["item"]])) + "\n").encode())
    flush()


def _rows(client: Any, about: SetInfo) -> Any:
    one = make_set(client, about)
    if about.kind == "ExpiringSet":
        for item in one:
            yield {"name": about.name, "item": item, "score": None, "state": "living"}
        return
    if not about.options.get("keyed"):
        for item, score in one.with_scores():
            yield {"name": about.name, "item": item, "score": score, "state": "waiting"}
        return
    if "shards" in about.options:
        # The library has no way to read the keys of a set over shards.
        for item, score in one.with_scores():
            yield {"name": about.name, "item": item, "key": None, "score": score, "state": "waiting"}
        return
    # Without its key, the same set has the identities for items. It only reads, and so writes no record.
    bare = make_set(client, about, keyed=False)
    for identity, score in bare.with_scores():
        value = one.get(Key(identity))
        yield {
            "name": about.name,
            "item": identity if value is None else value,
            "key": identity,
            "score": score,
            "state": "waiting",
        }
