"""The meaning of an error, by the names of its classes and by the server's message.

That works for every client library, and for a client of one's own that raises ``ResponseError`` and ``OSError``.
"""

import re
from typing import Any

from redset.core.clients.libraries import LIBRARIES
from redset.core.clients.settings import user_of
from redset.core.forms import refusal
from redset.core.interruptions import is_interruption
from redset.core.keys import Keys
from redset.exceptions import (
    AccessDeniedError,
    ClusterNameError,
    LayoutError,
    RedsetError,
    ServerFullError,
    WrongTypeError,
)

__all__ = (
    "explained",
    "is_failure",
    "is_of_a_lost_connection",
    "is_outage",
    "is_redirection",
    "script_is_unknown",
    "slot_is_moving",
    "timed_out",
)

#: The names of the base classes of clients' errors. The last one is for a client of one's own.
_BASES = {name for library in LIBRARIES for name in library.errors} | {"ResponseError"}


def script_is_unknown(error: Exception) -> bool:
    """Return whether the server does not have the script."""
    return type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")


#: Error replies of a server that cannot execute commands at the moment, and what a cluster client says while nodes
#: disagree.
_AWAY = (
    "All slots are not covered",
    "BUSY ",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "startup_nodes could not agree",
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
    return (
        isinstance(error, RedsetError | OSError)
        or any(kind.__name__ in _BASES for kind in type(error).__mro__)
        or is_of_a_lost_connection(error)
    )


#: The packages of cluster clients.
_LIBRARIES = {library.name for library in LIBRARIES if library.client}
#: The modules of the standard library that they call for a connection.
_OF_SOCKETS = {"asyncio", "select", "selectors", "socket", "ssl"}


def is_of_a_lost_connection(error: BaseException) -> bool:
    """Return whether a cluster client raised this error by accident.

    After a failure, redis-py and valkey-py close the connections that other threads and tasks are using. These then
    meet an AttributeError or a ValueError. It is one if redset called, a cluster client was passed, and the library
    itself raised it, or the standard library called by it. An error of a wrapper or a callback of the user is none.
    """
    if not isinstance(error, AttributeError | LookupError | ValueError) or isinstance(error, UnicodeError):
        return False
    modules, found = list[str](), error.__traceback__
    while found is not None:
        modules.append(str(found.tb_frame.f_globals.get("__name__", "")))
        found = found.tb_next
    while modules and modules[-1].partition(".")[0] in _OF_SOCKETS:
        modules.pop()
    packages = [module.partition(".")[0] for module in modules]
    if not packages or packages[-1] not in _LIBRARIES or "redset" not in packages:
        return False
    by_redset = len(packages) - packages[::-1].index("redset")
    return any(
        package in _LIBRARIES and module.endswith(".cluster")
        for package, module in zip(packages[by_redset:], modules[by_redset:], strict=True)
    )


def is_outage(error: BaseException) -> bool:
    """Return whether the server may come back: a lost connection, a time-out, or a reply such as LOADING."""
    if not is_failure(error) or isinstance(error, RedsetError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _REFUSED_NAMES or isinstance(error, PermissionError):
        return False
    said = str(error)
    return (
        bool(names & _AWAY_NAMES)
        or isinstance(error, OSError)
        or _IS_AWAY.match(said) is not None
        or is_of_a_lost_connection(error)
        # A cluster client that reaches no node raises an error of its own from that of the last node.
        or (error.__cause__ is not None and is_outage(error.__cause__))
    )


def is_redirection(error: Exception) -> bool:
    """Return whether a node of a cluster says that another one has the slot, now or for this command."""
    return type(error).__name__ in ("AskError", "MovedError")


def slot_is_moving(error: Exception) -> bool:
    """Return whether no node of a cluster has all keys of a call at the moment, so that no node executed it.

    Clients retry for half a second at most, and then raise this, or that they were redirected too often.
    """
    return "TTL exhausted" in str(error) or str(error).startswith("TRYAGAIN") or type(error).__name__ == "TryAgainError"


def timed_out(error: Exception) -> bool:
    """Return whether a socket's own time limit ended a call."""
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)


def explained(error: Exception, name: str, keys: "tuple[bytes, ...]", client: Any = None) -> RedsetError | None:
    """Return the exception of redset for the server's ``error`` in the set ``name``, or None if there is none.

    :param client: for the user's name, if the server does not state it.
    """
    said = str(error)
    if _access_is_denied(said):
        return AccessDeniedError(_access_denied(said, name, keys, client))
    if "LAYOUT " in said:
        return LayoutError(_layout(said, name))
    if "WRONGTYPE" in said:
        return WrongTypeError(_wrong_type(said, keys))
    if "used memory > 'maxmemory'" in said:
        return ServerFullError(
            f"the server is full (maxmemory) and refused to write to the set {name!r}; that request changed nothing. "
            "Items can still be claimed; more can be added when there is room again"
        )
    if "CROSSSLOT" in said or "same hash slot" in said or "same key slot" in said:
        return ClusterNameError(
            f"no hash tag can keep the keys of a set named {name!r} in one slot of a cluster; "
            "use a name that is not empty and has no '}', or one with a {tag} in it"
        )
    return None


def _layout(said: str, name: str) -> str:
    """Return the message for a set that the server has in another form."""
    # The first form was read from the hash of the set, into which any program may write.
    (stored, _, memory), (own, _, own_memory) = (
        form.rpartition(", ") for form in said.partition("LAYOUT ")[2].rpartition("; ")[::2]
    )
    if stored == own:
        kept = {"items": "the items themselves", "digests": "digests"}
        return (
            f"the set {name!r} remembers {kept.get(memory, repr(memory))}, and this object would remember "
            f"{kept[own_memory]}: make both with the same digest="
        )
    return refusal(name, stored, own)


def _access_is_denied(said: str) -> bool:
    """Return whether the server refused a command, or a script at its start or in the middle, for lack of a right."""
    return "NOPERM" in said or "permissions to" in said.lower() or "user executing the script can't" in said


def _access_denied(said: str, name: str, keys: "tuple[bytes, ...]", client: Any) -> str:
    user = re.search(r"[Uu]ser '?([^\s']+)'? has no permissions", said)
    known = user[1] if user and user[1] != "this" else user_of(client)
    who = f"the user {known!r}" if known else "the user of this client"
    if command := re.search(r"'([^']+)' command", said):
        needed = command[1].upper()
        return f"{who} has no right to run the command {needed}, which redset needs; that request changed nothing"
    if "key" in said:
        keys_of_set = Keys(name)
        records = keys_of_set.call_prefix.decode() + "*"
        named = ", ".join(repr(key.decode(errors="replace")) for key in keys)
        return (
            f"{who} has no right to access one of the keys {named} or {records!r} of the set {name!r}; "
            f"it needs ~{name} and ~{keys_of_set.prefix}*; that request changed nothing"
        )
    return f"{who} lacks a right that the set {name!r} needs: {said}"


def _wrong_type(said: str, keys: "tuple[bytes, ...]") -> str:
    """Return the message for a key of another type. Scripts name the key; a plain command has only one."""
    _, _, named = said.partition("WRONGTYPE the key ")
    key = keys[0].decode()
    return f"the key {named}" if named else f"the key {key!r} holds something else than redset keeps there"
