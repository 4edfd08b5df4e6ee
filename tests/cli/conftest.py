"""The command line, on the server of the run."""

from typing import Any

import pytest

from console import Console
from servers import Place, Server


@pytest.fixture
def redset(here: Place, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Console:
    """The command line: ``redset("add", "jobs", "read")``."""
    if not isinstance(here, Server):
        pytest.skip("the command line connects to a single server")
    return Console(here.url, monkeypatch, capfdbinary)
