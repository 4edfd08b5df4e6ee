"""The figures of sets, read from the server for both kinds of metrics."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from redset.core import registry
from redset.core.clients import check_client, is_failure
from redset.core.drivers import Driver
from redset.core.inspecting import Totals
from redset.core.looking import Stats
from redset.core.operations import Operation
from redset.core.registry import SetInfo
from redset.core.retries import tries_once
from redset.exceptions import RedsetError
from redset.registry import KINDS
from redset.sets import ExpiringSet

__all__ = ("STATES", "Figures", "Memory", "Reader", "label_of", "missing_extra")

log = logging.getLogger("redset")

#: The states of items, as :class:`~redset.reservations.Stats` counts them; and that of an expiring set.
STATES = ("waiting", "leased", "expired", "delayed", "parked", "done", "dead")
LIVING = "living"
#: The lowest score that is taken for a time, in seconds since the epoch, on a set whose scorer is not known: in 2001.
FIRST_TIME = 1e9


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one set."""

    #: Its name as a label.
    label: str
    #: The number of items by state.
    items: dict[str, int]
    #: The number of waiting items that can be claimed now; None for an expiring set.
    due: int | None
    #: Seconds that the oldest due item has been due; None if scores are no times.
    lag: float | None
    #: None for an expiring set.
    totals: Totals | None


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of the server, in bytes."""

    used: int
    #: 0: no limit.
    limit: int


class Reader:
    """Reads the figures of some sets, or of all that the registry knows, from threads."""

    def __init__(self, client: Any, sets: Iterable[str] | None) -> None:
        check_client(client, awaits=False)
        if isinstance(sets, str | bytes):
            raise TypeError(f"sets must be an iterable of names, not the name {sets!r}: write [{sets!r}]")
        if sets is not None and not isinstance(sets, Iterable):
            raise TypeError(f"sets must be an iterable of names, or None for all sets, not {sets!r}")
        self._client = client
        self._names = None if sets is None else tuple(sets)
        for name in self._names or ():
            if not isinstance(name, str):
                raise TypeError(f"sets must be an iterable of names, not of {name!r}")
        #: The sets that could not be read when they were last tried.
        self._unread: set[str] = set()
        self._driver = Driver(client, *registry.PLACE, recording=False, connections="own")

    def read(self) -> list[Figures]:
        """Return the figures of all sets, those without items included.

        Leaves out a set that cannot be read, with a warning the first time.

        Round trips: one for 1,000 registered sets, or one for each name; and two for each set.

        :raises Exception: the errors of the client, when the server cannot be reached.
        """
        with _trying_once():
            return [figures for info in self._infos() if (figures := self._figures(info)) is not None]

    def memory(self) -> Memory | None:
        """Return the memory of the server; None if it cannot be told, as for a cluster.

        Round trips: one.
        """
        try:
            with _trying_once():
                return self._driver.perform(Operation("INFO", (), ("memory",), _read_memory))
        except Exception as error:
            if not is_failure(error):
                raise
            log.debug("the server does not say how much memory it has: %s", error)
            return None

    def _infos(self) -> Iterator[SetInfo]:
        if self._names is None:
            yield from self._driver.follow(registry.infos(empty=True))
            return
        for name in self._names:
            try:
                info = self._driver.perform(registry.info(name))
            except UnicodeEncodeError as error:
                self._note_unread(name, error)
                continue
            if info is not None:
                yield info

    def _figures(self, info: SetInfo) -> Figures | None:
        try:
            figures = self._read(info)
        except (RedsetError, KeyError, TypeError, ValueError) as error:
            # Another program has written there, or the user has no right to it; the other sets are fine.
            self._note_unread(info.name, error)
            return None
        self._unread.discard(info.name)
        return figures

    def _note_unread(self, name: str, error: Exception) -> None:
        """Log that a set cannot be read: once, and not at each scrape."""
        if name not in self._unread:
            self._unread.add(name)
            log.warning("%s: the set cannot be read for metrics: %s", label_of(name), error)

    def _read(self, info: SetInfo) -> Figures:
        label = label_of(info.name)
        found = registry.opened(self._client, info.name, info, cast("dict[str, Callable[..., Any]]", KINDS))
        if isinstance(found, ExpiringSet):
            return Figures(label, {LIVING: found.count()}, None, None, None)
        stats: Stats = found.stats()
        items = {state: getattr(stats, state) for state in STATES}
        return Figures(label, items, stats.due, _lag(info.kind, stats), found.totals())


@contextmanager
def _trying_once() -> Iterator[None]:
    """Keep the client from sending commands again: a scrape must end before its timeout also in an outage."""
    before = tries_once.set(True)
    try:
        yield
    finally:
        tries_once.reset(before)


def _lag(kind: str, stats: Stats) -> float | None:
    oldest = stats.oldest_score
    # The programs of a TimeSortedSet may have a scorer that returns no times, which the registry does not tell.
    if kind == "TimeSortedSet" and oldest is not None and oldest < FIRST_TIME:
        return None
    return stats.lag


def _read_memory(reply: Any) -> Memory | None:
    # Some client libraries parse it, in a cluster for each node.
    if isinstance(reply, dict):
        found = reply
    else:
        text = reply.decode() if isinstance(reply, bytes) else str(reply)
        found = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    if "used_memory" not in found:
        return None
    return Memory(int(found["used_memory"]), int(found.get("maxmemory", 0)))


def label_of(name: str) -> str:
    r"""Return the name of a set as text that every format can carry, another one for each name.

    Control characters and bytes that are not UTF-8 become ``\x00``, and a backslash is doubled.

    >>> label_of("jobs"), label_of("a\nb") == r"a\x0ab", label_of("a\\b") == r"a\\b"
    ('jobs', True, True)
    """
    return "".join(map(_shown, name)) if not name.isprintable() or "\\" in name else name


def _shown(character: str) -> str:
    if character == "\\":
        return r"\\"
    if character.isprintable():
        return character
    # Names are decoded so that a byte that is not UTF-8 becomes a surrogate.
    is_byte = character < "\x80" or "\udc80" <= character <= "\udcff"
    return rf"\x{ord(character) & 0xFF:02x}" if is_byte else rf"\U{ord(character):08x}"


def missing_extra(what: str, package: str, extra: str) -> ImportError:
    """Return the error for an extra that is not installed."""
    return ImportError(f'{what} needs the package {package}: pip install "redset[{extra}]"')
