"""The check that an object is a client of a face. The error has advice."""

from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction, isfunction, ismethod
from typing import Any

from redset.core.clients.libraries import is_of_a_library

__all__ = ("check_client", "check_pipeline")


def check_client(client: Any, *, awaits: bool) -> None:
    """Raise an error for an object that cannot be a client of this face. Sends nothing.

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


def check_pipeline(pipeline: Any, *, awaits: bool) -> None:
    """Raise an error for an object that is no pipeline of this face, or that executes commands at once. Sends nothing.

    :param awaits: whether it must be the pipeline of an asyncio client.
    :raises TypeError: it is none.
    :raises ValueError: it watches keys, and its transaction has not begun.
    """
    kinds = [kind for kind in type(pipeline).__mro__ if kind.__name__.endswith("Pipeline") and is_of_a_library(kind)]
    if not any((".asyncio" in kind.__module__) is awaits for kind in kinds):
        face = "an asyncio client" if awaits else "a client that blocks"
        raise TypeError(f"pipeline must be the pipeline() of {face} of redis-py or valkey-py, not {pipeline!r}")
    # The pipeline of a cluster has a strategy, which knows whether keys are watched.
    for holder in (pipeline, getattr(pipeline, "_execution_strategy", None)):
        watches, has_begun = (
            any(getattr(holder, f"{private}{name}", False) is True for private in ("", "_"))
            for name in ("watching", "explicit_transaction")
        )
        if watches and not has_begun:
            raise ValueError("pipeline watches keys and executes each command at once: call its multi() first")


def _instead_of(made_by: type) -> str:
    """Return advice for an object that has an ``execute_command`` but returns no replies."""
    for kind in made_by.__mro__:
        if is_of_a_library(kind):
            if kind.__name__.endswith("Pipeline"):
                return "a pipeline answers nothing until it is executed. Use the client that made it"
            if kind.__name__.endswith("PubSub"):
                return "a PubSub answers no commands. Use the client that made it"
            if kind.__name__ == "Sentinel":
                return "a Sentinel is no server of sets. Use its master_for(...)"
    return ""


def _is_awaited(client: Any, execute: Callable[..., Any]) -> bool | None:
    """Return whether the calls of ``client`` are awaited; None if that cannot be determined without a call."""
    if iscoroutinefunction(execute) or iscoroutinefunction(getattr(execute, "__call__", None)):  # noqa: B004
        return True
    kinds = [kind for kind in type(client).__mro__ if "execute_command" in vars(kind)]
    if any(iscoroutinefunction(vars(kind)["execute_command"]) for kind in kinds):
        # Instrumentation may have replaced it on this client by a function that returns the coroutine.
        return True
    libraries = [kind for kind in kinds if is_of_a_library(kind)]
    if libraries:
        # The module decides: instrumentation of the class may have put a plain function in its place.
        return any(".asyncio" in kind.__module__ for kind in libraries)
    # A wrapper that passes its calls to another client is awaited if that client is.
    held = [value for value in getattr(client, "__dict__", {}).values() if hasattr(type(value), "execute_command")]
    if isfunction(execute) or ismethod(execute):
        return None if held and any(_is_awaited(one, one.execute_command) is not False for one in held) else False
    return None
