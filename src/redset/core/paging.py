"""Iteration over waiting items, page by page, in order or in reverse: what is sent, and how replies are read."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import index
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.looking import loaded
from redset.core.operations import CHUNK, Operation
from redset.core.scores import written_bounds
from redset.core.scripts import Script, prepared
from redset.core.times import Moment

__all__ = ("ALL", "Page", "Paging", "Placed", "Span")

T = TypeVar("T")
R = TypeVar("R")

#: A score and an item: a place in the order of a set.
Place: TypeAlias = tuple[bytes, bytes]

#: The number of pages that are marked ahead, and the number of items of each: when it is marked, and at most when it is
#: read. The first page is half as large, since a caller may need no second, and so are those of a keyed set.
MARKS = 50
MARKED = 2 * CHUNK
MOST = 4 * MARKED


class Page(NamedTuple, Generic[T]):
    """A page of an iteration, and the operation that reads the next one, if there is one."""

    items: list[T]
    behind: "Operation[Page[T]] | None"


class Placed(NamedTuple, Generic[T]):
    """An item and its place: its score, and its stored identity."""

    score: float
    identity: bytes
    item: T


class Span(NamedTuple):
    """The waiting items to read, and the direction."""

    min: Moment | None = None
    max: Moment | None = None
    inclusive: tuple[bool, bool] = (True, True)
    #: The largest number of items; None: no limit.
    limit: int | None = None
    reverse: bool = False
    #: Whether scores are times at which items expire, so that expired ones are left out. Not in reverse.
    living: bool = False

    @property
    def direction(self) -> str:
        """The direction as the script takes it."""
        return "living" if self.living else "backward" if self.reverse else "forward"


ALL = Span()


class Paging(Generic[T]):
    """The iterations over one set."""

    __slots__ = ("_items", "_keys", "_script")

    def __init__(self, keys: Keys, items: Items[T]) -> None:
        self._items = items
        self._script, self._keys = prepared("page", keys, frozenset({"keyed"}) if items.keyed else frozenset())

    def items(self, span: Span = ALL) -> Operation[Page[T]]:
        return self._first_page(span, "items", self._loaded)

    def _loaded(self, rows: list[Any] | bytes) -> list[T]:
        """Return the items of rows, which may be lines of one string."""
        if not isinstance(rows, bytes):
            return loaded(self._items, rows, 1)
        items = self._items.load_lines(rows)
        return loaded(self._items, rows.split(b"\n"), 1) if items is None else items

    def with_scores(self) -> Operation[Page[tuple[T, float]]]:
        return self._first_page(ALL, "scores", self._scored)

    def _scored(self, rows: list[Any]) -> list[tuple[T, float]]:
        if isinstance(rows[0], list):
            # The reply of ZRANGE in RESP3.
            rows = list(chain.from_iterable(rows))
        items = loaded(self._items, rows, 2)
        return list(zip(items, map(float, rows[1::2]), strict=True))

    def placed(self, span: Span) -> Operation[Page[Placed[T]]]:
        """Read items with their places."""
        return self._first_page(span, "scores", self._placed)

    def _placed(self, rows: list[Any]) -> list[Placed[T]]:
        if isinstance(rows[0], list):
            rows = list(chain.from_iterable(rows))
        identities = rows[: len(rows) - self._items.keyed : 2]
        items = loaded(self._items, rows, 2)
        return [Placed(*row) for row in zip(map(float, rows[1::2]), identities, items, strict=True)]

    def _first_page(self, span: Span, shape: str, load: Callable[[Any], list[R]]) -> Operation[Page[R]]:
        limit = None if span.limit is None else index(span.limit)
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be at least 0, or None for all, not {limit!r}")
        course = Course(
            script=self._script,
            keys=self._keys,
            direction=span.direction,
            shape=shape,
            marks=0 if span.living or self._items.keyed or limit is not None else MARKS,
            load=load,
        )
        return course.page(limit, written_bounds(span.min, span.max, span.inclusive), is_first=True)


class Course(NamedTuple, Generic[R]):
    """The parameters that all pages of one iteration share."""

    script: Script
    keys: tuple[bytes, ...]
    direction: str
    shape: str
    #: The number of pages to mark ahead.
    marks: int
    load: Callable[[Any], list[R]]

    def page(self, left: int | None, where: tuple[bytes | str, ...], *, is_first: bool = False) -> Operation[Page[R]]:
        """Return the operation for the page that begins at ``where``, if ``left`` more items are needed."""
        size = CHUNK if is_first or len(self.keys) > 1 else MARKED
        wanted = size if left is None else min(left, size)

        def read(reply: list[Any]) -> Page[R]:
            if not reply:
                return Page([], None)
            rows, last_score, *end, marks = reply
            items = self.load(rows)
            still_left = None if left is None else left - len(items)
            if len(items) < wanted or still_left == 0:
                return Page(items, None)
            if marks:
                return Page(items, self._page_to_mark([last_score, *marks.split(b" ")], end))
            return Page(items, self.page(still_left, (last_score, self._last_item(rows), *end)))

        args = (str(wanted), self.direction, self.shape, str(self.marks), str(MARKED), *where)
        return Operation(self.script, self.keys, args, read)

    def _page_to_mark(self, marks: list[bytes], end: Sequence[bytes], number: int = 1) -> Operation[Page[R]]:
        """Return the operation for the page between two marks; after the last mark, one that sets new marks."""
        behind = b"(" + marks[number - 1]

        def read(rows: list[Any]) -> Page[R]:
            if len(rows) > MOST:
                # Many items were added there meanwhile: read them page by page, without marks.
                return Page([], self.page(None, (behind, b"", *end)))
            items = self.load(rows) if rows else []
            if number + 1 < len(marks):
                return Page(items, self._page_to_mark(marks, end, number + 1))
            return Page(items, self.page(None, (b"(" + marks[number], b"", *end)))

        options = ["BYSCORE", *(["REV"] if self.direction == "backward" else []), "LIMIT", "0", str(MOST + 1)]
        options += ["WITHSCORES"] if self.shape == "scores" else []
        return Operation("ZRANGE", self.keys, (behind, marks[number], *options), read)

    def _last_item(self, rows: Any) -> bytes:
        if isinstance(rows, bytes):
            return rows.rpartition(b"\n")[2]
        item: bytes = rows[-1 if self.shape == "items" else -2]
        return item
