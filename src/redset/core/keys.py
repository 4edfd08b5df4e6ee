"""Every key of a set, each with one sentence that states what it holds and its invariant."""

__all__ = ("Keys",)


class Keys:
    """The names of a set's keys, as bytes, all in one slot of a cluster wherever a hash tag can do that.

    The companions carry the set's name as their hash tag (``{jobs}:dead``). A name that has a tag of its own keeps
    it and gets two colons (``{a}jobs::dead``), so that the sets ``x`` and ``{x}`` share nothing.
    """

    __slots__ = ("dead", "letters", "one_slot", "waiting")

    def __init__(self, name: str) -> None:
        has_tag = _hash_tag(name) is not None
        prefix = f"{name}::" if has_tag else f"{{{name}}}:"

        #: Whether the companions hash to the slot of ``waiting``; a cluster can only serve a set where they do.
        self.one_slot = has_tag or _hash_tag(prefix) == name
        #: ZSET, item -> score: what waits to be handed out. Its key is the set's name itself.
        self.waiting = name.encode()
        #: ZSET, item -> time of death: what will not be handed out any more. Every member has a field in `letters`.
        self.dead = f"{prefix}dead".encode()
        #: HASH, item -> "attempts score reason": what is known of each member of `dead`, and of nothing else.
        self.letters = f"{prefix}letters".encode()


def _hash_tag(key: str) -> str | None:
    """The part of a key between its first ``{`` and the next ``}``, when it is not empty: what a cluster hashes."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed and tag else None
