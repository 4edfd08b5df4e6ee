"""What producers and consumers do with each kind of set, and what is promised of it there."""

import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import redset
from chaos.hands import Hand, WrittenLoop, called, row_of, rows_of
from chaos.history import Row
from chaos.promises import NUMBERS, Promises

__all__ = ("ALL_PROMISES", "ALL_WORKLOADS", "PROMISES", "SHARDS", "Role", "Workload")

#: Goes on for as long as its hand says.
Role: TypeAlias = Callable[[Hand], Coroutine[Any, Any, None]]

#: Seconds: the shortest lease is outlived now and then, and by everybody who is stopped.
LEASE = 1.0
#: Seconds between two rounds of a thread or task, on average.
PACE = 0.3
#: The limits of a limited set: lower than what its consumers claim and its producers add without limits.
LIMITS: tuple[dict[str, Any], ...] = (
    {"rate": 20, "per": 1.0, "burst": 5, "leases": 3, "maxsize": 30},
    {"rate": 30, "per": 2.0, "burst": 3, "leases": 6, "maxsize": 10},
    {"leases": 2, "maxsize": 20},
)
#: Each shard has an equal part of them.
LIMITS_OVER_SHARDS: tuple[dict[str, Any], ...] = (
    {"rate": 24, "per": 1.0, "burst": 6, "leases": 12, "maxsize": 60},
    {"rate": 36, "per": 2.0, "burst": 6, "leases": 6, "maxsize": 30},
    {"leases": 6, "maxsize": 36},
)
#: Less than what consumers claim without limits.
POLITE = Promises(groups=5, leases_of_group=4, pause_of_group=0.03)
#: The groups that are given limits of their own, which are lower or higher than those of all groups.
STEERED = ("1", "2", "4")
LIMITS_OF_GROUPS: tuple[dict[str, Any], ...] = (
    {"leases": 1},
    {"leases": 2, "pause": 0.2},
    {"leases": 8, "pause": 0.01},
)
#: Without limits, so that a group is ready for as long as one of its items waits.
FAIR = Promises(groups=10, takes_turns=True)
#: Longer than any run, also by a clock that is set forward.
FOR_GOOD = 6 * 3600.0


@dataclass(frozen=True)
class Workload:
    """One set, and all who use it."""

    set: str
    promises: Promises
    #: Makes it: of the module of a face, and on a client.
    make: Callable[[Any, Any], Any]
    roles: tuple[Role, ...]


# Producers


async def add_new_items(hand: Hand) -> None:
    """Items that nobody else adds, oldest first."""
    number = 0
    while await hand.produces(PACE):
        number += 1
        item = f"{hand.mark}:{number:06}"
        await hand.do("add", hand.set.add, item, items=[item], score=time.monotonic())


async def add_several_new_items(hand: Hand) -> None:
    number = 0
    while await hand.produces(4 * PACE):
        number += 10
        items = [f"{hand.mark}:{number + each:06}" for each in range(10)]
        await hand.do("update", hand.set.update, items, items=items, score=time.monotonic())


async def add_few_keys(hand: Hand) -> None:
    """The same items as everybody, again and again; after some seconds others, since only a lost last one shows."""
    while await hand.produces(PACE):
        item = f"key:{int(time.monotonic() / 3)}.{hand.random.randrange(5)}"
        await hand.do("add", hand.set.add, item, items=[item])


async def add_pages(hand: Hand) -> None:
    """What many find at about the same time, and often."""
    while await hand.produces(PACE):
        page = found_now(hand, "page")
        await hand.do("add", hand.set.add, page, items=[page], score=0)


async def add_pages_for_long(hand: Hand) -> None:
    """Each page is found before a reshard and after it."""
    while await hand.produces(PACE):
        page = found_now(hand, "page", 100)
        await hand.do("add", hand.set.add, page, items=[page], score=0)


async def add_pages_from_elsewhere(hand: Hand) -> None:
    """As programs without redset do."""
    while await hand.produces(3 * PACE):
        page = found_now(hand, "page")
        await hand.do("zadd", hand.client.zadd, hand.set.name, {page: 0}, items=[page], given={"score": 0})


async def force_pages(hand: Hand) -> None:
    """Pages that many processes find, by force: also those that are done or dead."""
    while await hand.produces(PACE):
        page = found_now(hand, "page")
        await hand.do("add", hand.set.add, page, items=[page], score=0, force=True)


async def add_in_transactions(hand: Hand) -> None:
    """Two items in a transaction of one's own; one in a pipeline of a cluster, whose clients have no transactions."""
    of_a_cluster = hasattr(hand.client, "get_nodes")

    async def add(items: list[str], score: float) -> None:
        pipeline = hand.client.pipeline(transaction=not of_a_cluster)
        for item in items:
            await called(hand.set.add_to, pipeline, item, score=score)
        await called(pipeline.execute)

    number = 0
    while await hand.produces(PACE):
        number += 1
        items = [f"{hand.mark}:together:{number:06}{half}" for half in ("a" if of_a_cluster else "ab")]
        await hand.do("add_to", add, items, items=items, score=time.monotonic())


async def add_new_items_from_elsewhere(hand: Hand) -> None:
    number = 0
    while await hand.produces(3 * PACE):
        number += 1
        item = f"{hand.mark}:elsewhere:{number:06}"
        score = time.monotonic()
        await hand.do("zadd", hand.client.zadd, hand.set.name, {item: score}, items=[item], given={"score": score})


async def flood(hand: Hand) -> None:
    """Items of one group, more than are claimed, with lower scores than all others."""
    number = 0
    while await hand.produces(2 * PACE):
        items = [f"{hand.mark}:{number + each:06}0" for each in range(10)]
        number += 10
        await hand.do("update", hand.set.update, items, items=items, score=0)


async def add_versions(hand: Hand) -> None:
    """Rows of one's own, each time in a newer version."""
    # Who comes back after a crash goes on with its rows.
    mark, _, incarnation = hand.mark.rpartition(".")
    version = int(incarnation) * 1_000_000
    while await hand.produces(PACE):
        version += 1
        identity = f"{mark}:{hand.random.randrange(3)}"
        row = {"id": identity, "version": version}
        await hand.do("add", hand.set.add, row, items=[identity], given={"version": version}, score=0)


async def add_for_later(hand: Hand) -> None:
    number = 0
    while await hand.produces(PACE):
        number += 1
        if (now := await hand.server_time()) is not None:
            item = f"{hand.mark}:{number:06}"
            await hand.do("add", hand.set.add, item, items=[item], score=now + hand.random.uniform(0, 2))


async def add_feeds(hand: Hand) -> None:
    """All feeds at first, and now and then one of them again."""
    feeds = [f"feed:{number}" for number in range(10)]
    while await hand.produces(2 * PACE):
        feed = feeds.pop() if feeds else f"feed:{hand.random.randrange(10)}"
        await hand.do("add", hand.set.add, feed, items=[feed], rows=if_new(feed))


async def replan_feeds(hand: Hand) -> None:
    """One of them is due at another time, or now, whether or not it is leased."""

    async def replan(method: Callable[..., Any], feed: str, **when: Any) -> bool:
        """Whether it was there: at first, nobody may have added it."""
        try:
            await called(method, feed, **when)
        except KeyError:
            return False
        return True

    while await hand.produces(3 * PACE):
        feed = f"feed:{hand.random.randrange(10)}"
        if hand.random.randrange(2):
            await hand.do("trigger", partial(replan, hand.set.trigger), feed, items=[feed], done=bool)
        elif (now := await hand.server_time()) is not None:
            method, when = partial(replan, hand.set.reschedule), now + hand.random.uniform(-1, 2)
            await hand.do("reschedule", method, feed, items=[feed], done=bool, when=when)


async def add_seen(hand: Hand) -> None:
    while await hand.produces(PACE):
        item = found_now(hand, "event", 4)
        await hand.do("add", hand.set.add, item, items=[item], rows=if_new(item))


async def add_many_seen(hand: Hand) -> None:
    while await hand.produces(2 * PACE):
        items = sorted({found_now(hand, "event", 10) for _ in range(5)})
        await hand.do("add_new", hand.set.add_new, items, items=items, rows=lambda new: [*map(row_of, new)])


# Limits


def steered_by(choices: Sequence[dict[str, Any]]) -> Role:
    async def steer(hand: Hand) -> None:
        """Change the limits, pause and resume."""
        if not steers(hand):
            return
        while await hand.produces(1.0):
            await hand.do("limit", hand.set.limit, **hand.random.choice(choices))
            await hand.pause(hand.random.uniform(0.5, 1.5))
            await hand.do("pause", hand.set.pause)
            await hand.pause(hand.random.uniform(0.2, 0.6))
            await hand.do("resume", hand.set.resume)
        # The drain claims all items that are left.
        await insist(hand, "resume", hand.set.resume)
        await insist(hand, "limit", hand.set.limit)

    return steer


async def limit_groups(hand: Hand) -> None:
    """The same with the limits of single groups."""
    while steers(hand) and await hand.produces(1.0):
        name = hand.random.choice(STEERED)
        limits = hand.random.choice(LIMITS_OF_GROUPS)
        await hand.do("limit_group", hand.set.group(name).limit, items=[name], **limits)
    for name in STEERED if steers(hand) else ():
        await insist(hand, "limit_group", hand.set.group(name).limit, items=[name])


async def pause_groups(hand: Hand) -> None:
    """And with single groups that are paused. Some of these pauses end by themselves."""
    while steers(hand) and await hand.produces(0.3):
        name, seconds = hand.random.choice(STEERED), hand.random.uniform(0.5, 1.5)
        group, now = hand.set.group(name), await hand.server_time()
        ends = now and hand.random.choice((None, now + seconds))
        await hand.do("pause_group", group.pause, ends, items=[name], given={"ends": ends})
        await hand.pause(seconds)
        if ends is None:
            await hand.do("resume_group", group.resume, items=[name])
    for name in STEERED if steers(hand) else ():
        await insist(hand, "resume_group", hand.set.group(name).resume, items=[name])


async def insist(hand: Hand, name: str, method: Callable[..., Any], **how: Any) -> None:
    """Make a call until it succeeds."""
    while (await hand.do(name, method, **how)).outcome != "ok":
        pass


def steers(hand: Hand) -> bool:
    """Whether it is the worker that sets limits: only one does, so that it is known which of them hold."""
    return hand.process.startswith("sync-1/")


def if_new(item: str) -> Callable[[bool], list[Row]]:
    return lambda new: [Row(item)] if new else []


def found_now(hand: Hand, what: str, few: int = 20) -> str:
    """One of few that all processes come across for some seconds, by a clock that is the same for all of them."""
    return f"{what}:{int(time.monotonic() * 5) + hand.random.randrange(few)}"


# Consumers


async def pop(hand: Hand) -> None:
    while await hand.consumes(PACE):
        wait = hand.random.choice((0, 0.3))
        await hand.do("pop", hand.set.pop, rows=lambda item: [row_of(item)], wait=wait)


async def pop_last(hand: Hand) -> None:
    while await hand.consumes(4 * PACE):
        await hand.do("pop_max", hand.set.pop_max, rows=lambda item: [row_of(item)])


async def take(hand: Hand) -> None:
    """Less than is added, so that there is something to take for all who try."""
    while await hand.consumes(PACE):
        number = 20 if hand.is_draining() else hand.random.randrange(1, 4)
        await hand.do("take", hand.set.take, number, rows=lambda items: [*map(row_of, items)], given={"number": number})


async def reserve(hand: Hand) -> None:
    """One at a time: done at last, and at times failed, given back, or kept longer than it may be."""
    while await hand.consumes(PACE):
        for _ in range(3):
            reservation = await reserve_one(hand)
            if reservation is None:
                break
            await work(hand)
            if hand.happens(10):
                await hand.end(reservation, "extend", lease=hand.random.choice((0.5, 2.0)))
                await work(hand)
            await end_somehow(hand, reservation)


async def reserve_and_add_again(hand: Hand) -> None:
    """The item is added once more while it is worked on, and by nobody after that."""
    while await hand.consumes(PACE):
        reservation = await reserve_one(hand)
        if reservation is not None:
            if hand.happens(3):
                item = reservation.item
                await hand.do("add", hand.set.add, item, items=[item], score=time.monotonic())
            await work(hand)
            await hand.end(reservation, "ack")


async def reserve_many(hand: Hand) -> None:
    """Several at once, which are done at once."""
    while await hand.consumes(PACE):
        number = 30 if hand.is_draining() else hand.random.randrange(1, 10)
        answer = await hand.do(
            "reserve", hand.set.reserve_many, number, rows=rows_of, given={"number": number}, lease=2 * LEASE
        )
        if answer.value:
            await work(hand)
            verb = "again" if hand.happens(10) else "ack"
            await hand.end_many(answer.value, verb)


async def reserve_and_rest(hand: Hand) -> None:
    """Now and then its work tells it to come back later: the whole group rests."""
    while await hand.consumes(PACE):
        reservation = await reserve_one(hand)
        if reservation is None:
            continue
        await work(hand)
        if hand.happens(3):
            await hand.end(reservation, "again", delay=hand.random.choice((0.2, 0.8)), group=True)
        else:
            await hand.end(reservation, "ack")


async def fail(hand: Hand) -> None:
    """Work that often fails, and sometimes for good."""
    while await hand.consumes(PACE):
        for _ in range(4):
            reservation = await reserve_one(hand)
            if reservation is None:
                break
            await work(hand)
            if hand.happens(15):
                await hand.end(reservation, "bury")
            elif hand.happens(3):
                await hand.end(reservation, "nack", delay=hand.random.choice((0, 0.3)))
            else:
                await hand.end(reservation, "ack")


async def revive(hand: Hand) -> None:
    """Has what died wait again."""
    while await hand.produces(2 * PACE):
        if letters := await hand.look(hand.set.dead_letters.slice, 0, 5):
            item = hand.random.choice(letters).item
            await hand.do("retry", hand.set.dead_letters.retry, item, items=[item], done=bool)


async def consume(hand: Hand) -> None:
    """Loops that end when nothing comes for a while, and are begun again; and loops that outlive every outage."""
    while await hand.consumes(PACE):
        batch, wait = hand.random.choice((1, 5)), hand.random.choice((0.3, None))
        loop = WrittenLoop(
            hand, hand.set.consume(lease=LEASE, batch=batch, wait=wait, stop=hand.is_over), lease=LEASE, number=batch
        )
        while (reservation := await loop.next()) is not None:
            await work(hand)
            if not (hand.happens(20) and await hand.end(reservation, "nack", delay=0)):
                loop.is_done(reservation)


async def hold(hand: Hand) -> None:
    """One at a time, for as long as the lease allows; longer when that was extended, and at times too long.

    Not while the sets are drained, where others may wait for that lease to end.
    """
    while await hand.consumes(PACE):
        reservation = await reserve_one(hand)
        if reservation is None:
            continue
        if not hand.is_draining():
            await hand.pause(hand.random.uniform(0.3, 1.2) * LEASE)
        if hand.happens(2):
            await hand.end(reservation, "extend", lease=LEASE)
            await hand.pause(hand.random.uniform(0.3, 0.9) * LEASE)
        await hand.end(reservation, "ack")


async def hand_on(hand: Hand) -> None:
    """One at a time, which another process is to end; at times who claimed it ends it, too."""
    while await hand.consumes(PACE):
        reservation = await reserve_one(hand)
        if reservation is not None:
            hand.post.send(reservation.receipt)
            if hand.happens(3):
                await hand.end(reservation, "ack")


async def end_by_receipt(hand: Hand) -> None:
    """Leases that other processes have claimed."""
    while await hand.consumes(PACE):
        while (receipt := hand.post.take()) is not None:
            await end_somehow(hand, await called(hand.set.reservation, receipt))


async def reserve_one(hand: Hand) -> Any:
    wait = hand.random.choice((0, 0.2))
    answer = await hand.do("reserve", hand.set.reserve, rows=rows_of_one, lease=LEASE, wait=wait)
    return answer.value


def rows_of_one(reservation: Any) -> list[Row]:
    return rows_of([reservation] if reservation else [])


async def end_somehow(hand: Hand, reservation: Any) -> None:
    if hand.happens(20):
        await hand.end(reservation, "nack", delay=hand.random.choice((0, 0.5)))
    elif hand.happens(20):
        await hand.end(reservation, "again", delay=hand.random.choice((0, 0.5)))
    else:
        await hand.end(reservation, "ack")


async def work(hand: Hand) -> None:
    """Takes some time, and now and then more than the lease."""
    await hand.pause(1.2 * LEASE if hand.happens(100) else hand.random.uniform(0, 0.02))


IS_POLITE: dict[str, Any] = {
    "group": POLITE.group_of,
    "per_group": redset.Limit(leases=POLITE.leases_of_group, pause=POLITE.pause_of_group),
    "backoff": lambda attempt: 0.2,
}
POLITELY = (reserve, reserve_many, reserve_and_rest, hold, consume, limit_groups, pause_groups)
IS_FAIR: dict[str, Any] = {"group": FAIR.group_of, "turns": "fair", "backoff": lambda attempt: 0.2}

WORKLOADS = (
    Workload(
        "taken",
        Promises(taken_for_good=True),
        lambda face, client: face.SortedSet(client, "taken"),
        (add_new_items, add_new_items, add_several_new_items, pop, pop_last, take),
    ),
    Workload(
        "leased",
        Promises(),
        lambda face, client: face.SortedSet(client, "leased", backoff=lambda attempt: 0.2),
        (add_new_items, add_new_items, reserve, reserve_many, reserve_and_add_again, hand_on, end_by_receipt),
    ),
    Workload(
        "failing",
        Promises(max_attempts=3),
        lambda face, client: face.SortedSet(client, "failing", max_attempts=3, backoff=lambda attempt: 0.2),
        (add_new_items, fail, revive),
    ),
    Workload(
        "consumed",
        Promises(),
        lambda face, client: face.SortedSet(client, "consumed"),
        (add_new_items, add_in_transactions, consume),
    ),
    Workload(
        "updated",
        Promises(),
        lambda face, client: face.TimeSortedSet(client, "updated"),
        (add_few_keys, add_few_keys, reserve, hold),
    ),
    Workload(
        "pages",
        Promises(remembers=True),
        lambda face, client: face.SortedSet(client, "pages", remember=FOR_GOOD),
        (add_pages, add_pages_from_elsewhere, reserve, consume),
    ),
    Workload(
        "forced",
        Promises(remembers=True),
        lambda face, client: face.SortedSet(client, "forced", remember=FOR_GOOD),
        (add_pages, add_pages_from_elsewhere, force_pages, fail, hold),
    ),
    Workload(
        "dropped",
        Promises(drops=True),
        lambda face, client: face.SortedSet(client, "dropped", while_leased="drop"),
        (add_few_keys, reserve, hold),
    ),
    Workload(
        "rows",
        Promises(keyed=True),
        lambda face, client: face.SortedSet(client, "rows", serializer=json, key=lambda row: row["id"]),
        (add_versions, reserve, hold, hold),
    ),
    Workload(
        "later",
        Promises(scheduled=True, taken_for_good=True),
        lambda face, client: face.ScheduledSet(client, "later"),
        (add_for_later, pop, reserve),
    ),
    Workload(
        "feeds",
        Promises(scheduled=True, interval=1.5, taken_for_good=True),
        lambda face, client: face.PeriodicSet(client, "feeds", interval=1.5),
        (add_feeds, take, reserve),
    ),
    Workload(
        "replanned",
        Promises(scheduled=True, interval=1.5),
        lambda face, client: face.PeriodicSet(client, "replanned", interval=1.5),
        (add_feeds, replan_feeds, reserve, hold),
    ),
    Workload(
        "limited",
        Promises(),
        lambda face, client: face.SortedSet(client, "limited"),
        (add_new_items, add_new_items, reserve, reserve_many, hold, consume, steered_by(LIMITS)),
    ),
    Workload(
        "polite",
        POLITE,
        lambda face, client: face.SortedSet(client, "polite", **IS_POLITE),
        (add_several_new_items, add_new_items_from_elsewhere, *POLITELY),
    ),
    Workload(
        "fair",
        FAIR,
        lambda face, client: face.SortedSet(client, "fair", **IS_FAIR),
        (add_new_items, flood, reserve, reserve_many),
    ),
    Workload(
        "seen",
        Promises(ttl=FOR_GOOD),
        lambda face, client: face.ExpiringSet(client, "seen", ttl=FOR_GOOD),
        (add_seen, add_many_seen),
    ),
)

#: The number of shards: two for each master.
SHARDS = 6
#: Of sets that are moved to other numbers of shards. Objects made so follow them.
STORED: dict[str, Any] = {"shards": "stored"}
RESHARDED = Promises(shards=max(number or 1 for number in NUMBERS), is_resharded=True)

#: The same over shards, for as long as every program has redset: a plain ZADD to their name is refused.
SHARDED = (
    Workload(
        "shards-taken",
        Promises(taken_for_good=True, shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-taken", shards=SHARDS),
        (add_new_items, add_new_items, add_several_new_items, pop, take),
    ),
    Workload(
        "shards-leased",
        Promises(shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-leased", shards=SHARDS, backoff=lambda attempt: 0.2),
        (add_new_items, add_new_items, reserve, reserve_many, reserve_and_add_again, hand_on, end_by_receipt),
    ),
    Workload(
        "shards-failing",
        Promises(max_attempts=3, shards=SHARDS),
        lambda face, client: face.SortedSet(
            client, "shards-failing", shards=SHARDS, max_attempts=3, backoff=lambda attempt: 0.2
        ),
        (add_new_items, fail, revive),
    ),
    Workload(
        "shards-consumed",
        Promises(shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-consumed", shards=SHARDS),
        (add_new_items, add_in_transactions, consume),
    ),
    Workload(
        "shards-pages",
        Promises(remembers=True, shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-pages", shards=SHARDS, remember=FOR_GOOD),
        (add_pages, add_pages, reserve, consume),
    ),
    Workload(
        "shards-forced",
        Promises(remembers=True, shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-forced", shards=SHARDS, remember=FOR_GOOD),
        (add_pages, force_pages, fail, hold),
    ),
    Workload(
        "shards-dropped",
        Promises(drops=True, shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-dropped", shards=SHARDS, while_leased="drop"),
        (add_few_keys, reserve, hold),
    ),
    Workload(
        "shards-rows",
        Promises(keyed=True, shards=SHARDS),
        lambda face, client: face.SortedSet(
            client, "shards-rows", shards=SHARDS, serializer=json, key=lambda row: row["id"]
        ),
        (add_versions, reserve, hold),
    ),
    Workload(
        "shards-later",
        Promises(scheduled=True, taken_for_good=True, shards=SHARDS),
        lambda face, client: face.ScheduledSet(client, "shards-later", shards=SHARDS),
        (add_for_later, pop, reserve),
    ),
    Workload(
        "shards-feeds",
        Promises(scheduled=True, interval=1.5, taken_for_good=True, shards=SHARDS),
        lambda face, client: face.PeriodicSet(client, "shards-feeds", interval=1.5, shards=SHARDS),
        (add_feeds, take, reserve),
    ),
    Workload(
        "shards-replanned",
        Promises(scheduled=True, interval=1.5, shards=SHARDS),
        lambda face, client: face.PeriodicSet(client, "shards-replanned", interval=1.5, shards=SHARDS),
        (add_feeds, replan_feeds, reserve, hold),
    ),
    Workload(
        "shards-limited",
        Promises(shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-limited", shards=SHARDS),
        (add_new_items, add_new_items, reserve, reserve_many, hold, consume, steered_by(LIMITS_OVER_SHARDS)),
    ),
    Workload(
        "shards-polite",
        replace(POLITE, shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-polite", shards=SHARDS, **IS_POLITE),
        (add_several_new_items, *POLITELY),
    ),
    Workload(
        "shards-fair",
        replace(FAIR, shards=SHARDS),
        lambda face, client: face.SortedSet(client, "shards-fair", shards=SHARDS, **IS_FAIR),
        (add_several_new_items, flood, reserve, reserve_many),
    ),
    Workload(
        "resharded-pages",
        replace(RESHARDED, remembers=True),
        lambda face, client: face.TimeSortedSet(client, "resharded-pages", **STORED, remember=FOR_GOOD),
        (add_pages_for_long, add_pages_for_long, reserve, hold, consume),
    ),
    Workload(
        "resharded-taken",
        replace(RESHARDED, taken_for_good=True),
        lambda face, client: face.SortedSet(client, "resharded-taken", **STORED, backoff=lambda attempt: 0.2),
        (add_new_items, add_several_new_items, pop, take, reserve, reserve_many),
    ),
    Workload(
        "resharded-later",
        replace(RESHARDED, scheduled=True),
        lambda face, client: face.ScheduledSet(client, "resharded-later", **STORED),
        (add_for_later, reserve, consume),
    ),
    Workload(
        "shards-seen",
        Promises(ttl=FOR_GOOD, shards=SHARDS),
        lambda face, client: face.ExpiringSet(client, "shards-seen", shards=SHARDS, ttl=FOR_GOOD),
        (add_seen, add_many_seen),
    ),
)

#: All that may be done at a place, by the name that the place has for it.
ALL_WORKLOADS = {"plain": WORKLOADS, "sharded": SHARDED}

#: What each set of a run is held to, by the same names.
ALL_PROMISES = {
    name: {workload.set: workload.promises for workload in workloads} for name, workloads in ALL_WORKLOADS.items()
}
PROMISES = ALL_PROMISES["plain"]
