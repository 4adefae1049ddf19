"""Open every page of a built site in headless Chromium, as a reader would, and list what fails.

    python -m ci.browse build/html --shots build/shots

A page fails on: a request to anyone but this server, a failed request, a script error, an unset
formula, a widget that did not render, a broken image or one without a text alternative, a slider
without an accessible name or deaf to the arrow keys, an id used twice, text of too little contrast
in the light or the dark theme, content wider than a phone. The faults of ci.links are listed too.
"""

import argparse
import base64
import functools
import http.server
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from ci import links
from ci.console import any_locale

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
OWN_SCHEMES = ("data", "blob", "about")
SLIDERS = "[role=slider], input[type=range]"
SETTLE_SECONDS = 20
TALLEST = 20_000  # px of a screenshot
LISTED = 8  # faults of one kind that are spelt out per page


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
            _logs(driver)
            yield driver
        finally:
            driver.quit()


# ---- judging what was recorded: pure functions ---------------------------------------------------


def judge_requests(messages: Iterable[dict[str, Any]], origin: str) -> dict[str, str]:
    """Fault of each URL in the messages of the Network domain, in order; {} when all is well."""
    urls: dict[str, str] = {}
    faults: dict[str, str] = {}
    for message in messages:
        method, params = message["method"], message.get("params", {})
        if method == "Network.requestWillBeSent":
            url = urls[params["requestId"]] = params["request"]["url"]
        elif method == "Network.webSocketCreated":
            url = urls[params["requestId"]] = params["url"]
        elif method == "Network.responseReceived" and params["response"]["status"] >= 400:
            url = params["response"]["url"]
            faults.setdefault(url, f"failed request: {params['response']['status']} {url}")
            continue
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            url = urls.get(params["requestId"], "unknown address")
            why = params.get("errorText") or params.get("blockedReason")
            faults.setdefault(url, f"failed request: {why} {url}")
            continue
        else:
            continue
        scheme, place = urlsplit(url)[:2]
        if scheme not in OWN_SCHEMES and f"{scheme}://{place}" != origin:
            faults[url] = f"third-party request: {url}"
    return faults


def judge_console(entries: Iterable[dict[str, Any]], known: Iterable[str]) -> list[str]:
    """Script errors among console entries, without the failed requests that are known already."""
    known = tuple(known)
    return [
        f"script error: {entry['message']}"
        for entry in entries
        if entry["level"] == "SEVERE"
        and not (entry.get("source") == "network" and entry["message"].startswith(known))
    ]


def judge_contrast(theme: str, texts: list[dict[str, Any]]) -> list[str]:
    """One line for the worst of the texts that stand out too little: [] when there is none."""
    if not texts:
        return []
    worst = min(texts, key=lambda text: text["ratio"] / text["least"])
    return [
        f"contrast, {theme} theme: {worst['ratio']:.2f} < {worst['least']} at {worst['where']} "
        f"{worst['text']!r} ({worst['fore']} on {worst['back']}; {len(texts)} elements in all)"
    ]


# ---- one page ------------------------------------------------------------------------------------


def _logs(driver: webdriver.Chrome) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Network messages and console entries since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return messages, driver.get_log("browser")


def _view(driver: webdriver.Chrome, view: Viewport) -> None:
    metrics = {**view._asdict(), "deviceScaleFactor": 1}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _dress(driver: webdriver.Chrome, theme: str) -> None:
    """Switch to a theme, both by the system's preference and by the switch of pydata's theme."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.execute_async_script(DRESS, theme)


def _shoot(driver: webdriver.Chrome, view: Viewport, file: Path) -> None:
    """PNG of the whole page; leaves the viewport as it was."""
    height = driver.execute_script("return document.documentElement.scrollHeight")
    _view(driver, view._replace(height=max(view.height, min(height, TALLEST))))
    driver.execute_async_script(SETTLE, SETTLE_SECONDS)
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(shot["data"]))
    _view(driver, view)


def _press(driver: webdriver.Chrome, slider: WebElement) -> str | None:
    """Fault of a slider that is moved one step with the keyboard."""
    name = driver.execute_script(WATCH, slider)
    if name is None:
        return None
    key = Keys.ARROW_LEFT if name["last"] else Keys.ARROW_RIGHT
    driver.switch_to.active_element.send_keys(key)
    if driver.execute_async_script(CHANGED, slider):
        return None
    return f"slider {name['name']!r}: an arrow key changes nothing that is shown"


def visit(driver: webdriver.Chrome, origin: str, page: str, shots: Path) -> list[str]:
    """Faults of one page; its pictures go to shots/PAGE-light.png, -dark.png and -phone.png."""
    faults: list[str] = []
    stem = page.removesuffix(".html")
    try:
        _view(driver, DESKTOP)
        driver.get(f"{origin}/{page}")
        _dress(driver, "light")
        driver.execute_async_script(SETTLE, SETTLE_SECONDS)
        _shoot(driver, DESKTOP, shots / f"{stem}-light.png")
        _dress(driver, "dark")
        _shoot(driver, DESKTOP, shots / f"{stem}-dark.png")

        for slider in driver.find_elements(By.CSS_SELECTOR, SLIDERS):
            faults += [fault for fault in [_press(driver, slider)] if fault]
        driver.execute_script(UNFOLD)
        for theme in ("dark", "light"):
            _dress(driver, theme)
            faults += judge_contrast(theme, driver.execute_script(CONTRAST))
        for kind, cases in driver.execute_script(FACTS).items():
            said = [links.alt_fault(*c) if kind == "img" else f"{kind}: {c}" for c in cases]
            faults += [fault for fault in said if fault]

        _view(driver, PHONE)
        driver.get(f"{origin}/{page}")
        driver.execute_async_script(SETTLE, SETTLE_SECONDS)
        _shoot(driver, PHONE, shots / f"{stem}-phone.png")
        driver.execute_script(UNFOLD)
        width, wide = driver.execute_script(WIDTH)
        if width > PHONE.width:
            faults.append(f"{width} px wide on a phone of {PHONE.width}: {', '.join(wide)}")
    except WebDriverException as error:
        faults.append(f"the browser gave up: {(error.msg or repr(error)).splitlines()[0]}")
    return [*faults, *_recorded(driver, origin)]


def follow(driver: webdriver.Chrome, origin: str, page: str) -> list[str]:
    """Faults of a page that only sends the reader on to another one."""
    start = f"{origin}/{page}"
    driver.get(start)
    try:
        WebDriverWait(driver, 10).until(lambda d: d.current_url != start)
        driver.execute_async_script(SETTLE, SETTLE_SECONDS)
    except TimeoutException:
        return ["redirect: the browser stays on the page"]
    return _recorded(driver, origin)


def _recorded(driver: webdriver.Chrome, origin: str) -> list[str]:
    messages, console = _logs(driver)
    requests = judge_requests(messages, origin)
    return [*requests.values(), *judge_console(console, requests)]


def browse(site: Path, shots: Path, wanted: Iterable[str] = ()) -> dict[str, list[str]]:
    """Faults by page, {} for a sound site; wanted: pages that must exist beside index.html."""
    found: dict[str, list[str]] = {}
    for name, what in links.problems(site, wanted):
        found.setdefault(name, []).append(what)
    pages = links.pages(site)
    with serve(site) as origin, chromium() as driver:
        for number, name in enumerate(pages, 1):
            start = time.perf_counter()
            redirect = links.read((site / name).read_text(encoding="utf-8")).redirect
            if redirect:
                faults = follow(driver, origin, name)
            else:
                faults = visit(driver, origin, name, shots)
            known = found.setdefault(name, [])
            known += [fault.replace(f"{origin}/", "/") for fault in faults]
            known[:] = dict.fromkeys(known)
            state = f"{len(known)} PROBLEMS" if known else f"to {redirect}" if redirect else "ok"
            seconds = time.perf_counter() - start
            print(f"[{number:3}/{len(pages)}] {name:50} {seconds:5.1f} s  {state}", flush=True)
    return {name: faults for name, faults in found.items() if faults}


def main(arguments: list[str] | None = None) -> int:
    """0 when every page is sound, else 1 with each fault listed under its page."""
    any_locale()
    parser = argparse.ArgumentParser(description="Open every page of a built site in Chromium.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--shots", type=Path, default=Path("build/shots"))
    parser.add_argument("--toc", type=Path, default=Path("book/_toc.yml"))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the browser must end with us
    start = time.perf_counter()
    found = browse(options.site, options.shots, links.toc_pages(options.toc))
    for name, faults in found.items():
        print(f"\n{name}")
        for fault in faults:
            print(f"  {fault}")
    count = sum(map(len, found.values()))
    seconds = time.perf_counter() - start
    print(f"\n{len(links.pages(options.site))} pages, {count} problems, {seconds:.0f} s")
    print(f"screenshots: {options.shots}")
    return 1 if found else 0


# ---- what runs inside the page -------------------------------------------------------------------

_WHERE = """
const where = e => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "")
  + [...e.classList].slice(0, 2).map(c => "." + c).join("");
const path = e => [e.parentElement?.parentElement, e.parentElement, e]
  .filter(Boolean).map(where).join(" > ");
const seen = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true});
const words = e => e.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
"""

# Argument: seconds. Waits for load, fonts, formulas, widgets and images, whichever the page has.
SETTLE = """
const [seconds, done] = arguments, limit = performance.now() + 1000 * seconds;
const sleep = ms => new Promise(wake => setTimeout(wake, ms));
const within = thing => Promise.race([thing, sleep(Math.max(0, limit - performance.now()))]);
const views = 'script[type="application/vnd.jupyter.widget-view+json"]';
const waiting = () => document.readyState !== "complete"
  || [...document.querySelectorAll(views)].some(s => !s.parentElement.querySelector(".jupyter-widgets"))
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
  try { await within(window.MathJax?.startup?.promise); } catch {}  // judged by what is on the page
  await sleep(150);
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

UNFOLD = """
for (const fold of document.querySelectorAll("details")) fold.open = true;
for (const fold of document.querySelectorAll(".toggle-hidden")) fold.classList.remove("toggle-hidden");
"""

FACTS = (
    _WHERE
    + """
const all = selector => [...document.querySelectorAll(selector)];
const raw = [], skip = "script, style, noscript, template, textarea, pre, code, .math, mjx-container";
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const source = /\\\\[(\\[]|\\$\\$|\\\\begin\\{|\\$[^$\\s][^$]*[\\\\^_][^$]*\\$/;
while (texts.nextNode()) {
  const text = texts.currentNode;
  if (source.test(text.data) && !text.parentElement.closest(skip)) raw.push(words(text.parentElement));
}
const named = e => [
  e.getAttribute("aria-label"), e.title, ...[...(e.labels || [])].map(l => l.textContent),
  ...(e.getAttribute("aria-labelledby") || "").split(/\\s+/).map(i => document.getElementById(i)?.textContent),
].some(name => name?.trim());
const ids = all("[id]").map(e => e.id).filter(Boolean);
const sliders = all("[role=slider], input[type=range]");
return {
  "unset formula": [...all(".math").filter(e => !e.querySelector("mjx-container")).map(words), ...raw],
  "formula with an error": all("mjx-merror, [data-mjx-error]")
    .map(e => (e.getAttribute("data-mjx-error") || e.title || "") + " " + words(e)),
  "widget that did not render": all('script[type="application/vnd.jupyter.widget-view+json"]')
    .filter(s => !(s.parentElement.querySelector(".jupyter-widgets")?.getBoundingClientRect().height > 0))
    .map(s => path(s.parentElement)),
  "broken image": [...document.images].filter(i => i.complete && !i.naturalWidth)
    .map(i => i.src.slice(0, 80)),
  "img": [...document.images].map(i => [i.getAttribute("src") || "", i.getAttribute("alt")]),
  "slider without a name": sliders.filter(e => !named(e)).map(path),
  "slider out of the keyboard's reach": sliders.filter(e => e.tabIndex < 0).map(path),
  "duplicate id": [...new Set(ids.filter((id, i) => ids.indexOf(id) !== i))],
};
"""
)

# Text elements below the WCAG 2 AA contrast (4.5; 3 for large letters) against what is behind them.
CONTRAST = (
    _WHERE
    + """
const pixel = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
  .getContext("2d", {willReadFrequently: true});
const colours = new Map();
const colour = css => {  // [r, g, b, alpha] in 0..1, whatever colour space the style was written in
  if (!colours.has(css)) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = css;
    pixel.fillRect(0, 0, 1, 1);
    colours.set(css, [...pixel.getImageData(0, 0, 1, 1).data].map(v => v / 255));
  }
  return colours.get(css);
};
const over = (top, alpha, base) => base.map((v, i) => alpha * top[i] + (1 - alpha) * v);
const veil = e => e ? getComputedStyle(e).opacity * veil(e.parentElement) : 1;
const probe = document.createElement("div");
probe.style.background = "Canvas";
document.documentElement.append(probe);
const sheet = colour(getComputedStyle(probe).backgroundColor).slice(0, 3);
probe.remove();
const grounds = new Map();
const ground = e => {
  if (!e) return sheet;
  if (!grounds.has(e)) {
    const own = colour(getComputedStyle(e).backgroundColor), alpha = own[3] && own[3] * veil(e);
    grounds.set(e, alpha === 1 ? own.slice(0, 3) : over(own, alpha, ground(e.parentElement)));
  }
  return grounds.get(e);
};
const luminance = c => c.slice(0, 3).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const hex = c => "#" + c.slice(0, 3).map(v => Math.round(255 * v).toString(16).padStart(2, "0")).join("");
const skip = "script, style, noscript, template, mjx-container, svg, canvas, picture, video, object, option,"
  + " :disabled, [aria-disabled=true], .disabled";
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), met = new Set(), low = [];
while (texts.nextNode()) {
  const e = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || met.has(e)) continue;
  met.add(e);
  const box = e.getBoundingClientRect();
  if (e.closest(skip) || !seen(e) || box.width < 2 || box.height < 2) continue;
  const style = getComputedStyle(e), size = parseFloat(style.fontSize);
  const back = ground(e), own = colour(style.color), fore = over(own, own[3] * veil(e), back);
  const [dim, bright] = [luminance(fore), luminance(back)].sort((a, b) => a - b);
  const ratio = (bright + 0.05) / (dim + 0.05);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  if (ratio < least) {
    low.push({ratio, least, where: path(e), text: words(e), fore: hex(fore), back: hex(back)});
  }
}
return low;
"""
)

_SHOWN = (
    _WHERE
    + """
const home = slider => slider.closest(".widget-subarea, .cell_output, figure, section") || document.body;
const knob = slider => slider.closest(".widget-slider") || slider;
const shown = slider => {  // what the reader sees around the knobs, else (no frame) on the knob
  const root = home(slider), frame = [], readout = [];
  const nodes = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  while (nodes.nextNode()) {
    const node = nodes.currentNode, text = node.nodeType === Node.TEXT_NODE;
    const e = text ? node.parentElement : node;
    if (!(text ? node.data.trim() : e.matches("img, svg")) || e.closest("script, style") || !seen(e)) continue;
    const what = text ? node.data : e.matches("img") ? e.src + e.alt : e.outerHTML;
    (e.closest(".widget-slider, label") ? readout : frame).push(what);
  }
  return (frame.length ? frame : readout).join("\\n");
};
"""
)

# Argument: a slider. Focuses it and notes what is shown; null when it is not on display.
WATCH = (
    _SHOWN
    + """
const [slider] = arguments;
if (!seen(slider)) return null;
slider.focus();
window.shownBefore = shown(slider);
const value = slider.value ?? slider.getAttribute("aria-valuenow");
const most = slider.max ?? slider.getAttribute("aria-valuemax");
return {name: slider.getAttribute("aria-label") || path(slider), last: +value >= +most};
"""
)

# Argument: the slider. Whether what is shown differs from before, within a second.
CHANGED = (
    _SHOWN
    + """
const [slider, done] = arguments, limit = performance.now() + 1000;
const look = () => {
  const changed = shown(slider) !== window.shownBefore;
  if (changed || performance.now() > limit) done(changed);
  else setTimeout(look, 20);
};
look();
"""
)

# Width of the document, and the elements that stick out of it without a scrollbar of their own.
WIDTH = (
    _WHERE
    + """
const edge = document.documentElement.clientWidth;
const held = e => e && (getComputedStyle(e).overflowX !== "visible" || held(e.parentElement));
const out = [...document.body.querySelectorAll("*")].filter(
  e => e.getBoundingClientRect().right > edge + 0.5 && !held(e.parentElement));
return [document.documentElement.scrollWidth, out.slice(-3).map(path)];
"""
)


if __name__ == "__main__":
    sys.exit(main())
