"""One process of the demo. Its arguments are the job, the name of the set and the input.

It prints ``ready``, starts when it reads a line, and then prints reports, one per line: a producer the number of items
that it offered since the last report, a consumer a :class:`Result` per item. The end of its standard input before that
line means that the demo has ended. An error is its last report, after :data:`FAILED`.
"""

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from redset.cli.demo_client import demo_client, failures
from redset.cli.inputs import Input, from_arguments
from redset.exceptions import LeaseLost, RedsetError
from redset.reservations import Reservation
from redset.sets import SortedSet

__all__ = ("BATCH", "FAILED", "LEASE", "Result", "consume", "falter", "main", "produce")

#: The length of a lease in seconds. After a kill, the other consumers wait as long for the items.
LEASE = 2.0
#: How many items a consumer claims at once.
BATCH = 20
FAILED = "failed: "

_REPORT_EVERY = 200
_UNREADABLE = "-"
#: Seconds that a consumer waits for an item before it checks whether any are left.
_WAIT = 0.2
#: Seconds since the epoch are inexact as a float.
_INEXACT = 0.001


@dataclass(frozen=True)
class Result:
    """A consumer's result for an item, and its lease."""

    item: bytes
    #: The hash of the item's content; None if it cannot be read.
    digest: str | None
    #: The fencing token of the lease, and the number of the attempt.
    token: int
    attempt: int
    #: The beginning and the deadline of the lease, by the server's clock.
    began: float
    deadline: float

    def takes_over(self, earlier: "Result") -> bool:
        """Return whether the item was claimed again only after the earlier lease had expired."""
        return self.attempt > earlier.attempt and self.began > earlier.deadline - _INEXACT

    def written(self) -> str:
        lease = f"{self.token} {self.attempt} {self.began!r} {self.deadline!r}"
        return f"{self.item.hex()} {self.digest or _UNREADABLE} {lease}"

    @classmethod
    def read(cls, report: str) -> "Result":
        item, digest, token, attempt, began, deadline = report.split(" ")
        return cls(
            bytes.fromhex(item),
            None if digest == _UNREADABLE else digest,
            int(token),
            int(attempt),
            float(began),
            float(deadline),
        )


def produce(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Add all of the input, in random order."""
    offered = 0
    for item in source.offers(random.Random()):
        jobs.add(item)
        offered += 1
        if offered % _REPORT_EVERY == 0:
            yield str(_REPORT_EVERY)
    yield str(offered % _REPORT_EVERY)


def consume(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Hash items until none is left, in whatever state.

    A result is reported before its item is acked: the loop acks when it goes on. In the opposite order, a process that
    is killed in between would lose the result of a done item.
    """
    while jobs.stats().unfinished:
        for reservation in jobs.consume(lease=LEASE, batch=BATCH, wait=_WAIT):
            with suppress(LeaseLost):  # The lease expired; another consumer may have the item.
                yield _result(reservation, source).written()


def falter(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Consume half of the first batch, then stop, to be killed.

    The reports come all at once at that point, and so mean that the process holds leases.
    """
    claimed = min(len(jobs), BATCH)
    reports = consume(jobs, source)
    if found := list(islice(reports, (claimed + 1) // 2)):
        yield "\n".join(found)
        sys.stdin.read()  # ends when the demo is killed first


def main(job: str, name: str, *source: str) -> None:
    """Run the job ``job`` on the set ``name`` when the line to start arrives."""
    logging.getLogger("redset").addHandler(logging.NullHandler())  # The results are the reports.
    expected: tuple[type[Exception], ...] = (*failures(), RedsetError)
    try:
        jobs: SortedSet[bytes | str] = SortedSet(demo_client(), name)
        len(jobs)  # connects before the start
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        work = {"produce": produce, "consume": consume, "falter": falter}[job]
        for report in work(jobs, from_arguments(*source)):
            print(report, flush=True)
    except expected as error:
        print(f"{FAILED}{ascii(str(error))[1:-1]}", flush=True)
        sys.exit(1)


def _result(reservation: Reservation[bytes | str], source: Input) -> Result:
    """Hash the item, and keep its lease alive meanwhile.

    :raises LeaseLost: the lease was lost.
    """
    item = reservation.item.encode() if isinstance(reservation.item, str) else reservation.item
    began = reservation.deadline - LEASE
    with reservation.keep_alive():
        digest = source.digest(item)
    return Result(item, digest, reservation.token, reservation.attempt, began, reservation.deadline)


if __name__ == "__main__":
    main(*sys.argv[1:])
