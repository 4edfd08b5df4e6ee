"""Additions of many items: what update sends, chunk by chunk."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Generic, TypeVar

from redset.core.adding import Adding, Rule, Score
from redset.core.operations import Operation, Plan, in_chunks
from redset.core.scores import written_score
from redset.exceptions import Full

__all__ = ("Update",)

T = TypeVar("T")


class Update(Generic[T]):
    """An addition of many items, chunk by chunk, and its progress."""

    __slots__ = ("_adding", "_rule", "_score", "new", "sent")

    def __init__(self, adding: Adding[T], score: Score[T] = None, rule: Rule | None = None) -> None:
        if score is not None and not callable(score):
            written_score(score, None, "the score of all items")
        self._adding = adding
        self._score = score
        self._rule = rule
        #: The number of added items, and of those that were not waiting before.
        self.sent = 0
        self.new = 0

    def add_all(self, iterables: Iterable[Iterable[T]]) -> Plan[int]:
        """Add all items of some iterables, and return how many were not waiting before."""
        # `chain` would take a StopIteration that an `__iter__` raises for the end.
        return self._add_all([iter(iterable) for iterable in iterables])

    def _add_all(self, iterators: Iterable[Iterator[T]]) -> Plan[int]:
        yield from self.add(chain.from_iterable(iterators))
        return self.new

    def add(self, items: Iterable[T]) -> Plan[None]:
        """Add items, of which only one chunk is in memory. Their errors pass through, with a note."""
        with self.noting_errors():
            for chunk in in_chunks(items):
                try:
                    self.new += yield self._count_new(chunk)
                except Full as full:
                    self.sent += full.added
                    raise Full(full.name, self.sent) from None
                self.sent += len(chunk)

    def _count_new(self, items: Sequence[T]) -> Operation[int]:
        return self._adding.count_new(items, self._score, self._rule)

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Add a note with the progress to an error that passes through."""
        try:
            yield
        except Full:
            # It says that itself.
            raise
        except Exception as error:
            error.add_note(
                f"{self.sent} items had been added to the set {self._adding.set_name!r} before, {self.new} of them new"
            )
            raise
