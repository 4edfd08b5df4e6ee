"""Every error that redset raises of its own: one family, :class:`RedsetError`.

Where a builtin set or the standard library would raise a builtin error, the member of the family is that
builtin error too, so ``except KeyError`` and ``except RedsetError`` both work where one expects them to.
What a client library raises for a lost connection passes through unchanged.
"""

__all__ = (
    "AccessDeniedError",
    "ClusterNameError",
    "DeserializationError",
    "LeaseLost",
    "LockTimeout",
    "NoServerError",
    "RedsetError",
    "ServerFullError",
    "WrongTypeError",
)


class RedsetError(Exception):
    """The base of every error that redset raises."""


class LockTimeout(RedsetError):
    """A lock was not to be had within its timeout."""


class LeaseLost(RedsetError):
    """The reservation is over: its deadline passed, its item was discarded, or somebody else holds it.

    The call that raised this changed nothing.
    """


class DeserializationError(RedsetError, ValueError):
    """A stored item is not what the set's serializer can load; :attr:`raw` are its bytes as stored."""

    def __init__(self, name: str, raw: bytes, reason: str) -> None:
        super().__init__(name, raw, reason)
        self.name = name
        self.raw = raw
        self.reason = reason

    def __str__(self) -> str:
        return f"the set {self.name!r} holds {self.raw!r}, which its serializer cannot load: {self.reason}"


class WrongTypeError(RedsetError, TypeError):
    """A key that a set needs holds something of another type; the message names the key. Nothing changed."""


class AccessDeniedError(RedsetError, PermissionError):
    """The client's user has no right (ACL) to a command or a key; the message names it. Nothing changed."""


class ServerFullError(RedsetError):
    """The server has reached its ``maxmemory`` and refused a write whole. Taking items still works."""


class ClusterNameError(RedsetError, ValueError):
    """No hash tag can keep the keys of a set with this name in one slot of a cluster."""


class NoServerError(RedsetError, ConnectionError):
    """No server was given, and none could be found or started."""
