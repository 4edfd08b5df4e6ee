"""All workers of a run: who starts them, kills and stops them, and hears when one has met what it did not expect."""

import contextlib
import itertools
import math
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos.doors import Door
from chaos.faults import Done, Hazard
from chaos.history import Fault, Recorder
from chaos.promises import NUMBERS
from chaos.workers import Orders, reshard, work
from redset.testing import TIMEOUT
from servers import wait_until

__all__ = ("Crashed", "Crew")

#: About as many commands as a reshard sends; and the seconds that it takes at most, on a busy machine.
COMMANDS = 150
LONGEST = 60.0


class Crashed(Exception):
    """A worker ended by itself; the message says what it met."""


class Crew:
    """All workers of a run. Who is killed comes back."""

    def __init__(
        self,
        size: int,
        door: Door,
        directory: Path,
        recorder: Recorder,
        seed: int,
        bug: str | None = None,
        workloads: str = "plain",
    ) -> None:
        """
        :param size: how many workers of each face.
        """
        self._door, self._bug = door, bug
        self._context = multiprocessing.get_context("forkserver")
        libraries = ("redis", "redis.asyncio", "valkey", "valkey.asyncio")
        self._context.set_forkserver_preload(["chaos.apart", *libraries, "chaos.workers"])
        self._directory = directory
        self._recorder = recorder
        self._random = random.Random(f"clocks {seed}")
        self._orders: dict[str, Orders] = {}
        self._processes: dict[str, Any] = {}
        #: The numbers of shards of the sets that were moved.
        self._shards: dict[str, int | None] = {}
        #: A process tells one thread how it ended; another that asks at the same time would be told 255.
        self._asking = threading.Lock()
        for number in range(size):
            library = ("redis", "valkey")[number % 2]
            for face, awaited in (("sync", False), ("aio", True)):
                worker = f"{face}-{number + 1}"
                self._orders[worker] = Orders(worker, 0, awaited, library, door, directory, seed, workloads, 0.0, bug)

    @property
    def hazards(self) -> dict[str, Hazard]:
        return {"kill": Hazard(3, self._kill), "stop": Hazard(2, self._stop)}

    @property
    def working(self) -> set[str]:
        """The workers and their incarnations that have not been killed."""
        return {orders.process for orders in self._orders.values()}

    def resharding(self, sets: Sequence[str]) -> dict[str, Hazard]:
        """The hazard of these sets, one after the other. None of the servers may fail meanwhile."""
        following = itertools.cycle(sets)
        return {"reshard": Hazard(5, lambda chance: self._reshard(next(following), chance))} if sets else {}

    def start(self) -> None:
        for worker in self._orders:
            self._start(worker)

    def check(self) -> None:
        """
        :raises Crashed: a worker ended that nobody has killed.
        """
        for crash in self._directory.glob("*.crash"):
            raise Crashed(f"{crash.stem}: {crash.read_text()}")
        with self._asking:
            for worker, process in self._processes.items():
                if process.exitcode not in {None, 0, -signal.SIGKILL}:
                    raise Crashed(f"{self._orders[worker].process} ended with {process.exitcode}")

    def join(self) -> None:
        """Returns when all have ended, as they do when the run is over.

        :raises Crashed: one did not.
        """
        deadline = time.monotonic() + TIMEOUT
        for worker, process in self._processes.items():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                raise Crashed(f"{self._orders[worker].process} does not end:\n{self._stacks(worker)}")
        self.check()

    def end(self) -> None:
        """Ends them all at once, whatever they do."""
        for process in self._processes.values():
            process.kill()
            process.join()

    def _stacks(self, worker: str) -> str:
        """What the threads of a worker do."""
        stacks = self._orders[worker].stacks
        os.kill(self._processes[worker].pid, signal.SIGUSR1)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: stacks.stat().st_size > 0)
        return stacks.read_text()

    def _start(self, worker: str) -> None:
        orders = replace(
            self._orders[worker],
            incarnation=self._orders[worker].incarnation + 1,
            ahead=self._random.choice((0.0, -1, 1)) * self._random.uniform(1, 60),
        )
        self._orders[worker] = orders
        process = self._context.Process(target=work, args=(orders,), name=orders.process, daemon=True)
        process.start()
        self._processes[worker] = process
        if orders.ahead:
            now = time.monotonic()
            self._recorder.fault(Fault("apart", now, now, orders.process, {"seconds": orders.ahead}))

    def _reshard(self, name: str, chance: random.Random) -> Done:
        """The process that reshards is killed at times. Then another one repeats the reshard."""
        shards = self._shards[name] = chance.choice([number for number in NUMBERS if number != self._shards.get(name)])
        lives = [*(chance.randrange(COMMANDS) for _ in range(chance.randrange(3))), math.inf]
        killed = sum(self._move(name, shards, commands) for commands in lives)
        return Done(name, {"sets": [name], "shards": shards, "killed": killed})

    def _move(self, name: str, shards: int | None, commands: float) -> bool:
        """Have a process reshard that is killed after so many commands; returns whether it was before it was done.

        :raises Crashed: it ended otherwise.
        """
        process = self._context.Process(
            target=reshard, args=(self._door, name, shards, self._bug, commands), daemon=True
        )
        process.start()
        process.join(LONGEST)
        expected = {0} if commands == math.inf else {0, -signal.SIGKILL}
        if process.exitcode not in expected:
            raise Crashed(f"the reshard of {name} to {shards} ended with {process.exitcode}")
        return bool(process.exitcode)

    def _kill(self, chance: random.Random) -> Done:
        worker = chance.choice(sorted(self._processes))
        process = self._orders[worker].process
        with self._asking:
            self._processes[worker].kill()
            self._processes[worker].join()
            self._start(worker)
        return Done(process, {"signal": int(signal.SIGKILL)})

    def _stop(self, chance: random.Random) -> Done:
        """For up to a few leases."""
        worker = chance.choice(sorted(self._processes))
        process = self._processes[worker]
        os.kill(process.pid, signal.SIGSTOP)
        seconds = chance.uniform(0.2, 4)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)
        return Done(self._orders[worker].process, {"seconds": seconds})
