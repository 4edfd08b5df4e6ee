"""The page under a prefix in other applications."""

import re
from collections.abc import Callable
from typing import Any

import pytest

import redset
import redset.web
from visitors import SAME_ORIGIN, Visitor


def in_starlette(page: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/admin/sets", page)])


def in_fastapi(page: Any) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.mount("/admin/sets", page)
    return app


def in_django(page: Any) -> Any:
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, SECRET_KEY="x" * 50)
        django.setup()
    site = get_asgi_application()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/admin/sets/"):
            await page({**scope, "root_path": scope.get("root_path", "") + "/admin/sets"}, receive, send)
        else:
            await site(scope, receive, send)

    return app


def behind_a_proxy_that_removes_the_prefix(page: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix("/admin/sets")
        await page({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return app


#: The addresses of the site around it.
urlpatterns: list[Any] = []


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi, in_django, behind_a_proxy_that_removes_the_prefix])
def test_every_link_stays_under_the_prefix(mount: Any, visit: Callable[..., Visitor], raw: Any) -> None:
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    jobs.update(["a", "b"])
    jobs.reserve().bury("no")
    page = visit(app=mount(redset.web.app(raw)), visitor={"base_url": "http://localhost", "follow_redirects": True})
    todo, seen = ["http://localhost/admin/sets/"], set()
    while todo:
        address = todo.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = page.get(address)
        assert answer.status_code == 200, address
        assert str(answer.url).startswith("http://localhost/admin/sets/")
        if "static" not in address:
            links = re.findall(r'(?:href|src)="([^"#]+)"', answer.text)
            todo += [str(answer.url.join(link.replace("&amp;", "&"))) for link in links]
    assert len(seen) > 15

    done = page.request("POST", "/admin/sets/sets/jobs/retry", data={"all": "1"}, headers=SAME_ORIGIN)
    assert str(done.url) == "http://localhost/admin/sets/sets/jobs/?show=dead&done=retry&n=1"
    assert "Done: 1 requeued." in done.text
    missing = page.get("/admin/sets/sets/none/")
    assert missing.status_code == 404
    assert 'href="../../static/style.css' in missing.text


def test_the_rest_of_the_site_is_there(visit: Callable[..., Visitor], raw: Any) -> None:
    page = visit(app=in_django(redset.web.app(raw)))
    assert page.get("/nonsense").status_code == 404
    assert "redset" not in page.get("/nonsense").text
