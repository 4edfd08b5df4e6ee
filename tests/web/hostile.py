"""Sixty items that have broken web pages of others, and a reader of pages that finds out whether one has."""

# ruff: noqa: E501, Q003

import unicodedata
from html.parser import HTMLParser
from typing import Any

import redset

__all__ = ("CORPUS", "Reader", "fill")

CORPUS: list[bytes] = [
    *(
        text.encode(errors="surrogateescape")
        for text in (
            # Markup and scripts.
            "<script>alert(1)</script>",
            "</script><script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<svg/onload=alert(1)>",
            "<svg><script>alert(1)</script></svg>",
            "<iframe src=javascript:alert(1)>",
            "<a href='javascript:alert(1)'>x</a>",
            "<style>body{display:none}</style>",
            "<link rel=stylesheet href=//evil.example/x.css>",
            "<base href=//evil.example/>",
            "<meta http-equiv=refresh content='0;url=//evil.example'>",
            "<form action=//evil.example><input name=password>",
            "<!-- ", "-->", "<![CDATA[", "<?php echo 1 ?>", "<plaintext>", "<textarea>", "<title>", "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
            "</td></tr></table><h1>taken over</h1>",
            "</bdi></a><button>x</button>",
            "<math><mtext></mtext><mglyph><svg><mtext><textarea><path id='</textarea><img onerror=alert(1) src>'>",
            # Out of attributes.
            "\" onmouseover=\"alert(1)", "' onfocus='alert(1)' autofocus='", "` onload=`alert(1)", "x\" style=\"position:fixed", "javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "//evil.example/",
            # Entities and templates.
            "&lt;script&gt;alert(1)&lt;/script&gt;", "&#60;script&#62;", "&amp;", "&", "&nbsp;", "&#x202e;", "{{ 7 * 7 }}", "{% raw %}", "${7*7}", "#{7*7}", "__proto__", "constructor",
            # Addresses.
            "../../static/page.js", "a/b?c#d", "%3Cscript%3E", "~3cscript~3e", "a&b=c;d", "?done=clear&n=9",
            # Control and direction marks.
            "a\0b", "\0", "\r\nSet-Cookie: x=1", "\x1b[31mred\x1b[0m", "\u202egnp.exe", "\u2066\u2069\u200f\u200e\u061c", "\ufeff\u200b\u2028\u2029", "a\tb\x7f\x85", "Z\u0334\u0335\u0336" * 60, "שלום עולם", "\U0001f600\ud83d".encode(errors="surrogatepass").decode(errors="surrogateescape"), "e\u0301", "\\x00\\\\", "\n" * 30, " ",
        )
    ),
    # Bytes that are no text, and large ones.
    b"\xff\xfe\xc3\x28\xa0\xa1", b"\xed\xa0\x80", b"\xf0\x90\x28\xbc", b"\xc0\xafscript", b"<script>" * 2000, b"\x00" * 10_000, b"x" * 10_000_000, "é".encode() * 399 + b"\xc3",
]  # fmt: skip
assert len(CORPUS) >= 60
assert len(set(CORPUS)) == len(CORPUS)

#: The attributes that a page may have.
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "rel", "href", "type", "src", "defer", "class", "id", "tabindex", "method"),
    *(
        "action",
        "role",
        "for",
        "value",
        "autocomplete",
        "maxlength",
        "spellcheck",
        "required",
        "data-etag",
        "data-label",
    ),
    *("scope", "colspan", "viewbox", "focusable", "points", "x1", "x2", "y1", "y2", "x", "y", "max", "data-continue"),
    *("inputmode", "size"),
}


class Reader(HTMLParser):
    """Reads a page as a browser does, and notes what must not be there."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.wrong: list[str] = []
        self.feed(page)
        self.close()
        marks = [
            mark for mark in self.text if unicodedata.category(mark) in ("Cc", "Cf", "Cs") and mark not in "\n\r\t"
        ]
        self.wrong += [f"mark {mark!r}" for mark in marks]
        scripts = self.tags.count("script")
        if scripts != 1:
            self.wrong.append(f"{scripts} scripts")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("iframe", "object", "embed", "style", "base", "img", "plaintext", "textarea", "math", "title2"):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES and not name.startswith("aria-"):
                self.wrong.append(f"{tag} {name}={value!r}")
            if name in ("href", "src", "action"):
                self.links.append(value or "")
                if ":" in (value or "") or (value or "").startswith("//"):
                    self.wrong.append(f"{tag} {name}={value!r}")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data!r}")

    def handle_pi(self, data: str) -> None:
        self.wrong.append(f"instruction {data!r}")

    def handle_data(self, data: str) -> None:
        self.text += data


def fill(client: Any) -> list[str]:
    """Make sets with the corpus in every field that a page shows, and return the names of these sets."""
    waiting = redset.SortedSet(client, "waiting", serializer=_Raw())
    waiting.update(CORPUS)
    dead = redset.SortedSet(client, "dead", serializer=_Raw(), max_attempts=1)
    dead.update(CORPUS)
    for reservation in dead.reserve_many(100):
        reservation.bury(reservation.item[:100_000].decode(errors="replace"))
    held = redset.SortedSet(client, "held", serializer=_Raw())
    held.update(CORPUS)
    reservations = held.reserve_many(100)
    held.nack(reservations[:35], delay=100)
    held.update(CORPUS[:60])
    held.reserve_many(60)
    keyed = redset.SortedSet(client, "keyed", serializer=_Raw(), key=lambda item: item[:50_000])
    keyed.update(CORPUS)
    groups = redset.SortedSet(
        client, "groups", serializer=_Raw(), group=lambda item: item[:500], per_group=redset.Limit(1)
    )
    groups.update(CORPUS)
    groups.reserve_many(10)
    seen = redset.ExpiringSet(client, "seen", ttl=600, serializer=_Raw())
    seen.add_new(CORPUS)
    names = [*("waiting", "dead", "held", "keyed", "groups", "seen")]
    for item in CORPUS:
        name = item[:1000].decode(errors="replace").replace("{", "(").replace("}", ")")
        if name not in names and name:
            redset.SortedSet(client, name).add("a")
            names.append(name)
    return names


class _Raw:
    def dumps(self, item: bytes) -> bytes:
        return item

    def loads(self, stored: str | bytes) -> bytes:
        return stored.encode() if isinstance(stored, str) else stored
