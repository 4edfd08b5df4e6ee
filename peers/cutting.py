"""A proxy in front of a server that at times cuts a connection when the server has done what it was told, and before
its client learns of it.

It does not look into what it hands on, so it disturbs whatever a library sends: pipelines, transactions, scripts,
blocking commands. The next reply after each moment of chance is lost, whole or but for its first half; so it cuts as
often for a library that sends much as for one that sends little.
"""

import contextlib
import random
import socket
import threading
import time
from types import TracebackType
from typing import Self

__all__ = ("Cutting",)

CHUNK = 1 << 16


class Cutting:
    """The proxy; it cuts from :meth:`begin` to :meth:`end`.

    :param port: of the server.
    :param often: how many times in a second, on average.
    """

    def __init__(self, port: int, often: float, seed: int) -> None:
        self._server = port
        self._often = often
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._next = float("inf")
        #: How many replies were cut.
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def begin(self) -> None:
        self._next = time.monotonic()

    def end(self) -> None:
        self._next = float("inf")

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _hang_up(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._commands, args=(client, server), daemon=True).start()
                threading.Thread(target=self._replies, args=(client, server), daemon=True).start()

    def _commands(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(CHUNK):
                server.sendall(chunk)
        _hang_up(server)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(CHUNK):
                if self._is_cut():
                    client.sendall(chunk[: self._random.choice((0, len(chunk) // 2))])
                    break
                client.sendall(chunk)
        _hang_up(client)
        _hang_up(server)

    def _is_cut(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._random.expovariate(self._often)
            self.cuts += 1
            return True


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
