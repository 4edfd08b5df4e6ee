"""Some of the seeded bugs, those that are found soonest; ``make chaos-bugs`` has all of them found."""

import subprocess
import sys

import pytest

from chaos.bugs import BUGS, find
from chaos.checkers import RULES
from servers import Unavailable


@pytest.mark.parametrize("bug", ["take-in-two-steps", "tokens-by-the-caller"])
def test_a_bug_is_found(bug: str) -> None:
    try:
        found = find(bug, seconds=3)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert found.caught, found


@pytest.mark.parametrize("bug", BUGS)
def test_each_bug_can_be_planted(bug: str) -> None:
    """What it replaces is still there."""
    plant = f"from chaos.bugs import plant; plant({bug!r})"
    subprocess.run([sys.executable, "-c", plant], check=True, timeout=30, env={"PYTHONPATH": ":".join(sys.path)})


def test_there_is_a_bug_for_each_rule() -> None:
    assert {bug.checker for bug in BUGS.values()} == set(RULES)
