"""What a consume loop learns of its acks when the claims that carry them fail: whether each item is done or lost."""

import asyncio
import threading
from typing import Any

import pytest
import redis
import valkey

import redset
import redset.aio
from faces import Face, original_of
from invariants import RawSet
from proxy import Fault, Proxy
from redset.core import consuming
from redset.core.calls import state_of

CONNECTION_ERRORS = (redis.ConnectionError, valkey.ConnectionError)

LEASE = 60.0
#: Seconds that a test waits for what must come.
PATIENCE = 20.0


def test_acks_of_a_claim_that_was_lost_are_sent_again_for_each_of_the_tasks_that_shared_it(
    frank_proxy: Proxy, raw: Any
) -> None:
    async def consume() -> None:
        async with frank_proxy.client(awaited=True) as client:
            jobs = redset.aio.SortedSet(client, "jobs")
            await jobs.update("abcd")
            loops = [jobs.consume(lease=LEASE, wait=1) for _ in range(4)]
            await asyncio.gather(*map(anext, loops))
            # One leaves by itself, and the others together.
            frank_proxy.plan(Fault.NONE, Fault.LOST_COMMAND)
            async with asyncio.timeout(PATIENCE):
                ends = await asyncio.gather(*map(anext, loops), return_exceptions=True)
            assert list(map(type, ends)) == [StopAsyncIteration] * 4
            assert [loop.lost for loop in loops] == [0] * 4

    asyncio.run(consume())

    assert RawSet(raw, "jobs").is_empty()


def test_acks_that_went_alone_together_are_done_when_the_loops_fail_and_close(
    frank_proxy: Proxy, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "OLDEST_ACK", 0.0)

    async def consume() -> None:
        async with frank_proxy.client(awaited=True) as client:
            jobs = redset.aio.SortedSet(client, "jobs")
            await jobs.update("abcdefgh")
            loops = [jobs.consume(lease=LEASE, batch=2, max_outage=0) for _ in range(4)]
            await asyncio.gather(*map(anext, loops))
            frank_proxy.plan(Fault.NONE, Fault.LOST_REPLY)
            async with asyncio.timeout(PATIENCE):
                ends = await asyncio.gather(*map(anext, loops), return_exceptions=True)
                await asyncio.gather(*(loop.close() for loop in loops))
            assert [isinstance(end, CONNECTION_ERRORS) for end in ends] == [False, True, True, True]
            assert [loop.lost for loop in loops] == [0] * 4
            assert {one.attempt for one in await jobs.reserve_many(10)} == {1, 2}

    asyncio.run(consume())

    assert raw.zcard("{jobs}:leased") == 4


def test_an_ack_whose_claim_was_never_executed_is_not_taken_for_done_after_an_earlier_claim_was(
    frank: Face, frank_proxy: Proxy, raw: Any
) -> None:
    """Nobody has read the reply of either, and one roll-back would answer for both."""
    jobs = frank.SortedSet("jobs")
    jobs.update({"a": 1, "b": 2, "c": 3})
    loop = jobs.consume(lease=LEASE, wait=1)
    assert next(loop).item == "a"
    frank_proxy.plan(Fault.LOST_REPLY)
    with pytest.raises(CONNECTION_ERRORS):
        jobs.take(1)

    frank_proxy.plan(Fault.LOST_COMMAND)
    assert [one.item for one in loop] == ["b", "c"]

    assert RawSet(raw, "jobs").is_empty()
    assert loop.lost == 0


def test_a_loop_knows_what_became_of_its_ack_when_another_thread_rolls_its_claim_back(
    frank_proxy: Proxy, raw: Any
) -> None:
    client = frank_proxy.client()
    jobs = redset.SortedSet(client, "jobs")
    jobs.add("a")
    reached, popped = threading.Event(), threading.Event()

    def hold() -> None:
        """Between the roll-back and its reply."""
        reached.set()
        popped.wait(1)

    popper = threading.Thread(target=jobs.take, args=(1,))

    def stop() -> bool:
        # It is asked first when the claim has failed, before the loop rolls it back.
        if state_of(client).debts and popper.ident is None:
            frank_proxy.plan(Fault.NONE, meanwhile=hold)
            popper.start()
            assert reached.wait(PATIENCE)
        return False

    loop = jobs.consume(lease=LEASE, wait=1, stop=stop)
    reservation = next(loop)
    frank_proxy.plan(Fault.LOST_REPLY)
    assert [*loop] == []
    popped.set()
    popper.join()

    assert reached.is_set()
    assert (loop.lost, bool(reservation.lost)) == (0, False)
    assert RawSet(raw, "jobs").is_empty()
    client.close()


def test_an_ack_that_has_arrived_is_not_lost_when_the_loop_fails_and_closes(
    frank: Face, frank_proxy: Proxy, raw: Any
) -> None:
    jobs = frank.SortedSet("jobs")
    jobs.update("abc", score=0)
    loop = jobs.consume(lease=LEASE, max_outage=0)
    reservation = next(loop)
    # The claim that carries the ack, and the roll-back of that claim when the loop is closed.
    frank_proxy.plan(Fault.LOST_REPLY, Fault.LOST_COMMAND)
    with pytest.raises(CONNECTION_ERRORS):
        next(loop)

    assert (loop.lost, bool(reservation.lost)) == (0, False)
    assert {one.item: one.attempt for one in jobs.reserve_many(10)} == {"b": 1, "c": 1}


@pytest.mark.parametrize("ends_first", [False, True])
def test_an_ack_that_came_too_late_is_lost_when_the_loop_fails_and_closes(
    frank: Face, frank_proxy: Proxy, raw: Any, ends_first: bool
) -> None:
    jobs = frank.SortedSet("jobs")
    jobs.add("a")
    loop = jobs.consume(lease=LEASE, max_outage=0)
    reservation = next(loop)
    raw.zrem("{jobs}:leased", "a")
    frank_proxy.plan(*[Fault.LOST_REPLY, Fault.LOST_COMMAND][ends_first:])
    with pytest.raises(CONNECTION_ERRORS):
        next(loop)

    assert (loop.lost, bool(reservation.lost)) == (1, True)


@pytest.mark.parametrize("fault", [Fault.LOST_COMMAND, Fault.LOST_REPLY])
def test_acks_that_go_alone_are_done_and_not_lost_when_the_loop_fails_and_closes(
    frank: Face, frank_proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(consuming, "OLDEST_ACK", 0.0)
    jobs = frank.SortedSet("jobs")
    jobs.update("abc", score=0)
    loop = jobs.consume(lease=LEASE, batch=2, max_outage=0)
    reservation = next(loop)
    frank_proxy.plan(fault)
    with pytest.raises(CONNECTION_ERRORS):
        next(loop)

    assert (loop.lost, bool(reservation.lost)) == (0, False)
    assert {one.item: one.attempt for one in jobs.reserve_many(10)} == {"b": 1, "c": 1}


@pytest.mark.parametrize("fault", [Fault.LOST_COMMAND, Fault.LOST_REPLY])
def test_what_is_given_back_for_want_of_time_is_not_kept_when_the_loop_fails_and_closes(
    frank: Face, frank_proxy: Proxy, fault: Fault
) -> None:
    jobs = frank.SortedSet("jobs")
    jobs.update("abc", score=0)
    loop = jobs.consume(lease=LEASE, batch=2, max_outage=0)
    next(loop)
    original_of(loop)._ready[0]._expires_at -= LEASE * 3 / 4
    frank_proxy.plan(fault)
    with pytest.raises(CONNECTION_ERRORS):
        next(loop)

    assert loop.lost == 0
    assert {one.item: one.attempt for one in jobs.reserve_many(10)} == {"b": 1, "c": 1}


def test_what_a_loop_gave_back_is_not_lost_when_it_is_closed_twice(frank: Face, frank_proxy: Proxy) -> None:
    jobs = frank.SortedSet("jobs")
    jobs.update("abc", score=0)
    stop = threading.Event()
    loop = jobs.consume(lease=LEASE, batch=2, stop=stop)
    reservation = next(loop)
    stop.set()
    frank_proxy.plan(Fault.LOST_REPLY)
    with pytest.raises(CONNECTION_ERRORS):
        next(loop)
    loop.close()

    assert (loop.lost, bool(reservation.lost)) == (0, False)
    assert {one.item: one.attempt for one in jobs.reserve_many(10)} == {"b": 1, "c": 1}
