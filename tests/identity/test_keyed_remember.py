"""Keyed sets that remember; and what becomes of values and memories when a reply is lost or a call is broken off."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import redset
from faces import Face
from invariants import KeyedRawSet
from proxy import Fault, Interrupted, Proxy, fails
from redset import Key, SortedSet
from redset.core.keys import Keys
from servers import wait_until

#: Seconds.
REMEMBER = 1000


def page(url: str, version: int = 1) -> dict[str, Any]:
    return {"url": url, "version": version}


OPTIONS: dict[str, Any] = {"serializer": json, "key": lambda page: page["url"], "remember": REMEMBER}
#: Those of a set that is keyed and does not remember.
FORGETFUL = OPTIONS | {"remember": None}


@pytest.fixture
def pages(face: Any, kind: str) -> Any:
    return getattr(face, kind)("pages", **OPTIONS)


@pytest.fixture
def other(raw: Any) -> "SortedSet[Any]":
    """The same set as another process sees it."""
    return SortedSet(raw, "pages", **OPTIONS)


@pytest.fixture(autouse=True)
def stored(raw: Any) -> Iterator[KeyedRawSet]:
    found = KeyedRawSet(raw, "pages")
    yield found
    found.check(frozenset({b"/alone"}))


def holds_nothing(stored: KeyedRawSet) -> bool:
    """Whether nothing is left but memories."""
    return not stored.identities() and not stored.fields("values")


# Both at once


@pytest.mark.conformance
def test_an_identity_that_is_done_is_left_out_whatever_its_value(pages: SortedSet[Any], stored: KeyedRawSet) -> None:
    pages.add(page("/a", 1), score=1)
    pages.reserve().ack()

    assert pages.add(page("/a", 2), score=1) is None

    assert pages.is_done(page("/a", 3))
    assert pages.is_done(Key("/a"))
    assert pages.get(Key("/a")) is None
    assert holds_nothing(stored)


@pytest.mark.conformance
def test_the_value_of_what_is_done_goes_when_a_hand_out_drops_it(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet
) -> None:
    pages.add(page("/a", 1), score=1)
    pages.pop()
    raw.hset(Keys("pages").values, "/a", json.dumps(page("/a", 2)))
    raw.zadd("pages", {"/a": 1})
    stored.check(frozenset())

    assert pages.take(1) == []

    assert holds_nothing(stored)


@pytest.mark.parametrize("met", [True, False], ids=["met by a hand-out before", "not met before"])
def test_an_update_during_the_work_goes_when_the_work_is_done(
    pages: SortedSet[Any], stored: KeyedRawSet, *, met: bool
) -> None:
    pages.add(page("/a", 1), score=1)
    held = pages.reserve()
    pages.add(page("/a", 2), score=1)
    if met:
        assert pages.take(1) == []

    held.ack()
    stored.check(frozenset())

    assert pages.take(1) == []
    assert holds_nothing(stored)


@pytest.mark.conformance
def test_a_dead_identity_keeps_its_value_when_it_is_added_again(pages: SortedSet[Any]) -> None:
    pages.add(page("/a", 1), score=1)
    pages.reserve().bury()

    assert pages.add(page("/a", 2), score=1) is None

    (letter,) = pages.dead_letters
    assert letter.item == page("/a", 1)
    assert pages.dead_letters.retry(Key("/a")) is True
    assert pages.pop() == page("/a", 1)
    assert pages.is_done(Key("/a"))


def test_a_dead_identity_that_another_program_adds_stays_dead_with_a_value(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet
) -> None:
    pages.add(page("/a", 1), score=1)
    pages.reserve().bury()
    raw.zadd("pages", {"/a": 1})

    assert pages.take(1) == []

    assert [letter.item for letter in pages.dead_letters] == [page("/a", 1)]


def test_a_dead_identity_that_is_forgotten_takes_its_value_with_it(pages: SortedSet[Any], stored: KeyedRawSet) -> None:
    pages.add(page("/a", 1), score=1)
    pages.reserve().bury()

    assert pages.forget(Key("/a")) is True

    assert stored.is_empty()
    assert pages.add(page("/a", 2), score=1) == 1.0


def test_what_waits_keeps_its_value_when_it_is_forgotten(pages: SortedSet[Any], raw: Any) -> None:
    pages.add(page("/a", 1), score=1)
    pages.pop()
    raw.hset(Keys("pages").values, "/a", json.dumps(page("/a", 2)))
    raw.zadd("pages", {"/a": 1})

    assert pages.forget(Key("/a")) is True

    assert pages.pop() == page("/a", 2)


@pytest.mark.conformance
@pytest.mark.parametrize("take", ["take", "reserve_many"])
def test_a_value_that_cannot_be_loaded_is_dead_and_not_done(
    pages: SortedSet[Any], raw: Any, stored: KeyedRawSet, take: str
) -> None:
    raw.hset(Keys("pages").values, "/a", "{broken")
    raw.zadd("pages", {"/a": 1})
    assert getattr(pages, take)(10) == []
    assert not pages.is_done(Key("/a"))
    stored.check(frozenset())
    raw.hset(Keys("pages").values, "/a", json.dumps(page("/a", 2)))

    assert pages.dead_letters.retry(Key("/a")) is True

    assert pages.pop() == page("/a", 2)
    assert pages.is_done(Key("/a"))


def test_without_remember_a_key_comes_again_and_again(face: Any, kind: str, stored: KeyedRawSet) -> None:
    pages = getattr(face, kind)("pages", **FORGETFUL)
    for version in range(3):
        assert pages.add(page("/a", version), score=1) == 1.0
        assert pages.pop() == page("/a", version)

    assert stored.is_empty()


# Replies that are lost


@pytest.fixture
def stubborn_pages(stubborn: Face) -> Any:
    return stubborn.SortedSet("pages", **OPTIONS)


@pytest.fixture
def frank_pages(frank: Face) -> Any:
    return frank.SortedSet("pages", **OPTIONS)


class TestACallThatIsRepeated:
    def test_an_update_does_not_overwrite_a_newer_one(
        self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any
    ) -> None:
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.add(page("/a", 2), score=2))

        assert stubborn_pages.add(page("/a", 1), score=1) == 1.0

        assert other.get(Key("/a")) == page("/a", 2)
        assert other.score(Key("/a")) == 2.0

    def test_what_was_done_meanwhile_was_not_left_out(
        self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any
    ) -> None:
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=other.pop)

        assert stubborn_pages.add(page("/a"), score=1) == 1.0

        assert stubborn_pages.is_done(Key("/a"))

    def test_what_was_left_out_is_left_out(
        self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any, stored: KeyedRawSet
    ) -> None:
        other.add(page("/a"), score=1), other.pop()
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.forget(Key("/a")))

        assert stubborn_pages.add(page("/a"), score=1) is None

        assert holds_nothing(stored)

    @pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY])
    def test_pop_returns_the_value_that_was_removed(
        self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any, fault: Fault
    ) -> None:
        other.add(page("/a", 1), score=1), other.add(page("/b", 1), score=2)
        stubborn_proxy.plan(fault)

        assert stubborn_pages.pop() == page("/a", 1)

        assert other[:] == [page("/b", 1)]
        assert other.is_done(Key("/a"))

    def test_reserve_returns_the_lease_that_was_given(
        self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any
    ) -> None:
        other.add(page("/a", 1), score=1)
        stubborn_proxy.plan(Fault.LOST_REPLY)

        reservation = stubborn_pages.reserve()

        assert (reservation.item, reservation.attempt) == (page("/a", 1), 1)
        reservation.ack()
        assert other.is_done(Key("/a"))

    def test_reserve_returns_a_value_that_is_newer_by_then(
        self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any
    ) -> None:
        """A value that stayed in the set is in no record; what was added meanwhile comes once more."""
        other.add(page("/a", 1), score=1)
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: other.add(page("/a", 2), score=1))

        reservation = stubborn_pages.reserve()

        assert reservation.item in (page("/a", 1), page("/a", 2))
        reservation.again()
        assert other.pop() == page("/a", 2)

    def test_forget_says_that_it_was_done(self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any) -> None:
        other.add(page("/a"), score=1), other.pop()
        stubborn_proxy.plan(Fault.LOST_REPLY, meanwhile=lambda: (other.add(page("/a"), score=1), other.pop()))

        assert stubborn_pages.forget(Key("/a")) is True

        assert other.is_done(Key("/a")), "what was done since is not forgotten"

    def test_an_ack_is_no_lost_lease(self, stubborn_pages: Any, stubborn_proxy: Proxy, other: Any) -> None:
        other.add(page("/a"), score=1)
        reservation = stubborn_pages.reserve()
        stubborn_proxy.plan(Fault.LOST_REPLY)

        reservation.ack()

        assert other.is_done(Key("/a"))


class TestWhatNobodyHasSeen:
    """The next hand-out puts it back."""

    def test_what_was_taken_is_back_with_its_value_and_not_done(
        self, frank_pages: Any, frank_proxy: Proxy, other: Any, stored: KeyedRawSet
    ) -> None:
        other.add(page("/a", 1), score=1)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_pages.pop)
        assert holds_nothing(stored)

        assert frank_pages.take(0) == []
        assert frank_pages.pop() == page("/a", 1)

        assert other.is_done(Key("/a"))

    def test_what_was_leased_is_back_with_its_value(self, frank_pages: Any, frank_proxy: Proxy, other: Any) -> None:
        other.add(page("/a", 1), score=1)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_pages.reserve)

        reservation = frank_pages.reserve()

        assert (reservation.item, reservation.attempt) == (page("/a", 1), 1)
        assert not other.is_done(Key("/a"))

    def test_a_newer_value_stands(self, frank: Face, frank_proxy: Proxy, raw: Any, stored: KeyedRawSet) -> None:
        """On a set that does not remember, where it can be added meanwhile."""
        other = SortedSet[Any](raw, "pages", **FORGETFUL)
        other.add(page("/a", 1), score=1)
        frank_pages = frank.SortedSet("pages", **FORGETFUL)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_pages.pop)
        other.add(page("/a", 2), score=2)

        assert frank_pages.take(10) == [page("/a", 2)]

        assert stored.is_empty()

    def test_what_was_parked_meanwhile_comes_with_its_newest_value(
        self, frank_pages: Any, frank_proxy: Proxy, other: Any
    ) -> None:
        other.add(page("/a", 1), score=1)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_pages.reserve)
        other.add(page("/a", 2), score=2)
        assert other.take(1) == []

        reservation = frank_pages.reserve()

        assert (reservation.item, reservation.score) == (page("/a", 2), 2.0)

    def test_what_was_cleared_since_stays_away(
        self, frank_pages: Any, frank_proxy: Proxy, other: Any, stored: KeyedRawSet
    ) -> None:
        other.add(page("/a", 1), score=1)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_pages.pop)
        other.clear()

        assert frank_pages.take(10) == []

        assert holds_nothing(stored)

    def test_an_identity_without_a_value_is_back_without_one(
        self, frank_pages: Any, frank_proxy: Proxy, raw: Any, stored: KeyedRawSet
    ) -> None:
        raw.zadd("pages", {"/alone": 1})
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(frank_pages.pop)

        reservation = frank_pages.reserve()

        assert reservation.item == "/alone"
        assert stored.fields("values") == {}

    @pytest.mark.parametrize("verb", ["pop", "reserve"])
    def test_what_another_has_met_meanwhile_is_not_disturbed(
        self, frank_pages: Any, frank_proxy: Proxy, other: Any, verb: str
    ) -> None:
        """Its reply was lost, but before anything is put back somebody forgot it, added it and works on it."""
        other.add(page("/a", 1), score=1)
        frank_proxy.plan(Fault.LOST_REPLY)
        fails(getattr(frank_pages, verb))
        other.discard(Key("/a")), other.forget(Key("/a"))
        other.add(page("/a", 2), score=1)
        held = other.reserve()

        assert frank_pages.take(10) == [], "never side by side"

        assert held.item == other.get(Key("/a")) == page("/a", 2)
        held.ack()
        assert frank_pages.take(10) == []


class TestWhatCannotBeLoaded:
    """Between its hand-out and its burial it is nowhere; whatever becomes of the identity meanwhile is newer."""

    @pytest.mark.parametrize("ends", ["waits", "is held", "is done"])
    def test_a_better_value_that_comes_meanwhile_is_worked_on_as_ever(
        self, stubborn: Face, stubborn_proxy: Proxy, raw: Any, stored: KeyedRawSet, ends: str
    ) -> None:
        pages, other = stubborn.SortedSet("pages", **FORGETFUL), SortedSet[Any](raw, "pages", **FORGETFUL)
        held: list[Any] = []

        def meanwhile() -> None:
            other.add(page("/a", 2), score=1)
            if ends != "waits":
                held.append(other.reserve())
            if ends == "is done":
                held[0].ack()

        raw.hset(Keys("pages").values, "/a", "{broken")
        raw.zadd("pages", {"/a": 1})
        stubborn_proxy.plan(Fault.NONE, meanwhile=meanwhile)

        assert pages.take(1) == ([page("/a", 2)] if ends == "waits" else [])

        stored.check(frozenset())
        if ends == "is held":
            held[0].ack()
            stored.check(frozenset())


# Calls that are broken off


@pytest.fixture
def client(raw: Any) -> Interrupted:
    return Interrupted(raw)


@pytest.fixture
def interrupted(client: Interrupted) -> "SortedSet[Any]":
    return SortedSet(client, "pages", **OPTIONS)


def break_off(client: Interrupted, call: Callable[..., Any], *args: Any, after: int = 1) -> None:
    client.plan = [*[None] * (after - 1), "after"]
    with pytest.raises(KeyboardInterrupt):
        call(*args)


@pytest.mark.conformance
@pytest.mark.parametrize("verb", ["pop", "reserve"])
def test_what_was_handed_out_is_back_at_once_with_its_value_and_not_done(
    interrupted: Any, client: Interrupted, stored: KeyedRawSet, verb: str
) -> None:
    interrupted.add(page("/a", 7), score=5)

    break_off(client, getattr(interrupted, verb))

    assert stored.scores("waiting") == {b"/a": 5.0}
    assert not interrupted.is_done(Key("/a"))
    stored.check(frozenset())
    assert interrupted.pop() == page("/a", 7)


@pytest.mark.conformance
@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "not keyed"])
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("verb", ["take", "reserve_many"])
def test_many_are_back_whatever_chunk_it_hits(
    client: Interrupted, raw: Any, stored: KeyedRawSet, verb: str, after: int, *, keyed: bool
) -> None:
    options = OPTIONS if keyed else {"remember": REMEMBER}
    pages = redset.SortedSet[Any](client, "pages", **options)
    before = {f"/{number:04}".encode(): float(number) for number in range(2500)}
    if keyed:
        raw.hset(Keys("pages").values, mapping={url: json.dumps(page(url.decode())) for url in before})
    raw.zadd("pages", before)
    values = stored.fields("values")

    break_off(client, getattr(pages, verb), 2500, after=after)

    assert stored.scores("waiting") == before
    assert stored.fields("values") == values
    assert stored.scores("done") == {}
    pages.clear()


@pytest.mark.parametrize("after", [1, 2])
def test_identities_without_a_value_are_back_without_one(
    client: Interrupted, raw: Any, stored: KeyedRawSet, after: int
) -> None:
    pages = SortedSet[Any](client, "pages", **FORGETFUL)
    raw.zadd("pages", {f"/{number:04}": 2 for number in range(1500)})

    break_off(client, pages.take, 1500, after=after)

    assert stored.fields("values") == {}
    assert pages.take(1500) == [f"/{number:04}" for number in range(1500)]


# Waiting


def test_who_waits_is_woken_by_what_comes_back_and_not_by_what_is_left_out(face: Any, kind: str) -> None:
    pages = getattr(face, kind)("pages", **OPTIONS)
    pages.add(page("/a"), score=1)
    held = pages.reserve(lease=1)
    pages.add(page("/a", 2), score=1)

    assert pages.pop(wait=20) == page("/a", 2)

    assert held.token > 0
    assert pages.add(page("/a", 3), score=1) is None
    with pytest.raises(KeyError):
        pages.pop(wait=0.1)
    wait_until(lambda: len(pages) == 0)
