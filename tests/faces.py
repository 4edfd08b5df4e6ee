"""The two faces of redset, used alike, so that one body of tests holds for both: every call blocks."""

import asyncio
import copy
import functools
import inspect
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol, TypeVar

import redset
import redset.aio
import redset.locks
import redset.sets
from clients import close_awaited
from servers import Place

__all__ = ("CLIENTS", "SHARDS", "Awaited", "Batch", "Blocking", "Face")

T = TypeVar("T")

#: The kinds of client in the matrix: the library, and what is passed to it.
CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "redis": ("redis", {}),
    "redis-resp2": ("redis", {"protocol": 2}),
    "redis-resp3": ("redis", {"protocol": 3}),
    "redis-decode": ("redis", {"decode_responses": True}),
    "redis-decode-resp3": ("redis", {"decode_responses": True, "protocol": 3}),
    "valkey": ("valkey", {}),
    "valkey-resp3": ("valkey", {"protocol": 3}),
    "valkey-decode": ("valkey", {"decode_responses": True}),
    "thirty-lines": ("thirty_lines", {}),
}


class Face(Protocol):
    """Makes the public classes of one face on its client: ``face.SortedSet("name", scorer=...)``."""

    client: Any

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The public class of that name, with the client filled in."""

    def run(self, awaitable: Awaitable[T]) -> T:
        """What ``awaitable`` comes to."""

    def several(self, how: str, *args: Any) -> Any:
        """Several sets as one: the function of that name, with these arguments."""

    def another(self) -> AbstractContextManager["Face"]:
        """The same face on a client of its own."""

    def close(self) -> None: ...


class Blocking:
    """The synchronous face, as it is."""

    def __init__(self, place: Place, kind: str) -> None:
        library, options = CLIENTS[kind]
        self._made = place, kind
        self.client = place.client(library, **options)

    def another(self) -> AbstractContextManager[Face]:
        return closing(Blocking(*self._made))

    def several(self, how: str, *args: Any) -> Any:
        return getattr(redset, how)(*args)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        made_by = found(name, redset, redset.sets, redset.locks)
        return lambda *args, **options: made_by(self.client, *args, **options)

    def run(self, awaitable: Awaitable[T]) -> T:
        raise TypeError(f"nothing is awaited here: {awaitable!r}")

    def close(self) -> None:
        self.client.close()
        # Old clients keep the connections of a pool that from_url has made.
        if pool := getattr(self.client, "connection_pool", None):
            pool.disconnect()


class Awaited:
    """The asyncio face, on an event loop that runs beside the test; what is made here is used like its twin."""

    def __init__(self, place: Place, kind: str) -> None:
        library, options = CLIENTS[kind]
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="event loop of a test", daemon=True)
        self._thread.start()
        self._make_client = functools.partial(place.client, library, awaited=True, **options)
        self.client = self.call(self._make_client)

    @contextmanager
    def another(self) -> Iterator[Face]:
        other = copy.copy(self)
        other.client = self.call(self._make_client)
        try:
            yield other
        finally:
            other.close_client()

    def several(self, how: str, *args: Any) -> Any:
        return self.adapt(getattr(redset.aio, how)(*map(original_of, args)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        made_by = found(name, redset.aio)
        return lambda *args, **options: self.adapt(self.call(made_by, self.client, *args, **options))

    def run(self, awaitable: Awaitable[T]) -> T:
        result: T = self.call(lambda: awaitable)
        return result

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What ``function`` returns, or what that comes to; it is called on the event loop, from any thread."""

        async def called() -> Any:
            result = function(*args, **options)
            return await result if inspect.isawaitable(result) else result

        task = asyncio.run_coroutine_threadsafe(called(), self.loop)
        try:
            return task.result()
        except BaseException:
            # Of a test that is interrupted nothing must go on.
            task.cancel()
            raise

    def adapt(self, thing: Any) -> Any:
        """``thing`` as a test uses it: what is redset's own as a :class:`Twin`, all else as it is."""
        if isinstance(thing, list):
            return [self.adapt(each) for each in thing]
        kind: Any = type(thing)
        if kind.__module__.startswith("redset.") and _is_awaited(kind):
            return Twin(thing, self)
        return self.iterate(thing) if isinstance(thing, AsyncIterator) else thing

    def iterate(self, iterator: AsyncIterator[Any]) -> Iterator[Any]:
        end = object()
        try:
            while (thing := self.call(anext, iterator, end)) is not end:
                yield self.adapt(thing)
        finally:
            if hasattr(iterator, "aclose"):
                self.call(iterator.aclose)

    def close_client(self) -> None:
        self.call(close_awaited, self.client)
        if pool := getattr(self.client, "connection_pool", None):
            self.call(pool.disconnect)

    def close(self) -> None:
        self.close_client()
        self.call(cancel_other_tasks)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def cancel_other_tasks() -> None:
    """As `asyncio.run` does at its end. A task of fakeredis for a command that blocks outlives the connection."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Twin:
    """An asyncio object of redset, used as its synchronous twin is."""

    def __init__(self, original: Any, face: Awaited) -> None:
        self._original = original
        self._face = face

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._original, name)
        if inspect.ismethod(found) and found.__self__ is self._original:
            return lambda *args, **options: self._call(found, *args, **options)
        return self._face.adapt(found)

    def __len__(self) -> int:
        if not hasattr(self._original, "count"):
            # What list() expects of an iterator, which it asks all the same.
            raise TypeError(f"{self._original!r} has no len()")
        return int(self._call(self._original.count))

    def __bool__(self) -> bool:
        return len(self) > 0 if hasattr(self._original, "count") else bool(self._original)

    def __contains__(self, item: object) -> bool:
        return bool(self._call(self._original.contains, item))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            assert index.step in (None, 1), "the asyncio face has no steps"
            return self._call(self._original.slice, index.start, index.stop)
        return self._call(self._original.at, index)

    def __iter__(self) -> Iterator[Any]:
        return self._face.iterate(aiter(self._original))

    def __next__(self) -> Any:
        end = object()
        thing = self._call(anext, self._original, end)
        if thing is end:
            raise StopIteration
        return thing

    def __enter__(self) -> Any:
        return self._call(self._original.__aenter__)

    def __exit__(self, *raised: object) -> Any:
        return self._call(self._original.__aexit__, *raised)

    def __eq__(self, other: object) -> bool:
        return bool(self._original == original_of(other))

    def __hash__(self) -> int:
        return hash(self._original)

    def __repr__(self) -> str:
        return repr(self._original)

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        originals = {name: original_of(value) for name, value in options.items()}
        return self._face.adapt(self._face.call(function, *map(original_of, args), **originals))


class Batch:
    """A pipeline of a face's client, each call of which blocks."""

    def __init__(self, face: Any, **options: Any) -> None:
        self._face = face
        self.pipeline = self._do(face.client.pipeline, **options)

    def _do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        call = self._face.call if isinstance(self._face, Awaited) else lambda do, *args, **options: do(*args, **options)
        return call(function, *args, **options)

    def execute(self) -> list[Any]:
        result: list[Any] = self._do(self.pipeline.execute)
        return result

    def watch(self, key: str) -> None:
        self._do(self.pipeline.watch, key)


def original_of(thing: Any) -> Any:
    """What a :class:`Twin` stands for, also in a list or tuple of them."""
    if isinstance(thing, list):
        return [original_of(each) for each in thing]
    if type(thing) is tuple and any(isinstance(each, Twin) for each in thing):
        return tuple(map(original_of, thing))
    return thing._original if isinstance(thing, Twin) else thing


#: How many shards each set has that a test makes without saying so; None: it is no set over shards.
SHARDS = int(os.environ["REDSET_TEST_SHARDS"]) if os.environ.get("REDSET_TEST_SHARDS") else None
#: The classes of sets that can have shards.
SETS = ("SortedSet", "TimeSortedSet", "ScheduledSet", "PeriodicSet", "ExpiringSet")


def found(name: str, *modules: Any) -> Any:
    for module in modules:
        if hasattr(module, name):
            made_by = getattr(module, name)
            return functools.partial(made_by, shards=SHARDS) if SHARDS and name in SETS else made_by
    raise AttributeError(f"redset has no {name}")


@functools.cache
def _is_awaited(kind: type) -> bool:
    """Whether it has something to be awaited."""
    asynchronous = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    # A name that is listed may not be there: zope.interface puts one into every class.
    members = (getattr(kind, name, None) for name in dir(kind))
    return hasattr(kind, "__aiter__") or any(test(member) for member in members for test in asynchronous)
