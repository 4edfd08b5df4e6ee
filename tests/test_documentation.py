"""The examples of the documentation are run, on a server that has nothing on it."""

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import redset
from servers import Place, Server

ROOT = Path(__file__).parents[1]
PAGES = [page.relative_to(ROOT) for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])]
#: Not the asyncio face, which has the docstrings of its twins, nor what runs when it is imported.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(redset.__path__, "redset.")
    if not module.name.endswith((".aio", ".__main__"))
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def names(here: Place, raw: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an example can use without having made it. One that calls connect() gets this server."""
    if not isinstance(here, Server):
        pytest.skip("the examples are run on a single server")
    monkeypatch.setenv("REDSET_URL", here.url)
    return {"client": raw}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page(page: Path, names: dict[str, Any]) -> None:
    examples = doctest.DocTestParser().get_doctest((ROOT / page).read_text(), names, str(page), str(ROOT / page), 0)
    assert_right(examples)


@pytest.mark.parametrize("name", ["redset", *MODULES])
def test_a_module(name: str, names: dict[str, Any], here: Place) -> None:
    for examples in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=names):
        here.empty()
        assert_right(examples)


def assert_right(examples: doctest.DocTest) -> None:
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(examples, out=report.append)
    assert not report, "".join(report)
