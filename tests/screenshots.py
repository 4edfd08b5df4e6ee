"""Takes the pictures of the web page and the live table: ``make screenshots``; others into ``DIRECTORY``.

It needs chromium and chromium-driver. The sets are made up; nothing of the user's is shown.
"""

import logging
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console

import redset
from browser import opened, serving, whole_page, why_not
from redset.cli.top import Screen
from redset.core.inspecting import NAMES
from redset.core.keys import Keys
from servers import Server

HERE = Path(__file__).parents[1] / "docs" / "howto" / "web-page"

#: The pictures in the documentation.
DOCUMENTED = ("sets", "sets-narrow", "dead", "set-dark")
#: All pictures: a name, an address, and the size and the scheme of the browser.
PICTURES: list[tuple[str, str, int, bool]] = [
    ("sets", "/", 1180, False),
    ("sets-dark", "/", 1180, True),
    ("sets-narrow", "/", 400, False),
    ("set", "/sets/resize-images/", 1180, False),
    ("set-dark", "/sets/resize-images/?show=leased", 1180, True),
    ("dead", "/sets/fetch-pages/?show=dead", 1180, False),
    ("dead-narrow", "/sets/fetch-pages/?show=dead", 400, True),
    ("item", "/sets/fetch-pages/item?find=https://shop.example/item/3", 1180, False),
    ("confirm", "/sets/fetch-pages/retry?all=1", 1180, False),
    ("limit", "/sets/resize-images/limit", 1180, False),
    ("groups", "/sets/crawl-hosts/?show=groups", 1180, False),
    ("totals", "/sets/resize-images/?show=totals", 1180, False),
]


def make_sets(client: Any) -> None:
    """Make some sets, of which a few are in trouble."""
    fetch = redset.TimeSortedSet(client, "fetch-pages", max_attempts=1)
    fetch.update([f"https://shop.example/item/{n}" for n in range(300)], score=lambda _: time.time() - 700)
    reasons = ("HTTPError: 503 for {}", "TimeoutError: {} took 30.2 s", "ValueError: no price in {}")
    for n, reservation in enumerate(fetch.reserve_many(64)):
        reservation.bury(reasons[(n % 7 > 3) + (n % 7 > 5)].format(reservation.item))
    fetch.reserve_many(6)
    _past(client, "fetch-pages", lambda minute: (40 + 10 * (minute % 3), 12 if minute > 45 else 1))

    resize = redset.SortedSet(client, "resize-images")
    resize.update([f"photo-{n:04}.jpg" for n in range(2400)], score=len)
    resize.limit(rate=20, per=1.0, burst=20, leases=12, maxsize=10_000)
    resize.reserve_many(9, lease=120)
    resize.nack(resize.reserve_many(3), delay=90, reason="OSError: disk full")
    _past(client, "resize-images", lambda minute: (300 + 90 * (minute % 7), minute % 5))

    mails = redset.ScheduledSet(client, "send-mails")
    mails.update([f"mail-{n}" for n in range(40)], score=lambda _: time.time() - 400)
    _past(client, "send-mails", lambda minute: (25, 0), newest=9)

    reports = redset.SortedSet(client, "nightly-reports")
    reports.update([f"report-{n}" for n in range(12)])
    reports.pause(time.time() + 3600)

    hosts = redset.SortedSet(client, "crawl-hosts", group=lambda url: url.split("/")[2], per_group=redset.Limit(2, 1.0))
    hosts.update([f"https://{host}.example/{n}" for host in ("news", "shop", "wiki", "mail") for n in range(30)])
    hosts.reserve_many(5)
    hosts.group("wiki.example").pause()
    _past(client, "crawl-hosts", lambda minute: (60 + 20 * (minute % 4), 0))

    feeds = redset.PeriodicSet(client, "poll-feeds", interval=3600)
    feeds.update([f"https://feeds.example/{n}" for n in range(80)], first=time.time() + 900)
    _past(client, "poll-feeds", lambda minute: (2, 0))
    seen = redset.ExpiringSet(client, "seen-urls", ttl=86400)
    for n in range(500):
        seen.add(f"https://shop.example/item/{n}")
    shards = redset.SortedSet(client, "index-documents", shards=4)
    shards.update([f"document-{n}" for n in range(900)])
    shards.reserve_many(8, lease=300)


def _past(client: Any, name: str, rate: Any, newest: int = 0) -> None:
    """Write samples of the last hour, as claims would have done: claims and failures per minute."""
    now, claims, failures = time.time(), 0, 0
    samples = []
    for minute in range(60 - newest):
        more, failed = rate(minute)
        claims, failures = claims + more, failures + failed
        known = {"added": claims + 40, "leased": claims, "acked": claims - failures, "nacked": failures}
        words = " ".join(f"{total} {known[total]}" for total in NAMES if total in known)
        samples.append(f"{now - 60 * (59 - minute):.6f} {words}")
    keys = Keys(name)
    client.delete(keys.history)
    client.lpush(keys.history, *samples)
    client.hset(keys.meta, mapping={total: number for total, number in known.items() if total != "nacked"})


def picture_table(client: Any, file: Path) -> None:
    """Write the live table as a picture, as it is in a window of 140 columns."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=140, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Screen(client).table(30, 140))
    console.save_svg(str(file), title="redset top")


def main(folder: Path, names: Collection[str]) -> None:
    """Take the pictures of these names."""
    if reason := why_not():
        sys.exit(reason)
    logging.disable()
    folder.mkdir(parents=True, exist_ok=True)
    server = Server()
    client = server.client()
    make_sets(client)
    picture_table(client, folder / "table.svg")
    with serving(server) as address:
        for width, dark in sorted({(width, dark) for _, _, width, dark in PICTURES}):
            with opened(width, 800, dark=dark) as driver:
                for name, path, wide, is_dark in PICTURES:
                    if (wide, is_dark) == (width, dark) and name in names:
                        driver.get(address + path)
                        whole_page(driver, folder / f"{name}.png")
    server.stop()


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]), [name for name, *_ in PICTURES])
    else:
        main(HERE, DOCUMENTED)
