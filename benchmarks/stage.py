"""What a benchmark works with: clients, the set under test, and items to put into it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import redis
import redis.asyncio
from measure import Side, time_asyncio, time_blocking

import redset
import redset.aio
from redset.core.keys import Keys
from redset.serializers import JSONSerializer

__all__ = ("BARE", "FACES", "KEYED", "PERIODIC", "REDSET", "TTL", "WIRES", "Face", "Kind", "Stage", "Wire")

Kind: TypeAlias = Literal["sorted", "time", "scheduled"]
Face: TypeAlias = Literal["blocking", "asyncio"]
Wire: TypeAlias = Literal["plain", "json"]

FACES: tuple[Face, ...] = get_args(Face)
WIRES: tuple[Wire, ...] = get_args(Wire)

BARE, REDSET, KEYED, PERIODIC = "bare", "redset", "keyed", "periodic"
#: For how many seconds the items of an expiring set live.
TTL = 3600
_WAITING, _IDENTITIES, _VALUES = "waiting", "identities", "values"

_SETS: dict[tuple[Kind, Face], Callable[..., Any]] = {
    ("sorted", "blocking"): redset.SortedSet,
    ("time", "blocking"): redset.TimeSortedSet,
    ("scheduled", "blocking"): redset.ScheduledSet,
    ("sorted", "asyncio"): redset.aio.SortedSet,
    ("time", "asyncio"): redset.aio.TimeSortedSet,
    ("scheduled", "asyncio"): redset.aio.ScheduledSet,
}


class Stage:
    """One kind of set on one face with one serializer, and the bare client that shares all of that with it.

    :attr:`client` is the bare client; ``dumps`` and ``loads`` are what redset is given as its serializer, or what it
    does without one.
    """

    def __init__(
        self, url: str, loop: asyncio.Runner, kind: Kind, face: Face, wire: Wire, *, protocol: int | None
    ) -> None:
        options: dict[str, Any] = {} if protocol is None else {"protocol": protocol}
        self.kind, self.face, self.wire = kind, face, wire
        self.control = redis.Redis.from_url(url, **options)
        self.client: Any = self.control if face == "blocking" else redis.asyncio.Redis.from_url(url, **options)
        self.serializer = JSONSerializer() if wire == "json" else None
        self.dumps: Callable[[Any], str | bytes] = self.serializer.dumps if self.serializer else str
        self.loads: Callable[[bytes], Any] = self.serializer.loads if self.serializer else bytes.decode
        self._loop = loop

    def set(self, **options: Any) -> Any:
        """The set under test."""
        return self._set(REDSET, **options)

    def keyed(self, **options: Any) -> Any:
        """The same as a keyed set, of which the identities are what is stored of a plain item."""
        return self._set(KEYED, key=self.identity, **options)

    def periodic(self) -> Any:
        """The same items as things to be done every hour."""
        made_by = redset.PeriodicSet if self.face == "blocking" else redset.aio.PeriodicSet
        return made_by(self.client, PERIODIC, 3600, serializer=self.serializer)

    def seen(self, **options: Any) -> Any:
        """An expiring set."""
        made_by = redset.ExpiringSet if self.face == "blocking" else redset.aio.ExpiringSet
        return made_by(self.client, REDSET, TTL, self.serializer, **options)

    def _set(self, name: str, **options: Any) -> Any:
        return _SETS[self.kind, self.face](self.client, name, serializer=self.serializer, **options)

    def identity(self, item: Any) -> str:
        """What a keyed set tells an item by."""
        identity: str = item if self.wire == "plain" else item["url"]
        return identity

    def score(self) -> float:
        """The score that an item gets which is added now."""
        return 0 if self.kind == "sorted" else time.time()

    def items(self, number: int) -> list[Any]:
        """Distinct items of an everyday size."""
        urls = [f"https://example.org/products/{i * 7919 % 1_000_003:07}" for i in range(number)]
        return urls if self.wire == "plain" else [{"url": url, "depth": 3, "tags": ["new", "shop"]} for url in urls]

    def prepare(self, items: list[Any]) -> None:
        """Says what waits at the beginning of each sample, under scores as this kind of set has them, all due."""
        start = 0 if self.kind == "sorted" else time.time() - len(items) - 1.123457
        self.control.flushdb()
        if items:
            scored: dict[str | bytes, float] = {
                self.dumps(item): start + position for position, item in enumerate(items)
            }
            self.control.zadd(_WAITING, scored)  # type: ignore[type-var] # str and bytes may be mixed
            self.control.zadd(
                _IDENTITIES, {self.identity(item): start + position for position, item in enumerate(items)}
            )
            self.control.hset(_VALUES, mapping={self.identity(item): self.dumps(item) for item in items})

    def fill(self, side: Side) -> None:
        """Makes what was prepared all that there is in the set of ``side``, and itself ready."""
        keys = Keys(side.key)
        self.control.delete(keys.waiting, keys.values, keys.leased, keys.deliveries, keys.done)
        self.control.copy(_IDENTITIES if side.key == KEYED else _WAITING, side.key)
        if side.key == KEYED:
            self.control.copy(_VALUES, keys.values)  # type: ignore[arg-type] # any name will do
        if side.before is not None:
            made = side.before()
            if self.face == "asyncio":
                self._loop.run(made)

    def time(self, side: Side, arguments: list[Any]) -> float:
        """The seconds that the calls of ``side`` take, one after the other, on this face."""
        if self.face == "blocking":
            return time_blocking(side, arguments)
        return self._loop.run(time_asyncio(side, arguments))

    def close(self) -> None:
        self.control.close()
        if self.face == "asyncio":
            self._loop.run(self.client.aclose())
