"""Leases on every kind of set and each face, at random, by the model in lease_machine.py."""

from typing import Any

import pytest

from faces import Face
from lease_machine import LeaseMachine
from machines import Ageing, MovedClock, run_machine, seconds_for, thoroughly
from proxy import Proxy
from redset.core.keys import Keys
from servers import FakeClock

HOW = thoroughly(examples=6)

pytestmark = [pytest.mark.no_cover, pytest.mark.timeout(seconds_for(HOW))]


@pytest.mark.conformance
def test_leases_as_in_the_model_as_they_grow_older(face: Face, kind: str, raw: Any) -> None:
    run_machine(LeaseMachine, HOW, face=face, raw=raw, kind=kind, time=Ageing(raw, Keys("jobs").leased))


def test_leases_as_in_the_model_as_the_clock_of_the_server_moves_and_calls_are_lost(
    stubborn: Face, stubborn_proxy: Proxy, kind: str, raw: Any, clock: FakeClock
) -> None:
    members = {"face": stubborn, "proxy": stubborn_proxy, "raw": raw, "time": MovedClock(clock)}
    run_machine(LeaseMachine, HOW, kind=kind, **members)
