"""The server's protocol, RESP2: a command as it is sent, and a reply as it is read."""

import asyncio
from typing import Any, BinaryIO

__all__ = ("ResponseError", "packed", "read", "read_awaited")


class ResponseError(Exception):
    """The server refuses a command. The text is the server's."""


def packed(words: tuple[bytes | str, ...]) -> bytes:
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def read(stream: BinaryIO) -> Any:
    kind, count = parsed(stream.readline())
    if kind == b"$":
        return stream.read(count + 2)[:-2]
    return [read(stream) for _ in range(count)] if kind == b"*" else count


async def read_awaited(stream: asyncio.StreamReader) -> Any:
    kind, count = parsed(await stream.readline())
    if kind == b"$":
        return (await stream.readexactly(count + 2))[:-2]
    return [await read_awaited(stream) for _ in range(count)] if kind == b"*" else count


def parsed(line: bytes) -> tuple[bytes, Any]:
    """The kind of a reply, and how many bytes or replies follow; of all other kinds, and of none, the reply."""
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return kind, rest
    if kind == b"-":
        return kind, ResponseError(rest.decode())
    if not kind:
        raise ConnectionError("the server has closed the connection")
    return (b"", None) if rest == b"-1" and kind != b":" else (kind, int(rest))
