"""Dead letters are read, retried and deleted. test_attempts.py tests which items die."""

import json
from typing import Any

import pytest

from invariants import RawSet
from redset import DeadLetter, SortedSet
from servers import server_time

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs", max_attempts=3)


@pytest.fixture
def repaired(face: Any, kind: str, raw: Any) -> Any:
    """A set that can load the item ``{broken``, which is dead since another object of the set could not load it."""
    raw.zadd("jobs", {"{broken": 1})
    assert getattr(face, kind)("jobs", serializer=json).reserve_many(1) == []
    return getattr(face, kind)("jobs")


def die(jobs: SortedSet[Any], *items: str, score: float = 1) -> None:
    for item in items:
        jobs.add(item, score=score)
        jobs.reserve().bury(f"{item} is no good")


# Looking


def test_a_dead_letter_has_what_is_known_of_the_item(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("read", score=1732423423.123457)
    jobs.reserve().nack(delay=0)
    before = server_time(raw)

    jobs.reserve().bury("two words\nin two lines")

    (letter,) = jobs.dead_letters
    assert isinstance(letter, DeadLetter)
    assert (letter.item, letter.raw) == ("read", b"read")
    assert letter.reason == "two words\nin two lines"
    assert (letter.attempts, letter.score) == (2, 1732423423.123457)
    assert before - 1 <= letter.died_at <= server_time(raw) + 1


def test_the_newest_letters_come_first(jobs: SortedSet[str]) -> None:
    die(jobs, "a", "b", "c")

    assert [letter.item for letter in jobs.dead_letters] == ["c", "b", "a"]
    assert len(jobs.dead_letters) == 3


def test_slices_are_those_of_a_list(jobs: SortedSet[str]) -> None:
    die(jobs, "a", "b", "c", "d", "e")
    everything = list("edcba")
    places = [None, -7, -5, -2, -1, 0, 1, 3, 5, 7]

    for start in places:
        for stop in places:
            found = [letter.item for letter in jobs.dead_letters[start:stop]]
            assert found == everything[start:stop], f"[{start}:{stop}]"


def test_thousands_are_iterated(jobs: SortedSet[str], raw: Any) -> None:
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(2345)})
    for _ in range(3):
        assert jobs.nack(jobs.reserve_many(2345), delay=0) == []

    assert len(jobs.dead_letters) == 2345
    assert sorted(str(letter.item) for letter in jobs.dead_letters) == [f"{i:04}" for i in range(2345)]


def make_letters(raw: Any, count: int, *, at_once: bool = False, values: bool = False) -> list[str]:
    """Write dead letters, each a second after the one before or all at one time. Return them newest first."""
    names = [f"{number:05}" for number in range(count)]
    for start in range(0, count, 1000):
        some = names[start : start + 1000]
        raw.zadd("{jobs}:dead", {name: 1e9 if at_once else 1e9 + int(name) for name in some})
        raw.hset("{jobs}:letters", mapping=dict.fromkeys(some, "1 5 no good"))
        if values:
            raw.hset("{jobs}:values", mapping={name: f'"{name}"' for name in some})
    return names[::-1]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("end", ["retry", "discard"])
def test_each_is_iterated_once_while_they_are_retried_or_forgotten(
    jobs: SortedSet[str], raw: Any, end: str, at_once: bool
) -> None:
    names = make_letters(raw, 2500, at_once=at_once)

    met = []
    for letter in jobs.dead_letters:
        met.append(letter.item)
        if len(met) % 7:
            assert getattr(jobs.dead_letters, end)(letter)

    assert met == names
    assert len(jobs.dead_letters) == 2500 // 7


def test_those_that_die_meanwhile_do_not_shift_the_others(jobs: SortedSet[str], raw: Any) -> None:
    names = make_letters(raw, 2100)

    met = []
    for letter in jobs.dead_letters:
        met.append(letter.item)
        if len(met) % 300 == 0:
            die(jobs, f"new {len(met)}")

    assert met == names


def test_an_iteration_yields_a_letter_once_though_its_item_dies_again(jobs: SortedSet[str], raw: Any) -> None:
    names = make_letters(raw, 1100)

    met = []
    for letter in jobs.dead_letters:
        met.append(letter.item)
        if len(met) in (1, 500, 1000):
            assert jobs.dead_letters.retry(letter)
            jobs.reserve().bury("again")

    assert met == names


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
def test_iteration_ends_wherever_a_page_does(jobs: SortedSet[str], raw: Any, count: int) -> None:
    names = make_letters(raw, count)

    assert [letter.item for letter in jobs.dead_letters] == names


def test_thousands_of_a_keyed_set_are_sliced_and_iterated(face: Any, raw: Any) -> None:
    names = make_letters(raw, 9000, values=True)
    jobs = face.SortedSet("jobs", serializer=json, key=str)

    assert [letter.item for letter in jobs.dead_letters[:]] == names
    assert [letter.item for letter in jobs.dead_letters] == names
    assert [letter.item for letter in jobs.dead_letters[8500:8503]] == names[8500:8503]


def test_all_are_kept_unless_there_is_a_bound(face: Any, kind: str, raw: Any) -> None:
    make_letters(raw, 10_500)
    jobs = getattr(face, kind)("jobs")
    die(jobs, "one", "more")

    assert len(jobs.dead_letters) == 10_502


def test_why_items_died_is_logged(face: Any, caplog: Any) -> None:
    jobs = face.SortedSet("jobs", max_attempts=1, max_dead=2)
    jobs.update("abc", score=1)
    first, second, third = jobs.reserve_many(3)
    first.bury()
    second.nack()
    third.bury()

    assert [record.getMessage() for record in caplog.records] == [
        "jobs: moved to the dead letters, buried: 1",
        "jobs: moved to the dead letters, after their last attempt: 1",
        "jobs: moved to the dead letters, buried: 1",
        "jobs: too many dead letters, the oldest were dropped: 1",
    ]


# Bringing back


def test_one_that_is_retried_waits_again_as_if_new(jobs: SortedSet[str], raw: Any) -> None:
    die(jobs, "read", score=5)

    assert jobs.dead_letters.retry("read") is True

    assert len(jobs.dead_letters) == 0
    assert jobs.score("read") == 5.0
    assert jobs.reserve().attempt == 1
    RawSet(raw, "jobs").check()


def test_one_that_is_retried_dies_again_after_as_many_attempts(jobs: SortedSet[str]) -> None:
    die(jobs, "read")
    jobs.dead_letters.retry("read")

    for _ in range(3):
        assert len(jobs.dead_letters) == 0
        jobs.reserve().nack(delay=0)

    assert [letter.attempts for letter in jobs.dead_letters] == [3]


def test_an_item_that_is_not_dead_cannot_be_retried(jobs: SortedSet[str], raw: Any) -> None:
    jobs.add("waiting", score=1)
    jobs.add("held", score=0)
    jobs.reserve()

    for item in "waiting", "held", "unknown":
        assert jobs.dead_letters.retry(item) is False

    assert jobs.take(10) == ["waiting"]


def test_the_newest_score_of_one_that_was_added_while_dead_stands(jobs: SortedSet[str], raw: Any) -> None:
    die(jobs, "read")
    jobs.add("read", score=7)

    assert jobs.dead_letters.retry("read") is True

    assert jobs.score("read") == 7.0
    assert jobs.take(10) == ["read"]
    assert RawSet(raw, "jobs").is_empty()


def test_all_can_be_retried(jobs: SortedSet[str], raw: Any) -> None:
    die(jobs, "a", score=3)
    die(jobs, "b", score=2)
    die(jobs, "c", score=1)

    assert jobs.dead_letters.retry_all() == 3

    assert len(jobs.dead_letters) == 0
    assert jobs.take(10) == ["c", "b", "a"], "by their scores"
    assert jobs.dead_letters.retry_all() == 0


def test_thousands_can_be_retried(jobs: SortedSet[str], raw: Any) -> None:
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(2345)})
    for _ in range(3):
        jobs.nack(jobs.reserve_many(2345), delay=0)

    assert jobs.dead_letters.retry_all() == 2345

    assert len(jobs) == 2345
    RawSet(raw, "jobs").check()


def test_a_dead_letter_of_the_list_can_be_retried(jobs: SortedSet[str]) -> None:
    die(jobs, "a", "b")

    assert jobs.dead_letters.retry(jobs.dead_letters[:1][0]) is True

    assert jobs.take(10) == ["b"]


def test_an_item_that_cannot_be_loaded_is_identified_by_its_letter(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)
    raw.zadd("jobs", {"{broken": 1})
    assert jobs.reserve_many(1) == []
    (letter,) = jobs.dead_letters
    assert (letter.item, letter.raw) == (None, b"{broken")

    assert jobs.dead_letters.retry(letter) is True

    assert raw.zrange("jobs", 0, -1) == [b"{broken"]
    assert jobs.reserve_many(1) == [], "nothing was repaired, so it dies again"
    (letter,) = jobs.dead_letters
    assert jobs.dead_letters.discard(letter) is True
    assert RawSet(raw, "jobs").is_empty()


def test_letters_that_a_repaired_program_can_load_are_requeued(repaired: SortedSet[str]) -> None:
    (letter,) = repaired.dead_letters
    assert letter.item == "{broken"

    assert repaired.dead_letters.retry("{broken") is True

    assert repaired.pop() == "{broken"


# Forgetting


def test_one_can_be_forgotten(jobs: SortedSet[str], raw: Any) -> None:
    die(jobs, "a", "b")

    assert jobs.dead_letters.discard("a") is True
    assert jobs.dead_letters.discard("a") is False

    assert [letter.item for letter in jobs.dead_letters] == ["b"]
    assert jobs.take(10) == []
    RawSet(raw, "jobs").check()


def test_discarding_a_letter_leaves_the_waiting_item(jobs: SortedSet[str]) -> None:
    die(jobs, "read")
    jobs.add("read", score=1)

    assert jobs.dead_letters.discard("read") is True

    assert jobs.take(10) == ["read"]


def test_all_can_be_forgotten(jobs: SortedSet[str], raw: Any) -> None:
    die(jobs, "a", "b", "c")
    jobs.add("alive", score=1)

    assert jobs.dead_letters.clear() == 3

    assert list(jobs.dead_letters) == []
    assert jobs.dead_letters.clear() == 0
    assert jobs.take(10) == ["alive"]


def test_thousands_can_be_forgotten(jobs: SortedSet[str], raw: Any) -> None:
    raw.zadd("jobs", {f"{i:04}": 1 for i in range(2345)})
    for _ in range(3):
        jobs.nack(jobs.reserve_many(2345), delay=0)

    assert jobs.dead_letters.clear() == 2345

    assert RawSet(raw, "jobs").is_empty()


def test_to_discard_an_item_of_the_set_leaves_its_dead_letter(jobs: SortedSet[str]) -> None:
    die(jobs, "read")

    assert jobs.discard("read") is False

    assert len(jobs.dead_letters) == 1


def test_to_clear_the_set_forgets_them_too(jobs: SortedSet[str], raw: Any) -> None:
    die(jobs, "read")

    assert jobs.clear()

    assert RawSet(raw, "jobs").is_empty()


# Wrong arguments


def test_dead_letters_are_sliced_and_not_indexed(jobs: SortedSet[str], face: Any) -> None:
    letters: Any = getattr(jobs, "_original", jobs).dead_letters

    with pytest.raises(TypeError):
        letters[0]


def test_dead_letters_have_no_steps(raw: Any) -> None:
    with pytest.raises(ValueError, match="steps of 1"):
        SortedSet(raw, "jobs").dead_letters[::2]


def test_an_item_that_the_serializer_refuses_has_no_letter(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)

    for refused in jobs.dead_letters.retry, jobs.dead_letters.discard:
        with pytest.raises(TypeError):
            refused({1, 2})
