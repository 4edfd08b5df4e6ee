"""Replies that are lost, and connections that break: no item of a set over shards is lost or claimed twice."""

import random
from typing import Any

import pytest

import redset
from faces import Face
from proxy import Fault, Proxy, is_of_the_network

FAULTS = [Fault.NONE, Fault.NONE, Fault.LOST_COMMAND, Fault.LOST_REPLY]


@pytest.fixture
def jobs(frank: Face, raw: Any) -> Any:
    redset.SortedSet(raw, "jobs", shards=3).update([f"{number:03}" for number in range(60)], score=int)
    jobs = frank.SortedSet("jobs", shards=3)
    # It knows the layout, and its shards are registered.
    jobs.add("060", 60)
    return jobs


def without_rest(jobs: Any) -> None:
    for shard in getattr(jobs, "_original", jobs)._shards.all:
        shard.rest.until = 0.0


@pytest.mark.parametrize("seed", range(3))
def test_each_item_is_claimed_once(jobs: Any, frank_proxy: Proxy, raw: Any, seed: int) -> None:
    chance, claimed = random.Random(seed), list[str]()
    for _ in range(40):
        frank_proxy.plan(chance.choice(FAULTS))
        try:
            claimed += jobs.take(2) if chance.random() < 0.3 else [jobs.pop()]
        except Exception as error:
            if not is_of_the_network(error):
                raise
    for _ in range(12):
        # Claims whose outcome is unknown are rolled back by the next claims from their shards.
        without_rest(jobs)
        claimed += jobs.take(1)
    claimed += jobs.take(100)
    assert sorted(claimed) == [f"{number:03}" for number in range(61)]


@pytest.mark.parametrize("fault", [Fault.LOST_COMMAND, Fault.LOST_REPLY])
def test_an_ack_that_is_repeated_is_one(jobs: Any, frank_proxy: Proxy, fault: Fault) -> None:
    held = jobs.reserve()
    frank_proxy.plan(fault)
    with pytest.raises(Exception, match=r".+"):
        held.ack()
    held.ack()
    assert jobs.totals().acked == 1


def test_a_consumer_outlives_them(jobs: Any, frank_proxy: Proxy) -> None:
    loop, chance, items = jobs.consume(wait=0.5), random.Random(1), list[str]()
    for held in loop:
        items.append(held.item)
        frank_proxy.plan(chance.choice(FAULTS))
    assert sorted(set(items)) == [f"{number:03}" for number in range(61)]
    assert loop.lost == 0
    assert len(items) == 61


@pytest.mark.parametrize("fault", [Fault.LOST_COMMAND, Fault.LOST_REPLY])
@pytest.mark.parametrize("position", range(6))
def test_no_ack_is_lost_whatever_fails_behind_it(
    frank: Face, frank_proxy: Proxy, raw: Any, fault: Fault, position: int
) -> None:
    """Most acks of the last items travel with a claim from a shard that is empty, and other shards are asked then."""
    for number in range(4):
        redset.SortedSet(raw, f"jobs {number}", shards=3).update("abc")
        jobs = frank.SortedSet(f"jobs {number}", shards=3)
        items = list[str]()
        loop = jobs.consume(stop=lambda items=items: len(items) == 3 and not frank_proxy.is_planned)
        for held in loop:
            items.append(held.item)
            frank_proxy.plan(*position * [Fault.NONE], *3 * [fault])
        assert loop.lost == 0
        assert jobs.totals().acked == 3


@pytest.mark.parametrize("fault", [Fault.LOST_COMMAND, Fault.LOST_REPLY])
def test_acks_that_are_repeated_after_some_arrived_are_not_lost(jobs: Any, frank_proxy: Proxy, fault: Fault) -> None:
    held = jobs.reserve_many(30)
    # The first shard answers.
    frank_proxy.plan(Fault.NONE, fault)
    with pytest.raises(Exception, match=r".+"):
        jobs.ack(held)
    assert not frank_proxy.is_planned
    assert jobs.ack(held) == []
    assert not any(one.lost for one in held)
    assert jobs.totals().acked == 30


@pytest.mark.parametrize("faults", [[Fault.LOST_REPLY], [Fault.LOST_COMMAND], [Fault.NONE, *40 * [Fault.LOST_COMMAND]]])
def test_a_loop_that_is_left_knows_which_acks_arrived(jobs: Any, frank_proxy: Proxy, faults: list[Fault]) -> None:
    loop = jobs.consume(wait=0)
    held = next(loop)
    # The ack goes before the claim.
    frank_proxy.plan(*faults)
    with pytest.raises(Exception, match=r".+"):
        # An ack for the shard that is claimed from next travels with the claim.
        while True:
            next(loop)
    frank_proxy.forget()
    loop.close()
    assert (loop.lost, bool(held.lost)) == (0, False)
    assert jobs.totals().acked >= 1
    assert jobs.stats().leased == 0
