"""Expiring sets: items that each live for their own time, on both faces and by the server's clock."""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import redset
import redset.aio
from faces import Awaited
from redset import ExpiringSet, Key
from redset.core.keys import REGISTRY, Keys
from redset.exceptions import DeserializationError
from servers import FakeClock

#: How long an item lives that is added without a time of its own.
TTL = 1000.0
HOUR, DAY = 3600.0, 86400.0
#: More than two pages of an iteration, or chunks of a call.
MANY = 2345

each_storage = pytest.mark.parametrize("digest", [False, True], ids=["items", "digests"])


@pytest.fixture
def seen(face: Any) -> Any:
    return face.ExpiringSet("seen", TTL)


def expire(raw: Any, *items: str) -> None:
    """Has items end as if their time were over, a second ago."""
    raw.zadd("seen", dict.fromkeys(items, time.time() - 1), xx=True)


def ends(raw: Any) -> dict[bytes, float]:
    return dict(raw.zrange("seen", 0, -1, withscores=True))


def new_items(error: Any) -> list[Any]:
    """What an error of add_new says was new before it."""
    found: list[Any] = error.new_items
    return found


def names(*numbers: int) -> list[str]:
    return [f"{number:05}" for number in numbers]


@pytest.mark.conformance
class TestAdding:
    @each_storage
    def test_an_item_is_new_once(self, face: Any, digest: bool) -> None:
        seen = face.ExpiringSet("seen", TTL, digest=digest)

        assert [seen.add("a"), seen.add("a"), seen.add("b")] == [True, False, True]
        assert ("a" in seen, "b" in seen, "c" in seen) == (True, True, False)
        assert len(seen) == 2

    def test_what_is_over_is_new_again(self, seen: Any, raw: Any) -> None:
        seen.add_new("ab")
        expire(raw, "a")

        assert ("a" in seen, len(seen), list(seen)) == (False, 1, ["b"])
        assert seen.add("a") is True
        assert sorted(seen) == ["a", "b"]

    def test_what_lives_keeps_its_time(self, seen: Any, raw: Any) -> None:
        seen.add("a", ttl=10)
        before = ends(raw)

        assert seen.add("a", ttl=5000) is False
        assert seen.add_new(["a"], ttl=5000) == []
        assert ends(raw) == before

    def test_the_key_holds_until_when_each_item_lives(self, seen: Any, raw: Any) -> None:
        before = time.time()
        seen.add("a")
        seen.add("b", ttl=60.5)
        seen.add_new(["c"], ttl=DAY)

        for item, ttl in (b"a", TTL), (b"b", 60.5), (b"c", DAY):
            assert before - 1 < ends(raw)[item] - ttl < time.time() + 1

    def test_add_new_returns_the_callers_own_objects_in_order_and_once(self, face: Any) -> None:
        numbers = face.ExpiringSet("seen", TTL, json)
        numbers.add([3])
        # Tuples, which come back as lists when they are loaded.
        items = [(5,), (3,), (4,), (5,), (4,), (1,)]

        new = numbers.add_new(items)

        assert new == [(5,), (4,), (1,)]
        assert all(one is items[position] for one, position in zip(new, (0, 2, 5), strict=True))
        assert numbers.add_new(items) == []

    def test_one_that_is_over_and_comes_twice_is_new_once(self, seen: Any, raw: Any) -> None:
        seen.add_new("ab")
        expire(raw, "a")

        assert seen.add_new("aab") == ["a"]

    def test_what_serializes_alike_is_the_same(self, seen: Any) -> None:
        assert seen.add_new([1, "1", b"1"]) == [1]

    def test_add_new_takes_an_iterator_a_chunk_at_a_time(self, counted_calls: list[Any], seen: Any) -> None:
        seen.add("warm")
        counted_calls.clear()
        taken: list[int] = []

        def given() -> Any:
            for number in range(MANY):
                taken.append(len(counted_calls))
                yield f"{number:05}"

        assert seen.add_new(given()) == names(*range(MANY))
        assert Counter(taken) == {0: 1000, 1: 1000, 2: MANY - 2000}
        assert len(counted_calls) == 3

    def test_add_new_of_nothing_asks_nobody(self, counted_calls: list[Any], seen: Any) -> None:
        assert seen.add_new([]) == []
        assert counted_calls == []

    def test_what_is_new_to_a_call_that_fails_is_not_lost(self, seen: Any) -> None:
        def given() -> Any:
            yield from names(*range(1500))
            raise RuntimeError("broken off")

        seen.add("00007")
        with pytest.raises(RuntimeError, match="broken off") as raised:
            seen.add_new(given())

        assert new_items(raised.value) == [name for name in names(*range(1000)) if name != "00007"]
        (note,) = raised.value.__notes__
        assert note.startswith("1000 items had been added to the set 'seen' before")
        assert "999" in note
        assert len(seen) == 1000

    def test_what_the_serializer_refuses_is_an_error_before_its_chunk_is_sent(self, face: Any) -> None:
        numbers = face.ExpiringSet("seen", TTL, json)

        with pytest.raises(TypeError) as raised:
            numbers.add_new([*range(1000), 1000, {1}])
        assert new_items(raised.value) == list(range(1000))
        with pytest.raises(TypeError):
            numbers.add({1})
        assert len(numbers) == 1000

    @pytest.mark.parametrize(
        ("ttl", "error"),
        [(0, ValueError), (-1, ValueError), (math.inf, ValueError), (math.nan, ValueError), ("60", TypeError)],
        ids=str,
    )
    def test_a_time_to_live_is_a_positive_number(self, face: Any, seen: Any, raw: Any, ttl: Any, error: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: face.ExpiringSet("other", ttl),
            lambda: seen.add("a", ttl=ttl),
            lambda: seen.add_new(["a"], ttl=ttl),
            lambda: seen.add_new([], ttl=ttl),
            lambda: seen.touch("a", ttl=ttl),
        ]
        for call in calls:
            with pytest.raises(error, match="ttl must be"):
                call()
        assert raw.keys() == []

    @pytest.mark.parametrize("ttl", [1e-6, 1e12, 1e300])
    def test_any_positive_number_will_do(self, seen: Any, ttl: float) -> None:
        assert seen.add("a", ttl=ttl) is True
        assert seen.add("b") is True
        assert ("a" in seen) is (ttl > 1)


@pytest.mark.conformance
class TestLooking:
    def test_many_are_asked_for_at_once(self, face: Any, raw: Any) -> None:
        numbers = face.ExpiringSet("seen", TTL, json)
        numbers.add_new(range(1500))
        expire(raw, "3")

        found = numbers.contains_many([1, 3, {1}, *range(3000)])

        assert found == [True, False, False, *(number < 1500 and number != 3 for number in range(3000))]
        assert numbers.contains_many([]) == []
        assert {1} not in numbers

    def test_a_key_stands_in_for_an_item(self, face: Any) -> None:
        numbers = face.ExpiringSet("seen", TTL, json)
        numbers.add({"a": 1})
        key = Key('{"a": 1}')

        assert key in numbers
        assert numbers.touch(key) is True
        assert numbers.discard(key) is True
        with pytest.raises(TypeError):
            numbers.add_new([key, {1}])

    def test_the_time_left(self, seen: Any, raw: Any) -> None:
        seen.add("a"), seen.add("b", ttl=5), seen.add("over")
        expire(raw, "over")

        assert TTL - 60 < seen.ttl("a") <= TTL
        assert 0 < seen.ttl("b") <= 5
        assert seen.ttl("over") is seen.ttl("never") is None

    def test_an_empty_set(self, seen: Any) -> None:
        assert (len(seen), list(seen), "a" in seen, seen.ttl("a")) == (0, [], False, None)
        assert seen.discard("a") is seen.touch("a") is seen.clear() is False

    def test_it_tells_its_name(self, face: Any) -> None:
        seen = face.ExpiringSet("seen", TTL)
        seen.add("a")

        assert seen.name == "seen"
        assert repr(seen) == "<ExpiringSet name='seen'>"
        with pytest.raises(TypeError, match="must be a str"):
            face.ExpiringSet(b"seen", TTL)

    def test_what_other_programs_add_lives_as_long_as_they_say(self, seen: Any, raw: Any) -> None:
        now = time.time()
        raw.zadd("seen", {"a": now + 50, "b": now - 50, "c": math.inf, "d": -math.inf})

        assert list(seen) == ["a", "c"]
        assert seen.contains_many("abcd") == [True, False, True, False]
        assert 0 < seen.ttl("a") < 60
        assert seen.ttl("c") == math.inf
        assert seen.add_new("abcd") == ["b", "d"]
        assert len(seen) == 4

    def test_what_cannot_be_loaded_is_an_error_that_has_it(self, face: Any, raw: Any) -> None:
        seen = face.ExpiringSet("seen", TTL, json)
        raw.zadd("seen", {b"{": time.time() + 60})

        with pytest.raises(DeserializationError) as raised:
            list(seen)
        assert raised.value.raw == b"{"
        with pytest.raises(DeserializationError):
            seen.pop()
        assert len(seen) == 1


@pytest.mark.conformance
class TestIterating:
    @pytest.mark.parametrize("there", [1, 999, 1000, 1001, 3000, 3001])
    def test_what_lives_is_yielded_whole_in_the_order_in_which_it_ends(self, seen: Any, raw: Any, there: int) -> None:
        now = time.time()
        raw.zadd("seen", {f"over {number:04}": now - 1 - number for number in range(1500)})
        raw.zadd("seen", {name: now + 100 + number // 2 for number, name in enumerate(names(*range(there)))})

        assert list(seen) == names(*range(there))
        assert len(seen) == there

    def test_what_ends_before_its_turn_is_left_out(self, seen: Any, raw: Any) -> None:
        now = time.time()
        raw.zadd("seen", {name: now + 100 + number for number, name in enumerate(names(*range(5000)))})
        items = iter(seen)
        first = [next(items) for _ in range(500)]
        expire(raw, *names(*range(3500)))

        assert first == names(*range(500))
        assert list(items) == names(*range(500, 1000), *range(3500, 5000))

    def test_what_keeps_its_time_is_yielded_exactly_once_whatever_others_do(self, seen: Any, raw: Any) -> None:
        now = time.time()
        raw.zadd("seen", {name: now + 100 + number // 7 for number, name in enumerate(names(*range(5000)))})
        busy = {name for number, name in enumerate(names(*range(5000))) if number % 5 == 0}
        found: list[str] = []
        for number, item in enumerate(itertools.islice(seen, 20_000)):
            found.append(item)
            if number % 500 == 0:
                for name in sorted(busy)[number // 500 :: 50]:
                    raw.zadd("seen", {name: now + 100 + (number + int(name)) % 900})
                raw.zadd("seen", {f"late {number}": now + 10_000})

        assert sorted(item for item in found if item[0] != "l" and item not in busy) == [
            name for name in names(*range(5000)) if name not in busy
        ]
        assert not [item for item in found if item[0] == "l"], "the end is the item that was last at the beginning"


@pytest.mark.conformance
class TestChanging:
    def test_touch_gives_what_lives_a_new_time(self, seen: Any, raw: Any) -> None:
        seen.add_new("abc", ttl=50)
        expire(raw, "c")

        assert [seen.touch("a"), seen.touch("b", ttl=10), seen.touch("c"), seen.touch("d")] == [
            True,
            True,
            False,
            False,
        ]
        assert seen.ttl("a") > 100
        assert 0 < seen.ttl("b") <= 10
        assert list(seen) == ["b", "a"]

    def test_discard_and_remove_tell_whether_it_was_there(self, seen: Any, raw: Any) -> None:
        seen.add_new("abcd")
        expire(raw, "c", "d")

        assert [seen.discard("a"), seen.discard("a"), seen.discard("c")] == [True, False, False]
        seen.remove("b")
        for item in "bd":
            with pytest.raises(KeyError, match=item):
                seen.remove(item)
        assert raw.exists("seen") == 0

    def test_clear_tells_whether_there_was_something(self, seen: Any, raw: Any) -> None:
        seen.add_new("ab")
        assert (seen.clear(), seen.clear(), len(seen)) == (True, False, 0)
        seen.add("a")
        expire(raw, "a")
        assert seen.clear() is False
        assert seen.add("a") is True

    def test_pop_takes_what_ends_first(self, seen: Any, raw: Any) -> None:
        seen.add("later"), seen.add("sooner", ttl=10), seen.add("over")
        expire(raw, "over")

        assert [seen.pop(), seen.pop()] == ["sooner", "later"]
        with pytest.raises(KeyError, match="'seen'"):
            seen.pop()

    def test_nothing_else_is_left_behind(self, seen: Any, raw: Any) -> None:
        seen.add_new("abc")
        seen.clear()

        found = set(raw.keys()) - set(REGISTRY)
        assert all(key.startswith(Keys("seen").call_prefix) for key in found)


@pytest.mark.conformance
class TestDigests:
    def test_sixteen_bytes_are_kept_of_each_item(self, face: Any, raw: Any) -> None:
        seen = face.ExpiringSet("seen", TTL, digest=True)
        seen.add_new(["https://example.org/" + "long" * 100, "a"])

        # SHA-1 of "a" begins with these.
        assert bytes.fromhex("86f7e437faa5a7fce15d1ddcb9eaeaea") in ends(raw)
        assert {len(member) for member in ends(raw)} == {16}

    def test_it_can_be_asked_for_items_and_changed(self, face: Any, raw: Any) -> None:
        seen = face.ExpiringSet("seen", TTL, json, digest=True)

        assert seen.add_new([1, 2, 3, 2]) == [1, 2, 3]
        assert seen.contains_many([1, 4, {1}]) == [True, False, False]
        assert seen.touch(1, ttl=10) is True
        assert 0 < seen.ttl(1) <= 10
        assert (seen.discard(2), seen.discard(2), len(seen)) == (True, False, 2)
        seen.remove(3)
        assert seen.clear() is True

    def test_it_cannot_tell_its_items(self, face: Any) -> None:
        seen = face.ExpiringSet("seen", TTL, digest=True)
        seen.add("a")

        for tell in list, lambda seen: seen.pop(), lambda seen: seen.copy():
            with pytest.raises(TypeError, match=r"the set 'seen' keeps only a hash of each item \(digest=True\)"):
                tell(seen)


class TestTheServersClock:
    def test_items_end_one_by_one(self, seen: Any, clock: FakeClock) -> None:
        seen.add("second", ttl=2 * HOUR), seen.add("first", ttl=HOUR)
        assert list(seen) == ["first", "second"]

        clock.advance(HOUR + 1)
        assert (list(seen), seen.add("first", ttl=HOUR)) == (["second"], True)
        assert HOUR - 60 < seen.ttl("second") < HOUR

        clock.advance(HOUR + 1)
        assert (list(seen), len(seen)) == ([], 0)

    def test_a_clock_that_is_set_back_has_items_live_longer(self, seen: Any, clock: FakeClock) -> None:
        seen.add("a")
        clock.advance(-DAY)

        assert seen.add("a") is False
        assert seen.ttl("a") > DAY
        assert seen.touch("a") is True
        assert seen.ttl("a") <= TTL

        clock.advance(TTL + 1)
        assert seen.add("a") is True

    def test_the_clocks_of_clients_do_not_matter(self, seen: Any, clock: FakeClock) -> None:
        clock.advance(-10 * DAY)
        seen.add("a", ttl=HOUR)
        assert "a" in seen
        clock.advance(20 * DAY)
        assert "a" not in seen

    @pytest.mark.parametrize("write", ["add", "discard", "touch"])
    def test_what_is_over_leaves_in_bounded_steps_with_every_write(
        self, seen: Any, raw: Any, clock: FakeClock, write: str
    ) -> None:
        seen.add_new(names(*range(1000)), ttl=HOUR)
        seen.add("stays", ttl=DAY)
        clock.advance(HOUR + 1)
        left = []
        while raw.zcard("seen") > 2:
            getattr(seen, write)("other")
            left.append(raw.zcard("seen"))

        there = 1 + (write == "add")
        assert left[:3] == [899 + there - 1, 797 + there - 1, 695 + there - 1]
        assert (left[-1], len(left)) == (there, 10)

    def test_they_cannot_pile_up(self, seen: Any, raw: Any, clock: FakeClock) -> None:
        for wave in range(5):
            seen.add_new((f"{wave} {number}" for number in range(2500)), ttl=HOUR)
            clock.advance(HOUR + 1)

        assert raw.zcard("seen") <= 2500

    @pytest.mark.parametrize(
        "end",
        [
            lambda seen: None,
            lambda seen: seen.touch("a", 5),
            lambda seen: seen.touch("a", 60),
            lambda seen: seen.discard("a"),
            lambda seen: seen.pop(),
            lambda seen: seen.union_update("xy"),
            lambda seen: seen.clear(),
        ],
        ids=["nothing", "shorter", "longer", "discard", "pop", "union", "clear"],
    )
    @pytest.mark.parametrize("retry_safe", [True, False])
    def test_nothing_but_records_outlives_its_last_item(
        self, face: Any, raw: Any, clock: FakeClock, end: Any, retry_safe: bool
    ) -> None:
        for number in range(3):
            seen = face.ExpiringSet(f"seen {number}", 50, retry_safe=retry_safe)
            seen.add("a")
            seen.add_new(["a", "b"])
            end(seen)

        clock.advance(100)

        def left() -> set[bytes]:
            return set(raw.keys("*")) - set(REGISTRY)

        assert [key for key in left() if b":call:" not in key] == []
        assert all(0 < raw.ttl(key) <= 600 for key in left())
        assert retry_safe or not left()
        clock.advance(600)
        assert not left()

    def test_the_key_expires_with_its_last_item(self, seen: Any, raw: Any, clock: FakeClock) -> None:
        seen.add("a", ttl=HOUR), seen.add("b", ttl=10)
        assert HOUR <= raw.ttl("seen") < HOUR + 5

        clock.advance(HOUR + 5)
        assert raw.exists("seen") == 0

    @pytest.mark.parametrize("shorten", [lambda seen: seen.discard("long"), lambda seen: seen.touch("long", ttl=20)])
    def test_and_not_later_when_that_ends_sooner(self, seen: Any, raw: Any, clock: FakeClock, shorten: Any) -> None:
        seen.add("long", ttl=DAY), seen.add("short", ttl=10)
        shorten(seen)
        assert 10 <= raw.ttl("seen") < 30

    def test_a_write_sees_to_what_other_programs_added(self, seen: Any, raw: Any, clock: FakeClock) -> None:
        seen.add("a", ttl=10)
        raw.zadd("seen", {"b": clock.now() + DAY})
        raw.persist("seen")
        seen.add("c", ttl=10)

        assert DAY - 60 < raw.ttl("seen") < DAY + 60
        clock.advance(HOUR)
        assert list(seen) == ["b"]


@pytest.fixture
def counted_calls(face: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands that are sent from here on."""
    sent: list[Any] = []
    send = face.client.execute_command

    def note_and_send(*words: Any, **options: Any) -> Any:
        sent.append(words[0])
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", note_and_send)
    return sent


@pytest.mark.conformance
@pytest.mark.parametrize(
    "operate",
    [
        lambda seen: seen.add("x"),
        lambda seen: seen.add_new(map(str, range(1000))),
        lambda seen: seen.touch("x"),
        lambda seen: seen.contains("x"),
        lambda seen: seen.contains_many(map(str, range(1000))),
        lambda seen: seen.count(),
        lambda seen: seen.ttl("x"),
        lambda seen: list(iter(seen)),
        lambda seen: seen.discard("x"),
        lambda seen: seen.clear(),
    ],
    ids=["add", "add_new", "touch", "contains", "contains_many", "count", "ttl", "iterate", "discard", "clear"],
)
def test_an_operation_is_one_round_trip(counted_calls: list[Any], seen: Any, raw: Any, operate: Any) -> None:
    operate(seen)  # from now on the server knows the script
    raw.zadd("seen", {"x": time.time() + 60})
    counted_calls.clear()
    operate(seen)

    assert len(counted_calls) == 1


@pytest.mark.conformance
def test_add_new_takes_what_is_iterated_asynchronously(face: Any) -> None:
    if not isinstance(face, Awaited):
        pytest.skip("nothing is awaited on the other face")

    async def given() -> Any:
        for name in names(*range(1500)):
            yield name
        raise RuntimeError("broken off")

    seen = face.ExpiringSet("seen", TTL)
    with pytest.raises(RuntimeError) as raised:
        seen.add_new(given())

    assert new_items(raised.value) == names(*range(1000))
    assert len(raised.value.__notes__) == 1


def test_subclasses_are_told_by_their_name(raw: Any) -> None:
    class Pages(ExpiringSet[str]):
        pass

    assert repr(Pages(raw, "pages", 1)) == "<Pages name='pages'>"
    assert redset.ExpiringSet is ExpiringSet
