"""On a cluster, the command line and its views are those of a single server: only the URL differs."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import redset
import redset.aio
import redset.web
from clients import close_awaited
from console import Console
from redset.connect import connect, connect_async
from servers import Cluster, Server, free_port
from visitors import Visitor

pytestmark = pytest.mark.usefixtures("sets")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    found = Cluster()
    yield found
    found.stop()


@pytest.fixture
def url(cluster: Cluster) -> str:
    cluster.empty()
    return cluster.url.replace("redis://", "redis+cluster://")


@pytest.fixture
def console(url: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Console:
    return Console(url, monkeypatch, capfdbinary)


@pytest.fixture
def sets(url: str, cluster: Cluster) -> None:
    """Sets on all nodes: three plain ones, and one over shards."""
    client = connect(url)
    names = ("a", "b", "c")
    assert len({cluster.owner(cluster.slot_of(name)) for name in names}) > 1
    for name in names:
        redset.SortedSet(client, name).update(["read", "write"])
    redset.SortedSet(client, "sharded", shards=4).update(map(str, range(40)))
    client.close()


def test_both_faces_connect_by_a_url(url: str) -> None:
    async def take() -> list[Any]:
        client = await connect_async(url)
        try:
            return await redset.aio.SortedSet(client, "a").take(5)
        finally:
            await close_awaited(client)

    assert asyncio.run(take()) == ["read", "write"]
    with connect(url, decode_responses=True) as client:
        assert redset.SortedSet(client, "b").take(5) == ["read", "write"]


def test_sets_are_shown(console: Console) -> None:
    rows = console("ls", "--json").rows
    assert {row["name"]: row["waiting"] for row in rows} == {"a": 2, "b": 2, "c": 2, "sharded": 40}
    assert [line.split()[0] for line in console("top", "--once").lines if "40" in line] == ["sharded"]
    assert console("find", "a", "read").lines[0].startswith("read\twaiting")
    assert b'redset_items{set="sharded",state="waiting"} 40.0' in console("metrics").out


def test_items_are_added_worked_off_and_moved(console: Console) -> None:
    assert console("add", "c", "sing", "read").lines == ["1"]
    assert sorted(console("work", "c", "-j", "2", "--", "echo").lines) == ["read", "sing", "write"]
    assert console("work", "sharded", "-j", "4", "--", "true").code == 0
    assert console("pop", "sharded").code == 1
    assert console("reshard", "b", "3").code == 0
    assert sorted(console("pop", "b", "-n", "5").lines) == ["read", "write"]
    assert console("new", "seen", "--ttl", "1d", stdin=b"x\ny\nx\n").lines == ["x", "y"]


def test_the_page_shows_them(url: str) -> None:
    with asyncio.Runner() as runner:
        client = runner.run(connect_async(url))
        visitor = Visitor(runner, redset.web.app(client))
        listed = visitor.get("/").text
        assert all(f"sets/{name}/" in listed for name in ("a", "b", "c", "sharded"))
        assert "sharded" in visitor.get("/sets/sharded/?show=shards").text
        visitor.confirm("/sets/a/discard?item=read")
        assert "write" in visitor.get("/sets/a/").text
        assert ">read<" not in visitor.get("/sets/a/").text
        runner.run(close_awaited(client))


def test_an_unreachable_cluster_says_what_to_do(console: Console) -> None:
    done = console("ls", "--url", "redis+cluster://localhost:1")
    assert (done.code, len(done.err.splitlines())) == (69, 1)
    assert "the server does not answer" in done.err
    assert "--url" in done.err


def test_a_single_server_that_is_named_as_a_cluster_is_told(console: Console) -> None:
    with Server(port=free_port()) as server:
        done = console("ls", "--url", f"redis+cluster://127.0.0.1:{server.port}")
    assert (done.code, done.err) == (
        69,
        "redset: this server is no cluster: name it by redis:// in place of redis+cluster://\n",
    )
