"""A TCP proxy in front of a server, which loses calls and their replies: as a test tells it, or at random."""

import contextlib
import enum
import importlib
import random
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Self

import pytest

from servers import Server, client_module

__all__ = ("Chance", "Fault", "Interrupted", "Proxy", "fails", "is_of_the_network", "proxied")

#: What a client says on a new connection is no call.
CALLS = (b"EVAL", b"EVALSHA", b"MULTI")


class Fault(enum.Enum):
    """What becomes of one call. Each but the first ends the client's connection."""

    NONE = enum.auto()
    #: It never reaches the server.
    LOST_COMMAND = enum.auto()
    #: The server has executed it, and nothing of the reply arrives.
    LOST_REPLY = enum.auto()
    #: The server has executed it, and half of the reply arrives.
    CUT_REPLY = enum.auto()
    #: It reaches the server later, when its client has long gone on: when the proxy is told to deliver it.
    LATE = enum.auto()


class Sent(NamedTuple):
    """A command; or a transaction, which has one fate."""

    content: bytes
    #: How many replies the server makes.
    replies: int


@dataclass
class Planned:
    """What is to become of one call, and what else happens meanwhile."""

    fault: Fault
    meanwhile: Callable[[], Any] = lambda: None


@dataclass
class Chance:
    """Faults at random: one in so many calls."""

    seed: int
    one_in: int
    kinds: tuple[Fault, ...] = (Fault.LOST_COMMAND, Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.LATE)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def __call__(self) -> Planned:
        return Planned(Fault.NONE if self._random.randrange(self.one_in) else self._random.choice(self.kinds))

    def delay(self) -> int:
        """How many calls overtake one that is late."""
        return self._random.choice((1, 10, 100, 1000))


class Proxy:
    """Stands where a server stands, for any number of clients.

    :param repeats: how often its clients repeat what failed, by themselves.
    :param chance: decides what becomes of each call for which nothing was planned.
    """

    def __init__(self, server: Server, repeats: int, chance: Chance | None = None) -> None:
        self._server = server
        self._chance = chance
        #: For up to how many seconds each call is held before it goes on.
        self.delay = 0.0
        self._repeats = repeats
        self._planned: deque[Planned] = deque()
        #: Calls that are late, each with how many others may still overtake it.
        self._late: list[tuple[int, Sent]] = []
        self._lock = threading.Lock()
        #: How many calls came to which end.
        self.met: Counter[Fault] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = {self._listener}
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        """A client whose every connection goes through the proxy; see :class:`servers.Place`."""
        repeating = options_to_repeat(self._repeats, library, awaited=awaited)
        return client_module(library, awaited=awaited).from_url(self.url, **repeating, **options)

    def plan(self, *faults: Fault, meanwhile: Callable[[], Any] = lambda: None) -> None:
        """What becomes of the next calls. ``meanwhile`` happens before the client learns anything of the last one."""
        planned = [Planned(fault) for fault in faults]
        planned[-1].meanwhile = meanwhile
        with self._lock:
            self._planned.extend(planned)

    def forget(self) -> None:
        """Nothing becomes of the next calls."""
        with self._lock:
            self._planned.clear()

    @property
    def is_planned(self) -> bool:
        """Whether a call is still to come for which something is planned."""
        return bool(self._planned)

    def deliver(self) -> int:
        """Lets all that is late reach the server, and be executed; returns how many calls that was."""
        with self._lock:
            late, self._late = self._late, []
            for _, call in late:
                self._execute(call)
        return len(late)

    @property
    def faults(self) -> int:
        """How many calls were disturbed."""
        return self.met.total() - self.met[Fault.NONE]

    def leave_to(self, chance: Chance | None) -> None:
        """What decides from now on; None: nothing is disturbed any more, but by plan."""
        with self._lock:
            self._chance = chance

    def cut(self) -> int:
        """Cuts all connections, whatever is under way on them; returns how many there were."""
        cut = [each for each in list(self._open) if each is not self._listener]
        for each in cut:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(cut)

    def stop(self) -> None:
        for each in list(self._open):
            hang_up(each)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="proxied", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        # Whoever hangs up, or is not there, is no concern of the proxy's.
        with contextlib.suppress(OSError), self._connected() as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            replies = messages(server)
            for sent in sent_by(client):
                if not self._pass_on(sent, client, server, replies):
                    break
        self._open.discard(client)
        hang_up(client)

    def _pass_on(self, sent: Sent, client: socket.socket, server: socket.socket, replies: Iterator[bytes]) -> bool:
        """Whether the connection goes on."""
        if self.delay:
            time.sleep(random.uniform(0, self.delay))
        planned = self._what_becomes_of(sent)
        fault = planned.fault
        if fault in {Fault.LOST_COMMAND, Fault.LATE}:
            planned.meanwhile()
            return False
        server.sendall(sent.content)
        received = [*islice(replies, sent.replies)]
        if len(received) < sent.replies:
            return False
        planned.meanwhile()
        reply = b"".join(received)
        if fault is not Fault.LOST_REPLY:
            client.sendall(reply if fault is Fault.NONE else reply[: len(reply) // 2])
        return fault is Fault.NONE

    def _what_becomes_of(self, sent: Sent) -> Planned:
        if verb(sent.content) not in CALLS:
            return Planned(Fault.NONE)
        with self._lock:
            planned = self._decide()
            self.met[planned.fault] += 1
            self._deliver_what_was_overtaken()
            if planned.fault is Fault.LATE:
                self._late.append((self._chance.delay() if self._chance else -1, sent))
        return planned

    def _decide(self) -> Planned:
        if self._planned:
            return self._planned.popleft()
        return self._chance() if self._chance else Planned(Fault.NONE)

    def _deliver_what_was_overtaken(self) -> None:
        """What is late by no number waits to be delivered by hand."""
        if self._late:
            for left, call in self._late:
                if left == 0:
                    self._execute(call)
            self._late = [(left - 1, call) for left, call in self._late if left != 0]

    def _execute(self, call: Sent) -> None:
        """Has a call executed on a connection of its own, and throws its replies away."""
        with self._connected() as server:
            server.sendall(call.content)
            for _ in islice(messages(server), call.replies):
                pass

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server.socket_path)
            self._open.add(server)
            try:
                yield server
            finally:
                self._open.discard(server)


class Interrupted:
    """A synchronous client on which Ctrl-C comes at a chosen call: before it is sent, or when it has been executed."""

    def __init__(self, client: Any) -> None:
        self.client = client
        #: For each of the next calls: None, "before", "after"; or "down" for a server that is out of reach.
        self.plan: list[str | None] = []

    def execute_command(self, *words: Any, **options: Any) -> Any:
        comes = self.plan[0] if self.plan else None
        if comes in {"before", "down"}:
            del self.plan[0]
            raise KeyboardInterrupt if comes == "before" else ConnectionError("the server is out of reach")
        # A script that the server does not have makes an error here, and the call comes again.
        reply = self.client.execute_command(*words, **options)
        del self.plan[:1]
        if comes == "after":
            raise KeyboardInterrupt
        return reply


def fails(call: Callable[..., Any], *args: Any, **options: Any) -> Exception:
    """Has a call fail that the proxy disturbs, with an error of whatever library the client is from."""
    with pytest.raises(Exception) as raised:
        call(*args, **options)
    assert is_of_the_network(raised.value)
    return raised.value


def is_of_the_network(error: Exception) -> bool:
    return any(kind.__name__ in {"ConnectionError", "TimeoutError"} for kind in type(error).__mro__)


def options_to_repeat(times: int, library: str, *, awaited: bool) -> dict[str, Any]:
    """Of a client that repeats what failed so often, after some milliseconds, as redis-py does by default."""
    retry = importlib.import_module(f"{library}.asyncio.retry" if awaited else f"{library}.retry")
    pause = importlib.import_module(f"{library}.backoff").FullJitterBackoff(cap=0.05, base=0.002)
    exceptions = importlib.import_module(f"{library}.exceptions")
    errors = [exceptions.ConnectionError, exceptions.TimeoutError] if times else []
    return {"retry": retry.Retry(pause, times), "retry_on_error": errors}


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def messages(connection: socket.socket) -> Iterator[bytes]:
    """What arrives, command by command, or reply by reply."""
    buffer = b""
    while True:
        end = end_of_message(buffer)
        while end is None:
            arrived = connection.recv(1 << 16)
            if not arrived:
                return
            buffer += arrived
            end = end_of_message(buffer)
        yield buffer[:end]
        buffer = buffer[end:]


def end_of_message(buffer: bytes, start: int = 0) -> int | None:
    """Where the message ends that begins at ``start``, in RESP2 or RESP3; None when more is to come."""
    line_end = buffer.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, line, end = buffer[start : start + 1], buffer[start + 1 : line_end], line_end + 2
    if kind in b"$=!":
        end += int(line) + 2 if int(line) >= 0 else 0
        return end if end <= len(buffer) else None
    if kind in b"*~>%":
        for _ in range(int(line) * (2 if kind == b"%" else 1)):
            found = end_of_message(buffer, end)
            if found is None:
                return None
            end = found
    return end


def sent_by(client: socket.socket) -> Iterator[Sent]:
    """What a client sends, each transaction in one piece."""
    content, replies = b"", 0
    for command in messages(client):
        content, replies = content + command, replies + 1
        if verb(content) != b"MULTI" or verb(command) in {b"EXEC", b"DISCARD"}:
            yield Sent(content, replies)
            content, replies = b"", 0


def verb(command: bytes) -> bytes:
    return words(command)[0].upper()


def words(command: bytes) -> list[bytes]:
    """The first words of a command, which is an array of strings; none of them holds an end of line."""
    return command.split(b"\r\n", 5)[2::2]


@contextlib.contextmanager
def proxied(
    server: Server, face_type: Any, client: str, repeats: int, chance: Chance | None = None
) -> Iterator[tuple[Any, Proxy]]:
    """A face on a client that repeats what failed so often, and the proxy between it and the server."""
    with Proxy(server, repeats, chance) as proxy, contextlib.closing(face_type(proxy, client)) as face:
        yield face, proxy
