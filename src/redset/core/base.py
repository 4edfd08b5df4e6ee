"""The parts of a set that need no round trip, for both faces."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NoReturn, SupportsIndex, TypeVar, Unpack, cast, overload

from redset.core.adding import Adding
from redset.core.algebra import Algebra, SortedAlgebra
from redset.core.burying import Burying
from redset.core.callables import checked_callable
from redset.core.claiming import Claims
from redset.core.clients import check_client, longest_block
from redset.core.definition import LONGEST_POLL, Definition, Kind
from redset.core.endings import Endings
from redset.core.expiring import Expiring, LivingAlgebra
from redset.core.forms import layout_of
from redset.core.gates import Gates
from redset.core.grouping import Grouping, cannot_tell, checked_group, checked_per_group
from redset.core.groups import Groups, Sorting
from redset.core.inspecting import Inspecting
from redset.core.items import Items
from redset.core.keys import Keys
from redset.core.leases import BaseReservation
from redset.core.letters import Letters
from redset.core.looking import Looking
from redset.core.operands import Held, Side
from redset.core.operations import Operation
from redset.core.paging import Paging
from redset.core.parameters import (
    CallOptions,
    ExpiringOptions,
    PeriodicOptions,
    SortedOptions,
    T,
    expanded,
    one_of_duplicates,
    one_of_turns,
    one_of_while_leased,
)
from redset.core.periodic import PeriodicItems, Scheduling
from redset.core.receipts import Receipts
from redset.core.registry import Registration, SetInfo
from redset.core.removing import Removing
from redset.core.serializing import PLAIN as PLAIN_SERIALIZER
from redset.core.serializing import checked_serializer
from redset.core.shards.claims import ShardsClaims
from redset.core.shards.drivers import over_shards
from redset.core.shards.endings import ShardsEndings
from redset.core.shards.layout import Layout, ShardCount, checked_count, create
from redset.core.shards.living import LivingParts, ShardsExpiring
from redset.core.shards.parts import (
    ShardsAdding,
    ShardsAlgebra,
    ShardsGates,
    ShardsGroups,
    ShardsInspecting,
    ShardsLetters,
    ShardsLooking,
    ShardsPaging,
    ShardsRemoving,
    ShardsScheduling,
    ShardsSide,
)
from redset.core.shards.place import Shard, Shards
from redset.core.shown import shown
from redset.core.talking import Register
from redset.core.times import Duration, Moment, is_number, seconds
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
        self._driver_options = {"recording": options["retry_safe"], "connections": options["connections"]}
        self._driver = self._driver_type(redis_client, name, self._keys.call_prefix, **self._driver_options)

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


@dataclass(frozen=True)
class Parts(Generic[Res, T]):
    """The operations of a set, or of a shard."""

    keys: Keys
    adding: Adding[T]
    looking: Looking[T]
    inspecting: Inspecting[T]
    paging: Paging[T]
    removing: Removing[T]
    gates: Gates[T]
    endings: Endings[T]
    letters: Letters[T]
    claims: Claims[T, Res]
    groups: Groups[T] | None
    side: Side
    algebra: Algebra[T]


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
        remember, group = options["remember"], checked_group(options["group"])
        leases, pause = checked_per_group(options["per_group"], grouped=group is not None)
        self.scorer: Callable[[T], Moment] = checked_callable(
            scorer or self._kind.scorer, "scorer", "takes an item and returns its score"
        )
        key = options["key"]
        if key is not None:
            checked_callable(key, "key", "takes an item and returns its identity")
        items = self._make_items(name, self.serializer, key)
        definition: Definition[T] = Definition(
            name=name,
            keys=self._keys,
            items=items,
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
            backoff=checked_callable(options["backoff"], "backoff", "takes the number of an attempt"),
            longest_block=longest_block(redis_client),
            poll=seconds(options["poll"], "poll", positive=True, most=LONGEST_POLL),
            grouping=None if group is None else Grouping(group, items, name),
            turns=one_of_turns(options["turns"], grouped=group is not None),
            group_leases=leases,
            group_pause=pause,
            sorts=int(group is not cannot_tell),
        )
        shards = checked_count(options["shards"])
        kind = _class_of(self)
        #: The shards of the set; None without.
        self._shards: Shards | None = None
        if shards is None:
            self._register(definition, kind, self._driver)
            parts = self._made_parts(definition, self._driver, self._driver, None)
        else:
            parts = self._made_over_shards(definition, kind, shards)
        self._adding, self._looking, self._inspecting = parts.adding, parts.looking, parts.inspecting
        self._paging, self._removing, self._gates = parts.paging, parts.removing, parts.gates
        self._endings, self._letters = parts.endings, parts.letters
        self._claims: Claims[T, Res] = parts.claims
        self._groups: Groups[T] | None = parts.groups
        self._receipts: Receipts[T, Res] = Receipts(
            definition, partial(self._reservation_type, self._driver, self._endings)
        )
        self._algebra = parts.algebra
        self.lock = self._lock_type(redis_client, self._keys.lock, expires=lock_expires, timeout=lock_timeout)

    def _register(self, definition: Definition[T], kind: str, driver: Any, layout: Layout | None = None) -> None:
        """Have calls by a driver register the set.

        :param layout: for a shard, that of its set.
        """
        count, restore = _of_shards(layout)
        register: Register = Registration(
            partial(_info, definition, kind, count), definition.keys, definition.options, 0.0, restore
        )
        driver.register_by(register if definition.grouping is None else Sorting(definition, register))

    def _made_parts(
        self, definition: Definition[T], driver: Any, performer: Any, endings_of_all: Any
    ) -> "Parts[Res, T]":
        """Return the operations of a set, or of a shard.

        :param performer: the driver that ends leases.
        :param endings_of_all: for a shard, the ends of leases of the whole set.
        """
        keys, items = definition.keys, definition.items
        adding, looking, removing = self._make_adding(definition), Looking(definition), Removing(definition)
        paging, endings = Paging(keys, items), Endings(definition)
        new_reservation = partial(self._reservation_type, performer, endings_of_all or endings)
        side = Side(
            name=definition.name,
            items=items,
            held=Held(keys.waiting),
            which=looking.which,
            count=looking.count,
            first_page=paging.items,
            client=self.redis,
            driver=driver,
            values=keys.values if items.keyed else None,
        )
        return Parts(
            keys=keys,
            adding=adding,
            looking=looking,
            inspecting=Inspecting(definition),
            paging=paging,
            removing=removing,
            gates=Gates(definition),
            endings=endings,
            letters=Letters(definition),
            claims=Claims(
                definition, new_reservation, claim_within, Burying(definition, endings).bury, driver.caller.state
            ),
            groups=None if definition.grouping is None else Groups(definition),
            side=side,
            algebra=SortedAlgebra(side, keys.leased, adding, removing),
        )

    def _made_shard(self, layout: Layout, number: int) -> Shard:
        """Return the shard of a layout with a number."""
        assert self._shards is not None
        return self._shards.make(layout, number)

    def _made_over_shards(self, definition: Definition[T], kind: str, count: ShardCount) -> "Parts[Res, T]":
        """Return the operations of a set over shards."""
        driver_type: Any = self._driver_type
        own_driver = over_shards(driver_type)(self.redis, self._name, self._keys.call_prefix, **self._driver_options)
        self._driver = own_driver

        def make(layout: Layout, number: int) -> Shard:
            name = layout.names[number]
            own = replace(definition, keys=Keys(name), sharded=True)
            driver = driver_type(self.redis, self._name, own.keys.call_prefix, **self._driver_options)
            self._register(own, kind, driver, layout)
            return Shard(number, name, driver, self._made_parts(own, driver, self._driver, endings))

        self._shards = shards = Shards(
            self._name,
            definition.items,
            definition.layout,
            count,
            make,
            digest=definition.digest and definition.remember > 0,
            grouping=definition.grouping,
        )
        endings = ShardsEndings(definition, shards)
        adding, paging = self._make_adding_over(definition, shards), ShardsPaging(definition, shards)
        looking, removing = ShardsLooking(definition, shards, paging), ShardsRemoving(definition, shards)
        side = ShardsSide(
            name=self._name,
            items=definition.items,
            held=Held(self._keys.waiting),
            which=looking.which,
            count=looking.count,
            first_page=paging.items,
            client=self.redis,
            driver=self._driver,
            values=self._keys.values if definition.items.keyed else None,
            whole=False,
            shards=shards,
        )
        new_reservation = partial(self._reservation_type, self._driver, endings)
        return Parts(
            keys=self._keys,
            adding=adding,
            looking=looking,
            inspecting=ShardsInspecting(definition, shards),
            paging=paging,
            removing=removing,
            gates=ShardsGates(definition, shards),
            endings=endings,
            letters=ShardsLetters(definition, shards),
            claims=ShardsClaims(definition, shards, endings, new_reservation, own_driver.caller.state),
            groups=None if definition.grouping is None else ShardsGroups(definition, shards),
            side=side,
            algebra=ShardsAlgebra(side, self._keys.leased, adding, removing),
        )

    def _make_items(self, name: str, serializer: Any, key: Callable[[T], Any] | None) -> Items[T]:
        return Items(name, serializer, key)

    def _make_adding(self, definition: Definition[T]) -> Adding[T]:
        return Adding(definition)

    def _make_adding_over(self, definition: Definition[T], shards: Shards) -> Adding[T]:
        return ShardsAdding(definition, shards)


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
        made = Scheduling(definition, self._jitter)
        if not definition.sharded:
            self._scheduling = made
        return made

    def _make_adding_over(self, definition: Definition[T], shards: Shards) -> Scheduling[T]:
        self._scheduling = ShardsScheduling(definition, self._jitter, shards)
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
        kind, lifetime = _class_of(self), seconds(ttl, "ttl", positive=True)
        shards: Shards | None = None

        def register(keys: Keys, driver: Any, layout: Layout | None) -> None:
            count, restore = _of_shards(layout)
            options = {"ttl": lifetime, "digest": digest} | ({} if count is None else {"shards": count})
            driver.register_by(Registration(lambda: SetInfo(name, kind, options), keys, None, lifetime, restore))

        def side_of(expiring: Expiring[T], driver: Any) -> Side:
            facts: dict[str, Any] = {} if shards is None or driver is not self._driver else {"shards": shards}
            return (ShardsSide if facts else Side)(
                name=name,
                items=items,
                held=expiring.held,
                which=expiring.which,
                count=expiring.count,
                first_page=expiring.first_page,
                client=redis_client,
                driver=driver,
                hashes=digest,
                whole=not facts,
                **facts,
            )

        def make(layout: Layout, number: int) -> Shard:
            own = Keys(layout.names[number])
            driver: Any = self._driver_type(redis_client, name, own.call_prefix, **self._driver_options)
            register(own, driver, layout)
            expiring = Expiring(name, own, items, ttl, digest=digest)
            return Shard(number, layout.names[number], driver, LivingParts(own, expiring, side_of(expiring, driver)))

        self._expiring: Expiring[T]
        count = checked_count(options["shards"])
        if count is None:
            register(self._keys, self._driver, None)
            self._expiring = Expiring(name, self._keys, items, ttl, digest=digest)
        else:
            driver_type: Any = self._driver_type
            self._driver = over_shards(driver_type)(redis_client, name, self._keys.call_prefix, **self._driver_options)
            form = layout_of(frozenset({"expiring", "digest"} if digest else {"expiring"}))
            shards = Shards(name, items, form, count, make, digest=digest)
            self._expiring = ShardsExpiring(name, items, ttl, shards, digest=digest)
        self._algebra: Algebra[T] = LivingAlgebra(side_of(self._expiring, self._driver), self._expiring)


class BaseDeadLetters(Generic[DriverT, T]):
    """The attributes of the dead letters of a set, for both faces."""

    def __init__(self, driver: DriverT, letters: Letters[T]) -> None:
        self._driver = driver
        self._letters = letters


def _class_of(one: Any) -> str:
    """Return the name of redset's class of a set, which may be of a subclass."""
    return next(kind.__name__ for kind in type(one).__mro__ if kind.__module__ in ("redset.sets", "redset.aio"))


def _of_shards(layout: Layout | None) -> tuple[int | None, Operation[bool] | None]:
    """Return the number of shards, and the operation that writes a missing layout record; None without shards."""
    if layout is None or layout.count is None:
        return None, None
    return layout.count, create(layout)


def _info(definition: Definition[Any], kind: str, shards: int | None) -> SetInfo:
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
    if definition.grouping is not None:
        options |= {
            "grouped": True,
            "turns": definition.turns,
            "per_group": [definition.group_leases, definition.group_pause],
        }
    if shards is not None:
        options["shards"] = shards
    return SetInfo(definition.name, kind, options)


def _limit(value: Any, what: str) -> int:
    """Return a limit as the scripts take it: 0 for none."""
    if value is None:
        return 0
    if not isinstance(value, int) or not is_number(value):
        raise TypeError(f"{what} must be an int or None, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, or None for no limit, not {value!r}")
    return value
