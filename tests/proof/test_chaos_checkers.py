"""What a chaos run is judged by, on small histories: one that holds, with what excuses it, and one that is caught."""

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chaos.checkers import Verdict, check
from chaos.history import CUT, Call, Fault, History, Left, Outcome, Recorder, Row
from chaos.promises import Promises

#: How long a call takes that does not say so, in seconds.
QUICK = 0.1

LEASES = Promises()
TAKES = Promises(taken_for_good=True)


def call(
    name: str,
    at: float,
    *items: str,
    until: float | None = None,
    outcome: Outcome = "ok",
    dies: bool = False,
    process: str = "worker/1",
    tokens: Iterable[int] = (),
    rows: Iterable[Row] = (),
    error: str = "",
    replicated: bool | None = None,
    **given: Any,
) -> Call:
    """One that was invoked ``at`` that moment; its process ``dies``, or it completes ``until`` then."""
    return Call(
        process=process,
        actor="main",
        set="jobs",
        name=name,
        invoked=at,
        items=list(items),
        tokens=list(tokens),
        given=given,
        completed=None if dies else at + QUICK if until is None else until,
        outcome="unknown" if dies else outcome,
        rows=list(rows),
        error=error,
        replicated=replicated,
    )


def add(at: float, *items: str, **more: Any) -> Call:
    return call("add", at, *items, **more)


def pop(at: float, *items: str, **more: Any) -> Call:
    return call("pop", at, rows=map(Row, items), **more)


def reserve(at: float, item: str, token: int, *, lease: float = 10, score: float = 0, **more: Any) -> Call:
    row = Row(item, score, token, more.pop("attempt", 1), more.pop("version", None))
    return call("reserve", at, rows=[row], lease=lease, **more)


def end(name: str, at: float, item: str, token: int, **more: Any) -> Call:
    return call(name, at, item, tokens=[token], **more)


def ack(at: float, item: str, token: int, **more: Any) -> Call:
    return end("ack", at, item, token, **more)


def forced(at: float, item: str, **more: Any) -> Call:
    return add(at, item, force=True, **more)


def lost(name: str, at: float, item: str, token: int, **more: Any) -> Call:
    return end(name, at, item, token, outcome="refused", error="LeaseLost: it ran out", **more)


def killed(at: float, process: str = "worker/1") -> Fault:
    return Fault("kill", at, at, on=process)


def failover(at: float) -> Fault:
    return Fault("failover", at, at + 1)


def clock(at: float, seconds: float) -> Fault:
    return Fault("clock", at, at, on="server", details={"seconds": seconds, "epoch": 1000})


def judge(
    promises: Promises,
    *events: Call | Fault,
    left: Iterable[str] = (),
    waiting: Iterable[str] = (),
    parked: Iterable[str] = (),
    dead: Iterable[str] = (),
    drained: bool = False,
    totals: dict[str, int] | None = None,
) -> Verdict:
    if totals is None:
        # Such that all equations hold.
        there = sum(len(list(items)) for items in (waiting, left, parked, dead))
        totals = {"added": there, "leased": len(list(left)), "died": len(list(dead))}
    history = History(
        calls=sorted((event for event in events if isinstance(event, Call)), key=lambda call: call.invoked),
        faults=[event for event in events if isinstance(event, Fault)],
        left=[Left("jobs", list(waiting), list(left), list(parked), list(dead), drained, totals, held=len(list(left)))],
    )
    return check(history, {"jobs": promises})


def caught_by(verdict: Verdict) -> set[str]:
    return {violation.checker for violation in verdict.violations}


def excuses(verdict: Verdict, checker: str) -> set[str]:
    assert verdict.ok, verdict.violations
    return {why for name, why in verdict.excused if name == checker}


# Over shards

SHARDS = Promises(shards=6)
#: Items of three shards, by CRC-32.
OF_A_SHARD = {3: "a", 5: "b", 2: "f"}


def failover_of(at: float, *shards: int, kept_until: float) -> Fault:
    return Fault("failover", at, at + 1, details={"kept until": kept_until, "shards": {"jobs": list(shards)}})


def test_items_are_divided_by_crc_32() -> None:
    assert {SHARDS.shard_of(item): item for item in OF_A_SHARD.values()} == OF_A_SHARD
    assert LEASES.shard_of("a") is None


def test_a_failover_forgets_what_its_shards_got_last() -> None:
    assert judge(SHARDS, add(1, "a"), failover_of(2, 3, 4, kept_until=1)).ok
    assert caught_by(judge(SHARDS, add(1, "a"), failover_of(2, 3, 4, kept_until=1 + 2 * QUICK))) == {"nothing_lost"}
    assert caught_by(judge(SHARDS, add(1, "b"), failover_of(2, 3, 4, kept_until=1))) == {"nothing_lost"}
    assert judge(SHARDS, add(1, "b", "a"), failover_of(2, 3, 4, kept_until=1), waiting=["b"]).ok


def test_tokens_grow_for_each_item_over_shards() -> None:
    first: list[Call | Fault] = [add(1, "a", "b"), reserve(2, "a", 9), ack(3, "a", 9)]
    assert judge(SHARDS, *first, reserve(4, "b", 5), ack(5, "b", 5)).ok
    for token in 9, 8:
        again = [add(4, "a"), reserve(5, "a", token), ack(6, "a", token)]
        assert "tokens_grow" in caught_by(judge(SHARDS, *first, *again, waiting=["b"]))


def test_the_order_of_shards_is_not_one_but_that_of_a_call_is() -> None:
    rows = [Row("a", 2.0, 1, 1), Row("b", 3.0, 1, 1)]
    added = [add(1, "f", score=1.0), add(1, "a", score=2.0), add(1, "b", score=3.0)]
    assert judge(SHARDS, *added, call("reserve", 2, rows=rows, lease=10), waiting=["f"], left=["a", "b"]).ok
    backwards = judge(SHARDS, *added, call("reserve", 2, rows=rows[::-1], lease=10), waiting=["f"], left=["a", "b"])
    assert caught_by(backwards) == {"in_order"}


def test_totals_add_up_in_each_shard() -> None:
    def judged(*totals: dict[str, int]) -> set[str]:
        shards = [Left(f"shard {number}", totals=each) for number, each in enumerate(totals)]
        return caught_by(check(History(left=[Left("jobs", shards=shards)]), {"jobs": SHARDS}))

    assert judged({"added": 1, "taken": 1}, {}) == set()
    assert judged({"added": 1}, {"taken": 1}) == {"totals_add_up"}


def test_a_shard_that_failed_may_have_been_claimed_from() -> None:
    taken: list[Call | Fault] = [add(1, "a", "b"), pop(2, "b", error=CUT), killed(3)]
    takes = Promises(taken_for_good=True, shards=6)
    assert excuses(judge(takes, *taken), "nothing_lost") == {"its taker was killed"}
    # The claims of its process that follow put it back.
    back = [pop(2.5 + number / 100, until=2.505 + number / 100) for number in range(2 * 6)]
    assert caught_by(judge(takes, *taken, *back)) == {"nothing_lost"}
    assert judge(takes, *taken, *back[1:]).ok


# Over other shards than before


MOVED = Promises(taken_for_good=True, shards=6, is_resharded=True)


def reshard(at: float) -> Fault:
    return Fault("reshard", at, at + 1, details={"sets": ["jobs"]})


def repeated(one: Call) -> Call:
    one.repeated = True
    return one


def test_after_a_reshard_the_totals_add_up_in_all_shards_together() -> None:
    def judged(**totals: int) -> set[str]:
        shards = [Left("shard 0", totals={"added": 1}), Left("shard 1", totals={"taken": 1})]
        return caught_by(check(History(left=[Left("jobs", totals=totals, shards=shards)]), {"jobs": MOVED}))

    assert judged(added=1, taken=1) == set()
    assert judged(added=2, taken=1) == {"totals_add_up"}


def test_a_reshard_rolls_nothing_back() -> None:
    events = [add(1, "a"), pop(2, outcome="unknown")]
    back = [pop(5 + number / 100, until=5.005 + number / 100) for number in range(2 * 6)]
    assert caught_by(judge(MOVED, *events, *back)) == {"nothing_lost"}
    assert excuses(judge(MOVED, *events, *back, reshard(3)), "nothing_lost") == {"it was not put back after a reshard"}
    assert caught_by(judge(MOVED, *events, *back, reshard(7))) == {"nothing_lost"}, "it was put back before"
    other = Fault("reshard", 3, 4, details={"sets": ["others"]})
    assert caught_by(judge(MOVED, *events, *back, other)) == {"nothing_lost"}


def test_what_was_done_before_a_reshard_may_be_done_again_after_it() -> None:
    def twice(*, is_repeated: bool, at: float) -> list[Call | Fault]:
        added = add(1, "a", until=4)
        return [repeated(added) if is_repeated else added, pop(1.5, "a"), pop(5, "a"), reshard(at)]

    assert judge(MOVED, *twice(is_repeated=True, at=2)).ok
    assert caught_by(judge(MOVED, *twice(is_repeated=False, at=2))) == {"handed_out_once"}
    assert caught_by(judge(MOVED, *twice(is_repeated=True, at=6))) == {"handed_out_once"}

    late = [add(1, "a"), reserve(2, "a", 1), lost("ack", 3, "a", 1, until=6)]
    assert "nothing_lost" in caught_by(judge(MOVED, *late, reshard(4)))
    late[-1] = repeated(lost("ack", 3, "a", 1, until=6))
    assert judge(MOVED, *late, reshard(4)).ok
    assert "nothing_lost" in caught_by(judge(MOVED, *late, reshard(8)))


# Nothing is lost


def test_what_was_added_is_handed_out_or_left() -> None:
    assert judge(TAKES, add(1, "a", "b"), pop(2, "a"), waiting=["b"]).ok
    assert caught_by(judge(TAKES, add(1, "a", "b"), pop(2, "a"))) == {"nothing_lost"}


def test_an_update_is_not_lost_either() -> None:
    # It was added again while somebody had it, and parked.
    held = [add(1, "a"), reserve(2, "a", 1), add(3, "a"), ack(4, "a", 1)]
    assert judge(LEASES, *held, reserve(5, "a", 2), ack(6, "a", 2)).ok
    assert caught_by(judge(LEASES, *held)) == {"nothing_lost"}


def test_an_addition_that_was_refused_or_unknown_need_not_come() -> None:
    assert judge(TAKES, add(1, "a", outcome="refused"), add(1, "b", outcome="unknown")).ok


def test_what_was_leased_is_acked_or_left() -> None:
    leased = [add(1, "a"), reserve(2, "a", 1)]
    assert judge(LEASES, *leased, ack(3, "a", 1, outcome="unknown")).ok
    assert judge(LEASES, *leased, left=["a"]).ok
    assert caught_by(judge(LEASES, *leased)) == {"nothing_lost"}
    assert caught_by(judge(LEASES, *leased, lost("ack", 20, "a", 1))) == {"nothing_lost"}


def test_a_pop_under_way_in_a_killed_process_explains_as_many_as_it_asked_for() -> None:
    under_way: list[Call | Fault] = [add(1, "a"), call("take", 2, dies=True, number=1), killed(3)]
    assert excuses(judge(TAKES, *under_way), "nothing_lost") == {"its taker was killed"}
    assert caught_by(judge(TAKES, *under_way, add(1, "b"))) == {"nothing_lost"}
    assert caught_by(judge(TAKES, *under_way, add(60, "c"), waiting=["a"])) == {"nothing_lost"}
    assert caught_by(judge(TAKES, *under_way[:2])) == {"nothing_lost"}, "nobody killed it"


def test_what_an_unknown_pop_took_is_put_back_by_the_next() -> None:
    failed: list[Call | Fault] = [add(1, "a"), pop(2, outcome="unknown"), killed(9)]
    assert excuses(judge(TAKES, *failed), "nothing_lost") == {"its taker was killed"}
    assert excuses(judge(TAKES, *failed[:2]), "nothing_lost") == {"its taker never took again"}
    assert excuses(judge(TAKES, *failed, pop(3, dies=True)), "nothing_lost") == {"its taker was killed"}
    assert caught_by(judge(TAKES, *failed, pop(3))) == {"nothing_lost"}
    assert excuses(judge(TAKES, *failed, pop(3, process="worker/2")), "nothing_lost") == {"its taker was killed"}


def test_what_is_discarded_or_remembered_as_done_is_not_lost() -> None:
    assert excuses(judge(TAKES, add(1, "a"), call("discard", 2, "a")), "nothing_lost") == {"it was discarded"}
    assert caught_by(judge(TAKES, add(1, "a"), call("discard", 2, "b"))) == {"nothing_lost"}
    done = [add(1, "a"), reserve(2, "a", 1), ack(3, "a", 1), add(4, "a")]
    assert excuses(judge(Promises(remembers=True), *done), "nothing_lost") == {"it was done before"}
    assert caught_by(judge(LEASES, *done)) == {"nothing_lost"}


def test_what_was_added_by_force_comes_again_though_it_was_done_or_dead() -> None:
    remembers = Promises(remembers=True)
    leased = [add(1, "a"), reserve(2, "a", 1)]
    for name in "ack", "bury":
        events = [*leased, end(name, 3, "a", 1), forced(4, "a"), add(5, "a")]
        assert judge(remembers, *events, reserve(6, "a", 2), ack(7, "a", 2)).ok
        assert judge(remembers, *events, waiting="a").ok
        assert caught_by(judge(remembers, *events)) == {"nothing_lost"}
        assert caught_by(judge(remembers, *events, reserve(6, "a", 2))) == {"nothing_lost"}, "it was not acked"
        assert excuses(judge(remembers, *events, failover(4.5)), "nothing_lost") == {"forgotten by a failover"}
    buried = [*leased, end("bury", 3, "a", 1), forced(4, "a")]
    assert caught_by(judge(remembers, *buried, dead="a")) == {"nothing_lost"}
    assert judge(remembers, *buried, reserve(5, "a", 2), end("bury", 6, "a", 2), dead="a").ok


@pytest.mark.parametrize("promises", [Promises(remembers=True), Promises(drops=True)])
def test_an_addition_may_be_dropped_under_a_lease_that_an_ack_ended(promises: Promises) -> None:
    def judged(*events: Call, left: str = "") -> Verdict:
        return judge(promises, add(1, "a"), reserve(2, "a", 1), *events, dead=left)

    assert excuses(judged(forced(3, "a"), ack(4, "a", 1)), "nothing_lost") == {"it was dropped under a lease"}
    assert excuses(judged(forced(3, "a"), end("bury", 3.05, "a", 1), left="a"), "nothing_stuck") == set()
    assert caught_by(judged(ack(3, "a", 1), forced(4, "a"))) == {"nothing_lost"}
    assert caught_by(judged(forced(3, "a"), end("nack", 4, "a", 1))) == {"nothing_lost"}
    unknown = ack(3, "a", 1, outcome="unknown")
    assert judged(unknown, forced(4, "a")).ok
    assert caught_by(judged(unknown, forced(20, "a"))) == {"nothing_lost"}, "the lease was over"


def test_an_addition_that_a_claim_dropped_is_no_reason_to_come_again() -> None:
    drops = Promises(drops=True)
    leased, again = [add(1, "a"), reserve(2, "a", 1), add(3, "a")], [ack(6, "a", 1), reserve(7, "a", 2), ack(8, "a", 2)]
    met = call("reserve", 4, lease=10)
    assert judge(drops, *leased, *again).ok, "no claim met it before the ack"
    assert caught_by(judge(drops, *leased, met, *again)) == {"handed_out_once"}
    assert judge(drops, *leased, met, end("again", 5, "a", 1), *again[1:]).ok
    assert judge(drops, *leased, met, add(4.5, "a"), *again).ok
    assert judge(drops, *leased, call("reserve", 4, lease=10, outcome="unknown"), *again).ok
    assert judge(drops, *leased, call("reserve", 4, lease=10, error=CUT), *again).ok
    assert judge(drops, *leased, call("reserve", 4, until=6.5, lease=10), *again).ok
    assert judge(drops, *leased, met, failover(4.2), *again).ok
    assert judge(LEASES, *leased, met, *again).ok


def test_periodic_items_are_never_gone() -> None:
    ticks = [add(1, "a"), reserve(2, "a", 1), ack(3, "a", 1)]
    assert judge(Promises(interval=5), *ticks, waiting=["a"]).ok
    assert caught_by(judge(Promises(interval=5), *ticks)) == {"nothing_lost"}
    # Whoever takes them plans the next one with that, so what happens to him afterwards explains nothing.
    killed_taker = judge(Promises(interval=5, taken_for_good=True), add(1, "a"), pop(2, dies=True), killed(3))
    assert caught_by(killed_taker) == {"nothing_lost"}


def test_what_is_buried_is_still_there() -> None:
    buried = [add(1, "a"), reserve(2, "a", 1), end("bury", 3, "a", 1)]
    assert judge(LEASES, *buried, dead="a", drained=True).ok
    assert caught_by(judge(LEASES, *buried)) == {"nothing_lost"}


def test_what_was_not_replicated_may_be_forgotten_by_a_failover() -> None:
    forgotten = judge(TAKES, add(1, "a"), failover(2))
    assert excuses(forgotten, "nothing_lost") == {"forgotten by a failover"}
    assert caught_by(judge(TAKES, add(1, "a", replicated=True), failover(2))) == {"nothing_lost"}
    assert caught_by(judge(TAKES, failover(2), add(9, "a"))) == {"nothing_lost"}


def test_a_crash_explains_no_more_than_a_failover_leaves_to_it() -> None:
    added = [add(1, "a", replicated=True), add(2, "b")]
    verdict = judge(TAKES, *added, pop(3, dies=True), killed(4), failover(5))
    assert excuses(verdict, "nothing_lost") == {"its taker was killed", "forgotten by a failover"}


def test_a_failover_explains_only_what_came_after_it_began() -> None:
    replicated = add(1, "a", replicated=True), reserve(2, "a", 1, replicated=True)
    again = reserve(3, "a", 2, attempt=2), ack(5, "a", 2, replicated=True)
    # What is shown by a call that is forgotten was so even then.
    assert caught_by(judge(LEASES, *replicated, *again, failover(50))) == {"handed_out_once", "one_lease_at_a_time"}
    unknown = add(1, "a", replicated=True), reserve(2, "a", 1)
    assert caught_by(judge(LEASES, *unknown, *again, failover(50))) == {"handed_out_once", "one_lease_at_a_time"}
    assert judge(LEASES, *unknown, *again, failover(2.5)).ok
    # For a moment there are two masters.
    assert judge(LEASES, *replicated, *again, failover(3.05)).ok


def test_an_extension_that_a_failover_forgot_keeps_no_lease() -> None:
    replicated = add(1, "a", replicated=True), reserve(2, "a", 1, lease=2, replicated=True)
    extended, ended = end("extend", 3, "a", 1, lease=9), lost("ack", 8, "a", 1)
    assert caught_by(judge(LEASES, *replicated, extended, ended, left="a")) == {"one_lease_at_a_time"}
    assert judge(LEASES, *replicated, extended, failover(5), ended, left="a").ok


def test_what_was_left_must_have_been_looked_at() -> None:
    history = History(calls=[add(1, "a")])
    assert caught_by(check(history, {"jobs": TAKES})) == {"nothing_lost"}


# Nothing is invented


def test_what_is_handed_out_was_added_before() -> None:
    assert judge(TAKES, add(2, "a", outcome="unknown"), pop(1, "a", until=3)).ok
    assert "nothing_invented" in caught_by(judge(TAKES, pop(1, "a"), add(2, "a")))
    assert caught_by(judge(TAKES, add(1, "a", outcome="refused"), pop(2, "a"))) == {"nothing_invented"}


def test_values_were_given() -> None:
    keyed = Promises(keyed=True, taken_for_good=True)
    assert judge(keyed, add(1, "a", version=1), call("pop", 2, rows=[Row("a", version=1)])).ok
    for version in (2, None):
        rows = [Row("a", version=version)]
        assert caught_by(judge(keyed, add(1, "a", version=1), call("pop", 2, rows=rows))) == {"nothing_invented"}


# Each hand-out has a reason


def test_what_was_popped_comes_again_only_when_it_was_added_again() -> None:
    twice = [add(1, "a"), pop(2, "a"), pop(4, "a")]
    assert caught_by(judge(TAKES, *twice)) == {"handed_out_once"}
    assert excuses(judge(TAKES, *twice, add(3, "a")), "handed_out_once") == {"it was added again"}
    assert caught_by(judge(TAKES, *twice, add(3, "a", outcome="refused"))) == {"handed_out_once"}
    assert caught_by(judge(TAKES, *twice, add(0, "a"))) == {"handed_out_once"}, "that was before"


def test_an_unknown_addition_may_take_effect_later_but_once() -> None:
    events = [add(0, "a", outcome="unknown"), add(1, "a"), pop(2, "a"), pop(4, "a")]
    assert excuses(judge(TAKES, *events), "handed_out_once") == {"it was added again"}
    assert caught_by(judge(TAKES, *events, pop(6, "a"))) == {"handed_out_once"}


def test_hand_outs_that_overlap_may_have_been_made_in_any_order() -> None:
    slow = pop(0, "a", until=10, process="stopped/1")
    adds = [add(1, "a"), add(3.5, "a"), add(5.5, "a")]
    assert judge(TAKES, slow, *adds, pop(2, "a"), pop(6, "a")).ok
    assert caught_by(judge(TAKES, slow, *adds[:2], pop(2, "a"), pop(6, "a"))) == {"handed_out_once"}


def test_an_unseen_pop_is_no_reason_to_hand_out_twice() -> None:
    events = [add(1, "a"), pop(2, "a"), pop(3, outcome="unknown"), pop(4, "a")]
    assert caught_by(judge(TAKES, *events)) == {"handed_out_once"}


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        ([], "its lease ran out"),
        ([ack(3, "a", 1, outcome="unknown")], "its lease ran out"),
        ([end("nack", 3, "a", 1, delay=4)], "nack"),
        ([end("again", 3, "a", 1)], "again"),
        ([end("extend", 3, "a", 1, lease=5)], "its lease ran out"),
        ([ack(3, "a", 1), add(2.5, "a")], "it was added again"),
    ],
)
def test_what_was_leased_comes_again_when_the_lease_has_ended(ended: list[Call], why: str) -> None:
    events = [add(1, "a"), reserve(2, "a", 1), *ended, reserve(13, "a", 2, attempt=2), ack(14, "a", 2)]
    assert excuses(judge(LEASES, *events), "handed_out_once") == {why}


@pytest.mark.parametrize(
    "ended",
    [
        [ack(3, "a", 1)],
        [end("nack", 3, "a", 1, delay=30)],
        [end("extend", 3, "a", 1, lease=30)],
        [ack(3, "a", 1), add(1.5, "a")],
    ],
)
def test_what_was_leased_does_not_come_before(ended: list[Call]) -> None:
    events = [add(1, "a"), reserve(2, "a", 1), *ended, reserve(13, "a", 2, attempt=2), ack(14, "a", 2)]
    assert "handed_out_once" in caught_by(judge(LEASES, *events))


def test_a_clock_that_is_moved_ends_leases() -> None:
    early = [add(1, "a"), reserve(2, "a", 1), reserve(6, "a", 2, attempt=2), ack(7, "a", 2)]
    assert judge(LEASES, *early, clock(4, 8)).ok
    assert caught_by(judge(LEASES, *early, clock(4, 2))) == {"handed_out_once", "one_lease_at_a_time"}


def test_an_ack_that_a_failover_forgot_is_no_end() -> None:
    again = [add(2, "a"), reserve(3, "a", 1), ack(4, "a", 1), reserve(20, "a", 2), ack(21, "a", 2)]
    assert excuses(judge(LEASES, *again, failover(5)), "handed_out_once") == {"forgotten by a failover"}
    assert "handed_out_once" in caught_by(judge(LEASES, *again, failover(0)))


def test_an_addition_is_left_to_what_no_failover_explains() -> None:
    forgotten = [add(1, "a", replicated=True), add(2, "a", replicated=True, until=8), pop(3, "a")]
    later = [pop(6, "a", replicated=True), pop(9, "a", replicated=True)]
    assert judge(TAKES, *forgotten, failover(4), *later).ok
    assert "handed_out_once" in caught_by(judge(TAKES, *forgotten, *later))


def test_a_bury_that_a_failover_forgot_is_no_end() -> None:
    known = [add(1, "a", replicated=True), reserve(2, "a", 1, replicated=True)]
    again = [end("bury", 3, "a", 1), reserve(15, "a", 2, replicated=True), ack(16, "a", 2, replicated=True)]
    assert excuses(judge(LEASES, *known, *again, failover(5)), "handed_out_once") == {"forgotten by a failover"}
    assert "handed_out_once" in caught_by(judge(LEASES, *known, *again))


# In a transaction


def test_items_of_a_transaction_are_added_all_or_not_at_all() -> None:
    def together(**how: Any) -> Call:
        return call("add_to", 1, "a", "b", **how)

    assert judge(LEASES, together(), waiting="ab").ok
    assert judge(LEASES, together(outcome="unknown")).ok
    claimed = reserve(2, "a", 1), ack(3, "a", 1)
    assert judge(LEASES, together(outcome="unknown"), *claimed, waiting="b").ok
    assert caught_by(judge(LEASES, together(outcome="unknown"), *claimed)) == {"added_together"}
    assert judge(LEASES, together(outcome="unknown"), *claimed, failover(5)).ok
    assert caught_by(judge(LEASES, together(outcome="refused"), *claimed)) == {"nothing_invented"}


def test_a_transaction_that_is_sent_again_adds_again() -> None:
    events = call("add_to", 1, "a"), reserve(2, "a", 1), ack(3, "a", 1), reserve(4, "a", 2), ack(5, "a", 2)
    assert caught_by(judge(LEASES, *events)) == {"handed_out_once"}
    events[0].repeated = True
    assert judge(LEASES, *events).ok


# Nothing is stuck


def test_once_all_had_time_to_be_done_nothing_is_left() -> None:
    added = add(1, "a")
    assert judge(LEASES, added, waiting="a").ok
    assert caught_by(judge(LEASES, added, waiting="a", drained=True)) == {"nothing_stuck"}
    ran_out = reserve(2, "a", 1, lease=1), pop(60)
    assert caught_by(judge(LEASES, added, *ran_out, left="a", drained=True)) == {"nothing_stuck"}
    acked = reserve(2, "a", 1), add(3, "a"), ack(4, "a", 1)
    assert caught_by(judge(LEASES, added, *acked, parked="a", drained=True)) == {"nothing_stuck"}


def test_what_is_left_was_added() -> None:
    assert caught_by(judge(LEASES, waiting="a")) == {"nothing_stuck"}
    assert caught_by(judge(Promises(interval=5), waiting="a")) == {"nothing_stuck"}


def test_what_is_dead_was_buried_or_had_its_last_attempt() -> None:
    three = Promises(max_attempts=3)
    first = add(1, "a"), reserve(2, "a", 1), end("nack", 3, "a", 1)
    assert caught_by(judge(three, *first, dead="a")) == {"nothing_stuck"}
    last = reserve(4, "a", 2, attempt=2), end("nack", 5, "a", 2), reserve(6, "a", 3, attempt=3)
    assert judge(three, *first, *last, end("nack", 7, "a", 3), dead="a").ok
    unseen = [call("reserve", at, lease=1, outcome="unknown") for at in (4, 6)]
    assert judge(three, *first, *unseen, dead="a").ok
    assert caught_by(judge(three, *first, unseen[0], dead="a")) == {"nothing_stuck"}
    assert caught_by(judge(LEASES, add(1, "a"), reserve(2, "a", 1), ack(3, "a", 1), dead="a")) == {"nothing_stuck"}


# One lease at a time


def test_nobody_else_has_it_while_a_lease_is_live() -> None:
    first = [add(1, "a"), reserve(2, "a", 1), add(3, "a")]
    assert judge(LEASES, *first, ack(3, "a", 1), reserve(4, "a", 2), ack(5, "a", 2)).ok
    assert "one_lease_at_a_time" in caught_by(judge(LEASES, *first, reserve(4, "a", 2), ack(5, "a", 2)))


def test_a_lease_that_was_extended_is_live() -> None:
    first = [add(1, "a"), reserve(2, "a", 1), end("extend", 9, "a", 1, lease=10)]
    assert judge(LEASES, *first, reserve(20, "a", 2, attempt=2), ack(21, "a", 2)).ok
    assert "one_lease_at_a_time" in caught_by(judge(LEASES, *first, reserve(15, "a", 2, attempt=2), ack(16, "a", 2)))


def test_a_live_lease_is_not_lost() -> None:
    leased = [add(1, "a"), reserve(2, "a", 1)]
    assert judge(LEASES, *leased, lost("ack", 12.5, "a", 1), left=["a"]).ok
    assert judge(LEASES, *leased, call("discard", 3, "a"), lost("ack", 4, "a", 1), left=["a"]).ok
    assert judge(LEASES, *leased, ack(3, "a", 1, outcome="unknown"), lost("ack", 4, "a", 1)).ok
    assert caught_by(judge(LEASES, *leased, lost("ack", 4, "a", 1), left=["a"])) == {"one_lease_at_a_time"}


def test_acks_in_bulk_say_which_were_lost() -> None:
    leased = [add(1, "a", "b"), reserve(2, "a", 1), reserve(3, "b", 2)]
    acked = call("ack", 4, "a", "b", tokens=[1, 2])
    assert judge(LEASES, *leased, acked).ok
    acked.rows = [Row("b", token=2)]
    assert caught_by(judge(LEASES, *leased, acked, left=["b"])) == {"one_lease_at_a_time"}


def test_a_lease_that_ran_out_cannot_be_ended() -> None:
    leased = [add(1, "a"), reserve(2, "a", 1)]
    assert caught_by(judge(LEASES, *leased, ack(13, "a", 1))) == {"one_lease_at_a_time"}
    assert judge(LEASES, *leased, ack(11, "a", 1, until=14)).ok
    # It is told again what became of it the first time.
    assert judge(LEASES, *leased, ack(3, "a", 1, outcome="unknown"), ack(13, "a", 1)).ok


def test_a_lease_ends_once_though_several_know_of_it() -> None:
    leased = [add(1, "a"), reserve(2, "a", 1)]
    first, second = end("again", 3, "a", 1), ack(3.05, "a", 1, process="other/1")
    assert judge(LEASES, *leased, first, lost("ack", 3.05, "a", 1, process="other/1"), waiting="a").ok
    assert caught_by(judge(LEASES, *leased, first, second)) == {"ended_once"}
    assert judge(LEASES, *leased, ack(3, "a", 1, outcome="unknown"), second).ok
    assert judge(LEASES, *leased, end("extend", 3, "a", 1, lease=5), second).ok
    assert judge(LEASES, *leased, first, failover(3.02), second).ok


# Tokens


def test_tokens_grow() -> None:
    added = add(1, "a", "b")
    assert judge(LEASES, added, reserve(2, "a", 5, until=4), reserve(3, "b", 4, until=5), left=["a", "b"]).ok
    for token in (4, 5):
        verdict = judge(LEASES, added, reserve(2, "a", 5), reserve(3, "b", token), left=["a", "b"])
        assert caught_by(verdict) == {"tokens_grow"}


def test_tokens_of_one_call_grow() -> None:
    rows = [Row("a", 0, 2, 1), Row("b", 0, 1, 1)]
    verdict = judge(LEASES, add(1, "a", "b"), call("reserve", 2, rows=rows, lease=9), left=["a", "b"])
    assert caught_by(verdict) == {"tokens_grow"}


# Order


def test_rows_are_sorted_by_score_then_item() -> None:
    added = add(1, "a", "b", "c")
    rows = [Row("b", 1.0, 1, 1), Row("c", 1.0, 2, 1), Row("a", 2.0, 3, 1)]
    assert judge(LEASES, added, call("reserve", 2, rows=rows, lease=9), left="abc").ok
    tie = [Row("c", 1.0, 1, 1), Row("b", 1.0, 2, 1)]
    assert caught_by(judge(LEASES, added, call("reserve", 2, rows=tie, lease=9), left="abc")) == {"in_order"}


def test_rows_are_sorted_by_the_score_that_they_were_given_where_they_carry_none() -> None:
    added = [add(1, "a", score=1), add(1, "b", score=2)]
    rows = Row("a"), Row("b")
    assert judge(TAKES, *added, call("take", 2, rows=rows)).ok
    assert caught_by(judge(TAKES, *added, call("take", 2, rows=rows[::-1]))) == {"in_order"}
    assert judge(TAKES, *added, call("take_max", 2, rows=rows[::-1])).ok


def test_what_certainly_waits_with_a_lower_score_goes_first() -> None:
    added = [add(1, "a", score=1), add(1, "b", score=2)]
    assert judge(TAKES, *added, pop(2, "a"), pop(3, "b")).ok
    assert caught_by(judge(TAKES, *added, pop(2, "b"), pop(3, "a"))) == {"in_order"}
    assert caught_by(judge(TAKES, *added, pop(2, "b"), waiting="a")) == {"in_order"}
    assert judge(TAKES, *added, call("pop_max", 2, rows=[Row("b")]), pop(3, "a")).ok
    assert caught_by(judge(TAKES, *added, call("pop_max", 2, rows=[Row("a")]), pop(3, "b"))) == {"in_order"}


@pytest.mark.parametrize(
    "doubtful",
    [
        add(1.5, "a", score=3),
        pop(1.5, outcome="unknown"),
        call("discard", 1.5, "a"),
        add(2.05, "a", score=1),
        Fault("failover", 1.5, 3),
    ],
)
def test_what_waits_perhaps_need_not_go_first(doubtful: Call | Fault) -> None:
    events = [add(1, "a", score=1), add(1, "b", score=2), pop(2, "b"), doubtful]
    assert "in_order" not in caught_by(judge(TAKES, *events, pop(3, "a", process="other/1")))


def test_the_score_of_a_hand_out_tells_where_it_waited_unless_it_may_be_of_an_addition_since() -> None:
    """Scores that are the time of an addition, which nobody writes down, are known by hand-outs alone."""
    before = [add(1, "a"), add(1, "b", score=5), reserve(2, "b", 1, score=5)]
    between = [reserve(2.6, "a", 2, score=9), ack(2.8, "a", 2), add(3, "a")]
    assert judge(LEASES, *before, *between, reserve(2.5, "a", 3, score=1, until=4), left="ab").ok
    assert caught_by(judge(LEASES, *before, reserve(2.5, "a", 2, score=1), add(3, "a"), left="ab")) == {"in_order"}


def test_what_was_left_out_as_done_need_not_go_first() -> None:
    done = [add(1, "a", score=0), add(1, "b", score=0), reserve(2, "a", 1), ack(3, "a", 1), add(4, "a", score=0)]
    events = [*done, reserve(4.2, "b", 2), forced(6, "a", score=0), reserve(4.5, "a", 3, until=7)]
    assert judge(Promises(remembers=True), *events, left="ab").ok
    assert caught_by(judge(LEASES, *events, left="ab")) == {"in_order"}


def test_what_is_parked_need_not_go_first() -> None:
    added = [add(1, "a", score=1), add(1, "b", score=2)]
    leased = [*added, reserve(2, "a", 1, score=1), add(3, "a", score=1)]
    later = [ack(5, "a", 1), reserve(6, "a", 3, score=1), ack(7, "a", 3)]
    assert judge(LEASES, *leased, reserve(4, "b", 2, score=2), *later, left="b").ok
    acked = [*added, reserve(2, "a", 1, score=1), ack(2.5, "a", 1), add(3, "a", score=1)]
    assert caught_by(judge(LEASES, *acked, reserve(4, "b", 2, score=2), *later[1:], left="b")) == {"in_order"}


# Time


def test_nothing_is_handed_out_before_its_time() -> None:
    scheduled = Promises(scheduled=True, taken_for_good=True)
    added: list[Call | Fault] = [clock(0, 0), add(1, "a", score=1010)]
    assert judge(scheduled, *added, pop(10, "a")).ok
    assert caught_by(judge(scheduled, *added, pop(9, "a"))) == {"not_before_its_time"}
    assert judge(scheduled, *added, clock(5, 3), pop(8, "a")).ok


# Memory


def test_what_was_done_does_not_come_again() -> None:
    remembers = Promises(remembers=True)
    first = [add(1, "a"), reserve(2, "a", 1)]
    again = [reserve(13, "a", 2, attempt=2), ack(14, "a", 2)]
    assert judge(remembers, *first, lost("ack", 12.5, "a", 1), *again).ok
    assert judge(remembers, *first, ack(3, "a", 1, outcome="unknown"), *again).ok
    done = [*first, ack(3, "a", 1), add(4, "a"), *again]
    assert caught_by(judge(remembers, *done)) == {"remembered_once"}
    assert excuses(judge(remembers, *done, failover(5)), "remembered_once") == {"forgotten by a failover"}


def test_what_was_taken_for_good_does_not_come_again() -> None:
    remembers = Promises(remembers=True, taken_for_good=True)
    assert judge(remembers, add(1, "a"), pop(2, "a"), add(3, "a")).ok
    assert caught_by(judge(remembers, add(1, "a"), pop(2, "a"), add(3, "a"), pop(4, "a"))) == {"remembered_once"}


def test_what_was_done_or_died_comes_again_once_for_each_time_it_is_added_by_force() -> None:
    remembers = Promises(remembers=True)
    first = [add(1, "a"), reserve(2, "a", 1), ack(3, "a", 1)]
    second, third = [reserve(5, "a", 2), ack(6, "a", 2)], [reserve(8, "a", 3), ack(9, "a", 3)]
    assert excuses(judge(remembers, *first, forced(4, "a"), *second), "remembered_once") == {"it was added by force"}
    assert judge(remembers, *first, forced(4, "a"), *second, forced(7, "a"), *third).ok
    twice = [*first, forced(4, "a"), *second, add(7, "a"), *third]
    assert caught_by(judge(remembers, *twice)) == {"remembered_once"}
    before = [add(1, "a"), reserve(2, "a", 1), forced(2.5, "a"), ack(3, "a", 1), *second]
    assert caught_by(judge(remembers, *before)) == {"remembered_once"}, "the ack dropped it"
    unknown = ack(2.2, "a", 1, outcome="unknown")
    assert judge(remembers, *before, unknown).ok, "an ack before it may have counted"
    buried = [add(1, "a"), reserve(2, "a", 1), end("bury", 3, "a", 1), add(4, "a"), *second]
    assert caught_by(judge(remembers, *buried)) == {"remembered_once"}
    assert judge(remembers, *buried, forced(4.5, "a")).ok


# Values


def test_a_hand_out_carries_the_newest_value() -> None:
    keyed = Promises(keyed=True)
    added = [add(1, "a", version=1), add(2, "a", version=2)]
    assert judge(keyed, *added, reserve(2.05, "a", 1, version=1), left="a").ok
    assert caught_by(judge(keyed, *added, reserve(3, "a", 1, version=1), left="a")) == {"fresh_values"}


# Attempts


def test_no_attempt_is_beyond_the_last() -> None:
    limited = Promises(max_attempts=2)
    first = add(1, "a"), reserve(2, "a", 1), end("nack", 3, "a", 1), reserve(4, "a", 2, attempt=2)
    assert judge(limited, *first, left="a").ok
    third = end("nack", 5, "a", 2), reserve(6, "a", 3, attempt=3)
    assert caught_by(judge(limited, *first, *third, left="a")) == {"attempts_count"}


@pytest.mark.parametrize(
    "reason", [ack(3, "a", 1, outcome="unknown"), end("again", 3, "a", 1), end("bury", 3, "a", 1, outcome="unknown")]
)
def test_attempts_count_on(reason: Call) -> None:
    events = [add(1, "a"), reserve(2, "a", 1)]
    later = [reserve(13, "a", 2), ack(14, "a", 2)]
    assert judge(LEASES, *events, reason, *later).ok
    assert caught_by(judge(LEASES, *events, end("nack", 3, "a", 1), *later)) == {"attempts_count"}


def test_attempts_count_by_one_for_each_hand_out_seen_or_not() -> None:
    unseen = call("reserve", 3.5, lease=1, outcome="unknown")
    third = reserve(5, "a", 2, attempt=3)
    assert caught_by(judge(LEASES, add(1, "a"), third, left="a")) == {"attempts_count"}
    first = add(1, "a"), reserve(2, "a", 1), end("nack", 3, "a", 1)
    assert caught_by(judge(LEASES, *first, third, left="a")) == {"attempts_count"}
    assert judge(LEASES, *first, unseen, third, left="a").ok


# Ticks


@pytest.mark.parametrize(
    ("score", "ended", "holds"),
    [
        (20, ack(11, "a", 1), True),
        (40, ack(11, "a", 1), True),
        (10, ack(11, "a", 1, outcome="unknown"), True),
        (10, end("nack", 11, "a", 1), True),
        (10, ack(11, "a", 1), False),
        (20, end("nack", 11, "a", 1), False),
        (23, ack(11, "a", 1), False),
        (0, ack(11, "a", 1), False),
    ],
)
def test_each_tick_is_had_once(score: float, ended: Call, holds: bool) -> None:
    events = [add(1, "a"), reserve(10, "a", 1, score=10), ended, reserve(21, "a", 2, score=score, attempt=2)]
    expected = set() if holds else {"ticks_once"}
    assert caught_by(judge(Promises(interval=10), *events, left="a")) == expected


def test_no_tick_follows_one_that_was_neither_acked_nor_taken() -> None:
    periodic = Promises(interval=10, taken_for_good=True)
    events = [add(1, "a"), reserve(10, "a", 1, score=10, lease=1), reserve(21, "a", 2, score=20, lease=1)]
    assert caught_by(judge(periodic, *events, waiting="a")) == {"ticks_once"}
    assert judge(periodic, *events, pop(15, "a"), waiting="a").ok
    assert judge(periodic, *events, pop(15, outcome="unknown"), waiting="a").ok
    assert caught_by(judge(periodic, *events, pop(1, outcome="unknown", until=1.5), pop(25), waiting="a")) == set()


def test_ticks_taken_for_good_are_not_more_than_there_are() -> None:
    periodic = Promises(interval=10, taken_for_good=True)
    # The one late, the other in time.
    taken = [add(1, "a"), pop(9, "a"), pop(11, "a")]
    assert judge(periodic, *taken, waiting="a").ok
    assert caught_by(judge(periodic, *taken, pop(13, "a"), waiting="a")) == {"ticks_once"}
    assert judge(periodic, *taken, pop(13, "a"), clock(12, 9), waiting="a").ok


def test_what_was_leased_may_be_taken_for_good_before_its_holder_hears_of_it() -> None:
    heard_late = reserve(2, "a", 1, lease=1, until=6)
    assert judge(TAKES, add(1, "a"), heard_late, pop(4, "a")).ok
    assert caught_by(judge(TAKES, add(1, "a"), pop(1.5, "a"), add(1.8, "a"), heard_late)) == {"nothing_lost"}


def test_a_late_tick_may_be_heard_of_after_the_next_one() -> None:
    periodic = Promises(interval=1.5, taken_for_good=True)
    ticks = [pop(51.3, "a", until=52.5), pop(51.8, "a"), pop(53.3, "a"), pop(54.6, "a")]
    assert judge(periodic, add(1, "a"), *ticks, waiting="a").ok


def test_who_was_stopped_before_he_heard_of_his_lease_had_it_before() -> None:
    """Tokens tell, also where others take for good."""
    periodic = Promises(interval=10, taken_for_good=True)
    heard_late = reserve(2, "a", 1, score=2, lease=1, until=6)
    others = [reserve(4, "a", 2, score=2, lease=1, attempt=2), ack(4.5, "a", 2), pop(12, "a")]
    assert judge(periodic, add(1, "a"), heard_late, *others, waiting="a").ok


def test_a_tick_that_a_failover_forgot_is_handed_out_again() -> None:
    """Also one between two that are known to be on the replica."""
    periodic = Promises(interval=5, taken_for_good=True)
    known = [add(1, "a", replicated=True), pop(2, "a", replicated=True), pop(8, "a", replicated=True)]
    again = pop(7, "a", replicated=False), pop(9, "a", replicated=True)
    assert caught_by(judge(periodic, *known, *again, waiting="a")) == {"ticks_once"}
    assert excuses(judge(periodic, *known, *again, failover(7.5), waiting="a"), "ticks_once") == {
        "forgotten by a failover"
    }


def reschedule(at: float, when: float, **more: Any) -> Call:
    return call("reschedule", at, "a", when=when, **more)


@pytest.mark.parametrize(
    ("tick", "anew", "holds"),
    [
        (23, [reschedule(12, 23)], True),
        (20, [reschedule(12, 23)], False),
        (33, [reschedule(12, 23)], False),
        (23, [reschedule(12, 21), reschedule(14, 23)], True),
        (21, [reschedule(12, 21), reschedule(14, 23)], False),
        (29, [reschedule(12, 23), reschedule(14, 29, outcome="unknown")], True),
        (20, [reschedule(12, 23), reschedule(14, 29, outcome="unknown")], False),
        (20, [reschedule(12, 23), call("trigger", 14, "a", outcome="unknown")], True),
        (20, [reschedule(12, 23, outcome="unknown")], True),
        (23, [reschedule(12, 23, outcome="refused")], False),
        (1012, [call("trigger", 12, "a")], True),
        (1013, [call("trigger", 12, "a")], False),
    ],
)
def test_the_tick_that_was_set_under_a_lease_is_the_next(tick: float, anew: list[Call], holds: bool) -> None:
    periodic = Promises(interval=10)
    events: list[Call | Fault] = [clock(0, 0), add(1, "a"), reserve(11, "a", 1, score=10), *anew, ack(15, "a", 1)]
    later = reserve(1023, "a", 2, score=tick)
    expected = {"ticks_once"} if "refused" in {one.outcome for one in anew} else {"ticks_set_anew"}
    assert caught_by(judge(periodic, *events, later, left="a")) == (set() if holds else expected)


def test_a_claim_at_the_same_time_may_come_before_the_tick_that_was_set_or_have_it() -> None:
    periodic = Promises(interval=10)

    def judged(*ticks: float) -> Verdict:
        first, later = (
            reserve(at, "a", token, score=tick) for at, token, tick in zip((12, 30), (1, 2), ticks, strict=True)
        )
        return judge(periodic, add(1, "a"), reschedule(12, 13), first, ack(14, "a", 1), later, left="a")

    assert judged(10, 13).ok
    assert judged(13, 23).ok
    assert caught_by(judged(10, 20)) == {"ticks_set_anew"}


# What was seen


def seen(at: float, item: str, *, new: bool, **more: Any) -> Call:
    return call("add", at, item, rows=[Row(item)] if new else [], **more)


def test_an_item_is_new_to_one() -> None:
    expiring = Promises(ttl=10)
    assert judge(expiring, seen(1, "a", new=True), seen(2, "a", new=False), seen(12, "a", new=True)).ok
    assert caught_by(judge(expiring, seen(1, "a", new=True), seen(2, "a", new=True))) == {"new_once"}
    assert judge(expiring, seen(1, "a", new=True), clock(2, 9), seen(3, "a", new=True)).ok


def test_an_item_is_not_old_before_anybody_has_given_it() -> None:
    expiring = Promises(ttl=10)
    unknown = seen(1, "a", new=False, outcome="unknown")
    assert judge(expiring, unknown, seen(2, "a", new=False)).ok
    assert caught_by(judge(expiring, seen(1, "a", new=False), seen(2, "a", new=False))) == {"new_once"}
    together = seen(1, "a", new=False), seen(1.05, "a", new=False)
    assert caught_by(judge(expiring, *together)) == {"new_once"}
    assert judge(expiring, *together, seen(1.08, "a", new=True)).ok


def test_what_a_kill_cut_short_was_neither_sent_nor_answered(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "worker")
    first = recorder.invoke("main", "jobs", "pop")
    recorder.complete(first)
    recorder.invoke("main", "jobs", "pop")
    recorder.close()
    (written,) = tmp_path.iterdir()
    written.write_bytes(written.read_bytes()[:-20])

    assert [call.outcome for call in History.read(tmp_path).calls] == ["ok"]


def test_long_histories_are_judged_quickly() -> None:
    calls, waiting, now, token = [], list[str](), 0.0, 0
    for number in range(20_000):
        now += 0.01
        # A few items that come all the time, and many that come once.
        item = f"hot{number % 7}" if number % 3 == 0 else f"item{number}"
        if item in waiting:
            continue
        waiting.append(item)
        calls.append(call("add", now, item, until=now + 0.001, score=0))
        if len(waiting) > 20 or random.random() < 0.5:
            waiting.sort()
            item, token = waiting.pop(0), token + 1
            calls.append(reserve(now + 0.002, item, token, until=now + 0.003))
            calls.append(ack(now + 0.004, item, token, until=now + 0.005))
    began = time.process_time()
    verdict = judge(LEASES, *calls, waiting=waiting)
    assert verdict.ok, verdict.violations[:3]
    assert min(verdict.looked_at[rule] for rule in ("nothing_lost", "tokens_grow", "in_order")) > 5_000
    # Measured are 1.5 s, several times that under coverage.
    assert time.process_time() - began < 30


# The totals


def test_totals_that_do_not_add_up() -> None:
    added = add(1, "a"), reserve(2, "a", 1), ack(3, "a", 1)
    right = {"added": 1, "leased": 1, "acked": 1}
    assert judge(LEASES, *added, totals=right).ok
    for name in right:
        assert caught_by(judge(LEASES, *added, totals=right | {name: 2})) == {"totals_add_up"}
    assert caught_by(judge(LEASES, *added, totals=right | {"died": 1})) == {"totals_add_up"}


# Limits


def limit(at: float, **limits: Any) -> Call:
    return call("limit", at, **limits)


def claim(at: float, *items: str, second: float | None = None, **more: Any) -> Call:
    """One that the server executed in that second of its clock."""
    first = round((at if second is None else second) * 1e6)
    rows = [Row(item, 0, first + position, 1) for position, item in enumerate(items)]
    return call("reserve", at, rows=rows, lease=10, **more)


def limited(*events: Call | Fault) -> set[str]:
    """What catches it, of a history whose items were all added before."""
    items = [row.item for event in events if isinstance(event, Call) for row in event.rows]
    return caught_by(judge(LEASES, add(0, *items), *events, left=items))


def test_nothing_is_claimed_during_a_pause() -> None:
    pause, resume = call("pause", 1), call("resume", 5)
    assert limited(pause, claim(2), resume, claim(6, "a")) == set()
    assert limited(pause, claim(2, "a"), resume) == {"not_while_paused"}
    assert limited(claim(0.5, "a", until=2), pause) == set(), "it may have come before"
    assert limited(pause, claim(4, "a", until=6), resume) == set(), "it may have come after"
    assert limited(call("pause", 1, outcome="unknown"), claim(2, "a")) == set()
    assert limited(call("pause", 1, outcome="refused"), claim(2, "a")) == set()
    assert limited(pause, call("resume", 2, outcome="unknown"), claim(20, "a")) == set()


def test_a_killed_process_may_resume_later() -> None:
    dying = call("resume", 1, dies=True)
    assert limited(dying, call("pause", 2), claim(3, "a")) == set()
    assert limited(dying, call("pause", 2), claim(30, "a")) == {"not_while_paused"}


def test_of_two_at_once_nobody_knows_which_was_the_last() -> None:
    assert limited(call("resume", 1, until=3), call("pause", 2), claim(4, "a")) == set()


def test_a_window_has_no_more_claims_than_the_burst_and_what_leaks() -> None:
    rate = limit(1, rate=2, per=1.0, burst=3)
    assert limited(rate, claim(2, "a", "b", "c"), claim(3, "d", "e"), claim(4, "f", "g")) == set()
    assert limited(rate, claim(2, "a", "b", "c", "d")) == {"rate_holds"}
    assert limited(rate, claim(2, "a", "b", "c"), claim(2.3, "d")) == {"rate_holds"}
    assert limited(rate, claim(2, "a"), claim(3, "b", "c", "d"), claim(3.3, "e")) == {"rate_holds"}
    assert limited(rate, claim(2, "a", "b", "c"), claim(2.3, "d", second=2.6)) == set(), "by the server's clock"
    assert limited(rate, claim(2, "a", "b", "c"), limit(2.2), claim(2.4, "d")) == set(), "it was lifted"
    assert limited(claim(0.5, "a", "b", "c"), rate, claim(2, "d")) == set()


def test_a_failover_may_have_forgotten_a_claim() -> None:
    rate = limit(1, rate=1, per=10.0, burst=1, replicated=True)
    events = [add(0, "a", "b", replicated=True), rate, claim(2, "a"), claim(4, "b", replicated=True)]
    assert caught_by(judge(LEASES, *events, left="ab")) == {"rate_holds"}
    assert excuses(judge(LEASES, *events, failover(2.5), left="ab"), "rate_holds") == {"forgotten by a failover"}


def test_no_claim_makes_more_leases_than_there_may_be() -> None:
    two = limit(1, leases=2)
    assert limited(two, claim(2, "a", "b")) == set()
    assert limited(two, claim(2, "a", "b", "c")) == {"leases_hold"}
    assert limited(claim(0.5, "a", "b"), two, claim(2, "c")) == {"leases_hold"}
    assert limited(two, claim(2, "a", "b"), claim(14, "c")) == set(), "those have expired"
    assert limited(two, claim(2, "a", "b"), claim(14, "c"), claim(15, "d", "e")) == {"leases_hold"}
    acked = ack(3, "a", 2_000_000, outcome="unknown")
    assert limited(two, claim(2, "a", "b"), acked, claim(4, "c")) == set()
    assert limited(two, claim(2, "a", "b"), acked, claim(4, "c", "d")) == {"leases_hold"}


def test_no_addition_takes_a_set_beyond_its_size() -> None:
    two, both = limit(1, maxsize=2), [add(2, "a"), add(3, "b")]

    def found(*events: Call, left: Iterable[str]) -> set[str]:
        return caught_by(judge(LEASES, two, *both, *events, waiting=left))

    assert found(left="ab") == set()
    assert found(add(4, "c"), left="abc") == {"maxsize_holds"}
    assert found(add(4, "c", outcome="refused"), left="ab") == set()
    held = claim(4, "a")
    assert found(held, add(5, "c"), left="abc") == {"maxsize_holds"}, "what is leased is there"
    assert found(held, ack(5, "a", 4_000_000), add(6, "c"), left="bc") == set()
    assert found(limit(4), add(5, "c"), left="abc") == set()
    assert found(limit(4, maxsize=3), add(5, "c"), left="abc") == set()


def test_each_shard_has_its_part_of_a_limit() -> None:
    promises = Promises(shards=2)
    # By the CRC-32 of their names.
    here, there = ["a", "b"], ["d", "e"]
    assert [promises.shard_of(item) for item in here + there] == [1, 1, 0, 0]

    def found(limits: Call, *claims: Call) -> set[str]:
        items = [row.item for one in claims for row in one.rows]
        return caught_by(judge(promises, add(0, *items), limits, *claims, left=items))

    four = here + there
    assert found(limit(1, leases=4), claim(2, *four)) == set()
    assert found(limit(1, leases=2), claim(2, *four)) == {"leases_hold"}
    assert found(limit(1, leases=2), claim(2, *here)) == {"leases_hold"}, "the other shard has the other lease"
    assert found(limit(1, rate=0.1, per=1.0, burst=4), claim(2, *four)) == set()
    assert found(limit(1, rate=0.1, per=1.0, burst=2), claim(2, *here)) == {"rate_holds"}
    # One call claimed from the shard twice.
    twice = call("reserve", 2, rows=[Row("a", 0, 2_000_000, 1), Row("b", 0, 2_600_000, 1)], until=3, lease=10)
    assert found(limit(1, rate=4, per=1.0, burst=2), twice) == set()
    assert found(limit(1, rate=2, per=1.0, burst=2), twice) == {"rate_holds"}
    assert found(limit(1, leases=2), twice) == {"leases_hold"}
    # By then the first lease may have expired.
    late = call("reserve", 2, rows=[Row("a", 0, 2_000_000, 1), Row("b", 0, 4_000_000, 1)], until=5, lease=1)
    assert found(limit(1, leases=2), late) == set()

    # A call may claim from a shard again, if it did not get enough from all of them.
    again = call("reserve", 2, rows=[Row("a", 0, 2_000_000, 1), Row("b", 0, 2_600_000, 1)], lease=10)
    assert found(limit(1, rate=4, per=1.0, burst=2), again) == set()
    assert found(limit(1, rate=2, per=1.0, burst=2), again) == {"rate_holds"}

    def grown(most: int, *items: str) -> set[str]:
        added = [add(2 + at, item) for at, item in enumerate(items)]
        return caught_by(judge(promises, limit(1, maxsize=most), *added, waiting=items))

    assert grown(4, *four) == set()
    assert grown(2, *here) == {"maxsize_holds"}


# Groups: the last digit of an item


GROUPS = Promises(groups=3, leases_of_group=2, pause_of_group=1.0)
TURNS = Promises(groups=3, takes_turns=True)


def test_no_claim_makes_more_leases_of_a_group_than_there_may_be() -> None:
    added = add(0, "a1", "b1", "c1", "d2")
    two = [added, claim(2, "a1"), claim(4, "b1")]
    assert caught_by(judge(GROUPS, *two, claim(6, "d2"), left=["a1", "b1", "c1", "d2"])) == set()
    assert caught_by(judge(GROUPS, *two, claim(6, "c1"), left=["a1", "b1", "c1", "d2"])) == {"groups_hold"}
    acked = [*two, ack(5, "a1", 2_000_000, outcome="unknown"), claim(6, "c1")]
    assert caught_by(judge(GROUPS, *acked, left=["a1", "b1", "c1", "d2"])) == set()


def test_a_group_rests_between_two_claims() -> None:
    added = add(0, "a1", "b1", "c2")
    there = ["a1", "b1", "c2"]
    assert caught_by(judge(GROUPS, added, claim(2, "a1"), claim(2.5, "c2"), left=there)) == set()
    assert caught_by(judge(GROUPS, added, claim(2, "a1"), claim(2.5, "b1"), left=there)) == {"groups_rest"}
    assert caught_by(judge(GROUPS, added, claim(2, "a1"), claim(2.5, "b1", second=3.5), left=there)) == set()


def of_group(name: str, at: float, group: str = "1", **more: Any) -> Call:
    """A call that sets the limits or the pause of a group."""
    return call(f"{name}_group", at, group, **more)


def grouped(*events: Call | Fault) -> set[str]:
    """What catches it, of a history whose items were all added before."""
    items = [row.item for event in events if isinstance(event, Call) for row in event.rows]
    return caught_by(judge(GROUPS, add(0, *items), *events, left=items))


def test_a_group_may_have_limits_of_its_own() -> None:
    one, three = of_group("limit", 1, leases=1), of_group("limit", 1, leases=3)
    claims = [claim(2, "a1"), claim(4, "b1"), claim(6, "c1")]
    assert grouped(three, *claims) == set()
    assert grouped(three, of_group("limit", 5, leases=2), *claims) == {"groups_hold"}
    assert grouped(one, *claims[:2]) == {"groups_hold"}
    assert grouped(one, of_group("limit", 3, leases=2), *claims[:2]) == set()
    assert grouped(of_group("limit", 1, "2", leases=1), *claims[:2]) == set()
    assert grouped(of_group("limit", 1, leases=1, outcome="unknown"), *claims[:2]) == set()
    # With a lower limit the leases that there are go on.
    assert grouped(*claims[:2], of_group("limit", 5, leases=1)) == set()
    assert grouped(of_group("limit", 1, pause=5), *claims[:2]) == {"groups_rest"}
    assert grouped(of_group("limit", 1, pause=0.2), claim(2, "a1"), claim(2.5, "b1")) == set()
    assert grouped(claim(2, "a1"), of_group("limit", 2.2, pause=0.2), claim(2.5, "b1")) == {"groups_rest"}
    assert excuses(judge(GROUPS, add(0, "a1", "b1"), one, *claims[:2], failover(3), left=["a1", "b1"]), "groups_hold")


def test_nothing_is_claimed_during_a_pause_of_its_group() -> None:
    pause, resume = of_group("pause", 1, ends=None), of_group("resume", 5)
    assert grouped(pause, claim(2, "a2"), resume, claim(6, "b1")) == set()
    assert grouped(pause, claim(2, "b1"), resume) == {"groups_pause"}
    assert grouped(claim(0.5, "b1", until=2), pause) == set(), "it may have come before"
    assert grouped(pause, of_group("resume", 1.5, outcome="unknown"), claim(2, "b1")) == set()
    ends_by_itself = of_group("pause", 1, ends=3)
    assert grouped(ends_by_itself, claim(2, "b1")) == {"groups_pause"}
    assert grouped(ends_by_itself, claim(4, "b1")) == set()
    assert grouped(ends_by_itself, claim(2, "b1", second=3.5)) == set(), "by the server's clock"


def test_nothing_is_claimed_from_a_group_that_is_to_rest() -> None:
    rest = end("again", 3, "a1", 2_000_000, delay=5.0, group=True)
    assert grouped(claim(2, "a1"), rest, claim(4, "b2"), claim(9, "b1")) == set()
    assert grouped(claim(2, "a1"), rest, claim(4, "b1")) == {"groups_rest"}
    assert grouped(claim(2, "a1"), end("again", 3, "a1", 2_000_000, delay=5.0), claim(4, "b1")) == set()
    # It was asked for before, and had begun then.
    before = end("again", 2.2, "a1", 2_000_000, delay=5.0, group=True, outcome="unknown")
    assert grouped(claim(2, "a1"), before, rest, claim(7.5, "b1")) == set()
    assert grouped(claim(2, "a1"), before, claim(4, "b1")) == set()
    assert grouped(claim(2, "a1"), rest, clock(3.5, 5), claim(4, "b1", second=9)) == set(), "by the server's clock"


def test_over_shards_a_group_takes_turns_with_those_in_its_shard() -> None:
    turns = Promises(groups=9, takes_turns=True, shards=6)
    assert [turns.shard_of(group) for group in "1823"] == [5, 5, 1, 1]
    assert (turns.rivals_of("a1"), turns.rivals_of("a2")) == (2, 1)

    def found(*claimed: str) -> set[str]:
        claims = [claim(2 + number, item) for number, item in enumerate(claimed)]
        return caught_by(judge(turns, add(0, *claimed), *claims, left=claimed))

    assert found("a2", "b2", "a3", "b3") == {"no_group_starves"}
    assert found("a2", "a3", "b2", "b3", "c2") == set()
    assert found("a2", "b2", "a1", "b1", "c1", "d1") == set(), "those of other shards do not count"
    assert found("a8", "b8", "c8", "a1") == {"no_group_starves"}


def test_a_group_of_which_an_item_waits_has_its_turn() -> None:
    others = ["a1", "d2", "b1", "e2", "c1"]
    claims = [claim(2 + number, item) for number, item in enumerate(others)]
    added = add(0, *others)
    in_turn = [*claims[:2], claim(3.5, "x0"), *claims[2:]]
    assert caught_by(judge(TURNS, added, add(1, "x0"), *in_turn, left=[*others, "x0"])) == set()
    late = claim(8, "x0")
    assert caught_by(judge(TURNS, added, add(1, "x0"), *claims, late, left=[*others, "x0"])) == {"no_group_starves"}
    assert caught_by(judge(TURNS, added, add(4.5, "x0"), *claims, late, left=[*others, "x0"])) == set()
    # A killed process may have had one turn for it; that item would be at its second attempt then.
    unseen = call("reserve", 1.5, outcome="unknown", lease=10, dies=True)
    known = add(1, "x0"), unseen
    assert caught_by(judge(TURNS, added, *known, *claims[:4], late, left=[*others, "x0"])) == set()
    assert caught_by(judge(TURNS, added, *known, *claims, late, left=[*others, "x0"])) == {"no_group_starves"}
    second = reserve(20, "x0", 8_000_000, attempt=2)
    assert caught_by(judge(TURNS, added, *known, *claims, second, left=[*others, "x0"])) == set()
    # Other items of the group have had its turns meanwhile.
    own = claim(3.5, "y0"), claim(5.5, "z0")
    more = add(1, "x0", "y0", "z0"), *own, late
    assert caught_by(judge(TURNS, added, *claims, *more, left=[*others, "x0", "y0", "z0"])) == set()


def test_several_of_one_call_are_so_many_claims() -> None:
    many = claim(2, "a1", "b1", "c1")
    events = add(0, "a1", "b1", "c1", "x0"), many, claim(3, "x0")
    assert caught_by(judge(TURNS, *events, left=["a1", "b1", "c1", "x0"])) == {"no_group_starves"}
