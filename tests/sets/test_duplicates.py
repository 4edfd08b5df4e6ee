"""What becomes of the score of an item that is added while it waits: ``duplicates=``."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariants import KeyedRawSet
from redset import Key, SortedSet
from redset.core.keys import Keys

pytestmark = pytest.mark.conformance

#: Which of two scores stands: the one that an item waits with, and the one it is added with.
STANDS: dict[str, Callable[[float, float], float]] = {
    "update": lambda old, new: new,
    "keep": lambda old, new: old,
    "earliest": min,
    "latest": max,
}

each_rule = pytest.mark.parametrize("duplicates", STANDS)


class Versions:
    """Stores a name and a version of it."""

    def dumps(self, item: tuple[str, int]) -> str:
        return f"{item[0]} {item[1]}"

    def loads(self, stored: str) -> tuple[str, int]:
        name, version = stored.split()
        return name, int(version)


@each_rule
def test_the_rule_says_which_score_stands(face: Any, kind: str, duplicates: str) -> None:
    jobs = getattr(face, kind)("jobs", duplicates=duplicates)
    assert jobs.add("a", 5) == 5.0

    for score in 6, 4, 5, 7:
        stands = STANDS[duplicates](jobs.score("a"), score)
        assert jobs.add("a", score) == stands
        assert jobs.score("a") == stands
    assert jobs.pop() == "a"
    assert jobs.add("a", 9) == 9.0, "it waits no more, so it is new"


@each_rule
def test_update_goes_by_the_rule_too(face: Any, duplicates: str) -> None:
    jobs = face.SortedSet("jobs", duplicates=duplicates)
    jobs.update(["a", "b"], score=5)

    assert jobs.update(["a"], score=4) == 0
    assert jobs.update(["b", "c"], score=6) == 1
    assert jobs.scores(["a", "b", "c"]) == [STANDS[duplicates](5, 4), STANDS[duplicates](5, 6), 6.0]


@each_rule
def test_the_newest_value_stands_whichever_score_does(face: Any, raw: Any, duplicates: str) -> None:
    jobs = face.SortedSet("jobs", serializer=Versions(), key=lambda item: item[0], duplicates=duplicates)
    for version, score in enumerate((5, 6, 4)):
        jobs.add(("a", version), score)
        assert jobs.get(Key("a")) == ("a", version)
    jobs.update([("a", 7), ("b", 8), ("a", 9)], score=5)

    assert (jobs.get(Key("a")), jobs.get(Key("b"))) == (("a", 9), ("b", 8))
    KeyedRawSet(raw, "jobs").check(frozenset())


@each_rule
def test_flags_go_before_it(face: Any, duplicates: str) -> None:
    jobs = face.SortedSet("jobs", duplicates=duplicates)
    jobs.add("a", 5)

    assert [jobs.add("a", 4, gt=True), jobs.add("a", 6, lt=True), jobs.add("a", 6, nx=True)] == [5.0, 5.0, 5.0]
    assert [jobs.add("a", 7, xx=True), jobs.add("a", 3, xx=True), jobs.add("b", 3, xx=True)] == [7.0, 3.0, None]


def test_without_a_rule_the_newest_score_stands(face: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a", 5), jobs.add("a", 4)

    assert jobs.score("a") == 4.0


def test_a_busy_item_keeps_its_place_where_the_first_score_stands(face: Any) -> None:
    """What a queue of updates needs, or a key that is updated again and again never has its turn."""
    times = iter(range(10))
    jobs = face.TimeSortedSet("jobs", scorer=lambda item: next(times), duplicates="keep")
    for item in "busy", "calm", "busy", "busy":
        jobs.add(item)

    assert jobs.take(2) == ["busy", "calm"]


def test_what_comes_back_and_was_added_meanwhile_has_the_newer_score(face: Any) -> None:
    """The rule is about what waits: an item that is leased does not."""
    jobs = face.SortedSet("jobs", duplicates="keep")
    jobs.add("a", 1)
    held = jobs.reserve()
    jobs.add("a", 7)
    held.nack(delay=0)

    assert jobs.score("a") == 7.0


@pytest.mark.parametrize("wrong", ["newest", "", None, "KEEP", [], 1], ids=repr)
def test_an_unknown_rule_is_named(face: Any, wrong: Any) -> None:
    with pytest.raises(ValueError) as raised:
        face.SortedSet("jobs", duplicates=wrong)

    assert repr(wrong) in str(raised.value)
    assert all(rule in str(raised.value) for rule in STANDS)


def test_the_rule_has_a_name(face: Any) -> None:
    with pytest.raises(TypeError):
        face.SortedSet("jobs", None, None, None, None, "keep")


names = st.sampled_from("abcdé")
any_score = st.sampled_from([1.0, 2.0, 0.1 + 0.2, float("inf"), -1e300])
chunks = st.lists(st.tuples(names, any_score), max_size=8)


def scorer_of(addition: list[tuple[str, float]]) -> Callable[[Any], float]:
    """Gives the scores of ``addition`` one after the other."""
    scores = iter([score for _, score in addition])
    return lambda item: next(scores)


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
@given(duplicates=st.sampled_from(sorted(STANDS)), additions=st.lists(chunks, max_size=4), data=st.data())
def test_many_at_once_are_as_if_added_one_after_the_other(
    raw: Any, keyed: bool, duplicates: Any, additions: list[list[tuple[str, float]]], data: st.DataObject
) -> None:
    raw.flushall()
    options: dict[str, Any] = {"serializer": Versions(), "key": lambda item: item[0]} if keyed else {}
    jobs: SortedSet[Any] = SortedSet(raw, "jobs", duplicates=duplicates, **options)
    model: dict[str, float] = {}
    newest: dict[str, int] = {}
    version = 0
    for addition in additions:
        chunk: list[Any] = []
        new = 0
        for name, score in addition:
            version += 1
            chunk.append((name, version) if keyed else name)
            new += name not in model
            model[name] = STANDS[duplicates](model[name], score) if name in model else score
            newest[name] = version
        if len(chunk) == 1 and data.draw(st.booleans()):
            assert jobs.add(chunk[0], addition[0][1]) == model[addition[0][0]]
        else:
            assert jobs.update(chunk, score=scorer_of(addition)) == new

    assert {item.decode(): score for item, score in raw.zrange("jobs", 0, -1, withscores=True)} == model
    if keyed:
        values = {item.decode(): int(value.split()[1]) for item, value in raw.hgetall(Keys("jobs").values).items()}
        assert values == newest
