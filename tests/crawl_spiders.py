"""Spiders of the tests. Each writes what its callbacks have finished into the file ``results``, a line of JSON each."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import scrapy
from scrapy import signals
from scrapy.exceptions import IgnoreRequest


class Recorder(scrapy.Spider):
    """Has the arguments of a spider as attributes: ``url``, ``results``."""

    custom_settings = {"TELNETCONSOLE_ENABLED": False, "LOG_LEVEL": "INFO", "REMOTE_CONTROL_ENABLED": False}  # noqa: RUF012
    url: str
    results: str

    def note(self, what: str, **facts: Any) -> None:
        line = json.dumps({"what": what, "pid": os.getpid(), "at": time.time(), **facts}) + "\n"
        # One write of a file that is open for appending is whole, whoever else writes.
        descriptor = os.open(self.results, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    async def start(self) -> AsyncIterator[Any]:
        self.note("started")
        yield scrapy.Request(self.url, dont_filter=True)

    def closed(self, reason: str) -> None:
        stats = self.crawler.stats
        assert stats is not None
        numbers = {name: value for name, value in stats.get_stats().items() if isinstance(value, int | float)}
        self.note("closed", reason=reason, stats=numbers)


class Follower(Recorder):
    """Follows all links."""

    name = "follower"

    def parse(self, response: Any) -> Iterator[Any]:
        if "/callback-error" in response.url:
            raise ValueError("no such thing")
        yield {"url": response.url}
        for link in response.css("a::attr(href)").getall():
            yield response.follow(link, priority=1 if "urgent" in link else 0)
        self.note("parsed", url=response.url)


class Pipeline:
    """Fails to store one item."""

    def process_item(self, item: Any, spider: Any = None) -> Any:
        if "/pipeline-error" in item["url"]:
            raise OSError("disk full")
        return item


class Refusing:
    """A downloader middleware that lets one page not be requested."""

    def process_request(self, request: scrapy.Request, spider: Any = None) -> None:
        if "/ignored" in request.url:
            raise IgnoreRequest("not wanted")


class Everything(Recorder):
    """Uses all that a request can have."""

    name = "everything"

    def parse(self, response: Any) -> Iterator[Any]:
        follow = response.follow
        kwargs = {"words": ("a", b"\xff", {1: None})}
        yield follow("/kwargs", self.with_kwargs, cb_kwargs=kwargs, meta={"set": {1, 2}, "bytes": b"\0"})
        yield scrapy.FormRequest(response.urljoin("/post"), callback=self.posted, formdata={"a": "1"})
        yield scrapy.FormRequest(response.urljoin("/post"), callback=self.posted, formdata={"a": "2"})
        yield follow("/cookie", self.plain, cookies={"session": "s1"})
        yield follow("/twice", self.plain, dont_filter=True)
        yield follow("/twice", self.plain, dont_filter=True)
        yield follow("/once", self.plain)
        yield follow("/once", self.plain)
        yield follow("/missing-handled", self.plain, errback=self.handled)
        yield follow("/missing", self.plain)
        yield follow("/broken-handled", self.plain, errback=self.handled_later)
        yield follow("/broken", self.plain, errback=self.refused)
        yield follow("/flaky", self.plain)
        yield follow("/moved", self.plain)
        yield follow("/async", self.awaited)
        yield follow("/coroutine", self.coroutine)
        yield follow("/lambda", lambda found: self.note("parsed", url=found.url))
        yield follow("/parent-of-lambda", self.with_lambda)
        yield follow("/ignored", self.plain)
        yield follow("/pipeline-error", self.item)
        yield follow("/callback-error", self.failing)
        yield follow("/never", self.plain, meta={"max_retry_times": 0})
        self.note("parsed", url=response.url)

    def with_kwargs(self, response: Any, words: Any) -> None:
        right = (
            words == ("a", b"\xff", {1: None}) and response.meta["set"] == {1, 2} and response.meta["bytes"] == b"\0"
        )
        self.note("parsed", url=response.url, right=right)

    def posted(self, response: Any) -> None:
        self.note("parsed", url=response.url, text=response.text)

    def plain(self, response: Any) -> None:
        self.note("parsed", url=response.url, text=response.text)

    def item(self, response: Any) -> Iterator[Any]:
        yield {"url": response.url}
        self.note("parsed", url=response.url)

    def with_lambda(self, response: Any) -> Iterator[Any]:
        yield response.follow("/lambda-broken", lambda found: 1 / 0)

    def failing(self, response: Any) -> Iterator[Any]:
        yield response.follow("/child-of-failing", self.plain, dont_filter=True)
        raise ValueError("no such thing")

    async def awaited(self, response: Any) -> AsyncIterator[Any]:
        yield {"url": response.url}
        yield response.follow("/child-of-async", self.plain)
        self.note("parsed", url=response.url)

    async def coroutine(self, response: Any) -> list[Any]:
        self.note("parsed", url=response.url)
        return [response.follow("/child-of-coroutine", self.plain)]

    def handled(self, failure: Any) -> Iterator[Any]:
        self.note("handled", url=failure.request.url)
        yield scrapy.Request(failure.request.url + "-instead", callback=self.plain)

    async def handled_later(self, failure: Any) -> None:
        self.note("handled", url=failure.request.url)

    def refused(self, failure: Any) -> Any:
        self.note("handled", url=failure.request.url)
        return failure


class Fed(Recorder):
    """Has no start requests but those of the set."""

    name = "fed"

    async def start(self) -> AsyncIterator[Any]:
        return
        yield

    def make_request_from_data(self, data: str) -> scrapy.Request:
        if data == "nonsense":
            raise ValueError("no address")
        return scrapy.Request(self.url + data, dont_filter=True)

    def parse(self, response: Any) -> None:
        self.note("parsed", url=response.url)


class Idle(Follower):
    """Notes each time that it is idle."""

    name = "idle"

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **kwargs: Any) -> Any:
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.idle, signal=signals.spider_idle)
        return spider

    def idle(self) -> None:
        self.note("idle")


class HalfWay(Recorder):
    """Waits in the middle of its first callback, in the first process."""

    name = "halfway"

    async def parse(self, response: Any) -> AsyncIterator[Any]:
        links = response.css("a::attr(href)").getall()
        for link in links[:20]:
            yield response.follow(link)
        first = not Path(self.results).exists()  # noqa: ASYNC240 - nothing else is to go on
        self.note("half")
        if links and first:
            await asyncio.sleep(60)
        for link in links[20:]:
            yield response.follow(link)
        self.note("parsed", url=response.url)
