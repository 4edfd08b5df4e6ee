"""Following a plan of redset step by step, with something done at each step. Loads nothing of redset."""

from collections.abc import Callable, Generator
from typing import Any

__all__ = ("Steps", "through")

Steps = Generator[Any, Any, Any]


def through(plan: Steps, carry: Callable[[Any], Steps]) -> Steps:
    """Follow ``plan``: ``carry`` makes each of its steps, and its result or error goes to the plan."""
    try:
        step = next(plan)
        while True:
            try:
                answer = yield from carry(step)
            except BaseException as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        return end.value
