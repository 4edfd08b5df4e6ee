"""The tables of the documentation of what peers/faults.py found.

Usage: python peers/report.py docs/chaos/peers.json      writes peers.md beside it

Nothing in them is written by hand.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ()

KINDS = {
    "kill": "Workers are killed",
    "cut": "Connections are cut after the server has done what it was told",
    "restart": "The server is killed, and started again with all that it had stored",
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
        rows = [_row(line) for line in lines if line["fault"] == kind]
        yield from _table(("", *NUMBERS.values(), "repeat with"), rows)
        yield ""
    yield "**What each promises, and the setting it was used in**\n"
    heads = ("", "used as", "an item whose worker dies", "an item that is added twice")
    yield from _table(heads, (_promise(line) for line in {line["name"]: line for line in lines}.values()))
    yield ""
    told = "; ".join(f"{name}: {value}" for name, value in options.items())
    yield f"{told}; {machine}.\n"


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
    yield f"[{_named(line)}]({documentation})" if documentation.startswith("https:") else _named(line)
    yield from (line[what] for what in ("setting", "delivery", "duplicates"))


def _named(line: dict[str, Any]) -> str:
    name = line["name"].replace(":", " ")
    return name if line["name"].startswith("redset") else f"{name} {line['version']}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    main()
