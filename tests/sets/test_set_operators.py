"""Operators and named forms that make a new set: against those of a plain set, with every kind of other side."""

import asyncio
import json
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

import redset.aio
from redset import Key, SortedSet
from redset.exceptions import DeserializationError
from redset.serializers import JSONSerializer

pytestmark = pytest.mark.conformance

FORMS: dict[str, Callable[..., set[str]]] = {
    "union": set.union,
    "intersection": set.intersection,
    "difference": set.difference,
    "symmetric_difference": set.symmetric_difference,
}
OPERATORS = dict(zip(FORMS, (operator.or_, operator.and_, operator.sub, operator.xor), strict=True))

#: How the other side is made, given the face, another client's face, and the items.
OTHERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a set": lambda face, elsewhere, items: set(items),
    "a list": lambda face, elsewhere, items: list(items) * 2,
    "a generator": lambda face, elsewhere, items: (item for item in items),
    "beside": lambda face, elsewhere, items: filled(face.SortedSet("other"), items),
    "of another kind": lambda face, elsewhere, items: filled(face.TimeSortedSet("other"), items),
    "on another client": lambda face, elsewhere, items: filled(elsewhere.SortedSet("other"), items),
    "of another serializer": lambda face, elsewhere, items: filled(face.SortedSet("other", serializer=json), items),
}


def filled(made: Any, items: Any) -> Any:
    made.update(items)
    return made


def delete(raw: Any, *names: str) -> None:
    """One by one, as they may be in as many slots of a cluster."""
    for name in names:
        raw.delete(name)


def words(*numbers: int) -> set[str]:
    return {f"{number:04}" for number in numbers}


@pytest.fixture
def elsewhere(face: Any) -> Iterator[Any]:
    with face.another() as other:
        yield other


@pytest.fixture
def make_other(request: Any, face: Any, elsewhere: Any) -> Callable[[Any], Any]:
    return lambda items: request.param(face, elsewhere, items)


each_form = pytest.mark.parametrize("form", FORMS)
each_other = pytest.mark.parametrize("make_other", OTHERS.values(), ids=OTHERS.keys(), indirect=True)


@each_form
@each_other
def test_named_forms_are_those_of_a_set(face: Any, form: str, make_other: Callable[[Any], Any], raw: Any) -> None:
    cases = [
        (range(5), range(3, 8)),
        (range(3), ()),
        ((), range(3)),
        (range(2), range(2)),
        (range(2100), range(900, 3000)),
    ]
    for ours, theirs in cases:
        delete(raw, "jobs", "other")
        jobs = filled(face.SortedSet("jobs"), words(*ours))
        made = getattr(jobs, form)(make_other(words(*theirs)))

        assert made == FORMS[form](words(*ours), words(*theirs)), (ours, theirs)
        assert type(made) is set


@settings(max_examples=15)
@given(
    ours=st.sets(st.integers(0, 9)),
    others=st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=3),
    kinds=st.lists(st.sampled_from(["list", "beside", "json"]), min_size=3, max_size=3),
)
def test_named_forms_take_any_number_of_others(face: Any, raw: Any, ours: Any, others: Any, kinds: Any) -> None:
    delete(raw, "jobs", "o0", "o1", "o2")
    jobs = filled(face.SortedSet("jobs"), ours)
    made = []
    for number, (kind, items) in enumerate(zip(kinds, others, strict=False)):
        options = {"serializer": json} if kind == "json" else {}
        made.append(items if kind == "list" else filled(face.SortedSet(f"o{number}", **options), items))

    for form in "union", "intersection", "difference":
        expected = FORMS[form](set(map(str, ours)), *(set(map(str, items)) for items in others))
        assert getattr(jobs, form)(*made) == expected


def test_copy_is_a_plain_set_of_all(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.update(words(*range(2345)))

    assert jobs.copy() == words(*range(2345))
    assert type(jobs.copy()) is set
    assert jobs.union() == jobs.intersection() == jobs.difference() == jobs.copy()


@each_form
def test_nothing_is_changed(face: Any, raw: Any, form: str) -> None:
    jobs, other = filled(face.SortedSet("jobs"), "abc"), filled(face.SortedSet("other"), "bcd")
    before = sorted(raw.keys()), raw.dump("jobs"), raw.dump("other")
    for theirs in other, "bcd", jobs:
        getattr(jobs, form)(theirs)

    assert (sorted(raw.keys()), raw.dump("jobs"), raw.dump("other")) == before


def test_a_set_beside_itself(face: Any) -> None:
    jobs = filled(face.SortedSet("jobs"), "abc")

    assert jobs.union(jobs) == jobs.intersection(jobs) == set("abc")
    assert jobs.difference(jobs) == jobs.symmetric_difference(jobs) == set()


# The rule of what is the same, and the form of what comes back


def test_results_come_in_stored_form(face: Any) -> None:
    numbers = filled(face.SortedSet("numbers"), [1, 2])

    assert numbers.difference({1}) == {"2"}
    assert numbers.intersection({1}) == {"1"}
    assert numbers.union({3, "1"}) == {"1", "2", "3"}
    assert numbers.symmetric_difference([2, "2", 3, "3"]) == {"1", "3"}


def test_the_left_side_says_what_is_the_same(face: Any) -> None:
    texts = filled(face.SortedSet("texts"), ["1"])
    numbers = filled(face.SortedSet("numbers", serializer=json), [1, 2])

    assert texts.intersection(numbers) == {"1"}
    assert numbers.intersection(texts) == set()
    assert texts.union(numbers) == {"1", "2"}
    assert numbers.union(texts) == {1, 2, "1"}


def test_an_item_comes_once_however_its_equals_are_written(face: Any) -> None:
    class Token:
        """Equal to nothing but itself, so a set would hold any number of them."""

    class Tokens:
        def dumps(self, item: Any) -> str:
            return "token"

        def loads(self, stored: Any) -> Token:
            return Token()

    tokens = face.SortedSet("tokens", serializer=Tokens())
    tokens.add(Token())

    assert len(tokens.union([Token(), Token()], [Token()])) == 1
    assert len(tokens.symmetric_difference([Token()])) == 0
    tokens.clear()
    assert len(tokens.symmetric_difference([Token(), Token()])) == 1


def test_keyed_sets_go_by_identity_and_give_the_newest_value(face: Any) -> None:
    def key(row: Any) -> Any:
        return row[0]

    rows = face.SortedSet("rows", serializer=JSONTuples(), key=key)
    rows.update([("a", 1), ("b", 1), ("b", 2)])

    assert rows.difference([("a", 9)]) == {("b", 2)}
    assert rows.intersection([("b", 9), Key("a")]) == {("a", 1), ("b", 2)}
    assert rows.union([("b", 9), ("c", 9)]) == {("a", 1), ("b", 2), ("c", 9)}
    assert rows.symmetric_difference([("b", 9), ("c", 9)]) == {("a", 1), ("c", 9)}


@pytest.mark.parametrize("where", ["beside", "on another client"])
def test_two_keyed_sets_go_by_identity(face: Any, elsewhere: Any, where: str, raw: Any) -> None:
    def key(row: Any) -> Any:
        return row[0]

    serializer = JSONTuples()
    rows = face.SortedSet("rows", serializer=serializer, key=key)
    rows.update([("a", 1), ("b", 1)])
    others = (face if where == "beside" else elsewhere).SortedSet("others", serializer=serializer, key=key)
    others.update([("b", 2), ("c", 2), ("d", 2), ("e", 2)])
    raw.zadd("others", {"of no value": 1})

    assert rows.intersection(others) == {("b", 1)}
    assert others.intersection(rows) == {("b", 2)}
    assert rows.difference(others) == {("a", 1)}
    assert rows.union(others) == {("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 2), "of no value"}
    assert rows.symmetric_difference(others) == {("a", 1), ("c", 2), ("d", 2), ("e", 2), "of no value"}


class JSONTuples:
    def dumps(self, item: Any) -> str:
        return json.dumps(item)

    def loads(self, stored: Any) -> Any:
        return tuple(json.loads(stored))


def test_an_item_that_is_refused_is_in_no_set(face: Any) -> None:
    numbers = filled(face.SortedSet("numbers", serializer=json), [1, 2])

    assert numbers.intersection([{1}, 1]) == {1}
    assert numbers.difference([{1}, 1]) == {2}
    assert numbers.difference([{1}]) == {1, 2}


def test_an_item_that_cannot_be_stored_cannot_be_in_a_result(face: Any) -> None:
    numbers = filled(face.SortedSet("numbers", serializer=json), [1, 2])

    for form in numbers.union, numbers.symmetric_difference:
        with pytest.raises(TypeError, match="JSON"):
            form([{1}])


def test_items_that_cannot_be_hashed_raise_as_in_a_set(face: Any) -> None:
    lists = filled(face.SortedSet("lists", serializer=json), [[1], [2]])

    for form in lists.copy, lambda: lists.union([]), lambda: lists.intersection([[1]]), lambda: lists.difference([]):
        with pytest.raises(TypeError, match="unhashable"):
            form()
    assert lists.difference([[1], [2]]) == set(), "nothing is left that would have to be hashed"


def test_what_cannot_be_loaded_raises(face: Any, raw: Any) -> None:
    numbers = filled(face.SortedSet("numbers", serializer=json), [1])
    raw.zadd("numbers", {"{": 1})

    with pytest.raises(DeserializationError):
        numbers.copy()
    assert numbers.intersection([1]) == {1}, "what is not wanted is not loaded"


# What is no other side


@pytest.mark.parametrize("form", [*FORMS, "issubset", "issuperset", "isdisjoint", "equals"])
def test_named_forms_need_an_iterable(face: Any, form: str) -> None:
    jobs = filled(face.SortedSet("jobs"), "abc")

    for no_iterable in 1, None, len:
        with pytest.raises(TypeError, match="iterable"):
            getattr(jobs, form)(no_iterable)


@each_form
def test_what_an_iterable_raises_passes_through(face: Any, form: str) -> None:
    error = RuntimeError("it broke")

    def broken() -> Iterator[str]:
        yield from words(*range(2500))
        raise error

    with pytest.raises(RuntimeError) as raised:
        getattr(filled(face.SortedSet("jobs"), "abc"), form)(broken())
    assert raised.value is error


def test_the_sets_of_two_faces_cannot_be_combined(raw: Any) -> None:
    sync: Any = SortedSet(raw, "jobs")
    awaited: Any = redset.aio.SortedSet(redis.asyncio.Redis(), "jobs")

    for form in FORMS:
        with pytest.raises(TypeError, match=r"redset\.aio"):
            getattr(sync, form)(awaited)
    with pytest.raises(TypeError, match="block"):
        asyncio.run(awaited.union(sync))


def test_asyncio_sets_take_what_is_iterated_by_async_for(face: Any) -> None:
    if not hasattr(face, "loop"):
        pytest.skip("nothing is awaited here")

    async def given_later() -> Any:
        for word in sorted(words(*range(1500))):
            yield word

    jobs = filled(face.SortedSet("jobs"), words(0, 9999))
    assert jobs.difference(given_later()) == words(9999)
    assert len(jobs.union(given_later())) == 1501
    jobs.intersection_update(given_later())
    assert list(jobs) == ["0000"]


# Operators


@pytest.fixture
def jobs(raw: Any) -> SortedSet[str]:
    return filled(SortedSet(raw, "jobs"), "abc")  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", [set("bcd"), frozenset("bcd"), {"b": 1}.keys(), ["b", "c", "d"], "bcd"], ids=type)
def test_operators_take_any_iterable(jobs: Any, form: str, other: Any) -> None:
    made = OPERATORS[form](jobs, other)

    assert made == FORMS[form](set("abc"), set(other))
    assert type(made) is set


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", [set("bcd"), frozenset("bcd"), ["b", "c", "d"], "bcd"], ids=type)
def test_operators_work_from_the_right(jobs: Any, form: str, other: Any) -> None:
    made = OPERATORS[form](other, jobs)

    assert made == FORMS[form](set(other), set("abc"))
    assert type(made) is set


def test_results_from_the_right_are_in_stored_form_too(raw: Any) -> None:
    numbers = filled(SortedSet(raw, "numbers"), [1, 2])

    assert {2, 3} - numbers == {"3"}
    assert {2, 3} | numbers == {"1", "2", "3"}
    assert {2, 3} & numbers == {"2"}
    assert {2, 3} ^ numbers == {"1", "3"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", [1, None, len], ids=repr)
def test_operators_refuse_what_is_no_iterable(jobs: Any, form: str, other: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        OPERATORS[form](jobs, other)
    with pytest.raises(TypeError, match="unsupported operand"):
        OPERATORS[form](other, jobs)


@pytest.mark.parametrize("form", FORMS)
def test_an_asyncio_set_is_no_operand(jobs: Any, form: str) -> None:
    awaited: Any = redset.aio.SortedSet(redis.asyncio.Redis(), "jobs")

    for left, right in (jobs, awaited), (awaited, jobs), (awaited, {1}), ({1}, awaited):
        with pytest.raises(TypeError, match="unsupported operand"):
            OPERATORS[form](left, right)


def test_an_operator_leaves_to_the_other_side_what_it_does_not_know(jobs: Any) -> None:
    class Other:
        def __ror__(self, left: Any) -> str:
            return "its own"

    assert jobs | Other() == "its own"


def test_chains_go_on_as_plain_sets(jobs: Any, raw: Any) -> None:
    numbers = filled(SortedSet(raw, "numbers"), [1, 2, 3])

    assert jobs - {"a"} - {"b"} == {"c"}
    assert numbers - {1} - {2} == {"2", "3"}, "the second one is that of a plain set"


# On the server


def serializer_pairs() -> list[Any]:
    both = JSONSerializer()
    return [
        pytest.param(None, None, id="none"),
        pytest.param(json, json, id="json"),
        pytest.param(both, both, id="an object"),
    ]


@pytest.mark.parametrize(("one", "other"), serializer_pairs())
@pytest.mark.parametrize(
    ("form", "most"),
    [
        ("intersection", 3),
        ("difference", 3),
        ("issubset", 1),
        ("issuperset", 1),
        ("equals", 1),
        ("isdisjoint", 3),
        ("intersection_update", 3),
        ("difference_update", 3),
        ("union_update", 3),
    ],
)
def test_two_sets_beside_each_other_are_compared_on_the_server(
    face: Any, form: str, most: int, one: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that comes back is what makes a difference, of 1,500 items that are the same."""
    received = count_received(face, monkeypatch)
    jobs, others = face.SortedSet("{a}jobs", serializer=one), face.SortedSet("{a}other", serializer=other)
    jobs.update([f"same {number}" for number in range(1500)] + ["left"])
    others.update([f"same {number}" for number in range(1500)] + ["right"])
    if form in ("intersection", "difference_update", "isdisjoint"):
        others.clear()
        others.update([*map(str, range(1500)), "left"])
    received.clear()
    getattr(jobs, form)(others)

    assert received, "it was looked at"
    assert max(received) <= most, received


def count_received(face: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each reply holds, 0 for a number, that comes to sets which are made on this face from now on."""
    received: list[int] = []
    send = face.client.execute_command

    def counted(reply: Any) -> Any:
        items = reply[0] if isinstance(reply, list) and reply and isinstance(reply[0], list) else reply
        received.append(len(items) if isinstance(items, list) else 0)
        return reply

    def blocking(*words: Any, **options: Any) -> Any:
        return counted(send(*words, **options))

    async def awaiting(*words: Any, **options: Any) -> Any:
        return counted(await send(*words, **options))

    monkeypatch.setattr(face.client, "execute_command", awaiting if hasattr(face, "loop") else blocking)
    return received


def test_the_smaller_of_two_sets_is_paged(face: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.zadd("{a}jobs", {f"{number:05}": number for number in range(20_000)})
    received = count_received(face, monkeypatch)
    jobs, few = face.SortedSet("{a}jobs"), filled(face.SortedSet("{a}few"), ["00001", "x"])

    for look in (
        lambda: jobs.intersection(few) == few.intersection(jobs) == {"00001"},
        lambda: not jobs.isdisjoint(few) and not few.isdisjoint(jobs),
        lambda: not jobs.issubset(few) and not few.issubset(jobs),
        lambda: not jobs.issuperset(few) and not few.issuperset(jobs),
    ):
        assert look()
        received.clear()
        assert look()
        assert 2 <= len(received) <= 6, "to count both, and one page, each time"


def test_sets_in_two_slots_of_a_cluster_are_pulled(face: Any, raw: Any) -> None:
    """Anywhere else there is nothing to it."""
    near, far = words(*range(1200)), words(*range(900, 2100))
    for names in ("{a}x", "{a}y"), ("{a}x", "{b}y"), ("jobs", "other"):
        delete(raw, *names)
        jobs, others = filled(face.SortedSet(names[0]), near), filled(face.SortedSet(names[1]), far)

        for form, expected in FORMS.items():
            assert getattr(jobs, form)(others) == expected(near, far)
        assert not jobs.issubset(others)
        assert not jobs.issuperset(others)
        assert not jobs.equals(others)
        assert not jobs.isdisjoint(others)
        jobs.symmetric_difference_update(others)
        assert jobs.copy() == near ^ far
        jobs.difference_update(others)
        assert jobs.copy() == near - far
        jobs.union_update(others)
        assert jobs.copy() == near | far
        jobs.intersection_update(others)
        assert jobs.copy() == far
        assert jobs.equals(others)
