"""The rules about concurrency, one Lua file per operation. The server runs each as a whole or not at all.

The head comment of a file describes the script, its arguments and its reply. The loader reads some lines of it, and
generates code from them in front of the script:

- ``-- KEYS: call waiting`` names keys of :class:`redset.core.keys.Keys`. In the script, each name stands
  for its ``KEYS[n]``. A local variable would be slower: every function that uses it captures it when it is made.
  ``wrong_type(key, ...)`` returns an error if one of the given keys, by default of all, has a wrong type.
- ``-- OPTIONS`` reads the options of the set, which are numbers, from ``ARGV[3]``; see :data:`OPTIONS`.
- ``-- TIME`` reads the server's clock: ``time`` in seconds, to the microsecond, and ``clock``, the same as a string, to
  be compared with scores.
- ``layout`` and ``memory`` are the forms in which items, and remembered items, are stored; see `redset.core.forms`.
- ``-- include NAME`` is replaced by ``shared/NAME.lua``, which defines functions. ``-- inline NAME`` is replaced by
  statements of the function around it.
- ``-- WHEN NEEDED: moves`` begins functions that ``moves()`` returns, ``-- WHEN NEEDED: rare`` those of ``rare()``,
  and so on; ``-- ALWAYS`` ends them. The server takes 0.1 µs or more to make a function, each time that a script runs.
  So functions that most calls do not need are made when one of them is used.

``if FEATURE`` behind the first word restricts a line to sets with one of the :data:`FEATURES`. Keys and options that a
set does not have are nil.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from redset.core.forms import layout_of
from redset.core.keys import TYPES, Keys

__all__ = ("Script", "options_of", "prepared", "script")

#: The features that a set may have: `values` of identities (`keyed`) or of intervals (`periodic`), and done items that
#: are remembered in `done`, as themselves or as hashes (`digest`); whether additions of leased items are dropped
#: (`drops`); whether it is a shard of a set (`shards`); groups of items (`grouped`), `fair` turns of these, and claims
#: of due items only (`scheduled`). Features of a single call: scores that are seconds from now
#: (`delayed`), and additions of remembered items (`forced`).
FEATURES = (
    "values",
    "keyed",
    "periodic",
    "expiring",
    "done",
    "digest",
    "drops",
    "shards",
    "grouped",
    "fair",
    "scheduled",
    "delayed",
    "forced",
)

#: The features that a script can test by name: the loader replaces the name with true or false.
CONSTANTS = ("keyed", "periodic", "digest", "drops", "grouped", "fair", "scheduled", "forced")

#: The options of a set that scripts take, by their names in :class:`redset.core.definition.Definition`, and the feature
#: that each belongs to; empty: every set has it.
OPTIONS = {"max_attempts": "", "max_dead": "", "remember": "done", "interval": "periodic"} | dict.fromkeys(
    ("group_leases", "group_pause", "sorts"), "grouped"
)

_DECLARED = re.compile(r"^-- (KEYS|OPTIONS|TIME)(?: if (\w+))?(?:: (.*))?$", re.MULTILINE)
_SECTION = re.compile(r"^-- WHEN NEEDED: (\w+)\n(.*?)(?=^-- WHEN NEEDED|^-- ALWAYS|\Z)", re.MULTILINE | re.DOTALL)
_MADE = re.compile(r"^local (?:function )?(\w+)(?:\(| = {)", re.MULTILINE)
_WORD = re.compile(r"""--[^\n]*|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[\w.]+""")
_INLINED = re.compile(r"^-- inline (\w+)\n", re.MULTILINE)
_INCLUDED = re.compile(r"^-- include (\w+)(?: if (\w+))?\n", re.MULTILINE)

#: In Lua 5.4, `unpack` is in another place, and `tonumber` does not read `inf`. Dragonfly, which uses it, gives scores
#: as numbers. Lua 5.1, which Redis and Valkey use, has no `math.type`, and `_ENV` has no meaning there.
_PROLOGUE = """\
local unpack = table.unpack or unpack
local moves, rare, gates, turns
local _ENV = math.type and (function()
    local redis, tonumber, infinite = redis, tonumber, {inf = math.huge, ['-inf'] = -math.huge}
    local function written(reply)
        if math.type(reply) == 'float' then return string.format('%.17g', reply) end
        for i = 1, type(reply) == 'table' and #reply or 0 do reply[i] = written(reply[i]) end
        return reply
    end
    local function call(...) return written(redis.call(...)) end
    local function pcall(...) return written(redis.pcall(...)) end
    return setmetatable({
        redis = setmetatable({call = call, pcall = pcall}, {__index = redis}),
        tonumber = function(text, ...) return tonumber(text, ...) or infinite[text] end,
    }, {__index = _ENV})
end)() or _G
"""

_HOLDS_OTHER = """\
local function holds_other(key, expected)
    local found = redis.call('TYPE', key).ok
    if found ~= expected and found ~= 'none' then
        local instead = found .. ', where redset keeps a ' .. expected
        return redis.error_reply("WRONGTYPE the key '" .. key .. "' holds a " .. instead)
    end
end
"""

_WRONG_TYPE = """\
local function wrong_type(...)
    %s
    local types = {%s}
    for i = %s, #KEYS do
        local key = KEYS[i]
        local asked = select('#', ...) == 0
        for each = 1, select('#', ...) do asked = asked or select(each, ...) == key end
        local refusal = asked and holds_other(key, types[i])
        if refusal then return refusal end
    end
end
"""

_TIME = """\
local moment = redis.call('TIME')
local clock = moment[1] .. '.' .. string.sub('00000' .. moment[2], -6)
local time = tonumber(clock)
"""


class Script:
    """A Lua script as it is sent for sets with some features, and the digest by which the server knows it."""

    __slots__ = ("body", "features", "keys", "name", "sha")

    def __init__(self, name: str, features: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.features = features
        text = _text(name)
        declared = [
            (kind, names.split(), not when or when in features) for kind, when, names in _DECLARED.findall(text)
        ]
        #: The names of its keys, in order.
        self.keys = tuple(key for _, names, is_there in declared if is_there for key in names)
        absent = {key for _, names, is_there in declared if not is_there for key in names}
        kinds = {kind for kind, _, is_there in declared if is_there}
        absent |= {"values", "done"}.difference(self.keys)
        names = {key: f"KEYS[{position}]" for position, key in enumerate(self.keys, 1)} | dict.fromkeys(absent, "nil")
        names.pop("call", None)
        names |= {name: str(name in features).lower() for name in CONSTANTS}
        # Without the clock.
        names |= {} if "TIME" in kinds else {"time": "nil"}
        names |= {"layout": f"'{layout_of(features)}'", "memory": f"'{'digests' if 'digest' in features else 'items'}'"}
        body = _filled_in(text, features)
        body = _WORD.sub(lambda word: names.get(word[0], "" if word[0].startswith("--") else word[0]), body)
        self.body = "".join(_head(self.keys, kinds)) + re.sub(r"\n\s*\n+", "\n", body)
        self.sha = hashlib.sha1(self.body.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str, features: frozenset[str] = frozenset()) -> Script:
    """Return the script of that name for sets with these features."""
    return Script(name, features)


def prepared(name: str, keys: Keys, features: frozenset[str] = frozenset()) -> tuple[Script, tuple[bytes, ...]]:
    """Return the script of that name for a set, and its keys but the one of the call record."""
    found = script(name, features)
    return found, tuple(getattr(keys, key) for key in found.keys if key != "call")


def options_of(definition: Any) -> str:
    """Return the options of a set as scripts take them."""
    values = (
        getattr(definition, name) for name, feature in OPTIONS.items() if not feature or feature in definition.features
    )
    return " ".join(map(repr, values))


def _head(keys: tuple[str, ...], kinds: set[str]) -> Iterator[str]:
    """Yield the code that is generated from the declarations of a script."""
    yield _PROLOGUE
    if keys[:1] == ("call",):
        yield "local call = KEYS[1]\n"
    # A call that is not recorded passes one of the other keys in its place.
    first = "call and 1 or 2" if keys[:1] == ("call",) else "1"
    yield _WRONG_TYPE % (_HOLDS_OTHER, ", ".join(f"'{TYPES[key]}'" for key in keys), first) if keys else _HOLDS_OTHER
    if "OPTIONS" in kinds:
        yield f"local {', '.join(OPTIONS)}\n"
    if "TIME" in kinds:
        yield _TIME


def _filled_in(text: str, features: frozenset[str]) -> str:
    """Return a script with its pieces, each where it is included first, and then the functions that are made later."""
    later: dict[str, str] = {"moves": "", "rare": "", "gates": "", "turns": ""}
    included: set[str] = set()

    def without_later(text: str) -> str:
        for name, functions in _SECTION.findall(text):
            later[name] += functions
        return _SECTION.sub("", text).replace("-- ALWAYS\n", "")

    def piece(line: re.Match[str]) -> str:
        name, feature = line.groups()
        if name in included or (feature and feature not in features):
            return ""
        included.add(name)
        return without_later(_INCLUDED.sub(piece, _text(f"shared/{name}")))

    text = _INLINED.sub(lambda line: _text(f"shared/{line[1]}"), text)
    last = max((found.end() for found in _INCLUDED.finditer(text)), default=0)
    included_text = _INCLUDED.sub(piece, text[:last])
    if "-- OPTIONS\n" in text:
        later["moves"] = _decoded(features) + later["moves"]
    made = "".join(_made_later(name, functions) for name, functions in later.items() if functions)
    return f"{included_text}{made}{text[last:]}"


def _decoded(features: frozenset[str]) -> str:
    """Return the code that reads the options of a set."""
    names = [name for name, feature in OPTIONS.items() if not feature or feature in features]
    return (
        f"{', '.join(names)} = string.match(ARGV[3], '^{' '.join(['(%S+)'] * len(names))}')\n"
        f"{', '.join(names)} = {', '.join(f'tonumber({name})' for name in names)}\n"
    )


def _made_later(name: str, functions: str) -> str:
    """Return the code that makes these functions when the first of them is needed."""
    names = ", ".join(f"{each} = {each}" for each in _MADE.findall(functions))
    others = "local moves = moves and moves()\n" if name == "rare" else ""
    return (
        f"local {name}_made\n{name} = function()\nif {name}_made then return {name}_made end\n"
        f"{others}{functions}{name}_made = {{{names}}}\nreturn {name}_made\nend\n"
    )


def _text(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
