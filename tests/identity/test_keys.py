"""Keys: what waits is under the name itself, the companions beside it in the same slot of a cluster."""

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from redset.core.keys import Keys
from redset.exceptions import ClusterNameError
from servers import Cluster, Place

#: Names full of what matters to a hash tag.
names = st.text(st.sampled_from("{}:abcé"), max_size=12)


def companions(name: str) -> set[bytes]:
    return all_of(name) - {name.encode()}


def all_of(name: str) -> set[bytes]:
    return {key for key in vars(Keys(name)).values() if isinstance(key, bytes)}


def has_hash_tag(name: str) -> bool:
    """By the words of the cluster specification: a {, a } to the right of the first one, and something between."""
    first = name.find("{")
    return first >= 0 and name.find("}", first + 1) > first + 1


@pytest.mark.parametrize(
    ("name", "dead"),
    [
        ("jobs", b"{jobs}:dead"),
        ("jobs:eu", b"{jobs:eu}:dead"),
        ("{a}jobs", b"{a}jobs::dead"),
        ("{jobs}", b"{jobs}::dead"),
        ("jobs{", b"{jobs{}:dead"),
        ("naïve", "{naïve}:dead".encode()),
    ],
)
def test_companions_carry_the_name_as_hash_tag_or_keep_the_one_it_has(name: str, dead: bytes) -> None:
    assert Keys(name).waiting == name.encode()
    assert Keys(name).dead == dead


@given(name=names)
@example("jobs")
@example("{jobs}")
@example("{}jobs")
@example("jobs}")
@example("{{a}")
def test_all_keys_of_a_set_are_in_one_slot_unless_it_says_otherwise(name: str) -> None:
    slots = {key_slot(key) for key in all_of(name)}

    if Keys(name).one_slot:
        assert len(slots) == 1


@given(name=names)
@example("")
@example("}")
@example("{}jobs")
def test_a_name_has_its_keys_in_one_slot_when_it_has_a_tag_or_could_be_one(name: str) -> None:
    could_be_a_tag = name != "" and "}" not in name

    assert Keys(name).one_slot == (has_hash_tag(name) or could_be_a_tag)


@given(one=names, other=names)
@example("x", "{x}")
@example("{x}", "{x}:")
@example("a}b", "{a}b}")
@example("", "{}")
def test_sets_of_different_names_share_no_companion(one: str, other: str) -> None:
    assume(one != other)

    assert not companions(one) & companions(other)


@given(name=names)
def test_the_keys_of_a_set_are_different_keys(name: str) -> None:
    assert len(companions(name)) == len(all_of(name)) - 1 >= 2


@pytest.mark.parametrize("name", [None, 7, b"jobs"], ids=repr)
def test_a_name_must_be_a_str(face: Any, kind: str, name: Any) -> None:
    with pytest.raises(TypeError, match="name"):
        getattr(face, kind)(name)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["jobs", "{jobs}", "{a}jobs", "jobs:eu west", "naïve ☃", "jobs{", "a\0b", "*?[a]"])
def test_a_set_of_any_name_works(face: Any, kind: str, raw: Any, name: str) -> None:
    jobs = getattr(face, kind)(name)
    jobs.add("write", score=1)
    jobs.add("read", score=2)

    assert raw.exists(name) == 1
    assert jobs.pop() == "write"
    assert jobs.discard("read")
    assert list(jobs.dead_letters) == []
    assert not jobs.clear()


@pytest.mark.conformance
def test_a_name_and_the_same_name_in_braces_share_nothing(face: Any, kind: str, raw: Any) -> None:
    plain, braced = (getattr(face, kind)(name, serializer=Unloadable()) for name in ("x", "{x}"))
    plain.add("of x", score=1)
    braced.add("of {x}", score=1)
    assert plain.take(1) == braced.take(1) == []

    assert [letter.raw for letter in plain.dead_letters] == [b"of x"]
    assert [letter.raw for letter in braced.dead_letters] == [b"of {x}"]
    plain.clear()
    assert [letter.raw for letter in braced.dead_letters] == [b"of {x}"]


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["a}b", "{}jobs", "}", ""])
def test_a_name_that_no_hash_tag_can_keep_in_one_slot_works_on_one_server_and_is_refused_by_a_cluster(
    face: Any, kind: str, here: Place, raw: Any, name: str
) -> None:
    jobs = getattr(face, kind)(name)
    for operate in (lambda: jobs.add("write", score=1), jobs.pop, lambda: jobs.take(2), jobs.clear):
        if isinstance(here, Cluster):
            with pytest.raises(ClusterNameError, match="hash tag"):
                operate()
        else:
            jobs.add("read", score=2)
            operate()

    assert raw.exists(name) == 0


class Unloadable:
    dumps = str

    def loads(self, stored: bytes) -> str:
        raise ValueError("never")
