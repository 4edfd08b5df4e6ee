"""The structure that docs/design.md, CONTRIBUTING.md and the heads of modules describe is that of the code."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import redset
from redset.core.keys import Keys

ROOT = Path(__file__).parents[2]
PACKAGE = Path(redset.__file__).parent
DESIGN = (ROOT / "docs" / "design.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

#: The rules of a set, and what a rule is made of. To know them is to know redset; all else is built around them.
HEART = {
    *("keys", "items", "definition", "operations", "calls", "talking"),
    *("adding", "claiming", "leases", "endings", "removing"),
}
#: How many lines the heart has at most, with comments and docstrings, without blank lines.
MOST_LINES = 2000
#: Helpers of the heart, which know none of the rules of a set.
FOUNDATION = {
    *("scores", "times", "callables", "serializing", "scripts", "forms"),
    *("shown", "interruptions", "retries", "clients", "sending"),
}
#: The rooms around the heart, which does not know them.
ROOMS = {
    "coalescing": {"coalescing", "parts", "leaving"},
    "set algebra": {"algebra", "operands"},
    "kinds of sets": {"periodic", "expiring"},
    "additions of many": {"updating"},
    "reading": {"looking", "paging"},
    "dead letters": {"letters", "burying"},
    "receipts": {"receipts"},
    "waiting": {"waiting", "consuming"},
    "several sets": {"several"},
    "shards": {
        *("shards", "shards.layout", "shards.place", "shards.merging", "shards.parts", "shards.claims"),
        *("shards.endings", "shards.drivers", "shards.resharding", "shards.living"),
    },
    "connections": {"pools", "clients.connections", "clients.links"},
    "emptying": {"emptying"},
    "seeing": {"inspecting", "registry"},
    "overview": {"overview"},
    "gates": {"gates"},
    "groups": {"grouping", "groups"},
    "observing": {"observing"},
}
#: The modules in which heart and rooms meet: the constructors of sets, and the loops that carry requests.
JOINTS = {"parameters", "base", "drivers", "twins"}


def name_of(path: Path) -> str:
    """The name of a module."""
    return ".".join(("redset", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
CORE = {name.removeprefix("redset.core."): path for name, path in MODULES.items() if name.startswith("redset.core.")}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[str]:
    """All modules that are named in imports, also those in functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else str(node.module)


@functools.cache
def known_to(name: str) -> frozenset[str]:
    """The modules of redset that a module imports."""
    return frozenset(one for one in imported(tree_of(MODULES[name])) if one in MODULES)


def head(path: Path) -> str:
    return ast.get_docstring(tree_of(path)) or ""


def place_of(name: str) -> str:
    """Where a module of the core stands; nowhere if nobody has said that."""
    for room, names in ROOMS.items():
        if name in names:
            return room
    if name in JOINTS:
        return "joint"
    if name in HEART:
        return "heart"
    return "foundation" if name.partition(".")[0] in FOUNDATION else ""


class TestImports:
    def test_there_is_no_circle(self) -> None:
        left = {name: set(known_to(name)) for name in MODULES}
        while outermost := {name for name, known in left.items() if not known & left.keys()}:
            for name in outermost:
                del left[name]
        assert not left

    def test_each_module_of_the_core_has_its_place(self) -> None:
        assert {name for name in CORE if place_of(name)} == CORE.keys()
        assert HEART | FOUNDATION | JOINTS | set().union(*ROOMS.values()) <= CORE.keys()

    def test_the_heart_does_not_know_the_rooms_around_it(self) -> None:
        assert not self.known_outside("heart", {"heart", "foundation"})

    def test_the_heart_is_read_in_half_an_hour(self) -> None:
        lines = [line for name in HEART for line in CORE[name].read_text().splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES

    def test_the_foundation_knows_only_the_names_of_keys(self) -> None:
        assert {known for _, known in self.known_outside("foundation", {"foundation"})} <= {"keys"}

    def known_outside(self, place: str, allowed: set[str]) -> set[tuple[str, str]]:
        return {
            (name, one)
            for name in CORE
            for one in CORE
            if place_of(name) == place and place_of(one) not in allowed
            if f"redset.core.{one}" in known_to(f"redset.core.{name}")
        }

    def test_the_core_knows_no_face(self) -> None:
        for name in CORE:
            for one in known_to(f"redset.core.{name}"):
                assert one.startswith("redset.core") or one in ("redset.exceptions", "redset.interfaces"), (name, one)

    def test_the_synchronous_face_does_not_know_the_other(self) -> None:
        # The web page takes a client of either face.
        knowing = {name for name in MODULES if "redset.aio" in known_to(name)}
        assert knowing == {"redset.cli.workers", "redset.web.door"}

    def test_only_the_command_line_imports_the_metrics(self) -> None:
        knowing = {name for name in MODULES for one in known_to(name) if one.startswith("redset.metrics")}
        assert {name for name in knowing if not name.startswith("redset.metrics")} == {
            "redset.cli.looking",
            "redset.cli.web",
        }

    def test_nobody_imports_the_command_line(self) -> None:
        knowing = {name for name in MODULES for one in known_to(name) if one.startswith("redset.cli")}
        assert {name for name in knowing if not name.startswith("redset.cli")} == {"redset.__main__"}

    def test_only_the_command_knows_the_page(self) -> None:
        knowing = {name for name in MODULES for one in known_to(name) if one.startswith("redset.web")}
        assert {name for name in knowing if not name.startswith("redset.web")} <= {"redset.cli.top", "redset.cli.web"}

    def test_nobody_imports_the_scheduler_for_scrapy(self) -> None:
        knowing = {name for name in MODULES for one in known_to(name) if one.startswith("redset.scrapy")}
        assert {name for name in knowing if not name.startswith("redset.scrapy")} == set()

    @pytest.mark.parametrize("face", ["redset.sets", "redset.aio", "redset.reservations", "redset.locks"])
    def test_a_face_decides_neither_what_is_sent_nor_how_it_is_read(self, face: str) -> None:
        assert not known_to(face) & {"redset.core.scripts", "redset.core.keys", "redset.core.talking"}
        names = {node.id for node in ast.walk(tree_of(MODULES[face])) if isinstance(node, ast.Name)}
        assert not names & {"Operation", "Script", "Keys"}

    def test_the_plugin_of_pytest_imports_nothing_of_redset_until_a_test_asks_for_it(self) -> None:
        tree = ast.parse((PACKAGE.parent / "pytest_redset.py").read_text())
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert {name.partition(".")[0] for node in at_once for name in imported(node)} <= {
            *sys.stdlib_module_names,
            "pytest",
        }

    def test_the_standard_library_is_all_that_is_imported(self) -> None:
        program = "import sys, redset, redset.aio, redset.testing, redset.serializers; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        before = subprocess.run(
            [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
        )
        names = {name.partition(".")[0] for name in set(done.stdout.split()) - set(before.stdout.split())}
        assert names <= {*sys.stdlib_module_names, "redset"}


class TestBridge:
    """Client libraries are known to redset.core.clients, and to nothing else."""

    #: What only a client library has. ``from_url`` is not among them: who is given a library makes a client of it.
    THEIRS = frozenset(
        {
            *("connection_pool", "nodes_manager", "connection_kwargs", "connection_class", "redis_connection"),
            *("execute_command", "send_packed_command", "send_command", "read_response", "pack_command", "can_read"),
            *(
                "get_connection",
                "make_connection",
                "max_connections",
                "single_connection_client",
                "get_nodes",
                "keyslot",
            ),
            *("retry_on_error", "call_with_retry", "LockNotOwnedError", "SSLConnection", "NEVER_DECODE", "from_pool"),
        }
    )
    NAMES = re.compile(r"(redis|valkey|fakeredis)(\.\w+)*")

    @pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("redset.core.clients")])
    def test_no_other_module_names_what_they_have(self, name: str) -> None:
        for node in ast.walk(tree_of(MODULES[name])):
            if isinstance(node, ast.Attribute):
                assert node.attr not in self.THEIRS
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in self.THEIRS
                assert not self.NAMES.fullmatch(node.value)

    def test_nobody_imports_one(self) -> None:
        for name, path in MODULES.items():
            assert not [one for one in imported(tree_of(path)) if self.NAMES.fullmatch(one)], name


class TestInputAndOutput:
    #: Modules, functions and methods by which bytes enter and leave the process.
    MODULES = frozenset({"socket", "ssl", "select", "selectors", "subprocess", "urllib", "http"})
    FUNCTIONS = frozenset({"open", "print", "input", "exec"})
    METHODS = frozenset(
        {
            *("execute_command", "_execute_command", "exchange", "send_packed_command", "read_response"),
            *("read_text", "write_text", "read_bytes", "write_bytes", "sendall", "recv"),
        }
    )

    def is_done_by(self, path: Path) -> bool:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id in self.FUNCTIONS:
                    return True
                if isinstance(node.func, ast.Attribute) and node.func.attr in self.METHODS:
                    return True
        return bool({name.partition(".")[0] for name in imported(tree_of(path))} & self.MODULES)

    def test_of_the_core_only_the_drivers_and_the_bridge_do_any(self) -> None:
        doing = {name for name, path in CORE.items() if self.is_done_by(path)}
        # The files of scripts are read once, when they are imported.
        assert doing == {"drivers", "clients.clusters", "clients.commands", "clients.links", "scripts"}

    def test_a_module_that_promises_none_does_none(self) -> None:
        promising = {
            name for name, path in MODULES.items() if re.search(r"\b([Nn]o|[Ww]ithout) I/O\b(?! but)", head(path))
        }
        assert {"redset.core.calls", "redset.core.talking", "redset.core.operations"} <= promising
        assert not {name for name in promising if self.is_done_by(MODULES[name])}


@pytest.mark.parametrize("script", sorted((PACKAGE / "core" / "scripts").rglob("*.lua")), ids=lambda path: path.stem)
def test_a_script_is_read_on_two_screens(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 150


def test_each_right_that_is_checked_can_be_probed_on_a_server_without_a_function_for_that() -> None:
    scripts = {path: path.read_text() for path in (PACKAGE / "core" / "scripts").rglob("*.lua")}
    rights = next(text for path, text in scripts.items() if path.stem == "rights")
    probed = set(re.findall(r"([A-Z]+) = \d", rights))
    checked = {
        name
        for text in scripts.values()
        for call in re.findall(r"\bdenied\(((?:[^()]|\([^()]*\))*)\)", text)
        for name in re.findall(r"'([A-Z]+)'", call)
    }
    assert {"SET", "HLEN"} <= checked <= probed


class TestKeys:
    NAMES = vars(Keys("{x}")).keys()

    def test_each_has_a_sentence(self) -> None:
        lines = (PACKAGE / "core" / "keys.py").read_text().splitlines()
        for name in self.NAMES:
            number = next(number for number, line in enumerate(lines) if line.startswith(f"        self.{name} = "))
            assert lines[number - 1].startswith("        #: "), name

    def test_no_other_module_makes_one(self) -> None:
        keys = [key for name, key in vars(Keys("{x}")).items() if name not in ("one_slot", "prefix")]
        endings = {str(key).strip("b'").removeprefix("{x}") for key in keys} - {""}
        for name, path in MODULES.items():
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.JoinedStr | ast.BinOp) and name != "redset.core.keys":
                    made = ast.unparse(node)
                    assert not [one for one in endings if one in made], (name, made)

    def test_no_script_names_one(self) -> None:
        scripts = sorted((PACKAGE / "core" / "scripts").rglob("*.lua"))
        assert scripts
        for script in scripts:
            found = re.findall(r"redis\.p?call\(\s*'[^']+'\s*,\s*['\"]", script.read_text())
            assert not found, (script, found)


class TestWrites:
    """Attributes that are not public are written by the methods of their class."""

    #: The lock of a pool of a client library, which has no method for that.
    OF_OTHERS = frozenset({"pool._lock"})

    def test_nobody_else_writes_them(self) -> None:
        assert not [name for name in MODULES if list(self.written_elsewhere(name))]

    def written_elsewhere(self, name: str) -> Iterator[str]:
        for node in ast.walk(tree_of(MODULES[name])):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
                owner = ast.unparse(node.value)
                is_private = node.attr.startswith("_") and not node.attr.startswith("__")
                if is_private and owner not in ("self", "cls") and ast.unparse(node) not in self.OF_OTHERS:
                    yield ast.unparse(node)


def test_flags_have_names_where_they_are_passed() -> None:
    assert not [name for name, path in CORE.items() if "noqa: FBT" in path.read_text()]


@pytest.mark.parametrize("name", ["redis", "scrapy"])
def test_the_oldest_versions_that_are_tested_are_those_that_are_permitted(name: str) -> None:
    tested = re.search(rf'^OLDEST_{name.upper()} = "{name}==(.+)"$', (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][name]
    assert tested is not None
    assert f"{name}>={tested[1]}" in extra


class TestDocuments:
    def test_the_design_names_each_module(self) -> None:
        for path in MODULES.values():
            inside = path.relative_to(PACKAGE)
            folder = inside.parts[-2] if len(inside.parts) > 1 else ""
            wanted = (
                f"{folder}/"
                if folder in ("clients", "scripts", "cli", "web", "scrapy") or path.stem == "__init__"
                else path.name
            )
            if path.stem != "__main__":
                assert wanted in DESIGN, inside

    @pytest.mark.parametrize("page", [DESIGN, CONTRIBUTING], ids=["design", "contributing"])
    def test_each_file_that_is_named_is_there(self, page: str) -> None:
        there = {
            path.name
            for folder in ("src", "tests", "docs", "benchmarks", "peers", "examples")
            for path in (ROOT / folder).rglob("*.*")
        }
        there |= {path.name for path in ROOT.iterdir()}
        named = set(re.findall(r"[\w./-]*?(\w[\w-]*\.(?:py|lua|md|svg))\b", page))
        assert named
        assert not named - there

    def test_contributing_lists_the_targets_of_make(self) -> None:
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        listed = set(re.findall(r"^    make ([\w-]+)  ", CONTRIBUTING, re.MULTILINE))
        assert listed <= targets
        assert targets - listed <= {"clean", "chaos-peers"}

    def test_contributing_lists_fixtures_that_are_there(self) -> None:
        fixtures = (ROOT / "tests" / "conftest.py").read_text()
        listed = re.findall(r"^\| `(\w+)` \|", CONTRIBUTING, re.MULTILINE)
        assert {"server", "face", "raw"} <= set(listed)
        assert not [name for name in listed if f"\ndef {name}(" not in fixtures]
