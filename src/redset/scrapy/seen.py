"""The keys that this process has added or claimed lately, so that a link on each page is sent once and not each time.

The server decides; this saves it the questions that it would answer in the same way. A key is left out after a minute,
since the server may forget it too: its retention ends, or somebody forgets or clears it.
"""

import time

from redset.scrapy.options import Options

__all__ = ("Seen",)

#: Seconds for which a key is known.
LIFE = 60.0
#: The number of keys to know.
MOST = 200_000


class Seen:
    """Keys that the server knows."""

    def __init__(self, options: Options) -> None:
        self._life = min(LIFE, options.remember / 2)
        self._keys: dict[str, float] = {}

    def add(self, key: str) -> bool:
        """Add a key, and return whether it was known."""
        now = time.monotonic()
        added = self._keys.get(key)
        if added is not None and now - added < self._life:
            return True
        if added is not None:
            del self._keys[key]
        self._keys[key] = now
        self._drop_old(now)
        return False

    def discard(self, key: str) -> None:
        """Forget a key."""
        self._keys.pop(key, None)

    def _drop_old(self, now: float) -> None:
        """Drop up to two keys, so that each addition does the same work. The oldest key is the first."""
        for _ in range(2):
            key, added = next(iter(self._keys.items()))
            if len(self._keys) <= MOST and now - added < self._life:
                return
            del self._keys[key]
