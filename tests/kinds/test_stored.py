"""What this release stores is read by those after it, and what another layout stores is refused with advice."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

import redset
import redset.web
import stored
from redset.cli.top import Screen
from redset.core import overview, registry
from redset.core.drivers import Driver
from redset.core.keys import Keys
from redset.exceptions import LayoutError
from visitors import Visitor

KEPT = stored.kept()
OTHERS = sorted(set(stored.KINDS) - {"expiring"})


@pytest.fixture
def restored(raw: Any) -> Any:
    """A client of a server on which everything is as the release has stored it."""
    stored.restore(raw, KEPT["keys"])
    return raw


def test_what_is_stored_now_has_the_shape_of_the_file_of_this_layout(raw: Any) -> None:
    """If not, the releases of this layout may misread it: raise the version, and keep a file of the new layout."""
    stored.make_all(raw)
    assert stored.shapes(stored.read_all(raw)) == stored.shapes(KEPT["keys"])


@pytest.mark.parametrize("name", OTHERS)
def test_items_in_all_states_are_found_again(restored: Any, name: str) -> None:
    jobs = stored.KINDS[name](restored)
    states = KEPT["states"][name]
    assert {"dead", "delayed", "leased", "waiting"} <= set(states.values())
    assert stored.states_of(jobs) == states
    assert [letter.reason for letter in jobs.dead_letters] == ["it is over"]
    assert jobs.stats().limits.maxsize == stored.MOST
    totals = jobs.totals()
    assert (totals.acked, totals.buried, totals.nacked) == (1, 1, 1)


@pytest.mark.parametrize("name", OTHERS)
def test_each_item_is_claimed_and_ended_once_more(restored: Any, name: str) -> None:
    jobs = stored.KINDS[name](restored)
    last = "waiting, and newer" if name == "keyed" else "waiting"
    assert jobs.take(2) == [last]
    jobs.reservation(KEPT["receipts"][name]).ack()
    held = jobs.dead_letters.retry("dead") and jobs.reserve()
    assert (held.item, held.attempt) == ("dead", 1)
    held.ack()
    assert jobs.totals().acked == 3


def test_values_and_groups_are_found_again(restored: Any) -> None:
    assert stored.KINDS["keyed"](restored).get("wait") == "waiting, and newer"
    for name in "grouped", "fair":
        group = stored.KINDS[name](restored).group("w").stats()
        assert (group.waiting, group.limit) == (1, redset.Limit(leases=7))
    seen = stored.KINDS["expiring"](restored)
    assert (seen.add("seen"), seen.add("new"), seen.count()) == (False, True, 2)


def test_tools_know_the_sets(restored: Any) -> None:
    assert {one.name for one in redset.list_sets(restored)} == set(stored.KINDS)


@pytest.mark.parametrize("name", stored.KINDS)
@pytest.mark.parametrize(("version", "advice"), [("2 ", "by a newer redset.*upgrade redset here"), ("", "by an older")])
def test_another_layout_is_refused_and_nothing_changes(restored: Any, name: str, version: str, advice: str) -> None:
    if name == "sharded":
        record = restored.hget(name, "layout").decode()
        restored.hset(name, "layout", record.replace('"form": "1 ', f'"form": "{version}'))
    else:
        meta = Keys(name).meta
        restored.hset(meta, "layout", version + restored.hget(meta, "layout").decode().partition(" ")[2])
    jobs = stored.KINDS[name](restored)
    before = stored.read_all(restored)
    for call in CALLS if name != "expiring" else CALLS[:2]:
        with pytest.raises(LayoutError, match=f"the set '{name}' is stored in layout .*{advice}"):
            call(jobs)
    assert stored.read_all(restored) == before


CALLS: list[Callable[[Any], Any]] = [
    lambda jobs: jobs.add("new"),
    lambda jobs: jobs.discard("waiting"),
    lambda jobs: jobs.take(1),
    lambda jobs: jobs.reserve(),
    lambda jobs: jobs.clear(),
    lambda jobs: jobs.update(["new", "waiting"]),
    lambda jobs: jobs.remove_between(0, 10**12),
    lambda jobs: jobs.dead_letters.retry("dead"),
    lambda jobs: jobs.dead_letters.discard("dead"),
    lambda jobs: jobs.limit(leases=5),
    lambda jobs: jobs.pause(),
]

#: The next release: takes what waits, once the set is stored in its layout.
NEXT_RELEASE = """
import sys
import redset.core.forms
redset.core.forms.VERSION += 1
jobs = redset.SortedSet(redset.connect(sys.argv[1]), "jobs")
try:
    print(*(held.item for held in jobs.consume(wait=0)))
except redset.LayoutError as error:
    sys.exit(str(error))
"""


def test_two_releases_at_work_on_one_set_lose_nothing(here: Any, raw: Any) -> None:
    """The one before the upgrade ends its leases, and is refused all else; the one behind it gets the other items."""

    def run_next_release() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", NEXT_RELEASE, here.url]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    jobs = redset.SortedSet[str](raw, "jobs")
    jobs.update("abcde")
    loop = jobs.consume(wait=0, batch=2)
    assert [next(loop).item, next(loop).item] == ["a", "b"]

    refused = run_next_release()
    assert refused.returncode == 1
    assert "by an older redset" in refused.stderr

    raw.hset(Keys("jobs").meta, "layout", "2 sorted")
    with pytest.raises(LayoutError, match="upgrade redset here"):
        next(loop)
    assert loop.lost == 0
    with pytest.raises(LayoutError, match="upgrade redset here"):
        jobs.add("f")
    assert run_next_release().stdout.split() == ["c", "d", "e"]
    assert raw.zcard(Keys("jobs").leased) == 0
    assert int(raw.hget(Keys("jobs").meta, "acked")) == 5


#: What another program, or a later version, may have written into the record of a set over shards.
RECORDS = [
    *(b"[1]", b"5", b"{}", b"\xff", b"null", b'"x"'),
    b'{"version": 2, "form": "2 sorted", "parts": [1]}',
    *(
        json.dumps({"generation": 0, "shards": 2, "form": "1 sorted", "digest": False, "past": []} | change).encode()
        for change in (
            *({"shards": "x"}, {"shards": 2.5}, {"shards": 0}, {"shards": -1}, {"shards": 10**9}, {"shards": True}),
            *({"form": 3}, {"form": None}, {"past": "abc"}, {"past": [1, 2, "x"]}, {"past": 5}, {"past": [2] * 2000}),
            *({"generation": "q"}, {"generation": None}, {"generation": -1}, {"digest": 1}),
        )
    ),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_of_shards_that_cannot_be_read_stops_no_other_set(restored: Any, record: bytes) -> None:
    restored.hset("sharded", "layout", record)
    with pytest.raises(LayoutError, match="'sharded'"):
        stored.KINDS["sharded"](restored).add("new")
    with pytest.raises(LayoutError, match="'sharded'"):
        redset.reshard(restored, "sharded", 3)
    assert {one.name for one in redset.list_sets(restored)} == set(stored.KINDS)

    driver = Driver(restored, *registry.PLACE, recording=False, connections="own")
    infos = driver.follow(registry.infos(empty=True))
    found = dict(zip((one.name for one in infos), driver.follow(overview.overviews(driver, infos)), strict=True))
    assert [name for name, one in found.items() if isinstance(one, Exception)] == ["sharded"]
    shown = io.StringIO()
    Console(file=shown, width=120).print(Screen(restored).table(30, 120))
    assert "1 cannot be read, see 'redset ls': sharded" in shown.getvalue()

    assert redset.forget_set(restored, "sharded")
    assert "sharded" not in {one.name for one in redset.list_sets(restored)}
    jobs = stored.KINDS["sharded"](restored)
    assert jobs.add("new") is not None


def test_a_newer_record_is_forgotten_with_its_shards(restored: Any) -> None:
    record = json.loads(restored.hget("sharded", "layout"))
    restored.hset("sharded", "layout", json.dumps({"form": "2 sorted", "names": record["names"]}))
    redset.forget_set(restored, "sharded")
    assert not restored.keys("*sharded*")


def test_shards_of_another_layout_than_their_record_are_not_moved(restored: Any) -> None:
    name = json.loads(restored.hget("sharded", "layout"))["names"][1]
    restored.hset(Keys(name).meta, "layout", "2 sorted")
    before = stored.read_all(restored)
    with pytest.raises(LayoutError, match="the set 'sharded' is stored in layout 2"):
        redset.reshard(restored, "sharded", 3)
    assert stored.read_all(restored) == before


@pytest.mark.parametrize("name", ["plain", "sharded"])
def test_the_page_requeues_nothing_of_another_layout(restored: Any, name: str) -> None:
    names = json.loads(restored.hget(name, "layout"))["names"] if name == "sharded" else [name]
    for each in names:
        restored.hset(Keys(each).meta, "layout", "2 sorted")
    before = stored.read_all(restored)
    with asyncio.Runner() as runner:
        page = Visitor(runner, redset.web.app(restored))
        assert page.post(f"/sets/{name}/requeue", {"item": "leased"}).status_code == 409
    assert stored.read_all(restored) == before
