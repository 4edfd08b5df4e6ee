"""One asyncio client for several event loops in turn."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ("in_any_loop",)


@contextmanager
def in_any_loop(client: Any) -> Iterator[None]:
    """Make the client open new connections in each event loop, and close them when the loop ends.

    The last ones are closed when the block is left, unless their loop is closed already.
    """
    pool = client.connection_pool
    connect = pool.get_connection
    keeper: AsyncGenerator[None] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    async def keep() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await pool.disconnect()
            _renew(pool)

    async def get_connection(*args: Any, **options: Any) -> Any:
        nonlocal loop, keeper
        if loop is not (running := asyncio.get_running_loop()):
            _renew(pool)
            loop, keeper = running, keep()
            await anext(keeper)
        return await connect(*args, **options)

    pool.get_connection = get_connection
    yield
    if keeper and loop and not loop.is_closed() and not loop.is_running():
        loop.run_until_complete(keeper.aclose())


def _renew(pool: Any) -> None:
    """Make the pool forget its connections and their event loop."""
    pool.reset()
    if hasattr(pool, "_lock"):
        pool._lock = asyncio.Lock()  # a lock belongs to the first loop in which a task waited for it
