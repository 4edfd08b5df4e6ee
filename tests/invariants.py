"""What is always true of the raw keys of a set, whatever was done with it."""

from collections import Counter
from typing import Any

from redset.core.keys import REGISTRY, Keys

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
    "waiters": b"string",
}
#: What is there whether the set is empty or not: its own hash, the history of its totals, and what waiters need.
BOOKKEEPING = {"meta", "history", "wake", "waiters"}


class RawSet:
    """The keys of one set as they are on the server."""

    def __init__(self, raw: Any, name: str) -> None:
        self._raw = raw
        self._keys = Keys(name)
        self._named = {getattr(self._keys, key): key for key in TYPES if hasattr(self._keys, key)}

    def scores(self, key: str) -> dict[bytes, float]:
        """The members of a sorted set."""
        return dict(self._raw.zrange(getattr(self._keys, key), 0, -1, withscores=True)) if key in self.present() else {}

    def fields(self, key: str) -> dict[bytes, bytes]:
        """The fields of a hash."""
        return dict(self._raw.hgetall(getattr(self._keys, key))) if key in self.present() else {}

    def present(self) -> set[str]:
        """The keys that there are, by their names, without the records of calls."""
        return {self._named[key] for key in self._all_keys() if key in self._named}

    def is_empty(self) -> bool:
        """Whether nothing is stored but what there is without any items too."""
        return not self.present() - BOOKKEEPING

    def check(self) -> None:
        """Raises an AssertionError that says which invariant does not hold."""
        self._check_keys()
        self._check_dead_letters()
        self._check_leases()
        self.check_totals()

    def check_totals(self) -> None:
        """Check the equations of the totals; they hold for a set to which only redset adds."""
        totals = {name.decode(): int(value) for name, value in self.fields("meta").items() if value.isdigit()}
        of = Counter(totals)
        leases = list(self.scores("leased").values())
        held = sum(until > 0 for until in leases)
        ended = ("acked", "nacked", "given_back", "buried", "expired", "leases_rolled_back", "leases_removed")
        assert of["leased"] == sum(of[name] for name in ended) + held, totals
        came = ("added", "takes_rolled_back", "unloadable", "rescheduled")
        went = ("taken", "acked", "removed", "merged", "dropped", "dead_removed")
        there = len(leases) + sum(len(self.scores(key)) for key in ("waiting", "parked", "dead"))
        assert sum(of[name] for name in came) == sum(of[name] for name in went) + there, (totals, there)
        dead = len(self.scores("dead"))
        assert of["died"] == of["retried"] + of["dead_removed"] + of["revived"] + dead, (totals, dead)

    def _check_keys(self) -> None:
        for key in self._all_keys():
            name = self._named.get(key)
            if name is None:
                assert key.startswith(getattr(self._keys, "call_prefix", b"\0")), f"nobody knows the key {key!r}"
                assert 0 < self._raw.ttl(key) <= 600, f"the record {key!r} does not end by itself"
            else:
                assert self._raw.type(key) == TYPES[name], f"{name} is a {self._raw.type(key)!r}"
                if name not in BOOKKEEPING:
                    assert self._raw.ttl(key) == -1, f"{name} would expire"

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
        seconds, microseconds = self._raw.time()
        return float(seconds + microseconds / 10**6)
