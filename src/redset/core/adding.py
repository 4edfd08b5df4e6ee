"""Additions: what add and increment send, and how their replies are read."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from redset.core.callables import called, called_each
from redset.core.definition import Definition
from redset.core.operations import Operation, Shape, only
from redset.core.scores import written_score, written_scores
from redset.core.scripts import Script
from redset.core.shown import checked_flag, shown
from redset.core.times import Duration, Moment, difference, seconds
from redset.exceptions import Full

__all__ = ("Adding", "Rule", "Score", "flagged")

T = TypeVar("T")
R = TypeVar("R")

#: One score for all items, a callable that scores each of them, or None for the set's scorer.
Score: TypeAlias = Moment | Callable[[T], Moment] | None


class Rule(NamedTuple):
    """The effect of an addition on an item that is waiting, and on one that is not."""

    #: The flags of ZADD; empty if the new score always stands.
    flags: str
    #: On keyed sets, the items whose value is replaced: ``all``, ``new`` ones or waiting ones (``known``).
    replaces: str = "all"


#: The rules of ``duplicates=``.
DUPLICATES = {"update": Rule(""), "keep": Rule("NX"), "earliest": Rule("LT"), "latest": Rule("GT")}


def flagged(
    *, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False, force: bool = False
) -> Rule | None:
    """Return the rule for flags of ``add``, or None without flags.

    :param force: no flag of the rule, but one that ``xx`` contradicts.
    :raises ValueError: they contradict each other.
    """
    if force and xx:
        raise ValueError("force and xx contradict each other: no item can be added like that")
    if not (nx or xx or gt or lt):
        return None
    given = [flag for flag, is_given in (("nx", nx), ("xx", xx), ("gt", gt), ("lt", lt)) if is_given]
    if given not in (["nx"], ["xx"], ["gt"], ["lt"], ["xx", "gt"], ["xx", "lt"]):
        raise ValueError(f"{' and '.join(given)} contradict each other: no item can satisfy them")
    return Rule(" ".join(given).upper(), "new" if nx else "known" if xx else "all")


class Adding(Generic[T]):
    """The additions to one set."""

    __slots__ = ("_add", "_duplicates", "_grouping", "_heads", "_items", "_set", "set_name", "width")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self.set_name = definition.name
        self._items = definition.items
        self._duplicates = DUPLICATES[definition.duplicates]
        self._add = definition.script("add")
        self._heads: dict[tuple[str, Rule], tuple[tuple[str, ...], Shape]] = {}
        #: The number of columns of a row: score, item, on keyed sets the value, on sets with groups the group.
        self._grouping = definition.grouping
        self.width = 2 + definition.items.keyed + (self._grouping is not None)

    def add(
        self, item: T, score: Moment | None = None, rule: Rule | None = None, *, force: bool = False
    ) -> Operation[float | None]:
        if score is None:
            score = called(self._set.scorer, item, "the scorer")
        row = self._row(item, written_score(score, item))
        if force is not False and self._forces(force=force):
            return self._add_specially(row, rule, "forced")
        if rule or self._duplicates.flags:
            return only(self.add_rows(row, rule))

        def read(reply: bytes) -> float | None:
            if b"/" in reply:
                raise Full(self.set_name)
            return None if b" " in reply else float(row[0])

        return self._operation(row, self._duplicates, "added", read)

    def addition(
        self,
        item: T,
        score: Moment | None = None,
        delay: Duration | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        force: bool = False,
    ) -> Operation[float | None]:
        """Return the addition of an item with these parameters of ``add``.

        :param delay: in place of a score: seconds from now, by the server's clock.
        :raises ValueError: there is a score too.
        """
        rule = flagged(nx=nx, xx=xx, gt=gt, lt=lt, force=force)
        if delay is None:
            return self.add(item, score, rule, force=force)
        if score is not None:
            raise ValueError(f"delay={delay!r} and score={score!r} contradict each other: give one of them")
        row = self._row(item, repr(seconds(delay, "delay")))
        return self._add_specially(row, rule, "delayed", *(["forced"] if self._forces(force=force) else []))

    def _forces(self, *, force: bool) -> bool:
        """Return whether to add an item that is remembered; False on a set that does not remember.

        :raises TypeError: ``force`` is no bool.
        """
        return checked_flag(force, "force") and self._set.remember > 0

    def _add_specially(self, row: Sequence[bytes | str], rule: Rule | None, *features: str) -> Operation[float | None]:
        """Return an addition by the script that has these features in addition to those of the set."""
        script = self._set.script("add", *features)
        return only(self._operation(row, rule or self._duplicates, "scores", self._read_scores, script=script))

    def add_rows(self, rows: Sequence[bytes | str], rule: Rule | None = None) -> Operation[list[float | None]]:
        """Add rows. Returns each item's score after that; None for an item that is not waiting or was left out.

        The arguments are the rule with its flags, and then the rows, so additions under one rule can be coalesced.

        :param rows: the result of :meth:`rows`.
        :param rule: by default that of the set's ``duplicates``.
        """
        rule = rule or self._duplicates
        if rule.flags:
            return self._operation(rows, rule, "scores", self._read_scores)
        written = rows[:: self.width]

        def read(reply: bytes) -> list[float | None]:
            scores: list[float | None] = list(map(float, written))
            for position in self._with_room(reply).split()[1:]:
                scores[int(position)] = None
            return scores

        return self._operation(rows, rule, "added", read)

    def add_absent(self, rows: Sequence[bytes | str]) -> Operation[Any]:
        """Add rows, except those of waiting items, which keep their scores and values."""
        return self._operation(rows, Rule("NX", "new"), "bulk", self._read_added, alone=True)

    def count_new(self, items: Sequence[T], score: Score[T] = None, rule: Rule | None = None) -> Operation[int]:
        """Add at most 1,000 items, and return how many were not waiting before."""
        return self.count_new_rows(self.rows(items, score), rule)

    def count_new_rows(self, rows: Sequence[bytes | str], rule: Rule | None = None) -> Operation[int]:
        """Add rows, and return how many of their items were not waiting before."""
        return self._operation(rows, rule or self._duplicates, "bulk", self._read_added, alone=True)

    def increment(self, item: T, by: Duration) -> Operation[float | None]:
        """Increment a score. Not coalesced, since ZADD increments one item per call."""
        row = self._row(item, written_score(difference(by, "by"), item))
        return only(
            self._operation(row, Rule("INCR"), "scores", lambda reply: self._read_sum(reply, item, by), alone=True)
        )

    def _read_sum(self, reply: bytes, item: T, by: Duration) -> list[float | None]:
        if reply == b"nan":
            raise ValueError(f"the score of {shown(item)} in the set {self._set.name!r} plus {by!r} is not a number")
        return self._read_scores(reply)

    def _read_scores(self, reply: bytes) -> list[float | None]:
        if b"!" in reply:
            raise Full(self.set_name)
        return [None if score == b"-" else float(score) for score in reply.split(b" ")]

    def _read_added(self, reply: bytes) -> int:
        return int(self._with_room(reply).split(maxsplit=1)[0])

    def _with_room(self, reply: bytes) -> bytes:
        """Return a reply, unless it says that the set had no room for some rows."""
        if b"/" in reply:
            raise Full(self.set_name, int(reply.partition(b"/")[2].split(maxsplit=1)[0]))
        return reply

    def _row(self, item: T, written: str) -> list[Any]:
        if self._items.keyed:
            row: list[Any] = [written, self._items.identity(item), self._items.dump(item)]
        else:
            row = [written, self._items.dump(item)]
        if self._grouping is not None:
            row.append(self._grouping.of(item, row[1]))
        return row

    def rows(self, items: Sequence[T], score: Score[T] = None) -> list[bytes | str]:
        """Return the rows of items. Errors of the scorer, the serializer and the key pass through."""
        rows: list[Any] = [None] * (len(items) * self.width)
        rows[:: self.width] = self.written_scores(items, score)
        # On a keyed set the value stands behind the identity; else it is the identity itself.
        rows[1 + self._items.keyed :: self.width] = self._items.dump_all(items)
        if self._items.keyed:
            rows[1 :: self.width] = self._items.identities(items)
        if groups := self.groups(items, rows[1 :: self.width]):
            rows[self.width - 1 :: self.width] = groups
        return rows

    def groups(self, items: Sequence[T], identities: Sequence[bytes]) -> list[bytes]:
        """Return the group of each item; nothing on a set without groups. Errors of the callable pass through."""
        return [] if self._grouping is None else self._grouping.of_each(items, identities)

    def written_scores(self, items: Sequence[T], score: Score[T] = None) -> list[str]:
        if score is None or callable(score):
            return written_scores(called_each(score or self._set.scorer, items, "the scorer"), items)
        return [written_score(score, None, "the score of all items")] * len(items)

    def _operation(
        self,
        rows: Sequence[bytes | str],
        rule: Rule,
        want: str,
        read: Callable[[bytes], R],
        *,
        alone: bool = False,
        script: tuple[Script, tuple[bytes, ...]] | None = None,
    ) -> Operation[R]:
        head, shape = self._heads.get((want, rule)) or self._head(want, rule)
        verb, keys = script or self._add
        return Operation(verb, keys, [*head, *rows], read, recorded=True, shape=None if alone else shape)

    def _head(self, want: str, rule: Rule) -> tuple[tuple[str, ...], Shape]:
        """Return the arguments before the rows and the shape of such additions. Cached, since there are few."""
        flags = rule.flags.split()
        word = f"{want} {rule.replaces} {len(flags)}"
        if self._grouping is not None:
            word += f" {self._set.group_leases} {self._set.group_pause!r}"
        made = (word, *flags), Shape(want, 1 + len(flags), self.width)
        self._heads[want, rule] = made
        return made
