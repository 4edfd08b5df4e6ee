"""Leases on every kind of set and each face, at random, by the model in lease_machine.py.

``REDSET_TEST_EXAMPLES`` and ``REDSET_TEST_STEPS`` make it as thorough as wanted.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lease_machine import Ageing, LeaseMachine, MovedClock, Time
from servers import FakeClock

pytestmark = pytest.mark.no_cover

EXAMPLES = int(os.environ.get("REDSET_TEST_EXAMPLES", "8"))
STEPS = int(os.environ.get("REDSET_TEST_STEPS", "30"))


@pytest.mark.conformance
@pytest.mark.timeout(60 + EXAMPLES * STEPS)
def test_leases_as_in_the_model_as_they_grow_older(face: Any, kind: str, raw: Any) -> None:
    run(face, kind, raw, Ageing(raw, "jobs"))


@pytest.mark.timeout(60 + EXAMPLES * STEPS)
def test_leases_as_in_the_model_as_the_clock_of_the_server_moves(
    face: Any, kind: str, raw: Any, clock: FakeClock
) -> None:
    run(face, kind, raw, MovedClock(clock))


def run(face: Any, kind: str, raw: Any, time: Time) -> None:
    members = {"face": face, "kind": kind, "raw": raw, "time": time}
    run_state_machine_as_test(
        type("LeaseMachine", (LeaseMachine,), members),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
