"""One consumer over several sets: whose turn it is, that it waits for all of them, and that it loses nothing of any."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redset
from faces import Awaited
from redset.core import drivers
from redset.core.keys import Keys
from redset.core.several import Member, in_turns
from redset.core.shards import claims as shard_claims
from redset.serializers import JSONSerializer
from servers import PATIENCE, Place, Server, blocked_clients, wait_until

pytestmark = pytest.mark.conformance

#: On a cluster these are in several slots.
NAMES = ("high", "middle", "low")


@pytest.fixture
def sets(face: Any) -> list[Any]:
    return [face.SortedSet(name) for name in NAMES]


def filled(one: Any, count: int) -> None:
    one.update([f"{one.name} {number:04}" for number in range(count)])


def names(items: list[str]) -> list[str]:
    return [item.split()[0] for item in items]


def park(one: Any, count: int, name: str = "parked") -> None:
    """Add so many items that are leased, before all others of the set. The claim that meets them parks them."""
    items = [f"{name} {number:04}" for number in range(count)]
    one.update(items, score=-1)
    leased = {reservation.item for reservation in one.reserve_many(count, lease=600)}
    assert leased == set(items)
    one.update(items, score=-1)


def add_done(one: Any, count: int, raw: Any) -> None:
    """Add so many remembered items as another program does. The claim that meets them drops them."""
    items = [f"done {number:04}" for number in range(count)]
    one.update(items, score=-2)
    assert one.take(count) == items
    raw.zadd(one.name, dict.fromkeys(items, -2))


def expire(one: Any, items: list[str]) -> set[str]:
    """Add items whose leases have expired."""
    one.update(items, score=-3)
    assert len(one.reserve_many(len(items), lease=0.001)) == len(items)
    wait_until(lambda: one.stats().expired == len(items))
    return set(items)


def nothing_if_empty(call: Callable[[], Any]) -> list[Any]:
    try:
        return [call()]
    except KeyError:
        return []


#: Each way to claim; a loop claims one item at a time, so that none is claimed before it is returned.
MANY: dict[str, Callable[[Any, Any, int], list[str]]] = {
    "pop": lambda several, _loop, _num: nothing_if_empty(several.pop),
    "take": lambda several, _loop, num: list(several.take(num)),
    "reserve": lambda several, _loop, _num: [one.item for one in nothing_if_empty(several.reserve)],
    "reserve_many": lambda several, _loop, num: [one.item for one in several.reserve_many(num)],
    "consume": lambda _several, loop, _num: [one.item for one in (next(loop, None),) if one is not None],
}

#: The examples of a property share a server, and each has sets of its own.
NUMBERS = itertools.count()


class TestAStrictOrder:
    def test_a_later_set_has_its_turn_when_those_before_it_are_empty(self, face: Any, sets: list[Any]) -> None:
        for one in sets:
            filled(one, 2)
        several = face.several("first_of", *sets)

        assert [several.pop() for _ in range(3)] == ["high 0000", "high 0001", "middle 0000"]
        assert several.take(10) == ["middle 0001", "low 0000", "low 0001"]

    def test_an_earlier_set_that_is_filled_again_comes_first(self, face: Any, sets: list[Any]) -> None:
        filled(sets[2], 3)
        several = face.several("first_of", *sets)
        assert several.pop() == "low 0000"
        filled(sets[0], 1)

        assert several.reserve().item == "high 0000"
        assert several.reserve().item == "low 0001"

    def test_what_is_not_due_holds_nothing_up(self, face: Any) -> None:
        later, now = face.ScheduledSet("later"), face.SortedSet("now")
        later.add("a", time.time() + 60)
        now.add("b")

        assert face.several("first_of", later, now).pop() == "b"

    @pytest.mark.parametrize("way", ["pop", "take", "reserve", "reserve_many", "consume"])
    @pytest.mark.parametrize("shards", [None, 2])
    def test_more_parked_items_than_a_claim_passes_do_not_give_the_turn_away(
        self, face: Any, way: str, shards: int | None
    ) -> None:
        high, low = (face.SortedSet(name, shards=shards) for name in NAMES[:2])
        park(high, 700)
        high.add("due", 2)
        low.add("low")

        assert WAYS[way](face.several("first_of", high, low)) == "due"

    def test_items_done_before_that_another_program_adds_do_not_give_the_turn_away(self, face: Any, raw: Any) -> None:
        high, low = (face.SortedSet(name, remember=600) for name in NAMES[:2])
        add_done(high, 600, raw)
        high.add("due", 2)
        low.add("low")

        assert next(face.several("first_of", high, low).consume(wait=0)).item == "due"

    def test_a_loop_that_waits_passes_all_parked_items_first(self, face: Any) -> None:
        high, low = face.SortedSet("high"), face.SortedSet("low")
        park(high, 700)
        filled(low, 20)
        loop = face.several("first_of", high, low).consume(batch=10)
        assert next(loop).set_name == "low"
        park(high, 700, "again")
        high.add("due", 2)
        items = [next(loop).item for _ in range(10)]

        assert names(items) == ["low"] * 9 + ["due"]

    def test_items_that_cannot_be_loaded_do_not_give_the_turn_away(self, face: Any, raw: Any) -> None:
        """Also a suspect one, beside which nothing else would be claimed."""
        bad, low = (face.SortedSet(name, serializer=JSONSerializer()) for name in NAMES[:2])
        raw.zadd("high", {"{": 1})
        bare = face.SortedSet("high", serializer=None)
        bare.reserve(lease=0.001)
        wait_until(lambda: bare.stats().expired)
        bad.add("due", 2)
        low.add("low", 1)

        assert [one.item for one in face.several("first_of", bad, low).reserve_many(5)] == ["due", "low"]

    @pytest.mark.parametrize("shards", [None, 2])
    @given(data=st.data())
    def test_nothing_of_a_later_set_is_claimed_before_what_was_due_in_an_earlier_one(
        self, face: Any, raw: Any, shards: int | None, data: st.DataObject
    ) -> None:
        example = f"strict {next(NUMBERS)}"
        sets = [face.SortedSet(f"{example} {at}", shards=shards, remember=600) for at in range(3)]
        due: list[set[str]] = [set() for _ in sets]
        for at, one in enumerate(sets):
            if data.draw(st.booleans(), label="items are parked"):
                park(one, 700, f"parked {at}")
            if shards is None and data.draw(st.booleans(), label="done items are added"):
                add_done(one, 300, raw)
            if expired := data.draw(st.integers(0, 2), label="expired"):
                due[at] |= expire(one, [f"{at} expired {number}" for number in range(expired)])
        several = face.several("first_of", *sets)
        loop = several.consume(wait=0)
        for step in range(data.draw(st.integers(1, 8), label="calls")):
            for at, one in enumerate(sets):
                new = [f"{at} new {step} {number}" for number in range(data.draw(st.integers(0, 3), label="new"))]
                one.update(new, score=2)
                due[at] |= set(new)
            way, num = data.draw(st.sampled_from(list(MANY))), data.draw(st.integers(1, 6), label="num")
            claimed = MANY[way](several, loop, num)
            assert bool(claimed) == any(due)
            for item in claimed:
                at = int(item[0])
                assert not any(due[:at]), (way, item)
                due[at].remove(item)
            if way == "consume" and not claimed:
                loop = several.consume(wait=0)


class TestTurnsByWeight:
    def test_any_ninety_claims_are_eighty_and_ten(self, face: Any, sets: list[Any]) -> None:
        for one in sets[:2]:
            filled(one, 200)
        several = face.several("shared", [(sets[0], 8), (sets[1], 1)])
        one_by_one = [several.pop() for _ in range(45)]
        together = several.take(45)
        leased = [reservation.set_name for reservation in several.reserve_many(45)]
        in_loop = []
        for reservation in several.consume():
            in_loop.append(reservation.set_name)
            if len(in_loop) == 45:
                break

        turns = names(one_by_one + together) + leased + in_loop
        for start in range(90):
            assert Counter(turns[start : start + 90]) == {"high": 80, "middle": 10}

    def test_an_empty_set_saves_up_no_turns(self, face: Any, sets: list[Any]) -> None:
        filled(sets[0], 100)
        several = face.several("shared", [(sets[0], 1), (sets[1], 1)])
        for _ in range(50):
            several.pop()
        filled(sets[1], 100)

        assert Counter(names([several.pop() for _ in range(20)])) == {"high": 10, "middle": 10}

    def test_what_one_set_has_not_got_the_others_fill_up(self, face: Any, sets: list[Any]) -> None:
        filled(sets[0], 3)
        filled(sets[1], 30)
        several = face.several("shared", [(sets[0], 1), (sets[1], 1), (sets[2], 5)])

        assert Counter(names(several.take(20))) == {"high": 3, "middle": 17}

    def test_more_than_one_call_can_claim(self, face: Any, sets: list[Any]) -> None:
        filled(sets[0], 1500)
        filled(sets[1], 1500)

        assert Counter(names(face.several("shared", [(sets[0], 1), (sets[1], 1)]).take(2600))) == {
            "high": 1300,
            "middle": 1300,
        }


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    counts=st.lists(st.integers(1, 20), max_size=10),
)
def test_each_has_its_share_and_none_is_far_from_it(weights: list[int], counts: list[int]) -> None:
    members = [Member(str(at), None, None, None, weight) for at, weight in enumerate(weights)]  # type: ignore[arg-type]
    turns: list[Member] = []
    for count in counts:
        now = in_turns(members, count)
        for one in now:
            for member in members:
                member.credit += member.weight
            one.credit -= sum(weights)
        turns += now
        for member in members:
            share = len(turns) * member.weight / sum(weights)
            assert abs(turns.count(member) - share) < len(members)


WAYS: dict[str, Callable[[Any], str]] = {
    "pop": lambda several: str(several.pop(wait=PATIENCE)),
    "take": lambda several: str(several.take(2, wait=PATIENCE)[0]),
    "reserve": lambda several: str(several.reserve(wait=PATIENCE).item),
    "reserve_many": lambda several: str(several.reserve_many(2, wait=PATIENCE)[0].item),
    "consume": lambda several: str(next(several.consume(wait=PATIENCE)).item),
}


class TestWaiting:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("which", [0, 2])
    def test_an_item_of_any_set_wakes_it(self, face: Any, sets: list[Any], raw: Any, way: str, which: int) -> None:
        several = face.several("shared", [(one, 1) for one in sets])
        with ThreadPoolExecutor() as threads:
            future = threads.submit(WAYS[way], several)
            wait_until(lambda: all(raw.exists(f"{{{name}}}:looks") for name in NAMES))
            sets[which].add("item")
            assert future.result(PATIENCE) == "item"

    def test_an_item_of_another_program_is_found(self, face: Any, sets: list[Any], raw: Any) -> None:
        with ThreadPoolExecutor() as threads:
            future = threads.submit(face.several("first_of", *sets).pop, wait=PATIENCE)
            wait_until(lambda: all(raw.exists(f"{{{name}}}:looks") for name in NAMES))
            raw.zadd("low", {"item": 1})
            assert future.result(PATIENCE) == "item"

    def test_it_ends_on_time(self, face: Any, sets: list[Any]) -> None:
        began = time.monotonic()
        with pytest.raises(KeyError, match="'high', 'middle', 'low'"):
            face.several("first_of", *sets).pop(wait=0.3)
        assert face.several("first_of", *sets).take(3) == []
        assert list(face.several("first_of", *sets).consume(wait=0.3)) == []
        assert 0.6 <= time.monotonic() - began < PATIENCE / 4

    def test_who_got_an_item_of_one_set_waits_for_no_other(self, face: Any, sets: list[Any], raw: Any) -> None:
        """Else those who wait for the others would count on its looks."""
        several = face.several("first_of", *sets)
        with ThreadPoolExecutor() as threads:
            for name, way in WAYS.items():
                future = threads.submit(way, several)
                wait_until(lambda: all(raw.exists(f"{{{name}}}:looks") for name in NAMES))
                sets[1].add(name)
                assert future.result(PATIENCE) == name
                assert not any(raw.exists(f"{{{name}}}:looks") for name in NAMES)

    def test_who_gets_an_item_at_once_does_not_wait(self, face: Any, sets: list[Any], raw: Any) -> None:
        filled(sets[1], 2)
        several = face.several("shared", [(one, 1) for one in sets])
        assert names([several.pop(wait=PATIENCE), *several.take(9, wait=PATIENCE)]) == ["middle", "middle"]
        filled(sets[2], 2)
        loop = several.consume(wait=PATIENCE)
        assert names([next(loop).item, next(loop).item]) == ["low", "low"]

        assert not any(raw.exists(f"{{{name}}}:looks") for name in NAMES)
        loop.close()

    def test_the_wake_up_of_another_set_is_passed_on(self, face: Any, raw: Any, here: Place) -> None:
        """Both sets get an item, and one who is woken for either takes that of the first."""
        if not isinstance(here, Server):
            pytest.skip("who blocked first is not woken first everywhere")
        high, low = (face.SortedSet(name, poll=PATIENCE) for name in ("{one}high", "{one}low"))
        looks, wake = Keys("{one}low").looks, Keys("{one}low").wake
        # In asyncio there is one for each set.
        listeners = 2 if isinstance(face, Awaited) else 1
        with ThreadPoolExecutor() as threads, face.another() as other:
            first = threads.submit(face.several("first_of", high, low).pop, wait=PATIENCE)
            wait_until(lambda: raw.zcard(looks) == 1 and blocked_clients(raw) == listeners)
            second = threads.submit(other.SortedSet("{one}low", poll=PATIENCE).pop, wait=PATIENCE)
            wait_until(lambda: raw.zcard(looks) == 2 and blocked_clients(raw) == listeners + 1)
            began = time.monotonic()
            with raw.pipeline(transaction=True) as both:
                both.zadd("{one}high", {"a": 1}).zadd("{one}low", {"b": 1}).rpush(wake, 1).execute()

            assert (first.result(PATIENCE), second.result(PATIENCE)) == ("a", "b")
        assert time.monotonic() - began < PATIENCE / 10


class TestThreadsForSeveralSlots:
    """A command cannot block on keys in several slots of a cluster, so a thread listens to each set."""

    @pytest.fixture(autouse=True)
    def _in_several_slots(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drivers, "are_beside", lambda *_: False)

    @pytest.fixture
    def several(self, here: Place) -> Any:
        client = here.client()
        yield redset.first_of(*(redset.SortedSet[str](client, name) for name in NAMES))
        client.close()

    def test_none_goes_on_if_not_all_can_be_started(self, several: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        begun: list[threading.Thread] = []

        class Thread(threading.Thread):
            def start(self) -> None:
                if begun:
                    raise RuntimeError("can't start new thread")
                begun.append(self)
                super().start()

        monkeypatch.setattr(drivers, "Thread", Thread)
        with pytest.raises(RuntimeError, match="start new thread"):
            several.pop(wait=PATIENCE)
        begun[0].join(PATIENCE)
        assert not begun[0].is_alive()

    def test_a_wake_up_that_came_too_late_is_not_kept_for_ever(self, several: Any, raw: Any) -> None:
        wake = f"{{{NAMES[2]}}}:wake"
        for _ in range(5):
            assert several.take(1, wait=0.05) == []
            raw.rpush(wake, "1")
            raw.expire(wake, 60)
            time.sleep(0.3)
            assert raw.ttl(wake) != -1
            raw.delete(wake)


class TestConsuming:
    @pytest.mark.parametrize("batch", [1, 3])
    def test_each_item_is_acked_in_its_set(self, face: Any, sets: list[Any], batch: int) -> None:
        for one in sets:
            filled(one, 7)
        several = face.several("shared", [(sets[0], 3), (sets[1], 1), (sets[2], 1)])
        items = [reservation.item for reservation in several.consume(wait=0, batch=batch)]

        assert Counter(names(items)) == dict.fromkeys(NAMES, 7)
        for one in sets:
            assert (one.totals().acked, one.stats().leased) == (7, 0)

    def test_leaving_gives_back_what_was_not_begun(self, face: Any, sets: list[Any]) -> None:
        for one in sets:
            filled(one, 7)
        loop = face.several("shared", [(one, 1) for one in sets]).consume(batch=3)
        for _ in range(4):
            next(loop)
        loop.close()

        # Three were acked, one was nacked, and two were given back.
        assert sum(one.totals().acked for one in sets) == 3
        assert sum(one.totals().nacked for one in sets) == 1
        assert sum(one.totals().given_back for one in sets) == 2
        assert sum(one.stats().leased for one in sets) == 0

    def test_an_ack_does_not_wait_for_an_item_of_another_set(self, face: Any, sets: list[Any]) -> None:
        for one in sets:
            filled(one, 4)
        loop = face.several("shared", [(one, 1) for one in sets]).consume(batch=2, wait=0)
        last = next(loop)
        for reservation in iter(lambda: next(loop, None), None):
            done = {one.name: one.totals().acked for one in sets}
            if reservation.set_name != last.set_name:
                # All items that were begun are done, but this one.
                assert sum(done.values()) + sum(one.stats().leased for one in sets) >= sum(done.values()) + 1
                assert done[last.set_name] % 2 == 0 < done[last.set_name]
            last = reservation

        assert loop.lost == 0

    def test_acks_of_a_set_without_turns_are_sent_as_well(self, face: Any, sets: list[Any]) -> None:
        filled(sets[0], 1)
        filled(sets[1], 5)
        loop = face.several("first_of", *sets).consume()
        next(loop)
        next(loop)
        wait_until(lambda: next(loop) and sets[0].totals().acked == 1)
        loop.close()

    def test_what_one_error_interrupts_is_lost_in_no_set(self, face: Any, sets: list[Any], raw: Any) -> None:
        filled(sets[0], 2)
        raw.hset("low", "another", "type")
        with pytest.raises(TypeError):
            face.several("first_of", sets[1], sets[2]).take(5)

        assert face.several("first_of", sets[0], sets[2]).take(5) == ["high 0000", "high 0001"]


class TestSuspects:
    def test_a_suspect_item_is_claimed_alone(self, face: Any, sets: list[Any]) -> None:
        filled(sets[0], 1)
        sets[0].reserve(lease=0.01)
        filled(sets[1], 2)
        wait_until(lambda: sets[0].stats().expired)

        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["high 0000"]
        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["middle 0000", "middle 0001"]

    def test_the_items_before_it_come_without_it(self, face: Any, sets: list[Any]) -> None:
        filled(sets[1], 1)
        sets[1].reserve(lease=0.01)
        filled(sets[0], 2)
        wait_until(lambda: sets[1].stats().expired)

        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["high 0000", "high 0001"]
        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["middle 0000"]

    def test_items_of_sets_behind_it_do_not_come_before_it(self, face: Any, sets: list[Any]) -> None:
        expire(sets[1], ["suspect"])
        filled(sets[0], 2)
        filled(sets[2], 2)

        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["high 0000", "high 0001"]
        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["suspect"]
        assert [one.item for one in face.several("first_of", *sets).reserve_many(5)] == ["low 0000", "low 0001"]


class TestBadInput:
    @pytest.mark.parametrize("weight", [0, -1])
    def test_a_weight_that_is_not_positive(self, face: Any, sets: list[Any], weight: int) -> None:
        with pytest.raises(ValueError, match=f"at least 1, not {weight}"):
            face.several("shared", [(sets[0], 1), (sets[1], weight)])

    @pytest.mark.parametrize("weight", ["1", 1.0, True, None])
    def test_a_weight_that_is_no_int(self, face: Any, sets: list[Any], weight: Any) -> None:
        with pytest.raises(TypeError, match=repr(weight)):
            face.several("shared", [(sets[0], weight)])

    @pytest.mark.parametrize(
        "malformed",
        [
            pytest.param(lambda a, b: [a, b], id="sets"),
            pytest.param(lambda a, b: a, id="one set"),
            pytest.param(lambda a, b: [(a, 1), b], id="a pair and a set"),
            pytest.param(lambda a, b: [(a,)], id="one element"),
            pytest.param(lambda a, b: [(a, 1, b)], id="three elements"),
            pytest.param(lambda a, b: {a.name: 1, b.name: 2}, id="a dict"),
            pytest.param(lambda a, b: (a, 1), id="a bare pair"),
            pytest.param(lambda a, b: None, id="None"),
        ],
    )
    def test_no_pairs_of_a_set_and_a_weight(self, face: Any, sets: list[Any], raw: Any, malformed: Any) -> None:
        """Refused before anything is sent: iterating over a set asks the server, which has another type there."""
        raw.hset("high", "another", "type")
        with pytest.raises(TypeError, match=r"pairs of a set and its weight.*(high|low|middle|None)"):
            face.several("shared", malformed(*sets[:2]))

    def test_no_set(self, face: Any) -> None:
        with pytest.raises(ValueError, match="at least one"):
            face.several("first_of")

    def test_a_set_that_is_named_twice(self, face: Any, sets: list[Any]) -> None:
        with pytest.raises(ValueError, match="'high' is named twice"):
            face.several("first_of", sets[0], face.SortedSet("high"))

    def test_an_expiring_set(self, face: Any, sets: list[Any]) -> None:
        with pytest.raises(TypeError, match="ExpiringSet"):
            face.several("first_of", sets[0], face.ExpiringSet("seen", 60))

    def test_sets_on_two_clients(self, face: Any, sets: list[Any]) -> None:
        with face.another() as other, pytest.raises(ValueError, match="another client"):
            face.several("first_of", sets[0], other.SortedSet("other"))


class TestOverShards:
    @pytest.fixture
    def mixed(self, face: Any) -> list[Any]:
        """The second set is over shards."""
        return [face.SortedSet(name, shards=shards) for name, shards in zip(NAMES, (None, 4, None), strict=True)]

    @pytest.fixture
    def all_over_shards(self, face: Any) -> list[Any]:
        return [face.SortedSet(name, shards=3) for name in NAMES]

    def test_a_strict_order(self, face: Any, mixed: list[Any]) -> None:
        for one in mixed:
            filled(one, 20)
        several = face.several("first_of", *mixed)
        assert names([several.pop(), *several.take(35)]) == ["high"] * 20 + ["middle"] * 16
        assert {one.set_name for one in several.reserve_many(4)} == {"middle"}
        assert names(several.take(100)) == ["low"] * 20
        with pytest.raises(KeyError):
            several.pop()

    def test_turns(self, face: Any, all_over_shards: list[Any]) -> None:
        for one in all_over_shards[:2]:
            filled(one, 200)
        several = face.several("shared", [(all_over_shards[0], 8), (all_over_shards[1], 1)])
        assert Counter(names([several.pop() for _ in range(45)] + several.take(45))) == {"high": 80, "middle": 10}

    def test_a_call_claims_again_where_no_shard_knows_that_it_waits(
        self, face: Any, mixed: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when the shards that know it have failed in another thread just now."""
        working, left = shard_claims.working, iter([list[Any]()])
        listen = shard_claims.ShardsClaims.listen

        def listen_first_to_none(*args: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(shard_claims, "working", lambda shards: next(left, working(shards)))
                return listen(*args)

        monkeypatch.setattr(shard_claims.ShardsClaims, "listen", listen_first_to_none)
        with pytest.raises(KeyError):
            face.several("first_of", *mixed).pop(wait=0.3)
        assert next(left, None) is None

    @pytest.mark.parametrize("batch", [1, 7])
    def test_a_loop_acks_all(self, face: Any, mixed: list[Any], batch: int) -> None:
        for one in mixed:
            filled(one, 30)
        loop = face.several("first_of", *mixed).consume(batch=batch, wait=0)
        assert len({reservation.item for reservation in loop}) == 90
        assert sum(one.totals().acked for one in mixed) == 90
        assert loop.lost == 0

    @pytest.mark.parametrize("which", range(3))
    def test_an_addition_to_any_wakes_it(self, face: Any, mixed: list[Any], which: int) -> None:
        with face.another() as other, ThreadPoolExecutor(1) as threads:
            waiting = [
                other.SortedSet(name, shards=one, poll=PATIENCE)
                for name, one in zip(NAMES, (None, 4, None), strict=True)
            ]
            found = threads.submit(lambda: other.several("first_of", *waiting).pop(wait=PATIENCE))
            time.sleep(0.6)
            began = time.monotonic()
            mixed[which].add("a")
            assert found.result(PATIENCE) == "a"
            assert time.monotonic() - began < PATIENCE / 4
