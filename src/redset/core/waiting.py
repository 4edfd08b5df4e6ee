"""Waiting for items, and through outages of the server. No command that waits removes an item."""

import asyncio
import logging
import math
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Hashable
from threading import get_ident
from typing import Any, ClassVar

from redset.core import calls
from redset.core.calls import ClientState
from redset.core.claiming import Claimed, Claims
from redset.core.clients import explained, is_failure, is_outage, slot_is_moving, timed_out
from redset.core.operations import Listen, Plan, Sleep
from redset.core.retries import tried_once
from redset.core.times import Duration, seconds

__all__ = (
    "LATENESS",
    "LISTEN",
    "LONGEST_BLOCK",
    "NONE",
    "NOT_YET",
    "SOON",
    "TURN",
    "Listener",
    "Outage",
    "Wait",
    "Waiter",
    "blocking",
    "claim_within",
    "fault",
    "listen",
    "stop_waiting",
)

log = logging.getLogger("redset")

#: Seconds after which a call that waits, or pauses in an outage, checks whether it is told to stop; and for which a
#: command blocks at most on the last connection that is free, so that other calls get it in turn.
LISTEN = 0.2
#: Seconds after which a call that waits sees again whether a connection is free.
TURN = 0.02
#: Seconds for which a command blocks at least: with 0 it would block for ever. And at most: who waits longer notices no
#: sooner that the server's machine is gone.
SHORTEST_BLOCK = 0.002
LONGEST_BLOCK = 10.0
#: Seconds by which an idle server ends a blocking command too late: the client times the last ones itself.
LATENESS = 0.1

#: Tells this process from those of other machines.
_BOOT = secrets.token_hex(4)

#: Seconds that a call which waits pauses at least between two claims.
SOON = 0.001
#: Seconds after a look until another waiter looks, if the first has got an item or has stopped.
SPARE = 0.05

#: The longest pause in seconds between two tries during an outage, and the longest first one.
LONGEST_PAUSE = 2.0
SHORTEST_PAUSE = 0.05
#: Seconds after the end of its time for which a call still tries again if no claim had failed before.
GRACE = 1.0


class Wait:
    """The time that a call may wait, from now on: a number of seconds, or None for ever."""

    __slots__ = ("_ends_at", "is_none")

    def __init__(self, wait: Duration | None) -> None:
        longest = math.inf if wait is None else seconds(wait, "wait")
        self._ends_at = time.monotonic() + longest
        #: Whether the call does not wait at all.
        self.is_none = longest == 0

    def left(self) -> float:
        """Return the seconds left; 0 or less at the end."""
        return self._ends_at - time.monotonic()


#: For a call that does not wait.
NONE = Wait(0)


#: The word of a call that claims again before it waits or ends. It tells the server nothing.
NOT_YET = "-"


class Waiter:
    """A call that waits, as the server knows it: all that wait for one set in a thread or event loop are one waiter.

    With several clients they are one for each, since these may have different servers.
    The server plans the looks of the waiters of a set, so that they are spread evenly; see ``shared/looks.lua``.
    """

    __slots__ = ("_name", "_place", "_poll")

    #: The number of calls that wait, by name and place.
    _calls: ClassVar[Counter[tuple[str, tuple[Hashable, bytes, str]]]] = Counter()

    def __init__(self, claims: Claims[Any, Any]) -> None:
        self._place, self._poll = claims.place, claims.poll
        #: None unless the call waits.
        self._name: str | None = None

    @property
    def waits(self) -> bool:
        """Whether the call waits."""
        return self._name is not None

    def enter(self) -> None:
        """Note that the call waits, after an empty claim."""
        if self._name is None:
            self._name = self._here()
            self._calls[self._name, self._place] += 1

    def leave(self) -> None:
        """Note that the call has ended."""
        if self._name is not None:
            mine = self._name, self._place
            self._name = None
            self._calls[mine] -= 1
            if not self._calls[mine]:
                del self._calls[mine]

    def word(self, wait: Wait) -> str:
        """Return what a claim tells the server about this call, empty if it does not wait."""
        if wait.left() > 0:
            how = "comes" if not self.waits else "leaves" if self._is_last() else "waits"
            return f"{how} {self._here()} {self._poll!r}"
        return self.last_word()

    def last_word(self) -> str:
        """Return what a claim tells the server if this call stops waiting; empty if others of its name wait on."""
        return f"left {self._name} {self._poll!r}" if self._is_last() else ""

    def _is_last(self) -> bool:
        return self._name is not None and self._calls[self._name, self._place] == 1

    def _here(self) -> str:
        """Return the name of the waiters of this kind in this thread or event loop, among those of all processes."""
        client, _, which = self._place
        return f"{which}.{calls.PID:x}.{get_ident():x}.{client}.{_BOOT}"


class Outage:
    """Decides whether a call that waits continues after a failure: it survives an outage of a server that has answered.

    A failure of the first contact of a client, such as by a wrong address or password, is raised at once.

    Pauses between two tries grow exponentially up to a limit, with full jitter (Marc Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).
    """

    __slots__ = ("_began", "_ends_at", "_log_at", "_longest", "_name", "_should_stop", "_state", "_tries", "wait")

    def __init__(
        self,
        name: str,
        state: ClientState,
        wait: Wait,
        longest: float | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._name = name
        self._state = state
        #: The time that the present call waits.
        self.wait = wait
        self._longest = math.inf if longest is None else longest
        self._should_stop = should_stop
        self._began: float | None = None
        self._ends_at = math.inf
        self._tries = 0
        self._log_at = 0.0

    def end(self) -> None:
        """Note that the server has answered."""
        if self._began is not None:
            log.warning("%s: the server is back after %.1f s", self._name, time.monotonic() - self._began)
            self._began = None

    def once(self, step: Any, *, closing: bool = False) -> Plan[Any]:
        """Perform a step of a call that waits without the client's own retries, which would delay its end.

        :param closing: whether this is the end of the call, which the client may retry except during an outage.
        """
        if self._began is None and (closing or self.wait.is_none):
            return (yield step)
        return (yield from tried_once(step))

    def pause(self, error: Exception) -> Plan[bool]:
        """Wait until the next try. Return False if told to stop.

        :raises Exception: ``error``, if there is no next try.
        """
        seconds = self._pause_after(error)
        if seconds is None:
            raise error
        ends_at = time.monotonic() + seconds
        while not self._should_stop():
            left = ends_at - time.monotonic()
            if left <= 0:
                return True
            yield Sleep(min(left, LISTEN))
        return False

    def _pause_after(self, error: BaseException) -> float | None:
        """Return the seconds until the next try, or None to raise ``error``."""
        if not self._state.contacted or not is_outage(error):
            return None
        now = time.monotonic()
        if self._began is None:
            self._began, self._tries, self._log_at = now, 0, now
            left = self.wait.left()
            self._ends_at = now + left + (GRACE if left <= 0 and not self.wait.is_none else 0)
        lasted = now - self._began
        left = self._ends_at - now
        if lasted >= self._longest or left <= 0:
            return None
        if now >= self._log_at:
            log.warning("%s: the server is away for %.1f s: %s: %s", self._name, lasted, type(error).__name__, error)
            self._log_at = now + max(1.0, lasted)
        limit = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(self._tries, 16))
        self._tries += 1
        pause = random.uniform(0, limit)
        return max(0.001, min(pause, self._longest - lasted, left))


def stop_waiting(claims: Claims[Any, Any], waiter: Waiter, outage: Outage) -> Plan[bool]:
    """Tell the server that a call waits no longer: others look instead, and one follows the wake-up it may have got.

    Return False if that fails. Then its look is forgotten when it is late.
    """
    word = waiter.last_word()
    waiter.leave()
    if word:
        try:
            yield from outage.once(claims.claim(0, 0.0, waiter=word))
        except Exception as error:
            if not is_failure(error):
                raise
            log.debug("%s: the server was not told that a call stopped waiting: %s", claims.set_name, error)
            return False
    return True


def listen(
    claims: Claims[Any, Any], got: Claimed, wait: Wait, outage: Outage, stop: Callable[[], bool] | None = None
) -> Plan[None]:
    """Wait for a wake-up, unless the time has passed: then the claim did not tell the server that this call waits."""
    if (left := wait.left()) > 0:
        yield from outage.once(claims.listen(got, left, stop))


def claim_within(
    claims: Claims[Any, Any], limit: int, lease: float, wait: Duration | Wait | None, *, last: bool
) -> Plan[Claimed]:
    """Claim until there are items or the time has passed, and through outages."""
    wait = wait if isinstance(wait, Wait) else Wait(wait)
    waiter, outage = Waiter(claims), Outage(claims.set_name, claims.state, wait)
    try:
        while True:
            is_last = wait.left() <= 0
            try:
                got: Claimed = yield from outage.once(claims.claim(limit, lease, waiter=waiter.word(wait), last=last))
            except Exception as error:
                yield from outage.pause(error)
                continue
            outage.end()
            if got.rows or got.alone:
                return got
            if not got.more:
                if is_last:
                    return got
                waiter.enter()
                yield from listen(claims, got, wait, outage)
    finally:
        waiter.leave()


def blocking(keys: tuple[bytes, ...], longest: float) -> tuple[bytes | str, ...]:
    """Return the command that blocks until a wake-up, for at most ``longest`` seconds."""
    return "BLPOP", *keys, f"{max(SHORTEST_BLOCK, min(longest, LONGEST_BLOCK)):.3f}"


def fault(error: Exception, name: str, keys: tuple[bytes, ...], client: Any) -> Exception | None:
    """Return what to raise for the error of a blocking command. None: it heard nothing, and the next claim tells why.

    :param name: of the set that is waited for.
    """
    if timed_out(error) or slot_is_moving(error) or is_outage(error):
        return None
    return (explained(error, name, keys, client) if is_failure(error) else None) or error


class Listener:
    """Listens for all tasks of an event loop that wait for one set, on one connection.

    A wake-up wakes one waiter of each kind. It claims, and if items are left, the server wakes the next one. When it is
    time to look, one waiter of that kind looks. A waiter also wakes by itself at the end of its time, or to stop.
    """

    def __init__(
        self,
        execute: Callable[[Any], Coroutine[Any, Any, Any]],
        run: Callable[[Coroutine[Any, Any, None], Callable[[], None]], Any],
        free: Callable[[], Coroutine[Any, Any, float]],
        keys: tuple[bytes, ...],
        name: str,
        client: Any,
    ) -> None:
        """
        :param free: returns how many connections are free, as soon as there is one.
        """
        self._execute = execute
        self._run = run
        self._free = free
        self._name = name
        self._client = client
        self._keys = keys
        #: Seconds for which one command blocks at most: what the waiter that came last wants.
        self._longest = LONGEST_BLOCK
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()
        #: By kind: wakes one waiter when it is time to look.
        self._looks: dict[Hashable, asyncio.TimerHandle] = {}
        #: By kind: the time of the next look, if the command that blocks should end by itself then.
        self._ends: dict[Hashable, float] = {}
        #: The time at which the command that blocks, if there is one, ends by itself.
        self._blocks_until = 0.0
        self._task: asyncio.Task[None] | None = None

    async def wait(self, listen: Listen) -> None:
        """Return when this waiter may claim again."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        entry = listen.kind, future
        self._waiting.append(entry)
        self._longest = listen.longest
        self._plan_look(listen)
        timer = loop.call_later(max(SOON, listen.left), _wake, future) if math.isfinite(listen.left) else None
        if self._task is None:
            self._task = self._run(self._listen(), self._ended)
        try:
            if listen.should_stop is None:
                await future
            else:
                while not (future.done() or listen.should_stop()):
                    await asyncio.wait({future}, timeout=LISTEN)
        except BaseException:
            if future.done() and not future.cancelled():
                # It was woken but will not claim: wake another one.
                self._wake_one(listen.kind)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if entry in self._waiting:
                self._waiting.remove(entry)
            if not self._waiting:
                self._stop()

    def _plan_look(self, listen: Listen) -> None:
        # The server plans one look for all waiters of a kind: the last reply says when.
        if listen.kind in self._looks:
            self._looks.pop(listen.kind).cancel()
            self._ends.pop(listen.kind, None)
        loop, left = asyncio.get_running_loop(), max(SOON, listen.look)
        if not listen.precise and self._blocks_until <= loop.time() + left:
            self._ends[listen.kind] = loop.time() + left
            # To break it off costs a connection, and an idle server ends it late.
            left += 2 * LATENESS
        self._looks[listen.kind] = loop.call_later(left, self._look, listen.kind)

    async def _listen(self) -> None:
        now = asyncio.get_running_loop().time
        while self._waiting:
            longest = self._longest if await self._free() > 1 else min(self._longest, LISTEN)
            longest = min([longest, *(max(SOON, end - now()) for end in self._ends.values())])
            self._blocks_until = now() + longest
            try:
                heard = await self._execute(blocking(self._keys, longest)) is not None
            except Exception as error:
                if (found := fault(error, self._name, self._keys, self._client)) is not None:
                    self._fail(found)
                    return
                await asyncio.sleep(LATENESS)
                heard = not timed_out(error)
            for kind in {kind for kind, _ in self._waiting if heard}:
                self._wake_one(kind)
            for kind in [kind for kind, end in self._ends.items() if end <= now() + SOON]:
                self._looks[kind].cancel()
                self._look(kind)
            # They claim now; the last waiter that leaves ends this task.
            await asyncio.sleep(0)

    def _look(self, kind: Hashable) -> None:
        """Wake one waiter to look, and soon another one, unless the first waits again and so plans the next look."""
        self._wake_one(kind)
        del self._looks[kind]
        self._ends.pop(kind, None)
        if any(kind == other for other, _ in self._waiting):
            self._looks[kind] = asyncio.get_running_loop().call_later(SPARE, self._look, kind)

    def _wake_one(self, kind: Hashable) -> None:
        for entry in self._waiting:
            if entry[0] == kind and not entry[1].done():
                self._waiting.remove(entry)
                entry[1].set_result(None)
                return

    def _fail(self, error: Exception) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
                return

    def _stop(self) -> None:
        for timer in self._looks.values():
            timer.cancel()
        self._looks.clear()
        self._ends.clear()
        self._blocks_until = 0.0
        if self._task is not None:
            self._task.cancel()

    def _ended(self) -> None:
        self._task = None
        if self._waiting:
            # Waiters that came after its last look, or whose tasks withstood the cancellation of all.
            self._task = self._run(self._listen(), self._ended)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
