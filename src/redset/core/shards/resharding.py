"""Another number of shards for a set: all of its items, in every state, move to new shards.

1. The next layout is written into the layout record. Calls that read it wait from now on.
2. Each old shard is sealed: its items move to other keys in its slot, and every call on it fails and reads the record.
3. Everything is copied to the new shards, which nobody uses yet.
4. The next layout becomes the layout, and calls go on. The copied keys are deleted. The keys that make calls on the old
   shards fail stay, for processes that still have an old layout.

Each step can be repeated, so a reshard that was interrupted is continued by the same call.
"""

import json
import logging
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from redset.core.callables import checked_callable
from redset.core.forms import check_layout, described, layout_of, other_version
from redset.core.gates import Limits, read_gates
from redset.core.inspecting import Totals
from redset.core.keys import REGISTRY, TYPES, Keys
from redset.core.operations import CHUNK, Operation, Plan
from redset.core.registry import read_scan
from redset.core.scripts import script
from redset.core.shards import layout as layouts
from redset.core.shards.layout import Layout, checked_count
from redset.core.shards.parts import share_of, sum_of_limits
from redset.core.shards.place import Shard, read_layouts
from redset.exceptions import AccessDeniedError, LayoutError, WrongTypeError

__all__ = ("Progress", "reshard")

log = logging.getLogger("redset")

#: Is told how many entries were copied, and of how many. An item that is leased has several.
Progress = Callable[[int, int], None]

#: The layouts of sets that can be resharded.
RESHARDED = {layout_of(frozenset(features)) for features in ((), ("keyed",))}
#: The keys that are moved, in the order of the script: an item is in these.
MOVED = ("waiting", "leased", "parked", "dead", "done", "deliveries", "letters", "values")
#: The fields of the hash of a set that say how its items are stored, and those that only grow.
FORM, GROWING = ("layout", "remembers"), ("last", "cleared")


def reshard(one: Any, count: Any, progress: Progress | None = None) -> Plan[bool]:
    """Move a set to another number of shards, or with None to none. Return whether there was anything to do.

    :param one: the set, with ``shards="stored"``. Only its name and its client matter.
    """
    name, make = one.name, one._made_shard
    if progress is not None:
        # An error of it would leave the set between two layouts.
        checked_callable(progress, "progress", "takes two numbers")
    checked = checked_count(count)
    if checked == "stored":
        raise ValueError('shards must be an int or None, not "stored": that is what the set has')
    try:
        old, coming = yield from _found(name)
    except AccessDeniedError as error:
        raise _refused(name, error) from error
    if old.form not in RESHARDED:
        raise LayoutError(
            other_version(name, old.form)
            or f"the set {name!r} is {described(old.form)}: only sorted and scheduled sets without groups can be "
            "resharded"
        )
    if coming is not None and coming.count != checked:
        raise LayoutError(
            f"a reshard of the set {name!r} to shards={coming.count} has not ended: call reshard() with that first"
        )
    if coming is None and old.count == checked:
        # The last one may have been interrupted before it deleted what it had copied.
        yield from _delete_copied(old)
        return False
    new = coming or Layout(name, old.generation + 1, checked, old.form, old.digest, (*old.past, old.count))
    if coming is None or coming.generation > old.generation:
        yield from _Move(old, new, make, progress).perform()
    else:
        # It was interrupted between its last two steps.
        yield Operation("HDEL", (Keys(name).waiting,), (layouts.NEXT,), int)
        yield from _delete_copied(old)
    yield from registered(name, checked)
    return True


def _found(name: str) -> Plan[tuple[Layout, Layout | None]]:
    """Return the layout of a set, and the one that an unfinished reshard is making."""
    try:
        stored, coming = yield read_layouts(name)
    except WrongTypeError:
        stored = coming = None
    next_one = layouts.read_record(name, coming)
    known = layouts.read_record(name, stored)
    if known is not None:
        return known, next_one
    form, remembers, past = yield Operation("HMGET", (Keys(name).meta,), (*FORM, layouts.PAST), list)
    if form is None and next_one is None:
        raise LayoutError(f"there is no set {name!r} to be resharded, or it has never had an item")
    before = layouts.read_past(past)
    if next_one is not None:
        return Layout(name, next_one.generation - 1, None, next_one.form, next_one.digest, next_one.past[:-1]), next_one
    return Layout(name, len(before), None, form.decode(errors="replace"), remembers == b"digests", before), None


@dataclass
class _Move:
    """One reshard."""

    old: Layout
    new: Layout
    make: Callable[[Layout, int], Shard]
    progress: Progress | None
    copied: int = 0
    total: int = 0

    def perform(self) -> Plan[None]:
        yield from self._check_rights()
        limits = yield from self._limits()
        yield from self._check_layouts()
        yield from self._announce()
        for name in self.old.names:
            yield from self._seal(name)
        targets = self._targets()
        if self.new.count is None:
            # An earlier reshard has left keys of other types here.
            yield Operation("UNLINK", tuple(targets[0][key] for key in MOVED), (), int)
        for name in self.old.names:
            for key in MOVED:
                self.total += yield from self._size(name, key)
        for name in self.old.names:
            for key in MOVED:
                yield from self._copy(getattr(Keys(layouts.moved_name(name)), key), key, targets)
        yield from self._write_facts(targets)
        yield from self._write_limits(limits, targets)
        yield from self._flip(targets)
        yield from _delete_copied(self.new)

    def _check_layouts(self) -> Plan[None]:
        """Raise a LayoutError, before anything is changed, if a shard does not have the layout of the record."""
        for name in self.old.names:
            stored = yield Operation("HGET", (Keys(name).meta,), (FORM[0],), lambda reply: reply)
            check_layout(self.old.name, stored, self.old.form)

    def _check_rights(self) -> Plan[None]:
        """Raise an AccessDeniedError, before anything is changed, if the user lacks a right (ACL) for a later step.

        With the next layout in the record, calls would wait for the end of a reshard that cannot go on.
        """
        old = [(*Keys(name).all(), *Keys(layouts.moved_name(name)).all()) for name in self.old.names]
        new = [tuple(keys.values()) for keys in self._targets()]
        for keys in [(self._record,), *old, *new]:
            try:
                yield Operation(script("reshardable"), keys, (), int)
            except AccessDeniedError as error:
                raise _refused(self.old.name, error) from error

    # Limits.

    def _limits(self) -> Plan[tuple[float | None, Limits | None]]:
        """Return the end of the pause and the limits of the whole set.

        :raises ValueError: a limit is too low for the new number of shards.
        """
        gates = []
        for name in self.old.names:
            gate, maxsize = yield Operation("HMGET", (Keys(name).meta,), ("gate", "maxsize"), list)
            # As of the beginning of time, so that an end is read as it is.
            gates.append(read_gates(gate or b"", maxsize or b"", 0.0))
        ends = [end for end, _ in gates]
        limits = sum_of_limits([own for _, own in gates])
        for what in ("rate", "burst", "leases", "maxsize"):
            value = getattr(limits, what, None)
            if value is not None and value < (self.new.count or 1):
                raise ValueError(
                    f"{what} is {value} on the set {self.old.name!r}, too low for shards={self.new.count}, each of "
                    "which needs 1: call limit() first"
                )
        return None if None in ends else min(end for end in ends if end is not None), limits

    def _write_limits(self, found: tuple[float | None, Limits | None], targets: list[dict[str, bytes]]) -> Plan[None]:
        end, limits = found
        for number, target in enumerate(targets):
            shard = self.make(self.new, number)
            gates, steps = shard.parts.gates, []
            if limits is not None:
                steps.append(gates.limit(*share_of(limits, number, len(targets))))
            if end is not None:
                steps.append(gates.pause(None if end == math.inf else end))
            for step in steps:
                # Of a set without shards, the items are not in their place yet.
                yield shard.at(replace(step, keys=(target["waiting"], *step.keys[1:])))

    # The layout record.

    @property
    def _record(self) -> bytes:
        return Keys(self.old.name).waiting

    def _announce(self) -> Plan[None]:
        """Have calls that read the record wait. That of a set without shards is written when it is sealed."""
        if self.old.count is not None:
            try:
                yield Operation("HSETNX", (self._record,), (layouts.NEXT, self.new.written()), bool)
            except AccessDeniedError as error:
                raise _refused(self.old.name, error) from error

    def _seal(self, name: str) -> Plan[None]:
        keys, to = Keys(name), Keys(layouts.moved_name(name))
        both = (*(getattr(keys, key) for key in MOVED), *(getattr(to, key) for key in MOVED))
        # In the place of a set without shards comes the layout record.
        is_record = self.old.count is None
        mark = (layouts.NEXT, self.new.written()) if is_record else (layouts.FIELD, "moved")
        letters = "".join(TYPES[key][0] for key in MOVED)
        yield Operation(script("seal"), both, (*mark, letters), int)

    def _check(self) -> Plan[None]:
        """Raise an error if another process has ended this reshard."""
        coming = yield Operation("HGET", (self._record,), (layouts.NEXT,), lambda reply: reply)
        if coming is None:
            raise LayoutError(f"another process has ended the reshard of the set {self.old.name!r}")

    def _flip(self, targets: list[Any]) -> Plan[None]:
        if self.new.count is not None:
            yield Operation("HSET", (self._record,), (layouts.FIELD, self.new.written()), int)
            yield Operation("HDEL", (self._record,), (layouts.NEXT,), int)
            return
        arriving = targets[0]["waiting"]
        if (yield Operation("EXISTS", (arriving,), (), bool)):
            # In one step, what waits takes the place of the record.
            yield Operation("RENAME", (arriving, self._record), (), bool)
        else:
            yield Operation("UNLINK", (self._record,), (), bool)

    # Copying.

    def _targets(self) -> list[dict[str, bytes]]:
        """Return the keys of the new shards."""
        targets = [{key: getattr(Keys(name), key) for key in (*MOVED, "meta")} for name in self.new.names]
        if self.new.count is None:
            targets[0]["waiting"] = Keys(layouts.moved_name(self.new.name)).living
        return targets

    def _size(self, name: str, key: str) -> Plan[int]:
        command = "HLEN" if TYPES[key] == "hash" else "ZCARD"
        size: int = yield Operation(command, (getattr(Keys(layouts.moved_name(name)), key),), (), int)
        return size

    def _copy(self, source: bytes, key: str, targets: list[dict[str, bytes]]) -> Plan[None]:
        """Copy a sorted set or a hash, which nobody changes meanwhile, into those of the new shards."""
        is_hash, cursor, first = TYPES[key] == "hash", b"0", 0
        while True:
            if is_hash:
                cursor, pairs = yield Operation("HSCAN", (source,), (cursor, "COUNT", str(CHUNK)), read_scan)
            else:
                page = (str(first), str(first + CHUNK - 1), "WITHSCORES")
                pairs = yield Operation("ZRANGE", (source,), page, _pairs)
                first += CHUNK
            groups: dict[int, list[bytes]] = {}
            for member, value in pairs:
                cells = (member, value) if is_hash else (value, member)
                groups.setdefault(self._shard_of(member, key), []).extend(cells)
            if groups:
                yield from self._check()
            for number, row in groups.items():
                yield Operation("HSET" if is_hash else "ZADD", (targets[number][key],), row, int)
            self.copied += len(pairs)
            if self.progress is not None and pairs:
                self.progress(min(self.copied, self.total), self.total)
            if (cursor == b"0") if is_hash else len(pairs) < CHUNK:
                return

    def _shard_of(self, member: bytes, key: str) -> int:
        if key == "done" and self.new.digest and self.new.count is not None:
            # It is a digest already.
            return zlib.crc32(member) % self.new.count
        return self.new.shard_of(member)

    def _write_facts(self, targets: list[dict[str, bytes]]) -> Plan[None]:
        """Write the form, the last token and the totals into the hashes of the new shards."""
        totals = [field.name for field in fields(Totals)]
        names = (*FORM, *GROWING, *totals)
        facts: dict[str, Any] = dict.fromkeys(names, 0)
        for name in self.old.names:
            for field, value in zip(names, (yield Operation("HMGET", (Keys(name).meta,), names, list)), strict=True):
                if field in FORM:
                    facts[field] = value or facts[field]
                elif value is not None and value.isdigit():
                    facts[field] = max(facts[field], int(value)) if field in GROWING else facts[field] + int(value)
        for number, target in enumerate(targets):
            # The totals of the whole set are in its first shard.
            kept = names if number == 0 else (*FORM, *GROWING)
            cells = [cell for field in kept if facts[field] for cell in (field, _written(facts[field]))]
            if self.new.count is None:
                cells += [layouts.PAST, json.dumps(self.new.past)]
            if cells:
                yield Operation("HSET", (target["meta"],), cells, int)


def _delete_copied(now: Layout) -> Plan[None]:
    """Delete what the last reshard has copied from."""
    if now.past:
        before = now.before
        for name in before.names:
            yield Operation("UNLINK", Keys(layouts.moved_name(name)).all(), (), int)
            keys = Keys(name)
            yield Operation("UNLINK", (keys.meta, keys.history, keys.looks, keys.wake), (), int)


def _pairs(reply: list[Any]) -> list[tuple[bytes, bytes]]:
    """Return the members and scores of a reply to ZRANGE; in RESP3 they are in lists, and scores are floats."""
    if reply and isinstance(reply[0], list):
        return [(member, _written(score)) for member, score in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def _written(value: Any) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()


def _refused(name: str, error: AccessDeniedError) -> AccessDeniedError:
    """Return the error for a user who lacks a right to reshard a set. The other one names keys and no set."""
    who, command = str(error).partition(" has no right")[0], re.search(r"run the command (\w+)", str(error))
    keys = " ".join(f"~{pattern}" for pattern in layouts.patterns(name))
    lacks = f"run the command {command[1]}" if command else f"access all of its keys, {keys}"
    return AccessDeniedError(
        f"the set {name!r} cannot be resharded: {who} has no right to {lacks}; that request changed nothing"
    )


def registered(name: str, count: int | None) -> Plan[None]:
    """Note the new number of shards in the registry, if that knows the set, and may be read and written."""
    try:
        yield from _register(name, count)
    except (AccessDeniedError, WrongTypeError) as error:
        log.debug("%s: its number of shards could not be registered: %s", name, error)


def _register(name: str, count: int | None) -> Plan[None]:
    record = yield Operation("HGET", REGISTRY[:1], (name,), lambda reply: reply)
    try:
        about = json.loads(record or b"")
        about.pop("shards", None)
        about |= {} if count is None else {"shards": count}
    except (ValueError, AttributeError, TypeError):
        return
    yield Operation("HSET", REGISTRY[:1], (name, json.dumps(about, sort_keys=True)), int)
