"""The locks of the client libraries: they all have one, and it is what redset's lock is made of."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ("acquiring", "is_not_owned", "new_lock")


def new_lock(client: Any, key: str | bytes, *, expires: float, poll: float, wait: float) -> Any:
    """A lock of the client's library. Nothing is sent yet.

    Its token is set before anything is sent, so it can be released even when no reply ever said that it was acquired.
    Its token is not thread-local, since a block may be left by another thread than entered it.

    :param expires: seconds after which it is free again.
    :param poll: seconds between two tries.
    :param wait: seconds to wait for one that somebody else holds.
    :raises TypeError: the client has no locks.
    """
    make = getattr(client, "lock", None)
    if make is None:
        raise TypeError(f"{type(client).__qualname__} has no lock(), which redset's locks are made of")
    lock = make(key, timeout=expires, sleep=poll, blocking_timeout=wait, thread_local=False)
    lock.local.token = uuid.uuid4().hex.encode()
    return lock


def acquiring(lock: Any) -> Callable[[], Any]:
    """The call that acquires it under the token that it has."""
    return partial(lock.acquire, token=lock.local.token)


def is_not_owned(error: Exception) -> bool:
    """Whether a lock was not this holder's any more, or never was."""
    # By name: the class is that of the client library in use, which need not be redis-py.
    return any(kind.__name__ == "LockNotOwnedError" for kind in type(error).__mro__)
