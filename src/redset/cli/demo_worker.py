"""One process of the demo. It is told where the input is and what the set is called, and knows of nobody else.

It says ``ready`` on standard output, starts when it is sent a line, and then reports in lines: a producer how many
more items it has offered, a consumer what it has taken and the digest of that. The end of its standard input before
that line means that the demo is gone.
"""

import random
import sys
from collections.abc import Iterator

from redset.cli.inputs import Input, from_arguments
from redset.connect import connect
from redset.sets import SortedSet

__all__ = ("Taken", "consume", "main", "produce", "read_taken")

#: An item, and the digest of its content.
Taken = tuple[bytes, str | None]

_REPORT_EVERY = 200
_UNREADABLE = "-"


def produce(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Adds everything there is, in an order of its own."""
    offered = 0
    for item in source.offers(random.Random()):  # noqa: S311
        jobs.add(item)
        offered += 1
        if offered % _REPORT_EVERY == 0:
            yield str(_REPORT_EVERY)
    yield str(offered % _REPORT_EVERY)


def consume(jobs: SortedSet[bytes | str], source: Input) -> Iterator[str]:
    """Takes one item after the other, until there are none, and hashes what it stands for."""
    while True:
        try:
            taken = jobs.pop()
        except KeyError:
            return
        item = taken.encode() if isinstance(taken, str) else taken
        yield f"{item.hex()} {source.digest(item) or _UNREADABLE}"


def read_taken(report: str) -> Taken:
    """What a consumer's report says."""
    item, digest = report.split(" ")
    return bytes.fromhex(item), None if digest == _UNREADABLE else digest


def main(job: str, name: str, *source: str) -> None:
    """Does the job called ``job`` with the set called ``name``, when the line to start comes."""
    jobs: SortedSet[bytes | str] = SortedSet(connect(), name)
    len(jobs)  # so that the connection stands before the start
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    work = {"produce": produce, "consume": consume}[job]
    for report in work(jobs, from_arguments(*source)):
        print(report, flush=job == "produce")


if __name__ == "__main__":
    main(*sys.argv[1:])
