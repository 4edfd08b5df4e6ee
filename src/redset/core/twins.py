"""Names and docstrings of the asyncio face, which are those of the synchronous one."""

from collections.abc import Callable
from inspect import getdoc
from typing import TypeVar

__all__ = ("told_by",)

Face = TypeVar("Face", bound=type)


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
