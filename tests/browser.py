"""A real browser, and the page of the sets served to it: Debian's chromium, driven by selenium."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

import redset.web
from clients import close_awaited
from servers import PATIENCE, free_port, wait_until

__all__ = ("axe", "opened", "serving", "whole_page", "why_not")


def why_not() -> str | None:
    """Return why there is no browser here; None if there is one."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"there is no {program}: apt-get install chromium chromium-driver"
    try:
        import selenium  # noqa: F401 # whether it is there
    except ImportError:
        return "there is no selenium: pip install selenium"
    return None


@contextmanager
def serving(place: Any, make_app: Callable[[Any], Any] = redset.web.app) -> Iterator[str]:
    """Yield the address of an application on an asyncio client of a server, which is served in a thread."""
    port = free_port()
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        client = place.client(awaited=True)
        options: Any = {"log_level": "error", "lifespan": "off", "timeout_graceful_shutdown": 1}
        servers.append(uvicorn.Server(uvicorn.Config(make_app(client), host="127.0.0.1", port=port, **options)))
        await servers[0].serve()
        await close_awaited(client)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: bool(servers) and servers[0].started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        servers[0].should_exit = True
        thread.join(PATIENCE)


@contextmanager
def opened(width: int = 1280, height: int = 900, *, dark: bool = False, script: bool = True) -> Iterator[Any]:
    """Yield a browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    with tempfile.TemporaryDirectory(prefix="redset-chromium-", ignore_cleanup_errors=True) as folder:
        for argument in (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            f"--user-data-dir={folder}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not script:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        # Nothing looks for a driver in the network.
        os.environ["SE_OFFLINE"] = "true"
        driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
        try:
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}  # a phone
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            yield driver
        finally:
            driver.quit()


def whole_page(driver: Any, path: Path) -> None:
    """Save a picture of the whole page."""
    import base64

    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 1000), "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(taken["data"]))


def axe() -> str | None:
    """Return the source of axe-core, which judges whether everybody can use a page; None where it cannot be had."""
    cache = Path(__file__).parents[1] / ".cache" / "axe"
    source = cache / "package" / "axe.min.js"
    if not source.exists():
        if shutil.which("npm") is None:
            return None
        cache.mkdir(parents=True, exist_ok=True)
        pack = ["npm", "pack", "axe-core@4", "--silent", "--pack-destination", str(cache)]
        try:
            subprocess.run(pack, capture_output=True, check=True, timeout=60, cwd=cache)
        except (OSError, subprocess.SubprocessError):
            return None
        for archive in cache.glob("axe-core-*.tgz"):
            shutil.unpack_archive(archive, cache, filter="data")
    return source.read_text(encoding="utf-8") if source.exists() else None
