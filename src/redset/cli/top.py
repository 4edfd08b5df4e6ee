"""The live table of all sets that ``redset top`` shows."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from redset.cli.escapes import escaped
from redset.cli.writing import draw
from redset.core import overview, registry
from redset.core.clients import is_failure
from redset.core.drivers import Driver
from redset.core.inspecting import Sample
from redset.core.overview import Overview
from redset.core.retries import tries_once
from redset.reservations import Limits
from redset.web.rates import CLAIMS, FAILURES, SAMPLES_FRESH, rates
from redset.web.texts import duration, number
from redset.web.urgency import troubles

__all__ = ("Screen", "watch")

#: The number of lines around the rows: title, heads, rules, the line below.
AROUND = 6
#: The columns, and how wide the screen has to be for each, so that some of the name is left.
COLUMNS = {
    "set": 0,
    "": 30,
    "waiting": 0,
    "leased": 40,
    "delayed": 90,
    "dead": 50,
    "lag": 50,
    "claims/min": 64,
    "failed/min": 90,
    "last hour": 100,
    "limits": 120,
}
BARS = "▁▂▃▄▅▆▇█"
#: The number of minutes that one bar of the last hour stands for.
MINUTES_OF_BAR = 4


def watch(client: Any, interval: float, *, once: bool) -> None:
    """Show the table, and again after each ``interval`` seconds unless ``once``, or if no terminal can redraw it."""
    screen = Screen(client)
    console = Console()
    # On a dumb terminal, rich draws nothing that is to be redrawn.
    if once or not console.is_terminal or console.is_dumb_terminal:
        draw(console, screen.table(None))
        return
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen.table(console.size.height, console.size.width), refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        return


class Screen:
    """Reads the figures of all sets, in one round trip for 1,000 sets, and makes the table."""

    def __init__(self, client: Any) -> None:
        self._driver = Driver(client, *registry.PLACE, recording=False, connections="own")
        self._samples: dict[str, list[Sample]] = {}
        self._samples_until = 0.0
        self._last: list[Overview] = []
        #: The names of sets that cannot be read.
        self._broken: list[str] = []

    def table(self, height: int | None, width: int | None = None) -> Any:
        """Read the figures, and return the table with the lines below it.

        :param height: the lines of the screen; None for all sets.
        """
        trouble = ""
        try:
            self._read()
        except Exception as error:
            if not is_failure(error):
                raise
            # The last figures are still shown, since the server may be away for a moment only.
            trouble = f"The server does not answer: {error}"
            if height is None:
                raise
        sets = sorted(self._last, key=lambda one: (-(_lag(one) or 0.0), one.info.name))
        shown = sets if height is None else sets[: max(1, height - AROUND)]
        below = [trouble] if trouble else []
        if self._broken:
            names = ", ".join(map(escaped, self._broken))
            below.append(f"{len(self._broken):,} cannot be read, see 'redset ls': {names}")
        if len(shown) < len(sets):
            below.append(f"and {len(sets) - len(shown):,} more; make the window higher, or: redset top --once")
        columns = width or Console().size.width
        return Group(self._rows(shown, columns), *(Text(line, overflow="ellipsis", no_wrap=True) for line in below))

    def _read(self) -> None:
        before = tries_once.set(True)
        try:
            infos = self._driver.follow(registry.infos(empty=True))
            found = self._driver.follow(overview.overviews(self._driver, infos))
            self._last = [one for one in found if not isinstance(one, Exception)]
            self._broken = [info.name for info, one in zip(infos, found, strict=True) if isinstance(one, Exception)]
            if time.monotonic() >= self._samples_until:
                with_totals = [one for one in self._last if one.stats is not None]
                samples = self._driver.follow(overview.histories(self._driver, with_totals))
                self._samples = {one.info.name: own for one, own in zip(with_totals, samples, strict=True)}
                self._samples_until = time.monotonic() + SAMPLES_FRESH
        finally:
            tries_once.reset(before)

    def _rows(self, sets: Sequence[Overview], width: int) -> Table:
        table = Table(title=f"{len(self._last):,} sets", title_justify="left", box=None, pad_edge=False, expand=True)
        columns = [column for column, least in COLUMNS.items() if width >= least]
        for column in columns:
            is_text = column in ("set", "", "limits")
            table.add_column(
                column,
                justify="left" if is_text or column == "last hour" else "right",
                no_wrap=True,
                overflow="ellipsis",
                ratio={"set": 3, "limits": 1}.get(column),
                min_width=8 if column == "" else None,
            )
        for one in sets:
            cells = self._cells(one)
            table.add_row(*(cells.get(column, Text("-")) for column in columns))
        return table

    def _cells(self, one: Overview) -> dict[str, Text]:
        name, nothing = Text(escaped(one.info.name)), Text("")
        if one.stats is None or one.totals is None:
            return {
                "set": name,
                "": nothing,
                "waiting": Text(number(one.living)),
                "last hour": nothing,
                "limits": nothing,
            }
        worst = next(iter(troubles(one)), None)
        samples, stats = self._samples.get(one.info.name, []), one.stats
        claims, failures = (rates(samples, one.totals, names, one.now) for names in (CLAIMS, FAILURES))
        lag = _lag(one)
        return {
            "set": name,
            "": Text("" if worst is None else worst.word, style="bold red" if worst and worst.rank <= 1 else "yellow"),
            "waiting": Text(number(stats.waiting)),
            "leased": Text(number(stats.leased)),
            "delayed": Text(number(stats.delayed)),
            "dead": Text(number(stats.dead), style="red" if stats.dead else ""),
            "lag": Text("-" if lag is None else duration(lag)),
            "claims/min": Text(_rate(claims)),
            "failed/min": Text(_rate(failures)),
            "last hour": Text(_bars(claims)),
            "limits": Text(_limits(stats.limits)),
        }


def _rate(values: Sequence[float]) -> str:
    """Return the mean of the last five minutes."""
    return f"{sum(values[-5:]) / 5:,.1f}"


def _lag(one: Overview) -> float | None:
    return None if one.stats is None else one.stats.lag


def _bars(values: Sequence[float]) -> str:
    """Return a sparkline of the last hour."""
    parts = [max(values[start : start + MINUTES_OF_BAR]) for start in range(0, len(values), MINUTES_OF_BAR)]
    most = max(parts)
    return "" if most <= 0 else "".join(BARS[min(7, int(8 * part / most))] if part else " " for part in parts)


def _limits(limits: Limits | None) -> str:
    if limits is None:
        return ""
    words = []
    if limits.rate is not None:
        words.append(f"{limits.rate:g} in {limits.per:g} s")
    words += [
        f"{word} {value:,}"
        for word, value in (("leases", limits.leases), ("maxsize", limits.maxsize))
        if value is not None
    ]
    return ", ".join(words)
