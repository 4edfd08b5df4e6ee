"""A program: greenlets that add, claim and ack items and are timed out in the middle of their calls.

``app_greenlets.py gevent|eventlet URL ITEMS`` prints the claimed items and how many calls were timed out, as JSON.
"""

import sys

LIBRARY, URL, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])

if LIBRARY == "gevent":
    from gevent import Timeout, monkey, sleep, spawn  # type: ignore[import-untyped] # it has no types

    monkey.patch_all()
else:
    from eventlet import Timeout, monkey_patch, sleep, spawn  # type: ignore[import-untyped] # nor has it

    monkey_patch()

# All other modules must be imported after the patch.
import contextlib  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

import redset  # noqa: E402

GREENLETS = 8


class TooLate(Exception):
    """Raised by a timeout that was given an error of the user's own."""


class Crowd:
    """Greenlets whose calls are timed out at random moments."""

    def __init__(self, jobs: "redset.SortedSet[str]") -> None:
        self.jobs = jobs
        self.random = random.Random(1)
        self.seconds = 0.002
        self.cancelled = 0
        self.added: set[str] = set()
        self.done: list[str] = []
        self.unacked: list[Any] = []

    def run(self, items: list[str]) -> None:
        wait_for([spawn(self.add_all, items[number::GREENLETS]) for number in range(GREENLETS)])
        wait_for([spawn(self.claim_until, len(items)) for _ in range(GREENLETS)])
        # Sent again it is the same ack, whether the cancelled one arrived or not.
        for reservation in self.unacked:
            reservation.ack()

    def add_all(self, items: list[str]) -> None:
        for item in items:
            while item not in self.added:
                self.limited(partial(self.add, item))

    def claim_until(self, count: int) -> None:
        while len(self.done) < count:
            self.limited(self.random.choice([self.pop, self.take, self.reserve, self.consume]))

    def limited(self, work: Callable[[], None]) -> None:
        """Do work for a random time. About every second call is timed out, on any machine."""
        error = self.random.choice([None, TooLate])
        try:
            with Timeout(self.random.random() * self.seconds, error):
                work()
            self.seconds *= 0.9
        except (Timeout, TooLate):
            self.cancelled += 1
            self.seconds *= 1.1
        sleep(0)

    def add(self, item: str) -> None:
        self.jobs.add(item, 1)
        self.added.add(item)

    def pop(self) -> None:
        with contextlib.suppress(KeyError):
            self.done.append(self.jobs.pop(wait=0.01))

    def take(self) -> None:
        self.done += self.jobs.take(3)

    def reserve(self) -> None:
        with contextlib.suppress(KeyError):
            reservation = self.jobs.reserve(lease=600)
            self.done.append(reservation.item)
            self.unacked.append(reservation)
            reservation.ack()
            self.unacked.remove(reservation)

    def consume(self) -> None:
        with self.jobs.consume(lease=600, batch=2, wait=0, stop=lambda: self.random.random() < 0.3) as loop:
            for reservation in loop:
                self.done.append(reservation.item)


def wait_for(greenlets: list[Any]) -> None:
    for greenlet in greenlets:
        # The errors of greenlets are raised here.
        greenlet.get() if LIBRARY == "gevent" else greenlet.wait()


if __name__ == "__main__":
    with contextlib.closing(redset.connect(URL)) as client:
        crowd = Crowd(redset.SortedSet(client, "jobs"))
        crowd.run([f"{number:05}" for number in range(COUNT)])
    print(json.dumps({"done": crowd.done, "cancelled": crowd.cancelled}))
