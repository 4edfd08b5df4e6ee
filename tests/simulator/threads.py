"""Threads that call one client at once, on the model server: every request is carried by the choices of a run.

A scenario says what each thread does. At each step one of the pending requests is carried out, or something goes wrong.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias
from unittest.mock import patch
from weakref import WeakSet

from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import NoScriptError, ResponseError

import redset
from redset.core import calls, claiming, consuming, endings, interruptions, sending, talking, waiting
from redset.core.calls import Call, State
from redset.core.operations import Elsewhere, Listen, Operation
from redset.core.sending import Sleep
from redset.core.talking import ask, follow
from redset.core.updating import Update
from simulator.choices import Choices
from simulator.ledger import Held, Ledger, Violation
from simulator.server_model import NAMES, ModelServer, Request

Talk: TypeAlias = Generator[Any, Any, Any]
#: What one thread does: it yields talks, and is given their results.
Program: TypeAlias = Generator[Talk, Any, None]

LEASE = 60.0


class TimeLimit(Exception):
    """An interruption that is an Exception, such as the time limit of a job."""


class CtrlC(BaseException):
    """An interruption that is none."""


class Abandoned(BaseException):
    """The talk was closed by the garbage collector."""


FAULTS = (NoConnection, TimeLimit, CtrlC, Abandoned)


class Clock:
    """The clock of all processes. It stands still but for pauses."""

    def __init__(self) -> None:
        # Not before the moment at which the core was imported.
        self.now = self.start = time.monotonic()

    def monotonic(self) -> float:
        return self.now


CLOCK = Clock()


class World:
    """One process: its client, its sets and its threads. A forked child is another one, with copies of the parent's."""

    pid = 1

    def __init__(self, server: ModelServer, ledger: Ledger, **options: Any) -> None:
        self.server = server
        self.ledger = ledger
        self.client = Client()
        #: How many it has made.
        self.sessions = 0
        self.held: list[Held] = []
        self.threads: list[Thread] = []
        self.is_child = False
        #: In a child, the last token of each set before the fork.
        self.last_tokens: dict[str, int] = {}
        #: Set when a consumer has to wait.
        self.found_nothing = threading.Event()
        #: In a child, what the present step claimed before the fork: it belongs to the parent.
        self.copies: set[bytes] = set()
        with self.current():
            self.sets = {
                name: redset.SortedSet(
                    self.client, name, scorer=lambda item: 1.0, backoff=lambda attempts: 0.0, **options
                )
                for name in "ab"
            }
        self.state = self.sets["a"]._driver.caller.state

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have the code of the core run in this process."""
        here = SimpleNamespace(urandom=self._random, getpid=lambda: self.pid)
        own: Any = calls
        before = own.os, own.PID
        own.os, own.PID = here, self.pid
        try:
            yield
        finally:
            own.os, own.PID = before

    def _random(self, count: int) -> bytes:
        self.sessions += 1
        return (self.pid << 32 | self.sessions).to_bytes(count, "big")

    def become_child(self, pid: int, server: ModelServer, ledger: Ledger) -> None:
        """Go on as a child of the process that made the same choices."""
        self.is_child = True
        self.pid, self.server, self.ledger = pid, server, ledger
        self.last_tokens = {name.decode(): here.last_token for name, here in server.sets.items()}
        with self.current(), patch.object(calls, "_states", WeakSet([self.state])):
            calls._forget_all()

    def perform(self, operation: Operation[Any], name: str) -> Talk:
        return ask(operation, self.sets[name]._driver.caller, [])

    def follow(self, plan: Any, name: str) -> Talk:
        return follow(plan, self.sets[name]._driver.caller)

    def is_own(self, item: str) -> bool:
        """Whether this process claimed the item: what it inherited belongs to its parent."""
        if item.encode() not in self.copies:
            return True
        # The same item may have been claimed again since.
        self.copies.discard(item.encode())
        return False

    def has_claimed(self, reservation: Any) -> bool:
        """Whether this process claimed the lease; see :meth:`is_own`."""
        return bool(reservation.token > self.last_tokens.get(reservation.set_name, 0))

    def receives(self, items: list[str]) -> None:
        self.ledger.takes([item for item in items if self.is_own(item)])

    def holds(self, name: str, reservations: Sequence[Any]) -> None:
        for reservation in reservations:
            if self.has_claimed(reservation):
                self.held.append(self.ledger.holds(name, reservation))


class Client:
    """A client that is never called: threads carry the requests."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        raise AssertionError(words)


# What threads do.

Step: TypeAlias = Callable[[World], Program]


def add(item: str, name: str = "a") -> Step:
    def program(world: World) -> Program:
        world.ledger.adds(item)
        yield world.perform(world.sets[name]._adding.add(item), name)
        world.ledger.was_added(item)

    return program


def update(*items: str, name: str = "a") -> Step:
    """Add several items in calls of two."""

    def program(world: World) -> Program:
        for item in items:
            world.ledger.adds(item)
        yield world.follow(Update(world.sets[name]._adding).add_all([items]), name)
        for item in items:
            world.ledger.was_added(item)

    return program


def pop(name: str = "a") -> Step:
    def program(world: World) -> Program:
        with missing():
            world.receives([(yield world.follow(world.sets[name]._claims.pop(0), name))])

    return program


def take(num: int, name: str = "a") -> Step:
    def program(world: World) -> Program:
        world.receives((yield world.follow(world.sets[name]._claims.take(num, 0), name)))

    return program


def reserve(name: str = "a") -> Step:
    def program(world: World) -> Program:
        with missing():
            world.holds(name, [(yield world.follow(world.sets[name]._claims.reserve(LEASE, 0), name))])

    return program


def reserve_many(num: int, name: str = "a") -> Step:
    def program(world: World) -> Program:
        world.holds(name, (yield world.follow(world.sets[name]._claims.reserve_many(num, LEASE, 0), name)))

    return program


@contextmanager
def missing() -> Iterator[None]:
    with suppress(KeyError):
        yield


def end(verb: str, *positions: int) -> Step:
    """End the reservations at some positions among those that the process holds."""

    def program(world: World) -> Program:
        held = [world.held[position] for position in positions if position < len(world.held)]
        if not held:
            return
        name = held[0].name
        some = [one.reservation for one in held]
        endings = world.sets[name]._endings
        were_ended = [one.ended is not None for one in held]
        for one in held:
            world.ledger.ends(one, verb)
        plans: dict[str, Any] = {
            "ack": lambda: endings.ack(some),
            "nack": lambda: endings.nack(some, None, "why"),
            "again": lambda: endings.again(some, 0, None),
            "extend": lambda: endings.extend(some, LEASE),
            "bury": lambda: endings.bury(some, "why"),
        }
        try:
            if verb == "ack" and len(some) == 1:
                lost = yield world.perform(endings.ack_one(some[0]), name)
            else:
                lost = yield world.follow(plans[verb](), name)
        except BaseException:
            for one in held:
                world.ledger.is_unknown(one, verb)
            raise
        for one, was_ended in zip(held, were_ended, strict=True):
            if one.reservation in lost:
                world.ledger.is_lost(one, verb, was_ended=was_ended)
            else:
                world.ledger.has_ended(one, verb)

    return program


def consume(count: int, batch: int = 1, name: str = "a", *, survives: bool = False, slow: float = 0.0) -> Step:
    """Consume so many items. The acks of items travel with the claims of the next.

    :param survives: whether the loop goes on after a failure, until it finds nothing.
    :param slow: how many seconds each item takes. After one, acks leave by themselves. After half of the lease, items
        that were not begun are given back.
    """

    def program(world: World) -> Program:
        own, is_empty = world.sets[name], world.found_nothing
        is_empty.clear()
        loop = redset.sets.Consumption(
            own._driver, own._claims, own._endings, LEASE, batch, None if survives else 0, is_empty, None
        )
        met: dict[int, Held] = {}
        began_at = world.server.now
        reservation = None
        try:
            for _ in range(count):
                if not loop._is_ours:
                    return
                reservation = loop._at_hand() or (yield from _next_of(world, loop, name))
                if reservation is None:
                    break
                for one in (reservation, *loop._ready):
                    if id(one) not in met and world.has_claimed(one):
                        met[id(one)] = world.ledger.holds(name, one)
                        # All of these may be asked for when the loop is closed.
                        met[id(one)].asked += ["ack", "again", "nack"]
                CLOCK.now += slow
            yield from _close(world, loop, name)
        finally:
            if loop.lost and world.server.now == began_at:
                raise Violation(f"{loop.lost} acks of a consumer were told that their leases are lost")

    return program


def _next_of(world: World, loop: Any, name: str) -> Generator[Talk, Any, Any]:
    try:
        return (yield world.follow(loop._next(), name))
    except (Abandoned, GeneratorExit):
        raise
    except BaseException:
        with suppress(Exception):
            yield from _close(world, loop, name)
        raise


def _close(world: World, loop: Any, name: str) -> Program:
    """Close a loop, and once more when that fails, as the end of its block does."""
    try:
        yield world.follow(loop._close(), name)
    except Exception:
        yield world.follow(loop._close(), name)
        raise


def settle(name: str = "a") -> Step:
    """Learn what became of the claims whose outcome is unknown."""

    def program(world: World) -> Program:
        own = world.sets[name]._claims

        def plan() -> Generator[Any, Any, None]:
            yield own.roll_back_unknown()

        yield world.follow(plan(), name)

    return program


#: What can happen to a request: whether it is executed now, whether a copy arrives later, and what its caller is told.
OUTCOMES: dict[str, tuple[bool, bool, type[BaseException] | None]] = {
    "is executed, and a copy arrives late": (True, True, None),
    "is lost": (False, False, NoConnection),
    "arrives late": (False, True, NoConnection),
    "is executed, but its reply is lost": (True, False, NoConnection),
    "is executed, its reply is lost, and a copy arrives late": (True, True, NoConnection),
    "is interrupted before it is sent": (False, False, CtrlC),
    "is interrupted, and arrives late": (False, True, CtrlC),
    "is interrupted after it is executed": (True, False, CtrlC),
    "is interrupted by an Exception before it is sent": (False, False, TimeLimit),
    "is interrupted by an Exception, and arrives late": (False, True, TimeLimit),
    "is interrupted by an Exception after it is executed": (True, False, TimeLimit),
    "is abandoned before it is sent": (False, False, Abandoned),
    "is abandoned, and arrives late": (False, True, Abandoned),
    "is abandoned after it is executed": (True, False, Abandoned),
}


@dataclass
class Scenario:
    """What the threads of a process do."""

    name: str
    threads: Sequence[Sequence[Step]]
    #: What is done before, without faults.
    before: Sequence[Step] = ()
    #: What a forked child does.
    child: Sequence[Step] = ()
    #: How many things go wrong at most.
    faults: int = 1
    options: Sequence[tuple[str, Any]] = ()
    #: Whether every received claim leaves a large record.
    large: bool = False
    #: Whether leases expire.
    expires: bool = False
    #: What can go wrong with a request.
    outcomes: Sequence[str] = tuple(OUTCOMES)


class Thread:
    """Runs steps one after the other. It has at most one pending request."""

    def __init__(self, world: World, steps: Sequence[Step]) -> None:
        self.world = world
        self._steps = list(steps)
        self._program: Program | None = None
        self._talk: Talk | None = None
        #: What it waits for: the reply to a request, or the end of a pause where that is empty.
        self.request: Request | None = None
        self.copies: set[bytes] = set()
        #: How long it pauses, and how many requests had been carried out when it did so last.
        self.pause = 0.0
        self.paused_at = -1

    def begin(self) -> None:
        self._advance(lambda: None)

    def answer(self, reply: Any) -> None:
        self._advance(lambda: reply)

    def fail(self, error: BaseException) -> None:
        def failing() -> Any:
            raise error

        self._advance(failing)

    def only_finishes(self, copies: set[bytes]) -> None:
        """In a forked child: end the present step, which has copies of these items."""
        self._steps = []
        self.copies = copies

    def abandon(self) -> None:
        """Close the talk as the garbage collector does. The thread goes on with its next step."""
        assert self._talk is not None
        assert self._program is not None
        talk, program = self._talk, self._program
        self._talk = self._program = self.request = None
        with self.world.current():
            talk.close()
            try:
                program.throw(Abandoned())
            except (Abandoned, StopIteration):
                pass
            else:
                raise Violation("a step went on after it was abandoned")
        self.begin()

    def _advance(self, outcome: Callable[[], Any]) -> None:
        """Go on until a request is pending or all is done."""
        self.request = None
        with self.world.current():
            self.world.copies = self.copies
            while self._program is not None or self._steps:
                if self._program is None:
                    self.world.copies = self.copies = set()
                    self._program = self._steps.pop(0)(self.world)
                    outcome = lambda: None
                request = self._go_on(outcome)
                if isinstance(request, tuple | Sleep):
                    self.request, self.pause = (request, 0.0) if isinstance(request, tuple) else ((), request.seconds)
                    return
                outcome = request.do if isinstance(request, Elsewhere) else lambda: None
                if isinstance(request, Listen):
                    self.world.found_nothing.set()
                assert request is None or isinstance(request, Elsewhere | Listen)

    def _go_on(self, outcome: Callable[[], Any]) -> Any:
        """Go on to the next request of this step. None when the step is done."""
        while True:
            if self._talk is not None:
                try:
                    return _resume(self._talk, outcome)
                except StopIteration as stop:
                    result = stop.value
                    outcome = _returning(result)
                except BaseException as error:
                    outcome = _raising(error)
                self._talk = None
            assert self._program is not None
            try:
                self._talk = _resume(self._program, outcome)
            except StopIteration:
                self._program = None
                return None
            except FAULTS:
                self._program = None
                return None
            outcome = lambda: None


def _resume(generator: Generator[Any, Any, Any], outcome: Callable[[], Any]) -> Any:
    try:
        value = outcome()
    except BaseException as error:
        return generator.throw(error)
    return generator.send(value)


def _returning(value: Any) -> Callable[[], Any]:
    return lambda: value


def _raising(error: BaseException) -> Callable[[], Any]:
    def raising() -> Any:
        raise error

    return raising


class Run:
    """One run of a scenario, with the choices that it was given. See :func:`simulated`."""

    def __init__(self, scenario: Scenario, choose: Choices) -> None:
        self.scenario = scenario
        CLOCK.now = CLOCK.start
        core: Any = calls
        core.LARGE = 0 if scenario.large else 1 << 30
        self.choose = choose
        self.server = ModelServer()
        self.ledger = Ledger(self.server)
        self._history: list[tuple[str, Request, str]] = []
        self.late: list[Request] = []
        self._faults = scenario.faults
        self._steps = 0
        #: How many requests were carried out, or disturbed.
        self._events = 0
        self._can_fork = bool(scenario.child)
        self._outcomes_of_pauses = [one for one in scenario.outcomes if one.endswith("before it is sent")]
        self._chosen_before: list[int] = []
        world = World(self.server, self.ledger, **dict(scenario.options))
        self.worlds = [world]
        with world.current():
            self._alone(Thread(world, scenario.before))
        world.threads = [Thread(world, steps) for steps in scenario.threads]
        for thread in world.threads:
            thread.begin()

    def _alone(self, thread: Thread) -> None:
        """Run a thread without faults."""
        thread.begin()
        for _ in range(500):
            if thread.request is None:
                return
            self._carry(thread, "settles")
        raise Violation("it never ends")

    def run(self) -> None:
        try:
            while self.step():
                self._check_length()
            self._settle()
        except Exception as error:
            error.add_note("\n".join([f"choices {self.choose.chosen}", *self.history]))
            raise

    def _check_length(self) -> None:
        if self._steps > 300:
            raise Violation("it never ends")

    @property
    def history(self) -> list[str]:
        """What happened, to be read."""
        return [" ".join(filter(None, (who, shown(request), what))) for who, request, what in self._history]

    def step(self) -> bool:
        """Make one choice. False when nothing is left to be done."""
        pending = [(world, thread) for world in self.worlds for thread in world.threads if thread.request is not None]
        if not pending:
            return False
        self._chosen_before = self.choose.chosen
        # A thread that goes on and pauses again waits for something to happen.
        ready = [one for _, one in pending if one.request or one.paused_at != self._events]
        ready = ready or [one for _, one in pending]
        options: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(self._carry, (one, "")) for one in ready]
        options += [(self._arrive, (copy,)) for copy in range(len(self.late))]
        usual = len(options)
        if self._faults:
            for world, thread in pending:
                if not thread.request:
                    options += [(self._disturb, (thread, outcome)) for outcome in self._outcomes_of_pauses]
                    continue
                options += [(self._disturb, (thread, outcome)) for outcome in self.scenario.outcomes]
                if len(self.scenario.outcomes) == len(OUTCOMES):
                    options += [(self._repeat, (thread,)), (self._refuse, (thread,))]
                    if thread.request[0] == "EVALSHA":
                        options.append((self._forget_scripts, (thread,)))
                if self._can_fork and not world.is_child:
                    options += [(self._fork, (thread, False))]
                    if shown(thread.request).startswith(("add", "claim")):
                        # Only there may a function of the user run: a scorer before the next request, or a serializer.
                        options += [(self._fork, (thread, True))]
            if self.scenario.expires:
                options.append((self._expire, ()))
        does, given = options[self.choose(len(options), usual)]
        does(*given)
        self._steps += 1
        return True

    # What can happen.

    def _carry(self, thread: Thread, how: str) -> None:
        assert thread.request is not None
        self._note(thread, how or "is answered")
        if thread.request:
            self._events += 1
        else:
            thread.paused_at = self._events
            CLOCK.now += thread.pause
        try:
            reply = self._execute(thread.request) if thread.request else None
        except ResponseError as error:
            thread.fail(error)
        else:
            thread.answer(reply)

    def _arrive(self, copy: int) -> None:
        request = self.late.pop(copy)
        self._history.append(("late:", request, "arrives"))
        with suppress(ResponseError):
            self.server.execute(request)

    def _disturb(self, thread: Thread, outcome: str) -> None:
        self._events += 1
        request = thread.request
        assert request is not None
        self._faults -= 1
        self._note(thread, outcome)
        is_executed, has_copy, error = OUTCOMES[outcome]
        reply = self._execute(request) if is_executed else None
        if has_copy:
            self.late.append(request)
        if error is None:
            thread.answer(reply)
        elif error is Abandoned:
            thread.abandon()
        else:
            thread.fail(error(outcome))

    def _repeat(self, thread: Thread) -> None:
        assert thread.request is not None
        self._faults -= 1
        self._note(thread, "is executed, and repeated by the client library")
        self._execute(thread.request)
        thread.answer(self._execute(thread.request))

    def _forget_scripts(self, thread: Thread) -> None:
        self._faults -= 1
        self._note(thread, "names a script that the server does not know")
        thread.fail(NoScriptError("NOSCRIPT No matching script."))

    def _refuse(self, thread: Thread) -> None:
        self._faults -= 1
        self._note(thread, "is refused")
        thread.fail(NoConnection("LOADING the data set is loaded"))

    def _expire(self) -> None:
        self._faults -= 1
        self._history.append(("all leases expire during a", (), ""))
        self.server.now += LEASE + 1

    def _fork(self, thread: Thread, goes_on: bool) -> None:
        """Fork the process: in another thread, or in this one when its reply has arrived, in a function of the user."""
        self._faults -= 1
        self._can_fork = False
        now = CLOCK.now
        copy = Run(self.scenario, Choices(self._chosen_before))
        for _ in range(self._steps):
            copy.step()
        CLOCK.now = now
        self._note(thread, "is answered, and the process is forked" if goes_on else "is under way in a fork")
        child = copy.worlds[0]
        position = self.worlds[0].threads.index(thread)
        at_work = child.threads[position]
        assert at_work.request == thread.request
        if goes_on:
            self._carry(thread, "is answered")
            assert at_work.request is not None
            reply = copy.server.execute(at_work.request)
            elsewhere = {item for here in self.server.sets.values() for item in (*here.waiting, *here.leased)}
            at_work.only_finishes(set(self.server.claimed_by) - elsewhere)
        child.become_child(2, self.server, self.ledger)
        child.held = [_copied(self.ledger, held) for held in child.held]
        # The threads that did not fork are not there any more; nothing closes what they were doing.
        self._gone = child.threads
        own = Thread(child, self.scenario.child)
        child.threads = [at_work, own] if goes_on else [own]
        if goes_on:
            at_work.answer(reply)
        own.begin()
        self.worlds.append(child)

    def _execute(self, request: Request) -> Any:
        try:
            return self.server.execute(request)
        except ResponseError as error:
            if str(error).startswith("STALE"):
                raise Violation(f"a live call was answered as stale: {shown(request)}") from None
            raise

    def _note(self, thread: Thread, what: str) -> None:
        assert thread.request is not None
        world = thread.world
        who = "child" if world.is_child else "thread"
        at = world.threads.index(thread) if thread in world.threads else "-"
        self._history.append((f"{who} {at}:", thread.request, what))

    # The end.

    def _settle(self) -> None:
        """Without any more faults: claim from each set until nothing is left, so that all debts are paid."""
        later = bool(self.late) and self.choose(2) == 1
        while self.late and not later:
            self._arrive(0)
        for world in self.worlds:
            for name in world.sets:
                self._alone(Thread(world, [_claim_all(name)]))
        before = repr(self.server.sets)
        while self.late:
            self._arrive(0)
        self._check_states_are_as(before)
        self.ledger.check()

    def _check_states_are_as(self, before: str) -> None:
        if repr(self.server.sets) != before:
            raise Violation("a late copy changed something")


def _claim_all(name: str) -> Step:
    """Claim until nothing is left."""

    def program(world: World) -> Program:
        for _ in range(20):
            got = yield world.follow(world.sets[name]._claims.reserve_many(100, LEASE, 0), name)
            for one in got:
                world.ledger.holds(name, one, is_settlement=True)
            if not got:
                break
        owed = [debt for debt in world.state.debts if debt.name == world.sets[name]._driver.caller.prefix]
        if [debt for debt in owed if debt.roll_back is not None]:
            raise Violation(f"claims of the set {name!r} are still owed")

    return program


def _copied(ledger: Ledger, held: Held) -> Held:
    """A child's copy of a reservation: it is the same lease for the ledger."""
    [known] = [one for one in ledger.held if one.lease == held.lease]
    return _Copy(known, held.reservation)


class _Copy(Held):
    """What a child knows of a reservation of its parent. The asks of both count."""

    def __init__(self, known: Held, reservation: Any) -> None:
        self.name, self.reservation, self.is_settlement = known.name, reservation, False
        self.asked, self.ended, self.unknown = known.asked, known.ended, known.unknown
        # So that an end which crosses one of the parent is no surprise.
        known.asked.append("copied")


def shown(request: Request) -> str:
    """A request for the eye: script, record, numbers and arguments."""
    if not request:
        return "pause"
    if request[0] == "DEL":
        return " ".join(map(str, request))
    name = NAMES.get(str(request[1]), "?")
    count = int(request[2])
    words = [word.decode() if isinstance(word, bytes) else word for word in request[3:]]
    numbers = "/".join(word.lstrip("0") or "0" for word in words[count : count + 2])
    return f"{name} {words[0]} {numbers} {' '.join(words[count + 2 :])}"


@contextmanager
def simulated() -> Iterator[set[tuple[State, State]]]:
    """Run the core on a clock that stands still, with calls of two items at most. Yields the transitions of calls."""
    taken: set[tuple[State, State]] = set()
    become = Call.become

    def noting(call: Call, state: State) -> None:
        taken.add((call.state, state))
        become(call, state)

    with (
        patch.object(Call, "become", noting),
        patch.multiple(claiming, CHUNK=2, time=CLOCK),
        patch.multiple(endings, CHUNK=2, AT_A_TIME=2, time=CLOCK),
        patch("redset.core.operations.CHUNK", 2),
        patch.object(interruptions, "_NUMBERS", ()),
        patch.multiple(calls, LARGE=0, time=CLOCK),
        patch.object(consuming, "time", CLOCK),
        patch.object(talking, "time", CLOCK),
        patch.object(sending, "time", CLOCK),
        patch.multiple(waiting, time=CLOCK, random=SimpleNamespace(uniform=lambda shortest, longest: longest)),
    ):
        yield taken
