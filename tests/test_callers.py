"""Callers: who makes the calls that may be sent twice. As many as there are calls at once, shared and lent again."""

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redset.core.callers import callers_of

import redset.aio
from faces import Face
from redset import ScheduledSet, SortedSet
from redset.core.keys import Keys
from redset.core.scripts import Script
from servers import Server

PREFIX = Keys("jobs").call_prefix


def records(raw: Any, name: str = "jobs") -> set[bytes]:
    """The keys of the records: one for each caller that ever called."""
    return set(raw.keys(Keys(name).call_prefix + b"*"))


def number_of(raw: Any, record: bytes) -> int:
    return int(raw.get(record).split()[0])


class Wrapper:
    """A client of one's own: all that is asked of it is that it executes commands."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def execute_command(self, *words: Any, **options: Any) -> Any:
        return self.client.execute_command(*words, **options)


def test_calls_one_after_the_other_have_one_caller(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    for number in range(10):
        jobs.add(str(number))
        jobs.reserve().ack()

    (record,) = records(raw)
    assert number_of(raw, record) == 30


def test_looking_is_no_call(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    assert (len(jobs), "x" in jobs, jobs.score("x"), jobs.peek_score(), list(jobs)) == (0, False, None, None, [])
    jobs.stats()

    assert records(raw) == set()


def test_calls_at_once_have_a_caller_each(raw: Any) -> None:
    class Meeting(Wrapper):
        """Has calls wait for each other, so that all are under way at once."""

        everybody = threading.Barrier(8)

        def execute_command(self, *words: Any, **options: Any) -> Any:
            self.everybody.wait(10)
            return super().execute_command(*words, **options)

    raw.script_load(Script("add").body)
    client = Meeting(raw)
    with ThreadPoolExecutor(8) as threads:
        for number in range(3):
            list(threads.map(SortedSet[str](client, "jobs").add, [f"{number} {caller}" for caller in range(8)]))

    assert [number_of(raw, record) for record in records(raw)] == [3] * 8
    assert raw.zcard("jobs") == 24


def test_tasks_at_once_have_a_caller_each_and_leave_them_to_others(here: Any, raw: Any) -> None:
    async def add_at_once() -> None:
        client = here.client(awaited=True)
        jobs = redset.aio.SortedSet(client, "jobs")
        for number in range(5):
            await asyncio.gather(*(jobs.add(f"{number} {task}") for task in range(10)))
        await client.aclose()

    asyncio.run(add_at_once())

    assert 1 <= len(records(raw)) <= 10
    assert raw.zcard("jobs") == 50


def test_sets_of_one_name_on_one_client_share_their_callers(face: Face, raw: Any) -> None:
    for made_by in face.SortedSet, face.TimeSortedSet, face.ScheduledSet, face.SortedSet:
        made_by("jobs").add("x", 1)

    (record,) = records(raw)
    assert number_of(raw, record) == 4


def test_sets_of_other_names_or_on_other_clients_share_nothing(here: Any, raw: Any) -> None:
    clients = [here.client(), here.client()]
    for client in clients:
        SortedSet[str](client, "jobs").add("x")
        ScheduledSet[str](client, "others").add("x")

    assert len(records(raw)) == 2
    assert len(records(raw, "others")) == 2
    for client in clients:
        client.close()


def test_callers_go_with_their_client() -> None:
    client = Wrapper(None)
    callers = weakref.ref(callers_of(client, PREFIX))
    assert callers() is callers_of(client, PREFIX)

    del client
    gc.collect()

    assert callers() is None


@pytest.mark.parametrize("obstacle", ["no weak references", "no hash"])
def test_a_client_that_cannot_be_told_from_others_works(raw: Any, obstacle: str) -> None:
    class WithSlots:
        __slots__ = ("execute_command",)

        def __init__(self, client: Any) -> None:
            self.execute_command = client.execute_command

    class WithoutHash(Wrapper):
        __hash__ = None  # type: ignore[assignment]

    jobs: SortedSet[str] = SortedSet[str](
        {"no weak references": WithSlots, "no hash": WithoutHash}[obstacle](raw), "jobs"
    )
    for item in "abc":
        jobs.add(item)
        jobs.reserve().ack()

    assert len(records(raw)) == 1
    assert not jobs


class TestFork:
    """In a process of its own, which has no threads when it forks."""

    def test_a_child_has_callers_of_its_own(self, here: Any, raw: Any) -> None:
        said = run(here, fork_and_call)

        assert said["parent"] == said["child"] == [f"{number}" for number in range(50)]
        assert len(records(raw)) == 2

    def test_an_end_that_both_repeat_makes_no_caller_common(self, here: Any, raw: Any) -> None:
        said = run(here, fork_and_repeat)

        assert sorted(said["parent"] + said["child"]) == [f"{number:02}" for number in range(40)]


def run(here: Any, function: Callable[[str], None]) -> Any:
    """What a function of this module prints that is given the server's url."""
    if not isinstance(here, Server):
        pytest.skip("no url of a single server")
    program = f"import test_callers; test_callers.{function.__name__}({here.url!r})"
    paths = os.pathsep.join(path for path in [str(Path(__file__).parent), *sys.path] if path)
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return {name: said for line in done.stdout.splitlines() for name, said in json.loads(line).items()}


def say(name: str, what: object) -> None:
    """Prints it at once and whole."""
    os.write(1, f"{json.dumps({name: what})}\n".encode())


def fork_and_call(url: str) -> None:
    jobs = SortedSet[str](redis.Redis.from_url(url), "jobs")
    jobs.add("before")
    assert jobs.pop() == "before"
    child = os.fork()
    if not child:
        # Numbers like those of the parent's next calls.
        say("child", add_and_pop(SortedSet[str](jobs.redis, "jobs"), score=1))
        os._exit(0)
    os.waitpid(child, 0)
    say("parent", add_and_pop(jobs, score=2))


def add_and_pop(jobs: "SortedSet[str]", score: float) -> list[str]:
    popped = []
    for number in range(50):
        jobs.add(f"{number}", score)
        popped.append(jobs.pop())
    return popped


class Forgetful(Wrapper):
    """Loses one reply."""

    loses = False

    def execute_command(self, *words: Any, **options: Any) -> Any:
        reply = super().execute_command(*words, **options)
        if self.loses:
            self.loses = False
            raise redis.ConnectionError("the reply was lost")
        return reply


def fork_and_repeat(url: str) -> None:
    client = Forgetful(redis.Redis.from_url(url))
    jobs = SortedSet[str](client, "jobs")
    for number in range(40):
        jobs.add(f"{number:02}", score=number)
    jobs.add("held", score=-1)
    reservation = jobs.reserve()
    client.loses = True
    with contextlib.suppress(redis.ConnectionError):
        reservation.ack()
    child = os.fork()
    try:
        reservation.ack()
        say("parent" if child else "child", [jobs.pop() for _ in range(20)])
    except Exception as error:
        say("parent" if child else "child", [repr(error)])
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
