"""The commands that add items: ``add`` and ``new``."""

import sys
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Annotated, Any

import typer

from redset.cli.connecting import Name, Url, connected, make_set, recorded, refuse_kinds
from redset.cli.exits import TRY_LATER, Failure
from redset.cli.progress import progress_bar
from redset.cli.reading import Files, Form, Items, Null, Row, Source
from redset.cli.values import JsonPath, duration, score_or_path
from redset.cli.writing import flush, is_terminal, put, put_json, say
from redset.core.registry import SetInfo
from redset.exceptions import Full

__all__ = ("register",)

Key = Annotated[
    str | None,
    typer.Option(metavar=".FIELD", help="The field of a JSON line that identifies the item.", show_default=False),
]
JsonLines = Annotated[bool, typer.Option("--json", help="Lines are JSON. The result is printed as JSON too.")]


def register(app: typer.Typer) -> None:
    app.command()(add)
    app.command(short_help="Print each line once, over all processes.")(new)


def add(
    context: typer.Context,
    name: Name,
    items: Items = None,
    files: Files = None,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="N|.FIELD",
            help="The score of all items, or the field of a JSON line that has it.",
            show_default=False,
        ),
    ] = None,
    score_column: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The tab-separated column with the score, from 1. It is removed.", show_default=False
        ),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Let the items fall due later: 30s, 1h30m.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="An item that is waiting keeps its score.")] = False,
    key: Key = None,
    json_lines: JsonLines = False,
    null: Null = False,
    url: Url = None,
) -> None:
    """Add items to a set, and print how many were new.

    A set that is not there is made: a SortedSet, or with --delay a ScheduledSet. Lines are taken as they are, and empty
    lines are left out. Items on the command line may have backslash escapes.

    \b
    Examples:
        redset add jobs read write
        find . -name '*.jpg' -print0 | redset add photos --null
        redset add jobs --score 5 urgent
        redset add prices --key .id --score .time < prices.jsonl
        redset add mails --delay 1h 'mail 1'
    """
    at = None if score is None else score_or_path(score)
    path = at if isinstance(at, JsonPath) else None
    form = Form(json_lines, JsonPath.read(key, "--key") if key else None, path, score_column)
    later = None if delay is None else duration(delay, "--delay")
    if sum(given is not None for given in (score, score_column, delay)) > 1:
        raise Failure("give one of --score, --score-column and --delay")
    source = Source(items, files, form, null=null)
    client = connected(context, url)
    adder = _Adder(client, name, form, keep=keep, delay=later, score=None if isinstance(at, JsonPath) else at)
    added = 0
    with progress_bar("Adding") as bar:
        try:
            for block in source.blocks():
                adder.add(block)
                added += len(block)
                bar.update(source.read, source.size, f"{added:,} lines")
        except Full as full:
            raise Failure(
                f"the set {name!r} is full: its maxsize is reached. {added + full.added:,} of the items are in it",
                TRY_LATER,
            ) from None
        except BaseException:
            bar.close()
            if added:
                say(f"{added:,} items were added before, {adder.new:,} of them new")
            raise
    if json_lines:
        put_json({"name": name, "new": adder.new})
    else:
        put(f"{adder.new}\n".encode())
    flush()


class _Adder:
    """Adds blocks of items to a set of any kind."""

    def __init__(
        self, client: Any, name: str, form: Form, *, keep: bool, delay: float | None, score: float | None
    ) -> None:
        self._client = client
        self._delay = delay
        self._score = score
        self._rows_have_scores = form.score is not None or form.score_column is not None
        #: The number of items that were not waiting before.
        self.new = 0
        about = recorded(client, name)
        if about is None:
            about = SetInfo(name, "SortedSet" if delay is None else "ScheduledSet", {"keyed": form.key is not None})
        scored = score is not None or self._rows_have_scores or delay is not None
        if scored or keep:
            refuse_kinds(about, "PeriodicSet ExpiringSet", "whose items have no score that could be given")
        if delay is not None and about.kind != "ScheduledSet":
            raise Failure(f"--delay needs a ScheduledSet, and {name!r} is of the kind {about.kind}")
        self._kind = about.kind
        self._set = make_set(client, about, **self._options(about, form, keep=keep))

    def _options(self, about: SetInfo, form: Form, *, keep: bool) -> dict[str, Any]:
        keyed = bool(about.options.get("keyed"))
        if about.options.get("grouped"):
            raise Failure(f"the items of {about.name!r} have groups, which only its programs can tell")
        if keyed and form.key is None:
            raise Failure(f"the items of {about.name!r} have keys: say by --key .FIELD where they are in a JSON line")
        if form.key is not None and not keyed:
            raise Failure(f"the items of {about.name!r} have no keys: leave --key out")
        options: dict[str, Any] = {"duplicates": "keep"} if keep else {}
        if keyed:
            options |= {"keyed": False, "key": attrgetter("key")}
        return options

    def add(self, block: Sequence[bytes]) -> None:
        if self._kind == "ExpiringSet":
            self.new += len(self._set.add_new(block))
        elif self._kind == "PeriodicSet":
            self.new += self._set.update(block)
        elif self._rows_have_scores:
            self.new += self._set.update(block, score=attrgetter("score"))
        elif self._delay is not None:
            seconds, microseconds = self._client.time()
            self.new += self._set.update(block, score=seconds + microseconds / 1e6 + self._delay)
        else:
            self.new += self._set.update(block, score=self._score)


def new(
    context: typer.Context,
    name: Name,
    items: Items = None,
    files: Files = None,
    ttl: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long an item is remembered: 1d, 12h, 30m.", show_default=False),
    ] = None,
    key: Key = None,
    json_lines: JsonLines = False,
    null: Null = False,
    url: Url = None,
) -> None:
    """Print only lines that no process has added before: a distributed uniq that remembers.

    Of all processes that read a line, one prints it, until its time to live has passed. The set is an ExpiringSet. A
    new one needs --ttl; later calls use the same time unless they give another one.

    \b
    Examples:
        tail -F access.log | cut -d' ' -f1 | redset new visitors --ttl 1d
        redset new mailed --ttl 30d < addresses | xargs -n1 send-mail
        redset new orders --ttl 7d --key .id < orders.jsonl
    """
    form = Form(json_lines, JsonPath.read(key, "--key") if key else None)
    lifetime = None if ttl is None else duration(ttl, "--ttl")
    if lifetime == 0:
        raise Failure("--ttl must be more than 0")
    source = Source(items, files, form, null=null)
    client = connected(context, url)
    about = recorded(client, name)
    if about is None:
        if lifetime is None:
            raise Failure(f"there is no set {name!r}: give --ttl to make it")
        about = SetInfo(name, "ExpiringSet", {"ttl": lifetime})
    if about.kind != "ExpiringSet":
        raise Failure(f"'redset new' needs an ExpiringSet, and {name!r} is of the kind {about.kind}")
    seen = make_set(client, about)
    with progress_bar("Reading", hidden=is_terminal(sys.stdout)) as bar:
        lines = 0
        for block in source.blocks():
            _put_new(seen, block, form, lifetime, b"\0" if null else b"\n")
            lines += len(block)
            bar.update(source.read, source.size, f"{lines:,} lines")


def _put_new(seen: Any, block: Sequence[bytes], form: Form, ttl: float | None, end: bytes) -> None:
    """Print the lines that are new, also those of a call that fails afterwards: nobody else will find them new."""
    found: Sequence[bytes] = ()
    try:
        found = seen.add_new(_keyed(block) if form.key is not None else block, ttl)
    except BaseException as error:
        found = getattr(error, "new_items", ())
        raise
    finally:
        put(b"".join([_line(row) + end for row in found]))
        flush()


def _keyed(block: Sequence[bytes]) -> Iterator[bytes]:
    for row in block:
        assert isinstance(row, Row)
        keyed = Row(row.key.encode("utf-8", "surrogatepass"))
        keyed.line = row
        yield keyed


def _line(row: bytes) -> bytes:
    return row.line if isinstance(row, Row) and hasattr(row, "line") else row
