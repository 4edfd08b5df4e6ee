"""Operators and named forms that change the set: what they leave, and that nothing that stays is touched."""

import itertools
import json
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_set_operators import OTHERS, JSONTuples, delete, filled, words

from redset import Key, SortedSet
from redset.exceptions import LeaseLost

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

FORMS: dict[str, Callable[[set[str], set[str]], set[str]]] = {
    "union_update": operator.or_,
    "intersection_update": operator.and_,
    "difference_update": operator.sub,
    "symmetric_difference_update": operator.xor,
}
OPERATORS: dict[str, Any] = dict(zip(FORMS, (operator.ior, operator.iand, operator.isub, operator.ixor), strict=True))

each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def make_other(request: Any, face: Any) -> Iterator[Callable[[Any], Any]]:
    with face.another() as elsewhere:
        yield lambda items: request.param(face, elsewhere, items)


@each_form
@pytest.mark.parametrize("make_other", OTHERS.values(), ids=OTHERS.keys(), indirect=True)
def test_named_forms_are_those_of_a_set(face: Any, form: str, make_other: Callable[[Any], Any], raw: Any) -> None:
    for ours, theirs in [(range(5), range(3, 8)), (range(3), ()), ((), range(3)), (range(2100), range(900, 3000))]:
        delete(raw, "jobs", "other")
        jobs = filled(face.SortedSet("jobs", scorer=len), words(*ours))
        assert getattr(jobs, form)(make_other(words(*theirs))) is None

        expected = FORMS[form](words(*ours), words(*theirs))
        assert raw.zrange("jobs", 0, -1, withscores=True) == [(word.encode(), 4) for word in sorted(expected)]


@settings(max_examples=15)
@given(
    ours=st.dictionaries(st.integers(0, 9), st.integers(1, 3)),
    others=st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=3),
    beside=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_what_stays_keeps_its_score(face: Any, raw: Any, ours: Any, others: Any, beside: Any) -> None:
    for form, expected in FORMS.items():
        delete(raw, "jobs", "o0", "o1", "o2")
        jobs, scores = face.SortedSet("jobs"), {str(number): score for number, score in ours.items()}
        jobs.update(ours, score=ours.get)
        made = [filled(face.SortedSet(f"o{n}"), o) if beside[n] else o for n, o in enumerate(others)]
        if form == "symmetric_difference_update":
            made, given_ = (made or [[]])[:1], (others or [[]])[:1]
        else:
            given_ = others
        getattr(jobs, form)(*made)

        left = set(scores)
        for items in given_:
            left = expected(left, set(map(str, items)))
        assert {item.decode(): score for item, score in raw.zrange("jobs", 0, -1, withscores=True)} == {
            item: scores.get(item, 0) for item in left
        }


@each_form
def test_operators_are_the_named_forms(raw: Any, form: str) -> None:
    for other in set("bcd"), frozenset("bcd"), ["b", "c", "d", "d"], "bcd", filled(SortedSet(raw, "other"), "bcd"):
        raw.delete("jobs")
        jobs = same = filled(SortedSet(raw, "jobs"), "abc")
        jobs = OPERATORS[form](jobs, other)

        assert jobs is same
        assert set(jobs) == FORMS[form](set("abc"), set("bcd"))


@each_form
@pytest.mark.parametrize("other", [1, None, len], ids=repr)
def test_they_refuse_what_is_no_iterable(face: Any, raw: Any, form: str, other: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        OPERATORS[form](SortedSet(raw, "jobs"), other)
    with pytest.raises(TypeError, match="iterable"):
        getattr(face.SortedSet("jobs"), form)(other)


@each_form
def test_a_set_on_itself(face: Any, form: str, raw: Any) -> None:
    for other in face.SortedSet("jobs"), face.TimeSortedSet("jobs"), face.SortedSet("jobs", serializer=Copied()):
        raw.delete("jobs")
        jobs = filled(face.SortedSet("jobs"), words(*range(2345)))
        getattr(jobs, form)(other)

        assert set(jobs) == FORMS[form](words(*range(2345)), words(*range(2345)))


class Copied:
    """Stores what a set without a serializer does, which nobody can know."""

    def dumps(self, item: Any) -> str:
        return str(item)

    def loads(self, stored: Any) -> Any:
        return str(stored)


@each_form
def test_a_set_on_itself_by_operators(raw: Any, form: str) -> None:
    jobs = filled(SortedSet(raw, "jobs"), words(*range(1500)))
    jobs = OPERATORS[form](jobs, jobs)

    assert set(jobs) == FORMS[form](words(*range(1500)), words(*range(1500)))


@each_form
def test_what_is_made_of_the_set_itself_comes_to_an_end(raw: Any, form: str) -> None:
    """Each of them changes what is iterated over; on a time-stamped set all that is new comes last."""
    from redset import TimeSortedSet

    jobs: Any = TimeSortedSet(raw, "jobs")
    jobs.update(words(*range(1500)), score=float)
    getattr(jobs, form)(item + "+" if number % 2 else item for number, item in enumerate(jobs))

    kept = {word for number, word in enumerate(sorted(words(*range(1500)))) if number % 2 == 0}
    new = {word + "+" for word in words(*range(1500)) - kept}
    assert set(jobs) == FORMS[form](words(*range(1500)), kept | new)


# What they touch


def test_adding_leaves_alone_what_waits(face: Any) -> None:
    rows = face.SortedSet("rows", serializer=JSONTuples(), key=lambda row: row[0], scorer=lambda row: row[1])
    rows.update([("a", 1), ("b", 1)])

    rows.union_update([("b", 2), ("c", 2)])
    assert list(rows) == [("a", 1), ("b", 1), ("c", 2)]
    rows.symmetric_difference_update([("c", 3), ("d", 3), ("d", 4)])
    assert list(rows) == [("a", 1), ("b", 1), ("d", 3)]
    assert rows.score(Key("d")) == 3


def test_a_scorer_sees_the_item_as_it_was_given(face: Any) -> None:
    seen: list[Any] = []

    def scorer(item: Any) -> float:
        seen.append(item)
        return 7

    jobs = face.SortedSet("jobs", scorer)
    jobs.union_update([1])
    jobs.symmetric_difference_update([2])
    jobs.union_update(filled(face.SortedSet("other"), [3]))

    assert seen == [1, 2, "3"]
    assert jobs.scores("123") == [7, 7, 7]


@pytest.mark.parametrize("form", ["union_update", "symmetric_difference_update"])
def test_items_are_scored_in_their_order(face: Any, form: str) -> None:
    scores = itertools.count()
    jobs = face.SortedSet("jobs", scorer=lambda item: next(scores))
    getattr(jobs, form)("zebra")

    assert list(jobs) == ["z", "e", "b", "r", "a"]


@pytest.mark.parametrize("where", ["beside", "on another client"])
def test_values_come_along_from_another_keyed_set(face: Any, where: str, raw: Any) -> None:
    def key(row: Any) -> Any:
        return row[0]

    serializer = JSONTuples()
    with face.another() as elsewhere:
        rows = filled(face.SortedSet("rows", serializer=serializer, key=key), [("a", 1)])
        maker = face if where == "beside" else elsewhere
        others = filled(maker.SortedSet("others", serializer=serializer, key=key), [("a", 2), ("b", 2)])
        rows.union_update(others)
        assert list(rows) == [("a", 1), ("b", 2)]
        rows.symmetric_difference_update(others)
        assert list(rows) == []
        assert raw.hgetall("{rows}:values") == {}
        rows.symmetric_difference_update(others)
        assert list(rows) == [("a", 2), ("b", 2)]


@pytest.mark.parametrize("beside", [False, True])
def test_difference_update_discards_what_is_leased(face: Any, beside: bool) -> None:
    jobs = filled(face.SortedSet("jobs"), "abc")
    held = jobs.reserve()
    jobs.difference_update(filled(face.SortedSet("other"), "ab") if beside else "ab")

    assert list(jobs) == ["c"]
    assert jobs.stats().leased == 0
    with pytest.raises(LeaseLost):
        held.ack()


@pytest.mark.parametrize("beside", [False, True])
def test_the_other_forms_are_about_what_waits(face: Any, beside: bool) -> None:
    jobs = filled(face.SortedSet("jobs"), "abc")
    held = jobs.reserve()
    other = filled(face.SortedSet("other"), "bc") if beside else "bc"
    jobs.intersection_update(other)

    assert list(jobs) == ["b", "c"]
    jobs.symmetric_difference_update(other)
    assert list(jobs) == []
    held.again()
    assert list(jobs) == ["a"]


def test_what_was_done_is_not_added_again(face: Any) -> None:
    seen = face.SortedSet("seen", remember=3600)
    seen.add("a"), seen.pop()
    seen.union_update("ab")

    assert list(seen) == ["b"]


def test_items_that_cannot_be_hashed_do(face: Any) -> None:
    lists = face.SortedSet("lists", serializer=json)

    lists.union_update([[1], [2], [3]])
    lists.difference_update([[1]])
    lists.intersection_update([[2], [3], [4]])
    lists.symmetric_difference_update([[3], [5], [5]])
    assert list(lists) == [[2], [5]]


# What cannot be stored, and what goes wrong


def test_what_is_refused_is_not_there_to_be_removed(face: Any) -> None:
    numbers = filled(face.SortedSet("numbers", serializer=json), [1, 2, 3])

    numbers.difference_update([{1}, 1])
    numbers.intersection_update([{1}, 2])
    assert list(numbers) == [2]


@pytest.mark.parametrize("form", ["union_update", "symmetric_difference_update"])
def test_what_is_refused_cannot_be_added(face: Any, form: str) -> None:
    numbers = filled(face.SortedSet("numbers", serializer=json), [1])

    with pytest.raises(TypeError, match="JSON"):
        getattr(numbers, form)([2, {1}])
    with pytest.raises(TypeError, match="can be looked up but not added"):
        getattr(numbers, form)([Key("2")])
    assert list(numbers) == [1]


@pytest.mark.parametrize("form", ["union_update", "difference_update", "symmetric_difference_update"])
def test_what_an_iterable_raises_passes_through_with_a_note(face: Any, form: str) -> None:
    error = RuntimeError("it broke")

    def broken() -> Iterator[str]:
        yield from sorted(words(*range(2500)))
        raise error

    with pytest.raises(RuntimeError) as raised:
        getattr(filled(face.SortedSet("jobs"), "abc"), form)(broken())
    assert raised.value is error
    assert "2000 items" in raised.value.__notes__[0]


def test_an_intersection_with_what_breaks_changes_nothing(face: Any) -> None:
    def broken() -> Iterator[str]:
        yield from sorted(words(*range(2500)))
        raise RuntimeError

    jobs = filled(face.SortedSet("jobs"), "abc")
    with pytest.raises(RuntimeError):
        jobs.intersection_update(broken())
    assert list(jobs) == ["a", "b", "c"]


def test_an_iterable_is_not_read_ahead(face: Any, raw: Any) -> None:
    """A chunk at a time, so that any number of items takes little memory."""
    numbers = itertools.count()
    seen: list[int] = []

    def watched() -> Iterator[int]:
        for number in itertools.islice(numbers, 3000):
            seen.append(raw.zcard("jobs"))
            yield number

    face.SortedSet("jobs").union_update(watched())
    assert seen == [0] * 1000 + [1000] * 1000 + [2000] * 1000
