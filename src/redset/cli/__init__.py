"""The ``redset`` command."""

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command line. docs/howto/command-line.md lists the exit codes."""
    try:
        from redset.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit('redset: the command line is an extra: pip install "redset[cli]"')
    app(prog_name="redset")
