"""The connections that redset keeps for itself, in addition to the pool of a plain client."""

import asyncio
import contextlib
import functools
import gc
import importlib
import inspect
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy import Chance, Fault, Proxy
from redset.core.clients.connections import AsyncConnections, AsyncLink, Connections, Link, connections_of
from redset.core.drivers import AsyncDriver, Driver
from servers import Place, Server, client_module, free_port, wait_until

pytestmark = pytest.mark.filterwarnings("error")


class Library:
    """One face of one client library: ``run`` makes both faces blocking."""

    def __init__(self, name: str, *, awaited: bool) -> None:
        self.name = name
        self.awaited = awaited
        self.module = client_module(name, awaited=awaited)
        self.client_class = getattr(self.module, "Valkey" if name == "valkey" else "Redis")
        self.errors = importlib.import_module(f"{name}.exceptions")
        self.loop = asyncio.new_event_loop() if awaited else None
        self.clients: list[Any] = []

    def client(self, url: str, **options: Any) -> Any:
        self.clients.append(self.run(self.client_class.from_url, url, **options))
        return self.clients[-1]

    def connections(self, client: Any) -> Any:
        return connections_of(client, awaits=self.awaited)

    def link(self, client: Any) -> Any:
        found = self.connections(client)
        assert found is not None
        return found.link()

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.loop is None:
            return function(*args, **options)

        async def called() -> Any:
            result = function(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return self.loop.run_until_complete(called())

    def rest(self) -> None:
        """Leave the connections alone for a while, with the event loop running."""
        self.run(asyncio.sleep if self.awaited else time.sleep, 0.1)

    def close(self, client: Any) -> None:
        self.run(getattr(client, "aclose", None) or client.close)
        self.run(client.connection_pool.disconnect)

    def retry(self, times: int, *errors: type[Exception]) -> Any:
        module = importlib.import_module(f"{self.name}.asyncio.retry" if self.awaited else f"{self.name}.retry")
        backoff = importlib.import_module(f"{self.name}.backoff").NoBackoff()
        return module.Retry(backoff, times, errors) if errors else module.Retry(backoff, times)


KINDS = [(name, awaited) for name in ("redis", "valkey") for awaited in (False, True)]


@pytest.fixture(params=KINDS, ids=[f"{name}-{'aio' if awaited else 'sync'}" for name, awaited in KINDS])
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    name, awaited = request.param
    found = Library(name, awaited=awaited)
    yield found
    for client in found.clients:
        found.close(client)
    if found.loop is not None:
        found.loop.close()
    gc.collect()


@pytest.fixture
def there(here: Place) -> Server:
    if not isinstance(here, Server):
        pytest.skip("a single server")
    return here


def count(raw: Any, name: str) -> int:
    """Return the number of connections of that name on the server."""
    return sum(each["name"] == name for each in raw.client_list())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"protocol": 2},
        {"protocol": 3, "decode_responses": True},
        {"health_check_interval": 1},
        {"socket_timeout": None},
        {"socket_timeout": 30},
        {"encoding": "latin-1"},
        {"client_name": "links", "db": 3},
    ],
    ids=str,
)
def test_a_reply_is_raw_with_any_options_of_the_client(
    there: Server, library: Library, options: dict[str, Any]
) -> None:
    client = library.client(there.url, **options)
    try:
        library.run(client.ping)
    except (TypeError, ValueError) as reason:
        library.clients.clear()
        pytest.skip(f"this version of the library cannot do that: {reason}")
    link = library.link(client)
    for _ in range(3):
        assert library.run(link.exchange, ("ECHO", b"\xff\r\n\x00")) == b"\xff\r\n\x00"
    assert library.run(link.exchange, (b"ZADD", b"set", b"1.5", b"x")) == 1
    assert library.run(link.exchange, ("EVAL", "return {1, 'a', {'b'}, false}", "0")) == [1, b"a", [b"b"], None]
    assert library.run(link.exchange, ("SET", "big", b"x" * 1_000_000)) == b"OK"
    assert len(library.run(link.exchange, ("GET", "big"))) == 1_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_words_are_encoded_as_the_client_encodes_them(there: Server, library: Library, encoding: str) -> None:
    client = library.client(there.url, encoding=encoding)
    said = library.run(client.execute_command, "ECHO", "ä", NEVER_DECODE=True)
    assert library.run(library.link(client).exchange, ("ECHO", "ä")) == said


def test_a_connection_has_the_clients_settings(there: Server, library: Library, raw: Any) -> None:
    link = library.link(library.client(there.url, client_name="links", db=3))
    own = library.run(link.exchange, ("CLIENT", "ID"))
    (found,) = [each for each in raw.client_list() if each["id"] == str(own)]
    assert (found["name"], found["db"]) == ("links", "3")


def test_a_changed_password_is_used(there: Server, library: Library, raw: Any) -> None:
    raw.execute_command("ACL", "SETUSER", "guest", "on", ">old", "~*", "+@all")
    try:
        client = library.client(there.url, username="guest", password="old")
        link = library.link(client)
        assert library.run(link.exchange, ("ACL", "WHOAMI")) == b"guest"
        raw.execute_command("ACL", "SETUSER", "guest", "resetpass", ">new")
        client.connection_pool.connection_kwargs["password"] = "new"
        raw.execute_command("CLIENT", "KILL", "USER", "guest")
        library.rest()
        assert library.run(link.exchange, ("ACL", "WHOAMI")) == b"guest"
    finally:
        raw.execute_command("ACL", "DELUSER", "guest")


def test_an_error_reply_to_a_blocking_command_leaves_the_connection(there: Server, raw: Any) -> None:
    library = Library("redis", awaited=False)
    link = library.link(library.client(there.url))
    raw.set("text", "x")
    own = link.exchange(("CLIENT", "ID"))
    with pytest.raises(library.errors.ResponseError, match="WRONGTYPE"):
        link.listen(("BLPOP", "text", "1"), 2, None)
    assert link.exchange(("CLIENT", "ID")) == own


def test_an_error_reply_leaves_the_connection(there: Server, library: Library) -> None:
    link = library.link(library.client(there.url))
    library.run(link.exchange, ("SET", "text", "x"))
    before = library.run(link.exchange, ("CLIENT", "ID"))
    for words in [
        ("LPUSH", "text", "x"),
        ("EVALSHA", "0" * 40, "0"),
        ("NONSENSE",),
        ("EVAL", "return {err='OOM full'}", "0"),
    ]:
        with pytest.raises(library.errors.ResponseError):
            library.run(link.exchange, words)
    assert library.run(link.exchange, ("CLIENT", "ID")) == before


def test_a_link_needs_no_connection_of_the_pool(there: Server, library: Library) -> None:
    client = library.client(there.url, max_connections=1)
    connections = library.connections(client)
    assert connections.limit == 1
    link = connections.link()
    assert library.run(link.exchange, ("PING",)) == b"PONG"
    assert library.run(client.ping) in (True, b"PONG")
    assert library.connections(client) is connections


def test_the_time_to_wait_is_that_of_a_blocking_pool(there: Server, library: Library) -> None:
    for timeout in (3, None):
        pool = library.run(
            library.module.BlockingConnectionPool.from_url, there.url, timeout=timeout, max_connections=7
        )
        client = library.run(library.client_class, connection_pool=pool)
        library.clients.append(client)
        connections = library.connections(client)
        assert (connections.timeout, connections.limit) == (timeout, 7)
    assert library.connections(library.client(there.url)).timeout == 20


# Who is plain.


def not_plain(library: Library, url: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(
        f"{library.name}.asyncio.connection" if library.awaited else f"{library.name}.connection"
    )

    class Derived(library.client_class):  # type: ignore[misc, name-defined]
        pass

    class Pool(module.ConnectionPool):  # type: ignore[misc, name-defined]
        pass

    class Connection(module.UnixDomainSocketConnection):  # type: ignore[misc, name-defined]
        pass

    yield "derived", Derived.from_url(url)
    yield "pool", library.client_class(connection_pool=Pool.from_url(url))
    yield (
        "connection",
        library.client_class(connection_pool=module.ConnectionPool(connection_class=Connection)),
    )
    yield "single", library.client_class.from_url(url, single_connection_client=True)
    replaced = library.client_class.from_url(url)
    replaced.execute_command = functools.partial(replaced.execute_command)
    yield "replaced", replaced
    parsing = library.client_class.from_url(url)
    parsing.parse_response = parsing.parse_response
    yield "parsing", parsing
    pooling = library.client_class.from_url(url)
    pooling.connection_pool.get_connection = pooling.connection_pool.get_connection
    yield "pooling", pooling
    yield "pipeline", library.client_class.from_url(url).pipeline()


def test_other_clients_have_no_connections(there: Server, library: Library) -> None:
    def make() -> None:
        library.clients.extend(client for _, client in found)

    async def later() -> list[tuple[str, Any]]:
        return list(not_plain(library, there.url))

    found = library.run(later) if library.awaited else list(not_plain(library, there.url))
    make()
    for name, client in found:
        assert library.connections(client) is None, name
    library.clients.pop()
    assert connections_of(library.client(there.url), awaits=not library.awaited) is None
    assert connections_of(object(), awaits=library.awaited) is None


def test_an_instrumented_class_has_no_connections(
    there: Server, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = library.client_class.execute_command

    @functools.wraps(original)
    def instrumented(*args: Any, **options: Any) -> Any:
        return original(*args, **options)

    early = library.client(there.url)
    connections = library.connections(early)
    assert connections.usable()
    with monkeypatch.context() as patched:
        patched.setattr(library.client_class, "execute_command", instrumented)
        assert not connections.usable()
        assert library.connections(early) is None
        assert library.connections(library.client(there.url)) is None
    assert connections.usable()


@pytest.mark.parametrize("what", ["execute_command", "connection_pool", "connection_class"])
def test_a_client_may_stop_being_plain(there: Server, library: Library, what: str) -> None:
    client = library.client(there.url)
    connections = library.connections(client)
    assert connections.usable()
    if what == "execute_command":
        client.execute_command = client.execute_command
    elif what == "connection_pool":
        client.connection_pool = library.client(there.url).connection_pool
    else:
        client.connection_pool.connection_class = functools.partial(client.connection_pool.connection_class)
    assert not connections.usable()


def test_another_pool_of_a_client_means_other_connections(there: Server, library: Library) -> None:
    client = library.client(there.url, client_name="one")
    first = library.connections(client)
    client.connection_pool = library.client(there.url, client_name="two").connection_pool
    second = library.connections(client)
    assert second is not first
    assert library.run(second.link().exchange, ("CLIENT", "GETNAME")) == b"two"


def test_a_client_that_redis_py_measures_has_no_connections(there: Server) -> None:
    providers = pytest.importorskip("redis.observability.providers")
    for awaited in (False, True):
        library = Library("redis", awaited=awaited)
        client = library.client(there.url)
        connections = library.connections(client)
        observability = providers.get_observability_instance()
        assert connections.usable()
        observability.init(importlib.import_module("redis.observability.config").OTelConfig())
        try:
            assert not connections.usable()
            assert library.connections(client) is None
        finally:
            providers.reset_observability_instance()
        assert connections.usable()
        library.close(client)
        if library.loop:
            library.loop.close()


def test_client_side_caching_and_renewed_credentials_are_left_to_the_client(there: Server) -> None:
    redis = pytest.importorskip("redis", minversion="6")
    cache = importlib.import_module("redis.cache")
    provider = importlib.import_module("redis.credentials").StreamingCredentialProvider

    class Tokens(provider):  # type: ignore[misc, valid-type]
        def get_credentials(self) -> tuple[str, str]:
            return "default", ""

        async def get_credentials_async(self) -> tuple[str, str]:
            return "default", ""

        def on_next(self, callback: Any) -> None: ...

        def on_error(self, callback: Any) -> None: ...

        def is_streaming(self) -> bool:
            return True

    caching = redis.Redis.from_url(there.url, protocol=3, cache_config=cache.CacheConfig())
    assert connections_of(caching, awaits=False) is None
    streaming = redis.Redis.from_url(there.url, credential_provider=Tokens())
    assert connections_of(streaming, awaits=False) is None
    for client in (caching, streaming):
        client.close()


def test_maintenance_notifications_that_are_asked_for_are_left_to_the_client() -> None:
    notifications = pytest.importorskip("redis.maint_notifications")
    redis = importlib.import_module("redis")
    for enabled, plain in ((True, False), ("auto", True), (False, True)):
        wanted = notifications.MaintNotificationsConfig(enabled=enabled)
        client = redis.Redis(protocol=3, maint_notifications_config=wanted)
        assert (connections_of(client, awaits=False) is not None) is plain
        client.close()


# Errors and retries.


def policies(library: Library) -> dict[str, dict[str, Any]]:
    errors = library.errors
    return {
        "default": {},
        "none": {"retry": library.retry(0)},
        "three": {"retry": library.retry(3)},
        "three-listed": {"retry": library.retry(3), "retry_on_error": [errors.ConnectionError]},
        "other-listed": {"retry": library.retry(3), "retry_on_error": [errors.ReadOnlyError]},
        "other-supported": {"retry": library.retry(3, errors.BusyLoadingError)},
        "listed": {"retry_on_error": [errors.ConnectionError]},
        "timeouts": {"retry_on_timeout": True},
    }


POLICIES = ["default", "none", "three", "three-listed", "other-listed", "other-supported", "listed", "timeouts"]


def carrier(library: Library, client: Any) -> Callable[..., Any]:
    """Return a function that sends a command on connections of redset's own, and then by the client."""
    driver = (AsyncDriver if library.awaited else Driver)(client, "tries", b"tries", recording=False, connections="own")
    return driver._carry_out


def is_as_often(tries: int, client_tries: int, policy: str = "") -> bool:
    """With a client that never retries, redset tries once. Any other client may retry after that attempt."""
    return tries - client_tries in ((0,) if policy == "none" else (0, 1))


def outcome(library: Library, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return library.run(function, *args)
    except Exception as error:
        return type(error), str(error).split(" (")[0]


@pytest.mark.parametrize(
    ("policy", "warm"),
    # Ten attempts with pauses are tried on a connection only.
    [("default", True), *((policy, warm) for policy in POLICIES[1:] for warm in (True, False))],
)
def test_a_lost_command_is_repeated_as_often_as_the_client_repeats_it(
    there: Server, library: Library, policy: str, warm: bool
) -> None:
    seen = []
    for fault in (Fault.LOST_COMMAND, Fault.CUT_REPLY):
        for by_link in (False, True):
            proxy = Proxy(there, 0)
            client = library.client(proxy.url, **policies(library)[policy])
            carry = carrier(library, client)
            if warm:
                library.run(carry, ("PING",))
                library.run(client.ping)
            proxy.leave_to(Chance(1, 1, (fault,)))
            # Two of them: what the first leaves behind must not matter for the second.
            ends = []
            for _ in range(1 if policy == "default" else 2):
                command = ("EVAL", "return redis.sha1hex('a')", "0")
                if by_link:
                    ends.append(outcome(library, carry, command))
                else:
                    ends.append(outcome(library, client.execute_command, *command))
            seen.append((fault, proxy.met[fault], [end[0] for end in ends]))
            proxy.leave_to(None)
            assert library.run(carry, ("PING",)) == b"PONG"
            library.close(client)
            proxy.stop()
    for (_, client_tries, client_ends), (_, tries, ends) in (seen[:2], seen[2:]):
        assert ends == client_ends
        assert is_as_often(tries // len(ends), client_tries // len(ends), policy)


@pytest.mark.parametrize("policy", [each for each in POLICIES if each != "default"])
def test_it_connects_as_often_as_the_client_does(library: Library, policy: str) -> None:
    """The server closes each connection at once."""
    seen = []
    for by_link in (False, True):
        with hanging_up() as (port, met):
            client = library.client(f"redis://127.0.0.1:{port}", **policies(library)[policy])
            if by_link:
                end = outcome(library, carrier(library, client), ("PING",))
            else:
                end = outcome(library, client.execute_command, "PING")
            assert end[0] is library.errors.ConnectionError
            seen.append(len(met))
    assert is_as_often(seen[1], seen[0], policy)


@contextlib.contextmanager
def hanging_up() -> Iterator[tuple[int, list[None]]]:
    listener = socket.create_server(("127.0.0.1", 0))
    met: list[None] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                met.append(None)
                # Otherwise it depends on chance which step of the client's finds that out.
                connection.recv(1)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], met
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("policy", [each for each in POLICIES if each != "default"])
@pytest.mark.parametrize("said", ["READONLY no", "LOADING soon", "OOM full"])
def test_an_error_reply_is_retried_as_often_as_the_client_retries_it(
    there: Server, library: Library, policy: str, said: str, raw: Any
) -> None:
    seen = []
    for by_link in (False, True):
        raw.delete("tries")
        client = library.client(there.url, **policies(library)[policy])
        words = ("EVAL", f"redis.call('INCR', KEYS[1]) return {{err='{said}'}}", "1", "tries")
        if by_link:
            carry = carrier(library, client)
            end = outcome(library, carry, words)
            assert library.run(carry, ("GET", "tries")) == raw.get("tries")
        else:
            end = outcome(library, client.execute_command, *words)
        seen.append((int(raw.get("tries")), end))
    assert seen[0][1] == seen[1][1]
    assert is_as_often(seen[1][0], seen[0][0], policy)


def test_an_error_leaves_nothing_to_the_garbage_collector(there: Server) -> None:
    """A reference cycle with the error would keep the frames of its traceback until the collector runs."""
    pytest.importorskip("redis", minversion="5")
    library = Library("redis", awaited=False)
    proxy = Proxy(there, 0)
    client = library.client(proxy.url, retry=library.retry(1), retry_on_error=[library.errors.ReadOnlyError])
    link = library.link(client)
    library.run(link.exchange, ("PING",))
    gc.collect()
    gc.disable()
    try:
        for words in (("NONSENSE",), ("EVAL", "return {err='READONLY no'}", "0")):
            assert isinstance(outcome(library, link.exchange, words)[0], type)
        proxy.leave_to(Chance(1, 1, (Fault.LOST_REPLY,)))
        assert isinstance(outcome(library, link.exchange, ("EVAL", "return 1", "0"))[0], type)
        reference = weakref.ref(link)
        del link
        assert reference() is None
    finally:
        gc.enable()
    library.close(client)
    proxy.stop()


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_link_in_a_cycle_is_closed_quietly(there: Server, raw: Any, name: str) -> None:
    library = Library(name, awaited=True)
    client = library.client(there.url, client_name="links")
    for _ in range(10):
        link = library.link(client)
        library.run(link.exchange, ("PING",))
        cycle = [link, link._slot[0]]
        cycle.append(cycle)
        del link, cycle
    gc.collect()
    library.rest()
    wait_until(lambda: count(raw, "links") == 0)
    library.close(client)
    assert library.loop is not None
    library.loop.close()


def test_a_new_policy_of_the_client_holds_for_its_links(there: Server) -> None:
    library = Library("redis", awaited=False)
    proxy = Proxy(there, 0)
    client = library.client(proxy.url, retry=library.retry(0))
    carry = carrier(library, client)
    carry(("PING",))
    client.set_retry(library.retry(4))
    proxy.leave_to(Chance(1, 1, (Fault.LOST_REPLY,)))
    outcome(library, carry, ("EVAL", "return 1", "0"))
    listed_only = hasattr(library.client_class, "_disconnect_raise")
    assert proxy.met[Fault.LOST_REPLY] == (1 if listed_only else 6)
    library.close(client)
    proxy.stop()


def test_a_connection_that_the_server_closed_meanwhile_is_no_error(there: Server, library: Library, raw: Any) -> None:
    """A pool checks a connection before each command, so not even a client without retries raises an error."""
    link = library.link(library.client(there.url, client_name="links", retry=library.retry(0)))
    before = library.run(link.exchange, ("CLIENT", "ID"))
    raw.client_kill_filter(_id=before)
    library.rest()
    assert library.run(link.exchange, ("CLIENT", "ID")) != before


def test_it_reconnects_to_a_restarted_server(library: Library) -> None:
    port = free_port()
    server = Server(port=port)
    link = library.link(library.client(f"redis://127.0.0.1:{port}", retry=library.retry(0)))
    library.run(link.exchange, ("PING",))
    server.stop()
    with pytest.raises(library.errors.ConnectionError):
        library.run(link.exchange, ("PING",))
    server.start()
    assert library.run(link.exchange, ("PING",)) == b"PONG"
    server.stop()


# Time limits.


def test_a_time_limit_ends_a_call(there: Server, library: Library, raw: Any) -> None:
    link = library.link(library.client(there.url, socket_timeout=0.3, retry=library.retry(0)))
    for _ in range(3):
        raw.delete("list")
        began = time.monotonic()
        with pytest.raises(library.errors.TimeoutError, match="Timeout reading from"):
            library.run(link.exchange, ("BLPOP", "list", "0"))
        assert 0.25 < time.monotonic() - began < 20
        # The reply that was not waited for goes to nobody.
        raw.rpush("list", "late")
        assert library.run(link.exchange, ("ECHO", "on time")) == b"on time"


def test_the_time_limit_of_an_earlier_call_does_not_end_a_short_one(there: Server, library: Library) -> None:
    link = library.link(library.client(there.url, socket_timeout=2.0, retry=library.retry(0)))
    library.run(link.exchange, ("PING",))
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert library.run(link.exchange, ("BLPOP", "nothing", "0.1")) is None


def test_a_late_call_is_repeated_by_the_clients_policy(there: Server, library: Library) -> None:
    seen = []
    for by_link in (False, True):
        proxy = Proxy(there, 0)
        options = {"retry": library.retry(1), "retry_on_timeout": True, "socket_timeout": 0.5}
        client = library.client(proxy.url, **options)
        words = ("EVAL", "return 1", "0")
        carry = carrier(library, client)
        for _ in range(10):
            proxy.plan(Fault.NONE, meanwhile=lambda: time.sleep(2))
        end = outcome(library, carry, words) if by_link else outcome(library, client.execute_command, *words)
        seen.append((proxy.met[Fault.NONE], end[0]))
        library.close(client)
        proxy.stop()
    assert seen[0][1] == seen[1][1]
    assert is_as_often(seen[1][0], seen[0][0])


def test_a_time_limit_leaves_no_cancellation_behind(there: Server) -> None:
    library = Library("redis", awaited=True)

    async def body() -> None:
        client = library.client_class.from_url(there.url, socket_timeout=4.0, retry=library.retry(0))
        link = connections_of(client, awaits=True).link()  # type: ignore[union-attr]
        with pytest.raises(library.errors.TimeoutError):
            await link.exchange(("BLPOP", "nothing", "0"))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        # A cancellation from outside stays one.
        other = asyncio.create_task(link.exchange(("BLPOP", "nothing", "0")))
        await asyncio.sleep(0.05)
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        await link.exchange(("ECHO", "x"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await link.exchange(("BLPOP", "nothing", "0"))
        assert await link.exchange(("ECHO", "x")) == b"x"
        await client.connection_pool.disconnect()

    assert library.loop is not None
    library.loop.run_until_complete(body())
    library.loop.close()


# Interruptions.


class Interrupt(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupt])
@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_an_interrupted_call_leaves_no_reply_behind(there: Server, name: str, error: type[BaseException]) -> None:
    library = Library(name, awaited=False)
    client = library.client(there.url)
    link = library.link(client)

    def interrupt(*_: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        interrupted = 0
        for number in range(300):
            said = f"{number}" * 100
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 * (number % 30 + 1))
                for _ in range(20):
                    assert link.exchange(("ECHO", said)) == said.encode()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except error:
                interrupted += 1
            assert link.exchange(("ECHO", "after")) == b"after"
        assert interrupted > 30
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    library.close(client)


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_cancelled_call_leaves_no_reply_behind(there: Server, name: str) -> None:
    library = Library(name, awaited=True)

    async def body() -> None:
        client = library.client_class.from_url(there.url)
        link = connections_of(client, awaits=True).link()  # type: ignore[union-attr]
        for steps in range(12):
            said = f"{steps}" * 100
            task = asyncio.create_task(link.exchange(("ECHO", said)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == said.encode()
            assert await link.exchange(("ECHO", "after")) == b"after"
        await client.connection_pool.disconnect()

    assert library.loop is not None
    library.loop.run_until_complete(body())
    library.loop.close()


def _after(turns: int, call: Callable[[], None]) -> None:
    """Call after some turns of the event loop."""
    if turns == 0:
        call()
    else:
        asyncio.get_running_loop().call_soon(_after, turns - 1, call)


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_task_that_is_cancelled_while_it_connects_sends_nothing(there: Server, name: str) -> None:
    """In Python 3.11 the library can swallow that, and a command that blocks would keep a connection for seconds."""
    anyio = pytest.importorskip("anyio")
    library = Library(name, awaited=True)

    async def body() -> None:
        client = library.client_class.from_url(there.url, socket_timeout=60)
        for steps in range(200):
            link = connections_of(client, awaits=True).link()  # type: ignore[union-attr]
            task = asyncio.create_task(link.exchange(("BLPOP", "nothing", "30")))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=10)
            assert task.cancelled(), f"after {steps} turns of the event loop"
            link = connections_of(client, awaits=True).link()  # type: ignore[union-attr]
            async with anyio.create_task_group() as group:
                asyncio.get_running_loop().call_soon(_after, steps, group.cancel_scope.cancel)
                with anyio.fail_after(10):
                    await link.exchange(("BLPOP", "nothing", "30"))
        await client.connection_pool.disconnect()

    assert library.loop is not None
    library.loop.run_until_complete(body())
    library.loop.close()


# Closing.


@pytest.mark.parametrize("way", ["client", "pool", "idle", "connections"])
def test_closing_the_client_closes_its_links(there: Server, library: Library, raw: Any, way: str) -> None:
    client = library.client(there.url, client_name="links")
    connections = library.connections(client)
    links = [connections.link() for _ in range(3)]
    for link in links:
        library.run(link.exchange, ("PING",))
    assert count(raw, "links") == 3
    if way == "client":
        library.close(client)
    elif way == "pool":
        library.run(client.connection_pool.disconnect)
    elif way == "idle":
        library.run(client.connection_pool.disconnect, inuse_connections=False)
    else:
        library.run(connections.close)
    wait_until(lambda: count(raw, "links") == 0)
    for link in links:
        assert library.run(link.exchange, ("PING",)) == b"PONG"
    assert count(raw, "links") == 3


def test_several_clients_of_one_pool_have_links_of_their_own(there: Server, library: Library, raw: Any) -> None:
    one = library.client(there.url, client_name="links")
    other = library.run(library.client_class, connection_pool=one.connection_pool)
    library.clients.append(other)
    for client in (one, other):
        library.run(library.link(client).exchange, ("PING",))
    links = [library.link(client) for client in (one, other)]
    for link in links:
        library.run(link.exchange, ("PING",))
    library.run(one.connection_pool.disconnect)
    wait_until(lambda: count(raw, "links") == 0)


def test_disconnecting_a_pool_ends_the_calls_under_way(there: Server, raw: Any) -> None:
    library = Library("redis", awaited=False)
    client = library.client(there.url, client_name="links", retry=library.retry(0))
    link = library.link(client)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(outcome(library, link.exchange, ("BLPOP", "nothing", "0"))))
    thread.start()
    wait_until(lambda: [each["cmd"] for each in raw.client_list() if each["name"] == "links"] == ["blpop"])
    client.connection_pool.disconnect(inuse_connections=False)
    assert thread.is_alive()
    client.connection_pool.disconnect()
    thread.join(20)
    # What the library says then depends on its parser.
    assert isinstance(ended[0][0], type)
    assert link.exchange(("ECHO", "x")) == b"x"
    library.close(client)


def test_a_collected_link_closes_its_connection(there: Server, library: Library, raw: Any) -> None:
    client = library.client(there.url, client_name="links")
    link = library.link(client)
    library.run(link.exchange, ("PING",))
    assert count(raw, "links") == 1
    del link
    library.rest()
    wait_until(lambda: count(raw, "links") == 0)


def test_connections_keep_no_client_alive(there: Server, library: Library) -> None:
    client = library.client(there.url)
    connections = library.connections(client)
    link = connections.link()
    library.run(link.exchange, ("PING",))
    library.close(client)
    reference = weakref.ref(client)
    library.clients.clear()
    del client
    assert reference() is None
    assert not connections.usable()
    # Nor is the pool left to the garbage collector.
    pool = weakref.ref(connections.pool)
    library.run(connections.close)
    del link
    gone = weakref.ref(connections)
    gc.disable()
    try:
        del connections
        assert gone() is None
        assert pool() is None
    finally:
        gc.enable()


def test_a_collected_synchronous_client_closes_its_links(there: Server, raw: Any) -> None:
    library = Library("redis", awaited=False)
    link = library.link(library.client(there.url, client_name="links"))
    link.exchange(("PING",))
    if not getattr(library.clients[0], "auto_close_connection_pool", False):
        library.close(library.clients[0])
        pytest.skip("this version of the library leaves the pool open")
    library.clients.clear()
    gc.collect()
    assert count(raw, "links") == 0


# Threads, event loops, processes.


def test_threads_that_end_leave_their_links_to_others(there: Server) -> None:
    library = Library("redis", awaited=False)
    client = library.client(there.url)
    link = library.link(client)
    ids: list[int] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: ids.append(link.exchange(("CLIENT", "ID"))))
        thread.start()
        thread.join()
    assert len(set(ids)) == 1
    library.close(client)


def test_each_event_loop_has_links_of_its_own(there: Server, raw: Any) -> None:
    """A client can be closed in any of these event loops."""
    library = Library("redis", awaited=True)
    client = library.client(there.url, client_name="links")
    connections = library.connections(client)
    ready, done = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        link = connections.link()
        await link.exchange(("PING",))
        ready.set()
        await asyncio.to_thread(done.wait, 20)
        assert await link.exchange(("ECHO", "x")) == b"x"
        await connections.close()

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    assert ready.wait(20)
    link = connections.link()
    library.run(link.exchange, ("PING",))
    assert count(raw, "links") == 2
    library.close(client)
    wait_until(lambda: count(raw, "links") == 0)
    done.set()
    thread.join(20)
    assert library.loop is not None
    library.loop.close()


def test_a_forked_child_leaves_its_parents_connections_alone(there: Server, library: Library, raw: Any) -> None:
    client = library.client(there.url, client_name="links")
    link = library.link(client)
    mine = library.run(link.exchange, ("CLIENT", "ID"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            loop = asyncio.new_event_loop() if library.awaited else None
            for _ in range(3):
                own = (
                    loop.run_until_complete(link.exchange(("CLIENT", "ID")))
                    if loop
                    else link.exchange(("CLIENT", "ID"))
                )
            gc.collect()
            os.write(writing, str(own).encode())
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(writing)
    theirs = int(os.read(reading, 100))
    os.close(reading)
    assert theirs != mine
    assert library.run(link.exchange, ("CLIENT", "ID")) == mine


def test_the_class_of_a_client_determines_its_face(there: Server, library: Library) -> None:
    connections = library.connections(library.client(there.url))
    assert isinstance(connections, AsyncConnections if library.awaited else Connections)
    assert isinstance(connections.link(), AsyncLink if library.awaited else Link)
