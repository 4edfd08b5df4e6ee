"""Input: the items on the command line, or lines of stdin and of files, with their scores and keys."""

import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from redset.cli.escapes import escaped, unescaped
from redset.cli.exits import DATA, IO, Failure
from redset.cli.values import JsonPath, number
from redset.cli.writing import is_terminal, say

__all__ = ("Files", "Form", "Items", "Null", "Row", "Source")

#: Bytes that are read at once: some thousand lines. A pipe gives what it has, so that slow lines are not held up.
_BLOCK = 1 << 18

Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ITEM]...", help="Items. Default: the lines of standard input.", show_default=False),
]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--arg-file", "-a", metavar="FILE", help="Read lines from this file; - is standard input.", show_default=False
    ),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="Items end with a NUL byte instead of a line end.")]


class Row(bytes):
    """The bytes of an item, with what its line says in addition."""

    score: float
    key: str
    line: bytes


@dataclass(frozen=True)
class Form:
    """How an item, a score and a key are read from a line."""

    json: bool = False
    key: JsonPath | None = None
    score: JsonPath | None = None
    #: The number of the tab-separated column that has the score, from 1.
    score_column: int | None = None

    def __post_init__(self) -> None:
        if self.score_column is not None and (self.json or self.key or self.score):
            raise Failure(
                "--score-column counts the columns of lines: it does not go with --json, --key or a --score path"
            )
        if self.score_column is not None and self.score_column < 1:
            raise Failure(f"--score-column counts from 1, so there is no column {self.score_column}")

    @property
    def is_json(self) -> bool:
        return self.json or self.key is not None or self.score is not None

    @property
    def is_plain(self) -> bool:
        """Whether a line is an item and nothing else."""
        return not self.is_json and self.score_column is None

    def rows(self, lines: Sequence[bytes], first: int) -> Sequence[bytes]:
        """Return the items of some lines.

        :param first: the number of the first line, for messages.
        :raises Failure: a line cannot be read.
        """
        if self.is_plain:
            return lines
        read = self._of_json if self.is_json else self._of_columns
        return [read(line, place) for place, line in enumerate(lines, first)]

    def _of_columns(self, line: bytes, place: int) -> Row:
        assert self.score_column is not None
        columns = line.split(b"\t")
        if len(columns) < max(2, self.score_column):
            raise _bad(place, f"there is no column {max(2, self.score_column)}", line)
        written = columns.pop(self.score_column - 1)
        score = number(written)
        if score is None:
            raise _bad(place, f"column {self.score_column} is no number", written)
        row = Row(b"\t".join(columns))
        row.score = score
        return row

    def _of_json(self, line: bytes, place: int) -> Row:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _bad(place, f"this is no JSON ({error})", line) from None
        row = Row(line.strip())
        if self.score is not None:
            score = self.score.of(document)
            if isinstance(score, bool) or not isinstance(score, int | float) or score != score:  # noqa: PLR0124 # NaN
                raise _bad(place, f"there is no number at {self.score}", line)
            row.score = score
        if self.key is not None:
            key = self.key.of(document)
            if key is None or isinstance(key, dict | list):
                raise _bad(place, f"there is no text or number at {self.key}", line)
            # A key in Python is stored in the same form: as its str.
            row.key = str(key)
        return row


def _bad(place: int, reason: str, shown: bytes) -> Failure:
    text = escaped(shown[:80]) + ("..." if len(shown) > 80 else "")  # noqa: PLR2004 # a line of a terminal
    return Failure(f"line {place}: {reason}: {text}", DATA)


class Source:
    """The input of one command, in blocks of items."""

    def __init__(self, items: Sequence[str] | None, files: Sequence[Path] | None, form: Form, *, null: bool) -> None:
        if items and files:
            raise Failure("give items, or --arg-file, and not both")
        self._items = items
        self._files = files or [Path("-")]
        self._form = form
        self._separator = b"\0" if null else b"\n"
        self._null = null
        #: The bytes that were read, and how many there are; None if that is not known.
        self.read = 0
        self.size: int | None = None

    def blocks(self) -> Iterator[Sequence[bytes]]:
        """Yield the items, some thousand at a time, or as many as have arrived.

        :raises Failure: a file or a line cannot be read.
        """
        first = 1
        for lines in self._from_arguments() if self._items else self._from_files():
            if lines:
                yield self._form.rows(lines, first)
                first += len(lines)

    def _from_arguments(self) -> Iterator[Sequence[bytes]]:
        raw = map(os.fsencode, self._items or ())
        # JSON has backslashes of its own.
        yield [one if self._form.is_json else unescaped(one) for one in raw]

    def _from_files(self) -> Iterator[Sequence[bytes]]:
        with ExitStack() as stack:
            try:
                streams = [self._opened(path, stack) for path in self._files]
                sizes = list(map(_size, streams))
                self.size = None if None in sizes else sum(filter(None, sizes))
                for stream in streams:
                    yield from self._lines(stream)
            except OSError as error:
                place = "" if error.filename is None else f" {error.filename}"
                raise Failure(f"cannot read{place}: {error.strerror}", IO) from None

    def _opened(self, path: Path, stack: ExitStack) -> BinaryIO:
        if str(path) != "-":
            return stack.enter_context(path.open("rb"))
        if sys.stdin is None:
            return io.BytesIO()
        if is_terminal(sys.stdin):
            say("reading items from the terminal, one per line; Ctrl-D ends them")
        return sys.stdin.buffer

    def _lines(self, stream: BinaryIO) -> Iterator[Sequence[bytes]]:
        # A pipe gives what it has; a file gives a whole block.
        read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        rest: list[bytes] = []
        while block := read(_BLOCK):
            self.read += len(block)
            first, *lines = block.split(self._separator)
            rest.append(first)
            if lines:
                whole = b"".join(rest)
                rest = [lines.pop()]
                yield self._without_empty([whole, *lines])
        if last := b"".join(rest):
            yield [last]

    def _without_empty(self, lines: list[bytes]) -> list[bytes]:
        if self._null or b"" not in lines:
            return lines
        return list(filter(None, lines))


def _size(stream: Any) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
