"""Celery: a set in front of its queue deduplicates pages, and one task is sent per lease.

    export REDSET_URL=redis://localhost CELERY_BROKER_URL=redis://localhost
    celery --app celery_pages worker
    python celery_pages.py feed                       # one or more of them
    python celery_pages.py add https://example.org/   # from anywhere

Guarantee: each page is done at least once, by one task at a time, or is a dead letter after five failed attempts. It is
stored exactly once in effect: a second task writes the same title under the same URL. If a task is lost, at any step,
its lease expires, and the feeder sends another. A task that comes late, or again after it has ended, does nothing.
"""

import logging
import signal
import sys
import threading
from typing import Any

from celery import Celery

import redset

LEASE = 60  # seconds that a task may wait in Celery's queue
QUEUED = 20  # tasks that wait in Celery's queue at most; twice the number of workers will do
log = logging.getLogger(__name__)

# app
# By default, Celery acknowledges a task before it runs. Leave that so: if the task is lost, its lease expires.
app = Celery("pages")
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
client = redset.connect(socket_timeout=5)
pages = redset.SortedSet[str](client, "recipe-celery-pages", remember=3600, max_attempts=5)
TITLES = "recipe-celery-titles"


@app.task
def work(receipt: str) -> None:
    """Do the page of a receipt, unless its lease has ended."""
    reservation = pages.reservation(receipt)
    try:
        reservation.extend(LEASE)
        with reservation as page, reservation.keep_alive():
            client.hset(TITLES, page, title_of(page))
    except redset.LeaseLost:
        log.warning("%s: the lease has ended: another task has the page, or it is done", reservation.item)


def feed(stop: threading.Event) -> None:
    """Send a task for each lease, and keep the queue short: its order is no longer that of the set."""
    while not stop.is_set():
        room = QUEUED - queued()
        if room <= 0:
            stop.wait(0.2)
            continue
        for reservation in pages.reserve_many(room, lease=LEASE, wait=1):
            work.delay(reservation.receipt)


def queued() -> int:
    """Return the number of tasks in Celery's queue."""
    with app.connection_for_read() as connection:
        declared: Any = connection.default_channel.queue_declare(app.conf.task_default_queue, durable=True)
        return int(declared.message_count)


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
    feed(stop)


if __name__ == "__main__":
    main()
