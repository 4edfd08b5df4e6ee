"""Stored bytes as text for people, and back; and the form in which URLs name them. No I/O."""

import hashlib
import math
import re
from dataclasses import dataclass

from redset.escapes import escaped

__all__ = (
    "DIGEST",
    "LARGE",
    "LONGEST",
    "Cut",
    "cut",
    "digest_of",
    "duration",
    "encoded",
    "kind_digest",
    "kind_of",
    "name_in_url",
    "number",
    "of_url",
)

#: The number of characters after which a text is cut.
LONGEST = 200
#: The number of bytes above which an item is named by its digest.
LARGE = 150
#: The longest encoded name of a set in a URL.
LONGEST_NAME = 200
#: The beginning of the digest that stands for a longer name. No encoded name begins with it.
DIGEST = "~~"

#: Bytes that stand for themselves in a URL.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_ENCODED = re.compile(r"(?:[A-Za-z0-9_-]|~[0-9a-f]{2})*")

#: The words of a reason that differ between items: addresses, quoted words, identifiers and numbers.
_VARYING = re.compile(
    r"""\w+://\S+ | "[^"]*" | '[^']*' | \b(?=[0-9a-fA-F-]*\d)[0-9a-fA-F-]{8,}\b | [-+]?\d[\w.,:]*""", re.VERBOSE
)
#: The longest name of a kind of reasons.
_LONGEST_KIND = 100


@dataclass(frozen=True, slots=True)
class Cut:
    """A text that may be the beginning of a longer one."""

    text: str
    #: The number of bytes of the whole; None if the text is whole.
    length: int | None


def cut(stored: bytes | str, length: int | None = None, most: int = LONGEST) -> Cut:
    """Return the first characters of bytes, escaped.

    :param length: the length of the whole, if ``stored`` is only its beginning.
    """
    stored = stored if isinstance(stored, bytes) else stored.encode(errors="surrogatepass")
    whole = len(stored) if length is None else length
    # A character has four bytes at most. One that is cut in half is left out.
    text = escaped(stored[: 4 * most + 4])
    if whole > len(stored) or len(stored) > 4 * most + 4 or len(text) > most:
        return Cut(text[: most - 1], whole)
    return Cut(text, None)


def digest_of(item: bytes) -> str:
    """Return the digest by which `show.lua` names a large item: of its length, beginning and end."""
    return hashlib.sha1(b"%d:" % len(item) + item[:4096] + item[-4096:], usedforsecurity=False).hexdigest()


def encoded(stored: bytes) -> str:
    """Return bytes in letters, digits, ``-``, ``_`` and ``~``, which no proxy or browser changes.

    >>> encoded(b"jobs"), encoded(b"a/b"), of_url("a~2fb")
    ('jobs', 'a~2fb', b'a/b')
    """
    return "".join(chr(byte) if byte in _PLAIN else f"~{byte:02x}" for byte in stored)


def of_url(text: str) -> bytes:
    """Return the bytes that :func:`encoded` has written.

    :raises ValueError: it has not written this.
    """
    if not _ENCODED.fullmatch(text):
        raise ValueError("this is no name in a URL of this page")
    return re.sub(rb"~(..)", lambda found: bytes([int(found[1], 16)]), text.encode())


def name_in_url(name: str) -> str:
    """Return the name of a set in a URL; of a long one its digest."""
    stored = name.encode(errors="surrogateescape")
    text = encoded(stored[: LONGEST_NAME + 1])
    if len(text) <= LONGEST_NAME:
        return text
    return f"{DIGEST}{hashlib.sha1(stored, usedforsecurity=False).hexdigest()}"


def kind_of(reason: str) -> str:
    """Return the kind of a reason: its first line without the words that differ between items.

    >>> kind_of("HTTPError: 503 for https://example.com/a/17"), kind_of("KeyError: 'name'"), kind_of("")
    ('HTTPError: … for …', 'KeyError: …', 'no reason')
    """
    line = next((line for line in reason.splitlines() if line.strip()), "").strip()
    return _VARYING.sub("…", line[:400])[:_LONGEST_KIND] or "no reason"


def kind_digest(kind: str) -> str:
    """Return the name of a kind in a URL."""
    return hashlib.sha1(kind.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()[:16]


def number(value: float | None) -> str:
    """Return a number with thousands separated.

    >>> number(1234567), number(0.25), number(None), number(float("inf"))
    ('1,234,567', '0.25', '-', 'infinity')
    """
    if value is None:
        return "-"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    if math.isnan(value):
        return "nan"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.2f}" if 0.01 <= abs(value) < 1e15 else f"{value:g}"


def duration(seconds: float | None) -> str:
    """Return a duration in one unit, or two.

    >>> duration(0.2), duration(75), duration(3600 * 5), duration(86400 * 3), duration(None)
    ('0 s', '1 min 15 s', '5 h', '3 d', '-')
    """
    if seconds is None:
        return "-"
    if math.isinf(seconds):
        return "for ever"
    whole = max(0, round(seconds))
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    for position, (unit, size) in enumerate(units):
        if whole >= size:
            rest = whole % size // units[position + 1][1] if size > 1 else 0
            more = f" {rest} {units[position + 1][0]}" if rest and whole < 10 * size else ""
            return f"{whole // size:,} {unit}{more}"
    return "0 s"
