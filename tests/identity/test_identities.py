"""What tells items from each other must say something: None and an address in memory do not."""

import enum
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from faces import Face
from redset import Key

pytestmark = pytest.mark.conformance


class Colour(str, enum.Enum):  # noqa: UP042
    RED = "red"

    def __str__(self) -> str:
        return "the colour red"


class Plain(str, enum.Enum):  # noqa: UP042 # StrEnum is another kind
    RED = "red"


class Modern(enum.StrEnum):
    RED = "red"


class Raw(bytes, enum.Enum):
    RED = b"red"


class Level(int, enum.Enum):
    HIGH = 3


class ModernLevel(enum.IntEnum):
    HIGH = 3


class Share(float, enum.Enum):
    HALF = 0.5


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2


MEMBERS = [
    (Colour.RED, b"red"),
    (Plain.RED, b"red"),
    (Modern.RED, b"red"),
    (Raw.RED, b"red"),
    (Level.HIGH, b"3"),
    (ModernLevel.HIGH, b"3"),
    (Share.HALF, b"0.5"),
    (Permission.READ | Permission.WRITE, b"3"),
]


class Host:
    """Has neither a str nor a repr of its own."""


class Named(Host):
    def __str__(self) -> str:
        return "named"


@dataclass
class Page:
    path: str


def function() -> None:
    """Is no item."""


NO_IDENTITY = re.compile("None is no identity|has no identity")

NOTHING = {
    "None": None,
    "an object": Host(),
    "a function": function,
    "a method": Named().__str__,
    "a generator": (number for number in list[int]()),
    "an object in a tuple": ("a", Host()),
    "just object()": object(),
}


@pytest.mark.parametrize("item", NOTHING.values(), ids=NOTHING)
def test_an_item_whose_str_says_nothing_is_refused(face: Face, item: Any, raw: Any) -> None:
    jobs, seen, feeds = face.SortedSet("jobs"), face.ExpiringSet("seen", 60), face.PeriodicSet("feeds", 60)

    attempts: list[Callable[[], Any]] = [
        lambda: jobs.add(item),
        lambda: jobs.add(item, nx=True),
        lambda: jobs.update(["a", item, "b"]),
        lambda: jobs.increment(item, 1),
        lambda: jobs.union_update([item]),
        lambda: jobs.discard(item),
        lambda: jobs.score(item),
        lambda: jobs.scores(["a", item]),
        lambda: jobs.index(item),
        lambda: jobs.score(Key(item)),
        lambda: seen.add(item),
        lambda: seen.add_new(["a", item]),
        lambda: seen.touch(item),
        lambda: feeds.add(item),
        lambda: feeds.update(["a", item]),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError, match=NO_IDENTITY):
            attempt()
    assert raw.dbsize() == 0


@pytest.mark.parametrize("item", NOTHING.values(), ids=NOTHING)
def test_it_is_in_no_set(face: Face, item: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update(["None", "a"])

    assert jobs.contains_many(["a", item, Key(item)]) == [True, False, False]
    assert not jobs.contains(item)


@pytest.mark.parametrize("key", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("kind", ["SortedSet", "TimeSortedSet", "ScheduledSet", "PeriodicSet"])
def test_a_key_that_says_nothing_is_refused(face: Face, kind: str, key: Any, raw: Any) -> None:
    first = (60,) if kind == "PeriodicSet" else ()
    rows = getattr(face, kind)("rows", *first, serializer=json, key=lambda row: row["key"] and key)

    attempts: list[Callable[[], Any]] = [
        lambda: rows.add({"key": 1}),
        lambda: rows.update([{"key": ""}, {"key": 1}]),
    ]
    for add in attempts:
        with pytest.raises(TypeError, match=NO_IDENTITY):
            add()
    assert raw.dbsize() == 0


def test_what_has_a_str_or_a_repr_of_its_own_is_stored_so(face: Face, raw: Any) -> None:
    jobs = face.SortedSet("jobs")
    jobs.update([Named(), Page("/a"), ("a", None), True, {"x": None}, "<Host object at 0x7f0123456789>"], score=1)

    assert set(raw.zrange("jobs", 0, -1)) == {
        b"named",
        b"Page(path='/a')",
        b"('a', None)",
        b"True",
        b"{'x': None}",
        b"<Host object at 0x7f0123456789>",
    }


@pytest.mark.parametrize(("member", "stored"), MEMBERS, ids=repr)
def test_a_member_of_an_enum_is_stored_as_what_it_equals(face: Face, member: Any, stored: bytes, raw: Any) -> None:
    jobs = face.SortedSet("jobs")

    jobs.add(member)
    assert raw.zrange("jobs", 0, -1) == [stored]
    assert jobs.update([member, "x"]) == 1
    assert jobs.contains(member)
    assert jobs.contains(Key(member))
    assert jobs.contains(stored.decode())
    assert jobs.scores([member, "y"]) == [0, None]


@pytest.mark.parametrize(("member", "stored"), MEMBERS, ids=repr)
def test_so_is_one_that_a_key_returns(face: Face, member: Any, stored: bytes, raw: Any) -> None:
    rows = face.SortedSet("rows", serializer=json, key=lambda row: member)

    rows.add({"a": 1})
    rows.update([{"a": 2}, {"a": 3}])
    assert raw.zrange("rows", 0, -1) == [stored]
    assert rows.get(Key(member)) == {"a": 3}


class Anything:
    """A serializer that takes whatever it is given."""

    def dumps(self, item: Any) -> str:
        return repr(item)

    def loads(self, stored: Any) -> Any:
        return stored


@pytest.mark.parametrize("serializer", [None, Anything()], ids=["none", "any"])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_reservation_and_a_dead_letter_are_no_items(face: Face, serializer: Any, keyed: bool) -> None:
    options = {"key": str} if keyed else {}
    jobs = face.SortedSet("jobs", serializer=serializer, **options)
    jobs.update("ab", score=1)
    reservation, other = jobs.reserve(), jobs.reserve()
    other.bury("no")
    (letter,) = jobs.dead_letters

    for thing in (reservation, letter, Key("a")):
        with pytest.raises(TypeError, match="is no item"):
            jobs.add(thing)
        with pytest.raises(TypeError, match="is no item"):
            jobs.update(["x", thing])
    for thing in (reservation, letter):
        with pytest.raises(TypeError, match="is no item"):
            jobs.discard(thing)
    if not keyed:
        with pytest.raises(TypeError, match=r"its \.item"):
            face.ExpiringSet("seen", 60, serializer).add(reservation)
    assert jobs.stats().waiting == 0
    assert jobs.dead_letters.retry(letter)
