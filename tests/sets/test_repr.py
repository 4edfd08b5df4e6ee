"""The repr of anything that redset makes asks no server and never raises."""

import json
from typing import Any

import pytest

import redset
import redset.aio
from faces import Face
from redset import DeadLetter, Key
from redset.locks import Lock
from redset.serializers import JSONSerializer, NamedtupleSerializer, TypedSerializer


class Bad:
    """An item that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("cannot be shown")

    def __str__(self) -> str:
        return "bad"


class BadItems:
    def dumps(self, item: Any) -> str:
        return "bad"

    def loads(self, stored: Any) -> Any:
        return Bad()


class Gone:
    """A client of a server that is away."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        raise AssertionError("a repr talks to the server")


class AwaitedGone:
    async def execute_command(self, *words: Any, **options: Any) -> Any:
        raise AssertionError("a repr talks to the server")


@pytest.mark.parametrize("face", [redset, redset.aio], ids=["sync", "aio"])
def test_the_repr_of_a_set_needs_no_server(face: Any) -> None:
    client: Any = AwaitedGone() if face is redset.aio else Gone()
    for name, options in {
        "SortedSet": (),
        "TimeSortedSet": (),
        "ScheduledSet": (),
        "PeriodicSet": (60,),
        "ExpiringSet": (60,),
    }.items():
        made = getattr(face, name)(client, "jobs", *options)
        assert repr(made) == str(made) == f"{made}" == f"<{name} name='jobs'>"
    jobs = face.SortedSet(client, "jobs")
    for thing in (jobs.dead_letters, jobs.consume(), jobs.lock, jobs.serializer):
        assert repr(thing)
    assert repr(jobs.lock) == f"<{type(jobs.lock).__name__} key='jobs__lock'>"


def test_a_set_or_a_lock_that_could_not_be_made_can_be_shown() -> None:
    """As whoever shows the variables of a traceback does."""
    for kind in (redset.SortedSet, redset.ExpiringSet, redset.aio.PeriodicSet, Lock, redset.Reservation):
        assert kind.__name__ in repr(object.__new__(kind))


@pytest.mark.conformance
def test_an_item_that_cannot_be_shown_hides_nothing_else(face: Face) -> None:
    jobs = face.SortedSet("jobs", serializer=BadItems())
    jobs.add(Bad())
    reservation = jobs.reserve()
    assert repr(reservation).startswith("<Reservation item=<Bad whose repr raises RuntimeError> attempt=1 token=")
    (lease,) = jobs.leases()
    assert repr(lease).startswith("Lease(item=<Bad whose repr raises RuntimeError>, deadline=")
    reservation.ack()

    jobs.add(Bad())
    assert repr(jobs.inspect(Bad())).startswith("Inspection(state='waiting', score=0.0, ")
    jobs.reserve().bury("no")
    (letter,) = jobs.dead_letters
    assert "item=<Bad whose repr raises RuntimeError>, raw=b'bad', reason='no'" in repr(letter)
    with pytest.raises(TypeError, match="the score of <Bad whose repr raises RuntimeError> must be"):
        jobs.add(Bad(), score="high")
    with pytest.raises(ValueError, match="is not waiting"):
        jobs.index(Bad())
    assert repr(Key(Bad())) == "Key(identity=<Bad whose repr raises RuntimeError>)"


def test_what_can_be_shown_is_shown_as_before() -> None:
    letter = DeadLetter(item="x", raw=b"x", reason="no", died_at=1.5, attempts=2, score=0.0, identity=b"x")
    assert eval(repr(letter)) == letter
    assert repr(Key("x")) == "Key(identity='x')"
    for serializer in (JSONSerializer(), NamedtupleSerializer, TypedSerializer(int), json):
        assert repr(serializer)
