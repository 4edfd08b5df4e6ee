"""Virtual environments for what the one in .venv cannot show: other Pythons, and the oldest client and Scrapy."""

import nox
from nox.command import CommandFailed

PYTHONS = ["3.11", "3.12", "3.13"]
#: Keep in step with the extra ``redis`` in pyproject.toml.
OLDEST_REDIS = "redis==4.5.5"
#: Keep in step with the extra ``scrapy`` in pyproject.toml.
OLDEST_SCRAPY = "scrapy==2.13.4"
#: It leaves connections to the garbage collector.
ITS_WARNINGS = ("-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning")

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
# Also where $CI is set: a machine has the Pythons it has.
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["test", "oldest", "oldest_scrapy"]


@nox.session(python=PYTHONS)
def test(session: nox.Session) -> None:
    """The whole suite, on each Python."""
    session.install("--editable", ".[dev]")
    session.run("python", "-m", "pytest", "--numprocesses=2", "--dist=worksteal", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """The conformance tests with the oldest redis-py."""
    session.install("--editable", ".[dev]", OLDEST_REDIS)
    # With hiredis its asyncio client decodes what it was told to leave as bytes.
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "hiredis")
    session.run(
        "python", "-m", "pytest", "-m", "conformance and not soak", "--numprocesses=4", *ITS_WARNINGS, *session.posargs
    )


@nox.session
def oldest_scrapy(session: nox.Session) -> None:
    """Run the tests of requests and values with the oldest Scrapy."""
    # Not all development tools: they take longer to install than the tests to run.
    tools = ("httpx", "hypothesis", "pytest-cov", "pytest-timeout", "pytest-xdist")
    try:
        session.install("--editable", ".[redis,embedded,fast,web,testing]", OLDEST_SCRAPY, *tools)
    except CommandFailed:
        session.skip(f"{OLDEST_SCRAPY} cannot be installed here")
    tests = ("tests/crawling/test_requests.py", "tests/crawling/test_values.py")
    session.run("python", "-m", "pytest", "-m", "not soak", "--numprocesses=4", *tests, *session.posargs)
