"""The client of thirty lines, awaited."""

import asyncio
from typing import Any

from thirty_lines.protocol import ResponseError, packed, read_awaited

__all__ = ("Client", "from_url")


class Client:
    """A client for one event loop. Tasks may share it: each call has a connection to itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def execute_command(self, *words: bytes | str, **_: Any) -> Any:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_unix_connection(self._path)
        try:
            writer.write(packed(words))
            reply = await read_awaited(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def aclose(self) -> None:
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            await writer.wait_closed()


def from_url(url: str) -> Client:
    return Client(url.removeprefix("unix://"))
