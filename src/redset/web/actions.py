"""The actions of the pages: what each does to a set, an item, or dead letters, and in which steps."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from redset import Key, LeaseLost
from redset.core.grouping import group_name
from redset.core.overview import Row, receipt_of
from redset.core.registry import SetInfo
from redset.web.door import Door
from redset.web.texts import LARGE, digest_of, encoded, kind_digest, kind_of, of_url

__all__ = ("Progress", "Refused", "Step", "Target", "apply", "named", "reason_of", "step", "target_of")

#: Seconds for which one step works.
LONGEST_STEP = 1.0
#: Minutes: a hundred years.
LONGEST_PAUSE = 100 * 365 * 24 * 60
#: The number of dead letters that a step reads at a time, and the number of bytes of each item.
LETTERS = 500
WHOLE = 2000
#: More bytes than an item can have.
ANY_LENGTH = 1 << 30


class Refused(Exception):
    """Raised when an action cannot be done; the message is for the user."""


@dataclass(frozen=True)
class Target:
    """What an action is about."""

    #: ``item``, ``reason`` (dead letters with one kind of reason), ``all`` (dead letters), ``group`` or ``set``.
    what: str
    identity: bytes = b""
    #: The digest of a kind of reasons.
    kind: str = ""
    group: bytes = b""
    #: The fields by which a form names it.
    fields: Mapping[str, str] = field(default_factory=dict)


def named(identity: bytes, rows: str, at: int, digest: str = "") -> dict[str, str]:
    """Return the fields by which a link names an item: its text, or if it is large its digest and its place.

    :param digest: that of an item of which only the beginning is given.
    """
    if not digest and len(identity) <= LARGE:
        return {"item": encoded(identity)}
    return {"digest": digest or digest_of(identity), "rows": rows, "at": str(at)}


async def target_of(door: Door, info: SetInfo, words: Mapping[str, str]) -> Target:
    """Return the target that the fields of a link or a form name.

    :raises Refused: they name none, or the item is not there any more.
    """
    if "item" in words:
        try:
            identity = of_url(words["item"])
        except ValueError as error:
            raise Refused(str(error)) from None
        return Target("item", identity, fields={"item": words["item"]})
    if "digest" in words:
        return await _large(door, info, words)
    if "kind" in words:
        return Target("reason", kind=words["kind"], fields={"kind": words["kind"]})
    if "group" in words:
        try:
            name = of_url(words["group"])
            return Target("group", group=group_name(name), fields={"group": words["group"]})
        except ValueError as error:
            raise Refused(str(error)) from None
    if "all" in words:
        return Target("all", fields={"all": "1"})
    return Target("set")


async def _large(door: Door, info: SetInfo, words: Mapping[str, str]) -> Target:
    rows, at = words.get("rows", ""), _count(words.get("at"))
    if rows not in ("waiting", "living", "leased", "delayed", "parked", "dead"):
        raise Refused("The state of the item is missing.")
    found = {item for item, _ in await door.find(info, rows, at, words["digest"], LARGE)}
    if whole := words.get("whole"):
        found = {item for item in found if hashlib.sha256(item).hexdigest() == whole}
    if not found:
        raise Refused("The item is not there any more, or it has moved far. Go back to its set and look again.")
    if len(found) > 1:
        raise Refused("Several large items look alike here, so this page cannot name one of them.")
    identity = found.pop()
    fields = {key: words[key] for key in ("digest", "rows", "at") if key in words}
    return Target("item", identity, fields=fields | {"whole": hashlib.sha256(identity).hexdigest()})


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else 0  # digits


def reason_of(letter: bytes) -> str:
    """Return the reason in a letter as the server keeps it: attempts, score, reason."""
    return letter.split(b" ", 2)[2].decode(errors="surrogateescape") if letter.count(b" ") > 1 else ""


# Actions that end with one call.


async def apply(door: Door, info: SetInfo, action: str, target: Target, form: Mapping[str, str]) -> int:
    """Perform an action that takes one call, and return the number of items it changed.

    :raises Refused: it cannot be done.
    """
    one = door.opened(info)
    if target.what == "group":
        return await _on_group(door, one, action, target.group, form)
    if target.what == "item":
        return await _on_item(door, info, one, action, target.identity)
    if action == "pause":
        await _called(door, one.pause, until=_end_of_pause(form))
    elif action == "resume":
        await door.call(one.resume)
    elif action == "limit":
        await _limit(door, one, form)
    elif action == "clear":
        if "sure" not in form:
            raise Refused("Tick the box to remove everything.")
        return int(await door.call(one.clear))
    else:
        raise Refused("This action needs an item.")
    return 1


async def _on_group(door: Door, one: Any, action: str, name: bytes, form: Mapping[str, str]) -> int:
    group = one.group(name)
    if action == "pause":
        await _called(door, group.pause, until=_end_of_pause(form))
    elif action == "resume":
        await door.call(group.resume)
    elif action == "limit":
        await _called(door, group.limit, leases=_whole_number(form, "leases"), pause=_positive(form, "pause"))
    else:
        raise Refused("This cannot be done with a group.")
    return 1


async def _on_item(door: Door, info: SetInfo, one: Any, action: str, identity: bytes) -> int:
    key = Key(identity)
    if action == "discard":
        return int(await door.call(one.discard, key))
    if info.kind == "ExpiringSet":
        raise Refused("This cannot be done with an item of an expiring set.")
    if action == "retry":
        return int(await door.call(one.dead_letters.retry, key))
    if action == "forget":
        return int(await door.call(one.forget, key))
    if action == "requeue":
        return await _requeue(door, info, one, identity)
    raise Refused("This cannot be done with an item.")


async def _requeue(door: Door, info: SetInfo, one: Any, identity: bytes) -> int:
    """Requeue a leased or delayed item."""
    found = await door.call(one.inspect, Key(identity))
    state = None if found is None else found.state
    if state in ("leased", "parked"):
        delivery = await door.delivery(info, identity, one)
        if delivery is None or found.deadline is None:
            return 0
        reservation = await door.call(one.reservation, receipt_of(one, identity, delivery, found.deadline))
        try:
            await door.call(reservation.again)
        except LeaseLost:
            return 0
        return 1
    if state == "delayed" and can_end_delay(info):
        # An addition ends the backoff and keeps the attempts.
        await door.call(one.add, identity, found.score)
        return 1
    if state == "delayed":
        raise Refused("A delayed item of this kind of set cannot be requeued here: only its programs can add it.")
    return 0


def can_end_delay(info: SetInfo) -> bool:
    """Return whether this page can requeue delayed items: where it can add them."""
    options = info.options
    return info.kind != "PeriodicSet" and not options.get("keyed") and not options.get("grouped")


def _end_of_pause(form: Mapping[str, str]) -> float | None:
    minutes = _positive(form, "minutes")
    if minutes is not None and minutes > LONGEST_PAUSE:
        raise Refused(f"minutes must be at most {LONGEST_PAUSE:,}; without a number the pause has no end.")
    return None if minutes is None else time.time() + 60 * minutes


def _positive(form: Mapping[str, str], name: str) -> float | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise Refused(f"{name} must be a number greater than 0.")
    return value


def _whole_number(form: Mapping[str, str], name: str) -> int | None:
    value = _positive(form, name)
    if value is not None and value != int(value):
        raise Refused(f"{name} must be a whole number.")
    return None if value is None else int(value)


async def _limit(door: Door, one: Any, form: Mapping[str, str]) -> None:
    counts = {name: _whole_number(form, name) for name in ("burst", "leases", "maxsize")}
    await _called(door, one.limit, rate=_positive(form, "rate"), per=_positive(form, "per") or 1.0, **counts)


async def _called(door: Door, method: Any, **options: Any) -> None:
    try:
        await door.call(method, **options)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(f"This cannot be set: {error}.") from None


# Actions on many dead letters, in steps.


@dataclass(frozen=True)
class Progress:
    """How far an action on many dead letters has come. It travels in the form of the next step."""

    #: The number of letters at the beginning, of those to read yet, and of those that were released.
    total: int
    left: int
    done: int = 0
    #: The shard that is read, and the number of its oldest letters that stay.
    shard: int = 0
    skip: int = 0

    @classmethod
    def read(cls, form: Mapping[str, str]) -> "Progress | None":
        """Return the progress in a form; None if it is the first."""
        if "left" not in form:
            return None
        return cls(*(_count(form.get(name)) for name in ("total", "left", "done", "shard", "skip")))

    def fields(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in ("total", "left", "done", "shard", "skip")}


@dataclass(frozen=True)
class Step:
    """The result of one step."""

    progress: Progress
    has_ended: bool


async def step(door: Door, info: SetInfo, action: str, target: Target, progress: Progress | None) -> Step:
    """Release dead letters for at most a second, the oldest first."""
    one = door.opened(info)
    release = one.dead_letters.retry_many if action == "retry" else one.dead_letters.discard_many
    if progress is None:
        # As many as there are now: new ones must not make it endless.
        count = int(await door.call(one.dead_letters.count))
        progress = Progress(count, count)
    shards = await door.shards(info)
    ends_at = time.monotonic() + LONGEST_STEP
    while progress.left > 0 and progress.shard < len(shards):
        where = shards[progress.shard]
        rows = await door.rows(where, "oldest", progress.skip, min(LETTERS, progress.left), WHOLE)
        if not rows:
            progress = replace(progress, shard=progress.shard + 1, skip=0)
            continue
        chosen = [
            await _whole(door, where, row, progress.skip + at)
            for at, row in enumerate(rows)
            if target.what == "all" or kind_digest(kind_of(reason_of(row.words))) == target.kind
        ]
        released = int(await door.call(release, [Key(item) for item in chosen if item is not None])) if chosen else 0
        progress = replace(
            progress,
            left=progress.left - len(rows),
            done=progress.done + released,
            skip=progress.skip + len(rows) - released,
        )
        if time.monotonic() > ends_at:
            break
    return Step(progress, progress.left <= 0 or progress.shard >= len(shards))


async def _whole(door: Door, info: SetInfo, row: Row, at: int) -> bytes | None:
    """Return the item of a row; None if another one is in its place by now."""
    if not row.digest:
        return row.item
    found = await door.rows(info, "oldest", at, 1, ANY_LENGTH)
    return found[0].item if found and digest_of(found[0].item) == row.digest else None
