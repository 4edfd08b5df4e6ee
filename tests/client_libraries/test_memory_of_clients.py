"""What a client keeps of sets that nobody refers to any more: nothing."""

import gc
import tracemalloc
from typing import Any

import pytest

from faces import Face
from redset import SortedSet

ROUNDS = 300


def visit(face: Any, numbers: range) -> None:
    """As a scraper does with a set for each host: add, claim, wait a little, end, and drop the set."""
    for number in numbers:
        pages = face.SortedSet(f"pages of host-{number}")
        pages.add("/")
        pages.reserve(lease=60).ack()
        pages.add("/")
        with pages.consume(wait=0) as loop:
            next(loop)
        pages.take(5, wait=0)


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
