"""The serializers that come with redset: what they store, what comes back, and what they refuse."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable
from types import GenericAlias
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redset.interfaces import Serializer
from redset.serializers import JSONSerializer, NamedtupleSerializer, TypedSerializer

Address = collections.namedtuple("Address", ["street", "number"])


class Point(NamedTuple):
    y: float
    x: int


@dataclasses.dataclass
class Page:
    url: str
    depth: int = 0
    weight: float = 0.0
    tags: list[str] = dataclasses.field(default_factory=list)


class Fetch(msgspec.Struct):
    url: str
    tries: int | None = None


class Ping(msgspec.Struct, tag=True):
    host: str


class Copy(msgspec.Struct, tag=True):
    source: str
    target: str


class PageBefore(NamedTuple):
    url: str


class PageAfter(NamedTuple):
    url: str
    depth: int = 0
    weight: float = 0
    tags: tuple[float, ...] = ()


def evolved(kind: str) -> tuple[Any, Any]:
    """A class before and after it was given more fields, all with defaults; one of them an int for a float."""
    more: list[Any] = [("depth", int, 0), ("weight", float, 0), ("tags", tuple[float, ...], ())]
    if kind == "dataclass":
        options: Any = {"frozen": True, "order": True}
        return (
            dataclasses.make_dataclass("Page", [("url", str)], **options),
            dataclasses.make_dataclass("Page", [("url", str), *more], **options),
        )
    if kind == "attrs":
        fields = {name: attrs.field(type=field_type, default=default) for name, field_type, default in more}
        url = {"url": attrs.field(type=str)}
        return tuple(attrs.make_class("Page", each, frozen=True, order=True) for each in (url, url | fields))  # type: ignore[return-value]
    if kind == "namedtuple":
        return PageBefore, PageAfter
    options = {"frozen": True, "order": True, "array_like": kind == "array", "tag": kind == "tagged"}
    return tuple(msgspec.defstruct("Page", [("url", str), *each], **options) for each in ([], more))  # type: ignore[return-value]


@attrs.define
class Job:
    name: str
    options: dict[str, int]


@attrs.define(slots=False)
class OpenJob:
    name: str
    owner: str


class Movie(TypedDict):
    title: str
    year: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


text = st.text(st.characters(exclude_categories=["Cs"]))
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)

moments = st.datetimes(timezones=st.just(dt.UTC))

TYPED_VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "dataclass": (Page, st.builds(Page, text, st.integers(), finite, st.lists(text))),
    "struct": (Fetch, st.builds(Fetch, text, st.none() | st.integers())),
    "attrs": (Job, st.builds(Job, text, st.dictionaries(text, st.integers()))),
    "namedtuple": (Point, st.builds(Point, finite, st.integers())),
    "typeddict": (Movie, st.fixed_dictionaries({"title": text, "year": st.integers()})),
    "union": (Ping | Copy, st.builds(Ping, text) | st.builds(Copy, text, text)),
    "list": (list[int], st.lists(st.integers())),
    "sets": (list[set[tuple[int, str]]], st.lists(st.sets(st.tuples(st.integers(), text)))),
    "int keys": (dict[int, set[int]], st.dictionaries(st.integers(), st.sets(st.integers()))),
    "uuid keys": (dict[uuid.UUID, str], st.dictionaries(st.uuids(), text)),
    "dates": (dict[dt.date, Colour], st.dictionaries(st.dates(), st.sampled_from(Colour))),
    "moments": (tuple[dt.datetime, ...], st.lists(moments).map(tuple)),
    "bytes": (bytes, st.binary()),
    "any": (Any, json_values),
}

typed = pytest.mark.parametrize("kind", list(TYPED_VALUES))


def reordered(value: Any) -> Any:
    """An equal value whose dicts, at every level, were filled the other way round, and its sets too."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    if isinstance(value, set):
        return {reordered(member) for member in reversed(list(value))}
    if isinstance(value, list):
        return [reordered(member) for member in value]
    if isinstance(value, Job):
        return Job(value.name, reordered(value.options))
    return value


class TestSerializer:
    @pytest.mark.parametrize(
        "serializer", [json, pickle, JSONSerializer(), NamedtupleSerializer(Address), TypedSerializer(int)]
    )
    def test_is_satisfied_by_whatever_has_both_methods(self, serializer: object) -> None:
        assert isinstance(serializer, Serializer)

    def test_is_a_base_class(self) -> None:
        class Reversed(Serializer[str]):
            def loads(self, stored: bytes) -> str:
                return stored.decode()[::-1]

            def dumps(self, item: str) -> str:
                return item[::-1]

        assert Reversed().loads(b"abc") == "cba"
        assert not isinstance(object(), Serializer)

    def test_a_subclass_must_define_both_methods(self) -> None:
        class OneWay(Serializer[str]):
            def dumps(self, item: str) -> str:
                return item

        with pytest.raises(TypeError, match="loads"):
            OneWay()  # type: ignore[abstract]


class TestNamedtupleSerializer:
    @given(st.builds(Address, text, st.integers()))
    def test_returns_what_was_stored(self, address: Address) -> None:
        serializer = NamedtupleSerializer(Address)
        assert serializer.loads(serializer.dumps(address)) == address
        assert serializer.loads(serializer.dumps(address).encode()) == address

    def test_the_stored_format_is_that_of_redset_0_5(self) -> None:
        assert (
            NamedtupleSerializer(Address).dumps(Address("Größe", 7)) == '{"street": "Gr\\u00f6\\u00dfe", "number": 7}'
        )
        assert NamedtupleSerializer(Point).dumps(Point(1.5, 2)) == '{"y": 1.5, "x": 2}'

    def test_gives_the_class(self) -> None:
        serializer = NamedtupleSerializer(NTClass=Point)
        assert serializer.NTClass is Point
        assert type(serializer.loads(b'{"x": 1, "y": 2}')) is Point

    @pytest.mark.parametrize(
        ("stored", "error"), [(b"{", ValueError), (b'{"street": "x"}', TypeError), (b'{"other": 1}', TypeError)]
    )
    def test_refuses_to_load_anything_else(self, stored: bytes, error: type[Exception]) -> None:
        with pytest.raises(error):
            NamedtupleSerializer(Address).loads(stored)

    def test_refuses_what_json_has_not(self) -> None:
        with pytest.raises(TypeError):
            NamedtupleSerializer(Address).dumps(Address(object(), 1))


class TestJSONSerializer:
    serializer = JSONSerializer()

    @given(json_values)
    def test_returns_what_was_stored(self, value: Any) -> None:
        stored = self.serializer.dumps(value)
        assert self.serializer.loads(stored) == value
        assert self.serializer.loads(stored.decode()) == value

    @given(json_values)
    def test_equal_values_give_equal_bytes(self, value: Any) -> None:
        stored = self.serializer.dumps(value)
        assert self.serializer.dumps(reordered(value)) == stored
        assert self.serializer.dumps(self.serializer.loads(stored)) == stored

    def test_is_canonical(self) -> None:
        assert self.serializer.dumps({"b": [1, 2.0], "a": None, "ü": "€"}) == '{"a":null,"b":[1,2.0],"ü":"€"}'.encode()
        assert type(self.serializer.dumps(1)) is bytes

    def test_a_tuple_is_a_list(self) -> None:
        assert self.serializer.dumps((1, (2,))) == self.serializer.dumps([1, [2]]) == b"[1,[2]]"

    @pytest.mark.parametrize("refused", [{1, 2}, b"bytes", object(), {1: 2}, [({None: 1},)], {"a": 1, 2: 3}, {(1,): 2}])
    def test_refuses_what_json_has_not(self, refused: Any) -> None:
        with pytest.raises(TypeError):
            self.serializer.dumps(refused)

    @pytest.mark.parametrize("refused", [float("nan"), {"a": float("inf")}, "\ud800"])
    def test_refuses_values_that_json_cannot_say(self, refused: Any) -> None:
        with pytest.raises(ValueError):
            self.serializer.dumps(refused)

    def test_refuses_what_contains_itself(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(ValueError):
            self.serializer.dumps(endless)

    @pytest.mark.parametrize("stored", [b"", b"{", b"NaN", b"[-Infinity]", b"1 2", b'"\xff"'])
    def test_refuses_to_load_what_is_not_json(self, stored: bytes) -> None:
        with pytest.raises(ValueError):
            self.serializer.loads(stored)


class TestTypedSerializer:
    @typed
    @given(data=st.data())
    def test_returns_what_was_stored(self, kind: str, data: st.DataObject) -> None:
        item_type, values = TYPED_VALUES[kind]
        serializer: TypedSerializer[Any] = TypedSerializer(item_type)
        value = data.draw(values)
        stored = serializer.dumps(value)
        assert type(stored) is bytes
        for loaded in (serializer.loads(stored), serializer.loads(stored.decode())):
            assert loaded == value
            assert type(loaded) is type(value)

    @typed
    @given(data=st.data())
    def test_equal_values_give_equal_bytes(self, kind: str, data: st.DataObject) -> None:
        item_type, values = TYPED_VALUES[kind]
        serializer: TypedSerializer[Any] = TypedSerializer(item_type)
        value = data.draw(values)
        stored = serializer.dumps(value)
        assert serializer.dumps(reordered(value)) == stored
        assert serializer.dumps(serializer.loads(stored)) == stored

    @given(json_values.filter(lambda value: isinstance(value, dict)))
    def test_stores_a_dict_as_any_other_writer_of_json_would(self, value: dict[str, Any]) -> None:
        assert json.loads(TypedSerializer(dict[str, Any]).dumps(value)) == value

    def test_is_canonical(self) -> None:
        page = Page("http://ü/", depth=2, weight=0.5, tags=["b", "a"])
        stored = '{"depth":2,"tags":["b","a"],"url":"http://ü/","weight":0.5}'.encode()
        assert TypedSerializer(Page).dumps(page) == stored
        assert JSONSerializer().dumps(dataclasses.asdict(page)) == stored

    @pytest.mark.parametrize("within", [None, list, dict, tuple, "field", set])
    @pytest.mark.parametrize("kind", ["dataclass", "attrs", "struct", "array", "tagged", "namedtuple"])
    def test_a_new_field_with_a_default_leaves_items_the_same(self, kind: str, within: Any) -> None:
        before, after = evolved(kind)
        old, new = before("u"), after("u")
        wrapped: dict[Any, Callable[[Any, Any], Any]] = {
            None: lambda kind, item: (kind, item),
            list: lambda kind, item: (GenericAlias(list, kind), [item]),
            dict: lambda kind, item: (GenericAlias(dict, (int, kind)), {2: item}),
            tuple: lambda kind, item: (GenericAlias(tuple, (int, kind)), (1, item)),
            set: lambda kind, item: (GenericAlias(frozenset, kind), frozenset([item])),
            "field": lambda kind, item: ((made := dataclasses.make_dataclass("Task", [("page", kind)])), made(item)),
        }
        old_type, old = wrapped[within](before, old)
        new_type, new = wrapped[within](after, new)

        stored = TypedSerializer(old_type).dumps(old)

        serializer: Any = TypedSerializer(new_type)
        assert serializer.loads(stored) == new
        assert serializer.dumps(new) == serializer.dumps(serializer.loads(stored)) == stored

    @pytest.mark.parametrize("kind", ["dataclass", "attrs", "struct", "array", "tagged", "namedtuple"])
    def test_a_field_that_differs_from_its_default_is_stored(self, kind: str) -> None:
        _, after = evolved(kind)
        serializer: Any = TypedSerializer(after)

        for item in (
            after("u", depth=1),
            after("u", weight=2),
            after("u", tags=(1.0,)),
            after("u", depth=1, tags=(2,)),
        ):
            stored = serializer.dumps(item)
            assert stored != serializer.dumps(after("u"))
            assert serializer.loads(stored) == item

    def test_what_was_stored_with_its_defaults_is_loaded(self) -> None:
        assert TypedSerializer(Page).loads(b'{"depth":0,"tags":[],"url":"u","weight":0.0}') == Page("u")

    def test_a_default_that_a_function_makes_is_stored(self) -> None:
        numbers = iter(range(100))
        kind = dataclasses.make_dataclass(
            "Ticket", [("number", int, dataclasses.field(default_factory=lambda: next(numbers)))]
        )
        item = kind()
        assert TypedSerializer(kind).dumps(item) == b'{"number":%d}' % item.number

    def test_a_zero_with_a_sign_is_not_the_default(self) -> None:
        assert TypedSerializer(Page).dumps(Page("u", weight=-0.0)) == b'{"url":"u","weight":-0.0}'

    def test_an_int_in_a_float_field_is_the_same_item(self) -> None:
        serializer = TypedSerializer(Page)
        assert serializer.dumps(Page("u", weight=1)) == serializer.dumps(Page("u", weight=1.0))

    def test_the_order_in_which_attributes_were_set_makes_no_difference(self) -> None:
        one, other = OpenJob("name", "owner"), OpenJob("name", "owner")
        del other.name
        other.name = "name"
        assert list(vars(one)) != list(vars(other))
        assert TypedSerializer(OpenJob).dumps(one) == TypedSerializer(OpenJob).dumps(other)

    def test_the_order_in_which_the_class_defines_its_fields_makes_no_difference(self) -> None:
        one = dataclasses.make_dataclass("Item", [("a", int), ("b", int)])
        other = dataclasses.make_dataclass("Item", [("b", int), ("a", int)])
        assert TypedSerializer(one).dumps(one(1, 2)) == TypedSerializer(other).dumps(other(2, 1))

    def test_the_members_of_a_set_are_sorted(self) -> None:
        # Both sets are equal, and iterate in different orders, since 0 and 8 meet in the hash table.
        assert list({0, 8}) != list({8, 0})
        assert TypedSerializer(set[int]).dumps({0, 8}) == TypedSerializer(set[int]).dumps({8, 0}) == b"[0,8]"

    @pytest.mark.parametrize(
        ("item_type", "refused"),
        [
            (Page, Fetch("http://x/")),
            (Page, {"url": "http://x/"}),
            (Page, Page("u", depth="deep")),  # type: ignore[arg-type]
            (Page, Page("u", weight=float("nan"))),
            (Page, dataclasses.make_dataclass("Longer", [("extra", int, 1)], bases=(Page,))("u")),
            (Fetch, None),
            (Ping | Copy, Fetch("u")),
            (Movie, {"title": "x"}),
            (Movie, {"title": "x", "year": 1, "more": 2}),
            (list[int], ["1"]),
            (list[int], (1, 2)),
            (int, "1"),
            (int, 1.5),
            (Any, object()),
            (Any, [float("nan")]),
            (dict[Any, int], {1: 1, "1": 2}),
            (set[Colour], set(Colour)),
            (attrs.make_class("Unequal", [], eq=False), attrs.make_class("Unequal", [], eq=False)()),
        ],
    )
    def test_refuses_an_item_that_would_not_come_back_equal(self, item_type: Any, refused: Any) -> None:
        with pytest.raises(TypeError):
            TypedSerializer(item_type).dumps(refused)

    def test_a_refusal_says_what_is_wrong_with_the_item(self) -> None:
        with pytest.raises(TypeError, match=r"depth='deep'.*Page.*Expected `int`, got `str` - at `\$.depth`"):
            TypedSerializer(Page).dumps(Page("u", depth="deep"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"would come back as Page\(url='u'"):
            TypedSerializer(Page).dumps({"url": "u"})  # type: ignore[arg-type]

    @pytest.mark.parametrize("stored", [b"", b"{", b'"text"', b'{"url":1}', b"{}", b'{"url":"\xff"}'])
    def test_refuses_to_load_anything_else(self, stored: bytes) -> None:
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            TypedSerializer(Page).loads(stored)

    def test_loads_what_another_program_wrote(self) -> None:
        assert TypedSerializer(Page).loads(b'{ "url": "u", "unknown": [1] }') == Page("u")

    def test_keeps_values_that_are_equal_but_written_differently_apart(self) -> None:
        serializer = TypedSerializer(decimal.Decimal)
        assert serializer.dumps(decimal.Decimal("1.0")) != serializer.dumps(decimal.Decimal("1.00"))

    def test_refuses_a_type_that_msgspec_cannot_check(self) -> None:
        with pytest.raises(TypeError):
            TypedSerializer(list[int] | list[str])


WITHOUT_MSGSPEC = """
import sys
sys.modules["msgspec"] = None
from redset.serializers import TypedSerializer
try:
    TypedSerializer(int)
except ImportError as error:
    print(error)
"""


def test_without_msgspec_the_error_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MSGSPEC], capture_output=True, text=True, check=True)
    assert done.stdout == 'TypedSerializer needs msgspec: pip install "redset[fast]"\n'


def test_importing_the_serializers_imports_only_the_standard_library() -> None:
    program = "import sys, redset.serializers, redset.locks; print({'msgspec', 'redis', 'valkey'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
