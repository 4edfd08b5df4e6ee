"""The settings of a crawl."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from redset.groups import Limit
from redset.scrapy import values

__all__ = ("Options",)

#: Seconds of the longest backoff.
LONGEST = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of a crawl, checked."""

    url: str | None
    #: The name of the set.
    name: str
    lease: float
    max_attempts: int
    remember: float
    backoff: Callable[[int], float] | None
    #: An object with ``dumps`` and ``loads``.
    serializer: Any
    #: The limits of each download slot, for all processes.
    per_slot: Limit | None
    #: The slots with limits of their own.
    slots: dict[str, Limit]
    #: The name of the set that start requests are made from.
    start_set: str | None
    #: Seconds without work after which a spider with a start set ends; 0: never.
    start_set_idle: float
    #: The number of requests that a process downloads at once.
    concurrency: int
    #: The statuses that another attempt may change.
    retry_statuses: frozenset[int]
    retry_times: int
    #: Whether each duplicate is logged.
    debug: bool

    @classmethod
    def of(cls, settings: BaseSettings, spider_name: str) -> "Options":
        """Read the settings.

        :raises ValueError: one has no possible value; the message names it.
        """
        retry_times = settings.getint("RETRY_TIMES")
        leases = settings.getint("CONCURRENT_REQUESTS_PER_IP") or settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN")
        delay = settings.getfloat("DOWNLOAD_DELAY")
        return cls(
            url=settings.get("REDSET_URL"),
            name=settings.get("REDSET_NAME") or spider_name,
            lease=_positive(settings, "REDSET_LEASE", 60.0),
            max_attempts=int(_positive(settings, "REDSET_MAX_ATTEMPTS", max(3, retry_times + 1))),
            remember=_positive(settings, "REDSET_REMEMBER", 30 * 24 * 3600.0),
            backoff=_backoff(settings.get("REDSET_BACKOFF")),
            serializer=_serializer(settings.get("REDSET_SERIALIZER")),
            per_slot=_limit(leases, delay),
            slots={
                name: limit
                for name, own in settings.getdict("DOWNLOAD_SLOTS").items()
                if (limit := _limit(int(own.get("concurrency", leases)), float(own.get("delay", delay))))
            },
            start_set=settings.get("REDSET_START_SET"),
            start_set_idle=settings.getfloat("REDSET_START_SET_IDLE"),
            concurrency=settings.getint("CONCURRENT_REQUESTS"),
            retry_statuses=frozenset(map(int, settings.getlist("RETRY_HTTP_CODES"))),
            retry_times=retry_times,
            debug=settings.getbool("DUPEFILTER_DEBUG"),
        )

    def backoffs(self) -> dict[str, Any]:
        """Return the argument ``backoff`` of a set, if it is not the default one."""
        return {} if self.backoff is None else {"backoff": self.backoff}


def _positive(settings: BaseSettings, name: str, default: float) -> float:
    given = settings.get(name)
    try:
        value = default if given is None else float(given)
    except (TypeError, ValueError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"the setting {name} must be a number greater than 0, not {given!r}")
    return value


def _backoff(given: Any) -> Callable[[int], float] | None:
    if given is None:
        return None
    try:
        first = float(given)
    except (TypeError, ValueError):
        backoff = load_object(given)
        if not callable(backoff):
            raise TypeError(f"the setting REDSET_BACKOFF must be seconds or a callable, not {given!r}") from None
        return cast("Callable[[int], float]", backoff)
    return lambda attempt: min(first * 2.0 ** min(attempt - 1, 32), LONGEST)


def _serializer(given: Any) -> Any:
    if given is None or given == "json":
        return values
    if isinstance(given, str):
        # A module, such as pickle, or an object in one.
        given = __import__(given) if "." not in given else load_object(given)
    if not (hasattr(given, "dumps") and hasattr(given, "loads")):
        raise ValueError(f"the setting REDSET_SERIALIZER must have dumps and loads, and {given!r} has not")
    return given


def _limit(leases: int, delay: float) -> Limit | None:
    if leases <= 0 and delay <= 0:
        return None
    return Limit(leases=leases if leases > 0 else None, pause=delay if delay > 0 else None)
