"""A process tells the server things in an order in which nothing can be lost, and again until they arrive."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.test import get_crawler

from proxy import Chance, Fault, Proxy
from redset.core.keys import Keys
from redset.scrapy.frontier import PAUSE, End, Frontier
from redset.scrapy.options import Options
from redset.scrapy.requests import Entry
from servers import Server


def frontier_at(url: str) -> Frontier:
    return Frontier(Options.of(Settings({"REDSET_URL": url}), "frontier"), MemoryStatsCollector(get_crawler()))


@pytest.fixture
def frontier(server: Server) -> Any:
    server.empty()
    made = frontier_at(server.url)
    yield made
    made.client.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    server.empty()
    with Proxy(server, repeats=0) as proxy:
        yield proxy


def entry(frontier: Frontier, number: int) -> Entry:
    key = f"a {number}"
    return Entry(key, frontier.values.data_of(key, {"url": f"http://a/{number}"}), number, "a")


def test_a_page_is_acked_after_its_links_are_stored(frontier: Frontier) -> None:
    frontier.add(entry(frontier, 0))
    assert frontier.flush()
    (page,), _ = frontier.claim(1)
    frontier.set.limit(maxsize=1)
    for number in range(1, 4):
        frontier.add(entry(frontier, number))
    frontier.end(page, End("ack"))
    # The links have no room, so they are kept, and so is the page's lease.
    assert not frontier.flush()
    assert not frontier.is_clean
    assert frontier.set.stats().leased == 1
    frontier.set.limit(maxsize=None)
    time.sleep(PAUSE)
    assert frontier.flush()
    stats = frontier.set.stats()
    assert (stats.waiting, stats.leased, stats.done) == (3, 0, 1)


def test_a_crawl_is_not_over_when_the_leases_of_a_killed_process_have_just_expired(frontier: Frontier) -> None:
    frontier.add(entry(frontier, 0))
    (page,), _ = frontier.claim(1)
    frontier.client.zadd(Keys(frontier.set.name).leased, {page.item["id"]: 1.0}, xx=True)
    assert not frontier.is_over()
    (page,), _ = frontier.claim(1)
    frontier.end(page, End("ack"))
    assert frontier.flush()
    assert frontier.is_over()


FAULTS = [fault for fault in Fault if fault is not Fault.NONE]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("then", ["claims", "flushes"])
def test_acks_that_travel_with_a_claim_arrive_once(proxy: Proxy, fault: Fault, then: str) -> None:
    frontier = frontier_at(proxy.url)
    for number in range(4):
        frontier.add(entry(frontier, number))
    pages, _ = frontier.claim(2)
    for page in pages:
        frontier.end(page, End("ack"))
    proxy.plan(fault)
    assert frontier.claim(2) == ([], False)
    assert not frontier.is_clean
    time.sleep(PAUSE)

    if then == "flushes":
        assert frontier.flush()
        proxy.deliver()
    others, _ = frontier.claim(3)
    proxy.deliver()

    assert [page.item["url"] for page in others] == ["http://a/2", "http://a/3"]
    stats = frontier.set.stats()
    assert (stats.done, stats.leased, stats.waiting) == (2, 2, 0)
    assert frontier.flush()
    assert frontier._stats.get_value("scheduler/lost/redset") is None
    frontier.client.close()


@pytest.mark.parametrize("seed", range(4))
def test_among_many_faults_each_page_is_claimed_and_acked_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("redset.scrapy.frontier.PAUSE", 0.01)
    frontier = frontier_at(proxy.url)
    frontier.begin()
    proxy.leave_to(Chance(seed, one_in=3))
    claimed = []
    for number in range(60):
        frontier.add(entry(frontier, number))
        pages, _ = frontier.claim(3)
        for page in pages:
            claimed.append(page.item["url"])
            frontier.end(page, End("ack"))
        if number % 7 == 0:
            frontier.flush()
        time.sleep(0.01)
    proxy.leave_to(None)
    while not frontier.is_clean or frontier.set:
        pages, _ = frontier.claim(10)
        for page in pages:
            claimed.append(page.item["url"])
            frontier.end(page, End("ack"))
    proxy.deliver()

    assert sorted(claimed) == sorted(f"http://a/{number}" for number in range(60))
    assert (frontier.set.stats().done, frontier.set.stats().leased) == (60, 0)
    assert frontier._stats.get_value("scheduler/lost/redset") is None
    frontier.client.close()


def test_a_waiting_request_keeps_what_it_was_first(frontier: Frontier) -> None:
    first = entry(frontier, 1)
    frontier.add(first)
    frontier.add(first._replace(data=frontier.values.data_of(first.key, {"url": "http://a/1", "priority": 2})))
    assert frontier.flush()
    (page,), _ = frontier.claim(2)
    assert "priority" not in page.item
    # The new data of a retry replaces it, and the request is claimed with them.
    changed = frontier.values.data_of(first.key, {"url": "http://a/1", "meta": {"proxy": "p"}})
    frontier.add(first._replace(data=changed, is_change=True))
    frontier.end(page, End("nack", "500"))
    assert frontier.flush()
    (page,), _ = frontier.claim(2)
    assert (page.item["meta"], page.attempt) == ({"proxy": "p"}, 2)
