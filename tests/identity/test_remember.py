"""Sets with ``remember``: an item that was finished is left out for so long, whoever adds it and however."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invariants import KeyedRawSet
from redset import Key, SortedSet
from redset.core.keys import Keys
from redset.exceptions import LeaseLost, WrongTypeError
from servers import FakeClock, run_out, wait_until

pytestmark = pytest.mark.no_cover


#: Seconds.
REMEMBER = 1000

#: The ways to finish the one item that waits.
FINISHES: dict[str, Callable[[Any], Any]] = {
    "pop": lambda pages: pages.pop(),
    "take": lambda pages: pages.take(10),
    "ack": lambda pages: pages.reserve().ack(),
    "ack of many": lambda pages: pages.ack(pages.reserve_many(10)),
    "consume": lambda pages: list_of(pages.consume(wait=0)),
}
TAKERS: dict[str, Callable[[Any], list[Any]]] = {
    "take": lambda pages: list(pages.take(10)),
    "reserve_many": lambda pages: [one.item for one in pages.reserve_many(10)],
    "consume": lambda pages: [one.item for one in pages.consume(wait=0)],
}
#: The ways in which a lease ends without the work being done.
FAILURES: dict[str, Callable[[Any, Any], Any]] = {
    "nack": lambda pages, held: held.nack(delay=0),
    "again": lambda pages, held: held.again(),
    "running out": run_out,
}
ADDERS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda pages, raw: pages.add("/a", score=1),
    "plain ZADD": lambda pages, raw: raw.zadd("pages", {"/a": 1}),
}

each_finish = pytest.mark.parametrize("finish", FINISHES.values(), ids=FINISHES.keys())
each_taker = pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS.keys())
each_failure = pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
each_adder = pytest.mark.parametrize("add", ADDERS.values(), ids=ADDERS.keys())
each_memory = pytest.mark.parametrize("digest", [False, True], ids=["items", "digests"])


def list_of(consumption: Any) -> list[Any]:
    return [one.item for one in consumption]


def die(pages: Any, item: Any) -> None:
    pages.add(item, score=1)
    pages.reserve().bury("no good")


@pytest.fixture(params=[False, True], ids=["items", "digests"])
def digest(request: pytest.FixtureRequest) -> bool:
    """Whether a hash is kept of what is done."""
    return bool(request.param)


@pytest.fixture
def pages(face: Any, kind: str, *, digest: bool) -> Any:
    return getattr(face, kind)("pages", remember=REMEMBER, digest=digest, max_attempts=3)


@pytest.fixture
def simple(face: Any) -> Any:
    """A set that remembers, where the kind of it and digests change nothing."""
    return face.SortedSet("pages", remember=REMEMBER)


@pytest.fixture(autouse=True)
def stored(raw: Any) -> Iterator[KeyedRawSet]:
    found = KeyedRawSet(raw, "pages")
    yield found
    found.check()


# What is done


@pytest.mark.conformance
@each_finish
def test_what_is_done_is_left_out_when_it_is_added(
    pages: SortedSet[str], stored: KeyedRawSet, finish: Callable[[Any], Any]
) -> None:
    assert pages.add("/a", score=1) == 1.0
    assert pages.is_done("/a") is False

    finish(pages)

    assert pages.is_done("/a") is True
    assert pages.add("/a", score=1) is None
    assert stored.scores("waiting") == {}
    assert pages.add("/b", score=1) == 1.0


@pytest.mark.conformance
@each_taker
@each_finish
def test_what_is_done_is_not_handed_out_when_another_program_adds_it(
    pages: SortedSet[str], raw: Any, finish: Callable[[Any], Any], take: Callable[[Any], list[Any]]
) -> None:
    pages.add("/a", score=1)
    finish(pages)

    raw.zadd("pages", {"/a": 1, "/b": 2})

    assert take(pages) == ["/b"]
    assert len(pages) == 0
    assert pages.is_done("/a")


def test_what_is_not_done_yet_is_added_as_ever(pages: SortedSet[str]) -> None:
    pages.add("/a", score=1)
    assert pages.add("/a", score=2) == 2.0, "it waits"
    held = pages.reserve()
    assert pages.add("/a", score=3) == 3.0, "it is held"
    assert not pages.is_done("/a")
    held.nack(delay=1000)
    assert pages.add("/a", score=4) == 4.0, "it is backing off"
    assert pages.pop() == "/a"


def test_thousands_that_are_done_are_passed_over(pages: SortedSet[str], raw: Any) -> None:
    """However many they are, a hand-out finds what stands behind them."""
    done = {f"/{number:04}": 1 for number in range(3000)}
    raw.zadd("pages", done)
    assert len(pages.take(3000)) == 3000
    raw.zadd("pages", done | {"/fresh": 2})

    assert pages.pop() == "/fresh"
    assert len(pages) == 0


def test_an_item_is_asked_about_by_its_key_too(pages: SortedSet[str]) -> None:
    pages.add("/a", score=1)
    pages.pop()

    assert pages.is_done(Key("/a"))
    assert pages.is_done(Key(b"/a"))
    assert not pages.is_done(Key("/b"))


def test_any_bytes_are_remembered(pages: SortedSet[Any]) -> None:
    items = [b"", b"\0", b"\xff\n0 1\r\n", bytes(range(256)), "é".encode()]
    for item in items:
        pages.add(item, score=1)
    assert len(pages.take(10)) == len(items)

    for item in items:
        assert pages.is_done(item)
        assert pages.add(item, score=1) is None


@pytest.mark.conformance
def test_what_is_done_is_counted(pages: SortedSet[str], raw: Any) -> None:
    raw.zadd("pages", dict.fromkeys("abc", 1))
    pages.take(2)

    assert pages.stats().done == 2


# Leases


@each_failure
def test_what_failed_is_not_done(pages: SortedSet[str], fail: Callable[[Any, Any], Any]) -> None:
    pages.add("/a", score=1)

    fail(pages, pages.reserve())

    assert pages.is_done("/a") is False
    assert pages.pop() == "/a"


@pytest.mark.conformance
@each_adder
@pytest.mark.parametrize("met", [True, False], ids=["met by a hand-out before", "not met before"])
def test_what_is_added_while_it_is_in_work_is_not_handed_out_once_it_is_done(
    pages: SortedSet[str], raw: Any, stored: KeyedRawSet, add: Callable[[Any, Any], Any], *, met: bool
) -> None:
    pages.add("/a", score=1)
    held = pages.reserve()
    add(pages, raw)
    if met:
        assert pages.take(10) == []
        assert pages.stats().parked == 1

    held.ack()

    assert pages.take(10) == []
    assert stored.scores("waiting") == stored.scores("parked") == {}
    assert pages.is_done("/a")


@each_failure
@each_adder
def test_what_is_added_while_it_is_in_work_is_handed_out_once_when_that_failed(
    pages: SortedSet[str], raw: Any, add: Callable[[Any, Any], Any], fail: Callable[[Any, Any], Any]
) -> None:
    pages.add("/a", score=1)
    held = pages.reserve()
    add(pages, raw)
    assert pages.take(10) == []

    fail(pages, held)

    assert pages.take(10) == ["/a"]
    assert pages.is_done("/a")


@each_finish
def test_what_is_forgotten_while_it_is_parked_was_not_done(
    pages: SortedSet[str], raw: Any, finish: Callable[[Any], Any]
) -> None:
    """To forget takes no effect on work that is not finished."""
    pages.add("/a", score=1)
    finish(pages)
    assert pages.forget("/a") is True
    pages.add("/a", score=1)
    held = pages.reserve()
    pages.add("/a", score=1)
    assert pages.take(10) == []

    assert pages.forget("/a") is False
    held.ack()

    assert pages.take(10) == []
    assert pages.is_done("/a")


def test_an_ack_that_comes_too_late_does_not_make_it_done(pages: SortedSet[str]) -> None:
    pages.add("/a", score=1)
    late = pages.reserve()
    run_out(pages, late)

    with pytest.raises(LeaseLost):
        late.ack()

    assert not pages.is_done("/a")
    assert pages.pop() == "/a"


def test_what_was_discarded_is_not_done(pages: SortedSet[str]) -> None:
    pages.add("/a", score=1)
    held = pages.reserve()
    assert pages.discard("/a")
    with pytest.raises(LeaseLost):
        held.ack()

    assert not pages.is_done("/a")
    assert pages.add("/a", score=1) == 1.0


def test_discard_does_not_forget(pages: SortedSet[str]) -> None:
    pages.add("/a", score=1)
    pages.pop()

    assert pages.discard("/a") is False

    assert pages.is_done("/a")


# Forgetting


@pytest.mark.conformance
@each_finish
@pytest.mark.parametrize("name", ["/a", Key("/a")], ids=["item", "key"])
def test_what_was_forgotten_can_be_added(pages: SortedSet[str], finish: Callable[[Any], Any], name: Any) -> None:
    pages.add("/a", score=1)
    finish(pages)

    assert pages.forget(name) is True
    assert pages.forget(name) is False

    assert not pages.is_done("/a")
    assert pages.add("/a", score=1) == 1.0
    assert pages.pop() == "/a"


def test_what_is_not_done_cannot_be_forgotten(pages: SortedSet[str]) -> None:
    pages.add("/waiting", score=2)
    pages.add("/held", score=1)
    held = pages.reserve()

    for item in "/waiting", "/held", "/unknown":
        assert pages.forget(item) is False

    held.ack()
    assert pages.pop() == "/waiting"


@pytest.mark.conformance
def test_clear_forgets(pages: SortedSet[str], stored: KeyedRawSet) -> None:
    pages.add("/a", score=1)
    pages.pop()

    assert pages.clear(), "a memory is something"
    assert not pages.clear()

    assert not pages.is_done("/a")
    assert stored.is_empty()
    assert pages.add("/a", score=1) == 1.0


# Time


def test_what_is_done_is_remembered_for_so_long_by_the_clock_of_the_server(
    pages: SortedSet[str], raw: Any, clock: FakeClock
) -> None:
    pages.add("/a", score=1)
    pages.pop()

    clock.advance(REMEMBER - 60)
    assert pages.is_done("/a")
    assert pages.add("/a", score=1) is None
    raw.zadd("pages", {"/a": 1})
    assert pages.take(1) == []

    clock.advance(61)
    assert not pages.is_done("/a")
    assert pages.stats().done == 0
    assert pages.forget("/a") is False
    assert pages.add("/a", score=1) == 1.0
    assert pages.pop() == "/a"
    assert pages.is_done("/a")


def test_each_is_remembered_for_its_own_time(face: Any, clock: FakeClock) -> None:
    pages = face.SortedSet("pages", remember=REMEMBER)
    for item in "/a", "/b", "/c":
        pages.add(item, score=1)
        pages.pop()
        clock.advance(REMEMBER * 0.4)

    assert [pages.is_done(item) for item in ("/a", "/b", "/c")] == [False, True, True]
    clock.advance(REMEMBER * 0.4)
    assert [pages.is_done(item) for item in ("/a", "/b", "/c")] == [False, False, True]


@pytest.mark.parametrize("remember", [0.5, 1, 2.5])
def test_the_key_that_remembers_outlives_all_that_it_remembers(
    face: Any, raw: Any, clock: FakeClock, remember: float
) -> None:
    """At any moment, between whole seconds too."""
    pages = face.SortedSet("pages", remember=remember)
    for number in range(20):
        pages.add(f"/{number}", score=1)
        pages.pop()
        with raw.pipeline(transaction=True) as both:
            both.time().pttl(Keys("pages").done).zrange(Keys("pages").done, -1, -1, withscores=True)
            (seconds, microseconds), left, [(_, until)] = both.execute()
        assert seconds + microseconds / 10**6 + left / 1000 >= until
        clock.advance(0.37)


def test_sets_that_remember_for_longer_and_shorter_can_share_a_name(face: Any, clock: FakeClock) -> None:
    long, short = face.SortedSet("pages", remember=REMEMBER), face.SortedSet("pages", remember=10)
    long.add("/long", score=1)
    long.pop()
    short.add("/short", score=1)
    short.pop()

    clock.advance(20)

    assert short.is_done("/long")
    assert not long.is_done("/short")


def test_memories_leave_a_bounded_number_at_a_time(
    simple: Any, stored: KeyedRawSet, raw: Any, clock: FakeClock
) -> None:
    """No call has to drop them all, and they cannot pile up: more leave than come."""
    raw.zadd("pages", {f"/{number:04}": 1 for number in range(3000)})
    simple.take(3000)
    clock.advance(REMEMBER - 60)
    simple.add("/late", score=1)
    simple.pop()
    clock.advance(61)

    fresh, over = {b"/late"}, 3000
    while over:
        item = f"/new {len(fresh)}"
        simple.add(item, score=1)
        simple.pop()
        fresh.add(item.encode())
        left = len(stored.scores("done").keys() - fresh)
        assert over - 102 <= left < over
        over = left

    assert stored.scores("done").keys() == fresh


def test_memories_go_though_nobody_comes_any_more(simple: Any, stored: KeyedRawSet, clock: FakeClock) -> None:
    simple.add("/a", score=1)
    simple.pop()
    clock.advance(REMEMBER + 5)

    wait_until(lambda: "done" not in stored.present())


@pytest.mark.parametrize("remember", [0, -1, math.nan, math.inf])
def test_a_memory_must_be_for_a_number_of_seconds(face: Any, kind: str, remember: float) -> None:
    with pytest.raises(ValueError):
        getattr(face, kind)("pages", remember=remember)


@pytest.mark.parametrize("remember", ["1", object()], ids=["str", "object"])
def test_a_memory_must_be_a_number(face: Any, kind: str, remember: Any) -> None:
    with pytest.raises(TypeError):
        getattr(face, kind)("pages", remember=remember)


@pytest.mark.parametrize("remember", [0.001, 10**10, sys.maxsize])
@each_finish
def test_a_memory_of_any_length_loses_nothing(face: Any, remember: float, finish: Callable[[Any], Any]) -> None:
    """What nobody means to forget may be remembered for as long as one can think of."""
    pages = face.SortedSet("pages", remember=remember)
    pages.add("/a", score=1)

    finish(pages)

    if remember > 1:
        assert pages.is_done("/a")
        assert pages.stats().done == 1


# The dead


@pytest.mark.conformance
@each_adder
@each_taker
def test_what_is_dead_is_left_out(
    pages: SortedSet[str],
    raw: Any,
    stored: KeyedRawSet,
    add: Callable[[Any, Any], Any],
    take: Callable[[Any], list[Any]],
) -> None:
    """Or every link to a failing page would revive it."""
    die(pages, "/a")

    add(pages, raw)

    assert take(pages) == []
    assert stored.scores("waiting") == {}
    assert [letter.item for letter in pages.dead_letters] == ["/a"]
    assert not pages.is_done("/a")


def test_adding_what_is_dead_returns_none(pages: SortedSet[str]) -> None:
    die(pages, "/a")

    assert pages.add("/a", score=1) is None
    assert len(pages) == 0


@pytest.mark.conformance
@each_finish
def test_what_is_dead_is_handed_out_when_it_is_retried(pages: SortedSet[str], finish: Callable[[Any], Any]) -> None:
    die(pages, "/a")

    assert pages.dead_letters.retry("/a") is True

    assert "/a" in pages
    finish(pages)
    assert pages.is_done("/a")
    assert len(pages.dead_letters) == 0


@pytest.mark.conformance
@pytest.mark.parametrize("forget", ["forget", "discard the letter", "clear the letters"])
def test_what_was_dead_can_be_added_when_that_is_forgotten(pages: SortedSet[str], forget: str) -> None:
    die(pages, "/a")

    if forget == "forget":
        assert pages.forget("/a") is True
    elif forget == "discard the letter":
        assert pages.dead_letters.discard("/a") is True
    else:
        assert pages.dead_letters.clear() == 1

    assert len(pages.dead_letters) == 0
    assert pages.add("/a", score=1) == 1.0
    assert pages.pop() == "/a"


@pytest.mark.parametrize("met", [True, False], ids=["met by a hand-out before", "not met before"])
def test_what_dies_though_it_was_added_meanwhile_stays_dead(
    pages: SortedSet[str], stored: KeyedRawSet, *, met: bool
) -> None:
    pages.add("/a", score=1)
    held = pages.reserve()
    pages.add("/a", score=1)
    if met:
        assert pages.take(1) == []

    held.bury()

    assert pages.take(1) == []
    assert stored.scores("waiting") == stored.scores("parked") == {}
    assert [letter.item for letter in pages.dead_letters] == ["/a"]


def test_what_used_up_its_attempts_stays_dead(pages: SortedSet[str]) -> None:
    pages.add("/a", score=1)
    for _ in range(3):
        pages.reserve().nack(delay=0)

    assert pages.add("/a", score=1) is None
    assert pages.take(1) == []
    assert [letter.attempts for letter in pages.dead_letters] == [3]


@pytest.mark.conformance
@each_taker
@each_memory
def test_what_cannot_be_loaded_is_dead_and_not_done(
    face: Any, kind: str, raw: Any, *, digest: bool, take: Callable[[Any], list[Any]]
) -> None:
    """So that it can be retried by a release that is able to load it."""
    pages = getattr(face, kind)("pages", serializer=json, remember=REMEMBER, digest=digest)
    raw.zadd("pages", {b"{broken": 1, b'"fine"': 2})

    assert take(pages) == ["fine"]

    able = getattr(face, kind)("pages", remember=REMEMBER, digest=digest)
    assert not able.is_done("{broken")
    assert able.dead_letters.retry("{broken") is True
    assert able.take(10) == ["{broken"]


# What is kept


@pytest.mark.conformance
def test_of_a_set_that_does_not_remember_nothing_is_kept(face: Any, kind: str, stored: KeyedRawSet) -> None:
    pages = getattr(face, kind)("pages")
    pages.add("/a", score=1)
    pages.pop()

    assert stored.is_empty()
    assert pages.is_done("/a") is False
    assert pages.forget("/a") is False
    assert pages.add("/a", score=1) == 1.0


def test_digests_are_sixteen_bytes(face: Any, kind: str, stored: KeyedRawSet) -> None:
    pages = getattr(face, kind)("pages", remember=REMEMBER, digest=True)
    for item in "/a", "x" * 1000:
        pages.add(item, score=1)
    pages.take(2)

    assert {len(member) for member in stored.scores("done")} == {16}


def test_digests_of_long_items_take_less_memory(face: Any, raw: Any) -> None:
    names = {"whole": False, "digested": True}
    for name, digest in names.items():
        raw.zadd(name, {f"https://example.org/{number:0100}": 1 for number in range(1000)})
        face.SortedSet(name, remember=REMEMBER, digest=digest).take(1000)

    whole, digested = (raw.memory_usage(Keys(name).done, samples=0) for name in names)
    assert digested < whole - 1000 * 80
    raw.flushall()


@pytest.mark.parametrize(
    "operate",
    [
        lambda pages: pages.add("/b", score=1),
        lambda pages: pages.pop(),
        lambda pages: pages.reserve(),
        lambda pages: pages.is_done("/a"),
        lambda pages: pages.forget("/a"),
        lambda pages: pages.clear(),
        lambda pages: pages.stats(),
    ],
    ids=["add", "pop", "reserve", "is_done", "forget", "clear", "stats"],
)
def test_where_the_memory_should_be_something_else_is_left_alone(
    pages: SortedSet[str], raw: Any, stored: KeyedRawSet, operate: Callable[[Any], Any]
) -> None:
    pages.add("/a", score=1)
    raw.set(Keys("pages").done, "something else")
    try:
        with pytest.raises(WrongTypeError):
            operate(pages)
        assert stored.scores("waiting") == {b"/a": 1.0}
    finally:
        raw.delete(Keys("pages").done)


def test_a_claim_passes_by_what_died_in_its_course(raw: Any, clock: FakeClock) -> None:
    """Its last lease expired, and it was added again meanwhile: with it, the rows move that were read before."""
    jobs = SortedSet[str](raw, "pages", max_attempts=1, remember=REMEMBER)
    jobs.add("a", score=1)
    jobs.reserve(lease=10)
    for score, item in enumerate("abc"):
        jobs.add(item, score=score)
    clock.advance(20)

    assert jobs.take(2) == ["b", "c"]
    assert [letter.item for letter in jobs.dead_letters] == ["a"]
    assert not jobs.is_done("a")


def test_a_set_that_does_not_remember_can_forget(raw: Any) -> None:
    SortedSet[str](raw, "pages", remember=REMEMBER).add("a")
    SortedSet[str](raw, "pages", remember=REMEMBER).pop()
    other = SortedSet[str](raw, "pages")

    assert (other.is_done("a"), other.forget("a"), other.is_done("a")) == (True, True, False)


def test_an_addition_that_is_left_out_still_names_a_key_of_another_type(raw: Any) -> None:
    jobs = SortedSet[str](raw, "pages", remember=REMEMBER)
    jobs.add("a")
    jobs.pop()
    raw.set("pages", "of somebody else")

    for nx in False, True:
        with pytest.raises(WrongTypeError, match="'pages' holds a string"):
            jobs.add("a", nx=nx)
    raw.delete("pages")
