"""No call blocks the server for long: it stops early, replies that there is more, and the client calls again.

The guarantee is 5 ms a call at most. On a busy machine any call can take longer, so the tests assert the average CPU
time of a call, and the number of calls. The server's own times are printed (pytest -s).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import redset
from invariants import RawSet
from servers import Place, Server, wait_until

MANY = 40_000
#: The guaranteed milliseconds, times a factor for slower machines. A call without the bound takes hundreds.
LIMIT = 5.0 * 8

pytestmark = pytest.mark.no_cover


@dataclass
class Calls:
    """The number of calls of scripts, and the milliseconds for which they blocked the server."""

    count: int = 0
    mean: float = 0.0
    longest: float = 0.0
    #: A processor's time for each, with reading it, replying and all else that the server does.
    busy: float = 0.0

    def assert_short(self, what: str, *, at_least: int) -> None:
        print(
            f"{what}: {self.count} calls, {self.mean:.2f} ms each ({self.busy:.2f} ms of a processor), "
            f"the longest {self.longest:.2f} ms"
        )
        assert self.count >= at_least
        assert self.busy < LIMIT


@pytest.fixture
def timed(raw: Any, here: Place) -> Callable[..., Any]:
    """Records the calls of scripts in a block of code, as the server counts and times them."""
    if not isinstance(here, Server):
        pytest.skip("the statistics of a single server are looked at")

    @contextmanager
    def block() -> Iterator[Calls]:
        calls = Calls()
        raw.config_set("slowlog-max-len", 5000)
        raw.config_set("slowlog-log-slower-than", 200)
        raw.slowlog_reset()
        raw.config_resetstat()
        busy = processor_time(raw)
        yield calls
        busy = processor_time(raw) - busy
        known = raw.info("commandstats")
        scripts = [known[f"cmdstat_{name}"] for name in ("eval", "evalsha") if f"cmdstat_{name}" in known]
        calls.count = sum(script["calls"] for script in scripts)
        calls.busy = busy / calls.count
        calls.mean = sum(script["usec"] for script in scripts) / calls.count / 1000
        slow = [entry["duration"] for entry in raw.slowlog_get(5000) if entry["command"].startswith(b"EVAL")]
        calls.longest = max(slow, default=0) / 1000

    return block


def processor_time(raw: Any) -> float:
    """Return the CPU time of the server in milliseconds."""
    used = raw.info("cpu")
    return 1000 * float(used["used_cpu_user"] + used["used_cpu_sys"])


def fill(raw: Any, count: int = MANY) -> None:
    """Add items by a plain ZADD, like another program."""
    for start in range(0, count, 1000):
        raw.zadd("jobs", {f"{number:06}": 1 for number in range(start, start + 1000)})


def lease_all(jobs: Any) -> list[Any]:
    reservations: list[Any] = jobs.reserve_many(MANY, lease=600)
    assert len(jobs) == 0
    return reservations


def let_all_leases_expire(jobs: Any) -> None:
    assert jobs.extend(lease_all(jobs), lease=0.001) == []
    wait_until(lambda: jobs.stats().expired == MANY)


@pytest.fixture
def jobs(raw: Any) -> Any:
    return redset.SortedSet(raw, "jobs")


#: The commands that a script runs for each call: no more when nothing is parked, dead or awaited.
COMMANDS = {
    "add": 6,
    "pop": 8,
    "pop beside leases": 11,
    "reserve": 10,
    "reserve beside leases": 13,
    "ack": 9,
    "consume": 15,
}


def test_a_call_runs_few_commands(jobs: Any, raw: Any, here: Place) -> None:
    if not isinstance(here, Server):
        pytest.skip("the statistics of a single server are looked at")
    jobs.update([f"job {number}" for number in range(20)], score=1)
    reservations = [jobs.reserve()]
    reservations.pop().ack()
    loop = iter(jobs.consume(lease=600))
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("add", lambda: jobs.add("another")),
        ("pop", jobs.pop),
        ("reserve", lambda: reservations.append(jobs.reserve(lease=600))),
        ("reserve beside leases", lambda: reservations.append(jobs.reserve(lease=600))),
        ("pop beside leases", jobs.pop),
        ("ack", lambda: reservations.pop().ack()),
        ("consume", lambda: next(loop)),
    ]
    found = {}
    for name, call in calls:
        if name == "consume":
            next(loop)
        found[name] = commands_of(call, raw)
    loop.close()

    assert found == COMMANDS


#: The same on a set with groups, none of which is at its limit.
COMMANDS_WITH_GROUPS = {"add": 9, "reserve": 23, "ack": 16, "pop": 20}


def test_a_call_on_a_set_with_groups_runs_a_few_more(raw: Any, here: Place) -> None:
    if not isinstance(here, Server):
        pytest.skip("the statistics of a single server are looked at")
    jobs = redset.SortedSet[str](raw, "jobs", group=lambda job: job[0], per_group=redset.Limit(leases=3))
    jobs.update([f"{name} {number}" for name in "abcd" for number in range(5)], score=1)
    held = [jobs.reserve(), jobs.reserve()]
    held.pop().ack()
    calls: dict[str, Callable[[], Any]] = {
        "add": lambda: jobs.add("a another", score=2),
        "reserve": lambda: held.append(jobs.reserve()),
        "ack": lambda: held.pop().ack(),
        "pop": jobs.pop,
    }

    assert {name: commands_of(call, raw) for name, call in calls.items()} == COMMANDS_WITH_GROUPS


def commands_of(call: Callable[[], Any], raw: Any) -> int:
    """Return how many commands the script of a call runs."""
    raw.config_resetstat()
    call()
    stats = raw.info("commandstats")
    return sum(
        each["calls"] for command, each in stats.items() if not command.startswith(("cmdstat_config", "cmdstat_eval"))
    )


def test_a_claim_that_meets_many_expired_leases_returns_the_items_it_has(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    let_all_leases_expire(jobs)

    with timed() as calls:
        assert jobs.pop() is not None

    calls.assert_short(f"a pop that meets {MANY:,} expired leases", at_least=1)
    assert calls.count == 1, "it need not go on: it has what was asked for"
    assert jobs.stats().expired > MANY / 2


def test_many_expired_leases_are_all_requeued(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    let_all_leases_expire(jobs)

    with timed() as calls:
        taken = jobs.take(MANY)

    calls.assert_short(f"taking {MANY:,} whose lease ran out", at_least=MANY // 1000)
    assert len(set(taken)) == len(taken) == MANY
    RawSet(raw, "jobs").check()


def test_each_reservation_requeues_a_few_of_many_expired_leases(jobs: Any, raw: Any, timed: Any) -> None:
    """An item whose lease expired is reserved alone, even by a call for many items."""
    fill(raw)
    let_all_leases_expire(jobs)

    with timed() as calls:
        reserved = [jobs.reserve_many(1000, lease=600) for _ in range(MANY // 250)]

    calls.assert_short(f"reserving while {MANY:,} leases have run out", at_least=MANY // 250)
    assert {len(reservations) for reservations in reserved} == {1}
    assert len({one.item for (one,) in reserved}) == len(reserved)
    assert (jobs.stats().expired, len(jobs)) == (0, MANY - len(reserved))
    RawSet(raw, "jobs").check()


def test_many_expired_leases_without_attempts_left_become_dead_letters(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    let_all_leases_expire(jobs)
    once = redset.SortedSet(raw, "jobs", max_attempts=1)

    with timed() as calls:
        assert once.take(1) == []

    calls.assert_short(f"{MANY:,} that die", at_least=MANY // 1000)
    assert len(once.dead_letters) == MANY
    RawSet(raw, "jobs").check()


def test_many_waiting_items_that_are_all_leased_are_parked(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    lease_all(jobs)
    fill(raw)
    raw.zadd("jobs", {"free": 2})

    with timed() as calls:
        assert jobs.pop() == "free"

    calls.assert_short(f"a pop that has to park {MANY:,}", at_least=MANY // 1000)
    assert (jobs.stats().parked, len(jobs)) == (MANY, 0)


def test_a_take_of_many_items_most_of_which_are_leased_takes_no_longer(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    lease_all(jobs)
    fill(raw)

    with timed() as calls:
        assert jobs.take(1000) == []

    calls.assert_short(f"a take(1000) that has to park {MANY:,}", at_least=MANY // 2000)
    assert jobs.stats().parked == MANY


def test_many_waiting_items_that_are_done_are_dropped(raw: Any, timed: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", remember=600)
    fill(raw)
    assert len(jobs.take(MANY)) == MANY
    fill(raw)
    raw.zadd("jobs", {"new": 2})

    with timed() as calls:
        assert jobs.pop() == "new"

    calls.assert_short(f"a pop that has to drop {MANY:,} that are done", at_least=MANY // 1000)
    assert len(jobs) == 0


def test_expired_memories_are_deleted_a_few_at_a_time(raw: Any, timed: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", remember=1)
    fill(raw)
    assert len(jobs.take(MANY)) == MANY
    time.sleep(1.1)

    with timed() as calls:
        for number in range(20):
            jobs.add(str(number))
            assert jobs.take(10) == [str(number)]

    calls.assert_short(f"calls that meet {MANY:,} expired memories", at_least=MANY // 2500)


def test_items_with_ended_backoffs_are_requeued(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    jobs.nack(lease_all(jobs), delay=0.001)

    with timed() as calls:
        taken = jobs.take(MANY)

    calls.assert_short(f"taking {MANY:,} whose backoff has ended", at_least=MANY // 1000)
    assert len(taken) == MANY


def test_each_death_drops_a_few_of_too_many_dead_letters(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw, 30_000)
    everything = redset.SortedSet(raw, "jobs", max_dead=None, max_attempts=1)
    everything.nack(everything.reserve_many(30_000))
    assert len(everything.dead_letters) == 30_000
    few = redset.SortedSet(raw, "jobs", max_dead=10)

    with timed() as calls:
        for number in range(3):
            few.add(str(number))
            few.reserve().bury()

    calls.assert_short("burying when there are 30,000 dead letters, of which 10 may be kept", at_least=6)
    assert {letter.item for letter in few.dead_letters[:3]} == {"0", "1", "2"}


@pytest.mark.parametrize("verb", ["retry_all", "clear"])
def test_many_dead_letters_end_a_few_at_a_time(raw: Any, timed: Any, verb: str) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_dead=None, max_attempts=1)
    fill(raw, 20_000)
    jobs.nack(lease_all(jobs))

    with timed() as calls:
        assert getattr(jobs.dead_letters, verb)() == 20_000

    calls.assert_short(f"{verb} of 20,000 dead letters", at_least=20)
    assert len(jobs.dead_letters) == 0


@pytest.mark.parametrize("verb", ["ack", "nack", "again", "extend"])
def test_many_leases_end_a_few_at_a_time(jobs: Any, raw: Any, timed: Any, verb: str) -> None:
    fill(raw, 20_000)
    reservations = lease_all(jobs)

    with timed() as calls:
        lost = jobs.extend(reservations, 600) if verb == "extend" else getattr(jobs, verb)(reservations)

    calls.assert_short(f"{verb} of 20,000", at_least=20)
    assert lost == []


def test_clearing_a_large_set_is_one_short_call(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)
    lease_all(jobs)
    fill(raw)

    with timed() as calls:
        assert jobs.clear()

    calls.assert_short(f"clearing {MANY:,} leased and {MANY:,} waiting", at_least=1)


def test_taking_all_of_a_large_set_is_many_short_calls(jobs: Any, raw: Any, timed: Any) -> None:
    fill(raw)

    with timed() as calls:
        assert len(jobs.take(MANY)) == MANY

    calls.assert_short(f"taking {MANY:,}", at_least=MANY // 1000)


@pytest.mark.parametrize("score", [None, 1], ids=["scores differ", "one score"])
@pytest.mark.parametrize("read", ["__iter__", "reversed", "with_scores", "between"])
def test_reading_a_large_set_is_many_short_calls(
    jobs: Any, raw: Any, timed: Any, read: str, score: float | None
) -> None:
    fill(raw)
    if score is None:
        for start in range(0, MANY, 1000):
            raw.zadd("jobs", {f"{number:06}": number for number in range(start, start + 1000)})

    with timed() as calls:
        assert sum(1 for _ in getattr(jobs, read)()) == MANY

    calls.assert_short(f"{read} of {MANY:,}", at_least=1)


def test_reading_a_large_keyed_set_is_many_short_calls(raw: Any, timed: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", key=lambda item: item[:6])
    with timed() as calls:
        assert jobs.update((f"{number:06} and its value" for number in range(MANY)), score=1) == MANY
    calls.assert_short(f"adding {MANY:,} with their values", at_least=MANY // 1000)

    with timed() as calls:
        assert sum(1 for _ in jobs.with_scores()) == MANY
    calls.assert_short(f"with_scores of {MANY:,} with their values", at_least=MANY // 1000)


@pytest.mark.parametrize("flags", [False, True], ids=["update", "earliest"])
def test_adding_many_is_many_short_calls(raw: Any, timed: Any, flags: bool) -> None:
    jobs = redset.SortedSet(raw, "jobs", duplicates="earliest" if flags else "update")
    with timed() as calls:
        assert jobs.update(map(str, range(MANY)), score=1) == MANY

    calls.assert_short(f"adding {MANY:,}", at_least=MANY // 1000)


@pytest.mark.parametrize("by", ["scores", "positions"])
def test_removing_many_is_many_short_calls(jobs: Any, raw: Any, timed: Any, by: str) -> None:
    fill(raw)
    lease_all(jobs)
    fill(raw)

    with timed() as calls:
        assert (jobs.remove_between(1, 1) if by == "scores" else jobs.remove_slice()) == MANY

    calls.assert_short(f"removing {MANY:,} that are leased too", at_least=MANY // 1000)
    RawSet(raw, "jobs").check()


@pytest.mark.parametrize("expired", [False, True], ids=["all new", "all expired"])
def test_adding_many_to_an_expiring_set_is_many_short_calls(raw: Any, timed: Any, expired: bool) -> None:
    """Expired items are replaced, or deleted by the additions of others."""
    seen = redset.ExpiringSet(raw, "seen", 600)
    if expired:
        for start in range(0, MANY, 1000):
            raw.zadd("seen", {str(number): number for number in range(start, start + 1000)})
    with timed() as calls:
        assert len(seen.add_new(map(str, range(MANY)))) == MANY
    calls.assert_short(f"adding {MANY:,} to an expiring set", at_least=MANY // 1000)
    assert calls.count < 110

    with timed() as calls:
        assert sum(1 for _ in seen) == MANY
        assert sum(seen.contains_many(map(str, range(MANY)))) == MANY
        seen.difference_update(map(str, range(MANY)))
    calls.assert_short("iterating over it, asking for all, discarding all", at_least=MANY // 500)
    assert len(seen) == 0


def test_expired_items_are_deleted_in_short_calls(raw: Any, timed: Any) -> None:
    seen = redset.ExpiringSet(raw, "seen", 600)
    for start in range(0, MANY, 1000):
        raw.zadd("seen", {str(number): number for number in range(start, start + 1000)})
    chunks = MANY // 2100 + 1
    with timed() as calls:
        for number in range(chunks):
            seen.add_new(f"new {number} {position}" for position in range(1000))

    calls.assert_short(f"adding to {MANY:,} expired items", at_least=MANY // 2500)
    assert raw.zcard("seen") == len(seen) == chunks * 1000


def test_no_request_has_more_words_than_any_server_takes(raw: Any) -> None:
    """ElastiCache Serverless refuses 4,000."""
    longest: dict[str, int] = {}

    class Counting:
        def execute_command(self, *words: Any, **options: Any) -> Any:
            longest[calls] = max(longest.get(calls, 0), len(words))
            return raw.execute_command(*words, **options)

    client, items = Counting(), [str(number) for number in range(1000)]
    sets = {
        "plain": redset.SortedSet[str](client, "plain"),
        "keyed": redset.SortedSet[str](client, "keyed", key=str, remember=60),
        "periodic": redset.PeriodicSet[str](client, "periodic", 60, key=str),
    }
    for kind, jobs in sets.items():
        for end in ("ack", "nack", "again", "extend", "bury"):
            calls = f"{kind} {end}"
            jobs.update(items)
            jobs.update(items)
            reserved = jobs.reserve_many(1000, lease=60)
            ends: dict[str, Any] = {"nack": {"delay": 0}, "extend": {"lease": 60}}
            if end == "bury":
                for reservation in reserved[:10]:
                    reservation.bury()
            else:
                getattr(jobs, end)(reserved, **ends.get(end, {}))
            jobs.clear()
        calls = f"{kind} others"
        jobs.update(items)
        list(jobs.consume(batch=500, wait=0))
        jobs.difference_update(items)
        jobs.contains_many(items)
        jobs.take(1000)
    assert {calls: words for calls, words in longest.items() if words > 3900} == {}
