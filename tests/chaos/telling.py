"""A violation in words, with all that was done with the item."""

from collections.abc import Iterator

from chaos.checkers import Violation
from chaos.history import Call, History

__all__ = ("told",)


def told(violation: Violation, history: History) -> Iterator[str]:
    """Line by line, the calls in the order of their invocations."""
    yield f"{violation.checker} of {violation.set}: {violation.what}"
    shared = set.intersection(*map(_items, violation.calls)) if violation.calls else set()
    calls = [call for call in history.of(violation.set) if shared & _items(call)] if shared else violation.calls
    for call in calls:
        yield _described(call, shared, history.calls[0].invoked)


def _items(call: Call) -> set[str]:
    return {*call.items, *(row.item for row in call.rows)}


def _described(call: Call, items: set[str], start: float) -> str:
    until = "..." if call.completed is None else f"{call.completed - start:.3f}"
    rows = [tuple(row) for row in call.rows if not items or row.item in items]
    words = [call.process, call.name, *call.items, *map(str, call.tokens), str(call.given or "")]
    return f"  {call.invoked - start:8.3f} - {until:8} {' '.join(words)}: {call.outcome} {call.error} {rows or ''}"
