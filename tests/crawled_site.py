"""A site to crawl: fast, with an access log, and with every page that goes wrong in a way of its own.

    python tests/crawled_site.py --pages 3000

Served by asyncio, in a thread of the test or as a process of its own.
"""

import argparse
import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    after: float = 0.0


@dataclass
class Visit:
    """A request, as the access log has it."""

    path: str
    host: str
    agent: str
    method: str
    body: str
    cookie: str
    began: float
    status: int = 0
    ended: float = 0.0


@dataclass
class Site:
    """A site in a thread of its own."""

    answer: Callable[[Visit, int], Answer]
    port: int = 0
    log: list[Visit] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "0.0.0.0", self.port, backlog=512))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        visit = Visit(
            *(path, headers.get("host", ""), headers.get("user-agent", ""), method, body),
            *(headers.get("cookie", ""), time.time()),
        )
        self.log.append(visit)
        self._counts[path] += 1
        answer = self.answer(visit, self._counts[path])
        if answer.after:
            await asyncio.sleep(answer.after)
        data = answer.body.encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        visit.status, visit.ended = answer.status, time.time()
        writer.write(
            f"HTTP/1.1 {answer.status} X\r\nContent-Type: text/html\r\n{extra}"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await writer.drain()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def visits(self, path: str) -> list[Visit]:
        return [visit for visit in self.log if visit.path == path]

    def counts(self, status: int = 200) -> Counter[str]:
        return Counter(visit.path for visit in self.log if visit.status == status)


def linked(links: list[str]) -> str:
    return "<html><title>page</title>" + "".join(f'<a href="{link}">x</a>' for link in links) + "</html>"


def tree(pages: int, hosts: int = 1, port: int = 0) -> Callable[[Visit, int], Answer]:
    """Return the answers of a site of numbered pages: each links to its children and to ten others, all known."""

    def answer(visit: Visit, _: int) -> Answer:
        number = int(urlsplit(visit.path).path.strip("/") or 0)
        numbers = [number * 2 + 1, number * 2 + 2, *((number * 7 + step * 13) % pages for step in range(8))]
        base = visit.host.partition(":")[2]
        return Answer(body=linked([f"http://127.0.0.{1 + one % hosts}:{base}/{one}" for one in numbers if one < pages]))

    return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, default=3000)
    parser.add_argument("--hosts", type=int, default=1)
    options = parser.parse_args()
    with Site(tree(options.pages, options.hosts)) as site:
        print(json.dumps({"port": site.port}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
