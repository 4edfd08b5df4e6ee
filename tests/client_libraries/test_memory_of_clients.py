"""What a client keeps of sets that nobody refers to any more: nothing."""

import gc
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from faces import Face
from redset import SortedSet
from servers import wait_until

ROUNDS = 300


def visit(face: Any, numbers: range, *, waits: bool = False, **options: Any) -> None:
    """As a scraper does with a set for each host: add, claim, end, and drop the set.

    :param waits: whether it waits in vain as well, for which a client makes new connections: these take memory too.
    """
    for number in numbers:
        pages = face.SortedSet(f"pages of host-{number}", **options)
        pages.add("/")
        pages.reserve(lease=60).ack()
        pages.add("/")
        with pages.consume(wait=0) as loop:
            next(loop)
        pages.take(5, wait=0)
        if waits:
            assert pages.take(5, wait=0.01) == list(pages.consume(wait=0.01)) == []


def names_kept() -> set[str]:
    """Return all names of the sets of :func:`visit` that any object refers to."""
    # Frozen objects, those that were there before the tests, are not among all objects.
    gc.unfreeze()
    gc.collect()
    found, met, todo = set[str](), set[int](), gc.get_objects()
    gc.freeze()
    while todo:
        for one in gc.get_referents(todo.pop()):
            if isinstance(one, bytes | str):
                text = one if isinstance(one, str) else one.decode(errors="replace")
                found.update(re.findall(r"host-\d+", text))
            elif isinstance(one, tuple) and not gc.is_tracked(one) and id(one) not in met:
                met.add(id(one))
                todo.append(one)
    return found


@pytest.mark.soak
@pytest.mark.no_cover
def test_sets_of_many_names_leave_nothing_behind(face: Face) -> None:
    visit(face, range(ROUNDS))
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        visit(face, range(ROUNDS, 2 * ROUNDS))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (after - before) / ROUNDS < 200, "bytes for each set"


@pytest.mark.parametrize("shards", [None, 2])
def test_nothing_names_a_set_that_nobody_refers_to(face: Face, shards: int | None) -> None:
    visit(face, range(10), waits=True, shards=shards)
    wait_until(lambda: not names_kept())


def test_a_set_over_shards_forgets_the_threads_that_waited_for_it(raw: Any) -> None:
    """A thread that gets an item leaves the shards that have another one. At the others its look passes."""
    jobs, threads = SortedSet[str](raw, "jobs", shards=4), 5
    shards: Any = jobs._shards
    assert jobs.take(1) == []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(jobs.pop, wait=60)
        wait_until(lambda: all(len(shard.looks) == threads for shard in shards.all))
        for number in range(threads):
            jobs.add(str(number))
            # One by one, so that no other shard has an item.
            wait_until(lambda: not jobs)
    assert any(len(shard.looks) > 1 for shard in shards.all)

    def forgotten() -> bool:
        assert jobs.take(1, wait=0.01) == []
        return all(len(shard.looks) <= 1 for shard in shards.all)

    wait_until(forgotten)


def test_a_set_is_freed_without_the_garbage_collector(raw: Any) -> None:
    class Seen(SortedSet[str]):
        pass

    gc.disable()
    try:
        gc.collect()
        pages = Seen(raw, "pages")
        pages.add("/")
        pages.pop()
        del pages
        assert not [one for one in gc.get_objects() if type(one) is Seen]
    finally:
        gc.enable()
