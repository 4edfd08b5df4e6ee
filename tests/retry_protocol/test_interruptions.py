"""What a signal handler raises is no error of the code that it interrupts: a job's time limit makes no dead letter."""

import asyncio
import functools
import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import redset.aio
from redset import Key, SortedSet
from redset.core.interruptions import is_interruption


class TimeLimit(Exception):
    """As Celery and RQ have one."""


def ring(*_: Any) -> None:
    raise TimeLimit("too long")


class Bell:
    def ring(self, *_: Any) -> None:
        self.deeper()

    def deeper(self) -> None:
        raise TimeLimit("too long")

    def __call__(self, *_: Any) -> None:
        self.deeper()


HANDLERS: dict[str, Any] = {
    "function": ring,
    "lambda": lambda *_: ring(),
    "bound method": Bell().ring,
    "partial": functools.partial(functools.partial(ring, 1), 2),
    "object": Bell(),
    "partial of an object": functools.partial(Bell()),
}


@pytest.fixture
def handling() -> Iterator[Callable[[Any], Any]]:
    """Has a handler of the alarm for the time of a test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, before)


def caught(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def interrupted() -> None:
    signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_what_a_handler_raises_is_an_interruption(handling: Any, handler: Any) -> None:
    handling(handler)

    error = caught(interrupted)

    assert isinstance(error, TimeLimit)
    assert is_interruption(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()])
def test_what_is_no_exception_is_one(error: BaseException) -> None:
    assert is_interruption(error)


@pytest.mark.parametrize("error", [ValueError(), StopIteration(), TimeLimit()])
def test_an_exception_that_no_handler_raised_is_none(handling: Any, error: Exception) -> None:
    def fail() -> None:
        raise error

    handling(ring)
    assert not is_interruption(error)
    assert not is_interruption(caught(fail))


def test_a_handler_that_is_registered_no_more_interrupts_nothing(handling: Any) -> None:
    handling(ring)
    error = caught(interrupted)
    handling(signal.SIG_IGN)

    assert not is_interruption(error)


def test_an_error_in_which_an_interruption_was_wrapped_is_one(handling: Any) -> None:
    def load() -> None:
        try:
            interrupted()
        except Exception as error:
            raise ValueError("cannot be loaded") from error

    def load_carelessly() -> None:
        try:
            interrupted()
        except Exception:
            raise ValueError("cannot be loaded")  # noqa: B904 # as people do

    handling(ring)
    assert is_interruption(caught(load))
    assert is_interruption(caught(load_carelessly))


def test_an_error_while_the_caller_handles_an_interruption_is_none(handling: Any) -> None:
    handling(ring)
    try:
        interrupted()
    except TimeLimit:
        assert not is_interruption(caught(lambda: int("x")))


def test_whatever_the_handler_is_nothing_is_raised(handling: Any) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise ValueError(name)

        def __call__(self, *_: Any) -> None:
            raise TimeLimit

    handling(Odd())
    assert not is_interruption(caught(lambda: int("x")))


class Interrupted:
    """A serializer that a signal interrupts as it works on one item."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.stopped = False

    def loads(self, stored: Any) -> Any:
        item = json.loads(stored)
        if item == "slow" and self.at == "loads" and not self.stopped:
            self.stopped = True
            interrupted()
        return item

    def dumps(self, item: Any) -> str:
        if item == "slow" and self.at == "dumps":
            interrupted()
        return json.dumps(item)


@pytest.mark.parametrize(
    "look",
    [list, lambda jobs: jobs[:], lambda jobs: jobs.peek(2), lambda jobs: jobs.copy()],
    ids=["iteration", "slice", "peek", "copy"],
)
def test_a_time_limit_passes_through_what_looks(raw: Any, handling: Any, look: Any) -> None:
    handling(ring)
    SortedSet[Any](raw, "jobs", serializer=json).update(["a", "slow", "b"], score=1)
    jobs = SortedSet[Any](raw, "jobs", serializer=Interrupted("loads"))

    with pytest.raises(TimeLimit):
        look(jobs)


@pytest.mark.parametrize(
    "take",
    [lambda jobs: jobs.take(3), lambda jobs: jobs.reserve_many(3), lambda jobs: list(jobs.consume(batch=3, wait=0))],
    ids=["take", "reserve_many", "consume"],
)
def test_a_time_limit_makes_no_dead_letter(raw: Any, handling: Any, take: Any) -> None:
    handling(ring)
    jobs = SortedSet[Any](raw, "jobs", serializer=Interrupted("loads"))
    jobs.update(["a", "slow", "b"], score=1)

    with pytest.raises(TimeLimit):
        take(jobs)

    assert raw.zcard("{jobs}:dead") == 0


def test_a_time_limit_makes_no_dead_letter_on_the_asyncio_face(raw: Any, here: Any, handling: Any) -> None:
    async def take() -> None:
        async with here.client(awaited=True) as client:
            await redset.aio.SortedSet[Any](client, "jobs", serializer=Interrupted("loads")).take(3)

    handling(ring)
    SortedSet[Any](raw, "jobs", serializer=json).update(["a", "slow", "b"], score=1)

    with pytest.raises(TimeLimit):
        asyncio.run(take())

    assert raw.zcard("{jobs}:dead") == 0


def test_a_time_limit_while_an_item_is_sought_is_no_answer(raw: Any, handling: Any) -> None:
    handling(ring)
    jobs = SortedSet[Any](raw, "jobs", serializer=Interrupted("dumps"))

    for ask in (jobs.contains, lambda item: jobs.contains_many([item]), lambda item: jobs.isdisjoint([item])):
        with pytest.raises(TimeLimit):
            ask("slow")


def test_a_time_limit_while_a_key_is_made_is_no_answer(raw: Any, handling: Any) -> None:
    handling(ring)
    jobs = SortedSet[Any](raw, "jobs", serializer=json, key=lambda item: interrupted() if item == "slow" else item)

    with pytest.raises(TimeLimit):
        jobs.contains("slow")
    assert Key("slow") not in jobs


def test_it_takes_little_time(handling: Any) -> None:
    handling(ring)
    error = caught(lambda: int("x"))
    started = time.thread_time()
    for _ in range(100):
        is_interruption(error)
    assert time.thread_time() - started < 1
