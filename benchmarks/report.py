"""The tables of the documentation, and with matplotlib the plots, of what was measured.

Usage: python benchmarks/report.py docs/benchmarks/results.json

They stand beside that file afterwards. Nothing here is measured, and nothing in them is written by hand.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

Line: TypeAlias = dict[str, Any]
Results: TypeAlias = dict[str, dict[str, Any]]

#: Of fewer samples than this, a p99 is the longest of them.
ENOUGH_FOR_P99 = 100
#: Each run finds the load that the one before has left, so the least one is that of the machine: at most so much.
QUIET = 1.0


def main() -> None:
    path = Path(sys.argv[1])
    results: Results = json.loads(path.read_text())
    if importlib.util.find_spec("matplotlib") is None:
        print('there are no plots without matplotlib: pip install "redset[bench]"')
    else:
        from plots import draw

        draw(results, path.parent)
    path.with_name("machine.md").write_text("\n".join(_machine(results)) + "\n")
    for section in TABLES:
        path.with_name(f"{section}.md").write_text("\n".join(_page(results, section, path.parent)))


def _page(results: Results, section: str, folder: Path) -> Iterator[str]:
    """What the documentation includes: the plot, the table, and the commands."""
    tabulate, seen = TABLES[section]
    if section not in results:
        yield "Not measured: `make bench` does.\n"
        return
    if Path(folder, f"{section}.svg").exists():
        yield f"![{seen}]({section}.svg)\n"
    yield from tabulate(results)
    yield ""
    yield from _below(results, section, f"{section}-far")


def _below(results: Results, *runs: str) -> Iterator[str]:
    """The commands, and what they ran under, as far as not all runs did."""
    for run in runs:
        if run in results:
            told = results[run]["conditions"]
            own = {what: value for what, value in told.items() if what != "command" and what not in _common(results)}
            yield f"`{told['command']}` ({'; '.join(f'{what}: {value}' for what, value in own.items())}).\n"


def _common(results: Results) -> dict[str, str]:
    """The conditions that all runs have in common, except those that only simulate."""
    first, *others = _measured(results)
    return {what: value for what, value in first.items() if all(other.get(what) == value for other in others)}


def _measured(results: Results) -> list[dict[str, str]]:
    """The conditions of each run with a server."""
    return [run["conditions"] for run in results.values() if "server" in run["conditions"]]


def _machine(results: Results) -> Iterator[str]:
    yield from (f"- {what}: {value}" for what, value in _common(results).items())
    loads = [float(told["load before"]) for told in _measured(results)]
    yield f"- load before each run: {min(loads):.1f} .. {max(loads):.1f}"
    if min(loads) > QUIET:
        yield "\n**The machine was busy with other things: rates are too low, times too long, and spreads wide.**"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Columns of figures stand at the right."""
    rows = [list(row) for row in rows]
    columns = list(zip(*rows, strict=True))[1:]
    figures = [all(not cell or cell[0].isdigit() for cell in column) for column in columns]
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "".join("--:|" if right else "---|" for right in figures)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _lines(results: Results, run: str) -> list[Line]:
    lines: list[Line] = results[run]["lines"] if run in results else []
    return lines


def _ratio(line: Line | None) -> str:
    return f"{line['ratio']:.2f} ({line['low']:.2f} .. {line['high']:.2f})" if line else ""


def _rate(seconds: Iterable[float]) -> str:
    return f"{1 / median(seconds):,.0f}"


def _ratios(results: Results) -> Iterator[str]:
    """A line for each call, and the faces and distances beside each other."""
    cells: dict[tuple[str, str], dict[str, Line]] = {}
    for run in "ratios", "ratios-far":
        for line in _lines(results, run):
            benchmark, kind, _, face = line["name"].split("/")
            cells.setdefault((f"{benchmark}, {kind}", line["against"]), {})[f"{run}/{face}"] = line
    columns = ("ratios/blocking", "ratios/asyncio", "ratios-far/blocking", "ratios-far/asyncio")
    yield from _table(
        ("", "compared with", "sync", "asyncio", "sync, at a distance", "asyncio, at a distance"),
        ((*which, *(_ratio(found.get(column)) for column in columns)) for which, found in cells.items()),
    )


def _tasks(results: Results) -> Iterator[str]:
    rows = []
    far = {line["name"]: line for line in _lines(results, "tasks-far")}
    for line in _lines(results, "tasks"):
        name, distant = line["name"], far.get(line["name"])
        rates = [_rate(each[side]) if each else "" for each in (line, distant) for side in ("bare", "redset")]
        rows.append((name, line["against"], *rates[:2], _ratio(line), *rates[2:], _ratio(distant)))
    heads = ("call/tasks", "compared with", "its calls/s", "redset's", "ratio")
    yield from _table((*heads, "at a distance: its", "redset's", "ratio"), rows)


def _latency(results: Results) -> Iterator[str]:
    far = {(line["face"], line["call"], line["event"]): line for line in _lines(results, "latency-far")}
    rows = []
    for line in _lines(results, "latency"):
        which = (line["face"], line["call"], line["event"])
        times = (time for each in (line, far.get(which)) for time in _times(each))
        rows.append((line["event"], f"{line['call']}, {line['face']}", str(line["samples"]), *times))
    figures = ("p50 ms", "p99 ms", "longest ms")
    yield from _table(("event", "to", "samples", *figures, *(f"{each}, at a distance" for each in figures)), rows)


def _times(line: Line | None) -> Iterator[str]:
    for figure in "p50", "p99", "max":
        tells = line is not None and (figure != "p99" or line["samples"] >= ENOUGH_FOR_P99)
        yield f"{line[figure]:.2f}" if line and tells else ""


def _idle(results: Results) -> Iterator[str]:
    """Return the tables of idle waiters: their cost, and their delay at an event."""
    lines = _lines(results, "idle")
    figures = {line["consumers"]: line for line in lines}
    heads = ("waiting consumers", "scripts/s", "commands/s, those in scripts included", "% of a core of the server")
    yield from _table(
        heads,
        (
            (f"{consumers:,}", f"{line['scripts']:.1f}", f"{line['commands']:.1f}", f"{line['cpu']:.2f}")
            for consumers, line in figures.items()
        ),
    )
    yield ""
    heads = ("event", "waiting consumers", "ms until one has the item, p50", "longest ms", "scripts per item")
    yield from _table(
        heads,
        (
            (
                line["event"],
                f"{line['consumers']:,}",
                f"{line['p50_ms']:.1f}",
                f"{line['max_ms']:.1f}",
                f"{line['scripts_per_item']:.1f}",
            )
            for line in sorted(lines, key=lambda line: [each["event"] for each in lines].index(line["event"]))
        ),
    )


def _costs(results: Results) -> Iterator[str]:
    heads = ("per item", "commands sent", "commands run", "bytes in", "bytes out", "server CPU, µs")
    figures = ("sent", "run", "bytes_in", "bytes_out", "cpu_us")
    digits = {"sent": 3, "run": 3}
    yield from _table(
        heads,
        (
            (line["name"], *(f"{line[figure]:.{digits.get(figure, 1)}f}" for figure in figures))
            for line in _lines(results, "costs")
        ),
    )


def _memory(results: Results) -> Iterator[str]:
    yield from _table(
        ("bytes per item", "item itself", "all keys", "growth of the server"),
        (
            (line["name"], *(f"{line[figure]:.1f}" for figure in ("own", "keys", "growth")))
            for line in _lines(results, "memory")
        ),
    )


def _consumers(results: Results) -> Iterator[str]:
    numbers = sorted({line["processes"] for line in _lines(results, "consumers")})
    for run, where in ("consumers", "on loopback"), ("consumers-far", "at a distance"):
        cells = {(line["name"], line["processes"]): line for line in _lines(results, run)}
        if cells:
            rows = (
                (name, *(_busy(cells.get((name, number))) for number in numbers))
                for name in dict.fromkeys(name for name, _ in cells)
            )
            yield from _table((f"items/s {where} (cores: server, consumers)", *map(str, numbers)), rows)
            yield ""


def _busy(line: Line | None) -> str:
    if line is None:
        return ""
    return f"{line['items_per_second']:,.0f} ({line['server_cores']:.1f}, {line['consumers_cores']:.1f})"


def _growth(results: Results) -> Iterator[str]:
    lines = _lines(results, "growth")
    heads = ("", f"µs with {lines[0]['small']:,} items", f"µs with {lines[0]['large']:,} items", "times as long")
    yield from _table(
        heads,
        (
            (line["name"], f"{median(line['small_us']):.1f}", f"{median(line['large_us']):.1f}", _ratio(line))
            for line in lines
        ),
    )


def _grouping(results: Results) -> Iterator[str]:
    heads = ("", "µs of the server per item", "times as long")
    yield from _table(
        heads,
        ((line["name"], f"{line['us_per_item']:.1f}", f"{line['ratio']:.2f}") for line in _lines(results, "grouping")),
    )


def _crawling(results: Results) -> Iterator[str]:
    heads = ("", "pages/s", "ratio", "ms of processor time a page", "ratio")
    yield from _table(
        heads,
        (
            (
                line["name"],
                f"{line['pages_per_second']:.0f}",
                f"{line['ratio']:.2f} ({line['lowest']:.2f} .. {line['highest']:.2f})",
                f"{line['cpu_ms']:.2f}",
                f"{line['cpu_ratio']:.2f}",
            )
            for line in _lines(results, "crawling")
        ),
    )


def _fairness(results: Results) -> Iterator[str]:
    heads = ("", "jobs of", "how many", "ms waited, p50", "p99")
    yield from _table(
        heads,
        (
            (
                line["way"],
                f"{line['tenant']} tenants",
                str(len(line["waits"])),
                f"{line['p50']:.0f}",
                f"{line['p99']:.0f}",
            )
            for line in _lines(results, "fairness")
        ),
    )


def _endurance(results: Results) -> Iterator[str]:
    """The first minutes beside the last ones."""
    lines = _lines(results, "endurance")
    part = max(1, min(10, len(lines) // 2))
    figures = {
        "cycles per second": ("per_second", "{:,.0f}"),
        "a cycle, p50, ms": ("p50_ms", "{:.2f}"),
        "a cycle, p99, ms": ("p99_ms", "{:.1f}"),
        "memory of the server, MB": ("server_mb", "{:.2f}"),
        "memory of both clients, MB": ("clients_mb", "{:.1f}"),
        "open descriptors": ("files", "{:.0f}"),
    }
    yield from _table(
        ("medians", f"first {part} minutes", f"last {part} minutes"),
        (
            (name, *(form.format(median(line[figure] for line in some)) for some in (lines[:part], lines[-part:])))
            for name, (figure, form) in figures.items()
        ),
    )


def _sharding(results: Results) -> Iterator[str]:
    """The costs, and then the outages."""
    costs = [line for line in _lines(results, "sharding") if line["what"] == "cost"]
    heads = ("", "µs, one set", f"µs, {costs[0]['shards']} shards", "quotient", "requests, one set", "shards")
    heads = (*heads, "µs in scripts, one set", "shards", "quotient")
    yield from _table(
        heads,
        (
            (
                line["name"],
                f"{line['one_us']:.2f}",
                f"{line['shards_us']:.2f}",
                f"{line['ratio']:.3f} ({line['low']:.3f} .. {line['high']:.3f})",
                f"{line['one_requests']:.3f}",
                f"{line['shards_requests']:.3f}",
                f"{line['one_scripts_us']:.2f}",
                f"{line['shards_scripts_us']:.2f}",
                f"{line['scripts_ratio']:.3f}",
            )
            for line in costs
        ),
    )
    yield ""
    outages = [line for line in _lines(results, "sharding") if line["what"] == "outage"]
    yield from _table(
        ("items/s of the other shards", "before", "after", "quotient", "calls that failed"),
        (
            (
                line["name"],
                f"{line['before']:,.0f}",
                f"{line['after']:,.0f}",
                f"{line['ratio']:.2f}",
                str(line["errors"]),
            )
            for line in outages
        ),
    )


def _overhead(results: Results) -> Iterator[str]:
    yield from _two_sets(_lines(results, "overhead"), plain="plain set", shards="set over shards")


def _totals(results: Results) -> Iterator[str]:
    yield from _two_sets(_lines(results, "totals"), without="without totals", **{"with": "with totals"})


def _two_sets(lines: list[Line], **sets: str) -> Iterator[str]:
    heads = ("per item", *(f"µs, {name}" for name in sets.values()), "quotient", "goal, at most")
    yield from _table(
        heads,
        (
            (
                line["name"],
                *(f"{line[f'{which}_us']:.2f}" for which in sets),
                f"{line['ratio']:.3f} ({line['low']:.3f} .. {line['high']:.3f})",
                f"{line['goal']:.2f}",
            )
            for line in lines
        ),
    )


def _order(results: Results) -> Iterator[str]:
    lines = _lines(results, "order")
    heads = ("", "measured", "simulated", "two choices alone, simulated", "5S/6 - 1", "p50", "p99")
    yield from _table(
        heads,
        (
            (
                line["name"],
                *(f"{line[which]:.1f}" for which in ("mean", "simulated", "alone")),
                "" if line["theory"] is None else f"{line['theory']:.1f}",
                f"{line['p50']:.0f}",
                f"{line['p99']:.0f}",
            )
            for line in lines
        ),
    )


def _fleet(results: Results) -> Iterator[str]:
    heads = ("", "claims/s", "busiest node", "mean node", "p50 ms", "p99 ms", "passed over, mean", "p50", "p99")
    yield from _table(
        heads,
        (
            (
                line["name"],
                f"{line['claims_per_second']:,.0f}",
                *(f"{line[which]:.2f}" for which in ("busiest", "mean", "p50_ms", "p99_ms")),
                *(f"{line[which]:,.0f}" for which in ("passed_mean", "passed_p50", "passed_p99")),
            )
            for line in _lines(results, "fleet")
        ),
    )


def _peers(results: Results) -> Iterator[str]:
    """How fast they are, what that costs the server, and what one gets for it."""
    near, far = ({_peer(line): line for line in _lines(results, run)} for run in ("peers", "peers-far"))
    measured = {name: line for name, line in near.items() if "missing" not in line}
    jobs = ("produce", "produce_one", "work")
    rates = ((name, *(_rates(line, far.get(name, {}), job) for job in jobs)) for name, line in measured.items())
    yield from _table(("jobs/s", "enqueued in bulk", "enqueued one by one", "processed by one worker"), rates)
    yield ""
    yield from _rounds(results)
    heads = ("per job", "commands sent", "commands run", "server CPU, µs", "bytes, waiting", "p50 ms", "p99 ms")
    yield from _table(heads, ((name, *_job(line, far.get(name, {}))) for name, line in measured.items()))
    yield ""
    yield from _samples(measured, far)
    promises = {
        "used_as": "timed as",
        "bulk": "bulk call",
        "delivery_as_timed": "a job whose worker dies, as timed",
        "delivery": "a job whose worker dies, in the safest setting (not timed)",
        "duplicates": "the same job twice",
        "does": "other features",
    }
    libraries = {line["name"]: line for line in reversed(measured.values())}
    words = ((f"{name} {line['version']}", *(line[what] for what in promises)) for name, line in libraries.items())
    yield from _table(("", *promises.values()), reversed(list(words)))
    for name, line in near.items():
        if "missing" in line:
            yield f"\n{name} is missing: {line['missing']}"


def _peer(line: Line) -> str:
    return f"{line['name']} {line['way']}".strip()


def _rates(near: Line, far: Line, job: str) -> str:
    """Here, and at a distance."""
    return " / ".join(_spread_rate(line, job) for line in (near, far) if job in line)


def _spread_rate(line: Line, job: str) -> str:
    rate = f"{line[job]:,.0f}"
    if len(line.get("rounds", {}).get(job, ())) < 2:
        return rate
    return f"{rate} ({line[f'{job}_low']:,.0f} .. {line[f'{job}_high']:,.0f})"


def _rounds(results: Results) -> Iterator[str]:
    """Of how many rounds the rates are."""
    numbers = [results[run]["conditions"]["rounds"] for run in ("peers", "peers-far") if run in results]
    yield f"Each rate is the median of the rounds: {', at a distance '.join(numbers)}.\n"


def _samples(near: dict[str, Line], far: dict[str, Line]) -> Iterator[str]:
    """Of how many jobs the times are."""
    numbers = [max((line.get("latency_samples", 0) for line in run.values()), default=0) for run in (near, far)]
    told = ", at a distance ".join(str(number) for number in numbers if number)
    yield f"Jobs timed: {told}. With fewer than {ENOUGH_FOR_P99} there is no p99.\n"


def _job(line: Line, far: Line) -> Iterator[str]:
    """What it costs to enqueue it by itself, and to work it off; and how long a waiting worker waits for it."""
    parts = [line[part] for part in ("enqueued", "worked") if line[part]]
    for figure, digits in ("sent", 1), ("run", 1), ("cpu_us", 0):
        yield " + ".join(f"{part[figure]:.{digits}f}" for part in parts)
    yield f"{line['memory']:.0f}"
    timed = [each for each in (line, far) if "latency_samples" in each]
    yield " / ".join(f"{each['latency_p50_ms']:.2f}" for each in timed)
    yield " / ".join(f"{each['latency_p99_ms']:.2f}" for each in timed if each["latency_samples"] >= ENOUGH_FOR_P99)


#: What makes the table of a section, and what its plot shows to those who cannot see it.
TABLES: dict[str, tuple[Callable[[Results], Iterator[str]], str]] = {
    "ratios": (_ratios, "The speed of each call, where that of the bare client is 1, on loopback and at a distance"),
    "tasks": (_tasks, "Calls per second of one and of many asyncio tasks, with the bare client and with redset"),
    "latency": (
        _latency,
        "Milliseconds from an addition until a waiting consumer has the item, p50 and p99 or the longest",
    ),
    "idle": (_idle, ""),
    "costs": (_costs, ""),
    "totals": (_totals, ""),
    "memory": (_memory, "Bytes of the server's memory for each item in each state"),
    "consumers": (_consumers, "Items per second that 1 to 16 consumer processes claim, and a client in C"),
    "growth": (_growth, "How much longer a call takes on a large set than on a small one"),
    "grouping": (_grouping, ""),
    "fairness": (_fairness, "Milliseconds that jobs of small and of large tenants wait, in order and with fair turns"),
    "crawling": (_crawling, ""),
    "endurance": (_endurance, "Memory of server and clients, open descriptors and delays, minute by minute"),
    "sharding": (
        _sharding,
        "The busiest node's processor time, as part of that of one set, and items per second without a node",
    ),
    "overhead": (_overhead, ""),
    "order": (_order, "How many lower items a pop passes over: histograms of the measured and the simulated ones"),
    "fleet": (_fleet, ""),
    "peers": (_peers, "Jobs per second that redset and other libraries enqueue and process"),
}

if __name__ == "__main__":
    main()
