"""Processes that do on all sets what the workloads say, on either face, and write down what they do."""

import asyncio
import faulthandler
import importlib
import itertools
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nothing here that loads redset: a bug is planted before it is loaded.
from chaos import repeats
from chaos.doors import Door
from chaos.history import Recorder

__all__ = ("Orders", "reshard", "work")

#: In asyncio, how many tasks do the same: their calls go out together.
TASKS = 3


@dataclass(frozen=True)
class Orders:
    """What a worker is told when it is started."""

    worker: str
    incarnation: int
    awaited: bool
    library: str
    door: Door
    directory: Path
    seed: int
    #: What is done, by its name in :data:`chaos.workloads.ALL_WORKLOADS`.
    workloads: str
    #: How many seconds its clock is ahead.
    ahead: float
    #: The seeded bug it has.
    bug: str | None

    @property
    def process(self) -> str:
        return f"{self.worker}/{self.incarnation}"

    @property
    def crash(self) -> Path:
        """Where it says what it met that it did not expect."""
        return self.directory / f"{self.worker}.{self.incarnation}.crash"

    @property
    def stacks(self) -> Path:
        """Where it writes what its threads do when it is sent SIGUSR1."""
        return self.directory / f"{self.worker}.{self.incarnation}.stacks"


def work(orders: Orders) -> None:
    """All that a worker does, until the run is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stacks = orders.stacks.open("w")
    faulthandler.register(signal.SIGUSR1, stacks)
    threading.Thread(target=end_with_the_run, daemon=True).start()
    logging.basicConfig(filename=orders.directory / f"{orders.worker}.log", level=logging.WARNING)
    set_clock_ahead(orders.ahead)
    if orders.bug:
        importlib.import_module("chaos.bugs").plant(orders.bug)
    recorder = Recorder(orders.directory, orders.process)
    if orders.awaited:
        asyncio.run(work_in_tasks(orders, recorder))
    else:
        work_in_threads(orders, recorder)
    recorder.close()
    faulthandler.unregister(signal.SIGUSR1)
    stacks.close()


def reshard(door: Door, set: str, shards: int | None, bug: str | None, commands: float) -> None:
    """Move a set to another number of shards, or be killed after so many commands."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if bug:
        importlib.import_module("chaos.bugs").plant(bug)
    client = door.client("redis", awaited=False, **repeats.repeating("redis", awaited=False))
    redset, keys = importlib.import_module("redset"), importlib.import_module("redset.core.keys").Keys(set)
    # Before its first addition it is none.
    importlib.import_module("servers").wait_until(lambda: client.exists(keys.meta) or client.exists(keys.waiting))
    execute, sent = client.execute_command, itertools.count()

    def execute_or_die(*words: Any, **options: Any) -> Any:
        if next(sent) >= commands:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*words, **options)

    client.execute_command = execute_or_die
    redset.reshard(client, set, shards)


def end_with_the_run() -> None:
    """Ends this process when the one that runs all is gone, however that ended."""
    runner = multiprocessing.parent_process()
    assert runner
    runner.join()
    os._exit(1)


def set_clock_ahead(seconds: float) -> None:
    """Of this process alone, as far as Python programs can see; what it measures is not moved."""
    right = time.time
    time.time = lambda: right() + seconds


async def work_in_tasks(orders: Orders, recorder: Recorder) -> None:
    client = orders.door.client(orders.library, awaited=True, **repeats.repeating(orders.library, awaited=True))
    face = importlib.import_module("redset.aio")
    async with asyncio.TaskGroup() as group:
        for actor in actors(orders, client, face, recorder, times=TASKS):
            group.create_task(or_crash(orders, actor))
    await client.aclose()


def work_in_threads(orders: Orders, recorder: Recorder) -> None:
    client = orders.door.client(orders.library, awaited=False, **repeats.repeating(orders.library, awaited=False))
    face = importlib.import_module("redset")
    threads = [
        threading.Thread(target=drive, args=(or_crash(orders, actor),))
        for actor in actors(orders, client, face, recorder, times=1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()


def actors(
    orders: Orders, client: Any, face: Any, recorder: Recorder, *, times: int
) -> Iterator[Coroutine[Any, Any, None]]:
    """What each thread or task is to do. All on one set share its object, as a user's would."""
    from chaos.hands import Hand, Phase, Worker
    from chaos.workloads import ALL_WORKLOADS

    worker = Worker(orders.process, orders.seed, orders.awaited, recorder, Phase(orders.directory), orders.directory)
    for workload in ALL_WORKLOADS[orders.workloads]:
        set = workload.make(face, client)
        witness = orders.door.witness(client, awaited=orders.awaited)
        for number, role in enumerate(workload.roles * times, 1):
            yield role(Hand(worker, role.__name__, number, set, client, witness))


async def or_crash(orders: Orders, actor: Coroutine[Any, Any, None]) -> None:
    """An error that nobody has to expect ends the process, and with it the run."""
    try:
        await actor
    except BaseException:
        orders.crash.write_text(traceback.format_exc())
        os._exit(70)


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """To its end: nothing in it waits for a loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for a loop that is not there")
