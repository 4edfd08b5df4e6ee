"""What every adapter does alike: its command line, what its handlers do, and what is recorded of it.

It runs in each peer's own environment and so needs the standard library alone. A peer's workers may fork: what is set
here before they do holds in their children.

    python peers/on_NAME.py produce URL --count 1000        as fast as the peer's documentation knows, many at a time
    python peers/on_NAME.py produce-one URL --count 1000    one after the other
    python peers/on_NAME.py work URL --count 1000           one worker, until it has done so many; for ever without

With ``--history FILE`` nothing is timed, and each process appends what it does to that file, one event a line: the
event, the item, which of this process's it is, the process, and the time, by a clock that all processes share.
Otherwise the seconds that it took are printed as JSON, from the first item to the last, with the start left out.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

__all__ = ("QUEUE", "TOGETHER", "handle", "handle_awaited", "is_reliable", "main", "place", "together", "way")

QUEUE = "jobs"

#: How many items go into one call of a bulk interface.
CHUNK = 1000
#: How many calls are under way at once on asyncio, where there is no bulk interface.
TOGETHER = 50

_options = argparse.Namespace(history=None, seconds=0.0, count=0, reliable=False, way="")


def is_reliable() -> bool:
    """Whether the peer is to be used in the way that its documentation calls for when nothing may be lost."""
    return bool(_options.reliable)


def place(url: str) -> dict[str, Any]:
    """The url as keywords: made with these, a client of redis-py repeats what failed; made from a url, it does not."""
    address = urlsplit(url)
    return {"host": address.hostname, "port": address.port}


def way() -> str:
    """Which of several ways to use it, where an adapter knows several."""
    return str(_options.way)


# What handlers do


def handle(item: str) -> None:
    with _execution(item):
        if _options.seconds:
            time.sleep(_options.seconds)


async def handle_awaited(item: str) -> None:
    with _execution(item):
        if _options.seconds:
            await asyncio.sleep(_options.seconds)


_executions = itertools.count()
_ended = itertools.count(1)


@contextlib.contextmanager
def _recorded(item: str) -> Iterator[None]:
    execution = next(_executions)
    _record("begin", item, execution)
    try:
        yield
    except BaseException:
        # A time limit, a cancellation, the end of the worker.
        _record("broke", item, execution)
        raise
    _record("end", item, execution)


class _Timed:
    """Counts; a class, since a generator would cost more than some peers do."""

    begun_at = 0.0

    def __enter__(self) -> None:
        self.begun_at = self.begun_at or time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if next(_ended) == _options.count:
            _report(time.perf_counter() - self.begun_at)
            # No peer ends a worker after so many in the same way; what is to be measured is over.
            os._exit(0)


_timed = _Timed()


def _execution(item: str) -> contextlib.AbstractContextManager[None]:
    return _timed if _options.history is None else _recorded(item)


def _record(event: str, item: str, execution: int) -> None:
    os.write(_options.history, f"{event} {item} {execution} {os.getpid()} {time.monotonic():.6f}\n".encode())


def _report(seconds: float) -> None:
    # Not by print: Celery takes sys.stdout for its log.
    os.write(1, json.dumps({"count": _options.count, "seconds": seconds}).encode() + b"\n")


# What producers do

#: A context manager, or one to be awaited, that gives two calls: one to add an item, and one to add many.
Producing = Callable[[str], Any]


async def together(add: Callable[[str], Awaitable[Any]], items: Iterable[str]) -> None:
    """The many of a peer on asyncio without a bulk interface: several tasks, each of which adds one by one."""
    remaining = iter(items)

    async def add_some() -> None:
        for item in remaining:
            await add(item)

    await asyncio.gather(*(add_some() for _ in range(TOGETHER)))


def main(producing: Producing, work: Callable[[str], None]) -> None:
    """Runs an adapter.

    :param producing: gives the two calls of a producer, for a url.
    :param work: works until its process ends.
    """
    options = _parser().parse_args(namespace=_options)
    if options.history is not None:
        options.history = os.open(options.history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if options.role == "work":
        work(options.url)
    else:
        asyncio.run(_produce(producing, options.role))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("produce", "produce-one", "work"))
    parser.add_argument("url", help="of the server: redis://HOST:PORT")
    parser.add_argument("--count", type=int, default=0, help="how many items")
    parser.add_argument("--first", type=int, default=0, help="the number of the first item")
    parser.add_argument("--reliable", action="store_true", help="in the documented reliable setting, not the fastest")
    parser.add_argument("--way", default="", help="which of several ways, where the adapter knows several")
    parser.add_argument("--history", metavar="FILE", help="append what happens to this file")
    parser.add_argument("--seconds", type=float, default=0, help="how long a handler works on an item")
    parser.add_argument("--pause", type=float, default=0, help="seconds between two items, on average")
    return parser


async def _produce(producing: Producing, role: str) -> None:
    items = [f"item-{number:08d}" for number in range(_options.first, _options.first + _options.count)]
    async with _awaited(producing(_options.url)) as (add, add_many):
        started = time.perf_counter()
        if role == "produce":
            await _add_many(add_many, items)
        else:
            await _add_one_by_one(add, items)
        if _options.history is None:
            _report(time.perf_counter() - started)


@contextlib.asynccontextmanager
async def _awaited(producing: Any) -> Any:
    if hasattr(producing, "__aenter__"):
        async with producing as calls:
            yield calls
    else:
        with producing as calls:
            yield calls


async def _add_many(add_many: Callable[[Sequence[str]], Any], items: Sequence[str]) -> None:
    for start in range(0, len(items), CHUNK):
        added = add_many(items[start : start + CHUNK])
        if asyncio.iscoroutine(added):
            await added


async def _add_one_by_one(add: Callable[[str], Any], items: Sequence[str]) -> None:
    awaits = asyncio.iscoroutinefunction(add)
    for number, item in enumerate(items):
        if _options.history is not None:
            _record("adding", item, number)
        try:
            added = add(item)
            if awaits:
                await added
        except Exception as error:
            if _options.history is None:
                raise
            # Whether it was added is not known, and no item of which more than this can be said.
            _record("failed", item, number)
            print(f"{item}: {error!r}", file=sys.stderr)
        else:
            if _options.history is not None:
                _record("added", item, number)
        if _options.pause:
            await asyncio.sleep(random.uniform(0.5, 1.5) * _options.pause)
