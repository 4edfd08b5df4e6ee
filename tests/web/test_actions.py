"""Each action, and what it does to the set on the server."""

import time
from typing import Any

import pytest

import redset
import redset.web.actions
from redset.core.registry import SetInfo
from redset.web.texts import encoded, kind_digest
from visitors import Visitor


def fill(client: Any, **options: Any) -> redset.SortedSet[str]:
    """A set with three dead letters, two leases, a delayed item, and three waiting ones."""
    jobs = redset.SortedSet(client, "jobs", max_attempts=1, backoff=lambda _: 60, **options)
    jobs.update(["a", "b", "c", "d", "e", "f", "g", "h", "i"], score=lambda item: ord(item))
    for reservation, reason in zip(jobs.reserve_many(3), ("ValueError: 1", "ValueError: 2", "OSError"), strict=True):
        reservation.bury(reason)
    jobs.reserve_many(2)
    # Over shards, only claims of several items take the lowest ones.
    others = redset.SortedSet(client, "jobs", backoff=lambda _: 60, **options)
    others.nack(others.reserve_many(1))
    stats = jobs.stats()
    assert (stats.waiting, stats.leased, stats.delayed, stats.dead) == (3, 2, 1, 3)
    return jobs


def item_in(jobs: Any, state: str) -> str:
    """An item in a state: over shards, claims take other items than the lowest."""
    return next(item for item in "abcdefghi" if jobs.state(item) == state)


@pytest.mark.parametrize("shards", [None, 3])
class TestOneItem:
    def test_retry(self, page: Visitor, raw: Any, shards: int | None) -> None:
        jobs = fill(raw, shards=shards)
        item = item_in(jobs, "dead")
        done = page.confirm(f"/sets/jobs/retry?item={item}")
        assert (done.status_code, done.headers["location"]) == (303, "./?show=dead&done=retry&n=1")
        assert (jobs.state(item), jobs.stats().dead) == ("waiting", 2)

    def test_forget(self, page: Visitor, raw: Any, shards: int | None) -> None:
        jobs = fill(raw, shards=shards)
        item = item_in(jobs, "dead")
        page.confirm(f"/sets/jobs/forget?item={item}")
        assert (jobs.state(item), jobs.stats().dead) == (None, 2)

    @pytest.mark.parametrize("state", ["waiting", "leased", "delayed"])
    def test_discard(self, page: Visitor, raw: Any, shards: int | None, state: str) -> None:
        jobs = fill(raw, shards=shards)
        item = item_in(jobs, state)
        page.confirm(f"/sets/jobs/discard?item={item}")
        assert jobs.state(item) is None
        assert len(jobs) + jobs.stats().leased + jobs.stats().delayed == 5

    @pytest.mark.parametrize("state", ["leased", "delayed"])
    def test_requeue(self, page: Visitor, raw: Any, shards: int | None, state: str) -> None:
        jobs = fill(raw, shards=shards)
        item = item_in(jobs, state)
        page.confirm(f"/sets/jobs/requeue?item={item}")
        assert jobs.state(item) == "waiting"
        assert jobs.score(item) == ord(item)

    def test_an_item_that_is_in_another_state_by_now(self, page: Visitor, raw: Any, shards: int | None) -> None:
        jobs = fill(raw, shards=shards)
        item = item_in(jobs, "waiting")
        for action in ("retry", "forget", "requeue"):
            done = page.confirm(f"/sets/jobs/{action}?item={item}")
            assert done.headers["location"].endswith(f"&done={action}&n=0")
        assert jobs.state(item) == "waiting"


@pytest.mark.parametrize("shards", [None, 3])
class TestManyLetters:
    def test_retry_all(self, page: Visitor, raw: Any, shards: int | None) -> None:
        jobs = fill(raw, shards=shards)
        assert page.confirm("/sets/jobs/retry?all=1").headers["location"].endswith("n=3")
        assert (jobs.stats().dead, jobs.totals().retried) == (0, 3)

    def test_forget_all(self, page: Visitor, raw: Any, shards: int | None) -> None:
        jobs = fill(raw, shards=shards)
        page.confirm("/sets/jobs/forget?all=1")
        assert (jobs.stats().dead, jobs.totals().dead_removed) == (0, 3)

    @pytest.mark.parametrize("action", ["retry", "forget"])
    def test_all_of_a_reason(self, page: Visitor, raw: Any, shards: int | None, action: str) -> None:
        jobs = fill(raw, shards=shards)
        page.confirm(f"/sets/jobs/{action}?kind={kind_digest('ValueError: …')}")
        assert [letter.reason for letter in jobs.dead_letters] == ["OSError"]

    def test_in_steps(self, page: Visitor, raw: Any, shards: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redset.web.actions, "LONGEST_STEP", -1)
        monkeypatch.setattr(redset.web.actions, "LETTERS", 7)
        jobs = redset.SortedSet(raw, "jobs", shards=shards)
        jobs.update([str(n) for n in range(50)])
        for n, reservation in enumerate(jobs.reserve_many(50)):
            reservation.bury("odd" if n % 2 else "even")
        first = page.post("/sets/jobs/retry", {"kind": kind_digest("odd")})
        assert first.status_code == 200
        assert "of 50 dead letters read" in first.text
        assert 40 <= jobs.stats().dead < 50
        page.confirm(f"/sets/jobs/retry?kind={kind_digest('odd')}")
        assert {letter.reason for letter in jobs.dead_letters} == {"even"}
        page.confirm("/sets/jobs/forget?all=1")
        assert (jobs.stats().dead, len(jobs)) == (0, 25)


def test_a_forged_progress_harms_nothing(aio_page: Visitor, raw: Any) -> None:
    jobs = fill(raw)
    for fields in (
        {"left": "99999999999999999999", "total": "-1", "skip": "x", "done": "1", "shard": "7"},
        {"left": "5", "skip": "1000000"},
        {"left": "0"},
    ):
        assert aio_page.post("/sets/jobs/retry", {"all": "1"} | fields).status_code == 303
    assert jobs.stats().dead == 3


class TestTheSet:
    def test_clear_without_the_tick(self, aio_page: Visitor, raw: Any) -> None:
        jobs = fill(raw)
        assert aio_page.post("/sets/jobs/clear", {}).status_code == 400
        assert len(jobs) == 3

    def test_pause_and_resume(self, page: Visitor, raw: Any) -> None:
        jobs = fill(raw)
        page.confirm("/sets/jobs/pause", minutes="10")
        assert jobs.stats().paused_until == pytest.approx(time.time() + 600, abs=30)
        page.confirm("/sets/jobs/pause")
        assert jobs.stats().paused_until == float("inf")
        page.confirm("/sets/jobs/resume")
        assert jobs.stats().paused_until is None

    def test_limit(self, page: Visitor, raw: Any) -> None:
        jobs = fill(raw)
        page.confirm("/sets/jobs/limit", rate="2.5", per="10", burst="3", leases="4", maxsize="500")
        limits = jobs.stats().limits
        assert limits == redset.Limits(2.5, 10.0, 3, 4, 500)
        shown = page.get("/sets/jobs/limit").text
        for value in ("2.5", "10", "3", "4", "500"):
            assert f'value="{value}"' in shown
        page.confirm("/sets/jobs/limit", rate="", per="", burst="", leases="", maxsize="")
        assert jobs.stats().limits is None

    @pytest.mark.parametrize(
        "fields",
        [{"rate": "x"}, {"rate": "-1"}, {"rate": "nan"}, {"leases": "1.5"}, {"burst": "3"}, {"maxsize": "1e99"}],
    )
    def test_limits_that_cannot_be(self, aio_page: Visitor, raw: Any, fields: dict[str, str]) -> None:
        jobs = fill(raw)
        done = aio_page.post("/sets/jobs/limit", fields)
        assert done.status_code == 400
        assert 'role="alert"' in done.text
        assert jobs.stats().limits is None

    def test_clear(self, page: Visitor, raw: Any) -> None:
        jobs = fill(raw)
        assert page.confirm("/sets/jobs/clear", sure="on").headers["location"].endswith("done=clear&n=1")
        assert (len(jobs), jobs.stats().leased, jobs.stats().dead) == (0, 0, 0)
        assert page.confirm("/sets/jobs/clear", sure="on").headers["location"].endswith("done=clear&n=0")


def test_a_group(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", group=lambda item: item[:2], per_group=redset.Limit(1))
    jobs.update(["é/1", "b/2"])
    assert "é/" in page.get("/sets/jobs/?show=groups").text
    name = encoded("é/".encode())
    page.confirm(f"/sets/jobs/pause?group={name}", minutes="5")
    assert jobs.group("é/").stats().paused_until == pytest.approx(time.time() + 300, abs=30)
    assert f"resume?group={name}" in page.get("/sets/jobs/?show=groups").text
    page.confirm(f"/sets/jobs/resume?group={name}")
    assert jobs.group("é/").stats().paused_until is None

    assert f"limit?group={name}" in page.get("/sets/jobs/?show=groups").text
    assert page.confirm(f"/sets/jobs/limit?group={name}", leases="3", pause="0.5").status_code == 303
    assert jobs.group("é/").stats().limit == redset.Limit(3, 0.5)
    assert 'value="0.5"' in page.get(f"/sets/jobs/limit?group={name}").text
    assert page.get("/sets/jobs/limit?group=").status_code == 404
    assert page.post("/sets/jobs/pause", {"minutes": "1e308"}).status_code == 400
    for fields in {"leases": "1.5"}, {"pause": "x"}, {"leases": "-1"}:
        assert page.post("/sets/jobs/limit", {"group": name} | fields).status_code == 400
    assert jobs.group("é/").stats().limit == redset.Limit(3, 0.5)
    page.confirm(f"/sets/jobs/limit?group={name}", leases="", pause="")
    assert jobs.group("é/").stats().limit == redset.Limit(1)


def test_a_keyed_set_names_items_by_their_keys(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", key=lambda item: item.partition(":")[0], max_attempts=1)
    jobs.update(["k1:value", "k2:value"])
    jobs.reserve().bury("no")
    jobs.reserve()
    shown = page.get("/sets/jobs/?show=dead").text
    assert "k1:value" in shown
    page.confirm("/sets/jobs/retry?item=k1")
    page.confirm("/sets/jobs/requeue?item=k2")
    assert sorted(jobs) == ["k1:value", "k2:value"]


def test_a_remembered_item_is_forgotten(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", remember=600)
    jobs.add("a")
    jobs.reserve().ack()
    assert "done" in page.get("/sets/jobs/item?find=a").text
    page.confirm("/sets/jobs/forget?item=a")
    assert not jobs.is_done("a")


def test_an_expiring_set(page: Visitor, raw: Any) -> None:
    seen = redset.ExpiringSet(raw, "seen", ttl=600)
    seen.add_new(["a", "b"])
    assert "item?item=a" in page.get("/sets/seen/").text
    assert "10 min" in page.get("/sets/seen/item?find=a").text
    page.confirm("/sets/seen/discard?item=a")
    assert set(seen) == {"b"}
    assert page.get("/sets/seen/retry?item=a").status_code == 404
    page.confirm("/sets/seen/clear", sure="on")
    assert len(seen) == 0


def test_a_periodic_set(page: Visitor, raw: Any) -> None:
    feeds = redset.PeriodicSet(raw, "feeds", interval=60)
    feeds.add("a", interval=7)
    feeds.add("b")
    feeds.reserve()
    assert page.get("/sets/feeds/").status_code == 200
    page.confirm("/sets/feeds/requeue?item=a")
    assert feeds.state("a") == "waiting"
    assert feeds.interval("a") == 7


@pytest.mark.parametrize("length", [151, 900, 5000, 100_000])
def test_a_large_item_is_named_by_its_digest(page: Visitor, raw: Any, length: int) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    large, like_it = "x" * length, "x" * (length - 1) + "y"
    jobs.update(["small", large, like_it], score=lambda item: len(item) + (item == like_it))
    shown = page.get("/sets/jobs/?show=waiting").text
    assert (large in shown) == (length <= 200)
    links = [link.replace("&amp;", "&") for link in _links(shown, "discard")]
    assert [("digest" in link) for link in links] == [False, True, True]
    page.confirm(f"/sets/jobs/{links[1]}")
    assert set(jobs) == {"small", like_it}
    assert page.get(f"/sets/jobs/{links[1]}").status_code == 404


def test_a_large_dead_letter(page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    jobs.update([f"{n}" * 3000 for n in range(1, 6)])
    for reservation in jobs.reserve_many(5):
        reservation.bury("no")
    (link, *_) = _links(page.get("/sets/jobs/?show=dead").text, "retry")
    page.confirm(f"/sets/jobs/{link}")
    assert (len(jobs), jobs.stats().dead) == (1, 4)
    page.confirm("/sets/jobs/retry?all=1")
    assert (len(jobs), jobs.stats().dead) == (5, 0)


def test_large_items_that_look_alike_are_not_confused(aio_page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    items = ["a" * 5000 + middle + "a" * 5000 for middle in "xy"]
    jobs.update(items)
    (link, _) = _links(aio_page.get("/sets/jobs/").text, "discard")
    refused = aio_page.get(f"/sets/jobs/{link}")
    assert refused.status_code == 404
    assert "look alike" in refused.text, refused.text

    jobs.discard(items[1])
    fields = aio_page.get(f"/sets/jobs/{link}").text
    assert 'name="whole"' in fields
    # Between the confirmation and its form, another item comes to look like it.
    jobs.discard(items[0])
    jobs.add(items[1])
    from visitors import fields_of

    assert aio_page.post("/sets/jobs/discard", fields_of(fields)).status_code == 404
    assert set(jobs) == {items[1]}


def _links(page: str, action: str) -> list[str]:
    import re

    return [
        link.replace("&amp;", "&")
        for link in re.findall(rf'href="({action}\?[^"]*)"', page)
        if "all=" not in link and "kind=" not in link
    ]


@pytest.mark.parametrize("client", ["raw", "aio"])
def test_what_can_be_requeued(client: str) -> None:
    assert redset.web.actions.can_end_delay(SetInfo("x", "SortedSet", {"keyed": False}))
    assert not redset.web.actions.can_end_delay(SetInfo("x", "SortedSet", {"keyed": True}))
    assert not redset.web.actions.can_end_delay(SetInfo("x", "PeriodicSet"))


def test_an_action_that_does_not_fit(aio_page: Visitor, raw: Any) -> None:
    fill(raw)
    for path in ("pause?item=a", "clear?all=1", "discard", "retry", "limit?group=a", "pause?group=a", "nonsense"):
        assert aio_page.get(f"/sets/jobs/{path}").status_code == 404, path
    for fields in ({"item": "~zz"}, {"digest": "x"}, {"digest": "x", "rows": "done"}, {"group": "%"}):
        assert aio_page.post("/sets/jobs/discard", fields).status_code == 404


def test_a_delayed_item_of_a_keyed_set_cannot_be_requeued(aio_page: Visitor, raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", key=lambda item: item, backoff=lambda _: 60)
    jobs.add("a")
    jobs.reserve().nack()
    assert "requeue" not in aio_page.get("/sets/jobs/?show=delayed").text
    done = aio_page.post("/sets/jobs/requeue", {"item": "a"})
    assert (done.status_code, jobs.state("a")) == (400, "delayed")
