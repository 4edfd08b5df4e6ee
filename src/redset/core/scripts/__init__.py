"""The rules about concurrency, one Lua file per operation, run by the server as a whole or not at all.

The head comment of each file lists its KEYS, its ARGV and what it returns. A line ``-- include NAME`` stands for
``shared/NAME.lua``, so that a piece that several scripts need is written once.
"""

import hashlib
import re
from importlib.resources import files

__all__ = ("Script",)

_INCLUDE = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


class Script:
    """A Lua script with its shared pieces filled in, and the digest the server knows it by."""

    __slots__ = ("body", "sha")

    def __init__(self, name: str) -> None:
        self.body = _filled_in(name, set())
        self.sha = hashlib.sha1(self.body.encode(), usedforsecurity=False).hexdigest()


def _filled_in(name: str, included: set[str]) -> str:
    """The text of a script, with each piece it includes put in where it is needed first."""

    def piece(line: re.Match[str]) -> str:
        shared = f"shared/{line[1]}"
        if shared in included:
            return ""
        included.add(shared)
        return _filled_in(shared, included)

    return _INCLUDE.sub(piece, files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8"))
