"""Groups obey their limits, and lose no item: every operation on a set with groups, at random, by group_machine.py."""

from typing import Any

import pytest

from faces import Face
from group_keys import SHARDS
from group_machine import REMEMBER, GroupMachine, ShardedGroupMachine
from machines import Ageing, MovedClock, run_machine, seconds_for, thoroughly
from proxy import Proxy
from redset.core.keys import Keys
from redset.core.shards import layout as layouts
from servers import FakeClock

HOW = thoroughly(examples=4, steps=40)

pytestmark = [pytest.mark.no_cover, pytest.mark.timeout(seconds_for(HOW))]

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "keyed": {"key": str},
    "remembering": {"remember": REMEMBER},
    "keyed, remembering and dropping": {"key": str, "remember": REMEMBER, "while_leased": "drop"},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
limit = pytest.mark.parametrize("limit", [(None, None), (1, None), (2, 0.5), (None, 1.5)], ids=str)
kinds = pytest.mark.parametrize("kind", ["SortedSet", "ScheduledSet"])
turns = pytest.mark.parametrize("turns", ["score", "fair"])


@pytest.mark.conformance
@kinds
@turns
@limit
@options
def test_groups_as_they_grow_older(face: Face, raw: Any, kind: str, turns: str, limit: Any, options: Any) -> None:
    keys = Keys("jobs")
    time = Ageing(raw, keys.leased, keys.resting, keys.done)
    members = {"kind": kind, "turns": turns, "limit": limit, "options": options}
    run_machine(GroupMachine, HOW, face=face, raw=raw, time=time, has_ends=False, **members)


@kinds
@turns
@limit
@options
def test_groups_as_the_clock_of_the_server_moves_and_calls_are_lost(
    stubborn: Face, stubborn_proxy: Proxy, raw: Any, clock: FakeClock, kind: str, turns: str, limit: Any, options: Any
) -> None:
    members = {"kind": kind, "turns": turns, "limit": limit, "options": options}
    run_machine(GroupMachine, HOW, face=stubborn, proxy=stubborn_proxy, raw=raw, time=MovedClock(clock), **members)


@pytest.mark.conformance
@kinds
@turns
@limit
def test_groups_over_shards_as_they_grow_older(face: Face, raw: Any, kind: str, turns: str, limit: Any) -> None:
    shards = map(Keys, layouts.first("jobs", SHARDS, "", digest=False).names)
    time = Ageing(raw, *(key for keys in shards for key in (keys.leased, keys.resting, keys.done)))
    members = {"kind": kind, "turns": turns, "limit": limit, "options": {"key": str, "remember": REMEMBER}}
    run_machine(ShardedGroupMachine, HOW, face=face, raw=raw, time=time, has_ends=False, **members)


@kinds
@turns
@limit
def test_groups_over_shards_as_the_clock_of_the_server_moves_and_calls_are_lost(
    stubborn: Face, stubborn_proxy: Proxy, raw: Any, clock: FakeClock, kind: str, turns: str, limit: Any
) -> None:
    members = {"kind": kind, "turns": turns, "limit": limit, "options": {}}
    run_machine(
        ShardedGroupMachine, HOW, face=stubborn, proxy=stubborn_proxy, raw=raw, time=MovedClock(clock), **members
    )
