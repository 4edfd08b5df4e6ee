"""The tables of the documentation of what peers/faults.py found.

Usage: python peers/report.py docs/chaos/peers.json      writes peers.md beside it

Nothing in them is written by hand.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ()

KINDS = {
    "kill": "Workers are killed",
    "cut": "Connections are cut after the server has executed a command",
    "restart": "The server is killed, and restarted with all that it had stored",
}
NUMBERS = {
    "faults": "faults",
    "acknowledged": "added",
    "unsure": "unsure",
    "lost": "lost",
    "left": "left",
    "twice": "finished twice",
    "at_once": "by two at once",
    "ended": "workers ended",
}


def main() -> None:
    path = Path(sys.argv[1])
    found = json.loads(path.read_text())
    path.with_suffix(".md").write_text("\n".join(_page(found["lines"], found["options"], found["machine"])))


def _page(lines: list[dict[str, Any]], options: dict[str, Any], machine: str) -> Iterator[str]:
    for kind, title in KINDS.items():
        yield f"**{title}**\n"
        seen = [line for line in lines if line["fault"] == kind]
        yield from _table(("", *NUMBERS.values(), "repeat with"), map(_row, seen))
        yield ""
        yield from _spared([line for line in seen if "missing" not in line])
    yield "**Documented guarantees, and the setting**\n"
    heads = ("", "setting", "an item whose worker dies", "an item that is added twice")
    yield from _table(heads, (_promise(line) for line in {line["name"]: line for line in lines}.values()))
    yield ""
    told = "; ".join(f"{name}: {value}" for name, value in options.items())
    yield f"{told}; {machine}.\n"


def _spared(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Those that met less than half as many faults as is usual."""
    usual = median(line["faults"] for line in lines) if lines else 0
    spared = [line for line in lines if line["faults"] < usual / 2]
    others = [line["faults"] for line in lines if line not in spared]
    for line in spared:
        yield (
            f"{_named(line)} met {line['faults']} of these faults, the others {min(others)} to {max(others)}: "
            "its row shows the effect of fewer faults.\n"
        )


def _row(line: dict[str, Any]) -> Iterator[str]:
    yield _named(line)
    if "missing" in line:
        yield from ("",) * len(NUMBERS)
        yield line["missing"]
        return
    numbers = line | {"lost": line["lost_never_begun"] + line["lost_begun"]}
    yield from (str(numbers[name]) for name in NUMBERS)
    yield f"`{line['command']}`"


def _promise(line: dict[str, Any]) -> Iterator[str]:
    documentation = line["documentation"]
    name = f"{_plainly_named(line)} {line['version']}"
    yield f"[{name}]({documentation})" if documentation.startswith("https:") else name
    yield from (line[what] for what in ("setting", "delivery", "duplicates"))


def _named(line: dict[str, Any]) -> str:
    """Short, for a row of figures: with no more of the version than its number, and of redset, which is ours, none."""
    version = "" if line["name"].startswith("redset") else line["version"].partition(",")[0]
    return f"{_plainly_named(line)} {version}".rstrip()


def _plainly_named(line: dict[str, Any]) -> str:
    name: str = line["name"].replace(":", " ")
    return name


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    main()
