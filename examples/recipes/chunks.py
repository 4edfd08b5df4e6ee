"""A big table by chunks of rows, with polars: any number of processes and machines share the work.

    REDSET_URL=redis://localhost python chunks.py sales sales.parquet results

Start any number of them, and start one again after a crash. Each adds all chunks: the set keeps one of each, and leaves
out finished ones. Each works until no chunk is left. The name of the job, here sales, is part of the name of the set.
Use a new name and a new directory for a changed table, or for another number of ROWS.

Guarantee: each chunk is done at least once, by one process at a time, or is a dead letter after three failed attempts.
It is stored exactly once in effect: its file appears complete under the name of the chunk, before the ack. After a
SIGTERM or a Ctrl-C, the current chunk is finished. Exit code 0 means that the results of all chunks are there.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import uuid
from pathlib import Path

import polars as pl
import redis

import redset

ROWS = 10_000  # in a chunk; use the size of the row groups of a Parquet file, or a multiple
LEASE = 30  # seconds after which the chunk of a killed process is done by another one
log = logging.getLogger(__name__)


# set
def chunks_of(job: str) -> redset.SortedSet[str]:
    client = redset.connect(socket_timeout=5)
    return redset.SortedSet(client, f"recipe-chunks:{job}", scorer=start_of, remember=7 * 24 * 3600, max_attempts=3)


def start_of(chunk: str) -> int:
    """Return the first row of a chunk: "20000-29999"."""
    return int(chunk.partition("-")[0])


def all_chunks(rows: int) -> list[str]:
    return [f"{start}-{start + ROWS - 1}" for start in range(0, rows, ROWS)]


# work
def work(chunks: redset.SortedSet[str], table: pl.LazyFrame, results: Path, stop: threading.Event) -> None:
    """Work until all chunks are done or dead, also those of other processes, or until ``stop`` is set."""
    for reservation in chunks.consume(lease=LEASE, stop=lambda: stop.is_set() or not left(chunks)):
        try:
            with reservation as chunk, reservation.keep_alive():
                rows = table.slice(start_of(chunk), ROWS).collect()
                write(summary(rows), results / f"{chunk}.parquet")
        except Exception:
            # The block has nacked the chunk, unless its lease was lost.
            log.exception("chunk %s failed, attempt %d", reservation.item, reservation.attempt)


def left(chunks: redset.SortedSet[str]) -> int:
    """Return the number of chunks that are not done; some, while the server is away."""
    try:
        return chunks.stats().unfinished
    except redis.RedisError:
        return 1


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a file that is there completely or not at all, even if two processes write it, or the machine fails."""
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.unfinished")
    with unfinished.open("xb") as file:
        frame.write_parquet(file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


# end
def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Stand for the work."""
    return rows.group_by("shop").agg(pl.col("cents").sum(), pl.len().alias("sales"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("job")
    parser.add_argument("table", type=Path)
    parser.add_argument("results", type=Path)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    table = pl.scan_parquet(options.table)
    wanted = all_chunks(table.select(pl.len()).collect().item())

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    chunks = chunks_of(options.job)
    chunks.update(wanted)
    work(chunks, table, options.results, stop)
    missing = [chunk for chunk in wanted if not (options.results / f"{chunk}.parquet").exists()]
    print(f"{len(wanted)} chunks, {len(missing)} without a result")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
