"""Periodic sets at random, by the model in periodic_machine.py.

``REDSET_TEST_EXAMPLES`` and ``REDSET_TEST_STEPS`` make it as thorough as wanted.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from periodic_machine import PeriodicMachine
from servers import FakeClock

pytestmark = pytest.mark.no_cover

EXAMPLES = int(os.environ.get("REDSET_TEST_EXAMPLES", "10"))
STEPS = int(os.environ.get("REDSET_TEST_STEPS", "30"))


@pytest.mark.timeout(60 + 2 * EXAMPLES * STEPS)
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_ticks_as_in_the_model_as_the_clock_of_the_server_moves(
    face: Any, raw: Any, clock: FakeClock, keyed: bool
) -> None:
    members = {"face": face, "raw": raw, "clock": clock, "keyed": keyed}
    run_state_machine_as_test(
        type("PeriodicMachine", (PeriodicMachine,), members),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
