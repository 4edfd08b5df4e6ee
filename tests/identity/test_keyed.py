"""Sets with a ``key``: items with one key are one item, of which the newest value is handed out."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from invariants import KeyedRawSet
from redset import Key, SortedSet
from redset.core.keys import Keys
from redset.exceptions import DeserializationError, LeaseLost, ServerFullError, WrongTypeError
from servers import run_out


def popped(pages: Any) -> list[Any]:
    items = []
    with suppress(KeyError):
        while True:
            items.append(pages.pop())
    return items


def reserved_and_acked(pages: Any) -> list[Any]:
    items = []
    with suppress(KeyError):
        while True:
            with pages.reserve() as item:
                items.append(item)
    return items


def many_reserved_and_acked(pages: Any) -> list[Any]:
    made = pages.reserve_many(10)
    assert pages.ack(made) == []
    return [one.item for one in made]


TAKERS: dict[str, Callable[[Any], list[Any]]] = {
    "pop": popped,
    "take": lambda pages: list(pages.take(10)),
    "reserve": reserved_and_acked,
    "reserve_many": many_reserved_and_acked,
    "consume": lambda pages: [one.item for one in pages.consume(wait=0)],
}
ENDS: dict[str, Callable[[Any, Any], Any]] = {
    "ack": lambda pages, held: held.ack(),
    "nack": lambda pages, held: held.nack(delay=1000),
    "again": lambda pages, held: held.again(delay=1000),
    "bury": lambda pages, held: held.bury(),
    "running out": run_out,
}
#: The ways to name an item where one is looked up: the item itself, an older version of it, and its key.
NAMES: dict[str, Any] = {
    "item": {"url": "/a", "version": 2},
    "older version": {"url": "/a", "version": 1},
    "key": Key("/a"),
    "key as bytes": Key(b"/a"),
}
#: All that is given an item.
ASKED: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda pages, item: pages.add(item),
    "score": lambda pages, item: pages.score(item),
    "get": lambda pages, item: pages.get(item),
    "is_done": lambda pages, item: pages.is_done(item),
    "forget": lambda pages, item: pages.forget(item),
    "discard": lambda pages, item: pages.discard(item),
    "dead letters: retry": lambda pages, item: pages.dead_letters.retry(item),
    "dead letters: discard": lambda pages, item: pages.dead_letters.discard(item),
}

each_taker = pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS.keys())
each_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
each_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
#: What cannot have a key is not in a set; everything else raises an error.
each_refusing = pytest.mark.parametrize(
    "ask", [ask for name, ask in ASKED.items() if name != "in"], ids=[name for name in ASKED if name != "in"]
)


def page(url: str, version: int = 1) -> dict[str, Any]:
    return {"url": url, "version": version}


def url_of(page: Any) -> Any:
    return page["url"]


def die(pages: Any, *items: Any) -> None:
    for item in items:
        pages.add(item, score=1)
        pages.reserve().bury("no good")


@pytest.fixture
def pages(face: Any, kind: str) -> Any:
    return getattr(face, kind)("pages", serializer=json, key=url_of)


@pytest.fixture
def without_value() -> set[bytes]:
    """The identities to which a test gives no value."""
    return set()


@pytest.fixture(autouse=True)
def stored(raw: Any, without_value: set[bytes]) -> Iterator[KeyedRawSet]:
    """The set's keys. After each test, no value has outlived its identity and none is missing."""
    found = KeyedRawSet(raw, "pages")
    yield found
    found.check(frozenset(without_value))


def produce(raw: Any, url: str, value: object, score: float = 1) -> None:
    """Adds an item as a program in another language does."""
    raw.hset(Keys("pages").values, url, value if isinstance(value, bytes) else json.dumps(value))
    raw.zadd("pages", {url: score})


# What it is for


@pytest.mark.conformance
@each_taker
def test_a_key_updated_ten_times_while_it_waits_is_delivered_once_with_the_newest_value(
    pages: SortedSet[Any], stored: KeyedRawSet, take: Callable[[Any], list[Any]]
) -> None:
    for version in range(1, 11):
        assert pages.add(page("/a", version), score=version) == version
    assert len(pages) == 1

    assert take(pages) == [page("/a", 10)]
    assert take(pages) == []
    assert stored.is_empty()


@pytest.mark.conformance
@each_end
@each_taker
def test_a_key_updated_while_it_is_in_work_is_delivered_once_more_with_the_newest_value(
    pages: SortedSet[Any], stored: KeyedRawSet, end: Callable[[Any, Any], Any], take: Callable[[Any], list[Any]]
) -> None:
    pages.add(page("/a", 1), score=1)
    held = pages.reserve()
    for version in 2, 3, 4:
        pages.add(page("/a", version), score=1)
        assert take(pages) == [], "never side by side"
    assert held.item == page("/a", 1), "who holds it keeps the value it was given"

    end(pages, held)

    assert take(pages) == [page("/a", 4)]
    assert take(pages) == []
    assert stored.is_empty()


def test_an_update_that_no_hand_out_has_met_is_delivered_when_the_work_is_done(
    pages: SortedSet[Any], stored: KeyedRawSet
) -> None:
    pages.add(page("/a", 1), score=1)
    held = pages.reserve()
    pages.add(page("/a", 2), score=5)

    held.ack()

    assert pages.score(Key("/a")) == 5.0
    stored.check(frozenset())
    assert pages.pop() == page("/a", 2)


def test_a_failed_attempt_is_tried_again_with_the_newest_value(pages: SortedSet[Any]) -> None:
    pages.add(page("/a", 1), score=1)
    pages.reserve().nack(delay=0)
    pages.add(page("/a", 2), score=1)

    reservation = pages.reserve()

    assert (reservation.item, reservation.attempt) == (page("/a", 2), 2)


def test_an_update_ends_the_backoff(pages: SortedSet[Any]) -> None:
    pages.add(page("/a", 1), score=1)
    pages.reserve().nack(delay=1000)
    assert pages.get(Key("/a")) == page("/a", 1)

    pages.add(page("/a", 2), score=1)

    assert pages.reserve().item == page("/a", 2)


def test_an_update_revives_what_is_dead(pages: SortedSet[Any], stored: KeyedRawSet) -> None:
    die(pages, page("/a", 1))
    pages.add(page("/a", 2), score=1)

    assert pages.take(10) == [page("/a", 2)]
    assert stored.is_empty()


@pytest.mark.conformance
@pytest.mark.parametrize("start", ["waits", "held", "dead"])
def test_a_value_is_that_of_the_last_addition_in_every_state(pages: SortedSet[Any], start: str) -> None:
    pages.add(page("/a", 1), score=1)
    if start != "waits":
        held = pages.reserve()
        if start == "dead":
            held.bury()

    pages.add(page("/a", 2), score=1)

    assert pages.get(Key("/a")) == page("/a", 2)


# Looking


@pytest.mark.conformance
def test_whatever_looks_at_what_waits_sees_the_newest_values_in_order(pages: SortedSet[Any]) -> None:
    for version in 1, 2:
        for score, url in enumerate(["/a", "/c", "/b"], 1):
            pages.add(page(url, version), score=score)
    expected = [page("/a", 2), page("/c", 2), page("/b", 2)]

    assert [pages.peek(0), pages.peek(1), pages.peek(-1)] == expected
    assert pages.peek_score() == 1.0
    assert [pages[0], pages.at(1), pages[-1]] == expected
    assert pages[:] == expected
    assert pages[1:2] == pages.slice(-2, -1) == [page("/c", 2)]
    assert list(pages) == expected
    assert len(pages) == pages.count(min=1, max=3) == 3


@pytest.mark.conformance
@each_name
def test_an_item_is_found_by_its_key_whatever_its_value(pages: SortedSet[Any], name: Any) -> None:
    pages.add(page("/a", 7), score=5)

    assert name in pages
    assert pages.score(name) == 5.0
    assert pages.get(name) == page("/a", 7)
    assert pages.discard(name) is True

    assert name not in pages
    assert pages.score(name) is None
    assert pages.get(name) is None
    assert pages.discard(name) is False


def test_get_sees_the_value_in_every_state(pages: SortedSet[Any]) -> None:
    asked = Key("/a")
    assert pages.get(asked) is None

    pages.add(page("/a", 1), score=1)
    assert pages.get(asked) == page("/a", 1), "it waits"
    held = pages.reserve()
    assert pages.get(asked) == page("/a", 1), "it is leased"
    pages.add(page("/a", 2), score=1)
    assert pages.take(1) == []
    assert pages.get(asked) == page("/a", 2), "it is parked"
    held.ack()
    pages.reserve().nack(delay=1000)
    assert pages.get(asked) == page("/a", 2), "it is backing off"
    pages.add(page("/a", 3), score=1)
    pages.reserve().bury()
    assert pages.get(asked) == page("/a", 3), "it is dead"
    pages.dead_letters.discard(asked)
    assert pages.get(asked) is None, "it is gone"


@pytest.mark.conformance
def test_thousands_are_iterated_and_taken_with_their_values(pages: SortedSet[Any], stored: KeyedRawSet) -> None:
    expected = [page(f"/{number:04}", number) for number in range(2345)]
    for each in expected:
        pages.add(each, score=1)

    assert list(pages) == expected
    made = pages.reserve_many(2000)
    assert [one.item for one in made] == expected[:2000]
    assert pages.again(made[:1000]) == pages.ack(made[1000:]) == []
    stored.check(frozenset())
    assert pages.take(3000) == expected[:1000] + expected[2000:]
    assert stored.is_empty()


# Keys


@pytest.mark.parametrize(
    ("key", "identity"),
    [("é", "é".encode()), ("", b""), (7, b"7"), (b"\xff\0", b"\xff\0"), (("a", 1), b"('a', 1)")],
    ids=repr,
)
def test_an_identity_is_the_str_of_the_key_or_bytes(
    face: Any, kind: str, stored: KeyedRawSet, key: Any, identity: bytes
) -> None:
    pages = getattr(face, kind)("pages", serializer=json, key=lambda item: key)

    pages.add("one", score=1)
    pages.add("other", score=2)

    assert stored.scores("waiting") == {identity: 2.0}
    assert stored.fields("values") == {identity: b'"other"'}
    assert Key(key) in pages
    assert Key(identity) in pages
    assert pages.pop() == "other"


@each_refusing
def test_what_a_key_raises_passes_through_and_nothing_is_changed(
    pages: SortedSet[Any], stored: KeyedRawSet, ask: Callable[[Any, Any], Any]
) -> None:
    pages.add(page("/a"), score=1)

    with pytest.raises(KeyError, match="url"):
        ask(pages, {"no": "url"})

    assert stored.present() - {"meta"} == {"waiting", "values"}
    assert pages[:] == [page("/a")]


@each_refusing
def test_a_key_that_cannot_be_stored_is_refused_and_nothing_is_changed(
    pages: SortedSet[Any], stored: KeyedRawSet, ask: Callable[[Any, Any], Any]
) -> None:
    with pytest.raises(UnicodeEncodeError):
        ask(pages, page("\ud800"))

    assert stored.is_empty()


def test_what_the_key_refuses_is_not_in_the_set(pages: SortedSet[Any]) -> None:
    assert {"no": "url"} not in pages
    assert page("\ud800") not in pages


def test_what_the_serializer_raises_passes_through_and_nothing_is_changed(
    pages: SortedSet[Any], stored: KeyedRawSet
) -> None:
    with pytest.raises(TypeError):
        pages.add({"url": "/a", "body": b"no JSON"})

    assert stored.is_empty()


def test_a_key_alone_has_no_value_to_add(pages: SortedSet[Any], stored: KeyedRawSet) -> None:
    with pytest.raises(TypeError, match="no value"):
        pages.add(Key("/a"), score=1)

    assert stored.is_empty()


def test_without_a_serializer_items_are_text_beside_their_keys(face: Any, kind: str, stored: KeyedRawSet) -> None:
    lines = getattr(face, kind)("pages", key=lambda line: line.split()[0])
    lines.add("/a first", score=1)
    lines.add("/a second", score=1)

    assert Key("/a") in lines
    assert lines.pop() == "/a second"


def test_the_scorer_sees_the_item(face: Any, kind: str) -> None:
    pages = getattr(face, kind)("pages", lambda page: page["version"], json, key=url_of)

    assert pages.add(page("/a", 3)) == 3.0
    assert pages.add(page("/a", 4)) == 4.0


def test_a_set_without_a_key_takes_an_item_as_it_is_stored(face: Any, kind: str, stored: KeyedRawSet) -> None:
    pages = getattr(face, kind)("pages", serializer=json)
    pages.add([1, "x"], score=5)

    assert Key('[1, "x"]') in pages
    assert pages.score(Key(b'[1, "x"]')) == 5.0
    with pytest.raises(TypeError, match="without a key"):
        pages.get([1, "x"])
    assert pages.discard(Key('[1, "x"]')) is True
    assert stored.is_empty()


def test_keys_are_equal_when_they_say_the_same() -> None:
    assert Key("/a") == Key("/a") != Key("/b")
    assert len({Key("/a"), Key("/a")}) == 1
    assert repr(Key("/a")) == "Key(identity='/a')"


# Other producers


@pytest.mark.conformance
@each_taker
def test_another_program_adds_a_value_and_a_key(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet, take: Callable[[Any], list[Any]]
) -> None:
    produce(raw, "/a", page("/a", 1))
    produce(raw, "/a", page("/a", 2))

    assert take(pages) == [page("/a", 2)]
    assert stored.is_empty()


@pytest.mark.conformance
@each_taker
def test_an_identity_without_a_value_is_handed_out_itself(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet, take: Callable[[Any], list[Any]]
) -> None:
    raw.zadd("pages", {"/alone": 1, b"\xff": 3})
    produce(raw, "/a", page("/a"), score=2)

    assert take(pages) == ["/alone", page("/a"), b"\xff"]
    assert stored.is_empty()


def test_an_identity_without_a_value_is_seen_as_itself(
    pages: SortedSet[Any], raw: Any, without_value: set[bytes]
) -> None:
    without_value.add(b"/alone")
    raw.zadd("pages", {"/alone": 1})

    assert pages.peek() == pages[0] == "/alone"
    assert pages[:] == list(pages) == ["/alone"]
    assert pages.get(Key("/alone")) is None
    assert Key("/alone") in pages
    pages.reserve().bury()
    (letter,) = pages.dead_letters
    assert (letter.item, letter.raw, letter.identity) == ("/alone", b"/alone", b"/alone")


def test_a_known_identity_that_is_added_alone_keeps_its_value(pages: SortedSet[Any], raw: Any) -> None:
    pages.add(page("/a", 1), score=1)
    held = pages.reserve()
    raw.zadd("pages", {"/a": 1})

    held.ack()

    assert pages.pop() == page("/a", 1)


# Values that cannot be loaded


@pytest.mark.conformance
@each_taker
def test_a_value_that_cannot_be_loaded_is_a_dead_letter_and_the_rest_is_returned(
    pages: SortedSet[Any], raw: Any, take: Callable[[Any], list[Any]]
) -> None:
    produce(raw, "/a", page("/a"), score=1)
    produce(raw, "/broken", b"{broken", score=2)
    produce(raw, "/c", page("/c"), score=3)

    assert take(pages) == [page("/a"), page("/c")]

    (letter,) = pages.dead_letters
    assert (letter.item, letter.raw, letter.identity) == (None, b"{broken", b"/broken")
    assert letter.reason.startswith("JSONDecodeError: ")
    assert (letter.attempts, letter.score) == (1, 2.0)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["letter", "key"])
@each_taker
def test_it_can_be_retried_once_its_value_is_better(
    pages: SortedSet[Any], raw: Any, take: Callable[[Any], list[Any]], name: str
) -> None:
    produce(raw, "/a", b"{broken")
    assert take(pages) == []
    (letter,) = pages.dead_letters
    raw.hset(Keys("pages").values, "/a", json.dumps(page("/a", 2)))

    assert pages.dead_letters.retry(letter if name == "letter" else Key("/a")) is True

    assert take(pages) == [page("/a", 2)]


@each_taker
def test_it_can_be_retried_by_a_release_that_can_load_it(
    face: Any, kind: str, pages: SortedSet[Any], raw: Any, stored: KeyedRawSet, take: Callable[[Any], list[Any]]
) -> None:
    produce(raw, "/a", b"{broken")
    assert take(pages) == []
    able = getattr(face, kind)("pages", key=lambda item: "/a")

    assert [letter.item for letter in able.dead_letters] == ["{broken"]
    assert able.dead_letters.retry_all() == 1

    assert take(able) == ["{broken"]
    assert stored.is_empty()


def test_thousands_of_values_that_cannot_be_loaded_are_kept(pages: SortedSet[Any], raw: Any) -> None:
    broken = {f"/{number:04}": f"{{broken {number}" for number in range(1500)}
    raw.hset(Keys("pages").values, mapping=broken)
    raw.zadd("pages", dict.fromkeys(broken, 1))
    pages.add(page("/z"), score=2)

    assert pages.take(2000) == [page("/z")]

    assert {letter.identity.decode(): letter.raw.decode() for letter in pages.dead_letters} == broken


@pytest.mark.parametrize(
    "look",
    [
        lambda pages: pages.peek(),
        lambda pages: pages[0],
        lambda pages: pages[:],
        list,
        lambda pages: pages.get(Key("/a")),
    ],
    ids=["peek", "at", "slice", "iterate", "get"],
)
def test_looking_at_a_value_that_cannot_be_loaded_is_an_error_that_carries_it(
    pages: SortedSet[Any], raw: Any, look: Callable[[Any], Any]
) -> None:
    produce(raw, "/a", b"{broken")

    with pytest.raises(DeserializationError) as raised:
        look(pages)

    assert raised.value.raw == b"{broken"
    assert Key("/a") in pages


# Dead letters


@pytest.mark.conformance
def test_a_dead_letter_shows_item_value_and_identity(pages: SortedSet[Any]) -> None:
    die(pages, page("/a", 7))

    (letter,) = pages.dead_letters[:]
    assert letter == next(iter(pages.dead_letters))
    assert letter.item == page("/a", 7)
    assert letter.raw == json.dumps(page("/a", 7)).encode()
    assert (letter.identity, letter.reason) == (b"/a", "no good")


@pytest.mark.conformance
@pytest.mark.parametrize("name", [*NAMES, "letter"])
def test_a_dead_letter_is_retried_by_any_of_its_names(pages: SortedSet[Any], name: str) -> None:
    die(pages, page("/a", 7), page("/b", 7))
    named = pages.dead_letters[1:][0] if name == "letter" else NAMES[name]

    assert pages.dead_letters.retry(named) is True
    assert pages.dead_letters.retry(named) is False

    assert pages.take(10) == [page("/a", 7)]
    assert [letter.item for letter in pages.dead_letters] == [page("/b", 7)]


@pytest.mark.conformance
@pytest.mark.parametrize("name", [*NAMES, "letter"])
def test_a_dead_letter_is_discarded_by_any_of_its_names(pages: SortedSet[Any], stored: KeyedRawSet, name: str) -> None:
    die(pages, page("/a", 7))
    named = pages.dead_letters[:1][0] if name == "letter" else NAMES[name]

    assert pages.dead_letters.discard(named) is True
    assert pages.dead_letters.discard(named) is False

    assert stored.is_empty()


def test_a_dead_letter_that_was_added_since_is_retried_with_the_newest_value(pages: SortedSet[Any]) -> None:
    die(pages, page("/a", 1))
    pages.add(page("/a", 2), score=5)

    assert pages.dead_letters.retry(Key("/a")) is True

    assert (pages.score(Key("/a")), pages.pop()) == (5.0, page("/a", 2))


def test_the_value_of_what_waits_outlives_its_dead_letter(pages: SortedSet[Any]) -> None:
    die(pages, page("/a", 1))
    pages.add(page("/a", 2), score=1)

    assert pages.dead_letters.discard(Key("/a")) is True

    assert pages.pop() == page("/a", 2)


def test_a_dead_letter_keeps_its_value_when_what_waits_is_discarded(pages: SortedSet[Any]) -> None:
    die(pages, page("/a", 1))
    pages.add(page("/a", 2), score=1)

    assert pages.discard(Key("/a")) is True

    (letter,) = pages.dead_letters
    assert letter.item == page("/a", 2)


@pytest.mark.conformance
def test_values_go_with_the_dead_letters_that_are_too_many(face: Any, kind: str, stored: KeyedRawSet) -> None:
    pages = getattr(face, kind)("pages", serializer=json, key=url_of, max_dead=2)
    die(pages, *(page(f"/{number}") for number in range(5)))

    assert [letter.item for letter in pages.dead_letters] == [page("/4"), page("/3")]
    assert stored.fields("values").keys() == {b"/3", b"/4"}


def test_what_was_added_again_keeps_its_value_when_its_old_dead_letter_is_one_too_many(face: Any, kind: str) -> None:
    pages = getattr(face, kind)("pages", serializer=json, key=url_of, max_dead=1)
    die(pages, page("/a", 1))
    pages.add(page("/a", 2), score=9)
    die(pages, page("/b", 1))

    assert pages.take(10) == [page("/a", 2)]


# The end of a value


@pytest.mark.conformance
@pytest.mark.parametrize(
    "finish",
    [
        lambda pages: pages.pop(),
        lambda pages: pages.reserve().ack(),
        lambda pages: pages.discard(Key("/a")),
        lambda pages: pages.clear(),
        lambda pages: (pages.reserve(), pages.discard(Key("/a"))),
        lambda pages: (pages.reserve(), pages.clear()),
        lambda pages: (pages.reserve().nack(delay=1000), pages.discard(Key("/a"))),
        lambda pages: (pages.reserve().bury(), pages.dead_letters.clear()),
        lambda pages: (pages.reserve().bury(), pages.clear()),
        lambda pages: (pages.reserve().bury(), pages.forget(Key("/a"))),
    ],
    ids=[
        "pop",
        "ack",
        "discard",
        "clear",
        "discard while leased",
        "clear while leased",
        "discard while backing off",
        "clear the dead letters",
        "clear while dead",
        "forget",
    ],
)
def test_a_value_ends_with_its_identity(
    pages: SortedSet[Any], stored: KeyedRawSet, finish: Callable[[Any], Any]
) -> None:
    pages.add(page("/a"), score=1)

    finish(pages)

    assert stored.is_empty()


def test_work_is_cancelled_by_its_key(pages: SortedSet[Any], stored: KeyedRawSet) -> None:
    pages.add(page("/a"), score=1)
    held = pages.reserve()
    pages.add(page("/a", 2), score=1)

    assert pages.discard(Key("/a")) is True

    with pytest.raises(LeaseLost):
        held.ack()
    assert stored.is_empty()


def test_a_late_ack_leaves_the_newer_value_alone(pages: SortedSet[Any]) -> None:
    pages.add(page("/a", 1), score=1)
    late = pages.reserve()
    run_out(pages, late)
    pages.add(page("/a", 2), score=1)
    held = pages.reserve()

    with pytest.raises(LeaseLost):
        late.ack()

    assert pages.get(Key("/a")) == held.item == page("/a", 2)


# The server


@pytest.mark.parametrize("retry_safe", [True, False])
def test_a_large_value_moves_through_its_states_without_being_copied(
    face: Any, kind: str, stored: KeyedRawSet, *, retry_safe: bool
) -> None:
    """The call records count as well."""
    size = 100_000
    pages = getattr(face, kind)("pages", serializer=json, key=url_of, retry_safe=retry_safe)
    large = {"url": "/a", "body": "x" * size}

    def assert_one_copy() -> None:
        assert size < stored.memory() < 1.3 * size

    pages.add(large, score=1)
    assert_one_copy()
    held = pages.reserve()
    assert_one_copy()
    held.extend(1000)
    pages.add(large, score=1)
    assert pages.take(1) == []
    assert pages.stats().parked == 1
    assert_one_copy()
    held.again()
    assert_one_copy()
    pages.reserve().nack(delay=0)
    assert_one_copy()
    for reservation in pages.consume(wait=0):
        reservation.bury()
    assert_one_copy()
    assert len(pages.dead_letters) == pages.dead_letters.retry_all() == 1
    assert_one_copy()
    pages.reserve().ack()
    assert stored.memory() < 0.1 * size


@pytest.mark.conformance
@pytest.mark.parametrize(
    "change",
    [
        lambda pages: pages.add(page("/b"), score=1),
        lambda pages: pages.pop(),
        lambda pages: pages.reserve(),
        lambda pages: pages.peek(),
        lambda pages: pages[:],
        list,
        lambda pages: pages.discard(Key("/a")),
        lambda pages: pages.clear(),
        lambda pages: pages.dead_letters.retry_all(),
        lambda pages: pages.dead_letters[:],
        lambda pages: pages.get(Key("/a")),
    ],
    ids=["add", "pop", "reserve", "peek", "slice", "iterate", "discard", "clear", "retry_all", "letters", "get"],
)
def test_where_values_should_be_something_else_is_left_alone(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet, change: Callable[[Any], Any]
) -> None:
    die(pages, page("/dead"))
    pages.add(page("/a"), score=1)
    values = stored.fields("values")
    raw.delete(Keys("pages").values)
    raw.set(Keys("pages").values, "something else")
    try:
        with pytest.raises(WrongTypeError):
            change(pages)
        assert stored.scores("waiting") == {b"/a": 1.0}
        assert stored.scores("dead").keys() == {b"/dead"}
    finally:
        raw.delete(Keys("pages").values)
        raw.hset(Keys("pages").values, mapping=values)


@pytest.mark.parametrize("take", [TAKERS["pop"], TAKERS["consume"]], ids=["pop", "consume"])
def test_a_full_server_refuses_an_update_whole_and_is_drained(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet, take: Callable[[Any], list[Any]]
) -> None:
    pages.add(page("/a", 1), score=1)
    policy, limit = (raw.config_get(name)[name] for name in ("maxmemory-policy", "maxmemory"))
    raw.config_set("maxmemory-policy", "noeviction")
    raw.config_set("maxmemory", "1")
    try:
        for refused in page("/a", 2), page("/b", 1):
            with pytest.raises(ServerFullError):
                pages.add(refused, score=2)
        assert pages.score(Key("/a")) == 1.0
        assert take(pages) == [page("/a", 1)]
        assert stored.is_empty()
    finally:
        raw.config_set("maxmemory", limit)
        raw.config_set("maxmemory-policy", policy)


# Many


def test_thousands_are_sliced(face: Any, raw: Any) -> None:
    """Lua cannot unpack 8,000."""
    names = [f"{number:05}" for number in range(8_500)]
    raw.zadd("pages", dict.fromkeys(names, 1))
    raw.hset("{pages}:values", mapping={name: f'"{name}"' for name in names})
    pages = face.SortedSet("pages", serializer=json, key=str)

    assert pages[:] == list(pages) == names
    assert pages[7_990:8_010] == names[7_990:8_010]


def test_a_slice_of_ten_thousand_values_is_one_call(face: Any) -> None:
    """More than a script can return as separate values."""
    pages = face.SortedSet("pages", key=lambda url: url)
    urls = [f"/{number:05}" for number in range(10_000)]
    pages.update(urls)

    assert pages[:] == urls
    assert pages.slice(10, 9_990) == urls[10:9_990]
