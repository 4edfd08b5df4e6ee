"""Dead letters are looked through, tried again or forgotten. Who dies is told in test_attempts.py."""

import json
from typing import Any

import pytest

from invariants import RawSet
from redset import DeadLetter, SortedSet

pytestmark = pytest.mark.conformance


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs", max_attempts=3)


@pytest.fixture
def repaired(face: Any, kind: str, raw: Any) -> Any:
    """A set that can load all items, one of which a set of the same name could not: ``{broken``."""
    raw.zadd("jobs", {"{broken": 1})
    assert getattr(face, kind)("jobs", serializer=json).reserve_many(1) == []
    return getattr(face, kind)("jobs")


def die(jobs: SortedSet[Any], *items: str, score: float = 1) -> None:
    for item in items:
        jobs.add(item, score=score)
        jobs.reserve().bury(f"{item} is no good")


def server_time(raw: Any) -> float:
    seconds, microseconds = raw.time()
    return float(seconds + microseconds / 10**6)


# Looking


def test_a_dead_letter_tells_what_is_known(jobs: SortedSet[str], raw: Any) -> None:
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


def test_the_newest_come_first(jobs: SortedSet[str]) -> None:
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


def test_what_is_not_dead_cannot_be_retried(jobs: SortedSet[str], raw: Any) -> None:
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


def test_what_cannot_be_loaded_is_named_by_its_dead_letter(face: Any, kind: str, raw: Any) -> None:
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


def test_what_a_repaired_program_can_load_is_brought_back(repaired: SortedSet[str]) -> None:
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


def test_forgetting_one_leaves_what_waits_alone(jobs: SortedSet[str]) -> None:
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


def test_what_the_serializer_refuses_is_no_dead_letter(face: Any, kind: str) -> None:
    jobs = getattr(face, kind)("jobs", serializer=json)

    for refused in jobs.dead_letters.retry, jobs.dead_letters.discard:
        with pytest.raises(TypeError):
            refused({1, 2})
