"""The server's memory for what waits: a set of redset beside a bare ZSET with the same items and scores."""

from collections.abc import Callable
from dataclasses import dataclass

from stage import BARE, REDSET, Stage

__all__ = ("Memory", "measure_memory")

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


def _growth(stage: Stage, fill: Callable[[], None]) -> tuple[int, int]:
    """By how many bytes a server without data grows, and how many keys it has then."""
    # At once: what is freed in the background meanwhile would be taken off the growth.
    stage.control.execute_command("FLUSHDB", "SYNC")  # type: ignore[no-untyped-call]
    before = stage.control.info("memory")["used_memory"]
    fill()
    return stage.control.info("memory")["used_memory"] - before, stage.control.dbsize()
