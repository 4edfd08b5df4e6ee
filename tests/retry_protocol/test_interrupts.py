"""Interruptions at each bytecode of redset's own code: the error passes through, and items and connections are safe.

Python calls a signal handler between two bytecodes of the main thread. What the handler raises is an interruption:
Ctrl-C, or a job's time limit. These tests call a handler before the n-th bytecode that redset executes, for each n.
"""

import atexit
import functools
import gc
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self
from unittest.mock import patch

import pytest
import redis

import redset
from redset.core import drivers
from redset.core.calls import state_of
from redset.core.definition import Definition
from redset.core.keys import Keys
from servers import Server

pytestmark = pytest.mark.no_cover

#: Whether each step of each method is interrupted, and not only some of redset's bytecodes, each once.
ALL = int(os.environ.get("REDSET_TEST_MORE", "1")) > 1

#: In how many of its bytecodes an interruption of a function loses something. Behind the commit point of a claim, its
#: items count as received, and the caller does not have them yet. A block that is not entered yet, or is about to be
#: left, cannot end its lease. Python itself looks for signals at the first bytecode of a function and behind calls, so
#: at few of these.
LOSSES = {
    "talking.receive": 12,
    "talking.follow": 4,
    "drivers.Driver._run": 16,
    "drivers.Driver.follow": 1,
    "expiring.Expiring.pop": 1,
    "reservations.Reservation.__enter__": 3,
    "reservations.Reservation.__exit__": 1,
    "sets.Loop.__exit__": 1,
    "locks.Lock.__enter__": 2,
    "locks.Lock.__exit__": 3,
}
#: The last bytecodes of the methods that claim.
LOSSES |= {f"sets.SortedSet.{name}": 1 for name in ("pop", "pop_max", "take", "take_max", "reserve", "reserve_many")}
LOSSES |= {"sets.ExpiringSet.pop": 1}
LOSSES |= {f"several.Several.{name}": 1 for name in ("pop", "take", "reserve", "reserve_many")}

SECONDS = 600.0


class TimeLimit(Exception):
    """As Celery and RQ have one: a signal handler raises it."""


class Interruption:
    """The signal that comes at the n-th bytecode that redset executes in this block."""

    package = str(Path(redset.__file__).parent)
    #: The one whose block is executed.
    present: "Interruption | None" = None

    def __init__(self, step: int, error: BaseException, seen: set[Any] | None = None) -> None:
        self._left = step
        self.error = error
        #: The places that need no interruption.
        self._seen = seen
        #: Of places that were not seen before, one of so many is interrupted.
        self.every = 1
        self.place = ""
        self.function = ""

    def __enter__(self) -> Self:
        signal.signal(signal.SIGUSR1, self._handle)
        if sys.version_info >= (3, 12):
            Interruption.present = self
            watch()
        else:
            sys.settrace(self._called)
        return self

    def __exit__(self, *raised: object) -> None:
        Interruption.present = None
        sys.settrace(None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        raise self.error

    def _called(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.package):
            return None
        frame.f_trace_opcodes = True
        return self._stepped

    def _stepped(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.step(frame, frame.f_lasti)
        return self._stepped

    def step(self, frame: FrameType, offset: int) -> None:
        """Before each bytecode."""
        self._left -= 1
        place = (frame.f_code, offset)
        if self._left > 0 or (self._seen is not None and (place in self._seen or not self._is_due(place))):
            return
        self._left = sys.maxsize
        self.function = f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
        self.place = f"{self.function}, line {frame.f_lineno}"
        signal.getsignal(signal.SIGUSR1)(signal.SIGUSR1, frame)  # type: ignore[operator,misc]

    def _is_due(self, place: Any) -> bool:
        assert self._seen is not None
        self._seen.add(place)
        return len(self._seen) % self.every == 0


@functools.cache
def watch() -> None:
    """Have the present interruption see each bytecode: Python 3.13 forgets that a trace function asked for them."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore] # since Python 3.12
    thread = threading.get_ident()

    def stepped(code: Any, offset: int) -> Any:
        if not code.co_filename.startswith(Interruption.package):
            return monitoring.DISABLE
        if Interruption.present is not None and threading.get_ident() == thread:
            Interruption.present.step(sys._getframe(1), offset)
        return None

    monitoring.use_tool_id(4, "test_interrupts")
    monitoring.register_callback(4, monitoring.events.INSTRUCTION, stepped)
    monitoring.set_events(4, monitoring.events.INSTRUCTION)
    atexit.register(monitoring.set_events, 4, 0)


Call = Callable[[], Any]


class Place:
    """The sets of a run, on a client with a single connection: if an interruption leaks it, the next call fails."""

    def __init__(self, url: str, connections: str) -> None:
        self.raw = redis.Redis.from_url(url)
        self.client = redis.Redis.from_url(url, max_connections=1)
        options: Any = {"connections": connections}
        self.jobs = redset.SortedSet[str](self.client, "jobs", lock_timeout=0.05, **options)
        self.limited = redset.SortedSet[Any](self.client, "jobs", serializer=json, max_attempts=2, **options)
        self.keyed = redset.SortedSet[str](self.client, "jobs", key=str, remember=SECONDS, duplicates="keep", **options)
        self.due = redset.ScheduledSet[str](self.client, "jobs", **options)
        self.feeds = redset.PeriodicSet[str](self.client, "jobs", SECONDS, **options)
        self.seen = redset.ExpiringSet[str](self.client, "jobs", SECONDS, **options)
        self.others = redset.SortedSet[str](self.client, "others", **options)
        self.several = redset.first_of(self.others, self.jobs)
        self.sets: Any = [self.jobs, self.limited, self.keyed, self.due, self.feeds, self.seen]
        self.links = state_of(self.client).links
        if self.links is not None:
            self.links.connections.timeout = 0.5
        self._reset = self.raw.register_script(
            "redis.call('FLUSHALL') redis.call('ZADD', 'jobs', 1, 'a', 2, 'b', 3, 'c')"
            "redis.call('ZADD', 'others', 1, 'd')"
        )

    def reset(self) -> None:
        self._reset()

    def items(self) -> dict[bytes, set[bytes]]:
        """The items in each state, by the key."""
        keys, others = Keys("jobs"), Keys("others")
        pipeline = self.raw.pipeline(transaction=False)
        for key in (keys.waiting, keys.leased, keys.parked, keys.dead, others.waiting, others.leased):
            pipeline.zrange(key, 0, -1)
        pipeline.hkeys(keys.deliveries)
        pipeline.keys("*living*")
        waiting, leased, parked, dead, *of_others, delivered, living = pipeline.execute()
        found = {b"waiting": waiting, b"leased": leased, b"parked": parked, b"dead": dead, b"delivered": delivered}
        found[b"waiting"] += of_others[0]
        found[b"leased"] += of_others[1]
        for key in living:
            found[b"living"] = self.raw.zrange(key, 0, -1)
        return {key: set(items) for key, items in found.items()}

    def check_connections(self) -> None:
        """No link is lost or is waited for, and none has a reply that is not its own."""
        if self.links is not None:
            assert not self.links._queue, "a thread that has gone waits for a link"
            if len(self.links._all) != len(self.links._idle):
                # Between the first bytecodes of a handler an error loses its context. Signals do not come there.
                gc.collect()
            assert len(self.links._all) == len(self.links._idle), "a link is in use by nobody"
        known = self.raw.zmscore("jobs", ["a", "b", "c"])
        assert self.jobs.scores(["a", "b", "c"]) == known
        assert self.client.echo("mine") == b"mine"


@dataclass
class Method:
    """A call that is interrupted, and what must hold then."""

    name: str
    #: Prepares the sets and returns the call.
    prepare: Callable[[Place], Call]
    #: Whether it gives the caller items, which must be back if it is interrupted. Else it happened or it did not.
    claims: bool = False
    #: Whether the same call may be made again, and then has the same result.
    again: bool = True
    #: What else must hold after an interruption.
    check: Callable[[Place], None] | None = None
    #: The errors that mean that there is nothing left to do.
    fine: tuple[type[Exception], ...] = ()
    #: Whether redset knew already that it was executed: asked for again, an end says then that the lease is over.
    answered: Callable[[Place], bool] = lambda place: False
    #: Whether it is a block that ends the lease of its item however it is left.
    blocks: bool = False
    #: Whether all items are where they should be, instead of the above.
    left: Callable[[Place], bool] | None = None


def claim(name: str, call: Callable[[Place], Any], **options: Any) -> Method:
    return Method(name, lambda place: lambda: call(place), claims=True, **options)


def change(name: str, call: Callable[[Place], Any], **options: Any) -> Method:
    return Method(name, lambda place: lambda: call(place), **options)


def owing(name: str, debts: int, call: Callable[[Place], Any]) -> Method:
    """A claim after others whose replies were lost: it rolls these back, or the next one does."""

    def prepare(place: Place) -> Call:
        place.reset()
        state_of(place.client).forget()
        for _ in range(debts):
            with pytest.raises(redis.ConnectionError), patch.object(drivers.Driver, "_carry_out", lose_reply):
                place.jobs.pop()
        return lambda: call(place)

    return Method(name, prepare, left=lambda place: sorted(place.jobs.take(9)) == ["a", "b", "c"])


carry_out = drivers.Driver._carry_out


def lose_reply(driver: drivers.Driver, request: Any) -> Any:
    carry_out(driver, request)
    raise redis.ConnectionError("lost")


def end(name: str, call: Callable[[Place, list[Any]], Any], **options: Any) -> Method:
    def prepare(place: Place) -> Call:
        mine = place.jobs.reserve_many(2, lease=SECONDS)
        place.ours = mine  # type: ignore[attr-defined]
        return lambda: call(place, mine)

    def check(place: Place) -> None:
        assert not any(one.lost for one in place.ours if not one._end_known)  # type: ignore[attr-defined]

    def answered(place: Place) -> bool:
        return any(one._end_known for one in place.ours)  # type: ignore[attr-defined]

    return Method(name, prepare, check=check, answered=answered, **options)


def dead(name: str, call: Callable[[Any], Any], **options: Any) -> Method:
    def prepare(place: Place) -> Call:
        for one in place.jobs.reserve_many(2):
            one.bury("why")
        return lambda: call(place.jobs.dead_letters)

    return Method(name, prepare, **options)


def leave(one: Any, error: type[Exception] | None) -> None:
    with suppress(ArithmeticError), one:
        if error is not None:
            raise error


def lives(call: Callable[[Any], Any]) -> Callable[[Place], Call]:
    def prepare(place: Place) -> Call:
        place.raw.flushall()
        place.seen.add_new(["x", "y"])
        return lambda: call(place.seen)

    return prepare


def ticks(call: Callable[[Any], Any]) -> Callable[[Place], Call]:
    def prepare(place: Place) -> Call:
        place.raw.flushall()
        place.feeds.update(["x", "y"], first=1)
        return lambda: call(place.feeds)

    return prepare


class Loop:
    """What a consumer did when it was interrupted: an item that it saw and left is done, any other waits."""

    def __init__(self, how: str, batch: int, count: int, *, of_several: bool = False) -> None:
        self.how, self.batch, self.count, self.of_several = how, batch, count, of_several
        self.begun: list[str] = []

    def prepare(self, place: Place) -> Call:
        self.begun = []
        for number in range(3):
            place.raw.zadd("jobs", {f"{number}": 10 + number})
        return lambda: self.run(place)

    def run(self, place: Place) -> None:
        jobs: Any = place.several if self.of_several else place.jobs
        loop = jobs.consume(lease=SECONDS, batch=self.batch, wait=0)
        if self.how == "for":
            for one in loop:
                self.begun.append(one.item)
                if len(self.begun) == self.count:
                    break
            return
        if self.how == "with":
            with loop:
                self.ask(loop)
            return
        try:
            self.ask(loop)
        finally:
            loop.close()

    def ask(self, loop: Any) -> None:
        for _ in range(self.count):
            self.begun.append(next(loop).item)

    def left(self, place: Place) -> bool:
        """Whether each item is where it should be."""
        found = place.items()
        items = {b"a", b"b", b"c", b"d", b"0", b"1", b"2"}
        done = items - found[b"waiting"]
        begun = [item.encode() for item in self.begun]
        return not found[b"leased"] and done <= set(begun) and done >= set(begun[:-1])


def loops(name: str, how: str, batch: int, count: int, *, of_several: bool = False) -> Method:
    loop = Loop(how, batch, count, of_several=of_several)
    return Method(name, loop.prepare, left=loop.left)


def queueing(place: Place) -> Call:
    """Another thread has the only link for some milliseconds."""

    def pop() -> Any:
        if place.links is None:
            return place.jobs.pop()
        held = [place.links.take()]
        timer = threading.Timer(0.003, lambda: place.links.put(held.pop()))
        timer.start()
        try:
            return place.jobs.pop()
        finally:
            timer.join()

    return pop


def waits(seconds: float, listen: float, lateness: float) -> Callable[[Place], Call]:
    def prepare(place: Place) -> Call:
        place.raw.flushall()
        # It ends blocking commands on time.
        place.raw.config_set("hz", 500)
        constants: Any = Definition
        constants.longest_listen = listen
        constants = drivers
        constants.LATENESS = lateness
        return lambda: suppressed(KeyError, lambda: place.jobs.pop(wait=seconds))

    return prepare


def suppressed(kind: type[Exception], call: Call) -> Any:
    with suppress(kind):
        return call()


def keep(place: Place) -> Call:
    mine = place.jobs.reserve(lease=SECONDS)

    def block() -> None:
        with mine.keep_alive():
            pass

    return block


def no_keeper(place: Place) -> None:
    for thread in threading.enumerate():
        if thread.name == "redset keep_alive":
            thread.join(10)
            assert not thread.is_alive()


def locks(place: Place) -> Call:
    place.jobs.lock._entries.clear()

    def block() -> None:
        with place.jobs.lock:
            pass

    return block


def no_lock(place: Place) -> bool:
    return not place.raw.keys("*lock*") and not place.jobs.lock._entries


METHODS: dict[str, list[Method]] = {
    "claims": [
        claim("pop", lambda place: place.jobs.pop()),
        claim("pop_max", lambda place: place.jobs.pop_max()),
        claim("take", lambda place: place.jobs.take(2)),
        claim("take more", lambda place: place.jobs.take(9)),
        claim("take_max", lambda place: place.jobs.take_max(2)),
        claim("reserve", lambda place: place.jobs.reserve()),
        claim("reserve_many", lambda place: place.jobs.reserve_many(2)),
        claim("pop of a keyed set", lambda place: place.keyed.pop()),
        claim("reserve of a keyed set", lambda place: place.keyed.reserve()),
        claim("pop of a scheduled set", lambda place: place.due.pop()),
        claim("pop with json", lambda place: place.limited.take(3)),
        claim("pop and wait", lambda place: place.jobs.pop(wait=1)),
    ],
    "periodic": [
        Method("take", ticks(lambda feeds: feeds.take(2)), again=False),
        Method("reserve", ticks(lambda feeds: feeds.reserve()), claims=True),
        Method("add", ticks(lambda feeds: feeds.add("z"))),
        Method("update", ticks(lambda feeds: feeds.update(["z", "x"]))),
        Method("interval", ticks(lambda feeds: feeds.interval("x"))),
        Method("next_due", ticks(lambda feeds: feeds.next_due("x"))),
    ],
    "debts": [
        owing("take", 1, lambda place: place.jobs.take(2)),
        owing("reserve", 2, lambda place: place.jobs.reserve()),
    ],
    "ends": [
        end("ack", lambda place, mine: mine[0].ack()),
        end("nack", lambda place, mine: mine[0].nack(delay=0)),
        end("again", lambda place, mine: mine[0].again()),
        end("extend", lambda place, mine: mine[0].extend(900)),
        end("bury", lambda place, mine: mine[0].bury("why")),
        end("ack many", lambda place, mine: place.jobs.ack(mine)),
        end("nack many", lambda place, mine: place.jobs.nack(mine, delay=0)),
        end("again many", lambda place, mine: place.jobs.again(mine)),
        end("extend many", lambda place, mine: place.jobs.extend(mine, 900)),
    ],
    "blocks": [
        end("a block", lambda place, mine: leave(mine[0], None), blocks=True),
        end("a block that raises", lambda place, mine: leave(mine[0], ArithmeticError), blocks=True),
        Method("keep_alive", keep, again=False, check=no_keeper),
        Method("lock", locks, left=no_lock),
    ],
    "loops": [
        loops("for", "for", 1, 3),
        loops("for, in batches", "for", 2, 4),
        loops("for, to the end", "for", 4, 99),
        loops("next", "next", 2, 3),
        loops("with", "with", 3, 2),
    ],
    "waiting": [
        Method("for a link", queueing, claims=True),
        Method("on the socket", waits(0.005, 0.2, 0.1)),
        Method("on the server", waits(0.012, 0.005, 0.002)),
    ],
    "several": [
        claim("pop", lambda place: place.several.pop()),
        claim("take", lambda place: place.several.take(9)),
        claim("take and wait", lambda place: place.several.take(2, wait=1)),
        claim("reserve", lambda place: place.several.reserve()),
        claim("reserve_many", lambda place: place.several.reserve_many(3)),
        loops("for", "for", 1, 3, of_several=True),
        loops("for, in batches", "for", 2, 4, of_several=True),
        loops("for, to the end", "for", 4, 99, of_several=True),
        loops("next", "next", 2, 3, of_several=True),
        loops("with", "with", 3, 2, of_several=True),
    ],
    "changes": [
        change("add", lambda place: place.jobs.add("z", 9)),
        change("add nx", lambda place: place.jobs.add("z", 9, nx=True)),
        change("add to a keyed set", lambda place: place.keyed.add("z", 9)),
        change("update", lambda place: place.jobs.update(["y", "z"], score=9)),
        change("increment", lambda place: place.jobs.increment("z", 1)),
        change("discard", lambda place: place.jobs.discard("a")),
        change("remove", lambda place: place.jobs.remove("a"), fine=(KeyError,)),
        change("remove_at", lambda place: place.jobs.remove_at(0), again=False),
        change("remove_slice", lambda place: place.jobs.remove_slice(0, 2), again=False),
        change("remove_between", lambda place: place.jobs.remove_between(1, 2)),
        change("clear", lambda place: place.jobs.clear()),
        change("forget", lambda place: place.keyed.forget("a")),
        change("|=", lambda place: place.jobs.union_update(["y", "z"])),
        change("&=", lambda place: place.jobs.intersection_update(["a"])),
        change("-=", lambda place: place.jobs.difference_update(["a"])),
        change("^=", lambda place: place.jobs.symmetric_difference_update(["a", "z"]), again=False),
    ],
    "dead letters": [
        dead("retry", lambda letters: letters.retry("a")),
        dead("retry_all", lambda letters: letters.retry_all()),
        dead("discard", lambda letters: letters.discard("a")),
        dead("clear", lambda letters: letters.clear()),
        dead("looking", lambda letters: (len(letters), letters[:1], list(letters))),
    ],
    "expiring": [
        Method("add", lives(lambda seen: seen.add("z"))),
        Method("add_new", lives(lambda seen: seen.add_new(["z", "x"]))),
        Method("touch", lives(lambda seen: seen.touch("x"))),
        Method("discard", lives(lambda seen: seen.discard("x"))),
        Method("remove", lives(lambda seen: seen.remove("x")), fine=(KeyError,)),
        Method("pop", lives(lambda seen: seen.pop()), claims=True),
        Method("clear", lives(lambda seen: seen.clear())),
        Method(
            "looking", lives(lambda seen: ("x" in seen, len(seen), list(seen), seen.ttl("x"), seen.contains_many("x")))
        ),
    ],
    "looking": [
        change("peek", lambda place: (place.jobs.peek(), place.jobs.peek_score())),
        change("score", lambda place: (place.jobs.score("a"), place.jobs.scores(["a"]))),
        change("contains", lambda place: ("a" in place.jobs, place.jobs.contains_many(["a"]))),
        change("get", lambda place: (place.keyed.get("a"), place.keyed.is_done("a"))),
        change("count", lambda place: (len(place.jobs), place.jobs.index("a"), place.jobs[0], place.jobs[:2])),
        change("iteration", lambda place: (list(place.jobs), list(place.jobs.with_scores()), place.jobs.stats())),
        change("between", lambda place: list(place.jobs.between(1, 2))),
        change(
            "algebra", lambda place: (place.jobs | {"z"}, place.jobs & {"a"}, place.jobs - {"a"}, place.jobs <= {"a"})
        ),
        change("available", lambda place: place.due.available),
    ],
}


def interrupt(url: str, groups: list[str], connections: str, every: int) -> None:
    """Interrupt each method of some groups at each bytecode. Print how often, and how often items were lost where."""
    logging.disable()
    # What comes out of a generator that a `break` leaves, Python tells nobody but this hook.
    unraised: list[Any] = []
    sys.unraisablehook = lambda told: unraised.append(told.exc_value)
    place = Place(url, connections)
    interrupted, lost = 0, Counter[str]()
    methods = [method for group in groups for method in METHODS[group]]
    for method in methods:
        # So that the server knows the scripts.
        place.reset()
        method.prepare(place)()
    for kind in (KeyboardInterrupt, TimeLimit):
        seen: set[Any] | None = None if ALL else set()
        for method in methods:
            lost_here = Counter[str]()
            for step in itertools.count(1):
                place.reset()
                call = method.prepare(place)
                before = place.items()
                interruption = Interruption(1 if seen is not None else step, kind("now"), seen)
                interruption.every = every
                raised: BaseException | None = None
                try:
                    with interruption:
                        call()
                except BaseException as error:
                    raised = error
                if unraised:
                    raised = unraised.pop()
                if not interruption.place:
                    assert raised is None
                    break
                interrupted += 1
                try:
                    assert raised is interruption.error, f"{raised!r} is raised instead"
                    where = check(place, method, call, before, interruption)
                except BaseException as trouble:
                    trouble.add_note(f"{method.name}, {kind.__name__} at {interruption.place}")
                    raise
                if where:
                    lost_here[where] += 1
                # A traceback keeps what its frames refer to.
                del raised, interruption
            # The most of all methods.
            lost |= lost_here
    print(json.dumps([interrupted, lost]))


def check(place: Place, method: Method, call: Call, before: Any, interruption: Interruption) -> str:
    """Return where the item was lost if it was, else nothing."""
    found = place.items()
    place.check_connections()
    if method.check and not method.again:
        method.check(place)
    if method.left is not None:
        return "" if method.left(place) else interruption.function
    if method.blocks:
        # That of one which is tried again later is negative.
        return "" if (place.raw.zscore(Keys("jobs").leased, "a") or 0) <= 0 else interruption.function
    if method.claims:
        kept = found[b"waiting"] | found[b"dead"] | found.get(b"living", set())
        if found[b"leased"] or kept != before[b"waiting"] | before.get(b"living", set()):
            return interruption.function
        call()
        assert place.items() != before, "the next call works"
        return ""
    if method.again:
        with suppress(*method.fine, *([redset.LeaseLost] if method.answered(place) else [])):
            call()
        after = place.items()
        assert found in (before, after), f"{found} is neither {before} nor {after}"
        if method.check:
            method.check(place)
    return ""


#: The groups of methods of one process, and of how many bytecodes one is interrupted by default.
PROCESSES = [
    (["claims"], "own", 2),
    (["claims"], "client", 9),
    (["debts"], "own", 3),
    (["periodic", "waiting"], "own", 9),
    (["ends", "blocks"], "own", 7),
    (["loops"], "own", 7),
    (["several"], "own", 5),
    (["several"], "client", 19),
    (["ends", "blocks", "loops", "waiting"], "client", 19),
    (["changes", "dead letters", "expiring"], "own", 13),
    (["changes", "dead letters", "expiring", "looking", "periodic"], "client", 37),
    (["looking"], "own", 29),
]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("groups", "connections", "every"),
    [pytest.param(*each, id=f"{', '.join(each[0])}: {each[1]}") for each in PROCESSES],
)
def test_an_interruption_passes_through_and_leaves_all_in_order(
    here: Any, groups: list[str], connections: str, every: int
) -> None:
    interrupted, lost = in_a_process(here, f"interrupt({{url!r}}, {groups!r}, {connections!r}, {every})")

    assert interrupted > 100
    for function, times in lost.items():
        assert times <= LOSSES.get(function, 0), lost


def in_a_process(here: Any, call: str) -> Any:
    """Return what the call prints, in a process of its own: errors from a trace function leave Python changed."""
    if not isinstance(here, Server):
        pytest.skip("no url of a single server")
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", f"import test_interrupts as t; t.{call.format(url=here.url)}"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=None if ALL else 170,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
