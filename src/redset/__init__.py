"""Distributed, deduplicating sorted sets in Redis or Valkey: work queues in which an item added twice is one item.

(PYTEST_DONT_REWRITE: pytest would rewrite the assertions of every package with a plugin.)
"""

from redset.connect import connect
from redset.core.items import Key
from redset.exceptions import LeaseLost, LockTimeout, RedsetError
from redset.reservations import DeadLetter, Reservation, Stats
from redset.scorers import priority_then_time
from redset.sets import ExpiringSet, PeriodicSet, ScheduledSet, SortedSet, TimeSortedSet

__version__ = "1.0.0.dev0"

__all__ = (
    "DeadLetter",
    "ExpiringSet",
    "Key",
    "LeaseLost",
    "LockTimeout",
    "PeriodicSet",
    "RedsetError",
    "Reservation",
    "ScheduledSet",
    "SortedSet",
    "Stats",
    "TimeSortedSet",
    "connect",
    "priority_then_time",
)
