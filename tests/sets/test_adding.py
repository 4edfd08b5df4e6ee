"""Adding: what becomes of an item that waits already, which scores there are, and what is refused before it is sent."""

import json
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redset import Key, SortedSet

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def test_an_added_item_waits_under_the_name_of_the_set(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("write", score=2)

    assert raw.zrange("jobs", 0, -1, withscores=True) == [(b"write", 2.0)]


def test_what_stands_in_for_an_item_is_not_added_in_its_place(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs")
    periodic, seen = face.PeriodicSet("jobs", interval=60), face.ExpiringSet("jobs", 60)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: jobs.add(Key("write"), score=1),
        lambda: jobs.update(["read", Key("write")], score=1),
        lambda: jobs.increment(Key("write"), 1),
        lambda: periodic.add(Key("write")),
        lambda: periodic.update([Key("write")]),
        lambda: seen.add(Key("write")),
        lambda: seen.add_new([Key("write")]),
    )
    for add in calls:
        with pytest.raises(TypeError, match="can be looked up but not added"):
            add()

    assert raw.exists("jobs") == 0


def test_adding_an_item_twice_leaves_one_item(jobs: SortedSet[str]) -> None:
    jobs.add("write")
    jobs.add("write")

    assert len(jobs) == 1


def test_adding_an_item_that_waits_gives_it_the_new_score(jobs: SortedSet[str]) -> None:
    jobs.add("write", score=1)
    jobs.add("read", score=2)
    jobs.add("write", score=3)

    assert jobs.take(9) == ["read", "write"]


def test_an_item_that_was_taken_can_be_added_again(jobs: SortedSet[str]) -> None:
    jobs.add("write", score=1)
    jobs.pop()
    jobs.add("write", score=1)

    assert jobs.pop() == "write"


def test_add_returns_the_score(jobs: SortedSet[str]) -> None:
    assert jobs.add("write", score=2.5) == 2.5
    assert jobs.add("write", 3) == 3
    assert jobs.add("write") == jobs.score("write")


# Scores


def test_without_a_scorer_the_score_is_0(face: Any) -> None:
    assert face.SortedSet("jobs").add("write") == 0


@pytest.mark.parametrize("kind", ["TimeSortedSet", "ScheduledSet"])
def test_without_a_scorer_the_score_of_a_timed_set_is_the_time(face: Any, kind: str) -> None:
    before = time.time()
    score = getattr(face, kind)("jobs").add("write")

    assert before <= score <= time.time()


def test_the_scorer_sees_the_item_before_serialization(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", scorer=lambda job: job["priority"], serializer=json)

    assert jobs.add({"priority": 7}) == 7
    assert jobs.score({"priority": 7}) == 7


def test_an_explicit_score_wins_over_the_scorer(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", scorer=lambda job: 5)

    assert jobs.add("write", score=0) == 0
    assert jobs.add("read", score=9) == 9


def test_the_scorer_is_not_asked_when_there_is_a_score(face: Any, kind: str) -> None:
    def fails(job: str) -> float:
        raise AssertionError("asked")

    assert getattr(face, kind)("jobs", scorer=fails).add("write", score=1) == 1


@settings(max_examples=20)
@given(
    score=st.floats(allow_nan=False)
    | st.integers(min_value=-(2**63), max_value=2**63)
    # Timestamps, to the microsecond.
    | st.integers(min_value=0, max_value=2**32 * 10**6).map(lambda microseconds: microseconds / 10**6)
)
@example(0)
@example(-0.0)
@example(float("inf"))
@example(float("-inf"))
@example(5e-324)
@example(2.2250738585072014e-308)
@example(1.7976931348623157e308)
@example(0.1 + 0.2)
@example(2**53 + 1)
@example(2**63)
@example(1732423423.123457)
def test_a_score_comes_back_equal_through_every_path(face: Any, kind: str, score: float) -> None:
    jobs = getattr(face, kind)("jobs")
    expected = float(score)

    assert jobs.add("write", score) == expected
    assert jobs.score("write") == expected
    assert jobs.count(min=score, max=score) == 1
    if kind != "ScheduledSet":
        assert jobs.peek_score() == expected


@settings(max_examples=20)
@given(times=st.lists(st.integers(min_value=0, max_value=2**30 * 10**6), min_size=2, max_size=5, unique=True))
def test_times_that_differ_by_microseconds_keep_their_order(face: Any, kind: str, times: list[int]) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.clear()
    for microseconds in times:
        jobs.add(str(microseconds), score=microseconds / 10**6)

    assert jobs.take(len(times)) == [str(microseconds) for microseconds in sorted(times)]


@pytest.mark.parametrize("score", [7, Fraction(1, 4)], ids=repr)
def test_whatever_is_a_real_number_is_a_score(jobs: SortedSet[str], score: Any) -> None:
    assert jobs.add("write", score) == float(score)


@pytest.mark.parametrize("score", ["7", b"7", "", [], 1j, Decimal(1), object, True, False], ids=repr)
def test_what_is_no_number_is_refused_with_the_item_and_the_score(jobs: SortedSet[str], raw: Any, score: Any) -> None:
    with pytest.raises(TypeError) as raised:
        jobs.add("write", score)

    assert repr("write") in str(raised.value)
    assert repr(score) in str(raised.value)
    assert raw.dbsize() == 0


@pytest.mark.parametrize("score", [float("nan"), 10**400], ids=["nan", "10**400"])
def test_a_number_that_no_score_can_be_is_refused_with_the_item(jobs: SortedSet[str], raw: Any, score: float) -> None:
    with pytest.raises(ValueError, match="'write'"):
        jobs.add("write", score)

    assert raw.dbsize() == 0


@pytest.mark.parametrize("said", [None, "7", float("nan")], ids=repr)
def test_a_wrong_score_of_the_scorer_is_refused_with_the_item(face: Any, kind: str, raw: Any, said: Any) -> None:
    jobs = getattr(face, kind)("jobs", scorer=lambda job: said)

    with pytest.raises((TypeError, ValueError)) as raised:
        jobs.add("write")

    assert repr("write") in str(raised.value)
    assert repr(said) in str(raised.value)
    assert raw.dbsize() == 0


def test_what_the_scorer_raises_passes_through(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", scorer=lambda job: job["priority"], serializer=json)

    with pytest.raises(KeyError, match="priority"):
        jobs.add({})

    assert raw.dbsize() == 0


# Items


@pytest.mark.parametrize("item", [7, 2.5, ("a", 1), "", "\0", "naïve ☃", " x "], ids=repr)
def test_without_a_serializer_an_item_is_stored_as_its_str_and_comes_back_as_str(
    jobs: SortedSet[Any], raw: Any, item: Any
) -> None:
    jobs.add(item, score=1)

    assert raw.zrange("jobs", 0, -1) == [str(item).encode()]
    assert item in jobs
    assert jobs.pop() == str(item)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes_are_stored_as_they_are(jobs: SortedSet[Any], raw: Any, wrap: Callable[[bytes], Any]) -> None:
    jobs.add(wrap(b"\xff\x00\x80"), score=1)

    assert raw.zrange("jobs", 0, -1) == [b"\xff\x00\x80"]
    assert jobs.pop() == b"\xff\x00\x80"


def test_bytes_that_are_text_are_the_same_item_as_the_text(jobs: SortedSet[Any]) -> None:
    jobs.add(b"write", score=1)
    jobs.add("write", score=2)

    assert len(jobs) == 1
    assert jobs.pop() == "write"


@settings(max_examples=20)
@given(item=st.binary(max_size=50))
@example(b"")
@example(b"\r\n")
@example(b"\xc3\x28")
def test_any_bytes_survive(face: Any, kind: str, item: bytes) -> None:
    jobs = getattr(face, kind)("jobs", serializer=AsBytes())
    jobs.add(item, score=1)

    assert item in jobs
    assert jobs.peek() == jobs[0] == jobs[-1] == item
    assert list(jobs) == jobs[:] == [item]
    assert jobs.pop() == item


@settings(max_examples=20)
@given(item=st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_any_text_survives(face: Any, kind: str, item: str) -> None:
    jobs = getattr(face, kind)("jobs")
    jobs.add(item, score=1)

    assert jobs.score(item) == 1
    assert list(jobs) == [item]
    assert jobs.pop() == item


class AsBytes:
    """A serializer of bytes, as the compact binary formats are."""

    def dumps(self, item: bytes) -> bytes:
        return item

    def loads(self, stored: bytes) -> bytes:
        assert isinstance(stored, bytes)
        return stored


@pytest.mark.parametrize("dumps", [json.dumps, lambda item: json.dumps(item).encode()], ids=["str", "bytes"])
def test_a_serializer_may_return_str_or_bytes(face: Any, kind: str, raw: Any, dumps: Any) -> None:
    class Serializer:
        loads = staticmethod(json.loads)

    Serializer.dumps = staticmethod(dumps)  # type: ignore[attr-defined]
    jobs = getattr(face, kind)("jobs", serializer=Serializer())
    jobs.add({"naïve": "☃"}, score=1)

    assert raw.zrange("jobs", 0, -1) == [json.dumps({"naïve": "☃"}).encode()]
    assert jobs.pop() == {"naïve": "☃"}


def test_what_a_serializer_refuses_raises_its_own_error_before_anything_is_sent(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)

    with pytest.raises(TypeError, match="not JSON serializable"):
        jobs.add({1, 2})

    assert raw.dbsize() == 0


def test_a_serializer_that_returns_neither_str_nor_bytes_is_refused(face: Any, kind: str, raw: Any) -> None:
    class Identity:
        def dumps(self, item: Any) -> Any:
            return item

        def loads(self, stored: Any) -> Any:
            return stored

    with pytest.raises(TypeError, match="7"):
        getattr(face, kind)("jobs", serializer=Identity()).add(7)

    assert raw.dbsize() == 0


def test_an_item_of_a_megabyte_survives(jobs: SortedSet[str]) -> None:
    large = "x" * 2**20
    jobs.add(large, score=1)

    assert jobs.pop() == large


# The clocks


def test_a_timed_set_moves_an_item_that_is_added_again_to_the_back(face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = face.TimeSortedSet("jobs")
    for now, job in (100, "write"), (101, "read"), (102, "write"):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        jobs.add(job)
    monkeypatch.undo()

    assert jobs.take(9) == ["read", "write"]
