"""The fingerprints that this process has added or claimed lately, so that a link on each page is sent once only.

The server decides; this saves it the questions that it would answer in the same way. A fingerprint is left out after a
minute, since the server may forget its request too: its retention ends, or somebody forgets or clears it.
"""

import time

from redset.scrapy.options import Options

__all__ = ("Seen",)

#: Seconds for which a fingerprint is known.
LIFE = 60.0
#: The largest number of fingerprints that are known.
MOST = 200_000


class Seen:
    """The fingerprints of requests that the server knows."""

    def __init__(self, options: Options) -> None:
        self._life = min(LIFE, options.remember / 2)
        self._known: dict[str, float] = {}

    def add(self, fingerprint: str) -> bool:
        """Add a fingerprint, and return whether it was known."""
        now = time.monotonic()
        added = self._known.get(fingerprint)
        if added is not None and now - added < self._life:
            return True
        if added is not None:
            del self._known[fingerprint]
        self._known[fingerprint] = now
        self._drop_old(now)
        return False

    def discard(self, fingerprint: str) -> None:
        """Forget a fingerprint."""
        self._known.pop(fingerprint, None)

    def _drop_old(self, now: float) -> None:
        """Drop up to two fingerprints, so that each addition does the same work. The oldest is the first."""
        for _ in range(2):
            fingerprint, added = next(iter(self._known.items()))
            if len(self._known) <= MOST and now - added < self._life:
                return
            del self._known[fingerprint]
