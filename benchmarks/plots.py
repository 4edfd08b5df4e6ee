"""The plots: one SVG for each section that is easier seen than read."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

__all__ = ("draw",)

Line: TypeAlias = dict[str, Any]
Results: TypeAlias = dict[str, dict[str, Any]]

#: Told apart by the colour-blind too (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY, LIGHT, INK = "#0072B2", "#D55E00", "#009E73", "#8A8A8A", "#E4E4E4", "#333333"
NEAR, FAR = "on loopback", "half a millisecond away"
#: Inches. As wide as a phone shows without making the letters small; so panels stand below each other.
WIDTH = 4.8

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.color": LIGHT,
    "savefig.facecolor": "white",
    "svg.hashsalt": "redset",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelcolor": INK,
    "ytick.color": INK,
    "ytick.left": False,
    "ytick.minor.left": False,
    "xtick.minor.bottom": False,
}


def draw(results: Results, folder: Path, suffix: str = "svg") -> None:
    """Draws what there is, beside the tables."""
    with mpl.rc_context(STYLE):
        for section, plot in PLOTS.items():
            if section in results:
                figure = plot(results)
                figure.savefig(folder / f"{section}.{suffix}", bbox_inches="tight", metadata={"Date": None})


def _lines(results: Results, run: str) -> list[Line]:
    lines: list[Line] = results[run]["lines"] if run in results else []
    return [line for line in lines if "missing" not in line]


def _panels(names: Iterable[str], labels: Iterable[str], *, height: float = 0.23) -> tuple[Figure, list[Axes]]:
    """Panels below each other with the same rows, the first row on top; ``height`` is that of a row."""
    names, labels = list(names), list(labels)
    rows = len(labels)
    figure = Figure(figsize=(WIDTH, 0.5 + (0.6 + height * rows) * len(names)), layout="constrained")
    axes = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    for panel, name in zip(axes, names, strict=True):
        _rows(panel, name, labels)
    return figure, axes


def _rows(panel: Axes, title: str, labels: list[str]) -> None:
    panel.set_title(title)
    panel.tick_params(labelbottom=True)
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.4, -0.6)


def _logarithmic(panel: Axes, *ticks: float) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:,.10g}"


def _spread(panel: Axes, row: float, line: Line, color: str) -> None:
    """A dot for the median and a bar between the quartiles."""
    panel.plot([line["low"], line["high"]], [row, row], color=color, linewidth=3.5, alpha=0.3, solid_capstyle="butt")
    panel.plot(line["ratio"], row, "o", color=color, markersize=5)


def _legend(figure: Figure, axes: Axes, colors: dict[str, str]) -> None:
    for name, color in colors.items():
        axes.plot([], [], "o", color=color, label=name, markersize=5)
    figure.legend(loc="outside lower center", ncols=len(colors), frameon=False)


def _ratios(results: Results) -> Figure:
    """Those that were measured at a distance too, or all."""
    runs = {NEAR: "ratios"} | ({FAR: "ratios-far"} if "ratios-far" in results else {})
    cells: dict[str, dict[tuple[str, str], Line]] = {run: {} for run in runs.values()}
    against = {}
    for run, found in cells.items():
        for line in _lines(results, run):
            benchmark, kind, _, face = line["name"].split("/")
            found[f"{benchmark}/{kind}", face] = line
            against[f"{benchmark}/{kind}"] = line["against"]
    rows = list(dict.fromkeys(row for row, _ in cells[list(runs.values())[-1]]))
    faces = {"sync": ("blocking", BLUE, -0.14), "asyncio": ("asyncio", ORANGE, 0.14)}
    figure, axes = _panels(runs, (f"{name.partition('/')[0]}, {against[name]}" for name in rows), height=0.3)
    for panel, run in zip(axes, runs.values(), strict=True):
        _logarithmic(panel, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10)
        panel.axvline(1, color=INK, linewidth=1)
        for row, name in enumerate(rows):
            for face, color, shift in faces.values():
                if (name, face) in cells[run]:
                    _spread(panel, row + shift, cells[run][name, face], color)
    axes[-1].set_xlabel("speed, where the bare client's is 1")
    _legend(figure, axes[0], {name: color for name, (_, color, _) in faces.items()})
    return figure


def _tasks(results: Results) -> Figure:
    runs = {NEAR: "tasks"} | ({FAR: "tasks-far"} if "tasks-far" in results else {})
    wanted = [line for line in _lines(results, "tasks") if "unshared" not in line["name"]]
    rows = [line["name"] for line in wanted]
    figure, axes = _panels(
        runs, (f"{line['name'].replace('/', ', ')} task{'s' * (line['tasks'] > 1)}" for line in wanted)
    )
    for panel, run in zip(axes, runs.values(), strict=True):
        _logarithmic(panel, *(digit * 10**power for power in range(2, 6) for digit in (1, 3)))
        lines = {line["name"]: line for line in _lines(results, run)}
        for row, name in enumerate(rows):
            if name in lines:
                bare, redset = (1 / median(lines[name][side]) for side in ("bare", "redset"))
                panel.plot([bare, redset], [row, row], color=LIGHT, linewidth=3, zorder=1)
                panel.plot(bare, row, "o", color=GREY, markersize=5)
                panel.plot(redset, row, "o", color=BLUE, markersize=6)
    axes[-1].set_xlabel("calls per second")
    _legend(figure, axes[0], {"bare client": GREY, "redset": BLUE})
    return figure


def _latency(results: Results) -> Figure:
    runs = {NEAR: "latency"} | ({FAR: "latency-far"} if "latency-far" in results else {})
    rows = [(line["event"], line["call"], line["face"]) for line in _lines(results, "latency")]
    rows.sort(key=lambda row: [line["event"] for line in _lines(results, "latency")].index(row[0]))
    figure, axes = _panels(runs, (f"{event},\nto {call} ({face})" for event, call, face in rows), height=0.36)
    for panel, run in zip(axes, runs.values(), strict=True):
        _logarithmic(panel)
        for line in _lines(results, run):
            row = rows.index((line["event"], line["call"], line["face"]))
            panel.plot([line["p50"], line["p99"]], [row, row], color=BLUE, linewidth=1.5, alpha=0.5)
            panel.plot(line["p50"], row, "o", color=BLUE, markersize=5)
            panel.plot(line["p99"], row, "|", color=BLUE, markersize=8, markeredgewidth=1.5)
            p50 = f"{line['p50']:.2f}" if line["p50"] < 10 else f"{line['p50']:.0f}"
            panel.annotate(p50, (line["p50"], row), (-5, 0), textcoords="offset points", ha="right", va="center")
        panel.set_xlim(left=min(line["p50"] for line in _lines(results, "latency")) / 5)
    axes[-1].set_xlabel("milliseconds: dot p50, bar p99 or longest")
    return figure


def _memory(results: Results) -> Figure:
    lines = _lines(results, "memory")
    figure, (panel,) = _panels(["server's memory per item"], (line["name"] for line in lines))
    for row, line in enumerate(lines):
        panel.barh(row, line["keys"], color=GREY if "bare" in line["name"] else BLUE, alpha=0.35, height=0.62)
        panel.barh(row, line["own"], color=GREY if "bare" in line["name"] else BLUE, height=0.62)
        panel.text(line["keys"] + 4, row, f"{line['keys']:.0f}", va="center")
    panel.set_xlabel("bytes; dark: the item itself")
    return figure


def _consumers(results: Results) -> Figure:
    runs = {NEAR: "consumers"} | ({FAR: "consumers-far"} if "consumers-far" in results else {})
    figure = Figure(figsize=(WIDTH, 3.6 * len(runs)), layout="constrained")
    panels = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, (where, run) in zip(panels, runs.items(), strict=True):
        _scaling(panel, _lines(results, run))
        panel.set_title(f"items per second, {where}")
        panel.tick_params(labelbottom=True)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    panels[-1].set_xlabel("consumer processes")
    return figure


def _scaling(panel: Axes, lines: list[Line]) -> None:
    clients_in_c = [line for line in lines if "-benchmark" in line["name"]]
    numbers = sorted({line["processes"] for line in lines if line not in clients_in_c})
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(numbers, map(str, numbers))
    panel.grid(visible=True, axis="y")
    panel.grid(visible=False, axis="x")
    ends = []
    for name in dict.fromkeys(line["name"] for line in lines if line not in clients_in_c):
        points = [(line["processes"], line["items_per_second"]) for line in lines if line["name"] == name]
        color = GREY if name == "ZPOPMIN" else BLUE if "(" not in name else GREEN
        panel.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3.5, linewidth=1.6)
        ends.append((points[-1][1], name, color))
    for line in clients_in_c:
        panel.axhline(line["items_per_second"], color=ORANGE, linewidth=1.2, linestyle=(0, (4, 2)))
        ends.append((line["items_per_second"], line["name"].replace("redis-benchmark, ZPOPMIN,", "in C,"), ORANGE))
    _label_ends(panel, numbers[-1], ends)


def _label_ends(panel: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """A name behind the end of each line, moved up where it would stand on another."""
    panel.set_xlim(right=x * 1.15)
    low, high = map(math.log10, panel.get_ylim())
    apart, last = (high - low) / 18, -math.inf
    for y, name, color in sorted(ends):
        last = max(math.log10(y), last + apart)
        panel.annotate(
            name, (1.01, 10**last), xycoords=("axes fraction", "data"), color=color, va="center", annotation_clip=False
        )


def _growth(results: Results) -> Figure:
    lines = _lines(results, "growth")
    title = f"{lines[0]['large']:,} items compared with {lines[0]['small']:,}"
    figure, (panel,) = _panels([title], (line["name"] for line in lines))
    panel.axvline(1, color=INK, linewidth=1)
    for row, line in enumerate(lines):
        _spread(panel, row, line, BLUE)
        ratio, where = f"{line['ratio']:.2f}", (line["high"], row)
        panel.annotate(ratio, where, (5, 0), textcoords="offset points", va="center")
    panel.set_xlim(0, max(2, *(line["high"] * 1.1 for line in lines)))
    panel.set_xlabel("times as long")
    return figure


def _sharding(results: Results) -> Figure:
    lines = _lines(results, "sharding")
    costs = [line for line in lines if line["what"] == "cost"]
    outages = [line for line in lines if line["what"] == "outage"]
    figure = Figure(figsize=(WIDTH, 3.6 + 0.28 * len(costs)), layout="constrained")
    heights = [0.5 + 0.28 * len(costs), 2.4]
    first, second = figure.subplots(2, 1, height_ratios=heights)
    _rows(first, "busiest node, where that of one set is 1", [line["name"] for line in costs])
    first.axvline(1, color=INK, linewidth=1)
    first.axvline(costs[0]["goal"], color=ORANGE, linewidth=1.2, linestyle=(0, (4, 2)))
    for row, line in enumerate(costs):
        _spread(first, row, line, BLUE)
        first.plot(line["scripts_ratio"], row, "o", color=GREEN, markersize=5)
        right = max(line["high"], line["scripts_ratio"]), row
        first.annotate(f"{line['ratio']:.2f}", right, (5, 0), textcoords="offset points", va="center")
    first.set_xlim(0, max(1.1, *(line["high"] * 1.15 for line in costs)))
    for label, color in {"whole node": BLUE, "scripts alone": GREEN}.items():
        first.plot([], [], "o", color=color, label=label, markersize=5)
    first.legend(frameon=False, fontsize=7, loc="lower right")
    second.set_title("items per second of the other nodes' shards")
    for line, color in zip(outages, (BLUE, GREEN, ORANGE), strict=False):
        seconds = [int(second) for second in line["seconds"]]
        second.plot(seconds, line["seconds"].values(), color=color, marker="o", markersize=3, label=line["name"])
    second.axvline(0, color=INK, linewidth=1)
    second.set_ylim(bottom=0)
    second.set_xlabel("seconds after a node is away")
    second.legend(frameon=False, fontsize=7)
    return figure


def _order(results: Results) -> Figure:
    lines = _lines(results, "order")
    figure = Figure(figsize=(WIDTH, 0.6 + 1.5 * len(lines)), layout="constrained")
    panels = figure.subplots(len(lines), 1, sharex=True, squeeze=False)[:, 0]
    for panel, line in zip(panels, lines, strict=True):
        panel.set_xscale("symlog", linthresh=1)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        panel.set_title(line["name"])
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        starts = [float(start) for start in line["histogram"]]
        panel.fill_between(starts, list(line["histogram"].values()), step="post", color=BLUE, alpha=0.35, linewidth=0)
        simulated = line["simulated_histogram"]
        panel.step([*map(float, simulated)], [*simulated.values()], where="post", color=INK, linewidth=1)
        panel.axvline(line["mean"], color=BLUE, linewidth=1.2)
        if line["theory"] is not None:
            panel.axvline(line["theory"], color=ORANGE, linewidth=1.2, linestyle=(0, (4, 2)))
        panel.set_xlim(left=0)
    panels[-1].set_xlabel("lower items passed over")
    for name, color in {"measured, and mean": BLUE, "simulated": INK, "5S/6 - 1": ORANGE}.items():
        panels[0].plot([], [], color=color, label=name)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _fairness(results: Results) -> Figure:
    """Of each way, how many of the jobs have waited at most so long."""
    lines = _lines(results, "fairness")
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    panels = list(figure.subplots(2, 1, sharex=True))
    for panel, tenant, title in zip(
        panels, ("small", "large"), ("jobs of small tenants", "jobs of the tenant that floods the set"), strict=True
    ):
        panel.set_title(title)
        for line, color in zip((line for line in lines if line["tenant"] == tenant), (ORANGE, BLUE), strict=True):
            waits = sorted(line["waits"])
            shares = [100 * (number + 1) / len(waits) for number in range(len(waits))]
            panel.step(waits, shares, where="post", color=color, label=line["way"])
        panel.set_ylabel("% of the jobs")
        _logarithmic(panel)
    panels[-1].set_xlabel("milliseconds waited, at most")
    panels[0].legend(frameon=False, loc="lower right")
    return figure


def _endurance(results: Results) -> Figure:
    """Minute by minute; each panel begins at zero, so that what is flat looks flat."""
    lines = _lines(results, "endurance")
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    minutes = [line["minute"] for line in lines]
    panels = {
        "MB": {"server_mb": "server", "clients_mb": "both clients"},
        "open descriptors": {"files": ""},
        "milliseconds for a cycle": {"p50_ms": "p50", "p99_ms": "p99"},
    }
    for panel, (title, figures) in zip(figure.subplots(len(panels), 1, sharex=True), panels.items(), strict=True):
        panel.set_title(title)
        for (name, label), color in zip(figures.items(), (BLUE, ORANGE), strict=False):
            panel.plot(minutes, [line[name] for line in lines], color=color, label=label)
        panel.set_ylim(bottom=0)
        panel.grid(axis="y")
        if len(figures) > 1:
            panel.legend(frameon=False, loc="center right")
    panel.set_xlabel("minutes")
    return figure


def _peers(results: Results) -> Figure:
    lines = sorted(_lines(results, "peers"), key=lambda line: -line["work"])
    far = {(line["name"], line["way"]): line for line in _lines(results, "peers-far")}
    jobs = {"produce": "enqueued in bulk", "produce_one": "enqueued one by one", "work": "processed"}
    rows = {job: [line for line in lines if job in line] for job in jobs}
    figure = Figure(figsize=(WIDTH, 2.3 + 0.19 * sum(map(len, rows.values()))), layout="constrained")
    heights = [len(each) for each in rows.values()]
    axes = list(figure.subplots(len(jobs), 1, sharex=True, height_ratios=heights))
    for panel, job in zip(axes, jobs, strict=True):
        _logarithmic(panel)
        _rows(panel, jobs[job], [_peer(line) for line in rows[job]])
        for row, line in enumerate(rows[job]):
            color = {"redset": BLUE, "bare": INK}.get(line["name"], GREY)
            here, there = line.get(job), far.get((line["name"], line["way"]), {}).get(job)
            if here and there:
                panel.plot([here, there], [row, row], color=LIGHT, linewidth=3, zorder=1)
            if there:
                panel.plot(there, row, "o", color=color, markersize=5, markerfacecolor="white")
            if here:
                panel.plot(here, row, "o", color=color, markersize=6)
    axes[-1].set_xlabel("jobs per second")
    axes[-1].plot([], [], "o", color=GREY, label=NEAR)
    if far:
        axes[-1].plot([], [], "o", color=GREY, markerfacecolor="white", label=FAR)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _peer(line: Line) -> str:
    return f"{line['name']} {line['way']}".strip()


PLOTS: dict[str, Callable[[Results], Figure]] = {
    "ratios": _ratios,
    "tasks": _tasks,
    "latency": _latency,
    "memory": _memory,
    "consumers": _consumers,
    "growth": _growth,
    "fairness": _fairness,
    "endurance": _endurance,
    "sharding": _sharding,
    "order": _order,
    "peers": _peers,
}
