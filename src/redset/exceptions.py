"""The exceptions of redset, all subclasses of :class:`RedsetError`.

An exception is also a builtin one where a builtin set or the standard library would raise that: ``except KeyError`` and
``except RedsetError`` both catch it. The client library's own exceptions, as for a lost connection, pass through
unchanged.
"""

import queue

__all__ = (
    "AccessDeniedError",
    "ClusterNameError",
    "DeserializationError",
    "Full",
    "HasShardsError",
    "LayoutError",
    "LeaseLost",
    "LockTimeout",
    "NoServerError",
    "RedsetError",
    "ServerFullError",
    "WrongTypeError",
)


class RedsetError(Exception):
    """The base class of all exceptions of redset."""


class LockTimeout(RedsetError):
    """Raised when a lock was not acquired within its timeout."""


class LeaseLost(RedsetError):
    """Raised when the lease of a reservation has ended; the call changed nothing.

    Its deadline passed, its item was discarded, or it was ended before.
    """


class DeserializationError(RedsetError, ValueError):
    """Raised when the set's serializer cannot load a stored item; :attr:`raw` has the stored bytes."""

    def __init__(self, name: str, raw: bytes, reason: str) -> None:
        super().__init__(name, raw, reason)
        self.name = name
        self.raw = raw
        self.reason = reason

    def __str__(self) -> str:
        return f"the set {self.name!r} holds {self.raw!r}, which its serializer cannot load: {self.reason}"


class WrongTypeError(RedsetError, TypeError):
    """Raised when a key of the set has another type; the message names the key. Nothing was changed."""


class LayoutError(RedsetError):
    """Raised when the server has the set as one of another kind, over another number of shards, or stored in another
    form. Nothing was changed.
    """


class HasShardsError(LayoutError, WrongTypeError):
    """Raised when the set has shards, and the object was made without ``shards=``. Nothing was changed."""


class AccessDeniedError(RedsetError, PermissionError):
    """Raised when an ACL denies the client's user a command or a key; the message names it. Nothing was changed."""


class ServerFullError(RedsetError):
    """Raised when the server, at its ``maxmemory``, refused a write as a whole. Claims still succeed."""


class Full(RedsetError, queue.Full):
    """Raised when the set has as many items as its ``maxsize`` allows; see :meth:`redset.SortedSet.limit`.

    :attr:`added` is the number of items of the call that were added, in order: all before the first one that the set
    had no room for. Items that the set had already count too. On a set over shards each shard adds its own items, in
    order, until it is full, and ``added`` is the sum: so these items are not the first ones of the call.
    """

    def __init__(self, name: str, added: int = 0) -> None:
        super().__init__(name, added)
        self.name = name
        self.added = added

    def __str__(self) -> str:
        return f"the set {self.name!r} has no room for another item: its maxsize is reached; {self.added} were added"


class ClusterNameError(RedsetError, ValueError):
    """Raised when no hash tag can keep the keys of a set with this name in one slot of a cluster."""


class NoServerError(RedsetError, ConnectionError):
    """Raised when no server was given and none could be found or started."""
