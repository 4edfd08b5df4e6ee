"""The written form of items: text on one line, from which the bytes can be read back. No I/O."""

import re
import unicodedata

from redset.cli.exits import Failure

__all__ = ("escaped", "unescaped")

#: What needs no escape and no closer look.
_PLAIN = re.compile(rb"[ -\[\]-~]*")
_NAMED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BACK = {written[1].encode(): character.encode() for character, written in _NAMED.items()}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.?)", re.DOTALL)
#: Zero-width joiners belong to words and emoji. They move nothing on the screen.
_JOINERS = "\u200c\u200d"
_LAST_CODE_POINT = 0x10FFFF


def escaped(item: bytes) -> str:
    r"""Return an item as text on one line.

    Bytes that are no UTF-8 become ``\xff``; other characters that cannot be printed, such as direction marks, become
    ``\u202e``. A backslash is doubled.

    >>> print(escaped(b"a\\b\n\xff"))
    a\\b\n\xff
    """
    if _PLAIN.fullmatch(item):
        return item.decode()
    return "".join(map(_written, item.decode("utf-8", "surrogateescape")))


def _written(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 # how "surrogateescape" decodes a byte
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable() or character in _JOINERS:
        return character
    if code < 0x80:  # noqa: PLR2004 # beyond ASCII, \x would stand for a byte and not for the character
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 # four digits


def unescaped(written: str | bytes) -> bytes:
    r"""Return the bytes of an item that was written by :func:`escaped`.

    :raises Failure: there is another escape. It may be meant as it is, which is written with two backslashes.

    >>> unescaped(r"a\\b\n\xff")
    b'a\\b\n\xff'
    """
    raw = written.encode("utf-8", "surrogateescape") if isinstance(written, str) else written
    return _ESCAPE.sub(_read, raw) if b"\\" in raw else raw


def _read(found: re.Match[bytes]) -> bytes:
    name = found[1]
    if name in _BACK:
        return _BACK[name]
    if len(name) > 1:
        code = int(name[1:], 16)
        if name[:1] == b"x":
            return bytes([code])
        if code <= _LAST_CODE_POINT and unicodedata.category(chr(code)) != "Cs":
            return chr(code).encode()
    shown = found[0].decode("utf-8", "replace")
    raise Failure(f"an item has the unknown escape {shown}: write a backslash as \\\\")
