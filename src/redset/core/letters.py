"""Dead letters: what the calls that read, retry and delete them send, and how their replies are read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redset.core.definition import Definition
from redset.core.items import Key
from redset.core.operations import CHUNK, Operation, Plan, in_chunks
from redset.core.paging import Page
from redset.core.scores import ranks
from redset.core.shown import shown
from redset.exceptions import DeserializationError

__all__ = ("DeadLetter", "Letters")

T = TypeVar("T")
R = TypeVar("R")

#: Stands for the letter of a dead item that has lost it: attempts, score, reason.
NO_LETTER = b"0 0 "


@dataclass(frozen=True, slots=True)
class DeadLetter(Generic[T]):
    """An item that is not claimed any more, and the reason."""

    #: The item, or None where the serializer cannot load it.
    item: T | None
    #: The stored bytes of the item; on a keyed set those of its value.
    raw: bytes
    #: The reason of its death.
    reason: str
    #: The time of its death, in seconds since the epoch, by the server's clock.
    died_at: float
    #: The number of its attempts.
    attempts: int
    #: Its score at the last claim.
    score: float
    #: Its identity: the same as ``raw`` unless the set is keyed.
    identity: bytes

    _not_an_item = "requeue it by dead_letters.retry(letter); its item, if any, is its .item"

    def __repr__(self) -> str:
        item = shown(self.item)
        return (
            f"DeadLetter(item={item}, raw={self.raw!r}, reason={self.reason!r}, died_at={self.died_at!r}, "
            f"attempts={self.attempts!r}, score={self.score!r}, identity={self.identity!r})"
        )


class Letters(Generic[T]):
    """The dead letters of one set."""

    __slots__ = ("_items", "_keys", "_set")

    def __init__(self, definition: Definition[T]) -> None:
        self._set = definition
        self._keys = definition.keys
        self._items = definition.items

    def count(self) -> Operation[int]:
        return Operation("ZCARD", (self._keys.dead,), (), int)

    def slice(self, start: int | None, stop: int | None) -> Operation[list[DeadLetter[T]]]:
        return self._reading(("ranks", *ranks(start, stop)), self._read)

    def first_page(self) -> Operation[Page[DeadLetter[T]]]:
        return self._page()

    def _page(self, *seen: bytes) -> Operation[Page[DeadLetter[T]]]:
        """Return the operation that reads the page after a letter, given by its time of death and its item."""

        def read(reply: list[Any]) -> Page[DeadLetter[T]]:
            letters = self._read(reply)
            return Page(letters, self._page(reply[-2], reply[-3]) if len(letters) == CHUNK else None)

        return self._reading(("page", str(CHUNK), *seen), read)

    def _reading(self, args: Sequence[bytes | str], read: Callable[[list[Any]], R]) -> Operation[R]:
        return Operation(*self._set.script("letters"), args, read)

    def retry(self, letter: T | Key | DeadLetter[T]) -> Operation[bool]:
        return self._end("retry", [self._stored(letter)])

    def discard(self, letter: T | Key | DeadLetter[T]) -> Operation[bool]:
        return self._end("delete", [self._stored(letter)])

    def retry_many(self, letters: Iterable[T | Key | DeadLetter[T]]) -> Plan[int]:
        return self._end_many("retry", letters)

    def discard_many(self, letters: Iterable[T | Key | DeadLetter[T]]) -> Plan[int]:
        return self._end_many("delete", letters)

    def _end_many(self, verb: str, letters: Iterable[T | Key | DeadLetter[T]]) -> Plan[int]:
        ended = 0
        for chunk in in_chunks(letters):
            ended += sum((yield self.end_each(verb, [self._stored(letter) for letter in chunk])))
        return ended

    def end_each(self, verb: str, stored: Sequence[bytes]) -> Operation[list[bool]]:
        """Release at most 1,000 letters, and return for each whether there was one."""

        def read(ended: bytes) -> list[bool]:
            positions = set(map(int, ended.split()))
            return [position in positions for position in range(len(stored))]

        return self._operation((verb, "0", *stored), read)

    def retry_all(self) -> Plan[int]:
        return self._end_all("retry")

    def clear(self) -> Plan[int]:
        return self._end_all("delete")

    def _end_all(self, verb: str) -> Plan[int]:
        """Release as many letters as there are now, in chunks: new ones must not make it endless.

        A call is sent even if there are none: it raises an error on a set in another layout.
        """
        ended: int = yield self._end_oldest(verb, CHUNK)
        if ended < CHUNK:
            return ended
        left: int = yield self.count()
        while left > 0:
            some: int = yield self._end_oldest(verb, min(left, CHUNK))
            if some == 0:
                break
            ended += some
            left -= some
        return ended

    def _end_oldest(self, verb: str, count: int) -> Operation[int]:
        return self._operation((verb, str(count)), lambda ended: len(ended.split()))

    def _end(self, verb: str, stored: Sequence[bytes]) -> Operation[bool]:
        return self._operation((verb, "0", *stored), lambda ended: ended != b"")

    def _operation(self, args: Sequence[bytes | str], read: Callable[[bytes], R]) -> Operation[R]:
        return Operation(*self._set.script("release"), args, read, recorded=True)

    def _stored(self, letter: T | Key | DeadLetter[T]) -> bytes:
        return letter.identity if isinstance(letter, DeadLetter) else self._items.identity(letter)

    def _read(self, reply: list[Any]) -> list[DeadLetter[T]]:
        values = self._items.values_behind(reply) or [None] * (len(reply) // 3)
        return [self._letter(*row) for row in zip(reply[::3], reply[1::3], reply[2::3], values, strict=True)]

    def _letter(self, stored: bytes, died_at: bytes, known: bytes | None, value: bytes | None) -> DeadLetter[T]:
        # If somebody has deleted the letter of a dead item, the item can still be retried.
        attempts, score, reason = (known or NO_LETTER).split(b" ", 2)
        own_value = self._items.own_value(value)
        try:
            item = self._items.load_own(stored, own_value)
        except DeserializationError:
            item = None
        return DeadLetter(
            item=item,
            raw=stored if own_value is None else own_value,
            reason=reason.decode(errors="replace"),
            died_at=float(died_at),
            attempts=int(attempts),
            score=float(score),
            identity=stored,
        )
