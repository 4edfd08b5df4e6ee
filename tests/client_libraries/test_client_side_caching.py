"""A client of redis-py that caches replies is never answered from memory, and refuses nothing."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redset import ExpiringSet, ScheduledSet, SortedSet
from redset.core.clients import executor
from servers import Server, Unavailable

cache = pytest.importorskip("redis.cache", reason="this redis-py caches nothing")


@pytest.fixture(scope="module")
def new_server() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        server = Server("redis-8.2", port=port)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield server
    server.stop()


@pytest.fixture
def caching(new_server: Server) -> Iterator[Any]:
    new_server.empty()
    # What redis-py caches it does not have over a socket file.
    with redis.Redis(port=new_server.port, protocol=3, cache_config=cache.CacheConfig()) as client:
        yield client


def test_every_read_is_answered_by_the_server(caching: Any, new_server: Server) -> None:
    jobs = SortedSet[str](caching, "jobs")
    other = new_server.client()

    assert jobs.add("a", 1) == 1
    for number in range(2, 5):
        looks = (
            len(jobs),
            "b" in jobs,
            jobs.score("a"),
            jobs.scores("ab"),
            jobs[-1],
            jobs[:1],
            jobs.index("a"),
            list(jobs),
            jobs.count(min=1),
            jobs.peek(),
            jobs.stats().waiting,
            len(jobs.dead_letters),
            jobs.dead_letters[:],
        )
        assert looks[:3] == (number - 1, number > 2, 1.0)
        other.zadd("jobs", {"bcd"[number - 2]: number})
    assert jobs == {"a", "b", "c", "d"}
    assert jobs.pop() == "a"
    assert [reservation.item for reservation in jobs.consume(wait=0)] == ["b", "c", "d"]


def test_iteration_over_many_pages(caching: Any) -> None:
    jobs = SortedSet[str](caching, "jobs")
    names = [f"{number:05}" for number in range(9000)]
    jobs.update(names, score=float)

    assert list(jobs) == names
    assert list(jobs.with_scores())[-1] == (names[-1], 8999.0)


def test_the_other_kinds_of_set(caching: Any) -> None:
    seen = ExpiringSet[str](caching, "seen", 60)
    assert seen.add("a")
    assert ("a" in seen, len(seen), list(seen)) == (True, 1, ["a"])

    jobs = ScheduledSet[str](caching, "scheduled")
    jobs.add("a")
    assert (len(jobs), jobs.available(), jobs.take(5)) == (1, 1, ["a"])


def test_commands_of_the_user_stay_cached(caching: Any) -> None:
    caching.zadd("jobs", {"a": 1})
    assert caching.zcard("jobs") == len(SortedSet[str](caching, "jobs")) == 1
    assert caching.get_cache().size == 1


def test_other_clients_are_called_as_usual(raw: Any) -> None:
    sent: list[Any] = []
    raw.execute_command = lambda *words, **options: sent.append((words, options))
    try:
        executor(raw)("GET", "x", NEVER_DECODE=True)
    finally:
        del raw.execute_command

    assert sent == [(("GET", "x"), {"NEVER_DECODE": True})]
