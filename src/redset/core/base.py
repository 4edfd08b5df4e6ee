"""The parts of a set that need no round trip, for both faces."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, SupportsIndex, TypeVar, overload

from redset.core.adding import Adding
from redset.core.algebra import Algebra, SortedAlgebra
from redset.core.clients import check_client, longest_block
from redset.core.definition import Definition, Duplicates, Kind, exponential_backoff, one_of_duplicates, seconds
from redset.core.endings import Endings
from redset.core.handouts import HandOuts
from redset.core.items import PLAIN as PLAIN_SERIALIZER
from redset.core.items import Items, checked_serializer
from redset.core.keys import Keys
from redset.core.letters import Letters
from redset.core.looking import Looking
from redset.core.operands import Held, Side
from redset.core.paging import Paging
from redset.core.pools import Choice
from redset.core.removing import Removing
from redset.core.shown import shown
from redset.interfaces import Serializer
from redset.reservations import BaseReservation

__all__ = ("BaseDeadLetters", "BaseSet", "OnServer", "T")

if TYPE_CHECKING:
    # The items of a set without a serializer are str. At run time nothing is imported for this.
    from typing_extensions import TypeVar as TypeVarWithDefault

    T = TypeVarWithDefault("T", default=str)
else:
    T = TypeVar("T")
DriverT = TypeVar("DriverT")
LockT = TypeVar("LockT")
Res = TypeVar("Res", bound=BaseReservation[Any])


class OnServer(Generic[DriverT]):
    """The base of all sets: a name, and a driver that performs operations on a client."""

    _driver_type: Callable[..., DriverT]

    def __init__(self, redis_client: Any, name: str, serializer: Any, *, retry_safe: bool, connections: Choice) -> None:
        check_client(redis_client, awaits=self._driver_type.awaits)  # type: ignore[attr-defined] # every driver says that
        if not isinstance(name, str):
            raise TypeError(f"the name of a set must be a str, not {shown(name)}")
        self.redis = redis_client
        self.serializer: Any = PLAIN_SERIALIZER if serializer is None else checked_serializer(serializer)
        self._name = name
        self._keys = Keys(name)
        self._driver = self._driver_type(
            redis_client, name, self._keys.call_prefix, recording=retry_safe, connections=connections
        )

    @property
    def name(self) -> str:
        """The name of the set, which is the key of its items."""
        return self._name

    def __repr__(self) -> str:
        # An object whose constructor raised has no name.
        return f"<{type(self).__name__} name={getattr(self, '_name', None)!r}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"the set {self.name!r} cannot be pickled or copied: it is on a server. Send its name and create the set "
            "there, on another client; copy() returns its items as a plain set"
        )


class BaseSet(OnServer[DriverT], Generic[DriverT, LockT, Res, T]):
    """The constructor and the attributes of a set; :class:`redset.SortedSet` documents the parameters."""

    _kind: Kind
    _lock_type: Callable[..., LockT]
    _reservation_type: Callable[..., Res]
    #: Seconds between two ticks; 0 on sets that are not periodic.
    _interval = 0.0

    @overload
    def __init__(
        self: "BaseSet[DriverT, LockT, Res, str]",
        redis_client: Any,
        name: str,
        scorer: Callable[[str], float] | None = None,
        serializer: None = None,
        lock_timeout: float | None = None,
        lock_expires: float | None = None,
        *,
        max_attempts: int | None = None,
        backoff: Callable[[int], float] = exponential_backoff,
        max_dead: int | None = None,
        retry_safe: bool = True,
        key: Callable[[str], Any] | None = None,
        remember: float | None = None,
        digest: bool = False,
        duplicates: Duplicates = "update",
        connections: Choice = "own",
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
        *,
        max_attempts: int | None = None,
        backoff: Callable[[int], float] = exponential_backoff,
        max_dead: int | None = None,
        retry_safe: bool = True,
        key: Callable[[T], Any] | None = None,
        remember: float | None = None,
        digest: bool = False,
        duplicates: Duplicates = "update",
        connections: Choice = "own",
    ) -> None: ...
    def __init__(
        self,
        redis_client: Any,
        name: str,
        scorer: Callable[[Any], float] | None = None,
        serializer: Any = None,
        lock_timeout: float | None = None,
        lock_expires: float | None = None,
        *,
        max_attempts: int | None = None,
        backoff: Callable[[int], float] = exponential_backoff,
        max_dead: int | None = None,
        retry_safe: bool = True,
        key: Callable[[Any], Any] | None = None,
        remember: float | None = None,
        digest: bool = False,
        duplicates: Duplicates = "update",
        connections: Choice = "own",
    ) -> None:
        super().__init__(redis_client, name, serializer, retry_safe=retry_safe, connections=connections)
        self.scorer: Callable[[T], float] = scorer or self._kind.scorer
        definition: Definition[T] = Definition(
            name=name,
            keys=self._keys,
            items=self._make_items(name, self.serializer, key),
            scorer=self.scorer,
            kind=self._kind,
            timed=self._kind.which == "due" or (self._kind.timed and scorer is None),
            max_attempts=_limit(max_attempts, "max_attempts"),
            max_dead=_limit(max_dead, "max_dead"),
            remember=0.0 if remember is None else seconds(remember, "remember", positive=True),
            digest=digest,
            interval=self._interval,
            duplicates=one_of_duplicates(duplicates),
            backoff=backoff,
            longest_block=longest_block(redis_client),
        )
        self._adding = self._make_adding(definition)
        self._looking = Looking(definition)
        self._paging = Paging(self._keys, definition.items)
        self._removing = Removing(definition)
        self._endings = Endings(definition)
        self._letters = Letters(definition)
        self._hand_outs: HandOuts[T, Res] = HandOuts(
            definition, self._endings, partial(self._reservation_type, self._driver, self._endings)
        )
        side = Side(
            name=name,
            items=definition.items,
            held=Held(self._keys.waiting),
            which=self._looking.which,
            count=self._looking.count,
            first_page=self._paging.items,
            client=redis_client,
            driver=self._driver,
            values=self._keys.values if definition.items.keyed else None,
        )
        self._algebra: Algebra[T] = SortedAlgebra(side, self._keys.leased, self._adding, self._removing)
        self.lock = self._lock_type(redis_client, f"{name}__lock", expires=lock_expires, timeout=lock_timeout)

    def _make_items(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> Items[T]:
        return Items(name, serializer, key)

    def _make_adding(self, definition: Definition[T]) -> Adding[T]:
        return Adding(definition)


class BaseDeadLetters(Generic[DriverT, T]):
    """The attributes of the dead letters of a set, for both faces."""

    def __init__(self, driver: DriverT, letters: Letters[T]) -> None:
        self._driver = driver
        self._letters = letters


def _limit(value: int | None, what: str) -> int:
    """Return a limit as the scripts take it: 0 for none."""
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int or None, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, or None for no limit, not {value!r}")
    return value
