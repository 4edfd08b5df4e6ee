"""Merging the pages of several shards into pages in order."""

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from redset.core.operations import Plan
from redset.core.paging import Page
from redset.core.shards.place import Shard, as_operation, at_once

__all__ = ("Source", "merged")


class Source:
    """The items of one shard that were read, and the step that reads the next ones, if there may be any."""

    def __init__(self, behind: Any, shard: Shard) -> None:
        self.rows: deque[Any] = deque()
        self._behind = behind
        self._shard = shard

    @property
    def has_more(self) -> bool:
        return self._behind is not None

    def fill(self) -> Plan[None]:
        """Read pages until there are rows, or no more."""
        while self._behind is not None and not self.rows:
            page: Page[Any] = yield self._behind
            self.rows.extend(page.items)
            self._behind = self._shard.at(page.behind) if page.behind else None


def merged(
    sources: list[Source],
    show: Callable[[Any], Any],
    limit: int | None,
    *,
    reverse: bool,
    place: Callable[[Any], Any] = lambda row: (row.score, row.identity),
) -> Plan[Page[Any]]:
    """Return the next page of the merge: all rows up to the first place behind which a shard may have unread ones.

    :param limit: the largest number of rows; None: no limit.
    """
    yield from at_once([source.fill() for source in sources])
    sources = [source for source in sources if source.rows]
    ends = [place(source.rows[-1]) for source in sources if source.has_more]
    end = (max(ends) if reverse else min(ends)) if ends else None
    parts: list[list[Any]] = []
    for source in sources:
        part: list[Any] = []
        while source.rows and (end is None or _is_within(place(source.rows[0]), end, reverse=reverse)):
            part.append(source.rows.popleft())
        parts.append(part)
    rows = list(heapq.merge(*parts, key=place, reverse=reverse))[:limit]
    left = None if limit is None else limit - len(rows)
    is_last = left == 0 or not any(source.rows or source.has_more for source in sources)
    behind = None if is_last else as_operation(merged(sources, show, left, reverse=reverse, place=place))
    return Page([show(row) for row in rows], behind)


def _is_within(place: Any, end: Any, *, reverse: bool) -> bool:
    return bool(place >= end if reverse else place <= end)
