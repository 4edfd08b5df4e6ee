"""Every key of a set, with its type and its invariant."""

__all__ = ("REGISTRY", "TYPES", "Keys")

#: The type of each key on the server.
TYPES = {
    "waiting": "zset",
    "living": "zset",
    "leased": "zset",
    "deliveries": "hash",
    "parked": "zset",
    "dead": "zset",
    "letters": "hash",
    "values": "hash",
    "done": "zset",
    "meta": "hash",
    "wake": "list",
    "looks": "zset",
    "call": "string",
    "history": "list",
    "sets": "hash",
    "until": "zset",
    "group": "hash",
    "groups": "zset",
    "ready": "zset",
    "resting": "zset",
    "upcoming": "zset",
    "busy": "hash",
    "limits": "hash",
}

#: The registry of all sets on the server. HASH, name -> record; ZSET, expiring sets only: name -> time after which the
#: registry may forget it.
REGISTRY = (b"redset:sets", b"{redset:sets}:until")


class Keys:
    """The names of a set's keys: all but the lock's as bytes, in one slot of a cluster if a hash tag can do that.

    The other keys have the set's name as their hash tag (``{jobs}:leased``). A name with a tag of its own keeps it and
    gets two colons (``{a}jobs::leased``), so that the sets ``x`` and ``{x}`` share no key.
    """

    def __init__(self, name: str) -> None:
        has_tag = _hash_tag(name) is not None
        #: The beginning of all other keys but the lock's.
        self.prefix = prefix = f"{name}::" if has_tag else f"{{{name}}}:"
        #: Whether the other keys are in the slot of ``waiting``, without which the set cannot be on a cluster.
        self.one_slot = has_tag or _hash_tag(prefix) == name
        #: ZSET, item -> score: the waiting items; any program may ZADD. Its key is the set's name. For a set over
        #: shards, a HASH with its layout, and in old shards a HASH by which calls fail; see `core/shards/layout.py`.
        self.waiting = name.encode()
        #: ZSET, expiring sets only: item, or its hash -> time at which it expires. Its key is the set's name too.
        self.living = self.waiting
        #: ZSET, item -> deadline of its lease; for a delayed item, minus the end of its backoff.
        self.leased = f"{prefix}leased".encode()
        #: HASH, item -> "token attempts score": one field for each member of `leased`, and for each waiting item that
        #: has had an attempt. Without a lease, the token is 0, or `expired` if the last lease expired.
        self.deliveries = f"{prefix}deliveries".encode()
        #: ZSET, item -> newest score: the parked items. Every member is in `leased`, under a lease.
        self.parked = f"{prefix}parked".encode()
        #: ZSET, item -> time of death: the dead items. Every member has a field in `letters`.
        self.dead = f"{prefix}dead".encode()
        #: HASH, item -> "attempts score reason": one field for each member of `dead`, and for no other item.
        self.letters = f"{prefix}letters".encode()
        #: HASH, keyed and periodic sets only: identity -> newest value; periodic: "interval\nvalue", where either
        #: may be missing. At most one field for each identity in any of the states above, and for no other.
        self.values = f"{prefix}values".encode()
        #: ZSET, sets that remember only: done item, or its hash -> end of its retention.
        self.done = f"{prefix}done".encode()
        #: HASH, which outlives `clear()`: `last`, the last fencing token, and `cleared`, the number of the last
        #: `clear()`, which only grow; `layout`, the form in which items are stored; one field for each total; `gate`,
        #: the pause and the limits of claims, and `maxsize`, each only if there is one; `past`, after a reshard.
        self.meta = f"{prefix}meta".encode()
        #: LIST of samples of the totals, the newest first: one for each minute with a claim, 60 at most.
        self.history = f"{prefix}history".encode()
        #: LIST of at most one wake-up, which wakes one waiter. Losing it loses no item.
        self.wake = f"{prefix}wake".encode()
        #: ZSET, waiter -> time of its next look, negative if it can claim any item and not only due ones. Only empty
        #: claims add to it; it expires with the last look. Losing it delays waiters.
        self.looks = f"{prefix}looks".encode()
        #: Sets with groups only. HASH, item -> its group, for every item in any state but done.
        self.group = f"{prefix}group".encode()
        #: ZSET, all scores 0: the waiting items by group, score and bytes; see ``shared/groups.lua``. It may have more.
        self.groups = f"{prefix}groups".encode()
        #: ZSET, group -> score of its first item, or its turn: groups that may be claimed from.
        self.ready = f"{prefix}ready".encode()
        #: ZSET, group -> moment until which nothing is claimed from it.
        self.resting = f"{prefix}resting".encode()
        #: ZSET, under fair turns: group -> score of its first item, where that is not due yet.
        self.upcoming = f"{prefix}upcoming".encode()
        #: HASH, group -> number of its leases, if there are any.
        self.busy = f"{prefix}busy".encode()
        #: HASH, group -> its own limits and its pause, if it has any; it outlives `clear()`.
        self.limits = f"{prefix}limits".encode()
        #: STRING, while the set's lock is held. No call needs it, so it may be in another slot.
        self.lock = f"{name}__lock"
        #: STRING per session, for ten minutes: the call record, with its last number and reply.
        self.call_prefix = f"{prefix}call:".encode()

    def all(self) -> tuple[bytes, ...]:
        """Return all keys of the set but the records of calls, which expire by themselves, and the lock."""
        return tuple(sorted({key for name, key in vars(self).items() if name in TYPES}))


def _hash_tag(key: str) -> str | None:
    """Return the part of a key that a cluster hashes: between its first ``{`` and the next ``}``, if not empty."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed and tag else None
