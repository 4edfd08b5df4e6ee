"""The locks: exclusion between threads, tasks and processes; expiry; and what leaving a block never does."""

import asyncio
import contextlib
import inspect
import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from redset.exceptions import LockTimeout, RedsetError
from redset.locks import AsyncLock, Lock
from servers import PATIENCE


class Locks:
    """Makes locks of one face, and enters and leaves their blocks, so that one body tests both faces."""

    def __init__(self, face: Any) -> None:
        self.face = face
        self.client = face.client
        self.awaited = inspect.iscoroutinefunction(face.client.execute_command)

    def new(self, key: str | bytes = "lock", **options: Any) -> Any:
        return (AsyncLock if self.awaited else Lock)(self.client, key, **options)

    def finished(self, result: Any) -> Any:
        return self.face.run(result) if inspect.isawaitable(result) else result

    def enter(self, lock: Any) -> None:
        assert self.finished(lock.__aenter__() if self.awaited else lock.__enter__()) is None

    def enter_elsewhere(self, lock: Any) -> None:
        """Enter in another thread or task than this one."""
        entering = threading.Thread(target=self.enter, args=(lock,))
        entering.start()
        entering.join()

    def leave(self, lock: Any, raised: BaseException | None = None) -> None:
        details = (type(raised) if raised else None, raised, None)
        assert not self.finished(lock.__aexit__(*details) if self.awaited else lock.__exit__(*details))

    @contextlib.contextmanager
    def inside(self, lock: Any) -> Iterator[None]:
        self.enter(lock)
        try:
            yield
        except BaseException as error:
            self.leave(lock, error)
            raise
        self.leave(lock)

    def is_held(self, key: str | bytes = "lock") -> bool:
        return bool(self.finished(self.client.exists(key)))

    def milliseconds_left(self) -> int:
        return int(self.finished(self.client.pttl("lock")))


@pytest.fixture
def locks(face: Any) -> Locks:
    return Locks(face)


@pytest.fixture
def blocking(locks: Locks) -> Locks:
    if locks.awaited:
        pytest.skip("for the synchronous face")
    return locks


@pytest.fixture
def awaited(locks: Locks) -> Locks:
    if not locks.awaited:
        pytest.skip("for the asyncio face")
    return locks


class TestBothFaces:
    def test_the_defaults_are_those_of_redset_0_5(self, locks: Locks) -> None:
        lock = locks.new("name")
        assert (lock.redis, lock.key) == (locks.client, "name")
        assert (lock.expires, lock.timeout, lock.poll_interval) == (20, 10, 0.2)
        assert repr(lock) == f"<{type(lock).__name__} key='name'>"

    def test_the_options_are_those_of_redset_0_5(self, locks: Locks) -> None:
        lock = type(locks.new())(locks.client, "name", 1, 0, 3)
        assert (lock.expires, lock.timeout, lock.poll_interval) == (1, 0, 3)

    def test_the_key_exists_until_the_block_ends(self, locks: Locks) -> None:
        with locks.inside(locks.new(expires=50)):
            assert 40_000 < locks.milliseconds_left() <= 50_000
        assert not locks.is_held()

    def test_one_object_serves_for_many_blocks(self, locks: Locks) -> None:
        lock = locks.new(timeout=0)
        for _ in range(3):
            with locks.inside(lock):
                assert locks.is_held()

    @pytest.mark.parametrize(("key", "shown"), [("lock", "lock"), (b"l\xffck", r"l\xffck")])
    def test_a_wait_beyond_the_timeout_raises_lock_timeout(self, locks: Locks, key: str | bytes, shown: str) -> None:
        with locks.inside(locks.new(key)):
            began = time.monotonic()
            with pytest.raises(LockTimeout) as raised:
                locks.enter(locks.new(key, timeout=0.3, poll_interval=0.05))
            assert 0.2 < time.monotonic() - began < 5, "the default is 10"
            assert locks.is_held(key)
        assert str(raised.value) == f"Timeout while waiting for lock '{shown}'"
        assert isinstance(raised.value, RedsetError)

    def test_with_a_timeout_of_0_it_is_tried_once_without_waiting(self, locks: Locks) -> None:
        impatient = locks.new(timeout=0, poll_interval=30)
        with locks.inside(locks.new()), pytest.raises(LockTimeout):
            locks.enter(impatient)
        with locks.inside(impatient):
            assert locks.is_held()

    def test_is_not_reentrant(self, locks: Locks) -> None:
        lock = locks.new(timeout=0)
        with locks.inside(lock), pytest.raises(LockTimeout):
            locks.enter(lock)
        assert not locks.is_held()

    def test_a_lock_that_a_crashed_holder_left_expires(self, locks: Locks) -> None:
        locks.enter(locks.new(expires=0.2))
        with locks.inside(locks.new(timeout=PATIENCE, poll_interval=0.02)):
            assert locks.is_held()

    @pytest.mark.parametrize("same_object", [True, False])
    def test_a_block_that_outlived_its_lock_leaves_the_next_holder_alone(
        self, locks: Locks, same_object: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        slow = locks.new(expires=0.1)
        other = slow if same_object else locks.new()
        locks.enter(slow)
        time.sleep(0.2)
        other.expires = 20
        locks.enter_elsewhere(other)
        with caplog.at_level(logging.WARNING, "redset"):
            locks.leave(slow)
        assert locks.is_held()
        assert [(record.name, record.levelname) for record in caplog.records] == [("redset", "WARNING")]
        assert "'lock' expired before its block ended" in caplog.text
        locks.leave(other)
        assert not locks.is_held()

    def test_a_block_that_outlived_its_lock_keeps_its_own_error(self, locks: Locks) -> None:
        with pytest.raises(ZeroDivisionError), locks.inside(locks.new(expires=0.05)):
            time.sleep(0.1)
            raise ZeroDivisionError

    def test_an_error_in_the_block_passes_through_and_frees_the_lock(self, locks: Locks) -> None:
        error = ZeroDivisionError("in the block")
        with pytest.raises(ZeroDivisionError) as raised, locks.inside(locks.new()):
            raise error
        assert raised.value is error
        assert not locks.is_held()

    def test_a_key_of_another_type_is_no_lock_and_stays(self, locks: Locks) -> None:
        locks.finished(locks.client.zadd("lock", {"item": 1}))
        with pytest.raises(Exception, match="WRONGTYPE"):
            locks.enter(locks.new(timeout=0))
        assert locks.finished(locks.client.zcard("lock")) == 1

    def test_it_is_acquired_when_the_reply_was_lost_and_the_client_repeated_the_command(
        self, locks: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send = locks.client.set

        def send_twice(*arguments: Any, **options: Any) -> Any:
            send(*arguments, **options)
            return send(*arguments, **options)

        async def send_twice_awaited(*arguments: Any, **options: Any) -> Any:
            await send(*arguments, **options)
            return await send(*arguments, **options)

        monkeypatch.setattr(locks.client, "set", send_twice_awaited if locks.awaited else send_twice)
        with locks.inside(locks.new(timeout=0)):
            assert locks.is_held()
        assert not locks.is_held()

    def test_a_connection_lost_at_the_end_is_an_error_unless_the_block_raised_one(
        self, locks: Locks, caplog: pytest.LogCaptureFixture
    ) -> None:
        lock = locks.new()
        for raised, expected in ((None, ConnectionResetError), (ZeroDivisionError(), None)):
            locks.enter(lock)
            lock._entries[0].lock.release = _failing_async if locks.awaited else _failing
            with pytest.raises(expected) if expected else contextlib.nullcontext():
                locks.leave(lock, raised)
            locks.finished(locks.client.delete("lock"))
        assert "could not be released and is held until it expires: ConnectionResetError" in caplog.text

    def test_what_the_client_raises_on_entering_passes_through(
        self, locks: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks.client, "set", _failing_async if locks.awaited else _failing)
        with pytest.raises(ConnectionResetError):
            locks.enter(locks.new())


def _failing(*arguments: Any, **options: Any) -> None:
    raise ConnectionResetError


async def _failing_async(*arguments: Any, **options: Any) -> None:
    raise ConnectionResetError


class Room:
    """Counts who is inside at once."""

    def __init__(self) -> None:
        self.inside = self.visits = self.most = 0

    def enter(self) -> None:
        self.inside += 1
        self.visits += 1
        self.most = max(self.most, self.inside)

    def leave(self) -> None:
        self.inside -= 1


class TestThreadsAndProcesses:
    def test_threads_that_share_one_object_exclude_each_other(self, blocking: Locks) -> None:
        lock, room = blocking.new(timeout=PATIENCE, poll_interval=0.005), Room()

        def visit_often() -> None:
            for _ in range(5):
                with lock:
                    room.enter()
                    time.sleep(0.002)
                    room.leave()

        threads = [threading.Thread(target=visit_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (room.visits, room.most) == (20, 1)
        assert not blocking.is_held()

    def test_processes_exclude_each_other(self, blocking: Locks) -> None:
        address = _address(blocking.client)
        blocking.client.set("count", 0)
        spawning = multiprocessing.get_context("spawn")
        workers = [spawning.Process(target=_count_up, args=(type(blocking.client), address, 10)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert int(blocking.client.get("count")) == 30

    def test_a_block_may_be_left_by_another_thread_than_entered_it(self, blocking: Locks) -> None:
        lock = blocking.new()
        blocking.enter_elsewhere(lock)
        assert blocking.is_held()
        lock.__exit__(None, None, None)
        assert not blocking.is_held()

    def test_an_interrupted_entry_leaves_nothing_locked(self, blocking: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
        send = blocking.client.set

        def send_and_be_interrupted(*arguments: Any, **options: Any) -> None:
            send(*arguments, **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(blocking.client, "set", send_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            blocking.enter(blocking.new())
        assert not blocking.is_held()

    def test_an_interruption_is_not_hidden_by_a_release_that_fails(
        self, blocking: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class NoScripts(Lock):
            def _new_lock(self) -> Any:
                lock = super()._new_lock()
                lock.release = _failing
                return lock

        def be_interrupted(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(blocking.client, "set", be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            blocking.enter(NoScripts(blocking.client, "lock"))


def _address(client: Any) -> dict[str, Any]:
    """The arguments that make another client of the same server; skips where there is no such thing."""
    known = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in known:
        return {"unix_socket_path": known["path"]}
    if type(client).__module__.startswith("fakeredis") or "port" not in known:
        pytest.skip("this client has no single server that another process could reach")
    return {"host": known["host"], "port": known["port"]}


def _count_up(client_type: Any, address: dict[str, Any], times: int) -> None:
    client = client_type(**address)
    lock = Lock(client, "lock", timeout=PATIENCE, poll_interval=0.005)
    for _ in range(times):
        with lock:
            count = int(client.get("count"))
            time.sleep(0.001)
            client.set("count", count + 1)


class TestTasks:
    def test_tasks_that_share_one_object_exclude_each_other(self, awaited: Locks) -> None:
        lock, room = awaited.new(timeout=PATIENCE, poll_interval=0.005), Room()

        async def visit_often() -> None:
            for _ in range(5):
                async with lock:
                    room.enter()
                    await asyncio.sleep(0.002)
                    room.leave()

        async def visit_together() -> None:
            await asyncio.gather(*[visit_often() for _ in range(4)])

        awaited.finished(visit_together())
        assert (room.visits, room.most) == (20, 1)
        assert not awaited.is_held()

    def test_a_task_that_waits_lets_others_run(self, awaited: Locks) -> None:
        lock = awaited.new(poll_interval=0.02)

        async def hold_for_a_while() -> None:
            async with lock:
                await asyncio.sleep(0.1)

        async def hold_twice() -> None:
            await asyncio.wait_for(asyncio.gather(hold_for_a_while(), hold_for_a_while()), PATIENCE)

        awaited.finished(hold_twice())

    def test_a_cancelled_task_holds_nothing(self, awaited: Locks) -> None:
        """Cancelled at every stage: before anything was sent, before the reply, in the block, and on leaving."""
        lock = awaited.new()

        async def hold() -> None:
            async with lock:
                await asyncio.sleep(0.003)

        async def hold_and_be_cancelled_after(seconds: float) -> None:
            task = asyncio.create_task(hold())
            await asyncio.sleep(seconds)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        async def is_free_soon() -> bool:
            give_up_at = time.monotonic() + PATIENCE
            while time.monotonic() < give_up_at:
                if not await awaited.client.exists("lock"):
                    return True
                await asyncio.sleep(0.01)
            return False

        for step in range(60):
            awaited.finished(hold_and_be_cancelled_after(step / 10_000))
            assert awaited.finished(is_free_soon())
        assert lock._entries == []

    def test_a_task_cancelled_while_it_waits_leaves_the_holder_alone(self, awaited: Locks) -> None:
        lock = awaited.new(timeout=PATIENCE, poll_interval=0.01)

        async def wait_and_be_cancelled() -> None:
            async with lock:
                waiting = asyncio.create_task(lock.__aenter__())
                await asyncio.sleep(0.1)
                assert not waiting.done()
                # Cancelled again and again: in Python 3.11 a client that sends with `wait_for` can miss it.
                while not waiting.done():
                    waiting.cancel()
                    await asyncio.wait([waiting], timeout=0.1)
                assert waiting.cancelled()
                assert await awaited.client.exists("lock")

        awaited.finished(wait_and_be_cancelled())
        assert not awaited.is_held()
