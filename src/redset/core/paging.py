"""Reading what waits page by page, in order or in reverse: what is sent, and what the replies mean."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import index
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.items import Items, written_bounds
from redset.core.keys import Keys
from redset.core.operations import CHUNK, Operation, Page
from redset.core.scripts import Script, prepared
from redset.core.times import Moment

__all__ = ("Paging", "Stretch")

T = TypeVar("T")
R = TypeVar("R")

#: A score and an item: a place in the order of a set.
Place: TypeAlias = tuple[bytes, bytes]

#: How many pages are marked ahead at once, about how many items one of these has, and how many it may have in the end.
#: Pages of a keyed set, which come with values, are half as large, and so is the first, for whoever needs no second.
MARKS = 50
MARKED = 2 * CHUNK
MOST = 4 * MARKED


class Stretch(NamedTuple):
    """Which of the waiting items are read, and in which direction."""

    min: Moment | None = None
    max: Moment | None = None
    inclusive: tuple[bool, bool] = (True, True)
    #: How many at most; None for all.
    limit: int | None = None
    reverse: bool = False
    #: Whether scores say until when items live, so that those that live no more are left out; not in reverse.
    living: bool = False

    @property
    def direction(self) -> str:
        """As the script takes it."""
        return "living" if self.living else "backward" if self.reverse else "forward"


ALL = Stretch()


class Paging(Generic[T]):
    """Reading one set page by page."""

    __slots__ = ("_items", "_keys", "_script")

    def __init__(self, keys: Keys, items: Items[T]) -> None:
        self._items = items
        self._script, self._keys = prepared("page", keys, frozenset({"keyed"}) if items.keyed else frozenset())

    def items(self, stretch: Stretch = ALL) -> Operation[Page[T]]:
        return self._first_page(stretch, "items", self._items.load_page)

    def with_scores(self) -> Operation[Page[tuple[T, float]]]:
        return self._first_page(ALL, "scores", self._scored)

    def _scored(self, rows: list[Any]) -> list[tuple[T, float]]:
        if isinstance(rows[0], list):
            # So a ZRANGE answers in RESP3.
            rows = list(chain.from_iterable(rows))
        items = self._items.load_looked_at(rows, 2)
        return list(zip(items, map(float, rows[1::2]), strict=True))

    def _first_page(self, stretch: Stretch, shape: str, load: Callable[[Any], list[R]]) -> Operation[Page[R]]:
        limit = None if stretch.limit is None else index(stretch.limit)
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be at least 0, or None for all, not {limit!r}")
        course = Course(
            script=self._script,
            keys=self._keys,
            direction=stretch.direction,
            shape=shape,
            marks=0 if stretch.living or self._items.keyed or limit is not None else MARKS,
            load=load,
        )
        return course.page(limit, written_bounds(stretch.min, stretch.max, stretch.inclusive), is_first=True)


class Course(NamedTuple, Generic[R]):
    """One reading: what all of its pages have in common."""

    script: Script
    keys: tuple[bytes, ...]
    direction: str
    shape: str
    #: How many pages ahead to mark by scores.
    marks: int
    load: Callable[[Any], list[R]]

    def page(self, left: int | None, where: tuple[bytes | str, ...], *, is_first: bool = False) -> Operation[Page[R]]:
        """The page that begins ``where``, of a reading of which ``left`` items are wanted still."""
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
        """The page from behind one of the marks to the next; behind the last of them they are made anew."""
        behind = b"(" + marks[number - 1]

        def read(rows: list[Any]) -> Page[R]:
            if len(rows) > MOST:
                # So many were added there since that they are taken page by page.
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
