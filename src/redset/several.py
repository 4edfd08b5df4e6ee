"""One consumer over several sets of one client: in a strict order, or in turns by weights."""

from collections.abc import Iterable
from typing import Any

from redset.core import several
from redset.core.consuming import Stop
from redset.core.drivers import Driver
from redset.core.several import BaseSeveral, BaseSeveralConsumption
from redset.core.times import Duration
from redset.reservations import Reservation
from redset.sets import ExpiringSet, Loop, SortedSet

__all__ = ("Several", "SeveralConsumption", "first_of", "shared")


class SeveralConsumption(Loop[Any], BaseSeveralConsumption[Driver]):
    __doc__ = Loop.__doc__


class Several(BaseSeveral[Driver]):
    """Several sets of one client as one to claim from; :func:`first_of` and :func:`shared` make it.

    Its methods have the guarantees of those of the sets. Each set is asked by itself, so a claim takes one round trip
    for each set that is asked: in a strict order all before the first that has an item, in turns mostly one.
    """

    def pop(self, wait: Duration | None = 0) -> Any:
        """Remove and return an item; see :meth:`SortedSet.pop`.

        :param wait: seconds to wait for an item if no set has one; None: for ever.
        :raises KeyError: no item can be claimed.

        >>> urgent, usual = SortedSet(client, "urgent"), SortedSet(client, "usual")
        >>> usual.update(["read", "write"]), urgent.update(["fix"])
        (2, 1)
        >>> first_of(urgent, usual).pop()
        'fix'
        """
        return self._driver.follow(self._pop(wait))

    def take(self, num: int, wait: Duration | None = 0) -> list[Any]:
        """Remove and return up to ``num`` items, in the order of their turns; see :meth:`SortedSet.take`.

        If one set has too few items, the others fill up the list. Not atomic across sets.

        :param wait: seconds to wait for the first item if no set has one; None: for ever.
        """
        return self._driver.follow(self._take(num, wait))

    def reserve(self, lease: Duration = 60.0, wait: Duration | None = 0) -> Reservation[Any]:
        """Claim an item under a lease; see :meth:`SortedSet.reserve`. Its ``set_name`` is that of its set.

        :param lease: seconds.
        :param wait: seconds to wait for an item if no set has one; None: for ever.
        :raises KeyError: no item can be claimed.

        >>> urgent, usual = SortedSet(client, "urgent"), SortedSet(client, "usual")
        >>> usual.update(["read", "write"]), urgent.update(["fix"])
        (2, 1)
        >>> reservation = first_of(urgent, usual).reserve()
        >>> reservation.set_name, reservation.item
        ('urgent', 'fix')
        """
        return self._driver.follow(self._reserve(lease, wait))

    def reserve_many(self, num: int, lease: Duration = 60.0, wait: Duration | None = 0) -> list[Reservation[Any]]:
        """Claim up to ``num`` items under leases, in the order of their turns; see :meth:`SortedSet.reserve_many`.

        An item whose last lease expired is returned alone, or not at all.

        :param lease: seconds.
        :param wait: seconds to wait for the first item if no set has one; None: for ever.
        """
        return self._driver.follow(self._reserve_many(num, lease, wait))

    def consume(
        self,
        lease: Duration = 60.0,
        batch: int = 1,
        wait: Duration | None = None,
        stop: Stop = None,
        max_outage: Duration | None = None,
    ) -> SeveralConsumption:
        """Iterate over reservations, and ack each when the next one is asked for; see :meth:`SortedSet.consume`.

        The acks of a set travel with its next claim. If an item of another set comes first, they are sent before that.
        A batch is of one set.

        :param lease: seconds, for each item of a batch.
        :param batch: the number of items per claim, 1 to 1,000.
        :param wait: seconds without an item after which the loop ends; None: never.
        :param stop: an event, or a callable: the loop ends when it is set, or returns true.
        :param max_outage: seconds of an outage after which the client's error is raised. Default: never.

        >>> urgent, usual = SortedSet(client, "urgent"), SortedSet(client, "usual")
        >>> usual.update(["read", "write"]), urgent.update(["fix"])
        (2, 1)
        >>> for reservation in first_of(urgent, usual).consume(wait=0):
        ...     print(reservation.item)
        fix
        read
        write
        """
        return SeveralConsumption(self, lease, batch, wait, stop, max_outage)


def first_of(*sets: SortedSet[Any]) -> Several:
    """Return several sets as one, in a strict order: a set is claimed from when those before it have nothing to claim.

    Items that an earlier set had to claim when a call began are claimed before any item of a later set.

    :param sets: of one client; each of any kind but an ExpiringSet, with a serializer of its own.
    :raises TypeError: one of them is something else.
    :raises ValueError: there is none, one is named twice, or they are on different clients.

    >>> urgent, usual = SortedSet(client, "urgent"), SortedSet(client, "usual")
    >>> usual.update(["read", "write"]), urgent.update(["fix"])
    (2, 1)
    >>> first_of(urgent, usual).take(10)
    ['fix', 'read', 'write']
    """
    return Several(several.checked([(one, 1) for one in sets], SortedSet), several.in_order)


def shared(sets: Iterable[tuple[SortedSet[Any], int]]) -> Several:
    """Return several sets as one, in turns by their weights, evenly spread.

    Of sets that have items, with weights 8 and 1, any nine claims in a row are eight and one. A set without items takes
    no turns and saves up none, so none starves. This object counts the turns: each consumer has turns of its own.

    Source: smooth weighted round robin, as in nginx (commit 52327e0627f4, 2012).

    :param sets: pairs of a set and its weight, a positive int; the sets as in :func:`first_of`.
    :raises TypeError: they are no pairs, or one of the sets is something else.
    :raises ValueError: there is none, one is named twice, they are on different clients, or a weight is not positive.

    >>> urgent, usual = SortedSet(client, "urgent"), SortedSet(client, "usual")
    >>> usual.update("abcdef", score=1), urgent.update("123456", score=1)
    (6, 6)
    >>> shared([(urgent, 2), (usual, 1)]).take(6)
    ['1', 'a', '2', '3', 'b', '4']
    """
    return Several(several.checked(several.paired(sets, (SortedSet, ExpiringSet)), SortedSet), several.in_turns)
