"""What the callers of a run know of each item, and what must be true of it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from simulator.server_model import ModelServer


class Violation(AssertionError):
    """A run in which a promise was broken."""


@dataclass
class Held:
    """A reservation that a caller received, and what became of its ends."""

    name: str
    reservation: Any
    is_settlement: bool = False
    #: The verbs that were asked for, those whose calls returned, and those whose outcome the caller does not know.
    asked: list[str] = field(default_factory=list)
    ended: str | None = None
    unknown: set[str] = field(default_factory=set)

    @property
    def delivery(self) -> bytes:
        return bytes(self.reservation._delivery)

    @property
    def item(self) -> bytes:
        return str(self.reservation.item).encode()

    @property
    def lease(self) -> tuple[bytes, bytes]:
        return self.item, self.delivery


class Ledger:
    """Compares what callers were told with what the model server did."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.added: set[bytes] = set()
        self.maybe_added: set[bytes] = set()
        self.taken: Counter[bytes] = Counter()
        self.held: list[Held] = []
        self._by_lease: dict[tuple[bytes, bytes], Held] = {}

    # What callers report.

    def adds(self, item: str) -> None:
        self.maybe_added.add(item.encode())

    def was_added(self, item: str) -> None:
        self.added.add(item.encode())

    def takes(self, items: list[str]) -> None:
        for item in items:
            self._gain(item.encode())
            self.taken[item.encode()] += 1

    def holds(self, name: str, reservation: Any, *, is_settlement: bool = False) -> Held:
        held = Held(name, reservation, is_settlement)
        if self._lease(held) > self.server.now:
            # Else it had expired when its reply was received, and somebody else may have the item.
            self._gain(held.item)
        if held.lease in self._by_lease:
            raise Violation(f"{held.item!r} was received twice under one lease")
        self.held.append(held)
        self._by_lease[held.lease] = held
        self._check_attempts(held)
        return held

    def ends(self, held: Held, verb: str) -> None:
        held.asked.append(verb)

    def has_ended(self, held: Held, verb: str) -> None:
        """An end returned without an error."""
        effects = [effect for effect in self.server.effects if effect.lease == held.lease]
        count = sum(effect.verb == verb for effect in effects)
        if count != 1 and not (verb == "extend" and count):
            raise Violation(f"{verb} of {held.item!r} took effect {count} times: {effects}")
        if verb != "extend":
            held.ended = verb

    def is_lost(self, held: Held, verb: str, *, was_ended: bool) -> None:
        """An end was told that the lease is lost."""
        effects = [effect for effect in self.server.effects if effect.lease == held.lease]
        ends = {effect.verb for effect in effects} - {"extend", verb}
        is_live = self._lease(held) > self.server.now
        others = len(set(held.asked) - {"extend"}) > 1
        if is_live or (not (ends or others or was_ended) and self._lease(held) == 0.0):
            raise Violation(f"{verb} of {held.item!r} was told that the lease is lost, but it was not: {effects}")

    def is_unknown(self, held: Held, verb: str) -> None:
        held.unknown.add(verb)

    # What must be true.

    def _lease(self, held: Held) -> float:
        """Its deadline, 0 when this lease is over."""
        here = self.server.sets.get(held.name.encode())
        known = here and here.deliveries.get(held.item)
        if here is None or not known or bytes(known) != held.delivery:
            return 0.0
        return here.leased.get(held.item, 0.0)

    def _gain(self, item: bytes) -> None:
        if self.taken[item]:
            raise Violation(f"{item!r} was received twice")
        for held in self.held:
            if held.item != item:
                continue
            if held.ended == "ack":
                raise Violation(f"{item!r} was received again after its ack")
            ends = {effect.verb for effect in self.server.effects if effect.lease == held.lease}
            if not ends - {"extend"}:
                raise Violation(f"{item!r} was received by two callers")

    def _check_attempts(self, held: Held) -> None:
        """Each attempt but this one ended in a failure or an expiry. Roll-backs count for none."""
        failed = 0
        for effect in self.server.effects:
            if effect.lease == held.lease:
                # It had expired when its reply was received.
                break
            if effect.lease[0] == held.item:
                failed = 0 if effect.verb == "forget" else failed + (effect.verb in ("nack", "expire"))
        if held.reservation.attempt != failed + 1:
            raise Violation(f"{held.item!r} is at attempt {held.reservation.attempt} after {failed} failures")

    def check(self) -> None:
        """Everything has settled: each item is in exactly one place."""
        for item in self.added | self.maybe_added:
            places = self._places(item)
            least = 1 if item in self.added else 0
            if not least <= len(places) <= 1:
                raise Violation(f"{item!r} is in {len(places)} places: {places}")
        for name, here in self.server.sets.items():
            unknown = [
                item
                for item, deadline in here.leased.items()
                if deadline > 0 and (item, bytes(here.deliveries[item])) not in self._by_lease
            ]
            if unknown:
                raise Violation(f"nobody knows of the leases of {unknown} in the set {name!r}")
            invented = {*here.waiting, *here.leased, *here.dead} - self.added - self.maybe_added
            if invented:
                raise Violation(f"nobody added {invented}")
        for held in self.held:
            self._check_end(held)

    def _check_end(self, held: Held) -> None:
        effects = [effect for effect in self.server.effects if effect.lease == held.lease]
        # A late copy of its claim rolls a lease back that has expired.
        ends = ["expire" if one.had_expired else one.verb for one in effects if one.verb != "extend"]
        if len(ends) > 1:
            raise Violation(f"the lease of {held.item!r} ended twice: {ends}")
        if ends and ends[0] not in {*held.asked, "expire"}:
            raise Violation(f"the lease of {held.item!r} was ended by {ends[0]}, which nobody asked for")

    def _places(self, item: bytes) -> list[str]:
        places = ["taken"] * self.taken[item]
        for held in self.held:
            if held.item == item:
                ends = [effect.verb for effect in self.server.effects if effect.lease == held.lease]
                if "ack" in ends:
                    places.append("acked")
                elif held.ended == "ack":
                    places.append("acked without effect")
        for name, here in self.server.sets.items():
            places += [
                f"{state} in {name!r}" for state in ("waiting", "leased", "dead") if item in getattr(here, state)
            ]
        return places
