"""Drivers: blocking and awaited loops that carry requests to a server and replies back.

:mod:`redset.core.talking` decides what is sent in which order, and handles calls that fail. The core
does I/O in this module and in :mod:`redset.core.clients` only.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar

from redset.core import emptying
from redset.core.calls import Call, State, state_of
from redset.core.clients import (
    AS_STORED,
    are_beside,
    check_pipeline,
    drop_idle_connections,
    enqueue,
    executor,
    has_nodes,
    has_one_connection,
    is_failure,
    is_of_a_lost_connection,
    is_outage,
    is_redirection,
    key_of,
    node_name,
    pipelines_of,
    replies_once,
    replies_once_awaited,
)
from redset.core.coalescing import Gathering, Group, Line, Part
from redset.core.observing import hooks, is_observed, observed
from redset.core.operations import Elsewhere, Listen, ListenToAny, Operation, Plan, once
from redset.core.paging import Page
from redset.core.pools import AsyncLinks, Links, LoopLinks, let_go
from redset.core.retries import tries_once
from redset.core.sending import Batch, Sleep, Words, unrecorded
from redset.core.talking import (
    EMPTY_SOON,
    Caller,
    Register,
    Request,
    Talk,
    ask,
    break_off,
    follow,
    roll_back,
)
from redset.core.waiting import LATENESS, LISTEN, LONGEST_BLOCK, SOON, TURN, Listener, blocking, fault

__all__ = ("AsyncDriver", "Driver")

log = logging.getLogger("redset")

T = TypeVar("T")
R = TypeVar("R")

#: Seconds for which a cancelled task stays to roll back its claims.
GRACE = 1.0

#: Whether calls are not coalesced: while requests withstand cancellation. The wait for a coalesced call does not.
joins_nobody: ContextVar[bool] = ContextVar("redset_joins_nobody", default=False)

#: In the place of a reply: the client has no pipeline.
NOT_SENT = ConnectionError("the command was not sent")


class Outstanding:
    """The commands of a batch to send by themselves: those that were not sent, or that the client would retry.

    After the first that fails again, the others of its node keep their errors: in an outage each takes as long as the
    client tries. Cluster clients send a batch once, so one command of a node that failed is always sent again: that
    makes the client read anew which node has which slots.
    """

    def __init__(
        self, commands: Sequence[Words], replies: list[Any], links: Links | AsyncLinks | None, client: Any
    ) -> None:
        self._commands = commands
        self._replies = replies
        self._links = links
        self._client = client
        self._has_nodes = has_nodes(client)

    def __iter__(self) -> Iterator[int]:
        replies = self._replies
        #: The errors of the nodes that failed again, by name; None is the name of a single server.
        failed: dict[str | None, Exception] = {}
        for at in range(len(replies)):
            if not self._is_open(replies[at]):
                continue
            node = node_name(self._client, key_of(self._commands[at]))
            if node in failed:
                replies[at] = failed[node]
                continue
            yield at
            again = replies[at]
            if isinstance(again, Exception) and is_outage(again):
                failed[node] = again

    def _is_open(self, reply: Any) -> bool:
        if not isinstance(reply, Exception) or reply is NOT_SENT:
            return reply is NOT_SENT
        if self._has_nodes:
            return is_outage(reply) or is_redirection(reply)
        return is_outage(reply) and not tries_once.get() and (self._links is None or self._links.tries_again(reply))


class Driver:
    """Runs the operations of one set on a blocking client."""

    awaits = False

    __slots__ = ("_client", "_execute_command", "_links", "_pipeline", "caller")

    #: Calls of threads are not coalesced.
    joins = None

    def __init__(self, client: Any, name: str, prefix: bytes, *, recording: bool, connections: str) -> None:
        state = state_of(client)
        self._client = client
        self.caller = Caller(client, state, name, prefix, recording, emptying.empty_records)
        self._links = Links.of(client, state, connections)
        self._execute_command = executor(client)
        self._pipeline = pipelines_of(client)

    def register_by(self, register: Register) -> None:
        """Have the set registered by these requests when a reply asks for it."""
        self.caller.register = register

    def perform(self, operation: Operation[R]) -> R:
        """Perform one operation and return its result."""
        if hooks.observer is not None and is_observed(operation):
            observed_result: R = self.follow(once(operation))
            return observed_result
        return self._run(ask(operation, self.caller, []))

    def follow(self, plan: Plan[R]) -> R:
        """Perform the steps of ``plan`` and return its result."""
        if hooks.observer is not None:
            plan = observed(plan, self.caller.name)
        return self._run(follow(plan, self.caller))

    def enqueue(self, pipeline: Any, operation: Operation[Any]) -> None:
        """Put an addition into a pipeline of the user's."""
        check_pipeline(pipeline, awaits=self.awaits)
        enqueue(pipeline, unrecorded(operation))

    def iterate(self, page: Operation[Page[T]]) -> Iterator[T]:
        """Yield the items of ``page`` and of the pages behind it. Read a page when the one before it is used up."""
        behind: Operation[Page[T]] | None = page
        while behind:
            read: Page[T] = self.perform(behind)
            yield from read.items
            behind = read.behind

    def _run(self, talk: Talk[R], interruption: BaseException | None = None) -> R:
        try:
            request = next(talk) if interruption is None else talk.throw(interruption)
            while True:
                try:
                    reply = self._carry_out(request)
                except BaseException as error:
                    if not is_failure(error):
                        let_go(error)
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        except BaseException as error:
            # An interruption between two requests has not reached the talk, which must roll back its claims.
            if talk.gi_frame is None or interruption is not None:  # type: ignore[attr-defined] # it is a generator
                raise
            return self._run(talk, error)

    def _carry_out(self, request: Request) -> Any:
        if type(request) is tuple:
            links = self._links
            if links is not None and links.usable():
                link = links.take()
                try:
                    return link.exchange(request)
                except Exception as error:
                    if not links.tries_again(error):
                        raise
                finally:
                    links.put(link)
            return self._execute(*request)
        if isinstance(request, Batch):
            return self._send_all(request.commands)
        return self._do(request)

    def _do(self, request: Request) -> Any:
        """Carry out a request that sends no command of an operation."""
        if isinstance(request, Listen):
            return self._listen(request)
        if isinstance(request, ListenToAny):
            return self._listen_to_any([listen for _, listen in request.listens])
        if isinstance(request, Elsewhere):
            return request.do()
        assert isinstance(request, Sleep)
        if request is EMPTY_SOON:
            self._empty_soon()
        else:
            time.sleep(request.seconds)
        return None

    def _empty_soon(self) -> None:
        # Threads must not share a client that has a single connection.
        if not has_one_connection(self._client):
            emptying.begin_thread(self.caller.state, lambda large: self._run(emptying.empty(large, self.caller)))

    def _execute(self, *words: bytes | str) -> Any:
        try:
            return self._execute_command(*words, **AS_STORED)
        except BaseException as error:
            self._check_broken_off(error)
            raise

    def _check_broken_off(self, error: BaseException) -> bool:
        """Return whether the error came between sending and reading. The next call does not read what that left."""
        is_broken_off = not is_failure(error) or is_of_a_lost_connection(error)
        if is_broken_off:
            drop_idle_connections(self._client)
        return is_broken_off

    def _send_all(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands, and return the reply to each, or its error."""
        replies = self._send_together(commands)
        for at in Outstanding(commands, replies, self._links, self._client):
            replies[at] = self._tried(commands[at])
        return replies

    def _send_together(self, commands: Sequence[Words]) -> list[Any]:
        links = self._links
        if links is not None and links.usable():
            link = links.take()
            try:
                return link.exchange_all(commands)
            except Exception as error:
                return [error] * len(commands)
            finally:
                links.put(link)
        if self._pipeline is None:
            return [NOT_SENT] * len(commands)
        try:
            pipeline = self._pipeline()
            if has_nodes(self._client):
                return replies_once(self._client, pipeline, commands)
            for words in commands:
                enqueue(pipeline, words, **AS_STORED)
            return list(pipeline.execute(raise_on_error=False))
        except BaseException as error:
            is_broken_off = self._check_broken_off(error)
            if not is_failure(error):
                raise
            # Else, of a cluster one node failed, before anything was sent to the others.
            return [NOT_SENT if has_nodes(self._client) and not is_broken_off else error] * len(commands)

    def _tried(self, words: Words) -> Any:
        """Send a command, and return the reply or the error."""
        try:
            return self._execute(*words)
        except Exception as error:
            if not is_failure(error):
                raise
            return error

    def _listen(self, listen: Listen) -> None:
        """Wait for a wake-up by blocking commands, until it is time to look or to end."""
        ends_at = time.monotonic() + max(SOON, min(listen.look, listen.left))
        should_stop = listen.should_stop or bool
        try:
            while (left := ends_at - time.monotonic()) > 0 and not should_stop():
                if self._hears(listen, left):
                    return
        except Exception as error:
            if (found := fault(error, self.caller.name, listen.keys, self._client)) is error:
                raise
            if found is not None:
                raise found from None

    def _listen_to_any(self, listens: list[Listen]) -> None:
        """Wait for the first of several sets: by one command, or if they are in several slots, by a thread for each."""
        first = min(listens, key=lambda listen: listen.look)
        if all(are_beside(self._client, first.keys[0], listen.keys[0]) for listen in listens):
            self._listen(replace(first, keys=tuple(key for listen in listens for key in listen.keys)))
            return
        is_over, heard = Event(), SimpleQueue[Exception | None]()
        try:
            ends_at = time.monotonic() + max(SOON, min(first.look, first.left))
            should_stop = first.should_stop or bool
            for listen in listens:
                longest = min(first.look, listen.longest, LISTEN)
                Thread(target=self._listen_aside, args=(listen, longest, is_over, heard), daemon=True).start()
            while (left := ends_at - time.monotonic()) > 0 and not should_stop():
                with suppress(Empty):
                    if (found := heard.get(timeout=min(left, LISTEN))) is not None:
                        raise found
                    return
        finally:
            is_over.set()

    def _listen_aside(
        self, listen: Listen, longest: float, is_over: Event, heard: "SimpleQueue[Exception | None]"
    ) -> None:
        """Put each wake-up as None into ``heard``, until a fault or until it is over."""
        # In the context of this thread.
        tries_once.set(True)
        try:
            while not is_over.is_set():
                if self._execute(*blocking(listen.keys, longest)) is not None:
                    if is_over.is_set():
                        # It came too late for this waiter: another one may need it.
                        self._execute("RPUSH", listen.keys[0], "1")
                        self._execute("EXPIRE", listen.keys[0], "60")
                    heard.put(None)
        except Exception as error:
            log.debug("%s: a wake-up list could not be read: %s", self.caller.name, error)
            if (found := fault(error, self.caller.name, listen.keys, self._client)) is None:
                time.sleep(LATENESS)
            # Without a fault the waiter claims, and listens again.
            heard.put(found)

    def _hears(self, listen: Listen, left: float) -> bool:
        """Send one blocking command, or sleep, and return whether there was a wake-up."""
        links = self._links
        own = links is not None and links.usable()
        precise = listen.precise or listen.left < listen.look + 2 * LATENESS
        # An idle server ends a blocking command late, so this process times the last seconds itself.
        is_last = precise and left <= 2 * LATENESS
        block = left - LATENESS if precise and not is_last else left
        if not own:
            if is_last:
                time.sleep(left)
                return False
            block = min(block, listen.longest, LISTEN if listen.should_stop else block)
            return self._execute(*blocking(listen.keys, block)) is not None
        assert links is not None
        if (free := links.free()) < 1:
            time.sleep(min(left, TURN))
            return False
        if free == 1:
            block = min(block, LISTEN)
        words, patience = (blocking(listen.keys, left + 1), left) if is_last else (blocking(listen.keys, block), None)
        link = links.take()
        try:
            return link.listen(words, patience or min(block, LONGEST_BLOCK) + 1, listen.should_stop)
        finally:
            links.put(link)


class Here(NamedTuple):
    """The running event loop, and the objects that its tasks share for one set."""

    loop: asyncio.AbstractEventLoop
    gathering: Gathering
    links: LoopLinks | None


class AsyncDriver:
    """Runs the operations of one set on an asyncio client; see :class:`Driver`."""

    awaits = True

    __slots__ = ("_execute_command", "_last", "_links", "_pipeline", "caller")

    def __init__(self, client: Any, name: str, prefix: bytes, *, recording: bool, connections: str) -> None:
        state = state_of(client)
        self._execute_command = executor(client)
        self._pipeline = pipelines_of(client)
        self.caller = Caller(client, state, name, prefix, recording, emptying.empty_records)
        self._links = AsyncLinks.of(client, state, connections)
        #: Where the last call was made; see :meth:`_here`.
        self._last: Here | None = None

    def register_by(self, register: Register) -> None:
        self.caller.register = register

    async def perform(self, operation: Operation[R]) -> R:
        """Perform one operation, which claims nothing, and return its result."""
        if hooks.observer is not None and is_observed(operation):
            return await self.follow(once(operation))
        place = self._place(operation)
        if not isinstance(place, Part):
            return await self._run(self._alone(operation, place, []) or ask(operation, self.caller, []))
        try:
            await place.answer
        except BaseException:
            place.leave()
            with suppress(TimeoutError, asyncio.CancelledError):
                await self._in_task(self._carry_out_shielded(Elsewhere(place.concluded), GRACE))
            raise
        return place.read()  # type: ignore[no-any-return] # what the operation reads

    async def follow(self, plan: Plan[R]) -> R:
        if hooks.observer is not None:
            plan = observed(plan, self.caller.name)
        return await self._run(follow(plan, self.caller, self.joins))

    def begin_to_follow(self, plan: Plan[R]) -> "asyncio.Task[R]":
        """Follow a plan in a task of its own, which withstands cancellation; see :meth:`wait_for`."""
        if hooks.observer is not None:
            plan = observed(plan, self.caller.name)
        return self._here().gathering.start(self._run(follow(plan, self.caller, self.joins), shielded=True))

    async def enqueue(self, pipeline: Any, operation: Operation[Any]) -> None:
        """Put an addition into a pipeline of the user's, which is a client that is awaited."""
        check_pipeline(pipeline, awaits=self.awaits)
        enqueue(pipeline, unrecorded(operation))

    async def iterate(self, page: Operation[Page[T]]) -> AsyncIterator[T]:
        behind: Operation[Page[T]] | None = page
        while behind:
            read: Page[T] = await self.perform(behind)
            for item in read.items:
                yield item
            behind = read.behind

    # Coalesced calls.

    def _here(self) -> Here:
        """Return what the tasks of the running event loop share. Loops in other threads may use this driver as well."""
        loop, here = asyncio.get_running_loop(), self._last
        if here is None or here.loop is not loop:
            state, key = self.caller.state, (id(loop), self.caller.prefix)
            gathering = state.in_loops.get(key)
            if gathering is None or gathering.loop() is not loop:
                gathering = state.in_loops[key] = Gathering(loop)
            links = None if self._links is None else self._links.of_loop(loop)
            self._last = here = Here(loop, gathering, links)
        return here

    def _place(self, operation: Operation[Any]) -> Part | Line | None:
        """Return the part of an operation in a group, the line that it is the first of, or None if it is sent alone."""
        unfinished, shape = operation.unfinished, operation.shape
        if joins_nobody.get() or shape is None:
            return None
        if unfinished is not None and (unfinished.call or unfinished.reply or unfinished.part):
            return None
        here = self._here()
        place = here.gathering.enter(operation, shape, self, here.loop)
        if unfinished is not None and type(place) is Part:
            unfinished.part = place
        return place

    def joins(self, operation: Operation[R], claims: list[Any]) -> Talk[R] | None:
        """Return the talk of an operation that joins a coalesced call; None if it is sent by itself."""
        place = self._place(operation)
        if isinstance(place, Part):
            return self._ask_in_part(operation, place, claims)
        return self._alone(operation, place, claims)

    def _alone(self, operation: Operation[R], line: Line | None, claims: list[Any]) -> Talk[R] | None:
        """Return the talk of an operation that is the first of its line, or was part of a group before; else None."""
        if line is not None:
            return self._ask_first(operation, line, claims)
        if operation.unfinished is not None and operation.unfinished.part is not None:
            return self._ask_again(operation, operation.unfinished.part, claims)
        return None

    def _ask_first(self, operation: Operation[R], line: Line, claims: list[Any]) -> Talk[R]:
        try:
            return (yield from ask(operation, self.caller, claims))
        finally:
            line.leave()

    def _ask_in_part(self, operation: Operation[R], part: Part, claims: list[Any]) -> Talk[R]:
        if operation.roll_back is not None:
            claims.append(part)
        try:
            yield part
        except BaseException:
            if operation.roll_back is None:
                part.leave()
                with suppress(TimeoutError, asyncio.CancelledError):
                    yield Elsewhere(part.concluded)
            raise
        return part.read()  # type: ignore[no-any-return] # what the operation reads

    def _ask_again(self, operation: Operation[R], part: Part, claims: list[Any]) -> Talk[R]:
        yield Elsewhere(lambda: _answered_again(part))
        return (yield from ask(operation, self.caller, claims))

    async def carry(self, group: Group) -> None:
        claims: list[Any] = []
        try:
            reply = await self._run(self._ask_for_group(group.operation, claims), group=group)
            group.deal(reply, claims[0] if claims else None)
        except BaseException as error:
            group.fail(error)
            if not isinstance(error, Exception):
                raise

    def _ask_for_group(self, operation: Operation[R], claims: list[Any]) -> Talk[R]:
        try:
            return (yield from ask(operation, self.caller, claims))
        except BaseException as error:
            yield from break_off(error, claims, self.caller)
            raise

    async def roll_back(self, call: Call) -> None:
        call.lose()
        try:
            await self._run(roll_back(call, self.caller), shielded=True)
        except BaseException as error:
            self.caller.state.owe(call)
            if not isinstance(error, Exception):
                raise

    def received(self, call: Call) -> None:
        call.become(State.RECEIVED)
        self.caller.state.received(call)

    # Requests.

    async def _run(self, talk: Talk[R], *, group: Group | None = None, shielded: bool = False) -> R:
        """Carry out the requests of ``talk``.

        :param group: the group whose call it is: a cancellation is ignored while one of its tasks waits.
        :param shielded: whether requests withstand cancellation. After an interruption they always do.
        """
        task = asyncio.current_task()
        # Outside of a task there is no cancellation.
        cancelling = task.cancelling if task else int
        cancellations = cancelling()
        #: Seconds that a shielded request may take; None: no limit until the first interruption.
        limit: float | None = None
        before = joins_nobody.get()
        joins_nobody.set(shielded)
        try:
            request = next(talk)
            while True:
                error: BaseException | None = None
                try:
                    if shielded:
                        work = self._carry_out_shielded(request, limit)
                        reply, error = await self._in_task(work, keeps_reply=True)
                    elif isinstance(request, Part):
                        reply = None
                        await request.answer
                    else:
                        reply = await self._carry_out(request)
                except BaseException as raised:
                    error = raised if isinstance(raised, Exception) else _interruption(raised, task)
                if cancelling() > cancellations:
                    # Python before 3.12 can swallow a cancellation that arrives with a reply.
                    cancellations = cancelling()
                    error = error or (None if shielded else asyncio.CancelledError())
                if isinstance(error, asyncio.CancelledError) and self._goes_on(group):
                    # All tasks are being cancelled. The call goes on unless every waiting task was.
                    cancellations = task.uncancel() if task else 0
                    continue
                if error is None:
                    request = talk.send(reply)
                    continue
                if not isinstance(error, Exception):
                    joins_nobody.set(True)
                    shielded, limit = True, GRACE
                request = talk.throw(error)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            joins_nobody.set(before)

    def _goes_on(self, group: Group | None) -> bool:
        return group is not None and group.is_awaited and self.caller.recording

    async def _carry_out(self, request: Request) -> Any:
        if type(request) is tuple:
            if self._links is not None and self._links.usable():
                links = self._here().links
                assert links is not None
                link = links.take() or await links.wait()
                try:
                    return await link.exchange(request)
                except Exception as error:
                    if not self._links.tries_again(error):
                        raise
                finally:
                    links.put(link)
            return await self._execute_command(*request, **AS_STORED)
        if isinstance(request, Batch):
            return await self._send_all(request.commands)
        return await self._do(request)

    async def _do(self, request: Request) -> Any:
        if isinstance(request, Elsewhere):
            return await request.do()
        if request is EMPTY_SOON:
            return self._empty_soon()
        if isinstance(request, Sleep):
            await asyncio.sleep(request.seconds)
        elif isinstance(request, ListenToAny):
            await self._listen_to_any(request)
        else:
            assert isinstance(request, Listen)
            await self.listen(request)
        return None

    async def _send_all(self, commands: Sequence[Words]) -> list[Any]:
        replies = await self._send_together(commands)
        for at in Outstanding(commands, replies, self._links, self.caller.client):
            replies[at] = await self._tried(commands[at])
        return replies

    async def _send_together(self, commands: Sequence[Words]) -> list[Any]:
        if self._links is not None and self._links.usable():
            links = self._here().links
            assert links is not None
            link = links.take() or await links.wait()
            try:
                return await link.exchange_all(commands)
            except Exception as error:
                return [error] * len(commands)
            finally:
                links.put(link)
        if self._pipeline is None:
            return [NOT_SENT] * len(commands)
        try:
            if has_nodes(self.caller.client):
                return await replies_once_awaited(self.caller.client, commands)
            pipeline = self._pipeline()
            for words in commands:
                enqueue(pipeline, words, **AS_STORED)
            return list(await pipeline.execute(raise_on_error=False))
        except Exception as error:
            if not is_failure(error):
                raise
            return [NOT_SENT if has_nodes(self.caller.client) else error] * len(commands)

    async def _tried(self, words: Words) -> Any:
        """Send a command, and return the reply or the error."""
        try:
            return await self._execute_command(*words, **AS_STORED)
        except Exception as error:
            if not is_failure(error):
                raise
            return error

    async def listen(self, listen: Listen) -> None:
        """Wait for a wake-up together with the other tasks that wait for this set."""
        shares = self._here().gathering
        if shares.listener is None:
            shares.listener = Listener(
                self._carry_out,
                shares.run,
                self._free,
                listen.keys,
                self.caller.name,
                self.caller.client,
            )
        await shares.listener.wait(listen)

    async def _free(self) -> float:
        """Return how many connections of redset's own are free, as soon as there is one."""
        links = self._here().links if self._links is not None and self._links.usable() else None
        return math.inf if links is None else await links.some_free()

    async def _listen_to_any(self, request: ListenToAny) -> None:
        tasks = [asyncio.ensure_future(driver.listen(listen)) for driver, listen in request.listens]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _empty_soon(self) -> None:
        shares = self._here().gathering
        if shares.emptying is None:
            left = max(0.0, emptying.seconds_left(self.caller.state))
            shares.emptying = asyncio.get_running_loop().call_later(left, self._begin_to_empty, shares)

    def _begin_to_empty(self, shares: Gathering) -> None:
        shares.emptying = None
        if emptying.seconds_left(self.caller.state) > 0:
            self._empty_soon()
        else:
            shares.run(self._empty_all(), lambda: None)

    async def _empty_all(self) -> None:
        with suppress(Exception):
            while (large := emptying.take_large(self.caller.state)) is not None:
                await self._run(emptying.empty(large, self.caller))

    async def _carry_out_shielded(self, request: Request, limit: float | None) -> tuple[Any, Exception | None]:
        """Carry out a request, again after a cancellation, for a second. Sent again, it is the same call.

        Returns the reply or the error: ``asyncio.run`` would report a task that fails at the end of a program.
        """
        task = asyncio.current_task()
        assert task is not None
        ends_at = None if limit is None else time.monotonic() + limit
        while True:
            try:
                async with asyncio.timeout(None if ends_at is None else max(0.0, ends_at - time.monotonic())):
                    return await self._carry_out(request), None
            except Exception as error:
                return None, error
            except asyncio.CancelledError:
                now = time.monotonic()
                if ends_at is not None and now >= ends_at:
                    raise
                ends_at = ends_at or now + GRACE
                task.uncancel()

    async def _in_task(self, work: Coroutine[Any, Any, R], *, keeps_reply: bool = False) -> R:
        """Start a task for ``work`` and wait for it; see :meth:`wait_for`."""
        return await self.wait_for(self._here().gathering.start(work), keeps_reply=keeps_reply)

    async def wait_for(self, task: "asyncio.Task[R]", *, keeps_reply: bool = False) -> R:
        """Wait for a task; if this one is cancelled meanwhile, for two more seconds at most.

        :param keeps_reply: whether to return a result that arrives in spite of a cancellation. A talk that is cut short
            there does not do the rest of its work.
        """
        interruption: BaseException | None = None
        ends_at = None
        while not task.done():
            try:
                await asyncio.wait({task}, timeout=None if ends_at is None else max(0.0, ends_at - time.monotonic()))
            except asyncio.CancelledError as error:
                interruption = interruption or error
                ends_at = ends_at or time.monotonic() + 2 * GRACE
            if ends_at is not None and time.monotonic() >= ends_at:
                break
        if interruption is not None and not (keeps_reply and task.done()):
            raise interruption
        return task.result()


def _interruption(error: BaseException, task: "asyncio.Task[Any] | None") -> BaseException:
    """Return the error, unless another task was cancelled that waited for the same future of the library."""
    if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
        return ConnectionError("the connection was closed while it was in use")
    return error


async def _answered_again(part: Part) -> None:
    """Wait for the reply to a part that another task sent, or that failed before."""
    if part.group is None:
        await asyncio.wait({part.answer})
    if part.group is None:
        # It was not sent: its task was cancelled before.
        assert part.operation.unfinished is not None
        part.operation.unfinished.part = None
    elif part.operation.unfinished is not None and part.operation.unfinished.reply is None:
        await part.group.answer_again()
