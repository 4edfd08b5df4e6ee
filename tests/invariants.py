"""What is always true of the raw keys of a set, whatever was done with it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redset.core.keys import REGISTRY, Keys
from servers import server_time

#: The type of each key, by its name in :class:`Keys`.
TYPES = {
    "waiting": b"zset",
    "leased": b"zset",
    "deliveries": b"hash",
    "parked": b"zset",
    "dead": b"zset",
    "letters": b"hash",
    "meta": b"hash",
    "history": b"list",
    "wake": b"list",
    "looks": b"zset",
}
#: What is there whether the set is empty or not: its own hash, the history of its totals, and what waiters need.
BOOKKEEPING = {"meta", "history", "wake", "looks"}


def assert_each_once(delivered: list[str], items: list[str]) -> None:
    assert {item: times for item, times in Counter(delivered).items() if times > 1} == {}
    assert set(delivered) == set(items)


def leases_add_up(of: Counter[str], held: int) -> bool:
    """Whether the leases that began are those that ended, and those that are held."""
    ended = ("acked", "nacked", "given_back", "buried", "expired", "leases_rolled_back", "leases_removed")
    return of["leased"] == sum(of[name] for name in ended) + held


def deaths_add_up(of: Counter[str], dead: int) -> bool:
    return of["died"] == of["retried"] + of["dead_removed"] + of["revived"] + dead


def uncounted(of: Counter[str], there: int) -> int:
    """The number of entries that went or are there, beyond those that the totals say came: added by other programs."""
    came = ("added", "takes_rolled_back", "unloadable", "rescheduled")
    went = ("taken", "acked", "removed", "merged", "dropped", "dead_removed")
    return sum(of[name] for name in went) + there - sum(of[name] for name in came)


class RawSet:
    """The keys of one set as they are on the server."""

    #: The type of each key, by its name in :class:`Keys`.
    TYPES = TYPES
    #: Seconds that the record of a call lives.
    RECORD_LIFE = 600

    def __init__(self, raw: Any, name: str) -> None:
        self._raw = raw
        self._keys = Keys(name)
        self._named = {getattr(self._keys, key): key for key in self.TYPES}
        #: The contents of the keys, within `at_once`.
        self._snapshot: dict[str, Any] | None = None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Read all sorted sets and hashes in one round trip, for the block. Nobody may write meanwhile."""
        if self._snapshot is not None:
            yield
            return
        keys = [key for key, kind in self.TYPES.items() if kind in (b"zset", b"hash")]
        pipeline = self._raw.pipeline(transaction=False)
        for key in keys:
            self._ask(pipeline, key)
        self._snapshot = dict(zip(keys, pipeline.execute(raise_on_error=False), strict=True))
        try:
            yield
        finally:
            self._snapshot = None

    def _ask(self, client: Any, key: str) -> Any:
        name = getattr(self._keys, key)
        return client.hgetall(name) if self.TYPES[key] == b"hash" else client.zrange(name, 0, -1, withscores=True)

    def _read(self, key: str) -> Any:
        found = self._ask(self._raw, key) if self._snapshot is None else self._snapshot[key]
        if isinstance(found, Exception):
            raise found
        return found

    def scores(self, key: str) -> dict[bytes, float]:
        """The members of a sorted set."""
        return dict(self._read(key))

    def fields(self, key: str) -> dict[bytes, bytes]:
        """The fields of a hash."""
        return dict(self._read(key))

    def present(self) -> set[str]:
        """The keys that there are, by their names, without the records of calls."""
        return {self._named[key] for key in self._all_keys() if key in self._named}

    def is_empty(self) -> bool:
        """Whether nothing is stored but what there is without any items too."""
        return not self.present() - BOOKKEEPING

    def check(self) -> None:
        """Raises an AssertionError that says which invariant does not hold."""
        with self.at_once():
            self._check_keys()
            self._check_dead_letters()
            self._check_leases()
            self._check_totals_of_leases()

    def check_totals(self, foreign: int = 0) -> None:
        """Check the three equations of the totals.

        :param foreign: how many entries other programs have added.
        """
        with self.at_once():
            of = self._totals()
            there = sum(len(self.scores(key)) for key in ("waiting", "leased", "parked", "dead"))
            self._check_totals_of_leases()
        assert uncounted(of, there) == foreign, (of, there, foreign)

    def _check_totals_of_leases(self) -> None:
        """Check the equations that hold whoever adds."""
        of, dead = self._totals(), len(self.scores("dead"))
        held = sum(until > 0 for until in self.scores("leased").values())
        assert leases_add_up(of, held), (of, held)
        assert deaths_add_up(of, dead), (of, dead)

    def _totals(self) -> Counter[str]:
        fields = self.fields("meta").items()
        return Counter({name.decode(): int(value) for name, value in fields if value.isdigit()})

    def _check_keys(self) -> None:
        keys = self._all_keys()
        pipeline = self._raw.pipeline(transaction=False)
        for key in keys:
            pipeline.type(key)
            pipeline.pttl(key)
        replies = pipeline.execute()
        for key, kind, left in zip(keys, replies[::2], replies[1::2], strict=True):
            name = self._named.get(key)
            if name is None:
                assert key.startswith(self._keys.call_prefix), f"nobody knows the key {key!r}"
                assert 0 < left <= 1000 * self.RECORD_LIFE, f"the record {key!r} does not end by itself"
            else:
                assert kind == self.TYPES[name], f"{name} is a {kind!r}"
                if name == "done":
                    assert left > 0, "what is remembered does not end by itself"
                elif name not in BOOKKEEPING:
                    assert left == -1, f"{name} would expire"

    def _check_dead_letters(self) -> None:
        dead, letters = self.scores("dead"), self.fields("letters")
        assert dead.keys() == letters.keys(), "each dead item has one letter, and nothing else has"
        for died_at in dead.values():
            assert 0 < died_at <= self._now(), "nobody dies in the future"
        for letter in letters.values():
            attempts, score, _ = letter.split(b" ", 2)
            assert int(attempts) >= 0
            float(score)

    def _check_leases(self) -> None:
        leased, deliveries, parked = self.scores("leased"), self.fields("deliveries"), self.scores("parked")
        assert leased.keys() <= deliveries.keys(), "what is leased was delivered"
        for item, delivery in deliveries.items():
            word = delivery.split()[0]
            held = leased.get(item, 0) > 0
            assert word.isdigit() and int(word) > 0 if held else word in {b"0", b"expired"}, f"{item!r}: {delivery!r}"
        assert deliveries.keys() - leased.keys() <= self.scores("waiting").keys(), "what was delivered is somewhere"
        assert parked.keys() <= {item for item, until in leased.items() if until > 0}, "only what is held is parked"
        assert not self.scores("dead").keys() & leased.keys(), "what is dead is not held"

    def _all_keys(self) -> list[bytes]:
        return [key for key in self._raw.scan_iter() if key not in REGISTRY]

    def _now(self) -> float:
        return server_time(self._raw)


class KeyedRawSet(RawSet):
    """The keys of a set that is keyed, or remembers, or both, as they are on the server."""

    TYPES = TYPES | {"values": b"hash", "done": b"zset"}

    def check(self, without_value: frozenset[bytes] | None = None) -> None:
        """:param without_value: the identities whose value nobody ever gave; None when the set is not keyed."""
        with self.at_once():
            super().check()
            self._check_values(without_value)
            self._check_memory()

    def identities(self) -> set[bytes]:
        """Whatever is in any state but done."""
        return {item for key in ("waiting", "leased", "parked", "dead") for item in self.scores(key)}

    def memory(self) -> int:
        """The bytes of all keys, the records of calls too."""
        return sum(self._raw.memory_usage(key, samples=0) for key in self._all_keys())

    def _check_values(self, without_value: frozenset[bytes] | None) -> None:
        valued = self.fields("values").keys()
        if without_value is None:
            assert not valued, "only keyed sets have values"
            return
        assert not valued - self.identities(), "no value outlives its identity"
        assert not self.identities() - valued - without_value, "no value is missing"

    def _check_memory(self) -> None:
        now = self._now()
        remembered = {item for item, until in self.scores("done").items() if until > now}
        for state in "leased", "parked", "dead":
            assert not remembered & self.scores(state).keys(), f"what is done is not {state}"


class PeriodicRawSet(KeyedRawSet):
    """The keys of a periodic set as they are on the server, whose clock may be set back."""

    RECORD_LIFE = 10**6
    _latest = 0.0

    def _now(self) -> float:
        self._latest = max(self._latest, super()._now())
        return self._latest

    def check(self, without_value: frozenset[bytes] | None = frozenset()) -> None:
        """:param without_value: None when nobody ever gave an interval nor a value."""
        with self.at_once():
            if without_value is not None:
                # An item without an interval of its own has no value.
                without_value |= self.identities()
            super().check(without_value)
