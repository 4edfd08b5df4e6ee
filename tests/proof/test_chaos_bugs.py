"""Some of the seeded bugs, those that are found soonest; ``make chaos-bugs`` has all of them found."""

import pytest

from chaos.bugs import BUGS, Override, changed, find
from chaos.checkers import RULES
from servers import Unavailable

pytestmark = pytest.mark.no_cover


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", ["take-in-two-steps", "tokens-by-the-caller", "shard-by-process"])
def test_a_bug_is_found(bug: str) -> None:
    try:
        # A busy machine makes fewer calls a second.
        for attempt in range(1, 5):
            found = find(bug, seconds=3 * attempt, seed=attempt)
            if found.caught:
                break
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert found.caught, found


def test_what_bugs_replace_is_still_there() -> None:
    for bug in BUGS.values():
        changed(bug.overrides)
    with pytest.raises(AssertionError, match="has 0 times"):
        changed([Override("claim", "not_there", "nil")])


def test_there_is_a_bug_for_each_rule() -> None:
    assert {bug.checker for bug in BUGS.values()} == set(RULES)
