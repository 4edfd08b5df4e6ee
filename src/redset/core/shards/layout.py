"""The layout of a set over shards: their number and names, which shard an item belongs to, and the layout record."""

import binascii
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from redset.core.forms import other_version
from redset.core.items import hash_of
from redset.core.keys import Keys
from redset.core.operations import Operation
from redset.core.shown import shown
from redset.exceptions import ClusterNameError, LayoutError

__all__ = (
    "FIELD",
    "NEXT",
    "PAST",
    "Layout",
    "ShardCount",
    "checked_count",
    "create",
    "first",
    "moved_name",
    "names_in",
    "patterns",
    "plain",
    "read_past",
    "read_record",
)

#: The number of shards, ``"stored"`` for that of the layout record, or None for a set without shards.
ShardCount: TypeAlias = int | Literal["stored"] | None

#: The slots of a cluster, and the largest number of shards.
SLOTS = 16384
MOST = 1024
#: More than a set can have had.
MOST_RESHARDS = 500
#: The fields of the layout record, which is a hash under the set's own name: the layout, and during a reshard the next
#: one.
FIELD, NEXT = "layout", "next"
#: The field of the hash of a set without shards that says how many it had before.
PAST = "past"


@dataclass(frozen=True)
class Layout:
    """One layout of a set. Each reshard makes a new generation."""

    name: str
    generation: int
    #: The number of shards; None for a set without shards.
    count: int | None
    #: The form in which its items are stored, and whether it keeps digests, by which items are then routed.
    form: str
    digest: bool
    #: The numbers of shards of earlier generations.
    past: tuple[int | None, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the shards, in order."""
        if self.count is None:
            return (self.name,)
        return tuple(_shard_name(self.name, self.generation, at, self.count) for at in range(self.count))

    @property
    def before(self) -> "Layout":
        """The layout of the generation before this one."""
        return Layout(self.name, self.generation - 1, self.past[-1], self.form, self.digest, self.past[:-1])

    @property
    def every_name(self) -> set[str]:
        """All names under which anything of the set may be stored: those of all generations, and of sealed shards."""
        names = {self.name, *self.names} | (self.before.every_name if self.past else set())
        return names | set(map(moved_name, self.names))

    def shard_of(self, identity: bytes) -> int:
        """Return the number of the shard that an identity belongs to."""
        if self.count is None:
            return 0
        return zlib.crc32(hash_of(identity) if self.digest else identity) % self.count

    def written(self) -> str:
        """Return the record of this layout."""
        record = {
            "generation": self.generation,
            "shards": self.count,
            "names": self.names,
            "form": self.form,
            "digest": self.digest,
            "past": self.past,
        }
        return json.dumps(record, sort_keys=True)


def first(name: str, count: int, form: str, *, digest: bool) -> Layout:
    """Return the layout of a new set."""
    return Layout(name, 0, count, form, digest)


def plain(name: str, form: str, *, digest: bool) -> Layout:
    """Return the layout of a set without shards."""
    return Layout(name, 0, None, form, digest)


def moved_name(name: str) -> str:
    """Return the name under which a reshard keeps the items of a shard, or of a set, in the same slot."""
    return f"{name}#moved" if "{" in name else f"{{{name}}}#moved"


def patterns(name: str) -> list[str]:
    """Return the patterns of all keys that a set with this name has, over any shards and during a reshard."""
    before, tag, after = _around_tag(name)
    shards = f"{before}{{{tag}#*}}{after}"
    own = [pattern for one in (name, shards) for pattern in (one, f"{Keys(one).prefix}*")]
    return [*own, *(f"{moved_name(one)}*" for one in (name, shards))]


def checked_count(count: Any) -> ShardCount:
    """Return ``shards=``, checked.

    :raises TypeError: it is no int, not ``"stored"`` and not None.
    :raises ValueError: it is below 1 or above 1,024.
    """
    if count is None or count == "stored":
        found: ShardCount = count
        return found
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f'shards must be an int, "stored" or None, not {shown(count)}')
    if not 1 <= count <= MOST:
        raise ValueError(f"shards must be at least 1 and at most {MOST}, not {count!r}")
    return count


def _shard_name(name: str, generation: int, shard: int, count: int) -> str:
    """Return the name of a shard: its tag lies in the part of the slots that belongs to its number."""
    before, tag, after = _around_tag(name)
    beginning = f"{tag}#{generation}.{shard}."
    crc = binascii.crc_hqx(beginning.encode(), 0)
    number = 0
    while binascii.crc_hqx(b"%d" % number, crc) % SLOTS * count // SLOTS != shard:
        number += 1
    return f"{before}{{{beginning}{number}}}{after}"


def _around_tag(name: str) -> tuple[str, str, str]:
    """Return what is before the hash tag of a name, the tag, and what is behind it. A name without braces is a tag.

    :raises ClusterNameError: the name has braces but no tag, or is nothing but a tag.
    """
    before, opened, rest = name.partition("{")
    tag, closed, after = rest.partition("}")
    if name == f"{{{tag}}}":
        raise ClusterNameError(f"the shards of the set {name!r} would have the names of those of the set {tag!r}")
    if opened and closed and tag and "}" not in before:
        return before, tag, after
    if "{" in name or "}" in name:
        raise ClusterNameError(f"the name {name!r} has braces that are no hash tag, so its shards cannot be named")
    return "", name, ""


def read_record(name: str, text: bytes | None) -> Layout | None:
    """Return the layout that a record describes.

    :raises LayoutError: another program has written something else there.
    """
    if text is None:
        return None
    try:
        record = json.loads(text)
        form = record["form"]
    except (ValueError, KeyError, TypeError, RecursionError):
        record, form = {}, None
    # A newer redset may have written other fields.
    if isinstance(form, str) and (other := other_version(name, form)) is not None:
        raise LayoutError(other)
    generation, count, digest, past = map(record.get, ("generation", "shards", "digest", "past"))
    is_right = _is_number(generation, 0, MOST_RESHARDS) and _is_count(count) and isinstance(digest, bool)
    has_past = isinstance(past, list) and len(past) <= MOST_RESHARDS and all(map(_is_count, past))
    if not (is_right and has_past and isinstance(form, str)):
        raise LayoutError(f"the layout record of the set {name!r} is not one of redset: {shown(text)}")
    return Layout(name, generation, count, form, digest, tuple(past))


def names_in(text: bytes | None) -> tuple[str, ...]:
    """Return the names of the shards in a record that this version cannot read, as far as they can be told."""
    try:
        names = json.loads(text or b"{}")["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(one for one in names if isinstance(one, str)) if isinstance(names, list) else ()


def read_past(text: bytes | None) -> tuple[int | None, ...]:
    """Return the numbers of shards that a set without shards had before, as far as they can be read."""
    try:
        found = tuple(json.loads(text or b"[]"))
    except (ValueError, TypeError, RecursionError):
        return ()
    return found if all(map(_is_count, found)) else ()


def _is_count(value: Any) -> bool:
    return value is None or _is_number(value, 1, MOST)


def _is_number(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def create(layout: Layout) -> Operation[bool]:
    """Write the layout record, unless there is one. Return whether it was written."""
    return Operation("HSETNX", (Keys(layout.name).waiting,), (FIELD, layout.written()), bool)
