"""Output: data on stdout, words on stderr."""

import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from redset.cli.escapes import escaped
from redset.cli.exits import BROKEN_PIPE, IO, Failure

__all__ = (
    "Json",
    "cell",
    "draw",
    "flush",
    "is_terminal",
    "put",
    "put_items",
    "put_json",
    "put_lines",
    "put_rows",
    "say",
)

#: The names of fields that are times, in seconds since the epoch.
_TIMES = {"died_at", "deadline", "paused_until", "rests_until", "since", "next_due"}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def say(message: str) -> None:
    """Print words for a person, on stderr."""
    with contextlib.suppress(OSError, ValueError):
        print(f"redset: {message}", file=sys.stderr, flush=True)


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def put(data: bytes) -> None:
    """Write data to stdout.

    :raises SystemExit: the reader has gone, as ``head`` does. The code is that of a program which SIGPIPE ends.
    :raises Failure: stdout cannot be written.
    """
    _try(lambda: sys.stdout.buffer.write(data))


def flush() -> None:
    """Write what is buffered; raises as :func:`put` does."""
    # A lambda, since there may be no stdout.
    _try(lambda: sys.stdout.flush())  # noqa: PLW0108


def _try(write: Any) -> None:
    try:
        write()
    except OSError as error:
        # Else the interpreter would write the rest when it ends, and complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            raise SystemExit(BROKEN_PIPE) from None
        raise Failure(f"cannot write the output: {error.strerror}", IO) from None
    except AttributeError:
        raise Failure("there is no standard output", IO) from None


def put_items(items: Iterable[bytes], *, null: bool = False) -> None:
    """Write items, one per line in their written form; with ``null`` their bytes, each followed by a NUL."""
    if null:
        put(b"".join(item + b"\0" for item in items))
    else:
        put("".join(f"{escaped(item)}\n" for item in items).encode())
    flush()


def put_lines(*lines: str) -> None:
    """Write lines of text at once."""
    put("".join(f"{line}\n" for line in lines).encode())
    flush()


def put_json(row: Mapping[str, Any]) -> None:
    """Write one JSON object on a line. Items, which are bytes, are in their written form."""
    put(json.dumps(_plain(row), ensure_ascii=False).encode() + b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, bytes):
        return escaped(value)
    # JSON has no infinity.
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def cell(value: Any, name: str = "") -> str:
    """Return a value as the text of a column: times, which have such names, in local time."""
    if value is None:
        return "-"
    if name in _TIMES and isinstance(value, float):
        # A time beyond the years of a calendar, which any program may set, is shown as the number that it is.
        with contextlib.suppress(OSError, OverflowError, ValueError):
            return datetime.fromtimestamp(value).astimezone().isoformat(timespec="seconds")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if name == "lag" else f"{value:.15g}"
    return escaped(value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape"))


def put_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Write rows: as JSON objects; on a terminal as a table; else as columns between tabs, without a head.

    :param columns: the names of the columns. JSON objects have all names of the row.
    """
    if as_json:
        for row in rows:
            put_json(row)
    elif is_terminal(sys.stdout):
        _put_table(list(rows), columns)
    else:
        for row in rows:
            put(("\t".join(cell(row.get(name), name) for name in columns) + "\n").encode())
    flush()


def _put_table(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(
            name.upper().replace("_", " "), justify="right" if numbers and rows else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell(row.get(name), name)) for name in columns))
    draw(Console(highlight=False), table)


def draw(console: Any, drawn: Any) -> None:
    """Print what rich draws, on stdout; raises as :func:`put` does."""
    flush()
    _try(lambda: console.print(drawn))
