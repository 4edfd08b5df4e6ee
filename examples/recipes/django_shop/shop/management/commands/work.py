"""Make invoices until a SIGTERM or a Ctrl-C, and finish the one under way."""

import contextlib
import logging
import signal
import threading
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import close_old_connections

import redset
from shop.jobs import invoices, make_invoice, sweep

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sweep", type=float, default=60, help="seconds between sweeps, and the age of an order")

    def handle(self, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            close_old_connections()
            sweep(timedelta(seconds=options["sweep"]))
            next_sweep = time.monotonic() + options["sweep"]
            work(lambda: stop.is_set() or time.monotonic() > next_sweep)  # noqa: B023 - called within this round


# work
def work(stop: Any) -> None:
    for reservation in invoices().consume(lease=60, stop=stop):
        close_old_connections()  # as between two requests: a connection may have been idle for hours
        try:
            make_invoice(reservation.item)
        except Exception as error:
            log.exception("order %s failed, attempt %d", reservation.item, reservation.attempt)
            with contextlib.suppress(redset.LeaseLost):
                reservation.nack(reason=repr(error))


# end
