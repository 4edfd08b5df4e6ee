"""What OpenTelemetry is told of calls and of the processing of items, on both faces."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import redset
import redset.aio
from clients import close_awaited
from redset.core.observing import hooks
from redset.exceptions import DeserializationError
from redset.metrics import instrument
from servers import Place, Server, wait_until


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.traces.get_tracer("test")

    @property
    def spans(self) -> Any:
        return self.exporter.get_finished_spans()

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics
        return [
            point
            for resource in found
            for scope in resource.scope_metrics
            for one in scope.metrics
            for point in one.data.data_points
            if one.name == metric
        ]

    def numbers(self, metric: str, *attributes: str) -> dict[tuple[Any, ...], Any]:
        """The value of a metric, or for a histogram its count, by some attributes."""
        return {
            tuple(point.attributes.get(name) for name in attributes): getattr(point, "value", None)
            if hasattr(point, "value")
            else point.count
            for point in self.points(metric)
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    with instrument(meter_provider=seen.meters, tracer_provider=seen.traces):
        yield seen
    seen.meters.shutdown()
    seen.traces.shutdown()


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs", max_attempts=3)


NAME, TYPE, SET = "messaging.operation.name", "messaging.operation.type", "messaging.destination.name"
SYSTEM, ERROR = "messaging.system", "error.type"


# Calls


@pytest.mark.conformance
def test_items_that_are_sent_and_consumed_are_counted(jobs: Any, seen: Seen) -> None:
    jobs.update(f"{number:04}" for number in range(1500))
    jobs.add("more")
    jobs.add("more", nx=True)
    jobs.pop()
    jobs.take(1200)
    jobs.reserve()
    jobs.reserve_many(10)

    assert seen.numbers("messaging.client.sent.messages", SYSTEM, SET, NAME, TYPE) == {
        ("redset", "jobs", "add", "send"): 1502
    }
    assert seen.numbers("messaging.client.consumed.messages", SYSTEM, SET, NAME, TYPE) == {
        ("redset", "jobs", "take", "receive"): 1201,
        ("redset", "jobs", "reserve", "receive"): 11,
    }


@pytest.mark.conformance
@pytest.mark.parametrize("keyed", [False, True])
def test_items_of_every_kind_of_set_are_counted_as_they_are(face: Any, seen: Seen, keyed: bool) -> None:
    options = {"key": str.lower} if keyed else {}
    for kind in ("SortedSet", "TimeSortedSet", "ScheduledSet"):
        one = getattr(face, kind)(kind, duplicates="earliest", **options)
        one.update(["A", "B", "C"])
        one.add("D")
        one.increment("D", -1)
        assert len(one.take(9)) == 4
    feeds = face.PeriodicSet("PeriodicSet", interval=1000, **options)
    feeds.update(["A", "B", "C", "D"])
    feeds.add("E")
    assert len(feeds.take(9)) == 5
    face.ExpiringSet("seen", ttl=1000).add("A")

    sent = seen.numbers("messaging.client.sent.messages", SET)
    assert sent == {(kind,): 5 for kind in ("SortedSet", "TimeSortedSet", "ScheduledSet", "PeriodicSet")}
    consumed = seen.numbers("messaging.client.consumed.messages", SET)
    assert consumed == {("SortedSet",): 4, ("TimeSortedSet",): 4, ("ScheduledSet",): 4, ("PeriodicSet",): 5}


@pytest.mark.conformance
def test_each_call_has_a_duration_and_reads_have_none(jobs: Any, seen: Seen) -> None:
    jobs.update("abcdef", score=ord)
    jobs.reserve().ack()
    jobs.reserve().nack(delay=0)
    jobs.reserve().again()
    held = jobs.reserve()
    held.extend(100)
    held.bury("why")
    jobs.clear()
    with pytest.raises(KeyError):
        jobs.pop()
    _ = len(jobs), jobs.stats(), list(jobs), "a" in jobs

    assert seen.numbers("messaging.client.operation.duration", NAME, TYPE, ERROR) == {
        ("add", "send", None): 1,
        ("reserve", "receive", None): 4,
        ("take", "receive", None): 1,
        ("ack", "settle", None): 1,
        ("nack", "settle", None): 1,
        ("again", "settle", None): 1,
        ("extend", None, None): 1,
        ("bury", "settle", None): 1,
    }
    for point in seen.points("messaging.client.operation.duration"):
        assert 0 < point.sum < 60
        assert point.explicit_bounds[:2] == (0.005, 0.01)


def test_a_claim_that_waits_has_the_duration_of_its_calls(jobs: Any, seen: Seen) -> None:
    with pytest.raises(KeyError):
        jobs.pop(wait=2)

    (point,) = seen.points("messaging.client.operation.duration")
    assert point.count >= 2
    assert point.max < 1.5


def test_a_failed_call_has_the_type_of_its_error(frank: Any, frank_proxy: Any, seen: Seen) -> None:
    face, proxy = frank, frank_proxy
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    proxy.stop()
    with pytest.raises(Exception, match=r".") as raised:
        jobs.add("b")

    kind = type(raised.value)
    assert seen.numbers("messaging.client.sent.messages", ERROR) == {
        (None,): 1,
        (f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else kind.__qualname__,): 1,
    }


def test_coalesced_calls_are_counted_one_by_one(here: Place, seen: Seen) -> None:
    async def main() -> list[str]:
        client = here.client("redis", awaited=True)
        jobs = redset.aio.SortedSet(client, "jobs")
        await asyncio.gather(*(jobs.add(f"{number:03}") for number in range(100)))
        popped = await asyncio.gather(*(jobs.pop() for _ in range(100)))
        await close_awaited(client)
        return popped

    assert len(set(asyncio.run(main()))) == 100
    assert seen.numbers("messaging.client.sent.messages", NAME) == {("add",): 100}
    assert seen.numbers("messaging.client.consumed.messages", NAME) == {("take",): 100}


# Bodies


@pytest.mark.conformance
def test_each_body_of_a_loop_has_a_span(jobs: Any, seen: Seen) -> None:
    jobs.update("abc", score=ord)
    jobs.reserve().nack(delay=0)

    for number, reservation in enumerate(jobs.consume(wait=0, batch=2)):
        assert len(seen.spans) == number
        assert reservation.item in "abc"

    assert [(span.name, span.attributes["redset.attempt"]) for span in seen.spans] == [
        ("process jobs", 2),
        ("process jobs", 1),
        ("process jobs", 1),
    ]
    for span in seen.spans:
        assert span.kind == trace.SpanKind.CONSUMER
        assert {name: span.attributes[name] for name in (SYSTEM, SET, NAME, TYPE)} == {
            SYSTEM: "redset",
            SET: "jobs",
            NAME: "process",
            TYPE: "process",
        }
        assert span.status.is_unset
    assert seen.numbers("messaging.process.duration", SET, NAME, ERROR) == {("jobs", "process", None): 3}
    assert jobs.totals().acked == 3


@pytest.mark.conformance
@pytest.mark.parametrize("in_loop", [False, True])
def test_an_error_inside_a_reservation_is_recorded(jobs: Any, seen: Seen, in_loop: bool) -> None:
    jobs.add("a")
    for reservation in jobs.consume(wait=0, stop=lambda: bool(seen.spans)) if in_loop else [jobs.reserve()]:
        with suppress(ZeroDivisionError), reservation:
            raise ZeroDivisionError("by design")

    (span,) = seen.spans
    assert (span.status.is_ok, span.status.is_unset) == (False, False)
    assert span.attributes[ERROR] == "ZeroDivisionError"
    (event,) = span.events
    assert event.attributes["exception.message"] == "by design"
    assert seen.numbers("messaging.process.duration", ERROR) == {("ZeroDivisionError",): 1}
    assert jobs.totals().nacked == 1


@pytest.mark.conformance
def test_a_reservation_as_a_block_in_a_loop_is_one_body(jobs: Any, seen: Seen) -> None:
    jobs.update("ab", score=ord)

    for reservation in jobs.consume(wait=0):
        with reservation as item:
            assert item == reservation.item
        assert len(seen.spans) == "ab".index(item), "the body of the loop goes on"

    assert len(seen.spans) == 2
    assert jobs.totals().acked == 2


@pytest.mark.conformance
@pytest.mark.parametrize("how", ["break", "close", "next"])
def test_leaving_a_loop_ends_the_span_of_its_item(jobs: Any, seen: Seen, how: str) -> None:
    jobs.update("ab", score=ord)
    loop = jobs.consume(wait=0)
    if how == "break":
        for _ in loop:
            break
        loop.close()
    else:
        next(loop)
        if how == "next":
            next(loop)
        loop.close()

    wait_until(lambda: len(seen.spans) == (2 if how == "next" else 1))
    assert all(span.status.is_unset for span in seen.spans)
    assert jobs.totals().nacked == 1
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_spans_of_a_body_are_children_of_its_span(here: Place, raw: Any, seen: Seen) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    jobs.update("ab", score=ord)

    with seen.tracer.start_as_current_span("program") as program:
        for _ in jobs.consume(wait=0):
            with seen.tracer.start_as_current_span("work"):
                pass
        assert trace.get_current_span() is program

    first, process, second, other, _ = seen.spans
    assert (first.name, second.name) == ("work", "work")
    assert first.parent.span_id == process.context.span_id
    assert second.parent.span_id == other.context.span_id
    assert process.parent.span_id == other.parent.span_id == program.get_span_context().span_id


def test_loops_that_take_turns_leave_no_span_behind(raw: Any, seen: Seen) -> None:
    one, other = redset.SortedSet(raw, "one"), redset.SortedSet(raw, "other")
    one.update("abc"), other.update("abc")

    with seen.tracer.start_as_current_span("program") as program:
        assert len(list(zip(one.consume(wait=0), other.consume(wait=0), strict=True))) == 3
        assert trace.get_current_span() is program
        one.add("d")
        with one.reserve():
            pass

    assert seen.spans[-2].parent.span_id == program.get_span_context().span_id
    assert {span.name for span in seen.spans[:-2]} == {"process one", "process other"}


def test_a_receipt_whose_item_cannot_be_loaded_begins_no_body(face: Any, jobs: Any, seen: Seen) -> None:
    jobs.add("no json")
    there = face.SortedSet("jobs", serializer=json).reservation(jobs.reserve().receipt)
    with pytest.raises(DeserializationError), there:
        raise AssertionError("the block is not entered")

    assert trace.get_current_span() is trace.INVALID_SPAN
    assert seen.spans == ()


def test_spans_of_an_async_body_are_children_of_its_span(here: Place, seen: Seen, caplog: Any) -> None:
    async def main() -> None:
        client = here.client("redis", awaited=True)
        jobs = redset.aio.SortedSet(client, "jobs")
        await jobs.update("abcd", score=ord)

        async def consume() -> None:
            async for reservation in jobs.consume(wait=0):
                with seen.tracer.start_as_current_span(f"work {reservation.item}"):
                    await asyncio.sleep(0.01)
                if reservation.item == "d":
                    await reservation.ack()
                    break
            assert trace.get_current_span() is trace.INVALID_SPAN, "the context of before is back"

        await asyncio.gather(consume(), consume())
        await jobs.add("e")
        async with await jobs.reserve() as item:
            with seen.tracer.start_as_current_span(f"work {item}"):
                pass
        assert trace.get_current_span() is trace.INVALID_SPAN
        await close_awaited(client)

    asyncio.run(main())

    processes = {span.context.span_id: span for span in seen.spans if span.name == "process jobs"}
    works = [span for span in seen.spans if span.name.startswith("work")]
    assert sorted(span.name for span in works) == [f"work {item}" for item in "abcde"]
    assert {span.parent.span_id for span in works} == set(processes)
    assert all(span.parent is None for span in processes.values())
    assert not caplog.records


def test_threads_have_spans_of_their_own(raw: Any, seen: Seen) -> None:
    jobs = redset.SortedSet(raw, "jobs")
    jobs.update(f"{number:02}" for number in range(40))

    def consume() -> None:
        for _ in jobs.consume(wait=0):
            with seen.tracer.start_as_current_span("work"):
                pass

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    works = [span.parent.span_id for span in seen.spans if span.name == "work"]
    assert len(works) == len(set(works)) == 40


# Items by state


@pytest.mark.conformance
def test_items_are_observed_by_state(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update("abc", score=ord)
    held = jobs.reserve()
    face.ExpiringSet("seen", ttl=100).add("a")
    seen = Seen()

    with instrument(raw, meter_provider=seen.meters):
        found = seen.numbers("redset.set.items", SET, "redset.state")
        assert (found["jobs", "waiting"], found["jobs", "leased"], found["seen", "living"]) == (2, 1, 1)
        held.ack()
        assert seen.numbers("redset.set.items", SET, "redset.state")["jobs", "leased"] == 0

    assert seen.points("redset.set.items") == []
    with instrument(raw, meter_provider=seen.meters):
        assert seen.points("redset.set.items") != [], "instrumented again, the same meter observes again"
    seen.meters.shutdown()


def test_a_server_that_is_away_has_no_observations(caplog: Any) -> None:
    server, seen = Server("valkey-9.1"), Seen()
    client = server.client()
    server.stop()

    with instrument(client, meter_provider=seen.meters):
        assert seen.points("redset.set.items") == []

    assert not caplog.records
    seen.meters.shutdown()


@pytest.mark.parametrize("name", ["meter_provider", "tracer_provider"])
@pytest.mark.parametrize("value", ["x", 5, [], False])
def test_what_is_no_provider_is_refused(name: str, value: Any) -> None:
    allowed = rf"{name} must be a provider with get_\w+\(\), or None"
    with pytest.raises(TypeError, match=rf"{allowed} .*, not {re.escape(repr(value))}"):
        instrument(**{name: value})
    assert hooks.observer is None


def test_an_asyncio_client_is_refused(here: Place) -> None:
    with pytest.raises(TypeError):
        instrument(here.client("redis", awaited=True))
    assert hooks.observer is None


# On and off


def test_nothing_is_measured_before_and_after(jobs: Any) -> None:
    seen = Seen()
    jobs.add("a")
    instrumentation = instrument(meter_provider=seen.meters, tracer_provider=seen.traces)
    jobs.add("b")
    loop = jobs.consume(wait=0)
    next(loop)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    next(loop)
    loop.close()
    jobs.add("c")

    assert seen.numbers("messaging.client.sent.messages") == {(): 1}
    assert len(seen.spans) == 1, "a body that runs is measured to its end"
    seen.meters.shutdown()


def test_one_instrumentation_at_a_time() -> None:
    with instrument() as first:
        with pytest.raises(RuntimeError, match="uninstrument"):
            instrument()
        first.uninstrument()
        with instrument():
            first.uninstrument()
            assert hooks.observer is not None, "of another one it ends nothing"
    assert hooks.observer is None
