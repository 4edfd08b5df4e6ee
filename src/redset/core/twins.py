"""Names and docstrings of the asyncio face, which are those of the synchronous one."""

from collections.abc import Callable
from inspect import getdoc
from typing import Any, TypeVar

__all__ = ("described_by", "told_by")

Face = TypeVar("Face", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


def told_by(original: type) -> Callable[[Face], Face]:
    """Return a decorator that gives an asyncio class the name of ``original``, and its methods the docstrings."""

    def tell(twin: Face) -> Face:
        twin.__name__ = twin.__qualname__ = original.__name__
        twin.__doc__ = f"The asyncio face of :class:`{original.__module__}.{original.__name__}`.\n\n{getdoc(original)}"
        for name, member in vars(twin).items():
            if not getattr(member, "__doc__", None):
                member.__doc__ = getattr(getattr(original, name, None), "__doc__", None)
        return twin

    return tell


def described_by(original: Callable[..., Any]) -> Callable[[Function], Function]:
    """Return a decorator that gives an awaited function the docstring of ``original``."""

    def describe(twin: Function) -> Function:
        twin.__doc__ = original.__doc__
        return twin

    return describe
