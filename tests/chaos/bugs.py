"""Seeded bugs: the library is changed in the workers of a run, and the run must be found wanting. ``make chaos-bugs``.

A checker that has never failed proves nothing. Each bug here is one that a queue on Redis could well have; it is
planted by replacing a function, of a script or in Python, before a worker makes its sets.
"""

import argparse
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

#: How long a run with a bug lasts, in seconds, and how many of them lie between two faults, on average.
SECONDS = 20.0
PAUSE = 0.3
#: A bug shows by chance: it is looked for in a run of each of these seeds, until it is found.
SEEDS = (1, 2, 3)

PROGRAM = "python -m chaos.bugs"


class Override(NamedTuple):
    """Another function in the place of one of a script, which is ``original`` to it."""

    #: The file, without its suffix.
    script: str
    #: The name of a local function, or of one in a local table: ``verbs.bury``.
    function: str
    #: In Lua: an expression.
    instead: str


@dataclass(frozen=True)
class Bug:
    #: In a sentence.
    about: str
    #: The rule that must find it.
    checker: str
    #: The sets of a run where it shows.
    sets: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
    #: Replaces functions.
    patch: Callable[[], None] = lambda: None
    #: Faults that would explain what it does, so it is looked for without these.
    without: tuple[str, ...] = ()


def known(name: str) -> str:
    """An option's value.

    :raises ArgumentTypeError: there is no such bug.
    """
    if name not in BUGS:
        raise argparse.ArgumentTypeError(f"there is no bug {name!r}, but {', '.join(BUGS)}")
    return name


def plant(name: str) -> None:
    """Changes the library in this process."""
    bug = BUGS[name]
    if bug.overrides:
        _replace(bug.overrides)
    bug.patch()


def changed(overrides: Sequence[Override]) -> dict[str, str]:
    """The texts of all scripts, by name, with these functions replaced.

    :raises AssertionError: a function is not there exactly once, so the bug would be another one, or none.
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
    """Has scripts be read from changed texts, from now on."""
    scripts = import_module("redset.core.scripts")
    texts = changed(overrides)
    mock.patch.object(scripts, "_text", texts.__getitem__).start()
    scripts.script.cache_clear()


# Functions that take the place of others


def take_in_two_steps() -> None:
    from redset.core.handouts import HandOuts
    from redset.core.operations import Operation, Plan

    gather = HandOuts._gather

    def take(self: Any, num: int, lease: float, wait: Any, **options: Any) -> Plan[list[Any]]:
        if lease or self._set.kind.which != "any":
            return (yield from gather(self, num, lease, wait, **options))
        key = self._keys.waiting
        found: list[bytes] = yield Operation("ZRANGE", (key,), ("0", str(num - 1)), list)
        if found:
            yield Operation("ZREM", (key,), found, int)
        items, _ = self._items.load_all(found, None)
        return list(items)

    HandOuts._gather = take  # type: ignore[method-assign]


def wait_by_popping() -> None:
    from redset.core.handouts import HandOuts
    from redset.core.operations import Listen, Operation, Plan

    gather = HandOuts._gather

    def pop_and_add_again(self: Any, seconds: float) -> Plan[None]:
        key = self._keys.waiting
        found = yield Operation("BZPOPMIN", (key,), (f"{seconds:.3f}",), lambda reply: reply)
        if found:
            _, item, score = found
            yield Operation("ZADD", (key,), (repr(float(score)), item), int)

    def wait(self: Any, *args: Any, **options: Any) -> Plan[Any]:
        def carry(step: Any) -> Plan[Any]:
            if isinstance(step, Listen):
                return (yield from pop_and_add_again(self, step.seconds))
            return (yield step)

        return through(gather(self, *args, **options), carry)

    HandOuts._gather = wait  # type: ignore[method-assign]


def lease_by_the_clients_clock() -> None:
    from redset.core.handouts import HandOuts

    claim = HandOuts.claim

    def ahead(self: Any, limit: int, lease: float, *args: Any, **options: Any) -> Any:
        operation = claim(self, limit, lease, *args, **options)
        until = max(0.001, lease + _seconds_ahead())
        return replace(operation, args=[*operation.args[:3], repr(until), *operation.args[4:]]) if lease else operation

    HandOuts.claim = ahead  # type: ignore[method-assign]


def due_by_the_clients_clock() -> None:
    from redset.core.handouts import HandOuts

    claim = HandOuts.claim

    def ahead(self: Any, *args: Any, **options: Any) -> Any:
        operation: Any = claim(self, *args, **options)
        which = f"{operation.args[2]} {_seconds_ahead():.6f}"
        return replace(operation, args=[*operation.args[:2], which, *operation.args[3:]])

    HandOuts.claim = ahead  # type: ignore[method-assign]


def _seconds_ahead() -> float:
    """How far this process' clock is ahead: runs set those of clients apart by replacing what Python calls."""
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


BUGS: dict[str, Bug] = {
    "reserve-without-parking": Bug(
        "What is added again while somebody has it is handed out at once.",
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
        "A take reads what comes first, and then removes it.",
        "handed_out_once",
        ("taken",),
        patch=take_in_two_steps,
    ),
    "ack-without-token": Bug(
        "An ack ends the lease of its item, whoever has it.",
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
    "wait-by-popping": Bug(
        "Who waits for an item does so by a command that removes it, and adds it again to look at it.",
        "nothing_lost",
        ("taken", "leased"),
        patch=wait_by_popping,
    ),
    "repeated-call-made-again": Bug(
        "A hand-out that is sent again, since its reply was lost, takes more.",
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
        "An addition that is sent again, since its reply was lost, adds again what was handed out meanwhile.",
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
        "What a hand-out took that was broken off is not put back.",
        "nothing_lost",
        ("taken", "later"),
        (Override("shared/claims", "roll_back", "free_record"),),
        without=("kill",),
    ),
    "seen-put-back": Bug(
        "Now and then a caller puts back what it has seen.",
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
        "A lease ends when it is over by the clock of the client that took it.",
        "one_lease_at_a_time",
        ("leased", "updated"),
        patch=lease_by_the_clients_clock,
    ),
    "expired-lease-dropped": Bug(
        "An item whose lease ran out does not come back.",
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
        "What was added again while somebody had it goes with the ack.",
        "nothing_lost",
        ("updated",),
        (Override("shared/leases", "parked_to_waiting", "unpark"),),
    ),
    "memory-asked-when-adding-only": Bug(
        "What is done is left out when it is added, and not when somebody else added it by a plain ZADD.",
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
    "value-dropped-at-ack": Bug(
        "An ack removes the value of its item, also when that was added again meanwhile.",
        "nothing_invented",
        ("rows",),
        (Override("shared/values", "drop_values", "function(items) return original(items) end"),),
    ),
    "first-value-stands": Bug(
        "The value of an item that is there already is not replaced.",
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
        "Tokens are counted by each client.",
        "tokens_grow",
        ("leased", "updated"),
        (Override("shared/states", "token_before", "function() return tonumber(ARGV[1]) * 1000 end"),),
    ),
    "due-by-clients-clock": Bug(
        "A scheduled item is due when it is by the clock of the client that takes it.",
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
        "The next tick is an interval after the last was done.",
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
    "look-before-adding": Bug(
        "An item is new when it was not there a moment before it was added.",
        "new_once",
        ("seen",),
        patch=look_before_adding,
    ),
    "last-goes-first": Bug(
        "The highest score goes first.",
        "in_order",
        ("taken", "leased"),
        (Override("shared/waiting", "next_rows", "(function() from_end = not from_end return original end)()"),),
    ),
    "last-is-first": Bug(
        "Whoever asks for the highest score gets the lowest.",
        "in_order",
        ("taken",),
        (Override("shared/waiting", "next_rows", "(function() from_end = false return original end)()"),),
    ),
    "parked-for-ever": Bug(
        "What was added again while somebody had it stays aside after the ack.",
        "nothing_stuck",
        ("updated",),
        (Override("shared/leases", "parked_to_waiting", "function() end"),),
    ),
    "leased-for-ever": Bug(
        "Nobody looks for leases that ran out.",
        "nothing_stuck",
        ("leased", "consumed"),
        (Override("shared/waiting", "read_expired", "function() return {} end"),),
    ),
    "bury-deletes": Bug(
        "What is buried is gone.",
        "nothing_lost",
        ("failing",),
        (Override("shared/leases", "verbs.bury", "function(item) redis.call('HDEL', deliveries, item) end"),),
    ),
    "nack-deletes": Bug(
        "What failed is forgotten.",
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
        "What failed is tried again at once, whatever its backoff.",
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
        "What failed too often is tried again.",
        "attempts_count",
        ("failing",),
        (Override("shared/states", "are_exhausted", "function() return false end"),),
    ),
    "extension-ignored": Bug(
        "An extension is confirmed, and the lease ends as before.",
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
}


class Found(NamedTuple):
    """What a run with a bug was found wanting of."""

    bug: str
    #: How many violations each checker found.
    by: Counter[str]
    #: After how many seconds of the run the first was complete that the right checker found.
    seconds: float | None
    seed: int

    @property
    def caught(self) -> bool:
        return self.by[BUGS[self.bug].checker] > 0


def find(name: str, seconds: float = SECONDS, seed: int = 1) -> Found:
    """Runs with a bug, and judges what happened."""
    # Workers import this module, and load nothing of redset before the bug is planted.
    from chaos.checkers import check
    from chaos.places import Single
    from chaos.runs import run
    from chaos.workloads import PROMISES

    place = Single()
    try:
        with tempfile.TemporaryDirectory(prefix="redset-chaos-", ignore_cleanup_errors=True) as directory:
            history = run(place, seconds, seed, Path(directory), bug=name, pause=PAUSE, without=BUGS[name].without)
    finally:
        place.stop()
    violations = check(history, PROMISES).violations
    mine = [violation for violation in violations if violation.checker == BUGS[name].checker]
    start, end = history.calls[0].invoked, history.calls[-1].invoked
    # That something is lost, or stuck, is known in the end.
    at_the_end = BUGS[name].checker in {"nothing_lost", "nothing_stuck"}
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
