"""What a worker does with, and writes down as it does it: calls, with how they ended."""

import asyncio
import contextlib
import inspect
import os
import random
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from chaos import repeats
from chaos.history import CUT, Outcome, Recorder, Row
from chaos.steps import Steps, through
from clients import Witness
from redset.core.operations import Elsewhere
from redset.core.shards.place import Shard, Shards
from redset.exceptions import Full, LayoutError, LeaseLost, RedsetError

__all__ = ("Answer", "Hand", "Phase", "Post", "Worker", "WrittenLoop", "called", "row_of", "rows_of")

#: Errors that say that the server has not done what it was asked; by name, since each client library has its own.
REFUSALS = {
    "BusyLoadingError",
    "ClusterDownError",
    "MasterDownError",
    "OutOfMemoryError",
    "ReadOnlyError",
    "ServerFullError",
    "TryAgainError",
}
#: The base classes of the errors of client libraries. Those of a cluster client that finds no node are not RedisErrors.
ERRORS_OF_CLIENTS = {"RedisClusterException", "RedisError", "ValkeyClusterException", "ValkeyError"}

#: In asyncio one call in so many is cancelled, within so many seconds. So is one step of a consume loop, which ends it.
IMPATIENT = 10
IMPATIENT_IN_A_LOOP = 30
PATIENCE = 0.05


class Phase:
    """How far the run is: a file for each phase that has begun, so that nobody who is killed can hold it up."""

    def __init__(self, directory: Path) -> None:
        self._drain, self._stop = directory / "drain", directory / "stop"

    def begin_to_drain(self) -> None:
        self._drain.touch()

    def stop(self) -> None:
        self._drain.touch()
        self._stop.touch()

    def is_draining(self) -> bool:
        """Whether nothing is added any more, and all that is taken is finished."""
        return self._drain.exists()

    def is_over(self) -> bool:
        return self._stop.exists()


class Post:
    """Texts for whichever process takes them first, each a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def send(self, text: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        name = os.urandom(8).hex()
        (self._directory / name).write_text(text)
        # The process that takes the file finds all of it.
        (self._directory / name).rename(self._directory / f"{name}.sent")

    def take(self) -> str | None:
        for path in self._directory.glob("*.sent"):
            # Another process may have taken it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                return path.rename(path.with_suffix(".taken")).read_text()
        return None


class Answer(NamedTuple):
    """How a call ended."""

    outcome: Outcome
    value: Any = None


class Worker(NamedTuple):
    """What all hands of one process share."""

    #: The worker and its incarnation.
    process: str
    seed: int
    #: Whether they are tasks, and not threads.
    awaited: bool
    recorder: Recorder
    phase: Phase
    #: Of the run.
    directory: Path


class Hand:
    """One thread or task of a worker: what it does on one set.

    Workloads are written once, as coroutines. In a worker of threads nothing in them ever waits for a loop: what they
    await has been done by then.
    """

    def __init__(
        self, worker: Worker, role: str, number: int, set: Any, client: Any, witness: Witness | None = None
    ) -> None:
        #: By which it is known in the history.
        self.actor = f"{set.name} {role} {number}"
        #: In the names of what only it adds; the incarnation of its worker comes last.
        self.mark = f"{number}.{worker.process.replace('/', '.')}"
        self.set = set
        self.client = client
        self.witness = witness
        #: To the hands of all workers that use the set.
        self.post = Post(worker.directory / "post" / set.name)
        self.random = random.Random(f"{worker.seed} {worker.process} {self.actor}")
        self.process = worker.process
        self.recorder = worker.recorder
        self._phase = worker.phase
        self._awaited = worker.awaited

    # When

    async def produces(self, pace: float) -> bool:
        """Whether to go on adding, after a rest."""
        return not self._phase.is_draining() and await self._rest(pace) and not self._phase.is_draining()

    async def consumes(self, pace: float) -> bool:
        """Whether to go on taking, after a rest."""
        return await self._rest(pace) and not self.is_over()

    def is_over(self) -> bool:
        return self._phase.is_over()

    def is_draining(self) -> bool:
        return self._phase.is_draining()

    def happens(self, one_in: int) -> bool:
        """By chance, and never while the sets are drained."""
        return not self._phase.is_draining() and not self.random.randrange(one_in)

    async def pause(self, seconds: float) -> None:
        if self._awaited:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 # there is no loop

    async def _rest(self, pace: float) -> bool:
        """So many seconds on average. Tasks rest until the same moments, so that their calls share round trips."""
        left = pace - time.monotonic() % pace
        await self.pause(left if self._awaited else self.random.uniform(0.5, 1.5) * pace)
        return True

    # What

    async def do(
        self,
        name: str,
        method: Callable[..., Any],
        *args: Any,
        rows: Callable[[Any], list[Row]] = lambda value: [],
        done: Callable[[Any], bool] = lambda value: True,
        items: list[str] | None = None,
        tokens: list[int] | None = None,
        given: dict[str, Any] | None = None,
        **options: Any,
    ) -> Answer:
        """Makes a call of a set, and writes it down.

        :param rows: what was handed out, by what the call returned.
        :param done: whether it did anything, likewise.
        :param items, tokens, given: what it is written down with; ``options`` are too.
        """
        call = self.recorder.invoke(
            self.actor, self.set.name, name, items=items, tokens=tokens, **(given or {}) | options
        )
        repeated, cuts, replica = repeats.seen(), repeats.cuts(self.set.name), Replica(self)
        outcome: Outcome
        try:
            value = await self.answer(method, *args, **options)
        except KeyError:
            # There is nothing to pop.
            self.recorder.complete(call, error=self.cut_since(cuts))
            return Answer("ok")
        except Exception as error:
            again = repeats.seen() > repeated
            outcome = outcome_of(error, repeated=again)
            self.recorder.complete(call, outcome, error=type(error).__name__, repeated=again)
            if outcome == "unknown":
                await self.pause(0.05)
            return Answer(outcome)
        outcome = "ok" if done(value) else "refused"
        cut, again = self.cut_since(cuts), repeats.seen() > repeated
        has_it = await replica.has_it()
        self.recorder.complete(call, outcome, rows=rows(value), error=cut, replicated=has_it, repeated=again)
        return Answer(outcome, value)

    def cut_since(self, before: int) -> str:
        """The error to write down with a call that succeeded."""
        return CUT if repeats.cuts(self.set.name) > before else ""

    async def end(self, reservation: Any, verb: str, **how: Any) -> bool:
        """Ends a lease, or extends it; asks again when it did not hear what became of that.

        :returns: whether it heard in the end.
        """
        for _ in range(5):
            method = getattr(reservation, verb)
            item = identity_of(reservation.item)
            answer = await self.do(verb, method, items=[item], tokens=[reservation.token], **how)
            if answer.outcome != "unknown":
                return True
        return False

    async def end_many(self, reservations: Sequence[Any], verb: str, **how: Any) -> None:
        """The same in one round trip; written down as a call for each, since each has an outcome of its own."""
        ends, replica = Ends(self, verb, reservations, how), Replica(self)
        try:
            lost = await self.answer(getattr(self.set, verb), list(reservations), **how)
        except Exception as error:
            ends.fail(error)
        else:
            ends.complete(lost, await replica.has_it())

    async def look(self, method: Callable[..., Any], *args: Any) -> Any | None:
        """Makes a call that changes nothing, and is not written down; None from nobody."""
        try:
            return await called(method, *args)
        except Exception as error:
            outcome_of(error, repeated=True)
            return None

    async def server_time(self) -> float | None:
        """In seconds since the epoch; None from nobody."""
        if (answer := await self.look(self.client.time)) is None:
            return None
        # Of a cluster every node says it.
        seconds, micros = next(iter(answer.values())) if isinstance(answer, dict) else answer
        return float(seconds + micros / 1e6)

    async def answer(self, method: Callable[..., Any], *args: Any, one_in: int = IMPATIENT, **options: Any) -> Any:
        """What a call returns, if it is not cancelled before.

        :param one_in: one such call in so many is cancelled.
        """
        if self._awaited and self.happens(one_in):
            return await asyncio.wait_for(method(*args, **options), self.random.uniform(0, PATIENCE))
        return await called(method, *args, **options)


class Replica:
    """Whether a replica has a call that begins now, to be asked when it is over. None where there are no replicas."""

    def __init__(self, hand: Hand) -> None:
        self._witness = hand.witness
        self._history = hand.witness.history if hand.witness else ""

    async def has_it(self) -> bool | None:
        try:
            return await called(self._witness.holds, self._history) if self._witness else None
        except Exception as error:
            return self._nobody_said(error)

    def had_it(self) -> Generator[Any, Any, bool | None]:
        """The same, as a step of what a loop does."""
        try:
            return (yield Elsewhere(partial(self._witness.holds, self._history))) if self._witness else None
        except Exception as error:
            return self._nobody_said(error)

    def _nobody_said(self, error: Exception) -> bool:
        outcome_of(error, repeated=True)
        return False


class Ends:
    """Ends of several leases that go out together, each written down as a call, by an actor of its own."""

    def __init__(self, hand: Hand, verb: str, reservations: Sequence[Any], how: dict[str, Any] | None = None) -> None:
        self._recorder = hand.recorder
        self._repeated = repeats.seen()
        self._calls = [
            (
                one,
                self._recorder.invoke(
                    f"{hand.actor} {verb} {position}",
                    hand.set.name,
                    verb,
                    items=[identity_of(one.item)],
                    tokens=[one.token],
                    **how or {},
                ),
            )
            for position, one in enumerate(reservations)
        ]

    def complete(self, lost: Sequence[Any], replicated: bool | None) -> None:
        for one, call in self._calls:
            if any(one is each for each in lost):
                again = repeats.seen() > self._repeated
                self._recorder.complete(call, "refused", error=LeaseLost.__name__, repeated=again)
            else:
                self._recorder.complete(call, replicated=replicated)

    def fail(self, error: BaseException) -> None:
        outcome = outcome_of(error, repeated=repeats.seen() > self._repeated)
        for _, call in self._calls:
            self._recorder.complete(call, outcome, error=type(error).__name__)

    def leave_open(self) -> None:
        """Nobody was told what became of them."""
        for _, call in self._calls:
            self._recorder.complete(call, "unknown", error="not told")


class Claims:
    """The claims of a loop, which remember the step that claims. That is an operation, or over shards a plan."""

    def __init__(self, claims: Any) -> None:
        self._claims = claims
        self.step: Any = None

    def claim(self, *args: Any, **options: Any) -> Any:
        self.step = self._claims.claim(*args, **options)
        return self.step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._claims, name)


class WrittenLoop:
    """Goes through a ``consume`` loop, and writes down the reserves, acks and returns that it makes, as it makes them.

    Each claim that the loop sends is a reserve, written down with all rows that it gave, whether or not the loop yields
    them. An ack is written down only if the hand is done with the item, so an ack that the loop invents has no
    invocation, and its item is missing. An ack is open from the first call that carries it until the loop learns its
    outcome, which may take several calls while the server is away.
    """

    def __init__(self, hand: Hand, loop: Any, **given: Any) -> None:
        self._hand = hand
        self._loop = loop
        self._given = given
        #: Items that the hand is done with, whose acks were not sent yet; and the calls of those that were.
        self._seen: list[Any] = []
        self._open: dict[int, int] = {}
        #: What was claimed for the next item.
        self._claimed: list[Any] = []
        #: The calls of what was learnt since the last look: whether each came too late.
        self._learnt: list[tuple[int, bool]] = []
        self._plans = loop._next, loop._claim, loop._send_late, loop._close
        self._acked, self._try_to_roll_back, self._send_end = loop._acked, loop._try_to_roll_back, loop._send_end
        #: Whether a closing loop has sent acks again, found that their leases are over, and cannot learn whether they
        #: arrived before.
        self._is_in_doubt = False
        loop._claims = self._claims = Claims(loop._claims)
        loop._next, loop._claim, loop._send_late, loop._close = (
            self._going_on,
            self._claiming,
            self._sending_late,
            self._closing,
        )
        loop._acked, loop._try_to_roll_back, loop._send_end = self._learning, self._trying, self._sending

    async def next(self) -> Any | None:
        """The next reservation, or None at the end."""
        try:
            # What both faces have behind __next__ and __anext__: a coroutine must not raise StopIteration.
            return await self._hand.answer(self._loop._next_one, one_in=IMPATIENT_IN_A_LOOP)
        except Exception as error:
            # It was written down with the call that it befell.
            outcome_of(error, repeated=True)
            return None

    def is_done(self, reservation: Any) -> None:
        """The hand is done with this item, and has not ended its lease."""
        self._seen.append(reservation)

    # What the loop calls instead of its own methods.

    def _going_on(self) -> Steps:
        self._claimed = []
        try:
            return (yield from self._plans[0]())
        except BaseException:
            # Claims of a plan that does not return are rolled back.
            Ends(self._hand, "again", self._claimed).leave_open()
            raise

    def _claiming(self, wait: Any) -> Steps:
        call, cuts, hand = 0, 0, self._hand

        def carry(step: Any) -> Steps:
            nonlocal call
            nonlocal cuts
            if step is not self._claims.step:
                return (yield step)
            repeated, cuts = repeats.seen(), repeats.cuts(hand.set.name)
            call = hand.recorder.invoke(hand.actor, hand.set.name, "reserve", **self._given)
            try:
                return (yield step)
            except BaseException as error:
                outcome = outcome_of(error, repeated=repeats.seen() > repeated)
                hand.recorder.complete(call, outcome, error=_name(error))
                raise

        replica = Replica(hand)
        got = yield from self._with_acks(through(self._plans[1](wait), carry), replica)
        # None: it was told to stop after a claim that failed.
        if got is not None:
            self._claimed += self._loop._ready
            rows, error = rows_of(self._loop._ready), hand.cut_since(cuts)
            hand.recorder.complete(call, rows=rows, error=error, replicated=(yield from replica.had_it()))
        return got

    def _sending_late(self) -> Steps:
        given_back: list[Any] = []
        returned: Ends | None = None

        def carry(step: Any) -> Steps:
            nonlocal given_back, returned
            # The loop has decided what it gives back before its first step.
            if returned is None:
                given_back = self._loop._pending.requeued
                returned = Ends(self._hand, "again", given_back)
            return (yield step)

        replica = Replica(self._hand)
        try:
            yield from self._with_acks(through(self._plans[2](), carry), replica)
        except BaseException as error:
            if returned is not None:
                returned.fail(error)
            raise
        if returned is not None and self._loop._pending is None:
            returned.complete([one for one in given_back if one.lost], (yield from replica.had_it()))
        elif returned is not None:
            returned.leave_open()

    def _closing(self) -> Steps:
        loop, current = self._loop, self._loop._current
        returned = [Ends(self._hand, "again", list(loop._ready))]
        if current is not None and not current._end_known and current not in self._seen:
            returned.append(Ends(self._hand, "nack", [current], {"delay": 0}))
        try:
            yield from self._with_acks(self._plans[3](), Replica(self._hand))
        except BaseException as error:
            for ends in returned:
                ends.fail(error)
            raise
        for ends in returned:
            ends.leave_open()

    def _with_acks(self, plan: Steps, replica: "Replica") -> Steps:
        hand, seen = self._hand, self._seen
        self._seen = []
        for one in seen:
            self._open[id(one)] = hand.recorder.invoke(
                f"{hand.actor} ack {one.token}", hand.set.name, "ack", items=[identity_of(one.item)], tokens=[one.token]
            )
        try:
            value = yield from plan
        except BaseException:
            self._complete_acks(replicated=None)
            raise
        self._complete_acks((yield from replica.had_it()) if self._learnt else None)
        return value

    def _complete_acks(self, replicated: bool | None) -> None:
        learnt, self._learnt = self._learnt, []
        for call, is_late in learnt:
            if is_late:
                # The loop may have sent it with an earlier call.
                self._hand.recorder.complete(call, "refused", error=LeaseLost.__name__, repeated=True)
            else:
                self._hand.recorder.complete(call, replicated=replicated)

    def _trying(self) -> Steps:
        known = yield from self._try_to_roll_back()
        self._is_in_doubt = not known
        return known

    def _sending(self, *args: Any) -> Steps:
        self._is_in_doubt = False
        return (yield from self._send_end(*args))

    def _learning(self, acks: Sequence[Any], late: Sequence[int]) -> None:
        for position, one in enumerate(acks):
            if (call := self._open.pop(id(one), None)) is not None and not self._is_in_doubt:
                self._learnt.append((call, position in late))
        self._acked(acks, late)


def outcome_of(error: BaseException, *, repeated: bool) -> Outcome:
    """What is known of a call that raised this.

    A server that refuses the repetition of a call may have got, or may yet get, what it was sent before. Steps of a
    consume loop see that they are cancelled, which its hand sees as a time-out.

    :raises BaseException: it is none of the errors that a user has to expect.
    """
    names = [kind.__name__ for kind in type(error).__mro__]
    if isinstance(error, (Full, LeaseLost)) or (not repeated and REFUSALS.intersection(names)):
        return "refused"
    if isinstance(error, LayoutError):
        raise error
    if isinstance(error, (RedsetError, OSError, asyncio.CancelledError)) or ERRORS_OF_CLIENTS.intersection(names):
        return "unknown"
    if is_of_the_client(error):
        return "unknown"
    raise error


def is_of_the_client(error: BaseException) -> bool:
    """Whether it is what a cluster client meets when another thread or task closes the connection that it uses: after
    a failure, redis-py and valkey-py close those of all.
    """
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return isinstance(error, (AttributeError, ValueError)) and bool({"redis", "valkey"}.intersection(last.parts))


async def called(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a call returns, or what it returns when awaited."""
    value = method(*args, **options)
    return await value if inspect.isawaitable(value) else value


def row_of(item: Any) -> Row:
    """Of an item that was taken for good."""
    return Row(identity_of(item), version=version_of(item))


def rows_of(reservations: Iterable[Any]) -> list[Row]:
    return [Row(identity_of(one.item), one.score, one.token, one.attempt, version_of(one.item)) for one in reservations]


def identity_of(item: Any) -> str:
    return str(item["id"] if isinstance(item, dict) else item)


def version_of(item: Any) -> int | None:
    return item["version"] if isinstance(item, dict) else None


def _name(error: BaseException) -> str:
    return type(error).__name__


def _count_cuts() -> None:
    failed = Shards.failed

    def counting(self: Shards, shard: Shard, error: Exception, asked_at: float) -> None:
        repeats.cut(shard.name.strip("{").partition("#")[0])
        failed(self, shard, error, asked_at)

    Shards.failed = counting  # type: ignore[method-assign]


_count_cuts()
