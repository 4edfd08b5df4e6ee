"""What must hold of any history, whatever went wrong.

Each rule is a function that goes through the story of one set and yields a judgement of each thing it looks at: it
:data:`HOLDS`, it holds because something :class:`Excuses` it, or it is :class:`Wrong`. What is uncertain is excused,
where it explains what is seen, and nothing else is.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise, permutations, zip_longest
from operator import itemgetter
from typing import Literal, NamedTuple, TypeAlias

from chaos.history import Call, History, Left, Row
from chaos.promises import Promises
from chaos.stories import ADDITIONS, FOR_GOOD, Addition, Delivery, Period, Return, Story, over_by, stories
from invariants import deaths_add_up, leases_add_up, uncounted

__all__ = ("RULES", "Verdict", "Violation", "check")


class Wrong(NamedTuple):
    """In one plain sentence, with the calls that show it: the last is what should not have been."""

    what: str
    calls: Sequence[Call]
    #: Whether it shows in the end only, when something is not there: then the last call is like the others.
    in_the_end: bool = False

    def was_forgotten(self, story: Story) -> bool:
        """Whether a failover explains it, that had undone a call when it showed."""
        if self.in_the_end or not self.calls:
            return story.forgotten(self.calls)
        *before, shown = self.calls
        by = math.inf if shown.completed is None else shown.completed
        # For a moment there are two masters, so what shows it may have been asked of the one that is forgotten.
        return story.forgotten(before, by) or story.forgotten([shown], by)


class Excuses(NamedTuple):
    """What explains something that would be wrong otherwise."""

    why: str


HOLDS: Literal["holds"] = "holds"
Judgements: TypeAlias = Iterator[Wrong | Excuses | Literal["holds"]]
Rule: TypeAlias = Callable[[Story], Judgements]

#: What scores of one rhythm may differ by from whole intervals, in seconds: they are floats.
ROUNDING = 1e-3


class Violation(NamedTuple):
    """A promise that was not kept."""

    checker: str
    set: str
    what: str
    calls: Sequence[Call]


@dataclass
class Verdict:
    """What the checkers say of a history."""

    violations: list[Violation] = field(default_factory=list)
    #: How often each checker let something pass, and why.
    excused: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: How many things each checker judged.
    looked_at: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.violations


def check(history: History, promises: dict[str, Promises]) -> Verdict:
    """Holds what happened to what was promised."""
    verdict = Verdict()
    for story in stories(history, promises):
        for checker, rule in RULES.items():
            for judgement in rule(story):
                verdict.looked_at[checker] += 1
                if isinstance(judgement, Excuses):
                    verdict.excused[checker, judgement.why] += 1
                elif isinstance(judgement, Wrong) and judgement.was_forgotten(story):
                    verdict.excused[checker, "forgotten by a failover"] += 1
                elif isinstance(judgement, Wrong):
                    verdict.violations.append(Violation(checker, story.set, judgement.what, judgement.calls))
    return verdict


def nothing_lost(story: Story) -> Judgements:
    """What was added is handed out afterwards, and acked where it was leased; or it is still there in the end.

    A pop that nobody saw the end of explains as many lost items as it asked for, if its process was killed before its
    next hand-out could put them back. Where work is remembered, the last forced addition of an item is judged.
    """
    if story.promises.ttl is not None:
        return
    if story.left is None:
        yield Wrong("nobody recorded what was left", ())
        return
    missing: list[tuple[float, Wrong]] = []
    for item, additions in story.additions.items():
        certain = [addition for addition in additions if addition.call.outcome == "ok"]
        if not certain:
            continue
        last = max(certain, key=lambda addition: (addition.forced, addition.call.invoked))
        since, wrong = _went_astray(story, item, last)
        if wrong is None:
            yield HOLDS
        elif story.removed(item, since) < math.inf:
            yield Excuses("it was discarded")
        elif isinstance(wrong, Excuses):
            yield wrong
        elif wrong.was_forgotten(story) or story.promises.interval is not None:
            # The one needs no crash to explain it, and the other cannot be explained by one.
            yield wrong
        else:
            missing.append((since, wrong))
    yield from _explained_by_crashes(missing, list(story.swallowed()))


def _went_astray(story: Story, item: str, last: Addition) -> tuple[float, Wrong | Excuses | None]:
    """From when on nothing is known of an item, if it is not there in the end; and what is wrong then."""
    since = last.call.invoked
    deliveries = story.deliveries.get(item, [])
    unseen_since = all(delivery.until < since for delivery in deliveries)
    # A forced addition ends its death.
    if item in (story.alive if last.forced and unseen_since else story.remaining):
        return since, None
    if story.promises.interval is not None:
        return since, Wrong(f"{item} comes back for ever, and is not there in the end", [last.call], in_the_end=True)
    if unseen_since:
        what = f"{item} was added, never handed out afterwards, and is not there in the end"
        return since, _left_out(story, deliveries, last) or Wrong(what, [last.call], in_the_end=True)
    latest = deliveries[-1]
    taken = any(not delivery.lease and delivery.until > latest.since for delivery in deliveries)
    if latest.lease and not (taken or any(story.ends_of(latest, "ack"))):
        what = f"{item} was leased, never acked under that token, and is not there in the end"
        return latest.since, Wrong(what, [last.call, latest.call], in_the_end=True)
    return since, None


def _left_out(story: Story, deliveries: Sequence[Delivery], addition: Addition) -> Excuses | None:
    """Why an addition needs no delivery of its own, if anything explains it."""
    if story.promises.remembers and not addition.forced and any(_may_be_done(story, one) for one in deliveries):
        return Excuses("it was done before")
    if (story.promises.drops or addition.forced) and any(_may_drop(story, one, addition) for one in deliveries):
        return Excuses("it was dropped under a lease")
    return None


def _may_drop(story: Story, delivery: Delivery, addition: Addition) -> bool:
    """Whether an addition may have been made under a lease of its item, which an ack or a bury ended then."""
    since = addition.call.invoked
    return story.has_run_out(delivery) >= since and any(
        over_by(end.call) >= since for end in story.ends_of(delivery, "ack", "bury")
    )


def _may_be_done(story: Story, delivery: Delivery) -> bool:
    return not delivery.lease or any(story.ends_of(delivery, "ack"))


def _explained_by_crashes(missing: list[tuple[float, Wrong]], swallowed: list[tuple[float, int, str]]) -> Judgements:
    """The later an item went astray the fewer pops explain it, so the last comes first."""
    swallowed = sorted(swallowed, reverse=True)
    capacity: list[str] = []
    position = 0
    for since, wrong in sorted(missing, key=lambda row: row[0], reverse=True):
        while position < len(swallowed) and swallowed[position][0] >= since:
            _, number, why = swallowed[position]
            capacity += [why] * number
            position += 1
        yield Excuses(capacity.pop()) if capacity else wrong


def nothing_stuck(story: Story) -> Judgements:
    """What is left in the end was added, and once all had time to be done nothing is left but what is dead, which died
    because somebody buried it or of its last attempt.
    """
    left = story.left
    if left is None:
        return
    for state in ("waiting", "leased", "parked", "dead"):
        for item in getattr(left, state):
            calls = [addition.call for addition in story.additions.get(item, ())]
            if not calls:
                yield Wrong(f"{item} is {state} in the end, and nobody had added it", ())
            elif state != "dead" and left.drained:
                yield Wrong(f"{item} is {state} in the end, where nobody gets it", calls[-1:])
            elif state == "dead" and not _may_be_dead(story, item, calls[0].invoked):
                yield Wrong(f"{item} is dead in the end, without having failed that often", calls[-1:])
            else:
                yield HOLDS


def added_together(story: Story) -> Judgements:
    """The items of a transaction are added all or not at all."""
    for call in story.calls:
        if call.name == "add_to" and call.outcome != "refused":
            there = [item for item in call.items if item in story.deliveries or item in story.remaining]
            if len(there) in {0, len(call.items)}:
                yield HOLDS
            else:
                yield Wrong(f"of {', '.join(call.items)} only {', '.join(there)} was added", [call], in_the_end=True)


def totals_add_up(story: Story) -> Judgements:
    """The three equations of the totals hold in the end: each thing was counted once, though calls were repeated or
    rolled back, or replies lost; over shards in each of them, but after a reshard in all together. Other programs'
    additions are not counted.
    """
    if story.left is None or story.promises.ttl is not None:
        return
    for left in [story.left] if story.promises.is_resharded else story.left.shards or [story.left]:
        yield from _add_up(story, left)


def _add_up(story: Story, left: Left) -> Judgements:
    of = Counter(left.totals)
    there = len(left.waiting) + len(left.leased) + len(left.parked) + len(left.dead)
    foreign = sum(len(call.items) for call in story.calls if call.name == "zadd")
    equations = {
        "leases that began are those that ended and are held": leases_add_up(of, left.held),
        "entries that came are those that went and are there": 0 <= uncounted(of, there) <= foreign,
        "deaths are those that ended and last": deaths_add_up(of, len(left.dead)),
    }
    for equation, holds in equations.items():
        yield (
            HOLDS
            if holds
            else Wrong(f"in {left.set} it is not so that {equation}: {dict(of)}, {there} there, {left.held} held", ())
        )


def _may_be_dead(story: Story, item: str, added: float) -> bool:
    limit = story.promises.max_attempts
    deliveries = story.deliveries.get(item, ())
    if any(any(story.ends_of(delivery, "bury")) for delivery in deliveries):
        return True
    tried = max((delivery.row.attempt or 0 for delivery in deliveries), default=0)
    since = deliveries[-1].since if deliveries else added
    return limit is not None and tried + _unseen_leases(story, since, math.inf) >= limit


def nothing_invented(story: Story) -> Judgements:
    """What is handed out was given to an addition before, and so was the value that it carries."""
    for item, deliveries in story.deliveries.items():
        additions = story.additions.get(item, ())
        first_added = min((addition.call.invoked for addition in additions), default=math.inf)
        first_given: dict[int | None, float] = {}
        for addition in reversed(additions):
            first_given[addition.version] = addition.call.invoked
        for delivery in deliveries:
            version = delivery.row.version
            if first_added >= delivery.until:
                yield Wrong(f"{item} was handed out, and nobody had added it", [delivery.call])
            elif story.promises.keyed and first_given.get(version, math.inf) >= delivery.until:
                yield Wrong(f"{item} was handed out with the value {version}, which nobody had given", [delivery.call])
            else:
                yield HOLDS


def handed_out_once(story: Story) -> Judgements:
    """Each hand-out of an item after the first has a reason of its own.

    Either the lease before may have ended without an ack, or the item was added again, and that took effect after the
    hand-out before. One addition is a reason for one hand-out. A pop that nobody saw is none: what it took and put back
    has been handed to nobody else. Where claims drop the additions of leased items, one that a claim certainly dropped
    is none either.
    """
    if story.promises.interval is not None:
        return
    for item, deliveries in story.deliveries.items():
        additions = [one for one in story.additions.get(item, ()) if not _was_dropped(story, deliveries, one)]
        pool = _Reasons(story, additions)
        for group in _overlapping(deliveries):
            yield from pool.explain(group)


def _was_dropped(story: Story, deliveries: Sequence[Delivery], addition: Addition) -> bool:
    """Whether a claim certainly met an addition under a lease that was live when it was made, and dropped it."""
    call = addition.call
    if not story.promises.drops or call.outcome != "ok":
        return False
    held = max((story.holds_until(one) for one in deliveries if one.until <= call.invoked), default=-math.inf)
    met = (claim for claim in story.empty if over_by(call) <= claim.invoked and over_by(claim) < held)
    return any(not story.forgotten([claim]) for claim in met)


class _Reasons:
    """What is left to explain the next hand-out of one item."""

    def __init__(self, story: Story, additions: Sequence[Addition]) -> None:
        self._story = story
        #: By when each can have taken effect at the latest.
        self._additions = sorted((over_by(addition.call), addition.call.invoked) for addition in additions)
        self._back: Return | None = None
        self._last: Delivery | None = None
        #: The moment of the last hand-out, at the earliest.
        self._moment = -math.inf

    def explain(self, group: list[Delivery]) -> Judgements:
        """In any order that explains all: nobody knows in which they were made."""
        if 1 < len(group) < 5:
            group = list(min(permutations(group), key=self._unexplained))
        for delivery in group:
            before = self._last
            why = self._next(delivery)
            if before is None:
                yield HOLDS
            elif why is not None:
                yield Excuses(why)
            else:
                what = f"{delivery.row.item} was handed out twice, without a reason for the second time"
                yield Wrong(what, [*self._calls(before), delivery.call])

    def _calls(self, before: Delivery) -> list[Call]:
        return [before.call, *(end.call for end in self._story.ends_of(before, "ack", "bury"))]

    def _unexplained(self, order: Iterable[Delivery]) -> int:
        trial = copy(self)
        trial._additions = self._additions.copy()
        first = 1 if self._last is None else 0
        return sum(why is None for why in [trial._next(delivery) for delivery in order][first:])

    def _next(self, delivery: Delivery) -> str | None:
        """Why this one comes next; None when there is no reason."""
        why, since = self._pick(delivery)
        self._last, self._back = delivery, self._story.returns(delivery)
        self._moment = max(self._moment, delivery.since, since)
        return why

    def _pick(self, delivery: Delivery) -> tuple[str | None, float]:
        # First what is of no use to any other hand-out.
        if self._back and self._back.since < delivery.until:
            return self._back.why, self._back.since
        if self._last and self._story.forgotten(self._calls(self._last), by=delivery.until):
            return "forgotten by a failover", -math.inf
        del self._additions[: bisect_right(self._additions, (self._moment, math.inf))]
        for position, (_, began) in enumerate(self._additions):
            if began < delivery.until:
                del self._additions[position]
                return "it was added again", began
        return None, -math.inf


def _overlapping(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """Groups of which nobody knows in which order they were made; tokens tell."""
    if all(delivery.row.token is not None for delivery in deliveries):
        yield from ([delivery] for delivery in deliveries)
        return
    group: list[Delivery] = []
    for delivery in sorted(deliveries, key=lambda delivery: delivery.since):
        if group and delivery.since > max(other.until for other in group):
            yield group
            group = []
        group.append(delivery)
    if group:
        yield group


def one_lease_at_a_time(story: Story) -> Judgements:
    """While a lease is certainly live nobody else is handed the item and its holder is not told that it is lost; and
    when it has certainly run out it cannot be ended any more.

    A lease begins when its hand-out was invoked, at the earliest, and is live until something may have ended it.
    """
    for deliveries in story.deliveries.values():
        for delivery, later in pairwise(deliveries):
            told_by_tokens = None not in (delivery.row.token, later.row.token)
            if not delivery.lease or not (told_by_tokens or later.since > delivery.until):
                continue
            if later.until < story.holds_until(delivery):
                what = f"{later.row.item} was handed out while somebody held it"
                yield Wrong(what, [delivery.call, *_extensions(story, delivery), later.call])
            else:
                yield HOLDS
        for delivery in deliveries:
            if delivery.lease:
                yield from _ends_as_it_must(story, delivery)


def _extensions(story: Story, delivery: Delivery) -> list[Call]:
    return [end.call for end in story.ends_of(delivery, "extend")]


def _ends_as_it_must(story: Story, delivery: Delivery) -> Judgements:
    item, token = delivery.row.item, delivery.row.token or 0
    has_run_out = story.has_run_out(delivery)
    for end in story.ends.get((item, token), ()):
        call = end.call
        # What was asked before and never answered gets the same answer when it is asked again.
        before = [other.call for other in story.ends_of(delivery) if other.call.invoked < call.invoked]
        if end.lost and call.completed is not None and call.completed < story.holds_until(delivery):
            what = f"{call.name} of {item} was told that its lease is lost, while it was live"
            yield Wrong(what, [delivery.call, *_extensions(story, delivery), call])
        elif end.certain and call.invoked > has_run_out and not any(one.name == call.name for one in before):
            yield Wrong(f"{call.name} of {item} succeeded after its lease had run out", [delivery.call, call])
        else:
            yield HOLDS


def ended_once(story: Story) -> Judgements:
    """A lease ends once, whoever of those that know of it ends it first: all others are told that it is lost."""
    for deliveries in story.deliveries.values():
        for delivery in deliveries:
            ends = [end.call for end in story.ends_of(delivery, "ack", "nack", "again", "bury") if end.certain]
            if len(ends) > 1:
                yield Wrong(f"a lease of {delivery.row.item} was ended twice", [delivery.call, *ends])
            elif delivery.lease:
                yield HOLDS


def tokens_grow(story: Story) -> Judgements:
    """A hand-out that was invoked after another was completed has greater tokens, and no token is given twice. Over
    shards this holds for each item.
    """
    if story.promises.shards is not None:
        yield from _tokens_of_items_grow(story)
        return
    leased = [call for call in story.hand_outs if call.rows and call.rows[0].token is not None]
    completed = sorted(leased, key=lambda call: call.completed or 0)
    owners: dict[int | None, Call] = {}
    highest: tuple[int, Call] | None = None
    position = 0
    for call in leased:
        while (completed[position].completed or 0) < call.invoked:
            before = completed[position]
            top = max(row.token or 0 for row in before.rows)
            if highest is None or top > highest[0]:
                highest = top, before
            position += 1
        tokens = [row.token or 0 for row in call.rows]
        twice = next((token for token in tokens if token in owners), None)
        if twice is not None:
            yield Wrong(f"the token {twice} was given twice", [owners[twice], call])
        elif tokens != sorted(set(tokens)):
            yield Wrong("the tokens of one hand-out do not grow", [call])
        elif highest and tokens[0] <= highest[0]:
            yield Wrong(f"the token {tokens[0]} came after {highest[0]}", [highest[1], call])
        else:
            yield HOLDS
        owners |= dict.fromkeys(tokens, call)


def _tokens_of_items_grow(story: Story) -> Judgements:
    for item, deliveries in story.deliveries.items():
        leased = [delivery for delivery in deliveries if delivery.row.token is not None]
        for delivery, later in pairwise(sorted(leased, key=lambda delivery: delivery.since)):
            before, after = delivery.row.token or 0, later.row.token or 0
            if before == after:
                yield Wrong(f"the token {after} of {item} was given twice", [delivery.call, later.call])
            elif delivery.until < later.since and after < before:
                yield Wrong(f"the token {after} of {item} came after {before}", [delivery.call, later.call])
            else:
                yield HOLDS


def in_order(story: Story) -> Judgements:
    """The lowest score goes first, ties by the bytes of the item.

    Within a call rows are sorted. And what a call handed out comes before all that certainly waited from its invocation
    to its completion and was not handed out by it. An item certainly waits from the completion of its addition, if no
    lease of it can be live then, until the next that may have happened to it: a hand-out that nobody saw could have had
    a while, so after the first of these nothing is certain. Over shards, and with groups, only the scores within a call
    are in order, and not even these where groups take turns.
    """
    if story.promises.takes_turns:
        return
    over_shards = story.promises.shards is not None or story.promises.groups is not None
    for call in story.hand_outs:
        keys = _keys(story, call)
        if len(keys) == len(call.rows) > 1:
            places = [key[0] for key in keys] if over_shards else keys
            holds = places == sorted(places, reverse=call.name.endswith("_max"))
            yield HOLDS if holds else Wrong("the rows of one hand-out are not in order", [call])
    if story.promises.interval is None and not over_shards:
        yield from _passed_over(story)


def _keys(story: Story, call: Call) -> list[tuple[float, str]]:
    """By what the rows of a hand-out are ordered, as far as it is known."""
    scores = [_score_of(row.score, story.additions.get(row.item, ())) for row in call.rows]
    return [(score, row.item) for score, row in zip(scores, call.rows, strict=True) if score is not None]


class _Wait(NamedTuple):
    """An item that certainly waits for a while."""

    key: tuple[float, str]
    since: float
    until: float
    call: Call
    #: As which attempt it was handed out next, if that is known.
    attempt: int | None


def _passed_over(story: Story) -> Judgements:
    waits = sorted(_certain_waits(story, _doubts(story)), key=lambda wait: wait.since)
    waiting: list[_Wait] = []
    position = 0
    for call in sorted(story.hand_outs, key=lambda call: call.completed or math.inf):
        if not call.rows or call.completed is None:
            continue
        while position < len(waits) and waits[position].since < call.completed:
            insort(waiting, waits[position])
            position += 1
        keys = _keys(story, call)
        if not keys:
            continue
        if call.name.endswith("_max"):
            last = min(keys)
            sooner = slice(bisect_right(waiting, (last, math.inf)), None)
        else:
            last = max(keys)
            sooner = slice(bisect_left(waiting, (last,)))
        handed_out = {row.item for row in call.rows}
        before = [wait for wait in waiting[sooner] if wait.since < call.invoked and call.completed < wait.until]
        passed = next((wait for wait in before if wait.key[1] not in handed_out), None)
        if passed:
            what = f"{last[1]} was handed out before {passed.key[1]}, which waited before it"
            yield Wrong(what, [passed.call, call])
        else:
            yield HOLDS
        # What waits no more is forgotten when it is met.
        waiting[sooner] = [wait for wait in waiting[sooner] if wait.until > call.completed]


def _score_of(told: float | None, additions: Sequence[Addition]) -> float | None:
    """The score under which an item was handed out, or that it was given each time."""
    if told is not None:
        return told
    scores = {addition.score for addition in additions}
    return scores.pop() if len(scores) == 1 else None


def _certain_waits(story: Story, doubts: list[tuple[float, float]]) -> Iterator[_Wait]:
    ends_of_doubts = [ended for _, ended in doubts]
    for item, additions in story.additions.items():
        deliveries = story.deliveries.get(item, ())
        events: list[tuple[float, float, Addition | Delivery]] = [
            *((addition.call.invoked, over_by(addition.call), addition) for addition in additions),
            *((delivery.since, _held_until(story, delivery), delivery) for delivery in deliveries),
        ]
        events.sort(key=lambda event: event[0])
        added = [addition.call.invoked for addition in additions]
        quiet_from = -math.inf
        for (began, ended, event), following in zip_longest(events, events[1:]):
            certain = (
                isinstance(event, Addition)
                and event.call.name != "retry"
                and quiet_from < began
                and not _left_out(story, [one for one in deliveries if one.since < ended], event)
            )
            quiet_from = max(quiet_from, ended)
            next_one = following[2] if following else None
            if not certain or isinstance(next_one, Addition) or not (next_one or item in story.remaining):
                continue
            another = bisect_right(added, began)
            # Where another addition may have come before that hand-out, its score may be of the one or of the other.
            told = next_one and (another == len(added) or added[another] > next_one.until)
            score = _score_of(next_one.row.score if next_one and told else None, additions)
            doubt = bisect_right(ends_of_doubts, began)
            until = min(
                story.removed(item, began),
                following[0] if following else math.inf,
                doubts[doubt][0] if doubt < len(doubts) else math.inf,
            )
            if score is not None and ended < until:
                yield _Wait((score, item), ended, until, event.call, next_one.row.attempt if next_one else None)


def _held_until(story: Story, delivery: Delivery) -> float:
    """By when it is certain that nobody has it any more; inf for never."""
    if not delivery.lease:
        return delivery.until
    return min((over_by(end.call) for end in story.ends_of(delivery, "ack") if end.certain), default=math.inf)


def _doubts(story: Story, *, with_killed: bool = True) -> list[tuple[float, float]]:
    """When a hand-out that nobody saw, or a failover, may have had any item: spans that do not meet.

    :param with_killed: whether hand-outs count of which nothing can be put back, since their process was killed.
    """
    spans = list(story.failovers)
    # One that was repeated after its lease ran out was then handed others.
    spans += [
        (call.invoked, call.completed)
        for call in story.hand_outs
        if call.completed is not None
        and "lease" in call.given
        and story.clock.earliest(call.invoked, call.given["lease"]) <= call.completed
    ]
    for call in story.unseen:
        settled = story.settled_by(call)
        if with_killed or settled != math.inf:
            spans.append((call.invoked, story.had_by(call) if settled == math.inf else settled))
    doubts: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if doubts and began <= doubts[-1][1]:
            doubts[-1] = doubts[-1][0], max(doubts[-1][1], ended)
        else:
            doubts.append((began, ended))
    return doubts


def not_before_its_time(story: Story) -> Judgements:
    """On scheduled and periodic sets nothing is handed out before its score, by the server's clock."""
    if not story.promises.scheduled and story.promises.interval is None:
        return
    for item, deliveries in story.deliveries.items():
        given = [addition.score for addition in story.additions.get(item, ())]
        lowest = min((score for score in given if score is not None), default=None) if None not in given else None
        for delivery in deliveries:
            score = lowest if delivery.row.score is None else delivery.row.score
            now = story.clock.at(delivery.until)
            if score is None or now is None:
                continue
            if score > now + ROUNDING:
                yield Wrong(f"{item} was handed out {score - now:.3f} s before its time", [delivery.call])
            else:
                yield HOLDS


def remembered_once(story: Story) -> Judgements:
    """A done or dead item of a set that remembers is claimed again only after a forced addition, once for each.

    An item is done if it was acked or claimed for good.
    """
    if not story.promises.remembers:
        return
    for item, deliveries in story.deliveries.items():
        forced = sorted((over_by(one.call), one.call.invoked) for one in story.additions.get(item, ()) if one.forced)
        for delivery, later in pairwise(deliveries):
            # The first of several that were asked for may have been the one that counted.
            ends = [end.call for end in story.ends_of(delivery, "ack", "bury")]
            if delivery.lease and not story.was_ended(delivery, "ack", "bury"):
                yield HOLDS
                continue
            del forced[: bisect_left(forced, (min((end.invoked for end in ends), default=delivery.since),))]
            reason = next((one for one in forced if one[1] < later.until), None)
            if reason is None:
                yield Wrong(f"{item} was handed out again after it was done", [delivery.call, *ends, later.call])
            else:
                forced.remove(reason)
                yield Excuses("it was added by force")
        if len(deliveries) == 1:
            yield HOLDS


def fresh_values(story: Story) -> Judgements:
    """A hand-out that was invoked after a value had been given carries that value, or a newer one."""
    if not story.promises.keyed:
        return
    for item, deliveries in story.deliveries.items():
        known = [
            (over_by(addition.call), addition.version, addition.call)
            for addition in story.additions.get(item, ())
            if addition.call.outcome == "ok" and addition.version is not None
        ]
        known.sort(key=lambda addition: addition[:2])
        newest: tuple[int, Call] | None = None
        position = 0
        for delivery in sorted(deliveries, key=lambda delivery: delivery.since):
            while position < len(known) and known[position][0] < delivery.since:
                _, given, call = known[position]
                if newest is None or given > newest[0]:
                    newest = given, call
                position += 1
            carried = delivery.row.version
            if newest and carried is not None and carried < newest[0]:
                what = f"{item} was handed out with the value {carried}, after {newest[0]} had been given"
                yield Wrong(what, [newest[1], delivery.call])
            else:
                yield HOLDS


def attempts_count(story: Story) -> Judgements:
    """No attempt is beyond the last; and attempts count on by one for each hand-out, seen or not, until the item is
    done, dead or given back uncounted.
    """
    limit = story.promises.max_attempts
    for item, deliveries in story.deliveries.items():
        for delivery in deliveries:
            if limit is not None and (delivery.row.attempt or 0) > limit:
                yield Wrong(f"{item} was handed out for the {delivery.row.attempt}th of {limit} times", [delivery.call])
        yield from _first_attempt(story, item, deliveries[0])
        for delivery, later in pairwise(deliveries):
            before, after = delivery.row.attempt, later.row.attempt
            if before is None or after is None:
                continue
            count_on = after <= before + 1 + _unseen_leases(story, delivery.since, later.until)
            if count_on and (after > before or _may_count_less(story, delivery, later)):
                yield HOLDS
            else:
                what = f"the attempts of {item} went from {before} to {after}"
                yield Wrong(what, [delivery.call, later.call])


def _first_attempt(story: Story, item: str, first: Delivery) -> Judgements:
    added = [addition.call for addition in story.additions.get(item, ())]
    if first.row.attempt is None or not added:
        return
    if first.row.attempt <= 1 + _unseen_leases(story, added[0].invoked, first.until):
        yield HOLDS
    else:
        yield Wrong(f"the attempts of {item} began with {first.row.attempt}", [added[0], first.call])


def _unseen_leases(story: Story, since: float, until: float) -> int:
    """How many hand-outs that nobody saw may have leased an item in between."""
    return sum(
        call.name not in FOR_GOOD and call.invoked < until and story.had_by(call) > since for call in story.unseen
    )


def _may_count_less(story: Story, delivery: Delivery, later: Delivery) -> bool:
    before, after = delivery.row.attempt or 0, later.row.attempt or 0
    # Being taken for good ends them too, be it seen or not.
    if story.promises.taken_for_good or any(story.ends_of(delivery, "ack", "bury")):
        return True
    if story.removed(delivery.row.item, delivery.since) < later.until:
        return True
    # What was given back does not count, neither then nor when it was put back because nobody had seen it.
    if after == before and any(story.ends_of(delivery, "again")):
        return True
    if story.promises.max_attempts is None:
        return False
    # It died, perhaps after attempts that nobody saw, and was added again.
    return any(
        addition.call.invoked < later.until and over_by(addition.call) > delivery.since
        for addition in story.additions.get(delivery.row.item, ())
    )


def ticks_once(story: Story) -> Judgements:
    """On periodic sets each tick is acked once at most, and handed out again only after its lease ended; ticks of an
    item are whole intervals apart, unless one was set anew. Where they are taken for good, there are not more than a
    time has ticks.
    """
    interval = story.promises.interval
    if interval is None:
        return
    for item, deliveries in story.deliveries.items():
        leased = [delivery for delivery in deliveries if delivery.lease]
        for delivery, later in pairwise(leased):
            yield _tick_after(story, interval, delivery, later)
        yield from _not_too_many(story, interval, item, [delivery for delivery in deliveries if not delivery.lease])


def _tick_after(
    story: Story, interval: float, delivery: Delivery, later: Delivery
) -> Wrong | Excuses | Literal["holds"]:
    if any(_replans(story, delivery.row.item, delivery.since, later.until)):
        return Excuses("it was set anew")
    acks = [end.call for end in story.ends_of(delivery, "ack") if end.certain]
    apart = ((later.row.score or 0) - (delivery.row.score or 0)) / interval
    back, what = story.returns(delivery), ""
    if abs(apart - round(apart)) * interval > ROUNDING:
        what = f"came {apart:.4f} intervals after the one before"
    elif round(apart) < 0:
        what = "came after a later one"
    elif round(apart) > 0:
        if not any(story.ends_of(delivery, "ack")) and not _may_have_gone(story, delivery, later):
            what = "came although the one before was never acked"
    elif acks:
        what = "was handed out again after it was acked"
    elif back is None or back.since >= later.until:
        what = "was handed out again while somebody held it"
    if what:
        return Wrong(f"a tick of {delivery.row.item} {what}", [delivery.call, *acks, later.call])
    return Excuses(back.why) if back and round(apart) == 0 else HOLDS


def _replans(story: Story, item: str, since: float, until: float) -> Iterator[Call]:
    """The calls that may have set the next tick of an item in between."""
    calls = story.replans.get(item, ())
    return (call for call in calls if call.invoked < until and story.gone_by(call) > since)


def ticks_set_anew(story: Story) -> Judgements:
    """The next hand-out after a `reschedule` is of that tick, and after a `trigger` of one that is due by then; also of
    an item that was leased meanwhile. If there may have been several, it is of one of these.
    """
    for item, replans in story.replans.items():
        deliveries = story.deliveries.get(item, ())
        for call in (call for call in replans if call.outcome == "ok"):
            done = over_by(call)
            position = next((at for at, one in enumerate(deliveries) if one.since > done), len(deliveries))
            # Those at the same time may have come before it or after.
            next_ones = [one for one in deliveries[: position + 1] if one.until >= call.invoked]
            if position == len(deliveries):
                continue
            ticks = [one.row.score or 0 for one in next_ones]
            setters = _replans(story, item, call.invoked, next_ones[-1].until)
            if any(_is_set_by(story, setter, tick) for setter in setters for tick in ticks):
                yield HOLDS
            else:
                what = f"{item} did not come at the tick that was set"
                yield Wrong(what, [call, *(one.call for one in next_ones)])


def _is_set_by(story: Story, call: Call, tick: float) -> bool:
    """Whether this may be the tick that a call set."""
    when = call.given.get("when")
    if when is not None:
        return bool(abs(tick - when) <= ROUNDING)
    now = story.clock.at(over_by(call))
    return now is None or tick <= now + ROUNDING


def _may_have_gone(story: Story, delivery: Delivery, later: Delivery) -> bool:
    """Whether its item may have been taken for good in between, be it seen or not, or removed and added again."""
    item, since, until = delivery.row.item, delivery.since, later.until
    taken = (other.call for other in story.deliveries[item] if not other.lease)
    unseen = (call for call in story.unseen if call.name in FOR_GOOD)
    return (
        any(call.invoked < until and over_by(call) > since for call in taken)
        or any(call.invoked < until and story.had_by(call) > since for call in unseen)
        or story.removed(item, since) < until
    )


def _not_too_many(story: Story, interval: float, item: str, taken: Sequence[Delivery]) -> Judgements:
    """Some seconds touch as many ticks as there are intervals in them, one more at their end, and one for each time
    that the clock is moved. So of two hand-outs, the later is not too early by the number of those in between.
    """
    clock, latest, first = story.clock, -math.inf, 0
    # When any of those from here on can have been handed out at the earliest: they stand as they were completed.
    begun = [*accumulate((delivery.since for delivery in reversed(taken)), min)][::-1]
    for position, delivery in enumerate(taken):
        allowed = delivery.until + (clock.moves_begun(delivery.until) - (position - 1)) * interval
        if latest > allowed + ROUNDING:
            calls = [each.call for each in taken[first : position + 1]]
            yield Wrong(f"{item} was handed out more often than it has ticks", calls)
        else:
            yield HOLDS
        own = begun[position] + (clock.moves_over(begun[position]) - position) * interval
        if own > latest:
            latest, first = own, position


def new_once(story: Story) -> Judgements:
    """In a set of what was seen, an item is new to one call within its lifetime, and never to none."""
    ttl = story.promises.ttl
    if ttl is None:
        return
    seen: dict[str, list[Call]] = defaultdict(list)
    for call in story.calls:
        if call.name in ADDITIONS and call.outcome != "refused":
            for item in set(call.items):
                seen[item].append(call)
    for item, calls in seen.items():
        answered = [call for call in calls if call.outcome == "ok"]
        new = [call for call in answered if any(row.item == item for row in call.rows)]
        if len(new) == 1:
            yield HOLDS
        for call, later in pairwise(new):
            if (
                over_by(later) < story.clock.earliest(call.invoked, ttl)
                and story.removed(item, call.invoked) == math.inf
            ):
                yield Wrong(f"{item} was new to two calls within its lifetime", [call, later])
            else:
                yield HOLDS
        first_over = min(map(over_by, calls))
        first = [call for call in calls if call.invoked < first_over]
        if first and all(call in answered and call not in new for call in first):
            yield Wrong(f"{item} was not new to the first that gave it", first)


def not_while_paused(story: Story) -> Judgements:
    """Nothing is claimed while the set is certainly paused."""
    for period in story.periods("pause", "resume"):
        if period.call.name == "resume":
            continue
        for call in filter(period.has, story.hand_outs):
            if call.rows:
                yield Wrong(f"{call.rows[0].item} was handed out during a pause", [period.call, call])
            else:
                yield HOLDS


def rate_holds(story: Story) -> Judgements:
    """In no window of t seconds by the server's clock, of which the tokens tell, are there more claims than the burst
    and rate / per * t.
    """
    parts = story.promises.shards or 1
    leased = [call for call in story.hand_outs if call.rows and call.rows[0].token is not None]
    for period in story.periods("limit"):
        if period.call.given.get("rate") is None:
            continue
        rate, burst = (period.call.given[what] / parts for what in ("rate", "burst"))
        for claims in _by_shard(story, filter(period.has, leased)).values():
            yield from _not_too_soon(period, claims, rate / period.call.given["per"], burst)


def _not_too_soon(period: Period, claims: list[Call], rate: float, burst: float) -> Judgements:
    # A call may claim from a shard more than once.
    rows = sorted(((row.token or 0, row.item, claim) for claim in claims for row in claim.rows), key=itemgetter(0))
    lowest, first = math.inf, 0
    for count, (token, item, _) in enumerate(rows):
        leaked = rate * token / 1e6
        # That of all windows which end here and hold most beyond the rate begins where this was lowest.
        if count - leaked < lowest:
            lowest, first = count - leaked, count
        if count + 1 - leaked - lowest > burst + ROUNDING:
            within = {id(claim): claim for _, _, claim in rows[first : count + 1]}
            yield Wrong(f"{item} was handed out sooner than the rate allows", [period.call, *within.values()])
        else:
            yield HOLDS


def leases_hold(story: Story) -> Judgements:
    """No claim makes more leases live than there may be at once; over shards in each of them, of their part."""
    periods = [period for period in story.periods("limit") if period.call.given.get("leases") is not None]
    of_shards: dict[int | None, list[Delivery]] = defaultdict(list)
    for item, deliveries in story.deliveries.items() if periods else ():
        of_shards[story.promises.shard_of(item)] += [one for one in deliveries if one.row.token is not None]
    for deliveries in of_shards.values():
        for delivery, held in _with_live_leases(story, sorted(deliveries, key=_moment_of)):
            period = next((period for period in periods if period.has(delivery.call)), None)
            if period is None:
                continue
            if len(held) + 1 > period.call.given["leases"] // (story.promises.shards or 1):
                what = f"{len(held) + 1} leases were live at once, with {delivery.row.item}"
                yield Wrong(what, [period.call, *held, delivery.call])
            else:
                yield HOLDS


def _with_live_leases(story: Story, deliveries: Iterable[Delivery]) -> Iterator[tuple[Delivery, list[Call]]]:
    """With the claims of the leases that certainly were live when it was claimed. Tokens tell the order."""
    live: list[tuple[float, Call]] = []
    for delivery in deliveries:
        call = delivery.call
        # Later tokens were given later, so what ended before this claim ended before those that follow, too.
        live = [one for one in live if one[0] > call.invoked]
        yield delivery, [other for until, other in live if until > over_by(call)]
        live.append((story.holds_until(delivery), call))


def _by_shard(story: Story, calls: Iterable[Call]) -> dict[int | None, list[Call]]:
    """The claims from each shard: with the rows of that shard only."""
    found: dict[int | None, list[Call]] = defaultdict(list)
    for call in calls:
        rows: dict[int | None, list[Row]] = defaultdict(list)
        for row in call.rows:
            rows[story.promises.shard_of(row.item)].append(row)
        for shard, of_shard in rows.items():
            found[shard].append(replace(call, rows=of_shard))
    return found


class _Allowed(NamedTuple):
    """The limits that a group certainly has for a time."""

    #: The call that has set them; none where they are those of all groups.
    calls: tuple[Call, ...]
    since: float
    until: float
    leases: int
    pause: float


def _allowed(story: Story, group: str) -> list[_Allowed]:
    promises = story.promises
    began = (call.invoked for call in story.calls if call.name == "limit_group" and group in call.items)
    found = [_Allowed((), -math.inf, min(began, default=math.inf), promises.leases_of_group, promises.pause_of_group)]
    for period in story.periods("limit_group", group=group):
        leases, pause = map(period.call.given.get, ("leases", "pause"))
        found.append(
            _Allowed(
                (period.call,),
                period.since,
                period.until,
                promises.leases_of_group if leases is None else leases,
                promises.pause_of_group if pause is None else pause,
            )
        )
    return found


def groups_hold(story: Story) -> Judgements:
    """No claim makes more leases of a group live than it may have at once."""
    if not story.promises.leases_of_group:
        return
    for group, deliveries in _by_group(story):
        claimed = zip(_with_live_leases(story, deliveries), _with_limits(story, group, deliveries), strict=True)
        for (delivery, held), (_, allowed) in claimed:
            if allowed is None:
                continue
            if len(held) + 1 > allowed.leases:
                what = f"{len(held) + 1} leases of a group were live at once, with {delivery.row.item}"
                yield Wrong(what, [*allowed.calls, *held, delivery.call])
            else:
                yield HOLDS


def groups_rest(story: Story) -> Judgements:
    """Between two claims of a group its pause passes, by the server's clock, of which the tokens tell; and nothing of
    it is claimed while it rests because a holder of one of its items asked for that.
    """
    if not story.promises.pause_of_group:
        return
    for group, deliveries in _by_group(story):
        for (delivery, allowed), later in zip(_with_limits(story, group, deliveries), deliveries[1:], strict=False):
            if allowed is None:
                continue
            if _moment_of(later) - _moment_of(delivery) < allowed.pause - ROUNDING:
                what = f"{later.row.item} was handed out before the pause of its group was over"
                yield Wrong(what, [*allowed.calls, delivery.call, later.call])
            else:
                yield HOLDS
        for period in (period for delivery in deliveries for period in story.rests(delivery)):
            early = next((each.call for each in deliveries if period.has(each.call)), None)
            yield HOLDS if early is None else Wrong(f"group {group} was claimed from at rest", [period.call, early])


def groups_pause(story: Story) -> Judgements:
    """Nothing of a group is claimed while it is certainly paused, which by the server's clock may end by itself."""
    for group in sorted({name for call in story.calls if call.name == "pause_group" for name in call.items}):
        for period in story.periods("pause_group", "resume_group", group=group):
            if period.call.name == "resume_group":
                continue
            ends = period.call.given["ends"] or math.inf
            for call in filter(period.has, story.hand_outs):
                rows = [row for row in call.rows if story.promises.group_of(row.item) == group]
                if any((row.token or 0) / 1e6 < ends - ROUNDING for row in rows):
                    yield Wrong(f"{rows[0].item} was handed out during a pause of its group", [period.call, call])
                else:
                    yield HOLDS


def _with_limits(
    story: Story, group: str, deliveries: Sequence[Delivery]
) -> Iterator[tuple[Delivery, _Allowed | None]]:
    """With what its group was certainly allowed when it was claimed; None where nobody knows."""
    limits = _allowed(story, group)
    for delivery in deliveries:
        call = delivery.call
        certain = (one for one in limits if one.since <= call.invoked and over_by(call) <= one.until)
        yield delivery, next(certain, None)


def _by_group(story: Story) -> Iterator[tuple[str, list[Delivery]]]:
    """The deliveries under a lease of each group, in their order."""
    if story.promises.groups is None:
        return
    found: dict[str, list[Delivery]] = defaultdict(list)
    for item, deliveries in story.deliveries.items():
        found[story.promises.group_of(item)] += [one for one in deliveries if one.row.token is not None]
    for group, deliveries in found.items():
        yield group, sorted(deliveries, key=_moment_of)


def _moment_of(delivery: Delivery) -> float:
    """When it was claimed by the server's clock: tokens are its microseconds."""
    return (delivery.row.token or 0) / 1e6


def no_group_starves(story: Story) -> Judgements:
    """Where groups take turns, a group with an item that certainly waits is claimed from once in as many claims as
    there are groups; over shards, in so many claims from its shard as there are groups in that.

    An item that a killed process had claimed comes back with its second attempt. So an item that comes with its first
    was not claimed by that process. Another item of its group may have been, and that counts as a turn.
    """
    if not story.promises.takes_turns:
        return
    claims = _by_shard(story, story.hand_outs)
    began = {shard: [call.invoked for call in calls] for shard, calls in claims.items()}
    own: dict[str, list[Call]] = defaultdict(list)
    for call in story.hand_outs:
        for group in {story.promises.group_of(row.item) for row in call.rows}:
            own[group].append(call)
    killed = [(call.invoked, story.had_by(call)) for call in story.unseen if story.settled_by(call) == math.inf]
    for wait in _certain_waits(story, _doubts(story, with_killed=False)):
        unseen = [span for span in killed if span[0] < wait.until and wait.since < span[1]]
        if unseen and wait.attempt != 1:
            continue
        for since, until in _without(own[story.promises.group_of(wait.key[1])], wait):
            shard = story.promises.shard_of(wait.key[1])
            start, end = (bisect_left(began.get(shard, ()), moment) for moment in (since, until))
            within = claims.get(shard, [])[start:end]
            others = [call for call in within if over_by(call) <= until]
            turns = sum(span[0] < until and since < span[1] for span in unseen)
            if sum(len(call.rows) for call in others) > (turns + 1) * story.promises.rivals_of(wait.key[1]):
                yield Wrong(f"the group of {wait.key[1]} had no turn while others had several", [wait.call, *others])
            else:
                yield HOLDS


def _without(calls: list[Call], wait: _Wait) -> Iterator[tuple[float, float]]:
    """The spans of a wait in which none of these calls can have taken effect."""
    since = wait.since
    for call in calls:
        if call.invoked >= wait.until:
            break
        if over_by(call) > since:
            if call.invoked > since:
                yield since, call.invoked
            since = over_by(call)
    if since < wait.until:
        yield since, wait.until


def maxsize_holds(story: Story) -> Judgements:
    """No addition of a new item takes a set beyond its size, where nobody takes for good and nothing is added twice; or
    a shard beyond its part.
    """
    periods = [period for period in story.periods("limit") if period.call.given.get("maxsize") is not None]
    if story.promises.taken_for_good or not periods:
        return
    # Of each item its addition, and until when it is certainly there.
    there: list[tuple[Call, float, int | None]] = []
    for item, additions in story.additions.items():
        finished = [
            end.call.invoked
            for delivery in story.deliveries.get(item, ())
            for end in story.ends_of(delivery, "ack", "bury")
        ]
        call = additions[0].call
        until = min(story.removed(item, call.invoked), *finished, math.inf)
        there.append((call, until, story.promises.shard_of(item)))
    for period in periods:
        near = [one for one in there if one[0].invoked < period.until and one[1] > period.since]
        for call, _, shard in near:
            if not period.has(call):
                continue
            others = [
                other
                for other, until, where in near
                if where == shard and over_by(other) < call.invoked and until > over_by(call)
            ]
            if len(others) + 1 > period.call.given["maxsize"] // (story.promises.shards or 1):
                what = f"{call.items[0]} was added to {len(others)} others"
                yield Wrong(what, [period.call, *others, call])
            else:
                yield HOLDS


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        nothing_lost,
        nothing_stuck,
        added_together,
        totals_add_up,
        nothing_invented,
        handed_out_once,
        one_lease_at_a_time,
        ended_once,
        tokens_grow,
        in_order,
        not_before_its_time,
        remembered_once,
        fresh_values,
        attempts_count,
        ticks_once,
        ticks_set_anew,
        new_once,
        not_while_paused,
        rate_holds,
        leases_hold,
        maxsize_holds,
        groups_hold,
        groups_rest,
        groups_pause,
        no_group_starves,
    )
}
