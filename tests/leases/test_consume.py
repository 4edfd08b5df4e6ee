"""Consuming: reservations one after the other, each acked by going on to the next."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

import redset.aio
from clients import close_awaited
from invariants import RawSet
from redset import SortedSet
from redset.core import consuming
from redset.core.keys import Keys
from redset.exceptions import LeaseLost
from servers import Place, eventually, wait_until


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


@pytest.fixture
def abc(jobs: SortedSet[str]) -> Any:
    """A set of "a", "b" and "c", in this order."""
    for score, item in enumerate("abc"):
        jobs.add(item, score=score)
    return jobs


def items_of(consumption: Iterable[Any]) -> list[Any]:
    return [reservation.item for reservation in consumption]


def attempts(jobs: SortedSet[str]) -> dict[str, int]:
    """Which attempt of each item is the next one."""
    return {one.item: one.attempt for one in jobs.reserve_many(10)}


def let_leases_run_out(jobs: SortedSet[Any]) -> None:
    wait_until(lambda: jobs.stats().leased == 0)


# Going on


@pytest.mark.conformance
@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_every_item_comes_once_and_is_gone_then(abc: SortedSet[str], raw: Any, batch: int) -> None:
    assert [(one.item, one.attempt) for one in abc.consume(batch=batch, wait=0)] == [("a", 1), ("b", 1), ("c", 1)]

    assert RawSet(raw, "jobs").is_empty()


@pytest.mark.conformance
def test_the_item_in_hand_is_leased_and_the_one_before_is_gone(abc: SortedSet[str]) -> None:
    consumption = abc.consume(wait=0)

    for left in 2, 1, 0:
        next(consumption)
        assert (len(abc), abc.stats().leased) == (left, 1)

    with pytest.raises(StopIteration):
        next(consumption)
    assert abc.stats().leased == 0


@pytest.mark.conformance
def test_no_more_than_a_batch_is_leased(abc: SortedSet[str]) -> None:
    consumption = abc.consume(batch=2, wait=0)

    next(consumption)

    assert (len(abc), abc.stats().leased) == (1, 2)


def test_a_lease_is_as_long_as_was_asked_for(abc: SortedSet[str], raw: Any) -> None:
    now, _ = raw.time()

    assert 999 <= next(abc.consume(lease=1000)).deadline - now <= 1060
    assert 59 <= next(abc.consume()).deadline - now <= 120


@pytest.mark.conformance
def test_what_is_added_again_while_it_is_in_hand_comes_again(abc: SortedSet[str]) -> None:
    seen = []
    for reservation in abc.consume(wait=0):
        seen.append(reservation.item)
        if seen == ["a"]:
            abc.add("a", score=0)

    assert seen == ["a", "a", "b", "c"], "its score is the lowest again, and its ack came with the next hand-out"


@pytest.fixture
def forty(jobs: SortedSet[str]) -> Any:
    """A set of "00" to "39", in this order: enough for batches of which not every item is looked up."""
    jobs.update((f"{number:02}" for number in range(40)), score=int)
    return jobs


@pytest.mark.conformance
def test_what_is_added_again_comes_again_in_a_large_batch(forty: SortedSet[str], raw: Any) -> None:
    seen = []
    for reservation in forty.consume(batch=20, wait=0):
        seen.append(reservation.item)
        if len(seen) == 5:
            forty.add("03", score=-1)

    assert seen[:21] == [f"{number:02}" for number in range(20)] + ["03"]
    assert len(seen) == 41
    assert RawSet(raw, "jobs").is_empty()


@pytest.mark.conformance
def test_attempts_count_on_in_a_large_batch(forty: SortedSet[str], raw: Any) -> None:
    seen = []
    for reservation in forty.consume(batch=20, wait=0):
        seen.append((reservation.item, reservation.attempt))
        if seen[-1] == ("03", 1):
            reservation.nack(delay=0)

    assert seen[20] == ("03", 2)
    assert sorted(seen) == sorted([(f"{number:02}", 1) for number in range(40)] + [("03", 2)])
    assert RawSet(raw, "jobs").is_empty()


@pytest.mark.conformance
def test_what_somebody_holds_is_left_out_of_a_large_batch(forty: SortedSet[str]) -> None:
    held = forty.reserve_many(15)
    forty.add("03", score=-1)

    seen = items_of(forty.consume(batch=20, wait=0))

    assert seen == [f"{number:02}" for number in range(15, 40)]
    assert forty.ack(held) == []
    assert items_of(forty.consume(batch=20, wait=0)) == ["03"]


def test_what_falls_due_is_consumed_from_a_scheduled_set(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("later", score=2**40)
    jobs.add("now", score=1)

    assert items_of(jobs.consume(wait=0)) == ["now"]


@pytest.mark.conformance
def test_an_extended_lease_is_still_acked(abc: SortedSet[str], raw: Any) -> None:
    for reservation in abc.consume(wait=0):
        reservation.extend(1000)

    assert RawSet(raw, "jobs").is_empty()


@pytest.mark.conformance
def test_what_the_body_ended_itself_is_left_alone(abc: SortedSet[str]) -> None:
    ends: dict[str, Callable[[Any], None]] = {
        "a": lambda one: one.nack(delay=1000),
        "b": lambda one: one.again(delay=1000),
        "c": lambda one: one.bury(),
    }
    for reservation in abc.consume(wait=0):
        ends[reservation.item](reservation)

    stats = abc.stats()
    assert (stats.delayed, stats.dead, stats.leased, stats.waiting) == (2, 1, 0, 0)


@pytest.mark.conformance
def test_a_body_may_use_the_reservation_as_a_context_manager(abc: SortedSet[str], raw: Any) -> None:
    seen = []
    for reservation in abc.consume(wait=0):
        with reservation as item:
            seen.append(item)
        assert abc.stats().leased == 0

    assert seen == ["a", "b", "c"]
    assert RawSet(raw, "jobs").is_empty()


@pytest.mark.conformance
def test_what_cannot_be_loaded_is_left_out(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {"1": 1, "{broken": 2, "3": 3, "{too": 4})

    assert items_of(jobs.consume(batch=2, wait=0)) == [1, 3]
    assert len(jobs.dead_letters) == 2


# Round trips


@pytest.fixture
def sent(face: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands that are sent, by their names. The scripts are known to the server before, and no ack goes alone."""
    monkeypatch.setattr(consuming, "OLDEST_ACK", 1000.0)
    face.SortedSet("others").add("x", score=1)
    for one in face.SortedSet("others").consume(wait=0):
        one.nack(delay=1000)
    commands: list[Any] = []
    send = face.client.execute_command

    def note_and_send(*words: Any, **options: Any) -> Any:
        commands.append(words[0])
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", note_and_send)
    return commands


@pytest.mark.conformance
@pytest.mark.usefixtures("without_registry")
@pytest.mark.parametrize(("batch", "round_trips"), [(1, 31), (10, 4), (100, 2)])
def test_acks_travel_with_the_next_hand_out(
    sent: list[Any], face: Any, kind: str, raw: Any, batch: int, round_trips: int
) -> None:
    jobs = getattr(face, kind)("jobs")
    raw.zadd("jobs", {f"{i:02}": 1 for i in range(30)})

    assert len(items_of(jobs.consume(batch=batch, wait=0))) == 30

    assert sent == ["EVALSHA"] * round_trips


def test_acks_go_alone_when_there_is_nothing_to_be_had(jobs: SortedSet[str]) -> None:
    """They do not wait for as long as the consumer does."""
    jobs.add("read", score=1)
    stop = threading.Event()
    consumer = threading.Thread(target=lambda: items_of(jobs.consume(wait=None, stop=stop)), daemon=True)
    consumer.start()
    try:
        wait_until(lambda: len(jobs) == 0)
        wait_until(lambda: jobs.stats().leased == 0)
    finally:
        stop.set()
        consumer.join()


def test_acks_go_alone_when_the_oldest_of_them_is_a_second_old(
    abc: SortedSet[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert consuming.OLDEST_ACK == 1.0
    monkeypatch.setattr(consuming, "OLDEST_ACK", 0.0)
    consumption = abc.consume(batch=3, wait=0)

    next(consumption)
    assert abc.stats().leased == 3
    next(consumption)
    assert abc.stats().leased == 2
    next(consumption)
    assert abc.stats().leased == 1


def test_acks_do_not_go_alone_before(abc: SortedSet[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "OLDEST_ACK", 1000.0)
    consumption = abc.consume(batch=3, wait=0)

    for _ in range(3):
        next(consumption)

    assert abc.stats().leased == 3


# Leases that are lost


@pytest.mark.conformance
def test_a_lease_that_is_found_lost_by_going_on_is_counted_and_logged_and_not_raised(
    abc: SortedSet[str], caplog: pytest.LogCaptureFixture
) -> None:
    consumption = abc.consume(wait=0)
    seen = []
    for reservation in consumption:
        seen.append(reservation.item)
        if reservation.item == "b":
            abc.discard("b")

    assert seen == ["a", "b", "c"]
    assert consumption.lost == 1
    assert [record.levelno for record in caplog.records if "'b' was lost" in record.getMessage()] == [logging.WARNING]


@pytest.mark.conformance
def test_what_of_a_batch_has_run_out_before_its_turn_is_not_given(
    abc: SortedSet[str], caplog: pytest.LogCaptureFixture
) -> None:
    consumption = abc.consume(lease=0.3, batch=3, wait=0)
    assert next(consumption).item == "a"
    let_leases_run_out(abc)

    reservation = next(consumption)

    assert (reservation.item, reservation.attempt > 1) == ("a", True), "it has come back, as have the others"
    assert consumption.lost >= 3
    for item in "abc":
        assert f"'{item}' was lost" in caplog.text
    consumption.close()


@pytest.mark.parametrize("leave", ["stop", "close"])
def test_a_lease_that_is_found_lost_at_the_end_is_counted_too(
    abc: SortedSet[str], leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    consumption = abc.consume(batch=3, wait=0, stop=stop)
    assert next(consumption).item == "a"
    abc.discard("a")
    assert next(consumption).item == "b"
    if leave == "stop":
        stop.set()
        assert items_of(consumption) == []
    else:
        consumption.close()

    assert consumption.lost == 1
    assert "'a' was lost" in caplog.text


@pytest.mark.conformance
def test_a_lease_lost_in_a_block_of_its_own_is_raised(abc: SortedSet[str]) -> None:
    with pytest.raises(LeaseLost):
        for reservation in abc.consume(wait=0):
            with reservation as item:
                abc.discard(item)


# Leaving the loop


@pytest.mark.conformance
def test_a_break_is_a_failed_attempt_for_what_is_in_hand_and_none_for_the_rest(abc: SortedSet[str], raw: Any) -> None:
    for reservation in abc.consume(batch=3, wait=0):
        assert reservation.item == "a"
        break

    assert len(abc) == 3
    assert attempts(abc) == {"a": 2, "b": 1, "c": 1}
    RawSet(raw, "jobs").check()


@pytest.mark.conformance
def test_so_is_an_exception(abc: SortedSet[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        for reservation in abc.consume(batch=3, wait=0):
            if reservation.item == "b":
                raise ZeroDivisionError

    assert attempts(abc) == {"b": 2, "c": 1}, "and a is done"


@pytest.mark.conformance
def test_what_was_acked_before_leaving_is_done(abc: SortedSet[str]) -> None:
    for reservation in abc.consume(batch=2, wait=0):
        reservation.ack()
        break

    assert attempts(abc) == {"b": 1, "c": 1}


@pytest.mark.conformance
def test_an_exception_in_the_block_of_a_reservation_nacks_it_and_goes_through(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", max_attempts=2, backoff=lambda attempt: 0)
    for item in "ab":
        jobs.add(item, score=1)
    jobs.reserve().nack()

    with pytest.raises(LookupError, match="no such page"):
        for reservation in jobs.consume(batch=2, wait=0):
            with reservation:
                raise LookupError("no such page")

    assert [(letter.item, letter.reason) for letter in jobs.dead_letters] == [("a", "LookupError: no such page")]
    assert attempts(jobs) == {"b": 1}


@pytest.mark.conformance
def test_an_item_that_breaks_its_consumers_does_not_loop_for_ever(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", max_attempts=3)
    jobs.add("poison", score=1)
    deliveries = 0

    while jobs.peek_score() is not None:
        for _ in jobs.consume(wait=0):
            deliveries += 1
            break

    assert deliveries == 3
    assert [letter.item for letter in jobs.dead_letters] == ["poison"]


@pytest.mark.conformance
def test_closing_gives_back_what_leaving_does(abc: SortedSet[str]) -> None:
    with abc.consume(batch=3, wait=0) as consumption:
        next(consumption)
        next(consumption)

    assert attempts(abc) == {"b": 2, "c": 1}


def test_a_loop_that_is_closed_has_no_more_to_give(abc: SortedSet[str]) -> None:
    consumption = abc.consume(wait=0)
    next(consumption)
    consumption.close()
    consumption.close()

    with pytest.raises(StopIteration):
        next(consumption)
    assert items_of(consumption) == []
    assert len(abc) == 3


def test_a_loop_has_one_iterator(abc: SortedSet[str]) -> None:
    """A second one would ack the item that is in hand at the first."""
    consumption: Any = abc.consume(batch=3, wait=0)
    with closing(iter(consumption)) as iterator:
        first = next(iterator)
        with pytest.raises(RuntimeError, match="call consume\\(\\) again for another one"):
            next(iter(consumption))
        first.nack()

    assert abc.state("a") == "delayed"


def test_a_second_thread_or_task_is_refused_while_one_waits_for_the_next_item(jobs: SortedSet[str], raw: Any) -> None:
    with jobs.consume() as consumption, ThreadPoolExecutor() as threads:
        first = threads.submit(next, consumption)
        wait_until(lambda: is_awaited(raw))
        with pytest.raises(RuntimeError, match="another thread or task is asking"):
            next(consumption)
        jobs.add("late", score=1)
        assert first.result(20).item == "late"


# Stopping


def stopped_by_an_event() -> tuple[Any, Callable[[], None]]:
    event = threading.Event()
    return event, event.set


def stopped_by_a_callable() -> tuple[Any, Callable[[], None]]:
    said: list[bool] = []
    return lambda: bool(said), lambda: said.append(True)


each_stop = pytest.mark.parametrize("make_stop", [stopped_by_an_event, stopped_by_a_callable])


@pytest.mark.conformance
@each_stop
def test_on_stop_the_item_in_hand_is_done_and_the_rest_is_given_back(
    abc: SortedSet[str], make_stop: Callable[[], tuple[Any, Callable[[], None]]]
) -> None:
    stop, set_stop = make_stop()
    for _ in abc.consume(batch=2, stop=stop):
        set_stop()

    assert attempts(abc) == {"b": 1, "c": 1}


@each_stop
def test_nothing_is_taken_when_it_is_to_stop_already(
    abc: SortedSet[str], make_stop: Callable[[], tuple[Any, Callable[[], None]]]
) -> None:
    stop, set_stop = make_stop()
    set_stop()

    assert items_of(abc.consume(stop=stop)) == []
    assert len(abc) == 3


@each_stop
def test_a_consumer_that_waits_for_ever_is_stopped(
    jobs: SortedSet[str], raw: Any, make_stop: Callable[[], tuple[Any, Callable[[], None]]]
) -> None:
    stop, set_stop = make_stop()
    consumer = threading.Thread(target=lambda: items_of(jobs.consume(stop=stop)), daemon=True)
    consumer.start()
    wait_until(lambda: is_awaited(raw))

    set_stop()

    consumer.join(20)
    assert not consumer.is_alive()


# Waiting


def is_awaited(raw: Any) -> bool:
    """Whether somebody waits for the set."""
    return bool(raw.exists(Keys("jobs").looks))


def test_a_consumer_that_is_not_to_wait_ends_when_there_is_nothing(jobs: SortedSet[str]) -> None:
    assert items_of(jobs.consume(wait=0)) == []


def test_a_consumer_waits_for_what_is_added(jobs: SortedSet[str]) -> None:
    seen: list[str] = []

    def consume() -> None:
        seen.extend(one.item for one in jobs.consume(wait=60, stop=lambda: len(seen) == 3))

    def add(item: str, number: int) -> None:
        jobs.add(item, score=1)
        wait_until(lambda: len(seen) == number)

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    for number, item in enumerate("abc", 1):
        add(item, number)

    consumer.join(20)
    assert seen == ["a", "b", "c"]
    assert not consumer.is_alive()


def test_a_consumer_gives_up_after_so_long_without_an_item(jobs: SortedSet[str]) -> None:
    jobs.add("read", score=1)

    assert items_of(jobs.consume(wait=0.05)) == ["read"]


def test_many_consumers_share_the_items(face: Any, kind: str, raw: Any) -> None:
    raw.zadd("jobs", {f"{i:03}": 1 for i in range(200)})
    seen: list[str] = []

    def consume() -> None:
        seen.extend(items_of(getattr(face, kind)("jobs").consume(batch=3, wait=0)))

    consumers = [threading.Thread(target=consume, daemon=True) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(60)

    assert sorted(seen) == [f"{i:03}" for i in range(200)]
    assert RawSet(raw, "jobs").is_empty()


def test_a_server_that_cannot_be_reached_is_an_error_and_nothing_is_lost(
    face: Any, kind: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = face.client.execute_command
    reachable = True

    def send_if_reachable(*words: Any, **options: Any) -> Any:
        if not reachable:
            raise ConnectionError("the server is gone")
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", send_if_reachable)
    jobs = getattr(face, kind)("jobs")
    raw.zadd("jobs", {"a": 1, "b": 2})
    consumption = jobs.consume(lease=0.3, wait=0)
    next(consumption)

    reachable = False
    with pytest.raises(ConnectionError):
        next(consumption)
    reachable = True

    let_leases_run_out(jobs)
    assert sorted(jobs.take(10)) == ["a", "b"]


# In asyncio


@pytest.fixture
def client(here: Place) -> Callable[[], Any]:
    return lambda: here.client(awaited=True)


class Breaks(Exception):
    pass


@pytest.fixture
def in_asyncio(client: Callable[[], Any]) -> Callable[..., None]:
    """Runs a coroutine function with a set of "a", "b" and "c", which is closed then."""

    def run(use: Callable[[Any], Any]) -> None:
        async def used() -> None:
            connected = client()
            try:
                jobs = redset.aio.SortedSet(connected, "jobs")
                for score, item in enumerate("abc"):
                    await jobs.add(item, score=score)
                await use(jobs)
            finally:
                await close_awaited(connected)

        asyncio.run(used())

    return run


async def next_attempts(jobs: Any) -> dict[str, int]:
    return {one.item: one.attempt for one in await jobs.reserve_many(10)}


def test_leaving_an_async_for_gives_back_soon(in_asyncio: Any, raw: Any) -> None:
    async def leave(jobs: Any) -> None:
        async for _ in jobs.consume(batch=3, wait=0):
            break
        await eventually(lambda: raw.zcard("jobs") == 3)
        assert await next_attempts(jobs) == {"a": 2, "b": 1, "c": 1}

    in_asyncio(leave)


def test_an_iterator_that_nobody_keeps_goes_on_while_its_next_item_is_awaited(in_asyncio: Any) -> None:
    async def begin(jobs: Any) -> None:
        async with jobs.consume(wait=0) as consumption:
            assert (await anext(aiter(consumption))).item == "a"

    in_asyncio(begin)


def test_leaving_an_async_with_has_given_back(in_asyncio: Any) -> None:
    async def leave(jobs: Any) -> None:
        with pytest.raises(Breaks):
            async with jobs.consume(batch=3, wait=0) as consumption:
                async for _ in consumption:
                    raise Breaks
        assert await jobs.count() == 3
        assert await next_attempts(jobs) == {"a": 2, "b": 1, "c": 1}

    in_asyncio(leave)


def test_a_body_that_is_cancelled_gives_back(in_asyncio: Any) -> None:
    async def cancel(jobs: Any) -> None:
        begun = asyncio.Event()

        async def consume() -> None:
            async with jobs.consume(batch=3) as consumption:
                async for _ in consumption:
                    begun.set()
                    await asyncio.Event().wait()

        consumer = asyncio.create_task(consume())
        await begun.wait()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert await next_attempts(jobs) == {"a": 2, "b": 1, "c": 1}

    in_asyncio(cancel)


@pytest.mark.parametrize("turns", range(20))
def test_a_consumer_that_is_cancelled_at_any_moment_ends_and_loses_nothing(in_asyncio: Any, turns: int) -> None:
    async def cancel(jobs: Any) -> None:
        done: set[str] = set()

        async def consume() -> None:
            async with jobs.consume(batch=2, wait=0) as consumption:
                async for reservation in consumption:
                    done.add(reservation.item)

        consumer = asyncio.create_task(consume())
        for _ in range(turns):
            await asyncio.sleep(0)
        was_cancelled = consumer.cancel()
        await asyncio.wait([consumer])
        assert consumer.cancelled() == was_cancelled
        left = await jobs.take(10)
        assert sorted({*done, *left}) == ["a", "b", "c"]
        assert len(done) + len(left) <= 4, "only the one in hand may come again"

    in_asyncio(cancel)


def test_consumers_that_are_cancelled_while_they_wait_for_more_have_acked_what_they_did(in_asyncio: Any) -> None:
    """Their acks have travelled together, with claims that found nothing."""

    async def cancel(jobs: Any) -> None:
        loops = [jobs.consume() for _ in "abc"]
        seen = [reservation.item for reservation in await asyncio.gather(*map(anext, loops))]
        waiting = [asyncio.create_task(anext(loop)) for loop in loops]
        while (await jobs.stats()).leased:  # noqa: ASYNC110 - a server has no events
            await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(seen) == ["a", "b", "c"]
        assert list(map(type, ends)) == [asyncio.CancelledError] * 3
        assert [loop.lost for loop in loops] == [0, 0, 0]

    in_asyncio(cancel)


def test_an_event_of_asyncio_stops_a_consumer(in_asyncio: Any) -> None:
    async def stop(jobs: Any) -> None:
        event = asyncio.Event()
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def consume() -> None:
            async for reservation in jobs.consume(stop=event):
                seen.put_nowait(reservation.item)

        consumer = asyncio.create_task(consume())
        assert [await seen.get() for _ in range(3)] == ["a", "b", "c"]
        event.set()
        async with asyncio.timeout(20):
            await consumer
        assert (await jobs.stats()).leased == 0

    in_asyncio(stop)
