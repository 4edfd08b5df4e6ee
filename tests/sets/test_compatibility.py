"""Programs written for redset 0.5 run unchanged, and without its faults.

The expectations are those of the 0.5 documentation; where it said one thing and did another, what it said.
"""

import collections
import inspect
import json
import subprocess
import sys
import time
from typing import Any

import pytest

import redset
from redset import ScheduledSet, SortedSet, TimeSortedSet
from redset.exceptions import LockTimeout
from redset.interfaces import Serializer
from redset.locks import Lock
from redset.serializers import NamedtupleSerializer
from servers import Fake, Place

SETS = (SortedSet, TimeSortedSet, ScheduledSet)


class Recorder:
    """A client that notes which commands it sends; redset asks no questions about a client's class."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.sent: list[str] = []

    def execute_command(self, *words: Any, **options: Any) -> Any:
        self.sent.append(words[0])
        return self.client.execute_command(*words, **options)


# Programs


@pytest.mark.conformance
def test_the_example_of_the_readme(raw: Any) -> None:
    ss: Any = TimeSortedSet(raw, "important_json_biz", serializer=json)

    ss.add({"foo": "bar1"})
    ss.add({"foo": "bar2"})

    ss.add({"foo": "bar3"})
    ss.add({"foo": "bar3"})

    assert len(ss) == 3
    assert ss.peek() == {"foo": "bar1"}
    assert ss.pop() == {"foo": "bar1"}
    assert ss.take(2) == [{"foo": "bar2"}, {"foo": "bar3"}]


@pytest.mark.conformance
def test_a_consumer_that_ends_at_key_error(raw: Any) -> None:
    jobs = SortedSet(raw, "jobs", scorer=len)
    for job in "ccc", "a", "bb":
        jobs.add(job)

    done = []
    while True:
        try:
            done.append(jobs.pop())
        except KeyError:
            break

    assert done == ["a", "bb", "ccc"]


@pytest.mark.conformance
def test_polling_with_a_scheduled_set(raw: Any) -> None:
    polls = ScheduledSet(raw, "polls")
    polls.add("tomorrow", time.time() + 86_400)
    polls.add("now", time.time() - 1)

    assert polls.available() == 1
    for name in polls.take(10):
        polls.add(name, score=time.time() + 3_600)

    assert polls.available() == 0
    assert len(polls) == 2


@pytest.mark.conformance
def test_named_tuples(raw: Any) -> None:
    Visit = collections.namedtuple("Visit", ["url", "depth"])
    visits = SortedSet(raw, "visits", scorer=lambda visit: visit.depth, serializer=NamedtupleSerializer(Visit))
    visits.add(Visit("b", 2))
    visits.add(Visit("a", 1))

    assert visits.peek_score() == 1
    assert visits.take(2) == [Visit("a", 1), Visit("b", 2)]


@pytest.mark.conformance
def test_a_serializer_that_inherits_the_interface_and_is_given_str(raw: Any) -> None:
    """The interface said, and pop and take did, that ``loads`` is given a str."""

    class Pair(Serializer):  # type: ignore[type-arg]
        def loads(self, str_from_redis: Any) -> Any:
            return tuple(str_from_redis.split("|"))

        def dumps(self, obj: Any) -> str:
            return "|".join(obj)

    pairs: Any = SortedSet(raw, "pairs", serializer=Pair())
    pairs.add(("naïve", "b"))

    assert pairs.peek() == ("naïve", "b")
    assert pairs.pop() == ("naïve", "b")


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
def test_a_subclass_with_its_own_scorer(raw: Any, make: Any) -> None:
    class Jobs(make):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["scorer"] = len
            super().__init__(*args, **kwargs)

    jobs = Jobs(raw, "jobs")
    assert jobs.add("write") == 5
    assert repr(jobs) == "<Jobs name='jobs'>"


@pytest.mark.conformance
def test_what_an_older_program_has_left_is_taken(raw: Any) -> None:
    """0.5 stored a set as one ZSET under its name, and nothing else."""
    raw.zadd("jobs", {json.dumps({"b": 1, "a": 2}): 1732423423.12})
    jobs: Any = ScheduledSet(raw, "jobs", serializer=json)

    assert jobs.peek_score() == 1732423423.12
    assert jobs.pop() == {"b": 1, "a": 2}


# The interface

NONE = inspect.Parameter.empty
SELF = ("self", NONE)


@pytest.mark.parametrize("make", SETS)
def test_the_parameters_have_their_names_order_and_defaults(make: Any) -> None:
    parameters = inspect.signature(make).parameters

    assert list(parameters)[:6] == ["redis_client", "name", "scorer", "serializer", "lock_timeout", "lock_expires"]
    assert all(parameters[name].default is None for name in list(parameters)[2:6])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (SortedSet.add, [SELF, ("item", NONE), ("score", None)]),
        (SortedSet.pop, [SELF]),
        (SortedSet.take, [SELF, ("num", NONE)]),
        (SortedSet.clear, [SELF]),
        (SortedSet.discard, [SELF, ("item", NONE)]),
        (SortedSet.peek, [SELF, ("position", 0)]),
        (SortedSet.peek_score, [SELF]),
        (SortedSet.score, [SELF, ("item", NONE)]),
        (ScheduledSet.available, [SELF]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_method_has_its_parameters_and_all_others_are_optional(
    method: Any, expected: list[tuple[str, Any]]
) -> None:
    parameters = list(inspect.signature(method).parameters.values())
    kept, new = parameters[: len(expected)], parameters[len(expected) :]

    assert [(parameter.name, parameter.default) for parameter in kept] == expected
    assert all(parameter.default is not inspect.Parameter.empty for parameter in new)


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
def test_the_attributes_of_a_set(raw: Any, make: Any) -> None:
    jobs = make(raw, "jobs", lock_timeout=3, lock_expires=7)

    assert jobs.name == "jobs"
    assert jobs.redis is raw
    assert jobs.scorer("write") >= 0
    assert jobs.serializer.loads(jobs.serializer.dumps("write").encode()) == "write"
    assert isinstance(jobs.lock, Lock)
    assert (jobs.lock.key, jobs.lock.timeout, jobs.lock.expires) == ("jobs__lock", 3, 7)
    assert repr(jobs) == str(jobs) == f"<{make.__name__} name='jobs'>"
    with pytest.raises(AttributeError):
        jobs.name = "others"


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
def test_the_lock_of_a_set_excludes_others(raw: Any, make: Any) -> None:
    with make(raw, "jobs").lock:
        assert raw.keys() == [b"jobs__lock"]
        with pytest.raises(LockTimeout, match="jobs__lock"), make(raw, "jobs", lock_timeout=0.01).lock:
            raise AssertionError("entered")

    assert raw.dbsize() == 0


def test_the_defaults_of_a_lock(raw: Any) -> None:
    lock = Lock(raw, "lock")

    assert (lock.redis, lock.key) == (raw, "lock")
    assert (lock.expires, lock.timeout, lock.poll_interval) == (20, 10, 0.2)
    assert list(inspect.signature(Lock).parameters) == ["redis", "key", "expires", "timeout", "poll_interval"]


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
def test_what_the_methods_return(raw: Any, make: Any) -> None:
    jobs = make(raw, "jobs")

    assert jobs.add("write", score=3) == 3
    assert jobs.score("write") == 3
    assert jobs.score("read") is None
    assert jobs.peek_score() == 3
    assert "write" in jobs
    assert jobs.take(0) == jobs.take(-1) == []
    assert jobs.discard("write") is True
    assert jobs.discard("write") is False
    assert jobs.peek_score() is None
    assert not jobs.clear()
    jobs.add("write")
    assert jobs.clear()


@pytest.mark.conformance
@pytest.mark.parametrize(
    "serializer", [object(), type("Empty", (), {}), json.dumps, "json"], ids=["object", "class", "function", "str"]
)
def test_a_serializer_without_loads_and_dumps_behaves_like_none(raw: Any, serializer: Any) -> None:
    with pytest.warns(UserWarning, match="neither dumps nor loads") as noted:
        jobs: Any = SortedSet(raw, "jobs", serializer=serializer)
    jobs.add("write")

    assert noted[0].filename == __file__
    assert raw.zrange("jobs", 0, -1) == [b"write"]
    assert jobs.serializer is serializer
    assert jobs.pop() == "write"


def test_the_modules_have_their_names() -> None:
    assert set(redset.sets.__all__) >= {"SortedSet", "TimeSortedSet", "ScheduledSet"}
    assert issubclass(ScheduledSet, TimeSortedSet)
    assert issubclass(TimeSortedSet, SortedSet)
    assert issubclass(LockTimeout, Exception)
    assert redset.SortedSet is redset.sets.SortedSet


def test_importing_redset_imports_the_standard_library_only() -> None:
    """One brings the client; nothing else has to be installed."""
    program = "import sys; before = set(sys.modules); import redset, redset.aio; print(*set(sys.modules) - before)"
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    packages = {module.partition(".")[0] for module in imported.stdout.split()}

    assert packages - set(sys.stdlib_module_names) == {"redset"}


# The faults


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
def test_an_explicit_score_of_0_is_not_ignored(raw: Any, make: Any) -> None:
    jobs = make(raw, "jobs", scorer=lambda job: 5)

    assert jobs.add("write", score=0) == 0
    assert jobs.score("write") == 0


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
@pytest.mark.parametrize("item", [0, "", [], {}, None], ids=repr)
def test_a_false_item_is_not_lost_by_pop(raw: Any, make: Any, item: Any) -> None:
    jobs = make(raw, "jobs", serializer=json)
    jobs.add(item)

    assert jobs.pop() == item


@pytest.mark.conformance
@pytest.mark.parametrize("make", SETS)
def test_an_item_that_cannot_be_loaded_is_not_lost(raw: Any, make: Any) -> None:
    jobs = make(raw, "jobs", serializer=json)
    raw.zadd("jobs", {"{": 1, "2": 2})

    assert jobs.take(2) == [2]
    assert [letter.raw for letter in jobs.dead_letters] == [b"{"]


def test_a_lock_that_has_expired_is_not_deleted_for_its_next_holder(raw: Any) -> None:
    """0.5 deleted the key at the end of the block, whoever held the lock by then."""
    slow, next_one = Lock(raw, "lock", expires=0.05), Lock(raw, "lock", poll_interval=0.01)
    with slow:
        with next_one:
            slow.__exit__(None, None, None)
            assert raw.exists("lock")
        slow.__enter__()


@pytest.mark.conformance
def test_a_scheduled_set_takes_in_one_round_trip_and_without_a_lock(raw: Any) -> None:
    client = Recorder(raw)
    jobs = ScheduledSet(client, "jobs")
    for job in "abc":
        jobs.add(job, score=1)
    jobs.pop()  # from now on the server knows the script

    client.sent.clear()
    with ScheduledSet(raw, "jobs").lock:
        assert jobs.take(2) == ["b", "c"]

    assert client.sent == ["EVALSHA"]


@pytest.mark.conformance
@pytest.mark.parametrize("now", [0.0, 2.0**40])
def test_a_scheduled_set_does_not_trust_the_clock_of_the_client(
    raw: Any, here: Place, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    if isinstance(here, Fake):
        pytest.skip("the clock of the client is its only one")

    jobs = ScheduledSet(raw, "jobs")
    jobs.add("due", score=time.time() - 60)
    jobs.add("tomorrow", score=time.time() + 86_400)

    with monkeypatch.context() as wrong_clock:
        wrong_clock.setattr(time, "time", lambda: now)
        taken = jobs.take(10)

    assert taken == ["due"]
