"""Items as the command line shows and takes them, in the form of :mod:`redset.escapes`."""

from redset import escapes
from redset.cli.exits import Failure

__all__ = ("escaped", "unescaped")


def escaped(item: bytes | str) -> str:
    """Return an item as text on one line. Zero-width joiners stay, since a terminal shows emoji by them."""
    return escapes.escaped(item, joiners=True)


def unescaped(written: str | bytes) -> bytes:
    """Return the bytes of an item that was written by :func:`escaped`.

    :raises Failure: there is an unknown escape.
    """
    try:
        return escapes.unescaped(written)
    except ValueError as error:
        raise Failure(str(error)) from None
