// Refreshes the live part of a page every two seconds while the page is visible, and sends the next step of a long action.
"use strict";

(() => {
  const next = document.querySelector("form[data-continue]");
  if (next) {
    setTimeout(() => next.submit(), 200);
    return;
  }

  const live = document.getElementById("live");
  const state = document.getElementById("state");
  if (!live) return;

  const EVERY = 2000;
  let etag = live.dataset.etag;
  let timer = 0;
  let failures = 0;

  // The element that has the focus is replaced by a new one with the same address, so that the keyboard stays where it was.
  function replace(text) {
    const focused = live.contains(document.activeElement) ? document.activeElement : null;
    const address = focused && focused.getAttribute("href");
    const scrolled = new Map([...live.querySelectorAll(".wide")].map((box, at) => [at, box.scrollLeft]));
    const parsed = new DOMParser().parseFromString(text, "text/html");
    live.replaceChildren(...parsed.body.childNodes);
    [...live.querySelectorAll(".wide")].forEach((box, at) => { box.scrollLeft = scrolled.get(at) || 0; });
    if (address) {
      const again = [...live.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === address);
      if (again) again.focus({ preventScroll: true });
    }
  }

  function selects() {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && live.contains(selection.anchorNode);
  }

  async function refresh() {
    timer = 0;
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Redset-Fragment": "1", "If-None-Match": etag },
        cache: "no-store",
        signal: AbortSignal.timeout(15000),
      });
      if (answer.status === 200) {
        const text = await answer.text();
        if (!selects()) {
          etag = answer.headers.get("ETag") || "";
          replace(text);
        }
      } else if (answer.status !== 304) {
        throw new Error(String(answer.status));
      }
      failures = 0;
      state.textContent = "";
    } catch (error) {
      failures += 1;
      state.textContent = "not refreshed: " + (/^\d+$/.test(error.message) ? error.message : "no answer");
    }
    plan();
  }

  function plan() {
    if (!timer && !document.hidden) timer = setTimeout(refresh, EVERY * Math.min(1 + failures, 10));
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    timer = 0;
    if (!document.hidden) refresh();
  });
  plan();
})();
