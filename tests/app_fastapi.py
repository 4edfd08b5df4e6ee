"""A web application on asyncio whose handlers are cancelled: by a timeout, and when their client disconnects."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

import redset.aio

#: Claimed items.
done: list[str] = []
#: Reservations whose ack was cancelled.
unacked: list[Any] = []
#: The set, while the application runs.
jobs: Any = None


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global jobs  # noqa: PLW0603 # the handlers share it
    async with contextlib.aclosing(await redset.aio.connect(os.environ["REDSET_URL"])) as client:
        jobs = redset.aio.SortedSet[str](client, "jobs")
        yield


class Cancelling:
    """Cancels the handler of a request after the seconds that its query string says, or when its client disconnects."""

    #: How many requests are being handled, also of clients that are gone.
    active = 0

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        Cancelling.active += 1
        try:
            await self.handle(scope, receive, send)
        finally:
            Cancelling.active -= 1

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        begun = [await receive()]
        last: Any = None

        async def receive_next() -> Any:
            return begun.pop() if begun else await receive()

        async def send_on(message: Any) -> None:
            nonlocal last
            last = message
            await send(message)

        async with anyio.create_task_group() as group:
            group.start_soon(self.watch, receive, group.cancel_scope)
            # A timeout of asyncio would not be told apart from the cancellation of the group.
            with anyio.move_on_after(float(scope["query_string"] or "inf")) as limit:
                await self.app(scope, receive_next, send_on)
            if limit.cancelled_caught:
                if last is None:
                    await Response(status_code=504)(scope, receive, send)
                elif last["type"] == "http.response.start" or last.get("more_body"):
                    await send({"type": "http.response.body"})
            group.cancel_scope.cancel()

    async def watch(self, receive: Any, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


app = FastAPI(lifespan=lifespan)
app.add_middleware(Cancelling)


@app.post("/add/{item}")
async def add(item: str) -> None:
    await jobs.add(item, 1)


@app.post("/pop")
async def pop() -> None:
    with contextlib.suppress(KeyError):
        done.append(await jobs.pop(wait=0.01))


@app.post("/take")
async def take() -> None:
    done.extend(await jobs.take(3))


@app.post("/reserve")
async def reserve() -> None:
    with contextlib.suppress(KeyError):
        reservation = await jobs.reserve(lease=600)
        done.append(reservation.item)
        try:
            await reservation.ack()
        except asyncio.CancelledError:
            unacked.append(reservation)
            raise


@app.post("/consume")
async def consume() -> StreamingResponse:
    async def items() -> AsyncIterator[str]:
        async with jobs.consume(lease=600, wait=0) as loop:
            async for reservation in loop:
                # If the response is cancelled here, the item is given back.
                yield f"{reservation.item}\n"
                done.append(reservation.item)

    return StreamingResponse(items())


@app.get("/active")
async def active() -> int:
    return Cancelling.active


@app.get("/done")
async def claimed() -> list[str]:
    # Sent again it is the same ack, whether the cancelled one arrived or not.
    while unacked:
        await unacked.pop().ack()
    return done
