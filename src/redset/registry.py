"""The registry of all sets on a server: which sets there are, of which kind, and with which options.

Tools that have only a name open the right kind of set from it. :mod:`redset.aio` has the same functions, awaited.
"""

from typing import Any

from redset.core import registry
from redset.core.clients import check_client
from redset.core.drivers import Driver
from redset.core.registry import SetInfo
from redset.core.shards import resharding
from redset.core.shards.resharding import Progress
from redset.sets import ExpiringSet, PeriodicSet, ScheduledSet, SortedSet, TimeSortedSet

__all__ = ("SetInfo", "forget_set", "list_sets", "open_set", "reshard")

#: The kinds of sets, by the names that the registry has of them.
KINDS = {kind.__name__: kind for kind in (SortedSet, TimeSortedSet, ScheduledSet, PeriodicSet, ExpiringSet)}


def list_sets(client: Any) -> list[SetInfo]:
    """Return the sets on the server that have items in any state, in the order of their names.

    A set is registered by its first claim, or its first addition outside of a pipeline. An expiring set is listed
    while items live in it.

    Round trips: one for 1,000 registered sets, and one for each of them.

    :param client: a client of redis-py or valkey-py.
    :raises AccessDeniedError: the user of the client has no right to read the key ``redset:sets``.

    >>> SortedSet(client, "jobs").add("read", score=1)
    1.0
    >>> [(info.name, info.kind) for info in list_sets(client)]
    [('jobs', 'SortedSet')]
    """
    return _driver(client).follow(registry.infos())


def open_set(client: Any, name: str) -> Any:
    """Return the set of this name as the registry describes it, with raw bytes as items.

    It has the options that its programs gave it, so it acks, retries and forgets as they do. On a keyed set, an item is
    the bytes of its value, and ``Key(identity)`` names it; nothing can be added there, since only the programs
    have the ``key``.

    Round trips: one.

    :raises KeyError: the registry does not know the name.

    >>> SortedSet(client, "jobs").add("read", score=1)
    1.0
    >>> open_set(client, "jobs").pop()
    b'read'
    """
    return registry.opened(client, name, _driver(client).perform(registry.info(name)), KINDS)


def forget_set(client: Any, name: str) -> bool:
    """Delete all keys of a set and its entry in the registry, and return whether there were any.

    Programs that still use the set begin a new one with their next call. What they have claimed is lost to the
    new one: their leases count as lost. Call records expire within ten minutes. If the number of shards of the set was
    changed, stop its programs first: they would use the old shards.

    Round trips: six; on a set over shards, one more for each shard.

    >>> SortedSet(client, "jobs").add("read", score=1)
    1.0
    >>> forget_set(client, "jobs"), forget_set(client, "jobs")
    (True, False)
    """
    return _driver(client).follow(registry.forget(name))


def reshard(client: Any, name: str, shards: int | None, progress: Progress | None = None) -> bool:
    """Move a set to another number of shards, and return whether there was anything to do.

    For a :class:`SortedSet`, :class:`TimeSortedSet` or :class:`ScheduledSet` without ``group=``. All items move along,
    in every state: waiting, leased, delayed, parked, remembered and dead ones, with their attempts. Reservations stay
    valid, tokens keep growing, and totals, the pause and the limits stay. The samples of ``history()`` are deleted.

    While items are copied, calls on the set wait, also those of objects made with another number of shards, which go on
    with the new one. Only an object without ``shards=`` raises an error from then on. A call whose reply is lost at the
    moment of the change may be executed twice.

    If it was interrupted, call it again with the same number: it goes on. Run it once at a time.

    :param shards: the new number of shards; None for a set without shards.
    :param progress: called with the number of entries that were copied, and of all; an item has one to four.
    :raises AccessDeniedError: the user of the client lacks a right that a reshard needs; nothing has changed.
    :raises LayoutError: the set is of another kind or has groups, there is none, or a reshard to another number has not
        ended.
    :raises ValueError: a limit of the set is lower than the number of shards.

    >>> jobs = SortedSet(client, "jobs")
    >>> jobs.update(["read", "write"])
    2
    >>> reshard(client, "jobs", 16)
    True
    >>> SortedSet(client, "jobs", shards=16).take(2)
    ['read', 'write']
    """
    one: SortedSet[Any] = SortedSet(client, name, shards="stored")
    return _driver(client).follow(resharding.reshard(one, shards, progress))


def _driver(client: Any) -> Driver:
    check_client(client, awaits=False)
    return Driver(client, *registry.PLACE, recording=False, connections="own")
