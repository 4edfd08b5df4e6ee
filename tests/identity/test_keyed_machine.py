"""Keyed sets, sets that remember, and sets that do both, at random, by the model in keyed_machine.py.

``REDSET_TEST_EXAMPLES`` and ``REDSET_TEST_STEPS`` make it as thorough as wanted.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from keyed_machine import AgeingMemory, KeyedMachine
from lease_machine import MovedClock, Time
from servers import FakeClock

pytestmark = pytest.mark.no_cover

EXAMPLES = int(os.environ.get("REDSET_TEST_EXAMPLES", "4"))
STEPS = int(os.environ.get("REDSET_TEST_STEPS", "30"))

WHICH: dict[str, dict[str, bool]] = {
    "keyed": {"keyed": True, "remembers": False},
    "remembering": {"keyed": False, "remembers": True},
    "keyed and remembering": {"keyed": True, "remembers": True},
    "keyed and remembering digests": {"keyed": True, "remembers": True, "digest": True},
}

which = pytest.mark.parametrize("which", WHICH.values(), ids=WHICH.keys())


@pytest.mark.conformance
@pytest.mark.timeout(60 + 2 * EXAMPLES * STEPS)
@which
def test_items_as_in_the_model_as_they_grow_older(face: Any, kind: str, raw: Any, which: dict[str, bool]) -> None:
    run(face, kind, raw, AgeingMemory(raw, "jobs"), which)


@pytest.mark.timeout(60 + 2 * EXAMPLES * STEPS)
@which
def test_items_as_in_the_model_as_the_clock_of_the_server_moves(
    face: Any, kind: str, raw: Any, clock: FakeClock, which: dict[str, bool]
) -> None:
    run(face, kind, raw, MovedClock(clock), which)


def run(face: Any, kind: str, raw: Any, time: Time, which: dict[str, bool]) -> None:
    members = {"face": face, "kind": kind, "raw": raw, "time": time, **which}
    run_state_machine_as_test(
        type("KeyedMachine", (KeyedMachine,), members),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
