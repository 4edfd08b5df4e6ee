"""The commands."""

import signal
import sys
import sysconfig
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import redset
from redset import embedded
from redset.cli import adding, claiming, completing, looking, steering, watching, working
from redset.cli.connecting import Url
from redset.cli.dead import dead
from redset.cli.exits import INTERRUPTED, Failure, failure_of
from redset.cli.inputs import Input, Lines, Tree, waiting_lines
from redset.cli.web import add_web
from redset.cli.writing import put_lines, say

__all__ = ("app",)


class Commands(TyperGroup):
    """Ends with one line and an exit code where a command raises an error of redset or of the client library."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            say(str(failure))
            sys.exit(failure.code)


# Without markup, the examples in the help stay as they are written.
app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
server = typer.Typer(no_args_is_help=True, help="Show or stop the embedded server.")


def _print_version(value: bool) -> None:  # noqa: FBT001 # typer passes it so
    if value:
        print(f"redset {redset.__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    url: Url = None,
    version: Annotated[  # noqa: ARG001 # its callback prints it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distributed, deduplicating sorted sets in Redis or Valkey.

    Data are printed on standard output, words on standard error. Exit codes: 0 done; 1 no (empty, not there);
    2 wrong usage; 65 input that cannot be read; 69 no server; 74 output that cannot be written; 75 the set or the
    server is full; 77 no permission. 'redset work' has those of xargs.

    \b
    Example:
        redset add jobs read write
        redset work jobs -- echo working on {}
    """
    context.obj = url


adding.register(app)
claiming.register(app)
working.register(app)
looking.register(app)
app.add_typer(dead, name="dead")
steering.register(app)
completing.register(app)
watching.register(app)
add_web(app)
app.add_typer(server, name="server")


@app.command(short_help="See it work: processes share work, one is killed.")
def demo(
    context: typer.Context,
    producers: Annotated[int, typer.Option(min=1, help="Processes that each add all of the input.")] = 3,
    consumers: Annotated[int, typer.Option(min=1, help="Processes that claim items and hash them.")] = 4,
    path: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A directory to use instead of Python's own."),
    ] = None,
) -> None:
    """Let many processes add the same items and many share the work, kill one, and check that each was done once.

    The items are the files of this Python's standard library, the files under --path, or the lines on standard
    input. The server is the one at $REDSET_URL, else the embedded one.

    \b
    Examples:
        redset demo
        redset demo --consumers 8 < lines.txt
    """
    if context.find_root().obj is not None:
        raise Failure("the demo takes its server from $REDSET_URL, not from --url")
    # The demo and rich take a tenth of a second to import, which the other commands need not pay.
    from rich.console import Console

    from redset.cli.demo import run

    signal.signal(signal.SIGTERM, _end)
    console = Console()
    with waiting_lines(None if path else sys.stdin) as lines:
        source: Input
        if lines is not None:
            source = Lines(lines)
        elif path is not None:
            source = Tree(path.resolve())
        else:
            source = Tree(Path(sysconfig.get_path("stdlib")), without=("site-packages", "dist-packages"))
        correct = run(source, producers, consumers, console)
    raise typer.Exit(not correct)


@server.command()
def status() -> None:
    """Show the state of the embedded server. Exit code 1 if it does not run.

    \b
    Example:
        redset server status
    """
    found = embedded.status()
    if found is None:
        put_lines(f"The embedded server is not running; its data are in {embedded.data_directory()}")
        raise typer.Exit(1)
    put_lines(
        f"The embedded server is running: {found.version}, process {found.pid}, for {found.uptime:,} s",
        f"  url   {found.url}",
        f"  data  {found.directory} ({found.keys:,} keys, {found.memory:,} bytes in memory)",
    )


@server.command()
def stop() -> None:
    """Stop the embedded server and keep its data.

    \b
    Example:
        redset server stop
    """
    put_lines("Stopped; the data stay." if embedded.stop() else "The embedded server was not running.")


def _end(number: int, _frame: object) -> NoReturn:
    """Exit by an exception, so that contexts clean up."""
    sys.exit(128 + number)
