"""Running operations on a client: blocking and awaited. The only module of the core that talks to a server.

What is said in which order, and what an error means, stands once: in two generators that yield requests and are sent
replies. Each driver only carries these back and forth.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeAlias, TypeVar

from redset.core.clients import AS_STORED, explained, script_is_unknown
from redset.core.operations import Operation, Page, Plan
from redset.core.scripts import Script

__all__ = ("AsyncDriver", "Driver")

T = TypeVar("T")
R = TypeVar("R")

#: The words of one command.
Request: TypeAlias = tuple[bytes | str, ...]
#: Yields requests, is sent the replies or thrown the errors, and returns the result.
Talk: TypeAlias = Generator[Request, Any, R]


class Driver:
    """Runs the operations of one set on a blocking client."""

    __slots__ = ("_execute", "_name")

    def __init__(self, client: Any, name: str) -> None:
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name

    def perform(self, operation: Operation[R]) -> R:
        """Performs one operation and returns what was read from its reply."""
        return self._hold(_talk_about(operation, self._name))

    def follow(self, plan: Plan[R]) -> R:
        """Performs what ``plan`` yields, one after the other, and returns what it returns."""
        return self._hold(_talk_through(plan, self._name))

    def iterate(self, page: Operation[Page[T]]) -> Iterator[T]:
        """Yields the items of ``page`` and of those behind it; reads a page when the one before it is used up."""
        behind: Operation[Page[T]] | None = page
        while behind:
            items, behind = self.perform(behind)
            yield from items

    def _hold(self, talk: Talk[R]) -> R:
        try:
            request = next(talk)
            while True:
                try:
                    reply = self._execute(*request, **AS_STORED)
                except BaseException as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result


class AsyncDriver:
    """Runs the operations of one set on an asyncio client; see :class:`Driver`."""

    __slots__ = ("_execute", "_name")

    def __init__(self, client: Any, name: str) -> None:
        self._execute: Callable[..., Any] = client.execute_command
        self._name = name

    async def perform(self, operation: Operation[R]) -> R:
        return await self._hold(_talk_about(operation, self._name))

    async def follow(self, plan: Plan[R]) -> R:
        return await self._hold(_talk_through(plan, self._name))

    async def iterate(self, page: Operation[Page[T]]) -> AsyncIterator[T]:
        behind: Operation[Page[T]] | None = page
        while behind:
            items, behind = await self.perform(behind)
            for item in items:
                yield item

    async def _hold(self, talk: Talk[R]) -> R:
        try:
            request = next(talk)
            while True:
                try:
                    reply = await self._execute(*request, **AS_STORED)
                except BaseException as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result


def _talk_about(operation: Operation[R], name: str) -> Talk[R]:
    """One operation: its request, once more with the whole script where the server does not know it yet."""
    verb = operation.verb
    try:
        if isinstance(verb, Script):
            subject = (str(len(operation.keys)), *operation.keys, *operation.args)
            try:
                reply = yield ("EVALSHA", verb.sha, *subject)
            except Exception as error:
                if not script_is_unknown(error):
                    raise
                # Not SCRIPT LOAD and the digest again: the server can lose the script in between.
                reply = yield ("EVAL", verb.body, *subject)
        else:
            reply = yield (verb, *operation.keys, *operation.args)
    except Exception as error:
        meaning = explained(error, name, operation.keys)
        if meaning is None:
            raise
        raise meaning from error
    return operation.read(reply)


def _talk_through(plan: Plan[R], name: str) -> Talk[R]:
    """The operations that a plan yields; what goes wrong with one is thrown into the plan."""
    try:
        operation = next(plan)
        while True:
            try:
                result = yield from _talk_about(operation, name)
            except BaseException as error:
                operation = plan.throw(error)
            else:
                operation = plan.send(result)
    except StopIteration as end:
        result = end.value
        return result
