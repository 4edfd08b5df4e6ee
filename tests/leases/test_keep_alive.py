"""Keeping a lease alive for as long as its item takes."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import redset.aio
from clients import close_awaited
from redset import SortedSet
from redset.exceptions import LeaseLost
from servers import Place, asks_to, eventually, server_time, wait_until

#: Seconds. Long enough for a machine that is busy, since an extension that comes too late fails a test.
LEASE = 6.0
#: Where it is to be lost, or to be noticed soon. Also an end within it must not come too late.
SHORT_LEASE = 1.5

# In the synchronous face, a thread does it.


@pytest.fixture
def jobs(raw: Any, kind: str) -> Any:
    jobs = getattr(redset, kind)(raw, "jobs")
    jobs.add("read", score=1)
    return jobs


def test_the_lease_is_extended_while_the_block_runs(jobs: SortedSet[str]) -> None:
    reservation = jobs.reserve(lease=LEASE)
    first = reservation.deadline

    with reservation.keep_alive():
        wait_until(lambda: reservation.deadline > first + LEASE / 4)
        second = reservation.deadline
        wait_until(lambda: reservation.deadline > second + LEASE / 4)
        assert jobs.take(1) == []
        assert not reservation.lost

    reservation.ack()


def test_a_lease_outlives_its_first_deadline(raw: Any) -> None:
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    reservation = jobs.reserve(lease=LEASE / 2)
    first = reservation.deadline

    with reservation, reservation.keep_alive():
        wait_until(lambda: server_time(raw) > first)
        assert jobs.take(1) == []


def test_a_lease_that_is_almost_over_is_extended_at_once(raw: Any) -> None:
    """As that of an item of a batch whose turn comes late."""
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    reservation = jobs.reserve(lease=LEASE)
    first = reservation.deadline
    wait_until(lambda: server_time(raw) > first - LEASE / 4)

    with reservation, reservation.keep_alive():
        wait_until(lambda: reservation.deadline > first)
        assert server_time(raw) < first


def test_nothing_goes_on_after_the_block(jobs: SortedSet[str]) -> None:
    with jobs.reserve(lease=LEASE).keep_alive():
        assert "redset keep_alive" in {thread.name for thread in threading.enumerate()}

    assert "redset keep_alive" not in {thread.name for thread in threading.enumerate()}


def test_the_block_is_told_that_the_lease_is_lost_and_leaving_it_raises(jobs: SortedSet[str]) -> None:
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with pytest.raises(LeaseLost, match="'read' in the set 'jobs'"), reservation.keep_alive():
        jobs.discard("read")
        assert reservation.lost.wait(20)


def test_so_does_the_block_of_the_reservation_around_it(jobs: SortedSet[str]) -> None:
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with pytest.raises(LeaseLost), reservation as item, reservation.keep_alive():
        jobs.discard(item)
        assert reservation.lost.wait(20)


def test_an_exception_of_the_block_goes_through(jobs: SortedSet[str]) -> None:
    with pytest.raises(ZeroDivisionError), jobs.reserve(lease=LEASE).keep_alive():
        raise ZeroDivisionError


def test_an_exception_of_the_block_matters_more_than_a_lost_lease(jobs: SortedSet[str]) -> None:
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with pytest.raises(ZeroDivisionError), reservation.keep_alive():
        jobs.discard("read")
        assert reservation.lost.wait(20)
        raise ZeroDivisionError


@pytest.mark.parametrize("end", ["ack", "nack", "again", "bury"])
def test_what_the_block_ends_itself_is_not_lost(jobs: SortedSet[str], end: str) -> None:
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with reservation.keep_alive():
        getattr(reservation, end)()
        wait_until(lambda: not keepers())

    assert not reservation.lost


def keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "redset keep_alive"]


def test_an_end_that_crosses_an_extension_is_no_loss(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension that is under way while the block ends the lease finds none, and nothing was lost."""
    extending, acked = threading.Event(), threading.Event()
    send = raw.execute_command

    def hold_up_extensions(*words: Any, **options: Any) -> Any:
        if asks_to("extend", words):
            extending.set()
            assert acked.wait(20)
        return send(*words, **options)

    monkeypatch.setattr(raw, "execute_command", hold_up_extensions)
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with reservation.keep_alive():
        assert extending.wait(20)
        reservation.ack()
        acked.set()
        wait_until(lambda: not keepers())

    assert not reservation.lost


def test_an_ack_whose_reply_was_lost_can_be_repeated_though_an_extension_was_under_way(
    raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    extending, lost = threading.Event(), threading.Event()
    send = raw.execute_command

    def lose_the_reply_of_the_ack(*words: Any, **options: Any) -> Any:
        if asks_to("extend", words):
            extending.set()
            assert lost.wait(20)
        reply = send(*words, **options)
        if "ack" in words and not lost.is_set():
            lost.set()
            wait_until(lambda: not keepers())
            raise ConnectionError("the reply was lost")
        return reply

    monkeypatch.setattr(raw, "execute_command", lose_the_reply_of_the_ack)
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with reservation.keep_alive():
        assert extending.wait(20)
        with pytest.raises(ConnectionError):
            reservation.ack()
        reservation.ack()

    assert not reservation.lost


def test_a_server_that_is_out_of_reach_for_a_moment_is_tried_again(
    raw: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send = raw.execute_command
    failures = iter([ConnectionError("gone")] * 2)

    def fail_at_first(*words: Any, **options: Any) -> Any:
        if asks_to("extend", words) and (failure := next(failures, None)):
            raise failure
        return send(*words, **options)

    monkeypatch.setattr(raw, "execute_command", fail_at_first)
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    reservation = jobs.reserve(lease=4 * LEASE)
    reservation._lease = LEASE / 10  # so that it is tried often, and the lease outlives the test
    first = reservation.deadline

    with reservation.keep_alive():
        wait_until(lambda: reservation.deadline != first)

    assert caplog.text.count("could not be extended") == 2


def test_a_server_that_is_out_of_reach_for_too_long_is_a_lost_lease(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    send = raw.execute_command

    def fail(*words: Any, **options: Any) -> Any:
        if asks_to("extend", words):
            raise ConnectionError("gone")
        return send(*words, **options)

    monkeypatch.setattr(raw, "execute_command", fail)
    jobs = SortedSet(raw, "jobs")
    jobs.add("read")
    reservation = jobs.reserve(lease=SHORT_LEASE)

    with pytest.raises(LeaseLost), reservation.keep_alive():
        assert reservation.lost.wait(20)
        assert time.monotonic() >= reservation._expires_at


def wait_for_extension(reservation: Any) -> None:
    before = reservation.deadline
    wait_until(lambda: reservation.deadline > before)


def test_a_lease_of_a_loop_can_be_kept_alive(jobs: SortedSet[str]) -> None:
    for reservation in jobs.consume(lease=LEASE, wait=0):
        with reservation.keep_alive():
            wait_for_extension(reservation)

    assert jobs.stats().leased == 0
    assert len(jobs) == 0


# In asyncio, a task does it, and cancels the block when the lease is lost.


@pytest.fixture
def in_asyncio(here: Place) -> Callable[..., None]:
    """Runs a coroutine function with a set and a reservation of its only item."""

    def run(use: Callable[[Any, Any], Awaitable[None]], lease: float = SHORT_LEASE) -> None:
        async def used() -> None:
            client = here.client(awaited=True)
            try:
                jobs = redset.aio.SortedSet(client, "jobs")
                await jobs.add("read")
                async with asyncio.timeout(30):
                    await use(jobs, await jobs.reserve(lease=lease))
                assert [task.get_name() for task in asyncio.all_tasks()] == [asyncio.current_task().get_name()]  # type: ignore[union-attr]
            finally:
                await close_awaited(client)

        asyncio.run(used())

    return run


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_task_extends_the_lease_while_the_block_runs(in_asyncio: Any) -> None:
    async def keep(jobs: Any, reservation: Any) -> None:
        first = reservation.deadline
        async with reservation.keep_alive():
            await eventually(lambda: reservation.deadline > first + LEASE / 4)
            second = reservation.deadline
            await eventually(lambda: reservation.deadline > second + LEASE / 4)
            assert await jobs.take(1) == []
        await reservation.ack()

    in_asyncio(keep, LEASE)


def test_the_block_is_cancelled_when_the_lease_is_lost(in_asyncio: Any) -> None:
    async def lose(jobs: Any, reservation: Any) -> None:
        cleaned_up = False
        with pytest.raises(LeaseLost, match="'read' in the set 'jobs'"):
            async with reservation.keep_alive():
                await jobs.discard("read")
                try:
                    await for_ever()
                finally:
                    cleaned_up = True
        assert cleaned_up
        assert reservation.lost

        # The task itself is not cancelled: it can go on to another item.
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    in_asyncio(lose)


def test_a_block_that_has_ended_by_then_learns_it_on_leaving(in_asyncio: Any) -> None:
    async def lose(jobs: Any, reservation: Any) -> None:
        with pytest.raises(LeaseLost):
            async with reservation.keep_alive():
                await jobs.discard("read")
                assert await jobs.extend([reservation], 60) == [reservation]

    in_asyncio(lose, LEASE)


def test_the_block_of_the_reservation_around_it_lets_the_loss_through(in_asyncio: Any) -> None:
    async def lose(jobs: Any, reservation: Any) -> None:
        with pytest.raises(LeaseLost):
            async with reservation as item, reservation.keep_alive():
                await jobs.discard(item)
                await for_ever()

    in_asyncio(lose)


def test_a_cancellation_from_outside_stays_one(in_asyncio: Any) -> None:
    async def cancel(jobs: Any, reservation: Any) -> None:
        begun = asyncio.Event()

        async def keep() -> None:
            async with reservation.keep_alive():
                begun.set()
                await for_ever()

        task = asyncio.create_task(keep())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not reservation.lost
        await reservation.ack()

    in_asyncio(cancel, LEASE)


def test_a_cancellation_from_outside_matters_more_than_a_lost_lease(in_asyncio: Any) -> None:
    async def cancel(jobs: Any, reservation: Any) -> None:
        cleaning_up = asyncio.Event()

        async def keep() -> None:
            async with reservation.keep_alive():
                try:
                    await for_ever()
                finally:
                    cleaning_up.set()
                    await for_ever()

        task = asyncio.create_task(keep())
        await jobs.discard("read")
        await cleaning_up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_asyncio(cancel)


def test_an_exception_of_an_async_block_goes_through(in_asyncio: Any) -> None:
    async def fail(jobs: Any, reservation: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            async with reservation.keep_alive():
                raise ZeroDivisionError

    in_asyncio(fail, LEASE)


@pytest.mark.parametrize("end", ["ack", "nack", "again", "bury"])
def test_what_an_async_block_ends_itself_is_not_lost(in_asyncio: Any, end: str) -> None:
    async def finish(jobs: Any, reservation: Any) -> None:
        async with reservation.keep_alive():
            await getattr(reservation, end)()
            await asyncio.wait([task for task in asyncio.all_tasks() if task.get_name() == "redset keep_alive"])
        assert not reservation.lost

    in_asyncio(finish)


def test_a_timeout_around_an_async_block_is_a_timeout(in_asyncio: Any) -> None:
    async def wait(jobs: Any, reservation: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), reservation.keep_alive():
                await for_ever()

    in_asyncio(wait, LEASE)
