"""The settings of a client: the arguments of its connections, and what redset adds to each command."""

from typing import Any

__all__ = ("AS_STORED", "settings_of", "user_of")

#: Makes a client with ``decode_responses=True`` return bytes.
AS_STORED: dict[str, Any] = {"NEVER_DECODE": True}


def user_of(client: Any) -> str | None:
    """Return the name of the user that the client logs in as, or None if it is not known."""
    settings = settings_of(client)
    return None if settings is None else settings.get("username") or "default"


def settings_of(client: Any) -> dict[str, Any] | None:
    """Return the arguments of the client's connections: those of a pool, of a cluster, or of an asyncio cluster."""
    for holder in (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None), client):
        settings: dict[str, Any] | None = getattr(holder, "connection_kwargs", None)
        if settings is not None:
            return settings
    return None
