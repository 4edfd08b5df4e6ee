"""A scraper: many processes fetch a web, no page twice, one request per host at a time, and one of them is killed.

    python examples/scraper.py [--hosts 3] [--pages 20] [--workers 4]

Shows the crawl frontier of the textbooks (Mercator's) from two kinds of sets:

- for each host a set of its pages. It remembers done pages, so a page with links from a hundred others is fetched once.
  A page that fails is retried after a backoff, and is a dead letter after its third attempt;
- one ScheduledSet of hosts, scored by the time of the next request. A worker claims a host under a lease, fetches one
  page and requeues the host after a pause. So with any number of workers, a host gets one request at a time and a pause
  between two, and a slow host delays only itself.

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
from common import cleared, left, run, running
from local_web import LocalWeb

PAUSE = 0.05  # seconds between two requests to one host
TIMEOUT = 1.5  # seconds for an answer
LEASE = 3.0  # seconds; longer than the work on a page
REMEMBER = 24 * 3600
TITLES = "example-scraper:titles"


def scheduled_hosts(client: Any) -> redset.ScheduledSet:
    # "keep": a host keeps its time, instead of moving back with every new link to it.
    return redset.ScheduledSet(client, "example-scraper:hosts", duplicates="keep")


def pages_of(client: Any, host: str) -> redset.TimeSortedSet:
    return redset.TimeSortedSet(
        client,
        f"example-scraper:{host}",
        duplicates="keep",
        remember=REMEMBER,
        max_attempts=3,
        backoff=lambda attempt: 0.2 * attempt,
    )


def work(name: str) -> None:
    """Work until the process is ended."""
    logging.getLogger("redset").setLevel(logging.ERROR)  # Dead letters are shown at the end.
    client = redset.connect()
    hosts = scheduled_hosts(client)
    while True:
        host = hosts.reserve(lease=LEASE, wait=None)
        try:
            visit(client, host, name)
        except redset.LeaseLost:
            print(f"{name} took longer than its lease: another worker has {host.item} now")


def visit(client: Any, host: redset.Reservation[str], agent: str) -> None:
    """Fetch the next page of a host, and requeue the host after a pause.

    The pause extends the host's lease: the host is requeued when that expires. A pause by `again(delay=…)` would end
    when a worker finds a link to the host and adds it; an addition under the lease is parked until the lease ends.
    """
    pages = pages_of(client, host.item)
    try:
        page = pages.reserve(lease=LEASE)
    except KeyError:
        if left(pages):
            host.extend(PAUSE)  # A page is delayed, or leased to a worker that died.
        else:
            host.ack()  # The next link to it adds it again, even one that was just found.
        return
    host.extend(fetch(client, page, agent))


def fetch(client: Any, page: redset.Reservation[str], agent: str) -> float:
    """Fetch a page, and return the seconds until the next request to its host."""
    try:
        with urlopen(Request(page.item, headers={"User-Agent": agent}), timeout=TIMEOUT) as answer:
            text = answer.read().decode()
    except HTTPError as error:
        if error.code == 429:
            page.again()  # The request was too early, which does not count as an attempt.
            return float(error.headers["Retry-After"])
        if error.code < 500:
            page.bury(reason=str(error))  # A retry would not help.
        else:
            page.nack(reason=str(error))
    except OSError as error:
        page.nack(reason=str(error))
    else:
        keep(client, page.item, text)
        page.ack()
    return PAUSE


def keep(client: Any, url: str, text: str) -> None:
    """Store the results and add the links. Doing it twice has the effect of once."""
    title = re.search("<title>(.*?)</title>", text)
    client.hset(TITLES, url, title[1] if title else "")
    found = defaultdict(set)
    for link in links_in(url, text):
        found[urlsplit(link).netloc].add(link)
    # Add pages before hosts, or a worker could claim a host and find no page. Add a host even if none of its pages is
    # new: the worker that added them may have died before it added the host.
    for host, links in found.items():
        pages_of(client, host).update(links)
    scheduled_hosts(client).update(found)


def links_in(url: str, text: str) -> Iterator[str]:
    for link in re.findall('href="(.*?)"', text):
        absolute = urldefrag(urljoin(url, link)).url
        if urlsplit(absolute).hostname == urlsplit(url).hostname:
            yield absolute


def main() -> bool:
    options = arguments()
    client = redset.connect()
    web = LocalWeb(options.hosts, options.pages)
    hosts, pages = scheduled_hosts(client), [pages_of(client, host) for host in web.hosts]
    workers = {name: Process(target=work, args=(name,)) for name in map("worker {}".format, range(options.workers))}
    killed = ""
    with cleared(hosts, *pages, others=[TITLES]), running(*workers.values()):
        web.start()
        pages[0].add(web.url(0))
        hosts.add(web.hosts[0])
        while left(hosts) and any(worker.is_alive() for worker in workers.values()):
            killed = killed or kill_one(web, workers)
            time.sleep(0.05)
        web.stop()
        letters = [letter for each in pages for letter in each.dead_letters]
        done = sum(each.stats().done for each in pages)
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
    pauses = [
        (later.url, later.began - (earlier.answered or later.began))
        for requests in by_host.values()
        for earlier, later in pairwise(requests)
    ]
    verdicts: dict[str, set[Any]] = {
        "pages that were not fetched": wanted - answers.keys(),
        "pages that were fetched twice, except by the killed worker": {
            url for url, times in answers.items() if times > 1 and url not in interrupted
        },
        "broken pages that are no dead letters": broken - dead,
        "pages that were requested too early": {url for url, pause in pauses if pause < PAUSE},
        "wrong numbers of pages done and stored": counts - {len(wanted)},
    }
    for what, found in verdicts.items():
        print(f"{what} (must be none): {', '.join(map(str, found)) or 'none'}")
    return not any(verdicts.values())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--pages", type=int, default=20, help="on each host")
    parser.add_argument("--workers", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
