"""A headless Chromium and the folder it reads: what every look at the built site needs.

Pages come from a server on the loopback, and nothing else resolves. CSS pixels throughout.
"""

import base64
import functools
import http.server
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-component-update",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    # nothing but the loopback resolves: a third party fails at once, with or without a network
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SETTLE_SECONDS = 20
TALLEST = 20_000  # px of a screenshot


class Viewport(NamedTuple):
    """CSS pixels, and whether the page believes it is on a phone."""

    width: int
    height: int
    mobile: bool


DESKTOP = Viewport(1280, 900, False)
PHONE = Viewport(390, 844, True)


# ---- server and browser --------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        # browsers ask for this unbidden when a page names no icon (the redirect page does not)
        if self.path == "/favicon.ico" and not Path(self.translate_path(self.path)).exists():
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Origin (http://127.0.0.1:PORT) under which a folder is served meanwhile."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def programs() -> tuple[str, str] | None:
    """Paths of Chromium and of its driver, None when one is missing."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A fresh headless browser with a profile of its own; FileNotFoundError without Chromium."""
    found = programs()
    if found is None:
        raise FileNotFoundError("no chromium and chromedriver on the path (.ci/run installs them)")
    options = Options()
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(found[1]))
        try:
            driver.set_page_load_timeout(60)
            driver.set_script_timeout(60)
            driver.get("about:blank")
            time.sleep(0.5)  # the start page's own requests are nobody's fault
            logs(driver)
            yield driver
        finally:
            driver.quit()


# ---- a page --------------------------------------------------------------------------------------


def logs(driver: webdriver.Chrome) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Network messages and console entries since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return messages, driver.get_log("browser")


def look_through(driver: webdriver.Chrome, view: Viewport) -> None:
    """Give the page a viewport."""
    metrics = {**view._asdict(), "deviceScaleFactor": 1}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def dress(driver: webdriver.Chrome, theme: str) -> None:
    """Switch to a theme, both by the system's preference and by the switch of pydata's theme."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.execute_async_script(DRESS, theme)


def settle(driver: webdriver.Chrome) -> None:
    """Wait for load, fonts, all formulas and images, whichever the page has."""
    driver.execute_async_script(SETTLE, SETTLE_SECONDS)


@contextmanager
def unrolled(driver: webdriver.Chrome, view: Viewport) -> Iterator[None]:
    """A viewport as tall as the page (but `TALLEST`) meanwhile; then `view` again."""
    height = driver.execute_script("return document.documentElement.scrollHeight")
    look_through(driver, view._replace(height=max(view.height, min(height, TALLEST))))
    settle(driver)
    try:
        yield
    finally:
        look_through(driver, view)


def shoot(driver: webdriver.Chrome, file: Path, clip: dict[str, float] | None = None) -> None:
    """PNG of the viewport, or of a part of it in the page's coordinates: x, y, width, height, scale.

    What lies far outside the viewport comes out blank, or slowly: scroll there first.
    """
    part = {"clip": clip} if clip else {}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", **part})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(shot["data"]))


# Argument: seconds.
SETTLE = """
const [seconds, done] = arguments, limit = performance.now() + 1000 * seconds;
const sleep = ms => new Promise(wake => setTimeout(wake, ms));
const within = thing => Promise.race([thing, sleep(Math.max(0, limit - performance.now()))]);
const waiting = () => document.readyState !== "complete"
  || [...document.images].some(i => !i.complete);
(async () => {
  const calm = Object.assign(document.createElement("style"), {
    textContent: "*, ::before, ::after {transition: none !important; animation: none !important}"});
  document.head.append(calm);
  do {
    for (const image of document.images) image.loading = "eager";
    await sleep(50);
  } while (waiting() && performance.now() < limit);
  await within(document.fonts.ready);
  try {  // what came of it is judged by what is on the page
    while (window.MathJax && !MathJax.startup?.promise && performance.now() < limit) await sleep(50);
    await within(window.MathJax?.startup?.promise);
    await within(window.MathJax?.startup?.document?.lazyTypesetAll?.());
  } catch {}
  await sleep(150);
  await within(document.fonts.ready);  // those that formulas asked for
  await sleep(50);
})().then(() => done(), error => done(String(error)));
"""

# Argument: light or dark. An open page is re-dressed in place, the next ones by localStorage.
DRESS = """
const [theme, done] = arguments;
for (const key of ["mode", "theme"]) {
  localStorage.setItem(key, theme);
  document.documentElement.dataset[key] = theme;
}
requestAnimationFrame(() => requestAnimationFrame(() => done()));
"""
