"""Run the examples of the documentation: each page on an empty server, the guides also one after the other."""

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import redset
from pages import FLAGS, Block, Page, blocks
from redset.exceptions import NoServerError
from servers import Cluster, Place, Sentinel, Server

ROOT = Path(__file__).parents[2]
PAGES = [page.relative_to(ROOT) for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])]
#: Pages that a newcomer runs in any order, some of them twice.
GUIDES = [Path("README.md"), *(page for page in PAGES if page.match("docs/howto/*.md"))]
GUIDES += map(Path, ("docs/index.md", "docs/tutorial.md", "docs/wire-format.md"))
#: These bring servers of their own, so no other page can disturb them.
WITH_SERVERS = {Path("docs/howto/cluster-and-sentinel.md"), Path("docs/howto/testing.md")}
#: The name of a set in a page: ``SortedSet(client, "jobs")``.
NAME_OF_A_SET = re.compile(r"""\w+Set\(\s*[\w.()]+,\s*f?(".+?")""")
#: A method in a table of the reference: ``{meth}`~redset.SortedSet.add` ``.
IN_A_TABLE = re.compile(r"^\| \{(?:meth|attr)\}`~redset\.(\w+)\.(\w+)`", re.MULTILINE)
#: Not the asyncio face, which has the docstrings of its twins, nor what runs when it is imported.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(redset.__path__, "redset.")
    if not module.name.endswith((".aio", ".__main__"))
]
#: Fixtures of this module that the blocks of a page may use.
ALSO_GIVEN = {Path("docs/howto/cluster-and-sentinel.md"): ("nodes", "sentinels")}
#: A page with drawings, which are indented and no code.
WITH_DRAWINGS = Path("docs/design.md")


@pytest.fixture
def names(here: Place, raw: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that an example can use without defining them. Its connect() connects to this server."""
    if not isinstance(here, Server):
        pytest.skip("the examples are run on a single server")
    monkeypatch.setenv("REDSET_URL", here.url)
    # The programs that a page starts are not measured.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    return {"client": raw}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", PAGES, ids=str)
def test_a_page(
    path: Path, names: dict[str, Any], here: Server, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    names |= {name: request.getfixturevalue(name) for name in ALSO_GIVEN.get(path, ())}
    page = Page(path, tmp_path, here.url, names)
    for block in blocks(ROOT / path):
        if not (block.kind == "indented" and path == WITH_DRAWINGS):
            page.run(block)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_guides_run_twice_and_in_another_order(names: dict[str, Any], here: Server, tmp_path: Path) -> None:
    guides = [path for path in GUIDES if path not in WITH_SERVERS]
    for number, path in enumerate([*reversed(guides), *guides]):
        directory = tmp_path / str(number)
        directory.mkdir()
        page = Page(path, directory, here.url, dict(names))
        for block in blocks(ROOT / path):
            page.run(block)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_links_to_files_exist(path: Path) -> None:
    """Sphinx checks the links between pages of the site."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_each_guide_has_sets_of_its_own() -> None:
    pages_of: dict[str, set[Path]] = {}
    for path in GUIDES:
        for name in NAME_OF_A_SET.findall((ROOT / path).read_text()):
            pages_of.setdefault(name, set()).add(path)

    assert len(pages_of) > len(GUIDES)
    assert {name: pages for name, pages in pages_of.items() if len(pages) > 1} == {}


def test_the_reference_lists_every_method_of_a_set() -> None:
    listed = set(IN_A_TABLE.findall((ROOT / "docs" / "reference" / "sets.md").read_text()))

    assert listed == {
        *(("SortedSet", name) for name in public(redset.SortedSet)),
        *(("ScheduledSet", name) for name in public(redset.ScheduledSet) - public(redset.SortedSet)),
        *(("PeriodicSet", name) for name in public(redset.PeriodicSet) - public(redset.ScheduledSet)),
        *(("ExpiringSet", name) for name in public(redset.ExpiringSet)),
    }


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.fixture
def nodes() -> Iterator[list[tuple[str, int]]]:
    """The addresses of a cluster's nodes."""
    cluster = Cluster()
    yield [("127.0.0.1", node.port) for node in cluster.nodes]
    cluster.stop()


@pytest.fixture
def sentinels() -> Iterator[list[tuple[str, int]]]:
    """The addresses of the sentinels: one, which watches a master named main and its replica."""
    servers = Sentinel()
    yield servers.addresses
    servers.stop()


@pytest.mark.parametrize("name", ["redset", *MODULES])
def test_a_module(name: str, names: dict[str, Any], here: Place) -> None:
    for examples in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=names):
        here.empty()
        report: list[str] = []
        doctest.DocTestRunner(optionflags=FLAGS).run(examples, out=report.append)
        assert not report, "".join(report)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("python", ">>> 1 + 1\n3\n"),
        ("python", "assert 1 + 1 == 3"),
        ("python", "# >>> 1 + 1\nassert 1 + 1 == 3"),
        ("python", ">>> 1 + 1\n2\n\nassert 1 + 1 == 3\n"),
        ("python", ">>> 1 + 1  # doctest: +SKIP\n3\n"),
        ("console", "$ echo one\ntwo\n"),
        ("console", "$ false\n"),
        ("console", "$ false | cat\n"),
        ("console", "echo one\n"),
        ("console", "two\n$ echo one\none\n"),
        ("console", "$ redis-cli ZADD jobs 1 read\n(integer) 0\n"),
        ("file", "appendonly perhaps"),
        ("fortran", "PRINT *, 'hello'"),
        ("{code} python", "1 + 1"),
        ("{note}", "```python\n1 + 1\n```\n"),
        ("indented", "1 + 1"),
        ("", "1 + 1"),
    ],
)
def test_a_wrong_block_fails(kind: str, content: str, here: Server, tmp_path: Path) -> None:
    page = Page(Path("page.md"), tmp_path, here.url)
    with pytest.raises((AssertionError, NoServerError)):
        page.run(Block(kind, content, 1, caption="redis.conf"))

    page.run(Block(kind, content, 1, excuse="it is wrong"))


def test_kinds_files_and_reasons_are_parsed(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "```python\na\n```\n\n<!-- not run: no network -->\n```console\n$ b\n```\n\n"
        "```{code-block} python\n:caption: c.py\n\nd\n```\n\n```{toctree}\ne\n```\n\n    f\n\n"
        "````{note}\n```python\ng\n```\n````\n\n* h\n\n  ```\n  i\n  ```\n"
    )

    assert list(blocks(tmp_path / "page.md")) == [
        Block("python", "a\n", 1),
        Block("console", "$ b\n", 6, excuse="no network"),
        Block("file", "d\n", 10, caption="c.py"),
        Block("indented", "f\n", 20),
        Block("{note}", "```python\ng\n```\n", 22),
        Block("", "i\n", 30),
    ]


@pytest.mark.parametrize(
    "text",
    [
        ":::{code-block} python\n1 + 1\n:::\n",
        "<pre>1 + 1</pre>\n",
        "```{code-block} python\n1 + 1\n```\n",
        "```{eval-rst}\n.. code-block:: python\n\n   1 + 1\n```\n",
    ],
)
def test_code_where_nobody_would_run_it_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(AssertionError):
        list(blocks(tmp_path / "page.md"))
