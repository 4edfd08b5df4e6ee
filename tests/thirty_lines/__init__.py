"""A client of thirty lines, with all that redset needs of one. ``asyncio.py`` has the same, awaited."""

import contextlib
import socket
from typing import Any

from thirty_lines.protocol import ResponseError, packed, read

__all__ = ("Client", "ResponseError", "from_url")


class Client:
    """A client that blocks. Threads may share it: each call has a connection to itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[Any] = []

    def execute_command(self, *words: bytes | str, **_: Any) -> Any:
        try:
            stream = self._idle.pop()
        except IndexError:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._path)
                stream = connection.makefile("rwb")
        try:
            stream.write(packed(words))
            stream.flush()
            reply = read(stream)
        except BaseException:
            # The reply may still come, and must not be read as that of another call.
            with contextlib.suppress(OSError):
                stream.close()
            raise
        self._idle.append(stream)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def from_url(url: str) -> Client:
    return Client(url.removeprefix("unix://"))
