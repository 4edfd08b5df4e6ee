"""docs/sets-compared.md says what is true of the three classes it compares: it is read here, and tried."""

import copy
import operator
import pickle
from pathlib import Path
from typing import Any

import pytest
import sortedcontainers  # type: ignore[import-untyped]

import redset

pytestmark = pytest.mark.conformance

PAGE = (Path(__file__).parents[2] / "docs" / "sets-compared.md").read_text()
MARKS = {True: "yes", False: "—"}
#: Of the special methods, those that a user of a set calls by an operator, a builtin or a module.
SPECIAL = [
    "and",
    "contains",
    "copy",
    "deepcopy",
    "delitem",
    "eq",
    "ge",
    "getitem",
    "gt",
    "hash",
    "iand",
    "ior",
    "isub",
    "iter",
    "ixor",
    "le",
    "len",
    "lt",
    "ne",
    "or",
    "rand",
    "reduce",
    "repr",
    "reversed",
    "ror",
    "rsub",
    "rxor",
    "sub",
    "xor",
]


def table(title: str) -> list[list[str]]:
    """The cells of the table below a title, row by row, without the code marks around them."""
    below = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in below.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`").replace("\\|", "|") for cell in row] for row in rows]


def has(kind: object, name: str) -> bool:
    """Special methods that are None are those that a class has not, such as the hash of a set."""
    return hasattr(kind, name) and not (name.startswith("__") and getattr(kind, name) is None)


def public(kind: object) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


#: Those of sortedcontainers get some of their methods when they are made.
A_SET, A_SORTED_SET = set[Any](), sortedcontainers.SortedSet()


NAMES = table("Methods")
BEHAVIOUR = table("Expressions")


def test_who_has_a_name() -> None:
    kinds = (A_SET, A_SORTED_SET, redset.SortedSet)
    marks = {name: said for name, *said, _ in NAMES}

    assert marks == {name: [MARKS[has(kind, name)] for kind in kinds] for name in marks}


def test_no_name_of_a_set_is_left_out() -> None:
    names = [row[0] for row in NAMES]
    special = {f"__{name}__" for name in SPECIAL}

    assert len(names) == len(set(names))
    assert public(A_SET) | public(A_SORTED_SET) <= set(names)
    assert {name for name in names if name.startswith("__")} == {
        name for name in special if has(A_SET, name) or has(A_SORTED_SET, name)
    }


@pytest.mark.parametrize("row", BEHAVIOUR, ids=lambda row: row[0])
def test_what_an_expression_comes_to(row: list[str], raw: Any) -> None:
    expression, *expected = row
    made = redset.SortedSet(raw, "s")
    made.update("abc")
    shown = [evaluated(expression, one) for one in (set("abc"), sortedcontainers.SortedSet("abc"), made)]

    assert expected == [
        any_item if any_item == "any item" else one for one, any_item in zip(shown, expected, strict=True)
    ]


def evaluated(expression: str, made: Any) -> str:
    """What the expression comes to, as the page shows it: the items of a set in order, an error by its name."""
    try:
        value = eval(expression, {"s": made, "copy": copy, "pickle": pickle, "operator": operator})
    except Exception as error:
        return type(error).__name__
    if type(value) is set:
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return repr(value)
