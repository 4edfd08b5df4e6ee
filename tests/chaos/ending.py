"""How a command of a run ends when it cannot go on: with one line, and an exit code that tells what kept it."""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Nothing here that loads redset, before a bug is planted.

__all__ = ("ending", "make_writable", "seconds")


def ending(program: str, command: Callable[[], int]) -> int:
    """The exit code: the command's own, 1 for a worker that crashed, 2 for what cannot be had, 130 for a Ctrl-C."""
    from chaos.crew import Crashed
    from servers import Unavailable

    try:
        return command()
    except KeyboardInterrupt:
        return _ended(program, "interrupted", 130)
    except Unavailable as reason:
        return _ended(program, str(reason), 2)
    except Crashed as crash:
        return _ended(program, _in_a_line(str(crash)), 1)


def seconds(text: str) -> float:
    """An option's value.

    :raises ArgumentTypeError: it would end before it begins, or never.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return number


def make_writable(directory: Path) -> None:
    """
    :raises OSError: nothing can be written there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass


def _ended(program: str, why: str, code: int) -> int:
    print(f"{program}: {why}", file=sys.stderr)
    return code


def _in_a_line(crash: str) -> str:
    """Who it was, and the error; its whole traceback belongs to what the run has found, and is told with that."""
    first, *others = crash.strip().splitlines()
    if not others:
        return first
    print(crash)
    return f"{first.partition(':')[0]} met {others[-1]}"
