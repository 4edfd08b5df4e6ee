"""CPython's own tests of ``set``, of ``Set`` and of ``MutableSet``, run on redset sets on a server.

Whatever such a test calls ``set`` is :class:`Adapted` here. What does not hold for redset is listed below, by name and
reason; a listed test that passes is a failure.
"""

import functools
import itertools
import unittest
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar
from unittest import mock

import pytest

from redset import SortedSet

pytestmark = pytest.mark.no_cover

try:
    from test import test_collections, test_set  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    pytest.skip("this Python came without its tests", allow_module_level=True)


class Drawer:
    """A serializer for anything that can be in a set: it is kept here, and its number is stored.

    So equal items are equal bytes, as in a set, and each comes back as the very object. What cannot be hashed is
    refused, but for a set that is looked up, which a set takes for a frozenset.
    """

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._things: list[Any] = []

    def dumps(self, item: Any) -> str:
        if isinstance(item, set | Adapted):
            item = frozenset(item)
        number = self._numbers.setdefault(item, len(self._things))
        if number == len(self._things):
            self._things.append(item)
        return str(number)

    def loads(self, stored: Any) -> Any:
        return self._things[int(stored)]


class Adapted(SortedSet[Any]):
    """A redset set that is made as a set is."""

    #: Of the test that is running.
    client: ClassVar[Any]
    drawer: ClassVar[Drawer]
    _names = map("set {}".format, itertools.count())

    def __init__(self, items: Iterable[Any] = (), /) -> None:
        super().__init__(self.client, next(self._names), serializer=self.drawer)
        self.union_update(items)


@pytest.fixture(autouse=True)
def _client(raw: Any) -> Iterator[None]:
    Adapted.client, Adapted.drawer = raw, Drawer()
    yield
    del Adapted.client, Adapted.drawer


ITERABLES = "the operators of collections.abc.Set take any iterable, and so do these"
NOT_THERE = "what cannot be stored is not in the set, where a set raises TypeError"
COUNTS = "update returns how many items were new"
PICKLED = "a set on a server is neither pickled nor copied: send its name"
IN_MEMORY = "it is about how a set is kept in memory"
OTHERS = [f"TestOnlySets{kind}" for kind in ("Dict", "Tuple", "String", "Generator")]

#: The tests that do not hold for redset, and why.
DIFFERENT: dict[str, str] = {
    "TestSet.test_free_after_iterating": "an iterator needs the client and not the set, which may be gone before",
    **dict.fromkeys((f"TestSet.test_{name}" for name in ("or", "and", "sub", "xor")), ITERABLES),
    **{
        f"{case}.test_{name}": ITERABLES
        for case in OTHERS
        for name in (
            "union",
            "intersection",
            "difference",
            "sym_difference",
            "update_operator",
            "intersection_update_operator",
            "difference_update_operator",
            "sym_difference_update_operator",
        )
    },
    "TestSet.test_contains": NOT_THERE,
    "TestSet.test_difference": NOT_THERE,
    "TestSet.test_difference_update": NOT_THERE,
    "TestSet.test_intersection_update": NOT_THERE,
    "TestSet.test_badcmp": NOT_THERE,
    "TestSet.test_update": COUNTS,
    "TestSet.test_pickling": PICKLED,
    "TestSet.test_deepcopy": PICKLED,
    "TestSet.test_iterator_pickling": PICKLED,
    **{
        f"TestBasicOps{case}.test_{name}": reason
        for case in ("Empty", "Singleton", "Tuple", "Triple", "String", "Bytes", "MixedStringBytes")
        for name, reason in (("pickling", PICKLED), ("iteration", "an iterator over pages does not know its length"))
    },
    **{
        f"TestBasicOps{case}.test_repr": "a set on a server is shown by its name"
        for case in ("Empty", "Singleton", "Tuple", "String", "Bytes", "MixedStringBytes")
    },
    **{f"TestCopying{case}.test_deep_copy": PICKLED for case in ("Empty", "Singleton", "Triple", "Tuple", "Nested")},
    "TestSet.test_cyclical_repr": "a set on a server is shown by its name",
    "TestSet.test_do_not_rehash_dict_keys": IN_MEMORY,
    "TestExceptionPropagation.test_changingSizeWhileIterating": "a set may be changed while it is iterated over",
}

#: The test cases that are not run, and why.
LEFT_OUT: dict[str, str] = {
    "TestSetSubclass": "Adapted is a subclass, and no subclass of set",
    "TestSetSubclassWithSlots": IN_MEMORY,
    "TestWeirdBugs": "its sets are displays, {…}, which are always plain ones",
    **dict.fromkeys(
        ["TestFrozenSet", "TestFrozenSetSubclass", "TestFrozenSetSubclassWithSlots"], "redset has no frozen sets"
    ),
    **dict.fromkeys(
        [
            *(
                f"TestBinaryOpsMutating_{pair}"
                for pair in ("Set_Set", "Subclass_Subclass", "Set_Subclass", "Subclass_Set")
            ),
            *(
                f"TestMethodsMutating_{pair}"
                for pair in ("Set_Set", "Subclass_Subclass", "Set_Subclass", "Subclass_Set")
            ),
            *(f"TestMethodsMutating_{pair}" for pair in ("Set_Dict", "Set_List")),
        ],
        "its items change the set when they are compared, and here their bytes are",
    ),
}

#: Of the test case for all abstract classes, those about sets; in the others the sets are classes of their own.
OF_ABSTRACT_SETS = (
    "test_MutableSet",
    "test_Set",
    "test_issue_5647",
    "test_issue8750",
    "test_Set_interoperability_with_real_sets",
)


def adapted(case: type[unittest.TestCase], **replaced: Any) -> type[unittest.TestCase]:
    """The test case, with redset sets wherever it says ``set``; ``replaced`` are the names in its module."""

    def set_up(self: Any) -> None:
        for name, stand_in in replaced.items():
            patch = mock.patch.object(sys_module(case), name, stand_in, create=True)
            patch.start()
            self.addCleanup(patch.stop)
        case.setUp(self)
        # Some of the sets were made when the class was.
        for name in dir(case):
            if type(getattr(self, name)) is set:
                setattr(self, name, Adapted(getattr(self, name)))

    members: dict[str, Any] = {"setUp": set_up, "__module__": __name__}
    for name, reason in DIFFERENT.items():
        of_case, _, method = name.partition(".")
        if of_case == case.__name__:
            members[method] = expected_to_fail(getattr(case, method), reason)
    return type(case.__name__, (case,), members)


def expected_to_fail(test: Callable[[Any], None], reason: str) -> Any:
    @functools.wraps(test)
    def fails(self: Any) -> None:
        test(self)

    return pytest.mark.xfail(strict=True, reason=reason)(fails)


def sys_module(case: type) -> Any:
    return {module.__name__: module for module in (test_set, test_collections)}[case.__module__]


def cases_of(module: Any) -> dict[str, type[unittest.TestCase]]:
    found = {name: case for name, case in vars(module).items() if isinstance(case, type)}
    return {name: case for name, case in found.items() if issubclass(case, unittest.TestCase)}


def adapted_cases() -> Iterator[type[unittest.TestCase]]:
    for name, case in cases_of(test_set).items():
        if name == "TestSet":
            # It says itself which sets it makes, and which it expects to come back.
            yield type(name, (adapted(case),), {"thetype": Adapted, "basetype": set, "__module__": __name__})
        elif name not in LEFT_OUT:
            yield adapted(case, set=Adapted)
    abstract = adapted(test_collections.TestCollectionABCs, set=Adapted, WithSet=Adapted)
    others = [name for name in dir(abstract) if name.startswith("test_") and name not in OF_ABSTRACT_SETS]
    yield type(abstract.__name__, (abstract,), {**dict.fromkeys(others), "__module__": __name__})


globals().update({case.__name__: case for case in adapted_cases()})


class TestComparison(test_collections.ABCTestCase):  # type: ignore[misc, unused-ignore]
    def test_it_is_left_to_the_other_side(self) -> None:
        self.validate_comparison(Adapted())


def test_what_is_listed_is_there() -> None:
    cases = cases_of(test_set) | {"TestCollectionABCs": test_collections.TestCollectionABCs}

    assert set(LEFT_OUT) <= set(cases)
    for name in DIFFERENT:
        case, _, method = name.partition(".")
        assert hasattr(cases[case], method), name
