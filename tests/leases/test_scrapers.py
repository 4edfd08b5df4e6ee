"""Scrapers that add each other's links while pages are in work: each page is done exactly once, whoever is killed."""

import asyncio
import contextlib
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import redis
import redis.asyncio

import redset
import redset.aio
from redset import SortedSet
from redset.core.keys import Keys
from servers import Server, wait_until

pytestmark = pytest.mark.no_cover

PAGES = 60
#: Seconds; longer than any test takes, so that no lease runs out that is not made to.
LEASE = 600.0

#: What the scrapers note: each page that they fetched, and each that they acked. And how often one found nothing.
FETCHED, ACKED, IDLE = "fetched", "acked", "idle"

BY_NAME: dict[str, dict[str, Any]] = {
    "items": {"remember": 3600},
    "digests": {"remember": 3600, "digest": True},
    "keyed": {"remember": 3600, "key": lambda page: page.partition("#")[0]},
}

each_way = pytest.mark.parametrize("way", BY_NAME)

Start = Callable[[int], BaseProcess]


def links(page: str) -> list[str]:
    """A web in which most pages are linked to from several others, and all link home."""
    number = int(page.partition("#")[0][1:])
    return [f"/{linked % PAGES}#{number}" for linked in (0, 2 * number, 2 * number + 1, 3 * number + 1, number - 1)]


def link_of(page: str, way: str) -> str:
    """As it is added: where pages have a key, a link says by its fragment where it was found."""
    return page if way == "keyed" else page.partition("#")[0]


@pytest.fixture
def start(here: Any, kind: str, way: str) -> Iterator[Start]:
    """Starts a scraper in a process of its own: every other one on each face."""
    if not isinstance(here, Server):
        pytest.skip("the scrapers connect to a single server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    started: list[BaseProcess] = []

    def start_one(number: int) -> BaseProcess:
        scraper = context.Process(target=scrape, args=(here.url, kind, way, number), daemon=True)
        scraper.start()
        started.append(scraper)
        return scraper

    yield start_one
    for scraper in started:
        scraper.kill()
        scraper.join()


@pytest.fixture
def pages(raw: Any, kind: str, way: str) -> "SortedSet[str]":
    made: SortedSet[str] = getattr(redset, kind)(raw, "pages", **BY_NAME[way])
    made.add(link_of("/0#", way))
    return made


@each_way
def test_two_scrapers_fetch_every_page_exactly_once(pages: SortedSet[str], raw: Any, start: Start, way: str) -> None:
    scrapers = [start(0), start(1)]
    # The last ack comes before the note of it.
    wait_until(lambda: is_quiet(pages) and raw.llen(ACKED) >= raw.llen(FETCHED))
    for scraper in scrapers:
        scraper.kill()
        scraper.join()

    assert noted(raw, FETCHED) == noted(raw, ACKED) == Counter(f"/{number}" for number in range(PAGES))
    assert_all_done(pages, raw, way)


@pytest.mark.parametrize(("victim", "way"), [(0, "items"), (1, "keyed")], ids=["sync, items", "aio, keyed"])
def test_every_page_is_done_exactly_once_though_one_of_two_is_killed(
    pages: SortedSet[str], raw: Any, kind: str, start: Start, victim: int, way: str
) -> None:
    """What the killed one had in work is fetched again when its lease ends; nothing else is."""
    scrapers = [start(0), start(1)]
    fetched_by_then = random.Random(f"{kind} {way}").randrange(1, PAGES // 2)
    wait_until(lambda: raw.llen(FETCHED) >= fetched_by_then)
    scrapers[victim].kill()
    scrapers[victim].join()

    wait_until_the_other_is_idle(raw)
    in_work = {text(item).partition("#")[0] for item in raw.zrange(Keys("pages").leased, 0, -1)}
    assert len(in_work) <= 1, "the other one holds nothing, and the victim held one page at most"
    if in_work:
        raw.zadd(Keys("pages").leased, dict.fromkeys(in_work, 1.0))
    wait_until_the_other_is_idle(raw)

    fetched, acked = noted(raw, FETCHED), noted(raw, ACKED)
    assert set(fetched) == {f"/{number}" for number in range(PAGES)}
    assert {page for page, times in fetched.items() if times > 1} <= in_work
    assert set(acked.values()) == {1}
    assert len(fetched.keys() - acked.keys()) <= 1, "the victim may have been killed between its ack and its note of it"
    assert_all_done(pages, raw, way)


def assert_all_done(pages: SortedSet[str], raw: Any, way: str) -> None:
    keys = Keys("pages")
    assert all(pages.is_done(link_of(f"/{number}#", way)) for number in range(PAGES))
    assert pages.stats().done == PAGES
    assert not raw.exists(keys.waiting, keys.leased, keys.deliveries, keys.parked, keys.dead, keys.values)


def is_quiet(pages: SortedSet[str]) -> bool:
    """Whether nothing is left to be done: whoever holds nothing adds nothing."""
    stats = pages.stats()
    return stats.done > 0 and stats.waiting == stats.leased == 0


def wait_until_the_other_is_idle(raw: Any) -> None:
    """Until it has looked for a page since now and found nothing to be had: then it holds nothing, and adds nothing."""
    raw.delete(IDLE)
    wait_until(lambda: int(raw.get(IDLE) or 0) >= 2)


def noted(raw: Any, where: str) -> "Counter[str]":
    return Counter(text(page) for page in raw.lrange(where, 0, -1))


def text(stored: bytes) -> str:
    return stored.decode()


# In the processes


def scrape(url: str, kind: str, way: str, number: int) -> None:
    if number % 2:
        asyncio.run(scrape_awaited(url, kind, way))
    with redis.Redis.from_url(url) as client:
        pages = getattr(redset, kind)(client, "pages", **BY_NAME[way])
        while True:
            with contextlib.suppress(KeyError):
                reservation = pages.reserve(lease=LEASE, wait=0.05)
                page = reservation.item
                client.rpush(FETCHED, page.partition("#")[0])
                for link in links(page):
                    pages.add(link_of(link, way))
                reservation.ack()
                client.rpush(ACKED, page.partition("#")[0])
                continue
            client.incr(IDLE)


async def scrape_awaited(url: str, kind: str, way: str) -> None:
    """The same, with the links of a page added at once."""
    async with redis.asyncio.Redis.from_url(url) as client:
        pages = getattr(redset.aio, kind)(client, "pages", **BY_NAME[way])
        while True:
            with contextlib.suppress(KeyError):
                reservation = await pages.reserve(lease=LEASE, wait=0.05)
                page = reservation.item
                await client.rpush(FETCHED, page.partition("#")[0])
                await asyncio.gather(*(pages.add(link_of(link, way)) for link in links(page)))
                await reservation.ack()
                await client.rpush(ACKED, page.partition("#")[0])
                continue
            await client.incr(IDLE)
