"""Spider processes share a crawl: they may be killed, stopped and started again, and the server may go away."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import redset
from crawled_site import Answer, Site, Visit, linked
from crawls import Crawl, crawling, until
from servers import Server

pytestmark = pytest.mark.no_cover

LINKS = linked([f"/{number}" for number in range(40)])


def slowly(seconds: float = 0.05) -> Callable[[Visit, int], Answer]:
    """Return the answers of a site with one level of links, whose pages take a while."""

    def answer(visit: Visit, _: int) -> Answer:
        return Answer(body=LINKS) if visit.path == "/" else Answer(after=seconds)

    return answer


@pytest.fixture
def url(server: Server) -> str:
    server.empty()
    return server.url


@pytest.mark.soak
def test_a_killed_process_loses_nothing(url: str, tmp_path: Path) -> None:
    def answer(visit: Visit, times: int) -> Answer:
        if visit.path == "/":
            return Answer(body=LINKS)
        # The first requests of a few pages hang, until their process is killed.
        return Answer(after=60 if times == 1 and visit.path in ("/3", "/4", "/5") else 0.01)

    with Site(answer) as site, crawling(url, tmp_path, REDSET_LEASE=8) as crawl:
        first = crawl.start("Follower", site.url())
        until(lambda: crawl.set().stats().done == 38)
        first.kill()
        crawl.start("Follower", site.url()).wait()
        assert crawl.parsed(site) == Counter(dict.fromkeys(["/", *(f"/{number}" for number in range(40))], 1))
        asked = Counter(visit.path for visit in site.log)
        assert {path for path, times in asked.items() if times > 1} == {"/3", "/4", "/5"}
        assert crawl.is_over()


@pytest.mark.soak
def test_links_are_stored_before_their_page_is_acked(url: str, tmp_path: Path) -> None:
    """A process that is killed in the middle of a callback has the page processed again, with all links."""

    with Site(slowly(0)) as site, crawling(url, tmp_path, REDSET_LEASE=4, CONCURRENT_REQUESTS=1) as crawl:
        first = crawl.start("HalfWay", site.url())
        until(lambda: crawl.noted("half"))
        first.kill()
        crawl.start("HalfWay", site.url()).wait()
        assert set(crawl.parsed(site)) == {"/", *(f"/{number}" for number in range(40))}


@pytest.mark.soak
def test_one_interrupt_gives_back_what_was_not_begun(url: str, tmp_path: Path) -> None:
    with Site(slowly(0.1)) as site, crawling(url, tmp_path, CONCURRENT_REQUESTS=4) as crawl:
        first = crawl.start("Follower", site.url())
        until(lambda: len(crawl.noted()) > 5)
        first.interrupt()
        first.wait()
        assert crawl.stats(first)["reason"] == "shutdown"
        stats = crawl.set().stats()
        assert stats.leased == stats.delayed == 0
        assert stats.waiting > 10
        # None has an attempt that it did not have.
        crawl.start("Follower", site.url()).wait()
        assert set(Counter(visit.path for visit in site.log).values()) == {1}
        assert set(crawl.parsed(site).values()) == {1}


def test_the_server_may_be_restarted(tmp_path: Path) -> None:
    server = Server("valkey-9.1", appendonly="yes", appendfsync="always")
    try:
        with Site(slowly(0.1)) as site, crawling(server.url, tmp_path, REDSET_LEASE=30) as crawl:
            spiders = crawl.start_together(2, "Follower", site.url(), CONCURRENT_REQUESTS=4)
            until(lambda: len(crawl.noted()) > 5)
            server.stop()
            until(lambda: any("The server of the crawl does not answer" in spider.text() for spider in spiders))
            time.sleep(0.5)
            server.restart()
            for spider in spiders:
                spider.wait()
            assert crawl.parsed(site) == Counter(dict.fromkeys(["/", *(f"/{number}" for number in range(40))], 1))
            assert {visit.path: len(site.visits(visit.path)) for visit in site.log} == crawl.parsed(site)
            assert sum(crawl.stats(spider).get("scheduler/outages/redset", 0) for spider in spiders) >= 1
    finally:
        server.stop()


@pytest.mark.soak
def test_leases_are_extended_while_a_page_takes_long(url: str, tmp_path: Path) -> None:
    with Site(slowly(7)) as site, crawling(url, tmp_path, REDSET_LEASE=3) as crawl:
        spiders = crawl.start_together(2, "Follower", site.url(), CONCURRENT_REQUESTS_PER_DOMAIN=50)
        for spider in spiders:
            spider.wait()
            assert "scheduler/lost/redset" not in crawl.stats(spider)
        assert set(Counter(visit.path for visit in site.log).values()) == {1}


@pytest.mark.soak
def test_start_requests_are_fetched_once_a_crawl_and_again_in_the_next(url: str, tmp_path: Path) -> None:
    with Site(slowly(0.2)) as site, crawling(url, tmp_path, CONCURRENT_REQUESTS_PER_DOMAIN=4) as crawl:
        for run in (1, 2):
            for spider in crawl.start_together(2, "Follower", site.url()):
                spider.wait()
            assert len(site.visits("/")) == run
        # All other pages are remembered across crawls.
        assert crawl.parsed(site) == Counter({"/": 2, **{f"/{number}": 1 for number in range(40)}})


@pytest.mark.soak
def test_a_dead_start_request_is_retried_by_the_next_run(url: str, tmp_path: Path) -> None:
    with Site(lambda visit, times: Answer(500 if times <= 3 else 200)) as site, crawling(url, tmp_path) as crawl:
        crawl.start("Follower", site.url()).wait()
        assert crawl.dead(site) == {"/": "500 Internal Server Error"}
        crawl.start("Follower", site.url()).wait()
        assert crawl.parsed(site) == Counter({"/": 1})
        assert not crawl.dead(site)


@pytest.mark.soak
def test_limits_of_a_host_hold_across_processes(url: str, tmp_path: Path) -> None:
    # A process has room for two, so three at once are of both.
    limits = {"CONCURRENT_REQUESTS": 2, "CONCURRENT_REQUESTS_PER_DOMAIN": 3}
    with Site(slowly(0.4)) as site, crawling(url, tmp_path, **limits) as crawl:
        for spider in crawl.start_together(2, "Follower", site.url()):
            spider.wait()
        assert len({line["pid"] for line in crawl.noted()}) == 2
        assert busiest(site) == 3


@pytest.mark.soak
def test_the_delay_of_a_host_holds_across_processes(url: str, tmp_path: Path) -> None:
    with Site(slowly(0)) as site, crawling(url, tmp_path, DOWNLOAD_DELAY=0.2) as crawl:
        for spider in crawl.start_together(2, "Follower", site.url()):
            spider.wait()
        began = sorted(visit.began for visit in site.log)
        gaps = sorted(later - earlier for earlier, later in pairwise(began))
        # Between claims it is exact; a request begins some milliseconds after its claim.
        assert gaps[len(gaps) // 10] > 0.15
        assert began[-1] - began[0] >= 0.2 * 40 - 0.1


def test_a_host_rests_after_a_retry_after(url: str, tmp_path: Path) -> None:
    def answer(visit: Visit, times: int) -> Answer:
        if visit.path == "/20" and times == 1:
            return Answer(429, headers=(("Retry-After", "2"),))
        return slowly(0.05)(visit, times)

    with Site(answer) as site, crawling(url, tmp_path, CONCURRENT_REQUESTS_PER_DOMAIN=2) as crawl:
        for spider in crawl.start_together(2, "Follower", site.url()):
            spider.wait()
        asked = site.visits("/20")[0].ended
        # One that was under way may begin; from then on, none for two seconds.
        resting = [visit for visit in site.log if asked + 0.5 < visit.began < asked + 1.9]
        assert not resting
        assert [visit.status for visit in site.visits("/20")] == [429, 200]
        assert set(crawl.parsed(site).values()) == {1}
        assert not crawl.dead(site)


@pytest.mark.soak
def test_priorities_decide(url: str, tmp_path: Path) -> None:
    body = linked(["/1", "/2", "/urgent", "/3"])
    with Site(lambda visit, _: Answer(body=body if visit.path == "/" else "")) as site:
        with crawling(url, tmp_path, CONCURRENT_REQUESTS=1) as crawl:
            crawl.start("Follower", site.url()).wait()
        assert [visit.path for visit in site.log] == ["/", "/urgent", "/1", "/2", "/3"]


@pytest.mark.soak
def test_the_signal_spider_idle_is_sent_while_others_work(url: str, tmp_path: Path) -> None:
    with Site(slowly(1)) as site, crawling(url, tmp_path) as crawl:
        crawl.set().add({"id": "127.0.0.1 leased by another"})
        (other,) = crawl.set().reserve_many(1, lease=60)
        spider = crawl.start("Idle", site.url("/0"))
        until(lambda: crawl.noted("idle"))
        time.sleep(0.5)  # It goes on waiting.
        assert spider.is_running()
        other.ack()
        spider.wait(30)
        # The engine asks every five seconds, as it does with any scheduler, and not every time that this one looks.
        assert len(crawl.noted("idle")) <= 10


class TestStartSet:
    @pytest.fixture
    def crawl(self, url: str, tmp_path: Path) -> Iterator[Crawl]:
        with crawling(url, tmp_path, REDSET_START_SET="starts", REDSET_START_SET_IDLE=2.0) as crawl:
            yield crawl

    def test_its_items_become_requests(self, crawl: Crawl) -> None:
        with Site(slowly(0)) as site:
            spider = crawl.start("Fed", site.url())
            starts = redset.SortedSet(crawl.client, "starts")
            starts.update(["1", "2", "nonsense"])
            until(lambda: len(crawl.noted()) == 2)
            # A foreign program, and an item that is there for the second time.
            crawl.client.zadd("starts", {"3": 0, "1": 0})
            until(lambda: len(crawl.noted()) == 4)
            spider.wait()
            assert crawl.parsed(site) == Counter({"/1": 2, "/2": 1, "/3": 1})
            assert starts.stats().leased == starts.stats().waiting == 0
            assert [(letter.item, letter.reason) for letter in starts.dead_letters] == [
                ("nonsense", "ValueError: no address")
            ]
            assert crawl.is_over()

    @pytest.mark.soak
    def test_one_that_a_killed_process_has_is_claimed_again(self, crawl: Crawl) -> None:
        starts = redset.SortedSet(crawl.client, "starts")
        starts.add("1")
        starts.reserve(lease=1)
        with Site(slowly(0)) as site:
            crawl.start("Fed", site.url()).wait()
            assert crawl.parsed(site) == Counter({"/1": 1})


@pytest.mark.soak
def test_a_wrong_url_is_an_error_at_the_start(tmp_path: Path) -> None:
    with crawling("redis://127.0.0.1:1", tmp_path) as crawl:
        spider = crawl.start("Follower", "http://127.0.0.1:1/")
        spider.process.wait(120)
        assert "Connection" in spider.text()
        assert not crawl.noted()


@pytest.mark.soak
def test_a_request_that_the_spider_does_not_know_becomes_a_dead_letter(url: str, tmp_path: Path) -> None:
    with Site(slowly(0)) as site, crawling(url, tmp_path) as crawl:
        crawl.set().update(
            [
                {"id": "a 1", "url": "http://a/", "callback": "gone"},
                {"id": "a 2", "url": "http://a/", "_class": "subprocess.Popen"},
            ]
        )
        crawl.start("Follower", site.url("/0")).process.wait(120)
        reasons = {letter.identity: letter.reason for letter in crawl.set().dead_letters}
        assert "gone" in reasons[b"a 1"]
        assert "no class of requests" in reasons[b"a 2"]
        assert crawl.parsed(site) == Counter({"/0": 1})


def busiest(site: Site) -> int:
    """Return the number of requests that were answered at one time."""
    moments = sorted([(visit.began, 1) for visit in site.log] + [(visit.ended, -1) for visit in site.log])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
