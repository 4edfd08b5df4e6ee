"""RQ: a set in front of its queue deduplicates pages, and one job is enqueued per lease.

    export REDSET_URL=redis://localhost
    rq worker --url $REDSET_URL recipe-rq-pages
    python rq_pages.py feed                       # one or more of them
    python rq_pages.py add https://example.org/   # from anywhere

Guarantee: each page is done at least once, by one job at a time, or is a dead letter after five failed attempts. It is
stored exactly once in effect: a second job writes the same title under the same URL. If a job is lost, at any step, its
lease expires, and the feeder enqueues another. A job that comes late, or again after it has ended, does nothing.
"""

import logging
import signal
import sys
import threading

from rq import Queue

import redset

LEASE = 60  # seconds that a job may wait in RQ's queue
QUEUED = 20  # jobs that wait in RQ's queue at most; twice the number of workers will do
TITLES = "recipe-rq-titles"
log = logging.getLogger(__name__)

client = redset.connect(socket_timeout=5)
pages = redset.SortedSet[str](client, "recipe-rq-pages", remember=3600, max_attempts=5)


def work(receipt: str) -> None:
    """Do the page of a receipt, unless its lease has ended."""
    reservation = pages.reservation(receipt)
    try:
        reservation.extend(LEASE)
        with reservation as page, reservation.keep_alive():
            client.hset(TITLES, page, title_of(page))
    except redset.LeaseLost:
        log.warning("%s: the lease has ended: another job has the page, or it is done", reservation.item)


# feed
def feed(queue: Queue, stop: threading.Event) -> None:
    """Enqueue a job for each lease, and keep the queue short: its order is no longer that of the set."""
    while not stop.is_set():
        room = QUEUED - queue.count
        if room <= 0:
            stop.wait(0.2)
            continue
        for reservation in pages.reserve_many(room, lease=LEASE, wait=1):
            queue.enqueue("rq_pages.work", reservation.receipt, result_ttl=0, failure_ttl=24 * 3600)


# end
def title_of(page: str) -> str:
    """Stand for the work."""
    return f"The title of {page}"


def main() -> None:
    command, *urls = sys.argv[1:]
    if command == "add":
        print(pages.update(urls))
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    feed(Queue("recipe-rq-pages", connection=client), stop)


if __name__ == "__main__":
    main()
