"""The choices of a run: all of them in turn, or some at random."""

import random
from collections.abc import Callable, Iterator, Sequence


class Choices:
    """Makes the choices of one run: first those of a prefix, then the first option of each, or any."""

    def __init__(self, prefix: Sequence[int] = (), rng: random.Random | None = None) -> None:
        self._prefix = prefix
        self._rng = rng
        #: What was chosen, and out of how many.
        self.made: list[tuple[int, int]] = []

    def __call__(self, options: int, usual: int = 1) -> int:
        """Choose one of so many options. At random, one of the first ``usual`` is chosen half of the time."""
        at = len(self.made)
        if at < len(self._prefix):
            choice = self._prefix[at]
        elif self._rng is None:
            choice = 0
        else:
            choice = self._rng.randrange(usual if usual and self._rng.random() < 0.5 else options)
        assert choice < options, "a run must be determined by its choices"
        self.made.append((choice, options))
        return choice

    @property
    def chosen(self) -> list[int]:
        return [choice for choice, _ in self.made]


def every_run(run: Callable[[Choices], None], first: Sequence[int] = ()) -> Iterator[Choices]:
    """Run with every sequence of choices, depth first. Yield the choices of each run."""
    prefix: list[int] | None = list(first)
    while prefix is not None:
        choices = Choices(prefix)
        run(choices)
        yield choices
        prefix = _next_prefix(choices)


def _next_prefix(choices: Choices) -> list[int] | None:
    made = choices.made
    for at in range(len(made) - 1, -1, -1):
        choice, options = made[at]
        if choice + 1 < options:
            return [*choices.chosen[:at], choice + 1]
    return None
