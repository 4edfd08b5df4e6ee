"""A reshard moves everything, loses nothing and adds nothing twice, and can be interrupted and repeated."""

import threading
import zlib
from dataclasses import replace
from typing import Any

import pytest

import redset
import redset.aio
from conftest import SERVER
from redset.core.shards import resharding
from redset.core.shards.layout import Layout
from redset.exceptions import LayoutError
from servers import wait_until

pytestmark = pytest.mark.conformance


@pytest.fixture
def reshard(face: Any) -> Any:
    """The function of the face."""

    def reshard(count: Any, **options: Any) -> Any:
        if hasattr(face, "loop"):
            return face.call(redset.aio.reshard, face.client, "jobs", count, **options)
        return redset.reshard(face.client, "jobs", count, **options)

    return reshard


def made(face: Any, count: Any, kind: str = "SortedSet", **options: Any) -> Any:
    return getattr(face, kind)("jobs", **options, **({"shards": count} if count else {}))


def numbers(count: int) -> list[str]:
    return [f"{number:04}" for number in range(count)]


MOVES = [(None, 3), (3, None), (2, 5), (5, 2), (None, 1)]


@pytest.mark.parametrize(("before", "after"), MOVES)
class TestWhatMoves:
    @pytest.mark.parametrize("kind", ["SortedSet", "TimeSortedSet", "ScheduledSet"])
    def test_all_states(self, face: Any, reshard: Any, before: Any, after: Any, kind: str) -> None:
        options: dict[str, Any] = {"kind": kind, "remember": 600, "max_attempts": 3, "backoff": lambda attempt: 600}
        jobs = made(face, before, **options)
        jobs.update(numbers(60), score=int)
        held = {one.item: one for one in jobs.reserve_many(30, lease=600)}
        for number in range(10):
            held[f"{number:04}"].ack()
        for number in range(10, 15):
            held[f"{number:04}"].bury("why")
        for number in range(15, 20):
            held[f"{number:04}"].nack()
        jobs.update(numbers(25)[20:], score=7)
        with pytest.raises(KeyError):
            for _ in range(100):
                jobs.pop()
        jobs.update(numbers(90)[60:], score=int)
        stats, totals = jobs.stats(), jobs.totals()
        assert (stats.waiting, stats.leased, stats.delayed, stats.parked, stats.dead) == (30, 10, 5, 5, 5)
        told: list[tuple[int, int]] = []

        assert reshard(after, progress=lambda *done: told.append(done))

        moved = made(face, after, **options)
        # The lag of items that are due grows.
        assert replace(moved.stats(), lag=stats.lag) == stats
        assert moved.totals() == totals
        assert list(moved) == numbers(90)[60:]
        assert (moved.is_done("0001"), moved.add("0001")) == (True, None)
        assert moved.state("0020") == "parked"
        assert sorted(letter.reason for letter in moved.dead_letters) == ["why"] * 5
        assert told[-1][0] == told[-1][1] > 90
        # Reservations from before.
        token = max(one.token for one in held.values())
        if before:
            held["0020"].ack()
            held["0021"].again()
            assert jobs.ack([held["0022"], held["0029"]]) == []
            assert moved.state("0029") == "done"
        else:
            moved.reservation(held["0020"].receipt).ack()
        assert moved.reserve().token > token
        assert not reshard(after)

    def test_keyed_items(self, face: Any, reshard: Any, before: Any, after: Any) -> None:
        def key(page: str) -> str:
            return page.partition(" ")[0]

        jobs = made(face, before, key=key)
        jobs.update([f"{number} text" for number in range(20)])
        reshard(after)
        moved = made(face, after, key=key)
        assert moved.get(redset.Key("3")) == "3 text"
        assert sorted(moved.take(20)) == sorted(f"{number} text" for number in range(20))

    @pytest.mark.skipif(SERVER == "fakeredis", reason="its scripts compute no digests")
    def test_digests(self, face: Any, reshard: Any, before: Any, after: Any) -> None:
        options: dict[str, Any] = {"remember": 600, "digest": True}
        jobs = made(face, before, **options)
        jobs.update(numbers(20), score=int)
        jobs.take(10)
        reshard(after)
        moved = made(face, after, **options)
        assert [moved.is_done(item) for item in numbers(20)] == [True] * 10 + [False] * 10
        assert moved.update(numbers(20)) == 0
        assert len(moved) == 10

    def test_limits(self, face: Any, reshard: Any, before: Any, after: Any) -> None:
        jobs = made(face, before)
        jobs.add("a")
        jobs.limit(rate=100, burst=20, leases=10, maxsize=50)
        jobs.pause()
        limits = jobs.stats().limits
        reshard(after)
        stats = made(face, after).stats()
        assert (stats.limits, stats.paused_until) == (limits, float("inf"))

    def test_interrupted_anywhere(
        self, face: Any, reshard: Any, before: Any, after: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jobs = made(face, before)
        jobs.update(numbers(30), score=int)
        held = jobs.reserve()
        tries, perform = 0, resharding._Move.perform

        for stop_after in range(1, 400):

            def interrupted(self: Any, stop_after: int = stop_after) -> Any:
                steps, sent = perform(self), None
                for _ in range(stop_after):
                    try:
                        sent = yield steps.send(sent)
                    except StopIteration:
                        return
                raise RuntimeError("interrupted")

            monkeypatch.setattr(resharding._Move, "perform", interrupted)
            try:
                reshard(after)
            except RuntimeError:
                tries += 1
            else:
                break
        monkeypatch.undo()
        assert tries > 10
        reshard(after)
        moved = made(face, after)
        assert moved.stats().leased == 1
        moved.reservation(held.receipt).ack()
        assert moved.take(100) == [item for item in numbers(30) if item != held.item]
        assert moved.totals().added == 30


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, None)])
def test_producers_and_consumers_go_on(face: Any, reshard: Any, before: int, after: Any) -> None:
    jobs = made(face, before)
    jobs.update(numbers(500), score=int)
    over, trouble = threading.Event(), []
    claimed: list[str] = []
    added = 500

    def produce() -> None:
        nonlocal added
        other = face.SortedSet("jobs", shards=before)
        try:
            while not over.is_set():
                other.add(f"{added:04}", added)
                added += 1
        except Exception as error:
            trouble.append(error)

    def consume() -> None:
        try:
            claimed.extend(one.item for one in jobs.consume(wait=None, stop=over))
        except Exception as error:
            trouble.append(error)

    threads = [threading.Thread(target=target) for target in (produce, consume)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(claimed) > 20)
    reshard(after)
    count = len(claimed)
    wait_until(lambda: len(claimed) > count + 20 or trouble)
    over.set()
    for thread in threads:
        thread.join()
    assert not trouble
    moved = made(face, after)
    assert moved.stats().leased == 0
    left = moved.take(100_000)
    # The item at which the loop was left is requeued.
    assert sorted({*claimed, *left}) == numbers(added)
    assert len(claimed) + len(left) <= added + 1
    assert moved.totals().added == added


def test_again_and_again(face: Any, reshard: Any, raw: Any) -> None:
    face.SortedSet("jobs").update(numbers(50), score=int)
    for count in (4, None, 4, 2, None, 3):
        reshard(count)
        assert list(made(face, count)) == numbers(50)
    if not hasattr(face, "loop"):
        redset.forget_set(face.client, "jobs")
        assert not [key for key in raw.keys("*jobs*") if b"call:" not in key]
        made(face, 2).add("a")


class TestErrors:
    def test_other_kinds(self, face: Any, reshard: Any) -> None:
        face.PeriodicSet("jobs", 10, shards=2).add("a")
        with pytest.raises(LayoutError, match="only sorted and scheduled"):
            reshard(3)

    def test_groups(self, face: Any, reshard: Any) -> None:
        jobs = face.SortedSet("jobs", shards=2, group=lambda item: item[0])
        jobs.add("a")
        with pytest.raises(LayoutError, match="without groups"):
            reshard(3)
        assert jobs.pop() == "a"

    def test_no_set(self, reshard: Any) -> None:
        with pytest.raises(LayoutError, match="no set 'jobs'"):
            reshard(3)

    def test_a_limit_that_is_too_low(self, face: Any, reshard: Any) -> None:
        jobs = face.SortedSet("jobs")
        jobs.add("a")
        jobs.limit(leases=2)
        with pytest.raises(ValueError, match="leases is 2"):
            reshard(3)
        assert jobs.pop() == "a"

    def test_another_number_than_before(self, face: Any, reshard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made(face, 2).add("a")
        monkeypatch.setattr(resharding._Move, "_write_facts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reshard(3)
        monkeypatch.undo()
        with pytest.raises(LayoutError, match="shards=3 has not ended"):
            reshard(4)
        assert reshard(3)
        assert made(face, "stored").pop() == "a"

    def test_a_progress_that_cannot_be_called(self, face: Any, reshard: Any) -> None:
        face.SortedSet("jobs").add("a")
        with pytest.raises(TypeError, match="progress must be a callable that takes two numbers, not 5"):
            reshard(3, progress=5)
        assert face.SortedSet("jobs").pop() == "a"

    @pytest.mark.parametrize("count", ["stored", 0, 2000])
    def test_a_number_that_cannot_be(self, reshard: Any, count: Any) -> None:
        with pytest.raises(ValueError, match="shards must be"):
            reshard(count)


def test_items_are_in_the_shards_that_they_belong_to(face: Any, reshard: Any, raw: Any) -> None:
    made(face, 2).update(numbers(50))
    reshard(3)
    names = Layout("jobs", 1, 3, "sorted", digest=False, past=(2,)).names
    for number, name in enumerate(names):
        assert {zlib.crc32(item) % 3 for item in raw.zrange(name, 0, -1)} == {number}
