"""Compares crawls with redset's scheduler and with that of scrapy-redis while spider processes are killed.

Usage: python peers/crawls.py [--pages N] [--every SECONDS] [--runs N] [redset | scrapy-redis ...]

Four spider processes crawl a local site, of which each page takes 50 ms and links to ten others. One process is killed
by SIGKILL every few seconds, and another started in its place, until most pages were parsed. scrapy-redis runs with
SCHEDULER_PERSIST, since otherwise each process that ends deletes the queue. When all processes have ended, or nothing
was parsed for 30 seconds, one more process is started if pages are missing, as somebody would who sees that.

- lost: pages that were never parsed, and that nothing is left to fetch
- left: requests on the server that no process takes
- parsed twice: pages whose callback has ended more than once. The start page is not counted
- asked twice: pages that were requested more than once
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from sources import version_of_redset  # noqa: E402

from crawled_site import Answer, Site, Visit, tree  # noqa: E402
from crawls import Crawl, Spider, crawling  # noqa: E402
from servers import Server  # noqa: E402

COLUMNS = "{:<14} {:>7} {:>7} {:>6} {:>6} {:>13} {:>12} {:>9} {:>8}"


def settings(kind: str, url: str) -> dict[str, Any]:
    common = {"CONCURRENT_REQUESTS": 16, "CONCURRENT_REQUESTS_PER_DOMAIN": 16, "LOG_LEVEL": "WARNING"}
    if kind == "redset":
        return {**common, "REDSET_LEASE": 5.0, "REDSET_MAX_ATTEMPTS": 10}
    return {
        **common,
        "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
        "SCHEDULER_PERSIST": True,
        "REDIS_URL": url,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["redset", "scrapy-redis"])
    parser.add_argument("--pages", type=int, default=1500)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills (%(default)s)")
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    print(f"redset {version_of_redset()}, {options.pages} pages, a kill every {options.every:g} s")
    print(COLUMNS.format("", "kills", "parsed", "lost", "left", "parsed twice", "asked twice", "seconds", "helped"))
    for _ in range(options.runs):
        for kind in options.kinds:
            run(kind, options)


def run(kind: str, options: argparse.Namespace) -> None:
    pages = tree(options.pages)

    def answer(visit: Visit, times: int) -> Answer:
        return pages(visit, times)._replace(after=0.05)

    server = Server("valkey-9.1", appendonly="no")
    with tempfile.TemporaryDirectory() as folder, Site(answer) as site:
        try:
            with crawling(server.url, Path(folder), **settings(kind, server.url)) as crawl:
                began = time.monotonic()
                kills, helped = go_on(crawl, site, options)
                seconds = time.monotonic() - began
                parsed = crawl.parsed(site)
                asked = Counter(visit.path for visit in site.log)
                del parsed["/0"], asked["/0"]
                print(
                    COLUMNS.format(
                        kind,
                        kills,
                        len(parsed),
                        options.pages - 1 - len(parsed),
                        left(kind, crawl),
                        sum(times > 1 for times in parsed.values()),
                        sum(times > 1 for times in asked.values()),
                        f"{seconds:.0f}",
                        "yes" if helped else "no",
                    ),
                    flush=True,
                )
        finally:
            server.stop()


def go_on(crawl: Crawl, site: Site, options: argparse.Namespace) -> tuple[int, bool]:
    """Kill processes until most pages were parsed, and wait for the end. Return the kills, and whether help came."""
    url = site.url("/0")
    running = [crawl.start("Follower", url) for _ in range(4)]
    kills, next_kill = 0, time.monotonic() + options.every + 2
    while len(crawl.parsed(site)) < 0.7 * options.pages and any(spider.is_running() for spider in running):
        if time.monotonic() > next_kill:
            victim = random.choice([spider for spider in running if spider.is_running()])
            victim.kill()
            running[running.index(victim)] = crawl.start("Follower", url)
            kills, next_kill = kills + 1, time.monotonic() + options.every
        time.sleep(0.1)
    wait(crawl, running)
    if len(crawl.parsed(site)) == options.pages:
        return kills, False
    wait(crawl, [crawl.start("Follower", url)])
    return kills, True


def wait(crawl: Crawl, spiders: list[Spider]) -> None:
    """Wait until spiders have ended, or nothing was parsed for half a minute."""
    count, since = -1, time.monotonic()
    while any(spider.is_running() for spider in spiders) and time.monotonic() < since + 30:
        if len(crawl.noted()) != count:
            count, since = len(crawl.noted()), time.monotonic()
        time.sleep(0.1)
    for spider in spiders:
        with contextlib.suppress(ProcessLookupError):
            spider.kill()


def left(kind: str, crawl: Crawl) -> int:
    if kind == "redset":
        stats = crawl.set().stats()
        return int(stats.unfinished + stats.dead)
    return int(crawl.client.zcard("follower:requests"))


if __name__ == "__main__":
    main()
