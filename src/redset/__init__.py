"""Distributed, de-duplicating sorted sets in Redis or Valkey that hand each item out once."""

from redset.connect import connect
from redset.exceptions import LeaseLost, LockTimeout, RedsetError
from redset.reservations import DeadLetter, Reservation, Stats
from redset.sets import ScheduledSet, SortedSet, TimeSortedSet

__all__ = (
    "DeadLetter",
    "LeaseLost",
    "LockTimeout",
    "RedsetError",
    "Reservation",
    "ScheduledSet",
    "SortedSet",
    "Stats",
    "TimeSortedSet",
    "connect",
)
