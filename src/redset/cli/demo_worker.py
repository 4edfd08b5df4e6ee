"""One process of the demo. It is told where the input is and what the set is called, and knows of nobody else.

It says ``ready`` on standard output, starts when it is sent a line, and then reports in lines: a producer how many
more items it has offered, a consumer a :class:`Result` for each item. The end of its standard input before that line
means that the demo is gone. What it fails with is its last report, after :data:`FAILED`.
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

#: Seconds that a consumer has for the items it is handed; so long the others wait for what a dead one had.
LEASE = 2.0
#: How many items a consumer is handed at once.
BATCH = 20
FAILED = "failed: "

_REPORT_EVERY = 200
_UNREADABLE = "-"
#: How long, in seconds, a consumer waits for an item before it looks whether there may be any more.
_WAIT = 0.2
#: A time in seconds since the epoch, as a float, is not exact to the last digit.
_INEXACT = 0.001


@dataclass(frozen=True)
class Result:
    """What a consumer made of an item, and under which lease."""

    item: bytes
    #: Of the item's content; None when that cannot be read.
    digest: str | None
    #: The fencing token of the lease, and which delivery of the item it was for.
    token: int
    attempt: int
    #: When the lease began and when it ended or would have, by the server's clock.
    began: float
    deadline: float

    def takes_over(self, earlier: "Result") -> bool:
        """Whether the item was handed out again since the earlier lease ran out, rather than in spite of it."""
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
    """Adds everything there is, in an order of its own."""
    offered = 0
    for item in source.offers(random.Random()):
        jobs.add(item)
        offered += 1
        if offered % _REPORT_EVERY == 0:
            yield str(_REPORT_EVERY)
    yield str(offered % _REPORT_EVERY)


def consume(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Hashes what it is handed, until nothing waits and nobody has anything in hand.

    A result is reported before its ack goes out, which the loop does when it goes on. The other way round, a result
    would be lost with a process that is killed in between, and its item is gone by then.
    """
    while _is_left(jobs):
        for reservation in jobs.consume(lease=LEASE, batch=BATCH, wait=_WAIT):
            with suppress(LeaseLost):  # It was in hand for too long, and is somebody else's by now.
                yield _result(reservation, source).written()


def falter(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Consumes, but stands still in the middle of its first batch, to be killed there.

    Its first report comes when it has got there, and so says that it has leases in its hands.
    """
    handed_out = min(len(jobs), BATCH)
    reports = consume(jobs, source)
    yield from list(islice(reports, (handed_out + 1) // 2))
    if handed_out:
        sys.stdin.read()  # which ends with the demo, should that be killed first


def main(job: str, name: str, *source: str) -> None:
    """Does the job called ``job`` with the set called ``name``, when the line to start comes."""
    logging.getLogger("redset").addHandler(logging.NullHandler())  # What it would tell, the results tell too.
    expected: tuple[type[Exception], ...] = (*failures(), RedsetError)
    try:
        jobs: SortedSet[bytes | str] = SortedSet(demo_client(), name)
        len(jobs)  # so that the connection stands before the start
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        work = {"produce": produce, "consume": consume, "falter": falter}[job]
        for report in work(jobs, from_arguments(*source)):
            print(report, flush=True)
    except expected as error:
        print(f"{FAILED}{ascii(str(error))[1:-1]}", flush=True)
        sys.exit(1)


def _is_left(jobs: SortedSet[bytes | str]) -> bool:
    stats = jobs.stats()
    return any((stats.waiting, stats.leased, stats.expired, stats.delayed, stats.parked))


def _result(reservation: Reservation[bytes | str], source: Input) -> Result:
    """Does the work: what takes longer than a lease keeps it alive.

    :raises LeaseLost: in vain.
    """
    item = reservation.item.encode() if isinstance(reservation.item, str) else reservation.item
    began = reservation.deadline - LEASE
    with reservation.keep_alive():
        digest = source.digest(item)
    return Result(item, digest, reservation.token, reservation.attempt, began, reservation.deadline)


if __name__ == "__main__":
    main(*sys.argv[1:])
