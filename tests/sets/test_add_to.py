"""``add_to``: an addition in a pipeline or transaction of the user's own."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conftest import CLIENT
from faces import Batch
from proxy import Fault, Proxy, fails
from redset import SortedSet
from servers import PATIENCE, Cluster, Server

pytestmark = pytest.mark.skipif(CLIENT == "thirty-lines", reason="it has no pipelines")

conformance = pytest.mark.conformance


@pytest.fixture
def batch(face: Any, here: Any) -> Batch:
    return Batch(face) if isinstance(here, Cluster) else Batch(face, transaction=True)


@conformance
def test_an_item_is_added_when_the_pipeline_is_executed(face: Any, batch: Batch, kind: str) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add_to(batch.pipeline, "a", 5), jobs.add_to(batch.pipeline, "b", score=3)
    assert len(jobs) == 0

    assert len(batch.execute()) == 2
    assert list(jobs.with_scores()) == [("b", 3.0), ("a", 5.0)]


@conformance
@pytest.mark.parametrize(
    "options",
    [{"remember": 60}, {"remember": 60, "digest": True}, {"key": len, "serializer": json}, {"duplicates": "keep"}],
    ids=str,
)
def test_an_addition_obeys_the_options_of_the_set(face: Any, batch: Batch, options: dict[str, Any]) -> None:
    jobs = face.SortedSet("jobs", **options)
    jobs.add("done", 1), jobs.pop(), jobs.add("known", 2)
    for item in "done", "known":
        jobs.add_to(batch.pipeline, item, 7)
    batch.execute()

    assert (jobs.score("known"), "done" in jobs) == (
        {"keep": 2}.get(options.get("duplicates", ""), 7),
        "remember" not in options,
    )


@conformance
def test_an_addition_obeys_flags(face: Any, batch: Batch) -> None:
    jobs = face.ScheduledSet("jobs", remember=60)
    jobs.add("done", 1), jobs.pop(), jobs.add("known", 2)
    jobs.add_to(batch.pipeline, "known", 7, nx=True)
    jobs.add_to(batch.pipeline, "unknown", 7, xx=True)
    jobs.add_to(batch.pipeline, "done", 7, force=True)
    jobs.add_to(batch.pipeline, "later", delay=100)
    batch.execute()

    assert jobs.scores(["known", "unknown", "done"]) == [2, None, 7]
    assert abs(jobs.score("later") - time.time() - 100) < 10


@conformance
def test_other_kinds_of_set_add_in_their_own_way(face: Any, batch: Batch) -> None:
    feeds, seen = face.PeriodicSet("feeds", 100), face.ExpiringSet("seen", 100)
    feeds.add("known", first=3)
    feeds.add_to(batch.pipeline, "a", interval=7, first=5), feeds.add_to(batch.pipeline, "known", interval=7, first=5)
    seen.add_to(batch.pipeline, "x", ttl=50)
    batch.execute()

    assert [(feeds.interval(item), feeds.next_due(item)) for item in ("a", "known")] == [(7, 5), (100, 3)]
    assert 40 < seen.ttl("x") <= 50


@conformance
def test_the_server_need_not_know_the_script(face: Any, raw: Any, batch: Batch) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add_to(batch.pipeline, "a")
    raw.script_flush()
    batch.execute()

    assert jobs.pop() == "a"


@conformance
def test_it_wakes_who_waits(face: Any, batch: Batch) -> None:
    jobs = face.SortedSet("jobs", poll=30)
    with ThreadPoolExecutor() as threads, face.another() as other:
        waiting = threads.submit(other.SortedSet("jobs", poll=30).pop, wait=PATIENCE)
        time.sleep(0.3)
        began = time.monotonic()
        jobs.add_to(batch.pipeline, "a")
        batch.execute()
        assert waiting.result() == "a"
        assert time.monotonic() - began < 20


def test_a_transaction_that_arrives_late_arrives_whole(frank: Any, frank_proxy: Proxy) -> None:
    jobs, batch = frank.SortedSet("jobs"), Batch(frank, transaction=True)
    jobs.add_to(batch.pipeline, "a"), jobs.add_to(batch.pipeline, "b")
    frank_proxy.plan(Fault.LATE)
    fails(batch.execute)
    assert len(jobs) == 0

    assert frank_proxy.deliver() == 1
    assert list(jobs) == ["a", "b"]


def test_a_transaction_is_as_a_whole_or_not_at_all(face: Any, here: Any, raw: Any) -> None:
    jobs, batch = face.SortedSet("jobs"), Batch(face, transaction=True)
    batch.watch("balance")
    with pytest.raises(ValueError, match=r"pipeline watches keys .* call its multi\(\) first"):
        jobs.add_to(batch.pipeline, "a")
    batch.pipeline.multi()
    jobs.add_to(batch.pipeline, "a")
    raw.set("balance", 5)
    with pytest.raises(Exception, match="Watched variable changed"):
        batch.execute()
    assert len(jobs) == 0

    batch.watch("balance")
    batch.pipeline.multi()
    jobs.add_to(batch.pipeline, "a"), batch.pipeline.set("balance", 6)
    batch.execute()
    assert (list(jobs), raw.get("balance")) == (["a"], b"6")


def test_no_call_record_is_kept(face: Any, raw: Any, batch: Batch) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add_to(batch.pipeline, "a"), batch.execute()

    assert set(raw.keys()) == {b"jobs", b"{jobs}:meta"}


def test_an_error_puts_nothing_into_the_pipeline(face: Any, batch: Batch) -> None:
    jobs = face.SortedSet("jobs")
    for item, score in (None, 1), ("a", "high"):
        with pytest.raises(TypeError):
            jobs.add_to(batch.pipeline, item, score)
    assert batch.execute() == []


@pytest.mark.parametrize("wrong", [None, "pipeline", 5, [], object()], ids=["None", "text", "number", "list", "object"])
def test_what_is_no_pipeline_is_refused(face: Any, raw: Any, wrong: Any) -> None:
    for made, rest in (face.SortedSet("jobs"), ()), (face.PeriodicSet("f", 5), ()), (face.ExpiringSet("s", 5), ()):
        with pytest.raises(TypeError, match=r"pipeline must be the pipeline\(\) of"):
            made.add_to(wrong, "a", *rest)
    with pytest.raises(TypeError, match=r"pipeline must be the pipeline\(\) of"):
        face.SortedSet("jobs").add_to(face.client, "a")
    assert raw.dbsize() == 0


def test_a_pipeline_of_the_other_face_is_refused(here: Any) -> None:
    import redset.aio

    async def wrong() -> None:
        client = here.client(awaited=True)
        with pytest.raises(TypeError, match="of an asyncio client"):
            await redset.aio.SortedSet(client, "jobs").add_to(here.client().pipeline(), "a")
        with pytest.raises(TypeError, match="of a client that blocks"):
            SortedSet(here.client(), "jobs").add_to(client.pipeline(), "a")

    asyncio.run(wrong())


def test_a_pipeline_that_is_sent_twice_adds_twice(here: Any, raw: Any) -> None:
    """What the documentation says is given up."""
    assert isinstance(here, Server)
    jobs, taken = SortedSet(raw, "jobs"), []
    for _ in range(2):
        pipeline = raw.pipeline()
        jobs.add_to(pipeline, "a")
        pipeline.execute()
        taken.append(jobs.pop())
    assert taken == ["a", "a"]
