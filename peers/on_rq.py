"""RQ. Fast: a SimpleWorker, which runs jobs without a fork, and no results."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import handling
import rq
from redis import Redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer


def options() -> dict[str, Any]:
    # https://python-rq.org/docs/exceptions/: a job whose worker died is tried again if it has retries left.
    return {"result_ttl": 0, "retry": Retry(max=100) if handling.is_reliable() else None}


def timeout() -> int | None:
    return 5 if handling.is_reliable() else None


@contextlib.contextmanager
def producing(url: str) -> Iterator[Any]:
    queue = Queue(handling.QUEUE, connection=Redis(**handling.place(url)), serializer=JSONSerializer)

    def add(item: str) -> None:
        queue.enqueue("handling.handle", item, job_timeout=timeout(), **options())

    def add_many(items: Sequence[str]) -> None:
        # https://python-rq.org/docs/#bulk-job-enqueueing
        queue.enqueue_many(
            [Queue.prepare_data("handling.handle", (item,), timeout=timeout(), **options()) for item in items]
        )

    yield add, add_many


def work(url: str) -> None:
    connection = Redis(**handling.place(url))
    if handling.is_reliable():
        # https://python-rq.org/docs/workers/: heartbeats while a job runs; maintenance finds the jobs of the dead.
        worker = rq.Worker(
            [handling.QUEUE],
            connection=connection,
            serializer=JSONSerializer,
            job_monitoring_interval=1,
            # A worker that waits looks after others when its wait is over: fifteen seconds before this.
            worker_ttl=20,
            maintenance_interval=2,
        )
    else:
        # https://python-rq.org/docs/workers/#simpleworker
        worker = rq.SimpleWorker(
            [handling.QUEUE], connection=connection, serializer=JSONSerializer, log_job_description=False
        )
    worker.work(logging_level=logging.ERROR)


if __name__ == "__main__":
    handling.main(producing, work)
