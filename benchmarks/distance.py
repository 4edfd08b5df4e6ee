"""A server that is half a millisecond away, as loopback is not: there and back, through a proxy (``delaying.py``).

What it really adds is measured with each run and said with the figures, and so is how much it can carry: where many
connections are at work, the proxy itself may be what they wait for.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ("carried", "distant", "round_trips")

PING, PONG = b"PING\r\n", b"+PONG\r\n"


@contextlib.contextmanager
def distant(url: str, seconds: float, core: int | None = None) -> Iterator[str]:
    """A url by which the same server is that far away, there and back; the same url where that is 0.

    :param core: the processor core for the proxy.
    """
    if not seconds:
        yield url
        return
    address = urlsplit(url)
    if address.scheme != "redis":
        raise SystemExit(f"only TCP has a distance, {url} has none")
    program = [sys.executable, str(Path(__file__).with_name("delaying.py"))]
    command = [*program, str(address.hostname), str(address.port), repr(seconds / 2)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin
        assert proxy.stdout
        if core is not None:
            os.sched_setaffinity(proxy.pid, {core})
        port = proxy.stdout.readline().strip()
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            proxy.stdin.close()
            proxy.wait()


def round_trips(url: str, number: int = 500) -> list[float]:
    """The seconds that each of so many PINGs takes, one after the other, in order of length."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(number):
            started = time.perf_counter()
            connection.sendall(PING)
            assert connection.recv(len(PONG)) == PONG
            times.append(time.perf_counter() - started)
    return sorted(times)


def carried(url: str, connections: int = 100, rounds: int = 40) -> float:
    """How many PINGs in a second get through, where each connection always has one under way."""
    address = urlsplit(url)
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(connections)
        ]
        started = time.perf_counter()
        for _ in range(rounds):
            for connection in opened:
                connection.sendall(PING)
            for connection in opened:
                assert connection.recv(len(PONG)) == PONG
        return connections * rounds / (time.perf_counter() - started)
