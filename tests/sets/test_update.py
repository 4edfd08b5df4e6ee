"""``update``: many items at once, in bounded chunks, from any iterable."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from conftest import CLIENT
from faces import Awaited
from redset import SortedSet
from redset.core.keys import Keys

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def names(count: int) -> list[str]:
    return [f"{number:05}" for number in range(count)]


class Broken(Exception):
    pass


def broken_after(count: int) -> Iterator[str]:
    yield from names(count)
    raise Broken("no more")


def note_of(error: BaseException) -> str:
    (note,) = error.__notes__
    return note


def test_the_items_of_all_iterables_are_added_and_those_counted_that_are_new(jobs: SortedSet[str]) -> None:
    jobs.add("b", score=1)

    assert jobs.update(["a", "b"], (name for name in "cab"), {"d": 1}, "ef") == 5
    assert sorted(jobs) == list("abcdef")
    assert jobs.update("abc") == 0


def test_a_leased_and_a_delayed_item_count_as_new_and_one_that_is_left_out_does_not(face: Any) -> None:
    jobs = face.SortedSet("jobs", remember=60)
    jobs.update(["leased", "delayed", "done", "dead"], score={"delayed": 1, "done": 2, "dead": 3, "leased": 4}.get)
    jobs.reserve().nack(delay=60)
    jobs.reserve().ack()
    jobs.reserve().bury()
    lease = jobs.reserve()

    assert lease.item == "leased"
    assert [jobs.update([item]) for item in ("leased", "delayed", "done", "dead")] == [1, 1, 0, 0]


def test_nothing_is_nothing(jobs: SortedSet[str], raw: Any) -> None:
    assert jobs.update() == jobs.update([], ()) == 0
    assert raw.dbsize() == 0


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_any_number_of_items_is_added(jobs: SortedSet[str], count: int) -> None:
    assert jobs.update(names(count), score=1) == count
    assert list(jobs) == names(count)
    assert jobs.update(names(count + 3), score=1) == 3


def test_what_comes_twice_counts_once_and_the_last_one_stands(face: Any) -> None:
    scores = iter(range(100))
    jobs = face.SortedSet("jobs", scorer=lambda item: next(scores))

    assert jobs.update(["a", "b", "a"]) == 2
    assert jobs.scores(["a", "b"]) == [2.0, 1.0]


def test_a_number_scores_all(jobs: SortedSet[str]) -> None:
    jobs.update(["a", "b"], score=0)

    assert jobs.scores(["a", "b"]) == [0.0, 0.0]


def test_a_callable_stands_in_for_the_scorer(face: Any) -> None:
    jobs = face.SortedSet("jobs", scorer=lambda item: 7, serializer=json)
    jobs.update([[1, 2], [3]], score=len)
    jobs.update([[4]])

    assert jobs.scores([[1, 2], [3], [4]]) == [2.0, 1.0, 7.0]


def test_items_that_are_no_str_are_stored_as_by_add(face: Any, raw: Any) -> None:
    face.SortedSet("jobs").update([1, b"\xff", "é", bytearray(b"x"), 2.5], score=1)

    assert set(raw.zrange("jobs", 0, -1)) == {b"1", b"\xff", "é".encode(), b"x", b"2.5"}


def test_a_str_of_another_class_is_stored_as_by_add(face: Any, raw: Any) -> None:
    class Loud(str):
        __slots__ = ()

        def __str__(self) -> str:
            return self.upper()

    jobs = face.SortedSet("jobs")
    jobs.add(Loud("a"), score=1)
    assert jobs.update([Loud("a"), Loud("b")], score=1) == 1
    assert raw.zrange("jobs", 0, -1) == [b"A", b"B"]


@pytest.mark.parametrize("score", [Fraction(1, 4), 2**53 + 1, float("inf"), -0.0], ids=repr)
def test_scores_are_those_of_add(jobs: SortedSet[str], score: float) -> None:
    jobs.update(["a", "b"], score=lambda item: score)

    assert jobs.scores(["a", "b"]) == [float(score), float(score)]


@pytest.mark.parametrize(
    "wrong", ["7", float("nan"), 10**400, [1], True], ids=["str", "nan", "too large", "list", "bool"]
)
def test_a_wrong_score_is_refused_before_anything_is_sent(face: Any, raw: Any, wrong: Any) -> None:
    jobs = face.SortedSet("jobs")
    with pytest.raises((TypeError, ValueError)):
        jobs.update(["a", "b"], score=wrong)
    with pytest.raises((TypeError, ValueError), match="'b'"):
        jobs.update(["a", "b"], score=lambda item: wrong if item == "b" else 1)

    assert raw.dbsize() == 0


def test_what_is_done_or_dead_is_left_out_of_a_set_that_remembers(face: Any) -> None:
    jobs = face.SortedSet("jobs", remember=1000)
    jobs.update(["a", "b", "c"], score=1)
    assert jobs.pop() == "a"
    jobs.reserve().bury()

    assert jobs.update(["a", "b", "c", "d", "d", "a"], score=2) == 1
    assert list(jobs) == ["c", "d"]
    assert jobs.update(["a", "b"]) == 0


def test_one_chunk_is_held_at_a_time(jobs: SortedSet[str], raw: Any) -> None:
    ahead = []

    def watched() -> Iterator[str]:
        for number, name in enumerate(names(4500)):
            ahead.append(number - raw.zcard("jobs") if number % 100 == 0 else 0)
            yield name

    assert jobs.update(watched()) == 4500
    assert max(ahead) < 1000


def test_an_error_of_an_iterable_passes_through_with_a_note_of_how_far_it_came(jobs: SortedSet[str]) -> None:
    jobs.add("00007")

    with pytest.raises(Broken, match="no more") as raised:
        jobs.update(broken_after(2300))

    assert len(jobs) == 2000, "the chunk in hand is not sent"
    assert "2000 items" in note_of(raised.value)
    assert "1999 of them new" in note_of(raised.value)
    assert "'jobs'" in note_of(raised.value)


def test_an_iterable_that_fails_at_once(jobs: SortedSet[str]) -> None:
    with pytest.raises(Broken) as raised:
        jobs.update(["a"], broken_after(0))
    assert "0 items" in note_of(raised.value) or "1 items" in note_of(raised.value)

    with pytest.raises(TypeError):
        jobs.update(["a"], 7)  # type: ignore[arg-type]


def test_so_do_errors_of_the_scorer_and_of_the_serializer(face: Any) -> None:
    def scorer(item: Any) -> float:
        if item == 1500:
            raise Broken("of the scorer")
        return 1

    with pytest.raises(Broken) as raised:
        face.SortedSet("jobs", scorer=scorer, serializer=json).update(range(1700))
    assert "1000 items" in note_of(raised.value)

    with pytest.raises(TypeError) as refused:
        face.SortedSet("others", serializer=json).update(itertools.chain(range(1100), [{1}]))
    assert "1000 items" in note_of(refused.value)


def test_a_set_can_be_updated_with_itself(face: Any) -> None:
    times = itertools.count(1e9)
    jobs = face.TimeSortedSet("jobs", scorer=lambda item: next(times))
    assert jobs.update(names(1500)) == 1500

    assert jobs.update(jobs) == 0
    assert list(jobs) == names(1500)
    assert jobs.peek_score() >= 1e9 + 1500
    assert jobs.update(jobs, jobs) == 0
    assert len(jobs) == 1500


def test_asyncio_takes_asynchronous_iterables_too(here: Any) -> None:
    async def letters(last: object = None) -> AsyncIterator[str]:
        for name in names(2300):
            yield name
        if last:
            raise Broken(last)

    face = Awaited(here, CLIENT)
    jobs = face.SortedSet("jobs")

    assert jobs.update(["a", "b"], letters(), "c") == 2303
    with pytest.raises(Broken) as raised:
        jobs.update(["d"], letters("no more"))
    assert "2001 items" in note_of(raised.value)
    assert "1 of them new" in note_of(raised.value)
    face.close()


def test_a_chunk_is_one_round_trip(jobs: SortedSet[str], raw: Any) -> None:
    jobs.update(["x"])
    if not hasattr(raw, "config_resetstat"):
        pytest.skip("no statistics")
    try:
        raw.config_resetstat()
        assert jobs.update(names(3000)) == 3000
        stats = raw.info("commandstats")
        calls = stats["cmdstat_evalsha"]["calls"]
    except Exception as error:
        pytest.skip(f"the statistics of a single server are looked at: {error}")
    assert calls == 3


@pytest.mark.parametrize("options", [{}, {"duplicates": "keep"}, {"remember": 10}], ids=str)
def test_whoever_waits_is_woken_by_whatever_adds(face: Any, raw: Any, options: dict[str, Any]) -> None:
    jobs, keys = face.SortedSet("jobs", **options), Keys("jobs")
    adders: list[Callable[[], Any]] = [
        lambda: jobs.update(["a", "b"]),
        lambda: jobs.add("c", 1, nx=True),
        lambda: jobs.increment("d", 1),
    ]
    for add in adders:
        raw.zadd(keys.looks, {"another": -1e10})
        raw.delete(keys.wake)
        add()
        assert raw.llen(keys.wake) == 1
