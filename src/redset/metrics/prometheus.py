"""A collector for prometheus-client."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from redset.core.clients import is_failure
from redset.core.inspecting import Totals
from redset.metrics.reading import Figures, Memory, Reader, missing_extra

__all__ = ("Collector",)

log = logging.getLogger("redset")

#: What each total counts, as the help text of its metric.
COUNTED = {
    "added": "Additions of items that did not wait.",
    "duplicates": "Additions of items that waited already.",
    "left_out": "Additions refused because the item is remembered, or dead on a set that remembers.",
    "parked": "Claims that met an item under a lease and parked it.",
    "taken": "Items claimed for good.",
    "leased": "Items claimed under a lease.",
    "acked": "Leases that ended with an ack.",
    "nacked": "Leases that ended with a nack.",
    "given_back": "Leases that ended because the item was requeued without counting the attempt.",
    "buried": "Leases that ended because the item was made a dead letter.",
    "expired": "Leases that expired and were requeued by a claim.",
    "leases_removed": "Leases ended by discard or clear.",
    "leases_rolled_back": "Claims under a lease that were undone because nobody read the reply.",
    "takes_rolled_back": "Claims for good that were undone because nobody read the reply.",
    "removed": "Items removed by discard, clear, score or position.",
    "merged": "Entries that met another entry of their item.",
    "dropped": "Entries left out at a claim, an ack or a death because the set remembers.",
    "died": "Dead letters made.",
    "retried": "Dead letters requeued.",
    "dead_removed": "Dead letters removed, by hand or by max_dead.",
    "revived": "Dead letters replaced by an addition.",
    "unloadable": "Items claimed for good that became dead letters because they could not be loaded.",
    "rescheduled": "Next ticks planned by periodic sets.",
}
NAMES = tuple(field.name for field in fields(Totals))


class Collector:
    """A custom collector for prometheus-client: the figures of all sets on a server, read at each scrape.

    ============================================ ======= ==============================================================
    metric                                       type    value
    ============================================ ======= ==============================================================
    ``redset_up``                                gauge   1; 0 when the server cannot be read, and then nothing else
    ``redset_items{set,state}``                  gauge   items that are waiting, leased, expired (under a lease that
                                                         has expired), delayed, parked, done, dead; living in an
                                                         ``ExpiringSet``
    ``redset_due_items{set}``                    gauge   waiting items that can be claimed now
    ``redset_lag_seconds{set}``                  gauge   seconds that the oldest due item has been due, where scores
                                                         are times
    ``redset_items_<field>_total{set}``          counter one for each field of ``ss.totals()``
    ``redset_server_memory_used_bytes``          gauge   memory that the server uses
    ``redset_server_memory_max_bytes``           gauge   its ``maxmemory``; 0: no limit
    ============================================ ======= ==============================================================

    Sets without items are included, so that counters go on; ``redset.forget_set`` ends those of a set. An
    ``ExpiringSet`` has no lag and no totals. In labels, bytes of a name that are no text are shown as ``\\xff``, and a
    backslash is doubled.

    Register it in one process per server: the figures are those of the server, whichever process asks. A server that
    is away raises nothing. Give the client a ``socket_timeout``, or a scrape may wait for ever.

    Round trips of a scrape: two for each set, one for 1,000 registered sets, and one for the memory.

    :param client: a synchronous client of redis-py or valkey-py.
    :param sets: the names of the sets to show. Default: all that the registry knows.
    :raises ImportError: prometheus-client is not installed; the message says how to install it.
    :raises TypeError: the client is none, or an asyncio one; ``sets`` is one name.

    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> from redset import SortedSet
    >>> SortedSet(client, "jobs").add("read")
    0.0
    >>> metrics = CollectorRegistry()
    >>> metrics.register(Collector(client, ["jobs"]))
    >>> metrics.get_sample_value("redset_items", {"set": "jobs", "state": "waiting"})
    1
    """

    def __init__(self, client: Any, sets: Iterable[str] | None = None) -> None:
        try:
            from prometheus_client import core
        except ImportError:
            raise missing_extra("redset.metrics.Collector", "prometheus-client", "prometheus") from None
        self._core = core
        self._reader = Reader(client, sets)
        self._is_up = True

    def describe(self) -> Iterator[Any]:
        """Yield all metrics without samples. Asks no server, so a program starts while the server is away."""
        yield self._up(None)
        yield from self._families([], Memory(0, 0))

    def collect(self) -> Iterator[Any]:
        """Yield all metrics; only ``redset_up`` when the server cannot be read."""
        try:
            figures, memory = self._reader.read(), self._reader.memory()
        except Exception as error:
            if not is_failure(error):
                raise
            # Logged once for each outage, not at each scrape.
            if self._is_up:
                log.warning("the server cannot be read for metrics: %s", error)
            self._is_up = False
            yield self._up(0)
            return
        self._is_up = True
        yield self._up(1)
        yield from self._families(figures, memory)

    def _up(self, value: float | None) -> Any:
        return self._core.GaugeMetricFamily("redset_up", "Whether the server could be read.", value=value)

    def _families(self, figures: list[Figures], memory: Memory | None) -> Iterator[Any]:
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        items = gauge("redset_items", "Items by state.", labels=["set", "state"])
        due = gauge("redset_due_items", "Waiting items that can be claimed now.", labels=["set"])
        lag = gauge("redset_lag_seconds", "Seconds that the oldest due item has been due.", labels=["set"])
        totals = {name: counter(f"redset_items_{name}", COUNTED[name], labels=["set"]) for name in NAMES}
        for one in figures:
            for state, number in one.items.items():
                items.add_metric([one.label, state], number)
            if one.due is not None:
                due.add_metric([one.label], one.due)
            if one.lag is not None:
                lag.add_metric([one.label], one.lag)
            if one.totals is not None:
                for name, family in totals.items():
                    family.add_metric([one.label], getattr(one.totals, name))
        yield from (items, due, lag, *totals.values())
        if memory is not None:
            yield gauge("redset_server_memory_used_bytes", "Memory that the server uses.", value=memory.used)
            yield gauge("redset_server_memory_max_bytes", "The server's maxmemory; 0: no limit.", value=memory.limit)
