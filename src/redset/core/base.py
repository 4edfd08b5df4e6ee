"""What both faces of a set share: all that needs no waiting."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from redset.core.items import PLAIN as PLAIN_SERIALIZER
from redset.core.operations import SetOperations
from redset.interfaces import Serializer

__all__ = ("PLAIN", "SCHEDULED", "TIMED", "BaseDeadLetters", "BaseSet", "Kind")

T = TypeVar("T")
DriverT = TypeVar("DriverT")
LockT = TypeVar("LockT")


@dataclass(frozen=True)
class Kind:
    """What makes one kind of set differ from another."""

    #: Scores an item that is added without a score to a set without a scorer.
    scorer: Callable[[Any], float]
    #: What can be taken: ``"any"`` item, or only what is ``"due"``.
    which: str


PLAIN = Kind(scorer=lambda item: 0, which="any")
TIMED = Kind(scorer=lambda item: time.time(), which="any")
SCHEDULED = Kind(scorer=lambda item: time.time(), which="due")


class BaseSet(Generic[T, DriverT, LockT]):
    """The constructor and the attributes of a set; its parameters are told in :class:`redset.SortedSet`."""

    _kind: Kind
    _driver_type: Callable[[Any, str], DriverT]
    _lock_type: Callable[..., LockT]

    @overload
    def __init__(
        self: "BaseSet[str, DriverT, LockT]",
        redis_client: Any,
        name: str,
        scorer: Callable[[str], float] | None = None,
        serializer: None = None,
        lock_timeout: float | None = None,
        lock_expires: float | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        redis_client: Any,
        name: str,
        scorer: Callable[[T], float] | None = None,
        serializer: Serializer[T] | None = None,
        lock_timeout: float | None = None,
        lock_expires: float | None = None,
    ) -> None: ...
    def __init__(
        self,
        redis_client: Any,
        name: str,
        scorer: Callable[[Any], float] | None = None,
        serializer: Any = None,
        lock_timeout: float | None = None,
        lock_expires: float | None = None,
    ) -> None:
        self.redis = redis_client
        self.scorer: Callable[[T], float] = scorer or self._kind.scorer
        self.serializer: Any = PLAIN_SERIALIZER if serializer is None else serializer
        self._operations: SetOperations[T] = SetOperations(name, self.scorer, self.serializer, self._kind.which)
        self._driver = self._driver_type(redis_client, name)
        self.lock = self._lock_type(redis_client, f"{name}__lock", expires=lock_expires, timeout=lock_timeout)

    @property
    def name(self) -> str:
        """The name of the set, which is the key of what waits."""
        return self._operations.name


class BaseDeadLetters(Generic[T, DriverT]):
    """The dead letters of a set, which both faces look at in their own way."""

    def __init__(self, driver: DriverT, operations: SetOperations[T]) -> None:
        self._driver = driver
        self._operations = operations
