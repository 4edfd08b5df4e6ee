"""The number of round trips of calls on a set over shards, counted between the client and a single server."""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from conftest import CLIENT
from faces import Face
from servers import Place, Server, client_module

S = 16


class Relay:
    """Passes bytes between clients and a server, and counts round trips: messages that follow a reply."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.round_trips = 0
        self._is_over = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def client(self, library: str = "redis", *, awaited: bool = False, **options: Any) -> Any:
        return client_module(library, awaited=awaited).from_url(self.url, **options)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(self._server.socket_path)
            thread = threading.Thread(target=self._relay, args=(here, there), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _relay(self, here: socket.socket, there: socket.socket) -> None:
        replied = True
        with here, there, selectors.DefaultSelector() as selector:
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for one, other in ((here, there), (there, here)):
                selector.register(one, selectors.EVENT_READ, other)
            while not self._is_over:
                for key, _ in selector.select(0.1):
                    data = key.fileobj.recv(1 << 20)  # type: ignore[union-attr] # it is a socket
                    if not data:
                        return
                    if key.fileobj is here and replied:
                        self.round_trips += 1
                    replied = key.fileobj is there
                    key.data.sendall(data)

    def close(self) -> None:
        self._is_over = True
        # It accepts no other one.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def relay(server_itself: Server) -> Iterator[Relay]:
    with closing(Relay(server_itself)) as relay:
        yield relay


@pytest.fixture(params=["own", "client"])
def jobs(relay: Relay, face_type: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A set that has 16 shards with items, over both kinds of connections."""
    place: Place = relay  # type: ignore[assignment] # as much of one as a face needs
    with closing(face_type(place, CLIENT)) as face:
        jobs = made(face, request.param)
        jobs.update([f"{number:04}" for number in range(400)], score=int)
        # The scripts are known to the server, the shards registered, the connections open.
        for number in range(2):
            looks(jobs)
            jobs.take(100 - number)
            jobs.index("0300")
        yield jobs


def made(face: Face, connections: str) -> Any:
    return face.SortedSet("jobs", shards=S, connections=connections)


def looks(jobs: Any) -> None:
    len(jobs), jobs.stats(), jobs.totals(), jobs.count(min=0, max=10), jobs.contains_many(["a", "b"])


def counted(relay: Relay, call: Callable[[], Any]) -> int:
    before = relay.round_trips
    call()
    return relay.round_trips - before


CALLS: dict[str, Callable[[Any], Any]] = {
    "len": len,
    "stats": lambda jobs: jobs.stats(),
    "totals": lambda jobs: jobs.totals(),
    "count": lambda jobs: jobs.count(min=100, max=350),
    "contains_many": lambda jobs: jobs.contains_many([f"{number:04}" for number in range(0, 400, 3)]),
    "scores": lambda jobs: jobs.scores([f"{number:04}" for number in range(0, 400, 3)]),
    "update": lambda jobs: jobs.update([f"{number:04}" for number in range(400, 450)]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_on_all_shards_is_one(jobs: Any, relay: Relay, call: str) -> None:
    assert counted(relay, lambda: CALLS[call](jobs)) == 1


def test_an_index_is_a_look_at_the_item_and_at_all_shards(jobs: Any, relay: Relay) -> None:
    # Its score; then how many come before it, and among those of its score by a search.
    assert counted(relay, lambda: jobs.index("0350")) <= 3


def test_a_pop_is_one_and_a_take_is_two(jobs: Any, relay: Relay) -> None:
    assert counted(relay, jobs.pop) == 1
    # Two, and a third one where a shard has more of the lowest items than expected.
    assert counted(relay, lambda: jobs.take(100)) <= 3


def test_a_pop_from_an_empty_set_looks_at_all_shards_in_one(jobs: Any, relay: Relay) -> None:
    jobs.clear()
    with pytest.raises(KeyError):
        jobs.pop()

    def pop() -> None:
        with pytest.raises(KeyError):
            jobs.pop()

    # The claim from the shard that was chosen, and one look at the others.
    assert counted(relay, pop) <= 3


def test_the_acks_of_a_loop_travel_together(jobs: Any, relay: Relay) -> None:
    loop = jobs.consume(batch=5)
    next(loop)

    def consume() -> None:
        for _ in range(50):
            next(loop)

    # Ten claims, and at most as many calls with acks.
    assert counted(relay, consume) <= 20
    loop.close()
