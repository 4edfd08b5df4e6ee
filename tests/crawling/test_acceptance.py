"""A crawl of 3,000 pages by four processes, of which one is killed every few seconds, and one restart of the server.

The site has duplicates, redirects, pages that fail once or always, slow ones, and hosts that ask for a rest. What
must hold is read from its access log and from what the callbacks have noted.
"""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from crawled_site import Answer, Site, Visit, linked
from crawls import Crawl, Spider, crawling
from servers import Server

pytestmark = [pytest.mark.soak, pytest.mark.no_cover, pytest.mark.timeout(420)]

PAGES = 3000
HOSTS = 6
LEASE = 3.0
REST = 2
#: Leases of a host, and seconds between two requests to the host that has a delay.
LEASES, DELAY = 8, 0.05
SLOW_HOST = "127.0.0.6"


class Web:
    """The answers of the site. A page's kind follows from its number."""

    def __init__(self) -> None:
        self.port = 0
        #: When each host has asked for a rest, and whom.
        self.rests: list[tuple[str, float, str]] = []

    def host(self, number: int) -> str:
        # One page in a hundred is on the host that has a delay.
        return SLOW_HOST if number % 100 == 99 else f"127.0.0.{1 + number % (HOSTS - 1)}"

    def url(self, number: int) -> str:
        return f"http://{self.host(number)}:{self.port}/{self.kind(number)}/{number}"

    def kind(self, number: int) -> str:
        kinds = {7: "moved", 13: "flaky", 17: "slow", 23: "resting", 29: "broken", 31: "missing", 37: "callback-error"}
        return kinds.get(number % 100, "plain") if number else "plain"

    def answer(self, visit: Visit, times: int) -> Answer:
        kind, number = visit.path.strip("/").split("/")
        page = int(number)
        if kind == "moved":
            return Answer(302, headers=(("Location", f"/target/{number}"),))
        if kind == "broken" or (kind == "flaky" and times == 1):
            return Answer(500)
        if kind == "missing":
            return Answer(404)
        if kind == "resting" and times == 1 and page % 1000 == 23:
            self.rests.append((visit.host.partition(":")[0], time.time(), visit.agent))
            return Answer(429, headers=(("Retry-After", str(REST)),))
        # Each page links to its two children, and to others that have been linked to before.
        numbers = [2 * page + 1, 2 * page + 2, *((page * 7 + step * 13) % PAGES for step in range(6))]
        numbers = [one for one in numbers if 0 < one < PAGES]
        after = 0.5 if kind == "slow" else 0.0
        return Answer(body=linked([self.url(one) for one in numbers]), after=after)

    def wanted(self) -> set[str]:
        """The paths of the pages that are parsed."""
        kinds = ((self.kind(number), number) for number in range(PAGES))
        return {
            f"/{'target' if kind == 'moved' else kind}/{number}"
            for kind, number in kinds
            if kind not in ("broken", "missing", "callback-error")
        }

    def failing(self) -> dict[str, str]:
        reasons = {
            "broken": "500 Internal Server Error",
            "missing": "404 Not Found",
            "callback-error": "ValueError: no such thing",
        }
        kinds = ((self.kind(number), number) for number in range(PAGES))
        return {f"/{kind}/{number}": reasons[kind] for kind, number in kinds if kind in reasons}


class Killer:
    """Kills a process every few seconds, and starts another in its place."""

    def __init__(self, crawl: Crawl, url: str) -> None:
        self.crawl, self.url = crawl, url
        self.running: list[Spider] = [self.started() for _ in range(4)]
        self.killed: dict[int, float] = {}

    def started(self) -> Spider:
        return self.crawl.start("Follower", self.url, USER_AGENT=f"spider-{len(self.crawl.spiders)}")

    def kill_one(self) -> None:
        victim = random.choice([spider for spider in self.running if spider.is_running()])
        victim.kill()
        self.killed[self.crawl.spiders.index(victim)] = time.time()
        self.running.remove(victim)
        self.running.append(self.started())


def test_every_page_is_parsed_once_whatever_is_killed(tmp_path: Path) -> None:
    web = Web()
    server = Server("valkey-9.1", appendonly="yes", appendfsync="everysec")
    settings = {
        "REDSET_LEASE": LEASE,
        "REDSET_MAX_ATTEMPTS": 6,
        "REDSET_BACKOFF": 0.2,
        "CONCURRENT_REQUESTS_PER_DOMAIN": LEASES,
        "DOWNLOAD_SLOTS": {SLOW_HOST: {"concurrency": 2, "delay": DELAY}},
        "LOG_LEVEL": "WARNING",
    }
    try:
        with Site(web.answer) as site, crawling(server.url, tmp_path, **settings) as crawl:
            web.port = site.port
            killer = Killer(crawl, site.url("/plain/0"))
            goes_on(killer, crawl, server)
            for spider in killer.running:
                spider.wait(90)
            check(web, site, crawl, killer)
    finally:
        server.stop()


def goes_on(killer: Killer, crawl: Crawl, server: Server) -> None:
    """Kill processes until most of the crawl is done, and restart the server in the middle."""
    next_kill, has_restarted = time.monotonic() + 4, False
    deadline = time.monotonic() + 300
    while (done := len(crawl.noted())) < PAGES * 0.7:
        assert time.monotonic() < deadline, f"only {done} pages were parsed"
        assert any(spider.is_running() for spider in killer.running)
        if time.monotonic() > next_kill:
            killer.kill_one()
            next_kill = time.monotonic() + random.uniform(2, 4)
        if not has_restarted and done > PAGES * 0.4:
            server.stop()
            time.sleep(0.5)
            server.restart()
            has_restarted = True
        time.sleep(0.1)
    assert killer.killed


def check(web: Web, site: Site, crawl: Crawl, killer: Killer) -> None:
    parsed = crawl.parsed(site)
    print(f"{len(site.log)} requests, {len(crawl.noted())} pages, {len(killer.killed)} kills")
    # The start page has no other identity, so nothing links to it.
    assert set(parsed) == web.wanted()
    # A callback that has ended just before its process was killed, and was not acked, runs once more.
    pids = {crawl.spiders[index].pid for index in killer.killed}
    again = {path for path, times in parsed.items() if times > 1}
    first: dict[str, int] = {}
    for line in crawl.noted():
        first.setdefault(line["url"].partition(f":{site.port}")[2], line["pid"])
    assert {path for path in again if first[path] not in pids} == set()
    # Only what was under way in a killed process is requested again.
    agents = {f"spider-{index}" for index in killer.killed}
    asked = Counter(visit.path for visit in site.log)
    expected = {"broken": 6, "flaky": 2, "callback-error": 6}
    for path, times in asked.items():
        kind = path.split("/")[1]
        of_killed = sum(visit.agent in agents for visit in site.visits(path))
        most = expected.get(kind, 1) + (kind == "resting" and site.visits(path)[0].status == 429) + of_killed
        assert times <= most, (path, times)
    dead, failing = crawl.dead(site), web.failing()
    assert dead.keys() == failing.keys()
    for path, reason in dead.items():
        # The last attempt may have been that of a killed process.
        last = site.visits(path)[-1].agent
        assert reason == failing[path] or (reason == "its lease expired" and last in agents), path
    assert crawl.is_over()
    check_politeness(web, site, agents)


def check_politeness(web: Web, site: Site, agents: set[str]) -> None:
    hosts: dict[str, list[Visit]] = {}
    for visit in site.log:
        hosts.setdefault(visit.host.partition(":")[0], []).append(visit)
    for visits in hosts.values():
        # A killed process's requests may go on when its leases have expired.
        moments = sorted(
            moment
            for visit in visits
            if visit.agent not in agents
            for moment in ((visit.began, 1), (visit.ended or visit.began, -1))
        )
        now = most = 0
        for _, change in moments:
            now += change
            most = max(most, now)
        assert most <= LEASES
    began = sorted(visit.began for visit in hosts[SLOW_HOST])
    assert len(began) >= PAGES // 100
    assert began[-1] - began[0] >= DELAY * (len(began) - 1) * 0.9
    assert web.rests
    # A process that was killed may have told nobody.
    for host, asked in [(host, asked) for host, asked, agent in web.rests if agent not in agents]:
        assert not [visit for visit in hosts[host] if asked + 0.7 < visit.began < asked + REST - 0.1], host
