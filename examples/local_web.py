"""A small local web for scraper.py: several hosts, with the difficulties of a real web.

Pages link to each other in circles, repeatedly and in many spellings, to pages that do not exist, and to other webs.
Some are slow, some fail at first (503), some demand a pause (429), some always fail (500). The log has the beginning of
each request, and its answer.
"""

import random
import threading
import time
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ("LocalWeb",)

SLOW = 0.5  # seconds


@dataclass
class Request:
    url: str
    agent: str
    began: float
    answered: float | None = None
    status: int | None = None

    def is_waiting(self) -> bool:
        """Whether the request will be answered later."""
        return self.answered is None and is_slow(self.url) and time.time() - self.began < SLOW / 2


class LocalWeb:
    """A web whose hosts differ by their ports. Requests before :meth:`start` are answered after it."""

    def __init__(self, hosts: int, pages: int) -> None:
        self.log: list[Request] = []
        self._count = hosts * pages
        self._logging = threading.Lock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self)) for _ in range(hosts)]
        self.hosts = [f"127.0.0.1:{server.server_port}" for server in self._servers]

    def start(self) -> None:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def url(self, number: int) -> str:
        return f"http://{self.hosts[number % len(self.hosts)]}/page/{number}"

    def urls(self, *, broken: bool) -> set[str]:
        """Return the pages that can be fetched, or those that always fail."""
        return {self.url(number) for number in range(self._count) if self._is_broken(number) is broken}

    def links(self, number: int) -> list[str]:
        """Return the links of a page. Each page has a link from a page that works, and random links from others."""
        chance = random.Random(number)
        linked = [2 * number + 1, 2 * number + 2, 0, *(chance.randrange(self._count) for _ in range(3))]
        urls = [self.url(one) for one in linked if one < self._count]
        strange = [f"{number}#top", f"/page/../page/{number}", f"/missing/{number % 3}", "https://example.org/"]
        return urls + strange

    def answer(self, url: str, agent: str) -> tuple[Request, int, str]:
        with self._logging:
            tries = sum(request.url == url for request in self.log)
            request = Request(url, agent, time.time())
            self.log.append(request)
        number = page_number(url)
        if number is None:
            return request, 404, ""
        if is_slow(url):
            time.sleep(SLOW)
        if self._is_broken(number):
            return request, 500, ""
        if number % 10 == 6 and tries < 2:
            return request, 503, ""
        if number % 10 == 3 and tries < 1:
            return request, 429, ""
        links = "".join(f'<a href="{link}">a link</a>\n' for link in self.links(number))
        return request, 200, f"<title>Page {number}</title>\n{links}"

    def _is_broken(self, number: int) -> bool:
        return number % 10 == 9 and number >= self._count // 2


def page_number(url: str) -> int | None:
    number = url.rpartition("/page/")[2]
    return int(number) if number.isdecimal() else None


def is_slow(url: str) -> bool:
    return (page_number(url) or 0) % 10 == 4


class Handler(BaseHTTPRequestHandler):
    def __init__(self, web: LocalWeb, *connection: Any) -> None:
        self._web = web
        super().__init__(*connection)

    def do_GET(self) -> None:
        url = f"http://{self.headers['Host']}{self.path}"
        request, status, body = self._web.answer(url, self.headers["User-Agent"])
        request.status, request.answered = status, time.time()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(body.encode())
        except ConnectionError:
            pass  # The client has closed the connection.

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the web has a log of its own."""
