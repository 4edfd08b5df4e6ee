"""The server's memory: for what waits, in a set of redset and in a bare ZSET with the same items and scores; for the
identities and values of a keyed set; for what is remembered; and for the items of an expiring set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stage import BARE, KEYED, REDSET, Stage

from redset.core.keys import Keys

__all__ = ("Kept", "Memory", "measure_memory", "measure_what_is_kept")

ITEMS = 10_000


@dataclass(frozen=True)
class Memory:
    """Bytes per waiting item."""

    #: What MEMORY USAGE says of the one key.
    bare_key: float
    redset_key: float
    #: By how much the server's used_memory grew, companion keys and all.
    bare_growth: float
    redset_growth: float
    #: How many keys the set has.
    redset_keys: int


def measure_memory(stage: Stage) -> Memory:
    """Fills a ZSET by ZADD and a set by ``add``, one after the other, and looks at what each of them takes."""
    items = stage.items(ITEMS)
    scores = [stage.score() + position for position in range(ITEMS)]
    ss = stage.set()
    ss.add(items[0], scores[0])  # From here on the server has the script, which is no part of the set.

    def fill_bare() -> None:
        for item, score in zip(items, scores, strict=True):
            stage.client.zadd(BARE, {stage.dumps(item): score})

    def fill_redset() -> None:
        for item, score in zip(items, scores, strict=True):
            ss.add(item, score)

    bare_growth, _ = _growth(stage, fill_bare)
    bare_key = stage.control.memory_usage(BARE, samples=0)
    redset_growth, keys = _growth(stage, fill_redset)
    redset_key = stage.control.memory_usage(REDSET, samples=0)
    return Memory(
        bare_key=(bare_key or 0) / ITEMS,
        redset_key=(redset_key or 0) / ITEMS,
        bare_growth=bare_growth / ITEMS,
        redset_growth=redset_growth / ITEMS,
        redset_keys=keys,
    )


@dataclass(frozen=True)
class Kept:
    """Of each thing the bytes it has itself, and those it takes on the server, by what MEMORY USAGE says of its key."""

    identity: tuple[float, float]
    #: The identity is stored once more here, so it counts as the value's own.
    value: tuple[float, float]
    remembered: tuple[float, float]
    remembered_as_a_digest: tuple[float, float]
    seen: tuple[float, float]
    seen_as_a_digest: tuple[float, float]


def measure_what_is_kept(stage: Stage) -> Kept:
    """Fills a keyed set, and has sets that remember take the same identities."""
    items = stage.items(ITEMS)
    identities = [stage.identity(item) for item in items]
    identity = sum(map(len, identities)) / ITEMS
    value = identity + sum(len(stage.dumps(item)) for item in items) / ITEMS

    stage.control.flushdb()
    keyed = stage.keyed()
    for position, item in enumerate(items):
        keyed.add(item, stage.score() + position)
    return Kept(
        identity=(identity, _taken_by(stage, KEYED)),
        value=(value, _taken_by(stage, Keys(KEYED).values)),
        remembered=(identity, _remembered(stage, identities, digest=False)),
        remembered_as_a_digest=(16, _remembered(stage, identities, digest=True)),
        seen=(value - identity, _seen(stage, items, digest=False)),
        seen_as_a_digest=(16, _seen(stage, items, digest=True)),
    )


def _remembered(stage: Stage, identities: list[str], *, digest: bool) -> float:
    stage.control.flushdb()
    stage.control.zadd(REDSET, dict.fromkeys(identities, 1))
    stage.set(remember=3600, digest=digest, key=stage.identity).take(ITEMS)
    return _taken_by(stage, Keys(REDSET).done)


def _seen(stage: Stage, items: list[Any], *, digest: bool) -> float:
    stage.control.flushdb()
    stage.seen(digest=digest).add_new(items)
    return _taken_by(stage, REDSET)


def _taken_by(stage: Stage, key: str | bytes) -> float:
    taken: int = stage.control.memory_usage(key, samples=0)  # type: ignore[assignment] # any name will do
    return taken / ITEMS


def _growth(stage: Stage, fill: Callable[[], None]) -> tuple[int, int]:
    """By how many bytes a server without data grows, and how many keys it has then."""
    # At once: what is freed in the background meanwhile would be taken off the growth.
    stage.control.execute_command("FLUSHDB", "SYNC")  # type: ignore[no-untyped-call]
    before = stage.control.info("memory")["used_memory"]
    fill()
    return stage.control.info("memory")["used_memory"] - before, stage.control.dbsize()
