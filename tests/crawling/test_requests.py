"""What a request may have, and how it may end: each is handled as by Scrapy's own scheduler, by any process."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from crawled_site import Answer, Site, Visit
from crawls import Crawl, Spider, crawling
from servers import Server

pytestmark = pytest.mark.no_cover

Crawled: TypeAlias = tuple[Site, Crawl, list[Spider]]

BROKEN = ("/broken", "/broken-handled", "/never")


def answer(visit: Visit, times: int) -> Answer:
    path = visit.path
    if path.startswith("/missing") and not path.endswith("-instead"):
        return Answer(404)
    if path in BROKEN or (path == "/flaky" and times < 3):
        return Answer(500)
    if path == "/moved":
        return Answer(302, headers=(("Location", "/target"),))
    return Answer(body=f"{visit.method} {visit.body} {visit.cookie}")


@pytest.fixture(scope="module", params=["asyncio", pytest.param("select", marks=pytest.mark.soak)])
def crawled(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crawled]:
    """A crawl by two processes, with each reactor."""
    server.empty()
    more: dict[str, Any] = {}
    if request.param == "select":
        more["TWISTED_REACTOR"] = "twisted.internet.selectreactor.SelectReactor"
    with (
        Site(answer) as site,
        crawling(
            server.url,
            tmp_path_factory.mktemp("crawl"),
            ITEM_PIPELINES={"crawl_spiders.Pipeline": 1},
            DOWNLOADER_MIDDLEWARES={"crawl_spiders.Refusing": 1},
            **more,
        ) as crawl,
    ):
        spiders = crawl.start_together(2, "Everything", site.url())
        for spider in spiders:
            spider.process.wait(120)
        yield site, crawl, spiders


def test_each_is_parsed_once(crawled: Crawled) -> None:
    site, crawl, _ = crawled
    parsed = crawl.parsed(site)
    once = (
        *("/", "/kwargs", "/cookie", "/once", "/flaky", "/target", "/async", "/coroutine", "/lambda"),
        *("/child-of-async", "/child-of-coroutine", "/missing-handled-instead", "/child-of-failing"),
    )
    assert {path: parsed[path] for path in once} == dict.fromkeys(once, 1)
    assert parsed["/twice"] == parsed["/post"] == 2
    assert set(parsed) == {*once, "/twice", "/post", "/pipeline-error"}


def test_its_parts_arrive(crawled: Crawled) -> None:
    site, crawl, _ = crawled
    by_path = {line["url"].partition(f":{site.port}")[2]: line for line in crawl.noted()}
    assert by_path["/kwargs"]["right"]
    assert by_path["/cookie"]["text"] == "GET  session=s1"
    assert {" ".join(line["text"].split()[:2]) for line in crawl.noted() if line["url"].endswith("/post")} == {
        "POST a=1",
        "POST a=2",
    }


def test_failures_are_tried_again_and_then_dead_letters_with_their_reason(crawled: Crawled) -> None:
    site, crawl, _ = crawled
    dead = crawl.dead(site)
    assert {path: reason for path, reason in dead.items() if "lambda" not in path} == {
        "/missing": "404 Not Found",
        "/broken": "500 Internal Server Error",
        "/never": "500 Internal Server Error",
        "/pipeline-error": "in an item pipeline: OSError: disk full",
        "/callback-error": "ValueError: no such thing",
    }
    asked = {path: len(site.visits(path)) for path in ("/missing", "/broken", "/broken-handled", "/flaky", "/never")}
    assert asked == {"/missing": 1, "/broken": 3, "/broken-handled": 3, "/flaky": 3, "/never": 1}
    assert len(site.visits("/callback-error")) == len(site.visits("/pipeline-error")) == 3


def test_an_errback_is_called_once_after_the_last_attempt(crawled: Crawled) -> None:
    site, crawl, _ = crawled
    handled = sorted(line["url"].partition(f":{site.port}")[2] for line in crawl.noted("handled"))
    assert handled == ["/broken", "/broken-handled", "/missing-handled"]


def test_a_request_that_cannot_be_stored_is_tried_again_with_the_page_that_yields_it(crawled: Crawled) -> None:
    site, crawl, _ = crawled
    assert len(site.visits("/lambda-broken")) == len(site.visits("/parent-of-lambda")) == 3
    assert crawl.dead(site)["/parent-of-lambda"].endswith("/lambda-broken>: ZeroDivisionError: division by zero")


def test_nothing_stays_leased(crawled: Crawled) -> None:
    site, crawl, spiders = crawled
    assert crawl.is_over()
    assert not site.visits("/ignored")
    assert sum(crawl.stats(spider).get("scheduler/ignored/redset", 0) for spider in spiders) == 1
    for spider in spiders:
        assert crawl.stats(spider)["reason"] == "finished"
        assert spider.process.returncode == 0
