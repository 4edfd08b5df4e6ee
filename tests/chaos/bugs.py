"""Seeded bugs: the library is changed in the workers of a run, and the run must be found wanting. ``make chaos-bugs``.

A checker that has never failed proves nothing. Each bug here is one that a queue on Redis could well have; it is
planted by replacing a piece of a script, or a function, before a worker makes its sets.
"""

import argparse
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


class Piece(NamedTuple):
    """Of the text of a script, by its name, and what stands there instead."""

    script: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    #: In a sentence.
    about: str
    #: The rule that must find it.
    checker: str
    #: The sets of a run where it shows.
    sets: tuple[str, ...]
    pieces: tuple[Piece, ...] = ()
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
    if bug.pieces:
        _replace(bug.pieces)
    bug.patch()


def changed(pieces: Sequence[Piece]) -> dict[str, str]:
    """The texts of all scripts, by name, with these pieces replaced.

    :raises AssertionError: a piece is not there exactly once, so the bug would be another one, or none.
    """
    folder = Path(str(files("redset.core.scripts")))
    texts = {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.lua")
    }
    for piece in pieces:
        times = texts[piece.script].count(piece.old)
        assert times == 1, f"{piece.script}.lua has {times} times: {piece.old}"
        texts[piece.script] = texts[piece.script].replace(piece.old, piece.new)
    return texts


def _replace(pieces: Sequence[Piece]) -> None:
    """Loads all scripts again, from changed texts."""
    scripts = import_module("redset.core.scripts")
    for face in ("redset.sets", "redset.aio"):
        import_module(face)
    texts = changed(pieces)
    names = {scripts.Script(name).sha: name for name in texts}
    with tempfile.TemporaryDirectory() as edited:
        for name, text in texts.items():
            path = Path(edited, f"{name}.lua")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        with mock.patch.object(scripts, "files", return_value=Path(edited)):
            for script in _loaded(scripts.Script):
                new = scripts.Script(names[script.sha])
                script.body, script.sha = new.body, new.sha


def _loaded(kind: type[Any]) -> list[Any]:
    """Each object of this kind that a module of the library has made."""
    modules = [module for name, module in sys.modules.items() if name.startswith("redset.core.")]
    found = (value for module in modules for value in vars(module).values() if isinstance(value, kind))
    return list({id(value): value for value in found}.values())


# Functions that take the place of others


def take_in_two_steps() -> None:
    from redset.core.handouts import HandOuts
    from redset.core.operations import Operation, Plan

    gather = HandOuts._gather

    def take(self: Any, num: int, lease: float, wait: float | None, **options: Any) -> Plan[list[Any]]:
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
        return replace(operation, args=[*operation.args[:2], repr(until), *operation.args[3:]]) if lease else operation

    HandOuts.claim = ahead  # type: ignore[method-assign]


def due_by_the_clients_clock() -> None:
    from redset.core.handouts import HandOuts

    claim = HandOuts.claim

    def ahead(self: Any, *args: Any, **options: Any) -> Any:
        operation: Any = claim(self, *args, **options)
        which = f"{operation.args[1]} {_seconds_ahead():.6f}"
        return replace(operation, args=[operation.args[0], which, *operation.args[2:]])

    HandOuts.claim = ahead  # type: ignore[method-assign]


def _seconds_ahead() -> float:
    """How far this process' clock is ahead: runs set those of clients apart by replacing what Python calls."""
    return time.time() - time.clock_gettime(time.CLOCK_REALTIME)


def look_before_adding() -> None:
    from redset import aio, sets
    from redset.core.expiring import Expiring
    from redset.core.operations import Plan, Sleep

    def plan(expiring: Expiring[Any], item: Any, ttl: float | None) -> Plan[bool]:
        left = yield expiring.ttl(item)
        yield Sleep(0.01)
        yield expiring.add(item, ttl)
        return left is None

    def add(self: Any, item: Any, ttl: float | None = None) -> Any:
        return self._driver.follow(plan(self._expiring, item, ttl))

    sets.ExpiringSet.add = add  # type: ignore[method-assign]
    aio.ExpiringSet.add = add  # type: ignore[method-assign]


BUGS: dict[str, Bug] = {
    "reserve-without-parking": Bug(
        "What is added again while somebody has it is handed out at once.",
        "one_lease_at_a_time",
        ("updated", "pages"),
        (
            Piece(
                "handout",
                "        redis.call('ZADD', parked, score, item)\n        return false\n",
                "        redis.call('ZREM', parked, item)\n",
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
            Piece("shared/finished", "known == delivery and deadline", "known and deadline"),
            Piece("shared/leases", "if known[i] == given_out[i] and deadline", "if known[i] and deadline"),
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
        (Piece("shared/calls", "if last == number then repeated = record else unseen = record end", ""),),
        without=("kill",),
    ),
    "repeated-add-made-again": Bug(
        "An addition that is sent again, since its reply was lost, adds again what was handed out meanwhile.",
        "handed_out_once",
        ("taken",),
        (
            Piece(
                "add",
                "-- include calls\n",
                "ARGV[1] = '0'\n-- include calls\n",
            ),
        ),
    ),
    "unseen-not-put-back": Bug(
        "What a hand-out took that was broken off is not put back.",
        "nothing_lost",
        ("taken", "later"),
        (Piece("shared/unseen", "if unseen.kind == 'done' then return end", "if true then return end"),),
        without=("kill",),
    ),
    "seen-put-back": Bug(
        "Now and then a caller puts back what it has seen.",
        "handed_out_once",
        ("taken",),
        (
            Piece(
                "shared/calls",
                "if last > ARGV[2] then",
                "if last > (string.sub(ARGV[1], -1) == '7' and '' or ARGV[2]) then",
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
            Piece(
                "shared/leases",
                "try_again(item, attempts, score, 0, parked_score, held and 'expired')",
                "redis.call('HDEL', deliveries, item)",
            ),
        ),
    ),
    "parked-dropped-on-ack": Bug(
        "What was added again while somebody had it goes with the ack.",
        "nothing_lost",
        ("updated",),
        (Piece("shared/leases", "if parked_score and not done then wait_again(item, parked_score) end", ""),),
    ),
    "memory-asked-when-adding-only": Bug(
        "What is done is left out when it is added, and not when somebody else added it by a plain ZADD.",
        "remembered_once",
        ("pages",),
        (
            Piece("handout", "            if dones[i] then return nil end\n", ""),
            Piece("handout", "done and are_done(memories_of(items)) or {}\n    local known", "{}\n    local known"),
        ),
    ),
    "value-dropped-at-ack": Bug(
        "An ack removes the value of its item, also when that was added again meanwhile.",
        "nothing_invented",
        ("rows",),
        (Piece("shared/finished", "if not scores[i] then gone[#gone + 1] = item end", "gone[#gone + 1] = item"),),
    ),
    "first-value-stands": Bug(
        "The value of an item that is there already is not replaced.",
        "fresh_values",
        ("rows",),
        (
            Piece(
                "add",
                "redis.call('HSET', values, unpack(fields))",
                "for i = 1, field_count, 2 do redis.call('HSETNX', values, fields[i], fields[i + 1]) end",
            ),
        ),
    ),
    "tokens-by-the-caller": Bug(
        "Tokens are counted by each client.",
        "tokens_grow",
        ("leased", "updated"),
        (
            Piece(
                "handout",
                "math.max(tonumber(last_token or 0), moment[1] * 1000000 + moment[2] - 1)",
                "tonumber(number) * 1000",
            ),
        ),
    ),
    "due-by-clients-clock": Bug(
        "A scheduled item is due when it is by the clock of the client that takes it.",
        "not_before_its_time",
        ("later",),
        (
            Piece(
                "handout",
                "string.sub(which, 1, 3) == 'due', #which > 3\n",
                "string.sub(which, 1, 3) == 'due', string.find(which, 'last', 1, true)\n"
                "local by_client = string.format('%.6f', time + tonumber(string.match(which, '%S+$')))\n",
            ),
            Piece(
                "handout",
                "'-inf', clock, 'BYSCORE', 'LIMIT', '0', count, 'WITHSCORES')\n    elseif",
                "'-inf', by_client, 'BYSCORE', 'LIMIT', '0', count, 'WITHSCORES')\n    elseif",
            ),
        ),
        patch=due_by_the_clients_clock,
    ),
    "tick-planned-from-now": Bug(
        "The next tick is an interval after the last was done.",
        "ticks_once",
        ("feeds",),
        (Piece("shared/ticks", "local tick = from + every\n", "local tick = time + every\n"),),
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
        (
            Piece(
                "handout",
                "string.sub(which, 1, 3) == 'due', #which > 3\n",
                "string.sub(which, 1, 3) == 'due', #which == 3\n",
            ),
        ),
    ),
    "last-is-first": Bug(
        "Whoever asks for the highest score gets the lowest.",
        "in_order",
        ("taken",),
        (
            Piece(
                "handout",
                "string.sub(which, 1, 3) == 'due', #which > 3\n",
                "string.sub(which, 1, 3) == 'due', false\n",
            ),
        ),
    ),
    "parked-for-ever": Bug(
        "What was added again while somebody had it stays aside after the ack.",
        "nothing_stuck",
        ("updated",),
        (
            Piece("shared/leases", "if score then redis.call('ZREM', parked, item) end", ""),
            Piece("shared/leases", "if parked_score and not done then wait_again(item, parked_score) end", ""),
        ),
    ),
    "leased-for-ever": Bug(
        "Nobody looks for leases that ran out.",
        "nothing_stuck",
        ("leased", "consumed"),
        (Piece("shared/leases", "'-' .. clock, clock, 'BYSCORE'", "'-' .. clock, '0', 'BYSCORE'"),),
    ),
    "bury-deletes": Bug(
        "What is buried is gone.",
        "nothing_lost",
        ("failing",),
        (
            Piece(
                "shared/leases",
                "    bury = function(item, attempts, score, parked_score, seconds, reason)\n"
                "        give_up(item, attempts, score, reason, parked_score)",
                "    bury = function(item, attempts, score, parked_score, seconds, reason)\n"
                "        redis.call('HDEL', deliveries, item)",
            ),
        ),
    ),
    "nack-deletes": Bug(
        "What failed is forgotten.",
        "nothing_lost",
        ("leased", "failing"),
        (
            Piece(
                "shared/leases",
                "            try_again(item, attempts, score, seconds, parked_score)",
                "            redis.call('HDEL', deliveries, item)",
            ),
        ),
    ),
    "no-backoff": Bug(
        "What failed is tried again at once, whatever its backoff.",
        "handed_out_once",
        ("leased", "failing"),
        (Piece("shared/leases", "if parked_score or seconds <= 0 then", "if true then"),),
    ),
    "no-last-attempt": Bug(
        "What failed too often is tried again.",
        "attempts_count",
        ("failing",),
        (
            Piece(
                "shared/leases",
                "max_attempts > 0 and attempts >= max_attempts then\n            give_up(item, attempts, score, reason",
                "false then\n            give_up(item, attempts, score, reason",
            ),
        ),
    ),
    "extension-ignored": Bug(
        "An extension is confirmed, and the lease ends as before.",
        "one_lease_at_a_time",
        ("leased",),
        (
            Piece(
                "shared/leases",
                "redis.call('ZADD', leased, after(seconds), item)\n                brought_back",
                "redis.call('ZADD', leased, deadlines[i], item)\n                brought_back",
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
