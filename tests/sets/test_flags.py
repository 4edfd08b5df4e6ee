"""The flags of ``add``, and ``increment``: what becomes of the score and the value of an item that waits already."""

import math
from typing import Any

import pytest

from invariants import KeyedRawSet
from redset import Key

pytestmark = pytest.mark.conformance

#: For each rule the score afterwards of an item that does not wait and is added with 4, and of one that waits with 5
#: and is added with 4, 5 and 6.
RULES: dict[tuple[str, ...], tuple[float | None, float, float, float]] = {
    (): (4, 4, 5, 6),
    ("nx",): (4, 5, 5, 5),
    ("xx",): (None, 4, 5, 6),
    ("gt",): (4, 5, 5, 6),
    ("lt",): (4, 4, 5, 5),
    ("xx", "gt"): (None, 5, 5, 6),
    ("xx", "lt"): (None, 4, 5, 5),
}

each_rule = pytest.mark.parametrize(("flags", "expected"), RULES.items(), ids=lambda value: "-".join(map(str, value)))


def given(flags: tuple[str, ...]) -> dict[str, bool]:
    return dict.fromkeys(flags, True)


def versioned(number: int) -> tuple[str, int]:
    return ("a", number)


class Pairs:
    """Stores an identity and a number."""

    def dumps(self, pair: tuple[str, int]) -> str:
        return f"{pair[0]} {pair[1]}"

    def loads(self, stored: str) -> tuple[str, int]:
        name, number = stored.split()
        return name, int(number)


@pytest.fixture
def keyed(face: Any) -> Any:
    return face.SortedSet("jobs", serializer=Pairs(), key=lambda pair: pair[0])


@each_rule
def test_an_item_that_does_not_wait(
    face: Any, kind: str, raw: Any, flags: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    jobs = getattr(face, kind)("jobs")

    assert jobs.add("a", 4, **given(flags)) == jobs.score("a") == expected[0]
    assert raw.exists("jobs") == (expected[0] is not None)


@each_rule
def test_an_item_that_waits(face: Any, raw: Any, flags: tuple[str, ...], expected: tuple[Any, ...]) -> None:
    jobs = face.SortedSet("jobs")
    for score, afterwards in zip((4, 5, 6), expected[1:], strict=True):
        raw.zadd("jobs", {"a": 5})

        found = jobs.add("a", score, **given(flags))

        assert found == jobs.score("a") == afterwards
        assert isinstance(found, float)


@each_rule
def test_the_value_is_left_alone_where_nothing_may_happen(
    keyed: Any, raw: Any, flags: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    assert keyed.add(versioned(1), 4, **given(flags)) == expected[0]
    assert keyed.get(Key("a")) == (None if "xx" in flags else versioned(1))

    keyed.add(versioned(2), 5)
    for number, (score, afterwards) in enumerate(zip((4, 5, 6), expected[1:], strict=True), start=3):
        raw.zadd("jobs", {"a": 5})

        assert keyed.add(versioned(number), score, **given(flags)) == afterwards
        assert keyed.get(Key("a")) == versioned(2 if "nx" in flags else number)
    KeyedRawSet(raw, "jobs").check(frozenset())


@pytest.mark.parametrize("flags", [("xx",), ("xx", "gt")], ids="-".join)
def test_what_is_leased_does_not_wait(keyed: Any, raw: Any, flags: tuple[str, ...]) -> None:
    keyed.add(versioned(1), 5)
    held = keyed.reserve()

    assert keyed.add(versioned(2), 9, **given(flags)) is None
    assert keyed.get(Key("a")) == versioned(1)
    KeyedRawSet(raw, "jobs").check(frozenset())
    held.ack()


def test_scores_are_kept_to_the_last_bit(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    for score in 0.1 + 0.2, 1732423423.123457, 5e-324, math.inf, -math.inf, -0.0:
        jobs.clear()
        assert jobs.add("a", score, nx=True) == score
        assert jobs.add("a", score, gt=True) == score
        assert jobs.add("a", 7, nx=True) == score


@pytest.mark.parametrize(
    "flags",
    [("nx", "xx"), ("gt", "lt"), ("nx", "gt"), ("nx", "lt"), ("xx", "gt", "lt"), ("nx", "xx", "gt", "lt")],
    ids="-".join,
)
def test_flags_that_contradict_each_other_are_named(face: Any, raw: Any, flags: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as raised:
        face.SortedSet("jobs").add("a", 1, **given(flags))

    assert all(flag in str(raised.value) for flag in flags)
    assert raw.dbsize() == 0


def test_what_is_remembered_is_left_out_whatever_the_flags(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", remember=1000)
    jobs.add("a"), jobs.pop()
    jobs.add("b"), jobs.reserve().bury()
    raw.zadd("jobs", {"a": 3})

    for flags in RULES:
        assert jobs.add("a", 1, **given(flags)) is None
        assert jobs.add("b", 1, **given(flags)) is None
    assert raw.zrange("jobs", 0, -1, withscores=True) == [(b"a", 3.0)]


# Increment


def test_increment_adds_to_the_score(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add("a", 5)

    assert jobs.increment("a", 2.5) == jobs.score("a") == 7.5
    assert jobs.increment("a", -10) == jobs.score("a") == -2.5


def test_what_does_not_wait_is_added_with_that_score(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs")

    assert jobs.increment("a", 3) == jobs.score("a") == 3.0
    assert jobs.pop() == "a"


@pytest.mark.parametrize("duplicates", ["update", "keep", "earliest", "latest"])
def test_increment_adds_whatever_the_rule_for_duplicates(face: Any, duplicates: str) -> None:
    jobs = face.SortedSet("jobs", duplicates=duplicates)
    jobs.add("a", 5)

    assert (jobs.increment("a", 1), jobs.increment("a", -3)) == (6.0, 3.0)


def test_increment_replaces_the_value_as_add_does(keyed: Any, raw: Any) -> None:
    assert keyed.increment(versioned(1), 1) == 1.0
    assert keyed.increment(versioned(2), 1) == 2.0
    assert keyed.get(Key("a")) == versioned(2)
    with pytest.raises(TypeError, match="no value"):
        keyed.increment(Key("a"), 1)
    KeyedRawSet(raw, "jobs").check(frozenset())


def test_increment_leaves_out_what_is_remembered(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", remember=1000)
    jobs.add("a"), jobs.pop()

    assert jobs.increment("a", 1) is None
    assert raw.exists("jobs") == 0


def test_a_sum_that_is_no_number_is_refused_and_changes_nothing(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a", math.inf)

    with pytest.raises(ValueError, match=r"'a'.*'jobs'.*-inf"):
        jobs.increment("a", -math.inf)
    assert jobs.score("a") == math.inf
    assert jobs.increment("a", 1) == math.inf


@pytest.mark.parametrize("by", ["1", None, math.nan, [], len], ids=repr)
def test_what_is_no_number_cannot_be_added(face: Any, raw: Any, by: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        face.SortedSet("jobs", scorer=lambda item: 1).increment("a", by)

    assert repr(by) in str(raised.value)
    assert raw.dbsize() == 0
