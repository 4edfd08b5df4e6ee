"""The commands."""

import signal
import sys
import sysconfig
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from redset import embedded
from redset.cli.demo import run
from redset.cli.inputs import Input, Lines, Tree, waiting_lines
from redset.cli.web import add_web

__all__ = ("app",)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
server = typer.Typer(no_args_is_help=True, help="The embedded server, shared by all your processes.")
app.add_typer(server, name="server")
add_web(app)


@app.callback()
def redset() -> None:
    """Distributed, deduplicating sorted sets in Redis or Valkey."""


@app.command()
def demo(
    producers: Annotated[int, typer.Option(min=1, help="Processes that each add all of the input.")] = 3,
    consumers: Annotated[int, typer.Option(min=1, help="Processes that claim items and hash them.")] = 4,
    path: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A directory to use instead of Python's own."),
    ] = None,
) -> None:
    """Let many processes add the same items and many share the work, kill one, and check that each was done once.

    The items are the files of this Python's standard library, the files under --path, or the lines on standard
    input: redset demo < lines.txt. The server is the one at $REDSET_URL, else the embedded one.
    """
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
    """Show the state of the embedded server. Exit code 1 if it does not run."""
    found = embedded.status()
    if found is None:
        print(f"The embedded server is not running; its data are in {embedded.data_directory()}")
        raise typer.Exit(1)
    print(f"The embedded server is running: {found.version}, process {found.pid}, for {found.uptime:,} s")
    print(f"  url   {found.url}")
    print(f"  data  {found.directory} ({found.keys:,} keys, {found.memory:,} bytes in memory)")


@server.command()
def stop() -> None:
    """Stop the embedded server and keep its data."""
    print("Stopped; the data stay." if embedded.stop() else "The embedded server was not running.")


def _end(number: int, _frame: object) -> NoReturn:
    """Exit by an exception, so that contexts clean up."""
    sys.exit(128 + number)
