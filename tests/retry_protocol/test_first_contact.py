"""The first contact with a server: what is wrong with it is an error at once; and what is tried again later."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread, Timer
from types import ModuleType
from typing import Any, cast

import pytest

from clients import close_awaited
from redset.connect import connect, connect_async
from servers import Server

Command = Callable[..., Any]


@pytest.fixture(params=["redis", "valkey", "redis.asyncio", "valkey.asyncio"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package, _, asynchronous = str(request.param).partition(".")
    found: ModuleType = pytest.importorskip(request.param)
    if package == "valkey":
        monkeypatch.setitem(sys.modules, f"redis{asynchronous and '.asyncio'}", None)
    return found


@pytest.fixture
def command(library: ModuleType) -> Iterator[Callable[..., Command]]:
    """Connects, and returns what executes a command."""
    with asyncio.Runner() as runner, ExitStack() as clients:

        def made(url: str, **options: Any) -> Command:
            if not library.__name__.endswith("asyncio"):
                return cast("Command", clients.enter_context(connect(url, **options)).execute_command)
            client = runner.run(connect_async(url, **options))
            clients.callback(lambda: runner.run(close_awaited(client)))

            async def execute(*words: str) -> Any:
                return await client.execute_command(*words)

            return lambda *words: runner.run(execute(*words))

        yield made


@pytest.fixture
def pauses(library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those that clients of the library make before they try again; here they take no time."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    asynchronous = library.__name__.endswith("asyncio")
    monkeypatch.setattr(f"{library.__name__}.retry.sleep", pause if asynchronous else made.append)
    return made


@pytest.fixture
def port() -> Iterator[int]:
    """Of somebody who accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://no.such.host.invalid", "unix:///no/such.sock"])
def test_a_wrong_address(url: str, library: ModuleType, command: Callable[..., Command], pauses: list[float]) -> None:
    with pytest.raises(library.ConnectionError):
        command(url)("PING")
    assert not pauses


def test_tls_with_a_server_that_has_none(
    port: int, library: ModuleType, command: Callable[..., Command], pauses: list[float]
) -> None:
    with pytest.raises(library.TimeoutError):
        command(f"rediss://127.0.0.1:{port}", socket_connect_timeout=0.05)("PING")
    assert not pauses


def test_tls_does_not_wait_for_long(port: int, library: ModuleType) -> None:
    client = library.__name__.endswith("asyncio")
    url = f"rediss://127.0.0.1:{port}"
    made = asyncio.run(connect_async(url)) if client else connect(url)
    assert made.connection_pool.connection_kwargs["socket_connect_timeout"] == 2


def test_tls_with_one_that_has_it(tmp_path: Path, library: ModuleType, command: Callable[..., Command]) -> None:
    with Server() as server, tls(server, tmp_path) as url:
        assert command(url, socket_timeout=7)("ECHO", "hello") == b"hello"
        assert command(url, socket_connect_timeout=7)("BLPOP", "list", "0.1") is None
        with pytest.raises(library.TimeoutError):
            command(url, socket_timeout=0.1, retry=None)("BLPOP", "list", "2")


@pytest.mark.parametrize("credentials", [":wrong@", "nobody:wrong@", ""])
def test_a_wrong_password(
    credentials: str,
    library: ModuleType,
    command: Callable[..., Command],
    pauses: list[float],
) -> None:
    with Server(requirepass="right") as server, pytest.raises(library.ConnectionError):
        command(f"unix://{credentials}{server.socket_path}")("PING")
    assert not pauses


def test_a_password_that_is_changed_later(
    library: ModuleType, command: Callable[..., Command], pauses: list[float]
) -> None:
    with Server() as server:
        execute = command(server.url)
        execute("CONFIG", "SET", "requirepass", "right")
        with connect(f"unix://:right@{server.socket_path}") as other:
            other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(library.ConnectionError):
                execute("PING")
        # That of the connection that was lost.
        assert len(pauses) <= 1


def test_a_server_that_was_reached_is_tried_again(command: Callable[..., Command]) -> None:
    with Server() as server:
        execute = command(server.url)
        execute("PING")
        server.stop()
        again = Timer(0.3, server.start)
        again.start()
        assert execute("ECHO", "hello") == b"hello"
        again.join()


@contextmanager
def tls(server: Server, folder: Path) -> Iterator[str]:
    """The url of what speaks TLS for the server."""
    key, certificate = folder / "key", folder / "certificate"
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make a certificate")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = [program, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "1", *subject]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(10_000):
                target.sendall(some)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def relay(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as ours, socket.socket(socket.AF_UNIX) as theirs:
            theirs.connect(server.socket_path)
            back = Thread(target=copy, args=(theirs, ours))
            back.start()
            copy(ours, theirs)
            back.join()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                relays.append(Thread(target=relay, args=(listening.accept()[0],)))
                relays[-1].start()

    relays: list[Thread] = []
    with socket.create_server(("localhost", 0)) as listening:
        serving = Thread(target=serve)
        serving.start()
        yield f"rediss://localhost:{listening.getsockname()[1]}?ssl_ca_certs={certificate}"
        listening.shutdown(socket.SHUT_RDWR)
        serving.join()
    server.stop()
    for thread in relays:
        thread.join()
