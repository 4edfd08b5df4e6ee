"""A process tells the server things in an order in which nothing can be lost, and again until they arrive."""

import time
from typing import Any

import pytest
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.test import get_crawler

from redset.scrapy.frontier import PAUSE, End, Frontier
from redset.scrapy.options import Options
from redset.scrapy.requests import Entry
from servers import Server


@pytest.fixture
def frontier(server: Server) -> Any:
    server.empty()
    crawler = get_crawler()
    made = Frontier(Options.of(Settings({"REDSET_URL": server.url}), "frontier"), MemoryStatsCollector(crawler))
    yield made
    made.client.close()


def entry(frontier: Frontier, number: int) -> Entry:
    key = f"a {number}"
    return Entry(key, frontier.values.data_of(key, {"url": f"http://a/{number}"}), number, "a")


def test_a_page_is_acked_after_its_links_are_stored(frontier: Frontier) -> None:
    frontier.add(entry(frontier, 0))
    assert frontier.flush()
    (page,) = frontier.claim(1)
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


def test_a_waiting_request_keeps_what_it_was_first(frontier: Frontier) -> None:
    first = entry(frontier, 1)
    frontier.add(first)
    frontier.add(first._replace(data=frontier.values.data_of(first.key, {"url": "http://a/1", "priority": 2})))
    assert frontier.flush()
    (page,) = frontier.claim(2)
    assert "priority" not in page.item
    # The new data of a retry replaces it, and the request is claimed with them.
    changed = frontier.values.data_of(first.key, {"url": "http://a/1", "meta": {"proxy": "p"}})
    frontier.add(first._replace(data=changed, is_change=True))
    frontier.end(page, End("nack", "500"))
    assert frontier.flush()
    (page,) = frontier.claim(2)
    assert (page.item["meta"], page.attempt) == ({"proxy": "p"}, 2)
