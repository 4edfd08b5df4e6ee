"""Commands on their way to the server: a script is sent by its digest, and again as a whole if that is unknown.

A command is sent again, too, while a cluster moves the slot of its keys to another node. No I/O.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from redset.core.clients import explained, is_failure, script_is_unknown, slot_is_moving
from redset.core.scripts import Script
from redset.exceptions import HasShardsError, WrongTypeError

__all__ = ("NO_CALL", "Batch", "Sleep", "Words", "sent_again", "unrecorded", "words_of")

#: Sentinel for a call that is not recorded: its number and ``seen``.
NO_CALL = ("0", "0")
#: Seconds for which a call waits for keys that are moving from one node of a cluster to another.
MOVING = 10.0
#: Seconds between two tries meanwhile.
MOVING_CHECK = 0.05

#: The words of one command.
Words: TypeAlias = tuple[bytes | str, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """A pause of some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands that are sent together: in one round trip, or in one for each node. The reply is a list: that of each
    command, or its error."""

    commands: tuple[Words, ...]


class Command(Protocol):
    """An operation, as far as sending has to know it; see :class:`redset.core.operations.Operation`."""

    @property
    def verb(self) -> Script | str: ...

    @property
    def keys(self) -> tuple[bytes, ...]: ...

    @property
    def args(self) -> Sequence[bytes | str]: ...


def words_of(command: Command, key: Sequence[bytes] = (), numbers: Sequence[str] = ()) -> Words:
    """Return the words to send: for a script its digest, and the record's key and the call's numbers in front."""
    verb, keys, args = command.verb, command.keys, command.args
    if isinstance(verb, Script):
        return ("EVALSHA", verb.sha, str(len(key) + len(keys)), *key, *keys, *numbers, *args)
    return (verb, *keys, *args)


def unrecorded(command: Command) -> Words:
    """Return the words of a script that need not be known to the server and that keeps no call record."""
    assert isinstance(command.verb, Script)
    return ("EVAL", command.verb.body, *words_of(command, command.keys[:1], NO_CALL)[2:])


def sent_again(
    command: Command, words: Words, error: Exception, client: Any, name: str
) -> Generator[Words | Sleep, Any, Any]:
    """Send a command again after ``error`` if that can help, and return the reply.

    EVAL, not SCRIPT LOAD and EVALSHA: the server can lose the script in between.

    :param name: the name of the set, for the errors that are raised.
    """
    ends_at = time.monotonic() + MOVING
    while True:
        if not is_failure(error):
            raise error
        if slot_is_moving(error) and time.monotonic() < ends_at:
            yield Sleep(MOVING_CHECK)
        elif isinstance(command.verb, Script) and script_is_unknown(error):
            words = ("EVAL", command.verb.body, *words[2:])
        else:
            meaning = explained(error, name, command.keys, client)
            if meaning is None:
                raise error
            if isinstance(meaning, WrongTypeError) and name.encode() in command.keys and (yield from _has_shards(name)):
                meaning = HasShardsError(
                    f'the set {name!r} has shards, and this object was made without: make it with shards="stored"'
                )
            raise meaning from None
        try:
            return (yield words)
        except Exception as raised:
            error = raised


def _has_shards(name: str) -> Generator[Words | Sleep, Any, bool]:
    """Return whether the key with the name of a set holds the layout record of shards; see `core/shards/layout.py`."""
    try:
        found: list[bytes | None] = yield ("HMGET", name.encode(), "layout", "next")
    except Exception as error:
        if not is_failure(error):
            raise
        return False
    return any(record is not None and record.startswith(b"{") for record in found)
