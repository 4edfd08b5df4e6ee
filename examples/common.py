"""Shared code of the examples: worker processes that end with the example, and sets that are deleted at its end."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Process
from typing import Any, NoReturn

import redset

__all__ = ("cleared", "deaf_to_interrupts", "run", "running")


def run(main: Callable[[], bool]) -> NoReturn:
    """Run ``main`` and exit: with 0 if it returns true, 1 if not, and 130 after a Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(not main())
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C; this process receives it when the block is left."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Run processes while the block runs, and stop those that still run at its end."""
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
    """Delete sets and other keys before and after the block."""
    client = sets[0].redis
    for key in others:
        client.delete(key)
    for each in sets:
        each.clear()
    try:
        yield
    finally:
        # The reply means that the server has executed the last command of a killed process, which could add again.
        client.ping()
        for each in sets:
            redset.forget_set(client, each.name)
        for key in others:
            client.delete(key)
