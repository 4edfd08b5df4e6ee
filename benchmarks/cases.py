"""The benchmarks. Each is a function that says what the bare client does and what redset does for the same result.

A new one takes a few lines: :func:`benchmark` says on which kinds of set it runs and what waits before each sample; the
function is called once for each kind, face and serializer, and its sides are called for one item after the other.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeAlias

from measure import Comparison, Side
from stage import BARE, KEYED, PERIODIC, REDSET, TTL, Kind, Stage

__all__ = ("BENCHMARKS", "Benchmark")

Define: TypeAlias = Callable[[Stage], Comparison]

ALL: tuple[Kind, ...] = ("sorted", "time", "scheduled")


@dataclass(frozen=True)
class Benchmark:
    name: str
    define: Define
    kinds: tuple[Kind, ...]
    #: How many calls make one sample: as many as take some ten milliseconds.
    calls: int
    #: How many items wait at the beginning of a sample.
    waiting: int
    #: How many rounds are enough, where each takes long.
    rounds: int | None


BENCHMARKS: list[Benchmark] = []


def benchmark(
    name: str, *kinds: Kind, calls: int = 300, waiting: int = 0, taken_by_each: int = 0, rounds: int | None = None
) -> Callable[[Define], Define]:
    """Registers a benchmark.

    :param calls: how many calls make one sample.
    :param waiting: how many items wait at the beginning of each sample, beside those that the calls take.
    :param taken_by_each: how many items each call takes.
    :param rounds: how many rounds are enough, where each takes long.
    """

    def register(define: Define) -> Define:
        BENCHMARKS.append(Benchmark(name, define, kinds, calls, waiting + calls * taken_by_each, rounds))
        return define

    return register


@benchmark("add", "sorted", "time")
def add(stage: Stage) -> Comparison:
    zadd, dumps, score = stage.client.zadd, stage.dumps, stage.score
    return Comparison(
        "ZADD",
        bare=Side(BARE, lambda item: zadd(BARE, {dumps(item): score()})),
        redset=Side(REDSET, stage.set().add),
    )


@benchmark("update-1000", "sorted", "time", calls=10)
def update_1000(stage: Stage) -> Comparison:
    zadd, dumps, score, ss, items = stage.client.zadd, stage.dumps, stage.score, stage.set(), stage.items(1000)
    return Comparison(
        "ZADD of 1000",
        bare=Side(BARE, lambda _: zadd(BARE, {dumps(item): score() for item in items})),
        redset=Side(REDSET, lambda _: ss.update(items)),
    )


def _zpopmin(stage: Stage, number: int) -> Side:
    """The bare client's side of whatever takes ``number`` items."""
    zpopmin, loads = stage.client.zpopmin, stage.loads
    if number == 1:
        return Side(BARE, lambda _: zpopmin(BARE, 1), lambda rows: loads(rows[0][0]))
    return Side(BARE, lambda _: zpopmin(BARE, number), lambda rows: [loads(item) for item, _ in rows])


@benchmark("pop", *ALL, taken_by_each=1)
def pop(stage: Stage) -> Comparison:
    ss = stage.set()
    return Comparison("ZPOPMIN", bare=_zpopmin(stage, 1), redset=Side(REDSET, lambda _: ss.pop()))


@benchmark("pop-due", "scheduled", taken_by_each=1)
def pop_due(stage: Stage) -> Comparison:
    """The least that a client without scripts can do: look, and have it when it is we who removed it.

    ZPOPMIN takes what is not due. In a transaction, ZRANGE with ZREMRANGEBYRANK removes an item that is not due when
    none is, and with ZREMRANGEBYSCORE everything that is due. This has a fault left: an item that is put off between
    the two calls is handed out all the same.
    """
    zrange, zrem, loads, ss = stage.client.zrange, stage.client.zrem, stage.loads, stage.set()

    def look_and_remove(_: Any) -> Any:
        while due := zrange(BARE, "-inf", time.time(), byscore=True, offset=0, num=1):
            if zrem(BARE, due[0]):
                return loads(due[0])
        return None

    async def look_and_remove_awaited(_: Any) -> Any:
        while due := await zrange(BARE, "-inf", time.time(), byscore=True, offset=0, num=1):
            if await zrem(BARE, due[0]):
                return loads(due[0])
        return None

    return Comparison(
        "ZRANGE, ZREM",
        bare=Side(BARE, look_and_remove if stage.face == "blocking" else look_and_remove_awaited),
        redset=Side(REDSET, lambda _: ss.pop()),
    )


@benchmark("pop-due-script", "scheduled", taken_by_each=1)
def pop_due_script(stage: Stage) -> Comparison:
    """The least that a client can do with a script of its own: without redset's checks, by the client's clock."""
    script = """
        local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', '0', '1')
        if due[1] then redis.call('ZREM', KEYS[1], due[1]) end
        return due[1]
    """
    evalsha, sha, loads, ss = stage.client.evalsha, stage.control.script_load(script), stage.loads, stage.set()
    return Comparison(
        "EVALSHA (least)",
        bare=Side(BARE, lambda _: evalsha(sha, 1, BARE, time.time()), loads),
        redset=Side(REDSET, lambda _: ss.pop()),
    )


def take(stage: Stage, number: int) -> Comparison:
    ss = stage.set()
    return Comparison(f"ZPOPMIN {number}", bare=_zpopmin(stage, number), redset=Side(REDSET, lambda _: ss.take(number)))


@benchmark("take-100", *ALL, calls=60, taken_by_each=100)
def take_100(stage: Stage) -> Comparison:
    return take(stage, 100)


@benchmark("take-1000", *ALL, calls=10, taken_by_each=1000)
def take_1000(stage: Stage) -> Comparison:
    return take(stage, 1000)


@benchmark("retry-add", "time")
def retry_add(stage: Stage) -> Comparison:
    fast, safe = stage.set(retry_safe=False), stage.set()
    return Comparison("retry_safe=False", bare=Side(REDSET, fast.add), redset=Side(REDSET, safe.add))


def retry_take(stage: Stage, number: int) -> Comparison:
    fast, safe = stage.set(retry_safe=False), stage.set()
    return Comparison(
        "retry_safe=False",
        bare=Side(REDSET, lambda _: fast.take(number)),
        redset=Side(REDSET, lambda _: safe.take(number)),
    )


@benchmark("retry-pop", "time", taken_by_each=1)
def retry_pop(stage: Stage) -> Comparison:
    return retry_take(stage, 1)


@benchmark("retry-take-100", "time", calls=60, taken_by_each=100)
def retry_take_100(stage: Stage) -> Comparison:
    return retry_take(stage, 100)


@benchmark("retry-take-1000", "time", calls=10, taken_by_each=1000)
def retry_take_1000(stage: Stage) -> Comparison:
    return retry_take(stage, 1000)


@benchmark("reserve-ack", "time", taken_by_each=1)
def reserve_ack(stage: Stage) -> Comparison:
    ss = stage.set()

    async def reserve_and_ack(_: Any) -> Any:
        reservation = await ss.reserve()
        await reservation.ack()

    redset = (lambda _: ss.reserve().ack()) if stage.face == "blocking" else reserve_and_ack
    return Comparison("ZPOPMIN", bare=_zpopmin(stage, 1), redset=Side(REDSET, redset))


@benchmark("reserve-ack-100", "time", calls=30, taken_by_each=100)
def reserve_ack_100(stage: Stage) -> Comparison:
    ss = stage.set()

    async def reserve_and_ack(_: Any) -> Any:
        await ss.ack(await ss.reserve_many(100))

    redset = (lambda _: ss.ack(ss.reserve_many(100))) if stage.face == "blocking" else reserve_and_ack
    return Comparison("ZPOPMIN 100", bare=_zpopmin(stage, 100), redset=Side(REDSET, redset))


@benchmark("consume", "time", taken_by_each=1)
def consume(stage: Stage) -> Comparison:
    """Each step acks the item before, so the last one of a sample is not acked."""
    following: Callable[[Any], Any] = next if stage.face == "blocking" else anext
    consumptions, begin = _consumptions(stage)
    redset = Side(REDSET, lambda _: following(consumptions[-1]), before=begin)
    return Comparison("ZPOPMIN", bare=_zpopmin(stage, 1), redset=redset)


@benchmark("consume-100", "time", calls=30, taken_by_each=100)
def consume_100(stage: Stage) -> Comparison:
    consumptions, begin = _consumptions(stage, batch=100)

    def a_batch(_: Any) -> None:
        for _ in range(100):
            next(consumptions[-1])

    async def a_batch_awaited(_: Any) -> None:
        for _ in range(100):
            await anext(consumptions[-1])

    redset = Side(REDSET, a_batch if stage.face == "blocking" else a_batch_awaited, before=begin)
    return Comparison("ZPOPMIN 100", bare=_zpopmin(stage, 100), redset=redset)


def _consumptions(stage: Stage, **options: Any) -> tuple[list[Any], Callable[[], Any]]:
    """What each sample consumes, and what makes it: one that went on would ack what was there before the filling."""
    ss, consumptions = stage.set(), list[Any]()

    def begin() -> None:
        consumptions.append(ss.consume(**options))

    async def begin_awaited() -> None:
        begin()

    return consumptions, begin if stage.face == "blocking" else begin_awaited


# What a set is asked for beside: compared with the same set without it.


@benchmark("keyed-add", "time")
def keyed_add(stage: Stage) -> Comparison:
    return Comparison("without a key", bare=Side(REDSET, stage.set().add), redset=Side(KEYED, stage.keyed().add))


@benchmark("keyed-update-1000", "time", calls=10)
def keyed_update_1000(stage: Stage) -> Comparison:
    without, keyed, items = stage.set(), stage.keyed(), stage.items(1000)
    return Comparison(
        "without a key",
        bare=Side(REDSET, lambda _: without.update(items)),
        redset=Side(KEYED, lambda _: keyed.update(items)),
    )


def keyed_take(stage: Stage, number: int) -> Comparison:
    without, keyed = stage.set(), stage.keyed()
    return Comparison(
        "without a key",
        bare=Side(REDSET, lambda _: without.take(number)),
        redset=Side(KEYED, lambda _: keyed.take(number)),
    )


@benchmark("keyed-pop", "time", taken_by_each=1)
def keyed_pop(stage: Stage) -> Comparison:
    without, keyed = stage.set(), stage.keyed()
    return Comparison(
        "without a key", bare=Side(REDSET, lambda _: without.pop()), redset=Side(KEYED, lambda _: keyed.pop())
    )


@benchmark("keyed-take-1000", "time", calls=10, taken_by_each=1000)
def keyed_take_1000(stage: Stage) -> Comparison:
    return keyed_take(stage, 1000)


def remember_take(stage: Stage, number: int, *, digest: bool = False) -> Comparison:
    forgetful, remembering = stage.set(), stage.set(remember=3600, digest=digest)
    return Comparison(
        "without memory",
        bare=Side(REDSET, lambda _: forgetful.take(number)),
        redset=Side(REDSET, lambda _: remembering.take(number)),
    )


@benchmark("remember-take-1", "time", taken_by_each=1)
def remember_take_1(stage: Stage) -> Comparison:
    return remember_take(stage, 1)


@benchmark("remember-take-1000", "time", calls=10, taken_by_each=1000)
def remember_take_1000(stage: Stage) -> Comparison:
    return remember_take(stage, 1000)


@benchmark("remember-digest-take-1000", "time", calls=10, taken_by_each=1000)
def remember_digest_take_1000(stage: Stage) -> Comparison:
    return remember_take(stage, 1000, digest=True)


def remember_ack_100(stage: Stage, *, digest: bool) -> Comparison:
    """The acks alone: what they ack was reserved before."""
    return Comparison(
        "without memory", bare=_acking_100(stage), redset=_acking_100(stage, remember=3600, digest=digest)
    )


def _acking_100(stage: Stage, **options: Any) -> Side:
    ss, batches = stage.set(**options), list[Any]()

    def reserve() -> None:
        batches[:] = [ss.reserve_many(100, lease=600) for _ in range(ACKS)]

    async def reserve_awaited() -> None:
        batches[:] = [await ss.reserve_many(100, lease=600) for _ in range(ACKS)]

    before = reserve if stage.face == "blocking" else reserve_awaited
    return Side(REDSET, lambda _: ss.ack(batches.pop()), before=before)


#: How many calls make one sample of acks.
ACKS = 30


@benchmark("remember-ack-100", "time", calls=ACKS, taken_by_each=100)
def remember_ack(stage: Stage) -> Comparison:
    return remember_ack_100(stage, digest=False)


@benchmark("remember-digest-ack-100", "time", calls=ACKS, taken_by_each=100)
def remember_digest_ack(stage: Stage) -> Comparison:
    return remember_ack_100(stage, digest=True)


# What is periodic: compared with a scheduled set, which plans nothing.


@benchmark("periodic-add", "scheduled")
def periodic_add(stage: Stage) -> Comparison:
    return Comparison("scheduled", bare=Side(REDSET, stage.set().add), redset=Side(PERIODIC, stage.periodic().add))


@benchmark("periodic-pop", "scheduled", taken_by_each=1)
def periodic_pop(stage: Stage) -> Comparison:
    scheduled, periodic = stage.set(), stage.periodic()
    return Comparison(
        "scheduled", bare=Side(REDSET, lambda _: scheduled.pop()), redset=Side(PERIODIC, lambda _: periodic.pop())
    )


def periodic_take(stage: Stage, number: int) -> Comparison:
    scheduled, periodic = stage.set(), stage.periodic()
    return Comparison(
        "scheduled",
        bare=Side(REDSET, lambda _: scheduled.take(number)),
        redset=Side(PERIODIC, lambda _: periodic.take(number)),
    )


@benchmark("periodic-take-100", "scheduled", calls=60, taken_by_each=100)
def periodic_take_100(stage: Stage) -> Comparison:
    return periodic_take(stage, 100)


@benchmark("periodic-take-1000", "scheduled", calls=10, taken_by_each=1000)
def periodic_take_1000(stage: Stage) -> Comparison:
    return periodic_take(stage, 1000)


@benchmark("in", "time", waiting=300)
def contains(stage: Stage) -> Comparison:
    zscore, dumps, ss = stage.client.zscore, stage.dumps, stage.set()
    return Comparison(
        "ZSCORE",
        bare=Side(BARE, lambda item: zscore(BARE, dumps(item)), lambda score: score is not None),
        redset=Side(REDSET, ss.__contains__ if stage.face == "blocking" else ss.contains),
    )


@benchmark("len", "sorted", waiting=300)
def length(stage: Stage) -> Comparison:
    zcard, ss = stage.client.zcard, stage.set()
    return Comparison(
        "ZCARD",
        bare=Side(BARE, lambda _: zcard(BARE)),
        redset=Side(REDSET, lambda _: len(ss) if stage.face == "blocking" else ss.count()),
    )


@benchmark("index", "time", waiting=300)
def index(stage: Stage) -> Comparison:
    zrank, dumps, ss = stage.client.zrank, stage.dumps, stage.set()
    return Comparison(
        "ZRANK",
        bare=Side(BARE, lambda item: zrank(BARE, dumps(item))),
        redset=Side(REDSET, ss.index),
    )


@benchmark("at", "time", waiting=300)
def at(stage: Stage) -> Comparison:
    zrange, loads, ss = stage.client.zrange, stage.loads, stage.set()
    return Comparison(
        "ZRANGE 7 7",
        bare=Side(BARE, lambda _: zrange(BARE, 7, 7), lambda rows: loads(rows[0])),
        redset=Side(REDSET, lambda _: ss[7] if stage.face == "blocking" else ss.at(7)),
    )


def iterate_paged(stage: Stage, *, waiting: int) -> Comparison:
    """The bare client goes by ranks, a thousand at a time: whatever others add or remove makes it skip or repeat."""
    zrange, loads, ss = stage.client.zrange, stage.loads, stage.set()

    def bare() -> Iterator[Any]:
        for start in range(0, waiting, 1000):
            yield from [loads(item) for item in zrange(BARE, start, start + 999)]

    async def bare_awaited() -> AsyncIterator[Any]:
        for start in range(0, waiting, 1000):
            for item in [loads(item) for item in await zrange(BARE, start, start + 999)]:
                yield item

    async def used_up_awaited(iterator: AsyncIterator[Any]) -> None:
        async for _ in iterator:
            pass

    used_up, blocking = deque[Any](maxlen=0).extend, stage.face == "blocking"
    return Comparison(
        "ZRANGE by 1000",
        bare=Side(BARE, lambda _: used_up(bare()) if blocking else used_up_awaited(bare_awaited())),
        redset=Side(REDSET, lambda _: used_up(iter(ss)) if blocking else used_up_awaited(aiter(ss))),
    )


@benchmark("iterate-100k", "time", calls=1, waiting=100_000)
def iterate_100k(stage: Stage) -> Comparison:
    return iterate_paged(stage, waiting=100_000)


@benchmark("iterate-1m", "time", calls=1, waiting=1_000_000, rounds=5)
def iterate_1m(stage: Stage) -> Comparison:
    return iterate_paged(stage, waiting=1_000_000)


@benchmark("iterate-5000", "time", calls=2, waiting=5000)
def iterate(stage: Stage) -> Comparison:
    """ZRANGE of everything is the fastest way to the items, and holds the server while it collects them."""
    zrange, loads, ss = stage.client.zrange, stage.loads, stage.set()

    async def iterate_awaited(_: Any) -> list[Any]:
        return [item async for item in ss]

    return Comparison(
        "ZRANGE 0 -1",
        bare=Side(BARE, lambda _: zrange(BARE, 0, -1), lambda rows: [loads(item) for item in rows]),
        redset=Side(REDSET, (lambda _: list(ss)) if stage.face == "blocking" else iterate_awaited),
    )


# Expiring sets: the bare client gives items the same scores, by its own clock, and learns how many were new.


@benchmark("seen-add", "sorted")
def seen_add(stage: Stage) -> Comparison:
    zadd, dumps = stage.client.zadd, stage.dumps
    return Comparison(
        "ZADD NX",
        bare=Side(BARE, lambda item: zadd(BARE, {dumps(item): time.time() + TTL}, nx=True), lambda new: new == 1),
        redset=Side(REDSET, stage.seen().add),
    )


#: How many calls make one sample of bulk calls; in the first of these all items are new.
BULK_CALLS = 10


def _add_new_1000(stage: Stage, new: int, **options: Any) -> Comparison:
    """As many as ``new`` of the calls of each sample bring items that are new."""
    items = stage.items(new * 1000)
    batches = [items[start : start + 1000] for start in range(0, len(items), 1000)]
    ours, theirs = cycle(batches), cycle(batches)
    zadd, dumps, seen = stage.client.zadd, stage.dumps, stage.seen(**options)

    def add_bare(_: Any) -> Any:
        until = time.time() + TTL
        return zadd(BARE, {dumps(item): until for item in next(theirs)}, nx=True)

    return Comparison(
        "ZADD NX of 1000", bare=Side(BARE, add_bare), redset=Side(REDSET, lambda _: seen.add_new(next(ours)))
    )


@benchmark("add-new-1000", "sorted", calls=BULK_CALLS)
def add_new_1000(stage: Stage) -> Comparison:
    return _add_new_1000(stage, BULK_CALLS)


@benchmark("add-new-digest-1000", "sorted", calls=BULK_CALLS)
def add_new_digest_1000(stage: Stage) -> Comparison:
    return _add_new_1000(stage, BULK_CALLS, digest=True)


@benchmark("add-known-1000", "sorted", calls=BULK_CALLS)
def add_known_1000(stage: Stage) -> Comparison:
    return _add_new_1000(stage, 1)


@benchmark("seen-contains-1000", "sorted", calls=BULK_CALLS)
def seen_contains_1000(stage: Stage) -> Comparison:
    """Of items that all live."""
    zmscore, dumps, seen, items = stage.client.zmscore, stage.dumps, stage.seen(), stage.items(1000)
    until = time.time() + TTL
    there: dict[str | bytes, float] = {dumps(item): until for item in items}

    def fill(key: str) -> Any:
        stage.control.zadd(key, there)  # type: ignore[type-var] # str and bytes may be mixed

    async def fill_awaited(key: str) -> Any:
        fill(key)

    before = fill if stage.face == "blocking" else fill_awaited
    return Comparison(
        "ZMSCORE of 1000",
        bare=Side(BARE, lambda _: zmscore(BARE, [dumps(item) for item in items]), before=lambda: before(BARE)),
        redset=Side(REDSET, lambda _: seen.contains_many(items), before=lambda: before(REDSET)),
    )
