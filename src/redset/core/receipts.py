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
from redset.core.endings import Endings
from redset.core.forms import described, other_version
from redset.core.leases import BaseReservation, Later
from redset.core.shown import shown
from redset.exceptions import LayoutError

__all__ = ("Receipts", "WithReceipt")

T = TypeVar("T")
Res = TypeVar("Res")

#: The first byte of a receipt, for formats to come.
VERSION = b"\1"
#: How much of a text that is no receipt an error shows.
SHOWN = 60
#: The delivery of a leased item, as the server keeps it: token, attempt, score.
DELIVERY = re.compile(r"[0-9]{1,20} [0-9]{1,20} ([-+.0-9a-z]{1,40})")


class Receipt(NamedTuple):
    """The content of a receipt."""

    set_name: str
    #: The form in which the set stores its items; see `redset.core.forms`.
    layout: str
    stored: bytes
    delivery: bytes
    #: When the lease expires, by the clock of the server, as far as it is known; and its length in seconds.
    deadline: float
    lease: float
    #: On a keyed set the serialized item.
    value: bytes | None

    def written(self) -> str:
        """Return the receipt as a text of letters, digits, ``-`` and ``_``."""
        columns = [
            self.set_name,
            self.layout,
            self.delivery.decode(),
            self.deadline,
            self.lease,
            len(self.stored),
            self.value is not None,
        ]
        head = json.dumps(columns, separators=(",", ":")).encode()
        # The bytes as they are: JSON would make several of one.
        content = VERSION + head + b"\n" + self.stored + (self.value or b"")
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
        # A text that was read from a file, or printed, may end with a newline.
        receipt = _read(text.strip())
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        receipt = None
    if receipt is None:
        beginning = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        raise ValueError(f"{beginning!r} is not the receipt of a reservation, or was cut or changed")
    return receipt


def _read(text: str) -> Receipt | None:
    signed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    content = signed[4:]
    if signed[:4] != zlib.crc32(content).to_bytes(4, "big") or content[:1] != VERSION:
        return None
    head, _, body = content[1:].partition(b"\n")
    name, layout, delivery, deadline, lease, length, has_value = json.loads(head)
    matched = DELIVERY.fullmatch(delivery)
    if matched is None or math.isnan(float(matched[1])) or not (math.isfinite(deadline) and math.isfinite(lease)):
        return None
    if not 0 <= length <= len(body) or not (has_value or length == len(body)):
        return None
    value = body[length:] if has_value else None
    return Receipt(name, layout, body[:length], delivery.encode(), deadline, lease, value)


class WithReceipt(BaseReservation[T]):
    """A reservation that can be written as a text."""

    _endings: Endings[T]

    @property
    def receipt(self) -> str:
        """The reservation as a text of letters, digits, ``-`` and ``_``, which ``ss.reservation()`` of another process
        opens.

        It contains the serialized item, so it is about one and a third times as long. It stays valid when the lease is
        extended. Errors of the serializer pass through on a set with a ``key``. No round trip.
        """
        of = self._endings.definition
        value = self._value() if of.items.keyed else None
        return Receipt(of.name, of.layout, self._stored, self._delivery, self.deadline, self._lease, value).written()

    def _value(self) -> bytes | None:
        """Return the serialized item; None for one that is its identity, as another program adds it without a value."""
        items, item = self._endings.definition.items, self.item
        identity = items.load(self._stored)
        return None if type(item) is type(identity) and item == identity else items.dump(item)


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
        :raises LayoutError: it is of a set of this name that stores its items in another form.
        """
        receipt = read(text)
        if receipt.set_name != self._set.name:
            raise ValueError(f"the receipt is of the set {receipt.set_name!r}, not of {self._set.name!r}")
        if receipt.layout != self._set.layout:
            # The end of a lease checks no layout. Ended as another kind, a periodic item would have no further ticks.
            raise LayoutError(
                other_version(self._set.name, receipt.layout)
                or f"the receipt is of a set {self._set.name!r} that is {described(receipt.layout)}, and this object "
                f"is {described(self._set.layout)}: use the same class and key="
            )
        # This process has seen no claim, so the clocks of both machines say how long the lease still lasts.
        left = max(0.0, min(receipt.lease, receipt.deadline - time.time()))
        return self._new_reservation(
            Later(partial(self._set.items.load_own, receipt.stored, receipt.value)),
            receipt.stored,
            receipt.delivery,
            receipt.deadline,
            receipt.lease,
            time.monotonic() + left,
        )
