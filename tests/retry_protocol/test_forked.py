"""A child that was forked while its parent holds leases: it ends none of them unless it is told to."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import redset
import redset.aio
from clients import close_awaited
from redset import SortedSet
from redset.exceptions import LeaseLost
from servers import Server

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    # A forked worker of xdist would share its connection to the main process; test_forked_alone.py runs these there.
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="a forked worker would report twice"),
]


@pytest.fixture
def jobs(server_itself: Server) -> Iterator[SortedSet[str]]:
    with redset.connect(server_itself.url) as client:
        yield SortedSet(client, "jobs")


def in_child(do: Callable[[], Any]) -> None:
    """Run this in a forked child, whose stack is unwound as by ``sys.exit``."""
    if (child := os.fork()) == 0:
        do()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@contextlib.contextmanager
def ending_here() -> Iterator[None]:
    """Ends a forked child where its stack is unwound to this block, so that it does not go on with the tests."""
    parent = os.getpid()
    try:
        yield
    except SystemExit:
        os._exit(0)
    except BaseException:
        if os.getpid() != parent:
            os._exit(1)
        raise
    if os.getpid() != parent:
        os._exit(0)


def in_a_loop(jobs: SortedSet[str], do: Callable[[Any], None]) -> None:
    for job in jobs.consume(lease=60, batch=3, wait=0):
        in_child(partial(do, job))
        break_off_if_parent(jobs)
        return


def in_a_loop_in_a_block(jobs: SortedSet[str], do: Callable[[Any], None]) -> None:
    with jobs.consume(lease=60, batch=3, wait=0) as loop:
        job = next(loop)
        in_child(lambda: do(job))
        break_off_if_parent(jobs)


def in_blocks(jobs: SortedSet[str], do: Callable[[Any], None]) -> None:
    first, second, third = jobs.reserve_many(3, 60)
    with first, second, third:
        in_child(lambda: do(first))
        break_off_if_parent(jobs)


def while_kept_alive(jobs: SortedSet[str], do: Callable[[Any], None]) -> None:
    first, second, third = jobs.reserve_many(3, 60)
    with first, second, third, first.keep_alive():
        in_child(lambda: do(first))
        break_off_if_parent(jobs)


def break_off_if_parent(jobs: SortedSet[str]) -> None:
    """Look how many are leased, in the parent."""
    seen.append(jobs.stats().leased)


seen: list[int] = []


@pytest.mark.parametrize("where", [in_a_loop, in_a_loop_in_a_block, in_blocks, while_kept_alive])
@pytest.mark.parametrize("acks", [False, True])
def test_a_child_that_exits_ends_nothing_but_what_it_acks(jobs: SortedSet[str], where: Any, acks: bool) -> None:
    jobs.update("abc")
    seen.clear()
    # In the parent the lease that its child has acked is over.
    with ending_here(), contextlib.suppress(LeaseLost):
        where(jobs, lambda job: job.ack() if acks else None)

    assert seen == [2 if acks else 3]


def test_calls_of_a_child_are_its_own(jobs: SortedSet[str]) -> None:
    jobs.update("abcdef")
    one = jobs.reserve()

    def work() -> None:
        assert jobs.pop() == "b"
        jobs.add("z")
        with jobs.reserve(60) as item:
            assert item == "c"

    with ending_here():
        in_child(work)
    one.ack()
    assert jobs.take(9) == ["d", "e", "f", "z"]


def test_a_child_of_a_program_with_asyncio_ends_nothing(server_itself: Server) -> None:
    async def main() -> int:
        client = await redset.aio.connect(server_itself.url)
        jobs = redset.aio.SortedSet[str](client, "jobs")
        await jobs.update("abc")
        async with jobs.consume(lease=60, batch=3, wait=0) as loop:
            await anext(loop)
            if (child := os.fork()) == 0:
                # What a child does that lets go of everything, but for the event loop, which is its parent's.
                os._exit(0)
            os.waitpid(child, 0)  # noqa: ASYNC222 # nothing else runs here
            leased = (await jobs.stats()).leased
        await close_awaited(client)
        return leased

    assert asyncio.run(main()) == 3
