"""The locks of the client libraries, which :mod:`redset.locks` uses."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ("acquiring", "is_not_owned", "new_lock")


def new_lock(client: Any, key: str | bytes, *, expires: float, poll: float, wait: float) -> Any:
    """Return a lock of the client's library, without a round trip.

    Its token is set before anything is sent, so it can be released even if no reply ever said that it was acquired.
    The token is not thread-local, since another thread may leave the block than entered it.

    :param expires: seconds after which an acquired lock expires.
    :param poll: seconds between two tries.
    :param wait: seconds to wait for a lock that another holder has.
    :raises TypeError: the client has no locks.
    """
    make = getattr(client, "lock", None)
    if make is None:
        raise TypeError(f"{type(client).__qualname__} has no lock(), which redset's locks are made of")
    lock = make(key, timeout=expires, sleep=poll, blocking_timeout=wait, thread_local=False)
    lock.local.token = uuid.uuid4().hex.encode()
    return lock


def acquiring(lock: Any) -> Callable[[], Any]:
    """Return the call that acquires the lock under its token."""
    return partial(lock.acquire, token=lock.local.token)


def is_not_owned(error: Exception) -> bool:
    """Return whether a lock was not this holder's any more, or never was."""
    # By name: the class is that of the client library in use, which need not be redis-py.
    return any(kind.__name__ == "LockNotOwnedError" for kind in type(error).__mro__)
