"""Whatever is in a set, a page shows it as text."""

import re
from html import unescape
from typing import Any

import pytest
from hostile import CORPUS, Reader, fill

import redset
from redset.escapes import escaped
from visitors import Visitor

LARGEST = 400_000


def check(answer: Any) -> Reader:
    reader = Reader(answer.content.decode())
    assert reader.wrong == [], answer.url
    assert len(answer.content) <= LARGEST
    return reader


def test_in_every_field_of_every_page(aio_page: Visitor, raw: Any) -> None:
    names = fill(raw)
    paths = ["/", "/?page=2", *(f"/sets/held/?show={show}" for show in ("waiting", "leased", "delayed", "parked"))]
    paths += [
        f"/sets/{name}/?show={show}&page={page}"
        for name in ("waiting", "keyed")
        for show in ("waiting",)
        for page in (1, 2)
    ]
    paths += [
        "/sets/dead/?show=dead",
        "/sets/dead/?show=dead&page=2",
        "/sets/groups/?show=groups",
        "/sets/seen/",
        "/sets/seen/?page=2",
    ]
    links: set[str] = set()
    for path in paths:
        answer = aio_page.get(path)
        assert answer.status_code == 200, path
        reader = check(answer)
        base = path.partition("?")[0]
        links |= {
            f"{base}{link}"
            for link in reader.links
            if re.match(r"(item|retry|forget|discard|requeue|pause)\?|sets/", link)
        }
    # Each name of a set, and each item, has a page of its own, and so has the confirmation of each action.
    assert len(
        [link for link in links if link.startswith("/sets/") and link.count("/") == 3 and "?" not in link]
    ) == len(names)
    some = sorted(links)[:: max(1, len(links) // 250)]
    for link in some:
        answer = aio_page.get(link)
        assert answer.status_code == 200, link
        check(answer)


def test_in_what_a_visitor_sends(aio_page: Visitor, raw: Any) -> None:
    redset.SortedSet(raw, "jobs").add("a")
    for item in CORPUS:
        text = item[:300].decode(errors="replace")
        for path, name in (
            ("/", "find"),
            ("/", "done"),
            ("/sets/jobs/item", "find"),
            ("/sets/jobs/item", "item"),
            ("/sets/jobs/", "show"),
            ("/sets/jobs/retry", "kind"),
            ("/sets/jobs/pause", "group"),
        ):
            answer = aio_page.get(path, params={name: text, "n": text})
            assert answer.status_code in (200, 404)
            check(answer)
        answer = aio_page.post("/sets/jobs/limit", {"rate": text})
        assert answer.status_code in (303, 400)


def test_every_item_is_found_by_what_is_shown_of_it(aio_page: Visitor, raw: Any) -> None:
    waiting = redset.SortedSet(raw, "waiting", serializer=None)
    del waiting
    fill(raw)
    for item in CORPUS:
        if len(item) < 1000:
            found = aio_page.get("/sets/waiting/item", params={"find": escaped(item)})
            assert found.status_code == 200, item


@pytest.mark.parametrize("item", CORPUS, ids=range(len(CORPUS)))
def test_each_is_discarded_by_its_link(aio_page: Visitor, raw: Any, item: bytes) -> None:
    raw.zadd("jobs", {b"other": 1, item: 2, b"another": 3})
    raw.hset("redset:sets", "jobs", '{"kind": "SortedSet"}')
    page = aio_page.get("/sets/jobs/").text
    links = [unescape(link) for link in re.findall(r'href="(discard\?[^"]*)"', page)]
    assert len(links) == 3
    assert aio_page.confirm(f"/sets/jobs/{links[1]}").headers["location"].endswith("n=1")
    assert raw.zrange("jobs", 0, -1) == [b"other", b"another"]


def test_the_largest_page(aio_page: Visitor, raw: Any) -> None:
    """Everything as long as it can be, of the characters that become longest."""
    for start in range(60):
        redset.SortedSet(raw, f'"{start:03}' + "\"&'" * 100).add("a")
    name = "\x01" * 66
    long = ["\"&'" * 50 + f"{n:03}" for n in range(60)] + ["\x01" * 147 + f"{n:03}" for n in range(60)]
    jobs = redset.SortedSet(raw, name, max_attempts=1, key=lambda item: item[:150])
    jobs.update([item + "\"'&" * 300 for item in long])
    for n, reservation in enumerate(jobs.reserve_many(110)):
        reservation.bury(f"{'abcdefghijklmnopqrstuvwxyz'[n % 26]}{chr(65 + n % 50)}" + "\"'&\x02" * 100)
    largest = 0
    for path in (
        "/",
        f"/sets/{'~01' * 66}/?show=dead",
        f"/sets/{'~01' * 66}/?show=dead&page=2",
        f"/sets/{'~01' * 66}/",
    ):
        answer = aio_page.get(path)
        assert answer.status_code == 200
        check(answer)
        largest = max(largest, len(answer.content))
    print("the largest page has", largest, "bytes")
    assert largest > LARGEST / 10
