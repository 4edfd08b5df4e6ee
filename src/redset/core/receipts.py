"""Receipts: a reservation as a text, by which another process ends or extends the lease. No I/O."""

import base64
import json
import math
import re
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from redset.core.definition import Definition
from redset.core.leases import Later
from redset.core.shown import shown

__all__ = ("Receipt", "Receipts")

T = TypeVar("T")
Res = TypeVar("Res")

#: The first byte of a receipt, for formats to come.
VERSION = b"\1"
#: How much of a text that is no receipt an error shows.
SHOWN = 60
#: What the server keeps of a leased item: token, attempt, score.
DELIVERY = re.compile(r"\d+ \d+ \S+")


class Receipt(NamedTuple):
    """The content of a receipt."""

    set_name: str
    stored: bytes
    delivery: bytes
    #: When the lease expires, by the clock of the server, as far as it is known; and its length in seconds.
    deadline: float
    lease: float
    #: On a keyed set the serialized item.
    value: bytes | None

    def written(self) -> str:
        """Return the receipt as a text of letters, digits, ``-`` and ``_``."""
        value = None if self.value is None else self.value.decode("latin-1")
        columns = [
            self.set_name,
            self.stored.decode("latin-1"),
            self.delivery.decode(),
            self.deadline,
            self.lease,
            value,
        ]
        content = VERSION + json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode()
        signed = zlib.crc32(content).to_bytes(4, "big") + content
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


def read(text: Any) -> Receipt:
    """Return the content of a receipt.

    :raises TypeError: it is no str.
    :raises ValueError: it is no receipt, or was cut or changed.
    """
    if not isinstance(text, str):
        raise TypeError(f"a receipt must be a str, the receipt of a reservation, not {shown(text)}")
    try:
        receipt = _read(text)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        receipt = None
    if receipt is None:
        beginning = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        raise ValueError(f"{beginning!r} is not the receipt of a reservation")
    return receipt


def _read(text: str) -> Receipt | None:
    signed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    content = signed[4:]
    if signed[:4] != zlib.crc32(content).to_bytes(4, "big") or content[:1] != VERSION:
        return None
    name, stored, delivery, deadline, lease, value = json.loads(content[1:])
    if not (DELIVERY.fullmatch(delivery) and math.isfinite(deadline) and math.isfinite(lease)):
        return None
    stored, delivery = stored.encode("latin-1"), delivery.encode()
    return Receipt(name, stored, delivery, deadline, lease, None if value is None else value.encode("latin-1"))


class Receipts(Generic[T, Res]):
    """Opening the receipts of one set."""

    __slots__ = ("_new_reservation", "_set")

    def __init__(self, definition: Definition[T], new_reservation: Callable[..., Res]) -> None:
        self._set = definition
        self._new_reservation = new_reservation

    def reservation(self, text: str) -> Res:
        """Return the reservation of a receipt. Its item is loaded when it is asked for.

        :raises TypeError: it is no str.
        :raises ValueError: it is no receipt, or that of another set.
        """
        receipt = read(text)
        if receipt.set_name != self._set.name:
            raise ValueError(f"the receipt is of the set {receipt.set_name!r}, not of {self._set.name!r}")
        # This process has seen no claim, so the clocks of both machines say how long the lease still lasts.
        left = max(0.0, min(receipt.lease, receipt.deadline - time.time()))
        return self._new_reservation(
            Later(partial(self._set.items.load, receipt.stored, receipt.value)),
            receipt.stored,
            receipt.delivery,
            receipt.deadline,
            receipt.lease,
            time.monotonic() + left,
        )
