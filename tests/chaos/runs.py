"""One run from beginning to end: with faults, then without, until all is drained; and what was recorded of it."""

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from chaos.crew import Crew
from chaos.faults import Nemesis
from chaos.hands import Phase
from chaos.history import Fault, History, Left, Recorder
from chaos.places import Place
from chaos.promises import Promises
from chaos.stories import ADDITIONS
from chaos.workloads import ALL_PROMISES
from redset.core.inspecting import NAMES as TOTALS
from redset.core.keys import Keys

__all__ = ("run",)

#: Seconds: how long draining may get no further, and how long all must have been empty for it to be over. By then,
#: whoever was not answered while things went wrong has asked again, and what was taken for him is put back.
DRAINING = 30.0
QUIET = 3.0

#: How many seconds lie between two faults on the servers, and on workers, on average.
PAUSE = 1.0


def run(
    place: Place,
    seconds: float,
    seed: int,
    directory: Path,
    *,
    bug: str | None = None,
    pause: float = PAUSE,
    without: Collection[str] = (),
) -> History:
    """
    :param seconds: how long things go wrong.
    :param directory: where it is recorded.
    :param bug: a seeded bug that all workers have.
    :param pause: how many seconds lie between two faults, on average.
    :param without: what does not go wrong.
    :raises Crashed: a worker met what nobody has to expect.
    """
    phase, recorder = Phase(directory), Recorder(directory, "run")
    crew = Crew(2, place.door, directory, recorder, seed, bug, place.workloads)
    promised = ALL_PROMISES[place.workloads]
    resharded = [set for set, promises in promised.items() if promises.is_resharded]
    broken_off = threading.Event()
    nemeses = [
        Nemesis(
            f"{name} {seed}",
            {each: hazards[each] for each in hazards if each not in without},
            recorder,
            pause,
            broken_off,
        )
        for name, hazards in (
            (place.name, {**place.hazards, **crew.resharding(resharded)}),
            ("crew", crew.hazards),
        )
    ]
    note_time(place, recorder)
    with closing(recorder), ExitStack() as ends:
        ends.callback(crew.end)
        # Also those that come after one which has met an error of its own: none works on servers that are stopped.
        for nemesis in nemeses:
            ends.callback(nemesis.end)
        crew.start()
        disturb(nemeses, crew, seconds)
        place.heal()
        phase.begin_to_drain()
        with closing(place.raw()) as raw:
            wait_until_drained(raw, crew, promised, directory)
            phase.stop()
            crew.join()
            for set, promises in promised.items():
                recorder.left(left(raw, set, promises))
    return History.read(directory)


def note_time(place: Place, recorder: Recorder) -> None:
    """What time it is for the servers when it begins, from which faults tell how it goes on."""
    began = time.monotonic()
    # The latest that it can have been: checkers want to know what the clock cannot have shown yet.
    epoch = place.now() - began
    recorder.fault(Fault("clock", began, time.monotonic(), "server", {"seconds": 0.0, "epoch": epoch}))


def disturb(nemeses: list[Nemesis], crew: Crew, seconds: float) -> None:
    for nemesis in nemeses:
        nemesis.start()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            time.sleep(0.1)
            crew.check()
    finally:
        for nemesis in nemeses:
            nemesis.end()


def wait_until_drained(raw: Any, crew: Crew, promised: Mapping[str, Promises], directory: Path) -> None:
    """Returns at the latest when it gets no further; what is left then is for ``nothing_stuck`` to see."""
    deadline, fewest = time.monotonic() + DRAINING, math.inf
    drained = [
        Keys(name) for set, promises in promised.items() if promises.ends for name in names_of(raw, set, promises)
    ]
    since = time.monotonic()
    while (now := time.monotonic()) < deadline:
        time.sleep(0.1)
        crew.check()
        there = sum(raw.zcard(key) for keys in drained for key in (keys.waiting, keys.leased, keys.parked))
        if there:
            since = time.monotonic()
        elif now - since >= QUIET:
            if not is_adding(crew, directory):
                return
            since = now
        if there < fewest:
            fewest, deadline = there, time.monotonic() + DRAINING


def is_adding(crew: Crew, directory: Path) -> bool:
    """Whether a worker has not heard yet what became of an addition, as on a busy machine."""
    calls = History.read(directory).calls
    return any(call.completed is None and call.name in ADDITIONS and call.process in crew.working for call in calls)


def names_of(raw: Any, set: str, promises: Promises) -> list[str]:
    """The sets that a set consists of: its shards, as its record names them, or itself."""
    # After a reshard it may have no shards.
    if promises.shards is None or raw.type(Keys(set).waiting) != b"hash":
        return [set]
    return list(json.loads(raw.hget(Keys(set).waiting, "layout"))["names"])


def left(raw: Any, set: str, promises: Promises) -> Left:
    """What is left in a set."""
    if promises.shards is None:
        return left_in(raw, set, promises)
    shards = [left_in(raw, name, promises) for name in names_of(raw, set, promises)]
    states: dict[str, Any] = {
        state: [item for shard in shards for item in getattr(shard, state)]
        for state in ("waiting", "leased", "parked", "dead")
    }
    totals = dict(sum((Counter(shard.totals) for shard in shards), Counter()))
    return Left(set, **states, drained=promises.ends, totals=totals, held=sum(s.held for s in shards), shards=shards)


def left_in(raw: Any, set: str, promises: Promises) -> Left:
    keys = Keys(set)

    def members(key: bytes) -> list[str]:
        return [member.decode() for member in raw.zrange(key, 0, -1)]

    if promises.ttl is not None:
        return Left(set, members(keys.living))
    waiting, leased, parked, dead = map(members, (keys.waiting, keys.leased, keys.parked, keys.dead))
    held = raw.zcount(keys.leased, "(0", "+inf")
    totals = {name.decode(): int(value) for name, value in raw.hgetall(keys.meta).items() if name.decode() in TOTALS}
    return Left(set, waiting, leased, parked, dead, promises.ends, totals, held)
