"""What redset hands back besides items."""

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ("DeadLetter",)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeadLetter(Generic[T]):
    """An item that will not be handed out any more, and why."""

    #: The item, or None where the serializer cannot load it.
    item: T | None
    #: The item as stored.
    raw: bytes
    #: Why it died.
    reason: str
    #: When, in seconds since the epoch, by the server's clock.
    died_at: float
    #: How often it had been handed out.
    attempts: int
    #: Its score when it was handed out last.
    score: float
