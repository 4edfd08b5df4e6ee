"""Leases when something is wrong: with the server, with its keys, or with what is asked for. Nothing is lost by it."""

from collections.abc import Callable
from typing import Any

import pytest

from invariants import RawSet
from redset import SortedSet
from redset.core.keys import Keys
from redset.exceptions import LeaseLost, ServerFullError, WrongTypeError
from servers import wait_until

KEYS = Keys("jobs")


@pytest.fixture
def jobs(face: Any) -> Any:
    return face.SortedSet("jobs", max_attempts=3)


def everything(raw: Any) -> dict[bytes, Any]:
    """All that is stored but the records of calls."""
    return {key: raw.dump(key) for key in raw.keys("*") if not key.startswith(KEYS.call_prefix)}


# Keys of the wrong type

#: Each operation on a set and the reservation of an item of it, and which companions it cannot do without.
HAND_OUT_KEYS = {"leased", "deliveries", "parked", "dead", "letters"}
OPERATIONS: dict[str, tuple[Callable[[Any, Any], Any], set[str]]] = {
    "pop": (lambda jobs, held: jobs.pop(), HAND_OUT_KEYS),
    "take": (lambda jobs, held: jobs.take(2), HAND_OUT_KEYS),
    "take, waiting": (lambda jobs, held: jobs.take(2, wait=1), HAND_OUT_KEYS),
    "reserve": (lambda jobs, held: jobs.reserve(), HAND_OUT_KEYS | {"meta"}),
    "reserve_many": (lambda jobs, held: jobs.reserve_many(2), HAND_OUT_KEYS | {"meta"}),
    "consume": (lambda jobs, held: next(jobs.consume(wait=0)), HAND_OUT_KEYS | {"meta"}),
    "ack": (lambda jobs, held: held.ack(), HAND_OUT_KEYS),
    "nack": (lambda jobs, held: held.nack(), HAND_OUT_KEYS),
    "again": (lambda jobs, held: held.again(), HAND_OUT_KEYS),
    "extend": (lambda jobs, held: held.extend(1), HAND_OUT_KEYS),
    "bury": (lambda jobs, held: held.bury(), HAND_OUT_KEYS),
    "ack many": (lambda jobs, held: jobs.ack([held]), HAND_OUT_KEYS),
    "nack many": (lambda jobs, held: jobs.nack([held]), HAND_OUT_KEYS),
    "again many": (lambda jobs, held: jobs.again([held]), HAND_OUT_KEYS),
    "extend many": (lambda jobs, held: jobs.extend([held], 1), HAND_OUT_KEYS),
    "stats": (lambda jobs, held: jobs.stats(), {"leased", "parked", "dead"}),
    "discard": (lambda jobs, held: jobs.discard("held"), {"leased", "deliveries", "parked"}),
    "clear": (lambda jobs, held: jobs.clear(), HAND_OUT_KEYS | {"meta"}),
    "count the dead": (lambda jobs, held: len(jobs.dead_letters), {"dead"}),
    "iterate the dead": (lambda jobs, held: list(jobs.dead_letters), {"dead", "letters"}),
    "slice the dead": (lambda jobs, held: jobs.dead_letters[:1], {"dead", "letters"}),
    "retry": (lambda jobs, held: jobs.dead_letters.retry("dead"), {"dead", "letters"}),
    "retry all": (lambda jobs, held: jobs.dead_letters.retry_all(), {"dead", "letters"}),
    "forget": (lambda jobs, held: jobs.dead_letters.discard("dead"), {"dead", "letters"}),
    "forget all": (lambda jobs, held: jobs.dead_letters.clear(), {"dead", "letters"}),
}


@pytest.fixture
def held(jobs: SortedSet[str]) -> Any:
    """A reservation from a set that has something in every state."""
    for score, item in enumerate(["held", "parked", "delayed", "dead", "again", "waits"]):
        jobs.add(item, score=score)
    held, _, delayed, dead, again = jobs.reserve_many(5, lease=1000)
    delayed.nack(delay=1000)
    dead.bury()
    again.nack(delay=0)
    jobs.add("parked", score=-1)
    jobs.again(jobs.reserve_many(1))
    assert (jobs.stats().waiting, jobs.stats().leased, jobs.stats().delayed, jobs.stats().parked) == (2, 2, 1, 1)
    return held


def refusal(operate: Callable[[Any, Any], Any], jobs: Any, held: Any) -> WrongTypeError | None:
    try:
        operate(jobs, held)
    except WrongTypeError as error:
        return error
    return None


@pytest.mark.no_cover
@pytest.mark.parametrize("wrong", ["leased", "deliveries", "parked", "dead", "letters", "meta", "wake", "looks"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_needs_a_key_of_another_type_names_it_and_changes_nothing(
    jobs: SortedSet[str], raw: Any, held: Any, operation: str, wrong: str
) -> None:
    operate, needed = OPERATIONS[operation]
    key = getattr(KEYS, wrong)
    raw.delete(key)
    raw.sadd(key, "of somebody else")
    before = everything(raw)

    error = refusal(operate, jobs, held)

    if error:
        assert f"'{key.decode()}'" in str(error)
        assert everything(raw) == before
    else:
        assert wrong not in needed, "it worked without what it needs"
    assert raw.smembers(key) == {b"of somebody else"}


@pytest.mark.conformance
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_needs_the_set_itself_names_it(
    jobs: SortedSet[str], raw: Any, held: Any, operation: str
) -> None:
    """Looking at dead letters and forgetting them is what does not."""
    operate, _ = OPERATIONS[operation]
    raw.delete("jobs")
    raw.set("jobs", "of somebody else")
    before = everything(raw)

    error = refusal(operate, jobs, held)

    if error:
        assert "'jobs'" in str(error)
        assert everything(raw) == before
    else:
        assert "the dead" in operation or operation.startswith("forget")
    assert raw.get("jobs") == b"of somebody else"


@pytest.mark.conformance
def test_a_consumer_that_cannot_go_on_acks_what_it_has_done(jobs: SortedSet[str], raw: Any) -> None:
    """An ack needs none of the dead letters."""
    jobs.add("a", score=1)
    consumption = jobs.consume(wait=0)
    next(consumption)
    raw.set(KEYS.dead, "of somebody else")

    with pytest.raises(WrongTypeError, match="dead"):
        next(consumption)

    assert raw.zrange(KEYS.leased, 0, -1) == []
    assert jobs.count() == 0


# A full server


@pytest.fixture
def fill(raw: Any, filling: Callable[[], None]) -> Callable[[], None]:
    """Makes the server full, and has it forget all scripts."""

    def fill() -> None:
        raw.script_flush()
        filling()

    return fill


ON_A_FULL_SERVER: dict[str, Callable[[Any, Any], Any]] = {
    name: operate for name, (operate, _) in OPERATIONS.items()
} | {
    "nack for later": lambda jobs, held: held.nack(delay=1000),
    "again for later": lambda jobs, held: held.again(delay=1000, score=7),
    "consume all": lambda jobs, held: [one.ack() for one in jobs.consume(wait=0)],
}


@pytest.mark.parametrize("operation", ON_A_FULL_SERVER)
def test_everything_but_adding_works_on_a_full_server(
    jobs: SortedSet[str], raw: Any, held: Any, fill: Callable[[], None], operation: str
) -> None:
    fill()

    ON_A_FULL_SERVER[operation](jobs, held)

    RawSet(raw, "jobs").check()


def test_a_full_server_still_refuses_what_is_added(jobs: SortedSet[str], raw: Any, held: Any, fill: Any) -> None:
    fill()
    before = everything(raw)

    for item in "held", "parked", "delayed", "dead", "waits", "new":
        with pytest.raises(ServerFullError):
            jobs.add(item, score=1)

    assert everything(raw) == before


@pytest.mark.parametrize("wait", [0, 0.05])
def test_a_full_server_with_nothing_to_take_is_no_error(
    jobs: SortedSet[str], raw: Any, fill: Callable[[], None], wait: float
) -> None:
    fill()

    for take in jobs.pop, jobs.reserve:
        with pytest.raises(KeyError):
            take(wait=wait)
    assert jobs.take(10, wait=wait) == []
    assert jobs.reserve_many(10, wait=wait) == []
    assert [one.item for one in jobs.consume(wait=wait)] == []


def test_a_lost_lease_is_a_lost_lease_on_a_full_server_too(
    jobs: SortedSet[str], raw: Any, held: Any, fill: Callable[[], None]
) -> None:
    jobs.discard("held")
    fill()

    for end in held.ack, held.nack, held.again, held.bury, lambda: held.extend(60):
        with pytest.raises(LeaseLost):
            end()


def test_what_runs_out_comes_back_on_a_full_server(jobs: SortedSet[str], raw: Any, fill: Callable[[], None]) -> None:
    for item in "abc":
        jobs.add(item, score=1)
    jobs.reserve_many(3, lease=0.01)
    wait_until(lambda: jobs.stats().leased == 0)
    fill()

    again = [one for _ in "abc" for one in jobs.reserve_many(3)]
    assert [(one.item, one.attempt) for one in again] == [("a", 2), ("b", 2), ("c", 2)]


def test_what_dies_is_kept_on_a_full_server(jobs: SortedSet[str], raw: Any, fill: Callable[[], None]) -> None:
    jobs.add("read", score=1)
    fill()

    for _ in range(3):
        jobs.reserve().nack(delay=0, reason="no good")

    assert [(letter.item, letter.attempts) for letter in jobs.dead_letters] == [("read", 3)]


def test_a_full_server_can_be_drained_of_everything(
    jobs: SortedSet[str], raw: Any, held: Any, fill: Callable[[], None]
) -> None:
    fill()

    held.ack()
    assert jobs.dead_letters.clear() == 1
    assert sorted(jobs.take(10)) == ["again", "waits"]
    assert jobs.discard("parked")
    assert jobs.discard("delayed")

    assert RawSet(raw, "jobs").is_empty()


# Bad arguments

NO_SECONDS: list[tuple[Any, type[Exception]]] = [
    (-1, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (float("-inf"), ValueError),
    ("60", TypeError),
    (b"60", TypeError),
    ([], TypeError),
]
each_no_seconds = pytest.mark.parametrize(("bad", "error"), NO_SECONDS)


@each_no_seconds
@pytest.mark.parametrize(
    "call",
    [
        lambda jobs, held, bad: jobs.reserve(lease=bad),
        lambda jobs, held, bad: jobs.reserve_many(2, lease=bad),
        lambda jobs, held, bad: jobs.consume(lease=bad),
        lambda jobs, held, bad: held.extend(bad),
        lambda jobs, held, bad: jobs.extend([held], bad),
        lambda jobs, held, bad: jobs.extend([], bad),
        lambda jobs, held, bad: held.nack(delay=bad),
        lambda jobs, held, bad: jobs.nack([held], delay=bad),
        lambda jobs, held, bad: jobs.nack([], delay=bad),
        lambda jobs, held, bad: held.again(delay=bad),
        lambda jobs, held, bad: jobs.again([held], delay=bad),
        lambda jobs, held, bad: jobs.pop(wait=bad),
        lambda jobs, held, bad: jobs.take(2, wait=bad),
        lambda jobs, held, bad: jobs.reserve(wait=bad),
        lambda jobs, held, bad: jobs.reserve_many(2, wait=bad),
        lambda jobs, held, bad: jobs.consume(wait=bad),
    ],
    ids=[
        "reserve: lease", "reserve_many: lease", "consume: lease", "extend", "extend many", "extend none",
        "nack: delay", "nack many: delay", "nack none: delay", "again: delay", "again many: delay",
        "pop: wait", "take: wait", "reserve: wait", "reserve_many: wait", "consume: wait",
    ],
)  # fmt: skip
def test_what_is_no_number_of_seconds_is_refused_and_nothing_changes(
    face: Any, raw: Any, call: Callable[[Any, Any, Any], Any], bad: Any, error: type[Exception]
) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("held", score=1)
    jobs.add("waits", score=2)
    held = jobs.reserve()
    before = everything(raw)

    with pytest.raises(error):
        call(jobs, held, bad)

    assert everything(raw) == before
    held.ack()


@pytest.mark.parametrize("bad", [0, 0.0, -0.0])
@pytest.mark.parametrize(
    "call",
    [
        lambda jobs, held, bad: jobs.reserve(lease=bad),
        lambda jobs, held, bad: jobs.reserve_many(2, lease=bad),
        lambda jobs, held, bad: jobs.consume(lease=bad),
        lambda jobs, held, bad: held.extend(bad),
        lambda jobs, held, bad: jobs.extend([held], bad),
    ],
    ids=["reserve", "reserve_many", "consume", "extend", "extend many"],
)
def test_a_lease_of_no_time_is_refused(face: Any, raw: Any, call: Callable[[Any, Any, Any], Any], bad: float) -> None:
    jobs = face.SortedSet("jobs")
    jobs.add("held", score=1)
    jobs.add("waits", score=2)
    held = jobs.reserve()

    with pytest.raises(ValueError, match="lease"):
        call(jobs, held, bad)

    held.ack()
    assert len(jobs) == 1


@pytest.mark.parametrize(("bad", "error"), [(float("nan"), ValueError), ("1", TypeError), ([], TypeError)])
def test_what_is_no_score_is_refused(
    jobs: SortedSet[str], raw: Any, held: Any, bad: Any, error: type[Exception]
) -> None:
    before = everything(raw)

    with pytest.raises(error):
        held.again(score=bad)
    with pytest.raises(error):
        jobs.again([held], score=bad)

    assert everything(raw) == before
    held.ack()


@pytest.mark.parametrize("bad", [0, -1, 1001])
def test_a_batch_has_one_to_a_thousand_items(jobs: SortedSet[str], bad: int) -> None:
    with pytest.raises(ValueError, match="batch"):
        jobs.consume(batch=bad)


@pytest.mark.parametrize("bad", [True, 1, "soon"])
def test_what_cannot_tell_when_to_stop_is_refused(jobs: SortedSet[str], bad: Any) -> None:
    with pytest.raises(TypeError, match="stop"):
        jobs.consume(stop=bad)


@pytest.mark.parametrize("limit", ["max_attempts", "max_dead"])
@pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("3", TypeError)])
def test_what_is_no_limit_is_refused(face: Any, kind: str, limit: str, bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=limit):
        getattr(face, kind)("jobs", **{limit: bad})


def test_limits_are_keywords(face: Any, kind: str) -> None:
    with pytest.raises(TypeError):
        getattr(face, kind)("jobs", None, None, None, None, 3)


@pytest.mark.parametrize(("bad", "error"), [(-1.0, ValueError), (float("nan"), ValueError), (None, TypeError)])
def test_what_a_backoff_must_not_return_is_refused(face: Any, raw: Any, bad: Any, error: type[Exception]) -> None:
    jobs = face.SortedSet("jobs", backoff=lambda attempt: bad)
    jobs.add("read", score=1)
    reservation = jobs.reserve()
    before = everything(raw)

    with pytest.raises(error, match="backoff"):
        reservation.nack()

    assert everything(raw) == before
    reservation.nack(delay=0)


BULK_ENDS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "ack": lambda jobs, reservations: jobs.ack(reservations),
    "nack": lambda jobs, reservations: jobs.nack(reservations),
    "again": lambda jobs, reservations: jobs.again(reservations),
    "extend": lambda jobs, reservations: jobs.extend(reservations, 60),
}
each_bulk_end = pytest.mark.parametrize("end", BULK_ENDS.values(), ids=BULK_ENDS.keys())


@each_bulk_end
def test_a_reservation_of_another_set_is_refused_and_nothing_changes(
    jobs: SortedSet[str], face: Any, raw: Any, held: Any, end: Callable[[Any, list[Any]], Any]
) -> None:
    others = face.SortedSet("others")
    others.add("held", score=1)
    stranger = others.reserve()
    before = everything(raw)

    with pytest.raises(ValueError, match="'others'"):
        end(jobs, [held, stranger])

    assert everything(raw) == before
    held.ack()
    stranger.ack()


@each_bulk_end
@pytest.mark.parametrize("bad", ["held", None, 7])
def test_what_is_no_reservation_is_refused_and_nothing_changes(
    jobs: SortedSet[str], raw: Any, held: Any, end: Callable[[Any, list[Any]], Any], bad: Any
) -> None:
    before = everything(raw)

    with pytest.raises(TypeError, match="not a reservation"):
        end(jobs, [held, bad])

    assert everything(raw) == before
    held.ack()


@pytest.mark.parametrize("end", ["nack", "bury"])
@pytest.mark.parametrize("bad", [None, 7, b"bytes", ValueError("x")])
def test_a_reason_is_a_text(jobs: SortedSet[str], raw: Any, held: Any, end: str, bad: Any) -> None:
    before = everything(raw)

    with pytest.raises(TypeError):
        getattr(held, end)(reason=bad)

    assert everything(raw) == before
    held.ack()


@pytest.mark.parametrize("bad", ["one", None, [], float("nan")])
def test_what_is_no_number_of_items_is_refused(jobs: SortedSet[str], raw: Any, held: Any, bad: Any) -> None:
    before = everything(raw)

    for take in jobs.take, jobs.reserve_many:
        with pytest.raises((TypeError, ValueError)):
            take(bad)

    assert everything(raw) == before
