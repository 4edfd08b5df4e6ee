"""The names of actions, and what a request may do. No I/O."""

from collections.abc import Collection
from typing import TypeAlias

__all__ = ("ACTIONS", "THIS_MACHINE", "Access")

#: The names of the actions that ``access`` can allow.
ACTIONS = frozenset({"clear", "discard", "forget", "limit", "pause", "requeue", "resume", "retry"})

#: What ``access`` returns for a request: ``"all"``, ``"look"``, names of actions, or None to refuse it.
Access: TypeAlias = str | Collection[str] | None

#: The hosts under which this machine reaches itself.
THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")
