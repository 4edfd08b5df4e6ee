"""Short runs in which everything goes wrong; ``make chaos`` are the long ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.checkers import RULES, Verdict, check
from chaos.history import CUT, History
from chaos.places import Clustered, Place, Sharded, Single, Watched
from chaos.promises import NUMBERS
from chaos.runs import run
from chaos.telling import told
from chaos.workloads import ALL_PROMISES, PROMISES, SHARDS
from servers import Unavailable

pytestmark = pytest.mark.no_cover

FAULTS = {"apart", "clock", "cut", "delay", "flush", "full", "kill", "lose", "restart", "stop"}


@pytest.fixture
def single() -> Iterator[Place]:
    try:
        place = Single()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield place
    place.stop()


# It takes half a minute on a machine that is free.
@pytest.mark.soak
@pytest.mark.timeout(300)
def test_whatever_goes_wrong_all_that_is_promised_holds(single: Place, tmp_path: Path) -> None:
    history = run(single, seconds=10, seed=1, directory=tmp_path, pause=0.5)

    verdict = check(history, PROMISES)
    assert [*lines(verdict, history)] == []

    # A run in which nothing goes wrong, or nothing is done, proves nothing.
    assert_all_went_wrong(history)
    assert_all_was_used(history)
    assert_all_was_drained(history)
    assert {rule: verdict.looked_at[rule] for rule in RULES if not verdict.looked_at[rule]} == {}


@pytest.mark.soak
@pytest.mark.parametrize(("make", "fault"), [(Watched, "failover"), (Clustered, "slot")])
def test_it_holds_where_sets_go_from_one_server_to_another(
    make: Callable[[], Place], fault: str, tmp_path: Path
) -> None:
    place = make()
    try:
        history = run(place, seconds=6, seed=1, directory=tmp_path, pause=0.3)
    finally:
        place.stop()

    assert [*lines(check(history, PROMISES), history)] == []

    assert {fault, "flush", "kill", "stop"} <= {fault.name for fault in history.faults}
    # Who is asked whether a replica has it says yes, but not always.
    assert {call.replicated for call in history.calls if call.rows} >= (
        {True, False} if fault == "failover" else {None}
    )
    assert all(any(history.of(set)) for set in PROMISES)
    assert_all_was_drained(history)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_it_holds_for_sets_over_shards(tmp_path: Path) -> None:
    place, promises = Sharded(), ALL_PROMISES["sharded"]
    try:
        history = run(place, seconds=8, seed=1, directory=tmp_path, pause=0.3)
    finally:
        place.stop()

    verdict = check(history, promises)
    assert [*lines(verdict, history)] == []

    faults = {"cut", "failover", "freeze", "handover", "kill", "reshard", "slot", "stop"}
    assert {fault.name for fault in history.faults} >= faults
    assert all(any(history.of(set)) for set in promises)
    # Calls were given up whose shard did not answer, and went on with another one.
    assert any(call.outcome == "unknown" and call.completed for call in history.calls)
    assert any(call.error == CUT for call in history.of_names("pop", "take", "reserve"))
    # Every shard had a part in it, as the checkers divide the items and as the servers did.
    for left in history.left:
        assert len(left.shards) in ({n or 1 for n in NUMBERS} if promises[left.set].is_resharded else {SHARDS})
        assert (left.waiting, left.leased, left.parked) == ([], [], []) or not promises[left.set].ends
    added = [call for call in history.of_names("add", "update") if not promises[call.set].is_resharded]
    assert {promises[call.set].shard_of(item) for call in added for item in call.items} == {*range(SHARDS)}
    assert all(shard.totals["leased"] for left in history.left if left.set == "shards-leased" for shard in left.shards)


def lines(verdict: Verdict, history: History) -> Iterator[str]:
    """What there is to say of violations."""
    for violation in verdict.violations:
        yield from told(violation, history)


def assert_all_went_wrong(history: History) -> None:
    assert {fault.name for fault in history.faults if fault.details.get("seconds") != 0} == FAULTS

    lost = [fault.details.keys() for fault in history.faults if fault.name == "lose"]
    assert any(details & {"lost_command", "lost_reply", "cut_reply", "late"} for details in lost)
    assert any(call.error in {"ServerFullError", "OutOfMemoryError"} for call in history.calls)
    assert any(call.outcome == "unknown" and call.completed for call in history.calls)
    # Who was killed came back.
    assert not all(call.process.endswith("/1") for call in history.calls)


def assert_all_was_used(history: History) -> None:
    faces = set()
    for name, promises in PROMISES.items():
        names = ("add", "add_new") if promises.ttl else ("pop", "take", "reserve")
        given = [call for call in history.of(name, *names) if call.rows]
        assert given, name
        faces |= {call.process.partition("-")[0] for call in given}
    assert faces == {"sync", "aio"}


def assert_all_was_drained(history: History) -> None:
    """But what comes back for ever, and what was seen."""
    for left in history.left:
        if PROMISES[left.set].interval is None and PROMISES[left.set].ttl is None:
            assert (left.waiting, left.leased, left.parked) == ([], [], [])
