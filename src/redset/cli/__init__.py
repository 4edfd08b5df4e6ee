"""The ``redset`` command."""

import sys

from redset.exceptions import RedsetError

__all__ = ("main",)


def main() -> None:
    """Run the command line. Exit codes: 0, 1 after a failure, 2 for wrong usage, 130 after a Ctrl-C."""
    try:
        from redset.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit('redset: the command line is an extra: pip install "redset[cli]"')
    try:
        app(prog_name="redset")
    except RedsetError as error:
        sys.exit(f"redset: {error}")
