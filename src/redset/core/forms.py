"""The layout of a set: the form in which it is stored, and its version. Scripts compare it before each change."""

import re

from redset.exceptions import LayoutError

__all__ = ("VERSION", "check_layout", "described", "layout_of", "other_version", "refusal")

#: Raised with each change of what is stored that the version before could not read, or could damage.
VERSION = 1

#: The classes that store items in each form.
_CLASSES = {
    "sorted": "a SortedSet, TimeSortedSet or ScheduledSet",
    "periodic": "a PeriodicSet",
    "expiring": "an ExpiringSet",
}


def layout_of(features: frozenset[str]) -> str:
    """Return the layout of sets with these features. A set has one."""
    kind = next((kind for kind in ("expiring", "periodic") if kind in features), "sorted")
    words = {word: word in features for word in ("keyed", "grouped", "fair")}
    # The turns of groups of which nothing is due are stored apart.
    words |= {"scheduled": features >= {"fair", "scheduled"}, "digests": features >= {"expiring", "digest"}}
    return " ".join([str(VERSION), kind, *(word for word, holds in words.items() if holds)])


def _parts(layout: str) -> tuple[int, str, list[str]]:
    """Return the version, the kind and the further words of a layout; version 0 stands for one without a version."""
    number, _, rest = layout.partition(" ")
    version, rest = (int(number), rest) if re.fullmatch("[1-9][0-9]{0,8}", number) else (0, layout)
    kind, *words = rest.split() or [""]
    return version, kind, words


def described(layout: str) -> str:
    """Return a layout in words. It was read from a hash into which any program may write."""
    _, kind, words = _parts(layout)
    also = {"keyed": " with a key", "grouped": " with groups", "digests": " that keeps digests"}
    also |= {"fair": " in fair turns", "scheduled": ""}
    if kind not in _CLASSES or not also.keys() >= set(words):
        return f"a set of a kind that this version does not know, {layout!r}"
    classes = _CLASSES[kind]
    if "fair" in words:
        classes = "a ScheduledSet" if "scheduled" in words else "a SortedSet or TimeSortedSet"
    return classes + "".join(also[word] for word in words)


def check_layout(name: str, stored: bytes | None, own: str) -> None:
    """Raise a LayoutError if the hash of a set names another layout than ``own``. None: it names none yet."""
    if stored is not None and stored != own.encode():
        raise LayoutError(refusal(name, stored.decode(errors="replace"), own))


def refusal(name: str, stored: str, own: str) -> str:
    """Return the message for a set on the server that has another layout."""
    other = other_version(name, stored)
    if other is not None:
        return other
    options = ", key=, group= and turns=," if "grouped" in stored + own else " and key=,"
    return (
        f"the set {name!r} on the server is {described(stored)}, and this object {described(own)}: use the same class"
        f"{options} another name, or forget_set()"
    )


def other_version(name: str, layout: str) -> str | None:
    """Return the message for a set that another version of redset has stored; None if this version can read it."""
    version, kind, _ = _parts(layout)
    if version > VERSION:
        return (
            f"the set {name!r} is stored in layout {version}, by a newer redset, and this one reads layout {VERSION}: "
            "upgrade redset here; that request changed nothing"
        )
    if version < VERSION and kind in _CLASSES:
        return (
            f"the set {name!r} is stored in layout {version}, by an older redset, and this one reads layout {VERSION}: "
            "take its items out with the redset that stored it, and add them here under another name; or drop the set "
            "with forget_set(). That request changed nothing"
        )
    return None
