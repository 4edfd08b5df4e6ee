"""Dead letters: items that cannot be loaded are kept, raw, with the reason, and do not block other items."""

import json
import logging
import pickle
from typing import Any

import pytest

from invariants import RawSet
from redset import DeadLetter, SortedSet

pytestmark = pytest.mark.conformance

BROKEN = b"{\xff broken"


@pytest.fixture
def jobs(face: Any, kind: str) -> Any:
    return getattr(face, kind)("jobs", serializer=json)


def bury(jobs: Any, raw: Any, *items: bytes) -> None:
    """Claim items that cannot be loaded."""
    raw.zadd("jobs", dict.fromkeys(items, 1))
    assert jobs.take(len(items)) == []


def test_a_set_has_no_dead_letters_at_first(jobs: SortedSet[Any]) -> None:
    assert len(jobs.dead_letters) == 0
    assert list(jobs.dead_letters) == []


def test_pop_buries_an_item_that_cannot_be_loaded_and_returns_the_next(jobs: SortedSet[Any], raw: Any) -> None:
    raw.zadd("jobs", {BROKEN: 1, b"also broken": 2, b"3": 3})

    assert jobs.pop() == 3
    assert sorted(letter.raw for letter in jobs.dead_letters) == [b"also broken", BROKEN]


def test_pop_raises_key_error_when_nothing_can_be_loaded(jobs: SortedSet[Any], raw: Any) -> None:
    raw.zadd("jobs", {BROKEN: 1})

    with pytest.raises(KeyError):
        jobs.pop()

    assert len(jobs) == 0
    assert len(jobs.dead_letters) == 1


def test_take_buries_items_that_cannot_be_loaded_and_returns_the_rest(jobs: SortedSet[Any], raw: Any) -> None:
    raw.zadd("jobs", {b"1": 1, BROKEN: 2, b"3": 3})

    assert jobs.take(3) == [1, 3]
    assert [letter.raw for letter in jobs.dead_letters] == [BROKEN]


def test_take_continues_after_a_thousand_broken_items(jobs: SortedSet[Any], raw: Any) -> None:
    raw.zadd("jobs", {b"broken %d" % i: 1 for i in range(1500)} | {b"7": 2})

    assert jobs.take(2000) == [7]
    assert len(jobs.dead_letters) == len(list(jobs.dead_letters)) == 1500


def test_a_dead_letter_has_what_is_known_of_the_item(jobs: SortedSet[Any], raw: Any) -> None:
    before, _ = raw.time()
    raw.zadd("jobs", {BROKEN: 1732423423.123457})
    jobs.take(1)
    after, _ = raw.time()

    (letter,) = jobs.dead_letters
    assert isinstance(letter, DeadLetter)
    assert letter.raw == BROKEN
    assert letter.item is None
    assert letter.reason.startswith("UnicodeDecodeError: ")
    assert letter.score == 1732423423.123457
    assert letter.attempts == 1
    assert before <= letter.died_at <= after + 1


def test_the_reason_is_the_message_of_the_serializer(face: Any, kind: str, raw: Any) -> None:
    class Picky:
        dumps = str

        def loads(self, stored: bytes) -> Any:
            raise LookupError("naïve ☃\nin two lines, with  blanks ")

    jobs = getattr(face, kind)("jobs", serializer=Picky())
    bury(jobs, raw, b"x")

    (letter,) = jobs.dead_letters
    assert letter.reason == "LookupError: naïve ☃\nin two lines, with  blanks "


def test_a_reason_that_is_no_unicode_text_is_kept_as_far_as_possible(face: Any, kind: str, raw: Any) -> None:
    class Picky:
        dumps = str

        def loads(self, stored: bytes) -> Any:
            raise ValueError(stored.decode(errors="surrogateescape"))

    jobs = getattr(face, kind)("jobs", serializer=Picky())
    bury(jobs, raw, b"bad \xff byte")

    (letter,) = jobs.dead_letters
    assert letter.raw == b"bad \xff byte"
    assert "bad" in letter.reason
    assert "byte" in letter.reason


def test_an_item_that_a_later_release_can_load_is_shown_loaded(face: Any, kind: str, raw: Any) -> None:
    bury(getattr(face, kind)("jobs", serializer=json), raw, b"plain text")

    (letter,) = getattr(face, kind)("jobs").dead_letters
    assert letter.item == "plain text"


def test_the_newest_dead_letter_comes_first(jobs: SortedSet[Any], raw: Any) -> None:
    for item in b"x1", b"x3", b"x2":
        bury(jobs, raw, item)

    assert [letter.raw for letter in jobs.dead_letters] == [b"x2", b"x3", b"x1"]


def test_dead_letters_can_be_sliced(jobs: SortedSet[Any], raw: Any) -> None:
    for item in b"x1", b"x2", b"x3":
        bury(jobs, raw, item)

    assert [letter.raw for letter in jobs.dead_letters[:2]] == [b"x3", b"x2"]
    assert [letter.raw for letter in jobs.dead_letters[-1:]] == [b"x1"]
    assert jobs.dead_letters[3:] == jobs.dead_letters.slice(0, 0) == []


def test_an_item_that_dies_again_is_one_dead_letter(jobs: SortedSet[Any], raw: Any) -> None:
    bury(jobs, raw, b"x1")
    bury(jobs, raw, b"x2")
    bury(jobs, raw, b"x1")

    assert [letter.raw for letter in jobs.dead_letters] == [b"x1", b"x2"]


def test_claiming_a_dead_item_deletes_its_dead_letter(face: Any, kind: str, raw: Any) -> None:
    bury(getattr(face, kind)("jobs", serializer=json), raw, b"x1", b"x2")
    of_text = getattr(face, kind)("jobs")
    of_text.add("x1", score=1)
    assert len(of_text.dead_letters) == 2, "it is the hand-out that decides"

    assert of_text.pop() == "x1"
    assert [letter.raw for letter in of_text.dead_letters] == [b"x2"]
    RawSet(raw, "jobs").check()


def test_clear_deletes_dead_letters_and_returns_true(jobs: SortedSet[Any], raw: Any) -> None:
    bury(jobs, raw, b"x1", b"x2")
    raw.zadd("jobs", {b"1": 1})

    assert jobs.dead_letters.clear()
    assert len(jobs.dead_letters) == 0
    assert not jobs.dead_letters.clear()
    assert list(jobs) == [1], "what waits stays"
    assert not RawSet(raw, "jobs").present() & {"dead", "letters"}


def test_burials_are_logged_with_the_name_of_the_set(
    jobs: SortedSet[Any], raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bury(jobs, raw, BROKEN)

    (record,) = (record for record in caplog.records if record.name == "redset")
    assert record.levelno >= logging.WARNING
    assert "jobs" in record.getMessage()
    assert repr(BROKEN) in record.getMessage()


def test_a_set_without_a_serializer_loads_everything(face: Any, kind: str, raw: Any) -> None:
    jobs = getattr(face, kind)("jobs")
    raw.zadd("jobs", {BROKEN: 1})

    assert jobs.pop() == BROKEN
    assert len(jobs.dead_letters) == 0


def test_another_serializer_can_take_up_the_dead_letters(face: Any, kind: str, raw: Any) -> None:
    pickled = pickle.dumps({"page": 1})
    bury(getattr(face, kind)("jobs", serializer=json), raw, pickled)

    repaired = getattr(face, kind)("jobs", serializer=pickle)
    (letter,) = repaired.dead_letters
    repaired.add(letter.item, score=letter.score)

    assert repaired.pop() == {"page": 1}
