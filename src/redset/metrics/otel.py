"""Instrumentation for OpenTelemetry, by its semantic conventions for messaging."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from redset.core.clients import is_failure
from redset.core.observing import Call, hooks
from redset.metrics.reading import Reader, label_of, missing_extra

__all__ = ("Instrumentation", "instrument")

SYSTEM = {"messaging.system": "redset"}
DESTINATION = "messaging.destination.name"
#: The key of the body in a context.
BODY = "redset-body"
#: The bounds in seconds that the conventions recommend for durations.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


def instrument(client: Any = None, *, meter_provider: Any = None, tracer_provider: Any = None) -> "Instrumentation":
    """Measure all sets of this process with OpenTelemetry, on both faces, until ``uninstrument()``.

    Metrics, by the semantic conventions for messaging:

    - ``messaging.client.sent.messages``: items that were added, duplicates included.
    - ``messaging.client.consumed.messages``: items that were claimed.
    - ``messaging.client.operation.duration``: seconds of each call that adds, claims, or ends leases. The time that a
      claim waits for an item is not included.
    - ``messaging.process.duration``: seconds of each body of ``consume``, and of each ``with reservation``.
    - ``redset.set.items``: the items of each set by state, if a ``client`` is given.

    Their attributes: ``messaging.system`` ("redset"), ``messaging.destination.name`` (the set),
    ``messaging.operation.name`` (add; take, reserve; ack, nack, again, bury, extend; process),
    ``messaging.operation.type`` (send; receive; settle; process), and ``error.type`` after an error.

    Each body has a span, ``process <set>``, of kind CONSUMER with the attribute ``redset.attempt``. Spans that the body
    starts are its children. An error is recorded if it leaves a ``with reservation``: a ``consume`` loop cannot tell a
    ``break`` from an error. Items carry no context, so spans of producers and consumers are not linked. The calls of an
    ``ExpiringSet`` are not measured, since its items are no messages.

    Errors of OpenTelemetry do not reach the caller; the first one is logged.

    :param client: a synchronous client, from which the reader of the metrics reads ``redset.set.items``: give it in one
        process per server. Round trips: two for each set, and one.
    :param meter_provider: Default: the global one.
    :param tracer_provider: Default: the global one.
    :returns: a context manager with ``uninstrument()``.
    :raises ImportError: opentelemetry-api is not installed; the message says how to install it.
    :raises RuntimeError: this process is instrumented already.
    :raises TypeError: the client is an asyncio one, or a provider is none.

    >>> with instrument():
    ...     pass
    """
    try:
        import opentelemetry.metrics  # noqa: F401 # whether it is there
    except ImportError:
        raise missing_extra("redset.metrics.instrument", "opentelemetry-api", "otel") from None
    _check_provider(meter_provider, "meter_provider", "get_meter")
    _check_provider(tracer_provider, "tracer_provider", "get_tracer")
    reader = None if client is None else Reader(client, None)
    return Instrumentation(reader, meter_provider, tracer_provider)


def _check_provider(value: Any, what: str, method: str) -> None:
    """Raise a TypeError for what is no provider."""
    if value is not None and not callable(getattr(value, method, None)):
        raise TypeError(f"{what} must be a provider with {method}(), or None for the global one, not {value!r}")


class Instrumentation:
    """The result of :func:`instrument`: a context manager that stops measuring when its block is left."""

    def __init__(self, reader: Reader | None, meter_provider: Any, tracer_provider: Any) -> None:
        self._observer = _Observer(reader, meter_provider, tracer_provider)
        hooks.begin(self._observer)

    def uninstrument(self) -> None:
        """Stop measuring. Bodies that run are measured to their end. Again, it does nothing."""
        hooks.end(self._observer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.uninstrument()


@dataclass(eq=False, slots=True)
class _Entry:
    """A body."""

    #: The label of its set.
    name: str
    span: Any
    #: The context to return to.
    before: Any
    began: float
    has_ended: bool = False


class _Observer:
    def __init__(self, reader: Reader | None, meter_provider: Any, tracer_provider: Any) -> None:
        from opentelemetry import context, metrics, trace

        from redset import __version__

        self._context, self._trace = context, trace
        self.reader = reader
        self.meter_provider = meter_provider if meter_provider is not None else metrics.get_meter_provider()
        self._tracer = trace.get_tracer("redset", __version__, tracer_provider)
        meter = metrics.get_meter("redset", __version__, self.meter_provider)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Number of items that were added."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Number of items that were claimed."
        )
        self._operation_duration = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of a call that adds, claims, or ends leases.",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )
        self._process_duration = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of the processing of an item.",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )
        if reader is not None:
            meter.create_observable_gauge(
                "redset.set.items", [_items_for(self.meter_provider)], "{item}", "Number of items by state."
            )

    def called(self, call: Call) -> None:
        attributes: dict[str, Any] = {
            **SYSTEM,
            DESTINATION: label_of(call.set_name),
            "messaging.operation.name": call.name,
        }
        if call.kind is not None:
            attributes["messaging.operation.type"] = call.kind
        if call.error is not None:
            attributes["error.type"] = _name_of(call.error)
        self._operation_duration.record(call.seconds, attributes)
        if call.items and call.kind == "send":
            self._sent.add(call.items, attributes)
        elif call.items and call.kind == "receive":
            self._consumed.add(call.items, attributes)

    def entered(self, set_name: str, attempt: int) -> _Entry:
        name = label_of(set_name)
        before = self._living()
        span = self._tracer.start_span(
            f"process {name}",
            before,
            kind=self._trace.SpanKind.CONSUMER,
            attributes={**_about_process(name), "redset.attempt": attempt},
        )
        entry = _Entry(name, span, before, time.perf_counter())
        inside = self._trace.set_span_in_context(span, before)
        self._context.attach(self._context.set_value(BODY, entry, inside))
        return entry

    def left(self, entry: _Entry, error: BaseException | None) -> None:
        attributes = _about_process(entry.name)
        span = entry.span
        entry.has_ended = True
        try:
            # A loop may be closed in another task, which has a context of its own. So the token of `attach` may not
            # fit, and where the span is not the current one there is nothing to restore.
            if self._trace.get_current_span() is span:
                self._context.attach(self._living())
            if error is not None:
                attributes["error.type"] = _name_of(error)
                span.set_attribute("error.type", attributes["error.type"])
                span.record_exception(error)
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__))
        finally:
            span.end()
            self._process_duration.record(time.perf_counter() - entry.began, attributes)

    def _living(self) -> Any:
        """Return the present context, or if its body has ended, the one around that.

        The bodies of two loops that take turns do not end in the reverse order of their beginnings.
        """
        here = self._context.get_current()
        while True:
            entry: Any = self._context.get_value(BODY, here)
            if entry is None or not entry.has_ended or self._trace.get_current_span(here) is not entry.span:
                return here
            here = entry.before


def _about_process(name: str) -> dict[str, Any]:
    return {
        **SYSTEM,
        DESTINATION: name,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
    }


def _items_for(meter_provider: Any) -> Any:
    """Return the callback of ``redset.set.items``.

    A meter keeps the first callback of an instrument, also for later instrumentations, so it looks for the present one.
    """

    def items(options: Any) -> Iterable[Any]:  # noqa: ARG001 # what the interface passes
        from opentelemetry.metrics import Observation

        observer = hooks.observer
        if not isinstance(observer, _Observer) or observer.reader is None:
            return []
        if observer.meter_provider is not meter_provider:
            return []
        try:
            figures = observer.reader.read()
        except Exception as error:
            if not is_failure(error):
                raise
            return []
        return [
            Observation(number, {**SYSTEM, DESTINATION: one.label, "redset.state": state})
            for one in figures
            for state, number in one.items.items()
        ]

    return items


def _name_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
