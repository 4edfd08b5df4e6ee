"""Who gets an answer: hosts, origins, access, the password, read-only, and the headers of every answer."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from starlette.exceptions import HTTPException

import redset
import redset.web
from redset.web import ACTIONS
from visitors import Visitor

Visit = Callable[..., Visitor]

#: For each action a form that would have an effect on the set that `jobs` makes.
FORMS: dict[str, dict[str, str]] = {
    "retry": {"item": "dead"},
    "forget": {"item": "dead"},
    "discard": {"item": "waiting"},
    "requeue": {"item": "leased"},
    "pause": {},
    "resume": {},
    "limit": {"rate": "1"},
    "clear": {"sure": "on"},
}


@pytest.fixture
def jobs(raw: Any) -> "redset.SortedSet[str]":
    found = redset.SortedSet(raw, "jobs")
    for item in ("dead", "leased"):
        found.add(item)
        reservation = found.reserve(lease=600)
        if item == "dead":
            reservation.bury("no")
    found.add("waiting")
    return found


def dump(raw: Any) -> dict[bytes, Any]:
    """All keys of the set as they are, but for those that time changes."""
    return {key: raw.dump(key) for key in sorted(raw.keys("*jobs*"))}


def basic(password: str, user: str = "") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_there_is_a_form_for_each_action() -> None:
    assert FORMS.keys() == ACTIONS


class TestForgedPosts:
    @pytest.mark.parametrize("action", sorted(ACTIONS))
    def test_every_action_refuses_them(self, aio_page: Visitor, raw: Any, jobs: Any, action: str) -> None:
        before = dump(raw)
        for headers in (
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"sec_fetch_site": "none"},
            {"sec_fetch_site": "cross-site", "origin": "http://localhost"},
            {"origin": "http://evil.example"},
            {"origin": "http://localhost.evil.example"},
            {"origin": "http://localhost:9999"},
            {"origin": "null"},
            {"referer": "http://localhost/"},
            {"x_requested_with": "XMLHttpRequest"},
        ):
            refused = aio_page.post(f"/sets/jobs/{action}", FORMS[action], **headers)
            assert (refused.status_code, dump(raw) == before) == (403, True), headers

    @pytest.mark.parametrize("headers", [{"sec_fetch_site": "same-origin"}, {"origin": "http://localhost"}])
    @pytest.mark.parametrize("action", sorted(ACTIONS))
    def test_every_action_accepts_its_own(
        self, aio_page: Visitor, raw: Any, jobs: Any, action: str, headers: dict[str, str]
    ) -> None:
        if action == "resume":
            jobs.pause()
        before = dump(raw)
        assert aio_page.post(f"/sets/jobs/{action}", FORMS[action], **headers).status_code == 303
        assert dump(raw) != before

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST", "OPTIONS"])
    def test_other_methods(self, aio_page: Visitor, raw: Any, jobs: Any, method: str) -> None:
        before = dump(raw)
        assert aio_page.request(method, "/sets/jobs/clear").status_code == 403
        same = {"sec-fetch-site": "same-origin"}
        assert aio_page.request(method, "/", headers=same).status_code == 405
        assert dump(raw) == before

    def test_a_get_changes_nothing(self, aio_page: Visitor, raw: Any, jobs: Any) -> None:
        before = dump(raw)
        for action, fields in FORMS.items():
            aio_page.get(f"/sets/jobs/{action}", params=fields)
        aio_page.get("/?done=clear&n=3")
        assert dump(raw) == before

    @pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/json", ""])
    def test_what_is_no_form(self, aio_page: Visitor, raw: Any, jobs: Any, kind: str) -> None:
        before = dump(raw)
        done = aio_page.post("/sets/jobs/clear", {"sure": "on"}, sec_fetch_site="same-origin", content_type=kind)
        assert (done.status_code, dump(raw) == before) == (415, True)

    def test_a_form_that_is_too_large(self, aio_page: Visitor, jobs: Any) -> None:
        assert aio_page.post("/sets/jobs/limit", {"rate": "1" * 70_000}).status_code == 413
        assert aio_page.post("/sets/jobs/limit", {str(n): "" for n in range(60)}).status_code == 400


class TestHosts:
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1:1", "[::1]", "[::1]:80"])
    def test_this_machine(self, aio_page: Visitor, host: str) -> None:
        assert aio_page.get("/", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "",
            "localhost.evil.example",
            "localhost@evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "a,localhost",
        ],
    )
    def test_others(self, aio_page: Visitor, host: str) -> None:
        assert aio_page.get("/", headers={"host": host}).status_code == 400

    def test_those_that_are_listed(self, visit: Visit) -> None:
        page = visit(allowed_hosts=["jobs.example"], password="x")
        assert page.get("/", headers={"host": "jobs.example:443"} | basic("x")).status_code == 200
        assert page.get("/", headers={"host": "localhost"} | basic("x")).status_code == 400
        page = visit(allowed_hosts=["*"], password="x")
        assert page.get("/", headers={"host": "any.example"} | basic("x")).status_code == 200

    @pytest.mark.parametrize("hosts", [["*"], ["jobs.example"], ["localhost", "10.0.0.1"]])
    def test_others_need_a_password(self, raw: Any, hosts: list[str]) -> None:
        with pytest.raises(ValueError, match="access= or password="):
            redset.web.app(raw, allowed_hosts=hosts)

    @pytest.mark.parametrize(
        "address", [("10.0.0.7", 1), ("::ffff:10.0.0.7", 1), ("2001:db8::1", 1), ("testclient", 1)]
    )
    def test_another_machine_without_a_password(self, visit: Visit, address: tuple[str, int]) -> None:
        assert visit(visitor={"address": address}).get("/").status_code == 403
        with_password = visit(visitor={"address": address}, password="x")
        assert with_password.get("/", headers=basic("x")).status_code == 200

    @pytest.mark.parametrize("address", [("127.0.0.1", 1), ("127.9.9.9", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None])
    def test_this_machine_without_a_password(self, visit: Visit, address: Any) -> None:
        assert visit(visitor={"address": address}).get("/").status_code == 200


class TestPassword:
    def test_it_is_asked_for(self, visit: Visit, jobs: Any) -> None:
        page = visit(password="pässword:1")
        refused = page.get("/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert page.get("/", headers=basic("pässword:1")).status_code == 200
        assert page.get("/", headers=basic("pässword:1", user="any")).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            basic(""),
            basic("pass"),
            basic("password "),
            basic("PASSWORD"),
            {"authorization": "Bearer password"},
            {"authorization": "Basic"},
            {"authorization": "Basic %%%"},
            {"authorization": "Basic " + base64.b64encode(b"password").decode()},
        ],
    )
    def test_wrong_ones(self, visit: Visit, headers: dict[str, str], raw: Any, jobs: Any) -> None:
        page, before = visit(password="password"), dump(raw)
        for path in ("/", "/sets/jobs/", "/static/page.js", "/nonsense"):
            assert page.get(path, headers=headers).status_code == 401
        done = page.request(
            "POST", "/sets/jobs/clear", data={"sure": "on"}, headers=headers | {"sec-fetch-site": "same-origin"}
        )
        assert (done.status_code, dump(raw) == before) == (401, True)

    def test_it_does_not_replace_the_check_of_the_origin(self, visit: Visit, jobs: Any) -> None:
        # A browser sends the password by itself, also with a form of another site.
        page = visit(password="x")
        forged = basic("x") | {"sec-fetch-site": "cross-site"}
        assert page.request("POST", "/sets/jobs/clear", data={"sure": "on"}, headers=forged).status_code == 403

    @pytest.mark.parametrize(("password", "error"), [("", ValueError), (b"x", TypeError), (1, TypeError)])
    def test_no_passwords(self, raw: Any, password: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            redset.web.app(raw, password=password)


class TestAccess:
    def test_a_look(self, visit: Visit, raw: Any, jobs: Any) -> None:
        page, before = visit(access=lambda request: "look"), dump(raw)
        for path in ("/", "/sets/jobs/", "/sets/jobs/?show=dead", "/sets/jobs/item?item=dead"):
            shown = page.get(path)
            assert shown.status_code == 200
            assert "read-only" in shown.text
            assert not [action for action in ACTIONS if f'href="{action}' in shown.text]
        for action, fields in FORMS.items():
            assert page.get(f"/sets/jobs/{action}", params=fields).status_code == 403
            assert page.post(f"/sets/jobs/{action}", fields).status_code == 403
        assert dump(raw) == before

    @pytest.mark.parametrize(
        "some", [{"retry", "pause"}, frozenset({"clear"}), ["limit"], ("forget", "discard"), set()]
    )
    def test_some_actions(self, visit: Visit, jobs: Any, some: Any) -> None:
        page = visit(access=lambda request: some)
        for action, fields in FORMS.items():
            assert page.get(f"/sets/jobs/{action}", params=fields).status_code == (200 if action in some else 403)
            if action not in some:
                assert page.post(f"/sets/jobs/{action}", fields).status_code == 403
        dead = page.get("/sets/jobs/?show=dead").text
        assert ('href="retry?all=1"' in dead) == ("retry" in some)
        assert ('href="forget?all=1"' in dead) == ("forget" in some)

    @pytest.mark.parametrize("found", [None, "none", "ALL", "", {"reboot"}, 1, True, b"all", {"retry": 1, "x": 2}])
    def test_no_access(self, visit: Visit, found: Any, jobs: Any) -> None:
        page = visit(access=lambda request: found)
        for path in ("/", "/sets/jobs/", "/static/style.css"):
            assert page.get(path).status_code == 403

    def test_it_sees_the_request_and_may_be_a_coroutine(self, visit: Visit) -> None:
        async def access(request: Any) -> Any:
            return {"admin": "all", "guest": "look"}.get(request.headers.get("x-user"))

        page = visit(access=access, allowed_hosts=["*"])
        assert page.get("/").status_code == 403
        assert "read-only" in page.get("/", headers={"x-user": "guest"}).text
        assert "read-only" not in page.get("/", headers={"x-user": "admin"}).text

    def test_it_may_redirect_to_a_login(self, visit: Visit) -> None:
        def access(request: Any) -> Any:
            raise HTTPException(303, headers={"location": "/login"})

        answer = visit(access=access).get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")

    def test_an_error_of_it_shows_nothing(self, visit: Visit, jobs: Any) -> None:
        answer = visit(access=lambda request: 1 / 0).get("/")
        assert answer.status_code == 500
        assert "jobs" not in answer.text

    @pytest.mark.parametrize("access", ["all", {"retry"}, 1])
    def test_it_must_be_a_function(self, raw: Any, access: Any) -> None:
        with pytest.raises(TypeError, match="access must be a function"):
            redset.web.app(raw, access=access)

    def test_read_only_wins(self, visit: Visit, raw: Any, jobs: Any) -> None:
        for options in ({}, {"access": lambda request: "all"}, {"access": lambda request: {"clear"}}):
            page, before = visit(read_only=True, **options), dump(raw)
            assert "read-only" in page.get("/").text
            for action, fields in FORMS.items():
                assert page.post(f"/sets/jobs/{action}", fields).status_code == 403
            assert dump(raw) == before
        assert visit(read_only=True, access=lambda request: None).get("/").status_code == 403


def test_the_headers_of_every_answer(visit: Visit, jobs: Any) -> None:
    page = visit(access=lambda request: None if "refuse" in request.headers else "all")
    answers = [
        page.get(path) for path in ("/", "/sets/jobs/", "/sets/jobs/pause", "/static/page.js", "/nonsense", "/sets/x/")
    ]
    answers += [
        page.get("/", headers={"refuse": "1"}),
        page.get("/", headers={"host": "x"}),
        page.post("/sets/jobs/pause", {}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 404, 403, 400, 303]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_a_websocket_is_refused(raw: Any, runner: Any) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        await redset.web.app(raw)({"type": "websocket", "path": "/", "headers": []}, None, send)  # type: ignore[arg-type]

    runner.run(ask())
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("client", [None, "redis://localhost", object()])
def test_what_is_no_client(client: Any) -> None:
    with pytest.raises(TypeError):
        redset.web.app(client)
