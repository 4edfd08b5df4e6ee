"""A proxy for TCP that hands on what it reads after a while, each way: ``python delaying.py HOST PORT SECONDS``.

It prints the port on which it listens, serves any number of connections, and ends with its standard input.

All that it has read waits for the same time, so one queue in the order of reading is in the order of handing on too.
It sleeps in ``select``, which takes microseconds; an event loop's timers round up to milliseconds.
"""

import contextlib
import selectors
import socket
import sys
import time
from collections import deque
from pathlib import Path
from select import select

__all__ = ("Proxy",)

CHUNK = 1 << 18


class End:
    """One end of a connection that goes through here."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(0)
        self.connection = connection
        self.other: End
        #: Whether it has said its last.
        self.ended = False
        #: What it did not take yet. Until it does, its other end is not read.
        self.unsent = bytearray()
        #: Whether it is to be told that nothing follows.
        self.is_last = False

    def fileno(self) -> int:
        return self.connection.fileno()

    def read(self) -> bytes | None:
        """What has arrived: nothing when that was all, None when there is nothing after all."""
        try:
            return self.connection.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def send(self) -> None:
        try:
            del self.unsent[: self.connection.send(self.unsent)]
            if self.is_last and not self.unsent:
                self.connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()

    @property
    def is_over(self) -> bool:
        return self.ended and self.is_last and not self.unsent

    @property
    def events(self) -> int:
        """What it is to be watched for."""
        reads = not self.ended and not self.other.unsent
        return selectors.EVENT_READ * reads | selectors.EVENT_WRITE * bool(self.unsent)


class Proxy:
    """Listens on :attr:`port`, and connects each connection there to the server."""

    def __init__(self, server: tuple[str, int], delay: float) -> None:
        self._server, self._delay = server, delay
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._watched = selectors.DefaultSelector()
        self._watched.register(self._listener, selectors.EVENT_READ)
        #: What was read: when it is due, for whom it is, and what; nothing when that was all.
        self._waiting: deque[tuple[float, End, bytes]] = deque()

    def serve_until_the_end_of(self, lifeline: int) -> None:
        self._watched.register(lifeline, selectors.EVENT_READ)
        while True:
            select([self._watched.fileno()], [], [], self._time_left())
            for key, events in self._watched.select(0):
                if key.fileobj == lifeline:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.data, events)
            while self._waiting and self._waiting[0][0] <= time.perf_counter():
                _, end, data = self._waiting.popleft()
                self._hand_on(end, data)

    def _time_left(self) -> float | None:
        return max(0.0, self._waiting[0][0] - time.perf_counter()) if self._waiting else None

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        one, other = End(client), End(socket.create_connection(self._server))
        one.other, other.other = other, one
        for end in one, other:
            self._watched.register(end, selectors.EVENT_READ, end)

    def _serve(self, end: End, events: int) -> None:
        if events & selectors.EVENT_READ:
            data = end.read()
            if data is not None:
                self._waiting.append((time.perf_counter() + self._delay, end.other, data))
            end.ended = data == b""
        if events & selectors.EVENT_WRITE:
            end.send()
        if end.ended or events & selectors.EVENT_WRITE:
            self._watch(end)

    def _hand_on(self, end: End, data: bytes) -> None:
        end.unsent += data
        end.is_last = not data
        end.send()
        if end.unsent or end.is_last:
            self._watch(end)

    def _watch(self, end: End) -> None:
        """Watches an end and the other one for what they are to be watched for now, and closes them in the end."""
        for each in end, end.other:
            with contextlib.suppress(KeyError):
                self._watched.unregister(each)
            if each.events:
                self._watched.register(each, each.events, each)
        if end.is_over and end.other.is_over:
            end.connection.close()
            end.other.connection.close()


def main() -> None:
    host, port, seconds = sys.argv[1:]
    with contextlib.suppress(OSError):
        # Else the kernel may add 50 microseconds to every sleep.
        Path("/proc/self/timerslack_ns").write_text("1")
    proxy = Proxy((host, int(port)), float(seconds))
    print(proxy.port, flush=True)
    proxy.serve_until_the_end_of(sys.stdin.fileno())


if __name__ == "__main__":
    main()
