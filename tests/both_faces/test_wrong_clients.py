"""What is no client of a face is refused where a set or a lock is made, before anything is sent."""

import asyncio
import functools
import types
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio

import redset
import redset.aio
import redset.locks
from redset.core.clients import check_client

CLASSES: dict[str, Callable[[Any, Any], Any]] = {
    "SortedSet": lambda face, client: face.SortedSet(client, "jobs"),
    "TimeSortedSet": lambda face, client: face.TimeSortedSet(client, "jobs"),
    "ScheduledSet": lambda face, client: face.ScheduledSet(client, "jobs"),
    "PeriodicSet": lambda face, client: face.PeriodicSet(client, "jobs", 60),
    "ExpiringSet": lambda face, client: face.ExpiringSet(client, "jobs", 60),
    "Lock": lambda face, client: (face if face is redset.aio else redset.locks).Lock(client, "jobs"),
}
LIBRARIES: dict[str, Any] = {"redis": redis, "valkey": valkey}


async def connected() -> Any:
    return redis.Redis()


@pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("face", [redset, redset.aio], ids=["sync", "aio"])
def test_what_is_no_client_is_refused(face: Any, make: Any) -> None:
    coroutine = connected()
    wrong: dict[str, Any] = {
        "not None": None,
        "URL": "redis://:secret@localhost:6379",
        "URL itself": b"redis://:secret@localhost",
        "awaited first": coroutine,
        "no execute_command": object(),
        "class Redis": redis.Redis,
        "no execute_comman": redis,
    }
    for said, client in wrong.items():
        with pytest.raises(TypeError, match=said) as caught:
            make(face, client)
        assert "secret" not in str(caught.value)
        assert ("redset.aio.connect" if face is redset.aio else "redset.connect") in str(caught.value)
    coroutine.close()


@pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_of_the_other_face_is_refused(make: Any, library: str) -> None:
    blocking, awaited = LIBRARIES[library], LIBRARIES[library].asyncio
    name = library.capitalize()

    with pytest.raises(TypeError, match=r"redset\.aio"):
        make(redset, getattr(awaited, name)())
    with pytest.raises(TypeError, match="synchronous"):
        make(redset.aio, getattr(blocking, name)())
    make(redset, getattr(blocking, name)())
    make(redset.aio, getattr(awaited, name)())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pipeline_a_subscription_and_a_sentinel_are_no_clients(library: str) -> None:
    name = library.capitalize()
    for module, face in ((LIBRARIES[library], redset), (LIBRARIES[library].asyncio, redset.aio)):
        client = getattr(module, name)()
        sentinel = __import__(f"{module.__name__}.sentinel", fromlist=["Sentinel"]).Sentinel([("localhost", 1)])
        for wrong, said in ((client.pipeline(), "pipeline"), (client.pubsub(), "PubSub"), (sentinel, "master_for")):
            with pytest.raises(TypeError, match=said):
                face.SortedSet(wrong, "jobs")
        face.SortedSet(sentinel.master_for("main"), "jobs")


class Own(redis.Redis):
    """Wraps what it inherits."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]


class OwnAwaited(redis.asyncio.Redis):
    """Does so by a plain function, which returns what is awaited."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]


class Thirty:
    """A client of one's own."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        raise NotImplementedError


class ThirtyAwaited:
    async def execute_command(self, *words: Any, **options: Any) -> Any:
        raise NotImplementedError


class Wrapper:
    """Passes on what another client returns."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def execute_command(self, *words: Any, **options: Any) -> Any:
        return self.client.execute_command(*words, **options)


class Proxy:
    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def clients() -> dict[str, tuple[Any, bool]]:
    """Of each kind one, and whether it is awaited."""
    return {
        "own class": (Own(), False),
        "own awaited class": (OwnAwaited(), True),
        "thirty lines": (Thirty(), False),
        "thirty awaited lines": (ThirtyAwaited(), True),
        "wrapper": (Wrapper(redis.Redis()), False),
        "wrapper of an awaited one": (Wrapper(redis.asyncio.Redis()), True),
        "wrapper of a wrapper": (Wrapper(Wrapper(ThirtyAwaited())), True),
        "proxy": (Proxy(redis.Redis()), False),
        "awaited proxy": (Proxy(redis.asyncio.Redis()), True),
        "fake": (fakeredis.FakeRedis(), False),
        "awaited fake": (fakeredis.FakeAsyncRedis(), True),
    }


@pytest.mark.parametrize("kind", clients())
def test_clients_of_every_kind_work_on_their_face(kind: str) -> None:
    client, awaits = clients()[kind]

    check_client(client, awaits=awaits)
    for make in CLASSES.values():
        make(redset.aio if awaits else redset, client)


@pytest.mark.parametrize("kind", [kind for kind in clients() if "wrapper of" not in kind])
def test_and_on_no_other(kind: str) -> None:
    client, awaits = clients()[kind]

    with pytest.raises(TypeError):
        check_client(client, awaits=not awaits)


def test_what_only_a_call_would_tell_is_taken() -> None:
    """Refused is what is certainly wrong."""
    for execute in (functools.partial(print), print):
        client = types.SimpleNamespace(execute_command=execute)
        check_client(client, awaits=True)
        check_client(client, awaits=False)


def test_a_client_that_is_a_coroutine_function_of_its_own_is_awaited() -> None:
    class Executor:
        async def __call__(self, *words: Any, **options: Any) -> Any:
            await asyncio.sleep(0)

    check_client(types.SimpleNamespace(execute_command=Executor()), awaits=True)
    with pytest.raises(TypeError):
        check_client(types.SimpleNamespace(execute_command=Executor()), awaits=False)
