"""The command ``completion``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from redset.cli.exits import Failure
from redset.cli.writing import flush, put

__all__ = ("register",)

#: The shells, and where each reads a script from; the words behind ``$`` are the shell's.
_SHELLS = ("bash", "zsh", "fish")


def register(app: typer.Typer) -> None:
    app.command(short_help="Print a script for the shell.")(completion)
    if "_REDSET_COMPLETE" in os.environ:
        # The script of a shell asks. Typer does this itself only if it also adds options that change a user's files.
        from typer._completion_classes import completion_init

        completion_init()


def completion(
    shell: Annotated[
        str | None, typer.Argument(metavar="[bash|zsh|fish]", help="Default: the shell in $SHELL.", show_default=False)
    ] = None,
) -> None:
    """Print a script that lets a shell complete commands, options and the names of sets.

    \b
    Examples:
        redset completion bash >> ~/.bashrc
        redset completion zsh > ~/.zfunc/_redset
        redset completion fish > ~/.config/fish/completions/redset.fish
    """
    from typer._completion_shared import get_completion_script

    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise Failure(f"there is completion for {', '.join(_SHELLS)}; {name!r} is none of them")
    put(get_completion_script(prog_name="redset", complete_var="_REDSET_COMPLETE", shell=name).encode() + b"\n")
    flush()
