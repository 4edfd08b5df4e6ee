"""A model of the server: the states of the items of some sets, and the records of calls.

It answers the requests of the core in the shapes of the scripts ``add``, ``claim``, ``end`` and ``rollback``. It
knows plain sets alone: no keys, no remembered items, no periods, no wake-ups, and no flags of additions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from redset.core.scripts import script

Request = tuple[bytes | str, ...]

SCRIPTS = {name: script(name) for name in ("add", "claim", "end", "rollback")}
NAMES = {code: name for name, known in SCRIPTS.items() for code in (known.sha, known.body)}


@dataclass
class Record:
    """The record of a session's last call."""

    number: int
    #: `taken` or `leased` for a claim, else `done`.
    kind: str
    head: bytes
    #: Item and score, or item and delivery under a lease.
    rows: list[tuple[bytes, bytes]] = field(default_factory=list)
    #: Whether the claimed item was suspect, which a roll-back restores.
    was_suspect: bool = False


@dataclass
class Delivery:
    """What is known of an item that was claimed under a lease: its token (or `0`, `expired`), attempts and score."""

    word: str
    attempts: int
    score: bytes

    def __bytes__(self) -> bytes:
        return b"%b %d %b" % (self.word.encode(), self.attempts, self.score)


class ModelSet:
    """The items of one set, by their states."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, bytes] = {}
        #: Item: deadline, or minus the end of its backoff.
        self.leased: dict[bytes, float] = {}
        self.deliveries: dict[bytes, Delivery] = {}
        self.parked: dict[bytes, bytes] = {}
        self.dead: dict[bytes, Delivery] = {}
        self.last_token = 0


@dataclass(frozen=True)
class Effect:
    """Something that happened to a lease: how it ended, and by which call."""

    lease: tuple[bytes, bytes]
    verb: str
    call: tuple[bytes, int]
    #: Whether the lease had expired by then.
    had_expired: bool = False


class ModelServer:
    """Executes one request after the other."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.sets: dict[bytes, ModelSet] = {}
        self.records: dict[bytes, Record] = {}
        #: How leases ended, and which session made the last claim of an item.
        self.effects: list[Effect] = []
        self.claimed_by: dict[bytes, bytes] = {}
        self._call: tuple[bytes, int] = (b"", 0)
        self._unseen: Record | None = None
        self._died = 0

    def execute(self, request: Request) -> Any:
        """Execute a request and return its reply.

        :raises ResponseError: the server's error reply.
        """
        words = [_bytes(word) for word in request]
        if words[0] == b"DEL":
            return int(self.records.pop(words[1], None) is not None)
        name = NAMES.get(str(request[1]))
        if name is None:
            raise NoScriptError("NOSCRIPT No matching script.")
        count = int(words[2])
        keys, (number, seen, *args) = words[3 : 3 + count], words[3 + count :]
        self._call, self._unseen, self._died = (keys[0], int(number)), None, 0
        record = self.records.get(keys[0]) if number != b"0" else None
        here = self.sets.setdefault(keys[1], ModelSet())
        if record is not None and record.number > int(seen):
            if record.number > int(number):
                raise ResponseError("STALE a newer call of this caller was served already")
            if record.number == int(number):
                return record.head if record.kind == "done" else self._repeat(here, record)
            self._unseen = record
        reply: Any = getattr(self, f"_{name}")(here, args)
        return reply

    # Records.

    def _answer(self, head: bytes) -> bytes:
        self._record("done", head, [])
        return head

    def _record(self, kind: str, head: bytes, rows: list[tuple[bytes, bytes]], *, was_suspect: bool = False) -> None:
        key, number = self._call
        if number:
            self.records[key] = Record(number, kind, head, rows, was_suspect)

    def _repeat(self, here: ModelSet, record: Record) -> list[bytes]:
        if record.kind == "taken":
            return [*_flat(record.rows), record.head]
        live = [self._is_held(here, item, delivery) for item, delivery in record.rows]
        for (item, delivery), is_live in zip(record.rows, live, strict=True):
            if not is_live:
                self._end_one(here, item, delivery, "roll_back", word=_word(record, item), late=True)
        if record.rows and not any(live):
            words = record.head.split()
            return [b" ".join([b"1 -1", *words[2:4], b"0", *words[5:]])]
        rows = [
            (item, delivery if is_live else b"") for (item, delivery), is_live in zip(record.rows, live, strict=True)
        ]
        return [*_flat(rows), record.head]

    def _roll_back_unseen(self, here: ModelSet, positions: Sequence[int] = ()) -> None:
        record = self._unseen
        assert record is not None
        rows = [record.rows[position - 1] for position in positions] or record.rows
        for item, cell in rows:
            if record.kind == "taken":
                here.waiting.setdefault(item, cell)
                # Attempts that it had were forgotten when it was taken.
                self.effects.append(Effect((item, b""), "forget", self._call))
            else:
                self._end_one(here, item, cell, "roll_back", word=_word(record, item), late=True)

    # Scripts.

    def _add(self, here: ModelSet, args: list[bytes]) -> bytes:
        before = len(here.waiting)
        here.waiting |= dict(zip(args[2::2], args[1::2], strict=True))
        return self._answer(b"%d" % (len(here.waiting) - before))

    def _rollback(self, here: ModelSet, args: list[bytes]) -> bytes:
        if self._unseen is None:
            return self._answer(b"")
        if self._unseen.kind != "done":
            self._roll_back_unseen(here, list(map(int, args[1:])))
        return self._answer(self._unseen.head)

    def _end(self, here: ModelSet, args: list[bytes]) -> bytes:
        options, which, *cells = args
        if which == b"ack":
            rows = [(item, delivery, "ack", 0.0, b"") for item, delivery in _pairs(cells)]
        else:
            rows = []
            for item, delivery, how in zip(cells[::3], cells[1::3], cells[2::3], strict=True):
                verb, seconds, text = how.split(b" ", 2)
                rows.append((item, delivery, verb.decode(), float(seconds), text))
        lost = self._end_all(here, rows, int(options.split()[0]))
        return self._answer(b"%d 0 %.6f" % (self._died, self.now) + lost)

    def _claim(self, here: ModelSet, args: list[bytes]) -> list[bytes]:
        options, limit, which, lease, caller, *acks = args
        assert which == b"any"
        max_attempts = int(options.split()[0])
        if self._unseen is not None and self._unseen.kind != "done":
            self._roll_back_unseen(here)
        lost = self._end_all(here, [(item, known, "ack", 0.0, b"") for item, known in _pairs(acks)], max_attempts)
        self._bring_back_due(here, max_attempts)
        taken, met_suspect, is_suspect = self._take(
            here, int(limit), is_lease=float(lease) > 0, alone=caller != b"follows"
        )
        must_stop = met_suspect and (bool(taken) or caller == b"follows")
        if float(lease):
            rows, deadline = self._lease_out(here, taken, float(lease)) if taken else ([], b"0")
        else:
            rows, deadline = taken, b"0"
            for item, _ in taken:
                here.deliveries.pop(item, None)
        for item, _ in rows:
            self.claimed_by[item] = self._call[0]
        head = b"%d 0 %d 0 %b" % (2 if must_stop else 0, self._died, deadline) + lost
        self._record("leased" if float(lease) and rows else "taken", head, rows, was_suspect=is_suspect)
        return [*_flat(rows), head]

    def _take(
        self, here: ModelSet, limit: int, *, is_lease: bool, alone: bool
    ) -> tuple[list[tuple[bytes, bytes]], bool, bool]:
        """Remove what is claimed. Whether it stopped at a suspect item, and whether it claimed one, alone."""
        taken: list[tuple[bytes, bytes]] = []
        for item in sorted(here.waiting, key=lambda item: (float(here.waiting[item]), item)):
            if len(taken) == limit:
                break
            known = here.deliveries.get(item)
            if is_lease and known is not None and known.word == "expired":
                if taken or not alone:
                    return taken, True, False
                return [(item, self._leave(here, item))], True, True
            if self._is_leased(here, item):
                here.parked[item] = here.waiting.pop(item)
            else:
                taken.append((item, self._leave(here, item)))
        return taken, False, False

    def _leave(self, here: ModelSet, item: bytes) -> bytes:
        """Remove an item from all states as it is claimed. Return its score."""
        if here.leased.pop(item, None) is not None:
            here.parked.pop(item, None)
        else:
            here.dead.pop(item, None)
        return here.waiting.pop(item)

    def _lease_out(
        self, here: ModelSet, taken: list[tuple[bytes, bytes]], lease: float
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        rows = []
        here.last_token = max(here.last_token, int(self.now * 1e6) - 1)
        for item, score in taken:
            here.last_token += 1
            known = here.deliveries.get(item)
            delivery = Delivery(str(here.last_token), known.attempts + 1 if known else 1, score)
            here.deliveries[item], here.leased[item] = delivery, self.now + lease
            rows.append((item, bytes(delivery)))
        return rows, b"%.6f" % (self.now + lease)

    # How leases end.

    def _is_leased(self, here: ModelSet, item: bytes) -> bool:
        return here.leased.get(item, 0.0) > self.now

    def _is_held(self, here: ModelSet, item: bytes, delivery: bytes) -> bool:
        known = here.deliveries.get(item)
        return known is not None and bytes(known) == delivery and self._is_leased(here, item)

    def _end_all(self, here: ModelSet, rows: list[tuple[bytes, bytes, str, float, bytes]], max_attempts: int) -> bytes:
        """The positions of those whose leases were lost, each behind a space."""
        lost, met = b"", set()
        for position, (item, delivery, verb, seconds, text) in enumerate(rows):
            if item in met or not self._is_held(here, item, delivery):
                lost += b" %d" % position
                continue
            self._end_one(here, item, delivery, verb, seconds, text, max_attempts)
            if verb != "extend":
                met.add(item)
        return lost

    def _end_one(
        self,
        here: ModelSet,
        item: bytes,
        delivery: bytes,
        verb: str,
        seconds: float = 0.0,
        text: bytes = b"",
        max_attempts: int = 0,
        word: str = "0",
        *,
        late: bool = False,
    ) -> None:
        """End a lease, also one that expired where that is ``late``; nothing happens if the delivery is another one."""
        known = here.deliveries.get(item)
        if known is None or bytes(known) != delivery or here.leased.get(item, 0.0) <= (0 if late else self.now):
            return
        self.effects.append(Effect((item, delivery), verb, self._call, not self._is_leased(here, item)))
        if verb == "extend":
            here.leased[item] = self.now + seconds
            return
        del here.leased[item]
        parked = here.parked.pop(item, None)
        if verb == "ack":
            del here.deliveries[item]
            if parked is not None:
                here.waiting.setdefault(item, parked)
        elif verb == "bury" or (verb == "nack" and 0 < max_attempts <= known.attempts):
            self._give_up(here, item, parked)
        else:
            attempts = known.attempts - (verb != "nack")
            score = text if verb == "again" and text else known.score
            self._try_again(here, item, Delivery(word, attempts, score), seconds, parked)

    def _give_up(self, here: ModelSet, item: bytes, parked: bytes | None) -> None:
        known = here.deliveries.pop(item)
        newer = here.waiting.get(item, parked)
        if newer is not None:
            here.waiting[item] = newer
        else:
            here.dead[item] = known
            self._died += 1

    def _try_again(self, here: ModelSet, item: bytes, known: Delivery, seconds: float, parked: bytes | None) -> None:
        newer = here.waiting.get(item, parked)
        here.deliveries[item] = known
        if newer is None and seconds > 0:
            here.leased[item] = -(self.now + seconds)
            return
        if known.attempts == 0:
            del here.deliveries[item]
        here.waiting.setdefault(item, known.score if newer is None else newer)

    def _bring_back_due(self, here: ModelSet, max_attempts: int) -> None:
        due = sorted((when, item) for item, when in here.leased.items() if abs(when) <= self.now)
        for when, item in due:
            known = here.deliveries[item]
            del here.leased[item]
            parked = here.parked.pop(item, None)
            if when > 0:
                self.effects.append(Effect((item, bytes(known)), "expire", self._call))
            if when > 0 and 0 < max_attempts <= known.attempts:
                self._give_up(here, item, parked)
            else:
                word = "expired" if when > 0 else "0"
                self._try_again(here, item, Delivery(word, known.attempts, known.score), 0, parked)


def _bytes(word: bytes | str) -> bytes:
    return word.encode() if isinstance(word, str) else word


def _pairs(cells: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(cells[::2], cells[1::2], strict=True))


def _flat(rows: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [cell for row in rows for cell in row]


def _word(record: Record, item: bytes) -> str:
    return "expired" if record.was_suspect and item == record.rows[0][0] else "0"
