"""The rules about concurrency, one Lua file per operation, run by the server as a whole or not at all.

The head comment of each file lists its KEYS, its ARGV and what it returns. A line ``-- include NAME`` stands for
``shared/NAME.lua``, so that a piece that several scripts need is written once.
"""

import hashlib
import re
from importlib.resources import files

__all__ = ("Script",)

_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)


class Script:
    """A Lua script with its shared pieces filled in, and the digest the server knows it by."""

    __slots__ = ("body", "sha")

    def __init__(self, name: str) -> None:
        self.body = _INCLUDE.sub(lambda line: _read(f"shared/{line[1]}"), _read(name))
        self.sha = hashlib.sha1(self.body.encode(), usedforsecurity=False).hexdigest()


def _read(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
