"""A progress bar on stderr, for commands that take longer than a second."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redset.cli.writing import is_terminal

__all__ = ("Bar", "progress_bar")

#: Seconds before a bar is shown.
_PATIENCE = 1.0


class Bar:
    """A bar that is shown a second after it was made, if stderr is a terminal."""

    def __init__(self, title: str, *, hidden: bool = False, by_itself: bool = True) -> None:
        """
        :param by_itself: whether a thread redraws it; else only :meth:`update` does.
        """
        self._title = title
        self._began = time.monotonic()
        self.is_hidden = hidden or not is_terminal(sys.stderr)
        self._by_itself = by_itself
        self._progress: Any = None
        self._task: Any = None

    def update(self, done: int, total: int | None, text: str) -> None:
        """Show how far the command is."""
        if self.is_hidden or (self._progress is None and time.monotonic() - self._began < _PATIENCE):
            return
        if self._progress is None:
            self._start()
        self._progress.update(self._task, completed=done, total=total, text=text, refresh=not self._by_itself)

    def erase(self) -> None:
        """Clear the line of the bar, so that something can be printed there. The next update draws it again."""
        if self._progress is not None:
            os.write(2, b"\r\x1b[2K")

    def close(self) -> None:
        """Remove the bar, and leave the terminal clean."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=self._by_itself)
        self._task = self._progress.add_task(self._title, text="")
        self._progress.start()


@contextmanager
def progress_bar(title: str, *, hidden: bool = False, by_itself: bool = True) -> Iterator[Bar]:
    """Yield a bar, and remove it at the end of the block; see :class:`Bar`."""
    bar = Bar(title, hidden=hidden, by_itself=by_itself)
    try:
        yield bar
    finally:
        bar.close()
