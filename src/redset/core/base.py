"""The parts of a set that need no round trip, for both faces."""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NoReturn, SupportsIndex, TypeVar, Unpack, cast, overload

from redset.core.adding import Adding
from redset.core.algebra import Algebra, SortedAlgebra
from redset.core.burying import Burying
from redset.core.claiming import Claims
from redset.core.clients import check_client, longest_block
from redset.core.definition import LONGEST_POLL, Definition, Kind
from redset.core.endings import Endings
from redset.core.expiring import Expiring, LivingAlgebra
from redset.core.gates import Gates
from redset.core.inspecting import Inspecting
from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.leases import BaseReservation
from redset.core.letters import Letters
from redset.core.looking import Looking
from redset.core.operands import Held, Side
from redset.core.paging import Paging
from redset.core.parameters import (
    CallOptions,
    ExpiringOptions,
    PeriodicOptions,
    SortedOptions,
    T,
    expanded,
    one_of_duplicates,
    one_of_while_leased,
)
from redset.core.periodic import PeriodicItems, Scheduling
from redset.core.receipts import Receipts
from redset.core.registry import Registration, SetInfo
from redset.core.removing import Removing
from redset.core.serializing import PLAIN as PLAIN_SERIALIZER
from redset.core.serializing import checked_serializer
from redset.core.shown import shown
from redset.core.times import Duration, Moment, seconds
from redset.core.waiting import claim_within
from redset.interfaces import Serializer

__all__ = ("BaseDeadLetters", "BaseExpiring", "BasePeriodic", "BaseSet", "OnServer", "T")

DriverT = TypeVar("DriverT")
LockT = TypeVar("LockT")
Res = TypeVar("Res", bound=BaseReservation[Any])


class OnServer(Generic[DriverT]):
    """The base of all sets: a name, and a driver that performs operations on a client."""

    _driver_type: Callable[..., DriverT]

    def __init__(self, redis_client: Any, name: str, serializer: Any, options: CallOptions) -> None:
        check_client(redis_client, awaits=self._driver_type.awaits)  # type: ignore[attr-defined] # every driver has that attribute
        if not isinstance(name, str):
            raise TypeError(f"the name of a set must be a str, not {shown(name)}")
        self.redis = redis_client
        self.serializer: Any = PLAIN_SERIALIZER if serializer is None else checked_serializer(serializer)
        self._name = name
        self._keys = Keys(name)
        self._driver = self._driver_type(
            redis_client,
            name,
            self._keys.call_prefix,
            recording=options["retry_safe"],
            connections=options["connections"],
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
        scorer: Callable[[str], Moment] | None = None,
        serializer: None = None,
        lock_timeout: Duration | None = None,
        lock_expires: Duration | None = None,
        **options: Unpack[SortedOptions[str]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        redis_client: Any,
        name: str,
        scorer: Callable[[T], Moment] | None = None,
        serializer: Serializer[T] | None = None,
        lock_timeout: Duration | None = None,
        lock_expires: Duration | None = None,
        **options: Unpack[SortedOptions[T]],
    ) -> None: ...
    @expanded
    def __init__(
        self,
        redis_client: Any,
        name: str,
        scorer: Callable[[Any], Moment] | None = None,
        serializer: Any = None,
        lock_timeout: Duration | None = None,
        lock_expires: Duration | None = None,
        **options: Unpack[SortedOptions[Any]],
    ) -> None:
        super().__init__(redis_client, name, serializer, options)
        remember = options["remember"]
        self.scorer: Callable[[T], Moment] = scorer or self._kind.scorer
        definition: Definition[T] = Definition(
            name=name,
            keys=self._keys,
            items=self._make_items(name, self.serializer, options["key"]),
            scorer=self.scorer,
            kind=self._kind,
            timed=self._kind.which == "due" or (self._kind.timed and scorer is None),
            max_attempts=_limit(options["max_attempts"], "max_attempts"),
            max_dead=_limit(options["max_dead"], "max_dead"),
            remember=0.0 if remember is None else seconds(remember, "remember", positive=True),
            digest=options["digest"],
            interval=self._interval,
            duplicates=one_of_duplicates(options["duplicates"]),
            while_leased=one_of_while_leased(options["while_leased"]),
            backoff=options["backoff"],
            longest_block=longest_block(redis_client),
            poll=seconds(options["poll"], "poll", positive=True, most=LONGEST_POLL),
        )
        kind = _class_of(self)
        self._driver.register_by(  # type: ignore[attr-defined] # every driver has that
            Registration(partial(_info, definition, kind), self._keys, definition.options, 0.0)
        )
        self._adding = self._make_adding(definition)
        self._looking = Looking(definition)
        self._inspecting: Inspecting[T] = Inspecting(definition)
        self._paging = Paging(self._keys, definition.items)
        self._removing = Removing(definition)
        self._gates = Gates(definition)
        self._endings = Endings(definition)
        self._letters = Letters(definition)
        new_reservation = partial(self._reservation_type, self._driver, self._endings)
        self._claims: Claims[T, Res] = Claims(
            definition,
            new_reservation,
            claim_within,
            Burying(definition, self._endings).bury,
            id(self.redis),
        )
        self._receipts: Receipts[T, Res] = Receipts(definition, new_reservation)
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
        self.lock = self._lock_type(redis_client, self._keys.lock, expires=lock_expires, timeout=lock_timeout)

    def _make_items(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> Items[T]:
        return Items(name, serializer, key)

    def _make_adding(self, definition: Definition[T]) -> Adding[T]:
        return Adding(definition)


class BasePeriodic(BaseSet[DriverT, LockT, Res, T]):
    """The constructor of a periodic set; :class:`redset.PeriodicSet` documents the parameters."""

    @overload
    def __init__(
        self: "BasePeriodic[DriverT, LockT, Res, str]",
        redis_client: Any,
        name: str,
        interval: Duration,
        scorer: Callable[[str], Moment] | None = None,
        serializer: None = None,
        **options: Unpack[PeriodicOptions[str]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        redis_client: Any,
        name: str,
        interval: Duration,
        scorer: Callable[[T], Moment] | None = None,
        serializer: Serializer[T] | None = None,
        **options: Unpack[PeriodicOptions[T]],
    ) -> None: ...
    @expanded
    def __init__(
        self,
        redis_client: Any,
        name: str,
        interval: Duration,
        scorer: Callable[[Any], Moment] | None = None,
        serializer: Any = None,
        **options: Unpack[PeriodicOptions[Any]],
    ) -> None:
        self._interval = seconds(interval, "interval", positive=True)
        self._jitter = seconds(options.pop("jitter"), "jitter")
        # Without the jitter, all of them are options of a sorted set.
        super().__init__(redis_client, name, scorer, serializer, **cast("SortedOptions[Any]", options))

    def _make_items(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> Items[T]:
        return PeriodicItems(name, serializer, key)

    def _make_adding(self, definition: Definition[T]) -> Scheduling[T]:
        self._scheduling = Scheduling(definition, self._jitter)
        return self._scheduling


class BaseExpiring(OnServer[DriverT], Generic[DriverT, T]):
    """The constructor of an expiring set; :class:`redset.ExpiringSet` documents the parameters."""

    @overload
    def __init__(
        self: "BaseExpiring[DriverT, str]",
        redis_client: Any,
        name: str,
        ttl: Duration,
        serializer: None = None,
        **options: Unpack[ExpiringOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        redis_client: Any,
        name: str,
        ttl: Duration,
        serializer: Serializer[T] | None = None,
        **options: Unpack[ExpiringOptions],
    ) -> None: ...
    @expanded
    def __init__(
        self, redis_client: Any, name: str, ttl: Duration, serializer: Any = None, **options: Unpack[ExpiringOptions]
    ) -> None:
        super().__init__(redis_client, name, serializer, options)
        items: Items[T] = Items(name, self.serializer, None)
        digest = options["digest"]
        expiring = self._expiring = Expiring(name, self._keys, items, ttl, digest=digest)
        about = SetInfo(name, _class_of(self), {"ttl": seconds(ttl, "ttl"), "digest": digest})
        self._driver.register_by(  # type: ignore[attr-defined] # every driver has that
            Registration(lambda: about, self._keys, None, seconds(ttl, "ttl"))
        )
        side = Side(
            name=name,
            items=items,
            held=expiring.held,
            which=expiring.which,
            count=expiring.count,
            first_page=expiring.first_page,
            client=redis_client,
            driver=self._driver,
            hashes=digest,
        )
        self._algebra: Algebra[T] = LivingAlgebra(side, expiring)


class BaseDeadLetters(Generic[DriverT, T]):
    """The attributes of the dead letters of a set, for both faces."""

    def __init__(self, driver: DriverT, letters: Letters[T]) -> None:
        self._driver = driver
        self._letters = letters


def _class_of(one: Any) -> str:
    """Return the name of redset's class of a set, which may be of a subclass."""
    return next(kind.__name__ for kind in type(one).__mro__ if kind.__module__ in ("redset.sets", "redset.aio"))


def _info(definition: Definition[Any], kind: str) -> SetInfo:
    """Return what the registry says of a set."""
    options: dict[str, Any] = {
        "keyed": definition.items.keyed,
        "max_attempts": definition.max_attempts or None,
        "max_dead": definition.max_dead or None,
    }
    if definition.interval:
        options["interval"] = definition.interval
    else:
        options |= {"remember": definition.remember or None, "digest": definition.digest}
    return SetInfo(definition.name, kind, options)


def _limit(value: int | None, what: str) -> int:
    """Return a limit as the scripts take it: 0 for none."""
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int or None, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, or None for no limit, not {value!r}")
    return value
