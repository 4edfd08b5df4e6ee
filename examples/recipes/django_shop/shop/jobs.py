"""The set of orders without an invoice. The database says which are missing; the set decides which is made when."""

import functools
import json
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

import redset
from shop.models import Invoice, Order


# set
@functools.cache
def invoices() -> redset.SortedSet[int]:
    """Return the set. A web server that forks does so before the first call."""
    client = redset.connect(socket_timeout=5)
    return redset.SortedSet(client, "recipe-invoices", serializer=json, remember=3600, max_attempts=5)


def place(text: str) -> Order:
    """Store an order, and have its invoice made when the transaction is committed."""
    order = Order.objects.create(text=text)
    transaction.on_commit(lambda: invoices().add(order.pk), robust=True)
    return order


# sweep
def sweep(older_than: timedelta) -> int:
    """Add all orders without an invoice, and return how many were new in the set."""
    missing = Order.objects.filter(invoice=None, placed__lt=timezone.now() - older_than)
    return invoices().update(missing.values_list("pk", flat=True).iterator())


# make
def make_invoice(order: int) -> None:
    """Do the work. Doing it twice has the effect of once."""
    for found in Order.objects.filter(pk=order):
        Invoice.objects.get_or_create(order=found, defaults={"text": f"For {found.text}"})


# end
