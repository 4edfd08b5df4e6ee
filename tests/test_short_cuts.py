"""The short cuts of the scripts do what the full rules do: the same replies, and the same is left in the keys.

Most calls meet a set where little goes on, and scripts have short cuts for these. Here each of many sets is given to a
script twice, as it is and with its short cuts taken out. The clock stands still for both, so that they agree in all.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redset.core.keys import Keys
from redset.core.scripts import Script

pytestmark = [pytest.mark.conformance, pytest.mark.no_cover]

NOW = 1_700_000_000.123456
CLOCK = ("redis.call('TIME')", "{'1700000000', '123456'}")
#: What would be gone after a second on a machine that is busy.
LASTS_A_SECOND = ("'PX', '1000'", "'PX', '600000'")
STOPPED = {"handout": (CLOCK, LASTS_A_SECOND), "end": (CLOCK,)}
#: What takes each short cut, by the script, and what takes none.
SHORT_CUTS = {
    "handout": [
        (
            "local simple = lease == 0 and limit > 0 and not (values or done or repeated or unseen or ARGV[7])\n",
            "local simple = false\n",
        ),
        ("local reply = not (repeated or unseen) and common_case()\n", "local reply = nil\n"),
    ],
    "end": [("local reply = only_acks and common_case()\n", "local reply = nil\n")],
}


def changed(text: str, *pieces: tuple[str, str]) -> str:
    for old, new in pieces:
        assert text.count(old) == 1, f"there {text.count(old)} times: {old}"
        text = text.replace(old, new)
    return text


AS_THEY_ARE = {name: changed(Script(name).body, *pieces) for name, pieces in STOPPED.items()}
FULL_RULES = {name: changed(AS_THEY_ARE[name], *pieces) for name, pieces in SHORT_CUTS.items()}

#: By the names of keys in `Keys`: scores by member, or fields.
Stored = dict[str, dict[bytes, str | bytes]]

#: What is true of each item of a set where little goes on: these a short cut may deal with.
USUAL = (("waits",), ("waits",), ("waits", "held acked"), ("waits", "held", "held acked"))
#: What else can be, each of which a short cut must leave to the full rules, or see that it does no harm.
UNUSUAL = (
    "waits held",
    "waits held acked",
    "held parked",
    "held parked acked",
    "expired",
    "expired acked",
    "waits expired",
    "backing-off",
    "waits backing-off",
    "over",
    "waits over",
    "waits dead",
    "waits done",
    "waits done-long-ago",
    "waits failed",
    "waits suspect",
    "held acked acked-again",
    "held acked-wrongly",
    "waits acked-wrongly",
    "acked-wrongly",
)


@dataclass(frozen=True)
class Item:
    stored: bytes
    what: str
    #: The one it was delivered with, and the one it was added with since.
    score: str
    newer_score: str
    token: int
    attempt: int
    value: bytes | None

    @property
    def acks(self) -> list[tuple[bytes, str]]:
        right, wrong = self.delivery(self.token), self.delivery(self.token + 1)
        each = {"acked": right, "acked-again": right, "acked-wrongly": wrong}
        return [(self.stored, each[word]) for word in self.what.split() if word in each]

    def delivery(self, token: int | str) -> str:
        return f"{token} {self.attempt} {self.score}"


@dataclass(frozen=True)
class Kind:
    """What a set was made with, as scripts are told it."""

    keyed: bool = False
    remember: int = 0
    digest: bool = False
    interval: int = 0

    @property
    def extended(self) -> bool:
        return self != Kind()

    def __str__(self) -> str:
        return f"{self.keyed:d} {self.remember} {self.digest:d} {self.interval}"


KINDS = (
    Kind(),
    Kind(),
    Kind(),
    Kind(keyed=True),
    Kind(remember=60),
    Kind(remember=60, digest=True),
    Kind(keyed=True, remember=60),
    Kind(interval=60),
)

PAST = ("-inf", "-1e300", "-3.25", "-0", "0", "0.30000000000000004", "1699999999.5", "1700000000.123456")
LATER = ("1700000000.123457", "1700000500", "1e300", "inf")
scores = st.sampled_from(PAST * 2 + LATER)
values = st.none() | st.sampled_from([b"", b"7\nvalue", b"\nvalue", b"\x00\xff"])


def items(whats: tuple[str, ...]) -> st.SearchStrategy[Item]:
    what, names = st.sampled_from(whats), st.binary(max_size=3)
    return st.builds(Item, names, what, scores, scores, st.integers(1, 10**15), st.integers(1, 4), values)


@dataclass(frozen=True)
class Scene:
    """A set with items, and the calls that it gets."""

    kind: Kind
    items: list[Item]
    somebody_waits: bool
    #: The number of each call, and of the last that its caller has seen; it is the same call otherwise.
    numbers: list[tuple[int, int]]
    limits: str

    @property
    def acks(self) -> list[bytes | str]:
        return [word for item in self.items for ack in item.acks for word in ack]


#: A lone 0: the caller keeps no record. Then one call, the same again, one after a reply that was not read, or was.
numbers = st.sampled_from([[(0, 0)], [(1, 0)], [(1, 0), (1, 0)], [(1, 0), (2, 0)], [(1, 0), (2, 0)], [(1, 0), (2, 1)]])


@st.composite
def scenes(
    draw: st.DrawFn, what: str | None, kinds: tuple[Kind, ...] = KINDS, usually: tuple[tuple[str, ...], ...] = USUAL
) -> Scene:
    """Scenes where this is true of an item, if of any; seldom is something else unusual too."""
    usual = draw(st.lists(items(draw(st.sampled_from(usually))), min_size=1, max_size=5))
    unusual = [draw(items((what,)))] if what else []
    if draw(st.integers(0, 9)) == 9:
        unusual.append(draw(items(UNUSUAL)))
    # Where there are many it may look at less. They take less to draw as copies.
    usual *= draw(st.sampled_from([1, 12]))
    each = [replace(item, stored=item.stored + b" %d" % number) for number, item in enumerate([*usual, *unusual])]
    return Scene(
        draw(st.sampled_from(kinds)),
        each,
        draw(st.sampled_from([False] * 4 + [True])),
        draw(numbers),
        draw(st.sampled_from(["0 0", "2 0", "3 1"])),
    )


class Stage:
    """The keys of one set, on which the same scene is played again."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._keys = Keys("jobs")
        self._call = self._keys.call_prefix + b"caller"
        keys = self._keys
        self._sorted_sets = (keys.waiting, keys.leased, keys.parked, keys.dead, keys.done)
        self._hashes = (keys.deliveries, keys.letters, keys.token, keys.values)
        self._all = (*self._sorted_sets, *self._hashes, keys.wake, keys.waiters, self._call)

    def play(self, script: str, text: str, scene: Scene, args: Sequence[str]) -> tuple[Any, ...]:
        """The replies to the calls, and what is there then."""
        self._raw.delete(*self._all)
        self._prepare(scene)
        keys = self._keys_of(script, scene.kind)
        replies = []
        for numbers in scene.numbers:
            written = [f"{number:016}" if numbers[0] else "0" for number in numbers]
            replies.append(self._raw.eval(text, len(keys), *keys, *written, *args, *scene.acks))
        return replies, *self._contents()

    def _prepare(self, scene: Scene) -> None:
        pipeline = self._raw.pipeline(transaction=False)
        for name, content in stored(scene).items():
            key = getattr(self._keys, name)
            if key in self._hashes:
                pipeline.execute_command("HSET", key, *chain.from_iterable(content.items()))
            else:
                # As text: a client may write a float in other digits.
                pipeline.execute_command(
                    "ZADD", key, *chain.from_iterable((score, item) for item, score in content.items())
                )
        if scene.somebody_waits:
            pipeline.execute_command("SET", self._keys.waiters, "1")
        pipeline.execute()

    def _keys_of(self, script: str, kind: Kind) -> tuple[bytes, ...]:
        keys = self._keys
        token = (keys.token,) if script == "handout" else ()
        extension = (keys.values, keys.done) if kind.extended else ()
        return self._call, *keys.states, *token, keys.wake, keys.waiters, *extension

    def _contents(self) -> tuple[list[Any], ...]:
        """What the keys hold, to the sign of a zero, and which of them end by themselves."""
        pipeline = self._raw.pipeline(transaction=False)
        for key in self._all:
            pipeline.ttl(key)
        for key in self._sorted_sets:
            pipeline.zrange(key, 0, -1, withscores=True)
        for key in self._hashes:
            pipeline.hgetall(key)
        pipeline.lrange(self._keys.wake, 0, -1).get(self._keys.waiters).get(self._call)
        found = iter(pipeline.execute())
        ends = [seconds > 0 for seconds in islice(found, len(self._all))]
        return ends, [repr(rows) for rows in islice(found, len(self._sorted_sets))], list(found)


def stored(scene: Scene) -> Stored:
    found: Stored = defaultdict(dict)
    for item in scene.items:
        for word in item.what.split():
            store(found, item, word, scene.kind)
        if item.value is not None and (scene.kind.keyed or scene.kind.interval):
            found["values"][item.stored] = item.value
    return found


def store(found: Stored, item: Item, word: str, kind: Kind) -> None:
    until = {"held": NOW + 500, "expired": NOW - 5, "backing-off": -(NOW + 500), "over": -(NOW - 5)}
    ends = {"done": NOW + 50, "done-long-ago": NOW - 5}
    if word == "waits":
        found["waiting"][item.stored] = item.newer_score
    elif word in until:
        found["leased"][item.stored] = repr(until[word])
        found["deliveries"][item.stored] = item.delivery(item.token if until[word] > 0 else 0)
    elif word in {"failed", "suspect"}:
        found["deliveries"][item.stored] = item.delivery(0 if word == "failed" else "expired")
    elif word == "parked":
        found["parked"][item.stored] = item.newer_score
    elif word == "dead":
        found["dead"][item.stored] = repr(NOW - 9)
        found["letters"][item.stored] = f"{item.attempt} {item.score} why"
    elif word in ends and kind.remember:
        memory = hashlib.sha1(item.stored).digest()[:16] if kind.digest else item.stored
        found["done"][memory] = repr(ends[word])


def assert_the_same(raw: Any, script: str, scene: Scene, *args: str) -> None:
    stage = Stage(raw)
    by_short_cuts, by_full_rules = (
        stage.play(script, texts[script], scene, args) for texts in (AS_THEY_ARE, FULL_RULES)
    )
    assert by_short_cuts == by_full_rules


unusual = pytest.mark.parametrize("what", [None, *UNUSUAL])
limits = st.sampled_from(["0", "1", "5", "11", "20", "100", "100"])
orders = st.sampled_from(["any", "any", "due", "any last", "due last"])


@unusual
@given(data=st.data(), limit=limits, which=orders, lease=st.sampled_from(["0", "30"]), waits=st.integers(0, 2))
def test_a_hand_out_by_a_short_cut_is_one_by_the_full_rules(
    raw: Any, what: str | None, data: st.DataObject, limit: str, which: str, lease: str, waits: int
) -> None:
    scene = data.draw(scenes(what))
    if scene.kind.interval:
        which = which.replace("any", "due")
    assert_the_same(raw, "handout", scene, limit, which, lease, f"{scene.limits} {waits:d} {scene.kind}")


@given(scene=scenes(None, kinds=(Kind(),), usually=(("waits",),)), limit=limits, which=orders, waited=st.booleans())
@settings(max_examples=100)
def test_a_take_where_all_waits_is_one_by_the_full_rules(
    raw: Any, scene: Scene, limit: str, which: str, waited: bool
) -> None:
    scene = replace(scene, somebody_waits=waited)
    assert_the_same(raw, "handout", scene, limit, which, "0", f"{scene.limits} 0 {scene.kind}")


@unusual
@given(data=st.data())
@settings(max_examples=20)
def test_acks_by_the_short_cut_are_acks_by_the_full_rules(raw: Any, what: str | None, data: st.DataObject) -> None:
    scene = data.draw(scenes(what))
    assert_the_same(raw, "end", scene, f"{scene.limits} {scene.kind}", "ack")
