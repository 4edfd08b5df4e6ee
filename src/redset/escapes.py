"""The written form of stored bytes: text on one line, from which the bytes can be read back. No I/O.

The command line and the web page show items and names in it, so what one of them shows can be given to the other.
"""

import re
import unicodedata

__all__ = ("escaped", "unescaped")

#: Texts without a character that is escaped.
_PLAIN = re.compile(r"[ -\[\]-~]*")
_NAMED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BACK = {written[1].encode(): character.encode() for character, written in _NAMED.items()}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.?)", re.DOTALL)
#: Zero-width joiners belong to words and emoji. They move nothing on the screen, but two texts may look alike by them.
_JOINERS = "\u200c\u200d"
_LAST_CODE_POINT = 0x10FFFF


def escaped(stored: bytes | str, *, joiners: bool = False) -> str:
    r"""Return bytes, or a decoded name, as text on one line.

    Bytes that are no UTF-8 become ``\xff``; other characters that cannot be printed, such as direction marks, become
    ``\u202e``. A backslash is doubled.

    :param joiners: whether zero-width joiners stand for themselves.

    >>> print(escaped(b"a\\b\n\xff"))
    a\\b\n\xff
    """
    text = stored.decode("utf-8", "surrogateescape") if isinstance(stored, bytes) else stored
    if _PLAIN.fullmatch(text):
        return text
    kept = _JOINERS if joiners else ""
    return "".join(character if character in kept else _written(character) for character in text)


def _written(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 # how "surrogateescape" decodes a byte
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    if code < 0x80:  # noqa: PLR2004 # beyond ASCII, \x would stand for a byte and not for the character
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 # four digits


def unescaped(written: str | bytes, *, strict: bool = True) -> bytes:
    r"""Return the bytes that were written by :func:`escaped`.

    :param strict: False: a backslash that begins no escape stands for itself.
    :raises ValueError: there is another escape. It may be meant as it is, which is written with two backslashes.

    >>> unescaped(r"a\\b\n\xff"), unescaped(r"C:\dir", strict=False)
    (b'a\\b\n\xff', b'C:\\dir')
    """
    raw = written.encode("utf-8", "surrogateescape") if isinstance(written, str) else written

    def read(found: re.Match[bytes]) -> bytes:
        known = _read(found[1])
        if known is not None:
            return known
        if strict:
            shown = found[0].decode("utf-8", "replace")
            raise ValueError(f"an item has the unknown escape {shown}: write a backslash as \\\\")
        return found[0]

    return _ESCAPE.sub(read, raw) if b"\\" in raw else raw


def _read(name: bytes) -> bytes | None:
    """Return what an escape stands for; None for an unknown one."""
    if name in _BACK:
        return _BACK[name]
    if len(name) > 1:
        code = int(name[1:], 16)
        if name[:1] == b"x":
            return bytes([code])
        if code <= _LAST_CODE_POINT and unicodedata.category(chr(code)) != "Cs":
            return chr(code).encode()
    return None
