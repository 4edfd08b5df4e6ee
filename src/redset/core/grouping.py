"""The groups of items: their limits, and how an item gets its group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from redset.core.callables import called
from redset.core.gates import checked_count
from redset.core.items import Items
from redset.core.serializing import PLAIN, text_if_it_is
from redset.core.shown import shown
from redset.core.times import Duration, seconds

__all__ = (
    "LONGEST_NAME",
    "Grouping",
    "Limit",
    "cannot_tell",
    "checked_group",
    "checked_per_group",
    "group_name",
    "written_limit",
)

T = TypeVar("T")

#: Bytes of the longest name of a group.
LONGEST_NAME = 65_535


@dataclass(frozen=True, slots=True)
class Limit:
    """What all processes together may have of one group at a time.

    :param leases: the number of live leases of the group. Items that ``pop`` and ``take`` claim are not counted, but
        they claim nothing from a group that has all its leases.
    :param pause: seconds, or a timedelta: for so long after a claim from the group, nothing else is claimed from it.
    :raises TypeError: a parameter is no number.
    :raises ValueError: both are missing, or one is not greater than 0.

    >>> Limit(leases=1, pause=0.5)
    Limit(leases=1, pause=0.5)
    """

    leases: int | None = None
    pause: Duration | None = None

    def __post_init__(self) -> None:
        if self.leases is None and self.pause is None:
            raise ValueError("a Limit needs leases or a pause, and neither was given")
        checked_count(self.leases, "leases")
        if self.pause is not None:
            seconds(self.pause, "pause", positive=True)


def written_limit(leases: int | None, pause: Duration | None, *, none: str = "None for no limit") -> tuple[int, float]:
    """Return both as scripts take them: 0 for None.

    :param none: what None as the number of leases means, for errors.
    """
    return checked_count(leases, "leases", none=none), 0.0 if pause is None else seconds(pause, "pause", positive=True)


def checked_per_group(value: Any, *, grouped: bool) -> tuple[int, float]:
    """Return the limits of each group as scripts take them.

    :raises TypeError: ``value`` is no Limit.
    :raises ValueError: there are no groups.
    """
    if value is None:
        return 0, 0.0
    if not isinstance(value, Limit):
        raise TypeError(f"per_group must be a redset.Limit or None, not {shown(value)}")
    if not grouped:
        raise ValueError(f"per_group must come with group, and per_group={value!r} was given without it")
    return written_limit(value.leases, value.pause)


def checked_group(value: Any) -> Callable[[Any], Any] | None:
    """Return ``value``.

    :raises TypeError: it is not callable.
    """
    if value is not None and not callable(value):
        raise TypeError(
            f"group must be a callable that returns the name of an item's group, or None, not {shown(value)}"
        )
    found: Callable[[Any], Any] | None = value
    return found


def group_name(name: Any) -> bytes:
    """Return the name of a group as stored.

    :raises TypeError: it is None.
    :raises ValueError: it is empty, or too long.
    """
    if name is None:
        raise TypeError("the name of a group must be a str or bytes, not None")
    stored = PLAIN.dumps(name)
    stored = stored.encode() if isinstance(stored, str) else stored
    if not 0 < len(stored) <= LONGEST_NAME:
        raise ValueError(f"the name of a group must have 1 to {LONGEST_NAME:,} bytes, not {len(stored):,}")
    return stored


class Grouping(Generic[T]):
    """Tells the groups of the items of one set. On a keyed set, ``group`` is given the key, as text if it is any."""

    __slots__ = ("_group", "_items", "_name")

    def __init__(self, group: Callable[[Any], Any], items: Items[T], name: str) -> None:
        self._group, self._items, self._name = group, items, name

    def of(self, item: Any, identity: bytes) -> bytes:
        """Return the group of an item; errors of the callable pass through."""
        given = text_if_it_is(identity) if self._items.keyed else item
        try:
            return group_name(called(self._group, given, "the group"))
        except (TypeError, ValueError) as error:
            error.add_note(f"while the group of {shown(given)} in the set {self._name!r} was asked for")
            raise

    def of_each(self, items: Sequence[Any], identities: Sequence[bytes]) -> list[bytes]:
        """Return the group of each item."""
        return [self.of(item, identity) for item, identity in zip(items, identities, strict=True)]

    def of_stored(self, identity: bytes) -> bytes:
        """Return the group of an item by its identity: it is loaded for that, except on a keyed set."""
        return self.of(None if self._items.keyed else self._items.load(identity), identity)


def cannot_tell(item: Any) -> NoReturn:
    """Stands for the ``group`` of a set in a process that does not have it."""
    raise TypeError(f"only the programs of the set know the group of {shown(item)}: nothing can be added here")
