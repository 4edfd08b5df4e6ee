"""A set whose slot moves from one node of a cluster to another while it is in use: nothing is lost, nor given twice."""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from redis.exceptions import ClusterError

import redset
from faces import CLIENTS, Blocking, Face
from redset.core.scripts import Script
from servers import PATIENCE, Cluster, wait_until

pytestmark = pytest.mark.no_cover

# In asyncio redis-py closes all its connections with every fifth MOVED, those that other tasks use as well.
CLIENTS["patching"] = ("redis", {"reinitialize_steps": 0})

#: Seconds; longer than a client of its own tries to find a node that has all keys of a call.
LONGER_THAN_CLIENTS_TRY = 0.8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.stop()


@pytest.fixture
def face(cluster: Cluster, face_type: Any) -> Iterator[Face]:
    cluster.empty()
    made: Face = face_type(cluster, "redis" if face_type is Blocking else "patching")
    yield made
    made.close()


@pytest.fixture
def slot(cluster: Cluster) -> int:
    """Of a set that is called jobs."""
    client = cluster.client()
    found = int(client.keyslot("jobs"))
    client.close()
    return found


@pytest.fixture(params=["key by key", "at once"])
def move(request: pytest.FixtureRequest, cluster: Cluster, slot: int) -> Callable[[], None]:
    """Moves the slot to the next node, on which no script is known."""

    def moved() -> None:
        target = next_node(cluster, slot)
        cluster.nodes[target].asked("SCRIPT FLUSH")
        cluster.move_slot(slot, target, at_once=request.param == "at once")

    return moved


def next_node(cluster: Cluster, slot: int) -> int:
    return (cluster.owner(slot) + 1) % len(cluster.nodes)


@pytest.fixture
def in_background() -> Iterator[Callable[..., "Future[Any]"]]:
    with ThreadPoolExecutor(20) as pool:
        yield pool.submit


@pytest.mark.parametrize("moved_before", [0, 2, None], ids=["none", "some", "all"])
def test_a_call_waits_until_all_keys_are_on_one_node(
    face: Face, cluster: Cluster, slot: int, moved_before: int | None, in_background: Any
) -> None:
    """A cluster refuses it meanwhile (TRYAGAIN), also when it has all keys that there are, and clients give up soon."""
    jobs = face.SortedSet("jobs")
    jobs.update(["first", "second", "third"], score=1)
    lease = jobs.reserve(lease=60)
    source, target = cluster.owner(slot), next_node(cluster, slot)
    with cluster.moving(slot, target):
        cluster.move_keys(slot, source, target, at_most=moved_before)
        calls = [
            in_background(call)
            for call in (jobs.pop, lease.ack, functools.partial(jobs.add, "fourth", score=9), jobs.stats)
        ]
        done, _ = wait(calls, timeout=LONGER_THAN_CLIENTS_TRY)
        assert not done, [call.exception() for call in done]

    popped, *_ = (call.result(PATIENCE) for call in calls)

    assert popped == "second"
    assert list(jobs) == ["third", "fourth"]
    assert jobs.stats().leased == 0


def test_what_was_leased_before_a_move_is_acked_after_it(face: Face, move: Callable[[], None]) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(["one", "other"], score=1)
    one, other = jobs.reserve(lease=60), jobs.reserve(lease=60)
    move()

    one.ack()
    other.nack(delay=0)

    assert jobs.reserve().attempt == 2
    assert jobs.stats().leased == 1


def test_tokens_grow_across_moves(face: Face, move: Callable[[], None]) -> None:
    jobs = face.SortedSet("jobs")
    tokens = []
    for _ in range(3):
        jobs.add("item", score=1)
        lease = jobs.reserve()
        tokens.append(lease.token)
        lease.ack()
        move()

    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("name", ["pop", "reserve"])
def test_a_call_that_is_repeated_after_a_move_gets_its_reply_again(
    cluster: Cluster, move: Callable[[], None], name: str
) -> None:
    """The record of a call moves along with the set."""
    cluster.empty()
    client = cluster.client()
    last, execute = list[Any](), client.execute_command

    def execute_and_note(*command: Any, **options: Any) -> Any:
        last[:] = command
        return execute(*command, **options)

    client.execute_command = execute_and_note
    jobs = redset.SortedSet(client, "jobs")
    jobs.update(["first", "second"], score=1)
    getattr(jobs, name)()
    _, _, *arguments = last
    move()

    reply = execute("EVAL", Script("claim").body, *arguments)

    assert reply[0] == b"first"
    assert list(jobs) == ["second"]
    client.close()


WAYS: dict[str, Callable[[Any], Any]] = {
    "pop": lambda jobs: jobs.pop(wait=PATIENCE),
    "reserve": lambda jobs: jobs.reserve(wait=PATIENCE).item,
    "consume": lambda jobs: next(jobs.consume(wait=PATIENCE)).item,
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_has_what_is_added_after_a_move(
    face: Face, move: Callable[[], None], way: str, in_background: Any, cluster: Cluster, slot: int
) -> None:
    jobs = face.SortedSet("jobs")
    waiting = in_background(WAYS[way], jobs)
    wait_until(lambda: has_waiters(cluster, slot))
    move()
    wait_until(lambda: has_waiters(cluster, slot))

    jobs.add("item", score=1)

    assert waiting.result(PATIENCE) == "item"


def test_who_cannot_listen_since_the_slot_moves_looks_again(
    face: Face, in_background: Any, cluster: Cluster, slot: int
) -> None:
    execute = face.client.execute_command

    def refuse_to_listen(*command: Any, **options: Any) -> Any:
        if command[0] == "BLPOP":
            raise ClusterError("TTL exhausted.")
        return execute(*command, **options)

    face.client.execute_command = refuse_to_listen
    jobs = face.SortedSet("jobs")
    waiting = in_background(lambda: jobs.pop(wait=PATIENCE))
    wait_until(lambda: has_waiters(cluster, slot))

    jobs.add("item", score=1)

    assert waiting.result(PATIENCE) == "item"


def has_waiters(cluster: Cluster, slot: int) -> bool:
    """Whether the node that has the slot knows of somebody who waits."""
    return cluster.nodes[cluster.owner(slot)].asked("EXISTS {jobs}:looks") == ":1"


def test_a_set_in_use_loses_nothing_and_gives_nothing_twice(
    face: Face, move: Callable[[], None], in_background: Any
) -> None:
    over = threading.Event()
    added: list[list[str]] = [[], []]
    got: list[list[str]] = [[], []]

    def produce(number: int) -> None:
        with face.another() as own:
            jobs = own.SortedSet("jobs")
            while not over.is_set():
                item = f"{number}-{len(added[number])}"
                jobs.add(item, score=1)
                added[number].append(item)

    def pop() -> None:
        with face.another() as own:
            jobs = own.SortedSet("jobs")
            while not over.is_set() or len(jobs):
                got[0] += jobs.take(1, wait=0.05)

    def consume() -> None:
        with face.another() as own:
            for lease in own.SortedSet("jobs").consume(lease=60, wait=PATIENCE, stop=over.is_set):
                got[1].append(lease.item)

    tasks = [in_background(produce, 0), in_background(produce, 1), in_background(pop), in_background(consume)]
    started = time.monotonic()
    while time.monotonic() - started < 2 or not all((*added, *got)):
        move()
        assert time.monotonic() - started < PATIENCE
    over.set()
    for task in tasks:
        task.result(PATIENCE)

    assert Counter(got[0] + got[1]) == Counter(added[0] + added[1])
    assert face.SortedSet("jobs").stats().leased == 0
