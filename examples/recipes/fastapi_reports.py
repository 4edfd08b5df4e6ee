"""FastAPI: requests add reports to a set, and a task of the same process makes them.

    REDSET_URL=redis://localhost REDSET_WEB_PASSWORD=... uvicorn fastapi_reports:app

Any number of processes and machines can run it: they share the set.

Guarantee: a report that was answered with 202 is made at least once, or is a dead letter after five failed attempts.
It is stored exactly once in effect: a second attempt writes the same text under the same number. After a SIGTERM, the
current report has GRACE seconds to finish; then it is requeued, and no attempt is counted. After a SIGKILL, its lease
expires.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

import redset.aio
import redset.web

LEASE = 30  # seconds after which the report of a killed process is made by another one
GRACE = 5.0  # seconds; less than the time between SIGTERM and SIGKILL of your supervisor
HOSTS = ["localhost", "127.0.0.1", "reports.example.com"]  # the names under which browsers reach the page
log = logging.getLogger("uvicorn.error")


def reports_of(client: Any) -> redset.aio.SortedSet[str]:
    return redset.aio.SortedSet(client, "recipe-reports", remember=3600, max_attempts=5)


def result_of(number: int | str) -> str:
    return f"recipe-report:{number}"


# lifespan
@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with contextlib.aclosing(await redset.aio.connect(socket_timeout=5)) as client:
        await client.ping()  # If the server cannot be reached, the process ends here.
        app.state.client = client
        app.state.reports = reports_of(client)
        page = redset.web.app(client, password=os.environ["REDSET_WEB_PASSWORD"], allowed_hosts=HOSTS)
        app.mount("/redset", page)
        stop = asyncio.Event()
        app.state.consumer = asyncio.create_task(consume(app.state.reports, client, stop))
        app.state.consumer.add_done_callback(report_error)
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait([app.state.consumer], timeout=GRACE)
            app.state.consumer.cancel()
            await asyncio.wait([app.state.consumer])


# consumer
async def consume(reports: redset.aio.SortedSet[str], client: Any, stop: asyncio.Event) -> None:
    async with reports.consume(lease=LEASE, stop=stop) as loop:
        async for reservation in loop:
            try:
                async with reservation.keep_alive():
                    await client.set(result_of(reservation.item), await make_report(reservation.item), ex=24 * 3600)
                    await reservation.ack()
            except asyncio.CancelledError:
                with contextlib.suppress(redset.LeaseLost):
                    await reservation.again()  # The process ends. Leaving the loop alone would count an attempt.
                raise
            except redset.LeaseLost:
                log.warning("report %s: the lease was lost", reservation.item)
            except Exception as error:
                log.exception("report %s failed, attempt %d", reservation.item, reservation.attempt)
                with contextlib.suppress(redset.LeaseLost):
                    await reservation.nack(reason=repr(error))


def report_error(consumer: asyncio.Task[None]) -> None:
    if not consumer.cancelled() and (error := consumer.exception()) is not None:
        log.critical("the consumer has ended", exc_info=error)


# routes
app = FastAPI(lifespan=lifespan)


@app.post("/reports/{number}", status_code=202)
async def order(number: int, request: Request) -> dict[str, Any]:
    """Order a report. Ordering it again, or sending the request again, is harmless."""
    reports: redset.aio.SortedSet[str] = request.app.state.reports
    added = await reports.update([str(number)])
    return {"added": bool(added), "state": await reports.state(str(number))}


@app.get("/reports/{number}")
async def read(number: int, request: Request) -> dict[str, Any]:
    state = await request.app.state.reports.state(str(number))
    report = await request.app.state.client.get(result_of(number))
    if state is None and report is None:
        raise HTTPException(404)
    return {"state": state, "report": report and report.decode()}


@app.get("/health")
async def health(request: Request) -> Response:
    """Answer 503 if the consumer has ended, so that the supervisor restarts this process."""
    return Response(status_code=503 if request.app.state.consumer.done() else 200)


# end


async def make_report(number: str) -> str:
    """Stand for the work. If it does not await, run it by ``asyncio.to_thread``, or requests wait for it."""
    await asyncio.sleep(0.1)
    return f"report {number}"
