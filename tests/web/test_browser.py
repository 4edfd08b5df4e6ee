"""The page in a real browser: Debian's chromium. Skipped where there is none."""
# ruff: noqa: E501

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile import CORPUS, fill

import redset
import redset.web
from browser import axe, opened, serving, why_not
from redset.web import ACTIONS
from servers import Place, Server, wait_until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.no_cover,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or "there is a browser"),
]

#: Notes each report of a violated policy, before any script of the page runs.
LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""

#: The contrast of each text with what is behind it, by the formula of WCAG, where it is too low.
CONTRAST = """
const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parts = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = parts(getComputedStyle(element).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const low = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const [a, b] = [light(parts(element instanceof SVGElement ? style.fill : style.color)), light(behind(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)} ${element.textContent.slice(0, 20)}`);
}
return low;
"""

#: What a screen reader needs: names of fields, links and pictures, one main heading, no heading left out, and unique ids.
STRUCTURE = """
const wrong = [];
const named = (element) => element.textContent.trim() || element.getAttribute("aria-label");
document.querySelectorAll("a[href], button").forEach((one) => named(one) || wrong.push("no name: " + one.outerHTML));
document.querySelectorAll("input:not([type=hidden]), progress").forEach((one) => one.labels.length || wrong.push("no label: " + one.outerHTML));
document.querySelectorAll("svg").forEach((one) => one.getAttribute("aria-label") || wrong.push("no label: svg"));
document.querySelectorAll("th").forEach((one) => one.scope || wrong.push("no scope: " + one.outerHTML));
document.querySelectorAll("table").forEach((one) => {
  const width = one.querySelector("thead") ? one.querySelector("thead tr").children.length : 0;
  if (!width) wrong.push("no head: table");
});
if (document.querySelectorAll("h1").length !== 1) wrong.push("h1: " + document.querySelectorAll("h1").length);
let level = 0;
document.querySelectorAll("h1, h2, h3").forEach((one) => { const own = Number(one.tagName[1]); if (own > level + 1) wrong.push("heading " + one.textContent); level = own; });
const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
if (new Set(ids).size !== ids.length) wrong.push("ids: " + ids);
if (!document.documentElement.lang || !document.title) wrong.push("no language or title");
if (document.querySelectorAll("main").length !== 1) wrong.push("main");
return wrong;
"""


@pytest.fixture
def address(here: Place) -> Iterator[str]:
    assert isinstance(here, Server)
    with serving(here) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened() as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
        yield driver


@pytest.fixture
def clean(browser: Any) -> Iterator[None]:
    """Afterwards, neither the console nor the policy has a complaint."""
    browser.get("about:blank")
    browser.get_log("browser")
    yield
    assert complaints(browser) == []


def complaints(browser: Any) -> list[Any]:
    return [entry["message"] for entry in browser.get_log("browser")] + list(
        browser.execute_script("return window.violations || []")
    )


def jobs_of(raw: Any) -> "redset.SortedSet[str]":
    jobs = redset.SortedSet(raw, "jobs", max_attempts=1)
    jobs.update(list("abcdefghij"), score=ord)
    for reservation, reason in zip(
        jobs.reserve_many(4), ("ValueError: 1", "ValueError: 2", "OSError", "OSError"), strict=True
    ):
        reservation.bury(reason)
    jobs.reserve_many(2, lease=600)
    return jobs


def patiently(do: Callable[[], Any]) -> Any:
    """What ``do`` returns, as soon as the page is there: a refresh may replace an element before it is clicked."""
    from selenium.common.exceptions import WebDriverException

    found: list[Any] = []

    def try_it() -> bool:
        try:
            found.append(do())
        except WebDriverException:
            return False
        return True

    wait_until(try_it)
    return found[0]


def click(browser: Any, text: str, within: str = "") -> None:
    where = f"{within}//*[(self::a or self::button) and starts-with(normalize-space(.), '{text}')]"
    patiently(lambda: browser.find_element("xpath", where).click())


def click_on(browser: Any, selector: str) -> None:
    patiently(lambda: browser.find_element("css selector", selector).click())


def until_it_says(browser: Any, text: str) -> None:
    wait_until(lambda: text in patiently(lambda: browser.find_element("css selector", "main").text))


@pytest.mark.usefixtures("clean")
class TestEveryActionIsClicked:
    """From the list of sets to the effect on the server."""

    @pytest.mark.parametrize("action", sorted(ACTIONS))
    def test_it(self, browser: Any, address: str, raw: Any, action: str) -> None:
        jobs = jobs_of(raw)
        if action == "resume":
            jobs.pause()
        browser.get(address + "/")
        if action in ("retry", "forget"):
            click_on(browser, "a.dead")
            click(browser, action.capitalize(), "//table[contains(@class, 'items')]")
        else:
            click(browser, "jobs")
            if action in ("discard", "requeue"):
                click(browser, "Leased")
                click(browser, action.capitalize(), "//table")
            else:
                click(browser, action.capitalize())
        if action == "limit":
            patiently(lambda: browser.find_element("id", "rate").send_keys("5"))
        if action == "clear":
            click_on(browser, "#confirm")
            # The box is not ticked yet.
            assert jobs.stats().dead == 4
            click_on(browser, "#sure")
        click_on(browser, "#confirm")
        until_it_says(browser, "Done: ")
        stats = jobs.stats()
        assert {
            "clear": lambda: stats.waiting + stats.leased + stats.dead == 0,
            "discard": lambda: (stats.waiting, stats.leased) == (4, 1),
            "forget": lambda: (stats.waiting, stats.dead) == (4, 3),
            "limit": lambda: stats.limits is not None and stats.limits.rate == 5,
            "pause": lambda: stats.paused_until is not None,
            "requeue": lambda: (stats.waiting, stats.leased) == (5, 1),
            "resume": lambda: stats.paused_until is None,
            "retry": lambda: (stats.waiting, stats.dead) == (5, 3),
        }[action]()

    @pytest.mark.parametrize(("text", "left"), [("Retry these", 2), ("Retry all", 0), ("Forget all", 0)])
    def test_many_letters(self, browser: Any, address: str, raw: Any, text: str, left: int) -> None:
        jobs = jobs_of(raw)
        browser.get(address + "/sets/jobs/?show=dead")
        click(browser, text)
        click_on(browser, "#confirm")
        until_it_says(browser, "Done: ")
        assert jobs.stats().dead == left

    @pytest.mark.parametrize("action", ["limit", "pause", "resume"])
    def test_of_a_group(self, browser: Any, address: str, raw: Any, action: str) -> None:
        groups = redset.SortedSet(raw, "groups", group=lambda item: item[0], per_group=redset.Limit(1))
        groups.update(["a1", "a2"])
        if action == "resume":
            groups.group("a").pause()
        browser.get(address + "/")
        click(browser, "groups")
        click(browser, "Groups")
        click(browser, action.capitalize(), "//table")
        if action == "limit":
            leases = patiently(lambda: browser.find_element("id", "leases"))
            leases.clear()
            leases.send_keys("3")
        click_on(browser, "#confirm")
        until_it_says(browser, "Done: ")
        stats = groups.group("a").stats()
        assert (stats.paused_until is not None) == (action == "pause")
        assert stats.limit == redset.Limit(3 if action == "limit" else 1)

    def test_steps_go_on_by_themselves(
        self, browser: Any, address: str, raw: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redset.web.actions, "LONGEST_STEP", -1)
        monkeypatch.setattr(redset.web.actions, "LETTERS", 1)
        jobs = jobs_of(raw)
        browser.get(address + "/sets/jobs/retry?all=1")
        click_on(browser, "#confirm")
        until_it_says(browser, "Done: 4 requeued")
        assert jobs.stats().dead == 0


@pytest.mark.usefixtures("clean")
def test_the_live_part_is_refreshed_and_keeps_the_focus(browser: Any, address: str, raw: Any) -> None:
    jobs = jobs_of(raw)
    browser.get(address + "/sets/jobs/?show=leased")
    browser.execute_script("document.querySelector('.tabs a[href=\"?show=dead\"]').focus()")
    jobs.reserve_many(1)
    until_it_says(browser, "Leased 3")
    assert browser.execute_script("return document.activeElement.getAttribute('href')") == "?show=dead"


def test_a_hidden_page_asks_for_nothing(browser: Any, address: str, raw: Any) -> None:
    jobs_of(raw)
    browser.get(address + "/")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); document.dispatchEvent(new Event('visibilitychange'));"
    count = "return performance.getEntriesByType('resource').filter((one) => one.initiatorType === 'fetch').length"
    wait_until(lambda: browser.execute_script(count) > 0)
    browser.execute_script(hide % "true")
    time.sleep(2)  # What it has asked for by then may still come.
    before = browser.execute_script(count)
    time.sleep(5)
    assert browser.execute_script(count) == before
    browser.execute_script(hide % "false")
    wait_until(lambda: browser.execute_script(count) > before)


def test_a_server_that_is_away_is_said(browser: Any, address: str, raw: Any, here: Place) -> None:
    jobs_of(raw)
    with serving(here) as other:
        browser.get(other + "/")
    wait_until(lambda: "not refreshed" in patiently(lambda: browser.find_element("id", "state").text))
    browser.get_log("browser")


@pytest.mark.usefixtures("clean")
def test_hostile_items_in_every_field(browser: Any, address: str, raw: Any) -> None:
    names = fill(raw)
    assert len(CORPUS) >= 60
    paths = [
        "/",
        "/?page=2",
        "/sets/dead/?show=dead",
        "/sets/dead/?show=dead&page=2",
        "/sets/groups/?show=groups",
        "/sets/seen/",
    ]
    paths += [f"/sets/{name}/?show=waiting" for name in ("waiting", "keyed")]
    paths += [f"/sets/held/?show={show}" for show in ("leased", "delayed", "parked")]
    for path in paths:
        browser.get(address + path)
        assert browser.find_elements("css selector", "main")
        assert browser.execute_script("return document.scripts.length") == 1
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert complaints(browser) == [], path
    browser.get(address + "/sets/dead/?show=dead")
    links = browser.execute_script("return [...document.querySelectorAll('.items a')].map((link) => link.href)")
    for link in links[::5]:
        browser.get(link)
        assert "alert" not in browser.title
        assert complaints(browser) == [], link
    assert names


class TestKeyboard:
    def press(self, browser: Any, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        actions = ActionChains(browser)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def tab_to(self, browser: Any, text: str) -> None:
        from selenium.webdriver import Keys

        for _ in range(60):
            self.press(browser, Keys.TAB)
            focused, outline = browser.execute_script(
                "const one = document.activeElement; return [one.innerText, getComputedStyle(one).outlineStyle]"
            )
            if focused.startswith(text):
                assert outline == "solid", "the focus is visible"
                return
        raise AssertionError(f"no tab leads to {text}")

    def test_a_dead_letter_is_retried_by_keys_alone(self, browser: Any, address: str, raw: Any) -> None:
        from selenium.webdriver import Keys

        jobs = jobs_of(raw)
        browser.get(address + "/")
        for text, then in (("4", "Reasons"), ("Retry these", "This requeues"), ("Retry", "Done: 2 requeued")):
            self.tab_to(browser, text)
            self.press(browser, Keys.ENTER)
            until_it_says(browser, then)
        assert jobs.stats().dead == 2

    def test_the_first_tab_skips_to_the_content(self, browser: Any, address: str, raw: Any) -> None:
        from selenium.webdriver import Keys

        jobs_of(raw)
        browser.get(address + "/")
        self.press(browser, Keys.TAB)
        assert browser.switch_to.active_element.text == "Skip to the content"
        self.press(browser, Keys.ENTER)
        assert browser.execute_script("return document.activeElement.id") == "main"


PATHS = (
    "/",
    "/sets/jobs/",
    "/sets/jobs/?show=dead",
    "/sets/jobs/?show=leased",
    "/sets/jobs/?show=totals",
    "/sets/jobs/item?find=a",
    "/sets/jobs/limit",
    "/sets/jobs/clear",
    "/sets/jobs/pause",
    "/sets/none/",
)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_contrast_labels_and_width(address: str, raw: Any, dark: bool, width: int) -> None:
    jobs = jobs_of(raw)
    jobs.pause()
    redset.TimeSortedSet(raw, "late").add("x", score=time.time() - 500)
    redset.TimeSortedSet(raw, "well").take(1)
    with opened(width, dark=dark) as driver:
        for path in PATHS:
            driver.get(address + path)
            assert driver.execute_script(CONTRAST) == [], path
            assert driver.execute_script(STRUCTURE) == [], path
            assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(address: str, raw: Any, dark: bool) -> None:
    source = axe()
    if source is None:
        pytest.skip("axe-core cannot be had: it comes from the npm registry")
    jobs = jobs_of(raw)
    jobs.pause()
    redset.TimeSortedSet(raw, "late").add("x", score=time.time() - 500)
    groups = redset.SortedSet(raw, "groups", group=lambda item: item, per_group=redset.Limit(1))
    groups.update(["a", "b"])
    with opened(1280, dark=dark) as driver:
        for path in (*PATHS, "/sets/groups/?show=groups", "/sets/jobs/retry?all=1"):
            driver.get(address + path)
            driver.execute_script(source)
            found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
            assert found["passes"]
            wrong = [
                (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]])
                for each in found["violations"]
            ]
            assert wrong == [], path


def test_without_javascript(address: str, raw: Any) -> None:
    jobs = jobs_of(raw)
    with opened(script=False) as driver:
        driver.get(address + "/")
        click_on(driver, "a.dead")
        click(driver, "Retry all")
        click_on(driver, "#confirm")
        until_it_says(driver, "Done: 4 requeued")
    assert jobs.stats().dead == 0


def test_a_form_of_another_site_does_nothing(browser: Any, address: str, raw: Any, here: Place) -> None:
    jobs = jobs_of(raw)

    async def evil(scope: Any, receive: Any, send: Any) -> None:
        form = f'<form method=post action="{address}/sets/jobs/clear"><input name=sure value=on></form><iframe src="{address}/"></iframe><script>document.forms[0].submit()</script>'
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": form.encode()})

    with serving(here, lambda client: evil) as other:
        browser.get(other.replace("127.0.0.1", "localhost"))
        wait_until(lambda: "nothing was done" in browser.page_source)
    assert len(jobs) == 4
    browser.get_log("browser")
