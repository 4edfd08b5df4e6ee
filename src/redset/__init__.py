"""Distributed, deduplicating sorted sets in Redis or Valkey: work queues in which an item added twice is one item.

(PYTEST_DONT_REWRITE: pytest would rewrite the assertions of every package with a plugin.)
"""

from redset.connect import connect
from redset.core.items import Key
from redset.exceptions import Full, LayoutError, LeaseLost, LockTimeout, RedsetError
from redset.registry import SetInfo, forget_set, list_sets, open_set
from redset.reservations import DeadLetter, Limits, Reservation, Stats
from redset.scorers import priority_then_time
from redset.sets import ExpiringSet, PeriodicSet, ScheduledSet, SortedSet, TimeSortedSet

__version__ = "1.0.0.dev0"

__all__ = (
    "DeadLetter",
    "ExpiringSet",
    "Full",
    "Key",
    "LayoutError",
    "LeaseLost",
    "Limits",
    "LockTimeout",
    "PeriodicSet",
    "RedsetError",
    "Reservation",
    "ScheduledSet",
    "SetInfo",
    "SortedSet",
    "Stats",
    "TimeSortedSet",
    "connect",
    "forget_set",
    "list_sets",
    "open_set",
    "priority_then_time",
)
