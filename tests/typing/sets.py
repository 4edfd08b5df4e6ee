"""What a type checker makes of the public interface. Checked by mypy, never run.

A line that must be refused carries an ignore; mypy's strict mode complains when there is nothing to ignore.
"""

import json
from collections.abc import AsyncIterator, Collection, MutableSet
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, assert_type

import redis
import redis.asyncio

import redset
import redset.aio
from redset import DeadLetter, ExpiringSet, Key, PeriodicSet, ScheduledSet, SortedSet, TimeSortedSet
from redset.interfaces import Serializer
from redset.serializers import JSONSerializer, NamedtupleSerializer, TypedSerializer


@dataclass
class Task:
    url: str
    depth: int


class Visit(NamedTuple):
    url: str


class TaskSerializer:
    """Any object with these two methods will do."""

    def dumps(self, item: Task) -> str:
        return json.dumps([item.url, item.depth])

    def loads(self, stored: bytes) -> Task:
        return Task(*json.loads(stored))


class DerivedSerializer(Serializer[Task]):
    def dumps(self, item: Task, /) -> bytes:
        return item.url.encode()

    def loads(self, stored: bytes, /) -> Task:
        return Task(stored.decode(), 0)


def plain_sets_are_of_str(client: redis.Redis) -> None:
    assert_type(SortedSet(client, "n"), SortedSet[str])
    assert_type(TimeSortedSet(client, "n"), TimeSortedSet[str])
    assert_type(ScheduledSet(client, "n"), ScheduledSet[str])
    assert_type(PeriodicSet(client, "n", 60), PeriodicSet[str])
    assert_type(ExpiringSet(client, "n", 60), ExpiringSet[str])
    assert_type(redset.SortedSet(client, "n", len), SortedSet[str])
    assert_type(redset.SortedSet(client, "n", lock_timeout=1, lock_expires=2.5), SortedSet[str])


def moments_and_durations_have_two_forms(client: redset.SortedSet[str], lock: Any) -> None:
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    client.add("x", now), client.update("x", score=now), client.update("x", score=lambda item: now)
    client.pop(minute)
    client.reserve(lease=minute, wait=minute).extend(minute)
    PeriodicSet(lock, "n", minute, jitter=minute).add("x", interval=minute, first=now)
    SortedSet(lock, "n", lambda item: now, remember=minute, backoff=lambda attempt: minute, lock_expires=minute)
    client.pop(now)  # type: ignore[arg-type]
    client.add("x", minute)  # type: ignore[arg-type]


def a_priority_is_an_int(client: redis.Redis) -> None:
    assert_type(SortedSet(client, "n", redset.priority_then_time(len)), SortedSet[str])
    SortedSet(client, "n", redset.priority_then_time(lambda task: task.depth), TaskSerializer())
    redset.priority_then_time(str)  # type: ignore[arg-type]


def the_serializer_says_what_a_set_is_of(client: redis.Redis) -> None:
    assert_type(SortedSet(client, "n", serializer=TaskSerializer()), SortedSet[Task])
    assert_type(TimeSortedSet(client, "n", serializer=DerivedSerializer()), TimeSortedSet[Task])
    assert_type(ScheduledSet(client, "n", serializer=TypedSerializer(Task)), ScheduledSet[Task])
    assert_type(SortedSet(client, "n", serializer=NamedtupleSerializer(Visit)), SortedSet[Visit])
    assert_type(SortedSet(client, "n", serializer=JSONSerializer()), SortedSet[Any])
    assert_type(SortedSet(client, "n", serializer=json), SortedSet[Any])
    assert_type(SortedSet(client, "n", lambda task: task.depth, TaskSerializer()), SortedSet[Task])
    assert_type(SortedSet(client, "n", serializer=TaskSerializer(), key=lambda task: task.url), SortedSet[Task])
    assert_type(PeriodicSet(client, "n", interval=60, serializer=TaskSerializer(), jitter=5), PeriodicSet[Task])


def a_set_can_be_annotated(client: redis.Redis) -> None:
    tasks: SortedSet[Task] = SortedSet(client, "n", serializer=json)
    anything: SortedSet[str | bytes] = SortedSet(client, "n")
    assert_type(tasks.pop(), Task)
    assert_type(anything.pop(), str | bytes)


def every_method_knows_the_item(tasks: ScheduledSet[Task], task: Task) -> None:
    assert_type(tasks.add(task), float | None)
    assert_type(tasks.add(task, score=1), float | None)
    assert_type(tasks.add(task, nx=True), float | None)
    assert_type(tasks.update([task], (each for each in [task]), score=lambda item: item.depth), int)
    assert_type(tasks.update([task], score=1), int)
    assert_type(tasks.increment(task, 1.5), float | None)
    assert_type(tasks.scores([task, Key("a")]), list[float | None])
    assert_type(tasks.contains_many([task, Key("a")]), list[bool])
    assert_type(tasks.index(task), int)
    assert_type(list(reversed(tasks)), list[Task])
    assert_type(list(tasks.reversed()), list[Task])
    assert_type(list(tasks.between(1, 2, inclusive=(True, False), limit=3, reverse=True)), list[Task])
    assert_type(list(tasks.with_scores()), list[tuple[Task, float]])
    assert_type(tasks.remove_between(max=2), int)
    assert_type(tasks.remove_slice(0, 2), int)
    tasks.remove(task)
    tasks.remove_at(0)
    del tasks[0], tasks[1:]
    assert_type(tasks.pop(), Task)
    assert_type(tasks.take(3), list[Task])
    assert_type(tasks.peek(), Task)
    assert_type(tasks.peek_score(), float | None)
    assert_type(tasks.score(task), float | None)
    assert_type(task in tasks, bool)
    assert_type(tasks.contains(task), bool)
    assert_type(tasks.count(min=1, max=2.5), int)
    assert_type(len(tasks), int)
    assert_type(tasks[0], Task)
    assert_type(tasks.at(0), Task)
    assert_type(tasks[:2], list[Task])
    assert_type(tasks.slice(0, 2), list[Task])
    assert_type(list(tasks), list[Task])
    assert_type(tasks.discard(task), bool)
    assert_type(tasks.clear(), bool)
    assert_type(tasks.available(), int)
    assert_type(tasks.name, str)
    assert_type(list(tasks.dead_letters), list[DeadLetter[Task]])
    assert_type(tasks.dead_letters[:5], list[DeadLetter[Task]])
    assert_type(tasks.dead_letters[:5][0].item, Task | None)
    assert_type(tasks.dead_letters[:5][0].raw, bytes)
    with tasks.lock:
        pass


def a_set_is_a_mutable_set(tasks: SortedSet[Task], task: Task, names: set[str]) -> None:
    as_one: MutableSet[Task] = tasks
    as_any: AbstractSet[Task] = tasks
    assert_type(as_one.pop(), Task)
    assert_type(as_any & names, AbstractSet[Task])
    takes_a_set(tasks)


def takes_a_set(tasks: Collection[Task]) -> None: ...


def results_are_plain_sets_in_stored_form(tasks: SortedSet[Task], task: Task, names: set[str]) -> None:
    assert_type(tasks | {task}, set[Task])
    assert_type(tasks | names, set[Task])
    assert_type(tasks & [task], set[Task])
    assert_type(tasks - (name for name in names), set[Task])
    assert_type(tasks ^ tasks, set[Task])
    assert_type([task] - tasks, set[Task])
    assert_type([task] | tasks, set[Task])
    assert_type(tasks - {task} - {task}, set[Task])
    assert_type(tasks.union(names, [task]), set[Task])
    assert_type(tasks.intersection(), set[Task])
    assert_type(tasks.difference(tasks, names), set[Task])
    assert_type(tasks.symmetric_difference(names), set[Task])
    assert_type(tasks.copy(), set[Task])


def comparisons_are_bool(tasks: SortedSet[Task], names: set[str]) -> None:
    assert_type(tasks == names, bool)
    assert_type(tasks <= names, bool)
    assert_type(names < tasks, bool)
    assert_type(tasks.issubset([1, 2]), bool)
    assert_type(tasks.issuperset(name for name in names), bool)
    assert_type(tasks.isdisjoint(names), bool)
    assert_type(tasks.equals(names), bool)


def a_set_stays_what_it_is_in_place(tasks: ScheduledSet[Task], task: Task) -> None:
    tasks |= [task]
    tasks &= {task}
    tasks -= (task for _ in range(3))
    tasks ^= tasks
    assert_type(tasks, ScheduledSet[Task])
    tasks.union_update([task], {task})
    tasks.intersection_update([task])
    tasks.difference_update([task])
    tasks.symmetric_difference_update([task])


def mistakes_beside_other_sets_are_found(tasks: SortedSet[Task], other: redset.aio.SortedSet[Task], task: Task) -> None:
    tasks < [task]  # type: ignore[operator]  # noqa: B015 - it is checked, not run
    tasks | 1  # type: ignore[operator]
    tasks.union(1)  # type: ignore[arg-type]
    tasks.union(other)  # type: ignore[arg-type]
    tasks | other  # type: ignore[operator]


def an_expiring_set_knows_the_item(client: redis.Redis, task: Task, names: set[str]) -> None:
    assert_type(ExpiringSet(client, "n", 60), ExpiringSet[str])
    assert_type(ExpiringSet(client, "n", ttl=0.5, serializer=json, digest=True), ExpiringSet[Any])
    seen = redset.ExpiringSet(client, "n", 60, TaskSerializer())
    assert_type(seen, ExpiringSet[Task])
    assert_type(seen.add(task), bool)
    assert_type(seen.add(task, ttl=5), bool)
    assert_type(seen.add_new(task for _ in range(3)), list[Task])
    assert_type(seen.touch(Key("a"), 5), bool)
    assert_type(seen.ttl(task), float | None)
    assert_type(task in seen, bool)
    assert_type(seen.contains_many([task, Key("a")]), list[bool])
    assert_type(len(seen), int)
    assert_type(list(seen), list[Task])
    assert_type(seen.discard(task), bool)
    assert_type(seen.pop(), Task)
    assert_type(seen.clear(), bool)
    assert_type(seen | names, set[Task])
    assert_type(names - seen, set[str])
    as_one: MutableSet[Task] = seen
    as_one |= {task}


def mistakes_about_expiring_sets_are_found(client: redis.Redis, seen: ExpiringSet[Task], task: Task) -> None:
    ExpiringSet(client, "n")  # type: ignore[call-overload]
    ExpiringSet(client, "n", "a day")  # type: ignore[call-overload]
    seen.add("a url")  # type: ignore[arg-type]
    seen.add(task, ttl="a day")  # type: ignore[arg-type]
    seen.take(1)  # type: ignore[attr-defined]


def mistakes_are_found(client: redis.Redis, tasks: SortedSet[Task]) -> None:
    tasks.add("a url")  # type: ignore[arg-type]
    tasks.add(Task("a", 1), score="high")  # type: ignore[arg-type]
    tasks.discard("a url")  # type: ignore[arg-type]
    tasks.available()  # type: ignore[attr-defined]
    tasks.count(1, 2)  # type: ignore[call-arg]
    tasks.update(["a url"])  # type: ignore[list-item]
    tasks.update([Task("a", 1)], score=len)  # type: ignore[arg-type]
    SortedSet(client, "n", duplicates="newest")  # type: ignore[call-overload]
    SortedSet(client, "n", max_attempt=3)  # type: ignore[call-overload]
    SortedSet(client, "n", max_attempts="3")  # type: ignore[call-overload]
    SortedSet(client, "n", serializer=TaskSerializer(), key=len)  # type: ignore[arg-type]
    PeriodicSet(client, "n", 60, remember=5)  # type: ignore[call-overload]
    ExpiringSet(client, "n", 60, key=len)  # type: ignore[call-overload]
    SortedSet(client)  # type: ignore[call-overload]
    SortedSet(client, "n", scorer=lambda item: "high")  # type: ignore[arg-type, return-value]


async def the_asyncio_face_knows_the_same(client: redis.asyncio.Redis, task: Task) -> None:
    assert_type(redset.aio.SortedSet(client, "n"), redset.aio.SortedSet[str])
    assert_type(redset.aio.PeriodicSet(client, "n", 60), redset.aio.PeriodicSet[str])
    assert_type(redset.aio.TimeSortedSet(client, "n", serializer=json), redset.aio.TimeSortedSet[Any])
    tasks = redset.aio.ScheduledSet(client, "n", serializer=TaskSerializer())
    assert_type(tasks, redset.aio.ScheduledSet[Task])

    assert_type(await tasks.add(task), float | None)

    async def made() -> AsyncIterator[Task]:
        yield task

    assert_type(await tasks.update([task], made(), score=1), int)
    assert_type(await tasks.scores([task]), list[float | None])
    assert_type(await tasks.index(task), int)
    assert_type([item async for item in tasks.reversed()], list[Task])
    assert_type([item async for item in tasks.between(1)], list[Task])
    assert_type([pair async for pair in tasks.with_scores()], list[tuple[Task, float]])
    assert_type(await tasks.pop(), Task)
    assert_type(await tasks.take(3), list[Task])
    assert_type(await tasks.peek(), Task)
    assert_type(await tasks.peek_score(), float | None)
    assert_type(await tasks.score(task), float | None)
    assert_type(await tasks.contains(task), bool)
    assert_type(await tasks.count(min=1), int)
    assert_type(await tasks.at(0), Task)
    assert_type(await tasks.slice(0, 2), list[Task])
    assert_type([item async for item in tasks], list[Task])
    assert_type(await tasks.discard(task), bool)
    assert_type(await tasks.clear(), bool)
    assert_type(await tasks.available(), int)
    assert_type([letter async for letter in tasks.dead_letters], list[DeadLetter[Task]])
    assert_type(await tasks.dead_letters.count(), int)
    async with tasks.lock:
        pass

    seen = redset.aio.ExpiringSet(client, "n", 60, TaskSerializer())
    assert_type(seen, redset.aio.ExpiringSet[Task])
    assert_type(await seen.add(task, ttl=5), bool)
    assert_type(await seen.add_new(made()), list[Task])
    assert_type(await seen.ttl(task), float | None)
    assert_type([item async for item in seen], list[Task])
    assert_type(await seen.difference([task]), set[Task])


async def the_asyncio_face_has_the_named_forms(
    tasks: redset.aio.SortedSet[Task], sync: SortedSet[Task], task: Task
) -> None:
    assert_type(await tasks.union([task], tasks), set[Task])
    assert_type(await tasks.intersection(), set[Task])
    assert_type(await tasks.difference(item async for item in tasks), set[Task])
    assert_type(await tasks.symmetric_difference(tasks), set[Task])
    assert_type(await tasks.copy(), set[Task])
    assert_type(await tasks.equals(tasks), bool)
    assert_type(await tasks.issubset([task]), bool)
    assert_type(await tasks.issuperset([task]), bool)
    assert_type(await tasks.isdisjoint([task]), bool)
    await tasks.union_update([task], tasks)
    await tasks.intersection_update([task])
    await tasks.difference_update(tasks)
    await tasks.symmetric_difference_update([task])
    tasks | {task}  # type: ignore[operator]
    tasks <= {task}  # type: ignore[operator]  # noqa: B015 - it is checked, not run


async def what_would_block_is_a_mistake(tasks: redset.aio.SortedSet[Task], task: Task) -> None:
    len(tasks)  # type: ignore[arg-type]
    task in tasks  # type: ignore[operator]  # noqa: B015 - it is checked, not run
    tasks[0]  # type: ignore[index]
    for _ in tasks:  # type: ignore[attr-defined]
        pass
    tasks.pop()  # type: ignore[unused-coroutine]
