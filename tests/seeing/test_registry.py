"""The registry knows each set with its kind and options, and no set is used as one of another kind."""

from collections.abc import Callable
from typing import Any

import pytest

from faces import Face
from redset import Key, LayoutError
from redset.core.keys import REGISTRY, Keys
from redset.core.operations import Operation
from redset.core.registry import forget

pytestmark = pytest.mark.conformance

#: Sets of each form in which items are stored.
FORMS: dict[str, Callable[[Face], Any]] = {
    "sorted": lambda face: face.SortedSet("jobs"),
    "keyed": lambda face: face.SortedSet("jobs", key=lambda item: item[:1]),
    "periodic": lambda face: face.PeriodicSet("jobs", 100),
    "keyed periodic": lambda face: face.PeriodicSet("jobs", 100, key=lambda item: item[:1]),
    "expiring": lambda face: face.ExpiringSet("jobs", 100),
    "expiring digests": lambda face: face.ExpiringSet("jobs", 100, digest=True),
}


def names(face: Face) -> list[tuple[str, str]]:
    return [(one.name, one.kind) for one in face.list_sets()]


def test_a_server_without_sets_lists_none(face: Face) -> None:
    assert face.list_sets() == []


def test_each_kind_is_listed_by_name_with_its_options(face: Face) -> None:
    face.SortedSet("b", max_attempts=3, remember=60, digest=True).add("x")
    face.TimeSortedSet("a", key=len).add("x")
    face.ScheduledSet("c").add("x")
    face.PeriodicSet("d", 30).add("x")
    face.ExpiringSet("e", 90).add("x")
    found = {one.name: one for one in face.list_sets()}
    assert list(found) == ["a", "b", "c", "d", "e"]
    kinds = {name: one.kind for name, one in found.items()}
    assert kinds == {
        "a": "TimeSortedSet",
        "b": "SortedSet",
        "c": "ScheduledSet",
        "d": "PeriodicSet",
        "e": "ExpiringSet",
    }
    assert found["b"].options == {
        "keyed": False,
        "max_attempts": 3,
        "max_dead": None,
        "remember": 60.0,
        "digest": True,
    }
    assert found["a"].options["keyed"] is True
    assert found["d"].options["interval"] == 30.0
    assert found["e"].options == {"ttl": 90.0, "digest": False}


def test_an_empty_set_is_not_listed_but_one_with_a_dead_letter_is(face: Face) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    jobs.pop()
    assert names(face) == []
    jobs.add("b")
    jobs.reserve().bury()
    assert names(face) == [("jobs", "SortedSet")]


def test_a_set_that_another_program_fills_is_registered_by_its_first_claim(face: Face, raw: Any) -> None:
    raw.zadd("jobs", {"a": 1, "b": 2})
    jobs = face.SortedSet("jobs")
    assert names(face) == []
    jobs.pop()
    assert names(face) == [("jobs", "SortedSet")]


def test_a_claim_of_nothing_leaves_nothing_behind(face: Face, raw: Any) -> None:
    with pytest.raises(KeyError):
        face.SortedSet("jobs").pop()
    assert [key for key in raw.keys() if b":call:" not in key] == []  # noqa: SIM118 - of a client


@pytest.mark.parametrize("stored", FORMS)
@pytest.mark.parametrize("wanted", FORMS)
def test_a_set_is_not_used_in_another_form(face: Face, raw: Any, stored: str, wanted: str) -> None:
    FORMS[stored](face).add("a")
    before = {key: raw.type(key) for key in raw.keys() if b":call:" not in key}  # noqa: SIM118 - of a client
    other = FORMS[wanted](face)
    if wanted == stored:
        other.add("b")
        return
    with pytest.raises(LayoutError) as raised:
        other.add("b")
    assert "'jobs'" in str(raised.value)
    kinds = {"sorted": "SortedSet", "periodic": "PeriodicSet", "expiring": "ExpiringSet"}
    for form in (stored, wanted):
        assert kinds[next(word for word in (*form.split(), "sorted") if word in kinds)] in str(raised.value)
    after = {key: raw.type(key) for key in raw.keys() if b":call:" not in key}  # noqa: SIM118 - of a client
    assert after == before


@pytest.mark.parametrize(
    "call",
    [
        lambda jobs: jobs.pop(),
        lambda jobs: jobs.update("xyz"),
        lambda jobs: jobs.discard("a"),
        lambda jobs: jobs.pause(),
        lambda jobs: jobs.resume(),
        lambda jobs: jobs.limit(leases=1),
    ],
    ids=["pop", "update", "discard", "pause", "resume", "limit"],
)
def test_no_call_that_changes_a_set_takes_it_for_another_form(face: Face, call: Callable[[Any], Any]) -> None:
    face.SortedSet("jobs", key=lambda item: item[:1]).add("a")
    with pytest.raises(LayoutError):
        call(face.SortedSet("jobs"))


def test_kinds_that_store_alike_share_a_set(face: Face) -> None:
    face.SortedSet("jobs").add("a", score=1)
    assert face.ScheduledSet("jobs").pop() == "a"
    face.TimeSortedSet("jobs").add("b")
    assert face.SortedSet("jobs").pop() == "b"


def test_what_is_remembered_is_remembered_in_one_form(face: Face) -> None:
    face.SortedSet("pages", remember=60).add("a")
    face.SortedSet("pages").add("b")
    with pytest.raises(LayoutError, match="digest"):
        face.SortedSet("pages", remember=60, digest=True).add("c")


def test_other_differences_are_logged_and_the_newer_options_stand(face: Face, caplog: Any) -> None:
    caplog.set_level("INFO")
    face.SortedSet("jobs", max_attempts=3).add("a")
    jobs = face.SortedSet("jobs", max_attempts=5)
    jobs.add("b")
    jobs.pop()
    jobs.pop()
    assert len([record for record in caplog.records if "registered as" in record.getMessage()]) == 1
    face.SortedSet("jobs", max_attempts=5).add("c")
    assert face.list_sets()[0].options["max_attempts"] == 5


def test_a_user_without_a_right_to_the_registry_works_with_the_set(face: Face, raw: Any) -> None:
    raw.set(REGISTRY[0], "of somebody else")
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    assert jobs.pop() == "a"


# Opening by name


def test_a_set_is_opened_by_its_name_with_bytes_as_items(face: Face) -> None:
    face.SortedSet("jobs", max_attempts=1).update(["a", "b"], score=len)
    jobs = face.open_set("jobs")
    assert type(jobs).__name__ in ("SortedSet", "Twin")
    jobs.reserve().bury("it failed")
    assert [(letter.item, letter.reason) for letter in jobs.dead_letters] == [(b"a", "it failed")]
    assert jobs.dead_letters.retry(b"a")
    assert sorted(jobs.take(5)) == [b"a", b"b"]


def test_items_that_are_no_text_are_opened_as_they_are(face: Face, raw: Any) -> None:
    face.SortedSet("jobs").add(b"\xff\x00", score=1)
    assert face.open_set("jobs").pop() == b"\xff\x00"


def test_a_keyed_set_is_opened_with_values_and_named_by_identities(face: Face) -> None:
    face.SortedSet("jobs", key=lambda item: item[:1]).update(["apple", "bean"], score=len)
    jobs = face.open_set("jobs")
    assert jobs.state(Key(b"a")) == "waiting"
    assert jobs.inspect(Key(b"a")).value == b"apple"
    assert jobs.discard(Key(b"b"))
    assert jobs.pop() == b"apple"
    with pytest.raises(TypeError, match="Key"):
        jobs.add(b"cherry")


def test_periodic_and_expiring_sets_are_opened_too(face: Face) -> None:
    face.PeriodicSet("feeds", 50).add("a")
    face.ExpiringSet("seen", 50).add("x")
    assert face.open_set("feeds").pop() == b"a"
    assert b"x" in face.open_set("seen")


def test_a_name_that_the_registry_does_not_know(face: Face) -> None:
    with pytest.raises(KeyError, match="nobody"):
        face.open_set("nobody")


# Forgetting


def test_a_forgotten_set_is_gone_with_all_its_keys_but_call_records(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs", key=lambda item: item[:1], remember=60)
    jobs.update(["a", "b", "c", "d"])
    jobs.pop()
    jobs.reserve().bury()
    jobs.reserve()
    assert face.forget_set("jobs") is True
    prefix = Keys("jobs").call_prefix
    left = [key for key in raw.keys() if not key.startswith(prefix)]  # noqa: SIM118 - of a client
    assert left == []
    assert face.forget_set("jobs") is False


def test_after_forgetting_a_set_its_name_can_be_one_of_another_kind(face: Face) -> None:
    face.SortedSet("jobs").add("a")
    face.forget_set("jobs")
    face.PeriodicSet("jobs", 5).add("a")
    assert names(face) == [("jobs", "PeriodicSet")]


# Expiring sets leave nothing


def test_an_expiring_set_leaves_no_key_when_its_items_have_expired(face: Face, raw: Any, clock: Any) -> None:
    seen = face.ExpiringSet("seen", 5)
    seen.add("a")
    assert names(face) == [("seen", "ExpiringSet")]
    clock.advance(60)
    assert names(face) == []
    assert [key for key in raw.keys() if key.startswith((b"seen", b"{seen}")) and b":call:" not in key] == []  # noqa: SIM118


def test_the_registry_forgets_expiring_sets_as_others_come(face: Face, raw: Any, clock: Any) -> None:
    for user in range(20):
        face.ExpiringSet(f"seen:{user}", 5).add("a")
    clock.advance(60)
    for user in range(20, 24):
        face.ExpiringSet(f"seen:{user}", 5).add("a")
    assert sorted(raw.hkeys(REGISTRY[0])) == [b"seen:20", b"seen:21", b"seen:22", b"seen:23"]


def test_an_expiring_set_that_lives_on_stays_registered(face: Face, raw: Any, clock: Any) -> None:
    seen = face.ExpiringSet("seen", 50)
    for step in range(10):
        seen.add(str(step))
        face.ExpiringSet("other", 50).add(str(step))
        assert ("seen", "ExpiringSet") in names(face)
        clock.advance(30)


# Registering again


def test_two_processes_with_different_options_register_once_each(face: Face, raw: Any) -> None:
    one, other = face.SortedSet("jobs", max_attempts=3), face.SortedSet("jobs", max_attempts=5)
    one.update(map(str, range(20)), score=1)
    for jobs in (one, other, one, other):
        jobs.pop()
    records = set()
    for jobs in (one, other) * 4:
        jobs.pop()
        records.add(raw.hget(REGISTRY[0], "jobs"))
    assert len(records) == 1


def test_a_forgotten_set_is_registered_again_by_objects_that_differed(face: Face) -> None:
    one, other = face.SortedSet("jobs", max_attempts=3), face.SortedSet("jobs", max_attempts=5)
    one.update(map(str, range(4)), score=1)
    for jobs in (one, other, one):
        jobs.pop()
    face.forget_set("jobs")
    one.add("a")
    assert names(face) == [("jobs", "SortedSet")]


@pytest.mark.parametrize("kind", ["SortedSet", "ExpiringSet"])
def test_a_forgotten_set_over_shards_is_known_again_with_its_next_item(face: Face, raw: Any, kind: str) -> None:
    """Else other processes would make shards of other names, and find nothing there."""
    options = {"ttl": 60} if kind == "ExpiringSet" else {}
    jobs = getattr(face, kind)("jobs", shards=4, **options)
    jobs.add("a")
    record = raw.hgetall("jobs")
    face.forget_set("jobs")
    jobs.add("b")
    assert raw.hgetall("jobs") == record
    assert [(info.name, info.options["shards"]) for info in face.list_sets()] == [("jobs", 4)]
    assert list(getattr(face, kind)("jobs", shards=4, **options)) == ["b"]


def test_a_set_that_takes_the_name_of_an_expiring_one_stays_registered(face: Face, clock: Any) -> None:
    expiring = face.ExpiringSet("jobs", 10)
    expiring.add("a")
    expiring.discard("a")
    face.SortedSet("jobs").add("a")
    clock.advance(30)
    face.SortedSet("others").add("a")
    assert names(face) == [("jobs", "SortedSet"), ("others", "SortedSet")]


def test_a_set_that_begins_while_its_name_is_forgotten_is_registered(face: Face, raw: Any) -> None:
    """As when the new set is registered between the steps of forget_set."""
    jobs = face.SortedSet("jobs")
    jobs.add("a")
    plan = forget("jobs")
    step = next(plan)
    try:
        while True:
            assert isinstance(step, Operation)
            found = raw.execute_command(step.verb, *step.keys, *step.args)
            if step.verb == "UNLINK":
                jobs.add("b")
            step = plan.send(step.read(found))
    except StopIteration:
        pass
    jobs.add("c")
    assert names(face) == [("jobs", "SortedSet")]
