"""The page, asked as a browser asks it, but without one."""

import asyncio
import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

import redset.web
from clients import close_awaited
from servers import Place

#: What a browser sends with a form of the page itself.
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


class Visitor:
    """Asks an application for pages."""

    def __init__(self, runner: "asyncio.Runner", app: Any, **options: Any) -> None:
        self._runner = runner
        address = options.pop("address", ("127.0.0.1", 50000))
        options.setdefault("base_url", "http://localhost")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=address)
        self._client = httpx.AsyncClient(transport=transport, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.get(path, **options))

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        found = {name.replace("_", "-"): value for name, value in headers.items()} or SAME_ORIGIN
        found.setdefault("content-type", "application/x-www-form-urlencoded")
        return self._runner.run(self._client.post(path, content=urlencode(fields), headers=found))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def confirm(self, path: str, **more: str) -> httpx.Response:
        """Open the page of confirmation and send its form; those of the next steps too."""
        page = self.get(path)
        assert page.status_code == 200, page.text
        where = path.partition("?")[0]
        for _ in range(1000):
            page = self.post(where, fields_of(page.text) | more)
            if page.status_code != 200:
                return page
        raise AssertionError("the action has no end")

    def close(self) -> None:
        self._runner.run(close_awaited(self._client))


def fields_of(page: str) -> dict[str, str]:
    """The hidden fields of the only form of a page that is posted."""
    form = re.search(r'<form method="post".*?</form>', page, re.DOTALL)
    assert form is not None, page
    pairs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form[0])
    return {unescape(name): unescape(value) for name, value in pairs}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def visit(runner: asyncio.Runner, here: Place) -> Iterator[Callable[..., Visitor]]:
    """Makes a visitor of ``redset.web.app`` with these options, on an asyncio client."""
    visitors: list[Visitor] = []
    clients: list[Any] = []

    async def client_of_loop() -> Any:
        return here.client(awaited=True)

    def make(*, app: Any = None, visitor: dict[str, Any] | None = None, **options: Any) -> Visitor:
        if app is None:
            clients.append(runner.run(client_of_loop()))
            app = redset.web.app(clients[-1], **options)
        visitors.append(Visitor(runner, app, **visitor or {}))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.close()
    for client in clients:
        runner.run(close_awaited(client))


@pytest.fixture(params=["sync", "aio"])
def page(request: pytest.FixtureRequest, raw: Any, visit: Callable[..., Visitor]) -> Visitor:
    """The page on a client of each face."""
    return visit() if request.param == "aio" else visit(app=redset.web.app(raw))


@pytest.fixture
def aio_page(visit: Callable[..., Visitor]) -> Visitor:
    """The page on an asyncio client."""
    return visit()
