"""When something is wrong with the server or its keys: errors say what, and nothing is lost."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import redset.aio
from invariants import TYPES, RawSet
from redset import SortedSet
from redset.core.clients import is_outage
from redset.core.keys import Keys
from redset.exceptions import RedsetError, ServerFullError, WrongTypeError
from servers import Place, Server

#: Every operation on what waits, and on the dead letters.
ON_WAITING: dict[str, Callable[[Any], Any]] = {
    "add": lambda jobs: jobs.add("x", score=1),
    "pop": lambda jobs: jobs.pop(),
    "take": lambda jobs: jobs.take(2),
    "peek": lambda jobs: jobs.peek(),
    "peek_score": lambda jobs: jobs.peek_score(),
    "score": lambda jobs: jobs.score("x"),
    "contains": lambda jobs: jobs.contains("x"),
    "in": lambda jobs: "x" in jobs,
    "count": lambda jobs: jobs.count(),
    "count between": lambda jobs: jobs.count(min=1, max=2),
    "len": len,
    "at": lambda jobs: jobs.at(0),
    "[i]": lambda jobs: jobs[0],
    "slice": lambda jobs: jobs.slice(0, 2),
    "[a:b]": lambda jobs: jobs[0:2],
    "iterate": list,
    "discard": lambda jobs: jobs.discard("x"),
    "clear": lambda jobs: jobs.clear(),
}
ON_DEAD_LETTERS: dict[str, Callable[[Any], Any]] = {
    "dead letters: len": lambda jobs: len(jobs.dead_letters),
    "dead letters: count": lambda jobs: jobs.dead_letters.count(),
    "dead letters: iterate": lambda jobs: list(jobs.dead_letters),
    "dead letters: slice": lambda jobs: jobs.dead_letters.slice(0, 2),
    "dead letters: clear": lambda jobs: jobs.dead_letters.clear(),
    "clear": lambda jobs: jobs.clear(),
}
COUNTS = ("dead letters: len", "dead letters: count")
EVERY_OPERATION = ON_WAITING | ON_DEAD_LETTERS
CHANGES = ("add", "pop", "take", "discard", "clear")


def each(operations: dict[str, Callable[[Any], Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operate", operations.values(), ids=operations.keys())


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs", serializer=json)


# Keys of the wrong type


@pytest.mark.conformance
@each(ON_WAITING)
def test_a_set_whose_key_holds_something_else_raises_an_error_that_names_the_key(
    jobs: SortedSet[Any], raw: Any, operate: Callable[[Any], Any]
) -> None:
    raw.set("jobs", "a string of somebody else")

    with pytest.raises(WrongTypeError, match="'jobs'"):
        operate(jobs)

    assert raw.get("jobs") == b"a string of somebody else"


@pytest.mark.parametrize(
    ("wrong", "write"),
    [
        ("list", lambda raw, key: raw.rpush(key, "x")),
        ("hash", lambda raw, key: raw.hset(key, "x", "y")),
        ("set", lambda raw, key: raw.sadd(key, "x")),
        ("stream", lambda raw, key: raw.xadd(key, {"x": "y"})),
    ],
)
def test_no_other_type_is_taken_for_a_set(jobs: SortedSet[Any], raw: Any, wrong: str, write: Any) -> None:
    write(raw, "jobs")
    before = raw.dump("jobs")

    for operate in ON_WAITING.values():
        with pytest.raises(WrongTypeError, match="'jobs'"):
            operate(jobs)

    assert raw.dump("jobs") == before


@pytest.mark.conformance
@each(ON_DEAD_LETTERS)
def test_dead_letters_whose_key_holds_something_else_raise_an_error_that_names_it(
    jobs: SortedSet[Any], raw: Any, operate: Callable[[Any], Any]
) -> None:
    raw.zadd("jobs", {"1": 1})
    raw.set("{jobs}:dead", "a string of somebody else")

    with wrong_type("{jobs}:dead"):
        operate(jobs)

    assert raw.get("{jobs}:dead") == b"a string of somebody else"
    assert raw.zcard("jobs") == 1


@pytest.mark.conformance
@each({name: operate for name, operate in ON_DEAD_LETTERS.items() if name not in COUNTS})
def test_dead_letters_whose_details_hold_something_else_raise_an_error_that_names_the_key(
    jobs: SortedSet[Any], raw: Any, operate: Callable[[Any], Any]
) -> None:
    raw.zadd("jobs", {"1": 1})
    raw.zadd("{jobs}:dead", {"2": 2})
    raw.set("{jobs}:letters", "a string of somebody else")

    with wrong_type("{jobs}:letters"):
        operate(jobs)

    assert raw.get("{jobs}:letters") == b"a string of somebody else"
    assert raw.zcard("jobs") == raw.zcard("{jobs}:dead") == 1


def wrong_type(key: str) -> Any:
    return pytest.raises(WrongTypeError, match=f"'{key}'")


def error_of(operate: Callable[[Any], Any], jobs: Any) -> WrongTypeError | None:
    try:
        operate(jobs)
    except WrongTypeError as error:
        return error
    return None


@pytest.mark.parametrize("companion", [key for key in TYPES if key != "waiting" and hasattr(Keys("jobs"), key)])
def test_a_companion_that_holds_something_else_is_named_or_does_not_matter(
    jobs: SortedSet[Any], raw: Any, companion: str
) -> None:
    """Not every operation needs every key. One that does need it names it and has changed nothing."""
    key = getattr(Keys("jobs"), companion)
    waiting = [(b"1", 1.0), (b"2", 2.0)]
    for name, operate in EVERY_OPERATION.items():
        raw.delete("jobs", key)
        raw.sadd(key, "of somebody else")
        raw.zadd("jobs", dict(waiting))
        if error := error_of(operate, jobs):
            assert f"'{key.decode()}'" in str(error), name
            assert raw.zrange("jobs", 0, -1, withscores=True) == waiting, name

        assert raw.smembers(key) == {b"of somebody else"}, name


@pytest.mark.conformance
@pytest.mark.parametrize("key", ["{jobs}:dead", "{jobs}:letters"])
@pytest.mark.parametrize("operation", ["pop", "take"])
def test_what_cannot_be_loaded_is_not_lost_when_it_cannot_be_put_aside(
    jobs: SortedSet[Any], raw: Any, key: str, operation: str
) -> None:
    raw.zadd("jobs", {"{": 1})
    raw.set(key, "a string of somebody else")

    with wrong_type(key):
        ON_WAITING[operation](jobs)

    assert raw.zrange("jobs", 0, -1) == [b"{"]
    assert raw.get(key) == b"a string of somebody else"


def test_a_wrong_type_is_an_error_of_redset_and_a_type_error() -> None:
    assert issubclass(WrongTypeError, RedsetError)
    assert issubclass(WrongTypeError, TypeError)


# A full server


def test_a_full_server_refuses_what_is_added(jobs: SortedSet[Any], raw: Any, filling: Callable[[], None]) -> None:
    jobs.add("before", score=1)
    filling()

    with pytest.raises(ServerFullError, match="'jobs'"):
        jobs.add("after", score=2)
    with pytest.raises(ServerFullError):
        jobs.add("before", score=2)

    assert raw.zrange("jobs", 0, -1, withscores=True) == [(b'"before"', 1.0)]


def test_a_full_server_can_be_drained(jobs: SortedSet[Any], raw: Any, filling: Callable[[], None]) -> None:
    for number in range(5):
        jobs.add(number, score=number)
    filling()
    raw.script_flush()

    assert jobs.pop() == 0
    assert jobs.take(2) == [1, 2]
    assert jobs.discard(3)
    assert jobs.clear()
    assert RawSet(raw, "jobs").is_empty()


def test_a_full_server_can_be_looked_at(jobs: SortedSet[Any], filling: Callable[[], None]) -> None:
    jobs.add("x", score=1)
    filling()

    assert (jobs.peek(), jobs.peek_score(), jobs.score("x"), list(jobs), len(jobs)) == ("x", 1, 1, ["x"], 1)


def test_a_full_server_keeps_what_cannot_be_loaded(jobs: SortedSet[Any], raw: Any, filling: Callable[[], None]) -> None:
    raw.zadd("jobs", {"{": 1, "2": 2})
    filling()

    assert jobs.take(2) == [2]
    assert [letter.raw for letter in jobs.dead_letters] == [b"{"]


def test_what_was_refused_can_be_added_when_there_is_room_again(
    jobs: SortedSet[Any], raw: Any, filling: Callable[[], None]
) -> None:
    filling()
    with pytest.raises(ServerFullError):
        jobs.add("x", score=1)
    raw.config_set("maxmemory", "0")

    assert jobs.add("x", score=1) == 1


# Connections


@pytest.mark.parametrize("operate", EVERY_OPERATION.values(), ids=EVERY_OPERATION.keys())
def test_what_the_client_raises_for_a_lost_connection_passes_through_unchanged(
    face: Any, kind: str, operate: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = redis.ConnectionError("the connection was lost")

    def fail(*words: Any, **options: Any) -> Any:
        raise lost

    monkeypatch.setattr(face.client, "execute_command", fail)
    with pytest.raises(redis.ConnectionError) as raised:
        operate(getattr(face, kind)("jobs"))

    assert raised.value is lost


def test_a_server_that_is_not_there_is_an_error_of_the_client() -> None:
    with socket.socket() as nobody:  # bound and not listening: connections are refused, and nobody else gets the port
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]

        with pytest.raises(redis.ConnectionError):
            SortedSet(redis.Redis(port=port, retry=Retry(NoBackoff(), 0)), "jobs").pop()
        with pytest.raises(redis.ConnectionError):
            asyncio.run(awaited_pop(port))


async def awaited_pop(port: int) -> None:
    async with redis.asyncio.Redis(port=port, retry=AsyncRetry(NoBackoff(), 0)) as client:
        await redset.aio.SortedSet(client, "jobs").pop()


@pytest.mark.conformance
def test_other_errors_of_the_server_pass_through_unchanged(face: Any, kind: str, raw: Any, here: Place) -> None:
    if not isinstance(here, Server):
        pytest.skip("a single server is told how many replicas it needs")
    jobs = getattr(face, kind)("jobs")
    raw.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(Exception, match="Not enough good replicas") as raised:
            jobs.add("x", score=1)
    finally:
        raw.config_set("min-replicas-to-write", 0)

    assert not isinstance(raised.value, RedsetError)


@contextmanager
def refusing(raw: Any, command: str) -> Iterator[None]:
    """Has the server let nobody use a command."""
    raw.execute_command("ACL", "SETUSER", "default", f"-{command}")
    try:
        yield
    finally:
        raw.execute_command("ACL", "SETUSER", "default", f"+{command}")


# Scripts


@pytest.mark.conformance
def test_a_server_that_has_forgotten_the_scripts_is_told_them_again(jobs: SortedSet[Any], raw: Any) -> None:
    for _ in range(2):
        for operation, operate in EVERY_OPERATION.items():
            raw.zadd("jobs", {'"x"': 1, '"y"': 2})
            raw.script_flush()
            operate(jobs)
            if operation == "pop":
                assert raw.zrange("jobs", 0, -1) == [b'"y"'], "done once, not twice"


def test_a_script_that_is_forgotten_before_every_command_does_no_harm(
    face: Any, kind: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = face.client.execute_command

    def forget_and_send(*words: Any, **options: Any) -> Any:
        raw.script_flush()
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", forget_and_send)
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {"{": -1})
    for number in range(3):
        jobs.add(number, score=number)

    assert jobs.pop() == 0
    assert list(jobs) == [1, 2]
    assert len(jobs.dead_letters) == 1


# Replicas


@pytest.fixture
def replica(here: Place, raw: Any) -> Iterator[None]:
    """Makes the server a read-only replica until the end of the test, of a server that cannot be reached."""
    if not isinstance(here, Server):
        pytest.skip("a single server is made a replica")
    raw.zadd("jobs", {"1": 1, "2": 2})
    raw.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    raw.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.conformance
@pytest.mark.usefixtures("replica")
@each({name: operate for name, operate in EVERY_OPERATION.items() if name in CHANGES})
def test_a_replica_refuses_what_would_change_it(jobs: SortedSet[Any], raw: Any, operate: Callable[[Any], Any]) -> None:
    with pytest.raises(Exception, match="against a read only replica") as caught:
        operate(jobs)

    assert is_outage(caught.value)
    assert raw.zrange("jobs", 0, -1) == [b"1", b"2"]


@pytest.mark.usefixtures("replica")
def test_a_replica_can_be_looked_at(jobs: SortedSet[Any]) -> None:
    assert (jobs.peek(), jobs.peek_score(), jobs.score(2)) == (1, 1.0, 2.0)
    assert (len(jobs), jobs.count(min=2), 2 in jobs) == (2, 1, True)
    assert (list(jobs), jobs[1], jobs[:1]) == ([1, 2], 2, [1])
    assert list(jobs.dead_letters) == []
