"""One lease that several threads or tasks end at once: it ends once, all learn so, and nobody waits for ever."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import redset.aio
from clients import close_awaited
from conftest import CLIENT
from faces import CLIENTS
from redset import SortedSet
from redset.exceptions import LeaseLost
from servers import PATIENCE

#: The bulk forms, and the single ones of which one end excludes another.
BULK: dict[str, Callable[[Any, Any], Any]] = {
    "ack": lambda jobs, mine: jobs.ack(mine),
    "nack": lambda jobs, mine: jobs.nack(mine, delay=0),
    "again": lambda jobs, mine: jobs.again(mine),
    "extend": lambda jobs, mine: jobs.extend(mine, 60),
}
SINGLE: dict[str, Callable[[Any], Any]] = {
    "ack": lambda one: one.ack(),
    "nack": lambda one: one.nack(delay=0),
    "again": lambda one: one.again(),
    "bury": lambda one: one.bury(),
    "extend": lambda one: one.extend(60),
}


@pytest.fixture
def _switching_often() -> Iterator[None]:
    """Lets threads change places in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(calls)
    together = threading.Barrier(len(calls))

    def run(number: int) -> None:
        together.wait()
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results


@pytest.mark.usefixtures("_switching_often")
@pytest.mark.parametrize("verb", BULK)
@pytest.mark.parametrize("count", [40, 1200])
def test_threads_that_end_the_same_at_once_all_succeed(raw: Any, verb: str, count: int) -> None:
    jobs = SortedSet[str](raw, "jobs")
    for _ in range(10):
        raw.flushall()
        jobs.update(str(number) for number in range(count))
        mine = jobs.reserve_many(count)
        results = in_threads([partial(BULK[verb], jobs, mine)] * 3)

        # A call that begins when another one has ended some of the leases, a thousand at a time, finds these over.
        for part in (mine[:1000], mine[1000:]):
            over = [[one for one in part if one in result] for result in results]
            assert all(lost in ([], part) for lost in over)
            assert [] in over
        assert jobs.stats().leased == (count if verb == "extend" else 0)


@pytest.mark.usefixtures("_switching_often")
@pytest.mark.parametrize("verb", SINGLE)
def test_threads_that_end_one_lease_at_once_succeed_or_are_told_that_it_is_over(raw: Any, verb: str) -> None:
    jobs = SortedSet[str](raw, "jobs")
    for _ in range(30):
        raw.flushall()
        jobs.add("a")
        one = jobs.reserve()
        results = in_threads([partial(SINGLE[verb], one)] * 3)

        assert None in results
        assert all(result is None or isinstance(result, LeaseLost) for result in results), results


@pytest.mark.parametrize("verb", BULK)
@pytest.mark.parametrize("cancelled", [None, 0, 1])
@pytest.mark.parametrize("form", ["bulk", "reversed", "mixed with single"])
def test_tasks_that_end_the_same_at_once(here: Any, verb: str, cancelled: int | None, form: str) -> None:
    async def run() -> None:
        library, options = CLIENTS[CLIENT]
        client = here.client(library, awaited=True, **options)
        jobs = redset.aio.SortedSet[str](client, "jobs")
        await jobs.update(str(number) for number in range(40))
        mine = await jobs.reserve_many(40)
        calls: list[Any] = [BULK[verb](jobs, mine), BULK[verb](jobs, mine), BULK[verb](jobs, mine)]
        if form == "reversed":
            calls[1].close()
            calls[1] = BULK[verb](jobs, mine[::-1])
        elif form == "mixed with single":
            calls[1].close()
            calls[1] = SINGLE[verb](mine[0])
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        if cancelled is not None:
            tasks[cancelled].cancel()
        _, pending = await asyncio.wait(tasks, timeout=PATIENCE)

        assert not pending
        for number, task in enumerate(tasks):
            if number != cancelled:
                assert task.exception() is None or isinstance(task.exception(), LeaseLost)
        assert (await jobs.stats()).leased == (40 if verb == "extend" else 0)
        await close_awaited(client)

    asyncio.run(run())


@pytest.mark.parametrize("verb", SINGLE)
def test_a_task_that_asks_for_the_same_again_holds_nobody_up(here: Any, verb: str) -> None:
    async def run() -> None:
        library, options = CLIENTS[CLIENT]
        client = here.client(library, awaited=True, **options)
        jobs = redset.aio.SortedSet[str](client, "jobs")
        await jobs.update("ab")
        other, mine = await jobs.reserve_many(2)
        # While the other one is under way the next ones leave as a part of a group.
        tasks = [asyncio.create_task(call) for call in (SINGLE[verb](other), SINGLE[verb](mine), SINGLE[verb](mine))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(SINGLE[verb](mine)))

        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*tasks) == [None] * 4
        await close_awaited(client)

    asyncio.run(run())
