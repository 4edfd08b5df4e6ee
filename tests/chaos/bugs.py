"""Seeded bugs: the workers of a run plant one in the library, and a checker must find it. ``make chaos-bugs``.

A checker that has never failed proves nothing. Each bug is one that a queue on Redis could well have. It is planted by
replacing a function, of a script or in Python, before a worker creates its sets.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from chaos.ending import ending, make_writable
from chaos.steps import through

# redset is loaded when a bug is planted, and not before.

__all__ = ("BUGS", "Bug", "Found", "changed", "find", "known", "plant")

#: The length of a run with a bug in seconds, and the mean number of seconds between two faults.
SECONDS = 20.0
PAUSE = 0.3
#: A bug shows by chance, so there is a run for each of these seeds until a checker finds it.
SEEDS = (1, 2, 3)

PROGRAM = "python -m chaos.bugs"


class Override(NamedTuple):
    """A function that replaces one of a script, and can call that as ``original``."""

    #: The file, without its suffix.
    script: str
    #: The name of a local function, or of a function in a local table: ``verbs.bury``.
    function: str
    #: A Lua expression.
    instead: str


@dataclass(frozen=True)
class Bug:
    #: The bug in one sentence.
    about: str
    #: The checker that must find it.
    checker: str
    #: The sets of a run in which it shows.
    sets: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
    #: Replaces functions.
    patch: Callable[[], None] = lambda: None
    #: Faults that would excuse its effect, which the run leaves out.
    without: tuple[str, ...] = ()
    #: Where it shows, by the name of the place.
    place: str = "single"


def known(name: str) -> str:
    """Return the value of an option.

    :raises ArgumentTypeError: there is no such bug.
    """
    if name not in BUGS:
        raise argparse.ArgumentTypeError(f"there is no bug {name!r}, but {', '.join(BUGS)}")
    return name


def plant(name: str) -> None:
    """Change the library in this process."""
    bug = BUGS[name]
    if bug.overrides:
        _replace(bug.overrides)
    bug.patch()


def changed(overrides: Sequence[Override]) -> dict[str, str]:
    """Return the texts of all scripts, by name, with these functions replaced.

    :raises AssertionError: a script does not have such a function exactly once.
    """
    folder = Path(str(files("redset.core.scripts")))
    texts = {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.lua")
    }
    for script, function, instead in overrides:
        table, _, _ = function.rpartition(".")
        definition = rf"^local {table} = {{$.*?^}}$" if table else rf"^local function {function}\(.*?^end$"
        found = re.findall(definition, texts[script], re.MULTILINE | re.DOTALL)
        assert len(found) == 1, f"{script}.lua has {len(found)} times: {function}"
        override = f"\ndo\nlocal original = {function}\n{function} = {instead}\nend"
        texts[script] = texts[script].replace(found[0], found[0] + override)
    return texts


def _replace(overrides: Sequence[Override]) -> None:
    """Make the loader read changed texts from now on."""
    scripts = import_module("redset.core.scripts")
    texts = changed(overrides)
    mock.patch.object(scripts, "_text", texts.__getitem__).start()
    scripts.script.cache_clear()


# Replacements in Python


def take_in_two_steps() -> None:
    from redset.core.claiming import Claims
    from redset.core.operations import Operation, Plan

    gather = Claims._gather

    def take(self: Any, num: int, lease: float, wait: Any, **options: Any) -> Plan[list[Any]]:
        if lease or self._set.kind.which != "any":
            return (yield from gather(self, num, lease, wait, **options))
        key = self._keys.waiting
        found: list[bytes] = yield Operation("ZRANGE", (key,), ("0", str(num - 1)), list)
        if found:
            yield Operation("ZREM", (key,), found, int)
        items, _ = self._items.load_all(found, None)
        return list(items)

    Claims._gather = take  # type: ignore[method-assign]


def wait_by_popping() -> None:
    from redset.core.claiming import Claims
    from redset.core.operations import Listen, Operation, Plan

    gather = Claims._gather

    def pop_and_add_again(self: Any, seconds: float) -> Plan[None]:
        key = self._keys.waiting
        found = yield Operation("BZPOPMIN", (key,), (f"{seconds:.3f}",), lambda reply: reply)
        if found:
            _, item, score = found
            yield Operation("ZADD", (key,), (repr(float(score)), item), int)

    def wait(self: Any, *args: Any, **options: Any) -> Plan[Any]:
        def carry(step: Any) -> Plan[Any]:
            if isinstance(step, Listen):
                return (yield from pop_and_add_again(self, min(step.look, step.left)))
            return (yield step)

        return through(gather(self, *args, **options), carry)

    Claims._gather = wait  # type: ignore[method-assign]


def lease_by_the_clients_clock() -> None:
    from redset.core.claiming import Claims

    claim = Claims.claim

    def ahead(self: Any, limit: int, lease: float, *args: Any, **options: Any) -> Any:
        operation = claim(self, limit, lease, *args, **options)
        until = max(0.001, lease + _seconds_ahead())
        return replace(operation, args=[*operation.args[:3], repr(until), *operation.args[4:]]) if lease else operation

    Claims.claim = ahead  # type: ignore[method-assign]


def due_by_the_clients_clock() -> None:
    from redset.core.claiming import Claims

    claim = Claims.claim

    def ahead(self: Any, *args: Any, **options: Any) -> Any:
        operation: Any = claim(self, *args, **options)
        which = f"{operation.args[2]} {_seconds_ahead():.6f}"
        return replace(operation, args=[*operation.args[:2], which, *operation.args[3:]])

    Claims.claim = ahead  # type: ignore[method-assign]


def _seconds_ahead() -> float:
    """Return the lead of this process's clock. Runs set clients' clocks apart by replacing Python's functions."""
    return time.time() - time.clock_gettime(time.CLOCK_REALTIME)


def look_before_adding() -> None:
    from redset import aio, sets
    from redset.core.expiring import Expiring
    from redset.core.operations import Plan, Sleep

    def plan(expiring: Expiring[Any], item: Any, ttl: Any) -> Plan[bool]:
        left = yield expiring.ttl(item)
        yield Sleep(0.01)
        yield expiring.add(item, ttl)
        return left is None

    def add(self: Any, item: Any, ttl: Any = None) -> Any:
        return self._driver.follow(plan(self._expiring, item, ttl))

    sets.ExpiringSet.add = add  # type: ignore[method-assign]
    aio.ExpiringSet.add = add  # type: ignore[method-assign]


def leave_out_the_forced() -> None:
    from redset.core.adding import Adding

    Adding._forces = lambda self, *, force: False  # type: ignore[method-assign]


def park_all() -> None:
    base = import_module("redset.core.base")
    mock.patch.object(base, "one_of_while_leased", return_value="park").start()


def add_before_the_pipeline() -> None:
    from redset.core.drivers import AsyncDriver, Driver

    def enqueue(self: Any, pipeline: Any, operation: Any) -> Any:
        return self.perform(operation)

    Driver.enqueue = enqueue  # type: ignore[method-assign]
    AsyncDriver.enqueue = enqueue  # type: ignore[method-assign]


def maxsize_of_what_waits() -> None:
    scripts = import_module("redset.core.scripts")
    text, leased = scripts._text, " - redis.call('ZCARD', leased)"

    def without_leases(name: str) -> str:
        found: str = text(name)
        assert name != "shared/room" or leased in found
        return found.replace(leased, "") if name == "shared/room" else found

    mock.patch.object(scripts, "_text", without_leases).start()
    scripts.script.cache_clear()


def divide_by_the_process() -> None:
    from redset.core.shards.layout import Layout

    shard_of = Layout.shard_of

    def shifted(self: Layout, identity: bytes) -> int:
        return (shard_of(self, identity) + os.getpid()) % (self.count or 1)

    Layout.shard_of = shifted  # type: ignore[method-assign]


def divide_groups() -> None:
    from redset.core.shards.place import Shards

    Shards._number_of = lambda self, identity: self.now.layout.shard_of(identity)  # type: ignore[method-assign]


def forget_failed_claims() -> None:
    from redset.core.calls import ClientState

    ClientState.owe = lambda self, call: None  # type: ignore[method-assign]


def reshard_without(left_out: str) -> Callable[[], None]:
    def patch() -> None:
        from redset.core.shards.resharding import _Move

        copy = _Move._copy

        def copy_others(self: _Move, source: bytes, key: str, targets: Any) -> Any:
            return iter(()) if key == left_out else copy(self, source, key, targets)

        _Move._copy = copy_others  # type: ignore[method-assign]

    return patch


#: The hazards without which a short run has time for several reshards.
INSTEAD_OF_RESHARDS = ("failover", "handover", "freeze", "slot")

BUGS: dict[str, Bug] = {
    "reserve-without-parking": Bug(
        "An item that is added again under its lease is claimed at once.",
        "one_lease_at_a_time",
        ("updated", "pages"),
        (
            Override(
                "shared/waiting",
                "is_claimed",
                "function(item, score, field, deadline, ...)\n"
                "    if deadline and tonumber(deadline) > time then redis.call('ZREM', parked, item) return true end\n"
                "    return original(item, score, field, deadline, ...)\n"
                "end\n",
            ),
        ),
    ),
    "take-in-two-steps": Bug(
        "A take reads the first items in one call and removes them in another.",
        "handed_out_once",
        ("taken",),
        patch=take_in_two_steps,
    ),
    "ack-without-token": Bug(
        "An ack ends the lease of its item, even if another consumer has it.",
        "one_lease_at_a_time",
        ("leased", "updated"),
        (
            Override(
                "shared/states",
                "is_held",
                "function(field, deadline, _, moment) return field and deadline and tonumber(deadline) > moment end",
            ),
        ),
    ),
    "lost-ends-confirmed": Bug(
        "A caller that ends a lost lease is not told so.",
        "ended_once",
        ("leased",),
        (Override("shared/leases", "end_leases", "function(...) original(...) return '' end"),),
    ),
    "wait-by-popping": Bug(
        "A waiter blocks on a command that removes an item, and adds the item again before it claims.",
        "nothing_lost",
        ("taken", "leased"),
        patch=wait_by_popping,
    ),
    "repeated-call-made-again": Bug(
        "A claim that is sent again after its reply was lost claims more items.",
        "nothing_lost",
        ("taken",),
        (
            Override(
                "shared/record",
                "read_record",
                "function() local early = original() repeated, unread = nil, nil return early end",
            ),
        ),
        without=("kill",),
    ),
    "repeated-add-made-again": Bug(
        "An addition that is sent again after its reply was lost adds an item that was claimed meanwhile.",
        "handed_out_once",
        ("taken",),
        (
            Override(
                "shared/record",
                "read_record",
                "function()\n"
                "    -- No other script has four keys.\n"
                "    if #KEYS == 4 then call = nil return nil end\n"
                "    return original()\n"
                "end\n",
            ),
        ),
    ),
    "unseen-not-put-back": Bug(
        "A claim that was interrupted is not rolled back.",
        "nothing_lost",
        ("taken", "later"),
        (Override("shared/claims", "roll_back", "free_record"),),
        without=("kill",),
    ),
    "seen-put-back": Bug(
        "Some claims are rolled back although their caller received them.",
        "handed_out_once",
        ("taken",),
        (
            Override(
                "shared/record",
                "read_record",
                "function() if string.sub(number, -1) == '7' then ARGV[2] = '' end return original() end",
            ),
        ),
    ),
    "lease-by-clients-clock": Bug(
        "A lease expires by the clock of the client that claimed it.",
        "one_lease_at_a_time",
        ("leased", "updated"),
        patch=lease_by_the_clients_clock,
    ),
    "expired-lease-dropped": Bug(
        "An item whose lease expired is not requeued.",
        "nothing_lost",
        ("leased", "consumed"),
        (
            Override(
                "shared/states",
                "leased_to_waiting",
                "function(item, attempts, score, seconds, parked_score, word)\n"
                "    if word == 'expired' then return redis.call('HDEL', deliveries, item) end\n"
                "    return original(item, attempts, score, seconds, parked_score, word)\n"
                "end\n",
            ),
        ),
    ),
    "parked-dropped-on-ack": Bug(
        "An ack deletes a parked item too.",
        "nothing_lost",
        ("updated",),
        (Override("shared/leases", "parked_to_waiting", "unpark"),),
    ),
    "memory-asked-when-adding-only": Bug(
        "A remembered item is left out when it is added, but not when another program adds it by a plain ZADD.",
        "remembered_once",
        ("pages",),
        (
            Override(
                "shared/waiting",
                "is_claimed",
                "function(item, score, field, deadline, death)\n"
                "    return original(item, score, field, deadline, death, false)\n"
                "end",
            ),
        ),
    ),
    "forced-left-out": Bug(
        "A forced addition of a remembered item is left out like any other.",
        "nothing_lost",
        ("forced",),
        patch=leave_out_the_forced,
    ),
    "forced-stays-dead": Bug(
        "A forced addition of a dead item leaves it dead, so that the claim drops it.",
        "nothing_lost",
        ("forced",),
        (Override("shared/states", "from_dead", "function(item) return not done and original(item) end"),),
    ),
    "parked-not-dropped": Bug(
        "An addition of a leased item is parked on a set that drops it.",
        "handed_out_once",
        ("dropped",),
        patch=park_all,
    ),
    "added-before-the-pipeline": Bug(
        "An addition in a pipeline is sent at once, before the pipeline is executed.",
        "added_together",
        ("consumed",),
        patch=add_before_the_pipeline,
    ),
    "value-dropped-at-ack": Bug(
        "An ack deletes the value of its item even if the item was added again meanwhile.",
        "nothing_invented",
        ("rows",),
        (Override("shared/values", "drop_values", "function(items) return original(items) end"),),
    ),
    "first-value-stands": Bug(
        "The value of a duplicate does not replace the old one.",
        "fresh_values",
        ("rows",),
        (
            Override(
                "shared/values",
                "replace_values",
                "function(fields)\n"
                "    for i = 1, #fields, 2 do redis.call('HSETNX', values, fields[i], fields[i + 1]) end\n"
                "end\n",
            ),
        ),
    ),
    "tokens-by-the-caller": Bug(
        "Each client counts fencing tokens by itself.",
        "tokens_grow",
        ("leased", "updated"),
        (Override("shared/states", "token_before", "function() return tonumber(ARGV[1]) * 1000 end"),),
    ),
    "due-by-clients-clock": Bug(
        "A scheduled item is due by the clock of the client that claims it.",
        "not_before_its_time",
        ("later",),
        (
            Override(
                "shared/waiting",
                "next_rows",
                "(function()\n"
                "    from_end = false\n"
                "    local by_client = string.format('%.6f', time + tonumber(string.match(which, '%S+$') or 0))\n"
                "    return function(count)\n"
                "        return redis.pcall('ZRANGE', waiting, '-inf', by_client, "
                "'BYSCORE', 'LIMIT', '0', count, 'WITHSCORES')\n"
                "    end\n"
                "end)()\n",
            ),
        ),
        patch=due_by_the_clients_clock,
    ),
    "tick-planned-from-now": Bug(
        "The next tick is one interval after the last ack, not after the last tick.",
        "ticks_once",
        ("feeds",),
        (
            Override(
                "shared/expiry",
                "schedule_next",
                "function(items, planned, found)\n"
                "    local now = {}\n"
                "    for i = 1, #items do now[i] = time end\n"
                "    return original(items, now, found)\n"
                "end\n",
            ),
        ),
    ),
    "ack-overrides-reschedule": Bug(
        "An ack plans the next tick although it was set anew under the lease.",
        "ticks_set_anew",
        ("replanned",),
        (
            Override(
                "shared/expiry",
                "schedule_next",
                "function(items, ...) redis.call('ZREM', waiting, unpack(items)) return original(items, ...) end",
            ),
        ),
    ),
    "look-before-adding": Bug(
        "An expiring set checks in one call whether an item is new, and adds it in another.",
        "new_once",
        ("seen",),
        patch=look_before_adding,
    ),
    "last-goes-first": Bug(
        "Claims take the highest score first.",
        "in_order",
        ("taken", "leased"),
        (Override("shared/waiting", "next_rows", "(function() from_end = not from_end return original end)()"),),
    ),
    "last-is-first": Bug(
        "A claim of the highest score takes the lowest.",
        "in_order",
        ("taken",),
        (Override("shared/waiting", "next_rows", "(function() from_end = false return original end)()"),),
    ),
    "parked-for-ever": Bug(
        "A parked item stays parked after the ack.",
        "nothing_stuck",
        ("updated",),
        (Override("shared/leases", "parked_to_waiting", "function() end"),),
    ),
    "leased-for-ever": Bug(
        "No claim looks for expired leases.",
        "nothing_stuck",
        ("leased", "consumed"),
        (Override("shared/waiting", "read_expired", "function() return {} end"),),
    ),
    "acks-twice-counted": Bug(
        "An ack counts twice.",
        "totals_add_up",
        ("leased", "consumed"),
        (
            Override(
                "shared/totals",
                "count",
                "function(total, number) return original(total, total == 'acked' and 2 * number or number) end",
            ),
        ),
    ),
    "bury-deletes": Bug(
        "A bury deletes the item.",
        "nothing_lost",
        ("failing",),
        (Override("shared/leases", "verbs.bury", "function(item) redis.call('HDEL', deliveries, item) end"),),
    ),
    "nack-deletes": Bug(
        "A nack deletes the item.",
        "nothing_lost",
        ("leased", "failing"),
        (
            Override(
                "shared/leases",
                "verbs.nack",
                "function(item, attempts, ...)\n"
                "    if are_exhausted(attempts) then return original(item, attempts, ...) end\n"
                "    redis.call('HDEL', deliveries, item)\n"
                "end\n",
            ),
        ),
    ),
    "no-backoff": Bug(
        "A nacked item is waiting at once, without its backoff.",
        "handed_out_once",
        ("leased", "failing"),
        (
            Override(
                "shared/states",
                "leased_to_waiting",
                "function(item, attempts, score, seconds, ...) return original(item, attempts, score, 0, ...) end",
            ),
        ),
    ),
    "no-last-attempt": Bug(
        "An item is claimed again after its last attempt.",
        "attempts_count",
        ("failing",),
        (Override("shared/states", "are_exhausted", "function() return false end"),),
    ),
    "extension-ignored": Bug(
        "An extension is confirmed, but the deadline does not change.",
        "one_lease_at_a_time",
        ("leased",),
        (
            Override(
                "shared/leases",
                "extend_lease",
                "function(item, seconds, deadline) redis.call('ZADD', leased, deadline, item) end",
            ),
        ),
    ),
    "permit-returned-by-ack": Bug(
        "An ack gives the permit of its claim back, so that a quick consumer knows no rate.",
        "rate_holds",
        ("limited",),
        (
            Override(
                "shared/states",
                "leased_to_done",
                "function(items, fields)\n"
                "    local level, rest = string.match(redis.call('HMGET', meta, 'gate')[1] or '', '^(%S+) (.*)$')\n"
                "    if level then redis.call('HSET', meta, 'gate', math.max(0, level - #items) .. ' ' .. rest) end\n"
                "    return original(items, fields)\n"
                "end\n",
            ),
        ),
    ),
    "leases-checked-before-a-bulk": Bug(
        "A claim of many items makes as many leases as it likes if the limit is not reached before.",
        "leases_hold",
        ("limited",),
        (
            Override(
                "shared/gates",
                "free_leases",
                "function(gate) return original(gate) > 0 and math.huge or 0 end",
            ),
        ),
    ),
    "pause-for-single-claims": Bug(
        "A pause does not stop claims of many items.",
        "not_while_paused",
        ("limited",),
        (
            Override(
                "shared/gates",
                "read_gate",
                "function(field, wanted, lease)\n"
                "    local gate = original(field, wanted, lease)\n"
                "    if gate and gate.pause < 0 and wanted > 1 then gate.permits = wanted end\n"
                "    return gate\n"
                "end\n",
            ),
        ),
    ),
    "maxsize-of-what-waits": Bug(
        "The room of a set does not count its leased items.",
        "maxsize_holds",
        ("limited",),
        patch=maxsize_of_what_waits,
    ),
    "pause-of-groups-forgotten": Bug(
        "A group that is claimed from under a lease does not rest.",
        "groups_rest",
        ("polite",),
        (
            Override(
                "shared/group_limits",
                "limits_of",
                "function(name)\n"
                "    local leases, pause = original(name)\n"
                "    return leases, under_lease and 0 or pause\n"
                "end\n",
            ),
        ),
    ),
    "leases-of-groups-uncounted": Bug(
        "A claim of many items does not count the leases of their groups.",
        "groups_hold",
        ("polite",),
        (Override("shared/group_limits", "count_leases", "function() end"),),
    ),
    "own-limits-of-groups-forgotten": Bug(
        "The limits that a group was given do not replace those of all groups.",
        "groups_hold",
        ("polite",),
        (
            Override(
                "shared/group_limits",
                "limits_of",
                "function(name) own_limits[name] = false return original(name) end",
            ),
        ),
        without=("kill", "lose"),
    ),
    "rest-of-the-item-alone": Bug(
        "Where the holder of an item has its group rest, only the item is requeued.",
        "groups_rest",
        ("polite",),
        (Override("shared/leases", "verbs.rest", "function(...) return verbs.again(...) end"),),
    ),
    "paused-group-resumed": Bug(
        "A group that is paused without an end is ready again when one of its items is added or acked.",
        "groups_pause",
        ("polite",),
        (
            Override(
                "shared/groups",
                "place_group",
                "function(name, ...)\n"
                "    redis.call('ZREMRANGEBYSCORE', resting, '+inf', '+inf')\n"
                "    return original(name, ...)\n"
                "end\n",
            ),
        ),
        without=("kill", "lose"),
    ),
    "turns-not-given-up": Bug(
        "A claim takes all it can from the group whose turn it is, which keeps its turn.",
        "no_group_starves",
        ("fair",),
        (
            Override("shared/groups", "next_turn", "function() return '0' end"),
            Override("shared/turns", "ready_groups", "function(count) return {original(count)[1]} end"),
        ),
    ),
    "shard-by-process": Bug(
        "The shard of an item depends on the process, as Python's own hash does.",
        "remembered_once",
        ("shards-pages",),
        patch=divide_by_the_process,
        place="shards",
    ),
    "groups-over-several-shards": Bug(
        "The items of a group are divided among the shards.",
        "groups_rest",
        ("shards-polite",),
        patch=divide_groups,
        place="shards",
    ),
    "failed-shard-forgotten": Bug(
        "A claim goes on with another shard after one failed, and what it claimed there is not rolled back.",
        "nothing_lost",
        ("shards-taken",),
        patch=forget_failed_claims,
        without=("kill", "failover"),
        place="shards",
    ),
    "reshard-forgets-what-is-done": Bug(
        "A reshard does not move what is remembered.",
        "remembered_once",
        ("resharded-pages",),
        patch=reshard_without("done"),
        without=INSTEAD_OF_RESHARDS,
        place="shards",
    ),
    "reshard-drops-leases": Bug(
        "A reshard does not move items that are leased.",
        "nothing_lost",
        ("resharded-taken", "resharded-later"),
        patch=reshard_without("leased"),
        without=INSTEAD_OF_RESHARDS,
        place="shards",
    ),
}


class Found(NamedTuple):
    """The violations in a run with a bug."""

    bug: str
    #: The number of violations that each checker found.
    by: Counter[str]
    #: Seconds from the start of the run to the first violation that the right checker found.
    seconds: float | None
    seed: int

    @property
    def caught(self) -> bool:
        return self.by[BUGS[self.bug].checker] > 0


def find(name: str, seconds: float = SECONDS, seed: int = 1) -> Found:
    """Run with a bug, and check the history."""
    # Workers import this module, and load nothing of redset before the bug is planted.
    from chaos.checkers import check
    from chaos.places import PLACES
    from chaos.runs import run
    from chaos.workloads import ALL_PROMISES

    place = PLACES[BUGS[name].place]()
    try:
        with tempfile.TemporaryDirectory(prefix="redset-chaos-", ignore_cleanup_errors=True) as directory:
            history = run(place, seconds, seed, Path(directory), bug=name, pause=PAUSE, without=BUGS[name].without)
    finally:
        place.stop()
    violations = check(history, ALL_PROMISES[place.workloads]).violations
    mine = [violation for violation in violations if violation.checker == BUGS[name].checker]
    start, end = history.calls[0].invoked, history.calls[-1].invoked
    # That something is lost, or stuck, or that totals do not add up, is known in the end.
    at_the_end = BUGS[name].checker in {"nothing_lost", "nothing_stuck", "totals_add_up"}
    found = [end if at_the_end else _over(violation.calls) for violation in mine]
    after = min(found) - start if found else None
    return Found(name, Counter(violation.checker for violation in violations), after, seed)


def look_for(name: str) -> Found:
    """Runs with a bug until it is found."""
    for seed in SEEDS:
        found = find(name, seed=seed)
        if found.caught:
            break
    return found


def _over(calls: Sequence[Any]) -> float:
    return float(max(call.completed or call.invoked for call in calls))


def main(arguments: Sequence[str] | None = None) -> int:
    options = asked_for(arguments)
    return ending(PROGRAM, lambda: all_found(options))


def asked_for(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Seeded bugs, each of which must be found.")
    parser.add_argument("bugs", nargs="*", type=known, metavar="BUG", help=f"default: all of {', '.join(BUGS)}")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where a table of them is written")
    options = parser.parse_args(arguments)
    try:
        if options.report:
            make_writable(options.report)
    except OSError as reason:
        parser.error(str(reason))
    return options


def all_found(options: argparse.Namespace) -> int:
    every = []
    for name in options.bugs or BUGS:
        every.append(look_for(name))
        print(f"{name:30} {' | '.join(_row(every[-1])[1:])}", flush=True)
    if options.report:
        from chaos.report import table

        head = ("bug", "what it does", "caught by", "after", "violations")
        (options.report / "bugs.md").write_text(table(head, map(_row, every)))
    return 0 if all(found.caught for found in every) else 1


def _row(found: Found) -> tuple[str, ...]:
    """The right checker's violations come first."""
    bug = BUGS[found.bug]
    after = "never" if found.seconds is None else f"{found.seconds:.1f} s"
    if found.seed > SEEDS[0]:
        after += f", run {found.seed}"
    by = sorted(found.by.items(), key=lambda one: (one[0] != bug.checker, -one[1]))
    violations = ", ".join(f"{number} of `{checker}`" for checker, number in by)
    return f"`{found.bug}`", bug.about, f"`{bug.checker}`", after, violations


if __name__ == "__main__":
    sys.exit(main())
