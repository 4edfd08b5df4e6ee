"""Who may do what: the checks of a request before a page is made, and the headers of every answer."""

import base64
import binascii
import hashlib
import hmac
import inspect
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redset.web.rules import ACTIONS, Access

__all__ = ("ALLOWED", "HEADERS", "Guard", "is_loopback")

log = logging.getLogger("redset")

#: The entry of a scope with the names of the allowed actions.
ALLOWED = "redset.allowed"

#: The headers of every answer. Nothing inline runs, nobody frames the page, and nothing is kept in a cache.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With no-referrer, a browser sends `Origin: null` with a form of the page itself.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

_PORT = re.compile(r":\d*$")


class Guard:
    """An ASGI application that passes a request on if it is allowed."""

    def __init__(
        self,
        app: ASGIApp,
        access: Callable[[Any], Access | Awaitable[Access]] | None,
        password: str | None,
        hosts: frozenset[str],
        *,
        read_only: bool,
    ) -> None:
        self._app = app
        self._access = access
        self._password = None if password is None else _hashed(password.encode())
        self._hosts = frozenset(map(str.lower, hosts))
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = await self._refusal(scope, receive)
        await (refusal or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, receive: Receive) -> ASGIApp | None:
        """Return the answer to a request that is refused, or note what it may do."""
        return self._refusal_of_sender(scope) or await self._refusal_of_request(scope, receive)

    def _refusal_of_sender(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if not self._is_known(headers.get("host", "")):
            return _refused(400, "This host name is not allowed. The option allowed_hosts lists the allowed ones.")
        if self._access is None and self._password is None and not is_local(scope):
            return _refused(403, "Without a password, only this machine is answered.")
        if self._password is not None and not _has_password(headers, self._password):
            wanted = {"www-authenticate": 'Basic realm="redset", charset="UTF-8"'}
            return _refused(401, "The password is missing or wrong.", wanted)
        return None

    async def _refusal_of_request(self, scope: Scope, receive: Receive) -> ASGIApp | None:
        try:
            allowed = await self._allowed(Request(scope, receive))
        except HTTPException as error:
            return _refused(error.status_code, error.detail, dict(error.headers or {}))
        if allowed is None:
            return _refused(403, "You have no access to this page.")
        if scope["method"] not in ("GET", "HEAD") and not _is_from_here(Headers(scope=scope)):
            return _refused(403, "This request does not come from a page of this site, so nothing was done.")
        scope[ALLOWED] = allowed
        return None

    def _is_known(self, host: str) -> bool:
        return "*" in self._hosts or _PORT.sub("", host).lower() in self._hosts

    async def _allowed(self, request: Request) -> frozenset[str] | None:
        """Return the names of the actions that a request may do; None if it may not even look."""
        found: Any = "all"
        if self._access is not None:
            found = self._access(request)
            if inspect.isawaitable(found):
                found = await found
        if found is None:
            return None
        names = {"all": ACTIONS, "look": frozenset[str]()}.get(found) if isinstance(found, str) else _names(found)
        if names is None:
            log.error('access must return "all", "look", a set of names of actions, or None, not %r', found)
            return None
        return frozenset() if self._read_only else names


def _names(found: Any) -> frozenset[str] | None:
    try:
        names = frozenset(found)
    except TypeError:
        return None
    return names if names <= ACTIONS else None


def _refused(status: int, why: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(why + "\n", status, headers)


def is_loopback(host: str) -> bool:
    """Return whether an address, or a name, is that of this machine itself."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_local(scope: Scope) -> bool:
    """Return whether a request comes from this machine. One over a socket in the file system has no address."""
    client = scope.get("client")
    return client is None or is_loopback(client[0])


def _hashed(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _has_password(headers: Headers, password: bytes) -> bool:
    scheme, _, words = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        _, _, given = base64.b64decode(words, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    # Hashes have one length, so the time says nothing about that of the password.
    return hmac.compare_digest(_hashed(given), password)


def _is_from_here(headers: Headers) -> bool:
    """Return whether a post is from a page of this origin. A browser sets these headers, and no page can."""
    if (site := headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None or origin == "null":
        return False
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
