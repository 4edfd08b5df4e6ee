"""The form in which requests are stored keeps what they have, and loads nothing that could run."""

import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
import scrapy
from hypothesis import given
from hypothesis import strategies as st
from scrapy.settings import Settings

from redset import Limit
from redset.scrapy import values
from redset.scrapy.options import Options
from redset.scrapy.requests import Values, to_dict, to_request
from redset.scrapy.seen import Seen

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
HASHABLE = SCALARS | st.dates() | st.tuples(SCALARS, SCALARS)
ALL = st.recursive(
    HASHABLE | st.datetimes() | st.frozensets(HASHABLE, max_size=3) | st.sets(HASHABLE, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE | st.just("!"), inner, max_size=3),
    max_leaves=10,
)


class Book(scrapy.Item):
    title = scrapy.Field()


@dataclass
class Author:
    name: str
    born: date


@given(ALL)
def test_values_are_kept_with_their_types(value: Any) -> None:
    loaded = values.loads(values.dumps(value))
    assert loaded == value
    assert type(loaded) is type(value)


def test_items_are_kept() -> None:
    value = {"book": Book(title="a"), "author": Author("b", date(1900, 1, 2)), "at": datetime(2026, 1, 2, tzinfo=UTC)}
    assert values.loads(values.dumps(value)) == value


def test_infinities_are_kept() -> None:
    assert values.loads(values.dumps([math.inf, -math.inf])) == [math.inf, -math.inf]


@pytest.mark.parametrize("value", [object(), {"a": [len]}, {"a": {1: Author}}])
def test_what_cannot_be_carried_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match="is of the type"):
        values.dumps(value)


@pytest.mark.parametrize("named", [["os", "system", {}], ["antigravity", "Item", {}], ["subprocess", "Popen", {}]])
def test_only_items_are_made_of_what_the_server_has(named: Any) -> None:
    data = values.dumps({"a": 1}).replace(b'{"a":1}', b'{"!":"item","v":' + values.dumps(named) + b"}")
    with pytest.raises(ValueError, match="no class of items"):
        values.loads(data)
    assert "antigravity" not in sys.modules


class Spider(scrapy.Spider):
    name = "spider"

    def parse(self, response: Any) -> None: ...


def test_a_request_is_stored_as_what_differs_from_the_default() -> None:
    spider = Spider()
    plain = to_dict(scrapy.Request("http://a/", meta={"redset_token": 1, "retry_times": 2}), spider)
    assert plain == {"url": "http://a/"}
    headers = {"X-Name": "\xe9", "X-Bytes": [bytes(range(32, 256)), b"!"]}
    request = scrapy.http.JsonRequest("http://a/", data={"a": 1}, callback=spider.parse, priority=3, headers=headers)
    store = Values(values)
    again = to_request(store.loads(store.data_of("a 1", to_dict(request, spider))), spider)
    assert type(again) is scrapy.http.JsonRequest
    assert (again.method, again.body, again.callback, again.priority) == ("POST", b'{"a": 1}', spider.parse, 3)
    assert again.headers == request.headers


@pytest.mark.parametrize(
    "wrong",
    [
        {"REDSET_LEASE": 0},
        {"REDSET_MAX_ATTEMPTS": "many"},
        {"REDSET_REMEMBER": float("inf")},
        {"REDSET_SERIALIZER": "math"},
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Options.of(Settings(wrong), "spider")


def test_settings_of_scrapy_are_limits_of_groups() -> None:
    given = {
        "DOWNLOAD_DELAY": 0.5,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 3,
        "DOWNLOAD_SLOTS": {"a": {"delay": 2}, "b": {"concurrency": 1}},
        "REDSET_BACKOFF": 2,
        "REDSET_SERIALIZER": "pickle",
    }
    options = Options.of(Settings(given), "spider")
    assert options.per_slot == Limit(leases=3, pause=0.5)
    assert options.slots == {"a": Limit(leases=3, pause=2.0), "b": Limit(leases=1, pause=0.5)}
    assert options.backoff is not None
    assert [options.backoff(attempt) for attempt in (1, 2, 3, 99)] == [2, 4, 8, 3600]
    assert options.name == "spider"


def test_fingerprints_are_known_for_a_while() -> None:
    seen = Seen(Options.of(Settings({"REDSET_REMEMBER": 0.1}), "spider"))
    assert [seen.add("a"), seen.add("a")] == [False, True]
    seen.discard("a")
    assert not seen.add("a")
    seen._known["a"] -= 1
    assert not seen.add("a")


def test_without_scrapy_the_extra_is_named() -> None:
    program = "import sys; sys.modules['scrapy'] = None; import redset.scrapy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 'ImportError: redset.scrapy needs the package scrapy: pip install "redset[scrapy]"' in done.stderr
