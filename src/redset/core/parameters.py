"""The keyword parameters of the sets' constructors: each is declared here once, with its type and its default.

A constructor takes those that it needs as ``**options: Unpack[SortedOptions[T]]``, which type checkers and editors
expand. :func:`expanded` does the same for a running program. :class:`redset.SortedSet` describes them.
"""

import inspect
import random
from collections.abc import Callable
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    TypedDict,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from redset.core.definition import POLL, Duplicates, Turns, WhileLeased
from redset.core.grouping import Limit
from redset.core.pools import Choice
from redset.core.shards.layout import ShardCount
from redset.core.times import Duration

__all__ = (
    "CallOptions",
    "ExpiringOptions",
    "PeriodicOptions",
    "SortedOptions",
    "T",
    "expanded",
    "exponential_backoff",
    "one_of_duplicates",
    "one_of_turns",
    "one_of_while_leased",
)

if TYPE_CHECKING:
    # The items of a set without a serializer are str. At run time nothing is imported for this.
    from typing_extensions import TypeVar as TypeVarWithDefault

    T = TypeVarWithDefault("T", default=str)
else:
    T = TypeVar("T")
Constructor = TypeVar("Constructor", bound=Callable[..., None])


def exponential_backoff(attempt: int) -> float:
    """Return a random delay of up to 1 s after the first failure, 2 s after the second, 4 s …, at most an hour.

    Full jitter: each delay up to the limit is equally likely, so that items that failed together are not retried
    together (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    :param attempt: the number of the failed attempt, from 1.
    :returns: seconds.
    """
    return random.uniform(0, min(3600.0, 2.0 ** min(attempt - 1, 12)))


def one_of_duplicates(value: Any) -> Duplicates:
    """Return ``value``, checked.

    :raises ValueError: it is no such option.
    """
    found: Duplicates = _one_of(Duplicates, value, "duplicates")
    return found


def one_of_while_leased(value: Any) -> WhileLeased:
    """Return ``value``, checked.

    :raises ValueError: it is no such option.
    """
    found: WhileLeased = _one_of(WhileLeased, value, "while_leased")
    return found


def one_of_turns(value: Any, *, grouped: bool) -> Turns:
    """Return ``value``, checked.

    :raises ValueError: it is no such option, or the set has no groups whose turns could be fair.
    """
    found: Turns = _one_of(Turns, value, "turns")
    if found == "fair" and not grouped:
        raise ValueError(f"turns must come with group, and turns={found!r} was given without it")
    return found


def _one_of(literal: Any, value: Any, what: str) -> Any:
    options = get_args(literal)
    if value not in options:
        *others, last = map(repr, options)
        raise ValueError(f"{what} must be {', '.join(others)} or {last}, not {value!r}")
    return value


class CallOptions(TypedDict, total=False):
    """How calls are sent, and where the items are: for every kind of set. Behind each type stands the default."""

    retry_safe: Annotated[bool, True]
    connections: Annotated[Choice, "own"]
    shards: Annotated[ShardCount, None]


class ClaimOptions(TypedDict, Generic[T], total=False):
    """The handling of items that fail, and the identity of items: for sets whose items are claimed."""

    max_attempts: Annotated[int | None, None]
    backoff: Annotated[Callable[[int], Duration], exponential_backoff]
    max_dead: Annotated[int | None, None]
    key: Annotated[Callable[[T], Any] | None, None]
    poll: Annotated[Duration, POLL]


class DigestOption(TypedDict, total=False):
    """For sets that remember items: finished ones, or all."""

    digest: Annotated[bool, False]


class AdditionOptions(TypedDict, total=False):
    """The handling of additions of known items: for sets whose items are done at some time."""

    remember: Annotated[Duration | None, None]
    duplicates: Annotated[Duplicates, "update"]
    while_leased: Annotated[WhileLeased, "park"]


class GroupOptions(TypedDict, Generic[T], total=False):
    """The groups of items: for sets whose claims get the item with the lowest score."""

    group: Annotated[Callable[[Any], Any] | None, None]
    per_group: Annotated[Limit | None, None]
    turns: Annotated[Turns, "score"]


class SortedOptions(
    ClaimOptions[T], AdditionOptions, GroupOptions[T], DigestOption, CallOptions, Generic[T], total=False
):
    """Those of a sorted set."""


class PeriodicOptions(ClaimOptions[T], CallOptions, Generic[T], total=False):
    """Those of a periodic set."""

    jitter: Annotated[Duration, 0]


class ExpiringOptions(DigestOption, CallOptions, total=False):
    """Those of an expiring set."""


def expanded(constructor: Constructor) -> Constructor:
    """Have a constructor take the parameters that the TypedDict of its ``**options`` declares, and no others.

    ``inspect.signature`` then names each of them, and the constructor is given the defaults of those that are missing.
    """
    signature = _expanded_signature(constructor)
    parameters = signature.parameters
    defaults = {one.name: one.default for one in parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY}

    @wraps(constructor)
    def construct(self: Any, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in parameters:
                raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
        constructor(self, *args, **defaults | options)

    construct.__signature__ = signature  # type: ignore[attr-defined] # inspect.signature looks there
    return cast("Constructor", construct)


def _expanded_signature(constructor: Callable[..., None]) -> inspect.Signature:
    signature = inspect.signature(constructor)
    *parameters, options = signature.parameters.values()
    (declaration,) = get_args(options.annotation)
    declared = get_type_hints(get_origin(declaration) or declaration, include_extras=True)
    for name, annotation in declared.items():
        kind, default = get_args(annotation)
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    return signature.replace(parameters=parameters)
