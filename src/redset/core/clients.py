"""The differences between client libraries, and between servers, in one place.

Any client with redis-py's ``execute_command`` will do: redis-py, valkey-py, their cluster and asyncio clients,
fakeredis. None of them is imported here; their errors are recognised by name and by the server's message.
"""

import re
from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction, isfunction, ismethod
from typing import Any

from redset.core.interruptions import is_interruption
from redset.core.keys import Keys
from redset.exceptions import AccessDeniedError, ClusterNameError, RedsetError, ServerFullError, WrongTypeError

__all__ = (
    "AS_STORED",
    "are_beside",
    "check_client",
    "drop_idle_connections",
    "executor",
    "explained",
    "is_failure",
    "is_outage",
    "longest_block",
    "script_is_unknown",
    "slot_is_moving",
    "timed_out",
)

#: Makes a client with ``decode_responses=True`` return bytes.
AS_STORED: dict[str, Any] = {"NEVER_DECODE": True}


#: The client libraries whose classes are known, by the first word of their modules.
LIBRARIES = ("redis", "valkey", "fakeredis")


def check_client(client: Any, *, awaits: bool) -> None:
    """Raise for an object that is certainly no client of this face. Sends nothing.

    :param awaits: whether it must be an asyncio client.
    :raises TypeError: it is none; the message says what to use instead.
    """
    face = "redset.aio" if awaits else "redset"
    connect = "await redset.aio.connect(...)" if awaits else "redset.connect(...)"
    wanted = f"{face} needs a client, such as {connect} makes"
    if client is None:
        raise TypeError(f"{wanted}, not None")
    if isinstance(client, str | bytes):
        raise TypeError(f"{wanted} of a URL, not the URL itself")
    made_by = type(client)
    if isinstance(client, type):
        raise TypeError(f"{wanted}, not the class {client.__name__}: make an instance of it")
    execute = getattr(client, "execute_command", None)
    if execute is None and isawaitable(client):
        raise TypeError(f"{wanted}; this is a {made_by.__name__} that has to be awaited first")
    if not callable(execute):
        raise TypeError(f"{wanted}; {made_by.__qualname__} has no execute_command")
    if instead := _instead_of(made_by):
        raise TypeError(f"{wanted}; {instead}")
    is_awaited = _is_awaited(client, execute)
    if is_awaited is None or is_awaited is awaits:
        return
    name = f"{made_by.__module__}.{made_by.__qualname__}"
    if awaits:
        raise TypeError(
            f"{wanted}, whose execute_command is awaited; {name} blocks. Use a client of redis.asyncio, or the "
            "synchronous classes of redset"
        )
    raise TypeError(
        f"{wanted}, that blocks; {name} has to be awaited. Use a client that blocks, such as redis.Redis, or "
        "the classes of redset.aio"
    )


def _instead_of(made_by: type) -> str:
    """Return advice for an object with an ``execute_command`` that answers no command."""
    for kind in made_by.__mro__:
        if _is_of_a_library(kind):
            if kind.__name__.endswith("Pipeline"):
                return "a pipeline answers nothing until it is executed. Use the client that made it"
            if kind.__name__.endswith("PubSub"):
                return "a PubSub answers no commands. Use the client that made it"
            if kind.__name__ == "Sentinel":
                return "a Sentinel is no server of sets. Use its master_for(...)"
    return ""


def _is_awaited(client: Any, execute: Callable[..., Any]) -> bool | None:
    """Return whether the calls of ``client`` are awaited; None if only a call would show it."""
    if iscoroutinefunction(execute) or iscoroutinefunction(getattr(execute, "__call__", None)):  # noqa: B004
        return True
    libraries = [kind for kind in type(client).__mro__ if _is_of_a_library(kind) and "execute_command" in vars(kind)]
    if libraries:
        # By its module: a function that instruments the class may not itself be a coroutine function.
        return any(".asyncio" in kind.__module__ for kind in libraries)
    # A function that returns the result of another client is like that client.
    held = [value for value in getattr(client, "__dict__", {}).values() if hasattr(type(value), "execute_command")]
    if isfunction(execute) or ismethod(execute):
        return None if held and any(_is_awaited(one, one.execute_command) is not False for one in held) else False
    return None


def _is_of_a_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in LIBRARIES


def executor(client: Any) -> Callable[..., Any]:
    """Return the ``execute_command`` of ``client``, by which every command is sent.

    A client with a cache of its own (``cache_config``) would answer some commands from memory, and refuse those whose
    keys it does not know. It knows commands by their names in capitals.
    """

    def execute(*words: Any, **options: Any) -> Any:
        # Looked up for each command, since instrumentation may replace it at any time.
        return client.execute_command(*words, **options)

    def execute_uncached(verb: bytes | str, *words: Any, **options: Any) -> Any:
        return client.execute_command(verb.lower(), *words, **options)

    return execute_uncached if _caches(client) else execute


def _caches(client: Any) -> bool:
    """Return whether it is a client of redis-py with client-side caching, on a single server or a cluster."""
    if not any(_is_of_a_library(kind) for kind in type(client).__mro__):
        return False
    holders = (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None))
    return any(getattr(holder, name, None) is not None for holder in holders for name in ("cache", "_cache"))


def script_is_unknown(error: Exception) -> bool:
    """Return whether the server does not have the script, or not any more."""
    return type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")


#: The base classes of the errors of client libraries, by name.
_BASES = {"RedisError", "ValkeyError", "RedisClusterException", "ValkeyClusterException"}

#: Error replies of a server that cannot execute commands at the moment.
_AWAY = (
    "BUSY ",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
)
#: The beginning of such an error. Redis 6.2 puts the line of the script in front.
_IS_AWAY = re.compile(rf"(?:.*@user_script: \d+: -)?(?:{'|'.join(_AWAY)})")
#: The clients' classes for some of these, and for a lost connection.
_AWAY_NAMES = {
    "BusyLoadingError",
    "ClusterDownError",
    "ConnectionError",
    "MasterDownError",
    "ReadOnlyError",
    "SlotNotCoveredError",
    "TimeoutError",
    "TryAgainError",
}
#: Lost connections that waiting does not restore.
_REFUSED_NAMES = {"AuthenticationError", "AuthenticationWrongNumberOfArgsError", "AuthorizationError", "SSLError"}


def is_failure(error: BaseException) -> bool:
    """Return whether the server, the client library or redset raised this error. All others are interruptions."""
    if not isinstance(error, Exception) or is_interruption(error):
        return False
    return isinstance(error, RedsetError | OSError) or any(kind.__name__ in _BASES for kind in type(error).__mro__)


def is_outage(error: BaseException) -> bool:
    """Return whether the server may come back: a lost connection, a time-out, or a reply such as LOADING."""
    if not is_failure(error) or isinstance(error, RedsetError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _REFUSED_NAMES or isinstance(error, PermissionError):
        return False
    said = str(error)
    return bool(names & _AWAY_NAMES) or isinstance(error, OSError) or _IS_AWAY.match(said) is not None


def slot_is_moving(error: Exception) -> bool:
    """Return whether no node of a cluster has all keys of a call at the moment, so that no node executed it.

    Clients retry for half a second at most, and then raise this, or that they were redirected too often.
    """
    return "TTL exhausted" in str(error) or str(error).startswith("TRYAGAIN") or type(error).__name__ == "TryAgainError"


def timed_out(error: Exception) -> bool:
    """Return whether a socket's own time limit ended a call."""
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)


def drop_idle_connections(client: Any) -> None:
    """Close the idle connections: a reply that was never read may be on one of them."""
    nodes = client.get_nodes() if hasattr(client, "get_nodes") else [client]
    for node in nodes:
        pool: Any = getattr(getattr(node, "redis_connection", node), "connection_pool", None)
        if pool is not None:
            try:
                pool.disconnect(inuse_connections=False)
            except TypeError:
                # Old blocking pools can only disconnect all connections.
                pool.disconnect()


def are_beside(client: Any, one: bytes, other: bytes) -> bool:
    """Return whether one script can see both keys: always, except on a cluster if they are in two slots."""
    keyslot = getattr(client, "keyslot", None)
    return keyslot is None or keyslot(one) == keyslot(other)


def longest_block(client: Any) -> float:
    """Return the seconds for which a command may block before the client's socket times out; ``inf`` without a limit.

    Half of the socket's time limit, since an idle server ends a blocking command up to a tenth of a second late.
    """
    for holder in ("connection_pool", "nodes_manager"):
        settings = getattr(getattr(client, holder, None), "connection_kwargs", None)
        if settings is not None:
            break
    else:
        settings = getattr(client, "connection_kwargs", {})
    limit = settings.get("socket_timeout")
    return float("inf") if limit is None else limit / 2


def explained(error: Exception, name: str, keys: "tuple[bytes, ...]", client: Any = None) -> RedsetError | None:
    """Return the exception of redset for the server's ``error`` in the set ``name``, or None if there is none.

    :param client: for the user's name, if the server does not state it.
    """
    said = str(error)
    if _access_is_denied(said):
        return AccessDeniedError(_access_denied(said, name, keys, client))
    if "WRONGTYPE" in said:
        return WrongTypeError(_wrong_type(said, keys))
    if "used memory > 'maxmemory'" in said:
        return ServerFullError(
            f"the server is full (maxmemory) and refused to write to the set {name!r}; nothing was changed. "
            "Items can still be claimed; more can be added when there is room again"
        )
    if "CROSSSLOT" in said or "same hash slot" in said or "same key slot" in said:
        return ClusterNameError(
            f"no hash tag can keep the keys of a set named {name!r} in one slot of a cluster; "
            "use a name that is not empty and has no '}', or one with a {tag} in it"
        )
    return None


def _access_is_denied(said: str) -> bool:
    """Return whether the server refused a command, or a script at its start or in the middle, for lack of a right."""
    return "NOPERM" in said or "permissions to" in said.lower() or "user executing the script can't" in said


def _access_denied(said: str, name: str, keys: "tuple[bytes, ...]", client: Any) -> str:
    user = re.search(r"[Uu]ser '?([^\s']+)'? has no permissions", said)
    known = user[1] if user and user[1] != "this" else _user_of(client)
    who = f"the user {known!r}" if known else "the user of this client"
    if command := re.search(r"'([^']+)' command", said):
        return f"{who} has no right to run the command {command[1].upper()}, which redset needs; nothing was changed"
    if "key" in said:
        companions = Keys(name).call_prefix.decode().removesuffix("call:")
        named = ", ".join(repr(key.decode(errors="replace")) for key in keys)
        return (
            f"{who} has no right to access one of the keys {named} or {companions + 'call:*'!r} of the set {name!r}; "
            f"it needs ~{name} and ~{companions}*; nothing was changed"
        )
    return f"{who} lacks a right that the set {name!r} needs: {said}"


def _user_of(client: Any) -> str | None:
    for holder in ("connection_pool", "nodes_manager"):
        settings = getattr(getattr(client, holder, None), "connection_kwargs", None)
        if settings is not None:
            user: str = settings.get("username") or "default"
            return user
    return None


def _wrong_type(said: str, keys: "tuple[bytes, ...]") -> str:
    """Return the message. Scripts name the key; a plain command has only one."""
    _, _, named = said.partition("WRONGTYPE the key ")
    key = keys[0].decode()
    return f"the key {named}" if named else f"the key {key!r} holds something else than the sorted set it should be"
