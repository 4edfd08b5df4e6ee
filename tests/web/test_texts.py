"""Bytes as text and back."""

import re

import pytest
from hostile import CORPUS
from hypothesis import given
from hypothesis import strategies as st

from redset.escapes import escaped, unescaped
from redset.web.texts import cut, encoded, kind_of, name_in_url, of_url

#: Bytes with what is escaped, and what looks like an escape.
BYTES = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=20).map(lambda text: text.encode(errors="surrogatepass")),
    st.text(alphabet='\\xUnrt0123456789abcdef\0\u202e"', max_size=20).map(str.encode),
)


@given(BYTES)
def test_what_is_shown_names_the_bytes(stored: bytes) -> None:
    assert unescaped(escaped(stored)) == stored
    assert escaped(stored).isprintable()


@given(BYTES)
def test_so_do_urls(stored: bytes) -> None:
    assert of_url(encoded(stored)) == stored
    assert re.fullmatch(r"[A-Za-z0-9_~-]*", encoded(stored))


@given(st.text(max_size=10))
def test_any_text_can_be_typed(text: str) -> None:
    assert isinstance(unescaped(text, strict=False), bytes)


@given(BYTES, st.integers(0, 5000))
def test_a_cut_text_is_short(stored: bytes, more: int) -> None:
    found = cut(stored * 50, len(stored) * 50 + more)
    assert len(found.text) <= 200
    assert (found.length is None) == (len(escaped(stored * 50)) <= 200 and not more)


@pytest.mark.parametrize("text", ["~", "~z1", "~FF", "a/b", "é", "%41", "a b", "~~"])
def test_what_no_url_has(text: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        of_url(text)


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (["HTTPError: 503 for https://a.example/x?y=1", "HTTPError: 429 for http://b"], "HTTPError: … for …"),
        (["KeyError: 'a'", "KeyError: 'b c'"], "KeyError: …"),
        (["no user 0f8b1a9c-7f0e-4b8e-9f7e-3a1d", "no user deadbeef01"], "no user …"),
        (["exit 1\nTraceback", "\n\nexit 2"], "exit …"),
        (["", " ", "\n"], "no reason"),
        (["decade facade"], "decade facade"),
        (["took -3.5 s at 12:30:01"], "took … s at …"),
    ],
)
def test_kinds_of_reasons(reasons: list[str], kind: str) -> None:
    assert {kind_of(reason) for reason in reasons} == {kind}


@pytest.mark.parametrize("item", CORPUS, ids=range(len(CORPUS)))
def test_a_kind_is_short(item: bytes) -> None:
    assert len(kind_of(item.decode(errors="replace"))) <= 100


@pytest.mark.parametrize("name", ["", "a" * 5000, "\udcff", "é" * 70])
def test_names_in_urls(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_~-]{0,200}", name_in_url(name))
