"""Sessions make the calls that may be sent twice: as many as there are calls at once, for all sets of their client."""

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
from typing import Any, ClassVar

import pytest
import redis

import redset.aio
from clients import close_awaited
from faces import Face
from redset import ScheduledSet, SortedSet
from redset.core import calls
from redset.core.calls import Call, State, state_of
from redset.core.keys import Keys
from servers import Server, load_scripts


def records(raw: Any, name: str = "jobs") -> set[bytes]:
    """The keys of the set's call records: one for each session that ever called on it."""
    return set(raw.keys(Keys(name).call_prefix + b"*"))


def ids(raw: Any, name: str = "jobs") -> set[bytes]:
    """The ids of the sessions that ever called on the set."""
    return {record.removeprefix(Keys(name).call_prefix) for record in records(raw, name)}


def number_of(raw: Any, record: bytes) -> int:
    return int(raw.get(record).split()[0])


class Wrapper:
    """A client of the user's own, which can only execute commands."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def execute_command(self, *words: Any, **options: Any) -> Any:
        return self.client.execute_command(*words, **options)


def test_calls_one_after_the_other_are_of_one_session(face: Face, raw: Any) -> None:
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


def test_calls_at_once_have_a_session_each(raw: Any) -> None:
    class Meeting(Wrapper):
        """Has calls wait for each other, so that all are under way at once."""

        everybody = threading.Barrier(8)

        def execute_command(self, *words: Any, **options: Any) -> Any:
            self.everybody.wait(10)
            return super().execute_command(*words, **options)

    load_scripts(raw, "add")
    client = Meeting(raw)
    with ThreadPoolExecutor(8) as threads:
        for number in range(3):
            list(threads.map(SortedSet[str](client, "jobs").add, [f"{number} {thread}" for thread in range(8)]))

    assert [number_of(raw, record) for record in records(raw)] == [3] * 8
    assert raw.zcard("jobs") == 24


def test_tasks_at_once_need_no_more_sessions_than_there_are_tasks(here: Any, raw: Any) -> None:
    async def add_at_once() -> None:
        client = here.client(awaited=True)
        jobs = redset.aio.SortedSet(client, "jobs")
        for number in range(5):
            await asyncio.gather(*(jobs.add(f"{number} {task}") for task in range(10)))
        await close_awaited(client)

    asyncio.run(add_at_once())

    assert 1 <= len(records(raw)) <= 10
    assert raw.zcard("jobs") == 50


def test_sets_of_any_name_and_kind_on_one_client_share_its_sessions(face: Face, raw: Any) -> None:
    names = []
    for kind, options in {"SortedSet": {}, "TimeSortedSet": {}, "ScheduledSet": {}, "ExpiringSet": {"ttl": 60}}.items():
        for number in range(2):
            names.append(f"{kind} {number}")
            getattr(face, kind)(names[-1], **options).add("x")
    face.PeriodicSet("polled", interval=60).add("x")

    assert len(set.union(*(ids(raw, name) for name in [*names, "polled"]))) == 1
    assert all(len(ids(raw, name)) == 1 for name in [*names, "polled"])


def test_numbers_only_grow_and_may_have_gaps(face: Face, raw: Any) -> None:
    """A session numbers the calls on all sets together; each set has a record of its own."""
    numbers: dict[str, list[int]] = {"jobs": [], "others": []}
    for name in ("jobs", "others", "others", "jobs", "others", "jobs"):
        face.SortedSet(name).add("x")
        (record,) = records(raw, name)
        numbers[name].append(number_of(raw, record))

    assert numbers == {"jobs": [1, 4, 6], "others": [2, 3, 5]}


def test_a_call_that_is_sent_twice_is_one_whatever_its_session_did_on_other_sets_meanwhile(raw: Any) -> None:
    class Repeating(Wrapper):
        """Notes each command."""

        sent: ClassVar[list[tuple[Any, ...]]] = []

        def execute_command(self, *words: Any, **options: Any) -> Any:
            self.sent.append(words)
            return super().execute_command(*words, **options)

    load_scripts(raw, "add", "claim")
    client = Repeating(raw)
    jobs, others = SortedSet[str](client, "jobs"), SortedSet[str](client, "others")
    jobs.add("a", 1), jobs.add("b", 2), others.add("x", 1)
    assert jobs.pop() == "a"
    pop = client.sent[-1]
    others.add("y", 2), others.pop(), others.add("z", 3)

    assert raw.execute_command(*pop)[0] == b"a"
    assert list(jobs) == ["b"]

    # A late copy, when the set itself has had a newer call, does nothing.
    jobs.add("c", 3)
    with contextlib.suppress(redis.ResponseError):
        raw.execute_command(*pop)
    assert list(jobs) == ["b", "c"]


def test_clients_share_no_sessions(here: Any, raw: Any) -> None:
    clients = [here.client(), here.client()]
    for client in clients:
        SortedSet[str](client, "jobs").add("x")
        ScheduledSet[str](client, "others").add("x")

    assert len(ids(raw)) == 2
    assert ids(raw, "others") == ids(raw)
    for client in clients:
        client.close()


def test_an_idle_session_is_used_before_a_new_one_is_made(here: Any, raw: Any) -> None:
    client = here.client()
    jobs = SortedSet[str](client, "jobs")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(jobs.add, map(str, range(200))))
    made = len(ids(raw))
    for number in range(20):
        jobs.add(f"later {number}")
    client.close()

    assert len(ids(raw)) == made <= 8
    assert len(state_of(client).idle) == made


class TestMemory:
    def test_sessions_go_with_their_client(self) -> None:
        client = Wrapper(None)
        state = weakref.ref(state_of(client))
        assert state() is state_of(client)

        del client
        gc.collect()

        assert state() is None

    def test_nothing_is_kept_for_a_set(self, face: Face, raw: Any) -> None:
        for number in range(100):
            jobs = face.SortedSet(f"jobs {number}")
            jobs.add("x")
            jobs.add("y")
            jobs.reserve().ack()
            assert jobs.pop() == "y"
        del jobs
        gc.collect()

        state = state_of(face.client)
        assert len(state.idle) == 1
        assert not state.debts
        assert not state.large
        assert dict(state.in_loops) == {}

    @pytest.mark.usefixtures("without_registry")
    def test_a_session_that_is_under_way_is_not_idle(self, raw: Any) -> None:
        idle: list[int] = []

        class Looking(Wrapper):
            def execute_command(self, *words: Any, **options: Any) -> Any:
                idle.append(len(state_of(self).idle))
                return super().execute_command(*words, **options)

        load_scripts(raw, "add")
        client = Looking(raw)
        for item in "abc":
            SortedSet[str](client, "jobs").add(item)

        assert idle == [0, 0, 0]
        assert len(state_of(client).idle) == 1

    def test_a_call_that_can_be_asked_for_again_keeps_its_session_until_then(self, raw: Any) -> None:
        """Its session makes no other call meanwhile: that would replace the record."""
        load_scripts(raw, "add", "claim", "end")
        client = Forgetful(raw)
        jobs = SortedSet[str](client, "jobs")
        jobs.add("x")
        reservation = jobs.reserve()
        client.loses = True
        with pytest.raises(redis.ConnectionError):
            reservation.ack()
        before = ids(raw)
        for number in range(10):
            jobs.add(f"{number}")
        reservation.ack()

        assert len(before) == 1
        assert len(ids(raw)) == 2
        # Another process could repeat it after a fork: its session makes no further call.
        (idle,) = state_of(client).idle
        assert idle.id not in before
        assert not reservation.lost.is_set()

    def test_debts_are_dropped_when_their_records_are_gone(self, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        client = Forgetful(raw)
        for number in range(3):
            client.loses = True
            with pytest.raises(redis.ConnectionError):
                SortedSet[str](client, f"jobs {number}").pop()
        assert len(state_of(client).debts) == 3

        monkeypatch.setattr(calls, "RECORD_LIFE", 0.0)
        client.loses = True
        with pytest.raises(redis.ConnectionError):
            SortedSet[str](client, "jobs").pop()

        assert [debt.name for debt in state_of(client).debts] == [Keys("jobs").call_prefix]


@pytest.mark.parametrize("obstacle", ["no weak references", "no hash"])
def test_a_client_that_cannot_be_told_from_others_works(raw: Any, obstacle: str) -> None:
    class WithSlots:
        __slots__ = ("execute_command",)

        def __init__(self, client: Any) -> None:
            self.execute_command = client.execute_command

    class WithoutHash(Wrapper):
        __hash__ = None  # type: ignore[assignment]

    jobs = SortedSet[str]({"no weak references": WithSlots, "no hash": WithoutHash}[obstacle](raw), "jobs")
    for item in "abc":
        jobs.add(item)
        jobs.reserve().ack()

    assert len(records(raw)) == 1
    assert not jobs


class TestFork:
    """In a process of its own, which has no threads when it forks."""

    def test_a_child_has_sessions_of_its_own(self, here: Any, raw: Any) -> None:
        said = run(here, fork_and_call)

        assert said["parent"] == said["child"] == [f"{number}" for number in range(50)]
        assert len(records(raw)) == 2

    def test_an_end_that_both_repeat_makes_no_session_common(self, here: Any, raw: Any) -> None:
        said = run(here, fork_and_repeat)

        assert sorted(said["parent"] + said["child"]) == [f"{number:02}" for number in range(40)]


def run(here: Any, function: Callable[[str], None]) -> Any:
    """What a function of this module prints that is given the server's url."""
    if not isinstance(here, Server):
        pytest.skip("no url of a single server")
    program = f"import test_sessions; test_sessions.{function.__name__}({here.url!r})"
    paths = os.pathsep.join(path for path in [str(Path(__file__).parents[1]), *sys.path] if path)
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


@pytest.mark.parametrize("verb", ["pop", "reserve"])
def test_a_debt_that_an_interrupted_call_was_to_pay_is_a_debt_again(
    raw: Any, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    client = Forgetful(raw)
    jobs = SortedSet[str](client, "jobs")
    jobs.add("a")
    client.loses = True
    with pytest.raises(redis.ConnectionError):
        getattr(jobs, verb)()

    def interrupt(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Call, "become", interrupt)
    with pytest.raises(KeyboardInterrupt):
        jobs.pop()

    assert jobs.pop() == "a"


def test_a_call_that_another_thread_comes_to_share_meanwhile_breaks_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one sends it, while this one receives the reply."""
    call = Call(calls.Session(), b"{jobs}:call:", 0, None, None, os.getpid())
    call.become(State.SENT)

    class Following(tuple[State, ...]):
        __slots__ = ()

        def __contains__(self, state: object) -> bool:
            call.shared = True
            return False

    monkeypatch.setattr(State.SENT, "next", Following())
    call.become(State.RECEIVED)
    assert call.state is State.RECEIVED


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
