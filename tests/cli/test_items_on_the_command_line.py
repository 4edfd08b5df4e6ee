"""Each item can be written on one line and read back, and options have the values that they look like."""

import datetime as dt
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redset.cli.escapes import escaped, unescaped
from redset.cli.exits import Failure
from redset.cli.values import JsonPath, duration, moment, score_or_path


@given(st.binary() | st.text().map(str.encode))
def test_each_item_can_be_named(item: bytes) -> None:
    written = escaped(item)
    assert unescaped(written) == item
    assert written.splitlines() in ([written], [])


@given(st.text())
def test_nothing_moves_the_cursor_or_the_direction(text: str) -> None:
    shown = escaped(text.encode())
    assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize(
    ("item", "written"),
    [
        (b"https://example.org/?a=1", "https://example.org/?a=1"),
        (b"C:\\new", r"C:\\new"),
        (b"a\tb\nc\r", r"a\tb\nc\r"),
        (b"\x00\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("Grüße, 世界".encode(), "Grüße, 世界"),
        ("\u202etxt.exe".encode(), r"\u202etxt.exe"),
        ("\x80".encode(), r"\u0080"),
        ("\U000e0001".encode(), r"\U000e0001"),
        ("👩\u200d💻".encode(), "👩\u200d💻"),
    ],
)
def test_examples(item: bytes, written: str) -> None:
    assert escaped(item) == written
    assert unescaped(written) == item


@pytest.mark.parametrize("written", [r"C:\dir", "\\", r"\x0", r"\ud800", r"\UFFFFFFFF", "\\\n"])
def test_an_unknown_escape_is_refused(written: str) -> None:
    with pytest.raises(Failure, match="unknown escape"):
        unescaped(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (".5", 0.5),
        ("30s", 30),
        ("1h30m", 5400),
        ("7d", 604800),
        ("250ms", 0.25),
        ("2w", 1209600),
    ],
)
def test_durations(written: str, seconds: float) -> None:
    assert duration(written, "--ttl") == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "-1", "1y", "s", "1 h", "inf", "nan", "1h 30m"])
def test_no_durations(written: str) -> None:
    with pytest.raises(Failure, match="--ttl takes"):
        duration(written, "--ttl")


def test_moments() -> None:
    assert moment("1.5", "--until") == 1.5
    assert moment("2030-01-31T12:00Z", "--until") == dt.datetime(2030, 1, 31, 12, tzinfo=dt.UTC).timestamp()
    assert moment("2030-01-31T12:00", "--until") == dt.datetime(2030, 1, 31, 12).astimezone().timestamp()
    with pytest.raises(Failure, match="--until takes"):
        moment("tomorrow", "--until")


def test_a_path_starts_with_a_dot_and_a_letter() -> None:
    assert score_or_path(".5") == 0.5
    assert score_or_path("-inf") == float("-inf")
    assert score_or_path(".p5") == JsonPath(("p5",))
    assert JsonPath.read(".page.url", "--key").of({"page": {"url": 1}}) == 1
    assert JsonPath.read(".page.url", "--key").of({"page": "x"}) is None
    for wrong in ("nan", "high", ".a[0]", ".a..b", "."):
        with pytest.raises(Failure, match="--score takes"):
            score_or_path(wrong)
