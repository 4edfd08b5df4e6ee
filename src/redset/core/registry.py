"""The registry of all sets on a server: how sets get into it, and what it says.

The script of the first call on a set requests that its client register the set, since the registry may be on another
node of a cluster. So a set is registered a moment after its first call; see :class:`Registration`.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from redset.core.clients import is_failure
from redset.core.grouping import Limit, cannot_tell
from redset.core.keys import REGISTRY, Keys
from redset.core.operations import Operation, Plan
from redset.core.retries import all_tried_once
from redset.core.scripts import script
from redset.core.shards.layout import FIELD, PAST, Layout, names_in, read_past, read_record
from redset.core.shown import shown
from redset.core.talking import Caller, Talk, ask
from redset.exceptions import AccessDeniedError, LayoutError, WrongTypeError

__all__ = ("PLACE", "Registration", "SetInfo", "forget", "info", "infos", "opened", "read_scan")

log = logging.getLogger("redset")

#: The name by which calls about the registry are reported, and the beginning of its keys.
PLACE = ("redset:sets", b"redset:")


#: Seconds for which a client registers nothing after a failure; the layout record of a set over shards has its own.
REST = 5.0
#: Requests that a set be registered again: it is registered with other options.
DIFFERS = b"differs"


@dataclass(frozen=True, slots=True)
class SetInfo:
    """A set that the registry knows."""

    #: The name of the set.
    name: str
    #: The name of its class: ``"SortedSet"``, ``"TimeSortedSet"``, ``"ScheduledSet"``, ``"PeriodicSet"`` or
    #: ``"ExpiringSet"``.
    kind: str
    #: The options that scripts are passed, by the names of the constructor's parameters.
    options: Mapping[str, Any] = field(default_factory=dict)


class Registration:
    """Registers the set of one object after a call whose reply requests it. Never fails: the set works without.

    :param mark: what ``registered`` in the hash of the set then says; None if the script has written it already.
    :param ttl: for an expiring set the seconds that its items live; else 0.
    :param restore: for a shard the operation that writes the layout record, which may have been forgotten with the set.
    """

    def __init__(
        self,
        about: Callable[[], SetInfo],
        keys: Keys,
        mark: str | None,
        ttl: float,
        restore: Operation[bool] | None = None,
    ) -> None:
        self._about = about
        self._keys = keys
        self._mark = mark
        self._ttl = ttl
        self._restore = restore
        self._has_differed = False
        self._rests_until = 0.0

    def __call__(self, caller: Caller, request: bytes) -> Talk[None]:
        # Once, or two processes with different options would replace each other's with each claim.
        if (request == DIFFERS and self._has_differed) or self._rests_until > time.monotonic():
            return
        info = self._about()
        record = json.dumps({"kind": info.kind, **info.options}, sort_keys=True)
        entry = Operation(script("register"), REGISTRY, (info.name, record, repr(2 * self._ttl)), _bytes_or_none)
        restore = None if request == DIFFERS else self._restore
        try:
            if restore is not None:
                yield from all_tried_once(ask(restore, caller, []))
                restore = None
            if caller.state.registers_after > time.monotonic():
                return
            before = yield from all_tried_once(ask(entry, caller, []))
            if before is not None and before != record.encode() and self._mark is not None:
                log.info("%s: registered as %s before, and now as %s", info.name, before.decode(), record)
        except Exception as error:
            if not is_failure(error):
                raise
            # Without the right to write there, or where the key is another program's, the set is not asked again.
            log.debug("%s: could not be registered: %s", info.name, error)
            if not isinstance(error, AccessDeniedError | WrongTypeError):
                # The call waits for it, and its set may be at another node of a cluster.
                if restore is None:
                    caller.state.registers_after = time.monotonic() + REST
                else:
                    self._rests_until = time.monotonic() + REST
                return
        self._has_differed = self._has_differed or request == DIFFERS
        if self._mark is not None:
            yield from self._write_mark(caller, info.name, self._mark)

    def _write_mark(self, caller: Caller, name: str, mark: str) -> Talk[None]:
        try:
            yield from ask(Operation("HSET", (self._keys.meta,), ("registered", mark), int), caller, [])
        except Exception as error:
            if not is_failure(error):
                raise
            log.debug("%s: could not be marked as registered: %s", name, error)


def _bytes_or_none(reply: Any) -> bytes | None:
    return None if reply is None else bytes(reply)


def info(name: str) -> Operation[SetInfo | None]:
    """Return what the registry says of one set; None if it does not know it."""
    _check_name(name)
    return Operation("HMGET", REGISTRY[:1], (name,), lambda reply: _read(name.encode(), reply[0]))


def infos(*, empty: bool = False) -> Plan[list[SetInfo]]:
    """Return all registered sets, in the order of their names.

    :param empty: whether also those that have no items.
    """
    found: list[SetInfo] = []
    cursor = b"0"
    while True:
        cursor, entries = yield Operation("HSCAN", REGISTRY[:1], (cursor, "COUNT", "1000"), read_scan)
        for name, record in entries:
            about = _read(name, record)
            if about is not None and (empty or (yield from _has_items(about))):
                found.append(about)
        if cursor == b"0":
            break
    return sorted({about.name: about for about in found}.values(), key=lambda about: about.name)


def read_scan(reply: Any) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    cursor, entries = reply
    # With RESP3 some clients make a dictionary of it.
    pairs = list(entries.items()) if isinstance(entries, dict) else list(zip(entries[::2], entries[1::2], strict=True))
    return str(int(cursor)).encode(), pairs


def _read(name: bytes, record: bytes | None) -> SetInfo | None:
    if record is None:
        return None
    try:
        options = json.loads(record)
        return SetInfo(name.decode(), str(options.pop("kind")), options)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        # Any program may write there. The name of a set is text, so other bytes are none.
        return None


def _has_items(about: SetInfo) -> Plan[bool]:
    # Without shards, it is one round trip for each set.
    try:
        layout = (yield from _layout(about.name)) if "shards" in about.options else None
    except LayoutError:
        # Another version or another program has written its record: there is something.
        return True
    for name in (about.name,) if layout is None else layout.names:
        keys = Keys(name)
        if (yield Operation("EXISTS", (keys.waiting, keys.leased, keys.parked, keys.dead), (), bool)):
            return True
    return False


def _layout(name: str) -> Plan[Layout | None]:
    """Return the layout of a set over shards; None for one without."""
    key = Keys(name).waiting
    if (yield Operation("TYPE", (key,), (), _is_hash)):
        layout: Layout | None = yield Operation("HGET", (key,), (FIELD,), lambda reply: read_record(name, reply))
        return layout
    return None


def _is_hash(reply: Any) -> bool:
    return reply in (b"hash", "hash")


def _every_name(name: str) -> Plan[set[str]]:
    """Return all names under which anything of a set may be stored, also from before a reshard."""
    try:
        layout = yield from _layout(name)
    except LayoutError:
        return {name, *(yield Operation("HGET", (Keys(name).waiting,), (FIELD,), names_in))}
    if layout is None:
        past = yield Operation("HGET", (Keys(name).meta,), (PAST,), read_past)
        layout = Layout(name, len(past), None, "", digest=False, past=past)
    found: set[str] = layout.every_name if layout.past or layout.count else {name}
    return found


def _check_name(name: Any) -> None:
    """Raise a TypeError for a name that no set can have."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a set must be a str, not {shown(name)}")


class _Raw:
    """Stores and loads bytes as they are."""

    def dumps(self, item: str | bytes) -> bytes:
        return item.encode() if isinstance(item, str) else bytes(item)

    def loads(self, stored: str | bytes) -> bytes:
        return self.dumps(stored)


def _cannot_tell(item: Any) -> NoReturn:
    raise TypeError(
        f"only the programs of a keyed set know the identity of {shown(item)}: name an item by Key(identity); "
        "nothing can be added here"
    )


def opened(client: Any, name: str, about: SetInfo | None, kinds: Mapping[str, Callable[..., Any]]) -> Any:
    """Return the set that the registry describes, with raw bytes as items.

    :raises KeyError: the registry does not know it, or not its kind.
    """
    if about is None or about.kind not in kinds:
        raise KeyError(
            f"the registry of the server knows no set {name!r}; a set is registered by its first claim, or its first "
            "addition outside of a pipeline"
        )
    options = dict(about.options)
    if "shards" in options:
        # A reshard may have changed the number since.
        options["shards"] = "stored"
    if options.pop("keyed", False):
        options["key"] = _cannot_tell
    if options.pop("grouped", False):
        options["group"] = cannot_tell
        leases, pause = options.pop("per_group", (0, 0))
        options["per_group"] = Limit(leases or None, pause or None) if leases or pause else None
    try:
        return kinds[about.kind](client, name, serializer=_Raw(), **options)
    except (TypeError, ValueError) as error:
        raise KeyError(
            f"the registry of the server describes the set {name!r} by options that it cannot have"
        ) from error


def forget(name: str) -> Plan[bool]:
    """Delete every key of a set, and its entry in the registry. Return whether there was anything."""
    _check_name(name)
    keys, there = Keys(name), False
    for stored in (yield from _every_name(name)):
        there = bool((yield Operation("UNLINK", Keys(stored).all(), (), bool))) or there
    known = yield Operation("HDEL", REGISTRY[:1], (name,), bool)
    yield Operation("ZREM", REGISTRY[1:], (name,), bool)
    # A program that has begun a new set meanwhile may have registered it too early.
    yield Operation("HDEL", (keys.meta,), ("registered",), bool)
    return bool(there or known)
