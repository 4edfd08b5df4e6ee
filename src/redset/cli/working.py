"""The command ``work``."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from redset.cli.connecting import Name, Url, connected, known_set, recorded, refuse_kinds, url_of
from redset.cli.exits import Failure
from redset.cli.options import Halt, Options
from redset.cli.values import duration
from redset.core.registry import SetInfo

__all__ = ("register",)

#: Attempts of an item of a set that has no limit of its own: a command that always fails must come to an end.
_RETRIES = 3


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, short_help="Run a command for each item.")(work)


def work(
    context: typer.Context,
    name: Name,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND [WORD]...", help="{} stands for the item.", show_default=False)
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, help="Commands at a time. Default: one per core.", show_default=False
        ),
    ] = None,
    lease: Annotated[
        str, typer.Option(metavar="DURATION", help="How long after a crash another worker claims the item.")
    ] = "60s",
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Attempts in all. Default: the limit of the set, else 3.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Kill a command after that. It has failed.", show_default=False),
    ] = None,
    kill_after: Annotated[
        str, typer.Option("--kill-after", "-k", metavar="DURATION", help="The time between SIGTERM and SIGKILL.")
    ] = "5s",
    halt: Annotated[
        str, typer.Option(metavar="WHEN", help="Stop early: soon,fail=3, now,fail=1, soon,success=1, soon,done=100.")
    ] = "never",
    forever: Annotated[bool, typer.Option("--forever", help="Wait for items when there are none.")] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="Feed the item to the command's standard input.")] = False,
    shell: Annotated[bool, typer.Option("--shell", help="Run the words by /bin/sh. {} is quoted for it.")] = False,
    line_buffer: Annotated[
        bool, typer.Option("--line-buffer", "--lb", help="Print lines as they come, not grouped by item.")
    ] = False,
    tag: Annotated[bool, typer.Option("--tag", help="Print the item and a tab in front of each line.")] = False,
    joblog: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Log each command, in the columns of GNU parallel.", show_default=False),
    ] = None,
    url: Url = None,
) -> None:
    """Run a command for each item: a crash-safe xargs over any number of machines.

    Run the same line on as many machines as you like. Each item goes to one of them, under a lease that is extended
    while its command runs. If a machine dies, its items go to another one when the lease expires. It ends when nothing
    waits, is delayed or is leased anywhere.

    {} stands for the item; without one, the item is the last argument. The command finds REDSET_ITEM, REDSET_ATTEMPT
    and REDSET_TOKEN in its environment.

    \b
    Exit code of the command:
        0          the item is done
        75         try later; no attempt is counted
        65         the item is bad: it becomes a dead letter
        126, 127   the command cannot be run: work stops, and the item is requeued
        others     the attempt has failed; the last line of stderr is the reason

    \b
    Exit code of work, as of xargs:
        0          all items were handled
        123        an item failed and was not done later
        124        a command exited with 255: work has stopped
        125        a command was killed by a signal
        126, 127   the command cannot be run, is not there

    SIGINT or SIGTERM once: claim no more items, and let running commands end.
    Twice: kill the commands and requeue their items.

    \b
    Examples:
        redset work photos -- convert {} -resize 50% small/{}
        redset work urls -j 8 --timeout 1m --retries 5 -- curl -fsSO {}
        redset work mails --stdin --forever -- sendmail -t
        redset work logs --shell -- 'gzip -c {} > {}.gz'
    """
    if not command[0]:
        raise Failure("the command is empty")
    if sys.platform == "win32":
        raise Failure("redset work does not run on Windows, which has no process groups: consume() in Python does")
    times = {"--lease": duration(lease, "--lease"), "--kill-after": duration(kill_after, "--kill-after")}
    if timeout is not None:
        times["--timeout"] = duration(timeout, "--timeout")
    for option in ("--lease", "--timeout"):
        if times.get(option) == 0:
            raise Failure(f"{option} must be more than 0")
    when = Halt.read(halt)
    client = connected(context, url)
    # A worker that waits for items may be there before its producers.
    about = known_set(client, name) if not forever else recorded(client, name) or SetInfo(name, "SortedSet")
    refuse_kinds(about, "ExpiringSet", "whose items are not claimed")
    if retries is None and about.kind != "PeriodicSet":
        retries = about.options.get("max_attempts") or _RETRIES
    options = Options(
        about=about,
        url=url_of(context, url),
        words=tuple(map(os.fsencode, command)),
        jobs=jobs or _cores(),
        lease=times["--lease"],
        retries=retries,
        timeout=times.get("--timeout"),
        grace=times["--kill-after"],
        halt=when,
        forever=forever,
        stdin=stdin,
        shell=shell,
        line_buffer=line_buffer,
        tag=tag,
        joblog=joblog,
    )
    # asyncio and the other face take a tenth of a second to import.
    from redset.cli.workers import work_off

    code = asyncio.run(work_off(options))
    if code:
        raise typer.Exit(code)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
