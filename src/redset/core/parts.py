"""The parts of a coalesced call: how their arguments are joined, and its reply is dealt out to them.

The :class:`~redset.core.operations.Shape` of an operation names one of the ways here.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from itertools import accumulate
from typing import Any, Protocol

from redset.core.claiming import COLUMNS, LIMIT, NO_DEATHS
from redset.core.operations import Args, Operation, Shape

__all__ = ("Way", "way_of")


class Sized(Protocol):
    """A part, as far as its way has to know it."""

    #: The number of items that it moves.
    size: int
    operation: Operation[Any]


class Way:
    """Operations that take rows of arguments: in a coalesced call, the rows of all parts follow one another."""

    def __init__(self, deal: Callable[[Any, list[int]], Sequence[Any]], shape: Shape) -> None:
        self._deal_by_size = deal
        self._head = shape.head
        self._width = shape.width

    def kind(self, operation: Operation[Any]) -> Hashable:
        """Return what all operations that may be sent together have in common."""
        head = self._head
        return (operation.verb, *operation.args[:head]) if head else operation.verb

    def size(self, args: Args) -> int:
        """Return the number of items that an operation moves at most."""
        return (len(args) - self._head) // self._width

    def join(self, many: Sequence[Args]) -> Args:
        joined = list(many[0])
        for args in many[1:]:
            joined += args[self._head :]
        return joined

    def deal(self, reply: Any, parts: Sequence[Sized]) -> Sequence[Any]:
        """Return the reply that each part would have received alone."""
        return self._deal_by_size(reply, [part.size for part in parts])

    def deal_head(self, head: bytes, parts: Sequence[Sized]) -> Sequence[Sequence[bytes]]:
        """For claims: return the words of the head that each part would have received alone."""
        raise NotImplementedError

    def rows(self, reply: Any) -> int:  # noqa: ARG002
        """Return the number of rows that a reply claims."""
        return 0


class EndsWay(Way):
    """Ends of leases. Extensions are sent apart: one call either extends or ends a lease, once. So are burials, whose
    reply does not say why items died.
    """

    def kind(self, operation: Operation[Any]) -> Hashable:
        verb, _, _ = bytes(operation.args[4]).partition(b" ")  # type: ignore[arg-type] # bytes
        return super().kind(operation), verb if verb in (b"extend", b"bury") else None


class ClaimsWay(Way):
    """Claims: the coalesced call claims as many items as all parts together, and they are dealt out in order."""

    def __init__(self, shape: Shape, *, keyed: bool) -> None:
        super().__init__(_slices, shape)
        #: Whether a list of the rows' values follows them.
        self._keyed = keyed

    def kind(self, operation: Operation[Any]) -> Hashable:
        head = operation.args[: self._head]
        return operation.verb, head[0], *head[LIMIT + 1 :]

    def size(self, args: Args) -> int:
        limit, acks = int(args[LIMIT]), len(args) - self._head
        return max(limit, acks // self._width) if acks else limit

    def join(self, many: Sequence[Args]) -> Args:
        joined = list(super().join(many))
        joined[LIMIT] = str(sum(int(args[LIMIT]) for args in many))
        return joined

    def deal(self, reply: list[Any], parts: Sequence[Sized]) -> list[list[Any]]:
        heads = self.deal_head(reply.pop(), parts)
        values = reply.pop() if self._keyed else []
        start, dealt = 0, []
        for part, words in zip(parts, heads, strict=True):
            end = start + int(part.operation.args[LIMIT]) * COLUMNS
            rows = reply[start:end]
            if not rows and reply:
                # An empty part of a claim with rows: the server notes a waiter only for an empty claim, so claim again.
                words[0] = b"1"
            if self._keyed:
                rows.append(values[start // COLUMNS : end // COLUMNS])
            rows.append(words)
            dealt.append(rows)
            start = end
        return dealt

    def deal_head(self, head: bytes, parts: Sequence[Sized]) -> list[list[bytes]]:
        """Deal out each part's own late acks, and the number of deaths to the first part only."""
        if not head:
            # The claim was never executed.
            return [[] for _ in parts]
        words = head.split()
        common, late = words[:5], list(map(int, words[5:]))
        heads, first = [], 0
        for part in parts:
            acks = (len(part.operation.args) - self._head) // self._width
            own = [b"%d" % (position - first) for position in late if first <= position < first + acks] if late else []
            heads.append(common + own)
            if common[2:4] != NO_DEATHS:
                common = [*common[:2], *NO_DEATHS, *common[4:]]
            first += acks
        return heads

    def rows(self, reply: list[Any]) -> int:
        return (len(reply) - 1 - self._keyed) // COLUMNS


def _slices(reply: Sequence[Any], sizes: list[int]) -> list[Sequence[Any]]:
    """Deal out a reply that has one element for each row."""
    ends = list(accumulate(sizes))
    return [reply[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _positions(reply: bytes, sizes: list[int]) -> list[bytes]:
    """Deal out a reply that has positions of rows, from 0."""
    if not reply:
        return [b""] * len(sizes)
    dealt: list[list[int]] = [[] for _ in sizes]
    ends = list(accumulate(sizes))
    for position in map(int, reply.split()):
        owner = bisect_right(ends, position)
        dealt[owner].append(position - ends[owner] + sizes[owner])
    return [b" ".join(b"%d" % position for position in own) for own in dealt]


def _added(reply: bytes, sizes: list[int]) -> list[bytes]:
    """Deal out the positions of the rows that were left out. The number of new items stays that of the whole call."""
    added, _, left = reply.partition(b" ")
    if not left:
        return [added] * len(sizes)
    return [b"%b %b" % (added, own) if own else added for own in _positions(left, sizes)]


def _scores(reply: bytes, sizes: list[int]) -> list[bytes]:
    return [b" ".join(own) for own in _slices(reply.split(b" "), sizes)]


def _ends(reply: bytes, sizes: list[int]) -> list[bytes]:
    """Deal out the positions of lost leases, and the number of deaths to the first part only."""
    died, forgotten, now, *lost = reply.split()
    if not lost and died == forgotten == b"0":
        return [reply] * len(sizes)
    dealt = [b"0 0 %b %b" % (now, own) for own in _positions(b" ".join(lost), sizes)]
    dealt[0] = dealt[0].replace(b"0 0", died + b" " + forgotten, 1)
    return dealt


#: The ways, by the name in a shape.
WAYS: dict[str, Callable[[Shape], Way]] = {
    "each": partial(Way, _slices),
    "positions": partial(Way, _positions),
    "added": partial(Way, _added),
    "scores": partial(Way, _scores),
    "acks": partial(Way, _ends),
    "ends": partial(EndsWay, _ends),
    "claims": partial(ClaimsWay, keyed=False),
    "keyed claims": partial(ClaimsWay, keyed=True),
}


@cache
def way_of(shape: Shape) -> Way:
    return WAYS[shape.way](shape)
