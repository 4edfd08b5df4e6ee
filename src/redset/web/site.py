"""The pages and their addresses.

Every link is relative to the page that has it, so the application works under any prefix.
"""

import asyncio
import functools
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from redset import Key, Limit, RedsetError, __version__
from redset.core.clients import is_failure
from redset.core.overview import Overview, Row
from redset.core.registry import SetInfo
from redset.escapes import escaped, unescaped
from redset.web.actions import (
    Progress,
    Refused,
    Target,
    apply,
    can_end_delay,
    named,
    reason_of,
    step,
    target_of,
)
from redset.web.charts import chart, sparkline
from redset.web.door import Door
from redset.web.guard import ALLOWED
from redset.web.rates import CLAIMS, FAILURES, rates
from redset.web.rules import ACTIONS
from redset.web.texts import Cut, cut, duration, encoded, kind_digest, kind_of, name_in_url, number
from redset.web.urgency import order, troubles

__all__ = ("site",)

log = logging.getLogger("redset")

#: The number of sets on a page, and of items.
SETS = 50
ITEMS = 50
#: The number of bytes of an item that are read for a page: 200 characters have no more.
BYTES = 800
#: The number of newest dead letters whose reasons are counted, the number of bytes of each, and of kinds shown.
REASONS = 1000
REASON_BYTES = 400
KINDS = 20
#: The number of groups that are shown.
GROUPS = 100
#: The largest form.
LARGEST_FORM = 64 * 1024
#: The states with rows to show.
STATES = ("waiting", "leased", "delayed", "parked", "dead")
#: The header by which the script of the page asks for its live part.
FRAGMENT = "x-redset-fragment"

TITLES = {
    "retry": ("Retry", "requeues what had died, as if it had never been claimed"),
    "forget": ("Forget", "deletes the dead letter, or what is remembered of the item; it can be added again"),
    "discard": ("Discard", "removes the item from the set; a consumer that holds it loses its lease"),
    "requeue": ("Requeue", "ends the lease or the backoff of the item: it is waiting again, and no attempt is counted"),
    "pause": ("Pause", "lets no process claim items; leases go on, and items can be added"),
    "resume": ("Resume", "ends the pause"),
    "limit": ("Set limits", "replaces all limits of the set, for all processes"),
    "clear": (
        "Clear",
        "removes all items in every state, ends all leases, and forgets dead letters and what is remembered",
    ),
}
DONE = {
    "retry": "requeued",
    "forget": "forgotten",
    "discard": "discarded",
    "requeue": "requeued",
    "pause": "paused",
    "resume": "resumed",
    "limit": "limits set",
    "clear": "cleared",
}


def site(client: Any, metrics: Any) -> Starlette:
    """Return the application behind the guard."""
    pages = _Pages(Door(client), metrics)
    routes: list[Any] = [
        Route("/", pages.sets),
        Route("/sets/{name}/", pages.one),
        Route("/sets/{name}/item", pages.item),
        Route("/sets/{name}/{action}", pages.act, methods=["GET", "POST"]),
        Mount("/static", StaticFiles(packages=[("redset.web", "static")])),
    ]
    if metrics is not None:
        routes.append(Route("/metrics", pages.metrics))
    return Starlette(
        routes=routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=1000)],
        exception_handlers={HTTPException: pages.http_error, Exception: pages.error},
    )


@dataclass(frozen=True)
class _Entry:
    """One item in a table."""

    item: Cut
    value: Cut | None
    #: The query of its page; None if it cannot be named.
    query: str | None
    score: float
    words: list[str]
    reason: Cut | None


@functools.cache
def _environment() -> Environment:
    """Return the templates, which are compiled once for all applications of a process."""
    environment = Environment(
        loader=PackageLoader("redset.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cut": cut,
        "duration": duration,
        "name": lambda name: cut(name.encode(errors="surrogateescape")),
        "number": number,
        "rate": _rate,
    }
    environment.globals |= {"version": __version__, "titles": TITLES}
    return environment


class _Pages:
    def __init__(self, door: Door, metrics: Any) -> None:
        self._door = door
        self._metrics = metrics
        self._environment = _environment()

    # Answers.

    def _page(self, request: Request, template: str, root: str, status: int = 200, **context: Any) -> Response:
        """Return a page, or if only its live part is asked for, that, or a 304 if it has not changed."""
        context |= {
            "root": root,
            "with_metrics": self._metrics is not None,
            "allowed": request.scope.get(ALLOWED, frozenset()),
            "notice": _notice(request),
        }
        live = self._environment.get_template(f"live_{template}").render(context) if context.get("is_live") else ""
        etag = f'"{hashlib.blake2b(live.encode(errors="replace"), digest_size=12).hexdigest()}"'
        headers = {"etag": etag, "vary": f"{FRAGMENT}, accept-encoding"} if live else {}
        if live and FRAGMENT in request.headers:
            if request.headers.get("if-none-match") == etag:
                return Response(status_code=304, headers=headers)
            return HTMLResponse(live.encode(errors="replace"), headers=headers)
        whole = self._environment.get_template(template).render(context | {"live": live, "etag": etag})
        return HTMLResponse(whole.encode(errors="replace"), status, headers)

    async def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._error(request, error.status_code, str(error.detail))

    async def error(self, request: Request, error: Exception) -> Response:
        log.error("the page of the sets failed", exc_info=error)
        return self._error(request, 500, "Something is wrong with this page. The log of its server says more.")

    def _error(self, request: Request, status: int, text: str) -> Response:
        depth = request.scope["path"].removeprefix(request.scope.get("root_path", "")).count("/") - 1
        root = "../" * depth or "./"
        return self._page(request, "error.html", root, status, title=str(status), message=text)

    # Pages.

    async def sets(self, request: Request) -> Response:
        """All sets, the most urgent first."""
        found = await self._asked(self._door.all_figures())
        # What is shown of a name is searched, so nothing else needs to be typed.
        wanted = "".join(filter(str.isprintable, request.query_params.get("find", "")))[:100]
        shown = [(info, one) for info, one in found if wanted.lower() in escaped(info.name).lower()]
        good = sorted((one for _, one in shown if isinstance(one, Overview)), key=order)
        broken = [(info, str(one)) for info, one in shown if isinstance(one, Exception)]
        page = _page_number(request)
        some = good[page * SETS : (page + 1) * SETS]
        samples = await self._asked(self._door.samples(some))
        worst: Counter[str] = Counter(trouble.word for one in good for trouble in troubles(one)[:1])
        return self._page(
            request,
            "sets.html",
            "./",
            title="All sets",
            is_live=True,
            find=wanted,
            count=len(good),
            page=page,
            pages=_pages(len(good), SETS),
            rows=[self._row(one, samples[one.info.name]) for one in some],
            broken=[(info.name, cut(error.encode(errors="replace"))) for info, error in broken[:SETS]],
            worst=worst,
        )

    def _row(self, one: Overview, samples: list[Any]) -> dict[str, Any]:
        claims = rates(samples, one.totals, CLAIMS, one.now) if one.totals else []
        failures = rates(samples, one.totals, FAILURES, one.now) if one.totals else []
        return {
            "one": one,
            "url": f"sets/{name_in_url(one.info.name)}/",
            "troubles": troubles(one),
            "spark": sparkline(claims, f"{sum(claims):,.0f} claims in the last hour") if one.stats else None,
            "claims": sum(claims[-5:]) / 5 if claims else None,
            "failures": sum(failures[-5:]) / 5 if failures else None,
        }

    async def one(self, request: Request) -> Response:
        """One set."""
        info = await self._info(request)
        figures = await self._asked(self._door.figures(info))
        panels = _panels(info, figures)
        show = request.query_params.get("show", panels[0])
        if show not in panels:
            raise HTTPException(404, "This set has nothing of that name to show.")
        page = _page_number(request)
        samples = (await self._asked(self._door.samples([figures])))[info.name]
        totals, now = figures.totals, figures.now
        lines = [
            (style, name, rates(samples, totals, counted, now) if totals else [])
            for style, name, counted in (
                ("added", "additions", ("added",)),
                ("claims", "claims", CLAIMS),
                ("failures", "failures", FAILURES),
            )
        ]
        context: dict[str, Any] = {}
        if show in (*STATES, "living"):
            context = await self._asked(self._panel(info, figures, show, page))
        elif show == "groups":
            groups = await self._called(self._door.opened(info).groups, GROUPS)
            context = {"groups": [(group, encoded(_bytes_of(group.name))) for group in groups]}
        elif show == "shards":
            infos = await self._asked(self._door.shards(info))
            context = {"shards": await self._asked(self._door.shard_figures(infos[:256]))}
        elif show == "totals":
            context = {"totals": [(one.name, getattr(figures.totals, one.name)) for one in fields(figures.totals)]}
        return self._page(
            request,
            "set.html",
            "../../",
            title=cut(info.name).text,
            is_live=True,
            one=figures,
            troubles=troubles(figures),
            panels=[(name, _count_of(figures, name)) for name in panels],
            show=show,
            page=page,
            chart=chart(lines, figures.now) if figures.stats else None,
            legend=[(style, name, sum(values[-5:]) / 5) for style, name, values in lines],
            kept=len(samples),
            **context,
        )

    async def _panel(self, info: SetInfo, figures: Overview, show: str, page: int) -> dict[str, Any]:
        rows = await self._door.rows(info, show, page * ITEMS, ITEMS, BYTES)
        count = _count_of(figures, show) or 0
        context: dict[str, Any] = {
            "rows": [_entry(info, row, show, page * ITEMS + at) for at, row in enumerate(rows)],
            "pages": _pages(count, ITEMS),
            # Scores that are times, as far as the registry tells.
            "is_timed": info.kind not in ("SortedSet", "ExpiringSet"),
            "can_requeue": show == "leased" or can_end_delay(info),
        }
        if show == "dead":
            letters = await self._door.reasons(info, REASONS, REASON_BYTES)
            kinds = Counter(kind_of(reason_of(letter)) for letter in letters)
            context["kinds"] = [
                (cut(kind.encode(errors="surrogateescape")), kind_digest(kind), n)
                for kind, n in kinds.most_common(KINDS)
            ]
            context["counted"] = len(letters)
            context["other_kinds"] = max(0, len(kinds) - KINDS)
        return context

    async def item(self, request: Request) -> Response:
        """One item."""
        info = await self._info(request)
        words = dict(request.query_params)
        find = words.get("find")
        if find is not None:
            target = Target("item", unescaped(find, strict=False))
            # A text that was not copied from this page may have backslashes of its own.
            if (
                await self._inspected(info, target.identity) is None
                and find.encode(errors="replace") != target.identity
            ):
                target = Target("item", find.encode(errors="replace"))
            target = Target("item", target.identity, fields={"item": encoded(target.identity)})
        else:
            target = await self._target(info, words)
        if target.what != "item":
            raise HTTPException(404, "This page needs an item.")
        found = await self._inspected(info, target.identity)
        return self._page(
            request,
            "item.html",
            "../../",
            200 if found is not None else 404,
            title="Item",
            is_live=False,
            info=info,
            item=cut(target.identity),
            found=found,
            query=urlencode(target.fields),
            actions=_actions_on(info, found),
            now=(await self._asked(self._door.figures(info))).now,
        )

    async def _inspected(self, info: SetInfo, identity: bytes) -> Any:
        """Return what is known of an item: an Inspection, or the seconds that an item of an expiring set lives."""
        one = self._door.opened(info)
        return await self._called(one.ttl if info.kind == "ExpiringSet" else one.inspect, Key(identity))

    # Actions.

    async def act(self, request: Request) -> Response:
        """Ask whether to perform an action, or perform it."""
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, "There is no such page.")
        if action not in request.scope[ALLOWED]:
            raise HTTPException(403, "You may look, but not do that.")
        info = await self._info(request)
        words = dict(request.query_params) if request.method in ("GET", "HEAD") else await _form(request)
        target = await self._target(info, words)
        if not _fits(action, target, info):
            raise HTTPException(404, "This action does not fit here.")
        if request.method == "POST":
            return await self._do(request, info, action, target, words)
        return await self._confirmation(request, info, action, target, "")

    async def _confirmation(
        self, request: Request, info: SetInfo, action: str, target: Target, trouble: str
    ) -> Response:
        figures = await self._asked(self._door.figures(info))
        kinds: dict[str, tuple[Cut, int]] = {}
        if target.what == "reason":
            letters = await self._asked(self._door.reasons(info, REASONS, REASON_BYTES))
            counted = Counter(kind_of(reason_of(letter)) for letter in letters)
            kinds = {kind_digest(kind): (cut(kind.encode(errors="surrogateescape")), n) for kind, n in counted.items()}
        return self._page(
            request,
            "confirm.html",
            "../../",
            400 if trouble else 200,
            title=TITLES[action][0],
            is_live=False,
            info=info,
            one=figures,
            action=action,
            target=target,
            item=cut(target.identity),
            group=cut(target.group),
            group_limit=await self._limit_of(info, target) if target.what == "group" else None,
            kind=kinds.get(target.kind, (Cut("a kind that is not among the newest ones", None), 0)),
            trouble=trouble,
            back=_back(action, target),
        )

    async def _limit_of(self, info: SetInfo, target: Target) -> Limit | None:
        stats = await self._called(self._door.opened(info).group(target.group).stats)
        limit: Limit | None = stats.limit
        return limit

    async def _do(
        self, request: Request, info: SetInfo, action: str, target: Target, form: Mapping[str, str]
    ) -> Response:
        try:
            if target.what in ("all", "reason"):
                done = await self._asked(step(self._door, info, action, target, Progress.read(form)))
                if not done.has_ended:
                    return self._progress(request, info, action, target, done.progress)
                count = done.progress.done
            else:
                count = await self._asked(apply(self._door, info, action, target, form))
        except Refused as error:
            return await self._confirmation(request, info, action, target, str(error))
        finally:
            self._door.forget_figures()
        return RedirectResponse(f"{_back(action, target)}&done={action}&n={count}", 303)

    def _progress(self, request: Request, info: SetInfo, action: str, target: Target, progress: Progress) -> Response:
        return self._page(
            request,
            "progress.html",
            "../../",
            title=TITLES[action][0],
            is_live=False,
            info=info,
            action=action,
            target=target,
            progress=progress,
            did=DONE[action],
            back=_back(action, target),
        )

    async def metrics(self, _: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Response(await asyncio.to_thread(generate_latest, self._metrics), media_type=CONTENT_TYPE_LATEST)

    # What may fail.

    async def _info(self, request: Request) -> SetInfo:
        info: SetInfo | None = await self._asked(self._door.info(request.path_params["name"]))
        if info is None:
            raise HTTPException(404, "The registry of the server knows no set of this name.")
        return info

    async def _target(self, info: SetInfo, words: Mapping[str, str]) -> Target:
        try:
            target: Target = await self._asked(target_of(self._door, info, words))
        except Refused as error:
            raise HTTPException(404, str(error)) from None
        return target

    async def _called(self, method: Any, *args: Any) -> Any:
        return await self._asked(self._door.call(method, *args))

    async def _asked(self, question: Any) -> Any:
        """Return what a call comes to. An error of the server or the set becomes a page."""
        try:
            return await question
        except Refused:
            raise
        except TimeoutError:
            raise HTTPException(503, "The server of the sets does not answer in time.") from None
        except (RedsetError, KeyError) as error:
            text = cut(str(error).encode(errors="replace"), most=400).text
            raise HTTPException(409, f"The set cannot be used: {text}") from error
        except Exception as error:
            if not is_failure(error):
                raise
            log.warning("the page cannot reach the server of the sets: %s", error)
            raise HTTPException(503, "The server of the sets does not answer.") from error


def _panels(info: SetInfo, figures: Overview) -> list[str]:
    """Return what there is to show of a set; first what is shown by default."""
    if info.kind == "ExpiringSet":
        names = [] if info.options.get("digest") else ["living"]
    else:
        names = [*STATES, "totals"]
        if info.options.get("grouped"):
            names.append("groups")
    if figures.shards is not None:
        names.append("shards")
    return names or ["none"]


def _count_of(figures: Overview, name: str) -> int | None:
    if name == "living":
        return figures.living
    if name == "leased" and figures.stats is not None:
        return figures.stats.leased + figures.stats.expired
    if name == "shards":
        return figures.shards
    return getattr(figures.stats, name, None)


def _entry(info: SetInfo, row: Row, show: str, at: int) -> _Entry:
    is_dead = show == "dead"
    words = row.words.split(b" ", 2)
    reason = reason_of(row.words) if is_dead else None
    hashed = info.kind == "ExpiringSet" and info.options.get("digest")
    value = row.value
    value_length = row.value_length
    if info.kind == "PeriodicSet":
        # Its own interval is in front of the value.
        interval, _, value = value.partition(b"\n")
        value_length -= len(interval) + 1
    return _Entry(
        item=cut(row.item, row.length),
        value=cut(value, value_length) if value else None,
        query=None if hashed else urlencode(named(row.item, show, at, row.digest)),
        score=row.score,
        words=[word[:20].decode(errors="replace") for word in words[:2]],
        reason=None if reason is None else cut(reason.encode(errors="surrogateescape")),
    )


def _actions_on(info: SetInfo, found: Any) -> list[str]:
    """Return the actions that fit the state of an item."""
    if found is None:
        return []
    if info.kind == "ExpiringSet":
        return ["discard"]
    delayed = ["requeue", "discard"] if can_end_delay(info) else ["discard"]
    return {
        "waiting": ["discard"],
        "leased": ["requeue", "discard"],
        "parked": ["requeue", "discard"],
        "delayed": delayed,
        "dead": ["retry", "forget"],
        "done": ["forget"],
    }[found.state]


def _fits(action: str, target: Target, info: SetInfo) -> bool:
    wanted = {
        "item": {"retry", "forget", "discard", "requeue"},
        "reason": {"retry", "forget"},
        "all": {"retry", "forget"},
        "group": {"pause", "resume", "limit"},
        "set": {"pause", "resume", "limit", "clear"},
    }[target.what]
    if info.kind == "ExpiringSet":
        wanted &= {"discard", "clear"}
    return action in wanted and (target.what != "group" or bool(info.options.get("grouped")))


def _back(action: str, target: Target) -> str:
    """Return the page to return to."""
    if target.what == "group":
        return "./?show=groups"
    rows = target.fields.get("rows")
    if rows in STATES:
        return f"./?show={rows}"
    show = {"retry": "dead", "forget": "dead", "requeue": "leased"}.get(action)
    return f"./?show={show}" if show else "./?"


def _notice(request: Request) -> str:
    """Return a sentence on the action that led to this page. Only numbers of the address are shown."""
    did, count = DONE.get(request.query_params.get("done", "")), request.query_params.get("n", "")
    if did is None or not count.isascii() or not count.isdigit():
        return ""
    n = int(count[:12])
    if did in (DONE["pause"], DONE["resume"], DONE["limit"]):
        return f"Done: {did}."
    if did == DONE["clear"]:
        return "Done: cleared." if n else "There was nothing to clear."
    return f"Done: {number(n)} {did}." if n else "Nothing was changed: the item is in another state by now."


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "This is not a form of this page.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, "The form is too large.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise HTTPException(400, "This is not a form of this page.") from None


def _page_number(request: Request) -> int:
    text = request.query_params.get("page", "1")
    return max(0, int(text) - 1) if text.isascii() and text.isdigit() and len(text) < 9 else 0  # digits


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.1f}"  # digits


def _pages(count: int, size: int) -> int:
    return max(1, math.ceil(count / size))


def _bytes_of(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode(errors="surrogateescape")
