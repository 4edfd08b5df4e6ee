"""Distributed, deduplicating sorted sets in Redis or Valkey: work queues in which an item added twice is one item.

(PYTEST_DONT_REWRITE: pytest would rewrite the assertions of every package with a plugin.)
"""

from redset.connect import connect
from redset.core.grouping import Limit
from redset.core.inspecting import Inspection, Lease, Sample, Totals
from redset.core.items import Key
from redset.exceptions import Full, LayoutError, LeaseLost, LockTimeout, RedsetError
from redset.registry import SetInfo, forget_set, list_sets, open_set, reshard
from redset.reservations import DeadLetter, Limits, Reservation, Stats
from redset.scorers import priority_then_time
from redset.sets import ExpiringSet, PeriodicSet, ScheduledSet, SortedSet, TimeSortedSet
from redset.several import first_of, shared

__version__ = "1.0.0rc1"

__all__ = (
    "DeadLetter",
    "ExpiringSet",
    "Full",
    "Inspection",
    "Key",
    "LayoutError",
    "Lease",
    "LeaseLost",
    "Limit",
    "Limits",
    "LockTimeout",
    "PeriodicSet",
    "RedsetError",
    "Reservation",
    "Sample",
    "ScheduledSet",
    "SetInfo",
    "SortedSet",
    "Stats",
    "TimeSortedSet",
    "Totals",
    "connect",
    "first_of",
    "forget_set",
    "list_sets",
    "open_set",
    "priority_then_time",
    "reshard",
    "shared",
)
