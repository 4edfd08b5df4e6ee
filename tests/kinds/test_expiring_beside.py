"""Expiring sets beside other sets: of what lives only, with every kind of other side, on either side."""

import json
import operator
import time
from collections.abc import Callable, Iterator, MutableSet
from typing import Any

import pytest
import redis.asyncio

import redset.aio
from redset import ExpiringSet, SortedSet

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

TTL = 1000
FORMS: dict[str, Callable[..., set[str]]] = {
    "union": set.union,
    "intersection": set.intersection,
    "difference": set.difference,
    "symmetric_difference": set.symmetric_difference,
}
IN_PLACE: dict[str, Callable[..., Any]] = {
    "union_update": set.update,
    "intersection_update": set.intersection_update,
    "difference_update": set.difference_update,
    "symmetric_difference_update": set.symmetric_difference_update,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "equals": operator.eq,
    "issubset": operator.le,
    "issuperset": operator.ge,
    "isdisjoint": set.isdisjoint,
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name) for name in ("or_", "and_", "sub", "xor", "eq", "le", "ge", "lt", "gt")
}


def with_dead(raw: Any, made: Any, items: Any) -> Any:
    """Fills a set, and puts items into it that live no more: some that are on the other side, and one that is last."""
    dead = [f"{number:04}" for number in range(3000) if number % 3 == 0 and f"{number:04}" not in items]
    for start in range(0, len(dead), 500):
        raw.zadd(made.name, dict.fromkeys(dead[start : start + 500], time.time() - 1))
    if isinstance(items, set | list) and items:
        made.add_new(sorted(items))
    return made


def sorted_set(made: Any, items: Any) -> Any:
    made.update(items)
    return made


#: How the other side is made, given the client of the raw keys, the face, another client's face, and the items.
OTHERS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "a set": lambda raw, face, elsewhere, items: set(items),
    "a generator": lambda raw, face, elsewhere, items: (item for item in items),
    "beside": lambda raw, face, elsewhere, items: with_dead(raw, face.ExpiringSet("other", TTL), items),
    "elsewhere": lambda raw, face, elsewhere, items: with_dead(raw, elsewhere.ExpiringSet("other", TTL), items),
    "sorted": lambda raw, face, elsewhere, items: sorted_set(face.SortedSet("other"), items),
    "otherwise serialized": lambda raw, face, elsewhere, items: sorted_set(
        face.SortedSet("other", serializer=json), items
    ),
}


@pytest.fixture
def elsewhere(face: Any) -> Iterator[Any]:
    with face.another() as other:
        yield other


@pytest.fixture
def make_other(request: Any, raw: Any, face: Any, elsewhere: Any) -> Callable[[Any], Any]:
    return lambda items: request.param(raw, face, elsewhere, items)


each_other = pytest.mark.parametrize("make_other", OTHERS.values(), ids=OTHERS.keys(), indirect=True)
CASES = [
    (range(5), range(3, 8)),
    (range(3), ()),
    ((), range(3)),
    (range(3), range(3)),
    (range(1, 3), range(5)),
    (range(2100), range(900, 3000)),
]


def words(numbers: Any) -> set[str]:
    return {f"{number:04}" for number in numbers}


def filled(face: Any, raw: Any, numbers: Any) -> Any:
    for name in "seen", "other":
        raw.delete(name)
    return with_dead(raw, face.ExpiringSet("seen", TTL), words(numbers))


@pytest.mark.parametrize("form", FORMS)
@each_other
def test_what_makes_a_new_set_is_as_of_a_set(face: Any, raw: Any, form: str, make_other: Any) -> None:
    for ours, theirs in CASES:
        seen = filled(face, raw, ours)
        made = getattr(seen, form)(make_other(words(theirs)))

        assert made == FORMS[form](words(ours), words(theirs)), (ours, theirs)
        assert type(made) is set


@pytest.mark.parametrize("form", COMPARISONS)
@each_other
def test_comparisons_are_as_of_a_set(face: Any, raw: Any, form: str, make_other: Any) -> None:
    for ours, theirs in CASES:
        seen = filled(face, raw, ours)

        made = getattr(seen, form)(make_other(words(theirs)))
        assert made is COMPARISONS[form](words(ours), words(theirs)), (ours, theirs)


@pytest.mark.parametrize("form", IN_PLACE)
@each_other
def test_what_changes_in_place_is_as_of_a_set(face: Any, raw: Any, form: str, make_other: Any) -> None:
    for ours, theirs in CASES:
        seen, expected = filled(face, raw, ours), words(ours)
        getattr(seen, form)(make_other(words(theirs)))
        IN_PLACE[form](expected, words(theirs))

        assert seen.copy() == expected, (ours, theirs)


@pytest.mark.parametrize("form", FORMS)
def test_a_sorted_set_beside_an_expiring_one(face: Any, raw: Any, form: str) -> None:
    for ours, theirs in CASES:
        for name in "jobs", "seen":
            raw.delete(name)
        jobs = sorted_set(face.SortedSet("jobs"), words(ours))
        seen = with_dead(raw, face.ExpiringSet("seen", TTL), words(theirs))

        assert getattr(jobs, form)(seen) == FORMS[form](words(ours), words(theirs)), (ours, theirs)
        assert jobs.equals(seen) is (words(ours) == words(theirs))
        assert jobs.issuperset(seen) is (words(ours) >= words(theirs))


def test_what_is_here_keeps_its_time_and_what_is_new_gets_that_of_the_set(face: Any) -> None:
    seen = face.ExpiringSet("seen", TTL)
    seen.add("a", ttl=10)
    seen.union_update(["a", "b"])

    assert 0 < seen.ttl("a") <= 10
    assert TTL - 60 < seen.ttl("b") <= TTL


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_a_set(raw: Any, name: str) -> None:
    operate = OPERATORS[name]
    seen = ExpiringSet(raw, "seen", TTL)
    for ours, theirs in CASES[:5]:
        filled(redset_face(raw), raw, ours)

        assert operate(seen, words(theirs)) == operate(words(ours), words(theirs)), (ours, theirs)
        assert operate(words(theirs), seen) == operate(words(theirs), words(ours)), (ours, theirs)


def redset_face(raw: Any) -> Any:
    class Here:
        @staticmethod
        def ExpiringSet(name: str, ttl: float) -> Any:  # noqa: N802 # as the class is called
            return ExpiringSet(raw, name, ttl)

    return Here


def test_operators_work_in_place(raw: Any) -> None:
    seen: Any = ExpiringSet(raw, "seen", TTL)
    same = seen
    seen |= {"a", "b", "c"}
    seen &= {"a", "b", "x"}
    seen -= {"a"}
    seen ^= {"b", "y"}

    assert seen is same
    assert seen == {"y"}


def test_it_is_a_mutable_set(raw: Any) -> None:
    seen = ExpiringSet(raw, "seen", TTL)

    assert isinstance(seen, MutableSet)
    own = {name for name in dir(MutableSet) if callable(getattr(MutableSet, name)) and name in vars(MutableSet)}
    assert all(getattr(ExpiringSet, name) is not getattr(MutableSet, name) for name in own if name[0] != "_")
    with pytest.raises(TypeError, match="unhashable"):
        hash(seen)
    with pytest.raises(TypeError, match="cannot be pickled"):
        seen.__reduce_ex__(2)


# Where only hashes are kept


@pytest.fixture
def hashes(face: Any) -> Any:
    seen = face.ExpiringSet("seen", TTL, digest=True)
    seen.add_new(["a", "b", "c"])
    return seen


def contents(hashes: Any) -> list[str]:
    return [item for item in "abcdefgh" if hashes.contains(item)]


ASKED: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "intersection": (lambda hashes, other: hashes.intersection(other), {"b", "c"}),
    "isdisjoint": (lambda hashes, other: hashes.isdisjoint(other), False),
    "issuperset": (lambda hashes, other: hashes.issuperset(other), False),
    "union_update": (lambda hashes, other: hashes.union_update(other) or contents(hashes), list("abcd")),
    "difference_update": (lambda hashes, other: hashes.difference_update(other) or contents(hashes), ["a"]),
    "symmetric_difference_update": (
        lambda hashes, other: hashes.symmetric_difference_update(other) or contents(hashes),
        ["a", "d"],
    ),
}


@pytest.mark.parametrize("ask", ASKED)
@each_other
def test_a_set_of_hashes_does_what_needs_none_of_its_items(hashes: Any, ask: str, make_other: Any) -> None:
    do, outcome = ASKED[ask]

    assert do(hashes, make_other({"b", "c", "d"})) == outcome


@pytest.mark.parametrize(
    "ask",
    [
        "union",
        "difference",
        "symmetric_difference",
        "equals",
        "issubset",
        "intersection_update",
        "copy",
    ],
)
@pytest.mark.parametrize("make_other", [OTHERS["a set"], OTHERS["beside"]], ids=["a set", "beside"], indirect=True)
def test_and_nothing_else(hashes: Any, ask: str, make_other: Any) -> None:
    with pytest.raises(TypeError, match="keeps only a hash of each item"):
        getattr(hashes, ask)(*([] if ask == "copy" else [make_other({"b"})]))
    assert contents(hashes) == ["a", "b", "c"]


def test_a_set_of_hashes_on_the_other_side(face: Any, hashes: Any) -> None:
    jobs = sorted_set(face.SortedSet("jobs"), ["b", "d"])

    assert jobs.difference(hashes) == {"d"}
    assert jobs.intersection(hashes) == {"b"}
    assert jobs.issubset(hashes) is jobs.equals(hashes) is False
    for ask in jobs.union, jobs.union_update, jobs.symmetric_difference, jobs.difference_update:
        with pytest.raises(TypeError, match="keeps only a hash"):
            ask(hashes)
    jobs.intersection_update(hashes)
    assert list(jobs) == ["b"]


def test_operators_of_a_set_of_hashes(raw: Any) -> None:
    hashes = ExpiringSet(raw, "seen", TTL, digest=True)
    hashes |= ["a", "b", "c"]
    hashes -= ["a"]

    assert {"a", "b"} - hashes == {"a"}
    assert {"a", "b"} & hashes == {"b"}
    assert hashes >= {"b"}
    assert hashes > {"b"}
    with pytest.raises(TypeError, match="keeps only a hash"):
        {"a"} | hashes


def test_both_faces_do_not_mix(raw: Any) -> None:
    with pytest.raises(TypeError, match="make both with the same face"):
        SortedSet(raw, "jobs").union(redset.aio.ExpiringSet(redis.asyncio.Redis(), "seen", TTL))  # type: ignore[arg-type] # it says so
