"""Charts as SVG, without styles of their own: the style sheet has their colours. No I/O."""

import math
import time
from collections.abc import Sequence

from markupsafe import Markup

from redset.web.rates import MINUTES

__all__ = ("chart", "sparkline")


def sparkline(values: Sequence[float], label: str) -> Markup:
    """Return a small line of a row of numbers."""
    width, height = 120, 24
    top = max(values, default=0)
    step = width / max(1, len(values) - 1)
    points = " ".join(
        f"{round(position * step)},{height - 1 - (value / top * (height - 3) if top else 0):.0f}"
        for position, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}" focusable="false">'
        '<polyline points="{}"/></svg>'
    ).format(width, height, label, points)


def chart(lines: Sequence[tuple[str, str, Sequence[float]]], now: float) -> Markup:
    """Return a chart of the last hour.

    :param lines: a class of the style sheet, a name, and numbers per minute.
    """
    width, height, left, bottom = 720, 150, 44, 18
    top = _round_up(max((value for _, _, values in lines for value in values), default=0))
    step = (width - left - 8) / (MINUTES - 1)

    def x(minute: float) -> str:
        return f"{left + minute * step:.1f}"

    def y(value: float) -> str:
        return f"{height - bottom - value / top * (height - bottom - 10):.1f}"

    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" focusable="false">').format(
            width, height, "; ".join(f"{name}: {sum(values):,.0f} in the last hour" for _, name, values in lines)
        )
    ]
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="y" x="{}" y="{}">{:,g}</text>')
    heights = [(top * part, y(top * part)) for part in (0, 0.5, 1)]
    parts += [grid.format(left, width - 8, at, at, left - 6, float(at) + 4, value) for value, at in heights]
    for minute in range(0, MINUTES, 15):
        at = time.strftime("%H:%M", time.gmtime(now - 60 * (MINUTES - minute)))
        parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(x(minute), height - 4, at))
    for style, _, values in lines:
        points = " ".join(f"{x(minute)},{y(value)}" for minute, value in enumerate(values))
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(style, points))
    return Markup("").join(parts) + Markup("</svg>")


def _round_up(value: float) -> float:
    """Return the next number with one digit, so that its half has few too."""
    if value <= 0:
        return 2
    unit = 10.0 ** math.floor(math.log10(value))
    return next((factor * unit for factor in (1, 2, 4, 6, 8, 10) if factor * unit >= max(value, 2)), 2.0)
