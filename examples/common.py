"""What the examples share: processes that end with the one that started them, and sets of which nothing is left."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Process
from typing import Any, NoReturn

import redset

__all__ = ("cleared", "deaf_to_interrupts", "left", "run", "running")


def run(main: Callable[[], bool]) -> NoReturn:
    """Runs ``main`` and exits: 0 when it says that all is right, 1 when not, 130 after a Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(not main())
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started in here never hear a Ctrl-C; this one hears it afterwards."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Has the processes run while the block does, and ends those that still do then."""
    started: list[Process] = []
    try:
        with deaf_to_interrupts():
            for process in processes:
                process.start()
                started.append(process)
        yield
    finally:
        for process in started:
            process.kill()  # A SIGTERM that reaches a process just forked, with a handler for it, can be lost.
        for process in started:
            process.join()


@contextmanager
def cleared(*sets: Any, others: Sequence[str] = ()) -> Iterator[None]:
    """Has the sets, and other keys, be empty at first, and leaves nothing of them on the server."""
    client = sets[0].redis
    for key in others:
        client.delete(key)
    for each in sets:
        each.clear()
    try:
        yield
    finally:
        # When this is answered, the server has done the last that an ended process had sent, which could add again.
        client.ping()
        for each in sets:
            redset.forget_set(client, each.name)
        for key in others:
            client.delete(key)


def left(items: Any) -> int:
    """How many items of a set are not finished: they wait, now or after a backoff, or somebody has them."""
    stats = items.stats()
    return int(stats.waiting + stats.leased + stats.expired + stats.delayed + stats.parked)
