"""From a URL and a name to a set."""

import contextlib
import difflib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from redset import embedded
from redset.cli.exits import UNAVAILABLE, Failure
from redset.connect import connect
from redset.core import registry
from redset.core.clients import is_failure, is_outage
from redset.core.drivers import Driver
from redset.core.registry import SetInfo
from redset.registry import KINDS

__all__ = (
    "Name",
    "Url",
    "connected",
    "known_set",
    "known_sets",
    "make_set",
    "open_known",
    "recorded",
    "refuse_kinds",
    "url_of",
    "url_refused",
)


def connected(context: typer.Context, url: str | None) -> Any:
    """Return a client whose server has answered.

    :raises Failure: it does not answer, or the URL is wrong.
    """
    given, client = url_of(context, url), None
    try:
        # A cluster is contacted at once.
        with url_refused(given):
            client = connect(given)
        context.call_on_close(client.close)
        client.ping()
    except Exception as error:
        if is_outage(error):
            raise Failure(
                f"the server does not answer: {error} Start it, or name another one by --url or $REDSET_URL.",
                UNAVAILABLE,
            ) from None
        # A user may have the rights to use a set and not to send PING.
        if client is None or not (is_failure(error) and str(error).startswith("NOPERM")):
            raise
    return client


@contextlib.contextmanager
def url_refused(given: str | None) -> Iterator[None]:
    """Turn the error of :func:`redset.connect` for a wrong URL into a failure that says where the URL stands."""
    try:
        yield
    except ValueError as error:
        raise Failure(f"{'$REDSET_URL' if given is None else '--url'}: {error}") from None


def url_of(context: typer.Context, url: str | None) -> str | None:
    """Return the URL that was given behind the command, or before it."""
    return context.find_root().obj if url is None else url


def recorded(client: Any, name: str) -> SetInfo | None:
    """Return the registry's record of a set, or None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Failure(f"the name of a set must be UTF-8, not {name!a}") from None
    return _registry(client).perform(registry.info(name))


def known_sets(client: Any) -> list[SetInfo]:
    """Return all registered sets, those without items included."""
    return _registry(client).follow(registry.infos(empty=True))


def _registry(client: Any) -> Driver:
    return Driver(client, *registry.PLACE, recording=False, connections="own")


def known_set(client: Any, name: str) -> SetInfo:
    """Return the record of a set. One that only other programs have added to, by ZADD, is a SortedSet.

    :raises Failure: there is no such set. The message has the closest names.
    """
    about = recorded(client, name)
    if about is not None:
        return about
    if client.exists(name):
        return SetInfo(name, "SortedSet")
    names = [one.name for one in known_sets(client)]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        hint = "'redset ls' lists the sets" if names else "this server has no sets"
    raise Failure(f"there is no set {name!r}: {hint}")


def make_set(client: Any, about: SetInfo, **options: Any) -> Any:
    """Return the set of a record, with these options in addition to those of the record.

    :raises Failure: the record names a kind of set, or options, that this version does not know.
    """
    try:
        return registry.opened(client, about.name, SetInfo(about.name, about.kind, {**about.options, **options}), KINDS)
    except KeyError as error:
        raise Failure(str(error.args[0])) from None


def open_known(client: Any, name: str) -> Any:
    """Return a set that is there, with raw bytes as items."""
    return make_set(client, known_set(client, name))


def refuse_kinds(about: SetInfo, kinds: str, reason: str) -> None:
    """
    :raises Failure: the set is of one of these kinds.
    """
    if about.kind in kinds.split():
        raise Failure(f"{about.name!r} is of the kind {about.kind}, {reason}")


def _complete_name(incomplete: str) -> list[str]:
    """Return the names of sets for the shell's completion. A server that is not there is not started for it."""
    import os

    if not os.environ.get("REDSET_URL") and embedded.status() is None:
        return []
    try:
        return [one.name for one in known_sets(connect(socket_timeout=1)) if one.name.startswith(incomplete)]
    except Exception as error:
        if is_failure(error) or isinstance(error, ValueError):
            return []
        raise


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the set.", autocompletion=_complete_name, show_default=False)
]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="redis[s][+cluster]://host:port/db or unix:///path. Default: $REDSET_URL, else the embedded server.",
        show_default=False,
    ),
]
