"""Compares the pages per second of Scrapy with redset's scheduler with those with its own, which keeps all in memory.

Usage: python benchmarks/crawling.py [--pages N] [--hosts N] [options]

The site is local, in a process on the server's core, and has N pages with ten links each. Each round crawls it by one
spider process with each scheduler, in turns; with redset the server is empty. ``pages/s`` is the median of the rounds,
``ratio`` the median of the rounds' ratios. ``cpu ms`` is the processor time of the spider process for a page, which a
busy machine changes less; the server's time is not in it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import redis
from conditions import ROOT, Table, arguments, conditions, place, report

COLUMNS = {
    "": "<24",
    "pages/s": ">9",
    "cpu ms": ">8",
    "ratio": ">7",
    "cpu ratio": ">11",
    "lowest": ">8",
    "highest": ">8",
}
SPIDER = """
import json, sys, time
import scrapy
from scrapy.crawler import CrawlerProcess

class Spider(scrapy.Spider):
    name = "crawling"

    async def start(self):
        self.began = time.perf_counter()
        yield scrapy.Request(self.url, dont_filter=True)

    def parse(self, response):
        yield {"url": response.url}
        for link in response.css("a::attr(href)").getall():
            yield response.follow(link)

    def closed(self, reason):
        seconds = time.perf_counter() - self.began
        print(json.dumps([self.crawler.stats.get_value("response_received_count"), seconds, time.process_time()]))

process = CrawlerProcess({"LOG_LEVEL": "ERROR", "TELNETCONSOLE_ENABLED": False, **json.loads(sys.argv[2])})
process.crawl(Spider, url=sys.argv[1])
process.start()
"""


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--pages", type=int, default=3000, help="of the site (%(default)s)")
    parser.add_argument("--hosts", default="1,20", help="among how many hosts they are, with commas (%(default)s)")
    options = parser.parse_args()
    lines = []
    with place(options) as url:
        told = conditions(options, url)
        table = Table(told, **COLUMNS)
        for hosts in map(int, options.hosts.split(",")):
            with site(options.pages, hosts, options.other_core) as start:
                lines += _compare(options, url, start, hosts, table)
    report(options, told, lines)


def _compare(options: argparse.Namespace, url: str, start: str, hosts: int, table: Table) -> Iterator[dict[str, Any]]:
    client = redis.Redis.from_url(url)
    kinds = {"in memory": {}, "redset": {"SCHEDULER": "redset.scrapy.Scheduler", "REDSET_URL": url}}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        # Which is first changes, since a busy machine changes too.
        for kind, settings in list(kinds.items())[:: 1 - 2 * (number % 2)]:
            client.flushall()
            pages, seconds, cpu = crawl(start, settings)
            assert pages == options.pages + 1, f"{pages} pages were crawled"
            rates[kind].append(pages / seconds)
            spent[kind].append(1000 * cpu / pages)
    for kind in kinds:
        ratios = [ours / theirs for ours, theirs in zip(rates[kind], rates["in memory"], strict=True)]
        cpu_ratios = [theirs / ours for ours, theirs in zip(spent[kind], spent["in memory"], strict=True)]
        line = {
            "name": f"{kind}, {hosts} host{'s' * (hosts > 1)}",
            "pages_per_second": median(rates[kind]),
            "cpu_ms": median(spent[kind]),
            "ratio": median(ratios),
            "cpu_ratio": median(cpu_ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
        table.line(line["name"], *(f"{value:.2f}" for name, value in line.items() if name != "name"))
        yield line


def crawl(start: str, settings: dict[str, Any]) -> tuple[int, float, float]:
    """Return the pages of a crawl, its seconds from the first request, and the processor time."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", SPIDER, start, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    pages, seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return pages, seconds, cpu


@contextmanager
def site(pages: int, hosts: int, core: int | None) -> Iterator[str]:
    """The address of the first page of a site."""
    command = [sys.executable, ROOT / "tests" / "crawled_site.py", "--pages", str(pages), "--hosts", str(hosts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/0"
        finally:
            process.kill()


if __name__ == "__main__":
    main()
