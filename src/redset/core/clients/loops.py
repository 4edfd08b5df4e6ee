"""One asyncio client for several event loops, one after the other."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ("in_any_loop",)


@contextmanager
def in_any_loop(client: Any) -> Iterator[None]:
    """Have the client make new connections in each event loop, and close them when the loop ends.

    What is left when the block ends is closed then, unless its loop is closed already.
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
    """Have the pool forget its connections and the loop in which they were."""
    pool.reset()
    if hasattr(pool, "_lock"):
        pool._lock = asyncio.Lock()  # a lock stays with the first loop in which somebody waited for it
