"""Users with few rights (ACL): the documented rights suffice, and without one of them nothing changes."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import redset
from redset.core import drivers
from redset.core.keys import Keys
from redset.core.scripts import FEATURES, Script
from redset.exceptions import AccessDeniedError, RedsetError
from servers import Place, Server

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

#: Seconds after which something is taken not to happen any more.
PATIENCE = 30
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "server-settings.md"

KINDS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda client: redset.SortedSet(client, "jobs", max_attempts=2, max_dead=1),
    "scheduled": lambda client: redset.ScheduledSet(client, "jobs"),
    "keyed": lambda client: redset.SortedSet(client, "jobs", key=str, max_attempts=2, max_dead=1),
    "remembering": lambda client: redset.SortedSet(client, "jobs", key=str, remember=60, digest=True),
    "periodic": lambda client: redset.PeriodicSet(client, "jobs", interval=60),
    "grouped": lambda client: redset.SortedSet(
        client, "jobs", group=lambda item: item[0], per_group=redset.Limit(leases=5), max_attempts=2, max_dead=1
    ),
    "grouped, fair": lambda client: redset.ScheduledSet(
        client, "jobs", group=lambda item: item[0], per_group=redset.Limit(pause=1e-6), turns="fair", max_dead=1
    ),
}
CALLS: dict[str, Callable[[Any], Any]] = {
    "add": lambda jobs: jobs.add("new"),
    "update": lambda jobs: jobs.update(["new", "a"]),
    "pop": lambda jobs: jobs.pop(),
    "pop, waiting": lambda jobs: jobs.pop(wait=0.02),
    "take": lambda jobs: jobs.take(2),
    "pop_max": lambda jobs: jobs.pop_max(),
    "take_max": lambda jobs: jobs.take_max(2),
    "reserve": lambda jobs: jobs.reserve(),
    "reserve_many": lambda jobs: jobs.reserve_many(2),
    "consume": lambda jobs: list(jobs.consume(wait=0)),
    "consume, waiting": lambda jobs: list(jobs.consume(wait=0.02)),
    "peek": lambda jobs: jobs.peek(),
    "peek_score": lambda jobs: jobs.peek_score(),
    "score": lambda jobs: jobs.score("a"),
    "scores": lambda jobs: jobs.scores(["a", "b"]),
    "contains": lambda jobs: jobs.contains("a"),
    "contains_many": lambda jobs: jobs.contains_many(["a"]),
    "count": lambda jobs: jobs.count(),
    "count between": lambda jobs: jobs.count(min=0, max=10**10),
    "index": lambda jobs: jobs.index("a"),
    "at": lambda jobs: jobs.at(0),
    "slice": lambda jobs: jobs.slice(0, 2),
    "iterate": list,
    "reversed": lambda jobs: list(reversed(jobs)),
    "with_scores": lambda jobs: list(jobs.with_scores()),
    "between": lambda jobs: list(jobs.between(0, 10**10)),
    "stats": lambda jobs: jobs.stats(),
    "pause": lambda jobs: jobs.pause(until=1),
    "resume": lambda jobs: jobs.resume(),
    "limit": lambda jobs: jobs.limit(rate=100, burst=100, leases=100, maxsize=100),
    "discard": lambda jobs: jobs.discard("a"),
    "remove": lambda jobs: jobs.remove("a"),
    "remove_at": lambda jobs: jobs.remove_at(0),
    "remove_slice": lambda jobs: jobs.remove_slice(0, 1),
    "remove_between": lambda jobs: jobs.remove_between(0, 10**10),
    "clear": lambda jobs: jobs.clear(),
    "dead letters": lambda jobs: list(jobs.dead_letters),
    "dead letters: count": lambda jobs: jobs.dead_letters.count(),
    "dead letters: slice": lambda jobs: jobs.dead_letters.slice(0, 1),
    "dead letters: retry": lambda jobs: jobs.dead_letters.retry("dead"),
    "dead letters: retry_all": lambda jobs: jobs.dead_letters.retry_all(),
    "dead letters: discard": lambda jobs: jobs.dead_letters.discard("dead"),
    "dead letters: clear": lambda jobs: jobs.dead_letters.clear(),
    "operators": lambda jobs: (jobs | {"x"}, jobs & jobs, jobs - {"a"}, jobs ^ {"a"}, jobs == {"a"}, jobs <= {"a"}),
    "operators in place": lambda jobs: (jobs.difference_update({"a"}), jobs.union_update({"x"})),
}
#: Those that change something, in one call.
CHANGES = (
    "add",
    "take",
    "pop_max",
    "reserve",
    "disc",
    "remove",
    "clear",
    "dead letters: ",
    "increment",
    "forget",
    "group:",
)
#: Of those sets that have them.
MORE_CALLS: dict[tuple[str, ...], dict[str, Callable[[Any], Any]]] = {
    ("plain", "scheduled", "keyed", "remembering", "grouped", "grouped, fair"): {
        "increment": lambda jobs: jobs.increment("a", 1),
        "add nx": lambda jobs: jobs.add("a", nx=True),
    },
    ("scheduled", "periodic"): {"available": lambda jobs: jobs.available()},
    ("grouped", "grouped, fair"): {
        "group: limit": lambda jobs: jobs.group("a").limit(leases=1),
        "group: pause": lambda jobs: jobs.group("a").pause(),
        "group: resume": lambda jobs: jobs.group("a").resume(),
        "group: stats": lambda jobs: jobs.group("a").stats(),
        "groups": lambda jobs: jobs.groups(),
    },
    ("keyed", "remembering"): {"get": lambda jobs: jobs.get("a")},
    ("remembering",): {
        "is_done": lambda jobs: jobs.is_done("done"),
        "forget": lambda jobs: jobs.forget("done"),
        "add what is done": lambda jobs: jobs.add("done"),
    },
    ("periodic",): {
        "add with an interval": lambda jobs: jobs.add("new", interval=5),
        "interval": lambda jobs: jobs.interval("a"),
        "next_due": lambda jobs: jobs.next_due("a"),
    },
}
#: How leases end, each of one that the client holds.
ENDS: dict[str, Callable[[Any, Any], Any]] = {
    "ack": lambda jobs, held: held.ack(),
    "ack many": lambda jobs, held: jobs.ack([held]),
    "nack": lambda jobs, held: jobs.nack([held], delay=0),
    "nack, delayed": lambda jobs, held: held.nack(10),
    "again": lambda jobs, held: held.again(5),
    "extend": lambda jobs, held: held.extend(50),
    "bury": lambda jobs, held: held.bury("why"),
}
EXPIRING: dict[str, Callable[[Any], Any]] = {
    "add": lambda seen: seen.add("new"),
    "add_new": lambda seen: seen.add_new(["new", "a"]),
    "touch": lambda seen: seen.touch("a"),
    "contains": lambda seen: seen.contains("a"),
    "contains_many": lambda seen: seen.contains_many([str(number) for number in range(20)]),
    "ttl": lambda seen: seen.ttl("a"),
    "count": lambda seen: seen.count(),
    "iterate": list,
    "pop": lambda seen: seen.pop(),
    "discard": lambda seen: seen.discard("a"),
    "remove": lambda seen: seen.remove("a"),
    "clear": lambda seen: seen.clear(),
}


def documented() -> tuple[str, list[str]]:
    """Return the documented command that makes a user, and the commands that it grants."""
    (command,) = re.findall(r"(ACL SETUSER worker (?:.|\\\n)*?)\n```", PAGE.read_text())
    return command.replace("\\\n", " "), re.findall(r"\+(\S+)", command)


_, RIGHTS = documented()
#: Two sets over shards, each with the documented rights to its keys: of the set, for shards, and for a reshard.
OVER_SHARDS = {
    "jobs": ("~jobs ~{jobs}:*", "~{jobs#*", "~{jobs}#moved*"),
    "{shop}orders": (
        "~{shop}orders ~{shop}orders::*",
        "~{shop#*}orders ~{shop#*}orders::*",
        "~{shop#*}orders#moved* ~{shop}orders#moved*",
    ),
}
FOR_RESHARD = "+rename +hscan"


@pytest.fixture
def grant(here: Place, raw: Any) -> Iterator[Callable[..., Any]]:
    """Makes a user with the documented rights except some, and returns a client of that user."""
    if not isinstance(here, Server):
        pytest.skip("a single server is told who may do what")
    command, _ = documented()
    raw.execute_command("ACL", "DELUSER", "worker")
    raw.execute_command(*command.split())
    made = here.client(username="worker", password="secret")

    def but(*rights: str) -> Any:
        raw.execute_command("ACL", "SETUSER", "worker", *(f"+{right}" for right in RIGHTS))
        raw.execute_command("ACL", "SETUSER", "worker", *(f"-{right}" for right in rights))
        return made

    yield but
    made.close()
    raw.execute_command("ACL", "DELUSER", "worker")


def contents(raw: Any) -> dict[bytes, Any]:
    """Return all keys but the call records and the looks of waiters, which do not change what the set does."""
    keys = [key for key in raw.scan_iter() if not key.startswith((Keys("jobs").call_prefix, Keys("jobs").looks))]
    return {key: (raw.dump(key), raw.ttl(key) > 0) for key in keys}


def prepared(raw: Any, kind: str, *, watched: bool) -> Any:
    """Make a set with an item in each state, as a user with all rights."""
    raw.flushall()
    jobs = KINDS[kind](raw)
    for item in "dead", "expired", "held", "parked", "done":
        jobs.add(item) if kind in {"scheduled", "periodic", "grouped, fair"} else jobs.add(item, score=0)
        held = jobs.reserve(lease=1000)
        if item == "dead":
            held.bury("why")
        elif item == "expired":
            raw.zadd(Keys("jobs").leased, {"expired": 1}, xx=True)
        elif item == "parked":
            jobs.add(item) if kind in {"scheduled", "periodic", "grouped, fair"} else jobs.add(item, score=0)
            jobs.take(1)
        elif item == "done":
            held.ack()
    for item in "abc":
        raw.zadd("jobs", {item: 5})
    if watched:
        raw.zadd(Keys("jobs").looks, {"another": -1e10})
    return jobs


def calls_of(kind: str) -> dict[str, Callable[[Any], Any]]:
    more = (calls for kinds, calls in MORE_CALLS.items() if kind in kinds)
    calls = dict(itertools.chain(CALLS.items(), *(calls.items() for calls in more)))
    # Nothing is claimed from the end of a set with groups.
    return {name: call for name, call in calls.items() if not (kind.startswith("grouped") and name.endswith("_max"))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_documented_rights_are_enough(grant: Any, raw: Any, kind: str) -> None:
    jobs = KINDS[kind](grant())
    for watched in False, True:
        for call in calls_of(kind).values():
            prepared(raw, kind, watched=watched)
            ignoring_key_errors(call, jobs)
        for end in ENDS.values():
            prepared(raw, kind, watched=watched)
            end(jobs, jobs.reserve())


def test_the_documented_rights_are_enough_for_expiring_sets(grant: Any, raw: Any) -> None:
    seen = redset.ExpiringSet[str](grant(), "jobs", ttl=60)
    for call in EXPIRING.values():
        raw.flushall()
        raw.zadd("jobs", {"a": 10**11, "over": 5})
        call(seen)


def test_the_documented_rights_are_those_that_scripts_need() -> None:
    # A reshard needs rights of its own.
    names = {path.stem for path in Path(str(files("redset.core.scripts"))).glob("*.lua")} - {"seal", "reshardable"}
    bodies = (Script(name, frozenset(FEATURES)).body for name in names)
    used = {name for body in bodies for name in re.findall(r"redis\.p?call\('(\w+)'", body)}

    assert {right.upper() for right in RIGHTS} == used | {"EVAL", "EVALSHA", "BLPOP", "LRANGE", "ZRANK"}


@pytest.mark.parametrize("right", RIGHTS)
@pytest.mark.parametrize(
    ("kind", "watched"),
    [
        ("plain", True),
        ("keyed", False),
        ("remembering", False),
        ("periodic", True),
        ("grouped", False),
        ("grouped, fair", True),
    ],
)
def test_where_a_right_is_missing_nothing_changes(grant: Any, raw: Any, kind: str, watched: bool, right: str) -> None:
    for name, call in calls_of(kind).items():
        if name.startswith(CHANGES):
            prepared(raw, kind, watched=watched)
            assert_nothing_changes(raw, grant(right), f"{kind}, {name}", kind, call)
    for name, end in ENDS.items():
        prepared(raw, kind, watched=watched)
        held = KINDS[kind](grant()).reserve()
        assert_nothing_changes(raw, grant(right), f"{kind}, {name}", kind, partial(ended, end, held))


@pytest.mark.parametrize("right", ["zcard", "llen"])
def test_an_addition_that_cannot_look_for_waiters_is_refused(grant: Any, raw: Any, right: str) -> None:
    """Else it would wake nobody, without a word."""
    raw.zadd(Keys("jobs").looks, {"another": -1e10})
    with pytest.raises(AccessDeniedError):
        redset.SortedSet(grant(right), "jobs").add("a")
    assert not raw.exists("jobs")


@pytest.mark.parametrize("several", [False, True])
def test_who_may_not_block_is_told_when_waiting(grant: Any, monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    client = grant("blpop")
    jobs: Any = redset.SortedSet[str](client, "jobs")
    if several:
        # A thread listens to each set, as where they are in several slots of a cluster.
        monkeypatch.setattr(drivers, "are_beside", lambda *_: False)
        jobs = redset.first_of(jobs, redset.SortedSet[str](client, "{jobs}:others"))
    with pytest.raises(AccessDeniedError, match="BLPOP"):
        jobs.pop(wait=PATIENCE)


#: States that a claim or an end meets although nothing is parked, dead or waited for.
MET: dict[str, Callable[[Any], Any]] = {
    "leased and added again": lambda jobs: (jobs.reserve(), jobs.add("a", score=0)),
    "delayed and added again": lambda jobs: (jobs.reserve().nack(delay=1000), jobs.add("a", score=0)),
    "one of two discarded": lambda jobs: (jobs.reserve_many(2), jobs.discard("b")),
}


@pytest.mark.parametrize("right", RIGHTS)
@pytest.mark.parametrize("state", MET)
def test_where_a_right_is_missing_no_leased_item_changes(grant: Any, raw: Any, right: str, state: str) -> None:
    for name in ("pop", "take", "reserve", "reserve_many", "ack"):
        raw.flushall()
        jobs = redset.SortedSet(raw, "jobs")
        jobs.add("a", score=1)
        jobs.add("b", score=2)
        first, *_ = MET[state](jobs)
        if name == "ack":
            if not isinstance(first, list):
                continue
            jobs.update("cd")
            call: Callable[[Any], Any] = partial(ended_together, first)
        else:
            call = CALLS[name]
        assert_nothing_changes(raw, grant(right), f"{state}, {name}", "plain", call)


@pytest.mark.parametrize("right", RIGHTS)
def test_where_a_right_is_missing_no_ack_goes_before_that_of_an_item_which_is_gone(
    grant: Any, raw: Any, right: str
) -> None:
    jobs = KINDS["grouped"](raw)
    jobs.update(["a1", "a2", "a3"], score=lambda item: int(item[1]))
    receipts = [one.receipt for one in jobs.reserve_many(2, lease=1000)]
    jobs.reservation(receipts[1]).nack(0)
    raw.zrem("jobs", "a2")

    def ack(worker: Any) -> None:
        worker.ack([worker.reservation(receipt) for receipt in receipts])

    assert_nothing_changes(raw, grant(right), "acks", "grouped", ack)


@pytest.mark.parametrize("right", RIGHTS)
def test_where_a_right_is_missing_no_ack_goes_before_a_claim_that_fails(grant: Any, raw: Any, right: str) -> None:
    """With many items a claim checks first whether any can be leased."""
    jobs = redset.SortedSet(raw, "jobs")
    jobs.update(map(str, range(24)))
    held = jobs.reserve_many(11)
    jobs.reserve()

    def claim_with_acks(worker: Any) -> None:
        worker._driver.perform(worker._claims.claim(12, 60.0, held))

    assert_nothing_changes(raw, grant(right), "a claim with acks", "plain", claim_with_acks)


def ended_together(held: list[Any], jobs: Any) -> None:
    for one in held:
        one._endings, one._driver = jobs._endings, jobs._driver
    jobs.ack(held)


def ended(end: Callable[[Any, Any], Any], held: Any, jobs: Any) -> None:
    """End a lease by the client of ``jobs``, even if another client claimed it."""
    held._endings, held._driver = jobs._endings, jobs._driver
    end(jobs, held)


def assert_nothing_changes(raw: Any, client: Any, what: str, kind: str, call: Callable[[Any], Any]) -> None:
    before = contents(raw)
    denied = None
    try:
        ignoring_key_errors(call, KINDS[kind](client))
    except AccessDeniedError as error:
        denied = error
    assert denied is None or contents(raw) == before, f"{what}: {denied}"


def ignoring_key_errors(call: Callable[[Any], Any], jobs: Any) -> None:
    try:
        call(jobs)
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, RedsetError):
            raise


def test_where_a_right_is_missing_expiring_sets_do_not_change(grant: Any, raw: Any) -> None:
    for right, call in itertools.product(RIGHTS, EXPIRING.values()):
        raw.flushall()
        raw.zadd("jobs", {"a": 10**11, "over": 5})
        before = raw.zrange("jobs", 0, -1, withscores=True)
        try:
            call(redset.ExpiringSet[str](grant(right), "jobs", ttl=60))
        except AccessDeniedError:
            assert raw.zrange("jobs", 0, -1, withscores=True) == before


def test_the_error_names_the_command_and_the_user(grant: Any, raw: Any) -> None:
    raw.zadd("jobs", {"a": 1})
    with pytest.raises(AccessDeniedError, match=r"worker|of this client") as raised:
        redset.SortedSet[str](grant("set"), "jobs").pop()
    assert "SET" in str(raised.value)
    assert isinstance(raised.value, PermissionError)


def test_a_key_without_rights_is_named(grant: Any, raw: Any) -> None:
    client = grant()
    with pytest.raises(AccessDeniedError, match=r"'others'.*~others and ~\{others\}:\*"):
        redset.SortedSet[str](client, "others").pop()
    assert raw.keys() == []


# Over shards.


def with_rights(raw: Any, client: Any, *rights: str) -> Any:
    """Give the user exactly these rights to keys, and others in addition to the documented ones."""
    raw.execute_command("ACL", "SETUSER", "worker", "resetkeys", *" ".join(rights).split())
    return client


def test_the_rights_over_shards_are_documented() -> None:
    page = PAGE.read_text()
    assert all(one in page for rights in OVER_SHARDS.values() for one in (*rights, FOR_RESHARD))


@pytest.mark.parametrize("name", OVER_SHARDS)
def test_the_documented_rights_are_enough_over_shards(grant: Any, raw: Any, name: str) -> None:
    jobs: Any = redset.SortedSet(
        with_rights(raw, grant(), *OVER_SHARDS[name][:2]), name, shards=3, max_attempts=2, max_dead=1, remember=60
    )
    for call in itertools.chain(CALLS.values(), MORE_CALLS["remembering",].values()):
        raw.flushall()
        jobs.update(["a", "b", "c", "dead", "done"], score=5)
        for held in jobs.reserve_many(5):
            held.bury("why") if held.item == "dead" else held.ack() if held.item == "done" else held.again()
        # Those that a set over shards does not have raise a TypeError.
        with suppress(TypeError):
            ignoring_key_errors(call, jobs)
    for end in ENDS.values():
        raw.flushall()
        jobs.add("a")
        end(jobs, jobs.reserve())


@pytest.mark.parametrize("name", OVER_SHARDS)
def test_the_documented_rights_are_enough_for_a_reshard(grant: Any, raw: Any, name: str) -> None:
    client = with_rights(raw, grant(), *OVER_SHARDS[name], FOR_RESHARD)
    redset.SortedSet(raw, name).update("abcdefgh")
    redset.SortedSet(raw, name).limit(rate=100, burst=100, maxsize=100)
    for count in 3, 5, None, 2:
        assert redset.reshard(client, name, count)
        assert sorted(redset.SortedSet(client, name, shards="stored")) == list("abcdefgh")


def test_a_reshard_without_rights_to_the_registry_leaves_it_alone(grant: Any, raw: Any) -> None:
    redset.SortedSet(raw, "jobs", shards=3).update("abc")
    (before,) = redset.list_sets(raw)
    assert redset.reshard(with_rights(raw, grant(), *OVER_SHARDS["jobs"], FOR_RESHARD), "jobs", 5)
    assert redset.list_sets(raw) == [before]
    assert redset.SortedSet(raw, "jobs", shards=5).count() == 3


@pytest.mark.parametrize("shards", [None, 3])
@pytest.mark.parametrize("name", OVER_SHARDS)
def test_where_a_right_for_a_reshard_is_missing_nothing_changes(
    grant: Any, raw: Any, name: str, shards: int | None
) -> None:
    options: dict[str, Any] = {} if shards is None else {"shards": shards}
    redset.SortedSet(raw, name, **options).update("abcdefgh")
    before = contents(raw)
    keys = OVER_SHARDS[name]
    # The right to `{jobs}#moved*` is one for sets without shards.
    for lacking in keys if shards is None or name == "{shop}orders" else keys[:2]:
        client = with_rights(raw, grant(), *(one for one in keys if one != lacking), FOR_RESHARD)
        with pytest.raises(AccessDeniedError, match=re.escape(f"the set {name!r} cannot be resharded")):
            redset.reshard(client, name, 5)
        assert contents(raw) == before
    # Only a set over shards has a record before.
    for right in ("rename", "hscan", "unlink", "zadd", "hset", "set", *(["hsetnx"] if shards else [])):
        client = with_rights(raw, grant(), *keys, FOR_RESHARD, f"-{right}")
        with pytest.raises(AccessDeniedError, match=f"{re.escape(repr(name))}.*{right.upper()}"):
            redset.reshard(client, name, 5)
        assert contents(raw) == before
    assert redset.reshard(with_rights(raw, grant(), *keys, FOR_RESHARD), name, 5)
