"""What the pages show, in which order, and how much they read for it."""

import math
import re
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import redset
import redset.web
from clients import close_awaited
from redset.core.inspecting import Sample, Totals
from redset.core.keys import Keys
from redset.core.overview import Overview
from redset.core.registry import SetInfo
from redset.web.charts import chart, sparkline
from redset.web.rates import CLAIMS, rates
from redset.web.urgency import troubles
from servers import Place, Server
from visitors import Visitor

NOTHING = Totals(*[0] * 23)


def names_on(page: str) -> list[str]:
    return re.findall(r'<a href="sets/([^/"]*)/"><bdi', page)


def test_the_most_urgent_set_comes_first(page: Visitor, raw: Any) -> None:
    now = time.time()
    for name in ("well", "paused-empty", "old-dead", "paused", "lagging", "expired", "failing", "starving"):
        jobs = redset.TimeSortedSet(raw, name)
        jobs.add("a", score=now)
        jobs.reserve(lease=0.001 if name == "expired" else 600)
        if name == "failing":
            jobs.add("b", score=now)
            jobs.reserve().bury("no")
        if name == "old-dead":
            jobs.add("b", score=now)
            jobs.reserve().bury("no")
            raw.zadd(Keys(name).dead, {"b": now - 5000})
        if name == "lagging":
            jobs.add("c", score=now - 500)
        if name.startswith("paused"):
            jobs.pause()
            if name == "paused":
                jobs.add("c", score=now)
    starving = redset.TimeSortedSet(raw, "starving")
    starving.clear()
    starving.add("c", score=now - 5)
    raw.lset(Keys("starving").history, 0, f"{now - 300} leased 1")

    assert names_on(page.get("/").text) == [
        "starving", "failing", "expired", "lagging", "paused", "old-dead", "paused-empty", "well",
    ]  # fmt: skip
    shown = page.get("/").text
    for text in ("1 due, no claim for 5 min", "1 died in 15 min", "1 expired leases", r"8 min \d\d s behind"):
        assert re.search(text, shown)
    assert "all well" not in shown
    # One click leads to the dead letters.
    assert 'href="sets/failing/?show=dead"' in shown


def test_a_server_without_sets(page: Visitor) -> None:
    assert "No set is registered" in page.get("/").text
    assert page.get("/sets/jobs/").status_code == 404


def test_all_is_well(page: Visitor, raw: Any) -> None:
    redset.SortedSet(raw, "jobs").add("a")
    redset.SortedSet(raw, "jobs").reserve()
    assert "all well" in page.get("/").text
    assert "all well" in page.get("/sets/jobs/").text


def test_pages_and_search(page: Visitor, raw: Any) -> None:
    for n in range(120):
        redset.SortedSet(raw, f"set-{n:03}").add("a")
    found = [names_on(page.get(f"/?page={number}").text) for number in (1, 2, 3, 4)]
    assert [len(names) for names in found] == [50, 50, 20, 0]
    assert sorted(name for names in found for name in names) == [f"set-{n:03}" for n in range(120)]
    assert names_on(page.get("/?find=T-11").text) == [f"set-{n}" for n in range(110, 120)]
    for strange in ("0", "-1", "x", "9" * 20, "1.5", "٣"):
        assert page.get("/", params={"page": strange}).status_code == 200


def test_dead_letters_by_reason(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    jobs.update([f"https://x.example/{n}" for n in range(120)])
    for n, reservation in enumerate(jobs.reserve_many(120)):
        reservation.bury(f"HTTPError: 503 for {reservation.item}" if n % 3 else f"KeyError: 'k{n}'")
    shown = page.get("/sets/jobs/?show=dead").text
    kinds = re.findall(r'<tr><td class="n">(\d+)</td><td><bdi class="item">([^<]*)', shown)
    assert kinds == [("80", "HTTPError: … for …"), ("40", "KeyError: …")]
    assert shown.count('href="retry?item=') == 50
    assert "Page 1 of 3" in shown
    assert page.get("/sets/jobs/?show=dead&page=3").text.count('href="retry?item=') == 20


@pytest.mark.parametrize("shards", [None, 3])
def test_each_state(page: Visitor, raw: Any, shards: int | None) -> None:
    jobs = redset.SortedSet(raw, "jobs", backoff=lambda _: 60, shards=shards)
    jobs.update(["a1", "b2", "c3", "d4"], score=lambda item: int(item[1]))
    first, second = jobs.reserve_many(2)
    second.nack()
    jobs.add("a1")
    # A claim parks it.
    jobs.reserve_many(10)
    jobs.add("e5", score=5)
    for show, item in (("waiting", "e5"), ("leased", "c3"), ("delayed", "b2"), ("parked", "a1")):
        shown = page.get(f"/sets/jobs/?show={show}").text
        assert f'<bdi class="item">{item}</bdi>' in shown, show
    assert str(first.token) in page.get("/sets/jobs/?show=leased").text
    assert page.get("/sets/jobs/?show=totals").text.count("<dt>") == 23
    assert page.get("/sets/jobs/?show=nonsense").status_code == 404
    assert page.get("/sets/jobs/?show=groups").status_code == 404
    parts = page.get("/sets/jobs/?show=shards")
    assert parts.status_code == (404 if shards is None else 200)
    if shards:
        assert parts.text.count("jobs#0.") == 3


@pytest.mark.parametrize("state", ["waiting", "leased", "delayed", "dead"])
@pytest.mark.parametrize("shards", [None, 3])
def test_the_order_over_pages(page: Visitor, raw: Any, state: str, shards: int | None) -> None:
    jobs = redset.SortedSet(raw, "jobs", shards=shards)
    jobs.update([f"{n:03}" for n in range(120)], score=int)
    held = [] if state == "waiting" else jobs.reserve_many(120)
    for n, reservation in enumerate(held):
        if state == "leased":
            reservation.extend(100 + n)
        elif state == "delayed":
            reservation.nack(delay=100 + n)
        else:
            reservation.bury("no")
    shown = [
        re.findall(r'<a href="item\?item=(\d+)"', page.get(f"/sets/jobs/?show={state}&page={number}").text)
        for number in (1, 2, 3, 4)
    ]
    expected = sorted((f"{n:03}" for n in range(120)), reverse=state == "dead")
    assert [len(items) for items in shown] == [50, 50, 20, 0]
    assert [item for items in shown for item in items] == expected


def test_an_item(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", remember=600)
    jobs.update(["a", "b", "c", r"C:\temp", "x\ny"], score=lambda item: {"a": 1, "b": 2}.get(item, 9))
    jobs.reserve(lease=60)
    jobs.reserve().bury("ValueError: <b>")
    assert 'badge leased">leased' in page.get("/sets/jobs/item?find=a").text
    dead = page.get("/sets/jobs/item?find=b").text
    assert "ValueError: &lt;b&gt;" in dead
    assert page.get("/sets/jobs/item?find=z").status_code == 404
    for typed in (r"C:\temp", r"C:\\temp", r"x\x0ay"):
        assert "waiting</span>" in page.get("/sets/jobs/item", params={"find": typed}).text, typed
    assert page.get("/sets/jobs/item").status_code == 404


def test_names_of_sets(page: Visitor, raw: Any) -> None:
    names = ["a/b", "..", ".", "a b", "~x", "é", "{tag}x", "x" * 300, "x" * 299 + "y", "a?b#c", "%2e%2e", "<b>", "a\\b"]
    for name in names:
        redset.SortedSet(raw, name).add("item of " + name[:5])
    links = re.findall(r'<a href="(sets/[^"]*/)"', page.get("/").text)
    assert len(links) == len(set(links)) == len(names)
    for link in links:
        assert re.fullmatch(r"sets/[A-Za-z0-9_~-]+/", link)
        assert "item of" in page.get(f"/{link}").text


class TestTheLivePart:
    HEADERS: ClassVar = {"x-redset-fragment": "1"}

    def test_it_is_in_the_page(self, page: Visitor, raw: Any) -> None:
        redset.SortedSet(raw, "jobs").add("a")
        for path in ("/", "/sets/jobs/"):
            whole, part = page.get(path), page.get(path, headers=self.HEADERS)
            assert "<html" in whole.text
            assert "<html" not in part.text
            assert f'data-etag="{whole.headers["etag"]}"'.replace('"', "&#34;") in whole.text.replace(
                'data-etag="', "data-etag=&#34;"
            ).replace('">', "&#34;>")

    def test_what_has_not_changed_is_not_sent(self, page: Visitor, raw: Any) -> None:
        jobs = redset.SortedSet(raw, "jobs")
        jobs.add("a")
        first = page.get("/sets/jobs/?show=waiting", headers=self.HEADERS)
        again = self.HEADERS | {"if-none-match": first.headers["etag"]}
        unchanged = page.get("/sets/jobs/?show=waiting", headers=again)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        jobs.add("b")
        changed = page.get("/sets/jobs/?show=waiting", headers=again)
        assert changed.status_code == 200
        assert changed.headers["etag"] != first.headers["etag"]


def test_many_pages_read_the_figures_once(aio_page: Visitor, raw: Any) -> None:
    for n in range(30):
        redset.SortedSet(raw, f"set{n}").add("a")
    aio_page.get("/")
    raw.config_resetstat()
    for _ in range(10):
        aio_page.get("/")
    calls = raw.info("commandstats")
    assert calls.get("cmdstat_evalsha", {"calls": 0})["calls"] <= 60


def test_no_page_reads_a_whole_set(aio_page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    jobs.update([f"item-{n}" for n in range(20_000)])
    for start in range(3):
        reservations = jobs.reserve_many(2000)
        if start:
            for reservation in reservations[:100]:
                reservation.bury("no")
    raw.config_resetstat()
    for show in ("waiting", "leased", "dead", "totals"):
        aio_page.get(f"/sets/jobs/?show={show}")
    aio_page.get("/")
    assert raw.info("stats")["total_net_output_bytes"] < 150_000


@pytest.mark.soak
def test_a_thousand_sets(visit: Callable[..., Visitor], raw: Any) -> None:
    for n in range(1000):
        jobs = redset.TimeSortedSet(raw, f"set{n}")
        jobs.update(map(str, range(10)))
        jobs.reserve()

    def seconds() -> float:
        """The processor time of the server: on a machine with others, all else is longer."""
        used = raw.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    best = math.inf
    for _ in range(5):
        # A new application has read nothing yet.
        visitor = visit()
        before = seconds()
        shown = visitor.get("/?page=3")
        best = min(best, seconds() - before)
    assert "1,000 sets" in shown.text
    assert len(shown.content) < 400_000
    assert best < 0.1


def test_a_set_that_another_program_has_written_to(page: Visitor, raw: Any) -> None:
    redset.SortedSet(raw, "good").add("a")
    redset.SortedSet(raw, "bad").add("a")
    raw.delete("bad")
    raw.set("bad", "<i>")
    raw.hset("redset:sets", mapping={"no-json": "{", "strange": '{"kind": "Nonsense"}', "list": "[]"})
    shown = page.get("/")
    assert shown.status_code == 200
    assert names_on(shown.text)[:1] == ["good"]
    assert "Sets that cannot be read" in shown.text
    assert page.get("/sets/bad/").status_code == 409


def test_strange_fields(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    jobs.update(["a", "b", "c"])
    jobs.reserve().bury("no")
    jobs.reserve()
    keys = Keys("jobs")
    raw.hset(keys.letters, "a", "no letter")
    raw.hset(keys.deliveries, "b", "\xff x")
    raw.hset(keys.meta, mapping={"gate": "x", "maxsize": "-", "added": "many", "layout2": "\xff"})
    raw.lpush(keys.history, "x", "", "1 2 3")
    for path in ("/", *(f"/sets/jobs/?show={show}" for show in ("waiting", "leased", "dead", "totals"))):
        assert page.get(path).status_code == 200, path


def test_the_server_is_away(visit: Callable[..., Visitor], runner: Any) -> None:
    server = Server()

    async def client_of_loop() -> Any:
        return server.client(awaited=True)

    client = runner.run(client_of_loop())
    page = visit(app=redset.web.app(client))
    assert page.get("/").status_code == 200
    server.kill()
    time.sleep(1.1)
    for path in ("/", "/sets/jobs/"):
        shown = page.get(path)
        assert shown.status_code == 503
        assert "does not answer" in shown.text
    assert page.get("/static/style.css").status_code == 200
    runner.run(close_awaited(client))


def test_metrics(visit: Callable[..., Visitor], raw: Any) -> None:
    from prometheus_client import CollectorRegistry

    from redset.metrics import Collector

    registry = CollectorRegistry()
    registry.register(Collector(raw))
    redset.SortedSet(raw, "jobs").add("a")
    answer = visit(metrics=registry).get("/metrics")
    assert 'redset_items{set="jobs",state="waiting"} 1.0' in answer.text
    assert visit().get("/metrics").status_code == 404
    assert visit(metrics=registry, access=lambda request: None).get("/metrics").status_code == 403


class TestCharts:
    def samples(self, now: float, *points: tuple[float, int]) -> list[Sample]:
        from dataclasses import replace

        return [Sample(now - minutes * 60, replace(NOTHING, leased=leased)) for minutes, leased in points]

    def test_rates(self) -> None:
        from dataclasses import replace

        now = 1e9
        found = rates(self.samples(now, (10, 0), (5, 50)), replace(NOTHING, leased=50), CLAIMS, now)
        assert len(found) == 60
        assert found[50:55] == pytest.approx([10] * 5)
        assert sum(found) == pytest.approx(50)

    def test_nothing_is_known(self) -> None:
        assert rates([], NOTHING, CLAIMS, 1e9) == [0] * 60
        assert sum(rates(self.samples(1e9, (500, 3)), NOTHING, CLAIMS, 1e9)) == 0

    def test_totals_that_decrease_or_lie_in_the_future(self) -> None:
        found = rates(self.samples(1e9, (10, 50), (5, 0), (-5, 100)), NOTHING, CLAIMS, 1e9)
        assert all(value >= 0 for value in found)

    def test_pictures(self) -> None:
        for values in ([], [0.0] * 60, [1e12] * 60, [0.001] * 60):
            assert "<svg" in sparkline(values, "<b>")
            assert "&lt;b&gt;" in sparkline(values, "<b>")
            drawn = chart([("claims", "<i>", values)], 1e9)
            assert "<i>" not in drawn
            assert "style=" not in drawn


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        ({}, []),
        ({"dead": 3}, ["dead"]),
        ({"paused_until": float("inf")}, ["paused"]),
        ({"waiting": 5, "due": 5, "lag": 300.0}, ["starving", "lagging"]),
        ({"waiting": 5, "due": 5, "lag": 300.0, "leased": 1}, ["lagging"]),
        # Nobody has claimed anything yet: the set may have been made just now.
        ({"waiting": 5, "due": 5, "lag": 5.0}, []),
        ({"waiting": 5, "due": 5}, ["starving"]),
        ({"waiting": 5, "due": 0}, []),
        ({"waiting": 5, "due": 5, "paused_until": 2e9, "lag": 300.0}, ["paused"]),
        ({"expired": 2}, ["expired"]),
    ],
)
def test_troubles(stats: dict[str, Any], words: list[str]) -> None:
    names = ("waiting", "due", "leased", "expired", "delayed", "parked", "done", "dead")
    none: dict[str, Any] = dict.fromkeys(names, 0)
    known = redset.Stats(**none, oldest_score=None, lag=None)
    from dataclasses import replace

    one = Overview(SetInfo("x", "SortedSet"), None, replace(known, **stats), NOTHING, 0, None, 1e9, None)
    assert [trouble.word for trouble in troubles(one)] == words


def test_an_idle_consumer_is_no_starving(aio_page: Visitor, here: Place, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    jobs.add("a")
    jobs.take(1)
    assert "starving" not in aio_page.get("/").text
