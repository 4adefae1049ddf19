"""Open every page of a built site in headless Chromium, as a reader would, and list what fails.

    python -m ci.browse build/html --shots build/shots

A page fails on: a rule of axe-core on a desk or a phone, one about colours also in the dark theme;
a request to anyone but this server, a failed request, a script error, an unset formula, an explorer
without sliders, a broken image or one without a text alternative, a slider deaf to the arrow keys,
content wider than a phone. The faults of ci.links are listed too. The figures go to one contact
sheet (ci.contact).
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from ci import axe, contact, links
from ci.browser import (
    DESKTOP,
    PHONE,
    Viewport,
    chromium,
    dress,
    logs,
    look_through,
    serve,
    settle,
    shoot,
    unrolled,
)
from ci.console import any_locale, passed
from ci.probes import CHANGED, FACTS, UNFOLD, WATCH, WIDTH

OWN_SCHEMES = ("data", "blob", "about")
SLIDERS = "[role=slider], input[type=range]"


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


# ---- one page ------------------------------------------------------------------------------------


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


def _accessible(driver: webdriver.Chrome, view: Viewport) -> list[str]:
    """Faults that axe-core finds on a page: all rules in the first theme, colours in the next."""
    faults = []
    for theme, rules in zip(contact.THEMES, (axe.OPTIONS, axe.OF_COLOUR), strict=True):
        dress(driver, theme)
        faults += axe.judge(f"{theme} theme, {view.width} px", axe.examine(driver, rules))
    return faults


class Visit(NamedTuple):
    """What was met on a page."""

    faults: list[str]
    figures: list[contact.Figure]


def visit(driver: webdriver.Chrome, origin: str, page: str, shots: Path) -> Visit:
    """Faults and figures of one page; it leaves shots/PAGE-light.png, -dark.png, -phone.png."""
    faults: list[str] = []
    figures: list[contact.Figure] = []
    stem = page.removesuffix(".html")
    try:
        look_through(driver, DESKTOP)
        driver.get(f"{origin}/{page}")
        dress(driver, "light")
        settle(driver)
        for theme in contact.THEMES:
            dress(driver, theme)
            with unrolled(driver, DESKTOP):
                shoot(driver, shots / f"{stem}-{theme}.png")
            figures = contact.photograph(driver, page, theme, shots)
        look_through(driver, DESKTOP)

        for slider in driver.find_elements(By.CSS_SELECTOR, SLIDERS):
            faults += [fault for fault in [_press(driver, slider)] if fault]
        driver.execute_script(UNFOLD)
        settle(driver)
        for kind, cases in driver.execute_script(FACTS).items():
            said = [links.alt_fault(*c) if kind == "img" else f"{kind}: {c}" for c in cases]
            faults += [fault for fault in said if fault]
        faults += _accessible(driver, DESKTOP)

        look_through(driver, PHONE)
        driver.get(f"{origin}/{page}")
        settle(driver)
        with unrolled(driver, PHONE):
            shoot(driver, shots / f"{stem}-phone.png")
        driver.execute_script(UNFOLD)
        width, wide = driver.execute_script(WIDTH)
        if width > PHONE.width:
            faults.append(f"{width} px wide on a phone of {PHONE.width}: {', '.join(wide)}")
        faults += _accessible(driver, PHONE)
    except WebDriverException as error:
        faults.append(f"the browser gave up: {(error.msg or repr(error)).splitlines()[0]}")
    return Visit([*faults, *_recorded(driver, origin)], figures)


def follow(driver: webdriver.Chrome, origin: str, page: str) -> list[str]:
    """Faults of a page that only sends the reader on to another one."""
    start = f"{origin}/{page}"
    driver.get(start)
    try:
        WebDriverWait(driver, 10).until(lambda d: d.current_url != start)
        settle(driver)
    except TimeoutException:
        return ["redirect: the browser stays on the page"]
    return _recorded(driver, origin)


def _recorded(driver: webdriver.Chrome, origin: str) -> list[str]:
    messages, console = logs(driver)
    requests = judge_requests(messages, origin)
    return [*requests.values(), *judge_console(console, requests)]


class _Tour:
    """Pages that several browsers visit, the largest first: one browser a thread."""

    def __init__(self, site: Path, shots: Path, origin: str) -> None:
        self.site, self.shots, self.origin = site, shots, origin
        self.pages = links.pages(site)
        self._waiting = sorted(self.pages, key=lambda page: (site / page).stat().st_size)
        self._drivers: list[webdriver.Chrome] = []
        self.seen: dict[str, Visit] = {}

    def go(self, jobs: int) -> dict[str, Visit]:
        """What was met on each page. When it is broken off, the browsers are closed."""
        with ThreadPoolExecutor(jobs) as threads:
            try:
                for ended in as_completed([threads.submit(self._guide) for _ in range(jobs)]):
                    ended.result()
            except BaseException:
                self._waiting.clear()
                for driver in self._drivers:
                    driver.quit()
                raise
        return self.seen

    def _guide(self) -> None:
        with chromium() as driver:
            self._drivers.append(driver)
            while self._waiting:
                try:
                    page = self._waiting.pop()
                except IndexError:  # another thread took the last one
                    return
                self._see(driver, page)

    def _see(self, driver: webdriver.Chrome, page: str) -> None:
        start = time.perf_counter()
        redirect = links.read((self.site / page).read_text(encoding="utf-8")).redirect
        if redirect:
            found = Visit(follow(driver, self.origin, page), [])
        else:
            found = visit(driver, self.origin, page, self.shots)
        faults = [*dict.fromkeys(fault.replace(f"{self.origin}/", "/") for fault in found.faults)]
        self.seen[page] = Visit(faults, found.figures)
        state = f"{len(faults)} PROBLEMS" if faults else f"to {redirect}" if redirect else "ok"
        passed(len(self.seen), len(self.pages), page, start, state)


def browse(
    site: Path, shots: Path, wanted: Sequence[str] = (), jobs: int = 1
) -> dict[str, list[str]]:
    """Faults by page, {} for a sound site; wanted: the book's pages in order, which must exist.

    ``jobs`` browsers share the pages. Leaves the contact sheet of all figures.
    """
    found: dict[str, list[str]] = {}
    for name, what in links.problems(site, wanted):
        found.setdefault(name, []).append(what)
    with serve(site) as origin:
        tour = _Tour(site, shots, origin)
        seen = tour.go(jobs)
    for name in tour.pages:
        known = found.setdefault(name, [])
        known += [fault for fault in seen[name].faults if fault not in known]
    figures = [figure for name in tour.pages for figure in seen[name].figures]
    start = time.perf_counter()
    with chromium() as driver:
        sheet, *_ = contact.lay_out(driver, figures, wanted, shots)
    print(f"{len(figures)} figures on {sheet}, {time.perf_counter() - start:.1f} s", flush=True)
    return {name: faults for name, faults in found.items() if faults}


def main(arguments: list[str] | None = None) -> int:
    """0 when every page is sound, else 1 with each fault listed under its page."""
    any_locale()
    parser = argparse.ArgumentParser(description="Open every page of a built site in Chromium.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--shots", type=Path, default=Path("build/shots"))
    parser.add_argument("--toc", type=Path, default=Path("book/_toc.yml"))
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="browsers")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the browser must end with us
    start = time.perf_counter()
    found = browse(options.site, options.shots, links.toc_pages(options.toc), options.jobs)
    for name, faults in found.items():
        print(f"\n{name}")
        for fault in faults:
            print(f"  {fault}")
    count = sum(map(len, found.values()))
    seconds = time.perf_counter() - start
    print(f"\n{len(links.pages(options.site))} pages, {count} problems, {seconds:.0f} s")
    print(f"screenshots: {options.shots}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
