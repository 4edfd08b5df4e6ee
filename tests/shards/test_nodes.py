"""A set over the nodes of a cluster, while shards move from node to node, and while a node is away."""

import importlib
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
import redis

import redset
from faces import CLIENTS, Blocking, Face
from redset.core.clients import is_failure
from redset.core.drivers import Driver
from redset.core.keys import REGISTRY
from redset.core.shards.layout import Layout
from servers import PATIENCE, Cluster, wait_until

pytestmark = pytest.mark.no_cover

# In asyncio redis-py closes all its connections with every fifth MOVED, those that other tasks use as well.
CLIENTS["patching"] = ("redis", {"reinitialize_steps": 0})

S = 6
LAYOUT = Layout("jobs", 0, S, "sorted", digest=False)
NAMES = LAYOUT.names


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(cluster_require_full_coverage="no")
    yield made
    made.stop()


@pytest.fixture
def face(cluster: Cluster, face_type: Any) -> Iterator[Face]:
    made: Face = face_type(cluster, "redis" if face_type is Blocking else "patching")
    yield made
    made.close()


def test_each_node_has_its_part(face: Face, cluster: Cluster) -> None:
    jobs = face.SortedSet("jobs", shards=S)
    jobs.update([f"{number:03}" for number in range(300)])
    assert [cluster.owner(cluster.slot_of(name)) for name in NAMES] == [0, 0, 1, 1, 2, 2]
    for node in cluster.nodes:
        client = node.client()
        assert sum(client.zcard(name) for name in NAMES if cluster.nodes[cluster.owner(cluster.slot_of(name))] is node)
        client.close()


def test_a_request_to_all_nodes_that_breaks_off_leaves_no_reply_unread(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another thread closes a connection while its reply is read."""
    client = cluster.client("valkey")
    jobs = redset.SortedSet[str](client, "jobs", shards=S)
    assert jobs.stats().waiting == 0
    batches = importlib.import_module("valkey.cluster").NodeCommands
    write, connections = batches.write, list[Any]()

    def write_and_break_the_first(batch: Any) -> None:
        write(batch)
        if not connections:
            monkeypatch.setattr(batch.connection._parser, "_buffer", None)
        connections.append(batch.connection)

    monkeypatch.setattr(batches, "write", write_and_break_the_first)
    driver = jobs._shards.all[0].driver  # type: ignore[union-attr]
    replies = driver._send_together([("EXISTS", name.encode()) for name in NAMES])
    assert len(connections) == 3
    assert [type(reply) for reply in replies] == [AttributeError] * S, "nobody knows what was sent"
    assert all(connection._sock is None for connection in connections[1:])
    client.close()


def test_shards_that_move_lose_nothing(face: Face, cluster: Cluster) -> None:
    jobs = face.SortedSet("jobs", shards=S)
    items = [f"{number:04}" for number in range(1500)]
    jobs.update(items, score=int)
    over, popped, acked = threading.Event(), list[str](), list[str]()

    def pop() -> None:
        while not over.is_set():
            popped.extend(jobs.take(2))

    def consume() -> None:
        for reservation in face.SortedSet("jobs", shards=S).consume(stop=over):
            acked.append(reservation.item)
            reservation.ack()

    threads = [threading.Thread(target=target) for target in (pop, consume)]
    for thread in threads:
        thread.start()
    for name in NAMES[:3]:
        slot = cluster.slot_of(name)
        cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3)
    wait_until(lambda: len(popped) + len(acked) >= len(items) or not all(thread.is_alive() for thread in threads))
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(popped + acked) == items
    assert jobs.stats().leased == 0


def test_a_dead_node_is_asked_seldom(cluster: Cluster) -> None:
    """A pop that asks it takes as long as the client tries, and all others as long as before."""
    with redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, socket_timeout=1) as client:
        jobs = redset.SortedSet[str](client, "jobs", shards=S)
        jobs.update([f"{number:04}" for number in range(1500)], score=int)
        jobs.pop()
        cluster.nodes[1].kill()
        # One of its shards fails, and both rest.
        wait_until(lambda: pops(jobs) and sum(shard.failures > 0 for shard in shards_of(jobs)) == 2)
        before = failures_of(jobs)
        for _ in range(200):
            assert pops(jobs)
        # They rest for a second at first, and then for longer.
        assert sum(failures_of(jobs)) - sum(before) < 20


def pops(jobs: Any) -> bool:
    """Pop an item, whichever shards fail."""
    try:
        jobs.pop()
    except redis.RedisError:
        return False
    return True


def shards_of(jobs: Any) -> list[Any]:
    found: list[Any] = jobs._shards.all
    return found


def failures_of(jobs: Any) -> list[int]:
    return [shard.failures for shard in shards_of(jobs) if shard.failures]


@pytest.fixture(params=["redis", "valkey"])
def impatient(request: pytest.FixtureRequest, cluster: Cluster, face_type: Any) -> Iterator[Face]:
    """A face of a cluster whose nodes have half a second to answer."""
    CLIENTS["impatient"] = (request.param, {"socket_timeout": 0.5})
    made: Face = face_type(cluster, "impatient")
    yield made
    made.close()


def worked(call: Any, seconds: float) -> int:
    """Call for some seconds, and return how often."""
    calls, ends_at = 0, time.monotonic() + seconds
    while time.monotonic() < ends_at:
        call()
        calls += 1
    return calls


# The first node is the one that clients ask for the commands by default.
@pytest.mark.parametrize("stopped", [0, 2])
@pytest.mark.parametrize("call", ["pop", "take"])
def test_a_node_that_does_not_answer_stops_its_shards_only(
    impatient: Face, cluster: Cluster, stopped: int, call: str
) -> None:
    jobs = impatient.SortedSet("jobs", shards=S)
    jobs.update([f"{number:06}" for number in range(40_000)], score=int)
    claim = jobs.pop if call == "pop" else lambda: jobs.take(5)
    worked(claim, 0.2)
    cluster.nodes[stopped].pause()
    try:
        # The first call takes half a second, or twice that. The shards rest for twenty times as long. Calls that all
        # waited for the node would be eight.
        assert worked(claim, 4) > 20
    finally:
        cluster.nodes[stopped].resume()
    assert {shard.failures for shard in shards_of(jobs)} == {0, 1}


def test_a_waiter_looks_no_more_often_while_a_node_does_not_answer(impatient: Face, cluster: Cluster) -> None:
    jobs = impatient.SortedSet("jobs", shards=S)
    jobs.add("a")
    assert jobs.pop() == "a"
    with cluster.nodes[0].client() as client, ThreadPoolExecutor() as pool:
        before = client.info("commandstats")
        waiting = pool.submit(jobs.pop, wait=5)
        wait_until(lambda: all(shard.looks for shard in shards_of(jobs)))
        cluster.nodes[2].pause()
        try:
            error = waiting.exception()
        finally:
            cluster.nodes[2].resume()
        after = client.info("commandstats")
    # The caller does not know whether a node that rests is empty.
    assert type(error).__name__ == "TimeoutError"
    # Where each pause ends at once, these are a thousand, and each leaves a connection for a while.
    looks = after["cmdstat_exists"]["calls"] - before.get("cmdstat_exists", {"calls": 0})["calls"]
    assert looks < 150


def items_beside_the_last_node(count: int) -> list[str]:
    found = (f"{number:04}" for number in range(1000))
    return [item for item in found if LAYOUT.shard_of(item.encode()) < S - 2][:count]


def test_a_loop_over_several_sets_goes_on_while_a_node_is_away(face: Face, cluster: Cluster) -> None:
    jobs, others = face.SortedSet("jobs", shards=S), face.SortedSet("others", shards=S)
    items = items_beside_the_last_node(5)
    jobs.update(items)
    assert others.take(1) == []
    cluster.nodes[2].kill()
    # An empty set before one with items: whether its shards of that node are empty does not matter yet.
    loop = face.several("first_of", others, jobs).consume(wait=10)
    assert sorted(next(loop).item for _ in items) == items


def test_a_loop_goes_on_whose_claim_a_node_has_not_answered(
    face: Face, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = face.SortedSet("jobs", shards=S)
    first, second = items_beside_the_last_node(2)
    jobs.add(first)
    loop = jobs.consume(wait=10)
    next(loop).ack()
    cluster.nodes[2].kill()
    for shard in shards_of(jobs):
        # As far as this process knows, only the shards of that node have items.
        shard.heads[False] = math.inf if shard.number < S - 2 else -math.inf
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(next, loop)
        wait_until(lambda: "the server is away" in caplog.text)
        jobs.add(second)
        assert waiting.result().item == second


# In asyncio valkey-py closes no connection of the nodes that it replaces when it reads the slots again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["commands end", "a rest ends"])
def test_a_waiter_hears_a_node_again(impatient: Face, cluster: Cluster, what: str) -> None:
    """At once, and not at its next look."""
    jobs = impatient.SortedSet("jobs", shards=S, poll=2 * PATIENCE)
    items = [str(number) for number in range(50)]
    jobs.update(items)
    assert len(jobs.take(len(items))) == len(items)
    node = cluster.nodes[2]
    item = next(item for item in items if jobs._shards.of(item.encode()).node == f"127.0.0.1:{node.port}")
    with node.client() as client, ThreadPoolExecutor() as pool:

        def blocked() -> int:
            return int(client.info("clients")["blocked_clients"])

        if what == "a rest ends":
            for shard in shards_of(jobs):
                if shard.node == f"127.0.0.1:{node.port}":
                    shard.rest.failures, shard.rest.until = 1, time.monotonic() + 2
        waiting = pool.submit(jobs.pop, wait=2 * PATIENCE)
        wait_until(lambda: blocked() == 2)
        if what == "commands end":
            for row in client.client_list():
                if row["cmd"].startswith("blpop"):
                    client.client_kill_filter(_id=row["id"])
            wait_until(lambda: blocked() == 2)
        jobs.add(item)
        assert waiting.result(timeout=PATIENCE) == item


def test_a_lost_claim_is_paid_by_a_waiter_that_the_shards_know(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.client() as client, ThreadPoolExecutor() as pool:
        jobs = redset.SortedSet[str](client, "jobs", shards=16, poll=2)
        jobs.add("a")
        assert jobs.pop() == "a"
        carry_out, lost = Driver._carry_out, list[Any]()

        def lose_the_first_claim(driver: Any, request: Any) -> Any:
            reply = carry_out(driver, request)
            if not lost and "b'late'" in repr(reply):
                lost.append(reply)
                raise redis.ConnectionError("the reply is lost")
            return reply

        waiting = pool.submit(jobs.reserve, lease=PATIENCE, wait=2 * PATIENCE)
        wait_until(lambda: all(shard.looks for shard in shards_of(jobs)))
        monkeypatch.setattr(Driver, "_carry_out", lose_the_first_claim)
        with cluster.client() as other:
            redset.SortedSet[str](other, "jobs", shards=16).add("late")
        # The shard looks again after sixteen times two seconds.
        assert waiting.result(timeout=15).item == "late"
        assert lost


def test_a_layout_record_is_restored_while_the_registry_is_away(impatient: Face, cluster: Cluster) -> None:
    """Else other programs would make a set without shards."""
    there = cluster.owner(cluster.slot_of(REGISTRY[0].decode()))

    def owners(name: str) -> set[int]:
        keys = [name, *Layout(name, 0, 2, "sorted", digest=False).names]
        return {cluster.owner(cluster.slot_of(key)) for key in keys}

    name, other = islice((name for name in map(str, range(1000)) if there not in owners(name)), 2)
    jobs = impatient.SortedSet(name, shards=2)
    jobs.add("a")
    impatient.forget_set(name)
    cluster.nodes[there].pause()
    try:
        impatient.SortedSet(other).add("a")
        jobs.add("b")
        assert len(impatient.SortedSet(name, shards="stored")) == len(jobs)
    finally:
        cluster.nodes[there].resume()


def test_other_options_are_registered_once_the_registry_is_back(impatient: Face, cluster: Cluster) -> None:
    there = cluster.owner(cluster.slot_of(REGISTRY[0].decode()))
    name = next(name for name in map(str, range(100)) if cluster.owner(cluster.slot_of(name)) != there)
    impatient.SortedSet(name).update(["a", "b"])
    jobs = impatient.SortedSet(name, max_attempts=7)
    cluster.nodes[there].pause()
    try:
        jobs.pop()
    finally:
        cluster.nodes[there].resume()

    def attempts() -> Any:
        jobs.take(1)
        return {info.name: info.options["max_attempts"] for info in impatient.list_sets()}.get(name)

    jobs.add("c")
    wait_until(lambda: attempts() == 7)


def test_a_registry_that_does_not_answer_delays_one_call(impatient: Face, cluster: Cluster) -> None:
    """It is at one node, and with a client's own retries each call on a set that is not registered would wait long."""
    there = cluster.owner(cluster.slot_of(REGISTRY[0].decode()))
    names = [name for name in map(str, range(100)) if cluster.owner(cluster.slot_of(name)) != there]
    impatient.SortedSet(names[0]).add("a")
    cluster.nodes[there].pause()
    try:
        added, ends_at = 0, time.monotonic() + 3
        for name in names[1:]:
            if time.monotonic() < ends_at:
                impatient.SortedSet(name).add("a")
                added += 1
    finally:
        cluster.nodes[there].resume()
    assert added > 20

    def is_registered() -> bool:
        impatient.SortedSet(names[1]).add("a")
        return names[1] in [info.name for info in impatient.list_sets()]

    wait_until(is_registered)


def test_a_node_that_answers_again_is_claimed_from(cluster: Cluster) -> None:
    with redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, socket_timeout=0.1) as client:
        jobs = redset.SortedSet[str](client, "jobs", shards=S)
        jobs.update([f"{number:06}" for number in range(300)], score=int)
        jobs.pop()
        cluster.nodes[1].pause()
        try:
            wait_until(lambda: jobs.pop() and any(shard.failures for shard in shards_of(jobs)))
            popped = 0
            with pytest.raises(redis.RedisError):
                # The others are empty in the end, and this one may not be.
                while jobs.pop():
                    popped += 1
            assert 0 < popped < 250
        finally:
            cluster.nodes[1].resume()
        # Its shards rest, but nothing else is left.
        assert jobs.pop()
        assert not any(shard.failures for shard in shards_of(jobs))


@pytest.fixture(params=["redis", "valkey"])
def breaking(request: pytest.FixtureRequest, cluster: Cluster, face_type: Any) -> Iterator[tuple[Face, list[Any]]]:
    """A face of a cluster, and a list: with each element one connection is closed while it is read from."""
    CLIENTS["breaking"] = (request.param, {})
    face, closing = face_type(cluster, "breaking"), list[Any]()
    awaited = face_type is not Blocking
    kind = importlib.import_module(f"{request.param}{'.asyncio' if awaited else ''}.connection").AbstractConnection
    read = kind.read_response

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        if not closing:
            return read(self, *args, **options)
        closing.pop()
        self.disconnect()
        parser, self._parser = self._parser, None
        try:
            return read(self, *args, **options)
        finally:
            self._parser = parser

    async def read_response_awaited(self: Any, *args: Any, **options: Any) -> Any:
        if not closing:
            return await read(self, *args, **options)
        closing.pop()
        await self.disconnect(nowait=True)
        parser, self._parser = self._parser, None
        try:
            return await read(self, *args, **options)
        finally:
            self._parser = parser

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "read_response", read_response_awaited if awaited else read_response)
        yield face, closing
    face.close()


def test_a_connection_that_the_client_closes_is_a_failure(breaking: tuple[Face, list[Any]]) -> None:
    """After a failure cluster clients close those that others use, which meet an AttributeError."""
    face, closing = breaking
    jobs = face.SortedSet("jobs", shards=S)
    items = [f"{number:03}" for number in range(60)]
    jobs.update(items)
    closing.append(1)
    # A claim goes on with another shard, and a later one rolls it back.
    got = [jobs.pop()]
    closing.append(1)
    got += jobs.take(10)
    for reservation in jobs.consume(lease=5, wait=1):
        if len(got) % 10 == 0:
            closing.append(1)
        got.append(reservation.item)
        # The client's connection may be closed as well while it acks.
        if not closing:
            reservation.ack()
    assert sorted(set(got)) == items


def test_a_dead_node_stops_its_shards_only(face: Face, cluster: Cluster) -> None:
    jobs = face.SortedSet("jobs", shards=S)
    items = [f"{number:04}" for number in range(600)]
    jobs.update(items, score=int)
    jobs.take(10)
    cluster.nodes[1].stop()
    popped, ends_at = list[str](), time.monotonic() + PATIENCE
    while len(popped) < 40 and time.monotonic() < ends_at:
        try:
            popped.append(jobs.pop())
        except Exception as error:
            # As long as three shards in a row fail.
            if not is_failure(error):
                raise
    assert len(popped) == 40
    assert len(set(popped)) == len(popped)
    assert {NAMES[Layout("jobs", 0, S, "sorted", digest=False).shard_of(item.encode())] for item in popped} == {
        *NAMES[:2],
        *NAMES[4:],
    }
