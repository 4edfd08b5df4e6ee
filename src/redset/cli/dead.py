"""The commands about dead letters: ``dead ls``, ``dead retry`` and ``dead forget``."""

from itertools import islice
from sys import maxsize
from typing import Annotated, Any

import typer

from redset.cli.connecting import Name, Url, connected, known_set, make_set, refuse_kinds
from redset.cli.escapes import unescaped
from redset.cli.exits import NO, Failure
from redset.cli.steering import Yes, confirm
from redset.cli.writing import Json, flush, put, put_rows, say
from redset.core.items import Key

__all__ = ("dead",)

dead = typer.Typer(no_args_is_help=True, help="Show, retry and forget dead letters.")

_COLUMNS = ("item", "attempts", "died_at", "reason")

Letters = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ITEM]...", help="Items; on a set with keys, the keys.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="All dead letters of the set.")]


@dead.command("ls")
def list_letters(
    context: typer.Context,
    name: Name,
    count: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="Show up to so many.", show_default=False)
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """List the dead letters of a set, the newest first.

    Columns: the item, or the key on a set with keys; the number of attempts; the time of death; the reason.

    \b
    Examples:
        redset dead ls jobs -n 20
        redset dead ls jobs --json | jq -r 'select(.reason | test("timeout")) | .item'
    """
    letters, keyed = _opened(context, name, url)
    rows = (
        {
            "name": name,
            # What the other commands take.
            "item": letter.identity,
            "state": "dead",
            "score": letter.score,
            "attempts": letter.attempts,
            "died_at": letter.died_at,
            "reason": letter.reason,
            **({"value": letter.raw} if keyed else {}),
        }
        for letter in islice(letters, None if count is None else min(count, maxsize))
    )
    put_rows(rows, (*_COLUMNS, "value") if keyed else _COLUMNS, as_json=as_json)


@dead.command()
def retry(context: typer.Context, name: Name, items: Letters = None, all_letters: All = False, url: Url = None) -> None:
    """Let dead items wait again, as if never claimed, and print how many.

    Exit code 1 says that one of the items is no dead letter.

    \b
    Examples:
        redset dead retry jobs read
        redset dead retry jobs --all
    """
    keys = _chosen(items, everything=all_letters)
    letters, _ = _opened(context, name, url)
    _end(keys, letters.retry, letters.retry_all)


@dead.command()
def forget(
    context: typer.Context,
    name: Name,
    items: Letters = None,
    all_letters: All = False,
    yes: Yes = False,
    url: Url = None,
) -> None:
    """Delete dead letters, and print how many.

    It asks first on a terminal, and needs --yes elsewhere. Exit code 1 says that one of the items is no dead letter.

    \b
    Examples:
        redset dead forget jobs read --yes
        redset dead forget jobs --all
    """
    keys = _chosen(items, everything=all_letters)
    letters, _ = _opened(context, name, url)
    what = f"{len(letters):,} dead letters" if all_letters else f"{len(keys):,} dead letters"
    confirm(f"Delete {what} of {name}?", yes=yes)
    _end(keys, letters.discard, letters.clear)


def _opened(context: typer.Context, name: str, url: str | None) -> tuple[Any, bool]:
    client = connected(context, url)
    about = known_set(client, name)
    refuse_kinds(about, "ExpiringSet", "which has no dead letters")
    return make_set(client, about).dead_letters, bool(about.options.get("keyed"))


def _chosen(items: list[str] | None, *, everything: bool) -> list[Key]:
    if bool(items) == everything:
        raise Failure("give items or --all, and not both")
    return [Key(unescaped(item)) for item in items or ()]


def _end(keys: list[Key], end: Any, end_all: Any) -> None:
    if not keys:
        put(f"{end_all()}\n".encode())
        flush()
        return
    ended = [key for key in keys if end(key)]
    put(f"{len(ended)}\n".encode())
    flush()
    if len(ended) < len(keys):
        say(f"{len(keys) - len(ended):,} of them are no dead letters")
        raise typer.Exit(NO)
