"""The tests that fork the process of the tests, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.no_cover
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_children_end_nothing_of_their_parents() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = str(Path(__file__).parent / "test_forked.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
