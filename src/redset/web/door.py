"""Calls on sets of either face: awaited, or in a thread."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redset import aio
from redset import registry as blocking
from redset.core import overview, registry
from redset.core.clients import check_client
from redset.core.drivers import AsyncDriver, Driver
from redset.core.inspecting import Sample
from redset.core.operations import Plan, once
from redset.core.overview import Overview
from redset.core.registry import SetInfo
from redset.core.retries import tries_once
from redset.web.rates import SAMPLES_FRESH
from redset.web.texts import DIGEST, name_in_url, of_url

__all__ = ("Door",)

R = TypeVar("R")

#: Seconds for which figures are kept: all open pages together read them once in this time. With very many sets it is
#: as many times as long as a reading takes.
FRESH = 1.0
SHARE = 5
#: Seconds after which a page is given up.
PATIENCE = 10.0


class Door:
    """All that the pages ask of the server of the sets."""

    def __init__(self, client: Any) -> None:
        self._awaits = _is_awaited(client)
        self._client = client
        kinds: Any = aio.KINDS if self._awaits else blocking.KINDS
        self._kinds = kinds
        driver_type: Any = AsyncDriver if self._awaits else Driver
        self._driver = driver_type(client, *registry.PLACE, recording=False, connections="own")
        self._reading: asyncio.Task[Any] | None = None
        #: Until when they hold, and the figures.
        self._figures: tuple[float, list[tuple[SetInfo, Overview | Exception]]] | None = None
        self._samples: dict[str, tuple[float, list[Sample]]] = {}

    async def follow(self, plan: Plan[R]) -> R:
        """Perform a plan that reads."""
        token = tries_once.set(True)
        try:
            async with asyncio.timeout(PATIENCE):
                if self._awaits:
                    return await self._driver.follow(plan)  # type: ignore[no-any-return] # the result of the plan
                return await asyncio.to_thread(self._driver.follow, plan)
        finally:
            tries_once.reset(token)

    async def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method of a set of either face."""
        if self._awaits:
            return await method(*args, **options)
        return await asyncio.to_thread(method, *args, **options)

    def opened(self, info: SetInfo) -> Any:
        """Return the set with raw bytes as items.

        :raises KeyError: the registry describes no set that this version knows.
        """
        return registry.opened(self._client, info.name, info, self._kinds)

    async def all_figures(self) -> list[tuple[SetInfo, Overview | Exception]]:
        """Return the figures of all sets, at most a second old."""
        known = self._figures
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        task = self._reading
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._reading = asyncio.create_task(self._read_figures())
        # Shielded: others wait for the same reading.
        found: list[tuple[SetInfo, Overview | Exception]] = await asyncio.shield(task)
        return found

    async def _read_figures(self) -> Any:
        begun = time.monotonic()
        infos = await self.follow(registry.infos(empty=True))
        found = await self.follow(overview.overviews(self._driver, infos))
        figures = list(zip(infos, found, strict=True))
        now = time.monotonic()
        self._figures = now + max(FRESH, SHARE * (now - begun)), figures
        return figures

    def forget_figures(self) -> None:
        """Have the next page read the figures, after an action."""
        self._figures = None

    async def info(self, in_url: str) -> SetInfo | None:
        """Return what the registry says of the set that a URL names; None if it knows none."""
        try:
            name = of_url(in_url).decode()
        except ValueError:
            # It may be the digest of a long name.
            infos = await self.follow(registry.infos(empty=True)) if in_url.startswith(DIGEST) else []
            return next((info for info in infos if name_in_url(info.name) == in_url), None)
        found: SetInfo | None = await self.follow(once(registry.info(name)))
        return found

    async def figures(self, info: SetInfo) -> Overview:
        """Return the figures of one set, as of now."""
        (found,) = await self.follow(overview.overviews(self._driver, [info]))
        if isinstance(found, Exception):
            raise found
        return found

    async def samples(self, some: list[Overview]) -> dict[str, list[Sample]]:
        """Return the samples of some sets by name, at most 20 seconds old."""
        now = time.monotonic()
        stale = [
            one
            for one in some
            if one.stats is not None
            and now - self._samples.get(one.info.name, (-SAMPLES_FRESH, []))[0] >= SAMPLES_FRESH
        ]
        if stale:
            found = await self.follow(overview.histories(self._driver, stale))
            if len(self._samples) > 1000:  # so that they do not pile up
                self._samples.clear()
            self._samples |= {one.info.name: (now, own) for one, own in zip(stale, found, strict=True)}
        return {one.info.name: self._samples.get(one.info.name, (0, []))[1] for one in some}

    def rows(self, info: SetInfo, *args: Any) -> Coroutine[Any, Any, list[overview.Row]]:
        return self.follow(overview.read_rows(self._driver, info, *args))

    def find(self, info: SetInfo, *args: Any) -> Coroutine[Any, Any, list[Any]]:
        return self.follow(overview.find_rows(self._driver, info, *args))

    def reasons(self, info: SetInfo, *args: Any) -> Coroutine[Any, Any, list[bytes]]:
        return self.follow(overview.read_reasons(self._driver, info, *args))

    def delivery(self, info: SetInfo, identity: bytes, one: Any) -> Coroutine[Any, Any, bytes | None]:
        return self.follow(overview.delivery_of(self._driver, info, identity, one))

    def shards(self, info: SetInfo) -> Coroutine[Any, Any, list[SetInfo]]:
        return self.follow(overview.shard_infos(self._driver, info))

    async def shard_figures(self, infos: list[SetInfo]) -> list[Overview | Exception]:
        return await self.follow(overview.overviews(self._driver, infos))


def _is_awaited(client: Any) -> bool:
    try:
        check_client(client, awaits=False)
    except TypeError:
        check_client(client, awaits=True)
        return True
    return False
