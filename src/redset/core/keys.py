"""Every key of a set, each with one sentence that states what it holds and its invariant."""

__all__ = ("TYPES", "Keys")

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
    "token": "hash",
    "wake": "list",
    "waiters": "string",
    "call": "string",
}


class Keys:
    """The names of a set's keys: all but the lock's as bytes, in one slot of a cluster wherever a hash tag can do that.

    The companions carry the set's name as their hash tag (``{jobs}:leased``). A name that has a tag of its own keeps
    it and gets two colons (``{a}jobs::leased``), so that the sets ``x`` and ``{x}`` share nothing.
    """

    __slots__ = (
        "call_prefix",
        "dead",
        "deliveries",
        "done",
        "leased",
        "letters",
        "living",
        "lock",
        "one_slot",
        "parked",
        "prefix",
        "token",
        "values",
        "waiters",
        "waiting",
        "wake",
    )

    def __init__(self, name: str) -> None:
        has_tag = _hash_tag(name) is not None
        #: What the keys of all companions begin with.
        self.prefix = prefix = f"{name}::" if has_tag else f"{{{name}}}:"
        #: Whether the companions hash to the slot of ``waiting``; a cluster can only serve a set where they do.
        self.one_slot = has_tag or _hash_tag(prefix) == name
        #: ZSET, item -> score: what waits to be handed out, and what anybody may ZADD to. Its key is the set's name.
        self.waiting = name.encode()
        #: ZSET, expiring sets only: item, or a hash of it -> until when it lives. Its key is the set's name too.
        self.living = self.waiting
        #: ZSET, item -> when its lease ends; minus that for an item that nobody holds, which is backing off until then.
        self.leased = f"{prefix}leased".encode()
        #: HASH, item -> "token attempts score": one field for each member of `leased`, and for each item that waits
        #: again after a delivery that failed; the token is 0 when nobody holds the item, or `expired` when its
        #: last lease expired.
        self.deliveries = f"{prefix}deliveries".encode()
        #: ZSET, item -> newest score: what was added while somebody held it. Every member is in `leased`, and held.
        self.parked = f"{prefix}parked".encode()
        #: ZSET, item -> time of death: what is not handed out any more. Every member has a field in `letters`.
        self.dead = f"{prefix}dead".encode()
        #: HASH, item -> "attempts score reason": what is known of each member of `dead`, and of nothing else.
        self.letters = f"{prefix}letters".encode()
        #: HASH, keyed and periodic sets only: identity -> newest value; periodic: "interval\nvalue", where either
        #: may be missing. One field for each identity in any of the states above, if that was given, and for no other.
        self.values = f"{prefix}values".encode()
        #: ZSET, sets that remember only: finished item, or a hash of it -> until when it is remembered.
        self.done = f"{prefix}done".encode()
        #: HASH: `last`, the last fencing token given, and `cleared`, the number of the last `clear()`. Only ever grow;
        #: outlive `clear()`.
        self.token = f"{prefix}token".encode()
        #: LIST of at most one token: pushed to wake one waiter. Nothing is lost when it is.
        self.wake = f"{prefix}wake".encode()
        #: STRING that lives for a second: the note that somebody waits.
        self.waiters = f"{prefix}waiters".encode()
        #: STRING while somebody holds the set's lock: who. No call of the set needs it, so it may be in another slot.
        self.lock = f"{name}__lock"
        #: STRING per caller, for ten minutes: the number of its last call and the reply (see `callers`).
        self.call_prefix = f"{prefix}call:".encode()


def _hash_tag(key: str) -> str | None:
    """The part of a key between its first ``{`` and the next ``}``, when it is not empty: what a cluster hashes."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed and tag else None
