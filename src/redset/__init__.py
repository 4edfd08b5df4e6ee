"""Distributed, de-duplicating sorted sets in Redis or Valkey that hand each item out once."""

from redset.connect import connect
from redset.exceptions import LockTimeout, RedsetError
from redset.reservations import DeadLetter
from redset.sets import ScheduledSet, SortedSet, TimeSortedSet

__all__ = (
    "DeadLetter",
    "LockTimeout",
    "RedsetError",
    "ScheduledSet",
    "SortedSet",
    "TimeSortedSet",
    "connect",
)
