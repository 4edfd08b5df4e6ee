"""Claimed items that cannot be loaded: they become dead letters."""

import logging
from typing import Any, Generic, TypeVar

from redset.core.claiming import COLUMNS, Claimed
from redset.core.clients import is_failure
from redset.core.definition import Definition
from redset.core.endings import End, Endings, log_deaths, written_reason
from redset.core.operations import Operation, Plan
from redset.exceptions import DeserializationError

__all__ = ("Burying",)

T = TypeVar("T")

log = logging.getLogger("redset")


class Burying(Generic[T]):
    """The burials of claimed items of one set."""

    def __init__(self, definition: Definition[T], endings: Endings[T]) -> None:
        self._set = definition
        self._endings = endings

    def bury(self, got: Claimed, broken: dict[int, DeserializationError]) -> Plan[None]:
        """Move the items at some positions of a claim to the dead letters."""
        letters: list[tuple[Any, ...]]
        if got.lease:
            rows = list(zip(got.stored, got.deliveries, strict=True))
            ends = [End("bury", *rows[position], 0.0, error.reason) for position, error in broken.items()]
            letters = [(end.stored, end.text) for end in ends]
            burial: Operation[Any] = self._endings.ends(ends)
        else:
            letters = [_letter(got, position, error) for position, error in broken.items()]
            burial = self._bury_taken(letters)
        try:
            yield burial
        except Exception as trouble:
            if not is_failure(trouble):
                raise
            # The items that loaded must reach the caller. Leased ones are requeued when their leases expire.
            log.exception("%s: could not be moved to the dead letters, here they are: %r", self._set.name, letters)
        else:
            log.error("%s: cannot be loaded, moved to the dead letters: %r", self._set.name, letters)

    def _bury_taken(self, letters: list[tuple[Any, ...]]) -> Operation[None]:
        """Make dead letters of items that were claimed for good, from rows of item, score, reason and value."""
        args: list[bytes | str] = [self._set.options, "taken"]
        for stored, score, reason, value in letters:
            args += (stored, score + b" " + reason, value)

        def read(reply: bytes) -> None:
            log_deaths(self._set.name, 0, int(reply.split()[1]))

        return Operation(*self._set.script("end"), args, read, recorded=True)


def _letter(got: Claimed, position: int, error: DeserializationError) -> tuple[bytes, bytes, bytes, bytes]:
    """Return item, score, reason and value of an item that was claimed for good."""
    stored, score = got.rows[COLUMNS * position : COLUMNS * (position + 1)]
    value = got.values[position] if got.values else None
    return stored, score, written_reason(error.reason), value or b""
