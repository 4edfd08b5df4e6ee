"""The inputs of the demo: a tree of files, or lines of text.

Producers call :meth:`~Input.offers`, consumers :meth:`~Input.digest`. As a check, :meth:`~Input.observe` and
:meth:`~Input.plain_result` do the same work in one plain loop that shares no code with them.
"""

import hashlib
import os
import random
import select
import shutil
import stat
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

__all__ = ("Input", "Lines", "PlainResult", "Tree", "from_arguments", "waiting_lines")

_PATIENCE_WITH_A_PIPE = 2.0


@dataclass(frozen=True)
class PlainResult:
    """The result of a plain loop."""

    #: Each item and the digest of its content; None if it cannot be read.
    digests: dict[bytes, str | None]
    #: Items that came, went or changed while the demo ran, and so have no single right result. Not in ``digests``.
    changed: frozenset[bytes]
    #: The most frequent contents: the number of copies, and an example.
    most_copied: list[tuple[int, str]]


class Input(Protocol):
    """Items that many processes can read in parallel, each in its own order."""

    #: The plural of its items.
    noun: str
    #: The title of :attr:`PlainResult.most_copied`.
    copied: str

    def arguments(self) -> list[str]:
        """Return the arguments from which :func:`from_arguments` makes an equal input in another process."""

    def __str__(self) -> str: ...

    def offers(self, order: random.Random) -> Iterator[bytes]:
        """Yield every item, as often as it occurs."""

    def digest(self, item: bytes) -> str | None:
        """Return a hash of the item's content, or None if it cannot be read."""

    def observe(self) -> None:
        """Record the state before the demo."""

    def plain_result(self) -> PlainResult:
        """Return the result of a plain loop now."""


class Tree:
    """The regular files under a directory; an item is a path."""

    noun = "files"
    copied = "identical files"

    def __init__(self, root: Path | str, without: Sequence[str] = ()) -> None:
        self._root = os.fsencode(root)
        self._without = frozenset(map(os.fsencode, without))
        self._seen_before: dict[bytes, tuple[int, ...]] = {}

    def __str__(self) -> str:
        without = " and ".join(_printable(name) for name in sorted(self._without))
        return f"the files under {_printable(self._root)}" + (f" (without {without})" if without else "")

    def arguments(self) -> list[str]:
        return ["tree", os.fsdecode(self._root), *map(os.fsdecode, self._without)]

    def offers(self, order: random.Random) -> Iterator[bytes]:
        for folder, folders, names in os.walk(self._root):
            folders[:] = [name for name in folders if name not in self._without]
            order.shuffle(folders)
            order.shuffle(names)
            paths = (os.path.join(folder, name) for name in names)  # noqa: PTH118 - a Path has no bytes
            yield from filter(_is_regular, paths)

    def digest(self, item: bytes) -> str | None:
        try:
            with Path(os.fsdecode(item)).open("rb") as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()
        except OSError:
            return None

    def observe(self) -> None:
        self._seen_before = self._walk()

    def plain_result(self) -> PlainResult:
        before, after = self._seen_before, self._walk()
        stable = {path for path in before if after.get(path) == before[path]}
        digests = {path: _plain_digest(path) for path in stable}
        changed = frozenset((before.keys() | after.keys()) - stable)
        return PlainResult(digests, changed, _largest_groups(digests))

    def _walk(self) -> dict[bytes, tuple[int, ...]]:
        """Return every regular file, with a stamp that differs when it has changed."""
        found: dict[bytes, tuple[int, ...]] = {}
        pending = [self._root]
        while pending:
            with suppress(OSError):
                for entry in os.scandir(pending.pop()):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[entry.path] = (status.st_ino, status.st_size, status.st_mtime_ns)
                    elif stat.S_ISDIR(status.st_mode) and entry.name not in self._without:
                        pending.append(entry.path)
        return found


class Lines:
    """The lines of a file; an item is a line without its line end."""

    noun = "lines"
    copied = "most repeated line"

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    def __str__(self) -> str:
        return "the lines of the standard input"

    def arguments(self) -> list[str]:
        return ["lines", str(self._path)]

    def offers(self, order: random.Random) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            lines = [line.removesuffix(b"\n").removesuffix(b"\r") for line in file]
        order.shuffle(lines)
        yield from lines

    def digest(self, item: bytes) -> str | None:
        return hashlib.blake2b(item).hexdigest()

    def observe(self) -> None:
        """Record nothing: no other process writes to the file."""

    def plain_result(self) -> PlainResult:
        lines = self._path.read_bytes().removesuffix(b"\n").split(b"\n")
        counts = Counter(line.removesuffix(b"\r") for line in lines)
        digests: dict[bytes, str | None] = {line: hashlib.blake2b(line).hexdigest() for line in counts}
        repeated = [(count, _printable(line)) for line, count in counts.most_common(5) if count > 1]
        return PlainResult(digests, frozenset(), repeated)


def from_arguments(kind: str, place: str, *without: str) -> Input:
    """Return the input that gave these arguments."""
    return Lines(place) if kind == "lines" else Tree(place, without)


@contextmanager
def waiting_lines(stream: TextIO | None) -> Iterator[Path | None]:
    """Yield a temporary copy of the lines of ``stream``, or None if it has none.

    It has none if it is missing, a terminal, empty or /dev/null, or a pipe that stays silent for two seconds: programs
    that run others often leave such a pipe open.
    """
    if stream is None or stream.isatty() or not select.select([stream], [], [], _PATIENCE_WITH_A_PIPE)[0]:
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="redset-demo-") as copy:
        shutil.copyfileobj(stream.buffer, copy)
        copy.flush()
        yield Path(copy.name) if copy.tell() else None


def _is_regular(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _plain_digest(path: bytes) -> str | None:
    content = hashlib.blake2b()
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            while chunk := file.read(1 << 20):
                content.update(chunk)
    except OSError:
        return None
    return content.hexdigest()


def _largest_groups(digests: dict[bytes, str | None]) -> list[tuple[int, str]]:
    groups = defaultdict(list)
    for path, digest in digests.items():
        if digest is not None:
            groups[digest].append(path)
    largest = sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)[:5]
    return [(len(group), _printable(group[0])) for group in largest]


def _printable(raw: bytes) -> str:
    """Replace control characters: a file name or a line must not send them to a terminal."""
    text = raw.decode(errors="replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
