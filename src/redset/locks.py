"""A distributed lock for the critical sections of an application. The sets themselves need none.

Both classes wrap the client library's own ``lock()``, and add the defaults and errors of redset and its rules for
leaving the block. The rules are generators that yield the calls to make, so each rule exists once: :class:`Lock` makes
the calls, :class:`AsyncLock` awaits them.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

from redset.core.clients import check_client
from redset.core.clients.locks import acquiring, is_not_owned, new_lock
from redset.core.interruptions import is_interruption
from redset.core.times import Duration, seconds
from redset.exceptions import LockTimeout

__all__ = ("AsyncLock", "Lock")

log = logging.getLogger("redset")

Steps: TypeAlias = Generator[Callable[[], Any], Any, None]


class _Entry(NamedTuple):
    """One entry into a block: the thread or task that entered, and the client library's lock that it acquired."""

    by: object
    lock: Any


class _BaseLock:
    """The parts of both locks that need no round trip.

    Many threads or tasks may use one object at once, so an acquired lock belongs to an entry.
    """

    #: Whether its client is awaited.
    _awaits = False

    def __init__(
        self,
        redis: Any,
        key: str | bytes,
        expires: Duration | None = None,
        timeout: Duration | None = None,
        poll_interval: Duration | None = None,
    ) -> None:
        """Create a lock, without a round trip. A duration is a number of seconds or a ``timedelta``.

        :param redis: the client.
        :param key: the key of the lock on the server.
        :param expires: seconds after which an acquired lock expires, since its holder may have crashed. Must be longer
            than the block takes. Default, and for 0: 20.
        :param timeout: seconds to wait for a lock that another holder has; 0 tries once. Default: 10.
        :param poll_interval: seconds between two tries. Default, and for 0: 0.2.
        :raises TypeError: ``redis`` is no client of this face, or a time is no number and no timedelta.
        :raises ValueError: a time is negative or not finite.
        """
        check_client(redis, awaits=self._awaits)
        self.redis = redis
        self.key = key
        self.expires = seconds(expires or 0, "expires") or 20
        self.timeout = 10 if timeout is None else seconds(timeout, "timeout")
        self.poll_interval = seconds(poll_interval or 0, "poll_interval") or 0.2
        self._entries: list[_Entry] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} key={getattr(self, 'key', None)!r}>"

    def _new_lock(self) -> Any:
        """Return a new lock of the client library, for one entry."""
        return new_lock(self.redis, self.key, expires=self.expires, poll=self.poll_interval, wait=self.timeout)

    def _acquire(self, lock: Any) -> Steps:
        acquired = yield acquiring(lock)
        if acquired:
            return
        # The reply to the SET that acquired the lock may be lost. Then the library repeated the SET, and the reply
        # says that the lock is held: by this very entry. Its time starts now.
        try:
            yield lock.reacquire
        except Exception as error:
            if not is_not_owned(error):
                raise
            raise LockTimeout(f"Timeout while waiting for lock '{_text(self.key)}'") from None

    def _abandon(self, lock: Any) -> Steps:
        """Release a lock that an interrupted entry may have acquired. If that fails, the lock expires."""
        try:
            yield lock.release
        except Exception as error:
            if not is_not_owned(error):
                log.debug("The lock %r may be held until it expires: %r", self.key, error)

    def _release(self, lock: Any, raised: BaseException | None) -> Steps:
        """Release the lock without hiding the outcome of the block.

        An expired lock is left to its new holder: the block has run, and raising could not undo it. Any other error,
        such as a lost connection, is raised, unless the block itself ``raised`` one.
        """
        try:
            yield lock.release
        except Exception as error:
            if is_not_owned(error):
                log.warning("The lock %r expired before its block ended; others may have entered it", self.key)
            elif raised is not None:
                log.warning("The lock %r could not be released and is held until it expires: %r", self.key, error)
            else:
                raise

    # Each change of the entries is one step in C, so threads need no mutex, which an interruption could leave locked.

    def _entered(self, by: object, lock: Any) -> None:
        self._entries.append(_Entry(by, lock))

    def _forget(self, lock: Any) -> None:
        """Remove the entry that holds this lock, if there is one."""
        for entry in self._entries[:]:
            if entry.lock is lock:
                _removed(self._entries, entry)

    def _left(self, by: object) -> Any:
        """Return the lock to release when ``by`` leaves a block: the last one that ``by`` acquired.

        Some frameworks finish a generator in another thread or task than they began it in. Then return the oldest lock.
        If there are several, all but the newest have expired, so no lock of a running block is released.
        """
        own = [entry for entry in self._entries[:] if entry.by == by]
        if own:
            # The entry stays until the lock is released, in case of an interruption.
            return own[-1].lock
        while True:
            entry = self._entries[0]
            if _removed(self._entries, entry):
                return entry.lock


def _removed(entries: list[_Entry], one: _Entry) -> bool:
    """Remove ``one`` from a list. Return False if another thread has done so."""
    try:
        entries.remove(one)
    except ValueError:
        return False
    return True


class Lock(_BaseLock):
    """A lock on the server, as a context manager: at any time one block under its key runs, in all processes.

    >>> with Lock(client, "report"):  # doctest: +SKIP
    ...     write_the_report()

    Threads may share one object, and then exclude each other. The lock is not reentrant: a block inside a block of the
    same key waits for itself, and times out.

    If the lock expires before the block ends, others may enter. The block is not interrupted; when it ends, it leaves
    the lock to its new holder and logs a warning to the ``redset`` logger.
    """

    def __enter__(self) -> None:
        """Wait for the lock and acquire it: one round trip if it is free, else one for each try.

        :raises LockTimeout: it was not acquired within the timeout.
        """
        lock = self._new_lock()
        try:
            _run(self._acquire(lock))
            self._entered(threading.get_ident(), lock)
        except BaseException as error:
            if is_interruption(error):
                self._forget(lock)
                _run(self._abandon(lock))
            raise

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock, in one round trip. An exception of the block passes through."""
        lock = None
        try:
            lock = self._left(threading.get_ident())
            _run(self._release(lock, raised))
            self._forget(lock)
        except BaseException as error:
            lock = lock or self._left(threading.get_ident())
            if is_interruption(error):
                _run(self._abandon(lock))
            self._forget(lock)
            raise


class AsyncLock(_BaseLock):
    """:class:`Lock` for asyncio: the same, with ``async with`` and an asyncio client.

    Tasks may share one object, and then exclude each other. A task that is cancelled while it waits, in the block or
    while it leaves holds no lock afterwards.
    """

    _awaits = True

    async def __aenter__(self) -> None:
        """Wait for the lock and acquire it: one round trip if it is free, else one for each try.

        :raises LockTimeout: it was not acquired within the timeout.
        """
        lock = self._new_lock()
        try:
            await _run_awaited(self._acquire(lock))
        except BaseException as error:
            if is_interruption(error):
                await _finish(_run_awaited(self._abandon(lock)))
            raise
        self._entered(asyncio.current_task(), lock)

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock, in one round trip. An exception of the block passes through."""
        lock = self._left(asyncio.current_task())
        self._forget(lock)
        await _finish(_run_awaited(self._release(lock, raised)))


def _run(steps: Steps) -> None:
    try:
        call = next(steps)
        while True:
            try:
                result = call()
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration:
        return


async def _run_awaited(steps: Steps) -> None:
    task = asyncio.current_task()
    cancelling = task.cancelling if task else int
    cancellations = cancelling()
    try:
        call = next(steps)
        while True:
            try:
                result = await call()
                if cancelling() > cancellations:
                    # Python before 3.12 can swallow a cancellation that arrives together with a reply.
                    cancellations = cancelling()
                    raise asyncio.CancelledError  # noqa: TRY301 # as if it had not been swallowed
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration:
        return


_unfinished: set[asyncio.Task[None]] = set()  # the event loop itself would not keep them from being collected


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, which continues if the caller is cancelled."""
    task = asyncio.create_task(work)
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    await asyncio.shield(task)


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode(errors="backslashreplace")
