"""What is published of a run: figures, tables and a timeline, which docs/chaos.md includes."""

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from chaos.checkers import RULES, Verdict
from chaos.history import Call, Fault, History
from chaos.stories import FOR_GOOD, HAND_OUTS

__all__ = ("Run", "table", "write")

#: Told apart by the colour-blind too (Okabe and Ito).
BLUE, SKY, ORANGE, GREY, LIGHT, INK = "#0072B2", "#56B4E9", "#D55E00", "#8A8A8A", "#E4E4E4", "#333333"

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.color": LIGHT,
    "savefig.facecolor": "white",
    "svg.hashsalt": "redset",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.left": False,
    "ytick.minor.left": False,
}

#: Everybody of a place is met by these, so they are drawn through all panels.
OF_THE_SERVER = ("restart", "full", "failover", "handover", "freeze", "slot", "lose", "delay", "cut")


class Run(NamedTuple):
    """What happened at one place, and what the checkers say of it."""

    history: History
    verdict: Verdict
    seed: int
    #: How long things went wrong.
    seconds: float


def write(directory: Path, runs: Mapping[str, Run]) -> None:
    """Writes all there is to publish of these runs, by the names of their places. What is there of others stays."""
    directory.mkdir(parents=True, exist_ok=True)
    there = directory / "chaos.json"
    before = json.loads(there.read_text())["runs"] if there.exists() else {}
    figures = before | {place: _figures(run) for place, run in runs.items()}
    told = {"python": platform.python_version(), "system": platform.system(), "runs": figures}
    there.write_text(json.dumps(told, indent=1) + "\n")
    (directory / "runs.md").write_text(_runs(figures))
    (directory / "calls.md").write_text(_calls(figures))
    (directory / "faults.md").write_text(_faults(figures))
    (directory / "rules.md").write_text(_rules(figures))
    for place, run in runs.items():
        _draw(run.history, directory / f"timeline-{place}.svg")


def _figures(run: Run) -> dict[str, Any]:
    history, verdict = run.history, run.verdict
    faults = [fault for fault in history.faults if fault.details.get("seconds") != 0]
    broken = Counter(violation.checker for violation in verdict.violations)
    return {
        "seed": run.seed,
        "seconds": run.seconds,
        "processes": len({call.process for call in history.calls}),
        "items": sum(len(call.items) for call in history.of_names("add", "update", "add_to", "add_new", "zadd")),
        "handed out": sum(len(call.rows) for call in history.of_names(*HAND_OUTS)),
        "calls": _counted((call.name, call.outcome) for call in history.calls),
        "faults": {
            name: {
                "times": sum(fault.name == name for fault in faults),
                "seconds": round(sum(fault.ended - fault.began for fault in faults if fault.name == name), 1),
            }
            for name in sorted({fault.name for fault in faults})
        },
        "rules": {
            rule: {
                "looked at": verdict.looked_at[rule],
                "excused": {why: number for (name, why), number in sorted(verdict.excused.items()) if name == rule},
                "violations": broken[rule],
            }
            for rule in RULES
        },
    }


def _counted(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    counts = Counter(pairs)
    return {name: {how: counts[name, how] for how in ("ok", "refused", "unknown")} for name, _ in sorted(counts)}


# Tables


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In Markdown; numbers stand to the right."""
    rows = [list(row) for row in rows]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(head))]
    marks = ["--:" if is_number else "---" for is_number in right]
    lines = [head, marks, *([_written(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _written(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _runs(figures: Mapping[str, Any]) -> str:
    head = ("place", "seed", "seconds", "processes", "calls", "items added", "items claimed", "violations")
    return table(
        head,
        (
            (
                place,
                str(run["seed"]),
                f"{run['seconds']:g}",
                run["processes"],
                sum(sum(outcomes.values()) for outcomes in run["calls"].values()),
                run["items"],
                run["handed out"],
                sum(rule["violations"] for rule in run["rules"].values()),
            )
            for place, run in figures.items()
        ),
    )


def _calls(figures: Mapping[str, Any]) -> str:
    total: Counter[tuple[str, str]] = Counter()
    for run in figures.values():
        for name, outcomes in run["calls"].items():
            total.update({(name, outcome): number for outcome, number in outcomes.items()})
    outcomes = ("ok", "refused", "unknown")
    names = sorted({name for name, _ in total})
    return table(("call", *outcomes), ((f"`{name}`", *(total[name, one] for one in outcomes)) for name in names))


def _faults(figures: Mapping[str, Any]) -> str:
    names = sorted({name for run in figures.values() for name in run["faults"]})

    def times(run: Mapping[str, Any], name: str) -> str:
        fault = run["faults"].get(name)
        if not fault:
            return ""
        often = "once" if fault["times"] == 1 else f"{fault['times']} times"
        return often + (f", {fault['seconds']:g} s" if fault["seconds"] >= 0.1 else "")

    return table(("fault", *figures), ((name, *(times(run, name) for run in figures.values())) for name in names))


def _rules(figures: Mapping[str, Any]) -> str:
    rows = []
    for rule in RULES:
        judged = [run["rules"][rule] for run in figures.values()]
        excused: Counter[str] = Counter()
        for one in judged:
            excused.update(one["excused"])
        reasons = "; ".join(f"{why}: {number:,}" for why, number in excused.most_common())
        looked_at, violations = (sum(one[what] for one in judged) for what in ("looked at", "violations"))
        rows.append((f"`{rule}`", looked_at, reasons, violations))
    return table(("checker", "observations", "explained", "violations"), rows)


# The timeline


def _draw(history: History, path: Path) -> None:
    """Hand-outs, how long calls took, and what went wrong meanwhile."""
    # An extra, which only this needs.
    mpl, figures = import_module("matplotlib"), import_module("matplotlib.figure")
    start = history.calls[0].invoked
    end = max(call.completed or call.invoked for call in history.calls)
    faults = [fault for fault in history.faults if fault.details.get("seconds") != 0]
    lanes = sorted({fault.name for fault in faults}, key=lambda name: (name not in OF_THE_SERVER, name))
    with mpl.rc_context(STYLE):
        # As wide as a phone shows without making the letters small.
        figure = figures.Figure(figsize=(4.8, 4.6 + 0.19 * len(lanes)), layout="constrained")
        heights = [2.2, 1.8, 0.25 + 0.19 * len(lanes)]
        handed_out, latency, wrong = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        _draw_hand_outs(handed_out, history, start, end)
        _draw_latency(latency, history.calls, start, end)
        _draw_faults(wrong, faults, lanes, start)
        for panel in (handed_out, latency):
            for fault in faults:
                if fault.name in OF_THE_SERVER:
                    until = max(fault.ended, fault.began + 0.1)
                    panel.axvspan(fault.began - start, until - start, color=LIGHT, lw=0, zorder=0)
        wrong.set_xlabel("seconds")
        wrong.set_xlim(0, end - start)
        figure.savefig(path, metadata={"Date": None})


def _draw_hand_outs(panel: Any, history: History, start: float, end: float) -> None:
    steps = [number + 0.5 for number in range(int(end - start) + 1)]
    counts: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for call in history.of_names(*HAND_OUTS):
        if call.completed is not None:
            counts[call.name in FOR_GOOD][int(call.completed - start)] += len(call.rows)
    series = [[counts[kind][int(step)] for step in steps] for kind in (False, True)]
    panel.stackplot(steps, series, labels=["under a lease", "for good"], colors=[BLUE, SKY], lw=0)
    panel.set_title("items claimed per second")
    panel.legend(loc="upper right", frameon=False, ncols=2, bbox_to_anchor=(1, 1.16))


def _draw_latency(panel: Any, calls: Iterable[Call], start: float, end: float) -> None:
    """Of calls that do not wait for an item."""
    taken: dict[int, list[float]] = {}
    for call in calls:
        if call.completed is not None and not call.given.get("wait"):
            taken.setdefault(int(call.completed - start), []).append(1000 * (call.completed - call.invoked))
    seconds = [second for second in range(int(end - start) + 1) if second in taken]
    middle = [second + 0.5 for second in seconds]
    panel.plot(middle, [median(taken[second]) for second in seconds], color=BLUE, label="median")
    panel.plot(middle, [max(taken[second]) for second in seconds], color=ORANGE, lw=1, label="slowest")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s")
    panel.set_title("duration of calls")
    panel.legend(loc="upper right", frameon=False, ncols=2, bbox_to_anchor=(1, 1.2))


def _draw_faults(panel: Any, faults: Iterable[Fault], lanes: Sequence[str], start: float) -> None:
    for fault in faults:
        lane = lanes.index(fault.name)
        long = fault.ended - fault.began > 0.1
        colour = ORANGE if fault.name in OF_THE_SERVER else GREY
        if long:
            panel.barh(lane, fault.ended - fault.began, left=fault.began - start, height=0.55, color=colour, lw=0)
        else:
            panel.plot(fault.began - start, lane, marker="|", ms=7, mew=2, color=colour)
    panel.set_yticks(range(len(lanes)), lanes)
    panel.set_ylim(len(lanes) - 0.4, -0.6)
    panel.set_title("what went wrong")
