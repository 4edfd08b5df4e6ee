"""Tasks that call one asyncio client at once, on the model server and an event loop of its own.

The loop's clock stands still while anything can go on. At each turn of the loop any task may be cancelled, those of
redset too. Each request may fail, and takes as many turns as the choices of a run say.
"""

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias
from unittest.mock import patch

from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ResponseError

import redset.aio
from redset.core import calls, claiming, coalescing, consuming, drivers, endings, interruptions, talking, waiting
from redset.exceptions import LeaseLost
from simulator.choices import Choices
from simulator.ledger import Held, Ledger, Violation
from simulator.server_model import ModelServer, Request
from simulator.threads import LEASE, shown


class Loop(asyncio.SelectorEventLoop):
    """An event loop in which time passes when nothing else can go on."""

    def __init__(self, turn: Callable[[], None]) -> None:
        self._moment = time.monotonic()
        super().__init__(Selector(self, turn))
        self.tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._moment

    def sleep(self, seconds: float) -> None:
        self._moment += seconds

    def _make_task(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=self, **options)
        self.tasks.append(task)
        return task


class Selector(selectors.SelectSelector):
    """Looks at nothing: what a loop waits for is its clock."""

    def __init__(self, loop: Loop, turn: Callable[[], None]) -> None:
        super().__init__()
        self._loop = loop
        self._turn = turn

    def select(self, timeout: float | None = None) -> list[Any]:
        self._turn()
        if timeout is None and not self._loop._ready:  # type: ignore[attr-defined]
            raise Violation("nothing can go on, but tasks wait")
        if timeout is not None and timeout > 0 and not self._loop._ready:  # type: ignore[attr-defined]
            self._loop.sleep(timeout)
        return []


#: What can go wrong with a request, besides that its task is cancelled.
FAULTS = ("", "is lost", "arrives late", "is executed, but not answered")

Work: TypeAlias = Callable[["TaskRun"], Coroutine[Any, Any, None]]


@dataclass
class Tasks:
    """What the tasks of a run do."""

    name: str
    works: Sequence[Work]
    #: How many items there are before, and how many of them are reserved.
    items: int = 3
    reserved: int = 0
    cancels: int = 2
    faults: int = 0
    #: How many turns a request takes at most, before and after it is executed.
    turns: int = 1


class TaskRun:
    """One run of some tasks."""

    def __init__(self, scenario: Tasks, choose: Choices) -> None:
        self.scenario = scenario
        self.choose = choose
        self.server = ModelServer()
        self.ledger = Ledger(self.server)
        self.held: list[Held] = []
        self._history: list[tuple[str, Request, str]] = []
        self._late: list[Request] = []
        #: Live requests that were answered as late.
        self._stale: list[Request] = []
        self._cancels = self._faults = self._turns = 0
        self._is_calm = True
        self._own: list[asyncio.Task[Any]] = []

    def run(self) -> None:
        loop = self._loop = Loop(self._turn)
        errors: list[Any] = []
        loop.set_exception_handler(lambda _, context: errors.append(context))
        clock = SimpleNamespace(monotonic=loop.time)
        modules: list[Any] = [calls, claiming, consuming, drivers, endings, talking, waiting]
        before = [module.time for module in modules]
        for module in modules:
            module.time = clock
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self._main())
            self._check_errors(errors)
        except Exception as error:
            error.add_note("\n".join([f"choices {self.choose.chosen}", *self.history]))
            raise
        finally:
            for module, own in zip(modules, before, strict=True):
                module.time = own
            self._is_calm = True
            self._end(loop)

    @property
    def history(self) -> list[str]:
        """What happened, to be read."""
        return [f"{who} {shown(request) if request else ''} {what}".strip() for who, request, what in self._history]

    def _end(self, loop: Loop) -> None:
        with suppress(Exception):
            for _ in range(3):
                for task in loop.tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.sleep(3))
        asyncio.set_event_loop(None)
        loop.close()

    def _check_errors(self, unhandled: list[Any]) -> None:
        if unhandled:
            raise Violation(f"an error that nobody handled: {unhandled}")
        if self._stale:
            raise Violation(f"a live call was answered as stale: {[*map(shown, self._stale)]}")

    async def _main(self) -> None:
        self.set = redset.aio.SortedSet(AwaitedClient(self), "a", scorer=lambda item: 1.0, backoff=lambda attempts: 0.0)
        for number in range(self.scenario.items):
            self.ledger.adds(f"i{number}")
            await self.set.add(f"i{number}")
            self.ledger.was_added(f"i{number}")
        if self.scenario.reserved:
            self.holds(await self.set.reserve_many(self.scenario.reserved))
        self._is_calm, self._cancels, self._faults = False, self.scenario.cancels, self.scenario.faults
        main = asyncio.current_task()
        self._spared = {main}
        tasks = [asyncio.create_task(work(self), name=f"task {at}") for at, work in enumerate(self.scenario.works)]
        await asyncio.wait(tasks)
        for task in tasks:
            self._check_error(task)
        await self._settle()

    def _check_error(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, NoConnection):
            raise error

    async def _settle(self) -> None:
        self._is_calm = True
        await asyncio.sleep(5)
        while self._late:
            self._execute_late(0)
        for held in self.held:
            if held.unknown and not held.ended:
                await end(self, held, "ack")
        for _ in range(20):
            got = await self.set.reserve_many(100)
            for one in got:
                self.ledger.holds("a", one, is_settlement=True)
            if not got:
                break
        owed = [debt for debt in self.set._driver.caller.state.debts if debt.roll_back is not None]
        if owed:
            raise Violation("claims are still owed")
        await asyncio.sleep(5)
        if left := [task for task in self._loop.tasks if not task.done() and task not in self._spared]:
            raise Violation(f"tasks are still at work: {left}")
        self.ledger.check()

    def holds(self, reservations: Sequence[Any]) -> None:
        for reservation in reservations:
            self.held.append(self.ledger.holds("a", reservation))

    # What goes wrong.

    def _turn(self) -> None:
        """One turn of the loop: any task may be cancelled."""
        self._turns += 1
        if self._turns > 5000:
            raise Violation("it never ends")
        if self._is_calm:
            return
        if self._late and self.choose(2):
            self._execute_late(self.choose(len(self._late)))
        if not self._cancels:
            return
        tasks = [task for task in self._loop.tasks if not task.done() and task not in self._spared]
        chosen = self.choose(1 + len(tasks), usual=1)
        if chosen:
            self._cancels -= 1
            task = tasks[chosen - 1]
            self._history.append((f"{task.get_name()} {self._loop.tasks.index(task)} is cancelled", (), ""))
            task.cancel()

    def _execute_late(self, copy: int) -> None:
        request = self._late.pop(copy)
        self._history.append(("late:", request, "arrives"))
        with suppress(ResponseError):
            self.server.execute(request)

    async def execute(self, words: Request) -> Any:
        """Carry a request to the server and its reply back."""
        if words[0] == "BLPOP":
            await asyncio.sleep(0.2)
            return None
        fault = ""
        if self._faults and not self._is_calm:
            fault = FAULTS[self.choose(len(FAULTS))]
            self._faults -= bool(fault)
        try:
            await self._pass_turns()
        except asyncio.CancelledError:
            self._history.append(("", words, "is cancelled before it is executed"))
            if not self._is_calm and self.choose(2):
                self._late.append(words)
            raise
        if fault == "arrives late":
            self._late.append(words)
        reply = None if fault in FAULTS[1:3] else self._execute(words)
        self._history.append(("", words, fault or "is executed"))
        await self._pass_turns()
        if fault:
            raise NoConnection(fault)
        return reply

    def _execute(self, words: Request) -> Any:
        try:
            return self.server.execute(words)
        except ResponseError as error:
            if str(error).startswith("STALE"):
                # The core may have caught what is raised here.
                self._stale.append(words)
            raise

    async def _pass_turns(self) -> None:
        most = self.scenario.turns
        turns = 1 if self._is_calm or most == 1 else self.choose(most + 1)
        for _ in range(turns):
            await asyncio.sleep(0)


class AwaitedClient:
    """A client of asyncio whose requests a run carries."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        return await self._run.execute(words)


# What tasks do.


def add(item: str) -> Work:
    async def work(run: TaskRun) -> None:
        run.ledger.adds(item)
        await run.set.add(item)
        run.ledger.was_added(item)

    return work


async def pop(run: TaskRun) -> None:
    with suppress(KeyError):
        run.ledger.takes([await run.set.pop()])


async def pop_twice(run: TaskRun) -> None:
    for _ in range(2):
        with suppress(NoConnection):
            await pop(run)


def take(num: int) -> Work:
    async def work(run: TaskRun) -> None:
        run.ledger.takes(await run.set.take(num))

    return work


async def reserve(run: TaskRun) -> None:
    with suppress(KeyError):
        run.holds([await run.set.reserve(LEASE)])


async def end(run: TaskRun, held: Held, verb: str) -> None:
    run.ledger.ends(held, verb)
    was_ended = held.ended is not None
    try:
        await getattr(held.reservation, verb)()
    except LeaseLost:
        run.ledger.is_lost(held, verb, was_ended=was_ended)
    except BaseException:
        run.ledger.is_unknown(held, verb)
        raise
    else:
        run.ledger.has_ended(held, verb)


def ack(position: int) -> Work:
    async def work(run: TaskRun) -> None:
        await end(run, run.held[position], "ack")

    return work


def ack_again(position: int) -> Work:
    """Ask for the same again after a failure."""

    async def work(run: TaskRun) -> None:
        for _ in range(3):
            try:
                await end(run, run.held[position], "ack")
            except NoConnection:
                continue
            return

    return work


def nack(position: int) -> Work:
    async def work(run: TaskRun) -> None:
        await end(run, run.held[position], "nack")

    return work


def consume(count: int, batch: int = 1, slow: float = 0.0) -> Work:
    async def work(run: TaskRun) -> None:
        loop = run.set.consume(LEASE, batch=batch, wait=0)
        met: set[int] = set()
        try:
            async with loop:
                async for reservation in loop:
                    for one in (reservation, *loop._ready):
                        if id(one) not in met:
                            met.add(id(one))
                            run.ledger.holds("a", one).asked += ["ack", "again", "nack"]
                    await asyncio.sleep(slow)
                    if len(met) >= count:
                        break
        finally:
            if loop.lost:
                raise Violation(f"{loop.lost} acks of a consumer were told that their leases are lost")

    return work


TASKS = {
    one.name: one
    for one in (
        Tasks("pops", [pop, pop, pop], cancels=1),
        Tasks("pops of two", [pop, pop], items=2),
        Tasks("pops from few", [pop, pop, pop], items=2, cancels=1),
        Tasks("pops and a take", [pop, take(2), pop], items=4, cancels=1),
        Tasks("pops that fail", [pop, pop, pop], cancels=0, faults=2),
        Tasks("pops that fail and are cancelled", [pop, pop], cancels=1, faults=1),
        Tasks("reserves", [reserve, reserve, reserve], cancels=1),
        Tasks("adds", [add("x"), add("y"), add("z")], items=0, cancels=1),
        Tasks("acks", [ack(0), ack(1), ack(2)], reserved=3, cancels=1),
        Tasks("acks that fail", [ack_again(0), ack_again(1), ack_again(2)], reserved=3, cancels=0, faults=2),
        Tasks("the same ack", [ack_again(0), ack_again(0), ack_again(0)], items=1, reserved=1, cancels=1, faults=1),
        Tasks(
            "the same ack in a group",
            [ack_again(1), ack_again(0), ack_again(0)],
            items=2,
            reserved=2,
            cancels=1,
            faults=1,
        ),
        Tasks("ends", [ack(0), nack(1), ack(2)], reserved=3, cancels=1),
        Tasks("consumers", [consume(2), consume(2)], cancels=1),
        Tasks("slow consumers", [consume(3, 3, 1.5), consume(3, 3, 1.5)], items=6, cancels=1),
        Tasks("consumers that fail", [consume(2), consume(2)], cancels=0, faults=1),
    )
}

#: What takes too long to be tried with every choice, but for a fault that is found soon.
LONG = {"a part and a debt": Tasks("a part and a debt", [pop, pop, pop], cancels=1, faults=1)}


def random_tasks(rng: random.Random) -> Tasks:
    """Some tasks that make calls of all kinds, while many things go wrong."""

    def work() -> Work:
        works = [
            *(pop, pop_twice, reserve, take(rng.randrange(1, 6)), add(f"x{rng.random()}")),
            *(ack(rng.randrange(4)), ack_again(rng.randrange(4)), nack(rng.randrange(4))),
            consume(rng.randrange(1, 6), rng.choice((1, 2, 3)), rng.choice((0.0, 0.0, 1.5, 35.0))),
        ]
        return rng.choice(works)

    return Tasks(
        "random",
        [work() for _ in range(rng.randrange(2, 10))],
        items=rng.randrange(4, 10),
        reserved=4,
        cancels=rng.randrange(5),
        faults=rng.randrange(5),
        turns=rng.randrange(1, 4),
    )


@contextmanager
def simulated_tasks() -> Iterator[None]:
    """Run the core with calls of four items at most, and without signals."""
    with (
        patch.object(interruptions, "_NUMBERS", ()),
        patch.multiple(coalescing, CHUNK=4),
        patch.multiple(calls, LARGE=1 << 30),
    ):
        yield
