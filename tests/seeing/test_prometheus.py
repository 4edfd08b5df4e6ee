"""What a scrape shows of sets, and that neither a server that is away nor an odd name breaks it."""

import itertools
import logging
import subprocess
import sys
import time
from dataclasses import fields
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import redset
import redset.aio
from programs import program
from redset.core.inspecting import Totals
from redset.metrics import Collector
from redset.metrics.prometheus import COUNTED
from redset.metrics.reading import label_of
from servers import FakeClock, Place, Server, wait_until


def scrape(client: Any, sets: Any = None) -> dict[tuple[str, ...], float]:
    """The samples of one scrape by name and labels, as Prometheus reads them."""
    metrics = CollectorRegistry()
    metrics.register(Collector(client, sets))
    samples = [
        sample
        for family in text_string_to_metric_families(generate_latest(metrics).decode())
        for sample in family.samples
    ]
    found = {(one.name, *(one.labels[label] for label in sorted(one.labels))): one.value for one in samples}
    assert len(found) == len(samples), "each sample has a name and labels of its own"
    return found


@pytest.mark.conformance
def test_items_are_shown_by_state(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", remember=1000)
    jobs.update("abcdefgh", score=ord)
    jobs.reserve().ack()
    jobs.reserve().bury()
    jobs.nack(jobs.reserve_many(2), delay=1000)
    held = jobs.reserve()
    jobs.add(held.item)
    expiring = jobs.reserve()
    expiring.extend(0.01)
    wait_until(lambda: jobs.stats().expired == 1)

    found = scrape(raw)

    states = {state: found["redset_items", "jobs", state] for state in ("waiting", "leased", "expired", "delayed")}
    assert states == {"waiting": 2, "leased": 1, "expired": 1, "delayed": 2}
    assert (found["redset_items", "jobs", "parked"], found["redset_items", "jobs", "done"]) == (1, 1)
    assert (found["redset_items", "jobs", "dead"], found["redset_due_items", "jobs"], found["redset_up",]) == (1, 2, 1)


@pytest.mark.conformance
def test_each_total_is_a_counter(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(["read", "write"])
    jobs.add("read")
    jobs.pop()
    jobs.reserve().ack()

    found = scrape(raw)

    totals = jobs.totals()
    shown = {field.name: found[f"redset_items_{field.name}_total", "jobs"] for field in fields(Totals)}
    assert shown == {field.name: getattr(totals, field.name) for field in fields(Totals)}
    assert (shown["added"], shown["duplicates"], shown["taken"], shown["leased"], shown["acked"]) == (2, 1, 1, 1, 1)


def test_each_total_has_a_help_text() -> None:
    assert list(COUNTED) == [field.name for field in fields(Totals)]


def test_the_lag_grows_while_an_item_is_due(face: Any, clock: FakeClock, raw: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    seconds, _ = raw.time()
    jobs.add("read", score=seconds)
    jobs.add("write", score=seconds + 100)

    clock.advance(50)

    found = scrape(raw)
    assert 50 <= found["redset_lag_seconds", "jobs"] < 55
    assert (found["redset_items", "jobs", "waiting"], found["redset_due_items", "jobs"]) == (2, 1)


@pytest.mark.conformance
def test_scores_that_are_no_times_have_no_lag(face: Any, raw: Any) -> None:
    face.SortedSet("jobs").add("read")
    face.TimeSortedSet("by-length", scorer=len).add("read")
    face.TimeSortedSet("by-time").add("read")

    found = scrape(raw)

    assert {name: labels for name, *labels in found if name == "redset_lag_seconds"} == {
        "redset_lag_seconds": ["by-time"]
    }
    assert 0 <= found["redset_lag_seconds", "by-time"] < 60


@pytest.mark.conformance
def test_an_expiring_set_shows_its_living_items_only(face: Any, raw: Any) -> None:
    face.ExpiringSet("seen", ttl=1000).add_new("ab")

    assert [key for key in scrape(raw) if "seen" in key] == [("redset_items", "seen", "living")]
    assert scrape(raw)["redset_items", "seen", "living"] == 2


@pytest.mark.conformance
def test_a_periodic_and_a_keyed_set_are_shown_without_their_key(face: Any, raw: Any) -> None:
    face.PeriodicSet("feeds", interval=1000).add("/news")
    face.SortedSet("keyed", key=str.lower, remember=1000, digest=True).update(["A", "a", "B"])

    found = scrape(raw)

    assert found["redset_items", "feeds", "waiting"] == 1
    assert (found["redset_items", "keyed", "waiting"], found["redset_items_added_total", "keyed"]) == (2, 2)


@pytest.mark.conformance
def test_counters_go_on_when_a_set_is_drained(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("read")
    jobs.pop()
    assert redset.list_sets(raw) == []

    found = scrape(raw)

    assert (found["redset_items", "jobs", "waiting"], found["redset_items_taken_total", "jobs"]) == (0, 1)

    redset.forget_set(raw, "jobs")
    assert not [key for key in scrape(raw) if "jobs" in key]


@pytest.mark.conformance
def test_sets_can_be_chosen_by_name(face: Any, raw: Any) -> None:
    for name in "abc":
        face.SortedSet(name).add("read")

    found = scrape(raw, iter(["a", "c", "nobody has this one"]))

    assert {labels[0] for name, *labels in found if name == "redset_items"} == {"a", "c"}


@pytest.mark.parametrize("sets", ["jobs", b"jobs", [b"jobs"], [None], 5, True])
def test_what_is_no_iterable_of_names_is_refused(raw: Any, sets: Any) -> None:
    with pytest.raises(TypeError, match="names"):
        Collector(raw, sets)


def test_an_asyncio_client_is_refused(here: Place) -> None:
    with pytest.raises(TypeError):
        Collector(here.client("redis", awaited=True))
    with pytest.raises(TypeError):
        Collector(None)


def test_a_set_that_another_program_has_overwritten_hides_no_other(raw: Any, caplog: Any) -> None:
    for name in "abc":
        redset.SortedSet(raw, name).add("read")
    raw.delete("b")
    raw.set("b", "mine")

    found = scrape(raw)

    assert {labels[0] for name, *labels in found if name == "redset_items"} == {"a", "c"}
    assert [record.message for record in caplog.records if record.message.startswith("b: ")]


def test_a_set_that_cannot_be_read_is_logged_once(raw: Any, caplog: Any) -> None:
    redset.SortedSet(raw, "b").add("read")
    collector = Collector(raw, ["b", "\ud800"])
    list(collector.collect())
    for _ in range(2):
        raw.delete("b")
        raw.set("b", "mine")
        for _ in range(3):
            list(collector.collect())
        raw.delete("b")
        list(collector.collect())

    assert [record.message.partition(":")[0] for record in caplog.records] == [r"\U0000d800", "b", "b"]


NAMES = [
    'quo"te',
    "new\nline",
    "back\\slash",
    "\\n",
    "tab\t",
    "nul\0",
    "ümlaut",
    "日本",
    "{tag}x",
    "",
    " ",
    "\u202e",
    "\x85",
]


def test_odd_names_are_shown_as_different_labels(raw: Any) -> None:
    for name in NAMES:
        redset.SortedSet(raw, name).add("read")
    raw.hset("redset:sets", b"bytes \xff", '{"kind": "SortedSet"}')

    found = scrape(raw)

    assert {labels[0] for name, *labels in found if name == "redset_items"} >= {label_of(name) for name in NAMES}
    assert len({label_of(name) for name in NAMES}) == len(NAMES)
    assert (label_of("ümlaut"), label_of("new\nline"), label_of("back\\slash")) == (
        "ümlaut",
        r"new\x0aline",
        r"back\\slash",
    )


def test_no_two_names_have_one_label() -> None:
    pieces = ["\\", "x", "0", "a", "\n", "\x0a0", "\udcff", "\ud800", "\xff", "f", "\x85"]
    names = {"".join(chosen) for length in range(4) for chosen in itertools.product(pieces, repeat=length)}

    assert len({label_of(name) for name in names}) == len(names)
    for name in names:
        label_of(name).encode()


def test_a_server_that_is_away_is_down_and_raises_nothing(caplog: Any) -> None:
    server = Server("valkey-9.1")
    client = server.client()
    redset.SortedSet(client, "jobs").add("read")
    metrics = CollectorRegistry()
    server.stop()

    metrics.register(Collector(client))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            samples = [sample for family in metrics.collect() for sample in family.samples]
            assert [(sample.name, sample.value) for sample in samples] == [("redset_up", 0)]

    assert len(caplog.records) == 1, "an outage is logged once"


def test_it_is_up_again_when_the_server_is(raw: Any) -> None:
    server = Server("valkey-9.1")
    metrics = CollectorRegistry()
    metrics.register(Collector(server.client()))

    def is_up() -> bool:
        return metrics.get_sample_value("redset_up") == 1

    assert is_up()
    server.kill()
    assert not is_up()
    server.restart()
    assert is_up()
    server.stop()


def test_an_outage_is_known_before_a_scrape_times_out() -> None:
    server = Server("valkey-9.1")
    client = redset.connect(server.url)
    metrics = CollectorRegistry()
    metrics.register(Collector(client))
    assert metrics.get_sample_value("redset_up") == 1
    server.stop()

    began = time.monotonic()
    assert metrics.get_sample_value("redset_up") == 0
    assert time.monotonic() - began < 10, "the time that Prometheus gives a scrape; the client would try ten times"


def test_describing_asks_no_server() -> None:
    client = redset.connect("redis://localhost:1")
    collector = Collector(client)

    described = {family.name for family in collector.describe()}

    assert {"redset_up", "redset_items", "redset_lag_seconds", "redset_items_added"} <= described


@pytest.mark.conformance
def test_all_that_is_collected_was_described(face: Any, raw: Any) -> None:
    face.SortedSet("jobs").add("read")
    collector = Collector(raw)

    described = {(family.name, family.type) for family in collector.describe()}

    assert {(family.name, family.type) for family in collector.collect()} <= described


def test_the_memory_of_the_server_is_shown(here: Place, raw: Any) -> None:
    if not isinstance(here, Server):
        pytest.skip("a single server has one memory")

    found = scrape(raw)

    assert found["redset_server_memory_used_bytes",] > 100_000
    assert found["redset_server_memory_max_bytes",] == 0


def test_the_names_follow_the_rules_of_prometheus(face: Any, raw: Any) -> None:
    promtool = program("promtool")
    face.TimeSortedSet("jobs").add("read")
    face.ExpiringSet("seen", ttl=10).add("read")
    metrics = CollectorRegistry()
    metrics.register(Collector(raw))

    done = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(metrics), capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("call", "package", "extra"),
    [("Collector(None)", "prometheus_client", "prometheus"), ("instrument()", "opentelemetry", "otel")],
)
def test_a_missing_extra_is_named(call: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import redset.metrics; redset.metrics.{call}"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert f'pip install "redset[{extra}]"' in done.stderr.splitlines()[-1]


def test_importing_the_module_imports_neither_library() -> None:
    code = "import sys, redset.metrics; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {name.partition(".")[0] for name in done.stdout.split()} & {"prometheus_client", "opentelemetry"}
