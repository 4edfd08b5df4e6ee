"""A scraper: many processes fetch a web, no page twice, one request per host at a time, and one of them is killed.

    python examples/scraper.py [--hosts 3] [--pages 20] [--workers 4]

Shows the crawl frontier of the textbooks (Mercator's) as one set of pages:

- it remembers done pages, so a page with links from a hundred others is fetched once. A failing one is retried after
  a backoff, and is a dead letter after its third attempt;
- the pages of a host are a group. With any number of workers, a host gets one request at a time and a pause between
  two, and a slow host delays only itself. After a 429, the whole host rests for as long as it demands.

The example serves the web itself (local_web.py), with slow, failing and missing pages.

Expect: a worker is killed (SIGKILL) while it waits for a page. At the end, the access log of the web shows that every
page was fetched once, and that no request came too early.

Guarantee: every page is *done* exactly once, and *fetched* at least once. When a worker is killed, another one fetches
its page after the lease expires, even if the first request was answered. So the results are stored before the page is
acked, and storing them twice has the effect of once.
"""

import argparse
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing import Process
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen

import redset
from common import cleared, run, running
from local_web import LocalWeb

PAUSE = 0.05  # seconds between two requests to one host
TIMEOUT = 1.5  # seconds for an answer
LEASE = 3.0  # seconds; longer than the work on a page
TITLES = "example-scraper:titles"


def pages(client: Any) -> redset.TimeSortedSet:
    return redset.TimeSortedSet(
        client,
        "example-scraper:pages",
        duplicates="keep",
        remember=24 * 3600,
        max_attempts=3,
        backoff=lambda attempt: 0.2 * attempt,
        group=lambda url: urlsplit(url).netloc,
        per_group=redset.Limit(leases=1, pause=PAUSE),
    )


def work(name: str) -> None:
    """Work until the process is ended."""
    logging.getLogger("redset").setLevel(logging.ERROR)  # Dead letters are shown at the end.
    client = redset.connect()
    for page in pages(client).consume(lease=LEASE, wait=None):
        try:
            fetch(client, page, name)
        except redset.LeaseLost:
            print(f"{name} took longer than its lease: another worker has {page.item} now")


def fetch(client: Any, page: redset.Reservation[str], agent: str) -> None:
    try:
        with urlopen(Request(page.item, headers={"User-Agent": agent}), timeout=TIMEOUT) as answer:
            text = answer.read().decode()
    except HTTPError as error:
        if error.code == 429:
            # The host rests, and the attempt does not count.
            page.again(delay=float(error.headers["Retry-After"]), group=True)
        elif error.code < 500:
            page.bury(reason=str(error))  # A retry would not help.
        else:
            page.nack(reason=str(error))
    except OSError as error:
        page.nack(reason=str(error))
    else:
        keep(client, page.item, text)
        page.ack()


def keep(client: Any, url: str, text: str) -> None:
    """Store the results and add the links. Doing it twice has the effect of once."""
    title = re.search("<title>(.*?)</title>", text)
    client.hset(TITLES, url, title[1] if title else "")
    pages(client).update(links_in(url, text))


def links_in(url: str, text: str) -> Iterator[str]:
    for link in re.findall('href="(.*?)"', text):
        absolute = urldefrag(urljoin(url, link)).url
        if urlsplit(absolute).hostname == urlsplit(url).hostname:
            yield absolute


def main() -> bool:
    options = arguments()
    client = redset.connect()
    web, crawl = LocalWeb(options.hosts, options.pages), pages(client)
    workers = {name: Process(target=work, args=(name,)) for name in map("worker {}".format, range(options.workers))}
    killed = ""
    with cleared(crawl, others=[TITLES]), running(*workers.values()):
        web.start()
        crawl.add(web.url(0))
        while crawl.stats().unfinished and any(worker.is_alive() for worker in workers.values()):
            killed = killed or kill_one(web, workers)
            time.sleep(0.05)
        web.stop()
        letters = list(crawl.dead_letters)
        done = crawl.stats().done
        stored = client.hlen(TITLES)

    for letter in letters:
        print(f"dead letter after attempt {letter.attempts}: {letter.item}: {letter.reason}")
    print(f"{len(web.log)} requests, by status: {dict(Counter(request.status for request in web.log))}")
    print(f"{done} pages done, {stored} titles stored, {len(web.urls(broken=False))} pages that exist")
    return is_right(web, killed, {str(letter.item) for letter in letters}, {done, stored})


def kill_one(web: LocalWeb, workers: dict[str, Process]) -> str:
    """Kill a worker that waits for a slow page, if there is one, and return its name."""
    for request in web.log:
        if request.is_waiting():
            workers[request.agent].kill()
            print(f"{request.agent} was killed while it waited for {request.url}")
            return request.agent
    return ""


def is_right(web: LocalWeb, killed: str, dead: set[str], counts: set[int]) -> bool:
    """Compare the outcome with the access log of the web."""
    wanted, broken = web.urls(broken=False), web.urls(broken=True)
    interrupted = [request.url for request in web.log if request.agent == killed][-1:]
    answers = Counter(request.url for request in web.log if request.status == 200)
    by_host = defaultdict(list)
    for request in web.log:
        by_host[urlsplit(request.url).netloc].append(request)
    too_early = {
        later.url
        for requests in by_host.values()
        for earlier, later in pairwise(requests)
        if is_too_early(earlier, later, killed)
    }
    verdicts: dict[str, set[Any]] = {
        "pages that were not fetched": wanted - answers.keys(),
        "pages that were fetched twice, except by the killed worker": {
            url for url, times in answers.items() if times > 1 and url not in interrupted
        },
        "broken pages that are no dead letters": broken - dead,
        "pages that were requested too early": too_early,
        "hosts that were requested too often": {host for host, requests in by_host.items() if is_too_often(requests)},
        "wrong numbers of pages done and stored": counts - {len(wanted)},
    }
    for what, found in verdicts.items():
        print(f"{what} (must be none): {', '.join(map(str, found)) or 'none'}")
    return not any(verdicts.values())


def is_too_early(earlier: Any, later: Any, killed: str) -> bool:
    """Compare two requests to one host: one at a time, and none while the host rests after a 429."""
    if earlier.agent == killed:
        return False  # Its last request may go on when the lease has expired.
    rest = 0.9 if earlier.status == 429 else 0.0
    return bool(later.began < (earlier.answered or 0) + rest)


def is_too_often(requests: list[Any]) -> bool:
    """Judge all requests to one host: the pause is one between claims, and a request begins a while after its claim."""
    return bool(requests[-1].began - requests[0].began < (len(requests) - 1) * PAUSE / 2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--pages", type=int, default=20, help="on each host")
    parser.add_argument("--workers", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
