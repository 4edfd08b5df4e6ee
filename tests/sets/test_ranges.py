"""Ranges of scores: counting, reading and removing them, against a sorted list."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import CLIENT
from faces import Awaited
from invariants import KeyedRawSet
from redset import Key, SortedSet
from redset.core.keys import Keys
from redset.exceptions import DeserializationError, WrongTypeError

pytestmark = pytest.mark.conformance

#: More than two pages.
MANY = 2345


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs")


def names(*numbers: int) -> list[str]:
    return [f"{number:05}" for number in numbers]


def fill(raw: Any, numbers: range, score: float | None = None) -> None:
    raw.zadd("jobs", {f"{number:05}": number if score is None else score for number in numbers})


def within(bounds: dict[str, Any], score: float) -> bool:
    low, high = bounds.get("min"), bounds.get("max")
    includes_low, includes_high = bounds.get("inclusive", (True, True))
    above = low is None or score > low or (includes_low and score == low)
    below = high is None or score < high or (includes_high and score == high)
    return above and below


scores = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 0.1 + 0.2, 1.0, 2.0, 1e300, math.inf])
some_bounds = st.fixed_dictionaries(
    {}, optional={"min": scores, "max": scores, "inclusive": st.tuples(st.booleans(), st.booleans())}
)


@given(
    items=st.dictionaries(st.sampled_from("abcdefé\n"), scores), bounds=some_bounds, limit=st.none() | st.integers(0, 5)
)
def test_ranges_are_those_of_a_sorted_list(
    raw: Any, items: dict[str, float], bounds: dict[str, Any], limit: int | None
) -> None:
    raw.flushall()
    jobs: SortedSet[str] = SortedSet(raw, "jobs")
    for item, score in items.items():
        jobs.add(item, score)
    ordered = sorted(items, key=lambda item: (items[item], item.encode()))
    inside = [item for item in ordered if within(bounds, items[item])]

    assert jobs.count(**bounds) == len(inside)
    assert list(jobs.between(**bounds)) == inside
    assert list(jobs.between(**bounds, reverse=True)) == inside[::-1]
    assert list(jobs.between(**bounds, limit=limit)) == inside[:limit]
    assert list(jobs.between(**bounds, limit=limit, reverse=True)) == inside[::-1][:limit]
    assert list(jobs.with_scores()) == [(item, items[item]) for item in ordered]
    assert list(reversed(jobs)) == ordered[::-1]
    assert [jobs.index(item) for item in ordered] == list(range(len(ordered)))

    assert jobs.remove_between(**bounds) == len(inside)
    assert list(jobs) == [item for item in ordered if item not in inside]


def test_the_bounds_of_between_may_be_given_by_position(jobs: Any, raw: Any) -> None:
    fill(raw, range(5))

    assert list(jobs.between(1, 3)) == names(1, 2, 3)
    assert list(jobs.between(3)) == names(3, 4)
    assert list(jobs.between(3, 1)) == []
    assert list(jobs.between(3, 1, reverse=True)) == []
    assert jobs.remove_between(1, 3) == 3
    assert list(jobs) == names(0, 4)


def test_all_see_what_is_not_due(face: Any) -> None:
    jobs = face.ScheduledSet("jobs")
    jobs.add("now", score=1), jobs.add("later", score=2**40)

    assert list(jobs.between(1)) == ["now", "later"]
    assert list(jobs.reversed()) == ["later", "now"]
    assert list(jobs.with_scores()) == [("now", 1.0), ("later", 2.0**40)]
    assert jobs.index("later") == 1
    assert jobs.count(min=2) == 1
    assert jobs.remove_between(2) == 1


READERS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "between": (lambda jobs: jobs.between(), False),
    "between, in reverse": (lambda jobs: jobs.between(reverse=True), True),
    "with a limit": (lambda jobs: jobs.between(limit=10**9), False),
    "reversed": (lambda jobs: jobs.reversed(), True),
    "with_scores": (lambda jobs: (item for item, _ in jobs.with_scores()), False),
}

each_reader = pytest.mark.parametrize(("read", "reverse"), READERS.values(), ids=READERS.keys())
each_score = pytest.mark.parametrize("score", [None, 0.1 + 0.2], ids=["scores differ", "one score"])


@pytest.mark.no_cover
@each_score
@each_reader
def test_many_pages_are_read_whole(
    face: Any, raw: Any, read: Callable[[Any], Any], reverse: bool, score: float | None
) -> None:
    jobs = face.SortedSet("jobs")
    for there in 0, 1000, 1001, MANY:
        raw.delete("jobs")
        if there:
            fill(raw, range(there), score)
        assert list(read(jobs)) == names(*range(there))[:: -1 if reverse else 1]


@pytest.mark.no_cover
@each_score
@each_reader
def test_what_stays_is_read_once_whatever_others_do(
    face: Any, raw: Any, read: Callable[[Any], Any], reverse: bool, score: float | None
) -> None:
    """Between any two pages items come, go and move: behind, before, and where the reading stands."""
    jobs = face.SortedSet("jobs")
    fill(raw, range(0, 2 * MANY, 2), score)
    seen = []
    for item in read(jobs):
        seen.append(item)
        if len(seen) % 500 == 0:
            near = int(item) - int(item) % 4
            raw.zrem("jobs", *names(*range(0, 40, 4), *range(near - 40, near + 80, 4)))
            raw.zadd("jobs", dict.fromkeys(names(near + 1, near + 3, 1, 3, 2 * MANY + 1), 7))
            raw.zadd("jobs", dict.fromkeys(names(near + 4, 8), -1))

    staying = names(*range(2, 2 * MANY, 4))
    assert [item for item in seen if int(item) % 4 == 2] == staying[:: -1 if reverse else 1]


@each_reader
def test_reading_ends_however_fast_others_add(face: Any, raw: Any, read: Callable[[Any], Any], reverse: bool) -> None:
    jobs = face.SortedSet("jobs")
    fill(raw, range(MANY))
    seen = []
    for number, item in enumerate(itertools.islice(read(jobs), 2 * MANY), start=MANY):
        seen.append(item)
        raw.zadd("jobs", {f"{number:05}": -number if reverse else number})

    assert len(seen) == MANY


def test_between_ends_at_the_last_item_within_its_bounds(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    fill(raw, range(MANY))
    items = jobs.between(100, 1500)
    seen = [next(items)]
    raw.zadd("jobs", {"later": 1500, "no more": 1501})
    raw.zrem("jobs", "01500", "02000")
    seen += items

    assert seen == names(*range(100, 1500))


def test_nothing_is_asked_before_the_first_item_is(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    iterators = [jobs.between(1, 1), jobs.reversed(), jobs.with_scores()]
    raw.zadd("jobs", {"a": 1})

    assert [list(each) for each in iterators] == [["a"], ["a"], [("a", 1.0)]]


def test_a_limit_is_kept(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    fill(raw, range(MANY))

    for limit in 0, 1, 999, 1000, 1001, 2000, 2001, MANY, MANY + 1:
        assert list(jobs.between(limit=limit)) == names(*range(min(limit, MANY)))


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"limit": 1.5}, {"inclusive": True}, {"inclusive": (True,)}], ids=str)
def test_wrong_options_are_refused(face: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        list(face.SortedSet("jobs").between(**wrong))


@pytest.mark.parametrize("bound", ["1", "(2", math.nan, []], ids=repr)
def test_bounds_that_are_no_scores_are_refused_with_their_name(face: Any, bound: Any) -> None:
    jobs = face.SortedSet("jobs")
    for ask in jobs.count, jobs.remove_between, lambda **bounds: list(jobs.between(**bounds)):
        for name in "min", "max":
            with pytest.raises((TypeError, ValueError), match=name):
                ask(**{name: bound})


def test_items_of_any_bytes_are_read(face: Any, raw: Any) -> None:
    """Pages come as lines where no item has an end of line in it, and otherwise not."""
    jobs = face.SortedSet("jobs")
    for items in [b""], [b"", b"a"], [b"\xff"], [b"\xff", "é".encode()], [b"\n"], [b"", b"\n", b"a\nb", b"c"]:
        raw.delete("jobs")
        raw.zadd("jobs", dict.fromkeys(items, 1))
        stored = [item if isinstance(item, bytes) else item.encode() for item in jobs]
        assert stored == sorted(items)


@pytest.mark.parametrize("dumps", [json.dumps, lambda item: json.dumps(item).encode()], ids=["text", "bytes"])
def test_a_serializer_loads_what_it_dumps(face: Any, raw: Any, dumps: Callable[[Any], Any]) -> None:
    class Serializer:
        def dumps(self, item: Any) -> Any:
            return dumps(item)

        def loads(self, stored: Any) -> Any:
            assert isinstance(stored, type(dumps(1)))
            return json.loads(stored)

    jobs = face.SortedSet("jobs", serializer=Serializer())
    jobs.update([[1], [2, "x\ny"], {}], score=len)

    assert list(jobs) == [{}, [1], [2, "x\ny"]]
    assert list(jobs.with_scores()) == [({}, 0.0), ([1], 1.0), ([2, "x\ny"], 2.0)]


def test_what_cannot_be_loaded_is_an_error_that_carries_the_bytes(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs", serializer=json)
    raw.zadd("jobs", {b"1": 1, b"{": 2})

    for read in iter, lambda jobs: jobs.reversed(), lambda jobs: jobs.with_scores(), lambda jobs: jobs.between():
        with pytest.raises(DeserializationError) as raised:
            list(read(jobs))
        assert raised.value.raw == b"{"


def test_a_key_of_another_type_is_named(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    raw.set("jobs", "text")
    for ask in (
        lambda: list(jobs.reversed()),
        lambda: list(jobs.with_scores()),
        lambda: jobs.remove_between(),
        lambda: jobs.remove_at(0),
        lambda: jobs.remove_slice(),
        lambda: jobs.index("a"),
    ):
        with pytest.raises(WrongTypeError, match="jobs"):
            ask()
    assert raw.get("jobs") == b"text"


# Keyed sets


@pytest.fixture
def pages(face: Any) -> Any:
    return face.SortedSet("jobs", serializer=json, key=lambda page: page["url"])


def test_values_are_read_with_their_identities(pages: Any, raw: Any) -> None:
    made = [{"url": f"{number:05}", "text": "\n" * (number % 3)} for number in range(MANY)]
    pages.update(made, score=lambda page: int(page["url"]))

    assert list(pages) == made
    assert list(pages.reversed()) == made[::-1]
    assert list(pages.with_scores()) == [(page, float(number)) for number, page in enumerate(made)]
    assert list(pages.between(1000, 1100)) == made[1000:1101]
    assert pages.index(Key("00007")) == 7
    raw.hdel(Keys("jobs").values, "00001")
    assert list(itertools.islice(pages.with_scores(), 2)) == [(made[0], 0.0), ("00001", 1.0)]


CUTS: dict[str, Callable[[Any], Any]] = {
    "remove_between": lambda pages: pages.remove_between(1, 4),
    "remove_slice": lambda pages: pages.remove_slice(0, 4),
    "remove_at": lambda pages: [pages.remove_at(0) for _ in range(4)],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_what_is_removed_from_waiting_leaves_what_else_there_is(
    pages: Any, raw: Any, cut: Callable[[Any], Any]
) -> None:
    """Of an item that is leased, or dead, only the waiting addition goes; of one that failed before, all."""
    for url in "abcd":
        pages.add({"url": url, "version": 1}, score=1)
    held = pages.reserve()
    pages.reserve().bury()
    pages.reserve().nack(delay=0)
    for score, url in enumerate("abcd", start=1):
        pages.add({"url": url, "version": 2}, score=score)
    pages.add({"url": "e"}, score=5)
    stored = KeyedRawSet(raw, "jobs")
    assert stored.fields("deliveries").keys() == {b"a", b"c"}

    cut(pages)

    stored.check(frozenset())
    assert list(pages) == [{"url": "e"}]
    assert stored.fields("deliveries").keys() == {b"a"}
    assert [pages.get(Key(url)) is not None for url in "abcde"] == [True, True, False, False, True]
    held.ack()
    assert pages.get(Key("a")) is None
    stored.check(frozenset())


def test_a_lease_outlives_the_removal_of_what_waits(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("a", 1)
    held = jobs.reserve()
    jobs.add("a", 2), jobs.add("b", 3)

    assert jobs.remove_between() == 2
    assert jobs.stats().leased == 1
    held.nack(delay=0)
    assert jobs.reserve().attempt == 2
    KeyedRawSet(raw, "jobs").check()


def test_more_is_removed_than_one_call_takes(face: Any, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    fill(raw, range(MANY))
    assert jobs.remove_between(100, 2200, inclusive=(False, True)) == 2100
    assert list(jobs) == names(*range(101), *range(2201, MANY))
    raw.delete("jobs")
    fill(raw, range(MANY), score=1)
    assert jobs.remove_between(1, 1) == MANY
    assert raw.exists("jobs") == 0


# Large sets: where scores differ, pages are marked ahead by scores


def many_scores(number: int) -> float:
    return float(number)


def scores_of_three(number: int) -> float:
    return float(number // 3)


def long_runs(number: int) -> float:
    """Runs of one score that are longer than a page, between scores that differ."""
    return float(number - number % 7000 if number % 7000 < 4500 else number)


SHAPES = pytest.mark.parametrize(
    "score_of", [many_scores, scores_of_three, long_runs], ids=lambda shape: shape.__name__
)

LARGE = 15_000


def fill_large(raw: Any, score_of: Callable[[int], float]) -> None:
    for start in range(0, 4 * LARGE, 4000):
        raw.zadd("jobs", {f"{number:05}": score_of(number) for number in range(start, min(start + 4000, 4 * LARGE), 4)})


@SHAPES
@each_reader
def test_large_sets_are_read_whole(raw: Any, read: Callable[[Any], Any], reverse: bool, score_of: Any) -> None:
    fill_large(raw, score_of)

    assert list(read(SortedSet(raw, "jobs"))) == names(*range(0, 4 * LARGE, 4))[:: -1 if reverse else 1]


@SHAPES
@each_reader
def test_what_stays_in_a_large_set_is_read_once(
    raw: Any, read: Callable[[Any], Any], reverse: bool, score_of: Any
) -> None:
    fill_large(raw, score_of)
    seen = []
    for item in read(SortedSet(raw, "jobs")):
        seen.append(item)
        if len(seen) % 900 == 0:
            at = int(item[:5])
            near = at - at % 8
            chosen = [number for number in range(near - 12_000, near + 12_000, 24) if 0 <= number < 4 * LARGE]
            raw.zrem("jobs", item if at % 8 == 0 else "none", *names(*chosen[::2]))
            raw.zadd("jobs", {f"{number:05}": score_of(near) for number in chosen[1::2]})
            raw.zadd("jobs", {f"{number:05}x": score_of(number) for number in chosen})

    staying = names(*range(4, 4 * LARGE, 8))
    assert [item for item in seen if len(item) == 5 and int(item) % 8 == 4] == staying[:: -1 if reverse else 1]


@each_reader
def test_more_may_come_between_two_marks_than_a_page_holds(raw: Any, read: Callable[[Any], Any], reverse: bool) -> None:
    fill_large(raw, many_scores)
    items = read(SortedSet(raw, "jobs"))
    seen = [next(items)]
    for start in range(0, 20_000, 5000):
        raw.zadd("jobs", {f"new {number}": 30_000 + number / 10**6 for number in range(start, start + 5000)})
    seen += items

    old = [item for item in seen if not item.startswith("new")]
    assert old == names(*range(0, 4 * LARGE, 4))[:: -1 if reverse else 1]
    assert len(seen) == len(set(seen)) == LARGE + 20_000


def test_a_large_set_may_be_cleared_meanwhile(raw: Any) -> None:
    fill_large(raw, many_scores)
    items = iter(SortedSet(raw, "jobs"))
    next(items)
    raw.delete("jobs")

    assert len(list(items)) == 999


def test_asyncio_reads_large_sets_too(here: Any, raw: Any) -> None:
    fill_large(raw, many_scores)
    face = Awaited(here, CLIENT)
    jobs = face.SortedSet("jobs")

    async def all_of(iterator: Any) -> list[Any]:
        return [item async for item in iterator]

    assert face.run(all_of(jobs._original)) == names(*range(0, 4 * LARGE, 4))
    scored = face.run(all_of(jobs._original.with_scores()))
    assert scored == [(name, float(name)) for name in names(*range(0, 4 * LARGE, 4))]
    face.close()
