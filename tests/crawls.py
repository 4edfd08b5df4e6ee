"""Spiders in processes of their own, on a server of redset."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redset

TESTS = Path(__file__).parent
#: The Python that runs the spiders: that of an environment with another version of Scrapy, for instance.
PYTHON = os.environ.get("REDSET_TEST_SCRAPY_PYTHON", sys.executable)
PROGRAM = """
import sys, json, importlib
from scrapy.crawler import CrawlerProcess
settings, spider, arguments = json.loads(sys.argv[1])
sys.path.insert(0, {tests!r})
import crawl_spiders
process = CrawlerProcess(settings)
process.crawl(getattr(crawl_spiders, spider), **arguments)
process.start()
"""


class Spider:
    """A spider process."""

    def __init__(self, name: str, arguments: dict[str, Any], settings: dict[str, Any], log: Path) -> None:
        self.log = log
        given = json.dumps([settings, name, arguments])
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [PYTHON, "-c", PROGRAM.format(tests=str(TESTS)), given],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text()

    def wait(self, timeout: float = 120) -> "Spider":
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the spider has not ended:\n{self.text()[-6000:]}") from None
        assert self.process.returncode == 0, self.text()[-6000:]
        assert "The scheduler has failed" not in self.text(), self.text()[-6000:]
        return self

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Crawl:
    """Spiders of one crawl, and what they have noted."""

    def __init__(self, url: str, folder: Path, **settings: Any) -> None:
        self.url = url
        self.folder = folder
        self.results = folder / "results"
        self.spiders: list[Spider] = []
        self.settings = {
            "SCHEDULER": "redset.scrapy.Scheduler",
            "REDSET_URL": url,
            "REDSET_NAME": "pages",
            "REDSET_BACKOFF": 0.1,
            **settings,
        }
        self.client = redset.connect(url)

    def start(self, spider: str, url: str, **settings: Any) -> Spider:
        arguments = {"url": url, "results": str(self.results)}
        made = Spider(
            spider, arguments, {**self.settings, **settings}, self.folder / f"log-{len(self.spiders)}-{os.getpid()}"
        )
        self.spiders.append(made)
        return made

    def start_together(self, number: int, spider: str, url: str, **settings: Any) -> list[Spider]:
        """Start spiders, none of which ends before all have begun, however busy the machine is."""
        before = len(self.noted("started"))
        held = self.set()
        held.add({"id": "127.0.0.1 held by the test"})
        (lease,) = held.reserve_many(1, lease=300)
        spiders = [self.start(spider, url, **settings) for _ in range(number)]
        until(lambda: len(self.noted("started")) >= before + number, 120)
        lease.ack()
        held.forget({"id": "127.0.0.1 held by the test"})
        return spiders

    def noted(self, what: str = "parsed") -> list[dict[str, Any]]:
        text = self.results.read_text() if self.results.exists() else ""
        return [line for line in map(json.loads, text.splitlines()) if line["what"] == what]

    def parsed(self, site: Any) -> Counter[str]:
        """How often each page was parsed to the end, by path."""
        return Counter(line["url"].partition(f":{site.port}")[2] for line in self.noted())

    def set(self, **options: Any) -> Any:
        """The set of the crawl, to be looked at."""
        return redset.SortedSet(
            self.client,
            "pages",
            serializer=json,
            key=lambda page: page["id"],
            remember=30 * 24 * 3600,
            group=lambda key: key.partition(" ")[0],
            **options,
        )

    def dead(self, site: Any) -> dict[str, str]:
        """The reasons of the dead letters, by path."""
        return {letter.item["url"].partition(f":{site.port}")[2]: letter.reason for letter in self.set().dead_letters}

    def stats(self, spider: Spider) -> dict[str, Any]:
        """The statistics of a spider that has ended, and its reason."""
        (line,) = [line for line in self.noted("closed") if line["pid"] == spider.pid]
        return {"reason": line["reason"], **line["stats"]}

    def is_over(self) -> bool:
        return not self.set().stats().unfinished

    def close(self) -> None:
        for spider in self.spiders:
            spider.kill()
        self.client.close()


@contextmanager
def crawling(url: str, folder: Path, **settings: Any) -> Iterator[Crawl]:
    crawl = Crawl(url, folder, **settings)
    try:
        yield crawl
    finally:
        crawl.close()


def until(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait until a condition holds, and return what it has returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found
