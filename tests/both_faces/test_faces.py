"""The two faces: the same names, parameters and defaults, so that one is learned by learning the other."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import redset
import redset.aio
import redset.locks
import redset.reservations
import redset.sets
import redset.several

pytestmark = pytest.mark.conformance


def twin_of(name: str) -> type:
    """The synchronous class that has the same name as one of :mod:`redset.aio`."""
    modules = (redset.sets, redset.several, redset.locks, redset.reservations)
    twin: type = next(vars(module)[name] for module in modules if name in vars(module))
    return twin


CLASSES = [name for name in redset.aio.__all__ if isinstance(vars(redset.aio)[name], type)]
TWINS = [pytest.param(twin_of(name), vars(redset.aio)[name], id=name) for name in CLASSES]

#: Where Python's syntax has no await, the other face has a method, or the awaited twin of the special method.
INSTEAD_OF = {
    "__len__": "count",
    "__contains__": "contains",
    "__getitem__": "slice",
    "__delitem__": "remove_slice",
    "__reversed__": "reversed",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    **dict.fromkeys(["__or__", "__ror__"], "union"),
    **dict.fromkeys(["__and__", "__rand__"], "intersection"),
    **dict.fromkeys(["__sub__", "__rsub__"], "difference"),
    **dict.fromkeys(["__xor__", "__rxor__"], "symmetric_difference"),
    "__ior__": "union_update",
    "__iand__": "intersection_update",
    "__isub__": "difference_update",
    "__ixor__": "symmetric_difference_update",
    **dict.fromkeys(["__le__", "__lt__"], "issubset"),
    **dict.fromkeys(["__ge__", "__gt__"], "issuperset"),
}

each_twin = pytest.mark.parametrize(("sync", "aio"), TWINS)


def public_names(face: type) -> set[str]:
    return {name for name in dir(face) if not name.startswith("_")}


def public_methods(face: type) -> list[str]:
    return [name for name in sorted(public_names(face)) if callable(getattr(face, name))]


def special_names(face: type) -> set[str]:
    """The special methods that redset defines."""
    defined = {name for base in face.__mro__ if base.__module__.startswith("redset") for name in vars(base)}
    return {name for name in defined if inspect.isfunction(getattr(face, name)) and name.startswith("__")}


def spelled(annotation: Any) -> str:
    """An annotation without what has to differ: the module of a class, and what is awaited."""
    return re.sub(r"\bredset\.(\w+\.)*|\bAsync(?=Iterator)| \| [\w.]*AsyncIterable\[[^]]*\]", "", str(annotation))


def parameters(function: Any) -> list[tuple[str, Any, Any, str]]:
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default, spelled(one.annotation)) for one in found]


@each_twin
def test_both_have_the_same_public_names(sync: type, aio: type) -> None:
    assert public_names(sync) == public_names(aio)


@pytest.mark.parametrize("name", ["SortedSet", "TimeSortedSet", "ScheduledSet", "PeriodicSet", "ExpiringSet", "Lock"])
def test_what_users_make_takes_the_same_parameters(name: str) -> None:
    assert parameters(twin_of(name)) == parameters(vars(redset.aio)[name])


@each_twin
def test_every_method_takes_the_same_parameters_with_the_same_defaults(sync: type, aio: type) -> None:
    for name in public_methods(sync):
        assert parameters(getattr(sync, name)) == parameters(getattr(aio, name)), name


@each_twin
def test_every_method_returns_the_same_type(sync: type, aio: type) -> None:
    for name in public_methods(sync):
        one, other = (inspect.signature(getattr(face, name)).return_annotation for face in (sync, aio))
        assert spelled(one) == spelled(other), name


#: Returns an object whose methods are awaited.
WITHOUT_CALL = {"group"}


@each_twin
def test_every_method_of_the_asyncio_face_is_awaited_or_iterated(sync: type, aio: type) -> None:
    for name in public_methods(aio):
        method = inspect.unwrap(getattr(aio, name))
        is_awaited = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) or iterates(method)
        assert is_awaited or name in WITHOUT_CALL, name


def iterates(method: Any) -> bool:
    """Whether it returns a class of this face that is iterated by ``async for``."""
    returned = spelled(inspect.signature(method).return_annotation).partition("[")[0]
    returned = returned.removeprefix("<class '").removesuffix("'>")
    return returned.endswith("Iterator") or hasattr(vars(redset.aio).get(returned), "__aiter__")


@each_twin
def test_every_special_method_has_an_awaited_counterpart(sync: type, aio: type) -> None:
    for name in sorted(special_names(sync)):
        assert hasattr(aio, INSTEAD_OF.get(name, name)), name


@each_twin
def test_the_asyncio_face_has_no_special_method_that_would_have_to_block(sync: type, aio: type) -> None:
    assert not special_names(aio) & INSTEAD_OF.keys()


@each_twin
def test_everything_public_is_documented_on_both_faces(sync: type, aio: type) -> None:
    for face in sync, aio:
        assert face.__doc__
        for name in sorted(public_names(face)):
            assert inspect.getdoc(getattr(face, name)), f"{face.__module__}.{face.__name__}.{name}"


def test_both_modules_have_the_same_public_names() -> None:
    assert set(redset.sets.__all__) <= set(CLASSES)
    assert set(redset.aio.__all__) - set(CLASSES) == {
        *("connect", "first_of", "forget_set", "list_sets", "open_set", "reshard", "shared"),
    }


def test_connect_takes_the_same_parameters() -> None:
    assert parameters(redset.connect) == parameters(redset.aio.connect)
    assert inspect.iscoroutinefunction(redset.aio.connect)


def test_an_asyncio_set_cannot_be_mistaken_for_a_synchronous_one(here: Any) -> None:
    """``len``, ``in`` and ``[]`` would have to block, so they are errors and never quietly wrong."""
    jobs: Any = redset.aio.SortedSet(here.client(awaited=True), "jobs")

    for look in len, iter, lambda jobs: "x" in jobs, lambda jobs: jobs[0]:
        with pytest.raises(TypeError):
            look(jobs)


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "add": lambda jobs: jobs.add("x", score=1),
    "add if it is not there": lambda jobs: jobs.add("x", score=1, nx=True),
    "update": lambda jobs: jobs.update("xyz", score=1),
    "increment": lambda jobs: jobs.increment("x", 1),
    "scores": lambda jobs: jobs.scores("abx"),
    "contains_many": lambda jobs: jobs.contains_many("abx"),
    "pop": lambda jobs: jobs.pop(),
    "take": lambda jobs: jobs.take(1000),
    "take more than there is": lambda jobs: jobs.take(1001),
    "peek": lambda jobs: jobs.peek(),
    "peek_score": lambda jobs: jobs.peek_score(),
    "score": lambda jobs: jobs.score("x"),
    "contains": lambda jobs: jobs.contains("x"),
    "count": lambda jobs: jobs.count(),
    "count between": lambda jobs: jobs.count(min=1, max=2),
    "at": lambda jobs: jobs.at(0),
    "slice": lambda jobs: jobs.slice(0, 2),
    "iterate": lambda jobs: list(iter(jobs)),
    "index": lambda jobs: jobs.index("x"),
    "iterate in reverse": lambda jobs: list(jobs.reversed()),
    "iterate with scores": lambda jobs: list(jobs.with_scores()),
    "between": lambda jobs: list(jobs.between(0, 1)),
    "remove_at": lambda jobs: jobs.remove_at(0),
    "remove_slice": lambda jobs: jobs.remove_slice(1, 3),
    "remove_between": lambda jobs: jobs.remove_between(1, 1),
    "discard": lambda jobs: jobs.discard("x"),
    "clear": lambda jobs: jobs.clear(),
    "count dead letters": lambda jobs: jobs.dead_letters.count(),
    "iterate over dead letters": lambda jobs: list(iter(jobs.dead_letters)),
}


@pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_an_operation_is_one_round_trip(
    face: Any, kind: str, raw: Any, operate: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = face.client.execute_command

    def note_and_send(*words: Any, **options: Any) -> Any:
        sent.append(words[0])
        return send(*words, **options)

    monkeypatch.setattr(face.client, "execute_command", note_and_send)
    jobs = getattr(face, kind)("jobs")
    jobs.add("x", score=1)
    operate(jobs)  # from now on the server knows the scripts
    raw.zadd("jobs", dict.fromkeys("abcdef", 1))
    sent.clear()
    operate(jobs)

    assert len(sent) == 1


def test_both_faces_work_on_the_same_set(face: Any, raw: Any) -> None:
    """What one face has added is a plain member of a plain sorted set, and so is what the other takes."""
    face.SortedSet("jobs").add("write", score=1.5)
    assert raw.zpopmin("jobs") == [(b"write", 1.5)]

    raw.zadd("jobs", {"read": 2.5})
    assert face.SortedSet("jobs").pop() == "read"
