"""What a serializer, a scorer, a key or an item of the user raises ends no list early, and loses no item."""

import json
from numbers import Real
from typing import Any

import pytest

from faces import Face
from invariants import RawSet
from redset import Key
from redset.core.items import Items
from redset.exceptions import DeserializationError

ERRORS = [StopIteration, StopAsyncIteration, RuntimeError, LookupError]

pytestmark = pytest.mark.conformance


@pytest.fixture
def state(raw: Any) -> RawSet:
    return RawSet(raw, "jobs")


class Silent(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise StopIteration


class Picky:
    """Raises for one item, which it is given among others."""

    def __init__(self, error: Any, *, loads: bool = False, dumps: bool = False) -> None:
        self.error = error
        self.refuses_loads = loads
        self.refuses_dumps = dumps

    def dumps(self, item: Any) -> str:
        if self.refuses_dumps and item == "b":
            raise self.error
        return json.dumps(item)

    def loads(self, stored: Any) -> Any:
        item = json.loads(stored)
        if self.refuses_loads and item == "b":
            raise self.error
        return item


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("error", [*ERRORS, Silent])
def test_an_item_that_loads_refuses_becomes_a_dead_letter_and_the_rest_comes(
    face: Face, error: type[Exception], keyed: bool, raw: Any
) -> None:
    options: dict[str, Any] = {"key": lambda item: item} if keyed else {}
    for take in ("take", "reserve_many", "pop", "consume"):
        jobs = face.SortedSet("jobs", serializer=Picky(error, loads=True), **options)
        jobs.update("abcd", score=1)
        if take == "pop":
            got = [jobs.pop() for _ in range(3)]
        elif take == "consume":
            got = [reservation.item for reservation in jobs.consume(batch=4, wait=0)]
        else:
            got = [getattr(one, "item", one) for one in getattr(jobs, take)(4)]

        assert got == ["a", "c", "d"]
        (letter,) = jobs.dead_letters
        assert letter.raw == b'"b"'
        assert letter.item is None
        assert letter.reason.startswith(error.__name__)
        raw.flushall()


@pytest.mark.parametrize("error", [*ERRORS, Silent])
def test_an_item_that_loads_refuses_is_an_error_where_it_is_looked_at(face: Face, error: type[Exception]) -> None:
    jobs = face.SortedSet("jobs", serializer=Picky(error, loads=True))
    jobs.update("abcd", score=1)

    for look in (
        list,
        lambda jobs: jobs[:],
        lambda jobs: jobs.peek(1),
        lambda jobs: list(jobs.reversed()),
        lambda jobs: list(jobs.with_scores()),
        lambda jobs: jobs.copy(),
        lambda jobs: jobs.union("x"),
    ):
        with pytest.raises(DeserializationError, match=error.__name__):
            look(jobs)
    assert len(jobs) == 4


@pytest.mark.parametrize("error", ERRORS)
def test_an_item_of_an_expiring_set_that_loads_refuses(face: Face, error: type[Exception]) -> None:
    seen = face.ExpiringSet("seen", 60, serializer=Picky(error, loads=True))
    seen.add_new("abcd")

    with pytest.raises(DeserializationError, match=error.__name__):
        list(seen)
    assert len(seen) == 4


def refused(face: Face, call: Any, error: type[Exception]) -> None:
    """The error as it is, or where Python or redset must not let it out, one that names it."""
    with pytest.raises(Exception) as caught:
        call()
    if caught.type is not error:
        assert error is StopIteration
        assert caught.type is RuntimeError
        assert "StopIteration" in str(caught.value)


def fail(error: type[Exception]) -> Any:
    def failing(item: Any) -> Any:
        if item == "b":
            raise error
        return item if isinstance(item, str) else 1

    return failing


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["dumps", "scorer", "key", "score", "str", "number"])
def test_an_error_of_a_callable_while_items_are_added_leaves_all_of_them_out(
    face: Face, what: str, error: type[Exception], state: RawSet
) -> None:
    class Bad:
        def __str__(self) -> str:
            raise error

        def __float__(self) -> float:
            raise error

    scorer = fail(error)
    every: dict[str, dict[str, Any]] = {
        "dumps": {"serializer": Picky(error, dumps=True)},
        "scorer": {"scorer": lambda item: scorer(item) and 1},
        "key": {"key": fail(error)},
    }
    jobs = face.SortedSet("jobs", **every.get(what, {}))
    items = ["a", Bad() if what == "str" else "b", "c", "d"]
    options: dict[str, Any] = {"score": (lambda item: scorer(item) and 1)} if what == "score" else {}
    if what == "number":
        Real.register(Bad)
        options = {"score": lambda item: Bad() if item == "b" else 1}

    refused(face, lambda: jobs.update(items, **options), error)
    assert state.scores("waiting") == {}
    if what in ("dumps", "scorer", "key", "str"):
        refused(face, lambda: jobs.add(items[1]), error)
    assert state.scores("waiting") == {}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_a_callable_of_a_periodic_set_leaves_all_items_out(
    face: Face, error: type[Exception], state: RawSet
) -> None:
    feeds = face.PeriodicSet("jobs", 60)
    failing = fail(error)

    for options in ({"interval": lambda item: failing(item) and 1}, {"first": lambda item: failing(item) and 1}):
        refused(face, lambda options=options: feeds.update("abcd", **options), error)
    refused(face, lambda: face.PeriodicSet("jobs", 60, scorer=lambda item: failing(item) and 1).add("b"), error)
    assert state.scores("waiting") == {}


@pytest.mark.parametrize("error", ERRORS)
def test_an_iterable_that_cannot_be_begun_adds_nothing(face: Face, error: type[Exception], state: RawSet) -> None:
    class Endless:
        def __iter__(self) -> Any:
            raise error

    jobs = face.SortedSet("jobs")
    refused(face, lambda: jobs.update("ab", Endless(), "c"), error)
    refused(face, lambda: jobs.union_update("ab", Endless(), "c"), error)


@pytest.mark.parametrize("error", ERRORS)
def test_an_item_that_dumps_refuses_is_not_in_the_set(face: Face, error: type[Exception]) -> None:
    jobs = face.SortedSet("jobs", serializer=Picky(error, dumps=True))
    jobs.update("ac", score=1)

    assert jobs.contains_many("abcb") == [True, False, True, False]
    assert not jobs.contains("b")
    assert jobs.issuperset("ac")
    assert not jobs.issuperset("abc")


def test_a_serializer_that_cannot_be_compared_is_that_of_one_set_only(face: Face) -> None:
    class Odd:
        def __call__(self, item: Any) -> str:
            return str(item)

        def __eq__(self, other: object) -> bool:
            raise StopIteration

        __hash__ = None  # type: ignore[assignment]

    class Serializer:
        def __init__(self) -> None:
            self.dumps, self.loads = Odd(), Odd()

    ours, theirs = face.SortedSet("a", serializer=Serializer()), face.SortedSet("b", serializer=Serializer())
    ours.update("xy")
    theirs.update("yz")
    assert ours.intersection(theirs) == {"y"}


class Versioned:
    """Makes bytes, and says what is wrong with anything else by another error than TypeError."""

    def dumps(self, item: str) -> bytes:
        return b"v1" + item.encode()

    def loads(self, stored: Any) -> str:
        if stored[:2] != b"v1":
            raise ValueError("not of version 1")
        text: str = stored[2:].decode()
        return text


def test_a_process_that_only_takes_loads_what_needs_bytes(face: Face) -> None:
    face.SortedSet("jobs", serializer=Versioned()).update("abc", score=1)

    assert face.SortedSet("jobs", serializer=Versioned()).take(3) == ["a", "b", "c"]


def test_what_needs_bytes_and_is_broken_dies(face: Face, raw: Any) -> None:
    raw.zadd("jobs", {"v2a": 1, "v1b": 2})
    jobs = face.SortedSet("jobs", serializer=Versioned())

    assert jobs.take(2) == ["b"]
    (letter,) = jobs.dead_letters
    assert (letter.raw, letter.reason) == (b"v2a", "ValueError: not of version 1")


def test_what_makes_both_forms_is_given_both() -> None:
    class Both:
        def dumps(self, item: Any) -> Any:
            return b"b" + item.encode() if item == "bytes" else "s" + item

        def loads(self, stored: Any) -> Any:
            prefix: Any = "s" if isinstance(stored, str) else b"b"
            if not stored.startswith(prefix):
                raise ValueError("the wrong form")
            return stored[1:] if isinstance(stored, str) else stored[1:].decode()

    for last in ("bytes", "str"):
        items: Items[Any] = Items("jobs", Both(), None)
        stored = items.dump_all(["str", "bytes", last])
        assert items.load_all(stored, None) == (["str", "bytes", last], {})


def test_what_comes_back_as_it_went_in_is_not_loaded(face: Face, raw: Any) -> None:
    class Refusing:
        dumps = staticmethod(str)

        def loads(self, stored: Any) -> Any:
            if stored == "b":
                raise ValueError("refused")
            return stored

    raw.zadd("jobs", {"a": 1, "b": 2})
    jobs = face.SortedSet("jobs", serializer=Refusing())
    assert jobs.take(2) == ["a"]
    assert [letter.raw for letter in jobs.dead_letters] == [b"b"]


def test_a_key_whose_identity_raises(face: Face) -> None:
    class Bad:
        def __str__(self) -> str:
            raise StopIteration

    jobs = face.SortedSet("jobs")
    refused(face, lambda: jobs.discard(Key(Bad())), StopIteration)
    assert not jobs.contains(Key(Bad()))
