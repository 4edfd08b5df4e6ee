"""Each call by an object without ``shards=`` on a set that has shards says so, and changes nothing."""

from typing import Any

import pytest

import redset
from redset.exceptions import LayoutError, WrongTypeError
from redset.groups import Group
from redset.sets import DeadLetters

pytestmark = pytest.mark.conformance

KINDS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "SortedSet": ("SortedSet", (), {"key": str}),
    "grouped": ("SortedSet", (), {"key": str, "group": lambda item: "g"}),
    "PeriodicSet": ("PeriodicSet", (100,), {"key": str}),
    "ExpiringSet": ("ExpiringSet", (100,), {}),
}

#: In the place of an argument: a list of a reservation, opened from the receipt of an object with shards.
LEASES = object()

#: The arguments of the public methods that have any.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("add", "contains", "discard", "forget", "get", "index", "inspect", "interval"), ("a",)),
    **dict.fromkeys(("is_done", "next_due", "remove", "score", "state", "touch", "trigger", "ttl"), ("a",)),
    **dict.fromkeys(("add_new", "contains_many", "scores", "update"), (["a", "x"],)),
    **dict.fromkeys(("union", "union_update", "intersection", "intersection_update", "difference"), (["x"],)),
    **dict.fromkeys(("difference_update", "symmetric_difference", "symmetric_difference_update"), (["x"],)),
    **dict.fromkeys(("equals", "isdisjoint", "issubset", "issuperset"), ({"x"},)),
    **dict.fromkeys(("reserve_many", "take", "take_max", "limit"), (3,)),
    **dict.fromkeys(("between", "remove_between", "remove_slice", "slice"), (0, 5)),
    **dict.fromkeys(("at", "remove_at"), (0,)),
    **dict.fromkeys(("ack", "nack", "again"), (LEASES,)),
    "extend": (LEASES, 60),
    "increment": ("a", 1),
    "reschedule": ("a", 5),
}
#: Those of dead letters.
OF_LETTERS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("retry", "discard"), ("a",)),
    **dict.fromkeys(("retry_many", "discard_many"), (["a"],)),
    "slice": (0, 5),
}

#: What sends nothing, or only when the pipeline is executed.
LOCAL = {"add_to", "dead_letters", "group", "name", "reservation", "set_name"}
#: What no such set can do.
IMPOSSIBLE = {
    "SortedSet": {"groups"},
    "grouped": {"pop_max", "take_max"},
    "PeriodicSet": {"groups", "increment"},
    "ExpiringSet": {"pop"},
}
#: Reads of nothing but keys that a set with shards has not under its own name.
ELSEWHERE = {"get", "history", "is_done", "totals"}
ELSEWHERE_OF_LETTERS = {"count", "slice"}

#: An object, the name of a method, and arguments.
Call = tuple[Any, str, tuple[Any, ...]]


def calls_of(of: Any, made_by: Any, arguments: dict[str, tuple[Any, ...]], *left_out: str) -> list[Call]:
    """A call of each public method."""
    names = (name for name in dir(made_by) if not name.startswith("_"))
    return [(of, name, arguments.get(name, ())) for name in names if name not in LOCAL.union(left_out)]


def called(of: Any, name: str, args: tuple[Any, ...]) -> Any:
    """The result of a call; of an iterator, its items. A loop does not wait."""
    found = getattr(of, name)(*args, **({"wait": 0} if name == "consume" else {}))
    return list(found) if hasattr(found, "__next__") else found


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused(face: Any, raw: Any, kind: str) -> None:
    name, args, options = KINDS[kind]
    over_shards = getattr(face, name)("jobs", *args, shards=4, **options)
    for item in "abcd":
        over_shards.add(item)
    jobs = getattr(face, name)("jobs", *args, shards=None, **options)
    calls = calls_of(jobs, getattr(redset, name), ARGUMENTS, *ELSEWHERE, *IMPOSSIBLE[kind])
    if kind != "ExpiringSet":
        lease = jobs.reservation(over_shards.reserve().receipt)
        calls = [(of, name, tuple([lease] if one is LEASES else one for one in args)) for of, name, args in calls]
        calls += [(lease, end, ()) for end in ("ack", "nack", "again", "bury")] + [(lease, "extend", (60,))]
        calls += calls_of(jobs.dead_letters, DeadLetters, OF_LETTERS, *ELSEWHERE_OF_LETTERS)
    if kind == "grouped":
        calls += calls_of(jobs.group("g"), Group, ARGUMENTS)

    before = everything(raw)
    for call in calls:
        with pytest.raises(LayoutError, match=r"'jobs' has shards, and this object was made without: make it with"):
            assert called(*call) == "no error", call
    assert everything(raw) == before


def everything(raw: Any) -> dict[bytes, Any]:
    return {key: raw.dump(key) for key in raw.scan_iter()}


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_reads_of_other_keys_find_nothing(face: Any, name: str) -> None:
    face.SortedSet("jobs", shards=4, key=str).add("a")
    jobs = face.SortedSet("jobs", shards=None, key=str)
    empty = {"totals": face.SortedSet("empty", shards=None).totals(), "history": [], "is_done": False, "get": None}
    assert called(jobs, name, ARGUMENTS.get(name, ())) == empty[name]
    assert (len(jobs.dead_letters), list(jobs.dead_letters)) == (0, [])


def test_the_error_is_also_that_of_a_key_of_another_type(face: Any) -> None:
    face.SortedSet("jobs", shards=4).add("a")
    with pytest.raises(WrongTypeError, match="has shards"):
        face.SortedSet("jobs", shards=None).pause()
