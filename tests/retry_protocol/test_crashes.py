"""Crashes, with real processes: of consumers, which are killed or stopped, and of the server, which forgets or dies."""

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio.retry
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

import redset
from faces import CLIENTS, Awaited, Blocking
from redset.exceptions import LeaseLost
from servers import PATIENCE, Place, Server, wait_until

pytestmark = pytest.mark.no_cover

#: Clients that try again for as long as a server may take to come back.
for face, retry in (("sync", Retry), ("aio", redis.asyncio.retry.Retry)):
    CLIENTS[f"persistent-{face}"] = (
        "redis",
        {
            "retry": retry(ConstantBackoff(0.02), 1000),
            "retry_on_error": [BusyLoadingError, redis.ConnectionError, redis.TimeoutError],
        },
    )


def said(raw: Any) -> str:
    """The next thing that a process says."""
    wait_until(lambda: raw.llen("said") > 0)
    return str(raw.lpop("said").decode())


# Consumers that are killed


def test_whatever_consumers_that_are_killed_had_in_hand_is_handled_by_others(process: Any, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    numbers = itertools.count()

    def has_in_hand(pid: int) -> bool:
        """There is always more to do, however late a process begins."""
        if len(jobs) < 20:
            jobs.update([str(next(numbers)) for _ in range(20)])
        return bool(raw.hexists("in hand", pid))

    consumers = [process(consume_slowly) for _ in range(3)]
    for _ in range(8):
        victim = consumers.pop(0)
        wait_until(partial(has_in_hand, victim.pid))
        victim.kill()
        victim.join()
        consumers.append(process(consume_slowly))
    added = next(numbers)
    wait_until(lambda: raw.scard("handled") == added)

    # The last ones of each are acked when it sees that there is nothing left.
    wait_until(lambda: jobs.stats().leased + jobs.stats().expired == 0)
    assert len(jobs) == 0
    assert raw.sismember("attempts", 2)


def consume_slowly(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for reservation in redset.SortedSet(client, "jobs").consume(lease=1, batch=5):
            client.hset("in hand", os.getpid(), reservation.item)
            time.sleep(0.01)
            client.sadd("handled", reservation.item)
            client.sadd("attempts", reservation.attempt)
            client.hdel("in hand", os.getpid())


def test_a_killed_consumer_has_used_up_an_attempt(face: Any, process: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("item")
    for attempt in (1, 2):
        consumer = process(reserve_and_never_return, None)
        assert said(raw) == f"attempt {attempt}"
        consumer.kill()
        consumer.join()

    assert jobs.reserve(wait=PATIENCE).attempt == 3


def test_an_item_that_kills_its_consumers_ends_among_the_dead_letters(face: Any, process: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", max_attempts=2)
    jobs.add("poison")
    jobs.add("later", score=1)
    for attempt in (1, 2):
        consumer = process(reserve_and_never_return, 2)
        assert said(raw) == f"attempt {attempt}"
        consumer.kill()
        consumer.join()
        wait_until(lambda: jobs.stats().expired == 1)

    assert jobs.pop(wait=PATIENCE) == "later"
    (letter,) = jobs.dead_letters
    assert (letter.item, letter.attempts) == ("poison", 2)


def reserve_and_never_return(url: str, max_attempts: int | None) -> None:
    with redis.Redis.from_url(url) as client:
        reservation = redset.SortedSet(client, "jobs", max_attempts=max_attempts).reserve(lease=0.3, wait=PATIENCE)
        client.rpush("said", f"attempt {reservation.attempt}")
        time.sleep(3600)


def test_a_consumer_that_is_killed_while_it_waits_leaves_nothing_behind(face: Any, process: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    consumer = process(consume_slowly)
    wait_until(lambda: bool(raw.exists("{jobs}:looks")))
    consumer.kill()
    consumer.join()

    jobs.add("item")

    assert jobs.reserve().attempt == 1


# Consumers that are stopped, and wake up after their lease


def ack(reservation: Any) -> None:
    reservation.ack()


def leave_a_block(reservation: Any) -> None:
    with reservation:
        pass


def leave_a_block_that_keeps_it_alive(reservation: Any) -> None:
    with reservation.keep_alive():
        assert reservation.lost.wait(PATIENCE)


def extend(reservation: Any) -> None:
    reservation.extend(60)


@pytest.mark.parametrize("end", [ack, leave_a_block, leave_a_block_that_keeps_it_alive, extend])
def test_a_stopped_consumer_learns_that_its_lease_is_lost(face: Any, process: Any, raw: Any, end: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("item")
    stopped = process(reserve_and_end, end)
    assert said(raw) == "reserved"
    os.kill(stopped.pid, signal.SIGSTOP)
    ours = jobs.reserve(wait=PATIENCE)

    raw.set("go on", "1")
    os.kill(stopped.pid, signal.SIGCONT)

    assert said(raw) == "lost"
    ours.ack()
    assert jobs.stats().waiting == jobs.stats().leased == 0


def reserve_and_end(url: str, end: Callable[[Any], None]) -> None:
    with redis.Redis.from_url(url) as client:
        reservation = redset.SortedSet(client, "jobs").reserve(lease=0.3)
        client.rpush("said", "reserved")
        if end is not leave_a_block_that_keeps_it_alive:
            while not client.exists("go on"):
                time.sleep(0.01)
        try:
            end(reservation)
        except LeaseLost:
            client.rpush("said", "lost")
        else:
            client.rpush("said", "not lost")


def test_a_stopped_loop_counts_the_lease_it_lost_and_leaves_out_what_ran_out(face: Any, process: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    for item in ("1", "2", "3"):
        jobs.add(item)
    stopped = process(consume_and_count)
    assert said(raw) == "1"
    os.kill(stopped.pid, signal.SIGSTOP)
    wait_until(lambda: jobs.stats().expired == 3)
    assert jobs.take(3) == ["1", "2", "3"]

    raw.set("go on", "1")
    os.kill(stopped.pid, signal.SIGCONT)

    assert said(raw) == "3 lost"
    assert jobs.stats().waiting == jobs.stats().leased == 0


def consume_and_count(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        loop = redset.SortedSet(client, "jobs").consume(lease=3, batch=3, wait=0)
        for reservation in loop:
            client.rpush("said", reservation.item)
            while not client.exists("go on"):
                time.sleep(0.01)
        client.rpush("said", f"{loop.lost} lost")


# A server that forgets its scripts, or dies


class Traffic:
    """Producers and consumers that add and take all the while, each in a thread of its own."""

    def __init__(self, jobs: Any, takes: Callable[[Any], list[str]]) -> None:
        self._jobs = jobs
        self._takes = takes
        self._all_added = threading.Event()
        self._pool = ThreadPoolExecutor()
        self._adding = [self._pool.submit(self._add, producer) for producer in range(3)]
        self._taking = [self._pool.submit(self._take) for _ in range(3)]
        self._added: list[str] = []

    def end(self) -> None:
        """All is added that is to be; raises what a producer raised."""
        self._all_added.set()
        for adding in self._adding:
            self._added += adding.result()

    def assert_each_once(self) -> None:
        taken = [item for taking in self._taking for item in taking.result()]
        while rest := self._takes(self._jobs):
            taken += rest
        assert Counter(taken) == Counter(self._added)
        self._pool.shutdown()

    def _add(self, producer: int) -> list[str]:
        added: list[str] = []
        while not self._all_added.is_set():
            added.append(f"{producer}-{len(added)}")
            self._jobs.add(added[-1], score=random.random())
        return added

    def _take(self) -> list[str]:
        taken: list[str] = []
        while not self._all_added.is_set() or len(self._jobs):
            # A call that waits says so when its time is over while the server is away.
            with suppress(redis.ConnectionError, BusyLoadingError):
                taken += self._takes(self._jobs)
        return taken


def by_pop(jobs: Any) -> list[str]:
    try:
        return [jobs.pop(wait=0.2)]
    except KeyError:
        return []


def by_take(jobs: Any) -> list[str]:
    taken: list[str] = jobs.take(random.randint(1, 20), wait=0.2)
    return taken


def by_reserve(jobs: Any) -> list[str]:
    try:
        reservation = jobs.reserve(lease=600, wait=0.2)
    except KeyError:
        return []
    assert reservation.attempt == 1
    reservation.ack()
    return [reservation.item]


def by_reserve_many(jobs: Any) -> list[str]:
    reservations = jobs.reserve_many(random.randint(1, 20), lease=600, wait=0.2)
    assert all(reservation.attempt == 1 for reservation in reservations)
    assert jobs.ack(reservations) == []
    return [reservation.item for reservation in reservations]


TAKES = [by_pop, by_take, by_reserve, by_reserve_many]


@pytest.mark.conformance
@pytest.mark.parametrize("takes", TAKES)
def test_a_server_that_forgets_its_scripts_is_told_again(face: Any, raw: Any, takes: Any) -> None:
    traffic = Traffic(face.SortedSet("jobs"), takes)

    for _ in range(50):
        raw.script_flush()
        time.sleep(0.01)

    traffic.end()
    traffic.assert_each_once()


@pytest.fixture(scope="module")
def lasting_server(server: Place) -> Iterator[Server]:
    """One that has written to disk whatever it has answered."""
    if not isinstance(server, Server):
        pytest.skip("a single server is killed")
    lasting = Server(server.program, appendonly="yes", appendfsync="always")
    yield lasting
    lasting.stop()


@pytest.fixture(params=[(Blocking, "sync"), (Awaited, "aio")], ids=["sync", "aio"])
def persistent(request: pytest.FixtureRequest, lasting_server: Server) -> Iterator[Any]:
    """Each face on a client that tries again until the server is back."""
    client = lasting_server.client()
    client.flushall()
    client.close()
    made_by, name = request.param
    face = made_by(lasting_server, f"persistent-{name}")
    yield face
    face.close()


@pytest.mark.parametrize("takes", TAKES)
def test_a_server_that_is_killed_and_comes_back_loses_nothing_and_gives_nothing_twice(
    persistent: Any, lasting_server: Server, takes: Any
) -> None:
    traffic = Traffic(persistent.SortedSet("jobs"), takes)

    for _ in range(3):
        time.sleep(random.uniform(0.1, 0.3))
        lasting_server.kill()
        time.sleep(0.1)
        lasting_server.start()

    traffic.end()
    traffic.assert_each_once()


def test_leases_attempts_and_dead_letters_outlive_the_server(persistent: Any, lasting_server: Server) -> None:
    jobs = persistent.SortedSet("jobs", max_attempts=2)
    for item in ("held", "nacked", "buried", "added meanwhile"):
        jobs.add(item)
    by_item = {reservation.item: reservation for reservation in jobs.reserve_many(4)}
    by_item["nacked"].nack(delay=0)
    by_item["buried"].bury("no use")
    jobs.add("added meanwhile", score=7)

    lasting_server.kill()
    lasting_server.start()

    by_item["held"].ack()
    assert jobs.reserve().attempt == 2
    assert [letter.item for letter in jobs.dead_letters] == ["buried"]
    by_item["added meanwhile"].ack()
    assert jobs.score("added meanwhile") == 7
    assert jobs.reserve().token > by_item["held"].token
