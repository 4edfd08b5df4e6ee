"""``redset web``."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from redset.cli import main
from redset.web.server import check_address
from servers import Place, Server, free_port, wait_until


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command that is wrong says."""
    monkeypatch.setattr(sys, "argv", ["redset", "web", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.7", "jobs.example", "", "127.0.0.1.example", "::ffff:10.0.0.1"]
)
def test_it_refuses_to_listen_to_others_without_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    message = run(monkeypatch, capsys, "--host", host)
    assert "--password" in message
    check_address(host, "x")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    check_address(host, None)


def test_wrong_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--password", "") == "redset: the password is empty\n"
    assert "--port" in run(monkeypatch, capsys, "--port", "0")


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("redset.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.datastructures", None)
    assert run(monkeypatch, capsys) == 'redset: the web page is an extra: pip install "redset[web]"\n'


def test_the_application_without_its_libraries(monkeypatch: pytest.MonkeyPatch, raw: Any) -> None:
    import redset.web

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"pip install .redset\[web\]"):
        redset.web.app(raw)


@pytest.mark.no_cover
def test_it_serves_the_page_and_ends_with_a_signal(here: Place, raw: Any) -> None:
    assert isinstance(here, Server)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "redset",
        "--url",
        here.url,
        "web",
        "--port",
        str(port),
        "--read-only",
        "--metrics",
    ]
    environment = os.environ | {"REDSET_WEB_PASSWORD": "secret", "REDSET_URL": "redis://localhost:1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"The page is at http://127.0.0.1:{port}/\n"
        word = base64.b64encode(b":secret").decode()

        def get(path: str) -> str:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Basic {word}"}
            )
            with urllib.request.urlopen(request) as answer:
                return str(answer.read().decode())

        def answers() -> bool:
            try:
                return "read-only" in get("/")
            except OSError:
                return False

        wait_until(answers)
        assert "redset_up 1.0" in get("/metrics")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert "Traceback" not in err
        assert process.returncode in (0, 130)
    finally:
        process.kill()
        process.communicate()


def test_an_address_that_is_taken(here: Place) -> None:
    from redset.exceptions import RedsetError
    from redset.web.server import serve

    assert isinstance(here, Server)
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RedsetError, match="cannot be used"):
            client = here.client(awaited=True)
            asyncio.run(serve(client, "127.0.0.1", port, None, (), None, read_only=False, ready=lambda address: None))
